// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a guest with one queue pair gets beside a guest with thousands of busy ones, on one
 * poller.
 *
 * The neighbour makes 8-byte WRITEs, one after the other.  The crowd is another device, whose
 * queue pairs have a long WRITE each.  Its region names the same megabyte again and again, so
 * that its bytes stay in the cache.  It needs no guest CPU, and its copies do not end while this
 * program runs.  If the poller gave each device half of its time, the neighbour would have half
 * of the rate that it has alone.
 */
#include <stdlib.h>

#include "bench.h"
#include "guest.h"
#include "rig.h"

#define PINGS		100U
#define CROWD		3000U
#define CROWD_BYTES	(512U << 20)
#define EXTENTS		512U
#define EXTENT_PAGES	256U

static struct rig_pair pair;

/* ---- the crowd ---------------------------------------------------------------------- */

static struct {
	struct guest *g;
	struct guest_side side;
	struct guest_mr mr;
	struct guest_qp qps[CROWD];
} crowd;

static void crowd_open(struct vrd_engine *engine)
{
	struct guest_config cfg = {
		.name = "crowd", .fabric = "crowd", .id = 66,
		.mem_size = (64ULL << 20) + CROWD * 3ULL * GUEST_PAGE,
	};
	struct guest_qp_init init = { .sq_entries = 16, .rq_entries = 16, .max_send_sge = 1,
				      .max_recv_sge = 1, .max_inline = 32 };
	struct virtio_rdma_extent extents[EXTENTS];

	crowd.g = guest_create(engine, &cfg);
	guest_side_open(crowd.g, EXTENT_PAGES * GUEST_PAGE, 1024, NULL, &crowd.side);
	for (unsigned int i = 0; i < EXTENTS; i++)
		extents[i] = (struct virtio_rdma_extent){
			.addr = htole64(guest_addr(crowd.g, crowd.side.mem)),
			.pages = htole32(EXTENT_PAGES),
		};
	if (guest_mr_reg_extents(crowd.g, crowd.side.pd, 0, CROWD_BYTES,
				 VIRTIO_RDMA_ACCESS_LOCAL_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_WRITE,
				 extents, EXTENTS, &crowd.mr))
		guest_fatal("the crowd cannot register its memory");
	for (unsigned int i = 0; i < CROWD; i++) {
		guest_side_add_qp(&crowd.side, &init, &crowd.qps[i]);
		if (guest_qp_connect(&crowd.qps[i], crowd.g->gid, crowd.qps[i].qpn))
			guest_fatal("the crowd cannot connect");
	}
}

static void crowd_post(void)
{
	for (unsigned int i = 0; i < CROWD; i++) {
		struct guest_sge sge = { 3 * GUEST_PAGE, CROWD_BYTES - 4 * GUEST_PAGE,
					 crowd.mr.lkey };
		struct guest_wr wr = { .opcode = VIRTIO_RDMA_WR_RDMA_WRITE, .num_sge = 1,
				       .sge = &sge, .rkey = crowd.mr.rkey };

		guest_post_send(&crowd.qps[i], &wr);
	}
}

/* ---- the neighbour ---------------------------------------------------------------------- */

static uint64_t worst;

/* Thousands of round trips in a second; notes the longest one. */
static double rate(void *arg)
{
	struct rig_wrs *w = arg;
	uint64_t start = guest_now_ns(), last = start, now = start;

	worst = 0;
	for (unsigned int i = 0; i < PINGS; i++) {
		rig_post(&pair.qp, w->wr);
		rig_poll_one(&pair.cq);
		now = guest_now_ns();
		if (now - last > worst)
			worst = now - last;
		last = now;
	}
	return PINGS * 1e6 / (now - start);
}

int main(int argc, char **argv)
{
	struct samples alone = { 0 }, beside = { 0 }, longest = { 0 };
	struct bench_result share, trip;
	struct rig_wrs w;
	uint64_t start;

	bench_start(argc, argv, "native-neighbour: a guest beside one with 3,000 busy queue pairs");
	rig_pair_open(&pair, 65536);
	rig_wrs_init(&w, &pair.qp, IBV_WR_RDMA_WRITE, 8, false, 1, true);
	start = guest_now_ns();
	for (unsigned int r = 0; bench_more(r, 10, 50, 10, start); r++)
		samples_add(&alone, bench_sample(rate, &w));
	crowd_open(pair.engine);
	crowd_post();
	start = guest_now_ns();
	for (unsigned int r = 0; bench_more(r, 20, 100, 20, start); r++) {
		struct sample s = bench_sample(rate, &w);

		samples_add(&beside, s);
		samples_add(&longest, (struct sample){ worst / 1e6, s.clean });
	}

	share = (struct bench_result){
		.value = samples_median(&beside), .unit = "k/s",
		.reference = bench_fmt("a fair half, %.1f k/s", samples_median(&alone) / 2),
		.ratio = samples_median(&beside) / (samples_median(&alone) / 2),
		.target = ">= 0.4",
	};
	bench_result(&share, "native.neighbour.%u_busy_qps.rate", CROWD);
	trip = (struct bench_result){
		.value = samples_median(&longest), .unit = "ms", .ratio = BENCH_NO_RATIO,
		.target = "<= 2", .cost = true,
	};
	bench_result(&trip, "native.neighbour.%u_busy_qps.longest_of_%u", CROWD, PINGS);
	samples_free(&alone);
	samples_free(&beside);
	samples_free(&longest);
	guest_destroy(crowd.g);
	rig_pair_close(&pair);
	return bench_end();
}
