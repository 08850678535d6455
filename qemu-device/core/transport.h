/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interface between the core and its transports: the part that the core provides.  The
 * part that transports provide is in transport_ops.h.
 *
 * A transport carries the messages of queue pairs.  The core owns commands, objects, rings,
 * completion delivery and threads.  It also decides which transport carries which traffic
 * (transports.c for a device, path.c for a QP).
 */
#ifndef VRD_TRANSPORT_H
#define VRD_TRANSPORT_H

#include <endian.h>

#include "fastreg.h"
#include "key.h"
#include "objects.h"
#include "transport_ops.h"
#include "reclaim.h"

struct vrd_sge {
	uint64_t addr;
	uint32_t length;
	uint32_t lkey;
};

/*
 * A request to the responder.  Within this process it is a part of the requester's WQE; a
 * transport that uses packets takes it from their headers.
 */
struct vrd_request {
	uint8_t opcode;			/* VIRTIO_RDMA_WR_*, allowed on this QP type */
	uint16_t flags;			/* VIRTIO_RDMA_WQE_*; the responder uses SOLICITED */
	uint32_t imm;			/* wire order; LOCAL_INV and SEND_WITH_INV: the key, in
					 * CPU order */
	uint32_t length;		/* bytes of the message */
	struct vrd_sge range;		/* RDMA, atomics: the responder's memory; lkey is the
					 * rkey */
	uint64_t swap_add, compare;	/* atomics */
};

/* A work request: a checked copy of a send WQE.  No field is read from shared memory again. */
struct vrd_wr {
	uint32_t index;			/* producer index: goes into the CQE */
	struct vrd_request req;
	bool length_ok;			/* false: the length exceeds max_msg_sz, and req.length
					 * is not valid */
	uint8_t num_sge;		/* at most the QP's max_send_sge; 0 with WQE_INLINE */
	uint16_t pkey_index;		/* UD, GSI */
	struct virtio_rdma_av av;	/* UD, GSI */
	union {
		struct vrd_sge sge[VRD_MAX_SGE];
		uint8_t inline_data[VRD_MAX_INLINE];	/* req.length bytes with WQE_INLINE */
		struct vrd_fast_reg reg;		/* REG_MR */
	};
};

struct vrd_recv_wr {
	uint32_t index;			/* for the CQE: producer index, or the cookie (SRQ) */
	uint32_t num_sge;
	uint64_t length;		/* sum of the SGE lengths */
	struct vrd_sge sge[VRD_MAX_SGE];
};

enum vrd_fetch {
	VRD_FETCH_EMPTY,
	VRD_FETCH_OK,
	VRD_FETCH_SPECIAL,		/* vrd_sq_fetch(): as OK; one of VRD_WR_SPECIAL (wqe.h) */
	VRD_FETCH_BAD,			/* malformed: wr->index is valid, nothing else */
	VRD_FETCH_DEAD,			/* the SRQ has failed: there is no receive */
};

/* --- rings (wqe.c) --- */

/*
 * Copies and checks the WQE at sq.head and leaves it on the ring; vrd_sq_advance() removes
 * it.  sq.lock is held.  An impossible producer index gives BAD and sets sq.broken.
 */
enum vrd_fetch vrd_sq_peek(struct vrd_qp *qp, struct vrd_wr *wr);
/*
 * A transport that calls vrd_sq_fetch() (wqe.h) instead of vrd_sq_peek() calls vrd_sq_long()
 * before it carries out a request of VRD_LONG_BYTES or more.  It also adds all bytes that a
 * burst moves to qp->sched.moved.
 */
void vrd_sq_long(struct vrd_qp *qp, uint32_t length);
#define VRD_LONG_BYTES		4096U

static inline void vrd_sq_advance(struct vrd_qp *qp)
{
	qp->sq.head++;
}
/* True if the send ring has entries; reads the producer index. */
bool vrd_sq_has_work(struct vrd_qp *qp);

/* Takes the next receive off the ring; rq.lock is held. */
enum vrd_fetch vrd_rq_take(struct vrd_qp *qp, struct vrd_recv_wr *wr);
/* True if a receive is posted; rq.lock is held. */
bool vrd_rq_has_work(struct vrd_qp *qp);

/*
 * Enables or disables doorbells (dirty bytes) for a receive ring: sets its need_db.  After
 * enabling them the caller must check the ring once; a full barrier is included.
 */
void vrd_rq_want_doorbell(struct vrd_qp *qp, bool want);

