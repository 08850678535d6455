// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Data path: the ibv_wr_*() interface, which builds requests in place.  The
 * send queue's lock is held from wr_start to wr_complete or wr_abort.  Nothing
 * is published before wr_complete, so an error discards the whole batch.
 */
#include <string.h>

#include "wqe.h"

static void vrdma_wr_start(struct ibv_qp_ex *ibvqp)
{
	struct vrdma_qp *qp = to_vqp_ex(ibvqp);

	vrdma_lock(&qp->sq.lock);
	qp->wr_head = qp->sq.ring.head;
	qp->wr_err = likely(vrdma_sq_usable(qp)) ? 0 : EINVAL;
}

static int vrdma_wr_complete(struct ibv_qp_ex *ibvqp)
{
	struct vrdma_qp *qp = to_vqp_ex(ibvqp);
	int ret = qp->wr_err;

	if (likely(!ret && qp->wr_head != qp->sq.ring.head))
		vrdma_wq_publish(qp, &qp->sq, qp->wr_head);
	vrdma_unlock(&qp->sq.lock);
	return ret;
}

static void vrdma_wr_abort(struct ibv_qp_ex *ibvqp)
{
	vrdma_unlock(&to_vqp_ex(ibvqp)->sq.lock);
}

/*
 * Takes the next entry and writes its control part.  Returns NULL after an
 * error; wr_complete returns the first error.
 */
static inline struct virtio_rdma_wqe_ctrl *
vrdma_wr_begin(struct vrdma_qp *qp, enum ibv_wr_opcode opcode)
{
	struct ibv_qp_ex *ex = &qp->vqp.qp_ex;
	struct vrdma_ring *ring = &qp->sq.ring;
	struct virtio_rdma_wqe_ctrl *ctrl;

	if (unlikely(qp->wr_err))
		return NULL;
	if (unlikely(vrdma_ring_full(ring, qp->wr_head))) {
		qp->wr_err = ENOMEM;
		return NULL;
	}

	ctrl = vrdma_ring_entry(ring, qp->wr_head);
	ctrl->opcode = vrdma_wr_opcode(opcode);
	ctrl->num_sge = 0;
	ctrl->flags = htole16(vrdma_wr_flags(qp, ex->wr_flags));
	ctrl->inline_len = 0;
	ctrl->imm = 0;
	ctrl->pkey_index = 0;
	ctrl->reserved = 0;
	qp->sq.wr_ids[qp->wr_head & ring->mask] = ex->wr_id;
	qp->wr_ctrl = ctrl;
	qp->wr_head++;
	vrdma_ring_prefetch(ring, qp->wr_head + VRDMA_PREFETCH_WQES);
	return ctrl;
}

static inline struct virtio_rdma_wqe_ctrl *
vrdma_wr_begin_rc(struct vrdma_qp *qp, enum ibv_wr_opcode opcode,
		  uint32_t rkey, uint64_t remote_addr)
{
	struct virtio_rdma_rc_wqe *wqe = (void *)vrdma_wr_begin(qp, opcode);

	if (unlikely(!wqe))
		return NULL;
	wqe->remote_addr = htole64(remote_addr);
	wqe->rkey = htole32(rkey);
	wqe->reserved = 0;
	qp->wr_sge = wqe->sge;
	return &wqe->ctrl;
}

/* ---------------- what to do ---------------- */

static struct virtio_rdma_wqe_ctrl *
vrdma_wr_begin_send(struct ibv_qp_ex *ibvqp, enum ibv_wr_opcode opcode)
{
	struct vrdma_qp *qp = to_vqp_ex(ibvqp);
	struct virtio_rdma_ud_wqe *wqe;

	if (!qp->ud)
		return vrdma_wr_begin_rc(qp, opcode, 0, 0);

	wqe = (void *)vrdma_wr_begin(qp, opcode);
	if (unlikely(!wqe))
		return NULL;
	qp->wr_sge = wqe->sge;
	return &wqe->ctrl;
}

