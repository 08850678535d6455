/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stores to guest memory.  Everything that the device's software writes into a guest's memory
 * is written with these functions, or reported with vrd_stored() afterwards: words of rings
 * and doorbell pages, completions, responses, payload.  If the device has a dirty log, the
 * pages are marked in it after the store (dirty.c).
 *
 * Words are little-endian, and each is stored at once: see shm.h.
 */
#ifndef VRD_STORE_H
#define VRD_STORE_H

#include <string.h>

#include "compiler.h"
#include "objects.h"
#include "shm.h"

/* dirty.c */
void vrd_dirty_mark(const struct vrd_device *dev, const struct vrd_dirty_log *log, const void *hva,
		    size_t len);

/* For callers that handle logged stores elsewhere.  To be called after the store. */
static VRD_INLINE bool vrd_has_dirty_log(const struct vrd_device *dev)
{
	return __atomic_load_n(&dev->dirty, __ATOMIC_ACQUIRE);
}

/* @len bytes at @hva, in memory of @dev, have been written.  @len may be zero. */
static VRD_INLINE void vrd_stored(const struct vrd_device *dev, const void *hva, size_t len)
{
	const struct vrd_dirty_log *log = __atomic_load_n(&dev->dirty, __ATOMIC_ACQUIRE);

	if (vrd_unlikely(log))
		vrd_dirty_mark(dev, log, hva, len);
}

static inline void vrd_guest_store8(const struct vrd_device *dev, __u8 *p, uint8_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
	vrd_stored(dev, p, sizeof(*p));
}

static inline void vrd_guest_store16(const struct vrd_device *dev, __le16 *p, uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELAXED);
	vrd_stored(dev, p, sizeof(*p));
}

static inline void vrd_guest_store16_release(const struct vrd_device *dev, __le16 *p,
					     uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELEASE);
	vrd_stored(dev, p, sizeof(*p));
}

static inline void vrd_guest_store32(const struct vrd_device *dev, __le32 *p, uint32_t v)
{
	__atomic_store_n(p, htole32(v), __ATOMIC_RELAXED);
	vrd_stored(dev, p, sizeof(*p));
}

static inline void vrd_guest_store32_release(const struct vrd_device *dev, __le32 *p,
					     uint32_t v)
{
	__atomic_store_n(p, htole32(v), __ATOMIC_RELEASE);
	vrd_stored(dev, p, sizeof(*p));
}

/* Copies @len bytes of the device's own memory. */
static inline void vrd_guest_copy(const struct vrd_device *dev, void *to, const void *from,
				  size_t len)
{
	memcpy(to, from, len);
	vrd_stored(dev, to, len);
}

#endif /* VRD_STORE_H */
