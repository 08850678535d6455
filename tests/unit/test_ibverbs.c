// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ibverbs transport on a host device that does nothing (tests/null): host calls that
 * fail, host events, removal of the device, and what must not arrive after a RESET.  Data
 * and real completions are tested in tests/interop.
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host_calls.h"
#include "mem_pair.h"
#include "null_verbs.h"
#include "tap.h"

#define SIGNALED	VIRTIO_RDMA_WQE_SIGNALED
#define W		VIRTIO_RDMA_WR_RDMA_WRITE
#define WC(name)	VIRTIO_RDMA_WC_##name
#define EVENT(name)	VIRTIO_RDMA_EVENT_##name

static struct mem_pair p;

/* ---- host calls that fail ------------------------------------------------------------ */

/* Each call at start fails once: an error with a message, and nothing left behind. */
static void test_open(void)
{
	struct vrd_device_config cfg = {
		.name = "d", .mac = { 2, 0, 0, 0, 0, 9 }, .num_comp_vectors = 1,
		.ibdev = NULL_IBDEV,
	};
	struct host_calls calls = host_calls_at_start(p.engine, &cfg);
	struct vrd_device *dev;
	struct vrd_error err;

	ok(calls.num >= 10 && calls.ended, "%ld host calls at start fail one by one", calls.num);
	ok(calls.reported, "each refusal has a message");
	ok(calls.undone, "and leaves no object of the host's");

	cfg.ibdev = "nosuch";
	ok(vrd_device_create(p.engine, &cfg, &dev, &err) < 0 && strstr(err.hint, NULL_IBDEV),
	   "a wrong name: the hint lists what there is (%s)", err.hint);
	cfg.ibdev = NULL_IBDEV;
	cfg.ibdev_port = 2;
	ok(vrd_device_create(p.engine, &cfg, &dev, &err) < 0, "a wrong port: %s", err.msg);
	cfg.ibdev_port = 0;
	cfg.num_gid_indexes = 1;
	cfg.gid_indexes[0] = 7;
	ok(vrd_device_create(p.engine, &cfg, &dev, &err) < 0, "a wrong GID index: %s", err.msg);
	cfg.gid_indexes[0] = 1;
	is(vrd_device_create(p.engine, &cfg, &dev, &err), 0, "a right one");
	vrd_device_destroy(dev);
	cfg.transports = "ibverbs";
	cfg.ibdev = NULL;
	ok(vrd_device_create(p.engine, &cfg, &dev, &err) < 0, "no name at all: %s", err.msg);
}

static void test_objects(uint8_t type, const char *name)
{
	struct host_calls calls = host_calls_of_objects(&p.a, type, false);

	ok(calls.num >= 5 && calls.ended && calls.reported,
	   "%s: each host call of the verbs fails once: NOMEM", name);
	ok(calls.undone, "%s: all is undone", name);
}

/* ---- completions, errors ------------------------------------------------------------------ */

static void fresh(uint8_t type)
{
	struct guest_qp_init init = { .type = type, .max_recv_sge = 2 };

	mem_pair_qps_init(&p, &init, 512);
	mem_pair_connect(&p);
}

