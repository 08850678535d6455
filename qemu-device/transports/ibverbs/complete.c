// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: translates completions of the host to completions of the guest.  Runs
 * on the poller of the context, without a lock, in an RCU read section.
 */
#include <endian.h>

#include "ibv.h"

/* Length of the header in front of each datagram. */
#define GRH_LEN	40U

/* Both sides use IBTA's numbers. */
_Static_assert((int)VIRTIO_RDMA_WC_RETRY_EXC_ERR == IBV_WC_RETRY_EXC_ERR, "status");
_Static_assert((int)VIRTIO_RDMA_WC_RNR_RETRY_EXC_ERR == IBV_WC_RNR_RETRY_EXC_ERR, "status");
_Static_assert((int)VIRTIO_RDMA_WC_REM_ABORT_ERR == IBV_WC_REM_ABORT_ERR, "status");
_Static_assert((int)VIRTIO_RDMA_WC_GENERAL_ERR == IBV_WC_GENERAL_ERR, "status");
_Static_assert((int)VIRTIO_RDMA_WC_FETCH_ADD == IBV_WC_FETCH_ADD, "opcode");
_Static_assert((int)VIRTIO_RDMA_WC_RECV == IBV_WC_RECV, "opcode");
_Static_assert((int)VIRTIO_RDMA_WC_RECV_RDMA_WITH_IMM == IBV_WC_RECV_RDMA_WITH_IMM, "opcode");

/*
 * Statuses that the guest's ABI does not define become GENERAL_ERR: reliable datagrams,
 * end-to-end contexts, tag matching.
 */
static uint8_t status_of(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_LOC_RDD_VIOL_ERR:
	case IBV_WC_REM_INV_RD_REQ_ERR:
	case IBV_WC_INV_EECN_ERR:
	case IBV_WC_INV_EEC_STATE_ERR:
	case IBV_WC_RESP_TIMEOUT_ERR:
		return VIRTIO_RDMA_WC_GENERAL_ERR;
	default:
		return status > IBV_WC_GENERAL_ERR ? VIRTIO_RDMA_WC_GENERAL_ERR : (uint8_t)status;
	}
}

/*
 * Fills all but CQE_IPV4.  RoCE has no service level, and some hosts report other values in
 * sl, so it is not copied.
 */
void vrd_ibv_fill_recv(struct virtio_rdma_cqe *cqe, const struct ibv_wc *wc)
{
	cqe->byte_len = htole32(wc->byte_len);
	cqe->src_qp = htole32(wc->src_qp);
	cqe->pkey_index = htole16(wc->pkey_index);
	if (wc->wc_flags & IBV_WC_GRH)
		cqe->flags |= VIRTIO_RDMA_CQE_GRH;
	if (wc->wc_flags & IBV_WC_WITH_IMM) {
		cqe->flags |= VIRTIO_RDMA_CQE_IMM;
		cqe->imm = wc->imm_data;
	}
	if (wc->wc_flags & IBV_WC_WITH_INV) {
		cqe->flags |= VIRTIO_RDMA_CQE_INV;
		cqe->inv_rkey = htole32(wc->invalidated_rkey);
	}
}

/* The host has moved its QP because of an error; moves the guest's QP accordingly. */
static void follow_error(struct vrd_ibv_qp *vq, bool recv)
{
	struct vrd_qp *qp = vq->qp;

	/* IBTA 10.3.1: only the send queue of an unreliable QP fails; receiving continues. */
	vrd_qp_error(qp, !recv && qp->type != VIRTIO_RDMA_QPT_RC ? VIRTIO_RDMA_QPS_SQE :
		     VIRTIO_RDMA_QPS_ERR, VRD_HELD_NONE);
}

/*
 * The completion of the request that was made to fail gets the status that was stored for
 * it. Soft-RoCE flushes this request together with all others that are not complete.  The
 * stored status then counts only if no other error was reported before.
 */
static void blame(struct vrd_ibv_qp *vq, const struct ibv_wc *wc, enum vrd_ibv_kind kind,
		  struct virtio_rdma_cqe *cqe)
{
	bool flushed = wc->status == IBV_WC_WR_FLUSH_ERR;

	if (!vq->erred) {
		vq->erred = true;
		vq->blame = vq->failing && flushed &&
			    !atomic_load_explicit(&vq->error_reported, memory_order_relaxed);
	}
	if (kind != VRD_IBV_FAILING)
		return;
	if (!flushed || vq->blame)
		cqe->status = vq->failing_status;
	vq->failing = false;
	vq->blame = false;
}

