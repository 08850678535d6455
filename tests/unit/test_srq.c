// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Shared receive queues: their commands, and receives taken off them by RC, UC
 * and UD QPs of the memory backend; limit, errors, events, who waits for them.
 * (What becomes of an entry whose QP goes: test_memory_partial.c.)
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "mem_pair.h"
#include "shm.h"
#include "tap.h"

#define ENTRIES		16

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;
static struct guest_srq srq;
/* More senders, each with a QP of b's that has the same SRQ. */
static struct guest_qp more_a[3], more_b[3];

#define WC(name)	VIRTIO_RDMA_WC_##name
#define S(name)		VIRTIO_RDMA_S_##name
#define IN(end, name)	mem_in_state(end, VIRTIO_RDMA_QPS_##name)
#define EVENT(name)	VIRTIO_RDMA_EVENT_##name

/* Fresh QPs of @type; b's has its receives from the SRQ. */
static void fresh_type(uint8_t type)
{
	struct guest_qp_init init = { .type = type, .max_recv_sge = 2 };

	mem_pattern(a->buf, MEM_BUF, MEM_SEED_A);
	mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
	if (guest_srq_create(&b->ctx, b->pd, ENTRIES, 2, &srq))
		guest_fatal("no SRQ");
	b->srq = &srq;
	mem_pair_qps_init(&pair, &init, 64);
	b->srq = NULL;
	mem_pair_connect(&pair);
}

static void fresh(void)
{
	fresh_type(VIRTIO_RDMA_QPT_RC);
}

static void drop(void)
{
	struct virtio_rdma_event event;

	mem_pair_drop_qps(&pair);
	if (guest_srq_destroy(&srq))
		guest_fatal("the SRQ cannot be destroyed");
	while (guest_event(b->g, &event, 0))
		;
}

static void recv_at(uint32_t cookie, uint32_t offset, uint32_t length)
{
	struct guest_sge sge = { b->mr.iova + offset, length, b->mr.lkey };

	guest_post_srq(&srq, cookie, &sge, 1);
}

static void send_on(struct guest_qp *qp, uint8_t opcode, uint32_t length)
{
	struct mem_wr w = mem_wr(a, b, opcode, length);

	w.wr.sge = &w.sge;
	guest_post_send(qp, &w.wr);
}

static void send(uint32_t length)
{
	send_on(&a->qp, VIRTIO_RDMA_WR_SEND, length);
}

static bool received(uint32_t qpn, uint32_t cookie, uint32_t length, uint8_t status)
{
	struct virtio_rdma_cqe cqe;

	return guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) && cqe.status == status &&
	       le32toh(cqe.qpn) == qpn && le32toh(cqe.wqe_index) == cookie &&
	       cqe.opcode & VIRTIO_RDMA_WC_RECV_BIT &&
	       (status || le32toh(cqe.byte_len) == length);
}

static bool srq_event(uint32_t type)
{
	struct virtio_rdma_event event;

	return guest_event(b->g, &event, MEM_WAIT_MS) && le32toh(event.type) == type &&
	       le32toh(event.id) == srq.srqn;
}

/* ---- commands -------------------------------------------------------------------- */

struct create {
	struct virtio_rdma_create_srq_req req;
	struct virtio_rdma_extent ext;
};

static int try_create(const struct create *c)
{
	struct virtio_rdma_create_srq_rsp rsp;
	int status = guest_command_raw(b->g, c, sizeof(*c), &rsp, sizeof(rsp), NULL);

	if (!status && guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DESTROY_SRQ, le32toh(rsp.srqn)))
		return -1;
	return status;
}

