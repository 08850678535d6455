// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands for CQs, buffers of rings, SRQs and QPs, and work requests on these rings; for
 * fuzz_commands.c.
 */
#include "grammar.h"

void do_cq(struct fuzz_in *in, struct cmd_side *s)
{
	uint32_t entries = 1U << (fuzz_u8(in) & 7), ring = entries * 32 > 128 ? entries * 32 : 128;
	uint32_t num_pages = (ring + 128 + GUEST_PAGE - 1) / GUEST_PAGE, n;
	uint8_t *buf = fuzz_guest_pages(&s->f, num_pages);
	struct cmd_object *o;

	req.cq = (struct virtio_rdma_create_cq_req){
		.ctx = cmd_handle(in, s, CTX),
		.entries = htole32(fuzz_pick32(in, entries)),
		.cqe_size = htole32(fuzz_pick32(in, 32)),
		.vector = htole32(fuzz_pick32(in, fuzz_u8(in) & 1)),
		.ring_offset = htole32(fuzz_pick32(in, 0)),
		.ctrl_offset = htole32(fuzz_pick32(in, ring)),
	};
	n = cmd_extents(in, s, req.cq.extents, buf, num_pages);
	req.cq.buf.num_extents = htole32(fuzz_pick32(in, n));
	if (!cmd_send(in, s, VIRTIO_RDMA_CMD_CREATE_CQ, sizeof(req.cq) + n * 16, sizeof(rsp.cq)))
		return;
	o = cmd_add(s, CQ);
	*o = (struct cmd_object){ .handle = le32toh(rsp.cq.cqn), .cq = (void *)(buf + ring) };
	/* Half of the CQs are armed. */
	if (o->handle & 1)
		__atomic_store_n(&o->cq->arm, htole32(4 | VIRTIO_RDMA_ARM_ANY), __ATOMIC_RELEASE);
}

void do_resize(struct fuzz_in *in, struct cmd_side *s)
{
	uint32_t entries = 1U << (fuzz_u8(in) & 7), ring = entries * 32 > 128 ? entries * 32 : 128;
	uint32_t num_pages = (ring + 128 + GUEST_PAGE - 1) / GUEST_PAGE, n;
	uint8_t *buf = fuzz_guest_pages(&s->f, num_pages);

	req.resize = (struct virtio_rdma_resize_cq_req){
		.cqn = cmd_handle(in, s, CQ),
		.entries = htole32(fuzz_pick32(in, entries)),
		.ring_offset = htole32(fuzz_pick32(in, 0)),
		.ctrl_offset = htole32(fuzz_pick32(in, ring)),
	};
	n = cmd_extents(in, s, req.resize.extents, buf, num_pages);
	req.resize.buf.num_extents = htole32(fuzz_pick32(in, n));
	cmd_send(in, s, VIRTIO_RDMA_CMD_RESIZE_CQ, sizeof(req.resize) + n * 16, sizeof(rsp.hdr));
}

/* A buffer by handle, or the next part of one. */
void do_buf(struct fuzz_in *in, struct cmd_side *s)
{
	uint8_t how = fuzz_u8(in);
	uint32_t num_pages = (how & 3) + 1, n;
	uint8_t *pages = fuzz_guest_pages(&s->f, num_pages);

	if (how & 0x80) {
		req.fill = (struct virtio_rdma_fill_buf_req){ .buf = cmd_handle(in, s, BUF) };
		n = cmd_extents(in, s, req.fill.extents, pages, num_pages);
		req.fill.num_extents = htole32(fuzz_pick32(in, n));
		cmd_send(in, s, VIRTIO_RDMA_CMD_FILL_BUF, sizeof(req.fill) + n * 16,
			 sizeof(rsp.hdr));
		return;
	}
	req.buf = (struct virtio_rdma_create_buf_req){
		.ctx = cmd_handle(in, s, CTX),
		.total_pages = htole64(fuzz_pick64(in, num_pages + (how >> 2 & 3))),
	};
	n = cmd_extents(in, s, req.buf.extents, pages, num_pages);
	req.buf.num_extents = htole32(fuzz_pick32(in, n));
	if (cmd_send(in, s, VIRTIO_RDMA_CMD_CREATE_BUF, sizeof(req.buf) + n * 16, sizeof(rsp.buf)))
		*cmd_add(s, BUF) = (struct cmd_object){ .handle = le32toh(rsp.buf.buf) };
}

