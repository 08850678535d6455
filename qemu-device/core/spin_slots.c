// SPDX-License-Identifier: GPL-2.0-or-later
/* The number of control threads that may spin; see spin_slots.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE		/* CPU_COUNT() */
#endif
#include <sched.h>
#include <unistd.h>

#include "spin_slots.h"

unsigned int vrd_spin_slots_limit(unsigned int cpus)
{
	unsigned int num = cpus / VRD_SPIN_CPUS_PER_SLOT;

	return num > VRD_SPIN_MIN_SLOTS ? num : VRD_SPIN_MIN_SLOTS;
}

static unsigned int count_cpus(void)
{
	cpu_set_t set;
	long num;

	if (!sched_getaffinity(0, sizeof(set), &set))
		return (unsigned int)CPU_COUNT(&set);
	/* The machine has more CPUs than the set has room for. */
	num = sysconf(_SC_NPROCESSORS_ONLN);
	return num > 0 ? (unsigned int)num : 1;
}

void vrd_spin_slots_init(struct vrd_spin_slots *slots)
{
	slots->cpus = count_cpus();
	slots->limit = vrd_spin_slots_limit(slots->cpus);
	atomic_init(&slots->free, slots->limit);
}
