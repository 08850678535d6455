// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: a send queue's turn.  Work requests are taken from the guest's ring and
 * posted to the host in the same order, in chains, so that the host's doorbell is rung once
 * for many.  Also in ERR and SQE: the host then flushes them, in order.
 *
 * A request that cannot be posted to the host (a malformed entry) is replaced by a request
 * that fails when it is executed: its one SGE has a key of another protection domain.  So
 * its completion has its place in the order, and the host's QP goes to ERR by itself.
 *
 * Poller, with sq.lock held.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "ibv.h"
#include "log.h"

/* One call of ibv_post_send(); on the stack. */
struct chain {
	struct vrd_qp *qp;
	struct vrd_ibv_qp *vq;
	unsigned int num, num_sges;
	uint64_t send, write, read, atomic, tx, rx, drops;
	struct ibv_send_wr wr[VRD_IBV_CHAIN];
	struct ibv_sge sge[VRD_IBV_CHAIN_SGES];
	uint8_t inline_data[VRD_IBV_CHAIN][VRD_MAX_INLINE];
};

static const enum ibv_wr_opcode opcodes[] = {
	[VIRTIO_RDMA_WR_RDMA_WRITE] = IBV_WR_RDMA_WRITE,
	[VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM] = IBV_WR_RDMA_WRITE_WITH_IMM,
	[VIRTIO_RDMA_WR_SEND] = IBV_WR_SEND,
	[VIRTIO_RDMA_WR_SEND_WITH_IMM] = IBV_WR_SEND_WITH_IMM,
	[VIRTIO_RDMA_WR_RDMA_READ] = IBV_WR_RDMA_READ,
	[VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP] = IBV_WR_ATOMIC_CMP_AND_SWP,
	[VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD] = IBV_WR_ATOMIC_FETCH_AND_ADD,
};

/* ---- one request ------------------------------------------------------------- */

static void count(struct chain *c, const struct vrd_wr *wr)
{
	switch (wr->req.opcode) {
	case VIRTIO_RDMA_WR_RDMA_WRITE:
	case VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM:
		c->write++;
		c->tx += wr->req.length;
		break;
	case VIRTIO_RDMA_WR_RDMA_READ:
		c->read++;
		c->rx += wr->req.length;
		break;
	case VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP:
	case VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD:
		c->atomic++;
		break;
	default:
		c->send++;
		c->tx += wr->req.length;
	}
}

static void fill_inline(struct chain *c, struct ibv_send_wr *to, const struct vrd_wr *wr)
{
	struct ibv_sge *sge = &c->sge[c->num_sges];
	uint8_t *data = c->inline_data[c->num];

	to->sg_list = sge;
	to->num_sge = wr->req.length ? 1 : 0;
	if (c->vq->host_inline) {
		to->send_flags |= IBV_SEND_INLINE;
		sge->lkey = 0;
	} else if (c->vq->bounce) {
		/*
		 * The buffer is free: the guest has reused the entry, so its previous request
		 * is complete.
		 */
		data = c->vq->bounce + (wr->index & (c->qp->sq.entries - 1)) *
		       (size_t)c->qp->max_inline;
		sge->lkey = c->vq->bounce_mr->lkey;
	}
	memcpy(data, wr->inline_data, wr->req.length);
	sge->addr = (uintptr_t)data;
	sge->length = wr->req.length;
	c->num_sges += (unsigned int)to->num_sge;
}

static void fill_sges(struct chain *c, struct ibv_send_wr *to, const struct vrd_wr *wr)
{
	to->sg_list = &c->sge[c->num_sges];
	to->num_sge = wr->num_sge;
	for (unsigned int i = 0; i < wr->num_sge; i++)
		c->sge[c->num_sges++] = (struct ibv_sge){
			.addr = wr->sge[i].addr,
			.length = wr->sge[i].length,
			.lkey = wr->sge[i].lkey,
		};
}

static void fill_operation(struct ibv_send_wr *to, const struct vrd_wr *wr)
{
	to->imm_data = wr->req.imm;
	switch (wr->req.opcode) {
	case VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP:
		to->wr.atomic.compare_add = wr->req.compare;
		to->wr.atomic.swap = wr->req.swap_add;
		to->wr.atomic.remote_addr = wr->req.range.addr;
		to->wr.atomic.rkey = wr->req.range.lkey;
		break;
	case VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD:
		to->wr.atomic.compare_add = wr->req.swap_add;
		to->wr.atomic.remote_addr = wr->req.range.addr;
		to->wr.atomic.rkey = wr->req.range.lkey;
		break;
	default:
		to->wr.rdma.remote_addr = wr->req.range.addr;
		to->wr.rdma.rkey = wr->req.range.lkey;
	}
}

