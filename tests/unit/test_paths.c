// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices with both transports, on a host device that does nothing: which path a connection
 * takes, what it does there, and host calls that fail.  Both paths of a real device
 * are tests/interop's.
 */
#include "host_calls.h"
#include "paths.h"

/* ---- host calls that fail -------------------------------------------------------------- */

static void test_open(void)
{
	struct vrd_device_config cfg = {
		.name = "d", .mac = { 2, 0, 0, 0, 0, 9 }, .num_comp_vectors = 1,
		.ibdev = NULL_IBDEV, .transports = "memory,ibverbs", .fabric = "f",
	};
	struct host_calls calls = host_calls_at_start(p.engine, &cfg);

	ok(calls.num >= 10 && calls.ended && calls.reported,
	   "%ld host calls at start fail one by one", calls.num);
	ok(calls.undone, "and leave no object of the host's");
}

static void test_objects(uint8_t type, const char *name)
{
	struct host_calls calls = host_calls_of_objects(&p.a, type, true);

	ok(calls.num >= 5 && calls.ended && calls.reported,
	   "%s: each host call of the verbs fails once: NOMEM", name);
	ok(calls.undone, "%s: all is undone", name);
}

/* In INIT, with receives posted one after the other, when the host is next. */
static void init_with_receives(struct mem_end *x, uint32_t num, uint32_t length)
{
	attr_to(x, NULL);
	if (mem_bring_up(x, INIT))
		guest_fatal("INIT");
	for (uint32_t i = 0; i < num; i++)
		mem_recv(x, length * i, length);
}

/*
 * If the host refuses RTR, the QP is unchanged: the receives of INIT serve the peer of the
 * next RTR.
 */
static void test_refused(void)
{
	struct mem_end x = p.a, y = p.b;
	long before = null_objects();
	struct mem_wr w;
	bool good;

	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	init_with_receives(&x, 5, 64);
	null_fail(1);
	ok(mem_to_rtr(&x) == VIRTIO_RDMA_S_NOMEM && null_failed() && guest_qp_state(&x.qp) == INIT,
	   "RC: RTR that the host refuses");
	ok(null_qp(x.qp.qpn)->state == IBV_QPS_INIT, "RC: the host's QP is in INIT again");
	attr_to(&x, &y);
	if (mem_to_rtr(&x) || mem_to_rts(&x))
		guest_fatal("RTR or RTS");
	bring_up(&y, &x);
	w = mem_wr(&y, &x, SEND, 64);
	good = true;
	for (uint32_t i = 0; i < 5 && good; i++) {
		mem_pattern(y.buf, 64, i);
		mem_post(&y, &w);
		good = mem_status(&y.scq) == 0 && mem_in_order(&x.rcq, 0, i, 1) &&
		       mem_has_pattern(x.buf + 64 * i, 64, i);
	}
	ok(good, "RC: its receives are there for a guest of the fabric");

	/* The other order: the host gets them in the end. */
	if (guest_qp_reset(&x.qp))
		guest_fatal("RESET");
	init_with_receives(&x, 5, 64);
	null_fail(1);
	good = mem_to_rtr(&x) && null_failed() && !mem_to_rtr(&x);
	null_fail(1);
	good &= mem_to_rts(&x) && null_failed() && guest_qp_state(&x.qp) == RTR && !mem_to_rts(&x);
	for (uint32_t i = 0; i < 5 && good; i++)
		good = arrives(&x, IBV_WC_SUCCESS, NULL, 64) && mem_in_order(&x.rcq, 0, i, 1);
	ok(good && !null_receive(x.qp.qpn, IBV_WC_SUCCESS, NULL, 64),
	   "RC: RTR and RTS are tried again, and the host has each receive once");
	null_fail(1);
	ok(guest_qp_set_state(&x.qp, ERR) && null_failed() && !guest_qp_set_state(&x.qp, ERR),
	   "RC: ERR that the host refuses, and again");
	mem_end_close(&x);
	mem_end_close(&y);

	open_end(&x, VIRTIO_RDMA_QPT_UD);
	init_with_receives(&x, 1, 256);
	null_fail(1);
	good = mem_to_rtr(&x) && null_failed() && guest_qp_state(&x.qp) == INIT && !mem_to_rtr(&x);
	null_fail(1);
	good &= mem_to_rts(&x) && null_failed() && guest_qp_state(&x.qp) == RTR && !mem_to_rts(&x);
	ok(good && arrives(&x, IBV_WC_SUCCESS, x.buf + 4096, GRH + 8) &&
	   mem_in_order(&x.rcq, 0, 0, 1),
	   "UD: RTR and RTS that the host refuses are tried again");
	mem_end_close(&x);
	is(null_objects(), before, "nothing is left of it");
}

/* ---- connections ------------------------------------------------------------------------ */

