/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The objects of a device and who may touch them.
 *
 * Threads
 *   shell     calls vrd.h, one thread at a time for each device
 *   control   one for each device: takes commands off the control virtqueue
 *   poller    one or more for each engine: run send queues, post completions
 *
 * Life time.  Objects are found by number in the device's tables, without a
 * lock.  A pointer that a poller looked up is valid until the end of its turn.
 * To destroy an object, take it out of its table, stop its work, and free it
 * after a grace period (reclaim.h): when each poller has ended a turn.  A pointer
 * that is kept longer than a turn holds a reference that destroy waits for.
 *
 * Locks, outermost first:
 *   dev->lock          control path: tables, life cycle          (mutex)
 *   qp->sq.lock        a QP's state, send queue and requester
 *   qp->rq.lock        receive queue and responder (of the peer)
 *   srq->ring.lock     shared receive queue
 *   cq->lock           ring and arming of a CQ
 *   vq->lock           event and completion virtqueues
 * At most one lock of each of these levels is held at a time.  Pollers never
 * take dev->lock.
 */
#ifndef VRD_OBJECTS_H
#define VRD_OBJECTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <linux/virtio_rdma.h>

#include "lock.h"
#include "log.h"
#include "pending.h"
#include "table.h"
#include "timer.h"
#include "transports.h"
#include "vrd.h"

struct vrd_transport_ops;
struct vrd_path_ops;
struct vrd_poller;
struct vrd_mem;
struct vrd_held_recv;
struct vrd_vq;
struct vrd_fabric;

/* Upper bounds that sizes on the stack follow; devices may have lower limits. */
#define VRD_MAX_SGE		32
#define VRD_MAX_INLINE		512

#define VRD_QPN_MASK		0xffffffU

/*
 * A buffer of guest pages that holds an object's rings.  @frames are device
 * page numbers, as the guest gave them; @host are their translations under the
 * current memory table, NULL where it has no writable RAM.  Both are written
 * while no poller runs on the device (creation, quiesce).
 */
struct vrd_buf {
	uint32_t num_pages;
	uint64_t *frames;
	void **host;
	struct vrd_handle_buf *from;	/* whose pages these are until vrd_buf_keep(); or NULL */
};

/* A send, receive or shared receive ring; the guest writes entries and producer
 * index.
 */
struct vrd_ring {
	struct vrd_lock lock;
	uint32_t entries;		/* power of two; 0: no ring */
	uint32_t stride_shift;		/* entry size is 1 << stride_shift bytes */
	uint32_t offset;		/* of the ring in the buffer, page aligned */
	uint32_t ctrl_offset;
	uint32_t slot;			/* in the context's doorbell page */
	uint32_t head;			/* entries taken so far, modulo 2^32 */
	uint32_t tail;			/* producer index as last read and checked */
	bool broken;			/* the producer index was impossible: QP goes to ERR */
	bool want_db;			/* RQ, SRQ: the transport wants doorbells; its lock */
	struct virtio_rdma_ring_ctrl *ctrl;	/* translation, or NULL */

	struct vrd_qp *qp;		/* whose SQ or RQ it is, or NULL */
	struct vrd_srq *srq;		/* whose ring it is, or NULL */
	LIST_ENTRY(vrd_ring) slot_link;	/* rings of its slot: the poller */
};

struct vrd_ctx {
	uint32_t id;
	bool kernel;			/* CTX_KERNEL */
	struct vrd_device *dev;
	struct vrd_poller *poller;	/* runs the send queues of this context */
	uint64_t db_addr;		/* device address of the doorbell page */
	struct virtio_rdma_db_page *db;	/* translation, or NULL */
	uint32_t users;			/* objects that depend on it; dev->lock */
	struct vrd_end end;
	struct vrd_ctx_slots *slots;	/* who has which dirty byte: doorbell.c */
};

struct vrd_pd {
	uint32_t id;
	struct vrd_ctx *ctx;
	uint32_t users;			/* dev->lock */
	struct vrd_end end;
	void *priv[VRD_NUM_SLOTS];	/* see struct vrd_qp */
};

/* A region under a key that the host chose: entry of dev->lkeys or dev->rkeys. */
struct vrd_host_key {
	uint32_t number;		/* upper bits of the key */
	struct vrd_mr *mr;		/* NULL: not in the table */
};

/*
 * Pages of a region whose pfns follow each other.  A run ends where the next one
 * begins; behind the last one lies one more, whose @page is the number of pages.
 */
