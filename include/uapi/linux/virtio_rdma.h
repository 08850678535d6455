/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/*
 * virtio-rdma: the device ABI.
 *
 * A virtio-rdma device (virtio device ID 42) gives its driver an RDMA port. Slow operations
 * and those of the kernel use virtqueues; the data path uses rings in the driver's memory:
 *
 *   virtqueue 0      control      driver -> device  verbs that create, modify and
 *                                                   destroy objects
 *   virtqueue 1      event        device -> driver  asynchronous events
 *   virtqueue 2      doorbell     driver -> device  only its notification is used
 *   virtqueue 3...   completion   device -> driver  "this armed CQ has a CQE"
 *
 * Send, receive and completion queues are rings of fixed-size entries in guest memory.  The
 * driver passes their pages as extents when it creates the object, and may map them into a
 * process.  An entry names memory only by (address, length, key), and the device checks each
 * key against its table of memory regions, so no entry of a ring can give access to
 * unregistered memory.
 *
 * Rules that hold everywhere:
 *  - fields are little-endian, except those that the wire defines as big-endian
 *    (__be32 immediate data, GIDs and MAC addresses, which are byte strings);
 *  - a DMA address is an address that the driver's DMA API returns;
 *  - a page is 4096 bytes, whatever the guest's own page size;
 *  - reserved fields are zero: the writer clears them, the reader refuses a
 *    request in which one is set (VIRTIO_RDMA_S_INVAL);
 *  - each shared word has one writer, which uses plain stores; the other side
 *    only loads.  (The dirty and summary bytes of the doorbell page are the
 *    exception: the driver sets them, the device clears them.)
 *
 * Documentation/device-spec.rst states the requirements on both sides; section numbers below
 * ("spec 4.2") refer to it.
 */
#ifndef _UAPI_LINUX_VIRTIO_RDMA_H
#define _UAPI_LINUX_VIRTIO_RDMA_H

#include <linux/types.h>

/* Reserved for RDMA by the virtio specification (section 5, device types). */
#ifndef VIRTIO_ID_RDMA
#define VIRTIO_ID_RDMA			42
#endif

#define VIRTIO_RDMA_PAGE_SHIFT		12
#define VIRTIO_RDMA_PAGE_SIZE		(1U << VIRTIO_RDMA_PAGE_SHIFT)

/* Virtqueue numbers (spec 2). */
#define VIRTIO_RDMA_VQ_CONTROL		0
#define VIRTIO_RDMA_VQ_EVENT		1
#define VIRTIO_RDMA_VQ_DOORBELL		2
#define VIRTIO_RDMA_VQ_COMP_BASE	3
/* Limited by vhost-user's 256 queues. */
#define VIRTIO_RDMA_MAX_COMP_VECTORS	253

/*
 * Feature bits: numbers of virtio feature bits (spec 3.1).  A device offers the features
 * that its transport supports.  The device refuses the commands, flags and opcodes of a
 * feature that was not negotiated.
 */
#define VIRTIO_RDMA_F_UC		0	/* QPs of type UC */
#define VIRTIO_RDMA_F_SRQ		1	/* shared receive queues */
#define VIRTIO_RDMA_F_ATOMIC		2	/* atomic among the QPs of this device */
#define VIRTIO_RDMA_F_ATOMIC_GLOBAL	3	/* and with the CPU's atomics; needs ATOMIC */
#define VIRTIO_RDMA_F_RESIZE_CQ		4	/* RESIZE_CQ */
#define VIRTIO_RDMA_F_DMA_KEY		5	/* REG_DMA_MR; all types in CTX_KERNEL */
#define VIRTIO_RDMA_F_RNR_NAK		6	/* RC has receiver-not-ready timing */
#define VIRTIO_RDMA_F_VLAN_GID		7	/* GIDs of VLANs: ADD_GID.vlan_id */
/* Layout only (spec 11): no device offers these features yet. */
#define VIRTIO_RDMA_F_MEM_MGT		8	/* ALLOC_MR; REG_MR, *_INV WQEs */
#define VIRTIO_RDMA_F_MW		9	/* ALLOC_MW, DEALLOC_MW; BIND_MW WQE */
#define VIRTIO_RDMA_F_XRC		10	/* XRC domains, SRQs and QPs; needs SRQ */
#define VIRTIO_RDMA_F_MCAST		11	/* ATTACH_MCAST, DETACH_MCAST */
#define VIRTIO_RDMA_F_ATOMIC_WRITE	12	/* ATOMIC_WRITE WQE */
#define VIRTIO_RDMA_F_FLUSH		13	/* FLUSH WQE; ACCESS_FLUSH_* */
#define VIRTIO_RDMA_F_CQ_MODERATION	14	/* MODIFY_CQ */
#define VIRTIO_RDMA_F_CQE_TIMESTAMP	15	/* CQEs of 64 bytes */

/**
 * struct virtio_rdma_config - device configuration space (spec 3.2), read-only
 * @mac:              Ethernet address of the netdev that the port pairs with
 * @num_comp_vectors: completion virtqueues that the device has, 1..253; the
 *                    driver may use the first few of them
 *
 * A later version may append fields.
 */
struct virtio_rdma_config {
	__u8   mac[6];
	__le16 num_comp_vectors;
};

/* ------------------------------------------------------------------ */
/* Control virtqueue (spec 4)                                          */
/* ------------------------------------------------------------------ */

/*
 * One command per descriptor chain: device-readable bytes first (the fixed part of the
 * request, which begins with its header, then the extents), then device-writable bytes
 * (status header, then the command's response).  The used length is the number of bytes
 * written.  On an error only the status header is written.
 *
 * Later versions append fields to requests and responses, in multiples of 8 bytes (spec
 * 4.1). A request contains the length of its fixed part.  If it is longer than the device
 * knows, the device accepts it if the rest is zero; if it is shorter, the device treats the
 * missing bytes as zero.  The device truncates a response to the room that the driver gave;
 * the driver treats missing bytes as zero.  Neither is shorter than in version 1, which is
 * the first release of this file.
 *
 * Several commands may be outstanding.  The device may complete them in any order, but
 * commands that name the same object take effect in the order of the available ring (spec
 * 4.2).
 */

