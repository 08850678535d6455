// SPDX-License-Identifier: GPL-2.0-or-later
/* References on the poller's thread.  See reference.h. */
#include <stdbool.h>
#include <string.h>

#include "guest.h"
#include "poller_internal.h"
#include "reference.h"

/* ---- code on the poller --------------------------------------------------------- */

static struct {
	struct vrd_message msg;
	void (*fn)(void *arg);
	void *arg;
	_Atomic bool done;
} job;

static void run_job(struct vrd_poller *poller, struct vrd_message *msg)
{
	(void)poller;
	(void)msg;
	job.fn(job.arg);
	job.done = true;
}

void poller_start(struct vrd_engine *engine, void (*fn)(void *arg), void *arg)
{
	job.fn = fn;
	job.arg = arg;
	job.done = false;
	job.msg.fn = run_job;
	vrd_poller_send(&engine->pollers[0], &job.msg);
}

/* Spins, as a guest that waits for its completion does. */
void poller_join(void)
{
	while (!job.done)
		vrd_cpu_relax();
}

/* ---- lines and rings -------------------------------------------------------------- */

#define RING_ENTRIES	256

static struct {
	_Alignas(128) uint32_t there;
	_Alignas(128) uint32_t back;
	_Alignas(128) uint8_t ring[RING_ENTRIES][64];
	_Alignas(128) uint32_t head;
	_Alignas(128) uint32_t tail;
} ref;

#define TRIPS		4000U
#define ENTRIES		32768U

static void echo(void *arg)
{
	uint32_t seen = 0;

	(void)arg;
	while (seen != TRIPS + 1) {
		uint32_t now = __atomic_load_n(&ref.there, __ATOMIC_ACQUIRE);

		if (now == seen)
			continue;
		seen = now;
		__atomic_store_n(&ref.back, now, __ATOMIC_RELEASE);
	}
}

double reference_round_trip(void *engine)
{
	uint64_t start = 0;

	ref.there = 0;
	ref.back = 0;
	poller_start(engine, echo, NULL);
	for (uint32_t i = 1; i <= TRIPS + 1; i++) {
		__atomic_store_n(&ref.there, i, __ATOMIC_RELEASE);
		while (__atomic_load_n(&ref.back, __ATOMIC_ACQUIRE) != i)
			;
		/* The first sample includes the wait for the poller. */
		if (i == 1)
			start = guest_now_ns();
	}
	start = guest_now_ns() - start;
	poller_join();
	return (double)start / TRIPS;
}

/* Each entry is copied and released before the next one is read. */
static void consume(void *arg)
{
	uint64_t local[8], *sum = arg;
	uint32_t tail = 0;

	while (tail != ENTRIES) {
		uint32_t head = __atomic_load_n(&ref.head, __ATOMIC_ACQUIRE);

		for (; tail != head; tail++) {
			memcpy(local, ref.ring[tail % RING_ENTRIES], 64);
			*sum += local[0] + local[7];
			__atomic_store_n(&ref.tail, tail + 1, __ATOMIC_RELEASE);
		}
	}
}

static double ring_rate(struct vrd_engine *engine, uint32_t batch)
{
	static uint64_t sum;
	uint32_t tail = 0;
	uint64_t start;

	ref.head = 0;
	ref.tail = 0;
	poller_start(engine, consume, &sum);
	start = guest_now_ns();
	for (uint32_t i = 0; i < ENTRIES; i++) {
		while (i - tail >= RING_ENTRIES)
			tail = __atomic_load_n(&ref.tail, __ATOMIC_ACQUIRE);
		memset(ref.ring[i % RING_ENTRIES], (int)i, 64);
		if ((i + 1) % batch == 0 || i + 1 == ENTRIES)
			__atomic_store_n(&ref.head, i + 1, __ATOMIC_RELEASE);
	}
	while (__atomic_load_n(&ref.tail, __ATOMIC_ACQUIRE) != ENTRIES)
		;
	start = guest_now_ns() - start;
	poller_join();
	return ENTRIES * 1000.0 / start;
}

double reference_ring_one(void *engine)
{
	return ring_rate(engine, 1);
}

double reference_ring_16(void *engine)
{
	return ring_rate(engine, 16);
}

/* ---- copies ------------------------------------------------------------------------ */

static void copy_pieces(void *arg)
{
	struct reference_copy *copy = arg;
	uint64_t start = guest_now_ns();

	for (size_t i = 0; i < copy->num; i++)
		memcpy(copy->pieces[i].dst, copy->pieces[i].src, copy->pieces[i].length);
	copy->ns = guest_now_ns() - start;
}

void reference_copy(struct reference_copy *copy)
{
	poller_start(copy->engine, copy_pieces, copy);
	poller_join();
}
