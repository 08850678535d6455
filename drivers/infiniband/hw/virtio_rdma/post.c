// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Posting side of the kernel's data path.  Any context; a ring's lock serialises
 * its posters.  Processes post to their own rings; they call the post functions
 * with no requests, to wake a sleeping poller.
 */
#include "doorbell.h"
#include "encode.h"

/* Whether the QP is at least in state @least. */
static bool vrdma_may_post(const struct vrdma_qp *qp, enum ib_qp_state least)
{
	return READ_ONCE(qp->state) >= least;
}

static bool vrdma_has_room(const struct vrdma_ring *ring)
{
	/* Pairs with the release in vrdma_ring_complete(). */
	u32 tail = smp_load_acquire(&ring->tail);

	return !vrdma_ring_full(ring->head, tail, ring->entries);
}

static void *vrdma_next_entry(const struct vrdma_qp *qp,
			      const struct vrdma_ring *ring)
{
	return vrdma_buf_at(qp->buf, ring->base +
			    vrdma_ring_offset(ring->head, ring->entries,
					      ring->shift));
}

/* Makes the entry visible to pollers, which read wr_id after the new head. */
static void vrdma_ring_commit(struct vrdma_ring *ring, u64 wr_id)
{
	ring->wr_id[ring->head & (ring->entries - 1)] = wr_id;
	/* Pairs with the acquire in vrdma_ring_complete(). */
	smp_store_release(&ring->head, ring->head + 1);
}

/* Notifies the device; if it is halted, the requests are flushed. */
static void vrdma_ring_announce(struct vrdma_dev *dev, struct vrdma_ring *ring,
				u32 old_head)
{
	if (ring->head == old_head)
		return;
	vrdma_ring_publish(dev, ring);
	if (vrdma_halted(dev))
		queue_work(dev->wq, &dev->flush_work);
}

int vrdma_post_send(struct ib_qp *ibqp, const struct ib_send_wr *wr,
		    const struct ib_send_wr **bad_wr)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibqp->device);
	struct vrdma_qp *qp = to_vrdma_qp(ibqp);
	struct vrdma_ring *ring = &qp->sq;
	struct vrdma_send_limits lim;
	unsigned long flags;
	u32 old_head;
	int ret = 0;

	if (qp->user) {
		if (!wr) {
			vrdma_kick(dev);
			return 0;
		}
		*bad_wr = wr;
		return -EOPNOTSUPP;
	}

	lim.type = ibqp->qp_type;
	lim.sig_all = qp->sig_all;
	lim.qkey = READ_ONCE(qp->qkey);
	lim.max_sge = ring->max_sge;
	lim.max_inline = qp->cap.max_inline_data;

	spin_lock_irqsave(&ring->lock, flags);
	old_head = ring->head;
	for (; wr; wr = wr->next) {
		/* A send queue takes requests from RTS on. */
		if (!vrdma_may_post(qp, IB_QPS_RTS))
			ret = -EINVAL;
		else if (!vrdma_has_room(ring))
			ret = -ENOMEM;
		else
			ret = vrdma_encode_send(&lim, wr,
						vrdma_next_entry(qp, ring));
		if (ret) {
			*bad_wr = wr;
			break;
		}
		vrdma_ring_commit(ring, wr->wr_id);
	}
	vrdma_ring_announce(dev, ring, old_head);
	spin_unlock_irqrestore(&ring->lock, flags);
	return ret;
}

int vrdma_post_recv(struct ib_qp *ibqp, const struct ib_recv_wr *wr,
		    const struct ib_recv_wr **bad_wr)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibqp->device);
	struct vrdma_qp *qp = to_vrdma_qp(ibqp);
	struct vrdma_ring *ring = &qp->rq;
	unsigned long flags;
	u32 old_head;
	int ret = 0;

	if (qp->user || ibqp->srq) {
		*bad_wr = wr;
		return qp->user ? -EOPNOTSUPP : -EINVAL;
	}

	spin_lock_irqsave(&ring->lock, flags);
	old_head = ring->head;
	for (; wr; wr = wr->next) {
		if (!vrdma_may_post(qp, IB_QPS_INIT))
			ret = -EINVAL;
		else if (!vrdma_has_room(ring))
			ret = -ENOMEM;
		else
			ret = vrdma_encode_recv(ring->max_sge, wr,
						vrdma_next_entry(qp, ring));
		if (ret) {
			*bad_wr = wr;
			break;
		}
		vrdma_ring_commit(ring, wr->wr_id);
	}
	vrdma_ring_announce(dev, ring, old_head);
	spin_unlock_irqrestore(&ring->lock, flags);
	return ret;
}
