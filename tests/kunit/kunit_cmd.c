// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KUnit tests of the command engine (cmd.c) against a device on real vrings: answers that
 * are missing, late, out of order, too short or invalid.
 */
#include <linux/kthread.h>
#include <linux/virtio_config.h>
#include <linux/vmalloc.h>

#include "fakedev.h"

#define RING_NUM	16

/* ---- ways to serve -------------------------------------------------------- */

static void serve_ok(struct fakedev *f, struct fakedev_cmd *cmd)
{
	fakedev_status(f, cmd, VIRTIO_RDMA_S_OK);
}

static void serve_busy(struct fakedev *f, struct fakedev_cmd *cmd)
{
	fakedev_status(f, cmd, VIRTIO_RDMA_S_BUSY);
}

/* The status and used length that the device reports; set by the test in priv. */
struct claim {
	u32 status;
	u32 used;
};

static void serve_claim(struct fakedev *f, struct fakedev_cmd *cmd)
{
	const struct claim *claim = f->priv;
	struct virtio_rdma_rsp_hdr *hdr = cmd->rsp;

	hdr->status = cpu_to_le32(claim->status);
	fakedev_return(f, cmd->head, claim->used);
}

/* The PD's number is the context's plus one, so that each answer is different. */
static void answer_pd(struct fakedev *f, struct fakedev_cmd *cmd, u32 ctx)
{
	struct virtio_rdma_alloc_pd_rsp rsp = { .pd = cpu_to_le32(ctx + 1) };

	fakedev_answer(f, cmd, &rsp, sizeof(rsp));
}

static u32 pd_ctx(const struct fakedev *f)
{
	const struct virtio_rdma_alloc_pd_req *req = f->req;

	return le32_to_cpu(req->ctx);
}

/* ---- callers --------------------------------------------------------------- */

static int run_stats(struct fakedev *f)
{
	u64 counter;

	return vrdma_cmd_query_stats(&f->dev, &counter, 1);
}

struct caller {
	struct fakedev *f;
	struct task_struct *thread;
	struct completion done;
	u32 ctx;
	u32 pdn;
	int ret;
};

static int caller_thread(void *data)
{
	struct caller *c = data;

	c->ret = vrdma_cmd_alloc_pd(&c->f->dev, c->ctx, &c->pdn);
	complete(&c->done);
	return 0;
}

static void caller_start(struct kunit *test, struct caller *c,
			 struct fakedev *f, u32 ctx)
{
	c->f = f;
	c->ctx = ctx;
	c->pdn = 0;
	c->ret = 1;
	init_completion(&c->done);
	c->thread = kthread_run(caller_thread, c, "vrdma_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(c->thread));
}

static bool caller_wait(struct caller *c, unsigned int seconds)
{
	return wait_for_completion_timeout(&c->done, seconds * HZ);
}

/* Waits until @num commands were put on the ring, including those not taken. */
static bool wait_submitted(struct fakedev *f, u16 num)
{
	int i;

	for (i = 0; i < 250; i++) {
		if (virtio16_to_cpu(&f->vdev,
				    READ_ONCE(fakedev_ctrl(f)->ring.avail->idx)) == num)
			return true;
		msleep(20);
	}
	return false;
}

/* ---- answers --------------------------------------------------------------- */

static void test_answered(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, serve_ok);
	int i;

	/* More commands than the ring has descriptors: descriptors are reused. */
	for (i = 0; i < 3 * RING_NUM; i++)
		KUNIT_EXPECT_EQ(test, run_stats(f), 0);
	KUNIT_EXPECT_EQ(test, fakedev_ctrl(f)->taken, 3 * RING_NUM);
	KUNIT_EXPECT_TRUE(test, list_empty(&f->dev.ctrl.pending));
	KUNIT_EXPECT_FALSE(test, vrdma_dead(&f->dev));
	fakedev_close(f);
}

static void test_refused(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, serve_busy);

	KUNIT_EXPECT_EQ(test, run_stats(f), -EBUSY);
	KUNIT_EXPECT_FALSE(test, vrdma_dead(&f->dev));
	fakedev_close(f);
}

/*
 * A response shorter than its version 1 length is neither success nor failure: the command
 * may have been executed.
 */
