// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QP 1 of a device on the host's RDMA fabric: a datagram QP implemented in software.
 *
 * Sends: a MAD is copied out of guest memory and passed to mads.c.  The sender does not
 * learn whether it is delivered, as on a network.  Receives: the port's inbox is drained
 * into the guest's receive ring.  Both happen when the poller runs the QP's send queue, with
 * sq.lock held and in an RCU read section, so quiesce covers them.
 *
 * A guest cannot use a source GID that is not in its own table, cannot exceed its quota, and
 * cannot reach another guest's QP 1 from a process (QP 1 belongs to a kernel context, see
 * cmd_qp.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cm_msg.h"
#include "grh.h"
#include "mads.h"
#include "sg.h"

#define GSI_QKEY	0x80010000U
#define RECV_LEN	(VRD_GRH_LEN + VRD_MAD_LEN)
/* MADs that one run receives. */
#define RECV_BUDGET	16

struct gsi_qp {
	struct vrd_gsi_port *port;
	bool dead;			/* being destroyed: sq.lock */
	bool drain_raised;		/* SQD: sq.lock */
	bool rq_doorbell;		/* rq.lock */
};

static struct gsi_qp *gsi_qp(const struct vrd_qp *qp)
{
	return qp->priv[VRD_SLOT_MAD];
}

/* ---- life cycle ----------------------------------------------------------- */

int vrd_gsi_qp_create(struct vrd_qp *qp)
{
	struct vrd_gsi_port *port = vrd_gsi_port(qp->dev);
	struct gsi_qp *gq = calloc(1, sizeof(*gq));
	struct vrd_mad *inbox = calloc(VRD_GSI_INBOX, sizeof(*inbox));

	if (!gq || !inbox) {
		free(inbox);
		free(gq);
		return -ENOMEM;
	}
	gq->port = port;
	qp->priv[VRD_SLOT_MAD] = gq;
	pthread_mutex_lock(&port->mads->lock);
	port->inbox = inbox;
	port->inbox_head = 0;
	port->inbox_len = 0;
	port->qp = qp;
	pthread_mutex_unlock(&port->mads->lock);
	return 0;
}

void vrd_gsi_qp_destroy(struct vrd_qp *qp)
{
	struct gsi_qp *gq = gsi_qp(qp);
	struct vrd_mad *inbox;

	vrd_lock(&qp->sq.lock);
	gq->dead = true;
	vrd_unlock(&qp->sq.lock);
	pthread_mutex_lock(&gq->port->mads->lock);
	gq->port->qp = NULL;
	inbox = gq->port->inbox;
	gq->port->inbox = NULL;
	gq->port->inbox_len = 0;
	pthread_mutex_unlock(&gq->port->mads->lock);
	free(inbox);
}

void vrd_gsi_qp_free(struct vrd_qp *qp)
{
	free(qp->priv[VRD_SLOT_MAD]);
	qp->priv[VRD_SLOT_MAD] = NULL;
}

/* ---- receiving -------------------------------------------------------------- */

/* Completes a receive that cannot be used (IBTA 11.6.2); both ring locks are held. */
static void recv_failed(struct vrd_qp *qp, const struct vrd_recv_wr *recv, uint8_t status)
{
	struct virtio_rdma_cqe cqe = {
		.qpn = htole32(qp->qpn),
		.wqe_index = htole32(recv->index),
		.opcode = VIRTIO_RDMA_WC_RECV,
		.status = status,
	};

	vrd_cq_post(qp->recv_cq, &cqe, true);
	vrd_qp_error(qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_RQ);
}

