// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Virtqueues of a hostile guest: indices, loops, indirect tables, wrong directions, rings
 * outside of memory; and the valid cases beside them.  After each case the device works
 * again after a reset.
 */
#include <linux/virtio_config.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rawdev.h"
#include "tap.h"

#define BASIC	((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM) | \
		 (1ULL << VIRTIO_RING_F_INDIRECT_DESC))
#define EVENT_IDX (1ULL << VIRTIO_RING_F_EVENT_IDX)

#define NEXT	VRING_DESC_F_NEXT
#define WRITE	VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

static struct virtio_rdma_query_stats_req stats_req = {
	.hdr = { VIRTIO_RDMA_CMD_QUERY_STATS, sizeof(struct virtio_rdma_query_stats_req) },
};

/* A valid command in the usual buffers, whatever the descriptors are. */
static void put_stats(struct raw *r)
{
	memcpy(raw_ptr(r, r->req), &stats_req, sizeof(stats_req));
	memset(raw_ptr(r, r->rsp), 0xee, 4096);
}

static uint32_t status_in(struct raw *r)
{
	struct virtio_rdma_rsp_hdr h;

	memcpy(&h, raw_ptr(r, r->rsp), sizeof(h));
	return h.status;
}

static void good_chains(struct raw *r)
{
	const uint32_t rsp = sizeof(struct virtio_rdma_query_stats_rsp);
	struct vring_desc *table;
	uint32_t id, len;
	uint64_t at;

	is(raw_recover(r), 0, "device starts and INIT succeeds");

	put_stats(r);
	raw_desc(r, 0, 7, r->req, 3, NEXT, 2);
	raw_desc(r, 0, 2, r->req + 3, 0, NEXT, 5);
	raw_desc(r, 0, 5, r->req + 3, 5, NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, 4, NEXT | WRITE, 9);
	raw_desc(r, 0, 9, r->rsp + 4, 4096, WRITE, 0);
	raw_offer(r, 0, 7);
	ok(raw_used(r, 0, &id, &len, 1000) && id == 7 && len == rsp && !status_in(r),
	   "a command in pieces, one of them empty");
	ok(((uint8_t *)raw_ptr(r, r->rsp))[rsp] == 0xee, "nothing is written behind the response");

	put_stats(r);
	at = raw_alloc(r, 1);
	table = raw_ptr(r, at);
	table[0] = (struct vring_desc) { r->req, 8, NEXT, 2 };
	table[2] = (struct vring_desc) { r->rsp, rsp, WRITE, 0 };
	raw_desc(r, 0, 3, at, 3 * 16, INDIRECT, 0);
	raw_offer(r, 0, 3);
	ok(raw_used(r, 0, &id, &len, 1000) && id == 3 && len == rsp && !status_in(r),
	   "a command in an indirect table");

	/* Many at once, in order, across the end of the ring and of its index. */
	put_stats(r);
	raw_desc(r, 0, 0, r->req, 8, NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, rsp, WRITE, 0);
	for (unsigned int i = 0; i < 70000; i += 50) {
		bool all = true;

		for (unsigned int j = 0; j < 50; j++)
			raw_offer(r, 0, 0);
		for (unsigned int j = 0; j < 50; j++)
			all = all && raw_used(r, 0, &id, &len, 1000) && !id && len == rsp;
		if (!all) {
			ok(false, "70000 commands, at %u", i);
			return;
		}
	}
	ok(true, "70000 commands over a ring of 64");
}

