/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Test guests whose QP 1 is that of the host's fabric (transports/mad/gsi.c) and whose other
 * objects use the memory transport: QP 1 and the MAD channel are tested without an RDMA
 * device of the host.
 */
#ifndef GSI_GUEST_H
#define GSI_GUEST_H

#include "guest.h"
#include "mad/mads.h"

#define GSI_QKEY	0x80010000U
#define GSI_RECV_LEN	(40U + VRD_MAD_LEN)
#define GSI_WAIT_MS	10000

struct gsi_guest {
	struct guest *g;
	struct guest_ctx ctx;
	uint32_t pd;
	struct guest_cq scq, rcq;
	uint8_t *buf;			/* sends, and behind them receives */
	struct guest_mr mr;
	struct guest_qp qp;
	uint8_t gid[16];		/* index 1 */
	unsigned int receives;		/* posted so far */
};

/*
 * Creates a private network namespace for this process, with these addresses on its loopback
 * device. Returns false if that is not possible here.
 */
bool gsi_network(const char *const *addresses, unsigned int num);

/* Device, QP 1 in RTS, @num_recv receives, and the GID that @address is. */
void gsi_guest_open(struct gsi_guest *gg, struct vrd_engine *engine, uint8_t id,
		    const char *fabric, const char *address, unsigned int num_recv);
void gsi_guest_close(struct gsi_guest *gg);

/*
 * Sends a MAD of bytes made from @seed, from GID @sgid_index; returns the status of its
 * completion.
 */
int gsi_send(struct gsi_guest *gg, uint8_t sgid_index, const uint8_t dgid[16], uint8_t seed);
/* The same, without waiting for the completion. */
void gsi_post(struct gsi_guest *gg, uint8_t sgid_index, const uint8_t dgid[16], const void *mad,
	      uint32_t length);
void gsi_fill(uint8_t mad[VRD_MAD_LEN], uint8_t seed);

/* Returns the 40 + 256 bytes of the next receive, or NULL if none arrives in @timeout_ms. */
const uint8_t *gsi_recv(struct gsi_guest *gg, struct virtio_rdma_cqe *cqe, int timeout_ms);
/* True if it is the MAD of @seed, sent from @sgid. */
bool gsi_got(struct gsi_guest *gg, uint8_t seed, const uint8_t sgid[16], int timeout_ms);
void gsi_post_recv(struct gsi_guest *gg, uint32_t length);

uint64_t gsi_stat(struct gsi_guest *gg, const char *name);
uint64_t gsi_engine_stat(struct vrd_engine *engine, const char *name);

/* Converts "10.1.0.1" or "fd00::1" to a GID. */
void gsi_gid(uint8_t gid[16], const char *address);

/*
 * Creates a file with a key of @bytes, in a folder that is removed with the process; returns
 * its path.
 */
const char *gsi_key_file(const char *name, const char *bytes, unsigned int mode);

#endif /* GSI_GUEST_H */
