/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma: what the in-process and the vhost-user device have in common
 *
 * Queues, the checks that both need at realize, and the one way to tell a
 * driver that its objects are gone: NEEDS_RESET in the device status and a
 * configuration interrupt.  The guest then resets the device, which makes it
 * usable again; nothing here needs a reboot.
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

/* Each vCPU can have a completion vector of its own. */
unsigned int virtio_rdma_default_comp_vectors(void)
{
    unsigned int n = current_machine->smp.cpus;

    return MIN(n, VIRTIO_RDMA_MAX_COMP_VECTORS);
}

/*
 * Kicks go straight from the guest to the core through host notifiers.  One
 * that comes here came while the device was stopped; the core looks at every
 * queue when it starts.
 */
static void virtio_rdma_handle_output(VirtIODevice *vdev, VirtQueue *vq)
{
    trace_virtio_rdma_stray_kick(vdev, virtio_get_queue_index(vq));
}

/* Adds or deletes completion queues, which are the last ones. */
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
 * From a bottom half, because callers may be within virtio_set_status(), which
 * assigns the status after them.
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
 * TCG drops atomic instructions' LOCK and the fences made of them when no two
 * vCPUs can run at once.  The device is another thread all the same: wake-ups
 * would be missed.
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

/* The bits of the device type that the transport may offer. */
uint64_t virtio_rdma_base_features(const VirtIORDMABase *base)
{
    uint64_t features = base->features;

    /* One is an addition to the other. */
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
 * Without a vIOMMU, device addresses are guest-physical addresses; the feature
 * makes the driver use the DMA API, which the device requires either way.
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
     * What the device offers if its transport has it.  Off, for example, on a
     * host from which a guest is to move to one that lacks it: a guest keeps
     * what it has negotiated.
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
