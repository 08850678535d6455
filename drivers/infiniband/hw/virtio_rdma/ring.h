/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Arithmetic of the rings: indices that run modulo 2^32, slots, phases and
 * entry sizes.  Pure functions of their arguments, so that tests can call them
 * without a device.
 */
#ifndef VRDMA_RING_H
#define VRDMA_RING_H

#include <linux/align.h>
#include <linux/bits.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/types.h>
#include <linux/virtio_rdma.h>

#define VRDMA_SQ_MIN_SHIFT	6	/* entries of 64 << n bytes, n = 0..6 */
#define VRDMA_SQ_MAX_STRIDE	6
#define VRDMA_RQ_MIN_SHIFT	5	/* entries of 32 << n bytes, n = 0..7 */
#define VRDMA_RQ_MAX_STRIDE	7
#define VRDMA_CQE_SHIFT		5
#define VRDMA_CTRL_ALIGN	128

/*
 * Limits of the format: an entry has at most one page, and the number of entries,
 * rounded up to a power of two, has 32 bits.
 */
#define VRDMA_MAX_ENTRIES	BIT(31)
#define VRDMA_MAX_SEND_SGE						     \
	((VIRTIO_RDMA_PAGE_SIZE - sizeof(struct virtio_rdma_rc_wqe)) /	     \
	 sizeof(struct virtio_rdma_sge))
#define VRDMA_MAX_SEND_SGE_UD						     \
	((VIRTIO_RDMA_PAGE_SIZE - sizeof(struct virtio_rdma_ud_wqe)) /	     \
	 sizeof(struct virtio_rdma_sge))
#define VRDMA_MAX_RECV_SGE						     \
	((VIRTIO_RDMA_PAGE_SIZE - sizeof(struct virtio_rdma_recv_wqe)) /	     \
	 sizeof(struct virtio_rdma_sge))
#define VRDMA_MAX_INLINE						     \
	(VIRTIO_RDMA_PAGE_SIZE - sizeof(struct virtio_rdma_rc_wqe))

static_assert(sizeof(struct virtio_rdma_cqe) == 1 << VRDMA_CQE_SHIFT);
static_assert(sizeof(struct virtio_rdma_ring_ctrl) == VRDMA_CTRL_ALIGN);
static_assert(sizeof(struct virtio_rdma_cq_ctrl) == VRDMA_CTRL_ALIGN);

/* Number of entries between two free-running indices. */
static inline u32 vrdma_ring_used(u32 head, u32 tail)
{
	return head - tail;
}

static inline bool vrdma_ring_full(u32 head, u32 tail, u32 entries)
{
	return vrdma_ring_used(head, tail) >= entries;
}

/*
 * Whether @index names an entry that is posted and not yet completed.  The
 * device wrote @index, so it may be anything.
 */
static inline bool vrdma_ring_holds(u32 head, u32 tail, u32 index)
{
	return index - tail < head - tail;
}

/* Byte offset of entry @index in a ring of 2^n @entries of 1 << @shift bytes. */
static inline u32 vrdma_ring_offset(u32 index, u32 entries, u8 shift)
{
	return (index & (entries - 1)) << shift;
}

/* Phase of the CQE with number @index: 1 in the first lap. */
static inline u8 vrdma_cqe_phase(u32 index, u32 entries)
{
	return !(index & entries);
}

/* Stride exponent n of the smallest entry of (1 << min_shift) << n bytes. */
static inline u8 vrdma_stride(u32 bytes, u8 min_shift)
{
	u32 shift = ilog2(roundup_pow_of_two(max_t(u32, bytes, 1)));

	return shift > min_shift ? shift - min_shift : 0;
}

/* Bytes of a send entry with @sge entries or @inl inline bytes. */
static inline u32 vrdma_send_wqe_size(bool datagram, u32 sge, u32 inl)
{
	u32 head = datagram ? sizeof(struct virtio_rdma_ud_wqe) :
			      sizeof(struct virtio_rdma_rc_wqe);

	return head + max_t(u32, sge * sizeof(struct virtio_rdma_sge), inl);
}

static inline u32 vrdma_recv_wqe_size(u32 sge)
{
	return sizeof(struct virtio_rdma_recv_wqe) +
	       sge * sizeof(struct virtio_rdma_sge);
}

/*
 * Whether @count entries of 1 << @shift bytes at @offset lie in a buffer of
 * @len bytes, with @offset a multiple of @align.  A process wrote @offset.
 */
static inline bool vrdma_range_ok(u64 len, u32 offset, u32 count, u8 shift,
				  u32 align)
{
	u64 bytes = (u64)count << shift;

	return IS_ALIGNED(offset, align) && bytes <= len &&
	       offset <= len - bytes;
}

/*
 * Returns the next arm word.  If an arming for any CQE is pending (not answered by
 * @fired), a later request for solicited CQEs does not replace its condition.
 */
static inline u32 vrdma_arm_next(u32 arm, u32 fired, bool solicited)
{
	u32 what = solicited ? VIRTIO_RDMA_ARM_SOLICITED : VIRTIO_RDMA_ARM_ANY;

	if (arm != fired && (arm & VIRTIO_RDMA_ARM_ANY))
		what = VIRTIO_RDMA_ARM_ANY;
	return (((arm >> VIRTIO_RDMA_ARM_SEQ_SHIFT) + 1) <<
		VIRTIO_RDMA_ARM_SEQ_SHIFT) | what;
}

#endif /* VRDMA_RING_H */
