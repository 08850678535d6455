// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Doorbells: the slow path of a post, when the device does not watch the ring.
 * Called by post.c, wr.c and srq.c under the lock of the queue that was posted
 * to.
 */
#include <errno.h>
#include <sched.h>

#include "vrdma.h"

#define WAKE_TRIES	100

static bool is_gone(int ret)
{
	return ret == EIO || ret == ENODEV;
}

/* Posts zero requests to @qp, or to @srq if @qp is NULL. */
static int vrdma_post_nothing(struct ibv_qp *qp, struct ibv_srq *srq)
{
	struct ibv_send_wr *bad_send;
	struct ibv_recv_wr *bad_recv;

	return qp ? ibv_cmd_post_send(qp, NULL, &bad_send) :
		    ibv_cmd_post_srq_recv(srq, NULL, &bad_recv);
}

/*
 * Wakes the device's poller.  The posted requests have been published and
 * cannot be withdrawn, so the wake-up is repeated if the kernel is short of
 * memory.
 */
static int vrdma_wake(struct ibv_qp *qp, struct ibv_srq *srq)
{
	int i, ret = 0;

	for (i = 0; i < WAKE_TRIES; i++) {
		ret = vrdma_post_nothing(qp, srq);
		if (!ret || is_gone(ret))
			break;
		sched_yield();
	}
	return ret;
}

static void vrdma_dead_doorbell(struct ibv_qp *qp, struct ibv_srq *srq)
{
	if (srq) {
		vrdma_post_nothing(NULL, srq);
		return;
	}
	if (qp->send_cq)
		vrdma_dead_event(to_vcq(qp->send_cq));
	if (qp->recv_cq && qp->recv_cq != qp->send_cq)
		vrdma_dead_event(to_vcq(qp->recv_cq));
}

/*
 * Sets the ring's dirty byte.  If the device's poller sleeps, wakes it by a
 * post of zero requests, which the kernel driver turns into a notification of
 * the doorbell virtqueue.
 *
 * A dead device is no error: the requests that were just published complete
 * with WR_FLUSH_ERR when the CQ is polled, like those of a QP in ERR.  The
 * kernel then raises the event of an armed CQ; it knows the CQs of an SRQ.
 */
static void vrdma_ring_doorbell(struct vrdma_context *ctx,
				const struct vrdma_ring *ring,
				struct ibv_qp *qp, struct ibv_srq *srq)
{
	if (vrdma_ctx_dead(ctx)) {
		vrdma_dead_doorbell(qp, srq);
		return;
	}

	atomic_fetch_add_explicit(&ctx->doorbells, 1, memory_order_relaxed);
	if (!vrdma_db_ring(ctx->db, ring->slot))
		return;

	atomic_fetch_add_explicit(&ctx->wakeups, 1, memory_order_relaxed);
	if (is_gone(vrdma_wake(qp, srq)))
		atomic_store_explicit(&ctx->dead, true, memory_order_release);
}

void vrdma_doorbell(struct vrdma_qp *qp, const struct vrdma_ring *ring)
{
	vrdma_ring_doorbell(to_vctx(qp->vqp.qp.context), ring, &qp->vqp.qp,
			    NULL);
}

void vrdma_srq_doorbell(struct vrdma_srq *srq)
{
	vrdma_ring_doorbell(to_vctx(srq->vsrq.srq.context), &srq->ring, NULL,
			    &srq->vsrq.srq);
}
