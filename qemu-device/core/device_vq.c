// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device's virtqueues as the front end sees them: descriptors, start and stop.  virtq.c has
 * the rings.
 *
 * Runs on the device's front end thread, under dev->lock.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "poller.h"
#include "virtq.h"

static struct vrd_vq *get_vq(struct vrd_device *dev, unsigned int index)
{
	return index < dev->num_vqs ? dev->vqs[index] : NULL;
}

/* The pollers watch the doorbell queue's kick while the queue is started. */
static int watch_doorbell(struct vrd_device *dev)
{
	struct vrd_vq *vq = dev->vqs[VIRTIO_RDMA_VQ_DOORBELL];

	vrd_poller_unwatch_kick(dev);
	if (!vq->started || vq->kick_fd < 0)
		return 0;
	return vrd_poller_watch_kick(dev, vq->kick_fd);
}

int vrd_device_vq_set_kick(struct vrd_device *dev, unsigned int index, int fd)
{
	struct vrd_vq *vq = get_vq(dev, index);
	int own = -1, old, ret = 0;

	if (!vq)
		return -EINVAL;
	if (fd >= 0) {
		own = vrd_vq_dup_fd(fd, NULL);
		if (own < 0)
			return own;
	}
	vrd_device_lock(dev);
	if (index == VIRTIO_RDMA_VQ_DOORBELL) {
		vrd_poller_unwatch_kick(dev);
		old = vq->kick_fd;
		vq->kick_fd = own;
		ret = watch_doorbell(dev);
		if (ret) {
			vq->kick_fd = -1;
			close(own);
		}
	} else {
		vrd_lock(&vq->lock);
		old = vq->kick_fd;
		if (old >= 0)
			vrd_control_unwatch(dev, old);
		vq->kick_fd = own;
		if (own >= 0)
			ret = vrd_control_watch(dev, index, own);
		if (ret) {
			vq->kick_fd = -1;
			close(own);
		}
		vrd_unlock(&vq->lock);
		/* A kick that only the old descriptor received must not be lost. */
		vrd_control_wake(dev);
	}
	vrd_device_unlock(dev);
	if (old >= 0)
		close(old);
	return ret;
}

int vrd_device_vq_set_call(struct vrd_device *dev, unsigned int index, int fd)
{
	struct vrd_vq *vq = get_vq(dev, index);
	bool is_socket = false, old_is_socket;
	int own = -1, old;

	if (!vq)
		return -EINVAL;
	if (fd >= 0) {
		own = vrd_vq_dup_fd(fd, &is_socket);
		if (own < 0)
			return own;
	}
	vrd_lock(&vq->lock);
	old = vq->call_fd;
	old_is_socket = vq->call_is_socket;
	vq->call_fd = own;
	vq->call_is_socket = is_socket;
	if (vq->started)
		vrd_vq_signal_locked(vq);
	vrd_unlock(&vq->lock);
	if (old >= 0 && old_is_socket)
		vrd_device_close_fd(dev, old);
	else if (old >= 0)
		close(old);
	return 0;
}

/* Queues are processed while they and the control queue are started. */
static void update_running(struct vrd_device *dev)
{
	unsigned int i;

	for (i = 0; i < dev->num_vqs; i++) {
		struct vrd_vq *vq = dev->vqs[i];

		vrd_lock(&vq->lock);
		vq->running = vq->started && dev->running;
		vrd_unlock(&vq->lock);
	}
}

static void stop_vq(struct vrd_device *dev, struct vrd_vq *vq, uint16_t *last_avail)
{
	bool was;

	vrd_lock(&vq->lock);
	was = vq->started;
	vq->started = false;
	vq->running = false;
	if (last_avail)
		*last_avail = vq->last_avail;
	vrd_unlock(&vq->lock);
	if (!was)
		return;
	if (vq->index == VIRTIO_RDMA_VQ_DOORBELL)
		vrd_poller_unwatch_kick(dev);
	if (vq->index == VIRTIO_RDMA_VQ_CONTROL) {
		dev->running = false;
		update_running(dev);
		vrd_device_quiesce(dev);
	}
}

/*
 * True if @cfg does not continue the queue where it stopped.  This is then not the end of a
 * pause but a new driver, after a reset that was not reported to the front end.
 */
static bool is_other_driver(const struct vrd_vq *vq, const struct vrd_vq_config *cfg)
{
	return cfg->last_avail != vq->last_avail || cfg->num != vq->num ||
	       cfg->desc != vq->desc_addr || cfg->avail != vq->avail_addr ||
	       cfg->used != vq->used_addr;
}

int vrd_device_vq_start(struct vrd_device *dev, unsigned int index,
			const struct vrd_vq_config *cfg, struct vrd_error *err)
{
	struct vrd_vq *vq = get_vq(dev, index);
	bool other;
	int ret;

	if (!vq)
		return vrd_fail(err, -EINVAL, "", "there is no virtqueue %u: the device has %u",
				index, dev->num_vqs);
	vrd_device_lock(dev);
	if (vq->started) {
		ret = vrd_fail(err, -EBUSY, "", "virtqueue %u is started already", index);
		goto unlock;
	}
	other = index == VIRTIO_RDMA_VQ_CONTROL && is_other_driver(vq, cfg);
	ret = vrd_vq_start(vq, cfg, err);
	if (ret)
		goto unlock;
	if (other)
		vrd_device_forget(dev);
	if (index == VIRTIO_RDMA_VQ_DOORBELL) {
		ret = watch_doorbell(dev);
		if (ret) {
			vrd_fail(err, ret, "raise the limit of open files (ulimit -n)",
				 "cannot watch the doorbell queue: %s", strerror(-ret));
			stop_vq(dev, vq, NULL);
			goto unlock;
		}
	}
	if (index == VIRTIO_RDMA_VQ_CONTROL)
		dev->running = true;
	update_running(dev);
	if (index == VIRTIO_RDMA_VQ_CONTROL)
		vrd_device_resume(dev);
	/* Process requests that were queued before the start, even if there is no kick for them. */
	vrd_control_wake(dev);
unlock:
	vrd_device_unlock(dev);
	return ret;
}

int vrd_device_vq_stop(struct vrd_device *dev, unsigned int index, uint16_t *last_avail)
{
	struct vrd_vq *vq = get_vq(dev, index);

	if (!vq)
		return -EINVAL;
	vrd_device_lock(dev);
	stop_vq(dev, vq, last_avail);
	vrd_device_unlock(dev);
	return 0;
}

void vrd_device_stop_vqs(struct vrd_device *dev)
{
	for (unsigned int i = 0; i < dev->num_vqs; i++)
		stop_vq(dev, dev->vqs[i], NULL);
}
