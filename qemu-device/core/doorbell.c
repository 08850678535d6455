// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Doorbell pages: slots of rings, contexts that are awake or asleep, and the changes when
 * the poller sleeps and when a device is suspended.
 *
 * A context is awake while its need_wakeup is 0: its summary line is then read in (nearly)
 * every turn.  Contexts that were idle since the poller last slept keep need_wakeup at 1, so
 * that they add no cost to going to sleep and waking.  If such a context rings, the driver
 * sends a notification for the device, whose sleeping contexts are then swept
 * (doorbell_scan.c).  While the poller is busy, it checks sleeping contexts in rotation.
 *
 * Suspending a device puts its contexts to sleep and removes it from rotation and sweep, so
 * that none of its pages and rings is accessed.  It costs nothing for rings that are not
 * watched: their words keep their values in the guest's memory.  Only if addresses of rings
 * have changed in the meantime (dev->ring_generation), the resume writes all of them again,
 * in a walk of many turns.
 *
 * Threading: the data belong to the poller.  The functions of poller.h run on the control
 * thread under dev->lock and send messages.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "poller_internal.h"
#include "store.h"

/* ---- contexts: awake and asleep --------------------------------------------- */

static void put_asleep(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	struct vrd_poller_dev *pdev = slots->pdev;

	slots->awake = false;
	TAILQ_INSERT_TAIL(&pdev->asleep, slots, link);
	if (!pdev->num_asleep++ && !pdev->sched.suspended)
		TAILQ_INSERT_TAIL(&poller->rotation, pdev, turn_link);
}

static void take_asleep(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	struct vrd_poller_dev *pdev = slots->pdev;

	TAILQ_REMOVE(&pdev->asleep, slots, link);
	if (!--pdev->num_asleep && !pdev->sched.suspended)
		TAILQ_REMOVE(&poller->rotation, pdev, turn_link);
	if (pdev->sweep > pdev->num_asleep) {
		pdev->sweep = pdev->num_asleep;
		if (!pdev->sweep)
			TAILQ_REMOVE(&poller->sweeps, pdev, sweep_link);
	}
}

void vrd_ctx_slots_wake(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	take_asleep(poller, slots);
	slots->awake = true;
	TAILQ_INSERT_TAIL(&poller->awake, slots, link);
	poller->num_awake++;
	slots->pdev->num_awake++;
}

static void take_awake(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	TAILQ_REMOVE(&poller->awake, slots, link);
	poller->num_awake--;
	slots->pdev->num_awake--;
}

static void walk_begin(struct vrd_poller *poller, struct vrd_ctx_slots *slots, enum vrd_walk walk)
{
	if (!slots->walk)
		TAILQ_INSERT_TAIL(&poller->walks, slots, walk_link);
	slots->walk |= walk;
	/* Start again from the first group, for this reason and for those that were set before. */
	slots->walk_group = 0;
}

static void walk_end(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	if (slots->walk)
		TAILQ_REMOVE(&poller->walks, slots, walk_link);
	slots->walk = 0;
}

/* ---- contexts: attach, detach ------------------------------------------------- */

static void ctx_attach(struct vrd_poller *poller, void *arg)
{
	struct vrd_ctx_slots *slots = ((struct vrd_ctx *)arg)->slots;
	struct vrd_poller_dev *pdev = slots->pdev;

	slots->attached = true;
	/* After detach_all() there may be new QPs. */
	vrd_lock(&poller->inbox_lock);
	pdev->sched.gone = false;
	vrd_unlock(&poller->inbox_lock);
	/* For a suspended device the resume writes it. */
	if (pdev->sched.suspended)
		pdev->ring_generation--;
	else if (slots->db)
		vrd_guest_store32(slots->ctx->dev, &slots->db->need_wakeup, 1);
	put_asleep(poller, slots);
}

/* Removes the page from the poller's lists: it is not scanned any more. */
static void take_off(struct vrd_poller *poller, struct vrd_ctx_slots *slots)
{
	if (!slots->attached)
		return;
	slots->attached = false;
	if (slots->awake)
		take_awake(poller, slots);
	else
		take_asleep(poller, slots);
	walk_end(poller, slots);
	vrd_slots_rung(poller, slots, NULL);

	vrd_lock(&poller->inbox_lock);
	if (slots->failed)
		TAILQ_REMOVE(&poller->failed, slots, failed_link);
	slots->failed = true;		/* so that it is not added again */
	vrd_unlock(&poller->inbox_lock);
}

static void ctx_detach(struct vrd_poller *poller, void *arg)
{
	take_off(poller, ((struct vrd_ctx *)arg)->slots);
}

