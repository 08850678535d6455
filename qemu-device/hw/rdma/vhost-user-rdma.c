/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma: the device with its core in a vhost-user daemon (vrdmad)
 *
 * The daemon may exit and be restarted.  The new daemon does not have the
 * guest's objects, so the device sets NEEDS_RESET and the guest's driver
 * starts over without a reboot.  A guest that has not used the old daemon is
 * not affected.
 *
 * Runs in the main loop or a vCPU thread, with the BQL held.  A connection may
 * break during any vhost call; a bottom half cleans it up later.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "exec/cpu-common.h"
#include "hw/boards.h"
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/virtio-bus.h"
#include "migration/blocker.h"
#include "system/hostmem.h"
#include "system/numa.h"
#include "virtio-rdma.h"
#include "trace.h"

/* Feature bits that the daemon has to support. */
static const int vhost_user_rdma_feature_bits[] = {
    VIRTIO_RDMA_F_UC,
    VIRTIO_RDMA_F_SRQ,
    VIRTIO_RDMA_F_ATOMIC,
    VIRTIO_RDMA_F_ATOMIC_GLOBAL,
    VIRTIO_RDMA_F_RESIZE_CQ,
    VIRTIO_RDMA_F_DMA_KEY,
    VIRTIO_RDMA_F_RNR_NAK,
    VIRTIO_F_VERSION_1,
    VIRTIO_F_IOMMU_PLATFORM,
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_F_NOTIFY_ON_EMPTY,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_RING_RESET,
    VIRTIO_F_IN_ORDER,
    VIRTIO_F_NOTIFICATION_DATA,
    VHOST_INVALID_FEATURE_BIT
};

static void vhost_user_rdma_event(void *opaque, QEMUChrEvent event);

/* ---- guest memory ----------------------------------------------------- */

static bool vhost_user_rdma_mr_is_shared(MemoryRegion *mr)
{
    return mr->ram_block && qemu_ram_is_shared(mr->ram_block) &&
           memory_region_get_fd(mr) >= 0;
}

/* The daemon maps the guest's RAM: all of it has to be a shared file. */
static bool vhost_user_rdma_check_memory(Error **errp)
{
    ERRP_GUARD();
    MachineState *ms = current_machine;
    bool shared = true;
    int i;

    if (ms->ram && memory_region_is_ram(ms->ram)) {
        shared = vhost_user_rdma_mr_is_shared(ms->ram);
    } else if (ms->numa_state) {
        for (i = 0; i < ms->numa_state->num_nodes; i++) {
            HostMemoryBackend *mem = ms->numa_state->nodes[i].node_memdev;

            if (mem && !vhost_user_rdma_mr_is_shared(
                           host_memory_backend_get_memory(mem))) {
                shared = false;
            }
        }
    }
    if (!shared) {
        error_setg(errp, "vhost-user-rdma: the guest's memory is not shared "
                   "with the daemon");
        error_append_hint(errp, "Add -object memory-backend-memfd,id=mem,"
                          "size=%" PRIu64 "M,share=on -machine "
                          "memory-backend=mem\n", ms->ram_size / MiB);
    }
    return shared;
}

/* ---- start and stop --------------------------------------------------- */

