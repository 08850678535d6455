// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Fast registration for users in the kernel: regions without memory, and the
 * list of memory that a REG_MR work request gives to one of them.  Called by the
 * core: allocation in process context, mapping in any context.
 *
 * The list is read by the device while it executes the REG_MR, so its user must
 * not map the region again before that has completed.
 */
#include "cmd.h"

static_assert(sizeof(struct virtio_rdma_reg_mr_wqe) == 1 << VRDMA_SQ_MIN_SHIFT);

struct ib_mr *vrdma_alloc_mr(struct ib_pd *ibpd, enum ib_mr_type type,
			     u32 max_num_sg)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibpd->device);
	struct vrdma_mr_keys keys;
	struct vrdma_mr *mr;
	int ret;

	if (type != IB_MR_TYPE_MEM_REG && type != IB_MR_TYPE_SG_GAPS)
		return ERR_PTR(-EOPNOTSUPP);
	if (!max_num_sg || max_num_sg > dev->attr.max_fast_reg_pages)
		return ERR_PTR(-EINVAL);
	mr = kzalloc(sizeof(*mr), GFP_KERNEL);
	if (!mr)
		return ERR_PTR(-ENOMEM);
	mr->buf = vrdma_buf_alloc_chunk(dev, max_num_sg * sizeof(*mr->list));
	if (!mr->buf) {
		ret = -ENOMEM;
		goto err_free;
	}
	ret = vrdma_cmd_alloc_mr(dev, to_vrdma_pd(ibpd)->pdn, max_num_sg, &keys);
	if (ret)
		goto err_buf;
	mr->list = vrdma_buf_at(mr->buf, 0);
	mr->max_entries = max_num_sg;
	mr->gaps = type == IB_MR_TYPE_SG_GAPS;
	vrdma_mr_set(mr, &keys);
	return &mr->ibmr;

err_buf:
	vrdma_buf_free(dev, mr->buf);
err_free:
	kfree(mr);
	return ERR_PTR(ret);
}

/*
 * Appends memory to the list; false if it does not fit.  Without gaps, only the
 * first piece may begin, and only the last one end, within a page.
 */
static bool vrdma_mr_append(struct vrdma_mr *mr, u64 addr, u64 len)
{
	u64 mask = mr->gaps ? 0 : mr->ibmr.page_size - 1;
	struct virtio_rdma_reg_entry *last;
	u64 last_len;

	if (mr->num_entries) {
		last = &mr->list[mr->num_entries - 1];
		last_len = le64_to_cpu(last->length);
		if (le64_to_cpu(last->addr) + last_len == addr) {
			last->length = cpu_to_le64(last_len + len);
			return true;
		}
		if ((addr | (le64_to_cpu(last->addr) + last_len)) & mask)
			return false;
	}
	if (mr->num_entries == mr->max_entries)
		return false;
	last = &mr->list[mr->num_entries++];
	last->addr = cpu_to_le64(addr);
	last->length = cpu_to_le64(len);
	return true;
}

/* Returns the number of elements of @sgl that the region can have. */
int vrdma_map_mr_sg(struct ib_mr *ibmr, struct scatterlist *sgl, int sg_nents,
		    unsigned int *sg_offset)
{
	unsigned int offset = sg_offset ? *sg_offset : 0;
	struct vrdma_dev *dev = to_vrdma_dev(ibmr->device);
	struct vrdma_mr *mr = to_vrdma_mr(ibmr);
	struct scatterlist *sg;
	int i;

	if (sg_nents <= 0 || offset >= sg_dma_len(sgl))
		return -EINVAL;
	if (!mr->gaps && !(ibmr->page_size & dev->attr.page_sizes))
		return -EINVAL;
	mr->num_entries = 0;
	ibmr->iova = sg_dma_address(sgl) + offset;
	ibmr->length = 0;
	for_each_sg(sgl, sg, sg_nents, i) {
		u64 len = sg_dma_len(sg) - offset;

		if (!vrdma_mr_append(mr, sg_dma_address(sg) + offset, len))
			break;
		ibmr->length += len;
		offset = 0;
	}
	if (sg_offset)
		*sg_offset = 0;
	return i;
}
