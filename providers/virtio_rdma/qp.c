// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Queue pairs: layout of their rings; creation, modification and destruction;
 * and the table by which polls find a QP.  Posting is in post.c and wr.c.
 *
 * Threading: the table is changed under tables_mutex.  Verbs requires that
 * creation and destruction do not run concurrently with other uses of the QP.
 */
#include <errno.h>
#include <stdlib.h>

#include "wqe.h"
#include "vrdma-abi.h"

static_assert(sizeof(struct virtio_rdma_rc_wqe) == 32, "RC WQE head");
static_assert(sizeof(struct virtio_rdma_ud_wqe) == 64, "UD WQE head");
static_assert(sizeof(struct virtio_rdma_atomic_wqe) == 64, "atomic WQE");
static_assert(sizeof(struct virtio_rdma_recv_wqe) == 16, "receive WQE head");
static_assert(sizeof(struct virtio_rdma_ring_ctrl) == 128, "control words");

/* ---------------- the table of QPs by number ---------------- */

static int vrdma_qp_table_insert(struct vrdma_context *ctx, struct vrdma_qp *qp)
{
	uint32_t qpn = qp->vqp.qp.qp_num;
	struct vrdma_qp_leaf **leaf;
	int ret = 0;

	if (qpn >> VRDMA_QP_LEAF_SHIFT >= VRDMA_QP_LEAVES)
		return EINVAL;

	pthread_mutex_lock(&ctx->tables_mutex);
	leaf = &ctx->qp_table[qpn >> VRDMA_QP_LEAF_SHIFT];
	if (!*leaf)
		*leaf = calloc(1, sizeof(**leaf));
	if (*leaf) {
		(*leaf)->qps[qpn & (VRDMA_QP_LEAF_SIZE - 1)] = qp;
		(*leaf)->used++;
	} else {
		ret = ENOMEM;
	}
	pthread_mutex_unlock(&ctx->tables_mutex);
	return ret;
}

/*
 * Under tables_mutex and the locks of the QP's CQs, so that no poll looks the
 * QP up.
 */
static void vrdma_qp_table_remove_locked(struct vrdma_context *ctx, uint32_t qpn)
{
	struct vrdma_qp_leaf **leaf = &ctx->qp_table[qpn >> VRDMA_QP_LEAF_SHIFT];

	(*leaf)->qps[qpn & (VRDMA_QP_LEAF_SIZE - 1)] = NULL;
	if (--(*leaf)->used == 0) {
		free(*leaf);
		*leaf = NULL;
	}
}

static void vrdma_qp_lock_cqs(struct vrdma_qp *qp)
{
	struct vrdma_cq *a = to_vcq(qp->vqp.qp.send_cq);
	struct vrdma_cq *b = to_vcq(qp->vqp.qp.recv_cq);

	if ((uintptr_t)a > (uintptr_t)b) {
		vrdma_lock(&b->lock);
		vrdma_lock(&a->lock);
	} else {
		vrdma_lock(&a->lock);
		if (a != b)
			vrdma_lock(&b->lock);
	}
}

static void vrdma_qp_unlock_cqs(struct vrdma_qp *qp)
{
	struct vrdma_cq *a = to_vcq(qp->vqp.qp.send_cq);
	struct vrdma_cq *b = to_vcq(qp->vqp.qp.recv_cq);

	vrdma_unlock(&a->lock);
	if (a != b)
		vrdma_unlock(&b->lock);
}

static void vrdma_qp_purge_cqs_locked(struct vrdma_qp *qp)
{
	struct vrdma_cq *a = to_vcq(qp->vqp.qp.send_cq);
	struct vrdma_cq *b = to_vcq(qp->vqp.qp.recv_cq);

	vrdma_cq_purge_locked(a, qp);
	if (a != b)
		vrdma_cq_purge_locked(b, qp);
}

/* ---------------- creation ---------------- */

static uint32_t vrdma_send_shift(size_t bytes, uint32_t min_shift)
{
	uint32_t shift = ilog32(bytes - 1);

	return shift < min_shift ? min_shift : shift;
}

