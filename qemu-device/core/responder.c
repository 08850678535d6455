// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The responder: see responder.h.
 *
 * No byte is moved before all checks of the message have passed.  A message of several turns
 * is checked again in each turn, and may fail in the middle.
 */
#include <stdlib.h>
#include <string.h>

#include "responder.h"
#include "store.h"
#include "wqe.h"

#define GRH_LEN		40U		/* of a datagram, before the payload */

/* The receive of a message that takes several turns. */
struct vrd_held_recv {
	bool active;
	struct vrd_recv_wr wr;
};

static bool is_reliable(const struct vrd_qp *qp)
{
	return qp->type == VIRTIO_RDMA_QPT_RC;
}

static bool is_send(const struct vrd_request *req)
{
	return req->opcode == VIRTIO_RDMA_WR_SEND || req->opcode == VIRTIO_RDMA_WR_SEND_WITH_IMM ||
	       req->opcode == VIRTIO_RDMA_WR_SEND_WITH_INV;
}

/* ---- errors -------------------------------------------------------------- */

static VRD_NOINLINE void complete_error(struct vrd_qp *qp, const struct vrd_recv_wr *recv, uint8_t status)
{
	struct virtio_rdma_cqe cqe = {
		.qpn = htole32(qp->qpn),
		.wqe_index = htole32(recv->index),
		.srqn = vrd_qp_srqn(qp),
		.opcode = VIRTIO_RDMA_WC_RECV,
		.status = status,
	};

	vrd_cq_post(qp->recv_cq, &cqe, true);
}

/* Moves the QP to ERR. */
static VRD_NOINLINE enum vrd_resp_result qp_failed(struct vrd_resp *resp, enum vrd_resp_result nak)
{
	vrd_qp_error(resp->qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_RQ);
	return is_reliable(resp->qp) ? nak : VRD_RESP_DROPPED;
}

/*
 * Refuses a request that has not consumed a receive.  An event reports it to the responder's
 * user.  An unreliable responder drops the message.
 */
static VRD_NOINLINE enum vrd_resp_result refuse(struct vrd_resp *resp, enum vrd_resp_result nak)
{
	struct vrd_qp *qp = resp->qp;

	if (!is_reliable(qp))
		return VRD_RESP_DROPPED;
	vrd_event_raise(qp->dev, nak == VRD_RESP_ACCESS ? VIRTIO_RDMA_EVENT_QP_ACCESS_ERR
							: VIRTIO_RDMA_EVENT_QP_REQ_ERR, qp->qpn);
	return qp_failed(resp, nak);
}

/* The receive fails with @status.  Its completion reports the failure to the responder's user. */
static VRD_NOINLINE enum vrd_resp_result recv_failed(struct vrd_resp *resp, const struct vrd_recv_wr *recv,
					uint8_t status, enum vrd_resp_result nak)
{
	struct vrd_held_recv *held = resp->qp->resp.held;

	complete_error(resp->qp, recv, status);
	if (held)
		held->active = false;
	return qp_failed(resp, nak);
}

/*
 * The receive is malformed; or the ring's producer index is impossible (@index is then the
 * index that the receive would have had); or the SRQ has failed.
 */
static VRD_NOINLINE enum vrd_resp_result recv_bad(struct vrd_resp *resp, const struct vrd_recv_wr *recv,
				     enum vrd_fetch fetch)
{
	if (fetch != VRD_FETCH_DEAD)
		return recv_failed(resp, recv, VIRTIO_RDMA_WC_LOC_QP_OP_ERR, VRD_RESP_OP_ERR);
	vrd_event_raise(resp->qp->dev, VIRTIO_RDMA_EVENT_QP_FATAL, resp->qp->qpn);
	return qp_failed(resp, VRD_RESP_OP_ERR);
}

/* ---- receives ------------------------------------------------------------ */

/*
 * Takes the next receive, off the QP's ring or its SRQ's.  EMPTY: for a reliable responder,
 * doorbells are enabled, so that the next post rings.  A receive may have been posted just
 * before, so the ring is checked again.
 */
