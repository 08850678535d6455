/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ibverbs transport: a guest's objects are objects of a host's RDMA device.
 *
 *   guest        host
 *   device       a context of its own (ibv_open_device), one port
 *   PD, CQ, QP   one each; the guest sees the host's QP number
 *   SRQ          one; all that the guest posts is handed over at once
 *   MR           ibv_reg_mr_iova() of an alias mapping; the host's keys
 *   AH           cache of host AHs, by the address vector in each WQE
 *   QP 1         none: the companion transport mad has it
 *
 *   host.c       finding and opening the host's device
 *   device.c     its limits and capabilities, the port; the table of operations
 *   gid.c        the guest's GIDs in the host's table
 *   mr.c         alias mappings
 *   cq.c         polling, and waking the poller
 *   complete.c   a host completion becomes the guest's
 *   header.c     is a datagram's header IPv4's?
 *   qp.c         queue pairs: life and states
 *   send.c       a send queue's turn
 *   recv.c       receives, of QPs and of SRQs
 *   shared.c     on a device with other transports: states of queue pairs,
 *   bounce.c     datagrams from the host,
 *   lend.c       receives of an SRQ that the host has in advance
 *   ah.c         address handles
 *   worker.c     a thread for what may take long, and for host events
 *
 * Threads: those of objects.h, and one worker for each device.  A context's QPs
 * and CQs all belong to one poller, which alone posts and polls; it never enters
 * a call that waits for the network.
 *
 * Locks: those of objects.h; then vdev->lock, under which nothing but the
 * poller's inbox is taken.
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

/* Entries of the host's GID table that are looked at. */
#define VRD_IBV_MAX_GIDS	1024
/* Work requests that are posted with one call, and their SGEs. */
#define VRD_IBV_CHAIN		16
#define VRD_IBV_CHAIN_SGES	64
/* Completions that are taken with one call. */
#define VRD_IBV_WCS		16
/* When the host had no room, and no completion says that it has. */
#define VRD_IBV_RETRY_NS	1000000ULL
/* CQs that one turn of a poller looks at. */
#define VRD_IBV_CQS_TURN	32

/* A host's RDMA device that was opened: vrd_ibdev_open(). */
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
	/* The poller's own: */
	bool active;			/* in poll->active: is looked at in turns */
	bool armed;			/* an event will come, or has come */
	bool parked;			/* not active, but armed: its event activates it */
	TAILQ_ENTRY(vrd_ibv_cq) link;
};

/* What one poller looks at for one device. */
struct vrd_ibv_poll {
	struct vrd_ibv_dev *vdev;
	struct ibv_comp_channel *channel;
	TAILQ_HEAD(vrd_ibv_cq_list, vrd_ibv_cq) active;	/* in turn */
	unsigned int num_active, num_parked;
	unsigned int turns;		/* while there are parked ones */
	bool slept;			/* or was about to: events may have come */
};

/* ---- address handles --------------------------------------------------------- */

/* What decides where a datagram goes, as the WQE has it. */
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
	uint8_t sgid[16];			/* as it was when it was asked for */
	struct ibv_ah *ibah;
	uint8_t state;				/* VRD_IBV_AH_* */
	_Atomic bool stale;			/* not found any more: destroyed when unused */
	_Atomic unsigned int refs;		/* WQEs that the host may still look at */
	uint64_t failed_at;			/* CLOCK_MONOTONIC; tried again later */
	struct vrd_ibv_ah *next, **link;	/* in the bucket; what points to it there */
	TAILQ_ENTRY(vrd_ibv_ah) lru;		/* least recently used first */
	TAILQ_ENTRY(vrd_ibv_ah) work;		/* while it is wanted, and not ah_busy */
	LIST_HEAD(, vrd_ibv_qp) waiting;	/* QPs */
};

#define VRD_IBV_AH_BUCKETS	256
#define VRD_IBV_MAX_AHS		1024	/* kept while no WQE uses them */
#define VRD_IBV_MAX_USED_AHS	16384	/* in all: the host's are for other guests as well */

/* ---- the device ----------------------------------------------------------------- */

struct vrd_ibv_dev {
	struct vrd_device *dev;
	struct vrd_ibdev *ibdev;
	struct ibv_context *ctx;
	uint8_t port_num;
	struct vrd_caps caps;			/* but for the port's */
	_Atomic uint64_t bounce_bytes;		/* bounce.c */
	_Atomic uint64_t tx_bytes, rx_bytes;	/* that the host's device carried */

