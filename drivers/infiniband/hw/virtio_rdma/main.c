// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * virtio-rdma: the virtio driver.  Binds to the device and makes an ib_device of
 * it.  Entered by the virtio core.
 *
 * A device that lost its state asks for a reset, and one that was suspended has
 * none.  Both are released and probed again, by the driver core, as by an unbind
 * and a bind: the virtio core then resets the device and negotiates.
 */
#include <linux/device.h>
#include <linux/module.h>
#include <linux/virtio_config.h>
#include <linux/workqueue.h>

#include "cmd.h"

/*
 * Runs struct vrdma_reprobe.  Freezable, because children of a device that has
 * not resumed yet cannot be registered.
 */
static struct workqueue_struct *vrdma_reprobe_wq;

/**
 * struct vrdma_reprobe - one release and probe of a device
 * @work:    runs on vrdma_reprobe_wq
 * @vdev:    the device, with a reference
 * @resumed: after a resume; else only if the device asks for it
 *
 * Not part of what belongs to a bound device: that ends while the work runs.
 */
struct vrdma_reprobe {
	struct work_struct work;
	struct virtio_device *vdev;
	bool resumed;
};

static struct virtio_driver vrdma_driver;

/* Returns whether the driver is bound, and the device needs to be probed again. */
static bool vrdma_reprobe_needed(const struct vrdma_reprobe *r)
{
	struct virtio_device *vdev = r->vdev;
	bool needed = false;

	device_lock(&vdev->dev);
	if (vdev->dev.driver != &vrdma_driver.driver)
		goto out;
	/* Released by a suspend, and not probed again since. */
	if (!vdev->priv) {
		needed = r->resumed;
		goto out;
	}
	if (!r->resumed) {
		struct vrdma_dev *dev = vdev->priv;

		clear_bit(0, &dev->reprobe_queued);
		/* A change after this bit was cleared is not missed. */
		smp_mb__after_atomic();
	}
	if (vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_NEEDS_RESET)
		vrdma_dev_kill(vdev->priv, -EIO,
			       "it lost its state and asks for a reset");
	/* A device that failed for another reason has been reset already. */
	needed = vrdma_dead(vdev->priv);
out:
	device_unlock(&vdev->dev);
	return needed;
}

static void vrdma_reprobe_work(struct work_struct *work)
{
	struct vrdma_reprobe *r = container_of(work, struct vrdma_reprobe,
					       work);
	struct virtio_device *vdev = r->vdev;

	if (vrdma_reprobe_needed(r)) {
		if (device_reprobe(&vdev->dev) < 0 || !vdev->priv)
			dev_err(&vdev->dev,
				"it does not start after the reset: rebind the driver to try again\n");
		else
			dev_info(&vdev->dev, "started again after a reset\n");
	}
	put_device(&vdev->dev);
	kfree(r);
}

/* Any context. */
static int vrdma_reprobe(struct virtio_device *vdev, bool resumed)
{
	struct vrdma_reprobe *r = kzalloc(sizeof(*r), GFP_ATOMIC);

	if (!r)
		return -ENOMEM;
	INIT_WORK(&r->work, vrdma_reprobe_work);
	get_device(&vdev->dev);
	r->vdev = vdev;
	r->resumed = resumed;
	queue_work(vrdma_reprobe_wq, &r->work);
	return 0;
}

/*
 * The configuration changes only when the device asks for a reset.  May run in
 * interrupt context: the work reads the status, which may sleep.  One work item
 * answers all changes before it runs.  The virtio core calls this only while the
 * driver is bound, so priv is valid.
 */
static void vrdma_config_changed(struct virtio_device *vdev)
{
	struct vrdma_dev *dev = vdev->priv;

	if (!dev || test_and_set_bit(0, &dev->reprobe_queued))
		return;
	if (vrdma_reprobe(vdev, false)) {
		clear_bit(0, &dev->reprobe_queued);
		dev_err(&vdev->dev, "no memory to answer a change of the configuration\n");
	}
}

