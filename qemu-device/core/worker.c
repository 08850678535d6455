// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Worker threads of a device.  See worker.h.
 *
 * There is a queue for each kind of call, and a limit of the threads that may be in calls of
 * this kind and those after it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE		/* pthread_setname_np() */
#endif
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "thread.h"
#include "transport.h"
#include "worker.h"

/* A thread that was idle for this long ends. */
#define IDLE_SECONDS	2

STAILQ_HEAD(work_list, vrd_work);

struct vrd_workers {
	struct vrd_engine *engine;
	char name[16];
	pthread_mutex_t lock;		/* protects all fields below; a leaf */
	pthread_cond_t work;		/* there is work, or stop is set */
	pthread_cond_t ended;		/* a thread has ended */
	struct work_list list[VRD_WORK_KINDS];
	unsigned int queued;		/* number of entries in all lists */
	unsigned int num, idle;		/* threads; idle ones */
	unsigned int busy[VRD_WORK_KINDS];	/* threads in calls of each kind */
	bool stop;
};

static const unsigned int limit[VRD_WORK_KINDS] = {
	[VRD_WORK_END]	= VRD_MAX_WORKERS,
	[VRD_WORK_CALL]	= VRD_MAX_CALL_WORKERS,
	[VRD_WORK_NET]	= VRD_MAX_NET_WORKERS,
};

void vrd_workers_destroy(struct vrd_workers *ws)
{
	if (!ws)
		return;
	pthread_mutex_lock(&ws->lock);
	ws->stop = true;
	pthread_cond_broadcast(&ws->work);
	while (ws->num)
		pthread_cond_wait(&ws->ended, &ws->lock);
	pthread_mutex_unlock(&ws->lock);
	pthread_cond_destroy(&ws->ended);
	pthread_cond_destroy(&ws->work);
	pthread_mutex_destroy(&ws->lock);
	free(ws);
}

/* The first list with a call that may be made now, or NULL. */
static struct work_list *ready_locked(struct vrd_workers *ws)
{
	unsigned int busy[VRD_WORK_KINDS + 1] = { 0 };

	for (unsigned int k = VRD_WORK_KINDS; k--;)
		busy[k] = busy[k + 1] + ws->busy[k];
	for (unsigned int k = 0; k < VRD_WORK_KINDS; k++)
		if (!STAILQ_EMPTY(&ws->list[k]) && busy[k] < limit[k])
			return &ws->list[k];
	return NULL;
}

static struct vrd_work *next_locked(struct vrd_workers *ws)
{
	struct work_list *list = ready_locked(ws);
	struct vrd_work *work;

	if (!list)
		return NULL;
	work = STAILQ_FIRST(list);
	STAILQ_REMOVE_HEAD(list, link);
	ws->queued--;
	return work;
}

/* False: there was no work for a while, or the pool is stopping. */
static bool wait_locked(struct vrd_workers *ws)
{
	struct timespec until;
	int ret;

	if (ws->stop)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_SECONDS;
	ws->idle++;
	ret = pthread_cond_timedwait(&ws->work, &ws->lock, &until);
	ws->idle--;
	return ret != ETIMEDOUT || ws->queued || ws->num == 1;
}

static void *worker_main(void *arg)
{
	struct vrd_workers *ws = arg;
	struct vrd_work *work;

	prctl(PR_SET_NAME, ws->name);
	pthread_mutex_lock(&ws->lock);
	for (;;) {
		enum vrd_work_kind kind;

		work = next_locked(ws);
		if (!work) {
			if (!wait_locked(ws))
				break;
			continue;
		}
		kind = work->kind;
		ws->busy[kind]++;
		pthread_mutex_unlock(&ws->lock);
		work->fn(work);
		pthread_mutex_lock(&ws->lock);
		ws->busy[kind]--;
	}
	/* The pool may be freed after this. */
	ws->num--;
	pthread_cond_signal(&ws->ended);
	pthread_mutex_unlock(&ws->lock);
	return NULL;
}

/* Starts one more thread if there is more work than idle threads. */
static void find_thread_locked(struct vrd_workers *ws)
{
	int ret;

	if (ws->idle)
		pthread_cond_signal(&ws->work);
	/* Calls that wait for the limit of their kind need no thread. */
	if (ws->queued <= ws->idle || ws->num == VRD_MAX_WORKERS || !ready_locked(ws))
		return;
	ret = vrd_thread_create_detached(0, worker_main, ws);
	if (!ret)
		ws->num++;
	else
		vrd_log(ws->engine, VRD_LOG_WARN, "cannot start a worker thread: %s",
			strerror(ret));
}

void vrd_work_submit(struct vrd_workers *ws, struct vrd_work *work)
{
	pthread_mutex_lock(&ws->lock);
	STAILQ_INSERT_TAIL(&ws->list[work->kind], work, link);
	ws->queued++;
	find_thread_locked(ws);
	pthread_mutex_unlock(&ws->lock);
}

int vrd_workers_create(struct vrd_engine *engine, const char *name, struct vrd_workers **out)
{
	struct vrd_workers *ws = calloc(1, sizeof(*ws));
	pthread_condattr_t attr;
	int ret;

	if (!ws)
		return -ENOMEM;
	ws->engine = engine;
	snprintf(ws->name, sizeof(ws->name), "vrd-wrk %.7s", name);
	pthread_mutex_init(&ws->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&ws->work, &attr);
	pthread_cond_init(&ws->ended, &attr);
	pthread_condattr_destroy(&attr);
	for (unsigned int k = 0; k < VRD_WORK_KINDS; k++)
		STAILQ_INIT(&ws->list[k]);

	pthread_mutex_lock(&ws->lock);
	ret = vrd_thread_create_detached(0, worker_main, ws);
	ws->num = !ret;
	pthread_mutex_unlock(&ws->lock);
	if (ret) {
		vrd_workers_destroy(ws);
		return -ret;
	}
	*out = ws;
	return 0;
}