/* Command numbers; never reused. */
#define VIRTIO_RDMA_CMD_INIT		1
#define VIRTIO_RDMA_CMD_QUERY_DEVICE	2
#define VIRTIO_RDMA_CMD_QUERY_PORT	3
#define VIRTIO_RDMA_CMD_ADD_GID		4
#define VIRTIO_RDMA_CMD_DEL_GID		5
#define VIRTIO_RDMA_CMD_CREATE_CTX	6
#define VIRTIO_RDMA_CMD_DESTROY_CTX	7
#define VIRTIO_RDMA_CMD_ALLOC_PD	8
#define VIRTIO_RDMA_CMD_DEALLOC_PD	9
#define VIRTIO_RDMA_CMD_REG_MR		10
#define VIRTIO_RDMA_CMD_REG_MR_MORE	11
#define VIRTIO_RDMA_CMD_REG_DMA_MR	12
#define VIRTIO_RDMA_CMD_DEREG_MR	13
#define VIRTIO_RDMA_CMD_CREATE_CQ	14
#define VIRTIO_RDMA_CMD_RESIZE_CQ	15
#define VIRTIO_RDMA_CMD_DESTROY_CQ	16
#define VIRTIO_RDMA_CMD_CREATE_QP	17
#define VIRTIO_RDMA_CMD_MODIFY_QP	18
#define VIRTIO_RDMA_CMD_QUERY_QP	19
#define VIRTIO_RDMA_CMD_DESTROY_QP	20
#define VIRTIO_RDMA_CMD_QUERY_STATS	21
#define VIRTIO_RDMA_CMD_CREATE_BUF	22
#define VIRTIO_RDMA_CMD_FILL_BUF	23
#define VIRTIO_RDMA_CMD_DESTROY_BUF	24
/* F_SRQ */
#define VIRTIO_RDMA_CMD_CREATE_SRQ	32
#define VIRTIO_RDMA_CMD_MODIFY_SRQ	33
#define VIRTIO_RDMA_CMD_QUERY_SRQ	34
#define VIRTIO_RDMA_CMD_DESTROY_SRQ	35
#define VIRTIO_RDMA_CMD_ALLOC_MR	36	/* F_MEM_MGT */
#define VIRTIO_RDMA_CMD_ALLOC_MW	37	/* F_MW */
#define VIRTIO_RDMA_CMD_DEALLOC_MW	38	/* F_MW */
#define VIRTIO_RDMA_CMD_ATTACH_MCAST	39	/* F_MCAST */
#define VIRTIO_RDMA_CMD_DETACH_MCAST	40	/* F_MCAST */
#define VIRTIO_RDMA_CMD_ALLOC_XRCD	41	/* F_XRC */
#define VIRTIO_RDMA_CMD_DEALLOC_XRCD	42	/* F_XRC */
#define VIRTIO_RDMA_CMD_MODIFY_CQ	43	/* F_CQ_MODERATION */

/* Status of a command, with the errno that a Linux driver returns for it. */
#define VIRTIO_RDMA_S_OK		0	/* 0 */
#define VIRTIO_RDMA_S_INVAL		1	/* EINVAL: a field out of range or not zero */
#define VIRTIO_RDMA_S_UNSUPPORTED	2	/* EOPNOTSUPP: unknown, or not negotiated */
#define VIRTIO_RDMA_S_NOMEM		3	/* ENOMEM: a limit or the memory is used up */
#define VIRTIO_RDMA_S_NOENT		4	/* ENOENT: no such object */
#define VIRTIO_RDMA_S_BUSY		5	/* EBUSY: other objects depend on it */
#define VIRTIO_RDMA_S_PERM		6	/* EPERM: the device's owner does not allow it */
#define VIRTIO_RDMA_S_FAULT		7	/* EFAULT: an address that is not guest RAM */
#define VIRTIO_RDMA_S_EXIST		8	/* EEXIST: the entry is in use */
#define VIRTIO_RDMA_S_IO		9	/* EIO: an operation of the host failed */
#define VIRTIO_RDMA_S_TIMEOUT		10	/* ETIMEDOUT: the host did not answer */
#define VIRTIO_RDMA_S_NOT_READY		11	/* ENODEV: INIT has not been done */
#define VIRTIO_RDMA_S_ADDR		12	/* EADDRNOTAVAIL: the host lacks this GID */

/* Largest fixed part of a request, of this version and all later ones, in bytes. */
#define VIRTIO_RDMA_MAX_CMD_FIXED	1024

/**
 * struct virtio_rdma_cmd_hdr - first bytes of each request
 * @opcode: VIRTIO_RDMA_CMD_*
 * @length: bytes of the fixed part, this header included: a multiple of 8, at
 *          most VIRTIO_RDMA_MAX_CMD_FIXED; the extents follow it
 */
struct virtio_rdma_cmd_hdr {
	__le32 opcode;
	__le32 length;
};

/**
 * struct virtio_rdma_rsp_hdr - first bytes of each response
 * @status:   VIRTIO_RDMA_S_*
 * @reserved: zero
 */
struct virtio_rdma_rsp_hdr {
	__le32 status;
	__le32 reserved;
};

/**
 * struct virtio_rdma_extent - a run of contiguous pages
 * @addr:     DMA address, page aligned
 * @pages:    length in pages of 4096 bytes, at least 1
 * @reserved: zero
 */
struct virtio_rdma_extent {
	__le64 addr;
	__le32 pages;
	__le32 reserved;
};

/* Maximum number of extents in one command. */
#define VIRTIO_RDMA_MAX_CMD_EXTENTS	4096

/*
 * INIT: the first command after DRIVER_OK.  Destroys every object of an earlier driver; the
 * device accesses none of their memory after the response.
 */
struct virtio_rdma_init_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 num_comp_vectors;	/* used vectors: 1..config.num_comp_vectors */
	__le32 reserved;
};

/* The limits of a feature that was not negotiated are zero. */
struct virtio_rdma_query_device_req {
	struct virtio_rdma_cmd_hdr hdr;
};

struct virtio_rdma_query_device_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le64 node_guid;		/* not zero; a number, as ib_device's in host order */
	__le64 fw_ver;			/* major << 32 | minor << 16 | sub, the device's */
	__le64 max_mr_size;		/* bytes */
	__le32 vendor_id;		/* IEEE OUI or PCI vendor id, not zero */
	__le32 vendor_part_id;
	__le32 hw_ver;
	__le32 max_ctx;
	__le32 max_pd;
	__le32 max_mr;
	__le32 max_cq;
	__le32 max_cqe;			/* entries of one CQ */
	__le32 max_qp;
	__le32 max_qp_wr;		/* entries of one SQ or RQ */
	__le32 max_send_sge;		/* of RC and UC */
	__le32 max_send_sge_ud;
	__le32 max_recv_sge;
	__le32 max_sge_rd;
	__le32 max_inline;		/* bytes */
	__le32 max_qp_rd_atom;
	__le32 max_qp_init_rd_atom;
	__le32 max_srq;			/* this and the next two: F_SRQ */
	__le32 max_srq_wr;		/* entries of one SRQ */
	__le32 max_srq_sge;
	__le32 max_mw;
	__le32 max_mcast_grp;
	__le32 max_mcast_qp_attach;
	__le32 max_fast_reg_pages;
	__le32 local_ca_ack_delay;	/* IBTA encoding: 4.096 us << n */
	__le32 max_xrcd;		/* F_XRC */
	__le32 max_cq_count;		/* F_CQ_MODERATION: CQEs, 1..65535 */
	__le32 max_cq_period;		/* F_CQ_MODERATION: microseconds, 1..65535 */
	__le64 page_sizes;		/* F_MEM_MGT: of REG_MR WQEs; bit n: 2^n bytes */
	__le64 timestamp_hz;		/* F_CQE_TIMESTAMP: ticks a second */
};