static void test_order(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 8);
	struct virtio_rdma_cqe cqe;
	uint32_t want = 0, sends = 0;
	bool good = true;

	fresh(VIRTIO_RDMA_QPT_RC);
	for (unsigned int i = 0; i < 20000 && good; i += 50) {
		for (unsigned int k = 0; k < 50; k++) {
			w.wr.flags = SIGNALED;
			w.wr.opcode = k % 3 ? W : VIRTIO_RDMA_WR_SEND;
			w.wr.sge = &w.sge;
			guest_write_send(&p.a.qp, &w.wr);
		}
		guest_ring_sq(&p.a.qp);
		for (unsigned int k = 0; k < 50 && good; k++, want++) {
			good = guest_poll_wait(&p.a.scq, &cqe, MEM_WAIT_MS) && !cqe.status &&
			       le32toh(cqe.wqe_index) == want;
			sends += cqe.opcode == WC(SEND);
		}
	}
	ok(good && sends > 6000, "20,000 completions in order, of the right opcodes");

	for (unsigned int i = 0; i < 100 && good; i++) {
		for (unsigned int k = 0; k < 64; k++)
			guest_write_send(&p.a.qp, &w.wr);
		guest_ring_sq(&p.a.qp);
		for (unsigned int k = 0; k < 30; k++)
			mem_recv(&p.a, 0, 64);
		good = !guest_qp_reset(&p.a.qp);
		while (guest_poll(&p.a.scq, &cqe) || guest_poll(&p.a.rcq, &cqe))
			;
		good &= !mem_bring_up(&p.a, VIRTIO_RDMA_QPS_RTS);
		mem_post(&p.a, &w);
		good &= guest_poll_wait(&p.a.scq, &cqe, MEM_WAIT_MS) && !cqe.wqe_index &&
			!cqe.status && !guest_poll(&p.a.rcq, &cqe);
	}
	ok(good, "RESET with work outstanding, 100 times: nothing of the earlier life comes");
	mem_pair_drop_qps(&p);
}

static void test_errors(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 8);
	struct virtio_rdma_cqe cqe;
	bool good = true;

	fresh(VIRTIO_RDMA_QPT_RC);
	for (unsigned int i = 0; i < 20; i++)
		mem_recv(&p.a, 0, 64);
	null_next_status(IBV_WC_REM_ACCESS_ERR);
	w.wr.flags = 0;
	mem_post(&p.a, &w);
	is(mem_status(&p.a.scq), WC(REM_ACCESS_ERR), "an error of an unsignaled request");
	ok(mem_in_state(&p.a, VIRTIO_RDMA_QPS_ERR), "moves the QP to ERR");
	for (uint32_t i = 0; i < 20 && good; i++)
		good = guest_poll_wait(&p.a.rcq, &cqe, MEM_WAIT_MS) &&
		       cqe.status == WC(WR_FLUSH_ERR) && le32toh(cqe.wqe_index) == i;
	ok(good, "its receives are flushed, in order");
	mem_recv(&p.a, 0, 64);
	mem_post(&p.a, &w);
	ok(mem_status(&p.a.rcq) == WC(WR_FLUSH_ERR) && mem_status(&p.a.scq) == WC(WR_FLUSH_ERR),
	   "and what is posted then");
	mem_pair_drop_qps(&p);
}

/* Executed where the device offers them, malformed where it does not. */
static void test_atomics(bool offered)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD, 8);

	fresh(VIRTIO_RDMA_QPT_RC);
	/* Statuses that a host may report for the request that is posted to fail. */
	if (!offered)
		null_next_status(IBV_WC_LOC_PROT_ERR);
	mem_post(&p.a, &w);
	is(mem_status(&p.a.scq), offered ? WC(SUCCESS) : WC(LOC_QP_OP_ERR), "an atomic, %s",
	   offered ? "offered" : "not offered");
	mem_pair_drop_qps(&p);
}

/*
 * Longer than the port's max_msg_sz: the requester's error, and not a length that is left to
 * the host, which is asked for a request that fails.
 */
static void test_too_long(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 0);
	struct guest_sge sge[2] = {
		{ p.a.mr.iova, NULL_MAX_MSG, p.a.mr.lkey }, { p.a.mr.iova, 1, p.a.mr.lkey },
	};
	static const uint8_t host[] = { IBV_WC_LOC_PROT_ERR, IBV_WC_WR_FLUSH_ERR };

	for (unsigned int i = 0; i < sizeof(host); i++) {
		fresh(VIRTIO_RDMA_QPT_RC);
		null_next_status(host[i]);
		w.wr.num_sge = 2;
		w.wr.sge = sge;
		guest_post_send(&p.a.qp, &w.wr);
		is(mem_status(&p.a.scq), WC(LOC_LEN_ERR), "longer than max_msg_sz: LOC_LEN_ERR");
		mem_pair_drop_qps(&p);
	}
}

