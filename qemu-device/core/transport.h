/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interface between the core and its transports: what the core provides.  What
 * transports provide is in transport_ops.h.
 *
 * A transport carries the messages of queue pairs.  The core owns commands,
 * objects, rings, completion delivery and threads, and decides which transport
 * carries what (transports.c for a device, path.c for a QP).
 */
#ifndef VRD_TRANSPORT_H
#define VRD_TRANSPORT_H

#include <endian.h>

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
 * What a request asks of the responder: in this process a part of the requester's
 * WQE, for a transport over packets what it finds in their headers.
 */
struct vrd_request {
	uint8_t opcode;			/* VIRTIO_RDMA_WR_*, allowed on this QP type */
	uint16_t flags;			/* VIRTIO_RDMA_WQE_*; the responder wants SOLICITED */
	uint32_t imm;			/* wire order; or the key to invalidate (CPU order) */
	uint32_t length;		/* bytes of the message */
	struct vrd_sge range;		/* RDMA, atomics: the responder's memory; lkey is the rkey */
	uint64_t swap_add, compare;	/* atomics */
};

/* A work request: a checked copy of a send WQE.  Nothing in it is read from
 * shared memory again.
 */
struct vrd_wr {
	uint32_t index;			/* producer index: goes into the CQE */
	struct vrd_request req;
	bool length_ok;			/* false: more than max_msg_sz, and req.length is not it */
	uint8_t num_sge;		/* at most the QP's max_send_sge; 0 with WQE_INLINE */
	uint16_t pkey_index;		/* UD, GSI */
	struct virtio_rdma_av av;	/* UD, GSI */
	union {
		struct vrd_sge sge[VRD_MAX_SGE];
		uint8_t inline_data[VRD_MAX_INLINE];	/* req.length bytes with WQE_INLINE */
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
	VRD_FETCH_BAD,			/* malformed: wr->index is valid, nothing else */
	VRD_FETCH_DEAD,			/* the SRQ has failed: there is no receive */
};

/* --- rings (wqe.c) --- */

/*
 * Copies and checks the WQE at sq.head, which stays there: vrd_sq_advance()
 * takes it.  sq.lock is held.  An impossible producer index gives BAD and sets
 * sq.broken.
 */
enum vrd_fetch vrd_sq_peek(struct vrd_qp *qp, struct vrd_wr *wr);
/*
 * A transport that uses vrd_sq_fetch() of wqe.h in its place calls vrd_sq_long() before
 * it carries out a request of VRD_LONG_BYTES or more, and adds all bytes that a burst
 * moves to qp->sched.moved.
 */
void vrd_sq_long(struct vrd_poller *poller, uint32_t length);
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
 * Ask for, or forgo, dirty bytes for a receive ring: sets its need_db.  After
 * true the caller has to look at the ring once (a full barrier is included).
 */
void vrd_rq_want_doorbell(struct vrd_qp *qp, bool want);

/*
 * The same for an SRQ; its ring.lock is held.  vrd_srq_peek() leaves the receive
 * there, vrd_srq_advance() takes it and raises SRQ_LIMIT_REACHED if that is due
 * (see srq_modify).  BAD: the cookie is valid, so it is to be taken and
 * completed.  DEAD: an impossible producer index, or a page that is no RAM any
 * more; SRQ_ERR has been raised, and the QP that wanted the receive goes to ERR.
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
/* Receives that are posted and not taken, as of now. */
uint32_t vrd_srq_posted(struct vrd_srq *srq);
/* A receive that was taken in advance (srq->lent) has been used, or is back. */
void vrd_srq_lent_used(struct vrd_srq *srq);
bool vrd_srq_has_work(struct vrd_srq *srq);
void vrd_srq_want_doorbell(struct vrd_srq *srq, bool want);

/* Takes everything off a ring and completes it with WR_FLUSH_ERR, in order, at
 * most @budget entries; true: there is more.  The ring's lock is held.
 */
bool vrd_sq_flush(struct vrd_qp *qp, unsigned int budget);
bool vrd_rq_flush(struct vrd_qp *qp, unsigned int budget);

/* --- paths (path.c) --- */

/*
 * For sq_run() of a QP with qp->send_path, i.e. one that chooses a path for each
 * datagram: true if @wr, which is at sq.head, uses the path that runs.  If not, sq_run()
 * ends without taking it.  sq.lock is held.
 */
bool vrd_path_carries(struct vrd_qp *qp, const struct vrd_wr *wr);
/* Hands over a datagram that the guest's next receive is for: see vrd_path_ops. */
void vrd_path_deliver(struct vrd_qp *qp, uint8_t *data, uint32_t length,
		      struct virtio_rdma_cqe *cqe);

/* --- completions (cq.c) --- */

/*
 * Writes a CQE (its phase is set here) and an event if the CQ is armed for it;
 * @solicited: the event condition of a receive (errors always count).  Takes
 * cq->lock.  On overflow the CQ goes to error, CQ_ERR is raised, its QPs are
 * sent to ERR by their pollers, and the CQE is lost.
 */
void vrd_cq_post(struct vrd_cq *cq, const struct virtio_rdma_cqe *cqe, bool solicited);

/*
 * A send WQE has succeeded: makes a CQE if it was signaled, which is written at the end
 * of the burst.  @byte_len counts for READ and atomics.  The QP's poller, sq.lock.
 */
void vrd_complete_signaled(struct vrd_qp *qp, const struct vrd_wr *wr, uint32_t byte_len);

static inline void vrd_complete_send(struct vrd_qp *qp, const struct vrd_wr *wr, uint32_t byte_len)
{
	if (wr->req.flags & VIRTIO_RDMA_WQE_SIGNALED)
		vrd_complete_signaled(qp, wr, byte_len);
}

/* It has failed: always makes a CQE, which is written at once. */
void vrd_complete_send_error(struct vrd_qp *qp, const struct vrd_wr *wr, uint8_t status);
/*
 * A receive of a burst on @poller: staged as sends are.  The caller fills all of what
 * is returned, at once.  Before the rq.lock that is held is released,
 * vrd_cq_flush_receives() writes it.
 */
struct virtio_rdma_cqe *vrd_complete_recv(struct vrd_poller *poller, struct vrd_cq *cq,
					  bool solicited);
void vrd_cq_flush_receives(struct vrd_poller *poller);

/* The number for the CQEs of the QP's receives, little-endian; 0: it has no SRQ. */
static inline uint32_t vrd_qp_srqn(const struct vrd_qp *qp)
{
	return qp->srq ? htole32(qp->srq->srqn) : 0;
}

/* --- memory (key.h: what a key gives access to; mr.c, mem.c) --- */

/*
 * The hva of @addr in a region that vrd_mr_find() returned, with in *@run the bytes
 * that are contiguous from there (at most @length).  NULL: the page is not RAM under
 * the current memory table, or not writable although @write.
 *
 * *@cursor remembers the run of pages that @addr lies in: a caller that walks
 * through a region passes it again, so that no run has to be searched for.  Any
 * value will do.
 */
void *vrd_mr_at_cursor(struct vrd_device *dev, const struct vrd_mr *mr, uint64_t addr,
		       uint64_t length, bool write, uint64_t *run, uint32_t *cursor);

static inline void *vrd_mr_at(struct vrd_device *dev, const struct vrd_mr *mr, uint64_t addr,
			      uint64_t length, bool write, uint64_t *run)
{
	uint32_t cursor = 0;

	return vrd_mr_at_cursor(dev, mr, addr, length, write, run, &cursor);
}

/* Mappings of guest memory that all transports' devices made beside the core's. */
_Atomic uint64_t *vrd_engine_alias_maps(struct vrd_engine *engine);
/* True if @match says so of one device; the engine's lock is held meanwhile. */
bool vrd_engine_any_device(struct vrd_engine *engine,
			   bool (*match)(const struct vrd_device *dev, const void *opaque),
			   const void *opaque);
/* Devices of all transports, as of now. */
unsigned int vrd_engine_device_count(struct vrd_engine *engine);

/* --- events (event.c) --- */

void vrd_event_raise(struct vrd_device *dev, uint32_t type, uint32_t id);

/* --- scheduling (poller.c) --- */

/* Makes the QP's poller run its send queue soon; any thread, any lock. */
void vrd_qp_schedule(struct vrd_qp *qp);

/*
 * Timers run on the poller that they were set on, without locks.  Set and
 * cancel from any thread.  vrd_timer_cancel_sync() returns when the function
 * does not run any more; not from the poller itself, not under its locks.
 */
void vrd_timer_set(struct vrd_poller *poller, struct vrd_timer *timer, uint64_t deadline_ns);
void vrd_timer_cancel(struct vrd_timer *timer);
void vrd_timer_cancel_sync(struct vrd_timer *timer);

/* Pollers of an engine, and one's place among them. */
unsigned int vrd_engine_poller_count(const struct vrd_engine *engine);
struct vrd_poller *vrd_engine_poller(const struct vrd_engine *engine, unsigned int index);
unsigned int vrd_poller_index(const struct vrd_poller *poller);

/* The counters of @dev that the poller of this index adds to. */
static inline struct vrd_counters *vrd_counters(const struct vrd_device *dev, unsigned int poller)
{
	return &dev->counters[poller];
}

/* vrd_stat_add() by a plain store, on the poller that @counters belong to. */
static inline void vrd_count(struct vrd_counters *counters, unsigned int stat, uint64_t n)
{
	_Atomic uint64_t *counter = &counters->n[stat];

	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/*
 * Messages: functions that run on a poller at the start of a turn, without a
 * lock, in the order in which they were sent.  They must be short, must not wait
 * and must not take dev->lock.
 *
 * A message is memory of the sender, in use until @fn is called.  @fn may send it
 * on, free it, or tell the sender that it is free again.
 */
struct vrd_message {
	void (*fn)(struct vrd_poller *poller, struct vrd_message *msg);
	struct vrd_message *next;	/* poller.c */
};

/* Sends @msg and does not wait.  Any thread, any lock but a leaf. */
void vrd_poller_send(struct vrd_poller *poller, struct vrd_message *msg);

/*
 * A message that goes to each poller of an engine, one after the other.  The
 * caller sets @fn, @done and @arg.  @done runs on the last poller, after @fn; the
 * memory is the caller's again when @done is called.
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
/* The same, and waits.  Not on a poller. */
void vrd_engine_call_all(struct vrd_engine *engine,
			 void (*fn)(struct vrd_poller *poller, void *arg), void *arg);

/*
 * Runs @fn on the poller between two turns, and waits for it.  Under no lock of
 * lock.h.  On the poller itself @fn is called at once.
 */
void vrd_poller_call(struct vrd_poller *poller, void (*fn)(struct vrd_poller *poller, void *arg),
		     void *arg);

/*
 * While @fd becomes readable the poller does not sleep: edge triggered, so that
 * it need not be drained to sleep again.  0 or a negative errno.
 */
int vrd_poller_watch(struct vrd_poller *poller, int fd);
void vrd_poller_unwatch(struct vrd_poller *poller, int fd);

/* CLOCK_MONOTONIC as the poller read it at the start of its turn. */
uint64_t vrd_poller_now(struct vrd_poller *poller);

/*
 * True if no more than one queue pair has been busy on @poller lately: those
 * whose rings are watched are counted.
 */
bool vrd_poller_is_alone(const struct vrd_poller *poller);

/* True if others wait on @poller: cut a long copy into slices. */
bool vrd_poller_has_other_work(struct vrd_poller *poller, struct vrd_qp *self);

/*
 * While it is true a device's own QPs do not run and stay queued, and its doorbell
 * pages are not looked at.  Transports check it at each slice and burst, return
 * VRD_RUN_WAIT, and leave the device's memory alone: the pollers may not have heard
 * of it yet, and a copy between two devices needs both to be free.
 */
static inline bool vrd_device_suspended(struct vrd_device *dev)
{
	return atomic_load_explicit(&dev->suspended, memory_order_acquire) != 0;
}

/*
 * A word of a ring that belongs into the guest's memory (need_db) changed while the
 * device is suspended: its resume writes these words of all rings again, and looks
 * at each ring.
 */
static inline void vrd_rings_stale(struct vrd_device *dev)
{
	atomic_fetch_add(&dev->ring_generation, 1);
}

/* --- QP state (qp.c) --- */

/*
 * Moves a QP to ERR (or SQE) because of an error.  Caller holds sq.lock or
 * rq.lock or none, and says which in @held: the change itself is made at once
 * if both can be had, else by the QP's poller.  Flushing is left to the poller.
 */
enum vrd_held { VRD_HELD_NONE, VRD_HELD_SQ, VRD_HELD_RQ };
void vrd_qp_error(struct vrd_qp *qp, uint8_t new_state, enum vrd_held held);

/*
 * True if a move to ERR is due that the QP's poller has not made yet.  Such a QP
 * must take no receive and answer no request: its state is ERR in all but name.
 */
static inline bool vrd_qp_error_due(const struct vrd_qp *qp)
{
	return atomic_load_explicit(&qp->sched.error_state, memory_order_relaxed) ==
	       VIRTIO_RDMA_QPS_ERR;
}

/* --- fabrics (engine.c) --- */

/* A named group of devices; @transport belongs to the transport and is zero at
 * first.  get creates it, the last put frees it and calls @destroy first.
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
 * What devices of all fabrics share: one object of the engine, or NULL.  share
 * puts @shared there unless there is one already, and returns the one that is
 * there; @close is called when the engine is destroyed.
 */
void *vrd_engine_shared(struct vrd_engine *engine);
void *vrd_engine_share(struct vrd_engine *engine, void *shared, void (*close)(void *shared));

/*
 * Waits until each poller has passed the end of a turn (a grace period), so
 * that nothing looked up before is in use.  Not on a poller.  reclaim.h has what
 * does not wait.
 */
void vrd_engine_synchronize(struct vrd_engine *engine);

/*
 * Raises dev->suspended and waits until no poller works on the device; nests.
 * After it no byte of the device's memory is touched until the resume.
 */
void vrd_device_quiesce(struct vrd_device *dev);
void vrd_device_resume(struct vrd_device *dev);

/*
 * The same without waiting: visit->done is called on a poller when the device
 * is quiescent, or when its pollers work on it again.  Any thread but a poller.
 */
void vrd_device_quiesce_send(struct vrd_device *dev, struct vrd_visit *visit,
			     void (*done)(struct vrd_visit *visit));
void vrd_device_resume_send(struct vrd_device *dev, struct vrd_visit *visit,
			    void (*done)(struct vrd_visit *visit));

void vrd_log(struct vrd_engine *engine, enum vrd_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif /* VRD_TRANSPORT_H */
