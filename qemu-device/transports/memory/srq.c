// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: shared receive queues.
 *
 * Who needs a receive holds the rq.lock of its QP and takes the SRQ's ring.lock
 * for the moment.  A reliable sender that finds the queue empty waits in the
 * SRQ's list; the next post rings, and has all of them try again, in the order in
 * which they came.  Those that get no receive keep their places, before the one
 * that got it and wants the next.
 */
#include <errno.h>
#include <stdlib.h>

#include "memory.h"

struct vrd_mem_srq {
	struct vrd_mem_parked starved;	/* senders that wait for a receive; fabric.lock */
};

static struct vrd_mem_srq *vrd_mem_srq(const struct vrd_srq *srq)
{
	return srq->priv[VRD_SLOT_MEMORY];
}

static struct vrd_mem_fabric *vrd_mem_srq_fabric(const struct vrd_srq *srq)
{
	return vrd_mem_port(srq->dev)->fabric;
}

int vrd_mem_srq_create(struct vrd_srq *srq)
{
	struct vrd_mem_srq *msrq = calloc(1, sizeof(*msrq));

	if (!msrq)
		return -ENOMEM;
	TAILQ_INIT(&msrq->starved);
	srq->priv[VRD_SLOT_MEMORY] = msrq;
	return 0;
}

/*
 * Its QPs are gone for a grace period, so nobody comes into the list any more;
 * who is in it will find that its peer is gone.
 */
void vrd_mem_srq_destroy(struct vrd_srq *srq)
{
	vrd_mem_wake_parked(vrd_mem_srq_fabric(srq), &vrd_mem_srq(srq)->starved);
}

void vrd_mem_srq_free(struct vrd_srq *srq)
{
	free(vrd_mem_srq(srq));
	srq->priv[VRD_SLOT_MEMORY] = NULL;
}

/* Receives were posted, and senders may wait for them. */
void vrd_mem_srq_run(struct vrd_srq *srq)
{
	vrd_lock(&srq->ring.lock);
	/* (If not, the guest rang for nothing, and disturbs nobody else.) */
	if (srq->ring.want_db) {
		vrd_srq_want_doorbell(srq, false);
		vrd_mem_retry_parked(vrd_mem_srq_fabric(srq), &vrd_mem_srq(srq)->starved);
	}
	vrd_unlock(&srq->ring.lock);
}

/* The peer, which is locked, cannot have a receive any more. */
enum vrd_mem_step vrd_mem_srq_dead(struct vrd_mem_burst *b)
{
	vrd_event_raise(b->peer->dev, VIRTIO_RDMA_EVENT_QP_FATAL, b->peer->qpn);
	return vrd_mem_peer_failed(b, VIRTIO_RDMA_WC_REM_OP_ERR);
}

/*
 * Takes a receive for the locked peer of a connected QP; *@taken tells whether
 * there was one.  DONE, or what became of the request.
 */
enum vrd_mem_step vrd_mem_srq_take(struct vrd_mem_burst *b, struct vrd_recv_wr *recv, bool *taken)
{
	struct vrd_srq *srq = b->peer->srq;
	enum vrd_mem_step step = VRD_MEM_DONE;
	enum vrd_fetch fetch;

	vrd_lock(&srq->ring.lock);
	fetch = vrd_srq_take(srq, recv);
	if (fetch == VRD_FETCH_EMPTY && vrd_mem_is_rc(b->qp)) {
		/* Have the next post tell us; one may just have been made. */
		if (!srq->ring.want_db) {
			vrd_srq_want_doorbell(srq, true);
			fetch = vrd_srq_take(srq, recv);
		}
		/* Under the lock, or vrd_mem_srq_run() could come before. */
		if (fetch == VRD_FETCH_EMPTY) {
			step = vrd_mem_wait_rnr(b);
			if (step == VRD_MEM_WAIT)
				vrd_mem_park(b->mq, &vrd_mem_srq(srq)->starved);
		}
	}
	vrd_unlock(&srq->ring.lock);

	*taken = fetch == VRD_FETCH_OK;
	if (fetch == VRD_FETCH_BAD)
		return vrd_mem_recv_bad(b, recv);
	if (fetch == VRD_FETCH_DEAD)
		return vrd_mem_srq_dead(b);
	return step;
}

/*
 * A datagram's receive is only looked at until it is known to fit: unless the
 * queue is empty or dead, vrd_mem_srq_decide() has to follow, and the queue
 * stays locked meanwhile, for the time that it takes to copy 4 KiB.
 */
enum vrd_fetch vrd_mem_srq_peek(struct vrd_srq *srq, struct vrd_recv_wr *recv)
{
	enum vrd_fetch fetch;

	vrd_lock(&srq->ring.lock);
	fetch = vrd_srq_peek(srq, recv);
	if (fetch == VRD_FETCH_EMPTY || fetch == VRD_FETCH_DEAD)
		vrd_unlock(&srq->ring.lock);
	return fetch;
}

void vrd_mem_srq_decide(struct vrd_srq *srq, bool take)
{
	if (take)
		vrd_srq_advance(srq);
	vrd_unlock(&srq->ring.lock);
}

/*
 * The QP is reset or destroyed, rq.lock: a receive that a message holds would be
 * lost to the SRQ, of which the driver knows only what is completed.  (It throws
 * the completion away with the QP's others, and has the entry back.)
 */
void vrd_mem_srq_give_back(struct vrd_qp *qp)
{
	struct vrd_mem_recv *held = vrd_mem_qp(qp)->recv;

	if (!qp->srq || !held || !held->active)
		return;
	held->active = false;
	vrd_mem_complete_recv(qp, &held->wr, VIRTIO_RDMA_WC_WR_FLUSH_ERR);
}
