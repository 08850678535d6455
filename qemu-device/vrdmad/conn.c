// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Connection of a vhost-user client: see conn.h.
 *
 * Each read asks for at most the missing bytes of the current message, so that received
 * descriptors always belong to this message.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"

/*
 * SCM_MAX_FD, the most descriptors that the kernel passes at once.  With room for all of
 * them, MSG_CTRUNC means that the process has reached its limit of open files.
 */
#define MAX_PASSED_FDS	253

static void conn_lose(struct vrdmad_conn *conn)
{
	conn->lost(conn);
}

static void close_message_fds(struct vrdmad_conn *conn)
{
	for (unsigned int i = 0; i < conn->msg.num_fds; i++)
		vu_close_fd(conn->session, conn->msg.fds[i]);
	conn->msg.num_fds = 0;
}

/* Keeps the descriptors of @mh.  False if they are more than any message may have. */
static bool take_fds(struct vrdmad_conn *conn, struct msghdr *mh)
{
	bool ok = !(mh->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (conn->msg.num_fds < VU_MAX_FDS) {
				conn->msg.fds[conn->msg.num_fds++] = fd;
			} else {
				vu_close_fd(conn->session, fd);
				ok = false;
			}
		}
	}
	return ok;
}

enum receive_result {
	RECEIVED,			/* all bytes that were asked for */
	RECEIVE_MORE,			/* the rest has not arrived yet */
	RECEIVE_LOST,			/* logged; the connection has to be closed */
};

/* Reads until @conn has @want bytes of the message. */
static enum receive_result receive_upto(struct vrdmad_conn *conn, size_t want)
{
	while (conn->got < want) {
		union {
			char bytes[CMSG_SPACE(MAX_PASSED_FDS * sizeof(int))];
			struct cmsghdr align;
		} control;
		struct iovec iov = {
			.iov_base = (char *)&conn->msg.hdr + conn->got,
			.iov_len = want - conn->got,
		};
		struct msghdr mh = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		ssize_t n;

		if (conn->got >= sizeof(conn->msg.hdr))
			iov.iov_base = conn->msg.payload.bytes +
				(conn->got - sizeof(conn->msg.hdr));
		n = recvmsg(conn->source.fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return RECEIVE_MORE;
		if (n < 0 && errno != ECONNRESET) {
			vrdmad_session_log(conn->session, VRD_LOG_ERROR, "receiving: %s",
					   strerror(errno));
			return RECEIVE_LOST;
		}
		if (n <= 0) {
			if (conn->got)
				vrdmad_session_log(conn->session, VRD_LOG_ERROR,
						   "the client hung up in the middle of a message");
			return RECEIVE_LOST;
		}
		conn->got += (size_t)n;
		if (!take_fds(conn, &mh)) {
			vrdmad_session_log(conn->session, VRD_LOG_ERROR,
					   mh.msg_flags & MSG_CTRUNC ?
					   "descriptors were lost: raise the limit of open files (LimitNOFILE=)" :
					   "more than %d descriptors in one message", VU_MAX_FDS);
			return RECEIVE_LOST;
		}
	}
	return RECEIVED;
}

static bool check_header(struct vrdmad_conn *conn)
{
	const struct vu_header *hdr = &conn->msg.hdr;

	if ((hdr->flags & ~VU_FLAG_NEED_REPLY) != VU_VERSION) {
		vrdmad_session_log(conn->session, VRD_LOG_ERROR,
				   "message %u with flags 0x%x: this is no vhost-user client",
				   hdr->request, hdr->flags);
		return false;
	}
	if (hdr->size > VU_MAX_PAYLOAD) {
		vrdmad_session_log(conn->session, VRD_LOG_ERROR,
				   "%s with %u bytes of payload: no message is that long",
				   vu_request_name(hdr->request), hdr->size);
		return false;
	}
	return true;
}

static enum receive_result receive_message(struct vrdmad_conn *conn)
{
	const size_t hdr_size = sizeof(conn->msg.hdr);
	enum receive_result res;

	if (conn->got < hdr_size) {
		res = receive_upto(conn, hdr_size);
		if (res != RECEIVED)
			return res;
	}
	/* This repeats the check if only the payload was missing; it is cheap. */
	if (!check_header(conn))
		return RECEIVE_LOST;
	return receive_upto(conn, hdr_size + conn->msg.hdr.size);
}

static bool send_reply(struct vrdmad_conn *conn, const struct vu_message *reply)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)&reply->hdr, .iov_len = sizeof(reply->hdr) },
		{ .iov_base = (void *)&reply->payload, .iov_len = reply->hdr.size },
	};
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	do {
		n = sendmsg(conn->source.fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)(iov[0].iov_len + iov[1].iov_len))
		return true;
	/* The client left a whole socket buffer of replies unread, or it has hung up. */
	if (n >= 0 || errno == EAGAIN)
		vrdmad_session_log(conn->session, VRD_LOG_ERROR,
				   "the client does not read its replies");
	return false;
}

static bool must_hold(struct vrdmad_conn *conn)
{
	struct vrdmad_session *s = conn->session;

	s->must_settle = s->must_settle && !vrd_device_settle(s->dev, 0);
	return s->must_settle;
}

/* Holds the client until the device has settled.  False: the loop has failed. */
static bool hold(struct vrdmad_conn *conn)
{
	conn->held_deadline_ms = vrdmad_now_ms() + VRD_SETTLE_MS;
	vrdmad_loop_arm(conn->loop, conn->held_deadline_ms);
	/* The end of the connection is reported in any case. */
	return vrdmad_loop_modify(conn->loop, &conn->source, 0) == 0;
}

