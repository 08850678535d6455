// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Address handles of the ibverbs transport (transports/ibverbs/ah.c), on a host device that
 * does nothing (tests/null): how many are kept, and calls of the host that do not return.
 */
#include <endian.h>
#include <string.h>
#include <unistd.h>

#include "mem_pair.h"
#include "null_verbs.h"
#include "tap.h"

#define SOON_NS		10000000000ULL

static struct mem_pair p;

static void fresh(void)
{
	mem_pair_qps_init(&p, &(struct guest_qp_init){ .type = VIRTIO_RDMA_QPT_UD }, 512);
	mem_pair_connect(&p);
}

/* ---- the cache ------------------------------------------------------------------------ */

static void test_handles(void)
{
	struct virtio_rdma_av av = {
		.pd = htole32(p.a.pd), .dqpn = htole32(77), .hop_limit = 64,
	};
	struct mem_wr w = mem_wr(&p.a, &p.b, VIRTIO_RDMA_WR_SEND, 64);
	uint64_t drops = guest_stat(p.a.g, "ud_drops");
	long before;

	memcpy(av.dgid, null_gids[1], 16);
	av.dgid[15] = 99;
	w.wr.av = &av;
	fresh();
	before = null_objects();
	null_no_ah = true;
	mem_post(&p.a, &w);
	is(mem_status(&p.a.scq), 0, "UD to an address without a way: the sender succeeds");
	is(guest_stat(p.a.g, "ud_drops"), drops + 1, "and it is counted");
	null_no_ah = false;
	for (unsigned int i = 0; i < 3000; i++) {
		av.flow_label = htole32(i);
		mem_post(&p.a, &w);
		if (mem_status(&p.a.scq))
			break;
	}
	ok(null_objects() - before <= 1100, "handles of 3000 address vectors: %ld are kept",
	   null_objects() - before);
	mem_pair_drop_qps(&p);
}

/*
 * A process rewrites the entry that waits for its address handle, repeatedly: one handle at
 * a time is created for a QP, whatever the entry contains.
 */
static void test_rewritten(void)
{
	struct virtio_rdma_av av = {
		.pd = htole32(p.a.pd), .dqpn = htole32(77), .hop_limit = 64,
	};
	struct mem_wr w = mem_wr(&p.a, &p.b, VIRTIO_RDMA_WR_SEND, 64);
	struct virtio_rdma_ud_wqe *first;
	unsigned int done = 0;
	long before;

	memcpy(av.dgid, null_gids[1], 16);
	av.tclass = 1;			/* no handle of an earlier test */
	w.wr.av = &av;
	fresh();
	before = null_objects();
	null_slow_ah = true;
	first = (void *)p.a.qp.sq.ring;
	for (uint32_t i = 0; i < 100; i++) {
		mem_post(&p.a, &w);
		usleep(1000);
		__atomic_store_n(&first->av.flow_label, htole32(i + 1), __ATOMIC_RELAXED);
	}
	null_slow_ah = false;
	while (done < 100 && !mem_status(&p.a.scq))
		done++;
	is(done, 100, "an entry that is rewritten while it waits for its handle is sent");
	ok(null_objects() - before <= 3, "with few handles made: %ld", null_objects() - before);
	mem_pair_drop_qps(&p);
}

/* ---- destroy_ah that does not return --------------------------------------------------- */

/* Sends a datagram that needs a handle of its own for each @label; true if it succeeds. */
static bool send_labelled(uint32_t label)
{
	struct virtio_rdma_av av = mem_av(&p.a, null_gids[1], 77);
	struct mem_wr w = mem_wr(&p.a, &p.b, VIRTIO_RDMA_WR_SEND, 64);

	av.flow_label = htole32(label);
	w.wr.av = &av;
	mem_post(&p.a, &w);
	return mem_status(&p.a.scq) == 0;
}

/* Makes all handles of the cache stale. */
static uint32_t change_gids(void)
{
	uint8_t gid[16];
	uint32_t status;

	memcpy(gid, null_gids[1], 16);
	gid[15] = 42;
	status = guest_add_gid(p.a.g, 1, gid);
	return status ? status : guest_del_gid(p.a.g, 1);
}

