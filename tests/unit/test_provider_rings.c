// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The provider's ring code against a minimal device: wrap-around, phases, reclaiming,
 * purging, cookies, arming and doorbells.  Then both run in threads, and the device sleeps
 * whenever it finds no work, so that a lost doorbell or event hangs the test (the runner's
 * time limit detects it).
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#include "../../providers/virtio_rdma/cookie.h"
#include "../../providers/virtio_rdma/cq_ring.h"
#include "../../providers/virtio_rdma/ring.h"

static int tests, failures;

static void ok(bool good, const char *name)
{
	tests++;
	failures += !good;
	printf("%sok %d - %s\n", good ? "" : "not ", tests, name);
}

/* Memory of one send ring, one CQ and a doorbell page, and both sides' views. */
struct rig {
	struct vrdma_ring sq;
	struct vrdma_cq_ring cq;
	struct virtio_rdma_db_page *db;
	uint32_t entries;
	/* the device's */
	uint32_t sq_pos;
	uint32_t cq_pos;
	uint32_t answered;	/* sequence of the last arming it answered */
	uint32_t events;
};

static void *page_alloc(size_t len)
{
	void *p = aligned_alloc(4096, (len + 4095) & ~(size_t)4095);

	if (!p)
		abort();
	memset(p, 0, (len + 4095) & ~(size_t)4095);
	return p;
}

static void rig_init(struct rig *r, uint32_t entries, uint32_t start)
{
	memset(r, 0, sizeof(*r));
	r->entries = entries;
	r->sq.base = page_alloc((size_t)entries * 64);
	r->sq.ctrl = page_alloc(sizeof(*r->sq.ctrl));
	r->sq.entries = entries;
	r->sq.mask = entries - 1;
	r->sq.shift = 6;
	r->sq.slot = 200;
	r->sq.head = r->sq.tail = r->sq_pos = start;
	vrdma_store(&r->sq.ctrl->producer, start);
	r->cq.cqes = page_alloc((size_t)entries * 32);
	r->cq.ctrl = page_alloc(sizeof(*r->cq.ctrl));
	r->cq.mask = entries - 1;
	r->cq.shift = __builtin_ctz(entries);
	r->db = page_alloc(sizeof(*r->db));
}

static void rig_free(struct rig *r)
{
	free(r->sq.base);
	free(r->sq.ctrl);
	free(r->cq.cqes);
	free(r->cq.ctrl);
	free(r->db);
}

/* The device writes a CQE as the specification says (6.1, 6.4.2). */
static void dev_complete_as(struct rig *r, uint32_t qpn, uint32_t index, uint8_t opcode,
			    uint32_t srqn)
{
	struct virtio_rdma_cqe *cqe = &r->cq.cqes[r->cq_pos & r->cq.mask];
	uint32_t phase = ~(r->cq_pos >> r->cq.shift) & 1;
	uint32_t arm;

	cqe->qpn = htole32(qpn);
	cqe->wqe_index = htole32(index);
	cqe->byte_len = htole32(index * 3);
	cqe->srqn = htole32(srqn);
	__atomic_store_n((vrdma_cqe_word *)(void *)&cqe->opcode,
			 htole32(phase << 24 | opcode), __ATOMIC_RELEASE);
	r->cq_pos++;

	vrdma_full_barrier();
	arm = vrdma_load(&r->cq.ctrl->arm);
	if (arm && arm >> VIRTIO_RDMA_ARM_SEQ_SHIFT != r->answered) {
		r->answered = arm >> VIRTIO_RDMA_ARM_SEQ_SHIFT;
		vrdma_store(&r->cq.ctrl->fired, arm);
		__atomic_fetch_add(&r->events, 1, __ATOMIC_RELEASE);
	}
}

static void dev_complete(struct rig *r, uint32_t qpn, uint32_t index)
{
	dev_complete_as(r, qpn, index, VIRTIO_RDMA_WC_SEND, 0);
}

static void dev_complete_recv(struct rig *r, uint32_t qpn, uint32_t index, uint32_t srqn)
{
	dev_complete_as(r, qpn, index, VIRTIO_RDMA_WC_RECV, srqn);
}

static struct virtio_rdma_cqe *take(struct rig *r)
{
	struct virtio_rdma_cqe *cqe;
	uint32_t word;

