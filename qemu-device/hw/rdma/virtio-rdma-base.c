/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma: common part of the in-process and the vhost-user device
 *
 * Queues, checks at realize, and the report to the driver that its objects are
 * lost: NEEDS_RESET in the device status and a configuration interrupt.  The
 * driver then resets the device, which makes it usable again without a reboot.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "hw/boards.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-bus.h"
#include "hw/virtio/virtio-pci.h"
#include "migration/blocker.h"
#include "qemu/accel.h"
#include "system/tcg.h"
#include "virtio-rdma.h"
#include "trace.h"

/* One completion vector for each vCPU. */
unsigned int virtio_rdma_default_comp_vectors(void)
{
    unsigned int n = current_machine->smp.cpus;

    return MIN(n, VIRTIO_RDMA_MAX_COMP_VECTORS);
}

/*
 * Kicks go from the guest to the core directly, through host notifiers.  A
 * kick that arrives here came while the device was stopped, and can be
 * ignored: the core checks every queue when it starts.
 */
static void virtio_rdma_handle_output(VirtIODevice *vdev, VirtQueue *vq)
{
    trace_virtio_rdma_stray_kick(vdev, virtio_get_queue_index(vq));
}

/* Adds or deletes completion queues, which follow the other queues. */
void virtio_rdma_base_set_num_vqs(VirtIORDMABase *base,
                                  unsigned int num_comp_vectors)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(base);
    unsigned int num = num_comp_vectors ?
                       VIRTIO_RDMA_VQ_COMP_BASE + num_comp_vectors : 0;

    while (base->num_vqs > num) {
        virtio_delete_queue(base->vqs[--base->num_vqs]);
    }
    base->vqs = g_renew(VirtQueue *, base->vqs, num);
    while (base->num_vqs < num) {
        base->vqs[base->num_vqs++] =
            virtio_add_queue(vdev, VIRTIO_RDMA_QUEUE_SIZE,
                             virtio_rdma_handle_output);
    }
    base->num_comp_vectors = num_comp_vectors;
}

static void virtio_rdma_needs_reset_bh(void *opaque)
{
    VirtIORDMABase *base = opaque;
    VirtIODevice *vdev = VIRTIO_DEVICE(base);

    /* The driver may have reset the device since the BH was scheduled. */
    if (!base->needs_reset) {
        return;
    }
    trace_virtio_rdma_needs_reset(vdev);
    vdev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    virtio_notify_config(vdev);
}

/*
 * The status is set in a bottom half, because a caller may be called by
 * virtio_set_status(), which overwrites the status afterwards.
 */
void virtio_rdma_base_set_needs_reset(VirtIORDMABase *base)
{
    if (!base->needs_reset) {
        base->needs_reset = true;
        qemu_bh_schedule(base->needs_reset_bh);
    }
}

void virtio_rdma_base_reset(VirtIORDMABase *base)
{
    base->needs_reset = false;
}

/*
 * If only one vCPU can run at a time, TCG omits the LOCK of atomic
 * instructions, and thus the memory barriers that guests build from them.  But
 * the device runs in other threads, and guest and device would miss wake-ups.
 */
void virtio_rdma_base_check_tcg(void)
{
    g_autofree char *thread = NULL;

    if (!tcg_enabled()) {
        return;
    }
    thread = object_property_get_str(OBJECT(current_accel()), "thread", NULL);
    if (!g_strcmp0(thread, "single")) {
        warn_report_once("virtio-rdma: TCG with thread=single drops the "
                         "guest's memory barriers, so that wake-ups may be "
                         "missed: use -accel tcg,thread=multi");
    } else if (current_machine->smp.max_cpus == 1) {
        warn_report_once("virtio-rdma: TCG with one possible CPU drops the "
                         "guest's memory barriers, so that wake-ups may be "
                         "missed: add -smp 1,maxcpus=2");
    }
}

