/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma: the device with its core in this process
 *
 * This file translates QEMU's view of the device (features, status, run state,
 * reset, hot-unplug) into calls of the core.  The threads of the core then do
 * all the work.  virtio-rdma-notify.c connects their kicks and calls with the
 * guest; virtio-rdma-mem.c passes the guest's RAM to the core.
 *
 * While the VM is stopped, the queues are stopped: the memory transport copies
 * no data, and the guest's objects are kept.  A reset destroys the objects.
 *
 * Runs in the main loop or a vCPU thread, with the BQL held.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-bus.h"
#include "virtio-rdma.h"
#include "core/vrd_mad.h"
#include "trace.h"

/*
 * Feature bits that the core offers; the virtio transport offers the others.
 */
#define VIRTIO_RDMA_CORE_FEATURES \
    (VRD_DEVICE_FEATURES | BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(VIRTIO_F_IOMMU_PLATFORM) | \
     BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | BIT_ULL(VIRTIO_RING_F_EVENT_IDX) | \
     BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT_ULL(VIRTIO_F_ANY_LAYOUT) | \
     BIT_ULL(VIRTIO_F_RING_PACKED) | BIT_ULL(VIRTIO_F_RING_RESET) | \
     BIT_ULL(VIRTIO_F_IN_ORDER) | BIT_ULL(VIRTIO_F_NOTIFICATION_DATA))

static void virtio_rdma_report(const char *what, const struct vrd_error *err)
{
    error_report("virtio-rdma: %s: %s", what, err->msg);
    if (err->hint[0]) {
        error_printf("%s\n", err->hint);
    }
}

/* ---- start and stop --------------------------------------------------- */

/* Stores the index at which the core stopped in QEMU's virtqueue. */
static void virtio_rdma_stop_vq(VirtIORDMA *s, unsigned int idx)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    uint16_t last_avail = 0;
    int ret;

    if (!virtio_queue_get_desc_addr(vdev, idx)) {
        return;
    }
    ret = vrd_device_vq_stop(s->dev, idx, &last_avail);
    trace_virtio_rdma_vq_stop(s, idx, last_avail, ret);
    if (ret < 0) {
        virtio_queue_restore_last_avail_idx(vdev, idx);
    } else {
        virtio_queue_set_last_avail_idx(vdev, idx, last_avail);
    }
    virtio_queue_invalidate_signalled_used(vdev, idx);
    virtio_queue_update_used_idx(vdev, idx);
}

static int virtio_rdma_start_vq(VirtIORDMA *s, unsigned int idx)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    struct vrd_vq_config cfg = {
        .num = virtio_queue_get_num(vdev, idx),
        .desc = virtio_queue_get_desc_addr(vdev, idx),
        .avail = virtio_queue_get_avail_addr(vdev, idx),
        .used = virtio_queue_get_used_addr(vdev, idx),
        .last_avail = virtio_queue_get_last_avail_idx(vdev, idx),
    };
    struct vrd_error err = {};
    int ret;

    /* The driver may use only some of the completion queues. */
    if (!cfg.desc) {
        return 0;
    }
    ret = vrd_device_vq_start(s->dev, idx, &cfg, &err);
    trace_virtio_rdma_vq_start(s, idx, cfg.num, cfg.last_avail, ret);
    if (ret < 0) {
        g_autofree char *what = g_strdup_printf("cannot start queue %u", idx);

        virtio_rdma_report(what, &err);
    }
    return ret;
}

/*
 * The control queue is started last and stopped first: the core processes
 * requests while the control queue runs.
 */
static int virtio_rdma_start(VirtIORDMA *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    unsigned int i, num = VIRTIO_RDMA_BASE(s)->num_vqs;
    uint64_t features = vdev->guest_features & VIRTIO_RDMA_CORE_FEATURES;
    struct vrd_error err = {};
    int ret;

    ret = vrd_device_set_features(s->dev, features, &err);
    if (ret < 0) {
        virtio_rdma_report("cannot start", &err);
        return ret;
    }
    ret = virtio_rdma_notify_start(s);
    if (ret < 0) {
        return ret;
    }
    for (i = num; i-- > 0;) {
        ret = virtio_rdma_start_vq(s, i);
        if (ret < 0) {
            goto err_vq;
        }
    }
    /* Memory of an earlier driver, which did not reset the device. */
    vrd_device_settle(s->dev, VRD_SETTLE_MS);
    s->started = true;
    trace_virtio_rdma_start(s);
    return 0;

err_vq:
    while (++i < num) {
        virtio_rdma_stop_vq(s, i);
    }
    virtio_rdma_notify_stop(s);
    return ret;
}

