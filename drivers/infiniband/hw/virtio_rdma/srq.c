// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Shared receive queues.  Created, changed and destroyed by the core in process
 * context; posted to in any.  A user SRQ's ring is memory of its process, and
 * the driver only checks its layout.
 *
 * Polls take the ring's lock under their CQ's lock, to give cookies back.
 */
#include <rdma/uverbs_ioctl.h>

#include "cmd.h"
#include "doorbell.h"
#include "encode.h"

static_assert(VIRTIO_RDMA_SRQ_LIMIT == IB_SRQ_LIMIT);

/* ---- creation ---- */

/* Checks the layout, which a process wrote; the device checks it again. */
static int vrdma_srq_prepare_user(struct vrdma_dev *dev, struct vrdma_srq *srq,
				  struct vrdma_srq_params *p, u32 max_wr,
				  struct ib_udata *udata)
{
	struct virtio_rdma_create_srq req;
	int ret;

	ret = vrdma_copy_req(udata, &req, sizeof(req));
	if (ret)
		return ret;
	if (req.comp_mask)
		return -EOPNOTSUPP;
	if (req.reserved || memchr_inv(req.reserved0, 0, sizeof(req.reserved0)))
		return -EINVAL;
	if (req.entries < max_wr || !is_power_of_2(req.entries) ||
	    req.entries > roundup_pow_of_two(dev->attr.max_srq_wr) ||
	    req.stride_shift > VRDMA_RQ_MAX_STRIDE ||
	    !PAGE_ALIGNED(req.buf_addr) || !PAGE_ALIGNED(req.buf_len) ||
	    !req.buf_len ||
	    !vrdma_range_ok(req.buf_len, req.ring_offset, req.entries,
			    VRDMA_RQ_MIN_SHIFT + req.stride_shift,
			    VIRTIO_RDMA_PAGE_SIZE) ||
	    !vrdma_range_ok(req.buf_len, req.ctrl_offset, 1,
			    ilog2(VRDMA_CTRL_ALIGN), VRDMA_CTRL_ALIGN))
		return -EINVAL;
	p->entries = req.entries;
	p->stride = req.stride_shift;
	p->ring_offset = req.ring_offset;
	p->ctrl_offset = req.ctrl_offset;
	srq->user = true;
	srq->buf = vrdma_buf_pin(dev, req.buf_addr, req.buf_len,
				 IB_ACCESS_LOCAL_WRITE);
	return PTR_ERR_OR_ZERO(srq->buf);
}

static void vrdma_srq_free(struct vrdma_dev *dev, struct vrdma_srq *srq,
			   bool unused)
{
	if (unused)
		vrdma_buf_free(dev, srq->buf);
	else
		vrdma_buf_release(dev, srq->buf);
	kvfree(srq->ring.wr_id);
	kvfree(srq->cookies.next);
}

static int vrdma_srq_prepare_kernel(struct vrdma_dev *dev,
				    struct vrdma_srq *srq,
				    struct vrdma_srq_params *p, u32 max_wr)
{
	struct vrdma_ring *ring = &srq->ring;
	u32 *next;
	u64 len;

	p->entries = roundup_pow_of_two(max_wr);
	p->stride = vrdma_stride(vrdma_recv_wqe_size(p->max_sge),
				 VRDMA_RQ_MIN_SHIFT);
	if (p->stride > VRDMA_RQ_MAX_STRIDE)
		return -EINVAL;
	ring->entries = p->entries;
	ring->shift = VRDMA_RQ_MIN_SHIFT + p->stride;
	ring->max_sge = p->max_sge;
	len = ALIGN((u64)p->entries << ring->shift, VRDMA_CTRL_ALIGN);
	/* Offsets are 32 bits wide. */
	if (len + VRDMA_CTRL_ALIGN > U32_MAX)
		return -EINVAL;
	p->ctrl_offset = len;

