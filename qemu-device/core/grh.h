/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first 40 bytes in the receive buffer of a datagram, in the format of RoCE v2: the IPv6
 * header, or 20 bytes (zeroes in this implementation) and the IPv4 header.
 */
#ifndef VRD_GRH_H
#define VRD_GRH_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_rdma.h>

#define VRD_GRH_LEN	40U

/* The header fields that the sender chooses, in CPU byte order. */
struct vrd_grh {
	const uint8_t *sgid, *dgid;
	uint32_t flow_label;
	uint8_t tclass, hop_limit;
};

/*
 * @length: number of bytes after BTH and DETH, including immediate data, without padding.
 * Returns the flags for the CQE.
 */
uint8_t vrd_grh_fill(uint8_t out[VRD_GRH_LEN], const struct vrd_grh *grh, uint32_t length);

/*
 * True if a header that another device wrote is an IPv4 header.  The 20 bytes before an IPv4
 * header are undefined (IBTA A17.4.5.2): they may look like an IPv6 header.
 */
bool vrd_grh_is_v4(const uint8_t header[VRD_GRH_LEN]);

#endif /* VRD_GRH_H */
