// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Notification of the service manager, and drop of privileges: see service.h.  The system
 * call filter is in sandbox.c.
 */
#include <cap-ng.h>
#include <errno.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "service.h"

void vrdmad_notify_open(struct vrdmad_notify *n)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len;

	n->fd = -1;
	/* The value is a path, or '@' and an abstract name. */
	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(sun.sun_path))
		return;
	memcpy(sun.sun_path, path, strlen(path));
	if (path[0] == '@')
		sun.sun_path[0] = '\0';
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (n->fd >= 0 && connect(n->fd, (struct sockaddr *)&sun, len) < 0)
		vrdmad_notify_close(n);
}

void vrdmad_notify_send(const struct vrdmad_notify *n, const char *state)
{
	if (n->fd >= 0)
		(void)send(n->fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void vrdmad_notify_close(struct vrdmad_notify *n)
{
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}

void vrdmad_raise_file_limit(const struct vrdmad_log *log)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur == lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
		vrdmad_log(log, VRD_LOG_WARN, "raising the limit of open files: %s",
			   strerror(errno));
}

static int become(const char *user, const struct vrdmad_log *log)
{
	const struct passwd *pw;
	char *end;
	long uid, gid;
	int ret;

	errno = 0;
	pw = getpwnam(user);
	if (!pw) {
		uid = strtol(user, &end, 10);
		pw = *user && !*end ? getpwuid((uid_t)uid) : NULL;
	}
	if (!pw) {
		vrdmad_log(log, VRD_LOG_ERROR, "--user %s: there is no such user: add it, or name another",
			   user);
		return -ENOENT;
	}
	uid = (long)pw->pw_uid;
	gid = (long)pw->pw_gid;
	if (geteuid() == pw->pw_uid)
		return 0;
	capng_clear(CAPNG_SELECT_BOTH);
	/* Changes the groups before the user; no capability is kept. */
	ret = capng_change_id((int)uid, (int)gid, CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
	if (ret < 0) {
		vrdmad_log(log, VRD_LOG_ERROR, "--user %s: changing to it failed (%d): start as root, or without --user",
			   user, ret);
		return -EPERM;
	}
	return 0;
}

int vrdmad_drop_privileges(const char *user, const struct vrdmad_log *log)
{
	int ret = 0;

	if (user)
		ret = become(user, log);
	if (ret < 0)
		return ret;
	/*
	 * The daemon needs no capability: its sockets exist, guest memory arrives as
	 * descriptors, and any process may set the CPU affinity of its threads.
	 */
	capng_clear(CAPNG_SELECT_CAPS);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0) {
		vrdmad_log(log, VRD_LOG_ERROR, "giving up capabilities failed");
		return -EPERM;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		ret = -errno;
		vrdmad_log(log, VRD_LOG_ERROR, "PR_SET_NO_NEW_PRIVS: %s", strerror(-ret));
	}
	return ret;
}
