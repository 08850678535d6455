// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands: their envelope, order, handles, quotas and values.  Each entry of
 * semantics.md 2 that concerns commands is here: counts and sizes (1), handles
 * (4), order (5), quotas (10), forged GIDs (12), used lengths (14).
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include "cmd_length.h"
#include "objects.h"
#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))

#define F(name)		(1ULL << VIRTIO_RDMA_F_##name)
#define CMD(name)	VIRTIO_RDMA_CMD_##name
#define S(name)		VIRTIO_RDMA_S_##name

static bool filled_with(const void *p, uint8_t v, size_t len)
{
	const uint8_t *b = p;

	while (len--)
		if (*b++ != v)
			return false;
	return true;
}

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
				      filled_with(rsp + 8, 0xee, sizeof(rsp) - 8);
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
	ok(!d.hdr.reserved && !d.max_xrcd && !d.page_sizes && !d.timestamp_hz, "what nobody offers is zero");
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

static void gids(struct raw *r)
{
	struct virtio_rdma_del_gid_req del = { .hdr.opcode = CMD(DEL_GID) };
	struct virtio_rdma_rsp_hdr rsp;
	uint8_t own[16], other[16] = { 0xfd, 1 }, zero[16] = { 0 }, mcast[16] = { 0xff, 2 };
	struct raw *peer = raw_new_peer(r, NULL, FEATURES);

	raw_recover(r);
	raw_recover(peer);
	raw_link_local(r, own);
	is(raw_add_gid(r, 0, own), S(OK), "the MAC's link-local GID");
	is(raw_add_gid(r, 0, other), S(EXIST), "an index that is taken");
	is(raw_add_gid(r, 2, own), S(OK), "a GID that is at another index already");
	is(raw_add_gid(r, 1, zero), S(INVAL), "no GID");
	is(raw_add_gid(r, 1, mcast), S(INVAL), "a multicast GID");
	is(raw_add_gid(r, 32, other), S(INVAL), "an index beyond the table");
	is(raw_add_gid(r, UINT32_MAX, other), S(INVAL), "the largest index");
	is(raw_add_gid(r, 1, other), S(OK), "any other GID, nothing being forbidden");
	is(raw_add_gid(peer, 0, other), S(EXIST), "which no other device may have then");
	is(raw_add_gid(peer, 0, own), S(PERM), "nor its link-local one");
	del.index = 1;
	is(raw_cmd(r, &del, sizeof(del), &rsp, sizeof(rsp)), S(OK), "DEL_GID");
	is(raw_cmd(r, &del, sizeof(del), &rsp, sizeof(rsp)), S(NOENT), "twice");
	del.index = 32;
	is(raw_cmd(r, &del, sizeof(del), &rsp, sizeof(rsp)), S(INVAL), "beyond the table");
	is(raw_add_gid(peer, 0, other), S(OK), "and then the other device may");
	is(raw_init(r), S(OK), "INIT");
	is(raw_add_gid(r, 5, own), S(OK), "forgets the GIDs");
	raw_free(peer);
}

/* GIDs of a device are reserved from its creation on, whether or not its guest runs. */
static void reserved_gids(struct raw *r)
{
	struct raw *peer = raw_new_peer(r, NULL, FEATURES);
	uint8_t own[16], mine[16], global[16], listed[16] = { 0xfd, 9 }, other[16] = { 0xfd, 10 };
	unsigned int count;

	raw_recover(r);
	raw_link_local(peer, own);
	raw_link_local(r, mine);
	memcpy(global, own, 16);
	memcpy(global, (uint8_t []) { 0x20, 1, 0xd, 0xb8 }, 4);
	is(raw_add_gid(r, 1, own), S(PERM), "the link-local GID of a device that does not run");
	is(raw_add_gid(r, 1, global), S(PERM), "another GID that is made from its MAC");
	peer->dev->num_allowed_gids = 1;
	memcpy(peer->dev->allowed_gids[0], listed, 16);
	is(raw_add_gid(r, 1, listed), S(PERM), "a GID that its owner listed for it");
	raw_recover(peer);
	is(raw_add_gid(peer, 0, own), S(OK), "its link-local GID is its own");
	is(raw_add_gid(peer, 1, listed), S(OK), "and so is the listed one");
	is(raw_add_gid(peer, 2, other), S(PERM), "others are not");
	is(raw_add_gid(peer, 3, global), S(PERM), "nor, beside a list, another one of its MAC");
	peer->dev->num_allowed_gids = 0;
	is(raw_add_gid(peer, 3, global), S(OK), "which without a list it may have");
	r->dev->own_gids_only = true;
	is(raw_add_gid(r, 1, other), S(PERM), "a device without any list of others");
	is(raw_add_gid(r, 2, mine), S(OK), "has its own");
	r->dev->own_gids_only = false;
	raw_free(peer);
	is(raw_add_gid(r, 3, global), S(OK), "a device that is gone reserves nothing");
	is(raw_add_gid(r, 4, own), S(OK), "not even its link-local GID");

	/* Hot-plug: the owner comes after the GID was taken. */
	count = raw_stat(r, "commands");
	peer = raw_new_peer(r, NULL, FEATURES);
	raw_recover(peer);
	is(raw_add_gid(peer, 0, own), S(OK), "its owner gets it all the same");
	is(raw_add_gid(r, 5, own), S(PERM), "and the other one not again");
	is(raw_destroy(r, VIRTIO_RDMA_CMD_DEL_GID, 4), S(OK), "which may delete what it had");
	is(raw_destroy(r, VIRTIO_RDMA_CMD_DEL_GID, 4), S(NOENT), "once");
	ok(raw_stat(r, "commands") > count, "its guest goes on");
	raw_free(peer);
	raw_recover(r);
}

