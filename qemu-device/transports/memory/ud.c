// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: datagrams, of UD QPs and of QP 1.
 *
 * Each request contains its address vector.  Only an error on the sender's own side fails
 * the request.  A datagram that has no valid destination, or that the receiver does not
 * accept, is dropped, and the request succeeds.  Runs on the sender's poller with sq.lock
 * held, in an RCU read section.
 *
 * A receive gets 40 bytes of header before the payload, as in RoCE v2: the IPv6 header, or
 * 20 bytes of zeroes and the IPv4 header.
 */
#include <string.h>

#include "grh.h"
#include "memory.h"

/* Fills the header; returns flags of the CQE. */
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

	/* Immediate data has a header of its own, of four bytes. */
	return vrd_grh_fill(out, &grh, ((wr->req.length + 3) & ~3U) +
			    (wr->req.opcode == VIRTIO_RDMA_WR_SEND_WITH_IMM ? 4 : 0));
}

/* ---- receiving ------------------------------------------------------------------ */

static enum vrd_mem_step vrd_mem_drop(struct vrd_mem_burst *b)
{
	vrd_count(b->count, VIRTIO_RDMA_STAT_UD_DROPS, 1);
	return VRD_MEM_DONE;
}

/*
 * The Q_Key that the datagram carries.  IBTA 10.2.5: a Q_Key with the top bit set is
 * privileged.  A request that names one carries the QP's own Q_Key instead, and only the
 * kernel can give a QP a privileged Q_Key.  So no process can send to QP 1.
 */
static uint32_t vrd_mem_send_qkey(const struct vrd_qp *qp, const struct vrd_wr *wr)
{
	uint32_t qkey = le32toh(wr->av.qkey);

	return qkey & 0x80000000U ? le32toh(qp->attr.qkey) : qkey;
}

/* burst.resp.qp is the locked receiver. */
static enum vrd_mem_step vrd_mem_ud_deliver(struct vrd_mem_burst *b, const struct vrd_wr *wr,
					    struct vrd_sg *payload, const uint8_t sgid[16])
{
	struct virtio_rdma_cqe cqe = {
		.src_qp = htole32(b->qp->qpn),
		.sl = wr->av.sl,
	};
	const struct vrd_qp *peer = b->resp.qp;
	uint8_t grh[VRD_MEM_GRH_LEN];
	struct vrd_sg header;

	if (vrd_mem_qp(peer)->dead || !vrd_resp_listens(peer) ||
	    le32toh(peer->attr.qkey) != vrd_mem_send_qkey(b->qp, wr))
		return vrd_mem_drop(b);
	cqe.flags = vrd_mem_header(grh, sgid, wr);
	if (wr->req.opcode == VIRTIO_RDMA_WR_SEND_WITH_IMM) {
		cqe.imm = wr->req.imm;
		cqe.flags |= VIRTIO_RDMA_CQE_IMM;
	}
	vrd_sg_host(&header, grh, sizeof(grh));
	switch (vrd_resp_datagram(&b->resp, &header, payload, &cqe,
				  wr->req.flags & VIRTIO_RDMA_WQE_SOLICITED)) {
	case VRD_RESP_OK:
		return VRD_MEM_DONE;
	case VRD_RESP_SOURCE:
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_PROT_ERR);
	default:
		return vrd_mem_drop(b);
	}
}

/* ---- sending ---------------------------------------------------------------------- */

/* Checks the sender's own side; returns VIRTIO_RDMA_WC_*. */
static uint8_t vrd_mem_ud_check(struct vrd_mem_burst *b, const struct vrd_wr *wr,
				struct vrd_sg *payload, const struct vrd_mem_gid **sgid)
{
	if (wr->req.opcode != VIRTIO_RDMA_WR_SEND && wr->req.opcode != VIRTIO_RDMA_WR_SEND_WITH_IMM)
		return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	if (le32toh(wr->av.pd) != b->qp->pd->id || wr->pkey_index)
		return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	/* The source GID must be in the sender's own table. */
	*sgid = vrd_mem_sgid(b->mq->port, wr->av.sgid_index);
	if (!*sgid)
		return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	if (!wr->length_ok || wr->req.length > VRD_MEM_MTU)
		return VIRTIO_RDMA_WC_LOC_LEN_ERR;
	if (wr->req.flags & VIRTIO_RDMA_WQE_INLINE)
		vrd_sg_host(payload, (void *)wr->inline_data, wr->req.length);
	else
		vrd_sg_init(payload, b->qp, b->qp->pd, wr->sge, wr->num_sge, wr->req.length, 0,
			    false);
	return vrd_sg_check(payload) ? VIRTIO_RDMA_WC_SUCCESS : VIRTIO_RDMA_WC_LOC_PROT_ERR;
}

static enum vrd_mem_step vrd_mem_ud_step(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	const struct vrd_mem_gid *sgid;
	struct vrd_sg payload;
	enum vrd_mem_step step;
	struct vrd_qp *peer;
	uint8_t status;

	if (b->qp->send_path && !vrd_path_carries(b->qp, wr))
		return VRD_MEM_MORE;
	status = vrd_mem_ud_check(b, wr, &payload, &sgid);
	if (status)
		return vrd_mem_fail(b, status);
	b->slice -= wr->req.length < b->slice ? wr->req.length : b->slice;

	peer = vrd_mem_find_qp(b->mq->port->fabric, wr->av.dgid, le32toh(wr->av.dqpn));
	/*
	 * Datagrams to a suspended receiver are dropped: waiting for one paused guest would
	 * delay the datagrams to all others.
	 */
	if (!peer || vrd_device_suspended(peer->dev))
		return vrd_mem_drop(b);

	vrd_lock(&peer->rq.lock);
	vrd_mem_attach_peer(b, peer);
	step = vrd_mem_ud_deliver(b, wr, &payload, sgid->gid);
	vrd_mem_unlock_peer(b);
	return step;
}

enum vrd_run vrd_mem_ud_run(struct vrd_mem_burst *b, unsigned int budget)
{
	while (budget--) {
		enum vrd_fetch fetch = vrd_sq_fetch(b->qp, &b->wr);
		enum vrd_mem_step step;
		enum vrd_run run;

		if (fetch == VRD_FETCH_EMPTY)
			return VRD_RUN_IDLE;
		step = fetch == VRD_FETCH_OK ? vrd_mem_ud_step(b, &b->wr)
					     : vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_QP_OP_ERR);
		if (step != VRD_MEM_DONE)
			return vrd_mem_stop(b, &b->wr, step);
		run = vrd_mem_complete(b, &b->wr);
		if (run != VRD_RUN_IDLE)
			return run;
	}
	return VRD_RUN_MORE;
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
	struct vrd_sg header, payload;
	struct vrd_resp resp;

	vrd_sg_host(&header, data, VRD_MEM_GRH_LEN);
	vrd_sg_host(&payload, data + VRD_MEM_GRH_LEN, length);
	vrd_lock(&qp->rq.lock);
	vrd_resp_attach(&resp, qp, qp->poller);
	/* The other transport may not know whether the sender asked for a solicited event. */
	if (!vrd_mem_qp(qp)->dead && vrd_resp_listens(qp) &&
	    vrd_resp_datagram(&resp, &header, &payload, cqe, true))
		vrd_count(resp.count, VIRTIO_RDMA_STAT_UD_DROPS, 1);
	vrd_resp_detach(&resp);
	vrd_unlock(&qp->rq.lock);
}
