// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Pauses of a sender that waits for a receive (core/rnr_pause.c): the policy, and a device that
 * follows it.
 *
 * vrd_timer_set() is wrapped (see the Makefile): the timer that ends a pause is held back until
 * the test lets the pause end.  So the test can examine a pause however slow the machine is.
 */
#include <unistd.h>

#include "guest_shm.h"
#include "mem_pair.h"
#include "poller_internal.h"
#include "rnr_pause.h"
#include "tap.h"
#include "transport.h"

#define SEND	VIRTIO_RDMA_WR_SEND
#define FEW	VRD_RNR_PAUSE_FEW

/* ---- the policy --------------------------------------------------------------- */

static struct vrd_rnr_pause pause_;
static uint32_t head;
static uint64_t sleeps;

static void begin(void)
{
	pause_ = (struct vrd_rnr_pause){ .waited = false };
	head = 0;
	sleeps = 100;
	vrd_rnr_pause_begin(&pause_, head, sleeps);
}

/* A wait after @requests were executed; in the last wait the poller slept, or did not. */
static bool wait_after(uint32_t requests, bool slept)
{
	head += requests;
	sleeps += slept;
	return vrd_rnr_pause_begin(&pause_, head, sleeps);
}

static void test_condition(void)
{
	pause_ = (struct vrd_rnr_pause){ .waited = false };
	ok(!vrd_rnr_pause_begin(&pause_, 0, 100), "the first wait has no pause");
	begin();
	ok(!wait_after(1, false), "no pause if the poller did not sleep");
	ok(!wait_after(FEW, true), "no pause if many requests were executed");
	ok(wait_after(FEW - 1, true), "a pause if it slept, and only a few requests were executed");

	begin();
	head = UINT32_MAX;
	vrd_rnr_pause_begin(&pause_, head, sleeps);
	ok(wait_after(1, true), "the number of requests may wrap");
}

static void test_useful(void)
{
	unsigned int i;

	begin();
	wait_after(1, true);
	for (i = 1; wait_after(FEW, false) && i < 1000; i++)
		;
	is(i, VRD_RNR_PAUSE_TRIAL, "useful pauses follow each other, with one wait for a trial");
	ok(wait_after(1, true), "a trial in which the poller sleeps is followed by a pause");

	for (i = 1; wait_after(FEW, false) && i < 1000; i++)
		;
	ok(!wait_after(1, false), "a trial in which it does not sleep ends the pauses");
}

static void test_useless(void)
{
	unsigned int total = 0, waits = 0;

	begin();
	wait_after(1, true);
	for (unsigned int want = 1; want <= 63; want = 2 * want + 1) {
		/* The pause was useless: this wait and the next ones have none. */
		for (waits = 0; !wait_after(1, true) && waits < 1000; waits++)
			;
		if (waits != want + 1)
			break;
		total++;
	}
	is(total, 6, "after useless pauses 1, 3, 7, 15, 31, 63 waits are skipped");
	for (waits = 0; !wait_after(1, true) && waits < 1000; waits++)
		;
	is(waits, VRD_RNR_PAUSE_SKIP_MAX + 1, "the number has a limit");

	wait_after(FEW, true);
	for (waits = 0; !wait_after(1, true) && waits < 1000; waits++)
		;
	is(waits, 2, "a useful pause resets it");
}

/* ---- a device ------------------------------------------------------------------- */

static struct mem_pair pair;
static struct mem_end *const a = &pair.a, *const b = &pair.b;

static struct {
	atomic_bool hold;			/* hold back the timers of pauses */
	atomic_uint pauses;			/* how often such a timer was set */
	struct vrd_poller *_Atomic poller;
	struct vrd_timer *_Atomic timer;
} held;

void __real_vrd_timer_set(struct vrd_poller *poller, struct vrd_timer *timer, uint64_t deadline);
void __wrap_vrd_timer_set(struct vrd_poller *poller, struct vrd_timer *timer, uint64_t deadline);

/* All other timers of these tests have deadlines of 300 ms and more. */
void __wrap_vrd_timer_set(struct vrd_poller *poller, struct vrd_timer *timer, uint64_t deadline)
{
	if (deadline <= vrd_poller_now(poller) + VRD_RNR_PAUSE_NS) {
		atomic_store(&held.poller, poller);
		atomic_store(&held.timer, timer);
		atomic_fetch_add(&held.pauses, 1);
		if (atomic_load(&held.hold))
			deadline += 3600 * 1000000000ULL;
	}
	__real_vrd_timer_set(poller, timer, deadline);
}

