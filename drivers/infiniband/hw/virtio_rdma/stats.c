// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Counters of the device and of the driver, as shown by "rdma statistic" and in the
 * hw_counters of /sys/class/infiniband.  Called by the core in process context.
 */
#include "cmd.h"

static const struct rdma_stat_desc vrdma_stat_descs[] = {
	[VIRTIO_RDMA_STAT_NOTIFY].name = "notify",
	[VIRTIO_RDMA_STAT_WAKEUP].name = "wakeup",
	[VIRTIO_RDMA_STAT_COMP_EVENTS].name = "comp_events",
	[VIRTIO_RDMA_STAT_INTERRUPTS].name = "interrupts",
	[VIRTIO_RDMA_STAT_SCANS].name = "scans",
	[VIRTIO_RDMA_STAT_COMMANDS].name = "commands",
	[VIRTIO_RDMA_STAT_SEND].name = "send",
	[VIRTIO_RDMA_STAT_WRITE].name = "write",
	[VIRTIO_RDMA_STAT_READ].name = "read",
	[VIRTIO_RDMA_STAT_ATOMIC].name = "atomic",
	[VIRTIO_RDMA_STAT_RECV].name = "recv",
	[VIRTIO_RDMA_STAT_TX_BYTES].name = "tx_bytes",
	[VIRTIO_RDMA_STAT_RX_BYTES].name = "rx_bytes",
	[VIRTIO_RDMA_STAT_RNR].name = "rnr",
	[VIRTIO_RDMA_STAT_RETRY].name = "retry",
	[VIRTIO_RDMA_STAT_ERRORS].name = "errors",
	[VIRTIO_RDMA_STAT_UD_DROPS].name = "ud_drops",
	/* The driver's own. */
	[VIRTIO_RDMA_STAT_COUNT].name = "kicks",
	[VIRTIO_RDMA_STAT_COUNT + 1].name = "comp_irqs",
	[VIRTIO_RDMA_STAT_COUNT + 2].name = "async_events",
};

struct rdma_hw_stats *vrdma_alloc_hw_device_stats(struct ib_device *ibdev)
{
	return rdma_alloc_hw_stats_struct(vrdma_stat_descs,
					  ARRAY_SIZE(vrdma_stat_descs),
					  RDMA_HW_STATS_DEFAULT_LIFESPAN);
}

/* The same as the device's, which has one port; shown by "rdma statistic". */
struct rdma_hw_stats *vrdma_alloc_hw_port_stats(struct ib_device *ibdev,
						u32 port)
{
	return vrdma_alloc_hw_device_stats(ibdev);
}

int vrdma_get_hw_stats(struct ib_device *ibdev, struct rdma_hw_stats *stats,
		       u32 port, int index)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibdev);
	u64 *own = &stats->value[VIRTIO_RDMA_STAT_COUNT];
	int ret;

	ret = vrdma_cmd_query_stats(dev, stats->value, VIRTIO_RDMA_STAT_COUNT);
	if (ret)
		return ret;
	own[0] = atomic64_read(&dev->kicks);
	own[1] = atomic64_read(&dev->comp_irqs);
	own[2] = atomic64_read(&dev->async_events);
	return ARRAY_SIZE(vrdma_stat_descs);
}
