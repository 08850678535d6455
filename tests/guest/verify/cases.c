// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vrdma-verify: the active side's cases.  Each connects the QPs that it uses, so a failing
 * case does not affect the next.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

static const uint64_t sizes[] = {
	0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 1000, 4095, 4096, 4097, 65535, 65536,
	65537, 1 << 20, (1 << 20) + 13, 64 << 20,
};
static const unsigned int shifts[][2] = { { 0, 0 }, { 1, 0 }, { 13, 4093 }, { 4090, 7 } };

int fail(struct peer *p, int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->why, sizeof(p->why), fmt, ap);
	va_end(ap);
	return ret ? ret : -EBADMSG;
}

int request(struct peer *p, uint32_t op, int qp, uint64_t a, uint64_t b, uint64_t c,
	    struct reply *rep)
{
	struct request req = { .op = op, .qp = qp, .a = a, .b = b, .c = c };
	struct reply none;

	return ask(p->sock, &req, rep ? rep : &none);
}

int connect_qp(struct peer *p, int i, uint8_t timeout, uint8_t retry, uint8_t rnr)
{
	struct request req = {
		.op = REQ_CONNECT, .qp = i, .a = p->s->qp[i]->qp_num, .b = 0x2000 + i,
		.gid = p->s->gid,
	};
	int ret = side_reset_qp(p->s, i);

	if (!ret)
		ret = ask(p->sock, &req, &p->ep[i]);
	if (ret)
		return ret;
	p->addr = p->ep[i].addr;
	p->rkey = p->ep[i].rkey;
	p->rkey2 = p->ep[i].rkey2;
	return side_connect_qp(p->s, i, 0x2000 + i, p->ep[i].qpn, p->ep[i].psn, &p->ep[i].gid,
			       timeout, retry, rnr);
}

/* One RC work request over local [lo, lo + len) and remote offset ro. */
int post(struct peer *p, int i, enum ibv_wr_opcode op, uint64_t lo, uint64_t len, uint64_t ro,
	 int cuts, int flags, uint32_t imm)
{
	struct ibv_sge sge[4];
	struct ibv_send_wr wr = {
		.wr_id = 0xc11e47 + len, .sg_list = sge, .num_sge = cuts, .opcode = op,
		.send_flags = flags, .imm_data = htobe32(imm),
		.wr.rdma = { .remote_addr = p->addr + ro, .rkey = p->rkey },
	}, *bad;

	cut_sges(p->s, sge, lo, len, cuts);
	return -ibv_post_send(p->s->qp[i], &wr, &bad);
}

int done(struct peer *p, int i, enum ibv_wc_status status, enum ibv_wc_opcode op)
{
	struct ibv_wc wc;
	int ret = side_poll(p->s, i, POLL_MS, &wc);

	if (ret)
		return fail(p, ret, "no completion on QP %d: %s", i, strerror(-ret));
	WANT(p, wc.status == status, "status %s instead of %s", ibv_wc_status_str(wc.status),
	     ibv_wc_status_str(status));
	WANT(p, status || wc.opcode == op, "completion opcode %d instead of %d", wc.opcode, op);
	WANT(p, wc.qp_num == p->s->qp[i]->qp_num, "completion of QP %u", wc.qp_num);
	return 0;
}

int check_remote(struct peer *p, uint64_t off, uint64_t len, uint64_t seed)
{
	struct reply rep;

	TRY(p, request(p, REQ_CHECK, 0, off, len, seed, &rep));
	WANT(p, rep.value == len, "remote data differ at byte %lu of %lu", (long)rep.value, (long)len);
	return 0;
}

/* The target is surrounded by a pattern, which must stay unchanged. */
int guard_remote(struct peer *p, uint64_t off, uint64_t len, bool check)
{
	if (!check) {
		TRY(p, request(p, REQ_FILL, 0, off, len, 999, NULL));
		TRY(p, request(p, REQ_FILL, 0, off - GUARD, GUARD, 77, NULL));
		TRY(p, request(p, REQ_FILL, 0, off + len, GUARD, 78, NULL));
		return 0;
	}
	if (check_remote(p, off - GUARD, GUARD, 77) || check_remote(p, off + len, GUARD, 78))
		return fail(p, 0, "bytes beside the target changed");
	return 0;
}

