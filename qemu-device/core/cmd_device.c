// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands for the device, its port and contexts.  Control thread, under dev->lock.
 * control.c has copied the requests and checked their lengths.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "end.h"
#include "gid.h"
#include "mem.h"
#include "fastreg.h"
#include "poller.h"

/* Identification in the response to QUERY_DEVICE. */
#define VENDOR_ID	0x1af4			/* virtio's PCI vendor */
#define PART_ID		(0x1040 + VIRTIO_ID_RDMA)
#define HW_VERSION	1
#define FW_VERSION	(1ULL << 32)		/* 1.0.0 */

/* All memory regions of the previous driver have been deregistered. */
static int init_done(struct vrd_cmd *cmd, int ret)
{
	const struct virtio_rdma_init_req *req = cmd->req;
	struct vrd_device *dev = cmd->dev;

	(void)ret;
	if (cmd->cancelled)
		return 0;
	dev->num_vectors_used = le32toh(req->num_comp_vectors);
	dev->initialised = true;
	return 0;
}

int vrd_cmd_init(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_init_req *req = cmd->req;
	struct vrd_device *dev = cmd->dev;
	uint32_t vectors = le32toh(req->num_comp_vectors);

	if (req->reserved || !vectors || vectors > le16toh(dev->config.num_comp_vectors))
		return -EINVAL;
	/* A previous driver may have left objects: not every virtio transport reports a reset. */
	vrd_device_clear(dev);
	dev->initialised = false;
	return vrd_ends_wait_guards(cmd, init_done);
}

