// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Buffers of rings: extents to pages, and what a new memory table means for
 * everything that keeps host addresses.
 *
 * Called by the control and shell threads under dev->lock; translations change
 * only while no poller runs on the device.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "transport.h"
#include "mem.h"
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
	buf->host[i] = vrd_mem_range(mem, buf->frames[i] << VIRTIO_RDMA_PAGE_SHIFT, PAGE_SIZE,
				     true);
}

int vrd_buf_create(struct vrd_device *dev, struct vrd_buf *buf, const struct vrd_extents *x,
		   uint64_t size)
{
	uint64_t pages = (size + PAGE_SIZE - 1) >> VIRTIO_RDMA_PAGE_SHIFT;
	uint64_t given, frame;
	uint32_t i, n, p;
	int ret;

	ret = vrd_extents_check(x, &given);
	if (ret)
		return ret;
	if (!pages || given < pages || pages > UINT32_MAX)
		return -EINVAL;
	/* A page may be named again and again, so the rings of a device could be
	 * larger than its memory, and with them our page arrays.
	 */
	if (!dev->mem || dev->ring_pages + pages > dev->mem->pages)
		return -ENOMEM;

	buf->num_pages = (uint32_t)pages;
	buf->frames = malloc(pages * (sizeof(buf->frames[0]) + sizeof(buf->host[0])));
	if (!buf->frames)
		return -ENOMEM;
	buf->host = (void **)(buf->frames + pages);
	for (i = 0, n = 0; i < x->num && n < pages; i++) {
		frame = le64toh(x->ext[i].addr) >> VIRTIO_RDMA_PAGE_SHIFT;
		for (p = le32toh(x->ext[i].pages); p && n < pages; p--)
			buf->frames[n++] = frame++;
	}
	for (i = 0; i < buf->num_pages; i++) {
		translate_page(dev->mem, buf, i);
		if (!buf->host[i]) {
			free(buf->frames);
			*buf = (struct vrd_buf) { 0 };
			return -EFAULT;
		}
	}
	dev->ring_pages += pages;
	return 0;
}

void vrd_buf_destroy(struct vrd_device *dev, struct vrd_buf *buf)
{
	dev->ring_pages -= buf->num_pages;
	free(buf->frames);
	*buf = (struct vrd_buf) { 0 };
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
		if (vrd_mem_changed(dev->mem, buf->frames[i] << VIRTIO_RDMA_PAGE_SHIFT, PAGE_SIZE))
			translate_page(dev->mem, buf, i);
	}
}

void *vrd_buf_at(const struct vrd_buf *buf, uint32_t offset)
{
	uint8_t *page = buf->host[offset >> VIRTIO_RDMA_PAGE_SHIFT];

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
		buf->host[i] = NULL;
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
		/* Completions of what is destroyed are dropped. */
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
