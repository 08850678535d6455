// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Shared receive queues: their commands, their ring, limit and events, and invalid use by a
 * guest. (Distribution of receives: test_srq_traffic.c.)
 */
#include "srq_pair.h"
#include "tap.h"

static struct mem_end *a = &srq_pair.a, *b = &srq_pair.b;

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
	TRY(req.xrcd, htole32(1), UNSUPPORTED, "XRC, which was not negotiated");
	TRY(req.cqn, htole32(1), UNSUPPORTED, "a CQ, which only XRC has");
	TRY(req.buf.handle, htole32(1), INVAL, "extents and a handle");
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

	srq_fresh();
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
	srq_drop();
}

/* INIT destroys SRQs as it does all else. */
static void test_init(void)
{
	struct guest_config cfg = {
		.name = "c", .id = 3, .host_mapped = MEM_HOST_MAPPED, .limits.max_srq = 2,
	};
	struct guest *g = guest_create(srq_pair.engine, &cfg);
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

/* ---- ring -------------------------------------------------------------------------- */

/* Many laps of the ring: the device's position is right without a consumer index. */
static void test_laps(void)
{
	bool right = true;

	srq_fresh();
	for (uint32_t i = 0; i < 20 * ENTRIES && right; i++) {
		srq_recv(i * 3, 0, 64);
		srq_send(8);
		right = mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, i * 3, 8, 0);
	}
	ok(right, "20 laps of the ring");
	for (uint32_t i = 0; i < ENTRIES; i++)
		srq_recv(i, 0, 64);
	for (uint32_t i = 0; i < ENTRIES && right; i++) {
		srq_send(8);
		right = mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, i, 8, 0);
	}
	ok(right, "a full ring");
	srq_drop();
}

/* ---- limit -------------------------------------------------------------------------- */

static void test_limit(void)
{
	srq_fresh();
	is(guest_srq_limit(&srq), 0, "not armed at first");
	for (int i = 0; i < 4; i++)
		srq_recv(i, 0, 64);
	is(guest_srq_arm(&srq, 3), S(OK), "MODIFY_SRQ arms");
	is(guest_srq_limit(&srq), 3, "QUERY_SRQ tells");
	srq_send(8);
	ok(mem_status(&a->scq) == 0 && mem_no_event(b), "as many as the limit: nothing");
	srq_send(8);
	ok(mem_status(&a->scq) == 0 && srq_event(EVENT(SRQ_LIMIT_REACHED)), "one below: the event");
	is(guest_srq_limit(&srq), 0, "it is not armed any more");
	srq_send(8);
	ok(mem_status(&a->scq) == 0 && mem_no_event(b), "and tells nothing more");
	/* More were posted than the device had looked at. */
	srq_recv(4, 0, 64);
	srq_recv(5, 0, 64);
	is(guest_srq_arm(&srq, 3), S(OK), "armed again, at what is posted");
	ok(mem_no_event(b), "which is not below it");
	srq_recv(6, 0, 64);
	srq_send(8);
	ok(mem_status(&a->scq) == 0 && mem_no_event(b), "posted meanwhile counts");
	is(guest_srq_arm(&srq, ENTRIES), S(OK), "above what is posted");
	ok(srq_event(EVENT(SRQ_LIMIT_REACHED)), "is reached at once");
	is(guest_srq_arm(&srq, 2), S(OK), "armed");
	is(guest_srq_arm(&srq, 0), S(OK), "and disarmed");
	srq_send(8);
	srq_send(8);
	ok(mem_status(&a->scq) == 0 && mem_status(&a->scq) == 0 && mem_no_event(b), "nothing");
	srq_drop();
}

/* ---- errors ------------------------------------------------------------------------- */

static void test_malformed(void)
{
	struct virtio_rdma_recv_wqe *wqe;

	srq_fresh();
	srq_recv(77, 0, 64);
	srq_recv(78, 0, 64);
	wqe = (void *)srq.ring.ring;
	wqe->num_sge = htole32(3);
	srq_send(8);
	is(mem_status(&a->scq), WC(REM_OP_ERR), "a malformed entry");
	ok(srq_received(b->qp.qpn, 77, 0, WC(LOC_QP_OP_ERR)) && IN(b, ERR),
	   "fails the QP that took it");
	ok(mem_event(b, EVENT(QP_LAST_WQE_REACHED)) && mem_no_event(b), "and not the SRQ");
	srq_drop();
}

