// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Timers of a poller: a pairing heap ordered by deadline, under the poller's timer_lock.
 *
 * Setting a timer is O(1), so a retry timer costs little more than the lock.  The poller
 * reads next_deadline once per turn and takes the lock only when that has passed.
 */
#include <sched.h>
#include <time.h>

#include "poller_internal.h"

static struct vrd_timer *meld(struct vrd_timer *a, struct vrd_timer *b)
{
	struct vrd_timer *top = a, *sub = b;

	if (!a || !b)
		return a ? a : b;
	if (b->deadline < a->deadline) {
		top = b;
		sub = a;
	}
	/* prev points to the left sibling; in the first child it points to the parent. */
	sub->prev = top;
	sub->next = top->child;
	if (top->child)
		top->child->prev = sub;
	top->child = sub;
	top->next = NULL;
	top->prev = NULL;
	return top;
}

/* Melds a list of siblings in pairs, then all pairs from the last to the first. */
static struct vrd_timer *meld_siblings(struct vrd_timer *list)
{
	struct vrd_timer *pairs = NULL, *heap = NULL;

	while (list) {
		struct vrd_timer *a = list, *b = list->next;

		list = b ? b->next : NULL;
		a->next = NULL;
		if (b)
			b->next = NULL;
		a = meld(a, b);
		a->prev = pairs;
		pairs = a;
	}
	while (pairs) {
		struct vrd_timer *pair = pairs;

		pairs = pair->prev;
		pair->prev = NULL;
		heap = meld(heap, pair);
	}
	if (heap)
		heap->prev = NULL;
	return heap;
}

/* Removes @timer from the heap; timer_lock is held. */
static void remove_locked(struct vrd_poller *poller, struct vrd_timer *timer)
{
	struct vrd_timer *sub = meld_siblings(timer->child);

	timer->child = NULL;
	if (timer == poller->timers) {
		poller->timers = sub;
	} else {
		if (timer->prev->child == timer)
			timer->prev->child = timer->next;
		else
			timer->prev->next = timer->next;
		if (timer->next)
			timer->next->prev = timer->prev;
		poller->timers = meld(poller->timers, sub);
	}
	timer->next = NULL;
	timer->prev = NULL;
	timer->armed = false;
}

static void publish_deadline(struct vrd_poller *poller)
{
	atomic_store_explicit(&poller->next_deadline,
			      poller->timers ? poller->timers->deadline : UINT64_MAX,
			      memory_order_relaxed);
}

void vrd_timer_set(struct vrd_poller *poller, struct vrd_timer *timer, uint64_t deadline_ns)
{
	struct vrd_poller *before = atomic_load(&timer->poller);
	bool earlier;

	if (before && before != poller)
		vrd_timer_cancel(timer);

	vrd_lock(&poller->timer_lock);
	atomic_store(&timer->poller, poller);
	if (timer->armed)
		remove_locked(poller, timer);
	timer->deadline = deadline_ns;
	timer->armed = true;
	poller->timers = meld(poller->timers, timer);
	earlier = poller->timers == timer;
	publish_deadline(poller);
	vrd_unlock(&poller->timer_lock);

	/* The poller may sleep until the previous next deadline: wake it. */
	if (earlier && vrd_poller_current() != poller)
		vrd_poller_attend(poller);
}

void vrd_timer_cancel(struct vrd_timer *timer)
{
	struct vrd_poller *poller = atomic_load(&timer->poller);

	if (!poller)
		return;
	vrd_lock(&poller->timer_lock);
	if (timer->armed) {
		remove_locked(poller, timer);
		publish_deadline(poller);
	}
	vrd_unlock(&poller->timer_lock);
}

void vrd_timer_cancel_sync(struct vrd_timer *timer)
{
	struct vrd_poller *poller = atomic_load(&timer->poller);

	while (poller) {
		bool running;

		/* The function may have set the timer again. */
		vrd_timer_cancel(timer);
		vrd_lock(&poller->timer_lock);
		running = poller->running == timer;
		vrd_unlock(&poller->timer_lock);
		if (!running)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
	}
}

void vrd_timers_run(struct vrd_poller *poller)
{
	uint64_t now = vrd_poller_now(poller);
	unsigned int left = VRD_TIMERS_TURN;

	vrd_lock(&poller->timer_lock);
	/* Bounded, because a function may set its timer again with a deadline that has passed. */
	while (poller->timers && poller->timers->deadline <= now && left--) {
		struct vrd_timer *timer = poller->timers;

		remove_locked(poller, timer);
		poller->running = timer;
		vrd_unlock(&poller->timer_lock);
		timer->fn(timer);
		vrd_lock(&poller->timer_lock);
		poller->running = NULL;
	}
	publish_deadline(poller);
	vrd_unlock(&poller->timer_lock);
}
