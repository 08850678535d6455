// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Pollers: sleeping and waking without a lost wake-up, idling without CPU time, timers,
 * several pollers and devices with objects that are created and destroyed under traffic, and
 * devices that are stopped and started under traffic.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "transport.h"
#include "guest.h"
#include "objects.h"
#include "poller_internal.h"
#include "shm.h"
#include "tap.h"

#define TIMEOUT_MS	20000
#define SIGNALED	VIRTIO_RDMA_WQE_SIGNALED
#define W		VIRTIO_RDMA_WR_RDMA_WRITE

/* Fewer where a sanitizer makes each of them slow. */
static unsigned int scaled(unsigned int n)
{
	const char *scale = getenv("VRD_TEST_SCALE");

	return scale ? n / atoi(scale) : n;
}

static void post_write(struct guest_side *from, const struct guest_side *to, uint32_t length)
{
	guest_post_rdma(&from->qp, W, SIGNALED, from->mem, length, from->mr.lkey,
			guest_addr(to->g, to->mem), to->mr.rkey);
}

static bool next_is_good(struct guest_side *side)
{
	struct virtio_rdma_cqe cqe;

	return guest_poll_wait(&side->cq, &cqe, TIMEOUT_MS) && !cqe.status;
}

/* ---- sleep -------------------------------------------------------------------- */

/* Posts one and waits, @n times, with pauses of varying length around the budget. */
static void sleep_and_wake(unsigned int poll_us, unsigned int n, bool pauses)
{
	struct vrd_engine *engine = guest_engine(1, poll_us);
	struct guest *g = guest_create(engine, &(struct guest_config){ .id = 1 });
	struct guest_side side;
	uint32_t seed = poll_us + 1;
	unsigned int i;

	guest_side_open(g, 8192, 64, NULL, &side);
	if (guest_qp_connect(&side.qp, g->gid, side.qp.qpn))
		guest_fatal("no connection");
	for (i = 0; i < n; i++) {
		post_write(&side, &side, 8);
		if (!next_is_good(&side))
			break;
		seed = seed * 1664525 + 1013904223;
		for (unsigned int wait = pauses ? seed >> 22 : 0; wait; wait--)
			vrd_cpu_relax();
	}
	ok(i == n, "budget %u us: %u requests one by one, none is lost", poll_us, n);
	diag("%llu wake-ups for %llu notifications", (unsigned long long)guest_stat(g, "wakeup"),
	     (unsigned long long)g->kicks);
	guest_side_close(&side);
	guest_destroy(g);
	vrd_engine_destroy(engine);
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void test_idle(void)
{
	struct vrd_engine *engine = guest_engine(4, 50);
	struct guest *g = guest_create(engine, &(struct guest_config){ .id = 1 });
	struct guest_side side;
	uint64_t before, turns;

	guest_side_open(g, 8192, 64, NULL, &side);
	if (guest_qp_connect(&side.qp, g->gid, side.qp.qpn))
		guest_fatal("no connection");
	post_write(&side, &side, 8);
	ok(next_is_good(&side), "a request before idling");
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);

	before = cpu_ns();
	turns = guest_engine_stat(engine, "poller_turns");
	nanosleep(&(struct timespec){ .tv_nsec = 500000000 }, NULL);
	ok(cpu_ns() - before < 5000000, "idle for 500 ms: %llu us of CPU time",
	   (unsigned long long)(cpu_ns() - before) / 1000);
	ok(guest_engine_stat(engine, "poller_turns") == turns, "and not one turn");
	post_write(&side, &side, 8);
	ok(next_is_good(&side), "a request after idling");
	guest_side_close(&side);
	guest_destroy(g);
	vrd_engine_destroy(engine);
}

static void count_hot(struct vrd_poller *poller, void *num)
{
	*(unsigned int *)num = poller->num_hot;
}

/* A message wakes the poller; it is handled before the rings are watched again. */
static unsigned int hot_after_sleep(struct vrd_poller *poller)
{
	unsigned int num;

	while (!atomic_load(&poller->sleeping))
		vrd_cpu_relax();
	vrd_poller_call(poller, count_hot, &num);
	return num;
}

