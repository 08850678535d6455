// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mixed transport: the device, which is opened as both, and what it can do: what
 * both can.  Control and shell threads, dev->lock.
 */
#include <errno.h>
#include <stdlib.h>

#include "log.h"
#include "mix.h"

static const struct vrd_ibv_sharing sharing = {
	.is_hosts	= vrd_mix_is_hosts,
	.received	= vrd_mix_received,
	.returned	= vrd_mix_returned,
};

static void vrd_mix_device_close(struct vrd_device *dev)
{
	struct vrd_mix_dev *mix = vrd_mix_dev(dev);

	vrd_mem_device_close(dev);
	vrd_ibverbs_transport.device_close(dev);
	free(mix);
}

static int vrd_mix_device_open(struct vrd_device *dev, const struct vrd_device_config *cfg,
			       struct vrd_error *err)
{
	struct vrd_mix_dev *mix = calloc(1, sizeof(*mix));
	int ret;

	if (!mix)
		return vrd_fail(err, -ENOMEM, "", "out of memory");
	ret = vrd_ibverbs_transport.device_open(dev, cfg, err);
	if (ret)
		goto free;
	vrd_ibv_dev(dev)->sharing = &sharing;
	vrd_ibv_dev(dev)->mix = mix;
	ret = vrd_mem_device_open(dev, cfg, err);
	if (!ret)
		return 0;
	vrd_ibverbs_transport.device_close(dev);
free:
	free(mix);
	return ret;
}

static void lower(uint32_t *n, uint32_t other)
{
	if (other < *n)
		*n = other;
}

static void vrd_mix_device_query(struct vrd_device *dev, struct vrd_caps *caps)
{
	struct vrd_caps memory;

	vrd_ibverbs_transport.device_query(dev, caps);
	vrd_memory_transport.device_query(dev, &memory);
	caps->caps &= memory.caps;
	/*
	 * Some atomics would be made by the host's CPU and some by its RDMA device:
	 * they are atomic together only if the latter's are so for all.
	 */
	if (!(caps->caps & VIRTIO_RDMA_CAP_ATOMIC_GLOBAL))
		caps->caps &= ~(uint64_t)VIRTIO_RDMA_CAP_ATOMIC;
	if (memory.max_mr_size < caps->max_mr_size)
		caps->max_mr_size = memory.max_mr_size;
	lower(&caps->max_msg_sz, memory.max_msg_sz);
	lower(&caps->max_qp_rd_atom, memory.max_qp_rd_atom);
	lower(&caps->max_qp_init_rd_atom, memory.max_qp_init_rd_atom);
}

static void vrd_mix_device_stats(struct vrd_device *dev,
				 void (*fn)(void *opaque, const char *name, uint64_t value),
				 void *opaque)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(dev);
	struct vrd_mix_dev *mix = vrd_mix_dev(dev);

	fn(opaque, "qps_local", atomic_load(&mix->qps_local));
	fn(opaque, "qps_host", atomic_load(&mix->qps_host));
	fn(opaque, "host_tx_bytes", atomic_load(&vdev->tx_bytes));
	fn(opaque, "host_rx_bytes", atomic_load(&vdev->rx_bytes));
	vrd_ibverbs_transport.device_stats(dev, fn, opaque);
}

static uint8_t vrd_mix_port_state(struct vrd_device *dev)
{
	return vrd_ibverbs_transport.port_state(dev);
}

/* ---- GIDs: of both ----------------------------------------------------------- */

static int vrd_mix_gid_add(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	int ret = vrd_mem_gid_add(dev, index, gid);

	if (ret)
		return ret;
	ret = vrd_ibv_gid_add(dev, index, gid);
	if (ret)
		vrd_mem_gid_del(dev, index, gid);
	return ret;
}

static void vrd_mix_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	vrd_ibv_gid_del(dev, index, gid);
	vrd_mem_gid_del(dev, index, gid);
}

/* ---- objects that the memory transport knows nothing of -------------------------- */

static int vrd_mix_pd_alloc(struct vrd_pd *pd)
{
	return vrd_ibverbs_transport.pd_alloc(pd);
}

static void vrd_mix_pd_dealloc(struct vrd_pd *pd)
{
	vrd_ibverbs_transport.pd_dealloc(pd);
}

const struct vrd_transport_ops vrd_mixed_transport = {
	.name		= "mixed",
	.host_numbers	= true,
	.device_open	= vrd_mix_device_open,
	.device_close	= vrd_mix_device_close,
	.device_query	= vrd_mix_device_query,
	.device_stats	= vrd_mix_device_stats,
	.device_resumed	= vrd_mem_device_resumed,
	.port_state	= vrd_mix_port_state,
	.gid_add	= vrd_mix_gid_add,
	.gid_del	= vrd_mix_gid_del,
	.pd_alloc	= vrd_mix_pd_alloc,
	.pd_dealloc	= vrd_mix_pd_dealloc,
	.mr_reg		= vrd_ibv_mr_reg,
	.mr_dereg	= vrd_ibv_mr_dereg,
	.mem_changed	= vrd_ibv_mem_changed,
	.cq_create	= vrd_ibv_cq_create,
	.cq_destroy	= vrd_ibv_cq_destroy,
	.srq_create	= vrd_mix_srq_create,
	.srq_destroy	= vrd_mix_srq_destroy,
	.srq_free	= vrd_mix_srq_free,
	.srq_run	= vrd_mix_srq_run,
	.qp_create	= vrd_mix_qp_create,
	.qp_modify	= vrd_ibv_qp_modify,
	.qp_modify_slow	= vrd_mix_qp_modify_slow,
	.qp_modify_commit = vrd_mix_qp_commit,
	.qp_query	= vrd_mix_qp_query,
	.qp_destroy	= vrd_mix_qp_destroy,
	.qp_free	= vrd_mix_qp_free,
	.sq_run		= vrd_mix_sq_run,
	.rq_run		= vrd_mix_rq_run,
	.poll		= vrd_ibv_poll,
	.poll_sleep	= vrd_ibv_poll_sleep,
};
