/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The uverbs commands with the driver's part after the common part.  All
 * layouts come from the kernel's header.
 */
#ifndef VRDMA_ABI_H
#define VRDMA_ABI_H

#include <infiniband/kern-abi.h>
#include <rdma/virtio_rdma-abi.h>
#include <kernel-abi/virtio_rdma-abi.h>

DECLARE_DRV_CMD(vrdma_alloc_ucontext, IB_USER_VERBS_CMD_GET_CONTEXT,
		empty, virtio_rdma_alloc_ucontext_resp);
DECLARE_DRV_CMD(vrdma_alloc_pd, IB_USER_VERBS_CMD_ALLOC_PD,
		empty, virtio_rdma_alloc_pd_resp);
DECLARE_DRV_CMD(vrdma_create_cq, IB_USER_VERBS_EX_CMD_CREATE_CQ,
		virtio_rdma_create_cq, virtio_rdma_create_cq_resp);
DECLARE_DRV_CMD(vrdma_resize_cq, IB_USER_VERBS_CMD_RESIZE_CQ,
		virtio_rdma_resize_cq, empty);
DECLARE_DRV_CMD(vrdma_create_qp, IB_USER_VERBS_CMD_CREATE_QP,
		virtio_rdma_create_qp, virtio_rdma_create_qp_resp);
DECLARE_DRV_CMD(vrdma_create_srq, IB_USER_VERBS_CMD_CREATE_SRQ,
		virtio_rdma_create_srq, virtio_rdma_create_srq_resp);
DECLARE_DRV_CMD(vrdma_create_ah, IB_USER_VERBS_CMD_CREATE_AH,
		empty, virtio_rdma_create_ah_resp);

#endif /* VRDMA_ABI_H */