static bool recv_fill(struct vrd_qp *qp, const struct vrd_recv_wr *recv,
		      const struct vrd_mad *mad, uint8_t *flags)
{
	struct vrd_grh grh = {
		.sgid = mad->sgid, .dgid = mad->dgid, .flow_label = mad->flow_label,
		.tclass = mad->tclass, .hop_limit = mad->hop_limit,
	};
	uint8_t bytes[RECV_LEN];
	struct vrd_sg src, dst;

	if (!vrd_sg_open(&dst, qp, qp->pd, recv->sge, recv->num_sge, sizeof(bytes),
			 VIRTIO_RDMA_ACCESS_LOCAL_WRITE, false, false))
		return false;
	*flags = vrd_grh_fill(bytes, &grh, VRD_MAD_LEN);
	memcpy(bytes + VRD_GRH_LEN, mad->data, VRD_MAD_LEN);
	vrd_sg_host(&src, bytes, sizeof(bytes));
	return !vrd_sg_copy(&dst, &src, sizeof(bytes), false);
}

/* rq.lock is held.  If no receive fits, the MAD is dropped. */
static void receive_one(struct vrd_qp *qp, const struct vrd_mad *mad)
{
	struct vrd_gsi_port *port = gsi_qp(qp)->port;
	struct virtio_rdma_cqe cqe = {
		.qpn = htole32(qp->qpn),
		.byte_len = htole32(RECV_LEN),
		.src_qp = htole32(1),
		.sl = mad->sl,
		.opcode = VIRTIO_RDMA_WC_RECV,
		.status = VIRTIO_RDMA_WC_SUCCESS,
	};
	struct vrd_recv_wr recv;

	switch (vrd_rq_take(qp, &recv)) {
	case VRD_FETCH_OK:
		break;
	case VRD_FETCH_EMPTY:
		vrd_gsi_count(port, VRD_GSI_DROP_RECV);
		return;
	default:
		recv_failed(qp, &recv, VIRTIO_RDMA_WC_LOC_QP_OP_ERR);
		return;
	}
	if (recv.length < RECV_LEN) {
		/* Drop the MAD without a completion, and keep the receive. */
		qp->rq.head--;
		vrd_gsi_count(port, VRD_GSI_DROP_RECV);
		return;
	}
	if (!recv_fill(qp, &recv, mad, &cqe.flags)) {
		recv_failed(qp, &recv, VIRTIO_RDMA_WC_LOC_PROT_ERR);
		return;
	}
	cqe.wqe_index = htole32(recv.index);
	vrd_stat_add(qp->dev, VIRTIO_RDMA_STAT_RECV, 1);
	vrd_stat_add(qp->dev, VIRTIO_RDMA_STAT_RX_BYTES, VRD_MAD_LEN);
	vrd_gsi_count(port, VRD_GSI_RECEIVED);
	vrd_cq_post(qp->recv_cq, &cqe, false);
}

/* Returns true if the inbox may hold more. */
static bool receive(struct vrd_qp *qp)
{
	struct vrd_gsi_port *port = gsi_qp(qp)->port;
	unsigned int budget = RECV_BUDGET;
	struct vrd_mad mad;

	/* A receive that fails moves the QP to ERR: after this turn, for sq.lock is held. */
	while (budget && !vrd_qp_error_due(qp) && vrd_mads_take(port, &mad)) {
		budget--;
		vrd_lock(&qp->rq.lock);
		receive_one(qp, &mad);
		vrd_unlock(&qp->rq.lock);
	}
	return !budget;
}

/* ---- sending ------------------------------------------------------------------ */

/* Token bucket: each MAD takes one token, tokens are refilled with time. */
static bool within_quota(struct vrd_gsi_port *port, uint64_t now)
{
	const uint64_t interval = 1000000000U / VRD_MAD_RATE;
	uint64_t refill;

	if (!port->refilled_ns) {
		port->tokens = VRD_MAD_BURST;
		port->refilled_ns = now;
	}
	refill = (now - port->refilled_ns) / interval;
	port->refilled_ns += refill * interval;
	port->tokens += refill;
	if (port->tokens > VRD_MAD_BURST)
		port->tokens = VRD_MAD_BURST;
	if (!port->tokens)
		return false;
	port->tokens--;
	return true;
}