/* Handles a completion with error, of any kind; only few of its fields are valid. */
static void complete_error(struct vrd_ibv_cq *vcq, struct vrd_ibv_qp *vq, const struct ibv_wc *wc,
			   struct virtio_rdma_cqe *cqe, enum vrd_ibv_kind kind)
{
	bool recv = kind == VRD_IBV_RECV || kind == VRD_IBV_SRQ_RECV || kind == VRD_IBV_LENT;

	cqe->opcode = recv ? VIRTIO_RDMA_WC_RECV : VIRTIO_RDMA_WC_SEND;
	cqe->status = status_of(wc->status);
	cqe->vendor_err = (uint8_t)wc->vendor_err;
	if (!recv)
		blame(vq, wc, kind, cqe);
	vrd_cq_post(vcq->cq, cqe, true);
	follow_error(vq, recv);
}

static const struct vrd_ibv_places *places_of(const struct vrd_ibv_qp *vq)
{
	const struct vrd_srq *srq = vq->qp->srq;

	return srq ? atomic_load_explicit(&vrd_ibv_srq(srq)->places, memory_order_acquire) :
		     vq->places;
}

void vrd_ibv_complete(struct vrd_ibv_cq *vcq, const struct ibv_wc *wc)
{
	struct vrd_device *dev = vcq->cq->dev;
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(dev);
	enum vrd_ibv_kind kind = vrd_ibv_wr_kind(wc->wr_id);
	struct vrd_qp *qp = vrd_table_find(&dev->qps, wc->qp_num);
	uint32_t index = (uint32_t)wc->wr_id;
	struct virtio_rdma_cqe cqe = { 0 };
	struct vrd_ibv_qp *vq;
	uint32_t bytes;

	if (kind == VRD_IBV_LENT && !vrd_ibv_lend_returned(dev, index, qp, &index))
		return;
	vq = qp ? vrd_ibv_qp(qp) : NULL;
	if (!vq)
		return;
	if (kind != VRD_IBV_SRQ_RECV && kind != VRD_IBV_LENT && vrd_ibv_wr_generation(wc->wr_id) !=
	    atomic_load_explicit(&vq->generation, memory_order_relaxed))
		return;
	if (kind == VRD_IBV_BOUNCE) {
		vrd_ibv_bounce_received(vq, wc);
		return;
	}
	cqe.qpn = htole32(qp->qpn);
	cqe.wqe_index = htole32(index);
	if (kind == VRD_IBV_SRQ_RECV || kind == VRD_IBV_LENT)
		cqe.srqn = vrd_qp_srqn(qp);
	if (kind == VRD_IBV_SEND || kind == VRD_IBV_QUIET || kind == VRD_IBV_FAILING) {
		vq->sq_done = (uint32_t)wc->wr_id + 1;
		if (vq->blocked)
			vrd_qp_schedule(qp);
	}
	if (kind == VRD_IBV_RECV && !--vq->rq_lent && atomic_load(&vq->rq_due))
		vrd_qp_schedule(qp);
	if (wc->status != IBV_WC_SUCCESS) {
		complete_error(vcq, vq, wc, &cqe, kind);
		return;
	}
	if (kind == VRD_IBV_QUIET)
		return;
	cqe.opcode = (uint8_t)wc->opcode;
	if (kind == VRD_IBV_SEND) {
		if (wc->opcode == IBV_WC_RDMA_READ || wc->opcode == IBV_WC_COMP_SWAP ||
		    wc->opcode == IBV_WC_FETCH_ADD)
			cqe.byte_len = htole32(wc->byte_len);
		vrd_cq_post(vcq->cq, &cqe, false);
		return;
	}
	vrd_ibv_fill_recv(&cqe, wc);
	bytes = wc->byte_len;
	if (qp->type == VIRTIO_RDMA_QPT_UD) {
		bytes -= GRH_LEN;
		if (vrd_ibv_header_is_v4(qp, places_of(vq), index))
			cqe.flags |= VIRTIO_RDMA_CQE_IPV4;
	}
	vrd_stat_add(dev, VIRTIO_RDMA_STAT_RECV, 1);
	vrd_stat_add(dev, VIRTIO_RDMA_STAT_RX_BYTES, bytes);
	atomic_fetch_add_explicit(&vdev->rx_bytes, bytes, memory_order_relaxed);
	/*
	 * libibverbs does not report whether the sender asked for a solicited event.  Raise it:
	 * an unnecessary event is harmless, a missing one hangs a program.
	 */
	vrd_cq_post(vcq->cq, &cqe, true);
}
