// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands for shared receive queues.  Control thread, under dev->lock.  wqe.c takes
 * receives off them.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "control.h"
#include "end.h"
#include "event.h"
#include "poller.h"

#define STRIDE		32U			/* size of the smallest entries */
#define MAX_SHIFT	7			/* entries of up to a page */

/* Positions and sizes of the parts of an SRQ, in CPU byte order. */
struct layout {
	uint32_t entries, max_sge, ring_offset, ctrl_offset, stride;
	uint64_t size;			/* of the used part of the buffer */
};

static int check_layout(const struct vrd_device *dev, struct layout *l)
{
	const struct vrd_span span[] = {
		{ l->ring_offset, (uint64_t)l->entries * l->stride },
		{ l->ctrl_offset, sizeof(struct virtio_rdma_ring_ctrl) },
	};
	uint64_t sges = (uint64_t)l->max_sge * sizeof(struct virtio_rdma_sge);

	if (!vrd_is_power_of_two(l->entries) ||
	    l->entries > vrd_round_up_power_of_two(dev->limits.max_qp_wr) ||
	    l->max_sge > dev->limits.max_sge ||
	    sizeof(struct virtio_rdma_recv_wqe) + sges > l->stride)
		return -EINVAL;
	if (l->ring_offset & (VIRTIO_RDMA_PAGE_SIZE - 1) ||
	    l->ctrl_offset & (sizeof(struct virtio_rdma_ring_ctrl) - 1))
		return -EINVAL;
	return vrd_spans_check(span, 2, &l->size);
}

static struct vrd_srq *srq_new(struct vrd_pd *pd, const struct layout *l, uint8_t stride_shift)
{
	struct vrd_srq *srq = calloc(1, sizeof(*srq));

	if (!srq)
		return NULL;
	srq->dev = pd->ctx->dev;
	srq->ctx = pd->ctx;
	srq->pd = pd;
	srq->max_sge = l->max_sge;
	vrd_lock_init(&srq->ring.lock, VRD_LOCK_SRQ);
	srq->ring.srq = srq;
	srq->ring.entries = l->entries;
	srq->ring.stride_shift = 5U + stride_shift;
	srq->ring.offset = l->ring_offset;
	srq->ring.ctrl_offset = l->ctrl_offset;
	srq->ring.slot = VIRTIO_RDMA_NONE;
	return srq;
}

/* ---- limit ------------------------------------------------------------- */

/* May block if the transport counts the receives. */
static int set_limit(struct vrd_srq *srq, uint32_t limit)
{
	int ret;

	if (limit > srq->ring.entries)
		return -EINVAL;
	ret = vrd_transports_srq_modify(srq, limit);
	if (ret != -EOPNOTSUPP)
		return ret;
	/* If fewer receives are posted than the limit, it is reached at once. */
	vrd_lock(&srq->ring.lock);
	srq->limit = limit;
	vrd_srq_check_limit(srq);
	vrd_unlock(&srq->ring.lock);
	return 0;
}

/* ---- life cycle -------------------------------------------------------- */

/* Runs on a worker or under dev->lock. */
static void srq_retire(struct vrd_end *end)
{
	struct vrd_srq *srq = vrd_end_of(end, vrd_srq, end);

	vrd_transports_srq_destroy(srq);
}

static void srq_release(struct vrd_end *end)
{
	struct vrd_srq *srq = vrd_end_of(end, vrd_srq, end);

	vrd_transports_srq_free(srq);
}

static void srq_free(struct vrd_end *end)
{
	struct vrd_srq *srq = vrd_end_of(end, vrd_srq, end);
	struct vrd_device *dev = srq->dev;
	struct vrd_ctx *ctx = srq->ctx;
	struct vrd_pd *pd = srq->pd;

	/* Not before: until the release a thread of the transport may have raised an event. */
	vrd_event_forget_srq(dev, srq->srqn);
	vrd_buf_destroy(dev, &srq->buf);
	vrd_table_release(&dev->srqs, srq->srqn);
	free(srq);
	vrd_end_unuse(dev, &pd->end, &pd->users);
	vrd_end_unuse(dev, &ctx->end, &ctx->users);
}

static void srq_set_end(struct vrd_srq *srq)
{
	srq->end = (struct vrd_end){
		.retire = srq_retire, .grace = true, .release = srq_release, .free = srq_free,
	};
}

static int srq_create_slow(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_create_srq_req *req = cmd->req;
	struct vrd_srq *srq = cmd->obj;
	uint32_t limit = le32toh(req->limit);
	int ret = vrd_transports_srq_create(srq);

	if (ret || !limit)
		return ret;
	ret = set_limit(srq, limit);
	if (ret) {
		srq_retire(&srq->end);
		srq_release(&srq->end);
	}
	return ret;
}

static int srq_created(struct vrd_cmd *cmd, int ret)
{
	struct virtio_rdma_create_srq_rsp *rsp = cmd->rsp;
	struct vrd_srq *srq = cmd->obj;
	struct vrd_device *dev = cmd->dev;

	if (ret) {
		srq_free(&srq->end);
		return ret;
	}
	srq_set_end(srq);
	if (cmd->cancelled)
		return vrd_end_for(cmd, &srq->end, 0, false, 0);
	if (cmd->generation != dev->mem_generation) {
		vrd_buf_translate(dev, &srq->buf);
		srq->ring.ctrl = vrd_buf_at(&srq->buf, srq->ring.ctrl_offset);
	}
	ret = vrd_poller_srq_attach(srq);
	if (ret)
		return vrd_end_for(cmd, &srq->end, 0, false, ret);
	vrd_buf_keep(dev, &srq->buf);
	vrd_table_publish(&dev->srqs, srq->srqn, srq);
	rsp->srqn = htole32(srq->srqn);
	rsp->slot = htole32(srq->ring.slot);
	return 0;
}

