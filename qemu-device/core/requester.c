// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The requester: see requester.h.
 *
 * In a wait without a limit, a timer with growing intervals of up to a second tries the
 * request again, in case the event that ends the wait is missed.
 */
#include <errno.h>

#include "requester.h"

#define NS_PER_MS		1000000ULL
/* Shorter timeouts are rounded up to this; IBTA's values are lower bounds. */
#define MIN_TIMEOUT		NS_PER_MS
#define MEMORY_RETRY		(10 * NS_PER_MS)

/* IBTA 9.7.5.2.8: the RNR NAK timer field, in units of 10 microseconds. */
static const uint32_t rnr_delay[32] = {
	65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192,
	256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288,
	16384, 24576, 32768, 49152,
};

static void timer_fired(struct vrd_timer *timer)
{
	struct vrd_req *req = (void *)((char *)timer - offsetof(struct vrd_req, timer));

	vrd_qp_schedule(req->qp);
}

void vrd_req_init(struct vrd_req *req, struct vrd_qp *qp)
{
	*req = (struct vrd_req){ .qp = qp };
	vrd_timer_init(&req->timer, timer_fired);
}

static uint64_t backoff(unsigned int tries)
{
	return NS_PER_MS << (tries < 10 ? tries : 10);
}

static void wait_for(struct vrd_req *req, enum vrd_req_wait wait, uint64_t ns)
{
	struct vrd_poller *poller = req->qp->poller;

	req->wait = wait;
	req->deadline = vrd_poller_now(poller) + ns;
	vrd_timer_set(poller, &req->timer, req->deadline);
}

/* True if it is the same wait, and its deadline has not passed. */
static bool is_early(const struct vrd_req *req, enum vrd_req_wait wait)
{
	return req->wait == wait && vrd_poller_now(req->qp->poller) < req->deadline;
}

/* The wait for a receive has begun, for @delay.  Returns the end of its pause, or 0. */
static uint64_t pause_end(struct vrd_req *req, uint64_t delay)
{
	struct vrd_poller *poller = req->qp->poller;

	if (delay <= VRD_RNR_PAUSE_NS)
		return 0;
	if (!vrd_rnr_pause_begin(&req->pause, req->qp->sq.head, vrd_poller_sleeps(poller)))
		return 0;
	return vrd_poller_now(poller) + VRD_RNR_PAUSE_NS;
}

uint8_t vrd_req_wait_rnr(struct vrd_req *req, uint8_t min_rnr_timer)
{
	uint8_t limit = req->qp->attr.rnr_retry & 7;
	uint64_t delay = rnr_delay[min_rnr_timer & 31] * 10000ULL;

	if (is_early(req, VRD_REQ_WAIT_RNR))
		return 0;
	vrd_count(req->qp->count, VIRTIO_RDMA_STAT_RNR, 1);
	if (limit != 7 && req->rnr_tries >= limit)
		return VIRTIO_RDMA_WC_RNR_RETRY_EXC_ERR;
	if (limit == 7 && delay < backoff(req->rnr_tries))
		delay = backoff(req->rnr_tries);
	if (req->rnr_tries < UINT8_MAX)
		req->rnr_tries++;
	wait_for(req, VRD_REQ_WAIT_RNR, delay);
	req->pause_end = pause_end(req, delay);
	return 0;
}

bool vrd_req_pause(struct vrd_req *req)
{
	struct vrd_poller *poller = req->qp->poller;

	if (!req->pause_end || req->wait != VRD_REQ_WAIT_RNR)
		return false;
	if (vrd_poller_now(poller) >= req->pause_end) {
		/* The wait continues without a pause. */
		req->pause_end = 0;
		vrd_timer_set(poller, &req->timer, req->deadline);
		return false;
	}
	vrd_timer_set(poller, &req->timer, req->pause_end);
	vrd_poller_rest(poller);
	return true;
}