/* What a GID stands for beside its number. */
static void gid_fields(struct raw *r)
{
	uint8_t own[16];
	struct virtio_rdma_add_gid_req good, q;
	struct virtio_rdma_rsp_hdr rsp;

	raw_recover(r);
	raw_link_local(r, own);
	good = raw_gid_fill(r, 0, own);
#define TRY(change, want, what)							\
	do {									\
		q = good;							\
		change;								\
		is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(want), "GID: " what);	\
	} while (0)
	TRY(q.gid_type = 1, UNSUPPORTED, "RoCE v1");
	TRY(q.gid_type = 0, UNSUPPORTED, "type 0");
	TRY(q.vlan_id = 5, UNSUPPORTED, "a VLAN, which was not negotiated");
	TRY(q.vlan_id = 0, UNSUPPORTED, "VLAN 0");
	TRY(q.reserved0 = 1, INVAL, "reserved0");
	TRY(q.reserved1[1] = 1, INVAL, "reserved1");
	TRY(q.smac[0] |= 1, INVAL, "a multicast source MAC");
	TRY(memset(q.smac, 0, 6), INVAL, "no source MAC");
	TRY(q.smac[5] ^= 1, OK, "another MAC than the netdev's, as a macvlan has it");
#undef TRY
}

/* An owner who lists GIDs: the guest gets these and its link-local GID. */
static void anti_spoofing(struct raw *r)
{
	uint8_t own[16], allowed[16] = { 0xfd, 7 }, forged[16] = { 0xfd, 8 };

	raw_recover(r);
	r->dev->num_allowed_gids = 1;
	memcpy(r->dev->allowed_gids[0], allowed, 16);
	raw_link_local(r, own);
	is(raw_add_gid(r, 0, forged), S(PERM), "a GID that the owner did not allow");
	is(raw_add_gid(r, 0, allowed), S(OK), "one that he did");
	is(raw_add_gid(r, 1, own), S(OK), "the MAC's link-local one");
	own[15] ^= 1;
	is(raw_add_gid(r, 2, own), S(PERM), "another's link-local one");
	r->dev->num_allowed_gids = 0;
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
	ok(filled_with(a.later, 0xee, sizeof(a.later)), "and no byte more");
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

static void contexts(struct raw *r)
{
	struct virtio_rdma_create_ctx_req req = { .hdr.opcode = CMD(CREATE_CTX) };
	struct virtio_rdma_create_ctx_rsp rsp;
	uint32_t ctx, pd;

	raw_recover(r);
	req.db_page = raw_alloc(r, 1);
	req.flags = 2;
	is(raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp)), S(UNSUPPORTED), "unknown flag");
	req.flags = 0;
	req.db_page += 64;
	is(raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp)), S(INVAL), "misaligned doorbell page");
	req.db_page = RAW_HOLE;
	is(raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp)), S(FAULT), "no memory");
	req.db_page = ~4095ULL;
	is(raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp)), S(FAULT), "the last page of all");
	ctx = raw_ctx(r, 0);
	ok(ctx, "CREATE_CTX");
	pd = raw_pd(r, ctx);
	ok(pd, "ALLOC_PD");
	raw_pd(r, ctx + 1);
	is(raw_status, S(NOENT), "ALLOC_PD of an unknown context");
	raw_pd(r, ctx | 0x80000000U);
	is(raw_status, S(NOENT), "and of a number with more than 24 bits");
	is(raw_destroy(r, CMD(DESTROY_CTX), ctx), S(BUSY), "a context with a PD stays");
	is(raw_destroy(r, CMD(DEALLOC_PD), pd), S(OK), "DEALLOC_PD");
	is(raw_destroy(r, CMD(DEALLOC_PD), pd), S(NOENT), "twice");
	is(raw_destroy(r, CMD(DESTROY_CTX), ctx), S(OK), "DESTROY_CTX");
	is(raw_destroy(r, CMD(DESTROY_CTX), ctx), S(NOENT), "twice");
	is(raw_stat(r, "contexts") + raw_stat(r, "pds"), 0, "nothing is left");
}

struct cq_cmd {
	struct virtio_rdma_create_cq_req req;
	struct virtio_rdma_extent ext[4];
};

