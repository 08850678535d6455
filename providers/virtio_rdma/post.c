// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Data path: ibv_post_send() and ibv_post_recv().  A list of requests is
 * written into the ring and published by one store and one barrier, without a
 * system call while the device polls.  Any thread, under the queue's lock.
 */
#include <string.h>

#include "wqe.h"

/*
 * Copies the inline data into the entry; the caller may reuse its memory when
 * the post returns.
 */
static int vrdma_copy_inline(const struct vrdma_qp *qp,
			     struct virtio_rdma_wqe_ctrl *ctrl, void *to,
			     const struct ibv_sge *sge, int num_sge)
{
	uint32_t room = qp->max_inline;
	uint8_t *p = to;
	int i;

	for (i = 0; i < num_sge; i++) {
		if (unlikely(sge[i].length > room))
			return EINVAL;
		memcpy(p, (void *)(uintptr_t)sge[i].addr, sge[i].length);
		p += sge[i].length;
		room -= sge[i].length;
	}
	ctrl->flags |= htole16(VIRTIO_RDMA_WQE_INLINE);
	ctrl->inline_len = htole32(qp->max_inline - room);
	return 0;
}

/*
 * Writes the request's data, by reference or inline, after the entry's control
 * part.
 */
static inline int vrdma_write_data(const struct vrdma_qp *qp,
				   struct virtio_rdma_wqe_ctrl *ctrl,
				   struct virtio_rdma_sge *to,
				   const struct ibv_send_wr *wr)
{
	int i;

	if (wr->send_flags & IBV_SEND_INLINE)
		return vrdma_copy_inline(qp, ctrl, to, wr->sg_list,
					 wr->num_sge);

	ctrl->num_sge = wr->num_sge;
	for (i = 0; i < wr->num_sge; i++)
		vrdma_set_sge(&to[i], wr->sg_list[i].addr,
			      wr->sg_list[i].length, wr->sg_list[i].lkey);
	return 0;
}

static inline void vrdma_write_ctrl(const struct vrdma_qp *qp,
				    struct virtio_rdma_wqe_ctrl *ctrl,
				    const struct ibv_send_wr *wr)
{
	ctrl->opcode = vrdma_wr_opcode(wr->opcode);
	ctrl->num_sge = 0;
	ctrl->flags = htole16(vrdma_wr_flags(qp, wr->send_flags));
	ctrl->inline_len = 0;
	ctrl->imm = 0;
	ctrl->pkey_index = 0;
	ctrl->reserved = 0;

	switch (wr->opcode) {
	case IBV_WR_SEND_WITH_IMM:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		ctrl->imm = wr->imm_data;
		break;
	case IBV_WR_SEND_WITH_INV:
	case IBV_WR_LOCAL_INV:
		ctrl->inv_rkey = htole32(wr->invalidate_rkey);
		break;
	default:
		break;
	}
}

static int vrdma_write_ud(const struct vrdma_qp *qp,
			  struct virtio_rdma_ud_wqe *wqe,
			  const struct ibv_send_wr *wr)
{
	if (unlikely(!wr->wr.ud.ah))
		return EINVAL;

	vrdma_write_ctrl(qp, &wqe->ctrl, wr);
	wqe->av = to_vah(wr->wr.ud.ah)->av;
	wqe->av.dqpn = htole32(wr->wr.ud.remote_qpn);
	wqe->av.qkey = htole32(wr->wr.ud.remote_qkey);
	return vrdma_write_data(qp, &wqe->ctrl, wqe->sge, wr);
}

static int vrdma_write_atomic(const struct vrdma_qp *qp,
			      struct virtio_rdma_atomic_wqe *wqe,
			      const struct ibv_send_wr *wr)
{
	bool cas = wr->opcode == IBV_WR_ATOMIC_CMP_AND_SWP;

	/* The old value is written to exactly one SGE. */
	if (wr->num_sge != 1 || (wr->send_flags & IBV_SEND_INLINE))
		return EINVAL;

	vrdma_write_ctrl(qp, &wqe->ctrl, wr);
	wqe->remote_addr = htole64(wr->wr.atomic.remote_addr);
	wqe->rkey = htole32(wr->wr.atomic.rkey);
	wqe->reserved = 0;
	wqe->swap_add = htole64(cas ? wr->wr.atomic.swap :
				      wr->wr.atomic.compare_add);
	wqe->compare = htole64(cas ? wr->wr.atomic.compare_add : 0);
	return vrdma_write_data(qp, &wqe->ctrl, &wqe->sge, wr);
}

