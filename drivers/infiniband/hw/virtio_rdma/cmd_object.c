// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Typed commands on memory regions, buffers of rings, CQs, QPs and SRQs.  Called by the verbs, in
 * process context; one function per command.
 */
#include "cmd.h"

/* Extents in one command of a registration: the request fits four pages. */
#define VRDMA_MR_EXTENTS	1000

static_assert(VRDMA_MR_EXTENTS <= VIRTIO_RDMA_MAX_CMD_EXTENTS);

/* Executes a command that creates a region, and puts it; sets @keys on success. */
static int vrdma_cmd_exec_mr(struct vrdma_dev *dev, struct vrdma_cmd *cmd,
			     struct vrdma_mr_keys *keys)
{
	const struct virtio_rdma_reg_mr_rsp *rsp = cmd->rsp;
	int ret = vrdma_cmd_exec(dev, cmd);

	if (!ret) {
		keys->handle = le32_to_cpu(rsp->mr);
		keys->lkey = le32_to_cpu(rsp->lkey);
		keys->rkey = le32_to_cpu(rsp->rkey);
	}
	vrdma_cmd_put(cmd);
	return ret;
}

static int vrdma_cmd_reg_mr_first(struct vrdma_dev *dev,
				  const struct vrdma_mr_params *p,
				  struct vrdma_extent_iter *it,
				  struct vrdma_mr_keys *keys)
{
	struct virtio_rdma_reg_mr_req *req;
	u64 pages = it->left;
	struct vrdma_cmd *cmd;
	u32 num;

	num = min_t(u64, pages, VRDMA_MR_EXTENTS);
	cmd = vrdma_cmd_alloc_extents(VIRTIO_RDMA_CMD_REG_MR,
				      sizeof(*req), num,
				      sizeof(struct virtio_rdma_reg_mr_rsp));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	num = vrdma_extent_fill(it, req->extents, num);
	vrdma_cmd_set_extents(cmd, num);
	req->pd = cpu_to_le32(p->pdn);
	req->access = cpu_to_le32(p->access);
	req->iova = cpu_to_le64(p->iova);
	req->length = cpu_to_le64(p->length);
	req->total_pages = cpu_to_le64(pages);
	req->num_extents = cpu_to_le32(num);
	cmd->buf = p->buf;
	return vrdma_cmd_exec_mr(dev, cmd, keys);
}

/* If more requests follow, the keys of the last response are the valid ones. */
static int vrdma_cmd_reg_mr_more(struct vrdma_dev *dev,
				 struct vrdma_extent_iter *it,
				 struct vrdma_mr_keys *keys)
{
	struct virtio_rdma_reg_mr_more_req *req;
	struct virtio_rdma_reg_mr_rsp *rsp;
	struct vrdma_cmd *cmd;
	u32 num;
	int ret;

	num = min_t(u64, it->left, VRDMA_MR_EXTENTS);
	cmd = vrdma_cmd_alloc_extents(VIRTIO_RDMA_CMD_REG_MR_MORE,
				      sizeof(*req), num, sizeof(*rsp));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	num = vrdma_extent_fill(it, req->extents, num);
	vrdma_cmd_set_extents(cmd, num);
	req->mr = cpu_to_le32(keys->handle);
	req->num_extents = cpu_to_le32(num);
	/* The region has as many pinned pages as it needs. */
	ret = WARN_ON_ONCE(!num) ? -EFAULT : vrdma_cmd_exec(dev, cmd);
	if (!ret) {
		rsp = cmd->rsp;
		keys->lkey = le32_to_cpu(rsp->lkey);
		keys->rkey = le32_to_cpu(rsp->rkey);
	}
	vrdma_cmd_put(cmd);
	return ret;
}

/* REG_MR and as many REG_MR_MORE as the extents take. */
int vrdma_cmd_reg_mr(struct vrdma_dev *dev, const struct vrdma_mr_params *p,
		     struct vrdma_mr_keys *keys)
{
	u64 offset = p->iova & (VIRTIO_RDMA_PAGE_SIZE - 1);
	struct vrdma_extent_iter it;
	u64 pages;
	int ret;

