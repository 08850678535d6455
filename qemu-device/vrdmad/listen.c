// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Listening UNIX sockets: see listen.h.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "listen.h"

static int fail(const struct vrdmad_log *log, const char *path, const char *what, int err)
{
	vrdmad_log(log, VRD_LOG_ERROR, "socket %s: %s: %s", path, what, strerror(err));
	return -err;
}

/* Removes the socket of a process that has ended.  0 if the path is free now. */
static int remove_stale(const struct sockaddr_un *sun, const struct vrdmad_log *log)
{
	const char *path = sun->sun_path;
	struct stat st;
	int fd, ret, err;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : fail(log, path, "looking at it", errno);
	if (!S_ISSOCK(st.st_mode)) {
		vrdmad_log(log, VRD_LOG_ERROR, "socket %s: a file that is not a socket exists there: remove it or use another path",
			   path);
		return -EEXIST;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(log, path, "socket", errno);
	ret = connect(fd, (const struct sockaddr *)sun, sizeof(*sun));
	err = errno;
	close(fd);
	/* EAGAIN: a process listens there, and its queue of connections is full. */
	if (!ret || err == EAGAIN) {
		vrdmad_log(log, VRD_LOG_ERROR, "socket %s: another process is listening there: stop it or use another path",
			   path);
		return -EADDRINUSE;
	}
	if (err != ECONNREFUSED)
		return fail(log, path, "it exists, but connecting to it failed", err);
	vrdmad_log(log, VRD_LOG_INFO, "socket %s: replacing the socket of a process that has ended", path);
	return unlink(path) < 0 ? fail(log, path, "removing it", errno) : 0;
}

static int set_access(const char *path, const struct vrdmad_listen_access *access,
		      const struct vrdmad_log *log)
{
	if (access->group != (gid_t)-1 && chown(path, (uid_t)-1, access->group) < 0)
		return fail(log, path, "changing its group", errno);
	if (access->mode != -1 && chmod(path, (mode_t)access->mode) < 0)
		return fail(log, path, "changing its mode", errno);
	return 0;
}

int vrdmad_listen(struct vrdmad_listener *l, const char *path,
		  const struct vrdmad_listen_access *access, const struct vrdmad_log *log)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, ret;

	l->fd = -1;
	l->path = path;
	if (strlen(path) >= sizeof(sun.sun_path))
		return fail(log, path, "the path is too long", ENAMETOOLONG);
	strcpy(sun.sun_path, path);
	ret = remove_stale(&sun, log);
	if (ret < 0)
		return ret;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(log, path, "socket", errno);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
		ret = fail(log, path, "making it", errno);
		close(fd);
		return ret;
	}
	/*
	 * From here on, an error has to remove the file.  Clients may wait for the file to
	 * appear, so listen at once.
	 */
	if (listen(fd, 16) < 0) {
		ret = fail(log, path, "listen", errno);
		goto remove;
	}
	if (lstat(path, &st) < 0) {
		ret = fail(log, path, "looking at it", errno);
		goto remove;
	}
	ret = set_access(path, access, log);
	if (ret < 0)
		goto remove;
	l->fd = fd;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return 0;

remove:
	close(fd);
	unlink(path);
	return ret;
}

void vrdmad_unlisten(struct vrdmad_listener *l)
{
	struct stat st;

	if (l->fd < 0)
		return;
	/* Another process may have replaced the file by its own socket. */
	if (!lstat(l->path, &st) && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	close(l->fd);
	l->fd = -1;
}
