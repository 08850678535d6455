// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: shared receive queues, on devices with several transports.
 *
 * Receives are taken from the guest's ring by software, for all transports.  While a QP on
 * this path takes receives from the SRQ, some of them are lent to the host in advance, never
 * more than remain on the ring, and another one for each that was used. A lent receive
 * cannot be taken back.  So a message that arrives by another transport may find the queue
 * empty although the host has receives.  If a guest keeps only one receive posted, the host
 * may have it.  The SRQ limit counts lent receives as posted.
 *
 * The wr_id of a lent receive contains the SRQ's number and a slot, not the guest's cookie.
 * If its completion belongs to a QP that is gone, the guest gets no completion, and the same
 * receive is posted to the host again.
 *
 * Poller of the context, except for the life of SRQs (control thread, dev->lock).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ibv.h"
#include "log.h"

/* Maximum; also at most half of the SRQ's entries. */
#define WINDOW		16U

/* A receive that is lent to the host. */
struct vrd_ibv_lent {
	bool used;
	bool bad;			/* malformed: the message that takes it fails */
	struct vrd_recv_wr wr;
};

void vrd_ibv_lend_init(struct vrd_ibv_srq *vsrq)
{
	vsrq->window = vsrq->srq->ring.entries / 2;
	if (vsrq->window > WINDOW)
		vsrq->window = WINDOW;
	if (!vsrq->window)
		vsrq->window = 1;
}

/* ---- lending: ring.lock --------------------------------------------------------- */

/* Returns false if the host does not take it. */
static bool post(struct vrd_srq *srq, uint32_t slot)
{
	const struct vrd_ibv_lent *lent = &vrd_ibv_srq(srq)->lent[slot];
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(srq->dev);
	struct ibv_sge sge[VRD_MAX_SGE];
	struct ibv_recv_wr wr = {
		.wr_id = vrd_ibv_wr_id(VRD_IBV_LENT, 0, srq->srqn << 8 | slot),
		.sg_list = sge,
		.num_sge = (int)lent->wr.num_sge,
	};
	struct ibv_recv_wr *bad;
	int ret;

	for (uint32_t i = 0; i < lent->wr.num_sge && !lent->bad; i++)
		sge[i] = (struct ibv_sge){
			.addr = lent->wr.sge[i].addr,
			.length = lent->wr.sge[i].length,
			.lkey = lent->wr.sge[i].lkey,
		};
	if (lent->bad) {
		/* Memory of another PD, so that every message fails with an error. */
		wr.num_sge = 1;
		sge[0] = (struct ibv_sge){
			.addr = (uintptr_t)vdev->own_bytes,
			.length = sizeof(vdev->own_bytes),
			.lkey = vdev->own_mr->lkey,
		};
	}
	ret = ibv_post_srq_recv(vrd_ibv_srq(srq)->ibsrq, &wr, &bad);
	if (ret)
		vrd_dev_log(srq->dev, VRD_LOG_WARN, "SRQ %u: the host takes no receive: %s",
			    srq->srqn, strerror(ret));
	return !ret;
}

/* Lends one more receive; returns false if there is none to lend. */
static bool lend_one(struct vrd_srq *srq)
{
	struct vrd_ibv_srq *vsrq = vrd_ibv_srq(srq);
	struct vrd_ibv_lent *lent;
	enum vrd_fetch fetch;
	uint32_t slot = 0;

	/* The first receive is always lent; more are lent only while as many remain on the ring. */
	if (srq->lent == vsrq->window || (srq->lent && vrd_srq_posted(srq) <= srq->lent))
		return false;
	while (vsrq->lent[slot].used)
		slot++;
	lent = &vsrq->lent[slot];
	fetch = vrd_srq_peek(srq, &lent->wr);
	if (fetch != VRD_FETCH_OK && fetch != VRD_FETCH_BAD)
		return false;
	lent->bad = fetch == VRD_FETCH_BAD;
	if (!post(srq, slot))
		return false;
	lent->used = true;
	srq->lent++;
	vrd_srq_advance(srq);
	return true;
}

