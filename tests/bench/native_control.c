// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cost of control: the rate at which the device executes commands that create and destroy
 * objects and register memory.
 *
 * The test guest acts as the driver: one command at a time on the control virtqueue.  It
 * looks for the answer for a short time before it sleeps, so a command costs thread switches
 * only if the control thread sleeps, or if it needs longer.  The figures do not contain what a guest's kernel adds (pinning pages, system
 * calls).
 *
 * Small pages: no two pages of a region are neighbours, so each page is an extent of its
 * own, and each command carries as many extents as it can.  Huge pages: one extent for each
 * 2 MiB.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench.h"
#include "rig.h"

#define OBJECTS		64U		/* created, then destroyed, in one sample */
#define LOOK_US		50U		/* as the driver: VRDMA_CMD_POLL_US */
#define MAX_REGION	(1ULL << 30)
#define HUGE_PAGES	512U
#define EXTENTS		VIRTIO_RDMA_MAX_CMD_EXTENTS

static struct vrd_engine *engine;
static struct guest *g;
static struct guest_side side;

/* ---- objects ---------------------------------------------------------------------- */

static struct guest_cq cqs[OBJECTS];
static struct guest_qp qps[OBJECTS];

static void must(uint32_t status, const char *what)
{
	if (status)
		guest_fatal("%s answers %u", what, status);
}

static void cq_create(unsigned int i)
{
	must(guest_cq_create(&side.ctx, 128, 0, &cqs[i]), "CREATE_CQ");
}

static void cq_destroy(unsigned int i)
{
	must(guest_cq_destroy(&cqs[i]), "DESTROY_CQ");
}

static void qp_create(unsigned int i)
{
	guest_side_add_qp(&side, NULL, &qps[i]);
}

static void qp_destroy(unsigned int i)
{
	must(guest_qp_destroy(&qps[i]), "DESTROY_QP");
}

static void qp_connect(unsigned int i)
{
	must(guest_qp_connect(&qps[i], g->gid, qps[OBJECTS - 1 - i].qpn), "MODIFY_QP");
}

/* The minimum cost of a command. */
static void query(unsigned int i)
{
	(void)i;
	guest_qp_state(&side.qp);
}

/* How often the device's threads have slept so far. */
static uint64_t sleeps(void)
{
	struct rusage process, guest;

	getrusage(RUSAGE_SELF, &process);
	getrusage(RUSAGE_THREAD, &guest);
	return (uint64_t)(process.ru_nvcsw - guest.ru_nvcsw);
}

/*
 * Commands make threads sleep and wake up, so preemption does not distinguish samples.
 * *@slept: sleeps of the device's threads for each command.  This number depends less on
 * the load of the machine.
 */
static struct sample per_second(void (*fn)(unsigned int i), struct sample *slept)
{
	uint64_t start = guest_now_ns(), before = sleeps();

	for (unsigned int i = 0; i < OBJECTS; i++)
		fn(i);
	*slept = (struct sample){ (double)(sleeps() - before) / OBJECTS, true };
	return (struct sample){ OBJECTS * 1e9 / (guest_now_ns() - start), true };
}

enum step { QUERY, CQ_CREATE, CQ_DESTROY, QP_CREATE, QP_CONNECT, QP_DESTROY, STEPS };

static const struct {
	const char *name;
	void (*fn)(unsigned int i);
} steps[STEPS] = {
	[QUERY] = { "query_qp", query },
	[CQ_CREATE] = { "create_cq", cq_create },
	[CQ_DESTROY] = { "destroy_cq", cq_destroy },
	[QP_CREATE] = { "create_qp", qp_create },
	[QP_CONNECT] = { "qp_to_rts", qp_connect },
	[QP_DESTROY] = { "destroy_qp", qp_destroy },
};

static void measure_objects(const char *pollers)
{
	struct samples s[STEPS] = { 0 }, sleeps_of[STEPS] = { 0 };
	uint64_t start = guest_now_ns();
	struct sample slept;

	for (unsigned int i = 0; bench_more(i, 9, 51, 5, start); i++)
		for (unsigned int step = 0; step < STEPS; step++) {
			samples_add(&s[step], per_second(steps[step].fn, &slept));
			samples_add(&sleeps_of[step], slept);
		}
	bench_heading("commands, poller %s", pollers);
	for (unsigned int step = 0; step < STEPS; step++) {
		bench_result(&(struct bench_result){
				.value = samples_median(&s[step]), .unit = "1/s",
				.ratio = BENCH_NO_RATIO,
			     }, "native.control.%s.poller_%s", steps[step].name, pollers);
		bench_result(&(struct bench_result){
				.value = samples_median(&sleeps_of[step]), .unit = "sleeps",
				.ratio = BENCH_NO_RATIO,
			     }, "native.control.%s.sleeps.poller_%s", steps[step].name, pollers);
		samples_free(&s[step]);
		samples_free(&sleeps_of[step]);
	}
}

/* ---- regions ------------------------------------------------------------------------- */

static struct virtio_rdma_extent *extents;

