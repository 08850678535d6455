// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Idle QPs: the host memory that each uses, and their effect on the latency of an active QP.
 *
 * One guest owns them, in contexts of 4,096 QPs, each with rings of its own in guest memory
 * and connected in RTS, half of them to the other half.  Host memory is what the allocator
 * has given out; this program allocates nothing of its own while it creates them.  The
 * resident memory that is not shared with the guest is reported as well.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "reference.h"
#include "rig.h"

#define CTX_QPS		4096U
#define LATENCY_OPS	3000U

static struct rig_pair pair;

/* Bytes that malloc(), and mmap() on its behalf, have given out. */
static size_t allocated(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/* Resident bytes of this process that are not shared. */
static size_t resident(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long kb = 0;
	char line[128];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu kB", &kb) == 1)
			break;
	fclose(f);
	return kb * 1024;
}

/* ---- latency ---------------------------------------------------------------------- */

static double latency(void *arg)
{
	return rig_latency(&pair.qp, &pair.cq, arg, LATENCY_OPS);
}

static void ready(void)
{
	struct rig_wrs w;

	rig_wrs_init(&w, &pair.qp, IBV_WR_RDMA_WRITE, 8, false, 1, true);
	rig_latency(&pair.qp, &pair.cq, &w, 20);
}

/*
 * The samples with and without idle QPs are seconds apart.  Meanwhile a virtual CPU may move
 * to a place where a cache line takes twice as long, so each sample is also given in round
 * trips of the same moment.
 */
struct measured {
	struct samples ns, trips;
};

static void measure(struct measured *m)
{
	uint64_t start = guest_now_ns();
	struct rig_wrs w;

	rig_wrs_init(&w, &pair.qp, IBV_WR_RDMA_WRITE, 8, false, 1, true);
	latency(&w);
	for (unsigned int i = 0; bench_more(i, 25, 301, 2, start); i++) {
		struct sample trip = bench_sample(reference_round_trip, pair.engine);
		struct sample ns = bench_sample(latency, &w);

		samples_add(&m->ns, ns);
		samples_add(&m->trips, sample_ratio(ns, trip));
	}
}

static void measured_free(struct measured *m)
{
	samples_free(&m->ns);
	samples_free(&m->trips);
}

/* ---- idle QPs ----------------------------------------------------------------------- */

/* The pages were touched before, so creating QPs allocates nothing of this program. */
static void *own(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		guest_fatal("out of memory");
	return p;
}

struct idle {
	struct guest *g;
	struct guest_ctx *ctxs;
	struct guest_cq *cqs;		/* one in each context */
	uint32_t *pds;
	struct guest_qp *qps;
	unsigned int num;
};

static void idle_open(struct idle *idle, struct vrd_engine *engine, unsigned int num)
{
	struct guest_config cfg = {
		.id = 3, .limits.max_qp = num + 16,
		/* Each QP needs two pages of rings and one of control words. */
		.mem_size = num * 3ULL * GUEST_PAGE + (16U << 20),
	};

	idle->num = num;
	idle->ctxs = own(num / CTX_QPS * sizeof(*idle->ctxs));
	idle->cqs = own(num / CTX_QPS * sizeof(*idle->cqs));
	idle->pds = own(num / CTX_QPS * sizeof(*idle->pds));
	idle->qps = own(num * sizeof(*idle->qps));
	idle->g = guest_create(engine, &cfg);
}

static void idle_create(struct idle *idle)
{
	struct guest_qp_init init = {
		.type = VIRTIO_RDMA_QPT_RC, .sq_entries = 64, .rq_entries = 64,
	};

	for (unsigned int i = 0; i < idle->num; i++) {
		unsigned int c = i / CTX_QPS;

		if (i % CTX_QPS == 0 && (guest_ctx_create(idle->g, 0, &idle->ctxs[c]) ||
					 guest_pd_alloc(&idle->ctxs[c], &idle->pds[c]) ||
					 guest_cq_create(&idle->ctxs[c], 64, 0, &idle->cqs[c])))
			guest_fatal("CREATE_CTX, ALLOC_PD or CREATE_CQ fails");
		init.pd = idle->pds[c];
		init.send_cq = &idle->cqs[c];
		init.recv_cq = &idle->cqs[c];
		if (guest_qp_create(&idle->ctxs[c], &init, &idle->qps[i]))
			guest_fatal("CREATE_QP fails for QP %u", i);
	}
}

static void idle_connect(struct idle *idle)
{
	for (unsigned int i = 0; i < idle->num; i += 2)
		guest_qp_connect_pair(&idle->qps[i], &idle->qps[i + 1]);
}

static void idle_close(struct idle *idle)
{
	guest_destroy(idle->g);
	munmap(idle->ctxs, idle->num / CTX_QPS * sizeof(*idle->ctxs));
	munmap(idle->cqs, idle->num / CTX_QPS * sizeof(*idle->cqs));
	munmap(idle->pds, idle->num / CTX_QPS * sizeof(*idle->pds));
	munmap(idle->qps, idle->num * sizeof(*idle->qps));
}

/* ---- results -------------------------------------------------------------------------- */

static void tell(const char *name, double value, const char *unit, const char *target)
{
	bench_result(&(struct bench_result){
			.value = value, .unit = unit, .ratio = BENCH_NO_RATIO, .target = target,
		     }, "native.idle_qps.%s", name);
}

int main(int argc, char **argv)
{
	struct measured alone = { 0 }, beside = { 0 };
	size_t bytes, anon;
	struct idle idle;
	unsigned int num;

	bench_start(argc, argv, "native-idle: QPs that do nothing");
	num = bench.quick ? 2 * CTX_QPS : 65536;
	rig_pair_open(&pair, 65536);
	bench.ready = ready;
	measure(&alone);

	idle_open(&idle, pair.engine, num);
	bytes = allocated();
	anon = resident();
	idle_create(&idle);
	idle_connect(&idle);
	bytes = allocated() - bytes;
	anon = resident() - anon;
	measure(&beside);

	/* Measure without idle QPs again: the machine may have changed. */
	idle_close(&idle);
	measure(&alone);

	bench_heading("%u idle QPs in %u contexts", num, num / CTX_QPS);
	tell("bytes_each", (double)bytes / num, "bytes", "<= 1024");
	tell("resident_bytes_each", (double)anon / num, "bytes", NULL);
	bench_result(&(struct bench_result){
			.value = samples_median(&beside.ns), .unit = "ns",
			.ratio = samples_median(&beside.trips) / samples_median(&alone.trips),
			.target = "<= 1.1",
			.reference = bench_fmt("without idle QPs, %.1f ns; both in round trips",
					       samples_median(&alone.ns)),
		     }, "native.idle_qps.active_latency");
	measured_free(&alone);
	measured_free(&beside);
	rig_pair_close(&pair);
	return bench_end();
}