static void end_pause(void)
{
	usleep(1000);				/* longer than a pause */
	__real_vrd_timer_set(atomic_load(&held.poller), atomic_load(&held.timer), guest_now_ns());
}

static bool pauses_reach(unsigned int num)
{
	for (int i = 0; i < MEM_WAIT_MS && atomic_load(&held.pauses) < num; i++)
		usleep(1000);
	return atomic_load(&held.pauses) >= num;
}

static bool need_db_is(uint32_t value)
{
	for (int i = 0; i < MEM_WAIT_MS && vrd_load32(&b->qp.rq.ctrl->need_db) != value; i++)
		usleep(1000);
	return vrd_load32(&b->qp.rq.ctrl->need_db) == value;
}

static void until_asleep(void)
{
	for (int i = 0; i < MEM_WAIT_MS; i++) {
		if (atomic_load(&pair.engine->pollers[0].sleeping))
			return;
		usleep(1000);
	}
	guest_fatal("the poller does not sleep");
}

static void send(void)
{
	struct mem_wr w = mem_wr(a, b, SEND, 64);

	mem_post(a, &w);
}

static bool both_complete(void)
{
	return mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0;
}

/* A SEND finds no receive, the poller sleeps, and the receive is posted: no pause so far. */
static void slow_message(void)
{
	uint64_t rnr = guest_stat(a->g, "rnr");

	send();
	if (!guest_stat_reaches(a->g, "rnr", rnr + 1, MEM_WAIT_MS))
		guest_fatal("a SEND without a receive does not wait");
	until_asleep();
	mem_recv(b, 0, 64);
	if (!both_complete())
		guest_fatal("SEND fails");
}

/*
 * New QPs.  The next wait begins with a pause.  @min_rnr_timer must be long: if this thread is
 * delayed for longer, the first message has a second wait, which pauses.  Then start again.
 */
static void prime(uint8_t rnr_retry, uint8_t min_rnr_timer)
{
	uint64_t rnr;

	for (int i = 0; i < 10; i++) {
		mem_pair_qps(&pair);
		a->attr.rnr_retry = rnr_retry;
		b->attr.min_rnr_timer = min_rnr_timer;
		mem_pair_connect(&pair);
		rnr = guest_stat(a->g, "rnr");
		atomic_store(&held.pauses, 0);
		slow_message();
		if (guest_stat(a->g, "rnr") == rnr + 1)
			break;
		mem_pair_drop_qps(&pair);
	}
	if (atomic_load(&held.pauses))
		guest_fatal("the first wait has a pause");
}

/* ---- a device: tests ------------------------------------------------------------------ */

static void test_pause(void)
{
	uint64_t rnr, kicks, start;

	prime(7, 0);					/* 655 ms */
	atomic_store(&held.hold, true);
	rnr = guest_stat(a->g, "rnr");
	start = guest_now_ns();
	send();
	ok(pauses_reach(1), "a sender that the last receive woke pauses");
	ok(need_db_is(0), "during the pause the receive ring asks for no doorbell");
	kicks = __atomic_load_n(&b->g->kicks, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < FEW; i++)
		mem_recv(b, 0, 64);
	ok(__atomic_load_n(&b->g->kicks, __ATOMIC_RELAXED) == kicks,
	   "receives that are posted meanwhile wake nobody");
	ok(mem_no_cqe(&a->scq), "and the SEND waits");
	end_pause();
	ok(both_complete(), "the end of the pause sends it");
	/* On a loaded machine this may have taken longer than the RNR timer. */
	rnr = guest_stat(a->g, "rnr") - rnr;
	ok(rnr && rnr <= 1 + (guest_now_ns() - start) / 655360000,
	   "the RNR NAK is counted once for each time of the RNR timer");

	for (uint32_t i = 1; i < FEW; i++)
		send();
	for (uint32_t i = 1; i < FEW; i++)
		if (!both_complete())
			guest_fatal("SEND fails");
	send();
	ok(pauses_reach(2), "after a useful pause the next wait begins with one as well");
	mem_recv(b, 0, 64);
	end_pause();
	ok(both_complete(), "and the sender finds the receive after it");
	atomic_store(&held.hold, false);
	mem_pair_drop_qps(&pair);
}

