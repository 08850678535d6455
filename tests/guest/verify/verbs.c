// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vrdma-verify: one side's verbs objects, and waiting for completions.
 * Used by client and server; each QP is used by one thread at a time.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <fcntl.h>

#include "verify.h"

#define SGES		4

bool is_ud(const struct side *s, int i)
{
	return i == QP_UD(s->num_qps);
}

bool is_uc(const struct side *s, int i)
{
	return s->has_uc && i == QP_UC(s->num_qps);
}

static bool takes_srq(const struct side *s, int i)
{
	return s->srq && (i == QP_SRQ(s->num_qps) || i == QP_SRQ2(s->num_qps));
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	return x;
}

void pattern_fill(uint8_t *buf, uint64_t length, uint64_t seed)
{
	for (uint64_t i = 0; i < length; i += 8) {
		uint64_t word = mix(seed * 0x9e3779b97f4a7c15ULL + i + 1);

		memcpy(buf + i, &word, length - i < 8 ? length - i : 8);
	}
}

uint64_t pattern_check(const uint8_t *buf, uint64_t length, uint64_t seed)
{
	for (uint64_t i = 0; i < length; i += 8) {
		uint64_t word = mix(seed * 0x9e3779b97f4a7c15ULL + i + 1);
		uint64_t n = length - i < 8 ? length - i : 8;

		if (memcmp(buf + i, &word, n)) {
			const uint8_t *want = (const uint8_t *)&word;

			for (uint64_t k = 0; k < n; k++)
				if (buf[i + k] != want[k])
					return i + k;
		}
	}
	return length;
}

static struct ibv_cq *make_cq(struct side *s, int i)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = 2 * WR_DEPTH,
		.channel = s->channel[i],
		.wc_flags = IBV_WC_STANDARD_FLAGS,
	};

	if (is_ud(s, i)) {
		s->ud_cq = ibv_create_cq_ex(s->ctx, &attr);
		if (s->ud_cq)
			return ibv_cq_ex_to_cq(s->ud_cq);
	}
	return ibv_create_cq(s->ctx, attr.cqe, NULL, attr.channel, 0);
}

static int make_qp(struct side *s, int i)
{
	struct ibv_qp_init_attr init = {
		.qp_type = is_ud(s, i) ? IBV_QPT_UD : i == QP_UC(s->num_qps) ? IBV_QPT_UC : IBV_QPT_RC,
		.srq = takes_srq(s, i) ? s->srq : NULL,
		.cap = {
			.max_send_wr = WR_DEPTH, .max_recv_wr = WR_DEPTH,
			.max_send_sge = SGES, .max_recv_sge = SGES,
			.max_inline_data = 64,
		},
	};

	s->channel[i] = ibv_create_comp_channel(s->ctx);
	if (!s->channel[i])
		return -errno;
	s->cq[i] = make_cq(s, i);
	if (!s->cq[i])
		return -errno;
	init.send_cq = s->cq[i];
	init.recv_cq = s->cq[i];
	s->qp[i] = ibv_create_qp(s->pd, &init);
	if (!s->qp[i] && init.qp_type == IBV_QPT_UC) {
		init.qp_type = IBV_QPT_RC;
		s->qp[i] = ibv_create_qp(s->pd, &init);
	}
	if (!s->qp[i])
		return -errno;
	if (init.qp_type == IBV_QPT_UC)
		s->has_uc = true;
	s->max_inline = init.cap.max_inline_data;
	return side_reset_qp(s, i);
}

/* To RESET and INIT; completions left in its CQ are discarded. */
int side_reset_qp(struct side *s, int i)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };
	int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
	struct ibv_wc wc;
	int ret;

	ret = ibv_modify_qp(s->qp[i], &attr, IBV_QP_STATE);
	if (ret)
		return -ret;
	while (ibv_poll_cq(s->cq[i], 1, &wc) > 0)
		;
	memset(&attr, 0, sizeof(attr));
	attr.qp_state = IBV_QPS_INIT;
	attr.port_num = 1;
	if (is_ud(s, i)) {
		attr.qkey = UD_QKEY;
		mask |= IBV_QP_QKEY;
	} else {
		attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
		if (!is_uc(s, i))
			attr.qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
		mask |= IBV_QP_ACCESS_FLAGS;
	}
	return -ibv_modify_qp(s->qp[i], &attr, mask);
}

