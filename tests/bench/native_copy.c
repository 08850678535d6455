// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * WRITE and READ of 4 KiB to 4 MiB, compared with memcpy().
 *
 * The poller's thread executes both, over the same host pointers, in the same order, with
 * the same number of alternating buffers, so the difference is the cost of the device.
 * Three kinds of memory:
 *
 *   hot        the buffers of both sides fit into the second-level cache of a core,
 *              or there is one buffer on each side if it is too large
 *   cold       buffers spread over memory that is larger than all caches
 *   scattered  regions of 4 KiB pages in random order, in both guests, hot;
 *              the reference copies page by page
 *
 * The bandwidth over message size, for the plot, is that of hot WRITEs.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "reference.h"
#include "rig.h"

#define PAGE		GUEST_PAGE
#define HOT_BYTES	(512U << 10)		/* of each side */
#define DEPTH		64U
#define SAMPLE_BYTES	(24U << 20)		/* that one sample moves */
#define MAX_MSG		(4U << 20)

enum memory { MEM_HOT, MEM_COLD, MEM_SCATTERED };

static const char *const memory_names[] = { "hot", "cold", "scattered" };

static struct rig_pair pair;
static uint64_t region;				/* size of each guest's cold memory, bytes */
static uint64_t cursor;				/* offset of the next cold buffer */

/* Regions of scattered pages, and the location of each page. */
static struct guest_mr scattered_mr[2];
static uint8_t *scattered_page[2][MAX_MSG / PAGE];

/* One sample: @num messages of @size, at most @depth outstanding. */
struct run {
	enum ibv_wr_opcode op;
	enum memory memory;
	uint32_t size, depth, num, slots;
	uint64_t start;				/* cold: offset of the first */
	struct ibv_sge sge[DEPTH];
	struct ibv_send_wr wr[DEPTH];
	struct reference_piece *pieces;
	size_t num_pieces;
};

static uint64_t offset_of(const struct run *r, uint32_t i)
{
	if (r->memory == MEM_COLD)
		return (r->start + (uint64_t)i * r->size) % region;
	return (uint64_t)(i % r->slots) * r->size;
}

/* ---- by the device ------------------------------------------------------------------ */

static void post(struct run *r, uint32_t i)
{
	struct ibv_send_wr *wr = &r->wr[i % DEPTH];
	struct ibv_sge *sge = &r->sge[i % DEPTH];
	const struct guest_mr *local = r->memory == MEM_SCATTERED ? &scattered_mr[0] : pair.qp.mr;
	const struct guest_mr *remote = r->memory == MEM_SCATTERED ? &scattered_mr[1] : pair.qp.rmr;
	uint64_t offset = offset_of(r, i);

	*sge = (struct ibv_sge){ local->iova + offset, r->size, local->lkey };
	*wr = (struct ibv_send_wr){
		.sg_list = sge, .num_sge = 1, .opcode = r->op, .send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = { .remote_addr = remote->iova + offset, .rkey = remote->rkey },
	};
	rig_post(&pair.qp, wr);
}

/* GB/s */
static double by_device(void *arg)
{
	struct run *r = arg;
	uint32_t posted = 0, done = 0;
	uint64_t start = guest_now_ns();
	struct ibv_wc wc[16];

	while (done < r->num) {
		while (posted < r->num && posted - done < r->depth)
			post(r, posted++);
		for (int n = vrdma_poll_cq(&pair.cq.v.vcq.cq, 16, wc); n; n--) {
			rig_check_wc(&wc[n - 1]);
			done++;
		}
	}
	return (double)r->num * r->size / (guest_now_ns() - start);
}

/* ---- by memcpy ----------------------------------------------------------------------- */

static void add_piece(struct run *r, uint8_t *a, uint8_t *b, size_t length)
{
	bool read = r->op == IBV_WR_RDMA_READ;

	r->pieces[r->num_pieces++] = (struct reference_piece){
		read ? a : b, read ? b : a, length,
	};
}

static void prepare(struct run *r)
{
	r->num_pieces = 0;
	for (uint32_t i = 0; i < r->num; i++) {
		uint64_t offset = offset_of(r, i);

		if (r->memory != MEM_SCATTERED) {
			add_piece(r, pair.sa.mem + offset, pair.sb.mem + offset, r->size);
			continue;
		}
		for (uint64_t page = offset / PAGE; page < (offset + r->size) / PAGE; page++)
			add_piece(r, scattered_page[0][page], scattered_page[1][page], PAGE);
	}
}

static double by_memcpy(void *arg)
{
	struct run *r = arg;
	struct reference_copy copy = {
		.engine = pair.engine, .pieces = r->pieces, .num = r->num_pieces,
	};

	reference_copy(&copy);
	return (double)r->num * r->size / copy.ns;
}

/* ---- rounds --------------------------------------------------------------------------- */

static void move_on(struct run *r)
{
	if (r->memory != MEM_COLD)
		return;
	r->start = cursor;
	cursor = (cursor + (uint64_t)r->num * r->size) % region;
}

static const char *target(const struct run *r)
{
	if (r->size >= 256U << 10)
		return r->depth > 1 ? ">= 0.95" : NULL;
	if (r->size == 64U << 10)
		return r->depth > 1 ? ">= 0.9" : ">= 0.6";
	return NULL;
}

/*
 * Nanoseconds that the device adds to memcpy: for each request, or for each page if those
 * are scattered.
 */
static struct sample cost(const struct run *r, struct sample device, struct sample reference)
{
	double ns = r->size / device.v - r->size / reference.v;

	return (struct sample){ r->memory == MEM_SCATTERED ? ns * PAGE / r->size : ns,
				device.clean && reference.clean };
}

