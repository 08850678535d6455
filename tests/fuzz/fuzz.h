/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzzers share: extracting values from an input, a guest whose memory is restored
 * for each input, stepping the pollers, and the thread that flips shared memory.
 *
 * A harness is a libFuzzer target (LLVMFuzzerTestOneInput()); with standalone.c in place of
 * libFuzzer it runs the files named on its command line.  The engine and its devices live as
 * long as the process; each input ends with INIT or a reset and a check that no object is
 * left.
 *
 * An input is a sequence of operations; when it is exhausted every value is zero.  Time
 * never decides: a device that does not answer triggers libFuzzer's -timeout.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Maximum number of operations of one input. */
#define FUZZ_MAX_OPS	256

/* ---- the input ---- */

struct fuzz_in {
	const uint8_t *p, *end;
};

bool fuzz_done(const struct fuzz_in *in);
uint8_t fuzz_u8(struct fuzz_in *in);
uint16_t fuzz_u16(struct fuzz_in *in);
uint32_t fuzz_u32(struct fuzz_in *in);
uint64_t fuzz_u64(struct fuzz_in *in);
void fuzz_bytes(struct fuzz_in *in, void *to, size_t len);

/*
 * A value that is usually @good: one byte selects.  Below 0xc0 it is @good; then follow the
 * values at which arithmetic overflows; from 0xf0 on the value comes from the input.
 */
uint32_t fuzz_pick32(struct fuzz_in *in, uint32_t good);
uint64_t fuzz_pick64(struct fuzz_in *in, uint64_t good);

/* Changes up to three places of @buf, as the input says (its first byte is usually zero: none). */
void fuzz_mutate(struct fuzz_in *in, void *buf, size_t len);
/* Changes @num places. */
void fuzz_change(struct fuzz_in *in, void *buf, size_t len, unsigned int num);

/* ---- devices ---- */

/* Ends the process: an invariant was violated. */
void __attribute__((noreturn, format(printf, 1, 2))) fuzz_fail(const char *fmt, ...);

/* Each poller ends @turns turns, so that what was posted before is done or waits for a timer. */
void fuzz_step(struct vrd_engine *engine, unsigned int turns);

struct fuzz_guest {
	struct guest *g;
	uint64_t *used_pages;		/* bitmap of the initial guest */
	bool stopped;			/* its queues are started */
};

void fuzz_guest_open(struct fuzz_guest *f, struct vrd_engine *engine,
		     const struct guest_config *cfg);
/* Memory that stays; call after fuzz_guest_open(), before the first input. */
void *fuzz_guest_keep(struct fuzz_guest *f, uint64_t bytes);
/* Frees the memory that the last input used. */
void fuzz_guest_rewind(struct fuzz_guest *f);
/* The same; also sets GID 0. */
void fuzz_guest_begin(struct fuzz_guest *f);
/* Restarts what was stopped; INIT; no object may be left. */
void fuzz_guest_end(struct fuzz_guest *f);
/* @pages of guest memory; if there is no room, pages that are in use. */
void *fuzz_guest_pages(struct fuzz_guest *f, uint64_t pages);
void fuzz_guest_stop(struct fuzz_guest *f);
void fuzz_guest_start(struct fuzz_guest *f);
/* Device reset; queues run again, without INIT. */
void fuzz_guest_reset(struct fuzz_guest *f);
/* The second half of the memory: 0 normal, 1 removed, 2 read-only, 3 in another order. */
void fuzz_guest_memory(struct fuzz_guest *f, unsigned int how);
/* Takes all events and returns the buffers. */
void fuzz_guest_drain(struct fuzz_guest *f);

/* ---- the second thread ---- */

/*
 * Adds a word of shared memory that is flipped between two values until
 * fuzz_flip_stop().  At most 8; more are ignored.
 */
void fuzz_flip(void *word, uint32_t a, uint32_t b);
void fuzz_flip_stop(void);

#endif /* FUZZ_H */
