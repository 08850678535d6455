// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzer of the control commands: a grammar that creates objects, uses their real handles,
 * connects queue pairs of three devices, posts on them, and changes fields and bytes of the
 * requests.
 *
 * Its own checks: an error writes the status header only, a success the whole response; INIT
 * leaves no object.
 */
#include <endian.h>
#include <string.h>

#include "cmd_length.h"
#include "fuzz.h"

#define GUESTS		3
#define MAX_OBJECTS	24
#define MAX_REQ		2048

enum kind { CTX, PD, MR, CQ, QP, SRQ, BUF, KINDS };

struct object {
	uint32_t handle;
	uint32_t lkey, rkey;			/* MR */
	uint64_t iova;
	uint32_t length;
	uint8_t type;				/* QP */
	struct guest_qp qp;			/* location of its rings */
	struct guest_srq srq;			/* SRQ: the same */
	struct guest_ctx ctx;			/* CTX, QP, SRQ: location of its doorbells */
	struct virtio_rdma_cq_ctrl *cq;
};

struct side {
	struct fuzz_guest f;
	struct object objects[KINDS][MAX_OBJECTS];
	unsigned int num[KINDS];
	uint8_t *page;				/* of the last buffer */
};

static struct vrd_engine *engine;
static struct side sides[GUESTS];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	engine = guest_engine(2, 0);
	for (unsigned int i = 0; i < GUESTS; i++) {
		struct guest_config cfg = {
			.name = (const char *const[]){ "a", "b", "small" }[i],
			.id = i + 1, .mem_size = 4 << 20, .num_vectors = 2,
		};

		if (i == 2) {
			cfg.limits = (struct vrd_limits){
				.max_ctx = 2, .max_pd = 2, .max_mr = 3, .max_cq = 2, .max_cqe = 64,
				.max_qp = 3, .max_srq = 2, .max_qp_wr = 64, .max_sge = 4, .max_inline = 64,
				.max_mr_size = 1 << 20, .max_mr_bytes = 2 << 20,
			};
			cfg.num_allowed_gids = 1;
			memcpy(cfg.allowed_gids[0],
			       (uint8_t[]){ [10] = 0xff, 0xff, 10, 0, 0, 3 }, 16);
		}
		fuzz_guest_open(&sides[i].f, engine, &cfg);
	}
	return 0;
}

/* ---- objects ------------------------------------------------------------- */

static struct object no_object;

static struct object *any(struct fuzz_in *in, struct side *s, enum kind kind)
{
	uint8_t i = fuzz_u8(in);

	return s->num[kind] ? &s->objects[kind][i % s->num[kind]] : &no_object;
}

/* A handle of the kind; rarely of another kind. */
static uint32_t handle(struct fuzz_in *in, struct side *s, enum kind kind)
{
	return htole32(fuzz_pick32(in, any(in, s, kind)->handle));
}

static struct object *add(struct side *s, enum kind kind)
{
	if (s->num[kind] < MAX_OBJECTS)
		return &s->objects[kind][s->num[kind]++];
	return &s->objects[kind][0];
}

static void forget(struct side *s, enum kind kind, uint32_t handle)
{
	for (unsigned int i = 0; i < s->num[kind]; i++)
		if (s->objects[kind][i].handle == handle) {
			s->objects[kind][i] = s->objects[kind][--s->num[kind]];
			return;
		}
}

static void forget_all(struct side *s)
{
	memset(s->num, 0, sizeof(s->num));
}

/* ---- sending ---------------------------------------------------------------- */

static union {
	uint8_t bytes[MAX_REQ];
	struct virtio_rdma_cmd_hdr hdr;
	struct virtio_rdma_init_req init;
	struct virtio_rdma_query_port_req port;
	struct virtio_rdma_add_gid_req gid;
	struct virtio_rdma_create_ctx_req ctx;
	struct virtio_rdma_alloc_pd_req pd;
	struct virtio_rdma_reg_mr_req mr;
	struct virtio_rdma_reg_mr_more_req more;
	struct virtio_rdma_reg_dma_mr_req dma;
	struct virtio_rdma_create_cq_req cq;
	struct virtio_rdma_resize_cq_req resize;
	struct virtio_rdma_create_qp_req qp;
	struct virtio_rdma_modify_qp_req modify;
	struct virtio_rdma_query_qp_req query;
	struct virtio_rdma_create_buf_req buf;
	struct virtio_rdma_fill_buf_req fill;
	struct virtio_rdma_create_srq_req srq;
	struct virtio_rdma_modify_srq_req modify_srq;
	struct virtio_rdma_query_srq_req query_srq;
	struct virtio_rdma_destroy_req destroy;
} req;

