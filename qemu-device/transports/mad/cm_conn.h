/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection that the host's connection manager makes for a guest.  Shared by cm_agent.c
 * (the guest's messages) and cm_host.c (the host's events).
 */
#ifndef VRD_IBV_CM_CONN_H
#define VRD_IBV_CM_CONN_H

#include <rdma/rdma_cma.h>

#include "cm_agent.h"
#include "cm_msg.h"

/* Limits of connections: in total and for one guest. */
#define VRD_CM_MAX_CONNS	1024U
#define VRD_CM_MAX_CONNS_GUEST	256U
/* Time-out of the host's steps and of messages that the guest does not answer. */
#define VRD_CM_RESOLVE_MS	2000
#define VRD_CM_SETUP_MS		90000U
#define VRD_CM_AGAIN_MS		2000U
#define VRD_CM_TRIES		4U
/* How long to wait before listening is tried again: the host may get the address later. */
#define VRD_CM_LISTEN_AGAIN_MS	5000U

enum vrd_cm_state {
	VRD_CM_RESOLVING,		/* the guest asked; address and route resolution */
	VRD_CM_REQ_SENT,		/* the host has sent its REQ */
	VRD_CM_REP_GIVEN,		/* the guest got the REP: it answers RTU or REJ */
	VRD_CM_REQ_GIVEN,		/* passive: the guest got the REQ: it answers REP or REJ */
	VRD_CM_ACCEPTED,		/* passive: the host has sent its REP */
	VRD_CM_ESTABLISHED,
	VRD_CM_DREQ_SENT,		/* the guest disconnects */
	VRD_CM_DREQ_GIVEN,		/* the peer disconnects: the guest answers DREP */
};

struct vrd_cm_conn {
	bool is_listener;		/* first member of each possible id context; false */
	struct vrd_cm_agent *agent;
	struct rdma_cm_id *id;
	LIST_ENTRY(vrd_cm_conn) link;
	uint8_t state;			/* VRD_CM_* */
	bool datagram;			/* SIDR */
	bool passive;
	uint8_t guest_gid[16], peer_gid[16];
	uint32_t guest_id, our_id;	/* comm IDs; guest_id 0: not known yet */
	uint64_t tid;			/* of the current exchange */
	struct vrd_cm_msg req;		/* transaction that started the connection */

	/* The message that the guest has not answered, for retransmission. */
	uint64_t deadline;		/* ms */
	unsigned int tries;
	uint8_t said[VRD_MAD_LEN];

	/* mads.lock */
	uint32_t qpn;			/* the guest's; 0: not known yet */
	uint32_t peer_qpn;
	uint32_t rq_psn;
	bool has_psn;
	bool forgotten;			/* its QP was destroyed or reset */
};

/* A listener: one address of a guest, at one of the ports that its owner configured. */
struct vrd_cm_listener {
	bool is_listener;		/* true */
	struct vrd_cm_agent *agent;
	struct rdma_cm_id *id;
	LIST_ENTRY(vrd_cm_listener) link;
	uint8_t gid[16];
	uint16_t port;
	bool wanted;			/* used during a sync */
};

struct vrd_cm_host {
	struct rdma_event_channel *channel;
	struct ibv_context **devices;	/* kept open, because nothing can be opened later */
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
	uint64_t listen_again;		/* ms of the next attempt; 0: all listeners exist */
};

/* ---- cm_agent.c ---- */

/* NULL: too many connections, or no memory. */
struct vrd_cm_conn *vrd_cm_conn_new(struct vrd_cm_agent *agent, const uint8_t guest_gid[16],
				    const uint8_t peer_gid[16]);
/* Also frees the host's half; no event of it may be unacknowledged. */
void vrd_cm_conn_free(struct vrd_cm_conn *conn);
/* Sends a message to the guest, from the peer; @again: until the guest answers. */
void vrd_cm_say(struct vrd_cm_conn *conn, struct vrd_cm_msg *msg, bool again);
/* Answers the guest's request with a REJ or SIDR_REP and ends the connection. */
void vrd_cm_refuse(struct vrd_cm_conn *conn, uint16_t reason, const void *data, size_t len);
void vrd_cm_warn(struct vrd_cm_agent *agent, const char *what, int error);

/* ---- cm_host.c ---- */

/* The agent's event source is ready. */
void vrd_cm_host_ready(struct vrd_mad_source *src, uint32_t events);
/* Starts a connection; false: the host refused. */
bool vrd_cm_host_begin(struct vrd_cm_conn *conn, uint16_t port_space, uint16_t port,
		       unsigned int ifindex);
/* Listens.  Returns a negative errno; the host may lack some addresses of a guest. */
int vrd_cm_host_listen(struct vrd_cm_listener *listener, unsigned int ifindex);

#endif /* VRD_IBV_CM_CONN_H */
