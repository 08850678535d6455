// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The path of a queue pair: which of the device's transports carries its messages.
 *
 *   RC, UC   chosen when the QP goes to RTR: the first transport of dev->transports
 *            that reaches the peer's GID, else the last one.  It stays until RESET.
 *   UD       the same for each datagram, by its destination (datagrams, below).
 *   QP 1     has one transport.
 *
 * Before RTR the path is that of the first transport that has a part of the QP.  No messages
 * are carried then, but receives are flushed in ERR.  With one transport there is no choice,
 * and the only cost is the call of the path's operations.
 *
 * The two ends of a connection may choose different transports if a GID is added or deleted
 * between their changes to RTR.  Neither transport delivers to a QP that has the other path.
 *
 * Control thread under dev->lock, except for the datagrams (poller).
 */
#include <errno.h>

#include "path.h"
#include "trace.h"

/* Runs the statement that follows for each transport @t that has a part of @qp. */
#define for_each_part(t, qp) \
	for (const struct vrd_transport_ops *const *t = (qp)->dev->transports; *t; t++) \
		if ((qp)->priv[(*t)->slot])

static const struct vrd_path_ops *first_path(const struct vrd_qp *qp)
{
	for_each_part(t, qp)
		return (*t)->path;
	return NULL;
}

/* ---- datagrams ---------------------------------------------------------------------- */

/*
 * The send queue of a UD QP is used by one path at a time, qp->send_path.  The path's
 * sq_run() stops at a datagram that needs another path (vrd_path_carries()).  The path of
 * the queue changes when all earlier requests are complete, so that completions have the
 * order of the ring.
 *
 * Only the first path takes receives off the ring.  Datagrams that another transport
 * receives are delivered by vrd_path_deliver().
 */

static bool is_idle(struct vrd_qp *qp)
{
	bool idle = true;

	/* Call sq_idle() of all parts: in ERR this makes them flush. */
	for_each_part(t, qp)
		if ((*t)->path->sq_idle && !(*t)->path->sq_idle(qp))
			idle = false;
	return idle;
}

bool vrd_path_carries(struct vrd_qp *qp, const struct vrd_wr *wr)
{
	const struct vrd_path_ops *path = NULL;

	for_each_part(t, qp) {
		path = (*t)->path;
		if (!path->carries || path->carries(qp, wr))
			break;
	}
	if (path == qp->send_path)
		return true;
	qp->next_path = path;
	return false;
}

static enum vrd_run send_datagrams(struct vrd_qp *qp, unsigned int budget)
{
	enum vrd_run run = VRD_RUN_MORE;

	/* At most as many changes as there are paths; then other QPs run. */
	for_each_part(t, qp) {
		qp->next_path = NULL;
		run = qp->send_path->sq_run(qp, budget);
		if (!qp->next_path || qp->state != VIRTIO_RDMA_QPS_RTS)
			return run;
		if (!is_idle(qp))
			return VRD_RUN_WAIT;
		qp->send_path = qp->next_path;
		run = VRD_RUN_MORE;
	}
	return run;
}

static enum vrd_run datagrams_sq_run(struct vrd_qp *qp, unsigned int budget)
{
	if (vrd_device_suspended(qp->dev))
		return VRD_RUN_WAIT;
	if (qp->state == VIRTIO_RDMA_QPS_RTS)
		return send_datagrams(qp, budget);
	/* The first path drains or flushes the requests that the transports have not taken. */
	if (!is_idle(qp))
		return VRD_RUN_WAIT;
	return first_path(qp)->sq_run(qp, budget);
}

static void datagrams_rq_run(struct vrd_qp *qp)
{
	const struct vrd_path_ops *path = first_path(qp);

	if (path->rq_run)
		path->rq_run(qp);
}

static int modify_parts(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	int ret = 0;

	for_each_part(t, qp) {
		if (!ret && (*t)->path->modify)
			ret = (*t)->path->modify(qp, change);
	}
	return ret;
}

static void commit_parts(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	for_each_part(t, qp)
		if ((*t)->path->commit)
			(*t)->path->commit(qp, change);
}

static void datagrams_query(struct vrd_qp *qp, struct virtio_rdma_qp_attr *attr)
{
	for_each_part(t, qp)
		if ((*t)->path->query)
			(*t)->path->query(qp, attr);
	vrd_lock(&qp->sq.lock);
	attr->sq_draining = attr->state == VIRTIO_RDMA_QPS_SQD && !is_idle(qp);
	vrd_unlock(&qp->sq.lock);
}

static const struct vrd_path_ops datagrams = {
	.sq_run	= datagrams_sq_run,
	.rq_run	= datagrams_rq_run,
	.modify	= modify_parts,
	.commit	= commit_parts,
	.query	= datagrams_query,
};

void vrd_path_deliver(struct vrd_qp *qp, uint8_t *data, uint32_t length,
		      struct virtio_rdma_cqe *cqe)
{
	for_each_part(t, qp) {
		if (!(*t)->path->deliver)
			continue;
		(*t)->path->deliver(qp, data, length, cqe);
		return;
	}
}

/* ---- choice of the path --------------------------------------------------------------- */

/* Both ring locks are held, or no other thread can find the QP yet. */
static void set_path(struct vrd_qp *qp, const struct vrd_path_ops *path)
{
	/* The poller reads it for rq_run without a lock. */
	__atomic_store_n(&qp->path, path, __ATOMIC_RELAXED);
	qp->send_path = path == &datagrams ? first_path(qp) : NULL;
}

void vrd_path_init(struct vrd_qp *qp)
{
	set_path(qp, first_path(qp));
}

static const struct vrd_path_ops *choose(struct vrd_qp *qp, const uint8_t dgid[16])
{
	const struct vrd_path_ops *path = NULL;

	for_each_part(t, qp) {
		path = (*t)->path;
		if (!(*t)->reaches || (*t)->reaches(qp->dev, dgid))
			break;
	}
	return path;
}

static bool is_connected_now(const struct vrd_qp_change *change)
{
	return change->from == VIRTIO_RDMA_QPS_INIT && change->to == VIRTIO_RDMA_QPS_RTR;
}

void vrd_path_begin(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	if (!qp->dev->several || qp->type == VIRTIO_RDMA_QPT_GSI || !is_connected_now(change))
		return;
	set_path(qp, qp->type == VIRTIO_RDMA_QPT_UD ? &datagrams :
						      choose(qp, change->attr.av.dgid));
}

void vrd_path_cancel(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	if (is_connected_now(change))
		vrd_path_init(qp);
}

static bool concerns_all(const struct vrd_qp_change *change)
{
	return change->to == VIRTIO_RDMA_QPS_RESET || change->to == VIRTIO_RDMA_QPS_INIT;
}

int vrd_path_modify(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	if (concerns_all(change))
		return modify_parts(qp, change);
	return qp->path->modify ? qp->path->modify(qp, change) : 0;
}

static void count_connection(const struct vrd_qp *qp)
{
	for_each_part(t, qp) {
		if ((*t)->path != qp->path)
			continue;
		atomic_fetch_add_explicit(&qp->dev->connections[(*t)->slot], 1,
					  memory_order_relaxed);
		vrd_trace_qp_path(qp->dev->name, qp->qpn, (*t)->name);
	}
}

void vrd_path_commit(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	if (concerns_all(change))
		commit_parts(qp, change);
	else if (qp->path->commit)
		qp->path->commit(qp, change);
	if (change->to == VIRTIO_RDMA_QPS_RESET)
		vrd_path_init(qp);
	if (is_connected_now(change))
		count_connection(qp);
}
