// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A kernel user of verbs, to test the driver's kernel data path: module vrdma_kverbs, loaded
 * in a guest by tests.
 *
 * At load it connects two RC QPs of each vrdma device to each other, by the device's own GID
 * 0, and runs every opcode with data checked; then it prints "vrdma_kverbs: NAME: PASS" or
 * "FAIL ...".  With hold=1 it leaves receives posted, and drains the QPs only when the
 * device is removed or the module is unloaded: a test can fail the device in between, and
 * check that the drain ends ("drained").
 *
 * A write to the parameter "cycle" creates a PD, an MR, a CQ and QPs, uses them once and
 * destroys them, and returns the error: a test can make each allocation on the way fail for
 * its own task.
 *
 * With hold=1, a write to the parameter "late" posts work requests, and sends a command that a
 * device which was stopped does not answer.  When the requests are flushed, their memory is
 * used for something else; "late: PASS" says that no byte of it changed when the device
 * continued.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>

#include "connect.h"
#include "kverbs.h"

#define KV_DEPTH	64
#define KV_TIMEOUT	(10 * HZ)

static bool hold;
module_param(hold, bool, 0444);
MODULE_PARM_DESC(hold, "Leave receives posted until the device or the module goes");

static uint loops = 200;
module_param(loops, uint, 0444);
MODULE_PARM_DESC(loops, "Rounds of SEND/RECV, to run the rings around");

static void kv_done(struct ib_cq *cq, struct ib_wc *wc)
{
	struct kv_wait *w = container_of(wc->wr_cqe, struct kv_wait, cqe);

	w->wc = *wc;
	complete(&w->done);
}

void kv_wait_init(struct kv_wait *w)
{
	w->cqe.done = kv_done;
	init_completion(&w->done);
}

int kv_wait_for(struct kv_wait *w, const char *what)
{
	if (!wait_for_completion_timeout(&w->done, KV_TIMEOUT)) {
		pr_err("%s: no completion\n", what);
		return -ETIMEDOUT;
	}
	if (w->wc.status) {
		pr_err("%s: %s\n", what, ib_wc_status_msg(w->wc.status));
		return -EIO;
	}
	return 0;
}

static int kv_modify(struct kv_test *t, int i, enum ib_qp_state state)
{
	int ret = kv_modify_qp(t->qp[i], t->qp[!i]->qp_num, state);

	if (!ret)
		t->live[i] = state != IB_QPS_RESET;
	return ret;
}

static int kv_connect(struct kv_test *t)
{
	static const enum ib_qp_state path[] = {
		IB_QPS_INIT, IB_QPS_RTR, IB_QPS_RTS
	};
	int i, s, ret;

	for (s = 0; s < ARRAY_SIZE(path); s++) {
		for (i = 0; i < 2; i++) {
			ret = kv_modify(t, i, path[s]);
			if (ret)
				return ret;
		}
	}
	return 0;
}

int kv_post_recv(struct kv_test *t, int i, struct ib_cqe *cqe, u32 len)
{
	struct ib_sge sge = {
		.addr = t->dma[i],
		.length = len,
		.lkey = t->pd->local_dma_lkey,
	};
	struct ib_recv_wr wr = {
		.wr_cqe = cqe,
		.sg_list = &sge,
		.num_sge = 1,
	};

	return ib_post_recv(t->qp[i], &wr, NULL);
}

int kv_send(struct kv_test *t, int i, struct ib_send_wr *wr, const char *what)
{
	struct kv_wait w;
	int ret;

	kv_wait_init(&w);
	wr->wr_cqe = &w.cqe;
	wr->send_flags |= IB_SEND_SIGNALED;
	ret = ib_post_send(t->qp[i], wr, NULL);
	if (ret) {
		pr_err("%s: post: %d\n", what, ret);
		return ret;
	}
	return kv_wait_for(&w, what);
}

