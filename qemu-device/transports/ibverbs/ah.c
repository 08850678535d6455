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

static void free_ah(struct vrd_ibv_dev *vdev, struct vrd_ibv_ah *ah)
{
	if (ah->ibah)
		ibv_destroy_ah(ah->ibah);
	free(ah);
	atomic_fetch_sub(&vdev->all_ahs, 1);
}

/*
 * Removes a handle from the cache.  Returns true if it has no users: the caller frees it
 * then, without the lock.
 */
static bool forget_locked(struct vrd_ibv_dev *vdev, struct vrd_ibv_ah *ah)
{
	*ah->link = ah->next;
	if (ah->next)
		ah->next->link = ah->link;
	TAILQ_REMOVE(&vdev->ah_lru, ah, lru);
	vdev->num_ahs--;
	atomic_store(&ah->stale, true);
	/* A wanted handle is freed by the worker, when it has processed it. */
	return !atomic_load(&ah->refs) && ah->state != VRD_IBV_AH_WANTED;
}

/* Removes unused handles, oldest first.  Returns a list, linked by @next, of handles to free. */
static struct vrd_ibv_ah *shrink_locked(struct vrd_ibv_dev *vdev)
{
	struct vrd_ibv_ah *ah = TAILQ_FIRST(&vdev->ah_lru), *next, *dead = NULL;

	for (; ah && vdev->num_ahs > VRD_IBV_MAX_AHS; ah = next) {
		next = TAILQ_NEXT(ah, lru);
		if (atomic_load(&ah->refs) || ah->state == VRD_IBV_AH_WANTED)
			continue;
		forget_locked(vdev, ah);
		ah->next = dead;
		dead = ah;
	}
	return dead;
}

static void free_list(struct vrd_ibv_dev *vdev, struct vrd_ibv_ah *dead)
{
	while (dead) {
		struct vrd_ibv_ah *ah = dead;

		dead = ah->next;
		free_ah(vdev, ah);
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
	struct vrd_ibv_ah *ah, *dead = NULL;

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
		if (forget_locked(vdev, ah)) {
			ah->next = NULL;
			dead = ah;
		}
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
	free_list(vdev, dead);
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
	bool last;

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
	last = atomic_fetch_sub(&ah->refs, 1) == 1 && atomic_load(&ah->stale);
	pthread_mutex_unlock(&vdev->lock);
	if (last)
		free_ah(vdev, ah);
}

/* ---- control thread ---------------------------------------------------------------------- */

/*
 * Removes the wanted handle if no other QP waits for it; otherwise a guest could make the
 * device keep many of them.
 */
void vrd_ibv_ah_forget(struct vrd_ibv_qp *vq)
{
	struct vrd_ibv_dev *vdev = vq->vdev;
	struct vrd_ibv_ah *ah, *dead = NULL;

	pthread_mutex_lock(&vdev->lock);
	ah = vq->waits_for;
	if (ah) {
		LIST_REMOVE(vq, ah_link);
		vq->waits_for = NULL;
		if (LIST_EMPTY(&ah->waiting) && ah != vdev->ah_busy) {
			TAILQ_REMOVE(&vdev->ah_work, ah, work);
			ah->state = VRD_IBV_AH_FAILED;
			forget_locked(vdev, ah);
			ah->next = NULL;
			dead = ah;
		}
	}
	pthread_mutex_unlock(&vdev->lock);
	free_list(vdev, dead);
}

/*
 * Called when the QPs of @pd are gone, and waits until the worker has finished with handles
 * of @pd.  Also called (with NULL) when addresses may resolve differently.
 */
void vrd_ibv_ah_flush(struct vrd_ibv_dev *vdev, const struct vrd_pd *pd)
{
	struct vrd_ibv_ah *ah, *next, *dead = NULL;

	pthread_mutex_lock(&vdev->lock);
	for (ah = TAILQ_FIRST(&vdev->ah_lru); ah; ah = next) {
		next = TAILQ_NEXT(ah, lru);
		if (pd && ah->pd != pd)
			continue;
		if (ah->state == VRD_IBV_AH_WANTED && ah != vdev->ah_busy) {
			TAILQ_REMOVE(&vdev->ah_work, ah, work);
			ah->state = VRD_IBV_AH_FAILED;
			wake_locked(ah);
		}
		if (forget_locked(vdev, ah)) {
			ah->next = dead;
			dead = ah;
		}
	}
	while (pd && (vdev->ah_busy_pd == pd || vdev->ah_freeing))
		pthread_cond_wait(&vdev->idle, &vdev->lock);
	pthread_mutex_unlock(&vdev->lock);
	free_list(vdev, dead);
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

bool vrd_ibv_ah_work(struct vrd_ibv_dev *vdev)
{
	struct vrd_ibv_ah *ah, *dead = NULL;
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
	if (atomic_load(&ah->stale) && !atomic_load(&ah->refs)) {
		ah->next = NULL;
		dead = ah;
	} else {
		dead = shrink_locked(vdev);
	}
	vdev->ah_freeing = dead;
	pthread_mutex_unlock(&vdev->lock);
	/* The thread that frees a PD waits until the last of its handles is destroyed. */
	free_list(vdev, dead);
	pthread_mutex_lock(&vdev->lock);
	vdev->ah_busy_pd = NULL;
	vdev->ah_freeing = false;
	pthread_cond_broadcast(&vdev->idle);
	pthread_mutex_unlock(&vdev->lock);
	return true;
}
