/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of devices with both paths share: guests a and b on a host device that does
 * nothing (tests/null), and in fabrics.  null_receive() makes messages arrive from the host.
 */
#ifndef PATHS_H
#define PATHS_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_pair.h"
#include "null_verbs.h"
#include "tap.h"

#define SIGNALED	VIRTIO_RDMA_WQE_SIGNALED
#define W		VIRTIO_RDMA_WR_RDMA_WRITE
#define SEND		VIRTIO_RDMA_WR_SEND
#define READ		VIRTIO_RDMA_WR_RDMA_READ
#define WC(name)	VIRTIO_RDMA_WC_##name
#define RTR		VIRTIO_RDMA_QPS_RTR
#define RTS		VIRTIO_RDMA_QPS_RTS
#define INIT		VIRTIO_RDMA_QPS_INIT
#define SQE		VIRTIO_RDMA_QPS_SQE
#define ERR		VIRTIO_RDMA_QPS_ERR
#define GRH		MEM_GRH
#define SRQ_ENTRIES	32

extern struct mem_pair p;

/* Both on the host's device, each in its own fabric. */
void paths_open(unsigned int pollers, const char *fabric_a, const char *fabric_b);

/* ---- ends, beside those of the pair ---- */

/* CQs and a QP, which mem_end_close() destroys. */
void open_end(struct mem_end *end, uint8_t type);
/* @to NULL, here and below: a peer that only the host can reach. */
void attr_to(struct mem_end *end, const struct mem_end *to);
/* To RTS. */
void bring_up(struct mem_end *end, const struct mem_end *to);
void connect_ends(struct mem_end *x, struct mem_end *y);

/* ---- data ---- */

/*
 * A message from the host, as null_receive() describes it.  Waits, because the poller may
 * not have posted the needed receive yet.
 */
bool arrives(struct mem_end *end, enum ibv_wc_status status, const void *data, uint32_t length);
/* Checks that the host's device accepts each kind of request and completes a receive. */
bool host_carries(struct mem_end *x);

struct virtio_rdma_av av_to(const struct mem_end *from, const struct mem_end *to);
/* Format that the host writes: header and payload. */
void datagram(uint8_t *to, uint32_t payload, uint32_t seed);

#endif /* PATHS_H */
