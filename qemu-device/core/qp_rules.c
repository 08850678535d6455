// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * State transitions of QPs: IBTA's table of required and optional attributes
 * (11.2.5.2), and the ranges of the attributes.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "qp_rules.h"

#define A(name)	VIRTIO_RDMA_QP_##name

/* Attributes of this ABI, which has no alternate paths. */
#define KNOWN	(A(STATE) | A(CUR_STATE) | A(EN_SQD_ASYNC_NOTIFY) | A(ACCESS_FLAGS) | \
		 A(PKEY_INDEX) | A(PORT) | A(QKEY) | A(AV) | A(PATH_MTU) | A(TIMEOUT) | \
		 A(RETRY_CNT) | A(RNR_RETRY) | A(RQ_PSN) | A(MAX_QP_RD_ATOMIC) | \
		 A(MIN_RNR_TIMER) | A(SQ_PSN) | A(MAX_DEST_RD_ATOMIC) | A(DEST_QPN))

enum { GSI, RC, UC, UD, TYPES };

struct rule {
	uint8_t from, to;
	struct {
		uint32_t required, optional;
	} type[TYPES];
	bool forbidden[TYPES];
};

#define S(name)	VIRTIO_RDMA_QPS_##name

/* A change to RESET or to ERR needs no rule: it is always allowed, without attributes. */
static const struct rule rules[] = {
	{
		.from = S(RESET), .to = S(INIT),
		.type = {
			[GSI] = { A(PKEY_INDEX) | A(QKEY), A(PORT) },
			[RC] = { A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS), 0 },
			[UC] = { A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS), 0 },
			[UD] = { A(PKEY_INDEX) | A(PORT) | A(QKEY), 0 },
		},
	}, {
		.from = S(INIT), .to = S(INIT),
		.type = {
			[GSI] = { 0, A(PKEY_INDEX) | A(QKEY) | A(PORT) },
			[RC] = { 0, A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS) },
			[UC] = { 0, A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS) },
			[UD] = { 0, A(PKEY_INDEX) | A(PORT) | A(QKEY) },
		},
	}, {
		.from = S(INIT), .to = S(RTR),
		.type = {
			[GSI] = { 0, A(PKEY_INDEX) | A(QKEY) },
			[RC] = { A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN) |
				 A(MAX_DEST_RD_ATOMIC) | A(MIN_RNR_TIMER),
				 A(PKEY_INDEX) | A(ACCESS_FLAGS) },
			[UC] = { A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN),
				 A(PKEY_INDEX) | A(ACCESS_FLAGS) },
			[UD] = { 0, A(PKEY_INDEX) | A(QKEY) },
		},
	}, {
		.from = S(RTR), .to = S(RTS),
		.type = {
			[GSI] = { A(SQ_PSN), A(CUR_STATE) | A(QKEY) },
			[RC] = { A(SQ_PSN) | A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) |
				 A(MAX_QP_RD_ATOMIC),
				 A(CUR_STATE) | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
			[UC] = { A(SQ_PSN), A(CUR_STATE) | A(ACCESS_FLAGS) },
			[UD] = { A(SQ_PSN), A(CUR_STATE) | A(QKEY) },
		},
	}, {
		.from = S(RTS), .to = S(RTS),
		.type = {
			[GSI] = { 0, A(CUR_STATE) | A(QKEY) },
			[RC] = { 0, A(CUR_STATE) | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
			[UC] = { 0, A(CUR_STATE) | A(ACCESS_FLAGS) },
			[UD] = { 0, A(CUR_STATE) | A(QKEY) },
		},
	}, {
		.from = S(RTS), .to = S(SQD),
		.type = {
			[GSI] = { 0, A(EN_SQD_ASYNC_NOTIFY) },
			[RC] = { 0, A(EN_SQD_ASYNC_NOTIFY) },
			[UC] = { 0, A(EN_SQD_ASYNC_NOTIFY) },
			[UD] = { 0, A(EN_SQD_ASYNC_NOTIFY) },
		},
	}, {
		.from = S(SQD), .to = S(RTS),
		.type = {
			[GSI] = { 0, A(CUR_STATE) | A(QKEY) },
			[RC] = { 0, A(CUR_STATE) | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
			[UC] = { 0, A(CUR_STATE) | A(ACCESS_FLAGS) },
			[UD] = { 0, A(CUR_STATE) | A(QKEY) },
		},
	}, {
		.from = S(SQD), .to = S(SQD),
		.type = {
			[GSI] = { 0, A(PKEY_INDEX) | A(QKEY) },
			[RC] = { 0, A(PORT) | A(AV) | A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) |
				    A(MAX_QP_RD_ATOMIC) | A(MAX_DEST_RD_ATOMIC) |
				    A(ACCESS_FLAGS) | A(PKEY_INDEX) | A(MIN_RNR_TIMER) },
			[UC] = { 0, A(AV) | A(ACCESS_FLAGS) | A(PKEY_INDEX) },
			[UD] = { 0, A(PKEY_INDEX) | A(QKEY) },
		},
	}, {
		/* RC has no SQE: errors move the QP to ERR. */
		.from = S(SQE), .to = S(RTS),
		.type = {
			[GSI] = { 0, A(CUR_STATE) | A(QKEY) },
			[UC] = { 0, A(CUR_STATE) | A(ACCESS_FLAGS) },
			[UD] = { 0, A(CUR_STATE) | A(QKEY) },
		},
		.forbidden = { [RC] = true },
	},
};

