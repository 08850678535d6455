// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The test guest's data path: the provider's part of sections 5 and 6 of the device
 * specification. See guest.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "guest_shm.h"

/* ---- posting ------------------------------------------------------------------- */

static void *next_entry(struct guest_ring *ring)
{
	return ring->ring + (ring->producer++ & (ring->entries - 1)) * (uint64_t)ring->stride;
}

static void put_sges(struct virtio_rdma_sge *to, const struct guest_sge *from, unsigned int num)
{
	for (unsigned int i = 0; i < num; i++) {
		to[i].addr = htole64(from[i].addr);
		to[i].length = htole32(from[i].length);
		to[i].lkey = htole32(from[i].lkey);
	}
}

void guest_write_send(struct guest_qp *qp, const struct guest_wr *wr)
{
	struct virtio_rdma_rc_wqe *wqe = next_entry(&qp->sq);
	struct virtio_rdma_sge *sge = wqe->sge;

	wqe->ctrl = (struct virtio_rdma_wqe_ctrl){
		.opcode = wr->opcode,
		.num_sge = wr->flags & VIRTIO_RDMA_WQE_INLINE ? 0 : wr->num_sge,
		.flags = htole16(wr->flags),
		.inline_len = htole32(wr->flags & VIRTIO_RDMA_WQE_INLINE ? wr->inline_len : 0),
		.imm = wr->imm,
	};
	if (wr->av) {
		struct virtio_rdma_ud_wqe *ud = (void *)wqe;

		ud->av = *wr->av;
		sge = ud->sge;
	} else {
		wqe->remote_addr = htole64(wr->remote_addr);
		wqe->rkey = htole32(wr->rkey);
		wqe->reserved = 0;
	}
	if (wr->opcode == VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP ||
	    wr->opcode == VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD) {
		struct virtio_rdma_atomic_wqe *atomic = (void *)wqe;

		atomic->swap_add = htole64(wr->swap_add);
		atomic->compare = htole64(wr->compare);
		sge = &atomic->sge;
	}
	if (wr->flags & VIRTIO_RDMA_WQE_INLINE)
		memcpy(sge, wr->inline_data, wr->inline_len);
	else
		put_sges(sge, wr->sge, wr->num_sge);
}

void guest_write_wqe(struct guest_qp *qp, const void *wqe)
{
	memcpy(next_entry(&qp->sq), wqe, 64);
}

void guest_write_recv(struct guest_qp *qp, const struct guest_sge *sge, unsigned int num_sge)
{
	struct virtio_rdma_recv_wqe *wqe = next_entry(&qp->rq);

	wqe->num_sge = htole32(num_sge);
	wqe->cookie = 0;
	wqe->reserved = 0;
	put_sges(wqe->sge, sge, num_sge);
}

void guest_write_srq(struct guest_srq *srq, uint32_t cookie, const struct guest_sge *sge,
		     unsigned int num_sge)
{
	struct virtio_rdma_recv_wqe *wqe = next_entry(&srq->ring);

	wqe->num_sge = htole32(num_sge);
	wqe->cookie = htole32(cookie);
	wqe->reserved = 0;
	put_sges(wqe->sge, sge, num_sge);
}

void guest_kick_doorbell(struct guest *g)
{
	uint64_t one = 1;

	__atomic_fetch_add(&g->kicks, 1, __ATOMIC_RELAXED);
	if (write(g->vqs[VIRTIO_RDMA_VQ_DOORBELL].kick, &one, sizeof(one)) != sizeof(one))
		guest_fatal("doorbell: %s", strerror(errno));
}

bool guest_ring_doorbell(struct guest_ctx *ctx, struct guest_ring *ring)
{
	struct virtio_rdma_db_page *db = ctx->db;

	vrd_store32_release(&ring->ctrl->producer, ring->producer);
	vrd_full_barrier();
	if (!vrd_load32(&ring->ctrl->need_db))
		return false;
	vrd_store8(&db->dirty[ring->slot], 1);
	/* Set the summary byte after the dirty byte. */
	__atomic_store_n(&db->summary[ring->slot / 64], 1, __ATOMIC_RELEASE);
	vrd_full_barrier();
	if (!vrd_load32(&db->need_wakeup))
		return false;
	guest_kick_doorbell(ctx->g);
	return true;
}