static int create_cq(struct raw *r, const struct cq_cmd *c, uint32_t extents)
{
	struct virtio_rdma_create_cq_rsp rsp;
	int status;

	status = raw_cmd(r, c, sizeof(c->req) + extents * sizeof(c->ext[0]), &rsp, sizeof(rsp));
	if (!status)
		raw_destroy(r, CMD(DESTROY_CQ), rsp.cqn);
	return status;
}

static void cqs(struct raw *r)
{
	struct cq_cmd good, c;
	uint32_t ctx;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	good = (struct cq_cmd) {
		.req = {
			.hdr.opcode = CMD(CREATE_CQ), .ctx = ctx, .entries = 128, .cqe_size = 32,
			.ring_offset = 0, .ctrl_offset = 4096, .buf.num_extents = 1,
		},
		.ext[0] = { .addr = raw_alloc(r, 2), .pages = 2 },
	};
	is(create_cq(r, &good, 1), S(OK), "CREATE_CQ");

#define TRY(field, value, want, what)						\
	do {									\
		c = good;							\
		c.field = (value);						\
		is(create_cq(r, &c, 1), S(want), "CQ: " what);			\
	} while (0)
	TRY(req.entries, 0, INVAL, "no entries");
	TRY(req.entries, 1, OK, "one entry");
	TRY(req.entries, 3, INVAL, "3 entries");
	TRY(req.entries, 256, INVAL, "ring over the control words");
	TRY(req.entries, 1U << 31, INVAL, "2^31 entries");
	TRY(req.entries, UINT32_MAX, INVAL, "2^32 - 1 entries");
	TRY(req.cqe_size, 64, INVAL, "entries of 64 bytes");
	TRY(req.cqe_size, 0, INVAL, "entries of 0 bytes");
	TRY(req.vector, 1, OK, "second vector");
	TRY(req.vector, 2, INVAL, "vector that is not used");
	TRY(req.vector, UINT32_MAX, INVAL, "vector -1");
	TRY(req.ctx, 0, NOENT, "context 0");
	TRY(req.ring_offset, 32, INVAL, "misaligned ring");
	TRY(req.ring_offset, 0xfffff000, INVAL, "ring behind the buffer");
	TRY(req.ctrl_offset, 4096 + 64, INVAL, "misaligned control words");
	TRY(req.ctrl_offset, 0, INVAL, "control words over the ring");
	TRY(req.ctrl_offset, 8192, INVAL, "control words behind the buffer");
	TRY(req.ctrl_offset, 0xffffff80, INVAL, "control words at 4 GiB");
	TRY(req.ctrl_offset, 8192 - 128, OK, "control words at the end");
	TRY(req.buf.handle, 1, INVAL, "extents and a handle");
	TRY(req.buf.num_extents, 0, INVAL, "no extents");
	TRY(req.buf.num_extents, 2, INVAL, "more extents than came");
	TRY(req.buf.num_extents, UINT32_MAX, INVAL, "2^32 - 1 extents");
	TRY(req.buf.num_extents, 0x10000001, INVAL, "extents that wrap to one");
	TRY(ext[0].reserved, 1, INVAL, "reserved of an extent");
	TRY(ext[0].pages, 0, INVAL, "empty extent");
	TRY(ext[0].pages, 1, INVAL, "buffer too short");
	TRY(ext[0].pages, UINT32_MAX, OK, "an extent that is longer than needed");
	TRY(ext[0].addr, good.ext[0].addr + 8, INVAL, "misaligned extent");
	TRY(ext[0].addr, RAW_HOLE, FAULT, "not RAM");
	TRY(ext[0].addr, RAW_BASE + RAW_SIZE - 4096, FAULT, "one page of RAM, one not");
	TRY(ext[0].addr, ~4095ULL, FAULT, "extent that wraps");
	TRY(ext[0].addr, RAW_BASE + (1ULL << 44), FAULT, "an address whose lower 44 bits are RAM");
	c = good;
	c.req.buf.num_extents = 2;
	c.ext[0].pages = 1;
	c.ext[1] = c.ext[0];
	is(create_cq(r, &c, 2), S(OK), "CQ: the same page twice (its own risk)");
	is(create_cq(r, &c, 3), S(INVAL), "CQ: fewer extents than came");
	is(raw_stat(r, "cqs"), 0, "nothing is left");
}

static void resize(struct raw *r)
{
	struct {
		struct virtio_rdma_resize_cq_req req;
		struct virtio_rdma_extent ext[1];
	} q = {
		.req = {
			.hdr.opcode = CMD(RESIZE_CQ), .entries = 64, .ctrl_offset = 4096,
			.buf.num_extents = 1,
		},
	};
	struct virtio_rdma_rsp_hdr rsp;
	uint32_t ctx;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	q.ext[0] = (struct virtio_rdma_extent) { .addr = raw_alloc(r, 2), .pages = 2 };
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(NOENT), "RESIZE_CQ of none");
	q.req.cqn = raw_cq(r, ctx, 16, 0);
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(OK), "RESIZE_CQ");
	q.req.entries = 48;
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(INVAL), "to 48");
	q.req.entries = 64;
	q.ext[0].addr = RAW_HOLE;
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(FAULT), "to no memory");
	is(raw_destroy(r, CMD(DESTROY_CQ), q.req.cqn), S(OK), "it still goes");
}

