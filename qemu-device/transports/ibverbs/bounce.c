// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: datagrams from the host, on devices with several transports.
 *
 * Datagrams for a UD QP may arrive by any of the transports and take the guest's receives in
 * order, so the host cannot be given some of these receives in advance.  The host's QP has
 * receives in memory of this process instead.  A datagram that arrives there is passed, with
 * its header, to the path that takes the guest's receives (vrd_path_deliver()).
 *
 * Poller, without a lock, except for create and free (control thread or a worker).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grh.h"
#include "ibv.h"
#include "log.h"

/* One receive: header and payload of the longest datagram. */
#define GRH_LEN		40U
#define RECV_LEN	(GRH_LEN + 4096U)
/* Limit for all QPs of a device; this is pinned memory of this process. */
#define MAX_BYTES	(128ULL << 20)

#define MIN_RECVS	16U
#define MAX_RECVS	128U

uint32_t vrd_ibv_bounces(const struct vrd_qp *qp)
{
	uint32_t n = qp->srq ? qp->srq->ring.entries : qp->rq.entries;

	return n < MIN_RECVS ? MIN_RECVS : n > MAX_RECVS ? MAX_RECVS : n;
}

int vrd_ibv_bounce_create(struct vrd_ibv_qp *vq)
{
	struct vrd_ibv_dev *vdev = vq->vdev;
	uint32_t num = vrd_ibv_bounces(vq->qp);
	size_t size = (size_t)num * RECV_LEN;

	if (atomic_fetch_add(&vdev->bounce_bytes, size) > MAX_BYTES - size) {
		atomic_fetch_sub(&vdev->bounce_bytes, size);
		vrd_dev_log(vdev->dev, VRD_LOG_WARN,
			    "UD queue pairs of this device have %llu MiB of receives with the host already",
			    MAX_BYTES >> 20);
		return -ENOMEM;
	}
	vq->recvs.data = calloc(1, size);
	errno = ENOMEM;
	if (vq->recvs.data) {
		errno = 0;
		vq->recvs.mr = ibv_reg_mr(vq->qp->pd->priv[VRD_SLOT_IBVERBS], vq->recvs.data,
					  size, IBV_ACCESS_LOCAL_WRITE);
	}
	if (!vq->recvs.mr) {
		int error = errno;

		free(vq->recvs.data);
		vq->recvs.data = NULL;
		atomic_fetch_sub(&vdev->bounce_bytes, size);
		return vrd_ibv_errno(error ? error : EIO);
	}
	vq->recvs.num = num;
	return 0;
}

/* The host's QP must have been destroyed: it would write to this memory. */
void vrd_ibv_bounce_free(struct vrd_ibv_qp *vq)
{
	if (!vq->recvs.mr)
		return;
	atomic_fetch_sub(&vq->vdev->bounce_bytes, (uint64_t)vq->recvs.num * RECV_LEN);
	ibv_dereg_mr(vq->recvs.mr);
	free(vq->recvs.data);
}

static int post(struct vrd_ibv_qp *vq, uint32_t i)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)vq->recvs.data + (size_t)i * RECV_LEN,
		.length = RECV_LEN,
		.lkey = vq->recvs.mr->lkey,
	};
	struct ibv_recv_wr wr = {
		.wr_id = vrd_ibv_wr_id(VRD_IBV_BOUNCE, vq->generation, i),
		.sg_list = &sge,
		.num_sge = 1,
	};
	struct ibv_recv_wr *bad;
	int ret = ibv_post_recv(vq->ibqp, &wr, &bad);

	if (ret)
		vrd_dev_log(vq->qp->dev, VRD_LOG_WARN, "QP %u: the host takes no receive: %s",
			    vq->qp->qpn, strerror(ret));
	return ret;
}

void vrd_ibv_bounce_post_all(struct vrd_ibv_qp *vq)
{
	vrd_ibv_cq_expect(vq->recv_vcq);
	for (uint32_t i = 0; i < vq->recvs.num; i++)
		if (post(vq, i))
			break;
}

static void deliver(struct vrd_ibv_qp *vq, uint8_t *data, const struct ibv_wc *wc)
{
	struct virtio_rdma_cqe cqe = {
		.opcode = VIRTIO_RDMA_WC_RECV,
		.status = VIRTIO_RDMA_WC_SUCCESS,
	};
	uint32_t length = wc->byte_len - GRH_LEN;

	vrd_ibv_fill_recv(&cqe, wc);
	if (vrd_grh_is_v4(data)) {
		cqe.flags |= VIRTIO_RDMA_CQE_IPV4;
		/* Clear the bytes of earlier datagrams; the host's device need not write them. */
		memset(data, 0, 20);
	}
	atomic_fetch_add_explicit(&vq->vdev->rx_bytes, length, memory_order_relaxed);
	vrd_path_deliver(vq->qp, data, length, &cqe);
}

/* Handles the completion of a bounce receive. */
void vrd_ibv_bounce_received(struct vrd_ibv_qp *vq, const struct ibv_wc *wc)
{
	uint32_t i = (uint32_t)wc->wr_id;

	if (wc->status != IBV_WC_SUCCESS) {
		/* Flushed, or an error that has moved the host's QP to ERR. */
		if (wc->status != IBV_WC_WR_FLUSH_ERR)
			vrd_qp_error(vq->qp, VIRTIO_RDMA_QPS_ERR, VRD_HELD_NONE);
		return;
	}
	if (wc->byte_len >= GRH_LEN && wc->byte_len <= RECV_LEN)
		deliver(vq, vq->recvs.data + (size_t)i * RECV_LEN, wc);
	post(vq, i);
}
