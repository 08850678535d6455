// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which send queues a poller runs: the run queue, and the hot list of rings
 * whose producer index it reads every turn.
 *
 * A hot ring has need_db 0, so that a post costs its owner one store.  All
 * others have need_db 1 and come through the doorbell page.  A ring becomes hot
 * when it was rung, and makes room when it has been quiet for long; among more
 * busy rings than the list holds the rest stay with the doorbell, which costs
 * less than to swap them.  While the poller sleeps all have need_db 1; those that
 * were busy lately are watched again as soon as it wakes, whoever woke it.
 *
 * Threading: the poller's own, but for vrd_qp_schedule().
 */
#include "poller_internal.h"

void vrd_run_queue_add(struct vrd_poller *poller, struct vrd_qp *qp)
{
	if (qp->sched.queued)
		return;
	qp->sched.queued = true;
	TAILQ_INSERT_TAIL(&poller->run_queue, qp, sched.link);
	poller->run_len++;
}

void vrd_run_queue_remove(struct vrd_poller *poller, struct vrd_qp *qp)
{
	if (!qp->sched.queued)
		return;
	qp->sched.queued = false;
	TAILQ_REMOVE(&poller->run_queue, qp, sched.link);
	poller->run_len--;
}

void vrd_qp_schedule(struct vrd_qp *qp)
{
	struct vrd_poller *poller = qp->poller;
	bool first;

	if (!poller)
		return;
	if (vrd_poller_current() == poller) {
		/* Should it be added just now, then the message that follows takes it out. */
		if (!__atomic_load_n(&qp->sched.detached, __ATOMIC_RELAXED))
			vrd_run_queue_add(poller, qp);
		return;
	}

	vrd_lock(&poller->inbox_lock);
	first = !qp->sched.detached && !qp->sched.posted;
	if (first) {
		qp->sched.posted = true;
		qp->sched.posted_next = NULL;
		if (poller->posted_last)
			poller->posted_last->sched.posted_next = qp;
		else
			poller->posted_first = qp;
		poller->posted_last = qp;
	}
	vrd_unlock(&poller->inbox_lock);
	if (first)
		vrd_poller_attend(poller);
}

/* One burst of one QP; true if it has to be queued again. */
static bool run_qp(struct vrd_poller *poller, struct vrd_qp *qp, bool *worked)
{
	struct vrd_device *dev = qp->dev;
	uint32_t head;
	enum vrd_run run;

	/* Resume schedules all QPs of the device. */
	if (vrd_device_suspended(dev))
		return false;

	/*
	 * The control thread may have been preempted with the lock: others
	 * should not wait for it.
	 */
	if (!vrd_lock_try(&qp->sq.lock))
		return true;

	if (atomic_load_explicit(&qp->sched.error_state, memory_order_relaxed)) {
		vrd_lock(&qp->rq.lock);
		vrd_qp_apply_error(qp);
		vrd_unlock(&qp->rq.lock);
	}
	poller->burst_start = 0;
	poller->burst_questions = 0;
	head = qp->sq.head;
	run = qp->path->sq_run(qp, VRD_SQ_BUDGET);
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
	return run == VRD_RUN_MORE;
}

bool vrd_run_queue_run(struct vrd_poller *poller)
{
	bool worked = false;

	for (unsigned int n = poller->run_len; n; n--) {
		struct vrd_qp *qp = TAILQ_FIRST(&poller->run_queue);

		/* A burst may take others off, but adds only at the tail. */
		if (!qp)
			break;
		vrd_run_queue_remove(poller, qp);
		if (run_qp(poller, qp, &worked))
			vrd_run_queue_add(poller, qp);
	}
	return worked;
}

bool vrd_hot_scan(struct vrd_poller *poller)
{
	bool found = false;

	for (unsigned int i = 0; i < poller->num_hot; i++) {
		struct vrd_hot_ring *hot = &poller->hot[i];
		uint32_t producer = vrd_load32(hot->producer);

		if (producer == hot->seen)
			continue;
		vrd_sq_prefetch(hot->qp, hot->seen);
		hot->seen = producer;
		hot->used = poller->turn;
		vrd_run_queue_add(poller, hot->qp);
		found = true;
	}
	return found;
}