static void test_used_length(struct kunit *test)
{
	const u32 hdr = sizeof(struct virtio_rdma_rsp_hdr);
	const u32 all = sizeof(struct virtio_rdma_query_stats_rsp);
	const struct {
		struct claim claim;
		int ret;
	} cases[] = {
		{ { VIRTIO_RDMA_S_OK, 0 }, -EIO },
		{ { VIRTIO_RDMA_S_OK, hdr - 1 }, -EIO },
		{ { VIRTIO_RDMA_S_BUSY, hdr - 1 }, -EIO },
		{ { VIRTIO_RDMA_S_OK, hdr }, -EIO },
		{ { VIRTIO_RDMA_S_OK, all - 1 }, -EIO },
		{ { VIRTIO_RDMA_S_BUSY, hdr }, -EBUSY },
		{ { VIRTIO_RDMA_S_BUSY, all }, -EBUSY },
		{ { VIRTIO_RDMA_S_OK, all }, 0 },
		/* A used length beyond the buffer must not be used as a length to read. */
		{ { VIRTIO_RDMA_S_OK, U32_MAX }, 0 },
	};
	struct fakedev *f;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		f = fakedev_open(test, RING_NUM, serve_claim);
		f->priv = (void *)&cases[i].claim;
		KUNIT_EXPECT_EQ_MSG(test, run_stats(f), cases[i].ret,
				    "status %u, %u bytes",
				    cases[i].claim.status,
				    cases[i].claim.used);
		KUNIT_EXPECT_EQ(test, vrdma_dead(&f->dev),
				cases[i].ret == -EIO);
		fakedev_close(f);
	}
}

/*
 * An older device answers with less than the driver has room for.  The bytes that the device
 * did not write are read as zero, whatever the buffer contains; the version 1 length is
 * required.
 */
static void test_older_device(struct kunit *test)
{
	const u32 all = sizeof(struct virtio_rdma_query_stats_rsp), min = all - 64;
	const struct {
		u32 used;
		int ret;
	} cases[] = {
		{ min - 1, -EIO }, { min, 0 }, { min + 8, 0 }, { all, 0 },
	};
	struct fakedev *f;
	struct vrdma_cmd *cmd;
	struct claim claim;
	u8 *rsp;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		claim = (struct claim){ VIRTIO_RDMA_S_OK, cases[i].used };
		f = fakedev_open(test, RING_NUM, serve_claim);
		f->priv = &claim;
		cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_QUERY_STATS,
				      sizeof(struct virtio_rdma_query_stats_req),
				      all);
		KUNIT_ASSERT_NOT_NULL(test, cmd);
		cmd->rsp_min = min;
		rsp = cmd->rsp;
		memset(rsp + sizeof(struct virtio_rdma_rsp_hdr), 0x5a,
		       all - sizeof(struct virtio_rdma_rsp_hdr));
		KUNIT_EXPECT_EQ(test, vrdma_cmd_exec(&f->dev, cmd),
				cases[i].ret);
		if (!cases[i].ret) {
			KUNIT_EXPECT_EQ(test, rsp[cases[i].used - 1], 0x5a);
			KUNIT_EXPECT_NULL(test, memchr_inv(rsp + cases[i].used, 0,
							   all - cases[i].used));
		}
		KUNIT_EXPECT_EQ(test, vrdma_dead(&f->dev), !!cases[i].ret);
		vrdma_cmd_put(cmd);
		fakedev_close(f);
	}
}

/* The header contains the length of the fixed part, without the extents. */
static void test_request_length(struct kunit *test)
{
	const struct virtio_rdma_cmd_hdr *hdr;
	struct vrdma_cmd *cmd;

	cmd = vrdma_cmd_alloc_extents(VIRTIO_RDMA_CMD_REG_MR, 48, 5, 24);
	KUNIT_ASSERT_NOT_NULL(test, cmd);
	hdr = cmd->req;
	KUNIT_EXPECT_EQ(test, le32_to_cpu(hdr->opcode),
			(u32)VIRTIO_RDMA_CMD_REG_MR);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(hdr->length), 48u);
	KUNIT_EXPECT_EQ(test, cmd->req_len, (size_t)48 + 5 * 16);
	vrdma_cmd_set_extents(cmd, 2);
	KUNIT_EXPECT_EQ(test, cmd->req_len, (size_t)48 + 2 * 16);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(hdr->length), 48u);
	vrdma_cmd_put(cmd);
}

