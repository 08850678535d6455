// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KUnit tests of the event queues (vq.c): a device that sends events faster than they are
 * handled, and buffers that could not be returned to the device.
 */
#include <linux/delay.h>

#include "fakedev.h"

#define COMP	VIRTIO_RDMA_VQ_COMP_BASE
#define CQN	0x456
#define FLOOD	2000

struct flood {
	struct fakedev *f;
	struct vrdma_cq cq;
	atomic_t handled;
};

static void put_comp(struct fakedev *f, u32 cqn)
{
	struct virtio_rdma_comp_event event = { .cqn = cpu_to_le32(cqn) };

	fakedev_put_event(f, COMP, &event, sizeof(event));
}

/* Each handled event makes the device send another one. */
static void flood_handler(struct ib_cq *ibcq, void *context)
{
	struct flood *flood = context;

	if (atomic_inc_return(&flood->handled) < FLOOD)
		put_comp(flood->f, CQN);
}

static bool wait_handled(struct flood *flood, int num)
{
	int i;

	for (i = 0; i < 500 && atomic_read(&flood->handled) < num; i++)
		msleep(20);
	return atomic_read(&flood->handled) == num;
}

static struct flood *flood_open(struct kunit *test)
{
	struct flood *flood = kunit_kzalloc(test, sizeof(*flood), GFP_KERNEL);
	struct fakedev *f = fakedev_open(test, 16, NULL);

	KUNIT_ASSERT_NOT_NULL(test, flood);
	KUNIT_ASSERT_EQ(test, vrdma_vqs_fill(&f->dev), 0);
	flood->f = f;
	flood->cq.user = true;
	flood->cq.ibcq.device = &f->dev.ibdev;
	flood->cq.ibcq.comp_handler = flood_handler;
	flood->cq.ibcq.cq_context = flood;
	refcount_set(&flood->cq.ref.count, 1);
	KUNIT_ASSERT_EQ(test, xa_err(xa_store_irq(&f->dev.cqs, CQN, &flood->cq,
						  GFP_KERNEL)), 0);
	return flood;
}

static void flood_close(struct flood *flood)
{
	xa_erase_irq(&flood->f->dev.cqs, CQN);
	fakedev_close(flood->f);
}

/* The interrupt handles a limited number of events; a work item handles the others. */
static void test_flood(struct kunit *test)
{
	struct flood *flood = flood_open(test);

	put_comp(flood->f, CQN);
	fakedev_interrupt(flood->f, COMP);
	KUNIT_EXPECT_LT(test, atomic_read(&flood->handled), FLOOD / 2);
	KUNIT_EXPECT_TRUE(test, wait_handled(flood, FLOOD));
	/* Interrupts are enabled again. */
	msleep(50);
	put_comp(flood->f, CQN);
	fakedev_interrupt(flood->f, COMP);
	KUNIT_EXPECT_EQ(test, atomic_read(&flood->handled), FLOOD + 1);
	KUNIT_EXPECT_EQ(test, atomic64_read(&flood->f->dev.comp_irqs), 2ll);
	flood_close(flood);
}

static u16 given(struct fakedev *f, unsigned int queue)
{
	return virtio16_to_cpu(&f->vdev,
			       READ_ONCE(f->q[queue].ring.avail->idx));
}

/* Takes a buffer from the queue, as if returning it to the device had failed. */
static void lose(struct kunit *test, struct vrdma_inq *q)
{
	void *buf = virtqueue_detach_unused_buf(q->vq);

	KUNIT_ASSERT_NOT_NULL(test, buf);
	spin_lock_irq(&q->lock);
	__set_bit((buf - q->bufs) / q->stride, q->lost);
	q->num_lost++;
	spin_unlock_irq(&q->lock);
}

