/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Trace points of the command engine: virtio_rdma:vrdma_cmd_start and
 * virtio_rdma:vrdma_cmd_end.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM virtio_rdma

#if !defined(VRDMA_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VRDMA_TRACE_H

#include <linux/tracepoint.h>

#include "vrdma.h"

#define vrdma_show_command(opcode)					\
	__print_symbolic(opcode,					\
		{ VIRTIO_RDMA_CMD_INIT,		"INIT" },		\
		{ VIRTIO_RDMA_CMD_QUERY_DEVICE,	"QUERY_DEVICE" },	\
		{ VIRTIO_RDMA_CMD_QUERY_PORT,	"QUERY_PORT" },		\
		{ VIRTIO_RDMA_CMD_ADD_GID,	"ADD_GID" },		\
		{ VIRTIO_RDMA_CMD_DEL_GID,	"DEL_GID" },		\
		{ VIRTIO_RDMA_CMD_CREATE_CTX,	"CREATE_CTX" },		\
		{ VIRTIO_RDMA_CMD_DESTROY_CTX,	"DESTROY_CTX" },	\
		{ VIRTIO_RDMA_CMD_ALLOC_PD,	"ALLOC_PD" },		\
		{ VIRTIO_RDMA_CMD_DEALLOC_PD,	"DEALLOC_PD" },		\
		{ VIRTIO_RDMA_CMD_REG_MR,	"REG_MR" },		\
		{ VIRTIO_RDMA_CMD_REG_MR_MORE,	"REG_MR_MORE" },	\
		{ VIRTIO_RDMA_CMD_REG_DMA_MR,	"REG_DMA_MR" },		\
		{ VIRTIO_RDMA_CMD_ALLOC_MR,	"ALLOC_MR" },		\
		{ VIRTIO_RDMA_CMD_DEREG_MR,	"DEREG_MR" },		\
		{ VIRTIO_RDMA_CMD_CREATE_CQ,	"CREATE_CQ" },		\
		{ VIRTIO_RDMA_CMD_RESIZE_CQ,	"RESIZE_CQ" },		\
		{ VIRTIO_RDMA_CMD_DESTROY_CQ,	"DESTROY_CQ" },		\
		{ VIRTIO_RDMA_CMD_CREATE_QP,	"CREATE_QP" },		\
		{ VIRTIO_RDMA_CMD_MODIFY_QP,	"MODIFY_QP" },		\
		{ VIRTIO_RDMA_CMD_QUERY_QP,	"QUERY_QP" },		\
		{ VIRTIO_RDMA_CMD_DESTROY_QP,	"DESTROY_QP" },		\
		{ VIRTIO_RDMA_CMD_QUERY_STATS,	"QUERY_STATS" },	\
		{ VIRTIO_RDMA_CMD_CREATE_SRQ,	"CREATE_SRQ" },		\
		{ VIRTIO_RDMA_CMD_MODIFY_SRQ,	"MODIFY_SRQ" },		\
		{ VIRTIO_RDMA_CMD_QUERY_SRQ,	"QUERY_SRQ" },		\
		{ VIRTIO_RDMA_CMD_DESTROY_SRQ,	"DESTROY_SRQ" },	\
		{ VIRTIO_RDMA_CMD_CREATE_BUF,	"CREATE_BUF" },		\
		{ VIRTIO_RDMA_CMD_FILL_BUF,	"FILL_BUF" },		\
		{ VIRTIO_RDMA_CMD_DESTROY_BUF,	"DESTROY_BUF" })

TRACE_EVENT(vrdma_cmd_start,
	TP_PROTO(struct vrdma_dev *dev, u32 opcode),
	TP_ARGS(dev, opcode),
	TP_STRUCT__entry(
		__field(int, index)
		__field(u32, opcode)
	),
	TP_fast_assign(
		__entry->index = dev->vdev->index;
		__entry->opcode = opcode;
	),
	TP_printk("virtio%d %s", __entry->index,
		  vrdma_show_command(__entry->opcode))
);

TRACE_EVENT(vrdma_cmd_end,
	TP_PROTO(struct vrdma_dev *dev, u32 opcode, int ret),
	TP_ARGS(dev, opcode, ret),
	TP_STRUCT__entry(
		__field(int, index)
		__field(u32, opcode)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->index = dev->vdev->index;
		__entry->opcode = opcode;
		__entry->ret = ret;
	),
	TP_printk("virtio%d %s ret=%d", __entry->index,
		  vrdma_show_command(__entry->opcode), __entry->ret)
);

#endif /* VRDMA_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
