// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory regions: every kind of invalid registration, chunks, keys, and the lookups of the
 * data path (vrd_mr_find(), vrd_mr_at()) at their edges.
 */
#include <linux/virtio_config.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "transport.h"
#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))

#define S(name)	VIRTIO_RDMA_S_##name
#define LW	VIRTIO_RDMA_ACCESS_LOCAL_WRITE
#define RW	VIRTIO_RDMA_ACCESS_REMOTE_WRITE
#define RR	VIRTIO_RDMA_ACCESS_REMOTE_READ
#define RA	VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC

static struct raw *r;
static uint32_t ctx, kctx, pd, kpd, cq, kcq;
static struct vrd_qp *qp, *kqp;
static uint64_t mem;			/* 64 pages */

static void setup(void)
{
	raw_recover(r);
	ctx = raw_ctx(r, 0);
	kctx = raw_ctx(r, VIRTIO_RDMA_CTX_KERNEL);
	pd = raw_pd(r, ctx);
	kpd = raw_pd(r, kctx);
	cq = raw_cq(r, ctx, 16, 0);
	kcq = raw_cq(r, kctx, 16, 0);
	qp = vrd_table_find(&r->dev->qps, raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq));
	kqp = vrd_table_find(&r->dev->qps, raw_qp(r, VIRTIO_RDMA_QPT_RC, kctx, kpd, kcq, kcq));
	mem = raw_alloc(r, 64);
}

static int dereg(uint32_t handle)
{
	return raw_destroy(r, VIRTIO_RDMA_CMD_DEREG_MR, handle);
}

/* One extent from the start of mem; deregistered again if it succeeded. */
static int try(uint32_t access, uint64_t iova, uint64_t length, uint32_t pages, uint64_t total)
{
	struct virtio_rdma_extent x = { .addr = mem, .pages = pages };
	struct virtio_rdma_reg_mr_rsp rsp;
	int status = raw_reg_mr(r, pd, access, iova, length, &x, 1, total, &rsp);

	if (!status)
		dereg(rsp.mr);
	return status;
}

static void refusals(void)
{
	struct virtio_rdma_extent x[2] = { { .addr = mem, .pages = 2 } };
	struct virtio_rdma_reg_mr_rsp rsp;

	is(try(LW | RW | RR | RA, 0x1000, 4096, 1, 1), S(OK), "a page with all rights");
	is(try(0, 0, 1, 1, 1), S(OK), "a byte without rights at address 0");
	is(try(RW, 0, 1, 1, 1), S(INVAL), "remote write without local write");
	is(try(RA, 0, 1, 1, 1), S(INVAL), "remote atomic without local write");
	is(try(RR, 0, 1, 1, 1), S(OK), "remote read without local write");
	is(try(VIRTIO_RDMA_ACCESS_MW_BIND, 0, 1, 1, 1), S(UNSUPPORTED), "memory windows");
	is(try(VIRTIO_RDMA_ACCESS_ZERO_BASED, 0, 1, 1, 1), S(UNSUPPORTED), "zero based");
	is(try(1U << 31, 0, 1, 1, 1), S(UNSUPPORTED), "unknown right");
	is(try(0, 0, 0, 1, 1), S(INVAL), "no length");
	is(try(0, 0, 0, 1, 0), S(INVAL), "no length, no pages");
	is(try(0, 0, 4097, 1, 1), S(INVAL), "a byte more than the pages");
	is(try(0, 0, 4097, 2, 2), S(OK), "a byte on the second page");
	is(try(0, 1, 4096, 2, 2), S(OK), "a page that begins at 1");
	is(try(0, 1, 4096, 1, 1), S(INVAL), "touches two");
	is(try(0, 4095, 2, 2, 2), S(OK), "two bytes on two pages");
	is(try(0, 0, 4096, 2, 2), S(INVAL), "a page too many");
	is(try(0, 0, 4096, 2, 1), S(INVAL), "extents with more pages than the region");
	is(try(0, 0, 1ULL << 31, 1, 1), S(INVAL), "2^31 bytes on a page");
	is(try(0, 0, UINT64_MAX, 1, 1), S(INVAL), "2^64 - 1 bytes");
	is(try(0, 0, UINT64_MAX, 1, 1ULL << 52), S(INVAL), "with their pages");
	is(try(0, UINT64_MAX, 2, 2, 2), S(INVAL), "an address that wraps");
	is(try(0, UINT64_MAX - 4095, 4096, 1, 1), S(OK), "the last page of all addresses");
	is(try(0, 0, 1ULL << 39, 1, 1ULL << 27), S(INVAL), "more than max_mr_size");
	is(try(0, 0, 1, 0, 1), S(INVAL), "an empty extent");
	is(try(0, 0, 1, UINT32_MAX, 1), S(INVAL), "2^32 - 1 pages");

	is(raw_reg_mr(r, 77, 0, 0, 1, x, 1, 1, &rsp), S(NOENT), "unknown PD");
	x[0].addr += 8;
	is(raw_reg_mr(r, pd, 0, 0, 8192, x, 1, 2, &rsp), S(INVAL), "misaligned extent");
	x[0].addr = RAW_HOLE;
	is(raw_reg_mr(r, pd, 0, 0, 8192, x, 1, 2, &rsp), S(FAULT), "no memory");
	x[0].addr = RAW_BASE + RAW_SIZE - 4096;
	is(raw_reg_mr(r, pd, 0, 0, 8192, x, 1, 2, &rsp), S(FAULT), "half of it is none");
	x[0].addr = ~4095ULL;
	is(raw_reg_mr(r, pd, 0, 0, 8192, x, 1, 2, &rsp), S(FAULT), "an extent that wraps");
	x[0] = (struct virtio_rdma_extent) { .addr = mem, .pages = 1, .reserved = 1 };
	is(raw_reg_mr(r, pd, 0, 0, 1, x, 1, 1, &rsp), S(INVAL), "reserved");
	x[0].reserved = 0;
	x[1] = x[0];
	is(raw_reg_mr(r, pd, 0, 0, 8192, x, 2, 2, &rsp), S(OK), "the same page twice");
	is(dereg(rsp.mr), S(OK), "DEREG_MR");
	is(dereg(rsp.mr), S(NOENT), "twice");
	is(dereg(UINT32_MAX), S(NOENT), "handle -1");
	is(raw_stat(r, "mrs"), 0, "none is left");
	is(raw_stat(r, "mr_bytes"), 0, "not a byte");
}