bool virtio_rdma_base_realize(VirtIORDMABase *base, Error **errp)
{
    ERRP_GUARD();
    VirtIODevice *vdev = VIRTIO_DEVICE(base);

    if (!virtio_host_has_feature(vdev, VIRTIO_F_IOMMU_PLATFORM)) {
        error_setg(errp, "a virtio-rdma device needs iommu_platform=on");
        error_append_hint(errp, "It is the default: remove iommu_platform=off."
                          "\n");
        return false;
    }
    if (virtio_bus_device_iommu_enabled(vdev)) {
        error_setg(errp, "virtio-rdma does not work behind a virtual IOMMU");
        error_append_hint(errp, "Remove -device intel-iommu, amd-iommu or "
                          "virtio-iommu-pci (or iommu= of the machine), or put "
                          "the device on a bus with bypass_iommu=on.\n");
        return false;
    }
    if (base->num_comp_vectors > VIRTIO_RDMA_MAX_COMP_VECTORS) {
        error_setg(errp, "num-comp-vectors=%u is more than %u",
                   base->num_comp_vectors, VIRTIO_RDMA_MAX_COMP_VECTORS);
        return false;
    }

    error_setg(&base->migration_blocker,
               "virtio-rdma: the connections, memory registrations and rings "
               "of a guest cannot be migrated or saved; unplug the device "
               "first (device_del)");
    if (migrate_add_blocker(&base->migration_blocker, errp) < 0) {
        return false;
    }

    virtio_init(vdev, VIRTIO_ID_RDMA, sizeof(struct virtio_rdma_config));
    base->num_vqs = 0;
    base->vqs = NULL;
    base->needs_reset = false;
    base->needs_reset_bh = qemu_bh_new_guarded(virtio_rdma_needs_reset_bh, base,
                                               &DEVICE(base)->
                                               mem_reentrancy_guard);
    return true;
}

/* Feature bits of the device type that the user allows. */
uint64_t virtio_rdma_base_features(const VirtIORDMABase *base)
{
    uint64_t features = base->features;

    /* ATOMIC_GLOBAL requires ATOMIC. */
    if (!(features & BIT_ULL(VIRTIO_RDMA_F_ATOMIC))) {
        features &= ~BIT_ULL(VIRTIO_RDMA_F_ATOMIC_GLOBAL);
    }
    return features;
}

void virtio_rdma_base_unrealize(VirtIORDMABase *base)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(base);

    qemu_bh_delete(base->needs_reset_bh);
    base->needs_reset_bh = NULL;
    virtio_rdma_base_set_num_vqs(base, 0);
    g_clear_pointer(&base->vqs, g_free);
    virtio_cleanup(vdev);
    migrate_del_blocker(&base->migration_blocker);
}

/*
 * Without a vIOMMU, DMA addresses are guest-physical addresses.  The feature
 * makes the driver use the DMA API, which the device requires in any case.
 */
static void virtio_rdma_base_instance_init(Object *obj)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(obj);

    virtio_add_feature(&vdev->host_features, VIRTIO_F_IOMMU_PLATFORM);
}

static const Property virtio_rdma_base_properties[] = {
    DEFINE_PROP_UINT16("num-comp-vectors", VirtIORDMABase, num_comp_vectors,
                       VIRTIO_RDMA_AUTO_COMP_VECTORS),
    /*
     * Feature bits to offer if the core's transport supports them.  Turn a
     * feature off, for example, for a guest that is to move to a host without
     * it: a guest keeps the features that it has negotiated.
     */
    DEFINE_PROP_BIT64("uc", VirtIORDMABase, features,
                      VIRTIO_RDMA_F_UC, true),
    DEFINE_PROP_BIT64("srq", VirtIORDMABase, features,
                      VIRTIO_RDMA_F_SRQ, true),
    DEFINE_PROP_BIT64("atomic", VirtIORDMABase, features,
                      VIRTIO_RDMA_F_ATOMIC, true),
    DEFINE_PROP_BIT64("atomic-global", VirtIORDMABase, features,
                      VIRTIO_RDMA_F_ATOMIC_GLOBAL, true),
    DEFINE_PROP_BIT64("resize-cq", VirtIORDMABase, features,
                      VIRTIO_RDMA_F_RESIZE_CQ, true),
    DEFINE_PROP_BIT64("dma-key", VirtIORDMABase, features,
                      VIRTIO_RDMA_F_DMA_KEY, true),
    DEFINE_PROP_BIT64("rnr-nak", VirtIORDMABase, features,
                      VIRTIO_RDMA_F_RNR_NAK, true),
};

static void virtio_rdma_base_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    device_class_set_props(dc, virtio_rdma_base_properties);
    set_bit(DEVICE_CATEGORY_NETWORK, dc->categories);
}

static const TypeInfo virtio_rdma_base_info = {
    .name = TYPE_VIRTIO_RDMA_BASE,
    .parent = TYPE_VIRTIO_DEVICE,
    .instance_size = sizeof(VirtIORDMABase),
    .instance_init = virtio_rdma_base_instance_init,
    .class_size = sizeof(VirtIORDMABaseClass),
    .class_init = virtio_rdma_base_class_init,
    .abstract = true,
};

static void virtio_rdma_base_register_types(void)
{
    type_register_static(&virtio_rdma_base_info);
}

type_init(virtio_rdma_base_register_types)