static void test_two_fabrics(void)
{
	struct mem_end x, y;
	struct mem_wr w;

	paths_open(1, "f", "g");
	x = p.a;
	y = p.b;
	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	connect_ends(&x, &y);
	ok(guest_stat(p.a.g, "qps_ibverbs") == 1 && guest_stat(p.b.g, "qps_ibverbs") == 1 &&
	   !guest_stat(p.a.g, "qps_memory") && !guest_stat(p.b.g, "qps_memory"),
	   "guests of two fabrics: by the host");
	mem_pattern(x.buf, 64, 1);
	mem_pattern(y.buf, 64, 2);
	w = mem_wr(&x, &y, W, 64);
	mem_post(&x, &w);
	ok(mem_status(&x.scq) == 0 && mem_has_pattern(y.buf, 64, 2), "which carries it (nowhere)");
	ok(host_carries(&x) && host_carries(&y), "all of it");
	mem_end_close(&x);
	mem_end_close(&y);
	mem_pair_close(&p);
}

static void test_paths(void)
{
	uint64_t local = guest_stat(p.a.g, "qps_memory"), host = guest_stat(p.a.g, "qps_ibverbs");
	struct mem_end x = p.a, y = p.b, z = p.a;
	uint64_t tx, rx;

	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	open_end(&z, VIRTIO_RDMA_QPT_RC);
	connect_ends(&x, &y);
	bring_up(&z, NULL);
	ok(guest_stat(p.a.g, "qps_memory") == local + 1 && guest_stat(p.a.g, "qps_ibverbs") == host + 1,
	   "a connection to the same fabric, and one to elsewhere");
	tx = guest_stat(p.a.g, "host_tx_bytes");
	rx = guest_stat(p.a.g, "host_rx_bytes");
	ok(mem_carries(&x, &y, 100) && mem_carries(&y, &x, 110), "memory carries the one");
	is(guest_stat(p.a.g, "host_tx_bytes"), tx, "without the host");
	ok(host_carries(&z), "the host the other");
	ok(guest_stat(p.a.g, "host_tx_bytes") == tx + 20000 &&
	   guest_stat(p.a.g, "host_rx_bytes") == rx + 10033, "as its counters show");
	is(guest_qp_set_state(&x.qp, ERR), 0, "one goes to ERR");
	mem_recv(&x, 0, 64);
	is(mem_status(&x.rcq), WC(WR_FLUSH_ERR), "and flushes");
	ok(host_carries(&z), "the other goes on");
	mem_end_close(&x);
	mem_end_close(&y);
	mem_end_close(&z);
}

/* The same QP, connected to one peer after the other, with receives posted in INIT. */
static void test_reconnect(void)
{
	struct mem_end x = p.a, y = p.b;
	bool good = true, early = true;

	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	for (unsigned int i = 0; i < 20; i++) {
		bool host = i % 2;
		struct mem_wr w;

		attr_to(&x, host ? NULL : &y);
		good &= !mem_bring_up(&x, INIT);
		mem_recv(&x, 4096, 512);
		mem_recv(&x, 8192, 512);
		good &= !mem_to_rtr(&x);
		if (host) {
			/* The host has them before RTR is answered. */
			early &= null_receive(x.qp.qpn, IBV_WC_SUCCESS, NULL, 512) &&
				 null_receive(x.qp.qpn, IBV_WC_SUCCESS, NULL, 512);
		} else {
			attr_to(&y, &x);
			y.attr.rnr_retry = 0;
			early &= !mem_bring_up(&y, RTS);
			w = mem_wr(&y, &x, SEND, 512);
			mem_pattern(y.buf, 512, i);
			mem_post(&y, &w);
			mem_post(&y, &w);
			early &= mem_status(&y.scq) == 0 && mem_status(&y.scq) == 0 &&
				 mem_has_pattern(x.buf + 4096, 512, i) &&
				 mem_has_pattern(x.buf + 8192, 512, i);
		}
		early &= mem_in_order(&x.rcq, 0, 0, 2);
		good &= !mem_to_rts(&x) && (host ? host_carries(&x) : mem_carries(&x, &y, 300 + i));
		/* Left behind. */
		for (unsigned int k = 0; k < 20; k++) {
			mem_recv(&x, 0, 64);
			w = mem_wr(&x, &y, SEND, 64);
			mem_post(&x, &w);
		}
		good &= !guest_qp_reset(&x.qp) && (host || !guest_qp_reset(&y.qp));
		for (struct virtio_rdma_cqe cqe; guest_poll(&x.scq, &cqe) ||
		     guest_poll(&x.rcq, &cqe) || guest_poll(&y.rcq, &cqe);)
			;
	}
	ok(early, "receives of INIT are there in RTR, on either path");
	ok(good, "RESET, and to another peer on the other path, 20 times");
	ok(mem_no_cqe(&x.scq) && mem_no_cqe(&x.rcq), "nothing is left of the earlier lives");
	mem_end_close(&x);
	mem_end_close(&y);
}

