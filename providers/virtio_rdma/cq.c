// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Completion queues: creation, resizing, arming and destruction, and the
 * removal of a QP's completions.  Polling is in poll.c.
 *
 * Threading: code that accesses a CQ's rings holds the CQ's lock.  Verbs
 * requires that creation and destruction do not run concurrently with other
 * uses of the CQ.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vrdma.h"
#include "vrdma-abi.h"

static_assert(sizeof(struct virtio_rdma_cqe) == 32, "CQE size of the ABI");

/*
 * Layout of the buffer: the ring, then its control words in cache lines of
 * their own.
 */
static struct vrdma_cq_gen *vrdma_cq_gen_alloc(struct vrdma_context *ctx,
					       uint32_t entries)
{
	uint64_t ring_size = (uint64_t)entries * sizeof(struct virtio_rdma_cqe);
	struct vrdma_cq_gen *gen;
	size_t ctrl_offset;
	int ret;

	/* Offsets are 32 bits wide. */
	if (ring_size + sizeof(struct virtio_rdma_cq_ctrl) > UINT32_MAX) {
		errno = EINVAL;
		return NULL;
	}
	ctrl_offset = align(ring_size, 128);
	gen = calloc(1, sizeof(*gen));
	if (!gen) {
		errno = ENOMEM;
		return NULL;
	}

	ret = vrdma_buf_alloc(&gen->buf,
			      ctrl_offset + sizeof(struct virtio_rdma_cq_ctrl),
			      ctx->page_size);
	if (ret) {
		free(gen);
		errno = ret;
		return NULL;
	}

	gen->ring.cqes = (struct virtio_rdma_cqe *)gen->buf.addr;
	gen->ring.ctrl = (struct virtio_rdma_cq_ctrl *)(gen->buf.addr +
							ctrl_offset);
	gen->ring.mask = entries - 1;
	gen->ring.shift = ilog32(entries) - 1;
	return gen;
}

static void vrdma_cq_gen_free(struct vrdma_cq_gen *gen)
{
	vrdma_buf_free(&gen->buf);
	free(gen);
}

static uint32_t vrdma_cq_gen_ctrl_offset(const struct vrdma_cq_gen *gen)
{
	return (uint8_t *)gen->ring.ctrl - gen->buf.addr;
}

static void vrdma_cq_free(struct vrdma_cq *cq)
{
	struct vrdma_cq_gen *gen;

	while (cq->cur) {
		gen = cq->cur;
		cq->cur = gen->next;
		vrdma_cq_gen_free(gen);
	}
	if (cq->parent)
		atomic_fetch_sub(&cq->parent->refcount, 1);
	vrdma_lock_destroy(&cq->lock);
	free(cq);
}

static bool vrdma_cq_size_ok(const struct vrdma_context *ctx, int64_t cqe)
{
	return cqe >= 1 && cqe <= ctx->max_cqe;
}

/*
 * Returns an errno if the attributes ask for something that is not supported.
 */
static int vrdma_cq_check_attr(const struct vrdma_context *ctx,
			       const struct ibv_cq_init_attr_ex *attr)
{
	if (!check_comp_mask(attr->comp_mask, IBV_CQ_INIT_ATTR_MASK_FLAGS |
						      IBV_CQ_INIT_ATTR_MASK_PD))
		return EOPNOTSUPP;
	if (!check_comp_mask(attr->wc_flags, IBV_WC_STANDARD_FLAGS))
		return EOPNOTSUPP;
	if ((attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS) &&
	    !check_comp_mask(attr->flags, IBV_CREATE_CQ_ATTR_SINGLE_THREADED))
		return EOPNOTSUPP;
	if ((attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_PD) &&
	    !to_vpd(attr->parent_domain)->protection)
		return EINVAL;
	return vrdma_cq_size_ok(ctx, attr->cqe) ? 0 : EINVAL;
}

static bool vrdma_cq_needs_lock(const struct vrdma_context *ctx,
				const struct ibv_cq_init_attr_ex *attr)
{
	if (ctx->single_threaded)
		return false;
	if ((attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS) &&
	    (attr->flags & IBV_CREATE_CQ_ATTR_SINGLE_THREADED))
		return false;
	return true;
}

static struct vrdma_cq *vrdma_cq_create(struct ibv_context *ibvctx,
					struct ibv_cq_init_attr_ex *attr)
{
	struct vrdma_context *ctx = to_vctx(ibvctx);
	struct ibv_cq_init_attr_ex cmd_attr = {};
	struct vrdma_create_cq_resp resp = {};
	struct vrdma_create_cq cmd = {};
	struct vrdma_cq *cq;
	uint32_t entries;
	int ret;

	ret = vrdma_cq_check_attr(ctx, attr);
	if (ret) {
		errno = ret;
		return NULL;
	}

	cq = calloc(1, sizeof(*cq));
	if (!cq) {
		errno = ENOMEM;
		return NULL;
	}
	ret = vrdma_lock_init(&cq->lock, vrdma_cq_needs_lock(ctx, attr));
	if (ret) {
		free(cq);
		errno = ret;
		return NULL;
	}