/* Port state: IBTA PortState. */
#define VIRTIO_RDMA_PORT_DOWN		1
#define VIRTIO_RDMA_PORT_INIT		2
#define VIRTIO_RDMA_PORT_ARMED		3
#define VIRTIO_RDMA_PORT_ACTIVE		4

struct virtio_rdma_query_port_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 port_num;		/* 1 */
	__le32 reserved;
};

struct virtio_rdma_query_port_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__u8   state;			/* VIRTIO_RDMA_PORT_*, the device's side */
	__u8   max_mtu;			/* IBTA encoding: 1 = 256 ... 5 = 4096 bytes */
	__u8   active_mtu;		/* as max_mtu */
	__u8   active_width;		/* IBTA encoding: 1, 2, 4, 8, 16 = 1x, 4x, 8x, 12x, 2x */
	__le16 active_speed;		/* IBTA encoding, as enum ib_port_speed */
	__le16 pkey_tbl_len;
	__le32 gid_tbl_len;
	__le32 max_msg_sz;		/* bytes */
};

/* Types of GIDs: the numbers of enum ib_uverbs_gid_type. */
#define VIRTIO_RDMA_GID_ROCE_V2		2

/* virtio_rdma_add_gid_req.vlan_id: frames carry no VLAN tag */
#define VIRTIO_RDMA_VLAN_NONE		0xffff

/**
 * struct virtio_rdma_add_gid_req - ADD_GID (spec 4.6)
 * @index:     entry of the port's table, below gid_tbl_len, that has no GID now
 * @gid_type:  VIRTIO_RDMA_GID_*, else UNSUPPORTED
 * @reserved0: zero
 * @vlan_id:   VLAN of the netdev that has the address, 0..4094, with F_VLAN_GID;
 *             else VIRTIO_RDMA_VLAN_NONE
 * @gid:       RoCE v2: the IPv6 address, or the IPv4 address mapped into one
 * @smac:      source MAC of frames with this GID: unicast, not zero
 * @reserved1: zero
 *
 * PERM: the device's owner does not allow the GID.  EXIST: another device has the GID.
 */
struct virtio_rdma_add_gid_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 index;
	__u8   gid_type;
	__u8   reserved0;
	__le16 vlan_id;
	__u8   gid[16];
	__u8   smac[6];
	__u8   reserved1[2];
};

struct virtio_rdma_del_gid_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 index;
	__le32 reserved;
};

/*
 * A context owns a doorbell page and rings: one context for the driver's own use, one for
 * each process that opened the device.
 */
#define VIRTIO_RDMA_CTX_KERNEL		(1U << 0)	/* its QPs may use the DMA key and QP 1 */

struct virtio_rdma_create_ctx_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 flags;			/* VIRTIO_RDMA_CTX_* */
	__le32 reserved;
	__le64 db_page;			/* DMA address of its doorbell page */
};

struct virtio_rdma_create_ctx_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 ctx;
	__le32 reserved;
};

/* DESTROY_CTX, DEALLOC_PD, DEREG_MR, DESTROY_CQ, DESTROY_QP, DESTROY_SRQ, DESTROY_BUF */
struct virtio_rdma_destroy_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 handle;			/* ctx, pd, MR handle, cqn, qpn, srqn, buf */
	__le32 reserved;
};

struct virtio_rdma_alloc_pd_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 ctx;
	__le32 reserved;
};

struct virtio_rdma_alloc_pd_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 pd;
	__le32 reserved;
};

/* Access rights of IBTA, with the bit numbers of enum ib_access_flags. */
#define VIRTIO_RDMA_ACCESS_LOCAL_WRITE		(1U << 0)
#define VIRTIO_RDMA_ACCESS_REMOTE_WRITE		(1U << 1)
#define VIRTIO_RDMA_ACCESS_REMOTE_READ		(1U << 2)
#define VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC	(1U << 3)
#define VIRTIO_RDMA_ACCESS_MW_BIND		(1U << 4)
#define VIRTIO_RDMA_ACCESS_ZERO_BASED		(1U << 5)
#define VIRTIO_RDMA_ACCESS_FLUSH_GLOBAL		(1U << 8)	/* F_FLUSH: globally visible */
#define VIRTIO_RDMA_ACCESS_FLUSH_PERSISTENT	(1U << 9)	/* F_FLUSH: persistent */

/*
 * REG_MR: a region of [iova, iova + length).  The pages are the extents in order; the first
 * byte is at offset (iova % 4096) of the first page.  If total_pages exceeds the pages of
 * this request, REG_MR_MORE adds the others, in order.  Each response is a
 * virtio_rdma_reg_mr_rsp; the keys are those of the last response, and are valid from then
 * on.
 */
struct virtio_rdma_reg_mr_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 pd;
	__le32 access;			/* VIRTIO_RDMA_ACCESS_* */
	__le64 iova;
	__le64 length;			/* bytes, 1..max_mr_size, no wrap of iova */
	__le64 total_pages;		/* number of pages in [iova, iova + length) */
	__le32 num_extents;		/* in this request, 1..MAX_CMD_EXTENTS */
	__le32 reserved;
	struct virtio_rdma_extent extents[];
};

struct virtio_rdma_reg_mr_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 mr;			/* handle */
	__le32 lkey;
	__le32 rkey;
	__le32 reserved;
};

struct virtio_rdma_reg_mr_more_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 mr;
	__le32 num_extents;
	struct virtio_rdma_extent extents[];
};

/*
 * REG_DMA_MR: all of guest memory, addressed by DMA address; its keys are valid only on QPs
 * of a CTX_KERNEL context.  Response: virtio_rdma_reg_mr_rsp.
 */
struct virtio_rdma_reg_dma_mr_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 pd;
	__le32 access;
};

/*
 * Key for local access to all of guest memory, without registration, on QPs of a CTX_KERNEL
 * context (ib_device.local_dma_lkey).  Never a remote key.
 */
#define VIRTIO_RDMA_LOCAL_DMA_LKEY	0xffffff00U

