// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: events in the middle of a long message.  One poller, kept busy by
 * another connection, so that long messages are divided into slices; then an object or
 * memory is removed.
 */
#include <pthread.h>
#include <unistd.h>

#include "mem_pair.h"
#include "shm.h"
#include "tap.h"

#define BIG	(24U << 20)
/* A scenario is repeated if the message was faster than the test. */
#define TRIES	30

static struct mem_pair pair, other;
static struct mem_end *a = &pair.a, *b = &pair.b;
static uint8_t *from, *to;
static struct guest_mr from_mr, to_mr;
static struct guest_qp_init kind = { .type = VIRTIO_RDMA_QPT_RC };
static struct guest_srq srq;		/* b's QP has it if b->srq is set */
static _Atomic bool stop;
static _Atomic uint64_t small_ones;

#define WC(name)	VIRTIO_RDMA_WC_##name
#define SEND		VIRTIO_RDMA_WR_SEND
#define WRITE_IMM	VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM

static void *keep_busy(void *arg)
{
	struct mem_wr w = mem_wr(&other.a, &other.b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);

	(void)arg;
	while (!atomic_load(&stop)) {
		mem_post(&other.a, &w);
		if (mem_status(&other.a.scq))
			guest_fatal("the other connection fails");
		atomic_fetch_add(&small_ones, 1);
	}
	return NULL;
}

static void end_like(struct mem_end *end, const struct mem_end *like)
{
	end->g = like->g;
	if (guest_ctx_create(end->g, 0, &end->ctx) || guest_pd_alloc(&end->ctx, &end->pd))
		guest_fatal("no context");
	end->buf = guest_alloc(end->g, MEM_BUF);
	if (guest_mr_reg(end->g, end->pd, end->buf, MEM_BUF, MEM_ALL_ACCESS, &end->mr))
		guest_fatal("no region");
}

static void register_big(void)
{
	if (guest_mr_reg(a->g, a->pd, from, BIG, MEM_ALL_ACCESS, &from_mr) ||
	    guest_mr_reg(b->g, b->pd, to, BIG, MEM_ALL_ACCESS, &to_mr))
		guest_fatal("no region");
}

/* Some objects may be gone already: then the answer does not matter. */
static void deregister_big(void)
{
	guest_mr_dereg(&from_mr);
	guest_mr_dereg(&to_mr);
}

static uint8_t peek(uint64_t at)
{
	return __atomic_load_n(to + at, __ATOMIC_RELAXED);
}

/*
 * Starts a message of BIG bytes and returns when its first byte has arrived.  Returns false
 * if the last byte has arrived as well.
 */
static bool begin(uint8_t opcode, const struct virtio_rdma_qp_attr *tweak)
{
	struct guest_sge sge;
	struct guest_wr wr = {
		.opcode = opcode, .flags = VIRTIO_RDMA_WQE_SIGNALED, .num_sge = 1, .sge = &sge,
	};

	if (b->srq && guest_srq_create(&b->ctx, b->pd, 16, 1, b->srq))
		guest_fatal("no SRQ");
	mem_pair_qps_init(&pair, &kind, 64);
	if (tweak) {
		a->attr.timeout = tweak->timeout;
		a->attr.retry_cnt = tweak->retry_cnt;
	}
	mem_pair_connect(&pair);
	register_big();
	/* Ends with bytes that a message does not contain. */
	memset(from, 0x66, BIG);
	memset(to, 0x11, BIG);
	sge = (struct guest_sge){ to_mr.iova, BIG, to_mr.lkey };
	if (b->srq)
		guest_post_srq(b->srq, 77, &sge, 1);
	else
		guest_post_recv(&b->qp, &sge, 1);
	sge = (struct guest_sge){ from_mr.iova, BIG, from_mr.lkey };
	wr.remote_addr = to_mr.iova;
	wr.rkey = to_mr.rkey;
	guest_post_send(&a->qp, &wr);
	while (peek(0) != 0x66)
		vrd_cpu_relax();
	return peek(BIG - 1) != 0x66;
}

static void end(void)
{
	mem_pair_drop_qps(&pair);
	if (b->srq && guest_srq_destroy(b->srq))
		guest_fatal("the SRQ stays");
	deregister_big();
}

/* After the command: the last byte is not there, and never arrives. */
static bool cut_off(void)
{
	if (peek(BIG - 1) == 0x66)
		return false;
	usleep(2000);
	return peek(BIG - 1) != 0x66;
}

static void report(int tries, bool right, const char *what)
{
	if (tries == TRIES && right)
		ok(true, "%s # SKIP the message was always faster", what);
	else
		ok(right, "%s", what);
}

