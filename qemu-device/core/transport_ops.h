/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations that a transport provides: those of a device and its objects (struct
 * vrd_transport_ops), and those of one queue pair (struct vrd_path_ops).  transports.c and
 * path.c call them.  The functions that the core provides are in transport.h.
 */
#ifndef VRD_TRANSPORT_OPS_H
#define VRD_TRANSPORT_OPS_H

#include "objects.h"

#define VRD_F(name)	(1ULL << VIRTIO_RDMA_F_##name)

/* Capabilities of a device; the numbers are limits of the transport. */
struct vrd_caps {
	uint64_t features;		/* VRD_F() of the features that the transport supports */
	uint64_t max_mr_size;
	uint32_t max_msg_sz;		/* does not change while the device exists */
	uint32_t max_qp_rd_atom;
	uint32_t max_qp_init_rd_atom;
	uint8_t max_mtu, active_mtu;	/* IBTA encoding */
	uint8_t active_width;
	uint16_t active_speed;
	uint32_t local_ca_ack_delay;
};

struct vrd_wr;

enum vrd_run {
	VRD_RUN_IDLE,			/* the send ring is empty */
	VRD_RUN_MORE,			/* the budget is used up: call again */
	VRD_RUN_WAIT,			/* a timer or vrd_qp_schedule() will schedule the QP
					 * again */
};

/* A MODIFY_QP whose transition and attributes the core has checked (qp_rules.c). */
struct vrd_qp_change {
	uint8_t from, to;		/* states */
	uint32_t mask;			/* VIRTIO_RDMA_QP_*: which attributes are set */
	struct virtio_rdma_qp_attr attr;
};

/*
 * A path: the operations of one QP on a transport.  The core chooses qp->path (path.c).
 * Every transport that supports the QP's type has a private part of the QP, whatever the
 * QP's path is.  So these functions are also called for a QP in RESET or INIT that will use
 * another path.
 *
 * NULL: nothing to do.
 */
struct vrd_path_ops {
	/*
	 * Poller, with qp->sq.lock held: take up to @budget work requests off
	 * the send ring and carry them out.  Called in every state; in ERR and
	 * SQE it flushes.
	 */
	enum vrd_run (*sq_run)(struct vrd_qp *qp, unsigned int budget);
	/*
	 * Called by the poller when it has seen the receive ring's dirty byte (only rings whose
	 * need_db is set).  No lock is held.
	 */
	void (*rq_run)(struct vrd_qp *qp);

	/*
	 * MODIFY_QP has two steps.  modify() does what can fail or take long.  It is called
	 * without any lock of lock.h and may block for as long as the host takes.  If it fails,
	 * it changes nothing, and its negative errno becomes the command's status.  commit()
	 * cannot fail: both ring locks are held, and qp->state and qp->attr get the new values
	 * right after it.
	 *
	 * A change to RESET has the other order: first commit(), then the core sets the state
	 * to RESET and empties the rings, so that no poller posts, then modify().
	 *
	 * Changes to RESET and INIT concern all transports of the QP, other changes only the
	 * QP's path.
	 */
	int (*modify)(struct vrd_qp *qp, const struct vrd_qp_change *change);
	void (*commit)(struct vrd_qp *qp, const struct vrd_qp_change *change);
	/*
	 * Control thread or worker, no lock of lock.h is held.  Corrects the attributes that
	 * only the transport knows.
	 */
	void (*query)(struct vrd_qp *qp, struct virtio_rdma_qp_attr *attr);

	/*
	 * Paths of UD QPs on devices with several transports.  The poller calls these functions
	 * in an RCU read section.
	 *
	 * carries(): the transport reaches the destination of the datagram; sq.lock is held.
	 * NULL: it reaches every destination.
	 *
	 * sq_idle(): everything that sq_run() took off the ring is complete; sq.lock is held.
	 * If not, the transport schedules the QP when that changes.  In ERR the transport also
	 * begins to flush its outstanding work.  NULL: always true.
	 *
	 * deliver(): another transport has received a datagram.  @data is the 40 bytes of its
	 * header, then @length bytes of payload.  @cqe has the fields that the other transport
	 * knows.  No lock is held.  Exactly one path of a device has this operation: that of
	 * the transport that takes receives off the ring.
	 */
	bool (*carries)(const struct vrd_qp *qp, const struct vrd_wr *wr);
	bool (*sq_idle)(struct vrd_qp *qp);
	void (*deliver)(struct vrd_qp *qp, uint8_t *data, uint32_t length,
			struct virtio_rdma_cqe *cqe);
};

#define VRD_QPT_BIT(type)	(1U << VIRTIO_RDMA_QPT_##type)
#define VRD_QPT_DATA		(VRD_QPT_BIT(RC) | VRD_QPT_BIT(UC) | VRD_QPT_BIT(UD))

/*
 * A transport: the operations of a device and of all objects, except for the path of a QP.
 * A device has an ordered list of transports.  transports.c calls those that have an
 * operation in this order and undoes in the opposite order.
 *
 * Functions run with dev->lock held, on the control or front end thread, unless their
 * comments or @blocks say otherwise.  They return 0 or a negative errno, which becomes the
 * command's status, and change nothing when they fail.  NULL: nothing to do.
 */
