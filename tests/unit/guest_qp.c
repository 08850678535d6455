// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The test guest's queue pairs and SRQs, and the set of objects around a QP that most tests
 * need.  See guest.h.
 */
#include <stdlib.h>
#include <string.h>

#include "guest.h"
#include "guest_shm.h"

static uint64_t pages(uint64_t bytes)
{
	return (bytes + GUEST_PAGE - 1) / GUEST_PAGE;
}

static uint32_t stride_for(uint32_t bytes, uint32_t least)
{
	uint32_t stride = least;

	while (stride < bytes)
		stride *= 2;
	return stride;
}

static void set_defaults(struct guest_qp_init *init)
{
	if (!init->sq_entries && !init->no_sq)
		init->sq_entries = 128;
	if (!init->rq_entries && !init->srq)
		init->rq_entries = 128;
	if (!init->max_send_sge)
		init->max_send_sge = 2;
	if (!init->max_recv_sge)
		init->max_recv_sge = 1;
	if (!init->max_inline)
		init->max_inline = 32;
}

static void lay_out(struct guest_qp *qp)
{
	const struct guest_qp_init *init = &qp->init;
	bool ud = init->type == VIRTIO_RDMA_QPT_UD || init->type == VIRTIO_RDMA_QPT_GSI;
	uint32_t head = ud ? 64 : 32;
	uint32_t tail = init->max_send_sge * sizeof(struct virtio_rdma_sge);
	uint64_t sq, rq;

	qp->sq.entries = init->sq_entries;
	qp->sq.stride = stride_for(head + (tail > init->max_inline ? tail : init->max_inline),
				   ud ? 128 : 64);
	qp->rq.entries = init->rq_entries;
	qp->rq.stride = stride_for(16 + init->max_recv_sge * sizeof(struct virtio_rdma_sge), 32);

	sq = pages(qp->sq.entries * qp->sq.stride) * GUEST_PAGE;
	rq = pages(qp->rq.entries * qp->rq.stride) * GUEST_PAGE;
	qp->buf_size = sq + rq + GUEST_PAGE;
	qp->buf = guest_alloc(qp->g, qp->buf_size);
	qp->sq.ring = qp->buf;
	qp->rq.ring = qp->sq.ring + sq;
	qp->sq.ctrl = (void *)(qp->rq.ring + rq);
	qp->rq.ctrl = qp->rq.entries ? qp->sq.ctrl + 1 : NULL;
}

/* ---- shared receive queues ---------------------------------------------------------- */

uint32_t guest_srq_create(struct guest_ctx *ctx, uint32_t pd, uint32_t entries, uint32_t max_sge,
			  struct guest_srq *srq)
{
	struct {
		struct virtio_rdma_create_srq_req req;
		struct virtio_rdma_extent extent;
	} cmd = { .req.hdr.opcode = htole32(VIRTIO_RDMA_CMD_CREATE_SRQ) };
	struct virtio_rdma_create_srq_rsp rsp;
	uint64_t ring;
	uint32_t status;

	*srq = (struct guest_srq){ .g = ctx->g, .ctx = ctx };
	srq->ring.entries = entries;
	srq->ring.stride = stride_for(16 + max_sge * sizeof(struct virtio_rdma_sge), 32);
	ring = pages(entries * srq->ring.stride) * GUEST_PAGE;
	srq->buf_size = ring + GUEST_PAGE;
	srq->buf = guest_alloc(srq->g, srq->buf_size);
	srq->ring.ring = srq->buf;
	srq->ring.ctrl = (void *)(srq->ring.ring + ring);

