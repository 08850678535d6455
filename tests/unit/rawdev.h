/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device under test with a guest that can forge everything: memory, virtqueues in which
 * every word can be written, and commands as bytes.  The well-behaved guest of other tests
 * is in guest.h.
 */
#ifndef RAWDEV_H
#define RAWDEV_H

#include <linux/virtio_rdma.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vrd.h"

#define RAW_BASE	0x40000000ULL		/* DMA address of the first byte */
#define RAW_SIZE	(64ULL << 20)
#define RAW_HOLE	0x30000000ULL		/* no memory at this address */
#define RAW_QUEUES	5			/* control, event, doorbell, two vectors */

struct raw_queue {
	uint16_t num;
	struct vring_desc *desc;
	uint16_t *avail;			/* flags, idx, ring[] */
	uint16_t *used;				/* flags, idx, then pairs of 32 bits */
	struct vrd_vq_config cfg;
	uint16_t seen;				/* used entries taken */
	int kick, call;
};

struct raw {
	struct vrd_engine *engine;
	struct vrd_device *dev;
	int memfd;
	uint8_t *mem;
	uint64_t next;				/* first free byte */
	uint64_t features;			/* negotiated by raw_recover() */
	struct raw_queue q[RAW_QUEUES];
	uint64_t req, rsp;			/* DMA addresses of command buffers */
	uint32_t used_len;			/* of the last command */
	int logged;				/* messages of the core */
};

/*
 * Engine and device; its memory table is set.  @features are virtio's own; those
 * of the device type are added.  Aborts if that fails.
 */
struct raw *raw_new(const struct vrd_limits *limits, uint64_t features);
void raw_free(struct raw *r);

/* A second device on the same engine with memory of its own. */
struct raw *raw_new_peer(struct raw *r, const struct vrd_limits *limits, uint64_t features);

uint64_t raw_alloc(struct raw *r, uint64_t pages);
void *raw_ptr(struct raw *r, uint64_t addr);
int raw_set_memory(struct raw *r);

/* Rings of @num entries, all zero, in unused pages; started. */
int raw_start(struct raw *r, unsigned int q, uint16_t num);
int raw_stop(struct raw *r, unsigned int q);
void raw_kick(struct raw *r, unsigned int q);
/* The first writes a descriptor at @i; the second makes a chain available at its head. */
void raw_desc(struct raw *r, unsigned int q, uint16_t i, uint64_t addr, uint32_t len,
	      uint16_t flags, uint16_t next);
void raw_offer(struct raw *r, unsigned int q, uint16_t head);
/* Waits for a used entry; false after @ms. */
bool raw_used(struct raw *r, unsigned int q, uint32_t *id, uint32_t *len, int ms);

/*
 * A command: request and response in two descriptors.  Returns the status, -1 without an
 * answer, -2 if not even a status was written.  @rsp gets @rsp_len bytes; bytes that the
 * device did not write are 0xee.
 */
int raw_cmd(struct raw *r, const void *req, uint32_t req_len, void *rsp, uint32_t rsp_len);

/* True if each of @len bytes is @v. */
static inline bool raw_filled_with(const void *p, uint8_t v, size_t len)
{
	const uint8_t *b = p;

	while (len--)
		if (*b++ != v)
			return false;
	return true;
}

/* Waits until vrd_device_is_broken(); false after a second. */
bool raw_broken(struct raw *r);
/* Reset; then queue 0 runs and INIT has been done, unless it failed. */
int raw_recover(struct raw *r);
int raw_init(struct raw *r);

/* The usual objects; zero if the device refused, with raw_status set. */
extern int raw_status;
uint32_t raw_ctx(struct raw *r, uint32_t flags);
uint32_t raw_pd(struct raw *r, uint32_t ctx);
uint32_t raw_cq(struct raw *r, uint32_t ctx, uint32_t entries, uint32_t vector);
uint32_t raw_srq(struct raw *r, uint32_t ctx, uint32_t pd);
/* A request with 16 entries of 128 and 64 bytes; the caller may change it. */
struct raw_qp_req {
	struct virtio_rdma_create_qp_req req;
	struct virtio_rdma_extent ext[8];
};
void raw_qp_fill(struct raw *r, struct raw_qp_req *q, uint8_t type, uint32_t ctx, uint32_t pd,
		 uint32_t scq, uint32_t rcq);
uint32_t raw_qp(struct raw *r, uint8_t type, uint32_t ctx, uint32_t pd, uint32_t scq,
		uint32_t rcq);
int raw_destroy(struct raw *r, uint32_t opcode, uint32_t handle);
int raw_modify(struct raw *r, uint32_t qpn, uint32_t mask, const struct virtio_rdma_qp_attr *a);
struct virtio_rdma_add_gid_req raw_gid_fill(struct raw *r, uint32_t index, const uint8_t gid[16]);
int raw_add_gid(struct raw *r, uint32_t index, const uint8_t gid[16]);
void raw_link_local(struct raw *r, uint8_t gid[16]);
int raw_reg_mr(struct raw *r, uint32_t pd, uint32_t access, uint64_t iova, uint64_t length,
	       const struct virtio_rdma_extent *ext, uint32_t num, uint64_t total,
	       struct virtio_rdma_reg_mr_rsp *rsp);

/* Number of @name in vrd_device_stats(), or UINT64_MAX. */
uint64_t raw_stat(struct raw *r, const char *name);

#endif /* RAWDEV_H */
