// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KUnit tests of the kernel's data path (post.c, poll.c): a QP and a CQ whose indices are
 * about to wrap at 2^32; the test writes completions as the device does.
 */
#include <linux/delay.h>

#include "fakedev.h"

#define SQ_ENTRIES	8
#define CQ_ENTRIES	4
#define SQ_SHIFT	6
#define QPN		0x123
#define SLOT		200

struct data {
	struct fakedev *f;
	struct vrdma_qp qp;
	struct vrdma_cq cq;
	void *page[2];		/* SQ, CQ */
	struct vrdma_buf sq_buf;
	struct vrdma_buf cq_buf;
	struct virtio_rdma_ring_ctrl ctrl;
	struct virtio_rdma_cq_ctrl cq_ctrl;
	u64 wr_id[SQ_ENTRIES];
	u64 rq_wr_id[SQ_ENTRIES];
	u32 cq_head;		/* producer index of the device */
	u32 srqn;		/* written to its CQEs */
	u64 next;		/* wr_id of the next post */
};

static void data_buf(struct kunit *test, struct vrdma_buf *buf, void **page)
{
	*page = (void *)get_zeroed_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, *page);
	buf->chunk = page;
	buf->chunk_shift = PAGE_SHIFT;
	buf->num_chunks = 1;
	buf->len = PAGE_SIZE;
}

static void data_ring(struct vrdma_ring *ring, u64 *wr_id,
		      struct virtio_rdma_ring_ctrl *ctrl, u32 start)
{
	spin_lock_init(&ring->lock);
	ring->head = start;
	ring->tail = start;
	ring->entries = SQ_ENTRIES;
	ring->slot = SLOT;
	ring->max_sge = 2;
	ring->shift = SQ_SHIFT;
	ring->ctrl = ctrl;
	ring->wr_id = wr_id;
}

/* Creates a QP in RTS whose SQ is at index @sq, and a CQ at index @cq. */
static struct data *data_open(struct kunit *test, u32 sq, u32 cq)
{
	struct data *d = kunit_kzalloc(test, sizeof(*d), GFP_KERNEL);
	struct virtio_rdma_cqe *cqe;
	u32 i;

	KUNIT_ASSERT_NOT_NULL(test, d);
	d->f = fakedev_open(test, 4, NULL);
	d->f->dev.db = kunit_kzalloc(test, sizeof(*d->f->dev.db), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, d->f->dev.db);
	data_buf(test, &d->sq_buf, &d->page[0]);
	data_buf(test, &d->cq_buf, &d->page[1]);

	d->qp.ibqp.device = &d->f->dev.ibdev;
	d->qp.ibqp.qp_type = IB_QPT_RC;
	d->qp.ibqp.send_cq = &d->cq.ibcq;
	d->qp.ibqp.recv_cq = &d->cq.ibcq;
	d->qp.qpn = QPN;
	d->qp.state = IB_QPS_RTS;
	d->qp.cap.max_inline_data = 32;
	d->qp.buf = &d->sq_buf;
	refcount_set(&d->qp.ref.count, 1);
	data_ring(&d->qp.sq, d->wr_id, &d->ctrl, sq);
	data_ring(&d->qp.rq, d->rq_wr_id, &d->ctrl, 0);

	d->cq.ibcq.device = &d->f->dev.ibdev;
	d->cq.entries = CQ_ENTRIES;
	d->cq.buf = &d->cq_buf;
	d->cq.ctrl = &d->cq_ctrl;
	d->cq.consumer = cq;
	d->cq_head = cq;
	spin_lock_init(&d->cq.lock);
	INIT_LIST_HEAD(&d->cq.send_qps);
	INIT_LIST_HEAD(&d->cq.recv_qps);
	vrdma_cq_attach_qp(&d->qp);
	KUNIT_ASSERT_EQ(test, xa_err(xa_store_irq(&d->f->dev.qps, QPN, &d->qp,
						  GFP_KERNEL)), 0);
	/* The ring contains CQEs of the previous lap. */
	cqe = d->page[1];
	for (i = cq - CQ_ENTRIES; i != cq; i++)
		cqe[i % CQ_ENTRIES].phase = vrdma_cqe_phase(i, CQ_ENTRIES);
	return d;
}