	pages = (offset + p->length + VIRTIO_RDMA_PAGE_SIZE - 1) >>
		VIRTIO_RDMA_PAGE_SHIFT;
	vrdma_extent_start(&it, p->buf, p->skip, pages);
	ret = vrdma_cmd_reg_mr_first(dev, p, &it, keys);
	while (!ret && it.left) {
		ret = vrdma_cmd_reg_mr_more(dev, &it, keys);
		if (ret) {
			vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DEREG_MR,
					  keys->handle);
			p->buf->exposed = false;
		}
	}
	return ret;
}

int vrdma_cmd_reg_dma_mr(struct vrdma_dev *dev, u32 pdn, u32 access,
			 struct vrdma_mr_keys *keys)
{
	struct virtio_rdma_reg_dma_mr_req *req;
	struct vrdma_cmd *cmd;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_REG_DMA_MR, sizeof(*req),
			      sizeof(struct virtio_rdma_reg_mr_rsp));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->pd = cpu_to_le32(pdn);
	req->access = cpu_to_le32(access);
	return vrdma_cmd_exec_mr(dev, cmd, keys);
}

int vrdma_cmd_alloc_mr(struct vrdma_dev *dev, u32 pdn, u32 max_entries,
		       struct vrdma_mr_keys *keys)
{
	struct virtio_rdma_alloc_mr_req *req;
	struct vrdma_cmd *cmd;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_ALLOC_MR, sizeof(*req),
			      sizeof(struct virtio_rdma_reg_mr_rsp));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->pd = cpu_to_le32(pdn);
	req->max_entries = cpu_to_le32(max_entries);
	return vrdma_cmd_exec_mr(dev, cmd, keys);
}

/* ---- buffers of rings ---- */

/**
 * struct vrdma_ring_mem - how a command names the buffer of its rings
 * @num:    extents that follow the request, or
 * @handle: of a buffer that was filled by commands of its own
 */
struct vrdma_ring_mem {
	u32 num;
	u32 handle;
};

/* CREATE_BUF for a new handle, else FILL_BUF: the next extents. */
static int vrdma_cmd_buf_part(struct vrdma_dev *dev, u32 ctx,
			      struct vrdma_buf *buf,
			      struct vrdma_extent_iter *it, u32 *handle)
{
	u32 num = min_t(u64, it->left, VRDMA_MR_EXTENTS);
	struct virtio_rdma_create_buf_req *create;
	struct virtio_rdma_create_buf_rsp *rsp;
	struct virtio_rdma_fill_buf_req *fill;
	struct vrdma_cmd *cmd;
	u64 pages = it->left;
	int ret;

	if (*handle)
		cmd = vrdma_cmd_alloc_extents(VIRTIO_RDMA_CMD_FILL_BUF,
					      sizeof(*fill), num,
					      sizeof(rsp->hdr));
	else
		cmd = vrdma_cmd_alloc_extents(VIRTIO_RDMA_CMD_CREATE_BUF,
					      sizeof(*create), num,
					      sizeof(*rsp));
	if (!cmd)
		return -ENOMEM;
	if (*handle) {
		fill = cmd->req;
		num = vrdma_extent_fill(it, fill->extents, num);
		fill->buf = cpu_to_le32(*handle);
		fill->num_extents = cpu_to_le32(num);
	} else {
		create = cmd->req;
		num = vrdma_extent_fill(it, create->extents, num);
		create->ctx = cpu_to_le32(ctx);
		create->num_extents = cpu_to_le32(num);
		create->total_pages = cpu_to_le64(pages);
	}
	vrdma_cmd_set_extents(cmd, num);
	cmd->buf = buf;
	/* The buffer has as many pages as its length says. */
	ret = WARN_ON_ONCE(!num) ? -EFAULT : vrdma_cmd_exec(dev, cmd);
	if (!ret && !*handle) {
		rsp = cmd->rsp;
		*handle = le32_to_cpu(rsp->buf);
	}
	vrdma_cmd_put(cmd);
	return ret;
}

