// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport, UC: its operations, and what is lost where RC would retry or fail; the
 * sender does not learn of it.
 */
#include <unistd.h>

#include "mem_pair.h"
#include "objects.h"
#include "tap.h"

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;

#define WC(name)	VIRTIO_RDMA_WC_##name
#define IN(end, name)	mem_in_state(end, VIRTIO_RDMA_QPS_##name)

static void fresh(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_UC, .max_recv_sge = 2 };

	mem_pattern(a->buf, MEM_BUF, MEM_SEED_A);
	mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
	mem_pair_qps_init(&pair, &init, 64);
	mem_pair_connect(&pair);
}

static void post(uint8_t opcode, uint32_t length)
{
	struct mem_wr w = mem_wr(a, b, opcode, length);

	mem_post(a, &w);
}

/* The receive of the next message: the earlier message took none, or this one. */
static bool next_is(uint32_t index, uint32_t length)
{
	struct virtio_rdma_cqe cqe;

	return guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) && !cqe.status &&
	       le32toh(cqe.byte_len) == length && le32toh(cqe.wqe_index) == index;
}

static void test_operations(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM, 100);
	struct virtio_rdma_cqe cqe;

	fresh();
	post(VIRTIO_RDMA_WR_RDMA_WRITE, 200000);
	ok(guest_poll_wait(&a->scq, &cqe, MEM_WAIT_MS) && !cqe.status &&
	   cqe.opcode == VIRTIO_RDMA_WC_RDMA_WRITE && mem_has_pattern(b->buf, 200000, MEM_SEED_A) &&
	   mem_no_cqe(&b->rcq), "WRITE of several slices");
	mem_recv(b, 0, 0);
	w.wr.imm = htobe32(0x1234);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) &&
	   cqe.opcode == VIRTIO_RDMA_WC_RECV_RDMA_WITH_IMM && cqe.imm == htobe32(0x1234) &&
	   le32toh(cqe.byte_len) == 100, "WRITE_WITH_IMM");
	mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
	mem_recv(b, 0, MEM_BUF);
	post(VIRTIO_RDMA_WR_SEND, 150000);
	ok(mem_status(&a->scq) == 0 && next_is(1, 150000) &&
	   mem_has_pattern(b->buf, 150000, MEM_SEED_A), "SEND");
	mem_pair_drop_qps(&pair);
}

/* READ and atomics need a response. */
static void test_refused(uint8_t opcode, const char *what)
{
	fresh();
	post(opcode, 8);
	ok(mem_status(&a->scq) == WC(LOC_QP_OP_ERR) && IN(a, SQE) && IN(b, RTS) && mem_no_event(b) &&
	   mem_has_pattern(b->buf, MEM_BUF, MEM_SEED_B), "%s is malformed: SQE", what);
	mem_pair_drop_qps(&pair);
}

/* It succeeds, no data are moved, and the next message is received. */
static void lost(struct mem_wr w, const char *what)
{
	fresh();
	if (w.wr.opcode != VIRTIO_RDMA_WR_RDMA_WRITE && w.wr.rkey != b->mr.rkey)
		mem_recv(b, 0, 4096);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&b->rcq) && mem_no_event(b) &&
	   mem_has_pattern(b->buf, MEM_BUF, MEM_SEED_B), "%s: lost, and the sender succeeds", what);
	mem_recv(b, 0, 4096);
	post(VIRTIO_RDMA_WR_SEND, 10);
	ok(mem_status(&a->scq) == 0 && next_is(0, 10) && IN(a, RTS) && IN(b, RTS),
	   "%s: both go on", what);
	mem_pair_drop_qps(&pair);
}

static void test_lost(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	struct guest_mr readonly;

	w.wr.rkey ^= 0x1000;
	lost(w, "WRITE with an unknown rkey");
	w.wr.opcode = VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM;
	lost(w, "WRITE_WITH_IMM with an unknown rkey");
	w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	w.wr.remote_addr += MEM_BUF - 63;
	lost(w, "WRITE out of bounds");
	if (guest_mr_reg(b->g, b->pd, b->buf, MEM_BUF, VIRTIO_RDMA_ACCESS_LOCAL_WRITE, &readonly))
		guest_fatal("no MR");
	w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	w.wr.rkey = readonly.rkey;
	lost(w, "WRITE without the right");
	guest_mr_dereg(&readonly);
	lost(mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 64), "SEND without a receive");
	lost(mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM, 64),
	     "WRITE_WITH_IMM without a receive");
}

