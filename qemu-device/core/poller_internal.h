/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What engine.c, poller.c, reclaim.c, sched.c, hot.c, doorbell*.c and timer.c share.
 * Of the rest, cq.c, qp.c and wqe.c include it.
 *
 * Unless it says otherwise, a field of struct vrd_poller, struct vrd_poller_dev
 * and struct vrd_ctx_slots is touched by the poller's own thread only; others
 * send a message (vrd_poller_call()).
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

/* Rings whose producer is read every turn: more lines cost latency. */
#define VRD_HOT_RINGS		64
/* A ring leaves the hot list for another after so many turns without work. */
#define VRD_HOT_IDLE_TURNS	4096
/* Work requests of one burst of a QP that is alone, and of others. */
#define VRD_SQ_BUDGET_ALONE	64
#define VRD_SQ_BUDGET		16
/* What a device may use before the next device has its turn. */
#define VRD_QUANTUM_NS		10000
#define VRD_QUANTUM_BYTES	(256 << 10)
/* No other device has its turn in a turn of the poller that has lasted so long. */
#define VRD_TURN_NS		50000
/* After so long, a copy ends its burst. */
#define VRD_BURST_NS		200000
/* How often a copy asks whether others wait, for each look at pages and clock. */
#define VRD_QUESTIONS_PER_LOOK	4
/* What one turn takes from the inbox, and timers that it runs. */
#define VRD_POSTED_TURN		256
#define VRD_MESSAGES_TURN	64
#define VRD_TIMERS_TURN		256
/* The next deadline is compared with the clock in one of so many busy turns. */
#define VRD_TURNS_PER_DEADLINE	8
/* Doorbell pages that one turn looks at, of those awake and of the others. */
#define VRD_SCAN_AWAKE		8
#define VRD_SCAN_ASLEEP		2
/* Sleeping pages are looked at in one of so many turns. */
#define VRD_TURNS_PER_ASLEEP	4
/* Groups of 64 dirty bytes that one turn serves in one page, and dirty bytes in all. */
#define VRD_SCAN_GROUPS		4
#define VRD_SCAN_BYTES		64
/* Empty groups that a walk skips in one turn. */
#define VRD_WALK_SKIP		16
/* CQs that wait to have their arming looked at; they do so for this many short
 * bursts, or for less when the bursts moved many bytes.
 */
#define VRD_TOUCHED_CQS		16
#define VRD_TOUCHED_BURSTS	8
#define VRD_TOUCHED_BYTES	32768
/* Before a request of VRD_LONG_BYTES earlier completions are written. */
/* And with so many bytes since the last look at armings, there is another. */
#define VRD_UNTOLD_BYTES	(1U << 20)

TAILQ_HEAD(vrd_run_queue, vrd_qp);
TAILQ_HEAD(vrd_dev_queue, vrd_dev_sched);
TAILQ_HEAD(vrd_slots_list, vrd_ctx_slots);
LIST_HEAD(vrd_ring_list, vrd_ring);

struct vrd_slot_group {
	struct vrd_ring_list rings[64];
};

/* What a walk over all rings of a context does with each of them. */
enum vrd_walk {
	VRD_WALK_FAILED	= 1,			/* QPs of failed CQs go to ERR */
	VRD_WALK_RESUME	= 2,			/* write need_db, look at the ring */
};

/* A context's doorbell page, and the rings behind its slots. */
struct vrd_ctx_slots {
	struct vrd_ctx *ctx;
	TAILQ_ENTRY(vrd_ctx_slots) link;	/* poller's awake list, or device's asleep list */
	struct vrd_poller_dev *pdev;		/* constant */
	/* A copy of ctx->db, so that a scan reads one line for each context. */
	struct virtio_rdma_db_page *db;
	bool awake;				/* its need_wakeup is 0 */
	bool attached;				/* in one of the lists */
	uint32_t next_group, next_byte;		/* where the scan goes on */
	uint64_t again;				/* groups with dirty bytes that were left over */
	/* The ring that was rung last and is not watched: its lines are prefetched. */
	struct vrd_ring *rung;

