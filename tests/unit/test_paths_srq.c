// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices with both transports: shared receive queues, of which the host has some receives.
 */
#include <limits.h>

#include "paths.h"

static bool limit_event(struct guest *g, uint32_t srqn, int ms)
{
	return mem_event_comes(g, VIRTIO_RDMA_EVENT_SRQ_LIMIT_REACHED, srqn, ms);
}

/* A message by memory from @from, or from the host; returns the slot that it took, or an error. */
static int one_message(struct mem_end *from, struct mem_end *to, uint32_t seed)
{
	struct virtio_rdma_cqe cqe;
	uint32_t slot;

	if (from) {
		struct mem_wr w = mem_wr(from, to, SEND, 3000);

		mem_pattern(from->buf, 3000, seed);
		mem_post(from, &w);
		if (mem_status(&from->scq))
			return -1;
	} else if (!arrives(to, IBV_WC_SUCCESS, NULL, 3000)) {
		return -2;
	}
	if (mem_cqe(&to->rcq, &cqe) || le32toh(cqe.qpn) != to->qp.qpn)
		return -3;
	slot = le32toh(cqe.wqe_index) - MEM_COOKIE;
	if (slot >= SRQ_ENTRIES ||
	    (from && !mem_has_pattern(to->buf + slot * MEM_SLOT, 3000, seed)))
		return -4;
	return (int)slot;
}

/* Two QPs of a with one SRQ: b sends to one, the host to the other. */
static void test_srq(void)
{
	struct mem_end x = p.a, y = p.b, z = p.a;
	bool good = true, posted[SRQ_ENTRIES];
	struct virtio_rdma_cqe cqe;
	struct guest_srq srq;
	int slot = 0, left;
	long taken;

	is(guest_srq_create(&p.a.ctx, p.a.pd, SRQ_ENTRIES, 1, &srq), 0, "an SRQ");
	x.srq = z.srq = &srq;
	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	open_end(&z, VIRTIO_RDMA_QPT_RC);
	connect_ends(&x, &y);
	null_srq_taken = 0;
	for (uint32_t i = 0; i < SRQ_ENTRIES; i++) {
		mem_post_srq(&x, i);
		posted[i] = true;
	}
	for (uint32_t i = 0; i < 50 && good; i++) {
		slot = one_message(&y, &x, i);
		good = slot >= 0;
		if (good)
			mem_post_srq(&x, (uint32_t)slot);
	}
	ok(good && !null_srq_taken,
	   "SRQ: without a QP on the host's path, the host is lent nothing");
	bring_up(&z, NULL);
	is(null_srq_taken, 16, "SRQ: with one, as many as it may have");
	for (uint32_t i = 0; i < 400 && good; i++) {
		bool host = i / 4 % 2;

		slot = one_message(host ? NULL : &y, host ? &z : &x, 1000 + i);
		good = slot >= 0 && posted[slot];
		if (good)
			mem_post_srq(&x, (uint32_t)slot);
	}
	ok(good, "SRQ: 400 messages of both paths, each with its receive's cookie");
	diag("last: %d, lent in all: %ld", slot, (long)null_srq_taken);

	/* All posted receives count for the limit, on the ring or lent. */
	is(guest_srq_arm(&srq, SRQ_ENTRIES - 4), 0, "SRQ: a limit near the number posted");
	ok(!limit_event(p.a.g, srq.srqn, 50), "SRQ: is not reached by what is lent");
	left = SRQ_ENTRIES;
	for (uint32_t i = 0; i < 5 && good; i++, left--) {
		slot = one_message(i % 2 ? NULL : &y, i % 2 ? &z : &x, i);
		good = slot >= 0 && posted[slot];
		if (good)
			posted[slot] = false;
	}
	ok(good && limit_event(p.a.g, srq.srqn, 1000), "SRQ: but by messages of both paths");
	is(guest_srq_limit(&srq), 0, "SRQ: once");

	/*
	 * The maximum that the host can have: never more than stay on the ring, so half of them
	 * and then one by one.
	 */
	while (good && left) {
		slot = one_message(NULL, &z, 0);
		good = slot >= 0 && posted[slot];
		if (good)
			posted[slot] = false;
		left--;
	}
	ok(good, "SRQ: the last message takes the last receive, through the host");
	ok(!null_receive(z.qp.qpn, IBV_WC_SUCCESS, NULL, 8), "SRQ: then it is empty");
	mem_post_srq(&x, 3);
	ok(one_message(NULL, &z, 0) == 3, "SRQ: what is posted then is lent at once");

	/* The host has no room; a receive that fails is an error of its QP. */
	taken = null_srq_room = null_srq_taken;
	for (uint32_t i = 0; i < 8; i++)
		mem_post_srq(&x, i);
	usleep(20000);
	is(null_srq_taken, taken, "SRQ: the host takes none");
	slot = one_message(&y, &x, 9);
	ok(slot == 0, "SRQ: they are there for the other path");
	null_srq_room = LONG_MAX;
	mem_post_srq(&x, 0);
	ok(arrives(&z, IBV_WC_LOC_PROT_ERR, NULL, 0) &&
	   mem_cqe(&z.rcq, &cqe) == WC(LOC_PROT_ERR) &&
	   le32toh(cqe.wqe_index) == MEM_COOKIE + 1 && mem_in_state(&z, ERR),
	   "SRQ: one of them fails at the host, with its cookie");
	slot = one_message(&y, &x, 10);
	ok(slot >= 2, "SRQ: the other QP goes on");
	mem_end_close(&x);
	mem_end_close(&y);
	mem_end_close(&z);
	is(guest_srq_destroy(&srq), 0, "SRQ: destroyed while the host has some");
}

