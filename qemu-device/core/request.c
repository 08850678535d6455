// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests and responses of older and newer drivers, whose length differs from the one that
 * this device knows.  See request.h.
 */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "request.h"

static bool is_zero(const uint8_t *p, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++) {
		if (p[i])
			return false;
	}
	return true;
}

int vrd_request_parse(const struct vrd_layout *l, const void *raw, uint32_t len, void *fixed,
		      struct vrd_extents *x)
{
	const struct virtio_rdma_cmd_hdr *hdr = raw;
	const uint8_t *bytes = raw;
	uint32_t length, num = 0;

	if (len < sizeof(*hdr))
		return -EINVAL;
	length = le32toh(hdr->length);
	if (length < l->req_min || length > len || length > VIRTIO_RDMA_MAX_CMD_FIXED ||
	    length % 8)
		return -EINVAL;
	if (length > l->req_size && !is_zero(bytes + l->req_size, length - l->req_size))
		return -EOPNOTSUPP;
	if (length < l->req_size) {
		memcpy(fixed, bytes, length);
		memset((uint8_t *)fixed + length, 0, l->req_size - length);
	} else {
		memcpy(fixed, bytes, l->req_size);
	}

	if (l->num_extents) {
		memcpy(&num, (const uint8_t *)fixed + l->num_extents, sizeof(num));
		num = le32toh(num);
		if (num > VIRTIO_RDMA_MAX_CMD_EXTENTS)
			return -EINVAL;
	}
	if (len != length + num * sizeof(struct virtio_rdma_extent))
		return -EINVAL;
	x->ext = (const void *)(bytes + length);
	x->num = num;
	return 0;
}

uint32_t vrd_response_length(const struct vrd_layout *l, uint64_t room)
{
	if (room < l->rsp_min)
		return 0;
	return room < l->rsp_size ? (uint32_t)room : l->rsp_size;
}