static void test_create(void)
{
	struct guest_ctx other;
	uint8_t *mem = guest_alloc(b->g, 2 * GUEST_PAGE);
	struct create good = {
		.req = {
			.hdr.opcode = htole32(VIRTIO_RDMA_CMD_CREATE_SRQ),
			.ctx = htole32(b->ctx.id), .pd = htole32(b->pd),
			.entries = htole32(128), .max_sge = htole32(1),
			.ctrl_offset = htole32(GUEST_PAGE), .buf.num_extents = htole32(1),
		},
		.ext = { .addr = htole64(guest_addr(b->g, mem)), .pages = htole32(2) },
	}, c;
	uint32_t other_pd;

	if (guest_ctx_create(b->g, 0, &other) || guest_pd_alloc(&other, &other_pd))
		guest_fatal("no context");
	is(try_create(&good), S(OK), "CREATE_SRQ");
#define TRY(field, value, want, what) do {					\
		c = good;							\
		c.field = (value);						\
		is(try_create(&c), S(want), "SRQ: " what);			\
	} while (0)
	TRY(req.ctx, htole32(99), NOENT, "unknown context");
	TRY(req.pd, htole32(99), NOENT, "unknown PD");
	TRY(req.pd, htole32(other_pd), INVAL, "PD of another context");
	TRY(req.entries, 0, INVAL, "no entries");
	TRY(req.entries, htole32(3), INVAL, "3 entries");
	TRY(req.entries, htole32(256), INVAL, "entries over the control words");
	TRY(req.entries, htole32(1U << 31), INVAL, "2^31 entries");
	TRY(req.entries, htole32(UINT32_MAX), INVAL, "2^32 - 1 entries");
	TRY(req.max_sge, htole32(2), INVAL, "more SGEs than an entry holds");
	TRY(req.max_sge, htole32(UINT32_MAX), INVAL, "2^32 - 1 SGEs");
	TRY(req.max_sge, htole32(0x10000000), INVAL, "SGEs whose bytes wrap");
	TRY(req.max_sge, 0, OK, "no SGE");
	TRY(req.stride_shift, 8, INVAL, "entries larger than a page");
	TRY(req.stride_shift, 255, INVAL, "shift of 255");
	TRY(req.limit, htole32(129), INVAL, "a limit that cannot be");
	TRY(req.limit, htole32(128), OK, "a limit that is reached at once");
	TRY(req.ring_offset, htole32(64), INVAL, "misaligned ring");
	TRY(req.ctrl_offset, htole32(GUEST_PAGE + 64), INVAL, "misaligned control words");
	TRY(req.ctrl_offset, 0, INVAL, "control words in the ring");
	TRY(req.ctrl_offset, htole32(0xffffff80), INVAL, "control words at 4 GiB");
	TRY(req.reserved0[2], 1, INVAL, "reserved0");
	TRY(req.reserved[1], 1, INVAL, "reserved");
	TRY(req.buf.reserved, 1, INVAL, "buf.reserved");
	TRY(ext.addr, htole64(1ULL << 40), FAULT, "no RAM");
	TRY(ext.pages, htole32(1), INVAL, "buffer too short");
	is(guest_stat(b->g, "srqs"), 0, "no SRQ is left");
	is(guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEALLOC_PD, other_pd), S(OK),
	   "nor does a PD have one");
	guest_ctx_destroy(&other);
	while (mem_event(b, 0) || !mem_no_event(b))
		;
	guest_free(b->g, mem, 2 * GUEST_PAGE);
}

static void test_dependents(void)
{
	struct virtio_rdma_modify_srq_req bad = { .limit = htole32(1) };
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct guest_srq second;
	struct guest_ctx kernel;
	struct guest_qp qp;
	struct virtio_rdma_rsp_hdr rsp;
	struct guest_cq kcq;
	uint32_t kpd;

	fresh();
	is(guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DESTROY_SRQ, srq.srqn), S(BUSY),
	   "an SRQ with a QP stays");
	is(guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DESTROY_SRQ, 0x777777), S(NOENT),
	   "one that is not there");
	bad.srqn = htole32(srq.srqn);
	bad.mask = htole32(1);
	is(guest_command(b->g, VIRTIO_RDMA_CMD_MODIFY_SRQ, &bad, &rsp), S(UNSUPPORTED),
	   "an SRQ is not resized");
	bad.mask = htole32(VIRTIO_RDMA_SRQ_LIMIT);
	bad.reserved = 1;
	is(guest_command(b->g, VIRTIO_RDMA_CMD_MODIFY_SRQ, &bad, &rsp), S(INVAL), "reserved field");
	is(guest_srq_arm(&srq, ENTRIES + 1), S(INVAL), "a limit above the entries");

	init.pd = b->pd;
	init.send_cq = init.recv_cq = &b->rcq;
	init.srq = &srq;
	init.rq_entries = 16;
	is(guest_qp_create(&b->ctx, &init, &qp), S(INVAL), "SRQ and receive ring at a time");
	if (guest_ctx_create(b->g, VIRTIO_RDMA_CTX_KERNEL, &kernel) ||
	    guest_pd_alloc(&kernel, &kpd) || guest_cq_create(&kernel, 16, 0, &kcq) ||
	    guest_srq_create(&kernel, kpd, 16, 1, &second))
		guest_fatal("no SRQ of the kernel's");
	init.rq_entries = 0;
	init.srq = &second;
	is(guest_qp_create(&b->ctx, &init, &qp), S(INVAL), "SRQ of another context");
	init = (struct guest_qp_init){
		.type = VIRTIO_RDMA_QPT_GSI, .pd = kpd, .send_cq = &kcq, .recv_cq = &kcq,
		.srq = &second,
	};
	is(guest_qp_create(&kernel, &init, &qp), S(INVAL), "QP 1 with an SRQ");
	is(guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEALLOC_PD, kpd), S(BUSY),
	   "a PD with an SRQ stays");
	is(guest_srq_destroy(&second), S(OK), "an SRQ without QPs goes");
	is(guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEALLOC_PD, kpd), S(OK), "and then its PD");
	guest_cq_destroy(&kcq);
	guest_ctx_destroy(&kernel);
	drop();
}

