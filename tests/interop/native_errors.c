// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The outcome of violations: each row of the project's table, on the host's device.  Where
 * Soft-RoCE is known to differ from the InfiniBand specification, the row contains
 * Soft-RoCE's outcome (Documentation/ibverbs.rst has the same table); any other outcome is a
 * failure.
 */
#include <unistd.h>

#include "native.h"

#define NONE		(-1)
#define ERR		VIRTIO_RDMA_QPS_ERR
#define RTS		VIRTIO_RDMA_QPS_RTS
#define EVENT(name)	VIRTIO_RDMA_EVENT_##name
/* Time for what follows the requester's completion, or must not follow. */
#define AFTER_MS	60

/* What both sides observed. */
struct outcome {
	int status;			/* requester's completion */
	int a_state;
	int recv;			/* responder's receive completion, or NONE */
	int event;			/* responder's event, or NONE */
	int b_state;
};

static bool same(const struct outcome *x, const struct outcome *y)
{
	return !memcmp(x, y, sizeof(*x));
}

static void print(const char *who, const struct outcome *o)
{
	printf("# %s: requester status %d state %d; responder: receive %d event %d state %d\n", who,
	       o->status, o->a_state, o->recv, o->event, o->b_state);
}

static struct outcome observe(void)
{
	struct outcome o = { .recv = NONE, .event = NONE };
	struct virtio_rdma_event event;
	struct virtio_rdma_cqe cqe;

	o.status = mem_status(&p.a.scq);
	if (guest_poll_wait(&p.b.rcq, &cqe, AFTER_MS))
		o.recv = cqe.status;
	/* Ignores COMM_EST. */
	while (guest_event(p.b.g, &event, AFTER_MS))
		if (le32toh(event.type) != EVENT(COMM_EST)) {
			o.event = le32toh(event.type);
			break;
		}
	o.a_state = guest_qp_state(&p.a.qp);
	o.b_state = guest_qp_state(&p.b.qp);
	return o;
}

/* @rxe: the outcome of Soft-RoCE where it differs; or NULL. */
static void expect(const char *what, struct outcome spec, const struct outcome *rxe)
{
	struct outcome got = observe();
	bool soft = !strncmp(ibdev, "rxe", 3) && !by_memory;

	if (same(&got, &spec)) {
		ok(!rxe || !soft, "%s%s", what, rxe && soft ? ": as specified, but the table says that Soft-RoCE differs" : "");
		return;
	}
	if (!ok(rxe && soft && same(&got, rxe), "%s%s", what,
		rxe ? " (Soft-RoCE differs from the specification)" : "")) {
		print("got", &got);
		print("specified", &spec);
	}
}

#define RXE(...)	(&(struct outcome){ __VA_ARGS__ })

/* ---- requester ------------------------------------------------------------------- */

static void local(const char *what, struct mem_wr w, uint8_t status)
{
	fresh();
	mem_post(&p.a, &w);
	/* Soft-RoCE flushes the failed request together with all others. */
	expect(what, (struct outcome){ status, ERR, NONE, NONE, RTS },
	       RXE(WC(WR_FLUSH_ERR), ERR, NONE, NONE, RTS));
	ok(mem_has_pattern(p.b.buf, MEM_BUF, MEM_SEED_B), "%s: no byte moved", what);
	drop();
}

static void test_local(void)
{
	struct mem_wr good = mem_wr(&p.a, &p.b, W, 64), w;
	struct guest_mr other;
	uint32_t pd;

	w = good;
	w.sge.lkey ^= 0x1000;
	local("send SGE: unknown lkey", w, WC(LOC_PROT_ERR));
	w = good;
	w.sge.addr += MEM_BUF - 63;
	local("send SGE: one byte out of bounds", w, WC(LOC_PROT_ERR));
	if (guest_pd_alloc(&p.a.ctx, &pd) ||
	    guest_mr_reg(p.a.g, pd, p.a.buf, MEM_BUF, MEM_ALL_ACCESS, &other))
		guest_fatal("no MR");
	w = good;
	w.sge.lkey = other.lkey;
	local("send SGE: MR of another PD", w, WC(LOC_PROT_ERR));
	guest_mr_dereg(&other);
	guest_destroy_handle(p.a.g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd);
	w = good;
	w.sge.lkey = VIRTIO_RDMA_LOCAL_DMA_LKEY;
	local("send SGE: the DMA key", w, WC(LOC_PROT_ERR));
}

