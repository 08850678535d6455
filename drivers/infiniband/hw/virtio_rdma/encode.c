// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Encoding of kernel work requests into the device's WQEs, and decoding of its
 * CQEs.  Pure functions, called by post.c under the ring's lock and by poll.c
 * under the CQ's.
 */
#include "encode.h"
#include "vrdma.h"

/* Opcodes of VIRTIO_RDMA_F_MEM_MGT; the device refuses them without it. */
static int vrdma_mem_mgt_opcode(enum ib_qp_type type, enum ib_wr_opcode opcode)
{
	switch (opcode) {
	case IB_WR_SEND_WITH_INV:
		return type == IB_QPT_RC ? VIRTIO_RDMA_WR_SEND_WITH_INV : -EINVAL;
	case IB_WR_LOCAL_INV:
		return type == IB_QPT_RC || type == IB_QPT_UC ?
		       VIRTIO_RDMA_WR_LOCAL_INV : -EINVAL;
	case IB_WR_REG_MR:
		return type == IB_QPT_RC || type == IB_QPT_UC ?
		       VIRTIO_RDMA_WR_REG_MR : -EINVAL;
	default:
		return -EOPNOTSUPP;
	}
}

/* Returns the device's opcode, or an errno if the QP type does not support it. */
static int vrdma_send_opcode(enum ib_qp_type type, enum ib_wr_opcode opcode)
{
	bool datagram = type == IB_QPT_UD || type == IB_QPT_GSI;

	switch (opcode) {
	case IB_WR_SEND:
		return VIRTIO_RDMA_WR_SEND;
	case IB_WR_SEND_WITH_IMM:
		return VIRTIO_RDMA_WR_SEND_WITH_IMM;
	case IB_WR_RDMA_WRITE:
		return datagram ? -EINVAL : VIRTIO_RDMA_WR_RDMA_WRITE;
	case IB_WR_RDMA_WRITE_WITH_IMM:
		return datagram ? -EINVAL : VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM;
	case IB_WR_RDMA_READ:
		return type == IB_QPT_RC ? VIRTIO_RDMA_WR_RDMA_READ : -EINVAL;
	case IB_WR_ATOMIC_CMP_AND_SWP:
		return type == IB_QPT_RC ? VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP :
					   -EINVAL;
	case IB_WR_ATOMIC_FETCH_AND_ADD:
		return type == IB_QPT_RC ? VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD :
					   -EINVAL;
	default:
		return vrdma_mem_mgt_opcode(type, opcode);
	}
}

static void vrdma_encode_sges(struct virtio_rdma_sge *out,
			      const struct ib_sge *sge, u32 num)
{
	u32 i;

	for (i = 0; i < num; i++) {
		out[i].addr = cpu_to_le64(sge[i].addr);
		out[i].length = cpu_to_le32(sge[i].length);
		out[i].lkey = cpu_to_le32(sge[i].lkey);
	}
}

/* Copies inline data; the SGEs hold kernel virtual addresses. */
static int vrdma_encode_inline(void *out, const struct ib_send_wr *wr, u32 max,
			       u32 *len)
{
	u32 i, done = 0;

	for (i = 0; i < wr->num_sge; i++) {
		const struct ib_sge *sge = &wr->sg_list[i];

		if (sge->length > max - done)
			return -EINVAL;
		memcpy(out + done, (void *)(uintptr_t)sge->addr, sge->length);
		done += sge->length;
	}
	*len = done;
	return 0;
}

static int vrdma_encode_data(const struct vrdma_send_limits *lim,
			     const struct ib_send_wr *wr,
			     struct virtio_rdma_wqe_ctrl *ctrl, void *out)
{
	u32 len;
	int ret;

	if (!(wr->send_flags & IB_SEND_INLINE)) {
		ctrl->num_sge = wr->num_sge;
		vrdma_encode_sges(out, wr->sg_list, wr->num_sge);
		return 0;
	}
	ret = vrdma_encode_inline(out, wr, lim->max_inline, &len);
	if (ret)
		return ret;
	ctrl->flags |= cpu_to_le16(VIRTIO_RDMA_WQE_INLINE);
	ctrl->inline_len = cpu_to_le32(len);
	return 0;
}

static int vrdma_encode_atomic(const struct ib_send_wr *wr,
			       struct virtio_rdma_atomic_wqe *wqe)
{
	const struct ib_atomic_wr *awr = atomic_wr(wr);

