// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KUnit tests of the description of memory for the device: buffers as extents (buf.c), and
 * registrations that take several commands (cmd_object.c).
 */
#include <linux/scatterlist.h>

#include "fakedev.h"

/* Extents in one command; must equal the number in cmd_object.c. */
#define PER_CMD		1000
#define MR_HANDLE	77

/* ---- extents --------------------------------------------------------------- */

/* Pinned memory in runs of @pages[i] pages; run i begins at (i + 1) << 32. */
static struct vrdma_buf *buf_of_runs(struct kunit *test, const u32 *pages,
				     unsigned int num)
{
	struct vrdma_buf *buf = kunit_kzalloc(test, sizeof(*buf), GFP_KERNEL);
	struct sg_table *sgt;
	struct scatterlist *sg;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, buf);
	buf->umem = kunit_kzalloc(test, sizeof(*buf->umem), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, buf->umem);
	sgt = &buf->umem->sgt_append.sgt;
	KUNIT_ASSERT_EQ(test, sg_alloc_table(sgt, num, GFP_KERNEL), 0);
	for_each_sgtable_dma_sg(sgt, sg, i) {
		sg_dma_address(sg) = (u64)(i + 1) << 32;
		sg_dma_len(sg) = pages[i] << VIRTIO_RDMA_PAGE_SHIFT;
		buf->len += sg_dma_len(sg);
	}
	return buf;
}

static void buf_free_runs(struct vrdma_buf *buf)
{
	sg_free_table(&buf->umem->sgt_append.sgt);
}

/* The driver's own memory: @num chunks, two megabytes apart. */
static struct vrdma_buf *buf_of_chunks(struct kunit *test, u32 num, u8 shift)
{
	struct vrdma_buf *buf = kunit_kzalloc(test, sizeof(*buf), GFP_KERNEL);
	u32 i;

	KUNIT_ASSERT_NOT_NULL(test, buf);
	buf->dma = kunit_kcalloc(test, num, sizeof(*buf->dma), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, buf->dma);
	buf->chunk_shift = shift;
	buf->num_chunks = num;
	buf->len = (size_t)num << shift;
	for (i = 0; i < num; i++)
		buf->dma[i] = (u64)(i + 1) << 21;
	return buf;
}

static void expect_extent(struct kunit *test,
			  const struct virtio_rdma_extent *ext, u64 addr,
			  u32 pages)
{
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ext->addr), addr);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(ext->pages), pages);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(ext->reserved), 0u);
}

/* One extent for each run: single pages, a huge page, a gigabyte. */
static void test_runs(struct kunit *test)
{
	static const u32 pages[] = { 1, 512, 3, 262144 };
	struct vrdma_buf *buf = buf_of_runs(test, pages, ARRAY_SIZE(pages));
	u64 total = 1 + 512 + 3 + 262144;
	struct virtio_rdma_extent ext[8] = {};
	struct vrdma_extent_iter it;
	int i;

	KUNIT_EXPECT_EQ(test, vrdma_extent_count(buf, 0, total), 4u);
	vrdma_extent_start(&it, buf, 0, total);
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 8), 4u);
	KUNIT_EXPECT_EQ(test, it.left, 0ull);
	for (i = 0; i < 4; i++)
		expect_extent(test, &ext[i], (u64)(i + 1) << 32, pages[i]);
	expect_extent(test, &ext[4], 0, 0);
	buf_free_runs(buf);
}

/* A region may begin and end anywhere: here in the middle of huge pages. */
static void test_straddle(struct kunit *test)
{
	static const u32 pages[] = { 512, 512, 512 };
	struct vrdma_buf *buf = buf_of_runs(test, pages, ARRAY_SIZE(pages));
	struct virtio_rdma_extent ext[4];
	struct vrdma_extent_iter it;

	memset(ext, 0, sizeof(ext));
	vrdma_extent_start(&it, buf, 500, 600);
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 4), 3u);
	expect_extent(test, &ext[0], (1ull << 32) + 500 * 4096, 12);
	expect_extent(test, &ext[1], 2ull << 32, 512);
	expect_extent(test, &ext[2], 3ull << 32, 76);

	/* Skips whole runs, and all but one page of the last run. */
	memset(ext, 0, sizeof(ext));
	vrdma_extent_start(&it, buf, 1024 + 511, 1);
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 4), 1u);
	expect_extent(test, &ext[0], (3ull << 32) + 511 * 4096, 1);

	/* Ends exactly at the end of a run: no extent of the next run. */
	memset(ext, 0, sizeof(ext));
	vrdma_extent_start(&it, buf, 512, 512);
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 4), 1u);
	expect_extent(test, &ext[0], 2ull << 32, 512);
	buf_free_runs(buf);
}

