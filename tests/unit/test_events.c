// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Events: delivery, events kept while the driver provides no buffers, limits, order, and no
 * event for an object that was destroyed.
 */
#include <linux/virtio_config.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "transport.h"
#include "event.h"
#include "rawdev.h"
#include "tap.h"

#define BASIC ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))
#define WRITE	VRING_DESC_F_WRITE

static struct raw *r;
static uint64_t bufs;			/* 16 bytes for each descriptor of a queue */

static void offer(unsigned int q, uint16_t i)
{
	raw_desc(r, q, i, bufs + q * 4096ULL + i * 16ULL, 16, WRITE, 0);
	raw_offer(r, q, i);
}

static bool take_event(struct virtio_rdma_event *ev, int ms)
{
	uint32_t id, len;

	if (!raw_used(r, 1, &id, &len, ms) || len != sizeof(*ev))
		return false;
	memcpy(ev, raw_ptr(r, bufs + 4096 + id * 16), sizeof(*ev));
	return true;
}

static bool take_comp(unsigned int q, uint32_t *cqn, int ms)
{
	uint32_t id, len;

	if (!raw_used(r, q, &id, &len, ms) || len != sizeof(struct virtio_rdma_comp_event))
		return false;
	memcpy(cqn, raw_ptr(r, bufs + q * 4096ULL + id * 16), sizeof(*cqn));
	return true;
}

static void start(void)
{
	raw_recover(r);
	bufs = raw_alloc(r, RAW_QUEUES);
	raw_start(r, 1, 64);
	raw_start(r, 3, 16);
	raw_start(r, 4, 16);
}

static void async_events(void)
{
	struct virtio_rdma_event ev;
	bool order = true;

	start();
	offer(1, 0);
	vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_PORT_ERR, 1);
	ok(take_event(&ev, 1000) && ev.type == VIRTIO_RDMA_EVENT_PORT_ERR && ev.id == 1 &&
	   !ev.reserved, "an event arrives in a buffer that waits");
	for (uint32_t i = 0; i < 100; i++)
		vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_QP_FATAL, i);
	vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_QP_FATAL, 50);
	ok(!take_event(&ev, 20), "without a buffer nothing is written");
	for (uint32_t i = 0; i < 100; i++) {
		offer(1, (uint16_t)(i % 64));
		order = order && take_event(&ev, 1000) && ev.id == i;
	}
	ok(order, "100 events wait, each once, in order");
	offer(1, 1);
	ok(!take_event(&ev, 20), "and no more");
	vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_PORT_ACTIVE, 1);
	ok(take_event(&ev, 1000) && ev.type == VIRTIO_RDMA_EVENT_PORT_ACTIVE, "then the next");
}

static void overflow(void)
{
	struct virtio_rdma_event ev;
	uint32_t n = 0;

	start();
	for (uint32_t i = 0; i < 5000; i++)
		vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_QP_FATAL, i);
	do {
		offer(1, (uint16_t)(n % 64));
		if (!take_event(&ev, 200))
			break;
		n++;
	} while (n < 6000);
	ok(n == 1024 && ev.type == VIRTIO_RDMA_EVENT_DEVICE_FATAL,
	   "a driver that takes none loses the device: %u events, the last is %u", n, ev.type);
	raw_init(r);
	vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_PORT_ACTIVE, 1);
	ok(take_event(&ev, 1000) && ev.type == VIRTIO_RDMA_EVENT_PORT_ACTIVE, "INIT mends it");
}

static void forgotten(void)
{
	struct virtio_rdma_event ev;
	uint32_t ctx, pd, cq, qpn;
	struct virtio_rdma_qp_attr reset = { .state = VIRTIO_RDMA_QPS_RESET };

	start();
	ctx = raw_ctx(r, 0);
	pd = raw_pd(r, ctx);
	cq = raw_cq(r, ctx, 16, 0);
	qpn = raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq);
	vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_QP_FATAL, qpn);
	vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_CQ_ERR, cq);
	raw_modify(r, qpn, VIRTIO_RDMA_QP_STATE, &reset);
	offer(1, 0);
	ok(take_event(&ev, 1000) && ev.type == VIRTIO_RDMA_EVENT_CQ_ERR,
	   "a QP that was reset tells nothing of its past");
	vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_QP_FATAL, qpn);
	vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_CQ_ERR, cq);
	raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_QP, qpn);
	raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_CQ, cq);
	vrd_event_raise(r->dev, VIRTIO_RDMA_EVENT_PORT_ERR, 1);
	offer(1, 1);
	ok(take_event(&ev, 1000) && ev.type == VIRTIO_RDMA_EVENT_PORT_ERR,
	   "nothing is told about objects that are gone");
}

