/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the bytes of one contiguous run are moved, when a guest's
 * CPU may be watching.
 *
 * The bytes themselves are moved by memmove(): the sides may overlap, when a
 * QP is connected to one of the same guest, and glibc's streams large copies
 * past the caches by itself.
 */
#ifndef VRD_MOVE_H
#define VRD_MOVE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "compiler.h"

/*
 * Moves the last run of a message, of at least one byte: what precedes its last
 * aligned word first, then that word with one release store, so that a CPU of
 * the guest that polls on the last byte, or on a counter at the end, has all
 * the rest when it sees it.  The release also covers the earlier runs.  (The
 * word is loaded before anything is stored: the runs may overlap.)
 */
static VRD_INLINE void vrd_move_last(uint8_t *dst, const uint8_t *src, size_t n)
{
	uintptr_t end = (uintptr_t)dst + n;

	if (!(end & 7) && n >= 8) {
		uint64_t word;

		n -= 8;
		if (!((uintptr_t)(src + n) & 7))
			word = __atomic_load_n((const uint64_t *)(src + n), __ATOMIC_RELAXED);
		else
			memcpy(&word, src + n, 8);
		if (n)
			memmove(dst, src, n);
		__atomic_store_n((uint64_t *)(dst + n), word, __ATOMIC_RELEASE);
	} else if (!(end & 3) && n >= 4) {
		uint32_t word;

		n -= 4;
		memcpy(&word, src + n, 4);
		if (n)
			memmove(dst, src, n);
		__atomic_store_n((uint32_t *)(dst + n), word, __ATOMIC_RELEASE);
	} else if (!(end & 1) && n >= 2) {
		uint16_t word;

		n -= 2;
		memcpy(&word, src + n, 2);
		if (n)
			memmove(dst, src, n);
		__atomic_store_n((uint16_t *)(dst + n), word, __ATOMIC_RELEASE);
	} else {
		uint8_t byte = src[--n];

		if (n)
			memmove(dst, src, n);
		__atomic_store_n(dst + n, byte, __ATOMIC_RELEASE);
	}
}

#endif /* VRD_MOVE_H */
