// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: queue pairs, their life and their states.
 *
 * A guest's QP is a QP of the host, of the same type and sizes, in the PD and with the CQs
 * that belong to those of the guest, and with the host's number.  QP 1 is the exception: the
 * transport mad implements it.
 *
 * Workers, without dev->lock; several at a time, but one for each QP.  The timer runs on the
 * poller.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ibv.h"
#include "mad/gsi.h"
#include "log.h"

/* Both sides use the numbers of IBTA and Linux for states and attributes. */
_Static_assert((int)VIRTIO_RDMA_QPS_ERR == IBV_QPS_ERR, "states");
_Static_assert((int)VIRTIO_RDMA_QPS_SQD == IBV_QPS_SQD, "states");
_Static_assert((int)VIRTIO_RDMA_QP_AV == IBV_QP_AV, "attributes");
_Static_assert((int)VIRTIO_RDMA_QP_RQ_PSN == IBV_QP_RQ_PSN, "attributes");
_Static_assert((int)VIRTIO_RDMA_QP_MIN_RNR_TIMER == IBV_QP_MIN_RNR_TIMER, "attributes");
_Static_assert((int)VIRTIO_RDMA_QP_DEST_QPN == IBV_QP_DEST_QPN, "attributes");

/* ---- creation -------------------------------------------------------------- */

static enum ibv_qp_type host_type(uint8_t type)
{
	switch (type) {
	case VIRTIO_RDMA_QPT_UC:
		return IBV_QPT_UC;
	case VIRTIO_RDMA_QPT_UD:
		return IBV_QPT_UD;
	default:
		return IBV_QPT_RC;
	}
}

/* Never zero, so that it differs from memory that was not written. */
static uint32_t next_generation(struct vrd_ibv_dev *vdev)
{
	return atomic_fetch_add(&vdev->generation, 1) % VRD_IBV_GENERATIONS + 1;
}

static int create_host_qp(struct vrd_ibv_dev *vdev, struct vrd_ibv_qp *vq, uint32_t max_inline)
{
	const struct vrd_qp *qp = vq->qp;
	struct ibv_qp_init_attr init = {
		.qp_context = vq,
		.send_cq = vq->send_vcq->ibcq,
		.recv_cq = vq->recv_vcq->ibcq,
		.srq = qp->srq && !vq->shared ? vrd_ibv_srq(qp->srq)->ibsrq : NULL,
		.qp_type = host_type(qp->type),
		.cap = {
			.max_send_wr = qp->sq.entries ? qp->sq.entries : 1,
			.max_recv_wr = qp->srq ? 0 : qp->rq.entries ? qp->rq.entries : 1,
			/* At least one SGE, for requests that are made to fail. */
			.max_send_sge = qp->max_send_sge ? qp->max_send_sge : 1,
			.max_recv_sge = qp->srq ? 0 : qp->max_recv_sge ? qp->max_recv_sge : 1,
			.max_inline_data = max_inline,
		},
	};

	(void)vdev;
	if (vq->shared) {
		init.cap.max_recv_wr = vrd_ibv_bounces(qp);
		init.cap.max_recv_sge = 1;
	}
	errno = 0;
	vq->ibqp = ibv_create_qp(qp->pd->priv[VRD_SLOT_IBVERBS], &init);
	if (!vq->ibqp)
		return vrd_ibv_errno(errno ? errno : EIO);
	return 0;
}

/* A buffer for each entry, for inline data that the host does not take. */
static int make_bounce(struct vrd_ibv_qp *vq)
{
	size_t size = (size_t)vq->qp->sq.entries * vq->qp->max_inline;

	vq->bounce = calloc(1, size);
	if (!vq->bounce)
		return -ENOMEM;
	errno = 0;
	vq->bounce_mr = ibv_reg_mr(vq->qp->pd->priv[VRD_SLOT_IBVERBS], vq->bounce, size, 0);
	return vq->bounce_mr ? 0 : vrd_ibv_errno(errno ? errno : EIO);
}

/* Frees the parts that were created. */
static void free_parts(struct vrd_ibv_qp *vq)
{
	int ret = vq->ibqp ? ibv_destroy_qp(vq->ibqp) : 0;

	if (ret)
		vrd_dev_log(vq->qp->dev, VRD_LOG_ERROR, "the host keeps a queue pair: %s",
			    strerror(ret));
	vrd_ibv_bounce_free(vq);
	if (vq->bounce_mr)
		ibv_dereg_mr(vq->bounce_mr);
	if (vq->shared && vq->send_vcq)
		vrd_ibv_vcq_destroy(vq->send_vcq);
	free(vq->bounce);
	free(vq->slot_ah);
	free(vq->places);
	/* If the host keeps the QP, its events may still arrive: they find the QP dead. */
	vq->dead = true;
	if (!ret)
		free(vq);
}

