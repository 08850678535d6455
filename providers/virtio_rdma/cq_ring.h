/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Completion rings: validity, consumption, arming and removal of a QP's
 * entries. Depends on the device ABI and on nothing of libibverbs, like ring.h.
 *
 * Threading: the caller holds the CQ's lock.
 */
#ifndef VRDMA_CQ_RING_H
#define VRDMA_CQ_RING_H

#include <string.h>

#include "ring.h"

/**
 * struct vrdma_cq_ring - a ring of completions, the consumer's side
 * @cqes:     entry 0
 * @ctrl:     the words shared with the device
 * @mask:     entries - 1
 * @shift:    log2 of the number of entries: index >> shift counts the laps
 * @consumer: entries consumed
 */
struct vrdma_cq_ring {
	struct virtio_rdma_cqe *cqes;
	struct virtio_rdma_cq_ctrl *ctrl;
	uint32_t mask;
	uint32_t shift;
	uint32_t consumer;
};

/* The last four bytes of a CQE, which the device stores at once. */
typedef uint32_t __attribute__((may_alias)) vrdma_cqe_word;

#define VRDMA_CQE_OPCODE(word)	((word) & 0xff)
#define VRDMA_CQE_STATUS(word)	(((word) >> 8) & 0xff)
#define VRDMA_CQE_FLAGS(word)	(((word) >> 16) & 0xff)
#define VRDMA_CQE_PHASE(word)	((word) >> 24)

/*
 * The type of the network header, at the position and with the numbers that
 * RoCE hardware (mlx5) uses to report it: the service level of a datagram's
 * completion.
 */
#define VRDMA_WC_L3_IPV6	1
#define VRDMA_WC_L3_IPV4	2
#define VRDMA_WC_L3_UDP		8	/* RoCE v2: a UDP header follows */

/*
 * The service level that a process sees.  A RoCE v2 packet carries no service
 * level, and struct ibv_wc has no field for the type of the header, which IBTA
 * A17.4.5.1 demands for datagrams.  UCX 1.11 to 1.18 read the type from the
 * service level, and drop each IPv4 datagram whose completion does not report
 * it.
 */
static inline uint8_t vrdma_cqe_sl(const struct virtio_rdma_cqe *cqe,
				   uint32_t word)
{
	uint32_t flags = VRDMA_CQE_FLAGS(word);

	if (!(flags & VIRTIO_RDMA_CQE_GRH))
		return cqe->sl;
	return VRDMA_WC_L3_UDP | (flags & VIRTIO_RDMA_CQE_IPV4 ?
				  VRDMA_WC_L3_IPV4 : VRDMA_WC_L3_IPV6);
}

static inline struct virtio_rdma_cqe *
vrdma_cq_ring_entry(const struct vrdma_cq_ring *ring, uint32_t index)
{
	return &ring->cqes[index & ring->mask];
}

/*
 * Returns the CQE at @index and its last word, or NULL while the entry belongs
 * to the device. Acquire: the rest of the CQE, and what the operation wrote
 * into the user's memory, is read after the phase.
 */
static inline struct virtio_rdma_cqe *
vrdma_cq_ring_peek(const struct vrdma_cq_ring *ring, uint32_t index,
		   uint32_t *word)
{
	struct virtio_rdma_cqe *cqe = vrdma_cq_ring_entry(ring, index);

	*word = le32toh((__force __le32)__atomic_load_n(
		(vrdma_cqe_word *)(void *)&cqe->opcode, __ATOMIC_ACQUIRE));
	if (VRDMA_CQE_PHASE(*word) != (~(index >> ring->shift) & 1))
		return NULL;
	return cqe;
}

/*
 * Returns the entries below @consumer to the device; release: they have been
 * read.
 */
static inline void vrdma_cq_ring_consume(struct vrdma_cq_ring *ring)
{
	vrdma_store_release(&ring->ctrl->consumer, ring->consumer);
}

