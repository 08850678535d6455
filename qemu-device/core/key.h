/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys: the only place that decides what a key grants access to.  Requesters, responders and
 * receives of all transports that access guest memory by software look keys up here, on
 * pollers, in an RCU read section.
 *
 * The QP is a parameter because some keys depend on it: the reserved DMA key is valid only
 * for kernel QPs, and a type 2 memory window only for the QP to which it is bound.
 */
#ifndef VRD_KEY_H
#define VRD_KEY_H

#include "compiler.h"
#include "objects.h"

/* key.c: finds a region in PD @pd by a key that the host chose, or by the reserved DMA key. */
const struct vrd_mr *vrd_mr_find_other(const struct vrd_qp *qp, const struct vrd_pd *pd,
				       uint32_t key, bool remote);

/*
 * The region of @key, if @qp may access [addr, addr + length) of it in @pd with all rights
 * of @access (0: local read); else NULL.  It is valid until the end of the caller's turn.  A
 * message of several turns must look it up again in each, so that no byte is moved after
 * DEREG_MR.  @remote: @key came from a peer (the reserved local key is then refused).
 */
static VRD_INLINE const struct vrd_mr *vrd_mr_find_pd(const struct vrd_qp *qp,
						      const struct vrd_pd *pd, uint32_t key,
						      uint64_t addr, uint64_t length,
						      uint32_t access, bool remote)
{
	const struct vrd_mr *mr = vrd_table_find(&qp->dev->mrs, vrd_key_index(key));
	uint64_t offset;

	if (vrd_likely(mr && mr->key == key)) {
		/* The PD of a DMA region belongs to a kernel context, so the QP does as well. */
		if (mr->pd != pd)
			return NULL;
	} else {
		mr = vrd_mr_find_other(qp, pd, key, remote);
		if (!mr)
			return NULL;
	}
	if (access & ~mr->access)
		return NULL;
	/*
	 * If @addr is below the region, this wraps to more than any length.  (DMA regions cover
	 * all addresses.)
	 */
	offset = addr - mr->iova;
	if (offset > mr->length || length > mr->length - offset)
		return NULL;
	return mr;
}

/* The same in the QP's own PD. */
static inline const struct vrd_mr *vrd_mr_find(const struct vrd_qp *qp, uint32_t key, uint64_t addr,
					       uint64_t length, uint32_t access, bool remote)
{
	return vrd_mr_find_pd(qp, qp->pd, key, addr, length, access, remote);
}

/* The PD in which the keys of the QP's receives are looked up. */
static inline const struct vrd_pd *vrd_qp_recv_pd(const struct vrd_qp *qp)
{
	return qp->srq ? qp->srq->pd : qp->pd;
}

#endif /* VRD_KEY_H */
