// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: the copy engine.  Runs on pollers, under the requester's
 * sq.lock and (but for datagrams' lookups) the peer's rq.lock.
 *
 * Both sides are walked in runs of bytes that are contiguous in host memory.  What was looked up is good until the end of the turn: a
 * message of several turns looks each region up again by its key, so that
 * after dereg_mr no byte moves.
 */
#include <string.h>

#include "memory.h"
#include "move.h"

void vrd_mem_side_host(struct vrd_mem_side *side, void *host, uint64_t length)
{
	side->qp = NULL;
	side->pd = NULL;
	side->sge = NULL;
	side->num = 0;
	side->mr = NULL;
	side->host = host;
	side->run = length;
	side->left = length;
}

void vrd_mem_side_sges(struct vrd_mem_side *side, struct vrd_qp *qp, const struct vrd_sge *sge,
		       uint32_t num, uint64_t length, uint32_t access, bool remote)
{
	side->qp = qp;
	side->pd = qp->pd;
	side->sge = sge;
	side->num = num;
	side->idx = 0;
	side->offset = 0;
	side->access = access;
	side->remote = remote;
	side->write = access & (VIRTIO_RDMA_ACCESS_LOCAL_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_WRITE |
				VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC);
	side->mr = NULL;
	side->cursor = 0;
	side->run = 0;
	side->left = length;
}

void vrd_mem_side_recv(struct vrd_mem_side *side, struct vrd_qp *qp,
		       const struct vrd_recv_wr *recv, uint64_t length)
{
	vrd_mem_side_sges(side, qp, recv->sge, recv->num_sge, length,
			  VIRTIO_RDMA_ACCESS_LOCAL_WRITE, false);
	side->pd = vrd_qp_recv_pd(qp);
}

/* Bytes of the message that lie in the current SGE, from its offset on. */
static inline uint64_t vrd_mem_side_here(const struct vrd_mem_side *side)
{
	uint64_t here = side->sge[side->idx].length - side->offset;

	return here < side->left ? here : side->left;
}

/* Looks up the next run; left is not zero, run is. */
static bool vrd_mem_side_fill(struct vrd_mem_side *side)
{
	const struct vrd_sge *sge;

	if (!side->sge)
		return false;
	while (side->idx < side->num && side->offset == side->sge[side->idx].length) {
		side->idx++;
		side->offset = 0;
		side->mr = NULL;
	}
	if (side->idx == side->num)
		return false;
	sge = &side->sge[side->idx];
	if (!side->mr) {
		side->mr = vrd_mr_find_pd(side->qp, side->pd, sge->lkey, sge->addr + side->offset,
					  vrd_mem_side_here(side), side->access, side->remote);
		if (!side->mr)
			return false;
	}
	side->host = vrd_mr_at_cursor(side->qp->dev, side->mr, sge->addr + side->offset,
				      vrd_mem_side_here(side), side->write, &side->run,
				      &side->cursor);
	if (!side->host)
		side->run = 0;
	return side->run != 0;
}

bool vrd_mem_side_check(struct vrd_mem_side *side)
{
	uint64_t left = side->left;

	if (!left)
		return true;
	if (!side->run && !vrd_mem_side_fill(side))
		return false;
	if (!side->sge)
		return left <= side->run;

	left -= vrd_mem_side_here(side);
	for (uint32_t i = side->idx + 1; left; i++) {
		const struct vrd_sge *sge = &side->sge[i];
		uint64_t n;

		if (i >= side->num)
			return false;
		n = sge->length < left ? sge->length : left;
		if (n && !vrd_mr_find_pd(side->qp, side->pd, sge->lkey, sge->addr, n,
					 side->access, side->remote))
			return false;
		left -= n;
	}
	return true;
}

static inline void vrd_mem_side_advance(struct vrd_mem_side *side, uint64_t n)
{
	side->host += n;
	side->run -= n;
	side->left -= n;
	if (side->sge)
		side->offset += n;
}

enum vrd_mem_fault vrd_mem_copy(struct vrd_mem_side *dst, struct vrd_mem_side *src,
				uint64_t length, bool last)
{
	while (length) {
		uint64_t n = length;

		if (!src->run && !vrd_mem_side_fill(src))
			return VRD_MEM_FAULT_SRC;
		if (!dst->run && !vrd_mem_side_fill(dst))
			return VRD_MEM_FAULT_DST;
		if (n > src->run)
			n = src->run;
		if (n > dst->run)
			n = dst->run;
		if (n == length && last)
			vrd_mem_move_last(dst->host, src->host, n);
		else
			memmove(dst->host, src->host, n);
		vrd_mem_side_advance(src, n);
		vrd_mem_side_advance(dst, n);
		length -= n;
	}
	return VRD_MEM_OK;
}
