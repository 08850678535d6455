/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * All differences between the kernel versions that this driver builds for, and
 * nothing else: 6.1 is the oldest.  In a kernel tree this file is empty.
 */
#ifndef VRDMA_COMPAT_H
#define VRDMA_COMPAT_H

#include <linux/slab.h>
#include <linux/version.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <rdma/ib_verbs.h>
#include <rdma/uverbs_ioctl.h>

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

#endif /* VRDMA_COMPAT_H */