/*
 * Makes the ring empty for good, whatever the device still writes: replaces it
 * by a single entry whose phase matches no lap.  The control words stay as they
 * are.
 */
static inline void vrdma_cq_ring_close(struct vrdma_cq_ring *ring)
{
	static struct virtio_rdma_cqe never = { .phase = 0xff };

	ring->cqes = &never;
	ring->mask = 0;
}

/*
 * Asks for an event.  @last is the word of the previous arming; the new one is
 * returned.  The caller polls the ring afterwards.  The barrier pairs with the
 * device's barrier between its store of a CQE and its load of the word: either
 * the caller finds the CQE or the device finds the arming.
 */
static inline uint32_t vrdma_cq_ring_arm(struct vrdma_cq_ring *ring,
					 uint32_t last, bool solicited)
{
	uint32_t what = solicited ? VIRTIO_RDMA_ARM_SOLICITED :
				    VIRTIO_RDMA_ARM_ANY;
	uint32_t arm;

	/*
	 * A pending request for any completion stays one, even if the new one
	 * is for solicited only.
	 */
	if ((last & VIRTIO_RDMA_ARM_WHAT_MASK) == VIRTIO_RDMA_ARM_ANY &&
	    vrdma_load(&ring->ctrl->fired) != last)
		what = VIRTIO_RDMA_ARM_ANY;

	arm = (((last >> VIRTIO_RDMA_ARM_SEQ_SHIFT) + 1)
	       << VIRTIO_RDMA_ARM_SEQ_SHIFT) | what;
	vrdma_store(&ring->ctrl->arm, arm);
	vrdma_full_barrier();
	return arm;
}

/* Returns the index after the newest valid CQE. */
static inline uint32_t
vrdma_cq_ring_producer(const struct vrdma_cq_ring *ring)
{
	uint32_t index = ring->consumer;
	uint32_t word;

	while (index - ring->consumer <= ring->mask &&
	       vrdma_cq_ring_peek(ring, index, &word))
		index++;
	return index;
}

/* Copies a CQE without its phase, which belongs to the slot. */
static inline void vrdma_cqe_move(struct virtio_rdma_cqe *to,
				  const struct virtio_rdma_cqe *from)
{
	memcpy(to, from, offsetof(struct virtio_rdma_cqe, phase));
}

/*
 * The SRQ that a CQE belongs to, or 0.  A receive from an SRQ belongs to the
 * SRQ, even after its QP was destroyed; all other CQEs belong to their QP.
 */
static inline uint32_t vrdma_cqe_srqn(const struct virtio_rdma_cqe *cqe)
{
	return cqe->opcode & VIRTIO_RDMA_WC_RECV_BIT ? le32toh(cqe->srqn) : 0;
}

/*
 * Removes a QP's own CQEs, or those of an SRQ if @srqn is not 0; the device
 * adds no more of them. The remaining CQEs move towards the newest entry, so
 * that the consumer index can pass the room that became free.  All of these
 * slots belong to the driver.
 */
static inline void vrdma_cq_ring_purge(struct vrdma_cq_ring *ring,
				       uint32_t qpn, uint32_t srqn)
{
	uint32_t index = vrdma_cq_ring_producer(ring);
	struct virtio_rdma_cqe *cqe;
	uint32_t freed = 0;

	while (index != ring->consumer) {
		index--;
		cqe = vrdma_cq_ring_entry(ring, index);
		if (vrdma_cqe_srqn(cqe) == srqn &&
		    (srqn || le32toh(cqe->qpn) == qpn))
			freed++;
		else if (freed)
			vrdma_cqe_move(vrdma_cq_ring_entry(ring, index + freed),
				       cqe);
	}
	if (freed) {
		ring->consumer += freed;
		vrdma_cq_ring_consume(ring);
	}
}

#endif /* VRDMA_CQ_RING_H */
