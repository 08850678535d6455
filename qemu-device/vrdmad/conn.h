/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connection of a vhost-user client: receives bytes and descriptors, and passes whole
 * messages to the session.
 *
 * Used by the main thread.  Nothing here blocks.  A client that sends half a message, or
 * does not read its replies, delays only itself, and is disconnected in the end.
 *
 * While the host's RDMA stack gives memory back (vrd_device_settle()), the client is held: it
 * gets no reply, and its messages stay in the socket.  Other clients are served meanwhile.
 */
#ifndef VRDMAD_CONN_H
#define VRDMAD_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "vhost_user.h"

/* Time limit for the rest of a message. */
#define VRDMAD_PARTIAL_MS	10000

struct vrdmad_conn {
	struct vrdmad_loop *loop;
	struct vrdmad_session *session;
	struct vrdmad_source source;
	/*
	 * Called once when the connection has to be given up, as the last action of a handler.
	 * The callee may close the connection.
	 */
	void (*lost)(struct vrdmad_conn *conn);

	struct vu_message msg;		/* the message being received */
	size_t got;			/* bytes of it so far */
	uint64_t partial_deadline_ms;	/* 0: no message has begun */
	uint64_t held_deadline_ms;	/* 0: the client is not held */
	struct vu_message reply;	/* for the time when it is released */
	uint64_t messages;		/* statistics */
};

/* Takes over @fd, a non-blocking stream socket.  0 or a negative errno. */
int vrdmad_conn_open(struct vrdmad_conn *conn, struct vrdmad_loop *loop,
		     struct vrdmad_session *session, int fd,
		     void (*lost)(struct vrdmad_conn *conn));
/* Closes the socket and the descriptors of an incomplete message. */
void vrdmad_conn_close(struct vrdmad_conn *conn);
bool vrdmad_conn_is_open(const struct vrdmad_conn *conn);

/* True if the client has hung up, even if the end was not read yet. */
bool vrdmad_conn_hung_up(const struct vrdmad_conn *conn);

/* The device has settled: releases the client if it is held. */
void vrdmad_conn_settled(struct vrdmad_conn *conn);

/*
 * Gives up the connection if the current message takes too long; releases a client that has
 * been held for VRD_SETTLE_MS.
 */
void vrdmad_conn_check_deadline(struct vrdmad_conn *conn, uint64_t now_ms);

#endif /* VRDMAD_CONN_H */