/* Returns VIRTIO_RDMA_WC_*: errors of the sender. */
static uint8_t make_mad(struct vrd_qp *qp, const struct vrd_wr *wr, struct vrd_mad *mad)
{
	struct vrd_sg src, dst;
	const uint8_t *sgid;
	uint32_t qpn;

	if (wr->req.opcode != VIRTIO_RDMA_WR_SEND || le32toh(wr->av.pd) != qp->pd->id ||
	    wr->pkey_index)
		return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	/* The source GID must be in the sender's own table. */
	sgid = vrd_gid_at(qp->dev, wr->av.sgid_index);
	if (!sgid)
		return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	if (!wr->length_ok || wr->req.length != VRD_MAD_LEN)
		return VIRTIO_RDMA_WC_LOC_LEN_ERR;

	memcpy(mad->sgid, sgid, 16);
	memcpy(mad->dgid, wr->av.dgid, 16);
	mad->flow_label = le32toh(wr->av.flow_label);
	mad->tclass = wr->av.tclass;
	mad->hop_limit = wr->av.hop_limit;
	mad->sl = wr->av.sl;
	if (wr->req.flags & VIRTIO_RDMA_WQE_INLINE)
		vrd_sg_host(&src, (void *)wr->inline_data, VRD_MAD_LEN);
	else
		vrd_sg_init(&src, qp, qp->pd, wr->sge, wr->num_sge, VRD_MAD_LEN, 0, false);
	vrd_sg_host(&dst, mad->data, VRD_MAD_LEN);
	if (!vrd_sg_check(&src) || vrd_sg_copy(&dst, &src, VRD_MAD_LEN, false))
		return VIRTIO_RDMA_WC_LOC_PROT_ERR;
	mad->own_qpn = !vrd_cm_names_qpn(mad->data, &qpn) || vrd_table_find(&qp->dev->qps, qpn);
	return VIRTIO_RDMA_WC_SUCCESS;
}

/* IBTA 10.2.5: a Q_Key with the top bit set stands for the QP's own. */
static bool to_gsi(const struct vrd_qp *qp, const struct vrd_wr *wr)
{
	uint32_t qkey = le32toh(wr->av.qkey);

	if (qkey & 0x80000000U)
		qkey = le32toh(qp->attr.qkey);
	return qkey == GSI_QKEY && le32toh(wr->av.dqpn) == 1;
}

static uint8_t send_one(struct vrd_qp *qp, const struct vrd_wr *wr)
{
	struct vrd_gsi_port *port = gsi_qp(qp)->port;
	struct vrd_mad mad;
	uint8_t status = make_mad(qp, wr, &mad);

	if (status)
		return status;
	vrd_gsi_count(port, VRD_GSI_SENT);
	if (!to_gsi(qp, wr))
		vrd_gsi_count(port, VRD_GSI_DROP_ROUTE);
	else if (!within_quota(port, vrd_poller_now(qp->poller)))
		vrd_gsi_count(port, VRD_GSI_DROP_QUOTA);
	else
		vrd_mads_send(port, &mad);
	return VIRTIO_RDMA_WC_SUCCESS;
}

static enum vrd_run send_burst(struct vrd_qp *qp, unsigned int budget)
{
	uint64_t sent = 0;
	enum vrd_run run = VRD_RUN_MORE;
	struct vrd_wr wr;
	uint8_t status;

	while (budget--) {
		enum vrd_fetch fetch = vrd_sq_peek(qp, &wr);

		if (fetch == VRD_FETCH_EMPTY) {
			run = VRD_RUN_IDLE;
			break;
		}
		status = fetch == VRD_FETCH_OK ? send_one(qp, &wr) : VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
		if (status)
			vrd_complete_send_error(qp, &wr, status);
		else
			vrd_complete_send(qp, &wr, 0);
		vrd_sq_advance(qp);
		if (status) {
			vrd_qp_error(qp, qp->sq.broken ? VIRTIO_RDMA_QPS_ERR : VIRTIO_RDMA_QPS_SQE,
				     VRD_HELD_SQ);
			break;
		}
		sent++;
	}
	if (sent) {
		vrd_stat_add(qp->dev, VIRTIO_RDMA_STAT_SEND, sent);
		vrd_stat_add(qp->dev, VIRTIO_RDMA_STAT_TX_BYTES, sent * VRD_MAD_LEN);
	}
	return run;
}

