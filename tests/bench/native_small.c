// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Latency and rate of small messages: the cost of an operation beyond its bytes.
 *
 * The guest posts and polls with the provider's vrdma_post_send() and vrdma_poll_cq() on one
 * CPU, the poller runs on another.  Latencies are given in round trips of a cache line
 * between the two CPUs, the lower bound of any implementation with shared memory; rates are
 * given relative to a plain single-producer ring with the same entry size.
 */
#include <string.h>

#include "bench.h"
#include "reference.h"
#include "rig.h"
#include "shm.h"

#define LATENCY_OPS	3000U
#define RATE_OPS	(16U * 1024)
#define WINDOW		256U		/* entries of the send queue, all of them used */
/* Rings that the poller watches: poller_internal.h. */
#define WATCHED		64U
/*
 * The fillers get new work before the poller drops one: this number of operations takes less
 * time than its VRD_HOT_IDLE_TURNS turns.
 */
#define UNWATCHED_OPS	100U
#define UNWATCHED_TIMES	4U

static struct rig_pair pair;

enum figure {
	TRIP, RING_1, RING_16,
	LAT_INLINE, LAT_SGE, LAT_READ, LAT_UNWATCHED,
	RATE_1_ALL, RATE_1, RATE_16,
	FIGURES
};

static struct samples samples[FIGURES], ratios[FIGURES];
static struct samples costs[FIGURES];		/* nanoseconds beyond the round trip */

/* Both sides have a CPU when an operation has just completed. */
static void ready(void)
{
	struct rig_wrs w;

	rig_wrs_init(&w, &pair.qp, IBV_WR_RDMA_WRITE, 8, false, 1, true);
	rig_latency(&pair.qp, &pair.cq, &w, 20);
}

/* ---- latency ---------------------------------------------------------------------- */

static double latency(void *arg)
{
	return rig_latency(&pair.qp, &pair.cq, arg, LATENCY_OPS);
}

/*
 * A ring that the poller does not watch, because it watches the maximum number of others
 * that were used more recently: each post rings the doorbell.
 */
static struct guest_qp filler_gq[2 * WATCHED];
static struct rig_qp fillers[WATCHED];

static void fillers_open(void)
{
	for (unsigned int i = 0; i < WATCHED; i++) {
		guest_side_add_qp(&pair.sa, NULL, &filler_gq[2 * i]);
		guest_side_add_qp(&pair.sb, NULL, &filler_gq[2 * i + 1]);
		guest_qp_connect_pair(&filler_gq[2 * i], &filler_gq[2 * i + 1]);
		rig_qp_open(&fillers[i], pair.ctx, &filler_gq[2 * i], &pair.sa.mr, &pair.sb.mr);
	}
}

static void fillers_close(void)
{
	for (unsigned int i = 0; i < WATCHED; i++) {
		rig_qp_close(&fillers[i], pair.ctx);
		guest_qp_destroy(&filler_gq[2 * i]);
		guest_qp_destroy(&filler_gq[2 * i + 1]);
	}
}

static void fillers_work(void)
{
	struct rig_wrs w;

	for (unsigned int i = 0; i < WATCHED; i++) {
		rig_wrs_init(&w, &fillers[i], IBV_WR_RDMA_WRITE, 8, false, 1, true);
		rig_post(&fillers[i], w.wr);
		rig_poll_one(&pair.cq);
	}
}

static bool watched(void)
{
	return !vrd_load32(&pair.sa.qp.sq.ctrl->need_db);
}

static double latency_unwatched(void *arg)
{
	double ns = 0;

	/* The ring loses its place after all others have been used. */
	for (uint64_t until = guest_now_ns() + 1000000000ULL; watched(); fillers_work())
		if (guest_now_ns() > until)
			guest_fatal("the ring stays watched");
	for (unsigned int i = 0; i < UNWATCHED_TIMES; i++) {
		fillers_work();
		ns += rig_latency(&pair.qp, &pair.cq, arg, UNWATCHED_OPS);
	}
	if (watched())
		return -1;
	return ns / UNWATCHED_TIMES;
}

/* ---- rates ------------------------------------------------------------------------ */

/*
 * RATE_OPS requests, @w->num in each call of the provider, one of @every signaled; the
 * window is the whole send queue.
 */
