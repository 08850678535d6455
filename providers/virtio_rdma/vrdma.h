/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The provider's objects and the functions of its files.
 *
 * Locks, outer to inner: the context's tables_mutex; then the locks of at most
 * two CQs, the one with the lower address first; then the context's srqs_lock;
 * then the lock of one SRQ or RQ.  A post takes one lock only: that of its SQ,
 * RQ or SRQ.  A poll takes its CQ's lock; for a moment it takes an SRQ's lock
 * to complete an entry, and srqs_lock if it does not know the QP.
 */
#ifndef VRDMA_H
#define VRDMA_H

#include <pthread.h>
#include <stdatomic.h>

#include <ccan/list.h>
#include <infiniband/driver.h>
#include <rdma/virtio_rdma-abi.h>
#include <util/util.h>

#include "cookie.h"
#include "cq_ring.h"
#include "ring.h"

/* QP numbers have 24 bits: a table of 2^12 leaves of 2^12. */
#define VRDMA_QP_LEAF_SHIFT	12
#define VRDMA_QP_LEAF_SIZE	(1U << VRDMA_QP_LEAF_SHIFT)
#define VRDMA_QP_LEAVES		(1U << (24 - VRDMA_QP_LEAF_SHIFT))

/* Buckets of the table of SRQs. */
#define VRDMA_SRQ_BUCKETS	64

struct vrdma_qp;

struct vrdma_qp_leaf {
	unsigned int used;	/* under tables_mutex */
	struct vrdma_qp *qps[VRDMA_QP_LEAF_SIZE];
};

struct vrdma_context {
	struct verbs_context ibvctx;

	struct virtio_rdma_db_page *db;
	size_t db_size;
	const struct virtio_rdma_status_page *status;
	size_t status_size;
	size_t page_size;
	bool single_threaded;

	/* Limits, from the device. */
	uint32_t max_qp_wr;
	uint32_t max_sge;
	uint32_t max_cqe;
	uint32_t max_inline;
	uint32_t max_srq_wr;		/* 0: no SRQs */
	uint32_t max_srq_sge;
	bool mem_mgt_ext;

	/* Slow path only: doorbells rung, and wake-ups among them. */
	atomic_ulong doorbells;
	atomic_ulong wakeups;
	/* Set when a wake-up failed or the status page reported the death. */
	atomic_bool dead;

	/*
	 * Held from before a QP or SRQ is destroyed until its number is removed
	 * from its table and its CQEs from the CQs: the device may reuse the
	 * number at once.  Pollers read the table under a CQ's lock only; they
	 * look up QPs of that CQ, and vrdma_destroy_qp() takes the locks of
	 * both CQs to remove one.
	 */
	pthread_mutex_t tables_mutex;
	struct vrdma_qp_leaf *qp_table[VRDMA_QP_LEAVES];
	struct list_head cqs;		/* under tables_mutex */

	/* SRQs by number; changed under both locks, read under either. */
	pthread_spinlock_t srqs_lock;
	struct list_head srqs[VRDMA_SRQ_BUCKETS];
};

/* A spinlock that is skipped for objects used by one thread. */
struct vrdma_lock {
	pthread_spinlock_t spin;
	bool needed;
};

/* Page-aligned memory that the kernel pins for an object's rings. */
struct vrdma_buf {
	uint8_t *addr;
	size_t len;
};

struct vrdma_td {
	struct ibv_td ibvtd;
	atomic_int refcount;
};

/* A protection domain, or a parent domain on top of one. */
struct vrdma_pd {
	struct ibv_pd ibvpd;
	uint32_t pdn;
	atomic_int refcount;		/* parent domains on top */
	struct vrdma_pd *protection;	/* parent domain only */
	struct vrdma_td *td;		/* parent domain only; may be NULL */
};

struct vrdma_ah {
	struct ibv_ah ibvah;
	struct virtio_rdma_av av;	/* without dqpn and qkey */
};

/*
 * A ring of a CQ.  A CQ has several while an older ring, from before a resize,
 * still holds CQEs.
 */
struct vrdma_cq_gen {
	struct vrdma_cq_ring ring;
	struct vrdma_buf buf;
	struct vrdma_cq_gen *next;
};

struct vrdma_cq {
	struct verbs_cq vcq;
	struct list_node link;		/* vrdma_context.cqs */
	struct vrdma_lock lock;
	struct vrdma_cq_gen *cur;	/* the oldest ring that may hold CQEs */
	struct vrdma_cq_gen *last;	/* the ring that the device writes */
	uint32_t arm;			/* the last arm word written */

	/* The QP of the last CQE; vrdma_destroy_qp() clears it. */
	uint32_t cached_qpn;
	struct vrdma_qp *cached_qp;

	/* Extended polling, between start_poll and end_poll. */
	struct virtio_rdma_cqe *cqe;
	uint32_t cqe_word;

	/* Used after the device's death, see flush.c. */
	struct list_head send_qps;
	struct list_head recv_qps;
	struct virtio_rdma_cqe flush_cqe;
	bool looked_last;
	atomic_bool want_event;		/* armed, and no event asked for */

