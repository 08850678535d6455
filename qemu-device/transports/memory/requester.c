// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: a send queue's turn, and the requester of a connected QP (RC; UC where
 * it differs).
 *
 * A turn takes work requests from the ring in order, executes each and completes it.  A
 * request is executed entirely before it is completed, so completions are in order and the
 * fence flag needs no code.
 *
 * A request is checked on its own side first.  Then the peer is found and its receive side
 * locked; it stays locked for the burst.  The responder (core/responder.c) checks its side,
 * and the bytes are copied.  Runs on the QP's poller with sq.lock held, in an RCU read
 * section.
 */
#include <stdlib.h>

#include "memory.h"

/* ---- the peer ------------------------------------------------------------ */

/* True if @peer, whose rq.lock is held, answers requests on this path. */
static inline bool vrd_mem_answers(const struct vrd_qp *peer)
{
	/* A connection on another path does not answer on this one. */
	return vrd_resp_answers(peer) && peer->path == &vrd_mem_path && !vrd_mem_qp(peer)->dead;
}

/* True if @peer, whose rq.lock is held, is connected to @qp. */
static bool vrd_mem_is_connected(const struct vrd_qp *peer, const struct vrd_qp *qp)
{
	const struct vrd_mem_port *port = vrd_mem_port(qp->dev);

	return vrd_mem_answers(peer) && le32toh(peer->attr.dest_qpn) == qp->qpn &&
	       vrd_mem_port_by_gid(port->fabric, peer->attr.av.dgid) == port;
}

/* Finds the peer, locks it and checks that it is connected to this QP. */
static VRD_NOINLINE enum vrd_mem_step vrd_mem_find_peer(struct vrd_mem_burst *b, uint64_t generation)
{
	struct vrd_mem_qp *mq = b->mq;
	struct vrd_qp *qp = b->qp, *peer;

	mq->peer = NULL;
	/* The source GID must still be in this port's table. */
	if (!vrd_mem_sgid(mq->port, qp->attr.av.sgid_index))
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_QP_OP_ERR);
	peer = vrd_mem_find_qp(mq->port->fabric, qp->attr.av.dgid, le32toh(qp->attr.dest_qpn));
	if (!peer || peer->type != qp->type)
		return vrd_mem_wait_peer(b);
	if (vrd_device_suspended(peer->dev))
		return vrd_mem_wait_resume(b, peer->dev);
	vrd_lock(&peer->rq.lock);
	if (!vrd_mem_is_connected(peer, qp)) {
		vrd_unlock(&peer->rq.lock);
		return vrd_mem_wait_peer(b);
	}
	mq->peer = peer;
	mq->peer_generation = generation;
	vrd_mem_attach_peer(b, peer);
	vrd_resp_established(peer);
	return VRD_MEM_DONE;
}

/*
 * Sets and locks burst.resp.qp.  If there is no peer, leaves it NULL and returns the result
 * of the request: an unreliable request is DONE then.
 *
 * The peer is cached.  While the fabric's generation is unchanged, the cached QP was not
 * removed from the tables before this turn's RCU read section began, so it exists until the
 * end of the turn.  A thread that destroys the peer, or moves it to another state, and so
 * before it is connected to another QP or on another path, increments the generation under
 * the lock that is taken here.  Only errors change the state without that.
 */
static VRD_INLINE enum vrd_mem_step vrd_mem_lock_peer(struct vrd_mem_burst *b)
{
	struct vrd_mem_qp *mq = b->mq;
	struct vrd_mem_fabric *mf = mq->port->fabric;
	uint64_t generation = vrd_mem_generation(mf);
	struct vrd_qp *peer = mq->peer;

	if (!peer || mq->peer_generation != generation)
		return vrd_mem_find_peer(b, generation);
	if (vrd_unlikely(vrd_device_suspended(peer->dev)))
		return vrd_mem_wait_resume(b, peer->dev);
	vrd_lock(&peer->rq.lock);
	if (vrd_unlikely(!vrd_resp_answers(peer) || vrd_mem_generation(mf) != generation)) {
		vrd_unlock(&peer->rq.lock);
		return vrd_mem_find_peer(b, vrd_mem_generation(mf));
	}
	vrd_mem_attach_peer(b, peer);
	vrd_resp_established(peer);
	return VRD_MEM_DONE;
}

/* ---- the request --------------------------------------------------------- */

