// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Completion queues: writing entries, overflow, and the events of armed CQs.
 *
 * What costs here is the cache line that the guest polls: each locked
 * instruction and each barrier after a CQE waits until that line has come over.
 * So the completions of one burst of a send queue are staged, up to eight, and
 * written under one lock; a burst that is over, an error, or a request that
 * will take long writes them at once.  (Receives are not staged: who completes
 * them holds the peer's rq.lock, and the order of completions is that lock's.)
 *
 * Whether the CQ is armed is looked at after a full barrier, as the ABI demands;
 * a poller makes one for all CQs that its last bursts touched, or when it has
 * nothing else to do.  The guest, which arms, makes a barrier and then looks for
 * a CQE, is right in either case: it finds the CQE, or we find the arm word.
 *
 * Threads: pollers, several on one CQ; cq->lock.  Without a poller (control
 * thread) the barrier comes at once.
 */
#include <string.h>

#include "transport.h"
#include "event.h"
#include "poller_internal.h"
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

static bool armed_for(const struct vrd_cq *cq, uint32_t arm, bool solicited)
{
	if (arm == atomic_load_explicit(&cq->fired, memory_order_relaxed))
		return false;
	return arm & VIRTIO_RDMA_ARM_ANY || (arm & VIRTIO_RDMA_ARM_SOLICITED && solicited);
}

/* After the CQE and a full barrier. */
static void check_arm(struct vrd_cq *cq, bool solicited)
{
	uint32_t arm;

	if (!cq->ctrl || !armed_for(cq, vrd_load32(&cq->ctrl->arm), solicited))
		return;
	vrd_lock(&cq->lock);
	/* Another poller may have answered, or the ring may have been replaced. */
	arm = cq->ctrl ? vrd_load32(&cq->ctrl->arm) : 0;
	if (armed_for(cq, arm, solicited)) {
		atomic_store_explicit(&cq->fired, arm, memory_order_relaxed);
		vrd_store32_release(&cq->ctrl->fired, arm);
		vrd_event_cq(cq);
	}
	vrd_unlock(&cq->lock);
}

bool vrd_cq_touched_armed(const struct vrd_poller *poller)
{
	for (unsigned int i = 0; i < poller->num_touched; i++) {
		const struct vrd_cq *cq = poller->touched[i].cq;

		if (cq->ctrl && armed_for(cq, vrd_load32(&cq->ctrl->arm),
					  poller->touched[i].solicited))
			return true;
	}
	return false;
}

void vrd_cq_flush_touched(struct vrd_poller *poller)
{
	/* pairs with the driver's, between arm and its look at the ring */
	vrd_full_barrier();
	for (unsigned int i = 0; i < poller->num_touched; i++)
		check_arm(poller->touched[i].cq, poller->touched[i].solicited);
	poller->num_touched = 0;
	poller->bursts = 0;
	poller->burst_bytes = 0;
}

static void touch(struct vrd_cq *cq, bool solicited)
{
	struct vrd_poller *poller = vrd_poller_current();

	if (!poller) {
		vrd_full_barrier();
		check_arm(cq, solicited);
		return;
	}
	for (unsigned int i = poller->num_touched; i; i--) {
		if (poller->touched[i - 1].cq == cq) {
			poller->touched[i - 1].solicited |= solicited;
			return;
		}
	}
	if (poller->num_touched == VRD_TOUCHED_CQS)
		vrd_cq_flush_touched(poller);
	poller->touched[poller->num_touched++] = (struct vrd_touched){ cq, solicited };
}

/* ---- entries ---------------------------------------------------------------- */

static void *cqe_at(const struct vrd_cq *cq, uint32_t index)
{
	uint32_t offset = cq->offset + (index & (cq->entries - 1)) *
			  (uint32_t)sizeof(struct virtio_rdma_cqe);
	uint8_t *page = cq->buf.host[offset / VIRTIO_RDMA_PAGE_SIZE];

	return page ? page + offset % VIRTIO_RDMA_PAGE_SIZE : NULL;
}

/* True if the ring has room.  The consumer index is the guest's; a wrong one
 * makes its own CQ overflow, or overwrites its own entries.
 */