int vrd_poller_ctx_attach(struct vrd_ctx *ctx)
{
	struct vrd_engine *engine = ctx->dev->engine;
	struct vrd_ctx_slots *slots = calloc(1, sizeof(*slots));
	struct vrd_poller *poller = ctx->dev->poller;

	if (!slots)
		return -ENOMEM;
	pthread_mutex_lock(&engine->lock);
	for (unsigned int i = 0; i < engine->num_pollers; i++)
		if (engine->pollers[i].num_ctxs < poller->num_ctxs)
			poller = &engine->pollers[i];
	poller->num_ctxs++;
	pthread_mutex_unlock(&engine->lock);

	slots->ctx = ctx;
	slots->pdev = ctx->dev->pdevs[poller->index];
	slots->db = ctx->db;
	ctx->slots = slots;
	ctx->poller = poller;

	vrd_poller_call_quiet(poller, ctx_attach, ctx);
	return 0;
}

void vrd_poller_ctx_free(struct vrd_ctx *ctx)
{
	struct vrd_engine *engine = ctx->dev->engine;

	pthread_mutex_lock(&engine->lock);
	ctx->poller->num_ctxs--;
	pthread_mutex_unlock(&engine->lock);
	for (unsigned int i = 0; i < VIRTIO_RDMA_DB_GROUPS; i++)
		free(vrd_slot_group(ctx->slots, i));
	free(ctx->slots->sharers);
	free(ctx->slots);
	ctx->slots = NULL;
}

void vrd_poller_ctx_detach(struct vrd_ctx *ctx)
{
	vrd_poller_call_quiet(ctx->poller, ctx_detach, ctx);
	vrd_poller_ctx_free(ctx);
}

/*
 * Detaches all objects of a device at once.  Contexts are removed from the poller's lists.
 * The rings of their slots are left as they are, because no list refers to them any more.
 */
static void detach_all(struct vrd_poller *poller, void *arg)
{
	struct vrd_poller_dev *pdev = ((struct vrd_device *)arg)->pdevs[poller->index];
	struct vrd_ctx_slots *slots, *next;

	vrd_lock(&poller->inbox_lock);
	pdev->sched.gone = true;
	vrd_sched_unpost_all(poller, &pdev->sched);
	vrd_unlock(&poller->inbox_lock);

	vrd_hot_drop(poller, pdev->dev);
	vrd_run_queue_drop(poller, &pdev->sched);
	for (slots = TAILQ_FIRST(&poller->awake); slots && pdev->num_awake; slots = next) {
		next = TAILQ_NEXT(slots, link);
		if (slots->pdev == pdev)
			take_off(poller, slots);
	}
	while ((slots = TAILQ_FIRST(&pdev->asleep)))
		take_off(poller, slots);
}

void vrd_poller_detach_all(struct vrd_device *dev)
{
	vrd_engine_call_all(dev->engine, detach_all, dev);
}

void vrd_poller_detach_all_send(struct vrd_device *dev, struct vrd_visit *visit,
				void (*done)(struct vrd_visit *visit))
{
	visit->fn = detach_all;
	visit->arg = dev;
	visit->done = done;
	vrd_engine_visit(dev->engine, visit);
}

/* ---- slots -------------------------------------------------------------- */

/* The first free slot, or if all are used, the next one in rotation.  dev->lock. */
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
		/* Pairs with the acquire in vrd_slot_group(): the poller sees empty lists. */
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

/* ---- rings: attach, detach ------------------------------------------------------ */

static void ring_attach(struct vrd_ctx_slots *slots, struct vrd_ring *ring, uint32_t need_db)
{
	if (ring->slot == VIRTIO_RDMA_NONE)
		return;
	LIST_INSERT_HEAD(&vrd_slot_group(slots, ring->slot / 64)->rings[ring->slot % 64], ring,
			 slot_link);
	/* For a suspended device the resume writes it. */
	if (slots->pdev->sched.suspended)
		slots->pdev->ring_generation--;
	else if (ring->ctrl)
		vrd_guest_store32(vrd_ring_dev(ring), &ring->ctrl->need_db, need_db);
}

static void ring_detach(struct vrd_poller *poller, struct vrd_ctx_slots *slots,
			struct vrd_ring *ring)
{
	if (ring->slot == VIRTIO_RDMA_NONE)
		return;
	LIST_REMOVE(ring, slot_link);
	if (slots->rung == ring)
		vrd_slots_rung(poller, slots, NULL);
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

	vrd_run_queue_remove(poller, qp);
	vrd_hot_remove(poller, qp);
	ring_detach(poller, qp->ctx->slots, &qp->sq);
	ring_detach(poller, qp->ctx->slots, &qp->rq);
}

