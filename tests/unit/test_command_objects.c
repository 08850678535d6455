// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands of contexts, PDs, CQs and QPs, and buffers of rings by handle: each field with
 * its limits, handles of other objects, and the order of destruction.
 */
#include <linux/virtio_config.h>
#include <string.h>

#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))

#define CMD(name)	VIRTIO_RDMA_CMD_##name
#define S(name)		VIRTIO_RDMA_S_##name

static void contexts(struct raw *r)
{
	struct virtio_rdma_create_ctx_req req = { .hdr.opcode = CMD(CREATE_CTX) };
	struct virtio_rdma_create_ctx_rsp rsp;
	uint32_t ctx, pd;

	raw_recover(r);
	req.db_page = raw_alloc(r, 1);
	req.flags = 2;
	is(raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp)), S(UNSUPPORTED), "unknown flag");
	req.flags = 0;
	req.db_page += 64;
	is(raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp)), S(INVAL), "misaligned doorbell page");
	req.db_page = RAW_HOLE;
	is(raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp)), S(FAULT), "no memory");
	req.db_page = ~4095ULL;
	is(raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp)), S(FAULT), "the last page of all");
	ctx = raw_ctx(r, 0);
	ok(ctx, "CREATE_CTX");
	pd = raw_pd(r, ctx);
	ok(pd, "ALLOC_PD");
	raw_pd(r, ctx + 1);
	is(raw_status, S(NOENT), "ALLOC_PD of an unknown context");
	raw_pd(r, ctx | 0x80000000U);
	is(raw_status, S(NOENT), "and of a number with more than 24 bits");
	is(raw_destroy(r, CMD(DESTROY_CTX), ctx), S(BUSY), "a context with a PD stays");
	is(raw_destroy(r, CMD(DEALLOC_PD), pd), S(OK), "DEALLOC_PD");
	is(raw_destroy(r, CMD(DEALLOC_PD), pd), S(NOENT), "twice");
	is(raw_destroy(r, CMD(DESTROY_CTX), ctx), S(OK), "DESTROY_CTX");
	is(raw_destroy(r, CMD(DESTROY_CTX), ctx), S(NOENT), "twice");
	is(raw_stat(r, "contexts") + raw_stat(r, "pds"), 0, "nothing is left");
}

struct cq_cmd {
	struct virtio_rdma_create_cq_req req;
	struct virtio_rdma_extent ext[4];
};

static int create_cq(struct raw *r, const struct cq_cmd *c, uint32_t extents)
{
	struct virtio_rdma_create_cq_rsp rsp;
	int status;

	status = raw_cmd(r, c, sizeof(c->req) + extents * sizeof(c->ext[0]), &rsp, sizeof(rsp));
	if (!status)
		raw_destroy(r, CMD(DESTROY_CQ), rsp.cqn);
	return status;
}

