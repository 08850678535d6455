// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The scan of doorbell pages for dirty bytes, by which send rings that are not
 * watched are found, and receive rings whose transport asked for it.
 *
 * A turn looks at some of the contexts that are awake, in rotation, and at fewer
 * of those that sleep; after a notification all sleeping contexts of its device
 * are swept.  Everything in a page is the guest's and may be garbage: a turn
 * serves a bounded number of groups for each, and what it costs is its own rings'
 * runs.
 *
 * Threading: the poller's own.
 */
#include "path.h"
#include "poller_internal.h"

/* @num of 64 bytes of the guest's, as a mask of those that are set. */
static inline uint64_t set_bytes(const __u8 *bytes, unsigned int num)
{
	const vrd_shm64 *words = (const void *)bytes;
	uint64_t mask = 0, any = 0, w[8];

	for (unsigned int i = 0; i < 8; i++) {
		w[i] = le64toh(__atomic_load_n(&words[i], __ATOMIC_RELAXED));
		if (i == num / 8)
			w[i] &= (1ULL << num % 8 * 8) - 1;
		any |= w[i];
	}
	for (unsigned int i = 0; any && i < 8; i++) {
		uint64_t word = w[i];

		if (!word)
			continue;
		/* Any bit of a byte to its lowest, then those to the top byte. */
		word |= word >> 4;
		word |= word >> 2;
		word |= word >> 1;
		word &= 0x0101010101010101ULL;
		mask |= (word * 0x0102040810204080ULL >> 56) << 8 * i;
	}
	return mask;
}

static uint64_t summary(const struct vrd_ctx_slots *slots)
{
	return set_bytes(slots->db->summary, VIRTIO_RDMA_DB_GROUPS);
}

void vrd_ring_rung(struct vrd_poller *poller, struct vrd_ring *ring)
{
	struct vrd_qp *qp = ring->qp;
	const struct vrd_path_ops *path;

	if (ring->srq) {
		vrd_transports_srq_run(ring->srq);
	} else if (ring == &qp->sq) {
		vrd_hot_add(poller, qp);
		vrd_run_queue_add(poller, qp);
	} else {
		path = vrd_qp_path(qp);
		if (path->rq_run)
			path->rq_run(qp);
	}
}

/*
 * One look at several pages.  Each step needs lines that guests' CPUs have just
 * written, or a barrier between our store and our next load; so a step is done
 * for all pages before the next one: what is waited for is the slowest line, and
 * one barrier, not the sum of them.
 */
#define SCAN_GROUPS	(2 * VRD_SCAN_AWAKE * VRD_SCAN_GROUPS)

struct scan {
	unsigned int num;
	struct scan_group {
		struct vrd_ctx_slots *slots;
		unsigned int group;
		uint64_t dirty;
	} group[SCAN_GROUPS];
};

/* Begins to load what is needed after the next barrier. */
static inline void prefetch_rings(const struct scan_group *sg)
{
	const struct vrd_slot_group *group = vrd_slot_group(sg->slots, sg->group);

	if (!group)
		return;
	for (uint64_t left = sg->dirty; left; left &= left - 1) {
		const struct vrd_ring *ring = LIST_FIRST(&group->rings[__builtin_ctzll(left)]);

		if (!ring || !ring->ctrl)
			continue;
		__builtin_prefetch(&ring->ctrl->producer);
		if (ring->qp && ring == &ring->qp->sq)
			vrd_sq_prefetch(ring->qp, ring->qp->sched.head);
	}
}

static void take_dirty(struct scan_group *sg)
{
	struct virtio_rdma_db_page *db = sg->slots->db;

	sg->dirty = set_bytes(&db->dirty[sg->group * 64], 64);
	for (uint64_t left = sg->dirty; left; left &= left - 1)
		vrd_store8(&db->dirty[sg->group * 64 + __builtin_ctzll(left)], 0);
	prefetch_rings(sg);
}

static void ring_all(struct vrd_poller *poller, const struct scan_group *sg)
{
	struct vrd_slot_group *group = vrd_slot_group(sg->slots, sg->group);
	unsigned int rung = 0;

	if (!group)
		return;
	for (uint64_t left = sg->dirty; left; left &= left - 1) {
		struct vrd_ring *ring;

		LIST_FOREACH(ring, &group->rings[__builtin_ctzll(left)], slot_link) {
			vrd_ring_rung(poller, ring);
			rung++;
		}
	}
	if (rung)
		vrd_stat_add(sg->slots->ctx->dev, VIRTIO_RDMA_STAT_SCANS, rung);
}