static union {
	uint8_t bytes[512];
	struct virtio_rdma_rsp_hdr hdr;
	struct virtio_rdma_create_ctx_rsp ctx;
	struct virtio_rdma_alloc_pd_rsp pd;
	struct virtio_rdma_reg_mr_rsp mr;
	struct virtio_rdma_create_cq_rsp cq;
	struct virtio_rdma_create_qp_rsp qp;
	struct virtio_rdma_create_srq_rsp srq;
	struct virtio_rdma_create_buf_rsp buf;
} rsp;

/* As a newer driver sends it: @more bytes between the fixed part and the extents. */
static uint32_t grow(uint32_t op, uint32_t len, uint32_t more, bool zero)
{
	uint32_t fixed = cmd_length(op);

	if (len < fixed || len + more > MAX_REQ)
		return len;
	memmove(req.bytes + fixed + more, req.bytes + fixed, len - fixed);
	memset(req.bytes + fixed, 0, more);
	req.bytes[fixed + more - 1] = !zero;
	req.hdr.length = htole32(fixed + more);
	return len + more;
}

/* True if the command succeeded from the device's view. */
static bool send(struct fuzz_in *in, struct side *s, uint32_t op, uint32_t len, uint32_t rsp_len)
{
	uint32_t status, used, room = rsp_len;
	uint8_t how;

	req.hdr.opcode = htole32(op);
	req.hdr.length = htole32(fuzz_pick32(in, cmd_length(op)));
	fuzz_mutate(in, req.bytes, len);
	how = fuzz_u8(in);
	if (how >= 0xe0)
		len = fuzz_u16(in) % MAX_REQ;
	else if (how >= 0xc0 && how < 0xd0)
		len = grow(op, len, 8 * (how % 4 + 1), how & 4);
	else if (how >= 0xd0)
		room = fuzz_u8(in) % sizeof(rsp);
	status = guest_command_raw(s->f.g, req.bytes, len ? len : 1, rsp.bytes, room ? room : 1,
				   &used);
	if (room < sizeof(rsp.hdr)) {
		if (used)
			fuzz_fail("command %u wrote %u of %u bytes", op, used, room);
		return false;
	}
	if (status && used != sizeof(rsp.hdr))
		fuzz_fail("command %u failed (%u) and wrote %u bytes", op, status, used);
	for (uint32_t i = used; i < room; i++)
		if (rsp.bytes[i] != 0xee)
			fuzz_fail("command %u wrote beyond its %u bytes", op, used);
	if (!status && used < rsp_len && req.hdr.opcode == htole32(op))
		fuzz_fail("command %u answered %u of %u bytes", op, used, rsp_len);
	return !status && req.hdr.opcode == htole32(op);
}

static uint32_t put_extents(struct fuzz_in *in, struct side *s, void *at, uint8_t *pages,
			    uint32_t num_pages)
{
	struct virtio_rdma_extent *e = at;
	uint32_t n = 0;
	uint8_t split = fuzz_u8(in);

	/* All extents in one command, one by one, or as the bits say. */
	for (uint32_t first = 0; first < num_pages && n < 32; n++) {
		uint32_t run = split & 0x80 && n < 31 ? 1 : num_pages - first;

		e[n] = (struct virtio_rdma_extent){
			.addr = htole64(fuzz_pick64(in, guest_addr(s->f.g, pages) +
						    (uint64_t)first * GUEST_PAGE)),
			.pages = htole32(fuzz_pick32(in, run)),
		};
		first += run;
	}
	return n;
}

/* ---- commands --------------------------------------------------------------- */

static void do_init(struct fuzz_in *in, struct side *s)
{
	req.init = (struct virtio_rdma_init_req){
		.num_comp_vectors = htole32(fuzz_pick32(in, 2)),
	};
	if (send(in, s, VIRTIO_RDMA_CMD_INIT, sizeof(req.init),
		 sizeof(struct virtio_rdma_rsp_hdr)))
		forget_all(s);
}

static void do_query(struct fuzz_in *in, struct side *s)
{
	memset(req.bytes, 0, 64);
	switch (fuzz_u8(in) % 4) {
	case 0:
		send(in, s, VIRTIO_RDMA_CMD_QUERY_DEVICE, sizeof(req.hdr),
		     sizeof(struct virtio_rdma_query_device_rsp));
		break;
	case 1:
		req.port.port_num = htole32(fuzz_pick32(in, 1));
		send(in, s, VIRTIO_RDMA_CMD_QUERY_PORT, sizeof(req.port),
		     sizeof(struct virtio_rdma_query_port_rsp));
		break;
	case 2:
		send(in, s, VIRTIO_RDMA_CMD_QUERY_STATS, sizeof(req.hdr),
		     sizeof(struct virtio_rdma_query_stats_rsp));
		break;
	default:
		req.query = (struct virtio_rdma_query_qp_req){ .qpn = handle(in, s, QP) };
		send(in, s, VIRTIO_RDMA_CMD_QUERY_QP, sizeof(req.query),
		     sizeof(struct virtio_rdma_query_qp_rsp));
	}
}

