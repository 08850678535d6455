// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Events in the life of a device that a test cannot cause from user space: module
 * vrdma_klife, loaded by tests in a QEMU guest.
 *
 *   action=freeze, action=restore	calls the power management function of the PCI function,
 *					as a hibernation of the system does.  The guest's other
 *					devices continue: its root (9p) does not survive a
 *					hibernation.
 *   fail=FUNCTION			from before the action until the module is unloaded,
 *					FUNCTION, which returns an int, returns -EIO.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/device.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pm.h>
#include <linux/string.h>

/* The PCI ID of a virtio device is its virtio ID (42) plus 0x1040. */
#define PCI_DEVICE_ID_VIRTIO_RDMA	(0x1040 + 42)

static char *action;
module_param(action, charp, 0444);
MODULE_PARM_DESC(action, "freeze or restore");

static char *fail;
module_param(fail, charp, 0444);
MODULE_PARM_DESC(fail, "function that fails while the module is loaded");

static int kl_returned(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	regs_set_return_value(regs, -EIO);
	return 0;
}

static struct kretprobe kl_probe = {
	.handler = kl_returned,
	.maxactive = 16,
};

/*
 * A system restores its devices while freezable workqueues, such as the driver's that probes
 * the device again, are frozen.  Here they are not, so the lock of the virtio device, which
 * that work takes first, holds it back.
 */
static int kl_restore(struct device *dev, int (*fn)(struct device *dev))
{
	struct device *vdev = device_find_any_child(dev);
	int ret;

	if (!vdev)
		return -ENODEV;
	device_lock(vdev);
	ret = fn(dev);
	device_unlock(vdev);
	put_device(vdev);
	return ret;
}

/* Calls the function of the action. */
static int kl_act(struct device *dev)
{
	const struct dev_pm_ops *pm = dev->driver ? dev->driver->pm : NULL;
	int (*fn)(struct device *dev) = NULL;
	int ret;

	if (pm && !strcmp(action, "freeze"))
		fn = pm->freeze;
	else if (pm && !strcmp(action, "restore"))
		fn = pm->restore;
	if (!fn)
		return -EINVAL;
	device_lock(dev);
	ret = fn == pm->restore ? kl_restore(dev, fn) : fn(dev);
	device_unlock(dev);
	pr_info("%s: %d\n", action, ret);
	return ret;
}

static int __init kl_init(void)
{
	struct pci_dev *pdev;
	int ret;

	if (!action)
		return -EINVAL;
	pdev = pci_get_device(PCI_VENDOR_ID_REDHAT_QUMRANET,
			      PCI_DEVICE_ID_VIRTIO_RDMA, NULL);
	if (!pdev)
		return -ENODEV;
	kl_probe.kp.symbol_name = fail;
	ret = fail ? register_kretprobe(&kl_probe) : 0;
	if (!ret) {
		ret = kl_act(&pdev->dev);
		if (ret && fail)
			unregister_kretprobe(&kl_probe);
	}
	pci_dev_put(pdev);
	return ret;
}

static void __exit kl_exit(void)
{
	if (fail)
		unregister_kretprobe(&kl_probe);
}

module_init(kl_init);
module_exit(kl_exit);

MODULE_DESCRIPTION("virtio-rdma: suspends the device or makes the driver fail, for tests");
MODULE_LICENSE("GPL");
