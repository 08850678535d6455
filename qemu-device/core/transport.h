/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interface between the core and its transports, both directions.
 *
 * A transport carries the messages of queue pairs.  The core owns commands,
 * objects, rings, completion delivery and threads, and decides which transport
 * carries what (transports.c for a device, path.c for a QP).
 */
#ifndef VRD_TRANSPORT_H
#define VRD_TRANSPORT_H

#include <endian.h>

#include "objects.h"
#include "reclaim.h"

/* ---- what a transport provides ------------------------------------------ */

#define VRD_F(name)	(1ULL << VIRTIO_RDMA_F_##name)

/* What a device can do; numbers are limits of the transport. */
struct vrd_caps {
	uint64_t features;		/* VRD_F() of those that the transport can do */
	uint64_t max_mr_size;
	uint32_t max_msg_sz;		/* does not change while the device exists */
	uint32_t max_qp_rd_atom;
	uint32_t max_qp_init_rd_atom;
	uint8_t max_mtu, active_mtu;	/* IBTA encoding */
	uint8_t active_width;
	uint16_t active_speed;
	uint32_t local_ca_ack_delay;
};

struct vrd_wr;

enum vrd_run {
	VRD_RUN_IDLE,			/* the send ring is empty */
	VRD_RUN_MORE,			/* budget used up: call again */
	VRD_RUN_WAIT,			/* a timer or vrd_qp_schedule() will bring it back */
};

/* A MODIFY_QP whose transition and attributes the core has checked (qp_rules.c). */
struct vrd_qp_change {
	uint8_t from, to;		/* states */
	uint32_t mask;			/* VIRTIO_RDMA_QP_*: which attributes are set */
	struct virtio_rdma_qp_attr attr;
};

/*
 * A path: the operations of one QP on a transport.  The core chooses qp->path
 * (path.c).  Every transport that takes the QP's type has a private part of the
 * QP, whatever its path, so these functions are also called for a QP in RESET or
 * INIT that will use another path.
 *
 * NULL: nothing to do.
 */
struct vrd_path_ops {
	/*
	 * Poller, with qp->sq.lock held: take up to @budget work requests off
	 * the send ring and carry them out.  Called in every state; in ERR and
	 * SQE it flushes.
	 */
	enum vrd_run (*sq_run)(struct vrd_qp *qp, unsigned int budget);
	/*
	 * Poller: the receive ring's dirty byte was seen (only rings whose
	 * need_db is set).  Without any lock.
	 */
	void (*rq_run)(struct vrd_qp *qp);

	/*
	 * MODIFY_QP has two steps.  modify() does what can fail or take long: it
	 * is called without any lock of lock.h and may block for as long as the
	 * host takes.  It leaves nothing behind when it fails; its negative errno
	 * becomes the command's status.  commit() cannot fail: both ring locks are
	 * held, and qp->state and qp->attr get the new values right after it.
	 *
	 * A change to RESET has the other order: commit(), then the state is RESET
	 * and the rings are empty, so that no poller posts, then modify().
	 *
	 * Changes to RESET and INIT concern all transports of the QP, other changes
	 * only the QP's path.
	 */
	int (*modify)(struct vrd_qp *qp, const struct vrd_qp_change *change);
	void (*commit)(struct vrd_qp *qp, const struct vrd_qp_change *change);
	/* Control thread, no lock of lock.h is held: corrects what only the transport knows. */
	void (*query)(struct vrd_qp *qp, struct virtio_rdma_qp_attr *attr);

	/*
	 * Paths of UD QPs on devices with several transports.  All of them are
	 * called by the poller in an RCU read section.
	 *
	 * carries(): the transport reaches the destination of the datagram; sq.lock
	 * is held.  NULL: it reaches every destination.
	 *
	 * sq_idle(): everything that sq_run() took off the ring is complete; sq.lock
	 * is held.  If not, the transport schedules the QP when that changes.  In ERR
	 * the transport also begins to flush what it has.  NULL: always true.
	 *
	 * deliver(): another transport has received a datagram.  @data is the 40
	 * bytes of its header, then @length bytes of payload; @cqe has what the
	 * other transport knows.  No lock is held.  Exactly one path of a device has
	 * this operation: that of the transport that takes receives off the ring.
	 */
	bool (*carries)(const struct vrd_qp *qp, const struct vrd_wr *wr);
	bool (*sq_idle)(struct vrd_qp *qp);
	void (*deliver)(struct vrd_qp *qp, uint8_t *data, uint32_t length,
			struct virtio_rdma_cqe *cqe);
};

#define VRD_QPT_BIT(type)	(1U << VIRTIO_RDMA_QPT_##type)
#define VRD_QPT_DATA		(VRD_QPT_BIT(RC) | VRD_QPT_BIT(UC) | VRD_QPT_BIT(UD))

/*
 * A transport: the operations of a device and of all objects but the QP's path.
 * A device has an ordered list of transports; transports.c calls those that have
 * an operation in this order and undoes in the opposite order.
 *
 * Functions run with dev->lock held, on the control or front end thread, unless
 * they say otherwise.  They return 0 or a negative errno, which becomes the
 * command's status, and leave nothing behind when they fail.  NULL: nothing to
 * do.
 */
