// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Command engine: requests on the control virtqueue.
 *
 * Any process context may run vrdma_cmd_exec(), many at once; each puts its
 * chain on the queue, sleeps, and is completed by the queue's callback in
 * interrupt context.  A wait is limited: a device that lets one command time
 * out is dead from then on (vrdma_dev_kill), and every command fails at once.
 * The buffers of a command that was given up belong to the device until it was
 * reset, so they stay on the zombie list until then.
 */
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/vmalloc.h>

#include "cmd.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

#define VRDMA_BROKEN	"its control queue is broken"
#define VRDMA_SHORT	"it answers with less than the command's response"
#define VRDMA_SILENT	"it does not answer commands (see vrdmad or QEMU on the host; then rebind the driver)"

static unsigned int cmd_timeout = 30;
module_param(cmd_timeout, uint, 0644);
MODULE_PARM_DESC(cmd_timeout,
		 "Seconds that the device may take for a command before it is given up (default 30)");

unsigned long vrdma_cmd_timeout(void)
{
	return clamp_val(READ_ONCE(cmd_timeout), 1U, 3600U) * HZ;
}

/* The one place where a status of the device becomes an errno. */
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
	INIT_LIST_HEAD(&ctrl->zombies);
	init_waitqueue_head(&ctrl->room);
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
 * For what must not fail for want of memory: the device would go on to serve an
 * object that its user believes to be destroyed, or drained.  Small requests
 * only.
 */
struct vrdma_cmd *vrdma_cmd_alloc_nofail(u32 opcode, size_t req_len,
					 size_t rsp_len)
{
	return vrdma_cmd_alloc_gfp(opcode, req_len, 0, rsp_len,
				   GFP_KERNEL | __GFP_NOFAIL);
}

/*
 * Frees a command, unless the device may still write to it: then it is on the
 * zombie list, and stays there until the reset.
 */
void vrdma_cmd_put(struct vrdma_cmd *cmd)
{
	if (cmd->state != VRDMA_CMD_ABANDONED)
		vrdma_cmd_free(cmd);
}

/* After the device was reset, and its queues are deleted. */
void vrdma_ctrl_free_zombies(struct vrdma_dev *dev)
{
	struct vrdma_cmd *cmd, *next;

	list_for_each_entry_safe(cmd, next, &dev->ctrl.zombies, node) {
		list_del(&cmd->node);
		vrdma_cmd_free(cmd);
	}
}

/*
 * Every command, waiting or to come, fails at once.  False if that was so
 * before.  Any context.
 */
bool vrdma_ctrl_shut(struct vrdma_dev *dev)
{
	struct vrdma_ctrl *ctrl = &dev->ctrl;
	struct vrdma_cmd *cmd, *next;
	unsigned long flags;

	spin_lock_irqsave(&ctrl->lock, flags);
	if (dev->dead) {
		spin_unlock_irqrestore(&ctrl->lock, flags);
		return false;
	}
	WRITE_ONCE(dev->dead, true);
	list_for_each_entry_safe(cmd, next, &ctrl->pending, node) {
		cmd->state = VRDMA_CMD_ABANDONED;
		list_move_tail(&cmd->node, &ctrl->zombies);
		complete(&cmd->done);
	}
	spin_unlock_irqrestore(&ctrl->lock, flags);

	wake_up_all(&ctrl->room);
	return true;
}

/*
 * Declares the device dead.  What sleeps (telling users, flushing work requests)
 * is done by death_work.  Any context.
 */
void vrdma_dev_kill(struct vrdma_dev *dev, const char *why)
{
	if (!vrdma_ctrl_shut(dev))
		return;
	dev_err(&dev->vdev->dev, "the device has failed: %s\n", why);
	queue_work(dev->wq, &dev->death_work);
}

