// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands for queue pairs.  Control thread, under dev->lock.  The rules of MODIFY_QP are in
 * qp_rules.c, errors of a running QP in qp.c.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "end.h"
#include "event.h"
#include "poller.h"
#include "qp_rules.h"
#include "trace.h"

#define SQ_STRIDE	64U			/* size of the smallest entries */
#define RQ_STRIDE	32U
#define SQ_MAX_SHIFT	6			/* entries of up to a page */
#define RQ_MAX_SHIFT	7

/* A request in CPU byte order, with its objects. */
struct create {
	const struct virtio_rdma_create_qp_req *req;
	struct vrd_ctx *ctx;
	struct vrd_pd *pd;
	struct vrd_cq *send_cq, *recv_cq;
	struct vrd_srq *srq;		/* or NULL */
	uint32_t sq_entries, rq_entries, max_send_sge, max_recv_sge, max_inline;
	uint32_t sq_offset, rq_offset, sq_ctrl, rq_ctrl;
	uint64_t size;			/* of the used part of the buffer */
};

static int check_type(struct vrd_device *dev, const struct create *c)
{
	switch (c->req->qp_type) {
	case VIRTIO_RDMA_QPT_UC:
		if (!vrd_device_has(dev, VIRTIO_RDMA_F_UC))
			return -EOPNOTSUPP;
		/* fall through */
	case VIRTIO_RDMA_QPT_RC:
	case VIRTIO_RDMA_QPT_UD:
		/* Kernel users address memory by the DMA key, which QP 1 always has. */
		if (c->ctx->kernel && !vrd_device_has(dev, VIRTIO_RDMA_F_DMA_KEY))
			return -EOPNOTSUPP;
		return 0;
	case VIRTIO_RDMA_QPT_GSI:
		/* QP 1 acts on behalf of the port, so a user process must not have it. */
		return c->ctx->kernel ? 0 : -EPERM;
	default:
		return -EOPNOTSUPP;
	}
}

static int find_objects(struct vrd_device *dev, struct create *c)
{
	c->ctx = vrd_table_find(&dev->ctxs, le32toh(c->req->ctx));
	c->pd = vrd_table_find(&dev->pds, le32toh(c->req->pd));
	c->send_cq = vrd_table_find(&dev->cqs, le32toh(c->req->send_cqn));
	c->recv_cq = vrd_table_find(&dev->cqs, le32toh(c->req->recv_cqn));
	if (!c->ctx || !c->pd || !c->send_cq || !c->recv_cq)
		return -ENOENT;
	if (c->pd->ctx != c->ctx || c->send_cq->ctx != c->ctx || c->recv_cq->ctx != c->ctx)
		return -EINVAL;
	if (le32toh(c->req->srqn) == VIRTIO_RDMA_NONE)
		return 0;
	if (!vrd_device_has(dev, VIRTIO_RDMA_F_SRQ))
		return -EOPNOTSUPP;
	c->srq = vrd_table_find(&dev->srqs, le32toh(c->req->srqn));
	if (!c->srq)
		return -ENOENT;
	/* A special QP has a receive queue of its own (IBTA: Get Special QP). */
	if (c->srq->ctx != c->ctx || c->rq_entries || c->req->qp_type == VIRTIO_RDMA_QPT_GSI)
		return -EINVAL;
	return 0;
}

static bool is_datagram(uint8_t type)
{
	return type == VIRTIO_RDMA_QPT_UD || type == VIRTIO_RDMA_QPT_GSI;
}

/* Checks the sizes of entries and the number of entries. */
static int check_sizes(struct vrd_device *dev, const struct create *c)
{
	const struct vrd_limits *l = &dev->limits;
	uint64_t max_wr = vrd_round_up_power_of_two(l->max_qp_wr);
	uint32_t head = is_datagram(c->req->qp_type) ? sizeof(struct virtio_rdma_ud_wqe) :
						       sizeof(struct virtio_rdma_rc_wqe);
	uint32_t stride, data;

	if (c->req->sq_stride_shift > SQ_MAX_SHIFT || c->req->rq_stride_shift > RQ_MAX_SHIFT ||
	    c->max_send_sge > l->max_sge || c->max_recv_sge > l->max_sge ||
	    c->max_inline > l->max_inline)
		return -EINVAL;
	if (c->sq_entries) {
		stride = SQ_STRIDE << c->req->sq_stride_shift;
		data = c->max_send_sge * (uint32_t)sizeof(struct virtio_rdma_sge);
		if (data < c->max_inline)
			data = c->max_inline;
		/* the data of a datagram begin in its second line, whether there are data or not */
		if (!vrd_is_power_of_two(c->sq_entries) || c->sq_entries > max_wr ||
		    head + data > stride || head == stride)
			return -EINVAL;
	}
	if (c->rq_entries) {
		stride = RQ_STRIDE << c->req->rq_stride_shift;
		data = c->max_recv_sge * (uint32_t)sizeof(struct virtio_rdma_sge);
		if (!vrd_is_power_of_two(c->rq_entries) || c->rq_entries > max_wr ||
		    sizeof(struct virtio_rdma_recv_wqe) + data > stride)
			return -EINVAL;
	}
	return 0;
}