/* INIT destroys SRQs as it does all else. */
static void test_init(void)
{
	struct guest_config cfg = {
		.name = "c", .id = 3, .host_mapped = MEM_HOST_MAPPED, .limits.max_srq = 2,
	};
	struct guest *g = guest_create(pair.engine, &cfg);
	struct guest_ctx ctx;
	struct guest_srq s[3];
	uint32_t pd;

	if (guest_ctx_create(g, 0, &ctx) || guest_pd_alloc(&ctx, &pd))
		guest_fatal("no context");
	is(guest_srq_create(&ctx, pd, 16, 1, &s[0]) | guest_srq_create(&ctx, pd, 16, 1, &s[1]), S(OK),
	   "as many SRQs as the limit");
	is(guest_srq_create(&ctx, pd, 16, 1, &s[2]), S(NOMEM), "one more");
	is(guest_init(g), S(OK), "INIT");
	is(guest_stat(g, "srqs"), 0, "no SRQ is left");
	guest_destroy(g);
}

/* ---- receives --------------------------------------------------------------------- */

static void test_rc(void)
{
	struct guest_sge two[2];

	fresh();
	recv_at(1000, 0, 300);
	recv_at(7, 4096, 300);
	send(200);
	send(100);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 1000, 200, 0) &&
	   received(b->qp.qpn, 7, 100, 0), "receives are taken in order, with their cookies");
	ok(!memcmp(b->buf, a->buf, 200) && !memcmp(b->buf + 4096, a->buf, 100), "the data is there");
	two[0] = (struct guest_sge){ b->mr.iova + 9000, 10, b->mr.lkey };
	two[1] = (struct guest_sge){ b->mr.iova + 12000, MEM_BUF - 12000, b->mr.lkey };
	guest_post_srq(&srq, UINT32_MAX, two, 2);
	send(200000);		/* several slices */
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, UINT32_MAX, 200000, 0) &&
	   !memcmp(b->buf + 9000, a->buf, 10) && !memcmp(b->buf + 12000, a->buf + 10, 199990),
	   "a long one, over two SGEs");
	recv_at(1, 0, 0);
	send_on(&a->qp, VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM, 64);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 1, 64, 0), "WRITE_WITH_IMM takes one");
	drop();
}

/* Many laps of the ring: the device's position is right without a consumer index. */
static void test_laps(void)
{
	bool right = true;

	fresh();
	for (uint32_t i = 0; i < 20 * ENTRIES && right; i++) {
		recv_at(i * 3, 0, 64);
		send(8);
		right = mem_status(&a->scq) == 0 && received(b->qp.qpn, i * 3, 8, 0);
	}
	ok(right, "20 laps of the ring");
	for (uint32_t i = 0; i < ENTRIES; i++)
		recv_at(i, 0, 64);
	for (uint32_t i = 0; i < ENTRIES && right; i++) {
		send(8);
		right = mem_status(&a->scq) == 0 && received(b->qp.qpn, i, 8, 0);
	}
	ok(right, "a full ring");
	drop();
}

