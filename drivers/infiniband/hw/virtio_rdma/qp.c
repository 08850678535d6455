// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Queue pairs: creation and destruction.  Called by the core in process
 * context.  A user QP's rings are memory of its process, and the driver only
 * checks their layout; a kernel QP's rings are the driver's (post.c, poll.c).
 *
 * The device chooses QP numbers, and may use a number again as soon as it has
 * destroyed the QP.  The driver keeps the number of a QP that is being destroyed
 * reserved in vrdma_dev.qps until its completions are removed from the CQs; the
 * creation of a QP that got the same number waits for that.
 */
#include <rdma/uverbs_ioctl.h>

#include "cmd.h"

/* Whether @qpn is neither used nor reserved: xa_load() returns NULL for both. */
static bool vrdma_qpn_is_free(struct vrdma_dev *dev, u32 qpn)
{
	XA_STATE(xas, &dev->qps, qpn);
	void *entry;

	rcu_read_lock();
	/* Not xas_retry(): it would wait for a reserved entry. */
	while (xa_is_retry(entry = xas_load(&xas)))
		xas_reset(&xas);
	rcu_read_unlock();
	return !entry;
}

/* Adds the QP to the table, after an earlier one with the same number is removed. */
static int vrdma_qp_publish(struct vrdma_dev *dev, struct vrdma_qp *qp)
{
	int ret;

	for (;;) {
		ret = xa_insert_irq(&dev->qps, qp->qpn, qp, GFP_KERNEL);
		if (ret != -EBUSY)
			return ret;
		/*
		 * A device that gives one number to two QPs must not make the driver wait
		 * without end.
		 */
		if (!wait_event_timeout(dev->qpn_free,
					vrdma_qpn_is_free(dev, qp->qpn),
					VRDMA_CMD_LIMIT))
			return -EIO;
	}
}

/* Hides the QP from events and polls, but keeps its number reserved. */
static void vrdma_qp_hide(struct vrdma_dev *dev, struct vrdma_qp *qp)
{
	xa_cmpxchg_irq(&dev->qps, qp->qpn, qp, XA_ZERO_ENTRY, GFP_KERNEL);
	vrdma_ref_end(&qp->ref);
}

static void vrdma_qp_free_number(struct vrdma_dev *dev, struct vrdma_qp *qp)
{
	xa_cmpxchg_irq(&dev->qps, qp->qpn, XA_ZERO_ENTRY, NULL, GFP_KERNEL);
	wake_up_all(&dev->qpn_free);
}

/*
 * Returns the device's number of a QP type, or an errno.  Kernel users name memory
 * by the DMA key: without that feature they can use QP 1 only.
 */
static int vrdma_qp_type(struct vrdma_dev *dev,
			 const struct ib_qp_init_attr *init, bool user)
{
	if (init->qp_type == IB_QPT_GSI)
		return user ? -EOPNOTSUPP : VIRTIO_RDMA_QPT_GSI;
	if (!user && !vrdma_has(dev, VIRTIO_RDMA_F_DMA_KEY))
		return -EOPNOTSUPP;
	switch (init->qp_type) {
	case IB_QPT_RC:
		return VIRTIO_RDMA_QPT_RC;
	case IB_QPT_UD:
		return VIRTIO_RDMA_QPT_UD;
	case IB_QPT_UC:
		if (vrdma_has(dev, VIRTIO_RDMA_F_UC))
			return VIRTIO_RDMA_QPT_UC;
		return -EOPNOTSUPP;
	default:
		return -EOPNOTSUPP;
	}
}

static bool vrdma_qp_is_datagram(u8 type)
{
	return type == VIRTIO_RDMA_QPT_UD || type == VIRTIO_RDMA_QPT_GSI;
}

static int vrdma_qp_check_cap(struct vrdma_dev *dev, u8 type,
			      const struct ib_qp_cap *cap)
{
	const struct vrdma_attr *a = &dev->attr;
	u32 max_sge = vrdma_qp_is_datagram(type) ? a->max_send_sge_ud :
						   a->max_send_sge;

	if (cap->max_send_wr > a->max_qp_wr ||
	    cap->max_recv_wr > a->max_qp_wr ||
	    cap->max_send_sge > max_sge ||
	    cap->max_recv_sge > a->max_recv_sge ||
	    cap->max_inline_data > a->max_inline)
		return -EINVAL;
	return 0;
}

