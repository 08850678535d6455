// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Shared receive queues: creation, modification and destruction, posting, and
 * the completion and flush of their entries by polls.
 *
 * Threading: an SRQ's lock is taken by posts, and by polls under their CQ's
 * lock.  It is needed even for single-threaded objects, because polls of
 * several CQs may complete entries of one SRQ.
 */
#include <errno.h>
#include <stdlib.h>

#include "wqe.h"
#include "vrdma-abi.h"

/* ---------------- by number ---------------- */

static struct list_head *vrdma_srq_bucket(struct vrdma_context *ctx,
					  uint32_t srqn)
{
	return &ctx->srqs[srqn % VRDMA_SRQ_BUCKETS];
}

static void vrdma_srq_insert(struct vrdma_context *ctx, struct vrdma_srq *srq)
{
	pthread_mutex_lock(&ctx->tables_mutex);
	pthread_spin_lock(&ctx->srqs_lock);
	list_add(vrdma_srq_bucket(ctx, srq->srqn), &srq->link);
	pthread_spin_unlock(&ctx->srqs_lock);
	pthread_mutex_unlock(&ctx->tables_mutex);
}

/* Under tables_mutex. */
static void vrdma_srq_remove_locked(struct vrdma_context *ctx,
				    struct vrdma_srq *srq)
{
	pthread_spin_lock(&ctx->srqs_lock);
	list_del(&srq->link);
	pthread_spin_unlock(&ctx->srqs_lock);
}

/*
 * As vrdma_srq_complete(), for a CQE whose QP is destroyed or belongs to
 * another process.  Returns false if there is no such SRQ or entry.
 */
bool vrdma_srq_complete_by_number(struct vrdma_context *ctx, uint32_t srqn,
				  uint32_t cookie, uint64_t *wr_id)
{
	struct vrdma_srq *srq;
	bool held = false;

	pthread_spin_lock(&ctx->srqs_lock);
	list_for_each(vrdma_srq_bucket(ctx, srqn), srq, link)
		if (srq->srqn == srqn) {
			held = vrdma_srq_complete(srq, cookie, wr_id);
			break;
		}
	pthread_spin_unlock(&ctx->srqs_lock);
	return held;
}

/* ---------------- creation ---------------- */

/*
 * Layout of the buffer: the ring, then its control words in cache lines of
 * their own.
 */
static int vrdma_srq_alloc(struct vrdma_context *ctx, struct vrdma_srq *srq,
			   struct vrdma_create_srq *cmd)
{
	struct vrdma_ring *ring = &srq->ring;
	size_t ctrl = align((size_t)ring->entries << ring->shift, 128);
	uint32_t *next;
	int ret;

	if (ctrl + sizeof(*ring->ctrl) > UINT32_MAX)
		return EINVAL;
	srq->wr_ids = calloc(ring->entries, sizeof(*srq->wr_ids));
	next = calloc(ring->entries, sizeof(*next));
	if (!srq->wr_ids || !next) {
		free(next);
		return ENOMEM;
	}
	vrdma_cookies_init(&srq->cookies, next, ring->entries);
	ret = vrdma_buf_alloc(&srq->buf, ctrl + sizeof(*ring->ctrl),
			      ctx->page_size);
	if (ret)
		return ret;

	ring->base = srq->buf.addr;
	ring->ctrl = (struct virtio_rdma_ring_ctrl *)(srq->buf.addr + ctrl);
	ring->mask = ring->entries - 1;
	cmd->buf_addr = (uintptr_t)srq->buf.addr;
	cmd->buf_len = srq->buf.len;
	cmd->entries = ring->entries;
	cmd->ctrl_offset = ctrl;
	cmd->stride_shift = ring->shift - VRDMA_RQ_MIN_SHIFT;
	return 0;
}

static void vrdma_srq_free(struct vrdma_srq *srq)
{
	vrdma_buf_free(&srq->buf);
	free(srq->cookies.next);
	free(srq->wr_ids);
	vrdma_lock_destroy(&srq->lock);
	free(srq);
}

static int vrdma_srq_create_cmd(struct ibv_pd *ibvpd, struct vrdma_srq *srq,
				struct ibv_srq_init_attr *attr,
				struct vrdma_create_srq *cmd)
{
	struct vrdma_create_srq_resp resp = {};
	int ret;

	ret = ibv_cmd_create_srq(ibvpd, &srq->vsrq.srq, attr, &cmd->ibv_cmd,
				 sizeof(*cmd), &resp.ibv_resp, sizeof(resp));
	if (ret)
		return ret;
	srq->ring.slot = resp.slot;
	srq->srqn = resp.srqn;
	if (srq->ring.slot >= VIRTIO_RDMA_DB_SLOTS || !srq->srqn) {
		ibv_cmd_destroy_srq(&srq->vsrq.srq);
		return EIO;
	}
	return 0;
}

struct ibv_srq *vrdma_create_srq(struct ibv_pd *ibvpd,
				 struct ibv_srq_init_attr *attr)
{
	struct vrdma_context *ctx = to_vctx(ibvpd->context);
	struct vrdma_create_srq cmd = {};
	struct vrdma_srq *srq;
	int ret;

