/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory: the table of regions, sorted by device address, and the
 * translation of device addresses.
 *
 * A table is immutable.  dev->mem is replaced by the shell's thread under
 * dev->lock while the pollers are quiesced; so a poller may use it during its
 * turn, and the control thread under dev->lock.  Virtqueues have a pointer of
 * their own, which changes under vq->lock.
 */
#ifndef VRD_MEM_H
#define VRD_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "vrd.h"

/* Page numbers are kept in 32 bits: 16 TiB of device address space. */
#define VRD_MEM_ADDR_BITS	44

struct vrd_mem_slot {
	uint64_t addr;
	uint64_t size;
	uint8_t *host;
	bool readonly;
	bool mapped;			/* by us: munmap, SIGBUS record */

	/* For transports that map pages a second time (ops->mem_changed). */
	int fd;				/* or -1 */
	uint64_t fd_offset;		/* of @addr */
	uint64_t fd_page;		/* smallest piece that can be mapped */
	uint64_t fd_dev, fd_ino;	/* tells files apart */
};

struct vrd_mem {
	struct vrd_device *dev;
	unsigned int num;
	uint64_t pages;			/* of all regions together */
	struct vrd_mem_slot slot[];
};

/* Checks @regions, maps those without host addresses.  -EINVAL, -ENOMEM or what
 * mmap() said, with @err.
 */
int vrd_mem_create(struct vrd_device *dev, const struct vrd_mem_region *regions, unsigned int num,
		   struct vrd_mem **mem, struct vrd_error *err);
void vrd_mem_destroy(struct vrd_mem *mem);

/*
 * Host address of @addr, with in *@run (may be NULL) the contiguous bytes from
 * there, at most @len.  NULL: not RAM, or read-only although @write.
 */
void *vrd_mem_at(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write,
		 uint64_t *run);

/* The same where all of @len has to be contiguous, e.g. a virtqueue's ring. */
void *vrd_mem_range(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write);

/* The region that @addr lies in, or NULL. */
const struct vrd_mem_slot *vrd_mem_slot_at(const struct vrd_mem *mem, uint64_t addr);

/* True if [addr, addr + len) is RAM, of any number of regions. */
bool vrd_mem_covers(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write);

/*
 * Mappings of files that their owner might shorten.  An access beyond the end
 * raises SIGBUS in the thread that made it; the process's signal handler calls
 * vrd_engine_sigbus(), which looks the address up here: lists are read there
 * without locks, and entries are therefore never freed but with the engine.
 */
#define VRD_MEM_MAPS_CHUNK	64

struct vrd_mem_map {
	_Atomic uintptr_t start;	/* 0: unused */
	_Atomic size_t len;		/* 0: not valid (yet) */
	struct vrd_device *_Atomic dev;
};

struct vrd_mem_maps {
	struct vrd_mem_map map[VRD_MEM_MAPS_CHUNK];
	struct vrd_mem_maps *_Atomic next;
};

/* engine.c: the first chunk lies in the engine and is zero at first. */
struct vrd_mem_maps *vrd_engine_mem_maps(struct vrd_engine *engine);
/* Frees the further chunks; engine.c calls it last. */
void vrd_mem_maps_fini(struct vrd_mem_maps *maps);

#endif /* VRD_MEM_H */
