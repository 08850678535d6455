// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device on both paths: guests a and b in one fabric, c in another, all on one host
 * device.  So a reaches b by memory and c through the host.  See native.h.
 */
#include <unistd.h>

#include "native.h"

#define RTR	VIRTIO_RDMA_QPS_RTR
#define RTS	VIRTIO_RDMA_QPS_RTS
#define INIT	VIRTIO_RDMA_QPS_INIT

static struct mem_end c;

/* A second end with the same guest and objects. */
static struct mem_end twin_of(const struct mem_end *end)
{
	struct mem_end twin = *end;

	return twin;
}

static void attr_to(struct mem_end *end, const struct mem_end *to)
{
	mem_attr_to(end, to->g->gid, to->qp.qpn);
	end->attr.path_mtu = 3;
	end->attr.timeout = 14;
}

static void connect(struct mem_end *x, struct mem_end *y)
{
	attr_to(x, y);
	attr_to(y, x);
	mem_connect(x, y);
}

/* ---- connections ------------------------------------------------------------------- */

static void test_paths(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .max_recv_sge = 2 };
	uint64_t local = guest_stat(p.a.g, "qps_memory"), host = guest_stat(p.a.g, "qps_ibverbs"), tx;
	struct mem_end x = twin_of(&p.a), y = twin_of(&p.a);

	mem_end_open(&x, &init, 256);
	mem_end_open(&p.b, &init, 256);
	mem_end_open(&y, &init, 256);
	mem_end_open(&c, &init, 256);
	connect(&x, &p.b);
	connect(&y, &c);
	ok(guest_stat(p.a.g, "qps_memory") == local + 1 && guest_stat(p.a.g, "qps_ibverbs") == host + 1,
	   "a connection to the same fabric, and one to elsewhere");
	tx = guest_stat(p.a.g, "host_tx_bytes");
	ok(mem_carries(&x, &p.b, 100) && mem_carries(&p.b, &x, 110), "memory carries the one");
	is(guest_stat(p.a.g, "host_tx_bytes"), tx, "without the host");
	ok(mem_carries(&y, &c, 200) && mem_carries(&c, &y, 210), "the host the other");
	ok(guest_stat(p.a.g, "host_tx_bytes") >= tx + 20000, "as its counters show");

	/* An error of one QP does not affect the other. */
	is(guest_qp_set_state(&x.qp, VIRTIO_RDMA_QPS_ERR), 0, "one goes to ERR");
	mem_recv(&x, 0, 64);
	is(mem_status(&x.rcq), WC(WR_FLUSH_ERR), "and flushes");
	ok(mem_carries(&y, &c, 220), "the other goes on");
	mem_end_close(&x);
	mem_end_close(&y);
	mem_end_close(&p.b);
	mem_end_close(&c);
}

/* The same QP, connected to one peer after the other; with receives posted in INIT. */
static void test_reconnect(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .max_recv_sge = 2 };
	struct mem_end x = twin_of(&p.a);
	bool good = true, early = true;

	mem_end_open(&x, &init, 256);
	for (unsigned int i = 0; i < 6; i++) {
		struct mem_end *y = i % 2 ? &c : &p.b;
		struct mem_wr w;

		mem_end_open(y, &init, 256);
		attr_to(&x, y);
		attr_to(y, &x);
		early &= !mem_bring_up(&x, INIT);
		mem_recv(&x, 4096, 512);
		mem_recv(&x, 8192, 512);
		early &= !mem_to_rtr(&x);
		/* No retries: the receives have to be posted when we are in RTR. */
		y->attr.rnr_retry = 0;
		early &= !mem_bring_up(y, RTS);
		w = mem_wr(y, &x, SEND, 512);
		mem_pattern(y->buf, 512, i);
		mem_post(y, &w);
		mem_post(y, &w);
		early &= mem_status(&y->scq) == 0 && mem_status(&y->scq) == 0 &&
			 mem_status(&x.rcq) == 0 && mem_status(&x.rcq) == 0 &&
			 mem_has_pattern(x.buf + 4096, 512, i) &&
			 mem_has_pattern(x.buf + 8192, 512, i);
		good &= !mem_to_rts(&x);
		good &= mem_carries(&x, y, 300 + i * 10) && mem_carries(y, &x, 305 + i * 10);
		good &= !guest_qp_reset(&x.qp);
		mem_end_close(y);
	}
	ok(early, "receives of INIT are there in RTR, on either path");
	ok(good, "RESET, and to another peer on the other path, six times");
	ok(mem_no_cqe(&x.scq) && mem_no_cqe(&x.rcq), "nothing is left of the earlier lives");
	mem_end_close(&x);
}

