// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands for protection domains, memory regions and buffers of rings.  Control thread,
 * under dev->lock.  The functions for regions are in mr.c.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "control.h"
#include "end.h"

/* ---- protection domains ------------------------------------------------ */

static void pd_release(struct vrd_end *end)
{
	struct vrd_pd *pd = vrd_end_of(end, vrd_pd, end);

	vrd_transports_pd_dealloc(pd->ctx->dev, pd);
}

static void pd_free(struct vrd_end *end)
{
	struct vrd_pd *pd = vrd_end_of(end, vrd_pd, end);
	struct vrd_ctx *ctx = pd->ctx;

	vrd_table_release(&ctx->dev->pds, pd->id);
	free(pd);
	vrd_end_unuse(ctx->dev, &ctx->end, &ctx->users);
}

static int pd_alloc_slow(struct vrd_cmd *cmd)
{
	return vrd_transports_pd_alloc(cmd->dev, cmd->obj);
}

static int pd_allocated(struct vrd_cmd *cmd, int ret)
{
	struct virtio_rdma_alloc_pd_rsp *rsp = cmd->rsp;
	struct vrd_pd *pd = cmd->obj;

	if (ret) {
		pd_free(&pd->end);
		return ret;
	}
	if (cmd->cancelled) {
		pd->end = (struct vrd_end){ .release = pd_release, .free = pd_free };
		return vrd_end_for(cmd, &pd->end, 0, false, 0);
	}
	vrd_table_publish(&cmd->dev->pds, pd->id, pd);
	rsp->pd = htole32(pd->id);
	return 0;
}

int vrd_cmd_alloc_pd(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_alloc_pd_req *req = cmd->req;
	struct vrd_device *dev = cmd->dev;
	struct vrd_ctx *ctx;
	struct vrd_pd *pd;
	int ret;

	if (req->reserved)
		return -EINVAL;
	ctx = vrd_table_find(&dev->ctxs, le32toh(req->ctx));
	if (!ctx)
		return -ENOENT;
	pd = calloc(1, sizeof(*pd));
	if (!pd)
		return -ENOMEM;
	ret = vrd_table_reserve(&dev->pds, &pd->id);
	if (ret) {
		free(pd);
		return ret;
	}
	pd->ctx = ctx;
	ctx->users++;
	cmd->obj = pd;
	return vrd_cmd_run(cmd, pd_alloc_slow, pd_allocated, false);
}

/* Pollers only compare PD pointers; they neither look PDs up nor dereference them. */
static void pd_take_out(struct vrd_device *dev, struct vrd_pd *pd)
{
	vrd_table_unpublish(&dev->pds, pd->id);
	pd->end = (struct vrd_end){ .release = pd_release, .free = pd_free };
}

int vrd_cmd_dealloc_pd(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_destroy_req *req = cmd->req;
	struct vrd_pd *pd;

	if (req->reserved)
		return -EINVAL;
	pd = vrd_table_find(&cmd->dev->pds, le32toh(req->handle));
	if (!pd)
		return -ENOENT;
	if (pd->users)
		return -EBUSY;
	pd_take_out(cmd->dev, pd);
	return vrd_end_for(cmd, &pd->end, 0, false, 0);
}

void vrd_pd_destroy_all(struct vrd_device *dev)
{
	struct vrd_pd *pd;
	uint32_t pos;

	for (pos = 0; (pd = vrd_table_next(&dev->pds, &pos));) {
		pd_take_out(dev, pd);
		vrd_end(dev, &pd->end, pd->users, false);
	}
}

/* ---- memory regions ---------------------------------------------------- */

static void answer(struct virtio_rdma_reg_mr_rsp *rsp, const struct vrd_mr *mr)
{
	rsp->mr = htole32(mr->index);
	rsp->lkey = htole32(mr->lkey);
	rsp->rkey = htole32(mr->rkey);
}

static int mr_slow(struct vrd_cmd *cmd)
{
	return vrd_mr_reg_slow(cmd->obj);
}