/*
 * The same for an SRQ; its ring.lock is held.  vrd_srq_peek() leaves the receive on the
 * ring.  vrd_srq_advance() removes it, and raises SRQ_LIMIT_REACHED if the limit is reached
 * (see srq_modify).  BAD: the cookie is valid; the caller removes the receive and completes
 * it with an error.  DEAD: the producer index is impossible, or a page is not RAM any more;
 * SRQ_ERR has been raised, and the QP that needed the receive goes to ERR.
 */
enum vrd_fetch vrd_srq_peek(struct vrd_srq *srq, struct vrd_recv_wr *wr);
void vrd_srq_advance(struct vrd_srq *srq);
static inline enum vrd_fetch vrd_srq_take(struct vrd_srq *srq, struct vrd_recv_wr *wr)
{
	enum vrd_fetch fetch = vrd_srq_peek(srq, wr);

	if (fetch == VRD_FETCH_OK || fetch == VRD_FETCH_BAD)
		vrd_srq_advance(srq);
	return fetch;
}
/* Number of receives that are posted and not taken at this moment. */
uint32_t vrd_srq_posted(struct vrd_srq *srq);
/* A receive that was taken in advance (counted in srq->lent) has been used or returned. */
void vrd_srq_lent_used(struct vrd_srq *srq);
bool vrd_srq_has_work(struct vrd_srq *srq);
void vrd_srq_want_doorbell(struct vrd_srq *srq, bool want);

/*
 * Removes all entries from a ring and completes them with WR_FLUSH_ERR, in order, at most
 * @budget entries.  Returns true if entries are left.  The ring's lock is held.
 */
bool vrd_sq_flush(struct vrd_qp *qp, unsigned int budget);
bool vrd_rq_flush(struct vrd_qp *qp, unsigned int budget);

/* --- paths (path.c) --- */

/*
 * For sq_run() of a QP with qp->send_path, which chooses a path for each datagram: true if
 * @wr, which is at sq.head, uses the path that is running.  If not, sq_run() ends and leaves
 * @wr on the ring.  sq.lock is held.
 */
bool vrd_path_carries(struct vrd_qp *qp, const struct vrd_wr *wr);
/* Delivers a datagram into the guest's next receive: see vrd_path_ops. */
void vrd_path_deliver(struct vrd_qp *qp, uint8_t *data, uint32_t length,
		      struct virtio_rdma_cqe *cqe);

/* --- completions (cq.c) --- */

/*
 * Writes a CQE and sets its phase.  Writes an event if the CQ is armed for it; @solicited:
 * the receive meets the event condition "solicited" (errors always do).  Takes cq->lock.  On
 * overflow the CQE is lost, the CQ goes to the error state, CQ_ERR is raised, and the
 * pollers of the CQ's QPs move them to ERR.
 */
void vrd_cq_post(struct vrd_cq *cq, const struct virtio_rdma_cqe *cqe, bool solicited);

/*
 * A send WQE has succeeded.  Makes a CQE if the WQE was signaled; it is written at the end
 * of the burst.  @byte_len counts for READ and atomics.  Runs on the QP's poller under
 * sq.lock.
 */
void vrd_complete_signaled(struct vrd_qp *qp, const struct vrd_wr *wr, uint32_t byte_len);

static inline void vrd_complete_send(struct vrd_qp *qp, const struct vrd_wr *wr, uint32_t byte_len)
{
	if (wr->req.flags & VIRTIO_RDMA_WQE_SIGNALED)
		vrd_complete_signaled(qp, wr, byte_len);
}

/* A send WQE has failed.  Always makes a CQE, which is written at once. */
void vrd_complete_send_error(struct vrd_qp *qp, const struct vrd_wr *wr, uint8_t status);
/*
 * A CQE for a receive of a burst on @poller, staged like those of sends.  The caller fills
 * all of the returned CQE at once.  vrd_cq_flush_receives() writes the staged CQEs; call it
 * before the rq.lock that is held is released.
 */
struct virtio_rdma_cqe *vrd_complete_recv(struct vrd_poller *poller, struct vrd_cq *cq,
					  bool solicited);
void vrd_cq_flush_receives(struct vrd_poller *poller);

/* SRQ number for the CQEs of the QP's receives, little-endian; 0 if the QP has no SRQ. */
static inline uint32_t vrd_qp_srqn(const struct vrd_qp *qp)
{
	return qp->srq ? htole32(qp->srq->srqn) : 0;
}

/* --- memory (key.h: what a key gives access to; mr.c, mem.c) --- */

/*
 * Returns the hva of @addr in a region that vrd_mr_find() returned.  *@run is set to the
 * number of bytes that are contiguous from there, at most @length.  NULL: under the current
 * memory table the page is not RAM, or @write is set and the page is not writable.
 *
 * *@cursor caches the run of pages that contains @addr.  A caller that walks through a
 * region passes the same cursor again, which avoids a search.  Any initial value is valid.
 */
