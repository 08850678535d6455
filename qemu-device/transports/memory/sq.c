// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: a send queue's turn on its poller.  Takes work requests off
 * the ring in order, has each carried out by the transport of the QP, and
 * completes it.  Everything is done when it is completed, so the order of
 * completions and the fence flag come by themselves.
 *
 * Called by poller.c with sq.lock held.
 */
#include "memory.h"

static void vrd_mem_count(struct vrd_device *dev, unsigned int stat, uint64_t n)
{
	if (n)
		vrd_stat_add(dev, stat, n);
}

/* Adds up what happened to the peer, which changes from datagram to datagram. */
static void vrd_mem_count_peer(struct vrd_mem_burst *b)
{
	vrd_mem_count(b->peer->dev, VIRTIO_RDMA_STAT_RECV, b->peer_recv);
	vrd_mem_count(b->peer->dev, VIRTIO_RDMA_STAT_TX_BYTES, b->peer_tx);
	vrd_mem_count(b->peer->dev, VIRTIO_RDMA_STAT_RX_BYTES, b->peer_rx);
	b->peer_recv = 0;
	b->peer_tx = 0;
	b->peer_rx = 0;
}

void vrd_mem_unlock_peer(struct vrd_mem_burst *b)
{
	if (!b->peer)
		return;
	vrd_unlock(&b->peer->rq.lock);
	vrd_mem_count_peer(b);
	b->peer = NULL;
}

static void vrd_mem_count_burst(struct vrd_mem_burst *b)
{
	struct vrd_device *dev = b->qp->dev;

	vrd_mem_count(dev, VIRTIO_RDMA_STAT_SEND, b->send);
	vrd_mem_count(dev, VIRTIO_RDMA_STAT_WRITE, b->write);
	vrd_mem_count(dev, VIRTIO_RDMA_STAT_READ, b->read);
	vrd_mem_count(dev, VIRTIO_RDMA_STAT_ATOMIC, b->atomic);
	vrd_mem_count(dev, VIRTIO_RDMA_STAT_TX_BYTES, b->tx);
	vrd_mem_count(dev, VIRTIO_RDMA_STAT_RX_BYTES, b->rx);
	vrd_mem_count(dev, VIRTIO_RDMA_STAT_RNR, b->rnr);
	vrd_mem_count(dev, VIRTIO_RDMA_STAT_RETRY, b->retry);
	vrd_mem_count(dev, VIRTIO_RDMA_STAT_UD_DROPS, b->ud_drops);
}

/* The request has succeeded. */
static void vrd_mem_complete(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	uint32_t byte_len = wr->length;

	switch (wr->opcode) {
	case VIRTIO_RDMA_WR_RDMA_WRITE:
	case VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM:
		b->write++;
		b->tx += byte_len;
		break;
	case VIRTIO_RDMA_WR_RDMA_READ:
		b->read++;
		b->rx += byte_len;
		break;
	case VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP:
	case VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD:
		b->atomic++;
		break;
	default:
		b->send++;
		b->tx += byte_len;
	}
	if (b->mq->wait != VRD_MEM_WAIT_NONE || b->mq->rnr_tries)
		vrd_mem_wait_end(b->mq);
	if (wr->flags & VIRTIO_RDMA_WQE_SIGNALED)
		vrd_complete_send(b->qp, wr, VIRTIO_RDMA_WC_SUCCESS, byte_len);
	vrd_sq_advance(b->qp);
}

/* The request has failed with burst.status; no other lock is held. */
static void vrd_mem_complete_error(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	struct vrd_qp *qp = b->qp;

	vrd_mem_wait_end(b->mq);
	if (b->mq->progress)
		b->mq->progress->active = false;
	vrd_complete_send(qp, wr, b->status, 0);
	vrd_sq_advance(qp);
	/*
	 * IBTA 10.3.1: an unreliable send queue alone fails; receiving goes on.
	 * After a producer index that cannot be, nothing can be trusted until
	 * the QP is reset.
	 */
	vrd_qp_error(qp, qp->type == VIRTIO_RDMA_QPT_RC || qp->sq.broken ?
		     VIRTIO_RDMA_QPS_ERR : VIRTIO_RDMA_QPS_SQE, VRD_HELD_SQ);
}

/* The next request: one under way, or a copy of the one at sq.head. */
static enum vrd_fetch vrd_mem_next(struct vrd_mem_burst *b, const struct vrd_wr **wr)
{
	struct vrd_mem_progress *progress = b->mq->progress;