int each_size(struct peer *p, int (*one)(struct peer *, uint64_t, uint64_t, uint64_t, int))
{
	TRY(p, connect_qp(p, p->qp, 14, 7, 7));
	/* A port may allow less. */
	for (unsigned int i = 0; i < COUNT(sizes) && sizes[i] <= p->s->port.max_msg_sz; i++)
		for (unsigned int k = 0; k < COUNT(shifts); k++) {
			uint64_t lo = 8192 + shifts[k][0], ro = 8192 + shifts[k][1];
			int cuts = sizes[i] < 8 ? 1 : 1 + k % 4, ret;
			char why[sizeof(p->why)];

			ret = one(p, sizes[i], lo, ro, cuts);
			if (!ret)
				continue;
			memcpy(why, p->why, sizeof(why));
			return fail(p, ret, "%lu bytes, offsets %lu/%lu, %d SGEs: %.120s",
				    (long)sizes[i], (long)lo, (long)ro, cuts, why);
		}
	return 0;
}

int one_write(struct peer *p, uint64_t len, uint64_t lo, uint64_t ro, int cuts)
{
	TRY(p, guard_remote(p, ro, len, false));
	pattern_fill(p->s->buf + lo, len, len + ro);
	TRY(p, post(p, p->qp, IBV_WR_RDMA_WRITE, lo, len, ro, cuts, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, p->qp, IBV_WC_SUCCESS, IBV_WC_RDMA_WRITE));
	TRY(p, check_remote(p, ro, len, len + ro));
	return guard_remote(p, ro, len, true);
}

static int one_read(struct peer *p, uint64_t len, uint64_t lo, uint64_t ro, int cuts)
{
	uint8_t *buf = p->s->buf;

	TRY(p, request(p, REQ_FILL, 0, ro, len, len + lo, NULL));
	memset(buf + lo, 0xee, len);
	pattern_fill(buf + lo - GUARD, GUARD, 5);
	pattern_fill(buf + lo + len, GUARD, 6);
	TRY(p, post(p, p->qp, IBV_WR_RDMA_READ, lo, len, ro, cuts, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, p->qp, IBV_WC_SUCCESS, IBV_WC_RDMA_READ));
	WANT(p, pattern_check(buf + lo, len, len + lo) == len, "data differ at byte %lu",
	     (long)pattern_check(buf + lo, len, len + lo));
	WANT(p, pattern_check(buf + lo - GUARD, GUARD, 5) == GUARD &&
	     pattern_check(buf + lo + len, GUARD, 6) == GUARD, "bytes beside the target changed");
	return 0;
}

static int one_message(struct peer *p, uint64_t len, uint64_t lo, uint64_t ro, int cuts,
		       enum ibv_wr_opcode op)
{
	bool imm = op != IBV_WR_SEND, write = op == IBV_WR_RDMA_WRITE_WITH_IMM;
	struct reply rep;

	TRY(p, guard_remote(p, ro, len, false));
	pattern_fill(p->s->buf + lo, len, len + lo);
	TRY(p, request(p, REQ_RECV, p->qp, write ? 64 : ro, write ? 1 : len, len < 8 ? 1 : 5 - cuts,
		       NULL));
	TRY(p, post(p, p->qp, op, lo, len, ro, cuts, IBV_SEND_SIGNALED, 0x12345678 + len));
	TRY(p, done(p, p->qp, IBV_WC_SUCCESS, write ? IBV_WC_RDMA_WRITE : IBV_WC_SEND));
	TRY(p, request(p, REQ_POLL, p->qp, POLL_MS, 0, 0, &rep));
	WANT(p, rep.wc_status == IBV_WC_SUCCESS, "receive: %s", ibv_wc_status_str(rep.wc_status));
	WANT(p, rep.wc_opcode == (write ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV),
	     "receive opcode %u", rep.wc_opcode);
	WANT(p, rep.byte_len == len, "byte_len %u", rep.byte_len);
	WANT(p, !imm || rep.imm == (uint32_t)(0x12345678 + len), "immediate data %x", rep.imm);
	TRY(p, check_remote(p, ro, len, len + lo));
	return guard_remote(p, ro, len, true);
}

