/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Work requests off the rings: inline code for the most common kinds.  wqe.c handles all
 * other kinds and documents what is checked and why.  It takes its own copy of the entry and
 * uses only that.
 *
 * For transports; sq.lock or rq.lock is held.
 */
#ifndef VRD_WQE_H
#define VRD_WQE_H

#include "shm.h"
#include "transport.h"

#define VRD_WQE_LINE		64U

#define VRD_WR_BIT(op)		(1U << VIRTIO_RDMA_WR_##op)
#define VRD_WR_SENDS		(VRD_WR_BIT(SEND) | VRD_WR_BIT(SEND_WITH_IMM))
#define VRD_WR_WRITES		(VRD_WR_BIT(RDMA_WRITE) | VRD_WR_BIT(RDMA_WRITE_WITH_IMM))

/* Operations that vrd_sq_fetch() reports as SPECIAL, so that the usual ones need no check. */
#define VRD_WR_SPECIAL		(VRD_WR_BIT(SEND_WITH_INV) | VRD_WR_BIT(LOCAL_INV) | \
				 VRD_WR_BIT(REG_MR))

#define VRD_WQE_FLAGS		(VIRTIO_RDMA_WQE_SIGNALED | VIRTIO_RDMA_WQE_SOLICITED | \
				 VIRTIO_RDMA_WQE_FENCE | VIRTIO_RDMA_WQE_INLINE)

/* Entries of a send ring that are prefetched. */
#define VRD_SQ_AHEAD	5UL

/* Address of entry @index, or NULL if its page is not RAM now. */
static VRD_INLINE const uint8_t *vrd_ring_entry(const struct vrd_buf *buf,
						const struct vrd_ring *ring, uint32_t index)
{
	uint32_t offset = ring->offset + ((index & (ring->entries - 1)) << ring->stride_shift);
	const uint8_t *page = buf->hva[offset / VIRTIO_RDMA_PAGE_SIZE];

	return page ? page + offset % VIRTIO_RDMA_PAGE_SIZE : NULL;
}

static VRD_INLINE void vrd_wr_set_length(const struct vrd_qp *qp, struct vrd_wr *wr,
					 uint64_t length)
{
	wr->req.length = length;
	wr->req.range.length = length;
	wr->length_ok = length <= qp->max_msg_sz;
}

/*
 * wqe.c.  Checks whether there is an entry at the ring's head: OK, EMPTY or BAD.  The
 * producer index is read again when the last value has been used up.
 */
enum vrd_fetch vrd_ring_look(struct vrd_ring *ring);
enum vrd_fetch vrd_sq_look(struct vrd_qp *qp);
/* Entries of any kind: OK, SPECIAL or BAD. */
enum vrd_fetch vrd_wqe_any(const struct vrd_qp *qp, struct vrd_wr *wr, const uint8_t *entry);
bool vrd_recv_any(const struct vrd_ring *ring, uint32_t max_sge, struct vrd_recv_wr *wr,
		  const void *entry);

/*
 * Handles WQEs of a connected QP with one SGE, or with inline data within the first line.
 * Makes the checks of wqe.c a word at a time.  False: the entry is of another kind, or
 * malformed.
 */
static VRD_INLINE bool vrd_wqe_plain(const struct vrd_qp *qp, struct vrd_wr *wr,
				     const __le64 *entry)
{
	const uint64_t flags = (uint64_t)(VRD_WQE_FLAGS & ~VIRTIO_RDMA_WQE_INLINE) << 16;
	uint64_t ctrl = vrd_load64(&entry[0]), imm = vrd_load64(&entry[1]);
	uint64_t rkey = vrd_load64(&entry[3]), rest = ctrl & ~(flags | 0xff), sge;
	uint32_t ops = VRD_WR_SENDS | VRD_WR_WRITES;
	uint8_t opcode = ctrl;

	if (vrd_likely(qp->type == VIRTIO_RDMA_QPT_RC))
		ops |= VRD_WR_BIT(RDMA_READ);
	else if (qp->type != VIRTIO_RDMA_QPT_UC)
		return false;
	/* pkey_index and the reserved fields */
	if ((imm | rkey) >> 32 || opcode > 31 || !(ops >> opcode & 1))
		return false;
	wr->req.opcode = opcode;
	wr->req.flags = ctrl >> 16;
	wr->req.imm = htole32((uint32_t)imm);
	wr->req.range.addr = vrd_load64(&entry[2]);
	wr->req.range.lkey = rkey;

	/* num_sge 1, inline_len 0, no other flags */
	if (rest == 1U << 8 && qp->max_send_sge) {
		sge = vrd_load64(&entry[5]);
		wr->num_sge = 1;
		wr->sge[0].addr = vrd_load64(&entry[4]);
		wr->sge[0].length = sge;
		wr->sge[0].lkey = sge >> 32;
		vrd_wr_set_length(qp, wr, (uint32_t)sge);
		return true;
	}
	/* num_sge 0, INLINE */
	if ((uint32_t)rest != VIRTIO_RDMA_WQE_INLINE << 16 || opcode == VIRTIO_RDMA_WR_RDMA_READ ||
	    rest >> 32 > VRD_WQE_LINE - sizeof(struct virtio_rdma_rc_wqe) ||
	    rest >> 32 > qp->max_inline)
		return false;
	wr->num_sge = 0;
	vrd_copy_in(wr->inline_data, &entry[4], VRD_WQE_LINE - sizeof(struct virtio_rdma_rc_wqe));
	vrd_wr_set_length(qp, wr, rest >> 32);
	return true;
}

