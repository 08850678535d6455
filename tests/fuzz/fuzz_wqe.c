// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzer of the data path: two devices, each with one end of a connected pair, a loopback
 * QP, a UD QP and, in kernel contexts, the GSI QP; the connected QP and the UD QP may share
 * an SRQ.  WQEs, receives, producer indices, CQ control words and doorbell pages come from
 * the input, and a second thread may flip words of them while the pollers run.
 *
 * Its own check: memory that no key names is unchanged, in guests whose QPs may not use the
 * DMA key.
 */
#include <endian.h>
#include <string.h>

#include "fuzz.h"
#include "guest_shm.h"

#define GUESTS		2
#define QPS		4			/* connected, loopback, UD, GSI */
#define CANARY		0x5a
#define MR_BYTES	(4 * GUEST_PAGE)
#define BIG_BYTES	(1U << 20)		/* a message that takes several turns */

struct side {
	struct fuzz_guest f;
	struct guest_ctx ctx;
	uint32_t pd, other_pd;
	struct guest_cq cq[2];
	uint8_t *mem;				/* MR_BYTES, all rights */
	uint8_t *readonly, *canary;		/* one page each; no MR covers the canary */
	uint8_t *big;				/* BIG_BYTES, as the last input left them */
	struct guest_mr mr, ro_mr, pd_mr, big_mr;
	uint32_t fast_key;			/* of ALLOC_MR, in kernel contexts; else 0 */
	struct virtio_rdma_reg_entry *list;	/* one page */
	struct guest_srq srq;
	struct guest_qp qp[QPS];
};

static struct vrd_engine *engine;
static struct side sides[GUESTS];
static bool kernel, shared;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	engine = guest_engine(2, 0);
	for (unsigned int i = 0; i < GUESTS; i++) {
		struct guest_config cfg = {
			.name = i ? "b" : "a", .id = i + 1, .mem_size = 4 << 20,
		};

		fuzz_guest_open(&sides[i].f, engine, &cfg);
		sides[i].big = fuzz_guest_keep(&sides[i].f, BIG_BYTES);
	}
	return 0;
}

/* ---- what an input begins with ---------------------------------------------- */

static void must(uint32_t status, const char *what)
{
	if (status)
		fuzz_fail("%s answers %u", what, status);
}

/* GID 1 of each: an IPv4 address. */
static void v4_gid(const struct side *s, uint8_t gid[16])
{
	memcpy(gid, (uint8_t[]){ [10] = 0xff, 0xff, 10, 0, 0, s->f.g->cfg.id }, 16);
}

#define FAST_ENTRIES	8
#define FAST_IOVA	0x123456789000ULL

/* A region for REG_MR, and a list with pieces of the other regions. */
static void open_fast(struct side *s)
{
	struct virtio_rdma_alloc_mr_req req = {
		.pd = htole32(s->pd), .max_entries = htole32(FAST_ENTRIES),
	};
	struct virtio_rdma_reg_mr_rsp rsp;
	uint32_t status = guest_command(s->f.g, VIRTIO_RDMA_CMD_ALLOC_MR, &req, &rsp);

	s->list = guest_alloc(s->f.g, GUEST_PAGE);
	/* A transport without fast registration. */
	s->fast_key = status ? 0 : le32toh(rsp.lkey);
	for (unsigned int i = 0; i < FAST_ENTRIES; i++)
		s->list[i] = (struct virtio_rdma_reg_entry){
			.addr = htole64(i & 1 ? s->big_mr.iova + i * 20000 : s->mr.iova + i * 700),
			.length = htole64(i & 4 ? 3000 : 500),
		};
}

