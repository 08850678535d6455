/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Cookies of an SRQ's entries.  Entries complete in any order, so the wr_id is not
 * stored by the entry's place in the ring, but by a cookie: a number that was free
 * when the entry was posted, and that its CQE contains.
 *
 * Pure functions of their arguments; the caller holds a lock.
 */
#ifndef VRDMA_COOKIE_H
#define VRDMA_COOKIE_H

#include <linux/limits.h>
#include <linux/types.h>

#define VRDMA_COOKIE_NONE	U32_MAX
#define VRDMA_COOKIE_TAKEN	(U32_MAX - 1)

/**
 * struct vrdma_cookies - numbers from 0 to @num - 1
 * @next: by number: the next free one, COOKIE_NONE after the last one, or
 *        COOKIE_TAKEN
 * @free: the first free one
 * @num:  their number
 */
struct vrdma_cookies {
	u32 *next;
	u32 free;
	u32 num;
};

static inline void vrdma_cookies_init(struct vrdma_cookies *c, u32 *next,
				      u32 num)
{
	u32 i;

	c->next = next;
	c->num = num;
	c->free = VRDMA_COOKIE_NONE;
	for (i = num; i; i--) {
		next[i - 1] = c->free;
		c->free = i - 1;
	}
}

/* Returns COOKIE_NONE when all are taken. */
static inline u32 vrdma_cookie_take(struct vrdma_cookies *c)
{
	u32 cookie = c->free;

	if (cookie != VRDMA_COOKIE_NONE) {
		c->free = c->next[cookie];
		c->next[cookie] = VRDMA_COOKIE_TAKEN;
	}
	return cookie;
}

/* Returns false if @cookie is not taken: the device wrote it. */
static inline bool vrdma_cookie_put(struct vrdma_cookies *c, u32 cookie)
{
	if (cookie >= c->num || c->next[cookie] != VRDMA_COOKIE_TAKEN)
		return false;
	c->next[cookie] = c->free;
	c->free = cookie;
	return true;
}

#endif /* VRDMA_COOKIE_H */
