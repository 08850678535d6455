/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Definitions shared by engine.c, poller.c, reclaim.c, sched.c, hot.c, doorbell*.c and
 * timer.c.  cq.c, qp.c and wqe.c include it as well.
 *
 * Unless stated otherwise, only the poller's own thread accesses the fields of struct
 * vrd_poller, struct vrd_poller_dev and struct vrd_ctx_slots.  Other threads send a message
 * (vrd_poller_call()).
 */
#ifndef VRD_POLLER_INTERNAL_H
#define VRD_POLLER_INTERNAL_H

#include "transport.h"
#include "log.h"
#include "mem.h"
#include "notify.h"
#include "poller.h"
#include "shm.h"
#include "spin.h"
#include "spin_slots.h"

/* Maximum number of rings whose producer is read every turn: more cache lines add latency. */
#define VRD_HOT_RINGS		64
/* A ring may be removed from the hot list for another one after this many turns without work. */
#define VRD_HOT_IDLE_TURNS	4096
/* Work requests in one burst of a QP. */
#define VRD_SQ_BUDGET		64
/* Time and bytes that a device may use before the next device runs. */
#define VRD_QUANTUM_NS		10000
#define VRD_QUANTUM_BYTES	(256 << 10)
/* When a turn of the poller has lasted this long, no other device is started in it. */
#define VRD_TURN_NS		50000
/* A copy ends its burst after this time. */
#define VRD_BURST_NS		200000
/* A copy checks doorbell pages and the clock in one of this many checks for other work. */
#define VRD_QUESTIONS_PER_LOOK	4
/*
 * Maximum numbers of QPs and messages that one turn takes from the inbox, and of timers that
 * it runs.
 */
#define VRD_POSTED_TURN		256
#define VRD_MESSAGES_TURN	64
#define VRD_TIMERS_TURN		256
/* The next deadline is compared with the clock in one of this many busy turns. */
#define VRD_TURNS_PER_DEADLINE	8
/* Doorbell pages that one turn scans: of contexts that are awake, and of others. */
#define VRD_SCAN_AWAKE		8
#define VRD_SCAN_ASLEEP		2
/* Sleeping pages are scanned in one of this many turns. */
#define VRD_TURNS_PER_ASLEEP	4
/* Groups of 64 dirty bytes that one turn serves in one page, and total number of dirty bytes. */
#define VRD_SCAN_GROUPS		4
#define VRD_SCAN_BYTES		64
/* Empty groups that a walk skips in one turn. */
#define VRD_WALK_SKIP		16
/*
 * Maximum number of CQs whose arming has not been checked yet.  The check is delayed by at
 * most this many short bursts, or fewer if they moved many bytes.
 */
#define VRD_TOUCHED_CQS		16
#define VRD_TOUCHED_BURSTS	8
#define VRD_TOUCHED_BYTES	32768
/*
 * Before a request of VRD_LONG_BYTES or more, earlier completions are written.  The arming
 * of their CQs is also checked if more than this many bytes were moved since the last check.
 */
#define VRD_UNTOLD_BYTES	(1U << 20)
/*
 * They are written together, up to VRD_CQ_BATCH of them, while SHARE times as many requests
 * follow in the ring, of at most BYTES each: the guest has enough to do in the meantime, and
 * each locked instruction waits for the end of the copy before it.
 */
#define VRD_LATER_SHARE		4
#define VRD_LATER_BYTES		(64U << 10)

TAILQ_HEAD(vrd_run_queue, vrd_qp);
TAILQ_HEAD(vrd_dev_queue, vrd_dev_sched);
TAILQ_HEAD(vrd_slots_list, vrd_ctx_slots);
LIST_HEAD(vrd_ring_list, vrd_ring);

struct vrd_slot_group {
	struct vrd_ring_list rings[64];
};

/* What a walk over all rings of a context does for each of them. */
enum vrd_walk {
	VRD_WALK_FAILED	= 1,			/* QPs of failed CQs go to ERR */
	VRD_WALK_RESUME	= 2,			/* write need_db, check the ring */
};

/* A context's doorbell page, and the rings of its slots. */
struct vrd_ctx_slots {
	struct vrd_ctx *ctx;
	TAILQ_ENTRY(vrd_ctx_slots) link;	/* poller's awake list, or device's asleep list */
	struct vrd_poller_dev *pdev;		/* constant */
	/* A copy of ctx->db, so that a scan reads one line for each context. */
	struct virtio_rdma_db_page *db;
	bool awake;				/* its need_wakeup is 0 */
	bool attached;				/* in one of the lists */
	uint32_t next_group, next_byte;		/* where the scan continues */
	uint64_t again;				/* groups with dirty bytes that were left over */
	/* The ring that was rung last, if it is not watched: its lines are prefetched. */
	struct vrd_ring *rung;