/* The maximum number of extents of a command, and one more. */
static void many_extents(void)
{
	struct virtio_rdma_extent *x = calloc(4097, sizeof(*x));
	struct virtio_rdma_reg_mr_rsp rsp;
	const struct vrd_mr *mr;
	uint64_t run;

	for (unsigned int i = 0; i < 4097; i++)
		x[i] = (struct virtio_rdma_extent) { .addr = mem + i % 64 * 4096, .pages = 1 };
	is(raw_reg_mr(r, pd, LW, 0, 4097 * 4096, x, 4097, 4097, &rsp), S(INVAL), "4097 extents");
	is(raw_reg_mr(r, pd, LW, 0, 4096 * 4096, x, 4096, 4096, &rsp), S(OK), "4096 extents");
	mr = vrd_mr_find(qp, rsp.lkey, 4095 * 4096, 4096, LW, false);
	ok(mr && vrd_mr_at(r->dev, mr, 4095 * 4096, 4096, true, &run) && run == 4096,
	   "the last page is there");
	dereg(rsp.mr);
	free(x);
}

static uint32_t reg(uint32_t access, uint64_t iova, uint64_t length,
		    const struct virtio_rdma_extent *x, uint32_t num, struct virtio_rdma_reg_mr_rsp *rsp)
{
	uint64_t total = ((iova & 4095) + length + 4095) / 4096;

	is(raw_reg_mr(r, pd, access, iova, length, x, num, total, rsp), S(OK), "REG_MR");
	return rsp->lkey;
}