	entries = roundup_pow_of_two(attr->cqe);
	cq->cur = vrdma_cq_gen_alloc(ctx, entries);
	if (!cq->cur) {
		ret = errno;
		goto err_free;
	}
	cq->last = cq->cur;
	list_head_init(&cq->send_qps);
	list_head_init(&cq->recv_qps);

	cmd.buf_addr = (uintptr_t)cq->cur->buf.addr;
	cmd.buf_len = cq->cur->buf.len;
	cmd.entries = entries;
	cmd.cqe_size = sizeof(struct virtio_rdma_cqe);
	cmd.ctrl_offset = vrdma_cq_gen_ctrl_offset(cq->cur);

	/*
	 * The kernel needs neither the single-threaded flag nor the parent
	 * domain.
	 */
	cmd_attr.cqe = attr->cqe;
	cmd_attr.channel = attr->channel;
	cmd_attr.comp_vector = attr->comp_vector;
	ret = ibv_cmd_create_cq_ex(ibvctx, &cmd_attr, &cq->vcq, &cmd.ibv_cmd,
				   sizeof(cmd), &resp.ibv_resp, sizeof(resp),
				   0);
	if (ret)
		goto err_free;

	cq->vcq.cq.cqe = entries;
	cq->cached_qpn = VIRTIO_RDMA_NONE;
	pthread_mutex_lock(&ctx->tables_mutex);
	list_add_tail(&ctx->cqs, &cq->link);
	pthread_mutex_unlock(&ctx->tables_mutex);
	if (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_PD) {
		cq->parent = to_vpd(attr->parent_domain);
		atomic_fetch_add(&cq->parent->refcount, 1);
	}
	return cq;

err_free:
	vrdma_cq_free(cq);
	errno = ret;
	return NULL;
}

struct ibv_cq *vrdma_create_cq(struct ibv_context *ibvctx, int cqe,
			       struct ibv_comp_channel *channel, int vector)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = cqe,
		.channel = channel,
		.comp_vector = vector,
	};
	struct vrdma_cq *cq;

	if (cqe < 1) {
		errno = EINVAL;
		return NULL;
	}
	cq = vrdma_cq_create(ibvctx, &attr);
	return cq ? &cq->vcq.cq : NULL;
}

struct ibv_cq_ex *vrdma_create_cq_ex(struct ibv_context *ibvctx,
				     struct ibv_cq_init_attr_ex *attr)
{
	struct vrdma_cq *cq;

	cq = vrdma_cq_create(ibvctx, attr);
	if (!cq)
		return NULL;
	vrdma_cq_set_ex_ops(cq, attr->wc_flags);
	return &cq->vcq.cq_ex;
}

/*
 * Called when the oldest ring is empty.  If the device writes a newer ring,
 * frees the oldest one and returns the next; otherwise returns NULL, and the CQ
 * is empty.
 */
struct vrdma_cq_gen *vrdma_cq_next_gen(struct vrdma_cq *cq)
{
	struct vrdma_cq_gen *gen = cq->cur;

	if (!gen->next)
		return NULL;
	cq->cur = gen->next;
	vrdma_cq_gen_free(gen);
	return cq->cur;
}

/* Counts the completions of receives that were not polled yet. */
static uint32_t vrdma_cq_pending_recvs(const struct vrdma_cq *cq)
{
	const struct vrdma_cq_gen *gen;
	uint32_t end, i, word, n = 0;

	for (gen = cq->cur; gen; gen = gen->next) {
		end = vrdma_cq_ring_producer(&gen->ring);
		for (i = gen->ring.consumer; i != end; i++) {
			vrdma_cq_ring_peek(&gen->ring, i, &word);
			if (VRDMA_CQE_OPCODE(word) & VIRTIO_RDMA_WC_RECV_BIT)
				n++;
		}
	}
	return n;
}

/*
 * Counts a QP's signaled sends whose completions were not polled or are still
 * to come.  Runs without the send queue's lock, like vrdma_ring_oldest(): a
 * published entry stays unchanged until the tail passes it, and the tail moves
 * under the CQ's lock.
 */
static uint32_t vrdma_qp_signaled(const struct vrdma_qp *qp)
{
	const struct virtio_rdma_wqe_ctrl *ctrl;
	const struct vrdma_ring *ring = &qp->sq.ring;
	uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
	uint32_t i, n = 0;

	for (i = ring->tail; i != head; i++) {
		ctrl = vrdma_ring_entry(ring, i);
		if (ctrl->flags & htole16(VIRTIO_RDMA_WQE_SIGNALED))
			n++;
	}
	return n;
}

/*
 * The room that a CQ needs, as far as is known: receives that have completed,
 * and sends that are outstanding.  Outstanding sends may complete at any
 * moment, so they count as completed.
 */
static uint32_t vrdma_cq_needed(const struct vrdma_cq *cq)
{
	uint32_t n = vrdma_cq_pending_recvs(cq);
	struct vrdma_qp *qp;

	list_for_each(&cq->send_qps, qp, send_link)
		n += vrdma_qp_signaled(qp);
	return n;
}