int vrd_poller_qp_attach(struct vrd_qp *qp)
{
	struct vrd_ctx_slots *slots = qp->ctx->slots;

	qp->sq.slot = VIRTIO_RDMA_NONE;
	qp->rq.slot = VIRTIO_RDMA_NONE;
	/* A QP without rings also gets a slot: it is found by its slot if its CQ fails. */
	if ((qp->sq.entries || qp->srq) && slot_alloc(slots, &qp->sq.slot))
		return -ENOMEM;
	if (qp->rq.entries && slot_alloc(slots, &qp->rq.slot)) {
		slot_free(slots, qp->sq.slot);
		return -ENOMEM;
	}
	qp->sched.dev = &slots->pdev->sched;
	qp->poller = qp->ctx->poller;
	qp->count = vrd_counters(qp->dev, qp->poller->index);
	vrd_poller_call_quiet(qp->poller, qp_attach, qp);
	return 0;
}

void vrd_poller_qp_ignore(struct vrd_qp *qp)
{
	struct vrd_poller *poller = qp->poller;

	vrd_lock(&poller->inbox_lock);
	__atomic_store_n(&qp->sched.detached, true, __ATOMIC_RELAXED);
	vrd_sched_unpost(poller, qp);
	vrd_unlock(&poller->inbox_lock);
}

void vrd_poller_qp_detach(struct vrd_qp *qp)
{
	vrd_poller_qp_ignore(qp);
	vrd_poller_call_quiet(qp->poller, qp_detach, qp);
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

	ring_detach(poller, srq->ctx->slots, &srq->ring);
}

int vrd_poller_srq_attach(struct vrd_srq *srq)
{
	if (slot_alloc(srq->ctx->slots, &srq->ring.slot))
		return -ENOMEM;
	srq->poller = srq->ctx->poller;
	vrd_poller_call_quiet(srq->poller, srq_attach, srq);
	return 0;
}

void vrd_poller_srq_detach(struct vrd_srq *srq)
{
	vrd_poller_call_quiet(srq->poller, srq_detach, srq);
	slot_free(srq->ctx->slots, srq->ring.slot);
}

/* ---- sleep, suspend, resume ---------------------------------------------- */

void vrd_doorbell_set_need_wakeup(struct vrd_poller *poller, uint32_t need_wakeup)
{
	struct vrd_ctx_slots *slots;

	TAILQ_FOREACH(slots, &poller->awake, link)
		if (slots->db)
			vrd_guest_store32(slots->ctx->dev, &slots->db->need_wakeup, need_wakeup);
}

void vrd_doorbell_sleep(struct vrd_poller *poller)
{
	struct vrd_ctx_slots *slots;

	while ((slots = TAILQ_FIRST(&poller->awake))) {
		take_awake(poller, slots);
		put_asleep(poller, slots);
	}
}

/*
 * These are the last stores to the device's memory.  They mark its rings and pages as not
 * watched.  After the resume each hot ring is run and each page is swept, so that requests
 * that were posted before these stores are not lost.
 */
void vrd_doorbell_suspend(struct vrd_poller *poller, void *dev)
{
	struct vrd_poller_dev *pdev = ((struct vrd_device *)dev)->pdevs[poller->index];
	struct vrd_ctx_slots *slots, *next;

	if (pdev->sched.suspended)
		return;
	vrd_hot_suspend(poller, dev);
	vrd_dev_sched_suspend(poller, &pdev->sched);
	if (pdev->num_asleep)
		TAILQ_REMOVE(&poller->rotation, pdev, turn_link);
	if (pdev->sweep)
		TAILQ_REMOVE(&poller->sweeps, pdev, sweep_link);
	pdev->sweep = 0;
	for (slots = TAILQ_FIRST(&poller->awake); slots && pdev->num_awake; slots = next) {
		next = TAILQ_NEXT(slots, link);
		if (slots->pdev != pdev)
			continue;
		if (slots->db)
			vrd_guest_store32(slots->ctx->dev, &slots->db->need_wakeup, 1);
		take_awake(poller, slots);
		put_asleep(poller, slots);
	}
}

/* Addresses have changed: writes all words again. */
static void resume_all(struct vrd_poller *poller, struct vrd_poller_dev *pdev)
{
	struct vrd_ctx_slots *slots;

	TAILQ_FOREACH(slots, &pdev->asleep, link) {
		slots->db = slots->ctx->db;
		if (slots->db)
			vrd_guest_store32(slots->ctx->dev, &slots->db->need_wakeup, 1);
		walk_begin(poller, slots, VRD_WALK_RESUME);
	}
}