	TAILQ_ENTRY(vrd_ctx_slots) walk_link;	/* poller->walks, if walk is not zero */
	unsigned int walk;			/* VRD_WALK_* */
	uint32_t walk_group;
	TAILQ_ENTRY(vrd_ctx_slots) failed_link;	/* poller->failed: inbox lock */
	bool failed;				/* inbox lock */

	/*
	 * Made under dev->lock when a slot of it is first allocated.  A guest can
	 * set a dirty byte of it at any time, so the poller may meet the pointer
	 * before any message: vrd_slot_group().
	 */
	struct vrd_slot_group *_Atomic groups[VIRTIO_RDMA_DB_GROUPS];

	/* Allocation of slots: dev->lock */
	uint64_t used[VIRTIO_RDMA_DB_GROUPS];
	uint32_t next_shared;
	uint32_t *sharers;			/* by slot, once all are taken */
};

/* The group, or NULL; pairs with the release in slot_alloc(). */
static inline struct vrd_slot_group *vrd_slot_group(const struct vrd_ctx_slots *slots,
						    unsigned int group)
{
	return atomic_load_explicit(&slots->groups[group], memory_order_acquire);
}

/*
 * The queue pairs of one device that have work, on one poller: sched.c.  Limits of
 * a device (bytes and operations in a second) belong here.
 */
struct vrd_dev_sched {
	TAILQ_ENTRY(vrd_dev_sched) link;	/* poller->runnable */
	struct vrd_run_queue queue;
	unsigned int num;			/* in the queue */
	unsigned int num_hot;			/* of its rings that are watched */
	bool runnable;				/* in poller->runnable */
	bool fresh;				/* there, ahead of its turn */
	bool suspended;				/* keeps its queue and does not run */
	uint32_t round;				/* in which it last had its turn */
	int64_t ticks, bytes;			/* what is left of its quantum */

	/* Inbox lock: */
	TAILQ_ENTRY(vrd_dev_sched) posted_link;	/* poller->posted, if the queue is not empty */
	struct vrd_run_queue posted;		/* vrd_qp_schedule() of other threads */
	bool gone;				/* ignore them: all QPs are being destroyed */
};

/* A device, as one poller knows it. */
struct vrd_poller_dev {
	struct vrd_dev_sched sched;
	struct vrd_device *dev;
	LIST_ENTRY(vrd_poller_dev) link;
	TAILQ_ENTRY(vrd_poller_dev) turn_link;	/* rotation, if it has sleeping contexts */
	TAILQ_ENTRY(vrd_poller_dev) sweep_link;	/* sweeps, if sweep is not zero */
	struct vrd_slots_list asleep;		/* contexts whose need_wakeup is 1 */
	unsigned int num_asleep, num_awake;
	unsigned int sweep;			/* sleeping contexts to look at since the kick */
	uint32_t ring_generation;		/* dev's, as of the last resume */
	int kick_fd;				/* in the epoll set, or -1 */
};

/* Completions for one CQ that are written together, under one lock. */
#define VRD_CQ_BATCH		8

struct vrd_cq_batch {
	struct vrd_cq *cq;			/* if @num is not zero */
	unsigned int num;
	bool solicited;				/* one of them is */
	struct virtio_rdma_cqe cqe[VRD_CQ_BATCH];
};

struct vrd_hot_ring {
	const __le32 *producer;
	uint32_t seen;				/* value that the QP was scheduled for */
	uint64_t used;				/* turn */
	struct vrd_qp *qp;
	const struct vrd_dev_sched *dev;	/* the QP's */
};

struct vrd_poller {
	struct vrd_engine *engine;