/* One message from QP 0 to QP 1, with immediate data; inline or not. */
static int kv_test_send(struct kv_test *t, u32 len, bool inl)
{
	struct ib_sge sge = {
		.addr = inl ? (uintptr_t)t->buf[0] : t->dma[0],
		.length = len,
		.lkey = t->pd->local_dma_lkey,
	};
	struct ib_send_wr wr = {
		.opcode = IB_WR_SEND_WITH_IMM,
		.ex.imm_data = cpu_to_be32(len),
		.sg_list = &sge,
		.num_sge = 1,
		.send_flags = inl ? IB_SEND_INLINE : 0,
	};
	struct kv_wait recv;
	int ret;

	get_random_bytes(t->buf[0], len);
	memset(t->buf[1], 0, len);
	kv_wait_init(&recv);
	ret = kv_post_recv(t, 1, &recv.cqe, KV_BUF);
	if (ret)
		return ret;
	ret = kv_send(t, 0, &wr, "send");
	if (ret)
		return ret;
	ret = kv_wait_for(&recv, "recv");
	if (ret)
		return ret;
	if (recv.wc.byte_len != len || !(recv.wc.wc_flags & IB_WC_WITH_IMM) ||
	    be32_to_cpu(recv.wc.ex.imm_data) != len ||
	    recv.wc.qp != t->qp[1] || memcmp(t->buf[0], t->buf[1], len)) {
		pr_err("send of %u bytes: wrong data or completion\n", len);
		return -EIO;
	}
	return 0;
}

static int kv_test_rdma(struct kv_test *t, enum ib_wr_opcode opcode, u32 len)
{
	bool read = opcode == IB_WR_RDMA_READ;
	struct ib_sge sge = {
		.addr = t->dma[0],
		.length = len,
		.lkey = t->pd->local_dma_lkey,
	};
	struct ib_rdma_wr wr = {
		.wr.opcode = opcode,
		.wr.sg_list = &sge,
		.wr.num_sge = 1,
		.remote_addr = t->dma[1],
		.rkey = t->mr->rkey,
	};
	int ret;

	get_random_bytes(t->buf[read], len);
	ret = kv_send(t, 0, &wr.wr, read ? "read" : "write");
	if (ret)
		return ret;
	if (memcmp(t->buf[0], t->buf[1], len)) {
		pr_err("%s of %u bytes: wrong data\n", read ? "read" : "write",
		       len);
		return -EIO;
	}
	return 0;
}

static int kv_test_atomic(struct kv_test *t)
{
	u64 *old = (u64 *)t->buf[0], *word = (u64 *)t->buf[1];
	struct ib_sge sge = {
		.addr = t->dma[0],
		.length = 8,
		.lkey = t->pd->local_dma_lkey,
	};
	struct ib_atomic_wr wr = {
		.wr.opcode = IB_WR_ATOMIC_FETCH_AND_ADD,
		.wr.sg_list = &sge,
		.wr.num_sge = 1,
		.remote_addr = t->dma[1],
		.rkey = t->mr->rkey,
		.compare_add = 5,
	};
	int ret;

	*word = 37;
	ret = kv_send(t, 0, &wr.wr, "fetch-and-add");
	if (ret)
		return ret;
	if (*old != 37 || *word != 42)
		goto bad;
	wr.wr.opcode = IB_WR_ATOMIC_CMP_AND_SWP;
	wr.compare_add = 42;
	wr.swap = 99;
	ret = kv_send(t, 0, &wr.wr, "compare-and-swap");
	if (ret)
		return ret;
	if (*old == 42 && *word == 99)
		return 0;
bad:
	pr_err("atomic: old %llu, word %llu\n", *old, *word);
	return -EIO;
}

/* Through ERR and RESET, back to RTS: the rings start from zero. */
int kv_test_restart(struct kv_test *t)
{
	int i, ret;

	for (i = 0; i < 2; i++) {
		ib_drain_qp(t->qp[i]);
		ret = kv_modify(t, i, IB_QPS_RESET);
		if (ret)
			return ret;
	}
	ret = kv_connect(t);
	return ret ?: kv_test_send(t, 1000, false);
}

