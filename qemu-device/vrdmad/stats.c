// SPDX-License-Identifier: GPL-2.0-or-later
/* Statistics: the server for --stats-socket, and the client "vrdmad --stats".  See stats.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "closer.h"
#include "stats.h"

/* Each pending close() occupies a thread.  A well-behaved client causes none. */
#define MAX_PENDING_CLOSES	64

static void client_close(struct vrdmad_stats_client *c)
{
	int fd = c->source.fd;

	if (fd < 0)
		return;
	vrdmad_loop_del(c->stats->loop, &c->source);
	/* The client may have sent descriptors, and closing them may sleep. */
	shutdown(fd, SHUT_RDWR);
	vrd_closer_close(c->stats->closer, fd);
	free(c->reply);
	c->reply = NULL;
}

/* Sends as much as the socket takes, and waits for EPOLLOUT with the rest. */
static void client_send(struct vrdmad_stats_client *c)
{
	while (c->sent < c->reply_len) {
		ssize_t n = send(c->source.fd, c->reply + c->sent, c->reply_len - c->sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (vrdmad_loop_modify(c->stats->loop, &c->source, EPOLLOUT) < 0)
				client_close(c);
			return;
		}
		if (n < 0) {
			client_close(c);
			return;
		}
		c->sent += (size_t)n;
	}
	client_close(c);
}

/*
 * Looks before it takes.  A client may send descriptors with its request; the thread that takes
 * such a message without room for them closes them, and that may sleep.  A look at it changes
 * nothing, and MSG_CTRUNC reports the descriptors.
 */
static void client_receive(struct vrdmad_stats_client *c)
{
	struct iovec iov = {
		.iov_base = c->request + c->request_len,
		.iov_len = sizeof(c->request) - c->request_len,
	};
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(c->source.fd, &mh, MSG_DONTWAIT | MSG_PEEK);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || (mh.msg_flags & MSG_CTRUNC) ||
	    recv(c->source.fd, iov.iov_base, (size_t)n, MSG_DONTWAIT) != n) {
		client_close(c);
		return;
	}
	c->request_len += (size_t)n;
	end = memchr(c->request, '\n', c->request_len);
	if (!end) {
		if (c->request_len == sizeof(c->request))
			client_close(c);
		return;
	}
	*end = '\0';
	if (strcmp(c->request, "text") && strcmp(c->request, "json")) {
		client_close(c);
		return;
	}
	c->reply = vrdmad_stats_format(c->stats, c->request[0] == 'j', &c->reply_len);
	c->sent = 0;
	if (c->reply)
		client_send(c);
	else
		client_close(c);
}

static void client_ready(struct vrdmad_source *src, uint32_t events)
{
	struct vrdmad_stats_client *c = vrdmad_container_of(src, struct vrdmad_stats_client,
							    source);

	if (c->reply)
		client_send(c);
	else if (events & EPOLLIN)
		client_receive(c);
	else
		client_close(c);
}

static void stats_accept(struct vrdmad_source *src, uint32_t events)
{
	struct vrdmad_stats *stats = vrdmad_container_of(src, struct vrdmad_stats, accept_source);
	struct vrdmad_stats_client *c = &stats->clients[0];
	int fd;

	(void)events;
	fd = accept4(src->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			usleep(10000);
		return;
	}
	if (vrd_closer_pending(stats->closer) >= MAX_PENDING_CLOSES) {
		vrdmad_loop_del(stats->loop, &stats->accept_source);
		vrd_closer_close(stats->closer, fd);
		vrdmad_log(stats->log, VRD_LOG_ERROR,
			   "no more statistics: %d connections cannot be closed", MAX_PENDING_CLOSES);
		return;
	}
	/* Use a free slot, or drop the oldest connection. */
	for (unsigned int i = 0; i < VRDMAD_STATS_CLIENTS && c->source.fd >= 0; i++) {
		struct vrdmad_stats_client *other = &stats->clients[i];

		if (other->source.fd < 0 || other->serial < c->serial)
			c = other;
	}
	client_close(c);
	c->request_len = 0;
	c->serial = ++stats->serial;
	if (vrdmad_loop_add(stats->loop, &c->source, fd, EPOLLIN) < 0)
		vrd_closer_close(stats->closer, fd);
}

int vrdmad_stats_start(struct vrdmad_stats *stats, const struct vrdmad_listener *listener,
		       struct vrdmad_loop *loop, struct vrd_engine *engine,
		       struct vrdmad_vm *vms, unsigned int num_vms, const struct vrdmad_log *log)
{
	memset(stats, 0, sizeof(*stats));
	stats->loop = loop;
	stats->log = log;
	stats->engine = engine;
	stats->vms = vms;
	stats->num_vms = num_vms;
	for (unsigned int i = 0; i < VRDMAD_STATS_CLIENTS; i++) {
		stats->clients[i].stats = stats;
		stats->clients[i].source.fd = -1;
		stats->clients[i].source.ready = client_ready;
	}
	stats->accept_source.ready = stats_accept;
	stats->accept_source.fd = -1;
	stats->closer = vrd_closer_create();
	if (!stats->closer)
		return -ENOMEM;
	return vrdmad_loop_add(loop, &stats->accept_source, listener->fd, EPOLLIN);
}

void vrdmad_stats_stop(struct vrdmad_stats *stats)
{
	if (!stats->loop || !stats->closer)
		return;
	vrdmad_loop_del(stats->loop, &stats->accept_source);
	for (unsigned int i = 0; i < VRDMAD_STATS_CLIENTS; i++)
		client_close(&stats->clients[i]);
	vrd_closer_destroy(stats->closer);
	stats->closer = NULL;
}

/* ---- the asking side -------------------------------------------------- */

int vrdmad_stats_query(const char *path, bool json, const struct vrdmad_log *log)
{
	const char *request = json ? "json\n" : "text\n";
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	bool any = false;
	char buf[4096];
	ssize_t n;
	int fd;

	if (strlen(path) >= sizeof(sun.sun_path)) {
		vrdmad_log(log, VRD_LOG_ERROR, "--stats %s: the path is too long", path);
		return VRDMAD_EXIT_USAGE;
	}
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
		vrdmad_log(log, VRD_LOG_ERROR, "--stats %s: %s: is a vrdmad running with --stats-socket %s?",
			   path, strerror(errno), path);
		if (fd >= 0)
			close(fd);
		return VRDMAD_EXIT_FAILURE;
	}
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		goto failed;
	while ((n = recv(fd, buf, sizeof(buf), 0)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			goto failed;
		any = true;
		if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
			goto failed;
	}
	close(fd);
	if (fflush(stdout) != 0)
		return VRDMAD_EXIT_FAILURE;
	if (!any)
		vrdmad_log(log, VRD_LOG_ERROR, "--stats %s: no answer: is it a vrdmad's --stats-socket?",
			   path);
	return any ? 0 : VRDMAD_EXIT_FAILURE;

failed:
	vrdmad_log(log, VRD_LOG_ERROR, "--stats %s: %s", path, strerror(errno));
	close(fd);
	return VRDMAD_EXIT_FAILURE;
}
