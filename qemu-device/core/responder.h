/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The responder: the checks and operations of a request at the QP that it reaches, and in
 * the memory of that QP's guest.  Rights, keys, receives, atomics, completions of receives,
 * events, the move to ERR.  It does not depend on how requests arrive: the memory transport
 * calls it for WQEs of another QP in this process; a transport that uses packets would call
 * it for their headers.
 *
 * The steps of a message, under the responder's rq.lock:
 *
 *   vrd_resp_attach()	once for all messages while the lock is held
 *   vrd_resp_begin()	checks the whole message, and takes a receive if it needs one
 *   vrd_sg_copy()	by the transport: into message.mem, or for READ out of it;
 *			or vrd_resp_atomic()
 *   vrd_resp_end()	completes the receive
 *   vrd_resp_detach()	before the lock is released
 *
 * If the payload arrives in several turns, the lock may be released between them.  Then
 * vrd_resp_resume() follows, and the receive must have been taken with @hold.
 *
 * Threads: the poller of the requester (memory) or of the responder (packets).
 */
#ifndef VRD_RESPONDER_H
#define VRD_RESPONDER_H

#include "sg.h"

/* The result of a request.  It is reported only to a reliable requester. */
enum vrd_resp_result {
	VRD_RESP_OK,
	VRD_RESP_DROPPED,		/* dropped; the QP may have failed and must not be used
					 * any more */
	VRD_RESP_RNR,			/* no receive is posted; the next post rings */
	VRD_RESP_NO_MEMORY,		/* the host has no memory: try again later */
	VRD_RESP_AGAIN,			/* vrd_resp_invalidate(): call it again in another turn */
	/* NAKs.  The responder is in ERR, or will be soon. */
	VRD_RESP_INVALID,		/* remote invalid request */
	VRD_RESP_ACCESS,		/* remote access error */
	VRD_RESP_OP_ERR,		/* remote operational error */
	/* Datagrams: the sender's memory is not RAM any more; nothing was received. */
	VRD_RESP_SOURCE,
};

/* A QP whose rq.lock is held. */
struct vrd_resp {
	struct vrd_qp *qp;
	struct vrd_poller *poller;	/* poller that runs this */
	struct vrd_counters *count;	/* counters of the QP's device on @poller */
	uint64_t rx;			/* received bytes that have not been added to the
					 * counters */
	bool completed;			/* a receive was completed; its CQE may still be staged */
	struct vrd_recv_wr recv;	/* receive of a message that ends in this turn */
};

/* A message at the responder. */
struct vrd_resp_message {
	struct vrd_sg mem;		/* the responder's memory */
	struct vrd_recv_wr *recv;	/* receive that the message took, or NULL */
};

static inline void vrd_resp_attach(struct vrd_resp *resp, struct vrd_qp *qp,
				   struct vrd_poller *poller)
{
	resp->qp = qp;
	resp->poller = poller;
	resp->count = vrd_likely(qp->poller == poller) ? qp->count :
		      vrd_counters(qp->dev, vrd_poller_index(poller));
	resp->rx = 0;
	resp->completed = false;
}

static inline void vrd_resp_detach(struct vrd_resp *resp)
{
	if (vrd_likely(resp->rx))
		vrd_count(resp->count, VIRTIO_RDMA_STAT_RX_BYTES, resp->rx);
	if (resp->completed)
		vrd_cq_flush_receives(resp->poller);
}

/* True if a connected QP answers requests in its state; rq.lock is held. */
static inline bool vrd_resp_answers(const struct vrd_qp *qp)
{
	if (vrd_unlikely(vrd_qp_error_due(qp)))
		return false;
	if (vrd_likely(qp->state == VIRTIO_RDMA_QPS_RTS))
		return true;
	switch (qp->state) {
	case VIRTIO_RDMA_QPS_RTR:
	case VIRTIO_RDMA_QPS_SQD:
		return true;
	case VIRTIO_RDMA_QPS_SQE:
		/* IBTA 10.3.1: in SQE the QP continues to receive. */
		return qp->type == VIRTIO_RDMA_QPT_UC;
	default:
		return false;
	}
}

/* The first request of a connection raises COMM_EST if the QP is still in RTR. */
static inline void vrd_resp_established(struct vrd_qp *qp)
{
	if (vrd_likely(qp->state != VIRTIO_RDMA_QPS_RTR || qp->resp.established))
		return;
	qp->resp.established = true;
	vrd_event_raise(qp->dev, VIRTIO_RDMA_EVENT_COMM_EST, qp->qpn);
}