static int mr_registered(struct vrd_cmd *cmd, int ret)
{
	struct vrd_mr *mr = cmd->obj;

	ret = vrd_mr_registered(mr, ret, cmd->cancelled);
	if (ret == -EAGAIN) {
		/* The region that used the host's key before has not been freed yet. */
		vrd_cmd_wait(cmd, mr_registered);
		vrd_cmd_complete(cmd, 0);
		return VRD_CMD_PENDING;
	}
	if (ret == VRD_MR_ENDS)
		return vrd_end_for(cmd, &mr->end, mr->users, true, mr->error);
	if (!ret && !cmd->cancelled)
		answer(cmd->rsp, mr);
	return ret;
}

/* All or some pages of @mr have been added, or @ret is an error. */
static int go_on(struct vrd_cmd *cmd, struct vrd_mr *mr, int ret)
{
	if (ret < 0)
		return ret;
	cmd->obj = mr;
	if (ret == VRD_MR_COMPLETE)
		return vrd_cmd_run(cmd, mr_slow, mr_registered, false);
	answer(cmd->rsp, mr);
	return 0;
}

int vrd_cmd_reg_mr(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_reg_mr_req *req = cmd->req;
	struct vrd_mr *mr = NULL;
	struct vrd_pd *pd;
	int ret;

	if (req->reserved)
		return -EINVAL;
	pd = vrd_table_find(&cmd->dev->pds, le32toh(req->pd));
	if (!pd)
		return -ENOENT;
	ret = vrd_mr_reg(pd, le32toh(req->access), le64toh(req->iova), le64toh(req->length),
			 le64toh(req->total_pages), &cmd->extents, &mr);
	return go_on(cmd, mr, ret);
}

int vrd_cmd_reg_mr_more(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_reg_mr_more_req *req = cmd->req;
	struct vrd_mr *mr = NULL;
	int ret = vrd_mr_reg_more(cmd->dev, le32toh(req->mr), &cmd->extents, &mr);

	return go_on(cmd, mr, ret);
}

int vrd_cmd_reg_dma_mr(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_reg_dma_mr_req *req = cmd->req;
	struct vrd_mr *mr = NULL;
	struct vrd_pd *pd;
	int ret;

	pd = vrd_table_find(&cmd->dev->pds, le32toh(req->pd));
	if (!pd)
		return -ENOENT;
	ret = vrd_mr_reg_dma(pd, le32toh(req->access), &mr);
	return go_on(cmd, mr, ret);
}

int vrd_cmd_alloc_mr(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_alloc_mr_req *req = cmd->req;
	struct vrd_mr *mr = NULL;
	struct vrd_pd *pd;
	int ret;

	pd = vrd_table_find(&cmd->dev->pds, le32toh(req->pd));
	if (!pd)
		return -ENOENT;
	ret = vrd_mr_alloc(pd, le32toh(req->max_entries), &mr);
	return go_on(cmd, mr, ret);
}

int vrd_cmd_dereg_mr(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_destroy_req *req = cmd->req;
	struct vrd_mr *mr;
	int ret;

	if (req->reserved)
		return -EINVAL;
	ret = vrd_mr_take_out(cmd->dev, le32toh(req->handle), &mr);
	return ret ? ret : vrd_end_for(cmd, &mr->end, mr->users, true, 0);
}

/* ---- buffers of rings ------------------------------------------------------ */

int vrd_cmd_create_buf(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_create_buf_req *req = cmd->req;
	struct virtio_rdma_create_buf_rsp *rsp = cmd->rsp;
	struct vrd_ctx *ctx;
	uint32_t handle;
	int ret;

	ctx = vrd_table_find(&cmd->dev->ctxs, le32toh(req->ctx));
	if (!ctx)
		return -ENOENT;
	ret = vrd_handle_buf_create(ctx, le64toh(req->total_pages), &cmd->extents, &handle);
	if (!ret)
		rsp->buf = htole32(handle);
	return ret;
}

int vrd_cmd_fill_buf(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_fill_buf_req *req = cmd->req;

	return vrd_handle_buf_fill(cmd->dev, le32toh(req->buf), &cmd->extents);
}

int vrd_cmd_destroy_buf(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_destroy_req *req = cmd->req;

	if (req->reserved)
		return -EINVAL;
	return vrd_handle_buf_destroy(cmd->dev, le32toh(req->handle));
}
