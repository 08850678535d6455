/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR Linux-OpenIB) */
/*
 * virtio-rdma: the interface between the driver and its rdma-core provider, by uverbs
 * commands.  The layout of the rings is the device ABI, <linux/virtio_rdma.h>.
 *
 * Requests contain a comp_mask: the kernel refuses a bit that it does not know with
 * EOPNOTSUPP.  Responses may be truncated to the length that the caller gave.
 */
#ifndef VIRTIO_RDMA_ABI_USER_H
#define VIRTIO_RDMA_ABI_USER_H

#include <linux/types.h>

/*
 * The ABI version, which the provider matches; changed when an old provider would
 * misinterpret the ABI.
 */
#define VIRTIO_RDMA_UVERBS_ABI_VERSION	1

/**
 * struct virtio_rdma_status_page - state of the device, read-only for processes
 * @alive:    1; 0 after the device has failed or was removed, and has been reset.
 *            After a disassociation the kernel maps a page of zeroes here, so the
 *            value is 0 as well.  Load with acquire ordering: what the device wrote
 *            before it was reset is read after it
 * @reserved: zero
 *
 * A process that polls makes no system call, so it reads the device's state here.
 */
struct virtio_rdma_status_page {
	__u32 alive;
	__u32 reserved;
};

/**
 * struct virtio_rdma_alloc_ucontext_resp
 * @comp_mask:       no bit defined
 * @db_mmap_size:    bytes of the doorbell page's mapping (a guest page)
 * @db_mmap_offset:  offset to mmap() it at, from the command fd, read/write:
 *                   struct virtio_rdma_db_page
 * @max_inline:      largest inline size of a send queue, bytes
 * @status_mmap_size: bytes of the status page's mapping (a guest page)
 * @status_mmap_offset: offset to mmap() it at, from the command fd, read-only:
 *                   struct virtio_rdma_status_page
 */
struct virtio_rdma_alloc_ucontext_resp {
	__u32 comp_mask;
	__u32 db_mmap_size;
	__aligned_u64 db_mmap_offset;
	__u32 max_inline;
	__u32 status_mmap_size;
	__aligned_u64 status_mmap_offset;
};

struct virtio_rdma_alloc_pd_resp {
	__u32 pdn;			/* PD number for the address vectors of UD WQEs */
	__u32 reserved;
};

/**
 * struct virtio_rdma_create_cq - request
 * @buf_addr:    page-aligned user address of the buffer, which the kernel pins
 * @buf_len:     bytes, a multiple of the guest's page size
 * @entries:     power of two, at least the cqe that was asked for
 * @cqe_size:    32
 * @ring_offset: of the ring in the buffer, 4096-aligned
 * @ctrl_offset: of struct virtio_rdma_cq_ctrl, 128-aligned
 * @comp_mask:   no bit defined
 * @reserved:    zero
 */
struct virtio_rdma_create_cq {
	__aligned_u64 buf_addr;
	__aligned_u64 buf_len;
	__u32 entries;
	__u32 cqe_size;
	__u32 ring_offset;
	__u32 ctrl_offset;
	__u32 comp_mask;
	__u32 reserved;
};

struct virtio_rdma_create_cq_resp {
	__u32 cqn;
	__u32 reserved;
};

/* As virtio_rdma_create_cq, for the new buffer. */
struct virtio_rdma_resize_cq {
	__aligned_u64 buf_addr;
	__aligned_u64 buf_len;
	__u32 entries;
	__u32 ring_offset;
	__u32 ctrl_offset;
	__u32 comp_mask;
};

/**
 * struct virtio_rdma_create_qp - request
 * @buf_addr:        page-aligned user address of the buffer
 * @buf_len:         bytes, a multiple of the guest's page size
 * @sq_entries:      power of two, or 0
 * @rq_entries:      power of two, or 0 (with an SRQ)
 * @sq_offset:       of the send ring, 4096-aligned
 * @rq_offset:       of the receive ring, 4096-aligned
 * @sq_ctrl_offset:  of its struct virtio_rdma_ring_ctrl, 128-aligned
 * @rq_ctrl_offset:  same, for the receive ring
 * @sq_stride_shift: entries of 64 << n bytes
 * @rq_stride_shift: entries of 32 << n bytes
 * @reserved:        zero
 * @comp_mask:       no bit defined
 */
struct virtio_rdma_create_qp {
	__aligned_u64 buf_addr;
	__aligned_u64 buf_len;
	__u32 sq_entries;
	__u32 rq_entries;
	__u32 sq_offset;
	__u32 rq_offset;
	__u32 sq_ctrl_offset;
	__u32 rq_ctrl_offset;
	__u8  sq_stride_shift;
	__u8  rq_stride_shift;
	__u8  reserved[2];
	__u32 comp_mask;
};

struct virtio_rdma_create_qp_resp {
	__u32 qpn;
	__u32 sq_slot;			/* dirty byte in the doorbell page */
	__u32 rq_slot;
	__u32 reserved;
};

/**
 * struct virtio_rdma_create_srq - request
 * @buf_addr:     page-aligned user address of the buffer
 * @buf_len:      bytes, a multiple of the guest's page size
 * @entries:      power of two, at least the max_wr that was asked for
 * @ring_offset:  of the ring, 4096-aligned
 * @ctrl_offset:  of its struct virtio_rdma_ring_ctrl, 128-aligned
 * @stride_shift: entries of 32 << n bytes
 * @reserved0:    zero
 * @comp_mask:    no bit defined
 * @reserved:     zero
 */
struct virtio_rdma_create_srq {
	__aligned_u64 buf_addr;
	__aligned_u64 buf_len;
	__u32 entries;
	__u32 ring_offset;
	__u32 ctrl_offset;
	__u8  stride_shift;
	__u8  reserved0[3];
	__u32 comp_mask;
	__u32 reserved;
};

struct virtio_rdma_create_srq_resp {
	__u32 srqn;
	__u32 slot;			/* dirty byte in the doorbell page */
};

struct virtio_rdma_create_ah_resp {
	__u8  dmac[6];
	__u8  hop_limit;		/* as the kernel resolved it */
	__u8  reserved;
};

#endif /* VIRTIO_RDMA_ABI_USER_H */
