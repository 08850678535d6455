// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A driver that is gone: after its queues stopped, the device changes no byte of
 * its memory, neither when another driver starts the queues elsewhere nor at a
 * reset, whatever was under way.  The objects that are destroyed have receives
 * that are in use, armed CQs and rings with doorbells.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_pair.h"
#include "shm.h"
#include "tap.h"

#define MEM_SIZE	(160U << 20)
#define BIG		(64U << 20)

static struct mem_pair p;
static struct guest_srq srq;
static struct guest_mr ma, mb;
static uint8_t *sa, *sb;

static void open_pair(void)
{
	static const struct guest_config cfg;

	mem_pair_open_with(&p, 1, MEM_SIZE, &cfg, &cfg);
	if (guest_srq_create(&p.b.ctx, p.b.pd, 16, 1, &srq))
		guest_fatal("SRQ");
	p.b.srq = &srq;
	mem_pair_qps(&p);
	mem_pair_connect(&p);
	sa = guest_alloc(p.a.g, BIG);
	sb = guest_alloc(p.b.g, BIG);
	if (guest_mr_reg(p.a.g, p.a.pd, sa, BIG, MEM_ALL_ACCESS, &ma) ||
	    guest_mr_reg(p.b.g, p.b.pd, sb, BIG, MEM_ALL_ACCESS, &mb))
		guest_fatal("regions");
}

/*
 * A long message into the SRQ of b, which is stopped in the middle of it; false:
 * it was complete before.
 */
static bool stop_in_the_middle(void)
{
	struct guest_sge r = { guest_addr(p.b.g, sb), BIG, mb.lkey };
	struct guest_sge s = { guest_addr(p.a.g, sa), BIG, ma.lkey };
	struct guest_wr wr = { .opcode = VIRTIO_RDMA_WR_SEND, .flags = VIRTIO_RDMA_WQE_SIGNALED,
			       .num_sge = 1, .sge = &s };
	struct virtio_rdma_cqe cqe;

	memset(sa, 0x5a, BIG);
	memset(sb, 0, BIG);
	guest_arm(&p.b.rcq, false);
	guest_post_srq(&srq, 42, &r, 1);
	guest_post_send(&p.a.qp, &wr);
	while (!__atomic_load_n(&sb[BIG / 8], __ATOMIC_RELAXED))
		;
	guest_stop_queues(p.b.g);
	if (!__atomic_load_n(&sb[BIG - 1], __ATOMIC_RELAXED))
		return true;
	guest_start_queues(p.b.g);
	guest_poll_wait(&p.a.scq, &cqe, MEM_WAIT_MS);
	guest_poll_wait(&p.b.rcq, &cqe, MEM_WAIT_MS);
	return false;
}

static uint8_t *new_rings;
#define NEW_RINGS	(1U << 20)

/* A new driver's queues, in pages that the old one did not use. */
static void start_elsewhere(void)
{
	struct guest *g = p.b.g;
	struct vrd_error err;
	uint64_t at;

	new_rings = guest_alloc(g, NEW_RINGS);
	at = guest_addr(g, new_rings);
	for (unsigned int i = g->num_vqs; i--; at += 3 * 65536) {
		struct vrd_vq_config c = { g->vqs[i].num, at, at + 65536, at + 2 * 65536, 0 };

		if (vrd_device_vq_start(g->dev, i, &c, &err))
			guest_fatal("queue %u: %s", i, err.msg);
	}
}

static void check(const char *what, void (*act)(void))
{
	uint8_t *before = malloc(MEM_SIZE);
	uint64_t first = MEM_SIZE, changed = 0;
	unsigned int tries = 0;

	new_rings = NULL;
	open_pair();
	while (!stop_in_the_middle())
		if (++tries == 20)
			break;
	if (tries == 20) {
		ok(true, "%s # SKIP each of 20 messages was complete before the stop", what);
	} else {
		memcpy(before, p.b.g->mem, MEM_SIZE);
		act();
		/* Timers, retries, a poller that falls asleep: all have had their time. */
		usleep(100000);
		for (uint64_t i = 0; i < MEM_SIZE; i++) {
			if (before[i] == p.b.g->mem[i] ||
			    (new_rings && &p.b.g->mem[i] >= new_rings &&
			     &p.b.g->mem[i] < new_rings + NEW_RINGS))
				continue;
			if (!changed++)
				first = i;
		}
		is(changed, 0, "%s: bytes of the old driver that changed (the first at 0x%llx)",
		   what, (unsigned long long)first);
	}
	free(before);
	vrd_device_reset(p.b.g->dev);
	guest_destroy(p.b.g);
	guest_destroy(p.a.g);
	vrd_engine_destroy(p.engine);
}

static void reset(void)
{
	vrd_device_reset(p.b.g->dev);
}

int main(void)
{
	check("another driver starts the queues elsewhere", start_elsewhere);
	check("reset", reset);
	return tap_done();
}
