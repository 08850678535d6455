// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Memory that the device may access: pinned user memory (MRs, user rings) or
 * coherent memory of the driver (kernel rings, doorbell pages), described to the
 * device as extents.  Called by the verbs, in process context.
 *
 * Memory is not freed while the device may access it.  A buffer whose command
 * failed although it may have reached the device is parked until the device is
 * halted.
 */
#include <linux/dma-mapping.h>
#include <linux/mm.h>

#include "vrdma.h"

/* Largest contiguous piece that is allocated for a ring. */
#define VRDMA_CHUNK_MAX		SZ_64K

/*
 * Checks that the device accesses the user memory itself, and not a copy of it: the device
 * and the process access rings and regions at any time, so a copy cannot be kept in sync.
 */
static int vrdma_buf_check_mapping(struct vrdma_dev *dev, struct ib_umem *umem)
{
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(&umem->sgt_append.sgt, sg, i)
		if (vrdma_dma_bounced(dev->dma_dev, sg_dma_address(sg)))
			goto bounced;
	return 0;

bounced:
	if (!test_and_set_bit(0, &dev->bounce_logged))
		ibdev_err(&dev->ibdev,
			  "user memory cannot be registered: the kernel gives devices copies of it (swiotlb=force, a confidential guest, or a DMA mask that is too small)\n");
	return -EOPNOTSUPP;
}

/* Pins the user's memory [@addr, @addr + @len). */
struct vrdma_buf *vrdma_buf_pin(struct vrdma_dev *dev, u64 addr, u64 len,
				int access)
{
	struct vrdma_buf *buf;
	int ret;

	/* Of 32 bits on some machines. */
	if (addr > ULONG_MAX || len > SIZE_MAX)
		return ERR_PTR(-EINVAL);
	buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	if (!buf)
		return ERR_PTR(-ENOMEM);
	buf->umem = vrdma_umem_get(&dev->ibdev, (unsigned long)addr,
				   (size_t)len, access);
	if (IS_ERR(buf->umem)) {
		ret = PTR_ERR(buf->umem);
		goto err_free;
	}
	ret = vrdma_buf_check_mapping(dev, buf->umem);
	if (ret)
		goto err_release;
	buf->len = (size_t)len;
	return buf;

err_release:
	ib_umem_release(buf->umem);
err_free:
	kfree(buf);
	return ERR_PTR(ret);
}

/* The device must not access @buf: it never did, it has confirmed that, or it is halted. */
void vrdma_buf_free(struct vrdma_dev *dev, struct vrdma_buf *buf)
{
	u32 i;

	if (buf->umem)
		ib_umem_release(buf->umem);
	for (i = 0; i < buf->num_chunks; i++)
		dma_free_coherent(dev->dma_dev, 1UL << buf->chunk_shift,
				  buf->chunk[i], buf->dma[i]);
	kvfree(buf->chunk);
	kvfree(buf->dma);
	kfree(buf);
}

static struct vrdma_buf *vrdma_buf_try_alloc(struct vrdma_dev *dev, size_t len,
					     u8 shift, gfp_t gfp)
{
	size_t chunk = 1UL << shift;
	u32 num = DIV_ROUND_UP(len, chunk);
	struct vrdma_buf *buf;

	buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	if (!buf)
		return NULL;
	buf->chunk_shift = shift;
	buf->len = len;
	buf->chunk = kvcalloc(num, sizeof(*buf->chunk), GFP_KERNEL);
	buf->dma = kvcalloc(num, sizeof(*buf->dma), GFP_KERNEL);
	if (!buf->chunk || !buf->dma)
		goto err_free;
	while (buf->num_chunks < num) {
		u32 i = buf->num_chunks;

		/* Zeroed. */
		buf->chunk[i] = dma_alloc_coherent(dev->dma_dev, chunk,
						   &buf->dma[i], gfp);
		if (!buf->chunk[i])
			goto err_free;
		buf->num_chunks++;
	}
	return buf;

err_free:
	vrdma_buf_free(dev, buf);
	return NULL;
}

/*
 * Zeroed memory of the driver: @len bytes, in contiguous chunks of at most
 * 64 KiB, or in single pages where memory is fragmented.
 */
struct vrdma_buf *vrdma_buf_alloc(struct vrdma_dev *dev, size_t len)
{
	size_t max = max_t(size_t, VRDMA_CHUNK_MAX, PAGE_SIZE);
	size_t chunk = max_t(size_t, roundup_pow_of_two(min(len, max)),
			     PAGE_SIZE);
	struct vrdma_buf *buf = NULL;

	if (len > SIZE_MAX - PAGE_SIZE)
		return ERR_PTR(-ENOMEM);
	len = PAGE_ALIGN(len);
	if (chunk > PAGE_SIZE)
		buf = vrdma_buf_try_alloc(dev, len, ilog2(chunk), GFP_KERNEL |
					  __GFP_NOWARN | __GFP_NORETRY);
	if (!buf)
		buf = vrdma_buf_try_alloc(dev, len, PAGE_SHIFT, GFP_KERNEL);
	return buf ?: ERR_PTR(-ENOMEM);
}

