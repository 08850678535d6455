// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Grace periods, deferred callbacks and messages that nobody waits for: that a
 * callback runs once, in order, after the turns that were under way, and also
 * when all pollers sleep or the engine ends.
 */
#include <stdlib.h>
#include <time.h>

#include "guest.h"
#include "poller_internal.h"
#include "tap.h"
#include "transport.h"

#define TIMEOUT_MS	20000

static unsigned int scaled(unsigned int n)
{
	const char *scale = getenv("VRD_TEST_SCALE");

	return scale ? n / atoi(scale) : n;
}

static bool reaches(_Atomic unsigned int *count, unsigned int value)
{
	uint64_t end = guest_now_ns() + TIMEOUT_MS * 1000000ULL;

	while (atomic_load(count) < value && guest_now_ns() < end)
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	return atomic_load(count) >= value;
}

/* ---- callbacks ------------------------------------------------------------------ */

struct item {
	struct vrd_deferred deferred;
	unsigned int number;
};

static _Atomic unsigned int called;
static _Atomic bool in_order, on_poller;

static void item_called(struct vrd_deferred *deferred)
{
	struct item *item = (struct item *)deferred;

	if (item->number != atomic_load(&called))
		in_order = false;
	if (!vrd_poller_current())
		on_poller = false;
	atomic_fetch_add(&called, 1);
	free(item);
}

static void defer_items(struct vrd_engine *engine, unsigned int first, unsigned int num)
{
	for (unsigned int i = 0; i < num; i++) {
		struct item *item = calloc(1, sizeof(*item));

		item->number = first + i;
		vrd_defer(engine, &item->deferred, item_called);
	}
}

static void begin(void)
{
	called = 0;
	in_order = true;
	on_poller = true;
}

static void wait_asleep(struct vrd_engine *engine)
{
	for (unsigned int i = 0; i < engine->num_pollers; i++)
		while (atomic_load(&engine->pollers[i].passed) != VRD_GRACE_OFFLINE)
			sched_yield();
}

static void test_callbacks(unsigned int pollers)
{
	struct vrd_engine *engine = guest_engine(pollers, 0);

	begin();
	wait_asleep(engine);
	defer_items(engine, 0, 1);
	ok(reaches(&called, 1), "%u pollers that sleep: a callback runs", pollers);
	defer_items(engine, 1, 1000);
	vrd_engine_barrier(engine);
	ok(called == 1001 && in_order, "1000 more have run, in order, when the barrier returns");
	ok(on_poller, "all on a poller");

	defer_items(engine, 1001, 1000);
	vrd_engine_destroy(engine);
	ok(called == 2001 && in_order, "what is left at the end of the engine is run by it");
}

/* ---- a turn that is under way -------------------------------------------------- */

struct hold {
	struct vrd_message msg;
	_Atomic unsigned int began;
	_Atomic bool release;
};

/* A long turn. */
static void hold_turn(struct vrd_poller *poller, struct vrd_message *msg)
{
	struct hold *hold = (struct hold *)msg;

	(void)poller;
	hold->began = 1;
	while (!atomic_load(&hold->release))
		sched_yield();
}

static void no_work(struct vrd_poller *poller, void *arg)
{
	(void)poller;
	(void)arg;
}

static void defer_from_poller(struct vrd_poller *poller, void *arg)
{
	(void)arg;
	defer_items(poller->engine, 0, 1);
	/* It waits for the end of this very turn. */
	if (called)
		in_order = false;
}

static void test_waits(void)
{
	struct vrd_engine *engine = guest_engine(3, 0);
	struct hold hold = { .msg.fn = hold_turn };
	uint64_t period;

	begin();
	vrd_poller_send(&engine->pollers[1], &hold.msg);
	reaches(&hold.began, 1);
	defer_items(engine, 0, 1);
	period = vrd_grace_begin(engine);
	/* The others pass many turns meanwhile. */
	for (unsigned int i = 0; i < 100; i++) {
		vrd_poller_call(&engine->pollers[i & 2], no_work, NULL);
	}
	ok(!called && !vrd_grace_passed(engine, period), "none runs before the turn under way has ended");
	hold.release = true;
	ok(reaches(&called, 1), "and then it does");
	vrd_engine_synchronize(engine);
	ok(vrd_grace_passed(engine, period), "the grace period is over");

	begin();
	vrd_poller_call(&engine->pollers[2], defer_from_poller, NULL);
	ok(reaches(&called, 1) && in_order, "a poller defers without waiting for itself");
	vrd_engine_destroy(engine);
}

