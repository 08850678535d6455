/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two test guests on one fabric, with what tests of transports need: a context, a PD, a
 * registered buffer and a QP each.
 *
 * "a" is the requester in most tests, "b" the responder.
 */
#ifndef MEM_PAIR_H
#define MEM_PAIR_H

#include <endian.h>
#include <string.h>

#include "guest.h"

#define MEM_BUF		(768U << 10)	/* more than the longest slice of a copy */
#define MEM_ALL_ACCESS	(VIRTIO_RDMA_ACCESS_LOCAL_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_WRITE | \
			 VIRTIO_RDMA_ACCESS_REMOTE_READ | VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC)
/* Maximum wait for something that must happen. */
#define MEM_WAIT_MS	10000
/* Wait for something that must not happen. */
#define MEM_QUIET_MS	30
#define MEM_QKEY	0x11223344	/* of every QP */
#define MEM_GRH		40		/* bytes that a receive gets before a datagram's payload */

/*
 * The thread sanitizer identifies memory by its address: with two mappings of the same pages
 * it would see no synchronisation between device and guest.
 */
#ifdef __SANITIZE_THREAD__
#define MEM_HOST_MAPPED	true
#else
#define MEM_HOST_MAPPED	false
#endif

struct mem_end {
	struct guest *g;
	struct guest_ctx ctx;
	uint32_t pd;
	uint8_t *buf;				/* MEM_BUF bytes, all rights */
	struct guest_mr mr;
	struct guest_cq scq, rcq;
	struct guest_srq *srq;			/* SRQ of its QP; NULL: none */
	struct guest_qp qp;
	struct virtio_rdma_qp_attr attr;	/* attributes with which its QP is connected */
};

struct mem_pair {
	struct vrd_engine *engine;
	struct mem_end a, b;
};

void mem_pair_open(struct mem_pair *p, unsigned int pollers, uint64_t mem_size);
/* With the given options for each; name, id and memory are set here. */
void mem_pair_open_with(struct mem_pair *p, unsigned int pollers, uint64_t mem_size,
			const struct guest_config *a, const struct guest_config *b);
void mem_pair_close(struct mem_pair *p);

/* CQs of 64 entries and RC QPs in RESET; attr gets defaults to connect them. */
void mem_pair_qps(struct mem_pair *p);
/* The same with the given sizes and types. */
void mem_pair_qps_init(struct mem_pair *p, const struct guest_qp_init *init, uint32_t cq_entries);
void mem_pair_drop_qps(struct mem_pair *p);
/* Both to RTS. */
void mem_pair_connect(struct mem_pair *p);
/* All steps: new QPs in RTS, patterns in both buffers. */
void mem_pair_fresh(struct mem_pair *p);

/* ---- one end ---- */

/* A context, a PD and a registered buffer of end->g. */
void mem_end_setup(struct mem_end *end);
/*
 * CQs and a QP in RESET; only the type and sizes of @init are used.  A copy of an end can
 * have them beside the end's own, on the same guest and buffer.
 */
void mem_end_open(struct mem_end *end, const struct guest_qp_init *init, uint32_t cq_entries);
/* Destroys them and discards the guest's events. */
void mem_end_close(struct mem_end *end);
void mem_drop_events(struct guest *g);

/* Defaults to connect it to the QP @dqpn at @dgid. */
void mem_attr_to(struct mem_end *end, const uint8_t dgid[16], uint32_t dqpn);
/* From RESET to @state (INIT, RTR, RTS) with end->attr; returns the last status. */
uint32_t mem_bring_up(struct mem_end *end, uint8_t state);
/* Only the last steps of it. */
uint32_t mem_to_rtr(struct mem_end *end);
uint32_t mem_to_rts(struct mem_end *end);
/* Both to RTS, each with its attr. */
void mem_connect(struct mem_end *x, struct mem_end *y);

/* ---- data ---- */

/* Fills the buffer with bytes that depend on @seed and their position. */
void mem_pattern(void *p, uint64_t length, uint32_t seed);
bool mem_has_pattern(const void *p, uint64_t length, uint32_t seed);
#define MEM_SEED_A	1U
#define MEM_SEED_B	2U
/* True if both buffers have the patterns of mem_pair_fresh(). */
bool mem_untouched(const struct mem_pair *p);

/* ---- what is expected ---- */

/* Returns the status of the next completion, or -1 if none arrives in time. */
int mem_status(struct guest_cq *cq);
/* The same, with the whole completion. */
int mem_cqe(struct guest_cq *cq, struct virtio_rdma_cqe *cqe);
/* @num completions with @status, of consecutive entries from @first on. */
bool mem_in_order(struct guest_cq *cq, uint8_t status, uint32_t first, uint32_t num);
/* True if the QP reaches the state in time. */
bool mem_in_state(struct mem_end *end, uint8_t state);
/* The next event is this one, for the end's QP. */
bool mem_event(struct mem_end *end, uint32_t type);
bool mem_no_event(struct mem_end *end);
/* This event arrives, possibly after others. */
bool mem_event_comes(struct guest *g, uint32_t type, uint32_t id, int timeout_ms);
bool mem_no_cqe(struct guest_cq *cq);

/* ---- work requests ---- */

/* A work request of one SGE from buf + @offset to the other's buf. */
struct mem_wr {
	struct guest_wr wr;
	struct guest_sge sge;
};

struct mem_wr mem_wr(struct mem_end *from, struct mem_end *to, uint8_t opcode, uint32_t length);
void mem_post(struct mem_end *end, struct mem_wr *w);
void mem_recv(struct mem_end *end, uint32_t offset, uint32_t length);
/* A receive of the end's SRQ: piece @slot of the buffer, with cookie MEM_COOKIE + @slot. */
void mem_post_srq(struct mem_end *end, uint32_t slot);
#define MEM_SLOT	4096U
#define MEM_COOKIE	0x5e000000U

struct virtio_rdma_av mem_av(const struct mem_end *from, const uint8_t dgid[16], uint32_t dqpn);
/* A datagram of @length bytes from buf + @offset; not rung yet. */
void mem_write_ud(struct mem_end *from, const struct virtio_rdma_av *av, uint32_t offset,
		  uint32_t length, uint16_t flags);

/* A SEND, a WRITE and a READ from @x to @y succeed, with the data compared. */
bool mem_carries(struct mem_end *x, struct mem_end *y, uint32_t seed);

#endif /* MEM_PAIR_H */