/* Keeps the poller awake: one WRITE of b's after the other. */
static void *traffic(void *stop)
{
	struct mem_wr w = mem_wr(&p.b, &p.a, W, 8);
	struct virtio_rdma_cqe cqe;

	w.wr.flags = SIGNALED;
	while (!atomic_load((_Atomic bool *)stop)) {
		mem_post(&p.b, &w);
		if (!guest_poll_wait(&p.b.scq, &cqe, MEM_WAIT_MS) || cqe.status)
			guest_fatal("traffic ends");
	}
	return NULL;
}

/* A CQ that was empty when the poller slept, and a poller that does not sleep again. */
static void test_parked(void)
{
	_Atomic bool stop = false;
	struct virtio_rdma_cqe cqe;
	pthread_t thread;
	bool good = true;

	fresh(VIRTIO_RDMA_QPT_RC);
	for (unsigned int i = 0; i < 20; i++)
		mem_recv(&p.a, 0, 64);
	usleep(20000);
	pthread_create(&thread, NULL, traffic, &stop);
	usleep(5000);
	is(guest_qp_set_state(&p.a.qp, VIRTIO_RDMA_QPS_ERR), 0, "an idle QP beside a busy one: to ERR");
	for (uint32_t i = 0; i < 20 && good; i++)
		good = guest_poll_wait(&p.a.rcq, &cqe, MEM_WAIT_MS) &&
		       cqe.status == WC(WR_FLUSH_ERR) && le32toh(cqe.wqe_index) == i;
	ok(good, "its completions are seen though nobody looked at its CQ");
	stop = true;
	pthread_join(thread, NULL);
	mem_pair_drop_qps(&p);
}

/* ---- QPs that go, rings that the host refuses --------------------------------------- */

struct ringer {
	pthread_t thread;
	struct guest_qp *qp;
	_Atomic bool stop;
};

/* More receives than the host accepts, without end. */
static void *ring_on(void *arg)
{
	struct ringer *r = arg;

	/* An entry of zeroes is a receive without memory. */
	while (!r->stop) {
		r->qp->rq.producer += 16;
		guest_ring_rq(r->qp);
	}
	return NULL;
}

static void test_destroy_under_receives(void)
{
	long before = null_objects();
	bool good = true;

	for (unsigned int i = 0; i < 400 && good; i++) {
		struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .rq_entries = 16 };
		struct guest_qp qp;
		struct ringer r = { .qp = &qp };

		fresh(VIRTIO_RDMA_QPT_RC);
		init.pd = p.a.pd;
		init.send_cq = &p.a.scq;
		init.recv_cq = &p.a.rcq;
		good = !guest_qp_create(&p.a.ctx, &init, &qp) &&
		       !guest_qp_connect(&qp, null_gids[1], 77);
		if (!good || pthread_create(&r.thread, NULL, ring_on, &r))
			guest_fatal("no QP, or no thread");
		usleep(1000);
		good = !guest_destroy_handle(p.a.g, VIRTIO_RDMA_CMD_DESTROY_QP, qp.qpn);
		usleep(1500);
		r.stop = true;
		pthread_join(r.thread, NULL);
		guest_free(p.a.g, qp.buf, qp.buf_size);
		mem_pair_drop_qps(&p);
	}
	ok(good && null_objects() == before,
	   "QPs are destroyed while more receives are posted than the host takes");
}

