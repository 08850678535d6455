// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: what a send queue waits for.  Runs on the QP's poller with
 * sq.lock held.
 *
 * A request that cannot be carried out stays at sq.head, and the turn ends with
 * VRD_RUN_WAIT: no poller spins for it.  Whoever may end the wait runs the
 * queue again by vrd_qp_schedule(), and the request is tried anew:
 *
 *   no receive posted    the peer's receive ring, or its SRQ's, asks for doorbells
 *                        meanwhile, so the next post wakes us; the timer counts
 *                        retries
 *   nobody answers       the peer's transition to RTR wakes us; so does a timer,
 *                        which counts retries
 *   peer is suspended    its resume wakes us.  Time does not count: a paused VM
 *                        is not a lost one, the device knows that it is there
 *                        and that nothing was lost, and a pause (or a change of
 *                        the memory table) shall be invisible to its peers.
 *   host lacks memory    a timer
 *
 * A wait without a limit is looked at again by a timer with growing intervals,
 * up to a second, in case that whatever ends it tells nobody.
 */
#include "memory.h"

#define NS_PER_MS		1000000ULL
/* Shorter timeouts are not worth their timer; IBTA's are lower bounds. */
#define VRD_MEM_MIN_TIMEOUT	NS_PER_MS
#define VRD_MEM_HOST_RETRY	(10 * NS_PER_MS)

/* IBTA 9.7.5.2.8: the RNR NAK timer field, in units of 10 microseconds. */
static const uint32_t vrd_mem_rnr_delay[32] = {
	65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192,
	256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288,
	16384, 24576, 32768, 49152,
};

static uint64_t vrd_mem_backoff(unsigned int tries)
{
	return NS_PER_MS << (tries < 10 ? tries : 10);
}

static enum vrd_mem_step vrd_mem_wait_for(struct vrd_mem_qp *mq, enum vrd_mem_wait wait,
					  uint64_t ns)
{
	struct vrd_poller *poller = mq->qp->poller;

	if (mq->wait == VRD_MEM_WAIT_RNR && wait != VRD_MEM_WAIT_RNR)
		vrd_mem_unpark(mq);
	mq->wait = wait;
	mq->deadline = vrd_poller_now(poller) + ns;
	vrd_timer_set(poller, &mq->timer, mq->deadline);
	return VRD_MEM_WAIT;
}

/* Still the same wait, and its time has not come. */
static bool vrd_mem_is_early(const struct vrd_mem_qp *mq, enum vrd_mem_wait wait)
{
	return mq->wait == wait && vrd_poller_now(mq->qp->poller) < mq->deadline;
}

/* The peer, which is locked and asks for doorbells, has no receive posted. */
enum vrd_mem_step vrd_mem_wait_rnr(struct vrd_mem_burst *b)
{
	struct vrd_mem_qp *mq = b->mq;
	uint8_t limit = b->qp->attr.rnr_retry & 7;
	uint64_t delay = vrd_mem_rnr_delay[b->resp.qp->attr.min_rnr_timer & 31] * 10000ULL;

	if (vrd_mem_is_early(mq, VRD_MEM_WAIT_RNR))
		return VRD_MEM_WAIT;
	vrd_count(b->qp->dev, b->poller, VIRTIO_RDMA_STAT_RNR, 1);
	if (limit != 7 && mq->rnr_tries >= limit)
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_RNR_RETRY_EXC_ERR);
	if (limit == 7 && delay < vrd_mem_backoff(mq->rnr_tries))
		delay = vrd_mem_backoff(mq->rnr_tries);
	if (mq->rnr_tries < UINT8_MAX)
		mq->rnr_tries++;
	return vrd_mem_wait_for(mq, VRD_MEM_WAIT_RNR, delay);
}

/* There is no peer, or not one that is connected to us and ready to receive. */
enum vrd_mem_step vrd_mem_wait_peer(struct vrd_mem_burst *b)
{
	struct vrd_mem_qp *mq = b->mq;
	unsigned int exponent = b->qp->attr.timeout & 31;
	uint64_t timeout = 4096ULL << exponent;

	if (b->qp->type == VIRTIO_RDMA_QPT_UC)
		return VRD_MEM_DONE;
	if (vrd_mem_is_early(mq, VRD_MEM_WAIT_PEER))
		return VRD_MEM_WAIT;
	if (mq->wait != VRD_MEM_WAIT_PEER) {
		mq->retries = 0;
	} else {
		if (exponent && mq->retries >= (b->qp->attr.retry_cnt & 7))
			return vrd_mem_fail(b, VIRTIO_RDMA_WC_RETRY_EXC_ERR);
		if (mq->retries < UINT8_MAX)
			mq->retries++;
		vrd_count(b->qp->dev, b->poller, VIRTIO_RDMA_STAT_RETRY, 1);
	}
	if (!exponent)
		timeout = vrd_mem_backoff(mq->retries);
	else if (timeout < VRD_MEM_MIN_TIMEOUT)
		timeout = VRD_MEM_MIN_TIMEOUT;
	return vrd_mem_wait_for(mq, VRD_MEM_WAIT_PEER, timeout);
}

enum vrd_mem_step vrd_mem_wait_host(struct vrd_mem_burst *b)
{
	if (vrd_mem_is_early(b->mq, VRD_MEM_WAIT_HOST))
		return VRD_MEM_WAIT;
	return vrd_mem_wait_for(b->mq, VRD_MEM_WAIT_HOST, VRD_MEM_HOST_RETRY);
}

/* @dev, the peer's, is suspended. */
enum vrd_mem_step vrd_mem_wait_resume(struct vrd_mem_burst *b, struct vrd_device *dev)
{
	struct vrd_mem_qp *mq = b->mq;

	if (b->qp->type == VIRTIO_RDMA_QPT_UC)
		return VRD_MEM_DONE;	/* lost, as on a wire */
	if (mq->wait != VRD_MEM_WAIT_NONE)
		vrd_timer_cancel(&mq->timer);
	mq->wait = VRD_MEM_WAIT_RESUME;
	/* It may run again by now: then try at once, in another turn. */
	return vrd_mem_park_suspended(mq, vrd_mem_port(dev)) ? VRD_MEM_WAIT : VRD_MEM_MORE;
}

/* The request is done for, one way or another. */
void vrd_mem_wait_end(struct vrd_mem_qp *mq)
{
	if (mq->wait == VRD_MEM_WAIT_RESUME || mq->wait == VRD_MEM_WAIT_RNR)
		vrd_mem_unpark(mq);
	if (mq->wait != VRD_MEM_WAIT_NONE && mq->wait != VRD_MEM_WAIT_RESUME)
		vrd_timer_cancel(&mq->timer);
	mq->wait = VRD_MEM_WAIT_NONE;
	mq->rnr_tries = 0;
	mq->retries = 0;
}

void vrd_mem_timer_fired(struct vrd_timer *timer)
{
	struct vrd_mem_qp *mq = (void *)((char *)timer - offsetof(struct vrd_mem_qp, timer));

	vrd_qp_schedule(mq->qp);
}
