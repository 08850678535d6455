// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Typed commands on the device as a whole: INIT, queries, GIDs, contexts, PDs
 * and the common form of the destroys.  Called by the verbs, in process
 * context; one function per command, which only translates its layout.
 */
#include "cmd.h"

#define VRDMA_KEEPS	"it refuses to destroy an object"

static int vrdma_cmd_run(struct vrdma_dev *dev, struct vrdma_cmd *cmd)
{
	return cmd ? vrdma_cmd_exec(dev, cmd) : -ENOMEM;
}

static void vrdma_cmd_done(struct vrdma_cmd *cmd)
{
	if (cmd)
		vrdma_cmd_put(cmd);
}

int vrdma_cmd_init(struct vrdma_dev *dev, u32 num_comp)
{
	struct virtio_rdma_init_req *req;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_INIT, sizeof(*req),
			      sizeof(struct virtio_rdma_rsp_hdr));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->num_comp_vectors = cpu_to_le32(num_comp);
	ret = vrdma_cmd_exec(dev, cmd);
	vrdma_cmd_put(cmd);
	return ret;
}

/* A limit that the device reports, or the format's own if that is lower. */
static u32 vrdma_limit(__le32 reported, u32 max)
{
	return min(le32_to_cpu(reported), max);
}

int vrdma_cmd_query_device(struct vrdma_dev *dev, struct vrdma_attr *attr)
{
	struct virtio_rdma_query_device_rsp *rsp;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_QUERY_DEVICE,
			      sizeof(struct virtio_rdma_query_device_req),
			      sizeof(*rsp));
	ret = vrdma_cmd_run(dev, cmd);
	if (ret)
		goto out;
	rsp = cmd->rsp;
	attr->node_guid = le64_to_cpu(rsp->node_guid);
	attr->fw_ver = le64_to_cpu(rsp->fw_ver);
	attr->max_mr_size = le64_to_cpu(rsp->max_mr_size);
	attr->vendor_id = le32_to_cpu(rsp->vendor_id);
	attr->vendor_part_id = le32_to_cpu(rsp->vendor_part_id);
	attr->hw_ver = le32_to_cpu(rsp->hw_ver);
	attr->max_pd = le32_to_cpu(rsp->max_pd);
	attr->max_mr = le32_to_cpu(rsp->max_mr);
	attr->max_cq = le32_to_cpu(rsp->max_cq);
	attr->max_cqe = vrdma_limit(rsp->max_cqe, VRDMA_MAX_ENTRIES);
	attr->max_qp = le32_to_cpu(rsp->max_qp);
	attr->max_qp_wr = vrdma_limit(rsp->max_qp_wr, VRDMA_MAX_ENTRIES);
	attr->max_send_sge = vrdma_limit(rsp->max_send_sge, VRDMA_MAX_SEND_SGE);
	attr->max_send_sge_ud = vrdma_limit(rsp->max_send_sge_ud, VRDMA_MAX_SEND_SGE_UD);
	attr->max_recv_sge = vrdma_limit(rsp->max_recv_sge, VRDMA_MAX_RECV_SGE);
	attr->max_sge_rd = vrdma_limit(rsp->max_sge_rd, VRDMA_MAX_SEND_SGE);
	attr->max_inline = vrdma_limit(rsp->max_inline, VRDMA_MAX_INLINE);
	attr->max_qp_rd_atom = le32_to_cpu(rsp->max_qp_rd_atom);
	attr->max_qp_init_rd_atom = le32_to_cpu(rsp->max_qp_init_rd_atom);
	attr->max_srq = le32_to_cpu(rsp->max_srq);
	attr->max_srq_wr = vrdma_limit(rsp->max_srq_wr, VRDMA_MAX_ENTRIES);
	attr->max_srq_sge = vrdma_limit(rsp->max_srq_sge, VRDMA_MAX_RECV_SGE);
	/* Lists are contiguous in memory. */
	attr->max_fast_reg_pages = vrdma_limit(rsp->max_fast_reg_pages,
					       SZ_64K / sizeof(struct virtio_rdma_reg_entry));
	attr->page_sizes = le64_to_cpu(rsp->page_sizes);
	attr->local_ca_ack_delay = le32_to_cpu(rsp->local_ca_ack_delay);
out:
	vrdma_cmd_done(cmd);
	return ret;
}

int vrdma_cmd_query_port(struct vrdma_dev *dev, struct vrdma_port_attr *attr)
{
	struct virtio_rdma_query_port_req *req;
	struct virtio_rdma_query_port_rsp *rsp;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_QUERY_PORT, sizeof(*req),
			      sizeof(*rsp));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->port_num = cpu_to_le32(1);
	ret = vrdma_cmd_exec(dev, cmd);
	if (!ret) {
		rsp = cmd->rsp;
		attr->state = rsp->state;
		attr->max_mtu = rsp->max_mtu;
		attr->active_mtu = rsp->active_mtu;
		attr->active_width = rsp->active_width;
		attr->active_speed = le16_to_cpu(rsp->active_speed);
		attr->gid_tbl_len = le32_to_cpu(rsp->gid_tbl_len);
		attr->max_msg_sz = le32_to_cpu(rsp->max_msg_sz);
	}
	vrdma_cmd_put(cmd);
	return ret;
}

