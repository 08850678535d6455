// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Buffers of rings: from extents to pages, and the update of all stored hvas after a change
 * of the memory table.
 *
 * Called by the control and front end threads under dev->lock.  Translations change only
 * while no poller runs on the device.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "transport.h"
#include "mem.h"
#include "end.h"
#include "mr.h"
#include "poller.h"

#define PAGE_SIZE	((uint64_t)VIRTIO_RDMA_PAGE_SIZE)

int vrd_extents_check(const struct vrd_extents *x, uint64_t *pages)
{
	uint64_t sum = 0, addr;
	uint32_t i, n;

	for (i = 0; i < x->num; i++) {
		addr = le64toh(x->ext[i].addr);
		n = le32toh(x->ext[i].pages);
		if (x->ext[i].reserved || !n || (addr & (PAGE_SIZE - 1)))
			return -EINVAL;
		sum += n;	/* 4096 extents of 2^32 pages do not overflow */
	}
	*pages = sum;
	return 0;
}

static void translate_page(const struct vrd_mem *mem, struct vrd_buf *buf, uint32_t i)
{
	buf->hva[i] = vrd_mem_range(mem, (uint64_t)buf->pfns[i] << VIRTIO_RDMA_PAGE_SHIFT,
				    PAGE_SIZE, true);
}

/* ---- pages and their quota ------------------------------------------------ */

static int pages_alloc(struct vrd_device *dev, struct vrd_buf *buf, uint64_t pages)
{
	uint64_t quota = dev->limits.max_ring_bytes >> VIRTIO_RDMA_PAGE_SHIFT;

	/*
	 * A guest may name the same page many times, so the size of its memory does not bound
	 * its rings or the arrays here.
	 */
	if (pages > quota || dev->ring_pages > quota - pages)
		return -ENOMEM;
	buf->hva = malloc(pages * (sizeof(buf->hva[0]) + sizeof(buf->pfns[0])));
	if (!buf->hva)
		return -ENOMEM;
	buf->pfns = (uint32_t *)(buf->hva + pages);
	buf->num_pages = (uint32_t)pages;
	dev->ring_pages += pages;
	return 0;
}

static void pages_free(struct vrd_device *dev, struct vrd_buf *buf)
{
	dev->ring_pages -= buf->num_pages;
	free(buf->hva);
	*buf = (struct vrd_buf) { 0 };
}

/*
 * Writes the pfns of @x from index @first on, up to the end of the buffer.  -EFAULT: a page
 * is above all addresses that a memory table can have.
 */
static int pages_fill(struct vrd_buf *buf, uint32_t first, const struct vrd_extents *x)
{
	_Static_assert(VRD_MEM_ADDR_BITS - VIRTIO_RDMA_PAGE_SHIFT <= 32, "pfns have 32 bits");
	uint32_t i, p, n = first;
	uint64_t pfn;

	for (i = 0; i < x->num; i++) {
		pfn = le64toh(x->ext[i].addr) >> VIRTIO_RDMA_PAGE_SHIFT;
		for (p = le32toh(x->ext[i].pages); p && n < buf->num_pages; p--) {
			if (pfn > UINT32_MAX)
				return -EFAULT;
			buf->pfns[n++] = (uint32_t)pfn++;
		}
	}
	return 0;
}

static int pages_translate(struct vrd_device *dev, struct vrd_buf *buf)
{
	uint32_t i;

	for (i = 0; i < buf->num_pages; i++) {
		translate_page(dev->mem, buf, i);
		if (!buf->hva[i])
			return -EFAULT;
	}
	return 0;
}

/* ---- handles ----------------------------------------------------------------- */

/* Maximum number of handles: the list is searched linearly. */
#define MAX_HANDLES	256
/* Offsets into a buffer have 32 bits. */
#define MAX_PAGES	(1U << 20)

struct vrd_handle_buf {
	LIST_ENTRY(vrd_handle_buf) link;	/* dev->handle_bufs */
	uint32_t id;
	uint32_t filled;			/* pages that have been added */
	bool taken;				/* a command in progress uses it */
	bool orphan;				/* a reset removed it from the list */
	struct vrd_ctx *ctx;
	struct vrd_buf buf;
};

static struct vrd_handle_buf *find_handle(struct vrd_device *dev, uint32_t id)
{
	struct vrd_handle_buf *h;

	LIST_FOREACH(h, &dev->handle_bufs, link) {
		if (h->id == id)
			return h;
	}
	return NULL;
}

