/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a device and its objects for commands in flight (cmd.h) and for objects that
 * are being destroyed (end.h).
 */
#ifndef VRD_PENDING_H
#define VRD_PENDING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "reclaim.h"
#include "worker.h"

struct vrd_cmd;
struct vrd_device;

/*
 * A request of another thread to the control thread: @fn runs there under dev->lock.  The
 * owner keeps the structure until then.
 */
struct vrd_followup {
	void (*fn)(struct vrd_followup *f);
	STAILQ_ENTRY(vrd_followup) link;
};

TAILQ_HEAD(vrd_cmd_list, vrd_cmd);

/* A device's commands: dev->lock. */
struct vrd_cmds {
	struct vrd_cmd_list list;	/* in the order of the ring */
	struct vrd_cmd_list ready;	/* may start: no earlier command is in conflict */
	_Atomic unsigned int num;	/* commands in the list, without cancelled ones */
	_Atomic unsigned int num_cancelled;	/* cancelled commands in the list */
	unsigned int num_running;	/* pending commands, including cancelled ones, that will
					 * be completed */
	unsigned int num_answered;	/* commands whose response waits for the queue */
	bool unsignalled;		/* used entries were written since the last signal */
};

/* The steps in which an object is destroyed; NULL: nothing to do. */
struct vrd_end {
	/*
	 * The transport's part: @retire, then a grace period (if @grace), then @release.  They
	 * may block: if the device has workers, they run on a worker, without dev->lock.
	 */
	void (*retire)(struct vrd_end *end);
	void (*release)(struct vrd_end *end);
	/* Finally, under dev->lock: releases the remaining resources and frees the object. */
	void (*free)(struct vrd_end *end);
	bool grace;

	/* end.c */
	struct vrd_device *dev;
	bool waits;			/* waits until the object has no users */
	bool *ended;			/* set to true at the end, or NULL */
	uint32_t *users;		/* the object's user count: vrd_end_gather() */
	bool guards_memory;
	uint32_t epoch;			/* ends->epoch at its begin */
	struct vrd_cmd *cmd;
	int ret;
	struct vrd_work work;
	struct vrd_deferred deferred;
	struct vrd_followup followup;
	TAILQ_ENTRY(vrd_end) link;
};

TAILQ_HEAD(vrd_end_list, vrd_end);

/* Objects of a device that are being destroyed: dev->lock. */
struct vrd_ends {
	struct vrd_end_list due;	/* objects without users */
	unsigned int num;		/* objects that are being destroyed */
	unsigned int num_guards;	/* of these, memory regions: the host may still write to
					 * them */
	/* Of the memory regions, those that began to end before the last vrd_ends_mark(). */
	unsigned int num_unsettled;
	uint32_t epoch;			/* number of marks */
	bool running;			/* vrd_ends_run() is on the stack */
	struct vrd_cmd_list after;	/* INIT: wait until num_guards is zero; by ready_link */
	pthread_cond_t gone;		/* num, num_guards or cmds.num_running has decreased */
	int settled_fd;			/* eventfd: signalled when num_unsettled becomes zero */
};

#endif /* VRD_PENDING_H */
