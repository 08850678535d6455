/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worker threads of a device: they make calls that may block, which must not be made on the
 * control thread, the front end's threads and the pollers.
 *
 * Each device whose transport makes such calls has its own pool, so that calls that hang do
 * not delay other devices.  The first thread lives as long as the pool.  Another thread is
 * started when there is more work than idle threads, and ends when it has been idle for a
 * while.
 */
#ifndef VRD_WORKER_H
#define VRD_WORKER_H

#include <stdbool.h>
#include <sys/queue.h>

struct vrd_engine;
struct vrd_workers;

/* Maximum number of threads of a pool. */
#define VRD_MAX_WORKERS		16

/*
 * What a call may have to wait for, in the order in which calls are made.  Each kind leaves
 * threads to those before it: a guest that registers much memory, or connects to hosts that do
 * not answer, does not delay the end of its own objects, and so its reset.
 */
enum vrd_work_kind {
	VRD_WORK_END,			/* destruction of an object */
	VRD_WORK_CALL,			/* other calls of the host */
	VRD_WORK_NET,			/* calls that may wait for the network */
	VRD_WORK_KINDS
};
/* Maximum number of threads in calls of these kinds: of either, and of the second. */
#define VRD_MAX_CALL_WORKERS	14
#define VRD_MAX_NET_WORKERS	12

/*
 * One call.  The owner keeps it until @fn is called; @fn may free it.  @fn runs on a worker,
 * without locks, and may take dev->lock.
 */
struct vrd_work {
	void (*fn)(struct vrd_work *work);
	enum vrd_work_kind kind;
	STAILQ_ENTRY(vrd_work) link;	/* the pool's */
};

/* 0 or a negative errno. */
int vrd_workers_create(struct vrd_engine *engine, const char *name, struct vrd_workers **out);
/* To be called when no work is queued or running.  Waits for the threads to end. */
void vrd_workers_destroy(struct vrd_workers *ws);

/* From any thread, under any lock.  If no thread can be started, an existing one runs it later. */
void vrd_work_submit(struct vrd_workers *ws, struct vrd_work *work);

#endif /* VRD_WORKER_H */
