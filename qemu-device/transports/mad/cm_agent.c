// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Connections to peers without a daemon: the guest's side.  Translates the guest's CM
 * messages into calls of the host's connection manager; cm_host.c translates the host's
 * events into messages for the guest.
 *
 * A guest may connect to any address that the host reaches, from its own GIDs and with its
 * own QPs, which gsi.c has checked.  It cannot make the host accept or listen for another
 * guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "cm_conn.h"
#include "mad_addr.h"

#define WARN_MS		10000

/* ---- connections ------------------------------------------------------------- */

struct vrd_cm_conn *vrd_cm_conn_new(struct vrd_cm_agent *agent, const uint8_t guest_gid[16],
				    const uint8_t peer_gid[16])
{
	struct vrd_gsi_port *port;
	struct vrd_cm_conn *conn;
	unsigned int same = 0;

	/* Count over all GIDs of the guest, because the guest chooses how many it has. */
	pthread_mutex_lock(&agent->mads->lock);
	port = vrd_mads_port_locked(agent->mads, guest_gid);
	LIST_FOREACH(conn, &agent->conns, link)
		same += vrd_mads_port_locked(agent->mads, conn->guest_gid) == port;
	pthread_mutex_unlock(&agent->mads->lock);
	if (!port || same >= VRD_CM_MAX_CONNS_GUEST || agent->num_conns >= VRD_CM_MAX_CONNS)
		return NULL;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->agent = agent;
	conn->our_id = ++agent->next_id;
	conn->deadline = vrd_mad_now_ms() + VRD_CM_SETUP_MS;
	memcpy(conn->guest_gid, guest_gid, 16);
	memcpy(conn->peer_gid, peer_gid, 16);
	pthread_mutex_lock(&agent->mads->lock);
	LIST_INSERT_HEAD(&agent->conns, conn, link);
	pthread_mutex_unlock(&agent->mads->lock);
	agent->num_conns++;
	return conn;
}

void vrd_cm_conn_free(struct vrd_cm_conn *conn)
{
	struct vrd_cm_agent *agent = conn->agent;

	pthread_mutex_lock(&agent->mads->lock);
	LIST_REMOVE(conn, link);
	pthread_mutex_unlock(&agent->mads->lock);
	agent->num_conns--;
	if (conn->id)
		rdma_destroy_id(conn->id);
	free(conn);
}

void vrd_cm_warn(struct vrd_cm_agent *agent, const char *what, int error)
{
	uint64_t now = vrd_mad_now_ms();

	if (now < agent->next_warning)
		return;
	agent->next_warning = now + WARN_MS;
	vrd_log(agent->mads->engine, VRD_LOG_WARN, "host's rdma_cm: %s: %s", what, strerror(error));
}

/*
 * Finds the connection that a message of the guest belongs to.  Compares both comm IDs where
 * the message has both; a REP is the first message that carries the guest's ID.
 */
static struct vrd_cm_conn *find(struct vrd_cm_agent *agent, const struct vrd_mad *mad,
				const struct vrd_cm_msg *msg)
{
	bool request = msg->type == VRD_CM_REQ || msg->type == VRD_CM_SIDR_REQ;
	struct vrd_cm_conn *conn;

	LIST_FOREACH(conn, &agent->conns, link) {
		if (memcmp(conn->guest_gid, mad->sgid, 16) || memcmp(conn->peer_gid, mad->dgid, 16))
			continue;
		if (request ? !conn->passive && conn->guest_id == msg->local_id &&
			      conn->datagram == (msg->type == VRD_CM_SIDR_REQ) :
			      conn->our_id == msg->remote_id &&
			      (!conn->guest_id || !msg->local_id || conn->guest_id == msg->local_id))
			return conn;
	}
	return NULL;
}

bool vrd_cm_agent_knows(struct vrd_cm_agent *agent, const struct vrd_mad *mad)
{
	struct vrd_cm_msg msg;

	return !LIST_EMPTY(&agent->conns) && vrd_cm_parse(&msg, mad->data) &&
	       find(agent, mad, &msg);
}

/* ---- to the guest --------------------------------------------------------------- */

static void deliver(struct vrd_cm_conn *conn)
{
	struct vrd_mad mad = { .hop_limit = 64 };

	memcpy(mad.sgid, conn->peer_gid, 16);
	memcpy(mad.dgid, conn->guest_gid, 16);
	memcpy(mad.data, conn->said, sizeof(mad.data));
	vrd_mads_deliver(conn->agent->mads, &mad, VRD_GSI_HOST_CM);
}

