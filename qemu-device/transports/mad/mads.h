/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MADs of a process: its ports, by GID, and the ways out of it.
 *
 * One for each engine.  Pollers hand MADs over (vrd_mads_send()); one that is
 * for another device of the process is put into that port's inbox at once, all
 * others wait in a bounded queue for the MAD thread, which owns the network.
 * What comes from the network goes into inboxes as well.  A guest's memory is
 * touched by nobody but the poller of its QP 1, which empties the inbox.
 *
 * Locks: mads.lock protects the ports, GIDs, inboxes and the queue.  It is
 * taken under dev->lock and sq.lock, and only the pollers' inbox locks are
 * taken under it.  The MAD thread takes it for a moment at a time.
 */
#ifndef VRD_IBV_MADS_H
#define VRD_IBV_MADS_H

#include <pthread.h>
#include <sys/queue.h>

#include "gsi.h"
#include "mad_loop.h"

#define VRD_MAD_LEN		256U

/* MADs that wait: for one guest's QP 1, for the thread, for it from one guest. */
#define VRD_GSI_INBOX		128U
#define VRD_MAD_QUEUE		512U
#define VRD_MAD_QUEUE_PORT	128U

/* What one guest may send: so many at once, and per second in the long run. */
#define VRD_MAD_BURST		1024U
#define VRD_MAD_RATE		4096U

/* From QP 1 to QP 1, with what the 40-byte header of a receive needs. */
struct vrd_mad {
	uint8_t sgid[16], dgid[16];
	uint32_t flow_label;
	uint8_t tclass, hop_limit, sl;
	/* The QP that the message names as its sender's is the sender's own. */
	bool own_qpn;
	uint8_t data[VRD_MAD_LEN];
};

#define VRD_MAD_GID_BUCKETS	256

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
	VRD_GSI_HOST_CM,		/* given to the host's connection manager */
	VRD_GSI_DROP_QUOTA,		/* the guest sends too fast */
	VRD_GSI_DROP_ROUTE,		/* nobody there who could be reached */
	VRD_GSI_DROP_FULL,		/* the receiver, or the thread, did not keep up */
	VRD_GSI_DROP_RECV,		/* no receive posted, or too short, or not ready */
	VRD_GSI_STATS,
};

struct vrd_gsi_port {
	struct vrd_mads *mads;
	struct vrd_device *dev;
	struct vrd_gsi_port_config cfg;
	struct vrd_mad_gid *gids[VRD_GID_TABLE_LEN];	/* mads.lock */
	struct vrd_qp *qp;			/* QP 1, or NULL; mads.lock */
	struct vrd_mad *inbox;			/* ring of VRD_GSI_INBOX; mads.lock, all three */
	unsigned int inbox_head, inbox_len;
	unsigned int queued;			/* of its MADs in the queue; mads.lock */
	uint64_t tokens, refilled_ns;		/* quota: the poller's */
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
	struct vrd_mad_gid *gids[VRD_MAD_GID_BUCKETS];

	/* For the thread; mads.lock. */
	struct vrd_mad_queued {
		struct vrd_mad mad;
		struct vrd_gsi_port *port;	/* whose; NULL: it has gone */
	} *queue;				/* ring of VRD_MAD_QUEUE, or NULL: no thread */
	unsigned int queue_head, queue_len;

	/* The thread's own, but for @stop. */
	pthread_t thread;
	bool threaded;
	_Atomic bool stop;
	struct vrd_mad_loop loop;
	struct vrd_mad_channel *channel;	/* or NULL */
	struct vrd_cm_agent *agent;		/* or NULL */
	_Atomic bool changed;			/* ports, GIDs or QPs: for the agent */
};

/* The engine's; made when it is first asked for.  NULL: no memory. */
struct vrd_mads *vrd_mads_get(struct vrd_engine *engine);

/* ---- pollers ---- */

/* Sends, or drops and counts. */
void vrd_mads_send(struct vrd_gsi_port *port, const struct vrd_mad *mad);
/* Takes the oldest of the inbox; false: it is empty. */
bool vrd_mads_take(struct vrd_gsi_port *port, struct vrd_mad *mad);
void vrd_mads_forget_inbox(struct vrd_gsi_port *port);

/* ---- the MAD thread ---- */

/* Into the inbox of the port that has dgid; @stat is counted there.  False: none has. */
bool vrd_mads_deliver(struct vrd_mads *mads, const struct vrd_mad *mad, enum vrd_gsi_stat stat);
/* A device of this process has it. */
bool vrd_mads_has_gid(struct vrd_mads *mads, const uint8_t gid[16]);
/* Counts for the port that has @gid, if one has. */
void vrd_mads_count(struct vrd_mads *mads, const uint8_t gid[16], enum vrd_gsi_stat stat);
/* The scope of link-local GIDs of the port that has @gid, or 0. */
unsigned int vrd_mads_ifindex(struct vrd_mads *mads, const uint8_t gid[16]);
/* All pairs of a guest's GID and a port at which it may be connected to; *@list
 * is to be freed.
 */
struct vrd_mads_listen {
	uint8_t gid[16];
	uint16_t port;
	unsigned int ifindex;
};
unsigned int vrd_mads_listeners(struct vrd_mads *mads, struct vrd_mads_listen **list);
/* The port that has @gid, or NULL; mads.lock is held. */
struct vrd_gsi_port *vrd_mads_port_locked(struct vrd_mads *mads, const uint8_t gid[16]);
/* No daemon serves dgid: to the host's connection manager, or dropped. */
void vrd_mads_unserved(struct vrd_mads *mads, const struct vrd_mad *mad);

#endif /* VRD_IBV_MADS_H */