	if (wr->num_sge != 1 || (wr->send_flags & IB_SEND_INLINE))
		return -EINVAL;
	wqe->remote_addr = cpu_to_le64(awr->remote_addr);
	wqe->rkey = cpu_to_le32(awr->rkey);
	if (wr->opcode == IB_WR_ATOMIC_CMP_AND_SWP) {
		wqe->swap_add = cpu_to_le64(awr->swap);
		wqe->compare = cpu_to_le64(awr->compare_add);
	} else {
		wqe->swap_add = cpu_to_le64(awr->compare_add);
	}
	wqe->ctrl.num_sge = 1;
	vrdma_encode_sges(&wqe->sge, wr->sg_list, 1);
	return 0;
}

static int vrdma_encode_reg_mr(const struct ib_send_wr *wr,
			       struct virtio_rdma_reg_mr_wqe *wqe)
{
	const struct ib_reg_wr *rwr = reg_wr(wr);
	const struct vrdma_mr *mr = to_vrdma_mr(rwr->mr);

	if (wr->num_sge || (wr->send_flags & IB_SEND_INLINE) || !mr->list ||
	    !mr->num_entries ||
	    rwr->access & ~(VRDMA_ACCESS | IB_ACCESS_OPTIONAL))
		return -EINVAL;
	wqe->key = cpu_to_le32(rwr->key);
	wqe->access = cpu_to_le32(rwr->access & VRDMA_ACCESS);
	wqe->iova = cpu_to_le64(mr->ibmr.iova);
	wqe->length = cpu_to_le64(mr->ibmr.length);
	wqe->list = cpu_to_le64(mr->buf->dma[0]);
	wqe->num_entries = cpu_to_le32(mr->num_entries);
	wqe->page_shift = mr->gaps ? 0 : ilog2(mr->ibmr.page_size);
	return 0;
}

static int vrdma_encode_rc(const struct vrdma_send_limits *lim,
			   const struct ib_send_wr *wr,
			   struct virtio_rdma_rc_wqe *wqe)
{
	switch (wr->opcode) {
	case IB_WR_ATOMIC_CMP_AND_SWP:
	case IB_WR_ATOMIC_FETCH_AND_ADD:
		return vrdma_encode_atomic(wr, (void *)wqe);
	case IB_WR_REG_MR:
		return vrdma_encode_reg_mr(wr, (void *)wqe);
	case IB_WR_LOCAL_INV:
		return wr->num_sge || (wr->send_flags & IB_SEND_INLINE) ?
		       -EINVAL : 0;
	case IB_WR_RDMA_READ:
		if (wr->send_flags & IB_SEND_INLINE)
			return -EINVAL;
		fallthrough;
	case IB_WR_RDMA_WRITE:
	case IB_WR_RDMA_WRITE_WITH_IMM:
		wqe->remote_addr = cpu_to_le64(rdma_wr(wr)->remote_addr);
		wqe->rkey = cpu_to_le32(rdma_wr(wr)->rkey);
		break;
	default:
		break;
	}
	return vrdma_encode_data(lim, wr, &wqe->ctrl, wqe->sge);
}

static int vrdma_encode_ud(const struct vrdma_send_limits *lim,
			   const struct ib_send_wr *wr,
			   struct virtio_rdma_ud_wqe *wqe)
{
	const struct ib_ud_wr *uwr = ud_wr(wr);
	u32 qkey = uwr->remote_qkey;

	if (!uwr->ah)
		return -EINVAL;
	/* IBTA 10.2.5: the top bit selects the QP's own Q_Key. */
	if (qkey & BIT(31))
		qkey = lim->qkey;
	wqe->av = to_vrdma_ah(uwr->ah)->av;
	wqe->av.dqpn = cpu_to_le32(uwr->remote_qpn);
	wqe->av.qkey = cpu_to_le32(qkey);
	if (lim->type == IB_QPT_GSI)
		wqe->ctrl.pkey_index = cpu_to_le16(uwr->pkey_index);
	return vrdma_encode_data(lim, wr, &wqe->ctrl, wqe->sge);
}

static u16 vrdma_send_flags(const struct vrdma_send_limits *lim,
			    const struct ib_send_wr *wr)
{
	u16 flags = 0;

	if (lim->sig_all || (wr->send_flags & IB_SEND_SIGNALED))
		flags |= VIRTIO_RDMA_WQE_SIGNALED;
	if (wr->send_flags & IB_SEND_SOLICITED)
		flags |= VIRTIO_RDMA_WQE_SOLICITED;
	if (wr->send_flags & IB_SEND_FENCE)
		flags |= VIRTIO_RDMA_WQE_FENCE;
	return flags;
}

