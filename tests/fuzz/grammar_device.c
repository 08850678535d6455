// SPDX-License-Identifier: GPL-2.0-or-later
/* Commands for the device, GIDs, contexts, PDs and memory regions; for fuzz_commands.c. */
#include "grammar.h"

void do_init(struct fuzz_in *in, struct cmd_side *s)
{
	req.init = (struct virtio_rdma_init_req){
		.num_comp_vectors = htole32(fuzz_pick32(in, 2)),
	};
	if (cmd_send(in, s, VIRTIO_RDMA_CMD_INIT, sizeof(req.init),
		     sizeof(struct virtio_rdma_rsp_hdr)))
		cmd_forget_all(s);
}

void do_query(struct fuzz_in *in, struct cmd_side *s)
{
	memset(req.bytes, 0, 64);
	switch (fuzz_u8(in) % 4) {
	case 0:
		cmd_send(in, s, VIRTIO_RDMA_CMD_QUERY_DEVICE, sizeof(req.hdr),
			 sizeof(struct virtio_rdma_query_device_rsp));
		break;
	case 1:
		req.port.port_num = htole32(fuzz_pick32(in, 1));
		cmd_send(in, s, VIRTIO_RDMA_CMD_QUERY_PORT, sizeof(req.port),
			 sizeof(struct virtio_rdma_query_port_rsp));
		break;
	case 2:
		cmd_send(in, s, VIRTIO_RDMA_CMD_QUERY_STATS, sizeof(req.hdr),
			 sizeof(struct virtio_rdma_query_stats_rsp));
		break;
	default:
		req.query = (struct virtio_rdma_query_qp_req){ .qpn = cmd_handle(in, s, QP) };
		cmd_send(in, s, VIRTIO_RDMA_CMD_QUERY_QP, sizeof(req.query),
			 sizeof(struct virtio_rdma_query_qp_rsp));
	}
}

void do_gid(struct fuzz_in *in, struct cmd_side *s)
{
	uint8_t how = fuzz_u8(in);

	req.gid = (struct virtio_rdma_add_gid_req){
		.index = htole32(fuzz_pick32(in, how >> 3 & 31)),
		.gid_type = VIRTIO_RDMA_GID_ROCE_V2,
		.vlan_id = htole16(VIRTIO_RDMA_VLAN_NONE),
		.smac = { 2, 0, 0, 0, 0, how },
	};
	if (how & 1) {
		req.gid.gid_type = 0;
		req.gid.vlan_id = 0;
		cmd_send(in, s, VIRTIO_RDMA_CMD_DEL_GID, sizeof(struct virtio_rdma_del_gid_req),
			 sizeof(rsp.hdr));
		return;
	}
	if (how & 2)
		memcpy(req.gid.gid, (uint8_t[]){ [10] = 0xff, 0xff, 10, 0, 0, how >> 2 & 1 ? 3 :
						 fuzz_u8(in) }, 16);
	else if (how & 4)
		memcpy(req.gid.gid, cmd_sides[how % CMD_GUESTS].f.g->gid, 16);
	else
		fuzz_bytes(in, req.gid.gid, 16);
	cmd_send(in, s, VIRTIO_RDMA_CMD_ADD_GID, sizeof(req.gid), sizeof(rsp.hdr));
}

void do_ctx(struct fuzz_in *in, struct cmd_side *s)
{
	struct virtio_rdma_db_page *db = fuzz_guest_pages(&s->f, 1);
	struct cmd_object *o;

	req.ctx = (struct virtio_rdma_create_ctx_req){
		.flags = htole32(fuzz_pick32(in, fuzz_u8(in) & 1)),
		.db_page = htole64(fuzz_pick64(in, guest_addr(s->f.g, db))),
	};
	if (!cmd_send(in, s, VIRTIO_RDMA_CMD_CREATE_CTX, sizeof(req.ctx), sizeof(rsp.ctx)))
		return;
	o = cmd_add(s, CTX);
	*o = (struct cmd_object){
		.handle = le32toh(rsp.ctx.ctx),
		.ctx = { .g = s->f.g, .id = le32toh(rsp.ctx.ctx), .db = db },
	};
}