static int one_send(struct peer *p, uint64_t len, uint64_t lo, uint64_t ro, int cuts)
{
	return one_message(p, len, lo, ro, cuts, IBV_WR_SEND);
}

int one_send_imm(struct peer *p, uint64_t len, uint64_t lo, uint64_t ro, int cuts)
{
	return one_message(p, len, lo, ro, cuts, IBV_WR_SEND_WITH_IMM);
}

int one_write_imm(struct peer *p, uint64_t len, uint64_t lo, uint64_t ro, int cuts)
{
	return one_message(p, len, lo, ro, cuts, IBV_WR_RDMA_WRITE_WITH_IMM);
}

static int case_write(struct peer *p) { return each_size(p, one_write); }
static int case_read(struct peer *p) { return each_size(p, one_read); }
static int case_send(struct peer *p) { return each_size(p, one_send); }
static int case_send_imm(struct peer *p) { return each_size(p, one_send_imm); }
static int case_write_imm(struct peer *p) { return each_size(p, one_write_imm); }

static int case_inline(struct peer *p)
{
	TRY(p, connect_qp(p, 0, 14, 7, 7));
	for (uint64_t len = 0; len <= p->s->max_inline; len++) {
		int cuts = len < 8 ? 1 : 1 + len % 4;

		TRY(p, guard_remote(p, 8192, len, false));
		pattern_fill(p->s->buf, len, len);
		TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, len, 8192, cuts,
			    IBV_SEND_SIGNALED | IBV_SEND_INLINE, 0));
		/* The buffer belongs to the program again as soon as post returns. */
		memset(p->s->buf, 0xff, len);
		TRY(p, done(p, 0, IBV_WC_SUCCESS, IBV_WC_RDMA_WRITE));
		TRY(p, check_remote(p, 8192, len, len));
		TRY(p, guard_remote(p, 8192, len, true));
	}
	return 0;
}

static int atomic(struct peer *p, enum ibv_wr_opcode op, uint64_t compare_add, uint64_t swap,
		  uint64_t *old)
{
	struct ibv_sge sge = { (uintptr_t)p->s->buf, 8, p->s->mr->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge, .num_sge = 1, .opcode = op, .send_flags = IBV_SEND_SIGNALED,
		.wr.atomic = { .remote_addr = p->addr + 64, .rkey = p->rkey,
			       .compare_add = compare_add, .swap = swap },
	}, *bad;

	TRY(p, -ibv_post_send(p->s->qp[0], &wr, &bad));
	TRY(p, done(p, 0, IBV_WC_SUCCESS, op == IBV_WR_ATOMIC_CMP_AND_SWP ? IBV_WC_COMP_SWAP :
		    IBV_WC_FETCH_ADD));
	memcpy(old, p->s->buf, 8);
	return 0;
}

static int case_atomic(struct peer *p)
{
	uint64_t old, sum = 0x1122334455667788ULL;
	struct ibv_device_attr attr;
	struct reply rep;

	TRY(p, -ibv_query_device(p->s->ctx, &attr));
	if (attr.atomic_cap == IBV_ATOMIC_NONE)
		return SKIPPED;
	TRY(p, connect_qp(p, 0, 14, 7, 7));
	TRY(p, request(p, REQ_WRITE64, 0, 64, sum, 0, NULL));
	for (uint64_t i = 1; i < 200; i++) {
		uint64_t add = i * 0x9e3779b97f4a7c15ULL;

		TRY(p, atomic(p, IBV_WR_ATOMIC_FETCH_AND_ADD, add, 0, &old));
		WANT(p, old == sum, "fetch-and-add returned %lx instead of %lx", old, sum);
		sum += add;
	}
	TRY(p, atomic(p, IBV_WR_ATOMIC_CMP_AND_SWP, sum + 1, 42, &old));
	WANT(p, old == sum, "compare-and-swap (no match) returned %lx", old);
	TRY(p, atomic(p, IBV_WR_ATOMIC_CMP_AND_SWP, sum, 42, &old));
	WANT(p, old == sum, "compare-and-swap returned %lx", old);
	TRY(p, request(p, REQ_READ64, 0, 64, 0, 0, &rep));
	WANT(p, rep.value == 42, "memory holds %lx after the swap", (long)rep.value);
	return 0;
}

