/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory regions and buffers of rings: the functions of the control path.  The lookups of
 * the data path are declared in transport.h.  All functions are called under dev->lock.
 */
#ifndef VRD_MR_H
#define VRD_MR_H

#include "objects.h"

/* Extents as the guest sent them: little-endian, copied, not checked. */
struct vrd_extents {
	const struct virtio_rdma_extent *ext;
	uint32_t num;
};

/* Checks the extents one by one.  Returns -EINVAL, or 0 with the total number of pages. */
int vrd_extents_check(const struct vrd_extents *x, uint64_t *pages);

/* --- buf.c --- */

/*
 * Makes a buffer of which the first @size bytes are used.  @desc selects its pages: the
 * extents of the command, or those of a handle of CREATE_BUF.  -EINVAL: too short or not
 * complete; -ENOENT: no such handle; -EFAULT: not writable RAM; -ENOMEM: more than
 * max_ring_bytes.  Extents beyond @size are ignored.
 */
int vrd_buf_create(struct vrd_ctx *ctx, struct vrd_buf *buf, const struct virtio_rdma_buf *desc,
		   const struct vrd_extents *x, uint64_t size);
/* The object has been created: it owns the pages from now on, and the handle is deleted. */
void vrd_buf_keep(struct vrd_device *dev, struct vrd_buf *buf);
/* Releases the pages; returns them to the handle if vrd_buf_keep() was not called. */
void vrd_buf_destroy(struct vrd_device *dev, struct vrd_buf *buf);
/* Translates all pages with the device's memory table.  No poller runs on the device. */
void vrd_buf_translate(struct vrd_device *dev, struct vrd_buf *buf);
/* Translates the pages for which the memory table has changed.  No poller runs on the device. */
void vrd_buf_retranslate(struct vrd_device *dev, struct vrd_buf *buf);
/*
 * Hva of @offset, which is below the buffer's size.  The object there does not cross a page
 * boundary.
 */
void *vrd_buf_at(const struct vrd_buf *buf, uint32_t offset);

/*
 * After a change of the memory table, under quiesce: translates the parts of rings, doorbell
 * pages and regions of the device whose memory has changed.
 */
void vrd_rings_retranslate(struct vrd_device *dev);

/*
 * Removes the translations of all rings and doorbell pages: nothing is written to them any
 * more, even if objects generate completions.  Under quiesce.  Afterwards the objects can
 * only be destroyed.
 */
void vrd_rings_forget(struct vrd_device *dev);

/* CREATE_BUF, FILL_BUF, DESTROY_BUF. */
int vrd_handle_buf_create(struct vrd_ctx *ctx, uint64_t pages, const struct vrd_extents *x,
			  uint32_t *handle);
int vrd_handle_buf_fill(struct vrd_device *dev, uint32_t handle, const struct vrd_extents *x);
int vrd_handle_buf_destroy(struct vrd_device *dev, uint32_t handle);
/* Destroys all handles, for a reset. */
void vrd_buf_destroy_all(struct vrd_device *dev);

/* --- mr.c --- */

/*
 * Registration.  PARTIAL: more pages are needed.  COMPLETE: the caller runs
 * vrd_mr_reg_slow(), which may block, without dev->lock, and then vrd_mr_registered() with
 * its return value.  Negative: an errno; no region was made, or a partial one is as before.
 */
enum { VRD_MR_PARTIAL, VRD_MR_COMPLETE, VRD_MR_ENDS };

int vrd_mr_reg(struct vrd_pd *pd, uint32_t access, uint64_t iova, uint64_t length,
	       uint64_t total_pages, const struct vrd_extents *x, struct vrd_mr **mr);
int vrd_mr_reg_more(struct vrd_device *dev, uint32_t handle, const struct vrd_extents *x,
		    struct vrd_mr **mr);
int vrd_mr_reg_dma(struct vrd_pd *pd, uint32_t access, struct vrd_mr **mr);
/* A region for REG_MR work requests (fastreg.h), with lists of up to @max_entries. */
int vrd_mr_alloc(struct vrd_pd *pd, uint32_t max_entries, struct vrd_mr **mr);
/* 0, -EOPNOTSUPP or -EINVAL; any thread. */
int vrd_mr_check_access(uint32_t access);
int vrd_mr_reg_slow(struct vrd_mr *mr);
/*
 * 0: lookups find the region from now on.  ENDS: the transport registered it, but it cannot
 * be used; mr->end is set, and mr->error is the reason.  -EAGAIN: call it again later, with
 * @ret 0.  Another negative errno is @ret; the region has been freed or is partial again.
 */
int vrd_mr_registered(struct vrd_mr *mr, int ret, bool cancelled);

/* Removes the region from the tables and sets mr->end.  -ENOENT if there is none. */
int vrd_mr_take_out(struct vrd_device *dev, uint32_t handle, struct vrd_mr **mr);
/* Updates the hvas of runs for which the memory table has changed, or of all runs. */
void vrd_mr_retranslate(struct vrd_device *dev, struct vrd_mr *mr, bool all);
/* Deregisters all regions, for a reset.  Includes the grace period. */
void vrd_mr_dereg_all(struct vrd_device *dev);

int vrd_mr_init(struct vrd_device *dev);
void vrd_mr_fini(struct vrd_device *dev);

#endif /* VRD_MR_H */