	cqe = vrdma_cq_ring_peek(&r->cq, r->cq.consumer, &word);
	if (cqe)
		r->cq.consumer++;
	return cqe;
}

/* A ring is full at its size and not before, wherever its indices are. */
static void test_wrap(uint32_t start, const char *name)
{
	struct virtio_rdma_cqe *cqe;
	bool good = true;
	struct rig r;
	uint32_t i, n;

	rig_init(&r, 8, start);
	r.sq.tail = start;
	for (n = 0; n < 100; n++) {
		uint32_t head = r.sq.head;
		uint32_t count = n % 8 + 1;

		for (i = 0; i < count; i++, head++) {
			good &= !vrdma_ring_full(&r.sq, head);
			memset(vrdma_ring_entry(&r.sq, head), n, 64);
		}
		good &= vrdma_ring_full(&r.sq, head) == (count == 8);
		good &= !vrdma_ring_publish(&r.sq, head);
		good &= vrdma_load(&r.sq.ctrl->producer) == head;
		/* One signaled at the end of each batch. */
		dev_complete(&r, 5, head - 1);
		cqe = take(&r);
		good &= cqe && le32toh(cqe->wqe_index) == head - 1;
		good &= !take(&r);
		vrdma_ring_complete(&r.sq, head - 1);
		vrdma_cq_ring_consume(&r.cq);
	}
	ok(good, name);
	rig_free(&r);
}

/* Full CQ, three laps: each entry is seen once, in order, never early. */
static void test_phases(void)
{
	bool good = true;
	struct rig r;
	uint32_t i, lap;

	rig_init(&r, 16, 0);
	for (lap = 0; lap < 3; lap++) {
		good &= !take(&r);
		for (i = 0; i < 16; i++)
			dev_complete(&r, 1, lap * 16 + i);
		for (i = 0; i < 16; i++) {
			struct virtio_rdma_cqe *cqe = take(&r);

			good &= cqe && le32toh(cqe->wqe_index) == lap * 16 + i;
		}
		good &= !take(&r);
		vrdma_cq_ring_consume(&r.cq);
	}
	ok(good, "a CQ that is full each lap");
	rig_free(&r);
}

/*
 * For every start position, fill and mix of two QPs: the purge leaves the other QP's CQEs
 * complete and in order, frees the entries, and the next CQEs of the device are found.
 */
static void test_purge(void)
{
	bool good = true;
	uint32_t start, fill, mix;

	for (start = 0; start < 16; start++)
		for (fill = 0; fill <= 8; fill++)
			for (mix = 0; mix < 1U << fill; mix++) {
				uint32_t i, kept = 0;
				struct rig r;

				rig_init(&r, 8, 0);
				for (i = 0; i < start; i++) {
					dev_complete(&r, 1, i);
					good &= take(&r) != NULL;
				}
				for (i = 0; i < fill; i++)
					dev_complete(&r, mix >> i & 1 ? 7 : 9, i);
				vrdma_cq_ring_purge(&r.cq, 7, 0);
				for (i = 0; i < fill; i++) {
					struct virtio_rdma_cqe *cqe;

					if (mix >> i & 1)
						continue;
					kept++;
					cqe = take(&r);
					good &= cqe && le32toh(cqe->qpn) == 9 &&
						le32toh(cqe->wqe_index) == i &&
						le32toh(cqe->byte_len) == 3 * i;
				}
				good &= !take(&r);
				good &= r.cq.consumer == r.cq_pos;
				if (kept != fill)
					good &= vrdma_load(&r.cq.ctrl->consumer) ==
						r.cq.consumer - kept;
				dev_complete(&r, 9, 77);
				good &= take(&r) != NULL && !take(&r);
				rig_free(&r);
			}
	ok(good, "purge of a QP's completions");
}

