// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Descriptors that a vhost-user client passed: what they are, and how they are
 * closed.
 *
 * The client may pass a file of a FUSE file system of its own, which answers
 * fstat(), fstatfs() or close() when the client likes.  So a descriptor is
 * classified by calls that stay inside the kernel, before anything else is done
 * with it.  Main thread.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost_user.h"

/* The name that /proc shows is made without asking the file system. */
static bool is_eventfd(int fd)
{
	char path[64], target[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, target, sizeof(target) - 1);
	target[len < 0 ? 0 : len] = '\0';
	/* The path of a file begins with a slash. */
	return !strncmp(target, "anon_inode:[eventfd", 19);
}

static bool is_unix_stream(int fd)
{
	int domain, type;
	socklen_t len = sizeof(int);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && domain == AF_UNIX &&
	       !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM;
}

enum vu_fd_kind vu_fd_kind(int fd)
{
	/* Only memfds and files of tmpfs and hugetlbfs have seals. */
	if (fcntl(fd, F_GET_SEALS) >= 0)
		return VU_FD_MEMORY;
	if (is_eventfd(fd))
		return VU_FD_EVENTFD;
	if (is_unix_stream(fd))
		return VU_FD_UNIX_STREAM;
	return VU_FD_OTHER;
}

void vu_close_fd(struct vrdmad_session *s, int fd)
{
	enum vu_fd_kind kind = vu_fd_kind(fd);

	if (kind == VU_FD_MEMORY || kind == VU_FD_EVENTFD)
		close(fd);
	else
		vrd_device_close_fd(s->dev, fd);
}

bool vu_too_many_closes(const struct vrdmad_session *s)
{
	return vrd_device_pending_closes(s->dev) >= VRD_MAX_PENDING_CLOSES;
}
