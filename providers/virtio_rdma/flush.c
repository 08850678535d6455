// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * A device that is gone completes nothing, but programs wait for what they
 * posted: the polls complete it in the device's place, with WR_FLUSH_ERR.
 * Called by poll.c, when it finds nothing else, under the CQ's lock.
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
		/* A post to come leaves no doubt that nobody watches. */
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

	if (!vrdma_srq_flush(qp->srq, &cookie, wr_id))
		return false;
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
