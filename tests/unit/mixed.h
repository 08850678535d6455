/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the mixed backend share: guests a and b on a host's device that
 * does nothing (tests/null), and in fabrics.  What comes from the host is put there
 * by null_receive().
 */
#ifndef MIXED_H
#define MIXED_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_pair.h"
#include "null_verbs.h"
#include "tap.h"

#define SIGNALED	VIRTIO_RDMA_WQE_SIGNALED
#define W		VIRTIO_RDMA_WR_RDMA_WRITE
#define SEND		VIRTIO_RDMA_WR_SEND
#define READ		VIRTIO_RDMA_WR_RDMA_READ
#define WC(name)	VIRTIO_RDMA_WC_##name
#define RTR		VIRTIO_RDMA_QPS_RTR
#define RTS		VIRTIO_RDMA_QPS_RTS
#define INIT		VIRTIO_RDMA_QPS_INIT
#define SQE		VIRTIO_RDMA_QPS_SQE
#define ERR		VIRTIO_RDMA_QPS_ERR
#define QKEY		0x11223344
#define GRH		40

#define RTR_MASK	(VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_AV | VIRTIO_RDMA_QP_PATH_MTU | \
			 VIRTIO_RDMA_QP_DEST_QPN | VIRTIO_RDMA_QP_RQ_PSN | \
			 VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC | VIRTIO_RDMA_QP_MIN_RNR_TIMER)
#define RTS_MASK	(VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_SQ_PSN | VIRTIO_RDMA_QP_TIMEOUT | \
			 VIRTIO_RDMA_QP_RETRY_CNT | VIRTIO_RDMA_QP_RNR_RETRY | \
			 VIRTIO_RDMA_QP_MAX_QP_RD_ATOMIC)

/* Where no guest of a fabric is. */
static const uint8_t elsewhere[16] = { [10] = 0xff, 0xff, 10, 0, 0, 99 };

static struct mem_pair p;

/* Both on the host's device, each in its fabric. */
static inline void mixed_open(unsigned int pollers, const char *fabric_a, const char *fabric_b)
{
	struct guest_config a = {
		.host_mapped = MEM_HOST_MAPPED, .ibdev = NULL_IBDEV, .backend = "mixed",
		.fabric = fabric_a,
	}, b = a;

	b.fabric = fabric_b;
	memcpy(a.gid, null_gids[1], 16);
	memcpy(b.gid, null_gids[0], 16);
	mem_pair_open_with(&p, pollers, 64 << 20, &a, &b);
}

/* ---- ends, beside those of the pair --------------------------------------------------- */

static inline void open_end(struct mem_end *end, uint8_t type)
{
	struct guest_qp_init init = {
		.type = type, .max_recv_sge = end->srq ? 0 : 2, .pd = end->pd,
		.send_cq = &end->scq, .recv_cq = &end->rcq, .srq = end->srq,
	};

	if (guest_cq_create(&end->ctx, 512, 0, &end->scq) ||
	    guest_cq_create(&end->ctx, 512, 0, &end->rcq) ||
	    guest_qp_create(&end->ctx, &init, &end->qp))
		guest_fatal("no CQ or QP");
}

static inline void drop_events(struct guest *g)
{
	struct virtio_rdma_event event;

	while (guest_event(g, &event, 0))
		;
}

static inline void close_end(struct mem_end *end)
{
	if (guest_qp_destroy(&end->qp) || guest_cq_destroy(&end->scq) ||
	    guest_cq_destroy(&end->rcq))
		guest_fatal("a QP or CQ cannot be destroyed");
	drop_events(end->g);
}

/* NULL: somebody whom only the host can reach. */
static inline void attr_to(struct mem_end *end, const struct mem_end *to)
{
	end->attr = (struct virtio_rdma_qp_attr){
		.path_mtu = 3, .port_num = 1, .timeout = 8, .retry_cnt = 3, .rnr_retry = 7,
		.min_rnr_timer = 12, .max_rd_atomic = 16, .max_dest_rd_atomic = 16,
		.qkey = htole32(QKEY),
		.access_flags = htole32(VIRTIO_RDMA_ACCESS_REMOTE_WRITE |
					VIRTIO_RDMA_ACCESS_REMOTE_READ),
		.dest_qpn = htole32(to ? to->qp.qpn : NULL_SRC_QP),
		.av.hop_limit = 64,
	};
	memcpy(end->attr.av.dgid, to ? to->g->gid : elsewhere, 16);
}

static inline void bring_up(struct mem_end *end, const struct mem_end *to)
{
	uint32_t status;

	attr_to(end, to);
	status = mem_bring_up(end, RTS);
	if (status)
		guest_fatal("a QP on its way to RTS answers %u", status);
}

static inline void connect(struct mem_end *x, struct mem_end *y)
{
	bring_up(x, y);
	bring_up(y, x);
}

static inline uint32_t to_rtr(struct mem_end *end)
{
	end->attr.state = RTR;
	return guest_qp_modify(&end->qp, end->qp.init.type == VIRTIO_RDMA_QPT_RC ? RTR_MASK :
			       VIRTIO_RDMA_QP_STATE, &end->attr);
}