static int make_cqs(struct vrd_ibv_qp *vq)
{
	struct vrd_qp *qp = vq->qp;

	if (!vq->shared) {
		vq->send_vcq = qp->send_cq->priv[VRD_SLOT_IBVERBS];
		vq->recv_vcq = qp->recv_cq->priv[VRD_SLOT_IBVERBS];
		return 0;
	}
	vq->send_vcq = vrd_ibv_vcq_create(qp->send_cq, qp->sq.entries + vrd_ibv_bounces(qp));
	vq->recv_vcq = vq->send_vcq;
	return vq->send_vcq ? 0 : vrd_ibv_errno(errno ? errno : EIO);
}

/* An SRQ has places from its first UD QP on; receives posted before that have none. */
static int make_places(struct vrd_ibv_qp *vq)
{
	struct vrd_srq *srq = vq->qp->srq;
	struct vrd_ibv_places *places, *none = NULL;

	if (srq ? vrd_ibv_srq(srq)->places != NULL : !vq->qp->rq.entries)
		return 0;
	places = vrd_ibv_places_alloc(srq ? srq->ring.entries : vq->qp->rq.entries);
	if (!places)
		return -ENOMEM;
	if (!srq)
		vq->places = places;
	else if (!atomic_compare_exchange_strong(&vrd_ibv_srq(srq)->places, &none, places))
		free(places);
	return 0;
}

static int make_parts(struct vrd_ibv_dev *vdev, struct vrd_ibv_qp *vq)
{
	struct vrd_qp *qp = vq->qp;
	int ret = make_cqs(vq);

	if (ret)
		return ret;
	ret = create_host_qp(vdev, vq, qp->max_inline);
	vq->host_inline = !ret;
	if (ret && qp->max_inline) {
		ret = create_host_qp(vdev, vq, 0);
		if (!ret && qp->sq.entries)
			ret = make_bounce(vq);
	}
	if (!ret && qp->type == VIRTIO_RDMA_QPT_UD && qp->sq.entries) {
		vq->slot_ah = calloc(qp->sq.entries, sizeof(vq->slot_ah[0]));
		ret = vq->slot_ah ? 0 : -ENOMEM;
	}
	if (!ret && vq->shared)
		ret = vrd_ibv_bounce_create(vq);
	else if (!ret && qp->type == VIRTIO_RDMA_QPT_UD)
		ret = make_places(vq);
	return ret;
}

int vrd_ibv_qp_create(struct vrd_qp *qp)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(qp->dev);
	struct vrd_ibv_qp *vq;
	int ret;

	vq = calloc(1, sizeof(*vq));
	if (!vq)
		return -ENOMEM;
	vq->qp = qp;
	vq->vdev = vdev;
	vq->shared = qp->dev->several && qp->type == VIRTIO_RDMA_QPT_UD;
	vq->carries = !qp->dev->several;
	vrd_timer_init(&vq->timer, vrd_ibv_qp_timer);
	atomic_init(&vq->generation, next_generation(vdev));
	ret = make_parts(vdev, vq);
	if (ret) {
		free_parts(vq);
		return ret;
	}
	qp->qpn = vq->ibqp->qp_num;
	qp->rq.want_db = vq->carries;	/* each post must be passed on to the host */
	qp->priv[VRD_SLOT_IBVERBS] = vq;
	return 0;
}

/* ---- states ------------------------------------------------------------------------ */

/* Translates the address vector of a connection.  Returns 0 or a negative errno. */
static int fill_av(struct vrd_qp *qp, const struct virtio_rdma_av *av, struct ibv_ah_attr *to)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(qp->dev);
	int index;

	if (!qp->has_sgid)
		return -EINVAL;
	index = vrd_ibv_gid_index(vdev, qp->sgid);
	if (index < 0)
		return index;
	*to = (struct ibv_ah_attr){
		.grh = {
			.flow_label = le32toh(av->flow_label),
			.sgid_index = (uint8_t)index,
			.hop_limit = av->hop_limit,
			.traffic_class = av->tclass,
		},
		.sl = av->sl,
		.is_global = 1,
		.port_num = vdev->port_num,
	};
	memcpy(to->grh.dgid.raw, av->dgid, 16);
	return 0;
}