/* Destroys a buffer that no object has taken over. */
static void vrdma_ring_release(struct vrdma_dev *dev, struct vrdma_buf *buf,
			       const struct vrdma_ring_mem *mem)
{
	if (!mem->handle)
		return;
	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_BUF, mem->handle);
	buf->exposed = false;
}

/*
 * Prepares the buffer for a create command.  Most buffers fit this command; larger ones are
 * sent to the device before it, in as many commands as needed.
 */
static int vrdma_ring_prepare(struct vrdma_dev *dev, u32 ctx,
			      struct vrdma_buf *buf,
			      struct vrdma_ring_mem *mem)
{
	u64 pages = buf->len >> VIRTIO_RDMA_PAGE_SHIFT;
	struct vrdma_extent_iter it;
	int ret = 0;

	mem->num = vrdma_extent_count(buf, 0, pages);
	mem->handle = 0;
	if (mem->num <= VIRTIO_RDMA_MAX_CMD_EXTENTS)
		return 0;
	mem->num = 0;
	vrdma_extent_start(&it, buf, 0, pages);
	while (!ret && it.left)
		ret = vrdma_cmd_buf_part(dev, ctx, buf, &it, &mem->handle);
	if (ret)
		vrdma_ring_release(dev, buf, mem);
	return ret;
}

static void vrdma_ring_describe(struct vrdma_cmd *cmd, struct vrdma_buf *buf,
				const struct vrdma_ring_mem *mem,
				struct virtio_rdma_buf *desc,
				struct virtio_rdma_extent *ext)
{
	struct vrdma_extent_iter it;

	desc->num_extents = cpu_to_le32(mem->num);
	desc->handle = cpu_to_le32(mem->handle);
	vrdma_extent_start(&it, buf, 0, buf->len >> VIRTIO_RDMA_PAGE_SHIFT);
	vrdma_extent_fill(&it, ext, mem->num);
	cmd->buf = buf;
}

int vrdma_cmd_create_cq(struct vrdma_dev *dev, const struct vrdma_cq_params *p,
			u32 *cqn)
{
	struct virtio_rdma_create_cq_req *req;
	struct virtio_rdma_create_cq_rsp *rsp;
	struct vrdma_cmd *cmd;
	struct vrdma_ring_mem mem;
	int ret;

	ret = vrdma_ring_prepare(dev, p->ctx, p->buf, &mem);
	if (ret)
		return ret;
	cmd = vrdma_cmd_alloc_extents(VIRTIO_RDMA_CMD_CREATE_CQ,
				      sizeof(*req), mem.num, sizeof(*rsp));
	if (!cmd) {
		ret = -ENOMEM;
		goto out;
	}
	req = cmd->req;
	req->ctx = cpu_to_le32(p->ctx);
	req->entries = cpu_to_le32(p->entries);
	req->cqe_size = cpu_to_le32(sizeof(struct virtio_rdma_cqe));
	req->vector = cpu_to_le32(p->vector);
	req->ring_offset = cpu_to_le32(p->ring_offset);
	req->ctrl_offset = cpu_to_le32(p->ctrl_offset);
	vrdma_ring_describe(cmd, p->buf, &mem, &req->buf, req->extents);
	ret = vrdma_cmd_exec(dev, cmd);
	if (!ret) {
		rsp = cmd->rsp;
		*cqn = le32_to_cpu(rsp->cqn);
	}
	vrdma_cmd_put(cmd);
out:
	if (ret)
		vrdma_ring_release(dev, p->buf, &mem);
	return ret;
}

