// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands in flight, on a host's device whose calls do not return (tests/null): what
 * goes on meanwhile, the order of commands that name one object, pause, reset and
 * removal of the device.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_pair.h"
#include "null_verbs.h"
#include "tap.h"

#define CMD(name)	VIRTIO_RDMA_CMD_##name
#define S(name)		VIRTIO_RDMA_S_##name
#define STATE		VIRTIO_RDMA_QP_STATE

#define SLOTS		120U
#define SLOT_BYTES	1024U
#define RSP_OFFSET	768U
/* A command that must not wait, and something that must not come. */
#define SOON_MS		5000
#define QUIET_MS	50
#define IN_FLIGHT	64U		/* VRD_MAX_CMDS */
#define CALL_WORKERS	14U		/* VRD_MAX_CALL_WORKERS */
#define LEFT_BEHIND	256U		/* VRD_MAX_CANCELLED */

static struct mem_pair p;

/* ---- several commands at a time ------------------------------------------------------- */

/* Commands of one guest that it does not wait for, by slot; order[]: as they were answered. */
struct flight {
	struct guest *g;
	uint8_t *mem;
	bool answered[SLOTS];
	unsigned int order[SLOTS], num_answered;
};

static void flight_begin(struct flight *f, struct guest *g)
{
	memset(f, 0, sizeof(*f));
	f->g = g;
	f->mem = guest_alloc(g, SLOTS * SLOT_BYTES);
}

static void flight_end(struct flight *f)
{
	guest_free(f->g, f->mem, SLOTS * SLOT_BYTES);
}

static void *rsp_of(struct flight *f, unsigned int slot)
{
	return f->mem + slot * SLOT_BYTES + RSP_OFFSET;
}

/* @fixed: bytes of the request before its extents. */
static void send_cmd(struct flight *f, unsigned int slot, uint32_t op, void *req, uint32_t len,
		     uint32_t fixed)
{
	struct guest_vq *vq = &f->g->vqs[VIRTIO_RDMA_VQ_CONTROL];
	uint8_t *at = f->mem + slot * SLOT_BYTES;
	struct guest_desc desc[2] = {
		{ guest_addr(f->g, at), len, 0 },
		{ guest_addr(f->g, at + RSP_OFFSET), SLOT_BYTES - RSP_OFFSET, 2 },
	};

	*(struct virtio_rdma_cmd_hdr *)req = (struct virtio_rdma_cmd_hdr){
		.opcode = htole32(op), .length = htole32(fixed),
	};
	memcpy(at, req, len);
	memset(at + RSP_OFFSET, 0xee, SLOT_BYTES - RSP_OFFSET);
	f->answered[slot] = false;
	guest_vq_add(vq, 2 + 2 * slot, desc, 2);
	guest_vq_kick(vq);
}

#define SEND_CMD(f, slot, op, req) \
	send_cmd(f, slot, CMD(op), &(req), sizeof(req), sizeof(req))
/* With extents: @r.req is the fixed part. */
#define SEND_CMD_X(f, slot, op, r) \
	send_cmd(f, slot, CMD(op), &(r), sizeof(r), sizeof((r).req))

/* True if that command was answered in time; others that are count as well. */
static bool wait_cmd(struct flight *f, unsigned int slot, int timeout_ms)
{
	struct guest_vq *vq = &f->g->vqs[VIRTIO_RDMA_VQ_CONTROL];
	uint32_t id, len;

	while (!f->answered[slot]) {
		if (!guest_vq_wait(vq, &id, &len, timeout_ms))
			return false;
		if (id < 2 || id >= 2 + 2 * SLOTS || id & 1)
			guest_fatal("used element %u", id);
		f->answered[id / 2 - 1] = true;
		f->order[f->num_answered++] = id / 2 - 1;
	}
	return true;
}

/* Its status, or -1 if it is not answered in time. */
static int status_of(struct flight *f, unsigned int slot, int timeout_ms)
{
	if (!wait_cmd(f, slot, timeout_ms))
		return -1;
	return (int)le32toh(((struct virtio_rdma_rsp_hdr *)rsp_of(f, slot))->status);
}

static void send_modify(struct flight *f, unsigned int slot, uint32_t qpn, uint8_t state)
{
	struct virtio_rdma_modify_qp_req req = {
		.qpn = htole32(qpn), .mask = htole32(STATE), .attr.state = state,
	};

	SEND_CMD(f, slot, MODIFY_QP, req);
}

