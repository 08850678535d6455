/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Commands to the device: the engine (cmd.c) and the typed functions above it
 * (cmd_device.c, cmd_object.c).  All of them sleep until the device answers or
 * is dead; all fail with EIO on a dead device.
 */
#ifndef VRDMA_CMD_H
#define VRDMA_CMD_H

#include <linux/scatterlist.h>

#include "vrdma.h"

/* The largest request: headers and a full list of extents, in pages. */
#define VRDMA_CMD_MAX_REQ \
	(sizeof(struct virtio_rdma_create_qp_req) + \
	 VIRTIO_RDMA_MAX_CMD_EXTENTS * sizeof(struct virtio_rdma_extent))
#define VRDMA_CMD_MAX_SEGS	DIV_ROUND_UP(VRDMA_CMD_MAX_REQ, PAGE_SIZE)

/*
 * A device that has commands and answers none of them for so long is dead.  The
 * limit is one of the device, not of a command: as long as it answers any
 * command, a slow one may take longer.
 */
#define VRDMA_CMD_LIMIT		(30 * HZ)

enum vrdma_cmd_state {
	VRDMA_CMD_IDLE,		/* the device never had it */
	VRDMA_CMD_PENDING,	/* the device has it */
	VRDMA_CMD_DONE,		/* the device has answered */
	VRDMA_CMD_ABANDONED,	/* given up; the device may still write to it */
};

/**
 * struct vrdma_cmd - one command
 * @refs:   one of the caller, one of the device while it has the command
 * @node:   on vrdma_ctrl.pending or .abandoned, under vrdma_ctrl.lock
 * @state:  under vrdma_ctrl.lock while the device has it
 * @done:   completed on the step to DONE or ABANDONED
 * @req:    request; memory of its own, may be vmalloc'ed
 * @rsp:    response; memory of its own, zero where the device wrote nothing
 * @rsp_min: bytes of @rsp that version 1 of the ABI has: a device that writes
 *          fewer has failed
 * @used:   bytes of @rsp that the device reports to have written
 * @buf:    memory whose addresses the request gives to the device, or NULL
 * @nofail: waits for memory to map the request instead of failing
 * @poll:   one of vrdma_ctrl.pollers
 */
struct vrdma_cmd {
	refcount_t refs;
	struct list_head node;
	enum vrdma_cmd_state state;
	struct completion done;
	u32 opcode;
	size_t req_len;
	size_t rsp_len;
	size_t rsp_min;
	void *req;
	void *rsp;
	u32 used;
	struct vrdma_buf *buf;
	bool nofail;
	bool poll;
	struct scatterlist out[VRDMA_CMD_MAX_SEGS];
	struct scatterlist in;
};

/* cmd.c */
struct vrdma_cmd *vrdma_cmd_alloc(u32 opcode, size_t req_len, size_t rsp_len);
struct vrdma_cmd *vrdma_cmd_alloc_extents(u32 opcode, size_t fixed_len,
					  u32 num_extents, size_t rsp_len);
struct vrdma_cmd *vrdma_cmd_alloc_nofail(u32 opcode, size_t req_len,
					 size_t rsp_len);
void vrdma_cmd_set_extents(struct vrdma_cmd *cmd, u32 num_extents);
int vrdma_cmd_exec(struct vrdma_dev *dev, struct vrdma_cmd *cmd);
void vrdma_cmd_put(struct vrdma_cmd *cmd);
int vrdma_status_to_errno(u32 status);
void vrdma_ctrl_init(struct vrdma_dev *dev);
void vrdma_ctrl_done(struct virtqueue *vq);
void vrdma_ctrl_shut(struct vrdma_dev *dev);
void vrdma_ctrl_free_abandoned(struct vrdma_dev *dev);
void vrdma_ctrl_check(struct vrdma_dev *dev);
void vrdma_dev_kill(struct vrdma_dev *dev, int error, const char *why);

/* cmd_device.c */
int vrdma_cmd_init(struct vrdma_dev *dev, u32 num_comp);
int vrdma_cmd_query_device(struct vrdma_dev *dev, struct vrdma_attr *attr);
int vrdma_cmd_query_port(struct vrdma_dev *dev, struct vrdma_port_attr *attr);
int vrdma_cmd_query_stats(struct vrdma_dev *dev, u64 *counters, u32 num);
int vrdma_cmd_add_gid(struct vrdma_dev *dev, u32 index,
		      const struct vrdma_gid_params *p);