/*
 * CREATE_BUF, FILL_BUF, DESTROY_BUF (spec 4.13): a buffer of rings whose extents do not fit
 * one command.  Its pages are the extents of CREATE_BUF and of as many FILL_BUF as needed,
 * in order.  The object that is created with the handle takes the buffer over: after the
 * success of that command the handle no longer exists.
 */
struct virtio_rdma_create_buf_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 ctx;
	__le32 num_extents;		/* in this request, 1..MAX_CMD_EXTENTS */
	__le64 total_pages;		/* of the whole buffer, 1..2^20 */
	struct virtio_rdma_extent extents[];
};

struct virtio_rdma_create_buf_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 buf;			/* handle, not zero */
	__le32 reserved;
};

struct virtio_rdma_fill_buf_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 buf;
	__le32 num_extents;		/* in this request, 1..MAX_CMD_EXTENTS */
	struct virtio_rdma_extent extents[];
};

/**
 * struct virtio_rdma_buf - the memory that holds one object's rings
 * @num_extents: extents that follow the request, at most MAX_CMD_EXTENTS
 * @handle:      of CREATE_BUF, complete and of the same context; or 0.  One of the
 *               two is zero; both are for a QP without rings
 *
 * Offsets into the buffer are in bytes from the start of its first page.
 */
struct virtio_rdma_buf {
	__le32 num_extents;
	__le32 handle;
};

/* CREATE_CQ and RESIZE_CQ (spec 6). */
struct virtio_rdma_create_cq_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 ctx;
	__le32 entries;			/* power of two, 1..max_cqe rounded up */
	__le32 cqe_size;		/* 32; or 64 with F_CQE_TIMESTAMP */
	__le32 vector;			/* below init_req.num_comp_vectors */
	__le32 ring_offset;		/* of the ring, page aligned */
	__le32 ctrl_offset;		/* of struct virtio_rdma_cq_ctrl, 128-aligned */
	struct virtio_rdma_buf buf;
	struct virtio_rdma_extent extents[];
};

struct virtio_rdma_create_cq_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 cqn;
	__le32 reserved;
};

/*
 * RESIZE_CQ: after the response, new CQEs go to the new ring, from its entry 0 and phase 1.
 * Earlier CQEs stay in the old ring: the driver drains it first.
 */
struct virtio_rdma_resize_cq_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 cqn;
	__le32 entries;
	__le32 ring_offset;
	__le32 ctrl_offset;
	struct virtio_rdma_buf buf;
	struct virtio_rdma_extent extents[];
};

/* QP types. */
#define VIRTIO_RDMA_QPT_GSI		1	/* QP 1; only in CTX_KERNEL contexts */
#define VIRTIO_RDMA_QPT_RC		2
#define VIRTIO_RDMA_QPT_UC		3
#define VIRTIO_RDMA_QPT_UD		4
#define VIRTIO_RDMA_QPT_XRC_INI		5	/* F_XRC: sends; no receive ring */
#define VIRTIO_RDMA_QPT_XRC_TGT		6	/* F_XRC: receives by its XRC domain */

/* no SRQ; no slot in the doorbell page */
#define VIRTIO_RDMA_NONE		0xffffffffU

/* CREATE_QP (spec 4.11).  A QP with an SRQ has rq_entries 0. */
struct virtio_rdma_create_qp_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 ctx;
	__le32 pd;
	__le32 send_cqn;
	__le32 recv_cqn;
	__le32 srqn;			/* or VIRTIO_RDMA_NONE */
	__u8   qp_type;			/* VIRTIO_RDMA_QPT_* */
	__u8   sq_stride_shift;		/* an SQ entry is 64 << n bytes, n = 0..6 */
	__u8   rq_stride_shift;		/* an RQ entry is 32 << n bytes, n = 0..7 */
	__u8   reserved0;
	__le32 sq_entries;		/* power of two, or 0 */
	__le32 rq_entries;		/* power of two, or 0 */
	__le32 max_send_sge;
	__le32 max_recv_sge;
	__le32 max_inline;		/* bytes */
	__le32 sq_offset;		/* page aligned */
	__le32 rq_offset;		/* page aligned */
	__le32 sq_ctrl_offset;		/* of struct virtio_rdma_ring_ctrl, 128-aligned */
	__le32 rq_ctrl_offset;		/* same; zero if rq_entries is 0 */
	__le32 xrcd;			/* XRC_TGT: its domain; else zero */
	struct virtio_rdma_buf buf;
	struct virtio_rdma_extent extents[];
};

struct virtio_rdma_create_qp_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 qpn;			/* 24 bits; also the QP's handle (1 for GSI) */
	__le32 sq_slot;			/* its dirty byte in the doorbell page */
	__le32 rq_slot;			/* same, or VIRTIO_RDMA_NONE */
	__le32 reserved;
};

/*
 * Commands of features that no device offers yet.  XRC: CREATE_QP of XRC_TGT contains its
 * domain in xrcd, and no CQs or PD; CREATE_SRQ of an XRC SRQ contains xrcd and the CQ of its
 * receives.
 */

/* ALLOC_MR: a region for REG_MR WQEs.  Response: virtio_rdma_reg_mr_rsp. */
struct virtio_rdma_alloc_mr_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 pd;
	__le32 max_entries;		/* 1..max_fast_reg_pages */
};

#define VIRTIO_RDMA_MW_TYPE_1		1	/* type 1: bound by the kernel, for a process */
#define VIRTIO_RDMA_MW_TYPE_2		2	/* type 2: bound to the QP of its BIND_MW WQE */

struct virtio_rdma_alloc_mw_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 pd;
	__le32 type;			/* VIRTIO_RDMA_MW_TYPE_* */
};

struct virtio_rdma_alloc_mw_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 mw;			/* handle: DEALLOC_MW is a virtio_rdma_destroy_req */
	__le32 rkey;
};

/* ALLOC_XRCD; DEALLOC_XRCD is a virtio_rdma_destroy_req. */
struct virtio_rdma_alloc_xrcd_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 ctx;
	__le32 reserved;
};

struct virtio_rdma_alloc_xrcd_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 xrcd;
	__le32 reserved;
};

/* ATTACH_MCAST, DETACH_MCAST: a UD QP and a multicast GID. */
struct virtio_rdma_mcast_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 qpn;
	__le32 reserved;
	__u8   gid[16];
};

/* MODIFY_CQ: one event for this number of CQEs, or after this time; 0, 0: one for each CQE. */
struct virtio_rdma_modify_cq_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 cqn;
	__le16 count;			/* CQEs, up to max_cq_count */
	__le16 period;			/* microseconds, up to max_cq_period */
};