static void send_query(struct flight *f, unsigned int slot, uint32_t qpn)
{
	struct virtio_rdma_query_qp_req req = { .qpn = htole32(qpn) };

	SEND_CMD(f, slot, QUERY_QP, req);
}

static void send_destroy(struct flight *f, unsigned int slot, uint32_t op, uint32_t handle)
{
	struct virtio_rdma_destroy_req req = { .handle = htole32(handle) };

	send_cmd(f, slot, op, &req, sizeof(req), sizeof(req));
}

static void send_alloc_pd(struct flight *f, unsigned int slot, uint32_t ctx)
{
	struct virtio_rdma_alloc_pd_req req = { .ctx = htole32(ctx) };

	SEND_CMD(f, slot, ALLOC_PD, req);
}

static void send_reg_mr(struct flight *f, unsigned int slot, uint32_t pd)
{
	struct {
		struct virtio_rdma_reg_mr_req req;
		struct virtio_rdma_extent ext;
	} r = {
		.req = {
			.pd = htole32(pd), .access = htole32(1), .length = htole64(GUEST_PAGE),
			.iova = htole64(0x10000), .total_pages = htole64(1), .num_extents = htole32(1),
		},
		.ext = { .addr = htole64(f->g->base), .pages = htole32(1) },
	};

	SEND_CMD_X(f, slot, REG_MR, r);
}

/* No receive ring, no send ring: nothing but the objects that it names. */
static void send_create_qp(struct flight *f, unsigned int slot, const struct mem_end *end)
{
	struct {
		struct virtio_rdma_create_qp_req req;
		struct virtio_rdma_extent ext;
	} r = {
		.req = {
			.ctx = htole32(end->ctx.id), .pd = htole32(end->pd),
			.send_cqn = htole32(end->scq.cqn), .recv_cqn = htole32(end->rcq.cqn),
			.srqn = htole32(VIRTIO_RDMA_NONE), .qp_type = VIRTIO_RDMA_QPT_RC,
			.buf.num_extents = htole32(1),
		},
		.ext = { .addr = htole64(f->g->base), .pages = htole32(1) },
	};

	SEND_CMD_X(f, slot, CREATE_QP, r);
}

static bool comes_to(enum null_call call, unsigned int num)
{
	for (int i = 0; i < 5000 && null_held(call) < num; i++)
		usleep(1000);
	return null_held(call) >= num;
}

static bool objects_come_to(long num)
{
	for (int i = 0; i < 5000 && null_objects() != num; i++)
		usleep(1000);
	if (null_objects() != num)
		diag("%ld objects of the host, %ld were expected", null_objects(), num);
	return null_objects() == num;
}

/* ---- what goes on ----------------------------------------------------------------------- */

static bool serves_pd(struct guest *g, uint32_t ctx)
{
	struct flight f;
	bool good;

	flight_begin(&f, g);
	send_alloc_pd(&f, 100, ctx);
	good = status_of(&f, 100, SOON_MS) == S(OK);
	if (good) {
		send_destroy(&f, 101, CMD(DEALLOC_PD),
			     le32toh(((struct virtio_rdma_alloc_pd_rsp *)rsp_of(&f, 100))->pd));
		good = status_of(&f, 101, SOON_MS) == S(OK);
	}
	flight_end(&f);
	return good;
}

static bool serves(struct guest *g, uint32_t ctx, uint32_t pd)
{
	struct flight f;
	bool good = serves_pd(g, ctx);
	uint32_t mr;

	flight_begin(&f, g);
	send_reg_mr(&f, 102, pd);
	good = status_of(&f, 102, SOON_MS) == S(OK) && good;
	mr = le32toh(((struct virtio_rdma_reg_mr_rsp *)rsp_of(&f, 102))->mr);
	send_destroy(&f, 103, CMD(DEREG_MR), mr);
	good = status_of(&f, 103, SOON_MS) == S(OK) && good;
	flight_end(&f);
	return good;
}