/* Errors that a post must report at once. */
static int kv_test_refusals(struct kv_test *t)
{
	struct ib_send_wr wr = { .opcode = IB_WR_SEND, .num_sge = 1000 };
	const struct ib_send_wr *bad = NULL;
	struct ib_reg_wr frwr = { .wr.opcode = IB_WR_REG_MR, .mr = t->mr };

	if (ib_post_send(t->qp[0], &wr, &bad) != -EINVAL || bad != &wr)
		goto bad;
	/* A region that was not made for it. */
	if (ib_post_send(t->qp[0], &frwr.wr, &bad) != -EINVAL ||
	    bad != &frwr.wr)
		goto bad;
	return 0;
bad:
	pr_err("a bad work request was not refused as it should\n");
	return -EIO;
}

static int kv_run(struct kv_test *t)
{
	static const u32 sizes[] = { 0, 1, 64, 4095, 4096, 5000, KV_BUF };
	int i, ret = 0;

	for (i = 0; !ret && i < ARRAY_SIZE(sizes); i++) {
		ret = kv_test_send(t, sizes[i], false);
		if (!ret && sizes[i])
			ret = kv_test_rdma(t, IB_WR_RDMA_WRITE, sizes[i]);
		if (!ret && sizes[i])
			ret = kv_test_rdma(t, IB_WR_RDMA_READ, sizes[i]);
	}
	for (i = 0; !ret && i < loops; i++)
		ret = kv_test_send(t, i % 64, i & 1);
	return ret ?: kv_test_atomic(t) ?: kv_test_refusals(t) ?:
	       kv_test_fast_reg(t) ?: kv_test_restart(t);
}

/* ---- memory after a failure of the device ------------------------------------ */

#define KV_LATE_WRS	32
#define KV_LATE_TIMEOUT	(180 * HZ)
#define KV_LATE_SECONDS	12

struct kv_late {
	struct ib_cqe cqe;
	atomic_t left;
	atomic_t flushed;
	struct completion done;
};

/* The test that holds its QPs: kv_late_run() uses it, kv_remove() ends it. */
static struct kv_test *kv_held;
static DEFINE_MUTEX(kv_held_lock);

static void kv_late_done(struct ib_cq *cq, struct ib_wc *wc)
{
	struct kv_late *late = container_of(wc->wr_cqe, struct kv_late, cqe);

	if (wc->status == IB_WC_WR_FLUSH_ERR)
		atomic_inc(&late->flushed);
	if (atomic_dec_and_test(&late->left))
		complete(&late->done);
}

static int kv_late_post(struct kv_test *t, struct kv_late *late)
{
	struct ib_sge sge = {
		.addr = t->dma[0],
		.length = KV_BUF,
		.lkey = t->pd->local_dma_lkey,
	};
	struct ib_rdma_wr wr = {
		.wr.wr_cqe = &late->cqe,
		.wr.opcode = IB_WR_RDMA_WRITE,
		.wr.sg_list = &sge,
		.wr.num_sge = 1,
		.wr.send_flags = IB_SEND_SIGNALED,
		.remote_addr = t->dma[1],
		.rkey = t->mr->rkey,
	};
	int i, ret = 0;

	for (i = 0; i < KV_LATE_WRS && !ret; i++)
		ret = ib_post_send(t->qp[0], &wr.wr, NULL);
	return ret;
}

/* The memory is ours: does anybody else write to it? */
static int kv_late_watch(u8 *buf)
{
	int i;

	memset(buf, 0x5a, KV_BUF);
	for (i = 0; i < 10 * KV_LATE_SECONDS; i++) {
		if (memchr_inv(buf, 0x5a, KV_BUF))
			return -EIO;
		msleep(100);
	}
	return 0;
}