void vrd_cm_say(struct vrd_cm_conn *conn, struct vrd_cm_msg *msg, bool again)
{
	msg->tid = conn->tid;
	msg->local_id = conn->our_id;
	msg->remote_id = conn->guest_id;
	vrd_cm_build(msg, conn->said);
	conn->tries = again ? VRD_CM_TRIES : 0;
	conn->deadline = vrd_mad_now_ms() + (again ? VRD_CM_AGAIN_MS : VRD_CM_SETUP_MS);
	deliver(conn);
}

void vrd_cm_refuse(struct vrd_cm_conn *conn, uint16_t reason, const void *data, size_t len)
{
	struct vrd_cm_msg msg = {
		.type = VRD_CM_REJ, .rejected = conn->passive, .reason = reason,
	};

	if (conn->datagram) {
		msg.type = VRD_CM_SIDR_REP;
		msg.status = 1;			/* service ID not supported */
		msg.service_id = conn->req.service_id;
	}
	msg.data_len = len < VRD_CM_REJ_DATA ? len : VRD_CM_REJ_DATA;
	if (msg.data_len)
		memcpy(msg.data, data, msg.data_len);
	vrd_cm_say(conn, &msg, false);
	vrd_cm_conn_free(conn);
}

/* ---- from the guest ---------------------------------------------------------------- */

/* REQ and SIDR_REQ: the guest connects. */
static void on_request(struct vrd_cm_agent *agent, const struct vrd_mad *mad,
		       const struct vrd_cm_msg *msg)
{
	struct vrd_cm_conn *conn = find(agent, mad, msg);
	bool datagram = msg->type == VRD_CM_SIDR_REQ;
	uint16_t port_space, port;
	struct vrd_cm_ip ip;

	if (conn) {
		/* A repeated request: the guest missed the answer, or there is no answer yet. */
		if (conn->tries)
			deliver(conn);
		return;
	}
	/* The request names a QP that is not the guest's own.  No correct kernel sends that. */
	if (!mad->own_qpn)
		return;
	conn = vrd_cm_conn_new(agent, mad->sgid, mad->dgid);
	if (!conn)
		return;
	conn->req = *msg;
	conn->tid = msg->tid;
	conn->guest_id = msg->local_id;
	conn->datagram = datagram;
	conn->qpn = msg->qpn;		/* no lock needed: lookups skip it until it has a PSN */
	if (!vrd_cm_service(msg->service_id, &port_space, &port) ||
	    (port_space == VRD_CM_PS_UDP) != datagram ||
	    !vrd_cm_ip_parse(&ip, msg->data)) {
		vrd_cm_refuse(conn, VRD_CM_REJ_INVALID_SERVICE_ID, NULL, 0);
		return;
	}
	if (msg->transport) {
		/* The port space for connections of librdmacm implies reliable connections. */
		vrd_cm_refuse(conn, VRD_CM_REJ_UNSUPPORTED, NULL, 0);
		return;
	}
	if (!vrd_cm_host_begin(conn, port_space, port, vrd_mads_ifindex(agent->mads, mad->sgid)))
		vrd_cm_conn_free(conn);
}

static void on_rtu(struct vrd_cm_conn *conn)
{
	if (conn->state != VRD_CM_REP_GIVEN)
		return;
	conn->state = VRD_CM_ESTABLISHED;
	conn->tries = 0;
	conn->deadline = UINT64_MAX;
	if (rdma_establish(conn->id))
		vrd_cm_warn(conn->agent, "rdma_establish", errno);
}

/* Passive side: the guest accepts. */
static void on_rep(struct vrd_cm_conn *conn, const struct vrd_mad *mad,
		   const struct vrd_cm_msg *msg)
{
	struct rdma_conn_param param = {
		.private_data = msg->data,
		.private_data_len = msg->data_len,
		.responder_resources = msg->responder_resources,
		.initiator_depth = msg->initiator_depth,
		.rnr_retry_count = msg->rnr_retry,
		.srq = msg->srq,
		.qp_num = msg->qpn,
	};

	if (conn->state == VRD_CM_ESTABLISHED) {
		deliver(conn);		/* a repeated REP: the guest missed the RTU */
		return;
	}
	if (conn->state != VRD_CM_REQ_GIVEN || !mad->own_qpn)
		return;
	conn->guest_id = msg->local_id;
	pthread_mutex_lock(&conn->agent->mads->lock);
	conn->qpn = msg->qpn;
	pthread_mutex_unlock(&conn->agent->mads->lock);
	conn->state = VRD_CM_ACCEPTED;
	conn->tries = 0;
	conn->deadline = vrd_mad_now_ms() + VRD_CM_SETUP_MS;
	if (rdma_accept(conn->id, &param)) {
		vrd_cm_warn(conn->agent, "rdma_accept", errno);
		vrd_cm_refuse(conn, VRD_CM_REJ_NO_RESOURCES, NULL, 0);
	}
}