	/*
	 * A region of a PD that no guest has: its key is valid on none of their
	 * QPs, so that a WQE can be made to fail in its place.
	 */
	struct ibv_pd *own_pd;
	struct ibv_mr *own_mr;
	_Alignas(64) uint8_t own_bytes[64];
	struct ibv_ah *own_ah;			/* to ourselves, of that PD as well */

	_Atomic uint32_t generation;		/* those given out */
	_Atomic uint64_t maps;			/* mappings of its regions */
	struct vrd_ibv_poll *polls;		/* by poller */

	/* The port, as last asked; worker writes, any thread reads. */
	_Atomic uint8_t port_state, active_mtu;
	_Atomic bool dead;			/* the host's device is gone */

	pthread_mutex_t lock;			/* all below */
	struct ibv_gid_entry *gids;
	unsigned int num_gids;

	uint64_t ah_seed;			/* written once */
	struct vrd_ibv_ah *ahs[VRD_IBV_AH_BUCKETS];
	TAILQ_HEAD(vrd_ibv_ah_list, vrd_ibv_ah) ah_lru, ah_work;
	unsigned int num_ahs;
	_Atomic unsigned int all_ahs;		/* and those that are not found any more */
	struct vrd_ibv_ah *ah_busy;		/* the worker makes it */
	const struct vrd_pd *ah_busy_pd;	/* of that one */
	bool ah_freeing;			/* it frees some, of any PD */

	LIST_HEAD(, vrd_ibv_qp) to_error;	/* QPs whose host side is to go to ERR */
	struct vrd_ibv_qp *qp_busy;		/* the worker has it in hand */
	pthread_cond_t idle;			/* one of them became NULL */
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
	 * UD on a device with several transports: it has a CQ of its own, because all
	 * sends are signaled, and receives of its own (bounce.c).
	 */
	bool shared;
	struct {
		uint32_t num;
		uint8_t *data;
		struct ibv_mr *mr;
	} recvs;
	/*
	 * In the wr_id of all that is posted: completions of an earlier life
	 * of the QP, or of another that had its number, are not ours.
	 */
	_Atomic uint32_t generation;
	_Atomic bool told_error;		/* the host's QP was sent to ERR, or said that it is */
	_Atomic bool flushing;			/* sent there since receives are not posted any more */
	_Atomic bool rq_due;			/* receives may have been left on the ring */

	/* sq.lock */
	uint32_t sq_posted;			/* behind the last send that the host took */
	bool blocked;				/* the host had no room: see timer */
	bool failing;				/* a request that fails by design is under way */
	uint8_t failing_status;			/* VIRTIO_RDMA_WC_*: what that one gets */
	bool erred;				/* a completion had an error */
	bool blame;				/* ... because of the request that fails by design */
	bool broken_told;			/* sq.broken was made such a request */
	bool refused;				/* the host takes no request for this entry: */
	uint32_t refused_index;
	bool gone;				/* the host takes nothing at all */
	bool dead;				/* destroyed: leave it alone; rq.lock as well */
	/*
	 * rq.lock: receives of the guest's ring are for the host.  False on a device
	 * with several transports as long as the path is not this one.
	 */
	bool carries;
	bool lends;				/* rq.lock: counted in its SRQ's host_qps */
	bool has_lent;				/* since the host's QP was reset; control thread */
	bool host_inline;
	uint8_t *bounce;			/* or: a line of max_inline for each entry */
	struct ibv_mr *bounce_mr;
	struct vrd_timer timer;
	/* UD: the handles in use, by entry; those before ah_done are given back. */
	struct vrd_ibv_ah **slot_ah;
	uint32_t ah_done;
	struct vrd_ibv_ah *last_ah;		/* of the last WQE; with a reference */

	struct vrd_ibv_places *places;		/* UD with an RQ of its own, not shared: header.c */

	/* vdev->lock */
	LIST_ENTRY(vrd_ibv_qp) ah_link;
	struct vrd_ibv_ah *waits_for;
	LIST_ENTRY(vrd_ibv_qp) error_link;
	bool in_to_error;

	/* The poller's own: as many sends are known to be complete, and receives are
	 * with the host.
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
	/* On a device with several transports, lend.c; ring.lock. */
	uint32_t window;		/* receives that the host may have in advance */
	uint32_t host_qps;		/* QPs on this path that take from it */
	struct vrd_ibv_lent *lent;	/* @window of them, made for the first such QP */
	/* Else, made for the first UD QP: header.c.  Its entries: ring.lock, and the poller. */
	struct vrd_ibv_places *_Atomic places;
};