static inline enum vrd_fetch take_own(struct vrd_qp *qp, struct vrd_recv_wr *recv)
{
	enum vrd_fetch fetch = vrd_rq_fetch(qp, recv);

	if (fetch == VRD_FETCH_EMPTY && is_reliable(qp) && !qp->rq.want_db) {
		vrd_rq_want_doorbell(qp, true);
		fetch = vrd_rq_take(qp, recv);
	}
	return fetch;
}

static VRD_NOINLINE enum vrd_fetch take_shared(struct vrd_qp *qp, struct vrd_recv_wr *recv)
{
	struct vrd_srq *srq = qp->srq;
	enum vrd_fetch fetch;

	vrd_lock(&srq->ring.lock);
	fetch = vrd_srq_take(srq, recv);
	if (fetch == VRD_FETCH_EMPTY && is_reliable(qp) && !srq->ring.want_db) {
		vrd_srq_want_doorbell(srq, true);
		fetch = vrd_srq_take(srq, recv);
	}
	vrd_unlock(&srq->ring.lock);
	return fetch;
}

/* Sets msg->recv to the receive.  With @hold it stays valid until the message ends. */
static inline enum vrd_resp_result take_receive(struct vrd_resp *resp, struct vrd_resp_message *msg,
					 bool hold)
{
	struct vrd_qp *qp = resp->qp;
	struct vrd_held_recv *held = qp->resp.held;
	struct vrd_recv_wr *recv = &resp->recv;
	enum vrd_fetch fetch;

	if (held && held->active) {
		/* It was taken for a message that the requester gave up. */
		msg->recv = &held->wr;
		return VRD_RESP_OK;
	}
	if (hold) {
		if (!held)
			held = qp->resp.held = calloc(1, sizeof(*held));
		if (!held)
			return VRD_RESP_NO_MEMORY;
		recv = &held->wr;
	}
	fetch = qp->srq ? take_shared(qp, recv) : take_own(qp, recv);
	if (fetch == VRD_FETCH_EMPTY)
		return is_reliable(qp) ? VRD_RESP_RNR : VRD_RESP_DROPPED;
	if (fetch != VRD_FETCH_OK)
		return recv_bad(resp, recv, fetch);
	if (hold)
		held->active = true;
	msg->recv = recv;
	return VRD_RESP_OK;
}

/* All bytes of the message have arrived: completes its receive. */
void vrd_resp_complete(struct vrd_resp *resp, const struct vrd_resp_message *msg,
		       const struct vrd_request *req)
{
	bool imm = req->opcode != VIRTIO_RDMA_WR_SEND;
	struct vrd_qp *qp = resp->qp;
	struct virtio_rdma_cqe *cqe;

	cqe = vrd_complete_recv(resp->poller, qp->recv_cq, req->flags & VIRTIO_RDMA_WQE_SOLICITED);
	*cqe = (struct virtio_rdma_cqe){
		.qpn = htole32(qp->qpn),
		.wqe_index = htole32(msg->recv->index),
		.srqn = vrd_qp_srqn(qp),
		.byte_len = htole32(req->length),
		.opcode = req->opcode == VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM ?
			  VIRTIO_RDMA_WC_RECV_RDMA_WITH_IMM : VIRTIO_RDMA_WC_RECV,
		.imm = imm ? req->imm : 0,
		.flags = imm ? VIRTIO_RDMA_CQE_IMM : 0,
	};
	if (vrd_unlikely(req->opcode == VIRTIO_RDMA_WR_SEND_WITH_INV)) {
		cqe->inv_rkey = htole32(req->imm);
		cqe->flags = VIRTIO_RDMA_CQE_INV;
	}
	resp->completed = true;
	if (vrd_unlikely(qp->resp.held))
		qp->resp.held->active = false;
	vrd_count(resp->count, VIRTIO_RDMA_STAT_RECV, 1);
}

/* ---- requests ------------------------------------------------------------ */

/* Sets msg->mem to the first @length bytes of the message's receive. */
static VRD_INLINE bool to_receive(struct vrd_resp *resp, struct vrd_resp_message *msg,
				  uint64_t length, bool hold)
{
	return vrd_sg_open(&msg->mem, resp->qp, vrd_qp_recv_pd(resp->qp), msg->recv->sge,
			   msg->recv->num_sge, length, VIRTIO_RDMA_ACCESS_LOCAL_WRITE, false, hold);
}

