/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fast registration (VIRTIO_RDMA_F_MEM_MGT): regions of ALLOC_MR, which work requests make
 * valid (REG_MR) and invalid (LOCAL_INV, a received SEND_WITH_INV).  IBTA 10.6.
 *
 * Such a region consists of its owner, which has the handle and exists from ALLOC_MR to
 * DEREG_MR, and while it is valid of a binding: a struct vrd_mr that is found by the key.
 * dev->mrs contains the binding while there is one, else the owner, whose key matches
 * nothing.  A binding does not change, so lookups need no lock.  REG_MR makes a new one; an
 * invalidation removes it and frees it after a grace period.
 */
#ifndef VRD_FASTREG_H
#define VRD_FASTREG_H

#include "objects.h"

/* Limit of the entries of a REG_MR's list: QUERY_DEVICE's max_fast_reg_pages. */
#define VRD_FAST_ENTRIES	512U
/* Page sizes that a REG_MR may name: QUERY_DEVICE's page_sizes. */
#define VRD_FAST_PAGE_SHIFT_MIN	12U
#define VRD_FAST_PAGE_SHIFT_MAX	31U

/* Borders between regions of the memory table that the elements of a list may cross. */
#define VRD_FAST_BORDERS	16U

/* What the owner of a region of ALLOC_MR has in addition to struct vrd_mr. */
struct vrd_fast {
	struct vrd_mr *owner;		/* constant, as is max_entries */
	uint32_t max_entries;
	struct vrd_lock lock;		/* a leaf; the fields below, and the owner's slot of
					 * dev->mrs */
	struct vrd_mr *bound;		/* the binding, or NULL: the region is invalid */
	bool dead;			/* deregistered: stays invalid */
};

/* A REG_MR work request: a checked copy, as struct vrd_wr. */
struct vrd_fast_reg {
	uint32_t key;
	uint32_t access;		/* VIRTIO_RDMA_ACCESS_* */
	uint64_t iova, length;		/* bytes */
	uint64_t list;			/* DMA address of the list, aligned to an entry */
	uint32_t num_entries;
	uint8_t page_shift;		/* log2 of bytes, or 0: entries of any size */
};

/* ---- control thread, dev->lock ---- */

/* For a new region: 0 or -ENOMEM. */
int vrd_fast_init(struct vrd_mr *owner, uint32_t max_entries);
/* Makes the region invalid for good; lookups do not find it any more. */
void vrd_fast_take_out(struct vrd_device *dev, struct vrd_fast *fast);
/* No thread uses the region. */
void vrd_fast_free(struct vrd_fast *fast);
/* Under quiesce: translates the binding's entries with the device's memory table. */
void vrd_fast_retranslate(struct vrd_device *dev, struct vrd_mr *bound);

/* ---- pollers, in an RCU read section, with a ring lock of @qp ---- */

/*
 * Makes the region of @reg->key valid.  -EINVAL: there is no such region in the QP's PD, it
 * is valid, or @reg is wrong; -EFAULT: the list or an entry is not RAM; -ENOMEM: the host has
 * no memory now.
 */
int vrd_fast_register(struct vrd_qp *qp, const struct vrd_fast_reg *reg);
/* True if @key, which a peer sent to @qp, may be invalidated. */
bool vrd_fast_may_invalidate(const struct vrd_qp *qp, uint32_t key);
/*
 * Makes the region of @key invalid: lookups do not find it any more.  False if it is not
 * valid, or not in the QP's PD.  Other pollers may still copy; they have stopped when
 * vrd_grace_passed_elsewhere() is true for *@period.
 */
bool vrd_fast_invalidate(struct vrd_qp *qp, uint32_t key, uint64_t *period);

#endif /* VRD_FASTREG_H */
