// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands in flight, on a host's device whose calls do not return (tests/null): which
 * commands are carried out meanwhile, the order of commands that name one object, and pause.
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
#define STATE		VIRTIO_RDMA_QP_STATE

/* A command that must not wait, and an answer that must not come. */
#define SOON_MS		5000
#define QUIET_MS	50
#define IN_FLIGHT	64U		/* VRD_MAX_CMDS */
#define CALL_WORKERS	14U		/* VRD_MAX_CALL_WORKERS */

static struct mem_pair p;

/* ---- other commands ----------------------------------------------------------------------- */

/* The held command is in slot 0. */
static void test_others(void)
{
	struct mem_end other = p.a;
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct flight f;

	mem_pair_qps(&p);
	mem_end_open(&other, &init, 16);
	flight_begin(&f, p.a.g);
	null_hold(NULL_MODIFY_QP, p.a.qp.qpn);
	send_modify(&f, 0, p.a.qp.qpn, VIRTIO_RDMA_QPS_ERR);
	ok(null_held_reaches(NULL_MODIFY_QP, 1), "the host's modify_qp does not return");
	ok(serves(p.a.g, p.a.ctx.id, p.a.pd), "meanwhile the guest's other objects are served");
	send_modify(&f, 1, other.qp.qpn, VIRTIO_RDMA_QPS_ERR);
	is(flight_status(&f, 1, SOON_MS), S(OK), "its other QP is modified");
	ok(serves(p.b.g, p.b.ctx.id, p.b.pd), "and another guest is served");
	guest_set_memory(p.a.g);
	ok(true, "the memory table can be set");
	ok(!f.answered[0] && null_held(NULL_MODIFY_QP) == 1, "and all this time it had not returned");
	null_release(NULL_MODIFY_QP);
	is(flight_status(&f, 0, SOON_MS), S(OK), "then it is answered");
	flight_end(&f);
	mem_end_close(&other);
	mem_pair_drop_qps(&p);
}

/* Threads that wait for the network never are all threads. */
static void test_many_neighbours(void)
{
	struct mem_end ends[20];
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };
	struct flight f;
	bool good = true;

	for (unsigned int i = 0; i < 20; i++) {
		ends[i] = p.a;
		mem_end_open(&ends[i], &init, 16);
		mem_attr_to(&ends[i], p.b.g->gid, 7);
		good &= !mem_bring_up(&ends[i], VIRTIO_RDMA_QPS_INIT);
	}
	flight_begin(&f, p.a.g);
	null_hold(NULL_MODIFY_QP, 0);
	for (unsigned int i = 0; i < 20; i++) {
		struct virtio_rdma_modify_qp_req req = {
			.qpn = htole32(ends[i].qp.qpn), .attr = ends[i].attr,
			.mask = htole32(STATE | VIRTIO_RDMA_QP_AV | VIRTIO_RDMA_QP_PATH_MTU |
					VIRTIO_RDMA_QP_DEST_QPN | VIRTIO_RDMA_QP_RQ_PSN |
					VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC |
					VIRTIO_RDMA_QP_MIN_RNR_TIMER),
		};

		req.attr.state = VIRTIO_RDMA_QPS_RTR;
		FLIGHT_SEND(&f, i, MODIFY_QP, req);
	}
	ok(good && null_held_reaches(NULL_MODIFY_QP, 12),
	   "20 QPs look for neighbours that do not answer");
	ok(serves(p.a.g, p.a.ctx.id, p.a.pd), "the guest's other commands are carried out");
	null_release(NULL_MODIFY_QP);
	for (unsigned int i = 0; i < 20; i++)
		good &= flight_status(&f, i, SOON_MS) == S(OK);
	ok(good, "and all are answered in the end");
	flight_end(&f);
	for (unsigned int i = 0; i < 20; i++)
		mem_end_close(&ends[i]);
}

/* ---- order -------------------------------------------------------------------------------- */