/* Checks the layout, which a process wrote; the device checks it again. */
static bool vrdma_qp_layout_ok(struct vrdma_dev *dev,
			       const struct virtio_rdma_create_qp *req)
{
	u32 max = roundup_pow_of_two(dev->attr.max_qp_wr);
	u8 ctrl = ilog2(VRDMA_CTRL_ALIGN);

	if (!PAGE_ALIGNED(req->buf_addr) || !PAGE_ALIGNED(req->buf_len) ||
	    !req->buf_len || req->sq_stride_shift > VRDMA_SQ_MAX_STRIDE ||
	    req->rq_stride_shift > VRDMA_RQ_MAX_STRIDE ||
	    req->sq_entries > max || req->rq_entries > max)
		return false;
	if (req->sq_entries &&
	    (!is_power_of_2(req->sq_entries) ||
	     !vrdma_range_ok(req->buf_len, req->sq_offset, req->sq_entries,
			     VRDMA_SQ_MIN_SHIFT + req->sq_stride_shift,
			     VIRTIO_RDMA_PAGE_SIZE) ||
	     !vrdma_range_ok(req->buf_len, req->sq_ctrl_offset, 1, ctrl,
			     VRDMA_CTRL_ALIGN)))
		return false;
	if (req->rq_entries &&
	    (!is_power_of_2(req->rq_entries) ||
	     !vrdma_range_ok(req->buf_len, req->rq_offset, req->rq_entries,
			     VRDMA_RQ_MIN_SHIFT + req->rq_stride_shift,
			     VIRTIO_RDMA_PAGE_SIZE) ||
	     !vrdma_range_ok(req->buf_len, req->rq_ctrl_offset, 1, ctrl,
			     VRDMA_CTRL_ALIGN)))
		return false;
	return true;
}

static int vrdma_qp_prepare_user(struct vrdma_dev *dev, struct vrdma_qp *qp,
				 struct vrdma_qp_params *p,
				 struct ib_udata *udata)
{
	struct virtio_rdma_create_qp req;
	int ret;

	ret = vrdma_copy_req(udata, &req, sizeof(req));
	if (ret)
		return ret;
	if (req.comp_mask)
		return -EOPNOTSUPP;
	if (req.reserved[0] || req.reserved[1] ||
	    req.sq_entries < qp->cap.max_send_wr ||
	    req.rq_entries < qp->cap.max_recv_wr ||
	    !vrdma_qp_layout_ok(dev, &req))
		return -EINVAL;
	p->sq_entries = req.sq_entries;
	p->rq_entries = req.rq_entries;
	p->sq_stride = req.sq_stride_shift;
	p->rq_stride = req.rq_stride_shift;
	p->sq_offset = req.sq_offset;
	p->rq_offset = req.rq_offset;
	p->sq_ctrl_offset = req.sq_ctrl_offset;
	p->rq_ctrl_offset = req.rq_ctrl_offset;
	qp->user = true;
	qp->buf = vrdma_buf_pin(dev, req.buf_addr, req.buf_len,
				IB_ACCESS_LOCAL_WRITE);
	return PTR_ERR_OR_ZERO(qp->buf);
}

static void vrdma_ring_init(struct vrdma_ring *ring, u32 entries, u8 shift,
			    u32 base, u32 max_sge)
{
	spin_lock_init(&ring->lock);
	ring->entries = entries;
	ring->shift = shift;
	ring->base = base;
	ring->max_sge = max_sge;
	ring->slot = VIRTIO_RDMA_NONE;
}

/* The rings of a kernel QP: SQ, RQ, then the control words of both. */
static int vrdma_qp_prepare_kernel(struct vrdma_dev *dev, struct vrdma_qp *qp,
				   struct vrdma_qp_params *p)
{
	bool datagram = vrdma_qp_is_datagram(p->qp_type);
	const struct ib_qp_cap *cap = &qp->cap;
	u64 sq, rq = 0;
	u8 sq_shift, rq_shift;

