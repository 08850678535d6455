/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moves the bytes of one contiguous run while a guest's CPU may poll the destination.
 *
 * The bytes are moved by memmove().  The two sides may overlap, if a QP is connected to
 * another QP of the same guest.  glibc's memmove() uses non-temporal stores for large
 * copies.
 */
#ifndef VRD_MOVE_H
#define VRD_MOVE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "compiler.h"

/*
 * Moves the last run of a message, of at least one byte.  It first moves all bytes before
 * the last aligned word, then stores that word with release semantics.  So a CPU of the
 * guest that polls the last byte, or a counter at the end of the message, sees all other
 * bytes when it sees that one.  The release also covers the earlier runs.  The last word is
 * loaded before anything is stored, because the runs may overlap.
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
