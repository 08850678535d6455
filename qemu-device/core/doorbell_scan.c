// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The scan of doorbell pages for dirty bytes.  It finds send rings that are not watched, and
 * receive rings for which the transport enabled doorbells.
 *
 * A turn checks some of the contexts that are awake, and from time to time a few of those
 * that sleep.  After a notification all sleeping contexts of its device are swept.  The guest
 * writes the page and may write any values: a turn serves a bounded number of groups and of
 * dirty bytes.
 *
 * Threading: all data belong to the poller.
 */
#include "path.h"
#include "poller_internal.h"
#include "store.h"

/* Word @i of a line of bytes; in the last word only the bytes below byte @num. */
static inline uint64_t load_word(const __u8 *bytes, unsigned int i, unsigned int num)
{
	const vrd_shm64 *words = (const void *)bytes;
	uint64_t word = le64toh(__atomic_load_n(&words[i], __ATOMIC_RELAXED));

	return i == num / 8 ? word & ((1ULL << num % 8 * 8) - 1) : word;
}

/* True if one of @num bytes (at most 64) is set.  The poller calls it in every turn. */
static inline bool any_byte(const __u8 *bytes, unsigned int num)
{
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
	/* The load is atomic for each byte; the guest only writes single bytes. */
	typedef long long __attribute__((vector_size(16), __may_alias__)) block;
	const volatile block *blocks = (const volatile void *)bytes;
	block last = blocks[3], any;

	if (num == VIRTIO_RDMA_DB_GROUPS)
		last &= (block){ -1, 0x0000ffffffffffffLL };
	any = blocks[0] | blocks[1] | blocks[2] | last;
	return any[0] | any[1];
#else
	uint64_t any = 0;

	for (unsigned int i = 0; i < 8; i++)
		any |= load_word(bytes, i, num);
	return any;
#endif
}

/* A mask of the bytes that are set. */
static uint64_t set_bytes(const __u8 *bytes, unsigned int num)
{
	uint64_t mask = 0;

	for (unsigned int i = 0; i < 8; i++) {
		uint64_t word = load_word(bytes, i, num);

		if (!word)
			continue;
		/*
		 * Move any set bit of a byte to its lowest bit, then gather these bits in the
		 * top byte.
		 */
		word |= word >> 4;
		word |= word >> 2;
		word |= word >> 1;
		word &= 0x0101010101010101ULL;
		mask |= (word * 0x0102040810204080ULL >> 56) << 8 * i;
	}
	return mask;
}

/* Ignores the rest of the line, which is reserved. */
static inline bool has_summary(const struct vrd_ctx_slots *slots)
{
	return any_byte(slots->db->summary, VIRTIO_RDMA_DB_GROUPS);
}

/* True if the scan has to serve the page. */
static inline bool is_rung(const struct vrd_ctx_slots *slots)
{
	return slots->db && (has_summary(slots) || slots->again);
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

/* ---- batched scan of pages ------------------------------------------------------ */

/*
 * One scan of several pages.  Each step needs lines that guests' CPUs have just written, or
 * a barrier between a store and the next load.  So each step is done for all pages before
 * the next one.  Then the cost is one barrier and the slowest line, and not the sum of all.
 */
#define SCAN_GROUPS	(2 * VRD_SCAN_AWAKE * VRD_SCAN_GROUPS)

struct scan {
	unsigned int num;
	unsigned int bytes_left;		/* dirty bytes that this turn may still take */
	struct scan_group {
		struct vrd_ctx_slots *slots;
		unsigned int group;
		uint64_t dirty;
	} group[SCAN_GROUPS];
};

/* Prefetches the lines that are needed after the next barrier. */
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

/*
 * Clears the dirty bytes that are set, and returns them as a mask.  Bytes beyond the limit
 * of a turn remain set, and the next turn begins with them.
 */
static uint64_t take_dirty(struct scan *scan, struct scan_group *sg)
{
	struct vrd_ctx_slots *slots = sg->slots;
	__u8 *dirty = &slots->db->dirty[sg->group * 64];
	uint64_t set = set_bytes(dirty, 64), taken = 0;

	while (set) {
		uint64_t after = set & ~((1ULL << slots->next_byte) - 1);
		unsigned int i = __builtin_ctzll(after ? after : set);

		if (!scan->bytes_left) {
			slots->next_byte = i;
			slots->again |= 1ULL << sg->group;
			break;
		}
		scan->bytes_left--;
		vrd_guest_store8(slots->ctx->dev, &dirty[i], 0);
		taken |= 1ULL << i;
		set &= ~(1ULL << i);
	}
	return taken;
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
			if (ring->qp && ring == &ring->qp->sq)
				vrd_slots_rung(poller, sg->slots,
					       ring->qp->sched.hot < 0 ? ring : NULL);
			rung++;
		}
	}
	if (rung)
		vrd_stat_add(sg->slots->ctx->dev, VIRTIO_RDMA_STAT_SCANS, rung);
}

