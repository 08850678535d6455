/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory transport: RDMA between the devices of one fabric in this process. An operation
 * is one copy between the memories of two guests, made by the poller of the QP that
 * initiates it.  There are no packets: the responder is code that runs on the requester's
 * thread, under the lock of the peer's receive side.
 *
 *   memory.c     the operations that the core calls; capabilities
 *   fabric.c     ports and GIDs; lookup of a QP by GID and QP number
 *   requester.c  a send queue's turn; requester of a connected QP
 *   sq.c         the rare parts of such a turn: errors, drain, flush, slices
 *   ud.c         datagrams: UD and QP 1
 *   srq.c        senders that wait for a receive of a shared receive queue
 *   wait.c       what ends the waits of a send queue
 *
 * What does not depend on how a request reaches the responder is in core/requester.c, the
 * responder in core/responder.c, the copy in core/sg.c.
 *
 * Locks: those of objects.h, plus mem_fabric.lock, which is the innermost except for the
 * scheduler's own.
 */
#ifndef VRD_TRANSPORTS_MEMORY_H
#define VRD_TRANSPORTS_MEMORY_H

#include <endian.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "gid_hash.h"
#include "requester.h"
#include "responder.h"
#include "transport.h"
#include "wqe.h"

/* Half of IBTA's longest message: 2^31 is negative in programs that use an int. */
#define VRD_MEM_MAX_MSG		(1U << 30)
#define VRD_MEM_MTU		4096U
#define VRD_MEM_MAX_RD_ATOMIC	128
#define VRD_MEM_GRH_LEN		40U

/*
 * After this many bytes a send queue asks its poller whether other work is waiting (another
 * QP, or a thread that waits for the end of the turn, as dereg_mr and quiesce do), and ends
 * its turn if so.  The slice is longer if the QP is the only one that was busy lately,
 * because the query and a new lookup of the memory cost some per cent of a slice.
 */
#define VRD_MEM_SLICE		(64U << 10)
#define VRD_MEM_SLICE_ALONE	(512U << 10)
/* What an entry of a REG_MR's list costs of a slice, in bytes: it takes some 30 ns. */
#define VRD_MEM_ENTRY_COST	1024U

/* ---- fabric and ports ------------------------------------------------- */

struct vrd_mem_qp;

/* QPs whose send queue waits for something of another QP, longest wait first; fabric.lock. */
TAILQ_HEAD(vrd_mem_parked, vrd_mem_qp);

/* A GID of a port; RCU readers look it up, changes are made under mem_fabric.lock. */
struct vrd_mem_gid {
	uint8_t gid[16];
	struct vrd_mem_port *port;
	struct vrd_mem_gid *next;		/* in the bucket; RCU */
	bool revoked;				/* in no bucket: the GID's owner has added it;
						 * relaxed */
	struct vrd_deferred deferred;
};

struct vrd_mem_fabric {
	pthread_mutex_t lock;
	struct vrd_fabric *fabric;
	struct vrd_mem_gid *gids[VRD_GID_BUCKETS];	/* RCU */
	/*
	 * Incremented, after the change, whenever a GID or a QP is removed or a QP's peer
	 * changes. What a QP has cached about its peer is valid only while the generation is
	 * the one that was cached with it.  Has a cache line of its own, because every burst of
	 * every QP reads it.
	 */
	_Alignas(64) _Atomic uint64_t generation;
};

struct vrd_mem_port {
	struct vrd_device *dev;
	struct vrd_mem_fabric *fabric;
	struct vrd_mem_gid *gids[VRD_GID_TABLE_LEN];	/* by sgid_index; RCU */
	struct vrd_mem_parked parked;		/* QPs that wait for dev to resume; fabric.lock */
};

static inline struct vrd_mem_port *vrd_mem_port(const struct vrd_device *dev)
{
	return dev->priv[VRD_SLOT_MEMORY];
}

static inline uint64_t vrd_mem_generation(struct vrd_mem_fabric *mf)
{
	return atomic_load_explicit(&mf->generation, memory_order_acquire);
}

/* ---- queue pairs ------------------------------------------------------- */

/*
 * A message that takes several turns.  Allocated for the first such message of a QP, so that
 * idle QPs stay small; sq.lock.
 */
struct vrd_mem_progress {
	bool active;
	struct vrd_wr wr;		/* copy of the entry at sq.head */
	struct vrd_sg local;
	struct vrd_resp_message msg;
	uint64_t left;
	uint64_t inv_period;		/* SEND_WITH_INV: vrd_resp_invalidate() */
};

