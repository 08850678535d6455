/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ibverbs transport: a guest's objects are objects of a host's RDMA device.
 *
 *   guest        host
 *   device       a context of its own (ibv_open_device), one port
 *   PD, CQ, QP   one each; the guest sees the host's QP number
 *   SRQ          one; each posted receive is passed on at once
 *   MR           ibv_reg_mr_iova() of an alias mapping; the host's keys
 *   AH           cache of host AHs, by the address vector in each WQE
 *   QP 1         none: the companion transport mad implements it
 *
 *   host.c       finding and opening the host's device
 *   device.c     its limits and capabilities, the port; the table of operations
 *   gid.c        the guest's GIDs in the host's table
 *   mr.c         alias mappings
 *   cq.c         polling, and waking the poller
 *   complete.c   translation of completions
 *   header.c     type of a datagram's network header
 *   qp.c         queue pairs: life and states
 *   send.c       a send queue's turn
 *   recv.c       receives, of QPs and of SRQs
 *   shared.c     on a device with other transports: states of queue pairs,
 *   bounce.c     datagrams from the host,
 *   lend.c       receives of an SRQ that the host has in advance
 *   ah.c         address handles
 *   worker.c     a thread for operations that may take long, and for host events
 *
 * Threads: those of objects.h, and one worker for each device.  A context's QPs and CQs all
 * belong to one poller, which alone posts and polls; it never makes a call that waits for
 * the network.
 *
 * Locks: those of objects.h; then vdev->lock, under which only the poller's inbox is locked.
 */
#ifndef VRD_TRANSPORTS_IBV_H
#define VRD_TRANSPORTS_IBV_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "transport.h"

struct vrd_ibv_lent;
struct vrd_ibv_qp;

extern const struct vrd_path_ops vrd_ibv_path;

/* Entries of the host's GID table that are read. */
#define VRD_IBV_MAX_GIDS	1024
/* Work requests that are posted with one call, and their SGEs. */
#define VRD_IBV_CHAIN		16
#define VRD_IBV_CHAIN_SGES	64
/* Completions that are polled with one call. */
#define VRD_IBV_WCS		16
/* Time after which a post is repeated that failed for lack of room in the host's queue. */
#define VRD_IBV_RETRY_NS	1000000ULL
/* CQs that are polled in one turn of a poller. */
#define VRD_IBV_CQS_TURN	32

/* An open RDMA device of the host: vrd_ibdev_open(). */
struct vrd_ibdev {
	struct ibv_context *ctx;
	_Atomic unsigned int refs;
	uint64_t max_map_count;		/* mappings that a process may have */
	char name[IBV_SYSFS_NAME_MAX];
};

/* ---- completion queues ---------------------------------------------------- */

struct vrd_ibv_cq {
	struct vrd_cq *cq;
	struct ibv_cq *ibcq;
	struct vrd_ibv_poll *poll;
	/* Used by the poller only: */
	bool active;			/* in poll->active: polled in turns */
	bool armed;			/* an event is pending, or will be raised */
	bool parked;			/* not active, but armed: its event makes it active */
	TAILQ_ENTRY(vrd_ibv_cq) link;
};

/* State of one poller for one device. */
struct vrd_ibv_poll {
	struct vrd_ibv_dev *vdev;
	struct ibv_comp_channel *channel;
	TAILQ_HEAD(vrd_ibv_cq_list, vrd_ibv_cq) active;	/* polled in this order */
	unsigned int num_active, num_parked;
	unsigned int turns;		/* counted while there are parked CQs */
	bool slept;			/* the poller slept, or was about to: read the events */
};

/* ---- address handles --------------------------------------------------------- */

/* Fields of a WQE that determine the destination of a datagram. */
struct vrd_ibv_ah_key {
	uint8_t dgid[16];
	uint32_t pd;
	uint32_t flow_label;
	uint8_t sgid_index, hop_limit, tclass, sl;
};

enum vrd_ibv_ah_state { VRD_IBV_AH_WANTED, VRD_IBV_AH_READY, VRD_IBV_AH_FAILED };

