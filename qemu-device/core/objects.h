/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The objects of a device, and the rules for access to them.
 *
 * Threads
 *   front end calls vrd.h, one thread at a time for each device
 *   control   one for each device: takes commands off the control virtqueue
 *   worker    for devices whose transports make calls that may block: makes these calls
 *   poller    one or more for each engine: run send queues, post completions
 *
 * Life time.  Objects are found by number in the device's tables, without a lock.  A pointer
 * that a poller looked up is valid until the end of its turn.  To destroy an object, remove
 * it from its table, stop its work, and free it after a grace period (reclaim.h), i.e. when
 * each poller has ended a turn.  A pointer that is kept longer than a turn holds a reference
 * that destroy waits for.
 *
 * Locks, outermost first:
 *   dev->lock          control path: tables, life cycle          (mutex)
 *   qp->sq.lock        a QP's state, send queue and requester
 *   qp->rq.lock        receive queue and responder (of the peer)
 *   srq->ring.lock     shared receive queue
 *   cq->lock           ring and arming of a CQ
 *   vq->lock           event and completion virtqueues
 * At most one lock of each of these levels is held at a time.  Pollers never take dev->lock.
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

/* Upper bounds that determine sizes on the stack; devices may have lower limits. */
#define VRD_MAX_SGE		32
#define VRD_MAX_INLINE		512

#define VRD_QPN_MASK		0xffffffU

/*
 * A buffer of guest pages that holds an object's rings.  @pfns are the page numbers (DMA
 * addresses) that the guest sent.  @hva are the addresses of these pages under the current
 * memory table; NULL if a page is not writable RAM.  Both are written while no poller runs
 * on the device (creation, quiesce).
 *
 * The hvas are kept by page, not by run of contiguous pages: each access to a ring looks one
 * up, and a run would have to be found first.
 */
struct vrd_buf {
	uint32_t num_pages;
	uint32_t *pfns;
	void **hva;
	struct vrd_handle_buf *from;	/* handle that owns the pages until vrd_buf_keep(); or
					 * NULL */
};

/* A send, receive or shared receive ring.  The guest writes the entries and the producer index. */
struct vrd_ring {
	struct vrd_lock lock;
	uint32_t entries;		/* power of two; 0: no ring */
	uint32_t stride_shift;		/* entry size is 1 << stride_shift bytes */
	uint32_t offset;		/* offset of the ring in the buffer, page aligned */
	uint32_t ctrl_offset;
	uint32_t slot;			/* index in the context's doorbell page */
	uint32_t head;			/* entries taken so far, modulo 2^32 */
	uint32_t tail;			/* producer index as last read and checked */
	bool broken;			/* the producer index was impossible: QP goes to ERR */
	bool want_db;			/* RQ, SRQ: the transport needs doorbells; protected by
					 * lock */
	struct virtio_rdma_ring_ctrl *ctrl;	/* hva, or NULL */

	struct vrd_qp *qp;		/* the QP that the SQ or RQ belongs to, or NULL */
	struct vrd_srq *srq;		/* the SRQ that the ring belongs to, or NULL */
	LIST_ENTRY(vrd_ring) slot_link;	/* rings of the same slot; used by the poller */
};

struct vrd_ctx {
	uint32_t id;
	bool kernel;			/* CTX_KERNEL */
	struct vrd_device *dev;
	struct vrd_poller *poller;	/* runs the send queues of this context */
	uint64_t db_addr;		/* DMA address of the doorbell page */
	struct virtio_rdma_db_page *db;	/* hva, or NULL */
	uint32_t users;			/* objects that depend on it; dev->lock */
	struct vrd_end end;
	struct vrd_ctx_slots *slots;	/* rings of each dirty byte: doorbell.c */
};

struct vrd_pd {
	uint32_t id;
	struct vrd_ctx *ctx;
	uint32_t users;			/* dev->lock */
	struct vrd_end end;
	void *priv[VRD_NUM_SLOTS];	/* see struct vrd_qp */
};

/* The entry of a region in dev->lkeys or dev->rkeys, under a key that the host chose. */
struct vrd_host_key {
	uint32_t number;		/* upper bits of the key */
	struct vrd_mr *mr;		/* NULL: not in the table */
};

/*
 * Pages of a region with consecutive pfns.  A run ends where the next one begins.  The last
 * run is followed by a terminating entry whose @page is the number of pages.
 */
struct vrd_mr_run {
	uint32_t page;			/* index in the region of the run's first page */
	uint32_t pfn;			/* DMA address of that page >> page shift: up to 16 TiB
					 * of guest memory */
	uint8_t *hva;			/* hva of that page, if the run is contiguous there under
					 * the current memory table; else NULL: look up each part */
};

