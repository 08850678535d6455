// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport with several pollers, devices and threads: objects are destroyed under
 * traffic, and after the command returned no byte moves.  Intended for the thread sanitizer
 * above all, which detects a later store of a poller even if no check here does.
 *
 * Each scenario runs for a while, with two other connections busy beside it.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "mem_pair.h"
#include "shm.h"
#include "tap.h"

#define SCENARIO_MS	1200
#define LONG		(200U << 10)		/* a message of several slices */

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;

#define WC(name)	VIRTIO_RDMA_WC_##name

static uint32_t any(uint64_t *seed, uint32_t below)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed % below;
}

static uint64_t in_ms(int ms)
{
	return guest_now_ns() + ms * 1000000ULL;
}

/* A second connection of the same guests, with its own context and memory. */
static void end_beside(struct mem_end *end, struct guest *g)
{
	memset(end, 0, sizeof(*end));
	end->g = g;
	if (guest_ctx_create(end->g, 0, &end->ctx) || guest_pd_alloc(&end->ctx, &end->pd))
		guest_fatal("no context");
	end->buf = guest_alloc(end->g, MEM_BUF);
	if (guest_mr_reg(end->g, end->pd, end->buf, MEM_BUF, MEM_ALL_ACCESS, &end->mr))
		guest_fatal("no region");
}

static void pair_beside(struct mem_pair *p)
{
	p->engine = pair.engine;
	end_beside(&p->a, a->g);
	end_beside(&p->b, b->g);
	mem_pair_qps(p);
	mem_pair_connect(p);
}

/* ---- the traffic beside ----------------------------------------------------------- */

struct traffic {
	pthread_t thread;
	struct mem_pair p;
	_Atomic bool stop;
	uint64_t seed, done;
	const char *wrong;
};

/* One random operation, checked; both ends belong to this thread. */
static const char *one_operation(struct traffic *t)
{
	static const uint8_t opcodes[] = {
		VIRTIO_RDMA_WR_RDMA_WRITE, VIRTIO_RDMA_WR_SEND, VIRTIO_RDMA_WR_RDMA_READ,
		VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD, VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM,
	};
	bool swap = any(&t->seed, 2);
	struct mem_end *from = swap ? &t->p.b : &t->p.a, *to = swap ? &t->p.a : &t->p.b;
	uint8_t opcode = opcodes[any(&t->seed, 5)];
	uint32_t length = any(&t->seed, any(&t->seed, 8) ? 2000 : LONG) + 1;
	bool receives = opcode == VIRTIO_RDMA_WR_SEND ||
			opcode == VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM;
	bool read = opcode == VIRTIO_RDMA_WR_RDMA_READ;
	struct mem_wr w;
	uint64_t *word = (uint64_t *)to->buf, before;

	if (opcode == VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD)
		length = 8;
	w = mem_wr(from, to, opcode, length);
	w.wr.swap_add = 3;
	before = *word;
	if (receives)
		mem_recv(to, 0, MEM_BUF);
	mem_pattern(read ? to->buf : from->buf, length, any(&t->seed, 1000));
	before = *word;
	mem_post(from, &w);
	if (mem_status(&from->scq))
		return "a completion fails";
	if (receives && mem_status(&to->rcq))
		return "a receive fails";
	if (opcode == VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD)
		return *word == before + 3 ? NULL : "an atomic is wrong";
	return memcmp(from->buf, to->buf, length) ? "data is wrong" : NULL;
}

static void *run_traffic(void *arg)
{
	struct traffic *t = arg;

	while (!t->wrong && !atomic_load(&t->stop)) {
		t->wrong = one_operation(t);
		t->done++;
	}
	return NULL;
}

static void traffic_start(struct traffic *t, uint64_t seed)
{
	memset(t, 0, sizeof(*t));
	t->seed = seed;
	pair_beside(&t->p);
	pthread_create(&t->thread, NULL, run_traffic, t);
}

