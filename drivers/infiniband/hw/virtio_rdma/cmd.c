// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Command engine: requests on the control virtqueue.
 *
 * Any process context may call vrdma_cmd_exec(), many at once.  Each call puts
 * its chain on the queue, looks for the answer itself for a moment, and then
 * sleeps until the queue's callback, in interrupt context, completes it.  The
 * device may answer in any order.
 *
 * The time limit is one of the device: while it has commands it must answer one
 * of them within vrdma_ctrl.limit.  Otherwise, or if its queue is broken, it is
 * dead (vrdma_dev_kill), and every command fails at once.  The callers that wait
 * look after the limit themselves, a few times a second.
 *
 * The buffers of a command that was abandoned belong to the device until it is
 * halted; until then the command stays on the list of abandoned commands.
 */
#include <linux/dma-mapping.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "cmd.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

#define VRDMA_BROKEN	"its control queue is broken, or it was removed"
#define VRDMA_SHORT	"a response is shorter than its command requires"
#define VRDMA_SILENT	"it does not answer commands (see vrdmad or QEMU on the host; then rebind the driver)"
#define VRDMA_NO_MAP	"there is no memory to map a command that must not fail"
#define VRDMA_NO_ROOM	"its empty control queue has no room for a command"

/*
 * A caller looks for its answer for so long before it sleeps.  Most devices
 * answer within a few microseconds, much less than an interrupt and a wake-up
 * take.  Where polling does not pay (the host has no CPU to spare) it stops, and
 * is tried again once in a while.
 */
#define VRDMA_CMD_POLL_US	50
#define VRDMA_CMD_MAX_CREDIT	8U
#define VRDMA_CMD_POLL_RETRY	16

/* How often a waiting caller looks at the device. */
#define VRDMA_CMD_TICK	(HZ / 8)

/* The only place where a status of the device becomes an errno. */
int vrdma_status_to_errno(u32 status)
{
	switch (status) {
	case VIRTIO_RDMA_S_OK:
		return 0;
	case VIRTIO_RDMA_S_INVAL:
		return -EINVAL;
	case VIRTIO_RDMA_S_UNSUPPORTED:
		return -EOPNOTSUPP;
	case VIRTIO_RDMA_S_NOMEM:
		return -ENOMEM;
	case VIRTIO_RDMA_S_NOENT:
		return -ENOENT;
	case VIRTIO_RDMA_S_BUSY:
		return -EBUSY;
	case VIRTIO_RDMA_S_PERM:
		return -EPERM;
	case VIRTIO_RDMA_S_FAULT:
		return -EFAULT;
	case VIRTIO_RDMA_S_EXIST:
		return -EEXIST;
	case VIRTIO_RDMA_S_IO:
		return -EIO;
	case VIRTIO_RDMA_S_TIMEOUT:
		return -ETIMEDOUT;
	case VIRTIO_RDMA_S_NOT_READY:
		return -ENODEV;
	case VIRTIO_RDMA_S_ADDR:
		return -EADDRNOTAVAIL;
	default:
		/* A status of a newer device: the command did not succeed. */
		return -EIO;
	}
}

void vrdma_ctrl_init(struct vrdma_dev *dev)
{
	struct vrdma_ctrl *ctrl = &dev->ctrl;

	spin_lock_init(&ctrl->lock);
	INIT_LIST_HEAD(&ctrl->pending);
	INIT_LIST_HEAD(&ctrl->abandoned);
	init_waitqueue_head(&ctrl->room);
	ctrl->limit = VRDMA_CMD_LIMIT;
	ctrl->error = -EIO;
	ctrl->credit = VRDMA_CMD_MAX_CREDIT;
}

static void vrdma_cmd_free(struct vrdma_cmd *cmd)
{
	kfree(cmd->rsp);
	kvfree(cmd->req);
	kfree(cmd);
}

/*
 * A zeroed request with its header filled: a fixed part of @fixed_len bytes and
 * @num_extents extents.  The response has room for @rsp_len bytes; the device
 * may write fewer, see vrdma_cmd.rsp_min.
 */