static int vhost_user_rdma_start(VHostUserRDMA *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    BusState *qbus = qdev_get_parent_bus(DEVICE(vdev));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(qbus);
    int i, ret;

    if (!k->set_guest_notifiers) {
        error_report("vhost-user-rdma: the bus has no guest notifiers");
        return -ENOSYS;
    }
    ret = vhost_dev_enable_notifiers(&s->dev, vdev);
    if (ret < 0) {
        error_report("vhost-user-rdma: cannot make host notifiers: %s",
                     strerror(-ret));
        return ret;
    }
    ret = k->set_guest_notifiers(qbus->parent, s->dev.nvqs, true);
    if (ret < 0) {
        error_report("vhost-user-rdma: cannot make guest notifiers: %s",
                     strerror(-ret));
        goto err_host;
    }
    s->dev.acked_features = vdev->guest_features;
    s->dev.vq_index_end = s->dev.nvqs;
    /*
     * virtio-pci handles masked vectors itself, because the device has no
     * guest_notifier_mask callback.
     */
    for (i = 0; i < s->dev.nvqs; i++) {
        vhost_virtqueue_mask(&s->dev, vdev, i, false);
    }
    ret = vhost_dev_start(&s->dev, vdev, true);
    if (ret < 0) {
        error_report("vhost-user-rdma: cannot start: %s", strerror(-ret));
        goto err_guest;
    }
    s->started = true;
    trace_vhost_user_rdma_start(s);
    return 0;

err_guest:
    k->set_guest_notifiers(qbus->parent, s->dev.nvqs, false);
err_host:
    vhost_dev_disable_notifiers(&s->dev, vdev);
    return ret;
}

static void vhost_user_rdma_stop(VHostUserRDMA *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    BusState *qbus = qdev_get_parent_bus(DEVICE(vdev));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(qbus);
    int ret;

    if (!s->started) {
        return;
    }
    s->started = false;
    trace_vhost_user_rdma_stop(s);
    vhost_dev_stop(&s->dev, vdev, true);
    ret = k->set_guest_notifiers(qbus->parent, s->dev.nvqs, false);
    if (ret < 0) {
        error_report("vhost-user-rdma: cannot remove guest notifiers: %s",
                     strerror(-ret));
    }
    vhost_dev_disable_notifiers(&s->dev, vdev);
}

static void vhost_user_rdma_set_status(VirtIODevice *vdev, uint8_t status)
{
    VHostUserRDMA *s = VHOST_USER_RDMA(vdev);
    VirtIORDMABase *base = VIRTIO_RDMA_BASE(s);
    bool should_start = virtio_device_should_start(vdev, status) &&
                        !base->needs_reset;

    if (!s->connected || s->started == should_start) {
        return;
    }
    if (!should_start) {
        vhost_user_rdma_stop(s);
        return;
    }
    s->used = true;
    if (vhost_user_rdma_start(s) < 0) {
        virtio_rdma_base_set_needs_reset(base);
    }
}

/*
 * virtio_reset() has already made the daemon, if connected, destroy all
 * objects.
 */
static void vhost_user_rdma_reset(VirtIODevice *vdev)
{
    VHostUserRDMA *s = VHOST_USER_RDMA(vdev);

    s->used = false;
    virtio_rdma_base_reset(VIRTIO_RDMA_BASE(s));
}

/* ---- features and configuration --------------------------------------- */

static uint64_t vhost_user_rdma_get_features(VirtIODevice *vdev,
                                             uint64_t features, Error **errp)
{
    VHostUserRDMA *s = VHOST_USER_RDMA(vdev);

    features |= virtio_rdma_base_features(VIRTIO_RDMA_BASE(s));
    return vhost_get_features(&s->dev, vhost_user_rdma_feature_bits, features);
}

static void vhost_user_rdma_get_config(VirtIODevice *vdev, uint8_t *config)
{
    VHostUserRDMA *s = VHOST_USER_RDMA(vdev);

    memcpy(config, &s->config, vdev->config_len);
}

static bool vhost_user_rdma_read_config(VHostUserRDMA *s, Error **errp)
{
    ERRP_GUARD();
    struct virtio_rdma_config config = {};
    unsigned int vectors;

    if (vhost_dev_get_config(&s->dev, (uint8_t *)&config, sizeof(config),
                             errp) < 0) {
        return false;
    }
    vectors = le16_to_cpu(config.num_comp_vectors);
    if (!vectors || vectors > VIRTIO_RDMA_MAX_COMP_VECTORS ||
        (config.mac[0] & 1)) {
        error_setg(errp, "the daemon at chardev '%s' serves no virtio-rdma "
                   "device", s->chardev.chr->label);
        error_append_hint(errp, "Connect it to the socket of a vrdmad.\n");
        return false;
    }
    s->config = config;
    return true;
}