static size_t vrdma_send_head(const struct vrdma_qp *qp)
{
	return qp->ud ? sizeof(struct virtio_rdma_ud_wqe) :
			sizeof(struct virtio_rdma_rc_wqe);
}

/*
 * Sizes both queues as the caller asked, and raises the inline size to the room
 * that the entries have anyway.
 */
static int vrdma_qp_size(struct vrdma_context *ctx, struct vrdma_qp *qp,
			 struct ibv_qp_cap *cap)
{
	size_t data;
	uint32_t room;

	/* A QP with an SRQ has no receive ring; its limits are ignored. */
	if (qp->srq) {
		cap->max_recv_wr = 0;
		cap->max_recv_sge = 0;
	}
	if (cap->max_send_wr > ctx->max_qp_wr ||
	    cap->max_recv_wr > ctx->max_qp_wr ||
	    cap->max_send_sge > ctx->max_sge ||
	    cap->max_recv_sge > ctx->max_sge ||
	    cap->max_inline_data > ctx->max_inline)
		return EINVAL;

	/* An entry has room for one SGE at least, and atomics need one. */
	if (!cap->max_send_sge)
		cap->max_send_sge = 1;
	if (!cap->max_recv_sge && !qp->srq)
		cap->max_recv_sge = 1;

	data = cap->max_send_sge * sizeof(struct virtio_rdma_sge);
	if (data < cap->max_inline_data)
		data = cap->max_inline_data;
	qp->sq.ring.shift = vrdma_send_shift(vrdma_send_head(qp) + data,
					     qp->ud ? VRDMA_SQ_MIN_SHIFT + 1 :
						      VRDMA_SQ_MIN_SHIFT);
	qp->rq.ring.shift = vrdma_recv_shift(cap->max_recv_sge);
	if (qp->sq.ring.shift > VRDMA_MAX_SHIFT ||
	    qp->rq.ring.shift > VRDMA_MAX_SHIFT)
		return EINVAL;

	if (cap->max_send_wr)
		qp->sq.ring.entries = roundup_pow_of_two(cap->max_send_wr);
	if (cap->max_recv_wr)
		qp->rq.ring.entries = roundup_pow_of_two(cap->max_recv_wr);

	room = (1U << qp->sq.ring.shift) - vrdma_send_head(qp);
	cap->max_inline_data = room < ctx->max_inline ? room : ctx->max_inline;
	qp->max_inline = cap->max_inline_data;
	qp->sq.max_sge = cap->max_send_sge;
	qp->rq.max_sge = cap->max_recv_sge;
	return 0;
}

static int vrdma_wq_init(struct vrdma_wq *wq, bool locked)
{
	uint32_t entries = wq->ring.entries;

	wq->ring.mask = entries ? entries - 1 : 0;
	wq->wr_ids = calloc(entries ? entries : 1, sizeof(*wq->wr_ids));
	if (!wq->wr_ids)
		return ENOMEM;
	if (vrdma_lock_init(&wq->lock, locked)) {
		free(wq->wr_ids);
		return ENOMEM;
	}
	return 0;
}

static void vrdma_wq_destroy(struct vrdma_wq *wq)
{
	vrdma_lock_destroy(&wq->lock);
	free(wq->wr_ids);
}

static size_t vrdma_ring_bytes(const struct vrdma_ring *ring)
{
	return (size_t)ring->entries << ring->shift;
}

/*
 * Layout of the buffer: SQ and RQ, each at the start of a page of the ABI, then
 * the control words of both, in the RQ's last page if there is room.
 */
static int vrdma_qp_alloc_rings(struct vrdma_context *ctx, struct vrdma_qp *qp,
				struct vrdma_create_qp *cmd)
{
	size_t rq_offset = align(vrdma_ring_bytes(&qp->sq.ring),
				 VIRTIO_RDMA_PAGE_SIZE);
	size_t sq_ctrl = align(rq_offset + vrdma_ring_bytes(&qp->rq.ring), 128);
	size_t rq_ctrl = sq_ctrl + sizeof(struct virtio_rdma_ring_ctrl);
	size_t end = rq_ctrl + sizeof(struct virtio_rdma_ring_ctrl);
	int ret;

