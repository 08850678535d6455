// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Selects the queue pair that a poller runs next, and for how long.
 *
 * There are two levels, each a deficit round robin.  Devices that have work wait in
 * poller->runnable.  The first one runs until its quantum of time or of bytes is used up,
 * and then goes to the end.  Within the quantum each of the device's queue pairs gets one
 * burst, in rotation.  A burst is limited by the number of requests here, and by bytes in
 * the transport.  So a guest gets its share independent of its number of queue pairs, and a
 * turn of the poller is short independent of how many are busy.
 *
 * A device that was idle is placed ahead of devices that are busy all the time, once in each
 * round.  It ends the turn of a device with several queue pairs after the current burst.  So
 * a guest that sends one request and waits for its completion does not wait for a whole
 * round.
 *
 * A queue pair that is alone, which is the usual case, is run at once and is never queued.
 *
 * Threading: all data belong to the poller, except for vrd_qp_schedule() and the functions
 * that remove posted QPs.
 */
#include "compiler.h"
#include "poller_internal.h"
#include "ticks.h"
#include "wqe.h"

/* Bursts between two reads of the clock; it is also read after more than this many bytes. */
#define BURSTS_PER_LOOK	2
#define BYTES_PER_LOOK	16384
/* Maximum debt of a device, in quanta of time. */
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
	/* An unused rest of the quantum is dropped; a debt is kept. */
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

	/* A suspended device is only in its own lists. */
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
		/*
		 * If it is added while it is being detached, the message that follows removes
		 * it.
		 */
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
			/* Take the QPs of other devices first next time. */
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

/*
 * If the ring is watched, the burst takes the entries up to the producer index that the hot
 * list has seen.  The next scan finds newer entries.  Reading the producer's line again so
 * soon would only take it from the guest's CPU, which is probably about to write it.
 */
static VRD_INLINE void take_seen(struct vrd_poller *poller, struct vrd_qp *qp)
{
	struct vrd_ring *sq = &qp->sq;
	struct vrd_hot_ring *hot;
	uint32_t seen;

	qp->sched.looked = false;
	/* In most other states the ring must not be read: the driver may be resetting it. */
	if (qp->sched.hot < 0 || vrd_unlikely(qp->state != VIRTIO_RDMA_QPS_RTS))
		return;
	hot = &poller->hot[qp->sched.hot];
	if (vrd_unlikely(qp->sched.restarted)) {
		qp->sched.restarted = false;
		hot->seen = vrd_load32_acquire(hot->producer);
	}
	seen = hot->seen;
	/* An index out of range is read again, by ring_look(), before it counts as an error. */
	if (vrd_unlikely(sq->head != sq->tail || seen - sq->head > sq->entries))
		return;
	sq->tail = seen;
	qp->sched.looked = true;
}

/* Runs one burst of a QP that is not queued; true if it must be queued. */
static VRD_INLINE bool run_qp(struct vrd_poller *poller, struct vrd_qp *qp, bool *worked)
{
	uint32_t head, moved;
	enum vrd_run run;

	/*
	 * The control thread may have been preempted while it holds the lock.  Other QPs should
	 * not wait for that.
	 */
	if (vrd_unlikely(!vrd_lock_try(&qp->sq.lock)))
		return true;

	if (vrd_unlikely(atomic_load_explicit(&qp->sched.error_state, memory_order_relaxed))) {
		vrd_lock(&qp->rq.lock);
		vrd_qp_apply_error(qp);
		vrd_unlock(&qp->rq.lock);
	}
	poller->burst_start = 0;
	head = qp->sq.head;
	moved = qp->sched.moved;
	take_seen(poller, qp);
	run = qp->path->sq_run(qp, VRD_SQ_BUDGET);
	poller->burst_bytes += qp->sched.moved - moved;
	*worked |= run == VRD_RUN_MORE || head != qp->sq.head;
	qp->sched.head = qp->sq.head;
	/*
	 * The ring was empty at this index, which may be newer than the one that the hot list
	 * saw.  If a guest moves the index back, that counts as a change.  A ring with an
	 * impossible index is not read any more: only a change of that index counts.
	 */
	if (run == VRD_RUN_IDLE && !qp->sched.looked && !qp->sq.broken && qp->sched.hot >= 0)
		poller->hot[qp->sched.hot].seen = qp->sq.tail;
	/* Receives have been written before the responder's lock was released. */
	vrd_cq_flush_sends(poller);
	vrd_unlock(&qp->sq.lock);

	if (poller->num_touched) {
		poller->burst_bytes += VRD_TOUCHED_BYTES / VRD_TOUCHED_BURSTS;
		if (run == VRD_RUN_MORE || poller->burst_bytes >= VRD_TOUCHED_BYTES)
			vrd_cq_flush_touched(poller);
	}
	/*
	 * If the device is being suspended, the message for that will follow; the QP continues
	 * after the resume.
	 */
	return run == VRD_RUN_MORE || (run == VRD_RUN_WAIT && vrd_device_suspended(qp->dev));
}

