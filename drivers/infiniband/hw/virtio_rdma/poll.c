// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Completion side of the kernel's data path: polling and arming CQs, and removing
 * a QP's completions.  Any context; the CQ's lock serialises its pollers.
 *
 * A halted device writes no completions, but users wait for them: when the ring is
 * empty, every outstanding work request is flushed in software.  This must not
 * happen before the device is halted, because the user of a flushed request may
 * use its memory for something else.
 */
#include <asm/barrier.h>

#include "encode.h"
#include "vrdma.h"

/* The last four bytes of a CQE, which the device writes in one store. */
#define VRDMA_CQE_LAST	(sizeof(struct virtio_rdma_cqe) - sizeof(__le32))

static_assert(offsetof(struct virtio_rdma_cqe, opcode) == VRDMA_CQE_LAST);
static_assert(offsetof(struct virtio_rdma_cqe, phase) ==
	      sizeof(struct virtio_rdma_cqe) - 1);

static struct virtio_rdma_cqe *vrdma_cqe_at(const struct vrdma_cq *cq,
					    u32 index)
{
	return vrdma_buf_at(cq->buf, vrdma_ring_offset(index, cq->entries,
						       VRDMA_CQE_SHIFT));
}

/* Returns entry @index, or NULL if the device has not written it. */
static struct virtio_rdma_cqe *vrdma_cq_peek(const struct vrdma_cq *cq,
					     u32 index)
{
	struct virtio_rdma_cqe *cqe = vrdma_cqe_at(cq, index);
	__le32 *last = (void *)cqe + VRDMA_CQE_LAST;

	/* Pairs with the device's release store of the same word. */
	if (le32_to_cpu(virt_load_acquire(last)) >> 24 !=
	    vrdma_cqe_phase(index, cq->entries))
		return NULL;
	return cqe;
}

/*
 * Completes all entries up to @index.  Returns false if @index is no outstanding
 * entry: the device wrote it, so it may be anything.  The CQ's lock is held.
 */
static bool vrdma_ring_complete(struct vrdma_ring *ring, u32 index, u64 *wr_id)
{
	/* Pairs with the release in vrdma_ring_commit(). */
	u32 head = smp_load_acquire(&ring->head);

	if (!vrdma_ring_holds(head, ring->tail, index))
		return false;
	*wr_id = ring->wr_id[index & (ring->entries - 1)];
	/* The entry and its wr_id may be used again after this. */
	smp_store_release(&ring->tail, index + 1);
	return true;
}

/* The same for any CQE of a QP, including receives from its SRQ. */
static bool vrdma_qp_complete(struct vrdma_qp *qp,
			      const struct virtio_rdma_cqe *cqe, u64 *wr_id)
{
	u32 index = le32_to_cpu(cqe->wqe_index);
	struct vrdma_srq *srq;

	if (!(cqe->opcode & VIRTIO_RDMA_WC_RECV_BIT))
		return vrdma_ring_complete(&qp->sq, index, wr_id);
	if (!qp->ibqp.srq)
		return vrdma_ring_complete(&qp->rq, index, wr_id);
	srq = to_vrdma_srq(qp->ibqp.srq);
	return le32_to_cpu(cqe->srqn) == srq->srqn &&
	       vrdma_srq_complete(srq, index, wr_id);
}

/*
 * Returns the kernel QP with this number if it uses this CQ, else NULL: the device
 * wrote the number.  The QP cannot be freed while the CQ's lock is held, so no
 * reference is taken: destroying a QP first removes it from the table, then takes
 * the locks of its CQs (vrdma_cq_detach_qp()).
 */
static struct vrdma_qp *vrdma_cq_find_qp(struct vrdma_dev *dev,
					 struct vrdma_cq *cq, u32 qpn)
{
	struct vrdma_qp *qp = cq->last_qp;

	lockdep_assert_held(&cq->lock);
	if (likely(qp && qp->qpn == qpn))
		return qp;
	xa_lock(&dev->qps);
	qp = xa_load(&dev->qps, qpn);
	if (qp && (qp->user || (qp->ibqp.send_cq != &cq->ibcq &&
				qp->ibqp.recv_cq != &cq->ibcq)))
		qp = NULL;
	xa_unlock(&dev->qps);
	if (qp)
		cq->last_qp = qp;
	return qp;
}

/*
 * Handles a CQE whose QP is not in the table, because it is being destroyed: no completion
 * is returned to a user, but the CQE frees an entry of the QP's SRQ.  The QP is on the CQ's
 * list until vrdma_cq_detach_qp().
 */
