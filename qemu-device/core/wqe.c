// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Work requests: taken off the rings, copied once, checked.
 *
 * A process of the guest may change an entry while it is read.  The first line of the entry
 * (for a receive: the first 32 bytes) is copied.  Only that copy determines how much more is
 * copied, and each further byte is copied once.  The transport gets the copy, and the entry
 * is never read again.
 *
 * Threading: sq.lock or rq.lock, or an SRQ's ring.lock, is held.
 */
#include <string.h>

#include "transport.h"
#include "poller_internal.h"
#include "store.h"
#include "wqe.h"

/* ---- rings ----------------------------------------------------------------- */

static inline enum vrd_fetch ring_look(struct vrd_ring *ring)
{
	uint32_t producer;

	/* Check this first: head moves past the entry that was reported as bad. */
	if (ring->broken)
		return VRD_FETCH_BAD;
	if (ring->head != ring->tail)
		return VRD_FETCH_OK;
	if (!ring->entries || !ring->ctrl)
		return VRD_FETCH_EMPTY;
	/* pairs with the driver's release after it wrote the entries */
	producer = vrd_load32_acquire(&ring->ctrl->producer);
	if (producer - ring->head > ring->entries) {
		ring->broken = true;
		return VRD_FETCH_BAD;
	}
	ring->tail = producer;
	return producer == ring->head ? VRD_FETCH_EMPTY : VRD_FETCH_OK;
}

enum vrd_fetch vrd_ring_look(struct vrd_ring *ring)
{
	return ring_look(ring);
}

bool vrd_sq_has_work(struct vrd_qp *qp)
{
	return ring_look(&qp->sq) != VRD_FETCH_EMPTY;
}

bool vrd_rq_has_work(struct vrd_qp *qp)
{
	return ring_look(&qp->rq) != VRD_FETCH_EMPTY;
}

bool vrd_srq_has_work(struct vrd_srq *srq)
{
	return ring_look(&srq->ring) != VRD_FETCH_EMPTY;
}

static void want_doorbell(struct vrd_ring *ring, bool want)
{
	if (ring->want_db == want)
		return;
	ring->want_db = want;
	if (ring->ctrl)
		vrd_guest_store32(vrd_ring_dev(ring), &ring->ctrl->need_db, want);
	/* pairs with the driver's barrier between its store of producer and its load of need_db */
	if (want)
		vrd_full_barrier();
}

void vrd_rq_want_doorbell(struct vrd_qp *qp, bool want)
{
	want_doorbell(&qp->rq, want);
}

void vrd_srq_want_doorbell(struct vrd_srq *srq, bool want)
{
	want_doorbell(&srq->ring, want);
}

/* ---- send WQEs --------------------------------------------------------------- */

/* The first line, as each of the structures that it may hold. */
union line {
	uint64_t words[VRD_WQE_LINE / 8];
	struct virtio_rdma_wqe_ctrl ctrl;
	struct virtio_rdma_rc_wqe rc;
	struct virtio_rdma_atomic_wqe atomic;
	struct virtio_rdma_ud_wqe ud;
	struct virtio_rdma_reg_mr_wqe reg;
	uint8_t bytes[VRD_WQE_LINE];
};

#define BIT(n)		(1U << (n))
#define OPS_SEND	VRD_WR_SENDS
#define OPS_WRITE	VRD_WR_WRITES
#define OPS_ATOMIC	(BIT(VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP) | \
			 BIT(VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD))
#define OPS_READ	BIT(VIRTIO_RDMA_WR_RDMA_READ)

#define OPS_INV		BIT(VIRTIO_RDMA_WR_SEND_WITH_INV)
#define OPS_LOCAL	(BIT(VIRTIO_RDMA_WR_LOCAL_INV) | BIT(VIRTIO_RDMA_WR_REG_MR))

/* Opcodes that a QP type allows.  No device has memory windows. */
static const uint32_t allowed_ops[] = {
	[VIRTIO_RDMA_QPT_RC] = OPS_SEND | OPS_WRITE | OPS_READ | OPS_ATOMIC,
	[VIRTIO_RDMA_QPT_UC] = OPS_SEND | OPS_WRITE,
	[VIRTIO_RDMA_QPT_UD] = OPS_SEND,
	[VIRTIO_RDMA_QPT_GSI] = OPS_SEND,
};

