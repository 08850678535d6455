/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MAD channel: TCP connections to the daemons of other hosts.
 *
 * Each connection serves one pair of GIDs, and its two addresses are these GIDs: the
 * connecting side binds to the address of its guest's GID.  So the accepting side learns the
 * peer's GID from the network, not from a message.  mad_wire.h describes the protocol.
 *
 * Everything here belongs to the MAD thread.  No call blocks, and every table has a limit:
 * see the constants.
 */
#ifndef VRD_IBV_MAD_CHANNEL_H
#define VRD_IBV_MAD_CHANNEL_H

#include "mad_setup.h"
#include "mads.h"

/*
 * Limit of connections and of entries for GIDs without a daemon.  When a table is full, the
 * least recently used entry without a daemon is evicted.
 */
#define VRD_MAD_MAX_CONNS	256U
/* Accepted connections whose peer has not yet authenticated. */
#define VRD_MAD_MAX_STRANGERS	64U
#define VRD_MAD_MAX_STRANGERS_ADDR	4U
/* Connections being set up for one guest. */
#define VRD_MAD_MAX_CONNECTING	16U
/* MADs that wait for one connection to be established, and to be written to it. */
#define VRD_MAD_MAX_PENDING	32U
#define VRD_MAD_MAX_UNSENT	64U

#define VRD_MAD_CONNECT_MS	1500U
#define VRD_MAD_HANDSHAKE_MS	3000U
/* How long a GID without a daemon is remembered before the next attempt. */
#define VRD_MAD_UNSERVED_MS	5000U
#define VRD_MAD_IDLE_MS		300000U
/* A peer that acknowledges nothing for this time is considered dead. */
#define VRD_MAD_LOST_MS		5000U

struct vrd_mad_channel;

/* Takes ownership of setup->listen_fds.  NULL: no memory or no descriptors. */
struct vrd_mad_channel *vrd_mad_channel_create(struct vrd_mads *mads, struct vrd_mad_setup *setup);
/* @channel may be NULL. */
void vrd_mad_channel_destroy(struct vrd_mad_channel *ch);

/*
 * Sends the MAD, queues it, or drops and counts it.  Calls vrd_mads_unserved(), now or
 * later, if no daemon serves the destination.
 */
void vrd_mad_channel_send(struct vrd_mad_channel *ch, const struct vrd_mad *mad,
			  unsigned int ifindex);

/* Time until the next deadline, for the loop; vrd_mad_channel_expire() ends what is overdue. */
int vrd_mad_channel_timeout_ms(struct vrd_mad_channel *ch);
void vrd_mad_channel_expire(struct vrd_mad_channel *ch);

void vrd_mad_channel_stats(struct vrd_mad_channel *ch,
			   void (*fn)(void *opaque, const char *name, uint64_t value),
			   void *opaque);

#endif /* VRD_IBV_MAD_CHANNEL_H */