/* Accepted if the device offers them. */
static const unsigned int vrdma_features[] = {
	VIRTIO_RDMA_F_UC,
	VIRTIO_RDMA_F_SRQ,
	VIRTIO_RDMA_F_ATOMIC,
	VIRTIO_RDMA_F_ATOMIC_GLOBAL,
	VIRTIO_RDMA_F_RESIZE_CQ,
	VIRTIO_RDMA_F_DMA_KEY,
	VIRTIO_RDMA_F_RNR_NAK,
	VIRTIO_RDMA_F_MEM_MGT,
};

static u64 vrdma_read_features(struct virtio_device *vdev)
{
	u64 features = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vrdma_features); i++) {
		if (virtio_has_feature(vdev, vrdma_features[i]))
			features |= BIT_ULL(vrdma_features[i]);
	}
	return features;
}

static int vrdma_validate(struct virtio_device *vdev)
{
	if (!virtio_has_feature(vdev, VIRTIO_F_VERSION_1)) {
		dev_err(&vdev->dev,
			"the device does not offer VIRTIO_F_VERSION_1: add disable-legacy=on,disable-modern=off on the host\n");
		return -ENODEV;
	}
	if (!virtio_has_feature(vdev, VIRTIO_F_ACCESS_PLATFORM)) {
		dev_err(&vdev->dev,
			"the device does not offer VIRTIO_F_ACCESS_PLATFORM: add iommu_platform=on on the host\n");
		return -ENODEV;
	}
	/* ATOMIC_GLOBAL qualifies ATOMIC. */
	if (!virtio_has_feature(vdev, VIRTIO_RDMA_F_ATOMIC))
		__virtio_clear_bit(vdev, VIRTIO_RDMA_F_ATOMIC_GLOBAL);
	return 0;
}

static int vrdma_probe(struct virtio_device *vdev)
{
	struct vrdma_dev *dev = vrdma_dev_create(vdev,
						 vrdma_read_features(vdev));

	return PTR_ERR_OR_ZERO(dev);
}

static void vrdma_remove(struct virtio_device *vdev)
{
	if (vdev->priv)
		vrdma_dev_destroy(vdev->priv);
	else
		/* Suspended: the core expects a device that was reset. */
		virtio_reset_device(vdev);
}

#ifdef CONFIG_PM_SLEEP
/* A reset destroys all objects of the device, so its users lose them. */
static int vrdma_freeze(struct virtio_device *vdev)
{
	if (vdev->priv)
		vrdma_dev_destroy(vdev->priv);
	return 0;
}

static int vrdma_restore(struct virtio_device *vdev)
{
	return vrdma_reprobe(vdev, true);
}
#endif

static const struct virtio_device_id vrdma_id_table[] = {
	{ VIRTIO_ID_RDMA, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, vrdma_id_table);

static struct virtio_driver vrdma_driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.id_table = vrdma_id_table,
	.feature_table = vrdma_features,
	.feature_table_size = ARRAY_SIZE(vrdma_features),
	.validate = vrdma_validate,
	.probe = vrdma_probe,
	.remove = vrdma_remove,
	.config_changed = vrdma_config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = vrdma_freeze,
	.restore = vrdma_restore,
#endif
};

static int __init vrdma_init(void)
{
	int ret;

	vrdma_reprobe_wq = alloc_workqueue("virtio_rdma_reprobe",
					   WQ_UNBOUND | WQ_FREEZABLE, 0);
	if (!vrdma_reprobe_wq)
		return -ENOMEM;
	ret = register_virtio_driver(&vrdma_driver);
	if (ret)
		destroy_workqueue(vrdma_reprobe_wq);
	return ret;
}

static void __exit vrdma_exit(void)
{
	unregister_virtio_driver(&vrdma_driver);
	/* No device is bound, so no work is queued any more. */
	destroy_workqueue(vrdma_reprobe_wq);
}

module_init(vrdma_init);
module_exit(vrdma_exit);

MODULE_DESCRIPTION("virtio-rdma: RDMA device for virtual machines");
MODULE_LICENSE("Dual BSD/GPL");
