// SPDX-License-Identifier: GPL-2.0-or-later
/* vrdma-verify: the cases of datagrams. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "cases.h"

#define GRH_LEN		40
/* Providers that report the type of a datagram's header as its service level. */
#define VENDOR_MELLANOX	0x02c9
#define VENDOR_VIRTIO	0x1af4

static int ud_send(struct peer *p, struct ibv_ah *ah, uint64_t len, uint32_t qkey, uint32_t imm)
{
	struct ibv_sge sge = { (uintptr_t)p->s->buf, len, p->s->mr->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND_WITH_IMM,
		.send_flags = IBV_SEND_SIGNALED, .imm_data = htobe32(imm),
		.wr.ud = { .ah = ah, .remote_qpn = p->ep[UD(p->s)].qpn, .remote_qkey = qkey },
	}, *bad;

	TRY(p, -ibv_post_send(p->s->qp[UD(p->s)], &wr, &bad));
	return done(p, UD(p->s), IBV_WC_SUCCESS, IBV_WC_SEND);
}

static struct ibv_ah *ah_to_server(struct peer *p)
{
	struct ibv_ah_attr attr = {
		.is_global = 1, .port_num = 1, .sl = 3,
		.grh = { .dgid = p->ep[UD(p->s)].gid, .sgid_index = p->s->gid_index,
			 .hop_limit = 64 },
	};

	return ibv_create_ah(p->s->pd, &attr);
}

int case_ud(struct peer *p)
{
	uint64_t max = 128UL << p->s->mtu;
	uint64_t lengths[] = { 0, 1, 8, 63, 64, 500, max - 1, max };
	int ud = UD(p->s);
	struct ibv_ah *ah;
	struct reply rep;

	TRY(p, connect_qp(p, ud, 14, 7, 7));
	ah = ah_to_server(p);
	WANT(p, ah, "ibv_create_ah: %s", strerror(errno));
	for (unsigned int i = 0; i < COUNT(lengths); i++) {
		TRY(p, request(p, REQ_RECV, ud, 8192 - GRH_LEN, lengths[i] + GRH_LEN, 1, NULL));
		TRY(p, guard_remote(p, 8192, lengths[i], false));
		pattern_fill(p->s->buf, lengths[i], i);
		/* A datagram with a wrong Q_Key is dropped silently. */
		TRY(p, ud_send(p, ah, lengths[i], UD_QKEY + 1, 1));
		TRY(p, ud_send(p, ah, lengths[i], UD_QKEY, 100 + i));
		TRY(p, request(p, REQ_POLL, ud, POLL_MS, 0, 0, &rep));
		WANT(p, rep.wc_status == 0 && rep.byte_len == lengths[i] + GRH_LEN && rep.imm == 100 + i,
		     "%lu bytes: status %u, byte_len %u, imm %u", (long)lengths[i], rep.wc_status,
		     rep.byte_len, rep.imm);
		WANT(p, rep.wc_flags & IBV_WC_GRH, "no GRH");
		WANT(p, rep.src_qp == p->s->qp[ud]->qp_num, "src_qp %u", rep.src_qp);
		TRY(p, check_remote(p, 8192, lengths[i], i));
	}
	ibv_destroy_ah(ah);
	return 0;
}

static bool is_ipv4(const union ibv_gid *gid)
{
	return !memcmp(gid->raw, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
}

/* First byte of the server's memory at @off. */
static int first_byte(struct peer *p, uint64_t off, uint8_t *byte)
{
	struct reply rep;

	TRY(p, request(p, REQ_READ64, 0, off, 0, 0, &rep));
	memcpy(byte, &rep.value, 1);
	return 0;
}

/*
 * struct ibv_wc has no field for the type of the header, so mlx5 reports it in sl:
 * bits 2:0 are 1 for IPv6 and 2 for IPv4, bit 3 says that it is RoCE v2.  UCX reads
 * it there.  By ibv_poll_cq() first, then by ibv_start_poll().
 */
int case_ud_header(struct peer *p)
{
	bool v4 = is_ipv4(&p->s->gid);
	int ud = UD(p->s);
	struct ibv_ah *ah;
	struct reply rep;
	uint8_t byte;

	TRY(p, connect_qp(p, ud, 14, 7, 7));
	if (p->ep[ud].value != VENDOR_VIRTIO && p->ep[ud].value != VENDOR_MELLANOX)
		return SKIPPED;
	ah = ah_to_server(p);
	WANT(p, ah, "ibv_create_ah: %s", strerror(errno));
	for (unsigned int extended = 0; extended < 2; extended++) {
		/* What UCX fills it with, to find out whether it was written. */
		TRY(p, request(p, REQ_WRITE64, 0, 8192 - GRH_LEN, UINT64_MAX, 0, NULL));
		TRY(p, request(p, REQ_RECV, ud, 8192 - GRH_LEN, 100 + GRH_LEN, 1, NULL));
		TRY(p, ud_send(p, ah, 100, UD_QKEY, 7));
		TRY(p, request(p, REQ_POLL, ud, POLL_MS, extended, 0, &rep));
		WANT(p, rep.wc_status == 0 && rep.byte_len == 100 + GRH_LEN && rep.imm == 7 &&
		     rep.wc_flags & IBV_WC_GRH && rep.src_qp == p->s->qp[ud]->qp_num,
		     "poll %u: status %u, byte_len %u, imm %u, flags %x, src_qp %u", extended,
		     rep.wc_status, rep.byte_len, rep.imm, rep.wc_flags, rep.src_qp);
		TRY(p, first_byte(p, v4 ? 8192 - 20 : 8192 - GRH_LEN, &byte));
		WANT(p, byte >> 4 == (v4 ? 4 : 6), "the header begins with %02x", byte);
		TRY(p, first_byte(p, 8192 - GRH_LEN, &byte));
		WANT(p, !v4 || byte >> 4 != 6, "an IPv4 header looks like one of IPv6");
		WANT(p, rep.sl == (8 | (v4 ? 2 : 1)), "poll %u: sl %u with an %s header", extended,
		     rep.sl, v4 ? "IPv4" : "IPv6");
	}
	ibv_destroy_ah(ah);
	return 0;
}