void *vrd_mr_at_cursor(struct vrd_device *dev, const struct vrd_mr *mr, uint64_t addr,
		       uint64_t length, bool write, uint64_t *run, uint32_t *cursor);

static inline void *vrd_mr_at(struct vrd_device *dev, const struct vrd_mr *mr, uint64_t addr,
			      uint64_t length, bool write, uint64_t *run)
{
	uint32_t cursor = 0;

	return vrd_mr_at_cursor(dev, mr, addr, length, write, run, &cursor);
}

/* Number of mappings of guest memory that all transports have made beside the core's. */
_Atomic uint64_t *vrd_engine_alias_maps(struct vrd_engine *engine);
/* True if @match returns true for any device.  The engine's lock is held during the calls. */
bool vrd_engine_any_device(struct vrd_engine *engine,
			   bool (*match)(const struct vrd_device *dev, const void *opaque),
			   const void *opaque);
/* Number of devices of the engine at this moment. */
unsigned int vrd_engine_device_count(struct vrd_engine *engine);

/* --- events (event.c) --- */

void vrd_event_raise(struct vrd_device *dev, uint32_t type, uint32_t id);

/* --- scheduling (poller.c) --- */

/* Makes the QP's poller run its send queue soon.  From any thread, under any lock. */
void vrd_qp_schedule(struct vrd_qp *qp);

/*
 * Timers run on the poller on which they were set, without locks.  They may be set and
 * cancelled from any thread.  vrd_timer_cancel_sync() returns when the function is not
 * running any more; do not call it on the poller itself or under locks of the poller.
 */
void vrd_timer_set(struct vrd_poller *poller, struct vrd_timer *timer, uint64_t deadline_ns);
void vrd_timer_cancel(struct vrd_timer *timer);
void vrd_timer_cancel_sync(struct vrd_timer *timer);

/* The pollers of an engine, and the index of a poller. */
unsigned int vrd_engine_poller_count(const struct vrd_engine *engine);
struct vrd_poller *vrd_engine_poller(const struct vrd_engine *engine, unsigned int index);
unsigned int vrd_poller_index(const struct vrd_poller *poller);

/* The counters of @dev for the poller with this index. */
static inline struct vrd_counters *vrd_counters(const struct vrd_device *dev, unsigned int poller)
{
	return &dev->counters[poller];
}

