// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: the operations that the core calls on its control path, and the
 * capabilities of a device with this transport.
 *
 * All of this runs on a control or front end thread with dev->lock held; the path's commit
 * also holds the QP's two ring locks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

static void vrd_mem_device_query(struct vrd_device *dev, struct vrd_caps *caps)
{
	(void)dev;
	*caps = (struct vrd_caps){
		/*
		 * Atomics are executed by the host CPU's atomic instructions on the guest's
		 * memory, so they are atomic with the guest's CPUs as well: ATOMIC_GLOBAL.
		 */
		.features = VRD_F(UC) | VRD_F(SRQ) | VRD_F(ATOMIC) | VRD_F(ATOMIC_GLOBAL) |
			    VRD_F(DMA_KEY) | VRD_F(RNR_NAK) | VRD_F(MEM_MGT),
		.max_mr_size = UINT64_MAX,
		.max_msg_sz = VRD_MEM_MAX_MSG,
		.max_qp_rd_atom = VRD_MEM_MAX_RD_ATOMIC,
		.max_qp_init_rd_atom = VRD_MEM_MAX_RD_ATOMIC,
		.max_mtu = 5,			/* 4096 */
		.active_mtu = 5,
		.active_width = 2,		/* 4x */
		.active_speed = 32,		/* EDR: 100 Gbit/s, about the rate of a copy */
		.local_ca_ack_delay = 15,
	};
}

static int vrd_mem_qp_create(struct vrd_qp *qp)
{
	struct vrd_mem_qp *mq = calloc(1, sizeof(*mq));

	if (!mq)
		return -ENOMEM;
	mq->qp = qp;
	mq->port = vrd_mem_port(qp->dev);
	vrd_req_init(&mq->req, qp);
	qp->priv[VRD_SLOT_MEMORY] = mq;
	return 0;
}

static void vrd_mem_qp_free(struct vrd_qp *qp)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);

	vrd_resp_fini(qp);
	free(mq->progress);
	free(mq);
	qp->priv[VRD_SLOT_MEMORY] = NULL;
}

/* Resets everything that belongs to a connection; both ring locks are held. */
static void vrd_mem_qp_reset(struct vrd_qp *qp)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);

	vrd_mem_wait_end(mq);
	vrd_mem_unpark(mq);
	vrd_timer_cancel(&mq->req.timer);
	mq->peer = NULL;
	free(mq->progress);
	mq->progress = NULL;
	mq->req.drain_raised = false;
	mq->req.pause = (struct vrd_rnr_pause){ .waited = false };
	vrd_resp_give_back(qp);
	vrd_resp_reset(qp);
}

static void vrd_mem_path_commit(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	const struct virtio_rdma_qp_attr *attr = &change->attr;
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);

	/*
	 * QPs that have cached this one as their peer must look it up again.  They do so after
	 * our locks are released, when the new values are in place.
	 */
	if (change->to != qp->state ||
	    change->mask & (VIRTIO_RDMA_QP_AV | VIRTIO_RDMA_QP_DEST_QPN)) {
		vrd_mem_fabric_changed(mq->port->fabric);
		if (!vrd_mem_is_datagram(qp))
			vrd_mem_wake_peer(qp);
	}

	switch (change->to) {
	case VIRTIO_RDMA_QPS_RESET:
		vrd_mem_qp_reset(qp);
		break;
	case VIRTIO_RDMA_QPS_SQD:
		if (qp->state != VIRTIO_RDMA_QPS_SQD)
			mq->req.drain_raised =
				!(change->mask & VIRTIO_RDMA_QP_EN_SQD_ASYNC_NOTIFY &&
				  attr->en_sqd_async_notify);
		break;
	case VIRTIO_RDMA_QPS_RTR:
		qp->resp.established = false;
		/* The peer may have sent already and wait for this QP: wake it. */
		if (!vrd_mem_is_datagram(qp))
			vrd_mem_wake(mq->port->fabric, attr->av.dgid, le32toh(attr->dest_qpn));
		break;
	}
	if (change->to >= VIRTIO_RDMA_QPS_RTS)
		vrd_qp_schedule(qp);
}

static void vrd_mem_path_query(struct vrd_qp *qp, struct virtio_rdma_qp_attr *attr)
{
	vrd_lock(&qp->sq.lock);
	attr->sq_draining = attr->state == VIRTIO_RDMA_QPS_SQD && vrd_mem_sq_busy(vrd_mem_qp(qp));
	vrd_unlock(&qp->sq.lock);
}

static void vrd_mem_qp_destroy(struct vrd_qp *qp)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);

	vrd_lock(&qp->sq.lock);
	vrd_lock(&qp->rq.lock);
	mq->dead = true;		/* no turn sets the timer again, no peer is served */
	/* Under the lock: QPs that have cached this one as their peer do not check @dead. */
	vrd_mem_fabric_changed(mq->port->fabric);
	vrd_resp_give_back(qp);
	vrd_unlock(&qp->rq.lock);
	vrd_unlock(&qp->sq.lock);
	vrd_timer_cancel_sync(&mq->req.timer);
	vrd_mem_unpark(mq);
	/* The peer looks for this QP again, does not find it, and times out. */
	if (!vrd_mem_is_datagram(qp))
		vrd_mem_wake_peer(qp);
}

const struct vrd_path_ops vrd_mem_path = {
	.sq_run		= vrd_mem_sq_run,
	.rq_run		= vrd_mem_rq_run,
	.commit		= vrd_mem_path_commit,
	.query		= vrd_mem_path_query,
	.carries	= vrd_mem_path_carries,
	.deliver	= vrd_mem_path_deliver,
};

const struct vrd_transport_ops vrd_memory_transport = {
	.name		= "memory",
	.slot		= VRD_SLOT_MEMORY,
	.qp_types	= VRD_QPT_DATA | VRD_QPT_BIT(GSI),
	.path		= &vrd_mem_path,
	.device_open	= vrd_mem_device_open,
	.device_close	= vrd_mem_device_close,
	.device_resumed	= vrd_mem_device_resumed,
	.device_query	= vrd_mem_device_query,
	.reaches	= vrd_mem_reaches,
	.gid_add	= vrd_mem_gid_add,
	.gid_del	= vrd_mem_gid_del,
	.srq_create	= vrd_mem_srq_create,
	.srq_destroy	= vrd_mem_srq_destroy,
	.srq_free	= vrd_mem_srq_free,
	.srq_run	= vrd_mem_srq_run,
	.qp_create	= vrd_mem_qp_create,
	.qp_destroy	= vrd_mem_qp_destroy,
	.qp_free	= vrd_mem_qp_free,
};
