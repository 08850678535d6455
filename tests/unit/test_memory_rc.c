// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport, RC: each operation once with the completions of both sides, order,
 * states, events, waits.  Errors are in test_memory_errors.c.
 */
#include <unistd.h>

#include "mem_pair.h"
#include "tap.h"

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;

static bool cqe_is(struct guest_cq *cq, uint8_t opcode, uint32_t byte_len, uint32_t index,
		   struct virtio_rdma_cqe *cqe)
{
	return guest_poll_wait(cq, cqe, MEM_WAIT_MS) && cqe->status == VIRTIO_RDMA_WC_SUCCESS &&
	       cqe->opcode == opcode && le32toh(cqe->byte_len) == byte_len &&
	       le32toh(cqe->wqe_index) == index;
}

static void test_write(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 5000);
	struct virtio_rdma_cqe cqe;

	mem_pair_fresh(&pair);
	mem_post(a, &w);
	ok(cqe_is(&a->scq, VIRTIO_RDMA_WC_RDMA_WRITE, 5000, 0, &cqe) &&
	   le32toh(cqe.qpn) == a->qp.qpn, "WRITE completes");
	ok(mem_has_pattern(b->buf, 5000, MEM_SEED_A) && mem_no_cqe(&b->rcq),
	   "WRITE: the data is there, and the peer has no completion");
	mem_pair_drop_qps(&pair);
}

static void test_write_imm(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM, 300);
	struct virtio_rdma_cqe cqe;

	mem_pair_fresh(&pair);
	w.wr.imm = htobe32(0xabcd1234);
	mem_recv(b, 4096, 0);
	mem_post(a, &w);
	ok(cqe_is(&a->scq, VIRTIO_RDMA_WC_RDMA_WRITE, 300, 0, &cqe), "WRITE_WITH_IMM completes");
	ok(cqe_is(&b->rcq, VIRTIO_RDMA_WC_RECV_RDMA_WITH_IMM, 300, 0, &cqe) &&
	   cqe.flags == VIRTIO_RDMA_CQE_IMM && cqe.imm == htobe32(0xabcd1234),
	   "WRITE_WITH_IMM: the receive completes with length and immediate");
	ok(mem_has_pattern(b->buf, 300, MEM_SEED_A), "WRITE_WITH_IMM: the data is there");
	mem_pair_drop_qps(&pair);
}

static void test_send(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 1000);
	struct guest_sge two[2];
	struct virtio_rdma_cqe cqe;

	mem_pair_fresh(&pair);
	two[0] = (struct guest_sge){ b->mr.iova + 100, 300, b->mr.lkey };
	two[1] = (struct guest_sge){ b->mr.iova + 9000, 5000, b->mr.lkey };
	guest_post_recv(&b->qp, two, 2);
	mem_post(a, &w);
	ok(cqe_is(&a->scq, VIRTIO_RDMA_WC_SEND, 1000, 0, &cqe), "SEND completes");
	ok(cqe_is(&b->rcq, VIRTIO_RDMA_WC_RECV, 1000, 0, &cqe) && !cqe.flags,
	   "SEND: the receive completes with the message's length");
	ok(!memcmp(b->buf + 100, a->buf, 300) && !memcmp(b->buf + 9000, a->buf + 300, 700),
	   "SEND: scattered over two SGEs");

	w.wr.opcode = VIRTIO_RDMA_WR_SEND_WITH_IMM;
	w.wr.imm = htobe32(77);
	w.sge.length = 0;
	w.wr.num_sge = 0;
	mem_recv(b, 0, 0);
	mem_post(a, &w);
	ok(cqe_is(&a->scq, VIRTIO_RDMA_WC_SEND, 0, 1, &cqe) &&
	   cqe_is(&b->rcq, VIRTIO_RDMA_WC_RECV, 0, 1, &cqe) &&
	   cqe.flags == VIRTIO_RDMA_CQE_IMM && cqe.imm == htobe32(77),
	   "SEND_WITH_IMM of no bytes brings its immediate");
	mem_pair_drop_qps(&pair);
}