/* QP states: IBTA's, with the numbers of enum ib_qp_state. */
#define VIRTIO_RDMA_QPS_RESET		0
#define VIRTIO_RDMA_QPS_INIT		1
#define VIRTIO_RDMA_QPS_RTR		2
#define VIRTIO_RDMA_QPS_RTS		3
#define VIRTIO_RDMA_QPS_SQD		4
#define VIRTIO_RDMA_QPS_SQE		5
#define VIRTIO_RDMA_QPS_ERR		6

/* virtio_rdma_modify_qp_req.mask: the bit numbers of enum ib_qp_attr_mask. */
#define VIRTIO_RDMA_QP_STATE			(1U << 0)
#define VIRTIO_RDMA_QP_CUR_STATE		(1U << 1)
#define VIRTIO_RDMA_QP_EN_SQD_ASYNC_NOTIFY	(1U << 2)
#define VIRTIO_RDMA_QP_ACCESS_FLAGS		(1U << 3)
#define VIRTIO_RDMA_QP_PKEY_INDEX		(1U << 4)
#define VIRTIO_RDMA_QP_PORT			(1U << 5)
#define VIRTIO_RDMA_QP_QKEY			(1U << 6)
#define VIRTIO_RDMA_QP_AV			(1U << 7)
#define VIRTIO_RDMA_QP_PATH_MTU			(1U << 8)
#define VIRTIO_RDMA_QP_TIMEOUT			(1U << 9)
#define VIRTIO_RDMA_QP_RETRY_CNT		(1U << 10)
#define VIRTIO_RDMA_QP_RNR_RETRY		(1U << 11)
#define VIRTIO_RDMA_QP_RQ_PSN			(1U << 12)
#define VIRTIO_RDMA_QP_MAX_QP_RD_ATOMIC		(1U << 13)
#define VIRTIO_RDMA_QP_MIN_RNR_TIMER		(1U << 15)
#define VIRTIO_RDMA_QP_SQ_PSN			(1U << 16)
#define VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC	(1U << 17)
#define VIRTIO_RDMA_QP_DEST_QPN			(1U << 20)

/**
 * struct virtio_rdma_av - address vector
 * @dgid:       destination GID
 * @flow_label: 20 bits
 * @pd:         PD of the address handle; must be the QP's (UD)
 * @dqpn:       destination QP number (UD; in MODIFY_QP zero)
 * @qkey:       Q_Key (UD; in MODIFY_QP zero)
 * @dmac:       destination MAC, as the driver resolved it
 * @sgid_index: index into the port's GID table
 * @hop_limit:  IP hop limit
 * @tclass:     IP traffic class
 * @sl:         service level, 0..15
 * @reserved:   zero
 */
struct virtio_rdma_av {
	__u8   dgid[16];
	__le32 flow_label;
	__le32 pd;
	__le32 dqpn;
	__le32 qkey;
	__u8   dmac[6];
	__u8   sgid_index;
	__u8   hop_limit;
	__u8   tclass;
	__u8   sl;
	__u8   reserved[6];
};

/* Attributes of a QP, in MODIFY_QP and QUERY_QP; encodings are IBTA's. */
struct virtio_rdma_qp_attr {
	__u8   state;			/* VIRTIO_RDMA_QPS_* */
	__u8   cur_state;
	__u8   path_mtu;		/* 1 = 256 ... 5 = 4096 bytes */
	__u8   port_num;		/* 1 */
	__u8   timeout;			/* 5 bits: 4.096 us << n, 0 = none */
	__u8   retry_cnt;		/* 3 bits */
	__u8   rnr_retry;		/* 3 bits, 7 = infinite */
	__u8   min_rnr_timer;		/* 5 bits */
	__u8   max_rd_atomic;		/* as requester */
	__u8   max_dest_rd_atomic;	/* as responder */
	__u8   en_sqd_async_notify;	/* 0 or 1 */
	__u8   sq_draining;		/* QUERY_QP: 1 while SQD has not drained */
	__le16 pkey_index;
	__le16 reserved0;
	__le32 access_flags;		/* VIRTIO_RDMA_ACCESS_REMOTE_* */
	__le32 qkey;
	__le32 rq_psn;
	__le32 sq_psn;
	__le32 dest_qpn;
	__le32 reserved1;
	struct virtio_rdma_av av;
};

/* The device checks the state rules of IBTA 10.3 (C10-...) as well. */
struct virtio_rdma_modify_qp_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 qpn;
	__le32 mask;			/* VIRTIO_RDMA_QP_* */
	struct virtio_rdma_qp_attr attr;
};

struct virtio_rdma_query_qp_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 qpn;
	__le32 reserved;
};

struct virtio_rdma_query_qp_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	struct virtio_rdma_qp_attr attr;
};

/* CREATE_SRQ (spec 4.12): receives for QPs whose srqn names it. */
struct virtio_rdma_create_srq_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 ctx;
	__le32 pd;			/* PD of the keys in its entries */
	__le32 entries;			/* power of two, 1..max_srq_wr rounded up */
	__le32 max_sge;
	__le32 ring_offset;		/* page aligned */
	__le32 ctrl_offset;		/* of struct virtio_rdma_ring_ctrl, 128-aligned */
	__le32 limit;			/* as MODIFY_SRQ's limit; 0: not armed */
	__u8   stride_shift;		/* an entry is 32 << n bytes, n = 0..7 */
	__u8   reserved0[3];
	__le32 xrcd;			/* XRC SRQ: its domain; else zero */
	__le32 cqn;			/* XRC SRQ: of its receives; else zero */
	struct virtio_rdma_buf buf;
	struct virtio_rdma_extent extents[];
};

struct virtio_rdma_create_srq_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 srqn;			/* 1..2^24 - 1; also the SRQ's handle */
	__le32 slot;			/* its dirty byte in the doorbell page */
};

/* virtio_rdma_modify_srq_req.mask: the bit numbers of enum ib_srq_attr_mask. */
#define VIRTIO_RDMA_SRQ_LIMIT		(1U << 1)

/*
 * MODIFY_SRQ: arms the limit.  When fewer than @limit entries are posted, SRQ_LIMIT_REACHED
 * is raised and the limit is disarmed (0).
 */
struct virtio_rdma_modify_srq_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 srqn;
	__le32 mask;			/* VIRTIO_RDMA_SRQ_* */
	__le32 limit;			/* at most the entries; 0: disarm */
	__le32 reserved;
};

struct virtio_rdma_query_srq_req {
	struct virtio_rdma_cmd_hdr hdr;
	__le32 srqn;
	__le32 reserved;
};

struct virtio_rdma_query_srq_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 limit;			/* 0: not armed, or reached */
	__le32 reserved;
};

