// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzer of the virtqueue structures: descriptors, indirect tables, available and used
 * rings, sizes and addresses of the queues, kick and call descriptors; events that the
 * device puts on them; a second thread that flips their words.
 *
 * Whatever the queues contain, the device may only declare itself broken.  Each input ends
 * with a reset, after which a command is answered.
 */
#include <endian.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport.h"
#include "fuzz.h"
#include "guest_shm.h"
#include "virtq.h"

#define QUEUES		5			/* control, event, doorbell, two vectors */
#define SIZE		64			/* of a queue, unless the input says otherwise */
#define BUFFERS		16			/* pages */
#define MAX_WAIT	200			/* number of looks at a queue that does not move */

struct queue {
	struct vring_desc *desc;		/* each in a page of its own */
	uint16_t *avail, *used;
	uint16_t next;				/* of the available ring */
	bool started;
	bool no_kick;				/* nobody watches our descriptor */
};

static struct vrd_engine *engine;
static struct fuzz_guest f;
static struct guest *g;
static struct queue queues[QUEUES];
static uint8_t *buffers;
static int sockets[2];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct guest_config cfg = { .name = "a", .id = 1, .mem_size = 2 << 20, .num_vectors = 2 };

	(void)argc;
	(void)argv;
	engine = guest_engine(1, 0);
	fuzz_guest_open(&f, engine, &cfg);
	g = f.g;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		fuzz_fail("no sockets");
	return 0;
}

/*
 * Waits until the kicks were seen and the control queue is empty, or the device is broken.
 * The second thread may keep the device busy without end, so the wait is limited.
 */
static void settle(void)
{
	struct vrd_vq *control = g->dev->vqs[VIRTIO_RDMA_VQ_CONTROL];
	struct pollfd kicks[QUEUES];
	bool idle = false;

	for (unsigned int i = 0; i < QUEUES; i++) {
		bool seen = i != VIRTIO_RDMA_VQ_DOORBELL && queues[i].started && !queues[i].no_kick;

		kicks[i] = (struct pollfd){ .fd = seen ? g->vqs[i].kick : -1, .events = POLLIN };
	}
	for (unsigned int n = 0; n < MAX_WAIT && !idle && !vrd_device_is_broken(g->dev); n++) {
		sched_yield();
		if (poll(kicks, QUEUES, 0) > 0)
			continue;
		vrd_lock(&control->lock);
		idle = !control->running || control->broken || !control->avail ||
			vrd_load16((const __le16 *)&control->avail[1]) == control->last_avail;
		vrd_unlock(&control->lock);
	}
	fuzz_step(engine, 1);
}

/* ---- the queues' words -------------------------------------------------------- */

/* Usually one of the buffers, or the queues themselves. */
static uint64_t pick_addr(struct fuzz_in *in)
{
	uint8_t how = fuzz_u8(in);

	if (how < 0x80)
		return guest_addr(g, buffers) + (uint64_t)(how & 15) * GUEST_PAGE +
			(how >> 4) * 16;
	if (how < 0xc0)
		return guest_addr(g, queues[how % QUEUES].desc) + (how >> 3 & 7) * 512;
	return fuzz_pick64(in, g->base + g->cfg.mem_size - 16);
}

static uint32_t pick_len(struct fuzz_in *in)
{
	static const uint32_t lengths[] = { 8, 16, 24, 40, 48, 64, 512, 4096 };
	uint8_t how = fuzz_u8(in);

	if (how < 0x80)
		return lengths[how & 7];
	return how < 0xe0 ? how & 31 : fuzz_pick32(in, 70000);
}

static void put_desc(struct fuzz_in *in, struct vring_desc *d, uint16_t self)
{
	struct vring_desc v = { .addr = htole64(pick_addr(in)), .len = htole32(pick_len(in)) };
	uint8_t flags = fuzz_u8(in);

	v.flags = htole16(flags < 0xf0 ? flags & 7 : fuzz_u16(in));
	flags = fuzz_u8(in);
	v.next = htole16(flags < 0x40 ? self + 1 : flags < 0xf0 ? flags : fuzz_u16(in));
	memcpy(d, &v, sizeof(v));
}

static void set_desc(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in), at = fuzz_u8(in);

	put_desc(in, &queues[which % QUEUES].desc[at], at);
}

static void set_indirect(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct vring_desc *table = (void *)(buffers + (which & 15) * GUEST_PAGE);

	for (unsigned int i = 0; i <= which >> 4; i++)
		put_desc(in, &table[i], i);
}

