// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ABI can grow: requests and responses of drivers that are older or newer
 * than the device (device-spec.rst 4.1).  Links with the device's own parser,
 * core/request.c, and describes to it commands of versions that do not exist.
 * Prints TAP.
 */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "request.h"

/* A command as version 1 had it, and as it is two versions later. */
struct v1 {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 object;
	__le32 num_extents;
};

struct v3 {
	struct v1 v1;
	__le64 since2;
	__le64 since3;
};

#define ANSWER_V1	16
#define ANSWER_V3	40

static const struct vrd_layout first = {
	sizeof(struct v1), sizeof(struct v1), ANSWER_V1, ANSWER_V1,
	offsetof(struct v1, num_extents),
};
static const struct vrd_layout third = {
	sizeof(struct v1), sizeof(struct v3), ANSWER_V1, ANSWER_V3,
	offsetof(struct v1, num_extents),
};

static int tests, failures;

static void ok(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++tests, what);
	failures += !good;
}

static union {
	struct v3 v3;
	uint64_t words[64];
} raw;
static uint64_t fixed[VRD_MAX_FIXED / 8];
static struct vrd_extents ext;

/* A request whose fixed part has @length bytes, @n extents behind it. */
static int parse(const struct vrd_layout *l, uint32_t length, uint32_t n)
{
	struct virtio_rdma_extent *x = (void *)((uint8_t *)&raw + length);
	uint32_t i;

	raw.v3.v1.hdr.length = htole32(length);
	raw.v3.v1.num_extents = htole32(n);
	for (i = 0; i < n; i++)
		x[i] = (struct virtio_rdma_extent) { .addr = htole64(0x1000 * (i + 1)) };
	memset(fixed, 0x5a, sizeof(fixed));
	return vrd_request_parse(l, &raw, length + n * sizeof(*x), fixed, &ext);
}

static void fresh(void)
{
	memset(&raw, 0, sizeof(raw));
	raw.v3.v1.object = htole32(7);
}

static bool extents_are(uint32_t n)
{
	return ext.num == n && (!n || (le64toh(ext.ext[0].addr) == 0x1000 &&
				       le64toh(ext.ext[n - 1].addr) == 0x1000 * n));
}

int main(void)
{
	const struct v3 *v3 = (const void *)fixed;

	fresh();
	ok(!parse(&third, sizeof(struct v1), 3) && extents_are(3),
	   "old driver, new device: the extents follow the short request");
	ok(le32toh(v3->v1.object) == 7 && !v3->since2 && !v3->since3,
	   "and what it does not have is zero");
	fresh();
	raw.v3.since2 = htole64(22);
	ok(!parse(&third, sizeof(struct v1) + 8, 1) && extents_are(1) &&
	   le64toh(v3->since2) == 22 && !v3->since3, "a driver between both");
	fresh();
	ok(!parse(&first, sizeof(struct v3), 2) && extents_are(2),
	   "new driver, old device: the extents follow the long request");
	fresh();
	raw.v3.since3 = htole64(1);
	ok(parse(&first, sizeof(struct v3), 2) == -EOPNOTSUPP, "which may not ask for more");
	ok(!parse(&third, sizeof(struct v3), 2) && extents_are(2) && le64toh(v3->since3) == 1,
	   "of the new device it may");
	fresh();
	ok(!parse(&first, sizeof(struct v1), 0) && extents_are(0), "no extents");
	ok(fixed[sizeof(struct v1) / 8] == 0x5a5a5a5a5a5a5a5aULL,
	   "the device writes no more than it knows");

	fresh();
	ok(parse(&third, sizeof(struct v1) - 8, 0) == -EINVAL, "shorter than version 1");
	ok(parse(&third, sizeof(struct v1) + 4, 0) == -EINVAL, "no multiple of 8");
	raw.v3.v1.hdr.length = htole32(sizeof(struct v3));
	ok(vrd_request_parse(&third, &raw, sizeof(struct v1), fixed, &ext) == -EINVAL,
	   "longer than what came");
	raw.v3.v1.hdr.length = htole32(0xfffffff8);
	ok(vrd_request_parse(&third, &raw, sizeof(struct v1), fixed, &ext) == -EINVAL,
	   "4 GiB");
	fresh();
	raw.v3.v1.hdr.length = htole32(sizeof(struct v1));
	raw.v3.v1.num_extents = htole32(0x10000001);
	ok(vrd_request_parse(&first, &raw, sizeof(struct v1) + 16, fixed, &ext) == -EINVAL,
	   "a number of extents that wraps");
	ok(vrd_request_parse(&first, &raw, 7, fixed, &ext) == -EINVAL, "less than a header");

	ok(vrd_response_length(&third, ANSWER_V1) == ANSWER_V1 &&
	   vrd_response_length(&third, ANSWER_V1 + 8) == ANSWER_V1 + 8,
	   "old driver, new device: the response is cut to the room");
	ok(vrd_response_length(&first, ANSWER_V3) == ANSWER_V1,
	   "new driver, old device: as much as the device knows");
	ok(!vrd_response_length(&third, ANSWER_V1 - 1) && !vrd_response_length(&third, 0),
	   "less room than version 1 has");
	printf("1..%d\n", tests);
	return !!failures;
}
