/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connected pair in which b has an SRQ, for the tests of SRQs: a sends, b's QP takes its
 * receives from the SRQ.
 */
#ifndef SRQ_PAIR_H
#define SRQ_PAIR_H

#include "mem_pair.h"

#define ENTRIES		16

#define WC(name)	VIRTIO_RDMA_WC_##name
#define S(name)		VIRTIO_RDMA_S_##name
#define IN(end, name)	mem_in_state(end, VIRTIO_RDMA_QPS_##name)
#define EVENT(name)	VIRTIO_RDMA_EVENT_##name

/* The test opens and closes the pair. */
extern struct mem_pair srq_pair;
extern struct guest_srq srq;		/* b's, of ENTRIES entries */

/* New QPs, RC or of @type, in RTS, and a new SRQ; patterns in both buffers. */
void srq_fresh(void);
void srq_fresh_type(uint8_t type);
void srq_drop(void);

void srq_recv(uint32_t cookie, uint32_t offset, uint32_t length);
/* From the start of a's buffer, by its QP or by another QP of a's. */
void srq_send(uint32_t length);
void srq_send_on(struct guest_qp *qp, uint8_t opcode, uint32_t length);

/* Checks the next completion at b; @length counts if @status is success. */
bool srq_received(uint32_t qpn, uint32_t cookie, uint32_t length, uint8_t status);
/* The next event of b's is this one, for the SRQ. */
bool srq_event(uint32_t type);

#endif /* SRQ_PAIR_H */
