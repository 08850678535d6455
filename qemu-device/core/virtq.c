// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Split virtqueues, the device's side: virtio 1.2, section 2.7, with indirect
 * descriptors and EVENT_IDX.  See virtq.h for the locking.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport.h"
#include "mem.h"
#include "notify.h"
#include "store.h"
#include "virtq.h"

/* Layout of the used ring: flags, idx, {id, len}[num], avail_event. */
#define USED_FLAGS(vq)		((__le16 *)((vq)->used))
#define USED_IDX(vq)		((__le16 *)((vq)->used + 2))
#define USED_RING(vq, i)	((__le32 *)((vq)->used + 4 + 8 * (size_t)(i)))
#define USED_EVENT_OF_AVAIL(vq)	((__le16 *)((vq)->used + 4 + 8 * (size_t)(vq)->num))

#define DESC_SIZE		16U
#define AVAIL_SIZE(num)		(6 + 2 * (uint64_t)(num))
#define USED_SIZE(num)		(6 + 8 * (uint64_t)(num))

void vrd_device_fail(struct vrd_device *dev, const char *fmt, ...)
{
	uint64_t one = 1;
	char msg[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	atomic_store(&dev->broken, true);
	if (write(dev->error_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		vrd_log(dev->engine, VRD_LOG_ERROR, "%s: error descriptor: %s", dev->name,
			strerror(errno));
	vrd_dev_log(dev, VRD_LOG_ERROR, "the device needs a reset: %s", msg);
}

static enum vrd_vq_pop corrupt(struct vrd_vq *vq, const char *what, uint32_t value)
{
	vq->broken = true;
	vrd_device_fail(vq->dev, "virtqueue %u: %s (%u)", vq->index, what, value);
	return VRD_VQ_BROKEN;
}

/* ---- life cycle -------------------------------------------------------- */

struct vrd_vq *vrd_vq_create(struct vrd_device *dev, unsigned int index)
{
	struct vrd_vq *vq = calloc(1, sizeof(*vq));

	unsigned int segs = index == VIRTIO_RDMA_VQ_CONTROL ? VRD_VQ_CMD_SEGS : VRD_VQ_EVENT_SEGS;

	if (!vq)
		return NULL;
	vq->elem = calloc(1, sizeof(*vq->elem) + segs * sizeof(vq->elem->seg[0]));
	if (!vq->elem) {
		free(vq);
		return NULL;
	}
	vq->elem->max_segs = segs;
	vq->dev = dev;
	vq->index = index;
	vrd_lock_init(&vq->lock, VRD_LOCK_VQ);
	TAILQ_INIT(&vq->waiting);
	vq->kick_fd = -1;
	vq->call_fd = -1;
	return vq;
}

void vrd_vq_destroy(struct vrd_vq *vq)
{
	if (!vq)
		return;
	if (vq->kick_fd >= 0)
		close(vq->kick_fd);
	if (vq->call_fd >= 0)
		close(vq->call_fd);
	free(vq->elem);
	free(vq);
}

bool vrd_vq_translate_locked(struct vrd_vq *vq, const struct vrd_mem *mem)
{
	vq->mem = mem;
	vq->desc = vrd_mem_range(mem, vq->desc_addr, (uint64_t)vq->num * DESC_SIZE, false);
	vq->avail = vrd_mem_range(mem, vq->avail_addr, AVAIL_SIZE(vq->num), false);
	vq->used = vrd_mem_range(mem, vq->used_addr, USED_SIZE(vq->num), true);
	if (vq->desc && vq->avail && vq->used)
		return true;
	vq->desc = NULL;
	vq->avail = NULL;
	vq->used = NULL;
	return false;
}

int vrd_vq_start(struct vrd_vq *vq, const struct vrd_vq_config *cfg, struct vrd_error *err)
{
	if (!cfg->num || cfg->num > VRD_VQ_MAX_SIZE || (cfg->num & (cfg->num - 1)))
		return vrd_fail(err, -EINVAL, "", "virtqueue %u: size %u is not a power of two up to %u",
				vq->index, cfg->num, VRD_VQ_MAX_SIZE);
	if ((cfg->desc & 15) || (cfg->avail & 1) || (cfg->used & 3))
		return vrd_fail(err, -EINVAL, "", "virtqueue %u: misaligned rings 0x%" PRIx64
				", 0x%" PRIx64 ", 0x%" PRIx64, vq->index, cfg->desc, cfg->avail,
				cfg->used);
	vrd_lock(&vq->lock);
	vq->num = cfg->num;
	vq->desc_addr = cfg->desc;
	vq->avail_addr = cfg->avail;
	vq->used_addr = cfg->used;
	if (!vrd_vq_translate_locked(vq, vq->dev->mem)) {
		vrd_unlock(&vq->lock);
		return vrd_fail(err, -EFAULT, "", "virtqueue %u: rings at 0x%" PRIx64 ", 0x%" PRIx64
				", 0x%" PRIx64 " are not in guest memory", vq->index, cfg->desc,
				cfg->avail, cfg->used);
	}
	vq->last_avail = cfg->last_avail;
	/*
	 * Only the device changes it while the queue runs.  A wrong value from the guest
	 * affects only the guest, so it is not checked.
	 */
	vq->used_idx = vrd_load16(USED_IDX(vq));
	vq->signalled_valid = false;
	vq->event_idx = vq->dev->features & (1ULL << VIRTIO_RING_F_EVENT_IDX);
	vq->broken = false;
	vq->started = true;
	vrd_unlock(&vq->lock);
	return 0;
}

int vrd_vq_dup_fd(int fd, bool *is_socket)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (own < 0)
		return -errno;
	if (is_socket)
		*is_socket = vrd_fd_is_unix_stream(own);
	return own;
}

/* ---- taking chains ----------------------------------------------------- */

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

static void load_desc(struct desc *d, const void *p)
{
	uint64_t raw[2];

	vrd_copy_in(raw, p, sizeof(raw));
	raw[1] = le64toh(raw[1]);
	d->addr = le64toh(raw[0]);
	d->len = (uint32_t)raw[1];
	d->flags = (uint16_t)(raw[1] >> 32);
	d->next = (uint16_t)(raw[1] >> 48);
}

/* Returns NULL, or a description of the error. */
static const char *add_seg(struct vrd_vq_elem *elem, const struct desc *d)
{
	if (elem->num_segs == elem->max_segs)
		return "chain is too long";
	elem->seg[elem->num_segs++] = (struct vrd_vq_seg) { .addr = d->addr, .len = d->len };
	if (d->flags & VRING_DESC_F_WRITE) {
		elem->writable += d->len;
		return NULL;
	}
	if (elem->num_readable != elem->num_segs - 1)
		return "readable descriptor after a writable one";
	elem->num_readable++;
	elem->readable += d->len;
	return NULL;
}

/* An indirect table may be in any RAM, so each entry is translated separately. */
static const char *read_indirect(struct vrd_vq *vq, struct vrd_vq_elem *elem,
				 const struct desc *table)
{
	uint32_t n = table->len / DESC_SIZE, i = 0, seen;
	struct desc d;
	void *p;

	if (!n || table->len % DESC_SIZE || n > UINT16_MAX)
		return "bad length of an indirect table";
	if (table->addr & 7)
		return "misaligned indirect table";
	for (seen = 0; seen < n; seen++) {
		p = vrd_mem_range(vq->mem, table->addr + (uint64_t)i * DESC_SIZE, DESC_SIZE, false);
		if (!p)
			return "indirect table outside of guest memory";
		load_desc(&d, p);
		if (d.flags & VRING_DESC_F_INDIRECT)
			return "indirect table in an indirect table";
		const char *wrong = add_seg(elem, &d);

		if (wrong)
			return wrong;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return NULL;
		if (d.next >= n)
			return "next descriptor beyond the indirect table";
		i = d.next;
	}
	return "loop of descriptors";
}

static const char *read_chain(struct vrd_vq *vq, struct vrd_vq_elem *elem)
{
	const char *wrong;
	uint32_t seen;
	uint16_t i = elem->head;
	struct desc d;

	elem->num_readable = 0;
	elem->num_segs = 0;
	elem->readable = 0;
	elem->writable = 0;
	for (seen = 0; seen < vq->num; seen++) {
		load_desc(&d, &vq->desc[i]);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (!(vq->dev->features & (1ULL << VIRTIO_RING_F_INDIRECT_DESC)))
				return "indirect descriptor, not negotiated";
			if (d.flags & VRING_DESC_F_NEXT)
				return "indirect descriptor with a next";
			return read_indirect(vq, elem, &d);
		}
		wrong = add_seg(elem, &d);
		if (wrong)
			return wrong;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return NULL;
		if (d.next >= vq->num)
			return "next descriptor beyond the table";
		i = d.next;
	}
	return "loop of descriptors";
}

/*
 * Number of chains that the driver has made available and the device has not taken.  A wrong
 * index can give more than the ring has.
 */
static uint16_t available(struct vrd_vq *vq)
{
	/* Acquire: the entries and descriptors were written before the index. */
	return (uint16_t)(vrd_load16_acquire((const __le16 *)&vq->avail[1]) - vq->last_avail);
}

enum vrd_vq_pop vrd_vq_pop_locked(struct vrd_vq *vq, struct vrd_vq_elem *elem)
{
	const char *wrong;
	uint16_t n;

	if (!vq->running || vq->broken)
		return VRD_VQ_EMPTY;
	if (!vq->desc)
		return corrupt(vq, "rings are not in guest memory any more", 0);
	n = available(vq);
	if (!n)
		return VRD_VQ_EMPTY;
	if (n > vq->num)
		return corrupt(vq, "available index is ahead by more than the ring", n);
	elem->head = vrd_load16((const __le16 *)&vq->avail[2 + (vq->last_avail & (vq->num - 1))]);
	if (elem->head >= vq->num)
		return corrupt(vq, "available entry beyond the descriptor table", elem->head);
	wrong = read_chain(vq, elem);
	if (wrong)
		return corrupt(vq, wrong, elem->head);
	vq->last_avail++;
	if (vq->event_idx && vq->kicks_wanted)
		vrd_guest_store16(vq->dev, USED_EVENT_OF_AVAIL(vq), vq->last_avail);
	return VRD_VQ_GOT;
}

bool vrd_vq_has_chain_locked(struct vrd_vq *vq)
{
	return vq->running && !vq->broken && (!vq->desc || available(vq));
}

void vrd_vq_want_kick_locked(struct vrd_vq *vq, bool want)
{
	if (!vq->used || !vq->running || vq->broken)
		return;
	vq->kicks_wanted = want;
	if (vq->event_idx) {
		/*
		 * The driver kicks when its index passes this one.  An index that it has just
		 * passed is passed again only after 65536 entries.
		 */
		vrd_guest_store16(vq->dev, USED_EVENT_OF_AVAIL(vq),
			    want ? vq->last_avail : (uint16_t)(vq->last_avail - 1));
	} else {
		vrd_guest_store16(vq->dev, USED_FLAGS(vq), want ? 0 : VRING_USED_F_NO_NOTIFY);
	}
	/*
	 * Pairs with the driver's barrier between its store of the index and its load of this
	 * word.
	 */
	vrd_full_barrier();
}

/* ---- returning chains -------------------------------------------------- */

void vrd_vq_push_locked(struct vrd_vq *vq, const struct vrd_vq_elem *elem, uint32_t written)
{
	__le32 *entry;

	if (!vq->used || !vq->running || vq->broken)
		return;
	entry = USED_RING(vq, vq->used_idx & (vq->num - 1));
	vrd_guest_store32(vq->dev, &entry[0], elem->head);
	vrd_guest_store32(vq->dev, &entry[1], written);
	vq->used_idx++;
	/* Release: entry and data come before the index. */
	vrd_guest_store16_release(vq->dev, USED_IDX(vq), vq->used_idx);
}

void vrd_vq_signal_locked(struct vrd_vq *vq)
{
	int ret;

	if (vq->call_fd < 0)
		return;
	vrd_stat_add(vq->dev, VIRTIO_RDMA_STAT_INTERRUPTS, 1);
	ret = vrd_notify(vrd_engine_notifier(vq->dev->engine), vq->call_fd, vq->call_is_socket);
	if (ret)
		vrd_dev_log(vq->dev, VRD_LOG_DEBUG, "virtqueue %u: call descriptor: %s", vq->index,
			    strerror(-ret));
}

void vrd_vq_notify_locked(struct vrd_vq *vq)
{
	uint16_t event, old = vq->signalled_used;
	bool first = !vq->signalled_valid;

	if (!vq->used || !vq->running || vq->broken)
		return;
	/*
	 * Pairs with the driver's barrier between its store of used_event or the flags and its
	 * last check of the used index.
	 */
	vrd_full_barrier();
	if (!vq->event_idx) {
		if (!(vrd_load16((const __le16 *)&vq->avail[0]) & VRING_AVAIL_F_NO_INTERRUPT))
			vrd_vq_signal_locked(vq);
		return;
	}
	vq->signalled_used = vq->used_idx;
	vq->signalled_valid = true;
	event = vrd_load16((const __le16 *)&vq->avail[2 + vq->num]);
	/* Signal if old <= event < used_idx, modulo 2^16. */
	if (first || (uint16_t)(vq->used_idx - event - 1) < (uint16_t)(vq->used_idx - old))
		vrd_vq_signal_locked(vq);
}

/* ---- copying data ------------------------------------------------------ */

/* Reads each byte once, in words where alignment permits: large requests are aligned. */
static void copy_once(uint8_t *to, const uint8_t *from, uint64_t len)
{
	uint64_t words = 0;

	if (!(((uintptr_t)to | (uintptr_t)from) & 7)) {
		words = len & ~7ULL;
		vrd_copy_in(to, from, words);
	}
	vrd_copy_in_bytes(to + words, from + words, len - words);
}

bool vrd_vq_read(struct vrd_vq *vq, const struct vrd_vq_elem *elem, void *buf, uint32_t len)
{
	uint8_t *to = buf;
	unsigned int i;

	for (i = 0; i < elem->num_readable && len; i++) {
		uint64_t addr = elem->seg[i].addr, run;
		uint32_t left = elem->seg[i].len < len ? elem->seg[i].len : len;

		len -= left;
		while (left) {
			void *from = vrd_mem_at(vq->mem, addr, left, false, &run);

			if (!from)
				return false;
			copy_once(to, from, run);
			to += run;
			addr += run;
			left -= (uint32_t)run;
		}
	}
	return !len;
}

bool vrd_vq_can_write(struct vrd_vq *vq, const struct vrd_vq_elem *elem, uint32_t len)
{
	unsigned int i;

	for (i = elem->num_readable; i < elem->num_segs && len; i++) {
		uint32_t left = elem->seg[i].len < len ? elem->seg[i].len : len;

		if (!vrd_mem_covers(vq->mem, elem->seg[i].addr, left, true))
			return false;
		len -= left;
	}
	return !len;
}

bool vrd_vq_write(struct vrd_vq *vq, const struct vrd_vq_elem *elem, const void *buf, uint32_t len)
{
	const uint8_t *from = buf;
	unsigned int i;

	for (i = elem->num_readable; i < elem->num_segs && len; i++) {
		uint64_t addr = elem->seg[i].addr, run;
		uint32_t left = elem->seg[i].len < len ? elem->seg[i].len : len;

		len -= left;
		while (left) {
			void *to = vrd_mem_at(vq->mem, addr, left, true, &run);

			if (!to)
				return false;
			vrd_guest_copy(vq->dev, to, from, run);
			from += run;
			addr += run;
			left -= (uint32_t)run;
		}
	}
	return !len;
}