	if (progress && progress->active) {
		*wr = &progress->wr;
		return VRD_FETCH_OK;
	}
	*wr = &b->wr;
	return vrd_sq_peek(b->qp, &b->wr);
}

/* The slice is used up: true if the turn may go on with another. */
bool vrd_mem_next_slice(struct vrd_mem_burst *b)
{
	if (vrd_poller_has_other_work(b->qp->poller, b->qp) || vrd_device_suspended(b->qp->dev) ||
	    (b->peer && vrd_device_suspended(b->peer->dev)))
		return false;
	b->slice = b->whole;
	return true;
}

static enum vrd_run vrd_mem_burst_run(struct vrd_mem_burst *b, unsigned int budget)
{
	bool datagram = vrd_mem_is_datagram(b->qp);

	while (budget--) {
		const struct vrd_wr *wr;
		enum vrd_mem_step step;

		switch (vrd_mem_next(b, &wr)) {
		case VRD_FETCH_EMPTY:
			return VRD_RUN_IDLE;
		case VRD_FETCH_OK:
			step = datagram ? vrd_mem_ud_step(b, wr) : vrd_mem_rc_step(b, wr);
			break;
		default:
			step = vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_QP_OP_ERR);
		}
		switch (step) {
		case VRD_MEM_DONE:
			vrd_mem_complete(b, wr);
			break;
		case VRD_MEM_FAILED:
			vrd_mem_unlock_peer(b);
			vrd_mem_complete_error(b, wr);
			return VRD_RUN_MORE;
		case VRD_MEM_MORE:
			return VRD_RUN_MORE;
		case VRD_MEM_WAIT:
			return VRD_RUN_WAIT;
		}
		if (!b->slice && !vrd_mem_next_slice(b))
			break;
	}
	return VRD_RUN_MORE;
}

/*
 * SQD: the request that was begun is finished, no other is taken; then the
 * driver is told, if it asked for that.
 */
static bool vrd_mem_drained(struct vrd_qp *qp)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);

	if (vrd_mem_sq_busy(mq))
		return false;
	if (!mq->drain_told) {
		mq->drain_told = true;
		vrd_event_raise(qp->dev, VIRTIO_RDMA_EVENT_SQ_DRAINED, qp->qpn);
	}
	return true;
}

static inline void burst_begin(struct vrd_mem_burst *b, struct vrd_qp *qp)
{
	/* Not the buffers: they are long, and filled before they are read. */
	b->qp = qp;
	b->mq = vrd_mem_qp(qp);
	b->peer = NULL;
	b->whole = vrd_poller_is_alone(qp->poller) ? VRD_MEM_SLICE_ALONE : VRD_MEM_SLICE;
	b->slice = b->whole;
	b->send = b->write = b->read = b->atomic = 0;
	b->tx = b->rx = b->rnr = b->retry = b->ud_drops = 0;
	b->peer_recv = b->peer_tx = b->peer_rx = 0;
}

static inline void burst_end(struct vrd_mem_burst *b)
{
	vrd_mem_unlock_peer(b);
	vrd_mem_count_burst(b);
}

/* For who delivers otherwise, without a turn of a send queue. */
void vrd_mem_burst_begin(struct vrd_mem_burst *b, struct vrd_qp *qp)
{
	burst_begin(b, qp);
}

void vrd_mem_burst_end(struct vrd_mem_burst *b)
{
	burst_end(b);
}

enum vrd_run vrd_mem_sq_run(struct vrd_qp *qp, unsigned int budget)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);
	struct vrd_mem_burst b;
	enum vrd_run ret;

	if (mq->dead)
		return VRD_RUN_IDLE;
	if (vrd_device_suspended(qp->dev))
		return VRD_RUN_WAIT;
	switch (qp->state) {
	case VIRTIO_RDMA_QPS_RTS:
		break;
	case VIRTIO_RDMA_QPS_SQD:
		if (vrd_mem_drained(qp))
			return VRD_RUN_WAIT;
		budget = 1;
		break;
	case VIRTIO_RDMA_QPS_SQE:
	case VIRTIO_RDMA_QPS_ERR:
		return vrd_mem_flush(qp, budget);
	default:
		/* Not to be looked at before RTS; modify_qp runs it then. */
		return VRD_RUN_WAIT;
	}

	burst_begin(&b, qp);
	ret = vrd_mem_burst_run(&b, budget);
	burst_end(&b);
	if (qp->state == VIRTIO_RDMA_QPS_SQD && vrd_mem_drained(qp))
		ret = VRD_RUN_WAIT;
	return ret;
}
