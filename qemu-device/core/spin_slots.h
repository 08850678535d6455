/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The number of control threads of an engine that may spin at the same time.
 *
 * Each device has a control thread, which spins for a short time after a command.  Without a
 * limit, many devices whose drivers create objects at the same time take all CPUs from the
 * guests and the pollers.  A thread spins only while it has one of these slots; without one
 * it sleeps at once, and its driver has to kick the queue.
 *
 * Pollers that are awake use a CPU each, and so does the guest that waits for an answer.  If
 * they and the threads that spin are more than the CPUs, a thread that spins has to wait for
 * its turn on a CPU when a command arrives, while one that sleeps is given a CPU at once.
 *
 * Both front ends have one engine in a process, so the limit is one of the process.
 * Threading: any thread, no lock.
 */
#ifndef VRD_SPIN_SLOTS_H
#define VRD_SPIN_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>

/* One slot for this many CPUs of the process. */
#define VRD_SPIN_CPUS_PER_SLOT	4
/* The minimum: the two ends of a connection create their objects together. */
#define VRD_SPIN_MIN_SLOTS	2

struct vrd_spin_slots {
	_Atomic unsigned int free;
	unsigned int limit, cpus;		/* constant */
};

/* The number of slots in a process that may use @cpus CPUs. */
unsigned int vrd_spin_slots_limit(unsigned int cpus);
/* Counts the CPUs of the process. */
void vrd_spin_slots_init(struct vrd_spin_slots *slots);

/* With a slot taken: true if the thread should not spin while @awake pollers are awake. */
static inline bool vrd_spin_slots_crowded(const struct vrd_spin_slots *slots, unsigned int awake)
{
	unsigned int spinning = slots->limit -
				atomic_load_explicit(&slots->free, memory_order_relaxed);

	return awake && spinning + awake + 1 > slots->cpus;
}

/* False: all slots are taken. */
static inline bool vrd_spin_slot_take(struct vrd_spin_slots *slots)
{
	unsigned int num = atomic_load_explicit(&slots->free, memory_order_relaxed);

	while (num)
		if (atomic_compare_exchange_weak_explicit(&slots->free, &num, num - 1,
							  memory_order_relaxed,
							  memory_order_relaxed))
			return true;
	return false;
}

static inline void vrd_spin_slot_return(struct vrd_spin_slots *slots)
{
	atomic_fetch_add_explicit(&slots->free, 1, memory_order_relaxed);
}

#endif /* VRD_SPIN_SLOTS_H */
