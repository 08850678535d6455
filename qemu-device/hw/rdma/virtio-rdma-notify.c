/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma: kicks and calls between the guest and the threads of the core
 *
 * Works like a vhost device.  While the device runs, a kick reaches the core
 * through the host notifier (ioeventfd) of the virtqueue.  A call reaches the
 * guest through the guest notifier (irqfd, or the main loop if there is no
 * irqfd).  Therefore the threads of the core need neither QEMU's virtqueues
 * nor the BQL.
 *
 * While the guest masks an MSI-X vector, the core signals an eventfd that is
 * not connected to an interrupt; its state is the vector's pending bit.
 *
 * Runs with the BQL held.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/event_notifier.h"
#include "exec/memory.h"
#include "hw/virtio/virtio-bus.h"
#include "virtio-rdma.h"
#include "trace.h"

static void virtio_rdma_host_notifiers_cleanup(VirtIODevice *vdev,
                                               VirtioBusState *bus,
                                               unsigned int num)
{
    unsigned int i;

    /*
     * One transaction for all, because each commit walks all ioeventfds of the
     * machine.
     */
    memory_region_transaction_begin();
    for (i = 0; i < num; i++) {
        virtio_bus_set_host_notifier(bus, i, false);
    }
    /* The commit needs open notifiers: close them after it. */
    memory_region_transaction_commit();
    for (i = 0; i < num; i++) {
        virtio_bus_cleanup_host_notifier(bus, i);
    }
    virtio_device_release_ioeventfd(vdev);
}

static int virtio_rdma_host_notifiers_init(VirtIODevice *vdev,
                                           VirtioBusState *bus,
                                           unsigned int num)
{
    unsigned int i;
    int ret;

    ret = virtio_device_grab_ioeventfd(vdev);
    if (ret < 0) {
        return ret;
    }
    memory_region_transaction_begin();
    for (i = 0; i < num; i++) {
        ret = virtio_bus_set_host_notifier(bus, i, true);
        if (ret < 0) {
            break;
        }
    }
    memory_region_transaction_commit();
    if (ret < 0) {
        virtio_rdma_host_notifiers_cleanup(vdev, bus, i);
    }
    return ret;
}

/*
 * Sets up the notifiers and sets the kick descriptors in the core.  The call
 * descriptors are set by virtio_rdma_notify_mask(), which virtio-pci calls for
 * each vector that is not masked.
 */
int virtio_rdma_notify_start(VirtIORDMA *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    BusState *qbus = qdev_get_parent_bus(DEVICE(vdev));
    VirtioBusState *bus = VIRTIO_BUS(qbus);
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);
    unsigned int i, num = VIRTIO_RDMA_BASE(s)->num_vqs;
    EventNotifier *host;
    int ret;

    if (!k->set_guest_notifiers) {
        error_report("virtio-rdma: the bus has no guest notifiers");
        return -ENOSYS;
    }
    ret = virtio_rdma_host_notifiers_init(vdev, bus, num);
    if (ret < 0) {
        error_report("virtio-rdma: cannot make host notifiers: %s",
                     strerror(-ret));
        return ret;
    }
    for (i = 0; i < num; i++) {
        host = virtio_queue_get_host_notifier(virtio_get_queue(vdev, i));
        ret = vrd_device_vq_set_kick(s->dev, i, event_notifier_get_fd(host));
        if (ret < 0) {
            error_report("virtio-rdma: cannot set the kick of queue %u: %s", i,
                         strerror(-ret));
            goto err_kick;
        }
    }
    ret = k->set_guest_notifiers(qbus->parent, num, true);
    if (ret < 0) {
        error_report("virtio-rdma: cannot make guest notifiers: %s",
                     strerror(-ret));
        goto err_kick;
    }
    return 0;

err_kick:
    for (i = 0; i < num; i++) {
        vrd_device_vq_set_kick(s->dev, i, -1);
    }
    virtio_rdma_host_notifiers_cleanup(vdev, bus, num);
    return ret;
}

