// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzer of the transport of QP 1's MADs: messages of the communication manager, the
 * protocol between two daemons, and the agent that makes connections through the host's
 * rdma_cm.
 *
 * This file is the agent's host: librdmacm's functions are replaced by functions that answer
 * as the input says, so host and guest are both hostile.  Checks: a parsed message is
 * rebuilt identically; a session delivers only what its peer sent next; when a guest leaves,
 * the host keeps nothing of it, and every event was acknowledged before its id is destroyed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fuzz.h"
#include "mad/cm_conn.h"
#include "mad/mad_wire.h"

/* ---- messages ------------------------------------------------------------------- */

static uint16_t pick_type(struct fuzz_in *in)
{
	return VRD_CM_REQ + fuzz_u8(in) % 9;
}

static void fuzz_message(struct fuzz_in *in)
{
	struct vrd_cm_msg msg = { .type = pick_type(in), .data_len = fuzz_u8(in) }, again;
	uint8_t mad[VRD_CM_MAD_LEN], rebuilt[VRD_CM_MAD_LEN];
	struct vrd_cm_ip ip;
	uint32_t qpn;

	vrd_cm_build(&msg, mad);
	fuzz_bytes(in, mad + 18, fuzz_u8(in) % (sizeof(mad) - 18));
	fuzz_mutate(in, mad, sizeof(mad));
	vrd_cm_names_qpn(mad, &qpn);
	vrd_cm_ip_parse(&ip, mad + 164);
	if (!vrd_cm_parse(&msg, mad))
		return;
	vrd_cm_build(&msg, rebuilt);
	if (!vrd_cm_parse(&again, rebuilt) || memcmp(&again, &msg, sizeof(msg)))
		fuzz_fail("message %#x is another one when it is built again", msg.type);
}

/* ---- sessions -------------------------------------------------------------------- */

static struct vrd_mad_key key;

/* One direction: what was sent, and how much of it was received unchanged. */
struct pipe {
	uint8_t bytes[4096];
	size_t said, taken;
	bool harmed;
	unsigned int sent, got;
};

struct side {
	struct vrd_mad_session s;
	struct pipe *out, *in;
	bool over;
};

static void say(struct side *side, const uint8_t *bytes, size_t len)
{
	if (side->out->said + len > sizeof(side->out->bytes))
		return;
	memcpy(side->out->bytes + side->out->said, bytes, len);
	side->out->said += len;
}

/* The next message of the peer, possibly modified. */
static void take(struct fuzz_in *in, struct side *side)
{
	uint8_t bytes[VRD_MAD_WIRE_MAX], out[VRD_MAD_WIRE_MAX], how = fuzz_u8(in);
	size_t need = vrd_mad_session_need(&side->s), len, at = side->in->taken;
	enum vrd_mad_result result;
	struct vrd_mad mad;

	if (side->over || side->in->said - at < need)
		return;
	memcpy(bytes, side->in->bytes + at, need);
	side->in->taken += need;
	if (how >= 0xe0) {
		fuzz_change(in, bytes, need, 1 + (how & 3));
	} else if (how >= 0xd0 && at >= need) {
		memcpy(bytes, side->in->bytes + at - need, need);	/* the previous message
									 * again */
	} else if (how >= 0xc0 && side->in->said - at >= 2 * need) {
		memcpy(bytes, side->in->bytes + at + need, need);	/* the message after it */
	}
	side->in->harmed |= memcmp(bytes, side->in->bytes + at, need) != 0;
	result = vrd_mad_session_input(&side->s, bytes, out, &len, &mad);
	/* (A wrong stream header is detected with the record that follows it.) */
	if ((result == VRD_MAD_OPENED || result == VRD_MAD_RECORD) && side->in->harmed)
		fuzz_fail("a harmed message was accepted");
	if (result >= VRD_MAD_BAD_HELLO && !side->in->harmed && !side->out->harmed)
		fuzz_fail("a good message was refused");
	side->over = result >= VRD_MAD_BAD_HELLO;
	if (result == VRD_MAD_RECORD && mad.data[0] != side->in->got++ % 256)
		fuzz_fail("a MAD out of order");
	say(side, out, len);
}

