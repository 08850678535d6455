/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MADs of a process: its ports, by GID, and the routes to other hosts.
 *
 * There is one instance for each engine.  Pollers pass MADs to vrd_mads_send().  A MAD for
 * another device of the process goes into that port's inbox at once; all others wait in a
 * bounded queue for the MAD thread, which owns the network.  MADs from the network go into
 * inboxes too.  Only the poller of a guest's QP 1, which drains the inbox, accesses that
 * guest's memory.
 *
 * Locks: mads.lock protects the ports, GIDs, inboxes and the queue.  It is taken under
 * dev->lock and sq.lock; only the pollers' inbox locks are taken under it.  The MAD thread
 * holds it for short sections only.
 */
#ifndef VRD_IBV_MADS_H
#define VRD_IBV_MADS_H

#include <pthread.h>
#include <sys/queue.h>

#include "gid_hash.h"
#include "gsi.h"
#include "mad_loop.h"

#define VRD_MAD_LEN		256U

/* Limits of waiting MADs: in one inbox, in the queue, in the queue from one guest. */
#define VRD_GSI_INBOX		128U
#define VRD_MAD_QUEUE		512U
#define VRD_MAD_QUEUE_PORT	128U

/* Send quota of one guest: burst size, and MADs per second. */
#define VRD_MAD_BURST		1024U
#define VRD_MAD_RATE		4096U

/* A MAD from QP 1 to QP 1, with the fields of the 40-byte header that a receive gets. */
struct vrd_mad {
	uint8_t sgid[16], dgid[16];
	uint32_t flow_label;
	uint8_t tclass, hop_limit, sl;
	/* The QP that the message names as its sender's belongs to the sender. */
	bool own_qpn;
	uint8_t data[VRD_MAD_LEN];
};

struct vrd_mad_gid {
	uint8_t gid[16];
	struct vrd_gsi_port *port;
	struct vrd_mad_gid *next;		/* in the bucket */
};

enum vrd_gsi_stat {
	VRD_GSI_SENT,			/* work requests of QP 1 that succeeded */
	VRD_GSI_RECEIVED,		/* receives of QP 1 that were filled */
	VRD_GSI_LOCAL,			/* sent to another device of the process */
	VRD_GSI_CHANNEL_SENT,		/* sent to another daemon */
	VRD_GSI_CHANNEL_RECEIVED,
	VRD_GSI_HOST_CM,		/* passed to the host's connection manager */
	VRD_GSI_DROP_QUOTA,		/* the guest exceeds its quota */
	VRD_GSI_DROP_ROUTE,		/* no route to the destination */
	VRD_GSI_DROP_FULL,		/* the receiver's inbox or the queue was full */
	VRD_GSI_DROP_RECV,		/* no receive posted, or one that is too short, or QP 1
					 * not ready */
	VRD_GSI_STATS,
};

struct vrd_gsi_port_config {
	unsigned int ifindex;		/* vrd_gsi_set_ifindex() */
	/* MADs to GIDs that no daemon serves go through the host's rdma_cm. */
	bool host_cm;
	/*
	 * TCP ports of rdma_cm at which the host listens for the guest, so that
	 * peers without a daemon can connect to it.
	 */
	unsigned int num_cm_ports;
	uint16_t cm_ports[VRD_MAX_CM_PORTS];
};

struct vrd_gsi_port {
	struct vrd_mads *mads;
	struct vrd_device *dev;
	struct vrd_gsi_port_config cfg;
	struct vrd_mad_gid *gids[VRD_GID_TABLE_LEN];	/* mads.lock */
	struct vrd_qp *qp;			/* QP 1, or NULL; mads.lock */
	struct vrd_mad *inbox;			/* ring of VRD_GSI_INBOX; mads.lock, all three */
	unsigned int inbox_head, inbox_len;
	unsigned int queued;			/* its MADs in the queue; mads.lock */
	uint64_t tokens, refilled_ns;		/* quota; poller only */
	_Atomic uint64_t stats[VRD_GSI_STATS];
	LIST_ENTRY(vrd_gsi_port) link;		/* mads.lock */
};

static inline void vrd_gsi_count(struct vrd_gsi_port *port, enum vrd_gsi_stat stat)
{
	atomic_fetch_add_explicit(&port->stats[stat], 1, memory_order_relaxed);
}