/* Translates the responder's result to the result of the request. */
static VRD_NOINLINE enum vrd_mem_step vrd_mem_answer(struct vrd_mem_burst *b, enum vrd_resp_result result)
{
	enum vrd_mem_step step;

	switch (result) {
	case VRD_RESP_OK:
		return VRD_MEM_DONE;
	case VRD_RESP_RNR:
		step = vrd_mem_wait_rnr(b);
		if (step == VRD_MEM_WAIT && b->resp.qp->srq)
			vrd_mem_srq_park(b->mq, b->resp.qp->srq);
		return step;
	case VRD_RESP_NO_MEMORY:
		return vrd_mem_wait_host(b);
	case VRD_RESP_INVALID:
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_REM_INV_REQ_ERR);
	case VRD_RESP_ACCESS:
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_REM_ACCESS_ERR);
	case VRD_RESP_OP_ERR:
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_REM_OP_ERR);
	default:
		/*
		 * The request was dropped.  The peer may have failed: it is checked again
		 * before its next use.
		 */
		vrd_mem_unlock_peer(b);
		return VRD_MEM_DONE;
	}
}

static VRD_NOINLINE enum vrd_mem_step vrd_mem_rc_atomic(struct vrd_mem_burst *b, const struct vrd_wr *wr,
					   struct vrd_sg *local, struct vrd_resp_message *msg)
{
	enum vrd_resp_result result;
	struct vrd_sg from;
	uint64_t old;

	result = vrd_resp_atomic(&b->resp, msg, &wr->req, &old);
	if (result)
		return vrd_mem_answer(b, result);
	vrd_sg_host(&from, &old, sizeof(old));
	if (vrd_sg_copy(local, &from, sizeof(old), true))
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_PROT_ERR);
	b->slice -= b->slice < sizeof(old) ? b->slice : sizeof(old);
	return VRD_MEM_DONE;
}

/* A region or page was removed after it was checked. */
static VRD_NOINLINE enum vrd_mem_step vrd_mem_copy_failed(struct vrd_mem_burst *b,
							  const struct vrd_wr *wr,
							  struct vrd_resp_message *msg,
							  enum vrd_sg_fault fault)
{
	if ((fault == VRD_SG_FAULT_DST) == (wr->req.opcode == VIRTIO_RDMA_WR_RDMA_READ))
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_PROT_ERR);
	return vrd_mem_answer(b, vrd_resp_fault(&b->resp, msg, &wr->req));
}

/* ---- messages of several turns --------------------------------------------- */

/* Copies the rest of the message, as far as the turn's slices allow. */
static enum vrd_mem_step vrd_mem_rc_slices(struct vrd_mem_burst *b, struct vrd_mem_progress *p)
{
	bool read = p->wr.req.opcode == VIRTIO_RDMA_WR_RDMA_READ;
	struct vrd_sg *dst = read ? &p->local : &p->msg.mem;
	struct vrd_sg *src = read ? &p->msg.mem : &p->local;
	enum vrd_resp_result result;
	enum vrd_sg_fault fault;
	uint64_t n;

	for (;;) {
		n = p->left < b->slice ? p->left : b->slice;
		fault = vrd_sg_copy(dst, src, n, n == p->left);
		if (fault)
			return vrd_mem_copy_failed(b, &p->wr, &p->msg, fault);
		p->left -= n;
		b->slice -= n;
		if (!p->left)
			break;
		if (!vrd_mem_next_slice(b))
			return VRD_MEM_MORE;
	}
	if (p->wr.req.opcode == VIRTIO_RDMA_WR_SEND_WITH_INV) {
		result = vrd_resp_invalidate(&b->resp, &p->msg, &p->wr.req, &p->inv_period);
		if (result == VRD_RESP_AGAIN)
			return VRD_MEM_MORE;
		if (result)
			return vrd_mem_answer(b, result);
	}
	vrd_resp_end(&b->resp, &p->msg, &p->wr.req);
	return VRD_MEM_DONE;
}

/* Continues a message that was started in an earlier turn. */
static VRD_NOINLINE enum vrd_mem_step vrd_mem_rc_more(struct vrd_mem_burst *b, struct vrd_mem_progress *p)
{
	enum vrd_mem_step step;

	if (!b->resp.qp) {
		step = vrd_mem_lock_peer(b);
		if (!b->resp.qp) {
			/* No peer: start the message again when there is one. */
			if (b->mq->req.wait != VRD_REQ_WAIT_OTHER)
				p->active = false;
			return step;
		}
	}
	if (!vrd_resp_resume(&b->resp, &p->msg)) {
		p->active = false;
		return VRD_MEM_MORE;
	}
	vrd_sg_forget(&p->local);
	step = vrd_mem_rc_slices(b, p);
	p->active = step == VRD_MEM_MORE;
	return step;
}

/*
 * A message that may need more than this turn.  All of its state is in memory that outlives
 * the turn.
 */