static void tell_cost(const struct run *r, const struct samples *costs)
{
	bool scattered = r->memory == MEM_SCATTERED;

	if (r->memory == MEM_COLD || r->depth == 1 || r->size != (scattered ? 256U : 64U) << 10)
		return;
	bench_result(&(struct bench_result){
			.value = samples_median(costs), .unit = scattered ? "ns a page" : "ns",
			.ratio = BENCH_NO_RATIO, .target = scattered ? "<= 6" : "<= 50",
			.cost = true,
		     }, "native.cost.%s_%s.%s", r->op == IBV_WR_RDMA_READ ? "read" : "write",
		     bench_size(r->size), memory_names[r->memory]);
}

static void measure(enum ibv_wr_opcode op, enum memory memory, uint32_t size, uint32_t depth)
{
	struct run r = { .op = op, .memory = memory, .size = size, .depth = depth };
	struct samples device = { 0 }, reference = { 0 }, ratio = { 0 }, costs = { 0 };
	uint64_t start = guest_now_ns();
	struct sample d, m;

	r.num = SAMPLE_BYTES / size / (bench.quick ? 2 : 1);
	if (r.num > 2048)
		r.num = 2048;
	if (r.num < 4)
		r.num = 4;
	r.slots = HOT_BYTES / size ? HOT_BYTES / size : 1;
	if (r.slots > depth)
		r.slots = depth;
	r.pieces = calloc((size_t)r.num * (memory == MEM_SCATTERED ? size / PAGE : 1),
			  sizeof(*r.pieces));
	if (!r.pieces)
		guest_fatal("out of memory");
	prepare(&r);
	by_memcpy(&r);
	for (unsigned int i = 0; bench_more(i, 5, 31, 3, start); i++) {
		/*
		 * Cold: each sample continues where the other ended, so neither finds the
		 * memory in a cache.
		 */
		move_on(&r);
		d = bench_sample(by_device, &r);
		if (memory == MEM_COLD) {
			move_on(&r);
			prepare(&r);
		}
		m = bench_sample(by_memcpy, &r);
		samples_add(&device, d);
		samples_add(&reference, m);
		samples_add(&ratio, sample_ratio(d, m));
		samples_add(&costs, cost(&r, d, m));
	}
	bench_result(&(struct bench_result){
			.value = samples_median(&device), .unit = "GB/s",
			.ratio = samples_median(&ratio), .target = target(&r),
			.reference = bench_fmt("memcpy, %.2f GB/s", samples_median(&reference)),
		     }, "native.copy.%s.%s.depth_%u.%s", op == IBV_WR_RDMA_READ ? "read" : "write",
		     bench_size(size), depth, memory_names[memory]);
	tell_cost(&r, &costs);
	samples_free(&device);
	samples_free(&reference);
	samples_free(&ratio);
	samples_free(&costs);
	free(r.pieces);
}

/* ---- memory ---------------------------------------------------------------------------- */

/* Creates a region of the pages after the cold memory, in random order. */
static void scatter(struct guest_side *side, unsigned int which)
{
	const uint32_t num = MAX_MSG / PAGE;
	struct virtio_rdma_extent *extents = calloc(num, sizeof(*extents));
	uint8_t *mem = guest_alloc(side->g, 2 * MAX_MSG);
	uint32_t *order = calloc(num, sizeof(*order));

	if (!extents || !order)
		guest_fatal("out of memory");
	for (uint32_t i = 0; i < num; i++)
		order[i] = i;
	for (uint32_t i = num - 1; i; i--) {
		uint32_t j = random() % (i + 1), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (uint32_t i = 0; i < num; i++) {
		/* Every other page, so that no two are neighbours. */
		scattered_page[which][i] = mem + 2 * order[i] * (size_t)PAGE;
		extents[i].addr = htole64(guest_addr(side->g, scattered_page[which][i]));
		extents[i].pages = htole32(1);
	}
	if (guest_mr_reg_extents(side->g, side->pd, 0x10000, MAX_MSG,
				 VIRTIO_RDMA_ACCESS_LOCAL_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_WRITE |
				 VIRTIO_RDMA_ACCESS_REMOTE_READ, extents, num,
				 &scattered_mr[which]))
		guest_fatal("REG_MR of scattered pages fails");
	free(extents);
	free(order);
}

static void ready(void)
{
	struct rig_wrs w;

	rig_wrs_init(&w, &pair.qp, IBV_WR_RDMA_WRITE, 8, false, 1, true);
	rig_latency(&pair.qp, &pair.cq, &w, 20);
}

int main(int argc, char **argv)
{
	static const uint32_t sizes[] = {
		4U << 10, 16U << 10, 64U << 10, 256U << 10, 1U << 20, 4U << 20,
	};

	bench_start(argc, argv, "native-copy: WRITE and READ against memcpy by the poller's thread");
	region = bench.quick ? 128U << 20 : 384U << 20;
	rig_pair_open(&pair, region);
	/* guest_alloc() has touched all of it. */
	scatter(&pair.sa, 0);
	scatter(&pair.sb, 1);
	bench.ready = ready;

	for (unsigned int m = MEM_HOT; m <= MEM_SCATTERED; m++) {
		for (unsigned int op = 0; op < 2; op++) {
			bench_heading("%s, %s", op ? "READ" : "WRITE", memory_names[m]);
			for (unsigned int s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
				if (m == MEM_SCATTERED && sizes[s] == 4U << 10)
					continue;
				measure(op ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, m, sizes[s],
					DEPTH);
				if (sizes[s] <= 64U << 10 && m != MEM_COLD)
					measure(op ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, m,
						sizes[s], 1);
			}
		}
	}
	rig_pair_close(&pair);
	return bench_end();
}