static inline struct vrd_ibv_srq *vrd_ibv_srq(const struct vrd_srq *srq)
{
	return srq->priv[VRD_SLOT_IBVERBS];
}

/*
 * wr_id: what was posted.  The QP comes with the completion; receives of an
 * SRQ have no generation, as they outlive QPs.
 */
enum vrd_ibv_kind {
	VRD_IBV_SEND,
	VRD_IBV_RECV,
	VRD_IBV_SRQ_RECV,
	VRD_IBV_FAILING,
	VRD_IBV_QUIET,			/* a send whose success the guest does not want to hear of */
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
/* Asks the host again. */
int vrd_ibv_port_refresh(struct vrd_ibv_dev *vdev, struct ibv_port_attr *attr);
/* A handle to the port itself, or NULL. */
struct ibv_ah *vrd_ibv_ah_to_self(struct vrd_ibv_dev *vdev, struct ibv_pd *pd);
/* A positive errno of libibverbs as a command's negative one. */
int vrd_ibv_errno(int host);

/* gid.c */
void vrd_ibv_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);
/* The table has changed; or at start.  0 or a negative errno. */
int vrd_ibv_gids_refresh(struct vrd_ibv_dev *vdev);
/* Index in the host port's table, or -EADDRNOTAVAIL, which is logged. */
int vrd_ibv_gid_index(struct vrd_ibv_dev *vdev, const uint8_t gid[16]);
/* The entry at a host index, if it is RoCE v2. */
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
/* A host's CQ alone, whose completions are for @cq.  NULL, with errno. */
struct vrd_ibv_cq *vrd_ibv_vcq_create(struct vrd_cq *cq, uint32_t entries);
void vrd_ibv_vcq_destroy(struct vrd_ibv_cq *vcq);
int vrd_ibv_polls_open(struct vrd_ibv_dev *vdev, struct vrd_error *err);
void vrd_ibv_polls_close(struct vrd_ibv_dev *vdev);
bool vrd_ibv_poll(struct vrd_device *dev, struct vrd_poller *poller);
bool vrd_ibv_poll_sleep(struct vrd_device *dev, struct vrd_poller *poller);
void vrd_ibv_cq_activate(struct vrd_ibv_cq *vcq);
/* What has completed by now is taken.  Control thread. */
void vrd_ibv_cq_drain(struct vrd_ibv_cq *vcq);

/* Poller: something will complete there. */
static inline void vrd_ibv_cq_expect(struct vrd_ibv_cq *vcq)
{
	if (!vcq->active)
		vrd_ibv_cq_activate(vcq);
}

/* header.c */
struct vrd_ibv_places *vrd_ibv_places_alloc(uint32_t entries);
/* The host gets the receive. */
void vrd_ibv_place_set(struct vrd_ibv_places *p, const struct vrd_recv_wr *wr);
/* The header that a datagram for this receive brought.  @p may be NULL. */
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
/* Receives of its own that a QP needs. */
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
 * The handle for a datagram, with a reference for it; NULL: it is being made, and
 * the QP is scheduled then.  Its state may be FAILED.
 */
struct vrd_ibv_ah *vrd_ibv_ah_get(struct vrd_ibv_qp *vq, const struct virtio_rdma_av *av);
void vrd_ibv_ah_put(struct vrd_ibv_dev *vdev, struct vrd_ibv_ah *ah);
/* The QP waits no more. */
void vrd_ibv_ah_forget(struct vrd_ibv_qp *vq);
/* Host or guest GIDs have changed, or a PD goes (NULL: all). */
void vrd_ibv_ah_flush(struct vrd_ibv_dev *vdev, const struct vrd_pd *pd);
/* Worker, without a lock: makes one that is wanted; false: none is. */
bool vrd_ibv_ah_work(struct vrd_ibv_dev *vdev);

/* worker.c */
int vrd_ibv_worker_start(struct vrd_ibv_dev *vdev, struct vrd_error *err);
void vrd_ibv_worker_stop(struct vrd_ibv_dev *vdev);
/* There is work; vdev->lock is held or not. */
void vrd_ibv_worker_wake(struct vrd_ibv_dev *vdev);
/* Poller: the core has moved the QP to ERR, so the host's has to follow. */
void vrd_ibv_worker_qp_error(struct vrd_ibv_qp *vq);
/* The QP goes: the worker has it no more after this. */
void vrd_ibv_worker_forget(struct vrd_ibv_qp *vq);

#endif /* VRD_TRANSPORTS_IBV_H */
