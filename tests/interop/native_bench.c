// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * "native IBDEV IP-A IP-B bench": the transport compared with a plain verbs program on the
 * same device, in turns: bandwidth, latency, and the cost of registering memory.  Not a
 * test, so it runs only when it is named, which tests/bench/host.py does.
 *
 * Each line is "figure NAME UNIT OURS THE-PROGRAM'S RATIO"; the ratio is the median of the
 * ratios of neighbouring runs: how many times better ours is.
 *
 * Both sleep until there are completions, except for one latency: Soft-RoCE's own work runs
 * on the same few processors, and a spinning program takes them away.
 */
#include <infiniband/verbs.h>
#include <stdlib.h>

#include "native.h"

#define SIZE	65536U
#define NUM	400U
#define WINDOW	32U
#define TRIPS	200U
#define ROUNDS	9

static struct plain {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp[2];
	struct ibv_mr *mr;
	uint8_t *mem;
} plain;

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned int n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

/* ---- the plain program ------------------------------------------------------------- */

static int gid_index(const uint8_t gid[16])
{
	union ibv_gid found;

	for (int i = 0; !ibv_query_gid(plain.ctx, 1, i, &found); i++)
		if (!memcmp(found.raw, gid, 16))
			return i;
	guest_fatal("the port has no such GID");
}

static void must(int ret, const char *what)
{
	if (ret)
		guest_fatal("%s: %d", what, ret);
}

static void plain_connect(int i)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT, .port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
	};

	must(ibv_modify_qp(plain.qp[i], &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			   IBV_QP_ACCESS_FLAGS), "INIT");
	attr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024, .min_rnr_timer = 12,
		.dest_qp_num = plain.qp[!i]->qp_num, .max_dest_rd_atomic = 1,
		.ah_attr = {
			.is_global = 1, .port_num = 1,
			.grh = { .hop_limit = 64, .sgid_index = gid_index(i ? gid_b : gid_a) },
		},
	};
	memcpy(attr.ah_attr.grh.dgid.raw, i ? gid_a : gid_b, 16);
	must(ibv_modify_qp(plain.qp[i], &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
			   IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			   IBV_QP_MIN_RNR_TIMER), "RTR");
	attr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTS, .timeout = 14, .retry_cnt = 7, .rnr_retry = 7,
		.max_rd_atomic = 1,
	};
	must(ibv_modify_qp(plain.qp[i], &attr, IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT |
			   IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC), "RTS");
}

static void plain_open(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	int i = 0;

	while (list[i] && strcmp(ibv_get_device_name(list[i]), ibdev))
		i++;
	plain.ctx = ibv_open_device(list[i]);
	plain.pd = ibv_alloc_pd(plain.ctx);
	plain.channel = ibv_create_comp_channel(plain.ctx);
	plain.cq = ibv_create_cq(plain.ctx, 256, NULL, plain.channel, 0);
	plain.mem = aligned_alloc(4096, BIG);
	memset(plain.mem, 1, BIG);
	plain.mr = ibv_reg_mr(plain.pd, plain.mem, 2 * SIZE, IBV_ACCESS_LOCAL_WRITE |
			      IBV_ACCESS_REMOTE_WRITE);
	for (i = 0; i < 2; i++) {
		struct ibv_qp_init_attr init = {
			.send_cq = plain.cq, .recv_cq = plain.cq, .qp_type = IBV_QPT_RC,
			.cap = { 128, 1, 1, 1, 0 },
		};

		plain.qp[i] = ibv_create_qp(plain.pd, &init);
	}
	plain_connect(0);
	plain_connect(1);
}

static int plain_wait(struct ibv_wc *wc, int num, bool spin)
{
	struct ibv_cq *cq;
	void *context;
	int n;

	while (!(n = ibv_poll_cq(plain.cq, num, wc))) {
		if (spin)
			continue;
		must(ibv_req_notify_cq(plain.cq, 0), "notify");
		n = ibv_poll_cq(plain.cq, num, wc);
		if (n)
			break;
		must(ibv_get_cq_event(plain.channel, &cq, &context), "event");
		ibv_ack_cq_events(cq, 1);
	}
	return n;
}

/* Microseconds for each of @num WRITEs of @size, at most @window outstanding. */
static double plain_writes(uint32_t size, unsigned int num, unsigned int window, bool spin)
{
	struct ibv_sge sge = { (uintptr_t)plain.mem, size, plain.mr->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = { (uintptr_t)plain.mem + SIZE, plain.mr->rkey },
	}, *bad;
	uint64_t start = guest_now_ns();
	struct ibv_wc wc[16];

	for (unsigned int posted = 0, done = 0; done < num;) {
		for (; posted < num && posted - done < window; posted++)
			must(ibv_post_send(plain.qp[0], &wr, &bad), "post");
		for (int n = plain_wait(wc, 16, spin); n; n--, done++)
			must(wc[n - 1].status, "completion");
	}
	return (guest_now_ns() - start) / 1000.0 / num;
}