static void vrdma_cqe_drop(struct vrdma_cq *cq,
			   const struct virtio_rdma_cqe *cqe)
{
	u32 qpn = le32_to_cpu(cqe->qpn);
	struct vrdma_qp *qp;
	u64 wr_id;

	/* vrdma_cq_purge_locked() has handled this CQE. */
	if (qpn == VIRTIO_RDMA_NONE || !(cqe->opcode & VIRTIO_RDMA_WC_RECV_BIT))
		return;
	list_for_each_entry(qp, &cq->recv_qps, recv_link) {
		if (qp->qpn != qpn)
			continue;
		vrdma_qp_complete(qp, cqe, &wr_id);
		return;
	}
}

/* Whether @cq is the right CQ of the QP for this CQE.  cq->lock is held. */
static bool vrdma_cqe_fits(const struct vrdma_cq *cq, const struct vrdma_qp *qp,
			   const struct virtio_rdma_cqe *cqe)
{
	return &cq->ibcq == (cqe->opcode & VIRTIO_RDMA_WC_RECV_BIT ?
			     qp->ibqp.recv_cq : qp->ibqp.send_cq);
}

/* Handles a copy of one CQE; false if it yields no completion. */
static bool vrdma_poll_one(struct vrdma_dev *dev, struct vrdma_cq *cq,
			   const struct virtio_rdma_cqe *cqe, struct ib_wc *wc)
{
	struct vrdma_qp *qp;
	u64 wr_id;

	qp = vrdma_cq_find_qp(dev, cq, le32_to_cpu(cqe->qpn));
	if (!qp) {
		vrdma_cqe_drop(cq, cqe);
		return false;
	}
	if (!vrdma_cqe_fits(cq, qp, cqe))
		return false;
	if (!vrdma_qp_complete(qp, cqe, &wr_id))
		return false;
	vrdma_decode_cqe(cqe, wc);
	wc->wr_id = wr_id;
	wc->qp = &qp->ibqp;
	return true;
}

static int vrdma_poll_ring(struct vrdma_dev *dev, struct vrdma_cq *cq, int num,
			   struct ib_wc *wc)
{
	struct virtio_rdma_cqe *cqe, copy;
	u32 old = cq->consumer;
	int done = 0;

	/* Bound: the ring holds no more until the consumer index is stored. */
	while (done < num && cq->consumer - old < cq->entries &&
	       (cqe = vrdma_cq_peek(cq, cq->consumer))) {
		copy = *cqe;
		WRITE_ONCE(cq->consumer, cq->consumer + 1);
		if (vrdma_poll_one(dev, cq, &copy, &wc[done]))
			done++;
	}
	if (cq->consumer != old)
		/* Release: the entries were read before the device overwrites them. */
		virt_store_release(&cq->ctrl->consumer,
				   cpu_to_le32(cq->consumer));
	return done;
}

static int vrdma_flush_ring(struct vrdma_qp *qp, struct vrdma_ring *ring,
			    enum ib_wc_opcode opcode, int num, struct ib_wc *wc)
{
	int done = 0;
	u64 wr_id;

	while (done < num && vrdma_ring_complete(ring, ring->tail, &wr_id)) {
		memset(&wc[done], 0, sizeof(*wc));
		wc[done].wr_id = wr_id;
		wc[done].status = IB_WC_WR_FLUSH_ERR;
		wc[done].opcode = opcode;
		wc[done].qp = &qp->ibqp;
		done++;
	}
	return done;
}

/* Completes outstanding work requests of a halted device. */
static int vrdma_poll_flush(struct vrdma_cq *cq, int num, struct ib_wc *wc)
{
	struct vrdma_qp *qp;
	int done = 0;

	list_for_each_entry(qp, &cq->send_qps, send_link)
		done += vrdma_flush_ring(qp, &qp->sq, IB_WC_SEND, num - done,
					 wc + done);
	list_for_each_entry(qp, &cq->recv_qps, recv_link)
		done += vrdma_flush_ring(qp, &qp->rq, IB_WC_RECV, num - done,
					 wc + done);
	return done;
}

int vrdma_poll_cq(struct ib_cq *ibcq, int num, struct ib_wc *wc)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibcq->device);
	struct vrdma_cq *cq = to_vrdma_cq(ibcq);
	unsigned long flags;
	int done;

	if (cq->user)
		return -EOPNOTSUPP;
	spin_lock_irqsave(&cq->lock, flags);
	done = vrdma_poll_ring(dev, cq, num, wc);
	if (unlikely(vrdma_halted(dev)) && done < num)
		done += vrdma_poll_flush(cq, num - done, wc + done);
	spin_unlock_irqrestore(&cq->lock, flags);
	return done;
}

