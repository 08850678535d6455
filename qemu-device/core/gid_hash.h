/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hash of the tables that find a port by its GID.
 *
 * It has no secret seed: a device has VRD_GID_TABLE_LEN GIDs at most, so a guest that chooses
 * GIDs of one bucket makes it longer by that many entries.
 */
#ifndef VRD_GID_HASH_H
#define VRD_GID_HASH_H

#include <stdint.h>
#include <string.h>

#define VRD_GID_HASH_BITS	8
#define VRD_GID_BUCKETS		(1U << VRD_GID_HASH_BITS)

/* The bucket of @gid, less than VRD_GID_BUCKETS. */
static inline unsigned int vrd_gid_hash(const uint8_t gid[16])
{
	uint64_t a, b;

	memcpy(&a, gid, 8);
	memcpy(&b, gid + 8, 8);
	/* The upper bits of a product depend on all bits of the factor. */
	return (a ^ b) * 0x9e3779b97f4a7c15ULL >> (64 - VRD_GID_HASH_BITS);
}

#endif /* VRD_GID_HASH_H */