static void test_read(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_READ, 70000);
	struct virtio_rdma_cqe cqe;

	mem_pair_fresh(&pair);
	mem_post(a, &w);
	ok(cqe_is(&a->scq, VIRTIO_RDMA_WC_RDMA_READ, 70000, 0, &cqe), "READ completes");
	ok(mem_has_pattern(a->buf, 70000, MEM_SEED_B) && mem_has_pattern(b->buf, MEM_BUF, MEM_SEED_B),
	   "READ: the data is there");
	mem_pair_drop_qps(&pair);
}

static void test_atomics(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD, 8);
	uint64_t *there, *here;
	struct virtio_rdma_cqe cqe;

	mem_pair_fresh(&pair);
	there = (uint64_t *)b->buf;
	here = (uint64_t *)a->buf;
	*there = 40;
	w.wr.swap_add = 2;
	mem_post(a, &w);
	ok(cqe_is(&a->scq, VIRTIO_RDMA_WC_FETCH_ADD, 8, 0, &cqe) && *here == 40 && *there == 42,
	   "FETCH_AND_ADD");
	w.wr.opcode = VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP;
	w.wr.compare = 41;
	w.wr.swap_add = 7;
	mem_post(a, &w);
	ok(cqe_is(&a->scq, VIRTIO_RDMA_WC_COMP_SWAP, 8, 1, &cqe) && *here == 42 && *there == 42,
	   "CMP_AND_SWP that does not match changes nothing");
	w.wr.compare = 42;
	mem_post(a, &w);
	ok(cqe_is(&a->scq, VIRTIO_RDMA_WC_COMP_SWAP, 8, 2, &cqe) && *here == 42 && *there == 7,
	   "CMP_AND_SWP that matches swaps");
	mem_pair_drop_qps(&pair);
}

static void test_inline_unsignaled(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 0);
	struct virtio_rdma_cqe cqe;
	bool right = true;

	mem_pair_fresh(&pair);
	for (uint32_t i = 0; i < 40; i++) {
		w.wr.flags = VIRTIO_RDMA_WQE_INLINE | (i == 39 ? VIRTIO_RDMA_WQE_SIGNALED : 0) |
			     (i & 1 ? VIRTIO_RDMA_WQE_FENCE : 0);
		w.wr.inline_data = &i;
		w.wr.inline_len = sizeof(i);
		w.wr.remote_addr = b->mr.iova + 4 * i;
		guest_write_send(&a->qp, &w.wr);
	}
	guest_ring_sq(&a->qp);
	ok(cqe_is(&a->scq, VIRTIO_RDMA_WC_RDMA_WRITE, 4, 39, &cqe) && mem_no_cqe(&a->scq),
	   "40 inline WRITEs in one post, the last one signaled: one completion");
	for (uint32_t i = 0; i < 40; i++)
		right &= ((uint32_t *)b->buf)[i] == i;
	ok(right, "inline data is there");
	mem_pair_drop_qps(&pair);
}

static void test_order(void)
{
	struct virtio_rdma_cqe cqe;
	bool sends = true, recvs = true;

	mem_pair_fresh(&pair);
	for (uint32_t round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < 32; i++)
			mem_recv(b, 64 * i, 64);
		for (uint32_t i = 0; i < 32; i++) {
			struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND_WITH_IMM, 64);

			w.wr.imm = round * 32 + i;
			mem_post(a, &w);
		}
		for (uint32_t i = 0; i < 32; i++) {
			sends &= cqe_is(&a->scq, VIRTIO_RDMA_WC_SEND, 64, round * 32 + i, &cqe);
			recvs &= cqe_is(&b->rcq, VIRTIO_RDMA_WC_RECV, 64, round * 32 + i, &cqe) &&
				 cqe.imm == round * 32 + i;
		}
	}
	ok(sends && recvs, "640 SENDs complete in order on both sides");
	mem_pair_drop_qps(&pair);
}

