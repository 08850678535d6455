// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Many devices on one engine.
 *
 * Each device is a guest with a context, a CQ and an active QP, which writes 64 bytes at a
 * time into the next device's memory.  One thread acts for all guests in turn: at each visit
 * it posts 16 requests if the queue's window has room, and polls.  The window is 128
 * requests, more than needed, so that a single device is not limited by waiting for its
 * completions: the poller and the guest's thread are busy all the time, with one device as
 * with many.  The remaining difference is the cost of many devices: their cache lines,
 * doorbells of rings that are not watched, more contexts to scan.
 *
 * Then idle QPs: the host memory that each uses, and their effect on the latency of an
 * active QP.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "bench.h"
#include "reference.h"
#include "rig.h"

#define MAX_DEVICES	256U
#define WINDOW		128U
#define OPS		(32U * 1024)	/* requests of a sample; more if this does not fill the
					 * windows several times */
#define SAMPLES		5U		/* samples with the same devices, in each round */

struct device {
	struct guest *g;
	struct guest_side side;		/* its QP sends the WRITEs */
	struct guest_qp target;		/* and this device is their target */
	struct rig_ctx *ctx;
	struct rig_cq cq;
	struct rig_qp qp;
	struct rig_wrs wrs;
	uint32_t posted, done;
};

static struct device *devices;

/* What a sample measures. */
struct load {
	struct vrd_engine *engine;
	unsigned int devices, batch;	/* a batch of 1 or 16 */
};

/* ---- devices ------------------------------------------------------------------------ */

static void device_open(struct vrd_engine *engine, unsigned int i)
{
	struct guest_config cfg = { .id = i, .mem_size = 1U << 20 };
	struct device *d = &devices[i];

	memset(d, 0, sizeof(*d));
	d->g = guest_create(engine, &cfg);
	guest_side_open(d->g, GUEST_PAGE, 256, NULL, &d->side);
	guest_side_add_qp(&d->side, NULL, &d->target);
	d->ctx = rig_ctx_open(&d->side.ctx);
	rig_cq_open(&d->cq, d->ctx, &d->side.cq);
}

static void devices_open(struct load *load)
{
	for (unsigned int i = 0; i < load->devices; i++)
		device_open(load->engine, i);
	for (unsigned int i = 0; i < load->devices; i++) {
		struct device *d = &devices[i], *next = &devices[(i + 1) % load->devices];

		guest_qp_connect_pair(&d->side.qp, &next->target);
		rig_qp_open(&d->qp, d->ctx, &d->side.qp, &d->side.mr, &next->side.mr);
	}
}

static void devices_close(struct load *load)
{
	for (unsigned int i = 0; i < load->devices; i++) {
		rig_qp_close(&devices[i].qp, devices[i].ctx);
		rig_ctx_close(devices[i].ctx);
	}
	for (unsigned int i = 0; i < load->devices; i++)
		guest_destroy(devices[i].g);
}

/* ---- rates -------------------------------------------------------------------------- */

/* Posts to a device if there is room, and polls it; returns the number of completions. */
static unsigned int visit(struct device *d, unsigned int batch, bool more)
{
	struct ibv_wc wc[8];
	unsigned int n;

	if (more && d->posted - d->done <= WINDOW - batch) {
		rig_post(&d->qp, d->wrs.wr);
		d->posted += batch;
	}
	n = vrdma_poll_cq(&d->cq.v.vcq.cq, 8, wc);
	for (unsigned int i = 0; i < n; i++)
		rig_check_wc(&wc[i]);
	d->done += n * batch;
	return n * batch;
}

/* Millions of operations per second of all devices together. */
static double rate(void *arg)
{
	struct load *load = arg;
	uint32_t fills = 4 * WINDOW * load->devices, done = 0;
	uint32_t ops = load->batch == 1 ? OPS / 4 : OPS > fills ? OPS : fills;
	uint64_t start = guest_now_ns();

	while (done < ops)
		for (unsigned int i = 0; i < load->devices; i++)
			done += visit(&devices[i], load->batch, true);
	start = guest_now_ns() - start;
	/* Outstanding requests are not counted, and neither is the time to fill the windows. */
	for (unsigned int i = 0; i < load->devices; i++)
		while (devices[i].done != devices[i].posted)
			visit(&devices[i], load->batch, false);
	return done * 1000.0 / start;
}

static struct load *current;

static void ready(void)
{
	struct device *d = &devices[0];

	rig_post(&d->qp, d->wrs.wr);
	d->posted += current->batch;
	while (d->done != d->posted)
		visit(d, current->batch, false);
}

/* The median of a few samples, after all rings and pages have reached their steady state. */
static struct sample rate_of(struct load *load)
{
	struct sample one, median = { 0 };
	struct samples s = { 0 };