/*
 * Called after the queues were stopped.  Replaces the descriptors in the core
 * before the notifiers are closed.
 */
void virtio_rdma_notify_stop(VirtIORDMA *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    BusState *qbus = qdev_get_parent_bus(DEVICE(vdev));
    VirtioBusState *bus = VIRTIO_BUS(qbus);
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);
    unsigned int i, num = VIRTIO_RDMA_BASE(s)->num_vqs;
    int ret;

    for (i = 0; i < num; i++) {
        vrd_device_vq_set_kick(s->dev, i, -1);
        vrd_device_vq_set_call(s->dev, i,
                               event_notifier_get_wfd(&s->masked[i]));
    }
    ret = k->set_guest_notifiers(qbus->parent, num, false);
    if (ret < 0) {
        error_report("virtio-rdma: cannot remove guest notifiers: %s",
                     strerror(-ret));
    }
    virtio_rdma_host_notifiers_cleanup(vdev, bus, num);
}

/* A reset discards pending calls. */
void virtio_rdma_notify_reset(VirtIORDMA *s)
{
    unsigned int i;

    for (i = 0; i < VIRTIO_RDMA_BASE(s)->num_vqs; i++) {
        event_notifier_test_and_clear(&s->masked[i]);
    }
}

/* VirtioDeviceClass::guest_notifier_mask */
void virtio_rdma_notify_mask(VirtIODevice *vdev, int idx, bool mask)
{
    VirtIORDMA *s = VIRTIO_RDMA(vdev);
    EventNotifier *n;
    int ret;

    /* QEMU raises the configuration interrupt itself. */
    if (idx == VIRTIO_CONFIG_IRQ_IDX || !s->dev) {
        return;
    }
    if (mask) {
        n = &s->masked[idx];
    } else {
        n = virtio_queue_get_guest_notifier(virtio_get_queue(vdev, idx));
    }
    ret = vrd_device_vq_set_call(s->dev, idx, event_notifier_get_wfd(n));
    trace_virtio_rdma_mask(s, idx, mask, ret);
    if (ret < 0) {
        error_report("virtio-rdma: cannot set the call of queue %d: %s", idx,
                     strerror(-ret));
        virtio_rdma_base_set_needs_reset(VIRTIO_RDMA_BASE(s));
    }
}

/* VirtioDeviceClass::guest_notifier_pending */
bool virtio_rdma_notify_pending(VirtIODevice *vdev, int idx)
{
    VirtIORDMA *s = VIRTIO_RDMA(vdev);
    bool pending;

    if (idx == VIRTIO_CONFIG_IRQ_IDX) {
        return false;
    }
    pending = event_notifier_test_and_clear(&s->masked[idx]);
    trace_virtio_rdma_pending(s, idx, pending);
    return pending;
}

bool virtio_rdma_notify_init(VirtIORDMA *s, Error **errp)
{
    unsigned int i, num = VIRTIO_RDMA_BASE(s)->num_vqs;
    int ret;

    s->masked = g_new0(EventNotifier, num);
    for (i = 0; i < num; i++) {
        ret = event_notifier_init(&s->masked[i], 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "cannot make an eventfd");
            goto err;
        }
        ret = vrd_device_vq_set_call(s->dev, i,
                                     event_notifier_get_wfd(&s->masked[i]));
        if (ret < 0) {
            error_setg_errno(errp, -ret, "cannot set the call of queue %u", i);
            event_notifier_cleanup(&s->masked[i]);
            goto err;
        }
    }
    return true;

err:
    while (i--) {
        event_notifier_cleanup(&s->masked[i]);
    }
    g_clear_pointer(&s->masked, g_free);
    return false;
}

void virtio_rdma_notify_cleanup(VirtIORDMA *s)
{
    unsigned int i, num = VIRTIO_RDMA_BASE(s)->num_vqs;

    for (i = 0; i < num; i++) {
        event_notifier_cleanup(&s->masked[i]);
    }
    g_clear_pointer(&s->masked, g_free);
}