static void data_close(struct data *d)
{
	xa_erase_irq(&d->f->dev.qps, QPN);
	fakedev_close(d->f);
	free_page((unsigned long)d->page[0]);
	free_page((unsigned long)d->page[1]);
}

/* Number of notifications of the doorbell queue. */
static int rung(struct data *d)
{
	return atomic_read(&d->f->q[VIRTIO_RDMA_VQ_DOORBELL].kicks);
}

static int data_post(struct data *d, unsigned int flags)
{
	struct ib_rdma_wr wr = {
		.wr.wr_id = d->next,
		.wr.opcode = IB_WR_RDMA_WRITE,
		.wr.send_flags = flags,
		.remote_addr = 0x1000 * d->next,
	};
	const struct ib_send_wr *bad;
	int ret = vrdma_post_send(&d->qp.ibqp, &wr.wr, &bad);

	if (!ret)
		d->next++;
	return ret;
}

static void data_complete_op(struct data *d, u32 wqe_index, u8 opcode)
{
	struct virtio_rdma_cqe *ring = d->page[1];
	struct virtio_rdma_cqe *cqe = &ring[d->cq_head % CQ_ENTRIES];

	cqe->qpn = cpu_to_le32(QPN);
	cqe->wqe_index = cpu_to_le32(wqe_index);
	cqe->srqn = cpu_to_le32(d->srqn);
	cqe->opcode = opcode;
	cqe->status = 0;
	/* The phase is written last. */
	virt_wmb();
	WRITE_ONCE(cqe->phase, vrdma_cqe_phase(d->cq_head++, CQ_ENTRIES));
}

/* Writes the completion of the WQE with this index. */
static void data_complete(struct data *d, u32 wqe_index)
{
	data_complete_op(d, wqe_index, VIRTIO_RDMA_WC_RDMA_WRITE);
}

static struct virtio_rdma_rc_wqe *data_wqe(struct data *d, u32 index)
{
	return d->page[0] +
	       ((index % SQ_ENTRIES) << SQ_SHIFT);
}

/* Three full laps of both rings, in which both indices wrap at 2^32. */
static void test_wrap(struct kunit *test)
{
	const u32 sq = U32_MAX - 12, cq = U32_MAX - 9;
	struct data *d = data_open(test, sq, cq);
	u64 polled = 0;
	struct ib_wc wc[CQ_ENTRIES + 1];
	u32 posted = 0, done = 0;
	int round, i;

	for (round = 0; round < 4; round++) {
		for (i = 0; i < SQ_ENTRIES; i++, posted++) {
			u64 id = d->next;

			KUNIT_ASSERT_EQ(test, data_post(d, IB_SEND_SIGNALED),
					0);
			KUNIT_EXPECT_EQ(test, le32_to_cpu(d->ctrl.producer),
					sq + posted + 1);
			KUNIT_EXPECT_EQ(test, le64_to_cpu(data_wqe(d, sq + posted)->remote_addr),
					0x1000 * id);
		}
		KUNIT_EXPECT_EQ(test, data_post(d, IB_SEND_SIGNALED), -ENOMEM);
		while (done != posted) {
			KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 5, wc),
					0);
			for (i = 0; i < CQ_ENTRIES; i++)
				data_complete(d, sq + done++);
			KUNIT_ASSERT_EQ(test, vrdma_poll_cq(&d->cq.ibcq,
							    CQ_ENTRIES + 1,
							    wc), CQ_ENTRIES);
			for (i = 0; i < CQ_ENTRIES; i++)
				KUNIT_EXPECT_EQ(test, wc[i].wr_id, polled++);
			KUNIT_EXPECT_EQ(test, le32_to_cpu(d->cq_ctrl.consumer),
					d->cq_head);
		}
	}
	/* Both indices have wrapped. */
	KUNIT_EXPECT_LT(test, d->qp.sq.head, sq);
	KUNIT_EXPECT_LT(test, d->cq.consumer, cq);
	data_close(d);
}