/* The slots 100 to 103 are serves()'s; the held command is in slot 0. */
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
	ok(comes_to(NULL_MODIFY_QP, 1), "the host's modify_qp does not return");
	ok(serves(p.a.g, p.a.ctx.id, p.a.pd), "meanwhile the guest's other objects are served");
	send_modify(&f, 1, other.qp.qpn, VIRTIO_RDMA_QPS_ERR);
	is(status_of(&f, 1, SOON_MS), S(OK), "its other QP is modified");
	ok(serves(p.b.g, p.b.ctx.id, p.b.pd), "and another guest is served");
	guest_set_memory(p.a.g);
	ok(true, "the memory table can be set");
	ok(!f.answered[0] && null_held(NULL_MODIFY_QP) == 1, "and all this time it had not returned");
	null_release(NULL_MODIFY_QP);
	is(status_of(&f, 0, SOON_MS), S(OK), "then it is answered");
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
		SEND_CMD(&f, i, MODIFY_QP, req);
	}
	ok(good && comes_to(NULL_MODIFY_QP, 12), "20 QPs look for neighbours that do not answer");
	ok(serves(p.a.g, p.a.ctx.id, p.a.pd), "the guest's other commands are carried out");
	null_release(NULL_MODIFY_QP);
	for (unsigned int i = 0; i < 20; i++)
		good &= status_of(&f, i, SOON_MS) == S(OK);
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
	is(status_of(&f, 6, SOON_MS), S(OK), "a command about something else is answered");
	ok(!wait_cmd(&f, 5, QUIET_MS) && f.num_answered == 1, "those about one QP wait");
	null_release(NULL_MODIFY_QP);
	is(status_of(&f, 5, SOON_MS), S(NOENT), "a QP that was destroyed before is not found");
	ok(f.num_answered == 7 && f.order[1] == 0 && f.order[2] == 1 && f.order[3] == 2 &&
	   f.order[4] == 3 && f.order[5] == 4 && f.order[6] == 5, "they keep their order");
	is(status_of(&f, 0, 0), S(OK), "MODIFY_QP");
	q = rsp_of(&f, 1);
	is(q->attr.state, VIRTIO_RDMA_QPS_ERR, "QUERY_QP after it sees what it did");
	is(status_of(&f, 2, 0), S(OK), "MODIFY_QP to RESET");
	q = rsp_of(&f, 3);
	is(q->attr.state, VIRTIO_RDMA_QPS_RESET, "QUERY_QP sees that");
	is(status_of(&f, 4, 0), S(OK), "DESTROY_QP");
	send_destroy(&f, 7, CMD(DEALLOC_PD),
		     le32toh(((struct virtio_rdma_alloc_pd_rsp *)rsp_of(&f, 6))->pd));
	is(status_of(&f, 7, SOON_MS), S(OK), "DEALLOC_PD");
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
	ok(comes_to(NULL_CREATE_QP, 1) && !wait_cmd(&f, 1, QUIET_MS),
	   "DESTROY_CQ waits for a QP that is being made with it");
	send_create_qp(&f, 2, &end);
	ok(!wait_cmd(&f, 2, QUIET_MS) && null_held(NULL_CREATE_QP) == 1,
	   "a QP that comes after it waits for it");
	null_release(NULL_CREATE_QP);
	is(status_of(&f, 0, SOON_MS), S(OK), "CREATE_QP");
	is(status_of(&f, 1, SOON_MS), S(BUSY), "DESTROY_CQ of a CQ with a QP");
	is(status_of(&f, 2, SOON_MS), S(OK), "so the second QP is made");
	for (unsigned int i = 0; i < 3; i += 2) {
		qpn = le32toh(((struct virtio_rdma_create_qp_rsp *)rsp_of(&f, i))->qpn);
		send_destroy(&f, 3 + i, CMD(DESTROY_QP), qpn);
		is(status_of(&f, 3 + i, SOON_MS), S(OK), "DESTROY_QP");
	}

	null_hold(NULL_DESTROY_CQ, 0);
	send_destroy(&f, 10, CMD(DESTROY_CQ), cq.cqn);
	ok(comes_to(NULL_DESTROY_CQ, 1), "the host's destroy_cq does not return");
	send_create_qp(&f, 11, &end);
	ok(!wait_cmd(&f, 11, QUIET_MS), "a QP with a CQ that is being destroyed waits");
	null_release(NULL_DESTROY_CQ);
	is(status_of(&f, 10, SOON_MS), S(OK), "DESTROY_CQ");
	is(status_of(&f, 11, SOON_MS), S(NOENT), "and does not find it");
	send_destroy(&f, 12, CMD(DESTROY_CQ), end.rcq.cqn);
	is(status_of(&f, 12, SOON_MS), S(OK), "DESTROY_CQ of the other");
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
	ok(comes_to(NULL_MODIFY_QP, 1), "100 commands, the first of which does not return");
	usleep(QUIET_MS * 1000);
	guest_stop_queues(f.g);
	is((uint16_t)(f.g->vqs[0].stopped_at - at), IN_FLIGHT, "the device takes so many of them");
	guest_start_queues(f.g);
	null_release(NULL_MODIFY_QP);
	for (unsigned int i = 0; i < 100; i++)
		good &= status_of(&f, i, SOON_MS) == S(OK);
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
	if (status_of(&f, 100, SOON_MS))
		guest_fatal("REG_MR");
	mr = le32toh(((struct virtio_rdma_reg_mr_rsp *)rsp_of(&f, 100))->mr);
	null_hold(NULL_REG_MR, 0);
	for (unsigned int i = 0; i < 40; i++)
		send_reg_mr(&f, i, p.a.pd);
	ok(comes_to(NULL_REG_MR, CALL_WORKERS), "as many registrations as may be made at a time");
	send_destroy(&f, 101, CMD(DEREG_MR), mr);
	is(status_of(&f, 101, SOON_MS), S(OK), "a region is deregistered meanwhile");
	is(null_held(NULL_REG_MR), CALL_WORKERS, "while none of them returns");
	null_release(NULL_REG_MR);
	for (unsigned int i = 0; i < 40; i++) {
		good &= status_of(&f, i, SOON_MS) == S(OK);
		send_destroy(&f, 101, CMD(DEREG_MR),
			     le32toh(((struct virtio_rdma_reg_mr_rsp *)rsp_of(&f, i))->mr));
		good &= status_of(&f, 101, SOON_MS) == S(OK);
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
	ok(comes_to(NULL_MODIFY_QP, 1), "the queue stops while a command is under way");
	start = guest_now_ns();
	guest_stop_queues(p.a.g);
	ok(guest_now_ns() - start < 1000000000, "without waiting for it");
	null_release(NULL_MODIFY_QP);
	usleep(QUIET_MS * 1000);
	ok(!guest_vq_take(&f.g->vqs[0], &id, &len) &&
	   *(uint32_t *)rsp_of(&f, 0) == 0xeeeeeeee && *(uint32_t *)rsp_of(&f, 1) == 0xeeeeeeee,
	   "a stopped queue gets no answers");
	guest_start_queues(p.a.g);
	is(status_of(&f, 0, SOON_MS), S(OK), "it gets them when it starts again");
	is(status_of(&f, 1, SOON_MS), S(OK), "each one once, and in order");
	ok(f.num_answered == 2 && f.order[0] == 0, "and no other");
	is(guest_qp_state(&p.a.qp), VIRTIO_RDMA_QPS_ERR, "the device goes on");
	flight_end(&f);
	mem_pair_drop_qps(&p);
}