/* A CQ, or its new ring, in such a buffer. */
void do_buf_cq(struct fuzz_in *in, struct cmd_side *s)
{
	uint32_t buf = cmd_handle(in, s, BUF);

	if (fuzz_u8(in) & 1) {
		req.resize = (struct virtio_rdma_resize_cq_req){
			.cqn = cmd_handle(in, s, CQ), .entries = htole32(64),
			.ctrl_offset = htole32(64 * 32), .buf.handle = buf,
		};
		if (cmd_send(in, s, VIRTIO_RDMA_CMD_RESIZE_CQ, sizeof(req.resize), sizeof(rsp.hdr)))
			cmd_forget(s, BUF, le32toh(buf));
		return;
	}
	req.cq = (struct virtio_rdma_create_cq_req){
		.ctx = cmd_handle(in, s, CTX), .entries = htole32(64), .cqe_size = htole32(32),
		.ctrl_offset = htole32(64 * 32), .buf.handle = buf,
	};
	if (!cmd_send(in, s, VIRTIO_RDMA_CMD_CREATE_CQ, sizeof(req.cq), sizeof(rsp.cq)))
		return;
	cmd_forget(s, BUF, le32toh(buf));
	*cmd_add(s, CQ) = (struct cmd_object){ .handle = le32toh(rsp.cq.cqn) };
}

/* The doorbell page of the context that a request names. */
static struct guest_ctx ctx_of(const struct cmd_side *s, __le32 ctx)
{
	for (unsigned int i = 0; i < s->num[CTX]; i++)
		if (htole32(s->objects[CTX][i].handle) == ctx)
			return s->objects[CTX][i].ctx;
	return (struct guest_ctx){ 0 };
}

void do_srq(struct fuzz_in *in, struct cmd_side *s)
{
	uint32_t entries = 1U << (fuzz_u8(in) & 7), ring = entries * 64 > 128 ? entries * 64 : 128;
	uint32_t num_pages = (ring + 128 + GUEST_PAGE - 1) / GUEST_PAGE, n;
	uint8_t *buf = fuzz_guest_pages(&s->f, num_pages);
	struct cmd_object *o;

	req.srq = (struct virtio_rdma_create_srq_req){
		.ctx = cmd_handle(in, s, CTX),
		.pd = cmd_handle(in, s, PD),
		.entries = htole32(fuzz_pick32(in, entries)),
		.max_sge = htole32(fuzz_pick32(in, 2)),
		.ring_offset = htole32(fuzz_pick32(in, 0)),
		.ctrl_offset = htole32(fuzz_pick32(in, ring)),
		.limit = htole32(fuzz_pick32(in, 0)),
		.stride_shift = 1,
	};
	n = cmd_extents(in, s, req.srq.extents, buf, num_pages);
	req.srq.buf.num_extents = htole32(fuzz_pick32(in, n));
	if (!cmd_send(in, s, VIRTIO_RDMA_CMD_CREATE_SRQ, sizeof(req.srq) + n * 16, sizeof(rsp.srq)))
		return;
	o = cmd_add(s, SRQ);
	*o = (struct cmd_object){
		.handle = le32toh(rsp.srq.srqn),
		.srq.ring = {
			.ring = buf, .ctrl = (void *)(buf + ring), .entries = entries, .stride = 64,
			.slot = le32toh(rsp.srq.slot),
		},
		.ctx = ctx_of(s, req.srq.ctx),
	};
}

void do_srq_limit(struct fuzz_in *in, struct cmd_side *s)
{
	uint8_t how = fuzz_u8(in);

	if (how & 1) {
		req.query_srq = (struct virtio_rdma_query_srq_req){
			.srqn = cmd_handle(in, s, SRQ),
		};
		cmd_send(in, s, VIRTIO_RDMA_CMD_QUERY_SRQ, sizeof(req.query_srq),
			 sizeof(struct virtio_rdma_query_srq_rsp));
		return;
	}
	req.modify_srq = (struct virtio_rdma_modify_srq_req){
		.srqn = cmd_handle(in, s, SRQ),
		.mask = htole32(fuzz_pick32(in, VIRTIO_RDMA_SRQ_LIMIT)),
		.limit = htole32(fuzz_pick32(in, how >> 4)),
	};
	cmd_send(in, s, VIRTIO_RDMA_CMD_MODIFY_SRQ, sizeof(req.modify_srq), sizeof(rsp.hdr));
}

