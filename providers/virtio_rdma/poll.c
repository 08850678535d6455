// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Data path: completions.  ibv_poll_cq() and the extended polling of ibv_cq_ex.
 * No system call; one cache line for each CQE; one store of the consumer index
 * for each call.  All of it runs under the CQ's lock, which extended polling
 * holds from start_poll to end_poll.
 */
#include <errno.h>
#include <string.h>

#include "vrdma.h"

/* The device's CQE opcodes and statuses have the numbers of libibverbs. */
static_assert((int)IBV_WC_SEND == VIRTIO_RDMA_WC_SEND, "WC opcode");
static_assert((int)IBV_WC_RDMA_WRITE == VIRTIO_RDMA_WC_RDMA_WRITE, "WC opcode");
static_assert((int)IBV_WC_RDMA_READ == VIRTIO_RDMA_WC_RDMA_READ, "WC opcode");
static_assert((int)IBV_WC_COMP_SWAP == VIRTIO_RDMA_WC_COMP_SWAP, "WC opcode");
static_assert((int)IBV_WC_FETCH_ADD == VIRTIO_RDMA_WC_FETCH_ADD, "WC opcode");
static_assert((int)IBV_WC_BIND_MW == VIRTIO_RDMA_WC_BIND_MW, "WC opcode");
static_assert((int)IBV_WC_LOCAL_INV == VIRTIO_RDMA_WC_LOCAL_INV, "WC opcode");
static_assert((int)IBV_WC_RECV == VIRTIO_RDMA_WC_RECV, "WC opcode");
static_assert((int)IBV_WC_RECV_RDMA_WITH_IMM ==
	      VIRTIO_RDMA_WC_RECV_RDMA_WITH_IMM, "WC opcode");
static_assert((int)IBV_WC_LOC_LEN_ERR == VIRTIO_RDMA_WC_LOC_LEN_ERR, "WC status");
static_assert((int)IBV_WC_WR_FLUSH_ERR == VIRTIO_RDMA_WC_WR_FLUSH_ERR, "WC status");
static_assert((int)IBV_WC_REM_ACCESS_ERR == VIRTIO_RDMA_WC_REM_ACCESS_ERR, "WC status");
static_assert((int)IBV_WC_RNR_RETRY_EXC_ERR == VIRTIO_RDMA_WC_RNR_RETRY_EXC_ERR, "WC status");
static_assert((int)IBV_WC_FATAL_ERR == VIRTIO_RDMA_WC_FATAL_ERR, "WC status");
static_assert((int)IBV_WC_GENERAL_ERR == VIRTIO_RDMA_WC_GENERAL_ERR, "WC status");

/* Finds the QP of a CQE; in most cases it is that of the previous CQE. */
static struct vrdma_qp *vrdma_cq_find_qp(struct vrdma_cq *cq, uint32_t qpn)
{
	struct vrdma_context *ctx;
	struct vrdma_qp_leaf *leaf;
	struct vrdma_qp *qp;

	if (likely(qpn == cq->cached_qpn))
		return cq->cached_qp;

	if (unlikely(qpn >> VRDMA_QP_LEAF_SHIFT >= VRDMA_QP_LEAVES))
		return NULL;
	ctx = to_vctx(cq->vcq.cq.context);
	leaf = ctx->qp_table[qpn >> VRDMA_QP_LEAF_SHIFT];
	if (unlikely(!leaf))
		return NULL;
	qp = leaf->qps[qpn & (VRDMA_QP_LEAF_SIZE - 1)];
	if (unlikely(!qp))
		return NULL;

	cq->cached_qpn = qpn;
	cq->cached_qp = qp;
	return qp;
}

/*
 * Completes a receive from an SRQ.  The SRQ is found by its number, because the
 * QP may be destroyed or belong to another process.
 */
static bool vrdma_cq_take_srq(struct vrdma_cq *cq,
			      const struct virtio_rdma_cqe *cqe, uint64_t *wr_id)
{
	struct vrdma_qp *qp = vrdma_cq_find_qp(cq, le32toh(cqe->qpn));
	uint32_t srqn = le32toh(cqe->srqn);
	uint32_t cookie = le32toh(cqe->wqe_index);

	/* The SRQ exists as long as its QP. */
	if (likely(qp && qp->srq && qp->srq->srqn == srqn))
		return vrdma_srq_complete(qp->srq, cookie, wr_id);
	return vrdma_srq_complete_by_number(to_vctx(cq->vcq.cq.context), srqn,
					    cookie, wr_id);
}

/*
 * Takes the next CQE that belongs to a QP or SRQ of this context, completes its
 * request and all earlier ones of its queue, and returns the wr_id.  The slot
 * belongs to the driver until the consumer index is stored.  Returns NULL if
 * the CQ is empty.  If the device is dead, returns a CQE from vrdma_cq_flush()
 * as long as requests are outstanding.
 */
