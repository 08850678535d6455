// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: errors of the requester itself, peers that do not answer, flushing, and
 * full completion queues: completions, events and states of both sides.  Errors that the
 * responder finds are in test_memory_refused.c.
 */
#include <time.h>
#include <unistd.h>

#include "mem_pair.h"
#include "tap.h"

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;

#define WC(name)	VIRTIO_RDMA_WC_##name
#define IN(end, name)	mem_in_state(end, VIRTIO_RDMA_QPS_##name)

/* ---- requester ------------------------------------------------------------------ */

/* An error of the requester, with the SGEs of @wr; the responder is not affected. */
static void own_sges_error(struct mem_wr w, uint8_t status, const char *what)
{
	mem_pair_fresh(&pair);
	mem_recv(b, 0, 4096);
	w.wr.flags &= ~VIRTIO_RDMA_WQE_SIGNALED;	/* errors complete although not signaled */
	guest_post_send(&a->qp, &w.wr);
	ok(mem_status(&a->scq) == status && IN(a, ERR), "%s: completion and ERR", what);
	ok(IN(b, RTS) && mem_no_event(b) && mem_no_cqe(&b->rcq) && mem_untouched(&pair),
	   "%s: the responder is untouched", what);
	mem_pair_drop_qps(&pair);
}

static void local_error(struct mem_wr w, uint8_t status, const char *what)
{
	w.wr.sge = &w.sge;
	own_sges_error(w, status, what);
}

static void test_send_sge(void)
{
	struct mem_wr good = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64), w;
	struct guest_mr other, readonly;
	uint32_t pd;

	w = good;
	w.sge.lkey ^= 0x1000;
	local_error(w, WC(LOC_PROT_ERR), "send SGE: unknown lkey");
	w = good;
	w.sge.lkey ^= 1;
	local_error(w, WC(LOC_PROT_ERR), "send SGE: wrong low byte of the lkey");
	w = good;
	w.sge.lkey = VIRTIO_RDMA_LOCAL_DMA_LKEY;
	local_error(w, WC(LOC_PROT_ERR), "send SGE: the DMA key, from a process");
	w = good;
	w.sge.addr += MEM_BUF - 63;
	local_error(w, WC(LOC_PROT_ERR), "send SGE: one byte out of bounds");
	w = good;
	w.sge.addr--;
	local_error(w, WC(LOC_PROT_ERR), "send SGE: one byte before");
	w = good;
	w.sge.addr = UINT64_MAX - 10;
	local_error(w, WC(LOC_PROT_ERR), "send SGE: wraps");
	w = good;
	w.wr.opcode = VIRTIO_RDMA_WR_SEND;
	w.sge.lkey ^= 0x1000;
	local_error(w, WC(LOC_PROT_ERR), "send SGE of a SEND");

	if (guest_pd_alloc(&a->ctx, &pd) ||
	    guest_mr_reg(a->g, pd, a->buf, MEM_BUF, MEM_ALL_ACCESS, &other) ||
	    guest_mr_reg(a->g, a->pd, a->buf, MEM_BUF, 0, &readonly))
		guest_fatal("no MR");
	w = good;
	w.sge.lkey = other.lkey;
	local_error(w, WC(LOC_PROT_ERR), "send SGE: MR of another PD");
	w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_READ, 64);
	w.sge.lkey = readonly.lkey;
	local_error(w, WC(LOC_PROT_ERR), "READ into an MR without LOCAL_WRITE");
	guest_mr_dereg(&other);
	guest_mr_dereg(&readonly);
	guest_destroy_handle(a->g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd);
}

/* A WQE of raw bytes. */
static void malformed(const char *what, void (*spoil)(struct virtio_rdma_rc_wqe *wqe))
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);

	mem_pair_fresh(&pair);
	w.wr.sge = &w.sge;
	guest_write_send(&a->qp, &w.wr);
	spoil((struct virtio_rdma_rc_wqe *)a->qp.sq.ring);
	guest_ring_sq(&a->qp);
	ok(mem_status(&a->scq) == WC(LOC_QP_OP_ERR) && IN(a, ERR) && IN(b, RTS) &&
	   mem_untouched(&pair),
	   "malformed WQE: %s", what);
	mem_pair_drop_qps(&pair);
}

static void bad_opcode(struct virtio_rdma_rc_wqe *wqe) { wqe->ctrl.opcode = 77; }
static void bind_opcode(struct virtio_rdma_rc_wqe *wqe) { wqe->ctrl.opcode = VIRTIO_RDMA_WR_BIND_MW; }
static void bad_flags(struct virtio_rdma_rc_wqe *wqe) { wqe->ctrl.flags = htole16(0x8001); }
static void many_sges(struct virtio_rdma_rc_wqe *wqe) { wqe->ctrl.num_sge = 255; }
static void bad_reserved(struct virtio_rdma_rc_wqe *wqe) { wqe->reserved = 1; }

