// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See fuzz.h.
 */
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "poller_internal.h"

void fuzz_fail(const char *fmt, ...)
{
	va_list ap;

	fputs("fuzz: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

/* ---- the input ---------------------------------------------------------- */

bool fuzz_done(const struct fuzz_in *in)
{
	return in->p == in->end;
}

void fuzz_bytes(struct fuzz_in *in, void *to, size_t len)
{
	size_t have = in->end - in->p;

	memset(to, 0, len);
	if (have > len)
		have = len;
	if (have)
		memcpy(to, in->p, have);
	in->p += have;
}

uint8_t fuzz_u8(struct fuzz_in *in)
{
	return in->p == in->end ? 0 : *in->p++;
}

uint16_t fuzz_u16(struct fuzz_in *in)
{
	uint16_t v;

	fuzz_bytes(in, &v, sizeof(v));
	return v;
}

uint32_t fuzz_u32(struct fuzz_in *in)
{
	uint32_t v;

	fuzz_bytes(in, &v, sizeof(v));
	return v;
}

uint64_t fuzz_u64(struct fuzz_in *in)
{
	uint64_t v;

	fuzz_bytes(in, &v, sizeof(v));
	return v;
}

/* Valid, close to it, or at an end of the range. */
static uint64_t pick(uint8_t how, uint64_t good, unsigned int bits)
{
	static const int8_t near[] = { 1, -1, 2, 4, 8, 64, -64, 127 };
	uint64_t top = 1ULL << (bits - 1);

	if (how < 0xc0)
		return good;
	if (how < 0xc8)
		return good + near[how - 0xc0];
	if (how < 0xd0)
		return good << (how - 0xc7) | good >> (bits - (how - 0xc7));
	switch (how) {
	case 0xd0: return 0;
	case 0xd1: return 1;
	case 0xd2: return top;
	case 0xd3: return top - 1;
	case 0xd4: return top + top - 1;
	case 0xd5: return -4096ULL;
	case 0xd6: return 4096;
	case 0xd7: return 4095;
	case 0xd8: return good + 4096;
	case 0xd9: return good - 4096;
	case 0xda: return VIRTIO_RDMA_LOCAL_DMA_LKEY;
	case 0xdb: return good ^ 0x100;
	default: return 1ULL << (how & 31);
	}
}

uint32_t fuzz_pick32(struct fuzz_in *in, uint32_t good)
{
	uint8_t how = fuzz_u8(in);

	return how >= 0xf0 ? fuzz_u32(in) : (uint32_t)pick(how, good, 32);
}

uint64_t fuzz_pick64(struct fuzz_in *in, uint64_t good)
{
	uint8_t how = fuzz_u8(in);

	return how >= 0xf0 ? fuzz_u64(in) : pick(how, good, 64);
}

void fuzz_change(struct fuzz_in *in, void *buf, size_t len, unsigned int num)
{
	uint8_t *bytes = buf;

	while (len && num--) {
		size_t at = fuzz_u16(in) % len;

		bytes[at] = fuzz_u8(in);
	}
}

void fuzz_mutate(struct fuzz_in *in, void *buf, size_t len)
{
	uint8_t how = fuzz_u8(in);

	if (how >= 0xc0)
		fuzz_change(in, buf, len, how % 3 + 1);
}

/* ---- devices -------------------------------------------------------------- */

static void no_op(struct vrd_poller *poller, void *arg)
{
	(void)poller;
	(void)arg;
}

/* A message is handled at the start of a turn, so the turn before it has ended. */
void fuzz_step(struct vrd_engine *engine, unsigned int turns)
{
	for (unsigned int n = 0; n <= turns; n++)
		for (unsigned int i = 0; i < engine->num_pollers; i++)
			vrd_poller_call(&engine->pollers[i], no_op, NULL);
}

static size_t bitmap_bytes(const struct fuzz_guest *f)
{
	return (f->g->num_pages + 63) / 64 * 8;
}

void *fuzz_guest_pages(struct fuzz_guest *f, uint64_t pages)
{
	struct guest *g = f->g;
	uint64_t run = 0;

	for (uint64_t p = 0; p < g->num_pages && run < pages; p++)
		run = g->used_pages[p / 64] >> p % 64 & 1 ? 0 : run + 1;
	if (run == pages)
		return guest_alloc(g, pages * GUEST_PAGE);
	return g->mem + g->cfg.mem_size / 2;
}

void fuzz_guest_memory(struct fuzz_guest *f, unsigned int how)
{
	struct guest *g = f->g;
	uint64_t half = g->cfg.mem_size / 2;
	struct vrd_mem_region table[3] = {
		{ .addr = g->base, .size = half, .fd = g->memfd },
		{ .addr = g->base + half, .size = half / 2, .fd = g->memfd, .fd_offset = half },
		{ .addr = g->base + half + half / 2, .size = half / 2, .fd = g->memfd,
		  .fd_offset = half + half / 2 },
	};
	unsigned int num = 3;
	struct vrd_error err;

	switch (how & 3) {
	case 0:
		guest_set_memory(g);
		return;
	case 1:
		num = 1;
		break;
	case 2:
		table[1].readonly = true;
		break;
	default:
		table[1].fd_offset = table[2].fd_offset;
		table[2].fd_offset = half;
		break;
	}
	if (vrd_device_set_mem_table(g->dev, table, num, &err))
		fuzz_fail("memory table: %s", err.msg);
}

void fuzz_guest_stop(struct fuzz_guest *f)
{
	if (!f->stopped)
		guest_stop_queues(f->g);
	f->stopped = true;
}

void fuzz_guest_start(struct fuzz_guest *f)
{
	if (f->stopped)
		guest_start_queues(f->g);
	f->stopped = false;
}

void fuzz_guest_reset(struct fuzz_guest *f)
{
	struct guest *g = f->g;
	struct vrd_error err;

	vrd_device_reset(g->dev);
	if (vrd_device_set_features(g->dev, vrd_device_features(g->dev) & (3ULL << 32 | VRD_DEVICE_FEATURES), &err))
		fuzz_fail("features: %s", err.msg);
	f->stopped = true;
	fuzz_guest_start(f);
}

void fuzz_guest_drain(struct fuzz_guest *f)
{
	struct virtio_rdma_event event;
	uint32_t cqn;

	for (int n = 0; n < 200 && guest_event(f->g, &event, 0); n++)
		;
	for (unsigned int v = 0; v < f->g->cfg.num_vectors; v++)
		for (int n = 0; n < 200 && guest_comp_event(f->g, v, &cqn, 0); n++)
			;
}

static void expect_none(struct guest *g, const char *name)
{
	uint64_t n = guest_stat(g, name);

	if (n)
		fuzz_fail("%s: %llu %s are left after INIT", g->cfg.name, (unsigned long long)n,
			  name);
}

static void init(struct fuzz_guest *f)
{
	struct guest *g = f->g;
	uint32_t status = guest_init(g);

	if (status)
		fuzz_fail("%s: INIT answers %u", g->cfg.name, status);
	expect_none(g, "qps");
	expect_none(g, "srqs");
	expect_none(g, "cqs");
	expect_none(g, "mrs");
	expect_none(g, "pds");
	expect_none(g, "mr_bytes");
}

void fuzz_guest_open(struct fuzz_guest *f, struct vrd_engine *engine,
		     const struct guest_config *cfg)
{
	f->g = guest_create(engine, cfg);
	f->stopped = false;
	f->used_pages = malloc(bitmap_bytes(f));
	if (!f->used_pages)
		fuzz_fail("out of memory");
	memcpy(f->used_pages, f->g->used_pages, bitmap_bytes(f));
	init(f);
}

void *fuzz_guest_keep(struct fuzz_guest *f, uint64_t bytes)
{
	void *p = guest_alloc(f->g, bytes);

	memcpy(f->used_pages, f->g->used_pages, bitmap_bytes(f));
	return p;
}

void fuzz_guest_rewind(struct fuzz_guest *f)
{
	memcpy(f->g->used_pages, f->used_pages, bitmap_bytes(f));
	f->g->first_free = 0;	/* where guest_alloc() starts to search */
	/* Objects of an input lie in the half that fuzz_guest_memory() removes. */
	memset(f->g->used_pages, 0xff, f->g->num_pages / 16);
}

void fuzz_guest_begin(struct fuzz_guest *f)
{
	uint32_t status;

	fuzz_guest_rewind(f);
	status = guest_add_gid(f->g, 0, f->g->gid);
	if (status)
		fuzz_fail("%s: ADD_GID answers %u", f->g->cfg.name, status);
}

void fuzz_guest_end(struct fuzz_guest *f)
{
	fuzz_guest_memory(f, 0);
	fuzz_guest_start(f);
	init(f);
	fuzz_guest_drain(f);
	if (vrd_device_is_broken(f->g->dev))
		fuzz_fail("%s: the device is broken", f->g->cfg.name);
}

/* ---- the second thread -------------------------------------------------------- */

#define MAX_FLIPS	8

static struct flip {
	void *word;
	uint32_t a, b;
} flips[MAX_FLIPS];
static _Atomic unsigned int num_flips;	/* 0: the thread sleeps */
static _Atomic bool flipping;
static pthread_mutex_t flip_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t flip_cond = PTHREAD_COND_INITIALIZER;
static bool flip_thread;

static void *flip_main(void *arg)
{
	unsigned int round = 0;

	(void)arg;
	for (;;) {
		pthread_mutex_lock(&flip_lock);
		atomic_store(&flipping, false);
		pthread_cond_broadcast(&flip_cond);
		while (!atomic_load(&num_flips))
			pthread_cond_wait(&flip_cond, &flip_lock);
		atomic_store(&flipping, true);
		pthread_mutex_unlock(&flip_lock);
		for (unsigned int n; (n = atomic_load(&num_flips));) {
			for (unsigned int i = 0; i < n; i++)
				__atomic_store_n((uint32_t *)flips[i].word, flips[i].a,
						 __ATOMIC_RELAXED);
			for (unsigned int i = 0; i < n; i++)
				__atomic_store_n((uint32_t *)flips[i].word, flips[i].b,
						 __ATOMIC_RELAXED);
			/* On one CPU the other threads would wait for the end of our time slice. */
			if (++round % 64 == 0)
				sched_yield();
		}
	}
	return NULL;
}

void fuzz_flip(void *word, uint32_t a, uint32_t b)
{
	unsigned int n = atomic_load(&num_flips);
	pthread_t thread;

	if (n == MAX_FLIPS)
		return;
	flips[n] = (struct flip){ word, a, b };
	pthread_mutex_lock(&flip_lock);
	if (!flip_thread) {
		if (pthread_create(&thread, NULL, flip_main, NULL))
			fuzz_fail("no second thread");
		pthread_detach(thread);
		flip_thread = true;
	}
	atomic_store(&num_flips, n + 1);
	pthread_cond_broadcast(&flip_cond);
	pthread_mutex_unlock(&flip_lock);
}

void fuzz_flip_stop(void)
{
	if (!atomic_load(&num_flips))
		return;
	atomic_store(&num_flips, 0);
	pthread_mutex_lock(&flip_lock);
	while (atomic_load(&flipping))
		pthread_cond_wait(&flip_cond, &flip_lock);
	pthread_mutex_unlock(&flip_lock);
}