	cmd.req.ctx = htole32(ctx->id);
	cmd.req.pd = htole32(pd);
	cmd.req.entries = htole32(entries);
	cmd.req.max_sge = htole32(max_sge);
	cmd.req.stride_shift = __builtin_ctz(srq->ring.stride / 32);
	cmd.req.ctrl_offset = htole32(ring);
	cmd.req.buf.num_extents = htole32(1);
	cmd.extent.addr = htole64(guest_addr(srq->g, srq->buf));
	cmd.extent.pages = htole32(srq->buf_size / GUEST_PAGE);
	status = guest_command_raw(srq->g, &cmd, sizeof(cmd), &rsp, sizeof(rsp), NULL);
	if (status)
		guest_free(srq->g, srq->buf, srq->buf_size);
	srq->srqn = le32toh(rsp.srqn);
	srq->ring.slot = le32toh(rsp.slot);
	return status;
}

uint32_t guest_srq_destroy(struct guest_srq *srq)
{
	uint32_t status = guest_destroy_handle(srq->g, VIRTIO_RDMA_CMD_DESTROY_SRQ, srq->srqn);

	if (!status)
		guest_free(srq->g, srq->buf, srq->buf_size);
	return status;
}

uint32_t guest_srq_arm(struct guest_srq *srq, uint32_t limit)
{
	struct virtio_rdma_modify_srq_req req = {
		.srqn = htole32(srq->srqn), .mask = htole32(VIRTIO_RDMA_SRQ_LIMIT),
		.limit = htole32(limit),
	};
	struct virtio_rdma_rsp_hdr rsp;

	return guest_command(srq->g, VIRTIO_RDMA_CMD_MODIFY_SRQ, &req, &rsp);
}

uint32_t guest_srq_limit(struct guest_srq *srq)
{
	struct virtio_rdma_query_srq_req req = { .srqn = htole32(srq->srqn) };
	struct virtio_rdma_query_srq_rsp rsp;
	uint32_t status = guest_command(srq->g, VIRTIO_RDMA_CMD_QUERY_SRQ, &req, &rsp);

	if (status)
		guest_fatal("QUERY_SRQ answers %u", status);
	return le32toh(rsp.limit);
}

/* ---- queue pairs -------------------------------------------------------------------- */

uint32_t guest_qp_create(struct guest_ctx *ctx, const struct guest_qp_init *init,
			 struct guest_qp *qp)
{
	struct {
		struct virtio_rdma_create_qp_req req;
		struct virtio_rdma_extent extent;
	} cmd = { .req.hdr.opcode = htole32(VIRTIO_RDMA_CMD_CREATE_QP) };
	struct virtio_rdma_create_qp_req *req = &cmd.req;
	struct virtio_rdma_create_qp_rsp rsp;
	uint32_t status;

	*qp = (struct guest_qp){ .g = ctx->g, .ctx = ctx, .init = *init };
	init = &qp->init;
	set_defaults(&qp->init);
	lay_out(qp);
	req->ctx = htole32(ctx->id);
	req->pd = htole32(init->pd);
	req->send_cqn = htole32(init->send_cq->cqn);
	req->recv_cqn = htole32(init->recv_cq->cqn);
	req->srqn = htole32(init->srq ? init->srq->srqn : VIRTIO_RDMA_NONE);
	req->qp_type = init->type;
	req->sq_stride_shift = __builtin_ctz(qp->sq.stride / 64);
	req->rq_stride_shift = __builtin_ctz(qp->rq.stride / 32);
	req->sq_entries = htole32(qp->sq.entries);
	req->rq_entries = htole32(qp->rq.entries);
	req->max_send_sge = htole32(init->max_send_sge);
	req->max_recv_sge = htole32(init->max_recv_sge);
	req->max_inline = htole32(init->max_inline);
	req->rq_offset = htole32(qp->rq.ring - qp->sq.ring);
	req->sq_ctrl_offset = htole32((uint8_t *)qp->sq.ctrl - (uint8_t *)qp->buf);
	if (qp->rq.entries)
		req->rq_ctrl_offset = htole32((uint8_t *)qp->rq.ctrl - (uint8_t *)qp->buf);
	req->buf.num_extents = htole32(1);
	cmd.extent.addr = htole64(guest_addr(qp->g, qp->buf));
	cmd.extent.pages = htole32(qp->buf_size / GUEST_PAGE);
	status = guest_command_raw(qp->g, &cmd, sizeof(cmd), &rsp, sizeof(rsp), NULL);
	if (status)
		guest_free(qp->g, qp->buf, qp->buf_size);
	qp->qpn = le32toh(rsp.qpn);
	qp->sq.slot = le32toh(rsp.sq_slot);
	qp->rq.slot = le32toh(rsp.rq_slot);
	return status;
}