/* The same in one contiguous chunk, or NULL. */
struct vrdma_buf *vrdma_buf_alloc_chunk(struct vrdma_dev *dev, size_t len)
{
	size_t chunk = max_t(size_t, roundup_pow_of_two(len), PAGE_SIZE);

	return vrdma_buf_try_alloc(dev, chunk, ilog2(chunk), GFP_KERNEL);
}

/* After a failed command: frees @buf, or parks it if the device may know it. */
void vrdma_buf_release(struct vrdma_dev *dev, struct vrdma_buf *buf)
{
	bool park;

	spin_lock(&dev->park_lock);
	park = buf->exposed && !dev->halted;
	if (park)
		list_add_tail(&buf->parked, &dev->parked);
	spin_unlock(&dev->park_lock);
	if (!park)
		vrdma_buf_free(dev, buf);
}

/* The device is halted: nothing is parked any more. */
void vrdma_buf_free_parked(struct vrdma_dev *dev)
{
	struct vrdma_buf *buf, *next;

	list_for_each_entry_safe(buf, next, &dev->parked, parked) {
		list_del(&buf->parked);
		vrdma_buf_free(dev, buf);
	}
}

/*
 * Page frame number of the driver's memory of one page, to map it into a
 * process.  Coherent memory may be remapped memory.
 *
 * dma_mmap_coherent() cannot be used: the core has to know the mapping, to
 * replace it when the device is unbound, and takes a pfn (rdma_user_mmap_io()).
 * Where coherent memory needs a special protection, in confidential guests, no
 * user memory can be registered, so no ring has a doorbell.
 */
unsigned long vrdma_buf_pfn(const struct vrdma_buf *buf)
{
	void *addr = buf->chunk[0];

	return is_vmalloc_addr(addr) ? vmalloc_to_pfn(addr) :
				       page_to_pfn(virt_to_page(addr));
}

/*
 * Address of byte @offset of the driver's memory.  An entry of a ring has a
 * power-of-two size up to a page, so it lies in one chunk.
 */
void *vrdma_buf_at(const struct vrdma_buf *buf, size_t offset)
{
	size_t mask = (1UL << buf->chunk_shift) - 1;

	return buf->chunk[offset >> buf->chunk_shift] + (offset & mask);
}

/* Starts a walk over @pages pages of 4 KiB of @buf, after the first @skip. */
void vrdma_extent_start(struct vrdma_extent_iter *it,
			const struct vrdma_buf *buf, u64 skip, u64 pages)
{
	it->buf = buf;
	it->sg = buf->umem ? buf->umem->sgt_append.sgt.sgl : NULL;
	it->index = 0;
	it->skip = skip;
	it->left = pages;
}

/* The next run of contiguous memory, as the DMA API has merged it. */
static bool vrdma_extent_run(struct vrdma_extent_iter *it, u64 *addr,
			     u64 *bytes)
{
	const struct vrdma_buf *buf = it->buf;

	if (buf->umem) {
		if (it->index >= buf->umem->sgt_append.sgt.nents)
			return false;
		*addr = sg_dma_address(it->sg);
		*bytes = sg_dma_len(it->sg);
		it->sg = sg_next(it->sg);
	} else {
		if (it->index >= buf->num_chunks)
			return false;
		*addr = buf->dma[it->index];
		*bytes = 1UL << buf->chunk_shift;
	}
	it->index++;
	return true;
}

/*
 * The next extents, at most @max, written to @ext unless that is NULL.  Returns
 * their number; the walk ends when it->left is zero.
 */
u32 vrdma_extent_fill(struct vrdma_extent_iter *it,
		      struct virtio_rdma_extent *ext, u32 max)
{
	u64 addr, bytes, pages;
	u32 num = 0;

	while (it->left && num < max && vrdma_extent_run(it, &addr, &bytes)) {
		pages = bytes >> VIRTIO_RDMA_PAGE_SHIFT;
		if (it->skip >= pages) {
			it->skip -= pages;
			continue;
		}
		addr += it->skip << VIRTIO_RDMA_PAGE_SHIFT;
		pages = min(pages - it->skip, it->left);
		it->skip = 0;
		it->left -= pages;
		if (ext) {
			ext[num].addr = cpu_to_le64(addr);
			ext[num].pages = cpu_to_le32(pages);
		}
		num++;
	}
	return num;
}

u32 vrdma_extent_count(const struct vrdma_buf *buf, u64 skip, u64 pages)
{
	struct vrdma_extent_iter it;

	vrdma_extent_start(&it, buf, skip, pages);
	return vrdma_extent_fill(&it, NULL, U32_MAX);
}