/* Pages of the upper part of guest memory, which is otherwise unused. */
static uint32_t describe(uint64_t length, bool huge)
{
	uint64_t base = g->base + g->cfg.mem_size / 2;
	uint64_t pages = length / GUEST_PAGE, n = 0;

	if (huge) {
		for (uint64_t p = 0; p < pages; p += HUGE_PAGES, n++) {
			extents[n].addr = htole64(base + p * GUEST_PAGE);
			extents[n].pages = htole32(pages - p < HUGE_PAGES ? pages - p : HUGE_PAGES);
		}
		return n;
	}
	/* First all even pages, in descending order, then all odd pages. */
	for (n = 0; n < pages; n++) {
		uint64_t page = n < (pages + 1) / 2 ? (pages - 1) / 2 * 2 - 2 * n :
						      2 * (n - (pages + 1) / 2) + 1;

		extents[n].addr = htole64(base + page * GUEST_PAGE);
		extents[n].pages = htole32(1);
	}
	return n;
}

static void reg_more(uint32_t mr, const struct virtio_rdma_extent *x, uint32_t num)
{
	uint32_t bytes = sizeof(struct virtio_rdma_reg_mr_more_req) + num * sizeof(*x);
	struct virtio_rdma_reg_mr_more_req *req = calloc(1, bytes);
	struct virtio_rdma_reg_mr_rsp rsp;

	if (!req)
		guest_fatal("out of memory");
	req->hdr.opcode = htole32(VIRTIO_RDMA_CMD_REG_MR_MORE);
	req->mr = htole32(mr);
	req->num_extents = htole32(num);
	memcpy(req->extents, x, num * sizeof(*x));
	must(guest_command_raw(g, req, bytes, &rsp, sizeof(rsp), NULL), "REG_MR_MORE");
	free(req);
}

/* Microseconds to register and to deregister one region. */
static void reg(uint64_t length, uint32_t num, struct sample *reg_us, struct sample *dereg_us)
{
	uint32_t first = num < EXTENTS ? num : EXTENTS;
	uint64_t start = guest_now_ns(), registered;
	struct guest_mr mr;

	must(guest_mr_reg_extents(g, side.pd, 0, length, VIRTIO_RDMA_ACCESS_LOCAL_WRITE |
				  VIRTIO_RDMA_ACCESS_REMOTE_WRITE, extents, first, &mr), "REG_MR");
	for (uint32_t done = first; done < num; done += first) {
		first = num - done < EXTENTS ? num - done : EXTENTS;
		reg_more(mr.handle, &extents[done], first);
	}
	registered = guest_now_ns();
	must(guest_mr_dereg(&mr), "DEREG_MR");
	*reg_us = (struct sample){ (registered - start) / 1e3, true };
	*dereg_us = (struct sample){ (guest_now_ns() - registered) / 1e3, true };
}

static void measure_region(uint64_t length, bool huge)
{
	uint32_t num = describe(length, huge);
	struct samples reg_us = { 0 }, dereg_us = { 0 };
	uint64_t start = guest_now_ns();
	struct sample r, d;

	for (unsigned int i = 0; bench_more(i, 5, 101, 1, start); i++) {
		reg(length, num, &r, &d);
		samples_add(&reg_us, r);
		samples_add(&dereg_us, d);
	}
	bench_result(&(struct bench_result){
			.value = samples_median(&reg_us), .unit = "us", .ratio = BENCH_NO_RATIO,
		     }, "native.control.reg_mr.%s.%s_pages", bench_size(length),
		     huge ? "huge" : "small");
	bench_result(&(struct bench_result){
			.value = samples_median(&dereg_us), .unit = "us", .ratio = BENCH_NO_RATIO,
		     }, "native.control.dereg_mr.%s.%s_pages", bench_size(length),
		     huge ? "huge" : "small");
	samples_free(&reg_us);
	samples_free(&dereg_us);
}

/* ---- the guest ----------------------------------------------------------------------- */

static void open_guest(struct vrd_engine *e)
{
	engine = e;
	g = guest_create(engine, &(struct guest_config){
		.id = 1, .mem_size = 4 * MAX_REGION, .look_us = LOOK_US,
	});
	guest_side_open(g, GUEST_PAGE, 64, NULL, &side);
}

static void close_guest(void)
{
	guest_destroy(g);
	vrd_engine_destroy(engine);
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = {
		4ULL << 10, 64ULL << 10, 1ULL << 20, 16ULL << 20, 256ULL << 20, MAX_REGION,
	};

	bench_start(argc, argv, "native-control: commands");
	extents = calloc(MAX_REGION / GUEST_PAGE, sizeof(*extents));
	if (!extents)
		guest_fatal("out of memory");

	/*
	 * With a sleeping poller, as between bursts of traffic; then with one that is awake, as
	 * under load.
	 */
	open_guest(guest_engine(1, 0));
	measure_objects("asleep");
	close_guest();
	open_guest(rig_engine(1));
	measure_objects("spinning");

	bench_heading("memory regions");
	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		measure_region(sizes[i], false);
		if (sizes[i] >= 1ULL << 20)
			measure_region(sizes[i], true);
	}
	close_guest();
	free(extents);
	return bench_end();
}