/* The guest sees as many completion vectors as the device has queues for. */
static bool vhost_user_rdma_update_config(VHostUserRDMA *s, Error **errp)
{
    ERRP_GUARD();
    VirtIORDMABase *base = VIRTIO_RDMA_BASE(s);
    unsigned int vectors;

    if (!vhost_user_rdma_read_config(s, errp)) {
        return false;
    }
    vectors = le16_to_cpu(s->config.num_comp_vectors);
    if (vectors < base->num_comp_vectors) {
        error_setg(errp, "vhost-user-rdma: the daemon has %u completion "
                   "vectors, the device %u", vectors, base->num_comp_vectors);
        error_append_hint(errp, "Start the daemon with as many, or give "
                          "num-comp-vectors=%u to the device.\n", vectors);
        return false;
    }
    s->config.num_comp_vectors = cpu_to_le16(base->num_comp_vectors);
    return true;
}

/* The daemon changed its configuration, for example the MAC. */
static int vhost_user_rdma_config_changed(struct vhost_dev *dev)
{
    VHostUserRDMA *s = container_of(dev, VHostUserRDMA, dev);
    Error *err = NULL;

    if (!s->started) {
        return 0;
    }
    if (!vhost_user_rdma_update_config(s, &err)) {
        error_report_err(err);
        return -EINVAL;
    }
    virtio_notify_config(VIRTIO_DEVICE(s));
    return 0;
}

static const VhostDevConfigOps vhost_user_rdma_config_ops = {
    .vhost_dev_config_notifier = vhost_user_rdma_config_changed,
};

/* ---- connection ------------------------------------------------------- */

static int vhost_user_rdma_init_dev(VHostUserRDMA *s, unsigned int num_vqs,
                                    Error **errp)
{
    s->dev.nvqs = num_vqs;
    s->dev.num_queues = num_vqs;
    s->dev.vqs = s->vhost_vqs;
    s->dev.vq_index = 0;
    s->dev.backend_features = 0;
    vhost_dev_set_config_notifier(&s->dev, &vhost_user_rdma_config_ops);
    s->vhost_user.supports_config = true;

    return vhost_dev_init(&s->dev, &s->vhost_user, VHOST_BACKEND_TYPE_USER, 0,
                          errp);
}

static bool vhost_user_rdma_check_features(VHostUserRDMA *s, Error **errp)
{
    /* The guest keeps the features that the device has offered. */
    uint64_t needed = BIT_ULL(VIRTIO_F_VERSION_1) |
                      BIT_ULL(VIRTIO_F_IOMMU_PLATFORM) |
                      (VIRTIO_DEVICE(s)->host_features & VRD_DEVICE_FEATURES);
    uint64_t missing = needed & ~s->dev.features;

    if (missing) {
        error_setg(errp, "vhost-user-rdma: the daemon lacks features 0x%"
                   PRIx64 " that the device needs", missing);
        return false;
    }
    return true;
}

static bool vhost_user_rdma_connect(VHostUserRDMA *s, Error **errp)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    VirtIORDMABase *base = VIRTIO_RDMA_BASE(s);

    if (s->connected) {
        return true;
    }
    if (vhost_user_rdma_init_dev(s, base->num_vqs, errp) < 0) {
        return false;
    }
    if (!vhost_user_rdma_check_features(s, errp) ||
        !vhost_user_rdma_update_config(s, errp)) {
        vhost_dev_cleanup(&s->dev);
        return false;
    }
    /*
     * Remove vhost's migration blocker, which names a missing feature: the
     * blocker of virtio_rdma_base_realize() has the reason.
     */
    migrate_del_blocker(&s->dev.migration_blocker);
    s->connected = true;
    trace_vhost_user_rdma_connect(s, base->num_vqs);

    if (s->used) {
        info_report("vhost-user-rdma: the daemon at chardev '%s' is back: the "
                    "guest's driver has to start over",
                    s->chardev.chr->label);
        virtio_rdma_base_set_needs_reset(base);
    } else {
        /* The driver may have set DRIVER_OK while there was no connection. */
        vhost_user_rdma_set_status(vdev, vdev->status);
    }
    return true;
}