static void test_one_object(void)
{
	struct virtio_rdma_query_qp_rsp *q;
	struct flight f;
	uint32_t qpn;

	mem_pair_qps(&p);
	qpn = p.a.qp.qpn;
	flight_begin(&f, p.a.g);
	null_hold(NULL_MODIFY_QP, qpn);
	send_modify(&f, 0, qpn, VIRTIO_RDMA_QPS_ERR);
	send_query(&f, 1, qpn);
	send_modify(&f, 2, qpn, VIRTIO_RDMA_QPS_RESET);
	send_query(&f, 3, qpn);
	send_destroy(&f, 4, CMD(DESTROY_QP), qpn);
	send_query(&f, 5, qpn);
	send_alloc_pd(&f, 6, p.a.ctx.id);
	is(flight_status(&f, 6, SOON_MS), S(OK), "a command about something else is answered");
	ok(!flight_wait(&f, 5, QUIET_MS) && f.num_answered == 1, "those about one QP wait");
	null_release(NULL_MODIFY_QP);
	is(flight_status(&f, 5, SOON_MS), S(NOENT), "a QP that was destroyed before is not found");
	ok(f.num_answered == 7 && f.order[1] == 0 && f.order[2] == 1 && f.order[3] == 2 &&
	   f.order[4] == 3 && f.order[5] == 4 && f.order[6] == 5, "they keep their order");
	is(flight_status(&f, 0, 0), S(OK), "MODIFY_QP");
	q = flight_rsp(&f, 1);
	is(q->attr.state, VIRTIO_RDMA_QPS_ERR, "QUERY_QP after it sees what it did");
	is(flight_status(&f, 2, 0), S(OK), "MODIFY_QP to RESET");
	q = flight_rsp(&f, 3);
	is(q->attr.state, VIRTIO_RDMA_QPS_RESET, "QUERY_QP sees that");
	is(flight_status(&f, 4, 0), S(OK), "DESTROY_QP");
	send_destroy(&f, 7, CMD(DEALLOC_PD),
		     le32toh(((struct virtio_rdma_alloc_pd_rsp *)flight_rsp(&f, 6))->pd));
	is(flight_status(&f, 7, SOON_MS), S(OK), "DEALLOC_PD");
	flight_end(&f);
	guest_qp_destroy(&p.b.qp);
	guest_cq_destroy(&p.a.scq);
	guest_cq_destroy(&p.a.rcq);
	guest_cq_destroy(&p.b.scq);
	guest_cq_destroy(&p.b.rcq);
}

/* What a creation names, and its destruction, in both orders. */
static void test_parents(void)
{
	struct guest_cq cq;
	struct mem_end end = p.a;
	struct flight f;
	uint32_t qpn;

	guest_cq_create(&p.a.ctx, 16, 0, &end.scq);
	guest_cq_create(&p.a.ctx, 16, 0, &end.rcq);
	cq = end.scq;
	flight_begin(&f, p.a.g);
	null_hold(NULL_CREATE_QP, 0);
	send_create_qp(&f, 0, &end);
	send_destroy(&f, 1, CMD(DESTROY_CQ), cq.cqn);
	ok(null_held_reaches(NULL_CREATE_QP, 1) && !flight_wait(&f, 1, QUIET_MS),
	   "DESTROY_CQ waits for a QP that is being made with it");
	send_create_qp(&f, 2, &end);
	ok(!flight_wait(&f, 2, QUIET_MS) && null_held(NULL_CREATE_QP) == 1,
	   "a QP that comes after it waits for it");
	null_release(NULL_CREATE_QP);
	is(flight_status(&f, 0, SOON_MS), S(OK), "CREATE_QP");
	is(flight_status(&f, 1, SOON_MS), S(BUSY), "DESTROY_CQ of a CQ with a QP");
	is(flight_status(&f, 2, SOON_MS), S(OK), "so the second QP is made");
	for (unsigned int i = 0; i < 3; i += 2) {
		qpn = le32toh(((struct virtio_rdma_create_qp_rsp *)flight_rsp(&f, i))->qpn);
		send_destroy(&f, 3 + i, CMD(DESTROY_QP), qpn);
		is(flight_status(&f, 3 + i, SOON_MS), S(OK), "DESTROY_QP");
	}

	null_hold(NULL_DESTROY_CQ, 0);
	send_destroy(&f, 10, CMD(DESTROY_CQ), cq.cqn);
	ok(null_held_reaches(NULL_DESTROY_CQ, 1), "the host's destroy_cq does not return");
	send_create_qp(&f, 11, &end);
	ok(!flight_wait(&f, 11, QUIET_MS), "a QP with a CQ that is being destroyed waits");
	null_release(NULL_DESTROY_CQ);
	is(flight_status(&f, 10, SOON_MS), S(OK), "DESTROY_CQ");
	is(flight_status(&f, 11, SOON_MS), S(NOENT), "and does not find it");
	send_destroy(&f, 12, CMD(DESTROY_CQ), end.rcq.cqn);
	is(flight_status(&f, 12, SOON_MS), S(OK), "DESTROY_CQ of the other");
	flight_end(&f);
}

