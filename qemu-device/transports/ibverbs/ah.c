// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: address handles.
 *
 * A guest's address handle is no object of the device: each datagram contains its whole
 * address vector.  The host needs an address handle, and creating one may take a second,
 * because a neighbour must be resolved.  So handles are cached by address vector, the worker
 * creates missing handles, and only the send queue that needs one waits.
 *
 * The host may use a handle until its datagram is complete, so each datagram in flight holds
 * a reference.  The most recently used handles are kept when they are unused.  A handle that
 * could not be created stays in the cache for a while, so that a guest that sends to an
 * unreachable address does not keep the worker busy.  Its datagrams are sent to QP 0 of the
 * port itself, which drops them, as a network would.
 *
 * Destroying a handle may block in the host's kernel as well.  Pollers, the control thread
 * and the front end only remove handles from the cache.  The worker destroys them, or, for a
 * PD that ends, the thread that deallocates the PD.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ibv.h"
#include "log.h"

/* The creation of a handle that failed is tried again after this time. */
#define FAILED_NS	1000000000ULL

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/*
 * Seeded with a number that guests do not know, so that no guest can choose address vectors
 * that all hash to one bucket.
 */
static unsigned int hash(const struct vrd_ibv_dev *vdev, const struct vrd_ibv_ah_key *key)
{
	uint64_t words[(sizeof(*key) + 7) / 8] = { 0 }, h = vdev->ah_seed;

	memcpy(words, key, sizeof(*key));
	for (unsigned int i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		h = (h ^ words[i]) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 32;
	}
	return (h ^ vdev->ah_seed) * 0x9e3779b97f4a7c15ULL >> 56;
}
_Static_assert(VRD_IBV_AH_BUCKETS == 1U << 8, "hash() makes 8 bits");
_Static_assert(sizeof(struct vrd_ibv_ah_key) == 28, "no padding, or keys do not compare");

static void make_key(struct vrd_ibv_ah_key *key, const struct virtio_rdma_av *av)
{
	*key = (struct vrd_ibv_ah_key){
		.pd = le32toh(av->pd),
		.flow_label = le32toh(av->flow_label),
		.sgid_index = av->sgid_index,
		.hop_limit = av->hop_limit,
		.tclass = av->tclass,
		.sl = av->sl,
	};
	memcpy(key->dgid, av->dgid, 16);
}

/* ---- the table: vdev->lock ------------------------------------------------------ */

static struct vrd_ibv_ah *find_locked(struct vrd_ibv_dev *vdev, const struct vrd_ibv_ah_key *key)
{
	struct vrd_ibv_ah *ah = vdev->ahs[hash(vdev, key)];

	while (ah && memcmp(&ah->key, key, sizeof(*key)))
		ah = ah->next;
	return ah;
}

/* Worker, or the thread that deallocates the PD; without the lock: it may block. */
static void free_ah(struct vrd_ibv_dev *vdev, struct vrd_ibv_ah *ah)
{
	if (ah->ibah)
		ibv_destroy_ah(ah->ibah);
	free(ah);
	atomic_fetch_sub(&vdev->all_ahs, 1);
}

/* Hands a stale handle without users to the worker, which destroys it. */
static void bury_locked(struct vrd_ibv_dev *vdev, struct vrd_ibv_ah *ah)
{
	/* The worker goes on until the list is empty. */
	if (TAILQ_EMPTY(&vdev->ah_dead))
		vrd_ibv_worker_wake(vdev);
	TAILQ_INSERT_TAIL(&vdev->ah_dead, ah, lru);
}

/* Removes a handle from the cache.  It is destroyed when it has no users. */
static void forget_locked(struct vrd_ibv_dev *vdev, struct vrd_ibv_ah *ah)
{
	*ah->link = ah->next;
	if (ah->next)
		ah->next->link = ah->link;
	TAILQ_REMOVE(&vdev->ah_lru, ah, lru);
	vdev->num_ahs--;
	atomic_store(&ah->stale, true);
	/* The worker buries a wanted handle, when it has processed it. */
	if (!atomic_load(&ah->refs) && ah->state != VRD_IBV_AH_WANTED)
		bury_locked(vdev, ah);
}