static void do_gid(struct fuzz_in *in, struct side *s)
{
	uint8_t how = fuzz_u8(in);

	req.gid = (struct virtio_rdma_add_gid_req){
		.index = htole32(fuzz_pick32(in, how >> 3 & 31)),
		.gid_type = VIRTIO_RDMA_GID_ROCE_V2,
		.vlan_id = htole16(VIRTIO_RDMA_VLAN_NONE),
		.smac = { 2, 0, 0, 0, 0, how },
	};
	if (how & 1) {
		req.gid.gid_type = 0;
		req.gid.vlan_id = 0;
		send(in, s, VIRTIO_RDMA_CMD_DEL_GID, sizeof(struct virtio_rdma_del_gid_req),
		     sizeof(rsp.hdr));
		return;
	}
	if (how & 2)
		memcpy(req.gid.gid, (uint8_t[]){ [10] = 0xff, 0xff, 10, 0, 0, how >> 2 & 1 ? 3 :
						 fuzz_u8(in) }, 16);
	else if (how & 4)
		memcpy(req.gid.gid, sides[how % GUESTS].f.g->gid, 16);
	else
		fuzz_bytes(in, req.gid.gid, 16);
	send(in, s, VIRTIO_RDMA_CMD_ADD_GID, sizeof(req.gid), sizeof(rsp.hdr));
}

static void do_ctx(struct fuzz_in *in, struct side *s)
{
	struct virtio_rdma_db_page *db = fuzz_guest_pages(&s->f, 1);
	struct object *o;

	req.ctx = (struct virtio_rdma_create_ctx_req){
		.flags = htole32(fuzz_pick32(in, fuzz_u8(in) & 1)),
		.db_page = htole64(fuzz_pick64(in, guest_addr(s->f.g, db))),
	};
	if (!send(in, s, VIRTIO_RDMA_CMD_CREATE_CTX, sizeof(req.ctx), sizeof(rsp.ctx)))
		return;
	o = add(s, CTX);
	*o = (struct object){
		.handle = le32toh(rsp.ctx.ctx),
		.ctx = { .g = s->f.g, .id = le32toh(rsp.ctx.ctx), .db = db },
	};
}

static void do_pd(struct fuzz_in *in, struct side *s)
{
	req.pd = (struct virtio_rdma_alloc_pd_req){ .ctx = handle(in, s, CTX) };
	if (send(in, s, VIRTIO_RDMA_CMD_ALLOC_PD, sizeof(req.pd), sizeof(rsp.pd)))
		*add(s, PD) = (struct object){ .handle = le32toh(rsp.pd.pd) };
}

static void do_mr(struct fuzz_in *in, struct side *s)
{
	uint32_t num_pages = (fuzz_u8(in) & 15) + 1, offset = fuzz_u8(in) * 16, n;
	uint8_t *pages = fuzz_guest_pages(&s->f, num_pages);
	uint32_t length = num_pages * GUEST_PAGE - offset;
	uint8_t how = fuzz_u8(in);
	uint64_t iova = (how & 1 ? 0 : how & 2 ? 0x7f0000000000ULL : guest_addr(s->f.g, pages)) +
		offset;
	struct object *o;

	req.mr = (struct virtio_rdma_reg_mr_req){
		.pd = handle(in, s, PD),
		.access = htole32(fuzz_pick32(in, how & 4 ? 0 : 15)),
		.iova = htole64(fuzz_pick64(in, iova)),
		.length = htole64(fuzz_pick64(in, length)),
		.total_pages = htole64(fuzz_pick64(in, num_pages)),
	};
	n = put_extents(in, s, req.mr.extents, pages, how & 8 ? 1 : num_pages);
	req.mr.num_extents = htole32(fuzz_pick32(in, n));
	if (!send(in, s, VIRTIO_RDMA_CMD_REG_MR, sizeof(req.mr) + n * 16, sizeof(rsp.mr)))
		return;
	o = add(s, MR);
	*o = (struct object){
		.handle = le32toh(rsp.mr.mr), .lkey = le32toh(rsp.mr.lkey),
		.rkey = le32toh(rsp.mr.rkey), .iova = iova, .length = length,
	};
	s->page = pages;
}