/*
 * A piece of a fast-registered region, contiguous in DMA addresses.  It ends where the next
 * one begins; the last one is followed by a terminating entry whose @offset is the length.
 */
struct vrd_mr_entry {
	uint64_t offset;		/* bytes from the region's first one */
	uint64_t addr;			/* DMA address */
	uint8_t *hva;			/* as in struct vrd_mr_run */
};

/*
 * Does not change while it is in dev->mrs, except for @linear and the hvas of @runs and
 * @entries (quiesce).
 */
struct vrd_mr {
	uint32_t index;			/* handle, 24 bits: upper bits of the keys */
	uint32_t key;			/* the key by which vrd_mr_find() finds it; 0: it is
					 * found only by the host's keys */
	uint32_t lkey, rkey;		/* keys that the guest gets: @key, or the host's keys */
	uint32_t access;		/* VIRTIO_RDMA_ACCESS_* */
	bool dma;			/* all of guest memory, for kernel contexts */
	struct vrd_pd *pd;
	uint64_t iova;
	uint64_t length;
	uint8_t *linear;		/* hva of @iova if the region is one run with an hva */
	struct vrd_fast *fast;		/* of ALLOC_MR: fastreg.h; else NULL */
	struct vrd_mr_entry *entries;	/* of REG_MR, in place of @runs; else NULL */
	uint32_t num_entries;
	struct vrd_mr_run *runs;
	uint32_t num_runs, max_runs;	/* max_runs: allocated entries without the terminating
					 * one */
	uint64_t num_pages;
	uint64_t filled;		/* pages that have been added; dev->lock */
	LIST_ENTRY(vrd_mr) partial_link;	/* dev->partial_mrs until it is complete */
	struct vrd_host_key host_lkey, host_rkey;
	/* Registration: dev->lock */
	bool was_partial, pinned_mem;
	uint64_t filled_before;		/* value of @filled before the last command */
	uint32_t runs_before;
	uint64_t generation;		/* of the memory table that it was made for */
	int error;
	uint32_t users;			/* deregistrations of removed pages; dev->lock */
	struct vrd_end end;
	void *priv[VRD_NUM_SLOTS];
};

/* The upper bits of a key are the region's number; the lowest byte is the key's own. */
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
	struct virtio_rdma_cq_ctrl *ctrl;	/* hva, or NULL */
	uint32_t producer;		/* CQEs written, modulo 2^32 */
	uint32_t consumer;		/* last value read; wrong values affect only the guest
					 * itself */
	uint32_t vector;
	_Atomic uint32_t fired;		/* the arm word that was last answered with an event;
					 * read without the lock */
	bool event_pending;		/* the event waits for a buffer in the vector's queue */
	bool error;			/* overflowed: no CQE is written any more */
	TAILQ_ENTRY(vrd_cq) event_link;	/* vq's waiting CQs: vq->lock */
	uint32_t users;			/* QPs; dev->lock */
	struct vrd_end end;
	void *priv[VRD_NUM_SLOTS];
};

/*
 * A shared receive queue.  The QPs that need receives take them in ring order.  Receives
 * complete in any order: the CQE contains the cookie.
 */
struct vrd_srq {
	uint32_t srqn;
	struct vrd_device *dev;
	struct vrd_ctx *ctx;
	struct vrd_pd *pd;		/* PD of the keys in its entries; may differ from the
					 * QP's PD */
	struct vrd_poller *poller;	/* ctx->poller: handles its dirty byte */
	struct vrd_buf buf;
	uint32_t max_sge;
	uint32_t users;			/* QPs; dev->lock */

	struct vrd_ring ring;		/* its lock protects the ring and all fields below */
	uint32_t limit;			/* armed limit, or 0; transports with srq_modify have
					 * their own */
	uint32_t lent;			/* receives that the transport took in advance for future
					 * messages: the limit counts them as posted */
	bool error;			/* SRQ_ERR was raised: no receives are taken any more */

	struct vrd_end end;
	void *priv[VRD_NUM_SLOTS];
};

struct vrd_qp {
	uint32_t qpn;
	uint8_t type;			/* VIRTIO_RDMA_QPT_* */
	bool kernel;			/* of a kernel context: may use the DMA key */
	struct vrd_device *dev;
	struct vrd_ctx *ctx;
	struct vrd_pd *pd;
	struct vrd_cq *send_cq, *recv_cq;
	struct vrd_srq *srq;		/* shared receive queue of the QP, or NULL */
	struct vrd_poller *poller;	/* ctx->poller: runs sq */
	struct vrd_counters *count;	/* the device's counters that @poller writes */
	struct vrd_buf buf;
	uint32_t max_send_sge, max_recv_sge, max_inline;
	uint32_t max_msg_sz;		/* limit of the device */

