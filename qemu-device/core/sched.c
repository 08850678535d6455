// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which queue pair a poller runs next, and for how long.
 *
 * Two levels, each a deficit round robin.  Devices that have work wait in
 * poller->runnable.  The first one runs until its quantum of time or of bytes is
 * used up, and goes to the end.  Within its quantum the device's queue pairs have
 * one burst each, in turn; a burst is limited by the number of requests here and
 * by bytes in the transport.  So a guest gets its share however many queue pairs it
 * has, and a turn of the poller is short however many are busy.
 *
 * A device that was idle goes ahead of those that are busy all the time, once in
 * each round, and ends the turn of a device with several queue pairs after the
 * burst that is under way.  So a guest that sends one request and waits for its
 * completion does not wait for a whole round.
 *
 * A queue pair that is alone, as most are, is run at once and is never queued.
 *
 * Threading: the poller's own, but for vrd_qp_schedule() and what takes its posts
 * back.
 */
#include "compiler.h"
#include "poller_internal.h"
#include "ticks.h"

/* Bursts between two looks at the clock; a burst of more bytes than this has one of its own. */
#define BURSTS_PER_LOOK	2
#define BYTES_PER_LOOK	16384
/* Quanta of time that a device owes at most. */
#define MAX_DEBT	10

/* ---- queues --------------------------------------------------------------- */

void vrd_dev_sched_init(struct vrd_dev_sched *ds)
{
	TAILQ_INIT(&ds->queue);
	TAILQ_INIT(&ds->posted);
}

static void make_runnable(struct vrd_poller *poller, struct vrd_dev_sched *ds)
{
	ds->runnable = true;
	poller->num_runnable++;
	ds->fresh = ds->round != poller->round;
	if (ds->fresh)
		TAILQ_INSERT_HEAD(&poller->runnable, ds, link);
	else
		TAILQ_INSERT_TAIL(&poller->runnable, ds, link);
}

static void make_idle(struct vrd_poller *poller, struct vrd_dev_sched *ds)
{
	ds->runnable = false;
	ds->fresh = false;
	poller->num_runnable--;
	TAILQ_REMOVE(&poller->runnable, ds, link);
	/* What it did not use is not saved; what it used too much it owes. */
	if (ds->ticks > 0)
		ds->ticks = 0;
	if (ds->bytes > 0)
		ds->bytes = 0;
}

void vrd_run_queue_add(struct vrd_poller *poller, struct vrd_qp *qp)
{
	struct vrd_dev_sched *ds = qp->sched.dev;

	if (qp->sched.queued)
		return;
	qp->sched.queued = true;
	TAILQ_INSERT_TAIL(&ds->queue, qp, sched.link);
	ds->num++;
	if (ds->suspended)
		return;
	poller->run_len++;
	if (!ds->runnable)
		make_runnable(poller, ds);
}

void vrd_run_queue_remove(struct vrd_poller *poller, struct vrd_qp *qp)
{
	struct vrd_dev_sched *ds = qp->sched.dev;

	if (!qp->sched.queued)
		return;
	qp->sched.queued = false;
	TAILQ_REMOVE(&ds->queue, qp, sched.link);
	ds->num--;
	if (ds->suspended)
		return;
	poller->run_len--;
	if (!ds->num)
		make_idle(poller, ds);
}

void vrd_dev_sched_suspend(struct vrd_poller *poller, struct vrd_dev_sched *ds)
{
	if (ds->suspended)
		return;
	ds->suspended = true;
	poller->run_len -= ds->num;
	if (ds->runnable)
		make_idle(poller, ds);
}

void vrd_dev_sched_resume(struct vrd_poller *poller, struct vrd_dev_sched *ds)
{
	if (!ds->suspended)
		return;
	ds->suspended = false;
	poller->run_len += ds->num;
	if (ds->num)
		make_runnable(poller, ds);
}

void vrd_run_queue_drop(struct vrd_poller *poller, struct vrd_dev_sched *ds)
{
	bool suspended = ds->suspended;

	/* As a suspended one it is in no list but its own. */
	vrd_dev_sched_suspend(poller, ds);
	TAILQ_INIT(&ds->queue);
	ds->num = 0;
	ds->suspended = suspended;
}

/* ---- other threads ----------------------------------------------------------- */

void vrd_qp_schedule(struct vrd_qp *qp)
{
	struct vrd_poller *poller = qp->poller;
	struct vrd_dev_sched *ds = qp->sched.dev;
	bool first;

	if (!poller)
		return;
	if (vrd_poller_current() == poller) {
		/* Should it be added just now, then the message that follows takes it out. */
		if (!__atomic_load_n(&qp->sched.detached, __ATOMIC_RELAXED) && !ds->gone)
			vrd_run_queue_add(poller, qp);
		return;
	}

	vrd_lock(&poller->inbox_lock);
	first = !qp->sched.detached && !ds->gone && !qp->sched.posted;
	if (first) {
		if (TAILQ_EMPTY(&ds->posted))
			TAILQ_INSERT_TAIL(&poller->posted, ds, posted_link);
		qp->sched.posted = true;
		TAILQ_INSERT_TAIL(&ds->posted, qp, sched.posted_link);
	}
	vrd_unlock(&poller->inbox_lock);
	if (first)
		vrd_poller_attend(poller);
}