static void kick(unsigned int q)
{
	uint64_t one = 1;

	if (write(g->vqs[q].kick, &one, sizeof(one)) < 0)
		return;
}

/* Makes heads available, and kicks. */
static void offer(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct queue *q = &queues[which % QUEUES];
	unsigned int n = (which >> 5) + 1;
	uint8_t head = fuzz_u8(in);

	while (n--) {
		q->avail[2 + (q->next++ & (SIZE - 1))] = htole16(head);
		head++;
	}
	vrd_store16_release((__le16 *)&q->avail[1], q->next);
	kick(which % QUEUES);
}

static void set_word(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in), at = fuzz_u8(in);
	struct queue *q = &queues[which % QUEUES];
	uint16_t value = fuzz_u16(in);

	if (which & 0x80) {
		q->next = value;
		at = 1;
	}
	vrd_store16((__le16 *)&(which & 0x40 ? q->used : q->avail)[at], value);
	kick(which % QUEUES);
}

static void set_buffer(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in), len = fuzz_u8(in);

	fuzz_bytes(in, buffers + (which & 15) * GUEST_PAGE + (which >> 4) * 16, len);
}

static void flip(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in), at = fuzz_u8(in);
	struct queue *q = &queues[which % QUEUES];
	uint32_t *word, now;

	switch (which >> 6) {
	case 0: word = (uint32_t *)q->desc + at; break;
	case 1: word = (uint32_t *)q->avail + at % 32; break;
	case 2: word = (uint32_t *)(buffers + (at & 15) * GUEST_PAGE) + (at >> 4); break;
	default: word = (uint32_t *)q->used + at; break;
	}
	now = __atomic_load_n(word, __ATOMIC_RELAXED);
	fuzz_flip(word, now, fuzz_pick32(in, now ^ 1U << (at & 31)));
}

/* ---- the front end's part --------------------------------------------------------- */

static bool start(unsigned int i, const struct vrd_vq_config *cfg)
{
	struct vrd_error err;

	if (vrd_device_vq_start(g->dev, i, cfg, &err))
		return false;
	queues[i].started = true;
	return true;
}

static struct vrd_vq_config usual(unsigned int i)
{
	return (struct vrd_vq_config){
		.num = SIZE, .desc = guest_addr(g, queues[i].desc),
		.avail = guest_addr(g, queues[i].avail), .used = guest_addr(g, queues[i].used),
	};
}

static void restart(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	unsigned int i = which % QUEUES;
	struct vrd_vq_config cfg = usual(i);
	uint16_t last = 0;

	vrd_device_vq_stop(g->dev, i, &last);
	queues[i].started = false;
	if (which & 0x80)
		return;
	cfg.num = fuzz_pick32(in, which & 0x40 ? SIZE : 256);
	cfg.desc = fuzz_pick64(in, cfg.desc);
	cfg.avail = fuzz_pick64(in, cfg.avail);
	cfg.used = fuzz_pick64(in, cfg.used);
	cfg.last_avail = fuzz_pick32(in, last);
	start(i, &cfg);
}

static void set_fd(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	unsigned int i = which % (QUEUES + 1);
	int fd;

	switch (which >> 6) {
	case 0: fd = -1; break;
	case 1: fd = sockets[0]; break;
	case 2: fd = 12345; break;
	default: fd = which & 0x20 ? g->vqs[i % QUEUES].kick : g->vqs[i % QUEUES].call; break;
	}
	if (which & 0x20 && i < QUEUES)
		queues[i].no_kick = fd != g->vqs[i].kick;
	if (which & 0x20)
		vrd_device_vq_set_kick(g->dev, i, fd);
	else
		vrd_device_vq_set_call(g->dev, i, fd);
}

/* Events of every type, and completion events of objects that commands created. */
static void raise_event(struct fuzz_in *in)
{
	uint8_t type = fuzz_u8(in), n = fuzz_u8(in);

	for (unsigned int i = 0; i <= (n & 63); i++)
		vrd_event_raise(g->dev, type & 15, i);
}

static void reset(uint64_t features)
{
	struct vrd_error err;

	vrd_device_reset(g->dev);
	if (vrd_device_set_features(g->dev, vrd_device_features(g->dev) & features, &err))
		fuzz_fail("features: %s", err.msg);
	for (unsigned int i = 0; i < QUEUES; i++)
		queues[i].started = false;
}