static int check_mtu(struct vrd_qp *qp, uint8_t mtu)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(qp->dev);
	uint8_t active = atomic_load(&vdev->active_mtu);

	if (mtu <= active)
		return 0;
	vrd_dev_log(qp->dev, VRD_LOG_WARN,
		    "QP %u: a path MTU of %u bytes is more than the %u of the host's port: raise the MTU of its netdev, or lower the guest's",
		    qp->qpn, 128U << mtu, 128U << active);
	return -EINVAL;
}

static int fill_attr(struct vrd_qp *qp, const struct vrd_qp_change *change, struct ibv_qp_attr *to)
{
	const struct virtio_rdma_qp_attr *attr = &change->attr;
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(qp->dev);
	int ret = 0;

	*to = (struct ibv_qp_attr){
		.qp_state = (enum ibv_qp_state)change->to,
		.cur_qp_state = (enum ibv_qp_state)attr->cur_state,
		.en_sqd_async_notify = attr->en_sqd_async_notify,
		.qp_access_flags = le32toh(attr->access_flags) &
				   (VIRTIO_RDMA_ACCESS_LOCAL_WRITE |
				    VIRTIO_RDMA_ACCESS_REMOTE_WRITE |
				    VIRTIO_RDMA_ACCESS_REMOTE_READ |
				    VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC),
		.pkey_index = le16toh(attr->pkey_index),
		.port_num = vdev->port_num,
		.qkey = le32toh(attr->qkey),
		.path_mtu = (enum ibv_mtu)attr->path_mtu,
		.timeout = attr->timeout,
		.retry_cnt = attr->retry_cnt,
		.rnr_retry = attr->rnr_retry,
		.rq_psn = le32toh(attr->rq_psn),
		.max_rd_atomic = attr->max_rd_atomic,
		.min_rnr_timer = attr->min_rnr_timer,
		.sq_psn = le32toh(attr->sq_psn),
		.max_dest_rd_atomic = attr->max_dest_rd_atomic,
		.dest_qp_num = le32toh(attr->dest_qpn),
	};
	if (change->mask & VIRTIO_RDMA_QP_AV)
		ret = fill_av(qp, &attr->av, &to->ah_attr);
	if (!ret && change->mask & VIRTIO_RDMA_QP_PATH_MTU)
		ret = check_mtu(qp, attr->path_mtu);
	if (change->mask & VIRTIO_RDMA_QP_RQ_PSN)
		vrd_gsi_rq_psn(vrd_gsi_port(qp->dev), attr->av.dgid, le32toh(attr->dest_qpn),
			       &to->rq_psn);
	return ret;
}

/* Releases the handles of all datagrams; no thread may post. */
static void drop_ahs(struct vrd_ibv_qp *vq)
{
	struct vrd_ibv_ah *last = vq->last_ah;

	for (uint32_t i = 0; vq->slot_ah && i < vq->qp->sq.entries; i++) {
		struct vrd_ibv_ah *ah = vq->slot_ah[i];

		vq->slot_ah[i] = NULL;
		if (ah)
			vrd_ibv_ah_put(vq->vdev, ah);
	}
	vq->last_ah = NULL;
	if (last)
		vrd_ibv_ah_put(vq->vdev, last);
	vq->ah_done = 0;
}

/* The core's state is RESET already, so no poller posts. */
static int reset(struct vrd_ibv_qp *vq)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };
	struct vrd_qp *qp = vq->qp;
	int ret;

	atomic_store_explicit(&vq->generation, next_generation(vq->vdev), memory_order_relaxed);
	vrd_ibv_worker_forget(vq);
	vrd_ibv_ah_forget(vq);
	vrd_timer_cancel_sync(&vq->timer);
	vrd_gsi_forget_qp(vrd_gsi_port(qp->dev), qp->qpn);
	ret = ibv_modify_qp(vq->ibqp, &attr, IBV_QP_STATE);
	/* After this, completions from before the reset have another generation and are dropped. */
	vrd_engine_synchronize(qp->dev->engine);

	vrd_lock(&qp->sq.lock);
	drop_ahs(vq);
	vq->blocked = false;
	vq->failing = vq->erred = vq->blame = false;
	vq->broken_reported = vq->refused = vq->gone = false;
	vq->sq_done = 0;
	vq->sq_posted = 0;
	vq->rq_lent = 0;
	vrd_unlock(&qp->sq.lock);
	atomic_store(&vq->error_reported, false);
	atomic_store(&vq->flushing, false);
	return vrd_ibv_errno(ret);
}