static unsigned int host_flags(uint16_t flags)
{
	return (flags & VIRTIO_RDMA_WQE_SIGNALED ? IBV_SEND_SIGNALED : 0) |
	       (flags & VIRTIO_RDMA_WQE_SOLICITED ? IBV_SEND_SOLICITED : 0) |
	       (flags & VIRTIO_RDMA_WQE_FENCE ? IBV_SEND_FENCE : 0);
}

/* Fills in a request that completes with @status in its place. */
static void fill_failing(struct chain *c, struct ibv_send_wr *to, uint32_t index, uint8_t status)
{
	struct ibv_sge *sge = &c->sge[c->num_sges++];

	/* Requests after the first failing one are flushed. */
	if (!c->vq->failing)
		c->vq->failing_status = status;
	c->vq->failing = true;
	*sge = (struct ibv_sge){
		.addr = (uintptr_t)c->vq->vdev->own_bytes,
		.length = sizeof(c->vq->vdev->own_bytes),
		.lkey = c->vq->vdev->own_mr->lkey,
	};
	to->wr_id = vrd_ibv_wr_id(VRD_IBV_FAILING, c->vq->generation, index);
	to->opcode = IBV_WR_SEND;
	to->send_flags = IBV_SEND_SIGNALED;
	if (c->qp->type == VIRTIO_RDMA_QPT_UD)
		to->wr.ud.ah = c->vq->vdev->own_ah;
	to->sg_list = sge;
	to->num_sge = 1;
}

/* ---- datagrams ------------------------------------------------------------------ */

enum step { STEP_ADDED, STEP_WAIT, STEP_FAIL };

/*
 * Releases handles of completed datagrams: at most @max of them, so that the turn stays
 * short.  @max is twice the number of entries that this turn uses, so that their handles are
 * always released.
 */
static void put_done_ahs(struct vrd_ibv_qp *vq, unsigned int max)
{
	uint32_t mask = vq->qp->sq.entries - 1;

	/* On a shared QP ah_done may be far behind: other datagrams took another path. */
	if (vq->sq_done - vq->ah_done > vq->qp->sq.entries)
		vq->ah_done = vq->sq_done - vq->qp->sq.entries;
	for (; max-- && vq->ah_done != vq->sq_done; vq->ah_done++) {
		struct vrd_ibv_ah **slot = &vq->slot_ah[vq->ah_done & mask];

		if (*slot)
			vrd_ibv_ah_put(vq->vdev, *slot);
		*slot = NULL;
	}
}

static enum step fill_ud(struct chain *c, struct ibv_send_wr *to, const struct vrd_wr *wr)
{
	struct vrd_ibv_ah **slot = &c->vq->slot_ah[wr->index & (c->qp->sq.entries - 1)];
	struct vrd_ibv_ah *ah;

	if (le32toh(wr->av.pd) != c->qp->pd->id || !vrd_gid_at(c->qp->dev, wr->av.sgid_index))
		return STEP_FAIL;
	ah = vrd_ibv_ah_get(c->vq, &wr->av);
	if (!ah)
		return STEP_WAIT;
	if (!ah->ibah) {
		vrd_ibv_ah_put(c->vq->vdev, ah);
		return STEP_FAIL;
	}
	/*
	 * The guest reuses the entry, so its previous datagram is complete even if it was
	 * unsignaled.
	 */
	if (*slot)
		vrd_ibv_ah_put(c->vq->vdev, *slot);
	*slot = ah;
	to->wr.ud.ah = ah->ibah;
	to->wr.ud.remote_qpn = le32toh(wr->av.dqpn);
	/* The top bit selects the QP's own Q_Key (IBTA 10.2.5), which the host's QP has. */
	to->wr.ud.remote_qkey = le32toh(wr->av.qkey);
	if (ah->state == VRD_IBV_AH_FAILED) {
		/*
		 * The destination is unreachable: send it to QP 0 of the port itself, which
		 * drops it.
		 */
		to->wr.ud.remote_qpn = 0;
		c->drops++;
	}
	return STEP_ADDED;
}

/* ---- the turn -------------------------------------------------------------------- */

