// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mappings of guest memory: maps the files that a front end passes, and keeps the process
 * alive if pages of them are missing.
 *
 * The file may come from another process, which may shorten it, punch holes or use up the
 * huge pages that it needs.  A seal against shrinking does not guarantee that pages exist.
 * So any access in any thread may raise SIGBUS.  The handler replaces the whole mapping with
 * memory of the core and marks the device as broken; the thread continues.
 *
 * All functions but vrd_engine_sigbus() run on the device's front end thread.
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

#define PAGE_SIZE	((uint64_t)VIRTIO_RDMA_PAGE_SIZE)

/* Larger than any mapping: a region, and less than a huge page on each side. */
#define LOST_SIZE	((1LL << VRD_MEM_ADDR_BITS) + (1LL << 36))

/* Mappings that a device may always have, however many other devices have. */
#define MAPS_GUARANTEED	16

/* ---- records for SIGBUS ------------------------------------------------- */

static struct vrd_mem_map *record_get(struct vrd_engine *engine)
{
	struct vrd_mem_maps *c = vrd_engine_mem_maps(engine), *next;
	uintptr_t none;
	unsigned int i;

	for (;; c = next) {
		for (i = 0; i < VRD_MEM_MAPS_CHUNK; i++) {
			none = 0;
			/* 1 claims the entry: as its length is 0, no address is within it */
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
				free(fresh);	/* another device was faster: @next is its chunk */
		}
	}
}

static void record_set(struct vrd_mem_map *record, struct vrd_device *dev, void *start, size_t len)
{
	atomic_store(&record->dev, dev);
	atomic_store(&record->lost, false);
	atomic_store(&record->start, (uintptr_t)start);
	atomic_store(&record->len, len);	/* last: this makes the entry valid */
}

static void record_put(struct vrd_mem_map *record)
{
	atomic_store(&record->len, 0);
	atomic_store(&record->start, 0);
}

void vrd_mem_maps_fini(struct vrd_mem_maps *maps)
{
	struct vrd_mem_maps *c = atomic_exchange(&maps->next, NULL), *next;

	for (; c; c = next) {
		next = atomic_load(&c->next);
		free(c);
	}
}

int vrd_mem_open_lost(void)
{
	int fd = memfd_create("vrd-lost", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, LOST_SIZE)) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* Frees the pages of the replacement memory that were written to. */
static void empty_lost(struct vrd_device *dev)
{
	if (ftruncate(dev->lost_fd, 0) || ftruncate(dev->lost_fd, LOST_SIZE))
		vrd_log(dev->engine, VRD_LOG_ERROR, "%s: memory in place of lost memory: %s",
			dev->name, strerror(errno));
}

static bool replace(void *start, size_t len, int fd)
{
	return mmap(start, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd,
		    0) != MAP_FAILED;
}

/* Runs in a signal handler, on any thread: loads, stores, mmap() and write() only. */
bool vrd_engine_sigbus(struct vrd_engine *engine, void *addr)
{
	struct vrd_mem_maps *c;
	uintptr_t a = (uintptr_t)addr, start;
	struct vrd_mem_map *m;
	struct vrd_device *dev;
	uint64_t one = 1;
	size_t len;

	for (c = vrd_engine_mem_maps(engine); c; c = atomic_load(&c->next)) {
		for (m = c->map; m < c->map + VRD_MEM_MAPS_CHUNK; m++) {
			len = atomic_load(&m->len);
			start = atomic_load(&m->start);
			if (!len || a < start || a - start >= len)
				continue;
			dev = atomic_load(&m->dev);
			atomic_store(&m->lost, true);
			/*
			 * Replace all of it: a part of a huge page cannot be replaced, and many
			 * parts would need many mappings.
			 */
			if (!replace((void *)start, len, dev->lost_fd) &&
			    !replace((void *)(a & ~(PAGE_SIZE - 1)), PAGE_SIZE, dev->lost_fd))
				return false;
			atomic_store(&dev->broken, true);
			if (write(dev->error_fd, &one, sizeof(one)) < 0) {
				/* it was already readable */
			}
			return true;
		}
	}
	return false;
}

/* ---- limit of mappings -------------------------------------------------- */

uint64_t vrd_mem_max_map_count(void)
{
	char text[32] = "";
	unsigned long long n;
	ssize_t len = -1;
	int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		len = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	n = len > 0 ? strtoull(text, NULL, 10) : 0;
	return n ? n : 65530;
}

/*
 * The kernel limits the mappings of a process, and this process has those of many guests.  A
 * device may have at most as many as remain for all others, but always a few.
 */
static int take_map(struct vrd_device *dev, struct vrd_error *err)
{
	_Atomic uint64_t *used = vrd_engine_region_maps(dev->engine);
	uint64_t max = *vrd_engine_max_maps(dev->engine), room = max - max / 8;
	uint64_t all = atomic_fetch_add(used, 1) + 1 +
		       atomic_load(vrd_engine_alias_maps(dev->engine));

	if (dev->num_maps < MAPS_GUARANTEED || (all <= room && dev->num_maps + 1 <= room - all)) {
		dev->num_maps++;
		return 0;
	}
	atomic_fetch_sub(used, 1);
	return vrd_fail(err, -ENOSPC, "raise it on the host (sysctl -w vm.max_map_count=...)",
			"%" PRIu64 " memory regions of one guest, of %" PRIu64
			" mappings that this process may have", dev->num_maps + 1, max);
}

static void put_map(struct vrd_device *dev)
{
	dev->num_maps--;
	atomic_fetch_sub(vrd_engine_region_maps(dev->engine), 1);
}

