// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The memory table: what is refused, translation at its edges, replacement while in use, and
 * memory that is truncated while the device uses it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem.h"
#include "objects.h"
#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))
#define MIB	(1ULL << 20)

static int set(struct raw *r, const struct vrd_mem_region *m, unsigned int n)
{
	struct vrd_error err = { .msg = "" };
	int ret = vrd_device_set_mem_table(r->dev, m, n, &err);

	if (ret && !err.msg[0])
		return -9999;	/* an error without a message */
	return ret;
}

static void refusals(struct raw *r)
{
	struct vrd_mem_region good = {
		.addr = RAW_BASE, .size = RAW_SIZE, .fd = r->memfd,
	}, m[3];
	struct vrd_mem *before = r->dev->mem;
	int pipes[2], ro;

#define TRY(change, what)							\
	do {									\
		m[0] = good;							\
		change;								\
		is(set(r, m, 1), -EINVAL, what);				\
	} while (0)
	TRY(m[0].addr += 1, "address not aligned");
	TRY(m[0].size -= 512, "size not aligned");
	TRY(m[0].size = 0, "no size");
	TRY(m[0].size += 4096, "a page more than the file has");
	TRY(m[0].size = ~4095ULL, "2^64 - 4096 bytes");
	TRY(m[0].size = 1ULL << 44, "2^44 bytes at an offset");
	TRY(m[0].addr = ~4095ULL, "address that wraps");
	TRY(m[0].addr = (1ULL << 44) - RAW_SIZE + 4096, "beyond 44 bits");
	TRY(m[0].fd = -1, "no descriptor");
	TRY(m[0].fd = 999, "a descriptor that is none");
	TRY(m[0].fd_offset = 4096, "offset beyond the file");
	TRY(m[0].fd_offset = 100, "offset not aligned");
	TRY(m[0].fd_offset = ~4095ULL, "offset that wraps");
	TRY(m[0].host = (void *)(uintptr_t)4097, "host address not aligned");
	if (!pipe(pipes)) {
		TRY(m[0].fd = pipes[0], "a pipe");
		close(pipes[0]);
		close(pipes[1]);
	}

	m[0] = good;
	m[0].size = RAW_SIZE / 2;
	m[1] = m[0];
	m[1].addr += RAW_SIZE / 2 - 4096;
	is(set(r, m, 2), -EINVAL, "overlap of a page");
	m[1].addr = m[0].addr;
	is(set(r, m, 2), -EINVAL, "two at one address");
	m[1].addr = m[0].addr - 4096;
	is(set(r, m, 2), -EINVAL, "overlap in the other order");

	struct vrd_mem_region *many = calloc(VRD_MAX_MEM_REGIONS + 1, sizeof(*many));

	for (unsigned int i = 0; i <= VRD_MAX_MEM_REGIONS; i++) {
		many[i] = good;
		many[i].addr = i * 8192ULL;
		many[i].size = 4096;
	}
	is(set(r, many, VRD_MAX_MEM_REGIONS + 1), -EINVAL, "one region too many");
	ok(r->dev->mem == before, "after each refusal the old table stays");
	is(set(r, many, VRD_MAX_MEM_REGIONS), 0, "as many as there may be");
	ok(vrd_mem_at(r->dev->mem, 511 * 8192ULL, 1, true, NULL) &&
	   !vrd_mem_at(r->dev->mem, 511 * 8192ULL + 4096, 1, true, NULL), "are found");
	free(many);

	m[0] = good;
	m[0].addr = (1ULL << 44) - RAW_SIZE;
	is(set(r, m, 1), 0, "up to the last of 44 bits");
	ok(vrd_mem_at(r->dev->mem, (1ULL << 44) - 1, 1, true, NULL), "whose last byte is found");

	/* Writable region with a read-only descriptor: mmap() refuses it. */
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", r->memfd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	m[0] = good;
	m[0].fd = ro;
	is(set(r, m, 1), -EACCES, "writable region of a read-only file");
	m[0].readonly = true;
	is(set(r, m, 1), 0, "read-only region of a read-only file");
	close(ro);
}

static void translation(struct raw *r)
{
	struct vrd_mem_region m[3] = {
		{ .addr = 8 * MIB, .size = 2 * MIB, .fd = r->memfd, .fd_offset = 4 * MIB },
		{ .addr = 2 * MIB, .size = 6 * MIB, .fd = r->memfd, .fd_offset = 8 * MIB },
		{ .addr = 16 * MIB, .size = MIB, .fd = r->memfd, .readonly = true },
	};
	const struct vrd_mem *mem;
	uint64_t run;
	uint8_t *p;

	is(set(r, m, 3), 0, "three regions, not sorted");
	mem = r->dev->mem;
	is(mem->pages, 9 * 256, "their pages");
	r->mem[4 * MIB + 5] = 77;
	p = vrd_mem_at(mem, 8 * MIB + 5, 100, true, &run);
	ok(p && *p == 77 && run == 100, "an address inside");
	p = vrd_mem_at(mem, 8 * MIB - 10, 100, true, &run);
	ok(p && run == 10, "a run ends with its region");
	ok(!vrd_mem_range(mem, 8 * MIB - 10, 100, true), "and is no range over two");
	ok(vrd_mem_covers(mem, 8 * MIB - 10, 100, true), "but covered");
	ok(vrd_mem_covers(mem, 2 * MIB, 8 * MIB, true), "all of it is");
	ok(!vrd_mem_covers(mem, 2 * MIB, 8 * MIB + 1, true), "not a byte more");
	ok(!vrd_mem_at(mem, 2 * MIB - 1, 1, false, &run), "before the first");
	ok(!vrd_mem_at(mem, 10 * MIB, 1, false, &run), "behind the second");
	ok(!vrd_mem_at(mem, UINT64_MAX, 1, false, &run), "the last address");
	ok(!vrd_mem_covers(mem, UINT64_MAX - 5, 10, false), "a range that wraps");
	ok(vrd_mem_covers(mem, 0, 0, true), "nothing is covered always");
	ok(vrd_mem_at(mem, 16 * MIB, 1, false, &run) && !vrd_mem_at(mem, 16 * MIB, 1, true, &run),
	   "read-only memory can be read");
	ok(!vrd_mem_at(NULL, 0, 1, false, &run), "no table, no memory");
	raw_set_memory(r);
}