/* A valid command, in buffers 0 and 8. */
static void command(struct fuzz_in *in)
{
	static const struct { uint8_t op, size, words[4]; } list[] = {
		{ VIRTIO_RDMA_CMD_INIT, sizeof(struct virtio_rdma_init_req), { 2 } },
		{ VIRTIO_RDMA_CMD_QUERY_DEVICE, 8, { 0 } },
		{ VIRTIO_RDMA_CMD_QUERY_PORT, 16, { 1 } },
		{ VIRTIO_RDMA_CMD_QUERY_STATS, 8, { 0 } },
		{ VIRTIO_RDMA_CMD_CREATE_CTX, sizeof(struct virtio_rdma_create_ctx_req), { 1 } },
		{ VIRTIO_RDMA_CMD_ALLOC_PD, 16, { 1 } },
		{ VIRTIO_RDMA_CMD_DESTROY_CTX, 16, { 1 } },
		{ 99, 8, { 0 } },
	};
	uint8_t which = fuzz_u8(in), pieces = fuzz_u8(in);
	struct queue *q = &queues[0];
	unsigned int k = which & 7, first = which >> 3 & 15, n = 0, size = list[k].size;
	uint32_t *words = (uint32_t *)buffers;
	uint64_t req = guest_addr(g, buffers), rsp = req + 8 * GUEST_PAGE;

	memset(buffers, 0, 256);
	words[0] = htole32(list[k].op);
	words[1] = htole32(size);
	for (unsigned int i = 0; i < 4; i++)
		words[2 + i] = htole32(list[k].words[i]);
	if (list[k].op == VIRTIO_RDMA_CMD_CREATE_CTX)
		memcpy(&words[4], &(uint64_t){ guest_addr(g, buffers + 15 * GUEST_PAGE) }, 8);
	fuzz_mutate(in, buffers, size);
	/* The request in one piece or two, the response likewise. */
	if (pieces & 1) {
		q->desc[first + n++] = (struct vring_desc){
			htole64(req), htole32(5), htole16(1), htole16(first + 1) };
		q->desc[first + n++] = (struct vring_desc){
			htole64(req + 5), htole32(size - 5), htole16(1), htole16(first + 2) };
	} else {
		q->desc[first + n++] = (struct vring_desc){
			htole64(req), htole32(size), htole16(1), htole16(first + 1) };
	}
	if (pieces & 2) {
		q->desc[first + n] = (struct vring_desc){
			htole64(rsp), htole32(3), htole16(3), htole16(first + n + 1) };
		n++;
	}
	q->desc[first + n++] = (struct vring_desc){
		htole64(rsp + 3), htole32(pieces & 4 ? 512 : 7), htole16(2), 0 };
	q->avail[2 + (q->next++ & (SIZE - 1))] = htole16(first);
	vrd_store16_release((__le16 *)&q->avail[1], q->next);
	kick(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	uint8_t how = fuzz_u8(&in);

	guest_stop_queues(g);
	/* with or without indirect descriptors and the event index */
	reset(how & 0x20 ? 3ULL << 32 : ~0ULL);
	fuzz_guest_rewind(&f);
	for (unsigned int i = 0; i < QUEUES; i++) {
		struct queue *q = &queues[i];
		struct vrd_vq_config cfg;

		q->desc = fuzz_guest_pages(&f, 1);
		q->avail = fuzz_guest_pages(&f, 1);
		q->used = fuzz_guest_pages(&f, 1);
		q->next = 0;
		q->no_kick = false;
		cfg = usual(i);
		vrd_device_vq_set_kick(g->dev, i, g->vqs[i].kick);
		vrd_device_vq_set_call(g->dev, i, g->vqs[i].call);
		if (how >> i & 1 && !start(i, &cfg))
			fuzz_fail("queue %u does not start", i);
	}
	buffers = fuzz_guest_pages(&f, BUFFERS);

	for (unsigned int n = 0; n < FUZZ_MAX_OPS && !fuzz_done(&in); n++) {
		switch (fuzz_u8(&in) & 15) {
		case 0: break;
		case 1: set_desc(&in); break;
		case 2: case 3: offer(&in); break;
		case 4: set_indirect(&in); break;
		case 5: set_word(&in); break;
		case 6: set_buffer(&in); break;
		case 7: case 8: command(&in); break;
		case 9: restart(&in); break;
		case 10: set_fd(&in); break;
		case 11: raise_event(&in); break;
		case 12: fuzz_guest_memory(&f, fuzz_u8(&in)); break;
		case 13: flip(&in); break;
		case 14: kick(fuzz_u8(&in) % QUEUES); break;
		default: settle(); break;
		}
	}
	settle();
	fuzz_flip_stop();

	/* A reset restores everything. */
	fuzz_guest_memory(&f, 0);
	reset(3ULL << 32);
	f.stopped = true;
	fuzz_guest_end(&f);
	return 0;
}
