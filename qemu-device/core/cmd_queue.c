// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands in flight: taking them off the control virtqueue, their order, and their answers.
 * See cmd.h.
 *
 * The queue may stop while commands run.  They continue, and their responses wait until the
 * queue starts again where it stopped.  To the driver such a pause looks like a slow device.
 * Commands that were taken and not answered are part of the device's state, as its objects
 * are.
 *
 * Control thread under dev->lock, except for vrd_cmd_complete() (any thread) and cancel
 * (front end).
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "virtq.h"

void vrd_cmds_init(struct vrd_cmds *cmds)
{
	TAILQ_INIT(&cmds->list);
	TAILQ_INIT(&cmds->ready);
}

static struct vrd_vq *queue_of(struct vrd_device *dev)
{
	return dev->vqs[VIRTIO_RDMA_VQ_CONTROL];
}

/* ---- answers ----------------------------------------------------------- */

static void cmd_free(struct vrd_cmd *cmd)
{
	free(cmd->elem);
	free(cmd);
}

/* Sends the response and frees the command.  The queue must be running. */
static void send_response(struct vrd_cmd *cmd)
{
	struct vrd_device *dev = cmd->dev;
	struct vrd_vq *vq = queue_of(dev);
	uint32_t written = cmd->rsp_size;

	if (written && !vrd_vq_write(vq, cmd->elem, cmd->rsp_buf, written))
		written = 0;
	vrd_lock(&vq->lock);
	vrd_vq_push_locked(vq, cmd->elem, written);
	vrd_unlock(&vq->lock);
	dev->cmds.unsignalled = true;
	TAILQ_REMOVE(&dev->cmds.list, cmd, link);
	dev->cmds.num--;
	cmd_free(cmd);
}

void vrd_cmds_flush(struct vrd_device *dev)
{
	struct vrd_cmd *cmd, *next;

	if (!dev->cmds.num_answered || !queue_of(dev)->running)
		return;
	for (cmd = TAILQ_FIRST(&dev->cmds.list); cmd; cmd = next) {
		next = TAILQ_NEXT(cmd, link);
		if (cmd->state == VRD_CMD_ANSWERED) {
			dev->cmds.num_answered--;
			send_response(cmd);
		}
	}
}

void vrd_cmds_signal(struct vrd_device *dev)
{
	struct vrd_vq *vq = queue_of(dev);

	if (!dev->cmds.unsignalled)
		return;
	dev->cmds.unsignalled = false;
	vrd_lock(&vq->lock);
	vrd_vq_notify_locked(vq);
	vrd_unlock(&vq->lock);
}

/* Commands that waited only for @cmd may start. */
static void release_waiting(struct vrd_cmd *cmd)
{
	struct vrd_cmds *cmds = &cmd->dev->cmds;
	struct vrd_cmd *later;

	for (later = TAILQ_NEXT(cmd, link); later; later = TAILQ_NEXT(later, link))
		if (later->state == VRD_CMD_WAITS && vrd_cmd_conflict(cmd, later) &&
		    !--later->waits)
			TAILQ_INSERT_TAIL(&cmds->ready, later, ready_link);
}

/* The command has ended with result @ret. */
static void finish(struct vrd_cmd *cmd, int ret)
{
	struct vrd_device *dev = cmd->dev;

	release_waiting(cmd);
	if (cmd->cancelled) {
		TAILQ_REMOVE(&dev->cmds.list, cmd, link);
		dev->cmds.num_cancelled--;
		cmd_free(cmd);
		return;
	}
	if (cmd->rsp)
		cmd->rsp_size = vrd_command_end(cmd, ret);
	if (queue_of(dev)->running) {
		send_response(cmd);
		return;
	}
	cmd->state = VRD_CMD_ANSWERED;
	dev->cmds.num_answered++;
}

/* ---- running ----------------------------------------------------------- */

static void start_ready(struct vrd_device *dev)
{
	struct vrd_cmd *cmd;
	int ret;

	while ((cmd = TAILQ_FIRST(&dev->cmds.ready))) {
		TAILQ_REMOVE(&dev->cmds.ready, cmd, ready_link);
		cmd->state = VRD_CMD_RUNS;
		ret = vrd_command_begin(cmd);
		if (ret != VRD_CMD_PENDING)
			finish(cmd, ret);
	}
}

