// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Number tables.  See table.h for the locking.
 *
 * The slots of a table are an array of chunks.  A chunk is allocated when a number in it is
 * first taken, so an empty table for a million objects needs little memory.  Chunks never
 * move while readers use them.
 */
#include <errno.h>
#include <stdlib.h>

#include "table.h"

/*
 * Minimum number of freed slots before one of them is used again, as long as there are slots
 * that were never used.  This keeps the number of a recently destroyed object invalid.
 */
#define VRD_TABLE_REST	256

/*
 * Placeholder in a slot whose number was claimed but has no object.  Readers only compare
 * its number, which matches no lookup.
 */
static const uint32_t taken = UINT32_MAX;

static uint32_t bits_for(uint32_t n)
{
	uint32_t bits = 0;

	while (bits < VRD_TABLE_BITS && (1U << bits) < n)
		bits++;
	return bits;
}

int vrd_table_init(struct vrd_table *t, uint32_t max, uint32_t first, unsigned int flags)
{
	uint32_t slots;

	*t = (struct vrd_table) { .max = max, .first = first };
	if (flags & VRD_TABLE_FOREIGN) {
		t->slot_bits = VRD_TABLE_BITS;
	} else if (flags & VRD_TABLE_RANDOM) {
		if (max > VRD_TABLE_MASK / 2 + 1)
			return -ENOMEM;
		t->slot_bits = bits_for(2 * max);
	} else {
		if (first >= VRD_TABLE_MASK || max > VRD_TABLE_MASK - first)
			return -ENOMEM;
		slots = max + VRD_TABLE_REST;
		if (slots > VRD_TABLE_MASK + 1 - first)
			slots = VRD_TABLE_MASK + 1 - first;
		t->slots = slots;
		t->slot_bits = bits_for(first + slots);
	}
	t->slot_mask = (1U << t->slot_bits) - 1;
	t->num_chunks = ((1U << t->slot_bits) + VRD_TABLE_CHUNK - 1) >> VRD_TABLE_CHUNK_SHIFT;
	t->chunks = calloc(t->num_chunks, sizeof(t->chunks[0]));
	return t->chunks ? 0 : -ENOMEM;
}

void vrd_table_destroy(struct vrd_table *t)
{
	uint32_t i;

	if (t->chunks) {
		for (i = 0; i < t->num_chunks; i++)
			free(t->chunks[i]);
	}
	free(t->chunks);
	free(t->free);
	free(t->generation);
	*t = (struct vrd_table) { 0 };
}

/* Allocates the chunk of @number, if it does not exist. */
static int make_chunk(struct vrd_table *t, uint32_t number)
{
	uint32_t i = (number & t->slot_mask) >> VRD_TABLE_CHUNK_SHIFT;
	struct vrd_table_chunk *chunk;

	if (t->chunks[i])
		return 0;
	chunk = calloc(1, sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	/* pairs with the acquire in vrd_table_slot() */
	__atomic_store_n(&t->chunks[i], chunk, __ATOMIC_RELEASE);
	return 0;
}

/*
 * The free ring and generation[] grow with the slots in use.  Both grow before a new slot is
 * taken, so that releasing a slot cannot fail.
 */
static int make_meta(struct vrd_table *t, uint32_t slots)
{
	uint32_t size, i, *ring;
	uint8_t *gen;

	if (slots <= t->meta_size)
		return 0;
	size = t->meta_size ? t->meta_size * 2 : 64;
	if (size > t->slots)
		size = t->slots;

	gen = realloc(t->generation, size);
	if (!gen)
		return -ENOMEM;
	for (i = t->meta_size; i < size; i++)
		gen[i] = 0;
	t->generation = gen;

	ring = malloc(size * sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (i = 0; i < t->free_len; i++)
		ring[i] = t->free[(t->free_head + i) % t->free_size];
	free(t->free);
	t->free = ring;
	t->free_head = 0;
	t->free_size = size;
	t->meta_size = size;
	return 0;
}

int vrd_table_reserve(struct vrd_table *t, uint32_t *number)
{
	uint32_t slot, gen;

	if (t->count >= t->max || !t->slots)
		return -ENOMEM;
	if (t->fresh < t->slots && t->free_len < VRD_TABLE_REST) {
		if (make_meta(t, t->fresh + 1) || make_chunk(t, t->first + t->fresh))
			return -ENOMEM;
		slot = t->fresh++;
	} else if (t->free_len) {
		slot = t->free[t->free_head];
		t->free_head = (t->free_head + 1) % t->free_size;
		t->free_len--;
	} else {
		return -ENOMEM;
	}
	gen = t->generation[slot];
	t->count++;
	*number = ((gen << t->slot_bits) | (t->first + slot)) & VRD_TABLE_MASK;
	return 0;
}

int vrd_table_claim(struct vrd_table *t, uint32_t number)
{
	void **slot;

	if (number > VRD_TABLE_MASK || (t->slots && number >= t->first))
		return -ERANGE;
	if (t->count >= t->max)
		return -ENOMEM;
	if (make_chunk(t, number))
		return -ENOMEM;
	slot = vrd_table_slot(t, number);
	if (*slot)
		return -EEXIST;
	__atomic_store_n(slot, (void *)&taken, __ATOMIC_RELEASE);
	t->count++;
	return 0;
}

void vrd_table_publish(struct vrd_table *t, uint32_t number, void *obj)
{
	void **slot = vrd_table_slot(t, number);

	/* pairs with the acquire in vrd_table_find() */
	__atomic_store_n(slot, obj, __ATOMIC_RELEASE);
}

static bool is_claimed(const struct vrd_table *t, uint32_t number)
{
	return !t->slots || (number & t->slot_mask) < t->first;
}

void vrd_table_unpublish(struct vrd_table *t, uint32_t number)
{
	void **slot = vrd_table_slot(t, number);

	__atomic_store_n(slot, is_claimed(t, number) ? (void *)&taken : 0, __ATOMIC_RELEASE);
}

void vrd_table_release(struct vrd_table *t, uint32_t number)
{
	uint32_t slot;

	t->count--;
	if (is_claimed(t, number)) {
		__atomic_store_n(vrd_table_slot(t, number), 0, __ATOMIC_RELEASE);
		return;
	}
	slot = (number & t->slot_mask) - t->first;
	t->generation[slot]++;
	t->free[(t->free_head + t->free_len) % t->free_size] = slot;
	t->free_len++;
}

void *vrd_table_next(struct vrd_table *t, uint32_t *pos)
{
	struct vrd_table_chunk *chunk;
	void *obj;

	while (*pos >> VRD_TABLE_CHUNK_SHIFT < t->num_chunks) {
		chunk = t->chunks[*pos >> VRD_TABLE_CHUNK_SHIFT];
		if (!chunk) {
			*pos = (*pos | (VRD_TABLE_CHUNK - 1)) + 1;
			continue;
		}
		obj = chunk->obj[*pos & (VRD_TABLE_CHUNK - 1)];
		(*pos)++;
		if (obj && obj != &taken)
			return obj;
	}
	return 0;
}
