// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Messages of the communication manager: fields at the positions that IBTA defines, encoded
 * and decoded, and the header of the RDMA IP CM service.
 */
#include <string.h>

#include "mad/cm_msg.h"
#include "tap.h"

static uint8_t mad[VRD_CM_MAD_LEN];

static struct vrd_cm_msg msg_of(uint16_t type)
{
	struct vrd_cm_msg m = { .type = type, .tid = 0x1122334455667788, .local_id = 0xa1a2a3a4,
				.remote_id = 0xb1b2b3b4 };

	return m;
}

static void fill_data(struct vrd_cm_msg *m, uint8_t len)
{
	m->data_len = len;
	for (unsigned int i = 0; i < len; i++)
		m->data[i] = 3 * i + 1;
}

/* Builds a message and parses it. */
static bool same_again(const struct vrd_cm_msg *m)
{
	struct vrd_cm_msg again;

	vrd_cm_build(m, mad);
	return vrd_cm_parse(&again, mad) && !memcmp(&again, m, sizeof(again));
}

static void test_req(void)
{
	struct vrd_cm_msg m = msg_of(VRD_CM_REQ);

	m.remote_id = 0;
	m.service_id = 0x0000000001061234;
	m.ca_guid = 0xc1c2c3c4c5c6c7c8;
	m.qpn = 0xd1d2d3;
	m.psn = 0xe1e2e3;
	m.responder_resources = 16;
	m.initiator_depth = 7;
	m.rnr_retry = 7;
	m.srq = true;
	m.transport = 1;
	m.retry_count = 5;
	m.path_mtu = 3;
	m.local_timeout = 20;
	m.remote_timeout = 19;
	m.max_retries = 15;
	m.pkey = 0xffff;
	memset(m.sgid, 0x51, 16);
	memset(m.dgid, 0x52, 16);
	m.sl = 9;
	m.tclass = 0x2c;
	m.hop_limit = 64;
	m.ack_timeout = 18;
	m.packet_rate = 2;
	m.flow_label = 0xfab1e;
	fill_data(&m, 92);
	ok(same_again(&m), "a REQ is parsed as it was built");
	ok(mad[0] == 1 && mad[1] == 7 && mad[2] == 2 && mad[3] == 3 && mad[8] == 0x11 &&
	   mad[16] == 0 && mad[17] == 0x10, "its MAD header");
	ok(mad[24] == 0xa1 && mad[24 + 12] == 0x01 && mad[24 + 13] == 0x06 && mad[24 + 14] == 0x12 &&
	   mad[24 + 15] == 0x34, "comm ID and service ID");
	ok(mad[24 + 32] == 0xd1 && mad[24 + 34] == 0xd3 && mad[24 + 35] == 16 &&
	   mad[24 + 39] == 7, "QPN, responder resources, initiator depth");
	ok(mad[24 + 43] == (19 << 3 | 1 << 1) && mad[24 + 44] == 0xe1 &&
	   mad[24 + 47] == (20 << 3 | 5), "transport, PSN, timeouts, retries");
	ok(mad[24 + 50] == (3 << 4 | 7) && mad[24 + 51] == (15 << 4 | 8), "MTU, RNR retries, SRQ");
	ok(mad[24 + 56] == 0x51 && mad[24 + 72] == 0x52 && mad[24 + 88] == 0xfa &&
	   mad[24 + 90] == 0xe0 && mad[24 + 91] == 2 && mad[24 + 93] == 64 &&
	   mad[24 + 94] == 9 << 4 && mad[24 + 95] == 18 << 3, "the primary path");
	ok(mad[24 + 140] == 1 && mad[255] == (uint8_t)(3 * 91 + 1), "92 bytes of private data");
}

