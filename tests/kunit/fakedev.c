// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device made of functions, on real vrings.  It runs in a work item, like the device's
 * thread on the host, and calls the driver's callbacks with interrupts disabled.
 */
#include <linux/io.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>

#include "fakedev.h"

#define FAKEDEV_QUEUE_NUM	16

static struct fakedev *fakedev_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct fakedev, vdev);
}

/*
 * Called by vq.c instead of virtqueue_add_inbuf() (see Kbuild), under the driver's lock of the
 * queue.  It can fail as that function does if the buffer cannot be mapped for DMA: the queue is
 * unchanged.
 */
int fakedev_add_inbuf(struct virtqueue *vq, struct scatterlist *sg,
		      unsigned int num, void *data, gfp_t gfp)
{
	struct fakedev *f = fakedev_of(vq->vdev);

	if (f->fail_adds) {
		f->fail_adds--;
		return -ENOMEM;
	}
	return virtqueue_add_inbuf(vq, sg, num, data, gfp);
}

static bool fakedev_notified(struct virtqueue *vq)
{
	struct fakedev *f = fakedev_of(vq->vdev);

	atomic_inc(&f->q[vq->index].kicks);
	if (vq->index == VIRTIO_RDMA_VQ_CONTROL && f->serve)
		schedule_work(&f->work);
	return true;
}

/* Copies one readable descriptor into the request, or takes a writable one for the response. */
static void fakedev_desc(struct fakedev *f, struct fakedev_cmd *cmd,
			 const struct vring_desc *desc)
{
	void *mem = phys_to_virt(virtio64_to_cpu(&f->vdev, desc->addr));
	u32 len = virtio32_to_cpu(&f->vdev, desc->len);

	if (desc->flags & cpu_to_virtio16(&f->vdev, VRING_DESC_F_WRITE)) {
		KUNIT_EXPECT_NULL(f->test, cmd->rsp);
		cmd->rsp = mem;
		cmd->rsp_len = len;
		return;
	}
	if (cmd->req_len + len > FAKEDEV_REQ_MAX) {
		KUNIT_FAIL(f->test, "a request of more than %u bytes",
			   cmd->req_len);
		return;
	}
	memcpy(f->req + cmd->req_len, mem, len);
	cmd->req_len += len;
}

/* Takes the next command from the ring; returns false if there is none. */
bool fakedev_take(struct fakedev *f, struct fakedev_cmd *cmd)
{
	struct fakedev_queue *q = fakedev_ctrl(f);
	struct vring *ring = &q->ring;
	u16 i, idx;

	idx = virtio16_to_cpu(&f->vdev, READ_ONCE(ring->avail->idx));
	if (idx == q->taken)
		return false;
	/* Reads the index before the entries; pairs with the driver's barrier. */
	virt_rmb();
	memset(cmd, 0, sizeof(*cmd));
	i = virtio16_to_cpu(&f->vdev,
			    ring->avail->ring[q->taken++ & (ring->num - 1)]);
	cmd->head = i;
	for (;;) {
		if (i >= ring->num) {
			KUNIT_FAIL(f->test, "descriptor %u", i);
			return false;
		}
		fakedev_desc(f, cmd, &ring->desc[i]);
		if (!(ring->desc[i].flags &
		      cpu_to_virtio16(&f->vdev, VRING_DESC_F_NEXT)))
			return true;
		i = virtio16_to_cpu(&f->vdev, ring->desc[i].next);
	}
}

static void fakedev_use(struct fakedev *f, struct fakedev_queue *q, u32 head,
			u32 used_len)
{
	struct vring *ring = &q->ring;
	struct vring_used_elem *elem = &ring->used->ring[q->used++ &
							 (ring->num - 1)];

	elem->id = cpu_to_virtio32(&f->vdev, head);
	elem->len = cpu_to_virtio32(&f->vdev, used_len);
	/* Writes the element before the index. */
	virt_wmb();
	WRITE_ONCE(ring->used->idx, cpu_to_virtio16(&f->vdev, q->used));
}

