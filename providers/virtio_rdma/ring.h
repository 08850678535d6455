/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Send and receive rings and their doorbells: index arithmetic and publishing,
 * with the memory ordering of each step.  Needs the device ABI and nothing of
 * libibverbs, so that a test program can play the guest with this very code.
 *
 * Threading: a caller holds the lock of the queue that it works on, except
 * where a function says otherwise.
 */
#ifndef VRDMA_RING_H
#define VRDMA_RING_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_rdma.h>

#ifndef likely
#define likely(x)	__builtin_expect(!!(x), 1)
#endif
#ifndef unlikely
#define unlikely(x)	__builtin_expect(!!(x), 0)
#endif
#ifndef __force
#ifdef __CHECKER__
#define __force		__attribute__((force))
#else
#define __force
#endif
#endif

/*
 * Orders a store before a later load.  On x86 by mfence and never by a locked
 * instruction: an emulator with one virtual CPU drops the latter's fence,
 * although the device runs on another host CPU.
 */
static inline void vrdma_full_barrier(void)
{
#if defined(__x86_64__) || (defined(__i386__) && defined(__SSE2__))
	asm volatile("mfence" ::: "memory");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* A 32-bit word of the ABI, shared with the device. */
static inline uint32_t vrdma_load(const __le32 *word)
{
	return le32toh((__force __le32)__atomic_load_n(
		(__force const uint32_t *)word, __ATOMIC_RELAXED));
}

static inline void vrdma_store(__le32 *word, uint32_t val)
{
	__atomic_store_n((__force uint32_t *)word,
			 (__force uint32_t)htole32(val), __ATOMIC_RELAXED);
}

static inline void vrdma_store_release(__le32 *word, uint32_t val)
{
	__atomic_store_n((__force uint32_t *)word,
			 (__force uint32_t)htole32(val), __ATOMIC_RELEASE);
}

/**
 * struct vrdma_ring - a ring of work requests, seen by its producer
 * @base:    entry 0
 * @ctrl:    the words shared with the device
 * @entries: a power of two, or 0
 * @mask:    @entries - 1
 * @shift:   log2 of the size of an entry
 * @slot:    its dirty byte in the doorbell page
 * @head:    index of the next entry to write; under the queue's lock, and read
 *           without it by whoever looks for what is outstanding
 * @tail:    index of the oldest entry that is not known to be complete; moved
 *           by whoever polls the CQ, who does not hold the queue's lock
 */
struct vrdma_ring {
	uint8_t *base;
	struct virtio_rdma_ring_ctrl *ctrl;
	uint32_t entries;
	uint32_t mask;
	uint32_t shift;
	uint32_t slot;
	uint32_t head;
	uint32_t tail;
};

static inline void *vrdma_ring_entry(const struct vrdma_ring *ring,
				     uint32_t index)
{
	return ring->base + ((size_t)(index & ring->mask) << ring->shift);
}

/*
 * Pairs with the release in vrdma_ring_complete(): who sees the new tail may
 * overwrite the wr_id that the poller read before it.
 */
static inline bool vrdma_ring_full(const struct vrdma_ring *ring, uint32_t head)
{
	return head - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) >=
	       ring->entries;
}

/* The entry @index, and with it every earlier one, is complete. */
static inline void vrdma_ring_complete(struct vrdma_ring *ring, uint32_t index)
{
	__atomic_store_n(&ring->tail, index + 1, __ATOMIC_RELEASE);
}

/* So many entries ahead: a line takes as long to come as a few posts. */
#define VRDMA_PREFETCH_WQES	4

/*
 * Begins to fetch the line of an entry that is to be written soon: the device
 * has read it in the ring's last lap, and the barrier of the post that writes
 * it would wait until it has come.  Not if the device may still have to read
 * it.  (Older CPUs take the instruction for none.)
 */
static inline void vrdma_ring_prefetch(const struct vrdma_ring *ring,
				       uint32_t index)
{
	if (vrdma_ring_full(ring, index))
		return;
#if defined(__x86_64__)
	asm volatile("prefetchw %0" :: "m"(*(uint8_t *)vrdma_ring_entry(ring,
									index)));
#else
	__builtin_prefetch(vrdma_ring_entry(ring, index), 1);
#endif
}

/*
 * Hands the entries below @head to the device.  True when nobody watches the
 * ring, so that its doorbell has to be rung.
 *
 * The barrier pairs with the device's, between its store of need_db and its
 * last look at the producer index: one of the two sees the other.
 */
static inline bool vrdma_ring_publish(struct vrdma_ring *ring, uint32_t head)
{
	__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
	vrdma_store_release(&ring->ctrl->producer, head);
	vrdma_full_barrier();
	return vrdma_load(&ring->ctrl->need_db) != 0;
}

/*
 * The oldest entry that is not complete; false if there is none.  By pollers,
 * who do not hold the queue's lock: the acquire pairs with the release in
 * vrdma_ring_publish(), before which the entry's wr_id was stored.
 */
static inline bool vrdma_ring_oldest(const struct vrdma_ring *ring,
				     uint32_t *index)
{
	*index = __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
	return __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) != *index;
}

/* The QP is in RESET, so the device looks at neither entries nor index. */
static inline void vrdma_ring_reset(struct vrdma_ring *ring)
{
	ring->head = 0;
	__atomic_store_n(&ring->tail, 0, __ATOMIC_RELAXED);
	vrdma_store_release(&ring->ctrl->producer, 0);
}

/*
 * Between the stores of a dirty byte and of its summary byte: the device stores
 * 0 to the latter, executes a full barrier and loads the former.  Where a store
 * becomes visible to all others at once, their order is enough; elsewhere
 * (POWER, ARMv7) it takes a full barrier on both sides.
 */
static inline void vrdma_dirty_barrier(void)
{
#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__) || \
	defined(__s390x__) || defined(__riscv)
	__atomic_thread_fence(__ATOMIC_RELEASE);
#else
	vrdma_full_barrier();
#endif
}

/*
 * Sets the ring's dirty byte, then its group's summary byte, which the device
 * looks at first.  True when the device's poller sleeps and has to be woken
 * through the kernel.  Callable from any thread: bytes are only ever set here.
 */
static inline bool vrdma_db_ring(struct virtio_rdma_db_page *db, uint32_t slot)
{
	__atomic_store_n(&db->dirty[slot], 1, __ATOMIC_RELAXED);
	vrdma_dirty_barrier();
	__atomic_store_n(&db->summary[slot / 64], 1, __ATOMIC_RELAXED);
	/* Pairs with the device's, between need_wakeup and its last scan. */
	vrdma_full_barrier();
	return vrdma_load(&db->need_wakeup) != 0;
}

#endif /* VRDMA_RING_H */
