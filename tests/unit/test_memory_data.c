// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: every operation moves the right bytes, all of them, and no others: 0
 * bytes to 64 MiB, any alignment, several SGEs, pages in any order.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "mem_pair.h"
#include "shm.h"
#include "tap.h"

#define BIG		(64U << 20)
#define REGION		(BIG + (16U << 20))	/* 4096 extents of 5 pages */
#define MAX_SGE		8U
/*
 * The thread sanitizer is slow and has its own tests; it also identifies a release by the
 * address of the store, which here is a word and not its last byte.
 */
#ifdef __SANITIZE_THREAD__
#define UNDER_TSAN	true
#else
#define UNDER_TSAN	false
#endif
/* Bytes before and after the range that are checked as well. */
#define MARGIN		256U

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;

/* ---- regions -------------------------------------------------------------------- */

/* A memory region whose pages lie in any order. */
struct region {
	struct guest_mr mr;
	uint8_t *mem;
	uint32_t pages_per_extent;		/* 0: in one piece */
	uint32_t *order;			/* extent n of the MR is extent order[n] of mem */
};

static uint64_t seed = 88172645463325252ULL;

static uint32_t any(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static void region_make(struct mem_end *end, struct region *r, bool scattered)
{
	uint32_t num = scattered ? 4096 : 1, bytes = REGION / num;
	struct virtio_rdma_extent *ext = calloc(num, sizeof(*ext));

	r->mem = guest_alloc(end->g, REGION);
	r->pages_per_extent = bytes / GUEST_PAGE;
	r->order = calloc(num, sizeof(*r->order));
	for (uint32_t i = 0; i < num; i++)
		r->order[i] = i;
	for (uint32_t i = num; i > 1; i--) {
		uint32_t j = any(i), t = r->order[i - 1];

		/* Some neighbours stay together, for runs of several extents. */
		if (any(4) == 0)
			continue;
		r->order[i - 1] = r->order[j];
		r->order[j] = t;
	}
	for (uint32_t i = 0; i < num; i++) {
		ext[i].addr = htole64(guest_addr(end->g, r->mem) + (uint64_t)r->order[i] * bytes);
		ext[i].pages = htole32(r->pages_per_extent);
	}
	/* An IOVA that is unrelated to the memory's address. */
	if (guest_mr_reg_extents(end->g, end->pd, 0x7f0000000000ULL, REGION, MEM_ALL_ACCESS, ext,
				 num, &r->mr))
		guest_fatal("no region");
	free(ext);
}

static void region_free(struct mem_end *end, struct region *r)
{
	guest_mr_dereg(&r->mr);
	guest_free(end->g, r->mem, REGION);
	free(r->order);
}

/* Location of the MR's byte @at, and the number of bytes that follow it there. */
static uint8_t *region_at(const struct region *r, uint64_t at, uint64_t *run)
{
	uint64_t bytes = (uint64_t)r->pages_per_extent * GUEST_PAGE;

	*run = bytes - at % bytes;
	return r->mem + r->order[at / bytes] * bytes + at % bytes;
}

/* Byte @i of pattern @s: cheap to compute, and different in each word. */
static uint64_t pattern_word(uint64_t word, uint32_t s)
{
	return (word + s * 0x10001ULL) * 0x9e3779b97f4a7c15ULL;
}

static uint8_t pattern_at(uint64_t i, uint32_t s)
{
	return pattern_word(i / 8, s) >> i % 8 * 8;
}

static void region_fill(const struct region *r, uint64_t at, uint64_t length, uint32_t s)
{
	for (uint64_t i = 0, run; i < length; i += run) {
		uint8_t *p = region_at(r, at + i, &run);

		if (run > length - i)
			run = length - i;
		for (uint64_t n = 0; n < run; n++)
			p[n] = pattern_at(i + n, s);
	}
}

static bool region_is(const struct region *r, uint64_t at, uint64_t length, uint32_t s)
{
	for (uint64_t i = 0, run; i < length; i += run) {
		const uint8_t *p = region_at(r, at + i, &run);

		if (run > length - i)
			run = length - i;
		for (uint64_t n = 0; n < run; n++)
			if (p[n] != pattern_at(i + n, s))
				return false;
	}
	return true;
}

/* ---- one transfer ------------------------------------------------------------------- */

/* Divides [@at, @at + @length) of a region into SGEs, some of zero bytes. */
static uint32_t cut(const struct region *r, uint64_t at, uint32_t length, uint32_t max,
		    struct guest_sge *sge)
{
	uint32_t num = 1 + any(max), done = 0;

	for (uint32_t i = 0; i < num; i++) {
		uint32_t n = i == num - 1 ? length - done : any(length - done + 1);

		sge[i] = (struct guest_sge){ r->mr.iova + at + done, n, r->mr.lkey };
		done += n;
	}
	return num;
}

static bool has_receive(uint8_t opcode)
{
	return opcode == VIRTIO_RDMA_WR_SEND || opcode == VIRTIO_RDMA_WR_SEND_WITH_IMM ||
	       opcode == VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM;
}

static bool transfer(uint8_t opcode, const struct region *here, const struct region *there,
		     uint32_t length)
{
	bool read = opcode == VIRTIO_RDMA_WR_RDMA_READ;
	const struct region *from = read ? there : here, *to = read ? here : there;
	uint64_t from_at = MARGIN + any(20000), to_at = MARGIN + any(20000);
	uint64_t here_at = read ? to_at : from_at, there_at = read ? from_at : to_at;
	uint32_t s = any(1000000), old = any(1000000);
	struct guest_sge local[MAX_SGE], recv[MAX_SGE];
	struct virtio_rdma_cqe cqe;
	struct guest_wr wr = {
		.opcode = opcode,
		.flags = VIRTIO_RDMA_WQE_SIGNALED,
		.sge = local,
		.num_sge = cut(here, here_at, length, MAX_SGE, local),
		.remote_addr = there->mr.iova + there_at,
		.rkey = there->mr.rkey,
	};

	region_fill(from, from_at, length, s);
	region_fill(to, to_at - MARGIN, length + 2 * MARGIN, old);
	if (has_receive(opcode)) {
		/* The receive is larger than the message. */
		uint32_t num = cut(there, there_at, length + MARGIN, MAX_SGE, recv);

		guest_post_recv(&b->qp, recv, num);
	}
	guest_post_send(&a->qp, &wr);
	if (mem_status(&a->scq) != 0)
		return false;
	if (has_receive(opcode) &&
	    (!guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) || cqe.status ||
	     le32toh(cqe.byte_len) != length))
		return false;
	if (!region_is(to, to_at, length, s) || !region_is(from, from_at, length, s))
		return false;
	/* The margins are unchanged. */
	region_fill(to, to_at, length, 0);
	for (uint64_t i = 0, run; i < MARGIN; i++) {
		uint64_t after = length + MARGIN + i;

		if (*region_at(to, to_at - MARGIN + i, &run) != pattern_at(i, old) ||
		    *region_at(to, to_at - MARGIN + after, &run) != pattern_at(after, old))
			return false;
	}
	return true;
}