void guest_ring_sq(struct guest_qp *qp)
{
	guest_ring_doorbell(qp->ctx, &qp->sq);
}

void guest_ring_rq(struct guest_qp *qp)
{
	guest_ring_doorbell(qp->ctx, &qp->rq);
}

void guest_ring_srq(struct guest_srq *srq)
{
	guest_ring_doorbell(srq->ctx, &srq->ring);
}

void guest_post_srq(struct guest_srq *srq, uint32_t cookie, const struct guest_sge *sge,
		    unsigned int num_sge)
{
	guest_write_srq(srq, cookie, sge, num_sge);
	guest_ring_srq(srq);
}

void guest_post_send(struct guest_qp *qp, const struct guest_wr *wr)
{
	guest_write_send(qp, wr);
	guest_ring_sq(qp);
}

void guest_post_recv(struct guest_qp *qp, const struct guest_sge *sge, unsigned int num_sge)
{
	guest_write_recv(qp, sge, num_sge);
	guest_ring_rq(qp);
}

void guest_post_rdma(struct guest_qp *qp, uint8_t opcode, uint16_t flags, const void *local,
		     uint32_t length, uint32_t lkey, uint64_t remote_addr, uint32_t rkey)
{
	struct guest_sge sge = { guest_addr(qp->g, local), length, lkey };
	struct guest_wr wr = {
		.opcode = opcode, .flags = flags, .num_sge = 1, .sge = &sge,
		.remote_addr = remote_addr, .rkey = rkey,
	};

	guest_post_send(qp, &wr);
}

/* ---- completions ------------------------------------------------------------------ */

static bool cqe_ready(const struct guest_cq *cq, uint32_t *last_word)
{
	const struct virtio_rdma_cqe *cqe = &cq->ring[cq->consumer & (cq->entries - 1)];
	uint8_t phase;

	/* pairs with the device's release store of the last four bytes */
	*last_word = __atomic_load_n((const vrd_shm32 *)&cqe->opcode, __ATOMIC_ACQUIRE);
	memcpy(&phase, (uint8_t *)last_word + 3, 1);
	return phase == !(cq->consumer & cq->entries);
}

bool guest_poll(struct guest_cq *cq, struct virtio_rdma_cqe *cqe)
{
	const struct virtio_rdma_cqe *from = &cq->ring[cq->consumer & (cq->entries - 1)];
	uint32_t last_word;

	if (!cqe_ready(cq, &last_word))
		return false;
	vrd_copy_in(cqe, from, sizeof(*cqe));
	memcpy(&cqe->opcode, &last_word, 4);
	cq->consumer++;
	vrd_store32_release(&cq->ctrl->consumer, cq->consumer);
	return true;
}

bool guest_poll_wait(struct guest_cq *cq, struct virtio_rdma_cqe *cqe, int timeout_ms)
{
	uint64_t until = 0;

	for (unsigned int spins = 0; !guest_poll(cq, cqe); spins++) {
		vrd_cpu_relax();
		if (spins % 1024)
			continue;
		if (!until)
			until = guest_now_ns() + timeout_ms * 1000000ULL;
		else if (guest_now_ns() > until)
			return guest_poll(cq, cqe);
	}
	return true;
}

bool guest_arm(struct guest_cq *cq, bool solicited)
{
	uint32_t what = solicited ? VIRTIO_RDMA_ARM_SOLICITED : VIRTIO_RDMA_ARM_ANY;
	uint32_t last_word;

	vrd_store32(&cq->ctrl->arm, ++cq->arm_seq << VIRTIO_RDMA_ARM_SEQ_SHIFT | what);
	vrd_full_barrier();
	return cqe_ready(cq, &last_word);
}

bool guest_poll_sleep(struct guest_cq *cq, struct virtio_rdma_cqe *cqe, int timeout_ms)
{
	uint32_t cqn;

	while (!guest_poll(cq, cqe)) {
		if (guest_arm(cq, false))
			continue;
		if (!guest_comp_event(cq->g, cq->vector, &cqn, timeout_ms))
			return guest_poll(cq, cqe);
	}
	return true;
}