/* In INIT only the guest's ring holds the receives. */
static void test_init(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .max_recv_sge = 2 };
	uint8_t nowhere[16] = { [10] = 0xff, [11] = 0xff, 10, 200, 200, 1 };
	struct mem_end x = twin_of(&p.a);
	struct virtio_rdma_cqe cqe;
	bool good = true;

	mem_end_open(&x, &init, 256);
	mem_end_open(&p.b, &init, 256);
	attr_to(&x, &p.b);
	is(mem_bring_up(&x, INIT), 0, "a QP in INIT");
	for (unsigned int i = 0; i < 5; i++)
		mem_recv(&x, 0, 64);
	is(guest_qp_set_state(&x.qp, VIRTIO_RDMA_QPS_ERR), 0, "from INIT to ERR");
	for (uint32_t i = 0; i < 5; i++)
		good &= mem_cqe(&x.rcq, &cqe) == WC(WR_FLUSH_ERR) && le32toh(cqe.wqe_index) == i;
	ok(good, "receives are flushed, in order");
	is(guest_qp_reset(&x.qp), 0, "RESET");

	/* The host has no such source address and refuses; the memory path accepts it. */
	is(guest_add_gid(p.a.g, 1, nowhere), 0, "an address that the host lacks");
	attr_to(&x, &c);
	x.attr.av.sgid_index = 1;
	is(mem_bring_up(&x, INIT), 0, "INIT");
	mem_recv(&x, 128, 64);
	ok(mem_to_rtr(&x) && guest_qp_state(&x.qp) == INIT, "the host refuses RTR with it");
	attr_to(&x, &p.b);
	attr_to(&p.b, &x);
	x.attr.av.sgid_index = 1;
	memcpy(p.b.attr.av.dgid, nowhere, 16);
	is(mem_to_rtr(&x), 0, "but to a guest of the fabric it may go");
	is(mem_bring_up(&p.b, RTS), 0, "which connects to that address");
	struct mem_wr w = mem_wr(&p.b, &x, SEND, 64);

	mem_pattern(p.b.buf, 64, 9);
	mem_post(&p.b, &w);
	ok(mem_status(&p.b.scq) == 0 && mem_status(&x.rcq) == 0 &&
	   mem_has_pattern(x.buf + 128, 64, 9), "the receive of before is used");
	mem_end_close(&x);
	mem_end_close(&p.b);
	is(guest_del_gid(p.a.g, 1), 0, "DEL_GID");
}

/* One end is connected before the other's address appears in the fabric. */
static void test_disagree(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .max_recv_sge = 2 };
	struct mem_end x = twin_of(&p.a);
	struct mem_wr w;

	mem_end_open(&x, &init, 256);
	mem_end_open(&p.b, &init, 256);
	attr_to(&x, &p.b);
	attr_to(&p.b, &x);
	x.attr.timeout = p.b.attr.timeout = 10;
	if (guest_del_gid(p.a.g, 0) || mem_bring_up(&p.b, RTS) ||
	    guest_add_gid(p.a.g, 0, gid_a) || mem_bring_up(&x, RTS))
		guest_fatal("not connected");
	mem_recv(&x, 0, 64);
	mem_recv(&p.b, 0, 64);
	mem_pattern(x.buf, 64, 1);
	mem_pattern(p.b.buf, 64, 2);
	w = mem_wr(&x, &p.b, SEND, 64);
	mem_post(&x, &w);
	is(mem_status(&x.scq), WC(RETRY_EXC_ERR), "ends on different paths: by memory, nobody answers");
	w = mem_wr(&p.b, &x, SEND, 64);
	mem_post(&p.b, &w);
	is(mem_status(&p.b.scq), WC(RETRY_EXC_ERR), "nor through the host");
	ok(mem_has_pattern(x.buf, 64, 1) && mem_has_pattern(p.b.buf, 64, 2), "no byte moved");
	mem_end_close(&x);
	mem_end_close(&p.b);
}