static void send_mad(struct fuzz_in *in, struct side *side)
{
	uint8_t out[VRD_MAD_RECORD_LEN];
	struct vrd_mad mad;

	if (side->over || side->s.phase != VRD_MAD_OPEN ||
	    side->out->said + sizeof(out) > sizeof(side->out->bytes))
		return;
	memset(&mad, fuzz_u8(in), sizeof(mad));
	mad.data[0] = side->out->sent++;
	vrd_mad_session_record(&side->s, &mad, out);
	say(side, out, sizeof(out));
}

static void fuzz_session(struct fuzz_in *in)
{
	static const uint8_t gids[2][16] = { { 1 }, { 2 } };
	struct pipe pipes[2] = { { .said = 0 }, { .said = 0 } };
	struct side sides[2] = {
		{ .out = &pipes[0], .in = &pipes[1] }, { .out = &pipes[1], .in = &pipes[0] },
	};
	uint8_t out[VRD_MAD_WIRE_MAX];
	size_t len;

	for (unsigned int i = 0; i < 2; i++) {
		len = vrd_mad_session_start(&sides[i].s, &key, i, true, gids[i], gids[!i], out);
		say(&sides[i], out, len);
	}
	for (unsigned int n = 0; n < 64 && !fuzz_done(in); n++) {
		uint8_t op = fuzz_u8(in);

		if (op & 2)
			send_mad(in, &sides[op & 1]);
		else
			take(in, &sides[op & 1]);
	}
}

/* ---- the host's rdma_cm, as far as the agent calls it -------------------------------- */

#define MAX_IDS	64

static struct rdma_cm_id *ids[MAX_IDS];
static unsigned int num_ids;
static struct rdma_event_channel channel = { .fd = -1 };
static struct rdma_cm_event *event;		/* pending, or taken and not acknowledged */
static bool event_ready, event_taken;
static struct fuzz_in *host_in;			/* decides the return values of calls */

static int host_answer(void)
{
	if (!host_in || fuzz_u8(host_in) < 0xf0)
		return 0;
	errno = EINVAL;
	return -1;
}

static struct rdma_cm_id *new_id(void *context, enum rdma_port_space ps)
{
	struct rdma_cm_id *id = num_ids < MAX_IDS ? calloc(1, sizeof(*id)) : NULL;

	if (!id)
		return NULL;
	id->context = context;
	id->ps = ps;
	id->channel = &channel;
	return ids[num_ids++] = id;
}

int rdma_create_id(struct rdma_event_channel *ch, struct rdma_cm_id **id, void *context,
		   enum rdma_port_space ps)
{
	(void)ch;
	*id = host_answer() ? NULL : new_id(context, ps);
	if (*id)
		return 0;
	errno = ENOMEM;
	return -1;
}

int rdma_destroy_id(struct rdma_cm_id *id)
{
	unsigned int i;

	if (event && event_taken && (event->id == id || event->listen_id == id))
		fuzz_fail("an id is destroyed with an event that is not acknowledged");
	for (i = 0; i < num_ids && ids[i] != id; i++)
		;
	if (i == num_ids)
		fuzz_fail("an id is destroyed that is none");
	ids[i] = ids[--num_ids];
	free(id);
	return 0;
}

#define ANSWERED(name, ...)						\
	int name(__VA_ARGS__);						\
	int name(__VA_ARGS__) { return host_answer(); }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
ANSWERED(rdma_bind_addr, struct rdma_cm_id *id, struct sockaddr *addr)
ANSWERED(rdma_listen, struct rdma_cm_id *id, int backlog)
ANSWERED(rdma_resolve_addr, struct rdma_cm_id *id, struct sockaddr *src, struct sockaddr *dst, int ms)
ANSWERED(rdma_resolve_route, struct rdma_cm_id *id, int ms)
ANSWERED(rdma_connect, struct rdma_cm_id *id, struct rdma_conn_param *param)
ANSWERED(rdma_establish, struct rdma_cm_id *id)
ANSWERED(rdma_accept, struct rdma_cm_id *id, struct rdma_conn_param *param)
ANSWERED(rdma_reject, struct rdma_cm_id *id, const void *data, uint8_t len)
ANSWERED(rdma_disconnect, struct rdma_cm_id *id)
#pragma GCC diagnostic pop

