// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: states of QPs on devices with several transports.
 *
 * Every QP of such a device has a QP of the host, which determines its number.
 *
 *   path of the guest's QP        the host's QP
 *   none yet (RESET, INIT)        as the guest's
 *   another transport (RC, UC)    INIT: it answers no requests
 *   this one (RC, UC)             as the guest's
 *   by datagram (UD)              as the guest's up to RTS, and in ERR; it is in RTS
 *                                 while the guest's is in RTS, SQD or SQE
 *
 * Receives stay on the guest's ring until the QP goes to RTR on this path.  They are posted
 * to the host before its QP goes to RTR, because a message may arrive from then on.
 *
 * Control thread or a worker, one at a time for each QP, without a lock of lock.h, except
 * where stated.
 */
#include <errno.h>
#include <time.h>

#include "ibv.h"
#include "log.h"

/* ---- to RTR ---------------------------------------------------------------------- */

struct handover {
	struct vrd_ibv_qp *vq;
	int ret;
};

/*
 * RC, UC, on the poller: sets whether this transport takes the receives of the guest's ring.
 * The ring of a suspended device is not accessed; its need_db is written when the device
 * resumes.
 */
static void set_carries(struct vrd_ibv_qp *vq, bool carries)
{
	struct vrd_qp *qp = vq->qp;

	vrd_lock(&qp->rq.lock);
	vq->carries = carries;
	if (vrd_device_suspended(qp->dev) ||
	    __atomic_load_n(&qp->sched.detached, __ATOMIC_RELAXED)) {
		qp->rq.want_db = carries;
		vrd_rings_stale(qp->dev);
	} else if (qp->rq.entries) {
		vrd_rq_want_doorbell(qp, carries);
	}
	vrd_unlock(&qp->rq.lock);
}

/*
 * On the poller: posts the receives of the ring to the host.  -EAGAIN while the device is
 * suspended, -ECANCELED after a reset: the rings are not accessible then.
 */
static void hand_over(struct vrd_poller *poller, void *arg)
{
	struct handover *h = arg;
	struct vrd_ibv_qp *vq = h->vq;
	struct vrd_qp *qp = vq->qp;

	(void)poller;
	h->ret = __atomic_load_n(&qp->sched.detached, __ATOMIC_RELAXED) ? -ECANCELED :
		 vrd_device_suspended(qp->dev) ? -EAGAIN : 0;
	if (h->ret)
		return;
	if (vq->shared) {
		vrd_ibv_bounce_post_all(vq);
		return;
	}
	set_carries(vq, true);
	if (qp->srq)
		h->ret = vrd_ibv_lend_begin(vq);
	/*
	 * Each turn takes some of them; receives for which the host has no room are posted
	 * later.
	 */
	for (uint32_t turns = qp->rq.entries / 256 + 1; turns; turns--) {
		vrd_ibv_rq_run(qp);
		if (!atomic_load(&vq->rq_due))
			break;
	}
}

static int begin(struct vrd_ibv_qp *vq)
{
	static const struct timespec moment = { .tv_nsec = 1000000 };
	struct handover h = { .vq = vq };

	do {
		vrd_poller_call(vq->qp->poller, hand_over, &h);
	} while (h.ret == -EAGAIN && !nanosleep(&moment, NULL));
	return h.ret;
}

static void take_back(struct vrd_poller *poller, void *arg)
{
	(void)poller;
	set_carries(arg, false);
}

#define INIT_MASK	(VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_PKEY_INDEX | VIRTIO_RDMA_QP_PORT)

/*
 * The host refused RTR.  The attempt must leave no trace, because the next one may choose
 * another path: the receives are put back on the guest's ring.
 */