/*
 * Serves the dirty bytes of the groups that were found.
 *
 * A dirty byte is set before the summary byte.  So it is usually visible already, and is
 * taken before the barrier: then one barrier is enough between the summary byte and the
 * dirty bytes, and between those and the producers.  Bytes that were set after the first
 * check are found by the second one, and need another barrier.
 */
static void scan_finish(struct vrd_poller *poller, struct scan *scan)
{
	bool late = false;

	if (!scan->num)
		return;
	for (unsigned int i = 0; i < scan->num; i++)
		scan->group[i].dirty = take_dirty(scan, &scan->group[i]);
	/*
	 * Pairs with the driver's barrier after its store of the summary byte; also orders the
	 * loads of producers.
	 */
	vrd_full_barrier();
	for (unsigned int i = 0; i < scan->num; i++) {
		struct scan_group *sg = &scan->group[i];

		prefetch_rings(sg);
		if (!any_byte(&sg->slots->db->dirty[sg->group * 64], 64))
			continue;
		sg->dirty |= take_dirty(scan, sg);
		late = true;
	}
	if (late)
		vrd_full_barrier();
	for (unsigned int i = 0; i < scan->num; i++)
		ring_all(poller, &scan->group[i]);
	scan->num = 0;
}

/* The page has a byte set in its summary, or dirty bytes were left over. */
static void scan_page(struct vrd_poller *poller, struct vrd_ctx_slots *slots, struct scan *scan)
{
	struct virtio_rdma_db_page *db = slots->db;
	uint64_t groups = set_bytes(db->summary, VIRTIO_RDMA_DB_GROUPS) | slots->again;

	if (!slots->awake) {
		vrd_ctx_slots_wake(poller, slots);
		vrd_guest_store32(slots->ctx->dev, &db->need_wakeup, 0);
	}
	if (scan->num + VRD_SCAN_GROUPS > SCAN_GROUPS)
		scan_finish(poller, scan);
	/* The other groups wait for the next turn.  Begin after the last group that was served. */
	for (unsigned int n = 0; n < VRD_SCAN_GROUPS && groups; n++) {
		uint64_t after = groups & ~((1ULL << slots->next_group) - 1);
		unsigned int group = __builtin_ctzll(after ? after : groups);

		__builtin_prefetch(&db->dirty[group * 64], 1);
		vrd_guest_store8(slots->ctx->dev, &db->summary[group], 0);
		scan->group[scan->num++] = (struct scan_group){ .slots = slots, .group = group };
		groups &= ~(1ULL << group);
		slots->again &= ~(1ULL << group);
		slots->next_group = (group + 1) % VIRTIO_RDMA_DB_GROUPS;
	}
}

static inline bool scan_ctx(struct vrd_poller *poller, struct vrd_ctx_slots *slots,
			    struct scan *scan)
{
	if (!is_rung(slots))
		return false;
	scan_page(poller, slots, scan);
	return true;
}

/* ---- selection of pages ------------------------------------------------------------ */

/*
 * Prefetches the summary line, which the guest writes last, and the lines that it wrote
 * before if it rings the same ring as the last time.  All lines are then transferred in
 * parallel.
 */
static inline void prefetch_page(const struct vrd_ctx_slots *slots)
{
	const struct vrd_ring *ring = slots->rung;

	if (!slots->db || !ring)
		return;
	__builtin_prefetch(slots->db->summary, 1);
	__builtin_prefetch(&slots->db->dirty[ring->slot], 1);
	if (ring->ctrl) {
		__builtin_prefetch(&ring->ctrl->producer);
		vrd_sq_prefetch(ring->qp, ring->qp->sched.head);
	}
}

/* Scans all contexts that are awake, or if there are many, some of them in rotation. */
static bool scan_awake(struct vrd_poller *poller, struct scan *scan)
{
	struct vrd_ctx_slots *slots;
	bool found = false;
	unsigned int n = 0;

	if (poller->num_rung) {
		TAILQ_FOREACH(slots, &poller->awake, link) {
			prefetch_page(slots);
			if (++n == VRD_SCAN_AWAKE)
				break;
		}
	}
	if (poller->num_awake <= VRD_SCAN_AWAKE) {
		TAILQ_FOREACH(slots, &poller->awake, link)
			found |= scan_ctx(poller, slots, scan);
		return found;
	}
	for (n = 0; n < VRD_SCAN_AWAKE; n++) {
		slots = TAILQ_FIRST(&poller->awake);
		found |= scan_ctx(poller, slots, scan);
		TAILQ_REMOVE(&poller->awake, slots, link);
		TAILQ_INSERT_TAIL(&poller->awake, slots, link);
	}
	return found;
}