static struct vrdma_cmd *vrdma_cmd_alloc_gfp(u32 opcode, size_t fixed_len,
					     u32 num_extents, size_t rsp_len,
					     gfp_t gfp)
{
	size_t req_len = fixed_len + num_extents *
			 sizeof(struct virtio_rdma_extent);
	struct virtio_rdma_cmd_hdr *hdr;
	struct vrdma_cmd *cmd;

	if (WARN_ON_ONCE(req_len > VRDMA_CMD_MAX_REQ))
		return NULL;
	cmd = kzalloc(sizeof(*cmd), gfp);
	if (!cmd)
		return NULL;
	cmd->req = kvzalloc(VRDMA_DMA_ALIGN(req_len), gfp);
	cmd->rsp = kzalloc(VRDMA_DMA_ALIGN(rsp_len), gfp);
	if (!cmd->req || !cmd->rsp) {
		vrdma_cmd_free(cmd);
		return NULL;
	}
	refcount_set(&cmd->refs, 1);
	cmd->opcode = opcode;
	cmd->req_len = req_len;
	cmd->rsp_len = rsp_len;
	cmd->rsp_min = rsp_len;
	init_completion(&cmd->done);
	hdr = cmd->req;
	hdr->opcode = cpu_to_le32(opcode);
	hdr->length = cpu_to_le32(fixed_len);
	return cmd;
}

struct vrdma_cmd *vrdma_cmd_alloc(u32 opcode, size_t req_len, size_t rsp_len)
{
	return vrdma_cmd_alloc_gfp(opcode, req_len, 0, rsp_len, GFP_KERNEL);
}

struct vrdma_cmd *vrdma_cmd_alloc_extents(u32 opcode, size_t fixed_len,
					  u32 num_extents, size_t rsp_len)
{
	return vrdma_cmd_alloc_gfp(opcode, fixed_len, num_extents, rsp_len,
				   GFP_KERNEL);
}

/* Send fewer extents than there is room for. */
void vrdma_cmd_set_extents(struct vrdma_cmd *cmd, u32 num_extents)
{
	const struct virtio_rdma_cmd_hdr *hdr = cmd->req;

	cmd->req_len = le32_to_cpu(hdr->length) +
		       num_extents * sizeof(struct virtio_rdma_extent);
}

/*
 * For commands that must not fail because memory is short: otherwise the device
 * would continue to serve an object that its user believes to be destroyed or
 * drained.  Small requests only.
 */
struct vrdma_cmd *vrdma_cmd_alloc_nofail(u32 opcode, size_t req_len,
					 size_t rsp_len)
{
	struct vrdma_cmd *cmd;

	cmd = vrdma_cmd_alloc_gfp(opcode, req_len, 0, rsp_len,
				  GFP_KERNEL | __GFP_NOFAIL);
	if (cmd)
		cmd->nofail = true;
	return cmd;
}

/* Drops the caller's reference: the device may still have the command. */
void vrdma_cmd_put(struct vrdma_cmd *cmd)
{
	if (refcount_dec_and_test(&cmd->refs))
		vrdma_cmd_free(cmd);
}

/* Called when the device was reset and its queues are deleted. */
void vrdma_ctrl_free_abandoned(struct vrdma_dev *dev)
{
	struct vrdma_cmd *cmd, *next;

	list_for_each_entry_safe(cmd, next, &dev->ctrl.abandoned, node) {
		list_del(&cmd->node);
		vrdma_cmd_put(cmd);
	}
}

/* ctrl->lock is held.  False if the device was dead before. */
static bool vrdma_ctrl_shut_locked(struct vrdma_dev *dev, int error)
{
	struct vrdma_ctrl *ctrl = &dev->ctrl;
	struct vrdma_cmd *cmd, *next;

	lockdep_assert_held(&ctrl->lock);
	if (dev->dead)
		return false;
	ctrl->error = error;
	WRITE_ONCE(dev->dead, true);
	list_for_each_entry_safe(cmd, next, &ctrl->pending, node) {
		cmd->state = VRDMA_CMD_ABANDONED;
		list_move_tail(&cmd->node, &ctrl->abandoned);
		complete(&cmd->done);
	}
	wake_up_all(&ctrl->room);
	return true;
}

