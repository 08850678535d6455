/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long a poller without work spins before it sleeps: a policy without clock,
 * system call or thread of its own.  The poller tells it what happened and when.
 *
 * Threading: the poller's own.
 */
#ifndef VRD_SPIN_H
#define VRD_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/* The poller offers its CPU to other threads so often while it spins. */
#define VRD_SPIN_YIELD_NS	4000ULL
/* A sample (vrd_spin_sample()) is taken so often. */
#define VRD_SPIN_SAMPLE_NS	100000ULL
/* Others took the CPU for so long between two samples: it is contended. */
#define VRD_SPIN_LOST_NS	500000ULL
/* After so many spins without a result it is asked whether enough others had one. */
#define VRD_SPIN_FUTILE		8
/* For so long a poller does not spin, at first and at most. */
#define VRD_SPIN_PENALTY_MIN_NS	10000000ULL
#define VRD_SPIN_PENALTY_MAX_NS	640000000ULL
/* If nothing was wrong for so long, the next penalty is the shortest one again. */
#define VRD_SPIN_FORGIVE_NS	1000000000ULL

struct vrd_spin {
	uint64_t poll_ns;		/* configured budget */
	bool fixed;			/* the CPU is the poller's own: always spin so long */
	uint64_t budget_ns;		/* now: poll_ns, or 0 */
	uint64_t idle_since;		/* 0: there was work */
	uint64_t yielded_at;
	uint64_t penalty_until, penalty_ns;
	unsigned int futile, paid;	/* spins of each kind lately */
	/* As of the last sample, and since it. */
	uint64_t sampled_at, cpu_ns, slept_ns;
	uint64_t switches;
};

enum vrd_spin_step {
	VRD_SPIN_ON,
	VRD_SPIN_YIELD,			/* and spin on */
	VRD_SPIN_SLEEP,
};

void vrd_spin_init(struct vrd_spin *spin, uint64_t poll_ns, bool fixed, uint64_t now);
/* A turn had work, after turns that had none if @idle. */
void vrd_spin_worked(struct vrd_spin *spin, bool idle);
/* A turn had none: what to do before the next one. */
enum vrd_spin_step vrd_spin_idle(struct vrd_spin *spin, uint64_t now);
/* The poller slept for @ns, as it was told. */
void vrd_spin_slept(struct vrd_spin *spin, uint64_t ns, uint64_t now);

/* True if it is time for a sample. */
static inline bool vrd_spin_sample_due(const struct vrd_spin *spin, uint64_t now)
{
	return now >= spin->sampled_at + VRD_SPIN_SAMPLE_NS;
}

/*
 * CPU time that the thread has used and how often the kernel switched it off
 * although it could have run, both since its start.
 */
void vrd_spin_sample(struct vrd_spin *spin, uint64_t now, uint64_t cpu_ns, uint64_t switches);

#endif /* VRD_SPIN_H */