struct vrd_transport_ops {
	const char *name;
	enum vrd_slot slot;		/* of its private parts */
	uint32_t qp_types;		/* VRD_QPT_BIT() of what it carries */
	/*
	 * QP numbers and keys of the device are chosen by this transport
	 * (qp_create, mr_reg).  At most one transport of a device may.
	 */
	bool owns_numbers;
	/*
	 * Operations on objects and a path's modify() and query() may block, as calls
	 * of the host's RDMA stack do.  For a device with such a transport they run on
	 * a worker, without dev->lock: several at a time, but one for each object.
	 * Not so gid_add, gid_del and mem_changed.
	 */
	bool blocks;
	/* Another transport that every device with this one has as well, or NULL. */
	const struct vrd_transport_ops *companion;
	const struct vrd_path_ops *path;

	/* May lower dev->limits. */
	int (*device_open)(struct vrd_device *dev, const struct vrd_device_config *cfg,
			   struct vrd_error *err);
	void (*device_close)(struct vrd_device *dev);
	/* Transports that carry data have this operation. */
	void (*device_query)(struct vrd_device *dev, struct vrd_caps *caps);
	uint8_t (*port_state)(struct vrd_device *dev);	/* VIRTIO_RDMA_PORT_* */
	/* Counters of its own, by name: for vrd_device_stats(). */
	void (*device_stats)(struct vrd_device *dev,
			     void (*fn)(void *opaque, const char *name, uint64_t value),
			     void *opaque);
	/*
	 * The device, which had been suspended, runs again (dev->suspended is
	 * zero): whatever waited for it may go on.  Any thread but a poller.
	 */
	void (*device_resumed)(struct vrd_device *dev);

	/*
	 * True if a connection to the port with this GID can use the transport.
	 * NULL: to every port.  The answer decides the path of a QP at RTR.
	 */
	bool (*reaches)(struct vrd_device *dev, const uint8_t gid[16]);

	/* @gid is allowed by the owner; -EEXIST if another device has it. */
	int (*gid_add)(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);
	void (*gid_del)(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);

	int (*pd_alloc)(struct vrd_pd *pd);
	void (*pd_dealloc)(struct vrd_pd *pd);
	/* All pages are there.  The owner of numbers sets mr->lkey and mr->rkey. */
	int (*mr_reg)(struct vrd_mr *mr);
	void (*mr_dereg)(struct vrd_mr *mr);
	/*
	 * The device has another memory table, and is quiesced: regions whose
	 * pages are not the same any more must not be reached.
	 */
	void (*mem_changed)(struct vrd_device *dev);
	int (*cq_create)(struct vrd_cq *cq);
	void (*cq_destroy)(struct vrd_cq *cq);

	/*
	 * Transports that offer VIRTIO_RDMA_F_SRQ.  srq_create makes the private part; the core
	 * has chosen srqn, and arms the limit of CREATE_SRQ afterwards.
	 */
	int (*srq_create)(struct vrd_srq *srq);
	/*
	 * Arms the limit (0: disarms) where the host counts the receives; the
	 * transport then raises SRQ_LIMIT_REACHED.  -EOPNOTSUPP (or NULL): the
	 * receives are taken by software, and vrd_srq_advance() raises it.
	 * srq_query (with srq_modify) returns what is still armed.
	 * Both without ring.lock.
	 */
	int (*srq_modify)(struct vrd_srq *srq, uint32_t limit);
	int (*srq_query)(struct vrd_srq *srq, uint32_t *limit);
	/*
	 * No QP uses it any more.  After it returned nobody reaches the SRQ; the
	 * core then waits for a grace period and calls srq_free().
	 */
	void (*srq_destroy)(struct vrd_srq *srq);
	void (*srq_free)(struct vrd_srq *srq);
	/*
	 * Poller, without any lock: the dirty byte of the SRQ's ring was seen; and
	 * once after each resume.
	 */
	void (*srq_run)(struct vrd_srq *srq);

	/*
	 * Makes the private part of a QP of one of @qp_types.  The owner of numbers
	 * chooses qp->qpn, except for QP 1.  The QP is in RESET and not in the table
	 * yet; qp->srq is set and lives as long as the QP.
	 */
	int (*qp_create)(struct vrd_qp *qp);
	/*
	 * After it returned nobody reaches the QP: it is out of the core's and
	 * the transport's tables, its timers are cancelled.  The core then waits
	 * for a grace period and calls qp_free().  A QP that was never published
	 * is freed without qp_destroy().
	 */
	void (*qp_destroy)(struct vrd_qp *qp);
	void (*qp_free)(struct vrd_qp *qp);

