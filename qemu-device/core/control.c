// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The table of commands, and the checks that are common to them: length, header, feature,
 * and room for the response.  Handlers need not repeat these checks.
 *
 * Control thread, dev->lock.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "control.h"
#include "request.h"
#include "trace.h"
#include "virtq.h"

#define MAX_RESPONSE	sizeof(((struct vrd_cmd *)0)->rsp_buf)


/* ---- commands ---------------------------------------------------------- */

struct vrd_command {
	const char *name;
	struct vrd_layout layout;
	vrd_cmd_fn *fn;
	uint64_t feature;		/* VRD_F() of the required feature, or 0 */
};

#define SIZE(name)	sizeof(struct virtio_rdma_##name)

/*
 * Lengths of a command that has not been extended since version 1 of the ABI.  When a
 * structure grows, its old length stays here as a number in *_min.
 */
#define PLAIN(req, rsp)			{ SIZE(req), SIZE(req), SIZE(rsp), SIZE(rsp), 0 }
#define EXTENTS(req, field, rsp)	{ SIZE(req), SIZE(req), SIZE(rsp), SIZE(rsp), \
					  offsetof(struct virtio_rdma_##req, field) }

static const struct vrd_command commands[] = {
	[VIRTIO_RDMA_CMD_INIT] = {
		"INIT", PLAIN(init_req, rsp_hdr), vrd_cmd_init
	},
	[VIRTIO_RDMA_CMD_QUERY_DEVICE] = {
		"QUERY_DEVICE", PLAIN(query_device_req, query_device_rsp), vrd_cmd_query_device
	},
	[VIRTIO_RDMA_CMD_QUERY_PORT] = {
		"QUERY_PORT", PLAIN(query_port_req, query_port_rsp), vrd_cmd_query_port
	},
	[VIRTIO_RDMA_CMD_ADD_GID] = {
		"ADD_GID", PLAIN(add_gid_req, rsp_hdr), vrd_cmd_add_gid
	},
	[VIRTIO_RDMA_CMD_DEL_GID] = {
		"DEL_GID", PLAIN(del_gid_req, rsp_hdr), vrd_cmd_del_gid
	},
	[VIRTIO_RDMA_CMD_CREATE_CTX] = {
		"CREATE_CTX", PLAIN(create_ctx_req, create_ctx_rsp), vrd_cmd_create_ctx
	},
	[VIRTIO_RDMA_CMD_DESTROY_CTX] = {
		"DESTROY_CTX", PLAIN(destroy_req, rsp_hdr), vrd_cmd_destroy_ctx
	},
	[VIRTIO_RDMA_CMD_ALLOC_PD] = {
		"ALLOC_PD", PLAIN(alloc_pd_req, alloc_pd_rsp), vrd_cmd_alloc_pd
	},
	[VIRTIO_RDMA_CMD_DEALLOC_PD] = {
		"DEALLOC_PD", PLAIN(destroy_req, rsp_hdr), vrd_cmd_dealloc_pd
	},
	[VIRTIO_RDMA_CMD_REG_MR] = {
		"REG_MR", EXTENTS(reg_mr_req, num_extents, reg_mr_rsp), vrd_cmd_reg_mr
	},
	[VIRTIO_RDMA_CMD_REG_MR_MORE] = {
		"REG_MR_MORE", EXTENTS(reg_mr_more_req, num_extents, reg_mr_rsp), vrd_cmd_reg_mr_more
	},
	[VIRTIO_RDMA_CMD_REG_DMA_MR] = {
		"REG_DMA_MR", PLAIN(reg_dma_mr_req, reg_mr_rsp), vrd_cmd_reg_dma_mr,
		VRD_F(DMA_KEY)
	},
	[VIRTIO_RDMA_CMD_DEREG_MR] = {
		"DEREG_MR", PLAIN(destroy_req, rsp_hdr), vrd_cmd_dereg_mr
	},
	[VIRTIO_RDMA_CMD_ALLOC_MR] = {
		"ALLOC_MR", PLAIN(alloc_mr_req, reg_mr_rsp), vrd_cmd_alloc_mr,
		VRD_F(MEM_MGT)
	},
	[VIRTIO_RDMA_CMD_CREATE_CQ] = {
		"CREATE_CQ", EXTENTS(create_cq_req, buf.num_extents, create_cq_rsp), vrd_cmd_create_cq
	},
	[VIRTIO_RDMA_CMD_RESIZE_CQ] = {
		"RESIZE_CQ", EXTENTS(resize_cq_req, buf.num_extents, rsp_hdr), vrd_cmd_resize_cq,
		VRD_F(RESIZE_CQ)
	},
	[VIRTIO_RDMA_CMD_DESTROY_CQ] = {
		"DESTROY_CQ", PLAIN(destroy_req, rsp_hdr), vrd_cmd_destroy_cq
	},
	[VIRTIO_RDMA_CMD_CREATE_QP] = {
		"CREATE_QP", EXTENTS(create_qp_req, buf.num_extents, create_qp_rsp), vrd_cmd_create_qp
	},
	[VIRTIO_RDMA_CMD_MODIFY_QP] = {
		"MODIFY_QP", PLAIN(modify_qp_req, rsp_hdr), vrd_cmd_modify_qp
	},
	[VIRTIO_RDMA_CMD_QUERY_QP] = {
		"QUERY_QP", PLAIN(query_qp_req, query_qp_rsp), vrd_cmd_query_qp
	},
	[VIRTIO_RDMA_CMD_DESTROY_QP] = {
		"DESTROY_QP", PLAIN(destroy_req, rsp_hdr), vrd_cmd_destroy_qp
	},
	[VIRTIO_RDMA_CMD_QUERY_STATS] = {
		"QUERY_STATS", PLAIN(query_stats_req, query_stats_rsp), vrd_cmd_query_stats
	},
	[VIRTIO_RDMA_CMD_CREATE_BUF] = {
		"CREATE_BUF", EXTENTS(create_buf_req, num_extents, create_buf_rsp),
		vrd_cmd_create_buf
	},
	[VIRTIO_RDMA_CMD_FILL_BUF] = {
		"FILL_BUF", EXTENTS(fill_buf_req, num_extents, rsp_hdr), vrd_cmd_fill_buf
	},
	[VIRTIO_RDMA_CMD_DESTROY_BUF] = {
		"DESTROY_BUF", PLAIN(destroy_req, rsp_hdr), vrd_cmd_destroy_buf
	},
	[VIRTIO_RDMA_CMD_CREATE_SRQ] = {
		"CREATE_SRQ", EXTENTS(create_srq_req, buf.num_extents, create_srq_rsp), vrd_cmd_create_srq,
		VRD_F(SRQ)
	},
	[VIRTIO_RDMA_CMD_MODIFY_SRQ] = {
		"MODIFY_SRQ", PLAIN(modify_srq_req, rsp_hdr), vrd_cmd_modify_srq,
		VRD_F(SRQ)
	},
	[VIRTIO_RDMA_CMD_QUERY_SRQ] = {
		"QUERY_SRQ", PLAIN(query_srq_req, query_srq_rsp), vrd_cmd_query_srq,
		VRD_F(SRQ)
	},
	[VIRTIO_RDMA_CMD_DESTROY_SRQ] = {
		"DESTROY_SRQ", PLAIN(destroy_req, rsp_hdr), vrd_cmd_destroy_srq,
		VRD_F(SRQ)
	},
};

_Static_assert(SIZE(create_qp_req) <= VRD_MAX_FIXED && SIZE(modify_qp_req) <= VRD_MAX_FIXED,
	       "the largest requests fit");
_Static_assert(SIZE(query_stats_rsp) <= MAX_RESPONSE && SIZE(query_device_rsp) <= MAX_RESPONSE,
	       "the largest responses fit");

static const struct vrd_command *find_command(uint32_t opcode)
{
	if (opcode >= sizeof(commands) / sizeof(commands[0]) || !commands[opcode].fn)
		return NULL;
	return &commands[opcode];
}

/* Each errno that a command returns has exactly one status. */
static uint32_t status_of(int ret)
{
	switch (-ret) {
	case 0:			return VIRTIO_RDMA_S_OK;
	case EINVAL:		return VIRTIO_RDMA_S_INVAL;
	case EOPNOTSUPP:	return VIRTIO_RDMA_S_UNSUPPORTED;
	case ENOMEM:		return VIRTIO_RDMA_S_NOMEM;
	case ENOENT:		return VIRTIO_RDMA_S_NOENT;
	case EBUSY:		return VIRTIO_RDMA_S_BUSY;
	case EPERM:		return VIRTIO_RDMA_S_PERM;
	case EFAULT:		return VIRTIO_RDMA_S_FAULT;
	case EEXIST:		return VIRTIO_RDMA_S_EXIST;
	case ETIMEDOUT:		return VIRTIO_RDMA_S_TIMEOUT;
	case ENODEV:		return VIRTIO_RDMA_S_NOT_READY;
	case EADDRNOTAVAIL:	return VIRTIO_RDMA_S_ADDR;
	default:		return VIRTIO_RDMA_S_IO;
	}
}

/* A command is executed only if its response can be written. */
static int check_room(struct vrd_cmd *cmd, const struct vrd_layout *layout)
{
	cmd->room = vrd_response_length(layout, cmd->elem->writable);
	if (!cmd->room)
		return -EINVAL;
	return vrd_vq_can_write(cmd->dev->vqs[VIRTIO_RDMA_VQ_CONTROL], cmd->elem, cmd->room) ?
	       0 : -EFAULT;
}

void vrd_command_check(struct vrd_cmd *cmd, const struct vrd_vq_elem *elem)
{
	const struct virtio_rdma_cmd_hdr *hdr = (const void *)cmd->raw;
	const struct vrd_command *c;

	cmd->req = cmd->fixed;
	cmd->refusal = -EINVAL;
	cmd->malformed = true;
	if (!cmd->rsp || cmd->req_len < sizeof(*hdr) || elem->readable > VRD_MAX_REQUEST)
		return;
	cmd->malformed = false;
	cmd->opcode = le32toh(hdr->opcode);
	c = find_command(cmd->opcode);
	cmd->command = c;
	cmd->refusal = -EOPNOTSUPP;
	if (!c || c->feature & ~cmd->dev->features)
		return;
	cmd->refusal = vrd_request_parse(&c->layout, cmd->raw, cmd->req_len, cmd->fixed,
					 &cmd->extents);
	if (!cmd->refusal)
		cmd->refusal = check_room(cmd, &c->layout);
}

int vrd_command_begin(struct vrd_cmd *cmd)
{
	/* INIT initialises the device; all other commands are refused before it. */
	if (!cmd->dev->initialised && cmd->opcode != VIRTIO_RDMA_CMD_INIT && !cmd->malformed)
		return -ENODEV;
	return cmd->refusal ? cmd->refusal : cmd->command->fn(cmd);
}

uint32_t vrd_command_end(struct vrd_cmd *cmd, int ret)
{
	struct virtio_rdma_rsp_hdr *rsp = cmd->rsp;
	const struct vrd_command *c = cmd->command;
	struct vrd_device *dev = cmd->dev;
	uint32_t status = status_of(ret);

	vrd_stat_add(dev, VIRTIO_RDMA_STAT_COMMANDS, 1);
	vrd_trace_command(dev->name, cmd->opcode, status, cmd->req_len);
	vrd_dev_log(dev, VRD_LOG_DEBUG, "command %s (%u), %u bytes: status %u",
		    c ? c->name : "?", cmd->opcode, cmd->req_len, status);
	if (!ret)
		return cmd->room;
	memset(cmd->rsp_buf, 0, sizeof(cmd->rsp_buf));
	rsp->status = htole32(status);
	return sizeof(*rsp);
}
