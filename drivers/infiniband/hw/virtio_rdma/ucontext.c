// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Contexts, their doorbell pages, and PDs.  Each process that opened the device
 * has a context of its own, and the kernel has one.  Called by the core in
 * process context; mmap_free also when the last mapping is removed.
 *
 * A process that polls makes no system call, so the doorbell page tells it
 * whether the device still works: alive is 1 until the device is halted, and
 * after a disassociation the core maps a page of zeroes in its place.
 */
#include <linux/mm.h>
#include <rdma/uverbs_ioctl.h>

#include "cmd.h"

/* The doorbell page of a process: lives until its last mapping is gone. */
struct vrdma_db_entry {
	struct rdma_user_mmap_entry entry;
	struct vrdma_buf *buf;
	struct list_head link;	/* vrdma_dev.user_dbs */
};

static_assert(sizeof(struct virtio_rdma_db_page) <= PAGE_SIZE);

static void vrdma_db_set_alive(struct vrdma_db_entry *db, bool alive)
{
	struct virtio_rdma_db_page *page = vrdma_buf_at(db->buf, 0);

	/* The last thing that the device wrote comes before. */
	smp_store_release(&page->alive, alive);
}

/* A context may be created while the device dies. */
static void vrdma_db_enlist(struct vrdma_dev *dev, struct vrdma_db_entry *db)
{
	spin_lock(&dev->user_dbs_lock);
	vrdma_db_set_alive(db, !vrdma_halted(dev));
	list_add(&db->link, &dev->user_dbs);
	spin_unlock(&dev->user_dbs_lock);
}

static void vrdma_db_delist(struct vrdma_dev *dev, struct vrdma_db_entry *db)
{
	spin_lock(&dev->user_dbs_lock);
	list_del(&db->link);
	spin_unlock(&dev->user_dbs_lock);
}

/* dev->halted is set already. */
void vrdma_ucontexts_tell_death(struct vrdma_dev *dev)
{
	struct vrdma_db_entry *db;

	spin_lock(&dev->user_dbs_lock);
	list_for_each_entry(db, &dev->user_dbs, link)
		vrdma_db_set_alive(db, false);
	spin_unlock(&dev->user_dbs_lock);
}

void vrdma_mmap_free(struct rdma_user_mmap_entry *entry)
{
	struct vrdma_db_entry *db = container_of(entry, struct vrdma_db_entry,
						 entry);
	struct vrdma_dev *dev = to_vrdma_dev(entry->ucontext->device);

	vrdma_db_delist(dev, db);
	vrdma_buf_free(dev, db->buf);
	kfree(db);
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

int vrdma_alloc_ucontext(struct ib_ucontext *ibuc, struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibuc->device);
	struct virtio_rdma_alloc_ucontext_resp resp = {};
	struct vrdma_ucontext *uc = to_vrdma_uc(ibuc);
	struct vrdma_db_entry *db;
	struct vrdma_buf *buf;
	int ret;

	ret = vrdma_no_req(udata);
	if (ret)
		return ret;
	db = kzalloc(sizeof(*db), GFP_KERNEL);
	if (!db)
		return -ENOMEM;
	buf = vrdma_buf_alloc(dev, PAGE_SIZE);
	if (IS_ERR(buf)) {
		ret = PTR_ERR(buf);
		goto err_db;
	}
	db->buf = buf;
	ret = vrdma_cmd_create_ctx(dev, 0, buf, &uc->ctx);
	if (ret) {
		vrdma_buf_release(dev, buf);
		goto err_db;
	}
	vrdma_db_enlist(dev, db);
	ret = rdma_user_mmap_entry_insert(ibuc, &db->entry, PAGE_SIZE);
	if (ret)
		goto err_ctx;
	uc->db_entry = &db->entry;

	resp.db_mmap_size = PAGE_SIZE;
	resp.db_mmap_offset = rdma_user_mmap_get_offset(&db->entry);
	resp.max_inline = dev->attr.max_inline;
	ret = ib_copy_to_udata(udata, &resp, min(sizeof(resp), udata->outlen));
	if (ret) {
		/* From here on the entry owns the page. */
		vrdma_dealloc_ucontext(ibuc);
		return ret;
	}
	return 0;

err_ctx:
	vrdma_db_delist(dev, db);
	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_CTX, uc->ctx);
	vrdma_buf_free(dev, buf);
err_db:
	kfree(db);
	return ret;
}

void vrdma_dealloc_ucontext(struct ib_ucontext *ibuc)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibuc->device);
	struct vrdma_ucontext *uc = to_vrdma_uc(ibuc);
	struct vrdma_db_entry *db = container_of(uc->db_entry,
						 struct vrdma_db_entry, entry);

	vrdma_cmd_destroy(dev, VIRTIO_RDMA_CMD_DESTROY_CTX, uc->ctx);
	/* mmap_free() frees the page when the last mapping is removed. */
	rdma_user_mmap_entry_remove(&db->entry);
}

int vrdma_mmap(struct ib_ucontext *ibuc, struct vm_area_struct *vma)
{
	struct rdma_user_mmap_entry *entry;
	struct vrdma_db_entry *db;
	int ret;

	entry = rdma_user_mmap_entry_get(ibuc, vma);
	if (!entry)
		return -EINVAL;
	db = container_of(entry, struct vrdma_db_entry, entry);
	/* The core tracks the mapping and removes it on disassociation. */
	ret = rdma_user_mmap_io(ibuc, vma, vrdma_buf_pfn(db->buf),
				PAGE_SIZE, vma->vm_page_prot, entry);
	rdma_user_mmap_entry_put(entry);
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
