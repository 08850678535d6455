// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: the responder of a connected QP.  Runs on the requester's
 * poller, with the requester's sq.lock and the responder's rq.lock held: what
 * it checks are the responder's rights, receives and memory.
 *
 * Nothing is moved before all checks of the message have passed.  A message of
 * several turns is checked again slice by slice, and may fail in the middle.
 */
#include <stdlib.h>
#include <string.h>

#include "memory.h"

static bool vrd_mem_takes_receive(const struct vrd_wr *wr)
{
	return wr->opcode == VIRTIO_RDMA_WR_SEND ||
	       wr->opcode == VIRTIO_RDMA_WR_SEND_WITH_IMM ||
	       wr->opcode == VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM;
}

static bool vrd_mem_is_send(const struct vrd_wr *wr)
{
	return wr->opcode == VIRTIO_RDMA_WR_SEND || wr->opcode == VIRTIO_RDMA_WR_SEND_WITH_IMM;
}

/* ---- receives ------------------------------------------------------------ */

/*
 * Takes the next receive for a message; x->recv gets it.  If the message takes
 * several turns, the receive is kept in memory of the responder, which flushes
 * it if the requester does not come back.  DONE, or what became of the request.
 */
static enum vrd_mem_step vrd_mem_take_receive(struct vrd_mem_burst *b, struct vrd_mem_xfer *x,
					      bool sliced)
{
	struct vrd_qp *peer = b->peer;
	struct vrd_mem_qp *pmq = vrd_mem_qp(peer);
	struct vrd_recv_wr *recv = &b->recv;
	enum vrd_fetch fetch;

	if (pmq->recv && pmq->recv->active) {
		/* Left by a message that the requester gave up. */
		x->recv = &pmq->recv->wr;
		return VRD_MEM_DONE;
	}
	if (sliced) {
		if (!pmq->recv)
			pmq->recv = calloc(1, sizeof(*pmq->recv));
		if (!pmq->recv)
			return vrd_mem_wait_host(b);
		recv = &pmq->recv->wr;
	}

	if (peer->srq) {
		bool taken;
		enum vrd_mem_step step = vrd_mem_srq_take(b, recv, &taken);

		if (taken) {
			if (sliced)
				pmq->recv->active = true;
			x->recv = recv;
		}
		return step;
	}

	fetch = vrd_rq_take(peer, recv);
	if (fetch == VRD_FETCH_EMPTY) {
		if (b->qp->type == VIRTIO_RDMA_QPT_UC)
			return VRD_MEM_DONE;
		/* Have the next post tell us; one may just have been made. */
		if (!pmq->rq_doorbell) {
			pmq->rq_doorbell = true;
			vrd_rq_want_doorbell(peer, true);
			fetch = vrd_rq_take(peer, recv);
		}
		if (fetch == VRD_FETCH_EMPTY)
			return vrd_mem_wait_rnr(b);
	}
	if (fetch == VRD_FETCH_BAD)
		return vrd_mem_recv_bad(b, recv);
	if (sliced)
		pmq->recv->active = true;
	x->recv = recv;
	return VRD_MEM_DONE;
}

static void vrd_mem_put_receive(struct vrd_mem_burst *b, const struct vrd_wr *wr,
				const struct vrd_recv_wr *recv)
{
	struct vrd_qp *peer = b->peer;
	struct virtio_rdma_cqe cqe = {
		.qpn = htole32(peer->qpn),
		.wqe_index = htole32(recv->index),
		.srqn = vrd_qp_srqn(peer),
		.byte_len = htole32(wr->length),
		.opcode = vrd_mem_is_send(wr) ? VIRTIO_RDMA_WC_RECV
					      : VIRTIO_RDMA_WC_RECV_RDMA_WITH_IMM,
		.status = VIRTIO_RDMA_WC_SUCCESS,
	};

	if (wr->opcode != VIRTIO_RDMA_WR_SEND) {
		cqe.imm = wr->imm;
		cqe.flags = VIRTIO_RDMA_CQE_IMM;
	}
	if (vrd_mem_qp(peer)->recv)
		vrd_mem_qp(peer)->recv->active = false;
	b->peer_recv++;
	vrd_cq_post(peer->recv_cq, &cqe, wr->flags & VIRTIO_RDMA_WQE_SOLICITED);
}

/* ---- moving the data ------------------------------------------------------- */