/* ---- datagrams --------------------------------------------------------------------- */

static struct virtio_rdma_av av_to(const struct mem_end *from, const struct mem_end *to)
{
	return mem_av(from, to->g->gid, to->qp.qpn);
}

static void open_ud(struct mem_end *end, uint32_t rq_entries)
{
	struct guest_qp_init init = {
		.type = VIRTIO_RDMA_QPT_UD, .max_recv_sge = 2, .rq_entries = rq_entries,
	};

	mem_end_open(end, &init, 256);
	attr_to(end, end);
	if (mem_bring_up(end, RTS))
		guest_fatal("no UD QP");
}

/* One QP sends to both, and both send to one. */
static void test_ud(void)
{
	const uint32_t total = 400, depth = 40;
	struct virtio_rdma_av to_b, to_c, to_a;
	struct mem_end x = twin_of(&p.a);
	uint32_t posted = 0, done = 0, at_b = 0, at_c = 0, signals = 0, next = 0, expected = 0;
	struct virtio_rdma_cqe cqe;
	bool good = true;

	open_ud(&x, 128);
	open_ud(&p.b, 128);
	open_ud(&c, 128);
	to_b = av_to(&x, &p.b);
	to_c = av_to(&x, &c);
	for (uint32_t i = 0; i < 128; i++) {
		mem_recv(&p.b, i * 1024, 1024);
		mem_recv(&c, i * 1024, 1024);
	}
	mem_pattern(x.buf, MEM_BUF, 7);
	/* Sequences of different lengths to each peer; some signaled. */
	while (done < total && good) {
		while (posted < total && posted - done < depth) {
			bool host = posted / 3 % 2 || posted % 7 == 0;
			bool signal = posted % 5 == 0 || posted + 1 == total;

			mem_write_ud(&x, host ? &to_c : &to_b, posted * 8, 500,
				     signal ? SIGNALED : 0);
			posted++;
			if (posted % 4 == 0)
				guest_ring_sq(&x.qp);
		}
		guest_ring_sq(&x.qp);
		good = !mem_cqe(&x.scq, &cqe);
		/* In order: the next signaled request. */
		while (next % 5 && next + 1 != total)
			next++;
		good &= le32toh(cqe.wqe_index) == next;
		next++;
		signals++;
		done = next;
		/* What has arrived: each message from its own stream, in order. */
		while (guest_poll(&p.b.rcq, &cqe)) {
			at_b++;
			good &= !cqe.status && le32toh(cqe.byte_len) == GRH + 500;
			mem_recv(&p.b, (at_b - 1) % 128 * 1024, 1024);
		}
		while (guest_poll(&c.rcq, &cqe)) {
			at_c++;
			good &= !cqe.status && le32toh(cqe.byte_len) == GRH + 500;
			mem_recv(&c, (at_c - 1) % 128 * 1024, 1024);
		}
	}
	ok(good && done == total && signals == (total + 4) / 5 + 1,
	   "UD: 400 datagrams from one QP over both paths complete in order");
	for (uint32_t i = 0; i < total; i++)
		expected += i / 3 % 2 || i % 7 == 0;
	for (int ms = 0; ms < 2000 && at_b + at_c < total; ms++) {
		while (guest_poll(&p.b.rcq, &cqe))
			at_b++;
		while (guest_poll(&c.rcq, &cqe))
			at_c++;
		usleep(1000);
	}
	ok(at_c == expected && at_b == total - expected,
	   "UD: all arrive, %u by memory and %u through the host", at_b, at_c);

	/* To a: into its receives in the order of arrival, from either sender. */
	good = true;
	for (uint32_t i = 0; i < 100 && good; i++) {
		struct mem_end *from = i % 3 ? &p.b : &c;
		uint32_t length = 200 + i;

		mem_recv(&x, i * 1024, 1024);
		to_a = av_to(from, &x);
		mem_pattern(from->buf, length, 500 + i);
		mem_write_ud(from, &to_a, 0, length, SIGNALED);
		guest_ring_sq(&from->qp);
		good = mem_status(&from->scq) == 0 && mem_cqe(&x.rcq, &cqe) == 0 &&
		       le32toh(cqe.wqe_index) == i && le32toh(cqe.src_qp) == from->qp.qpn &&
		       le32toh(cqe.byte_len) == GRH + length && cqe.flags & VIRTIO_RDMA_CQE_GRH &&
		       mem_has_pattern(x.buf + i * 1024 + GRH, length, 500 + i) &&
		       !memcmp(x.buf + i * 1024 + 32, from->g->gid + 12, 4) &&
		       !memcmp(x.buf + i * 1024 + 36, gid_a + 12, 4);
	}
	ok(good, "UD: datagrams of both paths take the receives in order, with their headers");

	/*
	 * None posted: dropped; then one that is too short stays for the next datagram that
	 * fits.
	 */
	to_a = av_to(&c, &x);
	mem_write_ud(&c, &to_a, 0, 64, SIGNALED);
	guest_ring_sq(&c.qp);
	ok(mem_status(&c.scq) == 0 && mem_no_cqe(&x.rcq), "UD: dropped without a receive");
	mem_recv(&x, 0, GRH + 64);
	mem_write_ud(&c, &to_a, 0, 65, SIGNALED);
	mem_write_ud(&c, &to_a, 0, 64, SIGNALED);
	guest_ring_sq(&c.qp);
	ok(mem_status(&c.scq) == 0 && mem_status(&c.scq) == 0 && mem_cqe(&x.rcq, &cqe) == 0 &&
	   le32toh(cqe.byte_len) == GRH + 64 && mem_no_cqe(&x.rcq),
	   "UD: one that does not fit is dropped, its receive is not");

	/* An error of the memory path behind requests that the host still has. */
	to_c = av_to(&x, &c);
	to_b = av_to(&x, &p.b);
	mem_recv(&c, 0, 1024);
	mem_recv(&c, 1024, 1024);
	for (uint32_t i = 0; i < 2; i++)
		mem_write_ud(&x, &to_c, 0, 64, 0);
	to_b.pd = htole32(x.pd + 1);
	next = x.qp.sq.producer;
	mem_write_ud(&x, &to_b, 0, 64, 0);
	mem_write_ud(&x, &to_c, 0, 64, 0);
	guest_ring_sq(&x.qp);
	ok(mem_cqe(&x.scq, &cqe) == WC(LOC_QP_OP_ERR) && le32toh(cqe.wqe_index) == next,
	   "UD: a bad request to a guest fails in its place");
	ok(mem_cqe(&x.scq, &cqe) == WC(WR_FLUSH_ERR) && le32toh(cqe.wqe_index) == next + 1,
	   "UD: one to the host behind it is flushed");
	ok(guest_qp_state(&x.qp) == VIRTIO_RDMA_QPS_SQE, "UD: the send queue alone is in error");
	x.attr.state = RTS;
	is(guest_qp_modify(&x.qp, VIRTIO_RDMA_QP_STATE, &x.attr), 0, "UD: back to RTS");
	to_b = av_to(&x, &p.b);
	mem_recv(&c, 0, 1024);
	mem_recv(&p.b, 0, 1024);
	mem_write_ud(&x, &to_c, 0, 64, SIGNALED);
	mem_write_ud(&x, &to_b, 0, 64, SIGNALED);
	guest_ring_sq(&x.qp);
	ok(mem_status(&x.scq) == 0 && mem_status(&x.scq) == 0, "UD: both paths are open again");

	is(guest_qp_set_state(&x.qp, VIRTIO_RDMA_QPS_ERR), 0, "UD: to ERR");
	next = x.qp.rq.producer;
	mem_recv(&x, 0, 1024);
	mem_write_ud(&x, &to_c, 0, 64, 0);
	guest_ring_sq(&x.qp);
	ok(mem_status(&x.scq) == WC(WR_FLUSH_ERR) && mem_cqe(&x.rcq, &cqe) == WC(WR_FLUSH_ERR) &&
	   le32toh(cqe.wqe_index) == next && mem_no_cqe(&x.rcq), "UD: both queues flush");
	mem_end_close(&x);
	mem_end_close(&p.b);
	mem_end_close(&c);
}