int rdma_init_qp_attr(struct rdma_cm_id *id, struct ibv_qp_attr *attr, int *mask)
{
	(void)id;
	*mask = 0;
	attr->rq_psn = 0x123456;
	attr->sq_psn = 0x654321;
	return host_answer();
}

int rdma_get_cm_event(struct rdma_event_channel *ch, struct rdma_cm_event **out)
{
	(void)ch;
	if (!event_ready) {
		errno = EAGAIN;
		return -1;
	}
	event_ready = false;
	event_taken = true;
	*out = event;
	return 0;
}

int rdma_ack_cm_event(struct rdma_cm_event *acked)
{
	if (acked != event || !event_taken)
		fuzz_fail("an event is acknowledged that is none");
	event_taken = false;
	return 0;
}

void rdma_destroy_event_channel(struct rdma_event_channel *ch)
{
	(void)ch;
}

/* ---- the agent ------------------------------------------------------------------------ */

static struct vrd_mads *mads;
static struct vrd_gsi_port *port;
static struct vrd_cm_agent *agent;
static struct vrd_gsi_port_config port_cfg = {
	.host_cm = true, .num_cm_ports = 1, .cm_ports = { 7471 },
};
static const uint8_t guest_gid[2][16] = {
	{ [10] = 0xff, 0xff, 10, 0, 0, 1 }, { 0xfd, [15] = 1 },
};
static const uint8_t peer_gid[2][16] = {
	{ [10] = 0xff, 0xff, 10, 0, 0, 9 }, { 0xfd, [15] = 9 },
};

/* A message that one of the connections may expect. */
static void guest_says(struct fuzz_in *in)
{
	struct vrd_mad mad = { .own_qpn = true };
	uint8_t how = fuzz_u8(in), which = fuzz_u8(in);
	struct vrd_cm_conn *conn;
	struct vrd_cm_msg msg = {
		.type = pick_type(in), .local_id = 1 + (how & 3), .qpn = 17, .psn = 5, .tid = how,
		.data_len = VRD_CM_REQ_DATA,
	};

	memcpy(mad.sgid, guest_gid[how >> 2 & 1], 16);
	memcpy(mad.dgid, peer_gid[how >> 2 & 1], 16);
	msg.service_id = vrd_cm_service_id(msg.type == VRD_CM_SIDR_REQ ? VRD_CM_PS_UDP :
					   VRD_CM_PS_TCP, 7471);
	msg.data[1] = how & 4 ? 0x60 : 0x40;
	LIST_FOREACH(conn, &agent->conns, link) {
		if (which--)
			continue;
		memcpy(mad.sgid, conn->guest_gid, 16);
		memcpy(mad.dgid, conn->peer_gid, 16);
		msg.remote_id = conn->our_id;
		if (msg.type != VRD_CM_REQ && msg.type != VRD_CM_SIDR_REQ && conn->guest_id)
			msg.local_id = conn->guest_id;
		break;
	}
	vrd_cm_build(&msg, mad.data);
	fuzz_mutate(in, mad.data, sizeof(mad.data));
	mad.own_qpn = fuzz_u8(in) < 0xf0;
	vrd_cm_agent_knows(agent, &mad);
	vrd_cm_agent_send(agent, &mad);
}

static void host_says(struct fuzz_in *in)
{
	static uint8_t data[256];
	static struct rdma_cm_event ev;
	struct rdma_cm_id *id;
	uint8_t how = fuzz_u8(in);

	if (!num_ids)
		return;
	id = ids[fuzz_u8(in) % num_ids];
	memset(&ev, 0, sizeof(ev));
	ev.event = how % (RDMA_CM_EVENT_TIMEWAIT_EXIT + 1);
	ev.id = id;
	ev.status = (int8_t)fuzz_u8(in);
	if (*(const bool *)id->context) {
		/* An event of a listener: a request, or removal of its device. */
		ev.event = how & 1 ? RDMA_CM_EVENT_CONNECT_REQUEST : RDMA_CM_EVENT_DEVICE_REMOVAL;
		if (how & 1) {
			ev.listen_id = id;
			ev.id = new_id(id->context, RDMA_PS_TCP);
			if (!ev.id)
				return;
			ev.id->route.addr.dst_sin.sin_family = how & 2 ? AF_INET6 : how & 4 ? 0 : AF_INET;
			fuzz_bytes(in, &ev.id->route.addr.dst_sin.sin_addr, how & 8);
		}
	} else if (ev.event == RDMA_CM_EVENT_CONNECT_REQUEST || ev.event == RDMA_CM_EVENT_MULTICAST_JOIN ||
		   ev.event == RDMA_CM_EVENT_MULTICAST_ERROR) {
		return;			/* none for a connection */
	}
	fuzz_bytes(in, data, 8);
	ev.param.conn.private_data = data;
	ev.param.conn.private_data_len = fuzz_u8(in);
	ev.param.conn.qp_num = 0x42;
	ev.param.conn.responder_resources = how;
	event = &ev;
	event_ready = true;
	vrd_cm_host_ready(&agent->src, 0);
	if (event_ready || event_taken)
		fuzz_fail("an event was left");
	event = NULL;
}

