/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Telling the device that a ring of the kernel's own context has new entries:
 * the driver's half of the doorbell protocol (device spec 5.3).
 */
#ifndef VRDMA_DOORBELL_H
#define VRDMA_DOORBELL_H

#include <asm/barrier.h>

#include "vrdma.h"

/*
 * Wakes a sleeping poller.  May be called in any context, by many at once: the
 * queue never carries a buffer.
 */
static inline void vrdma_kick(struct vrdma_dev *dev)
{
	atomic64_inc(&dev->kicks);
	/* The queue is deleted one grace period after the device is dead. */
	rcu_read_lock();
	if (!vrdma_dead(dev))
		virtqueue_notify(dev->doorbell);
	rcu_read_unlock();
}

/*
 * Publish @ring's entries up to its head; called under its lock, once per list
 * of work requests.
 */
static inline void vrdma_ring_publish(struct vrdma_dev *dev,
				      struct vrdma_ring *ring)
{
	u32 slot = ring->slot;

	/* The entries before their index; pairs with the device's acquire. */
	virt_store_release(&ring->ctrl->producer, cpu_to_le32(ring->head));
	/*
	 * The index before need_db is read.  The device sets need_db, then
	 * reads the index: one of the two sees the other's store.
	 */
	virt_mb();
	if (!READ_ONCE(ring->ctrl->need_db))
		return;
	/* The device chose the slot; vrdma_create_qp() checked its range. */
	WRITE_ONCE(dev->db->dirty[slot], 1);
	/*
	 * The device stores 0 to the summary byte, executes a full barrier and
	 * loads the dirty bytes.  Without a full barrier here, a CPU whose stores
	 * do not become visible to all others at once (POWER) could have the
	 * device clear the summary byte and miss the dirty one.
	 */
	virt_mb();
	WRITE_ONCE(dev->db->summary[slot / 64], 1);
	/* As above, with need_wakeup and a poller about to sleep. */
	virt_mb();
	if (READ_ONCE(dev->db->need_wakeup))
		vrdma_kick(dev);
}

#endif /* VRDMA_DOORBELL_H */
