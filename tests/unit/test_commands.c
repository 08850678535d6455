// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands in general: their envelope and lengths, what works before INIT, stale numbers,
 * quotas, requests that change while they are read, and what INIT destroys.  The commands of
 * each kind of object are in test_command_gids.c and test_command_objects.c.
 */
#include <linux/virtio_config.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))

#define CMD(name)	VIRTIO_RDMA_CMD_##name
#define S(name)		VIRTIO_RDMA_S_##name

/* Every opcode from 0 up, with 0xff in every byte after the header. */
static void garbage(struct raw *r, const char *when)
{
	uint8_t req[512], rsp[512];
	struct virtio_rdma_cmd_hdr *hdr = (void *)req;
	bool answered = true, refused = true, only_header = true;

	for (uint32_t op = 0; op < 64; op++) {
		for (uint32_t len = 0; len <= sizeof(req); len += 4) {
			int status;

			if (op == CMD(QUERY_DEVICE) || op == CMD(QUERY_STATS))
				if (len == sizeof(*hdr))
					continue;
			memset(req, 0xff, sizeof(req));
			hdr->opcode = op;
			hdr->length = len;
			status = raw_cmd(r, req, len, rsp, sizeof(rsp));
			answered = answered && status >= 0;
			refused = refused && status != S(OK);
			only_header = only_header && r->used_len == 8 &&
				      raw_filled_with(rsp + 8, 0xee, sizeof(rsp) - 8);
		}
	}
	ok(answered, "garbage %s is answered", when);
	ok(refused, "and refused");
	ok(only_header, "with the status header alone");
	ok(!vrd_device_is_broken(r->dev), "and breaks nothing");
}

static void before_init(struct raw *r)
{
	struct virtio_rdma_query_device_req q = { .hdr.opcode = CMD(QUERY_DEVICE) };
	struct virtio_rdma_query_device_rsp d;
	struct virtio_rdma_init_req init = {
		.hdr.opcode = CMD(INIT), .num_comp_vectors = 1,
	};
	struct virtio_rdma_rsp_hdr rsp;
	struct virtio_rdma_init_req bad, longer[2] = { init };

	vrd_device_reset(r->dev);
	raw_start(r, 0, 64);
	is(raw_cmd(r, &q, sizeof(q), &d, sizeof(d)), S(NOT_READY), "nothing works before INIT");
	garbage(r, "before INIT");

	bad = init;
	bad.num_comp_vectors = 0;
	is(raw_cmd(r, &bad, sizeof(bad), &rsp, sizeof(rsp)), S(INVAL), "INIT without vectors");
	bad.num_comp_vectors = RAW_QUEUES - 3 + 1;
	is(raw_cmd(r, &bad, sizeof(bad), &rsp, sizeof(rsp)), S(INVAL), "INIT with too many");
	bad = init;
	bad.reserved = 1;
	is(raw_cmd(r, &bad, sizeof(bad), &rsp, sizeof(rsp)), S(INVAL), "INIT, reserved not zero");
	bad = init;
	bad.hdr.length = 8;
	is(raw_cmd(r, &bad, sizeof(bad), &rsp, sizeof(rsp)), S(INVAL), "INIT, half as long");
	is(raw_cmd(r, &init, sizeof(init) - 4, &rsp, sizeof(rsp)), S(INVAL), "INIT too short");
	is(raw_cmd(r, longer, sizeof(init) + 8, &rsp, sizeof(rsp)), S(INVAL), "INIT too long");
	is(raw_cmd(r, &q, sizeof(q), &d, sizeof(d)), S(NOT_READY), "still not ready");
	is(raw_cmd(r, &init, sizeof(init), &rsp, sizeof(rsp)), S(OK), "INIT");
	is(r->used_len, sizeof(rsp), "the whole response is counted");
	garbage(r, "after INIT");
}