/* A lost buffer is returned to the device after the next event was handled. */
static void test_lost_one(struct kunit *test)
{
	struct flood *flood = flood_open(test);
	struct fakedev *f = flood->f;
	struct vrdma_inq *q = &f->dev.compq[0];
	u16 before;

	atomic_set(&flood->handled, FLOOD);
	/* The first buffer is lost: the device continues with the second one. */
	lose(test, q);
	f->q[COMP].taken++;
	put_comp(f, CQN);
	before = given(f, COMP);
	fakedev_interrupt(f, COMP);
	KUNIT_EXPECT_EQ(test, atomic_read(&flood->handled), FLOOD + 1);
	KUNIT_EXPECT_EQ(test, q->num_lost, 0u);
	KUNIT_EXPECT_TRUE(test, bitmap_empty(q->lost, q->num));
	KUNIT_EXPECT_EQ(test, given(f, COMP) - before, 2);
	flood_close(flood);
}

/* Without any buffer the device sends no event: the work item returns all buffers. */
static void test_lost_all(struct kunit *test)
{
	struct flood *flood = flood_open(test);
	struct fakedev *f = flood->f;
	struct vrdma_inq *q = &f->dev.eventq;
	unsigned int i, num = q->num;
	u16 before;

	for (i = 0; i < num; i++)
		lose(test, q);
	KUNIT_EXPECT_EQ(test, q->num_lost, num);
	before = given(f, VIRTIO_RDMA_VQ_EVENT);
	queue_delayed_work(f->dev.wq, &f->dev.refill_work, 0);
	flush_delayed_work(&f->dev.refill_work);
	KUNIT_EXPECT_EQ(test, q->num_lost, 0u);
	KUNIT_EXPECT_EQ(test, (unsigned int)(u16)(given(f, VIRTIO_RDMA_VQ_EVENT) -
						  before), num);
	flood_close(flood);
}

/*
 * Mapping fails whenever a buffer is to be returned to the device, until the device has none
 * left.  It sends no further event then, so no interrupt makes the driver try again.
 */
static void test_no_mapping(struct kunit *test)
{
	struct flood *flood = flood_open(test);
	struct fakedev *f = flood->f;
	struct vrdma_inq *q = &f->dev.compq[0];
	unsigned int i, num = q->num;
	u16 before;

	f->fail_adds = UINT_MAX;
	atomic_set(&flood->handled, FLOOD);
	before = given(f, COMP);
	for (i = 0; i < num; i++)
		put_comp(f, CQN);
	fakedev_interrupt(f, COMP);
	KUNIT_EXPECT_EQ(test, atomic_read(&flood->handled), FLOOD + (int)num);
	KUNIT_EXPECT_EQ(test, (u16)(given(f, COMP) - before), 0);

	/* Memory is available again: the driver's timer returns all buffers. */
	spin_lock_irq(&q->lock);
	f->fail_adds = 0;
	spin_unlock_irq(&q->lock);
	for (i = 0; i < 500 && (u16)(given(f, COMP) - before) < num; i++)
		msleep(20);
	KUNIT_EXPECT_EQ(test, (unsigned int)(u16)(given(f, COMP) - before), num);
	put_comp(f, CQN);
	fakedev_interrupt(f, COMP);
	KUNIT_EXPECT_EQ(test, atomic_read(&flood->handled),
			FLOOD + (int)num + 1);
	flood_close(flood);
}

/* An event shorter than its structure is ignored. */
static void test_short_event(struct kunit *test)
{
	struct flood *flood = flood_open(test);
	struct virtio_rdma_comp_event event = { .cqn = cpu_to_le32(CQN) };

	fakedev_put_event(flood->f, COMP, &event, sizeof(event) - 1);
	fakedev_interrupt(flood->f, COMP);
	KUNIT_EXPECT_EQ(test, atomic_read(&flood->handled), 0);
	KUNIT_EXPECT_EQ(test, flood->f->dev.compq[0].num_lost, 0u);
	flood_close(flood);
}

static struct kunit_case event_cases[] = {
	KUNIT_CASE(test_flood),
	KUNIT_CASE(test_lost_one),
	KUNIT_CASE(test_lost_all),
	KUNIT_CASE(test_no_mapping),
	KUNIT_CASE(test_short_event),
	{}
};

static struct kunit_suite event_suite = {
	.name = "virtio_rdma_event",
	.test_cases = event_cases,
};

kunit_test_suite(event_suite);