/* Fills @counters[0..@num); those that the device does not have are zero. */
int vrdma_cmd_query_stats(struct vrdma_dev *dev, u64 *counters, u32 num)
{
	struct virtio_rdma_query_stats_rsp *rsp;
	struct vrdma_cmd *cmd;
	u32 i, count;
	int ret;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_QUERY_STATS,
			      sizeof(struct virtio_rdma_query_stats_req),
			      sizeof(*rsp));
	ret = vrdma_cmd_run(dev, cmd);
	if (ret)
		goto out;
	rsp = cmd->rsp;
	count = min_t(u32, le32_to_cpu(rsp->count), ARRAY_SIZE(rsp->counters));
	for (i = 0; i < num; i++)
		counters[i] = i < count ? le64_to_cpu(rsp->counters[i]) : 0;
out:
	vrdma_cmd_done(cmd);
	return ret;
}

int vrdma_cmd_add_gid(struct vrdma_dev *dev, u32 index,
		      const struct vrdma_gid_params *p)
{
	struct virtio_rdma_add_gid_req *req;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc_nofail(VIRTIO_RDMA_CMD_ADD_GID, sizeof(*req),
				     sizeof(struct virtio_rdma_rsp_hdr));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->index = cpu_to_le32(index);
	req->gid_type = VIRTIO_RDMA_GID_ROCE_V2;
	req->vlan_id = cpu_to_le16(p->vlan_id);
	memcpy(req->gid, p->gid, sizeof(req->gid));
	memcpy(req->smac, p->smac, sizeof(req->smac));
	ret = vrdma_cmd_exec(dev, cmd);
	vrdma_cmd_put(cmd);
	return ret;
}

int vrdma_cmd_del_gid(struct vrdma_dev *dev, u32 index)
{
	struct virtio_rdma_del_gid_req *req;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc_nofail(VIRTIO_RDMA_CMD_DEL_GID, sizeof(*req),
				     sizeof(struct virtio_rdma_rsp_hdr));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->index = cpu_to_le32(index);
	ret = vrdma_cmd_exec(dev, cmd);
	vrdma_cmd_put(cmd);
	return ret;
}

int vrdma_cmd_create_ctx(struct vrdma_dev *dev, u32 flags,
			 struct vrdma_buf *db_page, u32 *ctx)
{
	struct virtio_rdma_create_ctx_req *req;
	struct virtio_rdma_create_ctx_rsp *rsp;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_CREATE_CTX, sizeof(*req),
			      sizeof(*rsp));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->flags = cpu_to_le32(flags);
	req->db_page = cpu_to_le64(db_page->dma[0]);
	cmd->buf = db_page;
	ret = vrdma_cmd_exec(dev, cmd);
	if (!ret) {
		rsp = cmd->rsp;
		*ctx = le32_to_cpu(rsp->ctx);
	}
	vrdma_cmd_put(cmd);
	return ret;
}

int vrdma_cmd_alloc_pd(struct vrdma_dev *dev, u32 ctx, u32 *pdn)
{
	struct virtio_rdma_alloc_pd_req *req;
	struct virtio_rdma_alloc_pd_rsp *rsp;
	struct vrdma_cmd *cmd;
	int ret;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_ALLOC_PD, sizeof(*req),
			      sizeof(*rsp));
	if (!cmd)
		return -ENOMEM;
	req = cmd->req;
	req->ctx = cpu_to_le32(ctx);
	ret = vrdma_cmd_exec(dev, cmd);
	if (!ret) {
		rsp = cmd->rsp;
		*pdn = le32_to_cpu(rsp->pd);
	}
	vrdma_cmd_put(cmd);
	return ret;
}

void vrdma_cmd_destroy(struct vrdma_dev *dev, u32 opcode, u32 handle)
{
	struct virtio_rdma_destroy_req *req;
	struct vrdma_cmd *cmd;
	int ret = -EIO;

	if (!vrdma_dead(dev)) {
		cmd = vrdma_cmd_alloc_nofail(opcode, sizeof(*req),
					     sizeof(struct virtio_rdma_rsp_hdr));
		req = cmd->req;
		req->handle = cpu_to_le32(handle);
		ret = vrdma_cmd_exec(dev, cmd);
		vrdma_cmd_put(cmd);
	}
	if (!ret)
		return;
	/*
	 * The device has no reason to refuse, and the object's memory must not be
	 * used any more when this returns.
	 */
	if (!vrdma_dead(dev)) {
		ibdev_err(&dev->ibdev, "destroy command %u of %#x failed (%d)\n",
			  opcode, handle, ret);
		vrdma_dev_kill(dev, -EIO, VRDMA_KEEPS);
	}
	wait_for_completion(&dev->halt_done);
}
