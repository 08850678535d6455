// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: requests that the responder refuses, because of the key, the rights, the
 * request itself or its receive: completions, events and states of both sides.
 */
#include <unistd.h>

#include "mem_pair.h"
#include "tap.h"

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;

#define WC(name)	VIRTIO_RDMA_WC_##name
#define IN(end, name)	mem_in_state(end, VIRTIO_RDMA_QPS_##name)

/* ---- responder refuses ------------------------------------------------------------ */

static void refused(struct mem_wr w, uint8_t status, uint32_t event, const char *what)
{
	mem_post(a, &w);
	ok(mem_status(&a->scq) == status && IN(a, ERR), "%s: completion and ERR", what);
	ok(mem_event(b, event) && IN(b, ERR) && mem_untouched(&pair),
	   "%s: the responder's event and ERR, no byte moved", what);
	mem_pair_drop_qps(&pair);
}

static void access_error(struct mem_wr w, const char *what)
{
	mem_pair_fresh(&pair);
	refused(w, WC(REM_ACCESS_ERR), VIRTIO_RDMA_EVENT_QP_ACCESS_ERR, what);
}

static const struct {
	uint8_t opcode;
	uint32_t length, right;
	const char *name;
} remote_ops[] = {
	{ VIRTIO_RDMA_WR_RDMA_WRITE, 64, VIRTIO_RDMA_ACCESS_REMOTE_WRITE, "WRITE" },
	{ VIRTIO_RDMA_WR_RDMA_READ, 64, VIRTIO_RDMA_ACCESS_REMOTE_READ, "READ" },
	{ VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD, 8, VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC, "FETCH_AND_ADD" },
	{ VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP, 8, VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC, "CMP_AND_SWP" },
};

static void test_rkey(void)
{
	struct guest_mr other, without, gone;
	char what[80];
	uint32_t pd;

	if (guest_pd_alloc(&b->ctx, &pd) ||
	    guest_mr_reg(b->g, pd, b->buf, MEM_BUF, MEM_ALL_ACCESS, &other) ||
	    guest_mr_reg(b->g, b->pd, b->buf, MEM_BUF, MEM_ALL_ACCESS, &gone))
		guest_fatal("no MR");
	guest_mr_dereg(&gone);
	for (unsigned int i = 0; i < 4; i++) {
		struct mem_wr good = mem_wr(a, b, remote_ops[i].opcode, remote_ops[i].length), w;

		snprintf(what, sizeof(what), "unknown rkey, %s", remote_ops[i].name);
		w = good;
		w.wr.rkey ^= 0x5000;
		access_error(w, what);
		snprintf(what, sizeof(what), "rkey of another PD, %s", remote_ops[i].name);
		w = good;
		w.wr.rkey = other.rkey;
		access_error(w, what);
		snprintf(what, sizeof(what), "rkey out of bounds, %s", remote_ops[i].name);
		w = good;
		w.wr.remote_addr += MEM_BUF - remote_ops[i].length + 8;
		access_error(w, what);
		snprintf(what, sizeof(what), "rkey with a wrapping address, %s", remote_ops[i].name);
		w = good;
		w.wr.remote_addr = UINT64_MAX - 7;
		access_error(w, what);
		snprintf(what, sizeof(what), "deregistered MR, %s", remote_ops[i].name);
		w = good;
		w.wr.rkey = gone.rkey;
		access_error(w, what);
		snprintf(what, sizeof(what), "MR lacks the right, %s", remote_ops[i].name);
		if (guest_mr_reg(b->g, b->pd, b->buf, MEM_BUF, MEM_ALL_ACCESS & ~remote_ops[i].right,
				 &without))
			guest_fatal("no MR");
		w = good;
		w.wr.rkey = without.rkey;
		access_error(w, what);
		guest_mr_dereg(&without);
		snprintf(what, sizeof(what), "the DMA key from afar, %s", remote_ops[i].name);
		w = good;
		w.wr.rkey = VIRTIO_RDMA_LOCAL_DMA_LKEY;
		access_error(w, what);
	}
	guest_mr_dereg(&other);
	guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd);
}

