/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events that the device sends to its driver: asynchronous events and completion events.
 * vrd_event_raise() is declared in transport.h.
 *
 * The functions that send events may be called from any thread, also with a QP's or a CQ's
 * lock held.  They take the lock of one virtqueue.
 */
#ifndef VRD_EVENT_H
#define VRD_EVENT_H

#include <stdbool.h>
#include <stdint.h>

struct vrd_cq;
struct vrd_device;
struct vrd_vq;

/*
 * Reports a completion of the armed CQ @cq to the driver.  cq->lock is held.  If the
 * vector's queue has no free buffer, the CQ is put on the list of waiting CQs.  It is on the
 * list at most once, so one event may answer several armings.
 */
void vrd_event_cq(struct vrd_cq *cq);

/* Removes @cq from the list of waiting CQs before @cq is freed; control thread. */
void vrd_event_cq_forget(struct vrd_cq *cq);

/* Drops undelivered events of one object. */
void vrd_event_forget_qp(struct vrd_device *dev, uint32_t qpn);
void vrd_event_forget_cq(struct vrd_device *dev, uint32_t cqn);
void vrd_event_forget_srq(struct vrd_device *dev, uint32_t srqn);

/*
 * Delivers some of the waiting events, as far as there are buffers: after a refill or start.
 * True if there is more to do.  Control thread.
 */
bool vrd_event_refill(struct vrd_device *dev, struct vrd_vq *vq);

int vrd_event_init(struct vrd_device *dev);
void vrd_event_fini(struct vrd_device *dev);
/* Drops all waiting events, for INIT and reset. */
void vrd_event_reset(struct vrd_device *dev);

#endif /* VRD_EVENT_H */
