// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vrdma-verify: the cases of shared receive queues.  Each consumes what it posted, because
 * the SRQ is shared by all cases.
 */
#include <errno.h>
#include <string.h>

#include "cases.h"

static int srq_sizes(struct peer *p, int (*one)(struct peer *, uint64_t, uint64_t, uint64_t, int))
{
	if (!p->s->srq)
		return SKIPPED;
	p->qp = SRQ(p->s);
	return each_size(p, one);
}

int case_srq_send(struct peer *p) { return srq_sizes(p, one_send_imm); }
int case_srq_write_imm(struct peer *p) { return srq_sizes(p, one_write_imm); }

/*
 * Two QPs take from one SRQ, many laps of its ring, with several entries posted: each is
 * used once, and its wr_id identifies the data.
 */
int case_srq_shared(struct peer *p)
{
	struct reply rep;

	if (!p->s->srq)
		return SKIPPED;
	TRY(p, connect_qp(p, SRQ(p->s), 14, 7, 7));
	TRY(p, connect_qp(p, SRQ2(p->s), 14, 7, 7));
	for (int i = 0; i < 7; i++)
		TRY(p, request(p, REQ_RECV, SRQ(p->s), i * 8192, 4096, 1, NULL));
	for (int i = 0; i < 4 * WR_DEPTH; i++) {
		int qp = i % 3 ? SRQ(p->s) : SRQ2(p->s);
		uint64_t len = 1 + i % 4096, offset = i % 8 * 8192;

		TRY(p, request(p, REQ_RECV, qp, (i + 7) % 8 * 8192, 4096, 1, NULL));
		pattern_fill(p->s->buf, len, i);
		TRY(p, post(p, qp, IBV_WR_SEND, 0, len, 0, 1, IBV_SEND_SIGNALED, 0));
		TRY(p, done(p, qp, IBV_WC_SUCCESS, IBV_WC_SEND));
		TRY(p, request(p, REQ_POLL, qp, POLL_MS, 0, 0, &rep));
		WANT(p, rep.wc_status == 0 && rep.byte_len == len, "message %d: status %u, %u bytes", i,
		     rep.wc_status, rep.byte_len);
		WANT(p, rep.value == offset, "message %d: wr_id %lu instead of %lu", i,
		     (long)rep.value, (long)offset);
		TRY(p, check_remote(p, offset, len, i));
	}
	for (int i = 0; i < 7; i++) {
		TRY(p, post(p, SRQ2(p->s), IBV_WR_SEND, 0, 1, 0, 1, IBV_SEND_SIGNALED, 0));
		TRY(p, done(p, SRQ2(p->s), IBV_WC_SUCCESS, IBV_WC_SEND));
		TRY(p, request(p, REQ_POLL, SRQ2(p->s), POLL_MS, 0, 0, &rep));
	}
	return 0;
}

