// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which queue pair a poller runs next: shares of devices, of queue pairs, the
 * length of a turn, and what quiesce, resume and reset cost.
 *
 * The queue pairs under test have a path of the test's own, which says how much each
 * burst takes and records the order.  So the results do not depend on how fast
 * the machine is.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest.h"
#include "poller_internal.h"
#include "tap.h"
#include "ticks.h"

#define TIMEOUT_MS	20000
#define MAX_QPS		2000

static struct vrd_engine *engine;
static struct vrd_poller *poller;

/* ---- guests whose bursts are the test's own ---------------------------------------- */

struct party {
	struct guest *g;
	struct guest_side side;
	struct guest_qp gq[MAX_QPS];
	struct vrd_qp *qp[MAX_QPS];
	unsigned int num;
	struct vrd_path_ops path;

	/* A burst. */
	uint64_t ticks;			/* it takes so long */
	uint32_t bytes;			/* and moves so much */
	bool busy;			/* and there is more */
	_Atomic bool stop;		/* but not any more */

	/* What happened; the poller's own while it is busy. */
	_Atomic uint64_t bursts;
	uint64_t turn, in_turn, max_in_turn;	/* bursts in one turn */
	uint64_t by_qp[MAX_QPS];
	bool idle;
};

static struct party crowd, lone;

static enum vrd_run burst(struct party *p, struct vrd_qp *qp)
{
	uint64_t start = vrd_ticks();

	if (p->turn != poller->turn)
		p->in_turn = 0;
	p->turn = poller->turn;
	if (++p->in_turn > p->max_in_turn)
		p->max_in_turn = p->in_turn;
	for (unsigned int i = 0; i < p->num; i++)
		p->by_qp[i] += p->qp[i] == qp;
	qp->sched.moved += p->bytes;
	p->bursts++;
	while (vrd_ticks() - start < p->ticks)
		vrd_cpu_relax();
	return p->busy && !p->stop ? VRD_RUN_MORE : VRD_RUN_IDLE;
}

static enum vrd_run crowd_run(struct vrd_qp *qp, unsigned int budget)
{
	(void)budget;
	return burst(&crowd, qp);
}

static enum vrd_run lone_run(struct vrd_qp *qp, unsigned int budget)
{
	(void)budget;
	return burst(&lone, qp);
}

static void set_paths(struct vrd_poller *on, void *arg)
{
	struct party *p = arg;

	(void)on;
	for (unsigned int i = 0; i < p->num; i++)
		p->qp[i]->path = &p->path;
}

static void party_open(struct party *p, unsigned int id, unsigned int num,
		       enum vrd_run (*run)(struct vrd_qp *qp, unsigned int budget))
{
	struct guest_config cfg = { .id = id,
				    .mem_size = (16ULL << 20) + num * 3ULL * GUEST_PAGE };
	struct guest_qp_init init = { .sq_entries = 16, .rq_entries = 16, .max_send_sge = 1,
				      .max_recv_sge = 1, .max_inline = 32 };

	memset(p, 0, sizeof(*p));
	p->g = guest_create(engine, &cfg);
	guest_side_open(p->g, GUEST_PAGE, 64, NULL, &p->side);
	p->num = num;
	for (unsigned int i = 0; i < num; i++) {
		guest_side_add_qp(&p->side, &init, &p->gq[i]);
		p->qp[i] = vrd_table_find(&p->g->dev->qps, p->gq[i].qpn);
	}
	p->path = *p->qp[0]->path;
	p->path.sq_run = run;
	vrd_poller_call(poller, set_paths, p);
}

struct how {
	struct party *p;
	unsigned int quanta_x4;		/* quarters of a quantum of time that a burst takes */
	uint32_t bytes;
	bool busy;
};

static void prepare(struct vrd_poller *on, void *arg)
{
	const struct how *how = arg;
	struct party *p = how->p;

	p->ticks = on->engine->quantum_ticks * how->quanta_x4 / 4;
	p->bytes = how->bytes;
	p->busy = how->busy;
	p->stop = false;
	p->bursts = 0;
	p->max_in_turn = 0;
	memset(p->by_qp, 0, sizeof(p->by_qp));
}

static void start(const struct how *how)
{
	vrd_poller_call(poller, prepare, (void *)how);
	for (unsigned int i = 0; i < how->p->num; i++)
		vrd_qp_schedule(how->p->qp[i]);
}

static bool reaches(struct party *p, uint64_t bursts)
{
	uint64_t end = guest_now_ns() + TIMEOUT_MS * 1000000ULL;

	while (p->bursts < bursts && guest_now_ns() < end)
		nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
	return p->bursts >= bursts;
}

static void no_work(struct vrd_poller *on, void *arg)
{
	(void)on;
	(void)arg;
}

static void is_idle(struct vrd_poller *on, void *arg)
{
	struct party *p = arg;

	p->idle = !p->g->dev->pdevs[on->index]->sched.num;
}