	p->sq_stride = vrdma_stride(vrdma_send_wqe_size(datagram,
							p->max_send_sge,
							cap->max_inline_data),
				    VRDMA_SQ_MIN_SHIFT);
	p->rq_stride = vrdma_stride(vrdma_recv_wqe_size(p->max_recv_sge),
				    VRDMA_RQ_MIN_SHIFT);
	if (p->sq_stride > VRDMA_SQ_MAX_STRIDE ||
	    p->rq_stride > VRDMA_RQ_MAX_STRIDE)
		return -EINVAL;
	p->sq_entries = roundup_pow_of_two(max(cap->max_send_wr, 1U));
	if (cap->max_recv_wr)
		p->rq_entries = roundup_pow_of_two(cap->max_recv_wr);
	sq_shift = VRDMA_SQ_MIN_SHIFT + p->sq_stride;
	rq_shift = VRDMA_RQ_MIN_SHIFT + p->rq_stride;
	sq = ALIGN((u64)p->sq_entries << sq_shift, VIRTIO_RDMA_PAGE_SIZE);
	if (p->rq_entries)
		rq = ALIGN((u64)p->rq_entries << rq_shift,
			   VIRTIO_RDMA_PAGE_SIZE);
	/* Offsets are 32 bits wide. */
	if (sq + rq + 2 * VRDMA_CTRL_ALIGN > U32_MAX)
		return -EINVAL;
	p->sq_ctrl_offset = sq + rq;
	if (p->rq_entries) {
		p->rq_offset = sq;
		p->rq_ctrl_offset = sq + rq + VRDMA_CTRL_ALIGN;
	}

	qp->buf = vrdma_buf_alloc(dev, (size_t)(sq + rq) +
				       2 * VRDMA_CTRL_ALIGN);
	if (IS_ERR(qp->buf))
		return PTR_ERR(qp->buf);
	vrdma_ring_init(&qp->sq, p->sq_entries, sq_shift, p->sq_offset,
			p->max_send_sge);
	vrdma_ring_init(&qp->rq, p->rq_entries, rq_shift, p->rq_offset,
			p->max_recv_sge);
	qp->sq.ctrl = vrdma_buf_at(qp->buf, p->sq_ctrl_offset);
	qp->rq.ctrl = vrdma_buf_at(qp->buf, p->rq_ctrl_offset);
	qp->sq.wr_id = kvcalloc(p->sq_entries, sizeof(u64), GFP_KERNEL);
	qp->rq.wr_id = kvcalloc(max(p->rq_entries, 1U), sizeof(u64),
				GFP_KERNEL);
	if (!qp->sq.wr_id || !qp->rq.wr_id) {
		kvfree(qp->sq.wr_id);
		kvfree(qp->rq.wr_id);
		vrdma_buf_free(dev, qp->buf);
		return -ENOMEM;
	}
	return 0;
}

static void vrdma_qp_free_rings(struct vrdma_dev *dev, struct vrdma_qp *qp,
				bool unused)
{
	if (unused)
		vrdma_buf_free(dev, qp->buf);
	else
		vrdma_buf_release(dev, qp->buf);
	kvfree(qp->sq.wr_id);
	kvfree(qp->rq.wr_id);
}

/* The driver sets the dirty bytes of a kernel QP, so they must be in range. */
static bool vrdma_qp_slots_ok(const struct vrdma_qp *qp,
			      const struct vrdma_qp_numbers *num)
{
	return qp->user ||
	       (num->sq_slot < VIRTIO_RDMA_DB_SLOTS &&
		(num->rq_slot < VIRTIO_RDMA_DB_SLOTS || !qp->rq.entries));
}

static int vrdma_qp_respond(struct ib_udata *udata,
			    const struct vrdma_qp_numbers *num)
{
	struct virtio_rdma_create_qp_resp resp = {
		.qpn = num->qpn,
		.sq_slot = num->sq_slot,
		.rq_slot = num->rq_slot,
	};

	if (!udata)
		return 0;
	return ib_copy_to_udata(udata, &resp, min(sizeof(resp), udata->outlen));
}

