/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Send and receive rings and their doorbells: index arithmetic and publishing,
 * with the memory ordering of each step.  Depends on the device ABI and on
 * nothing of libibverbs, so that a test program can act as the guest with this
 * very code.
 *
 * Threading: the caller holds the lock of the queue that it works on, except
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
 * Orders a store before a later load.  On x86 uses mfence and not a locked
 * instruction: an emulator with one virtual CPU omits the fence of the latter,
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
 * struct vrdma_ring - a ring of work requests, the producer's side
 * @base:    entry 0
 * @ctrl:    the words shared with the device
 * @entries: a power of two, or 0
 * @mask:    @entries - 1
 * @shift:   log2 of the size of an entry
 * @slot:    number of its dirty byte in the doorbell page
 * @head:    index of the next entry to write; written under the queue's lock,
 *           read without it by pollers that count or flush outstanding entries
 * @tail:    index of the oldest entry that is not known to be complete; moved
 *           by the poller of the CQ, which does not hold the queue's lock
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
 * Pairs with the release in vrdma_ring_complete(): a thread that sees the new
 * tail may overwrite the wr_id that the poller read before the release.
 */
static inline bool vrdma_ring_full(const struct vrdma_ring *ring, uint32_t head)
{
	return head - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) >=
	       ring->entries;
}

/* Marks the entry @index and all earlier ones as complete. */
static inline void vrdma_ring_complete(struct vrdma_ring *ring, uint32_t index)
{
	__atomic_store_n(&ring->tail, index + 1, __ATOMIC_RELEASE);
}

/*
 * Number of entries to prefetch ahead: fetching a line takes as long as a few
 * posts.
 */
#define VRDMA_PREFETCH_WQES	4

/*
 * Starts to fetch the cache line of an entry that will be written soon.  The
 * device has read the line in the ring's last lap; without the prefetch the
 * barrier of the post that writes the entry would wait for the line.  Does
 * nothing if the device may still have to read the entry. (Older CPUs execute
 * the instruction as a no-op.)
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
 * Publishes the entries below @head to the device.  Returns true if the device
 * does not watch the ring, so that the doorbell must be rung.
 *
 * The barrier pairs with the device's barrier between its store of need_db and
 * its last load of the producer index: at least one of the two sides sees the
 * other's store.
 */
static inline bool vrdma_ring_publish(struct vrdma_ring *ring, uint32_t head)
{
	__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
	vrdma_store_release(&ring->ctrl->producer, head);
	vrdma_full_barrier();
	return vrdma_load(&ring->ctrl->need_db) != 0;
}

/*
 * Finds the oldest entry that is not complete; returns false if there is none.
 * Called by pollers, which do not hold the queue's lock: the acquire pairs with
 * the release in vrdma_ring_publish(), before which the entry's wr_id was
 * stored.
 */
static inline bool vrdma_ring_oldest(const struct vrdma_ring *ring,
				     uint32_t *index)
{
	*index = __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
	return __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) != *index;
}

/* The QP is in RESET, so the device reads neither entries nor the index. */
static inline void vrdma_ring_reset(struct vrdma_ring *ring)
{
	ring->head = 0;
	__atomic_store_n(&ring->tail, 0, __ATOMIC_RELAXED);
	vrdma_store_release(&ring->ctrl->producer, 0);
}

/*
 * Orders the store of a dirty byte before the store of its summary byte.  The
 * device stores 0 to the summary byte, executes a full barrier and loads the
 * dirty byte.  Where a store becomes visible to all other CPUs at once, the
 * order of the two stores is enough; elsewhere (POWER, ARMv7) both sides need a
 * full barrier.
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
 * reads first.  Returns true if the device's poller sleeps and must be woken
 * through the kernel.  May be called from any thread: the guest only ever sets
 * these bytes.
 */
static inline bool vrdma_db_ring(struct virtio_rdma_db_page *db, uint32_t slot)
{
	__atomic_store_n(&db->dirty[slot], 1, __ATOMIC_RELAXED);
	vrdma_dirty_barrier();
	__atomic_store_n(&db->summary[slot / 64], 1, __ATOMIC_RELAXED);
	/*
	 * Pairs with the device's barrier between its store of need_wakeup and
	 * its last scan.
	 */
	vrdma_full_barrier();
	return vrdma_load(&db->need_wakeup) != 0;
}

#endif /* VRDMA_RING_H */
