/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The requester: the part of a send queue that does not depend on how its requests reach the
 * responder.  Checks of the requester's own memory, waiting for a receiver that is not ready
 * or for an answer, retries, errors, draining.  wqe.h takes requests off the ring, and cq.c
 * writes completions.
 *
 * A request that cannot be carried out stays at sq.head and the turn ends with VRD_RUN_WAIT,
 * so that no poller spins for it.  A timer, or an event of the transport, schedules the QP,
 * and the request is tried again.
 *
 * On the QP's poller with sq.lock held, unless stated otherwise.
 */
#ifndef VRD_REQUESTER_H
#define VRD_REQUESTER_H

#include "rnr_pause.h"
#include "sg.h"

enum vrd_req_wait {
	VRD_REQ_WAIT_NONE,
	VRD_REQ_WAIT_RNR,		/* the responder has no receive posted */
	VRD_REQ_WAIT_ANSWER,		/* there is no answer */
	VRD_REQ_WAIT_MEMORY,		/* the host is out of memory */
	VRD_REQ_WAIT_OTHER,		/* the transport schedules the QP: no timer */
};

/* Embedded in the private part of a QP. */
struct vrd_req {
	struct vrd_qp *qp;
	struct vrd_timer timer;
	uint64_t deadline;		/* of @wait; vrd_poller_now() */
	uint8_t wait;			/* VRD_REQ_WAIT_* */
	uint8_t rnr_tries, retries;	/* of the request at sq.head */
	bool drain_raised;		/* SQD: SQ_DRAINED was raised, or the driver did not ask
					 * for it */
	bool invalidated;		/* LOCAL_INV at sq.head: other pollers may still copy,
					 * until they have passed @inv_period */
	uint64_t inv_period;
	uint64_t pause_end;		/* of the pause in WAIT_RNR; 0: there is none */
	struct vrd_rnr_pause pause;	/* since the last RESET */
};

/* For a new QP.  Cancel the timer before the QP is freed. */
void vrd_req_init(struct vrd_req *req, struct vrd_qp *qp);

/*
 * The request must wait.  Returns 0, or the status of its failure if the number of tries is
 * used up.
 */
uint8_t vrd_req_wait_rnr(struct vrd_req *req, uint8_t min_rnr_timer);
/*
 * After vrd_req_wait_rnr().  True during a pause (rnr_pause.c): the caller withdraws the
 * request for a doorbell, and a timer schedules the QP at the end of the pause.  A pause
 * changes neither the deadline of the wait nor the number of tries.
 */
bool vrd_req_pause(struct vrd_req *req);
uint8_t vrd_req_wait_answer(struct vrd_req *req);
void vrd_req_wait_memory(struct vrd_req *req);
void vrd_req_wait_other(struct vrd_req *req);
/* The request has ended, or is not tried again. */
void vrd_req_wait_end(struct vrd_req *req);

/*
 * LOCAL_INV and REG_MR.  Returns false if the request must be tried again: in another turn
 * soon, or if req->wait says so when there is memory.  Else *@status is VIRTIO_RDMA_WC_*.
 */
bool vrd_req_run_local(struct vrd_req *req, const struct vrd_wr *wr, uint8_t *status);

/* The request at sq.head has failed: completes it and moves the QP to ERR or SQE. */
void vrd_req_failed(struct vrd_req *req, const struct vrd_wr *wr, uint8_t status);
/* In SQD, when no request is in progress: raises SQ_DRAINED once, if the driver asked for it. */
void vrd_req_drained(struct vrd_req *req);

#define VRD_OPS_ATOMIC	(1U << VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP | \
			 1U << VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD)
/* Operations that write to the requester's memory. */
#define VRD_OPS_TO_US	(1U << VIRTIO_RDMA_WR_RDMA_READ | VRD_OPS_ATOMIC)

static inline bool vrd_wr_is(const struct vrd_wr *wr, uint32_t ops)
{
	return ops >> wr->req.opcode & 1;
}

/*
 * Checks the requester's side of a request; @local is set to its memory.  Returns
 * VIRTIO_RDMA_WC_*. @hold: the message may continue in another turn.
 */
static VRD_INLINE uint8_t vrd_req_local(struct vrd_qp *qp, const struct vrd_wr *wr,
					struct vrd_sg *local, bool hold)
{
	uint32_t access = 0;

	if (wr->req.flags & VIRTIO_RDMA_WQE_INLINE) {
		vrd_sg_host(local, (void *)wr->inline_data, wr->req.length);
		return VIRTIO_RDMA_WC_SUCCESS;
	}
	if (vrd_wr_is(wr, VRD_OPS_TO_US)) {
		if (!qp->attr.max_rd_atomic)
			return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
		access = VIRTIO_RDMA_ACCESS_LOCAL_WRITE;
	}
	return vrd_sg_open(local, qp, qp->pd, wr->sge, wr->num_sge, wr->req.length, access, false,
			   hold) ? VIRTIO_RDMA_WC_SUCCESS : VIRTIO_RDMA_WC_LOC_PROT_ERR;
}

#endif /* VRD_REQUESTER_H */