/* Scans up to @max sleeping contexts of one device, in rotation. */
static bool scan_asleep(struct vrd_poller *poller, struct vrd_poller_dev *pdev, unsigned int max,
			struct scan *scan)
{
	bool found = false;

	for (unsigned int n = pdev->num_asleep < max ? pdev->num_asleep : max; n; n--) {
		struct vrd_ctx_slots *slots = TAILQ_FIRST(&pdev->asleep);

		if (pdev->sweep && !--pdev->sweep)
			TAILQ_REMOVE(&poller->sweeps, pdev, sweep_link);
		if (scan_ctx(poller, slots, scan)) {
			found = true;
			continue;		/* the context is awake now */
		}
		TAILQ_REMOVE(&pdev->asleep, slots, link);
		TAILQ_INSERT_TAIL(&pdev->asleep, slots, link);
	}
	return found;
}

/* Scans some pages of a device whose queue was notified, in rotation among such devices. */
static void sweep(struct vrd_poller *poller, struct scan *scan)
{
	struct vrd_poller_dev *pdev = TAILQ_FIRST(&poller->sweeps);

	TAILQ_REMOVE(&poller->sweeps, pdev, sweep_link);
	TAILQ_INSERT_TAIL(&poller->sweeps, pdev, sweep_link);
	scan_asleep(poller, pdev, VRD_SCAN_AWAKE, scan);
}

static VRD_NOINLINE bool scan_turn(struct vrd_poller *poller)
{
	struct vrd_poller_dev *pdev;
	struct scan scan;
	bool found;

	scan.num = 0;
	scan.bytes_left = VRD_SCAN_BYTES;
	found = scan_awake(poller, &scan);
	if (!TAILQ_EMPTY(&poller->sweeps)) {
		sweep(poller, &scan);
		found = true;
	} else if (poller->turn % VRD_TURNS_PER_ASLEEP == 0) {
		pdev = TAILQ_FIRST(&poller->rotation);
		if (pdev) {
			TAILQ_REMOVE(&poller->rotation, pdev, turn_link);
			TAILQ_INSERT_TAIL(&poller->rotation, pdev, turn_link);
			found |= scan_asleep(poller, pdev, VRD_SCAN_ASLEEP, &scan);
		}
	}
	scan_finish(poller, &scan);
	return found;
}

/* True if the sleeping contexts are few and none has been rung: no rotation is needed. */
static inline bool asleep_is_quiet(const struct vrd_poller *poller)
{
	const struct vrd_poller_dev *pdev = TAILQ_FIRST(&poller->rotation);
	const struct vrd_ctx_slots *slots;

	if (!pdev)
		return true;
	if (TAILQ_NEXT(pdev, turn_link) || pdev->num_asleep > VRD_SCAN_ASLEEP)
		return false;
	TAILQ_FOREACH(slots, &pdev->asleep, link)
		if (is_rung(slots))
			return false;
	return true;
}

/* Most turns find nothing.  If there are only a few pages, they are checked without scan_turn(). */
bool vrd_doorbell_turn(struct vrd_poller *poller)
{
	const struct vrd_ctx_slots *slots;

	if (vrd_unlikely(poller->num_rung || poller->num_awake > VRD_SCAN_AWAKE ||
			 !TAILQ_EMPTY(&poller->sweeps)))
		return scan_turn(poller);
	TAILQ_FOREACH(slots, &poller->awake, link)
		if (vrd_unlikely(is_rung(slots)))
			return scan_turn(poller);
	if (poller->turn % VRD_TURNS_PER_ASLEEP || asleep_is_quiet(poller))
		return false;
	return scan_turn(poller);
}

void vrd_doorbell_kicked(struct vrd_poller *poller, struct vrd_poller_dev *pdev)
{
	if (!pdev->num_asleep || pdev->sched.suspended)
		return;
	if (!pdev->sweep)
		TAILQ_INSERT_TAIL(&poller->sweeps, pdev, sweep_link);
	pdev->sweep = pdev->num_asleep;
}

bool vrd_doorbell_pending(struct vrd_poller *poller)
{
	struct vrd_ctx_slots *slots;

	TAILQ_FOREACH(slots, &poller->awake, link)
		if (is_rung(slots))
			return true;
	return false;
}
