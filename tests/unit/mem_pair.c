// SPDX-License-Identifier: GPL-2.0-or-later
/* Two test guests on one fabric.  See mem_pair.h. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mem_pair.h"

void mem_end_setup(struct mem_end *end)
{
	const char *name = end->g->cfg.name;

	if (guest_ctx_create(end->g, 0, &end->ctx) || guest_pd_alloc(&end->ctx, &end->pd))
		guest_fatal("%s: no context or PD", name);
	end->buf = guest_alloc(end->g, MEM_BUF);
	if (guest_mr_reg(end->g, end->pd, end->buf, MEM_BUF, MEM_ALL_ACCESS, &end->mr))
		guest_fatal("%s: no memory region", name);
}

static void end_create(struct mem_pair *p, struct mem_end *end, const char *name, uint8_t id,
		       uint64_t mem_size, const struct guest_config *template)
{
	struct guest_config cfg = *template;

	cfg.name = name;
	cfg.id = id;
	cfg.mem_size = mem_size;
	end->g = guest_create(p->engine, &cfg);
	mem_end_setup(end);
}

void mem_pair_open_with(struct mem_pair *p, unsigned int pollers, uint64_t mem_size,
			const struct guest_config *a, const struct guest_config *b)
{
	memset(p, 0, sizeof(*p));
	p->engine = guest_engine(pollers, 50);
	end_create(p, &p->a, "a", 1, mem_size, a);
	end_create(p, &p->b, "b", 2, mem_size, b);
}

void mem_pair_open(struct mem_pair *p, unsigned int pollers, uint64_t mem_size)
{
	struct guest_config cfg = { .host_mapped = MEM_HOST_MAPPED };

	mem_pair_open_with(p, pollers, mem_size, &cfg, &cfg);
}

void mem_pair_close(struct mem_pair *p)
{
	guest_destroy(p->a.g);
	guest_destroy(p->b.g);
	vrd_engine_destroy(p->engine);
}

void mem_attr_to(struct mem_end *end, const uint8_t dgid[16], uint32_t dqpn)
{
	end->attr = (struct virtio_rdma_qp_attr){
		.path_mtu = 5,
		.port_num = 1,
		.timeout = 8,			/* 1 ms */
		.retry_cnt = 3,
		.rnr_retry = 7,
		.min_rnr_timer = 12,		/* 0.64 ms */
		.max_rd_atomic = 16,
		.max_dest_rd_atomic = 16,
		.qkey = htole32(MEM_QKEY),
		.access_flags = htole32(VIRTIO_RDMA_ACCESS_REMOTE_WRITE |
					VIRTIO_RDMA_ACCESS_REMOTE_READ |
					VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC),
		.dest_qpn = htole32(dqpn),
		.av.hop_limit = 64,
	};
	memcpy(end->attr.av.dgid, dgid, 16);
}

void mem_end_open(struct mem_end *end, const struct guest_qp_init *template, uint32_t cq_entries)
{
	struct guest_qp_init init = *template;

	if (guest_cq_create(&end->ctx, cq_entries, 0, &end->scq) ||
	    guest_cq_create(&end->ctx, cq_entries, 0, &end->rcq))
		guest_fatal("no CQ");
	init.pd = end->pd;
	init.send_cq = &end->scq;
	init.recv_cq = &end->rcq;
	init.srq = end->srq;
	if (guest_qp_create(&end->ctx, &init, &end->qp))
		guest_fatal("no QP");
}

void mem_pair_qps_init(struct mem_pair *p, const struct guest_qp_init *init, uint32_t cq_entries)
{
	mem_end_open(&p->a, init, cq_entries);
	mem_end_open(&p->b, init, cq_entries);
	mem_attr_to(&p->a, p->b.g->gid, p->b.qp.qpn);
	mem_attr_to(&p->b, p->a.g->gid, p->a.qp.qpn);
}

void mem_pair_qps(struct mem_pair *p)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .max_recv_sge = 2 };

	mem_pair_qps_init(p, &init, 64);
}

static void end_drop_qp(struct mem_end *end)
{
	if ((end->qp.g && guest_qp_destroy(&end->qp)) || guest_cq_destroy(&end->scq) ||
	    guest_cq_destroy(&end->rcq))
		guest_fatal("a QP or CQ cannot be destroyed");
	end->qp.g = NULL;
}

void mem_drop_events(struct guest *g)
{
	struct virtio_rdma_event event;

	while (guest_event(g, &event, 0))
		;
}

void mem_end_close(struct mem_end *end)
{
	end_drop_qp(end);
	mem_drop_events(end->g);
}

void mem_pair_drop_qps(struct mem_pair *p)
{
	end_drop_qp(&p->a);
	end_drop_qp(&p->b);
	/* Discard what was pending before the QPs were forgotten. */
	mem_drop_events(p->a.g);
	mem_drop_events(p->b.g);
}

