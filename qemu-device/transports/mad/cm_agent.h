/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections to peers that have no daemon: the host's own connection manager
 * (librdmacm) makes them in the guest's name, with the guest's QP number.
 *
 * Towards the guest the agent plays the peer's connection manager: it takes the
 * guest's messages, and answers with messages made from the host's events.
 *
 * All of it belongs to the MAD thread; mads.lock protects what
 * vrd_gsi_rq_psn() and vrd_gsi_forget_qp() look at.
 */
#ifndef VRD_IBV_CM_AGENT_H
#define VRD_IBV_CM_AGENT_H

#include "mad_setup.h"
#include "mads.h"

struct vrd_cm_host;
struct vrd_cm_agent;

/* Shell, at start: opens the host's connection manager and its devices. */
int vrd_cm_host_open(struct vrd_cm_host **host, struct vrd_error *err);
/* May be NULL. */
void vrd_cm_host_close(struct vrd_cm_host *host);

/* Takes setup->cm_host over.  NULL: no memory or descriptors. */
struct vrd_cm_agent *vrd_cm_agent_create(struct vrd_mads *mads, struct vrd_mad_setup *setup);
/* May be NULL; the thread has ended. */
void vrd_cm_agent_destroy(struct vrd_cm_agent *agent);

/* ---- the MAD thread ---- */

/* True if the message belongs to a connection that the agent has. */
bool vrd_cm_agent_knows(struct vrd_cm_agent *agent, const struct vrd_mad *mad);
/* A guest's message to a GID that no daemon serves. */
void vrd_cm_agent_send(struct vrd_cm_agent *agent, const struct vrd_mad *mad);
/* Ports, GIDs or QPs have gone or come. */
void vrd_cm_agent_sync(struct vrd_cm_agent *agent);
int vrd_cm_agent_timeout_ms(struct vrd_cm_agent *agent);
void vrd_cm_agent_expire(struct vrd_cm_agent *agent);

/* ---- other threads; mads.lock is held ---- */

bool vrd_cm_agent_rq_psn(struct vrd_cm_agent *agent, const struct vrd_gsi_port *port,
			 const uint8_t dgid[16], uint32_t dest_qpn, uint32_t *rq_psn);
/* True if there was a connection: the thread is to be woken. */
bool vrd_cm_agent_forget_qp(struct vrd_cm_agent *agent, const struct vrd_gsi_port *port,
			    uint32_t qpn);

#endif /* VRD_IBV_CM_AGENT_H */