/* MRA: the guest has the message and answers when its program does. */
static void on_mra(struct vrd_cm_conn *conn)
{
	if (!conn->tries)
		return;
	conn->tries = 0;
	conn->deadline = vrd_mad_now_ms() + VRD_CM_SETUP_MS;
}

static void on_rej(struct vrd_cm_conn *conn, const struct vrd_cm_msg *msg)
{
	if (conn->state == VRD_CM_REP_GIVEN || conn->state == VRD_CM_REQ_GIVEN) {
		if (rdma_reject(conn->id, msg->data, msg->data_len))
			vrd_cm_warn(conn->agent, "rdma_reject", errno);
	}
	vrd_cm_conn_free(conn);
}

static void on_dreq(struct vrd_cm_conn *conn, const struct vrd_cm_msg *msg)
{
	struct vrd_cm_msg drep = { .type = VRD_CM_DREP };

	if (conn->state < VRD_CM_REP_GIVEN)
		return;
	conn->tid = msg->tid;
	vrd_cm_say(conn, &drep, false);
	if (conn->state == VRD_CM_DREQ_SENT)
		return;
	if (conn->state == VRD_CM_DREQ_GIVEN || rdma_disconnect(conn->id)) {
		/* Both sides disconnect at once, or the connection is already closed. */
		vrd_cm_conn_free(conn);
		return;
	}
	conn->state = VRD_CM_DREQ_SENT;
}

static void on_drep(struct vrd_cm_conn *conn)
{
	if (conn->state != VRD_CM_DREQ_GIVEN)
		return;
	/* Makes the host send its DREP. */
	rdma_disconnect(conn->id);
	vrd_cm_conn_free(conn);
}

void vrd_cm_agent_send(struct vrd_cm_agent *agent, const struct vrd_mad *mad)
{
	struct vrd_cm_conn *conn;
	struct vrd_cm_msg msg;

	if (!vrd_cm_parse(&msg, mad->data) || !vrd_mad_gid_is_remote(mad->dgid))
		return;
	if (msg.type == VRD_CM_REQ || msg.type == VRD_CM_SIDR_REQ) {
		on_request(agent, mad, &msg);
		return;
	}
	conn = find(agent, mad, &msg);
	if (!conn)
		return;
	switch (msg.type) {
	case VRD_CM_RTU:
		on_rtu(conn);
		break;
	case VRD_CM_REP:
		on_rep(conn, mad, &msg);
		break;
	case VRD_CM_REJ:
		on_rej(conn, &msg);
		break;
	case VRD_CM_DREQ:
		on_dreq(conn, &msg);
		break;
	case VRD_CM_DREP:
		on_drep(conn);
		break;
	case VRD_CM_MRA:
		on_mra(conn);
		break;
	}
}

/* ---- what the owner allows to listen ----------------------------------------------------- */

static void listen_at(struct vrd_cm_agent *agent, const uint8_t gid[16], uint16_t port,
		      unsigned int ifindex)
{
	struct vrd_cm_listener *listener;
	int ret;

	LIST_FOREACH(listener, &agent->listeners, link) {
		if (listener->port == port && !memcmp(listener->gid, gid, 16)) {
			listener->wanted = true;
			return;
		}
	}
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return;
	listener->is_listener = true;
	listener->agent = agent;
	listener->port = port;
	listener->wanted = true;
	memcpy(listener->gid, gid, 16);
	ret = vrd_cm_host_listen(listener, ifindex);
	if (ret) {
		free(listener);
		/*
		 * The host's port usually does not have the link-local address of the guest's
		 * MAC.
		 */
		if (vrd_mad_gid_is_link_local(gid))
			return;
		agent->listen_again = vrd_mad_now_ms() + VRD_CM_LISTEN_AGAIN_MS;
		vrd_cm_warn(agent, "listening for a guest (cm-port): does the host have its address?",
			    -ret);
		return;
	}
	LIST_INSERT_HEAD(&agent->listeners, listener, link);
}

static void unlisten(struct vrd_cm_listener *listener)
{
	LIST_REMOVE(listener, link);
	rdma_destroy_id(listener->id);
	free(listener);
}

static void sync_listeners(struct vrd_cm_agent *agent)
{
	struct vrd_cm_listener *listener, *next;
	struct vrd_mads_listen *wanted;
	unsigned int num = vrd_mads_listeners(agent->mads, &wanted);

	agent->listen_again = 0;
	LIST_FOREACH(listener, &agent->listeners, link)
		listener->wanted = false;
	for (unsigned int i = 0; i < num; i++)
		listen_at(agent, wanted[i].gid, wanted[i].port, wanted[i].ifindex);
	free(wanted);
	for (listener = LIST_FIRST(&agent->listeners); listener; listener = next) {
		next = LIST_NEXT(listener, link);
		if (!listener->wanted)
			unlisten(listener);
	}
}