/* Removes unused handles, oldest first. */
static void shrink_locked(struct vrd_ibv_dev *vdev)
{
	struct vrd_ibv_ah *ah = TAILQ_FIRST(&vdev->ah_lru), *next;

	for (; ah && vdev->num_ahs > VRD_IBV_MAX_AHS; ah = next) {
		next = TAILQ_NEXT(ah, lru);
		if (!atomic_load(&ah->refs) && ah->state != VRD_IBV_AH_WANTED)
			forget_locked(vdev, ah);
	}
}

static struct vrd_ibv_ah *add_locked(struct vrd_ibv_qp *vq, const struct vrd_ibv_ah_key *key)
{
	struct vrd_ibv_dev *vdev = vq->vdev;
	const uint8_t *sgid = vrd_gid_at(vdev->dev, key->sgid_index);
	struct vrd_ibv_ah **bucket = &vdev->ahs[hash(vdev, key)];
	struct vrd_ibv_ah *ah;

	/*
	 * The limit counts handles of unsignaled datagrams too: each entry of each ring may
	 * hold one.
	 */
	if (!sgid || atomic_load(&vdev->all_ahs) >= VRD_IBV_MAX_USED_AHS)
		return NULL;
	ah = calloc(1, sizeof(*ah));
	if (!ah)
		return NULL;
	atomic_fetch_add(&vdev->all_ahs, 1);
	ah->key = *key;
	ah->pd = vq->qp->pd;
	memcpy(ah->sgid, sgid, 16);
	ah->state = VRD_IBV_AH_WANTED;
	LIST_INIT(&ah->waiting);
	ah->next = *bucket;
	ah->link = bucket;
	if (ah->next)
		ah->next->link = &ah->next;
	*bucket = ah;
	vdev->num_ahs++;
	TAILQ_INSERT_TAIL(&vdev->ah_lru, ah, lru);
	TAILQ_INSERT_TAIL(&vdev->ah_work, ah, work);
	vrd_ibv_worker_wake(vdev);
	return ah;
}

/* Schedules the QPs that waited for the handle. */
static void wake_locked(struct vrd_ibv_ah *ah)
{
	struct vrd_ibv_qp *vq;

	while ((vq = LIST_FIRST(&ah->waiting))) {
		LIST_REMOVE(vq, ah_link);
		vq->waits_for = NULL;
		vrd_qp_schedule(vq->qp);
	}
}

/* ---- the poller's part --------------------------------------------------------------- */

static struct vrd_ibv_ah *get_slow(struct vrd_ibv_qp *vq, const struct vrd_ibv_ah_key *key)
{
	struct vrd_ibv_dev *vdev = vq->vdev;
	struct vrd_ibv_ah *ah;

	pthread_mutex_lock(&vdev->lock);
	/*
	 * The entry may contain another address each time it is read.  A QP waits for one
	 * handle at a time; otherwise a process could have any number of them created.
	 */
	if (vq->waits_for) {
		pthread_mutex_unlock(&vdev->lock);
		return NULL;
	}
	ah = find_locked(vdev, key);
	if (ah && ah->state == VRD_IBV_AH_FAILED && now_ns() - ah->failed_at > FAILED_NS) {
		forget_locked(vdev, ah);
		ah = NULL;
	}
	if (!ah)
		ah = add_locked(vq, key);
	if (!ah) {
		/* No memory, or too many handles: the timer schedules the QP again. */
		vq->blocked = true;
		vrd_timer_set(vq->qp->poller, &vq->timer,
			      vrd_poller_now(vq->qp->poller) + VRD_IBV_RETRY_NS);
	} else if (ah->state == VRD_IBV_AH_WANTED) {
		LIST_INSERT_HEAD(&ah->waiting, vq, ah_link);
		vq->waits_for = ah;
		ah = NULL;
	} else {
		atomic_fetch_add(&ah->refs, 1);
		TAILQ_REMOVE(&vdev->ah_lru, ah, lru);
		TAILQ_INSERT_TAIL(&vdev->ah_lru, ah, lru);
	}
	pthread_mutex_unlock(&vdev->lock);
	return ah;
}

struct vrd_ibv_ah *vrd_ibv_ah_get(struct vrd_ibv_qp *vq, const struct virtio_rdma_av *av)
{
	struct vrd_ibv_ah *ah = vq->last_ah;
	struct vrd_ibv_ah_key key;