/* ---- shared receive queues ------------------------------------------------------------ */

#define SRQ_ENTRIES	32

static bool limit_event(struct guest *g, uint32_t srqn, int ms)
{
	return mem_event_comes(g, VIRTIO_RDMA_EVENT_SRQ_LIMIT_REACHED, srqn, ms);
}

/* Two QPs of a with one SRQ; b sends to one by memory, c to the other through the host. */
static void test_srq(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC }, with_srq = init;
	struct mem_end x = twin_of(&p.a), y = twin_of(&p.a);
	uint32_t free_slots = 0;
	struct virtio_rdma_cqe cqe;
	struct guest_srq srq;
	bool good = true;

	is(guest_srq_create(&p.a.ctx, p.a.pd, SRQ_ENTRIES, 1, &srq), 0, "an SRQ");
	x.srq = y.srq = &srq;
	mem_end_open(&x, &with_srq, 256);
	mem_end_open(&y, &with_srq, 256);
	mem_end_open(&p.b, &init, 256);
	mem_end_open(&c, &init, 256);
	connect(&x, &p.b);
	connect(&y, &c);
	for (uint32_t i = 0; i < SRQ_ENTRIES; i++)
		mem_post_srq(&x, i);
	for (uint32_t i = 0; i < 200 && good; i++) {
		bool host = i / 4 % 2;
		struct mem_end *from = host ? &c : &p.b, *to = host ? &y : &x;
		struct mem_wr w = mem_wr(from, to, SEND, 3000);
		uint32_t slot;

		mem_pattern(from->buf, 3000, 1000 + i);
		mem_post(from, &w);
		good = mem_status(&from->scq) == 0 && mem_cqe(&to->rcq, &cqe) == 0;
		slot = le32toh(cqe.wqe_index) - MEM_COOKIE;
		good &= slot < SRQ_ENTRIES && le32toh(cqe.qpn) == to->qp.qpn &&
			mem_has_pattern(p.a.buf + slot * MEM_SLOT, 3000, 1000 + i);
		if (good)
			mem_post_srq(&x, slot);
	}
	ok(good, "SRQ: 200 messages over both paths, each with its receive's cookie");

	/* All posted receives count for the limit, on the ring or lent to the host. */
	is(guest_srq_arm(&srq, SRQ_ENTRIES - 4), 0, "SRQ: a limit near the number posted");
	ok(!limit_event(p.a.g, srq.srqn, 50), "SRQ: is not reached by what is lent");
	for (uint32_t i = 0; i < 6 && good; i++) {
		struct mem_end *from = i % 2 ? &c : &p.b, *to = i % 2 ? &y : &x;
		struct mem_wr w = mem_wr(from, to, SEND, 100);

		mem_post(from, &w);
		good = mem_status(&from->scq) == 0 && mem_status(&to->rcq) == 0;
		free_slots++;
	}
	ok(good && limit_event(p.a.g, srq.srqn, 1000), "SRQ: but by messages of both paths");
	is(guest_srq_limit(&srq), 0, "SRQ: once");

	/* A burst from the host that is longer than the number of lent receives. */
	for (uint32_t i = 0; i < 20; i++) {
		struct mem_wr w = mem_wr(&c, &y, SEND, 100);

		mem_post(&c, &w);
	}
	for (uint32_t i = 0; i < 20 && good; i++)
		good = mem_status(&c.scq) == 0 && mem_status(&y.rcq) == 0;
	ok(good, "SRQ: 20 at once through the host, which has 16 receives at most");
	mem_end_close(&y);
	mem_end_close(&c);
	mem_end_close(&x);
	mem_end_close(&p.b);
	x.srq = NULL;
	is(guest_srq_destroy(&srq), 0, "SRQ: destroyed");
}