/* ---- the transport ------------------------------------------------------------------------ */

static double transport_writes(uint32_t size, unsigned int num, unsigned int window, bool spin)
{
	uint64_t start = guest_now_ns();
	struct virtio_rdma_cqe cqe;

	for (unsigned int posted = 0, done = 0; done < num;) {
		for (; posted < num && posted - done < window; posted++)
			guest_post_rdma(&p.a.qp, W, SIGNALED, p.a.buf, size, p.a.mr.lkey,
					p.b.mr.iova, p.b.mr.rkey);
		must(!(spin ? guest_poll_wait : guest_poll_sleep)(&p.a.scq, &cqe, MEM_WAIT_MS), "wait");
		do {
			must(cqe.status, "completion");
			done++;
		} while (guest_poll(&p.a.scq, &cqe));
	}
	return (guest_now_ns() - start) / 1000.0 / num;
}

/* ---- figures ---------------------------------------------------------------------------- */

static struct rounds {
	double ours[ROUNDS], theirs[ROUNDS];	/* us */
} rounds;

/* For a rate, @bytes is what is transferred in the measured time. */
static void figure(const char *name, uint32_t bytes)
{
	double ratio[ROUNDS];

	for (unsigned int i = 0; i < ROUNDS; i++) {
		ratio[i] = rounds.theirs[i] / rounds.ours[i];
		if (bytes) {
			rounds.ours[i] = bytes / rounds.ours[i];
			rounds.theirs[i] = bytes / rounds.theirs[i];
		}
	}
	printf("figure %s %s %g %g %g\n", name, bytes ? "MB/s" : "us",
	       median(rounds.ours, ROUNDS), median(rounds.theirs, ROUNDS), median(ratio, ROUNDS));
	fflush(stdout);
}

static void writes(const char *name, uint32_t size, unsigned int num, unsigned int window,
		   bool spin)
{
	for (unsigned int i = 0; i < ROUNDS; i++) {
		rounds.theirs[i] = plain_writes(size, num, window, spin);
		rounds.ours[i] = transport_writes(size, num, window, spin);
	}
	figure(name, window > 1 ? size : 0);
}

static double plain_reg(uint64_t size)
{
	uint64_t start = guest_now_ns();
	struct ibv_mr *mr = ibv_reg_mr(plain.pd, plain.mem, size, IBV_ACCESS_LOCAL_WRITE);
	double us = (guest_now_ns() - start) / 1000.0;

	must(!mr || ibv_dereg_mr(mr), "ibv_reg_mr");
	return us;
}

/* Pages that are not consecutive, unless @x is NULL. */
static double transport_reg(uint64_t size, uint8_t *mem, const struct virtio_rdma_extent *x)
{
	uint64_t start = guest_now_ns();
	struct guest_mr mr;
	double us;

	if (x)
		must(guest_mr_reg_extents(p.a.g, p.a.pd, 0, size, MEM_ALL_ACCESS, x,
					  size / GUEST_PAGE, &mr), "REG_MR");
	else
		must(guest_mr_reg(p.a.g, p.a.pd, mem, size, MEM_ALL_ACCESS, &mr), "REG_MR");
	us = (guest_now_ns() - start) / 1000.0;
	must(guest_mr_dereg(&mr), "DEREG_MR");
	return us;
}

static void registrations(const char *name, uint64_t size, bool scattered)
{
	struct virtio_rdma_extent *x = NULL;
	uint8_t *mem = guest_alloc(p.a.g, 2 * size);

	memset(mem, 1, 2 * size);
	if (scattered)
		x = calloc(size / GUEST_PAGE, sizeof(*x));
	for (uint64_t i = 0; x && i < size / GUEST_PAGE; i++) {
		x[i].addr = htole64(guest_addr(p.a.g, mem + 2 * i * GUEST_PAGE));
		x[i].pages = htole32(1);
	}
	for (unsigned int i = 0; i < ROUNDS; i++) {
		rounds.theirs[i] = plain_reg(size);
		rounds.ours[i] = transport_reg(size, mem, x);
	}
	figure(name, 0);
	guest_free(p.a.g, mem, 2 * size);
	free(x);
}

void bench(void)
{
	plain_open();
	fresh();
	transport_writes(SIZE, NUM, WINDOW, false);
	writes("write_64K", SIZE, NUM, WINDOW, false);
	writes("write_64K.latency", SIZE, TRIPS, 1, false);
	writes("write_8B.latency", 8, TRIPS, 1, false);
	writes("write_8B.latency_spinning", 8, TRIPS, 1, true);
	registrations("reg_mr.4K", 4096, false);
	registrations("reg_mr.1M", 1 << 20, false);
	registrations("reg_mr.1M.scattered", 1 << 20, true);
	registrations("reg_mr.32M", BIG / 2, false);
	drop();
}
