/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Cookies of an SRQ's entries.  Entries complete in any order, so a wr_id is
 * not stored at the entry's place in the ring.  It is stored under a cookie: a
 * number that was free when the entry was posted, and that the entry's CQE
 * contains. Depends on nothing of libibverbs, like ring.h.
 *
 * Threading: the caller holds the SRQ's lock.
 */
#ifndef VRDMA_COOKIE_H
#define VRDMA_COOKIE_H

#include <stdbool.h>
#include <stdint.h>

#define VRDMA_COOKIE_NONE	UINT32_MAX
#define VRDMA_COOKIE_TAKEN	(UINT32_MAX - 1)

/**
 * struct vrdma_cookies - numbers from 0 to @num - 1
 * @next:  by number: the next free one, COOKIE_NONE after the last one, or
 *         COOKIE_TAKEN
 * @free:  the first free number
 * @num:   count of the numbers
 * @taken: count of the taken numbers
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

/* Returns COOKIE_NONE when all are taken. */
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

/* Returns false if @cookie is not taken. */
static inline bool vrdma_cookie_put(struct vrdma_cookies *c, uint32_t cookie)
{
	if (cookie >= c->num || c->next[cookie] != VRDMA_COOKIE_TAKEN)
		return false;
	c->next[cookie] = c->free;
	c->free = cookie;
	c->taken--;
	return true;
}

/*
 * Returns the first taken cookie from @from on, wrapping at the end; there must
 * be one.
 */
static inline uint32_t vrdma_cookie_find(const struct vrdma_cookies *c,
					 uint32_t from)
{
	while (c->next[from] != VRDMA_COOKIE_TAKEN)
		from = from + 1 < c->num ? from + 1 : 0;
	return from;
}

#endif /* VRDMA_COOKIE_H */
