// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Contexts, their doorbell pages, and PDs.  Each process that opened the device
 * has a context of its own, and the kernel has one.  Called by the core in
 * process context; mmap_free also when the last mapping is removed.
 *
 * A process that polls makes no system call, so a page that all processes map
 * tells whether the device still works: alive is 1 until the device is halted,
 * and after a disassociation the core maps a page of zeroes in its place.
 */
#include <linux/mm.h>
#include <rdma/uverbs_ioctl.h>

#include "cmd.h"

/*
 * An entry that a process may map.  A doorbell page exists until its last mapping is
 * removed; the status page belongs to the device, and exists longer than all mappings.
 */
struct vrdma_mmap_entry {
	struct rdma_user_mmap_entry entry;
	struct vrdma_buf *buf;	/* a doorbell page, or NULL: the status page */
};

static_assert(sizeof(struct virtio_rdma_db_page) <= PAGE_SIZE);
static_assert(sizeof(struct virtio_rdma_status_page) <= PAGE_SIZE);

static struct vrdma_mmap_entry *
to_vrdma_mmap_entry(struct rdma_user_mmap_entry *entry)
{
	return container_of(entry, struct vrdma_mmap_entry, entry);
}

int vrdma_status_alloc(struct vrdma_dev *dev)
{
	dev->status = (void *)get_zeroed_page(GFP_KERNEL);
	if (!dev->status)
		return -ENOMEM;
	dev->status->alive = 1;
	return 0;
}

/* All contexts have been freed. */
void vrdma_status_free(struct vrdma_dev *dev)
{
	free_page((unsigned long)dev->status);
	dev->status = NULL;
}

/* The device is halted. */
void vrdma_status_clear_alive(struct vrdma_dev *dev)
{
	/* Orders the device's last writes before the store. */
	smp_store_release(&dev->status->alive, 0);
}

void vrdma_mmap_free(struct rdma_user_mmap_entry *rdma_entry)
{
	struct vrdma_mmap_entry *entry = to_vrdma_mmap_entry(rdma_entry);

	if (entry->buf)
		vrdma_buf_free(to_vrdma_dev(rdma_entry->ucontext->device),
			       entry->buf);
	kfree(entry);
}

/* On success the entry owns @buf. */
static struct rdma_user_mmap_entry *
vrdma_mmap_entry_new(struct ib_ucontext *ibuc, struct vrdma_buf *buf)
{
	struct vrdma_mmap_entry *entry;
	int ret;

	entry = kzalloc(sizeof(*entry), GFP_KERNEL);
	if (!entry)
		return ERR_PTR(-ENOMEM);
	entry->buf = buf;
	ret = rdma_user_mmap_entry_insert(ibuc, &entry->entry, PAGE_SIZE);
	if (ret) {
		kfree(entry);
		return ERR_PTR(ret);
	}
	return &entry->entry;
}

/**
 * vrdma_copy_req() - copy a request of the provider
 * @udata: what the process sent
 * @req:   receives it
 * @len:   its size, of the version that this driver knows
 *
 * The request of a newer provider may be longer, if the rest is zero.
 *
 * Return: 0, -EINVAL (too short), -EOPNOTSUPP (not zero behind it) or -EFAULT.
 */
int vrdma_copy_req(struct ib_udata *udata, void *req, size_t len)
{
	if (udata->inlen < len)
		return -EINVAL;
	if (udata->inlen > len &&
	    !ib_is_udata_cleared(udata, len, udata->inlen - len))
		return -EOPNOTSUPP;
	return ib_copy_from_udata(req, udata, len);
}

/**
 * vrdma_no_req() - check a request that has no part for the driver
 * @udata: what the process sent, or NULL
 *
 * Return: 0, or -EOPNOTSUPP if there is anything but zeroes.
 */
int vrdma_no_req(struct ib_udata *udata)
{
	if (!udata || !udata->inlen ||
	    ib_is_udata_cleared(udata, 0, udata->inlen))
		return 0;
	return -EOPNOTSUPP;
}

/* The context's doorbell page, and what a process may map. */
static int vrdma_ucontext_init(struct vrdma_dev *dev,
			       struct vrdma_ucontext *uc)
{
	struct rdma_user_mmap_entry *entry;
	struct vrdma_buf *buf;
	int ret;

	buf = vrdma_buf_alloc(dev, PAGE_SIZE);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	ret = vrdma_cmd_create_ctx(dev, 0, buf, &uc->ctx);
	if (ret) {
		vrdma_buf_release(dev, buf);
		return ret;
	}
	entry = vrdma_mmap_entry_new(&uc->ibuc, NULL);
	if (IS_ERR(entry)) {
		ret = PTR_ERR(entry);
		goto err_ctx;
	}
	uc->status_entry = entry;
	entry = vrdma_mmap_entry_new(&uc->ibuc, buf);
	if (IS_ERR(entry)) {
		ret = PTR_ERR(entry);
		goto err_status;
	}
	uc->db_entry = entry;
	return 0;

err_status:
	rdma_user_mmap_entry_remove(uc->status_entry);
err_ctx:
	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_CTX, uc->ctx);
	vrdma_buf_free(dev, buf);
	return ret;
}