	if (end > UINT32_MAX)
		return EINVAL;
	ret = vrdma_buf_alloc(&qp->buf, end, ctx->page_size);
	if (ret)
		return ret;

	qp->sq.ring.base = qp->buf.addr;
	qp->sq.ring.ctrl =
		(struct virtio_rdma_ring_ctrl *)(qp->buf.addr + sq_ctrl);
	qp->rq.ring.base = qp->buf.addr + rq_offset;
	qp->rq.ring.ctrl =
		(struct virtio_rdma_ring_ctrl *)(qp->buf.addr + rq_ctrl);

	cmd->buf_addr = (uintptr_t)qp->buf.addr;
	cmd->buf_len = qp->buf.len;
	cmd->sq_entries = qp->sq.ring.entries;
	cmd->sq_ctrl_offset = sq_ctrl;
	cmd->sq_stride_shift = qp->sq.ring.shift - VRDMA_SQ_MIN_SHIFT;
	if (qp->rq.ring.entries) {
		cmd->rq_entries = qp->rq.ring.entries;
		cmd->rq_offset = rq_offset;
		cmd->rq_ctrl_offset = rq_ctrl;
		cmd->rq_stride_shift = qp->rq.ring.shift - VRDMA_RQ_MIN_SHIFT;
	}
	return 0;
}

/*
 * The operations that a QP of this type can post; the device checks the rest.
 */
static uint32_t vrdma_qp_send_ops(const struct vrdma_context *ctx,
				  enum ibv_qp_type type)
{
	uint32_t ops = BIT(IBV_WR_SEND) | BIT(IBV_WR_SEND_WITH_IMM);

	if (type == IBV_QPT_UD)
		return ops;

	ops |= BIT(IBV_WR_RDMA_WRITE) | BIT(IBV_WR_RDMA_WRITE_WITH_IMM);
	if (ctx->mem_mgt_ext)
		ops |= BIT(IBV_WR_SEND_WITH_INV) | BIT(IBV_WR_LOCAL_INV);
	if (type == IBV_QPT_RC)
		ops |= BIT(IBV_WR_RDMA_READ) | BIT(IBV_WR_ATOMIC_CMP_AND_SWP) |
		       BIT(IBV_WR_ATOMIC_FETCH_AND_ADD);
	return ops;
}

static int vrdma_qp_check_attr(const struct ibv_qp_init_attr_ex *attr)
{
	if (!(attr->comp_mask & IBV_QP_INIT_ATTR_PD))
		return EINVAL;
	if (!check_comp_mask(attr->comp_mask,
			     IBV_QP_INIT_ATTR_PD |
				     IBV_QP_INIT_ATTR_CREATE_FLAGS |
				     IBV_QP_INIT_ATTR_SEND_OPS_FLAGS))
		return EOPNOTSUPP;
	if ((attr->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) &&
	    attr->create_flags)
		return EOPNOTSUPP;
	switch (attr->qp_type) {
	case IBV_QPT_RC:
	case IBV_QPT_UC:
	case IBV_QPT_UD:
		break;
	default:
		return EOPNOTSUPP;
	}
	return attr->send_cq && attr->recv_cq ? 0 : EINVAL;
}

/*
 * A ring needs a dirty byte: without one a post cannot be reported to a device
 * that does not watch the ring.
 */
static bool vrdma_slot_ok(const struct vrdma_ring *ring)
{
	return !ring->entries || ring->slot < VIRTIO_RDMA_DB_SLOTS;
}