static void test_others(void)
{
	struct vrd_cm_msg m = msg_of(VRD_CM_REP);
	uint32_t qpn = 0;

	m.qpn = 0x010203;
	m.psn = 0x040506;
	m.responder_resources = 1;
	m.initiator_depth = 2;
	m.ack_timeout = 17;
	m.rnr_retry = 6;
	m.srq = true;
	m.ca_guid = 42;
	fill_data(&m, 196);
	ok(same_again(&m) && mad[24 + 12] == 1 && mad[24 + 20] == 4 && mad[24 + 26] == 17 << 3 &&
	   mad[24 + 27] == (6 << 5 | 0x10) && mad[24 + 36] == 1, "REP");
	ok(vrd_cm_names_qpn(mad, &qpn) && qpn == 0x010203, "it names a QP");

	m = msg_of(VRD_CM_REJ);
	m.rejected = 1;
	m.reason = 28;
	fill_data(&m, 148);
	ok(same_again(&m) && mad[24 + 8] == 0x40 && mad[24 + 11] == 28, "REJ");
	m = msg_of(VRD_CM_MRA);
	m.rejected = 2;
	m.service_timeout = 21;
	fill_data(&m, 222);
	ok(same_again(&m) && mad[24 + 9] == 21 << 3, "MRA");
	m = msg_of(VRD_CM_RTU);
	fill_data(&m, 224);
	ok(same_again(&m) && !vrd_cm_names_qpn(mad, &qpn), "RTU");
	m = msg_of(VRD_CM_DREQ);
	m.qpn = 0x99;
	fill_data(&m, 220);
	ok(same_again(&m) && mad[24 + 10] == 0x99, "DREQ");
	m = msg_of(VRD_CM_DREP);
	fill_data(&m, 224);
	ok(same_again(&m), "DREP");

	m = msg_of(VRD_CM_SIDR_REQ);
	m.remote_id = 0;
	m.pkey = 0x8001;
	m.service_id = vrd_cm_service_id(VRD_CM_PS_UDP, 7174);
	fill_data(&m, 216);
	ok(same_again(&m) && mad[24 + 4] == 0x80 && mad[24 + 12] == 1 && mad[24 + 13] == 0x11,
	   "SIDR_REQ");
	m = msg_of(VRD_CM_SIDR_REP);
	m.local_id = 0;
	m.status = 1;
	m.qpn = 0x778899;
	m.service_id = 1;
	m.qkey = 0x01234567;
	fill_data(&m, 136);
	ok(same_again(&m) && mad[24] == 0xb1 && mad[24 + 4] == 1 && mad[24 + 20] == 1 &&
	   vrd_cm_names_qpn(mad, &qpn) && qpn == 0x778899, "SIDR_REP");
}

static void test_refused(void)
{
	struct vrd_cm_msg m = msg_of(VRD_CM_RTU), out;
	static const unsigned int places[] = { 0, 1, 2, 3, 16 };
	unsigned int accepted = 0;
	uint32_t qpn;

	for (unsigned int i = 0; i < 5; i++) {
		vrd_cm_build(&m, mad);
		mad[places[i]] ^= 0x40;
		accepted += vrd_cm_parse(&out, mad);
	}
	is(accepted, 0, "another version, class, method or attribute");
	for (unsigned int type = 0; type < 0x10000; type++) {
		vrd_cm_build(&m, mad);
		mad[16] = type >> 8;
		mad[17] = type;
		accepted += vrd_cm_parse(&out, mad);
		vrd_cm_names_qpn(mad, &qpn);
	}
	is(accepted, 9, "of all attributes, the nine that are known");
}

static void test_ip(void)
{
	struct vrd_cm_ip ip = { .src_port = 0x1f90 }, again;
	uint8_t header[VRD_CM_IP_LEN];
	uint16_t ps, port;

	ip.src[10] = ip.src[11] = ip.dst[10] = ip.dst[11] = 0xff;
	memcpy(ip.src + 12, "\x0a\x01\x00\x01", 4);
	memcpy(ip.dst + 12, "\x0a\x01\x00\x02", 4);
	vrd_cm_ip_build(&ip, header);
	ok(header[0] == 0 && header[1] == 0x40 && header[2] == 0x1f && header[16] == 10 &&
	   header[19] == 1 && header[14] == 0 && header[35] == 2, "IPv4: its last four bytes");
	ok(vrd_cm_ip_parse(&again, header) && !memcmp(&again, &ip, sizeof(ip)), "and back");
	memset(ip.src, 0xfd, 16);
	memset(ip.dst, 0xfe, 16);
	vrd_cm_ip_build(&ip, header);
	ok(header[1] == 0x60 && header[4] == 0xfd && vrd_cm_ip_parse(&again, header) &&
	   !memcmp(&again, &ip, sizeof(ip)), "IPv6");
	header[1] = 0x50;
	ok(!vrd_cm_ip_parse(&again, header), "IP version 5");
	header[1] = 0x60;
	header[0] = 0x10;
	ok(!vrd_cm_ip_parse(&again, header), "another version of the service");

	ok(vrd_cm_service(0x1060000 | 4791, &ps, &port) && ps == VRD_CM_PS_TCP && port == 4791,
	   "a service ID of TCP's port space");
	ok(vrd_cm_service(vrd_cm_service_id(VRD_CM_PS_UDP, 9), &ps, &port) && ps == VRD_CM_PS_UDP &&
	   port == 9, "of UDP's");
	ok(!vrd_cm_service(0x13f0001, &ps, &port) && !vrd_cm_service(1ULL << 32 | 0x1060001, &ps,
	   &port) && !vrd_cm_service(0x1000000000000001, &ps, &port), "of others");
}

int main(void)
{
	test_req();
	test_others();
	test_refused();
	test_ip();
	return tap_done();
}
