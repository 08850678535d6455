// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: what ends the waits of a send queue (core/requester.c) before
 * their timers do.
 *
 *   no receive posted    the peer's receive ring, or its SRQ's, asks for doorbells
 *                        meanwhile, so the next post wakes us
 *   nothing answers      the peer's transition to RTR wakes us
 *   peer is suspended    its resume wakes us.  Time does not count: a paused VM
 *                        is not a lost one, the device knows that it is there
 *                        and that nothing was lost, and a pause (or a change of
 *                        the memory table) shall be invisible to its peers.
 *
 * Runs on the QP's poller with sq.lock held.
 */
#include "memory.h"

/* It waits for something else than a receive now. */
static void vrd_mem_leave_rnr(struct vrd_mem_qp *mq)
{
	if (mq->req.wait == VRD_REQ_WAIT_RNR)
		vrd_mem_unpark(mq);
}

static enum vrd_mem_step vrd_mem_wait_or_fail(struct vrd_mem_burst *b, uint8_t status)
{
	return status ? vrd_mem_fail(b, status) : VRD_MEM_WAIT;
}

/* The peer, which is locked and asks for doorbells, has no receive posted. */
enum vrd_mem_step vrd_mem_wait_rnr(struct vrd_mem_burst *b)
{
	return vrd_mem_wait_or_fail(b, vrd_req_wait_rnr(&b->mq->req, b->poller,
							b->resp.qp->attr.min_rnr_timer));
}

/* There is no peer, or not one that is connected to us and ready to receive. */
enum vrd_mem_step vrd_mem_wait_peer(struct vrd_mem_burst *b)
{
	if (b->qp->type == VIRTIO_RDMA_QPT_UC)
		return VRD_MEM_DONE;
	vrd_mem_leave_rnr(b->mq);
	return vrd_mem_wait_or_fail(b, vrd_req_wait_answer(&b->mq->req, b->poller));
}

enum vrd_mem_step vrd_mem_wait_host(struct vrd_mem_burst *b)
{
	vrd_mem_leave_rnr(b->mq);
	vrd_req_wait_memory(&b->mq->req);
	return VRD_MEM_WAIT;
}

/* @dev, the peer's, is suspended. */
enum vrd_mem_step vrd_mem_wait_resume(struct vrd_mem_burst *b, struct vrd_device *dev)
{
	if (b->qp->type == VIRTIO_RDMA_QPT_UC)
		return VRD_MEM_DONE;	/* lost, as on a wire */
	vrd_req_wait_other(&b->mq->req);
	/* It may run again by now: then try at once, in another turn. */
	return vrd_mem_park_suspended(b->mq, vrd_mem_port(dev)) ? VRD_MEM_WAIT : VRD_MEM_MORE;
}

/* The request is done for, one way or another. */
void vrd_mem_wait_end(struct vrd_mem_qp *mq)
{
	if (mq->req.wait == VRD_REQ_WAIT_OTHER || mq->req.wait == VRD_REQ_WAIT_RNR)
		vrd_mem_unpark(mq);
	vrd_req_wait_end(&mq->req);
}
