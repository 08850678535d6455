// SPDX-License-Identifier: GPL-2.0-or-later
/* Engine, guests and the provider on their rings.  See rig.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "bench.h"
#include "rig.h"

/* ---- what the kernel does -------------------------------------------------------- */

/* The provider calls ibv_cmd_post_send() without a request to wake a poller: db.c. */
int ibv_cmd_post_send(struct ibv_qp *ibqp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr)
{
	struct rig_ctx *ctx = container_of(to_vctx(ibqp->context), struct rig_ctx, v);

	*bad_wr = wr;
	if (wr)
		return EINVAL;
	ctx->wakeups++;
	guest_kick_doorbell(ctx->g);
	return 0;
}

/* ---- engine ------------------------------------------------------------------------ */

struct vrd_engine *rig_engine(unsigned int pollers)
{
	struct vrd_engine_config cfg = {
		.pollers = pollers,
		.poller_cpus = pollers == 1 ? &bench.poller_cpu : NULL,
		.poll_us = 1000000,
		.poll_fixed = true,
	};
	struct vrd_engine *engine;
	struct vrd_error err;

	if ((int)pollers + 1 > get_nprocs()) {
		cfg.poll_us = VRD_POLL_US_DEFAULT;
		cfg.poll_fixed = false;
	}
	if (vrd_engine_create(&cfg, &engine, &err))
		guest_fatal("%s (%s)", err.msg, err.hint);
	return engine;
}

/* ---- the provider's objects, as its control verbs leave them -------------------------- */

struct rig_ctx *rig_ctx_open(struct guest_ctx *gctx)
{
	/* In a guest, the driver's page. */
	static const struct virtio_rdma_status_page alive = { .alive = 1 };
	struct rig_ctx *ctx = calloc(1, sizeof(*ctx));

	if (!ctx)
		guest_fatal("out of memory");
	ctx->g = gctx->g;
	ctx->v.db = gctx->db;
	ctx->v.status = &alive;
	ctx->v.page_size = GUEST_PAGE;
	return ctx;
}

void rig_ctx_close(struct rig_ctx *ctx)
{
	for (unsigned int i = 0; i < VRDMA_QP_LEAVES; i++)
		free(ctx->v.qp_table[i]);
	free(ctx);
}

void rig_cq_open(struct rig_cq *cq, struct rig_ctx *ctx, struct guest_cq *gcq)
{
	memset(cq, 0, sizeof(*cq));
	cq->v.vcq.cq.context = &ctx->v.ibvctx.context;
	cq->v.cur = &cq->gen;
	cq->v.last = &cq->gen;
	cq->v.cached_qpn = VIRTIO_RDMA_NONE;
	cq->gen.ring.cqes = gcq->ring;
	cq->gen.ring.ctrl = gcq->ctrl;
	cq->gen.ring.mask = gcq->entries - 1;
	cq->gen.ring.shift = __builtin_ctz(gcq->entries);
	cq->gen.ring.consumer = gcq->consumer;
	vrdma_lock_init(&cq->v.lock, true);
	list_head_init(&cq->v.send_qps);
	list_head_init(&cq->v.recv_qps);
}

static void wq_open(struct vrdma_wq *wq, const struct guest_ring *ring, uint32_t max_sge)
{
	vrdma_lock_init(&wq->lock, true);
	wq->max_sge = max_sge;
	wq->wr_ids = calloc(ring->entries, sizeof(*wq->wr_ids));
	if (!wq->wr_ids)
		guest_fatal("out of memory");
	wq->ring = (struct vrdma_ring){
		.base = ring->ring,
		.ctrl = ring->ctrl,
		.entries = ring->entries,
		.mask = ring->entries - 1,
		.shift = __builtin_ctz(ring->stride),
		.slot = ring->slot,
		.head = ring->producer,
		.tail = ring->producer,
	};
}

void rig_qp_open(struct rig_qp *qp, struct rig_ctx *ctx, struct guest_qp *gq, struct guest_mr *mr,
		 struct guest_mr *rmr)
{
	struct vrdma_qp_leaf **leaf = &ctx->v.qp_table[gq->qpn >> VRDMA_QP_LEAF_SHIFT];

	memset(qp, 0, sizeof(*qp));
	qp->gq = gq;
	qp->mr = mr;
	qp->rmr = rmr;
	qp->v.vqp.qp.context = &ctx->v.ibvctx.context;
	qp->v.vqp.qp.qp_num = gq->qpn;
	qp->v.vqp.qp.state = IBV_QPS_RTS;
	qp->v.send_ops = 1U << IBV_WR_SEND | 1U << IBV_WR_RDMA_WRITE | 1U << IBV_WR_RDMA_READ;
	qp->v.max_inline = gq->init.max_inline;
	wq_open(&qp->v.sq, &gq->sq, gq->init.max_send_sge);
	wq_open(&qp->v.rq, &gq->rq, gq->init.max_recv_sge);
	if (!*leaf)
		*leaf = calloc(1, sizeof(**leaf));
	if (!*leaf)
		guest_fatal("out of memory");
	(*leaf)->qps[gq->qpn & (VRDMA_QP_LEAF_SIZE - 1)] = &qp->v;
	(*leaf)->used++;
}