static void open_side(struct side *s, uint8_t sizes, uint8_t type)
{
	static const uint8_t types[QPS] = {
		0, VIRTIO_RDMA_QPT_RC, VIRTIO_RDMA_QPT_UD, VIRTIO_RDMA_QPT_GSI,
	};
	struct guest *g = s->f.g;
	uint8_t gid[16];

	fuzz_guest_begin(&s->f);
	v4_gid(s, gid);
	must(guest_add_gid(g, 1, gid), "ADD_GID");
	memset(s->qp, 0, sizeof(s->qp));
	must(guest_ctx_create(g, kernel ? VIRTIO_RDMA_CTX_KERNEL : 0, &s->ctx), "CREATE_CTX");
	must(guest_pd_alloc(&s->ctx, &s->pd), "ALLOC_PD");
	must(guest_pd_alloc(&s->ctx, &s->other_pd), "ALLOC_PD");
	for (unsigned int i = 0; i < 2; i++)
		must(guest_cq_create(&s->ctx, 1U << (sizes & 3) << 2, 0, &s->cq[i]), "CREATE_CQ");
	s->mem = guest_alloc(g, MR_BYTES);
	s->canary = guest_alloc(g, GUEST_PAGE);
	s->readonly = guest_alloc(g, GUEST_PAGE);
	memset(s->canary, CANARY, GUEST_PAGE);
	memset(s->readonly, CANARY, GUEST_PAGE);
	must(guest_mr_reg(g, s->pd, s->mem, MR_BYTES, 15, &s->mr), "REG_MR");
	must(guest_mr_reg(g, s->pd, s->readonly, GUEST_PAGE, 4, &s->ro_mr), "REG_MR");
	must(guest_mr_reg(g, s->pd, s->big, BIG_BYTES, 15, &s->big_mr), "REG_MR");
	must(guest_mr_reg(g, s->other_pd, s->mem, GUEST_PAGE, 15, &s->pd_mr), "REG_MR");
	if (kernel)
		open_fast(s);
	if (shared)
		must(guest_srq_create(&s->ctx, s->pd, 8, sizes & 16 ? 3 : 1, &s->srq), "CREATE_SRQ");
	for (unsigned int i = 0; i < QPS; i++) {
		struct guest_qp_init init = {
			.type = i ? types[i] : type, .pd = s->pd,
			.send_cq = &s->cq[0], .recv_cq = &s->cq[sizes >> 2 & 1],
			.srq = shared && !(i & 1) ? &s->srq : NULL,
			.sq_entries = 8, .max_send_sge = sizes & 8 ? 6 : 2,
			.max_recv_sge = sizes & 16 ? 3 : 1, .max_inline = sizes & 32 ? 200 : 32,
		};

		uint32_t status;

		if (!init.srq)
			init.rq_entries = 8;
		if (i == 3 && !kernel)
			break;
		status = guest_qp_create(&s->ctx, &init, &s->qp[i]);
		if (status == VIRTIO_RDMA_S_UNSUPPORTED && !i) {
			/* a transport without UC */
			init.type = VIRTIO_RDMA_QPT_RC;
			status = guest_qp_create(&s->ctx, &init, &s->qp[i]);
		}
		must(status, "CREATE_QP");
	}
}

/* To RTS, with a small number of retries. */
static uint32_t connect(struct guest_qp *qp, const uint8_t dgid[16], uint32_t dqpn,
			uint8_t rights)
{
	struct virtio_rdma_qp_attr attr = {
		.state = VIRTIO_RDMA_QPS_INIT, .path_mtu = 1, .port_num = 1, .timeout = 1,
		.retry_cnt = 1, .rnr_retry = 1, .min_rnr_timer = 1, .max_rd_atomic = 4,
		.max_dest_rd_atomic = 4, .access_flags = htole32(rights),
		.dest_qpn = htole32(dqpn), .av.hop_limit = 1,
	};
	bool rc = qp->init.type == VIRTIO_RDMA_QPT_RC;
	uint32_t status;

	memcpy(attr.av.dgid, dgid, 16);
	status = guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_PKEY_INDEX |
				 VIRTIO_RDMA_QP_PORT | VIRTIO_RDMA_QP_ACCESS_FLAGS, &attr);
	attr.state = VIRTIO_RDMA_QPS_RTR;
	if (!status)
		status = guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_AV |
					 VIRTIO_RDMA_QP_PATH_MTU | VIRTIO_RDMA_QP_DEST_QPN |
					 VIRTIO_RDMA_QP_RQ_PSN |
					 (rc ? VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC |
					  VIRTIO_RDMA_QP_MIN_RNR_TIMER : 0), &attr);
	attr.state = VIRTIO_RDMA_QPS_RTS;
	if (!status)
		status = guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_SQ_PSN |
					 (rc ? VIRTIO_RDMA_QP_TIMEOUT | VIRTIO_RDMA_QP_RETRY_CNT |
					  VIRTIO_RDMA_QP_RNR_RETRY |
					  VIRTIO_RDMA_QP_MAX_QP_RD_ATOMIC : 0), &attr);
	return status;
}

