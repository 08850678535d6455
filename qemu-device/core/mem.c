// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest memory: checks and maps the regions that a shell hands over, and finds
 * host addresses.  Everything in a region's description may come from another
 * process (a vhost-user front end), so it is checked here, whatever the shell
 * has checked already.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "transport.h"
#include "log.h"
#include "mem.h"

#define PAGE_MASK	((uint64_t)VIRTIO_RDMA_PAGE_SIZE - 1)

/* ---- records for SIGBUS ------------------------------------------------ */

static struct vrd_mem_map *maps_get(struct vrd_engine *engine)
{
	struct vrd_mem_maps *c = vrd_engine_mem_maps(engine), *next;
	uintptr_t none;
	unsigned int i;

	for (;; c = next) {
		for (i = 0; i < VRD_MEM_MAPS_CHUNK; i++) {
			none = 0;
			/* 1 takes the entry; no address is inside it */
			if (atomic_compare_exchange_strong(&c->map[i].start, &none, 1))
				return &c->map[i];
		}
		next = atomic_load(&c->next);
		if (!next) {
			struct vrd_mem_maps *fresh = calloc(1, sizeof(*fresh));

			if (!fresh)
				return NULL;
			if (atomic_compare_exchange_strong(&c->next, &next, fresh))
				next = fresh;
			else
				free(fresh);	/* another device was first: @next is its chunk */
		}
	}
}

static int maps_add(struct vrd_device *dev, void *start, size_t len)
{
	struct vrd_mem_map *m = maps_get(dev->engine);

	if (!m)
		return -ENOMEM;
	atomic_store(&m->dev, dev);
	atomic_store(&m->start, (uintptr_t)start);
	atomic_store(&m->len, len);	/* last: makes the entry valid */
	return 0;
}

static void maps_del(struct vrd_device *dev, void *start)
{
	struct vrd_mem_maps *c;
	unsigned int i;

	for (c = vrd_engine_mem_maps(dev->engine); c; c = atomic_load(&c->next)) {
		for (i = 0; i < VRD_MEM_MAPS_CHUNK; i++) {
			if (atomic_load(&c->map[i].start) != (uintptr_t)start)
				continue;
			atomic_store(&c->map[i].len, 0);
			atomic_store(&c->map[i].start, 0);
			return;
		}
	}
}

void vrd_mem_maps_fini(struct vrd_mem_maps *maps)
{
	struct vrd_mem_maps *c = atomic_exchange(&maps->next, NULL), *next;

	for (; c; c = next) {
		next = atomic_load(&c->next);
		free(c);
	}
}