/*
 * The key of a SEND_WITH_INV may not be invalidated.  IBTA 9.9.3, class J: the receive fails.
 * The numbers are those of Soft-RoCE.
 */
static VRD_NOINLINE enum vrd_resp_result not_invalidated(struct vrd_resp *resp,
							 const struct vrd_resp_message *msg)
{
	return recv_failed(resp, msg->recv, VIRTIO_RDMA_WC_REM_INV_REQ_ERR, VRD_RESP_OP_ERR);
}

enum vrd_resp_result vrd_resp_invalidate(struct vrd_resp *resp,
					 const struct vrd_resp_message *msg,
					 const struct vrd_request *req, uint64_t *period)
{
	/* It may have become invalid since the message began. */
	if (!*period && (!vrd_fast_may_invalidate(resp->qp, req->imm) ||
			 !vrd_fast_invalidate(resp->qp, req->imm, period)))
		return not_invalidated(resp, msg);
	return vrd_grace_passed_elsewhere(resp->poller, *period) ? VRD_RESP_OK : VRD_RESP_AGAIN;
}

static inline enum vrd_resp_result begin_send(struct vrd_resp *resp, struct vrd_resp_message *msg,
				       const struct vrd_request *req, bool hold)
{
	enum vrd_resp_result result = take_receive(resp, msg, hold);

	if (result)
		return result;
	if (req->opcode == VIRTIO_RDMA_WR_SEND_WITH_INV && !vrd_fast_may_invalidate(resp->qp, req->imm))
		return not_invalidated(resp, msg);
	if (req->length > msg->recv->length)
		return recv_failed(resp, msg->recv, VIRTIO_RDMA_WC_LOC_LEN_ERR, VRD_RESP_INVALID);
	if (!to_receive(resp, msg, req->length, hold))
		return recv_failed(resp, msg->recv, VIRTIO_RDMA_WC_LOC_PROT_ERR, VRD_RESP_OP_ERR);
	return VRD_RESP_OK;
}

/* Checks the range of RDMA and atomics.  Both the QP and the key must grant @right. */
static VRD_INLINE enum vrd_resp_result check_range(struct vrd_resp *resp,
						   struct vrd_resp_message *msg,
						   const struct vrd_request *req, uint32_t right,
						   bool hold)
{
	const struct vrd_qp *qp = resp->qp;

	if (!vrd_resp_grants(qp, right))
		return refuse(resp, VRD_RESP_INVALID);
	/* For a range of length zero no key is checked. */
	if (!vrd_sg_open(&msg->mem, resp->qp, qp->pd, &req->range, 1, req->length, right, true,
			 hold))
		return refuse(resp, VRD_RESP_ACCESS);
	return VRD_RESP_OK;
}

enum vrd_resp_result vrd_resp_begin_any(struct vrd_resp *resp, struct vrd_resp_message *msg,
					const struct vrd_request *req, bool hold)
{
	enum vrd_resp_result result;
	uint32_t right;

	if (req->length > resp->qp->max_msg_sz)
		return refuse(resp, VRD_RESP_INVALID);
	msg->recv = NULL;
	switch (req->opcode) {
	case VIRTIO_RDMA_WR_RDMA_WRITE:
	case VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM:
		right = VIRTIO_RDMA_ACCESS_REMOTE_WRITE;
		break;
	case VIRTIO_RDMA_WR_SEND:
	case VIRTIO_RDMA_WR_SEND_WITH_IMM:
	case VIRTIO_RDMA_WR_SEND_WITH_INV:
		return begin_send(resp, msg, req, hold);
	case VIRTIO_RDMA_WR_RDMA_READ:
		if (!resp->qp->attr.max_dest_rd_atomic)
			return refuse(resp, VRD_RESP_INVALID);
		right = VIRTIO_RDMA_ACCESS_REMOTE_READ;
		break;
	case VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP:
	case VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD:
		if (!resp->qp->attr.max_dest_rd_atomic || req->range.addr & 7)
			return refuse(resp, VRD_RESP_INVALID);
		right = VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC;
		break;
	default:
		return refuse(resp, VRD_RESP_INVALID);
	}
	result = check_range(resp, msg, req, right, hold);
	if (!result && req->opcode == VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM)
		result = take_receive(resp, msg, hold);
	return result;
}