static void cqs(struct raw *r)
{
	struct cq_cmd good, c;
	uint32_t ctx;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	good = (struct cq_cmd) {
		.req = {
			.hdr.opcode = CMD(CREATE_CQ), .ctx = ctx, .entries = 128, .cqe_size = 32,
			.ring_offset = 0, .ctrl_offset = 4096, .buf.num_extents = 1,
		},
		.ext[0] = { .addr = raw_alloc(r, 2), .pages = 2 },
	};
	is(create_cq(r, &good, 1), S(OK), "CREATE_CQ");

#define TRY(field, value, want, what)						\
	do {									\
		c = good;							\
		c.field = (value);						\
		is(create_cq(r, &c, 1), S(want), "CQ: " what);			\
	} while (0)
	TRY(req.entries, 0, INVAL, "no entries");
	TRY(req.entries, 1, OK, "one entry");
	TRY(req.entries, 3, INVAL, "3 entries");
	TRY(req.entries, 256, INVAL, "ring over the control words");
	TRY(req.entries, 1U << 31, INVAL, "2^31 entries");
	TRY(req.entries, UINT32_MAX, INVAL, "2^32 - 1 entries");
	TRY(req.cqe_size, 64, INVAL, "entries of 64 bytes");
	TRY(req.cqe_size, 0, INVAL, "entries of 0 bytes");
	TRY(req.vector, 1, OK, "second vector");
	TRY(req.vector, 2, INVAL, "vector that is not used");
	TRY(req.vector, UINT32_MAX, INVAL, "vector -1");
	TRY(req.ctx, 0, NOENT, "context 0");
	TRY(req.ring_offset, 32, INVAL, "misaligned ring");
	TRY(req.ring_offset, 0xfffff000, INVAL, "ring behind the buffer");
	TRY(req.ctrl_offset, 4096 + 64, INVAL, "misaligned control words");
	TRY(req.ctrl_offset, 0, INVAL, "control words over the ring");
	TRY(req.ctrl_offset, 8192, INVAL, "control words behind the buffer");
	TRY(req.ctrl_offset, 0xffffff80, INVAL, "control words at 4 GiB");
	TRY(req.ctrl_offset, 8192 - 128, OK, "control words at the end");
	TRY(req.buf.handle, 1, INVAL, "extents and a handle");
	TRY(req.buf.num_extents, 0, INVAL, "no extents");
	TRY(req.buf.num_extents, 2, INVAL, "more extents than came");
	TRY(req.buf.num_extents, UINT32_MAX, INVAL, "2^32 - 1 extents");
	TRY(req.buf.num_extents, 0x10000001, INVAL, "extents that wrap to one");
	TRY(ext[0].reserved, 1, INVAL, "reserved of an extent");
	TRY(ext[0].pages, 0, INVAL, "empty extent");
	TRY(ext[0].pages, 1, INVAL, "buffer too short");
	TRY(ext[0].pages, UINT32_MAX, OK, "an extent that is longer than needed");
	TRY(ext[0].addr, good.ext[0].addr + 8, INVAL, "misaligned extent");
	TRY(ext[0].addr, RAW_HOLE, FAULT, "not RAM");
	TRY(ext[0].addr, RAW_BASE + RAW_SIZE - 4096, FAULT, "one page of RAM, one not");
	TRY(ext[0].addr, ~4095ULL, FAULT, "extent that wraps");
	TRY(ext[0].addr, RAW_BASE + (1ULL << 44), FAULT, "an address whose lower 44 bits are RAM");
	c = good;
	c.req.buf.num_extents = 2;
	c.ext[0].pages = 1;
	c.ext[1] = c.ext[0];
	is(create_cq(r, &c, 2), S(OK), "CQ: the same page twice (its own risk)");
	is(create_cq(r, &c, 3), S(INVAL), "CQ: fewer extents than came");
	is(raw_stat(r, "cqs"), 0, "nothing is left");
}

static void resize(struct raw *r)
{
	struct {
		struct virtio_rdma_resize_cq_req req;
		struct virtio_rdma_extent ext[1];
	} q = {
		.req = {
			.hdr.opcode = CMD(RESIZE_CQ), .entries = 64, .ctrl_offset = 4096,
			.buf.num_extents = 1,
		},
	};
	struct virtio_rdma_rsp_hdr rsp;
	uint32_t ctx;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	q.ext[0] = (struct virtio_rdma_extent) { .addr = raw_alloc(r, 2), .pages = 2 };
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(NOENT), "RESIZE_CQ of none");
	q.req.cqn = raw_cq(r, ctx, 16, 0);
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(OK), "RESIZE_CQ");
	q.req.entries = 48;
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(INVAL), "to 48");
	q.req.entries = 64;
	q.ext[0].addr = RAW_HOLE;
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(FAULT), "to no memory");
	is(raw_destroy(r, CMD(DESTROY_CQ), q.req.cqn), S(OK), "it still goes");
}

static int create_qp(struct raw *r, const struct raw_qp_req *q, uint32_t extents)
{
	struct virtio_rdma_create_qp_rsp rsp;
	int status;

	status = raw_cmd(r, q, sizeof(q->req) + extents * sizeof(q->ext[0]), &rsp, sizeof(rsp));
	if (!status && raw_destroy(r, CMD(DESTROY_QP), rsp.qpn))
		return -3;
	return status;
}

