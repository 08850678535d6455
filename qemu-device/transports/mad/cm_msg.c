// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Layout of the communication manager's messages.  Offsets are those of IBTA tables 106 to
 * 120, counted from the start of the MAD, whose header has 24 bytes.
 *
 * Messages come from a guest or a peer, so no field is trusted here.  Every field has a
 * fixed position, so there is no length to check.
 */
#include <string.h>

#include "cm_msg.h"

#define HDR	24
#define CLASS	0x07
#define VERSION	2
#define METHOD_SEND	0x03

/* ---- big-endian numbers ------------------------------------------------------ */

static uint32_t get16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static uint32_t get24(const uint8_t *p)
{
	return p[0] << 16 | p[1] << 8 | p[2];
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | get24(p + 1);
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) << 32 | get32(p + 4);
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static void put24(uint8_t *p, uint32_t v)
{
	p[0] = v >> 16;
	put16(p + 1, v);
}

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = v >> 24;
	put24(p + 1, v);
}

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, v >> 32);
	put32(p + 4, v);
}

/* ---- private data --------------------------------------------------------------- */

/* Position and length of the private data, by message type; length 0: not a known type. */
static unsigned int data_place(uint16_t type, uint8_t *len)
{
	static const struct { uint8_t offset, len; } places[] = {
		[VRD_CM_REQ] = { 140, VRD_CM_REQ_DATA },
		[VRD_CM_MRA] = { 10, 222 },
		[VRD_CM_REJ] = { 84, VRD_CM_REJ_DATA },
		[VRD_CM_REP] = { 36, VRD_CM_REP_DATA },
		[VRD_CM_RTU] = { 8, 224 },
		[VRD_CM_DREQ] = { 12, 220 },
		[VRD_CM_DREP] = { 8, 224 },
		[VRD_CM_SIDR_REQ] = { 16, 216 },
		[VRD_CM_SIDR_REP] = { 96, 136 },
	};

	if (type < VRD_CM_REQ || type > VRD_CM_SIDR_REP)
		return 0;
	*len = places[type].len;
	return HDR + places[type].offset;
}

/* ---- parsing ---------------------------------------------------------------------- */

static void parse_req(struct vrd_cm_msg *m, const uint8_t *p)
{
	m->service_id = get64(p + 8);
	m->ca_guid = get64(p + 16);
	m->qpn = get24(p + 32);
	m->responder_resources = p[35];
	m->initiator_depth = p[39];
	m->remote_timeout = p[43] >> 3;
	m->transport = (p[43] >> 1) & 3;
	m->psn = get24(p + 44);
	m->local_timeout = p[47] >> 3;
	m->retry_count = p[47] & 7;
	m->pkey = get16(p + 48);
	m->path_mtu = p[50] >> 4;
	m->rnr_retry = p[50] & 7;
	m->max_retries = p[51] >> 4;
	m->srq = p[51] & 8;
	memcpy(m->sgid, p + 56, 16);
	memcpy(m->dgid, p + 72, 16);
	m->flow_label = get24(p + 88) >> 4;
	m->packet_rate = p[91] & 0x3f;
	m->tclass = p[92];
	m->hop_limit = p[93];
	m->sl = p[94] >> 4;
	m->ack_timeout = p[95] >> 3;
}

static void parse_rep(struct vrd_cm_msg *m, const uint8_t *p)
{
	m->qpn = get24(p + 12);
	m->psn = get24(p + 20);
	m->responder_resources = p[24];
	m->initiator_depth = p[25];
	m->ack_timeout = p[26] >> 3;		/* target ack delay */
	m->rnr_retry = p[27] >> 5;
	m->srq = p[27] & 0x10;
	m->ca_guid = get64(p + 28);
}

bool vrd_cm_parse(struct vrd_cm_msg *m, const uint8_t mad[VRD_CM_MAD_LEN])
{
	const uint8_t *p = mad + HDR;
	unsigned int offset;

	memset(m, 0, sizeof(*m));
	if (mad[0] != 1 || mad[1] != CLASS || mad[2] != VERSION || mad[3] != METHOD_SEND)
		return false;
	m->tid = get64(mad + 8);
	m->type = get16(mad + 16);
	offset = data_place(m->type, &m->data_len);
	if (!offset)
		return false;
	memcpy(m->data, mad + offset, m->data_len);

	m->local_id = get32(p);
	m->remote_id = get32(p + 4);
	switch (m->type) {
	case VRD_CM_REQ:
		m->remote_id = 0;
		parse_req(m, p);
		break;
	case VRD_CM_REP:
		parse_rep(m, p);
		break;
	case VRD_CM_REJ:
		m->rejected = p[8] >> 6;
		m->reason = get16(p + 10);
		break;
	case VRD_CM_MRA:
		m->rejected = p[8] >> 6;
		m->service_timeout = p[9] >> 3;
		break;
	case VRD_CM_DREQ:
		m->qpn = get24(p + 8);
		break;
	case VRD_CM_SIDR_REQ:
		m->remote_id = 0;
		m->pkey = get16(p + 4);
		m->service_id = get64(p + 8);
		break;
	case VRD_CM_SIDR_REP:
		m->remote_id = m->local_id;
		m->local_id = 0;
		m->status = p[4];
		m->qpn = get24(p + 8);
		m->service_id = get64(p + 12);
		m->qkey = get32(p + 20);
		break;
	}
	return true;
}

/* ---- building ------------------------------------------------------------------------ */

