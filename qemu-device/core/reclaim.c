// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Grace periods and deferred callbacks; see reclaim.h.
 *
 * The scheme is that of liburcu's QSBR flavour: a counter of grace periods, and in each
 * poller the number of the last one that it has passed.  The library itself is not used for
 * two reasons.  Its call_rcu() runs callbacks from a thread that sleeps for 10 ms between
 * batches (measured: 10 to 12 ms for each callback), and a DESTROY_QP must not take that
 * long.  And its grace periods are those of the process: an engine would wait for the turns
 * of another engine's pollers.
 *
 * There is no separate thread.  The last poller that passes a grace period runs the
 * callbacks that waited for it.  If all pollers sleep, vrd_defer() wakes one.
 *
 * Threads: see each function.  reclaim.lock is a leaf.
 */
#include "poller_internal.h"

/* Maximum number of callbacks that one poller runs between two turns. */
#define CALLBACKS_TURN	64
/* Checks of the pollers before vrd_grace_soon() returns false: about a turn without work. */
#define SOON_SPINS	20
/* Checks of the pollers before synchronize sleeps: about 10 microseconds. */
#define SYNC_SPINS	200

uint64_t vrd_grace_begin(struct vrd_engine *engine)
{
	/* Release: a poller that reads the number sees the removals before it. */
	uint64_t period = atomic_fetch_add_explicit(&engine->reclaim.period, 1,
						    memory_order_release) + 1;

	/*
	 * Pairs with the barrier in vrd_grace_online(): a poller that comes online and is not
	 * waited for does not find objects that were removed before.
	 */
	vrd_full_barrier();
	return period;
}

/* The newest grace period that all pollers but @except (or NULL) have passed. */
static uint64_t newest_passed_except(const struct vrd_engine *engine,
				     const struct vrd_poller *except)
{
	uint64_t newest = VRD_GRACE_OFFLINE;

	for (unsigned int i = 0; i < engine->num_pollers; i++) {
		uint64_t passed = atomic_load_explicit(&engine->pollers[i].passed,
						       memory_order_acquire);

		if (passed < newest && &engine->pollers[i] != except)
			newest = passed;
	}
	return newest;
}

static uint64_t newest_passed(const struct vrd_engine *engine)
{
	return newest_passed_except(engine, NULL);
}

bool vrd_grace_passed(const struct vrd_engine *engine, uint64_t period)
{
	return newest_passed(engine) >= period;
}

bool vrd_grace_passed_elsewhere(const struct vrd_poller *self, uint64_t period)
{
	for (unsigned int i = 0; i < SOON_SPINS; i++) {
		if (newest_passed_except(self->engine, self) >= period)
			return true;
		vrd_cpu_relax();
	}
	return false;
}

bool vrd_grace_soon(struct vrd_engine *engine)
{
	uint64_t period = vrd_grace_begin(engine);

	for (unsigned int i = 0; i < SOON_SPINS; i++) {
		if (vrd_grace_passed(engine, period))
			return true;
		vrd_cpu_relax();
	}
	return false;
}

/* ---- pollers ------------------------------------------------------------------ */

void vrd_grace_online(struct vrd_poller *poller)
{
	atomic_store_explicit(&poller->passed,
			      atomic_load_explicit(&poller->engine->reclaim.period,
						   memory_order_acquire),
			      memory_order_relaxed);
	vrd_full_barrier();
}

void vrd_grace_offline(struct vrd_poller *poller)
{
	/* Release: earlier turns happen before the operations after the grace period. */
	atomic_store_explicit(&poller->passed, VRD_GRACE_OFFLINE, memory_order_release);
	/* Pairs with the barrier in vrd_defer(), before the caller checks for callbacks. */
	vrd_full_barrier();
}

void vrd_grace_quiescent_slow(struct vrd_poller *poller, uint64_t period)
{
	atomic_store_explicit(&poller->passed, period, memory_order_release);
	/* If two pollers pass at the same time, at least one of them sees both. */
	vrd_full_barrier();
}

bool vrd_reclaim_due(struct vrd_engine *engine)
{
	struct vrd_reclaim *r = &engine->reclaim;
	bool due;

	if (!atomic_load_explicit(&r->pending, memory_order_relaxed))
		return false;
	vrd_lock(&r->lock);
	due = r->first && !r->running && r->first->period <= newest_passed(engine);
	vrd_unlock(&r->lock);
	return due;
}

bool vrd_reclaim_run(struct vrd_engine *engine)
{
	struct vrd_reclaim *r = &engine->reclaim;
	unsigned int num = 0;
	struct vrd_deferred *d;

	vrd_lock(&r->lock);
	/*
	 * Only one poller runs callbacks at a time, to keep their order; the other one checks
	 * again later.
	 */
	if (r->running) {
		vrd_unlock(&r->lock);
		return false;
	}
	r->running = true;
	while ((d = r->first) && num < CALLBACKS_TURN && d->period <= newest_passed(engine)) {
		r->first = d->next;
		if (!r->first) {
			r->last = NULL;
			atomic_store_explicit(&r->pending, false, memory_order_relaxed);
		}
		vrd_unlock(&r->lock);
		d->fn(d);
		num++;
		vrd_lock(&r->lock);
	}
	r->running = false;
	vrd_unlock(&r->lock);
	return num;
}

/* ---- any thread --------------------------------------------------------------- */

static bool all_sleep(const struct vrd_engine *engine)
{
	return newest_passed(engine) == VRD_GRACE_OFFLINE;
}

void vrd_defer(struct vrd_engine *engine, struct vrd_deferred *deferred,
	       void (*fn)(struct vrd_deferred *deferred))
{
	struct vrd_reclaim *r = &engine->reclaim;

	deferred->fn = fn;
	deferred->next = NULL;
	vrd_lock(&r->lock);
	/* Under the lock, so that the list is ordered by the numbers. */
	deferred->period = vrd_grace_begin(engine);
	if (r->last)
		r->last->next = deferred;
	else
		r->first = deferred;
	r->last = deferred;
	atomic_store_explicit(&r->pending, true, memory_order_relaxed);
	vrd_unlock(&r->lock);
	/*
	 * Pairs with the barrier in vrd_grace_offline(): this thread sees the poller asleep, or
	 * the poller sees the callback.
	 */
	vrd_full_barrier();
	if (all_sleep(engine))
		vrd_poller_attend(&engine->pollers[0]);
}

struct waiter {
	struct vrd_deferred deferred;
	struct vrd_signal done;
};

static void wake_waiter(struct vrd_deferred *deferred)
{
	vrd_signal_raise(&((struct waiter *)deferred)->done);
}

void vrd_engine_barrier(struct vrd_engine *engine)
{
	struct waiter waiter;

	vrd_signal_init(&waiter.done);
	vrd_defer(engine, &waiter.deferred, wake_waiter);
	vrd_signal_wait(&waiter.done);
}

void vrd_engine_synchronize(struct vrd_engine *engine)
{
	uint64_t period = vrd_grace_begin(engine);

	for (unsigned int i = 0; i < SYNC_SPINS; i++) {
		if (vrd_grace_passed(engine, period))
			return;
		vrd_cpu_relax();
	}
	vrd_engine_barrier(engine);
}

/* ---- life cycle --------------------------------------------------------------------- */

void vrd_reclaim_init(struct vrd_engine *engine)
{
	vrd_lock_init(&engine->reclaim.lock, VRD_LOCK_LEAF);
}

void vrd_reclaim_fini(struct vrd_engine *engine)
{
	while (vrd_reclaim_run(engine))
		;
}
