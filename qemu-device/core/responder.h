/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The responder: what a request checks and does at the QP that it reaches, and in
 * the memory of that QP's guest.  Rights, keys, receives, atomics, completions of
 * receives, events, the move to ERR.  It knows nothing of how requests come: the
 * memory transport calls it for WQEs of another QP in this process; a transport over
 * packets would call it for their headers.
 *
 * A message goes like this, under the responder's rq.lock:
 *
 *   vrd_resp_attach()	once for all messages while the lock is held
 *   vrd_resp_begin()	checks all of it, and takes a receive if it needs one
 *   vrd_sg_copy()	by the transport: into message.mem, or for READ out of it;
 *			or vrd_resp_atomic()
 *   vrd_resp_end()	completes the receive
 *   vrd_resp_detach()	before the lock is released
 *
 * If the payload comes in several turns, the lock may be released between; then
 * vrd_resp_resume() follows, and the receive was taken with @hold.
 *
 * Threads: the poller of the requester (memory) or of the responder (packets).
 */
#ifndef VRD_RESPONDER_H
#define VRD_RESPONDER_H

#include "sg.h"

/* What becomes of a request.  Only a reliable requester hears of it. */
enum vrd_resp_result {
	VRD_RESP_OK,
	VRD_RESP_DROPPED,		/* lost; the QP may have failed: it must not be used on */
	VRD_RESP_RNR,			/* no receive is posted; the next one rings */
	VRD_RESP_NO_MEMORY,		/* the host's: try again later */
	/* NAKs.  The responder is in ERR, or will be soon. */
	VRD_RESP_INVALID,		/* remote invalid request */
	VRD_RESP_ACCESS,		/* remote access error */
	VRD_RESP_OP_ERR,		/* remote operational error */
	/* Datagrams: the sender's own memory has gone; nothing was received. */
	VRD_RESP_SOURCE,
};

/* A QP whose rq.lock is held. */
struct vrd_resp {
	struct vrd_qp *qp;
	struct vrd_poller *poller;	/* that runs this */
	struct vrd_counters *count;	/* its, of the QP's device */
	uint64_t rx;			/* bytes, not in the counters yet */
	bool completed;			/* a receive: its CQE may not be written yet */
	struct vrd_recv_wr recv;	/* of a message that ends in this turn */
};

/* A message at the responder. */
struct vrd_resp_message {
	struct vrd_sg mem;		/* the responder's memory */
	struct vrd_recv_wr *recv;	/* that it took, or NULL */
};

static inline void vrd_resp_attach(struct vrd_resp *resp, struct vrd_qp *qp,
				   struct vrd_poller *poller, unsigned int index)
{
	resp->qp = qp;
	resp->poller = poller;
	resp->count = vrd_counters(qp->dev, index);
	resp->rx = 0;
	resp->completed = false;
}

static inline void vrd_resp_detach(struct vrd_resp *resp)
{
	if (resp->rx)
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
		/* IBTA 10.3.1: it goes on receiving when its sends have failed. */
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

	/* A small WRITE costs little more than a call.  If it fails, the function finds out why. */
	if (vrd_likely(!hold && req->opcode == VIRTIO_RDMA_WR_RDMA_WRITE &&
		       vrd_resp_grants(qp, right) &&
		       vrd_sg_open(&msg->mem, qp, qp->pd, &req->range, 1, req->length, right, true,
				   false))) {
		msg->recv = NULL;
		return VRD_RESP_OK;
	}
	return vrd_resp_begin_any(resp, msg, req, hold);
}

/* False: the QP was reset meanwhile, and the receive is gone: begin anew. */
bool vrd_resp_resume(struct vrd_resp *resp, struct vrd_resp_message *msg);
/* After begin: carries it out; *@old gets the value before. */
enum vrd_resp_result vrd_resp_atomic(struct vrd_resp *resp, struct vrd_resp_message *msg,
				     const struct vrd_request *req, uint64_t *old);
void vrd_resp_complete(struct vrd_resp *resp, const struct vrd_resp_message *msg,
		       const struct vrd_request *req);

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

/* The copy failed on the responder's side: its memory has gone since begin. */
enum vrd_resp_result vrd_resp_fault(struct vrd_resp *resp, struct vrd_resp_message *msg,
				    const struct vrd_request *req);

/*
 * A datagram for a QP that takes them (vrd_resp_listens()): 40 bytes of @header and
 * @payload go into its next receive; *@cqe has what the transport knows.
 */
enum vrd_resp_result vrd_resp_datagram(struct vrd_resp *resp, struct vrd_sg *header,
				       struct vrd_sg *payload, struct virtio_rdma_cqe *cqe,
				       bool solicited);
bool vrd_resp_listens(const struct vrd_qp *qp);

/* ---- the life of a QP: rq.lock ---- */

/* In ERR: completes what is posted, at most @budget; true: there is more. */
bool vrd_resp_flush(struct vrd_qp *qp, unsigned int budget);
/*
 * To RESET, or destroyed: the receive that a message holds would be lost to the SRQ, of
 * which the driver knows only what is completed.
 */
void vrd_resp_give_back(struct vrd_qp *qp);
/* To RESET: forgets the connection; give_back has been called. */
void vrd_resp_reset(struct vrd_qp *qp);
/* The QP is freed; its guest's memory is not touched. */
void vrd_resp_fini(struct vrd_qp *qp);

#endif /* VRD_RESPONDER_H */