	srq->buf = vrdma_buf_alloc(dev, p->ctrl_offset + VRDMA_CTRL_ALIGN);
	if (IS_ERR(srq->buf))
		return PTR_ERR(srq->buf);
	ring->ctrl = vrdma_buf_at(srq->buf, p->ctrl_offset);
	ring->wr_id = kvcalloc(p->entries, sizeof(*ring->wr_id), GFP_KERNEL);
	next = kvcalloc(p->entries, sizeof(*next), GFP_KERNEL);
	if (!ring->wr_id || !next) {
		kvfree(next);
		vrdma_srq_free(dev, srq, true);
		return -ENOMEM;
	}
	vrdma_cookies_init(&srq->cookies, next, p->entries);
	return 0;
}

/* Stores the numbers of a new SRQ, or returns them to the process. */
static int vrdma_srq_publish(struct vrdma_srq *srq, u32 slot,
			     struct ib_udata *udata)
{
	struct virtio_rdma_create_srq_resp resp = {
		.srqn = srq->srqn,
		.slot = slot,
	};

	if (udata)
		return ib_copy_to_udata(udata, &resp,
					min(sizeof(resp), udata->outlen));
	/* The driver sets the dirty byte of a kernel SRQ: check its range. */
	if (slot >= VIRTIO_RDMA_DB_SLOTS)
		return -EIO;
	srq->ring.slot = slot;
	return 0;
}

int vrdma_create_srq(struct ib_srq *ibsrq, struct ib_srq_init_attr *init,
		     struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibsrq->device);
	struct vrdma_pd *pd = to_vrdma_pd(ibsrq->pd);
	struct vrdma_srq *srq = to_vrdma_srq(ibsrq);
	struct vrdma_srq_params p = {
		.ctx = pd->ctx,
		.pdn = pd->pdn,
	};
	u32 slot;
	int ret;

	if (init->srq_type != IB_SRQT_BASIC)
		return -EOPNOTSUPP;
	if (!init->attr.max_wr || init->attr.max_wr > dev->attr.max_srq_wr ||
	    init->attr.max_sge > dev->attr.max_srq_sge)
		return -EINVAL;
	p.max_sge = max(init->attr.max_sge, 1U);
	vrdma_ref_init(&srq->ref);
	spin_lock_init(&srq->ring.lock);

	if (udata)
		ret = vrdma_srq_prepare_user(dev, srq, &p, init->attr.max_wr,
					     udata);
	else
		ret = vrdma_srq_prepare_kernel(dev, srq, &p, init->attr.max_wr);
	if (ret)
		return ret;
	srq->max_wr = p.entries;
	srq->max_sge = p.max_sge;
	p.buf = srq->buf;
	ret = vrdma_cmd_create_srq(dev, &p, &srq->srqn, &slot);
	if (ret) {
		vrdma_srq_free(dev, srq, false);
		return ret;
	}
	ret = vrdma_srq_publish(srq, slot, udata);
	/* Last: from here on events find it. */
	if (!ret)
		ret = xa_insert_irq(&dev->srqs, srq->srqn, srq, GFP_KERNEL);
	if (ret) {
		vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_SRQ, srq->srqn);
		vrdma_srq_free(dev, srq, true);
		return ret;
	}
	init->attr.max_wr = srq->max_wr;
	init->attr.max_sge = srq->max_sge;
	return 0;
}

int vrdma_modify_srq(struct ib_srq *ibsrq, struct ib_srq_attr *attr,
		     enum ib_srq_attr_mask mask, struct ib_udata *udata)
{
	struct vrdma_srq *srq = to_vrdma_srq(ibsrq);

	if (vrdma_no_req(udata))
		return -EOPNOTSUPP;
	/* IB_DEVICE_SRQ_RESIZE is not offered. */
	if (mask & ~IB_SRQ_LIMIT)
		return -EOPNOTSUPP;
	if (!(mask & IB_SRQ_LIMIT))
		return 0;
	if (attr->srq_limit > srq->max_wr)
		return -EINVAL;
	return vrdma_cmd_modify_srq(to_vrdma_dev(ibsrq->device), srq->srqn,
				    mask, attr->srq_limit);
}