int side_connect_qp(struct side *s, int i, uint32_t psn, uint32_t peer_qpn, uint32_t peer_psn,
		    const union ibv_gid *peer_gid, uint8_t timeout, uint8_t retry, uint8_t rnr_retry)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = s->mtu,
		.dest_qp_num = peer_qpn,
		.rq_psn = peer_psn,
		.max_dest_rd_atomic = 4,
		.min_rnr_timer = 12,
		.ah_attr = {
			.is_global = 1,
			.port_num = 1,
			.grh = { .dgid = *peer_gid, .sgid_index = s->gid_index, .hop_limit = 64 },
		},
	};
	bool rc = !is_ud(s, i) && !is_uc(s, i);
	int mask = IBV_QP_STATE, ret;

	if (!is_ud(s, i))
		mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	if (rc)
		mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	ret = ibv_modify_qp(s->qp[i], &attr, mask);
	if (ret)
		return -ret;
	memset(&attr, 0, sizeof(attr));
	attr.qp_state = IBV_QPS_RTS;
	attr.sq_psn = psn;
	attr.timeout = timeout;
	attr.retry_cnt = retry;
	attr.rnr_retry = rnr_retry;
	attr.max_rd_atomic = 4;
	mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
	if (rc)
		mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			IBV_QP_MAX_QP_RD_ATOMIC;
	return -ibv_modify_qp(s->qp[i], &attr, mask);
}

/* The first usable GID if none is requested: RoCE v2, IPv4 before IPv6. */
static int choose_gid(struct side *s, int wanted)
{
	int best = -1, best_score = -1;

	for (int i = 0; i < s->port.gid_tbl_len; i++) {
		struct ibv_gid_entry entry;
		int score = 0;

		if (ibv_query_gid_ex(s->ctx, 1, i, &entry, 0))
			continue;
		if (wanted >= 0 && i != wanted)
			continue;
		if (entry.gid_type == IBV_GID_TYPE_ROCE_V2)
			score += 2;
		if (!memcmp(entry.gid.raw, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12))
			score += 1;
		if (score > best_score) {
			best = i;
			best_score = score;
			s->gid = entry.gid;
		}
	}
	s->gid_index = best;
	return best < 0 ? -ENOENT : 0;
}

int side_open(struct side *s, const char *device, int gid_index, int num_qps)
{
	int all = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE |
		  IBV_ACCESS_REMOTE_ATOMIC;
	struct ibv_device **list = ibv_get_device_list(NULL);
	int ret;

	memset(s, 0, sizeof(*s));
	s->num_qps = num_qps;
	for (int i = 0; list && list[i]; i++)
		if (!device || !strcmp(ibv_get_device_name(list[i]), device)) {
			s->ctx = ibv_open_device(list[i]);
			break;
		}
	if (list)
		ibv_free_device_list(list);
	if (!s->ctx) {
		fprintf(stderr, "vrdma-verify: no RDMA device%s%s\n", device ? " named " : "",
			device ? device : "");
		return -ENODEV;
	}
	if (ibv_query_port(s->ctx, 1, &s->port))
		return -EIO;
	s->mtu = s->port.active_mtu;
	ret = choose_gid(s, gid_index);
	if (ret) {
		fprintf(stderr, "vrdma-verify: the port has no usable GID: give its netdev an address\n");
		return ret;
	}
	/* Events are read with a timeout. */
	fcntl(s->ctx->async_fd, F_SETFL, fcntl(s->ctx->async_fd, F_GETFL) | O_NONBLOCK);
	s->pd = ibv_alloc_pd(s->ctx);
	s->buf = mmap(NULL, BUF_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s->buf2 = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!s->pd || s->buf == MAP_FAILED || s->buf2 == MAP_FAILED)
		return -ENOMEM;
	s->mr = ibv_reg_mr(s->pd, s->buf, BUF_SIZE, all);
	s->mr2 = ibv_reg_mr(s->pd, s->buf2, 4096, all);
	if (!s->mr || !s->mr2) {
		perror("vrdma-verify: ibv_reg_mr");
		return -errno;
	}
	struct ibv_srq_init_attr srq = { .attr = { .max_wr = WR_DEPTH, .max_sge = SGES } };

	s->srq = ibv_create_srq(s->pd, &srq);
	if (!s->srq && errno != EOPNOTSUPP && errno != ENOSYS) {
		perror("vrdma-verify: ibv_create_srq");
		return -errno;
	}
	for (int i = 0; i < num_qps; i++) {
		ret = make_qp(s, i);
		if (ret) {
			fprintf(stderr, "vrdma-verify: QP %d: %s\n", i, strerror(-ret));
			return ret;
		}
	}
	return 0;
}

