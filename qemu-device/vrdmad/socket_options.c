// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The --socket option: address, limits and names of one virtual machine's device.  Called at
 * start by options.c.
 */
#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <linux/virtio_rdma.h>

#include "options.h"

/* Limits for the guest that are plain numbers. */
static const struct limit_key {
	const char *key;
	size_t offset;
	bool wide;			/* 64 bits, and a unit (K, M, G, T) may follow */
	uint64_t max;
} limit_keys[] = {
#define LIMIT(key, field, max) { key, offsetof(struct vrd_limits, field), false, max }
#define LIMIT64(key, field)    { key, offsetof(struct vrd_limits, field), true, UINT64_MAX }
	LIMIT("max-ctx", max_ctx, 1U << 20),
	LIMIT("max-pd", max_pd, 1U << 24),
	LIMIT("max-mr", max_mr, 1U << 24),
	LIMIT("max-cq", max_cq, 1U << 24),
	LIMIT("max-cqe", max_cqe, 1U << 24),
	LIMIT("max-qp", max_qp, (1U << 24) - 2),
	LIMIT("max-qp-wr", max_qp_wr, 1U << 20),
	LIMIT("max-sge", max_sge, 255),
	LIMIT("max-inline", max_inline, 4096),
	LIMIT("max-srq", max_srq, 1U << 24),
	LIMIT64("max-mr-size", max_mr_size),
	LIMIT64("max-mr-bytes", max_mr_bytes),
	LIMIT64("max-ring-bytes", max_ring_bytes),
};

static bool bad_value(const struct vrdmad_log *log, const char *key, const char *value,
		      const char *want)
{
	vrdmad_log(log, VRD_LOG_ERROR, "--socket: %s=%s: give %s", key, value, want);
	return false;
}

static bool set_limit(struct vrdmad_socket_options *sock, const struct limit_key *lk,
		      const char *value, const struct vrdmad_log *log)
{
	char *field = (char *)&sock->limits + lk->offset;
	char want[64];
	uint64_t n;

	if (lk->wide) {
		if (!vrdmad_parse_size(value, 1, lk->max, &n))
			return bad_value(log, lk->key, value, "a size in bytes, as in 64G");
		memcpy(field, &n, sizeof(n));
		return true;
	}
	if (!vrdmad_parse_u64(value, 1, lk->max, &n)) {
		snprintf(want, sizeof(want), "a number from 1 to %llu",
			 (unsigned long long)lk->max);
		return bad_value(log, lk->key, value, want);
	}
	*(uint32_t *)(void *)field = (uint32_t)n;
	return true;
}

static bool set_key(struct vrdmad_socket_options *sock, const char *key, const char *value,
		    const struct vrdmad_log *log)
{
	uint64_t n;

	if (!strcmp(key, "mac")) {
		if (!vrdmad_parse_mac(value, sock->mac))
			return bad_value(log, key, value,
					 "a unicast Ethernet address, as in 52:54:00:12:34:56");
		sock->mac_given = true;
		return true;
	}
	if (!strcmp(key, "name"))
		return vrdmad_parse_name(value, sock->name) ||
			bad_value(log, key, value, "up to 63 letters, digits, '-' or '_'");
	if (!strcmp(key, "fabric"))
		return vrdmad_parse_name(value, sock->fabric) ||
			bad_value(log, key, value, "up to 63 letters, digits, '-' or '_'");
	if (!strcmp(key, "vectors")) {
		if (!vrdmad_parse_u64(value, 1, VIRTIO_RDMA_MAX_COMP_VECTORS, &n))
			return bad_value(log, key, value,
					 "the number of completion vectors, 1 to 253");
		sock->vectors = (unsigned int)n;
		return true;
	}
	if (!strcmp(key, "unsealed"))
		return vrdmad_parse_bool(value, &sock->unsealed) ||
			bad_value(log, key, value, "on or off");
	if (!strcmp(key, "allow-gid") && !strcmp(value, "none")) {
		sock->own_gids_only = true;
		return true;
	}
	if (!strcmp(key, "allow-gid")) {
		if (sock->num_gids == VRD_MAX_ALLOWED_GIDS)
			return bad_value(log, key, value, "at most 32 of them for one socket");
		if (!vrdmad_parse_gid(value, sock->gids[sock->num_gids]))
			return bad_value(log, key, value, "an IPv4 or IPv6 address, or none");
		sock->num_gids++;
		return true;
	}
	if (vrdmad_ibdev_is_key(key)) {
		const char *want = vrdmad_ibdev_parse(&sock->ibdev, key, value);

		return !want || bad_value(log, key, value, want);
	}
	for (size_t i = 0; i < sizeof(limit_keys) / sizeof(limit_keys[0]); i++)
		if (!strcmp(key, limit_keys[i].key))
			return set_limit(sock, &limit_keys[i], value, log);
	vrdmad_log(log, VRD_LOG_ERROR,
		   "--socket: unknown key '%s': known are mac, name, fabric, vectors, allow-gid, unsealed, ibdev, port, gid-index, cm-port, local and the max-* limits of vrdmad(8)",
		   key);
	return false;
}

/* Copies the next item of @arg to @item; ",," is a comma.  Returns the rest, or NULL. */
static const char *next_item(const char *arg, char *item, size_t size)
{
	size_t len = 0;

	for (; *arg; arg++) {
		if (*arg == ',') {
			if (arg[1] != ',')
				return arg + 1;
			arg++;
		}
		if (len + 1 < size)
			item[len++] = *arg;
		item[len] = '\0';
	}
	return NULL;
}

/*
 * The absolute path, with symbolic links of its directory resolved: messages and QEMU
 * options show it, and derive_mac() computes the MAC from it.
 */
