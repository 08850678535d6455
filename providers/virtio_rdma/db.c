// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The slow half of a post: nobody watches the ring.  Called by post.c and wr.c
 * under the lock of the queue that was posted to.
 */
#include <errno.h>
#include <sched.h>

#include "vrdma.h"

#define WAKE_TRIES	100

static bool is_gone(int ret)
{
	return ret == EIO || ret == ENODEV;
}

/*
 * Wakes the device's poller.  The post whose work it is has been published and
 * cannot be taken back, so a kernel that is short of memory is asked again.
 */
static int vrdma_wake(struct vrdma_qp *qp)
{
	struct ibv_send_wr *bad_wr;
	int i, ret = 0;

	for (i = 0; i < WAKE_TRIES; i++) {
		ret = ibv_cmd_post_send(&qp->vqp.qp, NULL, &bad_wr);
		if (!ret || is_gone(ret))
			break;
		sched_yield();
	}
	return ret;
}

/*
 * Tells the device which ring moved and, only if its poller sleeps, wakes it by
 * a post of zero requests, which the driver turns into a notification of the
 * doorbell virtqueue.
 *
 * A device that is gone is no error: the work that was just published completes
 * with WR_FLUSH_ERR when the CQ is polled, as that of a QP in ERR does.
 */
void vrdma_doorbell(struct vrdma_qp *qp, const struct vrdma_ring *ring)
{
	struct vrdma_context *ctx = to_vctx(qp->vqp.qp.context);

	if (atomic_load_explicit(&ctx->dead, memory_order_relaxed))
		return;

	atomic_fetch_add_explicit(&ctx->doorbells, 1, memory_order_relaxed);
	if (!vrdma_db_ring(ctx->db, ring->slot))
		return;

	atomic_fetch_add_explicit(&ctx->wakeups, 1, memory_order_relaxed);
	if (is_gone(vrdma_wake(qp)))
		atomic_store_explicit(&ctx->dead, true, memory_order_release);
}
