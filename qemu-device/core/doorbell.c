// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Doorbell pages: which rings have which slot, which contexts are awake; what
 * happens when the poller sleeps and when a device is suspended.
 *
 * A context is awake while its need_wakeup is 0: then its summary line is read
 * in (nearly) every turn.  Those that were quiet since the poller last slept
 * keep need_wakeup at 1, so that going to sleep and waking cost nothing for
 * them; if they ring, the notification names the device, whose sleeping
 * contexts are swept (doorbell_scan.c).  While the poller is busy it looks at
 * sleeping contexts in rotation.
 *
 * Threading: the poller's own.  The functions of poller.h run on the control
 * thread under dev->lock and send messages.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "poller_internal.h"

/* ---- devices and contexts of a poller ---------------------------------- */

struct vrd_poller_dev *vrd_poller_dev_find(struct vrd_poller *poller, const struct vrd_device *dev)
{
	struct vrd_poller_dev *pdev;

	LIST_FOREACH(pdev, &poller->devs, link)
		if (pdev->dev == dev)
			return pdev;
	return NULL;
}

static void put_asleep(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	struct vrd_poller_dev *pdev = slots->pdev;

	slots->awake = false;
	TAILQ_INSERT_TAIL(&pdev->asleep, slots, link);
	if (!pdev->num_asleep++)
		TAILQ_INSERT_TAIL(&poller->rotation, pdev, turn_link);
}

static void take_asleep(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	struct vrd_poller_dev *pdev = slots->pdev;

	TAILQ_REMOVE(&pdev->asleep, slots, link);
	if (!--pdev->num_asleep)
		TAILQ_REMOVE(&poller->rotation, pdev, turn_link);
	if (pdev->sweep > pdev->num_asleep) {
		pdev->sweep = pdev->num_asleep;
		if (!pdev->sweep)
			poller->num_sweeps--;
	}
}

void vrd_ctx_slots_wake(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	take_asleep(poller, slots);
	slots->awake = true;
	TAILQ_INSERT_TAIL(&poller->awake, slots, link);
	poller->num_awake++;
}

static void take_awake(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	TAILQ_REMOVE(&poller->awake, slots, link);
	poller->num_awake--;
}

static void ctx_attach(struct vrd_poller *poller, void *arg)
{
	struct vrd_ctx *ctx = arg;
	struct vrd_ctx_slots *slots = ctx->slots;

	slots->pdev = vrd_poller_dev_find(poller, ctx->dev);
	/* Of a suspended device resume takes care. */
	slots->db = vrd_device_suspended(ctx->dev) ? NULL : ctx->db;
	if (slots->db)
		vrd_store32(&slots->db->need_wakeup, 1);
	put_asleep(poller, slots);
}

static void ctx_detach(struct vrd_poller *poller, void *arg)
{
	struct vrd_ctx *ctx = arg;
	struct vrd_ctx_slots *slots = ctx->slots;

	if (slots->awake)
		take_awake(poller, slots);
	else
		take_asleep(poller, slots);
	if (slots->failed_group < VIRTIO_RDMA_DB_GROUPS)
		poller->failed_walks--;
}

int vrd_poller_ctx_attach(struct vrd_ctx *ctx)
{
	struct vrd_engine *engine = ctx->dev->engine;
	struct vrd_ctx_slots *slots = calloc(1, sizeof(*slots));
	struct vrd_poller *poller = ctx->dev->poller;

	if (!slots)
		return -ENOMEM;
	slots->ctx = ctx;
	slots->failed_group = VIRTIO_RDMA_DB_GROUPS;
	ctx->slots = slots;

	pthread_mutex_lock(&engine->lock);
	for (unsigned int i = 0; i < engine->num_pollers; i++)
		if (engine->pollers[i].num_ctxs < poller->num_ctxs)
			poller = &engine->pollers[i];
	poller->num_ctxs++;
	pthread_mutex_unlock(&engine->lock);

	ctx->poller = poller;
	vrd_poller_call(poller, ctx_attach, ctx);
	return 0;
}

void vrd_poller_ctx_detach(struct vrd_ctx *ctx)
{
	struct vrd_engine *engine = ctx->dev->engine;

	vrd_poller_call(ctx->poller, ctx_detach, ctx);
	pthread_mutex_lock(&engine->lock);
	ctx->poller->num_ctxs--;
	pthread_mutex_unlock(&engine->lock);
	for (unsigned int i = 0; i < VIRTIO_RDMA_DB_GROUPS; i++)
		free(vrd_slot_group(ctx->slots, i));
	free(ctx->slots->sharers);
	free(ctx->slots);
	ctx->slots = NULL;
}

/* ---- slots -------------------------------------------------------------- */