static int create_qp(struct raw *r, const struct raw_qp_req *q, uint32_t extents)
{
	struct virtio_rdma_create_qp_rsp rsp;
	int status;

	status = raw_cmd(r, q, sizeof(q->req) + extents * sizeof(q->ext[0]), &rsp, sizeof(rsp));
	if (!status && raw_destroy(r, CMD(DESTROY_QP), rsp.qpn))
		return -3;
	return status;
}

static void qps(struct raw *r)
{
	uint32_t ctx, kctx, pd, cq, kpd, kcq, qpn;
	struct virtio_rdma_create_qp_rsp rsp;
	struct raw_qp_req good, q;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	kctx = raw_ctx(r, VIRTIO_RDMA_CTX_KERNEL);
	pd = raw_pd(r, ctx);
	kpd = raw_pd(r, kctx);
	cq = raw_cq(r, ctx, 64, 0);
	kcq = raw_cq(r, kctx, 64, 1);
	raw_qp_fill(r, &good, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq);
	is(create_qp(r, &good, 1), S(OK), "CREATE_QP");

#undef TRY
#define TRY(field, value, want, what)						\
	do {									\
		q = good;							\
		q.field = (value);						\
		is(create_qp(r, &q, 1), S(want), "QP: " what);			\
	} while (0)
	TRY(req.ctx, 99, NOENT, "unknown context");
	TRY(req.pd, 99, NOENT, "unknown PD");
	TRY(req.send_cqn, 99, NOENT, "unknown send CQ");
	TRY(req.recv_cqn, 99, NOENT, "unknown receive CQ");
	TRY(req.pd, kpd, INVAL, "PD of the kernel's context");
	TRY(req.send_cqn, kcq, INVAL, "send CQ of another context");
	TRY(req.recv_cqn, kcq, INVAL, "receive CQ of another context");
	TRY(req.ctx, kctx, INVAL, "kernel context with a process's objects");
	TRY(req.srqn, 1, NOENT, "with an SRQ that is not there");
	TRY(req.qp_type, 0, UNSUPPORTED, "type 0");
	TRY(req.qp_type, 255, UNSUPPORTED, "type 255");
	TRY(req.qp_type, VIRTIO_RDMA_QPT_GSI, PERM, "QP 1 for a process");
	TRY(req.sq_stride_shift, 7, INVAL, "send entries larger than a page");
	TRY(req.rq_stride_shift, 8, INVAL, "receive entries larger than a page");
	TRY(req.sq_stride_shift, 255, INVAL, "shift of 255");
	TRY(req.sq_stride_shift, 0, OK, "two SGEs in 64 bytes");
	TRY(req.rq_stride_shift, 0, INVAL, "two SGEs in a receive of 32 bytes");
	TRY(req.sq_entries, 0, OK, "no send queue");
	TRY(req.sq_entries, 3, INVAL, "3 send entries");
	TRY(req.sq_entries, 32, OK, "32 send entries fit");
	TRY(req.sq_entries, 64, INVAL, "64 reach into the receive queue");
	TRY(req.sq_entries, 1U << 31, INVAL, "2^31 send entries");
	TRY(req.sq_entries, UINT32_MAX, INVAL, "2^32 - 1 send entries");
	TRY(req.rq_entries, 32, INVAL, "receive queue over the control words");
	TRY(req.rq_entries, 0, INVAL, "control words of no receive queue");
	TRY(req.max_send_sge, 7, INVAL, "more SGEs than an entry holds");
	TRY(req.max_send_sge, 6, OK, "as many as it holds");
	TRY(req.max_send_sge, UINT32_MAX, INVAL, "2^32 - 1 SGEs");
	TRY(req.max_send_sge, 0x10000001, INVAL, "SGEs whose bytes wrap");
	TRY(req.max_recv_sge, 4, INVAL, "more receive SGEs than an entry holds");
	TRY(req.max_inline, 97, INVAL, "more inline than an entry holds");
	TRY(req.max_inline, 96, OK, "as much as it holds");
	TRY(req.max_inline, UINT32_MAX, INVAL, "2^32 - 1 bytes inline");
	TRY(req.sq_offset, 64, INVAL, "misaligned send queue");
	TRY(req.sq_offset, 4096, INVAL, "both queues in one place");
	TRY(req.rq_offset, 0, INVAL, "the same the other way");
	TRY(req.rq_offset, 8192, INVAL, "receive queue behind the buffer");
	TRY(req.sq_ctrl_offset, 4096 + 1024 + 64, INVAL, "misaligned control words");
	TRY(req.sq_ctrl_offset, 4096 + 1024 + 128, INVAL, "one block for both");
	TRY(req.sq_ctrl_offset, 0, INVAL, "control words in the send queue");
	TRY(req.sq_ctrl_offset, 0xffffff80, INVAL, "control words at 4 GiB");
	TRY(req.reserved0, 1, INVAL, "reserved0");
	TRY(req.xrcd, 1, UNSUPPORTED, "an XRC domain, which was not negotiated");
	TRY(ext[0].addr, RAW_HOLE, FAULT, "not RAM");
	TRY(ext[0].pages, 1, INVAL, "buffer too short");

	q = good;
	q.req.rq_entries = 0;
	q.req.rq_ctrl_offset = 0;
	is(create_qp(r, &q, 1), S(OK), "QP: no receive queue");
	q = good;
	q.req.qp_type = VIRTIO_RDMA_QPT_UD;
	is(create_qp(r, &q, 1), S(OK), "UD");
	q.req.sq_stride_shift = 0;
	q.req.max_send_sge = 0;
	q.req.max_inline = 0;
	is(create_qp(r, &q, 1), S(INVAL), "UD: an entry of 64 bytes has no room for data");

	raw_qp_fill(r, &q, VIRTIO_RDMA_QPT_GSI, kctx, kpd, kcq, kcq);
	is(raw_cmd(r, &q, sizeof(q.req) + 16, &rsp, sizeof(rsp)), S(OK), "QP 1 for the kernel");
	is(rsp.qpn, 1, "has number 1");
	is(create_qp(r, &q, 1), S(EXIST), "and there is only one");

	qpn = raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq);
	ok(qpn > 1 && qpn < 1U << 24, "a QP number of 24 bits");
	is(raw_destroy(r, CMD(DESTROY_CQ), cq), S(BUSY), "a CQ with a QP stays");
	is(raw_destroy(r, CMD(DEALLOC_PD), pd), S(BUSY), "so does its PD");
	is(raw_destroy(r, CMD(DESTROY_QP), pd), S(NOENT), "a PD's number is no QP");
	is(raw_destroy(r, CMD(DESTROY_QP), qpn), S(OK), "DESTROY_QP");
	is(raw_destroy(r, CMD(DESTROY_QP), qpn), S(NOENT), "twice");
	is(raw_destroy(r, CMD(DESTROY_CQ), cq), S(OK), "then the CQ goes");
	is(raw_destroy(r, CMD(DESTROY_QP), 1), S(OK), "QP 1 goes");
	is(raw_stat(r, "qps"), 0, "no QP is left");
	/* reset destroys the rest */
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