/* One completion frees the unsignaled requests before it, also across the wrap. */
static void test_wrap_unsignaled(struct kunit *test)
{
	const u32 sq = U32_MAX - 2;
	struct data *d = data_open(test, sq, 0);
	struct ib_wc wc[2];
	int i;

	for (i = 0; i < SQ_ENTRIES; i++)
		KUNIT_ASSERT_EQ(test, data_post(d, 0), 0);
	KUNIT_EXPECT_EQ(test, data_post(d, 0), -ENOMEM);
	data_complete(d, sq + 5);
	KUNIT_ASSERT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 1);
	KUNIT_EXPECT_EQ(test, wc[0].wr_id, 5ull);
	KUNIT_EXPECT_EQ(test, d->qp.sq.tail, sq + 6);
	for (i = 0; i < 6; i++)
		KUNIT_EXPECT_EQ(test, data_post(d, 0), 0);
	KUNIT_EXPECT_EQ(test, data_post(d, 0), -ENOMEM);
	data_close(d);
}

/* CQEs with an index that is not outstanding are dropped. */
static void test_bogus_index(struct kunit *test)
{
	const u32 sq = U32_MAX - 2;
	const u32 bogus[] = { sq - 1, sq + 2, sq + SQ_ENTRIES, 0x80000000 };
	struct data *d = data_open(test, sq, U32_MAX - 1);
	struct ib_wc wc[2];
	int i;

	KUNIT_ASSERT_EQ(test, data_post(d, 0), 0);
	KUNIT_ASSERT_EQ(test, data_post(d, 0), 0);
	for (i = 0; i < ARRAY_SIZE(bogus); i++) {
		data_complete(d, bogus[i]);
		KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 0);
		KUNIT_EXPECT_EQ(test, d->qp.sq.tail, sq);
	}
	data_complete(d, sq + 1);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 1);
	KUNIT_EXPECT_EQ(test, wc[0].wr_id, 1ull);
	/* A second CQE for the same request is dropped. */
	data_complete(d, sq + 1);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 0);
	data_close(d);
}

/* CQEs of a QP that uses another CQ are dropped: that CQ's lock is not held. */
static void test_foreign_qp(struct kunit *test)
{
	struct data *d = data_open(test, 0, 0);
	struct vrdma_cq other = {};
	struct ib_wc wc[2];

	KUNIT_ASSERT_EQ(test, data_post(d, 0), 0);
	d->qp.ibqp.send_cq = &other.ibcq;
	data_complete(d, 0);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 0);
	d->qp.ibqp.recv_cq = &other.ibcq;
	d->cq.last_qp = NULL;
	data_complete(d, 0);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 0);
	KUNIT_EXPECT_PTR_EQ(test, d->cq.last_qp, (struct vrdma_qp *)NULL);
	KUNIT_EXPECT_EQ(test, d->qp.sq.tail, 0u);

	d->qp.ibqp.send_cq = &d->cq.ibcq;
	data_complete(d, 0);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 1);
	data_close(d);
}

/* A receive CQE that a poll drops while its QP is destroyed frees the SRQ's entry. */
static void test_srq_of_dying_qp(struct kunit *test)
{
	struct data *d = data_open(test, 0, 0);
	struct vrdma_srq *srq = kunit_kzalloc(test, sizeof(*srq), GFP_KERNEL);
	u32 next[2];
	struct ib_wc wc[2];
	u32 cookie;

	KUNIT_ASSERT_NOT_NULL(test, srq);
	spin_lock_init(&srq->ring.lock);
	srq->ring.wr_id = d->rq_wr_id;
	vrdma_cookies_init(&srq->cookies, next, ARRAY_SIZE(next));
	srq->srqn = 5;
	d->qp.ibqp.srq = &srq->ibsrq;

	cookie = vrdma_cookie_take(&srq->cookies);
	vrdma_cookie_take(&srq->cookies);
	KUNIT_EXPECT_EQ(test, srq->cookies.free, VRDMA_COOKIE_NONE);
	/* As vrdma_destroy_qp() does before it sends the command. */
	xa_erase_irq(&d->f->dev.qps, QPN);
	/* A CQE with the number of another SRQ frees nothing. */
	d->srqn = 6;
	data_complete_op(d, cookie, VIRTIO_RDMA_WC_RECV);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 0);
	KUNIT_EXPECT_EQ(test, srq->cookies.free, VRDMA_COOKIE_NONE);
	d->srqn = 5;
	data_complete_op(d, cookie, VIRTIO_RDMA_WC_RECV);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 0);
	KUNIT_EXPECT_EQ(test, srq->cookies.free, cookie);
	data_close(d);
}