/* Runs in a signal handler: loads, stores, mmap() and write() only. */
bool vrd_engine_sigbus(struct vrd_engine *engine, void *addr)
{
	struct vrd_mem_maps *c;
	uintptr_t a = (uintptr_t)addr, start;
	struct vrd_device *dev;
	uint64_t one = 1;
	unsigned int i;
	size_t len;
	void *p;

	for (c = vrd_engine_mem_maps(engine); c; c = atomic_load(&c->next)) {
		for (i = 0; i < VRD_MEM_MAPS_CHUNK; i++) {
			len = atomic_load(&c->map[i].len);
			start = atomic_load(&c->map[i].start);
			if (!len || a < start || a - start >= len)
				continue;
			dev = atomic_load(&c->map[i].dev);
			/* The whole region, because part of a huge page cannot be replaced. */
			p = mmap((void *)start, len, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
			if (p == MAP_FAILED)
				return false;
			atomic_store(&dev->broken, true);
			if (write(dev->error_fd, &one, sizeof(one)) < 0) {
				/* it was readable already */
			}
			return true;
		}
	}
	return false;
}

/* ---- table ------------------------------------------------------------- */

static int check_region(const struct vrd_mem_region *r, unsigned int i, struct vrd_error *err)
{
	if (!r->size || (r->size & PAGE_MASK) || (r->addr & PAGE_MASK))
		return vrd_fail(err, -EINVAL, "regions begin and end on 4096-byte pages",
				"memory region %u is not page aligned: address 0x%" PRIx64
				", size 0x%" PRIx64, i, r->addr, r->size);
	if (r->addr >> VRD_MEM_ADDR_BITS || (r->size - 1) >> VRD_MEM_ADDR_BITS ||
	    (r->addr + r->size - 1) >> VRD_MEM_ADDR_BITS)
		return vrd_fail(err, -EINVAL, "device addresses have at most 44 bits",
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

static int map_region(struct vrd_device *dev, const struct vrd_mem_region *r, unsigned int i,
		      struct vrd_mem_slot *slot, struct vrd_error *err)
{
	int prot = r->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
	struct stat st;
	void *p;
	int ret;

	if (fstat(r->fd, &st))
		return vrd_fail(err, -EINVAL, "", "memory region %u: fstat: %s", i,
				strerror(errno));
	if (!S_ISREG(st.st_mode))
		return vrd_fail(err, -EINVAL, "use a memfd, a file in /dev/shm or hugetlbfs",
				"memory region %u is not a regular file", i);
	if (st.st_size < 0 || (uint64_t)st.st_size < r->fd_offset + r->size)
		return vrd_fail(err, -EINVAL, "",
				"memory region %u needs %" PRIu64 " bytes of a file that has %" PRId64,
				i, r->fd_offset + r->size, (int64_t)st.st_size);

	/* The mapping keeps the file open: most transports need no descriptor. */
	p = mmap(NULL, r->size, prot, MAP_SHARED | MAP_NORESERVE, r->fd, (off_t)r->fd_offset);
	if (p == MAP_FAILED)
		return vrd_fail(err, -errno, "", "memory region %u: cannot map %" PRIu64
				" bytes: %s", i, r->size, strerror(errno));
	/* A child must not inherit other users' memory; nor may a core dump of
	 * a service contain it.
	 */
	(void)madvise(p, r->size, MADV_DONTFORK);
	(void)madvise(p, r->size, MADV_DONTDUMP);
	ret = maps_add(dev, p, r->size);
	if (ret) {
		munmap(p, r->size);
		return vrd_fail(err, ret, "", "out of memory");
	}
	slot->host = p;
	slot->mapped = true;
	return 0;
}

/* Keeps the file for transports that make mappings of their own. */
static int keep_file(const struct vrd_mem_region *r, unsigned int i, struct vrd_mem_slot *slot,
		     struct vrd_error *err)
{
	struct statfs fs;
	struct stat st;

	if (r->fd < 0)
		return 0;
	slot->fd = fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
	if (slot->fd < 0)
		return vrd_fail(err, -errno, "raise the limit of open files (ulimit -n)",
				"memory region %u: cannot keep its file: %s", i, strerror(errno));
	if (fstat(slot->fd, &st) || fstatfs(slot->fd, &fs))
		return vrd_fail(err, -errno, "", "memory region %u: fstat: %s", i,
				strerror(errno));
	slot->fd_offset = r->fd_offset;
	slot->fd_page = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize :
							VIRTIO_RDMA_PAGE_SIZE;
	slot->fd_dev = st.st_dev;
	slot->fd_ino = st.st_ino;
	return 0;
}

static int compare_slots(const void *a, const void *b)
{
	const struct vrd_mem_slot *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

int vrd_mem_create(struct vrd_device *dev, const struct vrd_mem_region *regions, unsigned int num,
		   struct vrd_mem **out, struct vrd_error *err)
{
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
		if (ret)
			goto destroy;
		mem->slot[i] = (struct vrd_mem_slot) {
			.addr = regions[i].addr,
			.size = regions[i].size,
			.host = regions[i].host,
			.readonly = regions[i].readonly,
			.fd = -1,
		};
		mem->num++;
		if (dev->maps_memory) {
			ret = keep_file(&regions[i], i, &mem->slot[i], err);
			if (ret)
				goto destroy;
		}
		if (!regions[i].host) {
			ret = map_region(dev, &regions[i], i, &mem->slot[i], err);
			if (ret)
				goto destroy;
		}
		mem->pages += regions[i].size >> VIRTIO_RDMA_PAGE_SHIFT;
	}
	qsort(mem->slot, num, sizeof(mem->slot[0]), compare_slots);
	for (i = 1; i < num; i++) {
		if (mem->slot[i].addr - mem->slot[i - 1].addr >= mem->slot[i - 1].size)
			continue;
		ret = vrd_fail(err, -EINVAL, "", "memory regions overlap: 0x%" PRIx64 " + 0x%" PRIx64
			       " and 0x%" PRIx64, mem->slot[i - 1].addr, mem->slot[i - 1].size,
			       mem->slot[i].addr);
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
	for (i = 0; i < mem->num; i++) {
		if (mem->slot[i].fd >= 0)
			close(mem->slot[i].fd);
		if (!mem->slot[i].mapped)
			continue;
		maps_del(mem->dev, mem->slot[i].host);
		munmap(mem->slot[i].host, mem->slot[i].size);
	}
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

bool vrd_mem_covers(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write)
{
	uint64_t run;

	if (addr + len < addr)
		return false;
	while (len) {
		if (!vrd_mem_at(mem, addr, len, write, &run))
			return false;
		addr += run;
		len -= run;
	}
	return true;
}