static bool is_atomic(uint8_t opcode)
{
	return opcode == VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP ||
	       opcode == VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD;
}

/*
 * Requests that some hosts accept or refuse wrongly: a message longer than max_msg_sz
 * (Soft-RoCE sends it), and an atomic with an unaligned address, which the responder must
 * refuse (IBTA 9.4.5) but some libraries refuse when it is posted.
 */
static bool must_fail(const struct chain *c, const struct vrd_wr *wr, uint8_t *status)
{
	*status = VIRTIO_RDMA_WC_LOC_LEN_ERR;
	if (!wr->length_ok)
		return true;
	*status = VIRTIO_RDMA_WC_REM_INV_REQ_ERR;
	if (is_atomic(wr->req.opcode) && wr->req.range.addr & 7)
		return true;
	*status = VIRTIO_RDMA_WC_LOC_QP_OP_ERR;
	return c->vq->refused && c->vq->refused_index == wr->index;
}

/* Appends the request to the chain. */
static enum step add(struct chain *c, const struct vrd_wr *wr)
{
	struct ibv_send_wr *to = &c->wr[c->num];
	bool ud = c->qp->type == VIRTIO_RDMA_QPT_UD;
	enum step step = STEP_ADDED;
	uint8_t status;

	*to = (struct ibv_send_wr){
		.wr_id = vrd_ibv_wr_id(VRD_IBV_SEND, c->vq->generation, wr->index),
		.opcode = opcodes[wr->req.opcode],
		.send_flags = host_flags(wr->req.flags),
	};
	if (c->vq->shared && !(wr->req.flags & VIRTIO_RDMA_WQE_SIGNALED)) {
		to->wr_id = vrd_ibv_wr_id(VRD_IBV_QUIET, c->vq->generation, wr->index);
		to->send_flags |= IBV_SEND_SIGNALED;
	}
	if (must_fail(c, wr, &status)) {
		fill_failing(c, to, wr->index, status);
		c->num++;
		return STEP_ADDED;
	}
	if (ud) {
		step = fill_ud(c, to, wr);
		to->imm_data = wr->req.imm;
	} else {
		fill_operation(to, wr);
	}
	if (step == STEP_WAIT)
		return step;
	if (step == STEP_FAIL) {
		fill_failing(c, to, wr->index, VIRTIO_RDMA_WC_LOC_QP_OP_ERR);
	} else {
		if (wr->req.flags & VIRTIO_RDMA_WQE_INLINE)
			fill_inline(c, to, wr);
		else
			fill_sges(c, to, wr);
		count(c, wr);
	}
	c->num++;
	return STEP_ADDED;
}

