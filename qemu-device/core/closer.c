// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Closes descriptors that another process passed: see closer.h.
 *
 * Each descriptor has a detached thread, so that a close() that blocks delays no other.  The
 * caller bounds the number of threads: it refuses descriptors from a process of which too
 * many are pending.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "closer.h"
#include "thread.h"

#define STACK_SIZE	(256 * 1024)

struct vrd_closer {
	_Atomic unsigned int pending;
	_Atomic unsigned int refs;	/* one for the owner and one for each thread */
};

struct job {
	struct vrd_closer *closer;
	int fd;
};

struct vrd_closer *vrd_closer_create(void)
{
	struct vrd_closer *closer = calloc(1, sizeof(*closer));

	if (closer)
		atomic_init(&closer->refs, 1);
	return closer;
}

static void put(struct vrd_closer *closer)
{
	if (atomic_fetch_sub(&closer->refs, 1) == 1)
		free(closer);
}

void vrd_closer_destroy(struct vrd_closer *closer)
{
	if (closer)
		put(closer);
}

static void *close_main(void *opaque)
{
	struct job job = *(struct job *)opaque;

	free(opaque);
	close(job.fd);
	atomic_fetch_sub(&job.closer->pending, 1);
	put(job.closer);
	return NULL;
}

void vrd_closer_close(struct vrd_closer *closer, int fd)
{
	struct job *job = malloc(sizeof(*job));

	atomic_fetch_add(&closer->pending, 1);
	atomic_fetch_add(&closer->refs, 1);
	if (job) {
		*job = (struct job) { closer, fd };
		if (!vrd_thread_create_detached(STACK_SIZE, close_main, job))
			return;
		free(job);
	}
	/* Without a thread @fd stays open, and counts as pending forever. */
	put(closer);
}

unsigned int vrd_closer_pending(struct vrd_closer *closer)
{
	return atomic_load(&closer->pending);
}
