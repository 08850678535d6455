// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reset and removal of a device while calls of the host do not return (tests/null), and what
 * the next driver must not get.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flight.h"
#include "null_verbs.h"
#include "tap.h"

#define CMD(name)	VIRTIO_RDMA_CMD_##name
#define S(name)		VIRTIO_RDMA_S_##name

/* A command that must not wait, and an answer that must not come. */
#define SOON_MS		5000
#define QUIET_MS	50
#define IN_FLIGHT	64U		/* VRD_MAX_CMDS */
#define LEFT_BEHIND	256U		/* VRD_MAX_CANCELLED */

static struct mem_pair p;

static struct guest_config config;

static struct guest *new_guest(void)
{
	struct guest_config c = config;

	c.name = "r";
	c.id = 9;
	c.mem_size = 16 << 20;
	return guest_create(p.engine, &c);
}

static void restart(struct guest *g)
{
	for (unsigned int i = 0; i < g->num_vqs; i++) {
		struct guest_vq *vq = &g->vqs[i];

		memset(vq->avail, 0, 6 + 2 * vq->num);
		memset(vq->used, 0, 6 + 8 * vq->num);
		vq->avail_idx = vq->used_idx = 0;
	}
	guest_start_queues(g);
}

/*
 * A reset while a host call does not return: it ends in time, the device works after it, and
 * what the call uses goes when it returns.
 */
static void test_reset(enum null_call call, const char *name)
{
	long before = null_objects();
	struct guest *g = new_guest();
	struct mem_end end = { .g = g };
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct flight f;
	uint64_t start;
	uint32_t id, len;

	mem_end_setup(&end);
	mem_end_open(&end, &init, 16);
	flight_begin(&f, g);
	null_hold(call, 0);
	switch (call) {
	case NULL_MODIFY_QP:
		send_modify(&f, 0, end.qp.qpn, VIRTIO_RDMA_QPS_ERR);
		break;
	case NULL_CREATE_QP:
		send_create_qp(&f, 0, &end);
		break;
	case NULL_DESTROY_QP:
		send_destroy(&f, 0, CMD(DESTROY_QP), end.qp.qpn);
		break;
	default:
		send_reg_mr(&f, 0, end.pd);
		break;
	}
	send_query(&f, 1, end.qp.qpn);
	ok(null_held_reaches(call, 1), "%s does not return", name);
	start = guest_now_ns();
	vrd_device_reset(g->dev);
	ok(guest_now_ns() - start < 10000000000ULL, "a reset ends in time");
	restart(g);
	is(guest_init(g), S(OK), "the next driver finds a device that works");
	is(guest_add_gid(g, 0, g->gid), S(OK), "and gives it an address");
	{
		struct guest_ctx ctx;
		uint32_t pd;

		ok(!guest_ctx_create(g, 0, &ctx) && !guest_pd_alloc(&ctx, &pd) &&
		   (call == NULL_REG_MR || serves(g, ctx.id, pd)), "and objects");
	}
	ok(null_held(call) >= 1, "while the call still has not returned");
	null_release(call);
	usleep(QUIET_MS * 1000);
	ok(!guest_vq_take(&g->vqs[0], &id, &len), "its late result is dropped");
	guest_destroy(g);
	ok(null_objects_reach(before), "and all that it used is given back");
}

/* Restarts the queues; the event queues keep their buffers. */
static void restart_with_events(struct guest *g)
{
	struct guest_vq *vq = &g->vqs[VIRTIO_RDMA_VQ_CONTROL];

	memset(vq->avail, 0, 6 + 2 * vq->num);
	memset(vq->used, 0, 6 + 8 * vq->num);
	vq->avail_idx = vq->used_idx = 0;
	guest_start_queues(g);
}

/*
 * A QP that a hung call keeps after a reset is not run for the next driver: not even if
 * the host reports an error of it and the device is suspended until the QP has been freed.
 */
static void test_qp_of_before(void)
{
	long before = null_objects();
	struct guest *g = new_guest();
	struct mem_end end = { .g = g };
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct virtio_rdma_event event;
	struct guest_ctx ctx;
	struct ibv_qp *host;
	struct flight f;

	mem_end_setup(&end);
	mem_end_open(&end, &init, 16);
	host = null_qp(end.qp.qpn);
	flight_begin(&f, g);
	null_hold(NULL_MODIFY_QP, end.qp.qpn);
	send_modify(&f, 0, end.qp.qpn, VIRTIO_RDMA_QPS_ERR);
	ok(host && null_held_reaches(NULL_MODIFY_QP, 1), "a reset leaves a QP that a call uses");
	vrd_device_reset(g->dev);
	restart_with_events(g);
	if (guest_init(g) || guest_ctx_create(g, 0, &ctx))
		guest_fatal("INIT or CREATE_CTX");
	guest_stop_queues(g);
	null_event(IBV_EVENT_QP_FATAL, host, false);
	usleep(QUIET_MS * 1000);
	null_release(NULL_MODIFY_QP);
	for (int i = 0; i < 5000 && guest_stat(g, "objects_ending"); i++)
		usleep(1000);
	is(guest_stat(g, "objects_ending"), 0, "the QP ends when the call returns");
	guest_start_queues(g);
	ok(!guest_event(g, &event, QUIET_MS), "the next driver gets no event of it");
	ok(serves_pd(g, ctx.id), "and is served");
	guest_destroy(g);
	ok(null_objects_reach(before), "nothing is left of it");
}

