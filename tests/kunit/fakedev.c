// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A device made of functions, on real vrings.  It works in a work item, as the
 * device's thread on the host does, and "interrupts" with interrupts off.
 */
#include <linux/io.h>
#include <linux/slab.h>

#include "fakedev.h"

#define FAKEDEV_DOORBELL_NUM	4

static struct fakedev *fakedev_of(struct virtqueue *vq)
{
	return container_of(vq->vdev, struct fakedev, vdev);
}

static bool fakedev_notified(struct virtqueue *vq)
{
	struct fakedev *f = fakedev_of(vq);

	atomic_inc(&f->kicks);
	if (f->serve)
		schedule_work(&f->work);
	return true;
}

static bool fakedev_doorbell(struct virtqueue *vq)
{
	atomic_inc(&fakedev_of(vq)->rung);
	return true;
}

/* Bytes of one descriptor into the request, or room for the response. */
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

/* The next command of the ring; false if there is none. */
bool fakedev_take(struct fakedev *f, struct fakedev_cmd *cmd)
{
	struct vring *ring = &f->ring;
	u16 i, idx;

	idx = virtio16_to_cpu(&f->vdev, READ_ONCE(ring->avail->idx));
	if (idx == f->taken)
		return false;
	/* The index before the entries; pairs with the driver's barrier. */
	virt_rmb();
	memset(cmd, 0, sizeof(*cmd));
	i = virtio16_to_cpu(&f->vdev,
			    ring->avail->ring[f->taken++ & (ring->num - 1)]);
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

/* Puts an element on the used ring, whatever it says, and interrupts. */
void fakedev_return(struct fakedev *f, u32 head, u32 used_len)
{
	struct vring *ring = &f->ring;
	struct vring_used_elem *elem = &ring->used->ring[f->used++ &
							 (ring->num - 1)];
	unsigned long flags;

	elem->id = cpu_to_virtio32(&f->vdev, head);
	elem->len = cpu_to_virtio32(&f->vdev, used_len);
	/* The element before the index that tells of it. */
	virt_wmb();
	WRITE_ONCE(ring->used->idx, cpu_to_virtio16(&f->vdev, f->used));
	local_irq_save(flags);
	vring_interrupt(0, f->vq);
	local_irq_restore(flags);
}

void fakedev_answer(struct fakedev *f, struct fakedev_cmd *cmd, const void *rsp,
		    u32 len)
{
	KUNIT_EXPECT_LE(f->test, len, cmd->rsp_len);
	memcpy(cmd->rsp, rsp, min(len, cmd->rsp_len));
	fakedev_return(f, cmd->head, len);
}

/* A bare status with zeroes behind it, as far as there is room. */
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

static struct virtqueue *fakedev_vq(struct fakedev *f, unsigned int index,
				    unsigned int num,
				    bool (*notify)(struct virtqueue *vq),
				    void (*callback)(struct virtqueue *vq))
{
	struct virtqueue *vq;

	f->pages[index] = alloc_pages_exact(vring_size(num, PAGE_SIZE),
					    GFP_KERNEL | __GFP_ZERO);
	KUNIT_ASSERT_NOT_NULL(f->test, f->pages[index]);
	vq = vring_new_virtqueue(index, num, PAGE_SIZE, &f->vdev, true, false,
				 f->pages[index], notify, callback, "fake");
	KUNIT_ASSERT_NOT_NULL(f->test, vq);
	return vq;
}

static void fakedev_vq_free(struct fakedev *f, struct virtqueue *vq,
			    unsigned int index, unsigned int num)
{
	while (virtqueue_detach_unused_buf(vq))
		;
	vring_del_virtqueue(vq);
	free_pages_exact(f->pages[index], vring_size(num, PAGE_SIZE));
}

static void fakedev_idle(struct work_struct *work)
{
}

/* A device whose control queue has @num descriptors. */
struct fakedev *fakedev_open(struct kunit *test, unsigned int num,
			     void (*serve)(struct fakedev *f,
					   struct fakedev_cmd *cmd))
{
	struct fakedev *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->test = test;
	f->serve = serve;
	f->req = kunit_kzalloc(test, FAKEDEV_REQ_MAX, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->req);
	INIT_WORK(&f->work, fakedev_work);

	/* Device addresses are physical ones, without ACCESS_PLATFORM. */
	f->vdev.features = BIT_ULL(VIRTIO_F_VERSION_1);
	INIT_LIST_HEAD(&f->vdev.vqs);
	spin_lock_init(&f->vdev.vqs_list_lock);
	device_initialize(&f->vdev.dev);
	dev_set_name(&f->vdev.dev, "fake");
	f->vdev.priv = &f->vd;
	f->vd.vdev = &f->vdev;
	f->vd.dev = &f->dev;

	f->dev.vdev = &f->vdev;
	vrdma_ctrl_init(&f->dev);
	xa_init_flags(&f->dev.qps, XA_FLAGS_LOCK_IRQ);
	xa_init_flags(&f->dev.cqs, XA_FLAGS_LOCK_IRQ);
	INIT_LIST_HEAD(&f->dev.parked);
	spin_lock_init(&f->dev.park_lock);
	INIT_WORK(&f->dev.death_work, fakedev_idle);
	INIT_WORK(&f->dev.flush_work, fakedev_idle);
	f->dev.wq = alloc_workqueue("vrdma_kunit", WQ_UNBOUND, 0);
	KUNIT_ASSERT_NOT_NULL(test, f->dev.wq);

	f->vq = fakedev_vq(f, 0, num, fakedev_notified, vrdma_ctrl_done);
	vring_init(&f->ring, num, f->pages[0], PAGE_SIZE);
	f->doorbell = fakedev_vq(f, 1, FAKEDEV_DOORBELL_NUM, fakedev_doorbell,
				 NULL);
	__virtio_unbreak_device(&f->vdev);
	f->dev.ctrl.vq = f->vq;
	f->dev.doorbell = f->doorbell;
	fakedev_set_timeout(30);
	return f;
}

/* As the driver after a reset: what the device may have written is freed last. */
void fakedev_close(struct fakedev *f)
{
	unsigned int num = f->ring.num;

	flush_work(&f->work);
	fakedev_vq_free(f, f->vq, 0, num);
	fakedev_vq_free(f, f->doorbell, 1, FAKEDEV_DOORBELL_NUM);
	vrdma_ctrl_free_zombies(&f->dev);
	destroy_workqueue(f->dev.wq);
	vrdma_buf_free_parked(&f->dev);
	xa_destroy(&f->dev.qps);
	xa_destroy(&f->dev.cqs);
	kfree_const(f->vdev.dev.kobj.name);
	f->vdev.dev.kobj.name = NULL;
}
