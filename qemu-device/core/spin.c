// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The spin budget; see spin.h.
 *
 * The budget is the configured one if there is a CPU to spare for spinning.  If there is
 * not, spinning takes the CPU from the guests whose requests the poller waits for.  Two
 * observations show that: the kernel preempts the poller for a large part of a time slice;
 * or spinning ends without a request, and a request arrives as soon as the poller sleeps.
 * Then the poller does not spin for a period.  The period doubles if the same is observed
 * again afterwards.
 *
 * While it spins, the poller yields every few microseconds.  If no other thread wants the
 * CPU, that costs a short system call while there is no work.  If another thread wants it,
 * that is usually the program that received the last completion and will post the next
 * request.
 */
#include "spin.h"

void vrd_spin_init(struct vrd_spin *spin, uint64_t poll_ns, bool fixed, uint64_t now)
{
	*spin = (struct vrd_spin){
		.poll_ns = poll_ns,
		.fixed = fixed,
		.budget_ns = poll_ns,
		.penalty_ns = VRD_SPIN_PENALTY_MIN_NS,
		.sampled_at = now,
	};
}

void vrd_spin_worked(struct vrd_spin *spin, bool idle)
{
	spin->paid += idle;
	spin->idle_since = 0;
}

enum vrd_spin_step vrd_spin_idle(struct vrd_spin *spin, uint64_t now)
{
	if (!spin->idle_since) {
		spin->idle_since = now;
		spin->yielded_at = now;
	}
	if (now - spin->idle_since >= spin->budget_ns) {
		spin->idle_since = 0;
		return VRD_SPIN_SLEEP;
	}
	if (spin->fixed || now - spin->yielded_at < VRD_SPIN_YIELD_NS)
		return VRD_SPIN_ON;
	spin->yielded_at = now;
	return VRD_SPIN_YIELD;
}

static void stop_spinning(struct vrd_spin *spin, uint64_t now)
{
	if (spin->fixed || now < spin->penalty_until)
		return;
	if (now > spin->penalty_until + VRD_SPIN_FORGIVE_NS)
		spin->penalty_ns = VRD_SPIN_PENALTY_MIN_NS;
	else if (spin->penalty_ns < VRD_SPIN_PENALTY_MAX_NS)
		spin->penalty_ns *= 2;
	spin->penalty_until = now + spin->penalty_ns;
	spin->budget_ns = 0;
}

void vrd_spin_slept(struct vrd_spin *spin, uint64_t ns, uint64_t now)
{
	spin->slept_ns += ns;
	/* It slept for less time than it had spun: the request was waiting for the CPU. */
	if (!spin->budget_ns || ns > spin->budget_ns)
		return;
	if (++spin->futile < VRD_SPIN_FUTILE)
		return;
	if (spin->paid < 2 * VRD_SPIN_FUTILE)
		stop_spinning(spin, now);
	spin->futile = 0;
	spin->paid = 0;
}

void vrd_spin_rested(struct vrd_spin *spin, uint64_t ns)
{
	spin->idle_since = 0;
	spin->slept_ns += ns;
}

void vrd_spin_sample(struct vrd_spin *spin, uint64_t now, uint64_t cpu_ns, uint64_t switches)
{
	uint64_t awake = now - spin->sampled_at - spin->slept_ns;
	uint64_t ran = cpu_ns - spin->cpu_ns;

	if (switches != spin->switches && awake > ran + VRD_SPIN_LOST_NS)
		stop_spinning(spin, now);
	if (now >= spin->penalty_until)
		spin->budget_ns = spin->poll_ns;
	spin->sampled_at = now;
	spin->cpu_ns = cpu_ns;
	spin->slept_ns = 0;
	spin->switches = switches;
}