static void test_solicited(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 8);
	struct virtio_rdma_cqe cqe;
	uint32_t cqn;

	mem_pair_fresh(&pair);
	mem_recv(b, 0, 64);
	mem_recv(b, 0, 64);
	guest_arm(&b->rcq, true);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && !guest_comp_event(b->g, 0, &cqn, MEM_QUIET_MS),
	   "an unsolicited SEND makes no event of a CQ armed for solicited ones");
	w.wr.flags |= VIRTIO_RDMA_WQE_SOLICITED;
	mem_post(a, &w);
	ok(guest_comp_event(b->g, 0, &cqn, MEM_WAIT_MS) && cqn == b->rcq.cqn,
	   "a solicited SEND does");
	while (guest_poll(&b->rcq, &cqe))
		;
	mem_pair_drop_qps(&pair);
}

static void test_comm_est(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 8);

	mem_pair_qps(&pair);
	if (mem_bring_up(a, VIRTIO_RDMA_QPS_RTS) || mem_bring_up(b, VIRTIO_RDMA_QPS_RTR))
		guest_fatal("no connection");
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && mem_event(b, VIRTIO_RDMA_EVENT_COMM_EST),
	   "the first message to a QP in RTR raises COMM_EST");
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && mem_no_event(b), "the second one does not");
	mem_pair_drop_qps(&pair);
}

static void test_before_rts(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 8);

	mem_pair_qps(&pair);
	if (mem_bring_up(b, VIRTIO_RDMA_QPS_RTS) || mem_bring_up(a, VIRTIO_RDMA_QPS_INIT))
		guest_fatal("no connection");
	mem_post(a, &w);
	ok(mem_no_cqe(&a->scq), "what is posted in INIT waits");
	a->attr.state = VIRTIO_RDMA_QPS_RTR;
	guest_qp_modify(&a->qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_AV | VIRTIO_RDMA_QP_PATH_MTU |
			VIRTIO_RDMA_QP_DEST_QPN | VIRTIO_RDMA_QP_RQ_PSN |
			VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC | VIRTIO_RDMA_QP_MIN_RNR_TIMER, &a->attr);
	a->attr.state = VIRTIO_RDMA_QPS_RTS;
	guest_qp_modify(&a->qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_SQ_PSN |
			VIRTIO_RDMA_QP_TIMEOUT | VIRTIO_RDMA_QP_RETRY_CNT |
			VIRTIO_RDMA_QP_RNR_RETRY | VIRTIO_RDMA_QP_MAX_QP_RD_ATOMIC, &a->attr);
	ok(mem_status(&a->scq) == 0, "and is carried out in RTS");
	mem_pair_drop_qps(&pair);
}

static void test_sqd(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 8);
	struct virtio_rdma_qp_attr attr = {
		.state = VIRTIO_RDMA_QPS_SQD, .en_sqd_async_notify = 1,
	};

	mem_pair_fresh(&pair);
	ok(!guest_qp_modify(&a->qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_EN_SQD_ASYNC_NOTIFY,
			    &attr) && mem_event(a, VIRTIO_RDMA_EVENT_SQ_DRAINED),
	   "SQD raises SQ_DRAINED");
	mem_post(a, &w);
	ok(mem_no_cqe(&a->scq) && mem_no_event(a), "in SQD nothing is sent");
	w = mem_wr(b, a, VIRTIO_RDMA_WR_RDMA_WRITE, 8);
	mem_post(b, &w);
	ok(mem_status(&b->scq) == 0, "in SQD requests of the peer are answered");
	guest_qp_set_state(&a->qp, VIRTIO_RDMA_QPS_RTS);
	ok(mem_status(&a->scq) == 0, "back in RTS it is sent");

	/* A request that was begun, and waits for a receive, is finished first. */
	w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 8);
	mem_post(a, &w);
	mem_post(a, &w);
	usleep(20000);
	guest_qp_modify(&a->qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_EN_SQD_ASYNC_NOTIFY, &attr);
	ok(mem_no_event(a) && !guest_qp_query(&a->qp, &attr) && attr.sq_draining,
	   "SQD with a request under way drains");
	mem_recv(b, 0, 64);
	mem_recv(b, 0, 64);
	ok(mem_status(&a->scq) == 0 && mem_event(a, VIRTIO_RDMA_EVENT_SQ_DRAINED) &&
	   mem_no_cqe(&a->scq) && !guest_qp_query(&a->qp, &attr) && !attr.sq_draining,
	   "and has drained when that one is done, the next one being left");
	guest_qp_set_state(&a->qp, VIRTIO_RDMA_QPS_RTS);
	ok(mem_status(&a->scq) == 0, "which is sent in RTS");
	mem_pair_drop_qps(&pair);
}