/* vrd_stat_add() with a plain store.  Only on the poller that owns @counters. */
static inline void vrd_count(struct vrd_counters *counters, unsigned int stat, uint64_t n)
{
	_Atomic uint64_t *counter = &counters->n[stat];

	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/*
 * Messages: functions that run on a poller at the start of a turn, without a lock, in the
 * order in which they were sent.  They must be short, must not wait and must not take
 * dev->lock.
 *
 * The sender owns the memory of a message, which is in use until @fn is called.  @fn may
 * send the message again, free it, or return it to the sender.
 */
struct vrd_message {
	void (*fn)(struct vrd_poller *poller, struct vrd_message *msg);
	struct vrd_message *next;	/* poller.c */
};

/* Sends @msg without waiting.  From any thread, under any lock except a leaf. */
void vrd_poller_send(struct vrd_poller *poller, struct vrd_message *msg);

/*
 * A message that goes to each poller of an engine, one after the other.  The caller sets
 * @fn, @done and @arg.  @done runs on the last poller, after @fn.  The caller may use the
 * memory again from the call of @done on.
 */
struct vrd_visit {
	struct vrd_message msg;		/* first: poller.c */
	void (*fn)(struct vrd_poller *poller, void *arg);
	void (*done)(struct vrd_visit *visit);
	void *arg;
	struct vrd_engine *engine;
	unsigned int next;
};
void vrd_engine_visit(struct vrd_engine *engine, struct vrd_visit *visit);
/* The same, but waits.  Not on a poller. */
void vrd_engine_call_all(struct vrd_engine *engine,
			 void (*fn)(struct vrd_poller *poller, void *arg), void *arg);

/*
 * Runs @fn on the poller between two turns and waits for it.  The caller holds no lock of
 * lock.h.  If called on the poller itself, @fn runs at once.
 */
void vrd_poller_call(struct vrd_poller *poller, void (*fn)(struct vrd_poller *poller, void *arg),
		     void *arg);

/*
 * Wakes the poller when @fd becomes readable.  Edge triggered, so @fd need not be drained
 * before the poller sleeps again.  Returns 0 or a negative errno.
 */
int vrd_poller_watch(struct vrd_poller *poller, int fd);
void vrd_poller_unwatch(struct vrd_poller *poller, int fd);

/* CLOCK_MONOTONIC as the poller read it at the start of its turn. */
uint64_t vrd_poller_now(struct vrd_poller *poller);

/* How often the poller has slept; on the poller. */
uint64_t vrd_poller_sleeps(const struct vrd_poller *poller);
/*
 * A queue pair waits for a guest that needs the poller's CPU: if there is no other work, the
 * poller sleeps without spinning before.  On the poller.
 */
void vrd_poller_rest(struct vrd_poller *poller);

/*
 * True if at most one queue pair was busy on @poller recently.  QPs with watched rings count
 * as busy.
 */
bool vrd_poller_is_alone(const struct vrd_poller *poller);

/* True if other QPs wait for @poller: cut a long copy into slices. */
bool vrd_poller_has_other_work(struct vrd_poller *poller, struct vrd_qp *self);

/*
 * While this is true, the device's QPs do not run and stay queued, and its doorbell pages
 * are not scanned.  Transports check it at each slice and burst, return VRD_RUN_WAIT if it
 * is set, and do not access the device's memory.  The check is needed because the pollers
 * may not have seen the suspension yet, and because a copy between two devices needs both to
 * be running.
 */
static inline bool vrd_device_suspended(struct vrd_device *dev)
{
	return atomic_load_explicit(&dev->suspended, memory_order_acquire) != 0;
}

/*
 * To be called if a word of a ring that belongs into guest memory (need_db) changed while
 * the device was suspended.  The resume then writes these words of all rings and checks each
 * ring.
 */
static inline void vrd_rings_stale(struct vrd_device *dev)
{
	atomic_fetch_add(&dev->ring_generation, 1);
}

/* --- QP state (qp.c) --- */

/*
 * Moves a QP to ERR or SQE because of an error.  @held says which of sq.lock and rq.lock the
 * caller holds.  The state changes at once if both locks can be taken, else on the QP's
 * poller.  The poller does the flush.
 */
enum vrd_held { VRD_HELD_NONE, VRD_HELD_SQ, VRD_HELD_RQ };
void vrd_qp_error(struct vrd_qp *qp, uint8_t new_state, enum vrd_held held);

/*
 * True if a move to ERR is pending on the QP's poller.  Such a QP must take no receive and
 * answer no request, as in ERR.
 */
static inline bool vrd_qp_error_due(const struct vrd_qp *qp)
{
	return atomic_load_explicit(&qp->sched.error_state, memory_order_relaxed) ==
	       VIRTIO_RDMA_QPS_ERR;
}

/* --- fabrics (engine.c) --- */

/*
 * A named group of devices.  @transport belongs to the transport and is initially NULL.
 * vrd_fabric_get() creates the fabric.  The last vrd_fabric_put() calls @destroy and frees
 * it.
 */
struct vrd_fabric {
	char *name;
	struct vrd_engine *engine;
	pthread_mutex_t lock;
	void *transport;
	void (*destroy)(struct vrd_fabric *fabric);
	unsigned int refs;
	LIST_ENTRY(vrd_fabric) link;
};
struct vrd_fabric *vrd_fabric_get(struct vrd_engine *engine, const char *name);
void vrd_fabric_put(struct vrd_fabric *fabric);

/*
 * One object of the engine that devices of all fabrics share, or NULL.  vrd_engine_share()
 * sets it to @shared unless there is one already, and returns the current one.  @close is
 * called when the engine is destroyed.
 */
void *vrd_engine_shared(struct vrd_engine *engine);
void *vrd_engine_share(struct vrd_engine *engine, void *shared, void (*close)(void *shared));

/*
 * Waits for a grace period: each poller has passed the end of a turn, so no object that was
 * looked up before is in use.  Not on a poller.  For functions that do not wait see
 * reclaim.h.
 */
void vrd_engine_synchronize(struct vrd_engine *engine);

/*
 * Increments dev->suspended and waits until no poller works on the device; calls nest.
 * Afterwards no byte of the device's memory is accessed until the resume.
 */
void vrd_device_quiesce(struct vrd_device *dev);
void vrd_device_resume(struct vrd_device *dev);

/*
 * The same without waiting.  visit->done is called on a poller when the device is quiescent,
 * or when its pollers work on it again.  From any thread but a poller.
 */
void vrd_device_quiesce_send(struct vrd_device *dev, struct vrd_visit *visit,
			     void (*done)(struct vrd_visit *visit));
void vrd_device_resume_send(struct vrd_device *dev, struct vrd_visit *visit,
			    void (*done)(struct vrd_visit *visit));

void vrd_log(struct vrd_engine *engine, enum vrd_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif /* VRD_TRANSPORT_H */