static void queries(struct raw *r)
{
	struct virtio_rdma_query_device_req q = { .hdr.opcode = CMD(QUERY_DEVICE) };
	struct virtio_rdma_query_device_rsp d;
	struct virtio_rdma_query_port_req pq = { .hdr.opcode = CMD(QUERY_PORT), .port_num = 1 };
	struct virtio_rdma_query_port_rsp p;
	struct virtio_rdma_query_stats_req sq = { .hdr.opcode = CMD(QUERY_STATS) };
	struct virtio_rdma_query_stats_rsp s;
	uint8_t gid[16];

	raw_recover(r);
	is(raw_cmd(r, &q, sizeof(q), &d, sizeof(d)), S(OK), "QUERY_DEVICE");
	is(r->used_len, sizeof(d), "length");
	ok(!d.hdr.reserved && !d.max_xrcd && !d.max_mw && !d.timestamp_hz, "what nobody offers is zero");
	raw_link_local(r, gid);
	ok(d.node_guid == __builtin_bswap64(*(uint64_t *)(gid + 8)), "GUID is the MAC's EUI-64");
	ok(d.vendor_id && d.vendor_part_id && d.max_qp && d.max_qp_wr && d.max_cqe && d.max_mr &&
	   d.max_send_sge && d.max_recv_sge && d.max_sge_rd && d.max_inline && d.max_qp_rd_atom &&
	   d.max_mr_size >= 1ULL << 30, "limits that programs look at are not zero");
	ok(d.max_srq && d.max_srq_wr && d.max_srq_sge, "with SRQ, so are those of SRQs");

	is(raw_cmd(r, &pq, sizeof(pq), &p, sizeof(p)), S(OK), "QUERY_PORT");
	is(p.state, VIRTIO_RDMA_PORT_ACTIVE, "port is active");
	ok(p.max_msg_sz >= 1U << 30, "messages of 1 GiB");
	ok(p.gid_tbl_len && p.pkey_tbl_len == 1 && p.active_mtu && p.active_speed, "port's numbers");
	pq.port_num = 0;
	is(raw_cmd(r, &pq, sizeof(pq), &p, sizeof(p)), S(INVAL), "port 0");
	pq.port_num = 2;
	is(raw_cmd(r, &pq, sizeof(pq), &p, sizeof(p)), S(INVAL), "port 2");

	is(raw_cmd(r, &sq, sizeof(sq), &s, sizeof(s)), S(OK), "QUERY_STATS");
	is(s.count, VIRTIO_RDMA_STAT_COUNT, "count");
	ok(s.counters[VIRTIO_RDMA_STAT_COMMANDS] > 4, "commands are counted");
}

/*
 * A driver that is newer than this device: its requests are longer, and so is
 * its room for the response.  What it asks for beyond today's device is refused.
 */
static void newer_driver(struct raw *r)
{
	struct {
		struct virtio_rdma_create_cq_req req;
		uint64_t later[3];
		struct virtio_rdma_extent ext;
	} q = {
		.req = {
			.hdr = { CMD(CREATE_CQ), sizeof(q.req) + sizeof(q.later) },
			.entries = 16, .cqe_size = 32, .ctrl_offset = 1024, .buf.num_extents = 1,
		},
	};
	struct {
		struct virtio_rdma_create_cq_rsp rsp;
		uint64_t later[2];
	} a;

	raw_recover(r);
	q.req.ctx = raw_ctx(r, 0);
	q.ext = (struct virtio_rdma_extent) { .addr = raw_alloc(r, 1), .pages = 1 };
	is(raw_cmd(r, &q, sizeof(q), &a, sizeof(a)), S(OK), "a longer request, the rest zero");
	is(r->used_len, sizeof(a.rsp), "is answered as far as the device knows");
	ok(raw_filled_with(a.later, 0xee, sizeof(a.later)), "and no byte more");
	is(raw_destroy(r, CMD(DESTROY_CQ), a.rsp.cqn), S(OK), "with a CQ that exists");
	q.later[2] = 1ULL << 63;
	is(raw_cmd(r, &q, sizeof(q), &a, sizeof(a)), S(UNSUPPORTED), "a longer one that wants more");
	is(r->used_len, sizeof(a.rsp.hdr), "is answered by the status alone");
	q.later[2] = 0;
	is(raw_cmd(r, &q, sizeof(q), &a, sizeof(a.rsp) - 8), S(INVAL),
	   "less room than version 1 has");
	q.req.hdr.length -= 4;
	is(raw_cmd(r, &q, sizeof(q) - 4, &a, sizeof(a)), S(INVAL), "no multiple of 8");
	q.req.hdr.length = sizeof(q.req) - 8;
	is(raw_cmd(r, &q, sizeof(q), &a, sizeof(a)), S(INVAL), "shorter than version 1");
	q.req.hdr.length = UINT32_MAX - 7;
	is(raw_cmd(r, &q, sizeof(q), &a, sizeof(a)), S(INVAL), "longer than what came");
	q.req.hdr.length = sizeof(q.req) + 8;
	is(raw_cmd(r, &q, sizeof(q), &a, sizeof(a)), S(INVAL), "bytes that belong to nothing");
	is(raw_stat(r, "cqs"), 0, "nothing is left");
}

/* A destroyed object's number finds nothing, even after its slot is reused. */
static void stale(struct raw *r)
{
	uint32_t ctx, pd, first;
	bool reused = false;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	first = raw_pd(r, ctx);
	raw_destroy(r, CMD(DEALLOC_PD), first);
	for (int i = 0; i < 3000; i++) {
		pd = raw_pd(r, ctx);
		reused = reused || pd == first;
		if (raw_destroy(r, CMD(DEALLOC_PD), pd)) {
			ok(false, "PD %u of turn %d is lost", pd, i);
			return;
		}
	}
	ok(!reused, "a number is not used again soon");
	is(raw_destroy(r, CMD(DEALLOC_PD), first), S(NOENT), "the stale one finds nothing");
}