static enum vrd_mem_step vrd_mem_rc_sliced(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	struct vrd_mem_progress *p = b->mq->progress;
	enum vrd_resp_result result;
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
	status = vrd_req_local(b->qp, &p->wr, &p->local, true);
	if (status)
		return vrd_mem_fail(b, status);
	if (!b->resp.qp) {
		step = vrd_mem_lock_peer(b);
		if (!b->resp.qp)
			return step;
	}
	result = vrd_resp_begin(&b->resp, &p->msg, &p->wr.req, true);
	if (result)
		return vrd_mem_answer(b, result);
	p->left = p->wr.req.length;
	p->inv_period = 0;
	step = vrd_mem_rc_slices(b, p);
	p->active = step == VRD_MEM_MORE;
	return step;
}

/* ---- all requests ------------------------------------------------------------- */

/* A message that ends in this turn. */
static VRD_INLINE enum vrd_mem_step vrd_mem_rc_whole(struct vrd_mem_burst *b,
						     const struct vrd_wr *wr)
{
	struct vrd_resp_message msg;
	enum vrd_resp_result result;
	enum vrd_sg_fault fault;
	enum vrd_mem_step step;
	struct vrd_sg local;
	uint8_t status;

	status = vrd_req_local(b->qp, wr, &local, false);
	if (vrd_unlikely(status))
		return vrd_mem_fail(b, status);
	if (vrd_unlikely(!b->resp.qp)) {
		step = vrd_mem_lock_peer(b);
		if (!b->resp.qp)
			return step;
	}
	result = vrd_resp_begin(&b->resp, &msg, &wr->req, false);
	if (vrd_unlikely(result))
		return vrd_mem_answer(b, result);
	if (vrd_unlikely(vrd_wr_is(wr, VRD_OPS_ATOMIC)))
		return vrd_mem_rc_atomic(b, wr, &local, &msg);
	if (wr->req.opcode == VIRTIO_RDMA_WR_RDMA_READ)
		fault = vrd_sg_copy_whole(&local, &msg.mem, wr->req.length);
	else
		fault = vrd_sg_copy_whole(&msg.mem, &local, wr->req.length);
	if (vrd_unlikely(fault))
		return vrd_mem_copy_failed(b, wr, &msg, fault);
	b->slice -= wr->req.length;
	vrd_resp_end(&b->resp, &msg, &wr->req);
	return VRD_MEM_DONE;
}

/* Makes the rest of the slice as large as the QP's situation allows. */
static void vrd_mem_widen(struct vrd_mem_burst *b)
{
	if (!b->whole)
		b->slice += vrd_mem_whole_slice(b) - VRD_MEM_SLICE;
}

/* A message of VRD_LONG_BYTES or more, or longer than the rest of the slice. */
static VRD_NOINLINE enum vrd_mem_step vrd_mem_rc_long(struct vrd_mem_burst *b,
						      const struct vrd_wr *wr)
{
	if (!wr->length_ok)
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_LEN_ERR);
	if (wr->req.length >= VRD_LONG_BYTES)
		vrd_sq_long(b->qp, wr->req.length);
	vrd_mem_widen(b);
	if (wr->req.length > b->whole)
		return vrd_mem_rc_sliced(b, wr);
	if (wr->req.length > b->slice && !vrd_mem_next_slice(b))
		return VRD_MEM_MORE;
	return vrd_mem_rc_whole(b, wr);
}

/* SEND_WITH_INV: it may have to wait for other pollers, so its state outlives the turn. */
static enum vrd_mem_step vrd_mem_rc_send_inv(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	if (!wr->length_ok)
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_LEN_ERR);
	if (wr->req.length >= VRD_LONG_BYTES)
		vrd_sq_long(b->qp, wr->req.length);
	vrd_mem_widen(b);
	return vrd_mem_rc_sliced(b, wr);
}

/* LOCAL_INV and REG_MR.  The list of a REG_MR takes time as if it were copied. */
static enum vrd_mem_step vrd_mem_rc_local(struct vrd_mem_burst *b, const struct vrd_wr *wr)
{
	struct vrd_req *req = &b->mq->req;
	uint64_t cost = 0;
	uint8_t status;

	if (wr->req.opcode == VIRTIO_RDMA_WR_REG_MR)
		cost = (uint64_t)wr->reg.num_entries * VRD_MEM_ENTRY_COST;
	b->slice -= cost < b->slice ? cost : b->slice;
	if (!vrd_req_run_local(req, wr, &status))
		return req->wait == VRD_REQ_WAIT_MEMORY ? VRD_MEM_WAIT : VRD_MEM_MORE;
	return status ? vrd_mem_fail(b, status) : VRD_MEM_DONE;
}

