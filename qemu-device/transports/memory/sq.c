// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: the rare parts of a send queue's turn (requester.c): errors, slices of
 * long copies, the states other than RTS, doorbells of receive rings.
 *
 * Runs on the poller with sq.lock held, except for vrd_mem_rq_run().
 */
#include "memory.h"

enum vrd_mem_step vrd_mem_fail(struct vrd_mem_burst *b, uint8_t status)
{
	b->status = status;
	return VRD_MEM_FAILED;
}

/* Counts operations other than WRITE and the usual SENDs.  LOCAL_INV and REG_MR are not counted. */
void vrd_mem_count_other(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	if (wr->req.opcode == VIRTIO_RDMA_WR_SEND_WITH_INV) {
		b->sends++;
		b->sent += wr->req.length;
	}
	if (vrd_wr_is(wr, VRD_WR_SPECIAL))
		return;
	if (wr->req.opcode != VIRTIO_RDMA_WR_RDMA_READ) {
		vrd_count(b->count, VIRTIO_RDMA_STAT_ATOMIC, 1);
		return;
	}
	vrd_count(b->count, VIRTIO_RDMA_STAT_READ, 1);
	vrd_count(b->count, VIRTIO_RDMA_STAT_RX_BYTES, wr->req.length);
}

uint64_t vrd_mem_whole_slice(struct vrd_mem_burst *b)
{
	if (!b->whole)
		b->whole = vrd_poller_is_alone(b->qp->poller) ? VRD_MEM_SLICE_ALONE : VRD_MEM_SLICE;
	return b->whole;
}

/* The slice is used up: returns true if the turn may continue with another one. */
bool vrd_mem_next_slice(struct vrd_mem_burst *b)
{
	if (vrd_poller_has_other_work(b->qp->poller, b->qp) || vrd_device_suspended(b->qp->dev) ||
	    (b->resp.qp && vrd_device_suspended(b->resp.qp->dev)))
		return false;
	vrd_mem_moved(b);
	b->slice = vrd_mem_whole_slice(b);
	return true;
}

/* The request did not succeed, or is not finished in this turn. */
enum vrd_run vrd_mem_stop(struct vrd_mem_burst *b, const struct vrd_wr *wr,
			  enum vrd_mem_step step)
{
	if (step == VRD_MEM_FAILED) {
		vrd_mem_unlock_peer(b);
		vrd_mem_wait_end(b->mq);
		if (b->mq->progress)
			b->mq->progress->active = false;
		vrd_req_failed(&b->mq->req, wr, b->status);
	}
	return step == VRD_MEM_WAIT ? VRD_RUN_WAIT : VRD_RUN_MORE;
}

/*
 * SQD: the request that was started is finished, and no other is started.  Then the event
 * SQ_DRAINED is raised if the driver asked for it.
 */
bool vrd_mem_drained(struct vrd_qp *qp)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);

	if (vrd_mem_sq_busy(mq))
		return false;
	vrd_req_drained(&mq->req);
	return true;
}

/* QP in ERR or SQE; sq.lock. */
enum vrd_run vrd_mem_flush(struct vrd_qp *qp, unsigned int budget)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);
	bool more;

	/* The request that was under way is still at sq.head and is flushed with the others. */
	vrd_mem_wait_end(mq);
	if (mq->progress)
		mq->progress->active = false;

	more = vrd_sq_flush(qp, budget);
	if (qp->state == VIRTIO_RDMA_QPS_ERR) {
		vrd_lock(&qp->rq.lock);
		more |= vrd_resp_flush(qp, budget);
		vrd_unlock(&qp->rq.lock);
	}
	return more ? VRD_RUN_MORE : VRD_RUN_IDLE;
}

/* The driver has posted receives in ERR, or a sender waits for them. */
void vrd_mem_rq_run(struct vrd_qp *qp)
{
	vrd_lock(&qp->rq.lock);
	if (qp->state == VIRTIO_RDMA_QPS_ERR) {
		vrd_qp_schedule(qp);
	} else if (qp->rq.want_db) {
		/* Without want_db the guest rang needlessly: no peer is woken. */
		vrd_rq_want_doorbell(qp, false);
		if (!vrd_mem_is_datagram(qp))
			vrd_mem_wake_peer(qp);
	}
	vrd_unlock(&qp->rq.lock);
}