/* ---- readers and a writer -------------------------------------------------------- */

struct version {
	struct vrd_deferred deferred;
	uint64_t a, b;
};

struct reader {
	struct vrd_message msg;
	struct vrd_poller *poller;
	_Atomic bool stop;
	_Atomic unsigned int stopped, torn, turns;
};

static struct version *_Atomic current;

static void read_current(struct vrd_poller *poller, struct vrd_message *msg)
{
	struct reader *reader = (struct reader *)msg;
	const struct version *v = atomic_load_explicit(&current, memory_order_acquire);

	for (unsigned int i = 0; i < 50; i++) {
		reader->torn += v->a != ~v->b;
		vrd_cpu_relax();
	}
	reader->turns++;
	if (atomic_load(&reader->stop))
		reader->stopped = 1;
	else
		vrd_poller_send(poller, msg);
}

static void free_version(struct vrd_deferred *deferred)
{
	struct version *v = (struct version *)deferred;

	v->a = v->b;
	free(v);
}

static void test_readers(void)
{
	struct vrd_engine *engine = guest_engine(3, 0);
	unsigned int rounds = scaled(20000), torn = 0;
	struct reader readers[3] = { 0 };

	atomic_store(&current, calloc(1, sizeof(struct version)));
	atomic_load(&current)->b = ~0ULL;
	for (unsigned int i = 0; i < 3; i++) {
		readers[i].msg.fn = read_current;
		vrd_poller_send(&engine->pollers[i], &readers[i].msg);
	}
	for (unsigned int i = 0; i < rounds; i++) {
		struct version *v = calloc(1, sizeof(*v)), *old;

		v->a = i;
		v->b = ~v->a;
		old = atomic_exchange(&current, v);
		if (i % 16) {
			vrd_defer(engine, &old->deferred, free_version);
		} else {
			vrd_engine_synchronize(engine);
			free_version(&old->deferred);
		}
	}
	for (unsigned int i = 0; i < 3; i++) {
		readers[i].stop = true;
		reaches(&readers[i].stopped, 1);
		torn += readers[i].torn;
		diag("poller %u: %u turns", i, readers[i].turns);
	}
	ok(!torn, "%u versions replaced under three readers: none is read after it was freed", rounds);
	vrd_engine_barrier(engine);
	free(atomic_load(&current));
	vrd_engine_destroy(engine);
}

/* ---- visits ------------------------------------------------------------------------ */

static _Atomic unsigned int visited, visits_done;

static void count_visit(struct vrd_poller *poller, void *arg)
{
	(void)arg;
	visited |= 1U << poller->index;
}

static void visit_done(struct vrd_visit *visit)
{
	(void)visit;
	visits_done++;
}

static void test_visits(void)
{
	struct vrd_engine *engine = guest_engine(4, 0);
	struct guest *g = guest_create(engine, &(struct guest_config){ .id = 1 });
	struct vrd_visit visit = { .fn = count_visit, .done = visit_done };
	uint32_t before = g->dev->suspended;

	vrd_engine_visit(engine, &visit);
	ok(reaches(&visits_done, 1) && visited == 15, "a visit goes to each poller");
	vrd_device_quiesce_send(g->dev, &visit, visit_done);
	ok(vrd_device_suspended(g->dev), "the device is suspended at once");
	ok(reaches(&visits_done, 2), "and quiescent when told");
	vrd_device_resume_send(g->dev, &visit, visit_done);
	ok(reaches(&visits_done, 3) && g->dev->suspended == before, "and it runs again");
	guest_destroy(g);
	vrd_engine_destroy(engine);
}

int main(void)
{
	test_callbacks(1);
	test_callbacks(4);
	test_waits();
	test_readers();
	test_visits();
	return tap_done();
}
