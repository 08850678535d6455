// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: datagrams, of UD QPs and of QP 1.
 *
 * The address vector comes with each request.  Only what is wrong on the
 * sender's own side fails the request; what the network or the receiver does
 * not like is dropped, and the sender has succeeded.  Runs on the sender's
 * poller with sq.lock held, in an RCU read section.
 *
 * A receive gets 40 bytes of header before the payload, as RoCE v2 has it: the
 * IPv6 header, or 20 bytes of nothing and the IPv4 header.
 */
#include <string.h>

#include "grh.h"
#include "memory.h"

/* Fills the header; flags of the CQE. */
static uint8_t vrd_mem_header(uint8_t out[VRD_MEM_GRH_LEN], const uint8_t sgid[16],
			      const struct vrd_wr *wr)
{
	struct vrd_grh grh = {
		.sgid = sgid,
		.dgid = wr->av.dgid,
		.flow_label = le32toh(wr->av.flow_label),
		.tclass = wr->av.tclass,
		.hop_limit = wr->av.hop_limit,
	};

	/* Immediate data has a header of its own, four bytes. */
	return vrd_grh_fill(out, &grh, ((wr->length + 3) & ~3U) +
			    (wr->opcode == VIRTIO_RDMA_WR_SEND_WITH_IMM ? 4 : 0));
}

/* ---- receiving ------------------------------------------------------------------ */

static enum vrd_mem_step vrd_mem_drop(struct vrd_mem_burst *b)
{
	b->ud_drops++;
	return VRD_MEM_DONE;
}

/*
 * The Q_Key that the datagram carries.  IBTA 10.2.5: one with the top bit set
 * is privileged; a request that names one gets the QP's own instead, which
 * only the kernel can have made a privileged one.  So no process can talk to
 * QP 1.
 */
static uint32_t vrd_mem_send_qkey(const struct vrd_qp *qp, const struct vrd_wr *wr)
{
	uint32_t qkey = le32toh(wr->av.qkey);

	return qkey & 0x80000000U ? le32toh(qp->attr.qkey) : qkey;
}

/* It takes datagrams; rq.lock. */
static bool vrd_mem_ud_listens(const struct vrd_qp *qp)
{
	return vrd_mem_is_datagram(qp) && !vrd_mem_qp(qp)->dead && !vrd_qp_error_due(qp) &&
	       qp->state >= VIRTIO_RDMA_QPS_RTR && qp->state <= VIRTIO_RDMA_QPS_SQE;
}

/* The next receive; unless EMPTY or DEAD, vrd_mem_ud_decide() has to follow. */
static enum vrd_fetch vrd_mem_ud_look(struct vrd_qp *qp, struct vrd_recv_wr *recv)
{
	return qp->srq ? vrd_mem_srq_peek(qp->srq, recv) : vrd_rq_take(qp, recv);
}

/* It is used up, or stays where it is. */
static void vrd_mem_ud_decide(struct vrd_qp *qp, bool take)
{
	if (qp->srq)
		vrd_mem_srq_decide(qp->srq, take);
	else if (!take)
		qp->rq.head--;
}

/*
 * A datagram for burst.peer, which is locked and takes it: @header and @payload
 * go into its next receive, and @cqe, but for what is known here, into its CQ.
 */
static enum vrd_mem_step vrd_mem_ud_put(struct vrd_mem_burst *b, struct vrd_mem_side *header,
					struct vrd_mem_side *payload, struct virtio_rdma_cqe *cqe,
					bool solicited)
{
	uint64_t payload_len = payload->left, length = VRD_MEM_GRH_LEN + payload_len;
	struct vrd_qp *peer = b->peer;
	enum vrd_mem_fault fault;
	struct vrd_mem_side dst;

	switch (vrd_mem_ud_look(peer, &b->recv)) {
	case VRD_FETCH_EMPTY:
		return vrd_mem_drop(b);
	case VRD_FETCH_OK:
		break;
	case VRD_FETCH_DEAD:
		return vrd_mem_srq_dead(b);
	default:
		vrd_mem_ud_decide(peer, true);
		return vrd_mem_recv_bad(b, &b->recv);
	}
	if (b->recv.length < length) {
		/* Dropped without a trace, so the receive is not lost either. */
		vrd_mem_ud_decide(peer, false);
		return vrd_mem_drop(b);
	}
	vrd_mem_side_recv(&dst, peer, &b->recv, length);
	if (!vrd_mem_side_check(&dst)) {
		vrd_mem_ud_decide(peer, true);
		return vrd_mem_recv_failed(b, &b->recv, VIRTIO_RDMA_WC_LOC_PROT_ERR, 0);
	}

	fault = vrd_mem_copy(&dst, header, VRD_MEM_GRH_LEN, false);
	if (!fault)
		fault = vrd_mem_copy(&dst, payload, payload_len, false);
	/* If the sender's page left its memory table, nothing was sent. */
	vrd_mem_ud_decide(peer, fault != VRD_MEM_FAULT_SRC);
	if (fault == VRD_MEM_FAULT_SRC)
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_PROT_ERR);
	if (fault)
		return vrd_mem_recv_failed(b, &b->recv, VIRTIO_RDMA_WC_LOC_PROT_ERR, 0);
	cqe->qpn = htole32(peer->qpn);
	cqe->wqe_index = htole32(b->recv.index);
	cqe->srqn = vrd_qp_srqn(peer);
	cqe->byte_len = htole32(length);
	b->peer_recv++;
	b->peer_rx += payload_len;
	vrd_cq_post(peer->recv_cq, cqe, solicited);
	return VRD_MEM_DONE;
}