	/*
	 * Written by the control thread or a poller under both sq.lock and rq.lock, read under
	 * either.
	 */
	uint8_t state;			/* VIRTIO_RDMA_QPS_* */
	struct virtio_rdma_qp_attr attr;	/* last modified attributes, in little-endian
						 * order */

	/*
	 * Never NULL.  Written under both ring locks.  Read under either lock, or by the poller
	 * without a lock (vrd_qp_path()).
	 */
	const struct vrd_path_ops *path;
	/*
	 * Only for a UD QP that chooses a path for each datagram, else NULL; sq.lock.
	 * @send_path uses the send queue now.  @next_path is needed by the entry at its head.
	 */
	const struct vrd_path_ops *send_path, *next_path;

	struct vrd_ring sq;
	struct vrd_ring rq;

	struct {			/* responder.c: rq.lock */
		bool established;	/* COMM_EST was raised */
		bool last_wqe_raised;	/* in ERR: no receive of the SRQ is held any more, and
					 * LAST_WQE_REACHED was raised */
		struct vrd_held_recv *held;	/* allocated at first use, or NULL */
	} resp;

	struct vrd_sched {		/* sched.c; only the poller uses it unless stated
					 * otherwise */
		TAILQ_ENTRY(vrd_qp) link;	/* its device's run queue */
		struct vrd_dev_sched *dev;	/* the device's state on the poller; constant */
		bool queued;
		bool looked;			/* this burst reads no newer producer index than
						 * sq.tail; sq.lock */
		bool restarted;			/* the ring began again since the last burst: what
						 * the hot list saw is obsolete; sq.lock */
		int16_t hot;			/* index in the hot list, or -1 */
		uint32_t head;			/* sq.head after the last run, for prefetching */
		uint32_t moved;			/* bytes moved by this burst; the transport adds
						 * to it */
		TAILQ_ENTRY(vrd_qp) posted_link;	/* the inbox: inbox lock */
		bool posted;			/* in the inbox: inbox lock */
		bool detached;			/* ignore vrd_qp_schedule(): inbox lock */
		_Atomic uint8_t error_state;	/* pending move to SQE or ERR, or 0: any thread */
	} sched;

	uint32_t users;			/* host calls in progress for the QP; dev->lock */
	bool numbered;			/* qpn is claimed in dev->qps; dev->lock */
	/* Of the MODIFY_QP in progress: the GID of its address vector's sgid_index. */
	bool has_sgid;
	uint8_t sgid[16];
	struct vrd_end end;
	/*
	 * The private parts of the transports, indexed by VRD_SLOT_*; NULL if a transport has
	 * none.
	 */
	void *priv[VRD_NUM_SLOTS];
};

/* The port's GID table; written under dev->lock, read under RCU (vrd_gid_at()). */
struct vrd_gid_entry {
	bool valid;
	uint8_t gid[16];
};

#define VRD_GID_TABLE_LEN	32

/* The VIRTIO_RDMA_STAT_* counters of a device that one poller writes. */
struct vrd_counters {
	_Alignas(64) _Atomic uint64_t n[VIRTIO_RDMA_STAT_COUNT];
};

/* The pages that the device has written: see vrd_device_set_dirty_log(). */
struct vrd_dirty_log {
	uint8_t *bitmap;
	uint64_t pages;			/* bits in the bitmap */
};

struct vrd_device {
	struct vrd_engine *engine;
	/*
	 * In the order in which the core checks whether they reach a destination; NULL ends the
	 * list.  This list and the fields derived from it do not change.
	 */
	const struct vrd_transport_ops *transports[VRD_NUM_SLOTS + 1];
	const struct vrd_transport_ops *owner;	/* chooses QP numbers and keys; NULL: the core
						 * does */
	bool several;			/* more than one transport carries data */
	bool polled;			/* a transport has poll() */
	bool host_cqs;			/* a transport has its own CQs */
	bool maps_memory;		/* a transport maps guest memory a second time */
	_Atomic uint64_t connections[VRD_NUM_SLOTS];	/* counted by the transport of the QP's
							 * path */
	void *priv[VRD_NUM_SLOTS];
	struct vrd_fabric *fabric;
	char *name;
	char *fabric_name;
	struct virtio_rdma_config config;
	struct vrd_limits limits;
	bool own_gids_only;		/* only the link-local GID and @allowed_gids */
	unsigned int num_allowed_gids;
	uint8_t allowed_gids[VRD_MAX_ALLOWED_GIDS][16];