static bool has_room(struct vrd_cq *cq)
{
	if (cq->producer - cq->consumer < cq->entries)
		return true;
	if (!cq->ctrl)
		return false;
	/* Its reads of the entries come before our writes. */
	cq->consumer = vrd_load32_acquire(&cq->ctrl->consumer);
	return cq->producer - cq->consumer < cq->entries;
}

static void write_cqe(struct vrd_cq *cq, void *entry, const struct virtio_rdma_cqe *cqe)
{
	const vrd_shm32 *from = (const void *)cqe;
	vrd_shm32 *to = entry;
	uint32_t phase = !(cq->producer & cq->entries);

	for (unsigned int i = 0; i < 7; i++)
		__atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
	__atomic_store_n(&to[7], htole32(cqe->opcode | cqe->status << 8 | cqe->flags << 16 |
					 phase << 24), __ATOMIC_RELEASE);
}

static void fail(struct vrd_cq *cq)
{
	__atomic_store_n(&cq->error, true, __ATOMIC_RELAXED);
	atomic_store(&cq->ctx->slots->cq_failed, true);
	atomic_store(&cq->ctx->poller->cq_failed, true);
	vrd_poller_attend(cq->ctx->poller);
}

/* Writes @num entries; false: the CQ has failed now. */
static bool write_locked(struct vrd_cq *cq, const struct virtio_rdma_cqe *cqe, unsigned int num)
{
	for (; num; num--, cqe++) {
		void *to = cqe_at(cq, cq->producer);

		if (!to || !has_room(cq)) {
			fail(cq);
			return false;
		}
		write_cqe(cq, to, cqe);
		cq->producer++;
		vrd_trace_completion(cq->cqn, cqe->qpn, cqe->wqe_index, cqe->status);
	}
	return true;
}

static void post(struct vrd_cq *cq, const struct virtio_rdma_cqe *cqe, unsigned int num,
		 bool solicited)
{
	bool failed = false, written = false;

	vrd_lock(&cq->lock);
	if (!cq->error) {
		written = write_locked(cq, cqe, num);
		failed = !written;
	}
	vrd_unlock(&cq->lock);

	if (failed)
		vrd_event_raise(cq->dev, VIRTIO_RDMA_EVENT_CQ_ERR, cq->cqn);
	if (written)
		touch(cq, solicited);
}

void vrd_cq_post(struct vrd_cq *cq, const struct virtio_rdma_cqe *cqe, bool solicited)
{
	if (cqe->status != VIRTIO_RDMA_WC_SUCCESS) {
		solicited = true;
		vrd_stat_add(cq->dev, VIRTIO_RDMA_STAT_ERRORS, 1);
	}
	post(cq, cqe, 1, solicited);
}

/* ---- sends ------------------------------------------------------------------- */

void vrd_cq_flush_staged(struct vrd_poller *poller)
{
	unsigned int num = poller->num_staged;

	poller->num_staged = 0;
	if (num)
		post(poller->staged_cq, poller->staged, num, false);
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

void vrd_complete_send(struct vrd_qp *qp, const struct vrd_wr *wr, uint8_t status,
		       uint32_t byte_len)
{
	struct vrd_poller *poller = vrd_poller_current();
	struct virtio_rdma_cqe cqe = {
		.qpn = htole32(qp->qpn),
		.wqe_index = htole32(wr->index),
		.byte_len = htole32(byte_len),
		.status = status,
	};

	if (status == VIRTIO_RDMA_WC_SUCCESS) {
		if (!(wr->flags & VIRTIO_RDMA_WQE_SIGNALED))
			return;
		cqe.opcode = send_wc[wr->opcode];
	}
	if (!poller || status != VIRTIO_RDMA_WC_SUCCESS) {
		/* Those before it first. */
		if (poller)
			vrd_cq_flush_staged(poller);
		vrd_cq_post(qp->send_cq, &cqe, false);
		return;
	}
	if (poller->num_staged == VRD_STAGED_CQES)
		vrd_cq_flush_staged(poller);
	/* A burst is of one QP, so all of them are for one CQ. */
	poller->staged_cq = qp->send_cq;
	poller->staged[poller->num_staged++] = cqe;
}