static int check_layout(struct create *c)
{
	const uint32_t page = VIRTIO_RDMA_PAGE_SIZE - 1, ctrl = sizeof(struct virtio_rdma_ring_ctrl);
	struct vrd_span span[4];
	unsigned int n = 0;

	if (c->sq_entries) {
		if (c->sq_offset & page || c->sq_ctrl & (ctrl - 1))
			return -EINVAL;
		span[n++] = (struct vrd_span) {
			c->sq_offset, (uint64_t)c->sq_entries * (SQ_STRIDE << c->req->sq_stride_shift)
		};
		span[n++] = (struct vrd_span) { c->sq_ctrl, ctrl };
	}
	if (c->rq_entries) {
		if (c->rq_offset & page || c->rq_ctrl & (ctrl - 1))
			return -EINVAL;
		span[n++] = (struct vrd_span) {
			c->rq_offset, (uint64_t)c->rq_entries * (RQ_STRIDE << c->req->rq_stride_shift)
		};
		span[n++] = (struct vrd_span) { c->rq_ctrl, ctrl };
	} else if (c->rq_ctrl) {
		return -EINVAL;
	}
	/* A buffer without rings would not be used. */
	if (!n && c->req->buf.handle)
		return -EINVAL;
	return vrd_spans_check(span, n, &c->size);
}

static int parse_create(struct vrd_device *dev, const struct virtio_rdma_create_qp_req *req,
			struct create *c)
{
	int ret;

	*c = (struct create) {
		.req = req,
		.sq_entries = le32toh(req->sq_entries),
		.rq_entries = le32toh(req->rq_entries),
		.max_send_sge = le32toh(req->max_send_sge),
		.max_recv_sge = le32toh(req->max_recv_sge),
		.max_inline = le32toh(req->max_inline),
		.sq_offset = le32toh(req->sq_offset),
		.rq_offset = le32toh(req->rq_offset),
		.sq_ctrl = le32toh(req->sq_ctrl_offset),
		.rq_ctrl = le32toh(req->rq_ctrl_offset),
	};
	if (req->reserved0)
		return -EINVAL;
	if (req->xrcd)		/* VIRTIO_RDMA_F_XRC */
		return -EOPNOTSUPP;
	ret = find_objects(dev, c);
	if (!ret)
		ret = check_type(dev, c);
	if (!ret)
		ret = check_sizes(dev, c);
	if (!ret)
		ret = check_layout(c);
	return ret;
}

static struct vrd_qp *qp_new(struct vrd_device *dev, const struct create *c)
{
	struct vrd_qp *qp = calloc(1, sizeof(*qp));

	if (!qp)
		return NULL;
	qp->dev = dev;
	qp->type = c->req->qp_type;
	qp->kernel = c->ctx->kernel;
	qp->ctx = c->ctx;
	qp->pd = c->pd;
	qp->send_cq = c->send_cq;
	qp->recv_cq = c->recv_cq;
	qp->srq = c->srq;
	qp->max_send_sge = c->max_send_sge;
	qp->max_recv_sge = c->max_recv_sge;
	qp->max_inline = c->max_inline;
	qp->max_msg_sz = dev->max_msg_sz;
	qp->state = VIRTIO_RDMA_QPS_RESET;
	vrd_qp_init(qp);

	qp->sq.entries = c->sq_entries;
	qp->sq.stride_shift = 6U + c->req->sq_stride_shift;
	qp->sq.offset = c->sq_offset;
	qp->sq.ctrl_offset = c->sq_ctrl;
	qp->sq.slot = VIRTIO_RDMA_NONE;
	qp->rq.entries = c->rq_entries;
	qp->rq.stride_shift = 5U + c->req->rq_stride_shift;
	qp->rq.offset = c->rq_offset;
	qp->rq.ctrl_offset = c->rq_ctrl;
	qp->rq.slot = VIRTIO_RDMA_NONE;
	return qp;
}