struct vrd_ibv_ah {
	struct vrd_ibv_ah_key key;
	struct vrd_pd *pd;
	uint8_t sgid[16];			/* of the guest's table when the handle was
						 * requested */
	struct ibv_ah *ibah;
	uint8_t state;				/* VRD_IBV_AH_* */
	_Atomic bool stale;			/* removed from the cache: in ah_dead when unused */
	_Atomic unsigned int refs;		/* WQEs that the host may still read */
	uint64_t failed_at;			/* CLOCK_MONOTONIC; tried again later */
	struct vrd_ibv_ah *next, **link;	/* in the bucket; the pointer to this handle
						 * there */
	TAILQ_ENTRY(vrd_ibv_ah) lru;		/* in ah_lru, or in ah_dead */
	TAILQ_ENTRY(vrd_ibv_ah) work;		/* while it is wanted, and not ah_busy */
	LIST_HEAD(, vrd_ibv_qp) waiting;	/* QPs */
};

#define VRD_IBV_AH_BUCKETS	256
#define VRD_IBV_MAX_AHS		1024	/* kept while no WQE uses them */
#define VRD_IBV_MAX_USED_AHS	16384	/* in all: other guests need the host's handles too */

/* ---- the device ----------------------------------------------------------------- */

struct vrd_ibv_dev {
	struct vrd_device *dev;
	struct vrd_ibdev *ibdev;
	struct ibv_context *ctx;
	uint8_t port_num;
	struct vrd_caps caps;			/* except the port's */
	_Atomic uint64_t bounce_bytes;		/* bounce.c */
	_Atomic uint64_t tx_bytes, rx_bytes;	/* of traffic by the host's device */

	/*
	 * A region of a PD that belongs to no guest.  Its key is invalid on every guest's QP,
	 * so a WQE with this key fails in its place in the queue.
	 */
	struct ibv_pd *own_pd;
	struct ibv_mr *own_mr;
	_Alignas(64) uint8_t own_bytes[64];
	struct ibv_ah *own_ah;			/* to the port itself; of that PD as well */

	_Atomic uint32_t generation;		/* last generation that was assigned */
	_Atomic uint64_t maps;			/* mappings of its regions */
	struct vrd_ibv_poll *polls;		/* by poller */

	/* Last query of the port; the worker writes, any thread reads. */
	_Atomic uint8_t port_state, active_mtu;
	_Atomic bool dead;			/* the host's device is gone */

	pthread_mutex_t lock;			/* protects all below */
	struct ibv_gid_entry *gids;
	unsigned int num_gids;

	uint64_t ah_seed;			/* written once */
	struct vrd_ibv_ah *ahs[VRD_IBV_AH_BUCKETS];
	/* The cache, least recently used first; wanted handles; handles to destroy. */
	TAILQ_HEAD(vrd_ibv_ah_list, vrd_ibv_ah) ah_lru, ah_work, ah_dead;
	unsigned int num_ahs;
	_Atomic unsigned int all_ahs;		/* includes those removed from the cache */
	struct vrd_ibv_ah *ah_busy;		/* the worker creates it now */
	const struct vrd_pd *ah_busy_pd;	/* PD of the handle that the worker creates or
						 * destroys now */

	LIST_HEAD(, vrd_ibv_qp) to_error;	/* QPs whose host side is to go to ERR */
	struct vrd_ibv_qp *qp_busy;		/* the worker moves it to ERR now */
	pthread_cond_t idle;			/* one of these was cleared */
	int work_fd;
	bool stop;
	pthread_t worker;
};

static inline struct vrd_ibv_dev *vrd_ibv_dev(const struct vrd_device *dev)
{
	return dev->priv[VRD_SLOT_IBVERBS];
}

/* ---- queue pairs ------------------------------------------------------------- */

struct vrd_ibv_qp {
	struct vrd_qp *qp;
	struct vrd_ibv_dev *vdev;
	struct ibv_qp *ibqp;
	struct vrd_ibv_cq *send_vcq, *recv_vcq;
	/*
	 * UD on a device with several transports: the QP has a CQ of its own, because all sends
	 * are signaled, and receives in memory of this process (bounce.c).
	 */
	bool shared;
	struct {
		uint32_t num;
		uint8_t *data;
		struct ibv_mr *mr;
	} recvs;
	/*
	 * Part of the wr_id of all posted requests: completions from before a reset of the QP,
	 * or of a destroyed QP with the same number, have another generation and are dropped.
	 */
	_Atomic uint32_t generation;
	_Atomic bool error_reported;		/* the host's QP was moved to ERR, or reported an
						 * error */
	_Atomic bool flushing;			/* the host's QP is in ERR: no more receives are
						 * posted */
	_Atomic bool rq_due;			/* receives may be left on the ring */