/* A receive from an SRQ is the SRQ's: it outlives its QP, whose number is another's soon. */
static void test_purge_srq(void)
{
	struct virtio_rdma_cqe *cqe[3];
	struct rig r;
	int i;

	rig_init(&r, 8, 0);
	dev_complete(&r, 7, 0);
	dev_complete_recv(&r, 7, 1, 3);
	dev_complete_recv(&r, 7, 2, 0);
	dev_complete_recv(&r, 9, 3, 4);
	dev_complete_recv(&r, 7, 4, 4);
	vrdma_cq_ring_purge(&r.cq, 7, 0);
	for (i = 0; i < 3; i++)
		cqe[i] = take(&r);
	ok(cqe[2] && le32toh(cqe[0]->wqe_index) == 1 && le32toh(cqe[1]->wqe_index) == 3 &&
	   le32toh(cqe[2]->wqe_index) == 4 && !take(&r),
	   "the purge of a QP leaves the receives from SRQs");
	ok(cqe[0] && vrdma_cqe_srqn(cqe[0]) == 3 && le32toh(cqe[0]->qpn) == 7,
	   "with the numbers of both");
	dev_complete_recv(&r, 7, 5, 4);
	dev_complete_recv(&r, 7, 6, 3);
	dev_complete(&r, 4, 7);
	dev_complete_recv(&r, 4, 8, 0);
	dev_complete_recv(&r, 9, 9, 4);
	vrdma_cq_ring_purge(&r.cq, VIRTIO_RDMA_NONE, 4);
	for (i = 0; i < 3; i++)
		cqe[i] = take(&r);
	ok(cqe[2] && le32toh(cqe[0]->wqe_index) == 6 && le32toh(cqe[1]->wqe_index) == 7 &&
	   le32toh(cqe[2]->wqe_index) == 8 && !take(&r), "the purge of an SRQ takes its own only");
	rig_free(&r);
}

static void test_arm(void)
{
	uint32_t arm = 0;
	struct rig r;
	bool good;

	rig_init(&r, 8, 0);
	arm = vrdma_cq_ring_arm(&r.cq, arm, true);
	good = (arm & VIRTIO_RDMA_ARM_WHAT_MASK) == VIRTIO_RDMA_ARM_SOLICITED;
	arm = vrdma_cq_ring_arm(&r.cq, arm, false);
	good &= (arm & VIRTIO_RDMA_ARM_WHAT_MASK) == VIRTIO_RDMA_ARM_ANY;
	arm = vrdma_cq_ring_arm(&r.cq, arm, true);
	good &= (arm & VIRTIO_RDMA_ARM_WHAT_MASK) == VIRTIO_RDMA_ARM_ANY;
	ok(good, "a pending request for any completion is not weakened");

	dev_complete(&r, 1, 0);
	good = r.events == 1 && vrdma_load(&r.cq.ctrl->fired) == arm;
	dev_complete(&r, 1, 1);
	good &= r.events == 1;
	arm = vrdma_cq_ring_arm(&r.cq, arm, true);
	good &= (arm & VIRTIO_RDMA_ARM_WHAT_MASK) == VIRTIO_RDMA_ARM_SOLICITED;
	arm = vrdma_cq_ring_arm(&r.cq, 0xfffffffeU, true);
	good &= arm >> VIRTIO_RDMA_ARM_SEQ_SHIFT == 0 && arm != 0;
	ok(good, "one event for one arming; the sequence wraps");
	rig_free(&r);
}

static void test_doorbell(void)
{
	struct rig r;
	bool good;

	rig_init(&r, 8, 0);
	vrdma_store(&r.sq.ctrl->need_db, 1);
	good = vrdma_ring_publish(&r.sq, 1);
	good &= !vrdma_db_ring(r.db, 200) && r.db->dirty[200] == 1 &&
		r.db->summary[3] == 1;
	vrdma_store(&r.db->need_wakeup, 1);
	good &= vrdma_db_ring(r.db, VIRTIO_RDMA_DB_SLOTS - 1) &&
		r.db->summary[VIRTIO_RDMA_DB_GROUPS - 1] == 1;
	ok(good, "dirty byte, summary byte, wake-up only of a sleeper");
	rig_free(&r);
}