/* A QP whose CQ is full may be in ERR again before it reaches RTS. */
static uint32_t bring_up(unsigned int side, unsigned int qp, uint8_t rights)
{
	struct side *s = &sides[side], *peer = &sides[!side];

	switch (qp) {
	case 0:
		return connect(&s->qp[0], peer->f.g->gid, peer->qp[0].qpn, rights);
	case 1:
		return connect(&s->qp[1], s->f.g->gid, s->qp[1].qpn, rights);
	default:
		if (!s->qp[qp].buf)
			return 0;
		return guest_qp_open_ud(&s->qp[qp], qp == 3 ? 0x80010000 : 0x1234);
	}
}

/* ---- operations ---------------------------------------------------------------- */

static struct guest_qp *pick_qp(uint8_t how)
{
	struct guest_qp *qp = &sides[how & 1].qp[how >> 1 & 3];

	return qp->buf ? qp : &sides[how & 1].qp[0];
}

/* Source of the QP's receives. */
static struct guest_ring *recv_ring(struct guest_qp *qp)
{
	return qp->init.srq ? &qp->init.srq->ring : &qp->rq;
}

/* @where: 0 to 15; the last ones are at the ends of the region. */
static uint64_t offset_in(const struct guest_mr *mr, unsigned int where)
{
	switch (where) {
	case 12: return mr->length - 8;
	case 13: return mr->length - 7;
	case 14: return mr->length;
	case 15: return -8ULL;
	default: return where * 200;
	}
}

static struct guest_sge pick_sge(struct fuzz_in *in, const struct side *s)
{
	uint8_t how = fuzz_u8(in);
	const struct guest_mr *mrs[] = { &s->mr, &s->ro_mr, &s->pd_mr, &s->big_mr };
	const struct guest_mr *mr = mrs[how >> 2 & 3];
	uint32_t lengths[] = { 8, how, 3000, mr == &s->big_mr ? 900000 : 64 };
	struct guest_sge sge;

	sge.addr = fuzz_pick64(in, mr->iova + offset_in(mr, how >> 4));
	sge.length = fuzz_pick32(in, lengths[how & 3]);
	sge.lkey = fuzz_pick32(in, mr->lkey);
	return sge;
}

/* Usually unchanged; otherwise one field or some bytes differ. */
static void change_entry(struct fuzz_in *in, void *entry, size_t len, bool recv)
{
	struct virtio_rdma_wqe_ctrl *ctrl = entry;
	struct virtio_rdma_recv_wqe *receive = entry;
	uint8_t how = fuzz_u8(in);

	if (how < 0xc0)
		return;
	if (how >= 0xe0)
		fuzz_change(in, entry, len, how % 3 + 1);
	else if (recv)
		receive->num_sge = htole32(fuzz_pick32(in, how & 31));
	else if (how & 8)
		ctrl->num_sge = fuzz_u8(in);
	else if (how & 4)
		ctrl->inline_len = htole32(fuzz_pick32(in, how * 2 & 255));
	else if (how & 2)
		ctrl->flags = htole16(fuzz_u16(in));
	else
		ctrl->opcode = fuzz_u8(in);
}