	/* Read every turn. */
	_Atomic bool attention;			/* something is in the inbox or in the flags */
	unsigned int num_hot;
	uint64_t turn;
	unsigned int run_len;			/* QPs that are queued, of all runnable devices */
	unsigned int num_runnable;
	struct vrd_dev_queue runnable;		/* devices with queued QPs */
	uint32_t round;				/* in which each of them has its turn once */
	unsigned int round_left;		/* turns until the next round */
	struct vrd_slots_list awake;
	unsigned int num_awake;
	unsigned int num_rung;			/* contexts whose rung is not NULL */
	TAILQ_HEAD(, vrd_poller_dev) rotation;	/* devices with sleeping contexts */
	TAILQ_HEAD(, vrd_poller_dev) sweeps;	/* devices whose sweep is not zero */
	struct vrd_slots_list walks;		/* contexts that are walked through */
	unsigned int num_polled;		/* devices whose transport is to be polled */
	_Atomic uint64_t next_deadline;		/* of the timers, or UINT64_MAX: timer lock */
	uint64_t now;
	bool now_valid;
	bool busy;				/* the last turn had work */
	uint64_t burst_start;			/* first question for other work in a burst, or 0 */
	unsigned int burst_questions;		/* in this burst */
	struct vrd_hot_ring hot[VRD_HOT_RINGS];
	uint64_t full_turn;			/* in which no hot ring was idle */
	uint64_t woke[2];			/* turns before the last wake-ups, newest first */
	bool hot_asleep;			/* hot rings have need_db 1 */

	unsigned int bursts;			/* since the last look at armings */
	uint64_t burst_bytes;			/* that they moved */
	struct vrd_cq_batch sends, receives;	/* of the burst: cq.c */
	unsigned int num_touched;
	struct vrd_touched {
		struct vrd_cq *cq;
		bool solicited;
	} touched[VRD_TOUCHED_CQS];

	LIST_HEAD(, vrd_poller_dev) devs;

	struct vrd_spin spin;
	uint64_t idle_turns;			/* since the last one with work */
	int epoll_fd, wake_fd;
	/*
	 * The poller has it unless it sleeps.  Another thread that gets it may do in
	 * the poller's place what the poller would do for a message.
	 */
	pthread_mutex_t turn_lock;
	pthread_t thread;
	unsigned int index;
	int cpu;				/* or -1 */

	/* Counters: written by the poller, read by any thread. */
	_Atomic uint64_t stat_turns, stat_idle, stat_sleeps, stat_preempted;
	/* Newest grace period that it has passed, or OFFLINE: reclaim.c. */
	_Atomic uint64_t passed;

	/* Other threads write these. */
	_Alignas(64) struct vrd_lock inbox_lock;	/* a leaf */
	struct vrd_dev_queue posted;		/* devices with posted QPs */
	struct vrd_slots_list failed;		/* contexts with a failed CQ */
	struct vrd_message *msg_first, *msg_last;
	_Atomic bool sleeping;			/* wake_fd has to be signalled */
	_Atomic bool stop;
	unsigned int num_ctxs;			/* engine lock */
	bool started;

	_Alignas(64) struct vrd_lock timer_lock;	/* a leaf */
	struct vrd_timer *timers;		/* heap */
	struct vrd_timer *running;		/* its function is being called */
};

#define VRD_GRACE_OFFLINE	UINT64_MAX

/* Grace periods and the callbacks that wait for one: reclaim.c. */
struct vrd_reclaim {
	/* Each poller reads these every turn. */
	_Alignas(64) _Atomic uint64_t period;	/* number of the newest grace period */
	_Atomic bool pending;			/* the list is not empty */

	_Alignas(64) struct vrd_lock lock;	/* a leaf: all below */
	struct vrd_deferred *first, *last;	/* in the order of their periods */
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
	_Atomic uint64_t alias_maps;		/* mappings that transports made */
	_Atomic uint64_t region_maps;		/* of guest memory */
	uint64_t max_maps;			/* that the process may have */
};

/* ---- poller.c ---- */

/* On failure nothing is left. */
int vrd_poller_start(struct vrd_poller *poller, struct vrd_error *err);
/* Ends the thread. */
void vrd_poller_stop(struct vrd_poller *poller);
/* When all threads have ended: until then one may be about to wake another one. */
void vrd_poller_close(struct vrd_poller *poller);
/* After a flag or the inbox was written: the poller looks at them soon. */
void vrd_poller_attend(struct vrd_poller *poller);

