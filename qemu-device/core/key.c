// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Keys and regions on the data path: keys that key.h does not find in the device's own
 * table, and the addresses of the bytes of a region.
 *
 * Pollers, in an RCU read section.
 */
#include "key.h"
#include "mem.h"
#include "transport.h"

#define PAGE_SIZE	((uint64_t)VIRTIO_RDMA_PAGE_SIZE)
#define PAGE_SHIFT	VIRTIO_RDMA_PAGE_SHIFT

const struct vrd_mr *vrd_mr_find_other(const struct vrd_qp *qp, const struct vrd_pd *pd,
				       uint32_t key, bool remote)
{
	const struct vrd_device *dev = qp->dev;
	const struct vrd_host_key *hk;

	/* These tables exist only if a transport chooses the keys. */
	hk = !dev->lkeys.num_chunks ? NULL :
	     vrd_table_find(remote ? &dev->rkeys : &dev->lkeys, vrd_key_index(key));
	if (hk && (remote ? hk->mr->rkey : hk->mr->lkey) == key)
		return hk->mr->pd == pd ? hk->mr : NULL;
	if (key != VIRTIO_RDMA_LOCAL_DMA_LKEY || remote || !qp->kernel)
		return NULL;
	return dev->local_dma;
}

/*
 * The run that contains @page.  For a caller that walks through the region it is the run of
 * *@cursor or the next one.
 */
static uint32_t find_run(const struct vrd_mr *mr, uint64_t page, uint32_t cursor)
{
	uint32_t lo = 0, hi = mr->num_runs;

	for (unsigned int i = 0; i < 2 && cursor < mr->num_runs; i++, cursor++)
		if (page >= mr->runs[cursor].page && page < mr->runs[cursor + 1].page)
			return cursor;
	/* runs[lo].page <= page < runs[hi].page */
	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (mr->runs[mid].page <= page)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* The same for the entries of a fast-registered region, and the byte at @off. */
static uint32_t find_entry(const struct vrd_mr *mr, uint64_t off, uint32_t cursor)
{
	uint32_t lo = 0, hi = mr->num_entries;

	for (unsigned int i = 0; i < 2 && cursor < mr->num_entries; i++, cursor++)
		if (off >= mr->entries[cursor].offset && off < mr->entries[cursor + 1].offset)
			return cursor;
	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (mr->entries[mid].offset <= off)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* @off is within the region. */
static void *at_entry(const struct vrd_device *dev, const struct vrd_mr *mr, uint64_t off,
		      uint64_t length, bool write, uint64_t *run, uint32_t *cursor)
{
	const struct vrd_mr_entry *e;
	uint64_t have;

	*cursor = find_entry(mr, off, *cursor);
	e = &mr->entries[*cursor];
	have = e[1].offset - off;
	if (have > length)
		have = length;
	off -= e->offset;
	if (!e->hva)
		return vrd_mem_at(dev->mem, e->addr + off, have, write, run);
	*run = have;
	return e->hva + off;
}

void *vrd_mr_at_cursor(struct vrd_device *dev, const struct vrd_mr *mr, uint64_t addr,
		       uint64_t length, bool write, uint64_t *run, uint32_t *cursor)
{
	const struct vrd_mr_run *r;
	uint64_t off, have;

	if (mr->dma)
		return vrd_mem_at(dev->mem, addr, length, write, run);
	off = addr - mr->iova;
	if (off >= mr->length)
		return NULL;
	if (length > mr->length - off)
		length = mr->length - off;
	if (mr->linear) {
		*run = length;
		return mr->linear + off;
	}
	if (mr->entries)
		return at_entry(dev, mr, off, length, write, run, cursor);

	off += mr->iova & (PAGE_SIZE - 1);
	*cursor = find_run(mr, off >> PAGE_SHIFT, *cursor);
	r = &mr->runs[*cursor];
	have = ((uint64_t)r[1].page << PAGE_SHIFT) - off;
	if (have > length)
		have = length;
	off -= (uint64_t)r->page << PAGE_SHIFT;
	if (r->hva) {
		*run = have;
		return r->hva + off;
	}
	return vrd_mem_at(dev->mem, ((uint64_t)r->pfn << PAGE_SHIFT) + off, have, write, run);
}