/* REG_MR of the side's region, with a few fields that the input chooses. */
static void write_reg_mr(struct fuzz_in *in, struct side *s, struct guest_qp *qp)
{
	unsigned int slot = qp->sq.producer & (qp->sq.entries - 1);
	uint32_t num = fuzz_pick32(in, FAST_ENTRIES);
	uint64_t length = 0;
	struct virtio_rdma_reg_mr_wqe wqe = {
		.ctrl = { .opcode = VIRTIO_RDMA_WR_REG_MR,
			  .flags = htole16(VIRTIO_RDMA_WQE_SIGNALED) },
		.key = htole32(s->fast_key ^ (fuzz_u8(in) & 3)),
		.access = htole32(fuzz_pick32(in, 15)),
		.iova = htole64(FAST_IOVA),
		.list = htole64(fuzz_pick64(in, guest_addr(s->f.g, s->list))),
		.num_entries = htole32(num),
		.page_shift = fuzz_u8(in) & 15,
	};

	fuzz_mutate(in, s->list, FAST_ENTRIES * sizeof(s->list[0]));
	for (unsigned int i = 0; i < num && i < FAST_ENTRIES; i++)
		length += le64toh(s->list[i].length);
	wqe.length = htole64(length);
	guest_write_wqe(qp, &wqe);
	change_entry(in, qp->sq.ring + slot * (size_t)qp->sq.stride, qp->sq.stride, false);
}

static void write_wqe(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in), what = fuzz_u8(in);
	struct guest_qp *qp = pick_qp(which);
	struct side *s = &sides[which & 1], *peer = &sides[which >> 1 & 3 ? which & 1 :
							   !(which & 1)];
	struct guest_sge sge[4];
	static uint8_t data[256];
	struct virtio_rdma_av av = {
		.pd = htole32(s->pd), .dqpn = htole32(peer->qp[2].qpn), .qkey = htole32(0x1234),
		.hop_limit = 1,
	};
	uint8_t flags = fuzz_u8(in);
	struct guest_wr wr = {
		.opcode = what & 15, .flags = flags & 15, .sge = sge, .inline_data = data,
	};
	bool rc = qp->init.type == VIRTIO_RDMA_QPT_RC || qp->init.type == VIRTIO_RDMA_QPT_UC;
	const struct guest_mr *remote;
	unsigned int slot = qp->sq.producer & (qp->sq.entries - 1);

	if (rc && s->fast_key && wr.opcode == VIRTIO_RDMA_WR_REG_MR) {
		write_reg_mr(in, s, qp);
		return;
	}
	if (qp->init.type == VIRTIO_RDMA_QPT_UD || qp->init.type == VIRTIO_RDMA_QPT_GSI) {
		peer = &sides[what >> 7];
		av.sgid_index = flags >> 6 & 1;
		if (av.sgid_index)
			v4_gid(peer, av.dgid);
		else
			memcpy(av.dgid, peer->f.g->gid, 16);
		av.dqpn = htole32(fuzz_pick32(in, qp->init.type == VIRTIO_RDMA_QPT_GSI ? 1 :
					      peer->qp[2].qpn));
		fuzz_mutate(in, &av, sizeof(av));
		wr.av = &av;
	}
	if (wr.flags & VIRTIO_RDMA_WQE_INLINE) {
		wr.inline_len = fuzz_u8(in);
		if (wr.inline_len > qp->sq.stride - 64)
			wr.inline_len = qp->sq.stride - 64;
	} else {
		wr.num_sge = what >> 4 & 3;
		for (unsigned int i = 0; i < wr.num_sge; i++)
			sge[i] = pick_sge(in, s);
		if ((wr.av ? 64U : 48U) + wr.num_sge * 16 > qp->sq.stride)
			wr.num_sge = 1;
	}
	remote = flags & 0x80 ? &peer->big_mr : what & 0x40 ? &peer->ro_mr : &peer->mr;
	wr.remote_addr = fuzz_pick64(in, remote->iova + offset_in(remote, (flags >> 4 & 7) * 5 / 2));
	wr.rkey = fuzz_pick32(in, remote->rkey);
	wr.compare = wr.swap_add = wr.imm = what;
	/* Most requests with the last places of a region use the fast-registered one instead. */
	if (rc && peer->fast_key && (flags >> 4 & 7) == 5) {
		wr.remote_addr = FAST_IOVA + what;
		wr.rkey = peer->fast_key ^ (what & 1);
	}
	if (wr.opcode == VIRTIO_RDMA_WR_LOCAL_INV)
		wr.imm = htole32(fuzz_pick32(in, s->fast_key));
	else if (wr.opcode == VIRTIO_RDMA_WR_SEND_WITH_INV)
		wr.imm = htole32(fuzz_pick32(in, peer->fast_key));
	guest_write_send(qp, &wr);
	change_entry(in, qp->sq.ring + slot * (size_t)qp->sq.stride, qp->sq.stride, false);
}