/* ---- reclaim.c ---- */

void vrd_reclaim_init(struct vrd_engine *engine);
/* The pollers have ended: runs what is left. */
void vrd_reclaim_fini(struct vrd_engine *engine);

/* Before the first turn and after sleep; before sleep and after the last turn. */
void vrd_grace_online(struct vrd_poller *poller);
void vrd_grace_offline(struct vrd_poller *poller);

/* True if a thread waits for the poller to end its turn. */
static inline bool vrd_grace_wanted(const struct vrd_poller *poller)
{
	return atomic_load_explicit(&poller->engine->reclaim.period, memory_order_relaxed) !=
	       atomic_load_explicit(&poller->passed, memory_order_relaxed);
}

/* Between two turns: nothing that was looked up is in use. */
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

/* True if callbacks may run now; the caller has gone off line. */
bool vrd_reclaim_due(struct vrd_engine *engine);
/* Runs some of those whose grace period is over, between two turns; true if any. */
bool vrd_reclaim_run(struct vrd_engine *engine);

/* ---- sched.c ---- */

void vrd_dev_sched_init(struct vrd_dev_sched *ds);
void vrd_run_queue_add(struct vrd_poller *poller, struct vrd_qp *qp);
void vrd_run_queue_remove(struct vrd_poller *poller, struct vrd_qp *qp);
/* Forgets all QPs of the device. */
void vrd_run_queue_drop(struct vrd_poller *poller, struct vrd_dev_sched *ds);
/* Bursts of queued QPs, for a turn's time; true if one had work. */
bool vrd_run_queue_run(struct vrd_poller *poller);
/* One burst of a QP that nobody else has to wait for; true if it had work. */
bool vrd_run_at_once(struct vrd_poller *poller, struct vrd_qp *qp);
/* The device's QPs do not run, and stay queued; and they do again. */
void vrd_dev_sched_suspend(struct vrd_poller *poller, struct vrd_dev_sched *ds);
void vrd_dev_sched_resume(struct vrd_poller *poller, struct vrd_dev_sched *ds);
/* Queues what other threads posted, some of it; inbox lock.  True: there is more. */
bool vrd_sched_take_posted(struct vrd_poller *poller);
/* The QP, or all QPs of the device, are not posted any more; any thread, inbox lock. */
void vrd_sched_unpost(struct vrd_poller *poller, struct vrd_qp *qp);
void vrd_sched_unpost_all(struct vrd_poller *poller, struct vrd_dev_sched *ds);

/* ---- hot.c ---- */

/* Runs or queues the QPs of hot rings whose producer moved; true if there was work. */
bool vrd_hot_scan(struct vrd_poller *poller);
/* True if there is a hot ring whose producer moved. */
bool vrd_hot_pending(const struct vrd_poller *poller);
/* The same of another device than @dev. */
bool vrd_hot_pending_elsewhere(const struct vrd_poller *poller, const struct vrd_dev_sched *dev);
/* Watches a ring that was rung, if there is room. */
void vrd_hot_add(struct vrd_poller *poller, struct vrd_qp *qp);
/* Forgets it; its need_db is not written. */
void vrd_hot_remove(struct vrd_poller *poller, struct vrd_qp *qp);
/* Forgets the rings of a device, without touching them. */
void vrd_hot_drop(struct vrd_poller *poller, const struct vrd_device *dev);
/* The same, but sets their need_db and queues their QPs. */
void vrd_hot_suspend(struct vrd_poller *poller, const struct vrd_device *dev);
/* need_db of all hot rings. */
void vrd_hot_set_need_db(struct vrd_poller *poller, uint32_t need_db);
/* need_db of all is 1: forgets those that were quiet, keeps the rest for vrd_hot_wake(). */
void vrd_hot_sleep(struct vrd_poller *poller);
/* After messages were taken: watches again what was kept. */
void vrd_hot_wake(struct vrd_poller *poller);

