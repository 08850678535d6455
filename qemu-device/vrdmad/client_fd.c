// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Classifies and closes the descriptors that a vhost-user client passed.  Main thread.
 *
 * The client may pass a file of its own FUSE file system, which can delay fstat(), fstatfs()
 * or close() as long as it likes.  Therefore a descriptor is classified first, by calls that
 * do not leave the kernel.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost_user.h"

/* /proc shows the name of the open file without a call into the file system. */
static bool is_eventfd(int fd)
{
	char path[64], target[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, target, sizeof(target) - 1);
	target[len < 0 ? 0 : len] = '\0';
	/* The target of a regular file is a path, which begins with a slash. */
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
