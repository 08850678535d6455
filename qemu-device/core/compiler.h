/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compiler hints for the data path, where a call that is not inlined costs as much as the
 * check that it makes.
 */
#ifndef VRD_COMPILER_H
#define VRD_COMPILER_H

#define vrd_likely(x)	__builtin_expect(!!(x), 1)
#define vrd_unlikely(x)	__builtin_expect(!!(x), 0)

/* For functions on the path of every message. */
#define VRD_INLINE	inline __attribute__((always_inline))
/* For functions off that path: keeps them out of their callers. */
#define VRD_NOINLINE	__attribute__((noinline))

#endif /* VRD_COMPILER_H */
