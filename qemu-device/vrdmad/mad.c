// SPDX-License-Identifier: GPL-2.0-or-later
/* Options and start of the MAD channel: see mad.h.  Called at start by the main thread. */
#include <errno.h>
#include <string.h>

#include "mad.h"

static void log_error(const struct vrdmad_log *log, enum vrd_log_level level, int ret,
		      const struct vrd_error *err, const char *after)
{
	vrdmad_log(log, level, "%s%s%s%s", err->msg[0] ? err->msg : strerror(-ret),
		   err->hint[0] ? ": " : "", err->hint, after);
}

static bool has_ibdev(const struct vrdmad_options *opts)
{
	for (unsigned int i = 0; i < opts->num_sockets; i++)
		if (opts->sockets[i].ibdev.name[0])
			return true;
	return false;
}

bool vrdmad_mad_check(const struct vrdmad_options *opts, const struct vrdmad_log *log)
{
	const char *option = opts->mad_port ? "--mad-port" : opts->mad_listen ? "--mad-listen" : NULL;

	if (option && !opts->mad_key) {
		vrdmad_log(log, VRD_LOG_ERROR, "%s without --mad-key: name the file with the key that all daemons share",
			   option);
		return false;
	}
	if (opts->mad_key && !has_ibdev(opts)) {
		vrdmad_log(log, VRD_LOG_ERROR, "--mad-key without ibdev=: only devices on the host's RDMA network have peers on other hosts");
		return false;
	}
	return true;
}

int vrdmad_mad_open(const struct vrdmad_options *opts, struct vrd_mad_setup **setup,
		    const struct vrdmad_log *log)
{
	struct vrd_mad_options mad = {
		.key_file = opts->mad_key,
		.port = opts->mad_port,
		.listen = opts->mad_listen,
	};
	struct vrd_error err = { "", "" };
	int ret;

	if (!has_ibdev(opts))
		return 0;
	ret = vrd_mad_setup(&mad, setup, &err);
	if (ret < 0)
		log_error(log, VRD_LOG_ERROR, ret, &err, "");
	else if (opts->mad_key)
		vrdmad_log(log, VRD_LOG_INFO, "MAD channel: listening at %s port %u",
			   opts->mad_listen ? opts->mad_listen : "all addresses",
			   opts->mad_port ? opts->mad_port : VRD_MAD_PORT_DEFAULT);
	return ret;
}

static bool has_cm_port(const struct vrdmad_options *opts)
{
	for (unsigned int i = 0; i < opts->num_sockets; i++)
		if (opts->sockets[i].ibdev.num_cm_ports)
			return true;
	return false;
}

int vrdmad_mad_open_cm(const struct vrdmad_options *opts, struct vrd_mad_setup *setup,
		       const struct vrdmad_log *log)
{
	struct vrd_error err = { "", "" };
	int ret = setup ? vrd_mad_setup_cm(setup, &err) : 0;

	if (!ret)
		return 0;
	if (has_cm_port(opts)) {
		log_error(log, VRD_LOG_ERROR, ret, &err, " (cm-port= needs it)");
		return ret;
	}
	/* Not an error: without it, rdma_cm still reaches guests of daemons. */
	log_error(log, VRD_LOG_WARN, ret, &err,
		  " (without it, rdma_cm in guests reaches only guests of daemons)");
	return 0;
}

int vrdmad_mad_start(struct vrd_engine *engine, struct vrd_mad_setup **setup,
		     const struct vrdmad_log *log)
{
	struct vrd_error err = { "", "" };
	int ret;

	if (!*setup)
		return 0;
	ret = vrd_mads_start(engine, *setup, &err);
	*setup = NULL;
	if (ret < 0)
		log_error(log, VRD_LOG_ERROR, ret, &err, "");
	return ret;
}
