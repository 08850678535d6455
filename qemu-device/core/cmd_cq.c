// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands for completion queues.  Control thread, under dev->lock.  Posting and arming are
 * in cq.c.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "control.h"
#include "end.h"
#include "event.h"
#include "poller.h"

int vrd_spans_check(const struct vrd_span *span, unsigned int num, uint64_t *end)
{
	unsigned int i, j;

	/* offsets have 32 bits and lengths not many more: sums do not overflow */
	*end = 0;
	for (i = 0; i < num; i++) {
		uint64_t last = span[i].offset + span[i].len;

		if (last > *end)
			*end = last;
		for (j = 0; j < i; j++) {
			if (span[i].offset < span[j].offset + span[j].len &&
			    span[j].offset < last)
				return -EINVAL;
		}
	}
	return 0;
}

/* Positions of the parts of a CQ in its buffer, in CPU byte order. */
struct layout {
	uint32_t entries, ring_offset, ctrl_offset;
};

static int make_buf(struct vrd_ctx *ctx, const struct layout *l, const struct virtio_rdma_buf *desc,
		    const struct vrd_extents *x, struct vrd_buf *buf)
{
	const struct vrd_span span[] = {
		{ l->ring_offset, (uint64_t)l->entries * sizeof(struct virtio_rdma_cqe) },
		{ l->ctrl_offset, sizeof(struct virtio_rdma_cq_ctrl) },
	};
	uint64_t size;

	if (!vrd_is_power_of_two(l->entries) ||
	    l->entries > vrd_round_up_power_of_two(ctx->dev->limits.max_cqe))
		return -EINVAL;
	if (l->ring_offset & (VIRTIO_RDMA_PAGE_SIZE - 1) ||
	    l->ctrl_offset & (sizeof(struct virtio_rdma_cq_ctrl) - 1))
		return -EINVAL;
	if (vrd_spans_check(span, 2, &size))
		return -EINVAL;
	return vrd_buf_create(ctx, buf, desc, x, size);
}

/* ---- life cycle -------------------------------------------------------- */

/* Runs on a worker or under dev->lock. */
static void cq_release(struct vrd_end *end)
{
	struct vrd_cq *cq = vrd_end_of(end, vrd_cq, end);

	vrd_transports_cq_destroy(cq);
}

static void cq_free(struct vrd_end *end)
{
	struct vrd_cq *cq = vrd_end_of(end, vrd_cq, end);
	struct vrd_device *dev = cq->dev;
	struct vrd_ctx *ctx = cq->ctx;

	/* Not before: until the release a thread of the transport may have raised an event. */
	vrd_event_cq_forget(cq);
	vrd_event_forget_cq(dev, cq->cqn);
	vrd_buf_destroy(dev, &cq->buf);
	vrd_table_release(&dev->cqs, cq->cqn);
	free(cq);
	vrd_end_unuse(dev, &ctx->end, &ctx->users);
}

static void cq_set_end(struct vrd_cq *cq, bool grace)
{
	cq->end = (struct vrd_end){
		.release = cq_release,
		.free = cq_free, .grace = grace,
	};
}

static int cq_create_slow(struct vrd_cmd *cmd)
{
	struct vrd_cq *cq = cmd->obj;

	return vrd_transports_cq_create(cq);
}

static int cq_created(struct vrd_cmd *cmd, int ret)
{
	struct virtio_rdma_create_cq_rsp *rsp = cmd->rsp;
	struct vrd_cq *cq = cmd->obj;

	if (ret) {
		cq_free(&cq->end);
		return ret;
	}
	if (cmd->cancelled) {
		cq_set_end(cq, false);
		return vrd_end_for(cmd, &cq->end, 0, false, 0);
	}
	vrd_buf_keep(cq->dev, &cq->buf);
	vrd_table_publish(&cq->dev->cqs, cq->cqn, cq);
	/* The memory table may have changed since; this CQ was not in the table then. */
	if (cmd->generation != cq->dev->mem_generation) {
		vrd_buf_translate(cq->dev, &cq->buf);
		cq->ctrl = vrd_buf_at(&cq->buf, cq->ctrl_offset);
	}
	rsp->cqn = htole32(cq->cqn);
	return 0;
}

