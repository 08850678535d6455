// SPDX-License-Identifier: GPL-2.0-or-later
/* The test guest's typed commands, except those of queue pairs.  See guest.h. */
#include <stdlib.h>
#include <string.h>

#include "guest.h"
#include "shm.h"

uint32_t guest_init(struct guest *g)
{
	struct virtio_rdma_init_req req = {
		.num_comp_vectors = htole32(g->cfg.num_vectors),
	};
	struct virtio_rdma_rsp_hdr rsp;

	return guest_command(g, VIRTIO_RDMA_CMD_INIT, &req, &rsp);
}

uint32_t guest_add_gid(struct guest *g, uint32_t index, const uint8_t gid[16])
{
	struct virtio_rdma_add_gid_req req = {
		.index = htole32(index), .gid_type = VIRTIO_RDMA_GID_ROCE_V2,
		.vlan_id = htole16(VIRTIO_RDMA_VLAN_NONE),
	};
	struct virtio_rdma_rsp_hdr rsp;

	memcpy(req.gid, gid, 16);
	memcpy(req.smac, g->mac, 6);
	return guest_command(g, VIRTIO_RDMA_CMD_ADD_GID, &req, &rsp);
}

uint32_t guest_del_gid(struct guest *g, uint32_t index)
{
	struct virtio_rdma_del_gid_req req = { .index = htole32(index) };
	struct virtio_rdma_rsp_hdr rsp;

	return guest_command(g, VIRTIO_RDMA_CMD_DEL_GID, &req, &rsp);
}

uint32_t guest_destroy_handle(struct guest *g, uint32_t op, uint32_t handle)
{
	struct virtio_rdma_destroy_req req = { .handle = htole32(handle) };
	struct virtio_rdma_rsp_hdr rsp;

	return guest_command(g, op, &req, &rsp);
}

/* ---- contexts, PDs ------------------------------------------------------------ */

uint32_t guest_ctx_create(struct guest *g, uint32_t flags, struct guest_ctx *ctx)
{
	struct virtio_rdma_create_ctx_req req = { .flags = htole32(flags) };
	struct virtio_rdma_create_ctx_rsp rsp;
	uint32_t status;

	ctx->g = g;
	ctx->db = guest_alloc(g, sizeof(*ctx->db));
	req.db_page = htole64(guest_addr(g, ctx->db));
	status = guest_command(g, VIRTIO_RDMA_CMD_CREATE_CTX, &req, &rsp);
	if (status)
		guest_free(g, ctx->db, sizeof(*ctx->db));
	ctx->id = le32toh(rsp.ctx);
	return status;
}

void guest_ctx_destroy(struct guest_ctx *ctx)
{
	uint32_t status = guest_destroy_handle(ctx->g, VIRTIO_RDMA_CMD_DESTROY_CTX, ctx->id);

	if (status)
		guest_fatal("DESTROY_CTX answers %u", status);
	guest_free(ctx->g, ctx->db, sizeof(*ctx->db));
}

uint32_t guest_pd_alloc(struct guest_ctx *ctx, uint32_t *pd)
{
	struct virtio_rdma_alloc_pd_req req = { .ctx = htole32(ctx->id) };
	struct virtio_rdma_alloc_pd_rsp rsp;
	uint32_t status = guest_command(ctx->g, VIRTIO_RDMA_CMD_ALLOC_PD, &req, &rsp);

	*pd = le32toh(rsp.pd);
	return status;
}

/* ---- memory regions -------------------------------------------------------------- */

