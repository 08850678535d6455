/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The locks of the data path: four bytes each; without contention, one atomic instruction
 * each to take and to release.
 *
 * A thread that finds the lock taken spins for a short time, because the holder usually runs
 * on another CPU and needs less than a microsecond.  Then it sleeps in a futex, so that a
 * holder that was preempted can get a CPU: the machine may have only two.
 *
 * With VRD_DEBUG_LOCKS (and with the address sanitizer) each thread counts the locks that it
 * holds.  Taking a lock while one of the same or of an inner level is held then aborts.
 */
#ifndef VRD_LOCK_H
#define VRD_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__) && !defined(VRD_DEBUG_LOCKS)
#define VRD_DEBUG_LOCKS
#endif

/* Outermost first; see objects.h.  LEAF: no lock is taken while it is held. */
enum vrd_lock_level {
	VRD_LOCK_SQ,
	VRD_LOCK_RQ,
	VRD_LOCK_SRQ,
	VRD_LOCK_CQ,
	VRD_LOCK_VQ,
	VRD_LOCK_LEAF,
	VRD_LOCK_LEVELS,
};

struct vrd_lock {
	_Atomic uint32_t word;		/* 0: free, 1: taken, 2: taken and other threads may
					 * sleep */
	uint8_t level;
};

static inline void vrd_lock_init(struct vrd_lock *lock, enum vrd_lock_level level)
{
	atomic_init(&lock->word, 0);
	lock->level = level;
}

/* lock.c */
void vrd_lock_wait(struct vrd_lock *lock);
void vrd_lock_wake(struct vrd_lock *lock);

#ifdef VRD_DEBUG_LOCKS
void vrd_lock_note_taken(const struct vrd_lock *lock, bool tried);
void vrd_lock_note_released(const struct vrd_lock *lock);
#else
static inline void vrd_lock_note_taken(const struct vrd_lock *lock, bool tried)
{
	(void)lock;
	(void)tried;
}

static inline void vrd_lock_note_released(const struct vrd_lock *lock)
{
	(void)lock;
}
#endif

/* Never waits, so it may be used against the lock order. */
static inline bool vrd_lock_try(struct vrd_lock *lock)
{
	uint32_t free = 0;

	if (!atomic_compare_exchange_strong_explicit(&lock->word, &free, 1, memory_order_acquire,
						     memory_order_relaxed))
		return false;
	vrd_lock_note_taken(lock, true);
	return true;
}

static inline void vrd_lock(struct vrd_lock *lock)
{
	uint32_t free = 0;

	vrd_lock_note_taken(lock, false);
	if (!atomic_compare_exchange_strong_explicit(&lock->word, &free, 1, memory_order_acquire,
						     memory_order_relaxed))
		vrd_lock_wait(lock);
}

static inline void vrd_unlock(struct vrd_lock *lock)
{
	vrd_lock_note_released(lock);
	if (atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2)
		vrd_lock_wake(lock);
}

/*
 * An event that is raised once and that one thread waits for.  The memory may be freed as
 * soon as the waiter has seen it.
 */
struct vrd_signal {
	_Atomic uint32_t word;		/* 0: not raised, 1: raised, 2: not raised, the waiter
					 * sleeps */
};

static inline void vrd_signal_init(struct vrd_signal *signal)
{
	atomic_init(&signal->word, 0);
}

/* Any thread; does not wait. */
void vrd_signal_raise(struct vrd_signal *signal);
/* Spins for some microseconds, then sleeps. */
void vrd_signal_wait(struct vrd_signal *signal);

#endif /* VRD_LOCK_H */