static void vhost_user_rdma_disconnect(DeviceState *dev)
{
    VHostUserRDMA *s = VHOST_USER_RDMA(dev);

    /* The device was unrealized while the bottom half was pending. */
    if (!s->vhost_vqs) {
        object_unref(OBJECT(dev));
        return;
    }
    if (s->connected) {
        s->connected = false;
        trace_vhost_user_rdma_disconnect(s);
        warn_report("vhost-user-rdma: lost the daemon at chardev '%s'; the "
                    "device works again when it is back (if the chardev has "
                    "reconnect-ms=)", s->chardev.chr->label);
        vhost_user_rdma_stop(s);
        vhost_dev_cleanup(&s->dev);
    }
    /* vhost_user_async_close() has removed the handler. */
    qemu_chr_fe_set_handlers(&s->chardev, NULL, NULL, vhost_user_rdma_event,
                             NULL, dev, NULL, true);
    object_unref(OBJECT(dev));
}

static void vhost_user_rdma_event(void *opaque, QEMUChrEvent event)
{
    DeviceState *dev = opaque;
    VHostUserRDMA *s = VHOST_USER_RDMA(dev);
    Error *err = NULL;

    switch (event) {
    case CHR_EVENT_OPENED:
        if (!vhost_user_rdma_connect(s, &err)) {
            error_report_err(err);
            qemu_chr_fe_disconnect(&s->chardev);
        }
        break;
    case CHR_EVENT_CLOSED:
        object_ref(OBJECT(dev));
        vhost_user_async_close(dev, &s->chardev, &s->dev,
                               vhost_user_rdma_disconnect);
        break;
    case CHR_EVENT_BREAK:
    case CHR_EVENT_MUX_IN:
    case CHR_EVENT_MUX_OUT:
        break;
    }
}

/*
 * Number of completion vectors if num-comp-vectors is not given: that of the
 * guest's vCPUs, but not more than the daemon has.  The daemon's number is read
 * in a temporary vhost session, before the queues are created.
 */
static bool vhost_user_rdma_auto_vectors(VHostUserRDMA *s,
                                         unsigned int *vectors, Error **errp)
{
    bool ok;

    if (vhost_user_rdma_init_dev(s, 0, errp) < 0) {
        return false;
    }
    ok = vhost_user_rdma_read_config(s, errp);
    vhost_dev_cleanup(&s->dev);
    if (ok) {
        *vectors = MIN(virtio_rdma_default_comp_vectors(),
                       le16_to_cpu(s->config.num_comp_vectors));
    }
    return ok;
}

static bool vhost_user_rdma_realize_connect(VHostUserRDMA *s, Error **errp)
{
    ERRP_GUARD();
    VirtIORDMABase *base = VIRTIO_RDMA_BASE(s);
    unsigned int vectors = base->num_comp_vectors;

    if (qemu_chr_fe_wait_connected(&s->chardev, errp) < 0) {
        return false;
    }
    if (vectors == VIRTIO_RDMA_AUTO_COMP_VECTORS &&
        !vhost_user_rdma_auto_vectors(s, &vectors, errp)) {
        goto err;
    }
    if (!base->num_vqs) {
        virtio_rdma_base_set_num_vqs(base, vectors);
        s->vhost_vqs = g_new0(struct vhost_virtqueue, base->num_vqs);
    }
    if (!vhost_user_rdma_connect(s, errp)) {
        goto err;
    }
    return true;

err:
    qemu_chr_fe_disconnect(&s->chardev);
    return false;
}