/* Connections come and go over one SRQ, some with messages that were not polled. */
static void test_srq_churn(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct mem_end y = twin_of(&p.a);
	struct guest_srq srq;
	bool good = true;

	is(guest_srq_create(&p.a.ctx, p.a.pd, SRQ_ENTRIES, 1, &srq), 0, "an SRQ");
	y.srq = &srq;
	for (uint32_t i = 0; i < SRQ_ENTRIES; i++)
		mem_post_srq(&y, i);
	for (uint32_t i = 0; i < 40 && good; i++) {
		struct virtio_rdma_cqe cqe;
		struct mem_wr w;

		mem_end_open(&y, &init, 256);
		mem_end_open(&c, &init, 256);
		connect(&y, &c);
		w = mem_wr(&c, &y, SEND, 100);
		mem_post(&c, &w);
		mem_post(&c, &w);
		good = mem_status(&c.scq) == 0 && mem_cqe(&y.rcq, &cqe) == 0;
		if (good)
			mem_post_srq(&y, le32toh(cqe.wqe_index) - MEM_COOKIE);
		/* As a driver does: a completed receive frees its entry. */
		if (guest_qp_destroy(&y.qp))
			guest_fatal("DESTROY_QP");
		while (guest_poll(&y.rcq, &cqe))
			mem_post_srq(&y, le32toh(cqe.wqe_index) - MEM_COOKIE);
		if (guest_cq_destroy(&y.scq) || guest_cq_destroy(&y.rcq))
			guest_fatal("DESTROY_CQ");
		mem_end_close(&c);
	}
	ok(good, "SRQ: 40 connections, one after the other, lose none of what is lent");
	is(guest_srq_destroy(&srq), 0, "SRQ: destroyed");
}

