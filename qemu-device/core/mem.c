// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest memory: checks the regions that a front end passes, finds the differences from the
 * previous table, and translates DMA addresses.  All fields of a region may come from
 * another process (a vhost-user client), so they are checked here, whether or not the front
 * end has checked them.
 */
#include <errno.h>
#include <limits.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "transport.h"
#include "log.h"
#include "mem.h"

#define PAGE_MASK	((uint64_t)VIRTIO_RDMA_PAGE_SIZE - 1)

/* ---- table ------------------------------------------------------------- */

static int check_region(const struct vrd_mem_region *r, unsigned int i, struct vrd_error *err)
{
	if (!r->size || (r->size & PAGE_MASK) || (r->addr & PAGE_MASK))
		return vrd_fail(err, -EINVAL, "regions begin and end on 4096-byte pages",
				"memory region %u is not page aligned: address 0x%" PRIx64
				", size 0x%" PRIx64, i, r->addr, r->size);
	if (r->addr >> VRD_MEM_ADDR_BITS || (r->size - 1) >> VRD_MEM_ADDR_BITS ||
	    (r->addr + r->size - 1) >> VRD_MEM_ADDR_BITS)
		return vrd_fail(err, -EINVAL, "DMA addresses have at most 44 bits",
				"memory region %u is beyond 16 TiB: address 0x%" PRIx64
				", size 0x%" PRIx64, i, r->addr, r->size);
	if (r->host) {
		if ((uintptr_t)r->host & PAGE_MASK ||
		    (uintptr_t)r->host + r->size < (uintptr_t)r->host)
			return vrd_fail(err, -EINVAL, "", "memory region %u has a bad host address",
					i);
		return 0;
	}
	if (r->fd < 0)
		return vrd_fail(err, -EINVAL, "guest memory has to be shared (share=on)",
				"memory region %u has no file descriptor", i);
	if ((r->fd_offset & PAGE_MASK) || r->fd_offset > (uint64_t)INT64_MAX - r->size)
		return vrd_fail(err, -EINVAL, "", "memory region %u: bad file offset 0x%" PRIx64, i,
				r->fd_offset);
	return 0;
}