static int case_unsignaled(struct peer *p)
{
	TRY(p, connect_qp(p, 0, 14, 7, 7));
	TRY(p, request(p, REQ_FILL, 0, 0, 4096 * 8, 999, NULL));
	pattern_fill(p->s->buf, 4096 * 8, 3);
	for (int i = 0; i < 4096; i++) {
		bool signaled = i % 64 == 63;

		TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, i * 8, 8, i * 8, 1,
			    (signaled ? IBV_SEND_SIGNALED : 0) | (i % 3 ? 0 : IBV_SEND_FENCE), 0));
		if (signaled)
			TRY(p, done(p, 0, IBV_WC_SUCCESS, IBV_WC_RDMA_WRITE));
	}
	return check_remote(p, 0, 4096 * 8, 3);
}

static int case_many_qps(struct peer *p)
{
	int n = NUM_RC(p->s->num_qps);

	for (int i = 0; i < n; i++)
		TRY(p, connect_qp(p, i, 14, 7, 7));
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < n; i++) {
			uint64_t off = (uint64_t)i * 20000;

			pattern_fill(p->s->buf + off, 20000, i + round * 100);
			TRY(p, post(p, i, IBV_WR_RDMA_WRITE, off, 20000, off, 2, IBV_SEND_SIGNALED, 0));
		}
		for (int i = 0; i < n; i++)
			TRY(p, done(p, i, IBV_WC_SUCCESS, IBV_WC_RDMA_WRITE));
		for (int i = 0; i < n; i++)
			TRY(p, check_remote(p, (uint64_t)i * 20000, 20000, i + round * 100));
	}
	return 0;
}

struct worker {
	struct peer p;
	int qp, ret;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t off = (uint64_t)w->qp * 100000;

	for (int i = 0; i < 500 && !w->ret; i++) {
		uint64_t len = 1 + (i * 7919) % 90000;
		struct side *s = w->p.s;

		pattern_fill(s->buf + off, len, i);
		w->ret = post(&w->p, w->qp, IBV_WR_RDMA_WRITE, off, len, off, 1, IBV_SEND_SIGNALED, 0);
		if (!w->ret)
			w->ret = done(&w->p, w->qp, IBV_WC_SUCCESS, IBV_WC_RDMA_WRITE);
		memset(s->buf + off, 0, len);
		if (!w->ret)
			w->ret = post(&w->p, w->qp, IBV_WR_RDMA_READ, off, len, off, 1,
				      IBV_SEND_SIGNALED, 0);
		if (!w->ret)
			w->ret = done(&w->p, w->qp, IBV_WC_SUCCESS, IBV_WC_RDMA_READ);
		if (!w->ret && pattern_check(s->buf + off, len, i) != len)
			w->ret = fail(&w->p, 0, "thread %d, round %d: data differ", w->qp, i);
	}
	return NULL;
}

static int case_threads(struct peer *p)
{
	struct worker w[4];
	pthread_t thread[4];

	for (int i = 0; i < 4; i++)
		TRY(p, connect_qp(p, i, 14, 7, 7));
	for (int i = 0; i < 4; i++) {
		w[i] = (struct worker){ .p = *p, .qp = i };
		if (pthread_create(&thread[i], NULL, work, &w[i]))
			return fail(p, 0, "no thread");
	}
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < 4; i++)
		if (w[i].ret)
			return fail(p, w[i].ret, "%.150s", w[i].p.why);
	return 0;
}