static void long_inline(struct virtio_rdma_rc_wqe *wqe)
{
	wqe->ctrl.flags = htole16(VIRTIO_RDMA_WQE_INLINE);
	wqe->ctrl.num_sge = 0;
	wqe->ctrl.inline_len = htole32(0xffffffff);
}

static void test_malformed(void)
{
	malformed("opcode", bad_opcode);
	malformed("an opcode that is not offered", bind_opcode);
	malformed("flags", bad_flags);
	malformed("too many SGEs", many_sges);
	malformed("reserved field", bad_reserved);
	malformed("inline length", long_inline);
}

static uint32_t max_msg_sz(void)
{
	struct virtio_rdma_query_port_req req = { .port_num = htole32(1) };
	struct virtio_rdma_query_port_rsp rsp;

	if (guest_command(a->g, VIRTIO_RDMA_CMD_QUERY_PORT, &req, &rsp))
		guest_fatal("QUERY_PORT fails");
	return le32toh(rsp.max_msg_sz);
}

/*
 * Longer than max_msg_sz: the requester's own error, before any SGE is looked at and
 * whether or not there is a responder.  The sums do not fit into 32 bits.
 */
static void test_too_long(void)
{
	static const uint8_t ops[] = {
		VIRTIO_RDMA_WR_RDMA_WRITE, VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM, VIRTIO_RDMA_WR_SEND,
		VIRTIO_RDMA_WR_SEND_WITH_IMM, VIRTIO_RDMA_WR_RDMA_READ,
	};
	const uint32_t max = max_msg_sz();
	const uint32_t lengths[][2] = {
		{ max + 1, 0 }, { UINT32_MAX, 0 }, { max, 1 }, { 1, max }, { 1U << 31, 1U << 31 },
		{ UINT32_MAX, UINT32_MAX }, { UINT32_MAX, 65 },
	};
	struct guest_sge sge[2];
	struct mem_wr w;
	char what[80];

	for (unsigned int op = 0; op < sizeof(ops); op++)
		for (unsigned int i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			w = mem_wr(a, b, ops[op], 0);
			sge[0] = (struct guest_sge){ a->mr.iova, lengths[i][0], a->mr.lkey };
			sge[1] = (struct guest_sge){ a->mr.iova, lengths[i][1], a->mr.lkey };
			w.wr.num_sge = lengths[i][1] ? 2 : 1;
			w.wr.sge = sge;
			snprintf(what, sizeof(what), "%u + %u bytes, opcode %u", lengths[i][0],
				 lengths[i][1], ops[op]);
			own_sges_error(w, WC(LOC_LEN_ERR), what);
		}

	w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 0);
	w.sge.length = max;
	local_error(w, WC(LOC_PROT_ERR), "max_msg_sz bytes are not too long, but out of bounds");

	mem_pair_qps(&pair);
	mem_bring_up(a, VIRTIO_RDMA_QPS_RTS);
	w.sge.length = max + 1;
	mem_post(a, &w);
	ok(mem_status(&a->scq) == WC(LOC_LEN_ERR) && IN(a, ERR), "too long, and nobody there");
	mem_pair_drop_qps(&pair);
}

static void test_impossible_producer(void)
{
	mem_pair_fresh(&pair);
	a->qp.sq.producer = a->qp.sq.entries + 1;
	guest_ring_sq(&a->qp);
	ok(mem_status(&a->scq) == WC(LOC_QP_OP_ERR) && IN(a, ERR) && mem_no_cqe(&a->scq) &&
	   IN(b, RTS), "an impossible producer index of the SQ is a malformed WQE");
	mem_pair_drop_qps(&pair);

	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 64);

	mem_pair_fresh(&pair);
	b->qp.rq.producer = 0x80000000;
	guest_ring_rq(&b->qp);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == WC(REM_OP_ERR) && mem_status(&b->rcq) == WC(LOC_QP_OP_ERR) &&
	   IN(a, ERR) && IN(b, ERR) && mem_no_cqe(&b->rcq),
	   "an impossible producer index of the RQ is a malformed receive");
	mem_pair_drop_qps(&pair);
}

/* ---- nobody answers ------------------------------------------------------------------- */

/* timeout 8 is 1.05 ms, but the device waits at least a millisecond. */
static void no_answer(const char *what)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	uint64_t before = guest_now_ns(), retries = guest_stat(a->g, "retry"), took;

	mem_pattern(a->buf, MEM_BUF, MEM_SEED_A);
	mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == WC(RETRY_EXC_ERR) && IN(a, ERR) && mem_untouched(&pair), "%s", what);
	took = guest_now_ns() - before;
	ok(took >= 4 * (4096ULL << 8) && guest_stat(a->g, "retry") == retries + 3,
	   "after retry_cnt retries (%llu us)", (unsigned long long)took / 1000);
}

