// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Completion queues: writing entries, overflow, and the events of armed CQs.
 *
 * The main cost is the cache line that the guest polls: each locked instruction and each
 * barrier after a CQE waits until that line has been transferred.  So the completions of one
 * burst of a send queue are staged, up to eight, and written under one lock.  They are
 * written at once if the burst ends, if there is an error, or before a request that takes
 * long.  The same holds for the receives that the burst completes.  Those are written before
 * the responder's rq.lock is released, because that lock determines the order of receive
 * completions.
 *
 * The arm word of a CQ is checked after a full barrier, as the ABI requires.  A poller
 * executes one barrier for all CQs that its last bursts touched, or when it has no other
 * work.  The guest arms the CQ, executes a barrier and then checks for a CQE.  So either the
 * guest finds the CQE, or the poller finds the arm word.
 *
 * Threads: pollers, several on one CQ; cq->lock.  On the control thread, the barrier is
 * executed at once.
 */
#include <string.h>

#include "transport.h"
#include "event.h"
#include "poller_internal.h"
#include "store.h"
#include "trace.h"

void vrd_cq_init(struct vrd_cq *cq)
{
	vrd_lock_init(&cq->lock, VRD_LOCK_CQ);
	cq->producer = 0;
	cq->consumer = 0;
	atomic_init(&cq->fired, 0);
	cq->error = false;
}

bool vrd_cq_failed(const struct vrd_cq *cq)
{
	return cq && __atomic_load_n(&cq->error, __ATOMIC_RELAXED);
}

/* ---- arming ---------------------------------------------------------------- */

static inline bool armed_for(const struct vrd_cq *cq, uint32_t arm, bool solicited)
{
	if (arm == atomic_load_explicit(&cq->fired, memory_order_relaxed))
		return false;
	return arm & VIRTIO_RDMA_ARM_ANY || (arm & VIRTIO_RDMA_ARM_SOLICITED && solicited);
}

/*
 * For reading the arm word without the lock.  RESIZE_CQ may replace the ring.  It is
 * answered after a grace period, so the guest may reuse the old words only when this turn is
 * over.
 */
static inline const struct virtio_rdma_cq_ctrl *ctrl_of(const struct vrd_cq *cq)
{
	return __atomic_load_n(&cq->ctrl, __ATOMIC_ACQUIRE);
}

static VRD_NOINLINE void fire(struct vrd_cq *cq, bool solicited)
{
	uint32_t arm;

	vrd_lock(&cq->lock);
	/* Another poller may have answered the arming, or the ring may have been replaced. */
	arm = cq->ctrl ? vrd_load32(&cq->ctrl->arm) : 0;
	if (armed_for(cq, arm, solicited)) {
		atomic_store_explicit(&cq->fired, arm, memory_order_relaxed);
		vrd_guest_store32_release(cq->dev, &cq->ctrl->fired, arm);
		vrd_event_cq(cq);
	}
	vrd_unlock(&cq->lock);
}

/* To be called after the CQE was written and a full barrier. */
static inline bool is_armed(const struct vrd_cq *cq, bool solicited)
{
	const struct virtio_rdma_cq_ctrl *ctrl = ctrl_of(cq);

	return vrd_likely(ctrl) && armed_for(cq, vrd_load32(&ctrl->arm), solicited);
}

static inline void check_arm(struct vrd_cq *cq, bool solicited)
{
	if (is_armed(cq, solicited))
		fire(cq, solicited);
}

bool vrd_cq_touched_armed(const struct vrd_poller *poller)
{
	for (unsigned int i = 0; i < poller->num_touched; i++)
		if (is_armed(poller->touched[i].cq, poller->touched[i].solicited))
			return true;
	return false;
}

static inline void touched_checked(struct vrd_poller *poller)
{
	poller->num_touched = 0;
	poller->burst_bytes = 0;
}

