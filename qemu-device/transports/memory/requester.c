// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: the requester of a connected QP (RC; UC where it differs).
 *
 * A request is checked on its own side first, then the peer is found and its
 * receive side locked, which stays locked for the burst, and the responder's
 * code does the rest.  Runs on the QP's poller with sq.lock held, in an RCU
 * read section.
 */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "move.h"

/* ---- the peer ------------------------------------------------------------ */

/* States of a responder that takes requests. */
static bool vrd_mem_responds(const struct vrd_qp *qp)
{
	/* A connection on another path does not answer on this one. */
	if (vrd_mem_qp(qp)->dead || qp->path != &vrd_mem_path || vrd_qp_error_due(qp))
		return false;
	return qp->state == VIRTIO_RDMA_QPS_RTR || qp->state == VIRTIO_RDMA_QPS_RTS ||
	       qp->state == VIRTIO_RDMA_QPS_SQD ||
	       (qp->state == VIRTIO_RDMA_QPS_SQE && qp->type == VIRTIO_RDMA_QPT_UC);
}

/* True if @peer, whose rq.lock is held, is connected to @qp. */
static bool vrd_mem_is_connected(const struct vrd_qp *peer, const struct vrd_qp *qp)
{
	const struct vrd_mem_port *port = vrd_mem_port(qp->dev);

	return vrd_mem_responds(peer) && le32toh(peer->attr.dest_qpn) == qp->qpn &&
	       vrd_mem_port_by_gid(port->fabric, peer->attr.av.dgid) == port;
}

/*
 * The QP that ours is connected to, or NULL.  What is found is remembered: as
 * long as the fabric's generation stays, a QP that was in the tables has not
 * been taken out before this turn's RCU read section began, so it is there
 * until the end of the turn.
 */
static struct vrd_qp *vrd_mem_resolve(struct vrd_mem_qp *mq, uint64_t generation)
{
	struct vrd_qp *qp = mq->qp, *peer;

	if (mq->peer && mq->peer_generation == generation)
		return mq->peer;
	mq->peer = NULL;
	peer = vrd_mem_find_qp(mq->port->fabric, qp->attr.av.dgid, le32toh(qp->attr.dest_qpn));
	return peer && peer->type == qp->type ? peer : NULL;
}

/*
 * Sets and locks burst.peer, or leaves it NULL and says what becomes of the
 * request: an unreliable one is DONE when nobody is there.
 */
static enum vrd_mem_step vrd_mem_lock_peer(struct vrd_mem_burst *b)
{
	struct vrd_mem_qp *mq = b->mq;
	struct vrd_mem_fabric *mf = mq->port->fabric;
	uint64_t generation = vrd_mem_generation(mf);
	struct vrd_qp *peer = vrd_mem_resolve(mq, generation);

	/* The source address has to be one of our own still. */
	if (!mq->peer && !vrd_mem_sgid(mq->port, b->qp->attr.av.sgid_index))
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_QP_OP_ERR);
	if (!peer)
		return vrd_mem_wait_peer(b);
	if (vrd_device_suspended(peer->dev))
		return vrd_mem_wait_resume(b, peer->dev);

	vrd_lock(&peer->rq.lock);
	/*
	 * Whoever connects the peer to somebody else raises the generation under
	 * the lock that we hold now.
	 */
	if (mq->peer != peer || vrd_mem_generation(mf) != generation) {
		if (!vrd_mem_is_connected(peer, b->qp)) {
			vrd_unlock(&peer->rq.lock);
			return vrd_mem_wait_peer(b);
		}
		mq->peer = peer;
		mq->peer_generation = generation;
	} else if (!vrd_mem_responds(peer)) {
		vrd_unlock(&peer->rq.lock);
		return vrd_mem_wait_peer(b);
	}
	b->peer = peer;
	if (peer->state == VIRTIO_RDMA_QPS_RTR && !vrd_mem_qp(peer)->established) {
		vrd_mem_qp(peer)->established = true;
		vrd_event_raise(peer->dev, VIRTIO_RDMA_EVENT_COMM_EST, peer->qpn);
	}
	return VRD_MEM_DONE;
}

/* ---- the request --------------------------------------------------------- */

static bool vrd_mem_is_atomic(const struct vrd_wr *wr)
{
	return wr->opcode == VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP ||
	       wr->opcode == VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD;
}

/* Fills the local side and checks it: VIRTIO_RDMA_WC_*. */
static uint8_t vrd_mem_check_local(struct vrd_mem_burst *b, const struct vrd_wr *wr,
				   struct vrd_mem_xfer *x)
{
	bool to_us = wr->opcode == VIRTIO_RDMA_WR_RDMA_READ || vrd_mem_is_atomic(wr);

	if (to_us && !b->qp->attr.max_rd_atomic)
		return VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	if (vrd_mem_is_atomic(wr) && wr->length != 8)
		return VIRTIO_RDMA_WC_LOC_LEN_ERR;
	if (wr->flags & VIRTIO_RDMA_WQE_INLINE) {
		vrd_mem_side_host(&x->local, (void *)wr->inline_data, wr->inline_len);
		return VIRTIO_RDMA_WC_SUCCESS;
	}
	vrd_mem_side_sges(&x->local, b->qp, wr->sge, wr->num_sge, wr->length,
			  to_us ? VIRTIO_RDMA_ACCESS_LOCAL_WRITE : 0, false);
	return vrd_mem_side_check(&x->local) ? VIRTIO_RDMA_WC_SUCCESS
					     : VIRTIO_RDMA_WC_LOC_PROT_ERR;
}