static double rate(struct rig_wrs *w, unsigned int every)
{
	struct ibv_wc wc[16];
	uint32_t posted = 0, done = 0;
	uint64_t start = guest_now_ns();

	while (done < RATE_OPS) {
		/* Several posts for each poll, as in a program that fills its window. */
		for (unsigned int i = 0; i < 16 && posted < RATE_OPS &&
		     posted - done <= WINDOW - w->num; i += w->num) {
			posted += w->num;
			if (w->num == 1)
				w->wr->send_flags = posted % every ? 0 : IBV_SEND_SIGNALED;
			rig_post(&pair.qp, w->wr);
		}
		for (int n = vrdma_poll_cq(&pair.cq.v.vcq.cq, 16, wc); n; n--) {
			rig_check_wc(&wc[n - 1]);
			done += every;
		}
	}
	return RATE_OPS * 1000.0 / (guest_now_ns() - start);
}

static double rate_all(void *arg)
{
	return rate(arg, 1);
}

static double rate_16(void *arg)
{
	return rate(arg, 16);
}

/* ---- rounds ----------------------------------------------------------------------- */

static void take(enum figure f, double (*fn)(void *arg), void *arg)
{
	struct sample sample = bench_sample(fn, arg);

	if (sample.v > 0)
		samples_add(&samples[f], sample);
}

/* Relative to the reference of the same round, not to a median of another time. */
static void compare(enum figure f, enum figure with)
{
	for (unsigned int i = 0; i < samples[f].n && i < samples[with].n; i++) {
		samples_add(&ratios[f], sample_ratio(samples[f].s[i], samples[with].s[i]));
		samples_add(&costs[f], sample_minus(samples[f].s[i], samples[with].s[i]));
	}
}

static void run(void)
{
	struct rig_wrs inl, sge, read, one, many;
	uint64_t start = guest_now_ns();

	rig_wrs_init(&inl, &pair.qp, IBV_WR_RDMA_WRITE, 8, true, 1, true);
	rig_wrs_init(&sge, &pair.qp, IBV_WR_RDMA_WRITE, 8, false, 1, true);
	rig_wrs_init(&read, &pair.qp, IBV_WR_RDMA_READ, 8, false, 1, true);
	rig_wrs_init(&one, &pair.qp, IBV_WR_RDMA_WRITE, 64, false, 1, true);
	rig_wrs_init(&many, &pair.qp, IBV_WR_RDMA_WRITE, 64, false, 16, false);
	bench.ready = ready;
	latency(&inl);
	rate_all(&one);
	for (unsigned int i = 0; bench_more(i, 9, 101, 20, start); i++) {
		take(TRIP, reference_round_trip, pair.engine);
		take(LAT_INLINE, latency, &inl);
		take(LAT_SGE, latency, &sge);
		take(LAT_READ, latency, &read);
		take(RING_1, reference_ring_one, pair.engine);
		take(RATE_1_ALL, rate_all, &one);
		take(RATE_1, rate_16, &one);
		take(RING_16, reference_ring_16, pair.engine);
		take(RATE_16, rate_16, &many);
	}
	/* Run this last: the fillers' rings stay in the poller's list and cost time. */
	fillers_open();
	start = guest_now_ns();
	for (unsigned int i = 0; bench_more(i, 9, 101, 10, start); i++) {
		struct sample trip = bench_sample(reference_round_trip, pair.engine);
		struct sample sample = bench_sample(latency_unwatched, &sge);

		if (sample.v < 0)
			continue;
		samples_add(&samples[LAT_UNWATCHED], sample);
		samples_add(&ratios[LAT_UNWATCHED], sample_ratio(sample, trip));
		samples_add(&costs[LAT_UNWATCHED], sample_minus(sample, trip));
	}
	fillers_close();
}

/* ---- results ---------------------------------------------------------------------- */

static void tell_latency(enum figure f, const char *name, const char *target)
{
	struct bench_result r = {
		.value = samples_median(&samples[f]), .unit = "ns",
		.ratio = samples_median(&ratios[f]), .target = target,
		.reference = bench_fmt("cache-line round trip, %.1f ns",
				       samples_median(&samples[TRIP])),
	};

	if (!samples[f].n) {
		bench_say("%s: the ring did not stay unwatched", name);
		return;
	}
	bench_result(&r, "native.latency.%s", name);
}

