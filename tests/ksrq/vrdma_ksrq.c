// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A kernel user of a shared receive queue, to test the driver: module vrdma_ksrq, loaded in
 * a guest by tests.
 *
 * At load it connects two pairs of RC QPs on each vrdma device, whose receiving ends share
 * an SRQ, and prints "vrdma_ksrq: NAME: PASS" or "FAIL".  It polls its CQs explicitly, so
 * that completions can be left unpolled.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/module.h>

#include "../kverbs/connect.h"

#define KS_WR		32
#define KS_LEN		256
#define KS_TIMEOUT	(10 * HZ)

/* QPs 0 and 2 send to 1 and 3, which have the SRQ. */
#define KS_QPS		4

struct ks_recv {
	struct ib_cqe cqe;
	struct ks_test *test;
	int index;
};

struct ks_test {
	struct ib_device *dev;
	struct ib_pd *pd;
	struct ib_cq *send_cq, *recv_cq;
	struct ib_srq *srq;
	struct ib_qp *qp[KS_QPS];
	u32 max_wr;
	u8 *buf;		/* one piece to send, KS_WR to receive into */
	u64 dma;
	struct ks_recv recv[KS_WR];
	struct ib_cqe sent_cqe;
	struct completion limit, last_wqe;
	int sent;
	int received;
	struct ib_wc wc;	/* of the last receive */
	int index;		/* its piece */
};

static void ks_sent(struct ib_cq *cq, struct ib_wc *wc)
{
	struct ks_test *t = container_of(wc->wr_cqe, struct ks_test, sent_cqe);

	if (wc->status)
		pr_err("send: %s\n", ib_wc_status_msg(wc->status));
	t->sent++;
}

static void ks_received(struct ib_cq *cq, struct ib_wc *wc)
{
	struct ks_recv *r = container_of(wc->wr_cqe, struct ks_recv, cqe);

	r->test->wc = *wc;
	r->test->index = r->index;
	r->test->received++;
}

static void ks_srq_event(struct ib_event *event, void *context)
{
	struct ks_test *t = context;

	if (event->event == IB_EVENT_SRQ_LIMIT_REACHED &&
	    event->element.srq == t->srq)
		complete(&t->limit);
}

static void ks_qp_event(struct ib_event *event, void *context)
{
	struct ks_test *t = context;

	if (event->event == IB_EVENT_QP_LAST_WQE_REACHED &&
	    event->element.qp == t->qp[3])
		complete(&t->last_wqe);
}

static u64 ks_piece(int i)
{
	return (u64)(i + 1) * KS_LEN;
}

static int ks_post_recv(struct ks_test *t, int i)
{
	struct ib_sge sge = {
		.addr = t->dma + ks_piece(i),
		.length = KS_LEN,
		.lkey = t->pd->local_dma_lkey,
	};
	struct ib_recv_wr wr = {
		.wr_cqe = &t->recv[i].cqe,
		.sg_list = &sge,
		.num_sge = 1,
	};

	return ib_post_srq_recv(t->srq, &wr, NULL);
}

/* Waits until the counter has this value. */
static int ks_wait(struct ib_cq *cq, const int *counter, int value)
{
	unsigned long end = jiffies + KS_TIMEOUT;

	while (*counter < value) {
		ib_process_cq_direct(cq, -1);
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		cond_resched();
	}
	return *counter == value ? 0 : -EIO;
}

static int ks_send(struct ks_test *t, int qp, u32 len)
{
	struct ib_sge sge = {
		.addr = t->dma,
		.length = len,
		.lkey = t->pd->local_dma_lkey,
	};
	struct ib_send_wr wr = {
		.wr_cqe = &t->sent_cqe,
		.opcode = IB_WR_SEND,
		.send_flags = IB_SEND_SIGNALED,
		.sg_list = &sge,
		.num_sge = 1,
	};
	int ret;

	t->sent = 0;
	ret = ib_post_send(t->qp[qp], &wr, NULL);
	return ret ?: ks_wait(t->send_cq, &t->sent, 1);
}