static void short_chains(struct raw *r)
{
	uint32_t id, len;

	raw_recover(r);
	put_stats(r);
	raw_desc(r, 0, 0, r->req, 8, 0, 0);
	raw_offer(r, 0, 0);
	ok(raw_used(r, 0, &id, &len, 1000) && !len, "no room for a status: nothing is written");

	raw_desc(r, 0, 0, r->req, 8, NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, 7, WRITE, 0);
	raw_offer(r, 0, 0);
	ok(raw_used(r, 0, &id, &len, 1000) && !len &&
	   *(uint8_t *)raw_ptr(r, r->rsp) == 0xee, "room for 7 bytes: nothing is written");

	raw_desc(r, 0, 1, r->rsp, sizeof(struct virtio_rdma_query_stats_rsp) - 1, WRITE, 0);
	raw_offer(r, 0, 0);
	ok(raw_used(r, 0, &id, &len, 1000) && len == 8 && status_in(r) == VIRTIO_RDMA_S_INVAL,
	   "a response buffer one byte too short is an error, not half an answer");

	put_stats(r);
	raw_desc(r, 0, 0, r->rsp, 4096, WRITE, 0);
	raw_offer(r, 0, 0);
	ok(raw_used(r, 0, &id, &len, 1000) && len == 8 && status_in(r) == VIRTIO_RDMA_S_INVAL,
	   "no request at all is an error");

	put_stats(r);
	raw_desc(r, 0, 0, RAW_HOLE, 8, NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, 4096, WRITE, 0);
	raw_offer(r, 0, 0);
	ok(raw_used(r, 0, &id, &len, 1000) && len == 8 && status_in(r),
	   "a request outside of memory is an error");

	put_stats(r);
	raw_desc(r, 0, 0, r->req, 8, NEXT, 1);
	raw_desc(r, 0, 1, RAW_HOLE, 4096, WRITE, 0);
	raw_offer(r, 0, 0);
	ok(raw_used(r, 0, &id, &len, 1000) && !len, "a response outside of memory: length 0");

	raw_desc(r, 0, 1, r->rsp, 8, NEXT | WRITE, 2);
	raw_desc(r, 0, 2, UINT64_MAX - 100, UINT32_MAX, WRITE, 0);
	raw_offer(r, 0, 0);
	ok(raw_used(r, 0, &id, &len, 1000) && len == 8 && status_in(r) == VIRTIO_RDMA_S_FAULT,
	   "a response that is half outside of memory is a fault");
	ok(!vrd_device_is_broken(r->dev), "none of these breaks the device");
}

/* Each of these breaks the device; none may hang or crash it. */
enum forgery {
	HEAD_BEYOND, IDX_AHEAD, IDX_BACK, LOOP_SELF, LOOP_TWO, NEXT_BEYOND, READ_AFTER_WRITE,
	IND_NESTED, IND_WITH_NEXT, IND_EMPTY, IND_ODD, IND_HUGE, IND_HOLE, IND_NEXT_BEYOND,
	IND_LOOP, IND_MISALIGNED, IND_LONG, FORGERIES
};

static const char *const forgery_name[] = {
	"available entry beyond the table", "index ahead by more than the ring",
	"index moved back", "descriptor that is its own next", "loop of two descriptors",
	"next beyond the table", "readable after writable", "indirect in indirect",
	"indirect with a next", "empty indirect table", "indirect table of 17 bytes",
	"indirect table of 4 GiB", "indirect table outside of memory",
	"next beyond the indirect table", "loop in an indirect table",
	"misaligned indirect table", "chain of 1025 descriptors",
};