void fakedev_interrupt(struct fakedev *f, unsigned int queue)
{
	unsigned long flags;

	local_irq_save(flags);
	if (f->q[queue].vq)
		vring_interrupt(0, f->q[queue].vq);
	local_irq_restore(flags);
}

/* Puts an element on the control queue's used ring and raises an interrupt. */
void fakedev_return(struct fakedev *f, u32 head, u32 used_len)
{
	fakedev_use(f, fakedev_ctrl(f), head, used_len);
	fakedev_interrupt(f, VIRTIO_RDMA_VQ_CONTROL);
}

/* Writes an event to @queue, without an interrupt; returns false if it has no buffer. */
bool fakedev_put_event(struct fakedev *f, unsigned int queue,
		       const void *event, u32 len)
{
	struct fakedev_queue *q = &f->q[queue];
	struct vring *ring = &q->ring;
	u16 i;

	if (virtio16_to_cpu(&f->vdev, READ_ONCE(ring->avail->idx)) == q->taken)
		return false;
	/* Reads the index before the entry; pairs with the driver's barrier. */
	virt_rmb();
	i = virtio16_to_cpu(&f->vdev,
			    ring->avail->ring[q->taken++ & (ring->num - 1)]);
	memcpy(phys_to_virt(virtio64_to_cpu(&f->vdev, ring->desc[i].addr)),
	       event, len);
	fakedev_use(f, q, i, len);
	return true;
}

void fakedev_answer(struct fakedev *f, struct fakedev_cmd *cmd, const void *rsp,
		    u32 len)
{
	KUNIT_EXPECT_LE(f->test, len, cmd->rsp_len);
	memcpy(cmd->rsp, rsp, min(len, cmd->rsp_len));
	fakedev_return(f, cmd->head, len);
}

/* Writes a status, followed by zeroes up to the end of the response buffer. */
void fakedev_status(struct fakedev *f, struct fakedev_cmd *cmd, u32 status)
{
	struct virtio_rdma_rsp_hdr *hdr = cmd->rsp;

	memset(hdr, 0, cmd->rsp_len);
	hdr->status = cpu_to_le32(status);
	fakedev_return(f, cmd->head, status ? sizeof(*hdr) : cmd->rsp_len);
}

static void fakedev_work(struct work_struct *work)
{
	struct fakedev *f = container_of(work, struct fakedev, work);
	struct fakedev_cmd cmd;

	while (fakedev_take(f, &cmd))
		f->serve(f, &cmd);
}

/* ---- what the virtio core asks a transport -------------------------------- */

static int fakedev_find_vqs(struct virtio_device *vdev, unsigned int nvqs,
			    struct virtqueue *vqs[],
			    struct virtqueue_info info[],
			    struct irq_affinity *desc)
{
	struct fakedev *f = fakedev_of(vdev);
	unsigned int i;

	KUNIT_ASSERT_LE(f->test, nvqs, (unsigned int)FAKEDEV_VQS);
	for (i = 0; i < nvqs; i++) {
		unsigned int num = i == VIRTIO_RDMA_VQ_CONTROL ?
				   f->num : FAKEDEV_QUEUE_NUM;
		struct fakedev_queue *q = &f->q[i];

		q->pages = alloc_pages_exact(vring_size(num, PAGE_SIZE),
					     GFP_KERNEL | __GFP_ZERO);
		KUNIT_ASSERT_NOT_NULL(f->test, q->pages);
		vring_init(&q->ring, num, q->pages, PAGE_SIZE);
		q->vq = vring_new_virtqueue(i, num, PAGE_SIZE, vdev, true,
					    false, q->pages, fakedev_notified,
					    info[i].callback, info[i].name);
		KUNIT_ASSERT_NOT_NULL(f->test, q->vq);
		vqs[i] = q->vq;
	}
	/* A device may interrupt before the driver has the queues. */
	for (i = 0; i < nvqs; i++)
		if (info[i].callback)
			info[i].callback(vqs[i]);
	return 0;
}