static char *absolute_path(const char *path, const struct vrdmad_log *log)
{
	char dir[PATH_MAX], base[PATH_MAX], real[PATH_MAX];
	struct sockaddr_un sun;
	char *name, *abs = NULL;

	if (snprintf(dir, sizeof(dir), "%s", path) >= (int)sizeof(dir) ||
	    snprintf(base, sizeof(base), "%s", path) >= (int)sizeof(base)) {
		vrdmad_log(log, VRD_LOG_ERROR, "--socket: the path is too long");
		return NULL;
	}
	name = basename(base);
	if (!path[0] || path[strlen(path) - 1] == '/' || !strcmp(name, ".") || !strcmp(name, "..")) {
		vrdmad_log(log, VRD_LOG_ERROR, "--socket: '%s' is no file name: give PATH first, as in --socket /run/vrdmad/vm0.sock,mac=...",
			   path);
		return NULL;
	}
	if (!realpath(dirname(dir), real)) {
		vrdmad_log(log, VRD_LOG_ERROR, "--socket %s: its directory: %s: make the directory first",
			   path, strerror(errno));
		return NULL;
	}
	if (asprintf(&abs, "%s/%s", strcmp(real, "/") ? real : "", name) < 0)
		return NULL;
	if (strlen(abs) >= sizeof(sun.sun_path)) {
		vrdmad_log(log, VRD_LOG_ERROR, "--socket %s: longer than the %zu bytes that a socket's path may have: use a shorter one",
			   abs, sizeof(sun.sun_path) - 1);
		free(abs);
		return NULL;
	}
	return abs;
}

/* "/run/vrdmad/vm0.sock" -> "vm0" */
static void default_name(struct vrdmad_socket_options *sock)
{
	const char *base = strrchr(sock->path, '/') + 1;
	size_t len = strlen(base);

	if (len > 5 && !strcmp(base + len - 5, ".sock"))
		len -= 5;
	if (len > VRDMAD_NAME_MAX)
		len = VRDMAD_NAME_MAX;
	for (size_t i = 0; i < len; i++)
		sock->name[i] = isalnum((unsigned char)base[i]) || base[i] == '-' ? base[i] : '_';
	sock->name[len] = '\0';
}

bool vrdmad_socket_options_parse(struct vrdmad_socket_options *sock, const char *arg,
				 const struct vrdmad_log *log)
{
	char item[PATH_MAX] = "";
	const char *rest;

	memset(sock, 0, sizeof(*sock));
	sock->vectors = VRDMAD_DEFAULT_VECTORS;
	strcpy(sock->fabric, "default");

	rest = next_item(arg, item, sizeof(item));
	sock->path = absolute_path(item, log);
	if (!sock->path)
		return false;
	while (rest) {
		char *value;

		item[0] = '\0';
		rest = next_item(rest, item, sizeof(item));
		value = strchr(item, '=');
		if (!value) {
			vrdmad_log(log, VRD_LOG_ERROR, "--socket %s: '%s' lacks its '=value'",
				   sock->path, item);
			return false;
		}
		*value++ = '\0';
		if (!set_key(sock, item, value, log))
			return false;
	}
	if (!sock->name[0])
		default_name(sock);
	return true;
}

/*
 * Computes a locally administered address from the path.  The address is the same at every
 * start, so that the options of the virtual machine stay valid.
 */
static void derive_mac(struct vrdmad_socket_options *sock, unsigned int salt)
{
	uint64_t h = 0xcbf29ce484222325ULL + salt;	/* FNV-1a */

	for (const char *p = sock->path; *p; p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3ULL;
	h ^= h >> 40;
	sock->mac[0] = 0x02;
	for (int i = 1; i < 6; i++)
		sock->mac[i] = (uint8_t)(h >> (8 * (5 - i)));
}

static const struct vrdmad_socket_options *same_mac(const struct vrdmad_options *opts,
						    unsigned int which)
{
	for (unsigned int i = 0; i < opts->num_sockets; i++) {
		const struct vrdmad_socket_options *other = &opts->sockets[i];
		bool has_mac = other->mac_given || i < which;

		if (i != which && has_mac && !memcmp(other->mac, opts->sockets[which].mac, 6) &&
		    !strcmp(other->fabric, opts->sockets[which].fabric))
			return other;
	}
	return NULL;
}

bool vrdmad_socket_options_finish(struct vrdmad_options *opts, const struct vrdmad_log *log)
{
	for (unsigned int i = 0; i < opts->num_sockets; i++) {
		struct vrdmad_socket_options *sock = &opts->sockets[i];

		vrdmad_ibdev_inherit(&sock->ibdev, &opts->ibdev);
		if (!vrdmad_ibdev_check(&sock->ibdev, sock->path, log))
			return false;
		for (unsigned int j = 0; j < i; j++) {
			if (!strcmp(sock->path, opts->sockets[j].path)) {
				vrdmad_log(log, VRD_LOG_ERROR, "--socket %s was given twice: one socket serves one virtual machine",
					   sock->path);
				return false;
			}
			if (!strcmp(sock->name, opts->sockets[j].name)) {
				vrdmad_log(log, VRD_LOG_ERROR, "--socket %s and %s are both named '%s': give one a name=",
					   opts->sockets[j].path, sock->path, sock->name);
				return false;
			}
		}
		if (sock->mac_given) {
			if (same_mac(opts, i)) {
				vrdmad_log(log, VRD_LOG_ERROR, "--socket %s and %s have the same mac= in one fabric: give each its own",
					   same_mac(opts, i)->path, sock->path);
				return false;
			}
			continue;
		}
		for (unsigned int salt = 0; !salt || same_mac(opts, i); salt++)
			derive_mac(sock, salt);
	}
	return true;
}
