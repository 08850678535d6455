// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The dirty log: which pages of guest memory the device has written, for live migration.
 *
 * The log is a bitmap of the front end with a bit for each page of DMA address space.  It is
 * set and removed while the device is quiesced, so every store made while it is set is
 * logged.  All stores are made by, or reported to, the functions of store.h.
 *
 * vrd_dirty_mark() runs on the thread that made the store: a poller in its turn, or a thread
 * with dev->lock or a virtqueue's lock.  In these places dev->mem is valid: see
 * vrd_device_set_mem_table().
 */
#include <errno.h>
#include <inttypes.h>

#include "control.h"
#include "mem.h"
#include "poller.h"
#include "store.h"
#include "virtq.h"

/*
 * The front end clears a bit and then copies the page.  So the bit must be set after the store,
 * and always with a full barrier, even if it seems to be set already.
 */
static void mark_page(const struct vrd_dirty_log *log, uint64_t page)
{
	if (page < log->pages)
		__atomic_fetch_or(&log->bitmap[page / 8], 1U << page % 8, __ATOMIC_SEQ_CST);
}

void vrd_dirty_mark(const struct vrd_device *dev, const struct vrd_dirty_log *log, const void *hva,
		    size_t len)
{
	const struct vrd_mem *mem = __atomic_load_n(&dev->mem, __ATOMIC_ACQUIRE);
	uintptr_t start = (uintptr_t)hva, end = start + len;

	/* Several regions may map the same bytes. */
	for (unsigned int i = 0; mem && i < mem->num; i++) {
		const struct vrd_mem_slot *slot = &mem->slot[i];
		uintptr_t base = (uintptr_t)slot->host;
		uintptr_t from = start > base ? start : base;
		uintptr_t to = end < base + slot->size ? end : base + slot->size;

		if (from >= to)
			continue;
		for (uint64_t page = (slot->addr + (from - base)) >> VIRTIO_RDMA_PAGE_SHIFT;
		     page <= (slot->addr + (to - 1 - base)) >> VIRTIO_RDMA_PAGE_SHIFT; page++)
			mark_page(log, page);
	}
}

int vrd_device_set_dirty_log(struct vrd_device *dev, uint8_t *bitmap, uint64_t pages,
			     struct vrd_error *err)
{
	struct vrd_dirty_log *log;
	uint64_t end = 0;
	int ret = 0;

	/* The host's RDMA device writes to guest memory without any software. */
	if (bitmap && dev->maps_memory)
		return vrd_fail(err, -EOPNOTSUPP, "use a device with the memory transport only",
				"%s: writes of the host's RDMA device cannot be logged", dev->name);
	vrd_device_lock(dev);
	for (unsigned int i = 0; bitmap && dev->mem && i < dev->mem->num; i++)
		end = (dev->mem->slot[i].addr + dev->mem->slot[i].size) >> VIRTIO_RDMA_PAGE_SHIFT;
	if (end > pages) {
		ret = vrd_fail(err, -EINVAL, "give the log a bit for each page of memory",
			       "%s: a dirty log of %" PRIu64 " pages, but memory ends at page %"
			       PRIu64, dev->name, pages, end);
		goto unlock;
	}
	vrd_device_quiesce(dev);
	log = &dev->dirty_log[dev->dirty == &dev->dirty_log[0]];
	*log = (struct vrd_dirty_log){ .bitmap = bitmap, .pages = pages };
	__atomic_store_n(&dev->dirty, bitmap ? log : NULL, __ATOMIC_RELEASE);
	/* Other threads that write to a virtqueue, with the old log, hold its lock. */
	for (unsigned int i = 0; i < dev->num_vqs; i++) {
		vrd_lock(&dev->vqs[i]->lock);
		vrd_unlock(&dev->vqs[i]->lock);
	}
	vrd_device_resume(dev);
unlock:
	vrd_device_unlock(dev);
	return ret;
}