/* Makes every command, pending or later, fail at once.  Any context. */
void vrdma_ctrl_shut(struct vrdma_dev *dev)
{
	unsigned long flags;

	spin_lock_irqsave(&dev->ctrl.lock, flags);
	vrdma_ctrl_shut_locked(dev, -EIO);
	spin_unlock_irqrestore(&dev->ctrl.lock, flags);
}

/**
 * vrdma_dev_kill() - declare the device dead
 * @dev:   the device
 * @error: errno of the commands that it has
 * @why:   completes the message "the device has failed: "
 *
 * Any context.  death_work does what may sleep: it halts the device, then
 * reports the failure and flushes work requests.
 */
void vrdma_dev_kill(struct vrdma_dev *dev, int error, const char *why)
{
	unsigned long flags;
	bool first;

	spin_lock_irqsave(&dev->ctrl.lock, flags);
	first = vrdma_ctrl_shut_locked(dev, error);
	/*
	 * Under the lock: a caller that finds the device dead can rely on the work being
	 * queued, so that it can flush it.
	 */
	if (first)
		queue_work(dev->wq, &dev->death_work);
	spin_unlock_irqrestore(&dev->ctrl.lock, flags);
	if (!first)
		return;
	if (dev_name(&dev->ibdev.dev))
		ibdev_err(&dev->ibdev, "the device has failed: %s\n", why);
	else
		dev_err(&dev->vdev->dev, "the device has failed: %s\n", why);
}

/* Kills a device that is gone or that has not answered for too long. */
void vrdma_ctrl_check(struct vrdma_dev *dev)
{
	struct vrdma_ctrl *ctrl = &dev->ctrl;
	bool broken = false, silent = false;
	unsigned long flags;

	spin_lock_irqsave(&ctrl->lock, flags);
	/* The queue exists as long as the device is not dead. */
	if (!dev->dead) {
		broken = virtqueue_is_broken(ctrl->vq);
		silent = !list_empty(&ctrl->pending) &&
			 time_after(jiffies, ctrl->progress + ctrl->limit);
	}
	spin_unlock_irqrestore(&ctrl->lock, flags);

	if (broken)
		vrdma_dev_kill(dev, -EIO, VRDMA_BROKEN);
	else if (silent)
		vrdma_dev_kill(dev, -ETIMEDOUT, VRDMA_SILENT);
}

/*
 * Completes the commands that were answered; true if there were any.  The loop
 * is bounded by the queue's size: under the lock no chain is added, and each
 * chain returns once.
 */
static bool vrdma_ctrl_take_locked(struct vrdma_ctrl *ctrl)
{
	struct vrdma_cmd *cmd;
	unsigned int len;
	bool any = false;

	lockdep_assert_held(&ctrl->lock);
	while ((cmd = virtqueue_get_buf(ctrl->vq, &len))) {
		any = true;
		/* The answer to an abandoned command is ignored. */
		if (cmd->state != VRDMA_CMD_PENDING)
			continue;
		cmd->state = VRDMA_CMD_DONE;
		cmd->used = len;
		ctrl->progress = jiffies;
		list_del(&cmd->node);
		/* Not the last one: the caller waits with another. */
		refcount_dec(&cmd->refs);
		complete(&cmd->done);
	}
	return any;
}

/* The same, and the callback comes for what is answered from now on. */
static bool vrdma_ctrl_take_enable_locked(struct vrdma_ctrl *ctrl)
{
	bool any = false;

	do {
		virtqueue_disable_cb(ctrl->vq);
		any |= vrdma_ctrl_take_locked(ctrl);
	} while (!virtqueue_enable_cb(ctrl->vq));
	return any;
}

/* Callback of the control queue: interrupt context. */
void vrdma_ctrl_done(struct virtqueue *vq)
{
	struct vrdma_dev *dev = vq->vdev->priv;
	struct vrdma_ctrl *ctrl = &dev->ctrl;
	unsigned long flags;

	/* A device may interrupt while its queues are being opened. */
	if (unlikely(!READ_ONCE(ctrl->vq)))
		return;
	spin_lock_irqsave(&ctrl->lock, flags);
	/* One that polls enables the callback when it stops. */
	if (ctrl->pollers)
		vrdma_ctrl_take_locked(ctrl);
	else
		vrdma_ctrl_take_enable_locked(ctrl);
	spin_unlock_irqrestore(&ctrl->lock, flags);

	wake_up_all(&ctrl->room);
}