/* @wqe is one entry of the send queue, large enough for @lim. */
int vrdma_encode_send(const struct vrdma_send_limits *lim,
		      const struct ib_send_wr *wr, void *wqe)
{
	struct virtio_rdma_wqe_ctrl *ctrl = wqe;
	int opcode = vrdma_send_opcode(lim->type, wr->opcode);

	if (opcode < 0)
		return opcode;
	if (wr->num_sge < 0 || wr->num_sge > lim->max_sge ||
	    wr->send_flags & ~(IB_SEND_FENCE | IB_SEND_SIGNALED |
			       IB_SEND_SOLICITED | IB_SEND_INLINE))
		return -EINVAL;
	/* The fixed parts of both layouts; lists and data are set by their size. */
	memset(wqe, 0, sizeof(struct virtio_rdma_atomic_wqe));
	ctrl->opcode = opcode;
	ctrl->flags = cpu_to_le16(vrdma_send_flags(lim, wr));
	if (wr->opcode == IB_WR_SEND_WITH_IMM ||
	    wr->opcode == IB_WR_RDMA_WRITE_WITH_IMM)
		ctrl->imm = wr->ex.imm_data;
	else if (wr->opcode == IB_WR_SEND_WITH_INV ||
		 wr->opcode == IB_WR_LOCAL_INV)
		ctrl->inv_rkey = cpu_to_le32(wr->ex.invalidate_rkey);
	if (lim->type == IB_QPT_UD || lim->type == IB_QPT_GSI)
		return vrdma_encode_ud(lim, wr, wqe);
	return vrdma_encode_rc(lim, wr, wqe);
}

int vrdma_encode_recv(u32 max_sge, const struct ib_recv_wr *wr, void *wqe)
{
	struct virtio_rdma_recv_wqe *rwqe = wqe;

	if (wr->num_sge < 0 || wr->num_sge > max_sge)
		return -EINVAL;
	memset(rwqe, 0, sizeof(*rwqe));
	rwqe->num_sge = cpu_to_le32(wr->num_sge);
	vrdma_encode_sges(rwqe->sge, wr->sg_list, wr->num_sge);
	return 0;
}

static enum ib_wc_opcode vrdma_wc_opcode(u8 opcode)
{
	switch (opcode) {
	case VIRTIO_RDMA_WC_RDMA_WRITE:
		return IB_WC_RDMA_WRITE;
	case VIRTIO_RDMA_WC_RDMA_READ:
		return IB_WC_RDMA_READ;
	case VIRTIO_RDMA_WC_COMP_SWAP:
		return IB_WC_COMP_SWAP;
	case VIRTIO_RDMA_WC_FETCH_ADD:
		return IB_WC_FETCH_ADD;
	case VIRTIO_RDMA_WC_LOCAL_INV:
		return IB_WC_LOCAL_INV;
	case VIRTIO_RDMA_WC_REG_MR:
		return IB_WC_REG_MR;
	case VIRTIO_RDMA_WC_RECV:
		return IB_WC_RECV;
	case VIRTIO_RDMA_WC_RECV_RDMA_WITH_IMM:
		return IB_WC_RECV_RDMA_WITH_IMM;
	default:
		/* On an error only the receive bit counts. */
		return opcode & VIRTIO_RDMA_WC_RECV_BIT ? IB_WC_RECV :
							  IB_WC_SEND;
	}
}

/*
 * @cqe is a copy.  The caller sets wr_id and qp.  network_hdr_type reports the type of a
 * datagram's header, so sl stays the service level: the MAD layer sends replies with it.
 */
void vrdma_decode_cqe(const struct virtio_rdma_cqe *cqe, struct ib_wc *wc)
{
	memset(wc, 0, sizeof(*wc));
	wc->status = min_t(u8, cqe->status, IB_WC_GENERAL_ERR);
	wc->opcode = vrdma_wc_opcode(cqe->opcode);
	wc->vendor_err = cqe->vendor_err;
	wc->port_num = 1;
	if (wc->status != IB_WC_SUCCESS)
		return;
	wc->byte_len = le32_to_cpu(cqe->byte_len);
	wc->src_qp = le32_to_cpu(cqe->src_qp);
	wc->pkey_index = le16_to_cpu(cqe->pkey_index);
	wc->sl = cqe->sl;
	if (cqe->flags & VIRTIO_RDMA_CQE_IMM) {
		wc->wc_flags |= IB_WC_WITH_IMM;
		wc->ex.imm_data = cqe->imm;
	} else if (cqe->flags & VIRTIO_RDMA_CQE_INV) {
		wc->wc_flags |= IB_WC_WITH_INVALIDATE;
		wc->ex.invalidate_rkey = le32_to_cpu(cqe->inv_rkey);
	}
	if (cqe->flags & VIRTIO_RDMA_CQE_GRH) {
		wc->wc_flags |= IB_WC_GRH | IB_WC_WITH_NETWORK_HDR_TYPE;
		wc->network_hdr_type = cqe->flags & VIRTIO_RDMA_CQE_IPV4 ?
				       RDMA_NETWORK_IPV4 : RDMA_NETWORK_IPV6;
	}
}
