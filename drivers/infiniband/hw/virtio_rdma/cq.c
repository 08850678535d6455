// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Completion queues: creation, resizing and destruction.  Called by the core in
 * process context.  Polling and arming are in poll.c.
 */
#include <rdma/uverbs_ioctl.h>

#include "cmd.h"

/* Checks the layout, which a process wrote, and pins the ring. */
static struct vrdma_buf *vrdma_cq_pin(struct vrdma_dev *dev, u64 addr, u64 len,
				      const struct vrdma_cq_params *p)
{
	if (!is_power_of_2(p->entries) ||
	    p->entries > roundup_pow_of_two(dev->attr.max_cqe) ||
	    !PAGE_ALIGNED(addr) || !PAGE_ALIGNED(len) || !len ||
	    !vrdma_range_ok(len, p->ring_offset, p->entries, VRDMA_CQE_SHIFT,
			    VIRTIO_RDMA_PAGE_SIZE) ||
	    !vrdma_range_ok(len, p->ctrl_offset, 1, ilog2(VRDMA_CTRL_ALIGN),
			    VRDMA_CTRL_ALIGN))
		return ERR_PTR(-EINVAL);
	return vrdma_buf_pin(dev, addr, len, IB_ACCESS_LOCAL_WRITE);
}

static int vrdma_cq_prepare_user(struct vrdma_dev *dev, struct vrdma_cq *cq,
				 struct vrdma_cq_params *p, int cqe,
				 struct ib_udata *udata)
{
	struct virtio_rdma_create_cq req;
	struct vrdma_ucontext *uc;
	int ret;

	ret = vrdma_copy_req(udata, &req, sizeof(req));
	if (ret)
		return ret;
	if (req.comp_mask)
		return -EOPNOTSUPP;
	if (req.cqe_size != sizeof(struct virtio_rdma_cqe) || req.reserved ||
	    req.entries < cqe)
		return -EINVAL;
	uc = rdma_udata_to_drv_context(udata, struct vrdma_ucontext, ibuc);
	p->ctx = uc->ctx;
	p->entries = req.entries;
	p->ring_offset = req.ring_offset;
	p->ctrl_offset = req.ctrl_offset;
	cq->user = true;
	cq->buf = vrdma_cq_pin(dev, req.buf_addr, req.buf_len, p);
	return PTR_ERR_OR_ZERO(cq->buf);
}

static int vrdma_cq_prepare_kernel(struct vrdma_dev *dev, struct vrdma_cq *cq,
				   struct vrdma_cq_params *p, int cqe)
{
	u64 ring;

	p->ctx = dev->kctx;
	p->entries = roundup_pow_of_two(cqe);
	ring = (u64)p->entries << VRDMA_CQE_SHIFT;
	/* Offsets are 32 bits wide. */
	if (ring + VRDMA_CTRL_ALIGN > U32_MAX)
		return -EINVAL;
	p->ring_offset = 0;
	/* Behind the ring. */
	p->ctrl_offset = ALIGN(ring, VRDMA_CTRL_ALIGN);
	cq->buf = vrdma_buf_alloc(dev, p->ctrl_offset + VRDMA_CTRL_ALIGN);
	if (IS_ERR(cq->buf))
		return PTR_ERR(cq->buf);
	cq->ctrl = vrdma_buf_at(cq->buf, p->ctrl_offset);
	return 0;
}

int vrdma_create_cq(struct ib_cq *ibcq, const struct ib_cq_init_attr *attr,
		    struct vrdma_cq_attrs *attrs)
{
	struct ib_udata *udata = vrdma_cq_udata(attrs);
	struct vrdma_dev *dev = to_vrdma_dev(ibcq->device);
	struct virtio_rdma_create_cq_resp resp = {};
	struct vrdma_cq_params p = {};
	struct vrdma_cq *cq = to_vrdma_cq(ibcq);
	int ret;