static int type_index(uint8_t type)
{
	switch (type) {
	case VIRTIO_RDMA_QPT_GSI:	return GSI;
	case VIRTIO_RDMA_QPT_RC:	return RC;
	case VIRTIO_RDMA_QPT_UC:	return UC;
	default:			return UD;
	}
}

int vrd_qp_check_transition(uint8_t type, uint8_t from, uint8_t to, uint32_t mask)
{
	int t = type_index(type);
	unsigned int i;

	if (mask & ~KNOWN)
		return -EOPNOTSUPP;
	mask &= ~A(STATE);
	if (to == S(RESET) || to == S(ERR))
		return mask & ~A(CUR_STATE) ? -EINVAL : 0;
	for (i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		const struct rule *r = &rules[i];

		if (r->from != from || r->to != to)
			continue;
		if (r->forbidden[t] || (r->type[t].required & ~mask) ||
		    (mask & ~(r->type[t].required | r->type[t].optional)))
			return -EINVAL;
		return 0;
	}
	return -EINVAL;
}

/* ---- ranges of values -------------------------------------------------- */

#define ACCESS_QP	(VIRTIO_RDMA_ACCESS_LOCAL_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_WRITE | \
			 VIRTIO_RDMA_ACCESS_REMOTE_READ | VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC | \
			 VIRTIO_RDMA_ACCESS_MW_BIND)

static int check_av(const struct vrd_device *dev, const struct virtio_rdma_av *av)
{
	static const uint8_t zero[sizeof(av->reserved)];

	if (av->pd || av->dqpn || av->qkey || memcmp(av->reserved, zero, sizeof(zero)))
		return -EINVAL;
	if (le32toh(av->flow_label) >> 20 || av->sl > 15)
		return -EINVAL;
	return vrd_gid_at(dev, av->sgid_index) ? 0 : -EINVAL;
}

int vrd_qp_check_attr(const struct vrd_device *dev, const struct vrd_caps *caps,
		      const struct virtio_rdma_qp_attr *attr, uint32_t mask)
{
	if (attr->reserved0 || attr->reserved1 || attr->sq_draining)
		return -EINVAL;
	if ((mask & A(EN_SQD_ASYNC_NOTIFY)) && attr->en_sqd_async_notify > 1)
		return -EINVAL;
	/* Verbs programs also pass LOCAL_WRITE and MW_BIND, which have no effect for a QP. */
	if ((mask & A(ACCESS_FLAGS)) && (le32toh(attr->access_flags) & ~ACCESS_QP))
		return -EOPNOTSUPP;
	if ((mask & A(PKEY_INDEX)) && attr->pkey_index)
		return -EINVAL;
	if ((mask & A(PORT)) && attr->port_num != 1)
		return -EINVAL;
	if ((mask & A(PATH_MTU)) && (!attr->path_mtu || attr->path_mtu > caps->max_mtu))
		return -EINVAL;
	if (((mask & A(TIMEOUT)) && attr->timeout >> 5) ||
	    ((mask & A(RETRY_CNT)) && attr->retry_cnt >> 3) ||
	    ((mask & A(RNR_RETRY)) && attr->rnr_retry >> 3) ||
	    ((mask & A(MIN_RNR_TIMER)) && attr->min_rnr_timer >> 5))
		return -EINVAL;
	if (((mask & A(RQ_PSN)) && le32toh(attr->rq_psn) >> 24) ||
	    ((mask & A(SQ_PSN)) && le32toh(attr->sq_psn) >> 24) ||
	    ((mask & A(DEST_QPN)) && le32toh(attr->dest_qpn) & ~VRD_QPN_MASK))
		return -EINVAL;
	if (((mask & A(MAX_QP_RD_ATOMIC)) && attr->max_rd_atomic > caps->max_qp_init_rd_atom) ||
	    ((mask & A(MAX_DEST_RD_ATOMIC)) && attr->max_dest_rd_atomic > caps->max_qp_rd_atom))
		return -EINVAL;
	return mask & A(AV) ? check_av(dev, &attr->av) : 0;
}

void vrd_qp_merge_attr(struct virtio_rdma_qp_attr *to, const struct virtio_rdma_qp_attr *from,
		       uint32_t mask)
{
	if (mask & A(EN_SQD_ASYNC_NOTIFY))
		to->en_sqd_async_notify = from->en_sqd_async_notify;
	if (mask & A(ACCESS_FLAGS))
		to->access_flags = from->access_flags;
	if (mask & A(PKEY_INDEX))
		to->pkey_index = from->pkey_index;
	if (mask & A(PORT))
		to->port_num = from->port_num;
	if (mask & A(QKEY))
		to->qkey = from->qkey;
	if (mask & A(AV))
		to->av = from->av;
	if (mask & A(PATH_MTU))
		to->path_mtu = from->path_mtu;
	if (mask & A(TIMEOUT))
		to->timeout = from->timeout;
	if (mask & A(RETRY_CNT))
		to->retry_cnt = from->retry_cnt;
	if (mask & A(RNR_RETRY))
		to->rnr_retry = from->rnr_retry;
	if (mask & A(RQ_PSN))
		to->rq_psn = from->rq_psn;
	if (mask & A(MAX_QP_RD_ATOMIC))
		to->max_rd_atomic = from->max_rd_atomic;
	if (mask & A(MIN_RNR_TIMER))
		to->min_rnr_timer = from->min_rnr_timer;
	if (mask & A(SQ_PSN))
		to->sq_psn = from->sq_psn;
	if (mask & A(MAX_DEST_RD_ATOMIC))
		to->max_dest_rd_atomic = from->max_dest_rd_atomic;
	if (mask & A(DEST_QPN))
		to->dest_qpn = from->dest_qpn;
}