/* The requester's own error on each transport, although Soft-RoCE would send it. */
static void test_too_long(void)
{
	static const uint8_t ops[] = { W, SEND, READ };
	const uint32_t max = port_max_msg_sz(p.a.g);
	struct guest_sge sge[2] = {
		{ p.a.mr.iova, max, p.a.mr.lkey }, { p.a.mr.iova, 1, p.a.mr.lkey },
	};

	for (unsigned int i = 0; i < sizeof(ops); i++) {
		struct mem_wr w = mem_wr(&p.a, &p.b, ops[i], 0);

		fresh();
		mem_recv(&p.b, 0, 4096);
		w.wr.num_sge = 2;
		w.wr.sge = sge;
		guest_post_send(&p.a.qp, &w.wr);
		expect("longer than max_msg_sz", (struct outcome){ WC(LOC_LEN_ERR), ERR, NONE, NONE, RTS },
		       NULL);
		ok(mem_has_pattern(p.b.buf, MEM_BUF, MEM_SEED_B), "longer than max_msg_sz: no byte moved");
		drop();
	}
}

/* An entry that the core refuses fails in its order. */
static void test_malformed(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 64);
	struct virtio_rdma_rc_wqe *wqe;
	struct virtio_rdma_cqe cqe;
	uint32_t index;
	bool good = true;

	fresh();
	w.wr.sge = &w.sge;
	for (unsigned int i = 0; i < 10; i++) {
		w.wr.flags = i == 4 ? SIGNALED : 0;
		wqe = (void *)(p.a.qp.sq.ring + i * p.a.qp.sq.stride);
		guest_write_send(&p.a.qp, &w.wr);
		if (i == 5)
			wqe->ctrl.opcode = 77;
		/* Soft-RoCE would flush them although they have been sent. */
		if (i == 4) {
			guest_ring_sq(&p.a.qp);
			is(mem_cqe(&p.a.scq, &cqe), 0, "malformed WQE: those before it succeed");
		}
	}
	guest_ring_sq(&p.a.qp);
	is(mem_cqe(&p.a.scq, &cqe), WC(LOC_QP_OP_ERR), "malformed WQE: LOC_QP_OP_ERR");
	is(le32toh(cqe.wqe_index), 5, "in its place");
	for (index = 6; index < 10; index++)
		good &= mem_cqe(&p.a.scq, &cqe) == WC(WR_FLUSH_ERR) &&
			le32toh(cqe.wqe_index) == index;
	ok(good, "those after it are flushed, in order");
	ok(mem_in_state(&p.a, ERR) && guest_qp_state(&p.b.qp) == RTS, "and the QP is in ERR");
	drop();

	fresh();
	p.a.qp.sq.producer = p.a.qp.sq.entries + 1;
	guest_ring_sq(&p.a.qp);
	ok(mem_status(&p.a.scq) == WC(LOC_QP_OP_ERR) && mem_in_state(&p.a, ERR) &&
	   mem_no_cqe(&p.a.scq), "an impossible producer index");
	drop();
}

/* ---- responder ---------------------------------------------------------------------- */

static void remote(const char *what, struct mem_wr w, uint8_t status, uint32_t event,
		   const struct outcome *rxe)
{
	mem_post(&p.a, &w);
	expect(what, (struct outcome){ status, ERR, NONE, (int)event, ERR }, rxe);
	ok(mem_has_pattern(p.b.buf, MEM_BUF, MEM_SEED_B), "%s: no byte moved", what);
	drop();
}

/* Soft-RoCE raises no events for errors of queue pairs. */
static void access_error(const char *what, struct mem_wr w)
{
	fresh();
	remote(what, w, WC(REM_ACCESS_ERR), EVENT(QP_ACCESS_ERR),
	       RXE(WC(REM_ACCESS_ERR), ERR, NONE, NONE, ERR));
}

static void invalid_request(const char *what, struct mem_wr w, uint32_t access, uint8_t max_dest)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .max_recv_sge = 2 };

	mem_pattern(p.b.buf, MEM_BUF, MEM_SEED_B);
	mem_pair_qps_init(&p, &init, 256);
	p.a.attr.path_mtu = p.b.attr.path_mtu = 3;
	p.a.attr.timeout = p.b.attr.timeout = 14;
	p.b.attr.access_flags = htole32(access);
	p.b.attr.max_dest_rd_atomic = max_dest;
	mem_pair_connect(&p);
	remote(what, w, WC(REM_INV_REQ_ERR), EVENT(QP_REQ_ERR),
	       RXE(WC(REM_INV_REQ_ERR), ERR, NONE, NONE, ERR));
}

