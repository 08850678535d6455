/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys: the one place where it is decided what a key gives access to.  Requesters,
 * responders and receives of all transports that touch guest memory by software
 * look keys up here, on pollers, in an RCU read section.
 *
 * The QP is a parameter because some keys depend on it: the reserved DMA key works
 * for kernel QPs only, and a window of type 2 for the one QP that it is bound to.
 */
#ifndef VRD_KEY_H
#define VRD_KEY_H

#include "compiler.h"
#include "objects.h"

/* key.c: a region by a key that the host chose, or by the reserved DMA key; its PD is @pd. */
const struct vrd_mr *vrd_mr_find_other(const struct vrd_qp *qp, const struct vrd_pd *pd,
				       uint32_t key, bool remote);

/*
 * The region that @key names, if [addr, addr + length) of it may be accessed by @qp
 * in @pd with all of @access (0: local read); else NULL.  Good until the end of the
 * caller's turn: a message of several turns looks it up again in each, so that no
 * byte moves after DEREG_MR.
 * @remote: @key came from a peer (the reserved local key is then refused).
 */
static VRD_INLINE const struct vrd_mr *vrd_mr_find_pd(const struct vrd_qp *qp,
						      const struct vrd_pd *pd, uint32_t key,
						      uint64_t addr, uint64_t length,
						      uint32_t access, bool remote)
{
	const struct vrd_mr *mr = vrd_table_find(&qp->dev->mrs, vrd_key_index(key));
	uint64_t offset;

	if (vrd_likely(mr && mr->key == key)) {
		/* A DMA region's PD is one of a kernel context, and so is the QP then. */
		if (mr->pd != pd)
			return NULL;
	} else {
		mr = vrd_mr_find_other(qp, pd, key, remote);
		if (!mr)
			return NULL;
	}
	if (access & ~mr->access)
		return NULL;
	/* Wraps to more than any length if @addr is below.  (DMA regions: all addresses.) */
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