/* On the control thread: the operation that the command waited for has ended. */
static void resume(struct vrd_followup *f)
{
	struct vrd_cmd *cmd = (void *)((char *)f - offsetof(struct vrd_cmd, followup));
	struct vrd_device *dev = cmd->dev;
	vrd_cmd_step_fn *step = cmd->step;
	int ret = cmd->ret;

	dev->cmds.num_running--;
	pthread_cond_broadcast(&dev->ends.gone);
	cmd->step = NULL;
	if (step)
		ret = step(cmd, ret);
	if (ret != VRD_CMD_PENDING)
		finish(cmd, ret);
	start_ready(dev);
}

void vrd_cmd_complete(struct vrd_cmd *cmd, int ret)
{
	cmd->ret = ret;
	vrd_control_followup(cmd->dev, &cmd->followup);
}

int vrd_cmd_wait(struct vrd_cmd *cmd, vrd_cmd_step_fn *step)
{
	cmd->step = step;
	cmd->followup.fn = resume;
	cmd->dev->cmds.num_running++;
	return VRD_CMD_PENDING;
}

/* Runs on a poller. */
static void grace_over(struct vrd_deferred *deferred)
{
	vrd_cmd_complete((void *)((char *)deferred - offsetof(struct vrd_cmd, deferred)), 0);
}

int vrd_cmd_wait_grace(struct vrd_cmd *cmd, vrd_cmd_step_fn *step)
{
	struct vrd_engine *engine = cmd->dev->engine;

	if (vrd_grace_soon(engine))
		return step(cmd, 0);
	vrd_cmd_wait(cmd, step);
	vrd_defer(engine, &cmd->deferred, grace_over);
	return VRD_CMD_PENDING;
}

static void run_slow(struct vrd_work *work)
{
	struct vrd_cmd *cmd = (void *)((char *)work - offsetof(struct vrd_cmd, work));

	vrd_cmd_complete(cmd, cmd->slow(cmd));
}

int vrd_cmd_run(struct vrd_cmd *cmd, vrd_cmd_fn *slow, vrd_cmd_step_fn *step, bool net)
{
	if (!cmd->dev->workers)
		return step(cmd, slow(cmd));
	cmd->slow = slow;
	cmd->work = (struct vrd_work){ .fn = run_slow, .kind = net ? VRD_WORK_NET : VRD_WORK_CALL };
	vrd_cmd_wait(cmd, step);
	vrd_work_submit(cmd->dev->workers, &cmd->work);
	return VRD_CMD_PENDING;
}

/* ---- taking ------------------------------------------------------------ */

/* Copies the request and the addresses of the response buffer; NULL: out of memory. */
static struct vrd_cmd *cmd_new(struct vrd_device *dev, const struct vrd_vq_elem *elem)
{
	uint32_t len = elem->readable < VRD_MAX_REQUEST ?
		       (uint32_t)elem->readable : VRD_MAX_REQUEST;
	unsigned int segs = elem->num_segs - elem->num_readable;
	struct vrd_vq *vq = queue_of(dev);
	struct vrd_cmd *cmd = malloc(sizeof(*cmd) + (len + 7U) / 8 * 8);

	if (!cmd)
		return NULL;
	memset(cmd, 0, sizeof(*cmd));
	cmd->elem = malloc(sizeof(*cmd->elem) + segs * sizeof(cmd->elem->seg[0]));
	if (!cmd->elem) {
		free(cmd);
		return NULL;
	}
	*cmd->elem = (struct vrd_vq_elem){
		.head = elem->head, .num_segs = segs, .max_segs = segs,
		.writable = elem->writable,
	};
	memcpy(cmd->elem->seg, elem->seg + elem->num_readable, segs * sizeof(elem->seg[0]));
	cmd->dev = dev;
	cmd->req_len = vrd_vq_read(vq, elem, cmd->raw, len) ? len : 0;
	/* A command without room for a status is not executed. */
	if (elem->writable >= sizeof(struct virtio_rdma_rsp_hdr) &&
	    vrd_vq_can_write(vq, elem, sizeof(struct virtio_rdma_rsp_hdr)))
		cmd->rsp = cmd->rsp_buf;
	return cmd;
}