void do_pd(struct fuzz_in *in, struct cmd_side *s)
{
	req.pd = (struct virtio_rdma_alloc_pd_req){ .ctx = cmd_handle(in, s, CTX) };
	if (cmd_send(in, s, VIRTIO_RDMA_CMD_ALLOC_PD, sizeof(req.pd), sizeof(rsp.pd)))
		*cmd_add(s, PD) = (struct cmd_object){ .handle = le32toh(rsp.pd.pd) };
}

void do_mr(struct fuzz_in *in, struct cmd_side *s)
{
	uint32_t num_pages = (fuzz_u8(in) & 15) + 1, offset = fuzz_u8(in) * 16, n;
	uint8_t *pages = fuzz_guest_pages(&s->f, num_pages);
	uint32_t length = num_pages * GUEST_PAGE - offset;
	uint8_t how = fuzz_u8(in);
	uint64_t iova = (how & 1 ? 0 : how & 2 ? 0x7f0000000000ULL : guest_addr(s->f.g, pages)) +
		offset;
	struct cmd_object *o;

	req.mr = (struct virtio_rdma_reg_mr_req){
		.pd = cmd_handle(in, s, PD),
		.access = htole32(fuzz_pick32(in, how & 4 ? 0 : 15)),
		.iova = htole64(fuzz_pick64(in, iova)),
		.length = htole64(fuzz_pick64(in, length)),
		.total_pages = htole64(fuzz_pick64(in, num_pages)),
	};
	n = cmd_extents(in, s, req.mr.extents, pages, how & 8 ? 1 : num_pages);
	req.mr.num_extents = htole32(fuzz_pick32(in, n));
	if (!cmd_send(in, s, VIRTIO_RDMA_CMD_REG_MR, sizeof(req.mr) + n * 16, sizeof(rsp.mr)))
		return;
	o = cmd_add(s, MR);
	*o = (struct cmd_object){
		.handle = le32toh(rsp.mr.mr), .lkey = le32toh(rsp.mr.lkey),
		.rkey = le32toh(rsp.mr.rkey), .iova = iova, .length = length,
	};
	s->page = pages;
}

void do_mr_more(struct fuzz_in *in, struct cmd_side *s)
{
	uint32_t n;

	req.more = (struct virtio_rdma_reg_mr_more_req){ .mr = cmd_handle(in, s, MR) };
	n = cmd_extents(in, s, req.more.extents, s->page ? s->page + GUEST_PAGE : s->f.g->mem,
			(fuzz_u8(in) & 15) + 1);
	req.more.num_extents = htole32(fuzz_pick32(in, n));
	cmd_send(in, s, VIRTIO_RDMA_CMD_REG_MR_MORE, sizeof(req.more) + n * 16, sizeof(rsp.mr));
}

/* REG_DMA_MR, or if the access says so, ALLOC_MR. */
static void do_alloc_mr(struct fuzz_in *in, struct cmd_side *s, uint32_t entries)
{
	req.alloc_mr = (struct virtio_rdma_alloc_mr_req){
		.pd = cmd_handle(in, s, PD), .max_entries = htole32(entries),
	};
	if (cmd_send(in, s, VIRTIO_RDMA_CMD_ALLOC_MR, sizeof(req.alloc_mr), sizeof(rsp.mr)))
		*cmd_add(s, MR) = (struct cmd_object){
			.handle = le32toh(rsp.mr.mr), .lkey = le32toh(rsp.mr.lkey),
			.rkey = le32toh(rsp.mr.rkey), .iova = s->f.g->base, .length = 1 << 16,
		};
}

void do_dma_mr(struct fuzz_in *in, struct cmd_side *s)
{
	uint32_t access = fuzz_pick32(in, 15);

	if (access & 0x40) {
		do_alloc_mr(in, s, access >> 8);
		return;
	}
	req.dma = (struct virtio_rdma_reg_dma_mr_req){
		.pd = cmd_handle(in, s, PD), .access = htole32(access),
	};
	if (cmd_send(in, s, VIRTIO_RDMA_CMD_REG_DMA_MR, sizeof(req.dma), sizeof(rsp.mr)))
		*cmd_add(s, MR) = (struct cmd_object){
			.handle = le32toh(rsp.mr.mr), .lkey = le32toh(rsp.mr.lkey),
			.rkey = le32toh(rsp.mr.rkey), .iova = s->f.g->base, .length = 1 << 16,
		};
}