static void build_req(const struct vrd_cm_msg *m, uint8_t *p)
{
	put64(p + 8, m->service_id);
	put64(p + 16, m->ca_guid);
	put24(p + 32, m->qpn);
	p[35] = m->responder_resources;
	p[39] = m->initiator_depth;
	p[43] = m->remote_timeout << 3 | m->transport << 1;
	put24(p + 44, m->psn);
	p[47] = m->local_timeout << 3 | m->retry_count;
	put16(p + 48, m->pkey);
	p[50] = m->path_mtu << 4 | m->rnr_retry;
	p[51] = m->max_retries << 4 | (m->srq ? 8 : 0);
	put16(p + 52, 0xffff);			/* permissive LIDs: RoCE has none */
	put16(p + 54, 0xffff);
	memcpy(p + 56, m->sgid, 16);
	memcpy(p + 72, m->dgid, 16);
	put24(p + 88, m->flow_label << 4);
	p[91] = m->packet_rate;
	p[92] = m->tclass;
	p[93] = m->hop_limit;
	p[94] = m->sl << 4 | (m->hop_limit <= 1 ? 8 : 0);	/* subnet local */
	p[95] = m->ack_timeout << 3;
}

static void build_rep(const struct vrd_cm_msg *m, uint8_t *p)
{
	put24(p + 12, m->qpn);
	put24(p + 20, m->psn);
	p[24] = m->responder_resources;
	p[25] = m->initiator_depth;
	p[26] = m->ack_timeout << 3;
	p[27] = m->rnr_retry << 5 | (m->srq ? 0x10 : 0);
	put64(p + 28, m->ca_guid);
}

void vrd_cm_build(const struct vrd_cm_msg *m, uint8_t mad[VRD_CM_MAD_LEN])
{
	uint8_t *p = mad + HDR, len;
	unsigned int offset = data_place(m->type, &len);

	memset(mad, 0, VRD_CM_MAD_LEN);
	mad[0] = 1;
	mad[1] = CLASS;
	mad[2] = VERSION;
	mad[3] = METHOD_SEND;
	put64(mad + 8, m->tid);
	put16(mad + 16, m->type);
	if (!offset)
		return;
	memcpy(mad + offset, m->data, m->data_len < len ? m->data_len : len);

	put32(p, m->local_id);
	put32(p + 4, m->remote_id);
	switch (m->type) {
	case VRD_CM_REQ:
		put32(p + 4, 0);
		build_req(m, p);
		break;
	case VRD_CM_REP:
		build_rep(m, p);
		break;
	case VRD_CM_REJ:
		p[8] = m->rejected << 6;
		put16(p + 10, m->reason);
		break;
	case VRD_CM_MRA:
		p[8] = m->rejected << 6;
		p[9] = m->service_timeout << 3;
		break;
	case VRD_CM_DREQ:
		put24(p + 8, m->qpn);
		break;
	case VRD_CM_SIDR_REQ:
		put32(p + 4, 0);
		put16(p + 4, m->pkey);
		put64(p + 8, m->service_id);
		break;
	case VRD_CM_SIDR_REP:
		put32(p, m->remote_id);
		put32(p + 4, 0);
		p[4] = m->status;
		put24(p + 8, m->qpn);
		put64(p + 12, m->service_id);
		put32(p + 20, m->qkey);
		break;
	}
}

bool vrd_cm_names_qpn(const uint8_t mad[VRD_CM_MAD_LEN], uint32_t *qpn)
{
	static const uint8_t offsets[] = {
		[VRD_CM_REQ] = 32, [VRD_CM_REP] = 12, [VRD_CM_SIDR_REP] = 8,
	};
	uint16_t type = get16(mad + 16);

	if (mad[1] != CLASS || type > VRD_CM_SIDR_REP || !offsets[type])
		return false;
	*qpn = get24(mad + HDR + offsets[type]);
	return true;
}

/* ---- RDMA IP CM service ------------------------------------------------------------------ */

bool vrd_cm_service(uint64_t service_id, uint16_t *port_space, uint16_t *port)
{
	*port_space = service_id >> 16;
	*port = service_id;
	return !(service_id >> 32) && (*port_space == VRD_CM_PS_TCP || *port_space == VRD_CM_PS_UDP);
}

uint64_t vrd_cm_service_id(uint16_t port_space, uint16_t port)
{
	return (uint64_t)port_space << 16 | port;
}

/* An IPv4 address is stored in the last 4 of 16 bytes, without the ::ffff: prefix of a GID. */
static void get_address(uint8_t gid[16], const uint8_t *p, bool v4)
{
	memcpy(gid, p, 16);
	if (v4) {
		memset(gid, 0, 10);
		gid[10] = 0xff;
		gid[11] = 0xff;
	}
}

bool vrd_cm_ip_parse(struct vrd_cm_ip *ip, const uint8_t header[VRD_CM_IP_LEN])
{
	uint8_t version = header[1] >> 4;

	if (header[0] >> 4 || (version != 4 && version != 6))
		return false;
	ip->src_port = get16(header + 2);
	get_address(ip->src, header + 4, version == 4);
	get_address(ip->dst, header + 20, version == 4);
	return true;
}

static bool is_v4(const uint8_t gid[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(gid, prefix, sizeof(prefix));
}

void vrd_cm_ip_build(const struct vrd_cm_ip *ip, uint8_t header[VRD_CM_IP_LEN])
{
	bool v4 = is_v4(ip->src) && is_v4(ip->dst);

	memset(header, 0, VRD_CM_IP_LEN);
	header[1] = v4 ? 0x40 : 0x60;
	put16(header + 2, ip->src_port);
	memcpy(header + (v4 ? 16 : 4), ip->src + (v4 ? 12 : 0), v4 ? 4 : 16);
	memcpy(header + (v4 ? 32 : 20), ip->dst + (v4 ? 12 : 0), v4 ? 4 : 16);
}