static void write_recv(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct guest_qp *qp = pick_qp(which);
	struct guest_ring *ring = recv_ring(qp);
	unsigned int slot = ring->producer & (ring->entries - 1), n = which >> 4 & 3;
	struct guest_sge sge[3];

	if (16 + n * 16 > ring->stride)
		n = 1;
	for (unsigned int i = 0; i < n; i++)
		sge[i] = pick_sge(in, &sides[which & 1]);
	if (qp->init.srq)
		guest_write_srq(qp->init.srq, which, sge, n);
	else
		guest_write_recv(qp, sge, n);
	change_entry(in, ring->ring + slot * (size_t)ring->stride, ring->stride, true);
}

/* The entry's bytes come from the input. */
static void write_raw(struct fuzz_in *in, bool recv)
{
	struct guest_qp *qp = pick_qp(fuzz_u8(in));
	struct guest_ring *ring = recv ? recv_ring(qp) : &qp->sq;
	unsigned int slot = ring->producer++ & (ring->entries - 1), len = fuzz_u8(in);

	if (len > ring->stride)
		len = ring->stride;
	fuzz_bytes(in, ring->ring + slot * (size_t)ring->stride, len);
}

static void ring_doorbell(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct guest_qp *qp = pick_qp(which);

	guest_ring_doorbell(qp->ctx, which & 8 ? recv_ring(qp) : &qp->sq);
}

static void set_producer(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct guest_qp *qp = pick_qp(which);
	struct guest_ring *ring = which & 8 ? recv_ring(qp) : &qp->sq;

	ring->producer = fuzz_pick32(in, ring->producer + (which >> 4));
	vrd_store32_release(&ring->ctrl->producer, ring->producer);
}

static void cq_words(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct guest_cq *cq = &sides[which & 1].cq[which >> 1 & 1];
	struct virtio_rdma_cqe cqe;

	switch (which >> 2 & 3) {
	case 0:
		cq->consumer = fuzz_pick32(in, cq->consumer + (which >> 4));
		vrd_store32_release(&cq->ctrl->consumer, cq->consumer);
		break;
	case 1:
		vrd_store32(&cq->ctrl->arm, fuzz_pick32(in, which));
		break;
	case 2:
		guest_arm(cq, which & 16);
		break;
	default:
		for (unsigned int n = which >> 4; n && guest_poll(cq, &cqe); n--)
			;
	}
}

static void db_bytes(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	uint16_t at = fuzz_u16(in) % (sizeof(struct virtio_rdma_db_page) - 64);
	struct side *s = &sides[which & 1];

	fuzz_bytes(in, (uint8_t *)s->ctx.db + at, which >> 2);
	if (which & 2)
		guest_kick_doorbell(s->f.g);
}

static void modify(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct guest_qp *qp = pick_qp(which);
	uint8_t state = which >> 4 & 7;

	if (state != VIRTIO_RDMA_QPS_RESET) {
		guest_qp_set_state(qp, state);
		return;
	}
	must(guest_qp_reset(qp), "RESET");
	bring_up(which & 1, qp - sides[which & 1].qp, fuzz_u8(in) & 14);
}

/* Keys change while they are in use. */
static void rereg(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct side *s = &sides[which & 1];

	/* The second fails where the memory is removed; then the next first one fails as well. */
	guest_mr_dereg(&s->mr);
	if (which & 2)
		fuzz_step(engine, 1);
	guest_mr_reg(s->f.g, s->pd, s->mem, MR_BYTES, which & 4 ? 15 : 1, &s->mr);
}