/* One end was connected while the other's address was not in the fabric. */
static void test_disagree(void)
{
	struct mem_end x = p.a, y = p.b;
	struct mem_wr w;

	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	if (guest_del_gid(p.b.g, 0))
		guest_fatal("DEL_GID");
	bring_up(&x, &y);
	if (guest_add_gid(p.b.g, 0, p.b.g->gid))
		guest_fatal("ADD_GID");
	bring_up(&y, &x);
	mem_pattern(x.buf, 64, 1);
	mem_pattern(y.buf, 64, 2);
	w = mem_wr(&y, &x, W, 64);
	mem_post(&y, &w);
	is(mem_status(&y.scq), WC(RETRY_EXC_ERR), "ends on different paths: nobody answers");
	ok(mem_has_pattern(x.buf, 64, 1), "no byte moved");
	ok(host_carries(&x), "the other end has the host");
	mem_end_close(&x);
	mem_end_close(&y);
}

/* Some signaled, some not; @to NULL: by the host. */
static void test_order(struct mem_end *to, const char *name)
{
	uint32_t want = 0, total = 6000, posted = 0;
	struct mem_end x = p.a, y = p.b;
	struct virtio_rdma_cqe cqe;
	bool good = true;

	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	bring_up(&x, to ? &y : NULL);
	bring_up(&y, to ? &x : NULL);
	while (want < total && good) {
		struct mem_wr w = mem_wr(&x, &y, W, 8);

		w.wr.sge = &w.sge;
		for (unsigned int k = 0; k < 60; k++, posted++) {
			w.wr.flags = posted % 6 == 5 || posted % 10 == 3 ? SIGNALED : 0;
			guest_write_send(&x.qp, &w.wr);
			if (k % 7 == 0)
				guest_ring_sq(&x.qp);
		}
		guest_ring_sq(&x.qp);
		for (; want < posted && good; want++)
			if (want % 6 == 5 || want % 10 == 3)
				good = mem_cqe(&x.scq, &cqe) == 0 &&
				       le32toh(cqe.wqe_index) == want;
	}
	ok(good && !guest_poll(&x.scq, &cqe), "%s: only what is signaled completes, in order",
	   name);
	mem_end_close(&x);
	mem_end_close(&y);
}

/* To ERR, with outstanding requests and receives, and more that are posted in ERR. */
static void test_flush(void)
{
	struct mem_end x = p.a, y = p.b, z = p.a;
	struct mem_wr w = mem_wr(&x, &y, SEND, 64);

	/* To a peer without a receive, so that nothing is sent. */
	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	connect_ends(&x, &y);
	for (unsigned int i = 0; i < 40; i++) {
		w.wr.flags = i % 2 ? SIGNALED : 0;
		mem_post(&x, &w);
		mem_recv(&x, 0, 64);
	}
	usleep(2000);
	is(guest_qp_set_state(&x.qp, ERR), 0, "by memory: to ERR");
	for (unsigned int i = 0; i < 10; i++) {
		mem_post(&x, &w);
		mem_recv(&x, 0, 64);
	}
	ok(mem_in_order(&x.scq, WC(WR_FLUSH_ERR), 0, 50),
	   "by memory: all requests are flushed, in order");
	ok(mem_in_order(&x.rcq, WC(WR_FLUSH_ERR), 0, 50), "by memory: and all receives");

	open_end(&z, VIRTIO_RDMA_QPT_RC);
	bring_up(&z, NULL);
	for (unsigned int i = 0; i < 40; i++)
		mem_recv(&z, 0, 64);
	null_next_status(IBV_WC_REM_ACCESS_ERR);
	w.wr.flags = 0;
	for (unsigned int i = 0; i < 40; i++)
		mem_post(&z, &w);
	ok(mem_status(&z.scq) == WC(REM_ACCESS_ERR) &&
	   mem_in_order(&z.scq, WC(WR_FLUSH_ERR), 1, 39) && mem_in_state(&z, ERR),
	   "by the host: an error moves the QP to ERR, the requests behind it are flushed");
	for (unsigned int i = 0; i < 10; i++) {
		mem_recv(&z, 0, 64);
		mem_post(&z, &w);
	}
	ok(mem_in_order(&z.scq, WC(WR_FLUSH_ERR), 40, 10) &&
	   mem_in_order(&z.rcq, WC(WR_FLUSH_ERR), 0, 50), "by the host: so is what is posted then");

	/* In INIT only the guest's ring holds the receives. */
	if (guest_qp_reset(&z.qp) || mem_bring_up(&z, INIT))
		guest_fatal("RESET or INIT");
	for (unsigned int i = 0; i < 5; i++)
		mem_recv(&z, 0, 64);
	ok(!guest_qp_set_state(&z.qp, ERR) && mem_in_order(&z.rcq, WC(WR_FLUSH_ERR), 0, 5),
	   "before RTR: from INIT to ERR, the receives are flushed in order");
	mem_end_close(&x);
	mem_end_close(&y);
	mem_end_close(&z);
}

int main(void)
{
	test_two_fabrics();
	is(null_objects(), 0, "the host has no object");
	paths_open(2, "f", "f");
	test_open();
	test_objects(VIRTIO_RDMA_QPT_RC, "RC");
	test_objects(VIRTIO_RDMA_QPT_UD, "UD");
	test_refused();
	test_paths();
	test_reconnect();
	test_disagree();
	test_order(&p.b, "by memory");
	test_order(NULL, "by the host");
	test_flush();
	mem_pair_close(&p);
	is(null_objects(), 0, "at the end the host has no object");
	return tap_done();
}
