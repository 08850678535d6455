/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues, the device's side.
 *
 * The guest may write to a queue at any time: each word is read once, checked and then used.
 * A queue that violates the rules breaks the device (vrd_device_fail()): the queue is not
 * processed again until a reset.
 *
 * vq->lock protects all of struct vrd_vq; the caller of functions named _locked holds it.
 * It is the innermost lock; pollers take it for events.
 */
#ifndef VRD_VIRTQ_H
#define VRD_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "lock.h"
#include "objects.h"

struct vring_desc;
struct vrd_mem;

/*
 * Maximum number of descriptors in one chain; a longer chain breaks the queue.  Buffers of
 * the event and completion queues have 16 bytes.
 */
#define VRD_VQ_CMD_SEGS		1024
#define VRD_VQ_EVENT_SEGS	16
#define VRD_VQ_MAX_SIZE		32768

TAILQ_HEAD(vrd_cq_list, vrd_cq);

struct vrd_vq {
	struct vrd_device *dev;
	unsigned int index;
	struct vrd_lock lock;
	bool started;
	bool running;			/* started, and the control queue as well */
	bool broken;
	bool event_idx;			/* negotiated */
	uint16_t num;			/* a power of two */
	uint16_t last_avail;		/* next entry of the available ring to take */
	uint16_t used_idx;
	uint16_t signalled_used;	/* used_idx when used_event was last checked */
	bool signalled_valid;
	bool kicks_wanted;

	uint64_t desc_addr, avail_addr, used_addr;
	const struct vrd_mem *mem;	/* dev->mem; changes under the lock */
	/* Translations of the three rings, all or none. */
	const struct vring_desc *desc;
	const uint16_t *avail;		/* flags, idx, ring[num], used_event */
	uint8_t *used;

	int kick_fd;			/* a duplicate that the device owns; -1: none */
	int call_fd;
	bool call_is_socket;

	struct vrd_vq_elem *elem;	/* the chain that is being processed */
	struct vrd_cq_list waiting;	/* completion queues: CQs whose event has no buffer */
};

/* A part of a chain; @addr is a DMA address. */
struct vrd_vq_seg {
	uint64_t addr;
	uint32_t len;
};

/* A chain that was taken off the ring: readable segments first. */
struct vrd_vq_elem {
	uint16_t head;
	unsigned int num_readable, num_segs;
	uint64_t readable, writable;	/* bytes */
	unsigned int max_segs;
	struct vrd_vq_seg seg[];
};

enum vrd_vq_pop {
	VRD_VQ_EMPTY,
	VRD_VQ_GOT,
	VRD_VQ_BROKEN,
};

struct vrd_vq *vrd_vq_create(struct vrd_device *dev, unsigned int index);
void vrd_vq_destroy(struct vrd_vq *vq);

/* Checks the configuration and translates the rings; the queue is not running yet. */
int vrd_vq_start(struct vrd_vq *vq, const struct vrd_vq_config *cfg, struct vrd_error *err);
/* Translates the rings under a new memory table; false: they are not RAM there. */
bool vrd_vq_translate_locked(struct vrd_vq *vq, const struct vrd_mem *mem);

/* Marks the device as broken, signals its error descriptor and logs.  Any lock may be held. */
void vrd_device_fail(struct vrd_device *dev, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

enum vrd_vq_pop vrd_vq_pop_locked(struct vrd_vq *vq, struct vrd_vq_elem *elem);
/* True if there is a chain to take, or if the ring is invalid. */
bool vrd_vq_has_chain_locked(struct vrd_vq *vq);
/* Fills the used entry and publishes it to the driver. */
void vrd_vq_push_locked(struct vrd_vq *vq, const struct vrd_vq_elem *elem, uint32_t written);
/* Signals the call descriptor if the driver has enabled notifications. */
void vrd_vq_notify_locked(struct vrd_vq *vq);

/*
 * Enables or disables the driver's kicks for the next buffer.  After enabling them the
 * caller must check the queue once more; a full barrier is included.
 */
void vrd_vq_want_kick_locked(struct vrd_vq *vq, bool want);

/* Copies the first @len readable bytes; false: not RAM. */
bool vrd_vq_read(struct vrd_vq *vq, const struct vrd_vq_elem *elem, void *buf, uint32_t len);
/* True if the first @len writable bytes are RAM that may be written. */
bool vrd_vq_can_write(struct vrd_vq *vq, const struct vrd_vq_elem *elem, uint32_t len);
/* Copies to the first @len writable bytes; false: not RAM. */
bool vrd_vq_write(struct vrd_vq *vq, const struct vrd_vq_elem *elem, const void *buf,
		  uint32_t len);

/* A duplicate of @fd, or a negative errno. */
int vrd_vq_dup_fd(int fd, bool *is_socket);
void vrd_vq_signal_locked(struct vrd_vq *vq);

#endif /* VRD_VIRTQ_H */