void side_close(struct side *s)
{
	for (int i = 0; i < s->num_qps; i++) {
		if (s->qp[i])
			ibv_destroy_qp(s->qp[i]);
		if (s->cq[i])
			ibv_destroy_cq(s->cq[i]);
		if (s->channel[i])
			ibv_destroy_comp_channel(s->channel[i]);
	}
	if (s->srq)
		ibv_destroy_srq(s->srq);
	if (s->mr)
		ibv_dereg_mr(s->mr);
	if (s->mr2)
		ibv_dereg_mr(s->mr2);
	if (s->pd)
		ibv_dealloc_pd(s->pd);
	if (s->ctx)
		ibv_close_device(s->ctx);
}

/* Divides [offset, offset + length) into consecutive pieces of different sizes. */
void cut_sges(struct side *s, struct ibv_sge *sge, uint64_t offset, uint64_t length, int cuts)
{
	for (int i = 0; i < cuts; i++) {
		uint64_t part = i == cuts - 1 ? length : length / (cuts - i + 1);

		sge[i].addr = (uintptr_t)s->buf + offset;
		sge[i].length = part;
		sge[i].lkey = s->mr->lkey;
		offset += part;
		length -= part;
	}
}

int side_post_recv(struct side *s, int i, uint64_t offset, uint64_t length, int cuts)
{
	struct ibv_sge sge[SGES];
	struct ibv_recv_wr wr = { .wr_id = 0x5ec0000 + i, .sg_list = sge, .num_sge = cuts }, *bad;

	cut_sges(s, sge, offset, length, cuts);
	if (!takes_srq(s, i))
		return -ibv_post_recv(s->qp[i], &wr, &bad);
	/* Identifies the receive in its completion. */
	wr.wr_id = offset;
	return -ibv_post_srq_recv(s->srq, &wr, &bad);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

int side_poll(struct side *s, int i, int timeout_ms, struct ibv_wc *wc)
{
	int64_t end = now_ms() + timeout_ms;
	int n;

	memset(wc, 0, sizeof(*wc));
	do {
		for (int k = 0; k < 1000; k++) {
			n = ibv_poll_cq(s->cq[i], 1, wc);
			if (n)
				return n < 0 ? -EIO : 0;
		}
	} while (now_ms() < end);
	return -ETIMEDOUT;
}

int side_poll_extended(struct side *s, int timeout_ms, struct ibv_wc *wc)
{
	struct ibv_poll_cq_attr attr = { 0 };
	int64_t end = now_ms() + timeout_ms;
	struct ibv_cq_ex *cq = s->ud_cq;
	int ret;

	memset(wc, 0, sizeof(*wc));
	if (!cq)
		return -EOPNOTSUPP;
	do
		ret = ibv_start_poll(cq, &attr);
	while (ret == ENOENT && now_ms() < end);
	if (ret)
		return ret == ENOENT ? -ETIMEDOUT : -ret;
	wc->wr_id = cq->wr_id;
	wc->status = cq->status;
	wc->opcode = ibv_wc_read_opcode(cq);
	wc->wc_flags = ibv_wc_read_wc_flags(cq);
	wc->byte_len = ibv_wc_read_byte_len(cq);
	wc->imm_data = ibv_wc_read_imm_data(cq);
	wc->src_qp = ibv_wc_read_src_qp(cq);
	wc->sl = ibv_wc_read_sl(cq);
	ibv_end_poll(cq);
	return 0;
}

/* Sleeps on the completion channel; the CQ was armed by the caller or is now. */
int side_poll_event(struct side *s, int i, int timeout_ms, struct ibv_wc *wc)
{
	struct pollfd pfd = { .fd = s->channel[i]->fd, .events = POLLIN };
	struct ibv_cq *cq;
	void *context;
	int n;

	memset(wc, 0, sizeof(*wc));
	for (;;) {
		n = poll(&pfd, 1, timeout_ms);
		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0 || ibv_get_cq_event(s->channel[i], &cq, &context))
			return -errno;
		ibv_ack_cq_events(cq, 1);
		if (cq != s->cq[i])
			return -EBADF;
		n = ibv_poll_cq(cq, 1, wc);
		if (n)
			return n < 0 ? -EIO : 0;
		/* An event without a completion is allowed: arm again. */
		if (ibv_req_notify_cq(cq, 0))
			return -EIO;
		n = ibv_poll_cq(cq, 1, wc);
		if (n)
			return n < 0 ? -EIO : 0;
	}
}