/* The same with VIRTIO_RDMA_F_MEM_MGT, in addition. */
static const uint32_t mem_mgt_ops[] = {
	[VIRTIO_RDMA_QPT_RC] = OPS_INV | OPS_LOCAL,
	[VIRTIO_RDMA_QPT_UC] = OPS_LOCAL,
	[VIRTIO_RDMA_QPT_UD] = 0,
	[VIRTIO_RDMA_QPT_GSI] = 0,
};

static uint32_t qp_ops(const struct vrd_qp *qp)
{
	return allowed_ops[qp->type] | (qp->dev->mem_mgt ? mem_mgt_ops[qp->type] : 0);
}

static inline uint64_t add_sge(struct vrd_sge *to, const struct virtio_rdma_sge *from)
{
	to->addr = le64toh(from->addr);
	to->length = le32toh(from->length);
	to->lkey = le32toh(from->lkey);
	return to->length;
}

/*
 * Takes the SGE list, which begins @offset bytes into the entry: the part within the copied
 * line from there, the rest from the ring.
 */
static inline void take_sges(const struct vrd_qp *qp, struct vrd_wr *wr, const union line *line,
			     const uint8_t *entry, uint32_t offset)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < wr->num_sge; i++, offset += sizeof(struct virtio_rdma_sge)) {
		struct virtio_rdma_sge sge;

		if (offset < VRD_WQE_LINE)
			memcpy(&sge, &line->bytes[offset], sizeof(sge));
		else
			vrd_copy_in(&sge, entry + offset, sizeof(sge));
		sum += add_sge(&wr->sge[i], &sge);
	}
	vrd_wr_set_length(qp, wr, sum);
}

/* May copy up to 31 bytes that follow in the entry; they are not used. */
static inline void take_inline(struct vrd_wr *wr, const union line *line, const uint8_t *entry,
			       uint32_t offset)
{
	uint32_t here = VRD_WQE_LINE - offset;

	memcpy(wr->inline_data, &line->bytes[offset], here);
	/* Copies whole words: entries and the buffer end at multiples of 8. */
	if (wr->req.length > here)
		vrd_copy_in(wr->inline_data + here, entry + VRD_WQE_LINE,
			    (wr->req.length - here + 7) & ~7U);
}

/* Takes the fields that all kinds of entries have in their first 16 bytes. */
static inline bool take_ctrl(const struct vrd_qp *qp, struct vrd_wr *wr,
			     const struct virtio_rdma_wqe_ctrl *ctrl)
{
	struct vrd_request *req = &wr->req;
	uint32_t inline_len = le32toh(ctrl->inline_len);

	req->opcode = ctrl->opcode;
	req->flags = le16toh(ctrl->flags);
	req->imm = ctrl->imm;
	if (req->opcode == VIRTIO_RDMA_WR_SEND_WITH_INV || req->opcode == VIRTIO_RDMA_WR_LOCAL_INV)
		req->imm = le32toh(ctrl->inv_rkey);
	wr->num_sge = ctrl->num_sge;
	wr->pkey_index = le16toh(ctrl->pkey_index);

	if (req->opcode > 31 || !(qp_ops(qp) & BIT(req->opcode)))
		return false;
	if (req->flags & ~VRD_WQE_FLAGS || ctrl->reserved)
		return false;
	if (wr->pkey_index && qp->type != VIRTIO_RDMA_QPT_GSI)
		return false;
	if (req->flags & VIRTIO_RDMA_WQE_INLINE) {
		vrd_wr_set_length(qp, wr, inline_len);
		return !wr->num_sge && inline_len <= qp->max_inline &&
		       inline_len <= VRD_MAX_INLINE &&
		       BIT(req->opcode) & (OPS_SEND | OPS_INV | OPS_WRITE);
	}
	return !inline_len && wr->num_sge <= qp->max_send_sge && wr->num_sge <= VRD_MAX_SGE;
}

