/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables that turn the numbers a guest uses into objects.
 *
 * Every object that goes into a table begins with its own number, a uint32_t
 * that does not change while the object lives: a lookup takes the pointer with
 * one load and then compares the number, so a stale number finds nothing even
 * if its slot has a new tenant.
 *
 * A table hands out numbers itself (vrd_table_reserve(): the low bits are the
 * slot, the bits above count how often the slot was used), or takes those that
 * a transport got from the host (VRD_TABLE_FOREIGN).
 *
 * Readers: under dev->lock, or in an RCU read section (pollers).  Writers: under
 * dev->lock.  Memory of the table itself is freed only with the table.
 */
#ifndef VRD_TABLE_H
#define VRD_TABLE_H

#include <stdbool.h>
#include <stdint.h>

/* Numbers have 24 bits, as QP numbers and keys without their low byte have. */
#define VRD_TABLE_BITS		24
#define VRD_TABLE_MASK		((1U << VRD_TABLE_BITS) - 1)

#define VRD_TABLE_CHUNK_SHIFT	9
#define VRD_TABLE_CHUNK		(1U << VRD_TABLE_CHUNK_SHIFT)

struct vrd_table_chunk {
	void *obj[VRD_TABLE_CHUNK];		/* RCU */
};

struct vrd_table {
	uint32_t max;			/* objects at most */
	uint32_t count;			/* numbers in use */
	uint32_t first;			/* smallest slot that is handed out */
	uint32_t slot_bits;
	uint32_t slot_mask;		/* of that many bits */
	uint32_t num_chunks;		/* for all slots of the mask */
	struct vrd_table_chunk **chunks;	/* pointers written once */

	/* The allocator's part; not there in foreign tables. */
	uint32_t slots;			/* handed out: first <= slot < first + slots */
	uint32_t fresh;			/* slots never used begin here */
	uint32_t free_len, free_head, free_size;
	uint32_t *free;			/* ring of freed slots, oldest first */
	uint8_t *generation;		/* by slot */
	uint32_t meta_size;		/* slots that generation[] has room for */
};

#define VRD_TABLE_FOREIGN	(1U << 0)	/* numbers come from the host */
/*
 * Numbers are chosen by the caller, at random (vrd_table_claim()).  -EEXIST also
 * means that another number has the slot; there are twice as many slots as
 * objects, so that every second attempt succeeds.
 */
#define VRD_TABLE_RANDOM	(1U << 1)

/*
 * @max objects; numbers start at @first (0 and 1 are special in some spaces).
 * 0 or -ENOMEM.  A table of zeroes may be destroyed.
 */
int vrd_table_init(struct vrd_table *t, uint32_t max, uint32_t first, unsigned int flags);
void vrd_table_destroy(struct vrd_table *t);

/*
 * Takes a number that is not in use; nothing is found by it yet.  -ENOMEM when
 * @max numbers are in use.  A number is used again as late as possible.
 */
int vrd_table_reserve(struct vrd_table *t, uint32_t *number);
/*
 * Takes this very number: one below @first, or any in a foreign table.  -EEXIST,
 * -ENOMEM or -ERANGE.
 */
int vrd_table_claim(struct vrd_table *t, uint32_t number);

/* @obj, whose first member is the number, is found from now on; with release
 * ordering.  The number was reserved or claimed.
 */
void vrd_table_publish(struct vrd_table *t, uint32_t number, void *obj);
/* Not found any more; readers may still use it until the grace period ends.
 * The number stays taken.
 */
void vrd_table_unpublish(struct vrd_table *t, uint32_t number);
/* Gives the number back. */
void vrd_table_release(struct vrd_table *t, uint32_t number);

/* Next published object whose slot is at least *@pos, which moves past it;
 * NULL at the end.  Begin with *@pos = 0.  Under dev->lock.
 */
void *vrd_table_next(struct vrd_table *t, uint32_t *pos);

static inline void **vrd_table_slot(const struct vrd_table *t, uint32_t number)
{
	uint32_t slot = number & t->slot_mask;
	struct vrd_table_chunk *chunk;

	chunk = __atomic_load_n(&t->chunks[slot >> VRD_TABLE_CHUNK_SHIFT], __ATOMIC_ACQUIRE);
	return chunk ? &chunk->obj[slot & (VRD_TABLE_CHUNK - 1)] : 0;
}

/* The object with this number, or NULL.  Not in a table of zeroes. */
static inline void *vrd_table_find(const struct vrd_table *t, uint32_t number)
{
	void **slot = vrd_table_slot(t, number);
	void *obj;

	if (!slot)
		return 0;
	/* pairs with the release in vrd_table_publish() */
	obj = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
	if (!obj || *(const uint32_t *)obj != number)
		return 0;
	return obj;
}

#endif /* VRD_TABLE_H */