static void handle_unlink(struct vrd_device *dev, struct vrd_handle_buf *h)
{
	LIST_REMOVE(h, link);
	dev->num_handle_bufs--;
	vrd_end_unuse(dev, &h->ctx->end, &h->ctx->users);
}

static void handle_free(struct vrd_device *dev, struct vrd_handle_buf *h)
{
	pages_free(dev, &h->buf);
	free(h);
}

static uint32_t new_id(struct vrd_device *dev)
{
	do {
		dev->last_handle_buf++;
	} while (!dev->last_handle_buf || find_handle(dev, dev->last_handle_buf));
	return dev->last_handle_buf;
}

static int handle_fill(struct vrd_handle_buf *h, const struct vrd_extents *x)
{
	uint64_t pages;
	int ret;

	ret = vrd_extents_check(x, &pages);
	if (ret)
		return ret;
	if (!pages || pages > h->buf.num_pages - h->filled)
		return -EINVAL;
	ret = pages_fill(&h->buf, h->filled, x);
	if (!ret)
		h->filled += (uint32_t)pages;
	return ret;
}

int vrd_handle_buf_create(struct vrd_ctx *ctx, uint64_t pages, const struct vrd_extents *x,
			  uint32_t *handle)
{
	struct vrd_device *dev = ctx->dev;
	struct vrd_handle_buf *h;
	int ret;

	if (!pages || pages > MAX_PAGES)
		return -EINVAL;
	if (dev->num_handle_bufs >= MAX_HANDLES)
		return -ENOMEM;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	ret = pages_alloc(dev, &h->buf, pages);
	if (ret) {
		free(h);
		return ret;
	}
	ret = handle_fill(h, x);
	if (ret) {
		handle_free(dev, h);
		return ret;
	}
	h->id = new_id(dev);
	h->ctx = ctx;
	ctx->users++;
	LIST_INSERT_HEAD(&dev->handle_bufs, h, link);
	dev->num_handle_bufs++;
	*handle = h->id;
	return 0;
}

int vrd_handle_buf_fill(struct vrd_device *dev, uint32_t handle, const struct vrd_extents *x)
{
	struct vrd_handle_buf *h = find_handle(dev, handle);

	return h ? handle_fill(h, x) : -ENOENT;
}

int vrd_handle_buf_destroy(struct vrd_device *dev, uint32_t handle)
{
	struct vrd_handle_buf *h = find_handle(dev, handle);

	if (!h)
		return -ENOENT;
	handle_unlink(dev, h);
	handle_free(dev, h);
	return 0;
}

/* A handle that a command uses is freed by vrd_buf_destroy(), when the command ends. */
void vrd_buf_destroy_all(struct vrd_device *dev)
{
	struct vrd_handle_buf *h;

	while ((h = LIST_FIRST(&dev->handle_bufs))) {
		handle_unlink(dev, h);
		if (h->taken)
			h->orphan = true;
		else
			handle_free(dev, h);
	}
}

/* Uses the pages of a handle for an object.  The handle owns them until vrd_buf_keep(). */
static int take_handle(struct vrd_ctx *ctx, struct vrd_buf *buf, uint32_t handle, uint64_t pages)
{
	struct vrd_handle_buf *h = find_handle(ctx->dev, handle);
	int ret;

	if (!h)
		return -ENOENT;
	if (h->ctx != ctx || h->taken || h->filled < h->buf.num_pages || h->buf.num_pages < pages)
		return -EINVAL;
	/* The memory table may have changed since the pages were added. */
	ret = pages_translate(ctx->dev, &h->buf);
	if (ret)
		return ret;
	h->taken = true;
	*buf = h->buf;
	buf->from = h;
	return 0;
}

/* ---- buffers of objects ------------------------------------------------------- */

int vrd_buf_create(struct vrd_ctx *ctx, struct vrd_buf *buf, const struct virtio_rdma_buf *desc,
		   const struct vrd_extents *x, uint64_t size)
{
	uint64_t pages = (size + PAGE_SIZE - 1) >> VIRTIO_RDMA_PAGE_SHIFT;
	struct vrd_device *dev = ctx->dev;
	uint64_t given;
	int ret;

	if (!pages || pages > UINT32_MAX || (desc->handle && x->num))
		return -EINVAL;
	if (desc->handle)
		return take_handle(ctx, buf, le32toh(desc->handle), pages);
	ret = vrd_extents_check(x, &given);
	if (ret)
		return ret;
	if (given < pages)
		return -EINVAL;
	ret = pages_alloc(dev, buf, pages);
	if (ret)
		return ret;
	ret = pages_fill(buf, 0, x);
	if (!ret)
		ret = pages_translate(dev, buf);
	if (ret)
		pages_free(dev, buf);
	return ret;
}