static int kv_late_run(struct kv_test *t)
{
	struct ib_qp_init_attr init;
	struct ib_qp_attr attr;
	struct kv_late late = { .cqe.done = kv_late_done };
	int ret;

	init_completion(&late.done);
	atomic_set(&late.left, KV_LATE_WRS);
	atomic_set(&late.flushed, 0);
	memset(t->buf[0], 0x11, KV_BUF);
	ret = kv_late_post(t, &late);
	if (ret)
		return ret;
	/* Finds out that the device does not answer. */
	ib_query_qp(t->qp[0], &attr, IB_QP_STATE, &init);
	if (!wait_for_completion_timeout(&late.done, KV_LATE_TIMEOUT)) {
		pr_err("late: FAIL, %d completions are missing\n",
		       atomic_read(&late.left));
		/* They refer to this function's memory. */
		ib_drain_qp(t->qp[0]);
		return -ETIMEDOUT;
	}
	ret = kv_late_watch(t->buf[1]);
	if (ret)
		pr_err("late: FAIL, memory was written after its request had completed\n");
	else
		pr_info("late: PASS, %d of %d requests flushed\n",
			atomic_read(&late.flushed), KV_LATE_WRS);
	return ret;
}

static int kv_late(const char *val, const struct kernel_param *kp)
{
	int ret = -ENODEV;

	mutex_lock(&kv_held_lock);
	if (kv_held)
		ret = kv_late_run(kv_held);
	mutex_unlock(&kv_held_lock);
	return ret;
}

static const struct kernel_param_ops kv_late_ops = {
	.set = kv_late,
};

module_param_cb(late, &kv_late_ops, NULL, 0200);
MODULE_PARM_DESC(late, "Write to it when the device has stopped: is memory written after the flush?");

static void kv_flushed(struct ib_cq *cq, struct ib_wc *wc)
{
	struct kv_test *t = wc->qp->qp_context;

	if (wc->status == IB_WC_WR_FLUSH_ERR)
		t->flushed++;
}

static struct ib_cqe kv_flush_cqe = { .done = kv_flushed };

static void kv_destroy(struct kv_test *t)
{
	int i;

	for (i = 0; i < 2; i++) {
		if (t->live[i])
			ib_drain_qp(t->qp[i]);
		if (t->qp[i])
			ib_destroy_qp(t->qp[i]);
	}
	if (t->cq)
		ib_free_cq(t->cq);
	if (t->mr)
		t->dev->ops.dereg_mr(t->mr, NULL);
	for (i = 0; i < 2; i++) {
		if (t->buf[i])
			dma_free_coherent(t->dev->dma_device, KV_BUF,
					  t->buf[i], t->dma[i]);
	}
	if (t->pd)
		ib_dealloc_pd(t->pd);
	kfree(t);
}

