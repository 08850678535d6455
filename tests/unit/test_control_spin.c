// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How many control threads spin after a command (core/spin_slots.h).
 *
 * A control thread that spins has switched off the kicks of the control queue.  The test
 * reads that flag in the memory of its guests.  Nobody sends a command meanwhile, and the time
 * of a spin is much longer than the test, so the result does not depend on the machine's speed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE		/* CPU_COUNT() */
#endif
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "guest.h"
#include "shm.h"
#include "spin_slots.h"
#include "tap.h"

#define POLL_US		600000000U
#define GUESTS_MORE	8
#define MAX_GUESTS	(4 + GUESTS_MORE)
#define TIMEOUT_NS	20000000000ULL
#define STABLE_MS	100

static struct guest *guests[MAX_GUESTS];
static char names[MAX_GUESTS][16];

static bool is_spinning(const struct guest *g)
{
	return vrd_load16((__le16 *)g->vqs[VIRTIO_RDMA_VQ_CONTROL].used) & VRING_USED_F_NO_NOTIFY;
}

static unsigned int count_spinning(unsigned int num)
{
	unsigned int spinning = 0;

	for (unsigned int i = 0; i < num; i++)
		spinning += guests[i] && is_spinning(guests[i]);
	return spinning;
}

/* Commands one after the other, after which the thread has reason to spin for the next one. */
static bool send_commands(struct guest *g)
{
	for (unsigned int i = 0; i < 4; i++) {
		struct virtio_rdma_query_device_req req = { 0 };
		struct virtio_rdma_query_device_rsp rsp;

		if (guest_command(g, VIRTIO_RDMA_CMD_QUERY_DEVICE, &req, &rsp))
			return false;
	}
	return true;
}

/* True if exactly @want threads spin for a while.  The threads decide soon after a response. */
static bool wait_for_spinning(unsigned int num, unsigned int want)
{
	uint64_t until = guest_now_ns() + TIMEOUT_NS;
	unsigned int stable = 0;

	while (stable < STABLE_MS && guest_now_ns() < until) {
		stable = count_spinning(num) == want ? stable + 1 : 0;
		usleep(1000);
	}
	return stable == STABLE_MS;
}

static void test_limit(void)
{
	is(vrd_spin_slots_limit(1), 2, "one CPU: two threads may spin");
	is(vrd_spin_slots_limit(2), 2, "two CPUs: two");
	is(vrd_spin_slots_limit(11), 2, "eleven: two");
	is(vrd_spin_slots_limit(12), 3, "twelve: three");
	is(vrd_spin_slots_limit(256), 64, "256: 64");
}

static void test_slots(void)
{
	struct vrd_spin_slots slots = { .free = 2 };

	ok(vrd_spin_slot_take(&slots) && vrd_spin_slot_take(&slots), "two slots can be taken");
	ok(!vrd_spin_slot_take(&slots), "a third one cannot");
	vrd_spin_slot_return(&slots);
	ok(vrd_spin_slot_take(&slots) && !vrd_spin_slot_take(&slots),
	   "a slot that was returned can be taken once");
}

/* Leaves 16 CPUs at most to the process, so that few guests suffice; returns the number. */
static unsigned int use_few_cpus(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set))
		guest_fatal("the CPUs cannot be counted");
	for (int cpu = 0; CPU_COUNT(&set) > 16; cpu++)
		CPU_CLR(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		guest_fatal("the CPUs cannot be chosen");
	return (unsigned int)CPU_COUNT(&set);
}

int main(void)
{
	struct vrd_engine *engine;
	unsigned int limit, num, i;
	bool answered = true;

	test_limit();
	test_slots();

	limit = vrd_spin_slots_limit(use_few_cpus());
	num = limit + GUESTS_MORE;

	engine = guest_engine(1, POLL_US);
	for (i = 0; i < num; i++) {
		snprintf(names[i], sizeof(names[i]), "spin%u", i);
		guests[i] = guest_create(engine, &(struct guest_config){
			.name = names[i], .id = (uint8_t)(i + 1), .mem_size = 1 << 20,
		});
		answered &= send_commands(guests[i]);
	}
	ok(answered, "the commands of %u devices are answered", num);
	ok(wait_for_spinning(num, limit), "%u control threads spin, not more", limit);
	diag("%u of %u spin", count_spinning(num), num);

	for (i = 0, answered = true; i < num; i++)
		answered &= send_commands(guests[i]);
	ok(answered, "each device answers, whether its thread spins or not");
	ok(wait_for_spinning(num, limit), "%u control threads spin afterwards", limit);

	for (i = 0; !is_spinning(guests[i]); i++)
		;
	guest_destroy(guests[i]);
	guests[i] = NULL;
	ok(wait_for_spinning(num, limit - 1), "the slot of a device that ends is free");
	for (i = 0; !guests[i] || is_spinning(guests[i]); i++)
		;
	send_commands(guests[i]);
	ok(wait_for_spinning(num, limit) && is_spinning(guests[i]), "another one takes it");

	for (i = 0; i < num; i++)
		if (guests[i])
			guest_destroy(guests[i]);
	vrd_engine_destroy(engine);
	return tap_done();
}