/*
 * After the kernel has replied the device writes to the new ring, from its
 * start.  CQEs in the old ring remain there and are polled first.
 */
int vrdma_resize_cq(struct ibv_cq *ibvcq, int cqe)
{
	struct vrdma_context *ctx = to_vctx(ibvcq->context);
	struct vrdma_cq *cq = to_vcq(ibvcq);
	struct ib_uverbs_resize_cq_resp resp = {};
	struct vrdma_resize_cq cmd = {};
	struct vrdma_cq_gen *gen;
	uint32_t entries;
	int ret;

	if (!vrdma_cq_size_ok(ctx, cqe))
		return EINVAL;

	entries = roundup_pow_of_two(cqe);
	gen = vrdma_cq_gen_alloc(ctx, entries);
	if (!gen)
		return errno;

	vrdma_lock(&cq->lock);
	if (entries < ibvcq->cqe && vrdma_cq_needed(cq) > entries) {
		ret = EINVAL;
		goto err_unlock;
	}

	/*
	 * A pending arming is copied to the new ring, whose fired word is zero.
	 * An arming that the device has already answered is not copied, because
	 * it would be answered again.
	 */
	if (vrdma_load(&cq->last->ring.ctrl->fired) == cq->arm)
		cq->arm &= ~VIRTIO_RDMA_ARM_WHAT_MASK;
	vrdma_store(&gen->ring.ctrl->arm, cq->arm);

	cmd.buf_addr = (uintptr_t)gen->buf.addr;
	cmd.buf_len = gen->buf.len;
	cmd.entries = entries;
	cmd.ctrl_offset = vrdma_cq_gen_ctrl_offset(gen);
	ret = ibv_cmd_resize_cq(ibvcq, cqe, &cmd.ibv_cmd, sizeof(cmd), &resp,
				sizeof(resp));
	if (ret)
		goto err_unlock;

	cq->last->next = gen;
	cq->last = gen;
	ibvcq->cqe = entries;
	vrdma_unlock(&cq->lock);
	return 0;

err_unlock:
	vrdma_unlock(&cq->lock);
	vrdma_cq_gen_free(gen);
	return ret;
}

int vrdma_destroy_cq(struct ibv_cq *ibvcq)
{
	struct vrdma_context *ctx = to_vctx(ibvcq->context);
	struct vrdma_cq *cq = to_vcq(ibvcq);
	int ret;

	ret = ibv_cmd_destroy_cq(ibvcq);
	if (ret)
		return ret;
	pthread_mutex_lock(&ctx->tables_mutex);
	list_del(&cq->link);
	pthread_mutex_unlock(&ctx->tables_mutex);
	vrdma_cq_free(cq);
	return 0;
}

int vrdma_req_notify_cq(struct ibv_cq *ibvcq, int solicited_only)
{
	struct vrdma_cq *cq = to_vcq(ibvcq);
	bool dead, flush = false;

	vrdma_lock(&cq->lock);
	cq->arm = vrdma_cq_ring_arm(&cq->last->ring, cq->arm, solicited_only);
	dead = vrdma_ctx_dead(to_vctx(ibvcq->context));
	if (dead) {
		/*
		 * Stored before the queues are examined: pairs with
		 * vrdma_dead_event().
		 */
		atomic_store(&cq->want_event, true);
		flush = vrdma_cq_has_flush(cq);
	}
	vrdma_unlock(&cq->lock);
	/*
	 * The dead device does not read the arm word: ask the kernel for the
	 * event.
	 */
	if (flush)
		vrdma_dead_event(cq);
	return 0;
}

/*
 * Removes a QP's completions, except those of receives from an SRQ: they belong
 * to the SRQ and are still polled.  The caller holds the CQ's lock, and the
 * device adds no more completions of the QP.
 */
void vrdma_cq_purge_locked(struct vrdma_cq *cq, struct vrdma_qp *qp)
{
	uint32_t qpn = qp->vqp.qp.qp_num;
	struct vrdma_cq_gen *gen;

	for (gen = cq->cur; gen; gen = gen->next)
		vrdma_cq_ring_purge(&gen->ring, qpn, 0);
	if (cq->cached_qpn == qpn) {
		cq->cached_qpn = VIRTIO_RDMA_NONE;
		cq->cached_qp = NULL;
	}
}

/* The number of a destroyed SRQ may be reused soon.  Under tables_mutex. */
void vrdma_cqs_purge_srq(struct vrdma_context *ctx, uint32_t srqn)
{
	struct vrdma_cq_gen *gen;
	struct vrdma_cq *cq;

	list_for_each(&ctx->cqs, cq, link) {
		vrdma_lock(&cq->lock);
		for (gen = cq->cur; gen; gen = gen->next)
			vrdma_cq_ring_purge(&gen->ring, VIRTIO_RDMA_NONE, srqn);
		vrdma_unlock(&cq->lock);
	}
}
