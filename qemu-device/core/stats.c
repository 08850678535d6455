// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Statistics of a device, by name, for front ends.  The guest reads its counters with
 * QUERY_STATS (cmd_device.c).
 */
#include "control.h"

static const char *const stat_names[] = {
	[VIRTIO_RDMA_STAT_NOTIFY]	= "notify",
	[VIRTIO_RDMA_STAT_WAKEUP]	= "wakeup",
	[VIRTIO_RDMA_STAT_COMP_EVENTS]	= "comp_events",
	[VIRTIO_RDMA_STAT_INTERRUPTS]	= "interrupts",
	[VIRTIO_RDMA_STAT_SCANS]	= "scans",
	[VIRTIO_RDMA_STAT_COMMANDS]	= "commands",
	[VIRTIO_RDMA_STAT_SEND]		= "send",
	[VIRTIO_RDMA_STAT_WRITE]	= "write",
	[VIRTIO_RDMA_STAT_READ]		= "read",
	[VIRTIO_RDMA_STAT_ATOMIC]	= "atomic",
	[VIRTIO_RDMA_STAT_RECV]		= "recv",
	[VIRTIO_RDMA_STAT_TX_BYTES]	= "tx_bytes",
	[VIRTIO_RDMA_STAT_RX_BYTES]	= "rx_bytes",
	[VIRTIO_RDMA_STAT_RNR]		= "rnr",
	[VIRTIO_RDMA_STAT_RETRY]	= "retry",
	[VIRTIO_RDMA_STAT_ERRORS]	= "errors",
	[VIRTIO_RDMA_STAT_UD_DROPS]	= "ud_drops",
};

_Static_assert(sizeof(stat_names) / sizeof(stat_names[0]) == VIRTIO_RDMA_STAT_COUNT,
	       "each counter has a name");

uint64_t vrd_stat_read(const struct vrd_device *dev, unsigned int stat)
{
	uint64_t sum = atomic_load_explicit(&dev->stats[stat], memory_order_relaxed);

	for (unsigned int i = 0; i < vrd_engine_poller_count(dev->engine); i++)
		sum += atomic_load_explicit(&dev->counters[i].n[stat], memory_order_relaxed);
	return sum;
}

void vrd_device_stats(struct vrd_device *dev,
		      void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque)
{
	uint64_t ctxs, pds, mrs, cqs, srqs, qps, ring_pages, ending, pending;
	unsigned int i;

	for (i = 0; i < VIRTIO_RDMA_STAT_COUNT; i++)
		fn(opaque, stat_names[i], vrd_stat_read(dev, i));

	vrd_device_lock(dev);
	ctxs = dev->ctxs.count;
	pds = dev->pds.count;
	mrs = dev->mrs.count;
	cqs = dev->cqs.count;
	srqs = dev->srqs.count;
	qps = dev->qps.count;
	ring_pages = dev->ring_pages;
	ending = dev->ends.num;
	pending = dev->cmds.num_running;
	vrd_device_unlock(dev);
	fn(opaque, "contexts", ctxs);
	fn(opaque, "pds", pds);
	fn(opaque, "mrs", mrs);
	fn(opaque, "cqs", cqs);
	fn(opaque, "srqs", srqs);
	fn(opaque, "qps", qps);
	fn(opaque, "mr_bytes", vrd_device_mr_bytes(dev));
	fn(opaque, "ring_bytes", ring_pages << VIRTIO_RDMA_PAGE_SHIFT);
	/* After a reset as well: what the host's RDMA stack still has of the earlier driver. */
	fn(opaque, "objects_ending", ending);
	fn(opaque, "commands_pending", pending);
	vrd_transports_stats(dev, fn, opaque);
}
