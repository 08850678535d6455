// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Latency and bandwidth of WRITEs over their length, for the plot: one at a time from post
 * to completion, and 64 outstanding; between the same buffers.
 */
#include "bench.h"
#include "rig.h"

#define DEPTH		64U
#define MAX_MSG		(4U << 20)
#define SAMPLE_BYTES	(8U << 20)

static struct rig_pair pair;

struct run {
	struct rig_wrs wrs;
	uint32_t size, num;
};

static void ready(void)
{
	struct rig_wrs w;

	rig_wrs_init(&w, &pair.qp, IBV_WR_RDMA_WRITE, 8, false, 1, true);
	rig_latency(&pair.qp, &pair.cq, &w, 20);
}

static double latency(void *arg)
{
	struct run *r = arg;

	return rig_latency(&pair.qp, &pair.cq, &r->wrs, r->num) / 1000;
}

static double bandwidth(void *arg)
{
	struct run *r = arg;
	uint32_t posted = 0, done = 0;
	uint64_t start = guest_now_ns();
	struct ibv_wc wc[16];

	while (done < r->num) {
		for (; posted < r->num && posted - done < DEPTH; posted++)
			rig_post(&pair.qp, r->wrs.wr);
		for (int n = vrdma_poll_cq(&pair.cq.v.vcq.cq, 16, wc); n; n--, done++)
			rig_check_wc(&wc[n - 1]);
	}
	return (double)r->num * r->size / (guest_now_ns() - start);
}

static void measure(uint32_t size)
{
	struct samples us = { 0 }, gbs = { 0 };
	uint64_t start = guest_now_ns();
	struct run r = { .size = size };

	r.num = SAMPLE_BYTES / size;
	if (r.num > 4000)
		r.num = 4000;
	rig_wrs_init(&r.wrs, &pair.qp, IBV_WR_RDMA_WRITE, size, size <= 32, 1, true);
	bandwidth(&r);
	for (unsigned int i = 0; bench_more(i, 5, 31, 1, start); i++) {
		samples_add(&us, bench_sample(latency, &r));
		samples_add(&gbs, bench_sample(bandwidth, &r));
	}
	bench_result(&(struct bench_result){
			.value = samples_median(&us), .unit = "us", .ratio = BENCH_NO_RATIO,
		     }, "native.curve.latency.%u", size);
	bench_result(&(struct bench_result){
			.value = samples_median(&gbs), .unit = "GB/s", .ratio = BENCH_NO_RATIO,
		     }, "native.curve.bandwidth.%u", size);
	samples_free(&us);
	samples_free(&gbs);
}

int main(int argc, char **argv)
{
	bench_start(argc, argv, "native-curve: WRITE over the length of messages");
	rig_pair_open(&pair, MAX_MSG);
	bench.ready = ready;
	for (uint32_t size = 8; size <= MAX_MSG; size *= 2)
		measure(size);
	rig_pair_close(&pair);
	return bench_end();
}