/* A ring that was busy lately is watched as soon as the poller wakes; one that was idle is not. */
static void test_hot_after_sleep(void)
{
	struct vrd_engine *engine = guest_engine(1, 0);
	struct guest *a = guest_create(engine, &(struct guest_config){ .id = 1 });
	struct guest *b = guest_create(engine, &(struct guest_config){ .id = 2 });
	struct guest_side sa, sb;
	unsigned int hot[4];

	guest_side_open(a, 8192, 64, NULL, &sa);
	guest_side_open(b, 8192, 64, NULL, &sb);
	guest_qp_connect_pair(&sa.qp, &sb.qp);
	post_write(&sa, &sb, 8);
	post_write(&sb, &sa, 8);
	ok(next_is_good(&sa) && next_is_good(&sb), "two guests post while the poller sleeps");
	for (unsigned int i = 0; i < 4; i++)
		hot[i] = hot_after_sleep(a->dev->poller);
	ok(hot[0] > 0, "the next time it wakes, %u of their rings are watched at once", hot[0]);
	ok(hot[3] == 0, "after some without work, %u", hot[3]);
	post_write(&sa, &sb, 8);
	ok(next_is_good(&sa), "and a request is found as before");
	guest_side_close(&sa);
	guest_side_close(&sb);
	guest_destroy(a);
	guest_destroy(b);
	vrd_engine_destroy(engine);
}

/* ---- timers --------------------------------------------------------------------- */

#define TIMERS	500

struct test_timer {
	struct vrd_timer timer;
	uint64_t deadline;
	_Atomic unsigned int fired;
	_Atomic bool early;
};

static _Atomic uint64_t last_deadline;
static _Atomic bool out_of_order;

static void timer_fired(struct vrd_timer *timer)
{
	struct test_timer *t = (struct test_timer *)timer;

	t->fired++;
	if (guest_now_ns() < t->deadline)
		t->early = true;
	if (t->deadline < last_deadline)
		out_of_order = true;
	last_deadline = t->deadline;
}

static void test_timers(void)
{
	struct vrd_engine *engine = guest_engine(1, 0);
	struct guest *g = guest_create(engine, &(struct guest_config){ .id = 1 });
	struct vrd_poller *poller = g->dev->poller;
	struct test_timer *timers = calloc(TIMERS, sizeof(*timers));
	uint64_t start = guest_now_ns() + 20000000;
	unsigned int seed = 1, right = 0, early = 0;

	for (unsigned int i = 0; i < TIMERS; i++) {
		seed = seed * 1664525 + 1013904223;
		vrd_timer_init(&timers[i].timer, timer_fired);
		timers[i].deadline = start + (seed >> 8) % 50000000;
		vrd_timer_set(poller, &timers[i].timer, timers[i].deadline);
	}
	/* Some are moved, some cancelled. */
	for (unsigned int i = 0; i < TIMERS; i += 5) {
		timers[i].deadline += 10000000;
		vrd_timer_set(poller, &timers[i].timer, timers[i].deadline);
		vrd_timer_cancel(&timers[i + 1].timer);
		vrd_timer_cancel_sync(&timers[i + 2].timer);
	}
	nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
	for (unsigned int i = 0; i < TIMERS; i++) {
		bool gone = i % 5 == 1 || i % 5 == 2;

		right += timers[i].fired == !gone;
		early += timers[i].early;
		vrd_timer_cancel_sync(&timers[i].timer);
	}
	ok(right == TIMERS && !early, "%u timers fire once, or were cancelled; %u early", right,
	   early);
	ok(!out_of_order, "in the order of their deadlines");

	/* An earlier deadline wakes the poller, which sleeps until a later one. */
	timers[0].fired = timers[1].fired = 0;
	vrd_timer_set(poller, &timers[0].timer, guest_now_ns() + 10000000000ULL);
	nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	timers[1].deadline = guest_now_ns() + 1000000;
	vrd_timer_set(poller, &timers[1].timer, timers[1].deadline);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	ok(timers[1].fired == 1 && timers[0].fired == 0, "an earlier timer is not late");
	vrd_timer_cancel_sync(&timers[0].timer);

	guest_destroy(g);
	vrd_engine_destroy(engine);
	free(timers);
}

