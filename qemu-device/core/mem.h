/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory: the table of regions, sorted by DMA address, the translation of
 * DMA addresses, and the mappings behind it.
 *
 * A table is immutable.  dev->mem is replaced by the front end's thread under
 * dev->lock while the pollers are quiesced; so a poller may use it during its
 * turn, and the control thread under dev->lock.  Virtqueues have a pointer of
 * their own, which changes under vq->lock.
 *
 * Regions that two successive tables have in common share one mapping, and the
 * new table records the address ranges that differ: objects outside of these
 * keep their translations.
 */
#ifndef VRD_MEM_H
#define VRD_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "vrd.h"

/* Page numbers are kept in 32 bits: 16 TiB of DMA address space. */
#define VRD_MEM_ADDR_BITS	44

struct vrd_mem_mapping;

struct vrd_mem_slot {
	uint64_t addr;
	uint64_t size;
	uint8_t *host;			/* hva */
	bool readonly;
	struct vrd_mem_mapping *mapping;

	/* For transports that map pages a second time (mem_changed). */
	int fd;				/* the mapping's, or -1 */
	uint64_t fd_offset;		/* of @addr */
	uint64_t fd_page;		/* page size of the file */
	uint64_t fd_dev, fd_ino;	/* tells files apart */
};

struct vrd_mem_span {
	uint64_t addr, size;
};

struct vrd_mem {
	struct vrd_device *dev;
	struct vrd_mem *next;		/* dev->old_mem */
	unsigned int num;
	uint64_t pages;			/* of all regions together */
	/* Where the table before had other memory, or none: sorted, disjoint. */
	unsigned int num_changes;
	struct vrd_mem_span *changes;
	struct vrd_mem_slot slot[];
};

/*
 * Checks @regions and maps those that have no hva and are not in @old, which
 * may be NULL.  -EINVAL, -ENOMEM or what mmap() said, with @err.
 */
int vrd_mem_create(struct vrd_device *dev, const struct vrd_mem_region *regions, unsigned int num,
		   const struct vrd_mem *old, struct vrd_mem **mem, struct vrd_error *err);
void vrd_mem_destroy(struct vrd_mem *mem);
/* device.c: a worker that looked at dev->mem (dev->mem_pins) does so no more. */
void vrd_mem_unpin(struct vrd_device *dev);

/*
 * hva of @addr, with in *@run (may be NULL) the contiguous bytes from there, at
 * most @len.  NULL: not RAM, or read-only although @write.
 */
void *vrd_mem_at(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write,
		 uint64_t *run);

/* The same where all of @len has to be contiguous, e.g. a virtqueue's ring. */
void *vrd_mem_range(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write);

/* The region that @addr lies in, or NULL. */
const struct vrd_mem_slot *vrd_mem_slot_at(const struct vrd_mem *mem, uint64_t addr);

/* True if [addr, addr + len) is RAM, of any number of regions. */
bool vrd_mem_covers(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write);

/* True if part of [addr, addr + len) is not as in the table before. */
bool vrd_mem_changed(const struct vrd_mem *mem, uint64_t addr, uint64_t len);

/* ---- mem_map.c: mappings ------------------------------------------------ */

/*
 * Mappings of files whose owner may shorten them, or take pages away.  An access
 * beyond the end raises SIGBUS in the thread that made it; the process's signal
 * handler calls vrd_engine_sigbus(), which looks the address up here.  Lists
 * are read there without locks, and entries are therefore never freed but with
 * the engine.
 */
#define VRD_MEM_MAPS_CHUNK	64

struct vrd_mem_map {
	_Atomic uintptr_t start;	/* 0: unused */
	_Atomic size_t len;		/* 0: not valid (yet) */
	struct vrd_device *_Atomic dev;
	_Atomic bool lost;		/* a SIGBUS came: other memory is mapped there */
};

struct vrd_mem_maps {
	struct vrd_mem_map map[VRD_MEM_MAPS_CHUNK];
	struct vrd_mem_maps *_Atomic next;
};

/* Of one region; shared by the tables that have it. */
struct vrd_mem_mapping {
	struct vrd_device *dev;
	unsigned int refs;		/* front end's thread */
	uint8_t *hva;			/* of the region's first byte */
	uint64_t size;			/* of the region */
	bool readonly;

	/* What munmap() gets: whole pages of the file; NULL: the front end's mapping. */
	uint8_t *start;
	uint64_t length;
	struct vrd_mem_map *record;

	int fd;				/* kept for transports, or -1 */
	bool has_file;			/* the fields below are valid */
	uint64_t fd_offset;		/* of @hva */
	uint64_t fd_page;		/* page size of the file */
	uint64_t fd_dev, fd_ino;
};

/* Maps region @i, or takes the hva that it has. */
int vrd_mem_mapping_create(struct vrd_device *dev, const struct vrd_mem_region *r, unsigned int i,
			   struct vrd_mem_mapping **out, struct vrd_error *err);
void vrd_mem_mapping_put(struct vrd_mem_mapping *m);
/* True if @m is what vrd_mem_mapping_create() would make of @r, and is not lost. */
bool vrd_mem_mapping_fits(const struct vrd_mem_mapping *m, const struct vrd_mem_region *r);

/*
 * The memory that takes the place of a device's lost mappings: a file, because
 * unlike anonymous memory a shared mapping of a file counts against no limit
 * that could make the signal handler's mmap() fail.  -1 and errno.
 */
int vrd_mem_open_lost(void);

/* engine.c: the first chunk lies in the engine and is zero at first. */
struct vrd_mem_maps *vrd_engine_mem_maps(struct vrd_engine *engine);
/* Mappings of regions that the process has, and how many it may have in all. */
_Atomic uint64_t *vrd_engine_region_maps(struct vrd_engine *engine);
uint64_t *vrd_engine_max_maps(struct vrd_engine *engine);
/* The system's limit of mappings, or its default where a sandbox forbids open(). */
uint64_t vrd_mem_max_map_count(void);
/* Frees the further chunks; engine.c calls it last. */
void vrd_mem_maps_fini(struct vrd_mem_maps *maps);

#endif /* VRD_MEM_H */