/* A region or page went away since it was checked. */
static enum vrd_mem_step vrd_mem_copy_failed(struct vrd_mem_burst *b, const struct vrd_wr *wr,
					     struct vrd_mem_xfer *x, bool local)
{
	if (local)
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_PROT_ERR);
	if (vrd_mem_is_send(wr))
		return vrd_mem_recv_failed(b, x->recv, VIRTIO_RDMA_WC_LOC_PROT_ERR,
					   VIRTIO_RDMA_WC_REM_OP_ERR);
	if (x->recv)
		return vrd_mem_recv_failed(b, x->recv, VIRTIO_RDMA_WC_LOC_ACCESS_ERR,
					   VIRTIO_RDMA_WC_REM_ACCESS_ERR);
	return vrd_mem_refuse(b, VIRTIO_RDMA_WC_REM_ACCESS_ERR, VIRTIO_RDMA_EVENT_QP_ACCESS_ERR);
}

/* Copies what is left of the message, as far as the turn goes. */
enum vrd_mem_step vrd_mem_respond_more(struct vrd_mem_burst *b, const struct vrd_wr *wr,
				       struct vrd_mem_xfer *x)
{
	bool read = wr->opcode == VIRTIO_RDMA_WR_RDMA_READ;
	struct vrd_mem_side *dst = read ? &x->local : &x->remote;
	struct vrd_mem_side *src = read ? &x->remote : &x->local;
	enum vrd_mem_fault fault;
	uint64_t n;

	for (;;) {
		n = x->left < b->slice ? x->left : b->slice;
		fault = vrd_mem_copy(dst, src, n, n == x->left);
		if (fault)
			return vrd_mem_copy_failed(b, wr, x, (fault == VRD_MEM_FAULT_DST) == read);
		x->left -= n;
		b->slice -= n;
		if (!x->left)
			break;
		if (!vrd_mem_next_slice(b))
			return VRD_MEM_MORE;
	}

	if (read)
		b->peer_tx += wr->length;
	else
		b->peer_rx += wr->length;
	if (x->recv)
		vrd_mem_put_receive(b, wr, x->recv);
	return VRD_MEM_DONE;
}

/* ---- requests -------------------------------------------------------------- */

static enum vrd_mem_step vrd_mem_invalid(struct vrd_mem_burst *b)
{
	return vrd_mem_refuse(b, VIRTIO_RDMA_WC_REM_INV_REQ_ERR, VIRTIO_RDMA_EVENT_QP_REQ_ERR);
}

/*
 * The short cut for most SENDs: one piece, contiguous on both sides.  False:
 * it is not such a one, or wrong, and nothing has been done.
 */
static bool vrd_mem_send_quick(struct vrd_mem_burst *b, const struct vrd_wr *wr,
			       struct vrd_mem_xfer *x)
{
	const struct vrd_sge *sge = x->recv->sge;
	uint8_t *host;

	if (x->local.run < wr->length || !wr->length || !x->recv->num_sge ||
	    sge->length < wr->length)
		return false;
	host = vrd_mem_whole(b->peer->dev,
			     vrd_mr_find_pd(b->peer, vrd_qp_recv_pd(b->peer), sge->lkey, sge->addr,
					    wr->length, VIRTIO_RDMA_ACCESS_LOCAL_WRITE, false),
			     sge->addr, wr->length, true);
	if (!host)
		return false;
	memmove(host, x->local.host, wr->length);
	b->slice -= wr->length;
	b->peer_rx += wr->length;
	vrd_mem_put_receive(b, wr, x->recv);
	return true;
}

static enum vrd_mem_step vrd_mem_respond_send(struct vrd_mem_burst *b, const struct vrd_wr *wr,
					      struct vrd_mem_xfer *x, bool sliced)
{
	enum vrd_mem_step step = vrd_mem_take_receive(b, x, sliced);

	if (step != VRD_MEM_DONE || !x->recv)
		return step;
	if (wr->length > x->recv->length)
		return vrd_mem_recv_failed(b, x->recv, VIRTIO_RDMA_WC_LOC_LEN_ERR,
					   VIRTIO_RDMA_WC_REM_INV_REQ_ERR);
	if (!sliced && vrd_mem_send_quick(b, wr, x))
		return VRD_MEM_DONE;
	vrd_mem_side_recv(&x->remote, b->peer, x->recv, wr->length);
	if (!vrd_mem_side_check(&x->remote))
		return vrd_mem_recv_failed(b, x->recv, VIRTIO_RDMA_WC_LOC_PROT_ERR,
					   VIRTIO_RDMA_WC_REM_OP_ERR);
	return vrd_mem_respond_more(b, wr, x);
}

