// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands about protection domains and memory regions.  Control thread, under
 * dev->lock; regions themselves are in mr.c.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "control.h"

int vrd_cmd_alloc_pd(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_alloc_pd_req *req = cmd->req;
	struct virtio_rdma_alloc_pd_rsp *rsp = cmd->rsp;
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
	ret = vrd_transports_pd_alloc(dev, pd);
	if (ret) {
		vrd_table_release(&dev->pds, pd->id);
		free(pd);
		return ret;
	}
	ctx->users++;
	vrd_table_publish(&dev->pds, pd->id, pd);
	rsp->pd = htole32(pd->id);
	return 0;
}

/* Pollers compare PDs, they do not look them up or into them. */
static void pd_destroy(struct vrd_device *dev, struct vrd_pd *pd)
{
	vrd_table_unpublish(&dev->pds, pd->id);
	vrd_transports_pd_dealloc(dev, pd);
	vrd_table_release(&dev->pds, pd->id);
	pd->ctx->users--;
	free(pd);
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
	pd_destroy(cmd->dev, pd);
	return 0;
}

void vrd_pd_destroy_all(struct vrd_device *dev)
{
	struct vrd_pd *pd;
	uint32_t pos;

	for (pos = 0; (pd = vrd_table_next(&dev->pds, &pos));)
		pd_destroy(dev, pd);
}

static void answer(struct virtio_rdma_reg_mr_rsp *rsp, const struct vrd_mr *mr)
{
	rsp->mr = htole32(mr->index);
	rsp->lkey = htole32(mr->lkey);
	rsp->rkey = htole32(mr->rkey);
}

int vrd_cmd_reg_mr(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_reg_mr_req *req = cmd->req;
	struct vrd_pd *pd;
	struct vrd_mr *mr;
	int ret;

	if (req->reserved)
		return -EINVAL;
	pd = vrd_table_find(&cmd->dev->pds, le32toh(req->pd));
	if (!pd)
		return -ENOENT;
	ret = vrd_mr_reg(pd, le32toh(req->access), le64toh(req->iova), le64toh(req->length),
			 le64toh(req->total_pages), &cmd->extents, &mr);
	if (!ret)
		answer(cmd->rsp, mr);
	return ret;
}

int vrd_cmd_reg_mr_more(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_reg_mr_more_req *req = cmd->req;
	struct vrd_mr *mr;
	int ret;

	ret = vrd_mr_reg_more(cmd->dev, le32toh(req->mr), &cmd->extents, &mr);
	if (!ret)
		answer(cmd->rsp, mr);
	return ret;
}

int vrd_cmd_reg_dma_mr(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_reg_dma_mr_req *req = cmd->req;
	struct vrd_pd *pd;
	struct vrd_mr *mr;
	int ret;

	pd = vrd_table_find(&cmd->dev->pds, le32toh(req->pd));
	if (!pd)
		return -ENOENT;
	ret = vrd_mr_reg_dma(pd, le32toh(req->access), &mr);
	if (!ret)
		answer(cmd->rsp, mr);
	return ret;
}

int vrd_cmd_dereg_mr(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_destroy_req *req = cmd->req;

	if (req->reserved)
		return -EINVAL;
	return vrd_mr_dereg(cmd->dev, le32toh(req->handle));
}