bool vrd_run_at_once(struct vrd_poller *poller, struct vrd_qp *qp)
{
	bool worked = false;

	if (run_qp(poller, qp, &worked))
		vrd_run_queue_add(poller, qp);
	return worked;
}

/* ---- rotation of devices ------------------------------------------------------------- */

/* The device's turn begins: adds the quantum, once in each round. */
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
	/* Limit the debt: the kernel may have preempted the poller in the middle of a burst. */
	if (ds->ticks < -MAX_DEBT * engine->quantum_ticks)
		ds->ticks = -MAX_DEBT * engine->quantum_ticks;
	ds->ticks += engine->quantum_ticks;
	ds->bytes += VRD_QUANTUM_BYTES;
	/* No debt for what it used while no other device had work. */
	if (ds->ticks > engine->quantum_ticks || poller->num_runnable == 1)
		ds->ticks = engine->quantum_ticks;
	if (ds->bytes > VRD_QUANTUM_BYTES || poller->num_runnable == 1)
		ds->bytes = VRD_QUANTUM_BYTES;
}

/* The lines of an object that the poller needs soon. */
static VRD_INLINE void prefetch_object(const void *object, size_t size)
{
	for (size_t offset = 0; offset < size; offset += 64)
		__builtin_prefetch((const char *)object + offset, 0, 2);
}

/*
 * While one QP runs, fetches what the next ones need: the entries of the next QP, and, if it
 * belongs to another device, the CQ of that QP, the QP of the device after that one, and the
 * device after that.  If many devices have work, all of this has left the cache since it was
 * used last.  Each step reads only objects that an earlier call has fetched.
 */
static void prefetch_next(const struct vrd_dev_sched *ds)
{
	const struct vrd_qp *qp = TAILQ_FIRST(&ds->queue), *second = NULL;

	if (!qp) {
		ds = TAILQ_NEXT(ds, link);
		qp = ds ? TAILQ_FIRST(&ds->queue) : NULL;
		ds = ds ? TAILQ_NEXT(ds, link) : NULL;
		second = ds ? TAILQ_FIRST(&ds->queue) : NULL;
	}
	if (!qp)
		return;
	for (unsigned int i = 0; i < VRD_SQ_AHEAD; i++)
		vrd_sq_prefetch(qp, qp->sched.head + i);
	if (!second)
		return;
	prefetch_object(qp->send_cq, sizeof(*qp->send_cq));
	__builtin_prefetch(qp->priv[VRD_SLOT_MEMORY], 0, 2);
	prefetch_object(second, sizeof(*second));
	ds = TAILQ_NEXT(ds, link);
	if (ds)
		prefetch_object(ds, sizeof(*ds));
}

/*
 * Runs the turn of one device, which begins at @now, in ticks; returns the time of its end.
 * Each of its QPs gets at most one burst, so that all QPs of a small number are run.
 */
static uint64_t run_device(struct vrd_poller *poller, struct vrd_dev_sched *ds, uint64_t now,
			   bool *worked)
{
	unsigned int left = ds->num, bursts = 0, bytes = 0;

	replenish(poller, ds);
	/* A device with a debt must wait; the poller must not sleep then. */
	*worked |= ds->ticks <= 0 || ds->bytes <= 0;
	while (left-- && ds->num && ds->ticks > 0 && ds->bytes > 0) {
		struct vrd_qp *qp = TAILQ_FIRST(&ds->queue);

		/* The device keeps its place in the meantime. */
		qp->sched.queued = false;
		TAILQ_REMOVE(&ds->queue, qp, sched.link);
		ds->num--;
		poller->run_len--;
		qp->sched.moved = 0;
		prefetch_next(ds);
		if (run_qp(poller, qp, worked))
			vrd_run_queue_add(poller, qp);
		ds->bytes -= qp->sched.moved;
		bytes += qp->sched.moved;
		if (++bursts % BURSTS_PER_LOOK == 0 || bytes > BYTES_PER_LOOK || !left) {
			uint64_t then = now;

			now = vrd_ticks();
			ds->ticks -= now - then;
			bytes = 0;
			/* Another device runs now; this one keeps the rest of its quantum. */
			if (left && ds->num && vrd_hot_pending_elsewhere(poller, ds))
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
	/* Before the first look at the clock in a burst, each check is made. */
	if (!poller->burst_start)
		poller->burst_questions = 0;
	/* The following checks take a considerable part of the time of copying a slice. */
	if (poller->burst_questions++ % VRD_QUESTIONS_PER_LOOK && !vrd_poller_is_alone(poller))
		return false;
	if (vrd_doorbell_pending(poller))
		return true;
	/* Sleeping pages are not checked here, so the time of a burst is limited. */
	now = vrd_clock_ns();
	if (!poller->burst_start)
		poller->burst_start = now;
	return now - poller->burst_start > VRD_BURST_NS ||
	       atomic_load_explicit(&poller->next_deadline, memory_order_relaxed) <= now;
}

/* ---- ticks ------------------------------------------------------------------------- */

/* Reads both clocks as nearly at the same time as possible. */
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