static void lookups(void)
{
	const struct virtio_rdma_extent x = { .addr = mem, .pages = 3 };
	const uint64_t iova = 0x7f0000000123, len = 8000;
	struct virtio_rdma_reg_mr_rsp rsp;
	const struct vrd_mr *mr;
	uint64_t run;
	uint32_t key;
	uint8_t *p;

	key = reg(LW | RR, iova, len, &x, 1, &rsp);
	is(rsp.lkey, rsp.rkey, "one key");
	is(rsp.lkey >> 8, rsp.mr, "with the handle above");
	mr = vrd_mr_find(qp, key, iova, len, 0, false);
	ok(mr, "all of it is found");
	ok(vrd_mr_find(qp, key, iova + len - 1, 1, LW, false), "its last byte");
	ok(vrd_mr_find(qp, key, iova + len, 0, LW, false), "nothing behind it");
	ok(!vrd_mr_find(qp, key, iova + len, 1, 0, false), "not the byte behind");
	ok(!vrd_mr_find(qp, key, iova - 1, 1, 0, false), "nor the one before");
	ok(!vrd_mr_find(qp, key, iova - 1, len + 2, 0, false), "nor all around");
	ok(!vrd_mr_find(qp, key, iova, UINT64_MAX, 0, false), "not 2^64 - 1 bytes");
	ok(!vrd_mr_find(qp, key, iova + 1, UINT64_MAX, 0, false), "that wrap");
	ok(vrd_mr_find(qp, key, iova, 1, RR, true), "remote read");
	ok(!vrd_mr_find(qp, key, iova, 1, RW, true), "no remote write");
	ok(!vrd_mr_find(qp, key, iova, 1, RR | RA, true), "no atomics");
	ok(!vrd_mr_find(qp, key ^ 1, iova, 1, 0, false), "another low byte");
	ok(!vrd_mr_find(qp, key + 256, iova, 1, 0, false), "another number");
	ok(!vrd_mr_find(kqp, key, iova, 1, 0, false), "a QP of another PD");

	p = vrd_mr_at(r->dev, mr, iova, len, true, &run);
	ok(p && run == len && mr->linear, "contiguous memory comes in one piece");
	*p = 42;
	is(*((uint8_t *)raw_ptr(r, mem) + 0x123), 42, "at the offset of its address in the page");
	p = vrd_mr_at(r->dev, mr, iova + len - 5, 100, true, &run);
	ok(p && run == 5, "a run ends with the region");
	ok(!vrd_mr_at(r->dev, mr, iova + len, 1, true, &run), "nothing is behind it");

	is(dereg(rsp.mr), S(OK), "DEREG_MR");
	ok(!vrd_mr_find(qp, key, iova, 1, 0, false), "its key is dead");
	reg(LW | RR, iova, len, &x, 1, &rsp);
	ok(rsp.lkey != key && !vrd_mr_find(qp, key, iova, 1, 0, false), "and stays dead");
	dereg(rsp.mr);
}

static void scattered(void)
{
	/* pages 9, 4 5 6, 1, 2 and memory of the guest's end */
	const struct virtio_rdma_extent x[] = {
		{ .addr = mem + 9 * 4096, .pages = 1 }, { .addr = mem + 4 * 4096, .pages = 3 },
		{ .addr = mem + 1 * 4096, .pages = 1 }, { .addr = mem + 2 * 4096, .pages = 1 },
	};
	static const unsigned int page[] = { 9, 4, 5, 6, 1, 2 };
	struct virtio_rdma_reg_mr_rsp rsp;
	const struct vrd_mr *mr;
	uint64_t run, off;
	bool right = true;
	uint8_t *p;

	reg(LW, 0x10000 + 100, 6 * 4096 - 100 - 7, x, 4, &rsp);
	mr = vrd_mr_find(qp, rsp.lkey, 0x10000 + 100, 1, 0, false);
	ok(mr && !mr->linear, "a scattered region");
	for (off = 100; off < 6 * 4096 - 7; off += 13) {
		p = vrd_mr_at(r->dev, mr, 0x10000 + off, 1, true, &run);
		right = right && run == 1 &&
			p == (uint8_t *)raw_ptr(r, mem) + page[off / 4096] * 4096 + off % 4096 -
			     (uint8_t *)raw_ptr(r, RAW_BASE) +
			     (uint8_t *)vrd_mr_at(r->dev, r->dev->local_dma, RAW_BASE, 1, false,
						  &run);
	}
	ok(right, "each byte is where it should be");
	vrd_mr_at(r->dev, mr, 0x10000 + 100, 1 << 20, true, &run);
	is(run, 3996, "the first run is the rest of a page");
	vrd_mr_at(r->dev, mr, 0x11000, 1 << 20, true, &run);
	is(run, 3 * 4096, "pages that follow each other are one run");
	vrd_mr_at(r->dev, mr, 0x11010, 5000, true, &run);
	is(run, 5000, "as long as asked for");
	vrd_mr_at(r->dev, mr, 0x14000, 1 << 20, true, &run);
	is(run, 8192 - 7, "extents that touch are one run up to the region's end");
	is(mr->num_runs, 3, "it is kept as three runs");
	for (uint32_t start = 0; start < 6; start++) {
		uint32_t cursor = start == 5 ? UINT32_MAX : start;

		for (off = 0; off < 6 * 4096 - 8; off += 4096) {
			p = vrd_mr_at_cursor(r->dev, mr, 0x10000 + 100 + off, 1, true, &run, &cursor);
			right = right && p == vrd_mr_at(r->dev, mr, 0x10000 + 100 + off, 1, true, &run);
			cursor = start == 5 ? UINT32_MAX - 1 : cursor;
		}
	}
	ok(right, "wherever the search begins");
	dereg(rsp.mr);
}

