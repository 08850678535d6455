// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vrdma-verify: the passive side.  One request at a time, in one thread.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "verify.h"

static void put_wc(struct reply *rep, const struct ibv_wc *wc)
{
	rep->wc_status = wc->status;
	rep->wc_opcode = wc->opcode;
	rep->byte_len = wc->byte_len;
	rep->wc_flags = wc->wc_flags;
	rep->imm = wc->wc_flags & IBV_WC_WITH_IMM ? be32toh(wc->imm_data) : 0;
	rep->src_qp = wc->src_qp;
	rep->sl = wc->sl;
	rep->value = wc->wr_id;
}

static int wait_byte(volatile uint8_t *where, uint8_t value, uint64_t timeout_ms)
{
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		for (int i = 0; i < 10000; i++)
			if (*where == value) {
				__atomic_thread_fence(__ATOMIC_ACQUIRE);
				return 0;
			}
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - start.tv_sec) * 1000ULL > timeout_ms)
			return -ETIMEDOUT;
	}
}

static int wait_async(struct side *s, uint64_t timeout_ms, struct reply *rep)
{
	struct pollfd pfd = { .fd = s->ctx->async_fd, .events = POLLIN };
	struct ibv_async_event event;

	if (poll(&pfd, 1, timeout_ms) <= 0)
		return -ETIMEDOUT;
	if (ibv_get_async_event(s->ctx, &event))
		return -errno;
	rep->value = event.event_type;
	ibv_ack_async_event(&event);
	return 0;
}

static int send_back(struct side *s, const struct request *req)
{
	struct ibv_sge sge;
	struct ibv_send_wr wr = {
		.wr_id = 0x5e4d, .sg_list = &sge, .num_sge = 1, .send_flags = IBV_SEND_SIGNALED,
		.opcode = IBV_WR_SEND_WITH_IMM, .imm_data = htobe32(req->c),
	}, *bad;

	cut_sges(s, &sge, req->a, req->b, 1);
	return -ibv_post_send(s->qp[req->qp], &wr, &bad);
}

static int handle(struct side *s, const struct request *req, struct reply *rep)
{
	int all = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE |
		  IBV_ACCESS_REMOTE_ATOMIC;
	struct ibv_qp_init_attr init;
	struct ibv_srq_attr srq = { 0 };
	struct ibv_device_attr dev;
	struct ibv_qp_attr attr;
	struct ibv_wc wc;
	int ret;

	if (req->qp >= (uint32_t)s->num_qps)
		return -EINVAL;
	switch (req->op) {
	case REQ_CONNECT:
		rep->qpn = s->qp[req->qp]->qp_num;
		rep->psn = 0x1000 + req->qp;
		rep->gid = s->gid;
		rep->addr = (uintptr_t)s->buf;
		rep->rkey = s->mr->rkey;
		rep->rkey2 = s->mr2->rkey;
		rep->value = ibv_query_device(s->ctx, &dev) ? 0 : dev.vendor_id;
		ret = side_reset_qp(s, req->qp);
		return ret ? ret : side_connect_qp(s, req->qp, rep->psn, req->a, req->b, &req->gid,
						   14, 7, 7);
	case REQ_RESET:
		return side_reset_qp(s, req->qp);
	case REQ_FILL:
		if (req->a + req->b > BUF_SIZE)
			return -EINVAL;
		pattern_fill(s->buf + req->a, req->b, req->c);
		return 0;
	case REQ_CHECK:
		if (req->a + req->b > BUF_SIZE)
			return -EINVAL;
		rep->value = pattern_check(s->buf + req->a, req->b, req->c);
		return 0;
	case REQ_RECV:
		return side_post_recv(s, req->qp, req->a, req->b, req->c);
	case REQ_POLL:
	case REQ_POLL_EVENT:
		if (req->op == REQ_POLL_EVENT)
			ret = side_poll_event(s, req->qp, req->a, &wc);
		else if (req->b)
			ret = side_poll_extended(s, req->a, &wc);
		else
			ret = side_poll(s, req->qp, req->a, &wc);
		if (!ret)
			put_wc(rep, &wc);
		return ret;
	case REQ_ARM:
		return -ibv_req_notify_cq(s->cq[req->qp], req->a);
	case REQ_SEND:
		return send_back(s, req);
	case REQ_WAIT_BYTE:
		return wait_byte(s->buf + req->a, req->b, req->c);
	case REQ_READ64:
		memcpy(&rep->value, s->buf + req->a, 8);
		return 0;
	case REQ_WRITE64:
		memcpy(s->buf + req->a, &req->b, 8);
		return 0;
	case REQ_ASYNC:
		return wait_async(s, req->a, rep);
	case REQ_STATE:
		ret = ibv_query_qp(s->qp[req->qp], &attr, IBV_QP_STATE, &init);
		rep->value = attr.qp_state;
		return -ret;
	case REQ_DEREG:
		ret = ibv_dereg_mr(s->mr2);
		s->mr2 = NULL;
		return -ret;
	case REQ_REREG:
		if (!s->mr2)
			s->mr2 = ibv_reg_mr(s->pd, s->buf2, 4096, all);
		if (!s->mr2)
			return -errno;
		rep->addr = (uintptr_t)s->buf2;
		rep->rkey2 = s->mr2->rkey;
		return 0;
	case REQ_SRQ_ARM:
		srq.srq_limit = req->a;
		return s->srq ? -ibv_modify_srq(s->srq, &srq, IBV_SRQ_LIMIT) : -EOPNOTSUPP;
	case REQ_SRQ_LIMIT:
		ret = s->srq ? ibv_query_srq(s->srq, &srq) : EOPNOTSUPP;
		rep->value = srq.srq_limit;
		return -ret;
	case REQ_END:
		return 0;
	default:
		return -EINVAL;
	}
}

int serve(struct side *s, int sock)
{
	struct request req;
	struct reply rep;

	do {
		if (recv(sock, &req, sizeof(req), MSG_WAITALL) != sizeof(req))
			return -EPIPE;
		memset(&rep, 0, sizeof(rep));
		rep.error = -handle(s, &req, &rep);
		if (send(sock, &rep, sizeof(rep), MSG_NOSIGNAL) != sizeof(rep))
			return -EPIPE;
	} while (req.op != REQ_END);
	return 0;
}

int ask(int sock, const struct request *req, struct reply *rep)
{
	if (send(sock, req, sizeof(*req), MSG_NOSIGNAL) != sizeof(*req) ||
	    recv(sock, rep, sizeof(*rep), MSG_WAITALL) != sizeof(*rep)) {
		fprintf(stderr, "vrdma-verify: lost the other side\n");
		return -EPIPE;
	}
	return -rep->error;
}
