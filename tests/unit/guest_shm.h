/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test guest's own stores to words that it shares with the device: see core/shm.h. */
#ifndef GUEST_SHM_H
#define GUEST_SHM_H

#include "shm.h"

static inline void vrd_store8(__u8 *p, uint8_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline void vrd_store16(__le16 *p, uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELAXED);
}

static inline void vrd_store16_release(__le16 *p, uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELEASE);
}

static inline void vrd_store32(__le32 *p, uint32_t v)
{
	__atomic_store_n(p, htole32(v), __ATOMIC_RELAXED);
}

static inline void vrd_store32_release(__le32 *p, uint32_t v)
{
	__atomic_store_n(p, htole32(v), __ATOMIC_RELEASE);
}

#endif /* GUEST_SHM_H */
