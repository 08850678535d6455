// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One connection of the MAD channel: moves bytes between its socket and its session.  MAD
 * thread.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "mad_addr.h"
#include "mad_conn.h"

/* Messages that one event reads before other connections are served. */
#define READ_BUDGET	32

static void watch(struct vrd_mad_conn *conn)
{
	uint32_t events = EPOLLIN | (conn->out_len ? EPOLLOUT : 0);

	if (vrd_mad_loop_watch(vrd_mad_channel_loop(conn->ch), &conn->src, events))
		vrd_mad_channel_ended(conn, VRD_MAD_END_OURS);
}

/* ---- writing --------------------------------------------------------------- */

/*
 * Makes room for @len bytes behind the pending output, at most @max in total.  NULL: no room
 * or no memory.
 */
static uint8_t *out_room(struct vrd_mad_conn *conn, size_t len, size_t max)
{
	if (conn->out_len + len > max)
		return NULL;
	if (conn->out_off + conn->out_len + len > conn->out_size) {
		if (conn->out_size < max) {
			uint8_t *out = realloc(conn->out, max);

			if (!out)
				return NULL;
			conn->out = out;
			conn->out_size = max;
		}
		memmove(conn->out, conn->out + conn->out_off, conn->out_len);
		conn->out_off = 0;
	}
	return conn->out + conn->out_off + conn->out_len;
}

