// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Event queue and completion vectors.
 *
 * A guest that provides no buffers must not make the device store many events, and must not
 * lose events that the ABI guarantees.  Completion events: each CQ is in its vector's list
 * of waiting CQs at most once.  Asynchronous events: a ring of MAX_EVENTS without
 * duplicates.  When it is full, the guest has ignored that many different events.  The last
 * entry is then DEVICE_FATAL, and no more events are stored until INIT.
 *
 * Pollers call these functions with locks of QPs and CQs held.  The virtqueue's lock
 * protects the buffers and the events that wait for them.
 */
#include <errno.h>
#include <stdlib.h>

#include "transport.h"
#include "control.h"
#include "event.h"
#include "shm.h"
#include "virtq.h"

#define MAX_EVENTS	1024

struct waiting_event {
	uint32_t type, id;
};

/* The event virtqueue's lock protects it. */
struct vrd_events {
	struct waiting_event ring[MAX_EVENTS];
	uint32_t head, num;
	bool fatal;			/* DEVICE_FATAL is the last entry, or was delivered */
};

/* Limits for one call with vq->lock held, because pollers wait for this lock. */
#define MAX_BAD_BUFFERS	16
#define MAX_REFILL	64

enum delivery {
	DELIVERED,
	NO_BUFFER,			/* the driver must kick for the next buffer */
	UNDECIDED,			/* try again on the control thread */
};

/*
 * Writes @data into the next buffer.  Buffers that are too small or not RAM are returned
 * empty.  A driver can make them available as fast as they are returned, so the caller,
 * which may be a poller, takes only a few.
 */
static enum delivery deliver_locked(struct vrd_vq *vq, const void *data, uint32_t len)
{
	struct vrd_vq_elem *elem = vq->elem;
	enum vrd_vq_pop got;

	if (!vq->running || vq->broken)
		return NO_BUFFER;
	for (unsigned int i = 0; i < MAX_BAD_BUFFERS; i++) {
		got = vrd_vq_pop_locked(vq, elem);
		if (got == VRD_VQ_EMPTY && !vq->kicks_wanted) {
			vrd_vq_want_kick_locked(vq, true);
			got = vrd_vq_pop_locked(vq, elem);
		}
		if (got != VRD_VQ_GOT)
			return NO_BUFFER;
		if (elem->writable >= len && vrd_vq_write(vq, elem, data, len)) {
			vrd_vq_push_locked(vq, elem, len);
			return DELIVERED;
		}
		vrd_vq_push_locked(vq, elem, 0);
	}
	return UNDECIDED;
}

/* ---- completion events ------------------------------------------------- */

static struct vrd_vq *vector_of(const struct vrd_cq *cq)
{
	return cq->dev->vqs[VIRTIO_RDMA_VQ_COMP_BASE + cq->vector];
}

static enum delivery deliver_cq_locked(struct vrd_vq *vq, const struct vrd_cq *cq)
{
	struct virtio_rdma_comp_event ev = { .cqn = htole32(cq->cqn) };
	enum delivery result = deliver_locked(vq, &ev, sizeof(ev));

	if (result == DELIVERED)
		vrd_stat_add(vq->dev, VIRTIO_RDMA_STAT_COMP_EVENTS, 1);
	return result;
}

void vrd_event_cq(struct vrd_cq *cq)
{
	struct vrd_vq *vq = vector_of(cq);
	enum delivery result = NO_BUFFER;

	vrd_lock(&vq->lock);
	if (!cq->event_pending) {
		/* CQs that wait already are served first. */
		if (TAILQ_EMPTY(&vq->waiting))
			result = deliver_cq_locked(vq, cq);
		if (result == DELIVERED) {
			vrd_vq_notify_locked(vq);
		} else {
			cq->event_pending = true;
			TAILQ_INSERT_TAIL(&vq->waiting, cq, event_link);
		}
	}
	vrd_unlock(&vq->lock);
	if (result == UNDECIDED)
		vrd_control_wake(vq->dev);
}

void vrd_event_cq_forget(struct vrd_cq *cq)
{
	struct vrd_vq *vq = vector_of(cq);

	vrd_lock(&vq->lock);
	if (cq->event_pending) {
		TAILQ_REMOVE(&vq->waiting, cq, event_link);
		cq->event_pending = false;
	}
	vrd_unlock(&vq->lock);
}

/* True if there is more to do. */
static bool refill_vector_locked(struct vrd_vq *vq)
{
	enum delivery result = DELIVERED;
	unsigned int n = 0;
	struct vrd_cq *cq;

	while ((cq = TAILQ_FIRST(&vq->waiting)) && n < MAX_REFILL) {
		result = deliver_cq_locked(vq, cq);
		if (result != DELIVERED)
			break;
		TAILQ_REMOVE(&vq->waiting, cq, event_link);
		cq->event_pending = false;
		n++;
	}
	if (!cq)
		vrd_vq_want_kick_locked(vq, false);
	if (n)
		vrd_vq_notify_locked(vq);
	return cq && result != NO_BUFFER;
}

/* ---- asynchronous events ----------------------------------------------- */

static struct waiting_event *waiting_at(struct vrd_events *evs, uint32_t i)
{
	return &evs->ring[(evs->head + i) % MAX_EVENTS];
}

static enum delivery deliver_event_locked(struct vrd_vq *vq, uint32_t type, uint32_t id)
{
	struct virtio_rdma_event ev = { .type = htole32(type), .id = htole32(id) };

	return deliver_locked(vq, &ev, sizeof(ev));
}