bool vrd_resp_resume(struct vrd_resp *resp, struct vrd_resp_message *msg)
{
	const struct vrd_held_recv *held = resp->qp->resp.held;
	bool ranged = msg->mem.remote;

	if (msg->recv) {
		if (!held || !held->active)
			return false;
		/* msg->mem refers to the SGE list in held->wr. */
		if (msg->recv != &held->wr)
			return false;
	}
	msg->mem.qp = resp->qp;
	msg->mem.pd = ranged ? resp->qp->pd : vrd_qp_recv_pd(resp->qp);
	vrd_sg_forget(&msg->mem);
	return true;
}

/*
 * Uses the host CPU's atomic instructions on the guest's memory.  The operations are atomic
 * among all pollers, and with the CPUs of the guest if it uses atomic instructions itself.
 * Numbers are in the byte order of the host, which is the guest's.
 */
enum vrd_resp_result vrd_resp_atomic(struct vrd_resp *resp, struct vrd_resp_message *msg,
				     const struct vrd_request *req, uint64_t *old)
{
	/* 8 aligned bytes are within one page, so the run contains all of them. */
	uint64_t *word = (uint64_t *)msg->mem.hva;

	if (msg->mem.run < 8 || (uintptr_t)word & 7)
		return refuse(resp, VRD_RESP_INVALID);
	if (req->opcode == VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP) {
		*old = req->compare;
		__atomic_compare_exchange_n(word, old, req->swap_add, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
	} else {
		*old = __atomic_fetch_add(word, req->swap_add, __ATOMIC_SEQ_CST);
	}
	vrd_stored(resp->qp->dev, word, sizeof(*word));
	return VRD_RESP_OK;
}

enum vrd_resp_result vrd_resp_fault(struct vrd_resp *resp, struct vrd_resp_message *msg,
				    const struct vrd_request *req)
{
	if (is_send(req))
		return recv_failed(resp, msg->recv, VIRTIO_RDMA_WC_LOC_PROT_ERR, VRD_RESP_OP_ERR);
	if (msg->recv)
		return recv_failed(resp, msg->recv, VIRTIO_RDMA_WC_LOC_ACCESS_ERR,
				   VRD_RESP_ACCESS);
	return refuse(resp, VRD_RESP_ACCESS);
}

/* ---- datagrams ----------------------------------------------------------- */

bool vrd_resp_listens(const struct vrd_qp *qp)
{
	return (qp->type == VIRTIO_RDMA_QPT_UD || qp->type == VIRTIO_RDMA_QPT_GSI) &&
	       qp->state >= VIRTIO_RDMA_QPS_RTR && qp->state <= VIRTIO_RDMA_QPS_SQE &&
	       !vrd_qp_error_due(qp);
}

/*
 * Gets the next receive for a datagram before it is known whether the datagram fits.  Unless
 * there is none, datagram_decide() must follow.  An SRQ stays locked until then, for the
 * time of copying 4 KiB.
 */
static enum vrd_fetch datagram_look(struct vrd_qp *qp, struct vrd_recv_wr *recv)
{
	enum vrd_fetch fetch;

	if (!qp->srq)
		return vrd_rq_take(qp, recv);
	vrd_lock(&qp->srq->ring.lock);
	fetch = vrd_srq_peek(qp->srq, recv);
	if (fetch == VRD_FETCH_EMPTY || fetch == VRD_FETCH_DEAD)
		vrd_unlock(&qp->srq->ring.lock);
	return fetch;
}

static void datagram_decide(struct vrd_qp *qp, bool take)
{
	if (!qp->srq) {
		qp->rq.head -= !take;
		return;
	}
	if (take)
		vrd_srq_advance(qp->srq);
	vrd_unlock(&qp->srq->ring.lock);
}

enum vrd_resp_result vrd_resp_datagram(struct vrd_resp *resp, struct vrd_sg *header,
				       struct vrd_sg *payload, struct virtio_rdma_cqe *cqe,
				       bool solicited)
{
	uint64_t payload_len = vrd_sg_left(payload), length = GRH_LEN + payload_len;
	struct vrd_resp_message msg = { .recv = &resp->recv };
	struct vrd_qp *qp = resp->qp;
	enum vrd_sg_fault fault;
	enum vrd_fetch fetch = datagram_look(qp, msg.recv);

	if (fetch == VRD_FETCH_EMPTY)
		return VRD_RESP_DROPPED;
	if (fetch != VRD_FETCH_OK) {
		if (fetch != VRD_FETCH_DEAD)
			datagram_decide(qp, true);
		return recv_bad(resp, msg.recv, fetch);
	}
	if (msg.recv->length < length) {
		/* The datagram is dropped silently, so the receive must not be consumed. */
		datagram_decide(qp, false);
		return VRD_RESP_DROPPED;
	}
	if (!to_receive(resp, &msg, length, false)) {
		datagram_decide(qp, true);
		return recv_failed(resp, msg.recv, VIRTIO_RDMA_WC_LOC_PROT_ERR, VRD_RESP_DROPPED);
	}
	fault = vrd_sg_copy(&msg.mem, header, GRH_LEN, false);
	if (!fault)
		fault = vrd_sg_copy(&msg.mem, payload, payload_len, false);
	/* If the sender's page is not RAM any more, nothing was sent. */
	datagram_decide(qp, fault != VRD_SG_FAULT_SRC);
	if (fault == VRD_SG_FAULT_SRC)
		return VRD_RESP_SOURCE;
	if (fault)
		return recv_failed(resp, msg.recv, VIRTIO_RDMA_WC_LOC_PROT_ERR, VRD_RESP_DROPPED);
	cqe->qpn = htole32(qp->qpn);
	cqe->wqe_index = htole32(msg.recv->index);
	cqe->srqn = vrd_qp_srqn(qp);
	cqe->byte_len = htole32(length);
	cqe->opcode = VIRTIO_RDMA_WC_RECV;
	vrd_count(resp->count, VIRTIO_RDMA_STAT_RECV, 1);
	resp->rx += payload_len;
	resp->completed = true;
	*vrd_complete_recv(resp->poller, qp->recv_cq, solicited) = *cqe;
	return VRD_RESP_OK;
}

/* ---- life cycle of a QP -------------------------------------------------- */

static void flush_held(struct vrd_qp *qp)
{
	struct vrd_held_recv *held = qp->resp.held;

	if (!held || !held->active)
		return;
	held->active = false;
	complete_error(qp, &held->wr, VIRTIO_RDMA_WC_WR_FLUSH_ERR);
}

bool vrd_resp_flush(struct vrd_qp *qp, unsigned int budget)
{
	/* A message that was in progress holds the oldest receive. */
	flush_held(qp);
	vrd_rq_want_doorbell(qp, true);
	/*
	 * In this state the QP takes no receives from the SRQ, and it has completed those that
	 * it took.
	 */
	if (qp->srq && !qp->resp.last_wqe_raised) {
		qp->resp.last_wqe_raised = true;
		vrd_event_raise(qp->dev, VIRTIO_RDMA_EVENT_QP_LAST_WQE_REACHED, qp->qpn);
	}
	return vrd_rq_flush(qp, budget);
}

void vrd_resp_give_back(struct vrd_qp *qp)
{
	/* The driver discards the completion with the QP's others, and gets the entry back. */
	if (qp->srq)
		flush_held(qp);
}

void vrd_resp_reset(struct vrd_qp *qp)
{
	qp->resp.established = false;
	qp->resp.last_wqe_raised = false;
	vrd_resp_fini(qp);
	vrd_rq_want_doorbell(qp, false);
}

void vrd_resp_fini(struct vrd_qp *qp)
{
	free(qp->resp.held);
	qp->resp.held = NULL;
}