static void do_mr_more(struct fuzz_in *in, struct side *s)
{
	uint32_t n;

	req.more = (struct virtio_rdma_reg_mr_more_req){ .mr = handle(in, s, MR) };
	n = put_extents(in, s, req.more.extents, s->page ? s->page + GUEST_PAGE : s->f.g->mem,
			(fuzz_u8(in) & 15) + 1);
	req.more.num_extents = htole32(fuzz_pick32(in, n));
	send(in, s, VIRTIO_RDMA_CMD_REG_MR_MORE, sizeof(req.more) + n * 16, sizeof(rsp.mr));
}

static void do_dma_mr(struct fuzz_in *in, struct side *s)
{
	req.dma = (struct virtio_rdma_reg_dma_mr_req){
		.pd = handle(in, s, PD), .access = htole32(fuzz_pick32(in, 15)),
	};
	if (send(in, s, VIRTIO_RDMA_CMD_REG_DMA_MR, sizeof(req.dma), sizeof(rsp.mr)))
		*add(s, MR) = (struct object){
			.handle = le32toh(rsp.mr.mr), .lkey = le32toh(rsp.mr.lkey),
			.rkey = le32toh(rsp.mr.rkey), .iova = s->f.g->base, .length = 1 << 16,
		};
}

static void do_cq(struct fuzz_in *in, struct side *s)
{
	uint32_t entries = 1U << (fuzz_u8(in) & 7), ring = entries * 32 > 128 ? entries * 32 : 128;
	uint32_t num_pages = (ring + 128 + GUEST_PAGE - 1) / GUEST_PAGE, n;
	uint8_t *buf = fuzz_guest_pages(&s->f, num_pages);
	struct object *o;

	req.cq = (struct virtio_rdma_create_cq_req){
		.ctx = handle(in, s, CTX),
		.entries = htole32(fuzz_pick32(in, entries)),
		.cqe_size = htole32(fuzz_pick32(in, 32)),
		.vector = htole32(fuzz_pick32(in, fuzz_u8(in) & 1)),
		.ring_offset = htole32(fuzz_pick32(in, 0)),
		.ctrl_offset = htole32(fuzz_pick32(in, ring)),
	};
	n = put_extents(in, s, req.cq.extents, buf, num_pages);
	req.cq.buf.num_extents = htole32(fuzz_pick32(in, n));
	if (!send(in, s, VIRTIO_RDMA_CMD_CREATE_CQ, sizeof(req.cq) + n * 16, sizeof(rsp.cq)))
		return;
	o = add(s, CQ);
	*o = (struct object){ .handle = le32toh(rsp.cq.cqn), .cq = (void *)(buf + ring) };
	/* Half of the CQs are armed. */
	if (o->handle & 1)
		__atomic_store_n(&o->cq->arm, htole32(4 | VIRTIO_RDMA_ARM_ANY), __ATOMIC_RELEASE);
}

static void do_resize(struct fuzz_in *in, struct side *s)
{
	uint32_t entries = 1U << (fuzz_u8(in) & 7), ring = entries * 32 > 128 ? entries * 32 : 128;
	uint32_t num_pages = (ring + 128 + GUEST_PAGE - 1) / GUEST_PAGE, n;
	uint8_t *buf = fuzz_guest_pages(&s->f, num_pages);

	req.resize = (struct virtio_rdma_resize_cq_req){
		.cqn = handle(in, s, CQ),
		.entries = htole32(fuzz_pick32(in, entries)),
		.ring_offset = htole32(fuzz_pick32(in, 0)),
		.ctrl_offset = htole32(fuzz_pick32(in, ring)),
	};
	n = put_extents(in, s, req.resize.extents, buf, num_pages);
	req.resize.buf.num_extents = htole32(fuzz_pick32(in, n));
	send(in, s, VIRTIO_RDMA_CMD_RESIZE_CQ, sizeof(req.resize) + n * 16, sizeof(rsp.hdr));
}

/* A buffer by handle, or the next part of one. */
static void do_buf(struct fuzz_in *in, struct side *s)
{
	uint8_t how = fuzz_u8(in);
	uint32_t num_pages = (how & 3) + 1, n;
	uint8_t *pages = fuzz_guest_pages(&s->f, num_pages);

	if (how & 0x80) {
		req.fill = (struct virtio_rdma_fill_buf_req){ .buf = handle(in, s, BUF) };
		n = put_extents(in, s, req.fill.extents, pages, num_pages);
		req.fill.num_extents = htole32(fuzz_pick32(in, n));
		send(in, s, VIRTIO_RDMA_CMD_FILL_BUF, sizeof(req.fill) + n * 16, sizeof(rsp.hdr));
		return;
	}
	req.buf = (struct virtio_rdma_create_buf_req){
		.ctx = handle(in, s, CTX),
		.total_pages = htole64(fuzz_pick64(in, num_pages + (how >> 2 & 3))),
	};
	n = put_extents(in, s, req.buf.extents, pages, num_pages);
	req.buf.num_extents = htole32(fuzz_pick32(in, n));
	if (send(in, s, VIRTIO_RDMA_CMD_CREATE_BUF, sizeof(req.buf) + n * 16, sizeof(rsp.buf)))
		*add(s, BUF) = (struct object){ .handle = le32toh(rsp.buf.buf) };
}