static bool is_rc(const struct mem_end *end)
{
	return end->qp.init.type == VIRTIO_RDMA_QPT_RC;
}

static bool is_connected(const struct mem_end *end)
{
	return is_rc(end) || end->qp.init.type == VIRTIO_RDMA_QPT_UC;
}

static uint32_t move_to(struct mem_end *end, uint8_t state, uint32_t mask)
{
	struct virtio_rdma_qp_attr attr = end->attr;

	attr.state = state;
	return guest_qp_modify(&end->qp, VIRTIO_RDMA_QP_STATE | mask, &attr);
}

static uint32_t to_init(struct mem_end *end)
{
	return move_to(end, VIRTIO_RDMA_QPS_INIT, VIRTIO_RDMA_QP_PKEY_INDEX | VIRTIO_RDMA_QP_PORT |
		       (is_connected(end) ? VIRTIO_RDMA_QP_ACCESS_FLAGS : VIRTIO_RDMA_QP_QKEY));
}

uint32_t mem_to_rtr(struct mem_end *end)
{
	return move_to(end, VIRTIO_RDMA_QPS_RTR,
		       (is_connected(end) ? VIRTIO_RDMA_QP_AV | VIRTIO_RDMA_QP_PATH_MTU |
			VIRTIO_RDMA_QP_DEST_QPN | VIRTIO_RDMA_QP_RQ_PSN : 0) |
		       (is_rc(end) ? VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC |
			VIRTIO_RDMA_QP_MIN_RNR_TIMER : 0));
}

uint32_t mem_to_rts(struct mem_end *end)
{
	return move_to(end, VIRTIO_RDMA_QPS_RTS, VIRTIO_RDMA_QP_SQ_PSN |
		       (is_rc(end) ? VIRTIO_RDMA_QP_TIMEOUT | VIRTIO_RDMA_QP_RETRY_CNT |
			VIRTIO_RDMA_QP_RNR_RETRY | VIRTIO_RDMA_QP_MAX_QP_RD_ATOMIC : 0));
}

uint32_t mem_bring_up(struct mem_end *end, uint8_t state)
{
	uint32_t status = to_init(end);

	if (!status && state != VIRTIO_RDMA_QPS_INIT)
		status = mem_to_rtr(end);
	if (!status && state == VIRTIO_RDMA_QPS_RTS)
		status = mem_to_rts(end);
	return status;
}

void mem_connect(struct mem_end *x, struct mem_end *y)
{
	uint32_t status_x = mem_bring_up(x, VIRTIO_RDMA_QPS_RTS);
	uint32_t status_y = mem_bring_up(y, VIRTIO_RDMA_QPS_RTS);

	if (status_x || status_y)
		guest_fatal("connecting QPs answers %u and %u", status_x, status_y);
}

void mem_pair_connect(struct mem_pair *p)
{
	mem_connect(&p->a, &p->b);
}

void mem_pair_fresh(struct mem_pair *p)
{
	mem_pattern(p->a.buf, MEM_BUF, MEM_SEED_A);
	mem_pattern(p->b.buf, MEM_BUF, MEM_SEED_B);
	mem_pair_qps(p);
	mem_pair_connect(p);
}

/* ---- data -------------------------------------------------------------------- */

static uint8_t pattern_byte(uint64_t i, uint32_t seed)
{
	uint64_t x = (i >> 3) * 0x9e3779b97f4a7c15ULL + seed * 0xbf58476d1ce4e5b9ULL;

	return (x ^ x >> 29) >> (i & 7) * 8;
}

void mem_pattern(void *p, uint64_t length, uint32_t seed)
{
	for (uint64_t i = 0; i < length; i++)
		((uint8_t *)p)[i] = pattern_byte(i, seed);
}

bool mem_has_pattern(const void *p, uint64_t length, uint32_t seed)
{
	for (uint64_t i = 0; i < length; i++)
		if (((const uint8_t *)p)[i] != pattern_byte(i, seed))
			return false;
	return true;
}

bool mem_untouched(const struct mem_pair *p)
{
	return mem_has_pattern(p->a.buf, MEM_BUF, MEM_SEED_A) &&
	       mem_has_pattern(p->b.buf, MEM_BUF, MEM_SEED_B);
}

/* ---- what is expected ------------------------------------------------------------ */

int mem_status(struct guest_cq *cq)
{
	struct virtio_rdma_cqe cqe;

	return mem_cqe(cq, &cqe);
}

int mem_cqe(struct guest_cq *cq, struct virtio_rdma_cqe *cqe)
{
	return guest_poll_wait(cq, cqe, MEM_WAIT_MS) ? cqe->status : -1;
}