static inline struct virtio_rdma_cqe *
vrdma_cq_take(struct vrdma_cq *cq, uint32_t *word, uint64_t *wr_id)
{
	struct vrdma_cq_ring *ring = &cq->cur->ring;
	struct virtio_rdma_cqe *cqe;
	struct vrdma_cq_gen *gen;
	struct vrdma_qp *qp;
	struct vrdma_wq *wq;
	uint32_t index;

	for (;;) {
		cqe = vrdma_cq_ring_peek(ring, ring->consumer, word);
		if (!cqe) {
			gen = vrdma_cq_next_gen(cq);
			if (unlikely(gen)) {
				ring = &gen->ring;
				continue;
			}
			if (likely(!vrdma_ctx_dead(to_vctx(cq->vcq.cq.context))))
				return NULL;
			if (vrdma_cq_last_look(cq))
				continue;
			return vrdma_cq_flush(cq, word, wr_id);
		}
		ring->consumer++;

		if ((VRDMA_CQE_OPCODE(*word) & VIRTIO_RDMA_WC_RECV_BIT) &&
		    cqe->srqn) {
			if (likely(vrdma_cq_take_srq(cq, cqe, wr_id)))
				return cqe;
			continue;
		}
		qp = vrdma_cq_find_qp(cq, le32toh(cqe->qpn));
		if (unlikely(!qp))
			continue;
		index = le32toh(cqe->wqe_index);
		wq = VRDMA_CQE_OPCODE(*word) & VIRTIO_RDMA_WC_RECV_BIT ?
		     &qp->rq : &qp->sq;
		break;
	}

	*wr_id = wq->wr_ids[index & wq->ring.mask];
	vrdma_ring_complete(&wq->ring, index);
	return cqe;
}

static unsigned int vrdma_wc_flags(uint32_t word)
{
	uint32_t flags = VRDMA_CQE_FLAGS(word);
	unsigned int wc_flags = 0;

	if (flags & VIRTIO_RDMA_CQE_GRH)
		wc_flags |= IBV_WC_GRH;
	if (flags & VIRTIO_RDMA_CQE_IMM)
		wc_flags |= IBV_WC_WITH_IMM;
	if (flags & VIRTIO_RDMA_CQE_INV)
		wc_flags |= IBV_WC_WITH_INV;
	return wc_flags;
}

static inline void vrdma_fill_wc(struct ibv_wc *wc,
				 const struct virtio_rdma_cqe *cqe,
				 uint32_t word)
{
	wc->status = VRDMA_CQE_STATUS(word);
	wc->opcode = VRDMA_CQE_OPCODE(word);
	wc->vendor_err = cqe->vendor_err;
	wc->byte_len = le32toh(cqe->byte_len);
	wc->qp_num = le32toh(cqe->qpn);
	wc->src_qp = le32toh(cqe->src_qp);
	wc->wc_flags = vrdma_wc_flags(word);
	if (unlikely(wc->wc_flags & IBV_WC_WITH_INV))
		wc->invalidated_rkey = le32toh(cqe->inv_rkey);
	else
		wc->imm_data = cqe->imm;
	wc->pkey_index = le16toh(cqe->pkey_index);
	wc->slid = 0;
	wc->sl = vrdma_cqe_sl(cqe, word);
	wc->dlid_path_bits = 0;
}

int vrdma_poll_cq(struct ibv_cq *ibvcq, int num, struct ibv_wc *wc)
{
	struct vrdma_cq *cq = to_vcq(ibvcq);
	struct virtio_rdma_cqe *cqe;
	uint32_t start;
	uint32_t word;
	int n;

	vrdma_lock(&cq->lock);
	start = cq->cur->ring.consumer;
	for (n = 0; n < num; n++, wc++) {
		cqe = vrdma_cq_take(cq, &word, &wc->wr_id);
		if (!cqe)
			break;
		vrdma_fill_wc(wc, cqe, word);
	}
	/* Also if all CQEs were of unknown QPs. */
	if (n || unlikely(cq->cur->ring.consumer != start))
		vrdma_cq_ring_consume(&cq->cur->ring);
	vrdma_unlock(&cq->lock);
	return n;
}

/* ---------------- extended polling ---------------- */

static int vrdma_next_poll(struct ibv_cq_ex *ibvcq)
{
	struct vrdma_cq *cq = to_vcq_ex(ibvcq);

	cq->cqe = vrdma_cq_take(cq, &cq->cqe_word, &ibvcq->wr_id);
	if (!cq->cqe)
		return ENOENT;
	ibvcq->status = VRDMA_CQE_STATUS(cq->cqe_word);
	return 0;
}