/* Not every host accepts it, so it fails at the requester; the memory transport accepts it. */
static void misaligned_atomic(struct mem_wr x)
{
	fresh();
	x.wr.remote_addr += 4;
	mem_post(&p.a, &x);
	expect("misaligned atomic", by_memory ?
	       (struct outcome){ WC(REM_INV_REQ_ERR), ERR, NONE, EVENT(QP_REQ_ERR), ERR } :
	       (struct outcome){ WC(REM_INV_REQ_ERR), ERR, NONE, NONE, RTS }, NULL);
	drop();
}

static void test_remote(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 64), r = mem_wr(&p.a, &p.b, READ, 64), x;
	struct mem_wr f = mem_wr(&p.a, &p.b, FADD, 8);
	struct guest_mr other, readable;
	uint32_t pd;
	const uint32_t all = VIRTIO_RDMA_ACCESS_REMOTE_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_READ |
			     VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC;

	x = w;
	x.wr.rkey ^= 0x1000;
	access_error("WRITE, unknown rkey", x);
	x = w;
	x.wr.remote_addr += MEM_BUF - 63;
	access_error("WRITE, one byte out of bounds", x);
	x = r;
	x.wr.remote_addr += MEM_BUF - 63;
	access_error("READ, one byte out of bounds", x);
	if (guest_pd_alloc(&p.b.ctx, &pd) ||
	    guest_mr_reg(p.b.g, pd, p.b.buf, MEM_BUF, MEM_ALL_ACCESS, &other) ||
	    guest_mr_reg(p.b.g, p.b.pd, p.b.buf, MEM_BUF, VIRTIO_RDMA_ACCESS_REMOTE_READ, &readable))
		guest_fatal("no MR");
	x = w;
	x.wr.rkey = other.rkey;
	access_error("WRITE, MR of another PD", x);
	x = w;
	x.wr.rkey = readable.rkey;
	access_error("WRITE, MR without REMOTE_WRITE", x);
	x = f;
	x.wr.rkey = readable.rkey;
	if (has_atomics)
		access_error("atomic, MR without REMOTE_ATOMIC", x);
	guest_mr_dereg(&other);
	guest_mr_dereg(&readable);
	guest_destroy_handle(p.b.g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd);

	invalid_request("WRITE, QP without the right", w, all & ~VIRTIO_RDMA_ACCESS_REMOTE_WRITE,
			16);
	invalid_request("READ, QP without the right", r, all & ~VIRTIO_RDMA_ACCESS_REMOTE_READ, 16);
	if (has_atomics)
		invalid_request("atomic, QP without the right", f,
				all & ~VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC, 16);
	invalid_request("READ, max_dest_rd_atomic 0", r, all, 0);
	if (has_atomics)
		misaligned_atomic(f);

	fresh();
	x = w;
	x.sge.length = 0;
	x.wr.rkey = 0x5555;
	mem_post(&p.a, &x);
	expect("WRITE of no bytes with any rkey", (struct outcome){ 0, RTS, NONE, NONE, RTS }, NULL);
	drop();
	fresh();
	x = r;
	x.sge.length = 0;
	x.wr.rkey = 0x5555;
	mem_post(&p.a, &x);
	expect("READ of no bytes with any rkey", (struct outcome){ 0, RTS, NONE, NONE, RTS }, NULL);
	drop();
}