/* ---- the turn -------------------------------------------------------------------- */

/* ERR: flush both rings, and request doorbells for later posts. */
static bool flush(struct vrd_qp *qp, unsigned int budget)
{
	struct gsi_qp *gq = gsi_qp(qp);
	bool more = vrd_sq_flush(qp, budget);

	if (qp->state != VIRTIO_RDMA_QPS_ERR)
		return more | receive(qp);
	vrd_mads_forget_inbox(gq->port);
	vrd_lock(&qp->rq.lock);
	if (!gq->rq_doorbell) {
		gq->rq_doorbell = true;
		vrd_rq_want_doorbell(qp, true);
	}
	more |= vrd_rq_flush(qp, budget);
	vrd_unlock(&qp->rq.lock);
	return more;
}

static enum vrd_run gsi_sq_run(struct vrd_qp *qp, unsigned int budget)
{
	struct gsi_qp *gq = gsi_qp(qp);
	enum vrd_run run;

	if (gq->dead)
		return VRD_RUN_IDLE;
	if (vrd_device_suspended(qp->dev))
		return VRD_RUN_WAIT;
	switch (qp->state) {
	case VIRTIO_RDMA_QPS_RTR:
		return receive(qp) ? VRD_RUN_MORE : VRD_RUN_WAIT;
	case VIRTIO_RDMA_QPS_RTS:
		run = send_burst(qp, budget);
		return receive(qp) ? VRD_RUN_MORE : run;
	case VIRTIO_RDMA_QPS_SQD:
		if (!gq->drain_raised) {
			gq->drain_raised = true;
			vrd_event_raise(qp->dev, VIRTIO_RDMA_EVENT_SQ_DRAINED, qp->qpn);
		}
		return receive(qp) ? VRD_RUN_MORE : VRD_RUN_WAIT;
	case VIRTIO_RDMA_QPS_SQE:
	case VIRTIO_RDMA_QPS_ERR:
		return flush(qp, budget) ? VRD_RUN_MORE : VRD_RUN_IDLE;
	default:
		vrd_mads_forget_inbox(gq->port);
		return VRD_RUN_WAIT;
	}
}

/* Called when receives were posted while the QP is in ERR. */
static void gsi_rq_run(struct vrd_qp *qp)
{
	struct gsi_qp *gq = gsi_qp(qp);

	vrd_lock(&qp->rq.lock);
	if (qp->state == VIRTIO_RDMA_QPS_ERR) {
		vrd_qp_schedule(qp);
	} else if (gq->rq_doorbell) {
		gq->rq_doorbell = false;
		vrd_rq_want_doorbell(qp, false);
	}
	vrd_unlock(&qp->rq.lock);
}

/* Both ring locks are held. */
static void gsi_commit(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	struct gsi_qp *gq = gsi_qp(qp);

	if (change->to == VIRTIO_RDMA_QPS_RESET) {
		vrd_mads_forget_inbox(gq->port);
		gq->drain_raised = false;
		if (gq->rq_doorbell) {
			gq->rq_doorbell = false;
			vrd_rq_want_doorbell(qp, false);
		}
	}
	if (change->to == VIRTIO_RDMA_QPS_SQD && qp->state != VIRTIO_RDMA_QPS_SQD)
		gq->drain_raised = !(change->mask & VIRTIO_RDMA_QP_EN_SQD_ASYNC_NOTIFY &&
				     change->attr.en_sqd_async_notify);
	if (change->to >= VIRTIO_RDMA_QPS_RTR)
		vrd_qp_schedule(qp);
}

/* A send takes no time, so there is nothing to query or to wait for. */
const struct vrd_path_ops vrd_gsi_path = {
	.sq_run	= gsi_sq_run,
	.rq_run	= gsi_rq_run,
	.commit	= gsi_commit,
};