/* vrd_sq_look() at the end of what this burst may take: see struct vrd_sched. */
static VRD_INLINE enum vrd_fetch vrd_sq_look_once(struct vrd_qp *qp)
{
	return vrd_likely(qp->sched.looked && !qp->sq.broken) ? VRD_FETCH_EMPTY : vrd_sq_look(qp);
}

/* vrd_sq_peek() without the handling of long requests: see vrd_sq_long(). */
static VRD_INLINE enum vrd_fetch vrd_sq_fetch(struct vrd_qp *qp, struct vrd_wr *wr)
{
	const struct vrd_ring *sq = &qp->sq;
	const uint8_t *entry;

	wr->index = sq->head;
	if (sq->head == sq->tail || sq->broken) {
		enum vrd_fetch fetch = vrd_sq_look_once(qp);

		if (fetch != VRD_FETCH_OK)
			return fetch;
	}
	entry = vrd_ring_entry(&qp->buf, sq, sq->head);
	if (vrd_unlikely(!entry))
		return VRD_FETCH_BAD;
	/*
	 * The guest's CPU wrote this line.  Also prefetch one that is needed soon: its transfer
	 * takes as long as several short requests.  At the end of a page this is an unrelated
	 * line, which is harmless.
	 */
	__builtin_prefetch(entry + (VRD_SQ_AHEAD << sq->stride_shift));
	if (vrd_likely(vrd_wqe_plain(qp, wr, (const void *)entry)))
		return VRD_FETCH_OK;
	return vrd_wqe_any(qp, wr, entry);
}

/* True if the ring has another entry, as far as vrd_sq_look() looks. */
static VRD_INLINE bool vrd_sq_has_more(struct vrd_qp *qp)
{
	return qp->sq.head != qp->sq.tail || vrd_sq_look_once(qp) != VRD_FETCH_EMPTY;
}

/* Inline version of vrd_rq_take(). */
static VRD_INLINE enum vrd_fetch vrd_rq_fetch(struct vrd_qp *qp, struct vrd_recv_wr *wr)
{
	struct vrd_ring *rq = &qp->rq;
	const __le64 *entry;
	uint64_t sge;

	wr->index = rq->head;
	if (vrd_unlikely(rq->head == rq->tail || rq->broken)) {
		enum vrd_fetch fetch = vrd_ring_look(rq);

		if (fetch != VRD_FETCH_OK)
			return fetch;
	}
	entry = (const void *)vrd_ring_entry(&qp->buf, rq, rq->head);
	rq->head++;
	if (vrd_unlikely(!entry))
		return VRD_FETCH_BAD;
	/* Most have one SGE; every entry has room for one. */
	if (vrd_unlikely((uint32_t)vrd_load64(&entry[0]) != 1 || vrd_load64(&entry[1]) ||
			 !qp->max_recv_sge))
		return vrd_recv_any(rq, qp->max_recv_sge, wr, entry) ? VRD_FETCH_OK : VRD_FETCH_BAD;
	sge = vrd_load64(&entry[3]);
	wr->num_sge = 1;
	wr->length = (uint32_t)sge;
	wr->sge[0].addr = vrd_load64(&entry[2]);
	wr->sge[0].length = sge;
	wr->sge[0].lkey = sge >> 32;
	return VRD_FETCH_OK;
}

#endif /* VRD_WQE_H */