/* ---- mappings ----------------------------------------------------------- */

struct file_id {
	uint64_t dev, ino, page;
	int64_t size;
};

static int identify(int fd, unsigned int i, struct file_id *id, struct vrd_error *err)
{
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) || fstatfs(fd, &fs))
		return vrd_fail(err, -EINVAL, "", "memory region %u: fstat: %s", i,
				strerror(errno));
	if (!S_ISREG(st.st_mode))
		return vrd_fail(err, -EINVAL, "use a memfd, a file in /dev/shm or hugetlbfs",
				"memory region %u is not a regular file", i);
	*id = (struct file_id) {
		.dev = st.st_dev,
		.ino = st.st_ino,
		.page = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : PAGE_SIZE,
		.size = st.st_size,
	};
	return 0;
}

/*
 * Maps whole pages of the file: mmap() on hugetlbfs requires a page-aligned offset and
 * rounds the length up, while munmap() refuses a length that is not rounded.
 */
static int map_file(struct vrd_mem_mapping *m, int fd, unsigned int i, struct vrd_error *err)
{
	int prot = m->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
	uint64_t lead = m->fd_offset & (m->fd_page - 1);
	uint64_t length = (lead + m->size + m->fd_page - 1) & ~(m->fd_page - 1);
	struct vrd_mem_map *record;
	void *p;
	int ret;

	ret = take_map(m->dev, err);
	if (ret)
		return ret;
	record = record_get(m->dev->engine);
	if (!record) {
		ret = vrd_fail(err, -ENOMEM, "", "out of memory");
		goto put_map;
	}
	/* The mapping keeps the file open: most transports need no descriptor. */
	p = mmap(NULL, length, prot, MAP_SHARED | MAP_NORESERVE, fd, (off_t)(m->fd_offset - lead));
	if (p == MAP_FAILED) {
		ret = vrd_fail(err, -errno, "", "memory region %u: cannot map %" PRIu64
			       " bytes: %s", i, m->size, strerror(errno));
		goto put_record;
	}
	/*
	 * A child must not inherit other users' memory, and a core dump of a service must not
	 * contain it.
	 */
	(void)madvise(p, length, MADV_DONTFORK);
	(void)madvise(p, length, MADV_DONTDUMP);
	record_set(record, m->dev, p, length);
	m->record = record;
	m->start = p;
	m->length = length;
	m->hva = m->start + lead;
	return 0;

put_record:
	record_put(record);
put_map:
	put_map(m->dev);
	return ret;
}

int vrd_mem_mapping_create(struct vrd_device *dev, const struct vrd_mem_region *r, unsigned int i,
			   struct vrd_mem_mapping **out, struct vrd_error *err)
{
	struct vrd_mem_mapping *m = calloc(1, sizeof(*m));
	struct file_id id;
	int ret = 0;

	if (!m)
		return vrd_fail(err, -ENOMEM, "", "out of memory");
	m->dev = dev;
	m->refs = 1;
	m->hva = r->host;
	m->size = r->size;
	m->readonly = r->readonly;
	m->fd = -1;
	if (r->fd >= 0 && (!r->host || dev->maps_memory)) {
		ret = identify(r->fd, i, &id, err);
		if (ret)
			goto put;
		m->has_file = true;
		m->fd_offset = r->fd_offset;
		m->fd_page = id.page;
		m->fd_dev = id.dev;
		m->fd_ino = id.ino;
		/* The sum does not overflow: the offset was checked. */
		if (!r->host && (id.size < 0 || (uint64_t)id.size < r->fd_offset + r->size)) {
			ret = vrd_fail(err, -EINVAL, "", "memory region %u needs %" PRIu64
				       " bytes of a file that has %" PRId64, i,
				       r->fd_offset + r->size, id.size);
			goto put;
		}
	}
	if (m->has_file && dev->maps_memory) {
		m->fd = fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
		if (m->fd < 0) {
			ret = vrd_fail(err, -errno, "raise the limit of open files (ulimit -n)",
				       "memory region %u: cannot keep its file: %s", i,
				       strerror(errno));
			goto put;
		}
	}
	if (!r->host)
		ret = map_file(m, r->fd, i, err);
put:
	if (ret)
		vrd_mem_mapping_put(m);
	else
		*out = m;
	return ret;
}

void vrd_mem_mapping_put(struct vrd_mem_mapping *m)
{
	bool lost;

	if (--m->refs)
		return;
	if (m->fd >= 0)
		close(m->fd);
	if (m->start) {
		lost = atomic_load(&m->record->lost);
		record_put(m->record);
		if (munmap(m->start, m->length))
			vrd_log(m->dev->engine, VRD_LOG_ERROR,
				"%s: cannot unmap %" PRIu64 " bytes of guest memory: %s",
				m->dev->name, m->length, strerror(errno));
		else
			put_map(m->dev);
		if (lost)
			empty_lost(m->dev);
	}
	free(m);
}

bool vrd_mem_mapping_fits(const struct vrd_mem_mapping *m, const struct vrd_mem_region *r)
{
	struct file_id id;

	if (m->size != r->size || m->readonly != r->readonly ||
	    (r->host ? m->start || m->hva != r->host : !m->start) ||
	    (m->record && atomic_load(&m->record->lost)))
		return false;
	if (!m->has_file)
		return true;
	/* The mapping keeps its file open, so the inode number is not reused in the meantime. */
	return r->fd >= 0 && m->fd_offset == r->fd_offset && !identify(r->fd, 0, &id, NULL) &&
	       m->fd_dev == id.dev && m->fd_ino == id.ino;
}