/* Rings may name the same page repeatedly: their total is bounded, whatever the memory. */
static void ring_bytes(struct raw *unused)
{
	/* Eight of these rings with their control words, and a page less than nine. */
	const struct vrd_limits limits = { .max_ring_bytes = (9 * 2049 - 1) * 4096 };
	struct raw *r = raw_new_peer(unused, &limits, FEATURES);
	struct cq_cmd c = {
		.req = {
			.hdr.opcode = CMD(CREATE_CQ), .entries = 262144, .cqe_size = 32,
			.ctrl_offset = 262144 * 32, .buf.num_extents = 1,
		},
	};
	struct virtio_rdma_create_cq_rsp rsp;
	unsigned int n = 0;
	int status;

	raw_recover(r);
	c.req.ctx = raw_ctx(r, 0);
	c.ext[0] = (struct virtio_rdma_extent) { .addr = RAW_BASE, .pages = 2049 };
	do {
		status = raw_cmd(r, &c, sizeof(c.req) + 16, &rsp, sizeof(rsp));
		n++;
	} while (!status && n < 100);
	ok(status == S(NOMEM) && n == 9, "rings beyond the quota are refused at the %uth", n);
	is(raw_stat(r, "ring_bytes"), 8 * 2049 * 4096, "the rest is counted");
	is(raw_destroy(r, CMD(DESTROY_CQ), 1), S(OK), "one goes");
	is(raw_cmd(r, &c, sizeof(c.req) + 16, &rsp, sizeof(rsp)), S(OK), "another comes");
	is(raw_init(r), S(OK), "INIT");
	is(raw_stat(r, "ring_bytes"), 0, "gives the pages back");
	c.req.ctx = raw_ctx(r, 0);
	is(raw_cmd(r, &c, sizeof(c.req) + 16, &rsp, sizeof(rsp)), S(OK), "to new rings");
	raw_free(r);
}

/* ---- buffers by handle ------------------------------------------------------- */

#define BUF_EXTENTS	4