	TAILQ_ENTRY(vrd_ctx_slots) walk_link;	/* poller->walks, if walk is not zero */
	unsigned int walk;			/* VRD_WALK_* */
	uint32_t walk_group;
	TAILQ_ENTRY(vrd_ctx_slots) failed_link;	/* poller->failed: inbox lock */
	bool failed;				/* inbox lock */

	/*
	 * Allocated under dev->lock when one of the group's slots is first allocated.  A guest
	 * can set a dirty byte of the group at any time, so the poller may read the pointer
	 * before it gets any message: vrd_slot_group().
	 */
	struct vrd_slot_group *_Atomic groups[VIRTIO_RDMA_DB_GROUPS];

	/* Allocation of slots: dev->lock */
	uint64_t used[VIRTIO_RDMA_DB_GROUPS];
	uint32_t next_shared;
	uint32_t *sharers;			/* further rings of each slot, once all are used */
};

/* The group, or NULL.  Pairs with the release in slot_alloc(). */
static inline struct vrd_slot_group *vrd_slot_group(const struct vrd_ctx_slots *slots,
						    unsigned int group)
{
	return atomic_load_explicit(&slots->groups[group], memory_order_acquire);
}

/*
 * The queue pairs of one device that have work, on one poller: sched.c.  Rate limits of a
 * device (bytes and operations per second) belong here.
 */
struct vrd_dev_sched {
	TAILQ_ENTRY(vrd_dev_sched) link;	/* poller->runnable */
	struct vrd_run_queue queue;
	unsigned int num;			/* QPs in the queue */
	unsigned int num_hot;			/* rings of the device in the hot list */
	bool runnable;				/* in poller->runnable */
	bool fresh;				/* in poller->runnable, ahead of its turn */
	bool suspended;				/* keeps its queue but does not run */
	uint32_t round;				/* round in which it last ran */
	int64_t ticks, bytes;			/* rest of its quantum */

	/* Inbox lock: */
	TAILQ_ENTRY(vrd_dev_sched) posted_link;	/* poller->posted, if the queue is not empty */
	struct vrd_run_queue posted;		/* vrd_qp_schedule() of other threads */
	bool gone;				/* ignore posted QPs: all are being destroyed */
};

/* The state of a device on one poller. */
struct vrd_poller_dev {
	struct vrd_dev_sched sched;
	struct vrd_device *dev;
	LIST_ENTRY(vrd_poller_dev) link;
	TAILQ_ENTRY(vrd_poller_dev) turn_link;	/* rotation, if it has sleeping contexts */
	TAILQ_ENTRY(vrd_poller_dev) sweep_link;	/* sweeps, if sweep is not zero */
	struct vrd_slots_list asleep;		/* contexts whose need_wakeup is 1 */
	unsigned int num_asleep, num_awake;
	unsigned int sweep;			/* sleeping contexts that remain to be scanned
						 * since the kick */
	uint32_t ring_generation;		/* of the device, at the last resume */
	int kick_fd;				/* in the epoll set, or -1 */
};

/* Completions for one CQ that are written together, under one lock. */
#define VRD_CQ_BATCH		8

struct vrd_cq_batch {
	struct vrd_cq *cq;			/* valid if @num is not zero */
	unsigned int num;
	bool solicited;				/* at least one of them is */
	struct virtio_rdma_cqe cqe[VRD_CQ_BATCH];
};

struct vrd_hot_ring {
	const __le32 *producer;
	uint32_t seen;				/* producer for which the QP was scheduled */
	uint32_t hold;				/* ticks between looks, or 0: see adapt() */
	bool missed;				/* a look since the last find found nothing */
	uint64_t found;				/* the last find, in ticks; only with @hold */
	uint64_t used;				/* turn in which the producer last moved */
	struct vrd_qp *qp;
	const struct vrd_dev_sched *dev;	/* of the QP */
};

struct vrd_poller {
	struct vrd_engine *engine;