/* Both sides sleep between messages. */
static int case_events(struct peer *p)
{
	struct ibv_wc wc;
	struct reply rep;

	TRY(p, connect_qp(p, 0, 14, 7, 7));
	for (int i = 0; i < 200; i++) {
		TRY(p, request(p, REQ_RECV, 0, 4096, 100, 1, NULL));
		TRY(p, request(p, REQ_ARM, 0, 0, 0, 0, NULL));
		TRY(p, -ibv_req_notify_cq(p->s->cq[0], 0));
		pattern_fill(p->s->buf, 100, i);
		TRY(p, post(p, 0, IBV_WR_SEND_WITH_IMM, 0, 100, 0, 1, IBV_SEND_SIGNALED, i));
		TRY(p, side_poll_event(p->s, 0, POLL_MS, &wc));
		WANT(p, wc.status == IBV_WC_SUCCESS, "send: %s", ibv_wc_status_str(wc.status));
		TRY(p, request(p, REQ_POLL_EVENT, 0, POLL_MS, 0, 0, &rep));
		WANT(p, rep.wc_status == 0 && rep.imm == (uint32_t)i, "message %d: status %u, imm %u", i,
		     rep.wc_status, rep.imm);
		TRY(p, check_remote(p, 4096, 100, i));
	}
	return 0;
}

/* Armed for solicited messages: a plain one raises no event, a solicited one does. */
static int case_solicited(struct peer *p)
{
	struct reply rep;

	TRY(p, connect_qp(p, 0, 14, 7, 7));
	for (int i = 0; i < 2; i++)
		TRY(p, request(p, REQ_RECV, 0, 4096, 100, 1, NULL));
	TRY(p, request(p, REQ_ARM, 0, 1, 0, 0, NULL));
	TRY(p, post(p, 0, IBV_WR_SEND, 0, 10, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, 0, IBV_WC_SUCCESS, IBV_WC_SEND));
	WANT(p, request(p, REQ_POLL_EVENT, 0, 300, 0, 0, &rep) == -ETIMEDOUT,
	     "an unsolicited message made an event");
	TRY(p, post(p, 0, IBV_WR_SEND, 0, 20, 0, 1, IBV_SEND_SIGNALED | IBV_SEND_SOLICITED, 0));
	TRY(p, done(p, 0, IBV_WC_SUCCESS, IBV_WC_SEND));
	TRY(p, request(p, REQ_POLL_EVENT, 0, POLL_MS, 0, 0, &rep));
	WANT(p, rep.byte_len == 10, "first message of %u bytes", rep.byte_len);
	TRY(p, request(p, REQ_POLL, 0, POLL_MS, 0, 0, &rep));
	WANT(p, rep.byte_len == 20, "second message of %u bytes", rep.byte_len);
	return 0;
}

/* The last byte of a WRITE arrives last. */
static int case_last_byte(struct peer *p)
{
	uint64_t lengths[] = { 2, 3, 9, 17, 33, 64, 65, 100, 1000, 4097, 30000 };

	TRY(p, connect_qp(p, 0, 14, 7, 7));
	for (int i = 0; i < 220; i++) {
		uint64_t len = lengths[i % COUNT(lengths)], off = 4096 + i % 64;
		uint8_t last;

		pattern_fill(p->s->buf, len, i);
		last = p->s->buf[len - 1];
		TRY(p, request(p, REQ_FILL, 0, off, len, 12345 + i, NULL));
		TRY(p, request(p, REQ_WRITE64, 0, off + len - 1, (uint8_t)~last, 0, NULL));
		TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, len, off, 1, IBV_SEND_SIGNALED, 0));
		TRY(p, request(p, REQ_WAIT_BYTE, 0, off + len - 1, last, POLL_MS, NULL));
		TRY(p, check_remote(p, off, len, i));
		TRY(p, done(p, 0, IBV_WC_SUCCESS, IBV_WC_RDMA_WRITE));
	}
	return 0;
}

/* ---- errors -------------------------------------------------------------- */