	/* sq.lock */
	uint32_t sq_posted;			/* index after the last send that the host took */
	bool blocked;				/* the host had no room: see timer */
	bool failing;				/* a request that fails by design is in flight */
	uint8_t failing_status;			/* VIRTIO_RDMA_WC_*: the status for this request */
	bool erred;				/* a completion had an error */
	bool blame;				/* ... because of the request that fails by design */
	bool broken_reported;			/* sq.broken was reported by such a request */
	bool refused;				/* the host refuses the request of this entry: */
	uint32_t refused_index;
	bool gone;				/* the host refuses all requests */
	bool dead;				/* destroyed: must not be used; under rq.lock too */
	/*
	 * rq.lock: the host takes the receives of the guest's ring.  False on a device with
	 * several transports while the QP is on another path.
	 */
	bool carries;
	bool lends;				/* rq.lock: counted in its SRQ's host_qps */
	bool has_lent;				/* receives were lent since the host's QP was reset;
						 * control thread */
	bool host_inline;
	uint8_t *bounce;			/* else: a buffer of max_inline for each entry */
	struct ibv_mr *bounce_mr;
	struct vrd_timer timer;
	/* UD: handles of the ring's entries; those before ah_done were released. */
	struct vrd_ibv_ah **slot_ah;
	uint32_t ah_done;
	struct vrd_ibv_ah *last_ah;		/* of the last WQE; holds a reference */

	struct vrd_ibv_places *places;		/* UD with an RQ, no SRQ, not shared: header.c */

	/* vdev->lock */
	LIST_ENTRY(vrd_ibv_qp) ah_link;
	struct vrd_ibv_ah *waits_for;
	LIST_ENTRY(vrd_ibv_qp) error_link;
	bool in_to_error;

	/*
	 * Used by the poller only: index after the last send that is known to be complete, and
	 * receives that the host has.
	 */
	uint32_t sq_done;
	uint32_t rq_lent;
};

static inline struct vrd_ibv_qp *vrd_ibv_qp(const struct vrd_qp *qp)
{
	return qp->priv[VRD_SLOT_IBVERBS];
}

struct vrd_ibv_srq {
	struct vrd_srq *srq;
	struct ibv_srq *ibsrq;
	/* On a device with several transports, lend.c; under ring.lock. */
	uint32_t window;		/* receives that the host may have in advance */
	uint32_t host_qps;		/* QPs on this path that take receives from it */
	struct vrd_ibv_lent *lent;	/* @window of them, allocated for the first such QP */
	/*
	 * On other devices, allocated for the first UD QP: header.c.  Entries: ring.lock and
	 * the poller.
	 */
	struct vrd_ibv_places *_Atomic places;
};

static inline struct vrd_ibv_srq *vrd_ibv_srq(const struct vrd_srq *srq)
{
	return srq->priv[VRD_SLOT_IBVERBS];
}

/*
 * wr_id: identifies what was posted.  The completion contains the QP.  Receives of an SRQ
 * have no generation, because they outlive QPs.
 */
enum vrd_ibv_kind {
	VRD_IBV_SEND,
	VRD_IBV_RECV,
	VRD_IBV_SRQ_RECV,
	VRD_IBV_FAILING,
	VRD_IBV_QUIET,			/* an unsignaled send: no completion for the guest */
	VRD_IBV_BOUNCE,			/* bounce.c */
	VRD_IBV_LENT,			/* lend.c; no generation */
};

#define VRD_IBV_GENERATIONS	((1U << 29) - 1)

static inline uint64_t vrd_ibv_wr_id(enum vrd_ibv_kind kind, uint32_t generation, uint32_t index)
{
	return (uint64_t)generation << 35 | (uint64_t)kind << 32 | index;
}

