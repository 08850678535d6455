// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mixed transport: which path a queue pair takes, and its states on it.
 *
 *   path         host's QP          who runs the queues
 *   undecided    RESET, INIT        memory transport (in ERR it flushes)
 *   local        INIT               memory transport
 *   host         as the guest's     ibverbs transport
 *   both (UD)    up to RTS; ERR     sq.c
 *
 * Two ends may decide differently, when a GID moved in between: then neither
 * answers the other (an end on the host's path does not respond to the memory
 * path, one on the memory path has a QP in INIT with the host), and requests end
 * in RETRY_EXC_ERR, as if nobody were there.
 *
 * Control thread, dev->lock, but for what is called on the poller.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mix.h"
#include "core/trace.h"	/* the shells have another of this name */

/* ---- life ------------------------------------------------------------------- */

int vrd_mix_qp_create(struct vrd_qp *qp)
{
	struct vrd_mix_qp *mix;
	int ret;

	if (qp->type == VIRTIO_RDMA_QPT_GSI)
		return vrd_ibv_qp_create(qp);
	mix = calloc(1, sizeof(*mix));
	if (!mix)
		return -ENOMEM;
	ret = vrd_mem_qp_init(qp);
	if (ret)
		goto free;
	ret = vrd_ibv_qp_create(qp);
	if (ret)
		goto fini;
	vrd_ibv_qp(qp)->mix = mix;
	/* Not before the path is known: see begin_host(). */
	qp->rq.want_db = false;
	if (qp->type != VIRTIO_RDMA_QPT_UD)
		return 0;
	vrd_mem_qp(qp)->shared = true;
	ret = vrd_mix_bounce_create(qp);
	if (!ret)
		return 0;
	vrd_ibv_qp_free(qp);
fini:
	vrd_mem_qp_fini(qp);
free:
	free(mix);
	return ret;
}

void vrd_mix_qp_destroy(struct vrd_qp *qp)
{
	if (qp->host) {
		vrd_mem_qp_destroy(qp);
		vrd_lock(&qp->rq.lock);
		vrd_mix_srq_unlend(qp);
		vrd_unlock(&qp->rq.lock);
	}
	vrd_ibv_qp_destroy(qp);
}

void vrd_mix_qp_free(struct vrd_qp *qp)
{
	struct vrd_mix_qp *mix;

	if (!qp->host) {
		vrd_ibv_qp_free(qp);
		return;
	}
	mix = vrd_mix_qp(qp);
	vrd_mix_srq_settle(qp);
	vrd_mem_qp_fini(qp);
	/* The host's QP first: it may still write there. */
	vrd_ibv_qp(qp)->mix = NULL;
	vrd_ibv_qp_free(qp);
	if (mix->bounce_mr) {
		vrd_mix_dev(qp->dev)->bounce_bytes -= mix->num_bounces * VRD_MIX_BOUNCE;
		ibv_dereg_mr(mix->bounce_mr);
	}
	free(mix->bounce);
	free(mix);
}

/* ---- the way to RTR ------------------------------------------------------------- */

static void set_path(struct vrd_qp *qp, enum vrd_mix_path path)
{
	struct vrd_mix_dev *dev = vrd_mix_dev(qp->dev);

	atomic_store_explicit(&vrd_mix_qp(qp)->path, path, memory_order_relaxed);
	vrd_mem_qp(qp)->away = path == VRD_MIX_HOST;
	if (path == VRD_MIX_LOCAL)
		atomic_fetch_add(&dev->qps_local, 1);
	if (path == VRD_MIX_HOST)
		atomic_fetch_add(&dev->qps_host, 1);
	vrd_trace_qp_path(qp->dev->name, qp->qpn, path);
}

struct handover {
	struct vrd_qp *qp;
	int ret;
};

/*
 * On the poller: the host gets the receives that there are, before it can get a
 * message.
 */
static void hand_over(struct vrd_poller *poller, void *arg)
{
	struct handover *h = arg;
	struct vrd_qp *qp = h->qp;
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);

	(void)poller;
	if (vrd_mix_path(qp) == VRD_MIX_BOTH) {
		vrd_mix_bounce_post_all(qp);
		return;
	}
	if (qp->srq)
		h->ret = vrd_mix_srq_lend(qp);
	/* Each turn takes some of them; what the host has no room for comes later. */
	for (uint32_t turns = qp->rq.entries / 256 + 1; turns; turns--) {
		vrd_ibv_rq_run(qp);
		if (!atomic_load(&vq->rq_due))
			break;
	}
}

static int begin_host(struct vrd_qp *qp, enum vrd_mix_path path)
{
	struct handover h = { .qp = qp };

	vrd_lock(&qp->sq.lock);
	vrd_lock(&qp->rq.lock);
	set_path(qp, path);
	if (path == VRD_MIX_HOST && qp->rq.entries)
		vrd_rq_want_doorbell(qp, true);
	vrd_unlock(&qp->rq.lock);
	vrd_unlock(&qp->sq.lock);
	vrd_poller_call(qp->poller, hand_over, &h);
	return h.ret;
}

#define INIT_MASK	(VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_PKEY_INDEX | VIRTIO_RDMA_QP_PORT)

/*
 * The host refused: as if nothing had been tried, for the next try may lead to a
 * guest of the fabric.  The receives are on the guest's ring still.
 */