int vrdma_cmd_del_gid(struct vrdma_dev *dev, u32 index);
int vrdma_cmd_create_ctx(struct vrdma_dev *dev, u32 flags,
			 struct vrdma_buf *db_page, u32 *ctx);
int vrdma_cmd_alloc_pd(struct vrdma_dev *dev, u32 ctx, u32 *pdn);

/*
 * Destroy by handle: DESTROY_CTX, DEALLOC_PD, DEREG_MR, DESTROY_CQ, DESTROY_QP,
 * DESTROY_SRQ.  On return the device does not access the object's memory: it
 * confirmed that, or it was halted, after a failure or because it refused.
 */
void vrdma_cmd_destroy(struct vrdma_dev *dev, u32 opcode, u32 handle);

/* cmd_object.c */
struct vrdma_mr_params {
	u32 pdn;
	u32 access;
	u64 iova;
	u64 length;
	struct vrdma_buf *buf;
	u64 skip;		/* pages of the buffer before the first */
};

struct vrdma_cq_params {
	u32 ctx;
	u32 entries;
	u32 vector;
	u32 ring_offset;
	u32 ctrl_offset;
	struct vrdma_buf *buf;
};

struct vrdma_qp_params {
	u32 ctx;
	u32 pdn;
	u32 send_cqn;
	u32 recv_cqn;
	u32 srqn;		/* or VIRTIO_RDMA_NONE */
	u8 qp_type;
	u8 sq_stride;
	u8 rq_stride;
	u32 sq_entries;
	u32 rq_entries;
	u32 max_send_sge;
	u32 max_recv_sge;
	u32 max_inline;
	u32 sq_offset;
	u32 rq_offset;
	u32 sq_ctrl_offset;
	u32 rq_ctrl_offset;
	struct vrdma_buf *buf;
};

struct vrdma_srq_params {
	u32 ctx;
	u32 pdn;
	u32 entries;
	u32 max_sge;
	u32 ring_offset;
	u32 ctrl_offset;
	u8 stride;
	struct vrdma_buf *buf;
};

struct vrdma_mr_keys {
	u32 handle;
	u32 lkey;
	u32 rkey;
};

/* mr.c */
void vrdma_mr_set(struct vrdma_mr *mr, const struct vrdma_mr_keys *keys);

struct vrdma_qp_numbers {
	u32 qpn;
	u32 sq_slot;
	u32 rq_slot;
};

int vrdma_cmd_reg_mr(struct vrdma_dev *dev, const struct vrdma_mr_params *p,
		     struct vrdma_mr_keys *keys);
int vrdma_cmd_reg_dma_mr(struct vrdma_dev *dev, u32 pdn, u32 access,
			 struct vrdma_mr_keys *keys);
int vrdma_cmd_alloc_mr(struct vrdma_dev *dev, u32 pdn, u32 max_entries,
		       struct vrdma_mr_keys *keys);
int vrdma_cmd_create_cq(struct vrdma_dev *dev, const struct vrdma_cq_params *p,
			u32 *cqn);
int vrdma_cmd_resize_cq(struct vrdma_dev *dev, u32 cqn,
			const struct vrdma_cq_params *p);
int vrdma_cmd_create_qp(struct vrdma_dev *dev, const struct vrdma_qp_params *p,
			struct vrdma_qp_numbers *num);
int vrdma_cmd_modify_qp(struct vrdma_dev *dev, u32 qpn, u32 mask,
			const struct virtio_rdma_qp_attr *attr);
int vrdma_cmd_query_qp(struct vrdma_dev *dev, u32 qpn,
		       struct virtio_rdma_qp_attr *attr);
int vrdma_cmd_create_srq(struct vrdma_dev *dev,
			 const struct vrdma_srq_params *p, u32 *srqn,
			 u32 *slot);
int vrdma_cmd_modify_srq(struct vrdma_dev *dev, u32 srqn, u32 mask, u32 limit);
int vrdma_cmd_query_srq(struct vrdma_dev *dev, u32 srqn, u32 *limit);

#endif /* VRDMA_CMD_H */
