/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connected vhost-user client: bytes and descriptors in, whole messages out.
 *
 * Used by the main thread.  Nothing here waits: a client that sends half a
 * message, or reads no replies, holds up nobody but itself, and not for ever.
 */
#ifndef VRDMAD_CONN_H
#define VRDMAD_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "vhost_user.h"

/* The rest of a message has to come within this time. */
#define VRDMAD_PARTIAL_MS	10000

struct vrdmad_conn {
	struct vrdmad_loop *loop;
	struct vrdmad_session *session;
	struct vrdmad_source source;
	/* Called once when the connection is to be given up; it may free nothing
	 * that is in use: the connection calls it last.
	 */
	void (*lost)(struct vrdmad_conn *conn);

	struct vu_message msg;		/* being received */
	size_t got;			/* bytes of it */
	uint64_t partial_deadline_ms;	/* 0: no message has begun */
	uint64_t messages;		/* statistics */
};

/* Takes over @fd, a non-blocking stream socket.  0 or a negative errno. */
int vrdmad_conn_open(struct vrdmad_conn *conn, struct vrdmad_loop *loop,
		     struct vrdmad_session *session, int fd,
		     void (*lost)(struct vrdmad_conn *conn));
/* Closes the socket and what a half message brought. */
void vrdmad_conn_close(struct vrdmad_conn *conn);
bool vrdmad_conn_is_open(const struct vrdmad_conn *conn);

/* True if the client has hung up, even if that was not read yet. */
bool vrdmad_conn_hung_up(const struct vrdmad_conn *conn);

/* Gives up on a message that takes too long. */
void vrdmad_conn_check_deadline(struct vrdmad_conn *conn, uint64_t now_ms);

#endif /* VRDMAD_CONN_H */
