// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * In a build without libibverbs: what vrd.h and vrd_mad.h offer for devices on the host's
 * RDMA network.  The functions refuse, with a message.  Any thread.
 */
#include "transports.h"

#if !VRD_HAVE_IBVERBS

#include <errno.h>

#include "log.h"
#include "vrd_mad.h"

static int refuse(struct vrd_error *err)
{
	return vrd_fail(err, -EOPNOTSUPP, "build it with libibverbs and librdmacm",
			"this build has no transport for the host's RDMA devices");
}

int vrd_ibdev_open(const char *name, struct vrd_ibdev **ibdev, struct vrd_error *err)
{
	(void)name;
	(void)ibdev;
	return refuse(err);
}

void vrd_ibdev_close(struct vrd_ibdev *ibdev)
{
	(void)ibdev;
}

int vrd_mad_setup(const struct vrd_mad_options *opts, struct vrd_mad_setup **setup,
		  struct vrd_error *err)
{
	(void)opts;
	(void)setup;
	return refuse(err);
}

void vrd_mad_setup_free(struct vrd_mad_setup *setup)
{
	(void)setup;
}

int vrd_mad_setup_cm(struct vrd_mad_setup *setup, struct vrd_error *err)
{
	(void)setup;
	return refuse(err);
}

int vrd_mads_start(struct vrd_engine *engine, struct vrd_mad_setup *setup, struct vrd_error *err)
{
	(void)engine;
	(void)setup;
	return refuse(err);
}

void vrd_mads_stats(struct vrd_engine *engine,
		    void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque)
{
	(void)engine;
	(void)fn;
	(void)opaque;
}

#endif