/* Asks for doorbells while more receives can be lent. */
static void refill(struct vrd_srq *srq)
{
	struct vrd_ibv_srq *vsrq = vrd_ibv_srq(srq);

	if (!vsrq->host_qps)
		return;
	for (;;) {
		while (lend_one(srq))
			;
		if (srq->lent == vsrq->window || srq->ring.want_db || srq->error)
			return;
		/* The driver may have posted one meanwhile. */
		vrd_srq_want_doorbell(srq, true);
	}
}

/* A QP that takes receives from its SRQ moves to this path; returns 0 or -ENOMEM. */
int vrd_ibv_lend_begin(struct vrd_ibv_qp *vq)
{
	struct vrd_srq *srq = vq->qp->srq;
	struct vrd_ibv_srq *vsrq = vrd_ibv_srq(srq);
	int ret = 0;

	vrd_lock(&vq->qp->rq.lock);
	vrd_lock(&srq->ring.lock);
	if (!vsrq->lent)
		vsrq->lent = calloc(vsrq->window, sizeof(vsrq->lent[0]));
	if (!vsrq->lent) {
		ret = -ENOMEM;
	} else if (!vq->lends) {
		vq->lends = true;
		vq->has_lent = true;
		vsrq->host_qps++;
		refill(srq);
	}
	vrd_unlock(&srq->ring.lock);
	vrd_unlock(&vq->qp->rq.lock);
	return ret;
}

/* The QP leaves this path; rq.lock is held. */
void vrd_ibv_lend_end(struct vrd_ibv_qp *vq)
{
	struct vrd_srq *srq = vq->qp->srq;

	if (!srq || !vq->lends)
		return;
	vq->lends = false;
	vrd_lock(&srq->ring.lock);
	vrd_ibv_srq(srq)->host_qps--;
	vrd_unlock(&srq->ring.lock);
}

/*
 * Control thread, before the host's QP is reset or destroyed.  Some libraries discard the
 * completions of such a QP, and destroying a CQ discards completions that were not polled.
 * Then it would remain unknown that a lent receive was used.
 */
void vrd_ibv_lend_settle(struct vrd_ibv_qp *vq)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };

	if (!vq->has_lent)
		return;
	vq->has_lent = false;
	/*
	 * In ERR no message arrives any more.  A QP that is only reset is not moved to ERR,
	 * which would raise an event.
	 */
	if (vq->dead)
		ibv_modify_qp(vq->ibqp, &attr, IBV_QP_STATE);
	vrd_ibv_cq_drain(vq->recv_vcq);
}

/* ---- events ---------------------------------------------------------------------- */

void vrd_ibv_lend_run(struct vrd_srq *srq)
{
	vrd_lock(&srq->ring.lock);
	refill(srq);
	vrd_unlock(&srq->ring.lock);
}

/*
 * Handles the completion of a lent receive; @index is from its wr_id, @qp may be NULL.
 * Returns true if the guest gets the completion, with *@cookie.
 */
bool vrd_ibv_lend_returned(struct vrd_device *dev, uint32_t index, struct vrd_qp *qp,
			   uint32_t *cookie)
{
	struct vrd_srq *srq = vrd_table_find(&dev->srqs, index >> 8);
	bool known = qp && vrd_ibv_qp(qp) && vrd_qp_path(qp) == &vrd_ibv_path;
	uint32_t slot = index & 0xff;
	struct vrd_ibv_srq *vsrq;

	/* The SRQ was removed, but the host still has it. */
	if (!srq)
		return false;
	vsrq = vrd_ibv_srq(srq);
	vrd_lock(&srq->ring.lock);
	if (known || !post(srq, slot)) {
		*cookie = vsrq->lent[slot].wr.index;
		vsrq->lent[slot].used = false;
		vrd_srq_lent_used(srq);
	}
	refill(srq);
	vrd_unlock(&srq->ring.lock);
	return known;
}
