/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The envelope of a command: the lengths of its request and its response.
 *
 * Pure functions on copies.  The control thread calls them for each command.  The unit tests
 * call them with commands of versions that do not exist.
 */
#ifndef VRD_REQUEST_H
#define VRD_REQUEST_H

#include <linux/virtio_rdma.h>
#include <stdint.h>

#include "mr.h"

/* Largest fixed part that this device knows, in bytes. */
#define VRD_MAX_FIXED		256
/* Largest request that the device reads: the fixed part of a newer driver may be longer. */
#define VRD_MAX_REQUEST		(VIRTIO_RDMA_MAX_CMD_FIXED + \
				 VIRTIO_RDMA_MAX_CMD_EXTENTS * sizeof(struct virtio_rdma_extent))

/*
 * Lengths of a command in bytes.  @*_min is the length in version 1 of the ABI, which every
 * driver supports.  @*_size is the length that this device knows.
 */
struct vrd_layout {
	uint16_t req_min, req_size;	/* fixed part, with the header */
	uint16_t rsp_min, rsp_size;	/* with the header */
	uint16_t num_extents;		/* offset of the field in the request; 0: no extents */
};

/*
 * Converts a request to the length that this device knows (spec 4.1).
 * @raw: @len bytes, a copy of the driver's request; aligned to 8 bytes
 * @fixed: gets req_size bytes; zero if the driver did not send them
 * @x: gets the extents, which stay in @raw
 *
 * -EINVAL: shorter than version 1, or the length does not match the header.
 * -EOPNOTSUPP: longer than known, and the rest is not zero.
 */
int vrd_request_parse(const struct vrd_layout *l, const void *raw, uint32_t len, void *fixed,
		      struct vrd_extents *x);

/* Length of the response for a buffer of @room bytes; 0: less than version 1 requires. */
uint32_t vrd_response_length(const struct vrd_layout *l, uint64_t room);

#endif /* VRD_REQUEST_H */
