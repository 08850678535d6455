// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Queue pairs: modify and query.  Called by the core in process context, one call
 * at a time for a QP (vrdma_qp.mutex).  The core's table of state transitions is
 * checked first; the device knows the QP's true state and checks again.
 */
#include "cmd.h"

static_assert(VIRTIO_RDMA_QPS_RESET == IB_QPS_RESET);
static_assert(VIRTIO_RDMA_QPS_ERR == IB_QPS_ERR);
static_assert(VIRTIO_RDMA_QP_STATE == IB_QP_STATE);
static_assert(VIRTIO_RDMA_QP_AV == IB_QP_AV);
static_assert(VIRTIO_RDMA_QP_MIN_RNR_TIMER == IB_QP_MIN_RNR_TIMER);
static_assert(VIRTIO_RDMA_QP_DEST_QPN == IB_QP_DEST_QPN);

/* Attributes that the device supports: no alternate paths, no resizing. */
#define VRDMA_QP_MASK	(IB_QP_STATE | IB_QP_CUR_STATE |		\
			 IB_QP_EN_SQD_ASYNC_NOTIFY | IB_QP_ACCESS_FLAGS |	\
			 IB_QP_PKEY_INDEX | IB_QP_PORT | IB_QP_QKEY |	\
			 IB_QP_AV | IB_QP_PATH_MTU | IB_QP_TIMEOUT |	\
			 IB_QP_RETRY_CNT | IB_QP_RNR_RETRY |		\
			 IB_QP_RQ_PSN | IB_QP_MAX_QP_RD_ATOMIC |	\
			 IB_QP_MIN_RNR_TIMER | IB_QP_SQ_PSN |		\
			 IB_QP_MAX_DEST_RD_ATOMIC | IB_QP_DEST_QPN)

#define VRDMA_QP_ACCESS	(IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE | \
			 IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC)

/* Encodes the attributes that @mask selects; the others stay zero. */
static int vrdma_qp_encode_attr(struct vrdma_dev *dev,
				struct virtio_rdma_qp_attr *out,
				const struct ib_qp_attr *attr, int mask)
{
	memset(out, 0, sizeof(*out));
	if (mask & IB_QP_STATE)
		out->state = attr->qp_state;
	if (mask & IB_QP_CUR_STATE)
		out->cur_state = attr->cur_qp_state;
	if (mask & IB_QP_EN_SQD_ASYNC_NOTIFY)
		out->en_sqd_async_notify = !!attr->en_sqd_async_notify;
	/*
	 * Rights to operations that the device does not have (binding, flushing)
	 * are accepted and ignored, as other drivers do: programs ask for them
	 * unconditionally.
	 */
	if (mask & IB_QP_ACCESS_FLAGS)
		out->access_flags = cpu_to_le32(attr->qp_access_flags &
						VRDMA_QP_ACCESS);
	if (mask & IB_QP_PKEY_INDEX) {
		if (attr->pkey_index)
			return -EINVAL;
		out->pkey_index = cpu_to_le16(attr->pkey_index);
	}
	if (mask & IB_QP_PORT)
		out->port_num = attr->port_num;
	if (mask & IB_QP_QKEY)
		out->qkey = cpu_to_le32(attr->qkey);
	if (mask & IB_QP_PATH_MTU) {
		if (attr->path_mtu < IB_MTU_256 || attr->path_mtu > IB_MTU_4096)
			return -EINVAL;
		out->path_mtu = attr->path_mtu;
	}
	if (mask & IB_QP_TIMEOUT)
		out->timeout = attr->timeout;
	if (mask & IB_QP_RETRY_CNT)
		out->retry_cnt = attr->retry_cnt;
	if (mask & IB_QP_RNR_RETRY)
		out->rnr_retry = attr->rnr_retry;
	if (mask & IB_QP_RQ_PSN)
		out->rq_psn = cpu_to_le32(attr->rq_psn & 0xffffff);
	if (mask & IB_QP_SQ_PSN)
		out->sq_psn = cpu_to_le32(attr->sq_psn & 0xffffff);
	if (mask & IB_QP_MAX_QP_RD_ATOMIC) {
		if (attr->max_rd_atomic > dev->attr.max_qp_init_rd_atom)
			return -EINVAL;
		out->max_rd_atomic = attr->max_rd_atomic;
	}
	if (mask & IB_QP_MAX_DEST_RD_ATOMIC) {
		if (attr->max_dest_rd_atomic > dev->attr.max_qp_rd_atom)
			return -EINVAL;
		out->max_dest_rd_atomic = attr->max_dest_rd_atomic;
	}
	if (mask & IB_QP_MIN_RNR_TIMER)
		out->min_rnr_timer = attr->min_rnr_timer;
	if (mask & IB_QP_DEST_QPN)
		out->dest_qpn = cpu_to_le32(attr->dest_qp_num);
	if (mask & IB_QP_AV)
		return vrdma_av_from_ah_attr(&out->av, &attr->ah_attr);
	return 0;
}

