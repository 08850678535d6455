/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pollers and the engine: the interface for the control path of the core.
 *
 * A poller is one thread.  It owns the rings, doorbell pages and timers that it polls,
 * without locks: other threads send it messages, which it handles at the start of a turn.
 * vrd_poller_send() and vrd_engine_visit() (transport.h) do not wait for the answer.  The
 * functions below wait.  They are called by the control or front end thread of a device,
 * with or without dev->lock, but never under a lock of lock.h, and never on a poller.
 */
#ifndef VRD_POLLER_H
#define VRD_POLLER_H

#include "transport.h"

struct vrd_spin_slots;

/*
 * Called before any other use of @dev, and after the last one.  vrd_engine_add_device()
 * assigns the device its home poller, which watches the doorbell kick.
 */
int vrd_engine_add_device(struct vrd_device *dev);
void vrd_engine_remove_device(struct vrd_device *dev);
/*
 * Adds @num (may be negative) to the number of devices that vrd_device_destroy() left to
 * their control threads.
 */
void vrd_engine_abandoned(struct vrd_engine *engine, int num);

/*
 * Chooses ctx->poller, which then scans the doorbell page.  ctx->db is its hva (NULL: no
 * scan until the next resume).  -ENOMEM.
 */
int vrd_poller_ctx_attach(struct vrd_ctx *ctx);
/* All QPs are detached.  Afterwards the page is not accessed any more. */
void vrd_poller_ctx_detach(struct vrd_ctx *ctx);

/*
 * Detaches all contexts, QPs and SRQs of the device with one message to each poller.
 * Afterwards no poller runs one of them or scans a page.  QPs and SRQs must not be detached
 * one by one after that.  For each QP the caller calls vrd_poller_qp_ignore().  For each
 * context vrd_poller_ctx_free() frees the memory.
 */
void vrd_poller_detach_all(struct vrd_device *dev);
void vrd_poller_detach_all_send(struct vrd_device *dev, struct vrd_visit *visit,
				void (*done)(struct vrd_visit *visit));
void vrd_poller_ctx_free(struct vrd_ctx *ctx);

/*
 * Sets qp->poller, and assigns sq.slot and rq.slot (VIRTIO_RDMA_NONE if there is no ring).
 * Sets sq.need_db to 1 and rq.need_db to rq.want_db.  The caller has set the other fields of
 * the rings, qp->ctx and both ctrl pointers.  -ENOMEM.
 */
int vrd_poller_qp_attach(struct vrd_qp *qp);
/* Afterwards no poller runs the QP, and vrd_qp_schedule() ignores it. */
void vrd_poller_qp_detach(struct vrd_qp *qp);
/*
 * Makes vrd_qp_schedule() ignore the QP.  For each QP after vrd_poller_detach_all(), before
 * the device gets a context again.  The QP may end much later, and its transport may
 * schedule it until then.
 */
void vrd_poller_qp_ignore(struct vrd_qp *qp);

/*
 * The same for the ring of an SRQ; its need_db is set to want_db.  After the detach no
 * transport sees the ring again.
 */
int vrd_poller_srq_attach(struct vrd_srq *srq);
void vrd_poller_srq_detach(struct vrd_srq *srq);

/* Initialises the fields of qp.c, wqe.c and poller.c in a new QP: locks, links. */
void vrd_qp_init(struct vrd_qp *qp);

/*
 * For a transition to RESET, under both ring locks: empties the rings.  Both sides start
 * again at index 0.
 */
void vrd_qp_reset_rings(struct vrd_qp *qp);

/* Raises SRQ_LIMIT_REACHED if fewer receives are posted than the armed limit; ring.lock. */
void vrd_srq_check_limit(struct vrd_srq *srq);

/* Initialises the lock and indices of a new CQ.  The caller sets buf, entries, offset and ctrl. */
void vrd_cq_init(struct vrd_cq *cq);

/*
 * Watches the eventfd that the guest's doorbell notifications signal, or -1.  The caller
 * owns it, and unwatches it before closing it.  It is not drained.
 */
int vrd_poller_watch_kick(struct vrd_device *dev, int fd);
void vrd_poller_unwatch_kick(struct vrd_device *dev);

/*
 * Like vrd_poller_call(), for a function that only changes lists of the poller and creates
 * no work for it.  If the poller sleeps, it is not woken: the caller runs the function
 * itself.
 */
void vrd_poller_call_quiet(struct vrd_poller *poller,
			   void (*fn)(struct vrd_poller *poller, void *arg), void *arg);

/* CLOCK_MONOTONIC */
uint64_t vrd_clock_ns(void);
/* Longest time that a thread of the engine spins before it sleeps; 0: none. */
uint64_t vrd_engine_poll_ns(const struct vrd_engine *engine);
/* The slots of control threads that spin. */
struct vrd_spin_slots *vrd_engine_spin_slots(struct vrd_engine *engine);
/* Number of pollers that do not sleep now; any thread. */
unsigned int vrd_engine_awake_pollers(const struct vrd_engine *engine);

/* Wakes a poller if it sleeps; any thread. */
void vrd_poller_notify(struct vrd_poller *poller);

/* The poller of the calling thread, or NULL. */
struct vrd_poller *vrd_poller_current(void);

#endif /* VRD_POLLER_H */