/* burst.peer is the locked receiver. */
static enum vrd_mem_step vrd_mem_ud_deliver(struct vrd_mem_burst *b, const struct vrd_wr *wr,
					    struct vrd_mem_side *payload, const uint8_t sgid[16])
{
	struct virtio_rdma_cqe cqe = {
		.src_qp = htole32(b->qp->qpn),
		.sl = wr->av.sl,
		.opcode = VIRTIO_RDMA_WC_RECV,
		.status = VIRTIO_RDMA_WC_SUCCESS,
	};
	uint8_t grh[VRD_MEM_GRH_LEN];
	struct vrd_mem_side header;

	if (!vrd_mem_ud_listens(b->peer) ||
	    le32toh(b->peer->attr.qkey) != vrd_mem_send_qkey(b->qp, wr))
		return vrd_mem_drop(b);
	cqe.flags = vrd_mem_header(grh, sgid, wr);
	if (wr->opcode == VIRTIO_RDMA_WR_SEND_WITH_IMM) {
		cqe.imm = wr->imm;
		cqe.flags |= VIRTIO_RDMA_CQE_IMM;
	}
	vrd_mem_side_host(&header, grh, sizeof(grh));
	return vrd_mem_ud_put(b, &header, payload, &cqe, wr->flags & VIRTIO_RDMA_WQE_SOLICITED);
}

/* ---- sending ---------------------------------------------------------------------- */

/* What the sender itself did wrong: VIRTIO_RDMA_WC_*. */
static uint8_t vrd_mem_ud_check(struct vrd_mem_burst *b, const struct vrd_wr *wr,
				struct vrd_mem_side *payload, const struct vrd_mem_gid **sgid)
{
	if (wr->opcode != VIRTIO_RDMA_WR_SEND && wr->opcode != VIRTIO_RDMA_WR_SEND_WITH_IMM)
		return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	if (le32toh(wr->av.pd) != b->qp->pd->id || wr->pkey_index)
		return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	/* The source address is one of the sender's own, or nothing goes out. */
	*sgid = vrd_mem_sgid(b->mq->port, wr->av.sgid_index);
	if (!*sgid)
		return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	if (!wr->length_ok || wr->length > VRD_MEM_MTU)
		return VIRTIO_RDMA_WC_LOC_LEN_ERR;
	if (wr->flags & VIRTIO_RDMA_WQE_INLINE)
		vrd_mem_side_host(payload, (void *)wr->inline_data, wr->inline_len);
	else
		vrd_mem_side_sges(payload, b->qp, wr->sge, wr->num_sge, wr->length, 0, false);
	return vrd_mem_side_check(payload) ? VIRTIO_RDMA_WC_SUCCESS : VIRTIO_RDMA_WC_LOC_PROT_ERR;
}

enum vrd_mem_step vrd_mem_ud_step(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	const struct vrd_mem_gid *sgid;
	struct vrd_mem_side payload;
	enum vrd_mem_step step;
	struct vrd_qp *peer;
	uint8_t status;

	if (b->qp->send_path && !vrd_path_carries(b->qp, wr))
		return VRD_MEM_MORE;
	status = vrd_mem_ud_check(b, wr, &payload, &sgid);
	if (status)
		return vrd_mem_fail(b, status);
	b->slice -= wr->length < b->slice ? wr->length : b->slice;

	peer = vrd_mem_find_qp(b->mq->port->fabric, wr->av.dgid, le32toh(wr->av.dqpn));
	/*
	 * A receiver that is suspended gets nothing: waiting for one paused
	 * guest would keep the datagrams of all others waiting.
	 */
	if (!peer || vrd_device_suspended(peer->dev))
		return vrd_mem_drop(b);

	vrd_lock(&peer->rq.lock);
	b->peer = peer;
	step = vrd_mem_ud_deliver(b, wr, &payload, sgid->gid);
	vrd_mem_unlock_peer(b);
	return step;
}

/* ---- paths ----------------------------------------------------------------------- */

bool vrd_mem_path_carries(const struct vrd_qp *qp, const struct vrd_wr *wr)
{
	return vrd_mem_port_by_gid(vrd_mem_port(qp->dev)->fabric, wr->av.dgid);
}

/* Poller, without a lock: another transport has received a datagram for @qp. */
void vrd_mem_path_deliver(struct vrd_qp *qp, uint8_t *data, uint32_t length,
			  struct virtio_rdma_cqe *cqe)
{
	struct vrd_mem_side header, payload;
	struct vrd_mem_burst b;

	vrd_mem_side_host(&header, data, VRD_MEM_GRH_LEN);
	vrd_mem_side_host(&payload, data + VRD_MEM_GRH_LEN, length);
	vrd_mem_burst_begin(&b, qp);
	vrd_lock(&qp->rq.lock);
	b.peer = qp;
	/* The other transport may not know whether a solicited event was asked for. */
	if (vrd_mem_ud_listens(qp))
		vrd_mem_ud_put(&b, &header, &payload, cqe, true);
	vrd_mem_burst_end(&b);
}
