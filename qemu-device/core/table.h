/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables that map the numbers that a guest uses to objects.
 *
 * Every object in a table begins with its own number, a uint32_t that does not change during
 * the object's life.  A lookup loads the pointer once and then compares the number.  So a
 * stale number finds nothing, even if its slot contains a new object.
 *
 * A table either chooses the numbers (vrd_table_reserve(): the low bits are the slot, the
 * bits above count how often the slot was used), or accepts numbers that a transport got
 * from the host (VRD_TABLE_FOREIGN) or that the caller chose (VRD_TABLE_RANDOM).
 *
 * Readers hold dev->lock or are in an RCU read section (pollers).  Writers hold dev->lock.
 * The memory of the table itself is freed only with the table.
 */
#ifndef VRD_TABLE_H
#define VRD_TABLE_H

#include <stdbool.h>
#include <stdint.h>

/* Numbers have 24 bits, like QP numbers and like keys without their low byte. */
#define VRD_TABLE_BITS		24
#define VRD_TABLE_MASK		((1U << VRD_TABLE_BITS) - 1)

#define VRD_TABLE_CHUNK_SHIFT	9
#define VRD_TABLE_CHUNK		(1U << VRD_TABLE_CHUNK_SHIFT)

struct vrd_table_chunk {
	void *obj[VRD_TABLE_CHUNK];		/* RCU */
};

struct vrd_table {
	uint32_t max;			/* maximum number of objects */
	uint32_t count;			/* numbers in use */
	uint32_t first;			/* smallest slot that is allocated */
	uint32_t slot_bits;
	uint32_t slot_mask;		/* mask of slot_bits bits */
	uint32_t num_chunks;		/* enough for all slots of the mask */
	struct vrd_table_chunk **chunks;	/* pointers written once */

	/* The allocator's part; unused in tables with VRD_TABLE_FOREIGN or VRD_TABLE_RANDOM. */
	uint32_t slots;			/* allocated slots: first <= slot < first + slots */
	uint32_t fresh;			/* slots that were taken at least once; relative to first */
	uint32_t free_len, free_head, free_size;
	uint32_t *free;			/* ring of freed slots, oldest first */
	uint8_t *generation;		/* indexed by slot - first */
	uint32_t meta_size;		/* slots that generation[] has room for */
};

#define VRD_TABLE_FOREIGN	(1U << 0)	/* numbers come from the host */
/*
 * Numbers are chosen by the caller, at random (vrd_table_claim()).  -EEXIST also means that
 * another number uses the slot.  There are at least twice as many slots as objects, so an
 * attempt succeeds with a probability of at least one half.
 */
#define VRD_TABLE_RANDOM	(1U << 1)

/*
 * Room for @max objects; allocated slots start at @first (0 and 1 are special in some
 * spaces).  Returns 0 or -ENOMEM.  A table of zeroes may be destroyed.
 */
int vrd_table_init(struct vrd_table *t, uint32_t max, uint32_t first, unsigned int flags);
void vrd_table_destroy(struct vrd_table *t);

/*
 * Takes a number that is not in use.  A lookup finds nothing under it yet.  -ENOMEM when
 * @max numbers are in use.  A number is reused as late as possible.
 */
int vrd_table_reserve(struct vrd_table *t, uint32_t *number);
/*
 * Takes @number: one below @first, or any number in a table with VRD_TABLE_FOREIGN or
 * VRD_TABLE_RANDOM.  -EEXIST, -ENOMEM or -ERANGE.
 */
int vrd_table_claim(struct vrd_table *t, uint32_t number);

/*
 * From now on lookups find @obj, whose first member is the number.  Release ordering.  The
 * number was reserved or claimed before.
 */
void vrd_table_publish(struct vrd_table *t, uint32_t number, void *obj);
/*
 * Lookups do not find the object any more.  Readers may still use it until the grace period
 * ends.  The number stays taken.
 */
void vrd_table_unpublish(struct vrd_table *t, uint32_t number);
/* Releases the number. */
void vrd_table_release(struct vrd_table *t, uint32_t number);

/*
 * Returns the next published object whose slot is at least *@pos, and advances *@pos past
 * it; NULL at the end.  Begin with *@pos = 0.  Under dev->lock.
 */
void *vrd_table_next(struct vrd_table *t, uint32_t *pos);

static inline void **vrd_table_slot(const struct vrd_table *t, uint32_t number)
{
	uint32_t slot = number & t->slot_mask;
	struct vrd_table_chunk *chunk;

	chunk = __atomic_load_n(&t->chunks[slot >> VRD_TABLE_CHUNK_SHIFT], __ATOMIC_ACQUIRE);
	return chunk ? &chunk->obj[slot & (VRD_TABLE_CHUNK - 1)] : 0;
}

/* The object with this number, or NULL.  Not for a table of zeroes. */
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