static int flushed(struct peer *p, int qp)
{
	struct reply rep;

	TRY(p, request(p, REQ_POLL, qp, POLL_MS, 0, 0, &rep));
	WANT(p, rep.wc_status == IBV_WC_WR_FLUSH_ERR, "receive: %s instead of a flush",
	     ibv_wc_status_str(rep.wc_status));
	return 0;
}

static int case_bad_rkey(struct peer *p)
{
	uint32_t rkey;
	struct reply rep;

	TRY(p, connect_qp(p, 0, 14, 7, 7));
	TRY(p, request(p, REQ_RECV, 0, 0, 8, 1, NULL));
	rkey = p->rkey;
	p->rkey = rkey ^ 0x5a5a5a00;
	TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, 100, 0, 1, 0, 0));
	p->rkey = rkey;
	TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, 0, IBV_WC_REM_ACCESS_ERR, 0));
	TRY(p, done(p, 0, IBV_WC_WR_FLUSH_ERR, 0));
	TRY(p, request(p, REQ_ASYNC, 0, POLL_MS, 0, 0, &rep));
	WANT(p, rep.value == IBV_EVENT_QP_ACCESS_ERR || rep.value == IBV_EVENT_QP_FATAL,
	     "event %lu at the responder", (long)rep.value);
	return flushed(p, 0);
}

static int case_out_of_bounds(struct peer *p)
{
	struct reply rep;

	TRY(p, connect_qp(p, 0, 14, 7, 7));
	TRY(p, request(p, REQ_FILL, 0, BUF_SIZE - 100, 100, 4, NULL));
	TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, 101, BUF_SIZE - 100, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, 0, IBV_WC_REM_ACCESS_ERR, 0));
	TRY(p, request(p, REQ_ASYNC, 0, POLL_MS, 0, 0, &rep));
	return check_remote(p, BUF_SIZE - 100, 100, 4);
}

static int case_dead_mr(struct peer *p)
{
	uint64_t addr = p->addr;
	struct reply rep;

	TRY(p, connect_qp(p, 0, 14, 7, 7));
	TRY(p, request(p, REQ_REREG, 0, 0, 0, 0, &rep));
	p->addr = rep.addr;
	p->rkey = rep.rkey2;
	TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, 0, IBV_WC_SUCCESS, IBV_WC_RDMA_WRITE));
	TRY(p, request(p, REQ_DEREG, 0, 0, 0, 0, NULL));
	TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, 0, IBV_WC_REM_ACCESS_ERR, 0));
	TRY(p, request(p, REQ_ASYNC, 0, POLL_MS, 0, 0, &rep));
	TRY(p, request(p, REQ_REREG, 0, 0, 0, 0, &rep));
	p->addr = addr;
	return 0;
}

static int case_bad_lkey(struct peer *p)
{
	uint32_t lkey = p->s->mr->lkey;
	struct reply rep;

	TRY(p, connect_qp(p, 0, 14, 7, 7));
	p->s->mr->lkey = lkey ^ 0x77777700;
	TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, 100, 0, 1, 0, 0));
	p->s->mr->lkey = lkey;
	TRY(p, done(p, 0, IBV_WC_LOC_PROT_ERR, 0));
	TRY(p, request(p, REQ_STATE, 0, 0, 0, 0, &rep));
	WANT(p, rep.value == IBV_QPS_RTS, "the responder went to state %lu", (long)rep.value);
	return 0;
}

