// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: one thread for each device, for work that must not delay a poller:
 * creating address handles, moving a host's QP to ERR, and translating the host's
 * asynchronous events to the guest's.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ibv.h"
#include "log.h"
#include "thread.h"

/* ---- QPs to ERR ------------------------------------------------------------- */

void vrd_ibv_worker_wake(struct vrd_ibv_dev *vdev)
{
	uint64_t one = 1;

	/* The write cannot fail: the 64-bit counter does not overflow. */
	if (write(vdev->work_fd, &one, sizeof(one)) < 0)
		return;
}

void vrd_ibv_worker_qp_error(struct vrd_ibv_qp *vq)
{
	struct vrd_ibv_dev *vdev = vq->vdev;
	bool queued;

	pthread_mutex_lock(&vdev->lock);
	queued = vq->in_to_error || vdev->qp_busy == vq;
	if (!queued) {
		LIST_INSERT_HEAD(&vdev->to_error, vq, error_link);
		vq->in_to_error = true;
	}
	pthread_mutex_unlock(&vdev->lock);
	if (!queued)
		vrd_ibv_worker_wake(vdev);
}

void vrd_ibv_worker_forget(struct vrd_ibv_qp *vq)
{
	struct vrd_ibv_dev *vdev = vq->vdev;

	pthread_mutex_lock(&vdev->lock);
	if (vq->in_to_error) {
		LIST_REMOVE(vq, error_link);
		vq->in_to_error = false;
	}
	while (vdev->qp_busy == vq)
		pthread_cond_wait(&vdev->idle, &vdev->lock);
	pthread_mutex_unlock(&vdev->lock);
}

static bool work_qp_error(struct vrd_ibv_dev *vdev)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	struct vrd_ibv_qp *vq;
	int ret;

	pthread_mutex_lock(&vdev->lock);
	vq = LIST_FIRST(&vdev->to_error);
	if (vq) {
		LIST_REMOVE(vq, error_link);
		vq->in_to_error = false;
		vdev->qp_busy = vq;
	}
	pthread_mutex_unlock(&vdev->lock);
	if (!vq)
		return false;

	atomic_store(&vq->error_reported, true);
	ret = ibv_modify_qp(vq->ibqp, &attr, IBV_QP_STATE);
	if (ret)
		vrd_dev_log(vdev->dev, VRD_LOG_WARN, "QP %u: the host does not flush it: %s",
			    vq->qp->qpn, strerror(ret));
	/* Set after a failure as well; otherwise the worker would try again without end. */
	atomic_store(&vq->flushing, true);
	vrd_qp_schedule(vq->qp);

	pthread_mutex_lock(&vdev->lock);
	vdev->qp_busy = NULL;
	pthread_cond_broadcast(&vdev->idle);
	pthread_mutex_unlock(&vdev->lock);
	return true;
}

/* ---- events ----------------------------------------------------------------------- */

static uint32_t qp_event_type(enum ibv_event_type type)
{
	switch (type) {
	case IBV_EVENT_QP_FATAL:
		return VIRTIO_RDMA_EVENT_QP_FATAL;
	case IBV_EVENT_QP_REQ_ERR:
		return VIRTIO_RDMA_EVENT_QP_REQ_ERR;
	case IBV_EVENT_QP_ACCESS_ERR:
		return VIRTIO_RDMA_EVENT_QP_ACCESS_ERR;
	case IBV_EVENT_COMM_EST:
		return VIRTIO_RDMA_EVENT_COMM_EST;
	case IBV_EVENT_SQ_DRAINED:
		return VIRTIO_RDMA_EVENT_SQ_DRAINED;
	case IBV_EVENT_PATH_MIG:
		return VIRTIO_RDMA_EVENT_PATH_MIG;
	case IBV_EVENT_QP_LAST_WQE_REACHED:
		return VIRTIO_RDMA_EVENT_QP_LAST_WQE_REACHED;
	default:
		return 0;
	}
}

/* libibverbs keeps the QP until the event is acknowledged, and so does qp_free(). */
static void qp_event(struct vrd_ibv_dev *vdev, const struct ibv_async_event *event)
{
	struct vrd_ibv_qp *vq = event->element.qp->qp_context;
	uint32_t type = qp_event_type(event->event_type);

	if (!type || __atomic_load_n(&vq->dead, __ATOMIC_RELAXED))
		return;
	if (type == VIRTIO_RDMA_EVENT_QP_FATAL || type == VIRTIO_RDMA_EVENT_QP_REQ_ERR ||
	    type == VIRTIO_RDMA_EVENT_QP_ACCESS_ERR) {
		atomic_store(&vq->error_reported, true);
		vrd_qp_error(vq->qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_NONE);
	}
	/* After a reset the QP may end late.  The next driver must not get its events. */
	if (vrd_table_find(&vdev->dev->qps, vq->qp->qpn) == vq->qp)
		vrd_event_raise(vdev->dev, type, vq->qp->qpn);
}

static void srq_event(struct vrd_ibv_dev *vdev, const struct vrd_srq *srq, uint32_t type)
{
	if (vrd_table_find(&vdev->dev->srqs, srq->srqn))
		vrd_event_raise(vdev->dev, type, srq->srqn);
}

