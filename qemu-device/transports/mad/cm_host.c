// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Connections to peers without a daemon: the host's side.  Events of librdmacm change the
 * state of a connection and become messages to the guest.
 *
 * The rdma_cm_id has no QP: the guest's QP is created and modified by the guest, through the
 * transport.  Therefore this file does three things that librdmacm normally does: it passes
 * the peer's QP number and PSN to the guest; it remembers the starting PSN that the host
 * chose in place of the guest's (cma.c generates one and sends it in the REQ or REP, so the
 * peer uses it); and it reports that the connection is established.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cm_conn.h"
#include "log.h"
#include "mad_addr.h"

/* Events that one wake-up handles before other sources are served. */
#define EVENT_BUDGET	32

int vrd_cm_host_open(struct vrd_cm_host **host_out, struct vrd_error *err)
{
	struct vrd_cm_host *host = calloc(1, sizeof(*host));
	int ret, num;

	if (!host)
		return vrd_fail(err, -ENOMEM, NULL, "out of memory");
	host->channel = rdma_create_event_channel();
	if (!host->channel) {
		ret = -errno;
		free(host);
		return vrd_fail(err, ret, "modprobe rdma_ucm on the host, and let this user open /dev/infiniband/rdma_cm",
				"the host's rdma_cm: %s", strerror(-ret));
	}
	/* Opened at start, because the sandbox forbids opening files later. */
	host->devices = rdma_get_devices(&num);
	fcntl(host->channel->fd, F_SETFL, fcntl(host->channel->fd, F_GETFL) | O_NONBLOCK);
	*host_out = host;
	return 0;
}

void vrd_cm_host_close(struct vrd_cm_host *host)
{
	if (!host)
		return;
	if (host->devices)
		rdma_free_devices(host->devices);
	rdma_destroy_event_channel(host->channel);
	free(host);
}

/* ---- calls ---------------------------------------------------------------------- */

bool vrd_cm_host_begin(struct vrd_cm_conn *conn, uint16_t port_space, uint16_t port,
		       unsigned int ifindex)
{
	enum rdma_port_space ps = port_space == VRD_CM_PS_UDP ? RDMA_PS_UDP : RDMA_PS_TCP;
	union vrd_mad_addr from, to;

	if (rdma_create_id(conn->agent->host->channel, &conn->id, conn, ps)) {
		vrd_cm_warn(conn->agent, "rdma_create_id", errno);
		conn->id = NULL;
		return false;
	}
	vrd_mad_addr_of(&from, conn->guest_gid, 0, ifindex);
	vrd_mad_addr_of(&to, conn->peer_gid, port, ifindex);
	if (!rdma_resolve_addr(conn->id, &from.sa, &to.sa, VRD_CM_RESOLVE_MS))
		return true;
	vrd_cm_warn(conn->agent, "rdma_resolve_addr: does the host have the guest's address?", errno);
	return false;
}

int vrd_cm_host_listen(struct vrd_cm_listener *listener, unsigned int ifindex)
{
	union vrd_mad_addr addr;
	int ret;

	if (rdma_create_id(listener->agent->host->channel, &listener->id, listener, RDMA_PS_TCP))
		return -errno;
	vrd_mad_addr_of(&addr, listener->gid, listener->port, ifindex);
	if (!rdma_bind_addr(listener->id, &addr.sa) && !rdma_listen(listener->id, 64))
		return 0;
	ret = -errno;
	rdma_destroy_id(listener->id);
	return ret;
}

static bool connect_now(struct vrd_cm_conn *conn)
{
	const struct vrd_cm_msg *req = &conn->req;
	struct rdma_conn_param param = {
		/* The host adds a private data header of its own. */
		.private_data = req->data + VRD_CM_IP_LEN,
		.private_data_len = req->data_len - VRD_CM_IP_LEN,
		.responder_resources = req->responder_resources,
		.initiator_depth = req->initiator_depth,
		.retry_count = req->retry_count,
		.rnr_retry_count = req->rnr_retry,
		.srq = req->srq,
		.qp_num = req->qpn,
	};

	if (conn->datagram)
		param = (struct rdma_conn_param){
			.private_data = req->data + VRD_CM_IP_LEN,
			.private_data_len = req->data_len - VRD_CM_IP_LEN,
		};
	if (!rdma_connect(conn->id, &param)) {
		conn->state = VRD_CM_REQ_SENT;
		return true;
	}
	vrd_cm_warn(conn->agent, "rdma_connect", errno);
	return false;
}

/*
 * Takes the parameters that the host negotiated.  @psn is the PSN that the guest starts to
 * send with.  The PSN that it starts to receive with is kept for vrd_gsi_rq_psn().
 */