static int more(uint32_t handle, const struct virtio_rdma_extent *x, uint32_t num)
{
	struct {
		struct virtio_rdma_reg_mr_more_req req;
		struct virtio_rdma_extent x[4];
	} q = { .req = { .hdr.opcode = VIRTIO_RDMA_CMD_REG_MR_MORE, .mr = handle,
			 .num_extents = num } };
	struct virtio_rdma_reg_mr_rsp rsp;

	memcpy(q.x, x, num * sizeof(*x));
	return raw_cmd(r, &q, (uint32_t)(sizeof(q.req) + num * sizeof(*x)), &rsp, sizeof(rsp));
}

static void chunks(void)
{
	struct virtio_rdma_extent x = { .addr = mem, .pages = 2 }, bad = { RAW_HOLE, 1, 0 };
	struct virtio_rdma_reg_mr_rsp rsp, other;
	int n = 0, status;

	is(raw_reg_mr(r, pd, LW, 0, 5 * 4096, &x, 1, 5, &rsp), S(OK), "the first 2 of 5 pages");
	ok(!vrd_mr_find(qp, rsp.lkey, 0, 1, 0, false), "the key does not work yet");
	is(more(rsp.mr, &x, 1), S(OK), "2 more");
	is(more(rsp.mr, &x, 1), S(INVAL), "one too many");
	is(more(rsp.mr, &bad, 1), S(FAULT), "the last is no memory");
	ok(!vrd_mr_find(qp, rsp.lkey, 0, 1, 0, false), "the key does not work yet");
	x.pages = 1;
	is(more(rsp.mr, &x, 1), S(OK), "the last");
	ok(vrd_mr_find(qp, rsp.lkey, 0, 5 * 4096, LW, false), "the key works");
	is(more(rsp.mr, &x, 1), S(INVAL), "no more after that");
	is(more(rsp.mr + 1, &x, 1), S(NOENT), "nor to a region that does not exist");
	is(dereg(rsp.mr), S(OK), "DEREG_MR");

	is(raw_reg_mr(r, pd, LW, 0, 5 * 4096, &x, 1, 5, &rsp), S(OK), "one that is not finished");
	is(raw_destroy(r, VIRTIO_RDMA_CMD_DEALLOC_PD, pd), S(BUSY), "keeps its PD");
	is(dereg(rsp.mr), S(OK), "can be given up");
	is(more(rsp.mr, &x, 1), S(NOENT), "and is gone then");

	do {
		status = raw_reg_mr(r, pd, LW, 0, 2 * 4096, &x, 1, 2, &other);
		n++;
	} while (!status && n < 2000);
	ok(status == S(NOMEM) && n > 100, "unfinished ones are bounded: %d", n - 1);
	is(raw_init(r), S(OK), "INIT");
	is(raw_stat(r, "mrs") + raw_stat(r, "mr_bytes"), 0, "throws them away");
	setup();
}

static void dma(void)
{
	struct virtio_rdma_reg_dma_mr_req q = {
		.hdr.opcode = VIRTIO_RDMA_CMD_REG_DMA_MR, .access = LW | RR,
	};
	struct virtio_rdma_reg_mr_rsp rsp;
	const struct vrd_mr *mr;
	uint64_t run;

	q.pd = pd;
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(PERM), "no DMA region for a process");
	q.pd = 99;
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(NOENT), "unknown PD");
	q.pd = kpd;
	q.access = RW;
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(INVAL), "remote write alone");
	q.access = LW | RR;
	is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(OK), "REG_DMA_MR");
	ok(vrd_device_mr_bytes(r->dev) >= RAW_SIZE, "counts as all of memory");
	mr = vrd_mr_find(kqp, rsp.lkey, mem, 4096, LW, false);
	ok(mr && vrd_mr_at(r->dev, mr, mem, 4096, true, &run) && run == 4096, "finds memory");
	ok(vrd_mr_find(kqp, rsp.rkey, mem, 8, RR, true), "also from afar");
	ok(!vrd_mr_find(kqp, rsp.rkey, mem, 8, RW, true), "with its rights alone");
	ok(!vrd_mr_find(qp, rsp.lkey, mem, 8, 0, false), "not for a process's QP");
	mr = vrd_mr_find(kqp, rsp.lkey, RAW_HOLE, 8, 0, false);
	ok(!mr || !vrd_mr_at(r->dev, mr, RAW_HOLE, 8, false, &run), "no memory is no memory");
	ok(!vrd_mr_find(kqp, rsp.lkey, UINT64_MAX, 8, 0, false), "nor is what wraps");
	is(dereg(rsp.mr), S(OK), "DEREG_MR");
	is(vrd_device_mr_bytes(r->dev), 0, "counts no more");

	mr = vrd_mr_find(kqp, VIRTIO_RDMA_LOCAL_DMA_LKEY, mem, 4096, LW, false);
	ok(mr && vrd_mr_at(r->dev, mr, mem, 4096, true, &run), "the reserved key: kernel QPs");
	ok(!vrd_mr_find(qp, VIRTIO_RDMA_LOCAL_DMA_LKEY, mem, 1, 0, false), "no others");
	ok(!vrd_mr_find(kqp, VIRTIO_RDMA_LOCAL_DMA_LKEY, mem, 1, 0, true), "never from afar");
	ok(!vrd_mr_find(kqp, VIRTIO_RDMA_LOCAL_DMA_LKEY, mem, 1, RR, false), "no remote right");
	ok(!vrd_mr_find(kqp, 0, mem, 1, 0, false), "key 0 is none");
	ok(!vrd_mr_find(kqp, VIRTIO_RDMA_LOCAL_DMA_LKEY + 1, mem, 1, 0, false), "nor its neighbour");
}