static bool release(struct vrdmad_conn *conn)
{
	conn->held_deadline_ms = 0;
	conn->session->must_settle = false;
	return vrdmad_loop_modify(conn->loop, &conn->source, EPOLLIN) == 0 &&
		(conn->reply.hdr.size == VU_NO_REPLY || send_reply(conn, &conn->reply));
}

void vrdmad_conn_settled(struct vrdmad_conn *conn)
{
	/* The event may be an old one. */
	if (vrdmad_conn_is_open(conn) && conn->held_deadline_ms &&
	    !must_hold(conn) && !release(conn))
		conn_lose(conn);
}

static void conn_ready(struct vrdmad_source *src, uint32_t events)
{
	struct vrdmad_conn *conn = vrdmad_container_of(src, struct vrdmad_conn, source);
	static const union vu_payload zero;
	bool ok;

	if (conn->held_deadline_ms) {
		if (events & (EPOLLHUP | EPOLLERR))
			conn_lose(conn);
		return;
	}
	switch (receive_message(conn)) {
	case RECEIVE_LOST:
		conn_lose(conn);
		return;
	case RECEIVE_MORE:
		if (conn->got && !conn->partial_deadline_ms) {
			conn->partial_deadline_ms = vrdmad_now_ms() + VRDMAD_PARTIAL_MS;
			vrdmad_loop_arm(conn->loop, conn->partial_deadline_ms);
		}
		return;
	case RECEIVED:
		break;
	}
	conn->messages++;
	vrdmad_log(conn->session->log, VRD_LOG_DEBUG, "%s: %s, %u bytes, %u descriptors",
		   conn->session->opt->name, vu_request_name(conn->msg.hdr.request),
		   conn->msg.hdr.size, conn->msg.num_fds);
	conn->reply.payload = zero;
	ok = vrdmad_session_message(conn->session, &conn->msg, &conn->reply);
	conn->got = 0;
	conn->partial_deadline_ms = 0;
	if (vu_too_many_closes(conn->session)) {
		vrdmad_session_log(conn->session, VRD_LOG_ERROR,
				   "the client passes descriptors that cannot be closed");
		ok = false;
	}
	if (ok && must_hold(conn))
		ok = hold(conn);
	else if (conn->reply.hdr.size != VU_NO_REPLY && !send_reply(conn, &conn->reply))
		ok = false;
	if (!ok)
		conn_lose(conn);
}

int vrdmad_conn_open(struct vrdmad_conn *conn, struct vrdmad_loop *loop,
		     struct vrdmad_session *session, int fd,
		     void (*lost)(struct vrdmad_conn *conn))
{
	int ret;

	conn->loop = loop;
	conn->session = session;
	conn->lost = lost;
	conn->source.ready = conn_ready;
	conn->got = 0;
	conn->msg.num_fds = 0;
	conn->partial_deadline_ms = 0;
	conn->held_deadline_ms = 0;
	conn->reply.hdr.size = VU_NO_REPLY;
	ret = vrdmad_loop_add(loop, &conn->source, fd, EPOLLIN);
	/* The client before it may have left memory that is being given back. */
	if (!ret && must_hold(conn) && !hold(conn)) {
		vrdmad_loop_del(loop, &conn->source);
		ret = -EIO;
	}
	return ret;
}

void vrdmad_conn_close(struct vrdmad_conn *conn)
{
	int fd = conn->source.fd;

	if (fd < 0)
		return;
	close_message_fds(conn);
	vrdmad_loop_del(conn->loop, &conn->source);
	/*
	 * shutdown() reports the end to the client at once.  close() may sleep, because it also
	 * closes the descriptors in the receive queue; vu_close_fd() leaves it to another
	 * thread.
	 */
	shutdown(fd, SHUT_RDWR);
	vu_close_fd(conn->session, fd);
}

bool vrdmad_conn_is_open(const struct vrdmad_conn *conn)
{
	return conn->source.fd >= 0;
}

bool vrdmad_conn_hung_up(const struct vrdmad_conn *conn)
{
	struct pollfd pfd = { .fd = conn->source.fd, .events = POLLRDHUP };

	return poll(&pfd, 1, 0) == 1 && pfd.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* The host does not answer, and the guest must not wait for it indefinitely. */
static bool give_up_waiting(struct vrdmad_conn *conn)
{
	vrdmad_session_log(conn->session, VRD_LOG_ERROR,
			   "the host's RDMA device does not give memory back: it may still write to it");
	return release(conn);
}

void vrdmad_conn_check_deadline(struct vrdmad_conn *conn, uint64_t now_ms)
{
	if (!vrdmad_conn_is_open(conn))
		return;
	if (conn->held_deadline_ms) {
		if (now_ms < conn->held_deadline_ms)
			vrdmad_loop_arm(conn->loop, conn->held_deadline_ms);
		else if (!give_up_waiting(conn))
			conn_lose(conn);
		return;
	}
	if (!conn->partial_deadline_ms)
		return;
	if (now_ms < conn->partial_deadline_ms) {
		vrdmad_loop_arm(conn->loop, conn->partial_deadline_ms);
		return;
	}
	vrdmad_session_log(conn->session, VRD_LOG_ERROR,
			   "the client sent half a message and no more for %d seconds",
			   VRDMAD_PARTIAL_MS / 1000);
	conn_lose(conn);
}
