/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mixed transport: a device on a port of the host's RDMA device and in a
 * fabric of this process.  Traffic between guests of the fabric takes the
 * memory path, all other that of the host's device.  It composes the two other
 * transports, whose private parts of an object live side by side in obj->priv[].
 * Its own data hangs on the part of the ibverbs transport.
 *
 *   device.c   opening both; capabilities, GIDs, counters; the operations
 *   qp.c       which path a queue pair takes, and its states on it
 *   sq.c       a send queue's turn; datagrams choose one by one
 *   bounce.c   datagrams from the host
 *   srq.c      receives of an SRQ that are lent to the host
 *
 * Every queue pair has one of the host's, for its number; on the memory path
 * that one stays in INIT and answers nobody.  The path of a connection is
 * chosen when it goes to RTR and stays until RESET.  Until then its receives
 * stay on the guest's ring.
 *
 * A guest gets the host's keys; the memory path finds regions by them
 * (dev->lkeys, dev->rkeys).
 *
 * Threads and locks: those of the two transports.
 */
#ifndef VRD_TRANSPORTS_MIX_H
#define VRD_TRANSPORTS_MIX_H

#include "ibverbs/ibv.h"
#include "memory/memory.h"

enum vrd_mix_path {
	VRD_MIX_UNDECIDED,		/* what there is to do, is done in software */
	VRD_MIX_LOCAL,
	VRD_MIX_HOST,
	VRD_MIX_BOTH,			/* UD */
};

struct vrd_mix_dev {
	_Atomic uint64_t qps_local, qps_host;	/* connections, by the path they took */
	uint64_t bounce_bytes;			/* dev->lock */
};

/* One receive with the host: header and payload of the longest datagram. */
#define VRD_MIX_BOUNCE		(VRD_MEM_GRH_LEN + VRD_MEM_MTU)
/* Of all QPs of a device together; it is memory of ours, and pinned. */
#define VRD_MIX_MAX_BOUNCE_BYTES (128ULL << 20)

struct vrd_mix_qp {
	/* Written with sq.lock and rq.lock; the poller reads it without as well. */
	_Atomic uint8_t path;
	bool lends;			/* counted in its SRQ's host_qps; rq.lock */
	bool lent;			/* or was, since its host's QP was reset; control thread */
	/* UD: receives that the host has. */
	uint32_t num_bounces;
	uint8_t *bounce;
	struct ibv_mr *bounce_mr;
};

/* At most, and not more than half of what the SRQ can hold. */
#define VRD_MIX_WINDOW		16U

/* A receive that the host has. */
struct vrd_mix_lent {
	bool used;
	bool bad;			/* malformed: whoever takes it fails */
	struct vrd_recv_wr wr;
};

/* ring.lock */
struct vrd_mix_srq {
	uint32_t window;
	uint32_t host_qps;		/* QPs on the host's path that take from it */
	struct vrd_mix_lent *lent;	/* window of them, made for the first such QP */
};

static inline struct vrd_mix_dev *vrd_mix_dev(const struct vrd_device *dev)
{
	return vrd_ibv_dev(dev)->mix;
}

/* Not for QP 1. */
static inline struct vrd_mix_qp *vrd_mix_qp(const struct vrd_qp *qp)
{
	return vrd_ibv_qp(qp)->mix;
}

static inline uint8_t vrd_mix_path(const struct vrd_qp *qp)
{
	return atomic_load_explicit(&vrd_mix_qp(qp)->path, memory_order_relaxed);
}

/* qp.c */
int vrd_mix_qp_create(struct vrd_qp *qp);
int vrd_mix_qp_modify_slow(struct vrd_qp *qp, uint8_t new_state,
			   const struct virtio_rdma_qp_attr *attr, uint32_t mask);
void vrd_mix_qp_commit(struct vrd_qp *qp, uint8_t new_state,
		       const struct virtio_rdma_qp_attr *attr, uint32_t mask);
void vrd_mix_qp_query(struct vrd_qp *qp, struct virtio_rdma_qp_attr *attr);
void vrd_mix_qp_destroy(struct vrd_qp *qp);
void vrd_mix_qp_free(struct vrd_qp *qp);

/* sq.c */
enum vrd_run vrd_mix_sq_run(struct vrd_qp *qp, unsigned int budget);
void vrd_mix_rq_run(struct vrd_qp *qp);
bool vrd_mix_is_hosts(struct vrd_qp *qp, const struct vrd_wr *wr);
bool vrd_mix_host_is_idle(const struct vrd_qp *qp);

/* bounce.c */
int vrd_mix_bounce_create(struct vrd_qp *qp);
void vrd_mix_bounce_post_all(struct vrd_qp *qp);
void vrd_mix_received(struct vrd_qp *qp, const struct ibv_wc *wc);

/* srq.c */
int vrd_mix_srq_create(struct vrd_srq *srq);
void vrd_mix_srq_destroy(struct vrd_srq *srq);
void vrd_mix_srq_free(struct vrd_srq *srq);
void vrd_mix_srq_run(struct vrd_srq *srq);
/* A QP that takes from its SRQ is on the host's path; 0 or -ENOMEM.  Poller. */
int vrd_mix_srq_lend(struct vrd_qp *qp);
/* It is no more; rq.lock is held. */
void vrd_mix_srq_unlend(struct vrd_qp *qp);
/* Its host's QP is about to be reset or destroyed.  Control thread. */
void vrd_mix_srq_settle(struct vrd_qp *qp);
bool vrd_mix_returned(struct vrd_device *dev, uint32_t index, struct vrd_qp *qp, uint32_t *cookie);

#endif /* VRD_TRANSPORTS_MIX_H */