static void forge(struct raw *r, enum forgery f)
{
	struct raw_queue *q = &r->q[0];
	uint64_t at = raw_alloc(r, 2);
	struct vring_desc *table = raw_ptr(r, at);

	put_stats(r);
	raw_desc(r, 0, 0, r->req, 8, NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, 4096, WRITE, 0);
	table[0] = (struct vring_desc) { r->req, 8, NEXT, 1 };
	table[1] = (struct vring_desc) { r->rsp, 4096, WRITE, 0 };
	switch (f) {
	case HEAD_BEYOND:
		raw_offer(r, 0, q->num);
		return;
	case IDX_AHEAD:
		__atomic_store_n(&q->avail[1], (uint16_t)(q->avail[1] + q->num + 1),
				 __ATOMIC_RELEASE);
		raw_kick(r, 0);
		return;
	case IDX_BACK:
		__atomic_store_n(&q->avail[1], (uint16_t)(q->avail[1] - 1), __ATOMIC_RELEASE);
		raw_kick(r, 0);
		return;
	case LOOP_SELF:
		raw_desc(r, 0, 0, r->req, 8, NEXT, 0);
		break;
	case LOOP_TWO:
		raw_desc(r, 0, 1, r->rsp, 8, NEXT | WRITE, 1);
		break;
	case NEXT_BEYOND:
		raw_desc(r, 0, 0, r->req, 8, NEXT, q->num);
		break;
	case READ_AFTER_WRITE:
		raw_desc(r, 0, 1, r->rsp, 4096, WRITE | NEXT, 2);
		raw_desc(r, 0, 2, r->req, 8, 0, 0);
		break;
	case IND_NESTED:
		table[0] = (struct vring_desc) { at + 4096, 32, INDIRECT, 0 };
		raw_desc(r, 0, 0, at, 32, INDIRECT, 0);
		break;
	case IND_WITH_NEXT:
		raw_desc(r, 0, 0, at, 32, INDIRECT | NEXT, 1);
		break;
	case IND_EMPTY:
		raw_desc(r, 0, 0, at, 0, INDIRECT, 0);
		break;
	case IND_ODD:
		raw_desc(r, 0, 0, at, 17, INDIRECT, 0);
		break;
	case IND_HUGE:
		raw_desc(r, 0, 0, at, 0xfffffff0, INDIRECT, 0);
		break;
	case IND_HOLE:
		raw_desc(r, 0, 0, RAW_HOLE, 32, INDIRECT, 0);
		break;
	case IND_NEXT_BEYOND:
		table[0].next = 2;
		raw_desc(r, 0, 0, at, 32, INDIRECT, 0);
		break;
	case IND_LOOP:
		table[1] = (struct vring_desc) { r->rsp, 8, WRITE | NEXT, 1 };
		raw_desc(r, 0, 0, at, 32, INDIRECT, 0);
		break;
	case IND_LONG:
		at = raw_alloc(r, 5);
		table = raw_ptr(r, at);
		for (uint16_t i = 0; i < 1025; i++)
			table[i] = (struct vring_desc) { r->rsp, 4, WRITE | NEXT,
							 (uint16_t)(i + 1) };
		raw_desc(r, 0, 0, at, 1025 * 16, INDIRECT, 0);
		break;
	case IND_MISALIGNED:
		raw_desc(r, 0, 0, at + 4, 32, INDIRECT, 0);
		break;
	default:
		break;
	}
	raw_offer(r, 0, 0);
}

static void forged_chains(struct raw *r)
{
	uint32_t id, len;

	for (enum forgery f = 0; f < FORGERIES; f++) {
		ok(!raw_recover(r) && !vrd_device_is_broken(r->dev), "works after a reset");
		forge(r, f);
		ok(raw_broken(r), "breaks the device: %s", forgery_name[f]);
		raw_kick(r, 0);
		ok(!raw_used(r, 0, &id, &len, 20), "and nothing comes from it");
	}
	raw_recover(r);
}

static void bad_starts(struct raw *r)
{
	struct vrd_vq_config good, c;
	struct vrd_error err;

	vrd_device_reset(r->dev);
	raw_start(r, 0, 64);
	good = r->q[0].cfg;
	is(vrd_device_vq_start(r->dev, 0, &good, &err), -EBUSY, "a started queue is busy");
	raw_stop(r, 0);
	is(raw_stop(r, 0), 0, "stopping twice does no harm");

	static const uint16_t sizes[] = { 0, 3, 48, 32769, 65535 };

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		c = good;
		c.num = sizes[i];
		is(vrd_device_vq_start(r->dev, 0, &c, &err), -EINVAL, "size %u is refused",
		   c.num);
	}
	c = good;
	c.desc += 8;
	is(vrd_device_vq_start(r->dev, 0, &c, &err), -EINVAL, "misaligned descriptors");
	c = good;
	c.used = RAW_HOLE;
	is(vrd_device_vq_start(r->dev, 0, &c, &err), -EFAULT, "used ring outside of memory");
	c = good;
	c.desc = RAW_BASE + RAW_SIZE - 64 * 16 + 16;
	is(vrd_device_vq_start(r->dev, 0, &c, &err), -EFAULT, "descriptors that end outside");
	c = good;
	c.avail = UINT64_MAX - 1;
	is(vrd_device_vq_start(r->dev, 0, &c, &err), -EFAULT, "address that wraps");
	c.num = 32768;
	c.desc = RAW_BASE;
	c.avail = RAW_BASE + (1 << 20);
	c.used = RAW_BASE + (2 << 20);
	is(vrd_device_vq_start(r->dev, 0, &c, &err), 0, "the largest size is accepted");
	is(vrd_device_vq_start(r->dev, 99, &c, &err), -EINVAL, "a queue that does not exist");
	is(vrd_device_vq_stop(r->dev, 99, NULL), -EINVAL, "nor be stopped");
	is(vrd_device_vq_set_kick(r->dev, 99, -1), -EINVAL, "nor get a kick");
	vrd_device_reset(r->dev);
	raw_recover(r);
}