static void port_event(struct vrd_ibv_dev *vdev, uint32_t type)
{
	struct ibv_port_attr attr;

	vrd_ibv_port_refresh(vdev, &attr);
	vrd_ibv_gids_refresh(vdev);
	vrd_ibv_ah_flush(vdev);
	/* The guest's only port has number 1. */
	vrd_event_raise(vdev->dev, type, 1);
}

static void device_gone(struct vrd_ibv_dev *vdev)
{
	if (atomic_exchange(&vdev->dead, true))
		return;
	vrd_log(vdev->dev->engine, VRD_LOG_ERROR, "%s: the host's RDMA device %s is gone or has failed",
		vdev->dev->name, vdev->ibdev->name);
	vrd_event_raise(vdev->dev, VIRTIO_RDMA_EVENT_DEVICE_FATAL, 0);
}

static void take_event(struct vrd_ibv_dev *vdev, const struct ibv_async_event *event)
{
	const struct vrd_ibv_cq *vcq;
	bool ours = event->element.port_num == vdev->port_num;

	switch (event->event_type) {
	case IBV_EVENT_CQ_ERR:
		vcq = event->element.cq->cq_context;
		if (vrd_table_find(&vdev->dev->cqs, vcq->cq->cqn))
			vrd_event_raise(vdev->dev, VIRTIO_RDMA_EVENT_CQ_ERR, vcq->cq->cqn);
		break;
	case IBV_EVENT_SRQ_ERR:
		srq_event(vdev, event->element.srq->srq_context, VIRTIO_RDMA_EVENT_SRQ_ERR);
		break;
	case IBV_EVENT_SRQ_LIMIT_REACHED:
		srq_event(vdev, event->element.srq->srq_context,
			  VIRTIO_RDMA_EVENT_SRQ_LIMIT_REACHED);
		break;
	case IBV_EVENT_PORT_ACTIVE:
		if (ours)
			port_event(vdev, VIRTIO_RDMA_EVENT_PORT_ACTIVE);
		break;
	case IBV_EVENT_PORT_ERR:
		if (ours)
			port_event(vdev, VIRTIO_RDMA_EVENT_PORT_ERR);
		break;
	case IBV_EVENT_GID_CHANGE:
		if (ours)
			port_event(vdev, VIRTIO_RDMA_EVENT_GID_CHANGE);
		break;
	case IBV_EVENT_DEVICE_FATAL:
		device_gone(vdev);
		break;
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_COMM_EST:
	case IBV_EVENT_SQ_DRAINED:
	case IBV_EVENT_PATH_MIG:
	case IBV_EVENT_QP_LAST_WQE_REACHED:
		qp_event(vdev, event);
		break;
	default:
		break;
	}
}

static void take_events(struct vrd_ibv_dev *vdev)
{
	struct ibv_async_event event;

	/* The descriptor is non-blocking. */
	while (!ibv_get_async_event(vdev->ctx, &event)) {
		take_event(vdev, &event);
		/* Destroying the object waits for the acknowledgement. */
		ibv_ack_async_event(&event);
	}
	if (errno == EIO || errno == ENODEV)
		device_gone(vdev);
}

/* ---- the thread --------------------------------------------------------------------- */

static bool stopping(struct vrd_ibv_dev *vdev)
{
	bool stop;

	pthread_mutex_lock(&vdev->lock);
	stop = vdev->stop;
	pthread_mutex_unlock(&vdev->lock);
	return stop;
}

static void *worker_main(void *arg)
{
	struct vrd_ibv_dev *vdev = arg;
	struct pollfd fds[2] = {
		{ .fd = vdev->work_fd, .events = POLLIN },
		{ .fd = vdev->ctx->async_fd, .events = POLLIN },
	};
	uint64_t value;

	while (!stopping(vdev)) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents && read(vdev->work_fd, &value, sizeof(value)) < 0 &&
		    errno != EAGAIN)
			break;
		if (fds[1].revents)
			take_events(vdev);
		/* A dead device raises no more events. */
		if (atomic_load(&vdev->dead))
			fds[1].fd = -1;
		/* One handle at a time: events and QPs are handled before the next one. */
		while (work_qp_error(vdev))
			;
		if (vrd_ibv_ah_work(vdev))
			vrd_ibv_worker_wake(vdev);
	}
	return NULL;
}

int vrd_ibv_worker_start(struct vrd_ibv_dev *vdev, struct vrd_error *err)
{
	int ret, fd = vdev->ctx->async_fd;

	LIST_INIT(&vdev->to_error);
	vdev->work_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vdev->work_fd < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)) {
		ret = -errno;
		if (vdev->work_fd >= 0)
			close(vdev->work_fd);
		return vrd_fail(err, ret, "raise the limit of open files (ulimit -n)",
				"no descriptor for host events: %s", strerror(-ret));
	}
	ret = vrd_thread_create(&vdev->worker, worker_main, vdev);
	if (ret) {
		close(vdev->work_fd);
		return vrd_fail(err, -ret, "", "cannot start a thread for host events: %s",
				strerror(ret));
	}
	pthread_setname_np(vdev->worker, "vrd-ibv");
	return 0;
}

void vrd_ibv_worker_stop(struct vrd_ibv_dev *vdev)
{
	pthread_mutex_lock(&vdev->lock);
	vdev->stop = true;
	pthread_mutex_unlock(&vdev->lock);
	vrd_ibv_worker_wake(vdev);
	pthread_join(vdev->worker, NULL);
	close(vdev->work_fd);
}
