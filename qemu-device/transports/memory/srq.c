// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: shared receive queues.
 *
 * The responder takes the receives (core/responder.c).  A reliable sender that finds no
 * receive waits in the SRQ's list.  The next post rings the doorbell, and all senders of the
 * list try again, in the order of their arrival.  Senders that get no receive keep their
 * places, ahead of the one that got a receive and needs another.
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
 * The SRQ's QPs were removed a grace period ago, so no sender is added to the list any more.
 * Senders in the list will find that their peer is gone.
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

/* The driver has posted receives, and senders may wait for them. */
void vrd_mem_srq_run(struct vrd_srq *srq)
{
	vrd_lock(&srq->ring.lock);
	/* Without want_db the guest rang needlessly: no sender is scheduled. */
	if (srq->ring.want_db) {
		vrd_srq_want_doorbell(srq, false);
		vrd_mem_retry_parked(vrd_mem_srq_fabric(srq), &vrd_mem_srq(srq)->starved);
	}
	vrd_unlock(&srq->ring.lock);
}

/*
 * The sender found no receive, and the responder has asked for a doorbell.  If the doorbell
 * was rung since then, no further post may follow: try again at once.
 */
void vrd_mem_srq_park(struct vrd_mem_qp *mq, struct vrd_srq *srq)
{
	bool rung;

	vrd_mem_park(mq, &vrd_mem_srq(srq)->starved);
	vrd_lock(&srq->ring.lock);
	rung = !srq->ring.want_db;
	vrd_unlock(&srq->ring.lock);
	if (rung)
		vrd_qp_schedule(mq->qp);
}