/*
 * The short cut for most WRITEs and READs: one piece, contiguous on both sides,
 * nothing wrong.  False: it is not such a one, nothing has been done, and the
 * general way finds out what it is.  True: *@step says what became of it.
 */
static bool vrd_mem_rc_quick(struct vrd_mem_burst *b, const struct vrd_wr *wr,
			     enum vrd_mem_step *step)
{
	bool read = wr->opcode == VIRTIO_RDMA_WR_RDMA_READ;
	uint32_t length = wr->length, right;
	uint8_t *local, *remote;

	if ((wr->opcode != VIRTIO_RDMA_WR_RDMA_WRITE && !read) || !length || length > b->slice)
		return false;
	if (wr->flags & VIRTIO_RDMA_WQE_INLINE)
		local = (uint8_t *)wr->inline_data;
	else if (wr->num_sge != 1 || (read && !b->qp->attr.max_rd_atomic))
		return false;
	else
		local = vrd_mem_single_run(b->qp, wr->sge[0].lkey, wr->sge[0].addr, length,
					   read ? VIRTIO_RDMA_ACCESS_LOCAL_WRITE : 0, false, read);
	if (!local)
		return false;

	if (!b->peer) {
		*step = vrd_mem_lock_peer(b);
		if (!b->peer)
			return true;
	}
	right = read ? VIRTIO_RDMA_ACCESS_REMOTE_READ : VIRTIO_RDMA_ACCESS_REMOTE_WRITE;
	if (!(le32toh(b->peer->attr.access_flags) & right) ||
	    (read && !b->peer->attr.max_dest_rd_atomic))
		return false;
	remote = vrd_mem_single_run(b->peer, wr->rkey, wr->remote_addr, length, right, true, !read);
	if (!remote)
		return false;

	vrd_mem_move_last(read ? local : remote, read ? remote : local, length);
	b->slice -= length;
	if (read)
		b->peer_tx += length;
	else
		b->peer_rx += length;
	*step = VRD_MEM_DONE;
	return true;
}

/* Goes on with a message that has taken turns before this one. */
static enum vrd_mem_step vrd_mem_rc_more(struct vrd_mem_burst *b, struct vrd_mem_progress *p)
{
	enum vrd_mem_step step;

	if (!b->peer) {
		step = vrd_mem_lock_peer(b);
		if (!b->peer) {
			/* Nobody there: try from the start when there is somebody. */
			if (b->mq->wait != VRD_MEM_WAIT_RESUME)
				p->active = false;
			return step;
		}
	}
	if (p->xfer.recv) {
		struct vrd_mem_recv *taken = vrd_mem_qp(b->peer)->recv;

		/* Its peer was reset and connected again: so from the start. */
		if (!taken || !taken->active) {
			p->active = false;
			return VRD_MEM_MORE;
		}
		p->xfer.recv = &taken->wr;
		if (p->xfer.remote.sge != &p->xfer.range)
			p->xfer.remote.sge = taken->wr.sge;
	}
	p->xfer.remote.qp = b->peer;
	p->xfer.remote.pd = p->xfer.remote.sge == &p->xfer.range ? b->peer->pd
								 : vrd_qp_recv_pd(b->peer);
	vrd_mem_side_forget(&p->xfer.local);
	vrd_mem_side_forget(&p->xfer.remote);
	step = vrd_mem_respond_more(b, &p->wr, &p->xfer);
	p->active = step == VRD_MEM_MORE;
	return step;
}

/*
 * A message that may need more than this turn.  All of its state goes into
 * memory that outlives the turn.
 */
static enum vrd_mem_step vrd_mem_rc_sliced(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	struct vrd_mem_progress *p = b->mq->progress;
	enum vrd_mem_step step;
	uint8_t status;

	if (!p) {
		p = malloc(sizeof(*p));
		if (!p)
			return vrd_mem_wait_host(b);
		p->active = false;
		b->mq->progress = p;
	}
	p->wr = *wr;
	status = vrd_mem_check_local(b, &p->wr, &p->xfer);
	if (status)
		return vrd_mem_fail(b, status);
	if (!b->peer) {
		step = vrd_mem_lock_peer(b);
		if (!b->peer)
			return step;
	}
	step = vrd_mem_respond(b, &p->wr, &p->xfer, true);
	p->active = step == VRD_MEM_MORE;
	return step;
}

enum vrd_mem_step vrd_mem_rc_step(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	struct vrd_mem_progress *p = b->mq->progress;
	struct vrd_mem_xfer x;
	enum vrd_mem_step step;
	uint8_t status;

	if (p && p->active)
		return vrd_mem_rc_more(b, p);
	if (!wr->length_ok)
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_LEN_ERR);
	if (wr->length > b->slice && wr->length <= b->whole && !vrd_mem_next_slice(b))
		return VRD_MEM_MORE;
	if (vrd_mem_rc_quick(b, wr, &step))
		return step;
	if (wr->length > b->slice)
		return vrd_mem_rc_sliced(b, wr);

	status = vrd_mem_check_local(b, wr, &x);
	if (status)
		return vrd_mem_fail(b, status);
	if (!b->peer) {
		step = vrd_mem_lock_peer(b);
		if (!b->peer)
			return step;
	}
	return vrd_mem_respond(b, wr, &x, false);
}