/* Continues with CQ @i, which is armed. */
static VRD_NOINLINE void fire_touched(struct vrd_poller *poller, unsigned int i)
{
	for (; i < poller->num_touched; i++)
		check_arm(poller->touched[i].cq, poller->touched[i].solicited);
	touched_checked(poller);
}

void vrd_cq_flush_touched(struct vrd_poller *poller)
{
	/* pairs with the driver's barrier between its store of arm and its check of the ring */
	vrd_full_barrier();
	for (unsigned int i = 0; i < poller->num_touched; i++) {
		if (vrd_unlikely(is_armed(poller->touched[i].cq, poller->touched[i].solicited))) {
			fire_touched(poller, i);
			return;
		}
	}
	touched_checked(poller);
}

/* poller->touched must have room. */
static inline void note_touched(struct vrd_poller *poller, struct vrd_cq *cq, bool solicited)
{
	for (unsigned int i = poller->num_touched; i; i--) {
		if (poller->touched[i - 1].cq == cq) {
			poller->touched[i - 1].solicited |= solicited;
			return;
		}
	}
	poller->touched[poller->num_touched++] = (struct vrd_touched){ cq, solicited };
}

static inline void touch(struct vrd_poller *poller, struct vrd_cq *cq, bool solicited)
{
	if (poller->num_touched == VRD_TOUCHED_CQS)
		vrd_cq_flush_touched(poller);
	note_touched(poller, cq, solicited);
}

/* ---- entries ---------------------------------------------------------------- */

static inline void *cqe_at(const struct vrd_cq *cq, uint32_t index)
{
	uint32_t offset = cq->offset + (index & (cq->entries - 1)) *
			  (uint32_t)sizeof(struct virtio_rdma_cqe);
	uint8_t *page = cq->buf.hva[offset / VIRTIO_RDMA_PAGE_SIZE];

	return page ? page + offset % VIRTIO_RDMA_PAGE_SIZE : NULL;
}

/*
 * True if the ring has room.  The guest writes the consumer index.  A wrong value makes its
 * own CQ overflow, or overwrites its own entries.
 */
static inline bool has_room(struct vrd_cq *cq)
{
	if (cq->producer - cq->consumer < cq->entries)
		return true;
	if (!cq->ctrl)
		return false;
	/* The guest's reads of the entries come before the device's writes. */
	cq->consumer = vrd_load32_acquire(&cq->ctrl->consumer);
	return cq->producer - cq->consumer < cq->entries;
}

/* vrd_stored() must follow. */
static inline void store_cqe(struct vrd_cq *cq, void *entry, const struct virtio_rdma_cqe *cqe)
{
	const uint32_t phase = !(cq->producer & cq->entries);
	const vrd_shm64 *from = (const void *)cqe;
	const vrd_shm32 *from32 = (const void *)cqe;
	vrd_shm64 *to = entry;
	vrd_shm32 *to32 = entry;

	_Static_assert(sizeof(*cqe) == 32 && offsetof(struct virtio_rdma_cqe, phase) == 31, "");
	__atomic_store_n(&to[0], from[0], __ATOMIC_RELAXED);
	__atomic_store_n(&to[1], from[1], __ATOMIC_RELAXED);
	__atomic_store_n(&to[2], from[2], __ATOMIC_RELAXED);
	__atomic_store_n(&to32[6], from32[6], __ATOMIC_RELAXED);
	/* With the phase, which is zero in *@cqe.  The guest loads exactly this word. */
	__atomic_store_n(&to32[7], from32[7] | htole32(phase << 24), __ATOMIC_RELEASE);
}

static VRD_NOINLINE void fail(struct vrd_cq *cq)
{
	__atomic_store_n(&cq->error, true, __ATOMIC_RELAXED);
	vrd_doorbell_cq_failed(cq->ctx);
}

/*
 * Writes @num entries.  False: the CQ has failed, now or before, and the remaining entries
 * are lost.
 */