/* Several QPs share it; senders that found it empty are woken by the next posts. */
static void test_shared(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	bool seen[3] = { false }, right = true;
	struct virtio_rdma_cqe cqe;
	uint64_t rnr;

	fresh();
	for (int i = 0; i < 3; i++) {
		init.pd = a->pd;
		init.send_cq = init.recv_cq = &a->scq;
		init.srq = NULL;
		if (guest_qp_create(&a->ctx, &init, &more_a[i]))
			guest_fatal("no QP");
		init.pd = b->pd;
		init.send_cq = &b->scq;
		init.recv_cq = &b->rcq;
		init.srq = &srq;
		if (guest_qp_create(&b->ctx, &init, &more_b[i]))
			guest_fatal("no QP");
		guest_qp_connect_pair(&more_a[i], &more_b[i]);
	}
	rnr = guest_stat(a->g, "rnr");
	for (int i = 0; i < 3; i++)
		send_on(&more_a[i], VIRTIO_RDMA_WR_SEND, 16);
	ok(guest_stat_reaches(a->g, "rnr", rnr + 3, MEM_WAIT_MS) && mem_no_cqe(&a->scq),
	   "three senders wait");
	for (int i = 0; i < 3; i++) {
		recv_at(50 + i, 0, 64);
		right &= guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) && !cqe.status &&
			 le32toh(cqe.wqe_index) == 50U + i && mem_status(&a->scq) == 0;
		for (int q = 0; q < 3; q++)
			seen[q] |= le32toh(cqe.qpn) == more_b[q].qpn;
	}
	ok(right && seen[0] && seen[1] && seen[2], "each of them gets one of three receives");

	/* One that waits is destroyed, and so is the peer of another. */
	for (int i = 0; i < 3; i++)
		send_on(&more_a[i], VIRTIO_RDMA_WR_SEND, 16);
	mem_no_cqe(&a->scq);
	is(guest_qp_destroy(&more_a[0]), S(OK), "a sender that waits goes");
	is(guest_qp_destroy(&more_b[1]), S(OK), "the peer of another goes");
	recv_at(60, 0, 64);
	ok(received(more_b[2].qpn, 60, 16, 0), "the third gets the receive");
	if (guest_qp_destroy(&more_b[0]) || guest_qp_destroy(&more_a[1]) ||
	    guest_qp_destroy(&more_a[2]) || guest_qp_destroy(&more_b[2]))
		guest_fatal("a QP stays");
	drop();
}

/* Until a sender has found the SRQ empty: the one that was served last, if no other. */
static void wait_starved(void)
{
	for (int ms = 0; ms < MEM_WAIT_MS && !vrd_load32(&srq.ring.ctrl->need_db); ms++)
		usleep(1000);
	/* The query takes the ring's lock, so that sender is parked. */
	guest_srq_limit(&srq);
}

/*
 * Who waits for longest gets the next receive, though another one never tires.
 * The peers' RNR timers are the longest there are (0: 655 ms), for a sender whose
 * timer fires just after a post would come first.
 */
static void test_fair(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct virtio_rdma_qp_attr slow = { .min_rnr_timer = 0 };
	unsigned int got[3] = { 0 };
	struct virtio_rdma_cqe cqe;
	struct guest_cq cq;

	fresh();
	if (guest_cq_create(&a->ctx, 128, 0, &cq))
		guest_fatal("no CQ");
	for (int i = 0; i < 3; i++) {
		init.pd = a->pd;
		init.send_cq = init.recv_cq = &cq;
		init.srq = NULL;
		if (guest_qp_create(&a->ctx, &init, &more_a[i]))
			guest_fatal("no QP");
		init.pd = b->pd;
		init.send_cq = &b->scq;
		init.recv_cq = &b->rcq;
		init.srq = &srq;
		if (guest_qp_create(&b->ctx, &init, &more_b[i]))
			guest_fatal("no QP");
		guest_qp_connect_pair(&more_a[i], &more_b[i]);
		if (guest_qp_modify(&more_b[i], VIRTIO_RDMA_QP_MIN_RNR_TIMER, &slow))
			guest_fatal("no RNR timer");
		for (int k = 0; k < 30; k++)
			send_on(&more_a[i], VIRTIO_RDMA_WR_SEND, 8);
	}
	mem_no_cqe(&b->rcq);
	for (int n = 0; n < 30; n++) {
		recv_at(n, 0, 64);
		if (!guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) || cqe.status)
			break;
		for (int i = 0; i < 3; i++)
			got[i] += le32toh(cqe.qpn) == more_b[i].qpn;
		wait_starved();
	}
	ok(got[0] >= 5 && got[1] >= 5 && got[2] >= 5 && got[0] + got[1] + got[2] == 30,
	   "30 receives, one by one, for three senders: %u, %u, %u", got[0], got[1], got[2]);
	for (int i = 0; i < 3; i++)
		if (guest_qp_destroy(&more_a[i]) || guest_qp_destroy(&more_b[i]))
			guest_fatal("a QP stays");
	guest_cq_destroy(&cq);
	drop();
}