static bool learn(struct vrd_cm_conn *conn, uint32_t peer_qpn, uint32_t *psn, uint8_t *mtu,
		  uint8_t *timeout)
{
	struct ibv_qp_attr rtr = { .qp_state = IBV_QPS_RTR }, rts = { .qp_state = IBV_QPS_RTS };
	int mask;

	if (rdma_init_qp_attr(conn->id, &rtr, &mask) || rdma_init_qp_attr(conn->id, &rts, &mask)) {
		vrd_cm_warn(conn->agent, "rdma_init_qp_attr", errno);
		return false;
	}
	*psn = rts.sq_psn;
	*mtu = rtr.path_mtu;
	*timeout = rts.timeout;
	pthread_mutex_lock(&conn->agent->mads->lock);
	conn->peer_qpn = peer_qpn;
	conn->rq_psn = rtr.rq_psn;
	conn->has_psn = true;
	pthread_mutex_unlock(&conn->agent->mads->lock);
	return true;
}

/* ---- events ------------------------------------------------------------------------ */

static void copy_data(struct vrd_cm_msg *msg, const void *data, size_t len, size_t max)
{
	msg->data_len = len < max ? len : max;
	if (msg->data_len)
		memcpy(msg->data, data, msg->data_len);
}

/* The peer's CA GUID is not in the event: use a number that is unique for each peer. */
static uint64_t peer_guid(const struct vrd_cm_conn *conn)
{
	uint64_t guid;

	memcpy(&guid, conn->peer_gid + 8, 8);
	return be64toh(guid);
}

/* Active side: the peer accepted.  Returns false if the connection has ended. */
static bool on_response(struct vrd_cm_conn *conn, const struct rdma_conn_param *param)
{
	struct vrd_cm_msg rep = {
		.type = VRD_CM_REP,
		.qpn = param->qp_num,
		/* The event has these values from our side's view, the message from the peer's. */
		.responder_resources = param->initiator_depth,
		.initiator_depth = param->responder_resources,
		.rnr_retry = param->rnr_retry_count,
		.srq = param->srq,
	};
	uint8_t mtu;

	if (conn->state != VRD_CM_REQ_SENT)
		return true;
	if (!learn(conn, param->qp_num, &rep.psn, &mtu, &rep.ack_timeout))
		return false;
	rep.ack_timeout = 0;
	rep.ca_guid = peer_guid(conn);
	copy_data(&rep, param->private_data, param->private_data_len, VRD_CM_REP_DATA);
	conn->state = VRD_CM_REP_GIVEN;
	vrd_cm_say(conn, &rep, true);
	return true;
}

/* Passive side: the RTU arrived.  Datagrams: the SIDR_REP. */
static bool on_established(struct vrd_cm_conn *conn, const struct rdma_cm_event *event)
{
	if (conn->datagram) {
		struct vrd_cm_msg rep = {
			.type = VRD_CM_SIDR_REP,
			.service_id = conn->req.service_id,
			.qpn = event->param.ud.qp_num,
			.qkey = event->param.ud.qkey,
		};

		copy_data(&rep, event->param.ud.private_data, event->param.ud.private_data_len, 136);
		vrd_cm_say(conn, &rep, false);
		return false;			/* a SIDR exchange ends here */
	}
	if (conn->state == VRD_CM_ACCEPTED) {
		struct vrd_cm_msg rtu = { .type = VRD_CM_RTU };

		conn->state = VRD_CM_ESTABLISHED;
		vrd_cm_say(conn, &rtu, false);
		conn->deadline = UINT64_MAX;
	}
	return true;
}

static bool on_disconnected(struct vrd_cm_conn *conn)
{
	struct vrd_cm_msg dreq = { .type = VRD_CM_DREQ, .qpn = conn->qpn };

	if (conn->state == VRD_CM_DREQ_SENT)
		return false;			/* the peer's DREP arrived */
	if (conn->state == VRD_CM_DREQ_GIVEN)
		return true;
	conn->tid++;
	conn->state = VRD_CM_DREQ_GIVEN;
	vrd_cm_say(conn, &dreq, true);
	return true;
}

/* Returns false if the connection has ended and the guest needs no further message. */
static bool step(struct vrd_cm_conn *conn, const struct rdma_cm_event *event)
{
	switch (event->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		if (!rdma_resolve_route(conn->id, VRD_CM_RESOLVE_MS))
			return true;
		vrd_cm_warn(conn->agent, "rdma_resolve_route", errno);
		return false;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		return connect_now(conn);
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
		return on_response(conn, &event->param.conn);
	case RDMA_CM_EVENT_ESTABLISHED:
		return on_established(conn, event);
	case RDMA_CM_EVENT_DISCONNECTED:
		return on_disconnected(conn);
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
	case RDMA_CM_EVENT_ADDR_CHANGE:
		return true;
	default:
		/*
		 * The peer does not answer (ADDR_ERROR, ROUTE_ERROR, UNREACHABLE) or the host's
		 * device was removed.  Send nothing: the guest's own CM time-out expires, as it
		 * does on a network.
		 */
		return false;
	}
}

/* ---- passive: somebody connects to a guest --------------------------------------------- */

