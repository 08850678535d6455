/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * References to CQs, SRQs and QPs.  The device names these objects by number, in
 * completions and events, at any time: whoever handles one finds the object by
 * its number and holds a reference meanwhile.  The verb that destroys the object
 * makes it unreachable, and waits until all references are dropped.
 */
#ifndef VRDMA_REF_H
#define VRDMA_REF_H

#include <linux/completion.h>
#include <linux/refcount.h>
#include <linux/xarray.h>

/**
 * struct vrdma_ref - the references to an object
 * @count:  one for being reachable, one per running handler
 * @unused: completed when @count has dropped to zero
 */
struct vrdma_ref {
	refcount_t count;
	struct completion unused;
};

static inline void vrdma_ref_init(struct vrdma_ref *ref)
{
	refcount_set(&ref->count, 1);
	init_completion(&ref->unused);
}

/*
 * The object with this number in @xa, with a reference, or NULL.  @offset: of
 * its struct vrdma_ref.  Any context.
 */
static inline void *vrdma_ref_get(struct xarray *xa, u32 number, size_t offset)
{
	struct vrdma_ref *ref;
	unsigned long flags;
	void *obj;

	xa_lock_irqsave(xa, flags);
	obj = xa_load(xa, number);
	if (obj) {
		ref = obj + offset;
		refcount_inc(&ref->count);
	}
	xa_unlock_irqrestore(xa, flags);
	return obj;
}

static inline void vrdma_ref_put(struct vrdma_ref *ref)
{
	if (refcount_dec_and_test(&ref->count))
		complete(&ref->unused);
}

/* The object is not reachable any more: waits until nobody uses it. */
static inline void vrdma_ref_end(struct vrdma_ref *ref)
{
	vrdma_ref_put(ref);
	wait_for_completion(&ref->unused);
}

#endif /* VRDMA_REF_H */