bool mem_in_order(struct guest_cq *cq, uint8_t status, uint32_t first, uint32_t num)
{
	struct virtio_rdma_cqe cqe;

	for (uint32_t i = 0; i < num; i++) {
		int got = mem_cqe(cq, &cqe);

		if (got < 0)
			printf("# completion %u of %u does not come\n", i, num);
		else if (got != status || le32toh(cqe.wqe_index) != first + i)
			printf("# completion %u of %u: status %d, index %u\n", i, num, got,
			       le32toh(cqe.wqe_index));
		else
			continue;
		return false;
	}
	return true;
}

bool mem_in_state(struct mem_end *end, uint8_t state)
{
	for (int ms = 0; ms < MEM_WAIT_MS; ms++) {
		if (guest_qp_state(&end->qp) == state)
			return true;
		usleep(1000);
	}
	return false;
}

bool mem_event(struct mem_end *end, uint32_t type)
{
	struct virtio_rdma_event event;

	return guest_event(end->g, &event, MEM_WAIT_MS) && le32toh(event.type) == type &&
	       le32toh(event.id) == end->qp.qpn;
}

bool mem_no_event(struct mem_end *end)
{
	struct virtio_rdma_event event;

	return !guest_event(end->g, &event, MEM_QUIET_MS);
}

bool mem_event_comes(struct guest *g, uint32_t type, uint32_t id, int timeout_ms)
{
	struct virtio_rdma_event event;

	while (guest_event(g, &event, timeout_ms))
		if (le32toh(event.type) == type && le32toh(event.id) == id)
			return true;
	return false;
}

bool mem_no_cqe(struct guest_cq *cq)
{
	struct virtio_rdma_cqe cqe;

	return !guest_poll_wait(cq, &cqe, MEM_QUIET_MS);
}

/* ---- work requests --------------------------------------------------------------- */

struct mem_wr mem_wr(struct mem_end *from, struct mem_end *to, uint8_t opcode, uint32_t length)
{
	return (struct mem_wr){
		.wr = {
			.opcode = opcode,
			.flags = VIRTIO_RDMA_WQE_SIGNALED,
			.num_sge = 1,
			.remote_addr = to->mr.iova,
			.rkey = to->mr.rkey,
		},
		.sge = { from->mr.iova, length, from->mr.lkey },
	};
}

void mem_post(struct mem_end *end, struct mem_wr *w)
{
	w->wr.sge = &w->sge;
	guest_post_send(&end->qp, &w->wr);
}

void mem_recv(struct mem_end *end, uint32_t offset, uint32_t length)
{
	struct guest_sge sge = { end->mr.iova + offset, length, end->mr.lkey };

	guest_post_recv(&end->qp, &sge, 1);
}

void mem_post_srq(struct mem_end *end, uint32_t slot)
{
	struct guest_sge sge = { end->mr.iova + slot * MEM_SLOT, MEM_SLOT, end->mr.lkey };

	guest_post_srq(end->srq, MEM_COOKIE + slot, &sge, 1);
}

struct virtio_rdma_av mem_av(const struct mem_end *from, const uint8_t dgid[16], uint32_t dqpn)
{
	struct virtio_rdma_av av = {
		.pd = htole32(from->pd), .dqpn = htole32(dqpn), .qkey = htole32(MEM_QKEY),
		.hop_limit = 64,
	};

	memcpy(av.dgid, dgid, 16);
	return av;
}

void mem_write_ud(struct mem_end *from, const struct virtio_rdma_av *av, uint32_t offset,
		  uint32_t length, uint16_t flags)
{
	struct mem_wr w = mem_wr(from, from, VIRTIO_RDMA_WR_SEND, length);

	w.wr.av = av;
	w.wr.flags = flags;
	w.wr.sge = &w.sge;
	w.sge.addr += offset;
	guest_write_send(&from->qp, &w.wr);
}

bool mem_carries(struct mem_end *x, struct mem_end *y, uint32_t seed)
{
	static const uint8_t opcodes[] = {
		VIRTIO_RDMA_WR_SEND, VIRTIO_RDMA_WR_RDMA_WRITE, VIRTIO_RDMA_WR_RDMA_READ,
	};
	bool good = true;

	for (unsigned int i = 0; i < 3 && good; i++) {
		bool send = opcodes[i] == VIRTIO_RDMA_WR_SEND;
		bool read = opcodes[i] == VIRTIO_RDMA_WR_RDMA_READ;
		struct mem_end *from = read ? y : x, *to = read ? x : y;
		struct mem_wr w = mem_wr(x, y, opcodes[i], 10000);

		mem_pattern(from->buf, 10000, seed + i);
		memset(to->buf, 0, 10000);
		if (send)
			mem_recv(y, 0, 10000);
		mem_post(x, &w);
		good = mem_status(&x->scq) == 0 && (!send || mem_status(&y->rcq) == 0) &&
		       mem_has_pattern(to->buf, 10000, seed + i);
		if (!good)
			printf("# opcode %u\n", opcodes[i]);
	}
	return good;
}