static void vrdma_wr_send(struct ibv_qp_ex *ibvqp)
{
	vrdma_wr_begin_send(ibvqp, IBV_WR_SEND);
}

static void vrdma_wr_send_imm(struct ibv_qp_ex *ibvqp, __be32 imm_data)
{
	struct virtio_rdma_wqe_ctrl *ctrl =
		vrdma_wr_begin_send(ibvqp, IBV_WR_SEND_WITH_IMM);

	if (likely(ctrl))
		ctrl->imm = imm_data;
}

static void vrdma_wr_send_inv(struct ibv_qp_ex *ibvqp, uint32_t rkey)
{
	struct virtio_rdma_wqe_ctrl *ctrl =
		vrdma_wr_begin_send(ibvqp, IBV_WR_SEND_WITH_INV);

	if (likely(ctrl))
		ctrl->inv_rkey = htole32(rkey);
}

static void vrdma_wr_local_inv(struct ibv_qp_ex *ibvqp, uint32_t rkey)
{
	struct virtio_rdma_wqe_ctrl *ctrl =
		vrdma_wr_begin_rc(to_vqp_ex(ibvqp), IBV_WR_LOCAL_INV, 0, 0);

	if (likely(ctrl))
		ctrl->inv_rkey = htole32(rkey);
}

static void vrdma_wr_rdma_write(struct ibv_qp_ex *ibvqp, uint32_t rkey,
				uint64_t remote_addr)
{
	vrdma_wr_begin_rc(to_vqp_ex(ibvqp), IBV_WR_RDMA_WRITE, rkey,
			  remote_addr);
}

static void vrdma_wr_rdma_write_imm(struct ibv_qp_ex *ibvqp, uint32_t rkey,
				    uint64_t remote_addr, __be32 imm_data)
{
	struct virtio_rdma_wqe_ctrl *ctrl =
		vrdma_wr_begin_rc(to_vqp_ex(ibvqp), IBV_WR_RDMA_WRITE_WITH_IMM,
				  rkey, remote_addr);

	if (likely(ctrl))
		ctrl->imm = imm_data;
}

static void vrdma_wr_rdma_read(struct ibv_qp_ex *ibvqp, uint32_t rkey,
			       uint64_t remote_addr)
{
	vrdma_wr_begin_rc(to_vqp_ex(ibvqp), IBV_WR_RDMA_READ, rkey,
			  remote_addr);
}

static void vrdma_wr_atomic(struct vrdma_qp *qp, enum ibv_wr_opcode opcode,
			    uint32_t rkey, uint64_t remote_addr,
			    uint64_t swap_add, uint64_t compare)
{
	struct virtio_rdma_atomic_wqe *wqe = (void *)vrdma_wr_begin(qp, opcode);

	if (unlikely(!wqe))
		return;
	wqe->remote_addr = htole64(remote_addr);
	wqe->rkey = htole32(rkey);
	wqe->reserved = 0;
	wqe->swap_add = htole64(swap_add);
	wqe->compare = htole64(compare);
	qp->wr_sge = &wqe->sge;
}

static void vrdma_wr_atomic_cmp_swp(struct ibv_qp_ex *ibvqp, uint32_t rkey,
				    uint64_t remote_addr, uint64_t compare,
				    uint64_t swap)
{
	vrdma_wr_atomic(to_vqp_ex(ibvqp), IBV_WR_ATOMIC_CMP_AND_SWP, rkey,
			remote_addr, swap, compare);
}

static void vrdma_wr_atomic_fetch_add(struct ibv_qp_ex *ibvqp, uint32_t rkey,
				      uint64_t remote_addr, uint64_t add)
{
	vrdma_wr_atomic(to_vqp_ex(ibvqp), IBV_WR_ATOMIC_FETCH_AND_ADD, rkey,
			remote_addr, add, 0);
}

/* ---------------- with what, and where to ---------------- */

