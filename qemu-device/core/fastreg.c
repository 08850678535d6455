// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fast registration: see fastreg.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "fastreg.h"
#include "key.h"
#include "mem.h"
#include "mr.h"
#include "shm.h"
#include "transport.h"

/* A binding: what a REG_MR has made. */
struct binding {
	struct vrd_mr mr;
	struct vrd_deferred deferred;
	struct vrd_mr_entry entries[];	/* with a terminating one */
};

#define ACCESS_REMOTE	(VIRTIO_RDMA_ACCESS_REMOTE_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_READ | \
			 VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC)

static struct binding *binding_of(struct vrd_mr *mr)
{
	return (struct binding *)((char *)mr - offsetof(struct binding, mr));
}

/* ---- the owner --------------------------------------------------------------- */

int vrd_fast_init(struct vrd_mr *owner, uint32_t max_entries)
{
	struct vrd_fast *fast = calloc(1, sizeof(*fast));

	if (!fast)
		return -ENOMEM;
	fast->owner = owner;
	fast->max_entries = max_entries;
	vrd_lock_init(&fast->lock, VRD_LOCK_LEAF);
	owner->fast = fast;
	return 0;
}

void vrd_fast_take_out(struct vrd_device *dev, struct vrd_fast *fast)
{
	vrd_lock(&fast->lock);
	fast->dead = true;
	vrd_table_unpublish(&dev->mrs, fast->owner->index);
	vrd_unlock(&fast->lock);
}

void vrd_fast_free(struct vrd_fast *fast)
{
	if (fast->bound)
		free(binding_of(fast->bound));
	free(fast);
}

/* ---- making a binding ---------------------------------------------------------- */

static void set_hva(struct vrd_device *dev, struct vrd_mr *mr, struct vrd_mr_entry *e,
		    const struct vrd_mem_slot **slot)
{
	e->hva = vrd_mem_in_slot(dev->mem, slot, e->addr, e[1].offset - e->offset,
				 mr->access & VIRTIO_RDMA_ACCESS_LOCAL_WRITE);
}

void vrd_fast_retranslate(struct vrd_device *dev, struct vrd_mr *mr)
{
	const struct vrd_mem_slot *slot = NULL;

	for (uint32_t i = 0; i < mr->num_entries; i++)
		set_hva(dev, mr, &mr->entries[i], &slot);
	mr->linear = mr->num_entries == 1 ? mr->entries[0].hva : NULL;
}

/*
 * True if entry @i may have this place: with a page size, only the first entry may begin, and
 * only the last one may end, within a page.
 */
static bool is_aligned(const struct vrd_fast_reg *reg, uint32_t i, uint64_t addr, uint64_t length)
{
	uint64_t mask = reg->page_shift ? (1ULL << reg->page_shift) - 1 : 0;

	return !(i && addr & mask) && !(i + 1 < reg->num_entries && (addr + length) & mask);
}

/* Appends a piece, which may continue the last one. */
static void add_entry(struct vrd_mr *mr, uint64_t offset, uint64_t addr)
{
	struct vrd_mr_entry *last = mr->num_entries ? &mr->entries[mr->num_entries - 1] : NULL;

	if (last && last->addr + (offset - last->offset) == addr)
		return;
	mr->entries[mr->num_entries++] = (struct vrd_mr_entry){ .offset = offset, .addr = addr };
}

/* Copies the guest's list, each entry once, and checks it. */
static int take_list(struct vrd_device *dev, struct vrd_mr *mr, const struct vrd_fast_reg *reg)
{
	bool write = reg->access & VIRTIO_RDMA_ACCESS_LOCAL_WRITE;
	/* A client may split memory into many regions, and each element may name all of it. */
	unsigned int budget = reg->num_entries + VRD_FAST_BORDERS;
	uint64_t offset = 0;

	for (uint32_t i = 0; i < reg->num_entries; i++) {
		struct virtio_rdma_reg_entry e;
		uint64_t addr, length;
		const void *from;

		/* An aligned entry does not cross a page. */
		from = vrd_mem_range(dev->mem, reg->list + i * sizeof(e), sizeof(e), false);
		if (!from)
			return -EFAULT;
		vrd_copy_in(&e, from, sizeof(e));
		addr = le64toh(e.addr);
		length = le64toh(e.length);
		if (!length || length > reg->length - offset || !is_aligned(reg, i, addr, length))
			return -EINVAL;
		if (!vrd_mem_covers_few(dev->mem, addr, length, write, &budget))
			return -EFAULT;
		add_entry(mr, offset, addr);
		offset += length;
	}
	mr->entries[mr->num_entries].offset = offset;
	return offset == reg->length ? 0 : -EINVAL;
}