/* A walk continues where it stopped, over a chained scatterlist, and also within the first run. */
static void test_resume(struct kunit *test)
{
	const unsigned int num = 700;
	u32 *pages = kunit_kcalloc(test, num, sizeof(*pages), GFP_KERNEL);
	struct virtio_rdma_extent ext[16];
	struct vrdma_extent_iter it;
	struct vrdma_buf *buf;
	unsigned int i, done = 0;
	u64 total = 0;
	u32 got;

	KUNIT_ASSERT_NOT_NULL(test, pages);
	for (i = 0; i < num; i++)
		total += pages[i] = 1 + i % 7;
	buf = buf_of_runs(test, pages, num);
	/* Skips the first run, and one of the two pages of the second. */
	vrdma_extent_start(&it, buf, 2, total - 2);
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 0), 0u);
	while (it.left) {
		memset(ext, 0, sizeof(ext));
		got = vrdma_extent_fill(&it, ext, 1 + done % 16);
		KUNIT_ASSERT_GT(test, got, 0u);
		for (i = 0; i < got; i++, done++)
			expect_extent(test, &ext[i],
				      ((u64)(done + 2) << 32) +
				      (done ? 0 : 4096),
				      done ? pages[done + 1] : 1);
	}
	KUNIT_EXPECT_EQ(test, done, num - 1);
	/* No extents after the end. */
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 16), 0u);
	buf_free_runs(buf);
}

/* More pages requested than exist: returns what exists; the rest remains in it.left. */
static void test_too_few(struct kunit *test)
{
	static const u32 pages[] = { 4, 4 };
	struct vrdma_buf *buf = buf_of_runs(test, pages, ARRAY_SIZE(pages));
	struct virtio_rdma_extent ext[4] = {};
	struct vrdma_extent_iter it;

	vrdma_extent_start(&it, buf, 0, 9);
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 4), 2u);
	KUNIT_EXPECT_EQ(test, it.left, 1ull);
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 4), 0u);
	vrdma_extent_start(&it, buf, 8, 1);
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 4), 0u);
	KUNIT_EXPECT_EQ(test, it.left, 1ull);
	buf_free_runs(buf);
}

static void test_chunks(struct kunit *test)
{
	struct vrdma_buf *buf = buf_of_chunks(test, 3, 16);
	struct virtio_rdma_extent ext[3] = {};
	struct vrdma_extent_iter it;

	vrdma_extent_start(&it, buf, 0, 33);
	KUNIT_EXPECT_EQ(test, vrdma_extent_fill(&it, ext, 3), 3u);
	expect_extent(test, &ext[0], 1 << 21, 16);
	expect_extent(test, &ext[1], 2 << 21, 16);
	expect_extent(test, &ext[2], 3 << 21, 1);
}

/* ---- registrations ---------------------------------------------------------- */

/* What the device has seen of a registration; @fail_at: the command that it refuses. */
struct reg {
	unsigned int commands;
	unsigned int fail_at;
	bool silent;
	bool keeps;		/* refuses DEREG_MR */
	unsigned int destroyed;
	u64 total_pages;
	u32 extents[8];
	u32 seen;
};

static void reg_extents(struct fakedev *f, const struct fakedev_cmd *cmd,
			const struct virtio_rdma_extent *ext, u32 num,
			size_t head)
{
	struct reg *reg = f->priv;
	u32 i;

	KUNIT_EXPECT_EQ(f->test, (size_t)cmd->req_len,
			head + num * sizeof(*ext));
	/* The extents are in order: buf_of_chunks() numbers them. */
	for (i = 0; i < num; i++, reg->seen++)
		expect_extent(f->test, &ext[i], (u64)(reg->seen + 1) << 21, 1);
	reg->extents[min(reg->commands, 7u)] = num;
}

