// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Shared receive queues: receives taken by RC and UD QPs of the memory transport, QPs that
 * wait for receives, and threads.  (Commands and rings: test_srq.c.  Entries of a QP that is
 * destroyed: test_memory_partial.c.)
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "shm.h"
#include "srq_pair.h"
#include "tap.h"

static struct mem_end *a = &srq_pair.a, *b = &srq_pair.b;
/* More senders, each with a QP of b's that has the same SRQ. */
static struct guest_qp more_a[3], more_b[3];

/* @of_a, whose completions are in @cq, sends to @of_b. */
static void add_sender(struct guest_cq *cq, struct guest_qp *of_a, struct guest_qp *of_b)
{
	struct guest_qp_init init = {
		.type = VIRTIO_RDMA_QPT_RC, .pd = a->pd, .send_cq = cq, .recv_cq = cq,
	};

	if (guest_qp_create(&a->ctx, &init, of_a))
		guest_fatal("no QP");
	init.pd = b->pd;
	init.send_cq = &b->scq;
	init.recv_cq = &b->rcq;
	init.srq = &srq;
	if (guest_qp_create(&b->ctx, &init, of_b))
		guest_fatal("no QP");
	guest_qp_connect_pair(of_a, of_b);
}

/* ---- receives --------------------------------------------------------------------- */

static void test_rc(void)
{
	struct guest_sge two[2];

	srq_fresh();
	srq_recv(1000, 0, 300);
	srq_recv(7, 4096, 300);
	srq_send(200);
	srq_send(100);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 1000, 200, 0) &&
	   srq_received(b->qp.qpn, 7, 100, 0), "receives are taken in order, with their cookies");
	ok(!memcmp(b->buf, a->buf, 200) && !memcmp(b->buf + 4096, a->buf, 100), "the data is there");
	two[0] = (struct guest_sge){ b->mr.iova + 9000, 10, b->mr.lkey };
	two[1] = (struct guest_sge){ b->mr.iova + 12000, MEM_BUF - 12000, b->mr.lkey };
	guest_post_srq(&srq, UINT32_MAX, two, 2);
	srq_send(200000);		/* several slices */
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, UINT32_MAX, 200000, 0) &&
	   !memcmp(b->buf + 9000, a->buf, 10) && !memcmp(b->buf + 12000, a->buf + 10, 199990),
	   "a long one, over two SGEs");
	srq_recv(1, 0, 0);
	srq_send_on(&a->qp, VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM, 64);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 1, 64, 0),
	   "WRITE_WITH_IMM takes one");
	srq_drop();
}

static void test_short(void)
{
	srq_fresh();
	srq_recv(3, 0, 8);
	srq_send(9);
	is(mem_status(&a->scq), WC(REM_INV_REQ_ERR), "SEND longer than the receive");
	ok(srq_received(b->qp.qpn, 3, 0, WC(LOC_LEN_ERR)) && IN(a, ERR) && IN(b, ERR),
	   "its receive fails, and both QPs");
	ok(mem_event(b, EVENT(QP_LAST_WQE_REACHED)), "LAST_WQE_REACHED");
	srq_recv(4, 0, 8);
	ok(mem_no_cqe(&b->rcq), "a QP in ERR flushes nothing of the SRQ's");
	is(guest_qp_reset(&b->qp), S(OK), "its QP is reset");
	is(guest_qp_reset(&a->qp), S(OK), "and the sender's");
	mem_pair_connect(&srq_pair);
	srq_send(8);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 4, 8, 0),
	   "and gets the next receive");
	is(guest_qp_set_state(&b->qp, VIRTIO_RDMA_QPS_ERR), S(OK), "to ERR");
	ok(mem_event(b, EVENT(QP_LAST_WQE_REACHED)) && mem_no_event(b), "is told, once each time");
	srq_drop();
}