static void test_responder_to_err(void)
{
	bool right = true, cut = false;
	int tries;

	for (tries = 0; tries < TRIES && right && !cut; tries++) {
		begin(SEND, NULL);
		guest_qp_set_state(&b->qp, VIRTIO_RDMA_QPS_ERR);
		cut = cut_off();
		if (cut)
			right = mem_status(&a->scq) == WC(RETRY_EXC_ERR) &&
				mem_status(&b->rcq) == WC(WR_FLUSH_ERR);
		end();
	}
	report(cut ? 0 : tries, right,
	       "responder to ERR in a SEND: the receive that was taken is flushed");
}

/* The receive that a message took, but did not fill, serves the next message. */
static void test_requester_reset(void)
{
	bool right = true, cut = false;
	struct virtio_rdma_cqe cqe;
	int tries;

	for (tries = 0; tries < TRIES && right && !cut; tries++) {
		struct mem_wr w = mem_wr(a, b, SEND, 100);

		begin(SEND, NULL);
		guest_qp_reset(&a->qp);
		cut = cut_off();
		if (cut) {
			mem_bring_up(a, VIRTIO_RDMA_QPS_RTS);
			mem_pattern(a->buf, 100, MEM_SEED_A);
			mem_post(a, &w);
			right = mem_status(&a->scq) == 0 &&
				guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) && !cqe.status &&
				le32toh(cqe.byte_len) == 100 && le32toh(cqe.wqe_index) == 0 &&
				mem_has_pattern(to, 100, MEM_SEED_A);
		}
		end();
	}
	report(cut ? 0 : tries, right, "requester reset in a SEND: its receive takes the next one");
}

static void test_dereg(uint8_t opcode, bool local, uint8_t status, int recv_status,
		       const char *what)
{
	bool right = true, cut = false;
	int tries;

	for (tries = 0; tries < TRIES && right && !cut; tries++) {
		begin(opcode, NULL);
		guest_mr_dereg(local ? &from_mr : &to_mr);
		cut = cut_off();
		if (cut) {
			right = mem_status(&a->scq) == status;
			if (recv_status >= 0)
				right &= mem_status(&b->rcq) == recv_status &&
					 mem_in_state(b, VIRTIO_RDMA_QPS_ERR);
			else
				right &= mem_no_cqe(&b->rcq) &&
					 mem_in_state(b, VIRTIO_RDMA_QPS_RTS);
		}
		end();
	}
	report(cut ? 0 : tries, right, what);
}

/* The peer is connected again while the sender still retries: the message starts again. */
static void test_responder_reconnects(void)
{
	struct virtio_rdma_qp_attr patient = { .timeout = 17, .retry_cnt = 7 };
	bool right = true, cut = false;
	int tries;

	for (tries = 0; tries < TRIES && right && !cut; tries++) {
		struct guest_sge sge;

		begin(SEND, &patient);
		guest_qp_reset(&b->qp);
		cut = cut_off();
		if (cut) {
			memset(to, 0x11, BIG);
			mem_bring_up(b, VIRTIO_RDMA_QPS_RTS);
			sge = (struct guest_sge){ to_mr.iova, BIG, to_mr.lkey };
			guest_post_recv(&b->qp, &sge, 1);
			right = mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0 &&
				!memcmp(from, to, BIG);
		}
		end();
	}
	report(cut ? 0 : tries, right, "responder reset and connected anew: the whole message comes");
}

/*
 * A message holds a receive of the SRQ while its QP is reset or destroyed: when the command
 * is answered, the entry has been completed, so the driver owns it again.
 */
static void test_srq_entry(bool destroy)
{
	bool right = true, cut = false;
	struct virtio_rdma_cqe cqe;
	int tries;

	b->srq = &srq;
	for (tries = 0; tries < TRIES && right && !cut; tries++) {
		begin(SEND, NULL);
		if (destroy) {
			right = !guest_qp_destroy(&b->qp);
			b->qp.g = NULL;
		} else {
			right = !guest_qp_reset(&b->qp);
		}
		right &= guest_poll(&b->rcq, &cqe) && le32toh(cqe.wqe_index) == 77;
		cut = cut_off();
		right &= !cut || cqe.status == WC(WR_FLUSH_ERR);
		right &= mem_no_cqe(&b->rcq);
		end();
	}
	b->srq = NULL;
	report(cut ? 0 : tries, right,
	       destroy ? "responder destroyed in a SEND: the SRQ's entry is completed"
		       : "responder reset in a SEND: the SRQ's entry is completed");
}

