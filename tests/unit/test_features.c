// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Features, the configuration space, and the configuration of a device: what is offered,
 * what is refused, and what is missing if it was not negotiated.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

#include "cmd_length.h"
#include "objects.h"
#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))

#define F(name)		(1ULL << VIRTIO_RDMA_F_##name)
#define CMD(name)	VIRTIO_RDMA_CMD_##name
#define S(name)		VIRTIO_RDMA_S_##name

/* One command of type @op, whatever it says: of an unknown feature it is not read. */
static int any_command(struct raw *r, uint32_t op)
{
	struct { struct virtio_rdma_create_srq_req req; uint64_t more[4]; } q = {
		.req.hdr.opcode = op,
	};
	uint8_t rsp[512];

	return raw_cmd(r, &q, cmd_length(op), rsp, sizeof(rsp));
}

static void features(struct raw *r)
{
	struct vrd_error err;
	bool unknown = true;

	vrd_device_reset(r->dev);
	is(vrd_device_set_features(r->dev, 1ULL << VIRTIO_F_VERSION_1, &err), -EINVAL,
	   "ACCESS_PLATFORM is required");
	is(vrd_device_set_features(r->dev, FEATURES | 1 << 23, &err), -EINVAL, "unknown feature");
	ok(err.msg[0], "with a message: %s", err.msg);
	is(vrd_device_set_features(r->dev, FEATURES | F(ATOMIC_GLOBAL), &err), -EINVAL,
	   "ATOMIC_GLOBAL requires ATOMIC");
	is(vrd_device_set_features(r->dev, FEATURES, &err), 0, "the required ones are enough");
	is(vrd_device_features(r->dev) & VRD_DEVICE_FEATURES,
	   F(UC) | F(SRQ) | F(ATOMIC) | F(ATOMIC_GLOBAL) | F(RESIZE_CQ) | F(DMA_KEY) | F(RNR_NAK) |
	   F(MEM_MGT),
	   "the memory transport offers all that there is");
	raw_recover(r);
	is(vrd_device_set_features(r->dev, r->features, &err), -EBUSY, "no change while it runs");
	for (uint32_t op = CMD(ALLOC_MW); op <= CMD(MODIFY_CQ); op++)
		unknown = unknown && any_command(r, op) == S(UNSUPPORTED);
	ok(unknown, "commands of features to come are unknown");
}

static int any_qp(struct raw *r, uint32_t ctx, uint8_t type, uint32_t srqn)
{
	uint32_t pd = raw_pd(r, ctx), cq = raw_cq(r, ctx, 16, 0);
	struct raw_qp_req q;
	struct virtio_rdma_create_qp_rsp rsp;

	raw_qp_fill(r, &q, type, ctx, pd, cq, cq);
	q.req.srqn = srqn;
	if (srqn != VIRTIO_RDMA_NONE) {
		q.req.rq_entries = 0;
		q.req.rq_ctrl_offset = 0;
	}
	return raw_cmd(r, &q, sizeof(q.req) + sizeof(q.ext[0]), &rsp, sizeof(rsp));
}

