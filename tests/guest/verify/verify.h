/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vrdma-verify: checks the data that RDMA operations move, on any verbs device.
 *
 * Two processes, usually in two guests.  The server owns passive memory and executes the
 * client's requests over a TCP connection (fill, check, post a receive, poll, ...); the
 * client runs the cases and prints TAP.  The program does not depend on virtio-rdma: it also
 * runs on Soft-RoCE, to check itself.
 */
#ifndef VERIFY_H
#define VERIFY_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_QPS		64
#define MIN_QPS		9
#define WR_DEPTH	256
#define BUF_SIZE	(66UL << 20)	/* 64 MiB and room around it */
#define GUARD		64		/* bytes checked on each side of a target */
#define UD_QKEY		0x11111111

/* The client's requests to the server; the reply is one struct reply. */
enum request_op {
	REQ_CONNECT,		/* a: qpn, b: psn, gid; reply: its own, address, rkey, vendor in value */
	REQ_RESET,		/* all QPs to RESET and back to INIT, not connected */
	REQ_FILL,		/* a: offset, b: length, c: seed */
	REQ_CHECK,		/* a: offset, b: length, c: seed; value: first bad offset */
	REQ_RECV,		/* qp; a: offset, b: length, c: SGEs to cut it into */
	REQ_POLL,		/* qp; a: timeout in ms, b: by ibv_start_poll(), of the UD QP;
				   reply: the completion */
	REQ_POLL_EVENT,		/* the same, sleeping on the completion channel */
	REQ_ARM,		/* qp; a: solicited only */
	REQ_SEND,		/* qp; a: offset, b: length, c: immediate */
	REQ_WAIT_BYTE,		/* a: offset, b: value, c: timeout ms: spin on memory */
	REQ_READ64,		/* a: offset; reply: value */
	REQ_WRITE64,		/* a: offset, b: value */
	REQ_ASYNC,		/* a: timeout ms; reply: event type in value */
	REQ_STATE,		/* qp; reply: state in value */
	REQ_DEREG,		/* deregisters the second region; */
	REQ_REREG,		/* registers it again; reply: addr, rkey */
	REQ_SRQ_ARM,		/* a: limit of the SRQ */
	REQ_SRQ_LIMIT,		/* reply: what is armed, in value */
	REQ_END,
};

struct request {
	uint32_t op;
	uint32_t qp;
	uint64_t a, b, c;
	union ibv_gid gid;
};

struct reply {
	int32_t error;			/* 0 or an errno */
	uint32_t qpn, psn, rkey, rkey2;
	uint64_t addr, value;
	union ibv_gid gid;
	uint32_t wc_status, wc_opcode, byte_len, imm, wc_flags, src_qp, sl;
};

/*
 * One side's verbs objects.  The last QPs are two of RC that share an SRQ, one of UC and one
 * of UD; the others are RC.  On a device without SRQs or UC these are RC as well, and their
 * cases are skipped.
 */
#define NUM_RC(n)	((n) - 4)
#define QP_SRQ(n)	((n) - 4)
#define QP_SRQ2(n)	((n) - 3)
#define QP_UC(n)	((n) - 2)
#define QP_UD(n)	((n) - 1)

struct side {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_mr *mr, *mr2;	/* all of buf; one page, for the invalid key cases */
	uint8_t *buf, *buf2;
	struct ibv_comp_channel *channel[MAX_QPS];
	struct ibv_cq *cq[MAX_QPS];
	struct ibv_cq_ex *ud_cq;	/* cq[] of the UD QP, or NULL if the device has only plain ones */
	struct ibv_qp *qp[MAX_QPS];
	struct ibv_srq *srq;		/* or NULL */
	bool has_uc;
	int num_qps;
	uint32_t max_inline;
	int gid_index;
	union ibv_gid gid;
	struct ibv_port_attr port;
	enum ibv_mtu mtu;
};

/* verbs.c */
int side_open(struct side *s, const char *device, int gid_index, int num_qps);
void side_close(struct side *s);
int side_reset_qp(struct side *s, int i);
int side_connect_qp(struct side *s, int i, uint32_t psn, uint32_t peer_qpn, uint32_t peer_psn,
		    const union ibv_gid *peer_gid, uint8_t timeout, uint8_t retry, uint8_t rnr_retry);
int side_post_recv(struct side *s, int i, uint64_t offset, uint64_t length, int cuts);
int side_poll(struct side *s, int i, int timeout_ms, struct ibv_wc *wc);
/* The UD QP's CQ, by ibv_start_poll(). */
int side_poll_extended(struct side *s, int timeout_ms, struct ibv_wc *wc);
int side_poll_event(struct side *s, int i, int timeout_ms, struct ibv_wc *wc);
void cut_sges(struct side *s, struct ibv_sge *sge, uint64_t offset, uint64_t length, int cuts);
bool is_ud(const struct side *s, int i);
bool is_uc(const struct side *s, int i);

/* The pattern depends on seed and position, so that shifted, torn or repeated data are detected. */
void pattern_fill(uint8_t *buf, uint64_t length, uint64_t seed);
/* Offset of the first byte that differs, or @length. */
uint64_t pattern_check(const uint8_t *buf, uint64_t length, uint64_t seed);

/* server.c */
int serve(struct side *s, int sock);

/* cases.c, with cases_ud.c, cases_uc.c and cases_srq.c */
int run_cases(struct side *s, int sock, const char *only);

int ask(int sock, const struct request *req, struct reply *rep);

#endif /* VERIFY_H */
