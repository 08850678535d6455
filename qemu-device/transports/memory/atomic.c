// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: compare-and-swap and fetch-and-add.
 *
 * They are the host CPU's atomic instructions on the peer's memory, so they
 * are atomic among all pollers, and with the CPUs of a guest that uses atomic
 * instructions itself.  Numbers are the guest's, in host byte order: a guest
 * of the other byte order cannot run on this host with virtio 1 rings shared
 * by CPU and device without swapping them itself.
 *
 * Runs on the requester's poller with the peer's rq.lock held.
 */
#include "memory.h"

enum vrd_mem_step vrd_mem_atomic(struct vrd_mem_burst *b, const struct vrd_wr *wr,
				 struct vrd_mem_xfer *x)
{
	/* 8 aligned bytes are in one page: x->remote holds all of them. */
	uint64_t *word = (uint64_t *)x->remote.host;
	struct vrd_mem_side result;
	uint64_t old;

	if (x->remote.run < 8 || (uintptr_t)word & 7)
		return vrd_mem_refuse(b, VIRTIO_RDMA_WC_REM_INV_REQ_ERR,
				      VIRTIO_RDMA_EVENT_QP_REQ_ERR);

	if (wr->opcode == VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP) {
		old = wr->compare;
		__atomic_compare_exchange_n(word, &old, wr->swap_add, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
	} else {
		old = __atomic_fetch_add(word, wr->swap_add, __ATOMIC_SEQ_CST);
	}

	vrd_mem_side_host(&result, &old, sizeof(old));
	if (vrd_mem_copy(&x->local, &result, sizeof(old), true))
		return vrd_mem_fail(b, VIRTIO_RDMA_WC_LOC_PROT_ERR);
	b->slice -= b->slice < 8 ? b->slice : 8;
	return VRD_MEM_DONE;
}