static void raise_cq(uint32_t cqn)
{
	struct vrd_cq *cq = vrd_table_find(&r->dev->cqs, cqn);

	vrd_lock(&cq->lock);
	vrd_event_cq(cq);
	vrd_unlock(&cq->lock);
}

static void comp_events(void)
{
	uint32_t ctx, a, b, c, cqn = 0;

	start();
	ctx = raw_ctx(r, 0);
	a = raw_cq(r, ctx, 16, 0);
	b = raw_cq(r, ctx, 16, 0);
	c = raw_cq(r, ctx, 16, 1);
	offer(3, 0);
	offer(4, 0);
	raise_cq(c);
	ok(take_comp(4, &cqn, 1000) && cqn == c, "each vector has its queue");
	raise_cq(a);
	ok(take_comp(3, &cqn, 1000) && cqn == a, "a completion event");
	for (int i = 0; i < 10; i++) {
		raise_cq(b);
		raise_cq(a);
	}
	ok(!take_comp(3, &cqn, 20), "without a buffer they wait");
	offer(3, 1);
	ok(take_comp(3, &cqn, 1000) && cqn == b, "the first in line");
	ok(!take_comp(3, &cqn, 20), "one buffer, one event");
	offer(3, 2);
	ok(take_comp(3, &cqn, 1000) && cqn == a, "each CQ waits once");
	offer(3, 3);
	ok(!take_comp(3, &cqn, 20), "and no more");
	raise_cq(a);
	take_comp(3, &cqn, 1000);

	raise_cq(a);
	raise_cq(b);
	is(raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_CQ, a), 0, "a CQ that waits is destroyed");
	offer(3, 4);
	ok(take_comp(3, &cqn, 1000) && cqn == b, "the next in line is told");
	raise_cq(c);
	is(raw_init(r), 0, "INIT while one waits");
	offer(4, 1);
	ok(!take_comp(4, &cqn, 20), "forgets it");
}

static void stopped(void)
{
	uint32_t ctx, cq, cqn = 0;
	struct vrd_error err;

	start();
	ctx = raw_ctx(r, 0);
	cq = raw_cq(r, ctx, 16, 0);
	offer(3, 0);
	raw_stop(r, 0);
	raise_cq(cq);
	ok(!take_comp(3, &cqn, 20), "a suspended device is silent");
	vrd_device_vq_start(r->dev, 0, &r->q[0].cfg, &err);
	ok(take_comp(3, &cqn, 1000) && cqn == cq, "and speaks when it is resumed");
	raw_stop(r, 3);
	raise_cq(cq);
	offer(3, 1);
	ok(!take_comp(3, &cqn, 20), "a stopped vector is silent");
	r->q[3].cfg.last_avail = 1;
	vrd_device_vq_start(r->dev, 3, &r->q[3].cfg, &err);
	ok(take_comp(3, &cqn, 1000) && cqn == cq, "and speaks when it is started");
}

static void bad_buffers(void)
{
	uint32_t id, len, ctx, cq, cqn;

	start();
	ctx = raw_ctx(r, 0);
	cq = raw_cq(r, ctx, 16, 0);
	raw_desc(r, 3, 0, bufs, 4, WRITE, 0);		/* too short */
	raw_offer(r, 3, 0);
	raw_desc(r, 3, 1, RAW_HOLE, 16, WRITE, 0);	/* no memory */
	raw_offer(r, 3, 1);
	raw_desc(r, 3, 2, bufs, 16, 0, 0);		/* readable */
	raw_offer(r, 3, 2);
	offer(3, 3);
	raise_cq(cq);
	for (uint32_t i = 0; i < 3; i++)
		ok(raw_used(r, 3, &id, &len, 1000) && id == i && !len, "bad buffer %u comes back",
		   i);
	ok(take_comp(3, &cqn, 1000) && cqn == cq, "the good one is used");
	raw_desc(r, 3, 5, bufs, 16, WRITE | VRING_DESC_F_NEXT, 5);
	raw_offer(r, 3, 5);
	raise_cq(cq);
	ok(raw_broken(r), "a loop breaks the device");
	is(raw_recover(r), 0, "works after a reset");
}