	make_key(&key, av);
	/* Most datagrams have the same destination as the previous one, whose reference is held. */
	if (ah && !atomic_load(&ah->stale) && ah->state == VRD_IBV_AH_READY &&
	    !memcmp(&ah->key, &key, sizeof(key))) {
		atomic_fetch_add(&ah->refs, 1);
		return ah;
	}
	ah = get_slow(vq, &key);
	if (!ah)
		return NULL;
	if (vq->last_ah)
		vrd_ibv_ah_put(vq->vdev, vq->last_ah);
	atomic_fetch_add(&ah->refs, 1);
	vq->last_ah = ah;
	return ah;
}

void vrd_ibv_ah_put(struct vrd_ibv_dev *vdev, struct vrd_ibv_ah *ah)
{
	/*
	 * Takes the lock, so that either the thread that makes the handle stale sees this
	 * reference, or this function sees that the handle is stale.
	 */
	if (atomic_load(&ah->refs) > 1 && !atomic_load(&ah->stale)) {
		unsigned int refs = atomic_load(&ah->refs);

		while (refs > 1)
			if (atomic_compare_exchange_weak(&ah->refs, &refs, refs - 1))
				return;
	}
	pthread_mutex_lock(&vdev->lock);
	if (atomic_fetch_sub(&ah->refs, 1) == 1 && atomic_load(&ah->stale))
		bury_locked(vdev, ah);
	pthread_mutex_unlock(&vdev->lock);
}

/* ---- control thread ---------------------------------------------------------------------- */

/*
 * Removes the wanted handle if no other QP waits for it; otherwise a guest could make the
 * device keep many of them.
 */
void vrd_ibv_ah_forget(struct vrd_ibv_qp *vq)
{
	struct vrd_ibv_dev *vdev = vq->vdev;
	struct vrd_ibv_ah *ah;

	pthread_mutex_lock(&vdev->lock);
	ah = vq->waits_for;
	if (ah) {
		LIST_REMOVE(vq, ah_link);
		vq->waits_for = NULL;
		if (LIST_EMPTY(&ah->waiting) && ah != vdev->ah_busy) {
			TAILQ_REMOVE(&vdev->ah_work, ah, work);
			ah->state = VRD_IBV_AH_FAILED;
			forget_locked(vdev, ah);
		}
	}
	pthread_mutex_unlock(&vdev->lock);
}

static void flush_locked(struct vrd_ibv_dev *vdev, const struct vrd_pd *pd)
{
	struct vrd_ibv_ah *ah, *next;

	for (ah = TAILQ_FIRST(&vdev->ah_lru); ah; ah = next) {
		next = TAILQ_NEXT(ah, lru);
		if (pd && ah->pd != pd)
			continue;
		if (ah->state == VRD_IBV_AH_WANTED && ah != vdev->ah_busy) {
			TAILQ_REMOVE(&vdev->ah_work, ah, work);
			ah->state = VRD_IBV_AH_FAILED;
			wake_locked(ah);
		}
		forget_locked(vdev, ah);
	}
}

void vrd_ibv_ah_flush(struct vrd_ibv_dev *vdev)
{
	pthread_mutex_lock(&vdev->lock);
	flush_locked(vdev, NULL);
	pthread_mutex_unlock(&vdev->lock);
}

void vrd_ibv_ah_flush_pd(struct vrd_ibv_dev *vdev, const struct vrd_pd *pd)
{
	struct vrd_ibv_ah_list dead = TAILQ_HEAD_INITIALIZER(dead);
	struct vrd_ibv_ah *ah, *next;

	pthread_mutex_lock(&vdev->lock);
	flush_locked(vdev, pd);
	while (vdev->ah_busy_pd == pd)
		pthread_cond_wait(&vdev->idle, &vdev->lock);
	/* After the wait: the worker buries the handle that it was creating. */
	for (ah = TAILQ_FIRST(&vdev->ah_dead); ah; ah = next) {
		next = TAILQ_NEXT(ah, lru);
		if (ah->pd != pd)
			continue;
		TAILQ_REMOVE(&vdev->ah_dead, ah, lru);
		TAILQ_INSERT_TAIL(&dead, ah, lru);
	}
	pthread_mutex_unlock(&vdev->lock);
	while ((ah = TAILQ_FIRST(&dead))) {
		TAILQ_REMOVE(&dead, ah, lru);
		free_ah(vdev, ah);
	}
}