static int compare_slots(const void *a, const void *b)
{
	const struct vrd_mem_slot *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static int overlap_error(const struct vrd_mem_slot *a, const struct vrd_mem_slot *b,
			 struct vrd_error *err)
{
	return vrd_fail(err, -EINVAL, "", "memory regions overlap: 0x%" PRIx64 " + 0x%" PRIx64
			" and 0x%" PRIx64, a->addr, a->size, b->addr);
}

/* Returns the mapping of @r in @old, or a new one. */
static int get_mapping(struct vrd_device *dev, const struct vrd_mem_region *r, unsigned int i,
		       const struct vrd_mem *old, struct vrd_mem_mapping **m,
		       struct vrd_error *err)
{
	const struct vrd_mem_slot *s = vrd_mem_slot_at(old, r->addr);

	if (s && s->addr == r->addr && vrd_mem_mapping_fits(s->mapping, r)) {
		s->mapping->refs++;
		*m = s->mapping;
		return 0;
	}
	return vrd_mem_mapping_create(dev, r, i, m, err);
}

static void fill_slot(struct vrd_mem_slot *slot, const struct vrd_mem_region *r,
		      struct vrd_mem_mapping *m)
{
	*slot = (struct vrd_mem_slot) {
		.addr = r->addr,
		.size = r->size,
		.host = m->hva,
		.readonly = r->readonly,
		.mapping = m,
		.fd = m->fd,
		.fd_offset = m->fd_offset,
		.fd_page = m->fd_page,
		.fd_dev = m->fd_dev,
		.fd_ino = m->fd_ino,
	};
}

/* ---- changes ------------------------------------------------------------ */

/* Appends a span.  Spans are appended in the order of their start addresses. */
static void add_change(struct vrd_mem *mem, const struct vrd_mem_slot *s)
{
	struct vrd_mem_span *last = mem->num_changes ? &mem->changes[mem->num_changes - 1] : NULL;

	if (last && s->addr <= last->addr + last->size) {
		if (s->addr + s->size > last->addr + last->size)
			last->size = s->addr + s->size - last->addr;
		return;
	}
	mem->changes[mem->num_changes++] = (struct vrd_mem_span) { s->addr, s->size };
}

/* Both tables are sorted.  A mapping that only one of them has is a change. */
static int find_changes(struct vrd_mem *mem, const struct vrd_mem *old)
{
	unsigned int i = 0, j = 0, num_old = old ? old->num : 0;

	mem->changes = calloc(mem->num + num_old + 1, sizeof(mem->changes[0]));
	if (!mem->changes)
		return -ENOMEM;
	while (i < mem->num || j < num_old) {
		const struct vrd_mem_slot *a = i < mem->num ? &mem->slot[i] : NULL;
		const struct vrd_mem_slot *b = j < num_old ? &old->slot[j] : NULL;

		if (a && b && a->addr == b->addr && a->mapping == b->mapping) {
			i++;
			j++;
		} else if (a && (!b || a->addr <= b->addr)) {
			add_change(mem, a);
			i++;
		} else {
			add_change(mem, b);
			j++;
		}
	}
	return 0;
}

bool vrd_mem_changed(const struct vrd_mem *mem, uint64_t addr, uint64_t len)
{
	unsigned int lo = 0, hi = mem->num_changes, mid;

	/* Find the first span that ends after @addr. */
	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (mem->changes[mid].addr + mem->changes[mid].size <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < mem->num_changes && mem->changes[lo].addr < addr + len;
}

/* ---- life cycle --------------------------------------------------------- */

int vrd_mem_create(struct vrd_device *dev, const struct vrd_mem_region *regions, unsigned int num,
		   const struct vrd_mem *old, struct vrd_mem **out, struct vrd_error *err)
{
	struct vrd_mem_mapping *m;
	struct vrd_mem *mem;
	unsigned int i;
	int ret;

	if (num > VRD_MAX_MEM_REGIONS)
		return vrd_fail(err, -EINVAL, "", "%u memory regions are too many: at most %u", num,
				VRD_MAX_MEM_REGIONS);
	mem = calloc(1, sizeof(*mem) + num * sizeof(mem->slot[0]));
	if (!mem)
		return vrd_fail(err, -ENOMEM, "", "out of memory");
	mem->dev = dev;

	for (i = 0; i < num; i++) {
		ret = check_region(&regions[i], i, err);
		if (!ret)
			ret = get_mapping(dev, &regions[i], i, old, &m, err);
		if (ret)
			goto destroy;
		fill_slot(&mem->slot[i], &regions[i], m);
		mem->num++;
		mem->pages += regions[i].size >> VIRTIO_RDMA_PAGE_SHIFT;
	}
	qsort(mem->slot, num, sizeof(mem->slot[0]), compare_slots);
	for (i = 1; i < num; i++) {
		if (mem->slot[i].addr - mem->slot[i - 1].addr >= mem->slot[i - 1].size)
			continue;
		ret = overlap_error(&mem->slot[i - 1], &mem->slot[i], err);
		goto destroy;
	}
	ret = find_changes(mem, old);
	if (ret) {
		vrd_fail(err, ret, "", "out of memory");
		goto destroy;
	}
	*out = mem;
	return 0;

destroy:
	vrd_mem_destroy(mem);
	return ret;
}

void vrd_mem_destroy(struct vrd_mem *mem)
{
	unsigned int i;

	if (!mem)
		return;
	for (i = 0; i < mem->num; i++)
		vrd_mem_mapping_put(mem->slot[i].mapping);
	free(mem->changes);
	free(mem);
}

/* ---- translation ------------------------------------------------------- */

static const struct vrd_mem_slot *find(const struct vrd_mem *mem, uint64_t addr)
{
	unsigned int lo = 0, hi, mid;

	if (!mem)
		return NULL;
	/* slot[lo - 1].addr <= addr < slot[hi].addr */
	hi = mem->num;
	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (mem->slot[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || addr - mem->slot[lo - 1].addr >= mem->slot[lo - 1].size)
		return NULL;
	return &mem->slot[lo - 1];
}

const struct vrd_mem_slot *vrd_mem_slot_at(const struct vrd_mem *mem, uint64_t addr)
{
	return find(mem, addr);
}

uint8_t *vrd_mem_in_slot(const struct vrd_mem *mem, const struct vrd_mem_slot **slot,
			 uint64_t addr, uint64_t len, bool write)
{
	const struct vrd_mem_slot *s = *slot;

	if (!s || addr - s->addr >= s->size) {
		s = find(mem, addr);
		*slot = s;
	}
	if (!s || len > s->size - (addr - s->addr) || (s->readonly && write))
		return NULL;
	return s->host + (addr - s->addr);
}

void *vrd_mem_at(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write, uint64_t *run)
{
	const struct vrd_mem_slot *s = find(mem, addr);
	uint64_t off;

	if (!s || (write && s->readonly))
		return NULL;
	off = addr - s->addr;
	if (run)
		*run = len < s->size - off ? len : s->size - off;
	return s->host + off;
}

void *vrd_mem_range(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write)
{
	uint64_t run;
	void *p = vrd_mem_at(mem, addr, len, write, &run);

	return p && run == len ? p : NULL;
}

bool vrd_mem_covers_few(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write,
			unsigned int *budget)
{
	uint64_t run;

	if (addr + len < addr)
		return false;
	while (len) {
		if (!*budget || !vrd_mem_at(mem, addr, len, write, &run))
			return false;
		--*budget;
		addr += run;
		len -= run;
	}
	return true;
}

bool vrd_mem_covers(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write)
{
	unsigned int budget = UINT_MAX;

	return vrd_mem_covers_few(mem, addr, len, write, &budget);
}