/* The first free slot, or when all are taken the next in turn.  dev->lock. */
static int slot_alloc(struct vrd_ctx_slots *slots, uint32_t *slot)
{
	uint32_t group;

	for (group = 0; group < VIRTIO_RDMA_DB_GROUPS; group++)
		if (~slots->used[group])
			break;
	if (group < VIRTIO_RDMA_DB_GROUPS) {
		*slot = group * 64 + __builtin_ctzll(~slots->used[group]);
	} else {
		if (!slots->sharers)
			slots->sharers = calloc(VIRTIO_RDMA_DB_SLOTS, sizeof(*slots->sharers));
		if (!slots->sharers)
			return -ENOMEM;
		*slot = slots->next_shared;
		group = *slot / 64;
	}

	if (!vrd_slot_group(slots, group)) {
		struct vrd_slot_group *g = calloc(1, sizeof(*g));

		if (!g)
			return -ENOMEM;
		/* Pairs with vrd_slot_group(): the poller sees empty lists. */
		atomic_store_explicit(&slots->groups[group], g, memory_order_release);
	}
	if (slots->used[group] & 1ULL << *slot % 64) {
		slots->sharers[*slot]++;
		slots->next_shared = (*slot + 1) % VIRTIO_RDMA_DB_SLOTS;
	}
	slots->used[group] |= 1ULL << *slot % 64;
	return 0;
}

static void slot_free(struct vrd_ctx_slots *slots, uint32_t slot)
{
	if (slot == VIRTIO_RDMA_NONE)
		return;
	if (slots->sharers && slots->sharers[slot])
		slots->sharers[slot]--;
	else
		slots->used[slot / 64] &= ~(1ULL << slot % 64);
}

static void ring_attach(struct vrd_ctx_slots *slots, struct vrd_ring *ring, uint32_t need_db)
{
	if (ring->slot == VIRTIO_RDMA_NONE)
		return;
	LIST_INSERT_HEAD(&vrd_slot_group(slots, ring->slot / 64)->rings[ring->slot % 64], ring,
			 slot_link);
	if (!vrd_device_suspended(slots->ctx->dev) && ring->ctrl)
		vrd_store32(&ring->ctrl->need_db, need_db);
}

static void qp_attach(struct vrd_poller *poller, void *arg)
{
	struct vrd_qp *qp = arg;

	(void)poller;
	ring_attach(qp->ctx->slots, &qp->sq, 1);
	ring_attach(qp->ctx->slots, &qp->rq, qp->rq.want_db);
}

static void qp_detach(struct vrd_poller *poller, void *arg)
{
	struct vrd_qp *qp = arg;

	/* Messages come after what was posted before them, so it is in no inbox. */
	vrd_run_queue_remove(poller, qp);
	vrd_hot_remove(poller, qp);
	if (qp->sq.slot != VIRTIO_RDMA_NONE)
		LIST_REMOVE(&qp->sq, slot_link);
	if (qp->rq.slot != VIRTIO_RDMA_NONE)
		LIST_REMOVE(&qp->rq, slot_link);
}

int vrd_poller_qp_attach(struct vrd_qp *qp)
{
	struct vrd_ctx_slots *slots = qp->ctx->slots;

	qp->sq.slot = VIRTIO_RDMA_NONE;
	qp->rq.slot = VIRTIO_RDMA_NONE;
	/* A QP without rings has a slot too: it is found there if its CQ fails. */
	if ((qp->sq.entries || qp->srq) && slot_alloc(slots, &qp->sq.slot))
		return -ENOMEM;
	if (qp->rq.entries && slot_alloc(slots, &qp->rq.slot)) {
		slot_free(slots, qp->sq.slot);
		return -ENOMEM;
	}
	qp->poller = qp->ctx->poller;
	vrd_poller_call(qp->poller, qp_attach, qp);
	return 0;
}

void vrd_poller_qp_detach(struct vrd_qp *qp)
{
	struct vrd_poller *poller = qp->poller;

	vrd_lock(&poller->inbox_lock);
	__atomic_store_n(&qp->sched.detached, true, __ATOMIC_RELAXED);
	vrd_unlock(&poller->inbox_lock);
	vrd_poller_call(poller, qp_detach, qp);
	slot_free(qp->ctx->slots, qp->sq.slot);
	slot_free(qp->ctx->slots, qp->rq.slot);
}

static void srq_attach(struct vrd_poller *poller, void *arg)
{
	struct vrd_srq *srq = arg;

	(void)poller;
	ring_attach(srq->ctx->slots, &srq->ring, srq->ring.want_db);
}

static void srq_detach(struct vrd_poller *poller, void *arg)
{
	struct vrd_srq *srq = arg;

	(void)poller;
	LIST_REMOVE(&srq->ring, slot_link);
}

int vrd_poller_srq_attach(struct vrd_srq *srq)
{
	if (slot_alloc(srq->ctx->slots, &srq->ring.slot))
		return -ENOMEM;
	srq->poller = srq->ctx->poller;
	vrd_poller_call(srq->poller, srq_attach, srq);
	return 0;
}

void vrd_poller_srq_detach(struct vrd_srq *srq)
{
	vrd_poller_call(srq->poller, srq_detach, srq);
	slot_free(srq->ctx->slots, srq->ring.slot);
}

/* ---- sleep, suspend, resume ---------------------------------------------- */

