/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several commands of one guest at a time, which it does not wait for; for tests of commands
 * that take long.  Each command has a slot, in which its request and response are.
 */
#ifndef FLIGHT_H
#define FLIGHT_H

#include "mem_pair.h"

#define FLIGHT_SLOTS	120U

/* Commands of one guest that it does not wait for, by slot; order[]: as they were answered. */
struct flight {
	struct guest *g;
	uint8_t *mem;
	bool answered[FLIGHT_SLOTS];
	unsigned int order[FLIGHT_SLOTS], num_answered;
};

void flight_begin(struct flight *f, struct guest *g);
void flight_end(struct flight *f);
void *flight_rsp(struct flight *f, unsigned int slot);

/* @fixed: bytes of the request before its extents. */
void flight_send(struct flight *f, unsigned int slot, uint32_t op, void *req, uint32_t len,
		 uint32_t fixed);
#define FLIGHT_SEND(f, slot, op, req) \
	flight_send(f, slot, VIRTIO_RDMA_CMD_##op, &(req), sizeof(req), sizeof(req))
/* With extents: @r.req is the fixed part. */
#define FLIGHT_SEND_X(f, slot, op, r) \
	flight_send(f, slot, VIRTIO_RDMA_CMD_##op, &(r), sizeof(r), sizeof((r).req))

/* True if that command was answered in time; others that are count as well. */
bool flight_wait(struct flight *f, unsigned int slot, int timeout_ms);
/* Its status, or -1 if it is not answered in time. */
int flight_status(struct flight *f, unsigned int slot, int timeout_ms);

void send_modify(struct flight *f, unsigned int slot, uint32_t qpn, uint8_t state);
void send_query(struct flight *f, unsigned int slot, uint32_t qpn);
void send_destroy(struct flight *f, unsigned int slot, uint32_t op, uint32_t handle);
void send_alloc_pd(struct flight *f, unsigned int slot, uint32_t ctx);
void send_reg_mr(struct flight *f, unsigned int slot, uint32_t pd);
/* No receive ring, no send ring: nothing but the objects that it names. */
void send_create_qp(struct flight *f, unsigned int slot, const struct mem_end *end);

/*
 * True if the device carries out commands of this guest: for a PD, or for a region as well.
 * They use slots of their own.
 */
bool serves_pd(struct guest *g, uint32_t ctx);
bool serves(struct guest *g, uint32_t ctx, uint32_t pd);

#endif /* FLIGHT_H */