/* Several QPs share it; the next posts wake senders that found it empty. */
static void test_shared(void)
{
	bool seen[3] = { false }, right = true;
	struct virtio_rdma_cqe cqe;
	uint64_t rnr;

	srq_fresh();
	for (int i = 0; i < 3; i++)
		add_sender(&a->scq, &more_a[i], &more_b[i]);
	rnr = guest_stat(a->g, "rnr");
	for (int i = 0; i < 3; i++)
		srq_send_on(&more_a[i], VIRTIO_RDMA_WR_SEND, 16);
	ok(guest_stat_reaches(a->g, "rnr", rnr + 3, MEM_WAIT_MS) && mem_no_cqe(&a->scq),
	   "three senders wait");
	for (int i = 0; i < 3; i++) {
		srq_recv(50 + i, 0, 64);
		right &= guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) && !cqe.status &&
			 le32toh(cqe.wqe_index) == 50U + i && mem_status(&a->scq) == 0;
		for (int q = 0; q < 3; q++)
			seen[q] |= le32toh(cqe.qpn) == more_b[q].qpn;
	}
	ok(right && seen[0] && seen[1] && seen[2], "each of them gets one of three receives");

	/* A waiting sender is destroyed, and so is the peer of another. */
	for (int i = 0; i < 3; i++)
		srq_send_on(&more_a[i], VIRTIO_RDMA_WR_SEND, 16);
	mem_no_cqe(&a->scq);
	is(guest_qp_destroy(&more_a[0]), S(OK), "a sender that waits goes");
	is(guest_qp_destroy(&more_b[1]), S(OK), "the peer of another goes");
	srq_recv(60, 0, 64);
	ok(srq_received(more_b[2].qpn, 60, 16, 0), "the third gets the receive");
	if (guest_qp_destroy(&more_b[0]) || guest_qp_destroy(&more_a[1]) ||
	    guest_qp_destroy(&more_a[2]) || guest_qp_destroy(&more_b[2]))
		guest_fatal("a QP stays");
	srq_drop();
}

/* Until a sender has found the SRQ empty: the one that was served last, if no other. */
static void wait_starved(void)
{
	for (int ms = 0; ms < MEM_WAIT_MS && !vrd_load32(&srq.ring.ctrl->need_db); ms++)
		usleep(1000);
	/* The query takes the ring's lock, so the sender is in the waiting list. */
	guest_srq_limit(&srq);
}

/*
 * The sender that waits longest gets the next receive, even if another sends continuously.
 * The peers' RNR timers are the longest possible (0: 655 ms), because a sender whose timer
 * expires just after a post would come first.
 */
static void test_fair(void)
{
	struct virtio_rdma_qp_attr slow = { .min_rnr_timer = 0 };
	unsigned int got[3] = { 0 };
	struct virtio_rdma_cqe cqe;
	struct guest_cq cq;

	srq_fresh();
	if (guest_cq_create(&a->ctx, 128, 0, &cq))
		guest_fatal("no CQ");
	for (int i = 0; i < 3; i++) {
		add_sender(&cq, &more_a[i], &more_b[i]);
		if (guest_qp_modify(&more_b[i], VIRTIO_RDMA_QP_MIN_RNR_TIMER, &slow))
			guest_fatal("no RNR timer");
		for (int k = 0; k < 30; k++)
			srq_send_on(&more_a[i], VIRTIO_RDMA_WR_SEND, 8);
	}
	mem_no_cqe(&b->rcq);
	for (int n = 0; n < 30; n++) {
		srq_recv(n, 0, 64);
		if (!guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) || cqe.status)
			break;
		for (int i = 0; i < 3; i++)
			got[i] += le32toh(cqe.qpn) == more_b[i].qpn;
		wait_starved();
	}
	ok(got[0] >= 5 && got[1] >= 5 && got[2] >= 5 && got[0] + got[1] + got[2] == 30,
	   "30 receives, one by one, for three senders: %u, %u, %u", got[0], got[1], got[2]);
	for (int i = 0; i < 3; i++)
		if (guest_qp_destroy(&more_a[i]) || guest_qp_destroy(&more_b[i]))
			guest_fatal("a QP stays");
	guest_cq_destroy(&cq);
	srq_drop();
}

static void test_rnr(void)
{
	srq_fresh();
	mem_pair_drop_qps(&srq_pair);
	b->srq = &srq;
	mem_pair_qps(&srq_pair);
	b->srq = NULL;
	a->attr.rnr_retry = 2;
	b->attr.min_rnr_timer = 1;
	mem_pair_connect(&srq_pair);
	srq_send(8);
	is(mem_status(&a->scq), WC(RNR_RETRY_EXC_ERR), "an empty SRQ: RNR, and retries end");
	ok(IN(a, ERR) && IN(b, RTS), "the requester fails, the responder does not");
	srq_drop();
}

