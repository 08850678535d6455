// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The cost of the ibverbs transport for each request, on a host device that does nothing
 * (tests/null): from the guest's post to the guest's completion, with many requests
 * outstanding, so that the poller's time dominates.  The reference is a program that posts
 * the same requests to the same device directly.
 */
#include <string.h>

#include "bench.h"
#include "null_verbs.h"
#include "rig.h"

#define OPS	2048U
#define WINDOW	128U

static struct rig_pair pair;

/* ---- the transport ------------------------------------------------------------------ */

static double transport(struct rig_wrs *w, unsigned int every)
{
	uint32_t posted = 0, done = 0;
	uint64_t start = guest_now_ns();
	struct ibv_wc wc[16];

	while (done < OPS) {
		for (unsigned int i = 0; i < 16 && posted < OPS && posted - done <= WINDOW - w->num;
		     i += w->num) {
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
	return (double)(guest_now_ns() - start) / OPS;
}

static double transport_1(void *arg)
{
	return transport(arg, 1);
}

static double transport_16(void *arg)
{
	return transport(arg, 16);
}

/* ---- the device alone -------------------------------------------------------------- */

static struct ibv_qp *direct_qp;
static struct ibv_cq *direct_cq;

static void direct_open(void)
{
	struct ibv_context *ctx = ibv_open_device(ibv_get_device_list(NULL)[0]);
	struct ibv_qp_init_attr init = {
		.cap = { WINDOW, 1, 1, 1, 0 }, .qp_type = IBV_QPT_RC,
	};

	direct_cq = ibv_create_cq(ctx, 1024, NULL, NULL, 0);
	init.send_cq = init.recv_cq = direct_cq;
	direct_qp = ibv_create_qp(ibv_alloc_pd(ctx), &init);
}

static double direct(struct rig_wrs *w, unsigned int every)
{
	uint32_t posted = 0, done = 0;
	uint64_t start = guest_now_ns();
	struct ibv_send_wr *bad;
	struct ibv_wc wc[16];

	while (done < OPS) {
		for (unsigned int i = 0; i < 16 && posted < OPS && posted - done <= WINDOW - w->num;
		     i += w->num) {
			posted += w->num;
			if (w->num == 1)
				w->wr->send_flags = posted % every ? 0 : IBV_SEND_SIGNALED;
			if (ibv_post_send(direct_qp, w->wr, &bad))
				guest_fatal("the null device refuses a request");
		}
		for (int n = ibv_poll_cq(direct_cq, 16, wc); n; n--)
			done += every;
	}
	return (double)(guest_now_ns() - start) / OPS;
}

static double direct_1(void *arg)
{
	return direct(arg, 1);
}

static double direct_16(void *arg)
{
	return direct(arg, 16);
}

/* ---- rounds ---------------------------------------------------------------------------- */

static double latency(void *arg)
{
	return rig_latency(&pair.qp, &pair.cq, arg, 2000);
}

static void ready(void)
{
	struct rig_wrs w;

	rig_wrs_init(&w, &pair.qp, IBV_WR_RDMA_WRITE, 8, false, 1, true);
	rig_latency(&pair.qp, &pair.cq, &w, 20);
}

static void figure(const char *name, double (*fn)(void *arg), double (*alone)(void *arg),
		   struct rig_wrs *w)
{
	struct samples ns = { 0 }, without = { 0 };
	uint64_t start = guest_now_ns();

	for (unsigned int i = 0; bench_more(i, 5, 51, 4, start); i++) {
		samples_add(&ns, bench_sample(fn, w));
		if (alone)
			samples_add(&without, bench_sample(alone, w));
	}
	bench_result(&(struct bench_result){
			.value = samples_median(&ns), .unit = "ns", .ratio = BENCH_NO_RATIO,
			.reference = alone ? bench_fmt("the null device alone, %.0f ns",
						       samples_median(&without)) : NULL,
			.target = alone ? "<= 500" : NULL,
		     }, "native.ibverbs.%s", name);
	samples_free(&ns);
	samples_free(&without);
}

int main(int argc, char **argv)
{
	struct rig_wrs one, many, inl;

	bench_start(argc, argv, "native-ibverbs: the ibverbs transport on a host's device that does nothing");
	rig_pair_open_on(&pair, 65536, NULL_IBDEV, null_gids[1], null_gids[0]);
	direct_open();
	bench.ready = ready;
	rig_wrs_init(&one, &pair.qp, IBV_WR_RDMA_WRITE, 64, false, 1, true);
	rig_wrs_init(&many, &pair.qp, IBV_WR_RDMA_WRITE, 64, false, 16, false);
	rig_wrs_init(&inl, &pair.qp, IBV_WR_RDMA_WRITE, 8, true, 1, true);
	transport_1(&one);
	figure("write_64B.one_by_one.all_signaled", transport_1, direct_1, &one);
	figure("write_64B.one_by_one", transport_16, direct_16, &one);
	figure("write_64B.by_16", transport_16, direct_16, &many);
	figure("write_8B_inline.one_by_one", transport_16, direct_16, &inl);
	figure("latency", latency, NULL, &one);
	rig_pair_close(&pair);
	return bench_end();
}
