// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Rules of MODIFY_QP: the pure functions over all states and masks, and the
 * commands on real QPs.
 */
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#include "qp_rules.h"
#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))

#define A(name)	VIRTIO_RDMA_QP_##name
#define ST(name) VIRTIO_RDMA_QPS_##name
#define S(name)	VIRTIO_RDMA_S_##name

#define RC	VIRTIO_RDMA_QPT_RC
#define UC	VIRTIO_RDMA_QPT_UC
#define UD	VIRTIO_RDMA_QPT_UD
#define GSI	VIRTIO_RDMA_QPT_GSI

/* ---- the table, by itself ---------------------------------------------- */

/* Existing transitions, as in IBTA's figure of the QP states. */
static bool exists(uint8_t type, uint8_t from, uint8_t to)
{
	if (to == ST(RESET) || to == ST(ERR))
		return true;
	switch (from) {
	case ST(RESET):	return to == ST(INIT);
	case ST(INIT):	return to == ST(INIT) || to == ST(RTR);
	case ST(RTR):	return to == ST(RTS);
	case ST(RTS):	return to == ST(RTS) || to == ST(SQD);
	case ST(SQD):	return to == ST(RTS) || to == ST(SQD);
	case ST(SQE):	return to == ST(RTS) && type != RC;
	default:	return false;
	}
}

static const uint32_t all_bits = A(CUR_STATE) | A(EN_SQD_ASYNC_NOTIFY) | A(ACCESS_FLAGS) |
	A(PKEY_INDEX) | A(PORT) | A(QKEY) | A(AV) | A(PATH_MTU) | A(TIMEOUT) | A(RETRY_CNT) |
	A(RNR_RETRY) | A(RQ_PSN) | A(MAX_QP_RD_ATOMIC) | A(MIN_RNR_TIMER) | A(SQ_PSN) |
	A(MAX_DEST_RD_ATOMIC) | A(DEST_QPN);

/*
 * Finds whether any mask makes the transition work.  Bits are independent, so optional and
 * required bits are found one by one.
 */
static bool possible(uint8_t type, uint8_t from, uint8_t to)
{
	static const uint32_t required[] = {
		0,
		A(PKEY_INDEX) | A(QKEY), A(PKEY_INDEX) | A(PORT) | A(QKEY),
		A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS),
		A(SQ_PSN), A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN),
		A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN) | A(MAX_DEST_RD_ATOMIC) |
			A(MIN_RNR_TIMER),
		A(SQ_PSN) | A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) | A(MAX_QP_RD_ATOMIC),
	};

	for (unsigned int i = 0; i < sizeof(required) / sizeof(required[0]); i++)
		if (!vrd_qp_check_transition(type, from, to, required[i] | A(STATE)))
			return true;
	return false;
}