static void test_rnr(void)
{
	fresh();
	mem_pair_drop_qps(&pair);
	b->srq = &srq;
	mem_pair_qps(&pair);
	b->srq = NULL;
	a->attr.rnr_retry = 2;
	b->attr.min_rnr_timer = 1;
	mem_pair_connect(&pair);
	send(8);
	is(mem_status(&a->scq), WC(RNR_RETRY_EXC_ERR), "an empty SRQ: RNR, and retries end");
	ok(IN(a, ERR) && IN(b, RTS), "the requester fails, the responder does not");
	drop();
}

/* The keys of an SRQ's entries belong to its PD, not to the QP's. */
static void test_pd(void)
{
	struct guest_sge sge;
	struct guest_mr mr;
	uint32_t pd;

	fresh();
	mem_pair_drop_qps(&pair);
	if (guest_srq_destroy(&srq) || guest_pd_alloc(&b->ctx, &pd) ||
	    guest_mr_reg(b->g, pd, b->buf, MEM_BUF, MEM_ALL_ACCESS, &mr) ||
	    guest_srq_create(&b->ctx, pd, ENTRIES, 1, &srq))
		guest_fatal("no PD");
	b->srq = &srq;
	mem_pair_qps(&pair);
	b->srq = NULL;
	mem_pair_connect(&pair);
	sge = (struct guest_sge){ mr.iova, MEM_BUF, mr.lkey };
	guest_post_srq(&srq, 1, &sge, 1);
	guest_post_srq(&srq, 2, &sge, 1);
	send(100);
	send(150000);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 1, 100, 0) &&
	   received(b->qp.qpn, 2, 150000, 0) && !memcmp(a->buf, b->buf, 150000),
	   "a key of the SRQ's PD is right");
	sge.lkey = b->mr.lkey;
	guest_post_srq(&srq, 3, &sge, 1);
	send(100);
	ok(received(b->qp.qpn, 3, 0, WC(LOC_PROT_ERR)) && IN(b, ERR), "one of the QP's PD is not");
	drop();
	guest_mr_dereg(&mr);
	guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd);
}

static void test_ud(void)
{
	struct mem_wr w = mem_wr(a, a, VIRTIO_RDMA_WR_SEND, 100);
	struct virtio_rdma_av av = { .hop_limit = 1, .qkey = htole32(0x11223344) };
	struct guest_sge bad = { b->mr.iova, 4096, b->mr.lkey ^ 0x1000 };

	fresh_type(VIRTIO_RDMA_QPT_UD);
	av.pd = htole32(a->pd);
	av.dqpn = htole32(b->qp.qpn);
	memcpy(av.dgid, b->g->gid, 16);
	w.wr.av = &av;
	if (guest_srq_arm(&srq, 0))
		guest_fatal("cannot disarm");
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&b->rcq), "a datagram without a receive is dropped");
	recv_at(5, 0, 139);
	if (guest_srq_arm(&srq, 1))
		guest_fatal("cannot arm");
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&b->rcq) && mem_no_event(b),
	   "one longer than the receive is dropped, and the receive stays");
	w.sge.length = 99;
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 5, 139, 0) && !memcmp(b->buf + 40, a->buf, 99),
	   "a shorter one takes it");
	ok(srq_event(EVENT(SRQ_LIMIT_REACHED)), "which reaches the limit");
	guest_post_srq(&srq, 6, &bad, 1);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 6, 0, WC(LOC_PROT_ERR)) && IN(b, ERR),
	   "a bad key in the entry: its completion says so");
	ok(mem_event(b, EVENT(QP_LAST_WQE_REACHED)), "LAST_WQE_REACHED");
	drop();
}

/* ---- limit -------------------------------------------------------------------------- */

static void test_limit(void)
{
	fresh();
	is(guest_srq_limit(&srq), 0, "not armed at first");
	for (int i = 0; i < 4; i++)
		recv_at(i, 0, 64);
	is(guest_srq_arm(&srq, 3), S(OK), "MODIFY_SRQ arms");
	is(guest_srq_limit(&srq), 3, "QUERY_SRQ tells");
	send(8);
	ok(mem_status(&a->scq) == 0 && mem_no_event(b), "as many as the limit: nothing");
	send(8);
	ok(mem_status(&a->scq) == 0 && srq_event(EVENT(SRQ_LIMIT_REACHED)), "one below: the event");
	is(guest_srq_limit(&srq), 0, "it is not armed any more");
	send(8);
	ok(mem_status(&a->scq) == 0 && mem_no_event(b), "and tells nothing more");
	/* More were posted than the device had looked at. */
	recv_at(4, 0, 64);
	recv_at(5, 0, 64);
	is(guest_srq_arm(&srq, 3), S(OK), "armed again, at what is posted");
	ok(mem_no_event(b), "which is not below it");
	recv_at(6, 0, 64);
	send(8);
	ok(mem_status(&a->scq) == 0 && mem_no_event(b), "posted meanwhile counts");
	is(guest_srq_arm(&srq, ENTRIES), S(OK), "above what is posted");
	ok(srq_event(EVENT(SRQ_LIMIT_REACHED)), "is reached at once");
	is(guest_srq_arm(&srq, 2), S(OK), "armed");
	is(guest_srq_arm(&srq, 0), S(OK), "and disarmed");
	send(8);
	send(8);
	ok(mem_status(&a->scq) == 0 && mem_status(&a->scq) == 0 && mem_no_event(b), "nothing");
	drop();
}

