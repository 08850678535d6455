/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory regions and buffers of rings: what the control path does with them.
 * The data path's lookups are declared in transport.h.  All under dev->lock.
 */
#ifndef VRD_MR_H
#define VRD_MR_H

#include "objects.h"

/* Extents as the guest sent them: little-endian, copied, not checked yet. */
struct vrd_extents {
	const struct virtio_rdma_extent *ext;
	uint32_t num;
};

/* Checks each extent by itself; -EINVAL or 0, with the sum of pages. */
int vrd_extents_check(const struct vrd_extents *x, uint64_t *pages);

/* --- buf.c --- */

/*
 * A buffer of which the first @size bytes are used, as @desc says: the extents that
 * came with the command, or those of a handle of CREATE_BUF.  -EINVAL: shorter than
 * that, or not complete; -ENOENT: no such handle; -EFAULT: not writable RAM; -ENOMEM:
 * more than max_ring_bytes.  Extents beyond @size are left out.
 */
int vrd_buf_create(struct vrd_ctx *ctx, struct vrd_buf *buf, const struct virtio_rdma_buf *desc,
		   const struct vrd_extents *x, uint64_t size);
/* The object has come into being: it owns the pages, and the handle is gone. */
void vrd_buf_keep(struct vrd_device *dev, struct vrd_buf *buf);
/* Gives the pages back, to the handle if the object has not kept them. */
void vrd_buf_destroy(struct vrd_device *dev, struct vrd_buf *buf);
/* All of it, under the memory table of the device; no poller runs on it. */
void vrd_buf_translate(struct vrd_device *dev, struct vrd_buf *buf);
/* Where the memory table of the device has changed; no poller runs on it. */
void vrd_buf_retranslate(struct vrd_device *dev, struct vrd_buf *buf);
/* Host address of an offset that is below the size and does not straddle. */
void *vrd_buf_at(const struct vrd_buf *buf, uint32_t offset);

/*
 * After a change of the memory table, under quiesce: the parts of rings, doorbell
 * pages and regions of the device whose memory has changed.
 */
void vrd_rings_retranslate(struct vrd_device *dev);

/*
 * The rings and doorbell pages are not the device's any more: nothing writes to
 * them, whatever happens to the objects.  Under quiesce; the objects can only be
 * destroyed afterwards.
 */
void vrd_rings_forget(struct vrd_device *dev);

/* CREATE_BUF, FILL_BUF, DESTROY_BUF. */
int vrd_handle_buf_create(struct vrd_ctx *ctx, uint64_t pages, const struct vrd_extents *x,
			  uint32_t *handle);
int vrd_handle_buf_fill(struct vrd_device *dev, uint32_t handle, const struct vrd_extents *x);
int vrd_handle_buf_destroy(struct vrd_device *dev, uint32_t handle);
/* All of them: reset. */
void vrd_buf_destroy_all(struct vrd_device *dev);

/* --- mr.c --- */

/*
 * Registration.  PARTIAL: more pages have to come.  COMPLETE: the caller runs
 * vrd_mr_reg_slow(), which may block, without dev->lock, and then
 * vrd_mr_registered() with what that returned.  Negative: an errno, and there is
 * no region.
 */
enum { VRD_MR_PARTIAL, VRD_MR_COMPLETE, VRD_MR_ENDS };

int vrd_mr_reg(struct vrd_pd *pd, uint32_t access, uint64_t iova, uint64_t length,
	       uint64_t total_pages, const struct vrd_extents *x, struct vrd_mr **mr);
int vrd_mr_reg_more(struct vrd_device *dev, uint32_t handle, const struct vrd_extents *x,
		    struct vrd_mr **mr);
int vrd_mr_reg_dma(struct vrd_pd *pd, uint32_t access, struct vrd_mr **mr);
int vrd_mr_reg_slow(struct vrd_mr *mr);
/*
 * 0: found from now on.  ENDS: registered, but of no use; mr->end is set, and
 * mr->error says why.  -EAGAIN: call it again later, with @ret 0.  Another negative
 * errno: @ret, and the region is gone or partial.
 */
int vrd_mr_registered(struct vrd_mr *mr, int ret, bool cancelled);

/* Not found any more; mr->end is set.  -ENOENT. */
int vrd_mr_take_out(struct vrd_device *dev, uint32_t handle, struct vrd_mr **mr);
/* Where the memory table has changed, or all of it. */
void vrd_mr_retranslate(struct vrd_device *dev, struct vrd_mr *mr, bool all);
/* All of them: reset.  Takes care of the grace period. */
void vrd_mr_dereg_all(struct vrd_device *dev);

int vrd_mr_init(struct vrd_device *dev);
void vrd_mr_fini(struct vrd_device *dev);

#endif /* VRD_MR_H */