/* ---- doorbell.c ---- */

/* The ring of the context that was rung last, if it is not watched, or NULL. */
static inline void vrd_slots_rung(struct vrd_poller *poller, struct vrd_ctx_slots *slots,
				  struct vrd_ring *ring)
{
	poller->num_rung += (ring != NULL) - (slots->rung != NULL);
	slots->rung = ring;
}

/* A sleeping context rang: it is awake from now on; need_wakeup is the caller's. */
void vrd_ctx_slots_wake(struct vrd_poller *poller, struct vrd_ctx_slots *slots);
/* need_wakeup of all pages that are awake. */
void vrd_doorbell_set_need_wakeup(struct vrd_poller *poller, uint32_t need_wakeup);
/* All pages sleep now; need_wakeup has been written. */
void vrd_doorbell_sleep(struct vrd_poller *poller);
/* Messages: leave a suspended device alone; look at all of one that came back. */
void vrd_doorbell_suspend(struct vrd_poller *poller, void *dev);
void vrd_doorbell_resume(struct vrd_poller *poller, void *dev);
/* A CQ of the context has failed: its QPs go to ERR.  Any thread. */
void vrd_doorbell_cq_failed(struct vrd_ctx *ctx);
/* Begins the walks for it; inbox lock. */
void vrd_doorbell_take_failed(struct vrd_poller *poller);
/* A part of the walks that there are; true if there was something to do. */
bool vrd_doorbell_walk(struct vrd_poller *poller);

/* ---- doorbell_scan.c ---- */

/* Looks at some doorbell pages; true if a byte was set or more are due. */
bool vrd_doorbell_turn(struct vrd_poller *poller);
/* The doorbell queue of @pdev's device was notified. */
void vrd_doorbell_kicked(struct vrd_poller *poller, struct vrd_poller_dev *pdev);
/* True if a page that is awake has a byte set. */
bool vrd_doorbell_pending(struct vrd_poller *poller);
/* What is due when @ring was rung. */
void vrd_ring_rung(struct vrd_poller *poller, struct vrd_ring *ring);

/* ---- timer.c ---- */

void vrd_timers_run(struct vrd_poller *poller);

/* ---- cq.c ---- */

/* True if @cq (may be NULL) overflowed; without its lock. */
bool vrd_cq_failed(const struct vrd_cq *cq);

/* Writes the completions that wait for the end of the burst. */
void vrd_cq_flush_batch(struct vrd_poller *poller, struct vrd_cq_batch *batch);

static inline void vrd_cq_flush_staged(struct vrd_poller *poller)
{
	if (poller->receives.num)
		vrd_cq_flush_batch(poller, &poller->receives);
	if (poller->sends.num)
		vrd_cq_flush_batch(poller, &poller->sends);
}

/* Room for one more completion of @cq, which the caller fills at once. */
static inline struct virtio_rdma_cqe *vrd_cq_stage(struct vrd_poller *poller,
						   struct vrd_cq_batch *batch, struct vrd_cq *cq)
{
	if (batch->num && (batch->num == VRD_CQ_BATCH || batch->cq != cq))
		vrd_cq_flush_batch(poller, batch);
	batch->cq = cq;
	return &batch->cqe[batch->num++];
}

/* Looks at the arming of the CQs that got completions since the last call. */
void vrd_cq_flush_touched(struct vrd_poller *poller);
/* True if one of them is seen to be armed, without the barrier that makes sure. */
bool vrd_cq_touched_armed(const struct vrd_poller *poller);

/* ---- wqe.c ---- */

/* Begins to load a WQE that was just posted; needs no lock. */
void vrd_sq_prefetch(const struct vrd_qp *qp, uint32_t index);

/* ---- qp.c ---- */

/* Carries out a deferred change of state; both ring locks are held. */
void vrd_qp_apply_error(struct vrd_qp *qp);

#endif /* VRD_POLLER_INTERNAL_H */