static void traffic_stop(struct traffic *t)
{
	atomic_store(&t->stop, true);
	pthread_join(t->thread, NULL);
	ok(!t->wrong && t->done > 10, "traffic beside: %llu operations%s%s",
	   (unsigned long long)t->done, t->wrong ? ", " : "", t->wrong ? t->wrong : "");
}

/* ---- scenarios --------------------------------------------------------------------- */

/* Posts until the ring of completions could overflow; returns the number of requests. */
static int post_some(struct mem_end *from, struct mem_wr *w, uint64_t *seed)
{
	int num = 1 + any(seed, 8);

	for (int i = 0; i < num; i++) {
		w->sge.length = any(seed, 2) ? LONG : any(seed, 4096) + 1;
		mem_post(from, w);
	}
	return num;
}

/* @num completions: successes, then one of @status (or none), then flushes. */
static bool completions(struct guest_cq *cq, int num, int status)
{
	int last = 0;

	while (num--) {
		int s = mem_status(cq);

		if (last == 0 && (s == 0 || s == status))
			last = s;
		else if (last == 0 || s != WC(WR_FLUSH_ERR))
			return false;
	}
	return true;
}

static void reconnect(void)
{
	if (guest_qp_reset(&a->qp) || guest_qp_reset(&b->qp))
		guest_fatal("no reset");
	mem_pair_connect(&pair);
}

/* True if nothing writes to @p, which is filled with @value. */
static bool stays(const uint8_t *p, uint8_t value)
{
	usleep(300);
	for (uint32_t i = 0; i < LONG; i++)
		if (p[i] != value)
			return false;
	return true;
}

/* The region that the peer writes to, or that we read into, is deregistered. */
static void test_dereg(bool local)
{
	struct mem_end *owner = local ? a : b;
	uint8_t opcode = local ? VIRTIO_RDMA_WR_RDMA_READ : VIRTIO_RDMA_WR_RDMA_WRITE;
	uint64_t until = in_ms(SCENARIO_MS), seed = 99 + local;
	bool right = true, quiet = true;
	int rounds = 0;

	mem_pair_fresh(&pair);
	while (guest_now_ns() < until && right && quiet) {
		struct mem_wr w = mem_wr(a, b, opcode, 0);
		struct guest_mr mr;
		int num;

		if (guest_mr_reg(owner->g, owner->pd, owner->buf, MEM_BUF, MEM_ALL_ACCESS, &mr))
			guest_fatal("no region");
		if (local)
			w.sge.lkey = mr.lkey;
		else
			w.wr.rkey = mr.rkey;
		num = post_some(a, &w, &seed);
		usleep(any(&seed, 100));
		guest_mr_dereg(&mr);
		memset(owner->buf, 0x5a, LONG);
		quiet = stays(owner->buf, 0x5a);
		right = completions(&a->scq, num, local ? WC(LOC_PROT_ERR) : WC(REM_ACCESS_ERR));
		reconnect();
		rounds++;
	}
	ok(quiet, "%s region deregistered under traffic %d times: no byte moves after it",
	   local ? "own" : "peer's", rounds);
	ok(right, "and the completions are right");
	mem_pair_drop_qps(&pair);
}

/* The peer is destroyed, reset or moved to ERR, and its memory is not written any more. */
enum way { TO_ERR, TO_RESET, DESTROY };

static void test_peer_goes(enum way way, const char *what)
{
	uint64_t until = in_ms(SCENARIO_MS), seed = 7 + way;
	bool right = true, quiet = true;
	int rounds = 0;

	while (guest_now_ns() < until && right && quiet) {
		struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 0);
		int num;

		mem_pair_qps(&pair);
		mem_pair_connect(&pair);
		num = post_some(a, &w, &seed);
		usleep(any(&seed, 100));
		if (way == DESTROY) {
			guest_qp_destroy(&b->qp);
			b->qp.g = NULL;
		} else if (way == TO_RESET) {
			guest_qp_reset(&b->qp);
		} else {
			guest_qp_set_state(&b->qp, VIRTIO_RDMA_QPS_ERR);
		}
		memset(b->buf, 0x33, LONG);
		quiet = stays(b->buf, 0x33);
		right = completions(&a->scq, num, WC(RETRY_EXC_ERR));
		mem_pair_drop_qps(&pair);
		rounds++;
	}
	ok(quiet && right, "%s %d times: no byte moves after it, the sender times out", what, rounds);
}