struct vrd_transport_ops {
	const char *name;
	enum vrd_slot slot;		/* index of its private parts */
	uint32_t qp_types;		/* VRD_QPT_BIT() of the QP types that it supports */
	/*
	 * This transport chooses the QP numbers and keys of the device (qp_create, mr_reg).  At
	 * most one transport of a device does.
	 */
	bool owns_numbers;
	/*
	 * Operations on objects and a path's modify() and query() may block, as calls of the
	 * host's RDMA stack do.  For a device with such a transport they run on a worker,
	 * without dev->lock: several at a time, but only one for each object.  gid_add, gid_del
	 * and mem_changed are excepted.
	 */
	bool blocks;
	/* Another transport that every device with this one also has, or NULL. */
	const struct vrd_transport_ops *companion;
	const struct vrd_path_ops *path;

	/* May lower dev->limits. */
	int (*device_open)(struct vrd_device *dev, const struct vrd_device_config *cfg,
			   struct vrd_error *err);
	void (*device_close)(struct vrd_device *dev);
	/* Transports that carry data have this operation. */
	void (*device_query)(struct vrd_device *dev, struct vrd_caps *caps);
	uint8_t (*port_state)(struct vrd_device *dev);	/* VIRTIO_RDMA_PORT_* */
	/* Counters of the transport, by name: for vrd_device_stats(). */
	void (*device_stats)(struct vrd_device *dev,
			     void (*fn)(void *opaque, const char *name, uint64_t value),
			     void *opaque);
	/*
	 * The device was suspended and runs again (dev->suspended is zero): work that waited
	 * for it may continue.  Any thread but a poller.
	 */
	void (*device_resumed)(struct vrd_device *dev);

	/*
	 * True if a connection to the port with this GID can use the transport.  NULL: the
	 * transport reaches every port.  The answer decides the path of a QP at RTR.
	 */
	bool (*reaches)(struct vrd_device *dev, const uint8_t gid[16]);

	/* The owner has allowed @gid.  -EEXIST if another device uses it. */
	int (*gid_add)(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);
	void (*gid_del)(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);

	int (*pd_alloc)(struct vrd_pd *pd);
	void (*pd_dealloc)(struct vrd_pd *pd);
	/*
	 * All pages have been added.  The transport with @owns_numbers sets mr->lkey and
	 * mr->rkey.
	 */
	int (*mr_reg)(struct vrd_mr *mr);
	void (*mr_dereg)(struct vrd_mr *mr);
	/*
	 * The device has a new memory table and is quiesced.  Regions whose pages have changed
	 * must not be accessed.
	 */
	void (*mem_changed)(struct vrd_device *dev);
	int (*cq_create)(struct vrd_cq *cq);
	void (*cq_destroy)(struct vrd_cq *cq);

	/*
	 * Transports that offer VIRTIO_RDMA_F_SRQ.  srq_create makes the private part.  The
	 * core has chosen srqn, and arms the limit of CREATE_SRQ afterwards.
	 */
	int (*srq_create)(struct vrd_srq *srq);
	/*
	 * Arms the limit (0: disarms it) if the host counts the receives; the transport then
	 * raises SRQ_LIMIT_REACHED.  -EOPNOTSUPP (or NULL): software takes the receives, and
	 * vrd_srq_advance() raises the event.  srq_query (with srq_modify) returns the limit
	 * that is still armed.  Both are called without ring.lock.
	 */
	int (*srq_modify)(struct vrd_srq *srq, uint32_t limit);
	int (*srq_query)(struct vrd_srq *srq, uint32_t *limit);
	/*
	 * No QP uses the SRQ any more.  When this has returned, no thread reaches the SRQ.  The
	 * core then waits for a grace period and calls srq_free().
	 */
	void (*srq_destroy)(struct vrd_srq *srq);
	void (*srq_free)(struct vrd_srq *srq);
	/*
	 * Poller, without any lock: the dirty byte of the SRQ's ring was seen.  Also called
	 * once after a resume if the memory table has changed.
	 */
	void (*srq_run)(struct vrd_srq *srq);

	/*
	 * Makes the private part of a QP of one of @qp_types.  The transport with @owns_numbers
	 * chooses qp->qpn, except for QP 1.  The QP is in RESET and not in the table yet;
	 * qp->srq is set and lives as long as the QP.
	 */
	int (*qp_create)(struct vrd_qp *qp);
	/*
	 * When this has returned, no thread reaches the QP: it is in neither the core's nor the
	 * transport's tables, and its timers are cancelled.  The core then waits for a grace
	 * period and calls qp_free().  A QP that was never published is freed without
	 * qp_destroy().
	 */
	void (*qp_destroy)(struct vrd_qp *qp);
	void (*qp_free)(struct vrd_qp *qp);

	/*
	 * Each poller calls it once per turn, without any lock, to poll host completion queues
	 * of the contexts that run on the poller.  True: there was work.
	 */
	bool (*poll)(struct vrd_device *dev, struct vrd_poller *poller);
	/*
	 * The poller is about to sleep.  Arms the descriptors that the poller watches
	 * (vrd_poller_watch()), then polls again.  True: there was work.
	 */
	bool (*poll_sleep)(struct vrd_device *dev, struct vrd_poller *poller);
};

#endif /* VRD_TRANSPORT_OPS_H */
