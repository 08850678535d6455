// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Completion queues: phases, overflow, arming and its events, and the race between a
 * consumer that arms and sleeps and the device that completes.
 */
#include <string.h>

#include "transport.h"
#include "guest.h"
#include "objects.h"
#include "guest_shm.h"
#include "tap.h"

#define TIMEOUT_MS	20000
#define QUIET_MS	50		/* wait for something that must not happen */
#define SIGNALED	VIRTIO_RDMA_WQE_SIGNALED
#define W		VIRTIO_RDMA_WR_RDMA_WRITE

static struct vrd_engine *engine;
static struct guest *g;

/* A QP that is connected to itself; @entries in its CQ. */
static void open_loop(uint32_t entries, struct guest_side *side)
{
	guest_side_open(g, 65536, entries, NULL, side);
	if (guest_qp_connect(&side->qp, g->gid, side->qp.qpn))
		guest_fatal("a QP cannot be connected to itself");
}

static void post_writes(struct guest_side *side, unsigned int n)
{
	while (n--)
		guest_post_rdma(&side->qp, W, SIGNALED, side->mem, 8, side->mr.lkey,
				guest_addr(g, side->mem) + 4096, side->mr.rkey);
}

static bool poll_n(struct guest_cq *cq, unsigned int n)
{
	struct virtio_rdma_cqe cqe;

	while (n--)
		if (!guest_poll_wait(cq, &cqe, TIMEOUT_MS) || cqe.status)
			return false;
	return true;
}

/* ---- ring --------------------------------------------------------------------- */

static void test_phases(void)
{
	static const uint32_t sizes[] = { 1, 2, 16, 256 };

	for (unsigned int i = 0; i < 4; i++) {
		struct guest_side side;
		bool good = true;

		open_loop(sizes[i], &side);
		for (unsigned int n = 0; n < 300; n++) {
			unsigned int burst = 1 + n % (sizes[i] < 64 ? sizes[i] : 64);

			post_writes(&side, burst);
			good &= poll_n(&side.cq, burst);
		}
		ok(good, "a CQ of %u entries, lap after lap", sizes[i]);
		guest_side_close(&side);
	}
}

static void test_index_wrap(void)
{
	struct guest_side side;
	struct vrd_cq *cq;
	bool good = true;

	open_loop(16, &side);
	cq = vrd_table_find(&g->dev->cqs, side.cq.cqn);
	vrd_device_quiesce(g->dev);
	/* An even number of laps, so that the phases are those of a new ring. */
	cq->producer = cq->consumer = side.cq.consumer = 0xffffffe0U;
	vrd_store32(&side.cq.ctrl->consumer, 0xffffffe0U);
	vrd_device_resume(g->dev);
	for (unsigned int n = 0; n < 20; n++) {
		post_writes(&side, 7);
		good &= poll_n(&side.cq, 7);
	}
	ok(good, "indices wrap at 2^32");
	guest_side_close(&side);
}

static bool qp_reaches(struct guest_qp *qp, uint8_t state)
{
	uint64_t until = guest_now_ns() + TIMEOUT_MS * 1000000ULL;

	while (guest_qp_state(qp) != state)
		if (guest_now_ns() > until)
			return false;
	return true;
}

static void test_overflow(void)
{
	struct guest_side side;
	struct guest_qp bystander, idle;
	struct guest_cq other_cq;
	struct virtio_rdma_event event;
	struct virtio_rdma_cqe cqe;
	unsigned int n = 0;

	open_loop(16, &side);
	guest_side_add_qp(&side, NULL, &idle);
	if (guest_qp_connect(&idle, g->gid, idle.qpn) ||
	    guest_cq_create(&side.ctx, 16, 0, &other_cq) ||
	    guest_qp_create(&side.ctx, &(struct guest_qp_init){
			.type = VIRTIO_RDMA_QPT_RC, .pd = side.pd, .send_cq = &other_cq,
			.recv_cq = &other_cq }, &bystander) ||
	    guest_qp_connect(&bystander, g->gid, bystander.qpn))
		guest_fatal("no second set of objects");

	post_writes(&side, 17);
	ok(guest_event(g, &event, TIMEOUT_MS) &&
	   le32toh(event.type) == VIRTIO_RDMA_EVENT_CQ_ERR &&
	   le32toh(event.id) == side.cq.cqn, "overflow raises CQ_ERR");
	ok(qp_reaches(&side.qp, VIRTIO_RDMA_QPS_ERR), "its QP goes to ERR");
	ok(qp_reaches(&idle, VIRTIO_RDMA_QPS_ERR), "so does one that had nothing to do");
	ok(guest_qp_state(&bystander) == VIRTIO_RDMA_QPS_RTS, "a QP of another CQ does not");
	while (guest_poll(&side.cq, &cqe))
		n++;
	ok(n == 16, "the 16 CQEs that had room are there (%u)", n);
	post_writes(&side, 3);
	ok(!guest_event(g, &event, QUIET_MS), "no second event");

	guest_qp_destroy(&bystander);
	guest_qp_destroy(&idle);
	guest_cq_destroy(&other_cq);
	guest_side_close(&side);
	open_loop(16, &side);
	post_writes(&side, 5);
	ok(poll_n(&side.cq, 5), "a new CQ works");
	guest_side_close(&side);
}