/* An impossible index: the number of posted receives is unknown. */
static void test_broken(void)
{
	struct virtio_rdma_event one, two;
	uint32_t got;

	srq_fresh();
	srq.ring.producer = ENTRIES + 1;
	guest_ring_srq(&srq);
	srq_send(8);
	is(mem_status(&a->scq), WC(REM_OP_ERR), "an impossible producer index");
	ok(mem_no_cqe(&b->rcq) && IN(b, ERR), "no receive, and the QP in ERR");
	ok(srq_event(EVENT(SRQ_ERR)), "SRQ_ERR");
	got = guest_event(b->g, &one, MEM_WAIT_MS) + guest_event(b->g, &two, MEM_WAIT_MS);
	ok(got == 2 && le32toh(one.type) == EVENT(QP_FATAL) && le32toh(one.id) == b->qp.qpn &&
	   le32toh(two.type) == EVENT(QP_LAST_WQE_REACHED), "QP_FATAL, and then LAST_WQE_REACHED");
	is(guest_srq_arm(&srq, 1), S(OK), "it can be armed");
	ok(mem_no_event(b), "in vain");
	srq_drop();
}

/*
 * A QP without rings has no slot of its own in the doorbell page; it must be found when its
 * CQ overflows.
 */
static void test_overflow(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct virtio_rdma_event event;
	struct guest_qp sender, bare;
	struct guest_cq tiny;
	bool cq_err = false, last = false;

	srq_fresh();
	if (guest_cq_create(&b->ctx, 1, 0, &tiny))
		guest_fatal("no CQ");
	init.pd = a->pd;
	init.send_cq = init.recv_cq = &a->scq;
	if (guest_qp_create(&a->ctx, &init, &sender))
		guest_fatal("no QP");
	init = (struct guest_qp_init){
		.type = VIRTIO_RDMA_QPT_RC, .pd = b->pd, .send_cq = &tiny, .recv_cq = &tiny,
		.srq = &srq, .no_sq = true,
	};
	is(guest_qp_create(&b->ctx, &init, &bare), S(OK), "a QP without rings");
	is(bare.sq.slot, VIRTIO_RDMA_NONE, "has no slot, as the driver sees it");
	guest_qp_connect_pair(&sender, &bare);
	srq_recv(1, 0, 64);
	srq_recv(2, 0, 64);
	srq_send_on(&sender, VIRTIO_RDMA_WR_SEND, 8);
	srq_send_on(&sender, VIRTIO_RDMA_WR_SEND, 8);
	mem_status(&a->scq);
	for (int i = 0; i < 4 && !(cq_err && last) && guest_event(b->g, &event, MEM_WAIT_MS); i++) {
		cq_err |= le32toh(event.type) == EVENT(CQ_ERR) && le32toh(event.id) == tiny.cqn;
		last |= le32toh(event.type) == EVENT(QP_LAST_WQE_REACHED) &&
			le32toh(event.id) == bare.qpn;
	}
	ok(cq_err && last && guest_qp_state(&bare) == VIRTIO_RDMA_QPS_ERR,
	   "its CQ overflows: CQ_ERR, and the QP is in ERR");
	if (guest_qp_destroy(&sender) || guest_qp_destroy(&bare) || guest_cq_destroy(&tiny))
		guest_fatal("a QP or CQ stays");
	srq_drop();
}

/* A guest's doorbell for an SRQ on which no QP waits costs the poller one look. */
static void test_garbage(void)
{
	srq_fresh();
	for (int i = 0; i < 1000; i++) {
		__atomic_store_n(&b->ctx.db->dirty[srq.ring.slot], 1, __ATOMIC_RELAXED);
		__atomic_store_n(&b->ctx.db->summary[srq.ring.slot / 64], 1, __ATOMIC_RELEASE);
		if (i % 64 == 0)
			guest_kick_doorbell(b->g);
	}
	srq_recv(1, 0, 64);
	srq_send(8);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 1, 8, 0), "spurious doorbells");
	srq_drop();
}

/* ---- pause -------------------------------------------------------------------------- */

/* The device's memory table is replaced: the ring is translated anew. */
static void test_mem_table(void)
{
	srq_fresh();
	srq_recv(1, 0, 64);
	guest_set_memory(b->g);
	srq_recv(2, 4096, 64);
	srq_send(8);
	srq_send(8);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 1, 8, 0) &&
	   mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 2, 8, 0), "a new memory table");
	srq_send(8);
	mem_no_cqe(&a->scq);
	guest_set_memory(b->g);
	srq_recv(3, 0, 64);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 3, 8, 0),
	   "and one while a sender waits");
	srq_drop();
}

static void test_suspended(void)
{
	srq_fresh();
	srq_send(8);
	mem_no_cqe(&a->scq);
	guest_stop_queues(b->g);
	/* The guest's thread does not ring here. */
	srq_recv(2, 0, 64);
	ok(mem_no_cqe(&a->scq), "its device is stopped");
	guest_start_queues(b->g);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 2, 8, 0),
	   "and when it starts again, the sender that waited gets its receive");
	srq_drop();
}

int main(void)
{
	mem_pair_open(&srq_pair, 2, 0);
	test_create();
	test_dependents();
	test_init();
	test_laps();
	test_limit();
	test_malformed();
	test_broken();
	test_overflow();
	test_garbage();
	test_mem_table();
	test_suspended();
	mem_pair_close(&srq_pair);
	return tap_done();
}
