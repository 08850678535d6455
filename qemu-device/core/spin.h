/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long a poller without work spins before it sleeps.  This is a policy without a clock,
 * system calls or a thread: the poller reports what happened and when.
 *
 * Threading: each struct vrd_spin belongs to its poller.
 */
#ifndef VRD_SPIN_H
#define VRD_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/* Interval at which a spinning poller yields the CPU to other threads. */
#define VRD_SPIN_YIELD_NS	4000ULL
/* Interval of the samples: see vrd_spin_sample(). */
#define VRD_SPIN_SAMPLE_NS	100000ULL
/* The CPU counts as contended if other threads had it for this long between two samples. */
#define VRD_SPIN_LOST_NS	500000ULL
/* After this many futile spins, they are compared with the number of spins that found work. */
#define VRD_SPIN_FUTILE		8
/* Periods without spinning: the first, and the longest. */
#define VRD_SPIN_PENALTY_MIN_NS	10000000ULL
#define VRD_SPIN_PENALTY_MAX_NS	640000000ULL
/* If spinning was not suspended for this long, the next penalty is the shortest again. */
#define VRD_SPIN_FORGIVE_NS	1000000000ULL

struct vrd_spin {
	uint64_t poll_ns;		/* configured budget */
	bool fixed;			/* the poller has a CPU of its own: always spin for
					 * poll_ns */
	uint64_t budget_ns;		/* current budget: poll_ns, or 0 */
	uint64_t idle_since;		/* 0: the last turn had work */
	uint64_t yielded_at;
	uint64_t penalty_until, penalty_ns;
	unsigned int futile, paid;	/* recent spins without and with a result */
	/* State at the last sample; slept_ns counts since then. */
	uint64_t sampled_at, cpu_ns, slept_ns;
	uint64_t switches;
};

enum vrd_spin_step {
	VRD_SPIN_ON,
	VRD_SPIN_YIELD,			/* yield the CPU, then continue to spin */
	VRD_SPIN_SLEEP,
};

void vrd_spin_init(struct vrd_spin *spin, uint64_t poll_ns, bool fixed, uint64_t now);
/* A turn had work.  @idle: the turns before it had none. */
void vrd_spin_worked(struct vrd_spin *spin, bool idle);
/* A turn had no work.  Returns what to do before the next turn. */
enum vrd_spin_step vrd_spin_idle(struct vrd_spin *spin, uint64_t now);
/* The poller slept for @ns, after VRD_SPIN_SLEEP. */
void vrd_spin_slept(struct vrd_spin *spin, uint64_t ns, uint64_t now);

/* The poller slept for @ns without having spun before. */
void vrd_spin_rested(struct vrd_spin *spin, uint64_t ns);

/* True if it is time for a sample. */
static inline bool vrd_spin_sample_due(const struct vrd_spin *spin, uint64_t now)
{
	return now >= spin->sampled_at + VRD_SPIN_SAMPLE_NS;
}

/*
 * @cpu_ns: CPU time that the thread has used.  @switches: how often the kernel preempted it.
 * Both count since the thread started.
 */
void vrd_spin_sample(struct vrd_spin *spin, uint64_t now, uint64_t cpu_ns, uint64_t switches);

#endif /* VRD_SPIN_H */
