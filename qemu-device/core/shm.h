/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads of words that the guest shares with the device (little-endian), and barriers.  Stores:
 * store.h.
 *
 * The guest may change any of these words at any time: load a word once, check the copy, use
 * the copy.  All accesses are atomic, so that neither the compiler nor the thread sanitizer
 * splits one.
 */
#ifndef VRD_SHM_H
#define VRD_SHM_H

#include <endian.h>
#include <linux/types.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* For words in structures of any type. */
typedef uint32_t __attribute__((__may_alias__)) vrd_shm32;
typedef uint64_t __attribute__((__may_alias__)) vrd_shm64;

static inline uint8_t vrd_load8(const __u8 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline uint16_t vrd_load16(const __le16 *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static inline uint16_t vrd_load16_acquire(const __le16 *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static inline uint32_t vrd_load32(const __le32 *p)
{
	return le32toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static inline uint32_t vrd_load32_acquire(const __le32 *p)
{
	return le32toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static inline uint64_t vrd_load64(const __le64 *p)
{
	return le64toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

/*
 * Copies a structure out of shared memory and reads each byte once.  The source is 8-byte
 * aligned, and @len is a multiple of 8.
 */
static inline void vrd_copy_in(void *dst, const void *src, size_t len)
{
	const vrd_shm64 *from = src;
	uint8_t *to = dst;

#pragma GCC unroll 8
	for (size_t i = 0; i < len / 8; i++) {
		uint64_t word = __atomic_load_n(&from[i], __ATOMIC_RELAXED);

		memcpy(to + 8 * i, &word, 8);
	}
}

/* The same for byte strings of any length and alignment. */
static inline void vrd_copy_in_bytes(void *dst, const void *src, size_t len)
{
	const uint8_t *from = src;
	uint8_t *to = dst;

	for (size_t i = 0; i < len; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/*
 * Orders an earlier store of this side before a later load of the other side's word.  Pairs
 * with the same barrier on the other side.
 */
static inline void vrd_full_barrier(void)
{
#ifdef __SANITIZE_THREAD__
	/*
	 * The thread sanitizer does not model fences.  This is a full barrier for the CPU and
	 * does not synchronize in the sanitizer's view.
	 */
	uint32_t own = 0;

	__atomic_fetch_add(&own, 1, __ATOMIC_SEQ_CST);
	__asm__ __volatile__("" : : "r" (&own) : "memory");
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* For loops that wait for another CPU. */
static inline void vrd_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
	__asm__ __volatile__("yield" : : : "memory");
#else
	__asm__ __volatile__("" : : : "memory");
#endif
}

#endif /* VRD_SHM_H */