int vrdma_cmd_resize_cq(struct vrdma_dev *dev, u32 cqn,
			const struct vrdma_cq_params *p)
{
	struct virtio_rdma_resize_cq_req *req;
	struct vrdma_cmd *cmd;
	struct vrdma_ring_mem mem;
	int ret;

	ret = vrdma_ring_prepare(dev, p->ctx, p->buf, &mem);
	if (ret)
		return ret;
	cmd = vrdma_cmd_alloc_extents(VIRTIO_RDMA_CMD_RESIZE_CQ,
				      sizeof(*req), mem.num,
				      sizeof(struct virtio_rdma_rsp_hdr));
	if (!cmd) {
		ret = -ENOMEM;
		goto out;
	}
	req = cmd->req;
	req->cqn = cpu_to_le32(cqn);
	req->entries = cpu_to_le32(p->entries);
	req->ring_offset = cpu_to_le32(p->ring_offset);
	req->ctrl_offset = cpu_to_le32(p->ctrl_offset);
	vrdma_ring_describe(cmd, p->buf, &mem, &req->buf, req->extents);
	ret = vrdma_cmd_exec(dev, cmd);
	vrdma_cmd_put(cmd);
out:
	if (ret)
		vrdma_ring_release(dev, p->buf, &mem);
	return ret;
}

int vrdma_cmd_create_qp(struct vrdma_dev *dev, const struct vrdma_qp_params *p,
			struct vrdma_qp_numbers *num)
{
	struct virtio_rdma_create_qp_req *req;
	struct virtio_rdma_create_qp_rsp *rsp;
	struct vrdma_cmd *cmd;
	struct vrdma_ring_mem mem;
	int ret;

	ret = vrdma_ring_prepare(dev, p->ctx, p->buf, &mem);
	if (ret)
		return ret;
	cmd = vrdma_cmd_alloc_extents(VIRTIO_RDMA_CMD_CREATE_QP,
				      sizeof(*req), mem.num, sizeof(*rsp));
	if (!cmd) {
		ret = -ENOMEM;
		goto out;
	}
	req = cmd->req;
	req->ctx = cpu_to_le32(p->ctx);
	req->pd = cpu_to_le32(p->pdn);
	req->send_cqn = cpu_to_le32(p->send_cqn);
	req->recv_cqn = cpu_to_le32(p->recv_cqn);
	req->srqn = cpu_to_le32(p->srqn);
	req->qp_type = p->qp_type;
	req->sq_stride_shift = p->sq_stride;
	req->rq_stride_shift = p->rq_stride;
	req->sq_entries = cpu_to_le32(p->sq_entries);
	req->rq_entries = cpu_to_le32(p->rq_entries);
	req->max_send_sge = cpu_to_le32(p->max_send_sge);
	req->max_recv_sge = cpu_to_le32(p->max_recv_sge);
	req->max_inline = cpu_to_le32(p->max_inline);
	req->sq_offset = cpu_to_le32(p->sq_offset);
	req->rq_offset = cpu_to_le32(p->rq_offset);
	req->sq_ctrl_offset = cpu_to_le32(p->sq_ctrl_offset);
	req->rq_ctrl_offset = cpu_to_le32(p->rq_ctrl_offset);
	vrdma_ring_describe(cmd, p->buf, &mem, &req->buf, req->extents);
	ret = vrdma_cmd_exec(dev, cmd);
	if (!ret) {
		rsp = cmd->rsp;
		num->qpn = le32_to_cpu(rsp->qpn);
		num->sq_slot = le32_to_cpu(rsp->sq_slot);
		num->rq_slot = le32_to_cpu(rsp->rq_slot);
	}
	vrdma_cmd_put(cmd);
out:
	if (ret)
		vrdma_ring_release(dev, p->buf, &mem);
	return ret;
}

/*
 * A move to ERR must not fail because memory is short: users drain a QP with it,
 * and then free the memory that its work requests name.
 */