void vrd_buf_keep(struct vrd_device *dev, struct vrd_buf *buf)
{
	struct vrd_handle_buf *h = buf->from;

	if (!h)
		return;
	handle_unlink(dev, h);
	free(h);
	buf->from = NULL;
}

void vrd_buf_destroy(struct vrd_device *dev, struct vrd_buf *buf)
{
	struct vrd_handle_buf *h = buf->from;

	if (!h) {
		pages_free(dev, buf);
		return;
	}
	*buf = (struct vrd_buf) { 0 };
	h->taken = false;
	if (h->orphan)
		handle_free(dev, h);
}

void vrd_buf_translate(struct vrd_device *dev, struct vrd_buf *buf)
{
	uint32_t i;

	for (i = 0; i < buf->num_pages; i++)
		translate_page(dev->mem, buf, i);
}

void vrd_buf_retranslate(struct vrd_device *dev, struct vrd_buf *buf)
{
	uint32_t i;

	for (i = 0; i < buf->num_pages; i++) {
		if (vrd_mem_changed(dev->mem, (uint64_t)buf->pfns[i] << VIRTIO_RDMA_PAGE_SHIFT,
				    PAGE_SIZE))
			translate_page(dev->mem, buf, i);
	}
}

void *vrd_buf_at(const struct vrd_buf *buf, uint32_t offset)
{
	uint8_t *page = buf->hva[offset >> VIRTIO_RDMA_PAGE_SHIFT];

	return page ? page + (offset & (PAGE_SIZE - 1)) : NULL;
}

void vrd_rings_retranslate(struct vrd_device *dev)
{
	struct vrd_ctx *ctx;
	struct vrd_srq *srq;
	struct vrd_cq *cq;
	struct vrd_qp *qp;
	struct vrd_mr *mr;
	uint32_t pos;

	vrd_rings_stale(dev);
	for (pos = 0; (ctx = vrd_table_next(&dev->ctxs, &pos));)
		ctx->db = vrd_mem_range(dev->mem, ctx->db_addr, PAGE_SIZE, true);
	for (pos = 0; (cq = vrd_table_next(&dev->cqs, &pos));) {
		vrd_buf_retranslate(dev, &cq->buf);
		cq->ctrl = vrd_buf_at(&cq->buf, cq->ctrl_offset);
	}
	for (pos = 0; (qp = vrd_table_next(&dev->qps, &pos));) {
		vrd_buf_retranslate(dev, &qp->buf);
		if (qp->sq.entries)
			qp->sq.ctrl = vrd_buf_at(&qp->buf, qp->sq.ctrl_offset);
		if (qp->rq.entries)
			qp->rq.ctrl = vrd_buf_at(&qp->buf, qp->rq.ctrl_offset);
	}
	for (pos = 0; (srq = vrd_table_next(&dev->srqs, &pos));) {
		vrd_buf_retranslate(dev, &srq->buf);
		srq->ring.ctrl = vrd_buf_at(&srq->buf, srq->ring.ctrl_offset);
	}
	for (pos = 0; (mr = vrd_table_next(&dev->mrs, &pos));)
		vrd_mr_retranslate(dev, mr, false);
}

static void forget_buf(struct vrd_buf *buf)
{
	uint32_t i;

	for (i = 0; i < buf->num_pages; i++)
		buf->hva[i] = NULL;
}

void vrd_rings_forget(struct vrd_device *dev)
{
	struct vrd_ctx *ctx;
	struct vrd_srq *srq;
	struct vrd_cq *cq;
	struct vrd_qp *qp;
	uint32_t pos;

	for (pos = 0; (ctx = vrd_table_next(&dev->ctxs, &pos));)
		ctx->db = NULL;
	for (pos = 0; (cq = vrd_table_next(&dev->cqs, &pos));) {
		vrd_lock(&cq->lock);
		forget_buf(&cq->buf);
		cq->ctrl = NULL;
		/* Completions are dropped while the objects are destroyed. */
		__atomic_store_n(&cq->error, true, __ATOMIC_RELAXED);
		vrd_unlock(&cq->lock);
	}
	for (pos = 0; (qp = vrd_table_next(&dev->qps, &pos));) {
		forget_buf(&qp->buf);
		qp->sq.ctrl = NULL;
		qp->rq.ctrl = NULL;
	}
	for (pos = 0; (srq = vrd_table_next(&dev->srqs, &pos));) {
		forget_buf(&srq->buf);
		srq->ring.ctrl = NULL;
	}
}