int vrd_cmd_create_cq(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_create_cq_req *req = cmd->req;
	const struct layout l = {
		.entries = le32toh(req->entries),
		.ring_offset = le32toh(req->ring_offset),
		.ctrl_offset = le32toh(req->ctrl_offset),
	};
	struct vrd_device *dev = cmd->dev;
	struct vrd_ctx *ctx;
	struct vrd_cq *cq;
	int ret;

	if (le32toh(req->cqe_size) != sizeof(struct virtio_rdma_cqe) ||
	    le32toh(req->vector) >= dev->num_vectors_used)
		return -EINVAL;
	ctx = vrd_table_find(&dev->ctxs, le32toh(req->ctx));
	if (!ctx)
		return -ENOENT;

	cq = calloc(1, sizeof(*cq));
	if (!cq)
		return -ENOMEM;
	cq->dev = dev;
	cq->ctx = ctx;
	cq->vector = le32toh(req->vector);
	cq->entries = l.entries;
	cq->offset = l.ring_offset;
	cq->ctrl_offset = l.ctrl_offset;
	ret = vrd_table_reserve(&dev->cqs, &cq->cqn);
	if (ret)
		goto free;
	ret = make_buf(ctx, &l, &req->buf, &cmd->extents, &cq->buf);
	if (ret)
		goto release;
	cq->ctrl = vrd_buf_at(&cq->buf, cq->ctrl_offset);
	vrd_cq_init(cq);
	ctx->users++;
	cmd->obj = cq;
	cmd->generation = dev->mem_generation;
	return vrd_cmd_run(cmd, cq_create_slow, cq_created, false);
release:
	vrd_table_release(&dev->cqs, cq->cqn);
free:
	free(cq);
	return ret;
}

/* No poller uses the old ring any more. */
static int cq_resized(struct vrd_cmd *cmd, int ret)
{
	struct vrd_buf *old = cmd->obj;

	vrd_buf_destroy(cmd->dev, old);
	free(old);
	return ret;
}

int vrd_cmd_resize_cq(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_resize_cq_req *req = cmd->req;
	const struct layout l = {
		.entries = le32toh(req->entries),
		.ring_offset = le32toh(req->ring_offset),
		.ctrl_offset = le32toh(req->ctrl_offset),
	};
	struct vrd_device *dev = cmd->dev;
	struct vrd_buf *buf, old;
	struct vrd_cq *cq;
	int ret;

	if (dev->host_cqs)
		return -EOPNOTSUPP;
	cq = vrd_table_find(&dev->cqs, le32toh(req->cqn));
	if (!cq)
		return -ENOENT;
	buf = calloc(1, sizeof(*buf));
	if (!buf)
		return -ENOMEM;
	ret = make_buf(cq->ctx, &l, &req->buf, &cmd->extents, buf);
	if (ret) {
		free(buf);
		return ret;
	}
	cmd->obj = buf;

	vrd_lock(&cq->lock);
	if (cq->error) {
		vrd_unlock(&cq->lock);
		return cq_resized(cmd, -EINVAL);
	}
	old = cq->buf;
	cq->buf = *buf;
	cq->entries = l.entries;
	cq->offset = l.ring_offset;
	cq->ctrl_offset = l.ctrl_offset;
	/* Pollers read the arm word without the lock: pairs with the acquire in ctrl_of(). */
	__atomic_store_n(&cq->ctrl, vrd_buf_at(&cq->buf, cq->ctrl_offset), __ATOMIC_RELEASE);
	cq->producer = 0;
	cq->consumer = 0;
	/* No arming in the new control words has been answered with an event. */
	atomic_store(&cq->fired, 0);
	vrd_unlock(&cq->lock);
	vrd_buf_keep(dev, &cq->buf);
	*buf = old;
	return vrd_cmd_wait_grace(cmd, cq_resized);
}

int vrd_cmd_destroy_cq(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_destroy_req *req = cmd->req;
	struct vrd_device *dev = cmd->dev;
	struct vrd_cq *cq;

	if (req->reserved)
		return -EINVAL;
	cq = vrd_table_find(&dev->cqs, le32toh(req->handle));
	if (!cq)
		return -ENOENT;
	if (cq->users)
		return -EBUSY;
	vrd_table_unpublish(&dev->cqs, cq->cqn);
	cq_set_end(cq, true);
	return vrd_end_for(cmd, &cq->end, 0, false, 0);
}

void vrd_cq_destroy_all(struct vrd_device *dev)
{
	struct vrd_cq *cq;
	uint32_t pos;

	if (!dev->cqs.count)
		return;
	/* The QPs have been destroyed: after this no thread posts to any of the CQs. */
	vrd_engine_synchronize(dev->engine);
	for (pos = 0; (cq = vrd_table_next(&dev->cqs, &pos));) {
		vrd_table_unpublish(&dev->cqs, cq->cqn);
		/* It may end much later.  The next driver must not get its event. */
		vrd_event_cq_forget(cq);
		cq_set_end(cq, false);
		vrd_end(dev, &cq->end, cq->users, false);
	}
}