/* What vrd_sq_fetch() does not report as OK: operations without a fast path, or BAD. */
static VRD_NOINLINE enum vrd_mem_step vrd_mem_rc_special(struct vrd_mem_burst *b,
							 const struct vrd_wr *wr,
							 enum vrd_fetch fetch)
{
	if (fetch != VRD_FETCH_SPECIAL)
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_QP_OP_ERR);
	if (wr->req.opcode == VIRTIO_RDMA_WR_SEND_WITH_INV)
		return vrd_mem_rc_send_inv(b, wr);
	return vrd_mem_rc_local(b, wr);
}

static VRD_INLINE enum vrd_run vrd_mem_rc_run(struct vrd_mem_burst *b, unsigned int budget)
{
	struct vrd_mem_progress *p = b->mq->progress;
	enum vrd_mem_step step;
	enum vrd_run run;

	if (vrd_unlikely(p && p->active)) {
		step = vrd_mem_rc_more(b, p);
		if (step != VRD_MEM_DONE)
			return vrd_mem_stop(b, &p->wr, step);
		run = vrd_mem_complete(b, &p->wr);
		if (run != VRD_RUN_IDLE)
			return run;
		budget--;
	}
	while (budget--) {
		const struct vrd_wr *wr = &b->wr;
		enum vrd_fetch fetch = vrd_sq_fetch(b->qp, &b->wr);

		if (fetch == VRD_FETCH_EMPTY)
			return VRD_RUN_IDLE;
		if (vrd_unlikely(fetch != VRD_FETCH_OK))
			step = vrd_mem_rc_special(b, wr, fetch);
		else if (vrd_unlikely(!wr->length_ok || wr->req.length >= VRD_LONG_BYTES ||
				      wr->req.length > b->slice))
			step = vrd_mem_rc_long(b, wr);
		else
			step = vrd_mem_rc_whole(b, wr);
		if (vrd_unlikely(step != VRD_MEM_DONE))
			return vrd_mem_stop(b, wr, step);
		run = vrd_mem_complete(b, wr);
		if (vrd_unlikely(run != VRD_RUN_IDLE))
			return run;
	}
	return vrd_sq_has_more(b->qp) ? VRD_RUN_MORE : VRD_RUN_IDLE;
}

/* ---- the turn ------------------------------------------------------------------ */

static inline void vrd_mem_count(struct vrd_mem_burst *b)
{
	if (vrd_likely(b->writes))
		vrd_count(b->count, VIRTIO_RDMA_STAT_WRITE, b->writes);
	if (b->sends)
		vrd_count(b->count, VIRTIO_RDMA_STAT_SEND, b->sends);
	if (vrd_likely(b->sent))
		vrd_count(b->count, VIRTIO_RDMA_STAT_TX_BYTES, b->sent);
}

enum vrd_run vrd_mem_sq_run(struct vrd_qp *qp, unsigned int budget)
{
	struct vrd_mem_qp *mq = vrd_mem_qp(qp);
	struct vrd_mem_burst b;
	enum vrd_run ret;

	if (vrd_unlikely(mq->dead))
		return VRD_RUN_IDLE;
	if (vrd_unlikely(vrd_device_suspended(qp->dev)))
		return VRD_RUN_WAIT;
	if (vrd_unlikely(qp->state != VIRTIO_RDMA_QPS_RTS)) {
		if (qp->state == VIRTIO_RDMA_QPS_SQE || qp->state == VIRTIO_RDMA_QPS_ERR)
			return vrd_mem_flush(qp, budget);
		/* Before RTS the send queue is not processed; MODIFY_QP schedules the QP at RTS. */
		if (qp->state != VIRTIO_RDMA_QPS_SQD || vrd_mem_drained(qp))
			return VRD_RUN_WAIT;
		budget = 1;
	}

	/* The large buffers are not initialised: they are written before they are read. */
	b.qp = qp;
	b.mq = mq;
	b.count = qp->count;
	b.whole = 0;
	b.slice = VRD_MEM_SLICE;
	b.resp.qp = NULL;
	b.sent = 0;
	b.writes = b.sends = 0;
	ret = vrd_mem_is_datagram(qp) ? vrd_mem_ud_run(&b, budget) : vrd_mem_rc_run(&b, budget);
	vrd_mem_moved(&b);
	vrd_mem_unlock_peer(&b);
	vrd_mem_count(&b);
	if (vrd_unlikely(qp->state == VIRTIO_RDMA_QPS_SQD) && vrd_mem_drained(qp))
		ret = VRD_RUN_WAIT;
	return ret;
}
