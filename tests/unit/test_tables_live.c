// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory tables and CQ rings that are replaced while two guests communicate: nothing is
 * lost, nothing is written to the old place, and only accesses to what left the table fail.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "mem_pair.h"
#include "objects.h"
#include "tap.h"

#define LENGTH	65536U

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;
static _Atomic bool stop;
static _Atomic int rounds, wrong;

/* Writes and reads until it is stopped; each has to succeed. */
static void *traffic(void *opaque)
{
	(void)opaque;
	while (!atomic_load(&stop)) {
		for (int i = 0; i < 4; i++)
			guest_post_rdma(&a->qp,
					i & 1 ? VIRTIO_RDMA_WR_RDMA_READ : VIRTIO_RDMA_WR_RDMA_WRITE,
					VIRTIO_RDMA_WQE_SIGNALED, a->buf, LENGTH, a->mr.lkey,
					guest_addr(b->g, b->buf), b->mr.rkey);
		for (int i = 0; i < 4; i++)
			if (mem_status(&a->scq))
				atomic_fetch_add(&wrong, 1);
		atomic_fetch_add(&rounds, 1);
	}
	return NULL;
}

/* The memory in two halves, or three thirds: adjacent regions. */
static void set_pieces(struct guest *g, unsigned int num)
{
	uint64_t size = g->cfg.mem_size / num & ~(uint64_t)(GUEST_PAGE - 1), at = 0;
	struct vrd_mem_region m[4];
	struct vrd_error err;

	for (unsigned int i = 0; i < num; i++, at += size) {
		if (i == num - 1)
			size = g->cfg.mem_size - at;
		m[i] = (struct vrd_mem_region) {
			.addr = g->base + at, .size = size,
			.host = g->cfg.host_mapped ? g->mem + at : NULL,
			.fd = g->cfg.host_mapped ? -1 : g->memfd, .fd_offset = at,
		};
	}
	if (vrd_device_set_mem_table(g->dev, m, num, &err))
		guest_fatal("memory table: %s", err.msg);
}

static void tables_under_traffic(void)
{
	pthread_t t;

	mem_pair_fresh(&pair);
	atomic_store(&stop, false);
	pthread_create(&t, NULL, traffic, NULL);
	for (unsigned int i = 0; i < 200; i++) {
		set_pieces(i & 1 ? a->g : b->g, 1 + i / 2 % 4);
		usleep(500);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	guest_set_memory(a->g);
	guest_set_memory(b->g);
	ok(atomic_load(&rounds) > 5, "traffic under 200 memory tables: %d rounds",
	   atomic_load(&rounds));
	is(atomic_load(&wrong), 0, "every request succeeded");
	ok(mem_has_pattern(b->buf, LENGTH, MEM_SEED_A), "with the right data");
}

/* The responder loses the page that is written to; its rings are in another page. */
static void lost_target(void)
{
	uint64_t hole = guest_addr(b->g, b->buf) & ~(uint64_t)(GUEST_PAGE - 1);
	uint64_t first = hole - b->g->base, rest = first + MEM_BUF;
	struct vrd_mem_region m[2] = {
		{ .addr = b->g->base, .size = first },
		{ .addr = b->g->base + rest, .size = b->g->cfg.mem_size - rest, .fd_offset = rest },
	};
	struct vrd_error err;

	mem_pair_fresh(&pair);
	for (int i = 0; i < 2; i++) {
		m[i].host = b->g->cfg.host_mapped ? b->g->mem + m[i].fd_offset : NULL;
		m[i].fd = b->g->cfg.host_mapped ? -1 : b->g->memfd;
	}
	is(vrd_device_set_mem_table(b->g->dev, m, 2, &err), 0, "a table without the target");
	guest_post_rdma(&a->qp, VIRTIO_RDMA_WR_RDMA_WRITE, VIRTIO_RDMA_WQE_SIGNALED, a->buf, LENGTH,
			a->mr.lkey, guest_addr(b->g, b->buf), b->mr.rkey);
	is(mem_status(&a->scq), VIRTIO_RDMA_WC_REM_ACCESS_ERR, "the write fails");
	ok(mem_has_pattern(b->buf, LENGTH, MEM_SEED_B), "and no byte moved");
	guest_set_memory(b->g);
	mem_pair_fresh(&pair);
	guest_post_rdma(&a->qp, VIRTIO_RDMA_WR_RDMA_WRITE, VIRTIO_RDMA_WQE_SIGNALED, a->buf, LENGTH,
			a->mr.lkey, guest_addr(b->g, b->buf), b->mr.rkey);
	is(mem_status(&a->scq), 0, "when the target is back, the same region works");
}

/* A new ring for a CQ; the entries of the old one are taken first. */
static bool resize(struct guest_cq *cq, uint32_t entries, int *taken)
{
	uint64_t ring = (uint64_t)entries * 32 < GUEST_PAGE ? GUEST_PAGE : entries * 32ULL;
	struct {
		struct virtio_rdma_resize_cq_req req;
		struct virtio_rdma_extent ext;
	} cmd = {
		.req = {
			.hdr.opcode = htole32(VIRTIO_RDMA_CMD_RESIZE_CQ), .cqn = htole32(cq->cqn),
			.entries = htole32(entries), .ctrl_offset = htole32((uint32_t)ring),
			.buf.num_extents = htole32(1),
		},
	};
	uint64_t size = ring + GUEST_PAGE;
	struct virtio_rdma_rsp_hdr rsp;
	struct virtio_rdma_cqe cqe;
	void *buf = guest_alloc(cq->g, size);

	cmd.ext.addr = htole64(guest_addr(cq->g, buf));
	cmd.ext.pages = htole32((uint32_t)(size / GUEST_PAGE));
	if (guest_command_raw(cq->g, &cmd, sizeof(cmd), &rsp, sizeof(rsp), NULL))
		return false;
	while (guest_poll(cq, &cqe))
		*taken += !cqe.status;
	guest_free(cq->g, cq->buf, cq->buf_size);
	cq->buf = buf;
	cq->buf_size = size;
	cq->ring = buf;
	cq->ctrl = (void *)((uint8_t *)buf + ring);
	cq->entries = entries;
	cq->consumer = 0;
	return true;
}

static void resize_under_traffic(void)
{
	int posted = 0, taken = 0;
	struct virtio_rdma_cqe cqe;
	bool good = true;

	mem_pair_fresh(&pair);
	for (unsigned int i = 0; i < 300 && good; i++) {
		for (int n = 0; n < 8; n++, posted++)
			guest_post_rdma(&a->qp, VIRTIO_RDMA_WR_RDMA_WRITE, VIRTIO_RDMA_WQE_SIGNALED,
					a->buf, 64, a->mr.lkey, guest_addr(b->g, b->buf), b->mr.rkey);
		good = resize(&a->scq, 16U << i % 6, &taken);
		while (good && taken < posted) {
			good = guest_poll_sleep(&a->scq, &cqe, MEM_WAIT_MS);
			taken += good && !cqe.status;
		}
	}
	ok(good, "300 times resized under traffic");
	is(taken, posted, "no completion is lost");
}

int main(void)
{
	mem_pair_open(&pair, 2, 16 << 20);
	tables_under_traffic();
	lost_target();
	resize_under_traffic();
	mem_pair_close(&pair);
	return tap_done();
}