void vrd_doorbell_resume(struct vrd_poller *poller, void *arg)
{
	struct vrd_device *dev = arg;
	struct vrd_poller_dev *pdev = dev->pdevs[poller->index];
	uint32_t generation;

	/* The device may have been suspended again; then another message follows. */
	if (!pdev->sched.suspended || vrd_device_suspended(dev))
		return;
	generation = atomic_load_explicit(&dev->ring_generation, memory_order_relaxed);
	if (generation != pdev->ring_generation)
		resume_all(poller, pdev);
	pdev->ring_generation = generation;
	vrd_dev_sched_resume(poller, &pdev->sched);
	if (pdev->num_asleep)
		TAILQ_INSERT_TAIL(&poller->rotation, pdev, turn_link);
	/* Orders the stores above and those of suspend before the loads of producers and pages. */
	vrd_full_barrier();
	vrd_doorbell_kicked(poller, pdev);
}

/* ---- walks: all rings of a context, a group in each turn ------------------------ */

void vrd_doorbell_cq_failed(struct vrd_ctx *ctx)
{
	struct vrd_poller *poller = ctx->poller;
	struct vrd_ctx_slots *slots = ctx->slots;
	bool first;

	vrd_lock(&poller->inbox_lock);
	first = !slots->failed;
	if (first)
		TAILQ_INSERT_TAIL(&poller->failed, slots, failed_link);
	slots->failed = true;
	vrd_unlock(&poller->inbox_lock);
	if (first)
		vrd_poller_attend(poller);
}

void vrd_doorbell_take_failed(struct vrd_poller *poller)
{
	struct vrd_ctx_slots *slots;

	while ((slots = TAILQ_FIRST(&poller->failed))) {
		TAILQ_REMOVE(&poller->failed, slots, failed_link);
		slots->failed = false;
		walk_begin(poller, slots, VRD_WALK_FAILED);
	}
}

static void resume_ring(struct vrd_poller *poller, struct vrd_ring *ring)
{
	struct vrd_qp *qp = ring->qp;

	if (qp && ring == &qp->sq) {
		/* A hot ring was rung since the resume: its need_db is correct. */
		if (ring->ctrl && qp->sched.hot < 0)
			vrd_guest_store32(vrd_ring_dev(ring), &ring->ctrl->need_db, 1);
		vrd_run_queue_add(poller, qp);
		return;
	}
	/* Transports change want_db under this lock. */
	vrd_lock(&ring->lock);
	if (ring->ctrl)
		vrd_guest_store32(vrd_ring_dev(ring), &ring->ctrl->need_db, ring->want_db);
	vrd_unlock(&ring->lock);
}

static void fail_ring(struct vrd_ring *ring)
{
	struct vrd_qp *qp = ring->qp;

	if (qp && (vrd_cq_failed(qp->send_cq) || vrd_cq_failed(qp->recv_cq)))
		vrd_qp_error(qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_NONE);
}

static void walk_group(struct vrd_poller *poller, struct vrd_slot_group *group, unsigned int walk)
{
	struct vrd_ring *ring;

	for (unsigned int i = 0; i < 64; i++) {
		LIST_FOREACH(ring, &group->rings[i], slot_link) {
			if (walk & VRD_WALK_FAILED)
				fail_ring(ring);
			if (walk & VRD_WALK_RESUME)
				resume_ring(poller, ring);
		}
	}
	if (!(walk & VRD_WALK_RESUME))
		return;
	/* Between the stores of need_db and the loads of the producers. */
	vrd_full_barrier();
	for (unsigned int i = 0; i < 64; i++)
		LIST_FOREACH(ring, &group->rings[i], slot_link)
			if (!ring->qp || ring != &ring->qp->sq)
				vrd_ring_rung(poller, ring);
}

bool vrd_doorbell_walk(struct vrd_poller *poller)
{
	struct vrd_ctx_slots *slots = TAILQ_FIRST(&poller->walks);
	struct vrd_slot_group *group = NULL;

	/* Serve another context next time. */
	TAILQ_REMOVE(&poller->walks, slots, walk_link);
	TAILQ_INSERT_TAIL(&poller->walks, slots, walk_link);
	if (slots->pdev->sched.suspended)
		return false;
	for (unsigned int n = 0; n < VRD_WALK_SKIP && !group &&
	     slots->walk_group < VIRTIO_RDMA_DB_GROUPS; n++)
		group = vrd_slot_group(slots, slots->walk_group++);
	if (group)
		walk_group(poller, group, slots->walk);
	if (slots->walk_group == VIRTIO_RDMA_DB_GROUPS)
		walk_end(poller, slots);
	return true;
}