/* The ring of a dead device: completions that arrived in time are found, nothing after them. */
static void test_death(void)
{
	uint32_t start, index, i;
	bool good = true;
	struct rig r;

	for (start = 0; start < 16; start++) {
		struct virtio_rdma_cqe *cqes;

		rig_init(&r, 8, 0xfffffffaU);
		cqes = r.cq.cqes;
		for (i = 0; i < start; i++) {
			dev_complete(&r, 1, i);
			good &= take(&r) != NULL;
		}
		dev_complete(&r, 1, r.sq.tail + 1);

		vrdma_ring_publish(&r.sq, r.sq.head + 8);
		good &= take(&r) != NULL;
		vrdma_ring_complete(&r.sq, r.sq.tail + 1);
		good &= !take(&r);
		vrdma_cq_ring_close(&r.cq);
		for (i = 2; vrdma_ring_oldest(&r.sq, &index); i++) {
			good &= index == 0xfffffffaU + i;
			vrdma_ring_complete(&r.sq, index);
		}
		good &= i == 8;
		r.cq.cqes = cqes;
		r.cq.mask = 7;
		dev_complete(&r, 1, 2);
		vrdma_cq_ring_close(&r.cq);
		good &= !take(&r) &&
			vrdma_cq_ring_producer(&r.cq) == r.cq.consumer;
		vrdma_cq_ring_purge(&r.cq, 1, 0);
		vrdma_cq_ring_consume(&r.cq);
		r.cq.cqes = cqes;
		rig_free(&r);
	}
	ok(good, "what a dead device left, and its ring closed");
}

/* ---------------- both sides in threads ---------------- */

#define ROUNDS	200000

static pthread_mutex_t kick_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t kick_cond = PTHREAD_COND_INITIALIZER;
static unsigned int kicks;

static void kick(void)
{
	pthread_mutex_lock(&kick_lock);
	kicks++;
	pthread_cond_signal(&kick_cond);
	pthread_mutex_unlock(&kick_lock);
}

/* What a poller does with one ring that it alternately watches and does not watch. */
static bool dev_poll(struct rig *r)
{
	uint32_t producer = __atomic_load_n(&r->sq.ctrl->producer,
					    __ATOMIC_ACQUIRE);
	bool any = false;

	producer = le32toh(producer);
	while (r->sq_pos != producer) {
		uint64_t *wqe = vrdma_ring_entry(&r->sq, r->sq_pos);

		if (wqe[0] != r->sq_pos || wqe[7] != ~(uint64_t)r->sq_pos)
			abort();
		dev_complete(r, 1, r->sq_pos++);
		any = true;
	}
	return any;
}

static void *dev_thread(void *arg)
{
	struct rig *r = arg;
	unsigned int seen = 0;

	while (r->sq_pos != ROUNDS) {
		if (dev_poll(r))
			continue;
		vrdma_store(&r->sq.ctrl->need_db, 1);
		vrdma_store(&r->db->need_wakeup, 1);
		vrdma_full_barrier();
		if (!dev_poll(r) && r->sq_pos != ROUNDS &&
		    !__atomic_load_n(&r->db->summary[3], __ATOMIC_RELAXED)) {
			pthread_mutex_lock(&kick_lock);
			while (kicks == seen)
				pthread_cond_wait(&kick_cond, &kick_lock);
			seen = kicks;
			pthread_mutex_unlock(&kick_lock);
		}
		vrdma_store(&r->db->need_wakeup, 0);
		__atomic_store_n(&r->db->summary[3], 0, __ATOMIC_RELAXED);
		vrdma_full_barrier();
		__atomic_store_n(&r->db->dirty[200], 0, __ATOMIC_RELAXED);
		vrdma_store(&r->sq.ctrl->need_db, 0);
		vrdma_full_barrier();
	}
	return NULL;
}

static void test_threads(void)
{
	uint32_t next = 0, armed = 0;
	unsigned int wakeups = 0;
	pthread_t dev;
	struct rig r;
	bool good = true;

	rig_init(&r, 64, 0);
	if (pthread_create(&dev, NULL, dev_thread, &r))
		abort();
	while (next != ROUNDS) {
		struct virtio_rdma_cqe *cqe;
		uint32_t head = r.sq.head;
		uint32_t batch = head % 5 + 1;

		while (batch-- && head != ROUNDS &&
		       !vrdma_ring_full(&r.sq, head)) {
			uint64_t *wqe = vrdma_ring_entry(&r.sq, head);

			wqe[0] = head;
			wqe[7] = ~(uint64_t)head;
			head++;
		}
		if (head != r.sq.head && vrdma_ring_publish(&r.sq, head) &&
		    vrdma_db_ring(r.db, r.sq.slot)) {
			wakeups++;
			kick();
		}
		/* Poll; if there is nothing, wait for an event as a user does. */
		cqe = take(&r);
		if (!cqe && next != r.sq.head) {
			uint32_t before = __atomic_load_n(&r.events,
							  __ATOMIC_ACQUIRE);

			armed = vrdma_cq_ring_arm(&r.cq, armed, false);
			cqe = take(&r);
			while (!cqe && __atomic_load_n(&r.events, __ATOMIC_ACQUIRE) ==
				       before)
				;
			if (!cqe)
				cqe = take(&r);
		}
		while (cqe) {
			good &= le32toh(cqe->wqe_index) == next++;
			vrdma_ring_complete(&r.sq, next - 1);
			cqe = take(&r);
		}
		vrdma_cq_ring_consume(&r.cq);
	}
	pthread_join(dev, NULL);
	printf("# %u posts woke the device\n", wakeups);
	ok(good, "a device that sleeps whenever it can loses nothing");
	rig_free(&r);
}