/* The work of a halted device is flushed in order, also across the wrap. */
static void test_wrap_flush(struct kunit *test)
{
	struct data *d = data_open(test, U32_MAX - 2, U32_MAX);
	struct ib_wc wc[SQ_ENTRIES];
	int i;

	for (i = 0; i < 6; i++)
		KUNIT_ASSERT_EQ(test, data_post(d, 0), 0);
	/* The device has completed the first request. */
	data_complete(d, U32_MAX - 2);
	vrdma_dev_kill(&d->f->dev, -EIO, "the test says so");
	KUNIT_ASSERT_TRUE(test, fakedev_wait_halt(d->f));
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 3, wc), 3);
	KUNIT_EXPECT_EQ(test, (int)wc[0].status, (int)IB_WC_SUCCESS);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, SQ_ENTRIES, wc + 3),
			3);
	for (i = 0; i < 6; i++) {
		KUNIT_EXPECT_EQ(test, wc[i].wr_id, (u64)i);
		if (i)
			KUNIT_EXPECT_EQ(test, (int)wc[i].status,
					(int)IB_WC_WR_FLUSH_ERR);
	}
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 1, wc), 0);
	data_close(d);
}

/*
 * Nothing is flushed while the device may still access memory: a dead device may complete
 * requests until it is reset.
 */
static void test_flush_after_reset(struct kunit *test)
{
	struct data *d = data_open(test, 0, 0);
	struct ib_wc wc[SQ_ENTRIES];
	int i;

	fakedev_hold_reset(d->f);
	for (i = 0; i < 3; i++)
		KUNIT_ASSERT_EQ(test, data_post(d, IB_SEND_SIGNALED), 0);
	vrdma_dev_kill(&d->f->dev, -EIO, "the test says so");
	msleep(200);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, SQ_ENTRIES, wc), 0);
	KUNIT_EXPECT_EQ(test, data_post(d, IB_SEND_SIGNALED), 0);
	data_complete(d, 0);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, SQ_ENTRIES, wc), 1);
	KUNIT_EXPECT_EQ(test, (int)wc[0].status, (int)IB_WC_SUCCESS);

	fakedev_let_reset(d->f);
	KUNIT_ASSERT_TRUE(test, fakedev_wait_halt(d->f));
	KUNIT_EXPECT_EQ(test, d->f->resets, 1);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, SQ_ENTRIES, wc), 3);
	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, wc[i].wr_id, (u64)i + 1);
		KUNIT_EXPECT_EQ(test, (int)wc[i].status,
				(int)IB_WC_WR_FLUSH_ERR);
	}
	/* A post must not use the queue that it would notify: it is deleted. */
	d->ctrl.need_db = cpu_to_le32(1);
	d->f->dev.db->need_wakeup = cpu_to_le32(1);
	KUNIT_EXPECT_EQ(test, data_post(d, IB_SEND_SIGNALED), 0);
	KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, SQ_ENTRIES, wc), 1);
	data_close(d);
}

/* Each step of the doorbell is executed only if the device asked for it. */
static void test_doorbell(struct kunit *test)
{
	struct data *d = data_open(test, 0, 0);
	struct virtio_rdma_db_page *db = d->f->dev.db;

	KUNIT_EXPECT_EQ(test, data_post(d, 0), 0);
	KUNIT_EXPECT_EQ(test, db->dirty[SLOT], 0);
	KUNIT_EXPECT_EQ(test, db->summary[SLOT / 64], 0);

	d->ctrl.need_db = cpu_to_le32(1);
	KUNIT_EXPECT_EQ(test, data_post(d, 0), 0);
	KUNIT_EXPECT_EQ(test, db->dirty[SLOT], 1);
	KUNIT_EXPECT_EQ(test, db->summary[SLOT / 64], 1);
	KUNIT_EXPECT_EQ(test, rung(d), 0);

	db->need_wakeup = cpu_to_le32(1);
	KUNIT_EXPECT_EQ(test, data_post(d, 0), 0);
	KUNIT_EXPECT_EQ(test, rung(d), 1);
	KUNIT_EXPECT_EQ(test, atomic64_read(&d->f->dev.kicks), 1ll);
	data_close(d);
}