/* Commands continue where they stopped; while the queue is stopped none is taken. */
static void stop_and_go(struct raw *r)
{
	const uint32_t rsp = sizeof(struct virtio_rdma_query_stats_rsp);
	struct vrd_error err;
	uint32_t id, len;

	raw_recover(r);
	is(raw_stop(r, 0), 0, "the control queue stops");
	put_stats(r);
	raw_desc(r, 0, 0, r->req, 8, NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, rsp, WRITE, 0);
	raw_offer(r, 0, 0);
	ok(!raw_used(r, 0, &id, &len, 50), "a stopped queue is not served");
	is(vrd_device_vq_start(r->dev, 0, &r->q[0].cfg, &err), 0, "and starts again");
	ok(raw_used(r, 0, &id, &len, 1000) && len == rsp && !status_in(r),
	   "the command that waited is carried out, INIT still holds");
}

/* Memory that is removed under a running queue, and returns. */
static void lost_memory(struct raw *r)
{
	struct vrd_error err;
	uint32_t id, len;

	raw_recover(r);
	is(vrd_device_set_mem_table(r->dev, NULL, 0, &err), 0, "an empty memory table");
	put_stats(r);
	raw_offer(r, 0, 0);
	ok(raw_broken(r), "a kick of a queue without memory breaks the device");
	ok(!raw_used(r, 0, &id, &len, 20), "which touches nothing");
	vrd_device_reset(r->dev);
	raw_set_memory(r);
	is(raw_recover(r), 0, "works after a reset");
}

static void socket_call(struct raw *r)
{
	struct virtio_rdma_query_stats_rsp rsp;
	uint64_t count;
	int sv[2];

	raw_recover(r);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
		return;
	is(vrd_device_vq_set_call(r->dev, 0, sv[1]), 0, "a socket as call descriptor");
	close(sv[1]);
	is(read(sv[0], &count, sizeof(count)), 8, "a new call descriptor is signalled at once");
	/* The descriptor is not read: the device must not wait. */
	for (unsigned int i = 0; i < 2000; i++) {
		put_stats(r);
		raw_desc(r, 0, 0, r->req, 8, NEXT, 1);
		raw_desc(r, 0, 1, r->rsp, sizeof(rsp), WRITE, 0);
		raw_offer(r, 0, 0);
		for (unsigned int spin = 0; spin < 5000; spin++) {
			if (__atomic_load_n(&r->q[0].used[1], __ATOMIC_ACQUIRE) != r->q[0].seen)
				break;
			usleep(20);
		}
		if (r->q[0].used[1] == r->q[0].seen) {
			ok(false, "2000 commands into a socket that nobody reads: stuck at %u", i);
			return;
		}
		r->q[0].seen++;
	}
	ok(true, "2000 commands into a socket that nobody reads");
	close(sv[0]);
	put_stats(r);
	raw_offer(r, 0, 0);
	usleep(20000);
	ok(!vrd_device_is_broken(r->dev), "a closed call socket kills nobody");
	vrd_device_vq_set_call(r->dev, 0, r->q[0].call);
	raw_recover(r);
}

