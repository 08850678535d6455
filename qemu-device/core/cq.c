// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Completion queues: writing entries, overflow, and the events of armed CQs.
 *
 * A CQE is visible at once.  Whether the CQ is armed is looked at after a full
 * barrier, as the ABI demands; that barrier waits until the CQE has left the
 * store buffer, so a poller makes one for all CQs that its burst touched.  The
 * guest, which arms, makes a barrier and then looks for a CQE, is right in
 * either case: it finds the CQE, or we find the arm word.
 *
 * Threads: pollers, several on one CQ; cq->lock.  Without a poller (control
 * thread) the barrier comes at once.
 */
#include <string.h>

#include "backend.h"
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

void vrd_cq_flush_touched(struct vrd_poller *poller)
{
	/* pairs with the driver's, between arm and its look at the ring */
	vrd_full_barrier();
	for (unsigned int i = 0; i < poller->num_touched; i++)
		check_arm(poller->touched[i].cq, poller->touched[i].solicited);
	poller->num_touched = 0;
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
	struct virtio_rdma_cqe copy = *cqe;
	vrd_shm64 *to = entry;
	uint64_t words[4];
	uint32_t last;

	copy.phase = !(cq->producer & cq->entries);
	memcpy(words, &copy, sizeof(words));
	for (unsigned int i = 0; i < 3; i++)
		__atomic_store_n(&to[i], words[i], __ATOMIC_RELAXED);
	__atomic_store_n((vrd_shm32 *)&to[3], copy.reserved, __ATOMIC_RELAXED);
	memcpy(&last, &copy.opcode, sizeof(last));
	__atomic_store_n((vrd_shm32 *)&to[3] + 1, last, __ATOMIC_RELEASE);
}

static void fail(struct vrd_cq *cq)
{
	__atomic_store_n(&cq->error, true, __ATOMIC_RELAXED);
	atomic_store(&cq->ctx->slots->cq_failed, true);
	atomic_store(&cq->ctx->poller->cq_failed, true);
	vrd_poller_attend(cq->ctx->poller);
}

void vrd_cq_post(struct vrd_cq *cq, const struct virtio_rdma_cqe *cqe, bool solicited)
{
	bool failed = false;
	void *to;

	if (cqe->status != VIRTIO_RDMA_WC_SUCCESS) {
		solicited = true;
		vrd_stat_add(cq->dev, VIRTIO_RDMA_STAT_ERRORS, 1);
	}
	vrd_lock(&cq->lock);
	if (cq->error) {
		vrd_unlock(&cq->lock);
		return;
	}
	to = cqe_at(cq, cq->producer);
	if (to && has_room(cq)) {
		write_cqe(cq, to, cqe);
		cq->producer++;
	} else {
		fail(cq);
		failed = true;
	}
	vrd_unlock(&cq->lock);

	if (failed)
		vrd_event_raise(cq->dev, VIRTIO_RDMA_EVENT_CQ_ERR, cq->cqn);
	else
		touch(cq, solicited);
	vrd_trace_completion(cq->cqn, cqe->qpn, cqe->wqe_index, cqe->status);
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
	vrd_cq_post(qp->send_cq, &cqe, false);
}