uint32_t guest_qp_destroy(struct guest_qp *qp)
{
	uint32_t status = guest_destroy_handle(qp->g, VIRTIO_RDMA_CMD_DESTROY_QP, qp->qpn);

	if (!status)
		guest_free(qp->g, qp->buf, qp->buf_size);
	return status;
}

uint32_t guest_qp_modify(struct guest_qp *qp, uint32_t mask,
			 const struct virtio_rdma_qp_attr *attr)
{
	struct virtio_rdma_modify_qp_req req = {
		.qpn = htole32(qp->qpn), .mask = htole32(mask), .attr = *attr,
	};
	struct virtio_rdma_rsp_hdr rsp;

	return guest_command(qp->g, VIRTIO_RDMA_CMD_MODIFY_QP, &req, &rsp);
}

uint32_t guest_qp_query(struct guest_qp *qp, struct virtio_rdma_qp_attr *attr)
{
	struct virtio_rdma_query_qp_req req = { .qpn = htole32(qp->qpn) };
	struct virtio_rdma_query_qp_rsp rsp;
	uint32_t status = guest_command(qp->g, VIRTIO_RDMA_CMD_QUERY_QP, &req, &rsp);

	*attr = rsp.attr;
	return status;
}

uint8_t guest_qp_state(struct guest_qp *qp)
{
	struct virtio_rdma_qp_attr attr;

	return guest_qp_query(qp, &attr) ? 0xff : attr.state;
}

uint32_t guest_qp_set_state(struct guest_qp *qp, uint8_t state)
{
	struct virtio_rdma_qp_attr attr = { .state = state };

	return guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE, &attr);
}

uint32_t guest_qp_reset(struct guest_qp *qp)
{
	uint32_t status = guest_qp_set_state(qp, VIRTIO_RDMA_QPS_RESET);

	qp->sq.producer = 0;
	qp->rq.producer = 0;
	vrd_store32_release(&qp->sq.ctrl->producer, 0);
	if (qp->rq.ctrl)
		vrd_store32_release(&qp->rq.ctrl->producer, 0);
	return status;
}

uint32_t guest_qp_connect(struct guest_qp *qp, const uint8_t dgid[16], uint32_t dqpn)
{
	struct virtio_rdma_qp_attr attr = {
		.state = VIRTIO_RDMA_QPS_INIT,
		.path_mtu = 5,
		.port_num = 1,
		.timeout = 14,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.min_rnr_timer = 1,
		.max_rd_atomic = 16,
		.max_dest_rd_atomic = 16,
		.access_flags = htole32(VIRTIO_RDMA_ACCESS_REMOTE_WRITE |
					VIRTIO_RDMA_ACCESS_REMOTE_READ |
					VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC),
		.dest_qpn = htole32(dqpn),
		.av.hop_limit = 64,
	};
	bool rc = qp->init.type == VIRTIO_RDMA_QPT_RC;
	uint32_t status;

	memcpy(attr.av.dgid, dgid, 16);
	status = guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_PKEY_INDEX |
				 VIRTIO_RDMA_QP_PORT | VIRTIO_RDMA_QP_ACCESS_FLAGS, &attr);
	if (status)
		return status;
	attr.state = VIRTIO_RDMA_QPS_RTR;
	status = guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_AV |
				 VIRTIO_RDMA_QP_PATH_MTU | VIRTIO_RDMA_QP_DEST_QPN |
				 VIRTIO_RDMA_QP_RQ_PSN |
				 (rc ? VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC |
				  VIRTIO_RDMA_QP_MIN_RNR_TIMER : 0), &attr);
	if (status)
		return status;
	attr.state = VIRTIO_RDMA_QPS_RTS;
	return guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_SQ_PSN |
			       (rc ? VIRTIO_RDMA_QP_TIMEOUT | VIRTIO_RDMA_QP_RETRY_CNT |
				VIRTIO_RDMA_QP_RNR_RETRY | VIRTIO_RDMA_QP_MAX_QP_RD_ATOMIC : 0),
			       &attr);
}