/* Serves the dirty bytes of the groups that were found. */
static void scan_finish(struct vrd_poller *poller, struct scan *scan)
{
	if (!scan->num)
		return;
	/* pairs with the driver's, after it stored the summary byte */
	vrd_full_barrier();
	for (unsigned int i = 0; i < scan->num; i++)
		take_dirty(&scan->group[i]);
	/* Between each dirty byte and its producer. */
	vrd_full_barrier();
	for (unsigned int i = 0; i < scan->num; i++)
		ring_all(poller, &scan->group[i]);
	scan->num = 0;
}

/* Looks at one page; true if a byte was set. */
static bool scan_ctx(struct vrd_poller *poller, struct vrd_ctx_slots *slots, struct scan *scan)
{
	struct virtio_rdma_db_page *db = slots->db;
	uint64_t groups;

	if (!db)
		return false;
	groups = summary(slots);
	if (!groups)
		return false;
	if (!slots->awake) {
		vrd_ctx_slots_wake(poller, slots);
		vrd_store32(&db->need_wakeup, 0);
	}

	if (scan->num + VRD_SCAN_GROUPS > SCAN_GROUPS)
		scan_finish(poller, scan);
	/* The rest waits for the next turn; begin after the last one served. */
	for (unsigned int n = 0; n < VRD_SCAN_GROUPS && groups; n++) {
		uint64_t after = groups & ~((1ULL << slots->next_group) - 1);
		unsigned int group = __builtin_ctzll(after ? after : groups);

		__builtin_prefetch(&db->dirty[group * 64]);
		vrd_store8(&db->summary[group], 0);
		scan->group[scan->num++] = (struct scan_group){ .slots = slots, .group = group };
		groups &= ~(1ULL << group);
		slots->next_group = group + 1;
	}
	return true;
}

/* Up to @max sleeping contexts of one device, in turn. */
static bool scan_asleep(struct vrd_poller *poller, struct vrd_poller_dev *pdev, unsigned int max,
			struct scan *scan)
{
	bool found = false;

	for (unsigned int n = pdev->num_asleep < max ? pdev->num_asleep : max; n; n--) {
		struct vrd_ctx_slots *slots = TAILQ_FIRST(&pdev->asleep);

		if (pdev->sweep && !--pdev->sweep)
			poller->num_sweeps--;
		if (scan_ctx(poller, slots, scan)) {
			found = true;
			continue;		/* it is awake now */
		}
		TAILQ_REMOVE(&pdev->asleep, slots, link);
		TAILQ_INSERT_TAIL(&pdev->asleep, slots, link);
	}
	return found;
}

/* The summary lines of the pages that are looked at next. */
static void prefetch_awake(struct vrd_poller *poller, unsigned int num)
{
	struct vrd_ctx_slots *slots = TAILQ_FIRST(&poller->awake);

	for (; num && slots; num--, slots = TAILQ_NEXT(slots, link))
		if (slots->db)
			__builtin_prefetch(slots->db->summary);
}

bool vrd_doorbell_turn(struct vrd_poller *poller)
{
	unsigned int awake = poller->num_awake < VRD_SCAN_AWAKE ? poller->num_awake :
			     VRD_SCAN_AWAKE;
	struct scan scan;
	struct vrd_poller_dev *pdev;
	bool found = false;

	scan.num = 0;
	if (awake > 1)
		prefetch_awake(poller, awake);
	while (awake--) {
		struct vrd_ctx_slots *slots = TAILQ_FIRST(&poller->awake);

		found |= scan_ctx(poller, slots, &scan);
		if (poller->num_awake > 1) {
			TAILQ_REMOVE(&poller->awake, slots, link);
			TAILQ_INSERT_TAIL(&poller->awake, slots, link);
		}
	}

	if (poller->num_sweeps) {
		LIST_FOREACH(pdev, &poller->devs, link) {
			if (!pdev->sweep)
				continue;
			scan_asleep(poller, pdev, VRD_SCAN_AWAKE, &scan);
			found = true;
		}
		scan_finish(poller, &scan);
		return found;
	}

	pdev = TAILQ_FIRST(&poller->rotation);
	if (pdev) {
		TAILQ_REMOVE(&poller->rotation, pdev, turn_link);
		TAILQ_INSERT_TAIL(&poller->rotation, pdev, turn_link);
		found |= scan_asleep(poller, pdev, VRD_SCAN_ASLEEP, &scan);
	}
	scan_finish(poller, &scan);
	return found;
}

void vrd_doorbell_kicked(struct vrd_poller *poller, struct vrd_poller_dev *pdev)
{
	if (!pdev->num_asleep)
		return;
	if (!pdev->sweep)
		poller->num_sweeps++;
	pdev->sweep = pdev->num_asleep;
}

bool vrd_doorbell_pending(struct vrd_poller *poller)
{
	struct vrd_ctx_slots *slots;

	TAILQ_FOREACH(slots, &poller->awake, link)
		if (slots->db && summary(slots))
			return true;
	return false;
}