static void all_transitions(void)
{
	static const uint8_t types[] = { RC, UC, UD, GSI };
	int wrong = 0;

	for (unsigned int t = 0; t < 4; t++)
		for (uint8_t from = 0; from <= 8; from++)
			for (uint8_t to = 0; to <= 8; to++)
				if (from <= 6 && to <= 6)
					wrong += possible(types[t], from, to) !=
						 exists(types[t], from, to);
				else if (to > 6)
					wrong += possible(types[t], from, to);
	is(wrong, 0, "the transitions of each type are IBTA's");

	/* A missing required attribute, or an attribute that does not belong, is refused. */
	struct {
		uint8_t type, from, to;
		uint32_t required, optional;
	} c[] = {
		{ RC, ST(RESET), ST(INIT), A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS), 0 },
		{ UD, ST(RESET), ST(INIT), A(PKEY_INDEX) | A(PORT) | A(QKEY), 0 },
		{ GSI, ST(RESET), ST(INIT), A(PKEY_INDEX) | A(QKEY), A(PORT) },
		{ RC, ST(INIT), ST(RTR), A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN) |
		  A(MAX_DEST_RD_ATOMIC) | A(MIN_RNR_TIMER), A(PKEY_INDEX) | A(ACCESS_FLAGS) },
		{ UC, ST(INIT), ST(RTR), A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN),
		  A(PKEY_INDEX) | A(ACCESS_FLAGS) },
		{ UD, ST(INIT), ST(RTR), 0, A(PKEY_INDEX) | A(QKEY) },
		{ RC, ST(RTR), ST(RTS), A(SQ_PSN) | A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) |
		  A(MAX_QP_RD_ATOMIC), A(CUR_STATE) | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
		{ UD, ST(RTR), ST(RTS), A(SQ_PSN), A(CUR_STATE) | A(QKEY) },
		{ RC, ST(RTS), ST(SQD), 0, A(EN_SQD_ASYNC_NOTIFY) },
		{ UD, ST(SQE), ST(RTS), 0, A(CUR_STATE) | A(QKEY) },
	};

	for (unsigned int i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		wrong = vrd_qp_check_transition(c[i].type, c[i].from, c[i].to,
						c[i].required | c[i].optional) != 0;
		for (uint32_t bit = 1; bit && bit <= A(DEST_QPN); bit <<= 1) {
			if (!(all_bits & bit))
				continue;
			if (c[i].required & bit)
				wrong += !vrd_qp_check_transition(c[i].type, c[i].from, c[i].to,
								  c[i].required & ~bit);
			else if (!(c[i].optional & bit))
				wrong += !vrd_qp_check_transition(c[i].type, c[i].from, c[i].to,
								  c[i].required | bit);
		}
		is(wrong, 0, "type %u, %u to %u: required and optional attributes", c[i].type,
		   c[i].from, c[i].to);
	}
	is(vrd_qp_check_transition(RC, ST(RTS), ST(RTS), 1U << 14), -95, "alternate path");
	is(vrd_qp_check_transition(RC, ST(RTS), ST(ERR), 1U << 31), -95, "unknown bit");
	is(vrd_qp_check_transition(RC, ST(RTS), ST(ERR), A(QKEY)), -22, "ERR takes nothing");
}

/* ---- on QPs ------------------------------------------------------------ */

static struct raw *r;
static uint32_t ctx, pd, cq;

static struct virtio_rdma_qp_attr attr_of(uint8_t state)
{
	struct virtio_rdma_qp_attr a = {
		.state = state, .path_mtu = 5, .port_num = 1, .timeout = 14, .retry_cnt = 7,
		.rnr_retry = 7, .min_rnr_timer = 12, .max_rd_atomic = 1, .max_dest_rd_atomic = 1,
		.access_flags = VIRTIO_RDMA_ACCESS_REMOTE_WRITE, .qkey = 0x11111111,
		.rq_psn = 5, .sq_psn = 6, .dest_qpn = 77,
	};

	raw_link_local(r, a.av.dgid);
	a.av.hop_limit = 64;
	return a;
}

#define M_INIT	(A(STATE) | A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS))
#define M_RTR	(A(STATE) | A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN) | \
		 A(MAX_DEST_RD_ATOMIC) | A(MIN_RNR_TIMER))
#define M_RTS	(A(STATE) | A(SQ_PSN) | A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) | \
		 A(MAX_QP_RD_ATOMIC))

static int modify(uint32_t qpn, uint8_t state, uint32_t mask)
{
	struct virtio_rdma_qp_attr a = attr_of(state);

	return raw_modify(r, qpn, mask, &a);
}

static struct virtio_rdma_qp_attr query(uint32_t qpn)
{
	struct virtio_rdma_query_qp_req q = { .hdr.opcode = VIRTIO_RDMA_CMD_QUERY_QP, .qpn = qpn };
	struct virtio_rdma_query_qp_rsp rsp = { .attr.state = 99 };

	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(OK), "QUERY_QP");
	return rsp.attr;
}