/* The same for the requester, with SENDs: the responder's receives come back. */
static void test_sender_goes(enum way way, const char *what)
{
	uint64_t until = in_ms(SCENARIO_MS), seed = 17 + way;
	bool right = true, quiet = true;
	int rounds = 0;

	while (guest_now_ns() < until && right && quiet) {
		struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_SEND, 0);
		struct virtio_rdma_cqe cqe;
		int num;

		mem_pair_qps(&pair);
		mem_pair_connect(&pair);
		for (int i = 0; i < 8; i++)
			mem_recv(b, 0, MEM_BUF);
		num = post_some(a, &w, &seed);
		usleep(any(&seed, 100));
		if (way == DESTROY) {
			guest_qp_destroy(&a->qp);
			a->qp.g = NULL;
		} else if (way == TO_RESET) {
			guest_qp_reset(&a->qp);
		} else {
			guest_qp_set_state(&a->qp, VIRTIO_RDMA_QPS_ERR);
			right &= completions(&a->scq, num, WC(WR_FLUSH_ERR));
		}
		memset(b->buf, 0x44, LONG);
		quiet = stays(b->buf, 0x44);
		guest_qp_set_state(&b->qp, VIRTIO_RDMA_QPS_ERR);
		/* All eight, in order, one of them possibly half filled. */
		for (uint32_t i = 0; i < 8; i++)
			right &= guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) &&
				 le32toh(cqe.wqe_index) == i &&
				 (cqe.status == 0 || cqe.status == WC(WR_FLUSH_ERR));
		mem_pair_drop_qps(&pair);
		rounds++;
	}
	ok(quiet && right, "%s %d times: no byte moves after it, the receives are flushed in order",
	   what, rounds);
}

static void test_suspend(void)
{
	uint64_t until = in_ms(SCENARIO_MS), seed = 5;
	bool right = true, quiet = true;
	struct guest_config cfg = { .name = "c", .id = 3, .host_mapped = MEM_HOST_MAPPED };
	struct mem_pair third = { .engine = pair.engine };
	struct mem_end *c = &third.b;
	int rounds = 0;

	end_beside(&third.a, a->g);
	end_beside(c, guest_create(pair.engine, &cfg));
	mem_pair_qps(&third);
	mem_pair_connect(&third);
	while (guest_now_ns() < until && right && quiet) {
		struct mem_wr w = mem_wr(&third.a, c, VIRTIO_RDMA_WR_RDMA_WRITE, 0);
		int num = post_some(&third.a, &w, &seed);

		usleep(any(&seed, 100));
		guest_stop_queues(c->g);
		memset(c->buf, 0x77, LONG);
		quiet = stays(c->buf, 0x77);
		guest_start_queues(c->g);
		right = completions(&third.a.scq, num, 0);
		rounds++;
	}
	ok(quiet && right, "peer paused %d times under traffic: no byte moves, nothing is lost",
	   rounds);
	mem_pair_drop_qps(&third);
	guest_destroy(c->g);
}

