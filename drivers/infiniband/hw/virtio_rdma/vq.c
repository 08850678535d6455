// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The virtqueues, and what arrives on them: asynchronous events and completion
 * events.  Opened and closed by main.c; the callbacks run in interrupt context.
 *
 * A completion event is handled in the interrupt, as its latency counts.
 * Asynchronous events are rare and handled in a work item.  Both name an object
 * by a number that the device chose: it is looked up, and held by a reference
 * while its handler runs.  The driver forgets an object before it sends
 * DESTROY, so a late event finds nothing and is dropped.
 */
#include <linux/cpumask.h>
#include <linux/interrupt.h>

#include "cmd.h"

#define VRDMA_EVENT_BUFS	64
#define VRDMA_COMP_BUFS		256

/* Gives one buffer to the device; under q->lock, or before DRIVER_OK. */
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
	if (!q->bufs)
		return -ENOMEM;

	spin_lock_irqsave(&q->lock, flags);
	for (i = 0; i < q->num && !ret; i++)
		ret = vrdma_inq_add(q, q->bufs + i * q->stride);
	virtqueue_kick(q->vq);
	spin_unlock_irqrestore(&q->lock, flags);
	return ret;
}

/*
 * Takes the next event, copies it to @event (the device may write its buffer
 * again at any time) and gives the buffer back.
 */
static bool vrdma_inq_take(struct vrdma_inq *q, void *event)
{
	unsigned long flags;
	unsigned int len;
	bool ret = false;
	void *buf;

	spin_lock_irqsave(&q->lock, flags);
	while (!ret && (buf = virtqueue_get_buf(q->vq, &len))) {
		/* A short event is a fault of the device: not acted upon. */
		if (len >= q->size) {
			memcpy(event, buf, q->size);
			ret = true;
		}
		/* Cannot fail: its place on the queue has just come free. */
		vrdma_inq_add(q, buf);
	}
	spin_unlock_irqrestore(&q->lock, flags);
	return ret;
}

/* Tells the device of returned buffers; false if more events have come. */
static bool vrdma_inq_enable(struct vrdma_inq *q)
{
	unsigned long flags;
	bool ret;

	spin_lock_irqsave(&q->lock, flags);
	virtqueue_kick(q->vq);
	ret = virtqueue_enable_cb(q->vq);
	spin_unlock_irqrestore(&q->lock, flags);
	return ret;
}

static void vrdma_inq_disable(struct vrdma_inq *q)
{
	unsigned long flags;

	spin_lock_irqsave(&q->lock, flags);
	virtqueue_disable_cb(q->vq);
	spin_unlock_irqrestore(&q->lock, flags);
}

/* Callback of a completion queue: interrupt context. */
static void vrdma_comp_done(struct virtqueue *vq)
{
	struct vrdma_vdev *vd = vq->vdev->priv;
	struct vrdma_dev *dev = vd->dev;
	struct virtio_rdma_comp_event event;
	struct vrdma_inq *q;
	struct vrdma_cq *cq;

	q = &dev->compq[vq->index - VIRTIO_RDMA_VQ_COMP_BASE];
	atomic64_inc(&dev->comp_irqs);
	do {
		vrdma_inq_disable(q);
		while (vrdma_inq_take(q, &event)) {
			cq = vrdma_cq_get(dev, le32_to_cpu(event.cqn));
			if (!cq)
				continue;
			if (cq->ibcq.comp_handler)
				cq->ibcq.comp_handler(&cq->ibcq,
						      cq->ibcq.cq_context);
			vrdma_cq_put(cq);
		}
	} while (!vrdma_inq_enable(q));
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
		vrdma_dev_kill(dev, "it reported a fatal error");
		break;
	default:
		/* GID_CHANGE: the core owns the table.  Others: not asked for. */
		dev_dbg(&dev->vdev->dev, "event %u of %#x ignored\n", type, id);
	}
}

void vrdma_event_work(struct work_struct *work)
{
	struct vrdma_dev *dev = container_of(work, struct vrdma_dev,
					     event_work);
	struct virtio_rdma_event event;

	do {
		vrdma_inq_disable(&dev->eventq);
		while (vrdma_inq_take(&dev->eventq, &event)) {
			atomic64_inc(&dev->async_events);
			vrdma_dispatch(dev, le32_to_cpu(event.type),
				       le32_to_cpu(event.id));
		}
	} while (!vrdma_inq_enable(&dev->eventq));
}

/* Callback of the event queue: interrupt context. */
static void vrdma_event_done(struct virtqueue *vq)
{
	struct vrdma_vdev *vd = vq->vdev->priv;
	struct vrdma_dev *dev = vd->dev;

	vrdma_inq_disable(&dev->eventq);
	queue_work(dev->wq, &dev->event_work);
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
	spin_lock_init(&dev->eventq.lock);
	for (i = 0; i < num_comp; i++) {
		struct vrdma_inq *q = &dev->compq[i];

		spin_lock_init(&q->lock);
		snprintf(q->name, sizeof(q->name), "comp.%u", i);
		info[VIRTIO_RDMA_VQ_COMP_BASE + i].name = q->name;
		info[VIRTIO_RDMA_VQ_COMP_BASE + i].callback = vrdma_comp_done;
	}

	ret = vrdma_find_vqs(dev->vdev, num, vqs, info, &affinity);
	if (ret)
		goto out;
	dev->ctrl.vq = vqs[VIRTIO_RDMA_VQ_CONTROL];
	dev->eventq.vq = vqs[VIRTIO_RDMA_VQ_EVENT];
	dev->doorbell = vqs[VIRTIO_RDMA_VQ_DOORBELL];
	for (i = 0; i < num_comp; i++)
		dev->compq[i].vq = vqs[VIRTIO_RDMA_VQ_COMP_BASE + i];
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

/*
 * After the device was reset: no callback will run any more, no buffer belongs
 * to the device.
 */
void vrdma_vqs_close(struct vrdma_dev *dev)
{
	u32 i;

	vrdma_vq_drain(dev->ctrl.vq);
	vrdma_vq_drain(dev->eventq.vq);
	for (i = 0; i < dev->num_comp; i++)
		vrdma_vq_drain(dev->compq[i].vq);
	dev->vdev->config->del_vqs(dev->vdev);
	vrdma_ctrl_free_zombies(dev);
	kfree(dev->eventq.bufs);
	for (i = 0; i < dev->num_comp; i++)
		kfree(dev->compq[i].bufs);
	kfree(dev->compq);
}