static void serve_reg(struct fakedev *f, struct fakedev_cmd *cmd)
{
	struct virtio_rdma_reg_mr_rsp rsp = { .mr = cpu_to_le32(MR_HANDLE) };
	struct virtio_rdma_reg_mr_more_req *more = f->req;
	struct virtio_rdma_destroy_req *destroy = f->req;
	struct virtio_rdma_reg_mr_req *first = f->req;
	struct reg *reg = f->priv;

	switch (fakedev_opcode(f)) {
	case VIRTIO_RDMA_CMD_REG_MR:
		KUNIT_EXPECT_EQ(f->test, reg->commands, 0u);
		reg->total_pages = le64_to_cpu(first->total_pages);
		reg_extents(f, cmd, first->extents,
			    le32_to_cpu(first->num_extents), sizeof(*first));
		break;
	case VIRTIO_RDMA_CMD_REG_MR_MORE:
		KUNIT_EXPECT_EQ(f->test, le32_to_cpu(more->mr),
				(u32)MR_HANDLE);
		reg_extents(f, cmd, more->extents,
			    le32_to_cpu(more->num_extents), sizeof(*more));
		break;
	case VIRTIO_RDMA_CMD_DEREG_MR:
		KUNIT_EXPECT_EQ(f->test, le32_to_cpu(destroy->handle),
				(u32)MR_HANDLE);
		reg->destroyed++;
		fakedev_status(f, cmd, reg->keeps ? VIRTIO_RDMA_S_IO : 0);
		return;
	default:
		KUNIT_FAIL(f->test, "command %u", fakedev_opcode(f));
	}
	if (reg->commands++ == reg->fail_at) {
		if (!reg->silent)
			fakedev_status(f, cmd, VIRTIO_RDMA_S_NOMEM);
		return;
	}
	/* The keys may change with each response until the last page was registered. */
	rsp.lkey = cpu_to_le32(0x100 * reg->commands);
	rsp.rkey = cpu_to_le32(0x200 * reg->commands);
	fakedev_answer(f, cmd, &rsp, sizeof(rsp));
}

/*
 * Registers @num single pages; the region begins after the first byte of the first page.
 * @exposed returns whether the device may still use the pages.
 */
static int reg_run(struct kunit *test, struct fakedev *f, u32 num,
		   struct vrdma_mr_keys *keys, bool *exposed)
{
	struct vrdma_mr_params p = {
		.pdn = 3,
		.access = IB_ACCESS_LOCAL_WRITE,
		.iova = 0x7f0000000001,
		.length = (u64)num * 4096 - 1,
		.buf = buf_of_chunks(test, num, PAGE_SHIFT),
	};
	int ret;

	memset(keys, 0, sizeof(*keys));
	ret = vrdma_cmd_reg_mr(&f->dev, &p, keys);
	*exposed = p.buf->exposed;
	return ret;
}

static void test_reg_mr(struct kunit *test)
{
	static const struct {
		u32 pages;
		unsigned int commands;
		u32 last;
	} cases[] = {
		{ 1, 1, 1 },
		{ PER_CMD, 1, PER_CMD },
		{ PER_CMD + 1, 2, 1 },
		{ 2 * PER_CMD, 2, PER_CMD },
		{ 2 * PER_CMD + 500, 3, 500 },
	};
	struct fakedev *f = fakedev_open(test, 64, serve_reg);
	struct vrdma_mr_keys keys;
	bool exposed;
	int i, c;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reg reg = { .fail_at = UINT_MAX };

		f->priv = &reg;
		KUNIT_EXPECT_EQ(test, reg_run(test, f, cases[i].pages, &keys,
					      &exposed), 0);
		KUNIT_EXPECT_EQ(test, reg.commands, cases[i].commands);
		KUNIT_EXPECT_EQ(test, reg.seen, cases[i].pages);
		KUNIT_EXPECT_EQ(test, reg.total_pages, (u64)cases[i].pages);
		for (c = 0; c + 1 < cases[i].commands; c++)
			KUNIT_EXPECT_EQ(test, reg.extents[c], (u32)PER_CMD);
		KUNIT_EXPECT_EQ(test, reg.extents[c], cases[i].last);
		KUNIT_EXPECT_EQ(test, reg.destroyed, 0u);
		KUNIT_EXPECT_EQ(test, keys.handle, (u32)MR_HANDLE);
		KUNIT_EXPECT_EQ(test, keys.lkey, 0x100 * reg.commands);
		KUNIT_EXPECT_EQ(test, keys.rkey, 0x200 * reg.commands);
	}
	fakedev_close(f);
}