int vrd_cmd_create_srq(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_create_srq_req *req = cmd->req;
	struct layout l = {
		.entries = le32toh(req->entries),
		.max_sge = le32toh(req->max_sge),
		.ring_offset = le32toh(req->ring_offset),
		.ctrl_offset = le32toh(req->ctrl_offset),
	};
	struct vrd_device *dev = cmd->dev;
	struct vrd_srq *srq;
	struct vrd_ctx *ctx;
	struct vrd_pd *pd;
	int ret;

	if (req->reserved0[0] || req->reserved0[1] || req->reserved0[2] ||
	    req->stride_shift > MAX_SHIFT)
		return -EINVAL;
	if (req->xrcd || req->cqn)	/* VIRTIO_RDMA_F_XRC */
		return -EOPNOTSUPP;
	l.stride = STRIDE << req->stride_shift;
	ret = check_layout(dev, &l);
	if (ret)
		return ret;
	ctx = vrd_table_find(&dev->ctxs, le32toh(req->ctx));
	pd = vrd_table_find(&dev->pds, le32toh(req->pd));
	if (!ctx || !pd)
		return -ENOENT;
	if (pd->ctx != ctx)
		return -EINVAL;

	srq = srq_new(pd, &l, req->stride_shift);
	if (!srq)
		return -ENOMEM;
	ret = vrd_table_reserve(&dev->srqs, &srq->srqn);
	if (ret)
		goto free;
	ret = vrd_buf_create(ctx, &srq->buf, &req->buf, &cmd->extents, l.size);
	if (ret)
		goto release;
	srq->ring.ctrl = vrd_buf_at(&srq->buf, l.ctrl_offset);
	ctx->users++;
	pd->users++;
	cmd->obj = srq;
	cmd->generation = dev->mem_generation;
	return vrd_cmd_run(cmd, srq_create_slow, srq_created, false);
release:
	vrd_table_release(&dev->srqs, srq->srqn);
free:
	free(srq);
	return ret;
}

static int srq_unuse(struct vrd_cmd *cmd, int ret)
{
	struct vrd_srq *srq = cmd->obj;

	vrd_end_unuse(cmd->dev, &srq->end, &srq->users);
	return ret;
}

static int srq_modify_slow(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_modify_srq_req *req = cmd->req;

	return set_limit(cmd->obj, le32toh(req->limit));
}

int vrd_cmd_modify_srq(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_modify_srq_req *req = cmd->req;
	uint32_t mask = le32toh(req->mask);
	struct vrd_srq *srq;

	if (req->reserved)
		return -EINVAL;
	srq = vrd_table_find(&cmd->dev->srqs, le32toh(req->srqn));
	if (!srq)
		return -ENOENT;
	if (mask & ~VIRTIO_RDMA_SRQ_LIMIT)
		return -EOPNOTSUPP;
	if (!mask)
		return 0;
	srq->users++;
	cmd->obj = srq;
	return vrd_cmd_run(cmd, srq_modify_slow, srq_unuse, false);
}

static int srq_query_slow(struct vrd_cmd *cmd)
{
	struct virtio_rdma_query_srq_rsp *rsp = cmd->rsp;
	struct vrd_srq *srq = cmd->obj;
	uint32_t limit;
	int ret;

	vrd_lock(&srq->ring.lock);
	limit = srq->limit;
	vrd_unlock(&srq->ring.lock);
	ret = vrd_transports_srq_query(srq, &limit);
	rsp->limit = htole32(limit);
	return ret == -EOPNOTSUPP ? 0 : ret;
}

int vrd_cmd_query_srq(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_query_srq_req *req = cmd->req;
	struct vrd_srq *srq;

	if (req->reserved)
		return -EINVAL;
	srq = vrd_table_find(&cmd->dev->srqs, le32toh(req->srqn));
	if (!srq)
		return -ENOENT;
	srq->users++;
	cmd->obj = srq;
	return vrd_cmd_run(cmd, srq_query_slow, srq_unuse, false);
}

/* ---- destroy ----------------------------------------------------------- */

/*
 * The QPs of the SRQ have been destroyed.  Pollers that found the SRQ may use it until their
 * turn ends.
 */
static void srq_take_out(struct vrd_srq *srq)
{
	vrd_table_unpublish(&srq->dev->srqs, srq->srqn);
	srq_set_end(srq);
}

int vrd_cmd_destroy_srq(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_destroy_req *req = cmd->req;
	struct vrd_device *dev = cmd->dev;
	struct vrd_srq *srq;

	if (req->reserved)
		return -EINVAL;
	srq = vrd_table_find(&dev->srqs, le32toh(req->handle));
	if (!srq)
		return -ENOENT;
	if (srq->users)
		return -EBUSY;
	srq_take_out(srq);
	vrd_poller_srq_detach(srq);
	return vrd_end_for(cmd, &srq->end, 0, false, 0);
}

void vrd_srq_destroy_all(struct vrd_device *dev)
{
	struct vrd_end_list list = TAILQ_HEAD_INITIALIZER(list);
	struct vrd_srq *srq;
	uint32_t pos;

	for (pos = 0; (srq = vrd_table_next(&dev->srqs, &pos));) {
		srq_take_out(srq);
		vrd_end_gather(&list, &srq->end, &srq->users);
	}
	vrd_end_gathered(dev, &list, false);
}