/* Sends a message to the receive in piece @i, the only one that is posted. */
static int ks_message(struct ks_test *t, int qp, int i, u32 len)
{
	int ret;

	get_random_bytes(t->buf, len);
	memset(t->buf + ks_piece(i), 0, KS_LEN);
	t->received = 0;
	ret = ks_send(t, qp, len);
	if (!ret)
		ret = ks_wait(t->recv_cq, &t->received, 1);
	if (ret)
		return ret;
	if (t->wc.status || t->wc.byte_len != len || t->index != i ||
	    t->wc.qp != t->qp[qp + 1] ||
	    memcmp(t->buf, t->buf + ks_piece(i), len)) {
		pr_err("message of %u bytes: %s, %u bytes, piece %d not %d\n",
		       len, ib_wc_status_msg(t->wc.status), t->wc.byte_len,
		       t->index, i);
		return -EIO;
	}
	return 0;
}

/* Many laps of the ring, with more than one entry posted. */
static int ks_laps(struct ks_test *t)
{
	int i, ret = 0;

	for (i = 0; i < 3 && !ret; i++)
		ret = ks_post_recv(t, i);
	for (i = 0; i < 200 && !ret; i++) {
		ret = ks_post_recv(t, (i + 3) % KS_WR);
		if (!ret)
			ret = ks_message(t, i % 3 ? 0 : 2, i % KS_WR,
					 i % KS_LEN + 1);
	}
	for (; i < 203 && !ret; i++)
		ret = ks_message(t, 0, i % KS_WR, 1);
	return ret;
}

/* Returns the number of receives that can still be posted. */
static u32 ks_fill(struct ks_test *t)
{
	u32 n = 0;

	while (n <= t->max_wr && !ks_post_recv(t, n % KS_WR))
		n++;
	return n;
}

static int ks_limit(struct ks_test *t)
{
	struct ib_srq_attr attr = { .srq_limit = t->max_wr };
	int ret;

	if (ks_fill(t) != t->max_wr || ks_post_recv(t, 0) != -ENOMEM) {
		pr_err("the SRQ does not take what it should\n");
		return -EIO;
	}
	ret = ib_modify_srq(t->srq, &attr, IB_SRQ_LIMIT);
	if (ret)
		return ret;
	if (wait_for_completion_timeout(&t->limit, HZ / 10)) {
		pr_err("a limit event of a full SRQ\n");
		return -EIO;
	}
	t->received = 0;
	ret = ks_send(t, 2, 1);
	if (!ret)
		ret = ks_wait(t->recv_cq, &t->received, 1);
	if (!ret && !wait_for_completion_timeout(&t->limit, KS_TIMEOUT)) {
		pr_err("no limit event\n");
		ret = -ETIMEDOUT;
	}
	if (!ret)
		ret = ib_query_srq(t->srq, &attr);
	if (!ret && (attr.srq_limit || attr.max_wr != t->max_wr))
		ret = -EIO;
	return ret;
}

/* A QP is destroyed with unpolled completions: its entries become free. */
static int ks_purge(struct ks_test *t)
{
	u32 room;
	int i, ret;

	for (i = 0; i < 5; i++) {
		ret = ks_send(t, 0, 1);
		if (ret)
			return ret;
	}
	room = ks_fill(t);
	if (room != 1) {
		pr_err("room for %u before they are polled\n", room);
		return -EIO;
	}
	ib_destroy_qp(t->qp[1]);
	t->qp[1] = NULL;
	room = ks_fill(t);
	if (room != 5) {
		pr_err("room for %u of 5 after the QP went\n", room);
		return -EIO;
	}
	return 0;
}

static int ks_drain(struct ks_test *t)
{
	unsigned long start = jiffies;

	ib_drain_qp(t->qp[3]);
	if (!wait_for_completion_timeout(&t->last_wqe, KS_TIMEOUT) ||
	    time_after(jiffies, start + KS_TIMEOUT)) {
		pr_err("LAST_WQE_REACHED did not come in time\n");
		return -ETIMEDOUT;
	}
	return 0;
}

