/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * All differences between the kernel versions that this driver builds for, and
 * nothing else: 6.1 is the oldest, 7.3 the newest that it was built on.  In a
 * kernel tree there is no such file.
 */
#ifndef VRDMA_COMPAT_H
#define VRDMA_COMPAT_H

#include <linux/mm.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>
#include <rdma/uverbs_ioctl.h>

struct ib_mr *vrdma_reg_user_mr(struct ib_pd *ibpd, u64 start, u64 length,
				u64 iova, int access, struct ib_udata *udata);

/*
 * Whether a mapping of whole pages of user memory uses a bounce buffer or memory that is not
 * coherent, instead of the memory itself.  The DMA API returns whether a mapping needs to be
 * synchronised.  Behind an IOMMU some kernels always return true, but whole pages are never
 * bounced there.
 */
static inline bool vrdma_dma_bounced(struct device *dma_dev, dma_addr_t addr)
{
#ifdef CONFIG_IOMMU_API
	struct iommu_domain *domain = iommu_get_domain_for_dev(dma_dev);

	if (domain && (domain->type & __IOMMU_DOMAIN_DMA_API))
		return false;
#endif
	return dma_need_sync(dma_dev, addr);
}

/* Since 6.3 the flags of a mapping are changed by functions only. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_clear(struct vm_area_struct *vma,
				  unsigned long flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* Since 6.6 a virtqueue has a function that returns the device for its DMA addresses. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
static inline struct device *vrdma_vq_dma_dev(struct virtqueue *vq)
{
	return vq->vdev->dev.parent;
}
#else
static inline struct device *vrdma_vq_dma_dev(struct virtqueue *vq)
{
	return virtqueue_dma_dev(vq);
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)

struct virtqueue_info {
	const char *name;
	vq_callback_t *callback;
	bool ctx;
};

/* Until 6.10 names and callbacks were two arrays. */
static inline int vrdma_find_vqs(struct virtio_device *vdev, unsigned int nvqs,
				 struct virtqueue *vqs[],
				 struct virtqueue_info info[],
				 struct irq_affinity *desc)
{
	vq_callback_t **callbacks;
	const char **names;
	unsigned int i;
	int ret = -ENOMEM;

	callbacks = kcalloc(nvqs, sizeof(*callbacks), GFP_KERNEL);
	names = kcalloc(nvqs, sizeof(*names), GFP_KERNEL);
	if (!callbacks || !names)
		goto out;
	for (i = 0; i < nvqs; i++) {
		callbacks[i] = info[i].callback;
		names[i] = info[i].name;
	}
	ret = virtio_find_vqs(vdev, nvqs, vqs, callbacks, names, desc);
out:
	kfree(names);
	kfree(callbacks);
	return ret;
}

/* Until 6.10 create_cq() got the udata itself. */
#define vrdma_cq_attrs	ib_udata

static inline struct ib_udata *vrdma_cq_udata(struct ib_udata *udata)
{
	return udata;
}

#else

static inline int vrdma_find_vqs(struct virtio_device *vdev, unsigned int nvqs,
				 struct virtqueue *vqs[],
				 struct virtqueue_info info[],
				 struct irq_affinity *desc)
{
	return virtio_find_vqs(vdev, nvqs, vqs, info, desc);
}

#define vrdma_cq_attrs	uverbs_attr_bundle

static inline struct ib_udata *vrdma_cq_udata(struct uverbs_attr_bundle *attrs)
{
	return attrs ? &attrs->driver_udata : NULL;
}

#endif

/* Since 6.10 the core tracks SRQs as it does other objects. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
#define VRDMA_SRQ_RES_OPS
#else
#define VRDMA_SRQ_RES_OPS	.fill_res_srq_entry = vrdma_fill_res_srq,
#endif

/* Since 6.14 the core reports the netdev's state, unless the driver does. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#define VRDMA_PORT_EVENT_OPS
#else
static inline void vrdma_report_port_event(struct ib_device *ibdev,
					   struct net_device *ndev,
					   unsigned long event)
{
	/* netdev.c has a notifier, and combines it with the device's state. */
}

#define VRDMA_PORT_EVENT_OPS	.report_port_event = vrdma_report_port_event,
#endif

/* Since 6.17 a region may come with a hint for the device's caches. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define vrdma_op_reg_user_mr	vrdma_reg_user_mr
#else
static inline struct ib_mr *vrdma_op_reg_user_mr(struct ib_pd *ibpd, u64 start,
						 u64 length, u64 iova,
						 int access,
						 struct ib_dmah *dmah,
						 struct ib_udata *udata)
{
	if (dmah)
		return ERR_PTR(-EOPNOTSUPP);
	return vrdma_reg_user_mr(ibpd, start, length, iova, access, udata);
}
#endif

/* Since 7.2 the CQs of processes have operations of their own. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0)
#define VRDMA_CQ_OPS		.create_cq = vrdma_create_cq,
#define VRDMA_RESIZE_OPS	.resize_cq = vrdma_resize_cq,
#define vrdma_cqe_t		int
#define vrdma_umem_get		ib_umem_get
#else
#define VRDMA_CQ_OPS		.create_cq = vrdma_create_cq, \
				.create_user_cq = vrdma_create_cq,
#define VRDMA_RESIZE_OPS	.resize_user_cq = vrdma_resize_cq,
#define vrdma_cqe_t		unsigned int
#define vrdma_umem_get		ib_umem_get_va
#endif

#endif /* VRDMA_COMPAT_H */
