// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Memory regions: user memory, pinned and described to the device as extents,
 * and the kernel's region of all memory.  Called by the core in process context.
 */
#include "cmd.h"

static_assert(IB_ACCESS_LOCAL_WRITE == VIRTIO_RDMA_ACCESS_LOCAL_WRITE);
static_assert(IB_ACCESS_REMOTE_WRITE == VIRTIO_RDMA_ACCESS_REMOTE_WRITE);
static_assert(IB_ACCESS_REMOTE_READ == VIRTIO_RDMA_ACCESS_REMOTE_READ);
static_assert(IB_ACCESS_REMOTE_ATOMIC == VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC);

static int vrdma_check_access(int access)
{
	/* Optional ones (relaxed ordering) and huge pages are only hints. */
	if (access & ~(VRDMA_ACCESS | IB_ACCESS_OPTIONAL | IB_ACCESS_HUGETLB))
		return -EOPNOTSUPP;
	return 0;
}

void vrdma_mr_set(struct vrdma_mr *mr, const struct vrdma_mr_keys *keys)
{
	mr->handle = keys->handle;
	mr->ibmr.lkey = keys->lkey;
	mr->ibmr.rkey = keys->rkey;
}

struct ib_mr *vrdma_get_dma_mr(struct ib_pd *ibpd, int access)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibpd->device);
	struct vrdma_mr_keys keys;
	struct vrdma_mr *mr;
	int ret;

	ret = vrdma_check_access(access);
	if (ret)
		return ERR_PTR(ret);
	if (!vrdma_has(dev, VIRTIO_RDMA_F_DMA_KEY))
		return ERR_PTR(-EOPNOTSUPP);
	/* A core that has the DMA key requests remote rights without LOCAL_WRITE. */
	if (access & (IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_ATOMIC))
		access |= IB_ACCESS_LOCAL_WRITE;
	mr = kzalloc(sizeof(*mr), GFP_KERNEL);
	if (!mr)
		return ERR_PTR(-ENOMEM);
	ret = vrdma_cmd_reg_dma_mr(dev, to_vrdma_pd(ibpd)->pdn,
				   access & VRDMA_ACCESS, &keys);
	if (ret) {
		kfree(mr);
		return ERR_PTR(ret);
	}
	vrdma_mr_set(mr, &keys);
	return &mr->ibmr;
}

struct ib_mr *vrdma_reg_user_mr(struct ib_pd *ibpd, u64 start, u64 length,
				u64 iova, int access, struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibpd->device);
	struct vrdma_mr_params p = {
		.pdn = to_vrdma_pd(ibpd)->pdn,
		.access = access & VRDMA_ACCESS,
		.iova = iova,
		.length = length,
		.skip = (start & ~PAGE_MASK) >> VIRTIO_RDMA_PAGE_SHIFT,
	};
	struct vrdma_mr_keys keys;
	struct vrdma_mr *mr;
	int ret;

	ret = vrdma_no_req(udata);
	if (!ret)
		ret = vrdma_check_access(access);
	if (ret)
		return ERR_PTR(ret);
	if (!length || length > dev->attr.max_mr_size ||
	    iova + length - 1 < iova ||
	    (start ^ iova) & (VIRTIO_RDMA_PAGE_SIZE - 1))
		return ERR_PTR(-EINVAL);

	mr = kzalloc(sizeof(*mr), GFP_KERNEL);
	if (!mr)
		return ERR_PTR(-ENOMEM);
	mr->buf = vrdma_buf_pin(dev, start, length, access);
	if (IS_ERR(mr->buf)) {
		ret = PTR_ERR(mr->buf);
		goto err_free;
	}
	p.buf = mr->buf;
	ret = vrdma_cmd_reg_mr(dev, &p, &keys);
	if (ret) {
		vrdma_buf_release(dev, mr->buf);
		goto err_free;
	}
	vrdma_mr_set(mr, &keys);
	return &mr->ibmr;

err_free:
	kfree(mr);
	return ERR_PTR(ret);
}

int vrdma_dereg_mr(struct ib_mr *ibmr, struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibmr->device);
	struct vrdma_mr *mr = to_vrdma_mr(ibmr);
	int ret;

	ret = vrdma_no_req(udata);
	if (ret)
		return ret;
	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DEREG_MR, mr->handle);
	if (mr->buf)
		vrdma_buf_free(dev, mr->buf);
	kfree(mr);
	return 0;
}