/* A receive that is posted late ends the wait at once, long before the RNR timer. */
static void test_rnr_wait(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 64);
	uint64_t rnr = guest_stat(b->g, "rnr") + guest_stat(a->g, "rnr"), before, took;
	bool fast = false;

	mem_pair_qps(&pair);
	b->attr.min_rnr_timer = 31;		/* 491 ms */
	mem_pair_connect(&pair);
	for (int i = 0; i < 10; i++) {
		mem_post(a, &w);
		usleep(20000);
		before = guest_now_ns();
		mem_recv(b, 0, 64);
		if (mem_status(&a->scq))
			guest_fatal("SEND fails");
		took = guest_now_ns() - before;
		diag("woken by the receive after %llu us", (unsigned long long)took / 1000);
		fast |= took < 100000000;
		if (mem_status(&b->rcq))
			guest_fatal("receive fails");
	}
	ok(fast, "RNR: the receive wakes the sender");
	ok(guest_stat(a->g, "rnr") + guest_stat(b->g, "rnr") > rnr, "RNR is counted");
	mem_pair_drop_qps(&pair);
}

static void test_peer_appears(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 8);
	uint64_t before;

	mem_pair_qps(&pair);
	a->attr.timeout = 18;			/* 1 s */
	a->attr.retry_cnt = 7;
	if (mem_bring_up(a, VIRTIO_RDMA_QPS_RTS))
		guest_fatal("no connection");
	mem_post(a, &w);
	ok(mem_no_cqe(&a->scq), "a request to a QP in RESET waits");
	before = guest_now_ns();
	if (mem_bring_up(b, VIRTIO_RDMA_QPS_RTR))
		guest_fatal("no connection");
	ok(mem_status(&a->scq) == 0 && guest_now_ns() - before < 900000000,
	   "and is done once that is in RTR, before the timeout");
	mem_pair_drop_qps(&pair);
}

static void test_reconnect(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 8);
	struct mem_wr back = mem_wr(b, a, VIRTIO_RDMA_WR_RDMA_WRITE, 8);
	bool done = true;

	mem_pair_fresh(&pair);
	for (int i = 0; i < 20; i++) {
		mem_post(a, &w);
		mem_post(b, &back);
		done &= mem_status(&a->scq) == 0 && mem_status(&b->scq) == 0;
		done &= !guest_qp_reset(&a->qp) && !guest_qp_reset(&b->qp);
		mem_pair_connect(&pair);
	}
	ok(done, "QPs are reset and connected again 20 times");
	mem_pair_drop_qps(&pair);
}

static void test_loopback(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct mem_wr w = mem_wr(a, a, VIRTIO_RDMA_WR_RDMA_WRITE, 1000);

	mem_pair_qps_init(&pair, &init, 64);
	/* Connected to itself: a QP may be its own peer. */
	a->attr.dest_qpn = htole32(a->qp.qpn);
	memcpy(a->attr.av.dgid, a->g->gid, 16);
	if (mem_bring_up(a, VIRTIO_RDMA_QPS_RTS))
		guest_fatal("no connection");
	mem_pattern(a->buf, MEM_BUF, MEM_SEED_A);
	w.wr.remote_addr += 8192;
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 &&
	   !memcmp(a->buf, a->buf + 8192, 1000), "a QP connected to itself: WRITE");
	w.wr.remote_addr = a->mr.iova + 100;	/* overlaps its source */
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0, "an overlapping WRITE");
	w.wr.opcode = VIRTIO_RDMA_WR_SEND;
	mem_recv(a, 20000, 1000);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && mem_status(&a->rcq) == 0, "SEND to itself");
	w.wr.opcode = VIRTIO_RDMA_WR_RDMA_READ;
	w.wr.rkey ^= 0x100;
	mem_post(a, &w);
	ok(mem_status(&a->scq) == VIRTIO_RDMA_WC_REM_ACCESS_ERR &&
	   mem_in_state(a, VIRTIO_RDMA_QPS_ERR), "an error at both of its sides");
	mem_pair_drop_qps(&pair);
}