/*
 * True if the request that a setter refers to has an entry: it is the latest
 * one.
 */
static inline bool vrdma_wr_open(const struct vrdma_qp *qp)
{
	return likely(!qp->wr_err);
}

static inline bool vrdma_wr_is_atomic(const struct virtio_rdma_wqe_ctrl *ctrl)
{
	return ctrl->opcode == VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP ||
	       ctrl->opcode == VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD;
}

static void vrdma_wr_set_ud_addr(struct ibv_qp_ex *ibvqp, struct ibv_ah *ibvah,
				 uint32_t remote_qpn, uint32_t remote_qkey)
{
	struct vrdma_qp *qp = to_vqp_ex(ibvqp);
	struct virtio_rdma_ud_wqe *wqe;

	if (!vrdma_wr_open(qp))
		return;
	wqe = container_of(qp->wr_ctrl, struct virtio_rdma_ud_wqe, ctrl);
	wqe->av = to_vah(ibvah)->av;
	wqe->av.dqpn = htole32(remote_qpn);
	wqe->av.qkey = htole32(remote_qkey);
}

static void vrdma_wr_set_sge(struct ibv_qp_ex *ibvqp, uint32_t lkey,
			     uint64_t addr, uint32_t length)
{
	struct vrdma_qp *qp = to_vqp_ex(ibvqp);

	if (!vrdma_wr_open(qp))
		return;
	qp->wr_ctrl->num_sge = 1;
	vrdma_set_sge(qp->wr_sge, addr, length, lkey);
}

static void vrdma_wr_set_sge_list(struct ibv_qp_ex *ibvqp, size_t num_sge,
				  const struct ibv_sge *sge)
{
	struct vrdma_qp *qp = to_vqp_ex(ibvqp);
	size_t i;

	if (!vrdma_wr_open(qp))
		return;
	if (unlikely(num_sge > qp->sq.max_sge ||
		     (num_sge > 1 && vrdma_wr_is_atomic(qp->wr_ctrl)))) {
		qp->wr_err = EINVAL;
		return;
	}
	qp->wr_ctrl->num_sge = num_sge;
	for (i = 0; i < num_sge; i++)
		vrdma_set_sge(&qp->wr_sge[i], sge[i].addr, sge[i].length,
			      sge[i].lkey);
}

static bool vrdma_wr_takes_inline(const struct vrdma_qp *qp)
{
	return qp->wr_ctrl->opcode != VIRTIO_RDMA_WR_RDMA_READ &&
	       !vrdma_wr_is_atomic(qp->wr_ctrl);
}

static void vrdma_wr_set_inline_data_list(struct ibv_qp_ex *ibvqp,
					  size_t num_buf,
					  const struct ibv_data_buf *bufs)
{
	struct vrdma_qp *qp = to_vqp_ex(ibvqp);
	size_t room = qp->max_inline;
	uint8_t *to;
	size_t i;

	if (!vrdma_wr_open(qp))
		return;
	if (unlikely(!vrdma_wr_takes_inline(qp))) {
		qp->wr_err = EINVAL;
		return;
	}

	to = (uint8_t *)qp->wr_sge;
	for (i = 0; i < num_buf; i++) {
		if (unlikely(bufs[i].length > room)) {
			qp->wr_err = EINVAL;
			return;
		}
		memcpy(to, bufs[i].addr, bufs[i].length);
		to += bufs[i].length;
		room -= bufs[i].length;
	}
	qp->wr_ctrl->flags |= htole16(VIRTIO_RDMA_WQE_INLINE);
	qp->wr_ctrl->inline_len = htole32(qp->max_inline - room);
}

static void vrdma_wr_set_inline_data(struct ibv_qp_ex *ibvqp, void *addr,
				     size_t length)
{
	struct ibv_data_buf buf = { .addr = addr, .length = length };

	vrdma_wr_set_inline_data_list(ibvqp, 1, &buf);
}

/* ---------------- creation ---------------- */