/* Each caller gets its own answer, in whatever order the answers arrive. */
static void test_out_of_order(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, NULL);
	struct fakedev_cmd cmd[2];
	struct caller c[2];
	u32 ctx[2];
	int i;

	for (i = 0; i < 2; i++)
		caller_start(test, &c[i], f, 10 * (i + 1));
	KUNIT_ASSERT_TRUE(test, wait_submitted(f, 2));
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_TRUE(test, fakedev_take(f, &cmd[i]));
		ctx[i] = pd_ctx(f);
	}
	answer_pd(f, &cmd[1], ctx[1]);
	answer_pd(f, &cmd[0], ctx[0]);
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_TRUE(test, caller_wait(&c[i], 5));
		KUNIT_EXPECT_EQ(test, c[i].ret, 0);
		KUNIT_EXPECT_EQ(test, c[i].pdn, c[i].ctx + 1);
	}
	fakedev_close(f);
}

/* Two commands fill the queue; the others wait for room and are then answered. */
static void test_full_queue(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, 4, NULL);
	struct fakedev_cmd cmd;
	struct caller c[6];
	int i;

	for (i = 0; i < ARRAY_SIZE(c); i++)
		caller_start(test, &c[i], f, 100 + i);
	KUNIT_ASSERT_TRUE(test, wait_submitted(f, 2));
	msleep(50);
	KUNIT_EXPECT_TRUE(test, wait_submitted(f, 2));
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		KUNIT_ASSERT_TRUE(test, wait_submitted(f, min(i + 2, 6)));
		KUNIT_ASSERT_TRUE(test, fakedev_take(f, &cmd));
		answer_pd(f, &cmd, pd_ctx(f));
	}
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		KUNIT_ASSERT_TRUE(test, caller_wait(&c[i], 5));
		KUNIT_EXPECT_EQ(test, c[i].ret, 0);
		KUNIT_EXPECT_EQ(test, c[i].pdn, 101u + i);
	}
	fakedev_close(f);
}

/* A request that is not contiguous is added to the queue page by page. */
static void test_gathered(struct kunit *test)
{
	const size_t len = 3 * PAGE_SIZE + 100;
	struct fakedev *f = fakedev_open(test, RING_NUM, NULL);
	struct fakedev_cmd seen;
	struct vrdma_cmd *cmd;
	u8 *bytes;
	size_t i;

	cmd = vrdma_cmd_alloc(VIRTIO_RDMA_CMD_REG_MR, len,
			      sizeof(struct virtio_rdma_rsp_hdr));
	KUNIT_ASSERT_NOT_NULL(test, cmd);
	/* As kvzalloc() does when memory is fragmented. */
	kvfree(cmd->req);
	cmd->req = vmalloc(len);
	KUNIT_ASSERT_NOT_NULL(test, cmd->req);
	bytes = cmd->req;
	for (i = 0; i < len; i++)
		bytes[i] = i % 251;
	fakedev_set_timeout(f, 1);
	fakedev_hold_reset(f);
	KUNIT_EXPECT_EQ(test, vrdma_cmd_exec(&f->dev, cmd), -ETIMEDOUT);
	KUNIT_ASSERT_TRUE(test, fakedev_take(f, &seen));
	KUNIT_EXPECT_EQ(test, seen.req_len, (u32)len);
	KUNIT_EXPECT_EQ(test, memcmp(f->req, cmd->req, len), 0);
	vrdma_cmd_put(cmd);
	fakedev_close(f);
}

/*
 * The time limit is one of the device: a command that takes three times as long is answered,
 * because other commands are answered meanwhile.
 */
