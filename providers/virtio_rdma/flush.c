// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Flush of a dead device's work.  A dead device completes nothing, but programs
 * wait for the requests that they posted: polling completes these requests with
 * WR_FLUSH_ERR.  Called by poll.c, under the CQ's lock, when the ring is empty.
 *
 * Programs that sleep until an event comes get one from the kernel: for every
 * CQ when the device dies; later when a CQ is armed and a request can be
 * flushed, in whichever order the two happened (cq.c, db.c).
 */
#include "vrdma.h"

/*
 * Returns true once: when the CQ was found empty for the first time after the
 * death of the device. The ring must then be polled once more, for CQEs that
 * were written before the death.  After that the ring is closed, because a
 * device that has not been reset yet (in a disassociation) may still complete
 * requests that were flushed here.
 */
bool vrdma_cq_last_look(struct vrdma_cq *cq)
{
	if (cq->looked_last)
		return false;
	cq->looked_last = true;
	return true;
}

/* Makes a CQE for the queue's oldest request that is not complete. */
static bool vrdma_flush_wq(struct vrdma_cq *cq, struct vrdma_qp *qp,
			   struct vrdma_wq *wq, uint8_t opcode, uint32_t *word,
			   uint64_t *wr_id)
{
	struct virtio_rdma_cqe *cqe = &cq->flush_cqe;
	uint32_t index;

	if (!vrdma_ring_oldest(&wq->ring, &index)) {
		/* A later post must ring the doorbell, see db.c. */
		vrdma_store(&wq->ring.ctrl->need_db, 1);
		return false;
	}

	*wr_id = wq->wr_ids[index & wq->ring.mask];
	vrdma_ring_complete(&wq->ring, index);

	cqe->qpn = htole32(qp->vqp.qp.qp_num);
	cqe->wqe_index = htole32(index);
	*word = opcode | VIRTIO_RDMA_WC_WR_FLUSH_ERR << 8;
	return true;
}

/* Flushes an SRQ's entry, for the first of the SRQ's QPs whose CQ is polled. */
static bool vrdma_flush_srq(struct vrdma_cq *cq, struct vrdma_qp *qp,
			    uint32_t *word, uint64_t *wr_id)
{
	struct virtio_rdma_cqe *cqe = &cq->flush_cqe;
	uint32_t cookie;

	if (!vrdma_srq_flush(qp->srq, &cookie, wr_id)) {
		vrdma_store(&qp->srq->ring.ctrl->need_db, 1);
		return false;
	}
	cqe->qpn = htole32(qp->vqp.qp.qp_num);
	cqe->wqe_index = htole32(cookie);
	*word = VIRTIO_RDMA_WC_RECV | VIRTIO_RDMA_WC_WR_FLUSH_ERR << 8;
	return true;
}

/*
 * Returns the next completion of a CQ whose device is dead and whose ring is
 * empty, or NULL if nothing is outstanding.  The requests of a queue are
 * flushed in the order in which they were posted, those of an SRQ in no order;
 * requests that are not signaled are flushed as well.
 */
struct virtio_rdma_cqe *vrdma_cq_flush(struct vrdma_cq *cq, uint32_t *word,
				       uint64_t *wr_id)
{
	struct vrdma_qp *qp;

	vrdma_cq_ring_close(&cq->cur->ring);

	list_for_each(&cq->send_qps, qp, send_link)
		if (vrdma_flush_wq(cq, qp, &qp->sq, VIRTIO_RDMA_WC_SEND, word,
				   wr_id))
			return &cq->flush_cqe;
	list_for_each(&cq->recv_qps, qp, recv_link)
		if (qp->srq ? vrdma_flush_srq(cq, qp, word, wr_id) :
			      vrdma_flush_wq(cq, qp, &qp->rq,
					     VIRTIO_RDMA_WC_RECV, word, wr_id))
			return &cq->flush_cqe;
	return NULL;
}

/* ---- events ---- */

static bool vrdma_recv_has_flush(struct vrdma_qp *qp)
{
	uint32_t index;
	bool has;

	if (!qp->srq)
		return vrdma_ring_oldest(&qp->rq.ring, &index);
	vrdma_lock(&qp->srq->lock);
	has = qp->srq->cookies.taken != 0;
	vrdma_unlock(&qp->srq->lock);
	return has;
}

/*
 * True if a poll of the CQ would return a completion, with the device dead.
 * Under the CQ's lock.
 */
bool vrdma_cq_has_flush(struct vrdma_cq *cq)
{
	struct vrdma_qp *qp;
	uint32_t index, word;

	if (cq->cur != cq->last ||
	    vrdma_cq_ring_peek(&cq->cur->ring, cq->cur->ring.consumer, &word))
		return true;
	list_for_each(&cq->send_qps, qp, send_link)
		if (vrdma_ring_oldest(&qp->sq.ring, &index))
			return true;
	list_for_each(&cq->recv_qps, qp, recv_link)
		if (vrdma_recv_has_flush(qp))
			return true;
	return false;
}

/*
 * Called when the device is dead and a request can be flushed: asks the kernel
 * for an event if the CQ is armed and no event was asked for.  Either the
 * thread that arms finds the posted request, or the thread that posts finds the
 * CQ armed: both store, then execute a full barrier, then load. Any thread.
 */
void vrdma_dead_event(struct vrdma_cq *cq)
{
	if (atomic_exchange(&cq->want_event, false))
		/* Fails only if the kernel has closed the channel as well. */
		ibv_cmd_req_notify_cq(&cq->vcq.cq, 0);
}
