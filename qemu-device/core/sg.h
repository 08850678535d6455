/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sg iterator: walks a list of SGEs in one guest's memory, or plain host memory, in runs
 * of bytes that are contiguous in the host's address space.  Also the copy from one iterator
 * to another.  All payload that software moves into or out of a guest's memory goes through
 * vrd_sg_copy().
 *
 * Runs on pollers, under the lock of the QP whose keys are looked up (sq.lock for a
 * requester, rq.lock for a responder).  Hvas and regions are valid until the end of the
 * turn: see vrd_sg_forget().
 */
#ifndef VRD_SG_H
#define VRD_SG_H

#include "move.h"
#include "store.h"
#include "transport.h"

struct vrd_sg {
	uint8_t *hva;			/* next byte, if @run is not zero */
	uint64_t run;			/* contiguous bytes at @hva */
	uint64_t left;			/* bytes of the message after the run */
	const struct vrd_sge *sge;	/* the SGE that contains the run; NULL: plain host memory */
	uint32_t num;			/* SGEs in the list from @sge on */
	uint32_t offset;		/* in *sge: the end of the run */
	const struct vrd_mr *mr;	/* region of *sge; NULL: not looked up in this turn */
	const struct vrd_mr_run *next;	/* pages after the run in @mr; NULL: unknown */
	struct vrd_device *dev;		/* the owner of guest memory; NULL: the host's memory */
	struct vrd_qp *qp;		/* the QP that uses the keys */
	const struct vrd_pd *pd;	/* the PD of the keys */
	uint32_t access;		/* access rights that @mr must grant */
	bool remote;			/* the key came from a peer */
};

enum vrd_sg_fault {
	VRD_SG_OK,
	VRD_SG_FAULT_DST,
	VRD_SG_FAULT_SRC,
};

static inline void vrd_sg_host(struct vrd_sg *sg, void *hva, uint64_t length)
{
	sg->hva = hva;
	sg->run = length;
	sg->left = 0;
	sg->sge = NULL;
	sg->dev = NULL;
}

/* The first @length bytes of @num SGEs.  @qp uses their keys, in PD @pd. */
static inline void vrd_sg_init(struct vrd_sg *sg, struct vrd_qp *qp, const struct vrd_pd *pd,
			       const struct vrd_sge *sge, uint32_t num, uint64_t length,
			       uint32_t access, bool remote)
{
	sg->run = 0;
	sg->left = length;
	sg->sge = sge;
	sg->num = num;
	sg->offset = 0;
	sg->mr = NULL;
	sg->next = NULL;
	sg->dev = qp->dev;
	sg->qp = qp;
	sg->pd = pd;
	sg->access = access;
	sg->remote = remote;
}

/* Bytes of the message that have not been copied. */
static inline uint64_t vrd_sg_left(const struct vrd_sg *sg)
{
	return sg->run + sg->left;
}

/* sg.c */

/*
 * True if the whole message may be accessed.  Nothing is copied; the first run is looked up.
 * Call it before any byte is copied.
 */
bool vrd_sg_check(struct vrd_sg *sg);
/* Looks up the next run.  @left must not be zero, and @run must be zero. */
bool vrd_sg_fill(struct vrd_sg *sg);
/* To be called at the start of another turn: hvas and regions have to be looked up again. */
void vrd_sg_forget(struct vrd_sg *sg);

/*
 * vrd_sg_init() and vrd_sg_check().  Most messages have one SGE, in a region that is
 * contiguous in the host's address space.  Such a message becomes plain host memory, unless
 * @hold is set: @hold means that the message may continue in another turn.
 */
static VRD_INLINE bool vrd_sg_open(struct vrd_sg *sg, struct vrd_qp *qp, const struct vrd_pd *pd,
				   const struct vrd_sge *sge, uint32_t num, uint64_t length,
				   uint32_t access, bool remote, bool hold)
{
	/* With a length of zero, length - 1 is the largest number: the condition is false. */
	if (vrd_likely(!hold && num && length - 1 < sge->length)) {
		const struct vrd_mr *mr = vrd_mr_find_pd(qp, pd, sge->lkey, sge->addr, length,
							 access, remote);

		if (!mr)
			return false;
		if (vrd_likely(mr->linear)) {
			vrd_sg_host(sg, mr->linear + (sge->addr - mr->iova), length);
			sg->dev = qp->dev;
			return true;
		}
	}
	vrd_sg_init(sg, qp, pd, sge, num, length, access, remote);
	return vrd_sg_check(sg);
}

/*
 * Copies @length bytes; both iterators must have that many left.  @last: these are the last
 * bytes of the message.  A guest that polls the last byte then sees it change after all
 * others.
 */
enum vrd_sg_fault vrd_sg_copy(struct vrd_sg *dst, struct vrd_sg *src, uint64_t length, bool last);

/* The same for a whole message.  Neither iterator may be used afterwards. */
static VRD_INLINE enum vrd_sg_fault vrd_sg_copy_whole(struct vrd_sg *dst, struct vrd_sg *src,
						      uint64_t length)
{
	if (vrd_unlikely(!length || length > dst->run || length > src->run))
		return vrd_sg_copy(dst, src, length, true);
	vrd_move_last(dst->hva, src->hva, length);
	if (dst->dev)
		vrd_stored(dst->dev, dst->hva, length);
	return VRD_SG_OK;
}

#endif /* VRD_SG_H */