/* ---- destruction of a QP ------------------------------------------------- */

/* Runs on a worker or under dev->lock; so does qp_release(). */
static void qp_retire(struct vrd_end *end)
{
	struct vrd_qp *qp = vrd_end_of(end, vrd_qp, end);

	vrd_transports_qp_destroy(qp);
}

static void qp_release(struct vrd_end *end)
{
	struct vrd_qp *qp = vrd_end_of(end, vrd_qp, end);

	vrd_transports_qp_free(qp);
}

static void qp_unuse_parents(struct vrd_qp *qp)
{
	struct vrd_device *dev = qp->dev;

	vrd_end_unuse(dev, &qp->send_cq->end, &qp->send_cq->users);
	vrd_end_unuse(dev, &qp->recv_cq->end, &qp->recv_cq->users);
	if (qp->srq)
		vrd_end_unuse(dev, &qp->srq->end, &qp->srq->users);
	vrd_end_unuse(dev, &qp->pd->end, &qp->pd->users);
	vrd_end_unuse(dev, &qp->ctx->end, &qp->ctx->users);
}

static void qp_free(struct vrd_end *end)
{
	struct vrd_qp *qp = vrd_end_of(end, vrd_qp, end);
	struct vrd_device *dev = qp->dev;

	/* Not before: until the release a thread of the transport may have raised an event. */
	if (qp->numbered) {
		vrd_event_forget_qp(dev, qp->qpn);
		vrd_table_release(&dev->qps, qp->qpn);
	}
	vrd_buf_destroy(dev, &qp->buf);
	qp_unuse_parents(qp);
	free(qp);
}

static void qp_set_end(struct vrd_qp *qp)
{
	qp->end = (struct vrd_end){
		.retire = qp_retire, .grace = true, .release = qp_release, .free = qp_free,
	};
}

/* ---- creation ------------------------------------------------------------ */

/* Claims the number that the core chooses, or that a transport has chosen. */
static int qp_number(struct vrd_qp *qp)
{
	int ret = vrd_transports_qp_number(qp);

	qp->numbered = !ret;
	return ret;
}

static int qp_create_slow(struct vrd_cmd *cmd)
{
	return vrd_transports_qp_create(cmd->obj);
}

static void qp_translate(struct vrd_qp *qp)
{
	vrd_buf_translate(qp->dev, &qp->buf);
	if (qp->sq.entries)
		qp->sq.ctrl = vrd_buf_at(&qp->buf, qp->sq.ctrl_offset);
	if (qp->rq.entries)
		qp->rq.ctrl = vrd_buf_at(&qp->buf, qp->rq.ctrl_offset);
}

static int qp_created(struct vrd_cmd *cmd, int ret)
{
	struct virtio_rdma_create_qp_rsp *rsp = cmd->rsp;
	struct vrd_device *dev = cmd->dev;
	struct vrd_qp *qp = cmd->obj;

	if (ret) {
		qp_free(&qp->end);
		return ret;
	}
	qp_set_end(qp);
	if (!qp->numbered) {
		ret = qp_number(qp);
		if (ret == -EEXIST && dev->ends.num) {
			/* The QP that used the number before has not been freed yet. */
			vrd_cmd_wait(cmd, qp_created);
			vrd_cmd_complete(cmd, 0);
			return VRD_CMD_PENDING;
		}
	}
	if (cmd->cancelled || ret)
		return vrd_end_for(cmd, &qp->end, 0, false, ret);
	if (cmd->generation != dev->mem_generation && qp->buf.num_pages)
		qp_translate(qp);
	ret = vrd_poller_qp_attach(qp);
	if (ret)
		return vrd_end_for(cmd, &qp->end, 0, false, ret);
	vrd_buf_keep(dev, &qp->buf);
	vrd_table_publish(&dev->qps, qp->qpn, qp);
	vrd_trace_qp_state(dev->name, qp->qpn, VIRTIO_RDMA_QPS_RESET, VIRTIO_RDMA_QPS_RESET);
	rsp->qpn = htole32(qp->qpn);
	rsp->sq_slot = htole32(qp->sq.entries ? qp->sq.slot : VIRTIO_RDMA_NONE);
	rsp->rq_slot = htole32(qp->rq.slot);
	return 0;
}