/*
 * A driver that gives back bad buffers as fast as they come: whoever delivers,
 * a poller perhaps, takes a few, and the control thread the rest.
 */
static void many_bad_buffers(void)
{
	uint32_t id, len, ctx, cq, cqn;
	uint16_t before, taken;
	unsigned int i;

	start();
	raw_stop(r, 3);
	raw_start(r, 3, 64);
	ctx = raw_ctx(r, 0);
	cq = raw_cq(r, ctx, 16, 0);
	raw_desc(r, 3, 0, bufs, 4, WRITE, 0);		/* too short */
	raw_desc(r, 3, 1, bufs + 3 * 4096ULL + 16, 16, WRITE, 0);

	/* Under the lock, the control thread gets no further than its next command. */
	pthread_mutex_lock(&r->dev->lock);
	raw_kick(r, 0);
	usleep(50000);
	for (i = 0; i < r->q[3].num - 1U; i++)
		__atomic_store_n(&r->q[3].avail[2 + i], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&r->q[3].avail[2 + i], 1, __ATOMIC_RELAXED);
	__atomic_store_n(&r->q[3].avail[1], r->q[3].num, __ATOMIC_RELEASE);
	before = __atomic_load_n(&r->q[3].used[1], __ATOMIC_ACQUIRE);
	raise_cq(cq);
	taken = __atomic_load_n(&r->q[3].used[1], __ATOMIC_ACQUIRE) - before;
	pthread_mutex_unlock(&r->dev->lock);
	ok(taken <= 16, "who has an event for %u bad buffers looks at %u of them",
	   r->q[3].num - 1U, taken);
	for (i = 0; i < r->q[3].num - 1U; i++) {
		if (!raw_used(r, 3, &id, &len, 1000) || id || len)
			break;
	}
	is(i, r->q[3].num - 1, "all of them come back");
	ok(take_comp(3, &cqn, 1000) && cqn == cq, "and the event arrives in the good one");
}

/* More CQs wait than one look of the control thread serves. */
static void many_waiting(void)
{
	uint32_t ctx, cqs[150], cqn;
	unsigned int i, n = 0;

	start();
	raw_stop(r, 3);
	raw_start(r, 3, 64);
	ctx = raw_ctx(r, 0);
	for (i = 0; i < 150; i++)
		cqs[i] = raw_cq(r, ctx, 16, 0);
	for (i = 0; i < 150; i++)
		raise_cq(cqs[i]);
	for (unsigned int round = 0; round < 4; round++) {
		for (i = 0; i < r->q[3].num - 1U && n + i < 150; i++)
			offer(3, i);
		for (; i; i--)
			n += take_comp(3, &cqn, 1000);
	}
	is(n, 150, "150 CQs that wait have their events");
}

/* The device requests kicks only while an event waits. */
static void kicks(void)
{
	uint32_t ctx, cq, cqn;
	uint16_t *flags;

	start();
	ctx = raw_ctx(r, 0);
	cq = raw_cq(r, ctx, 16, 0);
	flags = &r->q[3].used[0];
	usleep(20000);
	ok(__atomic_load_n(flags, __ATOMIC_ACQUIRE) & VRING_USED_F_NO_NOTIFY,
	   "no kicks while nothing waits");
	raise_cq(cq);
	ok(!(__atomic_load_n(flags, __ATOMIC_ACQUIRE) & VRING_USED_F_NO_NOTIFY),
	   "a kick for the buffer that is missed");
	offer(3, 0);
	take_comp(3, &cqn, 1000);
	usleep(20000);
	ok(__atomic_load_n(flags, __ATOMIC_ACQUIRE) & VRING_USED_F_NO_NOTIFY, "no more then");
}

int main(void)
{
	r = raw_new(NULL, BASIC);
	async_events();
	overflow();
	forgotten();
	comp_events();
	stopped();
	bad_buffers();
	many_bad_buffers();
	many_waiting();
	kicks();
	raw_free(r);
	return tap_done();
}