struct vrd_mr_run {
	uint32_t page;			/* of the region: the first of the run */
	uint32_t pfn;			/* IOVA page number of that page: 16 TiB of guest memory */
	uint8_t *hva;			/* of that page, if the run is contiguous there under the
					 * current memory table; else NULL: look each piece up */
};

/* Immutable once it is in dev->mrs, but for @linear and the hvas of @runs (quiesce). */
struct vrd_mr {
	uint32_t index;			/* handle, 24 bits: upper bits of the keys */
	uint32_t key;			/* by which the core finds it: vrd_mr_find(); 0: by the
					 * host's keys only */
	uint32_t lkey, rkey;		/* that the guest gets: the same, or the host's */
	uint32_t access;		/* VIRTIO_RDMA_ACCESS_* */
	bool dma;			/* all of guest memory, for kernel contexts */
	struct vrd_pd *pd;
	uint64_t iova;
	uint64_t length;
	uint8_t *linear;		/* hva of @iova if the region is one run with an hva */
	struct vrd_mr_run *runs;
	uint32_t num_runs, max_runs;	/* max_runs: that there is room for, without the last */
	uint64_t num_pages;
	uint64_t filled;		/* pages that have come; dev->lock */
	LIST_ENTRY(vrd_mr) partial_link;	/* dev->partial_mrs until it is complete */
	struct vrd_host_key host_lkey, host_rkey;
	/* Registration: dev->lock */
	bool was_partial, pinned_mem;
	uint64_t filled_before;		/* by the last command */
	uint32_t runs_before;
	uint64_t generation;		/* of the memory table that it was made for */
	int error;
	struct vrd_end end;
	void *priv[VRD_NUM_SLOTS];
};

/* Registered regions: upper bits of a key are the number, the lowest byte is
 * the key's own.
 */
static inline uint32_t vrd_key_index(uint32_t key)
{
	return key >> 8;
}

struct vrd_cq {
	uint32_t cqn;
	struct vrd_device *dev;
	struct vrd_ctx *ctx;
	struct vrd_lock lock;		/* all below */
	struct vrd_buf buf;
	uint32_t entries;
	uint32_t offset;
	uint32_t ctrl_offset;
	struct virtio_rdma_cq_ctrl *ctrl;	/* translation, or NULL */
	uint32_t producer;		/* CQEs written, modulo 2^32 */
	uint32_t consumer;		/* as last read; only the own guest is hurt by lies */
	uint32_t vector;
	_Atomic uint32_t fired;		/* the arm word that was answered last; read without
					 * the lock */
	bool event_pending;		/* waits for a buffer in the vector's queue */
	bool error;			/* overflowed: takes no more */
	TAILQ_ENTRY(vrd_cq) event_link;	/* vq's waiting CQs: vq->lock */
	uint32_t users;			/* QPs; dev->lock */
	struct vrd_end end;
	void *priv[VRD_NUM_SLOTS];
};

/*
 * A shared receive queue.  Entries are taken in the order of the ring, by the
 * QPs that need them, and are complete in any order: the CQE has the cookie.
 */
struct vrd_srq {
	uint32_t srqn;
	struct vrd_device *dev;
	struct vrd_ctx *ctx;
	struct vrd_pd *pd;		/* of the keys in its entries; may be another than the QP's */
	struct vrd_poller *poller;	/* ctx->poller: sees its dirty byte */
	struct vrd_buf buf;
	uint32_t max_sge;
	uint32_t users;			/* QPs; dev->lock */

	struct vrd_ring ring;		/* its lock: all below, and what it has */
	uint32_t limit;			/* armed, or 0; transports with srq_modify have their own */
	uint32_t lent;			/* taken by the transport for messages that may come:
					 * the limit still counts them as posted */
	bool error;			/* SRQ_ERR was raised: it gives no more receives */

	struct vrd_end end;
	struct vrd_srq *dead_next;	/* on its way out: dev->lock */
	void *priv[VRD_NUM_SLOTS];
};

struct vrd_qp {
	uint32_t qpn;
	uint8_t type;			/* VIRTIO_RDMA_QPT_* */
	bool kernel;			/* of a kernel context: may use DMA keys */
	struct vrd_device *dev;
	struct vrd_ctx *ctx;
	struct vrd_pd *pd;
	struct vrd_cq *send_cq, *recv_cq;
	struct vrd_srq *srq;		/* takes its receives from there; or NULL */
	struct vrd_poller *poller;	/* ctx->poller: runs sq */
	struct vrd_buf buf;
	uint32_t max_send_sge, max_recv_sge, max_inline;
	uint32_t max_msg_sz;		/* the device's */