static inline enum vrd_ibv_kind vrd_ibv_wr_kind(uint64_t wr_id)
{
	return wr_id >> 32 & 7;
}

static inline uint32_t vrd_ibv_wr_generation(uint64_t wr_id)
{
	return wr_id >> 35;
}

/* host.c; vrd_ibdev_open() is in vrd.h */
struct vrd_ibdev *vrd_ibdev_get(struct vrd_ibdev *ibdev);

/* device.c */
/* Queries the port's state and MTU from the host. */
int vrd_ibv_port_refresh(struct vrd_ibv_dev *vdev, struct ibv_port_attr *attr);
/* Creates an address handle to the port itself; NULL on failure. */
struct ibv_ah *vrd_ibv_ah_to_self(struct vrd_ibv_dev *vdev, struct ibv_pd *pd);
/* Translates a positive errno of libibverbs to a negative one for a command's status. */
int vrd_ibv_errno(int host);

/* gid.c */
void vrd_ibv_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);
/* Reads the host's table, at start and after a change.  Returns 0 or a negative errno. */
int vrd_ibv_gids_refresh(struct vrd_ibv_dev *vdev);
/* Returns the index in the host port's table, or -EADDRNOTAVAIL, which is logged. */
int vrd_ibv_gid_index(struct vrd_ibv_dev *vdev, const uint8_t gid[16]);
/* Returns the GID at a host index, if it is RoCE v2. */
bool vrd_ibv_gid_at(struct vrd_ibv_dev *vdev, unsigned int index, uint8_t gid[16],
		    unsigned int *ifindex);
void vrd_ibv_gid_format(const uint8_t gid[16], char *buf, size_t size);

/* mr.c */
int vrd_ibv_mr_reg(struct vrd_mr *mr);
void vrd_ibv_mr_dereg(struct vrd_mr *mr);
void vrd_ibv_mem_changed(struct vrd_device *dev);

/* cq.c */
int vrd_ibv_cq_create(struct vrd_cq *cq);
void vrd_ibv_cq_destroy(struct vrd_cq *cq);
/* Creates a CQ of the host whose completions are for @cq.  NULL on error, with errno set. */
struct vrd_ibv_cq *vrd_ibv_vcq_create(struct vrd_cq *cq, uint32_t entries);
void vrd_ibv_vcq_destroy(struct vrd_ibv_cq *vcq);
int vrd_ibv_polls_open(struct vrd_ibv_dev *vdev, struct vrd_error *err);
void vrd_ibv_polls_close(struct vrd_ibv_dev *vdev);
bool vrd_ibv_poll(struct vrd_device *dev, struct vrd_poller *poller);
bool vrd_ibv_poll_sleep(struct vrd_device *dev, struct vrd_poller *poller);
void vrd_ibv_cq_activate(struct vrd_ibv_cq *vcq);
/* Polls all completions that are there now.  Control thread. */
void vrd_ibv_cq_drain(struct vrd_ibv_cq *vcq);

/* Poller: a completion will come, so polls the CQ from now on. */
static inline void vrd_ibv_cq_expect(struct vrd_ibv_cq *vcq)
{
	if (!vcq->active)
		vrd_ibv_cq_activate(vcq);
}

/* header.c */
struct vrd_ibv_places *vrd_ibv_places_alloc(uint32_t entries);
/* Stores the first SGE of a receive that is posted to the host. */
void vrd_ibv_place_set(struct vrd_ibv_places *p, const struct vrd_recv_wr *wr);
/* True if the datagram for this receive has an IPv4 header.  @p may be NULL. */
bool vrd_ibv_header_is_v4(struct vrd_qp *qp, const struct vrd_ibv_places *p, uint32_t index);

/* complete.c */
void vrd_ibv_fill_recv(struct virtio_rdma_cqe *cqe, const struct ibv_wc *wc);
void vrd_ibv_complete(struct vrd_ibv_cq *vcq, const struct ibv_wc *wc);

/* qp.c */
int vrd_ibv_qp_create(struct vrd_qp *qp);
/* Moves the host's QP. */
int vrd_ibv_qp_modify(struct vrd_qp *qp, const struct vrd_qp_change *change);
void vrd_ibv_qp_destroy(struct vrd_qp *qp);
void vrd_ibv_qp_free(struct vrd_qp *qp);
void vrd_ibv_qp_timer(struct vrd_timer *timer);