static VRD_INLINE bool post(struct vrd_cq *cq, const struct virtio_rdma_cqe *cqe, unsigned int num)
{
	vrd_lock(&cq->lock);
	for (; num && vrd_likely(!cq->error); num--, cqe++) {
		void *to = cqe_at(cq, cq->producer);

		if (vrd_unlikely(!to || !has_room(cq))) {
			fail(cq);
			vrd_unlock(&cq->lock);
			vrd_event_raise(cq->dev, VIRTIO_RDMA_EVENT_CQ_ERR, cq->cqn);
			return false;
		}
		store_cqe(cq, to, cqe);
		vrd_stored(cq->dev, to, sizeof(*cqe));
		cq->producer++;
		vrd_trace_completion(cq->cqn, cqe->qpn, cqe->wqe_index, cqe->status);
	}
	vrd_unlock(&cq->lock);
	return !num;
}

void vrd_cq_post(struct vrd_cq *cq, const struct virtio_rdma_cqe *cqe, bool solicited)
{
	struct vrd_poller *poller = vrd_poller_current();

	if (cqe->status != VIRTIO_RDMA_WC_SUCCESS) {
		solicited = true;
		vrd_stat_add(cq->dev, VIRTIO_RDMA_STAT_ERRORS, 1);
	}
	/* Write earlier completions of the same queue first. */
	if (poller)
		vrd_cq_flush_staged(poller);
	if (!post(cq, cqe, 1))
		return;
	if (poller) {
		touch(poller, cq, solicited);
	} else {
		vrd_full_barrier();
		check_arm(cq, solicited);
	}
}

/* ---- bursts ------------------------------------------------------------------ */

static VRD_NOINLINE void flush_batch(struct vrd_poller *poller, struct vrd_cq_batch *batch)
{
	bool solicited = batch->solicited;
	unsigned int num = batch->num;

	batch->num = 0;
	batch->solicited = false;
	if (post(batch->cq, batch->cqe, num))
		touch(poller, batch->cq, solicited);
}

static VRD_NOINLINE void unlock_and_flush(struct vrd_poller *poller, struct vrd_cq_batch *batch)
{
	vrd_unlock(&batch->cq->lock);
	flush_batch(poller, batch);
}

/* The single entry of @batch was stored at @to, under the lock. */
static VRD_INLINE void stored_one(struct vrd_poller *poller, struct vrd_cq_batch *batch)
{
	const struct virtio_rdma_cqe *cqe = &batch->cqe[0];
	struct vrd_cq *cq = batch->cq;

	cq->producer++;
	vrd_trace_completion(cq->cqn, cqe->qpn, cqe->wqe_index, cqe->status);
	note_touched(poller, cq, batch->solicited);
	batch->num = 0;
	batch->solicited = false;
	vrd_unlock(&cq->lock);
}

static VRD_NOINLINE void stored_one_logged(struct vrd_poller *poller, struct vrd_cq_batch *batch,
					   const void *to)
{
	vrd_stored(batch->cq->dev, to, sizeof(batch->cqe[0]));
	stored_one(poller, batch);
}

/*
 * One completion and nothing unusual is the case that latency depends on.  All calls of this
 * function are at its ends, so it saves no registers.
 */
void vrd_cq_flush_batch(struct vrd_poller *poller, struct vrd_cq_batch *batch)
{
	struct vrd_cq *cq = batch->cq;
	void *to;

	if (vrd_unlikely(batch->num != 1 || poller->num_touched == VRD_TOUCHED_CQS ||
			 !vrd_lock_try(&cq->lock))) {
		flush_batch(poller, batch);
		return;
	}
	to = cqe_at(cq, cq->producer);
	if (vrd_unlikely(cq->error || !to || cq->producer - cq->consumer >= cq->entries)) {
		unlock_and_flush(poller, batch);
		return;
	}
	store_cqe(cq, to, &batch->cqe[0]);
	if (vrd_unlikely(vrd_has_dirty_log(cq->dev)))
		stored_one_logged(poller, batch, to);
	else
		stored_one(poller, batch);
}