	if (!ctx->max_srq_wr) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	if (!attr->attr.max_wr || attr->attr.max_wr > ctx->max_srq_wr ||
	    attr->attr.max_sge > ctx->max_srq_sge) {
		errno = EINVAL;
		return NULL;
	}
	srq = calloc(1, sizeof(*srq));
	if (!srq) {
		errno = ENOMEM;
		return NULL;
	}
	ret = vrdma_lock_init(&srq->lock, true);
	if (ret) {
		free(srq);
		errno = ret;
		return NULL;
	}

	srq->max_sge = attr->attr.max_sge ? attr->attr.max_sge : 1;
	srq->ring.entries = roundup_pow_of_two(attr->attr.max_wr);
	srq->ring.shift = vrdma_recv_shift(srq->max_sge);
	ret = vrdma_srq_alloc(ctx, srq, &cmd);
	if (ret)
		goto err;
	ret = vrdma_srq_create_cmd(ibvpd, srq, attr, &cmd);
	if (ret)
		goto err;
	vrdma_srq_insert(ctx, srq);
	attr->attr.max_wr = srq->ring.entries;
	attr->attr.max_sge = srq->max_sge;
	if (to_vpd(ibvpd)->protection) {
		srq->parent = to_vpd(ibvpd);
		atomic_fetch_add(&srq->parent->refcount, 1);
	}
	return &srq->vsrq.srq;

err:
	vrdma_srq_free(srq);
	errno = ret;
	return NULL;
}

int vrdma_modify_srq(struct ibv_srq *ibvsrq, struct ibv_srq_attr *attr,
		     int mask)
{
	struct ibv_modify_srq cmd = {};

	return ibv_cmd_modify_srq(ibvsrq, attr, mask, &cmd, sizeof(cmd));
}

int vrdma_query_srq(struct ibv_srq *ibvsrq, struct ibv_srq_attr *attr)
{
	struct ibv_query_srq cmd = {};

	return ibv_cmd_query_srq(ibvsrq, attr, &cmd, sizeof(cmd));
}

int vrdma_destroy_srq(struct ibv_srq *ibvsrq)
{
	struct vrdma_context *ctx = to_vctx(ibvsrq->context);
	struct vrdma_srq *srq = to_vsrq(ibvsrq);
	int ret;

	pthread_mutex_lock(&ctx->tables_mutex);
	ret = ibv_cmd_destroy_srq(ibvsrq);
	if (ret) {
		pthread_mutex_unlock(&ctx->tables_mutex);
		return ret;
	}
	vrdma_cqs_purge_srq(ctx, srq->srqn);
	vrdma_srq_remove_locked(ctx, srq);
	pthread_mutex_unlock(&ctx->tables_mutex);
	if (srq->parent)
		atomic_fetch_sub(&srq->parent->refcount, 1);
	vrdma_srq_free(srq);
	return 0;
}

/* ---------------- data path ---------------- */

int vrdma_post_srq_recv(struct ibv_srq *ibvsrq, struct ibv_recv_wr *wr,
			struct ibv_recv_wr **bad_wr)
{
	struct vrdma_srq *srq = to_vsrq(ibvsrq);
	struct vrdma_ring *ring = &srq->ring;
	uint32_t cookie;
	uint32_t head;
	int ret = 0;

	vrdma_lock(&srq->lock);
	for (head = ring->head; wr; wr = wr->next) {
		/*
		 * There are as many cookies as ring entries, so a free cookie
		 * implies a free entry: the device takes entries in order, so
		 * all entries before a completed one were taken.
		 */
		cookie = vrdma_cookie_take(&srq->cookies);
		if (unlikely(cookie == VRDMA_COOKIE_NONE)) {
			ret = ENOMEM;
			break;
		}
		ret = vrdma_write_recv(vrdma_ring_entry(ring, head),
				       srq->max_sge, cookie, wr);
		if (unlikely(ret)) {
			vrdma_cookie_put(&srq->cookies, cookie);
			break;
		}
		srq->wr_ids[cookie] = wr->wr_id;
		head++;
	}
	if (unlikely(ret))
		*bad_wr = wr;

	if (likely(head != ring->head) &&
	    unlikely(vrdma_ring_publish(ring, head)))
		vrdma_srq_doorbell(srq);
	vrdma_unlock(&srq->lock);
	return ret;
}

/*
 * Completes the entry with this cookie; returns false if there is none.  Under
 * the lock of the CQ that has the completion.
 */
bool vrdma_srq_complete(struct vrdma_srq *srq, uint32_t cookie, uint64_t *wr_id)
{
	bool held;

	vrdma_lock(&srq->lock);
	held = vrdma_cookie_put(&srq->cookies, cookie);
	if (likely(held))
		*wr_id = srq->wr_ids[cookie];
	vrdma_unlock(&srq->lock);
	return held;
}

/*
 * Completes an entry that a dead device did not, in no particular order;
 * returns false if there is none.  Under the lock of a CQ.
 */
bool vrdma_srq_flush(struct vrdma_srq *srq, uint32_t *cookie, uint64_t *wr_id)
{
	bool held;

	vrdma_lock(&srq->lock);
	held = srq->cookies.taken != 0;
	if (held) {
		*cookie = vrdma_cookie_find(&srq->cookies, srq->flush_from);
		srq->flush_from = *cookie;
		vrdma_cookie_put(&srq->cookies, *cookie);
		*wr_id = srq->wr_ids[*cookie];
	}
	vrdma_unlock(&srq->lock);
	return held;
}
