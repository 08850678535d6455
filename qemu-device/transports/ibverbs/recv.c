// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: receives.  The guest rings the doorbell for each list that it posts
 * (need_db is always set).  The receives are posted to the host at once and in order: the
 * host must have them before a message arrives.
 *
 * Poller of the context, except for the life of SRQs (control thread, dev->lock).
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ibv.h"
#include "log.h"

/* Receives of one ring that are processed in one turn. */
#define BUDGET		256

/* One call of ibv_post_recv(); on the stack. */
struct chain {
	unsigned int num, num_sges;
	struct ibv_recv_wr wr[VRD_IBV_CHAIN];
	struct ibv_sge sge[VRD_IBV_CHAIN_SGES];
};

static void add(struct chain *c, const struct vrd_recv_wr *wr, uint64_t wr_id)
{
	struct ibv_recv_wr *to = &c->wr[c->num];

	*to = (struct ibv_recv_wr){
		.wr_id = wr_id,
		.sg_list = &c->sge[c->num_sges],
		.num_sge = (int)wr->num_sge,
	};
	for (unsigned int i = 0; i < wr->num_sge; i++)
		c->sge[c->num_sges++] = (struct ibv_sge){
			.addr = wr->sge[i].addr,
			.length = wr->sge[i].length,
			.lkey = wr->sge[i].lkey,
		};
	if (c->num++)
		c->wr[c->num - 2].next = to;
}

/*
 * Adds a receive for a malformed entry: its memory is of another protection domain, so every
 * message fails with an error.
 */
static void add_failing(struct chain *c, const struct vrd_ibv_dev *vdev, uint64_t wr_id)
{
	struct vrd_recv_wr wr = {
		.num_sge = 1,
		.sge = { { (uintptr_t)vdev->own_bytes, sizeof(vdev->own_bytes),
			   vdev->own_mr->lkey } },
	};

	add(c, &wr, wr_id);
}

static bool is_full(const struct chain *c)
{
	return c->num == VRD_IBV_CHAIN || c->num_sges + VRD_MAX_SGE > VRD_IBV_CHAIN_SGES;
}

/* ---- receive queues ------------------------------------------------------------ */

/* Returns false if the host did not take all; head was moved back, and the QP is scheduled. */
static bool post(struct vrd_qp *qp, struct chain *c)
{
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);
	struct ibv_recv_wr *bad = NULL;
	int ret;

	if (!c->num)
		return true;
	vrd_ibv_cq_expect(vq->recv_vcq);
	ret = ibv_post_recv(vq->ibqp, c->wr, &bad);
	if (!ret) {
		vq->rq_lent += c->num;
		return true;
	}
	vq->rq_lent += (uint32_t)(bad - c->wr);
	qp->rq.head -= c->num - (uint32_t)(bad - c->wr);
	if (ret != ENOMEM) {
		vrd_dev_log(qp->dev, VRD_LOG_WARN, "QP %u: the host takes no receive: %s", qp->qpn,
			    strerror(ret));
		vrd_qp_error(qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_RQ);
	}
	atomic_store(&vq->rq_due, true);
	vrd_timer_set(qp->poller, &vq->timer, vrd_poller_now(qp->poller) + VRD_IBV_RETRY_NS);
	return false;
}

static void run_locked(struct vrd_qp *qp)
{
	uint32_t generation = vrd_ibv_qp(qp)->generation;
	unsigned int budget = BUDGET;
	struct vrd_recv_wr wr;
	struct chain c;

	c.num = c.num_sges = 0;
	while (budget--) {
		enum vrd_fetch fetch = vrd_rq_take(qp, &wr);
		uint64_t wr_id = vrd_ibv_wr_id(VRD_IBV_RECV, generation, wr.index);

		if (fetch == VRD_FETCH_EMPTY || qp->rq.broken) {
			post(qp, &c);
			if (qp->rq.broken)
				vrd_qp_error(qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_RQ);
			return;
		}
		if (fetch == VRD_FETCH_OK) {
			add(&c, &wr, wr_id);
			vrd_ibv_place_set(vrd_ibv_qp(qp)->places, &wr);
		} else {
			add_failing(&c, vrd_ibv_dev(qp->dev), wr_id);
		}
		if (is_full(&c)) {
			if (!post(qp, &c))
				return;
			c.num = c.num_sges = 0;
		}
	}
	if (post(qp, &c)) {
		atomic_store(&vrd_ibv_qp(qp)->rq_due, true);
		vrd_qp_schedule(qp);
	}
}

/*
 * In ERR no more receives are posted to the host.  The host's receives complete as flushed,
 * then the others are flushed here.  (Soft-RoCE ignores receives that are posted in ERR.)
 */
static void flush_locked(struct vrd_qp *qp)
{
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);

	if (!vq->rq_lent && atomic_load(&vq->flushing) && !vrd_rq_flush(qp, BUDGET))
		return;
	/* The last completion, the worker or another turn continues. */
	atomic_store(&vq->rq_due, true);
	if (!vq->rq_lent && atomic_load(&vq->flushing))
		vrd_qp_schedule(qp);
}