void do_qp(struct fuzz_in *in, struct cmd_side *s)
{
	uint8_t how = fuzz_u8(in), type = (how & 3) + 1, shift = fuzz_u8(in);
	bool shared = how & 0x80;
	uint32_t sq = 1U << (shift & 7), rq = shared ? 0 : 1U << (shift >> 4 & 7), sq_bytes, rq_bytes;
	uint32_t n;
	uint32_t num_pages;
	struct guest_qp *q;
	uint8_t *buf;
	struct cmd_object *o;

	sq_bytes = (sq * 128 + GUEST_PAGE - 1) / GUEST_PAGE * GUEST_PAGE;
	rq_bytes = (rq * 64 + GUEST_PAGE - 1) / GUEST_PAGE * GUEST_PAGE;
	num_pages = (sq_bytes + rq_bytes) / GUEST_PAGE + 1;
	buf = fuzz_guest_pages(&s->f, num_pages);
	req.qp = (struct virtio_rdma_create_qp_req){
		.ctx = cmd_handle(in, s, CTX),
		.pd = cmd_handle(in, s, PD),
		.send_cqn = cmd_handle(in, s, CQ),
		.recv_cqn = cmd_handle(in, s, CQ),
		.srqn = shared ? cmd_handle(in, s, SRQ) : htole32(fuzz_pick32(in, VIRTIO_RDMA_NONE)),
		.qp_type = type,
		.sq_stride_shift = 1,
		.rq_stride_shift = 1,
		.sq_entries = htole32(fuzz_pick32(in, sq)),
		.rq_entries = htole32(fuzz_pick32(in, rq)),
		.max_send_sge = htole32(fuzz_pick32(in, 3)),
		.max_recv_sge = htole32(fuzz_pick32(in, 2)),
		.max_inline = htole32(fuzz_pick32(in, 32)),
		.rq_offset = htole32(fuzz_pick32(in, sq_bytes)),
		.sq_ctrl_offset = htole32(fuzz_pick32(in, sq_bytes + rq_bytes)),
		.rq_ctrl_offset = htole32(fuzz_pick32(in, rq ? sq_bytes + rq_bytes + 128 : 0)),
	};
	n = cmd_extents(in, s, req.qp.extents, buf, num_pages);
	req.qp.buf.num_extents = htole32(fuzz_pick32(in, n));
	if (!cmd_send(in, s, VIRTIO_RDMA_CMD_CREATE_QP, sizeof(req.qp) + n * 16, sizeof(rsp.qp)))
		return;
	o = cmd_add(s, QP);
	*o = (struct cmd_object){ .handle = le32toh(rsp.qp.qpn), .type = type };
	q = &o->qp;
	q->g = s->f.g;
	q->sq.ring = buf;
	q->sq.entries = sq;
	q->sq.stride = 128;
	q->sq.ctrl = (void *)(buf + sq_bytes + rq_bytes);
	q->rq.ring = buf + sq_bytes;
	q->rq.entries = rq;
	q->rq.stride = 64;
	q->rq.ctrl = rq ? q->sq.ctrl + 1 : NULL;
	q->sq.slot = le32toh(rsp.qp.sq_slot);
	q->rq.slot = le32toh(rsp.qp.rq_slot);
	o->ctx = ctx_of(s, req.qp.ctx);
}

/* Attributes that a transition to each state needs, beside the state: RC's and UD's. */
static uint32_t mask_for(uint8_t type, uint8_t state)
{
	bool rc = type == VIRTIO_RDMA_QPT_RC, conn = rc || type == VIRTIO_RDMA_QPT_UC;

	switch (state) {
	case VIRTIO_RDMA_QPS_INIT:
		return VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_PKEY_INDEX | VIRTIO_RDMA_QP_PORT |
			(conn ? VIRTIO_RDMA_QP_ACCESS_FLAGS : VIRTIO_RDMA_QP_QKEY);
	case VIRTIO_RDMA_QPS_RTR:
		return VIRTIO_RDMA_QP_STATE |
			(conn ? VIRTIO_RDMA_QP_AV | VIRTIO_RDMA_QP_PATH_MTU |
			 VIRTIO_RDMA_QP_DEST_QPN | VIRTIO_RDMA_QP_RQ_PSN : 0) |
			(rc ? VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC | VIRTIO_RDMA_QP_MIN_RNR_TIMER : 0);
	case VIRTIO_RDMA_QPS_RTS:
		return VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_SQ_PSN |
			(rc ? VIRTIO_RDMA_QP_TIMEOUT | VIRTIO_RDMA_QP_RETRY_CNT |
			 VIRTIO_RDMA_QP_RNR_RETRY | VIRTIO_RDMA_QP_MAX_QP_RD_ATOMIC : 0);
	default:
		return VIRTIO_RDMA_QP_STATE;
	}
}

static void modify(struct fuzz_in *in, struct cmd_side *s, const struct cmd_object *o,
		   uint8_t state, const struct cmd_side *peer, uint32_t dqpn)
{
	req.modify = (struct virtio_rdma_modify_qp_req){
		.qpn = htole32(fuzz_pick32(in, o->handle)),
		.mask = htole32(fuzz_pick32(in, mask_for(o->type, state))),
		.attr = {
			.state = state, .path_mtu = 3, .port_num = 1, .timeout = 1,
			.retry_cnt = 1, .rnr_retry = 1, .min_rnr_timer = 1, .max_rd_atomic = 4,
			.max_dest_rd_atomic = 4, .access_flags = htole32(14),
			.qkey = htole32(0x1234), .dest_qpn = htole32(dqpn),
		},
	};
	memcpy(req.modify.attr.av.dgid, peer->f.g->gid, 16);
	req.modify.attr.av.hop_limit = 1;
	cmd_send(in, s, VIRTIO_RDMA_CMD_MODIFY_QP, sizeof(req.modify), sizeof(rsp.hdr));
}

