/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a device and its objects keep for commands in flight (cmd.h) and for
 * objects on their way out (end.h).
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
 * What another thread asks the control thread to do: @fn runs there under
 * dev->lock.  The owner keeps it until then.
 */
struct vrd_followup {
	void (*fn)(struct vrd_followup *f);
	STAILQ_ENTRY(vrd_followup) link;
};

TAILQ_HEAD(vrd_cmd_list, vrd_cmd);

/* A device's commands: dev->lock. */
struct vrd_cmds {
	struct vrd_cmd_list list;	/* in the order of the ring */
	struct vrd_cmd_list ready;	/* may start: nothing is in their way any more */
	_Atomic unsigned int num;	/* in the list, but for cancelled ones */
	unsigned int num_running;	/* and cancelled ones that something will complete */
	unsigned int num_answered;	/* whose response waits */
	bool unsignalled;		/* used entries were written since the last signal */
};

/* The steps in which an object ends; NULL: nothing to do. */
struct vrd_end {
	/*
	 * The transport's part: @retire, then a grace period (if @grace), then
	 * @release.  They may block: where the device has workers they run there,
	 * without dev->lock.
	 */
	void (*retire)(struct vrd_end *end);
	void (*release)(struct vrd_end *end);
	/* Then, under dev->lock: gives the rest back, and frees the object. */
	void (*free)(struct vrd_end *end);
	bool grace;

	/* end.c */
	struct vrd_device *dev;
	bool waits;			/* for users to go */
	bool *ended;			/* becomes true, or NULL */
	bool guards_memory;
	struct vrd_cmd *cmd;
	int ret;
	struct vrd_work work;
	struct vrd_deferred deferred;
	struct vrd_followup followup;
	TAILQ_ENTRY(vrd_end) link;
};

TAILQ_HEAD(vrd_end_list, vrd_end);

/* A device's: dev->lock. */
struct vrd_ends {
	struct vrd_end_list due;	/* nothing uses them any more */
	unsigned int num;		/* objects on their way out */
	unsigned int num_guards;	/* of these, memory regions: the host may write to them */
	bool running;			/* vrd_ends_run() is on the stack */
	struct vrd_cmd_list after;	/* INIT: wait until num_guards is zero; by ready_link */
	pthread_cond_t gone;		/* one of these, or cmds.num_running, went down */
};

#endif /* VRD_PENDING_H */