static void undo(struct vrd_ibv_qp *vq)
{
	struct vrd_qp *qp = vq->qp;
	struct vrd_qp_change reset = { .to = VIRTIO_RDMA_QPS_RESET, .mask = VIRTIO_RDMA_QP_STATE };
	struct vrd_qp_change init = {
		.to = VIRTIO_RDMA_QPS_INIT,
		.mask = INIT_MASK | (vq->shared ? VIRTIO_RDMA_QP_QKEY : VIRTIO_RDMA_QP_ACCESS_FLAGS),
	};

	vrd_lock(&qp->rq.lock);
	vrd_ibv_lend_end(vq);
	init.attr = qp->attr;
	init.attr.state = VIRTIO_RDMA_QPS_INIT;
	vrd_unlock(&qp->rq.lock);
	vrd_poller_call(qp->poller, take_back, vq);

	if (vrd_ibv_qp_modify(qp, &reset))
		return;
	vrd_ibv_qp_modify(qp, &init);
	vrd_lock(&qp->rq.lock);
	/* In INIT this is the only code that takes receives from the ring. */
	if (qp->state == VIRTIO_RDMA_QPS_INIT)
		qp->rq.head = 0;
	vrd_unlock(&qp->rq.lock);
}

static int to_rtr(struct vrd_ibv_qp *vq, const struct vrd_qp_change *change)
{
	int ret = begin(vq);

	if (!ret)
		ret = vrd_ibv_qp_modify(vq->qp, change);
	if (ret)
		undo(vq);
	return ret;
}

/* ---- UD ---------------------------------------------------------------------------- */

/*
 * Keeps the host's QP in RTS.  In SQD and SQE the core holds back or flushes the requests that
 * were not posted to the host.
 */
static int keep_in_rts(struct vrd_ibv_qp *vq, const struct vrd_qp_change *change)
{
	struct vrd_qp_change host_change = *change;
	uint32_t mask = change->mask;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr host;
	int ret = ibv_query_qp(vq->ibqp, &host, IBV_QP_STATE, &init);

	if (ret)
		return vrd_ibv_errno(ret);
	switch (host.qp_state) {
	case IBV_QPS_RTR:
		break;
	case IBV_QPS_SQE:
	case IBV_QPS_RTS:
		mask &= VIRTIO_RDMA_QP_QKEY;
		if (host.qp_state == IBV_QPS_RTS && !mask)
			return 0;
		mask |= VIRTIO_RDMA_QP_STATE;
		break;
	default:
		vrd_qp_error(vq->qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_NONE);
		return -EINVAL;
	}
	host_change.to = VIRTIO_RDMA_QPS_RTS;
	host_change.mask = mask;
	return vrd_ibv_qp_modify(vq->qp, &host_change);
}

/* ---- the path's operations ------------------------------------------------------------ */

int vrd_ibv_shared_modify(struct vrd_ibv_qp *vq, const struct vrd_qp_change *change)
{
	switch (change->to) {
	case VIRTIO_RDMA_QPS_RESET:
		vrd_ibv_lend_settle(vq);
		break;
	case VIRTIO_RDMA_QPS_RTR:
		return to_rtr(vq, change);
	case VIRTIO_RDMA_QPS_INIT:
	case VIRTIO_RDMA_QPS_ERR:
		break;
	default:
		if (vq->shared)
			return keep_in_rts(vq, change);
	}
	return vrd_ibv_qp_modify(vq->qp, change);
}

/* Both ring locks are held. */
void vrd_ibv_shared_commit(struct vrd_ibv_qp *vq, const struct vrd_qp_change *change)
{
	if (change->to != VIRTIO_RDMA_QPS_RESET)
		return;
	vrd_ibv_lend_end(vq);
	vq->carries = false;
	if (vq->qp->rq.entries)
		vrd_rq_want_doorbell(vq->qp, false);
}

/*
 * Poller, sq.lock: true if the host has completed all requests that were posted, as far as
 * the poller has seen.  If not, the next completion schedules the QP.
 */
bool vrd_ibv_sq_idle(struct vrd_qp *qp)
{
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);

	if (vq->dead)
		return true;
	if (qp->state == VIRTIO_RDMA_QPS_ERR &&
	    !atomic_load_explicit(&vq->flushing, memory_order_relaxed))
		vrd_ibv_worker_qp_error(vq);
	if (vq->gone || vq->sq_posted == vq->sq_done)
		return true;
	vq->blocked = true;
	return false;
}