static void hot_take_out(struct vrd_poller *poller, unsigned int i)
{
	poller->hot[i].qp->sched.hot = -1;
	poller->hot[i] = poller->hot[--poller->num_hot];
	if (i < poller->num_hot)
		poller->hot[i].qp->sched.hot = i;
}

/* The ring that was quiet for longest leaves, if that was long enough. */
static bool hot_make_room(struct vrd_poller *poller)
{
	struct vrd_hot_ring *oldest = &poller->hot[0];
	struct vrd_qp *qp;
	uint32_t seen;

	/* Not again and again for all that rang in this turn. */
	if (poller->full_turn == poller->turn)
		return false;
	for (unsigned int i = 1; i < poller->num_hot; i++)
		if (poller->hot[i].used < oldest->used)
			oldest = &poller->hot[i];
	if (poller->turn - oldest->used < VRD_HOT_IDLE_TURNS) {
		poller->full_turn = poller->turn;
		return false;
	}

	qp = oldest->qp;
	seen = oldest->seen;
	hot_take_out(poller, qp->sched.hot);
	if (vrd_device_suspended(qp->dev))
		return true;
	vrd_store32(&qp->sq.ctrl->need_db, 1);
	/* pairs with the driver's, between producer and need_db */
	vrd_full_barrier();
	if (vrd_load32(&qp->sq.ctrl->producer) != seen)
		vrd_run_queue_add(poller, qp);
	return true;
}

void vrd_hot_add(struct vrd_poller *poller, struct vrd_qp *qp)
{
	struct vrd_hot_ring *hot;

	if (qp->sched.hot >= 0 || !qp->sq.ctrl)
		return;
	if (poller->num_hot == VRD_HOT_RINGS && !hot_make_room(poller))
		return;
	vrd_store32(&qp->sq.ctrl->need_db, 0);
	hot = &poller->hot[poller->num_hot];
	hot->producer = &qp->sq.ctrl->producer;
	/* The caller runs the QP: it takes at least what was there now. */
	hot->seen = vrd_load32(hot->producer);
	hot->used = poller->turn;
	hot->qp = qp;
	qp->sched.hot = poller->num_hot++;
}

void vrd_hot_remove(struct vrd_poller *poller, struct vrd_qp *qp)
{
	if (qp->sched.hot >= 0)
		hot_take_out(poller, qp->sched.hot);
}

void vrd_hot_drop(struct vrd_poller *poller, const struct vrd_device *dev)
{
	for (unsigned int i = poller->num_hot; i; i--)
		if (poller->hot[i - 1].qp->dev == dev)
			hot_take_out(poller, i - 1);
}

void vrd_hot_set_need_db(struct vrd_poller *poller, uint32_t need_db)
{
	for (unsigned int i = 0; i < poller->num_hot; i++)
		vrd_store32(&poller->hot[i].qp->sq.ctrl->need_db, need_db);
}

/*
 * Where two guests answer each other and the poller sleeps in between, the one
 * that did not wake it would otherwise have to ring as well, although it is awake.
 * What was quiet for two wake-ups is not worth the stores.
 */
void vrd_hot_sleep(struct vrd_poller *poller)
{
	for (unsigned int i = poller->num_hot; i; i--)
		if (poller->hot[i - 1].used <= poller->woke[1])
			hot_take_out(poller, i - 1);
	poller->woke[1] = poller->woke[0];
	poller->woke[0] = poller->turn;
	poller->hot_asleep = true;
}

void vrd_hot_wake(struct vrd_poller *poller)
{
	/*
	 * Its queue pairs and memory are still there: who takes them away sends a
	 * message first, and waits for it.
	 */
	vrd_hot_set_need_db(poller, 0);
	poller->hot_asleep = false;
}

bool vrd_poller_is_alone(const struct vrd_poller *poller)
{
	return poller->num_hot <= 1 && poller->run_len <= 1;
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
