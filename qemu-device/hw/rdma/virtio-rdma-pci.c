/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma-pci: the PCI device for virtio-rdma
 *
 * Modern virtio only.  The PCI class is that of InfiniBand controllers, which
 * RDMA adapters use, so that lspci and hwloc recognise the device.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "hw/pci/pci.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-pci.h"
#include "qom/object.h"
#include "virtio-rdma.h"

/* PCI_CLASS_NETWORK with the subclass of InfiniBand controllers. */
#define PCI_CLASS_NETWORK_INFINIBAND 0x0207

#define TYPE_VIRTIO_RDMA_PCI "virtio-rdma-pci-base"
OBJECT_DECLARE_SIMPLE_TYPE(VirtIORDMAPCI, VIRTIO_RDMA_PCI)

struct VirtIORDMAPCI {
    VirtIOPCIProxy parent_obj;
    VirtIORDMA vdev;
};

static const Property virtio_rdma_pci_properties[] = {
    DEFINE_PROP_UINT32("vectors", VirtIOPCIProxy, nvectors,
                       DEV_NVECTORS_UNSPECIFIED),
};

static void virtio_rdma_pci_realize(VirtIOPCIProxy *vpci_dev, Error **errp)
{
    VirtIORDMAPCI *dev = VIRTIO_RDMA_PCI(vpci_dev);
    VirtIORDMABase *base = VIRTIO_RDMA_BASE(&dev->vdev);
    unsigned int num;

    /* One vector for each queue, and one for configuration changes. */
    if (vpci_dev->nvectors == DEV_NVECTORS_UNSPECIFIED) {
        num = base->num_comp_vectors ?: virtio_rdma_default_comp_vectors();
        vpci_dev->nvectors = MIN(num, VIRTIO_RDMA_MAX_COMP_VECTORS) +
                             VIRTIO_RDMA_VQ_COMP_BASE + 1;
    }
    virtio_pci_force_virtio_1(vpci_dev);
    qdev_realize(DEVICE(&dev->vdev), BUS(&vpci_dev->bus), errp);
}

static void virtio_rdma_pci_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioPCIClass *k = VIRTIO_PCI_CLASS(klass);
    PCIDeviceClass *pcidev_k = PCI_DEVICE_CLASS(klass);

    k->realize = virtio_rdma_pci_realize;
    set_bit(DEVICE_CATEGORY_NETWORK, dc->categories);
    device_class_set_props(dc, virtio_rdma_pci_properties);
    pcidev_k->vendor_id = PCI_VENDOR_ID_REDHAT_QUMRANET;
    pcidev_k->device_id = 0; /* set by virtio-pci: 0x1040 + VIRTIO_ID_RDMA */
    pcidev_k->revision = VIRTIO_PCI_ABI_VERSION;
    pcidev_k->class_id = PCI_CLASS_NETWORK_INFINIBAND;
}

static void virtio_rdma_pci_instance_init(Object *obj)
{
    VirtIORDMAPCI *dev = VIRTIO_RDMA_PCI(obj);

    virtio_instance_init_common(obj, &dev->vdev, sizeof(dev->vdev),
                                TYPE_VIRTIO_RDMA);
    object_property_add_alias(obj, "stats", OBJECT(&dev->vdev), "stats");
    object_property_add_alias(obj, "engine-stats", OBJECT(&dev->vdev),
                              "engine-stats");
}

static const VirtioPCIDeviceTypeInfo virtio_rdma_pci_info = {
    .base_name = TYPE_VIRTIO_RDMA_PCI,
    .generic_name = "virtio-rdma-pci",
    .instance_size = sizeof(VirtIORDMAPCI),
    .instance_init = virtio_rdma_pci_instance_init,
    .class_init = virtio_rdma_pci_class_init,
};

static void virtio_rdma_pci_register_types(void)
{
    virtio_pci_types_register(&virtio_rdma_pci_info);
}

type_init(virtio_rdma_pci_register_types)
