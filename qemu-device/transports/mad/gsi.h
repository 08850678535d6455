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
 *   mad.c          the transport's operations
 *   gsi.c          the queue pair: sends, receives, quota
 *   mads.c         ports and GIDs of the process; routing of MADs; the thread
 *   mad_channel.c  connections to the daemons of other hosts
 *   mad_wire.c     the protocol of such a connection: handshake and records
 *   cm_*.c         connections to peers that have no daemon
 *
 * It is a transport (vrd_mad_transport, mad.c) that carries QP 1 and nothing else, the
 * companion of the ibverbs transport.  That transport calls the functions below.
 *
 * Locks: mads.lock comes after those of objects.h and before the poller's inbox lock; no
 * call waits for the network.
 */
#ifndef VRD_GSI_H
#define VRD_GSI_H

#include "transport.h"

struct vrd_gsi_port;

static inline struct vrd_gsi_port *vrd_gsi_port(const struct vrd_device *dev)
{
	return dev->priv[VRD_SLOT_MAD];
}

/*
 * Interface index of the host port's netdev, the scope of its link-local GIDs.  Until it is
 * set, MADs to link-local GIDs stay on this host.  Before the device runs.
 */
void vrd_gsi_set_ifindex(struct vrd_gsi_port *port, unsigned int ifindex);

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

#endif /* VRD_GSI_H */