struct vrd_mem_qp {
	struct vrd_qp *qp;
	struct vrd_mem_port *port;

	/* Requester: sq.lock. */
	struct vrd_qp *peer;		/* valid while the generation is peer_generation */
	uint64_t peer_generation;
	struct vrd_mem_progress *progress;
	struct vrd_req req;		/* WAIT_OTHER: for a suspended peer, in its parked list */
	bool dead;			/* destroyed: not served; written under both ring locks */

	/* fabric.lock */
	struct vrd_mem_parked *parked;	/* the list that it is in, or NULL */
	TAILQ_ENTRY(vrd_mem_qp) park_link;
};

static inline struct vrd_mem_qp *vrd_mem_qp(const struct vrd_qp *qp)
{
	return qp->priv[VRD_SLOT_MEMORY];
}

/* True if the message at sq.head has been started; sq.lock. */
static inline bool vrd_mem_sq_busy(const struct vrd_mem_qp *mq)
{
	return mq->req.wait != VRD_REQ_WAIT_NONE || mq->req.invalidated ||
	       (mq->progress && mq->progress->active);
}

static inline bool vrd_mem_is_rc(const struct vrd_qp *qp)
{
	return qp->type == VIRTIO_RDMA_QPT_RC;
}

static inline bool vrd_mem_is_datagram(const struct vrd_qp *qp)
{
	return qp->type == VIRTIO_RDMA_QPT_UD || qp->type == VIRTIO_RDMA_QPT_GSI;
}

/* One turn of a send queue; on the stack of vrd_mem_sq_run(). */
struct vrd_mem_burst {
	struct vrd_qp *qp;
	struct vrd_mem_qp *mq;
	struct vrd_counters *count;	/* qp->count */
	uint64_t whole;			/* bytes of a slice: vrd_mem_whole_slice(); 0: not known */
	uint64_t slice;			/* bytes left before the next query for other work */
	/* Totals of the requests so far that are not in the counters yet. */
	uint64_t sent;			/* bytes */
	uint32_t writes, sends;
	uint8_t status;			/* of the request that failed: VIRTIO_RDMA_WC_* */
	struct vrd_resp resp;		/* resp.qp: the peer, with its rq.lock held, or NULL */
	struct vrd_wr wr;
};

enum vrd_mem_step {
	VRD_MEM_DONE,			/* the work request has succeeded */
	VRD_MEM_FAILED,			/* with burst.status */
	VRD_MEM_MORE,			/* the turn's bytes are used up */
	VRD_MEM_WAIT,			/* see mq->req.wait */
};

/* memory.c */
extern const struct vrd_path_ops vrd_mem_path;

/* fabric.c */
int vrd_mem_device_open(struct vrd_device *dev, const struct vrd_device_config *cfg,
			struct vrd_error *err);
void vrd_mem_device_close(struct vrd_device *dev);
void vrd_mem_device_resumed(struct vrd_device *dev);
int vrd_mem_gid_add(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);
void vrd_mem_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);
void vrd_mem_fabric_changed(struct vrd_mem_fabric *mf);
/* RCU read section: */
const struct vrd_mem_gid *vrd_mem_sgid(const struct vrd_mem_port *port, uint8_t index);
struct vrd_mem_port *vrd_mem_port_by_gid(struct vrd_mem_fabric *mf, const uint8_t gid[16]);
/* True if a device of the fabric has this GID; any thread. */
bool vrd_mem_reaches(struct vrd_device *dev, const uint8_t gid[16]);
/* Also NULL for a QP that does not use this transport, as QP 1 of some devices. */
struct vrd_qp *vrd_mem_find_qp(struct vrd_mem_fabric *mf, const uint8_t gid[16], uint32_t qpn);
/*
 * Schedules the QP that @gid and @qpn identify, or @qp's peer.  Any thread, any lock except
 * fabric.lock.
 */
void vrd_mem_wake(struct vrd_mem_fabric *mf, const uint8_t gid[16], uint32_t qpn);
void vrd_mem_wake_peer(struct vrd_qp *qp);
void vrd_mem_park(struct vrd_mem_qp *mq, struct vrd_mem_parked *list);
bool vrd_mem_park_suspended(struct vrd_mem_qp *mq, struct vrd_mem_port *port);
void vrd_mem_unpark(struct vrd_mem_qp *mq);
void vrd_mem_retry_parked(struct vrd_mem_fabric *mf, struct vrd_mem_parked *list);
void vrd_mem_wake_parked(struct vrd_mem_fabric *mf, struct vrd_mem_parked *list);