/* QUERY_STATS: counters since the device was created (never reset). */
#define VIRTIO_RDMA_STAT_NOTIFY		0	/* notifications of the doorbell queue */
#define VIRTIO_RDMA_STAT_WAKEUP		1	/* wake-ups of a sleeping poller */
#define VIRTIO_RDMA_STAT_COMP_EVENTS	2	/* completion events written to completion queues */
#define VIRTIO_RDMA_STAT_INTERRUPTS	3	/* call descriptors signalled */
#define VIRTIO_RDMA_STAT_SCANS		4	/* dirty rings found by a doorbell scan */
#define VIRTIO_RDMA_STAT_COMMANDS	5
#define VIRTIO_RDMA_STAT_SEND		6	/* work requests completed, as requester */
#define VIRTIO_RDMA_STAT_WRITE		7
#define VIRTIO_RDMA_STAT_READ		8
#define VIRTIO_RDMA_STAT_ATOMIC		9
#define VIRTIO_RDMA_STAT_RECV		10	/* receives completed, as responder */
#define VIRTIO_RDMA_STAT_TX_BYTES	11
#define VIRTIO_RDMA_STAT_RX_BYTES	12
#define VIRTIO_RDMA_STAT_RNR		13	/* RNR NAKs received */
#define VIRTIO_RDMA_STAT_RETRY		14	/* transport retries */
#define VIRTIO_RDMA_STAT_ERRORS		15	/* error completions */
#define VIRTIO_RDMA_STAT_UD_DROPS	16	/* datagrams dropped */
#define VIRTIO_RDMA_STAT_COUNT		17

struct virtio_rdma_query_stats_req {
	struct virtio_rdma_cmd_hdr hdr;
};

struct virtio_rdma_query_stats_rsp {
	struct virtio_rdma_rsp_hdr hdr;
	__le32 count;			/* counters that follow; newer devices have more */
	__le32 reserved;
	__le64 counters[32];		/* by VIRTIO_RDMA_STAT_* */
};

/* ------------------------------------------------------------------ */
/* Event virtqueue (spec 8) and completion virtqueues (spec 6.4)       */
/* ------------------------------------------------------------------ */

#define VIRTIO_RDMA_EVENT_CQ_ERR		1	/* id: cqn */
#define VIRTIO_RDMA_EVENT_QP_FATAL		2	/* id: qpn */
#define VIRTIO_RDMA_EVENT_QP_REQ_ERR		3	/* id: qpn */
#define VIRTIO_RDMA_EVENT_QP_ACCESS_ERR		4	/* id: qpn */
#define VIRTIO_RDMA_EVENT_COMM_EST		5	/* id: qpn */
#define VIRTIO_RDMA_EVENT_SQ_DRAINED		6	/* id: qpn */
#define VIRTIO_RDMA_EVENT_PATH_MIG		7	/* id: qpn */
#define VIRTIO_RDMA_EVENT_QP_LAST_WQE_REACHED	8	/* id: qpn */
#define VIRTIO_RDMA_EVENT_SRQ_ERR		9	/* id: srqn */
#define VIRTIO_RDMA_EVENT_SRQ_LIMIT_REACHED	10	/* id: srqn */
#define VIRTIO_RDMA_EVENT_PORT_ACTIVE		11	/* id: port number */
#define VIRTIO_RDMA_EVENT_PORT_ERR		12	/* id: port number */
#define VIRTIO_RDMA_EVENT_GID_CHANGE		13	/* id: port number */
#define VIRTIO_RDMA_EVENT_DEVICE_FATAL		14	/* id: 0 */

/* Written by the device to a buffer of the event queue. */
struct virtio_rdma_event {
	__le32 type;			/* VIRTIO_RDMA_EVENT_* */
	__le32 id;
	__le64 reserved;
};

/* Written by the device to a buffer of a completion queue. */
struct virtio_rdma_comp_event {
	__le32 cqn;
	__le32 reserved;
};

/* ------------------------------------------------------------------ */
/* Doorbell page (spec 5.3)                                            */
/* ------------------------------------------------------------------ */

#define VIRTIO_RDMA_DB_SLOTS		3968
#define VIRTIO_RDMA_DB_GROUPS		62	/* DB_SLOTS / 64 */

/**
 * struct virtio_rdma_db_page - notifies a poller of rings that it does not watch
 * @need_wakeup: written by the device: not zero while its poller sleeps and
 *               needs a notification of the doorbell virtqueue
 * @reserved:    zero
 * @summary:     byte n is set (1) by the driver after it set one of
 *               dirty[64 * n ... 64 * n + 63]; cleared by the device first
 * @reserved1:   zero
 * @dirty:       byte s is set (1) by the driver after it moved the producer
 *               index of a ring with slot s; cleared by the device, which then
 *               executes a full barrier and reads the producer indices of the
 *               rings with that slot
 */
struct virtio_rdma_db_page {
	__le32 need_wakeup;
	__u8   reserved[60];
	__u8   summary[VIRTIO_RDMA_DB_GROUPS];
	__u8   reserved1[2];
	__u8   dirty[VIRTIO_RDMA_DB_SLOTS];
};

/* ------------------------------------------------------------------ */
/* Rings (spec 5)                                                      */
/* ------------------------------------------------------------------ */

/**
 * struct virtio_rdma_ring_ctrl - the shared words of an SQ, RQ or SRQ
 * @producer:  written by the driver, with release ordering after the entries:
 *             entries posted so far, modulo 2^32; entry i is in slot
 *             i % entries
 * @reserved0: zero
 * @need_db:   written by the device: not zero while it does not watch @producer,
 *             so that a post must set the ring's dirty byte
 * @reserved1: zero
 */
struct virtio_rdma_ring_ctrl {
	__le32 producer;
	__u8   reserved0[60];
	__le32 need_db;
	__u8   reserved1[60];
};

/* virtio_rdma_cq_ctrl.arm: sequence << 2 | what; zero: never armed. */
#define VIRTIO_RDMA_ARM_SOLICITED	1U
#define VIRTIO_RDMA_ARM_ANY		2U
#define VIRTIO_RDMA_ARM_WHAT_MASK	3U
#define VIRTIO_RDMA_ARM_SEQ_SHIFT	2

/**
 * struct virtio_rdma_cq_ctrl - the shared words of a CQ
 * @consumer:  written by the driver: CQEs consumed so far, modulo 2^32
 * @arm:       written by the driver, a new sequence number with each arming
 * @reserved0: zero
 * @fired:     written by the device before it sends an event: the @arm word
 *             that the event answers; the driver compares it with @arm to see
 *             whether its last arming is still pending
 * @reserved1: zero
 */
struct virtio_rdma_cq_ctrl {
	__le32 consumer;
	__le32 arm;
	__u8   reserved0[56];
	__le32 fired;
	__u8   reserved1[60];
};

/* Scatter/gather entry of a WQE. */
struct virtio_rdma_sge {
	__le64 addr;
	__le32 length;			/* bytes */
	__le32 lkey;
};

