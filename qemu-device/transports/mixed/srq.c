// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mixed transport: shared receive queues.
 *
 * The guest's ring is consumed by software.  While a QP on the host's path takes
 * from it, the host is lent some receives in advance, never more than are left,
 * and as soon as one has been used, it is lent another.  What is lent cannot be
 * called back, which shows in two ways: a message of the memory path may find
 * the queue empty although the host has some still; and a guest that keeps only
 * one receive posted may have lent that one.  For the limit they count as posted.
 *
 * A host's completion names what was lent (SRQ and slot), not the guest's cookie:
 * so one whose QP is gone, of which the guest learns nothing, is lent again.
 *
 * Poller of the context, but for the life of SRQs (control thread, dev->lock).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mix.h"

static struct vrd_mix_srq *vrd_mix_srq(const struct vrd_srq *srq)
{
	return vrd_ibv_srq(srq)->mix;
}

/* ---- life ------------------------------------------------------------------- */

int vrd_mix_srq_create(struct vrd_srq *srq)
{
	struct vrd_mix_srq *mix = calloc(1, sizeof(*mix));
	int ret;

	if (!mix)
		return -ENOMEM;
	mix->window = srq->ring.entries / 2;
	if (mix->window > VRD_MIX_WINDOW)
		mix->window = VRD_MIX_WINDOW;
	if (!mix->window)
		mix->window = 1;
	ret = vrd_mem_srq_create(srq);
	if (ret)
		goto free;
	ret = vrd_ibv_srq_create(srq);
	if (ret)
		goto free_mem;
	srq->ring.want_db = false;
	vrd_ibv_srq(srq)->mix = mix;
	return 0;
free_mem:
	vrd_mem_srq_free(srq);
free:
	free(mix);
	return ret;
}

void vrd_mix_srq_destroy(struct vrd_srq *srq)
{
	vrd_mem_srq_destroy(srq);
	vrd_ibv_srq_destroy(srq);
}

void vrd_mix_srq_free(struct vrd_srq *srq)
{
	struct vrd_mix_srq *mix = vrd_mix_srq(srq);

	vrd_mem_srq_free(srq);
	vrd_ibv_srq_free(srq);
	free(mix->lent);
	free(mix);
}

/* ---- lending: ring.lock --------------------------------------------------------- */

/* False: the host does not take it. */
static bool post(struct vrd_srq *srq, uint32_t slot)
{
	const struct vrd_mix_lent *lent = &vrd_mix_srq(srq)->lent[slot];
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
		/* Memory of another PD, so that no message fits without an error. */
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

/* One more; false: there is none to be lent. */
static bool lend_one(struct vrd_srq *srq)
{
	struct vrd_mix_srq *mix = vrd_mix_srq(srq);
	struct vrd_mix_lent *lent;
	enum vrd_fetch fetch;
	uint32_t slot = 0;

	/* The first one always, then no more than stay behind. */
	if (srq->lent == mix->window || (srq->lent && vrd_srq_posted(srq) <= srq->lent))
		return false;
	while (mix->lent[slot].used)
		slot++;
	lent = &mix->lent[slot];
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

/* While there is room for more, posts ring. */
static void refill(struct vrd_srq *srq)
{
	struct vrd_mix_srq *mix = vrd_mix_srq(srq);

	if (!mix->host_qps)
		return;
	for (;;) {
		while (lend_one(srq))
			;
		if (srq->lent == mix->window || srq->ring.want_db || srq->error)
			return;
		/* One may just have been posted. */
		vrd_srq_want_doorbell(srq, true);
	}
}

int vrd_mix_srq_lend(struct vrd_qp *qp)
{
	struct vrd_srq *srq = qp->srq;
	struct vrd_mix_srq *mix = vrd_mix_srq(srq);
	int ret = 0;

	vrd_lock(&qp->rq.lock);
	vrd_lock(&srq->ring.lock);
	if (!mix->lent)
		mix->lent = calloc(mix->window, sizeof(mix->lent[0]));
	if (!mix->lent) {
		ret = -ENOMEM;
	} else if (!vrd_mix_qp(qp)->lends) {
		vrd_mix_qp(qp)->lends = true;
		vrd_mix_qp(qp)->lent = true;
		mix->host_qps++;
		refill(srq);
	}
	vrd_unlock(&srq->ring.lock);
	vrd_unlock(&qp->rq.lock);
	return ret;
}

void vrd_mix_srq_unlend(struct vrd_qp *qp)
{
	struct vrd_srq *srq = qp->srq;

	if (!srq || !vrd_mix_qp(qp)->lends)
		return;
	vrd_mix_qp(qp)->lends = false;
	vrd_lock(&srq->ring.lock);
	vrd_mix_srq(srq)->host_qps--;
	vrd_unlock(&srq->ring.lock);
}

/*
 * Some libraries throw away what completed on a QP that is reset or destroyed, and a
 * CQ that goes takes along what nobody looked at: what was lent would never be known
 * to be back.
 */
void vrd_mix_srq_settle(struct vrd_qp *qp)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);

	if (!vrd_mix_qp(qp)->lent)
		return;
	vrd_mix_qp(qp)->lent = false;
	/* No message comes then any more; one that lives on would hear an event of it. */
	if (vq->dead)
		ibv_modify_qp(vq->ibqp, &attr, IBV_QP_STATE);
	vrd_ibv_cq_drain(vq->recv_vcq);
}

/* ---- events ---------------------------------------------------------------------- */

void vrd_mix_srq_run(struct vrd_srq *srq)
{
	vrd_mem_srq_run(srq);
	vrd_lock(&srq->ring.lock);
	refill(srq);
	vrd_unlock(&srq->ring.lock);
}

bool vrd_mix_returned(struct vrd_device *dev, uint32_t index, struct vrd_qp *qp, uint32_t *cookie)
{
	struct vrd_srq *srq = vrd_table_find(&dev->srqs, index >> 8);
	bool heard = qp && qp->host && vrd_mix_path(qp) == VRD_MIX_HOST;
	uint32_t slot = index & 0xff;
	struct vrd_mix_srq *mix;

	/* Not there any more, and the host does not know yet. */
	if (!srq)
		return false;
	mix = vrd_mix_srq(srq);
	vrd_lock(&srq->ring.lock);
	if (heard || !post(srq, slot)) {
		*cookie = mix->lent[slot].wr.index;
		mix->lent[slot].used = false;
		vrd_srq_lent_used(srq);
	}
	refill(srq);
	vrd_unlock(&srq->ring.lock);
	return heard;
}