/* wait.c: sq.lock */
void vrd_mem_wait_end(struct vrd_mem_qp *mq);

/* sq.c */
void vrd_mem_count_other(struct vrd_mem_burst *b, const struct vrd_wr *wr);
/* Bytes that are copied before the next query for other work: more if the QP is alone. */
uint64_t vrd_mem_whole_slice(struct vrd_mem_burst *b);
bool vrd_mem_next_slice(struct vrd_mem_burst *b);
/* Charges the QP for the bytes of the slice that were copied. */
static inline void vrd_mem_moved(struct vrd_mem_burst *b)
{
	b->qp->sched.moved += (b->whole ? b->whole : VRD_MEM_SLICE) - b->slice;
}

enum vrd_mem_step vrd_mem_fail(struct vrd_mem_burst *b, uint8_t status);
enum vrd_run vrd_mem_stop(struct vrd_mem_burst *b, const struct vrd_wr *wr,
			  enum vrd_mem_step step);
bool vrd_mem_drained(struct vrd_qp *qp);
enum vrd_run vrd_mem_flush(struct vrd_qp *qp, unsigned int budget);
void vrd_mem_rq_run(struct vrd_qp *qp);

static inline void vrd_mem_attach_peer(struct vrd_mem_burst *b, struct vrd_qp *peer)
{
	vrd_resp_attach(&b->resp, peer, b->qp->poller);
}

static inline void vrd_mem_unlock_peer(struct vrd_mem_burst *b)
{
	if (!b->resp.qp)
		return;
	vrd_resp_detach(&b->resp);
	vrd_unlock(&b->resp.qp->rq.lock);
	b->resp.qp = NULL;
}

/*
 * Completes a request that has succeeded.  Returns VRD_RUN_IDLE if the turn continues, else
 * the result of the turn.
 */
static VRD_INLINE enum vrd_run vrd_mem_complete(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	switch (wr->req.opcode) {
	case VIRTIO_RDMA_WR_RDMA_WRITE:
	case VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM:
		b->writes++;
		b->sent += wr->req.length;
		break;
	case VIRTIO_RDMA_WR_SEND:
	case VIRTIO_RDMA_WR_SEND_WITH_IMM:
		b->sends++;
		b->sent += wr->req.length;
		break;
	default:
		vrd_mem_count_other(b, wr);
	}
	if (vrd_unlikely(b->mq->req.wait != VRD_REQ_WAIT_NONE || b->mq->req.rnr_tries))
		vrd_mem_wait_end(b->mq);
	vrd_complete_send(b->qp, wr, wr->req.length);
	vrd_sq_advance(b->qp);
	return vrd_likely(b->slice) || vrd_mem_next_slice(b) ? VRD_RUN_IDLE : VRD_RUN_MORE;
}

/* requester.c */
enum vrd_run vrd_mem_sq_run(struct vrd_qp *qp, unsigned int budget);

/* ud.c */
enum vrd_run vrd_mem_ud_run(struct vrd_mem_burst *b, unsigned int budget);
bool vrd_mem_path_carries(const struct vrd_qp *qp, const struct vrd_wr *wr);
void vrd_mem_path_deliver(struct vrd_qp *qp, uint8_t *data, uint32_t length,
			  struct virtio_rdma_cqe *cqe);

/* srq.c */
int vrd_mem_srq_create(struct vrd_srq *srq);
void vrd_mem_srq_destroy(struct vrd_srq *srq);
void vrd_mem_srq_free(struct vrd_srq *srq);
void vrd_mem_srq_run(struct vrd_srq *srq);
void vrd_mem_srq_park(struct vrd_mem_qp *mq, struct vrd_srq *srq);

/* wait.c: sq.lock */
enum vrd_mem_step vrd_mem_wait_rnr(struct vrd_mem_burst *b);
enum vrd_mem_step vrd_mem_wait_peer(struct vrd_mem_burst *b);
enum vrd_mem_step vrd_mem_wait_host(struct vrd_mem_burst *b);
enum vrd_mem_step vrd_mem_wait_resume(struct vrd_mem_burst *b, struct vrd_device *dev);

#endif /* VRD_TRANSPORTS_MEMORY_H */
