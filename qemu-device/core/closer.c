// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Closes descriptors that another process passed: see closer.h.
 *
 * Each descriptor has a detached thread, so that a close() that blocks delays no other.  The
 * caller bounds the number of threads: it refuses descriptors from a process of which too
 * many are pending.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "closer.h"

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

static int start_thread(struct job *job)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&thread, &attr, close_main, job);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return ret;
}

void vrd_closer_close(struct vrd_closer *closer, int fd)
{
	struct job *job = malloc(sizeof(*job));

	atomic_fetch_add(&closer->pending, 1);
	atomic_fetch_add(&closer->refs, 1);
	if (job) {
		*job = (struct job) { closer, fd };
		if (!start_thread(job))
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