/* A CQ, or its new ring, in such a buffer. */
static void do_buf_cq(struct fuzz_in *in, struct side *s)
{
	uint32_t buf = handle(in, s, BUF);

	if (fuzz_u8(in) & 1) {
		req.resize = (struct virtio_rdma_resize_cq_req){
			.cqn = handle(in, s, CQ), .entries = htole32(64),
			.ctrl_offset = htole32(64 * 32), .buf.handle = buf,
		};
		if (send(in, s, VIRTIO_RDMA_CMD_RESIZE_CQ, sizeof(req.resize), sizeof(rsp.hdr)))
			forget(s, BUF, le32toh(buf));
		return;
	}
	req.cq = (struct virtio_rdma_create_cq_req){
		.ctx = handle(in, s, CTX), .entries = htole32(64), .cqe_size = htole32(32),
		.ctrl_offset = htole32(64 * 32), .buf.handle = buf,
	};
	if (!send(in, s, VIRTIO_RDMA_CMD_CREATE_CQ, sizeof(req.cq), sizeof(rsp.cq)))
		return;
	forget(s, BUF, le32toh(buf));
	*add(s, CQ) = (struct object){ .handle = le32toh(rsp.cq.cqn) };
}

/* The doorbell page of the context that a request names. */
static struct guest_ctx ctx_of(const struct side *s, __le32 ctx)
{
	for (unsigned int i = 0; i < s->num[CTX]; i++)
		if (htole32(s->objects[CTX][i].handle) == ctx)
			return s->objects[CTX][i].ctx;
	return (struct guest_ctx){ 0 };
}

static void do_srq(struct fuzz_in *in, struct side *s)
{
	uint32_t entries = 1U << (fuzz_u8(in) & 7), ring = entries * 64 > 128 ? entries * 64 : 128;
	uint32_t num_pages = (ring + 128 + GUEST_PAGE - 1) / GUEST_PAGE, n;
	uint8_t *buf = fuzz_guest_pages(&s->f, num_pages);
	struct object *o;

	req.srq = (struct virtio_rdma_create_srq_req){
		.ctx = handle(in, s, CTX),
		.pd = handle(in, s, PD),
		.entries = htole32(fuzz_pick32(in, entries)),
		.max_sge = htole32(fuzz_pick32(in, 2)),
		.ring_offset = htole32(fuzz_pick32(in, 0)),
		.ctrl_offset = htole32(fuzz_pick32(in, ring)),
		.limit = htole32(fuzz_pick32(in, 0)),
		.stride_shift = 1,
	};
	n = put_extents(in, s, req.srq.extents, buf, num_pages);
	req.srq.buf.num_extents = htole32(fuzz_pick32(in, n));
	if (!send(in, s, VIRTIO_RDMA_CMD_CREATE_SRQ, sizeof(req.srq) + n * 16, sizeof(rsp.srq)))
		return;
	o = add(s, SRQ);
	*o = (struct object){
		.handle = le32toh(rsp.srq.srqn),
		.srq.ring = {
			.ring = buf, .ctrl = (void *)(buf + ring), .entries = entries, .stride = 64,
			.slot = le32toh(rsp.srq.slot),
		},
		.ctx = ctx_of(s, req.srq.ctx),
	};
}

static void do_srq_limit(struct fuzz_in *in, struct side *s)
{
	uint8_t how = fuzz_u8(in);

	if (how & 1) {
		req.query_srq = (struct virtio_rdma_query_srq_req){ .srqn = handle(in, s, SRQ) };
		send(in, s, VIRTIO_RDMA_CMD_QUERY_SRQ, sizeof(req.query_srq),
		     sizeof(struct virtio_rdma_query_srq_rsp));
		return;
	}
	req.modify_srq = (struct virtio_rdma_modify_srq_req){
		.srqn = handle(in, s, SRQ),
		.mask = htole32(fuzz_pick32(in, VIRTIO_RDMA_SRQ_LIMIT)),
		.limit = htole32(fuzz_pick32(in, how >> 4)),
	};
	send(in, s, VIRTIO_RDMA_CMD_MODIFY_SRQ, sizeof(req.modify_srq), sizeof(rsp.hdr));
}

