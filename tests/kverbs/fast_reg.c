// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fast registration by a kernel user: regions with and without gaps, which a peer writes to;
 * both ways to invalidate them; a write to one that is invalid.  Called by kverbs.c.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/random.h>
#include <linux/slab.h>

#include "kverbs.h"

/* Pieces of a buffer: at most the last one ends, and the first one begins, within a page. */
static const struct kv_piece {
	u32 offset, len;
} kv_pages[] = {
	{ 3 * PAGE_SIZE + 100, PAGE_SIZE - 100 }, { PAGE_SIZE, PAGE_SIZE },
	{ 2 * PAGE_SIZE, PAGE_SIZE }, { 6 * PAGE_SIZE, 77 },
}, kv_gaps[] = {
	{ 5, 1 }, { 9000, 5000 }, { 300, 64 }, { 20000, 1 }, { 30001, 3333 },
};

static int kv_reg_mr(struct kv_test *t, struct ib_mr *mr,
		     const struct kv_piece *pieces, int num)
{
	struct ib_reg_wr wr = {
		.wr.opcode = IB_WR_REG_MR,
		.mr = mr,
		.access = IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE,
	};
	struct scatterlist sg[8];
	int i, ret;

	sg_init_table(sg, num);
	for (i = 0; i < num; i++) {
		sg_dma_address(&sg[i]) = t->dma[1] + pieces[i].offset;
		sg_dma_len(&sg[i]) = pieces[i].len;
	}
	ret = ib_map_mr_sg(mr, sg, num, NULL, PAGE_SIZE);
	if (ret != num) {
		pr_err("ib_map_mr_sg: %d of %d\n", ret, num);
		return -EIO;
	}
	ib_update_fast_reg_key(mr, mr->rkey + 1);
	wr.key = mr->rkey;
	return kv_send(t, 1, &wr.wr, "reg_mr");
}

static int kv_write_mr(struct kv_test *t, struct ib_mr *mr)
{
	struct ib_sge sge = {
		.addr = t->dma[0],
		.length = mr->length,
		.lkey = t->pd->local_dma_lkey,
	};
	struct ib_rdma_wr wr = {
		.wr.opcode = IB_WR_RDMA_WRITE,
		.wr.sg_list = &sge,
		.wr.num_sge = 1,
		.remote_addr = mr->iova,
		.rkey = mr->rkey,
	};

	return kv_send(t, 0, &wr.wr, "write to a fast registered region");
}

/* Every byte is in its piece, and no other one was written. */
static bool kv_only_pieces(struct kv_test *t, const struct kv_piece *pieces,
			   int num)
{
	u8 *from = t->buf[0], *copy = kmalloc(KV_BUF, GFP_KERNEL);
	bool same;
	int i;

	if (!copy)
		return false;
	memset(copy, 0x77, KV_BUF);
	for (i = 0; i < num; i++) {
		memcpy(copy + pieces[i].offset, from, pieces[i].len);
		from += pieces[i].len;
	}
	same = !memcmp(copy, t->buf[1], KV_BUF);
	kfree(copy);
	return same;
}

/* A message that invalidates the region. */
static int kv_send_inv(struct kv_test *t, struct ib_mr *mr)
{
	struct ib_send_wr wr = {
		.opcode = IB_WR_SEND_WITH_INV,
		.ex.invalidate_rkey = mr->rkey,
	};
	struct kv_wait recv;
	int ret;

	kv_wait_init(&recv);
	ret = kv_post_recv(t, 1, &recv.cqe, KV_BUF) ?:
	      kv_send(t, 0, &wr, "send with invalidate") ?:
	      kv_wait_for(&recv, "recv");
	if (ret)
		return ret;
	if (!(recv.wc.wc_flags & IB_WC_WITH_INVALIDATE) ||
	    recv.wc.ex.invalidate_rkey != mr->rkey) {
		pr_err("send with invalidate: wrong completion\n");
		return -EIO;
	}
	return 0;
}

static int kv_test_region(struct kv_test *t, struct ib_mr *mr,
			  const struct kv_piece *pieces, int num)
{
	struct ib_send_wr inv = { .opcode = IB_WR_LOCAL_INV };
	int i, ret;

	for (i = 0; i < 10; i++) {
		ret = kv_reg_mr(t, mr, pieces, num);
		if (ret)
			return ret;
		get_random_bytes(t->buf[0], KV_BUF);
		memset(t->buf[1], 0x77, KV_BUF);
		ret = kv_write_mr(t, mr);
		if (ret)
			return ret;
		if (!kv_only_pieces(t, pieces, num)) {
			pr_err("fast registration: wrong data\n");
			return -EIO;
		}
		inv.ex.invalidate_rkey = mr->rkey;
		ret = i & 1 ? kv_send_inv(t, mr) :
			      kv_send(t, 1, &inv, "local_inv");
		if (ret)
			return ret;
	}
	/* The QPs fail; kv_test_restart() follows. */
	if (kv_write_mr(t, mr) != -EIO) {
		pr_err("a write to an invalid region\n");
		return -EIO;
	}
	return kv_test_restart(t);
}

int kv_test_fast_reg(struct kv_test *t)
{
	struct ib_mr *mr;
	int ret;

	if (!(t->dev->attrs.device_cap_flags & IB_DEVICE_MEM_MGT_EXTENSIONS)) {
		pr_info("fast registration: SKIP, the device does not have it\n");
		return 0;
	}
	mr = ib_alloc_mr(t->pd, IB_MR_TYPE_MEM_REG, 8);
	if (IS_ERR(mr))
		return PTR_ERR(mr);
	ret = kv_test_region(t, mr, kv_pages, ARRAY_SIZE(kv_pages));
	ib_dereg_mr(mr);
	if (ret)
		return ret;
	mr = ib_alloc_mr(t->pd, IB_MR_TYPE_SG_GAPS,
			 t->dev->attrs.max_fast_reg_page_list_len);
	if (IS_ERR(mr))
		return PTR_ERR(mr);
	ret = kv_test_region(t, mr, kv_gaps, ARRAY_SIZE(kv_gaps));
	ib_dereg_mr(mr);
	if (!ret)
		pr_info("fast registration: PASS\n");
	return ret;
}