static void flip(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in), at = fuzz_u8(in);
	struct guest_qp *qp = pick_qp(which);
	struct side *s = &sides[which & 1];
	struct guest_ring *rq = recv_ring(qp);
	struct guest_cq *cq = &s->cq[at & 1];
	uint32_t *word, now;

	switch (which >> 4 & 7) {
	case 0: case 1:
		word = (uint32_t *)(qp->sq.ring + at * 4 % (qp->sq.stride * qp->sq.entries));
		break;
	case 2:
		word = (uint32_t *)(rq->ring + at * 4 % (rq->stride * rq->entries));
		break;
	case 3:
		word = (uint32_t *)&qp->sq.ctrl->producer;
		break;
	case 4:
		word = (uint32_t *)&rq->ctrl->producer;
		break;
	case 5:
		word = (uint32_t *)(at & 2 ? &cq->ctrl->consumer : &cq->ctrl->arm);
		break;
	case 6:
		word = (uint32_t *)s->ctx.db + at;
		break;
	default:
		word = (uint32_t *)s->mem + at;
	}
	now = __atomic_load_n(word, __ATOMIC_RELAXED);
	fuzz_flip(word, now, fuzz_pick32(in, now ^ 1U << (at & 31)));
}

static void host(struct fuzz_in *in)
{
	uint8_t how = fuzz_u8(in);
	struct side *s = &sides[how & 1];

	switch (how >> 1 & 3) {
	case 0:
		fuzz_guest_stop(&s->f);
		fuzz_step(engine, how >> 3 & 3);
		fuzz_guest_start(&s->f);
		break;
	case 1:
		fuzz_guest_memory(&s->f, how >> 3);
		break;
	case 2:
		fuzz_guest_drain(&s->f);
		break;
	default:
		guest_kick_doorbell(s->f.g);
	}
}

static void check(const struct side *s)
{
	for (unsigned int i = 0; i < GUEST_PAGE; i++) {
		if (s->canary[i] != CANARY)
			fuzz_fail("%s: byte %u of memory that no key names was written",
				  s->f.g->cfg.name, i);
		if (s->readonly[i] != CANARY)
			fuzz_fail("%s: byte %u of a read-only region was written",
				  s->f.g->cfg.name, i);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	uint8_t sizes = fuzz_u8(&in), how = fuzz_u8(&in);

	kernel = how & 1;
	shared = how & 4;
	for (unsigned int i = 0; i < GUESTS; i++)
		open_side(&sides[i], sizes, how & 2 ? VIRTIO_RDMA_QPT_UC : VIRTIO_RDMA_QPT_RC);
	for (unsigned int i = 0; i < GUESTS * QPS; i++)
		must(bring_up(i & 1, i >> 1, 14), "bringing up a QP");

	for (unsigned int n = 0; n < FUZZ_MAX_OPS && !fuzz_done(&in); n++) {
		switch (fuzz_u8(&in) & 15) {
		case 0: break;
		case 1: write_wqe(&in); break;
		case 2: write_recv(&in); break;
		case 3: write_raw(&in, false); break;
		case 4: write_raw(&in, true); break;
		case 5: case 6: ring_doorbell(&in); break;
		case 7: set_producer(&in); break;
		case 8: cq_words(&in); break;
		case 9: db_bytes(&in); break;
		case 10: modify(&in); break;
		case 11: rereg(&in); break;
		case 12: flip(&in); break;
		case 13: host(&in); break;
		default: fuzz_step(engine, fuzz_u8(&in) & 3); break;
		}
	}
	fuzz_step(engine, 2);
	fuzz_flip_stop();
	for (unsigned int i = 0; i < GUESTS; i++)
		fuzz_guest_end(&sides[i].f);
	for (unsigned int i = 0; i < GUESTS && !kernel; i++)
		check(&sides[i]);
	return 0;
}
