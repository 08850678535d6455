/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device under test: an engine with the memory transport, test guests, and on their
 * rings the provider's own data path, compiled from its own files.  Only the kernel's part
 * is emulated: commands of the test guest create the objects, and the system call that wakes
 * a sleeping poller writes to the doorbell queue's descriptor.
 *
 * Threading: one thread posts and polls.
 */
#ifndef BENCH_RIG_H
#define BENCH_RIG_H

#include "vrdma.h"

#include "guest.h"

struct rig_ctx {
	struct vrdma_context v;		/* first member: the provider converts its address */
	struct guest *g;
	uint64_t wakeups;		/* system calls */
};

struct rig_cq {
	struct vrdma_cq v;
	struct vrdma_cq_gen gen;
};

struct rig_qp {
	struct vrdma_qp v;
	struct guest_qp *gq;
	struct guest_mr *mr;		/* local memory of its requests */
	struct guest_mr *rmr;		/* the peer's memory */
};

/*
 * An engine whose pollers stay awake if each can have a CPU beside the guest's thread;
 * otherwise they spin and sleep as by default.  One poller runs on bench.poller_cpu; several
 * pollers are placed by the kernel.
 */
struct vrd_engine *rig_engine(unsigned int pollers);

struct rig_ctx *rig_ctx_open(struct guest_ctx *ctx);
void rig_ctx_close(struct rig_ctx *ctx);
void rig_cq_open(struct rig_cq *cq, struct rig_ctx *ctx, struct guest_cq *gcq);
/* The QP is in RTS. */
void rig_qp_open(struct rig_qp *qp, struct rig_ctx *ctx, struct guest_qp *gq, struct guest_mr *mr,
		 struct guest_mr *rmr);
void rig_qp_close(struct rig_qp *qp, struct rig_ctx *ctx);

/* Two guests with one connected QP each, which most programs need. */
struct rig_pair {
	struct vrd_engine *engine;
	struct guest *ga, *gb;
	struct guest_side sa, sb;
	struct rig_ctx *ctx, *peer_ctx;
	struct rig_cq cq, peer_cq;
	struct rig_qp qp, peer;
};

/* @mem_size bytes of registered memory in each guest. */
void rig_pair_open(struct rig_pair *p, uint64_t mem_size);
/* On a host's RDMA device, with these GIDs. */
void rig_pair_open_on(struct rig_pair *p, uint64_t mem_size, const char *ibdev,
		      const uint8_t gid_a[16], const uint8_t gid_b[16]);
void rig_pair_close(struct rig_pair *p);

/* ---- posting, by the provider ---- */

/* Requests that differ in the flags only, linked: *@wr is the first. */
struct rig_wrs {
	struct ibv_send_wr wr[16];
	struct ibv_sge sge;
	uint64_t data[8];		/* data of inline requests */
	unsigned int num;
};

/* @num copies of one request; the last one or, with @all, each one is signaled. */
void rig_wrs_init(struct rig_wrs *w, const struct rig_qp *qp, enum ibv_wr_opcode opcode,
		  uint32_t length, bool use_inline, unsigned int num, bool all);

static inline void rig_post(struct rig_qp *qp, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;

	if (vrdma_post_send(&qp->v.vqp.qp, wr, &bad))
		guest_fatal("the provider refuses a request");
}

static inline void rig_check_wc(const struct ibv_wc *wc)
{
	if (wc->status)
		guest_fatal("completion with status %u", wc->status);
}

/* Spins until one completion arrives. */
static inline void rig_poll_one(struct rig_cq *cq)
{
	struct ibv_wc wc;

	while (!vrdma_poll_cq(&cq->v.vcq.cq, 1, &wc))
		;
	rig_check_wc(&wc);
}

/* Posts and completes @n requests one at a time; returns nanoseconds for each. */
double rig_latency(struct rig_qp *qp, struct rig_cq *cq, struct rig_wrs *w, unsigned int n);

#endif /* BENCH_RIG_H */