/* Nothing of @p is queued any more. */
static void stop(struct party *p)
{
	p->stop = true;
	p->idle = false;
	for (unsigned int i = 0; i < 4 * MAX_QPS && !p->idle; i++)
		vrd_poller_call(poller, is_idle, p);
}

static void party_close(struct party *p)
{
	guest_destroy(p->g);
}

static void open_all(unsigned int num)
{
	engine = guest_engine(1, 50);
	poller = &engine->pollers[0];
	party_open(&crowd, 1, num, crowd_run);
	party_open(&lone, 2, 1, lone_run);
}

static void close_all(void)
{
	party_close(&crowd);
	party_close(&lone);
	vrd_engine_destroy(engine);
}

struct counts {
	uint64_t crowd, lone, max_in_turn, by_qp[MAX_QPS];
};

/* All at the same moment. */
static void take_counts(struct vrd_poller *on, void *arg)
{
	struct counts *counts = arg;

	(void)on;
	counts->crowd = crowd.bursts;
	counts->lone = lone.bursts;
	counts->max_in_turn = crowd.max_in_turn;
	memcpy(counts->by_qp, crowd.by_qp, sizeof(counts->by_qp));
}

/* Bursts of both while the crowd makes @num more. */
static const struct counts *count_while(uint64_t num)
{
	static struct counts from, to;

	vrd_poller_call(poller, take_counts, &from);
	reaches(&crowd, from.crowd + num);
	vrd_poller_call(poller, take_counts, &to);
	to.crowd -= from.crowd;
	to.lone -= from.lone;
	for (unsigned int i = 0; i < MAX_QPS; i++)
		to.by_qp[i] -= from.by_qp[i];
	return &to;
}

/* ---- a neighbour with many busy QPs ----------------------------------------------------- */

#define REQUESTS	200

static struct {
	uint64_t before, others;	/* bursts of the crowd */
	_Atomic bool done;
} request;

static enum vrd_run request_run(struct vrd_qp *qp, unsigned int budget)
{
	(void)qp;
	(void)budget;
	request.others = crowd.bursts - request.before;
	request.done = true;
	return VRD_RUN_IDLE;
}

static void post_request(struct vrd_poller *on, void *arg)
{
	(void)on;
	(void)arg;
	request.before = crowd.bursts;
	vrd_qp_schedule(lone.qp[0]);
}

static void test_neighbour(void)
{
	const struct counts *counts;
	uint64_t worst = 0;

	open_all(300);
	lone.path.sq_run = request_run;
	start(&(struct how){ .p = &crowd, .quanta_x4 = 12, .busy = true });
	counts = count_while(1000);
	ok(counts->max_in_turn * 3 * VRD_QUANTUM_NS <= VRD_TURN_NS + 3 * VRD_QUANTUM_NS,
	   "300 busy QPs: a turn has %llu of their bursts, of three quanta each",
	   (unsigned long long)counts->max_in_turn);

	for (unsigned int n = 0; n < REQUESTS; n++) {
		request.done = false;
		vrd_poller_call(poller, post_request, NULL);
		while (!request.done)
			sched_yield();
		if (request.others > worst)
			worst = request.others;
	}
	ok(worst <= 3, "a request of a neighbour waits for %llu bursts of 300 busy QPs",
	   (unsigned long long)worst);
	stop(&crowd);
	close_all();
}

/* ---- shares ------------------------------------------------------------------------------- */

static bool about(uint64_t a, uint64_t b, unsigned int percent)
{
	uint64_t least = a < b ? a : b, most = a < b ? b : a;

	return most - least <= most * percent / 100;
}

static void long_quantum(struct vrd_poller *on, void *arg)
{
	(void)arg;
	on->engine->quantum_ticks *= 10000;
	on->engine->turn_ticks *= 10000;
}

static void test_shares(void)
{
	const struct counts *counts;
	uint64_t many, one;

	/* The same time for each burst: a device with 50 QPs has as many as one with one. */
	open_all(50);
	start(&(struct how){ .p = &crowd, .quanta_x4 = 8, .busy = true });
	start(&(struct how){ .p = &lone, .quanta_x4 = 8, .busy = true });
	counts = count_while(3000);
	/* (Time in which the kernel runs other programs is charged to one of them.) */
	ok(about(counts->crowd, counts->lone, 30),
	   "by time: %llu bursts of 50 QPs, %llu of one QP of a neighbour",
	   (unsigned long long)counts->crowd, (unsigned long long)counts->lone);
	stop(&crowd);
	stop(&lone);

	/* Time does not matter: 16 KiB in each burst of the 50, a quantum in each of the one. */
	vrd_poller_call(poller, long_quantum, NULL);
	start(&(struct how){ .p = &crowd, .bytes = 16384, .busy = true });
	start(&(struct how){ .p = &lone, .bytes = VRD_QUANTUM_BYTES, .busy = true });
	counts = count_while(50000);
	many = counts->crowd * 16384;
	one = counts->lone * VRD_QUANTUM_BYTES;
	ok(about(many, one, 5), "by bytes: %llu MiB of 50 QPs, %llu MiB of one QP of a neighbour",
	   (unsigned long long)many >> 20, (unsigned long long)one >> 20);
	stop(&crowd);
	stop(&lone);
	close_all();
}