/* There is no memory for the command; this answer needs none. */
static void refuse(struct vrd_device *dev, const struct vrd_vq_elem *elem)
{
	struct virtio_rdma_rsp_hdr rsp = { .status = htole32(VIRTIO_RDMA_S_NOMEM) };
	struct vrd_vq *vq = queue_of(dev);
	uint32_t written = 0;

	if (elem->writable >= sizeof(rsp) && vrd_vq_can_write(vq, elem, sizeof(rsp)) &&
	    vrd_vq_write(vq, elem, &rsp, sizeof(rsp)))
		written = sizeof(rsp);
	vrd_lock(&vq->lock);
	vrd_vq_push_locked(vq, elem, written);
	vrd_unlock(&vq->lock);
	dev->cmds.unsignalled = true;
}

static void add(struct vrd_cmd *cmd)
{
	struct vrd_cmds *cmds = &cmd->dev->cmds;
	struct vrd_cmd *earlier;

	TAILQ_FOREACH(earlier, &cmds->list, link)
		cmd->waits += earlier->state != VRD_CMD_ANSWERED && vrd_cmd_conflict(earlier, cmd);
	TAILQ_INSERT_TAIL(&cmds->list, cmd, link);
	cmds->num++;
	if (!cmd->waits)
		TAILQ_INSERT_TAIL(&cmds->ready, cmd, ready_link);
}

/* With dev->lock or without. */
static bool has_room(struct vrd_device *dev)
{
	const struct vrd_cmds *cmds = &dev->cmds;

	return atomic_load_explicit(&cmds->num, memory_order_relaxed) < VRD_MAX_CMDS &&
	       atomic_load_explicit(&cmds->num_cancelled, memory_order_relaxed) <
	       VRD_MAX_CANCELLED;
}

bool vrd_cmds_take(struct vrd_device *dev)
{
	struct vrd_vq *vq = queue_of(dev);
	struct vrd_vq_elem *elem = vq->elem;
	enum vrd_vq_pop got;
	struct vrd_cmd *cmd;

	if (!has_room(dev))
		return false;
	/*
	 * Only this thread takes chains, and all other changes of the queue need dev->lock.  So
	 * vq->lock, which must be the innermost lock, is not held while the command runs.
	 */
	vrd_lock(&vq->lock);
	got = vrd_vq_pop_locked(vq, elem);
	vrd_unlock(&vq->lock);
	if (got != VRD_VQ_GOT)
		return false;
	cmd = cmd_new(dev, elem);
	if (!cmd) {
		refuse(dev, elem);
		return true;
	}
	vrd_command_check(cmd, elem);
	vrd_cmd_find_names(cmd);
	add(cmd);
	start_ready(dev);
	return true;
}

void vrd_cmds_want_kick(struct vrd_device *dev, bool want)
{
	struct vrd_vq *vq = queue_of(dev);

	vrd_lock(&vq->lock);
	if (want || vq->kicks_wanted)
		vrd_vq_want_kick_locked(vq, want);
	vrd_unlock(&vq->lock);
}

/* Safe without dev->lock: only this thread adds to the list, and a cancel only reduces num. */
bool vrd_cmds_available(struct vrd_device *dev)
{
	struct vrd_vq *vq = queue_of(dev);
	bool available;

	if (!has_room(dev))
		return false;
	vrd_lock(&vq->lock);
	available = vrd_vq_has_chain_locked(vq);
	vrd_unlock(&vq->lock);
	return available;
}

/* ---- reset ------------------------------------------------------------- */

void vrd_cmds_cancel(struct vrd_device *dev)
{
	struct vrd_cmds *cmds = &dev->cmds;
	struct vrd_cmd *cmd, *next;

	TAILQ_INIT(&cmds->ready);
	for (cmd = TAILQ_FIRST(&cmds->list); cmd; cmd = next) {
		next = TAILQ_NEXT(cmd, link);
		if (cmd->cancelled)
			continue;
		if (cmd->state == VRD_CMD_RUNS) {
			/*
			 * It stays in the list, so that later commands that conflict with it
			 * wait.
			 */
			cmd->cancelled = true;
			cmds->num_cancelled++;
			continue;
		}
		TAILQ_REMOVE(&cmds->list, cmd, link);
		cmd_free(cmd);
	}
	cmds->num = 0;
	cmds->num_answered = 0;
	cmds->unsignalled = false;
}
