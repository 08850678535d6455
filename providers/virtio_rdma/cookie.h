/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Cookies of an SRQ's entries.  Entries are complete in any order, so a wr_id
 * cannot be kept at the entry's place in the ring: it is kept at a number that
 * was free when the entry was posted, and that the entry's CQE brings back.
 * Needs nothing of libibverbs, as ring.h.
 *
 * Threading: a caller holds the SRQ's lock.
 */
#ifndef VRDMA_COOKIE_H
#define VRDMA_COOKIE_H

#include <stdbool.h>
#include <stdint.h>

#define VRDMA_COOKIE_NONE	UINT32_MAX
#define VRDMA_COOKIE_TAKEN	(UINT32_MAX - 1)

/**
 * struct vrdma_cookies - numbers from 0 to @num - 1
 * @next:  by number: the next free one, COOKIE_NONE behind the last of them, or
 *         COOKIE_TAKEN
 * @free:  the first free one
 * @num:   their number
 * @taken: how many are taken
 */
struct vrdma_cookies {
	uint32_t *next;
	uint32_t free;
	uint32_t num;
	uint32_t taken;
};

static inline void vrdma_cookies_init(struct vrdma_cookies *c, uint32_t *next,
				      uint32_t num)
{
	uint32_t i;

	c->next = next;
	c->num = num;
	c->taken = 0;
	c->free = VRDMA_COOKIE_NONE;
	for (i = num; i; i--) {
		next[i - 1] = c->free;
		c->free = i - 1;
	}
}

/* COOKIE_NONE when all are taken. */
static inline uint32_t vrdma_cookie_take(struct vrdma_cookies *c)
{
	uint32_t cookie = c->free;

	if (cookie != VRDMA_COOKIE_NONE) {
		c->free = c->next[cookie];
		c->next[cookie] = VRDMA_COOKIE_TAKEN;
		c->taken++;
	}
	return cookie;
}

/* False if it is not taken. */
static inline bool vrdma_cookie_put(struct vrdma_cookies *c, uint32_t cookie)
{
	if (cookie >= c->num || c->next[cookie] != VRDMA_COOKIE_TAKEN)
		return false;
	c->next[cookie] = c->free;
	c->free = cookie;
	c->taken--;
	return true;
}

/* The first one from @from on, around the end, that is taken; there is one. */
static inline uint32_t vrdma_cookie_find(const struct vrdma_cookies *c,
					 uint32_t from)
{
	while (c->next[from] != VRDMA_COOKIE_TAKEN)
		from = from + 1 < c->num ? from + 1 : 0;
	return from;
}

#endif /* VRDMA_COOKIE_H */