void vrd_sched_unpost(struct vrd_poller *poller, struct vrd_qp *qp)
{
	struct vrd_dev_sched *ds = qp->sched.dev;

	if (!qp->sched.posted)
		return;
	qp->sched.posted = false;
	TAILQ_REMOVE(&ds->posted, qp, sched.posted_link);
	if (TAILQ_EMPTY(&ds->posted))
		TAILQ_REMOVE(&poller->posted, ds, posted_link);
}

void vrd_sched_unpost_all(struct vrd_poller *poller, struct vrd_dev_sched *ds)
{
	if (TAILQ_EMPTY(&ds->posted))
		return;
	TAILQ_INIT(&ds->posted);
	TAILQ_REMOVE(&poller->posted, ds, posted_link);
}

bool vrd_sched_take_posted(struct vrd_poller *poller)
{
	struct vrd_dev_sched *ds;

	for (unsigned int n = 0; (ds = TAILQ_FIRST(&poller->posted)); n++) {
		struct vrd_qp *qp = TAILQ_FIRST(&ds->posted);

		if (n == VRD_POSTED_TURN) {
			/* The others first, the next time. */
			TAILQ_REMOVE(&poller->posted, ds, posted_link);
			TAILQ_INSERT_TAIL(&poller->posted, ds, posted_link);
			return true;
		}
		vrd_sched_unpost(poller, qp);
		vrd_run_queue_add(poller, qp);
	}
	return false;
}

/* ---- bursts --------------------------------------------------------------------- */

/* One burst of one QP, which is not queued; true if it has to be queued. */
static VRD_INLINE bool run_qp(struct vrd_poller *poller, struct vrd_qp *qp, unsigned int budget,
			      bool *worked)
{
	struct vrd_device *dev = qp->dev;
	uint32_t head, moved;
	enum vrd_run run;

	/*
	 * The control thread may have been preempted with the lock: others
	 * should not wait for it.
	 */
	if (vrd_unlikely(!vrd_lock_try(&qp->sq.lock)))
		return true;

	if (vrd_unlikely(atomic_load_explicit(&qp->sched.error_state, memory_order_relaxed))) {
		vrd_lock(&qp->rq.lock);
		vrd_qp_apply_error(qp);
		vrd_unlock(&qp->rq.lock);
	}
	poller->burst_start = 0;
	poller->burst_questions = 0;
	head = qp->sq.head;
	moved = qp->sched.moved;
	run = qp->path->sq_run(qp, budget);
	poller->burst_bytes += qp->sched.moved - moved;
	*worked |= run == VRD_RUN_MORE || head != qp->sq.head;
	qp->sched.head = qp->sq.head;
	/*
	 * The ring was empty at this index, which may be newer than the one that
	 * the hot list saw: a guest that moves it back is seen to move it.
	 */
	if (run == VRD_RUN_IDLE && qp->sched.hot >= 0)
		poller->hot[qp->sched.hot].seen = qp->sq.tail;
	vrd_cq_flush_staged(poller);
	vrd_unlock(&qp->sq.lock);

	if (poller->num_touched &&
	    (run == VRD_RUN_MORE || ++poller->bursts >= VRD_TOUCHED_BURSTS ||
	     poller->burst_bytes > VRD_TOUCHED_BYTES))
		vrd_cq_flush_touched(poller);
	/* The message that suspends it is on its way; after the resume it goes on. */
	return run == VRD_RUN_MORE || (run == VRD_RUN_WAIT && vrd_device_suspended(dev));
}

bool vrd_run_at_once(struct vrd_poller *poller, struct vrd_qp *qp)
{
	bool worked = false;

	if (run_qp(poller, qp, VRD_SQ_BUDGET_ALONE, &worked))
		vrd_run_queue_add(poller, qp);
	return worked;
}

/* ---- devices in turn ----------------------------------------------------------------- */

/* The device's turn begins: what it may use, once in each round. */
static void replenish(struct vrd_poller *poller, struct vrd_dev_sched *ds)
{
	const struct vrd_engine *engine = poller->engine;

	if (!ds->fresh) {
		if (!poller->round_left) {
			poller->round++;
			poller->round_left = poller->num_runnable;
		}
		poller->round_left--;
	}
	ds->fresh = false;
	ds->round = poller->round;
	/* If the kernel took the CPU in the middle of a burst, the device is not to blame. */
	if (ds->ticks < -MAX_DEBT * engine->quantum_ticks)
		ds->ticks = -MAX_DEBT * engine->quantum_ticks;
	ds->ticks += engine->quantum_ticks;
	ds->bytes += VRD_QUANTUM_BYTES;
	/* What it used while no other device had work it does not owe. */
	if (ds->ticks > engine->quantum_ticks || poller->num_runnable == 1)
		ds->ticks = engine->quantum_ticks;
	if (ds->bytes > VRD_QUANTUM_BYTES || poller->num_runnable == 1)
		ds->bytes = VRD_QUANTUM_BYTES;
}