static int kv_create(struct kv_test *t)
{
	struct ib_qp_init_attr init = {
		.qp_context = t,
		.qp_type = IB_QPT_RC,
		.sq_sig_type = IB_SIGNAL_REQ_WR,
		.cap = {
			.max_send_wr = KV_DEPTH,
			.max_recv_wr = KV_DEPTH,
			.max_send_sge = 2,
			.max_recv_sge = 2,
			.max_inline_data = 64,
		},
	};
	int i;

	t->pd = ib_alloc_pd(t->dev, 0);
	if (IS_ERR(t->pd))
		goto err_pd;
	/* The core's own global key permits no atomics. */
	t->mr = t->dev->ops.get_dma_mr(t->pd, IB_ACCESS_LOCAL_WRITE |
				       IB_ACCESS_REMOTE_WRITE |
				       IB_ACCESS_REMOTE_READ |
				       IB_ACCESS_REMOTE_ATOMIC);
	if (IS_ERR(t->mr))
		goto err_mr;
	t->mr->device = t->dev;
	t->cq = ib_alloc_cq(t->dev, t, 4 * KV_DEPTH, 0, IB_POLL_SOFTIRQ);
	if (IS_ERR(t->cq))
		goto err_cq;
	init.send_cq = t->cq;
	init.recv_cq = t->cq;
	for (i = 0; i < 2; i++) {
		/* Both sides use it at any time: nothing is synchronised. */
		t->buf[i] = dma_alloc_coherent(t->dev->dma_device, KV_BUF,
					       &t->dma[i], GFP_KERNEL);
		if (!t->buf[i])
			return -ENOMEM;
		t->qp[i] = ib_create_qp(t->pd, &init);
		if (IS_ERR(t->qp[i]))
			goto err_qp;
	}
	return kv_connect(t);

err_qp:
	{
		int ret = PTR_ERR(t->qp[i]);

		t->qp[i] = NULL;
		return ret;
	}
err_cq:
	t->cq = NULL;
	return -ENOMEM;
err_mr:
	t->mr = NULL;
	return -ENOMEM;
err_pd:
	t->pd = NULL;
	return -ENOMEM;
}

static struct ib_client kv_client;

static int kv_add(struct ib_device *dev)
{
	struct kv_test *t;
	int i, ret;

	if (strncmp(dev_name(&dev->dev), "vrdma", 5))
		return -EOPNOTSUPP;
	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	t->dev = dev;
	ret = kv_create(t);
	if (!ret)
		ret = kv_run(t);
	if (ret)
		pr_err("%s: FAIL %d\n", dev_name(&dev->dev), ret);
	else
		pr_info("%s: PASS\n", dev_name(&dev->dev));
	if (ret || !hold) {
		kv_destroy(t);
		return -EOPNOTSUPP;
	}
	for (i = 0; i < 2 * 8; i++)
		kv_post_recv(t, i & 1, &kv_flush_cqe, KV_BUF);
	ib_set_client_data(dev, &kv_client, t);
	mutex_lock(&kv_held_lock);
	kv_held = t;
	mutex_unlock(&kv_held_lock);
	return 0;
}

static void kv_remove(struct ib_device *dev, void *data)
{
	struct kv_test *t = data;
	int i;

	if (!t)
		return;
	mutex_lock(&kv_held_lock);
	kv_held = NULL;
	mutex_unlock(&kv_held_lock);
	for (i = 0; i < 2; i++)
		ib_drain_qp(t->qp[i]);
	pr_info("%s: drained, %d receives flushed\n", dev_name(&dev->dev),
		t->flushed);
	kv_destroy(t);
}

static struct ib_client kv_client = {
	.name = "vrdma_kverbs",
	.add = kv_add,
	.remove = kv_remove,
};

/* One life of all objects, in the writer's context. */
static int kv_cycle(const char *val, const struct kernel_param *kp)
{
	struct ib_device *dev;
	struct kv_test *t;
	int ret = -ENOMEM;

	dev = ib_device_get_by_name("vrdma0", RDMA_DRIVER_UNKNOWN);
	if (!dev)
		return -ENODEV;
	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (t) {
		t->dev = dev;
		ret = kv_create(t);
		if (!ret)
			ret = kv_test_send(t, 1000, false);
		kv_destroy(t);
	}
	ib_device_put(dev);
	return ret;
}

static const struct kernel_param_ops kv_cycle_ops = {
	.set = kv_cycle,
};

module_param_cb(cycle, &kv_cycle_ops, NULL, 0200);
MODULE_PARM_DESC(cycle, "Write to it: makes, uses and destroys one of each object");

static int __init kv_init(void)
{
	return ib_register_client(&kv_client);
}

static void __exit kv_exit(void)
{
	ib_unregister_client(&kv_client);
}

module_init(kv_init);
module_exit(kv_exit);
MODULE_DESCRIPTION("Kernel verbs test of virtio_rdma");
MODULE_LICENSE("GPL");