	pthread_mutex_t lock;
	uint64_t offered;		/* virtio feature bits; constant */
	uint64_t features;		/* features that the driver accepted */
	bool atomics;			/* VIRTIO_RDMA_F_ATOMIC was accepted */
	bool mem_mgt;			/* VIRTIO_RDMA_F_MEM_MGT was accepted */
	uint32_t max_msg_sz;		/* limit of the transports; longer requests fail */
	bool initialised;		/* INIT has been executed */
	bool running;			/* the control queue is started */
	uint32_t num_vectors_used;
	struct vrd_mem *mem;		/* replaced under quiesce */
	uint64_t mem_generation;
	unsigned int mem_pins;		/* workers that use a memory table */
	struct vrd_mem *old_mem;	/* replaced tables that are still pinned: list by next */

	struct vrd_table ctxs, pds, mrs, cqs, srqs, qps;
	struct vrd_table lkeys, rkeys;	/* dev->owner: regions by the host's keys */
	LIST_HEAD(, vrd_mr) partial_mrs;	/* registrations that are not complete */
	uint32_t num_partial;
	struct vrd_mr *local_dma;	/* the region of LOCAL_DMA_LKEY */
	_Atomic uint64_t mr_bytes;	/* total size of registered regions */
	_Atomic uint32_t dma_mrs;	/* regions that cover all memory */
	uint64_t ring_pages;		/* pages of ring buffers: limits.max_ring_bytes */
	LIST_HEAD(, vrd_handle_buf) handle_bufs;	/* buf.c: handles of CREATE_BUF */
	uint32_t num_handle_bufs, last_handle_buf;
	uint32_t random[64];		/* for keys: the first @num_random are unused */
	unsigned int num_random;
	struct vrd_gid_entry gids[VRD_GID_TABLE_LEN];

	unsigned int num_vqs;
	struct vrd_vq **vqs;
	struct vrd_control *control;	/* control.c: the thread */
	bool blocks;			/* the transports' operations may block */
	struct vrd_workers *workers;	/* for calls of the transports that may block, or NULL */
	struct vrd_cmds cmds;		/* cmd_queue.c */
	struct vrd_ends ends;		/* end.c */
	struct vrd_events *events;	/* event.c: events that wait for a buffer */
	struct vrd_ratelimit log_limit;

	/*
	 * 0: pollers may work on this device.  Incremented by quiesce (nests).  Pollers read it
	 * at the start of each burst and slice.
	 */
	_Atomic uint32_t suspended;
	const struct vrd_dirty_log *dirty;	/* dirty.c: one of @dirty_log, or NULL */
	struct vrd_dirty_log dirty_log[2];
	_Atomic bool broken;
	int error_fd;
	int lost_fd;			/* memory that replaces lost mappings: mem_map.c */
	uint64_t num_maps;		/* mappings of its memory regions; front end's thread */
	struct vrd_closer *closer;	/* closes descriptors that the front end's client passed */

	/*
	 * VIRTIO_RDMA_STAT_*.  Counters of the data path are in @counters, one set for each
	 * poller, written with plain stores.  All others are in @stats, relaxed atomics.
	 * vrd_stat_read() adds them up.
	 */
	struct vrd_counters *counters;
	_Atomic uint64_t stats[VIRTIO_RDMA_STAT_COUNT];

	LIST_ENTRY(vrd_device) engine_link;	/* engine.c: engine lock */
	struct vrd_poller_dev **pdevs;	/* the device's state on each poller, by index; constant */
	/* Incremented when addresses of rings change: resume then writes their words again. */
	_Atomic uint32_t ring_generation;
	struct vrd_poller *poller;	/* home poller: watches the doorbell kick */
	int db_kick_fd;			/* descriptor that the pollers watch, or -1: engine lock */
};

static inline struct vrd_device *vrd_ring_dev(const struct vrd_ring *ring)
{
	return ring->srq ? ring->srq->dev : ring->qp->dev;
}

/* For the poller, which does not always hold a ring lock. */
static inline const struct vrd_path_ops *vrd_qp_path(const struct vrd_qp *qp)
{
	return __atomic_load_n(&qp->path, __ATOMIC_RELAXED);
}

/* The GID at @index, or NULL; valid until the end of the caller's turn. */
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
