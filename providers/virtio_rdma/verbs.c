// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Verbs without a ring: device, port, protection domains, memory regions and
 * address handles.  Any thread may call them; the kernel serialises where that
 * is needed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vrdma.h"
#include "vrdma-abi.h"

int vrdma_query_device_ex(struct ibv_context *ibvctx,
			  const struct ibv_query_device_ex_input *input,
			  struct ibv_device_attr_ex *attr, size_t attr_size)
{
	struct ib_uverbs_ex_query_device_resp resp;
	size_t resp_size = sizeof(resp);
	uint64_t fw_ver;
	int ret;

	ret = ibv_cmd_query_device_any(ibvctx, input, attr, attr_size, &resp,
				       &resp_size);
	if (ret)
		return ret;

	fw_ver = resp.base.fw_ver;
	snprintf(attr->orig_attr.fw_ver, sizeof(attr->orig_attr.fw_ver),
		 "%u.%u.%u", (unsigned int)(fw_ver >> 32),
		 (unsigned int)(fw_ver >> 16) & 0xffff,
		 (unsigned int)fw_ver & 0xffff);
	return 0;
}

int vrdma_query_port(struct ibv_context *ibvctx, uint8_t port,
		     struct ibv_port_attr *attr)
{
	struct ibv_query_port cmd;

	return ibv_cmd_query_port(ibvctx, port, attr, &cmd, sizeof(cmd));
}

/*
 * With a thread domain the caller promises to use its objects from one thread
 * at a time; these objects take no locks.
 */
struct ibv_td *vrdma_alloc_td(struct ibv_context *ibvctx,
			      struct ibv_td_init_attr *attr)
{
	struct vrdma_td *td;

	if (attr->comp_mask) {
		errno = EOPNOTSUPP;
		return NULL;
	}

	td = calloc(1, sizeof(*td));
	if (!td) {
		errno = ENOMEM;
		return NULL;
	}
	td->ibvtd.context = ibvctx;
	return &td->ibvtd;
}

int vrdma_dealloc_td(struct ibv_td *ibvtd)
{
	struct vrdma_td *td = to_vtd(ibvtd);

	if (atomic_load(&td->refcount))
		return EBUSY;
	free(td);
	return 0;
}

struct ibv_pd *vrdma_alloc_pd(struct ibv_context *ibvctx)
{
	struct vrdma_alloc_pd_resp resp = {};
	struct ibv_alloc_pd cmd = {};
	struct vrdma_pd *pd;
	int ret;

	pd = calloc(1, sizeof(*pd));
	if (!pd) {
		errno = ENOMEM;
		return NULL;
	}

	ret = ibv_cmd_alloc_pd(ibvctx, &pd->ibvpd, &cmd, sizeof(cmd),
			       &resp.ibv_resp, sizeof(resp));
	if (ret) {
		free(pd);
		errno = ret;
		return NULL;
	}
	pd->pdn = resp.pdn;
	return &pd->ibvpd;
}

struct ibv_pd *
vrdma_alloc_parent_domain(struct ibv_context *ibvctx,
			  struct ibv_parent_domain_init_attr *attr)
{
	struct vrdma_pd *protection;
	struct vrdma_pd *pd;

	if (ibv_check_alloc_parent_domain(attr))
		return NULL;
	if (attr->comp_mask) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	/*
	 * A parent domain of a parent domain is refused: only a PD has a
	 * reference count for it.
	 */
	protection = to_vpd(attr->pd);
	if (protection->protection) {
		errno = EINVAL;
		return NULL;
	}

	pd = calloc(1, sizeof(*pd));
	if (!pd) {
		errno = ENOMEM;
		return NULL;
	}
	ibv_initialize_parent_domain(&pd->ibvpd, attr->pd);
	pd->pdn = protection->pdn;
	pd->protection = protection;
	atomic_fetch_add(&protection->refcount, 1);
	if (attr->td) {
		pd->td = to_vtd(attr->td);
		atomic_fetch_add(&pd->td->refcount, 1);
	}
	return &pd->ibvpd;
}

int vrdma_dealloc_pd(struct ibv_pd *ibvpd)
{
	struct vrdma_pd *pd = to_vpd(ibvpd);
	int ret;

	if (atomic_load(&pd->refcount))
		return EBUSY;

	if (pd->protection) {
		if (pd->td)
			atomic_fetch_sub(&pd->td->refcount, 1);
		atomic_fetch_sub(&pd->protection->refcount, 1);
	} else {
		ret = ibv_cmd_dealloc_pd(ibvpd);
		if (ret)
			return ret;
	}
	free(pd);
	return 0;
}

struct ibv_mr *vrdma_reg_mr(struct ibv_pd *ibvpd, void *addr, size_t length,
			    uint64_t hca_va, int access)
{
	struct ib_uverbs_reg_mr_resp resp;
	struct ibv_reg_mr cmd;
	struct verbs_mr *vmr;
	int ret;

	vmr = calloc(1, sizeof(*vmr));
	if (!vmr) {
		errno = ENOMEM;
		return NULL;
	}

	ret = ibv_cmd_reg_mr(ibvpd, addr, length, hca_va, access, vmr, &cmd,
			     sizeof(cmd), &resp, sizeof(resp));
	if (ret) {
		free(vmr);
		errno = ret;
		return NULL;
	}
	return &vmr->ibv_mr;
}

int vrdma_dereg_mr(struct verbs_mr *vmr)
{
	int ret;

	ret = ibv_cmd_dereg_mr(vmr);
	if (ret)
		return ret;
	free(vmr);
	return 0;
}

/*
 * The kernel resolves the destination's MAC.  The device gets the address
 * vector with each work request that uses the address handle.
 */
struct ibv_ah *vrdma_create_ah(struct ibv_pd *ibvpd, struct ibv_ah_attr *attr)
{
	struct vrdma_create_ah_resp resp = {};
	struct virtio_rdma_av *av;
	struct vrdma_ah *ah;
	int ret;

	/* On RoCE every address is a GID. */
	if (!attr->is_global) {
		errno = EINVAL;
		return NULL;
	}

	ah = calloc(1, sizeof(*ah));
	if (!ah) {
		errno = ENOMEM;
		return NULL;
	}

	ret = ibv_cmd_create_ah(ibvpd, &ah->ibvah, attr, &resp.ibv_resp,
				sizeof(resp));
	if (ret) {
		free(ah);
		errno = ret;
		return NULL;
	}

	av = &ah->av;
	memcpy(av->dgid, attr->grh.dgid.raw, sizeof(av->dgid));
	memcpy(av->dmac, resp.dmac, sizeof(av->dmac));
	av->flow_label = htole32(attr->grh.flow_label & 0xfffff);
	av->pd = htole32(to_vpd(ibvpd)->pdn);
	av->sgid_index = attr->grh.sgid_index;
	av->hop_limit = resp.hop_limit;
	av->tclass = attr->grh.traffic_class;
	av->sl = attr->sl;
	return &ah->ibvah;
}

int vrdma_destroy_ah(struct ibv_ah *ibvah)
{
	int ret;

	ret = ibv_cmd_destroy_ah(ibvah);
	if (ret)
		return ret;
	free(to_vah(ibvah));
	return 0;
}