/* A pause of the peer is not an absence: it lasts longer than all retries, and the QP survives. */
static void test_suspended_peer(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 8);

	mem_pair_fresh(&pair);
	mem_post(a, &w);
	if (mem_status(&a->scq))
		guest_fatal("WRITE fails");
	guest_stop_queues(b->g);
	memset(b->buf, 0, 8);
	mem_post(a, &w);
	ok(mem_no_cqe(&a->scq) && b->buf[0] == 0, "while the peer is paused no byte moves");
	guest_start_queues(b->g);
	ok(mem_status(&a->scq) == 0 && mem_has_pattern(b->buf, 8, MEM_SEED_A),
	   "it goes on when the peer is resumed");

	guest_stop_queues(a->g);
	mem_post(a, &w);
	ok(mem_no_cqe(&a->scq), "while the sender is paused nothing is done");
	guest_start_queues(a->g);
	ok(mem_status(&a->scq) == 0, "it goes on when it is resumed");
	mem_pair_drop_qps(&pair);
}

static void test_limits(void)
{
	mem_pair_qps(&pair);
	a->attr.av.sgid_index = 5;
	ok(mem_bring_up(a, VIRTIO_RDMA_QPS_RTR) == VIRTIO_RDMA_S_INVAL,
	   "a path from a GID that is not there is refused");
	a->attr.av.sgid_index = 0;
	guest_qp_reset(&a->qp);
	a->attr.max_dest_rd_atomic = 255;
	ok(mem_bring_up(a, VIRTIO_RDMA_QPS_RTR) == VIRTIO_RDMA_S_INVAL,
	   "more READs at a time than the device takes are refused");
	mem_pair_drop_qps(&pair);
}

static void test_stats(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 1000);
	uint64_t writes, tx, rx, recv;

	mem_pair_fresh(&pair);
	writes = guest_stat(a->g, "write");
	tx = guest_stat(a->g, "tx_bytes");
	rx = guest_stat(b->g, "rx_bytes");
	recv = guest_stat(b->g, "recv");
	mem_post(a, &w);
	w.wr.opcode = VIRTIO_RDMA_WR_SEND;
	mem_recv(b, 0, 1000);
	mem_post(a, &w);
	if (mem_status(&a->scq) || mem_status(&a->scq))
		guest_fatal("WRITE or SEND fails");
	/* Counted at the end of the burst, which may be after its completions. */
	guest_stat_reaches(b->g, "rx_bytes", rx + 2000, MEM_WAIT_MS);
	usleep(10000);
	ok(guest_stat(a->g, "write") == writes + 1 && guest_stat(a->g, "tx_bytes") == tx + 2000 &&
	   guest_stat(b->g, "rx_bytes") == rx + 2000 && guest_stat(b->g, "recv") == recv + 1,
	   "requests and bytes are counted on both sides");
	mem_pair_drop_qps(&pair);
}

int main(void)
{
	mem_pair_open(&pair, 2, 0);
	test_write();
	test_write_imm();
	test_send();
	test_read();
	test_atomics();
	test_inline_unsignaled();
	test_order();
	test_solicited();
	test_comm_est();
	test_before_rts();
	test_sqd();
	test_rnr_wait();
	test_peer_appears();
	test_reconnect();
	test_loopback();
	test_suspended_peer();
	test_limits();
	test_stats();
	mem_pair_close(&pair);
	return tap_done();
}