static void test_no_peer(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);

	mem_pair_qps(&pair);
	mem_bring_up(a, VIRTIO_RDMA_QPS_RTS);
	no_answer("peer in RESET");
	mem_pair_drop_qps(&pair);

	mem_pair_qps(&pair);
	mem_bring_up(a, VIRTIO_RDMA_QPS_RTS);
	mem_bring_up(b, VIRTIO_RDMA_QPS_INIT);
	no_answer("peer in INIT");
	mem_pair_drop_qps(&pair);

	mem_pair_fresh(&pair);
	guest_qp_set_state(&b->qp, VIRTIO_RDMA_QPS_ERR);
	no_answer("peer in ERR");
	mem_pair_drop_qps(&pair);

	mem_pair_qps(&pair);
	a->attr.dest_qpn = htole32(0xfffffe);
	mem_pair_connect(&pair);
	no_answer("no such QP");
	mem_pair_drop_qps(&pair);

	mem_pair_qps(&pair);
	b->attr.dest_qpn = htole32(le32toh(b->attr.dest_qpn) + 1);
	mem_pair_connect(&pair);
	no_answer("peer connected to another QP");
	mem_pair_drop_qps(&pair);

	mem_pair_qps(&pair);
	memcpy(b->attr.av.dgid, b->g->gid, 16);
	mem_pair_connect(&pair);
	no_answer("peer connected to another port");
	mem_pair_drop_qps(&pair);

	mem_pair_qps(&pair);
	a->attr.av.dgid[15] ^= 0x55;
	mem_pair_connect(&pair);
	no_answer("no such GID");
	mem_pair_drop_qps(&pair);

	mem_pair_fresh(&pair);
	mem_post(a, &w);
	if (mem_status(&a->scq))
		guest_fatal("WRITE fails");
	guest_qp_destroy(&b->qp);
	b->qp.g = NULL;
	no_answer("peer destroyed after it had been used");
	mem_pair_drop_qps(&pair);

	mem_pair_fresh(&pair);
	mem_post(a, &w);
	if (mem_status(&a->scq))
		guest_fatal("WRITE fails");
	guest_del_gid(b->g, 0);
	no_answer("peer's GID removed");
	guest_add_gid(b->g, 0, b->g->gid);
	mem_pair_drop_qps(&pair);

	mem_pair_fresh(&pair);
	mem_post(a, &w);
	if (mem_status(&a->scq))
		guest_fatal("WRITE fails");
	guest_del_gid(a->g, 0);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == WC(LOC_QP_OP_ERR) && IN(a, ERR) && IN(b, RTS),
	   "the requester's own GID removed: nothing is sent from another address");
	guest_add_gid(a->g, 0, a->g->gid);
	mem_pair_drop_qps(&pair);

	mem_pair_qps(&pair);
	a->attr.timeout = 0;
	a->attr.retry_cnt = 0;
	mem_bring_up(a, VIRTIO_RDMA_QPS_RTS);
	mem_post(a, &w);
	usleep(300000);
	ok(mem_no_cqe(&a->scq) && IN(a, RTS), "timeout 0 waits for ever");
	mem_bring_up(b, VIRTIO_RDMA_QPS_RTS);
	ok(mem_status(&a->scq) == 0, "until the peer is there");
	mem_pair_drop_qps(&pair);
}

/* ---- waiting is idle --------------------------------------------------------------------- */

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void idle_for_a_while(const char *what)
{
	uint64_t before, used;

	usleep(50000);
	before = cpu_ns();
	usleep(400000);
	used = cpu_ns() - before;
	ok(used < 40000000, "%s: no CPU is burnt (%llu us of 400 ms)", what,
	   (unsigned long long)used / 1000);
}

static void test_idle(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 64);

	mem_pair_fresh(&pair);
	mem_post(a, &w);
	idle_for_a_while("waiting for a receive");
	mem_pair_drop_qps(&pair);

	mem_pair_qps(&pair);
	a->attr.timeout = 0;
	mem_bring_up(a, VIRTIO_RDMA_QPS_RTS);
	mem_post(a, &w);
	idle_for_a_while("waiting for the peer");
	mem_pair_drop_qps(&pair);

	mem_pair_fresh(&pair);
	guest_stop_queues(b->g);
	mem_post(a, &w);
	idle_for_a_while("waiting for a paused peer");
	guest_start_queues(b->g);
	mem_pair_drop_qps(&pair);
}

/* ---- flush ---------------------------------------------------------------------------- */

/* @num completions of WR_FLUSH_ERR with indices from @first on. */
static bool flushed(struct guest_cq *cq, uint32_t first, uint32_t num)
{
	struct virtio_rdma_cqe cqe;

	for (uint32_t i = first; i < first + num; i++)
		if (!guest_poll_wait(cq, &cqe, MEM_WAIT_MS) || cqe.status != WC(WR_FLUSH_ERR) ||
		    le32toh(cqe.wqe_index) != i)
			return false;
	return true;
}