static int vrdma_qp_create_cmd(struct vrdma_context *ctx, struct vrdma_qp *qp,
			       struct ibv_qp_init_attr_ex *attr,
			       struct vrdma_create_qp *cmd)
{
	struct vrdma_create_qp_resp resp = {};
	/* Without attributes that only the provider uses (send_ops_flags). */
	struct ibv_qp_init_attr_ex cmd_attr = {
		.qp_context = attr->qp_context,
		.send_cq = attr->send_cq,
		.recv_cq = attr->recv_cq,
		.srq = attr->srq,
		.cap = attr->cap,
		.qp_type = attr->qp_type,
		.sq_sig_all = attr->sq_sig_all,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = attr->pd,
	};
	int ret;

	ret = ibv_cmd_create_qp_ex(&ctx->ibvctx.context, &qp->vqp, &cmd_attr,
				   &cmd->ibv_cmd, sizeof(*cmd), &resp.ibv_resp,
				   sizeof(resp));
	if (ret)
		return ret;

	qp->sq.ring.slot = resp.sq_slot;
	qp->rq.ring.slot = resp.rq_slot;
	if (!vrdma_slot_ok(&qp->sq.ring) || !vrdma_slot_ok(&qp->rq.ring))
		ret = EIO;
	else
		ret = vrdma_qp_table_insert(ctx, qp);
	if (ret) {
		ibv_cmd_destroy_qp(&qp->vqp.qp);
		return ret;
	}

	/* Report the capacity of the rings. */
	attr->cap.max_send_wr = qp->sq.ring.entries;
	attr->cap.max_recv_wr = qp->rq.ring.entries;
	qp->cap = attr->cap;
	return 0;
}

/*
 * Adds the QP to the lists of its CQs, by which polls flush the work of a dead
 * device.
 */
static void vrdma_qp_enlist(struct vrdma_qp *qp)
{
	vrdma_qp_lock_cqs(qp);
	list_add_tail(&to_vcq(qp->vqp.qp.send_cq)->send_qps, &qp->send_link);
	list_add_tail(&to_vcq(qp->vqp.qp.recv_cq)->recv_qps, &qp->recv_link);
	vrdma_qp_unlock_cqs(qp);
}

static struct vrdma_qp *vrdma_qp_create(struct vrdma_context *ctx,
					struct ibv_qp_init_attr_ex *attr)
{
	struct vrdma_create_qp cmd = {};
	struct vrdma_pd *pd;
	struct vrdma_qp *qp;
	bool locked;
	int ret;

	ret = vrdma_qp_check_attr(attr);
	if (ret)
		goto err;
	pd = to_vpd(attr->pd);
	locked = !ctx->single_threaded && !vrdma_pd_single_threaded(pd);

	qp = calloc(1, sizeof(*qp));
	if (!qp) {
		ret = ENOMEM;
		goto err;
	}
	qp->ud = attr->qp_type == IBV_QPT_UD;
	qp->srq = attr->srq ? to_vsrq(attr->srq) : NULL;
	qp->sq_sig_all = attr->sq_sig_all;
	qp->send_ops = vrdma_qp_send_ops(ctx, attr->qp_type);

	if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) {
		ret = vrdma_qp_set_wr_ops(qp, attr->send_ops_flags);
		if (ret)
			goto err_free;
	}
	ret = vrdma_qp_size(ctx, qp, &attr->cap);
	if (ret)
		goto err_free;
	ret = vrdma_wq_init(&qp->sq, locked);
	if (ret)
		goto err_free;
	ret = vrdma_wq_init(&qp->rq, locked);
	if (ret)
		goto err_sq;
	ret = vrdma_qp_alloc_rings(ctx, qp, &cmd);
	if (ret)
		goto err_rq;
	ret = vrdma_qp_create_cmd(ctx, qp, attr, &cmd);
	if (ret)
		goto err_buf;

	if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS)
		qp->vqp.comp_mask |= VERBS_QP_EX;
	vrdma_qp_enlist(qp);
	if (pd->protection) {
		qp->parent = pd;
		atomic_fetch_add(&pd->refcount, 1);
	}
	return qp;

err_buf:
	vrdma_buf_free(&qp->buf);
err_rq:
	vrdma_wq_destroy(&qp->rq);
err_sq:
	vrdma_wq_destroy(&qp->sq);
err_free:
	free(qp);