static void qps(struct raw *r)
{
	uint32_t ctx, kctx, pd, cq, kpd, kcq, qpn;
	struct virtio_rdma_create_qp_rsp rsp;
	struct raw_qp_req good, q;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	kctx = raw_ctx(r, VIRTIO_RDMA_CTX_KERNEL);
	pd = raw_pd(r, ctx);
	kpd = raw_pd(r, kctx);
	cq = raw_cq(r, ctx, 64, 0);
	kcq = raw_cq(r, kctx, 64, 1);
	raw_qp_fill(r, &good, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq);
	is(create_qp(r, &good, 1), S(OK), "CREATE_QP");

#undef TRY
#define TRY(field, value, want, what)						\
	do {									\
		q = good;							\
		q.field = (value);						\
		is(create_qp(r, &q, 1), S(want), "QP: " what);			\
	} while (0)
	TRY(req.ctx, 99, NOENT, "unknown context");
	TRY(req.pd, 99, NOENT, "unknown PD");
	TRY(req.send_cqn, 99, NOENT, "unknown send CQ");
	TRY(req.recv_cqn, 99, NOENT, "unknown receive CQ");
	TRY(req.pd, kpd, INVAL, "PD of the kernel's context");
	TRY(req.send_cqn, kcq, INVAL, "send CQ of another context");
	TRY(req.recv_cqn, kcq, INVAL, "receive CQ of another context");
	TRY(req.ctx, kctx, INVAL, "kernel context with a process's objects");
	TRY(req.srqn, 1, NOENT, "with an SRQ that is not there");
	TRY(req.qp_type, 0, UNSUPPORTED, "type 0");
	TRY(req.qp_type, 255, UNSUPPORTED, "type 255");
	TRY(req.qp_type, VIRTIO_RDMA_QPT_GSI, PERM, "QP 1 for a process");
	TRY(req.sq_stride_shift, 7, INVAL, "send entries larger than a page");
	TRY(req.rq_stride_shift, 8, INVAL, "receive entries larger than a page");
	TRY(req.sq_stride_shift, 255, INVAL, "shift of 255");
	TRY(req.sq_stride_shift, 0, OK, "two SGEs in 64 bytes");
	TRY(req.rq_stride_shift, 0, INVAL, "two SGEs in a receive of 32 bytes");
	TRY(req.sq_entries, 0, OK, "no send queue");
	TRY(req.sq_entries, 3, INVAL, "3 send entries");
	TRY(req.sq_entries, 32, OK, "32 send entries fit");
	TRY(req.sq_entries, 64, INVAL, "64 reach into the receive queue");
	TRY(req.sq_entries, 1U << 31, INVAL, "2^31 send entries");
	TRY(req.sq_entries, UINT32_MAX, INVAL, "2^32 - 1 send entries");
	TRY(req.rq_entries, 32, INVAL, "receive queue over the control words");
	TRY(req.rq_entries, 0, INVAL, "control words of no receive queue");
	TRY(req.max_send_sge, 7, INVAL, "more SGEs than an entry holds");
	TRY(req.max_send_sge, 6, OK, "as many as it holds");
	TRY(req.max_send_sge, UINT32_MAX, INVAL, "2^32 - 1 SGEs");
	TRY(req.max_send_sge, 0x10000001, INVAL, "SGEs whose bytes wrap");
	TRY(req.max_recv_sge, 4, INVAL, "more receive SGEs than an entry holds");
	TRY(req.max_inline, 97, INVAL, "more inline than an entry holds");
	TRY(req.max_inline, 96, OK, "as much as it holds");
	TRY(req.max_inline, UINT32_MAX, INVAL, "2^32 - 1 bytes inline");
	TRY(req.sq_offset, 64, INVAL, "misaligned send queue");
	TRY(req.sq_offset, 4096, INVAL, "both queues in one place");
	TRY(req.rq_offset, 0, INVAL, "the same the other way");
	TRY(req.rq_offset, 8192, INVAL, "receive queue behind the buffer");
	TRY(req.sq_ctrl_offset, 4096 + 1024 + 64, INVAL, "misaligned control words");
	TRY(req.sq_ctrl_offset, 4096 + 1024 + 128, INVAL, "one block for both");
	TRY(req.sq_ctrl_offset, 0, INVAL, "control words in the send queue");
	TRY(req.sq_ctrl_offset, 0xffffff80, INVAL, "control words at 4 GiB");
	TRY(req.reserved0, 1, INVAL, "reserved0");
	TRY(req.xrcd, 1, UNSUPPORTED, "an XRC domain, which was not negotiated");
	TRY(ext[0].addr, RAW_HOLE, FAULT, "not RAM");
	TRY(ext[0].pages, 1, INVAL, "buffer too short");

	q = good;
	q.req.rq_entries = 0;
	q.req.rq_ctrl_offset = 0;
	is(create_qp(r, &q, 1), S(OK), "QP: no receive queue");
	q = good;
	q.req.qp_type = VIRTIO_RDMA_QPT_UD;
	is(create_qp(r, &q, 1), S(OK), "UD");
	q.req.sq_stride_shift = 0;
	q.req.max_send_sge = 0;
	q.req.max_inline = 0;
	is(create_qp(r, &q, 1), S(INVAL), "UD: an entry of 64 bytes has no room for data");

	raw_qp_fill(r, &q, VIRTIO_RDMA_QPT_GSI, kctx, kpd, kcq, kcq);
	is(raw_cmd(r, &q, sizeof(q.req) + 16, &rsp, sizeof(rsp)), S(OK), "QP 1 for the kernel");
	is(rsp.qpn, 1, "has number 1");
	is(create_qp(r, &q, 1), S(EXIST), "and there is only one");

	qpn = raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq);
	ok(qpn > 1 && qpn < 1U << 24, "a QP number of 24 bits");
	is(raw_destroy(r, CMD(DESTROY_CQ), cq), S(BUSY), "a CQ with a QP stays");
	is(raw_destroy(r, CMD(DEALLOC_PD), pd), S(BUSY), "so does its PD");
	is(raw_destroy(r, CMD(DESTROY_QP), pd), S(NOENT), "a PD's number is no QP");
	is(raw_destroy(r, CMD(DESTROY_QP), qpn), S(OK), "DESTROY_QP");
	is(raw_destroy(r, CMD(DESTROY_QP), qpn), S(NOENT), "twice");
	is(raw_destroy(r, CMD(DESTROY_CQ), cq), S(OK), "then the CQ goes");
	is(raw_destroy(r, CMD(DESTROY_QP), 1), S(OK), "QP 1 goes");
	is(raw_stat(r, "qps"), 0, "no QP is left");
	/* reset destroys the rest */
}