/* Another memory table: regions survive as far as it has their pages. */
static void tables(void)
{
	const struct virtio_rdma_extent x = { .addr = RAW_BASE + (40 << 20), .pages = 16 };
	struct vrd_mem_region m[2] = {
		{ .addr = RAW_BASE, .size = 32 << 20, .fd = r->memfd },
		{ .addr = RAW_BASE + (32 << 20), .size = 32 << 20, .fd = r->memfd,
		  .fd_offset = 32 << 20, .readonly = true },
	};
	struct virtio_rdma_reg_mr_rsp w, ro;
	const struct vrd_mr *mr, *mro;
	struct vrd_error err;
	uint64_t run;

	reg(LW, 0, 65536, &x, 1, &w);
	reg(RR, 0, 65536, &x, 1, &ro);
	mr = vrd_mr_find(qp, w.lkey, 0, 65536, LW, false);
	mro = vrd_mr_find(qp, ro.lkey, 0, 65536, RR, true);
	ok(mr->linear && mro->linear, "contiguous");
	is(vrd_device_set_mem_table(r->dev, m, 1, &err), 0, "a table without their pages");
	ok(!vrd_mr_at(r->dev, mr, 0, 1, true, &run) && !vrd_mr_at(r->dev, mro, 0, 1, false, &run),
	   "no access");
	is(vrd_device_set_mem_table(r->dev, m, 2, &err), 0, "a table where they are read-only");
	ok(!vrd_mr_at(r->dev, mr, 0, 1, true, &run), "no writing");
	ok(vrd_mr_at(r->dev, mro, 0, 65536, false, &run) && run == 65536, "but reading");
	is(try(LW, 0, 4096, 1, 1), S(OK), "a new region in writable memory");

	struct virtio_rdma_reg_mr_rsp rsp;

	is(raw_reg_mr(r, pd, LW, 0, 65536, &x, 1, 16, &rsp), S(FAULT), "in read-only memory: no");
	is(raw_reg_mr(r, pd, RR, 0, 65536, &x, 1, 16, &rsp), S(OK), "for reading: yes");
	m[1] = (struct vrd_mem_region){ .addr = RAW_BASE + (40 << 20) + 32768, .size = 1 << 20,
					.fd = r->memfd, .fd_offset = 8 << 20 };
	m[0].size = (40 << 20) + 32768;
	is(vrd_device_set_mem_table(r->dev, m, 2, &err), 0, "a table that splits them");
	ok(!mr->linear && vrd_mr_at(r->dev, mr, 0, 65536, true, &run) && run == 32768 &&
	   vrd_mr_at(r->dev, mr, 32768 - 4, 65536, true, &run) && run == 4 &&
	   vrd_mr_at(r->dev, mr, 32768, 65536, true, &run) && run == 32768, "two runs");
	m[1].addr += 4096;
	is(vrd_device_set_mem_table(r->dev, m, 2, &err), 0, "a table with a hole among their pages");
	ok(vrd_mr_at(r->dev, mr, 32768 - 4, 65536, true, &run) && run == 4 &&
	   !vrd_mr_at(r->dev, mr, 32768, 1, true, &run) &&
	   vrd_mr_at(r->dev, mr, 32768 + 4096, 65536, true, &run) && run == 28672,
	   "no access to the page that is missing");
	is(raw_set_memory(r), 0, "the old table");
	ok(vrd_mr_at(r->dev, mr, 0, 65536, true, &run) && run == 65536, "all is well again");
	setup();
}