	if (attr->flags)
		return -EOPNOTSUPP;
	if (!attr->cqe || attr->cqe > dev->attr.max_cqe ||
	    attr->comp_vector >= dev->num_comp)
		return -EINVAL;
	if (udata)
		ret = vrdma_cq_prepare_user(dev, cq, &p, attr->cqe, udata);
	else
		ret = vrdma_cq_prepare_kernel(dev, cq, &p, attr->cqe);
	if (ret)
		return ret;

	cq->entries = p.entries;
	vrdma_ref_init(&cq->ref);
	mutex_init(&cq->resize_mutex);
	spin_lock_init(&cq->lock);
	INIT_LIST_HEAD(&cq->send_qps);
	INIT_LIST_HEAD(&cq->recv_qps);
	ibcq->cqe = p.entries;

	p.buf = cq->buf;
	p.vector = attr->comp_vector;
	ret = vrdma_cmd_create_cq(dev, &p, &cq->cqn);
	if (ret) {
		vrdma_buf_release(dev, cq->buf);
		return ret;
	}
	if (udata) {
		resp.cqn = cq->cqn;
		ret = ib_copy_to_udata(udata, &resp,
				       min(sizeof(resp), udata->outlen));
		if (ret)
			goto err_destroy;
	}
	/* Last: from here on events find it. */
	ret = xa_insert_irq(&dev->cqs, cq->cqn, cq, GFP_KERNEL);
	if (ret)
		goto err_destroy;
	return 0;

err_destroy:
	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_CQ, cq->cqn);
	vrdma_buf_free(dev, cq->buf);
	return ret;
}

/*
 * For processes only: no kernel user resizes a CQ.  The device continues in the
 * new ring; the process reads what is left in the old one, which is its memory.
 */
int vrdma_resize_cq(struct ib_cq *ibcq, vrdma_cqe_t cqe,
		    struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibcq->device);
	struct vrdma_cq *cq = to_vrdma_cq(ibcq);
	struct virtio_rdma_resize_cq req;
	struct vrdma_cq_params p = {};
	struct vrdma_buf *buf;
	int ret;

	if (!udata || !cq->user)
		return -EOPNOTSUPP;
	if (cqe < 1 || cqe > dev->attr.max_cqe)
		return -EINVAL;
	ret = vrdma_copy_req(udata, &req, sizeof(req));
	if (ret)
		return ret;
	if (req.comp_mask)
		return -EOPNOTSUPP;
	if (req.entries < cqe)
		return -EINVAL;
	p.ctx = rdma_udata_to_drv_context(udata, struct vrdma_ucontext,
					  ibuc)->ctx;
	p.entries = req.entries;
	p.ring_offset = req.ring_offset;
	p.ctrl_offset = req.ctrl_offset;
	buf = vrdma_cq_pin(dev, req.buf_addr, req.buf_len, &p);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	p.buf = buf;
	/*
	 * The core holds the CQ's handle for reading only, so several resizes
	 * may run at once.  Each must free the ring that the device used before
	 * it, so they are serialised here.
	 */
	mutex_lock(&cq->resize_mutex);
	ret = vrdma_cmd_resize_cq(dev, cq->cqn, &p);
	if (ret) {
		mutex_unlock(&cq->resize_mutex);
		vrdma_buf_release(dev, buf);
		return ret;
	}
	swap(cq->buf, buf);
	cq->entries = p.entries;
	ibcq->cqe = p.entries;
	mutex_unlock(&cq->resize_mutex);
	vrdma_buf_free(dev, buf);
	return 0;
}

int vrdma_destroy_cq(struct ib_cq *ibcq, struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibcq->device);
	struct vrdma_cq *cq = to_vrdma_cq(ibcq);

	/* Before the command: the device may use the number again at once. */
	xa_erase_irq(&dev->cqs, cq->cqn);
	vrdma_ref_end(&cq->ref);

	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_CQ, cq->cqn);
	vrdma_buf_free(dev, cq->buf);
	return 0;
}
