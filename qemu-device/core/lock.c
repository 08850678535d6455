// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The slow path of the data path's locks: spinning, sleeping, and the order checks of debug
 * builds.  See lock.h.
 */
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lock.h"
#include "shm.h"

/* About two microseconds: longer than a critical section whose thread is not preempted. */
#define SPINS	40

void vrd_lock_wait(struct vrd_lock *lock)
{
	for (unsigned int i = 0; i < SPINS; i++) {
		uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);

		if (word == 0 &&
		    atomic_compare_exchange_weak_explicit(&lock->word, &word, 1,
							  memory_order_acquire,
							  memory_order_relaxed))
			return;
		if (word == 2)
			break;		/* other threads sleep already: queue behind them */
		vrd_cpu_relax();
	}
	/* The thread that takes the lock here cannot know whether others sleep, so it sets 2. */
	while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0)
		syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

void vrd_lock_wake(struct vrd_lock *lock)
{
	syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* ---- signals ------------------------------------------------------------- */

/* About ten microseconds: a poller that is awake answers faster. */
#define SIGNAL_SPINS	200

void vrd_signal_raise(struct vrd_signal *signal)
{
	/*
	 * If the waiter sees the 1 and frees the memory before the wake-up, the wake-up has no
	 * effect or wakes another thread, which checks its own word again.
	 */
	if (atomic_exchange_explicit(&signal->word, 1, memory_order_release) == 2)
		syscall(SYS_futex, &signal->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void vrd_signal_wait(struct vrd_signal *signal)
{
	uint32_t word = 0;

	for (unsigned int i = 0; i < SIGNAL_SPINS; i++) {
		if (atomic_load_explicit(&signal->word, memory_order_acquire) == 1)
			return;
		vrd_cpu_relax();
	}
	atomic_compare_exchange_strong_explicit(&signal->word, &word, 2, memory_order_relaxed,
						memory_order_relaxed);
	while (atomic_load_explicit(&signal->word, memory_order_acquire) != 1)
		syscall(SYS_futex, &signal->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

/* ---- lock order ------------------------------------------------------------ */

#ifdef VRD_DEBUG_LOCKS

static _Thread_local uint8_t vrd_locks_held[VRD_LOCK_LEVELS];

void vrd_lock_note_taken(const struct vrd_lock *lock, bool tried)
{
	for (unsigned int level = lock->level; !tried && level < VRD_LOCK_LEVELS; level++) {
		if (!vrd_locks_held[level])
			continue;
		fprintf(stderr, "vrd: lock of level %u taken while one of level %u is held\n",
			lock->level, level);
		abort();
	}
	vrd_locks_held[lock->level]++;
}

void vrd_lock_note_released(const struct vrd_lock *lock)
{
	vrd_locks_held[lock->level]--;
}

#endif /* VRD_DEBUG_LOCKS */