	/*
	 * Written by the control thread or a poller under sq.lock and rq.lock
	 * both, read under either.
	 */
	uint8_t state;			/* VIRTIO_RDMA_QPS_* */
	struct virtio_rdma_qp_attr attr;	/* as last modified, CPU's little-endian form kept */

	/*
	 * Never NULL.  Written under both ring locks, read under either, or by the
	 * poller without (vrd_qp_path()).
	 */
	const struct vrd_path_ops *path;
	/*
	 * For a UD QP that chooses for each datagram, else NULL; sq.lock.  The path
	 * that has the send queue, and the one that the entry at its head needs.
	 */
	const struct vrd_path_ops *send_path, *next_path;

	struct vrd_ring sq;
	struct vrd_ring rq;

	struct {			/* responder.c: rq.lock */
		bool established;	/* COMM_EST was raised */
		bool last_wqe_told;	/* in ERR: no receive of the SRQ is held any more */
		struct vrd_held_recv *held;	/* made when the first is needed, or NULL */
	} resp;

	struct vrd_sched {		/* sched.c; the poller's own unless it says otherwise */
		TAILQ_ENTRY(vrd_qp) link;	/* its device's run queue */
		struct vrd_dev_sched *dev;	/* its device on its poller; constant */
		bool queued;
		int16_t hot;			/* place in the hot list, or -1 */
		uint32_t head;			/* sq.head after it last ran: to prefetch */
		uint32_t moved;			/* bytes of this burst: the transport adds to it */
		TAILQ_ENTRY(vrd_qp) posted_link;	/* the inbox: inbox lock */
		bool posted;			/* in the inbox: inbox lock */
		bool detached;			/* ignore vrd_qp_schedule(): inbox lock */
		_Atomic uint8_t error_state;	/* SQE or ERR to go to, or 0: any thread */
	} sched;

	uint32_t users;			/* host calls under way for it; dev->lock */
	bool numbered;			/* qpn is taken in dev->qps; dev->lock */
	/* Of the MODIFY_QP under way: the GID that its address vector names. */
	bool has_sgid;
	uint8_t sgid[16];
	struct vrd_end end;
	struct vrd_qp *dead_next;	/* on its way out: dev->lock */
	/*
	 * The private parts of the transports, by VRD_SLOT_*; NULL where a transport
	 * has none.
	 */
	void *priv[VRD_NUM_SLOTS];
};

/* The port's GID table; written under dev->lock, read under RCU (vrd_gid_at()). */
struct vrd_gid_entry {
	bool valid;
	uint8_t gid[16];
};

#define VRD_GID_TABLE_LEN	32

/* VIRTIO_RDMA_STAT_* of a device, as one poller counted them: it alone writes. */
struct vrd_counters {
	_Alignas(64) _Atomic uint64_t n[VIRTIO_RDMA_STAT_COUNT];
};

struct vrd_device {
	struct vrd_engine *engine;
	/*
	 * In the order in which they are asked whether they reach a destination;
	 * NULL ends the list.  This and what follows from it does not change.
	 */
	const struct vrd_transport_ops *transports[VRD_NUM_SLOTS + 1];
	const struct vrd_transport_ops *owner;	/* of numbers and keys; NULL: the core itself */
	bool several;			/* more than one transport carries data */
	bool polled;			/* a transport has poll() */
	bool host_cqs;			/* a transport has CQs of its own */
	bool maps_memory;		/* a transport maps guest memory a second time */
	_Atomic uint64_t connections[VRD_NUM_SLOTS];	/* by the transport of their path */
	void *priv[VRD_NUM_SLOTS];
	struct vrd_fabric *fabric;
	char *name;
	char *fabric_name;
	struct virtio_rdma_config config;
	struct vrd_limits limits;
	bool own_gids_only;		/* no list of GIDs, and no others either */
	unsigned int num_allowed_gids;
	uint8_t allowed_gids[VRD_MAX_ALLOWED_GIDS][16];

