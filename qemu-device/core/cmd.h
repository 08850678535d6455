/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands in flight.
 *
 * A command is an object from the moment it is taken off the control virtqueue until its
 * response is written.  Its handler returns a status or VRD_CMD_PENDING.  A pending command
 * is completed later by a worker, a poller's message or a grace period.  So the control
 * thread does not wait for that operation, and dev->lock is not held during it.
 *
 * Order.  Each command names objects: it changes some of them and only refers to others
 * (cmd_names.c).  Two commands conflict if both name the same object and at least one of
 * them changes it.  A command starts when all earlier commands that conflict with it have
 * been answered.  All others run in parallel and are answered in any order.
 *
 * Threads: handlers and steps run on the control thread under dev->lock.  vrd_cmd_complete()
 * may be called by any thread.
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

/* Maximum number of commands of one device that are taken off the ring and not answered. */
#define VRD_MAX_CMDS		64
/*
 * Maximum number of cancelled commands that are still under way.  With so many the device
 * takes no commands: a guest could otherwise make it hold any amount of memory by resets
 * while calls of the host are slow.
 */
#define VRD_MAX_CANCELLED	256
/* Maximum number of objects that one command names. */
#define VRD_MAX_CMD_REFS	8

#define VRD_CMD_PENDING		1

/* Returns 0, a negative errno (control.c converts it to a status), or VRD_CMD_PENDING. */
typedef int vrd_cmd_fn(struct vrd_cmd *cmd);
/* Continues a pending command; @ret is the result of the operation that it waited for. */
typedef int vrd_cmd_step_fn(struct vrd_cmd *cmd, int ret);

enum vrd_ref_kind {
	VRD_REF_DEVICE,			/* changed only by INIT */
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
	VRD_CMD_WAITS,			/* waits for earlier commands */
	VRD_CMD_RUNS,
	VRD_CMD_ANSWERED,		/* the response waits until the queue runs again */
};

struct vrd_cmd {
	struct vrd_device *dev;
	/*
	 * A copy of the fixed part of the request, with the length that this device knows:
	 * fields that an older driver did not send are zero.  @rsp is zeroed and has the length
	 * of the command's response.  Only the part for which the driver has room is sent.
	 */
	const void *req;
	void *rsp;
	struct vrd_extents extents;	/* extents that follow the request */
	void *obj;			/* for the handler */
	uint64_t generation;		/* for the handler: of the memory table when the command
					 * began */
	struct vrd_qp_change change;	/* for the handler of MODIFY_QP */
	/*
	 * There was a reset: the response is dropped.  A step that runs now releases what the
	 * command has created.
	 */
	bool cancelled;

	/* cmd_queue.c */
	enum vrd_cmd_state state;
	unsigned int waits;		/* earlier commands that must be answered first */
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
	struct vrd_vq_elem *elem;	/* the buffer for the response */

	/* control.c */
	const struct vrd_command *command;	/* NULL: unknown opcode or malformed */
	int refusal;			/* errno if the request is invalid, or 0 */
	bool malformed;			/* the header is invalid */
	uint32_t opcode, req_len;
	uint32_t room;			/* length of the response that is sent */
	uint32_t rsp_size;		/* length of the answer */
	uint64_t rsp_buf[512 / sizeof(uint64_t)];
	uint64_t fixed[VRD_MAX_FIXED / sizeof(uint64_t)];
	uint64_t raw[];			/* the request as received */
};

/* --- for handlers --- */

/*
 * Runs @slow, which may block, and then @step with its return value.  If the transports'
 * calls may block, @slow runs on a worker without dev->lock, and the command is pending;
 * else both run at once.  Returns the value that the handler must return.  @net: @slow may
 * wait for the network.
 */
int vrd_cmd_run(struct vrd_cmd *cmd, vrd_cmd_fn *slow, vrd_cmd_step_fn *step, bool net);
/*
 * Makes the command pending until vrd_cmd_complete() is called; then @step runs.  If @step
 * is NULL, the argument of that call is the answer.
 */
int vrd_cmd_wait(struct vrd_cmd *cmd, vrd_cmd_step_fn *step);
/*
 * Makes the command pending until a grace period is over, unless it is over already; then
 * @step runs.
 */
int vrd_cmd_wait_grace(struct vrd_cmd *cmd, vrd_cmd_step_fn *step);
/* Any thread, any lock. */
void vrd_cmd_complete(struct vrd_cmd *cmd, int ret);

/* --- for the control thread, under dev->lock --- */

void vrd_cmds_init(struct vrd_cmds *cmds);
/* Takes one command and starts it if it has no conflict; false: there is none, or no room. */
bool vrd_cmds_take(struct vrd_device *dev);
/* Writes responses that waited for the queue. */
void vrd_cmds_flush(struct vrd_device *dev);
/*
 * Sets whether the driver must kick for the next command.  With or without dev->lock.  After
 * enabling kicks the caller must check the queue once more.
 */
void vrd_cmds_want_kick(struct vrd_device *dev, bool want);
/* True if a command could be taken.  With or without dev->lock. */
bool vrd_cmds_available(struct vrd_device *dev);
/* Notifies the driver of the answers since the last call. */
void vrd_cmds_signal(struct vrd_device *dev);

/* --- for reset --- */

/* No earlier command is answered after this; pending commands are cancelled. */
void vrd_cmds_cancel(struct vrd_device *dev);

/* --- cmd_names.c --- */

/* Fills @cmd->refs.  The request has been checked; it may have been refused. */
void vrd_cmd_find_names(struct vrd_cmd *cmd);
/* True if @b must wait for the earlier command @a. */
bool vrd_cmd_conflict(const struct vrd_cmd *a, const struct vrd_cmd *b);

/* --- control.c --- */

/* Any thread, any lock: wakes the control thread. */
void vrd_control_followup(struct vrd_device *dev, struct vrd_followup *f);
/* Checks a copied command; fills command, refusal, req and extents. */
void vrd_command_check(struct vrd_cmd *cmd, const struct vrd_vq_elem *elem);
/* Calls the command's handler and returns its result. */
int vrd_command_begin(struct vrd_cmd *cmd);
/* Fills in the status; returns the length of the response. */
uint32_t vrd_command_end(struct vrd_cmd *cmd, int ret);

#endif /* VRD_CMD_H */