	/* Read in every turn. */
	_Atomic bool attention;			/* the inbox is not empty, or a flag is set */
	unsigned int num_hot;
	uint64_t turn;
	unsigned int run_len;			/* queued QPs of all runnable devices */
	unsigned int num_runnable;
	struct vrd_dev_queue runnable;		/* devices with queued QPs */
	uint32_t round;				/* number of the current round, in which each of
						 * them runs once */
	unsigned int round_left;		/* runs until the next round */
	struct vrd_slots_list awake;
	unsigned int num_awake;
	unsigned int num_rung;			/* contexts whose rung is not NULL */
	TAILQ_HEAD(, vrd_poller_dev) rotation;	/* devices with sleeping contexts */
	TAILQ_HEAD(, vrd_poller_dev) sweeps;	/* devices whose sweep is not zero */
	struct vrd_slots_list walks;		/* contexts with a walk in progress */
	unsigned int num_polled;		/* devices whose transport has poll() */
	_Atomic uint64_t next_deadline;		/* of the timers, or UINT64_MAX: timer lock */
	uint64_t now;
	bool now_valid;
	bool busy;				/* the last turn had work */
	uint64_t burst_start;			/* time of the first check for other work in a
						 * burst, or 0 */
	unsigned int burst_questions;		/* checks for other work in this burst */
	struct vrd_hot_ring hot[VRD_HOT_RINGS];
	uint64_t full_turn;			/* turn in which no hot ring was idle */
	uint64_t woke[2];			/* turns at the last two times of going to sleep,
						 * newest first */
	bool hot_asleep;			/* hot rings have need_db 1 */

	/*
	 * Bytes that bursts have moved since armings were last checked.  A burst that leaves
	 * armings unchecked counts as VRD_TOUCHED_BYTES / VRD_TOUCHED_BURSTS more.
	 */
	uint64_t burst_bytes;
	struct vrd_cq_batch sends, receives;	/* completions of the burst: cq.c */
	unsigned int num_touched;
	struct vrd_touched {
		struct vrd_cq *cq;
		bool solicited;
	} touched[VRD_TOUCHED_CQS];

	LIST_HEAD(, vrd_poller_dev) devs;

	struct vrd_spin spin;
	bool rest;				/* the next sleep begins without spinning */
	uint64_t idle_from;			/* stat_idle after the last turn with work */
	int epoll_fd, wake_fd;
	/*
	 * The poller holds it except while it sleeps.  Another thread that gets it may do the
	 * work of a message in place of the poller.
	 */
	pthread_mutex_t turn_lock;
	pthread_t thread;
	unsigned int index;
	int cpu;				/* or -1 */

	/* Counters: written by the poller, read by any thread. */
	_Atomic uint64_t stat_busy, stat_idle, stat_sleeps, stat_preempted;
	/* The newest grace period that the poller has passed, or OFFLINE: reclaim.c. */
	_Atomic uint64_t passed;

	/* Written by other threads. */
	_Alignas(64) struct vrd_lock inbox_lock;	/* a leaf */
	struct vrd_dev_queue posted;		/* devices with posted QPs */
	struct vrd_slots_list failed;		/* contexts with a failed CQ */
	struct vrd_message *msg_first, *msg_last;
	_Atomic bool sleeping;			/* wake_fd must be signalled to wake the poller */
	_Atomic bool stop;
	unsigned int num_ctxs;			/* engine lock */
	bool started;

	_Alignas(64) struct vrd_lock timer_lock;	/* a leaf */
	struct vrd_timer *timers;		/* heap */
	struct vrd_timer *running;		/* timer whose function is being called */
};

#define VRD_GRACE_OFFLINE	UINT64_MAX

/* Grace periods and the callbacks that wait for one: reclaim.c. */
struct vrd_reclaim {
	/* Read by each poller in every turn. */
	_Alignas(64) _Atomic uint64_t period;	/* number of the newest grace period */
	_Atomic bool pending;			/* the list is not empty */

	_Alignas(64) struct vrd_lock lock;	/* a leaf; protects all fields below */
	struct vrd_deferred *first, *last;	/* ordered by period */
	bool running;				/* a poller runs callbacks */
};

struct vrd_engine {
	struct vrd_reclaim reclaim;
	struct vrd_log_target log;
	uint64_t poll_ns;
	bool poll_fixed;
	int64_t quantum_ticks, turn_ticks;	/* VRD_QUANTUM_NS and VRD_TURN_NS */
	unsigned int num_pollers;
	struct vrd_poller *pollers;

	pthread_mutex_t lock;
	LIST_HEAD(, vrd_device) devices;
	unsigned int num_devices;
	unsigned int num_abandoned;
	LIST_HEAD(, vrd_fabric) fabrics;
	void *shared;				/* vrd_engine_share() */
	void (*shared_close)(void *shared);
	struct vrd_mem_maps mem_maps;		/* mem.c: for the SIGBUS handler */
	struct vrd_notifier notifier;
	struct vrd_spin_slots spin_slots;	/* of the control threads */
	_Atomic uint64_t alias_maps;		/* mappings that transports have made */
	_Atomic uint64_t region_maps;		/* mappings of guest memory regions */
	uint64_t max_maps;			/* limit of the process */
};

