/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A clock that is cheap enough to be read for each burst: the CPU's counter, where
 * it has one.  It counts at an unknown but constant rate; the engine measures it
 * once (vrd_ticks_measure()).
 *
 * It decides who runs next and for how long, nothing else: a counter that jumps
 * makes a turn too short or too long.
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

/* Ticks in @ns nanoseconds; takes a tenth of a millisecond. */
int64_t vrd_ticks_measure(uint64_t ns);

#endif /* VRD_TICKS_H */