static inline int vrdma_write_rc(const struct vrdma_qp *qp,
				 struct virtio_rdma_rc_wqe *wqe,
				 const struct ibv_send_wr *wr)
{
	uint64_t remote_addr = 0;
	uint32_t rkey = 0;

	switch (wr->opcode) {
	case IBV_WR_RDMA_READ:
		if (wr->send_flags & IBV_SEND_INLINE)
			return EINVAL;
		/* fall through */
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		remote_addr = wr->wr.rdma.remote_addr;
		rkey = wr->wr.rdma.rkey;
		break;
	default:
		break;
	}

	vrdma_write_ctrl(qp, &wqe->ctrl, wr);
	wqe->remote_addr = htole64(remote_addr);
	wqe->rkey = htole32(rkey);
	wqe->reserved = 0;
	return vrdma_write_data(qp, &wqe->ctrl, wqe->sge, wr);
}

static inline int vrdma_write_send(const struct vrdma_qp *qp, void *entry,
				   const struct ibv_send_wr *wr)
{
	if (unlikely((unsigned int)wr->opcode >= 32 ||
		     !(qp->send_ops & BIT(wr->opcode))))
		return EINVAL;
	if (unlikely((unsigned int)wr->num_sge > qp->sq.max_sge &&
		     !(wr->send_flags & IBV_SEND_INLINE)))
		return EINVAL;

	if (qp->ud)
		return vrdma_write_ud(qp, entry, wr);
	switch (wr->opcode) {
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return vrdma_write_atomic(qp, entry, wr);
	default:
		return vrdma_write_rc(qp, entry, wr);
	}
}

int vrdma_post_send(struct ibv_qp *ibvqp, struct ibv_send_wr *wr,
		    struct ibv_send_wr **bad_wr)
{
	struct vrdma_qp *qp = to_vqp(ibvqp);
	struct vrdma_ring *ring = &qp->sq.ring;
	uint32_t head;
	int ret = 0;

	vrdma_lock(&qp->sq.lock);
	head = ring->head;
	if (unlikely(!vrdma_sq_usable(qp)))
		ret = EINVAL;

	for (; wr && likely(!ret); wr = wr->next) {
		if (unlikely(vrdma_ring_full(ring, head)))
			ret = ENOMEM;
		else
			ret = vrdma_write_send(qp, vrdma_ring_entry(ring, head),
					       wr);
		if (unlikely(ret))
			break;
		qp->sq.wr_ids[head & ring->mask] = wr->wr_id;
		head++;
		vrdma_ring_prefetch(ring, head + VRDMA_PREFETCH_WQES);
	}
	if (unlikely(ret))
		*bad_wr = wr;

	/* The requests before an invalid one are posted. */
	if (likely(head != ring->head))
		vrdma_wq_publish(qp, &qp->sq, head);
	vrdma_unlock(&qp->sq.lock);
	return ret;
}

int vrdma_post_recv(struct ibv_qp *ibvqp, struct ibv_recv_wr *wr,
		    struct ibv_recv_wr **bad_wr)
{
	struct vrdma_qp *qp = to_vqp(ibvqp);
	struct vrdma_ring *ring = &qp->rq.ring;
	uint32_t head;
	int ret = 0;

	vrdma_lock(&qp->rq.lock);
	head = ring->head;
	if (unlikely(ibvqp->state == IBV_QPS_RESET || qp->srq))
		ret = EINVAL;

	for (; wr && likely(!ret); wr = wr->next) {
		if (unlikely(vrdma_ring_full(ring, head)))
			ret = ENOMEM;
		else
			ret = vrdma_write_recv(vrdma_ring_entry(ring, head),
					       qp->rq.max_sge, 0, wr);
		if (unlikely(ret))
			break;
		qp->rq.wr_ids[head & ring->mask] = wr->wr_id;
		head++;
	}
	if (unlikely(ret))
		*bad_wr = wr;

	if (likely(head != ring->head))
		vrdma_wq_publish(qp, &qp->rq, head);
	vrdma_unlock(&qp->rq.lock);
	return ret;
}