/* ---- the worker's part ------------------------------------------------------------- */

static struct ibv_ah *make(struct vrd_ibv_dev *vdev, const struct vrd_ibv_ah *ah)
{
	int index = vrd_ibv_gid_index(vdev, ah->sgid);
	struct ibv_ah_attr attr = {
		.grh = {
			.flow_label = ah->key.flow_label,
			.sgid_index = (uint8_t)index,
			.hop_limit = ah->key.hop_limit,
			.traffic_class = ah->key.tclass,
		},
		.sl = ah->key.sl,
		.is_global = 1,
		.port_num = vdev->port_num,
	};

	memcpy(attr.grh.dgid.raw, ah->key.dgid, 16);
	errno = EADDRNOTAVAIL;
	return index < 0 ? NULL : ibv_create_ah(ah->pd->priv[VRD_SLOT_IBVERBS], &attr);
}

static void note_failure(struct vrd_ibv_dev *vdev, const struct vrd_ibv_ah *ah, int error)
{
	char address[64];

	vrd_ibv_gid_format(ah->key.dgid, address, sizeof(address));
	vrd_dev_log(vdev->dev, VRD_LOG_WARN, "datagrams to %s are dropped: the host has no way there: %s",
		    address, strerror(error));
}

/* vrd_ibv_ah_flush_pd() waits until the worker does not use handles of its PD. */
static void set_idle_locked(struct vrd_ibv_dev *vdev)
{
	vdev->ah_busy_pd = NULL;
	pthread_cond_broadcast(&vdev->idle);
}

/* Destroys one handle; false: there is none. */
static bool destroy_one(struct vrd_ibv_dev *vdev)
{
	struct vrd_ibv_ah *ah;

	pthread_mutex_lock(&vdev->lock);
	ah = TAILQ_FIRST(&vdev->ah_dead);
	if (ah) {
		TAILQ_REMOVE(&vdev->ah_dead, ah, lru);
		vdev->ah_busy_pd = ah->pd;
	}
	pthread_mutex_unlock(&vdev->lock);
	if (!ah)
		return false;

	free_ah(vdev, ah);

	pthread_mutex_lock(&vdev->lock);
	set_idle_locked(vdev);
	pthread_mutex_unlock(&vdev->lock);
	return true;
}

/* Creates one handle; false: none is wanted. */
static bool create_one(struct vrd_ibv_dev *vdev)
{
	struct vrd_ibv_ah *ah;
	bool failed;

	pthread_mutex_lock(&vdev->lock);
	ah = TAILQ_FIRST(&vdev->ah_work);
	if (ah) {
		TAILQ_REMOVE(&vdev->ah_work, ah, work);
		vdev->ah_busy = ah;
		vdev->ah_busy_pd = ah->pd;
	}
	pthread_mutex_unlock(&vdev->lock);
	if (!ah)
		return false;

	ah->ibah = make(vdev, ah);
	failed = !ah->ibah;
	if (failed) {
		note_failure(vdev, ah, errno);
		ah->ibah = vrd_ibv_ah_to_self(vdev, ah->pd->priv[VRD_SLOT_IBVERBS]);
		ah->failed_at = now_ns();
	}

	pthread_mutex_lock(&vdev->lock);
	vdev->ah_busy = NULL;
	ah->state = failed ? VRD_IBV_AH_FAILED : VRD_IBV_AH_READY;
	wake_locked(ah);
	if (atomic_load(&ah->stale) && !atomic_load(&ah->refs))
		bury_locked(vdev, ah);
	shrink_locked(vdev);
	set_idle_locked(vdev);
	pthread_mutex_unlock(&vdev->lock);
	return true;
}

/* One of each: neither kind of work delays the other for long. */
bool vrd_ibv_ah_work(struct vrd_ibv_dev *vdev)
{
	bool destroyed = destroy_one(vdev);

	return create_one(vdev) || destroyed;
}