void rig_qp_close(struct rig_qp *qp, struct rig_ctx *ctx)
{
	ctx->v.qp_table[qp->gq->qpn >> VRDMA_QP_LEAF_SHIFT]
		->qps[qp->gq->qpn & (VRDMA_QP_LEAF_SIZE - 1)] = NULL;
	free(qp->v.sq.wr_ids);
	free(qp->v.rq.wr_ids);
}

/* ---- two guests ------------------------------------------------------------------------ */

void rig_pair_open(struct rig_pair *p, uint64_t mem_size)
{
	static const uint8_t own[16];

	rig_pair_open_on(p, mem_size, NULL, own, own);
}

void rig_pair_open_on(struct rig_pair *p, uint64_t mem_size, const char *ibdev,
		      const uint8_t gid_a[16], const uint8_t gid_b[16])
{
	/* host_mapped: the core uses this process's own mapping, as in QEMU. */
	struct guest_config cfg = {
		.mem_size = mem_size + (24U << 20), .host_mapped = true, .ibdev = ibdev,
	};

	memset(p, 0, sizeof(*p));
	p->engine = rig_engine(1);
	cfg.id = 1;
	memcpy(cfg.gid, gid_a, 16);
	p->ga = guest_create(p->engine, &cfg);
	cfg.id = 2;
	memcpy(cfg.gid, gid_b, 16);
	p->gb = guest_create(p->engine, &cfg);
	guest_side_open(p->ga, mem_size, 1024, NULL, &p->sa);
	guest_side_open(p->gb, mem_size, 1024, NULL, &p->sb);
	guest_qp_connect_pair(&p->sa.qp, &p->sb.qp);
	p->ctx = rig_ctx_open(&p->sa.ctx);
	p->peer_ctx = rig_ctx_open(&p->sb.ctx);
	rig_cq_open(&p->cq, p->ctx, &p->sa.cq);
	rig_cq_open(&p->peer_cq, p->peer_ctx, &p->sb.cq);
	rig_qp_open(&p->qp, p->ctx, &p->sa.qp, &p->sa.mr, &p->sb.mr);
	rig_qp_open(&p->peer, p->peer_ctx, &p->sb.qp, &p->sb.mr, &p->sa.mr);
}

void rig_pair_close(struct rig_pair *p)
{
	rig_qp_close(&p->qp, p->ctx);
	rig_qp_close(&p->peer, p->peer_ctx);
	rig_ctx_close(p->ctx);
	rig_ctx_close(p->peer_ctx);
	guest_destroy(p->ga);
	guest_destroy(p->gb);
	vrd_engine_destroy(p->engine);
}

/* ---- posting ------------------------------------------------------------------------------ */

void rig_wrs_init(struct rig_wrs *w, const struct rig_qp *qp, enum ibv_wr_opcode opcode,
		  uint32_t length, bool use_inline, unsigned int num, bool all)
{
	memset(w, 0, sizeof(*w));
	w->num = num;
	w->sge = (struct ibv_sge){
		.addr = use_inline ? (uintptr_t)w->data : qp->mr->iova,
		.length = length,
		.lkey = qp->mr->lkey,
	};
	for (unsigned int i = 0; i < num; i++) {
		w->wr[i] = (struct ibv_send_wr){
			.wr_id = i,
			.next = i + 1 < num ? &w->wr[i + 1] : NULL,
			.sg_list = &w->sge,
			.num_sge = 1,
			.opcode = opcode,
			.send_flags = (all || i + 1 == num ? IBV_SEND_SIGNALED : 0) |
				      (use_inline ? IBV_SEND_INLINE : 0),
			.wr.rdma = { .remote_addr = qp->rmr->iova, .rkey = qp->rmr->rkey },
		};
	}
}

double rig_latency(struct rig_qp *qp, struct rig_cq *cq, struct rig_wrs *w, unsigned int n)
{
	uint64_t start;

	rig_post(qp, w->wr);
	rig_poll_one(cq);
	start = guest_now_ns();
	for (unsigned int i = 0; i < n; i++) {
		rig_post(qp, w->wr);
		rig_poll_one(cq);
	}
	return (double)(guest_now_ns() - start) / n;
}
