// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * A device that is gone completes nothing, but programs wait for what they
 * posted: the polls complete it in the device's place, with WR_FLUSH_ERR.
 * Called by poll.c, when it finds nothing else, under the CQ's lock.
 *
 * Programs that sleep until an event comes get one from the kernel: when the
 * device dies, for every CQ; later, if a CQ is armed and there is something to
 * flush, whichever came last (cq.c, db.c).
 */
#include "vrdma.h"

/*
 * The first time that the CQ is found empty after the device has died: the ring
 * has to be looked at once more, for what came before the death.  After that it
 * is closed, as a device that dies slowly (in a disassociation) may still
 * complete what is flushed already.
 */
bool vrdma_cq_last_look(struct vrdma_cq *cq)
{
	if (cq->looked_last)
		return false;
	cq->looked_last = true;
	return true;
}

/* The next request of a queue that is not complete, as a CQE made up. */
static bool vrdma_flush_wq(struct vrdma_cq *cq, struct vrdma_qp *qp,
			   struct vrdma_wq *wq, uint8_t opcode, uint32_t *word,
			   uint64_t *wr_id)
{
	struct virtio_rdma_cqe *cqe = &cq->flush_cqe;
	uint32_t index;

	if (!vrdma_ring_oldest(&wq->ring, &index)) {
		/* A later post has to ring the doorbell, see db.c. */
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

/* An SRQ's entries, by the first of its QPs whose CQ is polled. */
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
 * The next completion of a CQ whose device is dead and whose ring was polled
 * empty; NULL if nothing is outstanding.  Each queue's requests come in the
 * order in which they were posted (an SRQ's in none), those that asked for no
 * completion as well.
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
 * Whether a poll of the CQ would find something, with the device gone.  Under
 * the CQ's lock.
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
 * Something can be flushed, and the device is gone: asks the kernel for an event
 * if the CQ is armed and none was asked for.  Either who arms finds what was
 * posted, or who posts finds the CQ armed: both write, then execute a full
 * barrier, then read.  Any thread.
 */
void vrdma_dead_event(struct vrdma_cq *cq)
{
	if (atomic_exchange(&cq->want_event, false))
		/* Fails only if the kernel has closed the channel as well. */
		ibv_cmd_req_notify_cq(&cq->vcq.cq, 0);
}
