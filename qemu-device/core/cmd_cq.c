// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands about completion queues.  Control thread, under dev->lock; posting
 * and arming are in cq.c.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "control.h"
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

/* Where the parts of a CQ lie, in its own words. */
struct layout {
	uint32_t entries, ring_offset, ctrl_offset;
};

static int make_buf(struct vrd_device *dev, const struct layout *l, const struct vrd_extents *x,
		    struct vrd_buf *buf)
{
	const struct vrd_span span[] = {
		{ l->ring_offset, (uint64_t)l->entries * sizeof(struct virtio_rdma_cqe) },
		{ l->ctrl_offset, sizeof(struct virtio_rdma_cq_ctrl) },
	};
	uint64_t size;

	if (!vrd_is_power_of_two(l->entries) ||
	    l->entries > vrd_round_up_power_of_two(dev->limits.max_cqe))
		return -EINVAL;
	if (l->ring_offset & (VIRTIO_RDMA_PAGE_SIZE - 1) ||
	    l->ctrl_offset & (sizeof(struct virtio_rdma_cq_ctrl) - 1))
		return -EINVAL;
	if (vrd_spans_check(span, 2, &size))
		return -EINVAL;
	return vrd_buf_create(dev, buf, x, size);
}

int vrd_cmd_create_cq(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_create_cq_req *req = cmd->req;
	struct virtio_rdma_create_cq_rsp *rsp = cmd->rsp;
	const struct layout l = {
		.entries = le32toh(req->entries),
		.ring_offset = le32toh(req->ring_offset),
		.ctrl_offset = le32toh(req->ctrl_offset),
	};
	struct vrd_device *dev = cmd->dev;
	struct vrd_ctx *ctx;
	struct vrd_cq *cq;
	int ret;

	if (req->buf.reserved || le32toh(req->cqe_size) != sizeof(struct virtio_rdma_cqe) ||
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
	ret = make_buf(dev, &l, &cmd->extents, &cq->buf);
	if (ret)
		goto release;
	cq->ctrl = vrd_buf_at(&cq->buf, cq->ctrl_offset);
	vrd_cq_init(cq);
	ret = vrd_transports_cq_create(cq);
	if (ret)
		goto free_buf;
	ctx->users++;
	vrd_table_publish(&dev->cqs, cq->cqn, cq);
	rsp->cqn = htole32(cq->cqn);
	return 0;
free_buf:
	vrd_buf_destroy(dev, &cq->buf);
release:
	vrd_table_release(&dev->cqs, cq->cqn);
free:
	free(cq);
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
	struct vrd_buf buf = { 0 }, old;
	struct vrd_cq *cq;
	int ret;

	if (dev->host_cqs)
		return -EOPNOTSUPP;
	if (req->buf.reserved)
		return -EINVAL;
	cq = vrd_table_find(&dev->cqs, le32toh(req->cqn));
	if (!cq)
		return -ENOENT;
	ret = make_buf(dev, &l, &cmd->extents, &buf);
	if (ret)
		return ret;

	/* Pollers look at the arm word without the lock: keep them off. */
	vrd_device_quiesce(dev);
	if (!cq->error) {
		old = cq->buf;
		cq->buf = buf;
		cq->entries = l.entries;
		cq->offset = l.ring_offset;
		cq->ctrl_offset = l.ctrl_offset;
		cq->ctrl = vrd_buf_at(&cq->buf, cq->ctrl_offset);
		cq->producer = 0;
		cq->consumer = 0;
		/* No arming in the new control words has been answered. */
		atomic_store(&cq->fired, 0);
	} else {
		old = buf;
		ret = -EINVAL;
	}
	vrd_device_resume(dev);
	vrd_buf_destroy(dev, &old);
	return ret;
}

/* Out of the table, and nobody on a poller has it any more. */
static void cq_free(struct vrd_cq *cq)
{
	struct vrd_device *dev = cq->dev;

	vrd_transports_cq_destroy(cq);
	/* Then: a thread of the transport may have raised one until now. */
	vrd_event_cq_forget(cq);
	vrd_event_forget_cq(dev, cq->cqn);
	cq->ctx->users--;
	vrd_buf_destroy(dev, &cq->buf);
	vrd_table_release(&dev->cqs, cq->cqn);
	free(cq);
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
	vrd_engine_synchronize(dev->engine);
	cq_free(cq);
	return 0;
}

void vrd_cq_destroy_all(struct vrd_device *dev)
{
	struct vrd_cq *cq;
	uint32_t pos;

	if (!dev->cqs.count)
		return;
	/* The QPs are gone: after this nobody posts to any of them. */
	vrd_engine_synchronize(dev->engine);
	for (pos = 0; (cq = vrd_table_next(&dev->cqs, &pos));) {
		vrd_table_unpublish(&dev->cqs, cq->cqn);
		cq_free(cq);
	}
}