static const uint32_t sizes[] = {
	0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 511,
	1000, 1024, 2047, 4095, 4096, 4097, 8191, 8192, 12345, 32768, 65535, 65536, 65537, 100000,
	131072, 131075, 1 << 20, (1 << 20) + 1, 3000001,
};

static const struct {
	uint8_t opcode;
	const char *name;
} ops[] = {
	{ VIRTIO_RDMA_WR_RDMA_WRITE, "WRITE" },
	{ VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM, "WRITE_WITH_IMM" },
	{ VIRTIO_RDMA_WR_SEND, "SEND" },
	{ VIRTIO_RDMA_WR_SEND_WITH_IMM, "SEND_WITH_IMM" },
	{ VIRTIO_RDMA_WR_RDMA_READ, "READ" },
};

static void test_transfers(const struct region *here, const struct region *there, const char *what)
{
	for (unsigned int op = 0; op < sizeof(ops) / sizeof(ops[0]); op++) {
		bool right = true;

		for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && right; i++) {
			if (UNDER_TSAN && sizes[i] > 200000)
				break;
			for (int times = sizes[i] < 10000 ? 4 : 1; times-- && right;)
				right = transfer(ops[op].opcode, here, there, sizes[i]);
			if (!right)
				diag("%s of %u bytes", ops[op].name, sizes[i]);
		}
		ok(right, "%s, %s: 0 bytes to 3 MB", ops[op].name, what);
	}
}

static void test_big(const struct region *here, const struct region *there, const char *what)
{
	for (unsigned int op = 0; op < sizeof(ops) / sizeof(ops[0]); op++)
		ok(transfer(ops[op].opcode, here, there, BIG), "%s, %s: 64 MiB", ops[op].name,
		   what);
}

