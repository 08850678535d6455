/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A clock that is cheap enough to be read for each burst: the CPU's counter, if it has one.
 * It counts at an unknown but constant rate, which the engine measures once
 * (vrd_ticks_measure()).
 *
 * Only the scheduler uses it, to decide which QP runs next and for how long.  If the counter
 * jumps, a turn is too short or too long.
 */
#ifndef VRD_TICKS_H
#define VRD_TICKS_H

#include <stdint.h>

uint64_t vrd_clock_ns(void);

static inline uint64_t vrd_ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t ticks;

	__asm__ __volatile__("mrs %0, cntvct_el0" : "=r" (ticks));
	return ticks;
#else
	return vrd_clock_ns();
#endif
}

/* Ticks in @ns nanoseconds.  The measurement takes 0.1 ms. */
int64_t vrd_ticks_measure(uint64_t ns);

#endif /* VRD_TICKS_H */