/* ---- realize and unrealize ------------------------------------------- */

static void vhost_user_rdma_realize(DeviceState *dev, Error **errp)
{
    ERRP_GUARD();
    VHostUserRDMA *s = VHOST_USER_RDMA(dev);
    VirtIORDMABase *base = VIRTIO_RDMA_BASE(dev);

    if (!s->chardev.chr) {
        error_setg(errp, "vhost-user-rdma needs a chardev");
        error_append_hint(errp, "Give chardev=ID of a -chardev socket,id=ID,"
                          "path=SOCKET,reconnect-ms=1000 where SOCKET is "
                          "vrdmad's.\n");
        return;
    }
    if (!vhost_user_rdma_check_memory(errp)) {
        return;
    }
    if (!virtio_rdma_base_realize(base, errp)) {
        return;
    }
    if (!vhost_user_init(&s->vhost_user, &s->chardev, errp)) {
        goto err_base;
    }
    s->connected = false;
    s->started = false;
    s->used = false;
    if (!vhost_user_rdma_realize_connect(s, errp)) {
        goto err_user;
    }
    qemu_chr_fe_set_handlers(&s->chardev, NULL, NULL, vhost_user_rdma_event,
                             NULL, dev, NULL, true);
    virtio_rdma_base_check_tcg();
    return;

err_user:
    g_clear_pointer(&s->vhost_vqs, g_free);
    vhost_user_cleanup(&s->vhost_user);
err_base:
    virtio_rdma_base_unrealize(base);
}

static void vhost_user_rdma_unrealize(DeviceState *dev)
{
    VHostUserRDMA *s = VHOST_USER_RDMA(dev);

    virtio_set_status(VIRTIO_DEVICE(dev), 0);
    qemu_chr_fe_set_handlers(&s->chardev, NULL, NULL, NULL, NULL, NULL, NULL,
                             false);
    if (s->connected) {
        s->connected = false;
        vhost_dev_cleanup(&s->dev);
        /*
         * The chardev may continue to exist.  Disconnecting makes the daemon
         * reset the device and unmap the guest's memory.
         */
        qemu_chr_fe_disconnect(&s->chardev);
    }
    g_clear_pointer(&s->vhost_vqs, g_free);
    vhost_user_cleanup(&s->vhost_user);
    virtio_rdma_base_unrealize(VIRTIO_RDMA_BASE(dev));
}

static struct vhost_dev *vhost_user_rdma_get_vhost(VirtIODevice *vdev)
{
    return &VHOST_USER_RDMA(vdev)->dev;
}

static const Property vhost_user_rdma_properties[] = {
    DEFINE_PROP_CHR("chardev", VHostUserRDMA, chardev),
};

static void vhost_user_rdma_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);

    dc->desc = "RDMA port, served by a vhost-user daemon (vrdmad)";
    device_class_set_props(dc, vhost_user_rdma_properties);
    vdc->realize = vhost_user_rdma_realize;
    vdc->unrealize = vhost_user_rdma_unrealize;
    vdc->get_features = vhost_user_rdma_get_features;
    vdc->get_config = vhost_user_rdma_get_config;
    vdc->set_status = vhost_user_rdma_set_status;
    vdc->reset = vhost_user_rdma_reset;
    vdc->get_vhost = vhost_user_rdma_get_vhost;
}

static const TypeInfo vhost_user_rdma_info = {
    .name = TYPE_VHOST_USER_RDMA,
    .parent = TYPE_VIRTIO_RDMA_BASE,
    .instance_size = sizeof(VHostUserRDMA),
    .class_init = vhost_user_rdma_class_init,
};

static void vhost_user_rdma_register_types(void)
{
    type_register_static(&vhost_user_rdma_info);
}

type_init(vhost_user_rdma_register_types)