/* Opcodes of send WQEs; never reused. */
#define VIRTIO_RDMA_WR_RDMA_WRITE		0
#define VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM	1
#define VIRTIO_RDMA_WR_SEND			2
#define VIRTIO_RDMA_WR_SEND_WITH_IMM		3
#define VIRTIO_RDMA_WR_RDMA_READ		4
#define VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP	5
#define VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD	6
#define VIRTIO_RDMA_WR_SEND_WITH_INV		7	/* F_MEM_MGT, F_MW */
#define VIRTIO_RDMA_WR_LOCAL_INV		8	/* F_MEM_MGT, F_MW */
#define VIRTIO_RDMA_WR_BIND_MW			9	/* F_MW */
#define VIRTIO_RDMA_WR_REG_MR			10	/* F_MEM_MGT, CTX_KERNEL only */
#define VIRTIO_RDMA_WR_ATOMIC_WRITE		11	/* F_ATOMIC_WRITE */
#define VIRTIO_RDMA_WR_FLUSH			12	/* F_FLUSH */

/* Flags of send WQEs. */
#define VIRTIO_RDMA_WQE_SIGNALED		(1U << 0)
#define VIRTIO_RDMA_WQE_SOLICITED		(1U << 1)
#define VIRTIO_RDMA_WQE_FENCE			(1U << 2)
#define VIRTIO_RDMA_WQE_INLINE			(1U << 3)

/**
 * struct virtio_rdma_wqe_ctrl - first 16 bytes of each send WQE
 * @opcode:     VIRTIO_RDMA_WR_*
 * @num_sge:    entries of the SGE list; zero with WQE_INLINE
 * @flags:      VIRTIO_RDMA_WQE_*
 * @inline_len: bytes of inline data, at most the QP's max_inline; zero
 *              without WQE_INLINE
 * @imm:        immediate data, in the byte order of the wire (*_WITH_IMM)
 * @inv_rkey:   key to invalidate (SEND_WITH_INV, LOCAL_INV)
 * @pkey_index: index of the P_Key of a datagram (GSI); else zero
 * @reserved:   zero
 */
struct virtio_rdma_wqe_ctrl {
	__u8   opcode;
	__u8   num_sge;
	__le16 flags;
	__le32 inline_len;
	union {
		__be32 imm;
		__le32 inv_rkey;
	};
	__le16 pkey_index;
	__le16 reserved;
};

/*
 * A send WQE of RC and UC.  SGEs or inline data begin at @sge and extend to the end of the
 * entry: two SGEs or 32 bytes in 64-byte entries.  Atomics have their operands in place of
 * the first SGE, and then one SGE.
 */
struct virtio_rdma_rc_wqe {
	struct virtio_rdma_wqe_ctrl ctrl;
	__le64 remote_addr;
	__le32 rkey;
	__le32 reserved;
	struct virtio_rdma_sge sge[];
};

struct virtio_rdma_atomic_wqe {
	struct virtio_rdma_wqe_ctrl ctrl;
	__le64 remote_addr;		/* 8-byte aligned */
	__le32 rkey;
	__le32 reserved;
	__le64 swap_add;		/* value to swap in, or to add */
	__le64 compare;			/* CMP_AND_SWP */
	struct virtio_rdma_sge sge;	/* 8 bytes, gets the old value, guest byte order */
};

/*
 * A send WQE of UD and GSI contains the whole address vector.  SGEs or inline data begin at
 * byte 64, so its entries have at least 128 bytes.
 */
struct virtio_rdma_ud_wqe {
	struct virtio_rdma_wqe_ctrl ctrl;
	struct virtio_rdma_av av;
	struct virtio_rdma_sge sge[];
};

/**
 * struct virtio_rdma_bind_mw_wqe - binds or unbinds a memory window (F_MW)
 * @ctrl:     num_sge and inline_len zero
 * @mw_rkey:  current key of the window, of the PD of the QP
 * @new_rkey: new key of the window (type 2): @mw_rkey with a lowest byte that the
 *            user chooses.  For type 1 the device ignores it, and the key is in
 *            the response of the verb's own command
 * @lkey:     key of the region, which needs ACCESS_MW_BIND; 0 with @length 0: unbind
 * @access:   VIRTIO_RDMA_ACCESS_REMOTE_*, and ZERO_BASED
 * @addr:     address of the first byte in the region
 * @length:   bytes
 * @reserved: zero
 */
struct virtio_rdma_bind_mw_wqe {
	struct virtio_rdma_wqe_ctrl ctrl;
	__le32 mw_rkey;
	__le32 new_rkey;
	__le32 lkey;
	__le32 access;
	__le64 addr;
	__le64 length;
	__le64 reserved[2];
};

/* An element of the list of a REG_MR WQE. */
struct virtio_rdma_reg_entry {
	__le64 addr;			/* DMA address */
	__le64 length;			/* bytes, not zero */
};

/**
 * struct virtio_rdma_reg_mr_wqe - fast registration (F_MEM_MGT, CTX_KERNEL only)
 * @ctrl:        num_sge and inline_len zero
 * @key:         of a region of ALLOC_MR that is not valid now; the user chooses the
 *               lowest byte
 * @access:      VIRTIO_RDMA_ACCESS_*
 * @iova:        address of the first byte
 * @length:      bytes: the sum of the list's lengths
 * @list:        DMA address of the list, aligned to 16 bytes: num_entries of
 *               struct virtio_rdma_reg_entry, which the device copies before the
 *               WQE is complete
 * @num_entries: 1..max_fast_reg_pages
 * @page_shift:  log2 of the page size, one of page_sizes: each address and length
 *               is a multiple of it, but the first address and the last end; or 0:
 *               any addresses, so that gaps are possible
 * @reserved:    zero
 *
 * The WQE completes in order.  It may name any guest RAM, so processes must not be
 * able to post it.
 */
struct virtio_rdma_reg_mr_wqe {
	struct virtio_rdma_wqe_ctrl ctrl;
	__le32 key;
	__le32 access;
	__le64 iova;
	__le64 length;
	__le64 list;
	__le32 num_entries;
	__u8   page_shift;
	__u8   reserved[11];
};

/*
 * ATOMIC_WRITE (F_ATOMIC_WRITE): struct virtio_rdma_rc_wqe with WQE_INLINE and
 * inline_len 8; remote_addr is 8-byte aligned.
 *
 * LOCAL_INV and SEND_WITH_INV: ctrl.inv_rkey; struct virtio_rdma_rc_wqe.
 *
 * An RC WQE of an XRC initiator QP (F_XRC) has the number of the remote SRQ in place
 * of struct virtio_rdma_rc_wqe.reserved.
 */