int vrdma_cmd_modify_qp(struct vrdma_dev *dev, u32 qpn, u32 mask,
			const struct virtio_rdma_qp_attr *attr)
{
	bool drains = mask & VIRTIO_RDMA_QP_STATE &&
		      attr->state == VIRTIO_RDMA_QPS_ERR;
	struct virtio_rdma_modify_qp_req *req;
	struct vrdma_cmd *cmd;
	int ret;

	if (drains)
		cmd = vrdma_cmd_alloc_nofail(VIRTIO_RDMA_CMD_MODIFY_QP,
					     sizeof(*req),
					     sizeof(struct virtio_rdma_rsp_hdr));
	else
		cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_MODIFY_QP, sizeof(*req),
				      sizeof(struct virtio_rdma_rsp_hdr));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->qpn = cpu_to_le32(qpn);
	req->mask = cpu_to_le32(mask);
	req->attr = *attr;
	ret = vrdma_cmd_exec(dev, cmd);
	vrdma_cmd_put(cmd);
	return ret;
}

int vrdma_cmd_query_qp(struct vrdma_dev *dev, u32 qpn,
		       struct virtio_rdma_qp_attr *attr)
{
	struct virtio_rdma_query_qp_req *req;
	struct virtio_rdma_query_qp_rsp *rsp;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_QUERY_QP, sizeof(*req),
			      sizeof(*rsp));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->qpn = cpu_to_le32(qpn);
	ret = vrdma_cmd_exec(dev, cmd);
	if (!ret) {
		rsp = cmd->rsp;
		*attr = rsp->attr;
	}
	vrdma_cmd_put(cmd);
	return ret;
}

int vrdma_cmd_create_srq(struct vrdma_dev *dev,
			 const struct vrdma_srq_params *p, u32 *srqn, u32 *slot)
{
	struct virtio_rdma_create_srq_req *req;
	struct virtio_rdma_create_srq_rsp *rsp;
	struct vrdma_cmd *cmd;
	struct vrdma_ring_mem mem;
	int ret;

	ret = vrdma_ring_prepare(dev, p->ctx, p->buf, &mem);
	if (ret)
		return ret;
	cmd = vrdma_cmd_alloc_extents(VIRTIO_RDMA_CMD_CREATE_SRQ,
				      sizeof(*req), mem.num, sizeof(*rsp));
	if (!cmd) {
		ret = -ENOMEM;
		goto out;
	}
	req = cmd->req;
	req->ctx = cpu_to_le32(p->ctx);
	req->pd = cpu_to_le32(p->pdn);
	req->entries = cpu_to_le32(p->entries);
	req->max_sge = cpu_to_le32(p->max_sge);
	req->ring_offset = cpu_to_le32(p->ring_offset);
	req->ctrl_offset = cpu_to_le32(p->ctrl_offset);
	req->stride_shift = p->stride;
	vrdma_ring_describe(cmd, p->buf, &mem, &req->buf, req->extents);
	ret = vrdma_cmd_exec(dev, cmd);
	if (!ret) {
		rsp = cmd->rsp;
		*srqn = le32_to_cpu(rsp->srqn);
		*slot = le32_to_cpu(rsp->slot);
	}
	vrdma_cmd_put(cmd);
out:
	if (ret)
		vrdma_ring_release(dev, p->buf, &mem);
	return ret;
}

int vrdma_cmd_modify_srq(struct vrdma_dev *dev, u32 srqn, u32 mask, u32 limit)
{
	struct virtio_rdma_modify_srq_req *req;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_MODIFY_SRQ, sizeof(*req),
			      sizeof(struct virtio_rdma_rsp_hdr));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->srqn = cpu_to_le32(srqn);
	req->mask = cpu_to_le32(mask);
	req->limit = cpu_to_le32(limit);
	ret = vrdma_cmd_exec(dev, cmd);
	vrdma_cmd_put(cmd);
	return ret;
}

int vrdma_cmd_query_srq(struct vrdma_dev *dev, u32 srqn, u32 *limit)
{
	struct virtio_rdma_query_srq_req *req;
	struct virtio_rdma_query_srq_rsp *rsp;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_QUERY_SRQ, sizeof(*req),
			      sizeof(*rsp));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->srqn = cpu_to_le32(srqn);
	ret = vrdma_cmd_exec(dev, cmd);
	if (!ret) {
		rsp = cmd->rsp;
		*limit = le32_to_cpu(rsp->limit);
	}
	vrdma_cmd_put(cmd);
	return ret;
}
