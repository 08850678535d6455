// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Address vectors.  An address handle is no object of the device: it is
 * translated once, here, and each datagram's WQE carries it.  So it can be
 * created in any context, without a command.
 */
#include <linux/etherdevice.h>
#include <rdma/uverbs_ioctl.h>

#include "vrdma.h"

/* Everything but the PD, QP number and Q_Key, which belong to datagrams. */
int vrdma_av_from_ah_attr(struct virtio_rdma_av *av,
			  const struct rdma_ah_attr *attr)
{
	const struct ib_global_route *grh = rdma_ah_read_grh(attr);

	memset(av, 0, sizeof(*av));
	if (attr->type != RDMA_AH_ATTR_TYPE_ROCE ||
	    !(rdma_ah_get_ah_flags(attr) & IB_AH_GRH))
		return -EINVAL;
	memcpy(av->dgid, grh->dgid.raw, sizeof(av->dgid));
	av->flow_label = cpu_to_le32(grh->flow_label & 0xfffff);
	av->sgid_index = grh->sgid_index;
	av->hop_limit = grh->hop_limit;
	av->tclass = grh->traffic_class;
	av->sl = rdma_ah_get_sl(attr) & 0xf;
	ether_addr_copy(av->dmac, attr->roce.dmac);
	return 0;
}

void vrdma_av_to_ah_attr(const struct virtio_rdma_av *av,
			 struct rdma_ah_attr *attr)
{
	union ib_gid dgid;

	memset(attr, 0, sizeof(*attr));
	attr->type = RDMA_AH_ATTR_TYPE_ROCE;
	memcpy(dgid.raw, av->dgid, sizeof(dgid.raw));
	rdma_ah_set_grh(attr, &dgid, le32_to_cpu(av->flow_label),
			av->sgid_index, av->hop_limit, av->tclass);
	rdma_ah_set_sl(attr, av->sl);
	rdma_ah_set_port_num(attr, 1);
	memcpy(attr->roce.dmac, av->dmac, ETH_ALEN);
}

/* For the kernel and for processes; atomic if init->flags does not say SLEEPABLE. */
int vrdma_create_ah(struct ib_ah *ibah, struct rdma_ah_init_attr *init,
		    struct ib_udata *udata)
{
	struct virtio_rdma_create_ah_resp resp = {};
	struct vrdma_ah *ah = to_vrdma_ah(ibah);
	int ret;

	ret = vrdma_no_req(udata);
	if (!ret)
		ret = vrdma_av_from_ah_attr(&ah->av, init->ah_attr);
	if (ret)
		return ret;
	/* Datagrams name the GID by its index in the device's table. */
	if (init->flags & RDMA_CREATE_AH_SLEEPABLE)
		vrdma_gids_settle(to_vrdma_dev(ibah->device));
	ah->av.pd = cpu_to_le32(to_vrdma_pd(ibah->pd)->pdn);
	if (!udata)
		return 0;

	/* The provider has the rest; the kernel has resolved the neighbour. */
	ether_addr_copy(resp.dmac, ah->av.dmac);
	resp.hop_limit = ah->av.hop_limit;
	return ib_copy_to_udata(udata, &resp, min(sizeof(resp), udata->outlen));
}

int vrdma_query_ah(struct ib_ah *ibah, struct rdma_ah_attr *attr)
{
	vrdma_av_to_ah_attr(&to_vrdma_ah(ibah)->av, attr);
	return 0;
}

int vrdma_destroy_ah(struct ib_ah *ibah, u32 flags)
{
	return 0;
}
