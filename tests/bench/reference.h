/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * References for the device's figures: plain code on the poller's own thread, so on the same
 * CPU and over the same host pointers, while the device is idle.
 */
#ifndef BENCH_REFERENCE_H
#define BENCH_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "vrd.h"

/*
 * Runs @fn on the engine's first poller, between two turns, while the caller continues; join
 * waits for its end.  One at a time.
 */
void poller_start(struct vrd_engine *engine, void (*fn)(void *arg), void *arg);
void poller_join(void);

/* Nanoseconds for a cache line to go to the poller's CPU and come back. */
double reference_round_trip(void *engine);

/*
 * A single-producer ring of 64-byte entries from this thread to the poller: millions of
 * entries per second, published one by one or in batches of 16.
 */
double reference_ring_one(void *engine);
double reference_ring_16(void *engine);

/* ---- copies ---- */

/* One piece of a copy. */
struct reference_piece {
	uint8_t *dst;
	const uint8_t *src;
	size_t length;
};

struct reference_copy {
	struct vrd_engine *engine;
	const struct reference_piece *pieces;
	size_t num;
	uint64_t ns;			/* that it took */
};

/* memcpy() of all pieces, in order, on the poller's thread; waits for it. */
void reference_copy(struct reference_copy *copy);

#endif /* BENCH_REFERENCE_H */