/* ---- errors ------------------------------------------------------------------------- */

static void test_short(void)
{
	fresh();
	recv_at(3, 0, 8);
	send(9);
	is(mem_status(&a->scq), WC(REM_INV_REQ_ERR), "SEND longer than the receive");
	ok(received(b->qp.qpn, 3, 0, WC(LOC_LEN_ERR)) && IN(a, ERR) && IN(b, ERR),
	   "its receive fails, and both QPs");
	ok(mem_event(b, EVENT(QP_LAST_WQE_REACHED)), "LAST_WQE_REACHED");
	recv_at(4, 0, 8);
	ok(mem_no_cqe(&b->rcq), "a QP in ERR flushes nothing of the SRQ's");
	is(guest_qp_reset(&b->qp), S(OK), "its QP is reset");
	is(guest_qp_reset(&a->qp), S(OK), "and the sender's");
	mem_pair_connect(&pair);
	send(8);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 4, 8, 0), "and gets the next receive");
	is(guest_qp_set_state(&b->qp, VIRTIO_RDMA_QPS_ERR), S(OK), "to ERR");
	ok(mem_event(b, EVENT(QP_LAST_WQE_REACHED)) && mem_no_event(b), "is told, once each time");
	drop();
}

static void test_malformed(void)
{
	struct virtio_rdma_recv_wqe *wqe;

	fresh();
	recv_at(77, 0, 64);
	recv_at(78, 0, 64);
	wqe = (void *)srq.ring.ring;
	wqe->num_sge = htole32(3);
	send(8);
	is(mem_status(&a->scq), WC(REM_OP_ERR), "a malformed entry");
	ok(received(b->qp.qpn, 77, 0, WC(LOC_QP_OP_ERR)) && IN(b, ERR), "fails the QP that took it");
	ok(mem_event(b, EVENT(QP_LAST_WQE_REACHED)) && mem_no_event(b), "and not the SRQ");
	drop();
}

/* An index that cannot be: nobody knows what was posted. */
static void test_broken(void)
{
	struct virtio_rdma_event one, two;
	uint32_t got;

	fresh();
	srq.ring.producer = ENTRIES + 1;
	guest_ring_srq(&srq);
	send(8);
	is(mem_status(&a->scq), WC(REM_OP_ERR), "an impossible producer index");
	ok(mem_no_cqe(&b->rcq) && IN(b, ERR), "no receive, and the QP in ERR");
	ok(srq_event(EVENT(SRQ_ERR)), "SRQ_ERR");
	got = guest_event(b->g, &one, MEM_WAIT_MS) + guest_event(b->g, &two, MEM_WAIT_MS);
	ok(got == 2 && le32toh(one.type) == EVENT(QP_FATAL) && le32toh(one.id) == b->qp.qpn &&
	   le32toh(two.type) == EVENT(QP_LAST_WQE_REACHED), "QP_FATAL, and then LAST_WQE_REACHED");
	is(guest_srq_arm(&srq, 1), S(OK), "it can be armed");
	ok(mem_no_event(b), "in vain");
	drop();
}

/*
 * A QP that has neither ring has no place of its own in the doorbell page, and is
 * found nevertheless when its CQ overflows.
 */