/* The control thread: a change of the GIDs removes handles that no datagram uses. */
static void test_del_gid(void)
{
	long empty = null_objects(), before;
	bool sent = true;
	uint32_t pd;

	fresh();
	before = null_objects();
	for (uint32_t i = 0; i < 10; i++)
		sent &= send_labelled(i);
	is(null_objects() - before, 10, "ten datagrams to ten addresses, with a handle each");
	null_hold(NULL_DESTROY_AH, 0);
	ok(sent && !change_gids(), "DEL_GID is answered while destroy_ah does not return");
	ok(null_held_reaches(NULL_DESTROY_AH, 1), "a handle is being destroyed then");
	ok(!guest_pd_alloc(&p.a.ctx, &pd) &&
	   !guest_destroy_handle(p.a.g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd),
	   "the device serves other commands");
	null_release(NULL_DESTROY_AH);
	ok(send_labelled(10), "datagrams are sent again afterwards");
	mem_pair_drop_qps(&p);
	ok(null_objects_reach(empty + 1), "the old handles are destroyed, and the last one is kept");
}

/* The poller: it releases the last use of a handle. */
static void test_poller(void)
{
	struct virtio_rdma_cqe cqe;
	bool sent;
	uint32_t pd;
	long before;

	fresh();
	sent = send_labelled(0);
	before = null_objects();
	/* The handle that test_del_gid() has left is destroyed: then the worker is idle. */
	ok(sent && !change_gids() && null_objects_reach(before - 1),
	   "the handle of the last datagram becomes stale");
	null_hold(NULL_DESTROY_AH, 0);
	ok(send_labelled(1), "the next datagram has another one");
	ok(null_held_reaches(NULL_DESTROY_AH, 1),
	   "and the old one is being destroyed, which does not return");
	ok(send_labelled(1) && send_labelled(1), "the poller goes on");
	guest_post_recv(&p.b.qp, NULL, 0);
	guest_qp_set_state(&p.b.qp, VIRTIO_RDMA_QPS_ERR);
	ok(guest_poll_wait(&p.b.rcq, &cqe, MEM_WAIT_MS), "also for another guest");
	ok(!guest_pd_alloc(&p.a.ctx, &pd) &&
	   !guest_destroy_handle(p.a.g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd), "and so do commands");
	null_release(NULL_DESTROY_AH);
	mem_pair_drop_qps(&p);
}

/* The front end: a reset. */
static void test_reset(void)
{
	uint64_t start;
	long left;

	fresh();
	ok(send_labelled(0) && send_labelled(1) && send_labelled(2), "some handles are in use");
	null_hold(NULL_DESTROY_AH, 0);
	start = guest_now_ns();
	vrd_device_reset(p.a.g->dev);
	ok(guest_now_ns() - start < SOON_NS, "a reset does not wait for destroy_ah");
	ok(null_held_reaches(NULL_DESTROY_AH, 1), "which does not return");
	left = null_objects();
	null_release(NULL_DESTROY_AH);
	for (int i = 0; i < 5000 && guest_stat(p.a.g, "objects_ending"); i++)
		usleep(1000);
	is(guest_stat(p.a.g, "objects_ending"), 0, "when it returns, all objects end");
	ok(null_objects() < left, "and the host has destroyed them");
}

int main(void)
{
	struct guest_config a = { .ibdev = NULL_IBDEV, .host_mapped = MEM_HOST_MAPPED }, b = a;

	memcpy(a.gid, null_gids[1], 16);
	memcpy(b.gid, null_gids[0], 16);
	/* One poller: a thread that blocks would stop both guests. */
	mem_pair_open_with(&p, 1, 64 << 20, &a, &b);
	test_del_gid();
	test_poller();
	test_handles();
	test_rewritten();
	test_reset();
	mem_pair_close(&p);
	is(null_objects(), 0, "at the end the host has no object");
	return tap_done();
}
