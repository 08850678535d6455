// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the data path costs with no virtual machine: the test guest on one CPU,
 * one poller on another.
 *
 *   native [-g CPU] [-p CPU] [-n ROUNDS]
 *
 * Machines differ, and one machine differs from moment to moment: so each round
 * measures the cache-line round trip between the two CPUs and a plain
 * single-producer ring of 64-byte entries beside the device, and what is
 * printed are medians over the rounds.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "shm.h"

#define SIGNALED	VIRTIO_RDMA_WQE_SIGNALED
#define W		VIRTIO_RDMA_WR_RDMA_WRITE
#define MAX_ROUNDS	1001

static int guest_cpu, poller_cpu = 1;
static struct guest_side sa, sb;

static void pin(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		guest_fatal("CPU %d cannot be used", cpu);
}

/* ---- references ------------------------------------------------------------- */

static struct {
	_Alignas(128) uint32_t there;
	_Alignas(128) uint32_t back;
	_Alignas(128) uint8_t ring[256][64];
	_Alignas(128) uint32_t head;
	_Alignas(128) uint32_t tail;
	_Alignas(128) bool stop;
	unsigned int mode;		/* 0: echo, 1: consume */
} ref;

static void *echo(void *arg)
{
	uint32_t seen = 0;

	(void)arg;
	while (!__atomic_load_n(&ref.stop, __ATOMIC_RELAXED)) {
		uint32_t now = __atomic_load_n(&ref.there, __ATOMIC_ACQUIRE);

		if (now == seen)
			continue;
		seen = now;
		__atomic_store_n(&ref.back, now, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void *consume(void *arg)
{
	uint64_t local[8], sum = 0;
	uint32_t tail = 0;

	(void)arg;
	while (!__atomic_load_n(&ref.stop, __ATOMIC_RELAXED)) {
		uint32_t head = __atomic_load_n(&ref.head, __ATOMIC_ACQUIRE);

		for (; tail != head; tail++) {
			memcpy(local, ref.ring[tail % 256], 64);
			sum += local[0] + local[7];
			__atomic_store_n(&ref.tail, tail + 1, __ATOMIC_RELEASE);
		}
	}
	return (void *)(uintptr_t)sum;
}

/* Pinned from the start: with a real-time priority it might never move there. */
static pthread_t start_there(void *(*fn)(void *arg))
{
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(poller_cpu, &cpus);
	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	if (pthread_create(&thread, &attr, fn, NULL))
		guest_fatal("no thread on CPU %d", poller_cpu);
	pthread_attr_destroy(&attr);
	return thread;
}

static double round_trip_ns(void)
{
	const unsigned int n = 20000;
	pthread_t thread;
	uint64_t start;

	ref.there = ref.back = 0;
	ref.stop = false;
	thread = start_there(echo);
	__atomic_store_n(&ref.there, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&ref.back, __ATOMIC_ACQUIRE) != 1)
		;
	start = guest_now_ns();
	for (uint32_t i = 2; i < n + 2; i++) {
		__atomic_store_n(&ref.there, i, __ATOMIC_RELEASE);
		while (__atomic_load_n(&ref.back, __ATOMIC_ACQUIRE) != i)
			;
	}
	start = guest_now_ns() - start;
	__atomic_store_n(&ref.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	return (double)start / n;
}

/* Millions of 64-byte entries per second, published one by one. */
static double ring_rate(void)
{
	const uint32_t n = 200000;
	pthread_t thread;
	uint64_t start;
	uint32_t tail = 0;

	ref.head = ref.tail = 0;
	ref.stop = false;
	thread = start_there(consume);
	start = guest_now_ns();
	for (uint32_t i = 0; i < n; i++) {
		while (i - tail >= 256)
			tail = __atomic_load_n(&ref.tail, __ATOMIC_ACQUIRE);
		memset(ref.ring[i % 256], i, 64);
		__atomic_store_n(&ref.head, i + 1, __ATOMIC_RELEASE);
	}
	while (__atomic_load_n(&ref.tail, __ATOMIC_ACQUIRE) != n)
		;
	start = guest_now_ns() - start;
	__atomic_store_n(&ref.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	return n * 1000.0 / start;
}

/* ---- the device ---------------------------------------------------------------- */

static void expect_success(void)
{
	struct virtio_rdma_cqe cqe;

	while (!guest_poll(&sa.cq, &cqe))
		;
	if (cqe.status)
		guest_fatal("completion with status %u", cqe.status);
}

/* One WRITE of 8 bytes at a time, from post to completion. */
static double latency_ns(bool use_inline)
{
	const unsigned int n = 10000;
	uint64_t data = 1, start;
	struct guest_sge sge = { guest_addr(sa.g, sa.mem), 8, sa.mr.lkey };
	struct guest_wr wr = {
		.opcode = W, .flags = SIGNALED | (use_inline ? VIRTIO_RDMA_WQE_INLINE : 0),
		.num_sge = 1, .sge = &sge, .inline_data = &data, .inline_len = 8,
		.remote_addr = guest_addr(sb.g, sb.mem), .rkey = sb.mr.rkey,
	};

	guest_post_send(&sa.qp, &wr);
	expect_success();
	start = guest_now_ns();
	for (unsigned int i = 0; i < n; i++) {
		guest_post_send(&sa.qp, &wr);
		expect_success();
	}
	return (double)(guest_now_ns() - start) / n;
}

/*
 * WRITEs of 64 bytes, @batch for each ring of the doorbell, every @signal-th
 * signaled; 128 under way.  Millions per second.
 */
static double write_rate(unsigned int batch, unsigned int signal)
{
	const unsigned int n = 256 * 1024;
	struct guest_sge sge = { guest_addr(sa.g, sa.mem), 64, sa.mr.lkey };
	struct guest_wr wr = {
		.opcode = W, .num_sge = 1, .sge = &sge,
		.remote_addr = guest_addr(sb.g, sb.mem), .rkey = sb.mr.rkey,
	};
	uint32_t first = sa.qp.sq.producer, posted = 0, done = 0;
	struct virtio_rdma_cqe cqe;
	uint64_t start = guest_now_ns();

	while (done < n) {
		while (posted < n && posted - done <= 128 - batch) {
			for (unsigned int i = 0; i < batch; i++) {
				posted++;
				wr.flags = posted % signal ? 0 : SIGNALED;
				guest_write_send(&sa.qp, &wr);
			}
			guest_ring_sq(&sa.qp);
			if (posted - done > 64)
				break;
		}
		while (guest_poll(&sa.cq, &cqe)) {
			if (cqe.status)
				guest_fatal("completion with status %u", cqe.status);
			done = le32toh(cqe.wqe_index) - first + 1;
		}
	}
	return n * 1000.0 / (guest_now_ns() - start);
}

/* ---- rounds ----------------------------------------------------------------------- */

enum { RTT, RING, LAT_INLINE, LAT_SGE, RATE_1, RATE_1_16, RATE_16, NUM_FIGURES };

static const char *const names[NUM_FIGURES] = {
	"cache-line round trip, ns", "single-producer ring, M/s", "WRITE 8 B inline, ns",
	"WRITE 8 B, ns", "WRITE 64 B one by one, all signaled, M/s",
	"WRITE 64 B one by one, 1 of 16 signaled, M/s", "WRITE 64 B by 16, M/s",
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	struct vrd_engine_config cfg = { .poll_us = 1000000, .poller_cpus = &poller_cpu };
	static double figures[NUM_FIGURES][MAX_ROUNDS], median[NUM_FIGURES];
	unsigned int rounds = 15;
	struct vrd_engine *engine;
	struct vrd_error err;
	struct guest *a, *b;
	int opt;

	while ((opt = getopt(argc, argv, "g:p:n:")) != -1) {
		if (opt == 'g')
			guest_cpu = atoi(optarg);
		else if (opt == 'p')
			poller_cpu = atoi(optarg);
		else if (opt == 'n')
			rounds = atoi(optarg);
		else
			return 2;
	}
	if (rounds < 1 || rounds > MAX_ROUNDS)
		return 2;
	pin(guest_cpu);

	for (unsigned int i = 0; i < rounds; i++) {
		figures[RTT][i] = round_trip_ns();
		figures[RING][i] = ring_rate();
		/* A spinning poller would be in the way of the references. */
		if (vrd_engine_create(&cfg, &engine, &err))
			guest_fatal("%s (%s)", err.msg, err.hint);
		a = guest_create(engine, &(struct guest_config){ .id = 1 });
		b = guest_create(engine, &(struct guest_config){ .id = 2 });
		guest_side_open(a, 65536, 1024, NULL, &sa);
		guest_side_open(b, 65536, 1024, NULL, &sb);
		guest_qp_connect_pair(&sa.qp, &sb.qp);
		latency_ns(true);
		figures[LAT_INLINE][i] = latency_ns(true);
		figures[LAT_SGE][i] = latency_ns(false);
		figures[RATE_1][i] = write_rate(1, 1);
		figures[RATE_1_16][i] = write_rate(1, 16);
		figures[RATE_16][i] = write_rate(16, 16);
		guest_destroy(a);
		guest_destroy(b);
		vrd_engine_destroy(engine);
	}
	for (unsigned int f = 0; f < NUM_FIGURES; f++) {
		qsort(figures[f], rounds, sizeof(double), compare);
		median[f] = figures[f][rounds / 2];
		printf("%-48s %8.1f   (%.1f .. %.1f)\n", names[f], median[f], figures[f][0],
		       figures[f][rounds - 1]);
	}
	printf("WRITE 8 B inline: %.2f round trips; 8 B: %.2f; rate one by one: %.2f of the ring\n",
	       median[LAT_INLINE] / median[RTT], median[LAT_SGE] / median[RTT],
	       median[RATE_1] / median[RING]);
	return 0;
}