/* If a part of a region is refused, the whole region is deregistered. */
static void test_reg_mr_refused(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, 64, serve_reg);
	struct reg reg = { .fail_at = 0 };
	struct vrdma_mr_keys keys;
	bool exposed;

	f->priv = &reg;
	KUNIT_EXPECT_EQ(test, reg_run(test, f, 2500, &keys, &exposed),
			-ENOMEM);
	KUNIT_EXPECT_FALSE(test, exposed);
	KUNIT_EXPECT_EQ(test, reg.commands, 1u);
	KUNIT_EXPECT_EQ(test, reg.destroyed, 0u);

	reg = (struct reg) { .fail_at = 2 };
	KUNIT_EXPECT_EQ(test, reg_run(test, f, 2500, &keys, &exposed),
			-ENOMEM);
	KUNIT_EXPECT_FALSE(test, exposed);
	KUNIT_EXPECT_EQ(test, reg.commands, 3u);
	KUNIT_EXPECT_EQ(test, reg.destroyed, 1u);

	/* If the device refuses that as well, it is halted. */
	reg = (struct reg) { .fail_at = 1, .keeps = true };
	KUNIT_EXPECT_EQ(test, reg_run(test, f, 2500, &keys, &exposed),
			-ENOMEM);
	KUNIT_EXPECT_FALSE(test, exposed);
	KUNIT_EXPECT_EQ(test, reg.destroyed, 1u);
	KUNIT_EXPECT_TRUE(test, vrdma_halted(&f->dev));
	fakedev_close(f);
}

/* A silent device may use the memory until it is halted. */
static void test_reg_mr_silent(struct kunit *test)
{
	struct reg reg = { .fail_at = 1, .silent = true };
	struct vrdma_mr_keys keys;
	bool exposed = false;
	struct fakedev *f;

	f = fakedev_open(test, 64, serve_reg);
	f->priv = &reg;
	fakedev_set_timeout(f, 1);
	KUNIT_EXPECT_EQ(test, reg_run(test, f, 2500, &keys, &exposed),
			-ETIMEDOUT);
	/* The device had a part of the region, and was halted before reg_run() returned. */
	KUNIT_EXPECT_FALSE(test, exposed);
	KUNIT_EXPECT_TRUE(test, vrdma_halted(&f->dev));
	KUNIT_EXPECT_EQ(test, reg.destroyed, 0u);
	fakedev_close(f);

	reg = (struct reg) { .fail_at = 0, .silent = true };
	f = fakedev_open(test, 64, serve_reg);
	f->priv = &reg;
	fakedev_set_timeout(f, 1);
	KUNIT_EXPECT_EQ(test, reg_run(test, f, 10, &keys, &exposed),
			-ETIMEDOUT);
	KUNIT_EXPECT_TRUE(test, exposed);
	fakedev_close(f);
}

/* ---- buffers of rings --------------------------------------------------------- */

#define BUF_HANDLE	9