/* CREATE_BUF with @handle 0, else FILL_BUF: @n pages of @from's, one by one, backwards. */
static int buf_cmd(struct raw *r, uint32_t *handle, uint32_t ctx, uint64_t total, uint64_t from,
		   uint32_t n)
{
	struct {
		union {
			struct virtio_rdma_create_buf_req create;
			struct virtio_rdma_fill_buf_req fill;
			struct virtio_rdma_extent ext[2 + BUF_EXTENTS];
		};
	} q;
	uint32_t fixed = *handle ? sizeof(q.fill) : sizeof(q.create);
	struct virtio_rdma_extent *ext = (void *)((uint8_t *)&q + fixed);
	struct virtio_rdma_create_buf_rsp rsp;
	int status;

	memset(&q, 0, sizeof(q));
	if (*handle)
		q.fill = (struct virtio_rdma_fill_buf_req) {
			.hdr.opcode = CMD(FILL_BUF), .buf = *handle, .num_extents = n,
		};
	else
		q.create = (struct virtio_rdma_create_buf_req) {
			.hdr.opcode = CMD(CREATE_BUF), .ctx = ctx, .num_extents = n,
			.total_pages = total,
		};
	for (uint32_t i = 0; i < n; i++)
		ext[i] = (struct virtio_rdma_extent) { .addr = from + i * 4096ULL, .pages = 1 };
	status = raw_cmd(r, &q, fixed + n * 16, &rsp, *handle ? sizeof(rsp.hdr) : sizeof(rsp));
	if (!status && !*handle)
		*handle = rsp.buf;
	return status;
}

static int cq_of(struct raw *r, uint32_t ctx, uint32_t handle, uint32_t entries, uint32_t *cqn)
{
	struct virtio_rdma_create_cq_req q = {
		.hdr.opcode = CMD(CREATE_CQ), .ctx = ctx, .entries = entries, .cqe_size = 32,
		.ctrl_offset = entries * 32, .buf.handle = handle,
	};
	struct virtio_rdma_create_cq_rsp rsp;
	int status = raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp));

	*cqn = status ? 0 : rsp.cqn;
	return status;
}

/* A ring of more extents than one command carries is filled by several. */
static void handles(struct raw *r)
{
	struct { struct virtio_rdma_create_qp_req req; struct virtio_rdma_extent ext[1]; } none = {
		.req = { .hdr.opcode = CMD(CREATE_QP), .srqn = VIRTIO_RDMA_NONE,
			 .qp_type = VIRTIO_RDMA_QPT_RC },
	};
	struct virtio_rdma_create_qp_rsp qp;
	uint32_t ctx, other, h = 0, h2 = 0, cqn, pd, i;
	uint64_t mem;
	int status;

	raw_recover(r);
	ctx = raw_ctx(r, 0);
	other = raw_ctx(r, 0);
	mem = raw_alloc(r, 9);
	is(buf_cmd(r, &h, ctx + 99, 9, mem, 4), S(NOENT), "BUF: unknown context");
	is(buf_cmd(r, &h, ctx, 0, mem, 1), S(INVAL), "BUF: no pages");
	is(buf_cmd(r, &h, ctx, (1 << 20) + 1, mem, 1), S(INVAL), "BUF: more than 4 GiB");
	is(buf_cmd(r, &h, ctx, UINT64_MAX, mem, 1), S(INVAL), "BUF: 2^64 - 1 pages");
	is(buf_cmd(r, &h, ctx, 3, mem, 4), S(INVAL), "BUF: more pages than it has");
	is(buf_cmd(r, &h, ctx, 9, mem, 0), S(INVAL), "BUF: no extents");
	is(raw_stat(r, "ring_bytes"), 0, "nothing is left");

	is(buf_cmd(r, &h, ctx, 9, mem, 4), S(OK), "CREATE_BUF");
	is(raw_stat(r, "ring_bytes"), 9 * 4096, "counts at once");
	is(cq_of(r, ctx, h, 1024, &cqn), S(INVAL), "a buffer that is not complete");
	is(buf_cmd(r, &h, 0, 0, mem + 4 * 4096, 4), S(OK), "FILL_BUF");
	is(buf_cmd(r, &h, 0, 0, mem + 8 * 4096, 2), S(INVAL), "with too many pages");
	is(buf_cmd(r, &h, 0, 0, 1ULL << 44, 1), S(FAULT), "with a page above all memory");
	/* 32 bits of its number are those of a page of RAM. */
	is(buf_cmd(r, &h, 0, 0, mem + (1ULL << 44), 1), S(FAULT), "or far above RAM");
	is(buf_cmd(r, &h, 0, 0, RAW_HOLE, 1), S(OK), "with what is no RAM");
	is(cq_of(r, ctx, h, 1024, &cqn), S(FAULT), "which the object finds");
	is(raw_destroy(r, CMD(DESTROY_BUF), h), S(OK), "DESTROY_BUF");
	is(raw_destroy(r, CMD(DESTROY_BUF), h), S(NOENT), "twice");
	h = 0;
	buf_cmd(r, &h, ctx, 9, mem, 4);
	buf_cmd(r, &h, 0, 0, mem + 4 * 4096, 4);
	is(buf_cmd(r, &h, 0, 0, mem + 8 * 4096, 1), S(OK), "the last page");
	is(raw_destroy(r, CMD(DESTROY_CTX), ctx), S(BUSY), "a context with a buffer stays");
	is(cq_of(r, other, h, 1024, &cqn), S(INVAL), "a buffer of another context");
	is(cq_of(r, ctx, h + 1, 1024, &cqn), S(NOENT), "an unknown buffer");
	is(cq_of(r, ctx, h, 2048, &cqn), S(INVAL), "one that is too small");
	is(cq_of(r, ctx, h, 1024, &cqn), S(OK), "a CQ of the buffer");
	is(buf_cmd(r, &h, 0, 0, mem, 1), S(NOENT), "which is no handle any more");
	is(cq_of(r, ctx, h, 1024, &i), S(NOENT), "and no other CQ's");
	is(raw_stat(r, "ring_bytes"), 9 * 4096, "counted once");
	is(raw_destroy(r, CMD(DESTROY_CQ), cqn), S(OK), "goes with the CQ");
	is(raw_stat(r, "ring_bytes"), 0, "with its pages");

	for (i = 0, status = 0; !status && i < 1000; i++) {
		h = 0;
		status = buf_cmd(r, &h, ctx, 9, mem, 1);
	}
	ok(status == S(NOMEM) && i == 257, "handles that nobody completes are bounded: %u", i);
	is(raw_init(r), S(OK), "INIT");
	is(raw_stat(r, "ring_bytes"), 0, "forgets them");

	ctx = raw_ctx(r, 0);
	pd = raw_pd(r, ctx);
	none.req.ctx = ctx;
	none.req.pd = pd;
	none.req.send_cqn = none.req.recv_cqn = raw_cq(r, ctx, 16, 0);
	is(raw_cmd(r, &none, sizeof(none.req), &qp, sizeof(qp)), S(OK), "a QP without rings");
	ok(qp.sq_slot == VIRTIO_RDMA_NONE && qp.rq_slot == VIRTIO_RDMA_NONE, "has no slots");
	is(raw_destroy(r, CMD(DESTROY_QP), qp.qpn), S(OK), "and goes");
	buf_cmd(r, &h2, ctx, 1, mem, 1);
	none.req.buf.handle = h2;
	is(raw_cmd(r, &none, sizeof(none.req), &qp, sizeof(qp)), S(INVAL), "nor a buffer");
	is(raw_destroy(r, CMD(DESTROY_BUF), h2), S(OK), "which stays");
}