/* shared.c */
int vrd_ibv_shared_modify(struct vrd_ibv_qp *vq, const struct vrd_qp_change *change);
void vrd_ibv_shared_commit(struct vrd_ibv_qp *vq, const struct vrd_qp_change *change);
bool vrd_ibv_sq_idle(struct vrd_qp *qp);

/* bounce.c */
/* Number of bounce receives that a QP needs. */
uint32_t vrd_ibv_bounces(const struct vrd_qp *qp);
int vrd_ibv_bounce_create(struct vrd_ibv_qp *vq);
void vrd_ibv_bounce_free(struct vrd_ibv_qp *vq);
void vrd_ibv_bounce_post_all(struct vrd_ibv_qp *vq);
void vrd_ibv_bounce_received(struct vrd_ibv_qp *vq, const struct ibv_wc *wc);

/* lend.c */
void vrd_ibv_lend_init(struct vrd_ibv_srq *vsrq);
int vrd_ibv_lend_begin(struct vrd_ibv_qp *vq);
void vrd_ibv_lend_end(struct vrd_ibv_qp *vq);
void vrd_ibv_lend_settle(struct vrd_ibv_qp *vq);
void vrd_ibv_lend_run(struct vrd_srq *srq);
bool vrd_ibv_lend_returned(struct vrd_device *dev, uint32_t index, struct vrd_qp *qp,
			   uint32_t *cookie);

/* send.c */
enum vrd_run vrd_ibv_sq_run(struct vrd_qp *qp, unsigned int budget);

/* recv.c */
void vrd_ibv_rq_run(struct vrd_qp *qp);
int vrd_ibv_srq_create(struct vrd_srq *srq);
int vrd_ibv_srq_modify(struct vrd_srq *srq, uint32_t limit);
int vrd_ibv_srq_query(struct vrd_srq *srq, uint32_t *limit);
void vrd_ibv_srq_destroy(struct vrd_srq *srq);
void vrd_ibv_srq_free(struct vrd_srq *srq);
void vrd_ibv_srq_run(struct vrd_srq *srq);

/* ah.c: poller, sq.lock */
/*
 * Returns the handle for a datagram, with a reference.  Returns NULL while it is being
 * created; the QP is scheduled afterwards.  The handle's state may be FAILED.
 */
struct vrd_ibv_ah *vrd_ibv_ah_get(struct vrd_ibv_qp *vq, const struct virtio_rdma_av *av);
void vrd_ibv_ah_put(struct vrd_ibv_dev *vdev, struct vrd_ibv_ah *ah);
/* The QP no longer waits for a handle. */
void vrd_ibv_ah_forget(struct vrd_ibv_qp *vq);
/* Empties the cache, because addresses may resolve differently now.  Any thread; never blocks. */
void vrd_ibv_ah_flush(struct vrd_ibv_dev *vdev);
/*
 * Destroys the handles of a PD that is to be deallocated; its QPs are gone.  It may block.
 * Afterwards the worker does not use a handle of this PD.
 */
void vrd_ibv_ah_flush_pd(struct vrd_ibv_dev *vdev, const struct vrd_pd *pd);
/*
 * Worker, without a lock: creates a wanted handle and destroys one that is not needed any
 * more.  False: there was none.
 */
bool vrd_ibv_ah_work(struct vrd_ibv_dev *vdev);

/* worker.c */
int vrd_ibv_worker_start(struct vrd_ibv_dev *vdev, struct vrd_error *err);
void vrd_ibv_worker_stop(struct vrd_ibv_dev *vdev);
/* Wakes the worker; with or without vdev->lock. */
void vrd_ibv_worker_wake(struct vrd_ibv_dev *vdev);
/* Poller: the core has moved the QP to ERR, so the host's QP must follow. */
void vrd_ibv_worker_qp_error(struct vrd_ibv_qp *vq);
/* The QP is destroyed: the worker does not use it after this. */
void vrd_ibv_worker_forget(struct vrd_ibv_qp *vq);

#endif /* VRD_TRANSPORTS_IBV_H */