/*
 * The turn of one device, which begins at @now, in ticks; returns when it ended.
 * Each of its QPs has at most one burst, so that all of a small number are looked at.
 */
static uint64_t run_device(struct vrd_poller *poller, struct vrd_dev_sched *ds, uint64_t now,
			   bool *worked)
{
	unsigned int budget = poller->run_len > 1 ? VRD_SQ_BUDGET : VRD_SQ_BUDGET_ALONE;
	unsigned int left = ds->num, bursts = 0, bytes = 0;

	replenish(poller, ds);
	/* One that owes has to wait, and that is no reason to sleep. */
	*worked |= ds->ticks <= 0 || ds->bytes <= 0;
	while (left-- && ds->num && ds->ticks > 0 && ds->bytes > 0) {
		struct vrd_qp *qp = TAILQ_FIRST(&ds->queue);

		/* The device stays in its place meanwhile. */
		qp->sched.queued = false;
		TAILQ_REMOVE(&ds->queue, qp, sched.link);
		ds->num--;
		poller->run_len--;
		qp->sched.moved = 0;
		if (run_qp(poller, qp, budget, worked))
			vrd_run_queue_add(poller, qp);
		ds->bytes -= qp->sched.moved;
		bytes += qp->sched.moved;
		if (++bursts % BURSTS_PER_LOOK == 0 || bytes > BYTES_PER_LOOK || !left) {
			uint64_t then = now;

			now = vrd_ticks();
			ds->ticks -= now - then;
			bytes = 0;
			/* The rest of its quantum is for later: another device begins now. */
			if (ds->num && vrd_hot_pending_elsewhere(poller, ds))
				break;
		}
	}
	if (!ds->num) {
		make_idle(poller, ds);
	} else {
		TAILQ_REMOVE(&poller->runnable, ds, link);
		TAILQ_INSERT_TAIL(&poller->runnable, ds, link);
	}
	return now;
}

bool vrd_run_queue_run(struct vrd_poller *poller)
{
	uint64_t start = vrd_ticks(), now = start;
	bool worked = false;

	for (unsigned int n = poller->num_runnable; n && poller->num_runnable; n--) {
		now = run_device(poller, TAILQ_FIRST(&poller->runnable), now, &worked);
		if ((int64_t)(now - start) > poller->engine->turn_ticks)
			break;
	}
	return worked;
}

bool vrd_poller_is_alone(const struct vrd_poller *poller)
{
	return poller->num_hot <= 1 && !poller->run_len;
}

bool vrd_poller_has_other_work(struct vrd_poller *poller, struct vrd_qp *self)
{
	uint64_t now;

	if (poller->run_len > (self->sched.queued ? 1 : 0) ||
	    atomic_load_explicit(&poller->attention, memory_order_relaxed) ||
	    vrd_grace_wanted(poller))
		return true;
	for (unsigned int i = 0; i < poller->num_hot; i++)
		if (poller->hot[i].qp != self &&
		    vrd_load32(poller->hot[i].producer) != poller->hot[i].seen)
			return true;
	/* What follows takes a good part of the time that a slice is copied in. */
	if (poller->burst_questions++ % VRD_QUESTIONS_PER_LOOK && !vrd_poller_is_alone(poller))
		return false;
	if (vrd_doorbell_pending(poller))
		return true;
	/* Pages that sleep are not looked at here: so no burst lasts for long. */
	now = vrd_clock_ns();
	if (!poller->burst_start)
		poller->burst_start = now;
	return now - poller->burst_start > VRD_BURST_NS ||
	       atomic_load_explicit(&poller->next_deadline, memory_order_relaxed) <= now;
}

/* ---- ticks ------------------------------------------------------------------------- */

/* Both clocks at the same time, as far as that is possible. */
static void read_clocks(uint64_t *ns, uint64_t *ticks)
{
	uint64_t best = UINT64_MAX;

	*ns = *ticks = 0;
	for (unsigned int i = 0; i < 8; i++) {
		uint64_t before = vrd_ticks(), clock = vrd_clock_ns(), took = vrd_ticks() - before;

		if (took >= best)
			continue;
		best = took;
		*ns = clock;
		*ticks = before + took / 2;
	}
}

int64_t vrd_ticks_measure(uint64_t ns)
{
	uint64_t start_ns, start, end_ns, end;

	read_clocks(&start_ns, &start);
	do
		read_clocks(&end_ns, &end);
	while (end_ns - start_ns < 100000);
	return (int64_t)((double)(end - start) / (double)(end_ns - start_ns) * (double)ns);
}
