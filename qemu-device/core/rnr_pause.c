// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Pauses of a requester that found no receive; see rnr_pause.h.
 *
 * Usually a requester that finds no receive asks for a doorbell, and the next post of a
 * receive ends its wait.  This is the fastest way if the receiver has a CPU of its own.  If
 * the receiver and the poller share a CPU, the post wakes the poller, and the poller preempts
 * the receiver before it can post a second receive.  Then each message costs a doorbell, a
 * wake-up and two context switches, and the receiver never catches up with its completions.
 *
 * Two observations together show that: the poller slept during the last wait, and only a few
 * requests were executed between that wait and this one.  Then the requester does not ask for
 * a doorbell for the time of a pause, in which the receiver has the CPU.  The next wait begins
 * with a pause as well if the pause was useful, that is if many requests were executed after
 * it.  From time to time one wait has no pause, to find out whether the poller still sleeps
 * during waits.  After a useless pause, some waits have none; their number doubles if the next
 * pause is useless as well.
 */
#include "rnr_pause.h"

static bool is_shared(struct vrd_rnr_pause *pause, bool few, bool slept)
{
	if (!few || !slept)
		return false;
	if (!pause->skip)
		return true;
	pause->skip--;
	return false;
}

/* The last wait began with a pause. */
static bool again(struct vrd_rnr_pause *pause, bool few)
{
	if (few) {
		pause->penalty = pause->penalty < VRD_RNR_PAUSE_SKIP_MAX / 2 ?
				 2 * pause->penalty + 1 : VRD_RNR_PAUSE_SKIP_MAX;
		pause->skip = pause->penalty;
		pause->useful = 0;
		return false;
	}
	pause->penalty = 0;
	return ++pause->useful % VRD_RNR_PAUSE_TRIAL;
}

bool vrd_rnr_pause_begin(struct vrd_rnr_pause *pause, uint32_t head, uint64_t sleeps)
{
	bool few = head - pause->head < VRD_RNR_PAUSE_FEW;
	bool slept = pause->waited && sleeps != pause->sleeps;

	pause->waited = true;
	pause->head = head;
	pause->sleeps = sleeps;
	pause->paused = pause->paused ? again(pause, few) : is_shared(pause, few, slept);
	return pause->paused;
}