static void life(void)
{
	uint32_t qpn = raw_qp(r, RC, ctx, pd, cq, cq);
	struct virtio_rdma_qp_attr a = query(qpn);

	is(a.state, ST(RESET), "a new QP is in RESET");
	is(modify(qpn, ST(RTR), M_RTR), S(INVAL), "RESET to RTR");
	is(modify(qpn, ST(INIT), M_INIT & ~A(PORT)), S(INVAL), "INIT without its port");
	is(modify(qpn, ST(INIT), M_INIT), S(OK), "INIT");
	is(modify(qpn, ST(INIT), A(STATE)), S(OK), "INIT to INIT");
	is(modify(qpn, ST(RTR), M_RTR), S(OK), "RTR");
	is(modify(qpn, ST(RTS), M_RTS & ~A(TIMEOUT)), S(INVAL), "RTS without its timeout");
	is(modify(qpn, ST(RTS), M_RTS), S(OK), "RTS");
	a = query(qpn);
	ok(a.state == ST(RTS) && a.path_mtu == 5 && a.port_num == 1 && a.timeout == 14 &&
	   a.retry_cnt == 7 && a.rnr_retry == 7 && a.min_rnr_timer == 12 && a.max_rd_atomic == 1 &&
	   a.max_dest_rd_atomic == 1 && a.access_flags == VIRTIO_RDMA_ACCESS_REMOTE_WRITE &&
	   a.rq_psn == 5 && a.sq_psn == 6 && a.dest_qpn == 77 && a.av.hop_limit == 64 && !a.qkey,
	   "QUERY_QP tells what was set");
	is(modify(qpn, 0, A(MIN_RNR_TIMER)), S(OK), "an attribute without a state");
	is(modify(qpn, 0, A(SQ_PSN)), S(INVAL), "one that may not change now");

	struct virtio_rdma_qp_attr cur = attr_of(ST(RTS));

	cur.cur_state = ST(SQD);
	is(raw_modify(r, qpn, A(STATE) | A(CUR_STATE), &cur), S(INVAL), "wrong current state");
	cur.cur_state = ST(RTS);
	is(raw_modify(r, qpn, A(STATE) | A(CUR_STATE), &cur), S(OK), "right current state");
	is(modify(qpn, ST(SQD), A(STATE)), S(OK), "SQD");
	is(modify(qpn, ST(SQD), A(STATE) | A(TIMEOUT)), S(OK), "a new timeout in SQD");
	is(modify(qpn, ST(RTS), A(STATE)), S(OK), "back to RTS");
	is(modify(qpn, ST(ERR), A(STATE)), S(OK), "ERR");
	is(modify(qpn, ST(RTS), A(STATE)), S(INVAL), "ERR to RTS");
	is(modify(qpn, ST(ERR), A(STATE)), S(OK), "ERR to ERR");
	is(modify(qpn, ST(RESET), A(STATE)), S(OK), "RESET");
	a = query(qpn);
	ok(a.state == ST(RESET) && !a.path_mtu && !a.dest_qpn && !a.timeout, "forgets everything");
	is(modify(qpn, ST(INIT), M_INIT), S(OK), "and begins again");
	is(modify(qpn, 7, A(STATE)), S(INVAL), "state 7");
	is(modify(qpn, 255, A(STATE)), S(INVAL), "state 255");
	is(modify(qpn + 1, ST(RESET), A(STATE)), S(NOENT), "a QP that does not exist");
	is(modify(qpn | 0x1000000, ST(RESET), A(STATE)), S(NOENT), "number of 25 bits");
	raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_QP, qpn);
	is(modify(qpn, ST(RESET), A(STATE)), S(NOENT), "a QP that is gone");
}