/* ---- a neighbour that has no other path ------------------------------------------------ */

static void test_memory_guest(void)
{
	struct guest_config cfg = { .name = "d", .id = 4, .fabric = fabric_a };
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .max_recv_sge = 2 };
	uint64_t tx = guest_stat(p.a.g, "host_tx_bytes");
	struct mem_end x = twin_of(&p.a), d = { .g = guest_create(p.engine, &cfg) };

	mem_end_setup(&d);
	mem_end_open(&x, &init, 256);
	mem_end_open(&d, &init, 256);
	connect(&x, &d);
	ok(mem_carries(&x, &d, 600) && mem_carries(&d, &x, 610) &&
	   guest_stat(p.a.g, "host_tx_bytes") == tx, "a guest of the memory transport, by memory");
	mem_end_close(&x);
	mem_end_close(&d);
	guest_destroy(d.g);
}

void test_both_paths(void)
{
	struct guest_config cfg = {
		.name = "c", .id = 3, .ibdev = ibdev, .transports = "memory,ibverbs", .fabric = "elsewhere",
		.mem_size = 64 << 20,
	};

	memcpy(cfg.gid, gid_c, 16);
	c.g = guest_create(p.engine, &cfg);
	mem_end_setup(&c);
	test_paths();
	test_reconnect();
	test_init();
	test_disagree();
	test_ud();
	test_srq();
	test_srq_churn();
	test_memory_guest();
	guest_destroy(c.g);
}
