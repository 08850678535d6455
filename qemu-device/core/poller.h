/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pollers and the engine, as the control half of the core sees them.
 *
 * A poller is one thread.  What it looks at (rings, doorbell pages, timers) is
 * its own and has no locks: other threads send it messages, which it takes at the
 * start of a turn.  vrd_poller_send() and vrd_engine_visit() (transport.h) do not
 * wait for the answer.  The functions below wait; they are called by the control
 * or front-end thread of a device, with dev->lock held or not, but never under a
 * lock of lock.h, and never on a poller.
 */
#ifndef VRD_POLLER_H
#define VRD_POLLER_H

#include "transport.h"

/*
 * Before anything else uses @dev, after everything else is gone.  add gives
 * the device its home poller, which watches the doorbell kick.
 */
int vrd_engine_add_device(struct vrd_device *dev);
void vrd_engine_remove_device(struct vrd_device *dev);
/* @num more devices (or less) that vrd_device_destroy() left to their control threads. */
void vrd_engine_abandoned(struct vrd_engine *engine, int num);

/*
 * Chooses ctx->poller and has it scan the doorbell page, of which ctx->db is
 * the translation (NULL: nothing to scan until the next resume).  -ENOMEM.
 */
int vrd_poller_ctx_attach(struct vrd_ctx *ctx);
/* All QPs are detached.  After it the page is not touched any more. */
void vrd_poller_ctx_detach(struct vrd_ctx *ctx);

/*
 * All contexts, QPs and SRQs of the device at once: one message to each poller,
 * whatever their number.  After it no poller runs one of them or looks at a page.
 * Nobody detaches QPs and SRQs one by one any more; of each context ctx_free gives
 * the memory back.
 */
void vrd_poller_detach_all(struct vrd_device *dev);
void vrd_poller_detach_all_send(struct vrd_device *dev, struct vrd_visit *visit,
				void (*done)(struct vrd_visit *visit));
void vrd_poller_ctx_free(struct vrd_ctx *ctx);

/*
 * Sets qp->poller, and assigns sq.slot and rq.slot (VIRTIO_RDMA_NONE where
 * there is no ring); sq.need_db becomes 1, rq.need_db what rq.want_db says.
 * The rings' other fields, qp->ctx and both ctrl translations are set before.
 * -ENOMEM.
 */
int vrd_poller_qp_attach(struct vrd_qp *qp);
/* After it no poller runs the QP, and vrd_qp_schedule() ignores it. */
void vrd_poller_qp_detach(struct vrd_qp *qp);

/* The same for the ring of an SRQ, whose need_db becomes what want_db says; after
 * detach no transport sees the ring again.
 */
int vrd_poller_srq_attach(struct vrd_srq *srq);
void vrd_poller_srq_detach(struct vrd_srq *srq);

/* Initialises what qp.c, wqe.c and poller.c keep in a new QP: locks, links. */
void vrd_qp_init(struct vrd_qp *qp);

/*
 * For a transition to RESET, under both ring locks: empties the rings.  Both
 * sides start again at index 0.
 */
void vrd_qp_reset_rings(struct vrd_qp *qp);

/* Raises SRQ_LIMIT_REACHED if the armed limit is above what is posted; ring.lock. */
void vrd_srq_check_limit(struct vrd_srq *srq);

/* Lock and indices of a new CQ; buf, entries, offset and ctrl are the caller's. */
void vrd_cq_init(struct vrd_cq *cq);

/*
 * The eventfd that the guest's doorbell notifications signal, or -1.  Belongs
 * to the caller, who unwatches it before he closes it.  It is not drained.
 */
int vrd_poller_watch_kick(struct vrd_device *dev, int fd);
void vrd_poller_unwatch_kick(struct vrd_device *dev);

/*
 * Like vrd_poller_call(), for a function that only changes lists of the poller and makes no
 * work for it.  If the poller sleeps, it is not woken: the caller runs the
 * function in its place.
 */
void vrd_poller_call_quiet(struct vrd_poller *poller,
			   void (*fn)(struct vrd_poller *poller, void *arg), void *arg);

/* CLOCK_MONOTONIC */
uint64_t vrd_clock_ns(void);
/* The longest spin of a thread of the engine before it sleeps; 0: none. */
uint64_t vrd_engine_poll_ns(const struct vrd_engine *engine);

/* Wakes a poller if it sleeps; any thread. */
void vrd_poller_notify(struct vrd_poller *poller);

/* The poller that the calling thread is, or NULL. */
struct vrd_poller *vrd_poller_current(void);

#endif /* VRD_POLLER_H */
