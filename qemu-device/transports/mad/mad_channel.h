/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MAD channel: TCP connections to the daemons of other hosts.
 *
 * A connection is for one pair of GIDs.  Its two addresses are those GIDs: who
 * connects binds to the address of its guest's GID, so that whoever accepts
 * knows from the network, not from what it is told, for which GID the peer
 * speaks.  mad_wire.h has what is said over it.
 *
 * All of it belongs to the MAD thread.  Nothing blocks, and nothing grows
 * without a limit: see the constants.
 */
#ifndef VRD_IBV_MAD_CHANNEL_H
#define VRD_IBV_MAD_CHANNEL_H

#include "mad_setup.h"
#include "mads.h"

/* Connections, and entries for GIDs that no daemon serves; the oldest makes room, of the
 * latter first.
 */
#define VRD_MAD_MAX_CONNS	256U
/* Accepted ones whose peer has not proved yet that it has the key. */
#define VRD_MAD_MAX_STRANGERS	64U
#define VRD_MAD_MAX_STRANGERS_ADDR	4U
/* Being made for one guest. */
#define VRD_MAD_MAX_CONNECTING	16U
/* MADs that wait for one connection to be made, and to be written to it. */
#define VRD_MAD_MAX_PENDING	32U
#define VRD_MAD_MAX_UNSENT	64U

#define VRD_MAD_CONNECT_MS	1500U
#define VRD_MAD_HANDSHAKE_MS	3000U
/* For so long a GID without a daemon is not asked again. */
#define VRD_MAD_UNSERVED_MS	5000U
#define VRD_MAD_IDLE_MS		300000U
/* A peer that acknowledges nothing for so long has gone. */
#define VRD_MAD_LOST_MS		5000U

struct vrd_mad_channel;

/* Takes setup->listen_fds over.  NULL: no memory or descriptors. */
struct vrd_mad_channel *vrd_mad_channel_create(struct vrd_mads *mads, struct vrd_mad_setup *setup);
/* May be NULL. */
void vrd_mad_channel_destroy(struct vrd_mad_channel *ch);

/*
 * Sends, queues, or drops and counts; calls vrd_mads_unserved() now or later if
 * no daemon serves the destination.
 */
void vrd_mad_channel_send(struct vrd_mad_channel *ch, const struct vrd_mad *mad,
			  unsigned int ifindex);

/* Until when the loop may wait; then (or earlier) what is overdue ends. */
int vrd_mad_channel_timeout_ms(struct vrd_mad_channel *ch);
void vrd_mad_channel_expire(struct vrd_mad_channel *ch);

void vrd_mad_channel_stats(struct vrd_mad_channel *ch,
			   void (*fn)(void *opaque, const char *name, uint64_t value),
			   void *opaque);

#endif /* VRD_IBV_MAD_CHANNEL_H */
