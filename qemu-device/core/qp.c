// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * State changes of a queue pair by the data path: errors.
 *
 * The state is written under both ring locks.  A thread that detects an error holds at most
 * one of them, and perhaps locks of another QP.  So it takes the missing ones only if they
 * are free.  Otherwise it leaves the change to the QP's poller, which makes it before it
 * runs the send queue again.
 */
#include "transport.h"
#include "poller_internal.h"
#include "trace.h"

void vrd_qp_init(struct vrd_qp *qp)
{
	vrd_lock_init(&qp->sq.lock, VRD_LOCK_SQ);
	vrd_lock_init(&qp->rq.lock, VRD_LOCK_RQ);
	qp->sq.qp = qp;
	qp->rq.qp = qp;
	qp->sq.slot = VIRTIO_RDMA_NONE;
	qp->rq.slot = VIRTIO_RDMA_NONE;
	qp->sched.hot = -1;
	atomic_init(&qp->sched.error_state, 0);
}

static void ring_reset(struct vrd_ring *ring)
{
	ring->head = 0;
	ring->tail = 0;
	ring->broken = false;
}

void vrd_qp_reset_rings(struct vrd_qp *qp)
{
	ring_reset(&qp->sq);
	qp->sched.restarted = true;
	ring_reset(&qp->rq);
	/* Drop errors from before the reset. */
	atomic_store_explicit(&qp->sched.error_state, 0, memory_order_relaxed);
}

static void enter(struct vrd_qp *qp, uint8_t new_state)
{
	switch (qp->state) {
	case VIRTIO_RDMA_QPS_RESET:
	case VIRTIO_RDMA_QPS_ERR:
		return;
	case VIRTIO_RDMA_QPS_RTS:
	case VIRTIO_RDMA_QPS_SQD:
		break;
	default:
		if (new_state == VIRTIO_RDMA_QPS_SQE)
			return;
	}
	vrd_trace_qp_state(qp->dev->name, qp->qpn, qp->state, new_state);
	qp->state = new_state;
	qp->attr.state = new_state;
}

void vrd_qp_apply_error(struct vrd_qp *qp)
{
	uint8_t state = atomic_exchange_explicit(&qp->sched.error_state, 0, memory_order_acquire);

	if (state)
		enter(qp, state);
}

/* ERR has priority over SQE: it is the larger number. */
static void defer(struct vrd_qp *qp, uint8_t new_state)
{
	uint8_t old = atomic_load_explicit(&qp->sched.error_state, memory_order_relaxed);

	while (old < new_state &&
	       !atomic_compare_exchange_weak_explicit(&qp->sched.error_state, &old, new_state,
						      memory_order_release,
						      memory_order_relaxed))
		;
}

void vrd_qp_error(struct vrd_qp *qp, uint8_t new_state, enum vrd_held held)
{
	bool sq = held == VRD_HELD_SQ || vrd_lock_try(&qp->sq.lock);
	bool rq = sq && (held == VRD_HELD_RQ || vrd_lock_try(&qp->rq.lock));

	if (sq && rq)
		enter(qp, new_state);
	else
		defer(qp, new_state);
	if (rq && held != VRD_HELD_RQ)
		vrd_unlock(&qp->rq.lock);
	if (sq && held != VRD_HELD_SQ)
		vrd_unlock(&qp->sq.lock);

	/* The poller flushes, or makes the change. */
	vrd_qp_schedule(qp);
}