/* True if each page of @mr, from the DMA address @addr on, is where the DMA region has it. */
static bool pages_right(const struct vrd_mr *mr, uint64_t addr, unsigned int num)
{
	uint64_t run;

	for (unsigned int i = 0; i < num; i++) {
		uint8_t *p = vrd_mr_at(r->dev, mr, i * 4096, 1, true, &run);

		if (!p || p != vrd_mr_at(r->dev, r->dev->local_dma, addr + i * 4096, 1, true, &run))
			return false;
	}
	return true;
}

/* Regions that several commands or extents fill, with the memory table that each of them finds. */
static void chunks_and_tables(void)
{
	const uint64_t addr = RAW_BASE + (40 << 20);
	struct virtio_rdma_extent x[2] = { { .addr = addr, .pages = 2 },
					   { .addr = RAW_HOLE, .pages = 1 } };
	struct vrd_mem_region m[2] = {
		{ .addr = RAW_BASE, .size = (40 << 20) + 2 * 4096, .fd = r->memfd },
		{ .addr = addr + 2 * 4096, .size = 1 << 20, .fd = r->memfd, .fd_offset = 8 << 20 },
	}, moved[2] = {
		{ .addr = RAW_BASE, .size = 32 << 20, .fd = r->memfd },
		{ .addr = RAW_BASE + (32 << 20), .size = 16 << 20, .fd = r->memfd,
		  .fd_offset = 8 << 20 },
	};
	struct virtio_rdma_reg_mr_rsp rsp;
	const struct vrd_mr *mr;
	struct vrd_error err;
	uint64_t run;

	is(raw_reg_mr(r, pd, LW, 0, 5 * 4096, x, 1, 5, &rsp), S(OK), "the first 2 of 5 pages");
	x[0].addr += 2 * 4096;
	is(more(rsp.mr, x, 2), S(FAULT), "2 adjacent ones, and one that is no memory");
	is(more(rsp.mr, x, 1), S(OK), "the adjacent ones alone");
	x[0].addr += 2 * 4096;
	x[0].pages = 1;
	is(more(rsp.mr, x, 1), S(OK), "the last");
	mr = vrd_mr_find(qp, rsp.lkey, 0, 5 * 4096, LW, false);
	ok(mr && mr->linear && pages_right(mr, addr, 5), "one run");
	dereg(rsp.mr);

	x[0] = (struct virtio_rdma_extent){ .addr = addr, .pages = 2 };
	is(raw_reg_mr(r, pd, LW, 0, 4 * 4096, x, 1, 4, &rsp), S(OK), "the first 2 of 4 pages");
	is(vrd_device_set_mem_table(r->dev, moved, 2, &err), 0, "a table with other memory for them");
	x[0].addr += 2 * 4096;
	is(more(rsp.mr, x, 1), S(OK), "the other two");
	mr = vrd_mr_find(qp, rsp.lkey, 0, 4 * 4096, LW, false);
	ok(mr && mr->linear && pages_right(mr, addr, 4), "all under the new table");
	dereg(rsp.mr);

	is(vrd_device_set_mem_table(r->dev, m, 2, &err), 0, "a table that splits them");
	x[0] = (struct virtio_rdma_extent){ .addr = addr, .pages = 2 };
	x[1] = (struct virtio_rdma_extent){ .addr = addr + 2 * 4096, .pages = 2 };
	is(raw_reg_mr(r, pd, LW, 0, 4 * 4096, x, 2, 4, &rsp), S(OK), "extents that touch at the split");
	mr = vrd_mr_find(qp, rsp.lkey, 0, 4 * 4096, LW, false);
	ok(mr && mr->num_runs == 1 && !mr->linear && pages_right(mr, addr, 4) &&
	   vrd_mr_at(r->dev, mr, 0, 4 * 4096, true, &run) && run == 2 * 4096, "two runs of bytes");
	dereg(rsp.mr);

	x[0] = (struct virtio_rdma_extent){ .addr = addr, .pages = 2 };
	is(raw_reg_mr(r, pd, LW, 0, 5 * 4096, x, 1, 5, &rsp), S(OK), "the 2 pages before the split");
	x[0].addr += 2 * 4096;
	x[1] = (struct virtio_rdma_extent){ .addr = RAW_HOLE, .pages = 1 };
	is(more(rsp.mr, x, 2), S(FAULT), "those after it, and one that is no memory");
	x[0] = (struct virtio_rdma_extent){ .addr = addr + 4 * 4096, .pages = 3 };
	is(more(rsp.mr, x, 1), S(OK), "others instead");
	mr = vrd_mr_find(qp, rsp.lkey, 0, 5 * 4096, LW, false);
	ok(mr && mr->num_runs == 2 && mr->runs[0].hva && mr->runs[1].hva,
	   "the failed command left no trace");
	dereg(rsp.mr);
	is(raw_set_memory(r), 0, "the old table");
}

