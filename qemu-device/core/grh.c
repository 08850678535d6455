// SPDX-License-Identifier: GPL-2.0-or-later
/* The header before the payload of a datagram.  Pure functions; any thread. */
#include <string.h>

#include "grh.h"

#define IP_PROTO_UDP	17
/* After the IP header: UDP, BTH, DETH; after the payload: ICRC. */
#define ROCE_OVERHEAD	(8 + 12 + 8 + 4)

static bool gid_is_v4(const uint8_t gid[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(gid, prefix, sizeof(prefix));
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static uint16_t ip_checksum(const uint8_t *header)
{
	uint32_t sum = 0;

	for (unsigned int i = 0; i < 20; i += 2)
		sum += header[i] << 8 | header[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* @length: number of bytes after the IP header. */
static void fill_v4(uint8_t *out, const struct vrd_grh *grh, uint32_t length)
{
	uint8_t *ip = out + 20;

	ip[0] = 0x45;			/* version 4, 5 words */
	ip[1] = grh->tclass;
	put16(ip + 2, 20 + length);
	ip[6] = 0x40;			/* do not fragment */
	ip[8] = grh->hop_limit;
	ip[9] = IP_PROTO_UDP;
	memcpy(ip + 12, grh->sgid + 12, 4);
	memcpy(ip + 16, grh->dgid + 12, 4);
	put16(ip + 10, ip_checksum(ip));
}

static void fill_v6(uint8_t *out, const struct vrd_grh *grh, uint32_t length)
{
	out[0] = 0x60 | grh->tclass >> 4;
	out[1] = grh->tclass << 4 | ((grh->flow_label >> 16) & 0xf);
	put16(out + 2, grh->flow_label);
	put16(out + 4, length);
	out[6] = IP_PROTO_UDP;
	out[7] = grh->hop_limit;
	memcpy(out + 8, grh->sgid, 16);
	memcpy(out + 24, grh->dgid, 16);
}

uint8_t vrd_grh_fill(uint8_t out[VRD_GRH_LEN], const struct vrd_grh *grh, uint32_t length)
{
	length = ROCE_OVERHEAD + ((length + 3) & ~3U);
	memset(out, 0, VRD_GRH_LEN);
	if (gid_is_v4(grh->sgid) && gid_is_v4(grh->dgid)) {
		fill_v4(out, grh, length);
		return VIRTIO_RDMA_CQE_GRH | VIRTIO_RDMA_CQE_IPV4;
	}
	fill_v6(out, grh, length);
	return VIRTIO_RDMA_CQE_GRH;
}

bool vrd_grh_is_v4(const uint8_t header[VRD_GRH_LEN])
{
	const uint8_t *ip = header + 20;

	/* The checksum is not checked: Soft-RoCE omits it if both ends are local. */
	if (header[0] >> 4 != 6)
		return ip[0] >> 4 == 4;
	/* RoCE v2 allows no IP options.  The sum over a header with its checksum is 0xffff. */
	return ip[0] == 0x45 && ip[9] == IP_PROTO_UDP && !ip_checksum(ip);
}
