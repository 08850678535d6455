// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mixed transport: datagrams from the host.
 *
 * Datagrams of a UD QP come on both paths, and the guest's receives are used in
 * order, so nobody can say in advance which of them the host would need.  The
 * host has receives of our own for it; what comes there is copied into the
 * guest's next receive by the memory transport's code, header and all, and dropped
 * where that would drop it.
 *
 * Poller, without a lock, but for create and free (control thread, dev->lock).
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mix.h"

int vrd_mix_bounce_create(struct vrd_qp *qp)
{
	struct vrd_mix_dev *dev = vrd_mix_dev(qp->dev);
	struct vrd_mix_qp *mix = vrd_mix_qp(qp);
	uint32_t num = vrd_ibv_bounces(qp);
	size_t size = (size_t)num * VRD_MIX_BOUNCE;

	if (size > VRD_MIX_MAX_BOUNCE_BYTES - dev->bounce_bytes) {
		vrd_dev_log(qp->dev, VRD_LOG_WARN,
			    "UD queue pairs of this device have %llu MiB of receives with the host already",
			    VRD_MIX_MAX_BOUNCE_BYTES >> 20);
		return -ENOMEM;
	}
	mix->bounce = calloc(1, size);
	if (!mix->bounce)
		return -ENOMEM;
	errno = 0;
	mix->bounce_mr = ibv_reg_mr(qp->pd->priv[VRD_SLOT_IBVERBS], mix->bounce, size, IBV_ACCESS_LOCAL_WRITE);
	if (!mix->bounce_mr) {
		free(mix->bounce);
		mix->bounce = NULL;
		return vrd_ibv_errno(errno ? errno : EIO);
	}
	mix->num_bounces = num;
	dev->bounce_bytes += size;
	return 0;
}

static int post(struct vrd_qp *qp, uint32_t i)
{
	struct vrd_mix_qp *mix = vrd_mix_qp(qp);
	struct vrd_ibv_qp *vq = vrd_ibv_qp(qp);
	struct ibv_sge sge = {
		.addr = (uintptr_t)mix->bounce + (size_t)i * VRD_MIX_BOUNCE,
		.length = VRD_MIX_BOUNCE,
		.lkey = mix->bounce_mr->lkey,
	};
	struct ibv_recv_wr wr = {
		.wr_id = vrd_ibv_wr_id(VRD_IBV_BOUNCE, vq->generation, i),
		.sg_list = &sge,
		.num_sge = 1,
	};
	struct ibv_recv_wr *bad;
	int ret = ibv_post_recv(vq->ibqp, &wr, &bad);

	if (ret)
		vrd_dev_log(qp->dev, VRD_LOG_WARN, "QP %u: the host takes no receive: %s", qp->qpn,
			    strerror(ret));
	return ret;
}

void vrd_mix_bounce_post_all(struct vrd_qp *qp)
{
	struct vrd_mix_qp *mix = vrd_mix_qp(qp);

	vrd_ibv_cq_expect(vrd_ibv_qp(qp)->recv_vcq);
	for (uint32_t i = 0; i < mix->num_bounces; i++)
		if (post(qp, i))
			break;
}

static void deliver(struct vrd_qp *qp, uint8_t *data, const struct ibv_wc *wc)
{
	struct virtio_rdma_cqe cqe = {
		.opcode = VIRTIO_RDMA_WC_RECV,
		.status = VIRTIO_RDMA_WC_SUCCESS,
	};
	struct vrd_mem_side header, payload;
	uint32_t length = wc->byte_len - VRD_MEM_GRH_LEN;
	struct vrd_mem_burst b;

	vrd_ibv_fill_recv(&cqe, wc);
	atomic_fetch_add_explicit(&vrd_ibv_dev(qp->dev)->rx_bytes, length, memory_order_relaxed);
	vrd_mem_side_host(&header, data, VRD_MEM_GRH_LEN);
	vrd_mem_side_host(&payload, data + VRD_MEM_GRH_LEN, length);
	vrd_mem_burst_begin(&b, qp);
	vrd_lock(&qp->rq.lock);
	b.peer = qp;
	if (vrd_mem_ud_listens(qp))
		/* Whether a solicited event was asked for is not known: see complete.c. */
		vrd_mem_ud_put(&b, &header, &payload, &cqe, true);
	vrd_mem_burst_end(&b);
}

void vrd_mix_received(struct vrd_qp *qp, const struct ibv_wc *wc)
{
	struct vrd_mix_qp *mix = vrd_mix_qp(qp);
	uint32_t i = (uint32_t)wc->wr_id;

	if (wc->status != IBV_WC_SUCCESS) {
		/* Flushed, or the host's QP is in ERR because of it. */
		if (wc->status != IBV_WC_WR_FLUSH_ERR)
			vrd_qp_error(qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_NONE);
		return;
	}
	if (wc->byte_len >= VRD_MEM_GRH_LEN && wc->byte_len <= VRD_MIX_BOUNCE)
		deliver(qp, mix->bounce + (size_t)i * VRD_MIX_BOUNCE, wc);
	post(qp, i);
}