static void no_interrupt(struct raw *r)
{
	const uint32_t rsp = sizeof(struct virtio_rdma_query_stats_rsp);
	uint64_t count, before;
	struct pollfd p = { .fd = r->q[0].call, .events = POLLIN };

	raw_recover(r);
	while (read(r->q[0].call, &count, sizeof(count)) > 0)
		;
	before = raw_stat(r, "interrupts");
	__atomic_store_n(&r->q[0].avail[0], VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELEASE);
	put_stats(r);
	raw_desc(r, 0, 0, r->req, 8, NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, rsp, WRITE, 0);
	raw_offer(r, 0, 0);
	is(poll(&p, 1, 100), 0, "NO_INTERRUPT is honoured");
	is(raw_stat(r, "interrupts") - before, 0, "and counted as nothing");
}

static void event_idx(void)
{
	const uint32_t rsp = sizeof(struct virtio_rdma_query_stats_rsp);
	struct raw *r = raw_new(NULL, BASIC | EVENT_IDX);
	struct pollfd p = { .fd = r->q[0].call, .events = POLLIN };
	struct raw_queue *q = &r->q[0];
	uint64_t count;
	uint32_t id, len;

	is(raw_recover(r), 0, "EVENT_IDX: INIT succeeds");
	put_stats(r);
	raw_desc(r, 0, 0, r->req, 8, NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, rsp, WRITE, 0);
	/* used_event: notify when the third from now is done */
	__atomic_store_n(&q->avail[2 + q->num], (uint16_t)(q->seen + 2), __ATOMIC_RELEASE);
	usleep(1000);
	while (read(q->call, &count, sizeof(count)) > 0)
		;
	raw_offer(r, 0, 0);
	raw_offer(r, 0, 0);
	is(poll(&p, 1, 100), 0, "no interrupt before the wanted entry");
	raw_offer(r, 0, 0);
	is(poll(&p, 1, 1000), 1, "one interrupt at the wanted entry");
	for (int i = 0; i < 3; i++)
		ok(raw_used(r, 0, &id, &len, 1000) && len == rsp, "command %d is done", i);
	usleep(20000);
	/* avail_event lies behind the used ring */
	is(__atomic_load_n(&q->used[2 + 4 * q->num], __ATOMIC_ACQUIRE), q->avail[1],
	   "a kick is wanted for the next command");
	raw_free(r);
}

static void not_negotiated(void)
{
	struct raw *r = raw_new(NULL, BASIC & ~(1ULL << VIRTIO_RING_F_INDIRECT_DESC));

	raw_recover(r);
	forge(r, IND_NEXT_BEYOND);
	ok(raw_broken(r), "an indirect table that was not negotiated");
	raw_free(r);
}

/* The queue is rewritten while the device reads it. */
static void *flipper(void *opaque)
{
	struct raw *r = opaque;
	struct raw_queue *q = &r->q[0];
	unsigned int seed = 1;

	for (int i = 0; i < 200000 && !vrd_device_is_broken(r->dev); i++) {
		uint16_t d = rand_r(&seed) % 4;

		raw_desc(r, 0, d, rand_r(&seed) % 3 ? r->req : RAW_HOLE, rand_r(&seed) % 5000,
			 (uint16_t)(rand_r(&seed) % 8), (uint16_t)(rand_r(&seed) % 70));
		if (!(i % 16)) {
			__atomic_store_n(&q->avail[2 + i / 16 % q->num], d, __ATOMIC_RELAXED);
			__atomic_store_n(&q->avail[1], (uint16_t)(q->avail[1] + 1),
					 __ATOMIC_RELEASE);
			raw_kick(r, 0);
		}
	}
	return NULL;
}

static void flipped(struct raw *r)
{
	for (int i = 0; i < 20; i++) {
		pthread_t t;

		if (raw_recover(r)) {
			ok(false, "recovers from flipping");
			return;
		}
		put_stats(r);
		pthread_create(&t, NULL, flipper, r);
		pthread_join(t, NULL);
	}
	is(raw_recover(r), 0, "survives descriptors that change all the time");
}

int main(void)
{
	struct raw *r = raw_new(NULL, BASIC);

	good_chains(r);
	short_chains(r);
	forged_chains(r);
	bad_starts(r);
	stop_and_go(r);
	lost_memory(r);
	socket_call(r);
	no_interrupt(r);
	flipped(r);
	raw_free(r);
	not_negotiated();
	event_idx();
	return tap_done();
}