/* A false consumer index affects its own CQ only. */
static void test_false_consumer(void)
{
	static const uint32_t lies[] = { 1, 16, 17, 0x7fffffff, 0x80000000, 0xffffffff };
	bool good = true;

	for (unsigned int i = 0; i < sizeof(lies) / 4; i++) {
		struct guest_side liar, honest;
		struct virtio_rdma_event event;

		open_loop(16, &liar);
		open_loop(16, &honest);
		vrd_store32(&liar.cq.ctrl->consumer, lies[i]);
		post_writes(&liar, 40);
		post_writes(&honest, 8);
		good &= poll_n(&honest.cq, 8);
		while (guest_event(g, &event, QUIET_MS))
			good &= le32toh(event.id) == liar.cq.cqn;
		guest_side_close(&liar);
		guest_side_close(&honest);
	}
	ok(good, "false consumer indices leave others alone");
}

/* ---- arming --------------------------------------------------------------------- */

static bool event_comes(struct guest_cq *cq, int timeout_ms)
{
	uint32_t cqn;

	return guest_comp_event(g, 0, &cqn, timeout_ms) && cqn == cq->cqn;
}

static void test_arm(void)
{
	struct guest_side side;

	open_loop(64, &side);
	post_writes(&side, 3);
	ok(poll_n(&side.cq, 3) && !event_comes(&side.cq, QUIET_MS), "never armed: no event");

	ok(!guest_arm(&side.cq, false), "arming an empty CQ reports nothing");
	post_writes(&side, 1);
	ok(event_comes(&side.cq, TIMEOUT_MS), "a CQE makes an event");
	ok(vrd_load32(&side.cq.ctrl->fired) == vrd_load32(&side.cq.ctrl->arm),
	   "fired has the arm word");
	post_writes(&side, 5);
	ok(poll_n(&side.cq, 6) && !event_comes(&side.cq, QUIET_MS), "more CQEs make no more");

	post_writes(&side, 1);
	poll_n(&side.cq, 1);
	post_writes(&side, 1);
	while (!guest_arm(&side.cq, false))
		;
	ok(true, "arming a CQ that has a CQE reports it");
	poll_n(&side.cq, 1);
	while (event_comes(&side.cq, QUIET_MS))
		;
	guest_arm(&side.cq, true);
	post_writes(&side, 2);
	ok(poll_n(&side.cq, 2) && !event_comes(&side.cq, QUIET_MS),
	   "armed for solicited ones: a send completion is none");
	guest_arm(&side.cq, false);
	post_writes(&side, 1);
	ok(event_comes(&side.cq, TIMEOUT_MS) && poll_n(&side.cq, 1),
	   "armed anew for any: an event");
	guest_side_close(&side);
}