/* Queues and rings are translated anew with another table. */
static void replacement(struct raw *r)
{
	struct vrd_mem_region m[2] = {
		{ .addr = RAW_BASE, .size = 32 * MIB, .fd = r->memfd },
		{ .addr = RAW_BASE + 32 * MIB, .size = 32 * MIB, .fd = r->memfd,
		  .fd_offset = 32 * MIB },
	};
	uint32_t ctx, pd, cq, qpn;
	struct vrd_ctx *c;
	struct vrd_qp *qp;
	bool all = true;

	raw_set_memory(r);
	raw_recover(r);
	ctx = raw_ctx(r, 0);
	pd = raw_pd(r, ctx);
	cq = raw_cq(r, ctx, 64, 0);
	qpn = raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq);
	ok(qpn, "objects are there");
	for (int i = 0; i < 50; i++)
		all = all && !set(r, i & 1 ? m : &m[0], i & 1 ? 2 : 1) && raw_pd(r, ctx);
	ok(all, "commands work under each of 50 tables");
	c = vrd_table_find(&r->dev->ctxs, ctx);
	qp = vrd_table_find(&r->dev->qps, qpn);
	ok(c->db && qp->sq.ctrl && qp->rq.ctrl && qp->send_cq->ctrl, "rings are translated");
	is(set(r, &m[1], 1), 0, "a table without the rings");
	ok(!c->db && !qp->sq.ctrl && !qp->rq.ctrl && !qp->send_cq->ctrl && !qp->buf.hva[0],
	   "leaves no translation");
	is(set(r, m, 2), 0, "the rings come back");
	ok(c->db && qp->sq.ctrl && qp->rq.ctrl && qp->send_cq->ctrl && qp->buf.hva[0],
	   "translated again");
	vrd_device_reset(r->dev);
	raw_set_memory(r);
}

static struct vrd_engine *handler_engine;
static _Atomic int handled;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!vrd_engine_sigbus(handler_engine, info->si_addr)) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
	handled++;
}

static void truncation(struct raw *r)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	struct vrd_mem_region m[2];
	uint32_t id, len;
	int fd;

	raw_recover(r);
	handler_engine = r->engine;
	sigaction(SIGBUS, &sa, NULL);
	fd = memfd_create("short", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 2 * MIB))
		return;
	m[0] = (struct vrd_mem_region) { .addr = RAW_BASE, .size = RAW_SIZE, .fd = r->memfd };
	m[1] = (struct vrd_mem_region) { .addr = 0, .size = 2 * MIB, .fd = fd };
	is(set(r, m, 2), 0, "a file that can shrink");
	if (ftruncate(fd, 0))
		return;
	/* A command whose request lies there. */
	raw_desc(r, 0, 0, 4096, 8, 1, 1);
	raw_desc(r, 0, 1, r->rsp, 64, 2, 0);
	raw_offer(r, 0, 0);
	ok(raw_broken(r), "reading it breaks the device");
	(void)raw_used(r, 0, &id, &len, 20);
	is(handled, 1, "by one SIGBUS, and nobody dies");
	close(fd);
	vrd_device_reset(r->dev);
	raw_set_memory(r);
	is(raw_recover(r), 0, "works after a reset");
	ok(!vrd_engine_sigbus(r->engine, &len), "a SIGBUS of others is not ours");
	signal(SIGBUS, SIG_DFL);
}

/* More mappings than one chunk of records has. */
static void many_maps(struct raw *r)
{
	struct vrd_mem_region m[200];
	bool all = true;

	for (unsigned int i = 0; i < 200; i++)
		m[i] = (struct vrd_mem_region) {
			.addr = i * 8192ULL, .size = 4096, .fd = r->memfd,
			.fd_offset = i * 4096ULL,
		};
	for (int i = 0; i < 10; i++)
		all = all && !set(r, m, 200) && !set(r, m + 50, 100);
	ok(all, "200 mappings, again and again");
	raw_set_memory(r);
}

int main(void)
{
	struct raw *r = raw_new(NULL, FEATURES);

	refusals(r);
	translation(r);
	replacement(r);
	truncation(r);
	many_maps(r);
	raw_free(r);
	return tap_done();
}
