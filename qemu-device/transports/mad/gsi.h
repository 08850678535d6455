/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QP 1 of devices on the host's RDMA fabric.
 *
 * A user of libibverbs cannot have the host port's QP 1, and the host's own
 * ib_cm sits on it.  So QP 1 of such a device is made here: its sends are
 * parsed off the ring like any other QP's, and each MAD goes to the device that
 * has the destination GID: of this process directly, of another host through
 * the MAD channel (mad_channel.c), or, if that GID's owner is no device of this
 * project, through the host's connection manager (cm_agent.c).
 *
 *   gsi.c          the queue pair: sends, receives, quota
 *   mads.c         ports and GIDs of the process; which way a MAD goes; thread
 *   mad_channel.c  connections to the daemons of other hosts
 *   mad_wire.c     what goes over such a connection: handshake and records
 *   cm_*.c         connections to peers that have no daemon
 *
 * The transport calls what is below: from its device_open, gid_add, ... and, for
 * a QP whose type is GSI, in place of its own functions for QPs.
 *
 * Locks: mads.lock comes after those of objects.h and before the poller's
 * inbox; no call below waits for the network.
 */
#ifndef VRD_IBV_GSI_H
#define VRD_IBV_GSI_H

#include "transport.h"

struct vrd_gsi_port;

/* ---- ports: dev->lock ---------------------------------------------------- */

struct vrd_gsi_port_config {
	/*
	 * Interface index of the host port's netdev, the scope of its
	 * link-local GIDs; 0: MADs to link-local GIDs stay on this host.
	 */
	unsigned int ifindex;
	/* MADs to GIDs that no daemon serves go through the host's rdma_cm. */
	bool host_cm;
	/*
	 * TCP ports of rdma_cm at which the host listens for the guest, so that
	 * peers without a daemon can connect to it.
	 */
	unsigned int num_cm_ports;
	uint16_t cm_ports[VRD_MAX_CM_PORTS];
};

int vrd_gsi_port_open(struct vrd_device *dev, const struct vrd_gsi_port_config *cfg,
		      struct vrd_gsi_port **port, struct vrd_error *err);
/* QP 1 is gone, and so are the GIDs. */
void vrd_gsi_port_close(struct vrd_gsi_port *port);

/* -EEXIST if another device of the process has it: a GID leads to one QP 1. */
int vrd_gsi_gid_add(struct vrd_gsi_port *port, uint32_t index, const uint8_t gid[16]);
void vrd_gsi_gid_del(struct vrd_gsi_port *port, uint32_t index);

/* "mads_sent", "mads_received", "mads_dropped", ... */
void vrd_gsi_port_stats(struct vrd_gsi_port *port,
			void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

/* ---- the queue pair: in place of the transport's functions of the same name --- */

/* Takes QP number 1; uses qp->transport.  Needs dev->local_dma (ib_mad's lkey). */
int vrd_gsi_qp_create(struct vrd_gsi_port *port, struct vrd_qp *qp);
int vrd_gsi_qp_modify(struct vrd_qp *qp, uint8_t new_state,
		      const struct virtio_rdma_qp_attr *attr, uint32_t mask);
void vrd_gsi_qp_query(struct vrd_qp *qp, struct virtio_rdma_qp_attr *attr);
void vrd_gsi_qp_destroy(struct vrd_qp *qp);
void vrd_gsi_qp_free(struct vrd_qp *qp);
enum vrd_run vrd_gsi_sq_run(struct vrd_qp *qp, unsigned int budget);
void vrd_gsi_rq_run(struct vrd_qp *qp);

/* ---- for connected QPs ----------------------------------------------------- */

/*
 * A connection that the host's connection manager made has the starting PSN
 * that the host chose for us, not the one in the guest's REQ or REP.  To be
 * asked when the guest moves a QP to RTR, with the peer that it names there;
 * true: *@rq_psn is the one to use.
 */
bool vrd_gsi_rq_psn(struct vrd_gsi_port *port, const uint8_t dgid[16], uint32_t dest_qpn,
		    uint32_t *rq_psn);
/* The QP was destroyed or reset: its host connection ends. */
void vrd_gsi_forget_qp(struct vrd_gsi_port *port, uint32_t qpn);

#endif /* VRD_IBV_GSI_H */