/* Arming reports missed events correctly where the CQ's index wraps. */
static void test_wrap_arm(struct kunit *test)
{
	struct data *d = data_open(test, 0, U32_MAX);
	struct ib_wc wc[2];
	int i;

	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, vrdma_req_notify_cq(&d->cq.ibcq,
							  IB_CQ_NEXT_COMP |
							  IB_CQ_REPORT_MISSED_EVENTS),
				0);
		KUNIT_ASSERT_EQ(test, data_post(d, IB_SEND_SIGNALED), 0);
		data_complete(d, i);
		KUNIT_EXPECT_EQ(test, vrdma_req_notify_cq(&d->cq.ibcq,
							  IB_CQ_NEXT_COMP |
							  IB_CQ_REPORT_MISSED_EVENTS),
				1);
		KUNIT_EXPECT_EQ(test, vrdma_poll_cq(&d->cq.ibcq, 2, wc), 1);
	}
	data_close(d);
}

/* Kernel work requests need the DMA key, except those of QP 1. */
static void test_no_dma_key(struct kunit *test)
{
	static const struct {
		enum ib_qp_type type;
		u64 features;
		int ret;
	} cases[] = {
		{ IB_QPT_RC, 0, -EOPNOTSUPP },
		{ IB_QPT_UD, 0, -EOPNOTSUPP },
		{ IB_QPT_UC, BIT_ULL(VIRTIO_RDMA_F_UC), -EOPNOTSUPP },
		/* The type is accepted; then the limits of zero refuse the creation. */
		{ IB_QPT_GSI, 0, -EINVAL },
		{ IB_QPT_RC, BIT_ULL(VIRTIO_RDMA_F_DMA_KEY), -EINVAL },
		{ IB_QPT_UD, BIT_ULL(VIRTIO_RDMA_F_DMA_KEY), -EINVAL },
		{ IB_QPT_UC, BIT_ULL(VIRTIO_RDMA_F_DMA_KEY), -EOPNOTSUPP },
	};
	struct data *d = data_open(test, 0, 0);
	struct ib_qp_init_attr init = {
		.send_cq = &d->cq.ibcq,
		.recv_cq = &d->cq.ibcq,
		.cap.max_send_wr = 1,
	};
	struct vrdma_pd pd = {};
	struct vrdma_qp *qp = kunit_kzalloc(test, sizeof(*qp), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, qp);
	qp->ibqp.device = &d->f->dev.ibdev;
	qp->ibqp.pd = &pd.ibpd;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		d->f->dev.features = cases[i].features;
		init.qp_type = cases[i].type;
		KUNIT_EXPECT_EQ_MSG(test, vrdma_create_qp(&qp->ibqp, &init, NULL),
				    cases[i].ret, "case %d", i);
	}
	data_close(d);
}

static struct kunit_case data_cases[] = {
	KUNIT_CASE(test_wrap),
	KUNIT_CASE(test_wrap_unsignaled),
	KUNIT_CASE(test_bogus_index),
	KUNIT_CASE(test_foreign_qp),
	KUNIT_CASE(test_srq_of_dying_qp),
	KUNIT_CASE(test_wrap_flush),
	KUNIT_CASE(test_flush_after_reset),
	KUNIT_CASE(test_doorbell),
	KUNIT_CASE(test_wrap_arm),
	KUNIT_CASE(test_no_dma_key),
	{}
};

static struct kunit_suite data_suite = {
	.name = "virtio_rdma_data",
	.test_cases = data_cases,
};

kunit_test_suite(data_suite);