/* ---- traffic, and things that happen under it --------------------------------------- */

struct traffic {
	struct guest_side *from, *to;
	pthread_t thread;
	_Atomic bool stop;
	_Atomic uint64_t rounds;
	_Atomic bool good;
};

/* Writes a pattern and reads it back, with data of all sizes up to 64 KiB. */
static void *run_traffic(void *arg)
{
	struct traffic *t = arg;
	struct guest_side *from = t->from, *to = t->to;
	uint32_t seed = from->g->cfg.id;

	while (!t->stop && t->good) {
		uint32_t length = 1 + (seed >> 12) % 65536;
		uint64_t remote = guest_addr(to->g, to->mem);

		seed = seed * 1664525 + 1013904223;
		memset(from->mem, seed >> 24, length);
		guest_post_rdma(&from->qp, W, 0, from->mem, length, from->mr.lkey, remote,
				to->mr.rkey);
		guest_post_rdma(&from->qp, VIRTIO_RDMA_WR_RDMA_READ, SIGNALED, from->mem + 65536,
				length, from->mr.lkey, remote, to->mr.rkey);
		t->good = next_is_good(from) && !memcmp(from->mem, from->mem + 65536, length);
		t->rounds++;
	}
	return NULL;
}

static void start_traffic(struct traffic *t, struct guest_side *from, struct guest_side *to)
{
	t->from = from;
	t->to = to;
	t->stop = false;
	t->good = true;
	pthread_create(&t->thread, NULL, run_traffic, t);
}

static bool stop_traffic(struct traffic *t)
{
	t->stop = true;
	pthread_join(t->thread, NULL);
	return t->good;
}

#define GUESTS	4

struct churn {
	struct guest *g;
	unsigned int rounds;
	bool good;
	pthread_t thread;
};

/* Creates everything, uses it once, destroys it while requests are outstanding. */
static void *run_churn(void *arg)
{
	struct churn *c = arg;

	c->good = true;
	for (unsigned int i = 0; i < c->rounds && c->good; i++) {
		struct guest_side side;

		guest_side_open(c->g, 16384, 256, NULL, &side);
		if (guest_qp_connect(&side.qp, c->g->gid, side.qp.qpn))
			guest_fatal("no connection");
		post_write(&side, &side, 64);
		c->good = next_is_good(&side);
		for (unsigned int n = 0; n < 32; n++)
			post_write(&side, &side, 4096);
		guest_side_close(&side);
	}
	return NULL;
}

static void test_many(void)
{
	struct vrd_engine *engine = guest_engine(3, 20);
	struct guest *g[GUESTS];
	struct guest_side side[GUESTS];
	struct traffic traffic[GUESTS] = { 0 };
	struct churn churn[GUESTS] = { 0 };
	bool good = true;

	for (unsigned int i = 0; i < GUESTS; i++) {
		g[i] = guest_create(engine, &(struct guest_config){ .id = i + 1 });
		guest_side_open(g[i], 131072, 64, NULL, &side[i]);
	}
	/* Each writes to its neighbour: 0 and 1, 2 and 3. */
	for (unsigned int i = 0; i < GUESTS; i += 2)
		guest_qp_connect_pair(&side[i].qp, &side[i + 1].qp);
	for (unsigned int i = 0; i < GUESTS; i += 2)
		start_traffic(&traffic[i], &side[i], &side[i + 1]);
	for (unsigned int i = 0; i < GUESTS; i++) {
		churn[i] = (struct churn){ .g = g[i], .rounds = scaled(200) };
		pthread_create(&churn[i].thread, NULL, run_churn, &churn[i]);
	}
	for (unsigned int i = 0; i < GUESTS; i++) {
		pthread_join(churn[i].thread, NULL);
		good &= churn[i].good;
	}
	ok(good, "objects come and go in %u devices on 3 pollers", GUESTS);
	good = true;
	for (unsigned int i = 0; i < GUESTS; i += 2)
		good &= stop_traffic(&traffic[i]);
	ok(good, "traffic beside it goes on, with the right data");

	/* Devices are destroyed while their peers send to them. */
	for (unsigned int i = 0; i < GUESTS; i += 2) {
		for (unsigned int n = 0; n < 32; n++)
			guest_post_rdma(&side[i].qp, W, 0, side[i].mem, 65536, side[i].mr.lkey,
					guest_addr(g[i + 1], side[i + 1].mem), side[i + 1].mr.rkey);
		guest_destroy(g[i + 1]);
		guest_destroy(g[i]);
	}
	ok(guest_engine_stat(engine, "devices") == 0, "devices go under traffic");
	vrd_engine_destroy(engine);
}