static void test_write_imm_rkey(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM, 64);
	struct virtio_rdma_cqe cqe;

	mem_pair_fresh(&pair);
	mem_recv(b, 0, 64);
	w.wr.rkey ^= 0x5000;
	mem_post(a, &w);
	ok(mem_status(&a->scq) == WC(REM_ACCESS_ERR) &&
	   mem_event(b, VIRTIO_RDMA_EVENT_QP_ACCESS_ERR) && IN(a, ERR) && IN(b, ERR),
	   "WRITE_WITH_IMM with a bad rkey: event, both ERR");
	ok(guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) && cqe.status == WC(WR_FLUSH_ERR) &&
	   mem_untouched(&pair),
	   "its receive is flushed, no byte moved");
	mem_pair_drop_qps(&pair);
}

static void test_zero_length(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 0);

	mem_pair_fresh(&pair);
	w.wr.rkey = 0xdeadbeef;
	w.wr.remote_addr = UINT64_MAX;
	w.sge.lkey = 0x12345678;
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0, "WRITE of no bytes with any rkey succeeds");
	w.wr.opcode = VIRTIO_RDMA_WR_RDMA_READ;
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0, "READ of no bytes with any rkey succeeds");
	w.wr.num_sge = 0;
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && IN(a, RTS) && IN(b, RTS), "READ without SGEs succeeds");
	mem_pair_drop_qps(&pair);
}

static void invalid_request(struct mem_wr w, uint32_t access, uint8_t max_dest, const char *what)
{
	mem_pattern(a->buf, MEM_BUF, MEM_SEED_A);
	mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
	mem_pair_qps(&pair);
	b->attr.access_flags = htole32(access);
	b->attr.max_dest_rd_atomic = max_dest;
	mem_pair_connect(&pair);
	refused(w, WC(REM_INV_REQ_ERR), VIRTIO_RDMA_EVENT_QP_REQ_ERR, what);
}

static void test_invalid_request(void)
{
	uint32_t all = MEM_ALL_ACCESS & ~VIRTIO_RDMA_ACCESS_LOCAL_WRITE;
	struct mem_wr w;
	char what[80];

	for (unsigned int i = 0; i < 4; i++) {
		w = mem_wr(a, b, remote_ops[i].opcode, remote_ops[i].length);
		snprintf(what, sizeof(what), "QP lacks the right, %s", remote_ops[i].name);
		invalid_request(w, all & ~remote_ops[i].right, 16, what);
		if (i == 0)
			continue;
		snprintf(what, sizeof(what), "max_dest_rd_atomic 0, %s", remote_ops[i].name);
		invalid_request(w, all, 0, what);
	}
	w = mem_wr(a, b, VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD, 8);
	w.wr.remote_addr += 4;
	invalid_request(w, all, 16, "misaligned FETCH_AND_ADD");
	w = mem_wr(a, b, VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP, 8);
	w.wr.remote_addr += 1;
	invalid_request(w, all, 16, "misaligned CMP_AND_SWP");
}

/* ---- receives ------------------------------------------------------------------------ */

static void receive_error(const struct guest_sge *sge, unsigned int num, uint8_t recv_status,
			  uint8_t status, const char *what)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 200);

	mem_pair_fresh(&pair);
	guest_post_recv(&b->qp, sge, num);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == status && IN(a, ERR), "%s: the requester's completion and ERR",
	   what);
	ok(mem_status(&b->rcq) == recv_status && IN(b, ERR) && mem_no_event(b) &&
	   mem_untouched(&pair),
	   "%s: the receive's completion and ERR, no event", what);
	mem_pair_drop_qps(&pair);
}

