// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The virtqueues, and the events that arrive on them: asynchronous events and
 * completion events.  Opened and closed by device.c; the callbacks run in
 * interrupt context.
 *
 * Completion events are handled in the interrupt, because their latency counts;
 * beyond a number of them, in a work item, because the device decides how many
 * there are.  Asynchronous events are rare and always handled in a work item.
 * Both name an object by a number that the device chose: the object is looked
 * up, and held by a reference while its handler runs.  The driver removes an
 * object from the table before it sends DESTROY, so that a late event finds
 * nothing and is dropped.
 *
 * A buffer that cannot be given back to the device, because mapping it failed,
 * is marked as lost; refill_work tries again.
 */
#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/interrupt.h>
#include <linux/virtio_ring.h>

#include "cmd.h"

#define VRDMA_EVENT_BUFS	64
#define VRDMA_COMP_BUFS		256

/* Events that one interrupt, or one run of a work item, handles. */
#define VRDMA_EVENT_BUDGET	64

#define VRDMA_REFILL_DELAY	(HZ / 10)

static void *vrdma_inq_buf(struct vrdma_inq *q, unsigned int i)
{
	return q->bufs + i * q->stride;
}

/* Gives one buffer to the device; q->lock is held. */
static int vrdma_inq_add(struct vrdma_inq *q, void *buf)
{
	struct scatterlist sg;

	sg_init_one(&sg, buf, q->size);
	return virtqueue_add_inbuf(q->vq, &sg, 1, buf, GFP_ATOMIC);
}

static int vrdma_inq_fill(struct vrdma_inq *q, unsigned int num,
			  unsigned int size)
{
	unsigned long flags;
	unsigned int i;
	int ret = 0;

	q->size = size;
	q->stride = VRDMA_DMA_ALIGN(size);
	q->num = min(num, virtqueue_get_vring_size(q->vq));
	q->bufs = kcalloc(q->num, q->stride, GFP_KERNEL);
	q->lost = bitmap_zalloc(q->num, GFP_KERNEL);
	if (!q->bufs || !q->lost)
		return -ENOMEM;

	spin_lock_irqsave(&q->lock, flags);
	for (i = 0; i < q->num && !ret; i++)
		ret = vrdma_inq_add(q, vrdma_inq_buf(q, i));
	virtqueue_kick(q->vq);
	spin_unlock_irqrestore(&q->lock, flags);
	return ret;
}

/* q->lock is held. */
static void vrdma_inq_give_back(struct vrdma_inq *q, void *buf)
{
	if (!vrdma_inq_add(q, buf))
		return;
	__set_bit((buf - q->bufs) / q->stride, q->lost);
	q->num_lost++;
}

/*
 * Gives lost buffers to the device; q->lock is held.  True if some are left
 * for which trying again makes sense.
 */
static bool vrdma_inq_refill(struct vrdma_inq *q)
{
	unsigned int i;

	if (likely(!q->num_lost))
		return false;
	for_each_set_bit(i, q->lost, q->num) {
		if (vrdma_inq_add(q, vrdma_inq_buf(q, i)))
			break;
		__clear_bit(i, q->lost);
		q->num_lost--;
	}
	return q->num_lost && !virtqueue_is_broken(q->vq);
}

/*
 * Takes the next event, copies it to @event (the device may write its buffer
 * again at any time) and gives the buffer back.  False if there is none; @usable
 * is false if the device wrote less than an event.
 */
static bool vrdma_inq_take(struct vrdma_inq *q, void *event, bool *usable)
{
	unsigned long flags;
	unsigned int len;
	void *buf;

	spin_lock_irqsave(&q->lock, flags);
	buf = virtqueue_get_buf(q->vq, &len);
	if (buf) {
		/* A short event is a fault of the device: it is ignored. */
		*usable = len >= q->size;
		if (*usable)
			memcpy(event, buf, q->size);
		vrdma_inq_give_back(q, buf);
	}
	spin_unlock_irqrestore(&q->lock, flags);
	return buf;
}

/* Tells the device of returned buffers; false if more events have come. */
static bool vrdma_inq_enable(struct vrdma_inq *q)
{
	unsigned long flags;
	bool ret, again;

	spin_lock_irqsave(&q->lock, flags);
	again = vrdma_inq_refill(q);
	virtqueue_kick(q->vq);
	ret = virtqueue_enable_cb(q->vq);
	spin_unlock_irqrestore(&q->lock, flags);
	if (unlikely(again))
		queue_delayed_work(q->dev->wq, &q->dev->refill_work,
				   VRDMA_REFILL_DELAY);
	return ret;
}

static void vrdma_inq_disable(struct vrdma_inq *q)
{
	unsigned long flags;

	spin_lock_irqsave(&q->lock, flags);
	virtqueue_disable_cb(q->vq);
	spin_unlock_irqrestore(&q->lock, flags);
}