	/*
	 * Each poller, once per turn, without any lock: host completion queues
	 * of the contexts that it runs.  True: found work.
	 */
	bool (*poll)(struct vrd_device *dev, struct vrd_poller *poller);
	/*
	 * It is about to sleep: have it woken through the descriptors that it
	 * watches (vrd_poller_watch()), and look again.  True: found work.
	 */
	bool (*poll_sleep)(struct vrd_device *dev, struct vrd_poller *poller);
};

/* ---- what the core provides to transports -------------------------------- */

/* A work request: a checked copy of a send WQE.  Nothing in it is read from
 * shared memory again.
 */
struct vrd_sge {
	uint64_t addr;
	uint32_t length;
	uint32_t lkey;
};

struct vrd_wr {
	uint32_t index;			/* producer index: goes into the CQE */
	uint8_t opcode;			/* VIRTIO_RDMA_WR_*, allowed on this QP type */
	uint8_t num_sge;		/* at most the QP's max_send_sge */
	uint16_t flags;			/* VIRTIO_RDMA_WQE_* */
	uint32_t inline_len;
	uint32_t length;		/* sum of SGE lengths, or inline_len; valid if length_ok */
	bool length_ok;			/* false: the sum exceeds max_msg_sz */
	uint32_t imm;			/* wire order; or the key to invalidate (CPU order) */
	uint32_t rkey;
	uint64_t remote_addr;
	uint64_t swap_add, compare;
	uint16_t pkey_index;
	struct virtio_rdma_av av;	/* UD, GSI */
	union {
		struct vrd_sge sge[VRD_MAX_SGE];
		uint8_t inline_data[VRD_MAX_INLINE];
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

/* The number for the CQEs of the QP's receives, little-endian; 0: it has no SRQ. */
static inline uint32_t vrd_qp_srqn(const struct vrd_qp *qp)
{
	return qp->srq ? htole32(qp->srq->srqn) : 0;
}

/*
 * Writes a CQE (its phase is set here) and an event if the CQ is armed for it;
 * @solicited: the event condition of a receive (errors always count).  Takes
 * cq->lock.  On overflow the CQ goes to error, CQ_ERR is raised, its QPs are
 * sent to ERR by their pollers, and the CQE is lost.
 */
void vrd_cq_post(struct vrd_cq *cq, const struct virtio_rdma_cqe *cqe, bool solicited);

/* Completion of a send WQE: makes a CQE if it was signaled or @status is not
 * SUCCESS.  @byte_len counts for READ and atomics.
 */
void vrd_complete_send(struct vrd_qp *qp, const struct vrd_wr *wr, uint8_t status,
		       uint32_t byte_len);

/* --- memory (mr.c, mem.c) --- */

/*
 * The region that @key names, if [addr, addr + length) of it may be accessed
 * by @qp in its PD with all of @access (0: local read).  The reserved DMA key
 * and DMA regions work for kernel QPs only.  NULL otherwise.  Good until the
 * end of the caller's turn; look it up again for each slice.
 * @remote: @key came from a peer (the reserved local key is then refused).
 */
const struct vrd_mr *vrd_mr_find(struct vrd_qp *qp, uint32_t key, uint64_t addr, uint64_t length,
				 uint32_t access, bool remote);
/* The same in another PD of the QP's context: the keys of an SRQ's entries. */
const struct vrd_mr *vrd_mr_find_pd(struct vrd_qp *qp, const struct vrd_pd *pd, uint32_t key,
				    uint64_t addr, uint64_t length, uint32_t access, bool remote);

/* In which the keys of the QP's receives are looked up. */
static inline const struct vrd_pd *vrd_qp_recv_pd(const struct vrd_qp *qp)
{
	return qp->srq ? qp->srq->pd : qp->pd;
}

/*
 * The short cut for regions that are contiguous in host memory, as most are:
 * both at once.  NULL: it is not such a one, or the access is not allowed; the
 * functions tell.
 */
static inline uint8_t *vrd_mr_linear(const struct vrd_device *dev, const struct vrd_pd *pd,
				     uint32_t key, uint64_t addr, uint64_t length,
				     uint32_t access)
{
	const struct vrd_mr *mr = vrd_table_find(&dev->mrs, vrd_key_index(key));

	if (!mr || !mr->linear || mr->key != key || mr->pd != pd || (mr->access & access) != access)
		return NULL;
	if (addr < mr->iova || length > mr->length || addr - mr->iova > mr->length - length)
		return NULL;
	return mr->linear + (addr - mr->iova);
}

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
/* Devices of all transports, as of now. */
unsigned int vrd_engine_device_count(struct vrd_engine *engine);
/* True if @match says so of one device; the engine's lock is held meanwhile. */
bool vrd_engine_any_device(struct vrd_engine *engine,
			   bool (*match)(const struct vrd_device *dev, const void *opaque),
			   const void *opaque);

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
 * Pollers check this at each slice and burst; while it is true they leave the
 * device's memory alone and return VRD_RUN_WAIT (they are rescheduled by
 * resume).  A copy between two devices needs both to be free.
 */
static inline bool vrd_device_suspended(struct vrd_device *dev)
{
	return atomic_load_explicit(&dev->suspended, memory_order_acquire) != 0;
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
