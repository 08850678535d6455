/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection of the MAD channel: a socket and a session.  mad_channel.c owns the
 * connections and the policy; this header is between these two files only.
 */
#ifndef VRD_IBV_MAD_CONN_H
#define VRD_IBV_MAD_CONN_H

#include "mad_channel.h"

enum vrd_mad_conn_state {
	VRD_MAD_CONN_CONNECTING,
	VRD_MAD_CONN_HANDSHAKE,
	VRD_MAD_CONN_OPEN,
	VRD_MAD_CONN_UNSERVED,		/* no socket: the GID has no daemon, until the deadline */
};

struct vrd_mad_conn {
	struct vrd_mad_source src;
	struct vrd_mad_channel *ch;
	TAILQ_ENTRY(vrd_mad_conn) link;	/* least recently used first */
	uint8_t state;			/* VRD_MAD_CONN_* */
	bool server;
	uint8_t local[16], remote[16];
	uint64_t deadline;		/* ms */
	struct vrd_mad_session session;
	uint8_t in[VRD_MAD_WIRE_MAX];
	size_t in_len;
	uint8_t *out;			/* out_len bytes from out_off are pending */
	size_t out_off, out_len, out_size;
	struct vrd_mad *pending;	/* VRD_MAD_MAX_PENDING, or NULL */
	unsigned int num_pending;
};

enum vrd_mad_conn_end {
	VRD_MAD_END_LOST,		/* closed by the peer or the network */
	VRD_MAD_END_HELLO,		/* no daemon, or a daemon of another version */
	VRD_MAD_END_KEY,
	VRD_MAD_END_RECORD,		/* a record failed authentication */
	VRD_MAD_END_UNSERVED,		/* a daemon, but not for this GID */
	VRD_MAD_END_OURS,		/* our own limits */
};

/* ---- mad_conn.c ---- */

/* Starts to connect; returns a negative errno if that fails at once. */
int vrd_mad_conn_connect(struct vrd_mad_conn *conn, uint16_t port, unsigned int ifindex);
/* Continues with an accepted socket, which is conn->src.fd. */
int vrd_mad_conn_accepted(struct vrd_mad_conn *conn, bool serves);
/* The session is open.  Returns false if too much output is pending. */
bool vrd_mad_conn_send(struct vrd_mad_conn *conn, const struct vrd_mad *mad);
/* Closes the socket and discards pending input and output. */
void vrd_mad_conn_close(struct vrd_mad_conn *conn);

/* ---- mad_channel.c: what the connection tells ---- */

const struct vrd_mad_key *vrd_mad_channel_key(struct vrd_mad_channel *ch);
struct vrd_mad_loop *vrd_mad_channel_loop(struct vrd_mad_channel *ch);
/*
 * Each of these may free the connection.  False: it was freed or closed, and the caller must
 * not use it any more.
 */
bool vrd_mad_channel_opened(struct vrd_mad_conn *conn);
bool vrd_mad_channel_received(struct vrd_mad_conn *conn, const struct vrd_mad *mad);
void vrd_mad_channel_ended(struct vrd_mad_conn *conn, enum vrd_mad_conn_end why);

#endif /* VRD_IBV_MAD_CONN_H */