static void values(void)
{
	uint32_t qpn = raw_qp(r, RC, ctx, pd, cq, cq);
	struct virtio_rdma_qp_attr a;

#define TRY(state, mask, field, value, want, what)				\
	do {									\
		a = attr_of(state);						\
		a.field = (value);						\
		is(raw_modify(r, qpn, mask, &a), S(want), what);		\
	} while (0)
	TRY(ST(INIT), M_INIT, port_num, 0, INVAL, "port 0");
	TRY(ST(INIT), M_INIT, port_num, 2, INVAL, "port 2");
	TRY(ST(INIT), M_INIT, pkey_index, 1, INVAL, "second P_Key");
	TRY(ST(INIT), M_INIT, access_flags, 1U << 31, UNSUPPORTED, "unknown right");
	TRY(ST(INIT), M_INIT, reserved0, 1, INVAL, "reserved0");
	TRY(ST(INIT), M_INIT, reserved1, 1, INVAL, "reserved1");
	TRY(ST(INIT), M_INIT, sq_draining, 1, INVAL, "sq_draining is not for writing");
	TRY(ST(INIT), M_INIT, access_flags, 15, OK, "INIT");
	TRY(ST(RTR), M_RTR, path_mtu, 0, INVAL, "MTU 0");
	TRY(ST(RTR), M_RTR, path_mtu, 6, INVAL, "MTU 6");
	TRY(ST(RTR), M_RTR, rq_psn, 1U << 24, INVAL, "PSN of 25 bits");
	TRY(ST(RTR), M_RTR, dest_qpn, 1U << 24, INVAL, "QPN of 25 bits");
	TRY(ST(RTR), M_RTR, min_rnr_timer, 32, INVAL, "RNR timer 32");
	TRY(ST(RTR), M_RTR, max_dest_rd_atomic, 255, INVAL, "255 reads at once");
	TRY(ST(RTR), M_RTR, av.sgid_index, 1, INVAL, "a GID that is not there");
	TRY(ST(RTR), M_RTR, av.sgid_index, 255, INVAL, "a GID beyond the table");
	TRY(ST(RTR), M_RTR, av.sl, 16, INVAL, "service level 16");
	TRY(ST(RTR), M_RTR, av.flow_label, 1U << 20, INVAL, "flow label of 21 bits");
	TRY(ST(RTR), M_RTR, av.pd, 1, INVAL, "PD in a connected QP's address");
	TRY(ST(RTR), M_RTR, av.reserved[5], 1, INVAL, "reserved of the address");
	TRY(ST(RTR), M_RTR, path_mtu, 1, OK, "RTR");
	TRY(ST(RTS), M_RTS, timeout, 32, INVAL, "timeout 32");
	TRY(ST(RTS), M_RTS, retry_cnt, 8, INVAL, "8 retries");
	TRY(ST(RTS), M_RTS, rnr_retry, 8, INVAL, "8 RNR retries");
	TRY(ST(RTS), M_RTS, sq_psn, UINT32_MAX, INVAL, "PSN of 32 bits");
	TRY(ST(RTS), M_RTS, max_rd_atomic, 255, INVAL, "255 reads at once");
	TRY(ST(RTS), M_RTS, timeout, 0, OK, "RTS");
	TRY(ST(SQD), A(STATE) | A(EN_SQD_ASYNC_NOTIFY), en_sqd_async_notify, 2, INVAL, "notify 2");
	is(query(qpn).state, ST(RTS), "refused changes change nothing");
	raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_QP, qpn);
}

static void datagrams(void)
{
	uint32_t qpn = raw_qp(r, UD, ctx, pd, cq, cq);
	const uint32_t init = A(STATE) | A(PKEY_INDEX) | A(PORT) | A(QKEY);

	is(modify(qpn, ST(INIT), M_INIT), S(INVAL), "UD has no access flags");
	is(modify(qpn, ST(INIT), init), S(OK), "UD: INIT");
	is(modify(qpn, ST(RTR), M_RTR), S(INVAL), "UD has no path");
	is(modify(qpn, ST(RTR), A(STATE)), S(OK), "UD: RTR");
	is(modify(qpn, ST(RTS), A(STATE) | A(SQ_PSN)), S(OK), "UD: RTS");
	is(modify(qpn, 0, A(QKEY)), S(OK), "UD: another Q_Key");
	is(query(qpn).qkey, 0x11111111, "is set");
	raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_QP, qpn);
}

int main(void)
{
	uint8_t gid[16];

	all_transitions();
	r = raw_new(NULL, FEATURES);
	raw_recover(r);
	raw_link_local(r, gid);
	is(raw_add_gid(r, 0, gid), S(OK), "a GID");
	ctx = raw_ctx(r, 0);
	pd = raw_pd(r, ctx);
	cq = raw_cq(r, ctx, 64, 0);
	life();
	values();
	datagrams();
	raw_free(r);
	return tap_done();
}