/* Tries again to give lost buffers to the device: it may have none left. */
void vrdma_refill_work(struct work_struct *work)
{
	struct vrdma_dev *dev = container_of(to_delayed_work(work),
					     struct vrdma_dev, refill_work);
	bool again = false;
	u32 i;

	for (i = 0; i <= dev->num_comp; i++) {
		struct vrdma_inq *q = i ? &dev->compq[i - 1] : &dev->eventq;

		spin_lock_irq(&q->lock);
		again |= vrdma_inq_refill(q);
		virtqueue_kick(q->vq);
		spin_unlock_irq(&q->lock);
	}
	if (again)
		queue_delayed_work(dev->wq, &dev->refill_work,
				   VRDMA_REFILL_DELAY);
}

static void vrdma_comp_event(struct vrdma_dev *dev, u32 cqn)
{
	struct vrdma_cq *cq = vrdma_cq_get(dev, cqn);

	if (!cq)
		return;
	if (cq->ibcq.comp_handler)
		cq->ibcq.comp_handler(&cq->ibcq, cq->ibcq.cq_context);
	vrdma_cq_put(cq);
}

/* Handles some completion events; false if there may be more. */
static bool vrdma_comp_run(struct vrdma_inq *q)
{
	unsigned int budget = VRDMA_EVENT_BUDGET;
	struct virtio_rdma_comp_event event;
	bool usable;

	do {
		vrdma_inq_disable(q);
		while (budget && vrdma_inq_take(q, &event, &usable)) {
			budget--;
			if (usable)
				vrdma_comp_event(q->dev,
						 le32_to_cpu(event.cqn));
		}
		/* With none left, the queue's interrupts stay disabled. */
		if (!budget)
			return false;
	} while (!vrdma_inq_enable(q));
	return true;
}

static void vrdma_comp_work(struct work_struct *work)
{
	struct vrdma_inq *q = container_of(work, struct vrdma_inq, work);

	if (!vrdma_comp_run(q))
		queue_work(q->dev->wq, &q->work);
}

/* Callback of a completion queue: interrupt context. */
static void vrdma_comp_done(struct virtqueue *vq)
{
	struct vrdma_dev *dev = vq->vdev->priv;
	struct vrdma_inq *q = &dev->compq[vq->index - VIRTIO_RDMA_VQ_COMP_BASE];

	if (unlikely(!READ_ONCE(q->vq)))
		return;
	atomic64_inc(&dev->comp_irqs);
	if (!vrdma_comp_run(q))
		queue_work(dev->wq, &q->work);
}

static void vrdma_dispatch_qp(struct vrdma_dev *dev, u32 qpn,
			      enum ib_event_type type)
{
	struct vrdma_qp *qp = vrdma_qp_get(dev, qpn);
	struct ib_event ibev = {
		.device = &dev->ibdev,
		.event = type,
	};

	if (!qp)
		return;
	ibev.element.qp = &qp->ibqp;
	if (qp->ibqp.event_handler)
		qp->ibqp.event_handler(&ibev, qp->ibqp.qp_context);
	vrdma_qp_put(qp);
}

static void vrdma_dispatch_cq_err(struct vrdma_dev *dev, u32 cqn)
{
	struct vrdma_cq *cq = vrdma_cq_get(dev, cqn);
	struct ib_event ibev = {
		.device = &dev->ibdev,
		.event = IB_EVENT_CQ_ERR,
	};

	if (!cq)
		return;
	ibev.element.cq = &cq->ibcq;
	if (cq->ibcq.event_handler)
		cq->ibcq.event_handler(&ibev, cq->ibcq.cq_context);
	vrdma_cq_put(cq);
}

static void vrdma_dispatch_srq(struct vrdma_dev *dev, u32 srqn,
			       enum ib_event_type type)
{
	struct vrdma_srq *srq = vrdma_srq_get(dev, srqn);
	struct ib_event ibev = {
		.device = &dev->ibdev,
		.event = type,
	};

	if (!srq)
		return;
	ibev.element.srq = &srq->ibsrq;
	if (srq->ibsrq.event_handler)
		srq->ibsrq.event_handler(&ibev, srq->ibsrq.srq_context);
	vrdma_srq_put(srq);
}

