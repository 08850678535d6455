// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the MAD channel has to open before the front end drops the right to open files: the
 * key file, the listening sockets, the host's connection manager.  Called by front ends at
 * start, on their own thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cm_agent.h"
#include "log.h"
#include "mad_setup.h"

#define KEY_FILE_MIN	32
#define KEY_FILE_MAX	4096
#define BACKLOG		64

/* ---- the key ------------------------------------------------------------------ */

static int check_key_file(const char *path, int fd, struct vrd_error *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return vrd_fail(err, -errno, NULL, "MAD key %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return vrd_fail(err, -EINVAL, "name a regular file",
				"MAD key %s: not a regular file", path);
	if (st.st_mode & 077)
		return vrd_fail(err, -EPERM, "chmod 600 the file, and make a new key: others may have read it",
				"MAD key %s: group or others may access it (mode %04o)", path,
				st.st_mode & 07777);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return vrd_fail(err, -EPERM, "chown the file to root, or to the user that starts this",
				"MAD key %s: belongs to user %u", path, st.st_uid);
	return 0;
}

static ssize_t read_whole(int fd, uint8_t *bytes, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, bytes + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		len += n;
	}
	return len;
}

int vrd_mad_key_load(const char *path, struct vrd_mad_key *key, struct vrd_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	uint8_t bytes[KEY_FILE_MAX + 1];
	ssize_t len;
	int ret;

	if (fd < 0)
		return vrd_fail(err, -errno, "make one on one host and copy it to the others: (umask 077; head -c 32 /dev/urandom | base64 > FILE)",
				"MAD key %s: %s", path, strerror(errno));
	ret = check_key_file(path, fd, err);
	if (ret) {
		close(fd);
		return ret;
	}
	len = read_whole(fd, bytes, sizeof(bytes));
	close(fd);
	if (len < 0)
		return vrd_fail(err, (int)len, NULL, "MAD key %s: %s", path, strerror((int)-len));
	/* Ignore the newline that editors append. */
	while (len && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
		len--;
	if (len < KEY_FILE_MIN)
		ret = vrd_fail(err, -EINVAL, "make one by (umask 077; head -c 32 /dev/urandom | base64 > FILE)",
			       "MAD key %s: %zd bytes are too few, %d is the least", path, len,
			       KEY_FILE_MIN);
	else if (len > KEY_FILE_MAX)
		ret = vrd_fail(err, -EINVAL, "name the right file",
			       "MAD key %s: longer than %d bytes", path, KEY_FILE_MAX);
	else
		vrd_mad_key_make(key, bytes, len);
	vrd_mad_wipe(bytes, sizeof(bytes));
	return ret;
}

/* ---- the socket ----------------------------------------------------------------- */

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static socklen_t parse_address(const char *text, uint16_t port, union address *addr)
{
	memset(addr, 0, sizeof(*addr));
	if (text && inet_pton(AF_INET, text, &addr->in.sin_addr) == 1) {
		addr->in.sin_family = AF_INET;
		addr->in.sin_port = htons(port);
		return sizeof(addr->in);
	}
	if (text && inet_pton(AF_INET6, text, &addr->in6.sin6_addr) != 1)
		return 0;
	addr->in6.sin6_family = AF_INET6;
	addr->in6.sin6_port = htons(port);
	return sizeof(addr->in6);
}

static int try_listen(const union address *addr, socklen_t len)
{
	const int one = 1, off = 0;
	int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Accepted sockets inherit this option. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (addr->sa.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, &addr->sa, len) || listen(fd, BACKLOG)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* @address: NULL means all addresses. */
static int open_socket(const char *address, uint16_t port, int *fd, struct vrd_error *err)
{
	union address addr;
	socklen_t len = parse_address(address, port, &addr);

	if (!len)
		return vrd_fail(err, -EINVAL, "give IPv4 or IPv6 addresses of this host",
				"MAD channel: '%s' is no address", address);
	*fd = try_listen(&addr, len);
	if (!address && (*fd == -EAFNOSUPPORT || *fd == -EADDRNOTAVAIL)) {
		/* The host has no IPv6. */
		len = parse_address("0.0.0.0", port, &addr);
		*fd = try_listen(&addr, len);
	}
	if (*fd >= 0)
		return 0;
	return vrd_fail(err, *fd, *fd == -EADDRINUSE ?
			"another daemon or QEMU listens there: give each an address or a port of its own" :
			NULL, "MAD channel: listening at %s port %u: %s",
			address ? address : "all addresses", port, strerror(-*fd));
}

static int open_sockets(const struct vrd_mad_options *opts, struct vrd_mad_setup *setup,
			struct vrd_error *err)
{
	char *list, *next, *address;
	unsigned int num = 0;
	int ret = 0;

	if (!opts->listen)
		return open_socket(NULL, setup->port, &setup->listen_fds[0], err);
	next = list = strdup(opts->listen);
	if (!list)
		return vrd_fail(err, -ENOMEM, NULL, "out of memory");
	while (!ret && (address = strsep(&next, ","))) {
		if (num == VRD_MAD_MAX_LISTEN)
			ret = vrd_fail(err, -EINVAL, "name fewer, or none for all of them",
				       "MAD channel: more than %d addresses to listen at",
				       VRD_MAD_MAX_LISTEN);
		else
			ret = open_socket(address, setup->port, &setup->listen_fds[num++], err);
	}
	free(list);
	return ret;
}

/* ---- the steps --------------------------------------------------------------------- */

int vrd_mad_setup(const struct vrd_mad_options *opts, struct vrd_mad_setup **setup_out,
		  struct vrd_error *err)
{
	struct vrd_mad_setup *setup = calloc(1, sizeof(*setup));
	int ret = 0;

	if (!setup)
		return vrd_fail(err, -ENOMEM, NULL, "out of memory");
	for (unsigned int i = 0; i < VRD_MAD_MAX_LISTEN; i++)
		setup->listen_fds[i] = -1;
	setup->port = opts->port ? opts->port : VRD_MAD_PORT_DEFAULT;
	if (opts->key_file) {
		setup->keyed = true;
		ret = vrd_mad_wire_init() ? vrd_fail(err, -EIO, NULL, "libsodium does not start") :
					    vrd_mad_key_load(opts->key_file, &setup->key, err);
		if (!ret)
			ret = open_sockets(opts, setup, err);
	}
	if (ret) {
		vrd_mad_setup_free(setup);
		return ret;
	}
	*setup_out = setup;
	return 0;
}

int vrd_mad_setup_cm(struct vrd_mad_setup *setup, struct vrd_error *err)
{
	return vrd_cm_host_open(&setup->cm_host, err);
}

void vrd_mad_setup_free(struct vrd_mad_setup *setup)
{
	if (!setup)
		return;
	for (unsigned int i = 0; i < VRD_MAD_MAX_LISTEN; i++)
		if (setup->listen_fds[i] >= 0)
			close(setup->listen_fds[i]);
	vrd_cm_host_close(setup->cm_host);
	vrd_mad_wipe(&setup->key, sizeof(setup->key));
	free(setup);
}