/* Callback of the control queue: interrupt context. */
void vrdma_ctrl_done(struct virtqueue *vq)
{
	struct vrdma_vdev *vd = vq->vdev->priv;
	struct vrdma_dev *dev = vd->dev;
	struct vrdma_ctrl *ctrl = &dev->ctrl;
	struct vrdma_cmd *cmd;
	unsigned long flags;
	unsigned int len;

	spin_lock_irqsave(&ctrl->lock, flags);
	do {
		virtqueue_disable_cb(vq);
		while ((cmd = virtqueue_get_buf(vq, &len))) {
			/* The answer to an abandoned command comes too late. */
			if (cmd->state != VRDMA_CMD_PENDING)
				continue;
			cmd->state = VRDMA_CMD_DONE;
			cmd->used = len;
			list_del(&cmd->node);
			complete(&cmd->done);
		}
	} while (!virtqueue_enable_cb(vq));
	spin_unlock_irqrestore(&ctrl->lock, flags);

	wake_up_all(&ctrl->room);
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

/* ENOSPC if the queue is full: then the caller waits for room. */
static int vrdma_cmd_submit(struct vrdma_dev *dev, struct vrdma_cmd *cmd)
{
	struct scatterlist *sgs[] = { cmd->out, &cmd->in };
	struct vrdma_ctrl *ctrl = &dev->ctrl;
	unsigned long flags;
	bool notify = false;
	int ret;

	spin_lock_irqsave(&ctrl->lock, flags);
	if (dev->dead)
		ret = -EIO;
	else
		ret = virtqueue_add_sgs(ctrl->vq, sgs, 1, 1, cmd, GFP_ATOMIC);
	if (!ret) {
		cmd->state = VRDMA_CMD_PENDING;
		list_add_tail(&cmd->node, &ctrl->pending);
		notify = virtqueue_kick_prepare(ctrl->vq);
	}
	spin_unlock_irqrestore(&ctrl->lock, flags);

	if (notify && !virtqueue_notify(ctrl->vq))
		vrdma_dev_kill(dev, VRDMA_BROKEN);
	return ret;
}

/* False if there is no room now; else @ret is the submission's result. */
static bool vrdma_cmd_try_submit(struct vrdma_dev *dev, struct vrdma_cmd *cmd,
				 int *ret)
{
	*ret = vrdma_cmd_submit(dev, cmd);
	return *ret != -ENOSPC;
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
	if (ret)
		return ret;
	if (cmd->used < cmd->rsp_min)
		goto bad;
	/* Whatever the device has written there, it does not count as written. */
	if (cmd->used < cmd->rsp_len)
		memset(cmd->rsp + cmd->used, 0, cmd->rsp_len - cmd->used);
	return 0;

bad:
	/*
	 * Nobody knows what it has done, and what memory it uses now: as after a
	 * timeout, a reset will tell.
	 */
	vrdma_dev_kill(dev, VRDMA_SHORT);
	dev_err_ratelimited(&dev->vdev->dev,
			    "the device answered command %u with %u bytes instead of %zu\n",
			    cmd->opcode, cmd->used, cmd->rsp_min);
	return -EIO;
}

/*
 * Runs @cmd and sleeps until it is answered.  Returns the errno of the
 * device's status, EIO if the device is dead, or ETIMEDOUT if this command
 * found out.
 */
int vrdma_cmd_exec(struct vrdma_dev *dev, struct vrdma_cmd *cmd)
{
	unsigned long timeout = vrdma_cmd_timeout();
	int ret;

	might_sleep();
	vrdma_cmd_map_req(cmd);
	sg_init_one(&cmd->in, cmd->rsp, cmd->rsp_len);
	trace_vrdma_cmd_start(dev, cmd->opcode);

	if (!wait_event_timeout(dev->ctrl.room,
				vrdma_cmd_try_submit(dev, cmd, &ret), timeout)) {
		vrdma_dev_kill(dev, VRDMA_SILENT);
		ret = -ETIMEDOUT;
		goto out;
	}
	if (ret) {
		/* Already dead, or the transport has broken the queue. */
		if (virtqueue_is_broken(dev->ctrl.vq))
			vrdma_dev_kill(dev, VRDMA_BROKEN);
		goto out;
	}

	if (!wait_for_completion_timeout(&cmd->done, timeout)) {
		vrdma_dev_kill(dev, VRDMA_SILENT);
		/*
		 * Either kill() abandoned this command, or its answer came just
		 * now: both have completed it.
		 */
		wait_for_completion(&cmd->done);
		ret = -ETIMEDOUT;
	}
	if (cmd->state == VRDMA_CMD_DONE)
		ret = vrdma_cmd_result(dev, cmd);
	else if (!ret)
		ret = -EIO;
out:
	trace_vrdma_cmd_end(dev, cmd->opcode, ret);
	return ret;
}