/* Translates @flags to a mask of opcodes. */
static int vrdma_ops_of_flags(uint64_t flags, uint32_t *ops)
{
	static const struct {
		uint64_t flag;
		enum ibv_wr_opcode opcode;
	} map[] = {
		{ IBV_QP_EX_WITH_RDMA_WRITE, IBV_WR_RDMA_WRITE },
		{ IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM,
		  IBV_WR_RDMA_WRITE_WITH_IMM },
		{ IBV_QP_EX_WITH_SEND, IBV_WR_SEND },
		{ IBV_QP_EX_WITH_SEND_WITH_IMM, IBV_WR_SEND_WITH_IMM },
		{ IBV_QP_EX_WITH_RDMA_READ, IBV_WR_RDMA_READ },
		{ IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP,
		  IBV_WR_ATOMIC_CMP_AND_SWP },
		{ IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD,
		  IBV_WR_ATOMIC_FETCH_AND_ADD },
		{ IBV_QP_EX_WITH_LOCAL_INV, IBV_WR_LOCAL_INV },
		{ IBV_QP_EX_WITH_SEND_WITH_INV, IBV_WR_SEND_WITH_INV },
	};
	size_t i;

	*ops = 0;
	for (i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		if (!(flags & map[i].flag))
			continue;
		*ops |= BIT(map[i].opcode);
		flags &= ~map[i].flag;
	}
	return flags ? EOPNOTSUPP : 0;
}

/*
 * Called once, before the QP is reachable; returns EOPNOTSUPP for an operation
 * that the QP does not support.
 */
int vrdma_qp_set_wr_ops(struct vrdma_qp *qp, uint64_t send_ops_flags)
{
	struct ibv_qp_ex *ex = &qp->vqp.qp_ex;
	uint32_t ops;
	int ret;

	ret = vrdma_ops_of_flags(send_ops_flags, &ops);
	if (ret)
		return ret;
	if (ops & ~qp->send_ops)
		return EOPNOTSUPP;

	ex->wr_start = vrdma_wr_start;
	ex->wr_complete = vrdma_wr_complete;
	ex->wr_abort = vrdma_wr_abort;
	ex->wr_set_sge = vrdma_wr_set_sge;
	ex->wr_set_sge_list = vrdma_wr_set_sge_list;
	ex->wr_set_inline_data = vrdma_wr_set_inline_data;
	ex->wr_set_inline_data_list = vrdma_wr_set_inline_data_list;
	if (qp->ud)
		ex->wr_set_ud_addr = vrdma_wr_set_ud_addr;

	if (ops & BIT(IBV_WR_SEND))
		ex->wr_send = vrdma_wr_send;
	if (ops & BIT(IBV_WR_SEND_WITH_IMM))
		ex->wr_send_imm = vrdma_wr_send_imm;
	if (ops & BIT(IBV_WR_SEND_WITH_INV))
		ex->wr_send_inv = vrdma_wr_send_inv;
	if (ops & BIT(IBV_WR_LOCAL_INV))
		ex->wr_local_inv = vrdma_wr_local_inv;
	if (ops & BIT(IBV_WR_RDMA_WRITE))
		ex->wr_rdma_write = vrdma_wr_rdma_write;
	if (ops & BIT(IBV_WR_RDMA_WRITE_WITH_IMM))
		ex->wr_rdma_write_imm = vrdma_wr_rdma_write_imm;
	if (ops & BIT(IBV_WR_RDMA_READ))
		ex->wr_rdma_read = vrdma_wr_rdma_read;
	if (ops & BIT(IBV_WR_ATOMIC_CMP_AND_SWP))
		ex->wr_atomic_cmp_swp = vrdma_wr_atomic_cmp_swp;
	if (ops & BIT(IBV_WR_ATOMIC_FETCH_AND_ADD))
		ex->wr_atomic_fetch_add = vrdma_wr_atomic_fetch_add;
	return 0;
}