/* What was not negotiated is not there, though the device can do it. */
static void not_negotiated(struct raw *r)
{
	static const struct { uint32_t op; uint64_t feature; } cmds[] = {
		{ CMD(RESIZE_CQ), F(RESIZE_CQ) }, { CMD(REG_DMA_MR), F(DMA_KEY) },
		{ CMD(ALLOC_MR), F(MEM_MGT) }, { CMD(CREATE_SRQ), F(SRQ) }, { CMD(MODIFY_SRQ), F(SRQ) },
		{ CMD(QUERY_SRQ), F(SRQ) }, { CMD(DESTROY_SRQ), F(SRQ) },
	};
	struct virtio_rdma_query_device_req q = { .hdr.opcode = CMD(QUERY_DEVICE) };
	struct virtio_rdma_query_device_rsp d;
	const uint64_t all = r->features;
	uint32_t ctx, kernel;
	unsigned int i;

	for (i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++) {
		r->features = all & ~cmds[i].feature;
		raw_recover(r);
		is(any_command(r, cmds[i].op), S(UNSUPPORTED), "command %u without its feature",
		   cmds[i].op);
		r->features = all;
		raw_recover(r);
		ok(any_command(r, cmds[i].op) != S(UNSUPPORTED), "with it");
	}

	r->features = FEATURES;
	raw_recover(r);
	ctx = raw_ctx(r, 0);
	kernel = raw_ctx(r, VIRTIO_RDMA_CTX_KERNEL);
	is(any_qp(r, ctx, VIRTIO_RDMA_QPT_UC, VIRTIO_RDMA_NONE), S(UNSUPPORTED), "a UC QP");
	is(any_qp(r, ctx, VIRTIO_RDMA_QPT_RC, 1), S(UNSUPPORTED), "a QP with an SRQ");
	is(any_qp(r, ctx, VIRTIO_RDMA_QPT_RC, VIRTIO_RDMA_NONE), S(OK), "an RC QP");
	is(any_qp(r, ctx, VIRTIO_RDMA_QPT_UD, VIRTIO_RDMA_NONE), S(OK), "a UD QP");
	is(any_qp(r, kernel, VIRTIO_RDMA_QPT_RC, VIRTIO_RDMA_NONE), S(UNSUPPORTED),
	   "an RC QP of the kernel's");
	is(any_qp(r, kernel, VIRTIO_RDMA_QPT_UD, VIRTIO_RDMA_NONE), S(UNSUPPORTED), "or UD");
	is(any_qp(r, kernel, VIRTIO_RDMA_QPT_GSI, VIRTIO_RDMA_NONE), S(OK), "but QP 1");
	is(raw_cmd(r, &q, sizeof(q), &d, sizeof(d)), S(OK), "QUERY_DEVICE");
	ok(!d.max_srq && !d.max_srq_wr && !d.max_srq_sge, "reports no limits of SRQs");
	r->features = all;
	raw_recover(r);
}

static void config(struct raw *r)
{
	struct virtio_rdma_config c;
	uint8_t buf[32];

	vrd_device_get_config(r->dev, 0, &c, sizeof(c));
	is(c.num_comp_vectors, 2, "configuration: vectors");
	memset(buf, 0xee, sizeof(buf));
	vrd_device_get_config(r->dev, 8, buf, sizeof(buf));
	ok(raw_filled_with(buf, 0, sizeof(buf)), "behind its end are zeroes");
	memset(buf, 0xee, sizeof(buf));
	vrd_device_get_config(r->dev, UINT32_MAX, buf, 4);
	ok(raw_filled_with(buf, 0, 4) && buf[4] == 0xee, "also far behind");
}

static void bad_configs(struct raw *r)
{
	struct vrd_device_config good = {
		.name = "x", .mac = { 2, 0, 0, 0, 0, 9 }, .num_comp_vectors = 1,
	}, c;
	struct vrd_device *dev;
	struct vrd_error err;

#define TRY(change, what)							\
	do {									\
		c = good;							\
		change;								\
		err.msg[0] = 0;							\
		ok(vrd_device_create(r->engine, &c, &dev, &err) < 0 && err.msg[0],	\
		   what ": %s", err.msg);					\
	} while (0)
	TRY(c.name = "", "no name");
	TRY(c.mac[0] = 1, "multicast MAC");
	TRY(memset(c.mac, 0, 6), "no MAC");
	TRY(c.num_comp_vectors = 0, "no vectors");
	TRY(c.num_comp_vectors = 254, "254 vectors");
	TRY(c.transports = "magic", "unknown transport");
	TRY(c.limits.max_sge = 33, "too many SGEs");
	TRY(c.limits.max_qp = UINT32_MAX, "too many QPs");
	TRY(c.limits.max_mr_size = UINT64_MAX, "too large an MR");
	TRY(c.num_allowed_gids = 33, "too many GIDs");
	is(vrd_device_create(r->engine, &good, &dev, &err), 0, "a good one");
	vrd_device_destroy(dev);
}

int main(void)
{
	struct raw *r = raw_new(NULL, FEATURES);

	features(r);
	not_negotiated(r);
	config(r);
	bad_configs(r);
	raw_free(r);
	return tap_done();
}
