/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vrdma-verify: what the files of cases share.  All of it belongs to the client. */
#ifndef CASES_H
#define CASES_H

#include "verify.h"

#define POLL_MS		20000
#define UD(s)		QP_UD((s)->num_qps)
#define UC(s)		QP_UC((s)->num_qps)
#define SRQ(s)		QP_SRQ((s)->num_qps)
#define SRQ2(s)		QP_SRQ2((s)->num_qps)
/* Returned by a case that needs a feature which the device lacks. */
#define SKIPPED		1

struct peer {
	struct side *s;
	int sock;
	uint64_t addr;
	uint32_t rkey, rkey2;
	int qp;				/* that each_size() uses */
	struct reply ep[MAX_QPS];
	char why[200];
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Stores the reason; returns @ret, or an errno if that is zero. */
int fail(struct peer *p, int ret, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define TRY(p, call) do {							\
	int ret_ = (call);							\
	if (ret_)								\
		return fail(p, ret_, "%s: %s (line %d)", #call, strerror(-ret_), __LINE__); \
} while (0)
#define WANT(p, cond, ...) do { if (!(cond)) return fail(p, 0, __VA_ARGS__); } while (0)

/* cases.c */
int request(struct peer *p, uint32_t op, int qp, uint64_t a, uint64_t b, uint64_t c,
	    struct reply *rep);
int connect_qp(struct peer *p, int i, uint8_t timeout, uint8_t retry, uint8_t rnr);
/* One work request over local [lo, lo + len) and remote offset ro. */
int post(struct peer *p, int i, enum ibv_wr_opcode op, uint64_t lo, uint64_t len, uint64_t ro,
	 int cuts, int flags, uint32_t imm);
int done(struct peer *p, int i, enum ibv_wc_status status, enum ibv_wc_opcode op);
/* Before an operation on [off, off + len) of the server's memory; with @check, after it. */
int guard_remote(struct peer *p, uint64_t off, uint64_t len, bool check);
int check_remote(struct peer *p, uint64_t off, uint64_t len, uint64_t seed);

/* All sizes and alignments, on the QP p->qp. */
int each_size(struct peer *p, int (*one)(struct peer *, uint64_t, uint64_t, uint64_t, int));
int one_write(struct peer *p, uint64_t len, uint64_t lo, uint64_t ro, int cuts);
int one_send_imm(struct peer *p, uint64_t len, uint64_t lo, uint64_t ro, int cuts);
int one_write_imm(struct peer *p, uint64_t len, uint64_t lo, uint64_t ro, int cuts);

/* cases_ud.c, cases_uc.c, cases_srq.c */
int case_ud(struct peer *p);
int case_ud_header(struct peer *p);
int case_uc_write(struct peer *p);
int case_uc_send(struct peer *p);
int case_uc_write_imm(struct peer *p);
int case_uc_lost(struct peer *p);
int case_srq_send(struct peer *p);
int case_srq_write_imm(struct peer *p);
int case_srq_shared(struct peer *p);
int case_srq_rnr(struct peer *p);
int case_srq_limit(struct peer *p);
int case_srq_error(struct peer *p);
int case_srq_qp_gone(struct peer *p);
int case_srq_limits(struct peer *p);

#endif /* CASES_H */
