// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: the events that end the waits of a send queue (core/requester.c) before
 * their timers do.
 *
 *   no receive posted    the peer's receive ring, or its SRQ's, asks for doorbells
 *                        meanwhile, so the next post wakes this QP
 *   no answer            the peer's transition to RTR wakes this QP
 *   peer is suspended    the peer's resume wakes this QP.  The timers do not run: the peer
 *                        exists and nothing was lost, and a pause of a VM (or a change of
 *                        its memory table) must be invisible to its peers.
 *
 * Runs on the QP's poller with sq.lock held.
 */
#include "memory.h"

/* The QP waits for something other than a receive now. */
static void vrd_mem_leave_rnr(struct vrd_mem_qp *mq)
{
	if (mq->req.wait == VRD_REQ_WAIT_RNR)
		vrd_mem_unpark(mq);
}

static enum vrd_mem_step vrd_mem_wait_or_fail(struct vrd_mem_burst *b, uint8_t status)
{
	return status ? vrd_mem_fail(b, status) : VRD_MEM_WAIT;
}

/*
 * The peer has no receive posted; it is locked, and its ring asks for doorbells.  During a
 * pause it does not: the timer ends the pause, and the next look at the ring asks again.  An
 * SRQ continues to ask, because other senders may wait for it as well.
 */
enum vrd_mem_step vrd_mem_wait_rnr(struct vrd_mem_burst *b)
{
	struct vrd_req *req = &b->mq->req;
	struct vrd_qp *peer = b->resp.qp;
	uint8_t status = vrd_req_wait_rnr(req, peer->attr.min_rnr_timer);

	if (!status && !peer->srq && vrd_req_pause(req))
		vrd_rq_want_doorbell(peer, false);
	return vrd_mem_wait_or_fail(b, status);
}

/* There is no peer, or it is not connected to this QP, or not ready to receive. */
enum vrd_mem_step vrd_mem_wait_peer(struct vrd_mem_burst *b)
{
	if (b->qp->type == VIRTIO_RDMA_QPT_UC)
		return VRD_MEM_DONE;
	vrd_mem_leave_rnr(b->mq);
	return vrd_mem_wait_or_fail(b, vrd_req_wait_answer(&b->mq->req));
}

enum vrd_mem_step vrd_mem_wait_host(struct vrd_mem_burst *b)
{
	vrd_mem_leave_rnr(b->mq);
	vrd_req_wait_memory(&b->mq->req);
	return VRD_MEM_WAIT;
}

/* The peer's device @dev is suspended. */
enum vrd_mem_step vrd_mem_wait_resume(struct vrd_mem_burst *b, struct vrd_device *dev)
{
	if (b->qp->type == VIRTIO_RDMA_QPT_UC)
		return VRD_MEM_DONE;	/* lost, as on a network */
	vrd_req_wait_other(&b->mq->req);
	/* The device may have resumed by now: then try at once, in another turn. */
	return vrd_mem_park_suspended(b->mq, vrd_mem_port(dev)) ? VRD_MEM_WAIT : VRD_MEM_MORE;
}

/* The request has succeeded, failed or is flushed. */
void vrd_mem_wait_end(struct vrd_mem_qp *mq)
{
	if (mq->req.wait == VRD_REQ_WAIT_OTHER || mq->req.wait == VRD_REQ_WAIT_RNR)
		vrd_mem_unpark(mq);
	vrd_req_wait_end(&mq->req);
}