static bool take_av(struct vrd_wr *wr, const struct virtio_rdma_av *av)
{
	uint8_t reserved = 0;

	wr->av = *av;
	for (unsigned int i = 0; i < sizeof(av->reserved); i++)
		reserved |= av->reserved[i];
	return !reserved && av->sl < 16 && !(le32toh(av->flow_label) >> 20);
}

static bool take_atomic(const struct vrd_qp *qp, struct vrd_wr *wr,
			const struct virtio_rdma_atomic_wqe *wqe)
{
	if (wr->num_sge != 1 || !qp->dev->atomics)
		return false;
	wr->req.swap_add = le64toh(wqe->swap_add);
	wr->req.compare = le64toh(wqe->compare);
	vrd_wr_set_length(qp, wr, add_sge(&wr->sge[0], &wqe->sge));
	return wr->req.length == 8;
}

/* Takes SGEs or inline data.  @offset is a constant in each caller. */
static inline bool take_payload(const struct vrd_qp *qp, struct vrd_wr *wr,
				const union line *line, const uint8_t *entry, uint32_t offset)
{
	uint32_t room = (1U << qp->sq.stride_shift) - offset;

	if (wr->req.flags & VIRTIO_RDMA_WQE_INLINE) {
		if (wr->req.length > room)
			return false;
		take_inline(wr, line, entry, offset);
	} else {
		if (wr->num_sge * sizeof(struct virtio_rdma_sge) > room)
			return false;
		take_sges(qp, wr, line, entry, offset);
	}
	return true;
}

/* LOCAL_INV and REG_MR: requests that have no message. */
static bool take_local(const struct vrd_qp *qp, struct vrd_wr *wr,
		       const struct virtio_rdma_reg_mr_wqe *wqe)
{
	uint8_t reserved = 0;

	if (wr->num_sge || wr->req.flags & VIRTIO_RDMA_WQE_INLINE)
		return false;
	vrd_wr_set_length(qp, wr, 0);
	if (wr->req.opcode == VIRTIO_RDMA_WR_LOCAL_INV)
		return true;
	for (unsigned int i = 0; i < sizeof(wqe->reserved); i++)
		reserved |= wqe->reserved[i];
	wr->reg = (struct vrd_fast_reg){
		.key = le32toh(wqe->key),
		.access = le32toh(wqe->access),
		.iova = le64toh(wqe->iova),
		.length = le64toh(wqe->length),
		.list = le64toh(wqe->list),
		.num_entries = le32toh(wqe->num_entries),
		.page_shift = wqe->page_shift,
	};
	/* It may name any memory of the guest. */
	return qp->kernel && !reserved;
}

static bool take_any(const struct vrd_qp *qp, struct vrd_wr *wr, const uint8_t *entry)
{
	union line line;

	vrd_copy_in(line.words, entry, sizeof(line));
	if (!take_ctrl(qp, wr, &line.ctrl))
		return false;
	if (BIT(wr->req.opcode) & OPS_LOCAL)
		return take_local(qp, wr, &line.reg);

	if (qp->type == VIRTIO_RDMA_QPT_UD || qp->type == VIRTIO_RDMA_QPT_GSI)
		return 1U << qp->sq.stride_shift >= 2 * VRD_WQE_LINE && take_av(wr, &line.ud.av) &&
		       take_payload(qp, wr, &line, entry, sizeof(struct virtio_rdma_ud_wqe));

	wr->req.range.addr = le64toh(line.rc.remote_addr);
	wr->req.range.lkey = le32toh(line.rc.rkey);
	if (line.rc.reserved)
		return false;
	if (BIT(wr->req.opcode) & OPS_ATOMIC)
		return take_atomic(qp, wr, &line.atomic);
	return take_payload(qp, wr, &line, entry, sizeof(struct virtio_rdma_rc_wqe));
}

enum vrd_fetch vrd_wqe_any(const struct vrd_qp *qp, struct vrd_wr *wr, const uint8_t *entry)
{
	if (!take_any(qp, wr, entry))
		return VRD_FETCH_BAD;
	return BIT(wr->req.opcode) & VRD_WR_SPECIAL ? VRD_FETCH_SPECIAL : VRD_FETCH_OK;
}

