/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What both ways to post a send share: translation of libibverbs' opcodes and
 * flags, and the steps from a written entry to a rung doorbell.  Callers hold
 * the send queue's lock.
 */
#ifndef VRDMA_WQE_H
#define VRDMA_WQE_H

#include <errno.h>

#include "vrdma.h"

static inline uint8_t vrdma_wr_opcode(enum ibv_wr_opcode opcode)
{
	static const uint8_t map[] = {
		[IBV_WR_RDMA_WRITE] = VIRTIO_RDMA_WR_RDMA_WRITE,
		[IBV_WR_RDMA_WRITE_WITH_IMM] =
			VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM,
		[IBV_WR_SEND] = VIRTIO_RDMA_WR_SEND,
		[IBV_WR_SEND_WITH_IMM] = VIRTIO_RDMA_WR_SEND_WITH_IMM,
		[IBV_WR_RDMA_READ] = VIRTIO_RDMA_WR_RDMA_READ,
		[IBV_WR_ATOMIC_CMP_AND_SWP] =
			VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP,
		[IBV_WR_ATOMIC_FETCH_AND_ADD] =
			VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD,
		[IBV_WR_LOCAL_INV] = VIRTIO_RDMA_WR_LOCAL_INV,
		[IBV_WR_SEND_WITH_INV] = VIRTIO_RDMA_WR_SEND_WITH_INV,
	};

	/* The caller has compared it with the QP's send_ops. */
	return map[opcode];
}

/* Flags but for INLINE, which comes with the data. */
static inline uint16_t vrdma_wr_flags(const struct vrdma_qp *qp,
				      unsigned int send_flags)
{
	uint16_t flags = 0;

	if ((send_flags & IBV_SEND_SIGNALED) || qp->sq_sig_all)
		flags |= VIRTIO_RDMA_WQE_SIGNALED;
	if (send_flags & IBV_SEND_SOLICITED)
		flags |= VIRTIO_RDMA_WQE_SOLICITED;
	if (send_flags & IBV_SEND_FENCE)
		flags |= VIRTIO_RDMA_WQE_FENCE;
	return flags;
}

static inline void vrdma_set_sge(struct virtio_rdma_sge *to, uint64_t addr,
				 uint32_t length, uint32_t lkey)
{
	to->addr = htole64(addr);
	to->length = htole32(length);
	to->lkey = htole32(lkey);
}

/* IBTA: a send queue takes work from RTS on; in ERR the work is flushed. */
static inline bool vrdma_sq_usable(const struct vrdma_qp *qp)
{
	return qp->vqp.qp.state >= IBV_QPS_RTS;
}

static inline void vrdma_wq_publish(struct vrdma_qp *qp, struct vrdma_wq *wq,
				    uint32_t head)
{
	if (unlikely(vrdma_ring_publish(&wq->ring, head)))
		vrdma_doorbell(qp, &wq->ring);
}

#endif /* VRDMA_WQE_H */