	struct vrdma_pd *parent;	/* parent domain of its creation */
};

struct vrdma_wq {
	struct vrdma_lock lock;
	struct vrdma_ring ring;
	uint64_t *wr_ids;		/* one for each entry; at least one */
	uint32_t max_sge;
};

struct vrdma_srq {
	struct verbs_srq vsrq;
	struct list_node link;		/* a bucket of vrdma_context.srqs */
	uint32_t srqn;
	struct vrdma_lock lock;
	struct vrdma_ring ring;		/* its tail is not used: see cookie.h */
	struct vrdma_cookies cookies;
	uint64_t *wr_ids;		/* by cookie */
	uint32_t max_sge;
	uint32_t flush_from;
	struct vrdma_buf buf;
	struct vrdma_pd *parent;	/* parent domain of its creation */
};

struct vrdma_qp {
	struct verbs_qp vqp;
	struct vrdma_wq sq;
	struct vrdma_wq rq;
	struct vrdma_srq *srq;		/* or NULL; then rq has no entries */
	struct ibv_qp_cap cap;
	uint32_t max_inline;
	uint32_t send_ops;		/* BIT(enum ibv_wr_opcode) that it may post */
	bool sq_sig_all;
	bool ud;
	struct vrdma_buf buf;
	struct vrdma_pd *parent;	/* parent domain of its creation */
	struct list_node send_link;	/* under the send CQ's lock */
	struct list_node recv_link;	/* under the receive CQ's lock */

	/* Extended posting, between wr_start and wr_complete; under sq.lock. */
	uint32_t wr_head;
	int wr_err;
	struct virtio_rdma_wqe_ctrl *wr_ctrl;
	struct virtio_rdma_sge *wr_sge;
};

static inline struct vrdma_context *to_vctx(struct ibv_context *ibvctx)
{
	return container_of(ibvctx, struct vrdma_context, ibvctx.context);
}

static inline struct vrdma_td *to_vtd(struct ibv_td *ibvtd)
{
	return container_of(ibvtd, struct vrdma_td, ibvtd);
}

static inline struct vrdma_pd *to_vpd(struct ibv_pd *ibvpd)
{
	return container_of(ibvpd, struct vrdma_pd, ibvpd);
}

static inline struct vrdma_ah *to_vah(struct ibv_ah *ibvah)
{
	return container_of(ibvah, struct vrdma_ah, ibvah);
}

static inline struct vrdma_cq *to_vcq(struct ibv_cq *ibvcq)
{
	return container_of(ibvcq, struct vrdma_cq, vcq.cq);
}

static inline struct vrdma_cq *to_vcq_ex(struct ibv_cq_ex *ibvcq)
{
	return container_of(ibvcq, struct vrdma_cq, vcq.cq_ex);
}

static inline struct vrdma_srq *to_vsrq(struct ibv_srq *ibvsrq)
{
	return container_of(ibvsrq, struct vrdma_srq, vsrq.srq);
}

static inline struct vrdma_qp *to_vqp(struct ibv_qp *ibvqp)
{
	return container_of(ibvqp, struct vrdma_qp, vqp.qp);
}

static inline struct vrdma_qp *to_vqp_ex(struct ibv_qp_ex *ibvqp)
{
	return container_of(ibvqp, struct vrdma_qp, vqp.qp_ex);
}

/*
 * True if the device is dead.  Called by polls that find nothing.  The status
 * page's cache line is not written as long as the device is alive.
 */
static inline bool vrdma_ctx_dead(struct vrdma_context *ctx)
{
	if (unlikely(atomic_load_explicit(&ctx->dead, memory_order_acquire)))
		return true;
	/* Acquire: what the device wrote before its reset is read later. */
	if (likely(__atomic_load_n(&ctx->status->alive, __ATOMIC_ACQUIRE)))
		return false;
	atomic_store_explicit(&ctx->dead, true, memory_order_release);
	return true;
}

static inline int vrdma_lock_init(struct vrdma_lock *lock, bool needed)
{
	lock->needed = needed;
	return pthread_spin_init(&lock->spin, PTHREAD_PROCESS_PRIVATE);
}

static inline void vrdma_lock_destroy(struct vrdma_lock *lock)
{
	pthread_spin_destroy(&lock->spin);
}

static inline void vrdma_lock(struct vrdma_lock *lock)
{
	if (lock->needed)
		pthread_spin_lock(&lock->spin);
}

static inline void vrdma_unlock(struct vrdma_lock *lock)
{
	if (lock->needed)
		pthread_spin_unlock(&lock->spin);
}

static inline bool vrdma_pd_single_threaded(const struct vrdma_pd *pd)
{
	return pd->td != NULL;
}

/* buf.c */
int vrdma_buf_alloc(struct vrdma_buf *buf, size_t len, size_t page_size);
void vrdma_buf_free(struct vrdma_buf *buf);

/* db.c */
void vrdma_doorbell(struct vrdma_qp *qp, const struct vrdma_ring *ring);
void vrdma_srq_doorbell(struct vrdma_srq *srq);

