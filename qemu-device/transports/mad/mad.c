// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The transport mad: QP 1 of devices on the host's RDMA fabric.  See gsi.h.
 *
 * These functions pass the core's calls on to the port (mads.c) and the queue pair (gsi.c).
 * Control or front end thread, dev->lock.
 */
#include <string.h>

#include "mads.h"

static int vrd_mad_device_open(struct vrd_device *dev, const struct vrd_device_config *cfg,
			       struct vrd_error *err)
{
	struct vrd_gsi_port_config port = {
		.host_cm = cfg->ibdev || cfg->ibdev_opened,
		.num_cm_ports = cfg->num_cm_ports,
	};
	struct vrd_gsi_port *opened;
	int ret;

	memcpy(port.cm_ports, cfg->cm_ports, sizeof(port.cm_ports));
	ret = vrd_gsi_port_open(dev, &port, &opened, err);
	if (!ret)
		dev->priv[VRD_SLOT_MAD] = opened;
	return ret;
}

static void vrd_mad_device_close(struct vrd_device *dev)
{
	vrd_gsi_port_close(vrd_gsi_port(dev));
	dev->priv[VRD_SLOT_MAD] = NULL;
}

static void vrd_mad_device_stats(struct vrd_device *dev,
				 void (*fn)(void *opaque, const char *name, uint64_t value),
				 void *opaque)
{
	vrd_gsi_port_stats(vrd_gsi_port(dev), fn, opaque);
}

static int vrd_mad_gid_add(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	return vrd_gsi_gid_add(vrd_gsi_port(dev), index, gid);
}

static void vrd_mad_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	(void)gid;
	vrd_gsi_gid_del(vrd_gsi_port(dev), index);
}

const struct vrd_transport_ops vrd_mad_transport = {
	.name		= "mad",
	.slot		= VRD_SLOT_MAD,
	.qp_types	= VRD_QPT_BIT(GSI),
	.path		= &vrd_gsi_path,
	.device_open	= vrd_mad_device_open,
	.device_close	= vrd_mad_device_close,
	.device_stats	= vrd_mad_device_stats,
	.gid_add	= vrd_mad_gid_add,
	.gid_del	= vrd_mad_gid_del,
	.qp_create	= vrd_gsi_qp_create,
	.qp_destroy	= vrd_gsi_qp_destroy,
	.qp_free	= vrd_gsi_qp_free,
};