static void test_flush(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 64);

	mem_pair_fresh(&pair);
	w.wr.flags = 0;
	for (int i = 0; i < 30; i++) {
		mem_post(a, &w);		/* waits for a receive */
		mem_recv(a, 0, 64);
	}
	usleep(10000);
	guest_qp_set_state(&a->qp, VIRTIO_RDMA_QPS_ERR);
	ok(flushed(&a->scq, 0, 30), "to ERR with sends outstanding: each flushed, in order");
	ok(flushed(&a->rcq, 0, 30), "and each receive");
	mem_post(a, &w);
	mem_recv(a, 0, 64);
	ok(flushed(&a->scq, 30, 1) && flushed(&a->rcq, 30, 1), "work posted in ERR is flushed");
	ok(mem_no_cqe(&a->scq) && mem_no_cqe(&a->rcq) && mem_no_event(a), "and nothing else happens");
	mem_pair_drop_qps(&pair);

	mem_pair_fresh(&pair);
	w.wr.flags = 0;
	w.sge.lkey ^= 0x100;
	w.wr.sge = &w.sge;
	for (int i = 0; i < 10; i++)
		guest_write_send(&a->qp, &w.wr);
	guest_ring_sq(&a->qp);
	ok(mem_status(&a->scq) == WC(LOC_PROT_ERR) && flushed(&a->scq, 1, 9),
	   "an error flushes what was posted after it");
	mem_pair_drop_qps(&pair);
}

/* ---- completion queues ------------------------------------------------------------------ */

static void test_cq_overflow(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 8);
	struct virtio_rdma_event event;

	mem_pair_qps_init(&pair, &init, 8);
	mem_pair_connect(&pair);
	for (int i = 0; i < 9; i++)
		mem_post(a, &w);
	ok(guest_event(a->g, &event, MEM_WAIT_MS) &&
	   le32toh(event.type) == VIRTIO_RDMA_EVENT_CQ_ERR && le32toh(event.id) == a->scq.cqn,
	   "CQ overflow raises CQ_ERR");
	ok(IN(a, ERR) && IN(b, RTS), "CQ overflow: its QP goes to ERR, the peer does not");
	mem_pair_drop_qps(&pair);

	mem_pair_qps_init(&pair, &init, 8);
	mem_pair_connect(&pair);
	w.wr.opcode = VIRTIO_RDMA_WR_SEND;
	for (int i = 0; i < 9; i++) {
		mem_recv(b, 0, 64);
		mem_post(a, &w);
		if (i < 8 && mem_status(&a->scq))
			guest_fatal("SEND fails");
	}
	ok(guest_event(b->g, &event, MEM_WAIT_MS) &&
	   le32toh(event.type) == VIRTIO_RDMA_EVENT_CQ_ERR && le32toh(event.id) == b->rcq.cqn &&
	   IN(b, ERR), "overflow of a receive CQ by the peer's SENDs: CQ_ERR, ERR");
	mem_pair_drop_qps(&pair);
}

/* Finally, both devices still work. */
static void test_still_works(void)
{
	struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 4096);

	mem_pair_fresh(&pair);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && mem_has_pattern(b->buf, 4096, MEM_SEED_A),
	   "both devices still work");
	mem_pair_drop_qps(&pair);
}

/* An opcode of a feature that was not negotiated is unknown, though the device has it. */
static void test_no_atomics(void)
{
	const struct guest_config off = {
		.features_off = 1ULL << VIRTIO_RDMA_F_ATOMIC | 1ULL << VIRTIO_RDMA_F_ATOMIC_GLOBAL,
	};
	static const uint8_t ops[] = {
		VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP, VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD,
	};

	mem_pair_open_with(&pair, 1, 0, &off, &(struct guest_config){ 0 });
	for (unsigned int i = 0; i < 2; i++) {
		struct mem_wr w = mem_wr(a, b, ops[i], 8);

		mem_pair_fresh(&pair);
		mem_post(a, &w);
		ok(mem_status(&a->scq) == WC(LOC_QP_OP_ERR) && IN(a, ERR) && IN(b, RTS) &&
		   mem_untouched(&pair), "atomics not negotiated, opcode %u", ops[i]);
		mem_pair_drop_qps(&pair);
	}
	mem_pair_close(&pair);
}

int main(void)
{
	test_no_atomics();
	mem_pair_open(&pair, 2, 0);
	test_send_sge();
	test_malformed();
	test_too_long();
	test_impossible_producer();
	test_no_peer();
	test_idle();
	test_flush();
	test_cq_overflow();
	test_still_works();
	mem_pair_close(&pair);
	return tap_done();
}