int vrd_cmd_create_qp(struct vrd_cmd *cmd)
{
	struct vrd_device *dev = cmd->dev;
	struct create c;
	struct vrd_qp *qp;
	int ret;

	ret = parse_create(dev, cmd->req, &c);
	if (ret)
		return ret;
	/*
	 * A transport may choose the number later, so vrd_table_claim() cannot check the limit
	 * here.
	 */
	if (dev->qps.count >= dev->limits.max_qp)
		return -ENOMEM;
	qp = qp_new(dev, &c);
	if (!qp)
		return -ENOMEM;
	if (c.size) {
		ret = vrd_buf_create(c.ctx, &qp->buf, &c.req->buf, &cmd->extents, c.size);
		if (ret)
			goto free;
	}
	if (c.sq_entries)
		qp->sq.ctrl = vrd_buf_at(&qp->buf, c.sq_ctrl);
	if (c.rq_entries)
		qp->rq.ctrl = vrd_buf_at(&qp->buf, c.rq_ctrl);
	/* If a transport chooses the number: see qp_created(). */
	if (!dev->owner || qp->type == VIRTIO_RDMA_QPT_GSI) {
		ret = qp_number(qp);
		if (ret)
			goto free_buf;
	}

	c.ctx->users++;
	c.pd->users++;
	c.send_cq->users++;
	c.recv_cq->users++;
	if (c.srq)
		c.srq->users++;
	cmd->obj = qp;
	cmd->generation = dev->mem_generation;
	return vrd_cmd_run(cmd, qp_create_slow, qp_created, false);
free_buf:
	vrd_buf_destroy(dev, &qp->buf);
free:
	free(qp);
	return ret;
}

/* ---- modify and query -------------------------------------------------- */

static void lock_rings(struct vrd_qp *qp)
{
	vrd_lock(&qp->sq.lock);
	vrd_lock(&qp->rq.lock);
}

static void unlock_rings(struct vrd_qp *qp)
{
	vrd_unlock(&qp->rq.lock);
	vrd_unlock(&qp->sq.lock);
}

/* Fills change->from and change->to; the ring locks are held. */
static int qp_modify_check(struct vrd_qp *qp, struct vrd_qp_change *change)
{
	struct vrd_caps caps = vrd_device_caps(qp->dev);
	const struct virtio_rdma_qp_attr *attr = &change->attr;
	int ret;

	change->from = qp->state;
	change->to = change->mask & VIRTIO_RDMA_QP_STATE ? attr->state : qp->state;
	if ((change->mask & VIRTIO_RDMA_QP_CUR_STATE) && attr->cur_state != qp->state)
		return -EINVAL;
	ret = vrd_qp_check_transition(qp->type, change->from, change->to, change->mask);
	return ret ? ret : vrd_qp_check_attr(qp->dev, &caps, attr, change->mask);
}

/*
 * The first step: checks the change and chooses the path.  RESET takes effect now, so that
 * no poller posts anything while the transports reset their parts.
 */
static int qp_modify_begin(struct vrd_qp *qp, struct vrd_qp_change *change)
{
	int ret;

	lock_rings(qp);
	ret = qp_modify_check(qp, change);
	if (!ret && change->to == VIRTIO_RDMA_QPS_RESET) {
		vrd_path_commit(qp, change);
		qp->attr = (struct virtio_rdma_qp_attr) { 0 };
		vrd_qp_reset_rings(qp);
		qp->state = VIRTIO_RDMA_QPS_RESET;
	} else if (!ret) {
		vrd_path_begin(qp, change);
	}
	unlock_rings(qp);
	return ret;
}

/* The last step; @ret is the result of vrd_path_modify().  change->to is set to the new state. */
static void qp_modify_end(struct vrd_qp *qp, struct vrd_qp_change *change, int ret)
{
	if (change->to == VIRTIO_RDMA_QPS_RESET)
		return;
	lock_rings(qp);
	if (ret) {
		vrd_path_cancel(qp, change);
	} else {
		vrd_path_commit(qp, change);
		vrd_qp_merge_attr(&qp->attr, &change->attr, change->mask);
		/* Keep the state of an error that occurred since the first step. */
		if (qp->state == change->from || change->to == VIRTIO_RDMA_QPS_ERR)
			qp->state = change->to;
		change->to = qp->state;
	}
	unlock_rings(qp);
}

/*
 * If this calls the host's RDMA stack, it runs on a worker without locks: the call may have
 * to resolve a neighbour.
 */
static int qp_modify_slow(struct vrd_cmd *cmd)
{
	return vrd_path_modify(cmd->obj, &cmd->change);
}