static void test_local(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	struct virtio_rdma_qp_attr attr = { .state = VIRTIO_RDMA_QPS_RTS };

	fresh();
	w.sge.lkey ^= 0x1000;
	mem_post(a, &w);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == WC(LOC_PROT_ERR) && mem_status(&a->scq) == WC(WR_FLUSH_ERR) &&
	   IN(a, SQE) && IN(b, RTS), "a bad lkey: SQE, and what follows is flushed");
	mem_recv(a, 0, 64);
	w = mem_wr(b, a, VIRTIO_RDMA_WR_SEND, 8);
	mem_post(b, &w);
	ok(mem_status(&b->scq) == 0 && mem_status(&a->rcq) == 0, "in SQE it still receives");
	is(guest_qp_modify(&a->qp, VIRTIO_RDMA_QP_STATE, &attr), 0, "SQE to RTS");
	post(VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	is(mem_status(&a->scq), 0, "and it sends again");
	mem_pair_drop_qps(&pair);
}

static void test_too_long(void)
{
	struct guest_sge two[2] = {
		{ a->mr.iova, UINT32_MAX, a->mr.lkey }, { a->mr.iova, UINT32_MAX, a->mr.lkey },
	};
	struct guest_wr wr = {
		.opcode = VIRTIO_RDMA_WR_RDMA_WRITE, .flags = VIRTIO_RDMA_WQE_SIGNALED,
		.num_sge = 2, .sge = two,
	};

	fresh();
	guest_post_send(&a->qp, &wr);
	ok(mem_status(&a->scq) == WC(LOC_LEN_ERR) && IN(a, SQE) && IN(b, RTS),
	   "longer than max_msg_sz: LOC_LEN_ERR");
	mem_pair_drop_qps(&pair);
}

/* The responder fails: the current burst takes no more of its receives. */
static void test_responder_fails(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 64);

	fresh();
	mem_recv(b, 0, 8);
	mem_recv(b, 4096, 4096);
	w.wr.sge = &w.sge;
	guest_write_send(&a->qp, &w.wr);
	guest_write_send(&a->qp, &w.wr);
	guest_ring_sq(&a->qp);
	ok(mem_status(&a->scq) == 0 && mem_status(&a->scq) == 0 && IN(a, RTS),
	   "SENDs longer than the receive succeed");
	ok(mem_status(&b->rcq) == WC(LOC_LEN_ERR) && mem_status(&b->rcq) == WC(WR_FLUSH_ERR) &&
	   IN(b, ERR), "the receive fails, the next is flushed");
	mem_pair_drop_qps(&pair);
}

/*
 * The same while another thread holds the responder's sq.lock, so that its move to
 * ERR is deferred: the responder takes no further receive before it is made.
 */
static void test_responder_fails_deferred(void)
{
	struct vrd_qp *qp;

	fresh();
	qp = vrd_table_find(&b->g->dev->qps, b->qp.qpn);
	mem_recv(b, 0, 8);
	mem_recv(b, 4096, 4096);
	vrd_lock(&qp->sq.lock);
	post(VIRTIO_RDMA_WR_SEND, 64);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == WC(LOC_LEN_ERR),
	   "the state cannot be changed: a receive fails");
	post(VIRTIO_RDMA_WR_SEND, 10);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&b->rcq), "the next message is dropped");
	vrd_unlock(&qp->sq.lock);
	ok(mem_status(&b->rcq) == WC(WR_FLUSH_ERR) && IN(b, ERR), "its receive is flushed");
	mem_pair_drop_qps(&pair);
}

static void test_nobody(void)
{
	fresh();
	if (guest_qp_destroy(&b->qp))
		guest_fatal("no DESTROY_QP");
	b->qp.g = NULL;
	post(VIRTIO_RDMA_WR_SEND, 8);
	post(VIRTIO_RDMA_WR_RDMA_WRITE, 100000);
	ok(mem_status(&a->scq) == 0 && mem_status(&a->scq) == 0 && IN(a, RTS),
	   "no peer: the sender succeeds");
	mem_pair_drop_qps(&pair);
	fresh();
	guest_stop_queues(b->g);
	post(VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	ok(mem_status(&a->scq) == 0, "a peer that is suspended: the sender succeeds");
	guest_start_queues(b->g);
	ok(mem_has_pattern(b->buf, MEM_BUF, MEM_SEED_B), "and nothing came");
	mem_pair_drop_qps(&pair);
}

int main(void)
{
	mem_pair_open(&pair, 2, 0);
	test_operations();
	test_refused(VIRTIO_RDMA_WR_RDMA_READ, "READ");
	test_refused(VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD, "FETCH_AND_ADD");
	test_lost();
	test_local();
	test_too_long();
	test_responder_fails();
	test_responder_fails_deferred();
	test_nobody();
	mem_pair_close(&pair);
	return tap_done();
}