static void test_solicited(void)
{
	struct guest_sge sge;
	struct guest_side side;
	struct virtio_rdma_cqe cqe;

	open_loop(64, &side);
	sge = (struct guest_sge){ guest_addr(g, side.mem) + 8192, 64, side.mr.lkey };
	for (unsigned int i = 0; i < 3; i++)
		guest_post_recv(&side.qp, &sge, 1);

	guest_arm(&side.cq, true);
	guest_post_rdma(&side.qp, VIRTIO_RDMA_WR_SEND, 0, side.mem, 8, side.mr.lkey, 0, 0);
	ok(poll_n(&side.cq, 1) && !event_comes(&side.cq, QUIET_MS), "a receive: no event");
	guest_post_rdma(&side.qp, VIRTIO_RDMA_WR_SEND, VIRTIO_RDMA_WQE_SOLICITED, side.mem, 8,
			side.mr.lkey, 0, 0);
	ok(event_comes(&side.cq, TIMEOUT_MS) && poll_n(&side.cq, 1), "a solicited receive: event");

	guest_arm(&side.cq, true);
	guest_post_rdma(&side.qp, W, 0, side.mem, 8, side.mr.lkey ^ 0x100, 0, side.mr.rkey);
	ok(event_comes(&side.cq, TIMEOUT_MS), "an error: event");
	ok(guest_poll_wait(&side.cq, &cqe, TIMEOUT_MS) && cqe.status, "  and its CQE");
	guest_side_close(&side);
}

/* ---- races -------------------------------------------------------------------------- */

struct sleeper {
	struct guest_side side;
	unsigned int rounds;
	bool good;
};

/* The consumer arms and sleeps; another thread posts requests at varying distances. */
static void *consume(void *arg)
{
	struct sleeper *s = arg;
	struct virtio_rdma_cqe cqe;

	s->good = true;
	for (unsigned int i = 0; i < s->rounds && s->good; i++)
		s->good = guest_poll_sleep(&s->side.cq, &cqe, TIMEOUT_MS) && !cqe.status &&
			  le32toh(cqe.wqe_index) == i;
	return NULL;
}

static void test_missed_events(void)
{
	struct sleeper s = { .rounds = 20000 };
	uint32_t seed = 1;
	pthread_t thread;

	open_loop(128, &s.side);
	pthread_create(&thread, NULL, consume, &s);
	for (unsigned int i = 0; i < s.rounds; i++) {
		/* At most as many as the rings hold. */
		while (i - __atomic_load_n(&s.side.cq.ctrl->consumer, __ATOMIC_ACQUIRE) >= 64)
			vrd_cpu_relax();
		post_writes(&s.side, 1);
		seed = seed * 1664525 + 1013904223;
		for (unsigned int n = seed >> 20 & 1023; i % 4 && n; n--)
			vrd_cpu_relax();
	}
	pthread_join(thread, NULL);
	ok(s.good, "a consumer that arms and sleeps misses none of %u", s.rounds);
	guest_side_close(&s.side);
}

/* Two QPs on two pollers complete into one CQ, whose consumer sleeps. */
static void test_shared_cq(void)
{
	struct guest_side side, peer;
	struct virtio_rdma_cqe cqe;
	struct guest_sge sge;
	unsigned int sends = 0, recvs = 0;
	bool good = true;

	/* Completions of sends come from our poller, those of receives from the peer's. */
	open_loop(256, &side);
	guest_side_open(g, 8192, 256, NULL, &peer);
	guest_qp_reset(&side.qp);
	guest_qp_connect_pair(&side.qp, &peer.qp);
	sge = (struct guest_sge){ guest_addr(g, side.mem) + 4096, 64, side.mr.lkey };
	for (unsigned int round = 0; round < 3000 && good; round++) {
		guest_post_recv(&side.qp, &sge, 1);
		guest_post_rdma(&peer.qp, VIRTIO_RDMA_WR_SEND, 0, peer.mem, 8, peer.mr.lkey, 0, 0);
		guest_post_rdma(&side.qp, W, SIGNALED, side.mem, 8, side.mr.lkey,
				guest_addr(g, peer.mem) + 4096, peer.mr.rkey);
		for (unsigned int i = 0; i < 2 && good; i++) {
			good = guest_poll_sleep(&side.cq, &cqe, TIMEOUT_MS) && !cqe.status;
			sends += cqe.opcode == VIRTIO_RDMA_WC_RDMA_WRITE;
			recvs += cqe.opcode == VIRTIO_RDMA_WC_RECV;
		}
	}
	ok(good && sends == 3000 && recvs == 3000, "two pollers, one CQ: %u and %u", sends, recvs);
	guest_side_close(&peer);
	guest_side_close(&side);
}

int main(void)
{
	engine = guest_engine(2, 20);
	g = guest_create(engine, &(struct guest_config){ .id = 1 });

	test_phases();
	test_index_wrap();
	test_overflow();
	test_false_consumer();
	test_arm();
	test_solicited();
	test_missed_events();
	test_shared_cq();

	guest_destroy(g);
	vrd_engine_destroy(engine);
	return tap_done();
}