err:
	errno = ret;
	return NULL;
}

struct ibv_qp *vrdma_create_qp(struct ibv_pd *ibvpd,
			       struct ibv_qp_init_attr *attr)
{
	struct ibv_qp_init_attr_ex attr_ex = {
		.qp_context = attr->qp_context,
		.send_cq = attr->send_cq,
		.recv_cq = attr->recv_cq,
		.srq = attr->srq,
		.cap = attr->cap,
		.qp_type = attr->qp_type,
		.sq_sig_all = attr->sq_sig_all,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = ibvpd,
	};
	struct vrdma_qp *qp;

	qp = vrdma_qp_create(to_vctx(ibvpd->context), &attr_ex);
	if (!qp)
		return NULL;
	attr->cap = attr_ex.cap;
	return &qp->vqp.qp;
}

struct ibv_qp *vrdma_create_qp_ex(struct ibv_context *ibvctx,
				  struct ibv_qp_init_attr_ex *attr)
{
	struct vrdma_qp *qp;

	qp = vrdma_qp_create(to_vctx(ibvctx), attr);
	return qp ? &qp->vqp.qp : NULL;
}

/* ---------------- change, query, destruction ---------------- */

/*
 * RESET: the device no longer uses the rings.  Both sides start again from
 * index 0, and earlier completions are discarded.
 */
static void vrdma_qp_reset(struct vrdma_qp *qp)
{
	vrdma_qp_lock_cqs(qp);
	vrdma_qp_purge_cqs_locked(qp);
	vrdma_lock(&qp->sq.lock);
	vrdma_ring_reset(&qp->sq.ring);
	vrdma_unlock(&qp->sq.lock);
	vrdma_lock(&qp->rq.lock);
	vrdma_ring_reset(&qp->rq.ring);
	vrdma_unlock(&qp->rq.lock);
	vrdma_qp_unlock_cqs(qp);
}

int vrdma_modify_qp(struct ibv_qp *ibvqp, struct ibv_qp_attr *attr, int mask)
{
	struct ibv_modify_qp cmd = {};
	int ret;

	ret = ibv_cmd_modify_qp(ibvqp, attr, mask, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	if ((mask & IBV_QP_STATE) && attr->qp_state == IBV_QPS_RESET)
		vrdma_qp_reset(to_vqp(ibvqp));
	return 0;
}

int vrdma_query_qp(struct ibv_qp *ibvqp, struct ibv_qp_attr *attr, int mask,
		   struct ibv_qp_init_attr *init_attr)
{
	struct vrdma_qp *qp = to_vqp(ibvqp);
	struct ibv_query_qp cmd;
	int ret;

	ret = ibv_cmd_query_qp(ibvqp, attr, mask, init_attr, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	attr->cap = qp->cap;
	init_attr->cap = qp->cap;
	init_attr->sq_sig_all = qp->sq_sig_all;
	return 0;
}

int vrdma_destroy_qp(struct ibv_qp *ibvqp)
{
	struct vrdma_context *ctx = to_vctx(ibvqp->context);
	struct vrdma_qp *qp = to_vqp(ibvqp);
	int ret;

	pthread_mutex_lock(&ctx->tables_mutex);
	ret = ibv_cmd_destroy_qp(ibvqp);
	if (ret) {
		pthread_mutex_unlock(&ctx->tables_mutex);
		return ret;
	}
	vrdma_qp_lock_cqs(qp);
	vrdma_qp_purge_cqs_locked(qp);
	list_del(&qp->send_link);
	list_del(&qp->recv_link);
	vrdma_qp_table_remove_locked(ctx, ibvqp->qp_num);
	vrdma_qp_unlock_cqs(qp);
	pthread_mutex_unlock(&ctx->tables_mutex);

	if (qp->parent)
		atomic_fetch_sub(&qp->parent->refcount, 1);
	vrdma_buf_free(&qp->buf);
	vrdma_wq_destroy(&qp->rq);
	vrdma_wq_destroy(&qp->sq);
	free(qp);
	return 0;
}