/* ---- stop and start -------------------------------------------------------------------- */

static void test_stop_start(void)
{
	struct vrd_engine *engine = guest_engine(2, 20);
	struct guest *a = guest_create(engine, &(struct guest_config){ .id = 1 });
	struct guest *b = guest_create(engine, &(struct guest_config){ .id = 2 });
	struct guest_side sa, sb;
	struct traffic there = { 0 }, back = { 0 };
	struct guest_side ra, rb;
	unsigned int moved = 0;
	uint8_t *copy = malloc(131072);
	uint64_t rounds;

	guest_side_open(a, 131072, 64, NULL, &sa);
	guest_side_open(b, 131072, 64, NULL, &sb);
	guest_side_open(a, 131072, 64, NULL, &ra);
	guest_side_open(b, 131072, 64, NULL, &rb);
	guest_qp_connect_pair(&sa.qp, &sb.qp);
	guest_qp_connect_pair(&ra.qp, &rb.qp);
	start_traffic(&there, &sa, &sb);
	start_traffic(&back, &rb, &ra);

	/* b stops: neither its own requests nor its peer's access its memory. */
	for (unsigned int i = 0; i < scaled(200); i++) {
		guest_stop_queues(b);
		memcpy(copy, sb.mem, 131072);
		for (unsigned int n = 0; n < 1000; n++)
			vrd_cpu_relax();
		moved += memcmp(copy, sb.mem, 131072) != 0;
		guest_start_queues(b);
		rounds = there.rounds + back.rounds;
		for (uint64_t until = guest_now_ns() + 2000000; guest_now_ns() < until &&
		     there.rounds + back.rounds - rounds < 2;)
			vrd_cpu_relax();
	}
	ok(!moved, "no byte moves in a stopped device");
	rounds = there.rounds;
	while (there.good && there.rounds < rounds + 10)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	ok(stop_traffic(&there) && stop_traffic(&back), "both directions go on after each start");
	diag("%llu and %llu rounds", (unsigned long long)there.rounds,
	     (unsigned long long)back.rounds);

	/* The same memory table again, under traffic. */
	start_traffic(&there, &sa, &sb);
	for (unsigned int i = 0; i < scaled(200); i++) {
		guest_set_memory(b);
		guest_set_memory(a);
	}
	rounds = there.rounds;
	while (there.good && there.rounds < rounds + 10)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	ok(stop_traffic(&there), "memory tables are replaced under traffic");

	guest_side_close(&sa);
	guest_side_close(&sb);
	guest_side_close(&ra);
	guest_side_close(&rb);
	guest_destroy(a);
	guest_destroy(b);
	vrd_engine_destroy(engine);
	free(copy);
}

int main(void)
{
	test_idle();
	test_hot_after_sleep();
	test_timers();
	sleep_and_wake(0, scaled(100000), false);
	sleep_and_wake(5, scaled(100000), true);
	sleep_and_wake(50, scaled(20000), true);
	test_many();
	test_stop_start();
	return tap_done();
}
