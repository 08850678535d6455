// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mixed transport: a send queue's turn.
 *
 * Datagrams take their path one by one, and complete in the order of the ring all
 * the same: what the host was given completes later, what memory carries at
 * once; so the queue goes on to the memory path only when the host has completed
 * all.  (All sends of such a QP are signaled with the host, so that we know.)
 *
 * Poller, sq.lock but for vrd_mix_rq_run().
 */
#include "mix.h"

/* As far as the poller has seen; sq.lock. */
bool vrd_mix_host_is_idle(const struct vrd_qp *qp)
{
	const struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);

	return vq->gone || vq->sq_posted == vq->sq_done;
}

bool vrd_mix_is_hosts(struct vrd_qp *qp, const struct vrd_wr *wr)
{
	return !vrd_mem_port_by_gid(vrd_mem_port(qp->dev)->fabric, wr->av.dgid);
}

/* A completion brings the queue back. */
static enum vrd_run wait_for_host(struct vrd_qp *qp)
{
	vrd_ibv_qp(qp)->blocked = true;
	return VRD_RUN_WAIT;
}

static enum vrd_run ud_send(struct vrd_qp *qp, unsigned int budget)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);
	enum vrd_run ret;

	if (vrd_mix_host_is_idle(qp)) {
		mq->not_ours = false;
		ret = vrd_mem_sq_run(qp, budget);
		if (!mq->not_ours)
			return ret;
	}
	vq->not_ours = false;
	ret = vrd_ibv_sq_run(qp, budget);
	if (!vq->not_ours)
		return ret;
	return vrd_mix_host_is_idle(qp) ? VRD_RUN_MORE : wait_for_host(qp);
}

static enum vrd_run ud_run(struct vrd_qp *qp, unsigned int budget)
{
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);

	if (vrd_device_suspended(qp->dev) || vq->dead)
		return VRD_RUN_WAIT;
	switch (qp->state) {
	case VIRTIO_RDMA_QPS_RTS:
		return ud_send(qp, budget);
	case VIRTIO_RDMA_QPS_ERR:
		/* The host flushes what it has; the rest is flushed here. */
		if (!atomic_load_explicit(&vq->flushing, memory_order_relaxed))
			vrd_ibv_worker_qp_error(vq);
		break;
	}
	if (!vrd_mix_host_is_idle(qp))
		return wait_for_host(qp);
	return vrd_mem_sq_run(qp, budget);
}

enum vrd_run vrd_mix_sq_run(struct vrd_qp *qp, unsigned int budget)
{
	if (!qp->host)
		return vrd_ibv_sq_run(qp, budget);
	switch (vrd_mix_path(qp)) {
	case VRD_MIX_HOST:
		return vrd_ibv_sq_run(qp, budget);
	case VRD_MIX_BOTH:
		return ud_run(qp, budget);
	default:
		return vrd_mem_sq_run(qp, budget);
	}
}

void vrd_mix_rq_run(struct vrd_qp *qp)
{
	if (!qp->host || vrd_mix_path(qp) == VRD_MIX_HOST)
		vrd_ibv_rq_run(qp);
	else
		vrd_mem_rq_run(qp);
}