/* The keys of an SRQ's entries belong to its PD, not to the QP's. */
static void test_pd(void)
{
	struct guest_sge sge;
	struct guest_mr mr;
	uint32_t pd;

	srq_fresh();
	mem_pair_drop_qps(&srq_pair);
	if (guest_srq_destroy(&srq) || guest_pd_alloc(&b->ctx, &pd) ||
	    guest_mr_reg(b->g, pd, b->buf, MEM_BUF, MEM_ALL_ACCESS, &mr) ||
	    guest_srq_create(&b->ctx, pd, ENTRIES, 1, &srq))
		guest_fatal("no PD");
	b->srq = &srq;
	mem_pair_qps(&srq_pair);
	b->srq = NULL;
	mem_pair_connect(&srq_pair);
	sge = (struct guest_sge){ mr.iova, MEM_BUF, mr.lkey };
	guest_post_srq(&srq, 1, &sge, 1);
	guest_post_srq(&srq, 2, &sge, 1);
	srq_send(100);
	srq_send(150000);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 1, 100, 0) &&
	   srq_received(b->qp.qpn, 2, 150000, 0) && !memcmp(a->buf, b->buf, 150000),
	   "a key of the SRQ's PD is right");
	sge.lkey = b->mr.lkey;
	guest_post_srq(&srq, 3, &sge, 1);
	srq_send(100);
	ok(srq_received(b->qp.qpn, 3, 0, WC(LOC_PROT_ERR)) && IN(b, ERR),
	   "one of the QP's PD is not");
	srq_drop();
	guest_mr_dereg(&mr);
	guest_destroy_handle(b->g, VIRTIO_RDMA_CMD_DEALLOC_PD, pd);
}

static void test_ud(void)
{
	struct mem_wr w = mem_wr(a, a, VIRTIO_RDMA_WR_SEND, 100);
	struct virtio_rdma_av av = { .hop_limit = 1, .qkey = htole32(0x11223344) };
	struct guest_sge bad = { b->mr.iova, 4096, b->mr.lkey ^ 0x1000 };

	srq_fresh_type(VIRTIO_RDMA_QPT_UD);
	av.pd = htole32(a->pd);
	av.dqpn = htole32(b->qp.qpn);
	memcpy(av.dgid, b->g->gid, 16);
	w.wr.av = &av;
	if (guest_srq_arm(&srq, 0))
		guest_fatal("cannot disarm");
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&b->rcq), "a datagram without a receive is dropped");
	srq_recv(5, 0, 139);
	if (guest_srq_arm(&srq, 1))
		guest_fatal("cannot arm");
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&b->rcq) && mem_no_event(b),
	   "one longer than the receive is dropped, and the receive stays");
	w.sge.length = 99;
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 5, 139, 0) &&
	   !memcmp(b->buf + 40, a->buf, 99),
	   "a shorter one takes it");
	ok(srq_event(EVENT(SRQ_LIMIT_REACHED)), "which reaches the limit");
	guest_post_srq(&srq, 6, &bad, 1);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 6, 0, WC(LOC_PROT_ERR)) &&
	   IN(b, ERR),
	   "a bad key in the entry: its completion says so");
	ok(mem_event(b, EVENT(QP_LAST_WQE_REACHED)), "LAST_WQE_REACHED");
	srq_drop();
}

/* ---- threads ------------------------------------------------------------------------ */

#define SENDERS		3
#define COOKIES		12

/* A sender of messages that carry its identity and a sequence number. */
struct sender {
	pthread_t thread;
	struct guest_cq cq;
	struct guest_qp qp;
	uint64_t sent;
	int status;
};

static struct sender senders[SENDERS];
static _Atomic bool stop;
static _Atomic int running;