/* Whether a halted device's CQ has work requests to flush; cq->lock is held. */
static bool vrdma_cq_has_flush(const struct vrdma_cq *cq)
{
	const struct vrdma_qp *qp;

	list_for_each_entry(qp, &cq->send_qps, send_link)
		if (READ_ONCE(qp->sq.head) != qp->sq.tail)
			return true;
	list_for_each_entry(qp, &cq->recv_qps, recv_link)
		if (READ_ONCE(qp->rq.head) != qp->rq.tail)
			return true;
	return false;
}

static void vrdma_wake_user_cq(struct vrdma_cq *cq)
{
	if (cq->user && cq->ibcq.comp_handler)
		cq->ibcq.comp_handler(&cq->ibcq, cq->ibcq.cq_context);
}

/*
 * A process arms a CQ by writing the arm word, which a halted device does not
 * read.  The provider calls this instead when there is something to flush.
 */
static int vrdma_notify_user_cq(struct vrdma_dev *dev, struct vrdma_cq *cq)
{
	if (!vrdma_halted(dev))
		return -EOPNOTSUPP;
	vrdma_wake_user_cq(cq);
	return 0;
}

int vrdma_req_notify_cq(struct ib_cq *ibcq, enum ib_cq_notify_flags flags)
{
	bool solicited = (flags & IB_CQ_SOLICITED_MASK) == IB_CQ_SOLICITED;
	struct vrdma_dev *dev = to_vrdma_dev(ibcq->device);
	struct vrdma_cq *cq = to_vrdma_cq(ibcq);
	unsigned long irq_flags;
	int ret = 0;

	if (cq->user)
		return vrdma_notify_user_cq(dev, cq);
	spin_lock_irqsave(&cq->lock, irq_flags);
	WRITE_ONCE(cq->arm,
		   vrdma_arm_next(cq->arm,
				  le32_to_cpu(READ_ONCE(cq->ctrl->fired)),
				  solicited));
	WRITE_ONCE(cq->ctrl->arm, cpu_to_le32(cq->arm));
	/*
	 * Order the arm word before the check of the ring.  The device writes a
	 * CQE, then reads the arm word, so one side sees the other's store.
	 */
	virt_mb();
	if ((flags & IB_CQ_REPORT_MISSED_EVENTS) &&
	    (vrdma_cq_peek(cq, cq->consumer) ||
	     (vrdma_halted(dev) && vrdma_cq_has_flush(cq))))
		ret = 1;
	spin_unlock_irqrestore(&cq->lock, irq_flags);
	if (unlikely(vrdma_halted(dev)))
		queue_work(dev->wq, &dev->flush_work);
	return ret;
}

/*
 * Whether the user of a halted device's CQ waits for an event: the CQ is armed
 * and has something to poll.  The device's own record of fired events does not
 * count: the device may have died before the event was delivered.
 */
static bool vrdma_cq_needs_event(struct vrdma_cq *cq)
{
	bool needs;

	spin_lock_irq(&cq->lock);
	needs = cq->arm != cq->flush_fired &&
	       (vrdma_cq_peek(cq, cq->consumer) || vrdma_cq_has_flush(cq));
	if (needs)
		cq->flush_fired = cq->arm;
	spin_unlock_irq(&cq->lock);
	return needs;
}

/*
 * Calls the completion handlers of kernel CQs whose work requests can be flushed.
 * Queued when the device is halted, and by every later post and arming.
 */
void vrdma_flush_work(struct work_struct *work)
{
	struct vrdma_dev *dev = container_of(work, struct vrdma_dev,
					     flush_work);
	unsigned long cqn;
	struct vrdma_cq *cq;

	xa_for_each(&dev->cqs, cqn, cq) {
		/* It may have been destroyed since. */
		cq = vrdma_cq_get(dev, cqn);
		if (!cq)
			continue;
		if (!cq->user && vrdma_cq_needs_event(cq) &&
		    cq->ibcq.comp_handler)
			cq->ibcq.comp_handler(&cq->ibcq, cq->ibcq.cq_context);
		vrdma_cq_put(cq);
	}
}

/*
 * Called when a process posts to an SRQ of a halted device: any CQ of a QP that
 * uses the SRQ can flush the receive.
 */
void vrdma_wake_srq_cqs(struct vrdma_dev *dev, struct ib_srq *ibsrq)
{
	unsigned long qpn;
	struct vrdma_qp *qp;

	xa_for_each(&dev->qps, qpn, qp) {
		qp = vrdma_qp_get(dev, qpn);
		if (!qp)
			continue;
		/* The reference to the QP keeps its CQ alive. */
		if (qp->ibqp.srq == ibsrq)
			vrdma_wake_user_cq(to_vrdma_cq(qp->ibqp.recv_cq));
		vrdma_qp_put(qp);
	}
}

/*
 * Sends one event for each CQ of a process, armed or not, when the device is
 * halted: a process that waits for an event then polls, and its provider flushes.
 */
