// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The parts of the sg iterator that are not inline: lists of several SGEs, regions whose
 * pages are scattered, copies of several runs.  See sg.h.
 */
#include <string.h>

#include "sg.h"

#define SG_WRITES	(VIRTIO_RDMA_ACCESS_LOCAL_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_WRITE | \
			 VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC)

/* Bytes of the message that lie in *sge after the current run. */
static inline uint64_t sg_here(const struct vrd_sg *sg)
{
	uint64_t here = sg->sge->length - sg->offset;

	return here < sg->left ? here : sg->left;
}

static inline void sg_set_run(struct vrd_sg *sg, uint8_t *hva, uint64_t run)
{
	sg->hva = hva;
	sg->run = run;
	sg->offset += run;
	sg->left -= run;
}

/* Looks up the next run from the SGE list, without the hint in sg->next. */
static VRD_NOINLINE bool sg_find(struct vrd_sg *sg)
{
	uint32_t cursor = 0;
	uint64_t addr, run;
	uint8_t *hva;

	sg->next = NULL;
	while (sg->num && sg->offset == sg->sge->length) {
		sg->sge++;
		sg->num--;
		sg->offset = 0;
		sg->mr = NULL;
	}
	if (!sg->num)
		return false;
	addr = sg->sge->addr + sg->offset;
	if (!sg->mr)
		sg->mr = vrd_mr_find_pd(sg->qp, sg->pd, sg->sge->lkey, addr, sg_here(sg),
					sg->access, sg->remote);
	if (!sg->mr)
		return false;
	hva = vrd_mr_at_cursor(sg->qp->dev, sg->mr, addr, sg_here(sg), sg->access & SG_WRITES, &run,
			       &cursor);
	if (!hva || !run)
		return false;
	/* If the SGE continues after this run, it continues in the region's next run of pages. */
	if (sg->mr->runs && !sg->mr->linear && sg->mr->runs[cursor].hva)
		sg->next = &sg->mr->runs[cursor + 1];
	sg_set_run(sg, hva, run);
	return true;
}

static VRD_INLINE bool sg_fill(struct vrd_sg *sg)
{
	const struct vrd_mr_run *next = sg->next;
	uint64_t run, here;

	/* The entry after the region's last run has no hva. */
	if (vrd_unlikely(!next || !next->hva || sg->offset == sg->sge->length))
		return sg->sge && sg_find(sg);
	run = (uint64_t)(next[1].page - next->page) << VIRTIO_RDMA_PAGE_SHIFT;
	here = sg_here(sg);
	sg->next = next + 1;
	sg_set_run(sg, next->hva, run < here ? run : here);
	return true;
}

bool vrd_sg_fill(struct vrd_sg *sg)
{
	return sg_fill(sg);
}

bool vrd_sg_check(struct vrd_sg *sg)
{
	const struct vrd_sge *sge = sg->sge;
	uint64_t left = sg->left;

	/* The message is empty, or lies in plain host memory, which has no SGEs. */
	if (!left)
		return true;
	for (uint32_t num = sg->num; left; sge++, num--) {
		uint64_t n;

		if (!num)
			return false;
		n = sge->length < left ? sge->length : left;
		if (n && !vrd_mr_find_pd(sg->qp, sg->pd, sge->lkey, sge->addr, n, sg->access,
					 sg->remote))
			return false;
		left -= n;
	}
	return vrd_sg_fill(sg);
}

void vrd_sg_forget(struct vrd_sg *sg)
{
	if (!sg->sge)
		return;
	sg->offset -= sg->run;
	sg->left += sg->run;
	sg->run = 0;
	sg->mr = NULL;
	sg->next = NULL;
}

static inline void sg_advance(struct vrd_sg *sg, uint64_t n)
{
	sg->hva += n;
	sg->run -= n;
}

enum vrd_sg_fault vrd_sg_copy(struct vrd_sg *dst, struct vrd_sg *src, uint64_t length, bool last)
{
	while (length) {
		uint64_t n = length;

		if (!src->run && !sg_fill(src))
			return VRD_SG_FAULT_SRC;
		if (!dst->run && !sg_fill(dst))
			return VRD_SG_FAULT_DST;
		if (n > src->run)
			n = src->run;
		if (n > dst->run)
			n = dst->run;
		if (n == length && last)
			vrd_move_last(dst->hva, src->hva, n);
		else
			memmove(dst->hva, src->hva, n);
		if (dst->dev)
			vrd_stored(dst->dev, dst->hva, n);
		sg_advance(src, n);
		sg_advance(dst, n);
		length -= n;
	}
	return VRD_SG_OK;
}
