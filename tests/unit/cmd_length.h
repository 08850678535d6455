/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Length of the fixed part of each command's request, as today's driver sends
 * it.  The test guests put it into headers that name no length, so that a test
 * only sets the length that it is about.
 */
#ifndef CMD_LENGTH_H
#define CMD_LENGTH_H

#include <endian.h>
#include <linux/virtio_rdma.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t cmd_length(uint32_t opcode)
{
#define CASE(op, type)	case VIRTIO_RDMA_CMD_##op: return sizeof(struct virtio_rdma_##type)
	switch (opcode) {
	CASE(INIT, init_req);
	CASE(QUERY_PORT, query_port_req);
	CASE(ADD_GID, add_gid_req);
	CASE(DEL_GID, del_gid_req);
	CASE(CREATE_CTX, create_ctx_req);
	CASE(DESTROY_CTX, destroy_req);
	CASE(ALLOC_PD, alloc_pd_req);
	CASE(DEALLOC_PD, destroy_req);
	CASE(REG_MR, reg_mr_req);
	CASE(REG_MR_MORE, reg_mr_more_req);
	CASE(REG_DMA_MR, reg_dma_mr_req);
	CASE(ALLOC_MR, alloc_mr_req);
	CASE(DEREG_MR, destroy_req);
	CASE(CREATE_CQ, create_cq_req);
	CASE(RESIZE_CQ, resize_cq_req);
	CASE(DESTROY_CQ, destroy_req);
	CASE(CREATE_QP, create_qp_req);
	CASE(MODIFY_QP, modify_qp_req);
	CASE(QUERY_QP, query_qp_req);
	CASE(DESTROY_QP, destroy_req);
	CASE(CREATE_BUF, create_buf_req);
	CASE(FILL_BUF, fill_buf_req);
	CASE(DESTROY_BUF, destroy_req);
	CASE(CREATE_SRQ, create_srq_req);
	CASE(MODIFY_SRQ, modify_srq_req);
	CASE(QUERY_SRQ, query_srq_req);
	CASE(DESTROY_SRQ, destroy_req);
	default:
		return sizeof(struct virtio_rdma_cmd_hdr);
	}
#undef CASE
}

/* What the header's length word should be; @req has @len bytes. */
static inline uint32_t cmd_length_word(const void *req, uint32_t len)
{
	struct virtio_rdma_cmd_hdr hdr;

	if (len < sizeof(hdr))
		return 0;
	memcpy(&hdr, req, sizeof(hdr));
	return hdr.length ? hdr.length : htole32(cmd_length(le32toh(hdr.opcode)));
}

#endif /* CMD_LENGTH_H */