void vrd_ibv_rq_run(struct vrd_qp *qp)
{
	/* The host has bounce receives instead: bounce.c. */
	if (vrd_ibv_qp(qp)->shared) {
		atomic_store(&vrd_ibv_qp(qp)->rq_due, false);
		return;
	}
	if (qp->srq) {
		/* A post to the SRQ may serve any of its QPs, so this CQ may get the completion. */
		vrd_ibv_cq_expect(vrd_ibv_qp(qp)->recv_vcq);
		atomic_store(&vrd_ibv_qp(qp)->rq_due, false);
		return;
	}
	if (!qp->rq.entries)
		return;
	/* The control thread holds the lock: schedule the QP and try again in its next turn. */
	if (!vrd_lock_try(&qp->rq.lock)) {
		atomic_store(&vrd_ibv_qp(qp)->rq_due, true);
		vrd_qp_schedule(qp);
		return;
	}
	/* IBTA 10.3.1: no receives can be posted in RESET. */
	if (qp->state != VIRTIO_RDMA_QPS_RESET && !vrd_ibv_qp(qp)->dead &&
	    vrd_ibv_qp(qp)->carries) {
		atomic_store(&vrd_ibv_qp(qp)->rq_due, false);
		if (qp->state == VIRTIO_RDMA_QPS_ERR)
			flush_locked(qp);
		else if (vrd_rq_has_work(qp))
			run_locked(qp);
	}
	vrd_unlock(&qp->rq.lock);
}

/* ---- shared receive queues ---------------------------------------------------------- */

int vrd_ibv_srq_create(struct vrd_srq *srq)
{
	struct vrd_ibv_srq *vsrq = calloc(1, sizeof(*vsrq));
	struct ibv_srq_init_attr init = {
		.srq_context = srq,
		.attr = { .max_wr = srq->ring.entries, .max_sge = srq->max_sge ? srq->max_sge : 1 },
	};
	int ret;

	if (!vsrq)
		return -ENOMEM;
	vsrq->srq = srq;
	errno = 0;
	vsrq->ibsrq = ibv_create_srq(srq->pd->priv[VRD_SLOT_IBVERBS], &init);
	if (!vsrq->ibsrq) {
		ret = vrd_ibv_errno(errno ? errno : EIO);
		free(vsrq);
		return ret;
	}
	vrd_ibv_lend_init(vsrq);
	/*
	 * Either each post is passed on to the host, or lend.c asks for doorbells when it needs
	 * more.
	 */
	srq->ring.want_db = !srq->dev->several;
	srq->priv[VRD_SLOT_IBVERBS] = vsrq;
	return 0;
}

int vrd_ibv_srq_modify(struct vrd_srq *srq, uint32_t limit)
{
	struct ibv_srq_attr attr = { .srq_limit = limit };

	if (srq->dev->several)
		return -EOPNOTSUPP;
	return vrd_ibv_errno(ibv_modify_srq(vrd_ibv_srq(srq)->ibsrq, &attr, IBV_SRQ_LIMIT));
}

int vrd_ibv_srq_query(struct vrd_srq *srq, uint32_t *limit)
{
	struct ibv_srq_attr attr = { 0 };
	int ret;

	if (srq->dev->several)
		return -EOPNOTSUPP;
	ret = ibv_query_srq(vrd_ibv_srq(srq)->ibsrq, &attr);
	*limit = attr.srq_limit;
	return vrd_ibv_errno(ret);
}

void vrd_ibv_srq_destroy(struct vrd_srq *srq)
{
	(void)srq;	/* the poller has dropped it, and its QPs are gone */
}

void vrd_ibv_srq_free(struct vrd_srq *srq)
{
	struct vrd_ibv_srq *vsrq = vrd_ibv_srq(srq);
	int ret = ibv_destroy_srq(vsrq->ibsrq);

	if (ret)
		vrd_dev_log(srq->dev, VRD_LOG_ERROR, "the host keeps a shared receive queue: %s",
			    strerror(ret));
	free(vsrq->lent);
	free(vsrq->places);
	free(vsrq);
	srq->priv[VRD_SLOT_IBVERBS] = NULL;
}

/* Returns false if the host did not take all; head was moved back. */
static bool post_srq(struct vrd_srq *srq, struct chain *c)
{
	struct ibv_recv_wr *bad = NULL;
	int ret;

	if (!c->num)
		return true;
	ret = ibv_post_srq_recv(vrd_ibv_srq(srq)->ibsrq, c->wr, &bad);
	if (!ret)
		return true;
	srq->ring.head -= c->num - (uint32_t)(bad - c->wr);
	vrd_dev_log(srq->dev, VRD_LOG_WARN, "SRQ %u: the host takes no receive: %s", srq->srqn,
		    strerror(ret));
	return false;
}

void vrd_ibv_srq_run(struct vrd_srq *srq)
{
	struct vrd_recv_wr wr;
	struct chain c;

	if (srq->dev->several) {
		vrd_ibv_lend_run(srq);
		return;
	}
	vrd_lock(&srq->ring.lock);
	c.num = c.num_sges = 0;
	/* At most as many as the ring has entries: bounds the loop. */
	for (uint32_t left = srq->ring.entries; left; left--) {
		enum vrd_fetch fetch = vrd_srq_peek(srq, &wr);
		uint64_t wr_id = vrd_ibv_wr_id(VRD_IBV_SRQ_RECV, 0, wr.index);

		if (fetch != VRD_FETCH_OK && fetch != VRD_FETCH_BAD)
			break;
		vrd_srq_advance(srq);
		if (fetch == VRD_FETCH_OK) {
			add(&c, &wr, wr_id);
			vrd_ibv_place_set(vrd_ibv_srq(srq)->places, &wr);
		} else {
			add_failing(&c, vrd_ibv_dev(srq->dev), wr_id);
		}
		if (is_full(&c)) {
			bool taken = post_srq(srq, &c);

			/* The receives that the host did not take are on the ring again. */
			c.num = c.num_sges = 0;
			if (!taken)
				break;
		}
	}
	post_srq(srq, &c);
	vrd_unlock(&srq->ring.lock);
}