static void vrdma_dispatch(struct vrdma_dev *dev, u32 type, u32 id)
{
	switch (type) {
	case VIRTIO_RDMA_EVENT_CQ_ERR:
		vrdma_dispatch_cq_err(dev, id);
		break;
	case VIRTIO_RDMA_EVENT_QP_FATAL:
		vrdma_dispatch_qp(dev, id, IB_EVENT_QP_FATAL);
		break;
	case VIRTIO_RDMA_EVENT_QP_REQ_ERR:
		vrdma_dispatch_qp(dev, id, IB_EVENT_QP_REQ_ERR);
		break;
	case VIRTIO_RDMA_EVENT_QP_ACCESS_ERR:
		vrdma_dispatch_qp(dev, id, IB_EVENT_QP_ACCESS_ERR);
		break;
	case VIRTIO_RDMA_EVENT_COMM_EST:
		vrdma_dispatch_qp(dev, id, IB_EVENT_COMM_EST);
		break;
	case VIRTIO_RDMA_EVENT_SQ_DRAINED:
		vrdma_dispatch_qp(dev, id, IB_EVENT_SQ_DRAINED);
		break;
	case VIRTIO_RDMA_EVENT_PATH_MIG:
		vrdma_dispatch_qp(dev, id, IB_EVENT_PATH_MIG);
		break;
	case VIRTIO_RDMA_EVENT_QP_LAST_WQE_REACHED:
		vrdma_dispatch_qp(dev, id, IB_EVENT_QP_LAST_WQE_REACHED);
		break;
	case VIRTIO_RDMA_EVENT_SRQ_ERR:
		vrdma_dispatch_srq(dev, id, IB_EVENT_SRQ_ERR);
		break;
	case VIRTIO_RDMA_EVENT_SRQ_LIMIT_REACHED:
		vrdma_dispatch_srq(dev, id, IB_EVENT_SRQ_LIMIT_REACHED);
		break;
	case VIRTIO_RDMA_EVENT_PORT_ACTIVE:
	case VIRTIO_RDMA_EVENT_PORT_ERR:
		/* The port is up when its netdev is up as well. */
		if (!vrdma_port_refresh(dev))
			vrdma_port_check(dev);
		break;
	case VIRTIO_RDMA_EVENT_DEVICE_FATAL:
		vrdma_dev_kill(dev, -EIO, "it reported a fatal error");
		break;
	default:
		/* GID_CHANGE: the core owns the table.  Others: not requested. */
		ibdev_dbg(&dev->ibdev, "event %u of %#x ignored\n", type, id);
	}
}

void vrdma_event_work(struct work_struct *work)
{
	struct vrdma_dev *dev = container_of(work, struct vrdma_dev,
					     event_work);
	unsigned int budget = VRDMA_EVENT_BUDGET;
	struct virtio_rdma_event event;
	bool usable;

	do {
		vrdma_inq_disable(&dev->eventq);
		while (budget && vrdma_inq_take(&dev->eventq, &event, &usable)) {
			budget--;
			if (!usable)
				continue;
			atomic64_inc(&dev->async_events);
			vrdma_dispatch(dev, le32_to_cpu(event.type),
				       le32_to_cpu(event.id));
		}
		/* The device decides how many there are: let others run. */
		if (!budget) {
			queue_work(dev->wq, &dev->event_work);
			return;
		}
	} while (!vrdma_inq_enable(&dev->eventq));
}

/* Callback of the event queue: interrupt context. */
static void vrdma_event_done(struct virtqueue *vq)
{
	struct vrdma_dev *dev = vq->vdev->priv;

	if (unlikely(!READ_ONCE(dev->eventq.vq)))
		return;
	vrdma_inq_disable(&dev->eventq);
	queue_work(dev->wq, &dev->event_work);
}

static void vrdma_inq_init(struct vrdma_dev *dev, struct vrdma_inq *q)
{
	q->dev = dev;
	spin_lock_init(&q->lock);
	INIT_WORK(&q->work, vrdma_comp_work);
}

/*
 * Without indirect descriptors, a command needs one descriptor for the response
 * and at least one for the request.
 */
static int vrdma_ctrl_size(struct vrdma_ctrl *ctrl)
{
	struct virtio_device *vdev = ctrl->vq->vdev;
	unsigned int num = virtqueue_get_vring_size(ctrl->vq);

	ctrl->max_segs = VRDMA_CMD_MAX_SEGS;
	if (virtio_has_feature(vdev, VIRTIO_RING_F_INDIRECT_DESC))
		return 0;
	if (num < 2) {
		dev_err(&vdev->dev,
			"the device's control queue has %u descriptors; it has to have 2\n",
			num);
		return -EINVAL;
	}
	ctrl->max_segs = min(ctrl->max_segs, num - 1);
	return 0;
}