static int qp_modified(struct vrd_cmd *cmd, int ret)
{
	struct vrd_qp_change *change = &cmd->change;
	struct vrd_device *dev = cmd->dev;
	struct vrd_qp *qp = cmd->obj;

	/*
	 * After a reset the QP is not in the table any more, and only this command has a
	 * reference.
	 */
	if (cmd->cancelled)
		goto unuse;
	qp_modify_end(qp, change, ret);
	if (ret)
		goto unuse;
	vrd_trace_qp_state(dev->name, qp->qpn, change->from, change->to);
	vrd_dev_log(dev, VRD_LOG_DEBUG, "QP %u: state %u to %u", qp->qpn, change->from, change->to);
	if (change->to == VIRTIO_RDMA_QPS_RESET)
		vrd_event_forget_qp(dev, qp->qpn);
	/* Flush, drain, or check for requests that were posted before RTS. */
	vrd_qp_schedule(qp);
unuse:
	vrd_end_unuse(dev, &qp->end, &qp->users);
	return ret;
}

/* Copies the GID: the guest may change its table during the host's call. */
static void find_sgid(struct vrd_qp *qp, const struct virtio_rdma_qp_attr *attr)
{
	const uint8_t *sgid = vrd_gid_at(qp->dev, attr->av.sgid_index);

	qp->has_sgid = sgid;
	if (sgid)
		memcpy(qp->sgid, sgid, sizeof(qp->sgid));
}

int vrd_cmd_modify_qp(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_modify_qp_req *req = cmd->req;
	struct vrd_qp *qp;
	int ret;

	qp = vrd_table_find(&cmd->dev->qps, le32toh(req->qpn));
	if (!qp)
		return -ENOENT;
	cmd->change = (struct vrd_qp_change){ .mask = le32toh(req->mask), .attr = req->attr };
	ret = qp_modify_begin(qp, &cmd->change);
	if (ret)
		return ret;
	if (cmd->change.mask & VIRTIO_RDMA_QP_AV)
		find_sgid(qp, &req->attr);
	qp->users++;
	cmd->obj = qp;
	return vrd_cmd_run(cmd, qp_modify_slow, qp_modified, cmd->change.mask & VIRTIO_RDMA_QP_AV);
}

static int qp_query_slow(struct vrd_cmd *cmd)
{
	struct virtio_rdma_query_qp_rsp *rsp = cmd->rsp;
	struct vrd_qp *qp = cmd->obj;

	lock_rings(qp);
	rsp->attr = qp->attr;
	rsp->attr.state = qp->state;
	rsp->attr.cur_state = qp->state;
	unlock_rings(qp);
	if (qp->path->query)
		qp->path->query(qp, &rsp->attr);
	return 0;
}

static int qp_queried(struct vrd_cmd *cmd, int ret)
{
	struct vrd_qp *qp = cmd->obj;

	vrd_end_unuse(cmd->dev, &qp->end, &qp->users);
	return ret;
}

int vrd_cmd_query_qp(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_query_qp_req *req = cmd->req;
	struct vrd_qp *qp;

	if (req->reserved)
		return -EINVAL;
	qp = vrd_table_find(&cmd->dev->qps, le32toh(req->qpn));
	if (!qp)
		return -ENOENT;
	qp->users++;
	cmd->obj = qp;
	return vrd_cmd_run(cmd, qp_query_slow, qp_queried, false);
}

/* ---- destroy ----------------------------------------------------------- */

/* Lookups do not find the QP any more.  Pollers that found it may use it until their turn ends. */
static void qp_take_out(struct vrd_qp *qp)
{
	vrd_table_unpublish(&qp->dev->qps, qp->qpn);
	qp_set_end(qp);
}

int vrd_cmd_destroy_qp(struct vrd_cmd *cmd)
{
	const struct virtio_rdma_destroy_req *req = cmd->req;
	struct vrd_device *dev = cmd->dev;
	struct vrd_qp *qp;

	if (req->reserved)
		return -EINVAL;
	qp = vrd_table_find(&dev->qps, le32toh(req->handle));
	if (!qp)
		return -ENOENT;
	qp_take_out(qp);
	vrd_poller_qp_detach(qp);
	return vrd_end_for(cmd, &qp->end, 0, false, 0);
}

void vrd_qp_destroy_all(struct vrd_device *dev)
{
	struct vrd_end_list list = TAILQ_HEAD_INITIALIZER(list);
	struct vrd_qp *qp;
	uint32_t pos;

	for (pos = 0; (qp = vrd_table_next(&dev->qps, &pos));) {
		qp_take_out(qp);
		vrd_poller_qp_ignore(qp);
		vrd_end_gather(&list, &qp->end, &qp->users);
	}
	vrd_end_gathered(dev, &list, false);
}