static void virtio_rdma_stop(VirtIORDMA *s)
{
    unsigned int i, num = VIRTIO_RDMA_BASE(s)->num_vqs;

    trace_virtio_rdma_stop(s);
    s->started = false;
    for (i = 0; i < num; i++) {
        virtio_rdma_stop_vq(s, i);
    }
    virtio_rdma_notify_stop(s);
}

static void virtio_rdma_set_status(VirtIODevice *vdev, uint8_t status)
{
    VirtIORDMA *s = VIRTIO_RDMA(vdev);
    VirtIORDMABase *base = VIRTIO_RDMA_BASE(s);
    bool should_start = virtio_device_should_start(vdev, status) &&
                        !base->needs_reset;

    if (!s->dev || s->started == should_start) {
        return;
    }
    if (!should_start) {
        virtio_rdma_stop(s);
    } else if (virtio_rdma_start(s) < 0) {
        virtio_rdma_base_set_needs_reset(base);
    }
}

static void virtio_rdma_reset(VirtIODevice *vdev)
{
    VirtIORDMA *s = VIRTIO_RDMA(vdev);

    trace_virtio_rdma_reset(s);
    virtio_rdma_base_reset(VIRTIO_RDMA_BASE(s));
    vrd_device_reset(s->dev);
    vrd_device_settle(s->dev, VRD_SETTLE_MS);
    virtio_rdma_notify_reset(s);
    virtio_rdma_mem_reset(s);
}

/* ---- errors of the core ----------------------------------------------- */

/* The core has marked the device as broken: the driver has to reset it. */
static void virtio_rdma_error_read(void *opaque)
{
    VirtIORDMA *s = opaque;
    uint64_t value;

    if (read(vrd_device_error_fd(s->dev), &value, sizeof(value)) < 0 &&
        errno == EAGAIN) {
        return;
    }
    if (!vrd_device_is_broken(s->dev)) {
        return;
    }
    error_report("virtio-rdma: device %s failed; its driver has to reset it",
                 DEVICE(s)->canonical_path);
    if (s->started) {
        virtio_rdma_stop(s);
    }
    virtio_rdma_base_set_needs_reset(VIRTIO_RDMA_BASE(s));
}

/* ---- features and configuration --------------------------------------- */

static uint64_t virtio_rdma_get_features(VirtIODevice *vdev, uint64_t features,
                                         Error **errp)
{
    VirtIORDMA *s = VIRTIO_RDMA(vdev);

    features |= virtio_rdma_base_features(VIRTIO_RDMA_BASE(s));
    return features & (vrd_device_features(s->dev) |
                       ~VIRTIO_RDMA_CORE_FEATURES);
}

/*
 * Checks the features when the driver sets FEATURES_OK, so that the error is
 * not found at DRIVER_OK.
 */
static int virtio_rdma_validate_features(VirtIODevice *vdev)
{
    VirtIORDMA *s = VIRTIO_RDMA(vdev);
    struct vrd_error err = {};
    int ret;

    ret = vrd_device_set_features(s->dev, vdev->guest_features &
                                  VIRTIO_RDMA_CORE_FEATURES, &err);
    if (ret < 0) {
        qemu_log_mask(LOG_GUEST_ERROR, "virtio-rdma: %s\n", err.msg);
    }
    return ret;
}

static void virtio_rdma_get_config(VirtIODevice *vdev, uint8_t *config)
{
    VirtIORDMA *s = VIRTIO_RDMA(vdev);

    vrd_device_get_config(s->dev, 0, config, vdev->config_len);
}

/* ---- statistics ------------------------------------------------------- */

typedef struct VirtIORDMAStats {
    Visitor *v;
    Error **errp;
    bool failed;
} VirtIORDMAStats;

static void virtio_rdma_visit_stat(void *opaque, const char *name,
                                   uint64_t value)
{
    VirtIORDMAStats *st = opaque;

    if (!st->failed && !visit_type_uint64(st->v, name, &value, st->errp)) {
        st->failed = true;
    }
}

static void virtio_rdma_get_stats(Object *obj, Visitor *v, const char *name,
                                  void *opaque, Error **errp)
{
    VirtIORDMA *s = VIRTIO_RDMA(obj);
    VirtIORDMAStats st = { .v = v, .errp = errp };

    if (!visit_start_struct(v, name, NULL, 0, errp)) {
        return;
    }
    if (s->dev) {
        vrd_device_stats(s->dev, virtio_rdma_visit_stat, &st);
    }
    if (!st.failed) {
        visit_check_struct(v, errp);
    }
    visit_end_struct(v, NULL);
}