/* Rings may name the same page repeatedly: their total is bounded, whatever the memory. */
static void ring_bytes(struct raw *unused)
{
	/* Eight of these rings with their control words, and a page less than nine. */
	const struct vrd_limits limits = { .max_ring_bytes = (9 * 2049 - 1) * 4096 };
	struct raw *r = raw_new_peer(unused, &limits, FEATURES);
	struct cq_cmd c = {
		.req = {
			.hdr.opcode = CMD(CREATE_CQ), .entries = 262144, .cqe_size = 32,
			.ctrl_offset = 262144 * 32, .buf.num_extents = 1,
		},
	};
	struct virtio_rdma_create_cq_rsp rsp;
	unsigned int n = 0;
	int status;

	raw_recover(r);
	c.req.ctx = raw_ctx(r, 0);
	c.ext[0] = (struct virtio_rdma_extent) { .addr = RAW_BASE, .pages = 2049 };
	do {
		status = raw_cmd(r, &c, sizeof(c.req) + 16, &rsp, sizeof(rsp));
		n++;
	} while (!status && n < 100);
	ok(status == S(NOMEM) && n == 9, "rings beyond the quota are refused at the %uth", n);
	is(raw_stat(r, "ring_bytes"), 8 * 2049 * 4096, "the rest is counted");
	is(raw_destroy(r, CMD(DESTROY_CQ), 1), S(OK), "one goes");
	is(raw_cmd(r, &c, sizeof(c.req) + 16, &rsp, sizeof(rsp)), S(OK), "another comes");
	is(raw_init(r), S(OK), "INIT");
	is(raw_stat(r, "ring_bytes"), 0, "gives the pages back");
	c.req.ctx = raw_ctx(r, 0);
	is(raw_cmd(r, &c, sizeof(c.req) + 16, &rsp, sizeof(rsp)), S(OK), "to new rings");
	raw_free(r);
}