/* semantics.md 2.2: the request changes while the device reads it. */
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

/* One command of type @op, whatever it says: of an unknown feature it is not read. */
static int any_command(struct raw *r, uint32_t op)
{
	struct { struct virtio_rdma_create_srq_req req; uint64_t more[4]; } q = {
		.req.hdr.opcode = op,
	};
	uint8_t rsp[512];

	return raw_cmd(r, &q, cmd_length(op), rsp, sizeof(rsp));
}

static void features(struct raw *r)
{
	struct vrd_error err;
	bool unknown = true;

	vrd_device_reset(r->dev);
	is(vrd_device_set_features(r->dev, 1ULL << VIRTIO_F_VERSION_1, &err), -EINVAL,
	   "ACCESS_PLATFORM is required");
	is(vrd_device_set_features(r->dev, FEATURES | 1 << 23, &err), -EINVAL, "unknown feature");
	ok(err.msg[0], "with a message: %s", err.msg);
	is(vrd_device_set_features(r->dev, FEATURES | F(ATOMIC_GLOBAL), &err), -EINVAL,
	   "ATOMIC_GLOBAL requires ATOMIC");
	is(vrd_device_set_features(r->dev, FEATURES, &err), 0, "the required ones are enough");
	is(vrd_device_features(r->dev) & VRD_DEVICE_FEATURES,
	   F(UC) | F(SRQ) | F(ATOMIC) | F(ATOMIC_GLOBAL) | F(RESIZE_CQ) | F(DMA_KEY) | F(RNR_NAK),
	   "the memory transport offers all that there is");
	raw_recover(r);
	is(vrd_device_set_features(r->dev, r->features, &err), -EBUSY, "no change while it runs");
	for (uint32_t op = CMD(ALLOC_MR); op <= CMD(MODIFY_CQ); op++)
		unknown = unknown && any_command(r, op) == S(UNSUPPORTED);
	ok(unknown, "commands of features to come are unknown");
}

static int any_qp(struct raw *r, uint32_t ctx, uint8_t type, uint32_t srqn)
{
	uint32_t pd = raw_pd(r, ctx), cq = raw_cq(r, ctx, 16, 0);
	struct raw_qp_req q;
	struct virtio_rdma_create_qp_rsp rsp;

	raw_qp_fill(r, &q, type, ctx, pd, cq, cq);
	q.req.srqn = srqn;
	if (srqn != VIRTIO_RDMA_NONE) {
		q.req.rq_entries = 0;
		q.req.rq_ctrl_offset = 0;
	}
	return raw_cmd(r, &q, sizeof(q.req) + sizeof(q.ext[0]), &rsp, sizeof(rsp));
}