void vrd_doorbell_set_need_wakeup(struct vrd_poller *poller, uint32_t need_wakeup)
{
	struct vrd_ctx_slots *slots;

	TAILQ_FOREACH(slots, &poller->awake, link)
		if (slots->db)
			vrd_store32(&slots->db->need_wakeup, need_wakeup);
}

void vrd_doorbell_sleep(struct vrd_poller *poller)
{
	struct vrd_ctx_slots *slots;

	while ((slots = TAILQ_FIRST(&poller->awake))) {
		take_awake(poller, slots);
		put_asleep(poller, slots);
	}
}

void vrd_doorbell_suspend(struct vrd_poller *poller, void *dev)
{
	struct vrd_poller_dev *pdev = vrd_poller_dev_find(poller, dev);
	struct vrd_ctx_slots *slots, *next;

	vrd_hot_drop(poller, dev);
	for (slots = TAILQ_FIRST(&poller->awake); slots; slots = next) {
		next = TAILQ_NEXT(slots, link);
		if (slots->ctx->dev == dev) {
			take_awake(poller, slots);
			put_asleep(poller, slots);
		}
	}
	if (!pdev)
		return;
	TAILQ_FOREACH(slots, &pdev->asleep, link)
		slots->db = NULL;
}

static void resume_ring(struct vrd_poller *poller, struct vrd_ring *ring)
{
	struct vrd_qp *qp = ring->qp;

	if (qp && ring == &qp->sq) {
		if (ring->ctrl)
			vrd_store32(&ring->ctrl->need_db, 1);
		vrd_run_queue_add(poller, qp);
		return;
	}
	/* Transports change want_db under this lock. */
	vrd_lock(&ring->lock);
	if (ring->ctrl)
		vrd_store32(&ring->ctrl->need_db, ring->want_db);
	vrd_unlock(&ring->lock);
	vrd_ring_rung(poller, ring);
}

static void resume_ctx(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	slots->db = slots->ctx->db;
	if (slots->db)
		vrd_store32(&slots->db->need_wakeup, 1);
	for (unsigned int i = 0; i < VIRTIO_RDMA_DB_SLOTS; i++) {
		struct vrd_slot_group *group = vrd_slot_group(slots, i / 64);
		struct vrd_ring *ring;

		if (!group) {
			i |= 63;
			continue;
		}
		LIST_FOREACH(ring, &group->rings[i % 64], slot_link)
			resume_ring(poller, ring);
	}
}

void vrd_doorbell_resume(struct vrd_poller *poller, void *arg)
{
	struct vrd_device *dev = arg;
	struct vrd_poller_dev *pdev = vrd_poller_dev_find(poller, dev);
	struct vrd_ctx_slots *slots;

	/* It may have been suspended again; then another message follows. */
	if (!pdev || vrd_device_suspended(dev))
		return;
	/* A scan may have woken some of it since the device was released. */
	vrd_doorbell_suspend(poller, dev);
	TAILQ_FOREACH(slots, &pdev->asleep, link)
		resume_ctx(poller, slots);
	/* The stores above, before the run queue reads producers and the sweep pages. */
	vrd_full_barrier();
	vrd_doorbell_kicked(poller, pdev);
}

/* ---- QPs of failed CQs ----------------------------------------------------- */

void vrd_doorbell_cq_failed(struct vrd_poller *poller)
{
	struct vrd_poller_dev *pdev;
	struct vrd_ctx_slots *slots;

	LIST_FOREACH(pdev, &poller->devs, link) {
		for (unsigned int awake = 0; awake < 2; awake++) {
			TAILQ_FOREACH(slots, awake ? &poller->awake : &pdev->asleep, link) {
				if (slots->pdev != pdev || !atomic_exchange(&slots->cq_failed, false))
					continue;
				if (slots->failed_group == VIRTIO_RDMA_DB_GROUPS)
					poller->failed_walks++;
				slots->failed_group = 0;
			}
		}
	}
}

static void fail_group(struct vrd_slot_group *group)
{
	struct vrd_ring *ring;

	for (unsigned int i = 0; group && i < 64; i++) {
		LIST_FOREACH(ring, &group->rings[i], slot_link) {
			struct vrd_qp *qp = ring->qp;

			if (qp && (vrd_cq_failed(qp->send_cq) || vrd_cq_failed(qp->recv_cq)))
				vrd_qp_error(qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_NONE);
		}
	}
}

/* One group of one context in each turn, so that others are not held up. */
bool vrd_doorbell_walk_failed(struct vrd_poller *poller)
{
	struct vrd_poller_dev *pdev;
	struct vrd_ctx_slots *slots;

	LIST_FOREACH(pdev, &poller->devs, link) {
		for (unsigned int awake = 0; awake < 2; awake++) {
			TAILQ_FOREACH(slots, awake ? &poller->awake : &pdev->asleep, link) {
				if (slots->pdev != pdev ||
				    slots->failed_group == VIRTIO_RDMA_DB_GROUPS)
					continue;
				fail_group(vrd_slot_group(slots, slots->failed_group));
				if (++slots->failed_group == VIRTIO_RDMA_DB_GROUPS)
					poller->failed_walks--;
				return true;
			}
		}
	}
	return false;
}