int vrdma_alloc_ucontext(struct ib_ucontext *ibuc, struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibuc->device);
	struct virtio_rdma_alloc_ucontext_resp resp = {};
	struct vrdma_ucontext *uc = to_vrdma_uc(ibuc);
	int ret;

	ret = vrdma_no_req(udata);
	if (ret)
		return ret;
	ret = vrdma_ucontext_init(dev, uc);
	if (ret)
		return ret;
	resp.db_mmap_size = PAGE_SIZE;
	resp.db_mmap_offset = rdma_user_mmap_get_offset(uc->db_entry);
	resp.status_mmap_size = PAGE_SIZE;
	resp.status_mmap_offset = rdma_user_mmap_get_offset(uc->status_entry);
	resp.max_inline = dev->attr.max_inline;
	ret = ib_copy_to_udata(udata, &resp, min(sizeof(resp), udata->outlen));
	if (ret)
		vrdma_dealloc_ucontext(ibuc);
	return ret;
}

void vrdma_dealloc_ucontext(struct ib_ucontext *ibuc)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibuc->device);
	struct vrdma_ucontext *uc = to_vrdma_uc(ibuc);

	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_CTX, uc->ctx);
	/* mmap_free() frees the page when the last mapping is removed. */
	rdma_user_mmap_entry_remove(uc->db_entry);
	rdma_user_mmap_entry_remove(uc->status_entry);
}

int vrdma_mmap(struct ib_ucontext *ibuc, struct vm_area_struct *vma)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibuc->device);
	struct rdma_user_mmap_entry *rdma_entry;
	struct vrdma_mmap_entry *entry;
	unsigned long pfn;
	int ret;

	rdma_entry = rdma_user_mmap_entry_get(ibuc, vma);
	if (!rdma_entry)
		return -EINVAL;
	entry = to_vrdma_mmap_entry(rdma_entry);
	if (entry->buf) {
		pfn = vrdma_buf_pfn(entry->buf);
	} else {
		/* One page for all processes: no process may ever write to it. */
		if (vma->vm_flags & VM_WRITE) {
			ret = -EPERM;
			goto out;
		}
		vm_flags_clear(vma, VM_MAYWRITE);
		pfn = virt_to_phys(dev->status) >> PAGE_SHIFT;
	}
	/* The core tracks the mapping and removes it on disassociation. */
	ret = rdma_user_mmap_io(ibuc, vma, pfn, PAGE_SIZE, vma->vm_page_prot,
				rdma_entry);
out:
	rdma_user_mmap_entry_put(rdma_entry);
	return ret;
}

/* The core removes the mappings and destroys the objects: nothing else is left. */
void vrdma_disassociate_ucontext(struct ib_ucontext *ibuc)
{
}

int vrdma_kctx_open(struct vrdma_dev *dev)
{
	struct vrdma_buf *buf;
	int ret;

	buf = vrdma_buf_alloc(dev, PAGE_SIZE);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	ret = vrdma_cmd_create_ctx(dev, VIRTIO_RDMA_CTX_KERNEL, buf,
				   &dev->kctx);
	if (ret) {
		vrdma_buf_release(dev, buf);
		return ret;
	}
	dev->db_buf = buf;
	dev->db = vrdma_buf_at(buf, 0);
	return 0;
}

void vrdma_kctx_close(struct vrdma_dev *dev)
{
	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_CTX, dev->kctx);
	vrdma_buf_free(dev, dev->db_buf);
	dev->db_buf = NULL;
	dev->db = NULL;
}

int vrdma_alloc_pd(struct ib_pd *ibpd, struct ib_udata *udata)
{
	struct vrdma_ucontext *uc = rdma_udata_to_drv_context(udata,
							      struct vrdma_ucontext,
							      ibuc);
	struct vrdma_dev *dev = to_vrdma_dev(ibpd->device);
	struct virtio_rdma_alloc_pd_resp resp = {};
	struct vrdma_pd *pd = to_vrdma_pd(ibpd);
	int ret;

	ret = vrdma_no_req(udata);
	if (ret)
		return ret;
	pd->ctx = uc ? uc->ctx : dev->kctx;
	ret = vrdma_cmd_alloc_pd(dev, pd->ctx, &pd->pdn);
	if (ret || !udata)
		return ret;
	resp.pdn = pd->pdn;
	ret = ib_copy_to_udata(udata, &resp, min(sizeof(resp), udata->outlen));
	if (ret)
		vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DEALLOC_PD, pd->pdn);
	return ret;
}

int vrdma_dealloc_pd(struct ib_pd *ibpd, struct ib_udata *udata)
{
	vrdma_cmd_destroy(to_vrdma_dev(ibpd->device),
			  VIRTIO_RDMA_CMD_DEALLOC_PD, to_vrdma_pd(ibpd)->pdn);
	return 0;
}