static void serve_ring(struct fakedev *f, struct fakedev_cmd *cmd)
{
	struct virtio_rdma_create_buf_rsp rsp = { .buf = cpu_to_le32(BUF_HANDLE) };
	struct virtio_rdma_create_cq_rsp cq_rsp = { .cqn = cpu_to_le32(4) };
	struct virtio_rdma_create_buf_req *first = f->req;
	struct virtio_rdma_fill_buf_req *fill = f->req;
	struct virtio_rdma_destroy_req *destroy = f->req;
	struct virtio_rdma_create_cq_req *cq = f->req;
	struct reg *reg = f->priv;

	switch (fakedev_opcode(f)) {
	case VIRTIO_RDMA_CMD_CREATE_BUF:
		KUNIT_EXPECT_EQ(f->test, le32_to_cpu(first->ctx), 2u);
		reg->total_pages = le64_to_cpu(first->total_pages);
		reg_extents(f, cmd, first->extents,
			    le32_to_cpu(first->num_extents), sizeof(*first));
		break;
	case VIRTIO_RDMA_CMD_FILL_BUF:
		KUNIT_EXPECT_EQ(f->test, le32_to_cpu(fill->buf),
				(u32)BUF_HANDLE);
		reg_extents(f, cmd, fill->extents,
			    le32_to_cpu(fill->num_extents), sizeof(*fill));
		break;
	case VIRTIO_RDMA_CMD_CREATE_CQ:
		if (reg->total_pages) {
			KUNIT_EXPECT_EQ(f->test, le32_to_cpu(cq->buf.handle),
					(u32)BUF_HANDLE);
			KUNIT_EXPECT_EQ(f->test,
					le32_to_cpu(cq->buf.num_extents), 0u);
			KUNIT_EXPECT_EQ(f->test, (u64)reg->seen,
					reg->total_pages);
			KUNIT_EXPECT_EQ(f->test, (size_t)cmd->req_len,
					sizeof(*cq));
		} else {
			KUNIT_EXPECT_EQ(f->test, le32_to_cpu(cq->buf.handle),
					0u);
			reg_extents(f, cmd, cq->extents,
				    le32_to_cpu(cq->buf.num_extents),
				    sizeof(*cq));
		}
		break;
	case VIRTIO_RDMA_CMD_DESTROY_BUF:
		KUNIT_EXPECT_EQ(f->test, le32_to_cpu(destroy->handle),
				(u32)BUF_HANDLE);
		reg->destroyed++;
		fakedev_status(f, cmd, 0);
		return;
	default:
		KUNIT_FAIL(f->test, "command %u", fakedev_opcode(f));
	}
	if (reg->commands++ == reg->fail_at)
		fakedev_status(f, cmd, VIRTIO_RDMA_S_NOMEM);
	else if (fakedev_opcode(f) == VIRTIO_RDMA_CMD_CREATE_BUF)
		fakedev_answer(f, cmd, &rsp, sizeof(rsp));
	else if (fakedev_opcode(f) == VIRTIO_RDMA_CMD_CREATE_CQ)
		fakedev_answer(f, cmd, &cq_rsp, sizeof(cq_rsp));
	else
		fakedev_status(f, cmd, 0);
}

/* A ring with more extents than one command has room for takes several commands. */
static void test_ring_handle(struct kunit *test)
{
	static const struct {
		u32 pages;
		unsigned int fail_at;
		unsigned int commands;
		unsigned int destroyed;
	} cases[] = {
		{ 1, UINT_MAX, 1, 0 },
		{ VIRTIO_RDMA_MAX_CMD_EXTENTS, UINT_MAX, 1, 0 },
		{ VIRTIO_RDMA_MAX_CMD_EXTENTS + 1, UINT_MAX, 6, 0 },
		{ VIRTIO_RDMA_MAX_CMD_EXTENTS + 1, 0, 1, 0 },
		{ VIRTIO_RDMA_MAX_CMD_EXTENTS + 1, 3, 4, 1 },
		{ VIRTIO_RDMA_MAX_CMD_EXTENTS + 1, 5, 6, 1 },
	};
	struct fakedev *f = fakedev_open(test, 64, serve_ring);
	u32 cqn;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reg reg = { .fail_at = cases[i].fail_at };
		struct vrdma_cq_params p = {
			.ctx = 2,
			.buf = buf_of_chunks(test, cases[i].pages, PAGE_SHIFT),
		};
		bool fails = cases[i].fail_at != UINT_MAX;

		f->priv = &reg;
		KUNIT_EXPECT_EQ(test, vrdma_cmd_create_cq(&f->dev, &p, &cqn),
				fails ? -ENOMEM : 0);
		KUNIT_EXPECT_EQ(test, reg.commands, cases[i].commands);
		KUNIT_EXPECT_EQ(test, reg.destroyed, cases[i].destroyed);
		KUNIT_EXPECT_EQ(test, p.buf->exposed, !fails);
		if (!fails)
			KUNIT_EXPECT_EQ(test, cqn, 4u);
	}
	fakedev_close(f);
}

static struct kunit_case mr_cases[] = {
	KUNIT_CASE(test_runs),
	KUNIT_CASE(test_straddle),
	KUNIT_CASE(test_resume),
	KUNIT_CASE(test_too_few),
	KUNIT_CASE(test_chunks),
	KUNIT_CASE(test_reg_mr),
	KUNIT_CASE(test_reg_mr_refused),
	KUNIT_CASE(test_ring_handle),
	KUNIT_CASE(test_reg_mr_silent),
	{}
};

static struct kunit_suite mr_suite = {
	.name = "virtio_rdma_mr",
	.test_cases = mr_cases,
};

kunit_test_suite(mr_suite);