static int vrdma_modify_locked(struct vrdma_dev *dev, struct vrdma_qp *qp,
			       struct ib_qp_attr *attr, int mask)
{
	struct virtio_rdma_qp_attr dev_attr;
	enum ib_qp_state old = qp->state;
	enum ib_qp_state cur, next;
	int ret;

	lockdep_assert_held(&qp->mutex);
	cur = mask & IB_QP_CUR_STATE ? attr->cur_qp_state : old;
	next = mask & IB_QP_STATE ? attr->qp_state : cur;
	if (!ib_modify_qp_is_ok(cur, next, qp->ibqp.qp_type, mask))
		return -EINVAL;
	ret = vrdma_qp_encode_attr(dev, &dev_attr, attr, mask);
	if (ret)
		return ret;
	/* The address vector names a GID by its index in the device's table. */
	if (mask & IB_QP_AV)
		vrdma_gids_settle(dev);
	if (next == IB_QPS_RESET && !qp->user)
		vrdma_qp_stop_posts(qp);
	ret = vrdma_cmd_modify_qp(dev, qp->qpn, mask, &dev_attr);
	if (ret && vrdma_dead(dev) && (mask & IB_QP_STATE) &&
	    (next == IB_QPS_ERR || next == IB_QPS_RESET)) {
		/*
		 * Users drain a QP by way of ERR and must not be refused: its
		 * work requests are flushed in software.  After this they free
		 * memory that the device must not access any more.
		 */
		wait_for_completion(&dev->halt_done);
		ret = 0;
	}
	if (ret) {
		WRITE_ONCE(qp->state, old);
		return ret;
	}
	if (mask & IB_QP_QKEY)
		WRITE_ONCE(qp->qkey, attr->qkey);
	if (mask & IB_QP_STATE) {
		if (next == IB_QPS_RESET && !qp->user)
			vrdma_qp_reset_rings(qp);
		WRITE_ONCE(qp->state, next);
	}
	return 0;
}

/*
 * A halted device does not report that a QP in ERR takes no more receives of its
 * SRQ, but kernel users wait for that event before they destroy the QP.
 */
static void vrdma_qp_raise_last_wqe(struct vrdma_dev *dev, struct vrdma_qp *qp)
{
	struct ib_event event = {
		.device = &dev->ibdev,
		.event = IB_EVENT_QP_LAST_WQE_REACHED,
		.element.qp = &qp->ibqp,
	};

	/*
	 * The caller has just written the QP's state or dev->halted, and reads
	 * the other one here: if a QP moves to ERR while the device is halted,
	 * at least one of the two callers reports it.
	 */
	smp_mb();
	if (qp->ibqp.srq && READ_ONCE(qp->state) == IB_QPS_ERR &&
	    vrdma_halted(dev) && qp->ibqp.event_handler)
		qp->ibqp.event_handler(&event, qp->ibqp.qp_context);
}