static void test_srq_refused(void)
{
	struct guest_sge sge[3] = { { p.a.mr.iova, 8, p.a.mr.lkey }, { p.a.mr.iova, 8, p.a.mr.lkey },
				    { p.a.mr.iova, 8, p.a.mr.lkey } };
	struct virtio_rdma_event event;
	struct guest_srq srq;

	if (guest_srq_create(&p.a.ctx, p.a.pd, 16, 3, &srq))
		guest_fatal("no SRQ");
	null_srq_taken = 0;
	null_srq_room = 5;
	for (uint32_t i = 0; i < 15; i++)
		guest_write_srq(&srq, i, sge, 3);
	guest_ring_srq(&srq);
	usleep(20000);
	null_srq_room = 1000;
	guest_write_srq(&srq, 15, sge, 3);
	guest_ring_srq(&srq);
	for (int ms = 0; ms < 1000 && null_srq_taken < 16; ms++)
		usleep(1000);
	usleep(20000);
	is(null_srq_taken, 16, "what an SRQ of the host's had no room for comes later, once");
	ok(!guest_event(p.a.g, &event, MEM_QUIET_MS), "and the SRQ goes on");
	null_srq_room = LONG_MAX;
	guest_srq_destroy(&srq);
}

/* ---- events ---------------------------------------------------------------------------------- */

static void test_events(void)
{
	struct ibv_qp *host;

	fresh(VIRTIO_RDMA_QPT_RC);
	host = null_qp(p.a.qp.qpn);
	null_event(IBV_EVENT_COMM_EST, host, false);
	ok(mem_event(&p.a, EVENT(COMM_EST)), "COMM_EST");
	null_event(IBV_EVENT_QP_ACCESS_ERR, host, false);
	ok(mem_event_comes(p.a.g, EVENT(QP_ACCESS_ERR), p.a.qp.qpn, MEM_WAIT_MS) &&
	   mem_in_state(&p.a, VIRTIO_RDMA_QPS_ERR), "QP_ACCESS_ERR, and the QP is in ERR");
	null_event(IBV_EVENT_PORT_ERR, host, true);
	ok(mem_event_comes(p.a.g, EVENT(PORT_ERR), 1, MEM_WAIT_MS), "PORT_ERR");
	null_event(IBV_EVENT_PORT_ACTIVE, host, true);
	ok(mem_event_comes(p.a.g, EVENT(PORT_ACTIVE), 1, MEM_WAIT_MS), "PORT_ACTIVE");
	null_event(IBV_EVENT_GID_CHANGE, host, true);
	ok(mem_event_comes(p.a.g, EVENT(GID_CHANGE), 1, MEM_WAIT_MS), "GID_CHANGE");
	mem_pair_drop_qps(&p);
}

/* Guest a registers as much as it can; b can still register. */
static void test_mappings(void)
{
	enum { PIECES = 4096, MAX = 64 };
	struct virtio_rdma_extent *ext = calloc(PIECES, sizeof(*ext));
	struct guest_mr mrs[MAX], other;
	bool good = true;
	unsigned int n;

	/* Two alternating pages: no two of them form one mapping. */
	for (unsigned int i = 0; i < PIECES; i++)
		ext[i] = (struct virtio_rdma_extent){
			.addr = htole64(guest_addr(p.a.g, p.a.buf + (i & 1 ? 2 * GUEST_PAGE : 0))),
			.pages = htole32(1),
		};
	for (n = 0; n < MAX; n++)
		if (guest_mr_reg_extents(p.a.g, p.a.pd, 0, (uint64_t)PIECES * GUEST_PAGE,
					 MEM_ALL_ACCESS, ext, PIECES, &mrs[n]))
			break;
	ok(n && n < MAX, "regions of 4096 pieces are refused at some point (after %u)", n);
	for (unsigned int i = 0; i < PIECES; i++)
		ext[i].addr = htole64(guest_addr(p.b.g, p.b.buf + (i & 1 ? 2 * GUEST_PAGE : 0)));
	ok(!guest_mr_reg_extents(p.b.g, p.b.pd, 0, (uint64_t)PIECES * GUEST_PAGE, MEM_ALL_ACCESS,
				 ext, PIECES, &other) && !guest_mr_dereg(&other),
	   "but not to another guest");
	while (n--)
		good &= !guest_mr_dereg(&mrs[n]);
	ok(good, "and are deregistered");
	free(ext);
}