static void test_overflow(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct virtio_rdma_event event;
	struct guest_cq tiny;
	bool cq_err = false, last = false;

	fresh();
	if (guest_cq_create(&b->ctx, 1, 0, &tiny))
		guest_fatal("no CQ");
	init.pd = a->pd;
	init.send_cq = init.recv_cq = &a->scq;
	if (guest_qp_create(&a->ctx, &init, &more_a[0]))
		guest_fatal("no QP");
	init = (struct guest_qp_init){
		.type = VIRTIO_RDMA_QPT_RC, .pd = b->pd, .send_cq = &tiny, .recv_cq = &tiny,
		.srq = &srq, .no_sq = true,
	};
	is(guest_qp_create(&b->ctx, &init, &more_b[0]), S(OK), "a QP without rings");
	is(more_b[0].sq.slot, VIRTIO_RDMA_NONE, "has no slot, as the driver sees it");
	guest_qp_connect_pair(&more_a[0], &more_b[0]);
	recv_at(1, 0, 64);
	recv_at(2, 0, 64);
	send_on(&more_a[0], VIRTIO_RDMA_WR_SEND, 8);
	send_on(&more_a[0], VIRTIO_RDMA_WR_SEND, 8);
	mem_status(&a->scq);
	for (int i = 0; i < 4 && !(cq_err && last) && guest_event(b->g, &event, MEM_WAIT_MS); i++) {
		cq_err |= le32toh(event.type) == EVENT(CQ_ERR) && le32toh(event.id) == tiny.cqn;
		last |= le32toh(event.type) == EVENT(QP_LAST_WQE_REACHED) &&
			le32toh(event.id) == more_b[0].qpn;
	}
	ok(cq_err && last && guest_qp_state(&more_b[0]) == VIRTIO_RDMA_QPS_ERR,
	   "its CQ overflows: CQ_ERR, and the QP is in ERR");
	if (guest_qp_destroy(&more_a[0]) || guest_qp_destroy(&more_b[0]) || guest_cq_destroy(&tiny))
		guest_fatal("a QP or CQ stays");
	drop();
}

/* A guest's doorbell for an SRQ that nobody waits for costs it a look. */
static void test_garbage(void)
{
	fresh();
	for (int i = 0; i < 1000; i++) {
		__atomic_store_n(&b->ctx.db->dirty[srq.ring.slot], 1, __ATOMIC_RELAXED);
		__atomic_store_n(&b->ctx.db->summary[srq.ring.slot / 64], 1, __ATOMIC_RELEASE);
		if (i % 64 == 0)
			guest_kick_doorbell(b->g);
	}
	recv_at(1, 0, 64);
	send(8);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 1, 8, 0), "spurious doorbells");
	drop();
}

/* ---- pause -------------------------------------------------------------------------- */

/* The device's memory table is replaced: the ring is looked up anew. */
static void test_mem_table(void)
{
	fresh();
	recv_at(1, 0, 64);
	guest_set_memory(b->g);
	recv_at(2, 4096, 64);
	send(8);
	send(8);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 1, 8, 0) &&
	   mem_status(&a->scq) == 0 && received(b->qp.qpn, 2, 8, 0), "a new memory table");
	send(8);
	mem_no_cqe(&a->scq);
	guest_set_memory(b->g);
	recv_at(3, 0, 64);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 3, 8, 0), "and one while a sender waits");
	drop();
}

static void test_suspended(void)
{
	fresh();
	send(8);
	mem_no_cqe(&a->scq);
	guest_stop_queues(b->g);
	/* The guest is not there to ring. */
	recv_at(2, 0, 64);
	ok(mem_no_cqe(&a->scq), "its device is stopped");
	guest_start_queues(b->g);
	ok(mem_status(&a->scq) == 0 && received(b->qp.qpn, 2, 8, 0),
	   "and when it starts again, the sender that waited gets its receive");
	drop();
}

/* ---- threads ------------------------------------------------------------------------ */

#define SENDERS		3
#define COOKIES		12

/* One that sends messages that say who and which it is, each after the last. */
struct sender {
	pthread_t thread;
	struct guest_cq cq;
	struct guest_qp qp;
	uint64_t sent;
	int status;
};

static struct sender senders[SENDERS];
static _Atomic bool stop;
static _Atomic int running;