/* Returns false if the connection failed. */
static bool write_out(struct vrd_mad_conn *conn)
{
	while (conn->out_len) {
		ssize_t n = send(conn->src.fd, conn->out + conn->out_off, conn->out_len,
				 MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		conn->out_off += n;
		conn->out_len -= n;
	}
	conn->out_off = 0;
	return true;
}

bool vrd_mad_conn_send(struct vrd_mad_conn *conn, const struct vrd_mad *mad)
{
	uint8_t *out = out_room(conn, VRD_MAD_RECORD_LEN, VRD_MAD_MAX_UNSENT * VRD_MAD_RECORD_LEN);

	if (!out)
		return false;
	vrd_mad_session_record(&conn->session, mad, out);
	conn->out_len += VRD_MAD_RECORD_LEN;
	/* An error here is reported later: the socket becomes readable. */
	if (conn->out_len == VRD_MAD_RECORD_LEN)
		write_out(conn);
	vrd_mad_loop_watch(vrd_mad_channel_loop(conn->ch), &conn->src,
			   EPOLLIN | (conn->out_len ? EPOLLOUT : 0));
	return true;
}

/* ---- reading ----------------------------------------------------------------- */

static bool ended(struct vrd_mad_conn *conn, enum vrd_mad_conn_end why)
{
	vrd_mad_channel_ended(conn, why);
	return false;
}

/* Handles a complete message.  Returns false if the connection is gone. */
static bool take_message(struct vrd_mad_conn *conn)
{
	uint8_t *out = out_room(conn, VRD_MAD_WIRE_MAX,
				VRD_MAD_MAX_UNSENT * VRD_MAD_RECORD_LEN + VRD_MAD_WIRE_MAX);
	struct vrd_mad mad;
	size_t len;

	if (!out)
		return ended(conn, VRD_MAD_END_OURS);
	conn->in_len = 0;
	switch (vrd_mad_session_input(&conn->session, conn->in, out, &len, &mad)) {
	case VRD_MAD_GO_ON:
		conn->out_len += len;
		return true;
	case VRD_MAD_OPENED:
		return vrd_mad_channel_opened(conn);
	case VRD_MAD_RECORD:
		return vrd_mad_channel_received(conn, &mad);
	case VRD_MAD_BAD_HELLO:
		return ended(conn, VRD_MAD_END_HELLO);
	case VRD_MAD_BAD_KEY:
		return ended(conn, VRD_MAD_END_KEY);
	default:
		return ended(conn, VRD_MAD_END_RECORD);
	}
}

/* Returns false if the connection is gone. */
static bool read_in(struct vrd_mad_conn *conn)
{
	for (unsigned int n = 0; n < READ_BUDGET;) {
		size_t need = vrd_mad_session_need(&conn->session);
		ssize_t got = recv(conn->src.fd, conn->in + conn->in_len, need - conn->in_len, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return true;
		if (got <= 0)
			return ended(conn, VRD_MAD_END_LOST);
		conn->in_len += got;
		if (conn->in_len < need)
			continue;
		n++;
		if (!take_message(conn))
			return false;
	}
	return true;
}

/* ---- events -------------------------------------------------------------------- */

static void ready(struct vrd_mad_source *src, uint32_t events)
{
	struct vrd_mad_conn *conn = (struct vrd_mad_conn *)((char *)src -
							    offsetof(struct vrd_mad_conn, src));

	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && !read_in(conn))
		return;
	if (!write_out(conn)) {
		vrd_mad_channel_ended(conn, VRD_MAD_END_LOST);
		return;
	}
	watch(conn);
}

static int begin(struct vrd_mad_conn *conn, bool serves)
{
	uint8_t *out = out_room(conn, VRD_MAD_WIRE_MAX, 2 * VRD_MAD_WIRE_MAX);

	if (!out)
		return -ENOMEM;
	conn->state = VRD_MAD_CONN_HANDSHAKE;
	conn->deadline = vrd_mad_now_ms() + VRD_MAD_HANDSHAKE_MS;
	conn->src.ready = ready;
	conn->out_len += vrd_mad_session_start(&conn->session, vrd_mad_channel_key(conn->ch),
					       conn->server, serves, conn->local, conn->remote,
					       out);
	return 0;
}

static void connected(struct vrd_mad_source *src, uint32_t events)
{
	struct vrd_mad_conn *conn = (struct vrd_mad_conn *)((char *)src -
							    offsetof(struct vrd_mad_conn, src));
	socklen_t len = sizeof(int);
	int error = 0;

	(void)events;
	if (getsockopt(src->fd, SOL_SOCKET, SO_ERROR, &error, &len) || error ||
	    begin(conn, false) || !write_out(conn)) {
		vrd_mad_channel_ended(conn, VRD_MAD_END_LOST);
		return;
	}
	watch(conn);
}

int vrd_mad_conn_accepted(struct vrd_mad_conn *conn, bool serves)
{
	int ret = begin(conn, serves);

	return ret ? ret : vrd_mad_loop_watch(vrd_mad_channel_loop(conn->ch), &conn->src, EPOLLIN);
}

int vrd_mad_conn_connect(struct vrd_mad_conn *conn, uint16_t port, unsigned int ifindex)
{
	const int one = 1, lost = VRD_MAD_LOST_MS;
	union vrd_mad_addr local, remote;
	socklen_t len = vrd_mad_addr_of(&local, conn->local, 0, ifindex);
	int fd = socket(local.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret;

	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost, sizeof(lost));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if (bind(fd, &local.sa, len))
		goto fail;
	len = vrd_mad_addr_of(&remote, conn->remote, port, ifindex);
	if (connect(fd, &remote.sa, len) && errno != EINPROGRESS)
		goto fail;
	conn->src.fd = fd;
	conn->src.ready = connected;
	ret = vrd_mad_loop_watch(vrd_mad_channel_loop(conn->ch), &conn->src, EPOLLOUT);
	if (ret)
		vrd_mad_conn_close(conn);
	return ret;
fail:
	ret = -errno;
	close(fd);
	return ret;
}

void vrd_mad_conn_close(struct vrd_mad_conn *conn)
{
	if (conn->src.fd >= 0) {
		vrd_mad_loop_unwatch(vrd_mad_channel_loop(conn->ch), &conn->src);
		close(conn->src.fd);
		conn->src.fd = -1;
	}
	vrd_mad_wipe(&conn->session, sizeof(conn->session));
	free(conn->out);
	conn->out = NULL;
	conn->out_off = 0;
	conn->out_len = 0;
	conn->out_size = 0;
	conn->in_len = 0;
}