static void vrdma_end_poll(struct ibv_cq_ex *ibvcq)
{
	struct vrdma_cq *cq = to_vcq_ex(ibvcq);

	vrdma_cq_ring_consume(&cq->cur->ring);
	vrdma_unlock(&cq->lock);
}

static int vrdma_start_poll(struct ibv_cq_ex *ibvcq,
			    struct ibv_poll_cq_attr *attr)
{
	struct vrdma_cq *cq = to_vcq_ex(ibvcq);
	uint32_t start;
	int ret;

	if (unlikely(attr->comp_mask))
		return EINVAL;

	vrdma_lock(&cq->lock);
	start = cq->cur->ring.consumer;
	ret = vrdma_next_poll(ibvcq);
	if (ret) {
		if (unlikely(cq->cur->ring.consumer != start))
			vrdma_cq_ring_consume(&cq->cur->ring);
		vrdma_unlock(&cq->lock);
	}
	return ret;
}

static enum ibv_wc_opcode vrdma_read_opcode(struct ibv_cq_ex *ibvcq)
{
	return VRDMA_CQE_OPCODE(to_vcq_ex(ibvcq)->cqe_word);
}

static uint32_t vrdma_read_vendor_err(struct ibv_cq_ex *ibvcq)
{
	return to_vcq_ex(ibvcq)->cqe->vendor_err;
}

static unsigned int vrdma_read_wc_flags(struct ibv_cq_ex *ibvcq)
{
	return vrdma_wc_flags(to_vcq_ex(ibvcq)->cqe_word);
}

static uint32_t vrdma_read_byte_len(struct ibv_cq_ex *ibvcq)
{
	return le32toh(to_vcq_ex(ibvcq)->cqe->byte_len);
}

/* Also serves ibv_wc_read_invalidated_rkey(), in the CPU's byte order. */
static __be32 vrdma_read_imm_data(struct ibv_cq_ex *ibvcq)
{
	struct vrdma_cq *cq = to_vcq_ex(ibvcq);

	if (unlikely(VRDMA_CQE_FLAGS(cq->cqe_word) & VIRTIO_RDMA_CQE_INV))
		return (__force __be32)le32toh(cq->cqe->inv_rkey);
	return cq->cqe->imm;
}

static uint32_t vrdma_read_qp_num(struct ibv_cq_ex *ibvcq)
{
	return le32toh(to_vcq_ex(ibvcq)->cqe->qpn);
}

static uint32_t vrdma_read_src_qp(struct ibv_cq_ex *ibvcq)
{
	return le32toh(to_vcq_ex(ibvcq)->cqe->src_qp);
}

/* RoCE has no LIDs. */
static uint32_t vrdma_read_slid(struct ibv_cq_ex *ibvcq)
{
	return 0;
}

static uint8_t vrdma_read_sl(struct ibv_cq_ex *ibvcq)
{
	struct vrdma_cq *cq = to_vcq_ex(ibvcq);

	return vrdma_cqe_sl(cq->cqe, cq->cqe_word);
}

static uint8_t vrdma_read_dlid_path_bits(struct ibv_cq_ex *ibvcq)
{
	return 0;
}

/* cq.c has refused every flag that has no read function here. */
void vrdma_cq_set_ex_ops(struct vrdma_cq *cq, uint64_t wc_flags)
{
	struct ibv_cq_ex *ex = &cq->vcq.cq_ex;

	ex->start_poll = vrdma_start_poll;
	ex->next_poll = vrdma_next_poll;
	ex->end_poll = vrdma_end_poll;
	ex->read_opcode = vrdma_read_opcode;
	ex->read_vendor_err = vrdma_read_vendor_err;
	ex->read_wc_flags = vrdma_read_wc_flags;

	if (wc_flags & IBV_WC_EX_WITH_BYTE_LEN)
		ex->read_byte_len = vrdma_read_byte_len;
	if (wc_flags & IBV_WC_EX_WITH_IMM)
		ex->read_imm_data = vrdma_read_imm_data;
	if (wc_flags & IBV_WC_EX_WITH_QP_NUM)
		ex->read_qp_num = vrdma_read_qp_num;
	if (wc_flags & IBV_WC_EX_WITH_SRC_QP)
		ex->read_src_qp = vrdma_read_src_qp;
	if (wc_flags & IBV_WC_EX_WITH_SLID)
		ex->read_slid = vrdma_read_slid;
	if (wc_flags & IBV_WC_EX_WITH_SL)
		ex->read_sl = vrdma_read_sl;
	if (wc_flags & IBV_WC_EX_WITH_DLID_PATH_BITS)
		ex->read_dlid_path_bits = vrdma_read_dlid_path_bits;
}