static void keep_event(struct vrd_device *dev, uint32_t type, uint32_t id)
{
	struct vrd_events *evs = dev->events;
	uint32_t i;

	for (i = 0; i < evs->num; i++) {
		const struct waiting_event *w = waiting_at(evs, i);

		if (w->type == type && w->id == id)
			return;
	}
	if (evs->num == MAX_EVENTS - 1) {
		evs->fatal = true;
		type = VIRTIO_RDMA_EVENT_DEVICE_FATAL;
		id = 0;
		vrd_dev_log(dev, VRD_LOG_WARN, "the driver takes no events: %u wait", evs->num);
	}
	*waiting_at(evs, evs->num++) = (struct waiting_event) { .type = type, .id = id };
}

void vrd_event_raise(struct vrd_device *dev, uint32_t type, uint32_t id)
{
	struct vrd_vq *vq = dev->vqs[VIRTIO_RDMA_VQ_EVENT];
	struct vrd_events *evs = dev->events;
	enum delivery result = NO_BUFFER;

	vrd_dev_log(dev, VRD_LOG_DEBUG, "event %u of %u", type, id);
	vrd_lock(&vq->lock);
	if (!evs->fatal) {
		if (!evs->num)
			result = deliver_event_locked(vq, type, id);
		if (result == DELIVERED)
			vrd_vq_notify_locked(vq);
		else
			keep_event(dev, type, id);
	}
	vrd_unlock(&vq->lock);
	if (result == UNDECIDED)
		vrd_control_wake(dev);
}

/* True if there is more to do. */
static bool refill_events_locked(struct vrd_device *dev, struct vrd_vq *vq)
{
	struct vrd_events *evs = dev->events;
	enum delivery result = DELIVERED;
	unsigned int n;

	for (n = 0; evs->num && n < MAX_REFILL; n++) {
		const struct waiting_event *w = waiting_at(evs, 0);

		result = deliver_event_locked(vq, w->type, w->id);
		if (result != DELIVERED)
			break;
		evs->head = (evs->head + 1) % MAX_EVENTS;
		evs->num--;
	}
	if (!evs->num)
		vrd_vq_want_kick_locked(vq, false);
	if (n)
		vrd_vq_notify_locked(vq);
	return evs->num && result != NO_BUFFER;
}

bool vrd_event_refill(struct vrd_device *dev, struct vrd_vq *vq)
{
	bool more = false;

	vrd_lock(&vq->lock);
	if (vq->running && !vq->broken) {
		if (vq->index == VIRTIO_RDMA_VQ_EVENT)
			more = refill_events_locked(dev, vq);
		else
			more = refill_vector_locked(vq);
	}
	vrd_unlock(&vq->lock);
	return more;
}

/* The kind of object that an event's id refers to. */
enum subject { SUBJECT_CQ, SUBJECT_QP, SUBJECT_SRQ, SUBJECT_OTHER };

static enum subject subject_of(uint32_t type)
{
	switch (type) {
	case VIRTIO_RDMA_EVENT_CQ_ERR:
		return SUBJECT_CQ;
	case VIRTIO_RDMA_EVENT_QP_FATAL:
	case VIRTIO_RDMA_EVENT_QP_REQ_ERR:
	case VIRTIO_RDMA_EVENT_QP_ACCESS_ERR:
	case VIRTIO_RDMA_EVENT_COMM_EST:
	case VIRTIO_RDMA_EVENT_SQ_DRAINED:
	case VIRTIO_RDMA_EVENT_PATH_MIG:
	case VIRTIO_RDMA_EVENT_QP_LAST_WQE_REACHED:
		return SUBJECT_QP;
	case VIRTIO_RDMA_EVENT_SRQ_ERR:
	case VIRTIO_RDMA_EVENT_SRQ_LIMIT_REACHED:
		return SUBJECT_SRQ;
	default:
		return SUBJECT_OTHER;
	}
}

static void forget(struct vrd_device *dev, enum subject subject, uint32_t id)
{
	struct vrd_vq *vq = dev->vqs[VIRTIO_RDMA_VQ_EVENT];
	struct vrd_events *evs = dev->events;
	uint32_t i, kept = 0;

	vrd_lock(&vq->lock);
	for (i = 0; i < evs->num; i++) {
		struct waiting_event w = *waiting_at(evs, i);

		if (w.id == id && subject_of(w.type) == subject)
			continue;
		*waiting_at(evs, kept++) = w;
	}
	evs->num = kept;
	vrd_unlock(&vq->lock);
}

void vrd_event_forget_qp(struct vrd_device *dev, uint32_t qpn)
{
	forget(dev, SUBJECT_QP, qpn);
}

void vrd_event_forget_cq(struct vrd_device *dev, uint32_t cqn)
{
	forget(dev, SUBJECT_CQ, cqn);
}

void vrd_event_forget_srq(struct vrd_device *dev, uint32_t srqn)
{
	forget(dev, SUBJECT_SRQ, srqn);
}

void vrd_event_reset(struct vrd_device *dev)
{
	struct vrd_vq *vq = dev->vqs[VIRTIO_RDMA_VQ_EVENT];

	vrd_lock(&vq->lock);
	dev->events->num = 0;
	dev->events->fatal = false;
	vrd_unlock(&vq->lock);
}

int vrd_event_init(struct vrd_device *dev)
{
	dev->events = calloc(1, sizeof(*dev->events));
	return dev->events ? 0 : -ENOMEM;
}

void vrd_event_fini(struct vrd_device *dev)
{
	free(dev->events);
	dev->events = NULL;
}