static void *run_sender(void *arg)
{
	struct sender *s = arg;
	uint64_t *words = (uint64_t *)(a->buf + 4096 * (1 + (s - senders)));
	struct guest_sge sge = { guest_addr(a->g, words), 16, a->mr.lkey };
	struct guest_wr wr = {
		.opcode = VIRTIO_RDMA_WR_SEND, .flags = VIRTIO_RDMA_WQE_SIGNALED, .num_sge = 1,
		.sge = &sge,
	};

	while (!atomic_load(&stop) && !s->status) {
		words[0] = s - senders;
		words[1] = s->sent++;
		guest_post_send(&s->qp, &wr);
		s->status = mem_status(&s->cq);
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void post_cookie(uint32_t cookie)
{
	recv_at(cookie, 4096 * cookie, 64);
}

/* Takes all that comes and posts it again; what is wrong with it, or NULL. */
static const char *receive_some(uint64_t *next, bool *posted, int ms)
{
	struct virtio_rdma_cqe cqe;
	uint64_t *words;
	uint32_t cookie;

	while (guest_poll_wait(&b->rcq, &cqe, ms)) {
		cookie = le32toh(cqe.wqe_index);
		if (cqe.status || cookie >= COOKIES || !posted[cookie])
			return "a receive of nothing that was posted";
		words = (uint64_t *)(b->buf + 4096 * cookie);
		if (words[0] >= SENDERS || words[1] != next[words[0]]++)
			return "a message is missing, or comes twice";
		post_cookie(cookie);
		ms = 0;
	}
	return NULL;
}

/*
 * Three senders on two pollers, whose peers share one SRQ and one CQ; QPs with the
 * SRQ come and go meanwhile, and its limit is armed.
 */
static void test_threads(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	bool posted[COOKIES];
	uint64_t next[SENDERS] = { 0 }, all = 0, until;
	const char *wrong = NULL;
	struct virtio_rdma_event event;
	struct guest_cq other;
	struct guest_qp extra;
	bool right = true;

	fresh();
	if (guest_cq_create(&b->ctx, 16, 0, &other))
		guest_fatal("no CQ");
	for (uint32_t i = 0; i < COOKIES; i++) {
		posted[i] = true;
		post_cookie(i);
	}
	atomic_store(&stop, false);
	atomic_store(&running, SENDERS);
	for (int i = 0; i < SENDERS; i++) {
		struct sender *s = &senders[i];

		*s = (struct sender){ 0 };
		if (guest_cq_create(&a->ctx, 16, 0, &s->cq))
			guest_fatal("no CQ");
		init = (struct guest_qp_init){
			.type = VIRTIO_RDMA_QPT_RC, .pd = a->pd, .send_cq = &s->cq, .recv_cq = &s->cq,
		};
		if (guest_qp_create(&a->ctx, &init, &s->qp))
			guest_fatal("no QP");
		init = (struct guest_qp_init){
			.type = VIRTIO_RDMA_QPT_RC, .pd = b->pd, .send_cq = &b->scq,
			.recv_cq = &b->rcq, .srq = &srq,
		};
		if (guest_qp_create(&b->ctx, &init, &more_b[i]))
			guest_fatal("no QP");
		guest_qp_connect_pair(&s->qp, &more_b[i]);
		pthread_create(&s->thread, NULL, run_sender, s);
	}
	init.send_cq = init.recv_cq = &other;
	for (until = guest_now_ns() + 1000000000ULL; guest_now_ns() < until && !wrong;) {
		wrong = receive_some(next, posted, 1);
		right &= guest_srq_arm(&srq, 1 + next[0] % COOKIES) == S(OK);
		right &= guest_qp_create(&b->ctx, &init, &extra) == S(OK) &&
			 guest_qp_set_state(&extra, VIRTIO_RDMA_QPS_ERR) == S(OK) &&
			 guest_qp_destroy(&extra) == S(OK);
		while (guest_event(b->g, &event, 0))
			;
	}
	/* The last message of each needs a receive, too. */
	atomic_store(&stop, true);
	while (atomic_load(&running) && !wrong)
		wrong = receive_some(next, posted, 1);
	if (!wrong)
		wrong = receive_some(next, posted, MEM_QUIET_MS);
	for (int i = 0; i < SENDERS; i++) {
		pthread_join(senders[i].thread, NULL);
		if (senders[i].status || senders[i].sent != next[i])
			wrong = wrong ? wrong : "not all that was sent was received";
		all += senders[i].sent;
	}
	ok(!wrong && right, "threads: %llu messages%s%s", (unsigned long long)all, wrong ? ", " : "",
	   wrong ? wrong : "");
	for (int i = 0; i < SENDERS; i++)
		if (guest_qp_destroy(&senders[i].qp) || guest_qp_destroy(&more_b[i]) ||
		    guest_cq_destroy(&senders[i].cq))
			guest_fatal("a QP stays");
	guest_cq_destroy(&other);
	drop();
}

int main(void)
{
	mem_pair_open(&pair, 2, 0);
	test_create();
	test_dependents();
	test_init();
	test_rc();
	test_laps();
	test_shared();
	test_fair();
	test_rnr();
	test_pd();
	test_ud();
	test_limit();
	test_short();
	test_malformed();
	test_broken();
	test_overflow();
	test_garbage();
	test_mem_table();
	test_suspended();
	test_threads();
	mem_pair_close(&pair);
	return tap_done();
}