uint8_t vrd_req_wait_answer(struct vrd_req *req)
{
	const struct vrd_qp *qp = req->qp;
	unsigned int exponent = qp->attr.timeout & 31;
	uint64_t timeout = 4096ULL << exponent;

	if (is_early(req, VRD_REQ_WAIT_ANSWER))
		return 0;
	if (req->wait != VRD_REQ_WAIT_ANSWER) {
		req->retries = 0;
	} else {
		if (exponent && req->retries >= (qp->attr.retry_cnt & 7))
			return VIRTIO_RDMA_WC_RETRY_EXC_ERR;
		if (req->retries < UINT8_MAX)
			req->retries++;
		vrd_count(qp->count, VIRTIO_RDMA_STAT_RETRY, 1);
	}
	if (!exponent)
		timeout = backoff(req->retries);
	else if (timeout < MIN_TIMEOUT)
		timeout = MIN_TIMEOUT;
	wait_for(req, VRD_REQ_WAIT_ANSWER, timeout);
	return 0;
}

void vrd_req_wait_memory(struct vrd_req *req)
{
	if (!is_early(req, VRD_REQ_WAIT_MEMORY))
		wait_for(req, VRD_REQ_WAIT_MEMORY, MEMORY_RETRY);
}

void vrd_req_wait_other(struct vrd_req *req)
{
	if (req->wait != VRD_REQ_WAIT_NONE)
		vrd_timer_cancel(&req->timer);
	req->wait = VRD_REQ_WAIT_OTHER;
}

void vrd_req_wait_end(struct vrd_req *req)
{
	if (req->wait != VRD_REQ_WAIT_NONE && req->wait != VRD_REQ_WAIT_OTHER)
		vrd_timer_cancel(&req->timer);
	req->wait = VRD_REQ_WAIT_NONE;
	req->rnr_tries = 0;
	req->retries = 0;
	req->invalidated = false;
}

static bool local_inv(struct vrd_req *req, const struct vrd_wr *wr, uint8_t *status)
{
	if (!req->invalidated) {
		if (!vrd_fast_invalidate(req->qp, wr->req.imm, &req->inv_period)) {
			*status = VIRTIO_RDMA_WC_MW_BIND_ERR;
			return true;
		}
		req->invalidated = true;
	}
	/* After the completion no byte is moved. */
	if (!vrd_grace_passed_elsewhere(req->qp->poller, req->inv_period))
		return false;
	req->invalidated = false;
	*status = VIRTIO_RDMA_WC_SUCCESS;
	return true;
}

bool vrd_req_run_local(struct vrd_req *req, const struct vrd_wr *wr, uint8_t *status)
{
	int ret;

	if (wr->req.opcode == VIRTIO_RDMA_WR_LOCAL_INV)
		return local_inv(req, wr, status);
	ret = vrd_fast_register(req->qp, &wr->reg);
	if (ret == -ENOMEM) {
		vrd_req_wait_memory(req);
		return false;
	}
	*status = ret ? VIRTIO_RDMA_WC_MW_BIND_ERR : VIRTIO_RDMA_WC_SUCCESS;
	return true;
}

void vrd_req_failed(struct vrd_req *req, const struct vrd_wr *wr, uint8_t status)
{
	struct vrd_qp *qp = req->qp;

	/* At its place in the order of send completions. */
	vrd_complete_send_error(qp, wr, status);
	vrd_sq_advance(qp);
	/*
	 * IBTA 10.3.1: for unreliable QPs only the send queue fails; receiving continues.
	 * After an impossible producer index the ring cannot be trusted until the QP is reset.
	 */
	vrd_qp_error(qp, qp->type == VIRTIO_RDMA_QPT_RC || qp->sq.broken ?
		     VIRTIO_RDMA_QPS_ERR : VIRTIO_RDMA_QPS_SQE, VRD_HELD_SQ);
}

void vrd_req_drained(struct vrd_req *req)
{
	if (req->drain_raised)
		return;
	req->drain_raised = true;
	vrd_event_raise(req->qp->dev, VIRTIO_RDMA_EVENT_SQ_DRAINED, req->qp->qpn);
}
