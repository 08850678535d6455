/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timers of the pollers, for retries and RNR delays.  A timer is embedded in its owner; no
 * memory is allocated.  vrd_timer_set() and the other functions are declared in transport.h.
 */
#ifndef VRD_TIMER_H
#define VRD_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vrd_poller;

struct vrd_timer {
	/* Runs on the poller, without locks; may set the timer again. */
	void (*fn)(struct vrd_timer *timer);

	/* timer.c: under the poller's timer lock */
	_Atomic(struct vrd_poller *) poller;	/* where it was set last, or NULL */
	bool armed;
	uint64_t deadline;			/* CLOCK_MONOTONIC, ns */
	struct vrd_timer *child, *next, *prev;	/* pairing heap */
};

static inline void vrd_timer_init(struct vrd_timer *timer, void (*fn)(struct vrd_timer *timer))
{
	*timer = (struct vrd_timer){ .fn = fn };
}

#endif /* VRD_TIMER_H */