static inline uint32_t to_rts(struct mem_end *end)
{
	end->attr.state = RTS;
	return guest_qp_modify(&end->qp, end->qp.init.type == VIRTIO_RDMA_QPT_RC ? RTS_MASK :
			       VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_SQ_PSN, &end->attr);
}

static inline int wait_cqe(struct guest_cq *cq, struct virtio_rdma_cqe *cqe)
{
	return guest_poll_wait(cq, cqe, MEM_WAIT_MS) ? cqe->status : -1;
}

/* @num completions with @status, of entries that follow each other. */
static inline bool in_order(struct guest_cq *cq, uint8_t status, uint32_t first, uint32_t num)
{
	struct virtio_rdma_cqe cqe;

	for (uint32_t i = 0; i < num; i++)
		if (wait_cqe(cq, &cqe) != status || le32toh(cqe.wqe_index) != first + i) {
			printf("# completion %u of %u: status %u, index %u\n", i, num, cqe.status,
			       le32toh(cqe.wqe_index));
			return false;
		}
	return true;
}

/* The poller may not have handed over yet what the message needs. */
static inline bool arrives(struct mem_end *end, enum ibv_wc_status status, const void *data,
			   uint32_t length)
{
	for (int ms = 0; ms < MEM_WAIT_MS; ms++) {
		if (null_receive(end->qp.qpn, status, data, length))
			return true;
		usleep(1000);
	}
	return false;
}

/* A SEND, a WRITE and a READ between them by memory, with the data compared. */
static inline bool carries(struct mem_end *x, struct mem_end *y, uint32_t seed)
{
	static const uint8_t opcodes[] = { SEND, W, READ };
	bool good = true;

	for (unsigned int i = 0; i < 3 && good; i++) {
		struct mem_wr w = mem_wr(x, y, opcodes[i], 10000);
		struct mem_end *from = opcodes[i] == READ ? y : x, *to = opcodes[i] == READ ? x : y;

		mem_pattern(from->buf, 10000, seed + i);
		memset(to->buf, 0, 10000);
		if (opcodes[i] == SEND)
			mem_recv(y, 0, 10000);
		mem_post(x, &w);
		good = mem_status(&x->scq) == 0 &&
		       (opcodes[i] != SEND || mem_status(&y->rcq) == 0) &&
		       mem_has_pattern(to->buf, 10000, seed + i);
	}
	return good;
}

/* The host's device takes them, and gives a receive back. */
static inline bool host_carries(struct mem_end *x)
{
	static const uint8_t opcodes[] = { SEND, W, READ };
	static const uint8_t wcs[] = { WC(SEND), WC(RDMA_WRITE), WC(RDMA_READ) };
	struct virtio_rdma_cqe cqe;
	bool good = true;
	uint32_t index;

	for (unsigned int i = 0; i < 3 && good; i++) {
		struct mem_wr w = mem_wr(x, x, opcodes[i], 10000);

		mem_post(x, &w);
		good = wait_cqe(&x->scq, &cqe) == 0 && cqe.opcode == wcs[i];
	}
	index = x->qp.rq.producer;
	mem_recv(x, 0, 64);
	return good && arrives(x, IBV_WC_SUCCESS, NULL, 33) && wait_cqe(&x->rcq, &cqe) == 0 &&
	       le32toh(cqe.wqe_index) == index && le32toh(cqe.byte_len) == 33;
}

/* ---- datagrams -------------------------------------------------------------------------- */

static inline struct virtio_rdma_av av_to(const struct mem_end *from, const struct mem_end *to)
{
	struct virtio_rdma_av av = {
		.pd = htole32(from->pd), .dqpn = htole32(to ? to->qp.qpn : NULL_SRC_QP),
		.qkey = htole32(QKEY), .hop_limit = 64,
	};

	memcpy(av.dgid, to ? to->g->gid : elsewhere, 16);
	return av;
}

static inline void write_ud(struct mem_end *from, const struct virtio_rdma_av *av, uint32_t offset,
			    uint32_t length, uint16_t flags)
{
	struct mem_wr w = mem_wr(from, from, SEND, length);

	w.wr.av = av;
	w.wr.flags = flags;
	w.wr.sge = &w.sge;
	w.sge.addr += offset;
	guest_write_send(&from->qp, &w.wr);
}

/* As the host writes it: header and payload. */
static inline void datagram(uint8_t *to, uint32_t payload, uint32_t seed)
{
	mem_pattern(to, GRH, seed + 1);
	mem_pattern(to + GRH, payload, seed);
}

/* ---- shared receive queues -------------------------------------------------------------- */

#define SRQ_ENTRIES	32
#define COOKIE		0x5e000000U

static inline void post_srq(struct mem_end *end, uint32_t slot)
{
	struct guest_sge sge = { end->mr.iova + slot * 4096, 4096, end->mr.lkey };

	guest_post_srq(end->srq, COOKIE + slot, &sge, 1);
}

#endif /* MIXED_H */