/* Reports the actual capacities, which are at least the requested ones. */
static void vrdma_qp_set_cap(struct vrdma_qp *qp,
			     const struct vrdma_qp_params *p)
{
	qp->cap.max_send_wr = p->sq_entries;
	qp->cap.max_recv_wr = p->rq_entries;
	qp->cap.max_send_sge = p->max_send_sge;
	qp->cap.max_recv_sge = qp->ibqp.srq ? 0 : p->max_recv_sge;
	qp->cap.max_inline_data = p->max_inline;
	qp->sq.entries = p->sq_entries;
	qp->rq.entries = p->rq_entries;
}

int vrdma_create_qp(struct ib_qp *ibqp, struct ib_qp_init_attr *init,
		    struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibqp->device);
	struct vrdma_pd *pd = to_vrdma_pd(ibqp->pd);
	struct vrdma_qp *qp = to_vrdma_qp(ibqp);
	struct vrdma_qp_numbers num;
	struct vrdma_qp_params p = {
		.ctx = pd->ctx,
		.pdn = pd->pdn,
	};
	int ret;

	if (init->create_flags || !init->send_cq || !init->recv_cq)
		return -EOPNOTSUPP;
	/* With an SRQ there is no receive ring, whatever was requested. */
	if (init->srq) {
		init->cap.max_recv_wr = 0;
		init->cap.max_recv_sge = 0;
	}
	ret = vrdma_qp_type(dev, init, udata);
	if (ret < 0)
		return ret;
	p.qp_type = ret;
	ret = vrdma_qp_check_cap(dev, p.qp_type, &init->cap);
	if (ret)
		return ret;
	p.send_cqn = to_vrdma_cq(init->send_cq)->cqn;
	p.recv_cqn = to_vrdma_cq(init->recv_cq)->cqn;
	p.srqn = init->srq ? to_vrdma_srq(init->srq)->srqn : VIRTIO_RDMA_NONE;
	p.max_send_sge = max(init->cap.max_send_sge, 1U);
	p.max_recv_sge = max(init->cap.max_recv_sge, 1U);
	p.max_inline = init->cap.max_inline_data;

	qp->cap = init->cap;
	qp->sig_all = init->sq_sig_type == IB_SIGNAL_ALL_WR;
	qp->state = IB_QPS_RESET;
	vrdma_ref_init(&qp->ref);
	mutex_init(&qp->mutex);
	INIT_LIST_HEAD(&qp->send_link);
	INIT_LIST_HEAD(&qp->recv_link);

	if (udata)
		ret = vrdma_qp_prepare_user(dev, qp, &p, udata);
	else
		ret = vrdma_qp_prepare_kernel(dev, qp, &p);
	if (ret)
		return ret;
	p.buf = qp->buf;
	ret = vrdma_cmd_create_qp(dev, &p, &num);
	if (ret) {
		vrdma_qp_free_rings(dev, qp, false);
		return ret;
	}
	qp->qpn = num.qpn;
	ibqp->qp_num = num.qpn;
	vrdma_qp_set_cap(qp, &p);
	if (!vrdma_qp_slots_ok(qp, &num)) {
		ret = -EIO;
		goto err_destroy;
	}
	qp->sq.slot = num.sq_slot;
	qp->rq.slot = num.rq_slot;
	ret = vrdma_qp_respond(udata, &num);
	if (ret)
		goto err_destroy;
	vrdma_cq_attach_qp(qp);
	/* Last: from here on events and completions find it. */
	ret = vrdma_qp_publish(dev, qp);
	if (ret)
		goto err_detach;
	init->cap = qp->cap;
	return 0;

err_detach:
	vrdma_cq_detach_qp(qp);
err_destroy:
	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_QP, qp->qpn);
	vrdma_qp_free_rings(dev, qp, true);
	return ret;
}

int vrdma_destroy_qp(struct ib_qp *ibqp, struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibqp->device);
	struct vrdma_qp *qp = to_vrdma_qp(ibqp);

	vrdma_qp_hide(dev, qp);
	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_QP, qp->qpn);
	/* The device writes no more completions of it: drop those in the CQs. */
	vrdma_cq_detach_qp(qp);
	vrdma_qp_free_number(dev, qp);
	vrdma_qp_free_rings(dev, qp, true);
	return 0;
}
