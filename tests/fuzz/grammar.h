/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The grammar of fuzz_commands.c: the devices of its guests, the objects that they created,
 * and one function for each command, which takes all its values from the input.
 *
 *   grammar.c          objects and sending      grammar_device.c   device, contexts, memory
 *   grammar_rings.c    CQs, SRQs, QPs, and work requests on their rings
 */
#ifndef GRAMMAR_H
#define GRAMMAR_H

#include <endian.h>
#include <string.h>

#include "fuzz.h"

#define CMD_GUESTS	3
#define CMD_MAX_OBJECTS	24
#define CMD_MAX_REQ	2048

enum cmd_kind { CTX, PD, MR, CQ, QP, SRQ, BUF, KINDS };

struct cmd_object {
	uint32_t handle;
	uint32_t lkey, rkey;			/* MR */
	uint64_t iova;
	uint32_t length;
	uint8_t type;				/* QP */
	struct guest_qp qp;			/* location of its rings */
	struct guest_srq srq;			/* SRQ: the same */
	struct guest_ctx ctx;			/* CTX, QP, SRQ: location of its doorbells */
	struct virtio_rdma_cq_ctrl *cq;
};

struct cmd_side {
	struct fuzz_guest f;
	struct cmd_object objects[KINDS][CMD_MAX_OBJECTS];
	unsigned int num[KINDS];
	uint8_t *page;				/* of the last buffer */
};

extern struct vrd_engine *cmd_engine;
extern struct cmd_side cmd_sides[CMD_GUESTS];

/* ---- objects ---- */

/* An object of the kind; one that is all zero if there is none. */
struct cmd_object *cmd_any(struct fuzz_in *in, struct cmd_side *s, enum cmd_kind kind);
/* A handle of the kind; rarely of another kind. */
uint32_t cmd_handle(struct fuzz_in *in, struct cmd_side *s, enum cmd_kind kind);
struct cmd_object *cmd_add(struct cmd_side *s, enum cmd_kind kind);
void cmd_forget(struct cmd_side *s, enum cmd_kind kind, uint32_t handle);
void cmd_forget_all(struct cmd_side *s);

/* ---- sending ---- */

union cmd_req {
	uint8_t bytes[CMD_MAX_REQ];
	struct virtio_rdma_cmd_hdr hdr;
	struct virtio_rdma_init_req init;
	struct virtio_rdma_query_port_req port;
	struct virtio_rdma_add_gid_req gid;
	struct virtio_rdma_create_ctx_req ctx;
	struct virtio_rdma_alloc_pd_req pd;
	struct virtio_rdma_reg_mr_req mr;
	struct virtio_rdma_reg_mr_more_req more;
	struct virtio_rdma_reg_dma_mr_req dma;
	struct virtio_rdma_alloc_mr_req alloc_mr;
	struct virtio_rdma_create_cq_req cq;
	struct virtio_rdma_resize_cq_req resize;
	struct virtio_rdma_create_qp_req qp;
	struct virtio_rdma_modify_qp_req modify;
	struct virtio_rdma_query_qp_req query;
	struct virtio_rdma_create_buf_req buf;
	struct virtio_rdma_fill_buf_req fill;
	struct virtio_rdma_create_srq_req srq;
	struct virtio_rdma_modify_srq_req modify_srq;
	struct virtio_rdma_query_srq_req query_srq;
	struct virtio_rdma_destroy_req destroy;
};
extern union cmd_req req;

union cmd_rsp {
	uint8_t bytes[512];
	struct virtio_rdma_rsp_hdr hdr;
	struct virtio_rdma_create_ctx_rsp ctx;
	struct virtio_rdma_alloc_pd_rsp pd;
	struct virtio_rdma_reg_mr_rsp mr;
	struct virtio_rdma_create_cq_rsp cq;
	struct virtio_rdma_create_qp_rsp qp;
	struct virtio_rdma_create_srq_rsp srq;
	struct virtio_rdma_create_buf_rsp buf;
};
extern union cmd_rsp rsp;

/*
 * Sends req, sometimes changed.  True if the command succeeded from the device's view.
 * Checks the answer.
 */
bool cmd_send(struct fuzz_in *in, struct cmd_side *s, uint32_t op, uint32_t len, uint32_t rsp_len);
/* Writes extents for the pages; returns their number. */
uint32_t cmd_extents(struct fuzz_in *in, struct cmd_side *s, void *at, uint8_t *pages,
		     uint32_t num_pages);

/* ---- commands ---- */

/* grammar_device.c */
void do_init(struct fuzz_in *in, struct cmd_side *s);
void do_query(struct fuzz_in *in, struct cmd_side *s);
void do_gid(struct fuzz_in *in, struct cmd_side *s);
void do_ctx(struct fuzz_in *in, struct cmd_side *s);
void do_pd(struct fuzz_in *in, struct cmd_side *s);
void do_mr(struct fuzz_in *in, struct cmd_side *s);
void do_mr_more(struct fuzz_in *in, struct cmd_side *s);
void do_dma_mr(struct fuzz_in *in, struct cmd_side *s);
/* grammar_rings.c */
void do_cq(struct fuzz_in *in, struct cmd_side *s);
void do_resize(struct fuzz_in *in, struct cmd_side *s);
void do_buf(struct fuzz_in *in, struct cmd_side *s);
void do_buf_cq(struct fuzz_in *in, struct cmd_side *s);
void do_srq(struct fuzz_in *in, struct cmd_side *s);
void do_srq_limit(struct fuzz_in *in, struct cmd_side *s);
void do_qp(struct fuzz_in *in, struct cmd_side *s);
void do_modify(struct fuzz_in *in, struct cmd_side *s);
void do_connect(struct fuzz_in *in, struct cmd_side *s);
void do_post(struct fuzz_in *in, struct cmd_side *s);
void do_post_srq(struct fuzz_in *in, struct cmd_side *s);

#endif /* GRAMMAR_H */