	current = load;
	for (unsigned int i = 0; i < load->devices; i++)
		rig_wrs_init(&devices[i].wrs, &devices[i].qp, IBV_WR_RDMA_WRITE, 64, false,
			     load->batch, false);
	bench.ready = ready;
	rate(load);
	for (unsigned int i = 0; i < SAMPLES; i++) {
		one = bench_sample(rate, load);
		samples_add(&s, one);
		median.clean |= one.clean;
	}
	bench.ready = NULL;
	median.v = samples_median(&s);
	samples_free(&s);
	return median;
}

static const unsigned int counts[] = { 1, 16, 64, 256 };
static const unsigned int batches[] = { 16, 1 };

#define NUM_COUNTS	(sizeof(counts) / sizeof(counts[0]))
#define NUM_BATCHES	(sizeof(batches) / sizeof(batches[0]))

struct figures {
	struct samples rates[NUM_BATCHES], ratios[NUM_BATCHES];
};

/* A new engine with @num devices: one sample for each batch size. */
static void sample_devices(unsigned int pollers, unsigned int num, struct sample out[NUM_BATCHES])
{
	struct load load = { .devices = num, .engine = rig_engine(pollers) };

	devices_open(&load);
	for (unsigned int b = 0; b < NUM_BATCHES; b++) {
		load.batch = batches[b];
		out[b] = rate_of(&load);
	}
	devices_close(&load);
	vrd_engine_destroy(load.engine);
}

/*
 * Opening many devices takes time: they are compared with the mean of one device before and
 * one after.
 */
static void measure_round(unsigned int pollers, struct figures figures[NUM_COUNTS])
{
	struct sample before[NUM_BATCHES], many[NUM_BATCHES], after[NUM_BATCHES];

	sample_devices(pollers, 1, before);
	for (unsigned int c = 1; c < NUM_COUNTS; c++) {
		sample_devices(pollers, counts[c], many);
		sample_devices(pollers, 1, after);
		for (unsigned int b = 0; b < NUM_BATCHES; b++) {
			struct sample one = {
				.v = (before[b].v + after[b].v) / 2,
				.clean = before[b].clean && after[b].clean,
			};

			samples_add(&figures[0].rates[b], one);
			samples_add(&figures[c].rates[b], many[b]);
			samples_add(&figures[c].ratios[b], sample_ratio(many[b], one));
			before[b] = after[b];
		}
	}
}

static void tell(struct figures figures[NUM_COUNTS], unsigned int pollers, unsigned int b,
		 unsigned int c)
{
	struct bench_result res = {
		.value = samples_median(&figures[c].rates[b]), .unit = "M/s",
		.ratio = BENCH_NO_RATIO,
	};

	if (c) {
		res.ratio = samples_median(&figures[c].ratios[b]);
		res.reference = bench_fmt("one device, %.2f M/s",
					  samples_median(&figures[0].rates[b]));
	}
	if (counts[c] == 256 && batches[b] == 16)
		res.target = ">= 0.9";
	if (res.target && pollers > 1 && get_nprocs() < (int)pollers + 1)
		res.excuse = bench_fmt("%u pollers and the guests' thread share %d CPUs",
				       pollers, get_nprocs());
	bench_result(&res, "native.scale.%u_device%s.%u_poller%s.by_%u", counts[c],
		     c ? "s" : "", pollers, pollers > 1 ? "s" : "", batches[b]);
}

static void measure_devices(unsigned int pollers, unsigned int quick, unsigned int full,
			    double seconds)
{
	struct figures figures[NUM_COUNTS] = { 0 };
	uint64_t start = guest_now_ns();

	for (unsigned int r = 0; bench_more(r, quick, full, seconds, start); r++)
		measure_round(pollers, figures);
	for (unsigned int b = 0; b < NUM_BATCHES; b++) {
		bench_heading("WRITE of 64 bytes, posted by %u, %u poller%s", batches[b], pollers,
			      pollers > 1 ? "s" : "");
		for (unsigned int c = 0; c < NUM_COUNTS; c++)
			tell(figures, pollers, b, c);
	}
	for (unsigned int c = 0; c < NUM_COUNTS; c++) {
		for (unsigned int b = 0; b < NUM_BATCHES; b++) {
			samples_free(&figures[c].rates[b]);
			samples_free(&figures[c].ratios[b]);
		}
	}
}

/* Thousands of descriptors: each device has four queues and some descriptors of its own. */
static void allow_files(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur >= 32768)
		return;
	limit.rlim_cur = limit.rlim_max < 32768 ? limit.rlim_max : 32768;
	if (setrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur < 8192)
		guest_fatal("256 devices need 8192 open files: raise the limit (ulimit -n)");
}

int main(int argc, char **argv)
{
	bench_start(argc, argv, "native-scale: many devices on one engine");
	allow_files();
	devices = calloc(MAX_DEVICES, sizeof(*devices));
	if (!devices)
		guest_fatal("out of memory");
	measure_devices(1, 3, 15, 20);
	measure_devices(2, 2, 9, 15);
	free(devices);
	return bench_end();
}