/* ---- buffers by handle ------------------------------------------------------- */

#define BUF_EXTENTS	4

/* CREATE_BUF with @handle 0, else FILL_BUF: @n pages of @from's, one by one, backwards. */
static int buf_cmd(struct raw *r, uint32_t *handle, uint32_t ctx, uint64_t total, uint64_t from,
		   uint32_t n)
{
	struct {
		union {
			struct virtio_rdma_create_buf_req create;
			struct virtio_rdma_fill_buf_req fill;
			struct virtio_rdma_extent ext[2 + BUF_EXTENTS];
		};
	} q;
	uint32_t fixed = *handle ? sizeof(q.fill) : sizeof(q.create);
	struct virtio_rdma_extent *ext = (void *)((uint8_t *)&q + fixed);
	struct virtio_rdma_create_buf_rsp rsp;
	int status;

	memset(&q, 0, sizeof(q));
	if (*handle)
		q.fill = (struct virtio_rdma_fill_buf_req) {
			.hdr.opcode = CMD(FILL_BUF), .buf = *handle, .num_extents = n,
		};
	else
		q.create = (struct virtio_rdma_create_buf_req) {
			.hdr.opcode = CMD(CREATE_BUF), .ctx = ctx, .num_extents = n,
			.total_pages = total,
		};
	for (uint32_t i = 0; i < n; i++)
		ext[i] = (struct virtio_rdma_extent) { .addr = from + i * 4096ULL, .pages = 1 };
	status = raw_cmd(r, &q, fixed + n * 16, &rsp, *handle ? sizeof(rsp.hdr) : sizeof(rsp));
	if (!status && !*handle)
		*handle = rsp.buf;
	return status;
}

static int cq_of(struct raw *r, uint32_t ctx, uint32_t handle, uint32_t entries, uint32_t *cqn)
{
	struct virtio_rdma_create_cq_req q = {
		.hdr.opcode = CMD(CREATE_CQ), .ctx = ctx, .entries = entries, .cqe_size = 32,
		.ctrl_offset = entries * 32, .buf.handle = handle,
	};
	struct virtio_rdma_create_cq_rsp rsp;
	int status = raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp));

	*cqn = status ? 0 : rsp.cqn;
	return status;
}