static void virtio_rdma_get_engine_stats(Object *obj, Visitor *v,
                                         const char *name, void *opaque,
                                         Error **errp)
{
    VirtIORDMA *s = VIRTIO_RDMA(obj);
    VirtIORDMAStats st = { .v = v, .errp = errp };

    if (!visit_start_struct(v, name, NULL, 0, errp)) {
        return;
    }
    if (s->engine) {
        vrd_engine_stats(s->engine, virtio_rdma_visit_stat, &st);
        vrd_mads_stats(s->engine, virtio_rdma_visit_stat, &st);
    }
    if (!st.failed) {
        visit_check_struct(v, errp);
    }
    visit_end_struct(v, NULL);
}

/* ---- realize and unrealize ------------------------------------------- */

static bool virtio_rdma_create(VirtIORDMA *s, Error **errp)
{
    VirtIORDMABase *base = VIRTIO_RDMA_BASE(s);
    DeviceState *proxy = DEVICE(qdev_get_parent_bus(DEVICE(s))->parent);
    g_autofree char *name = proxy->id ? g_strdup(proxy->id) :
                            g_strdup(object_get_typename(OBJECT(proxy)));
    struct vrd_device_config cfg = {
        .num_comp_vectors = base->num_comp_vectors,
    };
    struct vrd_error err = {};
    sigset_t old;
    int ret;

    if (!virtio_rdma_conf_to_core(&s->conf, name, &cfg, errp)) {
        return false;
    }
    if (cfg.ibdev && (!virtio_rdma_mem_check_shared(errp) ||
                      !virtio_rdma_mem_disable_discard(s, errp))) {
        return false;
    }
    s->engine = virtio_rdma_engine_get(&s->conf, errp);
    if (!s->engine) {
        goto enable_discard;
    }
    virtio_rdma_block_signals(&old);
    ret = vrd_device_create(s->engine, &cfg, &s->dev, &err);
    virtio_rdma_restore_signals(&old);
    if (ret < 0) {
        s->dev = NULL;
        virtio_rdma_error_set(errp, &err);
        virtio_rdma_engine_put();
        s->engine = NULL;
        goto enable_discard;
    }
    return true;

enable_discard:
    virtio_rdma_mem_enable_discard(s);
    return false;
}

static void virtio_rdma_destroy(VirtIORDMA *s)
{
    vrd_device_destroy(s->dev);
    s->dev = NULL;
    s->engine = NULL;
    virtio_rdma_engine_put();
    virtio_rdma_mem_enable_discard(s);
}

static void virtio_rdma_realize(DeviceState *dev, Error **errp)
{
    ERRP_GUARD();
    VirtIORDMA *s = VIRTIO_RDMA(dev);
    VirtIORDMABase *base = VIRTIO_RDMA_BASE(dev);

    if (!virtio_rdma_base_realize(base, errp)) {
        return;
    }
    virtio_rdma_base_set_num_vqs(base, base->num_comp_vectors ?:
                                       virtio_rdma_default_comp_vectors());
    if (!virtio_rdma_create(s, errp)) {
        goto err_base;
    }
    if (!virtio_rdma_notify_init(s, errp)) {
        goto err_device;
    }
    s->started = false;
    qemu_set_fd_handler(vrd_device_error_fd(s->dev), virtio_rdma_error_read,
                        NULL, s);
    virtio_rdma_mem_init(s);
    virtio_rdma_base_check_tcg();
    return;

err_device:
    virtio_rdma_destroy(s);
err_base:
    virtio_rdma_base_unrealize(base);
}

/* At hot-unplug, the guest's driver may still be using the device. */
static void virtio_rdma_unrealize(DeviceState *dev)
{
    VirtIORDMA *s = VIRTIO_RDMA(dev);
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);

    virtio_set_status(vdev, 0);
    qemu_set_fd_handler(vrd_device_error_fd(s->dev), NULL, NULL, NULL);
    vrd_device_reset(s->dev);
    vrd_device_settle(s->dev, VRD_SETTLE_MS);
    virtio_rdma_mem_cleanup(s);
    virtio_rdma_destroy(s);
    virtio_rdma_notify_cleanup(s);
    virtio_rdma_base_unrealize(VIRTIO_RDMA_BASE(s));
}