static void quota(void)
{
	static const struct vrd_limits limits = { .max_mr_bytes = 8192, .max_mr_size = 8192 };
	struct raw *small = raw_new(&limits, FEATURES);
	struct virtio_rdma_extent x = { .pages = 1 };
	struct virtio_rdma_reg_mr_rsp a, b, c;
	uint32_t p;

	raw_recover(small);
	p = raw_pd(small, raw_ctx(small, 0));
	x.addr = raw_alloc(small, 1);
	is(raw_reg_mr(small, p, 0, 0, 1, &x, 1, 1, &a), S(OK), "a page of two");
	is(raw_reg_mr(small, p, 0, 0, 4096, &x, 1, 1, &b), S(OK), "the other");
	is(raw_reg_mr(small, p, 0, 0, 1, &x, 1, 1, &c), S(NOMEM), "no third");
	is(raw_stat(small, "mr_bytes"), 8192, "are counted in pages");
	is(raw_destroy(small, VIRTIO_RDMA_CMD_DEREG_MR, a.mr), S(OK), "one goes");
	is(raw_reg_mr(small, p, 0, 0, 1, &x, 1, 1, &c), S(OK), "another comes");
	raw_free(small);
}

/* Lookups on other threads while regions are created and destroyed (RCU: see the TSan run). */
static _Atomic bool stop;
static _Atomic uint32_t keys[4];

static void *churn(void *opaque)
{
	(void)opaque;
	for (int i = 0; i < 3000; i++) {
		struct virtio_rdma_extent x = { .addr = mem, .pages = 1 };
		struct virtio_rdma_reg_mr_rsp rsp;

		if (raw_reg_mr(r, pd, LW, 0, 64, &x, 1, 1, &rsp))
			break;
		atomic_store(&keys[i & 3], rsp.lkey);
		dereg(rsp.mr);
	}
	atomic_store(&stop, true);
	return NULL;
}

static void concurrent(void)
{
	uint64_t numbers = 0;
	pthread_t t;

	pthread_create(&t, NULL, churn, NULL);
	/*
	 * The number only: the region itself may be freed, as this thread is not an RCU reader;
	 * this tests that the table itself stays valid.
	 */
	while (!atomic_load(&stop))
		for (int i = 0; i < 4; i++)
			numbers += vrd_table_slot(&r->dev->mrs, atomic_load(&keys[i]) >> 8) != NULL;
	pthread_join(t, NULL);
	ok(numbers, "regions came and went under lookups");
	is(raw_stat(r, "mrs"), 0, "none is left");
}

/* ---- keys of the host's ---------------------------------------------------- */

static struct vrd_transport_ops host_ops;
/* A peer that was given one key must not know others. */
static void random_keys(void)
{
	struct virtio_rdma_extent x = { .addr = raw_alloc(r, 1), .pages = 1 };
	uint32_t pd = raw_pd(r, raw_ctx(r, 0)), sequential = 0, same_byte = 0, bits = 0;
	struct virtio_rdma_reg_mr_rsp rsp[64];
	unsigned int i, j;
	bool distinct = true;

	for (i = 0; i < 64; i++) {
		if (raw_reg_mr(r, pd, 1, 0, 64, &x, 1, 1, &rsp[i])) {
			ok(false, "64 regions");
			return;
		}
		for (j = 0; j < i; j++)
			distinct = distinct && rsp[i].lkey != rsp[j].lkey;
		if (!i)
			continue;
		sequential += (rsp[i].lkey >> 8) - (rsp[i - 1].lkey >> 8) == 1;
		same_byte += (uint8_t)(rsp[i].lkey - rsp[i - 1].lkey) <= 1;
		bits |= rsp[i].lkey ^ rsp[0].lkey;
	}
	ok(distinct, "64 regions have 64 keys");
	ok(sequential < 4, "which do not follow each other: %u do", sequential);
	ok(same_byte < 8, "nor do their lowest bytes: %u do", same_byte);
	is(bits, UINT32_MAX, "every bit of a key changes");
	for (i = 0; i < 64; i++)
		raw_destroy(r, VIRTIO_RDMA_CMD_DEREG_MR, rsp[i].mr);
}

static uint32_t host_lkey, host_rkey;
static int deregs;

static int host_reg(struct vrd_mr *mr)
{
	mr->lkey = host_lkey;
	mr->rkey = host_rkey;
	return 0;
}