static void test_receives(void)
{
	struct mem_wr s = mem_wr(&p.a, &p.b, SEND, 64);
	struct guest_sge bad = { p.b.mr.iova, 4096, p.b.mr.lkey ^ 0x1000 };

	fresh();
	mem_recv(&p.b, 0, 63);
	mem_post(&p.a, &s);
	expect("SEND longer than the receive",
	       (struct outcome){ WC(REM_INV_REQ_ERR), ERR, WC(LOC_LEN_ERR), NONE, ERR },
	       RXE(WC(REM_OP_ERR), ERR, WC(LOC_QP_OP_ERR), NONE, ERR));
	drop();
	fresh();
	guest_post_recv(&p.b.qp, &bad, 1);
	mem_post(&p.a, &s);
	expect("bad receive SGE",
	       (struct outcome){ WC(REM_OP_ERR), ERR, WC(LOC_PROT_ERR), NONE, ERR },
	       RXE(WC(REM_OP_ERR), ERR, WC(LOC_QP_OP_ERR), NONE, ERR));
	drop();

	fresh();
	drop();
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .max_recv_sge = 2 };

	mem_pair_qps_init(&p, &init, 256);
	p.a.attr.path_mtu = p.b.attr.path_mtu = 3;
	p.a.attr.timeout = p.b.attr.timeout = 14;
	p.a.attr.rnr_retry = 2;
	mem_pair_connect(&p);
	mem_post(&p.a, &s);
	expect("no receive posted, rnr_retry 2",
	       (struct outcome){ WC(RNR_RETRY_EXC_ERR), ERR, NONE, NONE, RTS }, NULL);
	drop();
	fresh();
	mem_post(&p.a, &s);
	ok(mem_no_cqe(&p.a.scq), "no receive posted, rnr_retry 7: waits");
	mem_recv(&p.b, 0, 64);
	ok(mem_status(&p.a.scq) == 0 && mem_status(&p.b.rcq) == 0, "until there is one");
	drop();

	mem_pair_qps_init(&p, &init, 256);
	p.a.attr.path_mtu = p.b.attr.path_mtu = 3;
	p.a.attr.timeout = 12;
	p.a.attr.retry_cnt = 2;
	p.a.attr.dest_qpn = htole32(0xabcdef);
	mem_pair_connect(&p);
	mem_post(&p.a, &s);
	expect("nobody answers", (struct outcome){ WC(RETRY_EXC_ERR), ERR, NONE, NONE, RTS }, NULL);
	drop();
}

/* ---- flush, overflow ----------------------------------------------------------------- */

static bool flushed(struct guest_cq *cq, uint32_t first, uint32_t num)
{
	return mem_in_order(cq, WC(WR_FLUSH_ERR), first, num);
}

static void test_flush(void)
{
	struct mem_wr s = mem_wr(&p.a, &p.b, SEND, 64);

	fresh();
	for (unsigned int i = 0; i < 30; i++) {
		mem_recv(&p.a, 0, 64);
		s.wr.flags = i % 2 ? SIGNALED : 0;
		mem_post(&p.a, &s);		/* no receive is posted for them */
	}
	usleep(20000);
	is(guest_qp_set_state(&p.a.qp, ERR), 0, "to ERR with work outstanding");
	ok(flushed(&p.a.scq, 0, 30), "each send is flushed, in order, signaled or not");
	ok(flushed(&p.a.rcq, 0, 30), "and each receive");
	mem_post(&p.a, &s);
	mem_recv(&p.a, 0, 64);
	ok(flushed(&p.a.scq, 30, 1) && flushed(&p.a.rcq, 30, 1), "work posted in ERR is flushed");
	is(guest_qp_reset(&p.a.qp), 0, "RESET");
	is(mem_bring_up(&p.a, RTS), 0, "and RTS again");
	ok(mem_no_cqe(&p.a.scq) && mem_no_cqe(&p.a.rcq), "nothing of the earlier life comes");
	drop();
}

static void test_overflow(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .max_recv_sge = 2 };
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 8);
	struct virtio_rdma_event event;

	mem_pair_qps_init(&p, &init, 16);
	p.a.attr.path_mtu = p.b.attr.path_mtu = 3;
	mem_pair_connect(&p);
	for (unsigned int i = 0; i < 40; i++)
		mem_post(&p.a, &w);
	ok(guest_event(p.a.g, &event, MEM_WAIT_MS) && le32toh(event.type) == EVENT(CQ_ERR) &&
	   le32toh(event.id) == p.a.scq.cqn, "CQ overflow: CQ_ERR");
	ok(mem_in_state(&p.a, ERR), "and its QP goes to ERR");
	mem_recv(&p.a, 0, 64);
	ok(flushed(&p.a.rcq, 0, 1), "on the host as well, which flushes a receive");
	drop();
}

void test_errors(void)
{
	test_local();
	test_malformed();
	test_too_long();
	test_remote();
	test_receives();
	test_flush();
	test_overflow();
}