/*
 * Writes the CQEs of completed requests before a long copy begins.  Their events may be
 * delayed until later if no guest seems to wait for them: the barrier before the check takes
 * as long as fetching the line that the guest polls.
 */
void vrd_sq_long(struct vrd_qp *qp, uint32_t length)
{
	uint32_t later = (qp->sq.tail - qp->sq.head) / VRD_LATER_SHARE;
	struct vrd_poller *poller = qp->poller;

	/* The scheduler adds a burst's bytes only after the burst. */
	poller->burst_bytes += length;
	if (length <= VRD_LATER_BYTES && poller->sends.num < later &&
	    poller->receives.num < later)
		return;
	vrd_cq_flush_staged(poller);
	if (poller->num_touched &&
	    (poller->burst_bytes > VRD_UNTOLD_BYTES || vrd_cq_touched_armed(poller)))
		vrd_cq_flush_touched(poller);
}

/*
 * vrd_ring_look() for a send ring, on its poller.  If the ring is watched, nothing is read
 * beyond the producer index that was seen last, by the scan at the start of the turn or
 * here.  The next scan finds newer entries.  Reading the producer's line again so soon would
 * only take it from the guest's CPU, which is probably about to write it.
 */
enum vrd_fetch vrd_sq_look(struct vrd_qp *qp)
{
	struct vrd_ring *sq = &qp->sq;
	struct vrd_hot_ring *hot;
	enum vrd_fetch look;

	if (sq->head != sq->tail || qp->sched.hot < 0)
		return ring_look(sq);
	hot = &qp->poller->hot[qp->sched.hot];
	if (hot->seen == sq->tail && !sq->broken)
		return VRD_FETCH_EMPTY;
	look = ring_look(sq);
	if (look == VRD_FETCH_OK)
		hot->seen = sq->tail;
	return look;
}

enum vrd_fetch vrd_sq_peek(struct vrd_qp *qp, struct vrd_wr *wr)
{
	enum vrd_fetch fetch = vrd_sq_fetch(qp, wr);

	if (fetch == VRD_FETCH_SPECIAL)
		fetch = VRD_FETCH_OK;
	if (fetch != VRD_FETCH_OK)
		return fetch;
	qp->sched.moved += wr->req.length;
	if (wr->req.length >= VRD_LONG_BYTES)
		vrd_sq_long(qp, wr->req.length);
	return fetch;
}

void vrd_sq_prefetch(const struct vrd_qp *qp, uint32_t index)
{
	if (qp->sq.entries)
		__builtin_prefetch(vrd_ring_entry(&qp->buf, &qp->sq, index));
}

/* ---- receive WQEs -------------------------------------------------------------- */

/* A receive's first 32 bytes, as each of the types that are used for them. */
union recv_line {
	uint64_t words[4];
	struct virtio_rdma_recv_wqe wqe;
	uint8_t bytes[32];
};

/* Copies and checks an entry of any kind. */
bool vrd_recv_any(const struct vrd_ring *ring, uint32_t max_sge, struct vrd_recv_wr *wr,
		  const void *entry)
{
	uint32_t offset = sizeof(struct virtio_rdma_recv_wqe);
	uint32_t stride = 1U << ring->stride_shift;
	union recv_line first;

	vrd_copy_in(first.words, entry, sizeof(first));
	/* The cookie of an SRQ's entry is valid even if the entry is malformed. */
	if (ring->srq)
		wr->index = le32toh(first.wqe.cookie);
	wr->num_sge = le32toh(first.wqe.num_sge);
	wr->length = 0;
	if (first.wqe.reserved || wr->num_sge > max_sge || wr->num_sge > VRD_MAX_SGE ||
	    offset + wr->num_sge * sizeof(struct virtio_rdma_sge) > stride)
		return false;
	for (unsigned int i = 0; i < wr->num_sge; i++, offset += sizeof(struct virtio_rdma_sge)) {
		struct virtio_rdma_sge sge;

		if (!i)
			memcpy(&sge, &first.bytes[offset], sizeof(sge));
		else
			vrd_copy_in(&sge, (const uint8_t *)entry + offset, sizeof(sge));
		wr->length += add_sge(&wr->sge[i], &sge);
	}
	return true;
}