/* ---- poller.c ---- */

/* On failure everything is undone. */
int vrd_poller_start(struct vrd_poller *poller, struct vrd_error *err);
/* Ends the thread. */
void vrd_poller_stop(struct vrd_poller *poller);
/* Call it when all threads have ended: before that, one may be about to wake another one. */
void vrd_poller_close(struct vrd_poller *poller);
/* To be called after writing a flag or the inbox: the poller then checks them soon. */
void vrd_poller_attend(struct vrd_poller *poller);

/* ---- reclaim.c ---- */

void vrd_reclaim_init(struct vrd_engine *engine);
/* The pollers have ended: runs the remaining callbacks. */
void vrd_reclaim_fini(struct vrd_engine *engine);

/* Online: before the first turn and after sleep.  Offline: before sleep and after the last turn. */
void vrd_grace_online(struct vrd_poller *poller);
void vrd_grace_offline(struct vrd_poller *poller);

/* True if a grace period waits for the poller to end its turn. */
static inline bool vrd_grace_wanted(const struct vrd_poller *poller)
{
	return atomic_load_explicit(&poller->engine->reclaim.period, memory_order_relaxed) !=
	       atomic_load_explicit(&poller->passed, memory_order_relaxed);
}

/* Called between two turns: no object that was looked up is in use. */
void vrd_grace_quiescent_slow(struct vrd_poller *poller, uint64_t period);
static inline void vrd_grace_quiescent(struct vrd_poller *poller)
{
	uint64_t period = atomic_load_explicit(&poller->engine->reclaim.period,
					       memory_order_acquire);

	if (period != atomic_load_explicit(&poller->passed, memory_order_relaxed))
		vrd_grace_quiescent_slow(poller, period);
}

static inline bool vrd_reclaim_pending(const struct vrd_engine *engine)
{
	return atomic_load_explicit(&engine->reclaim.pending, memory_order_relaxed);
}

/* True if callbacks may run now; the caller has gone offline. */
bool vrd_reclaim_due(struct vrd_engine *engine);
/*
 * Runs some of the callbacks whose grace period is over, between two turns; true if there
 * were any.
 */
bool vrd_reclaim_run(struct vrd_engine *engine);

/* ---- sched.c ---- */

void vrd_dev_sched_init(struct vrd_dev_sched *ds);
void vrd_run_queue_add(struct vrd_poller *poller, struct vrd_qp *qp);
void vrd_run_queue_remove(struct vrd_poller *poller, struct vrd_qp *qp);
/* Removes all QPs of the device. */
void vrd_run_queue_drop(struct vrd_poller *poller, struct vrd_dev_sched *ds);
/* Runs bursts of queued QPs, for the time of a turn; true if one had work. */
bool vrd_run_queue_run(struct vrd_poller *poller);
/* Runs one burst of a QP while no other QP waits; true if it had work. */
bool vrd_run_at_once(struct vrd_poller *poller, struct vrd_qp *qp);
/* While a device is suspended its QPs do not run but stay queued. */
void vrd_dev_sched_suspend(struct vrd_poller *poller, struct vrd_dev_sched *ds);
void vrd_dev_sched_resume(struct vrd_poller *poller, struct vrd_dev_sched *ds);
/* Queues some of the QPs that other threads posted; inbox lock.  True: there are more. */
bool vrd_sched_take_posted(struct vrd_poller *poller);
/* Removes the QP, or all QPs of the device, from the posted ones; any thread, inbox lock. */
void vrd_sched_unpost(struct vrd_poller *poller, struct vrd_qp *qp);
void vrd_sched_unpost_all(struct vrd_poller *poller, struct vrd_dev_sched *ds);

/* ---- hot.c ---- */

/* Runs or queues the QPs of hot rings whose producer has moved; true if there was work. */
bool vrd_hot_scan(struct vrd_poller *poller);
/* True if there is a hot ring whose producer has moved. */
bool vrd_hot_pending(const struct vrd_poller *poller);
/* The same, only for rings of devices other than @dev. */
bool vrd_hot_pending_elsewhere(const struct vrd_poller *poller, const struct vrd_dev_sched *dev);
/* Adds a ring that was rung to the hot list, if there is room. */
void vrd_hot_add(struct vrd_poller *poller, struct vrd_qp *qp);
/* Removes it; does not write its need_db. */
void vrd_hot_remove(struct vrd_poller *poller, struct vrd_qp *qp);
/* Removes the rings of a device without accessing them. */
void vrd_hot_drop(struct vrd_poller *poller, const struct vrd_device *dev);
/* The same, but sets their need_db and queues their QPs. */
void vrd_hot_suspend(struct vrd_poller *poller, const struct vrd_device *dev);
/* Sets need_db of all hot rings. */
void vrd_hot_set_need_db(struct vrd_poller *poller, uint32_t need_db);
/* All need_db are 1: removes idle rings, and keeps the others for vrd_hot_wake(). */
void vrd_hot_sleep(struct vrd_poller *poller);
/* After messages were handled: watches the kept rings again. */
void vrd_hot_wake(struct vrd_poller *poller);