static void count_all(struct chain *c)
{
	static const unsigned int stats[] = {
		VIRTIO_RDMA_STAT_SEND, VIRTIO_RDMA_STAT_WRITE, VIRTIO_RDMA_STAT_READ,
		VIRTIO_RDMA_STAT_ATOMIC, VIRTIO_RDMA_STAT_TX_BYTES, VIRTIO_RDMA_STAT_RX_BYTES,
		VIRTIO_RDMA_STAT_UD_DROPS,
	};
	const uint64_t values[] = { c->send, c->write, c->read, c->atomic, c->tx, c->rx, c->drops };

	for (unsigned int i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		if (values[i])
			vrd_stat_add(c->qp->dev, stats[i], values[i]);
	if (c->tx)
		atomic_fetch_add_explicit(&c->vq->vdev->tx_bytes, c->tx, memory_order_relaxed);
	if (c->rx)
		atomic_fetch_add_explicit(&c->vq->vdev->rx_bytes, c->rx, memory_order_relaxed);
}

/* The host refuses the request at sq.head permanently. */
static void refuse(struct chain *c, const struct ibv_send_wr *bad, int error)
{
	struct vrd_ibv_qp *vq = c->vq;

	vrd_dev_log(c->qp->dev, VRD_LOG_WARN, "QP %u: the host refuses a request: %s", c->qp->qpn,
		    strerror(error));
	vq->refused = true;
	vq->refused_index = c->qp->sq.head;
	/* The host refuses even a request that is to fail: it refuses all requests. */
	if (vrd_ibv_wr_kind(bad->wr_id) == VRD_IBV_FAILING) {
		vq->gone = true;
		vrd_qp_error(c->qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_SQ);
	}
}

/*
 * Posts the chain to the host.  Returns false if the host did not take all: sq.head was
 * moved back to the first request not taken, and the QP is scheduled, at once or when there
 * is room.
 */
static bool post(struct chain *c)
{
	struct ibv_send_wr *bad = NULL;
	unsigned int taken;
	int ret;

	if (!c->num)
		return true;
	for (unsigned int i = 0; i + 1 < c->num; i++)
		c->wr[i].next = &c->wr[i + 1];
	vrd_ibv_cq_expect(c->vq->send_vcq);
	ret = ibv_post_send(c->vq->ibqp, c->wr, &bad);
	count_all(c);
	taken = ret ? (unsigned int)(bad - c->wr) : c->num;
	if (taken)
		c->vq->sq_posted = (uint32_t)c->wr[taken - 1].wr_id + 1;
	if (!ret)
		return true;

	/* Each request of the chain is one entry of the ring. */
	c->qp->sq.head -= c->num - taken;
	if (ret != ENOMEM && ret != EAGAIN) {
		refuse(c, bad, ret);
		vrd_qp_schedule(c->qp);
		return false;
	}
	c->vq->blocked = true;
	vrd_timer_set(c->qp->poller, &c->vq->timer,
		      vrd_poller_now(c->qp->poller) + VRD_IBV_RETRY_NS);
	return false;
}

static void chain_begin(struct chain *c)
{
	c->num = c->num_sges = 0;
	c->send = c->write = c->read = c->atomic = c->tx = c->rx = c->drops = 0;
}

static enum vrd_run run(struct chain *c, unsigned int budget)
{
	enum vrd_run ret = VRD_RUN_MORE;
	struct vrd_qp *qp = c->qp;
	struct vrd_wr wr;

	while (budget-- && ret == VRD_RUN_MORE) {
		if (c->num == VRD_IBV_CHAIN ||
		    c->num_sges + VRD_MAX_SGE > VRD_IBV_CHAIN_SGES) {
			if (!post(c))
				return VRD_RUN_WAIT;
			chain_begin(c);
		}
		switch (vrd_sq_peek(qp, &wr)) {
		case VRD_FETCH_EMPTY:
			ret = VRD_RUN_IDLE;
			continue;
		case VRD_FETCH_OK:
			if (qp->send_path && !vrd_path_carries(qp, &wr)) {
				ret = VRD_RUN_IDLE;
				continue;
			}
			if (add(c, &wr) == STEP_WAIT) {
				ret = VRD_RUN_WAIT;
				continue;
			}
			break;
		default:
			/*
			 * A ring with an invalid producer index gets one failing request, and
			 * no more.
			 */
			if (qp->sq.broken && c->vq->broken_reported) {
				ret = VRD_RUN_IDLE;
				continue;
			}
			c->vq->broken_reported = qp->sq.broken;
			c->wr[c->num] = (struct ibv_send_wr){ .next = NULL };
			fill_failing(c, &c->wr[c->num], wr.index, VIRTIO_RDMA_WC_LOC_QP_OP_ERR);
			c->num++;
		}
		vrd_sq_advance(qp);
	}
	return post(c) ? ret : VRD_RUN_WAIT;
}

enum vrd_run vrd_ibv_sq_run(struct vrd_qp *qp, unsigned int budget)
{
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);
	struct chain c;

	if (vq->dead)
		return VRD_RUN_IDLE;
	if (vrd_device_suspended(qp->dev))
		return VRD_RUN_WAIT;
	if (atomic_load_explicit(&vq->rq_due, memory_order_relaxed))
		vrd_ibv_rq_run(qp);
	switch (qp->state) {
	case VIRTIO_RDMA_QPS_ERR:
		/* Whichever side found the error, the host's QP must flush all its requests now. */
		if (!atomic_load_explicit(&vq->flushing, memory_order_relaxed))
			vrd_ibv_worker_qp_error(vq);
		if (vq->gone)
			return vrd_sq_flush(qp, budget) ? VRD_RUN_MORE : VRD_RUN_IDLE;
		break;
	case VIRTIO_RDMA_QPS_RTS:
	case VIRTIO_RDMA_QPS_SQE:
		break;
	default:
		/* Before RTS, or drained: the send queue is not processed. */
		return VRD_RUN_WAIT;
	}
	c.qp = qp;
	c.vq = vq;
	chain_begin(&c);
	if (vq->slot_ah)
		put_done_ahs(vq, 2 * budget);
	vq->blocked = false;
	return run(&c, budget);
}