/* A round trip is longer only where the threads wait for each other's CPU. */
#define BUSY_NS		1000

static void tell_cost(enum figure f, const char *name, const char *target)
{
	struct bench_result r = {
		.value = samples_median(&costs[f]), .unit = "ns", .ratio = BENCH_NO_RATIO,
		.target = target, .cost = true,
	};

	if (samples_median(&samples[TRIP]) > BUSY_NS)
		r.excuse = "the machine is busy with other work";
	if (samples[f].n)
		bench_result(&r, "native.cost.%s", name);
}

static void tell_rate(enum figure f, enum figure with, const char *name, const char *target)
{
	struct bench_result r = {
		.value = samples_median(&samples[f]), .unit = "M/s",
		.ratio = samples_median(&ratios[f]), .target = target,
		.reference = bench_fmt("single-producer ring, %.1f M/s",
				       samples_median(&samples[with])),
	};

	bench_result(&r, "native.rate.%s", name);
}

/* Absolute rates are required only on machines with a round trip below 130 ns. */
static void tell_absolute(enum figure f, const char *name, const char *target, double trip)
{
	struct bench_result r = {
		.value = samples_median(&samples[f]), .unit = "M/s",
		.ratio = BENCH_NO_RATIO, .target = target,
	};

	if (trip >= 130)
		r.excuse = bench_fmt("a cache line's round trip takes %.0f ns here, 130 or more",
				     trip);
	bench_result(&r, "native.rate.%s", name);
}

int main(int argc, char **argv)
{
	double trip;

	bench_start(argc, argv, "native-small: latency and rate of small messages");
	rig_pair_open(&pair, 65536);
	/* The window is the whole ring. */
	rig_qp_close(&pair.qp, pair.ctx);
	guest_side_add_qp(&pair.sa, &(struct guest_qp_init){ .sq_entries = WINDOW }, &pair.sa.qp);
	guest_side_add_qp(&pair.sb, NULL, &pair.sb.qp);
	guest_qp_connect_pair(&pair.sa.qp, &pair.sb.qp);
	rig_qp_open(&pair.qp, pair.ctx, &pair.sa.qp, &pair.sa.mr, &pair.sb.mr);

	run();
	compare(LAT_INLINE, TRIP);
	compare(LAT_SGE, TRIP);
	compare(LAT_READ, TRIP);
	compare(RATE_1_ALL, RING_1);
	compare(RATE_1, RING_1);
	compare(RATE_16, RING_16);

	trip = samples_median(&samples[TRIP]);
	bench_heading("one at a time, from post to completion");
	bench_result(&(struct bench_result){ .value = trip, .unit = "ns", .ratio = BENCH_NO_RATIO },
		     "native.round_trip");
	tell_latency(LAT_INLINE, "write_8B_inline", "<= 2.5");
	tell_latency(LAT_SGE, "write_8B", NULL);
	tell_latency(LAT_READ, "read_8B", NULL);
	tell_latency(LAT_UNWATCHED, "write_8B_unwatched", "<= 4");
	bench_heading("the same beyond one round trip");
	tell_cost(LAT_INLINE, "write_8B_inline", "<= 200");
	tell_cost(LAT_SGE, "write_8B", "<= 200");
	tell_cost(LAT_READ, "read_8B", NULL);
	tell_cost(LAT_UNWATCHED, "write_8B_unwatched", "<= 500");
	bench_heading("WRITE of 64 bytes, %u under way", WINDOW);
	tell_rate(RATE_1_ALL, RING_1, "write_64B_each_signaled", NULL);
	tell_rate(RATE_1, RING_1, "write_64B_one_by_one", ">= 0.5");
	tell_absolute(RATE_1, "write_64B_one_by_one.absolute", ">= 8", trip);
	tell_rate(RATE_16, RING_16, "write_64B_by_16", NULL);
	tell_absolute(RATE_16, "write_64B_by_16.absolute", ">= 20", trip);
	bench_result(&(struct bench_result){
			.value = samples_median(&samples[RATE_16]), .unit = "M/s",
			.ratio = BENCH_NO_RATIO, .target = ">= 35", .cost = true,
		     }, "native.cost.write_64B_by_16");

	rig_pair_close(&pair);
	return bench_end();
}