static void test_one_slow(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, NULL);
	struct fakedev_cmd slow, cmd;
	struct caller c, other;
	int i;

	fakedev_set_timeout(f, 1);
	caller_start(test, &c, f, 100);
	KUNIT_ASSERT_TRUE(test, wait_submitted(f, 1));
	KUNIT_ASSERT_TRUE(test, fakedev_take(f, &slow));
	for (i = 0; i < 6; i++) {
		msleep(500);
		caller_start(test, &other, f, i);
		KUNIT_ASSERT_TRUE(test, wait_submitted(f, i + 2));
		KUNIT_ASSERT_TRUE(test, fakedev_take(f, &cmd));
		answer_pd(f, &cmd, pd_ctx(f));
		KUNIT_ASSERT_TRUE(test, caller_wait(&other, 5));
		KUNIT_EXPECT_EQ(test, other.ret, 0);
	}
	KUNIT_EXPECT_FALSE(test, vrdma_dead(&f->dev));
	answer_pd(f, &slow, 100);
	KUNIT_ASSERT_TRUE(test, caller_wait(&c, 5));
	KUNIT_EXPECT_EQ(test, c.ret, 0);
	KUNIT_EXPECT_EQ(test, c.pdn, 101u);

	/* Time without pending commands does not count. */
	msleep(1500);
	caller_start(test, &c, f, 200);
	KUNIT_ASSERT_TRUE(test, wait_submitted(f, 8));
	msleep(500);
	KUNIT_EXPECT_FALSE(test, vrdma_dead(&f->dev));
	KUNIT_ASSERT_TRUE(test, fakedev_take(f, &cmd));
	answer_pd(f, &cmd, pd_ctx(f));
	KUNIT_ASSERT_TRUE(test, caller_wait(&c, 5));
	KUNIT_EXPECT_EQ(test, c.ret, 0);
	fakedev_close(f);
}

/* ---- a device that fails ---------------------------------------------------- */

/*
 * One command finds the device dead; later commands fail at once.  The answer arrives after
 * its caller has returned: the response buffer is kept until the reset.
 */
static void test_late_answer(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, NULL);
	unsigned long start = jiffies;
	struct fakedev_cmd cmd;

	fakedev_set_timeout(f, 1);
	fakedev_hold_reset(f);
	KUNIT_EXPECT_EQ(test, run_stats(f), -ETIMEDOUT);
	KUNIT_EXPECT_TRUE(test, time_after_eq(jiffies, start + HZ));
	KUNIT_EXPECT_TRUE(test, vrdma_dead(&f->dev));
	KUNIT_EXPECT_FALSE(test, list_empty(&f->dev.ctrl.abandoned));

	start = jiffies;
	KUNIT_EXPECT_EQ(test, run_stats(f), -EIO);
	KUNIT_EXPECT_TRUE(test, time_before(jiffies, start + HZ / 2));
	KUNIT_EXPECT_TRUE(test, wait_submitted(f, 1));

	KUNIT_ASSERT_TRUE(test, fakedev_take(f, &cmd));
	fakedev_status(f, &cmd, VIRTIO_RDMA_S_OK);
	KUNIT_EXPECT_FALSE(test, list_empty(&f->dev.ctrl.abandoned));
	/* The device is not used again until it is probed again. */
	KUNIT_EXPECT_EQ(test, run_stats(f), -EIO);
	fakedev_let_reset(f);
	KUNIT_ASSERT_TRUE(test, fakedev_wait_halt(f));
	KUNIT_EXPECT_TRUE(test, list_empty(&f->dev.ctrl.abandoned));
	KUNIT_EXPECT_EQ(test, run_stats(f), -EIO);
	fakedev_close(f);
}

/* The other pending commands end when the device is found dead. */
static void test_timeout_of_one(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, NULL);
	struct caller c[3];
	int i;

	fakedev_set_timeout(f, 1);
	for (i = 0; i < ARRAY_SIZE(c); i++)
		caller_start(test, &c[i], f, i);
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		KUNIT_ASSERT_TRUE(test, caller_wait(&c[i], 5));
		KUNIT_EXPECT_EQ(test, c[i].ret, -ETIMEDOUT);
	}
	KUNIT_EXPECT_TRUE(test, list_empty(&f->dev.ctrl.pending));
	fakedev_close(f);
}