void vrdma_wake_user_cqs(struct vrdma_dev *dev)
{
	unsigned long cqn;
	struct vrdma_cq *cq;

	xa_for_each(&dev->cqs, cqn, cq) {
		cq = vrdma_cq_get(dev, cqn);
		if (!cq)
			continue;
		vrdma_wake_user_cq(cq);
		vrdma_cq_put(cq);
	}
}

void vrdma_cq_attach_qp(struct vrdma_qp *qp)
{
	struct vrdma_cq *send_cq = to_vrdma_cq(qp->ibqp.send_cq);
	struct vrdma_cq *recv_cq = to_vrdma_cq(qp->ibqp.recv_cq);

	if (qp->user)
		return;
	spin_lock_irq(&send_cq->lock);
	list_add_tail(&qp->send_link, &send_cq->send_qps);
	spin_unlock_irq(&send_cq->lock);

	spin_lock_irq(&recv_cq->lock);
	list_add_tail(&qp->recv_link, &recv_cq->recv_qps);
	spin_unlock_irq(&recv_cq->lock);
}

/*
 * Completes the CQEs of @qp in the ring, and marks them so that polls skip them.
 * The driver may write to CQEs until the consumer index passes them.  cq->lock is
 * held.
 */
static void vrdma_cq_purge_locked(struct vrdma_cq *cq, struct vrdma_qp *qp)
{
	struct virtio_rdma_cqe *cqe, copy;
	u64 wr_id;
	u32 i;

	lockdep_assert_held(&cq->lock);
	for (i = 0; i < cq->entries; i++) {
		cqe = vrdma_cq_peek(cq, cq->consumer + i);
		if (!cqe)
			break;
		copy = *cqe;
		if (le32_to_cpu(copy.qpn) != qp->qpn)
			continue;
		vrdma_qp_complete(qp, &copy, &wr_id);
		cqe->qpn = cpu_to_le32(VIRTIO_RDMA_NONE);
	}
}

/* Removes a QP that is not in the table any more, and its CQEs, from its CQs. */
void vrdma_cq_detach_qp(struct vrdma_qp *qp)
{
	struct vrdma_cq *send_cq = to_vrdma_cq(qp->ibqp.send_cq);
	struct vrdma_cq *recv_cq = to_vrdma_cq(qp->ibqp.recv_cq);

	if (qp->user)
		return;
	spin_lock_irq(&send_cq->lock);
	list_del_init(&qp->send_link);
	if (send_cq->last_qp == qp)
		send_cq->last_qp = NULL;
	vrdma_cq_purge_locked(send_cq, qp);
	spin_unlock_irq(&send_cq->lock);

	spin_lock_irq(&recv_cq->lock);
	list_del_init(&qp->recv_link);
	if (recv_cq->last_qp == qp)
		recv_cq->last_qp = NULL;
	vrdma_cq_purge_locked(recv_cq, qp);
	spin_unlock_irq(&recv_cq->lock);
}

/*
 * Called before a kernel QP moves to RESET: nothing may be posted until its rings
 * are reset.
 */
void vrdma_qp_stop_posts(struct vrdma_qp *qp)
{
	WRITE_ONCE(qp->state, IB_QPS_RESET);
	/* Wait for posters that saw the old state. */
	spin_lock_irq(&qp->sq.lock);
	spin_unlock_irq(&qp->sq.lock);
	spin_lock_irq(&qp->rq.lock);
	spin_unlock_irq(&qp->rq.lock);
}

/* Resets one ring of a QP.  The CQ's lock is held. */
static void vrdma_ring_reset(struct vrdma_ring *ring)
{
	spin_lock(&ring->lock);
	ring->head = 0;
	ring->tail = 0;
	/* A queue without entries has no control words. */
	if (ring->entries)
		WRITE_ONCE(ring->ctrl->producer, 0);
	spin_unlock(&ring->lock);
}

/*
 * Called after a kernel QP has moved to RESET: the device does not read its rings
 * and will start at entry 0.  Lock order: CQ, then ring.
 */
void vrdma_qp_reset_rings(struct vrdma_qp *qp)
{
	struct vrdma_cq *send_cq = to_vrdma_cq(qp->ibqp.send_cq);
	struct vrdma_cq *recv_cq = to_vrdma_cq(qp->ibqp.recv_cq);

	spin_lock_irq(&send_cq->lock);
	vrdma_cq_purge_locked(send_cq, qp);
	vrdma_ring_reset(&qp->sq);
	spin_unlock_irq(&send_cq->lock);

	spin_lock_irq(&recv_cq->lock);
	vrdma_cq_purge_locked(recv_cq, qp);
	vrdma_ring_reset(&qp->rq);
	spin_unlock_irq(&recv_cq->lock);
}