static int case_rnr(struct peer *p)
{
	struct reply rep;

	TRY(p, connect_qp(p, 0, 14, 7, 1));
	TRY(p, post(p, 0, IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, 0, IBV_WC_RNR_RETRY_EXC_ERR, 0));
	TRY(p, request(p, REQ_STATE, 0, 0, 0, 0, &rep));
	WANT(p, rep.value == IBV_QPS_RTS, "the responder went to state %lu", (long)rep.value);
	/* No time-out: the message waits for the receive. */
	TRY(p, connect_qp(p, 0, 14, 7, 7));
	TRY(p, post(p, 0, IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, request(p, REQ_RECV, 0, 0, 100, 1, NULL));
	TRY(p, done(p, 0, IBV_WC_SUCCESS, IBV_WC_SEND));
	return 0;
}

static int case_too_long(struct peer *p)
{
	struct reply rep;

	TRY(p, connect_qp(p, 0, 14, 7, 7));
	TRY(p, request(p, REQ_RECV, 0, 0, 99, 1, NULL));
	TRY(p, post(p, 0, IBV_WR_SEND, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, done(p, 0, IBV_WC_REM_INV_REQ_ERR, 0));
	TRY(p, request(p, REQ_POLL, 0, POLL_MS, 0, 0, &rep));
	WANT(p, rep.wc_status == IBV_WC_LOC_LEN_ERR, "receive: %s", ibv_wc_status_str(rep.wc_status));
	return 0;
}

/*
 * The requester's own error.  The SGEs lie outside the region as well, for the port allows
 * more than the region has; the length is checked first.
 */
static int case_max_msg_sz(struct peer *p)
{
	uint32_t part = p->s->port.max_msg_sz / 4 + 1;
	struct ibv_sge sge[4];
	struct ibv_send_wr wr = {
		.sg_list = sge, .num_sge = 4, .send_flags = IBV_SEND_SIGNALED,
	}, *bad;
	static const enum ibv_wr_opcode ops[] = { IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_SEND };
	struct reply rep;

	for (int i = 0; i < 4; i++)
		sge[i] = (struct ibv_sge){ (uintptr_t)p->s->buf, part, p->s->mr->lkey };
	for (unsigned int i = 0; i < COUNT(ops); i++) {
		TRY(p, connect_qp(p, 0, 14, 7, 7));
		TRY(p, request(p, REQ_RECV, 0, 0, 8, 1, NULL));
		wr.opcode = ops[i];
		wr.wr.rdma.remote_addr = p->addr;
		wr.wr.rdma.rkey = p->rkey;
		TRY(p, -ibv_post_send(p->s->qp[0], &wr, &bad));
		TRY(p, done(p, 0, IBV_WC_LOC_LEN_ERR, 0));
		TRY(p, request(p, REQ_STATE, 0, 0, 0, 0, &rep));
		WANT(p, rep.value == IBV_QPS_RTS, "the responder is in state %lu", (long)rep.value);
	}
	return 0;
}

static int case_absent(struct peer *p)
{
	TRY(p, connect_qp(p, 0, 10, 3, 7));
	TRY(p, request(p, REQ_RESET, 0, 0, 0, 0, NULL));
	TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	return done(p, 0, IBV_WC_RETRY_EXC_ERR, 0);
}

static int case_flush(struct peer *p)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	struct ibv_wc wc;

	TRY(p, connect_qp(p, 0, 14, 7, 7));
	for (int i = 0; i < 10; i++)
		TRY(p, side_post_recv(p->s, 0, 0, 100, 1));
	TRY(p, -ibv_modify_qp(p->s->qp[0], &attr, IBV_QP_STATE));
	/* Work posted in ERR is accepted, and flushed too. */
	TRY(p, post(p, 0, IBV_WR_RDMA_WRITE, 0, 100, 0, 1, IBV_SEND_SIGNALED, 0));
	TRY(p, side_post_recv(p->s, 0, 0, 100, 1));
	for (int i = 0; i < 12; i++) {
		TRY(p, side_poll(p->s, 0, POLL_MS, &wc));
		WANT(p, wc.status == IBV_WC_WR_FLUSH_ERR, "%s instead of a flush",
		     ibv_wc_status_str(wc.status));
	}
	return 0;
}

static int case_post_limits(struct peer *p)
{
	int n = 0, ret;

	TRY(p, side_reset_qp(p->s, 0));
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };
	TRY(p, -ibv_modify_qp(p->s->qp[0], &attr, IBV_QP_STATE));
	ret = post(p, 0, IBV_WR_RDMA_WRITE, 0, 8, 0, 1, 0, 0);
	WANT(p, ret == -EINVAL, "post in RESET: %s", strerror(-ret));
	TRY(p, side_reset_qp(p->s, 0));
	do {
		ret = side_post_recv(p->s, 0, 0, 8, 1);
	} while (!ret && ++n < 1000000);
	WANT(p, ret == -ENOMEM && n >= 256, "the receive queue took %d, then: %s", n, strerror(-ret));
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct peer *p);
} cases[] = {
	{ "RDMA WRITE, 0 B to 64 MiB, unaligned, 1-4 SGEs", case_write },
	{ "RDMA READ, 0 B to 64 MiB, unaligned, 1-4 SGEs", case_read },
	{ "SEND, 0 B to 64 MiB, unaligned, 1-4 SGEs on both sides", case_send },
	{ "SEND with immediate, all sizes", case_send_imm },
	{ "RDMA WRITE with immediate, all sizes", case_write_imm },
	{ "inline, every length", case_inline },
	{ "compare-and-swap, fetch-and-add", case_atomic },
	{ "unsignaled and fenced work requests", case_unsignaled },
	{ "many QPs at once", case_many_qps },
	{ "four threads", case_threads },
	{ "completion events on both sides", case_events },
	{ "solicited events", case_solicited },
	{ "the last byte of a WRITE comes last", case_last_byte },
	{ "UD, 0 B to MTU, wrong Q_Key dropped", case_ud },
	{ "UD: the type of the network header, both ways of polling", case_ud_header },
	{ "UC: RDMA WRITE, all sizes", case_uc_write },
	{ "UC: SEND with immediate, all sizes", case_uc_send },
	{ "UC: RDMA WRITE with immediate, all sizes", case_uc_write_imm },
	{ "UC: lost without a word; no READ", case_uc_lost },
	{ "SRQ: SEND with immediate, all sizes", case_srq_send },
	{ "SRQ: RDMA WRITE with immediate, all sizes", case_srq_write_imm },
	{ "SRQ: two QPs, four times around", case_srq_shared },
	{ "SRQ: empty, two senders wait; RNR_RETRY_EXC_ERR", case_srq_rnr },
	{ "SRQ: the limit event, once", case_srq_limit },
	{ "SRQ: a QP fails: LAST_WQE_REACHED, no flush", case_srq_error },
	{ "SRQ: a receive outlives its QP, not its SRQ", case_srq_qp_gone },
	{ "SRQ: sizes, EBUSY, ENOMEM, EINVAL", case_srq_limits },
	{ "unknown rkey: REM_ACCESS_ERR, flush, event", case_bad_rkey },
	{ "beyond the end of a region: nothing moved", case_out_of_bounds },
	{ "deregistered region: REM_ACCESS_ERR", case_dead_mr },
	{ "unknown lkey: LOC_PROT_ERR, responder untouched", case_bad_lkey },
	{ "no receive: RNR_RETRY_EXC_ERR; rnr_retry 7 waits", case_rnr },
	{ "SEND longer than the receive", case_too_long },
	{ "longer than max_msg_sz: LOC_LEN_ERR, responder untouched", case_max_msg_sz },
	{ "peer gone: RETRY_EXC_ERR", case_absent },
	{ "ERR flushes what is and what will be posted", case_flush },
	{ "post in RESET: EINVAL; full queue: ENOMEM", case_post_limits },
};

int run_cases(struct side *s, int sock, const char *only)
{
	static struct peer p;
	int failed = 0, n = 0;

	p.s = s;
	p.sock = sock;
	for (unsigned int i = 0; i < COUNT(cases); i++) {
		int ret;

		if (only && !strstr(cases[i].name, only))
			continue;
		p.why[0] = 0;
		p.qp = 0;
		ret = cases[i].run(&p);
		if (ret == SKIPPED) {
			printf("ok %d - %s # SKIP the device does not have it\n", ++n, cases[i].name);
			continue;
		}
		printf("%sok %d - %s\n", ret ? "not " : "", ++n, cases[i].name);
		if (ret) {
			printf("# %s\n", p.why);
			failed++;
		}
		fflush(stdout);
		if (ret == -EPIPE)
			break;
	}
	printf("1..%d\n", n);
	request(&p, REQ_END, 0, 0, 0, 0, NULL);
	return failed || !n ? 1 : 0;
}