void do_modify(struct fuzz_in *in, struct cmd_side *s)
{
	struct cmd_object *o = cmd_any(in, s, QP);
	uint8_t how = fuzz_u8(in);
	struct cmd_side *peer = &cmd_sides[(how >> 4) % CMD_GUESTS];

	modify(in, s, o, how & 7, peer, cmd_any(in, peer, QP)->handle);
}

/* All transitions to RTS, connected to a QP of any device. */
void do_connect(struct fuzz_in *in, struct cmd_side *s)
{
	static const uint8_t way[] = {
		VIRTIO_RDMA_QPS_RESET, VIRTIO_RDMA_QPS_INIT, VIRTIO_RDMA_QPS_RTR,
		VIRTIO_RDMA_QPS_RTS,
	};
	struct cmd_object *o = cmd_any(in, s, QP);
	struct cmd_side *peer = &cmd_sides[fuzz_u8(in) % CMD_GUESTS];
	uint32_t dqpn = cmd_any(in, peer, QP)->handle;

	for (unsigned int i = 0; i < 4; i++)
		modify(in, s, o, way[i], peer, dqpn);
	if (o->qp.sq.ctrl) {
		o->qp.sq.producer = 0;
		o->qp.rq.producer = 0;
		__atomic_store_n(&o->qp.sq.ctrl->producer, 0, __ATOMIC_RELEASE);
		if (o->qp.rq.ctrl)
			__atomic_store_n(&o->qp.rq.ctrl->producer, 0, __ATOMIC_RELEASE);
	}
}

/* ---- work requests --------------------------------------------------------------- */

static void ring(struct cmd_object *o, struct guest_ring *r)
{
	if (o->ctx.db && r->slot < VIRTIO_RDMA_DB_SLOTS)
		guest_ring_doorbell(&o->ctx, r);
	else
		__atomic_store_n(&r->ctrl->producer, htole32(r->producer), __ATOMIC_RELEASE);
}

/* Work on a QP's rings, so that commands meet objects in use. */
void do_post(struct fuzz_in *in, struct cmd_side *s)
{
	struct cmd_object *o = cmd_any(in, s, QP), *l = cmd_any(in, s, MR), *r;
	struct cmd_side *peer = &cmd_sides[fuzz_u8(in) % CMD_GUESTS];
	uint8_t what = fuzz_u8(in);
	struct guest_sge sge = { l->iova, (uint32_t)(what >> 4) * 64, l->lkey };
	struct virtio_rdma_av av = { .hop_limit = 1 };
	struct guest_wr wr = {
		.opcode = what & 7, .flags = VIRTIO_RDMA_WQE_SIGNALED, .num_sge = 1, .sge = &sge,
	};

	if (!o->qp.sq.ctrl)
		return;
	if (what & 8) {
		if (!o->qp.rq.ctrl)
			return;
		guest_write_recv(&o->qp, &sge, 1);
		ring(o, &o->qp.rq);
		return;
	}
	r = cmd_any(in, peer, MR);
	wr.remote_addr = r->iova;
	wr.rkey = r->rkey;
	if (o->type == VIRTIO_RDMA_QPT_UD || o->type == VIRTIO_RDMA_QPT_GSI) {
		memcpy(av.dgid, peer->f.g->gid, 16);
		av.pd = htole32(cmd_any(in, s, PD)->handle);
		av.dqpn = htole32(cmd_any(in, peer, QP)->handle);
		av.qkey = htole32(0x1234);
		wr.av = &av;
		wr.opcode = VIRTIO_RDMA_WR_SEND;
	}
	guest_write_send(&o->qp, &wr);
	ring(o, &o->qp.sq);
}

/* Entries of an SRQ; their cookies may be equal. */
void do_post_srq(struct fuzz_in *in, struct cmd_side *s)
{
	struct cmd_object *o = cmd_any(in, s, SRQ), *l = cmd_any(in, s, MR);
	uint8_t how = fuzz_u8(in);
	struct guest_sge sge = { l->iova, (uint32_t)(how >> 4) * 64, l->lkey };

	if (!o->srq.ring.ctrl)
		return;
	for (unsigned int n = 1 + (how & 3); n; n--)
		guest_write_srq(&o->srq, fuzz_pick32(in, n), &sge, 1);
	if (how & 4)
		o->srq.ring.producer = fuzz_pick32(in, o->srq.ring.producer);
	ring(o, &o->srq.ring);
}
