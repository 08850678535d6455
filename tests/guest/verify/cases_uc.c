// SPDX-License-Identifier: GPL-2.0-or-later
/* vrdma-verify: the cases of unreliable connections. */
#include <errno.h>
#include <string.h>

#include "cases.h"

static int uc_sizes(struct peer *p, int (*one)(struct peer *, uint64_t, uint64_t, uint64_t, int))
{
	if (!p->s->has_uc)
		return SKIPPED;
	p->qp = UC(p->s);
	return each_size(p, one);
}

int case_uc_write(struct peer *p) { return uc_sizes(p, one_write); }
int case_uc_send(struct peer *p) { return uc_sizes(p, one_send_imm); }
int case_uc_write_imm(struct peer *p) { return uc_sizes(p, one_write_imm); }

/* A message that the responder refuses is lost, and the sender does not learn of it. */
int case_uc_lost(struct peer *p)
{
	uint32_t rkey;
	int uc = UC(p->s), ret;
	struct reply rep;

	if (!p->s->has_uc)
		return SKIPPED;
	TRY(p, connect_qp(p, uc, 14, 7, 7));
	TRY(p, request(p, REQ_FILL, 0, 0, 100, 5, NULL));
	rkey = p->rkey;
	p->rkey = rkey ^ 0x5a5a5a00;
	TRY(p, post(p, uc, IBV_WR_RDMA_WRITE, 200, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	p->rkey = rkey;
	TRY(p, done(p, uc, IBV_WC_SUCCESS, IBV_WC_RDMA_WRITE));
	TRY(p, post(p, uc, IBV_WR_SEND, 200, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, uc, IBV_WC_SUCCESS, IBV_WC_SEND));
	TRY(p, check_remote(p, 0, 100, 5));
	TRY(p, request(p, REQ_STATE, uc, 0, 0, 0, &rep));
	WANT(p, rep.value == IBV_QPS_RTS, "the responder went to state %lu", (long)rep.value);
	/* Both continue: the next message arrives. */
	TRY(p, request(p, REQ_RECV, uc, 0, 100, 1, NULL));
	pattern_fill(p->s->buf, 100, 6);
	TRY(p, post(p, uc, IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, uc, IBV_WC_SUCCESS, IBV_WC_SEND));
	TRY(p, request(p, REQ_POLL, uc, POLL_MS, 0, 0, &rep));
	WANT(p, rep.wc_status == 0 && rep.byte_len == 100, "receive: status %u, %u bytes",
	     rep.wc_status, rep.byte_len);
	TRY(p, check_remote(p, 0, 100, 6));
	ret = post(p, uc, IBV_WR_RDMA_READ, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0);
	WANT(p, ret == -EINVAL, "post of a READ: %s", strerror(-ret));
	return 0;
}