/* Should a caller look for its answer itself? */
static bool vrdma_ctrl_may_poll_locked(struct vrdma_ctrl *ctrl)
{
	if (ctrl->credit)
		return true;
	if (++ctrl->skipped < VRDMA_CMD_POLL_RETRY)
		return false;
	ctrl->skipped = 0;
	return true;
}

/*
 * Looks for the answer for a moment; true if it has come, or the device is dead.
 * The caller is one of vrdma_ctrl.pollers, and is not after this.
 */
static bool vrdma_cmd_poll(struct vrdma_dev *dev, struct vrdma_cmd *cmd)
{
	ktime_t end = ktime_add_us(ktime_get(), VRDMA_CMD_POLL_US);
	struct vrdma_ctrl *ctrl = &dev->ctrl;
	bool done, over, any = false;
	unsigned long flags;

	do {
		cpu_relax();
		over = need_resched() || ktime_after(ktime_get(), end);
		spin_lock_irqsave(&ctrl->lock, flags);
		/* The queue exists as long as the device is not dead. */
		if (!dev->dead)
			any |= vrdma_ctrl_take_locked(ctrl);
		done = cmd->state != VRDMA_CMD_PENDING;
		if (done || over) {
			if (!--ctrl->pollers && !dev->dead)
				any |= vrdma_ctrl_take_enable_locked(ctrl);
			if (done)
				ctrl->credit = min(ctrl->credit + 2,
						   VRDMA_CMD_MAX_CREDIT);
			else if (ctrl->credit)
				ctrl->credit--;
		}
		spin_unlock_irqrestore(&ctrl->lock, flags);
	} while (!done && !over);

	if (any)
		wake_up_all(&ctrl->room);
	return done;
}

/* One segment a page where the request is not physically contiguous. */
static unsigned int vrdma_cmd_map_req(struct vrdma_cmd *cmd)
{
	size_t left = cmd->req_len;
	unsigned int i, num = 1;
	void *p = cmd->req;

	if (!is_vmalloc_addr(p)) {
		sg_init_one(cmd->out, p, left);
		return num;
	}
	num = DIV_ROUND_UP(left, PAGE_SIZE);
	sg_init_table(cmd->out, num);
	for (i = 0; i < num; i++) {
		size_t len = min_t(size_t, left, PAGE_SIZE);

		sg_set_page(&cmd->out[i], vmalloc_to_page(p), len, 0);
		p += len;
		left -= len;
	}
	return num;
}

/* Returns -ENOSPC if the queue is full, -ENOMEM if mapping failed. */
static int vrdma_cmd_submit(struct vrdma_dev *dev, struct vrdma_cmd *cmd)
{
	struct scatterlist *sgs[] = { cmd->out, &cmd->in };
	struct vrdma_ctrl *ctrl = &dev->ctrl;
	unsigned long flags;
	bool notify = false;
	int ret;

	/* The queue is not deleted before an RCU grace period after "dead". */
	rcu_read_lock();
	spin_lock_irqsave(&ctrl->lock, flags);
	if (dev->dead)
		ret = -EIO;
	else
		ret = virtqueue_add_sgs(ctrl->vq, sgs, 1, 1, cmd, GFP_ATOMIC);
	if (!ret) {
		if (list_empty(&ctrl->pending))
			ctrl->progress = jiffies;
		cmd->state = VRDMA_CMD_PENDING;
		refcount_inc(&cmd->refs);
		list_add_tail(&cmd->node, &ctrl->pending);
		if (cmd->buf)
			cmd->buf->exposed = true;
		cmd->poll = vrdma_ctrl_may_poll_locked(ctrl);
		/* Before the device sees the command: no interrupt then. */
		if (cmd->poll && !ctrl->pollers++)
			virtqueue_disable_cb(ctrl->vq);
		notify = virtqueue_kick_prepare(ctrl->vq);
	}
	spin_unlock_irqrestore(&ctrl->lock, flags);

	if (notify && !virtqueue_notify(ctrl->vq))
		vrdma_dev_kill(dev, -EIO, VRDMA_BROKEN);
	rcu_read_unlock();
	return ret;
}