/* Both senders find it empty; two posts serve them. */
int case_srq_rnr(struct peer *p)
{
	struct reply rep;

	if (!p->s->srq)
		return SKIPPED;
	TRY(p, connect_qp(p, SRQ(p->s), 14, 7, 7));
	TRY(p, connect_qp(p, SRQ2(p->s), 14, 7, 7));
	TRY(p, post(p, SRQ(p->s), IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, post(p, SRQ2(p->s), IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, request(p, REQ_RECV, SRQ(p->s), 0, 100, 1, NULL));
	TRY(p, request(p, REQ_RECV, SRQ(p->s), 4096, 100, 1, NULL));
	TRY(p, done(p, SRQ(p->s), IBV_WC_SUCCESS, IBV_WC_SEND));
	TRY(p, done(p, SRQ2(p->s), IBV_WC_SUCCESS, IBV_WC_SEND));
	TRY(p, request(p, REQ_POLL, SRQ(p->s), POLL_MS, 0, 0, &rep));
	TRY(p, request(p, REQ_POLL, SRQ2(p->s), POLL_MS, 0, 0, &rep));
	TRY(p, connect_qp(p, SRQ(p->s), 14, 7, 1));
	TRY(p, post(p, SRQ(p->s), IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	return done(p, SRQ(p->s), IBV_WC_RNR_RETRY_EXC_ERR, 0);
}

int case_srq_limit(struct peer *p)
{
	int qp = SRQ(p->s);
	struct reply rep;

	if (!p->s->srq)
		return SKIPPED;
	TRY(p, connect_qp(p, qp, 14, 7, 7));
	for (int i = 0; i < 3; i++)
		TRY(p, request(p, REQ_RECV, qp, 0, 100, 1, NULL));
	TRY(p, request(p, REQ_SRQ_ARM, 0, 2, 0, 0, NULL));
	TRY(p, request(p, REQ_SRQ_LIMIT, 0, 0, 0, 0, &rep));
	WANT(p, rep.value == 2, "armed with 2, it says %lu", (long)rep.value);
	for (int i = 0; i < 3; i++) {
		TRY(p, post(p, qp, IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
		TRY(p, done(p, qp, IBV_WC_SUCCESS, IBV_WC_SEND));
		TRY(p, request(p, REQ_POLL, qp, POLL_MS, 0, 0, &rep));
		if (i == 0)
			WANT(p, request(p, REQ_ASYNC, 0, 300, 0, 0, &rep) == -ETIMEDOUT,
			     "an event with as many entries as the limit");
		if (i == 1) {
			TRY(p, request(p, REQ_ASYNC, 0, POLL_MS, 0, 0, &rep));
			WANT(p, rep.value == IBV_EVENT_SRQ_LIMIT_REACHED, "event %lu", (long)rep.value);
		}
	}
	WANT(p, request(p, REQ_ASYNC, 0, 300, 0, 0, &rep) == -ETIMEDOUT, "a second event");
	TRY(p, request(p, REQ_SRQ_LIMIT, 0, 0, 0, 0, &rep));
	WANT(p, rep.value == 0, "reached, it says %lu", (long)rep.value);
	return 0;
}

/* A QP that fails takes its receive with it, leaves the others, and raises an event. */
int case_srq_error(struct peer *p)
{
	int qp = SRQ(p->s);
	struct reply rep;

	if (!p->s->srq)
		return SKIPPED;
	TRY(p, connect_qp(p, qp, 14, 7, 7));
	TRY(p, connect_qp(p, SRQ2(p->s), 14, 7, 7));
	TRY(p, request(p, REQ_RECV, qp, 0, 99, 1, NULL));
	TRY(p, request(p, REQ_RECV, qp, 4096, 100, 1, NULL));
	TRY(p, post(p, qp, IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, qp, IBV_WC_REM_INV_REQ_ERR, 0));
	TRY(p, request(p, REQ_POLL, qp, POLL_MS, 0, 0, &rep));
	WANT(p, rep.wc_status == IBV_WC_LOC_LEN_ERR && rep.value == 0, "receive: %s, wr_id %lu",
	     ibv_wc_status_str(rep.wc_status), (long)rep.value);
	TRY(p, request(p, REQ_ASYNC, 0, POLL_MS, 0, 0, &rep));
	WANT(p, rep.value == IBV_EVENT_QP_LAST_WQE_REACHED, "event %lu", (long)rep.value);
	WANT(p, request(p, REQ_POLL, qp, 300, 0, 0, &rep) == -ETIMEDOUT,
	     "an entry of the SRQ was flushed");
	TRY(p, post(p, SRQ2(p->s), IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, SRQ2(p->s), IBV_WC_SUCCESS, IBV_WC_SEND));
	TRY(p, request(p, REQ_POLL, SRQ2(p->s), POLL_MS, 0, 0, &rep));
	WANT(p, rep.wc_status == 0 && rep.value == 4096, "the next: %s, wr_id %lu",
	     ibv_wc_status_str(rep.wc_status), (long)rep.value);
	return 0;
}

/* Two RC QPs of this process, each with a CQ, the second with an SRQ. */
static int own_pair(struct peer *p, struct side *t)
{
	struct ibv_srq_init_attr srq = { .attr = { .max_wr = 8, .max_sge = 1 } };
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 8, .max_recv_wr = 8, .max_send_sge = 1, .max_recv_sge = 1 },
	};

	t->srq = ibv_create_srq(t->pd, &srq);
	WANT(p, t->srq, "no SRQ: %s", strerror(errno));
	for (int i = 0; i < 2; i++) {
		t->cq[i] = ibv_create_cq(t->ctx, 64, NULL, NULL, 0);
		WANT(p, t->cq[i], "no CQ: %s", strerror(errno));
		init.send_cq = init.recv_cq = t->cq[i];
		t->qp[i] = ibv_create_qp(t->pd, &init);
		WANT(p, t->qp[i], "no QP: %s", strerror(errno));
		init.srq = t->srq;
	}
	for (int i = 0; i < 2; i++) {
		TRY(p, side_reset_qp(t, i));
		TRY(p, side_connect_qp(t, i, 0, t->qp[1 - i]->qp_num, 0, &t->gid, 14, 7, 7));
	}
	return 0;
}

static int own_send(struct peer *p, struct side *t, uint64_t wr_id)
{
	struct ibv_sge sge = { (uintptr_t)t->buf, 64, t->mr->lkey };
	struct ibv_recv_wr recv = { .wr_id = wr_id, .sg_list = &sge, .num_sge = 1 }, *bad_recv;
	struct ibv_send_wr send = {
		.opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED, .sg_list = &sge, .num_sge = 1,
	}, *bad;

	TRY(p, -ibv_post_srq_recv(t->srq, &recv, &bad_recv));
	return -ibv_post_send(t->qp[0], &send, &bad);
}

/* A receive from an SRQ is delivered though its QP is gone, and is gone with its SRQ. */
int case_srq_qp_gone(struct peer *p)
{
	struct side t = *p->s;
	struct ibv_wc wc;
	uint32_t qpn;
	int ret;

	if (!p->s->srq)
		return SKIPPED;
	TRY(p, own_pair(p, &t));
	qpn = t.qp[1]->qp_num;
	for (int i = 0; i < 2; i++) {
		TRY(p, own_send(p, &t, 1000 + i));
		TRY(p, side_poll(&t, 0, POLL_MS, &wc));
		WANT(p, !wc.status, "SEND: %s", ibv_wc_status_str(wc.status));
	}
	ret = ibv_destroy_qp(t.qp[1]);
	WANT(p, !ret, "ibv_destroy_qp: %s", strerror(ret));
	TRY(p, side_poll(&t, 1, POLL_MS, &wc));
	WANT(p, !wc.status && wc.opcode == IBV_WC_RECV && wc.qp_num == qpn && wc.wr_id == 1000 &&
	     wc.byte_len == 64, "the receive of a QP that is gone: status %u, QP %u, wr_id %lu",
	     wc.status, wc.qp_num, (long)wc.wr_id);
	ret = ibv_destroy_srq(t.srq);
	WANT(p, !ret, "ibv_destroy_srq: %s", strerror(ret));
	WANT(p, !ibv_poll_cq(t.cq[1], 1, &wc), "a receive of an SRQ that is gone: wr_id %lu",
	     (long)wc.wr_id);
	ret = ibv_destroy_qp(t.qp[0]);
	WANT(p, !ret, "ibv_destroy_qp: %s", strerror(ret));
	for (int i = 0; i < 2; i++) {
		ret = ibv_destroy_cq(t.cq[i]);
		WANT(p, !ret, "ibv_destroy_cq: %s", strerror(ret));
	}
	return 0;
}

int case_srq_limits(struct peer *p)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 10, .max_sge = 2 } };
	struct ibv_srq_attr attr = { 0 };
	struct ibv_sge sge[64] = { 0 };
	struct ibv_recv_wr wr = { .sg_list = sge, .num_sge = 1 }, *bad;
	struct ibv_srq *srq;
	uint32_t n = 0;
	int ret;

	if (!p->s->srq)
		return SKIPPED;
	WANT(p, ibv_destroy_srq(p->s->srq) == EBUSY, "an SRQ with QPs can be destroyed");
	srq = ibv_create_srq(p->s->pd, &init);
	WANT(p, srq, "ibv_create_srq: %s", strerror(errno));
	WANT(p, init.attr.max_wr >= 10 && init.attr.max_sge >= 2, "made of %u, %u", init.attr.max_wr,
	     init.attr.max_sge);
	ret = ibv_query_srq(srq, &attr);
	WANT(p, !ret && attr.max_wr == init.attr.max_wr && attr.max_sge == init.attr.max_sge &&
	     !attr.srq_limit, "ibv_query_srq: %s", strerror(ret));
	wr.num_sge = init.attr.max_sge + 1;
	ret = ibv_post_srq_recv(srq, &wr, &bad);
	WANT(p, ret == EINVAL && bad == &wr, "too many SGEs: %s", strerror(ret));
	cut_sges(p->s, sge, 0, 64, 1);
	wr.num_sge = 1;
	while (!(ret = ibv_post_srq_recv(srq, &wr, &bad)) && ++n < 1000000)
		;
	WANT(p, ret == ENOMEM && n == attr.max_wr && bad == &wr, "it took %u of %u, then: %s", n,
	     attr.max_wr, strerror(ret));
	attr.srq_limit = attr.max_wr + 1;
	ret = ibv_modify_srq(srq, &attr, IBV_SRQ_LIMIT);
	WANT(p, ret == EINVAL, "a limit above the size: %s", strerror(ret));
	ret = ibv_destroy_srq(srq);
	WANT(p, !ret, "ibv_destroy_srq: %s", strerror(ret));
	TRY(p, side_reset_qp(p->s, SRQ(p->s)));
	ret = ibv_post_recv(p->s->qp[SRQ(p->s)], &wr, &bad);
	WANT(p, ret == EINVAL, "ibv_post_recv on a QP with an SRQ: %s", strerror(ret));
	return 0;
}