/* More than the device has room for: the others stay on the ring. */
static void test_bound(void)
{
	struct flight f;
	bool good = true;
	uint32_t qpn;
	uint16_t at;

	mem_pair_qps(&p);
	qpn = p.a.qp.qpn;
	flight_begin(&f, p.a.g);
	at = f.g->vqs[0].avail_idx;
	null_hold(NULL_MODIFY_QP, qpn);
	send_modify(&f, 0, qpn, VIRTIO_RDMA_QPS_ERR);
	for (unsigned int i = 1; i < 100; i++)
		send_query(&f, i, qpn);
	ok(null_held_reaches(NULL_MODIFY_QP, 1), "100 commands, the first of which does not return");
	usleep(QUIET_MS * 1000);
	guest_stop_queues(f.g);
	is((uint16_t)(f.g->vqs[0].stopped_at - at), IN_FLIGHT, "the device takes so many of them");
	guest_start_queues(f.g);
	null_release(NULL_MODIFY_QP);
	for (unsigned int i = 0; i < 100; i++)
		good &= flight_status(&f, i, SOON_MS) == S(OK);
	ok(good, "all are answered");
	for (unsigned int i = 0; i < 100; i++)
		good &= f.order[i] == i;
	ok(good, "in order, as all name one QP");
	flight_end(&f);
	mem_pair_drop_qps(&p);
}

/* Registrations that do not return leave threads for the destruction of objects. */
static void test_ends(void)
{
	struct flight f;
	bool good = true;
	uint32_t mr;

	flight_begin(&f, p.a.g);
	send_reg_mr(&f, 100, p.a.pd);
	if (flight_status(&f, 100, SOON_MS))
		guest_fatal("REG_MR");
	mr = le32toh(((struct virtio_rdma_reg_mr_rsp *)flight_rsp(&f, 100))->mr);
	null_hold(NULL_REG_MR, 0);
	for (unsigned int i = 0; i < 40; i++)
		send_reg_mr(&f, i, p.a.pd);
	ok(null_held_reaches(NULL_REG_MR, CALL_WORKERS),
	   "as many registrations as may be made at a time");
	send_destroy(&f, 101, CMD(DEREG_MR), mr);
	is(flight_status(&f, 101, SOON_MS), S(OK), "a region is deregistered meanwhile");
	is(null_held(NULL_REG_MR), CALL_WORKERS, "while none of them returns");
	null_release(NULL_REG_MR);
	for (unsigned int i = 0; i < 40; i++) {
		good &= flight_status(&f, i, SOON_MS) == S(OK);
		send_destroy(&f, 101, CMD(DEREG_MR),
			     le32toh(((struct virtio_rdma_reg_mr_rsp *)flight_rsp(&f, i))->mr));
		good &= flight_status(&f, 101, SOON_MS) == S(OK);
	}
	ok(good, "then all are answered");
	flight_end(&f);
}

/* ---- pause --------------------------------------------------------------------------------- */

static void test_pause(void)
{
	struct flight f;
	uint64_t start;
	uint32_t id, len;

	mem_pair_qps(&p);
	flight_begin(&f, p.a.g);
	null_hold(NULL_MODIFY_QP, p.a.qp.qpn);
	send_modify(&f, 0, p.a.qp.qpn, VIRTIO_RDMA_QPS_ERR);
	send_query(&f, 1, p.a.qp.qpn);
	ok(null_held_reaches(NULL_MODIFY_QP, 1), "the queue stops while a command is under way");
	start = guest_now_ns();
	guest_stop_queues(p.a.g);
	ok(guest_now_ns() - start < 1000000000, "without waiting for it");
	null_release(NULL_MODIFY_QP);
	usleep(QUIET_MS * 1000);
	ok(!guest_vq_take(&f.g->vqs[0], &id, &len) &&
	   *(uint32_t *)flight_rsp(&f, 0) == 0xeeeeeeee &&
	   *(uint32_t *)flight_rsp(&f, 1) == 0xeeeeeeee,
	   "a stopped queue gets no answers");
	guest_start_queues(p.a.g);
	is(flight_status(&f, 0, SOON_MS), S(OK), "it gets them when it starts again");
	is(flight_status(&f, 1, SOON_MS), S(OK), "each one once, and in order");
	ok(f.num_answered == 2 && f.order[0] == 0, "and no other");
	is(guest_qp_state(&p.a.qp), VIRTIO_RDMA_QPS_ERR, "the device goes on");
	flight_end(&f);
	mem_pair_drop_qps(&p);
}

int main(void)
{
	struct guest_config a = { .ibdev = NULL_IBDEV, .host_mapped = MEM_HOST_MAPPED }, b = a;

	memcpy(a.gid, null_gids[1], 16);
	memcpy(b.gid, null_gids[0], 16);
	mem_pair_open_with(&p, 2, 64 << 20, &a, &b);
	test_others();
	test_many_neighbours();
	test_one_object();
	test_parents();
	test_bound();
	test_ends();
	test_pause();
	mem_pair_close(&p);
	is(null_objects(), 0, "at the end the host has no object");
	return tap_done();
}