/* The memory of the rings is kept, because the device may still access it. */
static void fakedev_del_vqs(struct virtio_device *vdev)
{
	struct fakedev *f = fakedev_of(vdev);
	struct virtqueue *vq;
	unsigned int i;

	for (i = 0; i < FAKEDEV_VQS; i++) {
		vq = f->q[i].vq;
		f->q[i].vq = NULL;
		if (vq)
			vring_del_virtqueue(vq);
	}
}

static void fakedev_reset(struct virtio_device *vdev)
{
	struct fakedev *f = fakedev_of(vdev);

	wait_for_completion(&f->may_reset);
	f->resets++;
}

static const struct virtio_config_ops fakedev_config = {
	.find_vqs = fakedev_find_vqs,
	.del_vqs = fakedev_del_vqs,
	.reset = fakedev_reset,
};

/* Creates a device whose control queue has @num descriptors. */
static struct fakedev *fakedev_make(struct kunit *test, unsigned int num,
				    void (*serve)(struct fakedev *f,
						  struct fakedev_cmd *cmd))
{
	struct fakedev *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->test = test;
	f->num = num;
	f->serve = serve;
	f->req = kunit_kzalloc(test, FAKEDEV_REQ_MAX, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->req);
	INIT_WORK(&f->work, fakedev_work);
	init_completion(&f->may_reset);
	fakedev_let_reset(f);

	/* Without ACCESS_PLATFORM, DMA addresses are physical addresses. */
	f->vdev.features = BIT_ULL(VIRTIO_F_VERSION_1);
	f->vdev.config = &fakedev_config;
	INIT_LIST_HEAD(&f->vdev.vqs);
	spin_lock_init(&f->vdev.vqs_list_lock);
	device_initialize(&f->vdev.dev);
	dev_set_name(&f->vdev.dev, "fake");
	f->vdev.priv = &f->dev;

	vrdma_dev_init(&f->dev, &f->vdev);
	KUNIT_ASSERT_EQ(test, vrdma_status_alloc(&f->dev), 0);
	f->dev.wq = alloc_workqueue("vrdma_kunit", WQ_UNBOUND | WQ_MEM_RECLAIM,
				    0);
	KUNIT_ASSERT_NOT_NULL(test, f->dev.wq);
	return f;
}

static void fakedev_free(struct fakedev *f)
{
	unsigned int i;

	destroy_workqueue(f->dev.wq);
	vrdma_status_free(&f->dev);
	for (i = 0; i < FAKEDEV_VQS; i++)
		free_pages_exact(f->q[i].pages,
				 vring_size(f->q[i].ring.num, PAGE_SIZE));
	xa_destroy(&f->dev.qps);
	xa_destroy(&f->dev.cqs);
	kfree_const(f->vdev.dev.kobj.name);
	f->vdev.dev.kobj.name = NULL;
}

struct fakedev *fakedev_open(struct kunit *test, unsigned int num,
			     void (*serve)(struct fakedev *f,
					   struct fakedev_cmd *cmd))
{
	struct fakedev *f = fakedev_make(test, num, serve);

	KUNIT_ASSERT_EQ(test, vrdma_vqs_open(&f->dev, 1), 0);
	__virtio_unbreak_device(&f->vdev);
	return f;
}

/* What the driver says of a control queue of @num descriptors. */
int fakedev_try(struct kunit *test, unsigned int num)
{
	struct fakedev *f = fakedev_make(test, num, NULL);
	int ret = vrdma_vqs_open(&f->dev, 1);

	if (ret)
		fakedev_free(f);
	else
		fakedev_close(f);
	return ret;
}

/* Like vrdma_dev_stop(). */
void fakedev_close(struct fakedev *f)
{
	fakedev_let_reset(f);
	flush_work(&f->work);
	vrdma_ctrl_shut(&f->dev);
	flush_work(&f->dev.death_work);
	vrdma_dev_halt(&f->dev);
	KUNIT_EXPECT_EQ(f->test, f->resets, 1);
	KUNIT_EXPECT_TRUE(f->test, list_empty(&f->dev.parked));
	KUNIT_EXPECT_TRUE(f->test, list_empty(&f->dev.ctrl.abandoned));
	fakedev_free(f);
}
