/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When a requester that found no receive pauses before it asks the responder's ring for a
 * doorbell.  This is a policy without a clock, a timer or a thread: requester.c reports what
 * happened.
 *
 * Threading: each struct vrd_rnr_pause belongs to a send queue; sq.lock.
 */
#ifndef VRD_RNR_PAUSE_H
#define VRD_RNR_PAUSE_H

#include <stdbool.h>
#include <stdint.h>

/* The length of a pause. */
#define VRD_RNR_PAUSE_NS		50000ULL
/* A wait was too short if fewer requests than this were executed after it. */
#define VRD_RNR_PAUSE_FEW		8
/* After this many useful pauses in a row, one wait is without a pause. */
#define VRD_RNR_PAUSE_TRIAL		64
/* The largest number of waits without a pause after a pause that was useless. */
#define VRD_RNR_PAUSE_SKIP_MAX	64

struct vrd_rnr_pause {
	bool waited;			/* there was a wait before */
	/* Of the last wait: the values at its start, and whether it began with a pause. */
	uint32_t head;
	uint64_t sleeps;
	bool paused;
	unsigned int useful;		/* useful pauses in a row */
	unsigned int penalty;		/* number of waits to skip after the last useless pause */
	unsigned int skip;		/* waits to skip from now on */
};

/*
 * A wait for a receive begins.  @head: number of requests that the send queue has executed.
 * @sleeps: how often its poller has slept.  Both may wrap.  True: the wait begins with a
 * pause.
 */
bool vrd_rnr_pause_begin(struct vrd_rnr_pause *pause, uint32_t head, uint64_t sleeps);

#endif /* VRD_RNR_PAUSE_H */