/* ---- reset ---------------------------------------------------------------------------------- */

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
	ok(comes_to(call, 1), "%s does not return", name);
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
	ok(objects_come_to(before), "and all that it used is given back");
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
	ok(host && comes_to(NULL_MODIFY_QP, 1), "a reset leaves a QP that a call uses");
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
	ok(objects_come_to(before), "nothing is left of it");
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
	ok(objects_come_to(before), "nothing is left of it");
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
	SEND_CMD(&f, 0, INIT, init);
	ok(!wait_cmd(&f, 0, QUIET_MS), "the device takes no more commands");
	is(guest_stat(g, "commands_pending"), LEFT_BEHIND, "and keeps those");
	null_release(NULL_REG_MR);
	is(status_of(&f, 0, SOON_MS), S(OK), "when calls return it takes the next one");
	guest_destroy(g);
	ok(objects_come_to(before), "and gives back what they used");
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
	ok(comes_to(NULL_MODIFY_QP, 1), "a device is removed while a call does not return");
	start = guest_now_ns();
	guest_destroy(g);
	ok(guest_now_ns() - start < 20000000000ULL, "that ends in time");
	ok(null_objects() > before, "what the call uses is there still");
	ok(serves(p.b.g, p.b.ctx.id, p.b.pd), "other devices go on");
	null_release(NULL_MODIFY_QP);
	ok(objects_come_to(before), "it goes when the call returns");
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
	test_others();
	test_many_neighbours();
	test_one_object();
	test_parents();
	test_bound();
	test_ends();
	test_pause();
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
