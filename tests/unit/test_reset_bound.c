// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How long a reset and INIT wait for pollers: the number of waits, and the number of turns of
 * each.  Counts, not times.  The length of a turn is tested by test_sched.c.
 *
 * The linker wraps the functions that wait (--wrap, see the Makefile).
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "guest.h"
#include "poller_internal.h"
#include "tap.h"

/* As documented at vrd_device_clear() and vrd_device_reset(). */
#define CLEAR_VISITS	3
#define CLEAR_PERIODS	5
#define STOP_VISITS	2		/* of vrd_device_stop_vqs() */

static _Atomic unsigned int visits, calls, periods;

#define WRAP(name, params, args, counter)		\
	void __real_##name params;			\
	void __wrap_##name params;			\
	void __wrap_##name params			\
	{						\
		atomic_fetch_add(&counter, 1);		\
		__real_##name args;			\
	}

WRAP(vrd_engine_visit, (struct vrd_engine *engine, struct vrd_visit *visit), (engine, visit),
     visits)
WRAP(vrd_poller_call, (struct vrd_poller *poller, void (*fn)(struct vrd_poller *, void *), void *arg),
     (poller, fn, arg), calls)
WRAP(vrd_poller_call_quiet,
     (struct vrd_poller *poller, void (*fn)(struct vrd_poller *, void *), void *arg),
     (poller, fn, arg), calls)
WRAP(vrd_engine_synchronize, (struct vrd_engine *engine), (engine), periods)

/* ---- the number of waits -------------------------------------------------------------- */

static void make_objects(struct guest *g, unsigned int num)
{
	struct guest_qp_init init = { .sq_entries = 16, .rq_entries = 16 };
	struct guest_side side;
	struct guest_srq srq;
	struct guest_ctx ctx;
	struct guest_cq cq;
	struct guest_qp qp;
	struct guest_mr mr;

	guest_side_open(g, GUEST_PAGE, 64, &init, &side);
	for (unsigned int i = 0; i < num; i++) {
		if (guest_ctx_create(g, 0, &ctx) || guest_cq_create(&side.ctx, 16, 0, &cq) ||
		    guest_srq_create(&side.ctx, side.pd, 16, 1, &srq) ||
		    guest_mr_reg(g, side.pd, side.mem, GUEST_PAGE, 1, &mr))
			guest_fatal("objects");
		init.srq = i % 2 ? &srq : NULL;
		init.rq_entries = init.srq ? 0 : 16;
		guest_side_add_qp(&side, &init, &qp);
	}
	for (unsigned int i = 1; i < VRD_GID_TABLE_LEN; i++) {
		uint8_t gid[16] = { 0x20, 1, [14] = (uint8_t)i, [15] = g->cfg.id };

		if (guest_add_gid(g, i, gid))
			guest_fatal("ADD_GID");
	}
}

static void begin(void)
{
	visits = calls = periods = 0;
}

static void check(const char *what, unsigned int num, unsigned int max_visits)
{
	ok(visits <= max_visits && !calls && periods <= CLEAR_PERIODS,
	   "%s with %u objects of each kind: %u messages to each poller, %u grace periods", what, num,
	   visits, periods);
}

static void test_waits(struct vrd_engine *engine, unsigned int num)
{
	struct guest *g = guest_create(engine, &(struct guest_config){
		.id = 1, .mem_size = 256 << 20, .limits.max_ctx = num + 8,
	});

	make_objects(g, num);
	begin();
	if (guest_init(g))
		guest_fatal("INIT");
	check("INIT", num, CLEAR_VISITS);
	ok(visits == CLEAR_VISITS && periods > 0, "they are counted");

	make_objects(g, num);
	begin();
	vrd_device_reset(g->dev);
	check("reset", num, STOP_VISITS + CLEAR_VISITS);
	guest_destroy(g);
}

/* ---- the turns of a wait --------------------------------------------------------------- */

#define AHEAD		200U

static struct {
	struct vrd_message message[AHEAD + 1];
	struct vrd_deferred deferred[AHEAD + 1];
	uint64_t start;				/* turn in which all were sent */
	_Atomic uint64_t message_turns, deferred_turns;
	_Atomic unsigned int done;
} queue;

static void other_message(struct vrd_poller *poller, struct vrd_message *msg)
{
	(void)poller;
	(void)msg;
}

static void last_message(struct vrd_poller *poller, struct vrd_message *msg)
{
	(void)msg;
	queue.message_turns = poller->turn - queue.start;
	queue.done++;
}

static void other_deferred(struct vrd_deferred *deferred)
{
	(void)deferred;
}

static void last_deferred(struct vrd_deferred *deferred)
{
	(void)deferred;
	queue.deferred_turns = vrd_poller_current()->turn - queue.start;
	queue.done++;
}

/* On the poller, so that no turn passes meanwhile. */
static void send_all(struct vrd_poller *poller, void *arg)
{
	unsigned int ahead = *(unsigned int *)arg;

	queue.done = 0;
	queue.start = poller->turn;
	for (unsigned int i = 0; i <= ahead; i++) {
		queue.message[i].fn = i < ahead ? other_message : last_message;
		vrd_poller_send(poller, &queue.message[i]);
		vrd_defer(poller->engine, &queue.deferred[i],
			  i < ahead ? other_deferred : last_deferred);
	}
}

/* A message, and a callback of a grace period, with @ahead others before each. */
static void test_turns(struct vrd_engine *engine, unsigned int ahead)
{
	uint64_t end = guest_now_ns() + 20000000000ULL;

	vrd_poller_call(&engine->pollers[0], send_all, &ahead);
	while (queue.done < 2 && guest_now_ns() < end)
		;
	ok(queue.done == 2 && queue.message_turns <= ahead / VRD_MESSAGES_TURN + 1,
	   "a message behind %u others is handled after %llu turns", ahead,
	   (unsigned long long)queue.message_turns);
	/* 64 callbacks in a turn: CALLBACKS_TURN in reclaim.c. */
	ok(queue.deferred_turns <= ahead / 64 + 1,
	   "a grace period with %u callbacks before its own ends after %llu turns", ahead,
	   (unsigned long long)queue.deferred_turns);
}

int main(void)
{
	struct vrd_engine *engine = guest_engine(2, 50);

	test_waits(engine, 5);
	test_waits(engine, 300);
	vrd_engine_destroy(engine);

	engine = guest_engine(1, 50);
	test_turns(engine, 0);
	test_turns(engine, AHEAD);
	vrd_engine_destroy(engine);
	return tap_done();
}