static void test_device_destroyed(void)
{
	uint64_t until = in_ms(SCENARIO_MS), seed = 11;
	bool right = true;
	int rounds = 0;

	while (guest_now_ns() < until && right) {
		struct guest_config cfg = {
			.name = "d", .id = 4, .mem_size = 8 << 20, .host_mapped = MEM_HOST_MAPPED,
		};
		struct mem_pair third = { .engine = pair.engine };
		struct mem_end *d = &third.b;
		struct mem_wr w;
		int num;

		end_beside(d, guest_create(pair.engine, &cfg));
		end_beside(&third.a, a->g);
		mem_pair_qps(&third);
		mem_pair_connect(&third);
		w = mem_wr(&third.a, d, rounds & 1 ? VIRTIO_RDMA_WR_RDMA_READ
						   : VIRTIO_RDMA_WR_RDMA_WRITE, 0);
		num = post_some(&third.a, &w, &seed);
		usleep(any(&seed, 100));
		/* Its memory is unmapped afterwards: a late access would fault. */
		guest_destroy(d->g);
		right = completions(&third.a.scq, num, WC(RETRY_EXC_ERR));
		if (guest_qp_destroy(&third.a.qp) || guest_cq_destroy(&third.a.scq) ||
		    guest_cq_destroy(&third.a.rcq) || guest_mr_dereg(&third.a.mr))
			guest_fatal("objects of the survivor");
		guest_free(a->g, third.a.buf, MEM_BUF);
		guest_destroy_handle(a->g, VIRTIO_RDMA_CMD_DEALLOC_PD, third.a.pd);
		guest_ctx_destroy(&third.a.ctx);
		rounds++;
	}
	ok(right, "peer's device destroyed %d times under traffic", rounds);
}

/* ---- many to one -------------------------------------------------------------------- */

#define SENDERS		3
#define EACH		400		/* at least */
#define EACH_MAX	65536		/* their numbers have 16 bits */
#define ENOUGH		100		/* more than the receives that were posted at first */

static atomic_bool enough;

struct datagrams {
	pthread_t thread;
	struct mem_end end;
	struct virtio_rdma_av av;
	uint32_t number;
};

static void *send_datagrams(void *arg)
{
	struct datagrams *d = arg;

	for (uint32_t i = 0; i < EACH || (i < EACH_MAX && !enough); i++) {
		struct mem_wr w = mem_wr(&d->end, &d->end, VIRTIO_RDMA_WR_SEND_WITH_IMM, 64);

		w.wr.av = &d->av;
		w.wr.imm = d->number << 16 | i;
		memset(d->end.buf, d->number << 4 | (i & 15), 64);
		mem_post(&d->end, &w);
		if (mem_status(&d->end.scq))
			guest_fatal("a datagram fails");
	}
	return NULL;
}

static void test_many_to_one(void)
{
	struct guest_qp_init ud = { .type = VIRTIO_RDMA_QPT_UD, .rq_entries = 64 };
	struct datagrams senders[SENDERS];
	uint32_t next[SENDERS] = { 0 }, got = 0, slot = 0;
	struct virtio_rdma_cqe cqe;
	bool right = true;

	mem_pair_qps_init(&pair, &ud, 128);
	mem_pair_connect(&pair);
	for (int i = 0; i < 32; i++)
		mem_recv(b, i * 256, 256);
	for (uint32_t i = 0; i < SENDERS; i++) {
		struct mem_pair p = { .engine = pair.engine, .b = *b };

		senders[i].number = i;
		end_beside(&p.a, i & 1 ? b->g : a->g);
		mem_pair_qps_init(&p, &ud, 64);
		mem_bring_up(&p.a, VIRTIO_RDMA_QPS_RTS);
		senders[i].end = p.a;
		guest_qp_destroy(&p.b.qp);
		guest_cq_destroy(&p.b.scq);
		guest_cq_destroy(&p.b.rcq);
		senders[i].end.qp.init.send_cq = &senders[i].end.scq;
		senders[i].end.qp.init.recv_cq = &senders[i].end.rcq;
		senders[i].end.qp.ctx = &senders[i].end.ctx;
		senders[i].av = (struct virtio_rdma_av){
			.pd = htole32(p.a.pd), .dqpn = htole32(b->qp.qpn), .hop_limit = 1,
			.qkey = htole32(0x11223344),
		};
		memcpy(senders[i].av.dgid, b->g->gid, 16);
	}
	for (uint32_t i = 0; i < SENDERS; i++)
		pthread_create(&senders[i].thread, NULL, send_datagrams, &senders[i]);
	while (guest_poll_wait(&b->rcq, &cqe, 500)) {
		uint32_t who = cqe.imm >> 16, n = cqe.imm & 0xffff;
		const uint8_t *p = b->buf + slot * 256 + 40;

		/* Some may be lost, but none is duplicated, mixed up or out of order. */
		right &= !cqe.status && who < SENDERS && n >= next[who] &&
			 p[0] == (who << 4 | (n & 15)) && p[63] == p[0] &&
			 le32toh(cqe.src_qp) == senders[who].end.qp.qpn;
		next[who] = n + 1;
		mem_recv(b, slot * 256, 256);
		slot = (slot + 1) % 32;
		if (++got == ENOUGH)
			enough = true;
	}
	for (uint32_t i = 0; i < SENDERS; i++) {
		pthread_join(senders[i].thread, NULL);
		guest_qp_destroy(&senders[i].end.qp);
		guest_cq_destroy(&senders[i].end.scq);
		guest_cq_destroy(&senders[i].end.rcq);
	}
	ok(right && enough, "%u datagrams of %u threads to one QP, whole and in order", got, SENDERS);
	mem_pair_drop_qps(&pair);
}