/* An unreliable sender does not learn that its message was lost. */
static void test_uc(void)
{
	bool right = true, cut = false;
	int tries;

	kind.type = VIRTIO_RDMA_QPT_UC;
	for (tries = 0; tries < TRIES && right && !cut; tries++) {
		begin(SEND, NULL);
		guest_qp_set_state(&b->qp, VIRTIO_RDMA_QPS_ERR);
		cut = cut_off();
		if (cut)
			right = mem_status(&a->scq) == 0 &&
				mem_status(&b->rcq) == WC(WR_FLUSH_ERR) &&
				mem_in_state(a, VIRTIO_RDMA_QPS_RTS);
		end();
	}
	report(cut ? 0 : tries, right, "UC: responder to ERR in a SEND, which succeeds");

	right = true;
	cut = false;
	for (tries = 0; tries < TRIES && right && !cut; tries++) {
		begin(SEND, NULL);
		guest_stop_queues(b->g);
		cut = cut_off();
		if (cut)
			right = mem_status(&a->scq) == 0;
		guest_start_queues(b->g);
		if (cut) {
			struct mem_wr w = mem_wr(a, b, SEND, 100);

			mem_pattern(a->buf, 100, MEM_SEED_A);
			mem_post(a, &w);
			right &= mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0 &&
				 mem_has_pattern(to, 100, MEM_SEED_A);
		}
		end();
	}
	kind.type = VIRTIO_RDMA_QPT_RC;
	report(cut ? 0 : tries, right,
	       "UC: receiver paused in a SEND: it is lost, its receive takes the next one");
}

static void test_pause(bool local)
{
	bool right = true, cut = false;
	int tries;

	for (tries = 0; tries < TRIES && right && !cut; tries++) {
		struct guest *g = local ? a->g : b->g;

		begin(local ? SEND : WRITE_IMM, NULL);
		guest_stop_queues(g);
		cut = cut_off();
		if (cut)
			usleep(50000);		/* longer than the retries */
		cut = cut && peek(BIG - 1) != 0x66;
		guest_start_queues(g);
		right = mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0 &&
			!memcmp(from, to, BIG);
		end();
	}
	report(cut ? 0 : tries, right, local ? "sender paused in a SEND: goes on where it was"
					     : "receiver paused in a WRITE: goes on where it was");
}

/*
 * The number of small requests that fit beside a long message depends on the host's
 * scheduler, because the thread that posts them may not run at all.  But if the poller did
 * not serve others between slices, each message would see at most one or two: those at its
 * ends.
 */
static void test_fair(void)
{
	uint64_t before, during, most = 0;
	bool right = true;

	for (int i = 0; i < TRIES && right && most < 5; i++) {
		begin(SEND, NULL);
		before = atomic_load(&small_ones);
		right = mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0;
		during = atomic_load(&small_ones) - before;
		if (during > most)
			most = during;
		end();
	}
	ok(right && most >= 5, "small requests of others are done between slices (%llu)",
	   (unsigned long long)most);
}

int main(void)
{
	pthread_t thread;

#ifdef __SANITIZE_THREAD__
	ok(true, "all # SKIP watches bytes that the poller writes: a race by intent");
	return tap_done();
#endif
	mem_pair_open(&pair, 1, 64 << 20);
	other.engine = pair.engine;
	end_like(&other.a, a);
	end_like(&other.b, b);
	mem_pair_qps(&other);
	mem_pair_connect(&other);
	from = guest_alloc(a->g, BIG);
	to = guest_alloc(b->g, BIG);
	pthread_create(&thread, NULL, keep_busy, NULL);

	test_fair();
	test_responder_to_err();
	test_requester_reset();
	test_dereg(SEND, false, WC(REM_OP_ERR), WC(LOC_PROT_ERR),
		   "receive's region deregistered in a SEND: LOC_PROT_ERR, REM_OP_ERR");
	test_dereg(SEND, true, WC(LOC_PROT_ERR), -1,
		   "own region deregistered in a SEND: LOC_PROT_ERR, the receive stays taken");
	test_dereg(WRITE_IMM, false, WC(REM_ACCESS_ERR), WC(LOC_ACCESS_ERR),
		   "rkey's region deregistered in a WRITE_WITH_IMM: LOC_ACCESS_ERR, REM_ACCESS_ERR");
	test_responder_reconnects();
	test_srq_entry(false);
	test_srq_entry(true);
	test_uc();
	test_pause(false);
	test_pause(true);

	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	mem_pair_close(&pair);
	return tap_done();
}