/* ---- time --------------------------------------------------------------------------- */

int vrd_cm_agent_timeout_ms(struct vrd_cm_agent *agent)
{
	uint64_t now = vrd_mad_now_ms();
	uint64_t first = agent->listen_again ? agent->listen_again : UINT64_MAX;
	struct vrd_cm_conn *conn;

	LIST_FOREACH(conn, &agent->conns, link)
		if (conn->deadline < first)
			first = conn->deadline;
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)(first - now);
}

void vrd_cm_agent_expire(struct vrd_cm_agent *agent)
{
	uint64_t now = vrd_mad_now_ms();
	struct vrd_cm_conn *conn, *next;

	if (agent->listen_again && now >= agent->listen_again)
		sync_listeners(agent);
	for (conn = LIST_FIRST(&agent->conns); conn; conn = next) {
		next = LIST_NEXT(conn, link);
		if (now < conn->deadline)
			continue;
		if (!conn->tries || !--conn->tries) {
			vrd_cm_conn_free(conn);
			continue;
		}
		conn->deadline = now + VRD_CM_AGAIN_MS;
		deliver(conn);
	}
}

/* ---- other threads -------------------------------------------------------------------- */

bool vrd_cm_agent_rq_psn(struct vrd_cm_agent *agent, const struct vrd_gsi_port *port,
			 const uint8_t dgid[16], uint32_t dest_qpn, uint32_t *rq_psn)
{
	struct vrd_cm_conn *conn;

	LIST_FOREACH(conn, &agent->conns, link) {
		if (!conn->has_psn || conn->peer_qpn != dest_qpn || memcmp(conn->peer_gid, dgid, 16) ||
		    vrd_mads_port_locked(agent->mads, conn->guest_gid) != port)
			continue;
		*rq_psn = conn->rq_psn;
		return true;
	}
	return false;
}

bool vrd_cm_agent_forget_qp(struct vrd_cm_agent *agent, const struct vrd_gsi_port *port,
			    uint32_t qpn)
{
	struct vrd_cm_conn *conn;
	bool found = false;

	LIST_FOREACH(conn, &agent->conns, link) {
		if (!conn->has_psn || conn->qpn != qpn ||
		    vrd_mads_port_locked(agent->mads, conn->guest_gid) != port)
			continue;
		conn->forgotten = true;
		found = true;
	}
	return found;
}

/* ---- changes ------------------------------------------------------------------------------ */

void vrd_cm_agent_sync(struct vrd_cm_agent *agent)
{
	struct vrd_cm_conn *conn, *next;

	for (conn = LIST_FIRST(&agent->conns); conn; conn = next) {
		bool forgotten;

		next = LIST_NEXT(conn, link);
		pthread_mutex_lock(&agent->mads->lock);
		forgotten = conn->forgotten;
		pthread_mutex_unlock(&agent->mads->lock);
		if (forgotten || !vrd_mads_has_gid(agent->mads, conn->guest_gid))
			vrd_cm_conn_free(conn);
	}
	sync_listeners(agent);
}

/* ---- life cycle ----------------------------------------------------------------------------- */

struct vrd_cm_agent *vrd_cm_agent_create(struct vrd_mads *mads, struct vrd_mad_setup *setup)
{
	struct vrd_cm_agent *agent = calloc(1, sizeof(*agent));

	if (!agent)
		return NULL;
	agent->mads = mads;
	agent->next_id = (uint32_t)vrd_mad_now_ms() << 8;	/* skip messages of an earlier
								 * connection */
	LIST_INIT(&agent->conns);
	LIST_INIT(&agent->listeners);
	agent->src.fd = setup->cm_host->channel->fd;
	agent->src.ready = vrd_cm_host_ready;
	if (vrd_mad_loop_watch(&mads->loop, &agent->src, EPOLLIN)) {
		free(agent);
		return NULL;
	}
	agent->host = setup->cm_host;
	setup->cm_host = NULL;
	return agent;
}

void vrd_cm_agent_destroy(struct vrd_cm_agent *agent)
{
	if (!agent)
		return;
	while (!LIST_EMPTY(&agent->conns))
		vrd_cm_conn_free(LIST_FIRST(&agent->conns));
	while (!LIST_EMPTY(&agent->listeners))
		unlisten(LIST_FIRST(&agent->listeners));
	vrd_mad_loop_unwatch(&agent->mads->loop, &agent->src);
	vrd_cm_host_close(agent->host);
	free(agent);
}