/* Finds the queues: @num_comp completion queues, a vector each if possible. */
int vrdma_vqs_open(struct vrdma_dev *dev, u32 num_comp)
{
	/* The control and the event queue need no CPU of their own. */
	struct irq_affinity affinity = { .pre_vectors = 2 };
	u32 i, num = VIRTIO_RDMA_VQ_COMP_BASE + num_comp;
	struct virtqueue_info *info;
	struct virtqueue **vqs;
	int ret = -ENOMEM;

	dev->compq = kcalloc(num_comp, sizeof(*dev->compq), GFP_KERNEL);
	info = kcalloc(num, sizeof(*info), GFP_KERNEL);
	vqs = kcalloc(num, sizeof(*vqs), GFP_KERNEL);
	if (!dev->compq || !info || !vqs)
		goto out;
	dev->num_comp = num_comp;

	info[VIRTIO_RDMA_VQ_CONTROL].name = "control";
	info[VIRTIO_RDMA_VQ_CONTROL].callback = vrdma_ctrl_done;
	info[VIRTIO_RDMA_VQ_EVENT].name = "event";
	info[VIRTIO_RDMA_VQ_EVENT].callback = vrdma_event_done;
	info[VIRTIO_RDMA_VQ_DOORBELL].name = "doorbell";
	vrdma_inq_init(dev, &dev->eventq);
	for (i = 0; i < num_comp; i++) {
		struct vrdma_inq *q = &dev->compq[i];

		vrdma_inq_init(dev, q);
		snprintf(q->name, sizeof(q->name), "comp.%u", i);
		info[VIRTIO_RDMA_VQ_COMP_BASE + i].name = q->name;
		info[VIRTIO_RDMA_VQ_COMP_BASE + i].callback = vrdma_comp_done;
	}

	ret = vrdma_find_vqs(dev->vdev, num, vqs, info, &affinity);
	if (ret)
		goto out;
	/* The callbacks ignore interrupts that come before. */
	WRITE_ONCE(dev->ctrl.vq, vqs[VIRTIO_RDMA_VQ_CONTROL]);
	WRITE_ONCE(dev->eventq.vq, vqs[VIRTIO_RDMA_VQ_EVENT]);
	dev->doorbell = vqs[VIRTIO_RDMA_VQ_DOORBELL];
	for (i = 0; i < num_comp; i++)
		WRITE_ONCE(dev->compq[i].vq,
			   vqs[VIRTIO_RDMA_VQ_COMP_BASE + i]);
	dev->dma_dev = vrdma_vq_dma_dev(dev->ctrl.vq);
	ret = vrdma_ctrl_size(&dev->ctrl);
	if (ret) {
		dev->vdev->config->del_vqs(dev->vdev);
		dev->ctrl.vq = NULL;
		dev->eventq.vq = NULL;
	}
out:
	kfree(vqs);
	kfree(info);
	if (ret) {
		kfree(dev->compq);
		dev->compq = NULL;
	}
	return ret;
}

/* Puts buffers on the event and completion queues; after DRIVER_OK. */
int vrdma_vqs_fill(struct vrdma_dev *dev)
{
	u32 i;
	int ret;

	ret = vrdma_inq_fill(&dev->eventq, VRDMA_EVENT_BUFS,
			     sizeof(struct virtio_rdma_event));
	for (i = 0; i < dev->num_comp && !ret; i++)
		ret = vrdma_inq_fill(&dev->compq[i], VRDMA_COMP_BUFS,
				     sizeof(struct virtio_rdma_comp_event));
	return ret;
}

static void vrdma_vq_drain(struct virtqueue *vq)
{
	/* Unmaps the buffers; their owners free them. */
	while (virtqueue_detach_unused_buf(vq))
		;
}

/* Waits for the work items that use the event and completion queues. */
static void vrdma_vqs_cancel_works(struct vrdma_dev *dev)
{
	u32 i;

	/* The other ones may queue refill_work. */
	cancel_work_sync(&dev->event_work);
	for (i = 0; i < dev->num_comp; i++)
		cancel_work_sync(&dev->compq[i].work);
	cancel_delayed_work_sync(&dev->refill_work);
}

/*
 * The device was reset and is dead to the driver: no callback will run any more,
 * and no command is sent.
 */
void vrdma_vqs_close(struct vrdma_dev *dev)
{
	u32 i;

	vrdma_vqs_cancel_works(dev);
	vrdma_vq_drain(dev->ctrl.vq);
	vrdma_vq_drain(dev->eventq.vq);
	for (i = 0; i < dev->num_comp; i++)
		vrdma_vq_drain(dev->compq[i].vq);
	dev->vdev->config->del_vqs(dev->vdev);
	dev->ctrl.vq = NULL;
	dev->eventq.vq = NULL;
	vrdma_ctrl_free_abandoned(dev);
	kfree(dev->eventq.bufs);
	bitmap_free(dev->eventq.lost);
	for (i = 0; i < dev->num_comp; i++) {
		kfree(dev->compq[i].bufs);
		bitmap_free(dev->compq[i].lost);
	}
	kfree(dev->compq);
	dev->compq = NULL;
}