void guest_qp_connect_pair(struct guest_qp *a, struct guest_qp *b)
{
	uint32_t first = guest_qp_connect(a, b->g->gid, b->qpn);
	uint32_t second = guest_qp_connect(b, a->g->gid, a->qpn);

	if (first || second)
		guest_fatal("connecting QPs answers %u and %u", first, second);
}

uint32_t guest_qp_open_ud(struct guest_qp *qp, uint32_t qkey)
{
	struct virtio_rdma_qp_attr attr = {
		.state = VIRTIO_RDMA_QPS_INIT, .port_num = 1, .qkey = htole32(qkey),
	};
	uint32_t status;

	status = guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_PKEY_INDEX |
				 VIRTIO_RDMA_QP_PORT | VIRTIO_RDMA_QP_QKEY, &attr);
	if (!status)
		status = guest_qp_set_state(qp, VIRTIO_RDMA_QPS_RTR);
	if (status)
		return status;
	attr.state = VIRTIO_RDMA_QPS_RTS;
	return guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_SQ_PSN, &attr);
}

/* ---- sets of objects -------------------------------------------------------------------- */

static void must(uint32_t status, const char *what)
{
	if (status)
		guest_fatal("%s answers %u", what, status);
}

void guest_side_add_qp(struct guest_side *side, const struct guest_qp_init *init,
		       struct guest_qp *qp)
{
	struct guest_qp_init full = init ? *init : (struct guest_qp_init){ 0 };

	if (!full.type)
		full.type = VIRTIO_RDMA_QPT_RC;
	full.pd = side->pd;
	full.send_cq = &side->cq;
	full.recv_cq = &side->cq;
	must(guest_qp_create(&side->ctx, &full, qp), "CREATE_QP");
}

void guest_side_open(struct guest *g, uint64_t mem_size, uint32_t cq_entries,
		     const struct guest_qp_init *init, struct guest_side *side)
{
	*side = (struct guest_side){ .g = g, .mem_size = mem_size };
	must(guest_ctx_create(g, 0, &side->ctx), "CREATE_CTX");
	must(guest_pd_alloc(&side->ctx, &side->pd), "ALLOC_PD");
	must(guest_cq_create(&side->ctx, cq_entries, 0, &side->cq), "CREATE_CQ");
	side->mem = guest_alloc(g, mem_size);
	must(guest_mr_reg(g, side->pd, side->mem, mem_size, VIRTIO_RDMA_ACCESS_LOCAL_WRITE |
			  VIRTIO_RDMA_ACCESS_REMOTE_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_READ |
			  VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC, &side->mr), "REG_MR");
	guest_side_add_qp(side, init, &side->qp);
}

void guest_side_close(struct guest_side *side)
{
	must(guest_qp_destroy(&side->qp), "DESTROY_QP");
	must(guest_mr_dereg(&side->mr), "DEREG_MR");
	must(guest_cq_destroy(&side->cq), "DESTROY_CQ");
	must(guest_destroy_handle(side->g, VIRTIO_RDMA_CMD_DEALLOC_PD, side->pd), "DEALLOC_PD");
	guest_ctx_destroy(&side->ctx);
	guest_free(side->g, side->mem, side->mem_size);
}