	pthread_mutex_t lock;
	uint64_t offered;		/* virtio feature bits; constant */
	uint64_t features;		/* of them, those that the driver accepted */
	bool atomics;			/* VIRTIO_RDMA_F_ATOMIC is one of them */
	uint32_t max_msg_sz;		/* the transports'; longer requests are not carried out */
	bool initialised;		/* INIT has been done */
	bool running;			/* the control queue is started */
	uint32_t num_vectors_used;
	struct vrd_mem *mem;		/* replaced under quiesce */
	uint64_t mem_generation;
	unsigned int mem_pins;		/* workers that look at a memory table */
	struct vrd_mem *old_mem;	/* replaced, and pinned still: list by next */

	struct vrd_table ctxs, pds, mrs, cqs, srqs, qps;
	struct vrd_table lkeys, rkeys;	/* dev->owner: regions by the host's keys */
	LIST_HEAD(, vrd_mr) partial_mrs;	/* not in mrs yet */
	uint32_t num_partial;
	struct vrd_mr *local_dma;	/* what LOCAL_DMA_LKEY names */
	_Atomic uint64_t mr_bytes;	/* of registered regions */
	_Atomic uint32_t dma_mrs;	/* regions that cover all memory */
	uint64_t ring_pages;		/* that buffers of rings name: limits.max_ring_bytes */
	LIST_HEAD(, vrd_handle_buf) handle_bufs;	/* buf.c: of CREATE_BUF */
	uint32_t num_handle_bufs, last_handle_buf;
	uint32_t random[64];		/* for keys: the first @num_random are not used yet */
	unsigned int num_random;
	struct vrd_gid_entry gids[VRD_GID_TABLE_LEN];

	unsigned int num_vqs;
	struct vrd_vq **vqs;
	struct vrd_control *control;	/* control.c: the thread */
	bool blocks;			/* the transports' operations may */
	struct vrd_workers *workers;	/* for the transport's calls that may block, or NULL */
	struct vrd_cmds cmds;		/* cmd_queue.c */
	struct vrd_ends ends;		/* end.c */
	struct vrd_events *events;	/* event.c: what waits for a buffer */
	struct vrd_ratelimit log_limit;

	/*
	 * 0: pollers may work on this device.  Raised by quiesce (nests), read
	 * by pollers at the start of each burst and slice.
	 */
	_Atomic uint32_t suspended;
	_Atomic bool broken;
	int error_fd;
	int lost_fd;			/* memory in place of lost mappings: mem_map.c */
	uint64_t num_maps;		/* of its memory regions; front end's thread */
	struct vrd_closer *closer;	/* of descriptors that the front end's client gave */

	/*
	 * VIRTIO_RDMA_STAT_*.  Of the data path: in @counters, by poller, plain stores.
	 * All else: in @stats, relaxed atomics.  vrd_stat_read() adds them up.
	 */
	struct vrd_counters *counters;
	_Atomic uint64_t stats[VIRTIO_RDMA_STAT_COUNT];

	LIST_ENTRY(vrd_device) engine_link;	/* engine.c: engine lock */
	struct vrd_poller_dev **pdevs;	/* the device on each poller, by index; constant */
	/* Goes up when addresses of rings change: resume writes their words again. */
	_Atomic uint32_t ring_generation;
	struct vrd_poller *poller;	/* home: watches the doorbell kick */
	int db_kick_fd;			/* as the pollers watch it, or -1: engine lock */
};

/* For the poller, which does not always hold a ring lock. */
static inline const struct vrd_path_ops *vrd_qp_path(const struct vrd_qp *qp)
{
	return __atomic_load_n(&qp->path, __ATOMIC_RELAXED);
}

/* The GID at @index, or NULL; good until the end of the caller's turn. */
static inline const uint8_t *vrd_gid_at(const struct vrd_device *dev, uint32_t index)
{
	if (index >= VRD_GID_TABLE_LEN ||
	    !__atomic_load_n(&dev->gids[index].valid, __ATOMIC_ACQUIRE))
		return NULL;
	return dev->gids[index].gid;
}

/* @feature: VIRTIO_RDMA_F_*. */
static inline bool vrd_device_has(const struct vrd_device *dev, unsigned int feature)
{
	return dev->features >> feature & 1;
}

static inline void vrd_stat_add(struct vrd_device *dev, unsigned int stat, uint64_t n)
{
	atomic_fetch_add_explicit(&dev->stats[stat], n, memory_order_relaxed);
}

/* stats.c: any thread */
uint64_t vrd_stat_read(const struct vrd_device *dev, unsigned int stat);

#endif /* VRD_OBJECTS_H */