/* False if the caller should wait; else @ret is the submission's result. */
static bool vrdma_cmd_try_submit(struct vrdma_dev *dev, struct vrdma_cmd *cmd,
				 int *ret)
{
	*ret = vrdma_cmd_submit(dev, cmd);
	return *ret != -ENOSPC && !(*ret == -ENOMEM && cmd->nofail);
}

/*
 * Gives the command to the device, when the queue has room.  If other commands
 * are in the queue, it waits for them: vrdma_ctrl_check() limits their time.  It
 * waits for a limited time for memory, or if an empty queue has no room.
 */
static int vrdma_cmd_queue(struct vrdma_dev *dev, struct vrdma_cmd *cmd)
{
	struct vrdma_ctrl *ctrl = &dev->ctrl;
	unsigned long start = jiffies;
	int ret;

	while (!wait_event_timeout(ctrl->room,
				   vrdma_cmd_try_submit(dev, cmd, &ret),
				   VRDMA_CMD_TICK)) {
		vrdma_ctrl_check(dev);
		if (ret == -ENOSPC && !list_empty(&ctrl->pending))
			start = jiffies;
		else if (time_after(jiffies, start + ctrl->limit))
			vrdma_dev_kill(dev, -EIO, ret == -ENOMEM ?
				       VRDMA_NO_MAP : VRDMA_NO_ROOM);
	}
	/* The transport may have broken the queue. */
	if (ret)
		vrdma_ctrl_check(dev);
	return ret;
}

/*
 * Checks what the device wrote: the used length first, then the status.  The
 * response of an older device may be shorter than this driver's structure, but
 * not than version 1's.
 */
static int vrdma_cmd_result(struct vrdma_dev *dev, struct vrdma_cmd *cmd)
{
	const struct virtio_rdma_rsp_hdr *hdr = cmd->rsp;
	int ret;

	if (cmd->used < sizeof(*hdr))
		goto bad;
	ret = vrdma_status_to_errno(le32_to_cpu(hdr->status));
	if (ret) {
		if (cmd->buf)
			cmd->buf->exposed = false;
		return ret;
	}
	if (cmd->used < cmd->rsp_min)
		goto bad;
	/* What the device wrote behind its response does not count. */
	if (cmd->used < cmd->rsp_len)
		memset(cmd->rsp + cmd->used, 0, cmd->rsp_len - cmd->used);
	return 0;

bad:
	/*
	 * It is unknown what the device has done and what memory it uses now, as
	 * after a timeout.
	 */
	vrdma_dev_kill(dev, -EIO, VRDMA_SHORT);
	ibdev_err_ratelimited(&dev->ibdev,
			      "the device answered command %u with %u bytes instead of %zu\n",
			      cmd->opcode, cmd->used, cmd->rsp_min);
	return -EIO;
}

/* Waits until the device has answered, or is dead. */
static int vrdma_cmd_wait(struct vrdma_dev *dev, struct vrdma_cmd *cmd)
{
	if (cmd->poll)
		vrdma_cmd_poll(dev, cmd);
	while (!wait_for_completion_timeout(&cmd->done, VRDMA_CMD_TICK))
		vrdma_ctrl_check(dev);
	if (cmd->state == VRDMA_CMD_DONE)
		return vrdma_cmd_result(dev, cmd);
	return dev->ctrl.error;
}

/*
 * Runs @cmd and sleeps until it is answered.  Returns the errno of the device's
 * status, EIO if the device was dead, or the reason for which it died while it
 * had the command: ETIMEDOUT if it was silent, else EIO.
 */
int vrdma_cmd_exec(struct vrdma_dev *dev, struct vrdma_cmd *cmd)
{
	int ret;

	might_sleep();
	/* Only a long request that is not contiguous has many segments. */
	if (vrdma_cmd_map_req(cmd) > dev->ctrl.max_segs)
		return -ENOMEM;
	sg_init_one(&cmd->in, cmd->rsp, cmd->rsp_len);
	trace_vrdma_cmd_start(dev, cmd->opcode);
	ret = vrdma_cmd_queue(dev, cmd);
	if (!ret)
		ret = vrdma_cmd_wait(dev, cmd);
	trace_vrdma_cmd_end(dev, cmd->opcode, ret);
	return ret;
}