static void test_receives(void)
{
	struct guest_sge sge[2] = { { b->mr.iova, 199, b->mr.lkey } };
	struct guest_mr readonly;

	receive_error(sge, 1, WC(LOC_LEN_ERR), WC(REM_INV_REQ_ERR), "SEND longer than the receive");
	receive_error(sge, 0, WC(LOC_LEN_ERR), WC(REM_INV_REQ_ERR), "SEND to a receive of no bytes");
	sge[0] = (struct guest_sge){ b->mr.iova, 200, b->mr.lkey ^ 0x100 };
	receive_error(sge, 1, WC(LOC_PROT_ERR), WC(REM_OP_ERR), "receive SGE: unknown lkey");
	sge[0] = (struct guest_sge){ b->mr.iova, 100, b->mr.lkey };
	sge[1] = (struct guest_sge){ b->mr.iova + MEM_BUF - 99, 100, b->mr.lkey };
	receive_error(sge, 2, WC(LOC_PROT_ERR), WC(REM_OP_ERR),
		      "receive SGE: the second one out of bounds");
	if (guest_mr_reg(b->g, b->pd, b->buf, MEM_BUF, VIRTIO_RDMA_ACCESS_REMOTE_READ, &readonly))
		guest_fatal("no MR");
	sge[0] = (struct guest_sge){ readonly.iova, 200, readonly.lkey };
	receive_error(sge, 1, WC(LOC_PROT_ERR), WC(REM_OP_ERR),
		      "receive SGE: MR without LOCAL_WRITE");
	guest_mr_dereg(&readonly);

	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 200);

	mem_pair_fresh(&pair);
	mem_recv(b, 0, 200);
	((struct virtio_rdma_recv_wqe *)b->qp.rq.ring)->num_sge = htole32(1000);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == WC(REM_OP_ERR) && mem_status(&b->rcq) == WC(LOC_QP_OP_ERR) &&
	   IN(a, ERR) && IN(b, ERR) && mem_untouched(&pair), "a malformed receive");
	mem_pair_drop_qps(&pair);
}

/* rnr_retry, the number of RNR NAKs, and the minimum duration. */
static void no_receive(uint8_t rnr_retry, uint8_t opcode)
{
	struct mem_wr w = mem_wr(a, b, opcode, 64);
	uint64_t before, took, naks = guest_stat(a->g, "rnr");

	mem_pair_qps(&pair);
	a->attr.rnr_retry = rnr_retry;
	b->attr.min_rnr_timer = 20;		/* 10.24 ms */
	mem_pair_connect(&pair);
	mem_pattern(a->buf, MEM_BUF, MEM_SEED_A);
	mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
	before = guest_now_ns();
	mem_post(a, &w);
	ok(mem_status(&a->scq) == WC(RNR_RETRY_EXC_ERR) && IN(a, ERR),
	   "no receive posted, rnr_retry %u, opcode %u", rnr_retry, opcode);
	took = guest_now_ns() - before;
	ok(took >= rnr_retry * 10240000ULL, "after the retries' time (%llu ms)",
	   (unsigned long long)took / 1000000);
	ok(IN(b, RTS) && mem_no_event(b) && mem_no_cqe(&b->rcq) && mem_untouched(&pair),
	   "the responder stays in RTS");
	ok(guest_stat(a->g, "rnr") == naks + rnr_retry + 1, "each RNR is counted");
	mem_pair_drop_qps(&pair);
}

static void test_rnr(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 64);

	no_receive(0, VIRTIO_RDMA_WR_SEND);
	no_receive(1, VIRTIO_RDMA_WR_SEND_WITH_IMM);
	no_receive(6, VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM);

	mem_pair_fresh(&pair);			/* rnr_retry 7, 0.64 ms */
	mem_post(a, &w);
	usleep(200000);
	ok(mem_no_cqe(&a->scq) && IN(a, RTS), "no receive posted, rnr_retry 7: waits for ever");
	mem_recv(b, 0, 64);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0, "until there is one");

	mem_post(a, &w);
	usleep(20000);
	guest_qp_set_state(&b->qp, VIRTIO_RDMA_QPS_ERR);
	ok(mem_status(&a->scq) == WC(RETRY_EXC_ERR), "or until the peer is gone");
	mem_pair_drop_qps(&pair);
}

static void test_still_works(void)
{
	mem_pair_qps(&pair);
	mem_pair_connect(&pair);
	ok(mem_carries(a, b, 7) && mem_carries(b, a, 9), "both devices still work");
	mem_pair_drop_qps(&pair);
}

int main(void)
{
	mem_pair_open(&pair, 2, 0);
	test_rkey();
	test_write_imm_rkey();
	test_zero_length();
	test_invalid_request();
	test_receives();
	test_rnr();
	test_still_works();
	mem_pair_close(&pair);
	return tap_done();
}