static void do_qp(struct fuzz_in *in, struct side *s)
{
	uint8_t how = fuzz_u8(in), type = (how & 3) + 1, shift = fuzz_u8(in);
	bool shared = how & 0x80;
	uint32_t sq = 1U << (shift & 7), rq = shared ? 0 : 1U << (shift >> 4 & 7), sq_bytes, rq_bytes;
	uint32_t n;
	uint32_t num_pages;
	struct guest_qp *q;
	uint8_t *buf;
	struct object *o;

	sq_bytes = (sq * 128 + GUEST_PAGE - 1) / GUEST_PAGE * GUEST_PAGE;
	rq_bytes = (rq * 64 + GUEST_PAGE - 1) / GUEST_PAGE * GUEST_PAGE;
	num_pages = (sq_bytes + rq_bytes) / GUEST_PAGE + 1;
	buf = fuzz_guest_pages(&s->f, num_pages);
	req.qp = (struct virtio_rdma_create_qp_req){
		.ctx = handle(in, s, CTX),
		.pd = handle(in, s, PD),
		.send_cqn = handle(in, s, CQ),
		.recv_cqn = handle(in, s, CQ),
		.srqn = shared ? handle(in, s, SRQ) : htole32(fuzz_pick32(in, VIRTIO_RDMA_NONE)),
		.qp_type = type,
		.sq_stride_shift = 1,
		.rq_stride_shift = 1,
		.sq_entries = htole32(fuzz_pick32(in, sq)),
		.rq_entries = htole32(fuzz_pick32(in, rq)),
		.max_send_sge = htole32(fuzz_pick32(in, 3)),
		.max_recv_sge = htole32(fuzz_pick32(in, 2)),
		.max_inline = htole32(fuzz_pick32(in, 32)),
		.rq_offset = htole32(fuzz_pick32(in, sq_bytes)),
		.sq_ctrl_offset = htole32(fuzz_pick32(in, sq_bytes + rq_bytes)),
		.rq_ctrl_offset = htole32(fuzz_pick32(in, rq ? sq_bytes + rq_bytes + 128 : 0)),
	};
	n = put_extents(in, s, req.qp.extents, buf, num_pages);
	req.qp.buf.num_extents = htole32(fuzz_pick32(in, n));
	if (!send(in, s, VIRTIO_RDMA_CMD_CREATE_QP, sizeof(req.qp) + n * 16, sizeof(rsp.qp)))
		return;
	o = add(s, QP);
	*o = (struct object){ .handle = le32toh(rsp.qp.qpn), .type = type };
	q = &o->qp;
	q->g = s->f.g;
	q->sq.ring = buf;
	q->sq.entries = sq;
	q->sq.stride = 128;
	q->sq.ctrl = (void *)(buf + sq_bytes + rq_bytes);
	q->rq.ring = buf + sq_bytes;
	q->rq.entries = rq;
	q->rq.stride = 64;
	q->rq.ctrl = rq ? q->sq.ctrl + 1 : NULL;
	q->sq.slot = le32toh(rsp.qp.sq_slot);
	q->rq.slot = le32toh(rsp.qp.rq_slot);
	o->ctx = ctx_of(s, req.qp.ctx);
}

/* Attributes that a transition to each state needs, beside the state: RC's and UD's. */
static uint32_t mask_for(uint8_t type, uint8_t state)
{
	bool rc = type == VIRTIO_RDMA_QPT_RC, conn = rc || type == VIRTIO_RDMA_QPT_UC;

	switch (state) {
	case VIRTIO_RDMA_QPS_INIT:
		return VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_PKEY_INDEX | VIRTIO_RDMA_QP_PORT |
			(conn ? VIRTIO_RDMA_QP_ACCESS_FLAGS : VIRTIO_RDMA_QP_QKEY);
	case VIRTIO_RDMA_QPS_RTR:
		return VIRTIO_RDMA_QP_STATE |
			(conn ? VIRTIO_RDMA_QP_AV | VIRTIO_RDMA_QP_PATH_MTU |
			 VIRTIO_RDMA_QP_DEST_QPN | VIRTIO_RDMA_QP_RQ_PSN : 0) |
			(rc ? VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC | VIRTIO_RDMA_QP_MIN_RNR_TIMER : 0);
	case VIRTIO_RDMA_QPS_RTS:
		return VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_SQ_PSN |
			(rc ? VIRTIO_RDMA_QP_TIMEOUT | VIRTIO_RDMA_QP_RETRY_CNT |
			 VIRTIO_RDMA_QP_RNR_RETRY | VIRTIO_RDMA_QP_MAX_QP_RD_ATOMIC : 0);
	default:
		return VIRTIO_RDMA_QP_STATE;
	}
}

