// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Resource tracking: fields of objects that "rdma resource show" prints in addition
 * to the core's.  Called by the core, which holds the object.
 *
 * Indices are shown for kernel rings only: rings of processes are not mapped in
 * the kernel.
 */
#include <net/netlink.h>
#include <rdma/rdma_netlink.h>
#include <rdma/restrack.h>
#include <uapi/rdma/rdma_netlink.h>

#include "vrdma.h"

static struct nlattr *vrdma_res_start(struct sk_buff *msg)
{
	return nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);
}

static int vrdma_res_end(struct sk_buff *msg, struct nlattr *nest, int ret)
{
	if (ret) {
		nla_nest_cancel(msg, nest);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, nest);
	return 0;
}

int vrdma_fill_res_mr(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct vrdma_mr *mr = to_vrdma_mr(ibmr);
	struct nlattr *nest = vrdma_res_start(msg);
	int ret;

	if (!nest)
		return -EMSGSIZE;
	ret = rdma_nl_put_driver_u32_hex(msg, "handle", mr->handle);
	if (!ret && mr->buf)
		ret = rdma_nl_put_driver_u32(msg, "extents",
					     mr->buf->umem->sgt_append.sgt.nents);
	return vrdma_res_end(msg, nest, ret);
}

int vrdma_fill_res_cq(struct sk_buff *msg, struct ib_cq *ibcq)
{
	struct vrdma_cq *cq = to_vrdma_cq(ibcq);
	struct nlattr *nest = vrdma_res_start(msg);
	int ret;

	if (!nest)
		return -EMSGSIZE;
	ret = rdma_nl_put_driver_u32(msg, "device_cqn", cq->cqn);
	if (!ret)
		ret = rdma_nl_put_driver_u32(msg, "entries", cq->entries);
	if (!ret && !cq->user) {
		ret = rdma_nl_put_driver_u32(msg, "consumer",
					     READ_ONCE(cq->consumer));
		if (!ret)
			ret = rdma_nl_put_driver_u32_hex(msg, "arm",
							 READ_ONCE(cq->arm));
	}
	return vrdma_res_end(msg, nest, ret);
}

static int vrdma_fill_ring(struct sk_buff *msg, const struct vrdma_ring *ring,
			   const char *entries, const char *head,
			   const char *tail, bool indices)
{
	int ret;

	ret = rdma_nl_put_driver_u32(msg, entries, ring->entries);
	if (!ret && indices)
		ret = rdma_nl_put_driver_u32(msg, head, READ_ONCE(ring->head));
	if (!ret && indices)
		ret = rdma_nl_put_driver_u32(msg, tail, READ_ONCE(ring->tail));
	return ret;
}

int vrdma_fill_res_srq(struct sk_buff *msg, struct ib_srq *ibsrq)
{
	struct vrdma_srq *srq = to_vrdma_srq(ibsrq);
	struct nlattr *nest = vrdma_res_start(msg);
	int ret;

	if (!nest)
		return -EMSGSIZE;
	ret = rdma_nl_put_driver_u32(msg, "device_srqn", srq->srqn);
	if (!ret)
		ret = rdma_nl_put_driver_u32(msg, "entries", srq->max_wr);
	if (!ret && !srq->user)
		ret = rdma_nl_put_driver_u32(msg, "head",
					     READ_ONCE(srq->ring.head));
	return vrdma_res_end(msg, nest, ret);
}

int vrdma_fill_res_qp(struct sk_buff *msg, struct ib_qp *ibqp)
{
	struct vrdma_qp *qp = to_vrdma_qp(ibqp);
	struct nlattr *nest = vrdma_res_start(msg);
	int ret;

	if (!nest)
		return -EMSGSIZE;
	ret = rdma_nl_put_driver_u32(msg, "device_qpn", qp->qpn);
	if (!ret)
		ret = vrdma_fill_ring(msg, &qp->sq, "sq_entries", "sq_head",
				      "sq_tail", !qp->user);
	if (!ret)
		ret = vrdma_fill_ring(msg, &qp->rq, "rq_entries", "rq_head",
				      "rq_tail", !qp->user);
	return vrdma_res_end(msg, nest, ret);
}
