// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Options and opening of the host's RDMA devices: see ibdev.h.  Called at start, when the
 * process has one thread.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "ibdev.h"
#include "options.h"

bool vrdmad_ibdev_is_key(const char *key)
{
	return !strcmp(key, "ibdev") || !strcmp(key, "port") || !strcmp(key, "gid-index") ||
	       !strcmp(key, "cm-port") || !strcmp(key, "local");
}

static const char *add_gid_index(struct vrdmad_ibdev_options *opt, const char *value)
{
	uint64_t n;

	if (opt->num_gid_indexes == VRD_MAX_ALLOWED_GIDS)
		return "at most 32 of them";
	if (!vrdmad_parse_u64(value, 0, UINT16_MAX, &n))
		return "an index into the GID table of the host's port";
	opt->gid_indexes[opt->num_gid_indexes++] = (uint16_t)n;
	return NULL;
}

static const char *add_cm_port(struct vrdmad_ibdev_options *opt, const char *value)
{
	uint64_t n;

	if (opt->num_cm_ports == VRD_MAX_CM_PORTS)
		return "at most 16 of them";
	if (!vrdmad_parse_u64(value, 1, UINT16_MAX, &n))
		return "a port of rdma_cm at which the guest may be connected to, 1 to 65535";
	opt->cm_ports[opt->num_cm_ports++] = (uint16_t)n;
	return NULL;
}

const char *vrdmad_ibdev_parse(struct vrdmad_ibdev_options *opt, const char *key,
			       const char *value)
{
	uint64_t n;

	if (!strcmp(key, "gid-index"))
		return add_gid_index(opt, value);
	if (!strcmp(key, "cm-port"))
		return add_cm_port(opt, value);
	if (!strcmp(key, "local"))
		return vrdmad_parse_bool(value, &opt->local) ? NULL : "on or off";
	if (!strcmp(key, "port")) {
		if (!vrdmad_parse_u64(value, 1, 255, &n))
			return "the number of a port, 1 to 255";
		opt->port = (unsigned int)n;
		return NULL;
	}
	if (!value[0] || strlen(value) >= sizeof(opt->name))
		return "the name of an RDMA device, as ibv_devices prints it";
	strcpy(opt->name, value);
	return NULL;
}

void vrdmad_ibdev_inherit(struct vrdmad_ibdev_options *opt,
			  const struct vrdmad_ibdev_options *all)
{
	if (opt->name[0])
		return;
	strcpy(opt->name, all->name);
	if (!opt->port)
		opt->port = all->port;
	if (!opt->num_gid_indexes) {
		opt->num_gid_indexes = all->num_gid_indexes;
		memcpy(opt->gid_indexes, all->gid_indexes, sizeof(opt->gid_indexes));
	}
}

bool vrdmad_ibdev_check(const struct vrdmad_ibdev_options *opt, const char *path,
			const struct vrdmad_log *log)
{
	if (opt->name[0] ||
	    (!opt->port && !opt->num_gid_indexes && !opt->num_cm_ports && !opt->local))
		return true;
	vrdmad_log(log, VRD_LOG_ERROR, "--socket %s: %s without ibdev=: name the host's RDMA device",
		   path, opt->port ? "port" : opt->num_gid_indexes ? "gid-index" :
		   opt->num_cm_ports ? "cm-port" : "local");
	return false;
}

void vrdmad_raise_memlock(const struct vrdmad_log *log)
{
	struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };

	if (!setrlimit(RLIMIT_MEMLOCK, &lim))
		return;
	if (getrlimit(RLIMIT_MEMLOCK, &lim) < 0)
		return;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_MEMLOCK, &lim) < 0)
		vrdmad_log(log, VRD_LOG_WARN, "raising the limit of locked memory: %s",
			   strerror(errno));
}

int vrdmad_ibdev_open(const struct vrdmad_ibdev_options *opt, const char *name,
		      struct vrd_ibdev **ibdev, const struct vrdmad_log *log)
{
	struct vrd_error err = { "", "" };
	int ret;

	*ibdev = NULL;
	if (!opt->name[0])
		return 0;
	ret = vrd_ibdev_open(opt->name, ibdev, &err);
	if (ret < 0)
		vrdmad_log(log, VRD_LOG_ERROR, "%s: %s%s%s", name, err.msg, err.hint[0] ? ": " : "",
			   err.hint);
	return ret;
}