/*
 * A completion event that waits for a buffer when the device is reset is not delivered to
 * the next driver, although the CQ is still there: the host's destroy_cq does not return.
 */
static void test_event_of_before(void)
{
	long before = null_objects();
	struct guest *g = new_guest();
	struct mem_end end = { .g = g };
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct virtio_rdma_cqe cqe;
	uint32_t cqn;

	mem_end_setup(&end);
	mem_end_open(&end, &init, 16);
	mem_attr_to(&end, g->gid, 7);
	if (mem_bring_up(&end, VIRTIO_RDMA_QPS_INIT) ||
	    vrd_device_vq_stop(g->dev, VIRTIO_RDMA_VQ_COMP_BASE, NULL))
		guest_fatal("no INIT, or a queue does not stop");
	guest_arm(&end.rcq, false);
	guest_post_recv(&end.qp, NULL, 0);
	guest_qp_set_state(&end.qp, VIRTIO_RDMA_QPS_ERR);
	ok(guest_poll_wait(&end.rcq, &cqe, SOON_MS), "a completion event waits for its queue");
	usleep(QUIET_MS * 1000);
	null_hold(NULL_DESTROY_CQ, 0);
	vrd_device_reset(g->dev);
	restart_with_events(g);
	ok(!guest_init(g) && null_held(NULL_DESTROY_CQ) && !guest_comp_event(g, 0, &cqn, QUIET_MS),
	   "after a reset nobody gets it");
	null_release(NULL_DESTROY_CQ);
	guest_destroy(g);
	ok(null_objects_reach(before), "nothing is left of it");
}

/*
 * Resets over and over, while no call returns: the device keeps a bounded number of
 * commands of earlier drivers, and then takes no others until a call returns.
 */
static void test_left_behind(void)
{
	long before = null_objects();
	struct guest *g = new_guest();
	struct virtio_rdma_init_req init = {
		.num_comp_vectors = htole32(1),
	};
	unsigned int rounds = LEFT_BEHIND / IN_FLIGHT;
	struct guest_ctx ctx;
	struct flight f;
	bool good = true;
	uint32_t pd;

	if (guest_ctx_create(g, 0, &ctx) || guest_pd_alloc(&ctx, &pd))
		guest_fatal("CREATE_CTX or ALLOC_PD");
	flight_begin(&f, g);
	null_hold(NULL_REG_MR, 0);
	for (unsigned int i = 0; i < rounds && good; i++) {
		if (i && (guest_init(g) || guest_ctx_create(g, 0, &ctx)))
			guest_fatal("INIT or CREATE_CTX");
		/* The first ones take all workers; PDs wait for those. */
		for (unsigned int k = 0; k < IN_FLIGHT; k++) {
			if (i)
				send_alloc_pd(&f, k, ctx.id);
			else
				send_reg_mr(&f, k, pd);
		}
		good = guest_stat_reaches(g, "commands_pending", (i + 1) * IN_FLIGHT, SOON_MS);
		vrd_device_reset(g->dev);
		restart(g);
	}
	ok(good, "%u drivers, one after the other, make commands that do not end", rounds);
	FLIGHT_SEND(&f, 0, INIT, init);
	ok(!flight_wait(&f, 0, QUIET_MS), "the device takes no more commands");
	is(guest_stat(g, "commands_pending"), LEFT_BEHIND, "and keeps those");
	null_release(NULL_REG_MR);
	is(flight_status(&f, 0, SOON_MS), S(OK), "when calls return it takes the next one");
	guest_destroy(g);
	ok(null_objects_reach(before), "and gives back what they used");
}

/* The device goes while a call does not return. */
static void test_removal(void)
{
	long before = null_objects();
	struct guest *g = new_guest();
	struct mem_end end = { .g = g };
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct flight f;
	uint64_t start;

	mem_end_setup(&end);
	mem_end_open(&end, &init, 16);
	flight_begin(&f, g);
	null_hold(NULL_MODIFY_QP, 0);
	send_modify(&f, 0, end.qp.qpn, VIRTIO_RDMA_QPS_ERR);
	ok(null_held_reaches(NULL_MODIFY_QP, 1), "a device is removed while a call does not return");
	start = guest_now_ns();
	guest_destroy(g);
	ok(guest_now_ns() - start < 20000000000ULL, "that ends in time");
	ok(null_objects() > before, "what the call uses is there still");
	ok(serves(p.b.g, p.b.ctx.id, p.b.pd), "other devices go on");
	null_release(NULL_MODIFY_QP);
	ok(null_objects_reach(before), "it goes when the call returns");
	for (int i = 0; i < 5000 && guest_engine_stat(p.engine, "devices") != 2; i++)
		usleep(1000);
	is(guest_engine_stat(p.engine, "devices"), 2, "and the device as well");
}

int main(void)
{
	struct guest_config a = { .ibdev = NULL_IBDEV, .host_mapped = MEM_HOST_MAPPED }, b = a;

	config = a;
	memcpy(a.gid, null_gids[1], 16);
	memcpy(b.gid, null_gids[0], 16);
	mem_pair_open_with(&p, 2, 64 << 20, &a, &b);
	test_reset(NULL_MODIFY_QP, "modify_qp");
	test_reset(NULL_CREATE_QP, "create_qp");
	test_reset(NULL_DESTROY_QP, "destroy_qp");
	test_reset(NULL_REG_MR, "reg_mr");
	test_qp_of_before();
	test_event_of_before();
	test_left_behind();
	test_removal();
	mem_pair_close(&p);
	is(null_objects(), 0, "at the end the host has no object");
	return tap_done();
}