/* The remote range of WRITE and READ; one of no bytes names no region. */
static bool vrd_mem_check_range(struct vrd_mem_burst *b, const struct vrd_wr *wr,
				struct vrd_mem_xfer *x, uint32_t access)
{
	x->range = (struct vrd_sge){
		.addr = wr->remote_addr,
		.length = wr->length,
		.lkey = wr->rkey,
	};
	vrd_mem_side_sges(&x->remote, b->peer, &x->range, 1, wr->length, access, true);
	return vrd_mem_side_check(&x->remote);
}

static enum vrd_mem_step vrd_mem_respond_write(struct vrd_mem_burst *b, const struct vrd_wr *wr,
					       struct vrd_mem_xfer *x, bool sliced)
{
	enum vrd_mem_step step;

	if (!(le32toh(b->peer->attr.access_flags) & VIRTIO_RDMA_ACCESS_REMOTE_WRITE))
		return vrd_mem_invalid(b);
	if (!vrd_mem_check_range(b, wr, x, VIRTIO_RDMA_ACCESS_REMOTE_WRITE))
		return vrd_mem_refuse(b, VIRTIO_RDMA_WC_REM_ACCESS_ERR,
				      VIRTIO_RDMA_EVENT_QP_ACCESS_ERR);
	if (vrd_mem_takes_receive(wr)) {
		step = vrd_mem_take_receive(b, x, sliced);
		if (step != VRD_MEM_DONE || !x->recv)
			return step;
	}
	return vrd_mem_respond_more(b, wr, x);
}

static enum vrd_mem_step vrd_mem_respond_read(struct vrd_mem_burst *b, const struct vrd_wr *wr,
					      struct vrd_mem_xfer *x)
{
	if (!(le32toh(b->peer->attr.access_flags) & VIRTIO_RDMA_ACCESS_REMOTE_READ) ||
	    !b->peer->attr.max_dest_rd_atomic)
		return vrd_mem_invalid(b);
	if (!vrd_mem_check_range(b, wr, x, VIRTIO_RDMA_ACCESS_REMOTE_READ))
		return vrd_mem_refuse(b, VIRTIO_RDMA_WC_REM_ACCESS_ERR,
				      VIRTIO_RDMA_EVENT_QP_ACCESS_ERR);
	return vrd_mem_respond_more(b, wr, x);
}

static enum vrd_mem_step vrd_mem_respond_atomic(struct vrd_mem_burst *b, const struct vrd_wr *wr,
						struct vrd_mem_xfer *x)
{
	if (!(le32toh(b->peer->attr.access_flags) & VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC) ||
	    !b->peer->attr.max_dest_rd_atomic || wr->remote_addr & 7)
		return vrd_mem_invalid(b);
	if (!vrd_mem_check_range(b, wr, x, VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC))
		return vrd_mem_refuse(b, VIRTIO_RDMA_WC_REM_ACCESS_ERR,
				      VIRTIO_RDMA_EVENT_QP_ACCESS_ERR);
	return vrd_mem_atomic(b, wr, x);
}

/* The local side of @x is checked, and the length of the message. */
enum vrd_mem_step vrd_mem_respond(struct vrd_mem_burst *b, const struct vrd_wr *wr,
				  struct vrd_mem_xfer *x, bool sliced)
{
	x->recv = NULL;
	x->left = wr->length;
	switch (wr->opcode) {
	case VIRTIO_RDMA_WR_RDMA_WRITE:
	case VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM:
		return vrd_mem_respond_write(b, wr, x, sliced);
	case VIRTIO_RDMA_WR_SEND:
	case VIRTIO_RDMA_WR_SEND_WITH_IMM:
		return vrd_mem_respond_send(b, wr, x, sliced);
	case VIRTIO_RDMA_WR_RDMA_READ:
		return vrd_mem_respond_read(b, wr, x);
	case VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP:
	case VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD:
		return vrd_mem_respond_atomic(b, wr, x);
	default:
		/* Not offered, so the core lets none through. */
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_QP_OP_ERR);
	}
}