/* The device does not write to commands that were never on its queue. */
static void test_no_room(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, 2, NULL);
	struct caller c[2];
	int i, num = 0;
	struct vrdma_cmd *cmd;

	fakedev_set_timeout(f, 2);
	fakedev_hold_reset(f);
	for (i = 0; i < 2; i++)
		caller_start(test, &c[i], f, i);
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_TRUE(test, caller_wait(&c[i], 10));
		KUNIT_EXPECT_LT(test, c[i].ret, 0);
	}
	KUNIT_EXPECT_TRUE(test, vrdma_dead(&f->dev));
	list_for_each_entry(cmd, &f->dev.ctrl.abandoned, node)
		num++;
	KUNIT_EXPECT_EQ(test, num, 1);
	fakedev_close(f);
}

/*
 * A surprise removal breaks the queues.  The driver gets no callback, but the pending
 * commands end at once, before the limit has passed.
 */
static void test_removed(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, NULL);
	unsigned long start = jiffies;
	struct fakedev_cmd cmd;
	struct caller c[3];
	int i;

	fakedev_hold_reset(f);
	for (i = 0; i < ARRAY_SIZE(c); i++)
		caller_start(test, &c[i], f, i);
	KUNIT_ASSERT_TRUE(test, wait_submitted(f, ARRAY_SIZE(c)));
	virtio_break_device(&f->vdev);
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		KUNIT_ASSERT_TRUE(test, caller_wait(&c[i], 10));
		KUNIT_EXPECT_EQ(test, c[i].ret, -EIO);
	}
	KUNIT_EXPECT_TRUE(test, time_before(jiffies, start + 10 * HZ));
	KUNIT_EXPECT_TRUE(test, vrdma_dead(&f->dev));
	/* The device has not seen the removal and answers. */
	while (fakedev_take(f, &cmd))
		answer_pd(f, &cmd, pd_ctx(f));
	KUNIT_EXPECT_FALSE(test, list_empty(&f->dev.ctrl.abandoned));
	fakedev_close(f);
}

/* No command was pending when the queue broke: the next command finds it broken. */
static void test_broken_queue(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, serve_ok);
	unsigned long start = jiffies;

	KUNIT_EXPECT_EQ(test, run_stats(f), 0);
	virtio_break_device(&f->vdev);
	KUNIT_EXPECT_EQ(test, run_stats(f), -EIO);
	KUNIT_EXPECT_TRUE(test, vrdma_dead(&f->dev));
	KUNIT_EXPECT_TRUE(test, time_before(jiffies, start + HZ));
	KUNIT_EXPECT_TRUE(test, list_empty(&f->dev.ctrl.abandoned));
	fakedev_close(f);
}

static void serve_bad_id(struct fakedev *f, struct fakedev_cmd *cmd)
{
	fakedev_return(f, fakedev_ctrl(f)->ring.num + 5, cmd->rsp_len);
}

static void serve_twice(struct fakedev *f, struct fakedev_cmd *cmd)
{
	fakedev_status(f, cmd, VIRTIO_RDMA_S_OK);
	fakedev_return(f, cmd->head, cmd->rsp_len);
}

/* A used element with an invalid ID breaks the queue, but does no harm to the driver. */
static void test_bad_used_id(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, serve_bad_id);

	KUNIT_EXPECT_EQ(test, run_stats(f), -EIO);
	KUNIT_EXPECT_TRUE(test, vrdma_dead(&f->dev));
	fakedev_close(f);

	f = fakedev_open(test, RING_NUM, serve_twice);
	KUNIT_EXPECT_EQ(test, run_stats(f), 0);
	flush_work(&f->work);
	KUNIT_EXPECT_TRUE(test, virtqueue_is_broken(fakedev_ctrl(f)->vq));
	KUNIT_EXPECT_EQ(test, run_stats(f), -EIO);
	KUNIT_EXPECT_TRUE(test, vrdma_dead(&f->dev));
	fakedev_close(f);
}

/* A queue that no command fits into is refused: commands would wait for room for ever. */
static void test_tiny_queue(struct kunit *test)
{
	struct fakedev *f;

	KUNIT_EXPECT_EQ(test, fakedev_try(test, 1), -EINVAL);
	f = fakedev_open(test, 2, serve_ok);
	KUNIT_EXPECT_EQ(test, run_stats(f), 0);
	/* A request of more segments than the queue has does not wait for room. */
	f->dev.ctrl.max_segs = 0;
	KUNIT_EXPECT_EQ(test, run_stats(f), -ENOMEM);
	KUNIT_EXPECT_FALSE(test, vrdma_dead(&f->dev));
	fakedev_close(f);
}

