// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Finds the objects that a command names, which determine the commands that it waits for:
 * see cmd.h.
 *
 * A command changes its main object (MODIFY_QP its QP, DESTROY_CQ its CQ), and refers to
 * others (CREATE_QP to its PD and CQs).  Two commands that only refer to the same object run
 * in parallel: a registration of 100 GiB does not delay a QP of the same PD.  A destroy
 * waits for all earlier commands that refer to its object.  Later commands that refer to the
 * object wait for the destroy and then fail with NOENT.
 *
 * Control thread, dev->lock.  The requests come from the guest, and have been copied.
 */
#include <endian.h>

#include "control.h"

static void name(struct vrd_cmd *cmd, enum vrd_ref_kind kind, bool changes, uint32_t number)
{
	if (cmd->num_refs < VRD_MAX_CMD_REFS)
		cmd->refs[cmd->num_refs++] = (struct vrd_cmd_ref){
			.kind = kind, .changes = changes, .number = number,
		};
}

/* Field @field of the request, a __le32. */
#define FIELD(type, field) \
	le32toh(((const struct virtio_rdma_##type *)cmd->req)->field)

/* The buffer handle that a command uses, if it has one. */
static void name_buf(struct vrd_cmd *cmd, uint32_t handle)
{
	if (handle)
		name(cmd, VRD_REF_BUF, true, handle);
}

static void name_qp_parents(struct vrd_cmd *cmd)
{
	name(cmd, VRD_REF_CTX, false, FIELD(create_qp_req, ctx));
	name(cmd, VRD_REF_PD, false, FIELD(create_qp_req, pd));
	name(cmd, VRD_REF_CQ, false, FIELD(create_qp_req, send_cqn));
	name(cmd, VRD_REF_CQ, false, FIELD(create_qp_req, recv_cqn));
	name(cmd, VRD_REF_SRQ, false, FIELD(create_qp_req, srqn));
	name_buf(cmd, FIELD(create_qp_req, buf.handle));
}

static void name_objects(struct vrd_cmd *cmd)
{
	switch (cmd->opcode) {
	case VIRTIO_RDMA_CMD_ADD_GID:
		return name(cmd, VRD_REF_GID, true, FIELD(add_gid_req, index));
	case VIRTIO_RDMA_CMD_DEL_GID:
		return name(cmd, VRD_REF_GID, true, FIELD(del_gid_req, index));
	case VIRTIO_RDMA_CMD_DESTROY_CTX:
		return name(cmd, VRD_REF_CTX, true, FIELD(destroy_req, handle));
	case VIRTIO_RDMA_CMD_ALLOC_PD:
		return name(cmd, VRD_REF_CTX, false, FIELD(alloc_pd_req, ctx));
	case VIRTIO_RDMA_CMD_DEALLOC_PD:
		return name(cmd, VRD_REF_PD, true, FIELD(destroy_req, handle));
	case VIRTIO_RDMA_CMD_REG_MR:
		return name(cmd, VRD_REF_PD, false, FIELD(reg_mr_req, pd));
	case VIRTIO_RDMA_CMD_REG_MR_MORE:
		return name(cmd, VRD_REF_MR, true, FIELD(reg_mr_more_req, mr));
	case VIRTIO_RDMA_CMD_REG_DMA_MR:
		return name(cmd, VRD_REF_PD, false, FIELD(reg_dma_mr_req, pd));
	case VIRTIO_RDMA_CMD_DEREG_MR:
		return name(cmd, VRD_REF_MR, true, FIELD(destroy_req, handle));
	case VIRTIO_RDMA_CMD_CREATE_CQ:
		name_buf(cmd, FIELD(create_cq_req, buf.handle));
		return name(cmd, VRD_REF_CTX, false, FIELD(create_cq_req, ctx));
	case VIRTIO_RDMA_CMD_RESIZE_CQ:
		name_buf(cmd, FIELD(resize_cq_req, buf.handle));
		return name(cmd, VRD_REF_CQ, true, FIELD(resize_cq_req, cqn));
	case VIRTIO_RDMA_CMD_DESTROY_CQ:
		return name(cmd, VRD_REF_CQ, true, FIELD(destroy_req, handle));
	case VIRTIO_RDMA_CMD_CREATE_QP:
		return name_qp_parents(cmd);
	case VIRTIO_RDMA_CMD_MODIFY_QP:
		return name(cmd, VRD_REF_QP, true, FIELD(modify_qp_req, qpn));
	case VIRTIO_RDMA_CMD_QUERY_QP:
		return name(cmd, VRD_REF_QP, true, FIELD(query_qp_req, qpn));
	case VIRTIO_RDMA_CMD_DESTROY_QP:
		return name(cmd, VRD_REF_QP, true, FIELD(destroy_req, handle));
	case VIRTIO_RDMA_CMD_CREATE_BUF:
		return name(cmd, VRD_REF_CTX, false, FIELD(create_buf_req, ctx));
	case VIRTIO_RDMA_CMD_FILL_BUF:
		return name(cmd, VRD_REF_BUF, true, FIELD(fill_buf_req, buf));
	case VIRTIO_RDMA_CMD_DESTROY_BUF:
		return name(cmd, VRD_REF_BUF, true, FIELD(destroy_req, handle));
	case VIRTIO_RDMA_CMD_CREATE_SRQ:
		name_buf(cmd, FIELD(create_srq_req, buf.handle));
		name(cmd, VRD_REF_CTX, false, FIELD(create_srq_req, ctx));
		return name(cmd, VRD_REF_PD, false, FIELD(create_srq_req, pd));
	case VIRTIO_RDMA_CMD_MODIFY_SRQ:
		return name(cmd, VRD_REF_SRQ, true, FIELD(modify_srq_req, srqn));
	case VIRTIO_RDMA_CMD_QUERY_SRQ:
		return name(cmd, VRD_REF_SRQ, true, FIELD(query_srq_req, srqn));
	case VIRTIO_RDMA_CMD_DESTROY_SRQ:
		return name(cmd, VRD_REF_SRQ, true, FIELD(destroy_req, handle));
	}
}

void vrd_cmd_find_names(struct vrd_cmd *cmd)
{
	name(cmd, VRD_REF_DEVICE, cmd->opcode == VIRTIO_RDMA_CMD_INIT, 0);
	if (!cmd->refusal)
		name_objects(cmd);
}

static bool refs_conflict(const struct vrd_cmd_ref *a, const struct vrd_cmd_ref *b)
{
	return a->kind == b->kind && a->number == b->number && (a->changes || b->changes);
}

bool vrd_cmd_conflict(const struct vrd_cmd *a, const struct vrd_cmd *b)
{
	for (unsigned int i = 0; i < a->num_refs; i++) {
		/* A host call that is still running after a reset does not delay INIT. */
		if (a->cancelled && a->refs[i].kind == VRD_REF_DEVICE)
			continue;
		for (unsigned int j = 0; j < b->num_refs; j++)
			if (refs_conflict(&a->refs[i], &b->refs[j]))
				return true;
	}
	return false;
}
