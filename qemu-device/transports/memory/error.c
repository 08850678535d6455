// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: how requests fail, on both sides, and how the queues of a QP
 * in error are flushed.  Runs on pollers.
 *
 * A requester's error is completed in its place among the send completions and
 * moves the QP to ERR (a datagram QP: to SQE); vrd_mem_sq_run() does that with
 * burst.status once the peer is unlocked.  A responder's error moves the peer to
 * ERR at once and is told by the completion of the receive that was consumed,
 * or else by an event.
 */
#include "memory.h"

enum vrd_mem_step vrd_mem_fail(struct vrd_mem_burst *b, uint8_t status)
{
	b->status = status;
	return VRD_MEM_FAILED;
}

/*
 * The locked peer refuses the request, no receive having been consumed.  An
 * unreliable requester never hears of it, and its peer drops the message.
 */
enum vrd_mem_step vrd_mem_refuse(struct vrd_mem_burst *b, uint8_t status, uint32_t event)
{
	if (!vrd_mem_is_rc(b->qp))
		return VRD_MEM_DONE;
	vrd_event_raise(b->peer->dev, event, b->peer->qpn);
	vrd_qp_error(b->peer, VIRTIO_RDMA_QPS_ERR, VRD_HELD_RQ);
	return vrd_mem_fail(b, status);
}

/* The locked peer goes to ERR, and the request fails with @status. */
enum vrd_mem_step vrd_mem_peer_failed(struct vrd_mem_burst *b, uint8_t status)
{
	vrd_qp_error(b->peer, VIRTIO_RDMA_QPS_ERR, VRD_HELD_RQ);
	if (vrd_mem_is_rc(b->qp))
		return vrd_mem_fail(b, status);
	/* The turn goes on, and must not find it locked and take it for ready. */
	vrd_mem_unlock_peer(b);
	return VRD_MEM_DONE;
}

/* The locked peer's receive fails with @recv_status, the request with @status. */
enum vrd_mem_step vrd_mem_recv_failed(struct vrd_mem_burst *b, const struct vrd_recv_wr *recv,
				      uint8_t recv_status, uint8_t status)
{
	struct vrd_mem_qp *pmq = vrd_mem_qp(b->peer);

	vrd_mem_complete_recv(b->peer, recv, recv_status);
	if (pmq->recv)
		pmq->recv->active = false;
	return vrd_mem_peer_failed(b, status);
}

/*
 * What the peer has posted is malformed, or its producer index cannot be, which
 * counts as the same (and the ring gives nothing more until it is reset).
 */
enum vrd_mem_step vrd_mem_recv_bad(struct vrd_mem_burst *b, const struct vrd_recv_wr *recv)
{
	return vrd_mem_recv_failed(b, recv, VIRTIO_RDMA_WC_LOC_QP_OP_ERR,
				   VIRTIO_RDMA_WC_REM_OP_ERR);
}

/* An error completion of a receive; rq.lock. */
void vrd_mem_complete_recv(struct vrd_qp *qp, const struct vrd_recv_wr *recv, uint8_t status)
{
	struct virtio_rdma_cqe cqe = {
		.qpn = htole32(qp->qpn),
		.wqe_index = htole32(recv->index),
		.srqn = vrd_qp_srqn(qp),
		.opcode = VIRTIO_RDMA_WC_RECV,
		.status = status,
	};

	vrd_cq_post(qp->recv_cq, &cqe, true);
}

/* rq.lock; true: there is more. */
static bool vrd_mem_flush_recvs(struct vrd_qp *qp, unsigned int budget)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);

	/* A message that was under way holds the oldest receive. */
	if (mq->recv && mq->recv->active) {
		mq->recv->active = false;
		vrd_mem_complete_recv(qp, &mq->recv->wr, VIRTIO_RDMA_WC_WR_FLUSH_ERR);
	}
	if (!mq->rq_doorbell) {
		mq->rq_doorbell = true;
		vrd_rq_want_doorbell(qp, true);
	}
	/* In this state it takes none, and it has completed what it took. */
	if (qp->srq && !mq->last_wqe_told) {
		mq->last_wqe_told = true;
		vrd_event_raise(qp->dev, VIRTIO_RDMA_EVENT_QP_LAST_WQE_REACHED, qp->qpn);
	}
	return vrd_rq_flush(qp, budget);
}

/* QP in ERR or SQE; sq.lock. */
enum vrd_run vrd_mem_flush(struct vrd_qp *qp, unsigned int budget)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);
	bool more;

	/* What was under way is still at sq.head and is flushed with the rest. */
	vrd_mem_wait_end(mq);
	if (mq->progress)
		mq->progress->active = false;

	more = vrd_sq_flush(qp, budget);
	if (qp->state == VIRTIO_RDMA_QPS_ERR) {
		vrd_lock(&qp->rq.lock);
		more |= vrd_mem_flush_recvs(qp, budget);
		vrd_unlock(&qp->rq.lock);
	}
	return more ? VRD_RUN_MORE : VRD_RUN_IDLE;
}

/* Receives were posted in ERR, or a sender waits for them. */
void vrd_mem_rq_run(struct vrd_qp *qp)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);

	vrd_lock(&qp->rq.lock);
	if (qp->state == VIRTIO_RDMA_QPS_ERR) {
		vrd_qp_schedule(qp);
	} else if (mq->rq_doorbell) {
		/* (If not, the guest rang for nothing, and disturbs nobody else.) */
		mq->rq_doorbell = false;
		vrd_rq_want_doorbell(qp, false);
		if (!vrd_mem_is_datagram(qp))
			vrd_mem_wake_peer(qp);
	}
	vrd_unlock(&qp->rq.lock);
}