/* The receive comes after the pause: its doorbell ends the wait. */
static void test_backstop(void)
{
	uint64_t before, took, rnr;
	bool fast = false;

	for (int i = 0; i < 10 && !fast; i++) {
		prime(7, 0);				/* 655 ms */
		atomic_store(&held.hold, true);
		rnr = guest_stat(a->g, "rnr");
		send();
		if (!pauses_reach(1) || !need_db_is(0))
			guest_fatal("there is no pause");
		end_pause();
		if (!i)
			ok(need_db_is(1), "after a pause the receive ring asks for a doorbell");
		before = guest_now_ns();
		mem_recv(b, 0, 64);
		if (!both_complete())
			guest_fatal("SEND fails");
		took = guest_now_ns() - before;
		diag("woken by the receive after %llu us", (unsigned long long)took / 1000);
		fast = took < 200000000 && guest_stat(a->g, "rnr") == rnr + 1;
		atomic_store(&held.hold, false);
		mem_pair_drop_qps(&pair);
	}
	ok(fast, "and the receive wakes the sender, long before the RNR timer");
}

/* Something else schedules the QP during the pause. */
static void test_early(void)
{
	prime(7, 0);
	atomic_store(&held.hold, true);
	send();
	if (!pauses_reach(1) || !need_db_is(0))
		guest_fatal("there is no pause");
	send();
	ok(pauses_reach(2) && need_db_is(0), "another SEND does not end the pause");
	mem_recv(b, 0, 64);
	mem_recv(b, 0, 64);
	end_pause();
	ok(both_complete() && both_complete(), "both are sent after it");
	atomic_store(&held.hold, false);
	mem_pair_drop_qps(&pair);
}

/* The limit of RNR retries, and their time, are those of a wait without a pause. */
static void test_retries(void)
{
	uint64_t before, took, rnr;

	prime(1, 30);					/* 328 ms */
	rnr = guest_stat(a->g, "rnr");
	before = guest_now_ns();
	send();
	is(mem_status(&a->scq), VIRTIO_RDMA_WC_RNR_RETRY_EXC_ERR, "no receive: RNR_RETRY_EXC_ERR");
	took = guest_now_ns() - before;
	ok(atomic_load(&held.pauses), "it paused");
	ok(took >= 327680000, "after the time of the retry (%llu us)", (unsigned long long)took / 1000);
	is(guest_stat(a->g, "rnr"), rnr + 2, "and two RNR NAKs");
	mem_pair_drop_qps(&pair);
}

/* A poller that has nothing else to do leaves its CPU to the receiver at once. */
static void test_rest(void)
{
	uint64_t spins, least = UINT64_MAX;

	for (int i = 0; i < 10 && least > 16; i++) {
		prime(7, 0);
		atomic_store(&held.hold, true);
		until_asleep();
		spins = guest_engine_stat(pair.engine, "poller_spins");
		send();
		if (!pauses_reach(1))
			guest_fatal("there is no pause");
		until_asleep();
		spins = guest_engine_stat(pair.engine, "poller_spins") - spins;
		if (spins < least)
			least = spins;
		mem_recv(b, 0, 64);
		end_pause();
		if (!both_complete())
			guest_fatal("SEND fails");
		atomic_store(&held.hold, false);
		mem_pair_drop_qps(&pair);
	}
	ok(least <= 16, "in a pause the poller sleeps without spinning (%llu idle turns)",
	   (unsigned long long)least);
}

static void test_srq(void)
{
	struct guest_srq srq;

	if (guest_srq_create(&b->ctx, b->pd, 16, 1, &srq))
		guest_fatal("no SRQ");
	b->srq = &srq;
	mem_pair_qps(&pair);
	mem_pair_connect(&pair);
	atomic_store(&held.pauses, 0);
	for (int i = 0; i < 5; i++) {
		uint64_t rnr = guest_stat(a->g, "rnr");

		send();
		if (!guest_stat_reaches(a->g, "rnr", rnr + 1, MEM_WAIT_MS))
			guest_fatal("a SEND without a receive does not wait");
		usleep(2000);
		mem_post_srq(b, 0);
		if (!both_complete())
			guest_fatal("SEND fails");
	}
	is(atomic_load(&held.pauses), 0, "senders to an SRQ do not pause: others may wait for it too");
	mem_pair_drop_qps(&pair);
	b->srq = NULL;
	guest_srq_destroy(&srq);
}

int main(void)
{
	test_condition();
	test_useful();
	test_useless();

	mem_pair_open(&pair, 1, 64 << 20);
	test_pause();
	test_backstop();
	test_early();
	test_retries();
	test_rest();
	test_srq();
	mem_pair_close(&pair);
	return tap_done();
}
