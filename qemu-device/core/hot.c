// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The hot list: send rings whose producer index a poller reads every turn.
 *
 * A hot ring has need_db 0, so that a post costs the driver one store.  All other rings have
 * need_db 1 and are found by the doorbell page.  A ring becomes hot when it is rung.  It is
 * removed to make room for another one when it has been idle for long, or when its device
 * has more rings in the list than the other ring's device.  If there are more busy rings
 * than the list holds, the others keep using doorbells, which costs less than exchanging
 * them.  While the poller sleeps all rings have need_db 1.  Rings that were busy recently
 * are watched again as soon as the poller wakes, whatever woke it.
 *
 * Threading: all data belong to the poller.
 */
#include "compiler.h"
#include "poller_internal.h"
#include "store.h"
#include "ticks.h"

/* Requests found at a look: with fewer, look more often; with ENOUGH, no longer interval. */
#define HOLD_MIN	2
#define HOLD_ENOUGH	16
#define HOLD_MAX	64

/*
 * Chooses the time until the next look at a ring in which @num new requests were found.
 *
 * Each look takes the line of the producer index from the guest's CPU.  A guest that posts
 * requests one by one, without waiting for their completions, would have to fetch the line
 * again for each of them.  So the poller looks less often if the guest posts faster than it
 * looks: it found requests at the first look after the last ones, which is too early for an
 * answer to their completions.
 */
static VRD_NOINLINE void adapt(const struct vrd_poller *poller, struct vrd_hot_ring *hot,
			       uint32_t num)
{
	const uint32_t min = poller->engine->quantum_ticks / 64;

	if (hot->missed || (hot->hold && num < HOLD_MIN) || num > HOLD_MAX)
		hot->hold = hot->hold > min ? hot->hold / 2 : 0;
	else if (num < HOLD_ENOUGH)
		hot->hold = !hot->hold ? min : hot->hold < 8 * min ? 2 * hot->hold : hot->hold;
	hot->found = vrd_ticks();
}

/* True if it is too early for another look at the ring. */
static VRD_INLINE bool is_held(const struct vrd_hot_ring *hot)
{
	return vrd_unlikely(hot->hold) && vrd_ticks() - hot->found < hot->hold;
}

/* Continues a scan at ring @i, whose producer has moved. */
static VRD_NOINLINE bool scan_from(struct vrd_poller *poller, unsigned int i)
{
	struct vrd_qp *first = NULL;
	bool found = false;

	for (; i < poller->num_hot; i++) {
		struct vrd_hot_ring *hot = &poller->hot[i];
		uint32_t producer;

		if (is_held(hot))
			continue;
		producer = vrd_load32_acquire(hot->producer);
		if (producer == hot->seen) {
			hot->missed = true;
			continue;
		}
		if (vrd_unlikely(hot->hold || !hot->missed))
			adapt(poller, hot, producer - hot->seen);
		hot->missed = false;
		hot->used = poller->turn;
		if (!found && !first && !poller->run_len) {
			hot->seen = producer;
			first = hot->qp;
			continue;
		}
		if (first)
			vrd_run_queue_add(poller, first);
		first = NULL;
		vrd_sq_prefetch(hot->qp, hot->seen);
		hot->seen = producer;
		vrd_run_queue_add(poller, hot->qp);
		found = true;
	}
	/* No other QP waits: run it without queueing. */
	return first ? vrd_run_at_once(poller, first) : found;
}

bool vrd_hot_scan(struct vrd_poller *poller)
{
	for (unsigned int i = 0; i < poller->num_hot; i++) {
		struct vrd_hot_ring *hot = &poller->hot[i];

		if (is_held(hot))
			continue;
		if (vrd_load32(hot->producer) != hot->seen)
			return scan_from(poller, i);
		hot->missed = true;
	}
	return false;
}

bool vrd_hot_pending(const struct vrd_poller *poller)
{
	for (unsigned int i = 0; i < poller->num_hot; i++)
		if (vrd_load32(poller->hot[i].producer) != poller->hot[i].seen)
			return true;
	return false;
}

bool vrd_hot_pending_elsewhere(const struct vrd_poller *poller, const struct vrd_dev_sched *dev)
{
	for (unsigned int i = 0; i < poller->num_hot; i++) {
		const struct vrd_hot_ring *hot = &poller->hot[i];

		if (hot->dev != dev && vrd_load32(hot->producer) != hot->seen)
			return true;
	}
	return false;
}