static void time_passes(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct vrd_cm_conn *conn;

	LIST_FOREACH(conn, &agent->conns, link)
		if (!which--)
			conn->deadline = 0;
	vrd_cm_agent_timeout_ms(agent);
	vrd_cm_agent_expire(agent);
}

static void fuzz_agent(struct fuzz_in *in)
{
	uint32_t psn;

	for (unsigned int i = 0; i < 2; i++)
		if (vrd_gsi_gid_add(port, i, guest_gid[i]))
			fuzz_fail("no GID");
	host_in = in;
	vrd_cm_agent_sync(agent);
	for (unsigned int n = 0; n < FUZZ_MAX_OPS && !fuzz_done(in); n++) {
		uint8_t op = fuzz_u8(in);

		switch (op < 0xe0 ? op & 1 : op % 5) {
		case 0:
			guest_says(in);
			break;
		case 1:
			host_says(in);
			break;
		case 2:
			time_passes(in);
			break;
		case 3:
			vrd_gsi_rq_psn(port, peer_gid[0], 0x42, &psn);
			vrd_gsi_forget_qp(port, 17);
			vrd_cm_agent_sync(agent);
			break;
		default:
			vrd_gsi_gid_del(port, op & 1);
			vrd_cm_agent_sync(agent);
			break;
		}
	}
	host_in = NULL;
	for (unsigned int i = 0; i < 2; i++)
		vrd_gsi_gid_del(port, i);
	vrd_cm_agent_sync(agent);
	if (agent->num_conns || !LIST_EMPTY(&agent->conns) || !LIST_EMPTY(&agent->listeners))
		fuzz_fail("connections of a guest that has gone");
	if (num_ids)
		fuzz_fail("%u ids are left with the host", num_ids);
}

/* ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct vrd_device_config cfg = {
		.name = "fuzz", .mac = { 2, 0, 0, 0, 0, 1 }, .num_comp_vectors = 1,
	};
	static struct vrd_mad_setup setup;
	struct vrd_engine *engine;
	struct vrd_device *dev;
	struct vrd_error err;

	(void)argc;
	(void)argv;
	engine = guest_engine(1, 0);
	if (vrd_mad_wire_init() || vrd_device_create(engine, &cfg, &dev, &err))
		fuzz_fail("no device");
	vrd_mad_key_make(&key, (const uint8_t *)"a key", 5);
	mads = vrd_mads_get(engine);
	setup.cm_host = calloc(1, sizeof(*setup.cm_host));
	if (!mads || !setup.cm_host || vrd_mad_loop_open(&mads->loop))
		fuzz_fail("no loop");
	channel.fd = mads->loop.wakefd;
	setup.cm_host->channel = &channel;
	/* The loop watches that descriptor already; the test does not run the loop. */
	close(mads->loop.epfd);
	mads->loop.epfd = epoll_create1(EPOLL_CLOEXEC);
	agent = vrd_cm_agent_create(mads, &setup);
	mads->agent = agent;
	if (!agent || vrd_gsi_port_open(dev, &port_cfg, &port, &err))
		fuzz_fail("no agent");
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };

	switch (fuzz_u8(&in) & 3) {
	case 0:
		fuzz_message(&in);
		break;
	case 1:
		fuzz_session(&in);
		break;
	default:
		fuzz_agent(&in);
		break;
	}
	return 0;
}