/* verbs.c */
int vrdma_query_device_ex(struct ibv_context *ibvctx,
			  const struct ibv_query_device_ex_input *input,
			  struct ibv_device_attr_ex *attr, size_t attr_size);
int vrdma_query_port(struct ibv_context *ibvctx, uint8_t port,
		     struct ibv_port_attr *attr);
struct ibv_td *vrdma_alloc_td(struct ibv_context *ibvctx,
			      struct ibv_td_init_attr *attr);
int vrdma_dealloc_td(struct ibv_td *ibvtd);
struct ibv_pd *vrdma_alloc_pd(struct ibv_context *ibvctx);
struct ibv_pd *
vrdma_alloc_parent_domain(struct ibv_context *ibvctx,
			  struct ibv_parent_domain_init_attr *attr);
int vrdma_dealloc_pd(struct ibv_pd *ibvpd);
struct ibv_mr *vrdma_reg_mr(struct ibv_pd *ibvpd, void *addr, size_t length,
			    uint64_t hca_va, int access);
int vrdma_dereg_mr(struct verbs_mr *vmr);
struct ibv_ah *vrdma_create_ah(struct ibv_pd *ibvpd, struct ibv_ah_attr *attr);
int vrdma_destroy_ah(struct ibv_ah *ibvah);

/* flush.c */
bool vrdma_cq_has_flush(struct vrdma_cq *cq);
void vrdma_dead_event(struct vrdma_cq *cq);
bool vrdma_cq_last_look(struct vrdma_cq *cq);
struct virtio_rdma_cqe *vrdma_cq_flush(struct vrdma_cq *cq, uint32_t *word,
				       uint64_t *wr_id);

/* cq.c */
struct ibv_cq *vrdma_create_cq(struct ibv_context *ibvctx, int cqe,
			       struct ibv_comp_channel *channel, int vector);
struct ibv_cq_ex *vrdma_create_cq_ex(struct ibv_context *ibvctx,
				     struct ibv_cq_init_attr_ex *attr);
int vrdma_resize_cq(struct ibv_cq *ibvcq, int cqe);
int vrdma_destroy_cq(struct ibv_cq *ibvcq);
int vrdma_req_notify_cq(struct ibv_cq *ibvcq, int solicited_only);
struct vrdma_cq_gen *vrdma_cq_next_gen(struct vrdma_cq *cq);
void vrdma_cq_purge_locked(struct vrdma_cq *cq, struct vrdma_qp *qp);
void vrdma_cqs_purge_srq(struct vrdma_context *ctx, uint32_t srqn);

/* poll.c */
int vrdma_poll_cq(struct ibv_cq *ibvcq, int num, struct ibv_wc *wc);
void vrdma_cq_set_ex_ops(struct vrdma_cq *cq, uint64_t wc_flags);

/* qp.c */
struct ibv_qp *vrdma_create_qp(struct ibv_pd *ibvpd,
			       struct ibv_qp_init_attr *attr);
struct ibv_qp *vrdma_create_qp_ex(struct ibv_context *ibvctx,
				  struct ibv_qp_init_attr_ex *attr);
int vrdma_modify_qp(struct ibv_qp *ibvqp, struct ibv_qp_attr *attr, int mask);
int vrdma_query_qp(struct ibv_qp *ibvqp, struct ibv_qp_attr *attr, int mask,
		   struct ibv_qp_init_attr *init_attr);
int vrdma_destroy_qp(struct ibv_qp *ibvqp);

/* srq.c */
struct ibv_srq *vrdma_create_srq(struct ibv_pd *ibvpd,
				 struct ibv_srq_init_attr *attr);
int vrdma_modify_srq(struct ibv_srq *ibvsrq, struct ibv_srq_attr *attr,
		     int mask);
int vrdma_query_srq(struct ibv_srq *ibvsrq, struct ibv_srq_attr *attr);
int vrdma_destroy_srq(struct ibv_srq *ibvsrq);
int vrdma_post_srq_recv(struct ibv_srq *ibvsrq, struct ibv_recv_wr *wr,
			struct ibv_recv_wr **bad_wr);
bool vrdma_srq_complete(struct vrdma_srq *srq, uint32_t cookie,
			uint64_t *wr_id);
bool vrdma_srq_complete_by_number(struct vrdma_context *ctx, uint32_t srqn,
				  uint32_t cookie, uint64_t *wr_id);
bool vrdma_srq_flush(struct vrdma_srq *srq, uint32_t *cookie, uint64_t *wr_id);

/* post.c */
int vrdma_post_send(struct ibv_qp *ibvqp, struct ibv_send_wr *wr,
		    struct ibv_send_wr **bad_wr);
int vrdma_post_recv(struct ibv_qp *ibvqp, struct ibv_recv_wr *wr,
		    struct ibv_recv_wr **bad_wr);

/* wr.c */
int vrdma_qp_set_wr_ops(struct vrdma_qp *qp, uint64_t send_ops_flags);

#endif /* VRDMA_H */