uint32_t guest_mr_reg_extents(struct guest *g, uint32_t pd, uint64_t iova, uint64_t length,
			      uint32_t access, const struct virtio_rdma_extent *extents,
			      uint32_t num, struct guest_mr *mr)
{
	uint32_t bytes = sizeof(struct virtio_rdma_reg_mr_req) + num * sizeof(*extents);
	struct virtio_rdma_reg_mr_req *req = calloc(1, bytes);
	struct virtio_rdma_reg_mr_rsp rsp;
	uint32_t status;

	req->hdr.opcode = htole32(VIRTIO_RDMA_CMD_REG_MR);
	req->pd = htole32(pd);
	req->access = htole32(access);
	req->iova = htole64(iova);
	req->length = htole64(length);
	req->total_pages = htole64((iova % GUEST_PAGE + length + GUEST_PAGE - 1) / GUEST_PAGE);
	req->num_extents = htole32(num);
	memcpy(req->extents, extents, num * sizeof(*extents));
	status = guest_command_raw(g, req, bytes, &rsp, sizeof(rsp), NULL);
	free(req);
	*mr = (struct guest_mr){
		.g = g, .handle = le32toh(rsp.mr), .lkey = le32toh(rsp.lkey),
		.rkey = le32toh(rsp.rkey), .iova = iova, .length = length,
	};
	return status;
}

uint32_t guest_mr_reg(struct guest *g, uint32_t pd, void *mem, uint64_t length, uint32_t access,
		      struct guest_mr *mr)
{
	uint64_t addr = guest_addr(g, mem);
	struct virtio_rdma_extent extent = {
		.addr = htole64(addr & ~(uint64_t)(GUEST_PAGE - 1)),
		.pages = htole32((addr % GUEST_PAGE + length + GUEST_PAGE - 1) / GUEST_PAGE),
	};
	uint32_t status = guest_mr_reg_extents(g, pd, addr, length, access, &extent, 1, mr);

	mr->mem = mem;
	return status;
}

uint32_t guest_mr_dereg(struct guest_mr *mr)
{
	return guest_destroy_handle(mr->g, VIRTIO_RDMA_CMD_DEREG_MR, mr->handle);
}

/* ---- completion queues -------------------------------------------------------------- */

static uint64_t pages(uint64_t bytes)
{
	return (bytes + GUEST_PAGE - 1) / GUEST_PAGE;
}

/* One extent behind a request of @size bytes: the whole buffer. */
static void add_extent(struct guest *g, void *req, size_t size, const void *buf, uint64_t bytes)
{
	struct virtio_rdma_extent extent = {
		.addr = htole64(guest_addr(g, buf)),
		.pages = htole32(pages(bytes)),
	};

	memcpy((uint8_t *)req + size, &extent, sizeof(extent));
}

uint32_t guest_cq_create(struct guest_ctx *ctx, uint32_t entries, uint32_t vector,
			 struct guest_cq *cq)
{
	uint64_t ring = pages(entries * sizeof(struct virtio_rdma_cqe)) * GUEST_PAGE;
	struct {
		struct virtio_rdma_create_cq_req req;
		struct virtio_rdma_extent extent;
	} cmd = {
		.req.hdr.opcode = htole32(VIRTIO_RDMA_CMD_CREATE_CQ),
		.req.ctx = htole32(ctx->id),
		.req.entries = htole32(entries),
		.req.cqe_size = htole32(sizeof(struct virtio_rdma_cqe)),
		.req.vector = htole32(vector),
		.req.ctrl_offset = htole32(ring),
		.req.buf.num_extents = htole32(1),
	};
	struct virtio_rdma_create_cq_rsp rsp;
	struct guest *g = ctx->g;
	uint32_t status;

	*cq = (struct guest_cq){ .g = g, .entries = entries, .vector = vector };
	cq->buf_size = ring + GUEST_PAGE;
	cq->buf = guest_alloc(g, cq->buf_size);
	cq->ring = cq->buf;
	cq->ctrl = (void *)((uint8_t *)cq->buf + ring);
	add_extent(g, &cmd, sizeof(cmd.req), cq->buf, cq->buf_size);
	status = guest_command_raw(g, &cmd, sizeof(cmd), &rsp, sizeof(rsp), NULL);
	if (status)
		guest_free(g, cq->buf, cq->buf_size);
	cq->cqn = le32toh(rsp.cqn);
	return status;
}

uint32_t guest_cq_destroy(struct guest_cq *cq)
{
	uint32_t status = guest_destroy_handle(cq->g, VIRTIO_RDMA_CMD_DESTROY_CQ, cq->cqn);

	if (!status)
		guest_free(cq->g, cq->buf, cq->buf_size);
	return status;
}