int vrd_ibv_qp_modify(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);
	struct ibv_qp_attr to;
	int ret;

	if (change->to == VIRTIO_RDMA_QPS_RESET)
		return reset(vq);
	ret = fill_attr(qp, change, &to);
	if (ret)
		return ret;
	if (change->to == VIRTIO_RDMA_QPS_ERR)
		atomic_store(&vq->error_reported, true);
	ret = ibv_modify_qp(vq->ibqp, &to, (int)change->mask);
	if (ret) {
		vrd_dev_log(qp->dev, VRD_LOG_WARN, "QP %u: the host refuses state %u to %u: %s",
			    qp->qpn, change->from, change->to, strerror(ret));
		return vrd_ibv_errno(ret);
	}
	/* The core schedules the QP when its new state is in place. */
	atomic_store(&vq->rq_due, true);
	return 0;
}

static int path_modify(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	return qp->dev->several ? vrd_ibv_shared_modify(vrd_ibv_qp(qp), change) :
				  vrd_ibv_qp_modify(qp, change);
}

static void path_commit(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	if (qp->dev->several)
		vrd_ibv_shared_commit(vrd_ibv_qp(qp), change);
}

static void path_query(struct vrd_qp *qp, struct virtio_rdma_qp_attr *attr)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr host;
	uint8_t error = 0;
	int ret;

	if (attr->state < VIRTIO_RDMA_QPS_RTR || attr->state == VIRTIO_RDMA_QPS_ERR)
		return;
	/*
	 * Without rq.lock: a poller with a datagram for the QP takes it, and must not wait for
	 * the host.
	 */
	ret = ibv_query_qp(vrd_ibv_qp(qp)->ibqp, &host, IBV_QP_STATE, &init);
	vrd_lock(&qp->sq.lock);
	vrd_lock(&qp->rq.lock);
	attr->state = qp->state;
	attr->cur_state = qp->state;
	if (!ret && qp->state == VIRTIO_RDMA_QPS_SQD)
		attr->sq_draining = host.sq_draining;
	/* An error without an event of the host; Soft-RoCE raises none. */
	if (!ret && qp->state != VIRTIO_RDMA_QPS_ERR &&
	    (host.qp_state == IBV_QPS_ERR || host.qp_state == IBV_QPS_SQE)) {
		attr->state = (uint8_t)host.qp_state;
		attr->cur_state = attr->state;
		atomic_store(&vrd_ibv_qp(qp)->error_reported, true);
		error = attr->state;
	}
	vrd_unlock(&qp->rq.lock);
	vrd_unlock(&qp->sq.lock);
	if (error)
		vrd_qp_error(qp, error, VRD_HELD_NONE);
}

const struct vrd_path_ops vrd_ibv_path = {
	.sq_run		= vrd_ibv_sq_run,
	.rq_run		= vrd_ibv_rq_run,
	.modify		= path_modify,
	.commit		= path_commit,
	.query		= path_query,
	.sq_idle	= vrd_ibv_sq_idle,
};

/* ---- the end -------------------------------------------------------------------------- */

void vrd_ibv_qp_destroy(struct vrd_qp *qp)
{
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);

	/* After this no turn of a ring sets the timer or gives work to the worker. */
	vrd_lock(&qp->sq.lock);
	vrd_lock(&qp->rq.lock);
	vq->dead = true;
	vrd_ibv_lend_end(vq);
	vrd_unlock(&qp->rq.lock);
	vrd_unlock(&qp->sq.lock);
	vrd_timer_cancel_sync(&vq->timer);
	vrd_ibv_worker_forget(vq);
	vrd_ibv_ah_forget(vq);
	vrd_gsi_forget_qp(vrd_gsi_port(qp->dev), qp->qpn);
}

/* After a grace period: no poller uses the QP. */
void vrd_ibv_qp_free(struct vrd_qp *qp)
{
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);

	vrd_ibv_lend_settle(vq);
	drop_ahs(vq);
	free_parts(vq);
	qp->priv[VRD_SLOT_IBVERBS] = NULL;
}

/* The host had no room, or a handle could not be allocated: try again. */
void vrd_ibv_qp_timer(struct vrd_timer *timer)
{
	struct vrd_ibv_qp *vq = (void *)((char *)timer - offsetof(struct vrd_ibv_qp, timer));

	vrd_qp_schedule(vq->qp);
}