/* When the device was halted: for the QPs that are in ERR. */
void vrdma_qps_raise_last_wqe(struct vrdma_dev *dev)
{
	struct vrdma_qp *qp;
	unsigned long qpn;

	xa_for_each(&dev->qps, qpn, qp) {
		/* It may have been destroyed since. */
		qp = vrdma_qp_get(dev, qpn);
		if (!qp)
			continue;
		vrdma_qp_raise_last_wqe(dev, qp);
		vrdma_qp_put(qp);
	}
}

int vrdma_modify_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int mask,
		    struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibqp->device);
	struct vrdma_qp *qp = to_vrdma_qp(ibqp);
	int ret;

	if (mask & ~VRDMA_QP_MASK || vrdma_no_req(udata))
		return -EOPNOTSUPP;
	mutex_lock(&qp->mutex);
	ret = vrdma_modify_locked(dev, qp, attr, mask);
	mutex_unlock(&qp->mutex);
	if (!ret && (mask & IB_QP_STATE))
		vrdma_qp_raise_last_wqe(dev, qp);
	return ret;
}

static void vrdma_qp_decode_attr(struct ib_qp_attr *attr,
				 const struct virtio_rdma_qp_attr *in)
{
	/* The device wrote it: a state out of range becomes an error state. */
	attr->qp_state = min_t(u8, in->state, IB_QPS_ERR);
	attr->cur_qp_state = attr->qp_state;
	attr->path_mtu = in->path_mtu;
	attr->path_mig_state = IB_MIG_MIGRATED;
	attr->qkey = le32_to_cpu(in->qkey);
	attr->rq_psn = le32_to_cpu(in->rq_psn);
	attr->sq_psn = le32_to_cpu(in->sq_psn);
	attr->dest_qp_num = le32_to_cpu(in->dest_qpn);
	attr->qp_access_flags = le32_to_cpu(in->access_flags) & VRDMA_QP_ACCESS;
	attr->pkey_index = le16_to_cpu(in->pkey_index);
	attr->en_sqd_async_notify = in->en_sqd_async_notify;
	attr->sq_draining = in->sq_draining;
	attr->max_rd_atomic = in->max_rd_atomic;
	attr->max_dest_rd_atomic = in->max_dest_rd_atomic;
	attr->min_rnr_timer = in->min_rnr_timer;
	attr->port_num = in->port_num;
	attr->timeout = in->timeout;
	attr->retry_cnt = in->retry_cnt;
	attr->rnr_retry = in->rnr_retry;
	vrdma_av_to_ah_attr(&in->av, &attr->ah_attr);
}

int vrdma_query_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int mask,
		   struct ib_qp_init_attr *init)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibqp->device);
	struct vrdma_qp *qp = to_vrdma_qp(ibqp);
	struct virtio_rdma_qp_attr dev_attr;
	int ret;

	memset(attr, 0, sizeof(*attr));
	memset(init, 0, sizeof(*init));
	mutex_lock(&qp->mutex);
	ret = vrdma_cmd_query_qp(dev, qp->qpn, &dev_attr);
	if (!ret) {
		vrdma_qp_decode_attr(attr, &dev_attr);
		/*
		 * The device moves QPs to ERR and SQE by itself.  All other
		 * transitions are made by modify_qp, under the same mutex.
		 */
		WRITE_ONCE(qp->state, attr->qp_state);
	} else if (vrdma_dead(dev)) {
		attr->qp_state = IB_QPS_ERR;
		attr->cur_qp_state = IB_QPS_ERR;
		ret = 0;
	}
	mutex_unlock(&qp->mutex);
	if (ret)
		return ret;

	attr->cap = qp->cap;
	init->event_handler = ibqp->event_handler;
	init->qp_context = ibqp->qp_context;
	init->send_cq = ibqp->send_cq;
	init->recv_cq = ibqp->recv_cq;
	init->srq = ibqp->srq;
	init->cap = qp->cap;
	init->sq_sig_type = qp->sig_all ? IB_SIGNAL_ALL_WR : IB_SIGNAL_REQ_WR;
	init->qp_type = ibqp->qp_type;
	return 0;
}