enum vrd_resp_result vrd_resp_begin_any(struct vrd_resp *resp, struct vrd_resp_message *msg,
					const struct vrd_request *req, bool hold);

static inline bool vrd_resp_grants(const struct vrd_qp *qp, uint32_t right)
{
	return le32toh(qp->attr.access_flags) & right;
}

static VRD_INLINE enum vrd_resp_result vrd_resp_begin(struct vrd_resp *resp,
						      struct vrd_resp_message *msg,
						      const struct vrd_request *req, bool hold)
{
	const uint32_t right = VIRTIO_RDMA_ACCESS_REMOTE_WRITE;
	struct vrd_qp *qp = resp->qp;

	/*
	 * A small WRITE costs little more than a call.  If the check fails, the function
	 * determines why.
	 */
	if (vrd_likely(!hold && req->opcode == VIRTIO_RDMA_WR_RDMA_WRITE &&
		       vrd_resp_grants(qp, right) &&
		       vrd_sg_open(&msg->mem, qp, qp->pd, &req->range, 1, req->length, right, true,
				   false))) {
		msg->recv = NULL;
		return VRD_RESP_OK;
	}
	return vrd_resp_begin_any(resp, msg, req, hold);
}

/* False: the QP was reset in the meantime, and the receive is gone: begin again. */
bool vrd_resp_resume(struct vrd_resp *resp, struct vrd_resp_message *msg);
/* To be called after begin: executes the operation; *@old gets the previous value. */
enum vrd_resp_result vrd_resp_atomic(struct vrd_resp *resp, struct vrd_resp_message *msg,
				     const struct vrd_request *req, uint64_t *old);
void vrd_resp_complete(struct vrd_resp *resp, const struct vrd_resp_message *msg,
		       const struct vrd_request *req);

/*
 * SEND_WITH_INV, which takes its receive with @hold: after all bytes have arrived, and before
 * vrd_resp_end(), makes the region of the key invalid.  *@period is 0 at the first call for a
 * message.  AGAIN: other pollers may still use the region.
 */
enum vrd_resp_result vrd_resp_invalidate(struct vrd_resp *resp,
					 const struct vrd_resp_message *msg,
					 const struct vrd_request *req, uint64_t *period);

static inline void vrd_resp_end(struct vrd_resp *resp, struct vrd_resp_message *msg,
				const struct vrd_request *req)
{
	if (vrd_likely(req->opcode != VIRTIO_RDMA_WR_RDMA_READ))
		resp->rx += req->length;
	else
		vrd_count(resp->count, VIRTIO_RDMA_STAT_TX_BYTES, req->length);
	if (msg->recv)
		vrd_resp_complete(resp, msg, req);
}

/* The copy failed on the responder's side: its memory has changed since begin. */
enum vrd_resp_result vrd_resp_fault(struct vrd_resp *resp, struct vrd_resp_message *msg,
				    const struct vrd_request *req);

/*
 * Delivers a datagram to a QP for which vrd_resp_listens() is true.  40 bytes of @header and
 * @payload are copied into its next receive.  *@cqe has the fields that the transport knows.
 */
enum vrd_resp_result vrd_resp_datagram(struct vrd_resp *resp, struct vrd_sg *header,
				       struct vrd_sg *payload, struct virtio_rdma_cqe *cqe,
				       bool solicited);
bool vrd_resp_listens(const struct vrd_qp *qp);

/* ---- life cycle of a QP: rq.lock ---- */

/* In ERR: flushes posted receives, at most @budget; true: there are more. */
bool vrd_resp_flush(struct vrd_qp *qp, unsigned int budget);
/*
 * For a change to RESET or a destroy: returns the receive that a message holds.  Otherwise
 * the SRQ would lose it, because the driver learns only of completed receives.
 */
void vrd_resp_give_back(struct vrd_qp *qp);
/* For a change to RESET: clears the state of the connection; give_back has been called. */
void vrd_resp_reset(struct vrd_qp *qp);
/* The QP is freed; its guest's memory is not accessed. */
void vrd_resp_fini(struct vrd_qp *qp);

#endif /* VRD_RESPONDER_H */
