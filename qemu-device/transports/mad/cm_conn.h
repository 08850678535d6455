/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection that the host's connection manager makes for a guest; between
 * cm_agent.c (what the guest says) and cm_host.c (what the host says).
 */
#ifndef VRD_IBV_CM_CONN_H
#define VRD_IBV_CM_CONN_H

#include <rdma/rdma_cma.h>

#include "cm_agent.h"
#include "cm_msg.h"

/* Connections in all, and of one guest. */
#define VRD_CM_MAX_CONNS	1024U
#define VRD_CM_MAX_CONNS_GUEST	256U
/* Steps of the host, and messages that the guest does not answer. */
#define VRD_CM_RESOLVE_MS	2000
#define VRD_CM_SETUP_MS		90000U
#define VRD_CM_AGAIN_MS		2000U
#define VRD_CM_TRIES		4U
/* The host may be given the guest's address later. */
#define VRD_CM_LISTEN_AGAIN_MS	5000U

enum vrd_cm_state {
	VRD_CM_RESOLVING,		/* the guest asked; address and route */
	VRD_CM_REQ_SENT,		/* the host's REQ is out */
	VRD_CM_REP_GIVEN,		/* the guest has the REP: it answers RTU or REJ */
	VRD_CM_REQ_GIVEN,		/* passive: the guest has the REQ: it answers REP or REJ */
	VRD_CM_ACCEPTED,		/* passive: the host's REP is out */
	VRD_CM_ESTABLISHED,
	VRD_CM_DREQ_SENT,		/* the guest disconnects */
	VRD_CM_DREQ_GIVEN,		/* the peer disconnects: the guest answers DREP */
};

struct vrd_cm_conn {
	bool is_listener;		/* first in all that an id's context may be; false */
	struct vrd_cm_agent *agent;
	struct rdma_cm_id *id;
	LIST_ENTRY(vrd_cm_conn) link;
	uint8_t state;			/* VRD_CM_* */
	bool datagram;			/* SIDR */
	bool passive;
	uint8_t guest_gid[16], peer_gid[16];
	uint32_t guest_id, our_id;	/* comm IDs; guest_id 0: not known yet */
	uint64_t tid;			/* of the exchange that is going on */
	struct vrd_cm_msg req;		/* that began it */

	/* What the guest has not answered, to be said again. */
	uint64_t deadline;		/* ms */
	unsigned int tries;
	uint8_t said[VRD_MAD_LEN];

	/* mads.lock */
	uint32_t qpn;			/* the guest's; 0: not known yet */
	uint32_t peer_qpn;
	uint32_t rq_psn;
	bool has_psn;
	bool forgotten;			/* its QP has gone */
};

/* One of a guest's addresses, at one of the ports that its owner named. */
struct vrd_cm_listener {
	bool is_listener;		/* true */
	struct vrd_cm_agent *agent;
	struct rdma_cm_id *id;
	LIST_ENTRY(vrd_cm_listener) link;
	uint8_t gid[16];
	uint16_t port;
	bool wanted;			/* during a sync */
};

struct vrd_cm_host {
	struct rdma_event_channel *channel;
	struct ibv_context **devices;	/* kept open: nothing is opened later */
};

struct vrd_cm_agent {
	struct vrd_mads *mads;
	struct vrd_cm_host *host;
	struct vrd_mad_source src;
	LIST_HEAD(, vrd_cm_conn) conns;		/* changed under mads.lock */
	LIST_HEAD(, vrd_cm_listener) listeners;
	unsigned int num_conns;
	uint32_t next_id;
	uint64_t next_warning;
	uint64_t listen_again;		/* ms; 0: all that is wanted listens */
};

/* ---- cm_agent.c ---- */

/* NULL: too many, or no memory. */
struct vrd_cm_conn *vrd_cm_conn_new(struct vrd_cm_agent *agent, const uint8_t guest_gid[16],
				    const uint8_t peer_gid[16]);
/* The host's half as well; no event of it is held any more. */
void vrd_cm_conn_free(struct vrd_cm_conn *conn);
/* To the guest, from the peer; @again: until the guest answers. */
void vrd_cm_say(struct vrd_cm_conn *conn, struct vrd_cm_msg *msg, bool again);
/* The guest's request is answered with a REJ, or SIDR_REP, and the connection ends. */
void vrd_cm_refuse(struct vrd_cm_conn *conn, uint16_t reason, const void *data, size_t len);
void vrd_cm_warn(struct vrd_cm_agent *agent, const char *what, int error);

/* ---- cm_host.c ---- */

/* The source of the agent is ready. */
void vrd_cm_host_ready(struct vrd_mad_source *src, uint32_t events);
/* Begins a connection; false: the host refuses. */
bool vrd_cm_host_begin(struct vrd_cm_conn *conn, uint16_t port_space, uint16_t port,
		       unsigned int ifindex);
/* Listens.  A negative errno; not of every address that a guest has the host has one. */
int vrd_cm_host_listen(struct vrd_cm_listener *listener, unsigned int ifindex);

#endif /* VRD_IBV_CM_CONN_H */