enum vrd_fetch vrd_rq_take(struct vrd_qp *qp, struct vrd_recv_wr *wr)
{
	return vrd_rq_fetch(qp, wr);
}

/* ---- shared receive queues ----------------------------------------------------- */

static enum vrd_fetch srq_dead(struct vrd_srq *srq)
{
	if (!srq->error) {
		srq->error = true;
		vrd_event_raise(srq->dev, VIRTIO_RDMA_EVENT_SRQ_ERR, srq->srqn);
	}
	return VRD_FETCH_DEAD;
}

enum vrd_fetch vrd_srq_peek(struct vrd_srq *srq, struct vrd_recv_wr *wr)
{
	struct vrd_ring *ring = &srq->ring;
	const uint8_t *entry;

	if (srq->error)
		return VRD_FETCH_DEAD;
	switch (ring_look(ring)) {
	case VRD_FETCH_EMPTY:
		return VRD_FETCH_EMPTY;
	case VRD_FETCH_OK:
		break;
	default:
		return srq_dead(srq);
	}
	entry = vrd_ring_entry(&srq->buf, ring, ring->head);
	if (!entry)
		return srq_dead(srq);
	return vrd_recv_any(ring, srq->max_sge, wr, entry) ? VRD_FETCH_OK : VRD_FETCH_BAD;
}

uint32_t vrd_srq_posted(struct vrd_srq *srq)
{
	struct vrd_ring *ring = &srq->ring;
	uint32_t producer;

	if (srq->error || ring->broken || !ring->ctrl)
		return 0;
	producer = vrd_load32_acquire(&ring->ctrl->producer);
	if (producer - ring->head > ring->entries) {
		ring->broken = true;	/* the next take reports it */
		return 0;
	}
	ring->tail = producer;
	return producer - ring->head;
}

/*
 * The limit is compared with the number of receives posted now, not with the number when the
 * producer index was last read.
 */
void vrd_srq_check_limit(struct vrd_srq *srq)
{
	if (!srq->limit || srq->error || !srq->ring.ctrl)
		return;
	if (vrd_srq_posted(srq) + srq->lent >= srq->limit || srq->ring.broken)
		return;
	srq->limit = 0;
	vrd_event_raise(srq->dev, VIRTIO_RDMA_EVENT_SRQ_LIMIT_REACHED, srq->srqn);
}

void vrd_srq_advance(struct vrd_srq *srq)
{
	srq->ring.head++;
	vrd_srq_check_limit(srq);
}

void vrd_srq_lent_used(struct vrd_srq *srq)
{
	srq->lent--;
	vrd_srq_check_limit(srq);
}

/* ---- flush ------------------------------------------------------------------------ */

static bool flush(struct vrd_qp *qp, struct vrd_ring *ring, struct vrd_cq *cq, uint8_t opcode,
		  unsigned int budget)
{
	struct virtio_rdma_cqe cqe = {
		.qpn = htole32(qp->qpn),
		.opcode = opcode,
		.status = VIRTIO_RDMA_WC_WR_FLUSH_ERR,
	};

	/* A broken ring ends here: the number of posted entries is unknown. */
	while (ring_look(ring) == VRD_FETCH_OK) {
		if (!budget--)
			return true;
		cqe.wqe_index = htole32(ring->head);
		ring->head++;
		vrd_cq_post(cq, &cqe, true);
	}
	return false;
}

bool vrd_sq_flush(struct vrd_qp *qp, unsigned int budget)
{
	return flush(qp, &qp->sq, qp->send_cq, VIRTIO_RDMA_WC_SEND, budget);
}

bool vrd_rq_flush(struct vrd_qp *qp, unsigned int budget)
{
	return flush(qp, &qp->rq, qp->recv_cq, VIRTIO_RDMA_WC_RECV, budget);
}