/* What was not negotiated is not there, though the device can do it. */
static void not_negotiated(struct raw *r)
{
	static const struct { uint32_t op; uint64_t feature; } cmds[] = {
		{ CMD(RESIZE_CQ), F(RESIZE_CQ) }, { CMD(REG_DMA_MR), F(DMA_KEY) },
		{ CMD(CREATE_SRQ), F(SRQ) }, { CMD(MODIFY_SRQ), F(SRQ) },
		{ CMD(QUERY_SRQ), F(SRQ) }, { CMD(DESTROY_SRQ), F(SRQ) },
	};
	struct virtio_rdma_query_device_req q = { .hdr.opcode = CMD(QUERY_DEVICE) };
	struct virtio_rdma_query_device_rsp d;
	const uint64_t all = r->features;
	uint32_t ctx, kernel;
	unsigned int i;

	for (i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++) {
		r->features = all & ~cmds[i].feature;
		raw_recover(r);
		is(any_command(r, cmds[i].op), S(UNSUPPORTED), "command %u without its feature",
		   cmds[i].op);
		r->features = all;
		raw_recover(r);
		ok(any_command(r, cmds[i].op) != S(UNSUPPORTED), "with it");
	}

	r->features = FEATURES;
	raw_recover(r);
	ctx = raw_ctx(r, 0);
	kernel = raw_ctx(r, VIRTIO_RDMA_CTX_KERNEL);
	is(any_qp(r, ctx, VIRTIO_RDMA_QPT_UC, VIRTIO_RDMA_NONE), S(UNSUPPORTED), "a UC QP");
	is(any_qp(r, ctx, VIRTIO_RDMA_QPT_RC, 1), S(UNSUPPORTED), "a QP with an SRQ");
	is(any_qp(r, ctx, VIRTIO_RDMA_QPT_RC, VIRTIO_RDMA_NONE), S(OK), "an RC QP");
	is(any_qp(r, ctx, VIRTIO_RDMA_QPT_UD, VIRTIO_RDMA_NONE), S(OK), "a UD QP");
	is(any_qp(r, kernel, VIRTIO_RDMA_QPT_RC, VIRTIO_RDMA_NONE), S(UNSUPPORTED),
	   "an RC QP of the kernel's");
	is(any_qp(r, kernel, VIRTIO_RDMA_QPT_UD, VIRTIO_RDMA_NONE), S(UNSUPPORTED), "or UD");
	is(any_qp(r, kernel, VIRTIO_RDMA_QPT_GSI, VIRTIO_RDMA_NONE), S(OK), "but QP 1");
	is(raw_cmd(r, &q, sizeof(q), &d, sizeof(d)), S(OK), "QUERY_DEVICE");
	ok(!d.max_srq && !d.max_srq_wr && !d.max_srq_sge, "reports no limits of SRQs");
	r->features = all;
	raw_recover(r);
}

static void config(struct raw *r)
{
	struct virtio_rdma_config c;
	uint8_t buf[32];

	vrd_device_get_config(r->dev, 0, &c, sizeof(c));
	is(c.num_comp_vectors, 2, "configuration: vectors");
	memset(buf, 0xee, sizeof(buf));
	vrd_device_get_config(r->dev, 8, buf, sizeof(buf));
	ok(filled_with(buf, 0, sizeof(buf)), "behind its end are zeroes");
	memset(buf, 0xee, sizeof(buf));
	vrd_device_get_config(r->dev, UINT32_MAX, buf, 4);
	ok(filled_with(buf, 0, 4) && buf[4] == 0xee, "also far behind");
}

static void bad_configs(struct raw *r)
{
	struct vrd_device_config good = {
		.name = "x", .mac = { 2, 0, 0, 0, 0, 9 }, .num_comp_vectors = 1,
	}, c;
	struct vrd_device *dev;
	struct vrd_error err;

#undef TRY
#define TRY(change, what)							\
	do {									\
		c = good;							\
		change;								\
		err.msg[0] = 0;							\
		ok(vrd_device_create(r->engine, &c, &dev, &err) < 0 && err.msg[0],	\
		   what ": %s", err.msg);					\
	} while (0)
	TRY(c.name = "", "no name");
	TRY(c.mac[0] = 1, "multicast MAC");
	TRY(memset(c.mac, 0, 6), "no MAC");
	TRY(c.num_comp_vectors = 0, "no vectors");
	TRY(c.num_comp_vectors = 254, "254 vectors");
	TRY(c.transports = "magic", "unknown transport");
	TRY(c.limits.max_sge = 33, "too many SGEs");
	TRY(c.limits.max_qp = UINT32_MAX, "too many QPs");
	TRY(c.limits.max_mr_size = UINT64_MAX, "too large an MR");
	TRY(c.num_allowed_gids = 33, "too many GIDs");
	is(vrd_device_create(r->engine, &good, &dev, &err), 0, "a good one");
	vrd_device_destroy(dev);
}

int main(void)
{
	struct raw *r = raw_new(NULL, FEATURES);

	before_init(r);
	queries(r);
	gids(r);
	reserved_gids(r);
	gid_fields(r);
	newer_driver(r);
	anti_spoofing(r);
	contexts(r);
	cqs(r);
	resize(r);
	qps(r);
	stale(r);
	ring_bytes(r);
	handles(r);
	flipped_requests(r);
	leftovers(r);
	features(r);
	not_negotiated(r);
	config(r);
	bad_configs(r);
	raw_free(r);
	quotas();
	return tap_done();
}