static bool is_valid(const struct vrd_fast *fast, const struct vrd_fast_reg *reg)
{
	if (!reg->num_entries || reg->num_entries > fast->max_entries)
		return false;
	if (reg->page_shift && (reg->page_shift < VRD_FAST_PAGE_SHIFT_MIN ||
				reg->page_shift > VRD_FAST_PAGE_SHIFT_MAX))
		return false;
	if (!reg->length || reg->iova + reg->length - 1 < reg->iova)
		return false;
	return !(reg->list % sizeof(struct virtio_rdma_reg_entry)) &&
	       !vrd_mr_check_access(reg->access);
}

/* True if @b is the region's binding from now on. */
static bool bind(struct vrd_device *dev, struct vrd_fast *fast, struct binding *b)
{
	bool free;

	vrd_lock(&fast->lock);
	free = !fast->dead && !fast->bound;
	if (free) {
		fast->bound = &b->mr;
		vrd_table_publish(&dev->mrs, b->mr.index, &b->mr);
	}
	vrd_unlock(&fast->lock);
	return free;
}

int vrd_fast_register(struct vrd_qp *qp, const struct vrd_fast_reg *reg)
{
	struct vrd_device *dev = qp->dev;
	const struct vrd_mr *found = vrd_table_find(&dev->mrs, vrd_key_index(reg->key));
	struct vrd_fast *fast;
	struct binding *b;
	int ret;

	if (!found || !found->fast || found->pd != qp->pd || !is_valid(found->fast, reg))
		return -EINVAL;
	fast = found->fast;
	b = calloc(1, sizeof(*b) + (reg->num_entries + 1ULL) * sizeof(b->entries[0]));
	if (!b)
		return -ENOMEM;
	b->mr = (struct vrd_mr){
		.index = fast->owner->index,
		.key = reg->key,
		.lkey = reg->key,
		.rkey = reg->key,
		.access = reg->access,
		.pd = qp->pd,
		.iova = reg->iova,
		.length = reg->length,
		.entries = b->entries,
		.fast = fast,
	};
	ret = take_list(dev, &b->mr, reg);
	if (!ret) {
		vrd_fast_retranslate(dev, &b->mr);
		if (bind(dev, fast, b))
			return 0;
		ret = -EINVAL;
	}
	free(b);
	return ret;
}

/* ---- invalidation ------------------------------------------------------------------- */

static void free_binding(struct vrd_deferred *deferred)
{
	free((char *)deferred - offsetof(struct binding, deferred));
}

/* The binding that @key names in the QP's PD, or NULL. */
static struct vrd_mr *find_bound(const struct vrd_qp *qp, uint32_t key)
{
	struct vrd_mr *mr = vrd_table_find(&qp->dev->mrs, vrd_key_index(key));

	return mr && mr->fast && mr->key == key && mr->pd == qp->pd ? mr : NULL;
}

bool vrd_fast_may_invalidate(const struct vrd_qp *qp, uint32_t key)
{
	const struct vrd_mr *mr = find_bound(qp, key);

	return mr && mr->access & ACCESS_REMOTE;
}

bool vrd_fast_invalidate(struct vrd_qp *qp, uint32_t key, uint64_t *period)
{
	struct vrd_mr *mr = find_bound(qp, key);
	struct vrd_fast *fast;
	struct binding *b;
	bool bound;

	if (!mr)
		return false;
	fast = mr->fast;
	vrd_lock(&fast->lock);
	/* Another poller may have been faster; the region may be deregistered. */
	bound = fast->bound == mr && !fast->dead;
	if (bound) {
		fast->bound = NULL;
		vrd_table_publish(&qp->dev->mrs, mr->index, fast->owner);
	}
	vrd_unlock(&fast->lock);
	if (!bound)
		return false;
	b = binding_of(mr);
	vrd_defer(qp->dev->engine, &b->deferred, free_binding);
	/* It is not freed before the end of this poller's turn. */
	*period = b->deferred.period;
	return true;
}