/* ---- atomics ---------------------------------------------------------------------------- */

struct adder {
	pthread_t thread;
	struct mem_pair p;
	uint64_t remote;
	uint32_t rkey;
};

static void *add_many(void *arg)
{
	struct adder *adder = arg;
	struct mem_wr w = mem_wr(&adder->p.a, &adder->p.b, VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD, 8);

	w.wr.swap_add = 1;
	for (int i = 0; i < 500; i++) {
		mem_post(&adder->p.a, &w);
		if (mem_status(&adder->p.a.scq))
			guest_fatal("an atomic fails");
	}
	return NULL;
}

/* Two pollers and a CPU of the owner add to one word. */
static void test_atomics(void)
{
	struct adder adders[2];
	uint64_t *word = (uint64_t *)b->buf;

	__atomic_store_n(word, 0, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 2; i++) {
		struct guest_mr mr;

		memset(&adders[i], 0, sizeof(adders[i]));
		adders[i].p.engine = pair.engine;
		pair_beside(&adders[i].p);
		if (guest_mr_reg(b->g, adders[i].p.b.pd, b->buf, MEM_BUF, MEM_ALL_ACCESS, &mr))
			guest_fatal("no region");
		adders[i].p.b.mr = mr;
		pthread_create(&adders[i].thread, NULL, add_many, &adders[i]);
	}
	for (int i = 0; i < 20000; i++)
		__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 2; i++) {
		pthread_join(adders[i].thread, NULL);
		mem_pair_drop_qps(&adders[i].p);
	}
	ok(__atomic_load_n(word, __ATOMIC_SEQ_CST) == 20000 + 2 * 500,
	   "atomics of two contexts and of the CPU on one word: none is lost");
}

int main(void)
{
	struct traffic beside[2];

	mem_pair_open(&pair, 3, 0);
	for (int i = 0; i < 2; i++)
		traffic_start(&beside[i], 1000 + i);

	test_dereg(false);
	test_dereg(true);
	test_peer_goes(TO_ERR, "peer's QP to ERR");
	test_peer_goes(TO_RESET, "peer's QP reset");
	test_peer_goes(DESTROY, "peer's QP destroyed");
	test_sender_goes(TO_ERR, "sender's QP to ERR");
	test_sender_goes(TO_RESET, "sender's QP reset");
	test_sender_goes(DESTROY, "sender's QP destroyed");
	test_suspend();
	test_device_destroyed();
	test_many_to_one();
	test_atomics();

	for (int i = 0; i < 2; i++)
		traffic_stop(&beside[i]);
	mem_pair_close(&pair);
	return tap_done();
}