static void modify(struct fuzz_in *in, struct side *s, const struct object *o, uint8_t state,
		   const struct side *peer, uint32_t dqpn)
{
	req.modify = (struct virtio_rdma_modify_qp_req){
		.qpn = htole32(fuzz_pick32(in, o->handle)),
		.mask = htole32(fuzz_pick32(in, mask_for(o->type, state))),
		.attr = {
			.state = state, .path_mtu = 3, .port_num = 1, .timeout = 1,
			.retry_cnt = 1, .rnr_retry = 1, .min_rnr_timer = 1, .max_rd_atomic = 4,
			.max_dest_rd_atomic = 4, .access_flags = htole32(14),
			.qkey = htole32(0x1234), .dest_qpn = htole32(dqpn),
		},
	};
	memcpy(req.modify.attr.av.dgid, peer->f.g->gid, 16);
	req.modify.attr.av.hop_limit = 1;
	send(in, s, VIRTIO_RDMA_CMD_MODIFY_QP, sizeof(req.modify), sizeof(rsp.hdr));
}

static void do_modify(struct fuzz_in *in, struct side *s)
{
	struct object *o = any(in, s, QP);
	uint8_t how = fuzz_u8(in);
	struct side *peer = &sides[(how >> 4) % GUESTS];

	modify(in, s, o, how & 7, peer, any(in, peer, QP)->handle);
}

/* All transitions to RTS, connected to a QP of any device. */
static void do_connect(struct fuzz_in *in, struct side *s)
{
	static const uint8_t way[] = {
		VIRTIO_RDMA_QPS_RESET, VIRTIO_RDMA_QPS_INIT, VIRTIO_RDMA_QPS_RTR,
		VIRTIO_RDMA_QPS_RTS,
	};
	struct object *o = any(in, s, QP);
	struct side *peer = &sides[fuzz_u8(in) % GUESTS];
	uint32_t dqpn = any(in, peer, QP)->handle;

	for (unsigned int i = 0; i < 4; i++)
		modify(in, s, o, way[i], peer, dqpn);
	if (o->qp.sq.ctrl) {
		o->qp.sq.producer = 0;
		o->qp.rq.producer = 0;
		__atomic_store_n(&o->qp.sq.ctrl->producer, 0, __ATOMIC_RELEASE);
		if (o->qp.rq.ctrl)
			__atomic_store_n(&o->qp.rq.ctrl->producer, 0, __ATOMIC_RELEASE);
	}
}

static void do_destroy(struct fuzz_in *in, struct side *s)
{
	static const uint32_t ops[KINDS] = {
		VIRTIO_RDMA_CMD_DESTROY_CTX, VIRTIO_RDMA_CMD_DEALLOC_PD, VIRTIO_RDMA_CMD_DEREG_MR,
		VIRTIO_RDMA_CMD_DESTROY_CQ, VIRTIO_RDMA_CMD_DESTROY_QP,
		VIRTIO_RDMA_CMD_DESTROY_SRQ, VIRTIO_RDMA_CMD_DESTROY_BUF,
	};
	enum kind kind = fuzz_u8(in) % KINDS;
	uint32_t h = handle(in, s, kind);

	req.destroy = (struct virtio_rdma_destroy_req){ .handle = h };
	if (send(in, s, ops[kind], sizeof(req.destroy), sizeof(rsp.hdr)))
		forget(s, kind, le32toh(req.destroy.handle));
}

/* Any number, any bytes; the size of the answer is unknown. */
static void do_raw(struct fuzz_in *in, struct side *s)
{
	uint32_t len = fuzz_u8(in), status, used, op;

	op = fuzz_u8(in);
	memset(req.bytes, 0, sizeof(req.hdr));
	if (len > 4)
		fuzz_bytes(in, req.bytes + 4, len - 4);
	req.hdr.opcode = htole32(op);
	if (op == VIRTIO_RDMA_CMD_INIT)
		forget_all(s);
	status = guest_command_raw(s->f.g, req.bytes, len ? len : 1, rsp.bytes, sizeof(rsp), &used);
	if (status && used != sizeof(rsp.hdr))
		fuzz_fail("raw command %u failed (%u) and wrote %u bytes", op, status, used);
}

/* ---- between the commands ------------------------------------------------------ */

static void ring(struct object *o, struct guest_ring *r)
{
	if (o->ctx.db && r->slot < VIRTIO_RDMA_DB_SLOTS)
		guest_ring_doorbell(&o->ctx, r);
	else
		__atomic_store_n(&r->ctrl->producer, htole32(r->producer), __ATOMIC_RELEASE);
}