static void fill_req(struct vrd_cm_conn *conn, const struct rdma_conn_param *param,
		     const struct vrd_cm_listener *listener, uint16_t src_port)
{
	struct vrd_cm_msg *req = &conn->req;
	struct vrd_cm_ip ip = { .src_port = src_port };

	req->type = VRD_CM_REQ;
	req->service_id = vrd_cm_service_id(VRD_CM_PS_TCP, listener->port);
	req->ca_guid = peer_guid(conn);
	req->qpn = param->qp_num;
	/* The event has these values from our side's view, the message from the peer's. */
	req->responder_resources = param->initiator_depth;
	req->initiator_depth = param->responder_resources;
	req->rnr_retry = param->rnr_retry_count;
	req->retry_count = param->retry_count;
	req->srq = param->srq;
	req->local_timeout = 20;		/* 4 s */
	req->remote_timeout = 20;
	req->max_retries = 15;
	req->pkey = 0xffff;
	req->hop_limit = 64;
	req->packet_rate = 2;			/* 2.5 Gb/s; the guest does not use it */
	memcpy(req->sgid, conn->peer_gid, 16);
	memcpy(req->dgid, conn->guest_gid, 16);
	memcpy(ip.src, conn->peer_gid, 16);
	memcpy(ip.dst, conn->guest_gid, 16);
	vrd_cm_ip_build(&ip, req->data);
	req->data_len = VRD_CM_REQ_DATA;
	if (param->private_data_len)
		memcpy(req->data + VRD_CM_IP_LEN, param->private_data,
		       param->private_data_len < VRD_CM_REQ_DATA - VRD_CM_IP_LEN ?
		       param->private_data_len : VRD_CM_REQ_DATA - VRD_CM_IP_LEN);
}

/*
 * Returns false if @id has to be destroyed.  The data of @param are valid until the event is
 * acknowledged.
 */
static bool on_request(struct vrd_cm_listener *listener, struct rdma_cm_id *id,
		       const struct rdma_conn_param *param)
{
	const union vrd_mad_addr *peer = (const void *)rdma_get_peer_addr(id);
	struct vrd_cm_conn *conn;
	uint8_t peer_gid[16];

	if (!vrd_mad_gid_of(peer_gid, peer))
		return false;
	conn = vrd_cm_conn_new(listener->agent, listener->gid, peer_gid);
	if (!conn)
		return false;
	conn->passive = true;
	conn->tid = (uint64_t)conn->our_id << 32 | 1;
	conn->id = id;
	fill_req(conn, param, listener, ntohs(peer->in.sin_port));
	if (!learn(conn, param->qp_num, &conn->req.psn, &conn->req.path_mtu,
		   &conn->req.ack_timeout)) {
		conn->id = NULL;
		vrd_cm_conn_free(conn);
		return false;
	}
	id->context = conn;
	conn->state = VRD_CM_REQ_GIVEN;
	vrd_cm_say(conn, &conn->req, true);
	return true;
}

/* ---- the event channel -------------------------------------------------------------------- */

/* Event of a connection or of a datagram service.  A rejection is distinguished from no answer. */
static bool is_refusal(const struct vrd_cm_conn *conn, const struct rdma_cm_event *event)
{
	return event->event == RDMA_CM_EVENT_REJECTED ||
	       (event->event == RDMA_CM_EVENT_UNREACHABLE && conn->datagram && event->status > 0);
}

/* Handles one event.  Returns false if there was none. */
static bool take_event(struct vrd_cm_agent *agent)
{
	struct rdma_cm_id *orphan = NULL;
	struct rdma_cm_event *event;
	struct vrd_cm_conn *over = NULL;
	bool refused = false;
	uint8_t data[256];
	size_t len = 0;
	uint16_t reason = 0;

	if (rdma_get_cm_event(agent->host->channel, &event))
		return false;
	if (event->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
		if (!on_request(event->listen_id->context, event->id, &event->param.conn))
			orphan = event->id;
	} else if (*(const bool *)event->id->context) {
		/* Event of a listener: the host's device is being removed. */
	} else if (is_refusal(event->id->context, event)) {
		refused = true;
		over = event->id->context;
		reason = event->status;
		len = event->event == RDMA_CM_EVENT_REJECTED ?
		      event->param.conn.private_data_len : 0;
		if (len)
			memcpy(data, event->param.conn.private_data, len);
	} else if (!step(event->id->context, event)) {
		over = event->id->context;
	}
	/* Acknowledge the event before its id is destroyed. */
	rdma_ack_cm_event(event);
	if (refused)
		vrd_cm_refuse(over, reason, data, len);
	else if (over)
		vrd_cm_conn_free(over);
	if (orphan)
		rdma_destroy_id(orphan);
	return true;
}

void vrd_cm_host_ready(struct vrd_mad_source *src, uint32_t events)
{
	struct vrd_cm_agent *agent = (struct vrd_cm_agent *)
		((char *)src - offsetof(struct vrd_cm_agent, src));

	(void)events;
	for (unsigned int n = 0; n < EVENT_BUDGET; n++)
		if (!take_event(agent))
			return;
}