/* Cookies of an SRQ: each allocated once, freed once, in any order; a flush finds them. */
static void test_cookies(void)
{
	struct vrdma_cookies c;
	uint32_t next[8], mine[8], seen = 0, i;
	bool right = true;

	vrdma_cookies_init(&c, next, 8);
	for (i = 0; i < 8; i++) {
		mine[i] = vrdma_cookie_take(&c);
		right &= mine[i] < 8;
		seen |= 1U << mine[i];
	}
	ok(right && seen == 0xff && vrdma_cookie_take(&c) == VRDMA_COOKIE_NONE && c.taken == 8,
	   "all cookies are handed out, each once");
	ok(!vrdma_cookie_put(&c, 8) && !vrdma_cookie_put(&c, UINT32_MAX) &&
	   !vrdma_cookie_put(&c, VRDMA_COOKIE_TAKEN) && vrdma_cookie_put(&c, 5) &&
	   !vrdma_cookie_put(&c, 5) && c.taken == 7, "only what is taken comes back");
	/* Out of order, for a long time: a cookie in use is never allocated. */
	vrdma_cookie_take(&c);
	for (i = 0; i < 10000; i++) {
		uint32_t old = i * 5 % 8;

		right &= vrdma_cookie_put(&c, old) && vrdma_cookie_take(&c) == old;
		if (i % 3 == 0) {
			right &= vrdma_cookie_put(&c, 1) && vrdma_cookie_put(&c, 6);
			right &= vrdma_cookie_take(&c) == 6 && vrdma_cookie_take(&c) == 1;
		}
	}
	ok(right && c.taken == 8, "out of order");
	for (i = 0; i < 6; i++)
		vrdma_cookie_put(&c, i);
	ok(vrdma_cookie_find(&c, 0) == 6 && vrdma_cookie_find(&c, 7) == 7 && vrdma_cookie_put(&c, 7) &&
	   vrdma_cookie_find(&c, 7) == 6 && c.taken == 1, "a flush finds those that are taken");
}

/* What ibv_wc.sl of a completion with these flags is, on a datagram of service level 5. */
static uint8_t sl_of(uint8_t flags)
{
	struct virtio_rdma_cqe cqe = { .sl = 5, .opcode = VIRTIO_RDMA_WC_RECV, .flags = flags, .phase = 1 };
	struct vrdma_cq_ring ring = { .cqes = &cqe };
	uint32_t word;

	return vrdma_cq_ring_peek(&ring, 0, &word) ? vrdma_cqe_sl(&cqe, word) : 0xff;
}

/* UCX compares (sl & 7) with 2 (IPv4); RoCE hardware sets bit 3 for RoCE v2. */
static void test_header_type(void)
{
	ok(sl_of(VIRTIO_RDMA_CQE_GRH | VIRTIO_RDMA_CQE_IPV4) == 0xa &&
	   sl_of(VIRTIO_RDMA_CQE_GRH | VIRTIO_RDMA_CQE_IPV4 | VIRTIO_RDMA_CQE_IMM) == 0xa,
	   "the service level reports an IPv4 header");
	ok(sl_of(VIRTIO_RDMA_CQE_GRH) == 9, "the service level reports an IPv6 header");
	ok(sl_of(0) == 5 && sl_of(VIRTIO_RDMA_CQE_IPV4) == 5,
	   "without a header it is the service level");
}

int main(void)
{
	test_wrap(0, "a send ring from index 0");
	test_wrap(0xffffffd0U, "a send ring across the end of the index");
	test_phases();
	test_purge();
	test_purge_srq();
	test_cookies();
	test_header_type();
	test_arm();
	test_doorbell();
	test_death();
	test_threads();
	printf("1..%d\n", tests);
	return failures != 0;
}
