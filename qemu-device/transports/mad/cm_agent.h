/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections to peers without a daemon: the host's own connection manager (librdmacm) makes
 * them on behalf of the guest, with the guest's QP number.
 *
 * Towards the guest the agent acts as the peer's connection manager: it receives the guest's
 * messages and answers with messages built from the host's events.
 *
 * All functions belong to the MAD thread; mads.lock protects what vrd_gsi_rq_psn() and
 * vrd_gsi_forget_qp() read.
 */
#ifndef VRD_IBV_CM_AGENT_H
#define VRD_IBV_CM_AGENT_H

#include "mad_setup.h"
#include "mads.h"

struct vrd_cm_host;
struct vrd_cm_agent;

/* Front end, at start: opens the host's connection manager and its devices. */
int vrd_cm_host_open(struct vrd_cm_host **host, struct vrd_error *err);
/* @host may be NULL. */
void vrd_cm_host_close(struct vrd_cm_host *host);

/* Takes ownership of setup->cm_host.  NULL: no memory or no descriptors. */
struct vrd_cm_agent *vrd_cm_agent_create(struct vrd_mads *mads, struct vrd_mad_setup *setup);
/* @agent may be NULL; the MAD thread has ended. */
void vrd_cm_agent_destroy(struct vrd_cm_agent *agent);

/* ---- the MAD thread ---- */

/* True if the message belongs to a connection of the agent. */
bool vrd_cm_agent_knows(struct vrd_cm_agent *agent, const struct vrd_mad *mad);
/* Handles a guest's message to a GID that no daemon serves. */
void vrd_cm_agent_send(struct vrd_cm_agent *agent, const struct vrd_mad *mad);
/* Ports, GIDs or QPs were added or removed. */
void vrd_cm_agent_sync(struct vrd_cm_agent *agent);
int vrd_cm_agent_timeout_ms(struct vrd_cm_agent *agent);
void vrd_cm_agent_expire(struct vrd_cm_agent *agent);

/* ---- other threads; mads.lock is held ---- */

bool vrd_cm_agent_rq_psn(struct vrd_cm_agent *agent, const struct vrd_gsi_port *port,
			 const uint8_t dgid[16], uint32_t dest_qpn, uint32_t *rq_psn);
/* True if there was a connection: the caller wakes the MAD thread. */
bool vrd_cm_agent_forget_qp(struct vrd_cm_agent *agent, const struct vrd_gsi_port *port,
			    uint32_t qpn);

#endif /* VRD_IBV_CM_AGENT_H */