static void quotas(void)
{
	static const struct vrd_limits limits = {
		.max_ctx = 2, .max_pd = 3, .max_mr = 2, .max_cq = 2, .max_qp = 2,
		.max_qp_wr = 20, .max_cqe = 100,
	};
	struct raw *r = raw_new(&limits, FEATURES);
	struct raw *other = raw_new_peer(r, NULL, FEATURES);
	struct virtio_rdma_reg_mr_rsp mr;
	struct virtio_rdma_extent ext;
	uint32_t ctx, pd, cq, qpn;

	raw_recover(r);
	raw_recover(other);
	ctx = raw_ctx(r, 0);
	ok(raw_ctx(r, 0), "two contexts");
	ok(!raw_ctx(r, 0) && raw_status == S(NOMEM), "a third is too much");
	pd = raw_pd(r, ctx);
	raw_pd(r, ctx);
	raw_pd(r, ctx);
	ok(!raw_pd(r, ctx) && raw_status == S(NOMEM), "a fourth PD is");
	cq = raw_cq(r, ctx, 128, 0);
	ok(cq, "128 entries where 100 are asked for");
	ok(!raw_cq(r, ctx, 256, 0) && raw_status == S(INVAL), "256 are too many");
	raw_cq(r, ctx, 1, 0);
	ok(!raw_cq(r, ctx, 1, 0) && raw_status == S(NOMEM), "a third CQ is");
	qpn = raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq);
	raw_qp(r, VIRTIO_RDMA_QPT_UD, ctx, pd, cq, cq);
	ok(!raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq) && raw_status == S(NOMEM),
	   "a third QP is");
	is(raw_destroy(r, CMD(DESTROY_QP), qpn), S(OK), "one goes");
	ok(raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq), "another comes");
	ext = (struct virtio_rdma_extent) { .addr = raw_alloc(r, 1), .pages = 1 };
	raw_reg_mr(r, pd, 0, 0, 1, &ext, 1, 1, &mr);
	raw_reg_mr(r, pd, 0, 0, 1, &ext, 1, 1, &mr);
	is(raw_reg_mr(r, pd, 0, 0, 1, &ext, 1, 1, &mr), S(NOMEM), "a third MR is too much");
	ok(raw_ctx(other, 0) && raw_ctx(other, 0) && raw_ctx(other, 0),
	   "another guest notices nothing");
	raw_free(other);
	raw_free(r);
}

/* The request changes while the device reads it. */
static _Atomic bool flip_stop;

static void *flip_request(void *opaque)
{
	struct raw *r = opaque;
	uint32_t *words = raw_ptr(r, r->req);
	unsigned int seed = 7;

	while (!atomic_load(&flip_stop)) {
		unsigned int i = 2 + rand_r(&seed) % 24;
		uint32_t old = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
		static const uint32_t evil[] = { 0, 1, 4096, 4097, 1U << 31, UINT32_MAX };

		__atomic_store_n(&words[i], evil[rand_r(&seed) % 6], __ATOMIC_RELAXED);
		__atomic_store_n(&words[i], old, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void flipped_requests(struct raw *r)
{
	uint32_t ctx, pd, cq, n = 0;
	pthread_t t;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	pd = raw_pd(r, ctx);
	cq = raw_cq(r, ctx, 16, 0);
	atomic_store(&flip_stop, false);
	pthread_create(&t, NULL, flip_request, r);
	for (int i = 0; i < 1000; i++) {
		struct virtio_rdma_extent x = { .addr = RAW_BASE, .pages = 2 };
		struct virtio_rdma_reg_mr_rsp mr;
		uint64_t mark = r->next;

		n += !!raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq);
		n += !!raw_cq(r, ctx, 16, 0);
		n += !raw_reg_mr(r, pd, 1, 0, 8192, &x, 1, 2, &mr);
		r->next = mark;
	}
	atomic_store(&flip_stop, true);
	pthread_join(t, NULL);
	ok(n && !vrd_device_is_broken(r->dev), "requests that change under the device's eyes");
	is(raw_init(r), S(OK), "INIT");
	is(raw_stat(r, "qps") + raw_stat(r, "cqs") + raw_stat(r, "mrs") + raw_stat(r, "mr_bytes"),
	   0, "leaves nothing of them");
}

static void leftovers(struct raw *r)
{
	uint32_t ctx, pd, cq;
	uint8_t gid[16];

	raw_recover(r);
	ctx = raw_ctx(r, VIRTIO_RDMA_CTX_KERNEL);
	pd = raw_pd(r, ctx);
	cq = raw_cq(r, ctx, 64, 0);
	for (int i = 0; i < 40; i++)
		raw_qp(r, i & 1 ? VIRTIO_RDMA_QPT_RC : VIRTIO_RDMA_QPT_UD, ctx, pd, cq, cq);
	raw_link_local(r, gid);
	raw_add_gid(r, 0, gid);
	is(raw_stat(r, "qps"), 40, "40 QPs");
	is(raw_init(r), S(OK), "INIT while they are there");
	is(raw_stat(r, "qps") + raw_stat(r, "cqs") + raw_stat(r, "pds") + raw_stat(r, "contexts"),
	   0, "destroys everything");
	is(raw_destroy(r, CMD(DESTROY_CTX), ctx), S(NOENT), "old numbers are not known");
}

int main(void)
{
	struct raw *r = raw_new(NULL, FEATURES);

	before_init(r);
	queries(r);
	newer_driver(r);
	stale(r);
	flipped_requests(r);
	leftovers(r);
	raw_free(r);
	quotas();
	return tap_done();
}