void vrd_cq_flush_receives(struct vrd_poller *poller)
{
	if (poller->receives.num)
		vrd_cq_flush_batch(poller, &poller->receives);
}

/* Flushes the batch first: it is full, or has completions of another CQ. */
static VRD_NOINLINE struct virtio_rdma_cqe *recv_after_flush(struct vrd_poller *poller,
							     struct vrd_cq *cq, bool solicited)
{
	vrd_cq_flush_batch(poller, &poller->receives);
	return vrd_complete_recv(poller, cq, solicited);
}

struct virtio_rdma_cqe *vrd_complete_recv(struct vrd_poller *poller, struct vrd_cq *cq,
					  bool solicited)
{
	struct vrd_cq_batch *batch = &poller->receives;

	if (vrd_unlikely(!vrd_cq_batch_takes(batch, cq)))
		return recv_after_flush(poller, cq, solicited);
	batch->cq = cq;
	batch->solicited |= solicited;
	return &batch->cqe[batch->num++];
}

static const uint8_t send_wc[] = {
	[VIRTIO_RDMA_WR_RDMA_WRITE] = VIRTIO_RDMA_WC_RDMA_WRITE,
	[VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM] = VIRTIO_RDMA_WC_RDMA_WRITE,
	[VIRTIO_RDMA_WR_SEND] = VIRTIO_RDMA_WC_SEND,
	[VIRTIO_RDMA_WR_SEND_WITH_IMM] = VIRTIO_RDMA_WC_SEND,
	[VIRTIO_RDMA_WR_RDMA_READ] = VIRTIO_RDMA_WC_RDMA_READ,
	[VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP] = VIRTIO_RDMA_WC_COMP_SWAP,
	[VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD] = VIRTIO_RDMA_WC_FETCH_ADD,
	[VIRTIO_RDMA_WR_SEND_WITH_INV] = VIRTIO_RDMA_WC_SEND,
	[VIRTIO_RDMA_WR_LOCAL_INV] = VIRTIO_RDMA_WC_LOCAL_INV,
	[VIRTIO_RDMA_WR_BIND_MW] = VIRTIO_RDMA_WC_BIND_MW,
	[VIRTIO_RDMA_WR_REG_MR] = VIRTIO_RDMA_WC_REG_MR,
};

/* Flushes the batch first: it is full, or has completions of another CQ. */
static VRD_NOINLINE void complete_after_flush(struct vrd_qp *qp, const struct vrd_wr *wr,
					      uint32_t byte_len)
{
	vrd_cq_flush_batch(qp->poller, &qp->poller->sends);
	vrd_complete_signaled(qp, wr, byte_len);
}

void vrd_complete_signaled(struct vrd_qp *qp, const struct vrd_wr *wr, uint32_t byte_len)
{
	struct vrd_cq_batch *batch = &qp->poller->sends;

	if (vrd_unlikely(!vrd_cq_batch_takes(batch, qp->send_cq))) {
		complete_after_flush(qp, wr, byte_len);
		return;
	}
	batch->cq = qp->send_cq;
	batch->cqe[batch->num++] = (struct virtio_rdma_cqe){
		.qpn = htole32(qp->qpn),
		.wqe_index = htole32(wr->index),
		.byte_len = htole32(byte_len),
		.opcode = send_wc[wr->req.opcode],
	};
}

void vrd_complete_send_error(struct vrd_qp *qp, const struct vrd_wr *wr, uint8_t status)
{
	struct virtio_rdma_cqe cqe = {
		.qpn = htole32(qp->qpn),
		.wqe_index = htole32(wr->index),
		.opcode = VIRTIO_RDMA_WC_SEND,
		.status = status,
	};

	vrd_cq_post(qp->send_cq, &cqe, true);
}