#define VIRTIO_RDMA_FLUSH_RANGE			0	/* [remote_addr, + length) */
#define VIRTIO_RDMA_FLUSH_MR			1	/* all of the region */

/**
 * struct virtio_rdma_flush_wqe - FLUSH (F_FLUSH): IBTA 9.4.9
 * @ctrl:        num_sge and inline_len zero
 * @remote_addr: first byte
 * @rkey:        key of the region, which needs the ACCESS_FLUSH_* bits of @type
 * @type:        VIRTIO_RDMA_ACCESS_FLUSH_* , at least one
 * @length:      bytes
 * @level:       VIRTIO_RDMA_FLUSH_RANGE or _MR
 * @reserved:    zero
 */
struct virtio_rdma_flush_wqe {
	struct virtio_rdma_wqe_ctrl ctrl;
	__le64 remote_addr;
	__le32 rkey;
	__le32 type;
	__le64 length;
	__le32 level;
	__le32 reserved[5];
};

/**
 * struct virtio_rdma_recv_wqe - receive WQE of an RQ or SRQ
 * @num_sge:  entries of the SGE list
 * @cookie:   of a receive from an SRQ: copied to @wqe_index of its CQE
 * @reserved: zero
 * @sge:      the list; one fits an entry of 32 bytes
 */
struct virtio_rdma_recv_wqe {
	__le32 num_sge;
	__le32 cookie;
	__le64 reserved;
	struct virtio_rdma_sge sge[];
};

/* CQE opcodes. */
#define VIRTIO_RDMA_WC_SEND			0
#define VIRTIO_RDMA_WC_RDMA_WRITE		1
#define VIRTIO_RDMA_WC_RDMA_READ		2
#define VIRTIO_RDMA_WC_COMP_SWAP		3
#define VIRTIO_RDMA_WC_FETCH_ADD		4
#define VIRTIO_RDMA_WC_BIND_MW			5
#define VIRTIO_RDMA_WC_LOCAL_INV		6
#define VIRTIO_RDMA_WC_REG_MR			7
#define VIRTIO_RDMA_WC_ATOMIC_WRITE		8
#define VIRTIO_RDMA_WC_FLUSH			9
#define VIRTIO_RDMA_WC_RECV			128
#define VIRTIO_RDMA_WC_RECV_RDMA_WITH_IMM	129
/* Set in the opcodes of receive completions. */
#define VIRTIO_RDMA_WC_RECV_BIT			128

/* CQE status: the numbers of enum ib_wc_status (IBTA 11.6.2). */
#define VIRTIO_RDMA_WC_SUCCESS			0
#define VIRTIO_RDMA_WC_LOC_LEN_ERR		1
#define VIRTIO_RDMA_WC_LOC_QP_OP_ERR		2
#define VIRTIO_RDMA_WC_LOC_EEC_OP_ERR		3
#define VIRTIO_RDMA_WC_LOC_PROT_ERR		4
#define VIRTIO_RDMA_WC_WR_FLUSH_ERR		5
#define VIRTIO_RDMA_WC_MW_BIND_ERR		6
#define VIRTIO_RDMA_WC_BAD_RESP_ERR		7
#define VIRTIO_RDMA_WC_LOC_ACCESS_ERR		8
#define VIRTIO_RDMA_WC_REM_INV_REQ_ERR		9
#define VIRTIO_RDMA_WC_REM_ACCESS_ERR		10
#define VIRTIO_RDMA_WC_REM_OP_ERR		11
#define VIRTIO_RDMA_WC_RETRY_EXC_ERR		12
#define VIRTIO_RDMA_WC_RNR_RETRY_EXC_ERR	13
#define VIRTIO_RDMA_WC_REM_ABORT_ERR		16
#define VIRTIO_RDMA_WC_FATAL_ERR		19
#define VIRTIO_RDMA_WC_GENERAL_ERR		21

/* CQE flags. */
#define VIRTIO_RDMA_CQE_GRH			(1U << 0)
#define VIRTIO_RDMA_CQE_IMM			(1U << 1)
#define VIRTIO_RDMA_CQE_INV			(1U << 2)
#define VIRTIO_RDMA_CQE_IPV4			(1U << 3)	/* the network header is IPv4 */

/**
 * struct virtio_rdma_cqe - completion queue entry
 * @qpn:        the local QP
 * @wqe_index:  producer index of the completed WQE, modulo 2^32; all earlier
 *              ones of the same queue are complete as well.  Receive from an
 *              SRQ: the receive's cookie
 * @byte_len:   bytes received (including 40 of the GRH) or read; 8 for atomics
 * @imm:        immediate data (CQE_IMM), in the byte order of the wire
 * @inv_rkey:   key that was invalidated (CQE_INV)
 * @src_qp:     the sender's QP (UD)
 * @pkey_index: index of the P_Key (GSI)
 * @sl:         service level of the datagram (UD); zero where the transport has none
 * @vendor_err: detail of an error, for diagnosis
 * @srqn:       the SRQ whose receive is complete; 0 if the receive is from the
 *              QP's own ring, or if this is no receive.  A receive of an SRQ is
 *              identified by @srqn and @wqe_index alone: the QP @qpn may have been
 *              destroyed
 * @opcode:     VIRTIO_RDMA_WC_*; on an error only its RECV_BIT is valid
 * @status:     VIRTIO_RDMA_WC_* status
 * @flags:      VIRTIO_RDMA_CQE_*
 * @phase:      1 in the ring's first lap, 0 in the second, and so on; the
 *              device writes the last four bytes with one release store
 *
 * An entry belongs to the device until it has the expected phase.  Then it
 * belongs to the driver until the consumer index passes it.
 */
struct virtio_rdma_cqe {
	__le32 qpn;
	__le32 wqe_index;
	__le32 byte_len;
	union {
		__be32 imm;
		__le32 inv_rkey;
	};
	__le32 src_qp;
	__le16 pkey_index;
	__u8   sl;
	__u8   vendor_err;
	__le32 srqn;
	__u8   opcode;
	__u8   status;
	__u8   flags;
	__u8   phase;
};

/**
 * struct virtio_rdma_cqe64 - completion queue entry of 64 bytes (F_CQE_TIMESTAMP)
 * @cqe:       as in a CQ of 32-byte entries; its last four bytes are written last
 * @timestamp: when the message was complete, in ticks of timestamp_hz
 * @reserved:  zero
 *
 * A CQ has entries of this size if it was created with a cqe_size of 64.
 */
struct virtio_rdma_cqe64 {
	struct virtio_rdma_cqe cqe;
	__le64 timestamp;
	__le64 reserved[3];
};

#endif /* _UAPI_LINUX_VIRTIO_RDMA_H */
