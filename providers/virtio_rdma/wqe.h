/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Shared by both interfaces for posting: translation of libibverbs' opcodes and
 * flags, receive entries, and the publishing of entries.  Callers hold the
 * queue's lock.
 */
#ifndef VRDMA_WQE_H
#define VRDMA_WQE_H

#include <errno.h>

#include "vrdma.h"

#define VRDMA_SQ_MIN_SHIFT	6	/* 64-byte entries */
#define VRDMA_RQ_MIN_SHIFT	5	/* 32-byte entries */
#define VRDMA_MAX_SHIFT		12	/* no entry straddles a page */

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

	/* The caller has checked @opcode against the QP's send_ops. */
	return map[opcode];
}

/* All flags except INLINE, which is set with the data. */
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

/* log2 of the smallest receive entry that holds @max_sge SGEs. */
static inline uint32_t vrdma_recv_shift(uint32_t max_sge)
{
	size_t bytes = sizeof(struct virtio_rdma_recv_wqe) +
		       max_sge * sizeof(struct virtio_rdma_sge);
	uint32_t shift = ilog32(bytes - 1);

	return shift < VRDMA_RQ_MIN_SHIFT ? VRDMA_RQ_MIN_SHIFT : shift;
}

/* Writes an entry of an RQ (its cookie is 0), or of an SRQ. */
static inline int vrdma_write_recv(struct virtio_rdma_recv_wqe *wqe,
				   uint32_t max_sge, uint32_t cookie,
				   const struct ibv_recv_wr *wr)
{
	int i;

	if (unlikely((unsigned int)wr->num_sge > max_sge))
		return EINVAL;

	wqe->num_sge = htole32(wr->num_sge);
	wqe->cookie = htole32(cookie);
	wqe->reserved = 0;
	for (i = 0; i < wr->num_sge; i++)
		vrdma_set_sge(&wqe->sge[i], wr->sg_list[i].addr,
			      wr->sg_list[i].length, wr->sg_list[i].lkey);
	return 0;
}

/*
 * IBTA: work can be posted to a send queue from RTS on; in ERR it is flushed.
 */
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