static void undo_host(struct vrd_qp *qp)
{
	struct virtio_rdma_qp_attr attr;
	uint32_t mask = INIT_MASK | (qp->type == VIRTIO_RDMA_QPT_UD ?
				     VIRTIO_RDMA_QP_QKEY : VIRTIO_RDMA_QP_ACCESS_FLAGS);

	vrd_lock(&qp->sq.lock);
	vrd_lock(&qp->rq.lock);
	vrd_mix_srq_unlend(qp);
	vrd_rq_want_doorbell(qp, false);
	set_path(qp, VRD_MIX_UNDECIDED);
	vrd_unlock(&qp->rq.lock);
	vrd_unlock(&qp->sq.lock);

	if (vrd_ibv_qp_modify_slow(qp, VIRTIO_RDMA_QPS_RESET, &qp->attr, VIRTIO_RDMA_QP_STATE))
		return;
	attr = qp->attr;
	attr.state = VIRTIO_RDMA_QPS_INIT;
	vrd_ibv_qp_modify_slow(qp, VIRTIO_RDMA_QPS_INIT, &attr, mask);
	vrd_lock(&qp->rq.lock);
	/* Nobody else takes receives in INIT. */
	if (qp->state == VIRTIO_RDMA_QPS_INIT)
		qp->rq.head = 0;
	vrd_unlock(&qp->rq.lock);
}

static int to_rtr(struct vrd_qp *qp, const struct virtio_rdma_qp_attr *attr, uint32_t mask)
{
	bool ud = qp->type == VIRTIO_RDMA_QPT_UD;
	int ret = vrd_mem_qp_check(qp, attr, mask);

	if (ret)
		return ret;
	/* vrd_mix_qp_commit() takes it. */
	if (!ud && vrd_mem_has_gid(vrd_mem_port(qp->dev)->fabric, attr->av.dgid))
		return 0;
	ret = begin_host(qp, ud ? VRD_MIX_BOTH : VRD_MIX_HOST);
	if (!ret)
		ret = vrd_ibv_qp_modify_slow(qp, VIRTIO_RDMA_QPS_RTR, attr, mask);
	if (ret)
		undo_host(qp);
	return ret;
}

/* ---- states of UD ------------------------------------------------------------------ */

/*
 * The host's QP is in RTS while ours is in RTS, SQD or SQE: what drains, or is
 * flushed, is what we have not given it yet.
 */
static int ud_in_rts(struct vrd_qp *qp, const struct virtio_rdma_qp_attr *attr, uint32_t mask)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr host;
	int ret = ibv_query_qp(vrd_ibv_qp(qp)->ibqp, &host, IBV_QP_STATE, &init);

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
		vrd_qp_error(qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_NONE);
		return -EINVAL;
	}
	return vrd_ibv_qp_modify_slow(qp, VIRTIO_RDMA_QPS_RTS, attr, mask);
}

static int ud_modify(struct vrd_qp *qp, uint8_t new_state, const struct virtio_rdma_qp_attr *attr,
		     uint32_t mask)
{
	if (new_state == VIRTIO_RDMA_QPS_ERR)
		return vrd_ibv_qp_modify_slow(qp, new_state, attr, mask);
	return ud_in_rts(qp, attr, mask);
}

/* ---- states ------------------------------------------------------------------------ */

int vrd_mix_qp_modify_slow(struct vrd_qp *qp, uint8_t new_state,
			   const struct virtio_rdma_qp_attr *attr, uint32_t mask)
{
	switch (new_state) {
	case VIRTIO_RDMA_QPS_RESET:
		vrd_mix_srq_settle(qp);
		return vrd_ibv_qp_modify_slow(qp, new_state, attr, mask);
	case VIRTIO_RDMA_QPS_INIT:
		return vrd_ibv_qp_modify_slow(qp, new_state, attr, mask);
	case VIRTIO_RDMA_QPS_RTR:
		return to_rtr(qp, attr, mask);
	}
	switch (vrd_mix_path(qp)) {
	case VRD_MIX_HOST:
		return vrd_ibv_qp_modify_slow(qp, new_state, attr, mask);
	case VRD_MIX_BOTH:
		return ud_modify(qp, new_state, attr, mask);
	default:
		return vrd_mem_qp_check(qp, attr, mask);
	}
}

/* Both ring locks are held. */
void vrd_mix_qp_commit(struct vrd_qp *qp, uint8_t new_state,
		       const struct virtio_rdma_qp_attr *attr, uint32_t mask)
{
	vrd_mem_qp_commit(qp, new_state, attr, mask);
	switch (new_state) {
	case VIRTIO_RDMA_QPS_RESET:
		vrd_mix_srq_unlend(qp);
		vrd_rq_want_doorbell(qp, false);
		set_path(qp, VRD_MIX_UNDECIDED);
		break;
	case VIRTIO_RDMA_QPS_RTR:
		if (vrd_mix_path(qp) == VRD_MIX_UNDECIDED)
			set_path(qp, VRD_MIX_LOCAL);
		break;
	}
}

/* Both ring locks are held. */
void vrd_mix_qp_query(struct vrd_qp *qp, struct virtio_rdma_qp_attr *attr)
{
	if (!qp->host || vrd_mix_path(qp) == VRD_MIX_HOST) {
		vrd_ibv_qp_query(qp, attr);
		return;
	}
	vrd_mem_qp_query(qp, attr);
	if (vrd_mix_path(qp) != VRD_MIX_BOTH)
		return;
	/* An error of the host's that nobody told of. */
	vrd_ibv_qp_query(qp, attr);
	attr->sq_draining = qp->state == VIRTIO_RDMA_QPS_SQD && !vrd_mix_host_is_idle(qp);
}