/* ---- destroying ------------------------------------------------------------- */

static void serve_io(struct fakedev *f, struct fakedev_cmd *cmd)
{
	fakedev_status(f, cmd, VIRTIO_RDMA_S_IO);
}

#define DESTROY	VIRTIO_RDMA_CMD_DESTROY_CQ

/* After any answer to a destroy the device does not use the object's memory. */
static void test_destroy(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, serve_ok);

	vrdma_cmd_destroy(&f->dev, DESTROY, 7);
	KUNIT_EXPECT_EQ(test, fakedev_opcode(f), (u32)DESTROY);
	KUNIT_EXPECT_FALSE(test, vrdma_dead(&f->dev));

	/* A destroy cannot fail: a device that refuses is halted. */
	f->serve = serve_busy;
	vrdma_cmd_destroy(&f->dev, DESTROY, 7);
	KUNIT_EXPECT_TRUE(test, vrdma_halted(&f->dev));
	KUNIT_EXPECT_EQ(test, f->resets, 1);
	fakedev_close(f);

	f = fakedev_open(test, RING_NUM, serve_io);
	vrdma_cmd_destroy(&f->dev, DESTROY, 7);
	KUNIT_EXPECT_TRUE(test, vrdma_halted(&f->dev));
	KUNIT_EXPECT_EQ(test, f->resets, 1);
	fakedev_close(f);
}

static int destroy_pd(struct fakedev *f)
{
	struct vrdma_pd pd = { .ibpd.device = &f->dev.ibdev, .pdn = 7 };

	return vrdma_dealloc_pd(&pd.ibpd, NULL);
}