static uint32_t min32(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

int vrd_cmd_query_device(struct vrd_cmd *cmd)
{
	struct virtio_rdma_query_device_rsp *rsp = cmd->rsp;
	struct vrd_device *dev = cmd->dev;
	const struct vrd_limits *l = &dev->limits;
	struct vrd_caps caps = vrd_device_caps(dev);
	uint64_t guid;

	vrd_eui64(dev->config.mac, (uint8_t *)&guid);

	rsp->node_guid = htole64(be64toh(guid));
	rsp->fw_ver = htole64(FW_VERSION);
	rsp->max_mr_size = htole64(l->max_mr_size < caps.max_mr_size ? l->max_mr_size :
								       caps.max_mr_size);
	rsp->vendor_id = htole32(VENDOR_ID);
	rsp->vendor_part_id = htole32(PART_ID);
	rsp->hw_ver = htole32(HW_VERSION);
	rsp->max_ctx = htole32(l->max_ctx);
	rsp->max_pd = htole32(l->max_pd);
	rsp->max_mr = htole32(l->max_mr);
	rsp->max_cq = htole32(l->max_cq);
	rsp->max_cqe = htole32(l->max_cqe);
	rsp->max_qp = htole32(l->max_qp);
	rsp->max_qp_wr = htole32(l->max_qp_wr);
	rsp->max_send_sge = htole32(l->max_sge);
	rsp->max_send_sge_ud = htole32(l->max_sge);
	rsp->max_recv_sge = htole32(l->max_sge);
	rsp->max_sge_rd = htole32(l->max_sge);
	rsp->max_inline = htole32(l->max_inline);
	if (vrd_device_has(dev, VIRTIO_RDMA_F_SRQ)) {
		rsp->max_srq = htole32(l->max_srq);
		rsp->max_srq_wr = htole32(l->max_qp_wr);
		rsp->max_srq_sge = htole32(l->max_sge);
	}
	if (vrd_device_has(dev, VIRTIO_RDMA_F_MEM_MGT)) {
		rsp->max_fast_reg_pages = htole32(VRD_FAST_ENTRIES);
		/* The bits from MIN to MAX. */
		rsp->page_sizes = htole64((2ULL << VRD_FAST_PAGE_SHIFT_MAX) -
					  (1ULL << VRD_FAST_PAGE_SHIFT_MIN));
	}
	rsp->max_qp_rd_atom = htole32(min32(caps.max_qp_rd_atom, UINT8_MAX));
	rsp->max_qp_init_rd_atom = htole32(min32(caps.max_qp_init_rd_atom, UINT8_MAX));
	rsp->local_ca_ack_delay = htole32(caps.local_ca_ack_delay);
	return 0;
}

int vrd_cmd_query_port(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_query_port_req *req = cmd->req;
	struct virtio_rdma_query_port_rsp *rsp = cmd->rsp;
	struct vrd_device *dev = cmd->dev;
	struct vrd_caps caps = vrd_device_caps(dev);

	if (le32toh(req->port_num) != 1 || req->reserved)
		return -EINVAL;
	rsp->state = vrd_transports_port_state(dev);
	rsp->max_mtu = caps.max_mtu;
	rsp->active_mtu = caps.active_mtu;
	rsp->active_width = caps.active_width;
	rsp->active_speed = htole16(caps.active_speed);
	rsp->pkey_tbl_len = htole16(1);
	rsp->gid_tbl_len = htole32(VRD_GID_TABLE_LEN);
	rsp->max_msg_sz = htole32(caps.max_msg_sz);
	return 0;
}

int vrd_cmd_query_stats(struct vrd_cmd *cmd)
{
	struct virtio_rdma_query_stats_rsp *rsp = cmd->rsp;
	unsigned int i;

	_Static_assert(VIRTIO_RDMA_STAT_COUNT <= sizeof(rsp->counters) / sizeof(rsp->counters[0]),
		       "all counters fit");
	rsp->count = htole32(VIRTIO_RDMA_STAT_COUNT);
	for (i = 0; i < VIRTIO_RDMA_STAT_COUNT; i++)
		rsp->counters[i] = htole64(vrd_stat_read(cmd->dev, i));
	return 0;
}

/* ---- GIDs -------------------------------------------------------------- */

static bool gid_usable(const uint8_t gid[16])
{
	static const uint8_t zero[16];

	return gid[0] != 0xff && memcmp(gid, zero, 16);	/* neither multicast nor unspecified */
}

static bool smac_usable(const uint8_t mac[6])
{
	static const uint8_t zero[6];

	return !(mac[0] & 1) && memcmp(mac, zero, 6);
}

/*
 * No transport generates Ethernet frames itself, so the source MAC is not used yet, and none
 * can add a VLAN tag: VIRTIO_RDMA_F_VLAN_GID is not offered.
 */
int vrd_cmd_add_gid(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_add_gid_req *req = cmd->req;
	struct vrd_device *dev = cmd->dev;
	uint32_t index = le32toh(req->index);
	int ret;

	if (index >= VRD_GID_TABLE_LEN || req->reserved0 || req->reserved1[0] ||
	    req->reserved1[1] || !gid_usable(req->gid) || !smac_usable(req->smac))
		return -EINVAL;
	if (req->gid_type != VIRTIO_RDMA_GID_ROCE_V2 ||
	    le16toh(req->vlan_id) != VIRTIO_RDMA_VLAN_NONE)
		return -EOPNOTSUPP;
	if (dev->gids[index].valid)
		return -EEXIST;
	/* Two entries may have the same GID, for example that of a macvlan of the netdev. */
	if (!vrd_gid_is_allowed(dev, req->gid))
		return -EPERM;
	ret = vrd_transports_gid_add(dev, index, req->gid);
	if (ret)
		return ret;
	memcpy(dev->gids[index].gid, req->gid, 16);
	/* pairs with the acquire in vrd_gid_at() */
	__atomic_store_n(&dev->gids[index].valid, true, __ATOMIC_RELEASE);
	return 0;
}

/* Does not include the grace period after which the entry may be written again. */
static void gid_del(struct vrd_device *dev, uint32_t index)
{
	__atomic_store_n(&dev->gids[index].valid, false, __ATOMIC_RELEASE);
	vrd_transports_gid_del(dev, index, dev->gids[index].gid);
}

static int gid_deleted(struct vrd_cmd *cmd, int ret)
{
	(void)cmd;
	return ret;
}

int vrd_cmd_del_gid(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_del_gid_req *req = cmd->req;
	struct vrd_device *dev = cmd->dev;
	uint32_t index = le32toh(req->index);

	if (index >= VRD_GID_TABLE_LEN || req->reserved)
		return -EINVAL;
	if (!dev->gids[index].valid)
		return -ENOENT;
	gid_del(dev, index);
	/* The entry may be written again when no poller uses it any more. */
	return vrd_cmd_wait_grace(cmd, gid_deleted);
}

void vrd_gid_del_all(struct vrd_device *dev)
{
	bool any = false;
	uint32_t i;

	for (i = 0; i < VRD_GID_TABLE_LEN; i++) {
		if (!dev->gids[i].valid)
			continue;
		gid_del(dev, i);
		any = true;
	}
	if (any)
		vrd_engine_synchronize(dev->engine);
}

/* ---- contexts ---------------------------------------------------------- */

int vrd_cmd_create_ctx(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_create_ctx_req *req = cmd->req;
	struct virtio_rdma_create_ctx_rsp *rsp = cmd->rsp;
	struct vrd_device *dev = cmd->dev;
	uint32_t flags = le32toh(req->flags);
	struct vrd_ctx *ctx;
	int ret;

	if (flags & ~VIRTIO_RDMA_CTX_KERNEL)
		return -EOPNOTSUPP;
	if (req->reserved || le64toh(req->db_page) & (VIRTIO_RDMA_PAGE_SIZE - 1))
		return -EINVAL;
	ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return -ENOMEM;
	ctx->dev = dev;
	ctx->kernel = flags & VIRTIO_RDMA_CTX_KERNEL;
	ctx->db_addr = le64toh(req->db_page);
	ctx->db = vrd_mem_range(dev->mem, ctx->db_addr, VIRTIO_RDMA_PAGE_SIZE, true);
	if (!ctx->db) {
		ret = -EFAULT;
		goto free;
	}
	ret = vrd_table_reserve(&dev->ctxs, &ctx->id);
	if (ret)
		goto free;
	ret = vrd_poller_ctx_attach(ctx);
	if (ret)
		goto release;
	vrd_table_publish(&dev->ctxs, ctx->id, ctx);
	rsp->ctx = htole32(ctx->id);
	return 0;
release:
	vrd_table_release(&dev->ctxs, ctx->id);
free:
	free(ctx);
	return ret;
}

/* ---- destruction of a context ------------------------------------------ */

static void ctx_free(struct vrd_end *end)
{
	struct vrd_ctx *ctx = vrd_end_of(end, vrd_ctx, end);

	vrd_table_release(&ctx->dev->ctxs, ctx->id);
	free(ctx);
}

/* Pollers do not look contexts up, so no grace period is needed. */
static void ctx_take_out(struct vrd_ctx *ctx)
{
	vrd_table_unpublish(&ctx->dev->ctxs, ctx->id);
	ctx->end = (struct vrd_end){ .free = ctx_free };
}

int vrd_cmd_destroy_ctx(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_destroy_req *req = cmd->req;
	struct vrd_ctx *ctx;

	if (req->reserved)
		return -EINVAL;
	ctx = vrd_table_find(&cmd->dev->ctxs, le32toh(req->handle));
	if (!ctx)
		return -ENOENT;
	if (ctx->users)
		return -EBUSY;
	ctx_take_out(ctx);
	vrd_poller_ctx_detach(ctx);
	return vrd_end_for(cmd, &ctx->end, 0, false, 0);
}

void vrd_ctx_destroy_all(struct vrd_device *dev)
{
	struct vrd_ctx *ctx;
	uint32_t pos;

	for (pos = 0; (ctx = vrd_table_next(&dev->ctxs, &pos));) {
		ctx_take_out(ctx);
		vrd_poller_ctx_free(ctx);
		vrd_end(dev, &ctx->end, ctx->users, false);
	}
}
