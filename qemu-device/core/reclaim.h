/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Grace periods of an engine, and callbacks that run after one.
 *
 * Pollers look objects up without locks.  An object that a poller looked up is valid until
 * the end of its turn.  To free an object, first remove it from its table.  Then either wait
 * for a grace period (vrd_engine_synchronize(), not on a poller) or defer the rest
 * (vrd_defer(), any thread, never waits).
 *
 * A grace period has a number.  It is over when each poller has ended a turn since the
 * number was published, or sleeps.
 */
#ifndef VRD_RECLAIM_H
#define VRD_RECLAIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vrd_engine;
struct vrd_poller;

/* The caller's memory, in use until @fn is called; @fn may free it. */
struct vrd_deferred {
	void (*fn)(struct vrd_deferred *deferred);
	struct vrd_deferred *next;
	uint64_t period;
};

/*
 * Calls @fn once, after a grace period that begins now.  From any thread, under any lock
 * except a leaf.
 *
 * @fn runs on one of the engine's pollers, between two turns, without a lock.  It must be
 * short, must not wait, and must not take dev->lock.  Long work, such as unmapping memory,
 * belongs on the control thread: @fn may send a follow-up to it.  Callbacks of one engine
 * run one at a time, in the order of the calls.
 */
void vrd_defer(struct vrd_engine *engine, struct vrd_deferred *deferred,
	       void (*fn)(struct vrd_deferred *deferred));

/* Waits for all callbacks that were deferred before.  Not on a poller. */
void vrd_engine_barrier(struct vrd_engine *engine);

/*
 * For a thread that can do other work in the meantime: begins a grace period and returns its
 * number.  vrd_grace_passed() returns whether it is over.  Any thread.
 */
uint64_t vrd_grace_begin(struct vrd_engine *engine);
bool vrd_grace_passed(const struct vrd_engine *engine, uint64_t period);
/*
 * For @self, a poller in a turn: true if all other pollers have passed the grace period, or
 * do so within about a microsecond.
 */
bool vrd_grace_passed_elsewhere(const struct vrd_poller *self, uint64_t period);
/*
 * True if a grace period that begins now is over within about a microsecond, as it is if the
 * pollers sleep or have no work.  A deferred callback would then cost more.
 */
bool vrd_grace_soon(struct vrd_engine *engine);

#endif /* VRD_RECLAIM_H */
