// SPDX-License-Identifier: GPL-2.0-or-later
/* Two test guests, one of which has an SRQ.  See srq_pair.h. */
#include "srq_pair.h"

struct mem_pair srq_pair;
struct guest_srq srq;

static struct mem_end *a = &srq_pair.a, *b = &srq_pair.b;

void srq_fresh_type(uint8_t type)
{
	struct guest_qp_init init = { .type = type, .max_recv_sge = 2 };

	mem_pattern(a->buf, MEM_BUF, MEM_SEED_A);
	mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
	if (guest_srq_create(&b->ctx, b->pd, ENTRIES, 2, &srq))
		guest_fatal("no SRQ");
	b->srq = &srq;
	mem_pair_qps_init(&srq_pair, &init, 64);
	b->srq = NULL;
	mem_pair_connect(&srq_pair);
}

void srq_fresh(void)
{
	srq_fresh_type(VIRTIO_RDMA_QPT_RC);
}

void srq_drop(void)
{
	mem_pair_drop_qps(&srq_pair);
	if (guest_srq_destroy(&srq))
		guest_fatal("the SRQ cannot be destroyed");
	mem_drop_events(b->g);
}

void srq_recv(uint32_t cookie, uint32_t offset, uint32_t length)
{
	struct guest_sge sge = { b->mr.iova + offset, length, b->mr.lkey };

	guest_post_srq(&srq, cookie, &sge, 1);
}

void srq_send_on(struct guest_qp *qp, uint8_t opcode, uint32_t length)
{
	struct mem_wr w = mem_wr(a, b, opcode, length);

	w.wr.sge = &w.sge;
	guest_post_send(qp, &w.wr);
}

void srq_send(uint32_t length)
{
	srq_send_on(&a->qp, VIRTIO_RDMA_WR_SEND, length);
}

bool srq_received(uint32_t qpn, uint32_t cookie, uint32_t length, uint8_t status)
{
	struct virtio_rdma_cqe cqe;

	return mem_cqe(&b->rcq, &cqe) == status && le32toh(cqe.srqn) == srq.srqn &&
	       le32toh(cqe.qpn) == qpn && le32toh(cqe.wqe_index) == cookie &&
	       cqe.opcode & VIRTIO_RDMA_WC_RECV_BIT &&
	       (status || le32toh(cqe.byte_len) == length);
}

bool srq_event(uint32_t type)
{
	struct virtio_rdma_event event;

	return guest_event(b->g, &event, MEM_WAIT_MS) && le32toh(event.type) == type &&
	       le32toh(event.id) == srq.srqn;
}