static void virtio_rdma_instance_init(Object *obj)
{
    object_property_add(obj, "stats", "struct", virtio_rdma_get_stats, NULL,
                        NULL, NULL);
    object_property_set_description(obj, "stats",
                                    "Counters of the device and objects that "
                                    "the guest has");
    object_property_add(obj, "engine-stats", "struct",
                        virtio_rdma_get_engine_stats, NULL, NULL, NULL);
    object_property_set_description(obj, "engine-stats",
                                    "Counters of the pollers, shared by all "
                                    "devices");
}

static const Property virtio_rdma_properties[] = {
    DEFINE_PROP_MACADDR("mac", VirtIORDMA, conf.mac),
    DEFINE_PROP_STRING("netdev", VirtIORDMA, conf.netdev),
    DEFINE_PROP_STRING("fabric", VirtIORDMA, conf.fabric),
    DEFINE_PROP_STRING("allow-gids", VirtIORDMA, conf.gids),
    DEFINE_PROP_STRING("ibdev", VirtIORDMA, conf.ibdev),
    DEFINE_PROP_UINT8("port", VirtIORDMA, conf.port, 0),
    DEFINE_PROP_BOOL("local", VirtIORDMA, conf.local, false),
    DEFINE_PROP_STRING("gid-index", VirtIORDMA, conf.gid_index),
    DEFINE_PROP_STRING("cm-ports", VirtIORDMA, conf.cm_ports),
    DEFINE_PROP_STRING("mad-key", VirtIORDMA, conf.mad_key),
    DEFINE_PROP_UINT16("mad-port", VirtIORDMA, conf.mad_port, 0),
    DEFINE_PROP_STRING("mad-listen", VirtIORDMA, conf.mad_listen),
    DEFINE_PROP_UINT32("pollers", VirtIORDMA, conf.pollers, 0),
    DEFINE_PROP_UINT32("poll-us", VirtIORDMA, conf.poll_us, UINT32_MAX),
    DEFINE_PROP_UINT32("max-ctx", VirtIORDMA, conf.limits.max_ctx, 0),
    DEFINE_PROP_UINT32("max-pd", VirtIORDMA, conf.limits.max_pd, 0),
    DEFINE_PROP_UINT32("max-mr", VirtIORDMA, conf.limits.max_mr, 0),
    DEFINE_PROP_UINT32("max-cq", VirtIORDMA, conf.limits.max_cq, 0),
    DEFINE_PROP_UINT32("max-cqe", VirtIORDMA, conf.limits.max_cqe, 0),
    DEFINE_PROP_UINT32("max-qp", VirtIORDMA, conf.limits.max_qp, 0),
    DEFINE_PROP_UINT32("max-qp-wr", VirtIORDMA, conf.limits.max_qp_wr, 0),
    DEFINE_PROP_UINT32("max-sge", VirtIORDMA, conf.limits.max_sge, 0),
    DEFINE_PROP_UINT32("max-inline", VirtIORDMA, conf.limits.max_inline, 0),
    DEFINE_PROP_UINT32("max-srq", VirtIORDMA, conf.limits.max_srq, 0),
    DEFINE_PROP_SIZE("max-mr-size", VirtIORDMA, conf.limits.max_mr_size, 0),
    DEFINE_PROP_SIZE("max-mr-bytes", VirtIORDMA, conf.limits.max_mr_bytes, 0),
    DEFINE_PROP_SIZE("max-ring-bytes", VirtIORDMA, conf.limits.max_ring_bytes, 0),
};

static void virtio_rdma_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);

    dc->desc = "RDMA port, served by this process";
    device_class_set_props(dc, virtio_rdma_properties);
    vdc->realize = virtio_rdma_realize;
    vdc->unrealize = virtio_rdma_unrealize;
    vdc->get_features = virtio_rdma_get_features;
    vdc->validate_features = virtio_rdma_validate_features;
    vdc->get_config = virtio_rdma_get_config;
    vdc->set_status = virtio_rdma_set_status;
    vdc->reset = virtio_rdma_reset;
    vdc->guest_notifier_mask = virtio_rdma_notify_mask;
    vdc->guest_notifier_pending = virtio_rdma_notify_pending;
}

static const TypeInfo virtio_rdma_info = {
    .name = TYPE_VIRTIO_RDMA,
    .parent = TYPE_VIRTIO_RDMA_BASE,
    .instance_size = sizeof(VirtIORDMA),
    .instance_init = virtio_rdma_instance_init,
    .class_init = virtio_rdma_class_init,
};

static void virtio_rdma_register_types(void)
{
    type_register_static(&virtio_rdma_info);
}

type_init(virtio_rdma_register_types)