static void hot_take_out(struct vrd_poller *poller, unsigned int i)
{
	struct vrd_qp *qp = poller->hot[i].qp;

	qp->sched.hot = -1;
	qp->sched.dev->num_hot--;
	poller->hot[i] = poller->hot[--poller->num_hot];
	if (i < poller->num_hot)
		poller->hot[i].qp->sched.hot = i;
}

/*
 * The driver must ring for this ring from now on.  Requests that it posted just before are
 * not lost.
 */
static void hot_give_up(struct vrd_poller *poller, unsigned int i)
{
	struct vrd_qp *qp = poller->hot[i].qp;
	uint32_t seen = poller->hot[i].seen;

	hot_take_out(poller, i);
	vrd_guest_store32(qp->dev, &qp->sq.ctrl->need_db, 1);
	/* pairs with the driver's barrier between its store of producer and its load of need_db */
	vrd_full_barrier();
	if (vrd_load32(&qp->sq.ctrl->producer) != seen)
		vrd_run_queue_add(poller, qp);
}

/*
 * Makes room for a ring of @ds.  Removes the ring that was idle for longest, if that was long
 * enough; else the least recently used ring of the device with the most rings, if that device
 * has at least two more than @ds.
 */
static bool hot_make_room(struct vrd_poller *poller, const struct vrd_dev_sched *ds)
{
	unsigned int oldest = 0, greedy = 0;

	/* Try this only once in a turn, not for each ring that was rung. */
	if (poller->full_turn == poller->turn)
		return false;
	for (unsigned int i = 1; i < poller->num_hot; i++) {
		const struct vrd_hot_ring *hot = &poller->hot[i], *most = &poller->hot[greedy];
		unsigned int num = hot->qp->sched.dev->num_hot;
		unsigned int max = most->qp->sched.dev->num_hot;

		if (hot->used < poller->hot[oldest].used)
			oldest = i;
		if (num > max || (num == max && hot->used < most->used))
			greedy = i;
	}
	if (poller->turn - poller->hot[oldest].used >= VRD_HOT_IDLE_TURNS) {
		hot_give_up(poller, oldest);
	} else if (poller->hot[greedy].qp->sched.dev->num_hot > ds->num_hot + 1) {
		hot_give_up(poller, greedy);
	} else {
		poller->full_turn = poller->turn;
		return false;
	}
	return true;
}

void vrd_hot_add(struct vrd_poller *poller, struct vrd_qp *qp)
{
	struct vrd_hot_ring *hot;

	if (qp->sched.hot >= 0 || !qp->sq.ctrl)
		return;
	if (poller->num_hot == VRD_HOT_RINGS && !hot_make_room(poller, qp->sched.dev))
		return;
	vrd_guest_store32(qp->dev, &qp->sq.ctrl->need_db, 0);
	hot = &poller->hot[poller->num_hot];
	hot->producer = &qp->sq.ctrl->producer;
	/* The caller runs the QP, which takes at least the entries up to this index. */
	hot->seen = vrd_load32_acquire(hot->producer);
	hot->used = poller->turn;
	hot->missed = true;
	hot->hold = 0;
	hot->qp = qp;
	hot->dev = qp->sched.dev;
	qp->sched.hot = poller->num_hot++;
	qp->sched.dev->num_hot++;
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

void vrd_hot_suspend(struct vrd_poller *poller, const struct vrd_device *dev)
{
	for (unsigned int i = poller->num_hot; i; i--) {
		struct vrd_qp *qp = poller->hot[i - 1].qp;

		if (qp->dev != dev)
			continue;
		hot_take_out(poller, i - 1);
		/*
		 * The QP is run after the resume, so requests that were posted before this
		 * store are found.
		 */
		vrd_guest_store32(qp->dev, &qp->sq.ctrl->need_db, 1);
		vrd_run_queue_add(poller, qp);
	}
}

void vrd_hot_set_need_db(struct vrd_poller *poller, uint32_t need_db)
{
	for (unsigned int i = 0; i < poller->num_hot; i++) {
		struct vrd_qp *qp = poller->hot[i].qp;

		vrd_guest_store32(qp->dev, &qp->sq.ctrl->need_db, need_db);
	}
}

/*
 * If two guests answer each other and the poller sleeps between messages, the guest that did
 * not wake it would otherwise have to ring as well, although the poller is awake.  Drop
 * rings that were idle for two wake-ups: keeping them costs two stores each.
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
	 * The queue pairs and their memory still exist: a thread that removes them sends a
	 * message first, and waits for it.
	 */
	vrd_hot_set_need_db(poller, 0);
	poller->hot_asleep = false;
}