/* A region of a kernel user: the DMA key, which names no buffer. */
static int destroy_mr(struct fakedev *f)
{
	struct vrdma_mr *mr = kzalloc(sizeof(*mr), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(f->test, mr);
	mr->ibmr.device = &f->dev.ibdev;
	return vrdma_dereg_mr(&mr->ibmr, NULL);
}

static int destroy_cq(struct fakedev *f)
{
	struct vrdma_cq *cq = kunit_kzalloc(f->test, sizeof(*cq), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(f->test, cq);
	cq->buf = kzalloc(sizeof(*cq->buf), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(f->test, cq->buf);
	cq->ibcq.device = &f->dev.ibdev;
	vrdma_ref_init(&cq->ref);
	return vrdma_destroy_cq(&cq->ibcq, NULL);
}

static int destroy_srq(struct fakedev *f)
{
	struct vrdma_srq *srq = kunit_kzalloc(f->test, sizeof(*srq), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(f->test, srq);
	srq->buf = kzalloc(sizeof(*srq->buf), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(f->test, srq->buf);
	srq->ibsrq.device = &f->dev.ibdev;
	vrdma_ref_init(&srq->ref);
	return vrdma_destroy_srq(&srq->ibsrq, NULL);
}

/*
 * The verbs of kernel users ignore errors of a destroy, and free the memory.  When the device
 * refuses to destroy the object, or does not answer, the verb returns after the device's reset.
 */
static void test_destroy_verbs(struct kunit *test)
{
	int (*const verbs[])(struct fakedev *f) = {
		destroy_pd, destroy_mr, destroy_cq, destroy_srq,
	};
	void (*const serves[])(struct fakedev *f, struct fakedev_cmd *cmd) = {
		serve_ok, serve_busy, serve_io, NULL,
	};
	struct fakedev *f;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(verbs) * ARRAY_SIZE(serves); i++) {
		j = i % ARRAY_SIZE(serves);
		f = fakedev_open(test, RING_NUM, serves[j]);
		fakedev_set_timeout(f, 1);
		KUNIT_EXPECT_EQ(test, verbs[i / ARRAY_SIZE(serves)](f), 0);
		KUNIT_EXPECT_EQ_MSG(test, f->resets, serves[j] != serve_ok,
				    "verb %zu, answer %d",
				    i / ARRAY_SIZE(serves), j);
		fakedev_close(f);
	}
}

static int destroyer_thread(void *data)
{
	struct caller *c = data;

	vrdma_cmd_destroy(&c->f->dev, DESTROY, c->ctx);
	c->ret = 0;
	complete(&c->done);
	return 0;
}

/* On a dead device a destroy waits for the reset. */
static void test_destroy_dead(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, serve_ok);
	struct caller c = { .f = f, .ctx = 7, .ret = 1 };

	fakedev_hold_reset(f);
	vrdma_dev_kill(&f->dev, -EIO, "the test says so");
	init_completion(&c.done);
	c.thread = kthread_run(destroyer_thread, &c, "vrdma_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(c.thread));
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&c.done, HZ / 2));
	fakedev_let_reset(f);
	KUNIT_ASSERT_TRUE(test, caller_wait(&c, 10));
	KUNIT_EXPECT_EQ(test, c.ret, 0);
	KUNIT_EXPECT_EQ(test, f->resets, 1);
	KUNIT_EXPECT_EQ(test, fakedev_ctrl(f)->taken, 0);
	fakedev_close(f);
}

/* ---- memory that a failed command named --------------------------------------- */

/* Executes CREATE_CTX with the page @buf, which is freed or parked on failure. */
static int ctx_fails(struct kunit *test, struct fakedev *f)
{
	struct vrdma_buf *buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	dma_addr_t *dma = kvzalloc(sizeof(*dma), GFP_KERNEL);
	u32 ctx;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, buf);
	KUNIT_ASSERT_NOT_NULL(test, dma);
	buf->dma = dma;
	ret = vrdma_cmd_create_ctx(&f->dev, 0, buf, &ctx);
	vrdma_buf_release(&f->dev, buf);
	return ret;
}

static void test_parked(struct kunit *test)
{
	struct fakedev *f = fakedev_open(test, RING_NUM, serve_busy);

	/* Refused: the device does not use the page. */
	KUNIT_EXPECT_EQ(test, ctx_fails(test, f), -EBUSY);
	KUNIT_EXPECT_TRUE(test, list_empty(&f->dev.parked));

	/* Not answered: the device may use the page until it is reset. */
	f->serve = NULL;
	fakedev_set_timeout(f, 1);
	fakedev_hold_reset(f);
	KUNIT_EXPECT_EQ(test, ctx_fails(test, f), -ETIMEDOUT);
	KUNIT_EXPECT_TRUE(test, list_is_singular(&f->dev.parked));

	/* Dead: the command never reached the device. */
	KUNIT_EXPECT_EQ(test, ctx_fails(test, f), -EIO);
	KUNIT_EXPECT_TRUE(test, list_is_singular(&f->dev.parked));

	fakedev_let_reset(f);
	KUNIT_ASSERT_TRUE(test, fakedev_wait_halt(f));
	KUNIT_EXPECT_TRUE(test, list_empty(&f->dev.parked));
	fakedev_close(f);
}

static struct kunit_case cmd_cases[] = {
	KUNIT_CASE(test_answered),
	KUNIT_CASE(test_refused),
	KUNIT_CASE(test_used_length),
	KUNIT_CASE(test_older_device),
	KUNIT_CASE(test_request_length),
	KUNIT_CASE(test_out_of_order),
	KUNIT_CASE(test_full_queue),
	KUNIT_CASE(test_gathered),
	KUNIT_CASE_SLOW(test_one_slow),
	KUNIT_CASE(test_late_answer),
	KUNIT_CASE(test_timeout_of_one),
	KUNIT_CASE(test_no_room),
	KUNIT_CASE(test_tiny_queue),
	KUNIT_CASE(test_removed),
	KUNIT_CASE(test_broken_queue),
	KUNIT_CASE(test_bad_used_id),
	KUNIT_CASE(test_destroy),
	KUNIT_CASE_SLOW(test_destroy_verbs),
	KUNIT_CASE(test_destroy_dead),
	KUNIT_CASE(test_parked),
	{}
};

static struct kunit_suite cmd_suite = {
	.name = "virtio_rdma_cmd",
	.test_cases = cmd_cases,
};

kunit_test_suite(cmd_suite);