static void test_atomics(const struct region *here, const struct region *there)
{
	struct guest_sge sge = { here->mr.iova + 4093, 8, here->mr.lkey };
	struct guest_wr wr = {
		.flags = VIRTIO_RDMA_WQE_SIGNALED, .sge = &sge, .num_sge = 1, .rkey = there->mr.rkey,
	};
	uint64_t run, old, expected, got, n;
	bool right = true;

	for (int i = 0; i < 500 && right; i++) {
		uint64_t at = (uint64_t)any(REGION / 8) * 8;
		uint64_t *word = (uint64_t *)region_at(there, at, &run);

		old = (uint64_t)any(1 << 30) << 34 | any(1 << 30);
		*word = old;
		wr.remote_addr = there->mr.iova + at;
		wr.swap_add = (uint64_t)any(1 << 30) << 34 | any(1 << 30);
		wr.compare = any(2) ? old : old + 1;
		wr.opcode = any(2) ? VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP
				   : VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD;
		expected = wr.opcode == VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD ? old + wr.swap_add
			   : wr.compare == old ? wr.swap_add : old;
		guest_post_send(&a->qp, &wr);
		right = mem_status(&a->scq) == 0 && *word == expected;
		/* The result lies across two pages that may not be adjacent. */
		for (n = 0, got = 0; n < 8; n++)
			got |= (uint64_t)*region_at(here, 4093 + n, &run) << n * 8;
		right &= got == old;
	}
	ok(right, "atomics on any aligned word, the result across two pages");
}

/* ---- the last byte ------------------------------------------------------------------- */

#define ROUNDS	300

struct watch {
	uint32_t length;
	bool torn;
	_Atomic uint32_t seen;
};

/* A CPU of b that polls on the last byte of a buffer, as perftest does. */
static void *watch_last_byte(void *arg)
{
	struct watch *w = arg;
	const uint8_t *buf = b->buf + 64 - w->length % 64;

	for (uint32_t round = 1; round <= ROUNDS; round++) {
		uint8_t value = round % 255 + 1;

		while (__atomic_load_n(buf + w->length - 1, __ATOMIC_ACQUIRE) != value)
			vrd_cpu_relax();
		for (uint32_t i = 0; i < w->length; i++)
			if (buf[i] != value)
				w->torn = true;
		atomic_store(&w->seen, round);
	}
	return NULL;
}

static void test_last_byte(uint32_t length)
{
	struct watch w = { .length = length };
	struct mem_wr wr = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, length);
	pthread_t thread;

	/* The range ends at a multiple of 64, or at any byte. */
	wr.wr.remote_addr += 64 - length % 64;
	memset(b->buf, 0, MEM_BUF);
	pthread_create(&thread, NULL, watch_last_byte, &w);
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		memset(a->buf, round % 255 + 1, length);
		mem_post(a, &wr);
		if (mem_status(&a->scq))
			guest_fatal("WRITE fails");
		while (atomic_load(&w.seen) != round)
			usleep(10);
	}
	pthread_join(thread, NULL);
	ok(!w.torn, "whoever sees the last of %u bytes sees all of them", length);
}

int main(void)
{
	struct guest_qp_init init = {
		.type = VIRTIO_RDMA_QPT_RC, .max_send_sge = MAX_SGE, .max_recv_sge = MAX_SGE,
	};
	struct region here[2], there[2];

	mem_pair_open(&pair, 2, 3 * (uint64_t)REGION);
	for (int scattered = 0; scattered < 2; scattered++) {
		region_make(a, &here[scattered], scattered);
		region_make(b, &there[scattered], scattered);
	}
	mem_pair_qps_init(&pair, &init, 64);
	mem_pair_connect(&pair);

	test_transfers(&here[0], &there[0], "one piece to one piece");
	test_transfers(&here[1], &there[0], "scattered to one piece");
	test_transfers(&here[1], &there[1], "scattered to scattered");
	test_atomics(&here[1], &there[1]);
	if (UNDER_TSAN) {
		ok(true, "64 MiB, and the order of the last byte # SKIP the thread sanitizer");
	} else {
		test_big(&here[0], &there[0], "in one piece");
		test_big(&here[1], &there[1], "scattered");
		for (uint32_t length = 1; length <= MEM_BUF / 2; length = length * 3 + length % 2)
			test_last_byte(length);
	}

	for (int scattered = 0; scattered < 2; scattered++) {
		region_free(a, &here[scattered]);
		region_free(b, &there[scattered]);
	}
	mem_pair_drop_qps(&pair);
	mem_pair_close(&pair);
	return tap_done();
}
