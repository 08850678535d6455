/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the device tells its driver unasked: asynchronous events and completion
 * events.  vrd_event_raise() is declared in transport.h.
 *
 * Both may be called from any thread, also with a QP's or a CQ's lock held;
 * they take the lock of one virtqueue.
 */
#ifndef VRD_EVENT_H
#define VRD_EVENT_H

#include <stdbool.h>
#include <stdint.h>

struct vrd_cq;
struct vrd_device;
struct vrd_vq;

/*
 * Tells the driver that @cq, which it armed, has a completion.  cq->lock is
 * held.  Without a free buffer in the vector's queue the CQ waits in line; it
 * is there at most once, so one event may answer several armings.
 */
void vrd_event_cq(struct vrd_cq *cq);

/* Takes @cq out of the line, before it is freed; control thread. */
void vrd_event_cq_forget(struct vrd_cq *cq);

/* Drops undelivered events of one object. */
void vrd_event_forget_qp(struct vrd_device *dev, uint32_t qpn);
void vrd_event_forget_cq(struct vrd_device *dev, uint32_t cqn);
void vrd_event_forget_srq(struct vrd_device *dev, uint32_t srqn);

/*
 * Delivers some of what waits, as far as there are buffers: after a refill or
 * start.  True if there is more to do.  Control thread.
 */
bool vrd_event_refill(struct vrd_device *dev, struct vrd_vq *vq);

int vrd_event_init(struct vrd_device *dev);
void vrd_event_fini(struct vrd_device *dev);
/* Drops everything that waits: INIT, reset. */
void vrd_event_reset(struct vrd_device *dev);

#endif /* VRD_EVENT_H */
