/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QP 1 of devices on the host's RDMA fabric.
 *
 * A user of libibverbs cannot use the host port's QP 1, which belongs to the host's ib_cm.
 * Therefore QP 1 of such a device is implemented here: its sends are parsed off the ring
 * like those of any other QP, and each MAD goes to the device that has the destination GID:
 * directly if the device is in this process, through the MAD channel (mad_channel.c) if it
 * is on another host, or, if no device of this project has the GID, through the host's
 * connection manager (cm_agent.c).
 *
 *   gsi.c          the queue pair: sends, receives, quota
 *   mads.c         ports and GIDs of the process; routing of MADs; the thread
 *   mad_channel.c  connections to the daemons of other hosts
 *   mad_wire.c     the protocol of such a connection: handshake and records
 *   cm_*.c         connections to peers that have no daemon
 *
 * The transport calls these functions: from its device_open, gid_add, ... and, for a QP of
 * type GSI, in place of its own QP functions.
 *
 * Locks: mads.lock comes after those of objects.h and before the poller's inbox lock; no
 * call waits for the network.
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
/* QP 1 has been destroyed and the GIDs have been deleted. */
void vrd_gsi_port_close(struct vrd_gsi_port *port);

/* -EEXIST if another device of the process has the GID: a GID identifies one QP 1. */
int vrd_gsi_gid_add(struct vrd_gsi_port *port, uint32_t index, const uint8_t gid[16]);
void vrd_gsi_gid_del(struct vrd_gsi_port *port, uint32_t index);

/* "mads_sent", "mads_received", "mads_dropped", ... */
void vrd_gsi_port_stats(struct vrd_gsi_port *port,
			void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

/* ---- the queue pair: in place of the transport's functions of the same name --- */

/* Takes QP number 1; uses qp->priv[VRD_SLOT_MAD].  Needs dev->local_dma (ib_mad's lkey). */
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
 * If the host's connection manager made the connection, the peer sends with the starting PSN
 * that the host chose, not with the one in the guest's REQ or REP.  Call when the guest
 * moves a QP to RTR, with the peer that it names.  Returns true if *@rq_psn must be used.
 */
bool vrd_gsi_rq_psn(struct vrd_gsi_port *port, const uint8_t dgid[16], uint32_t dest_qpn,
		    uint32_t *rq_psn);
/* The QP was destroyed or reset: ends its host connection. */
void vrd_gsi_forget_qp(struct vrd_gsi_port *port, uint32_t qpn);

#endif /* VRD_IBV_GSI_H */