#ifndef __SANITIZE_THREAD__
static _Atomic int handled;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!vrd_engine_sigbus(p.engine, info->si_addr)) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
	handled++;
}

/* The guest's memory has been removed when the worker raises an event there. */
static void test_event_sigbus(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	struct guest_config cfg = { .name = "short", .id = 7, .ibdev = NULL_IBDEV,
				    .unsealed = true };
	struct guest *g = guest_create(p.engine, &cfg);
	struct guest_side side;

	sigaction(SIGBUS, &sa, NULL);
	guest_side_open(g, 4096, 16, NULL, &side);
	/* Until the pollers sleep, or one of them detects it first. */
	usleep(200000);
	if (ftruncate(g->memfd, 0))
		guest_fatal("ftruncate");
	null_event(IBV_EVENT_PORT_ERR, null_qp(side.qp.qpn), true);
	for (int ms = 0; ms < 1000 && !handled; ms++)
		usleep(1000);
	is(handled, 1, "an event for a guest whose memory has gone: one SIGBUS, and nobody dies");
	guest_destroy(g);
	signal(SIGBUS, SIG_DFL);
}
#endif

/* The last test: the device does not return. */
static void test_gone(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 8);
	struct virtio_rdma_query_port_req req = { .port_num = htole32(1) };
	struct virtio_rdma_query_port_rsp rsp;

	fresh(VIRTIO_RDMA_QPT_RC);
	null_gone = true;
	null_event(IBV_EVENT_DEVICE_FATAL, null_qp(p.a.qp.qpn), true);
	ok(mem_event_comes(p.a.g, EVENT(DEVICE_FATAL), 0, MEM_WAIT_MS),
	   "the host's device goes: DEVICE_FATAL");
	ok(!guest_command(p.a.g, VIRTIO_RDMA_CMD_QUERY_PORT, &req, &rsp) &&
	   rsp.state == VIRTIO_RDMA_PORT_DOWN, "the port is DOWN");
	mem_post(&p.a, &w);
	mem_post(&p.a, &w);
	ok(mem_status(&p.a.scq) == WC(WR_FLUSH_ERR) && mem_status(&p.a.scq) == WC(WR_FLUSH_ERR),
	   "sends are flushed");
	mem_recv(&p.a, 0, 64);
	is(mem_status(&p.a.rcq), WC(WR_FLUSH_ERR), "receives are flushed");
	mem_pair_drop_qps(&p);
}

int main(void)
{
	struct guest_config a = { .ibdev = NULL_IBDEV, .host_mapped = MEM_HOST_MAPPED }, b = a;

	memcpy(a.gid, null_gids[1], 16);
	memcpy(b.gid, null_gids[0], 16);
	null_no_atomics = true;
	mem_pair_open_with(&p, 1, 64 << 20, &a, &b);
	test_atomics(false);
	test_parked();
	mem_pair_close(&p);
	null_no_atomics = false;
	mem_pair_open_with(&p, 2, 64 << 20, &a, &b);
	test_atomics(true);
	test_too_long();
	test_open();
	test_objects(VIRTIO_RDMA_QPT_RC, "RC");
	test_objects(VIRTIO_RDMA_QPT_UD, "UD");
	test_order();
	test_errors();
	test_destroy_under_receives();
	test_srq_refused();
	test_events();
	test_mappings();
#ifndef __SANITIZE_THREAD__	/* then the core has no mapping of its own */
	test_event_sigbus();
#endif
	test_gone();
	mem_pair_close(&p);
	is(null_objects(), 0, "at the end the host has no object");
	return tap_done();
}
