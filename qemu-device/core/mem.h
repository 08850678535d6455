/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory: the table of regions, sorted by DMA address, the translation of DMA
 * addresses, and the mappings of the regions.
 *
 * A table is immutable.  The front end's thread replaces dev->mem under dev->lock while the
 * pollers are quiesced.  So a poller may use it during its turn, and the control thread
 * under dev->lock.  Virtqueues have their own pointer to the table, which changes under
 * vq->lock.
 *
 * Regions that are in two successive tables share one mapping.  The new table records the
 * address ranges that differ: objects outside of these keep their translations.
 */
#ifndef VRD_MEM_H
#define VRD_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "vrd.h"

/* Page numbers are stored in 32 bits: 16 TiB of DMA address space. */
#define VRD_MEM_ADDR_BITS	44

struct vrd_mem_mapping;

struct vrd_mem_slot {
	uint64_t addr;
	uint64_t size;
	uint8_t *host;			/* hva */
	bool readonly;
	struct vrd_mem_mapping *mapping;

	/* For transports that map pages a second time (mem_changed). */
	int fd;				/* descriptor of the mapping, or -1 */
	uint64_t fd_offset;		/* file offset of @addr */
	uint64_t fd_page;		/* page size of the file */
	uint64_t fd_dev, fd_ino;	/* identify the file */
};

struct vrd_mem_span {
	uint64_t addr, size;
};

struct vrd_mem {
	struct vrd_device *dev;
	struct vrd_mem *next;		/* dev->old_mem */
	unsigned int num;
	uint64_t pages;			/* total of all regions */
	/* Ranges where the previous table had other memory or none: sorted, disjoint. */
	unsigned int num_changes;
	struct vrd_mem_span *changes;
	struct vrd_mem_slot slot[];
};

/*
 * Checks @regions and maps those that have no hva and are not in @old, which may be NULL.
 * -EINVAL, -ENOMEM or the error of mmap(), with @err.
 */
int vrd_mem_create(struct vrd_device *dev, const struct vrd_mem_region *regions, unsigned int num,
		   const struct vrd_mem *old, struct vrd_mem **mem, struct vrd_error *err);
void vrd_mem_destroy(struct vrd_mem *mem);
/* device.c: a worker that used dev->mem (dev->mem_pins) has finished. */
void vrd_mem_unpin(struct vrd_device *dev);

/*
 * Hva of @addr.  *@run (may be NULL) is set to the number of contiguous bytes from there, at
 * most @len.  NULL: not RAM, or @write is set and the region is read-only.
 */
void *vrd_mem_at(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write,
		 uint64_t *run);

/* The same if all of @len must be contiguous, e.g. a virtqueue's ring. */
void *vrd_mem_range(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write);

/* The region that contains @addr, or NULL. */
const struct vrd_mem_slot *vrd_mem_slot_at(const struct vrd_mem *mem, uint64_t addr);

/*
 * Hva of @addr if all of @len lies in one region, else NULL.  *@slot, NULL at first, is the
 * region of the last call, in which the next range probably lies as well.
 */
uint8_t *vrd_mem_in_slot(const struct vrd_mem *mem, const struct vrd_mem_slot **slot,
			 uint64_t addr, uint64_t len, bool write);

/* True if [addr, addr + len) is RAM, in any number of regions. */
bool vrd_mem_covers(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write);

/* The same for pollers: also false if it lies in more regions than *@budget, which it reduces. */
bool vrd_mem_covers_few(const struct vrd_mem *mem, uint64_t addr, uint64_t len, bool write,
			unsigned int *budget);

/* True if part of [addr, addr + len) differs from the previous table. */
bool vrd_mem_changed(const struct vrd_mem *mem, uint64_t addr, uint64_t len);

/* ---- mem_map.c: mappings ------------------------------------------------ */

/*
 * Mappings of files whose owner may shorten them or remove pages.  An access beyond the end
 * raises SIGBUS in the thread that made it.  The process's signal handler calls
 * vrd_engine_sigbus(), which looks the address up here.  The handler reads the lists without
 * locks, so entries are freed only with the engine.
 */
#define VRD_MEM_MAPS_CHUNK	64

struct vrd_mem_map {
	_Atomic uintptr_t start;	/* 0: unused */
	_Atomic size_t len;		/* 0: not valid (yet) */
	struct vrd_device *_Atomic dev;
	_Atomic bool lost;		/* after a SIGBUS, other memory is mapped there */
};

struct vrd_mem_maps {
	struct vrd_mem_map map[VRD_MEM_MAPS_CHUNK];
	struct vrd_mem_maps *_Atomic next;
};

/* The mapping of one region; shared by the tables that contain the region. */
struct vrd_mem_mapping {
	struct vrd_device *dev;
	unsigned int refs;		/* front end's thread */
	uint8_t *hva;			/* of the region's first byte */
	uint64_t size;			/* of the region */
	bool readonly;

	/* The arguments of munmap(): whole pages of the file; NULL: the front end's mapping. */
	uint8_t *start;
	uint64_t length;
	struct vrd_mem_map *record;

	int fd;				/* kept for transports, or -1 */
	bool has_file;			/* the fields below are valid */
	uint64_t fd_offset;		/* of @hva */
	uint64_t fd_page;		/* page size of the file */
	uint64_t fd_dev, fd_ino;
};

/* Maps region @i, or uses its existing hva. */
int vrd_mem_mapping_create(struct vrd_device *dev, const struct vrd_mem_region *r, unsigned int i,
			   struct vrd_mem_mapping **out, struct vrd_error *err);
void vrd_mem_mapping_put(struct vrd_mem_mapping *m);
/* True if vrd_mem_mapping_create() would make the same mapping for @r, and @m is not lost. */
bool vrd_mem_mapping_fits(const struct vrd_mem_mapping *m, const struct vrd_mem_region *r);

/*
 * Opens the memory that replaces a device's lost mappings.  It is a file, because a shared
 * mapping of a file, unlike anonymous memory, counts against no limit that could make the
 * signal handler's mmap() fail.  -1 and errno on failure.
 */
int vrd_mem_open_lost(void);

/* engine.c: the first chunk is part of the engine and initially zero. */
struct vrd_mem_maps *vrd_engine_mem_maps(struct vrd_engine *engine);
/* Number of region mappings of the process, and the maximum number of all its mappings. */
_Atomic uint64_t *vrd_engine_region_maps(struct vrd_engine *engine);
uint64_t *vrd_engine_max_maps(struct vrd_engine *engine);
/* The system's limit of mappings, or its default if a sandbox forbids open(). */
uint64_t vrd_mem_max_map_count(void);
/* Frees all chunks but the first; engine.c calls it last. */
void vrd_mem_maps_fini(struct vrd_mem_maps *maps);

#endif /* VRD_MEM_H */