/* ---- doorbell.c ---- */

/* Sets the ring of the context that was rung last, if it is not watched, or NULL. */
static inline void vrd_slots_rung(struct vrd_poller *poller, struct vrd_ctx_slots *slots,
				  struct vrd_ring *ring)
{
	poller->num_rung += (ring != NULL) - (slots->rung != NULL);
	slots->rung = ring;
}

/* A sleeping context rang: marks it as awake.  The caller writes need_wakeup. */
void vrd_ctx_slots_wake(struct vrd_poller *poller, struct vrd_ctx_slots *slots);
/* Sets need_wakeup of all pages that are awake. */
void vrd_doorbell_set_need_wakeup(struct vrd_poller *poller, uint32_t need_wakeup);
/* Marks all pages as asleep; need_wakeup has been written. */
void vrd_doorbell_sleep(struct vrd_poller *poller);
/* Messages: stop accessing a device that was suspended; check all pages of one that was resumed. */
void vrd_doorbell_suspend(struct vrd_poller *poller, void *dev);
void vrd_doorbell_resume(struct vrd_poller *poller, void *dev);
/* A CQ of the context has failed: moves its QPs to ERR.  Any thread. */
void vrd_doorbell_cq_failed(struct vrd_ctx *ctx);
/* Begins the walks for failed CQs; inbox lock. */
void vrd_doorbell_take_failed(struct vrd_poller *poller);
/* Continues one of the walks; true if there was something to do. */
bool vrd_doorbell_walk(struct vrd_poller *poller);

/* ---- doorbell_scan.c ---- */

/* Scans some doorbell pages; true if a byte was set or more pages must be scanned. */
bool vrd_doorbell_turn(struct vrd_poller *poller);
/* Handles a notification of the doorbell queue of @pdev's device. */
void vrd_doorbell_kicked(struct vrd_poller *poller, struct vrd_poller_dev *pdev);
/* True if a page that is awake has a byte set. */
bool vrd_doorbell_pending(struct vrd_poller *poller);
/* Runs or queues the owner of @ring, which was rung. */
void vrd_ring_rung(struct vrd_poller *poller, struct vrd_ring *ring);

/* ---- timer.c ---- */

void vrd_timers_run(struct vrd_poller *poller);

/* ---- cq.c ---- */

/* True if @cq (may be NULL) has failed; without its lock. */
bool vrd_cq_failed(const struct vrd_cq *cq);

/* Writes the completions that are staged until the end of the burst. */
void vrd_cq_flush_batch(struct vrd_poller *poller, struct vrd_cq_batch *batch);

static inline void vrd_cq_flush_sends(struct vrd_poller *poller)
{
	if (vrd_likely(poller->sends.num))
		vrd_cq_flush_batch(poller, &poller->sends);
}

static inline void vrd_cq_flush_staged(struct vrd_poller *poller)
{
	if (poller->receives.num)
		vrd_cq_flush_batch(poller, &poller->receives);
	vrd_cq_flush_sends(poller);
}

/* True if the batch has room for a completion of @cq. */
static inline bool vrd_cq_batch_takes(const struct vrd_cq_batch *batch, const struct vrd_cq *cq)
{
	return !batch->num || (batch->num < VRD_CQ_BATCH && batch->cq == cq);
}

/* Checks the arming of the CQs that got completions since the last call. */
void vrd_cq_flush_touched(struct vrd_poller *poller);
/*
 * True if one of these CQs is found armed, without the barrier that would make the answer
 * reliable.
 */
bool vrd_cq_touched_armed(const struct vrd_poller *poller);

/* ---- wqe.c ---- */

/* Prefetches a WQE that was just posted; needs no lock. */
void vrd_sq_prefetch(const struct vrd_qp *qp, uint32_t index);

/* ---- qp.c ---- */

/* Makes a deferred state change; both ring locks are held. */
void vrd_qp_apply_error(struct vrd_qp *qp);

#endif /* VRD_POLLER_INTERNAL_H */