static void test_within_device(void)
{
	uint64_t least = UINT64_MAX, most = 0;
	const struct counts *counts;

	open_all(50);
	start(&(struct how){ .p = &crowd, .quanta_x4 = 1, .busy = true });
	vrd_poller_call(poller, no_work, NULL);
	counts = count_while(5000);
	for (unsigned int i = 0; i < crowd.num; i++) {
		if (counts->by_qp[i] < least)
			least = counts->by_qp[i];
		if (counts->by_qp[i] > most)
			most = counts->by_qp[i];
	}
	ok(most - least <= 1, "50 QPs of a device have %llu to %llu bursts each",
	   (unsigned long long)least, (unsigned long long)most);
	stop(&crowd);
	close_all();
}

/* ---- quiesce, resume, reset --------------------------------------------------------------- */

static void test_quiesce(void)
{
	uint64_t before;

	open_all(MAX_QPS);
	before = crowd.bursts;
	for (unsigned int i = 0; i < 20; i++) {
		vrd_device_quiesce(crowd.g->dev);
		vrd_device_resume(crowd.g->dev);
	}
	vrd_poller_call(poller, no_work, NULL);
	ok(crowd.bursts == before, "%u idle QPs: none is run because of a quiesce", MAX_QPS);

	/* What is busy stops, is not forgotten, and goes on. */
	start(&(struct how){ .p = &crowd, .busy = true });
	reaches(&crowd, 100);
	vrd_device_quiesce(crowd.g->dev);
	before = crowd.bursts;
	for (unsigned int i = 0; i < 100; i++)
		vrd_poller_call(poller, no_work, NULL);
	ok(crowd.bursts == before, "a quiescent device has no burst");
	vrd_device_resume(crowd.g->dev);
	ok(reaches(&crowd, before + 2 * MAX_QPS), "and goes on after the resume");
	vrd_device_reset(crowd.g->dev);
	before = crowd.bursts;
	vrd_poller_call(poller, no_work, NULL);
	ok(crowd.bursts == before && !crowd.g->dev->qps.count, "a device is reset while it is busy");
	close_all();
}

/* Messages to a poller while a device with @num QPs is reset: each one is a wake-up. */
static uint64_t wakeups_of_reset(unsigned int num)
{
	uint64_t sleeps;

	engine = guest_engine(1, 0);
	poller = &engine->pollers[0];
	party_open(&crowd, 1, num, crowd_run);
	while (!atomic_load(&poller->sleeping))
		sched_yield();
	sleeps = guest_engine_stat(engine, "poller_sleeps");
	vrd_device_reset(crowd.g->dev);
	while (!atomic_load(&poller->sleeping))
		sched_yield();
	sleeps = guest_engine_stat(engine, "poller_sleeps") - sleeps;
	party_close(&crowd);
	vrd_engine_destroy(engine);
	return sleeps;
}

static void test_reset(void)
{
	uint64_t few = wakeups_of_reset(10), many = wakeups_of_reset(1000);

	ok(many <= few + 20, "reset with 10 QPs wakes the poller %llu times, with 1000 %llu times",
	   (unsigned long long)few, (unsigned long long)many);
}

/* ---- watched rings ---------------------------------------------------------------------- */

struct watch {
	struct vrd_qp *qp;
	bool hot;
};

static void look_hot(struct vrd_poller *on, void *arg)
{
	struct watch *watch = arg;

	(void)on;
	watch->hot = watch->qp->sched.hot >= 0;
}

static void ring(struct vrd_poller *on, void *arg)
{
	vrd_ring_rung(on, &((struct vrd_qp *)arg)->sq);
}

/* A device does not keep the hot list to itself, however busy its rings are. */
static void test_hot_shares(void)
{
	struct watch watch;

	open_all(2 * VRD_HOT_RINGS);
	for (unsigned int i = 0; i < crowd.num; i++)
		vrd_poller_call(poller, ring, crowd.qp[i]);
	vrd_poller_call(poller, ring, lone.qp[0]);
	watch.qp = lone.qp[0];
	vrd_poller_call(poller, look_hot, &watch);
	ok(watch.hot, "among %u busy rings of a neighbour one of another device is watched",
	   crowd.num);
	close_all();
}

int main(void)
{
	test_neighbour();
	test_shares();
	test_within_device();
	test_quiesce();
	test_reset();
	test_hot_shares();
	return tap_done();
}
