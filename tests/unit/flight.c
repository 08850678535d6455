// SPDX-License-Identifier: GPL-2.0-or-later
/* Several commands of one guest at a time.  See flight.h. */
#include <endian.h>
#include <string.h>

#include "flight.h"

#define CMD(name)	VIRTIO_RDMA_CMD_##name
#define S(name)		VIRTIO_RDMA_S_##name
#define STATE		VIRTIO_RDMA_QP_STATE

#define SLOT_BYTES	1024U
#define RSP_OFFSET	768U
#define SOON_MS		5000

void flight_begin(struct flight *f, struct guest *g)
{
	memset(f, 0, sizeof(*f));
	f->g = g;
	f->mem = guest_alloc(g, FLIGHT_SLOTS * SLOT_BYTES);
}

void flight_end(struct flight *f)
{
	guest_free(f->g, f->mem, FLIGHT_SLOTS * SLOT_BYTES);
}

void *flight_rsp(struct flight *f, unsigned int slot)
{
	return f->mem + slot * SLOT_BYTES + RSP_OFFSET;
}

void flight_send(struct flight *f, unsigned int slot, uint32_t op, void *req, uint32_t len,
		     uint32_t fixed)
{
	struct guest_vq *vq = &f->g->vqs[VIRTIO_RDMA_VQ_CONTROL];
	uint8_t *at = f->mem + slot * SLOT_BYTES;
	struct guest_desc desc[2] = {
		{ guest_addr(f->g, at), len, 0 },
		{ guest_addr(f->g, at + RSP_OFFSET), SLOT_BYTES - RSP_OFFSET, 2 },
	};

	*(struct virtio_rdma_cmd_hdr *)req = (struct virtio_rdma_cmd_hdr){
		.opcode = htole32(op), .length = htole32(fixed),
	};
	memcpy(at, req, len);
	memset(at + RSP_OFFSET, 0xee, SLOT_BYTES - RSP_OFFSET);
	f->answered[slot] = false;
	guest_vq_add(vq, 2 + 2 * slot, desc, 2);
	guest_vq_kick(vq);
}


bool flight_wait(struct flight *f, unsigned int slot, int timeout_ms)
{
	struct guest_vq *vq = &f->g->vqs[VIRTIO_RDMA_VQ_CONTROL];
	uint32_t id, len;

	while (!f->answered[slot]) {
		if (!guest_vq_wait(vq, &id, &len, timeout_ms))
			return false;
		if (id < 2 || id >= 2 + 2 * FLIGHT_SLOTS || id & 1)
			guest_fatal("used element %u", id);
		f->answered[id / 2 - 1] = true;
		f->order[f->num_answered++] = id / 2 - 1;
	}
	return true;
}

int flight_status(struct flight *f, unsigned int slot, int timeout_ms)
{
	if (!flight_wait(f, slot, timeout_ms))
		return -1;
	return (int)le32toh(((struct virtio_rdma_rsp_hdr *)flight_rsp(f, slot))->status);
}

void send_modify(struct flight *f, unsigned int slot, uint32_t qpn, uint8_t state)
{
	struct virtio_rdma_modify_qp_req req = {
		.qpn = htole32(qpn), .mask = htole32(STATE), .attr.state = state,
	};

	FLIGHT_SEND(f, slot, MODIFY_QP, req);
}

void send_query(struct flight *f, unsigned int slot, uint32_t qpn)
{
	struct virtio_rdma_query_qp_req req = { .qpn = htole32(qpn) };

	FLIGHT_SEND(f, slot, QUERY_QP, req);
}

void send_destroy(struct flight *f, unsigned int slot, uint32_t op, uint32_t handle)
{
	struct virtio_rdma_destroy_req req = { .handle = htole32(handle) };

	flight_send(f, slot, op, &req, sizeof(req), sizeof(req));
}

void send_alloc_pd(struct flight *f, unsigned int slot, uint32_t ctx)
{
	struct virtio_rdma_alloc_pd_req req = { .ctx = htole32(ctx) };

	FLIGHT_SEND(f, slot, ALLOC_PD, req);
}

void send_reg_mr(struct flight *f, unsigned int slot, uint32_t pd)
{
	struct {
		struct virtio_rdma_reg_mr_req req;
		struct virtio_rdma_extent ext;
	} r = {
		.req = {
			.pd = htole32(pd), .access = htole32(1), .length = htole64(GUEST_PAGE),
			.iova = htole64(0x10000), .total_pages = htole64(1), .num_extents = htole32(1),
		},
		.ext = { .addr = htole64(f->g->base), .pages = htole32(1) },
	};

	FLIGHT_SEND_X(f, slot, REG_MR, r);
}

void send_create_qp(struct flight *f, unsigned int slot, const struct mem_end *end)
{
	struct {
		struct virtio_rdma_create_qp_req req;
		struct virtio_rdma_extent ext;
	} r = {
		.req = {
			.ctx = htole32(end->ctx.id), .pd = htole32(end->pd),
			.send_cqn = htole32(end->scq.cqn), .recv_cqn = htole32(end->rcq.cqn),
			.srqn = htole32(VIRTIO_RDMA_NONE), .qp_type = VIRTIO_RDMA_QPT_RC,
			.buf.num_extents = htole32(1),
		},
		.ext = { .addr = htole64(f->g->base), .pages = htole32(1) },
	};

	FLIGHT_SEND_X(f, slot, CREATE_QP, r);
}

bool serves_pd(struct guest *g, uint32_t ctx)
{
	struct flight f;
	bool good;

	flight_begin(&f, g);
	send_alloc_pd(&f, 100, ctx);
	good = flight_status(&f, 100, SOON_MS) == S(OK);
	if (good) {
		send_destroy(&f, 101, CMD(DEALLOC_PD),
			     le32toh(((struct virtio_rdma_alloc_pd_rsp *)flight_rsp(&f, 100))->pd));
		good = flight_status(&f, 101, SOON_MS) == S(OK);
	}
	flight_end(&f);
	return good;
}

bool serves(struct guest *g, uint32_t ctx, uint32_t pd)
{
	struct flight f;
	bool good = serves_pd(g, ctx);
	uint32_t mr;

	flight_begin(&f, g);
	send_reg_mr(&f, 102, pd);
	good = flight_status(&f, 102, SOON_MS) == S(OK) && good;
	mr = le32toh(((struct virtio_rdma_reg_mr_rsp *)flight_rsp(&f, 102))->mr);
	send_destroy(&f, 103, CMD(DEREG_MR), mr);
	good = flight_status(&f, 103, SOON_MS) == S(OK) && good;
	flight_end(&f);
	return good;
}