/* Work on a QP's rings, so that commands meet objects in use. */
static void do_post(struct fuzz_in *in, struct side *s)
{
	struct object *o = any(in, s, QP), *l = any(in, s, MR), *r;
	struct side *peer = &sides[fuzz_u8(in) % GUESTS];
	uint8_t what = fuzz_u8(in);
	struct guest_sge sge = { l->iova, (uint32_t)(what >> 4) * 64, l->lkey };
	struct virtio_rdma_av av = { .hop_limit = 1 };
	struct guest_wr wr = {
		.opcode = what & 7, .flags = VIRTIO_RDMA_WQE_SIGNALED, .num_sge = 1, .sge = &sge,
	};

	if (!o->qp.sq.ctrl)
		return;
	if (what & 8) {
		if (!o->qp.rq.ctrl)
			return;
		guest_write_recv(&o->qp, &sge, 1);
		ring(o, &o->qp.rq);
		return;
	}
	r = any(in, peer, MR);
	wr.remote_addr = r->iova;
	wr.rkey = r->rkey;
	if (o->type == VIRTIO_RDMA_QPT_UD || o->type == VIRTIO_RDMA_QPT_GSI) {
		memcpy(av.dgid, peer->f.g->gid, 16);
		av.pd = htole32(any(in, s, PD)->handle);
		av.dqpn = htole32(any(in, peer, QP)->handle);
		av.qkey = htole32(0x1234);
		wr.av = &av;
		wr.opcode = VIRTIO_RDMA_WR_SEND;
	}
	guest_write_send(&o->qp, &wr);
	ring(o, &o->qp.sq);
}

/* Entries of an SRQ; their cookies may be equal. */
static void do_post_srq(struct fuzz_in *in, struct side *s)
{
	struct object *o = any(in, s, SRQ), *l = any(in, s, MR);
	uint8_t how = fuzz_u8(in);
	struct guest_sge sge = { l->iova, (uint32_t)(how >> 4) * 64, l->lkey };

	if (!o->srq.ring.ctrl)
		return;
	for (unsigned int n = 1 + (how & 3); n; n--)
		guest_write_srq(&o->srq, fuzz_pick32(in, n), &sge, 1);
	if (how & 4)
		o->srq.ring.producer = fuzz_pick32(in, o->srq.ring.producer);
	ring(o, &o->srq.ring);
}

static void do_host(struct fuzz_in *in, struct side *s)
{
	uint8_t how = fuzz_u8(in);

	switch (how & 7) {
	case 0:
		fuzz_guest_memory(&s->f, how >> 3);
		break;
	case 1:
		fuzz_guest_stop(&s->f);
		fuzz_step(engine, 1);
		fuzz_guest_start(&s->f);
		break;
	case 2:
		fuzz_guest_memory(&s->f, 0);
		fuzz_guest_reset(&s->f);
		forget_all(s);
		break;
	case 3:
		fuzz_guest_drain(&s->f);
		break;
	default:
		fuzz_step(engine, how >> 3 & 3);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };

	for (unsigned int i = 0; i < GUESTS; i++) {
		fuzz_guest_begin(&sides[i].f);
		forget_all(&sides[i]);
		sides[i].page = NULL;
	}
	for (unsigned int n = 0; n < FUZZ_MAX_OPS && !fuzz_done(&in); n++) {
		uint8_t op = fuzz_u8(&in);
		struct side *s = &sides[(op >> 5) % GUESTS];

		switch (op & 31) {
		case 0: break;
		case 1: do_query(&in, s); break;
		case 2: do_gid(&in, s); break;
		case 3: do_ctx(&in, s); break;
		case 4: do_pd(&in, s); break;
		case 5: do_mr(&in, s); break;
		case 6: do_mr_more(&in, s); break;
		case 7: do_dma_mr(&in, s); break;
		case 8: do_cq(&in, s); break;
		case 9: do_resize(&in, s); break;
		case 10: case 11: do_qp(&in, s); break;
		case 12: case 13: do_modify(&in, s); break;
		case 14: case 15: do_connect(&in, s); break;
		case 16: case 17: do_destroy(&in, s); break;
		case 18: do_raw(&in, s); break;
		case 19: case 20: case 21: case 22: do_post(&in, s); break;
		case 23: guest_kick_doorbell(s->f.g); break;
		case 24: do_init(&in, s); break;
		case 26: do_buf(&in, s); break;
		case 27: do_buf_cq(&in, s); break;
		case 28: do_srq(&in, s); break;
		case 29: do_srq_limit(&in, s); break;
		case 30: do_post_srq(&in, s); break;
		default: do_host(&in, s); break;
		}
	}
	fuzz_step(engine, 2);
	for (unsigned int i = 0; i < GUESTS; i++)
		fuzz_guest_end(&sides[i].f);
	return 0;
}