static int ks_open(struct ks_test *t)
{
	struct ib_srq_init_attr srq = {
		.event_handler = ks_srq_event,
		.srq_context = t,
		.attr = { .max_wr = KS_WR, .max_sge = 2 },
		.srq_type = IB_SRQT_BASIC,
	};
	struct ib_qp_init_attr init = {
		.event_handler = ks_qp_event,
		.qp_context = t,
		.qp_type = IB_QPT_RC,
		.cap = {
			.max_send_wr = KS_WR,
			.max_recv_wr = 1,
			.max_send_sge = 1,
			.max_recv_sge = 1,
		},
	};
	static const enum ib_qp_state path[] = {
		IB_QPS_INIT, IB_QPS_RTR, IB_QPS_RTS
	};
	int i, s, ret;

	t->pd = ib_alloc_pd(t->dev, 0);
	if (IS_ERR(t->pd))
		return PTR_ERR(t->pd);
	t->send_cq = ib_alloc_cq(t->dev, NULL, 128, 0, IB_POLL_DIRECT);
	t->recv_cq = ib_alloc_cq(t->dev, NULL, 128, 0, IB_POLL_DIRECT);
	t->srq = ib_create_srq(t->pd, &srq);
	t->buf = kzalloc(ks_piece(KS_WR), GFP_KERNEL);
	if (IS_ERR(t->send_cq) || IS_ERR(t->recv_cq) || IS_ERR(t->srq) ||
	    !t->buf)
		return -ENOMEM;
	t->max_wr = srq.attr.max_wr;
	t->dma = ib_dma_map_single(t->dev, t->buf, ks_piece(KS_WR),
				   DMA_BIDIRECTIONAL);
	if (ib_dma_mapping_error(t->dev, t->dma)) {
		t->dma = 0;
		return -ENOMEM;
	}
	init.send_cq = t->send_cq;
	init.recv_cq = t->recv_cq;
	for (i = 0; i < KS_QPS; i++) {
		init.srq = i & 1 ? t->srq : NULL;
		t->qp[i] = ib_create_qp(t->pd, &init);
		if (IS_ERR(t->qp[i])) {
			ret = PTR_ERR(t->qp[i]);
			t->qp[i] = NULL;
			return ret;
		}
	}
	for (s = 0; s < ARRAY_SIZE(path); s++) {
		for (i = 0; i < KS_QPS; i++) {
			ret = kv_modify_qp(t->qp[i], t->qp[i ^ 1]->qp_num,
					   path[s]);
			if (ret)
				return ret;
		}
	}
	return t->max_wr == KS_WR ? 0 : -EIO;
}

static void ks_close(struct ks_test *t)
{
	int i;

	for (i = 0; i < KS_QPS; i++)
		if (t->qp[i])
			ib_destroy_qp(t->qp[i]);
	if (!IS_ERR_OR_NULL(t->srq))
		ib_destroy_srq(t->srq);
	if (t->dma)
		ib_dma_unmap_single(t->dev, t->dma, ks_piece(KS_WR),
				    DMA_BIDIRECTIONAL);
	kfree(t->buf);
	if (!IS_ERR_OR_NULL(t->recv_cq))
		ib_free_cq(t->recv_cq);
	if (!IS_ERR_OR_NULL(t->send_cq))
		ib_free_cq(t->send_cq);
	if (!IS_ERR_OR_NULL(t->pd))
		ib_dealloc_pd(t->pd);
}

static int ks_add(struct ib_device *dev)
{
	static int (*const steps[])(struct ks_test *t) = {
		ks_open, ks_laps, ks_limit, ks_purge, ks_drain,
	};
	struct ks_test *t;
	int i, ret = 0;

	if (strncmp(dev_name(&dev->dev), "vrdma", 5))
		return -EOPNOTSUPP;
	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	t->dev = dev;
	t->sent_cqe.done = ks_sent;
	init_completion(&t->limit);
	init_completion(&t->last_wqe);
	for (i = 0; i < KS_WR; i++) {
		t->recv[i].cqe.done = ks_received;
		t->recv[i].test = t;
		t->recv[i].index = i;
	}
	for (i = 0; i < ARRAY_SIZE(steps) && !ret; i++)
		ret = steps[i](t);
	ks_close(t);
	kfree(t);
	if (ret)
		pr_info("%s: FAIL in step %d: %d\n", dev_name(&dev->dev), i - 1,
			ret);
	else
		pr_info("%s: PASS\n", dev_name(&dev->dev));
	return -EOPNOTSUPP;	/* no object is left on the device */
}

static struct ib_client ks_client = {
	.name = KBUILD_MODNAME,
	.add = ks_add,
};

static int __init ks_init(void)
{
	return ib_register_client(&ks_client);
}

static void __exit ks_exit(void)
{
	ib_unregister_client(&ks_client);
}

module_init(ks_init);
module_exit(ks_exit);
MODULE_DESCRIPTION("virtio-rdma: kernel user of an SRQ, for tests");
MODULE_LICENSE("GPL");
