/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One step of an RC QP's transitions to RTS, connected to a QP of the same device. */
#ifndef KV_CONNECT_H
#define KV_CONNECT_H

#include <linux/etherdevice.h>
#include <rdma/ib_cache.h>
#include <rdma/ib_verbs.h>

static int kv_modify_qp(struct ib_qp *qp, u32 dqpn, enum ib_qp_state state)
{
	struct ib_qp_attr attr = { .qp_state = state };
	int mask = IB_QP_STATE;
	const struct ib_gid_attr *gid;
	struct net_device *ndev;
	int ret;

	switch (state) {
	case IB_QPS_INIT:
		attr.port_num = 1;
		attr.qp_access_flags = IB_ACCESS_REMOTE_WRITE |
				       IB_ACCESS_REMOTE_READ |
				       IB_ACCESS_REMOTE_ATOMIC;
		mask |= IB_QP_PKEY_INDEX | IB_QP_PORT | IB_QP_ACCESS_FLAGS;
		break;
	case IB_QPS_RTR:
		gid = rdma_get_gid_attr(qp->device, 1, 0);
		if (IS_ERR(gid))
			return PTR_ERR(gid);
		attr.ah_attr.type = RDMA_AH_ATTR_TYPE_ROCE;
		rdma_ah_set_port_num(&attr.ah_attr, 1);
		rdma_ah_set_grh(&attr.ah_attr, NULL, 0, 0, 64, 0);
		rdma_ah_set_dgid_raw(&attr.ah_attr, (void *)gid->gid.raw);
		rcu_read_lock();
		ndev = rdma_read_gid_attr_ndev_rcu(gid);
		if (!IS_ERR(ndev))
			ether_addr_copy(attr.ah_attr.roce.dmac, ndev->dev_addr);
		rcu_read_unlock();
		rdma_put_gid_attr(gid);
		attr.path_mtu = IB_MTU_1024;
		attr.dest_qp_num = dqpn;
		attr.max_dest_rd_atomic = 4;
		attr.min_rnr_timer = 12;
		mask |= IB_QP_AV | IB_QP_PATH_MTU | IB_QP_DEST_QPN |
			IB_QP_RQ_PSN | IB_QP_MAX_DEST_RD_ATOMIC |
			IB_QP_MIN_RNR_TIMER;
		break;
	case IB_QPS_RTS:
		attr.timeout = 14;
		attr.retry_cnt = 7;
		attr.rnr_retry = 7;
		attr.max_rd_atomic = 4;
		mask |= IB_QP_TIMEOUT | IB_QP_RETRY_CNT | IB_QP_RNR_RETRY |
			IB_QP_SQ_PSN | IB_QP_MAX_QP_RD_ATOMIC;
		break;
	default:
		break;
	}
	ret = ib_modify_qp(qp, &attr, mask);
	if (ret)
		pr_err("modify of QP %u to state %d: %d\n", qp->qp_num, state,
		       ret);
	return ret;
}

#endif /* KV_CONNECT_H */