/* A malformed entry is lent as one that fails. */
static void test_srq_malformed(void)
{
	struct virtio_rdma_recv_wqe *wqe;
	struct virtio_rdma_cqe cqe;
	struct mem_end z = p.a;
	struct guest_srq srq;

	if (guest_srq_create(&p.a.ctx, p.a.pd, 2, 1, &srq))
		guest_fatal("no SRQ");
	z.srq = &srq;
	open_end(&z, VIRTIO_RDMA_QPT_RC);
	bring_up(&z, NULL);
	wqe = (void *)srq.ring.ring;
	guest_write_srq(&srq, MEM_COOKIE + 7, NULL, 0);
	wqe->num_sge = htole32(3);
	guest_ring_srq(&srq);
	ok(arrives(&z, IBV_WC_LOC_PROT_ERR, NULL, 0) &&
	   mem_cqe(&z.rcq, &cqe) == WC(LOC_PROT_ERR) &&
	   le32toh(cqe.wqe_index) == MEM_COOKIE + 7,
	   "SRQ: a malformed entry fails for who takes it");

	/* More than the ring holds. */
	srq.ring.producer += 1000;
	if (guest_qp_reset(&z.qp))
		guest_fatal("RESET");
	guest_ring_srq(&srq);
	bring_up(&z, NULL);
	ok(!null_receive(z.qp.qpn, IBV_WC_SUCCESS, NULL, 8), "SRQ: a broken ring lends nothing");
	mem_end_close(&z);
	is(guest_srq_destroy(&srq), 0, "SRQ: destroyed");
}

/* Connections come and go over one SRQ, some with messages that were not polled. */
static void test_srq_churn(const char *name)
{
	uint32_t seen[SRQ_ENTRIES] = { 0 }, num = 0;
	struct virtio_rdma_cqe cqe;
	struct mem_end z = p.a;
	struct guest_srq srq;
	bool good = true;

	if (guest_srq_create(&p.a.ctx, p.a.pd, SRQ_ENTRIES, 1, &srq))
		guest_fatal("no SRQ");
	z.srq = &srq;
	for (uint32_t i = 0; i < SRQ_ENTRIES; i++)
		mem_post_srq(&z, i);
	for (uint32_t i = 0; i < 200 && good; i++) {
		open_end(&z, VIRTIO_RDMA_QPT_RC);
		bring_up(&z, NULL);
		for (uint32_t k = 0; k < i % 5; k++)
			good &= arrives(&z, IBV_WC_SUCCESS, NULL, 100);
		if (i % 3 == 1)
			good &= !guest_qp_set_state(&z.qp, ERR);
		if (i % 3 == 2)
			good &= !guest_qp_reset(&z.qp);
		/* As a driver does: a completed receive frees its entry. */
		if (guest_qp_destroy(&z.qp))
			guest_fatal("DESTROY_QP");
		while (guest_poll(&z.rcq, &cqe))
			mem_post_srq(&z, le32toh(cqe.wqe_index) - MEM_COOKIE);
		if (guest_cq_destroy(&z.scq) || guest_cq_destroy(&z.rcq))
			guest_fatal("DESTROY_CQ");
	}
	ok(good, "SRQ: 200 connections, one after the other, %s", name);
	open_end(&z, VIRTIO_RDMA_QPT_RC);
	bring_up(&z, NULL);
	for (; num < SRQ_ENTRIES && good; num++) {
		int slot = one_message(NULL, &z, 0);

		good = slot >= 0 && !seen[slot]++;
	}
	ok(good, "SRQ: have lost none of what is lent");
	mem_end_close(&z);
	is(guest_srq_destroy(&srq), 0, "SRQ: destroyed");
}

int main(void)
{
	paths_open(2, "f", "f");
	test_srq();
	test_srq_malformed();
	test_srq_churn("of which completions stay");
	null_forgets = true;
	test_srq_churn("which are forgotten with all that they completed");
	mem_pair_close(&p);
	is(null_objects(), 0, "at the end the host has no object");
	return tap_done();
}