static void *run_sender(void *arg)
{
	struct sender *s = arg;
	uint64_t *words = (uint64_t *)(a->buf + 4096 * (1 + (s - senders)));
	struct guest_sge sge = { guest_addr(a->g, words), 16, a->mr.lkey };
	struct guest_wr wr = {
		.opcode = VIRTIO_RDMA_WR_SEND, .flags = VIRTIO_RDMA_WQE_SIGNALED, .num_sge = 1,
		.sge = &sge,
	};

	while (!atomic_load(&stop) && !s->status) {
		words[0] = s - senders;
		words[1] = s->sent++;
		guest_post_send(&s->qp, &wr);
		s->status = mem_status(&s->cq);
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void post_cookie(uint32_t cookie)
{
	srq_recv(cookie, 4096 * cookie, 64);
}

/* Takes all messages and posts the receives again; returns what is wrong, or NULL. */
static const char *receive_some(uint64_t *next, bool *posted, int ms)
{
	struct virtio_rdma_cqe cqe;
	uint64_t *words;
	uint32_t cookie;

	while (guest_poll_wait(&b->rcq, &cqe, ms)) {
		cookie = le32toh(cqe.wqe_index);
		if (cqe.status || cookie >= COOKIES || !posted[cookie])
			return "a receive of nothing that was posted";
		words = (uint64_t *)(b->buf + 4096 * cookie);
		if (words[0] >= SENDERS || words[1] != next[words[0]]++)
			return "a message is missing, or comes twice";
		post_cookie(cookie);
		ms = 0;
	}
	return NULL;
}

/*
 * Three senders on two pollers, whose peers share one SRQ and one CQ; QPs with the SRQ are
 * created and destroyed meanwhile, and its limit is armed.
 */
static void test_threads(void)
{
	struct guest_qp_init init = {
		.type = VIRTIO_RDMA_QPT_RC, .pd = b->pd, .srq = &srq,
	};
	bool posted[COOKIES];
	uint64_t next[SENDERS] = { 0 }, all = 0, until;
	const char *wrong = NULL;
	struct guest_cq other;
	struct guest_qp extra;
	bool right = true;

	srq_fresh();
	if (guest_cq_create(&b->ctx, 16, 0, &other))
		guest_fatal("no CQ");
	for (uint32_t i = 0; i < COOKIES; i++) {
		posted[i] = true;
		post_cookie(i);
	}
	atomic_store(&stop, false);
	atomic_store(&running, SENDERS);
	for (int i = 0; i < SENDERS; i++) {
		struct sender *s = &senders[i];

		*s = (struct sender){ 0 };
		if (guest_cq_create(&a->ctx, 16, 0, &s->cq))
			guest_fatal("no CQ");
		add_sender(&s->cq, &s->qp, &more_b[i]);
		pthread_create(&s->thread, NULL, run_sender, s);
	}
	init.send_cq = init.recv_cq = &other;
	for (until = guest_now_ns() + 1000000000ULL; guest_now_ns() < until && !wrong;) {
		wrong = receive_some(next, posted, 1);
		right &= guest_srq_arm(&srq, 1 + next[0] % COOKIES) == S(OK);
		right &= guest_qp_create(&b->ctx, &init, &extra) == S(OK) &&
			 guest_qp_set_state(&extra, VIRTIO_RDMA_QPS_ERR) == S(OK) &&
			 guest_qp_destroy(&extra) == S(OK);
		mem_drop_events(b->g);
	}
	/* The last message of each sender needs a receive, too. */
	atomic_store(&stop, true);
	while (atomic_load(&running) && !wrong)
		wrong = receive_some(next, posted, 1);
	if (!wrong)
		wrong = receive_some(next, posted, MEM_QUIET_MS);
	for (int i = 0; i < SENDERS; i++) {
		pthread_join(senders[i].thread, NULL);
		if (senders[i].status || senders[i].sent != next[i])
			wrong = wrong ? wrong : "not all that was sent was received";
		all += senders[i].sent;
	}
	ok(!wrong && right, "threads: %llu messages%s%s", (unsigned long long)all, wrong ? ", " : "",
	   wrong ? wrong : "");
	for (int i = 0; i < SENDERS; i++)
		if (guest_qp_destroy(&senders[i].qp) || guest_qp_destroy(&more_b[i]) ||
		    guest_cq_destroy(&senders[i].cq))
			guest_fatal("a QP stays");
	guest_cq_destroy(&other);
	srq_drop();
}

int main(void)
{
	mem_pair_open(&srq_pair, 2, 0);
	test_rc();
	test_short();
	test_shared();
	test_fair();
	test_rnr();
	test_pd();
	test_ud();
	test_threads();
	mem_pair_close(&srq_pair);
	return tap_done();
}