/* A ring of more extents than one command carries is filled by several. */
static void handles(struct raw *r)
{
	struct { struct virtio_rdma_create_qp_req req; struct virtio_rdma_extent ext[1]; } none = {
		.req = { .hdr.opcode = CMD(CREATE_QP), .srqn = VIRTIO_RDMA_NONE,
			 .qp_type = VIRTIO_RDMA_QPT_RC },
	};
	struct virtio_rdma_create_qp_rsp qp;
	uint32_t ctx, other, h = 0, h2 = 0, cqn, pd, i;
	uint64_t mem;
	int status;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	other = raw_ctx(r, 0);
	mem = raw_alloc(r, 9);
	is(buf_cmd(r, &h, ctx + 99, 9, mem, 4), S(NOENT), "BUF: unknown context");
	is(buf_cmd(r, &h, ctx, 0, mem, 1), S(INVAL), "BUF: no pages");
	is(buf_cmd(r, &h, ctx, (1 << 20) + 1, mem, 1), S(INVAL), "BUF: more than 4 GiB");
	is(buf_cmd(r, &h, ctx, UINT64_MAX, mem, 1), S(INVAL), "BUF: 2^64 - 1 pages");
	is(buf_cmd(r, &h, ctx, 3, mem, 4), S(INVAL), "BUF: more pages than it has");
	is(buf_cmd(r, &h, ctx, 9, mem, 0), S(INVAL), "BUF: no extents");
	is(raw_stat(r, "ring_bytes"), 0, "nothing is left");

	is(buf_cmd(r, &h, ctx, 9, mem, 4), S(OK), "CREATE_BUF");
	is(raw_stat(r, "ring_bytes"), 9 * 4096, "counts at once");
	is(cq_of(r, ctx, h, 1024, &cqn), S(INVAL), "a buffer that is not complete");
	is(buf_cmd(r, &h, 0, 0, mem + 4 * 4096, 4), S(OK), "FILL_BUF");
	is(buf_cmd(r, &h, 0, 0, mem + 8 * 4096, 2), S(INVAL), "with too many pages");
	is(buf_cmd(r, &h, 0, 0, 1ULL << 44, 1), S(FAULT), "with a page above all memory");
	/* 32 bits of its number are those of a page of RAM. */
	is(buf_cmd(r, &h, 0, 0, mem + (1ULL << 44), 1), S(FAULT), "or far above RAM");
	is(buf_cmd(r, &h, 0, 0, RAW_HOLE, 1), S(OK), "with what is no RAM");
	is(cq_of(r, ctx, h, 1024, &cqn), S(FAULT), "which the object finds");
	is(raw_destroy(r, CMD(DESTROY_BUF), h), S(OK), "DESTROY_BUF");
	is(raw_destroy(r, CMD(DESTROY_BUF), h), S(NOENT), "twice");
	h = 0;
	buf_cmd(r, &h, ctx, 9, mem, 4);
	buf_cmd(r, &h, 0, 0, mem + 4 * 4096, 4);
	is(buf_cmd(r, &h, 0, 0, mem + 8 * 4096, 1), S(OK), "the last page");
	is(raw_destroy(r, CMD(DESTROY_CTX), ctx), S(BUSY), "a context with a buffer stays");
	is(cq_of(r, other, h, 1024, &cqn), S(INVAL), "a buffer of another context");
	is(cq_of(r, ctx, h + 1, 1024, &cqn), S(NOENT), "an unknown buffer");
	is(cq_of(r, ctx, h, 2048, &cqn), S(INVAL), "one that is too small");
	is(cq_of(r, ctx, h, 1024, &cqn), S(OK), "a CQ of the buffer");
	is(buf_cmd(r, &h, 0, 0, mem, 1), S(NOENT), "which is no handle any more");
	is(cq_of(r, ctx, h, 1024, &i), S(NOENT), "and no other CQ's");
	is(raw_stat(r, "ring_bytes"), 9 * 4096, "counted once");
	is(raw_destroy(r, CMD(DESTROY_CQ), cqn), S(OK), "goes with the CQ");
	is(raw_stat(r, "ring_bytes"), 0, "with its pages");

	for (i = 0, status = 0; !status && i < 1000; i++) {
		h = 0;
		status = buf_cmd(r, &h, ctx, 9, mem, 1);
	}
	ok(status == S(NOMEM) && i == 257, "handles that nobody completes are bounded: %u", i);
	is(raw_init(r), S(OK), "INIT");
	is(raw_stat(r, "ring_bytes"), 0, "forgets them");

	ctx = raw_ctx(r, 0);
	pd = raw_pd(r, ctx);
	none.req.ctx = ctx;
	none.req.pd = pd;
	none.req.send_cqn = none.req.recv_cqn = raw_cq(r, ctx, 16, 0);
	is(raw_cmd(r, &none, sizeof(none.req), &qp, sizeof(qp)), S(OK), "a QP without rings");
	ok(qp.sq_slot == VIRTIO_RDMA_NONE && qp.rq_slot == VIRTIO_RDMA_NONE, "has no slots");
	is(raw_destroy(r, CMD(DESTROY_QP), qp.qpn), S(OK), "and goes");
	buf_cmd(r, &h2, ctx, 1, mem, 1);
	none.req.buf.handle = h2;
	is(raw_cmd(r, &none, sizeof(none.req), &qp, sizeof(qp)), S(INVAL), "nor a buffer");
	is(raw_destroy(r, CMD(DESTROY_BUF), h2), S(OK), "which stays");
}

int main(void)
{
	struct raw *r = raw_new(NULL, FEATURES);

	contexts(r);
	cqs(r);
	resize(r);
	qps(r);
	ring_bytes(r);
	handles(r);
	raw_free(r);
	return tap_done();
}