static void host_dereg(struct vrd_mr *mr)
{
	(void)mr;
	deregs++;
}

static int host_reg_mr(uint32_t access, uint32_t lkey, uint32_t rkey,
		       struct virtio_rdma_reg_mr_rsp *rsp)
{
	struct virtio_rdma_extent x = { .addr = mem, .pages = 1 };

	host_lkey = lkey;
	host_rkey = rkey;
	return raw_reg_mr(r, pd, access, 0x1000, 4096, &x, 1, 1, rsp);
}

static void host_keys(void)
{
	const struct vrd_transport_ops *own = r->dev->transports[0];
	struct virtio_rdma_reg_mr_rsp a, b, c;
	uint32_t handle;

	host_ops = *own;
	host_ops.owns_numbers = true;
	host_ops.mr_reg = host_reg;
	host_ops.mr_dereg = host_dereg;
	if (vrd_table_init(&r->dev->lkeys, 4, 0, VRD_TABLE_FOREIGN) ||
	    vrd_table_init(&r->dev->rkeys, 4, 0, VRD_TABLE_FOREIGN))
		abort();
	r->dev->transports[0] = &host_ops;
	r->dev->owner = &host_ops;

	is(host_reg_mr(LW | RR, 0x00123401, 0xfffffe02, &a), 0, "REG_MR with the host's keys");
	ok(a.lkey == 0x00123401 && a.rkey == 0xfffffe02, "the guest gets them");
	ok(vrd_mr_find(qp, 0x00123401, 0x1000, 4096, LW, false), "found by the local key");
	ok(vrd_mr_find(qp, 0xfffffe02, 0x1000, 4096, RR, true), "and by the remote key");
	ok(!vrd_mr_find(qp, 0xfffffe02, 0x1000, 1, 0, false), "which is no local key");
	ok(!vrd_mr_find(qp, 0x00123401, 0x1000, 1, RR, true), "nor the other way round");
	ok(!vrd_mr_find(qp, 0x00123402, 0x1000, 1, 0, false), "another low byte");
	ok(!vrd_mr_find(kqp, 0x00123401, 0x1000, 1, 0, false), "a QP of another PD");
	ok(!vrd_mr_find(qp, 0xfffffe02, 0x1000, 1, RW, true), "without the right");
	ok(!vrd_mr_find(qp, 0x00123401, 0x1fff, 2, 0, false), "out of bounds");
	for (handle = 0; handle < 256; handle++)
		if (vrd_mr_find(qp, a.mr << 8 | handle, 0x1000, 1, 0, false))
			break;
	is(handle, 256, "a key made of the handle leads nowhere");

	/* The host may use the same number for one key of each kind. */
	is(host_reg_mr(LW | RR, 0xfffffe07, 0x00123409, &b), 0, "numbers the other way round");
	ok(vrd_mr_find(qp, 0xfffffe07, 0x1000, 1, LW, false) !=
	   vrd_mr_find(qp, 0x00123401, 0x1000, 1, LW, false), "each leads to its own region");
	is(host_reg_mr(LW, 0x500, 0, &c), 0, "a region without remote rights has no remote key");
	dereg(c.mr);
	is(host_reg_mr(LW, 0x600, 0, &c), 0, "many have none");
	ok(!vrd_mr_find(qp, 0, 0x1000, 1, 0, true), "key 0 leads nowhere");
	deregs = 0;
	ok(host_reg_mr(LW, 0x00123455, 0, &c) && deregs == 1, "a number in use is refused");
	ok(host_reg_mr(LW | RW, 0x700, 0xfffffe99, &c) && deregs == 2, "so is a remote one");
	is(host_reg_mr(LW, 0x700, 0, &c), 0, "of which nothing is left");

	dereg(a.mr);
	ok(!vrd_mr_find(qp, 0x00123401, 0x1000, 1, 0, false) &&
	   !vrd_mr_find(qp, 0xfffffe02, 0x1000, 1, RR, true), "dead after DEREG_MR");
	is(host_reg_mr(LW | RR, 0x001234ff, 0xfffffeff, &a), 0, "the host gives the numbers again");
	is(raw_recover(r), 0, "a reset");
	is(r->dev->lkeys.count + r->dev->rkeys.count, 0, "leaves none");
	r->dev->transports[0] = own;
	r->dev->owner = NULL;
}

int main(void)
{
	r = raw_new(NULL, FEATURES);
	setup();
	refusals();
	many_extents();
	lookups();
	scattered();
	chunks();
	dma();
	tables();
	chunks_and_tables();
	concurrent();
	random_keys();
	host_keys();
	raw_free(r);
	quota();
	return tap_done();
}