struct vrd_mads {
	struct vrd_engine *engine;
	pthread_mutex_t lock;
	LIST_HEAD(, vrd_gsi_port) ports;
	struct vrd_mad_gid *gids[VRD_GID_BUCKETS];

	/* For the thread; mads.lock. */
	struct vrd_mad_queued {
		struct vrd_mad mad;
		struct vrd_gsi_port *port;	/* sending port; NULL: it was closed */
	} *queue;				/* ring of VRD_MAD_QUEUE, or NULL: no thread */
	unsigned int queue_head, queue_len;

	/* Owned by the thread, but for @stop. */
	pthread_t thread;
	bool threaded;
	_Atomic bool stop;
	struct vrd_mad_loop loop;
	struct vrd_mad_channel *channel;	/* or NULL */
	struct vrd_cm_agent *agent;		/* or NULL */
	_Atomic bool changed;			/* ports, GIDs or QPs changed: for the agent */
};

/* The engine's instance, created at the first call.  NULL: no memory. */
struct vrd_mads *vrd_mads_get(struct vrd_engine *engine);

/* ---- ports: dev->lock ---------------------------------------------------- */

int vrd_gsi_port_open(struct vrd_device *dev, const struct vrd_gsi_port_config *cfg,
		      struct vrd_gsi_port **port, struct vrd_error *err);
/* QP 1 has been destroyed and the GIDs have been deleted. */
void vrd_gsi_port_close(struct vrd_gsi_port *port);

/* -EEXIST if another device of the process has the GID: a GID identifies one QP 1. */
int vrd_gsi_gid_add(struct vrd_gsi_port *port, uint32_t index, const uint8_t gid[16]);
void vrd_gsi_gid_del(struct vrd_gsi_port *port, uint32_t index);

/* "mads_sent", "mads_received", "mads_dropped", ... */
void vrd_gsi_port_stats(struct vrd_gsi_port *port,
			void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

/* ---- QP 1: gsi.c ----------------------------------------------------------- */

extern const struct vrd_path_ops vrd_gsi_path;

/* Needs dev->local_dma (ib_mad's lkey). */
int vrd_gsi_qp_create(struct vrd_qp *qp);
void vrd_gsi_qp_destroy(struct vrd_qp *qp);
void vrd_gsi_qp_free(struct vrd_qp *qp);

/* ---- pollers ---- */

/* Sends, or drops and counts. */
void vrd_mads_send(struct vrd_gsi_port *port, const struct vrd_mad *mad);
/* Takes the oldest MAD of the inbox; false: it is empty. */
bool vrd_mads_take(struct vrd_gsi_port *port, struct vrd_mad *mad);
void vrd_mads_forget_inbox(struct vrd_gsi_port *port);

/* ---- the MAD thread ---- */

/*
 * Puts the MAD into the inbox of the port that has dgid and counts it there as @stat.
 * False: no port has it.
 */
bool vrd_mads_deliver(struct vrd_mads *mads, const struct vrd_mad *mad, enum vrd_gsi_stat stat);
/* True if a device of this process has the GID. */
bool vrd_mads_has_gid(struct vrd_mads *mads, const uint8_t gid[16]);
/* Counts for the port that has @gid, if there is one. */
void vrd_mads_count(struct vrd_mads *mads, const uint8_t gid[16], enum vrd_gsi_stat stat);
/* The scope of link-local GIDs of the port that has @gid, or 0. */
unsigned int vrd_mads_ifindex(struct vrd_mads *mads, const uint8_t gid[16]);
/*
 * All pairs of a guest's GID and a port at which the host listens for it.  The caller frees
 * *@list.
 */
struct vrd_mads_listen {
	uint8_t gid[16];
	uint16_t port;
	unsigned int ifindex;
};
unsigned int vrd_mads_listeners(struct vrd_mads *mads, struct vrd_mads_listen **list);
/* The port that has @gid, or NULL; mads.lock is held. */
struct vrd_gsi_port *vrd_mads_port_locked(struct vrd_mads *mads, const uint8_t gid[16]);
/* No daemon serves dgid: passes the MAD to the host's connection manager, or drops it. */
void vrd_mads_unserved(struct vrd_mads *mads, const struct vrd_mad *mad);

#endif /* VRD_IBV_MADS_H */
