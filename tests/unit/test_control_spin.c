// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How many control threads spin after a command (core/spin_slots.h).
 *
 * A control thread that spins has switched off the kicks of the control queue.  The test
 * reads that flag in the memory of its guests.  Nobody sends a command meanwhile, and the time
 * of a spin is much longer than the test, so the result does not depend on the machine's speed.
 * The poller sleeps, except in the last test.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE		/* CPU_COUNT() */
#endif
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "guest.h"
#include "poller_internal.h"
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

static bool send_all(unsigned int num)
{
	bool answered = true;

	for (unsigned int i = 0; i < num; i++)
		answered &= !guests[i] || send_commands(guests[i]);
	return answered;
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
	struct vrd_spin_slots slots = { .free = 2, .limit = 2, .cpus = 4 };

	ok(vrd_spin_slot_take(&slots) && vrd_spin_slot_take(&slots), "two slots can be taken");
	ok(!vrd_spin_slot_take(&slots), "a third one cannot");
	vrd_spin_slot_return(&slots);
	ok(vrd_spin_slot_take(&slots) && !vrd_spin_slot_take(&slots),
	   "a slot that was returned can be taken once");

	ok(!vrd_spin_slots_crowded(&slots, 0) && !vrd_spin_slots_crowded(&slots, 1),
	   "four CPUs: two threads and one poller, beside a guest");
	ok(vrd_spin_slots_crowded(&slots, 2), "but not two pollers");
	slots.cpus = 2;
	ok(!vrd_spin_slots_crowded(&slots, 0) && vrd_spin_slots_crowded(&slots, 1),
	   "two CPUs: only while pollers sleep");
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

static _Atomic bool stop_poller;

/* Keeps the poller awake until stop_poller is set. */
static void hold_poller(struct vrd_poller *poller, struct vrd_message *msg)
{
	(void)poller;
	(void)msg;
	while (!atomic_load(&stop_poller))
		vrd_cpu_relax();
}

/*
 * A poller wakes up, and stays awake: the threads that have no CPU of their own stop spinning.
 */
static void test_awake(struct vrd_engine *engine, unsigned int num, unsigned int limit,
		       unsigned int cpus)
{
	unsigned int want = cpus > 2 ? cpus - 2 : 0;
	static struct vrd_message msg = { .fn = hold_poller };

	if (want > limit)
		want = limit;
	vrd_poller_send(&engine->pollers[0], &msg);
	ok(wait_for_spinning(num, want), "%u spin while a poller is awake", want);
	atomic_store(&stop_poller, true);
}

int main(void)
{
	struct vrd_engine *engine;
	unsigned int limit, num, cpus, i;
	bool answered = true;

	test_limit();
	test_slots();

	cpus = use_few_cpus();
	limit = vrd_spin_slots_limit(cpus);
	num = limit + GUESTS_MORE;

	/* The poller sleeps at once; the control threads spin. */
	engine = guest_engine(1, 0);
	while (!atomic_load(&engine->pollers[0].sleeping))
		usleep(1000);
	engine->poll_ns = POLL_US * 1000ULL;
	for (i = 0; i < num; i++) {
		snprintf(names[i], sizeof(names[i]), "spin%u", i);
		guests[i] = guest_create(engine, &(struct guest_config){
			.name = names[i], .id = (uint8_t)(i + 1), .mem_size = 1 << 20,
		});
		answered &= send_commands(guests[i]);
	}
	ok(answered, "the commands of %u devices are answered", num);
	/* The poller was awake for a moment whenever a device was opened. */
	ok(send_all(num), "again, while the poller sleeps");
	ok(wait_for_spinning(num, limit), "%u control threads spin, not more", limit);
	diag("%u of %u spin", count_spinning(num), num);
	ok(send_all(num), "each device answers, whether its thread spins or not");
	ok(wait_for_spinning(num, limit), "%u control threads spin afterwards", limit);

	for (i = 0; !is_spinning(guests[i]); i++)
		;
	guest_destroy(guests[i]);
	guests[i] = NULL;
	ok(send_all(num) && wait_for_spinning(num, limit),
	   "another one takes the slot of a device that ends");

	test_awake(engine, num, limit, cpus);

	for (i = 0; i < num; i++)
		if (guests[i])
			guest_destroy(guests[i]);
	vrd_engine_destroy(engine);
	return tap_done();
}