int vrdma_query_srq(struct ib_srq *ibsrq, struct ib_srq_attr *attr)
{
	struct vrdma_srq *srq = to_vrdma_srq(ibsrq);

	attr->max_wr = srq->max_wr;
	attr->max_sge = srq->max_sge;
	return vrdma_cmd_query_srq(to_vrdma_dev(ibsrq->device), srq->srqn,
				   &attr->srq_limit);
}

int vrdma_destroy_srq(struct ib_srq *ibsrq, struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibsrq->device);
	struct vrdma_srq *srq = to_vrdma_srq(ibsrq);

	/* Before the command: the device may use the number again at once. */
	xa_erase_irq(&dev->srqs, srq->srqn);
	vrdma_ref_end(&srq->ref);

	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_SRQ, srq->srqn);
	vrdma_srq_free(dev, srq, true);
	return 0;
}

/* ---- data path ---- */

/* One entry; the ring's lock is held. */
static int vrdma_srq_post_one(struct vrdma_srq *srq,
			      const struct ib_recv_wr *wr)
{
	struct vrdma_ring *ring = &srq->ring;
	struct virtio_rdma_recv_wqe *wqe;
	u32 cookie;
	int ret;

	/*
	 * There is one cookie per ring entry.  The device takes entries in order
	 * and returns their cookies later, so if a cookie is free, so is the
	 * next entry.
	 */
	cookie = vrdma_cookie_take(&srq->cookies);
	if (cookie == VRDMA_COOKIE_NONE)
		return -ENOMEM;
	wqe = vrdma_buf_at(srq->buf, ring->base +
			   vrdma_ring_offset(ring->head, ring->entries,
					     ring->shift));
	ret = vrdma_encode_recv(ring->max_sge, wr, wqe);
	if (ret) {
		vrdma_cookie_put(&srq->cookies, cookie);
		return ret;
	}
	wqe->cookie = cpu_to_le32(cookie);
	ring->wr_id[cookie] = wr->wr_id;
	ring->head++;
	return 0;
}

int vrdma_post_srq_recv(struct ib_srq *ibsrq, const struct ib_recv_wr *wr,
			const struct ib_recv_wr **bad_wr)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibsrq->device);
	struct vrdma_srq *srq = to_vrdma_srq(ibsrq);
	struct vrdma_ring *ring = &srq->ring;
	unsigned long flags;
	u32 old_head;
	int ret = 0;

	if (srq->user) {
		/* As vrdma_post_send(): the process wakes the device. */
		if (!wr) {
			vrdma_kick(dev);
			if (vrdma_halted(dev))
				vrdma_wake_srq_cqs(dev, ibsrq);
			return 0;
		}
		*bad_wr = wr;
		return -EOPNOTSUPP;
	}

	spin_lock_irqsave(&ring->lock, flags);
	old_head = ring->head;
	for (; wr; wr = wr->next) {
		ret = vrdma_srq_post_one(srq, wr);
		if (ret) {
			*bad_wr = wr;
			break;
		}
	}
	if (ring->head != old_head)
		vrdma_ring_publish(dev, ring);
	spin_unlock_irqrestore(&ring->lock, flags);
	return ret;
}

/*
 * Completes the entry with @cookie; false if there is none.  The lock of the CQ
 * that has the CQE is held.
 */
bool vrdma_srq_complete(struct vrdma_srq *srq, u32 cookie, u64 *wr_id)
{
	bool held;

	spin_lock(&srq->ring.lock);
	held = vrdma_cookie_put(&srq->cookies, cookie);
	if (held)
		*wr_id = srq->ring.wr_id[cookie];
	spin_unlock(&srq->ring.lock);
	return held;
}
