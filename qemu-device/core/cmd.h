/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands in flight.
 *
 * A command is an object of its own from the moment it is taken off the control
 * virtqueue until its response is written.  Its handler returns a status, or
 * VRD_CMD_PENDING: then something else (a worker, a poller's message, a grace
 * period) completes it later.  So the control thread and dev->lock wait for
 * nothing.
 *
 * Order.  Each command names objects: some it changes, some it only refers to
 * (cmd_names.c).  A command starts when all earlier ones are answered that name
 * one of its objects, where at least one of the two changes it.  All others run
 * side by side and are answered in any order.
 *
 * Threads: handlers and steps run on the control thread under dev->lock.
 * vrd_cmd_complete() may be called by any thread.
 */
#ifndef VRD_CMD_H
#define VRD_CMD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "mr.h"
#include "pending.h"
#include "request.h"
#include "transport.h"

/* Of one device: taken off the ring and not answered. */
#define VRD_MAX_CMDS		64
/* Objects that one command names. */
#define VRD_MAX_CMD_REFS	8

#define VRD_CMD_PENDING		1

/* 0, a negative errno (control.c makes a status of it), or VRD_CMD_PENDING. */
typedef int vrd_cmd_fn(struct vrd_cmd *cmd);
/* Goes on with a command that was pending; @ret is what it waited for. */
typedef int vrd_cmd_step_fn(struct vrd_cmd *cmd, int ret);

enum vrd_ref_kind {
	VRD_REF_DEVICE,			/* changed by INIT alone */
	VRD_REF_GID,
	VRD_REF_CTX,
	VRD_REF_PD,
	VRD_REF_MR,
	VRD_REF_CQ,
	VRD_REF_SRQ,
	VRD_REF_QP,
	VRD_REF_BUF,
};

struct vrd_cmd_ref {
	uint8_t kind;			/* VRD_REF_* */
	bool changes;
	uint32_t number;
};

enum vrd_cmd_state {
	VRD_CMD_WAITS,			/* for earlier ones */
	VRD_CMD_RUNS,
	VRD_CMD_ANSWERED,		/* the response waits until the queue runs again */
};

struct vrd_cmd {
	struct vrd_device *dev;
	/*
	 * A copy of the fixed part of the request, with the length that this device
	 * knows: what an older driver did not send is zero.  @rsp is as long as the
	 * command's response and zero; as much is sent as the driver has room for.
	 */
	const void *req;
	void *rsp;
	struct vrd_extents extents;	/* those that follow the request */
	void *obj;			/* the handler's */
	uint64_t generation;		/* likewise: of the memory table when it began */
	struct vrd_qp_change change;	/* likewise: MODIFY_QP */
	/*
	 * There was a reset: the response goes nowhere.  A step that runs now gives
	 * back what the command made.
	 */
	bool cancelled;

	/* cmd_queue.c */
	enum vrd_cmd_state state;
	unsigned int waits;		/* earlier commands that have to be answered first */
	unsigned int num_refs;
	struct vrd_cmd_ref refs[VRD_MAX_CMD_REFS];
	TAILQ_ENTRY(vrd_cmd) link;	/* in the order of the ring */
	TAILQ_ENTRY(vrd_cmd) ready_link;
	vrd_cmd_fn *slow;
	vrd_cmd_step_fn *step;
	int ret;
	struct vrd_work work;
	struct vrd_deferred deferred;
	struct vrd_followup followup;
	struct vrd_vq_elem *elem;	/* where the response goes */

	/* control.c */
	const struct vrd_command *command;	/* NULL: refused */
	int refusal;			/* what was wrong with the request, or 0 */
	bool malformed;			/* not even the header is right */
	uint32_t opcode, req_len;
	uint32_t room;			/* bytes of the response that are sent */
	uint32_t rsp_size;		/* of the answer */
	uint64_t rsp_buf[512 / sizeof(uint64_t)];
	uint64_t fixed[VRD_MAX_FIXED / sizeof(uint64_t)];
	uint64_t raw[];			/* the request as it came */
};

/* --- for handlers --- */

/*
 * Runs @slow, which may block, and then @step with what it returned.  Where the
 * transport's calls may block, @slow runs on a worker without dev->lock, and the
 * command is pending; else at once.  Returns what the handler has to return.
 * @net: @slow may wait for the network.
 */
int vrd_cmd_run(struct vrd_cmd *cmd, vrd_cmd_fn *slow, vrd_cmd_step_fn *step, bool net);
/*
 * Pending, until somebody calls vrd_cmd_complete(): then @step runs (NULL: what
 * that call said is the answer).
 */
int vrd_cmd_wait(struct vrd_cmd *cmd, vrd_cmd_step_fn *step);
/* Pending until a grace period is over, if it is not; then @step. */
int vrd_cmd_wait_grace(struct vrd_cmd *cmd, vrd_cmd_step_fn *step);
/* Any thread, any lock. */
void vrd_cmd_complete(struct vrd_cmd *cmd, int ret);

/* --- for the control thread, under dev->lock --- */

void vrd_cmds_init(struct vrd_cmds *cmds);
/* Takes one command and starts it if it may; false: there is none, or no room. */
bool vrd_cmds_take(struct vrd_device *dev);
/* Writes responses that waited for the queue. */
void vrd_cmds_flush(struct vrd_device *dev);
/*
 * Whether the driver has to kick for the next command.  With dev->lock or without;
 * after true, look once more.
 */
void vrd_cmds_want_kick(struct vrd_device *dev, bool want);
/* True if a command could be taken.  With dev->lock or without. */
bool vrd_cmds_available(struct vrd_device *dev);
/* Tells the driver of what was answered since the last call. */
void vrd_cmds_signal(struct vrd_device *dev);

/* --- for reset --- */

/* No command of before is answered after this; the pending ones are cancelled. */
void vrd_cmds_cancel(struct vrd_device *dev);

/* --- cmd_names.c --- */

/* Fills @cmd->refs; the request has been checked, or is refused. */
void vrd_cmd_find_names(struct vrd_cmd *cmd);
/* True if @b has to wait for @a, which is earlier. */
bool vrd_cmd_conflict(const struct vrd_cmd *a, const struct vrd_cmd *b);

/* --- control.c --- */

/* Any thread, any lock: wakes the control thread. */
void vrd_control_followup(struct vrd_device *dev, struct vrd_followup *f);
/* Checks a command that was copied: command, refusal, req, extents. */
void vrd_command_check(struct vrd_cmd *cmd, const struct vrd_vq_elem *elem);
/* Begins it; what the handler returns. */
int vrd_command_begin(struct vrd_cmd *cmd);
/* Fills in the status; returns the bytes of the response. */
uint32_t vrd_command_end(struct vrd_cmd *cmd, int ret);

#endif /* VRD_CMD_H */
