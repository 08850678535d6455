// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory regions.
 *
 * A region stores the guest's pfns as runs of consecutive pages, 16 bytes for each run.
 * Each run also has its hva, which is computed again when the memory table changes.  So a
 * new table does not invalidate regions.  A run has no hva if it is not all RAM any more, or
 * if it lies in several regions of the table.  Its pages are then looked up in the table at
 * each access, which fails if there is no RAM.
 *
 * Control thread, dev->lock.  The functions that pollers use are in key.c.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "transport.h"
#include "end.h"
#include "fastreg.h"
#include "mem.h"
#include "mr.h"
#include "path.h"

#define PAGE_SIZE	((uint64_t)VIRTIO_RDMA_PAGE_SIZE)
#define PAGE_SHIFT	VIRTIO_RDMA_PAGE_SHIFT

/*
 * Maximum number of registrations that take several commands and are not complete: the list
 * is searched linearly.
 */
#define MAX_PARTIAL	256

/* ---- registration ------------------------------------------------------ */

#define ACCESS_REMOTE_CHANGE	(VIRTIO_RDMA_ACCESS_REMOTE_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC)
#define ACCESS_SUPPORTED	(VIRTIO_RDMA_ACCESS_LOCAL_WRITE | VIRTIO_RDMA_ACCESS_REMOTE_WRITE | \
				 VIRTIO_RDMA_ACCESS_REMOTE_READ | VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC)

int vrd_mr_check_access(uint32_t access)
{
	if (access & ~(uint32_t)ACCESS_SUPPORTED)
		return -EOPNOTSUPP;
	/* IBTA 10.6.6.2.1: remote write and atomic rights require the local write right. */
	if ((access & ACCESS_REMOTE_CHANGE) && !(access & VIRTIO_RDMA_ACCESS_LOCAL_WRITE))
		return -EINVAL;
	return 0;
}

static bool needs_write(const struct vrd_mr *mr)
{
	return mr->access & VIRTIO_RDMA_ACCESS_LOCAL_WRITE;
}

static int get_random(struct vrd_device *dev, uint32_t *value)
{
	/* getrandom() returns up to 256 bytes without interruption. */
	if (!dev->num_random) {
		if (getrandom(dev->random, sizeof(dev->random), 0) != sizeof(dev->random))
			return -EIO;
		dev->num_random = sizeof(dev->random) / sizeof(dev->random[0]);
	}
	*value = dev->random[--dev->num_random];
	return 0;
}

/* Each attempt succeeds with a probability of one half: more attempts indicate a fault. */
#define KEY_ATTEMPTS	64

/*
 * A key cannot be derived from another one: its lowest byte and its number, by which the
 * table finds the region, are random.
 */
static int mr_take_key(struct vrd_device *dev, struct vrd_mr *mr)
{
	unsigned int i;
	uint32_t key;
	int ret;

	for (i = 0; i < KEY_ATTEMPTS; i++) {
		ret = get_random(dev, &key);
		if (ret)
			return ret;
		/* Handle 0 is reserved: it means none. */
		if (!vrd_key_index(key) ||
		    vrd_key_index(key) == vrd_key_index(VIRTIO_RDMA_LOCAL_DMA_LKEY))
			continue;
		ret = vrd_table_claim(&dev->mrs, vrd_key_index(key));
		if (ret == -EEXIST)
			continue;
		mr->index = vrd_key_index(key);
		mr->key = key;
		return ret;
	}
	return -ENOMEM;
}

static int mr_new(struct vrd_pd *pd, uint32_t access, struct vrd_mr **out)
{
	struct vrd_device *dev = pd->ctx->dev;
	struct vrd_mr *mr;
	int ret;

	mr = calloc(1, sizeof(*mr));
	if (!mr)
		return -ENOMEM;
	ret = mr_take_key(dev, mr);
	if (ret) {
		free(mr);
		return ret;
	}
	mr->lkey = mr->key;
	mr->rkey = mr->key;
	mr->access = access;
	mr->pd = pd;
	pd->users++;
	*out = mr;
	return 0;
}

static void count_bytes(struct vrd_device *dev, int64_t bytes, int dma)
{
	atomic_fetch_add(&dev->mr_bytes, (uint64_t)bytes);
	atomic_fetch_add(&dev->dma_mrs, (uint32_t)dma);
}

/*
 * A host may use the same number for the local key of one region and the remote key of
 * another, so each kind of key has its own table.
 */
static int claim_host_key(struct vrd_table *table, struct vrd_host_key *hk, struct vrd_mr *mr,
			  uint32_t key)
{
	int ret = vrd_table_claim(table, vrd_key_index(key));

	if (ret)
		return ret;
	hk->number = vrd_key_index(key);
	hk->mr = mr;
	return 0;
}

static void release_host_key(struct vrd_table *table, struct vrd_host_key *hk)
{
	if (hk->mr)
		vrd_table_release(table, hk->number);
	hk->mr = NULL;
}

#define ACCESS_REMOTE	(ACCESS_REMOTE_CHANGE | VIRTIO_RDMA_ACCESS_REMOTE_READ)

/* From now on the region is found only by the host's keys. */
static int publish_host_keys(struct vrd_device *dev, struct vrd_mr *mr)
{
	int ret = claim_host_key(&dev->lkeys, &mr->host_lkey, mr, mr->lkey);

	/* Without remote rights the host may return one dummy remote key for all regions. */
	if (!ret && mr->access & ACCESS_REMOTE)
		ret = claim_host_key(&dev->rkeys, &mr->host_rkey, mr, mr->rkey);
	if (ret) {
		release_host_key(&dev->lkeys, &mr->host_lkey);
		return ret;
	}
	/* It must not match a number in dev->mrs. */
	mr->key = 0;
	vrd_table_publish(&dev->lkeys, mr->host_lkey.number, &mr->host_lkey);
	if (mr->host_rkey.mr)
		vrd_table_publish(&dev->rkeys, mr->host_rkey.number, &mr->host_rkey);
	return 0;
}

/*
 * Lookups do not find the region any more.  Pollers that found it may use it until the grace
 * period ends.
 */
static void mr_unpublish(struct vrd_device *dev, struct vrd_mr *mr)
{
	if (mr->fast)
		vrd_fast_take_out(dev, mr->fast);
	else
		vrd_table_unpublish(&dev->mrs, mr->index);
	if (mr->host_lkey.mr)
		vrd_table_unpublish(&dev->lkeys, mr->host_lkey.number);
	if (mr->host_rkey.mr)
		vrd_table_unpublish(&dev->rkeys, mr->host_rkey.number);
}

/* The region is in no table, and no thread uses it. */
static void mr_free(struct vrd_device *dev, struct vrd_mr *mr)
{
	if (mr->dma)
		count_bytes(dev, 0, -1);
	else if (mr->num_pages)
		count_bytes(dev, -(int64_t)(mr->num_pages << PAGE_SHIFT), 0);
	release_host_key(&dev->rkeys, &mr->host_rkey);
	release_host_key(&dev->lkeys, &mr->host_lkey);
	vrd_table_release(&dev->mrs, mr->index);
	vrd_end_unuse(dev, &mr->pd->end, &mr->pd->users);
	if (mr->fast)
		vrd_fast_free(mr->fast);
	free(mr->runs);
	free(mr);
}

static void end_release(struct vrd_end *end)
{
	vrd_transports_mr_dereg(end->dev, vrd_end_of(end, vrd_mr, end));
}

static void end_free(struct vrd_end *end)
{
	mr_free(end->dev, vrd_end_of(end, vrd_mr, end));
}

/* All pages have been added: terminates the list of runs and frees the unused part of it. */
static void mr_end_runs(struct vrd_mr *mr)
{
	struct vrd_mr_run *runs;

	mr->runs[mr->num_runs].page = (uint32_t)mr->num_pages;
	if (mr->num_runs == mr->max_runs)
		return;
	runs = realloc(mr->runs, ((uint64_t)mr->num_runs + 1) * sizeof(runs[0]));
	if (!runs)
		return;
	mr->runs = runs;
	mr->max_runs = mr->num_runs;
}

static void set_linear(struct vrd_mr *mr)
{
	mr->linear = NULL;
	if (mr->num_runs == 1 && mr->runs[0].hva)
		mr->linear = mr->runs[0].hva + (mr->iova & (PAGE_SIZE - 1));
}

/*
 * All pages have been added, so the transport may register them: vrd_mr_reg_slow(), then
 * vrd_mr_registered().  Until then lookups do not find the region.
 */
static int mr_complete(struct vrd_device *dev, struct vrd_mr *mr)
{
	if (mr->runs) {
		mr_end_runs(mr);
		if (mr->generation != dev->mem_generation)
			vrd_mr_retranslate(dev, mr, true);
		else
			set_linear(mr);
	}
	mr->generation = dev->mem_generation;
	/* A worker uses the memory table. */
	dev->mem_pins++;
	mr->pinned_mem = true;
	return VRD_MR_COMPLETE;
}

int vrd_mr_reg_slow(struct vrd_mr *mr)
{
	return vrd_transports_mr_reg(mr->pd->ctx->dev, mr);
}

/*
 * Restores the state before the last command.  Its pages may have extended the last run of
 * before, whose hva may be NULL then: it has to be computed again.
 */
static void restore(struct vrd_mr *mr)
{
	mr->filled = mr->filled_before;
	mr->num_runs = mr->runs_before;
	mr->generation = 0;
}

/* The registration failed with @ret. */
static int not_registered(struct vrd_device *dev, struct vrd_mr *mr, int ret, bool cancelled)
{
	if (!mr->was_partial || cancelled) {
		mr_free(dev, mr);
		return ret;
	}
	/* The driver may repeat the last command. */
	restore(mr);
	LIST_INSERT_HEAD(&dev->partial_mrs, mr, partial_link);
	dev->num_partial++;
	return ret;
}

int vrd_mr_registered(struct vrd_mr *mr, int ret, bool cancelled)
{
	struct vrd_device *dev = mr->pd->ctx->dev;

	if (mr->pinned_mem) {
		mr->pinned_mem = false;
		vrd_mem_unpin(dev);
	}
	if (ret)
		return not_registered(dev, mr, ret, cancelled);
	mr->end = (struct vrd_end){ .release = end_release, .free = end_free };
	mr->error = 0;
	if (cancelled)
		return VRD_MR_ENDS;
	if (dev->owner) {
		mr->error = publish_host_keys(dev, mr);
		if (mr->error == -EEXIST && dev->ends.num)
			return -EAGAIN;
		if (mr->error)
			return VRD_MR_ENDS;
	}
	if (mr->generation != dev->mem_generation)
		vrd_mr_retranslate(dev, mr, true);
	vrd_table_publish(&dev->mrs, mr->index, mr);
	if (mr->generation != dev->mem_generation)
		vrd_transports_mem_changed(dev);
	return 0;
}

/*
 * Makes room for @num more runs.  The allocation is bounded by the number of extents that
 * the guest has sent, and by the region's pages, which count against max_mr_bytes.
 */
static int mr_reserve_runs(struct vrd_mr *mr, uint32_t num)
{
	uint64_t want = (uint64_t)mr->num_runs + num;
	struct vrd_mr_run *runs;

	if (want > mr->num_pages)
		want = mr->num_pages;
	if (mr->runs && want <= mr->max_runs)
		return 0;
	/* Avoid an allocation for each command if the region takes many commands. */
	if (mr->runs && want < 2 * (uint64_t)mr->max_runs)
		want = 2 * (uint64_t)mr->max_runs;
	if (want > mr->num_pages)
		want = mr->num_pages;
	runs = realloc(mr->runs, (want + 1) * sizeof(runs[0]));
	if (!runs)
		return -ENOMEM;
	mr->runs = runs;
	mr->max_runs = want;
	return 0;
}

/* @hva: of the first page, if the pages are contiguous there; else NULL. */
static void mr_add_pages(struct vrd_mr *mr, uint32_t pfn, uint32_t pages, uint8_t *hva)
{
	struct vrd_mr_run *last = mr->num_runs ? &mr->runs[mr->num_runs - 1] : NULL;
	uint64_t num = last ? mr->filled - last->page : 0;

	if (!last || last->pfn + num != pfn)
		mr->runs[mr->num_runs++] = (struct vrd_mr_run){
			.page = (uint32_t)mr->filled,
			.pfn = pfn,
			.hva = hva,
		};
	else if (!hva || !last->hva || last->hva + (num << PAGE_SHIFT) != hva)
		last->hva = NULL;
	mr->filled += pages;
}

/*
 * Appends the pages of @x, at most as many as are missing.  On an error, the caller restores
 * the numbers of pages and runs.
 */
static int mr_fill(struct vrd_device *dev, struct vrd_mr *mr, const struct vrd_extents *x)
{
	const struct vrd_mem_slot *slot = NULL;
	bool write = needs_write(mr);
	uint64_t addr, len, pages;
	uint8_t *hva;
	uint32_t i;
	int ret;

	ret = vrd_extents_check(x, &pages);
	if (ret)
		return ret;
	if (!x->num || pages > mr->num_pages - mr->filled)
		return -EINVAL;
	ret = mr_reserve_runs(mr, x->num);
	if (ret)
		return ret;
	for (i = 0; i < x->num; i++) {
		addr = le64toh(x->ext[i].addr);
		len = (uint64_t)le32toh(x->ext[i].pages) << PAGE_SHIFT;
		hva = vrd_mem_in_slot(dev->mem, &slot, addr, len, write);
		if (!hva && !vrd_mem_covers(dev->mem, addr, len, write))
			return -EFAULT;
		mr_add_pages(mr, (uint32_t)(addr >> PAGE_SHIFT), (uint32_t)(len >> PAGE_SHIFT),
			     hva);
	}
	return 0;
}

int vrd_mr_reg(struct vrd_pd *pd, uint32_t access, uint64_t iova, uint64_t length,
	       uint64_t total_pages, const struct vrd_extents *x, struct vrd_mr **out)
{
	struct vrd_device *dev = pd->ctx->dev;
	struct vrd_caps caps = vrd_device_caps(dev);
	struct vrd_mr *mr;
	uint64_t max;
	int ret;

	ret = vrd_mr_check_access(access);
	if (ret)
		return ret;
	max = dev->limits.max_mr_size < caps.max_mr_size ? dev->limits.max_mr_size :
							   caps.max_mr_size;
	if (!length || length > max || iova + length - 1 < iova)
		return -EINVAL;
	/* No overflow: max_mr_size is much less than 2^64. */
	if (total_pages != ((iova & (PAGE_SIZE - 1)) + length + PAGE_SIZE - 1) >> PAGE_SHIFT)
		return -EINVAL;
	if (total_pages > UINT32_MAX || total_pages << PAGE_SHIFT > dev->limits.max_mr_bytes ||
	    atomic_load(&dev->mr_bytes) > dev->limits.max_mr_bytes - (total_pages << PAGE_SHIFT))
		return -ENOMEM;

	ret = mr_new(pd, access, &mr);
	if (ret)
		return ret;
	mr->iova = iova;
	mr->length = length;
	mr->num_pages = total_pages;
	/* The generation of the first hvas: later ones are as new. */
	mr->generation = dev->mem_generation;
	count_bytes(dev, (int64_t)(total_pages << PAGE_SHIFT), 0);
	ret = mr_fill(dev, mr, x);
	if (ret)
		goto free;
	*out = mr;
	if (mr->filled == total_pages)
		return mr_complete(dev, mr);
	ret = -ENOMEM;
	if (dev->num_partial >= MAX_PARTIAL)
		goto free;
	dev->num_partial++;
	LIST_INSERT_HEAD(&dev->partial_mrs, mr, partial_link);
	return VRD_MR_PARTIAL;
free:
	mr_free(dev, mr);
	return ret;
}

static void forget_partial(struct vrd_device *dev, struct vrd_mr *mr)
{
	LIST_REMOVE(mr, partial_link);
	dev->num_partial--;
}

static struct vrd_mr *find_partial(struct vrd_device *dev, uint32_t handle)
{
	struct vrd_mr *mr;

	LIST_FOREACH(mr, &dev->partial_mrs, partial_link) {
		if (mr->index == handle)
			return mr;
	}
	return NULL;
}

int vrd_mr_reg_more(struct vrd_device *dev, uint32_t handle, const struct vrd_extents *x,
		    struct vrd_mr **out)
{
	struct vrd_mr *mr = find_partial(dev, handle);
	int ret;

	if (!mr)
		return vrd_table_find(&dev->mrs, handle) ? -EINVAL : -ENOENT;
	*out = mr;
	mr->filled_before = mr->filled;
	mr->runs_before = mr->num_runs;
	ret = mr_fill(dev, mr, x);
	if (ret) {
		/* The driver may repeat the command. */
		restore(mr);
		return ret;
	}
	if (mr->filled < mr->num_pages)
		return VRD_MR_PARTIAL;
	mr->was_partial = true;
	forget_partial(dev, mr);
	return mr_complete(dev, mr);
}

int vrd_mr_reg_dma(struct vrd_pd *pd, uint32_t access, struct vrd_mr **out)
{
	struct vrd_device *dev = pd->ctx->dev;
	struct vrd_mr *mr;
	int ret;

	ret = vrd_mr_check_access(access);
	if (ret)
		return ret;
	if (!pd->ctx->kernel)
		return -EPERM;
	ret = mr_new(pd, access, &mr);
	if (ret)
		return ret;
	mr->length = UINT64_MAX;
	mr->dma = true;
	count_bytes(dev, 0, 1);
	*out = mr;
	return mr_complete(dev, mr);
}

int vrd_mr_alloc(struct vrd_pd *pd, uint32_t max_entries, struct vrd_mr **out)
{
	struct vrd_device *dev = pd->ctx->dev;
	uint64_t bytes = (uint64_t)max_entries << PAGE_SHIFT;
	struct vrd_mr *mr;
	int ret;

	if (!pd->ctx->kernel)
		return -EPERM;
	if (!max_entries || max_entries > VRD_FAST_ENTRIES)
		return -EINVAL;
	/* Bindings take memory of the host as well, so they count as if they had pages. */
	if (bytes > dev->limits.max_mr_bytes ||
	    atomic_load(&dev->mr_bytes) > dev->limits.max_mr_bytes - bytes)
		return -ENOMEM;
	ret = mr_new(pd, 0, &mr);
	if (ret)
		return ret;
	/* No lookup finds the owner: bindings have the keys. */
	mr->key = 0;
	mr->num_pages = max_entries;
	count_bytes(dev, (int64_t)bytes, 0);
	ret = vrd_fast_init(mr, max_entries);
	if (ret) {
		mr_free(dev, mr);
		return ret;
	}
	*out = mr;
	return mr_complete(dev, mr);
}

/* The object that has the handle: dev->mrs may contain its binding (fastreg.h). */
static struct vrd_mr *owner_of(struct vrd_mr *mr)
{
	return mr->fast ? mr->fast->owner : mr;
}

int vrd_mr_take_out(struct vrd_device *dev, uint32_t handle, struct vrd_mr **out)
{
	struct vrd_mr *mr = find_partial(dev, handle);

	if (mr) {
		forget_partial(dev, mr);
		mr->end = (struct vrd_end){ .free = end_free };
		*out = mr;
		return 0;
	}
	mr = vrd_table_find(&dev->mrs, handle);
	if (!mr)
		return -ENOENT;
	mr = owner_of(mr);
	mr_unpublish(dev, mr);
	/* Wait for copies that use the region: no byte is moved after the reply. */
	mr->end = (struct vrd_end){
		.release = end_release, .free = end_free,
		.grace = true,
	};
	*out = mr;
	return 0;
}

void vrd_mr_dereg_all(struct vrd_device *dev)
{
	struct vrd_end_list list = TAILQ_HEAD_INITIALIZER(list);
	struct vrd_mr *mr;
	uint32_t pos;

	while ((mr = LIST_FIRST(&dev->partial_mrs))) {
		forget_partial(dev, mr);
		mr_free(dev, mr);
	}
	for (pos = 0; (mr = vrd_table_next(&dev->mrs, &pos));) {
		mr = owner_of(mr);
		mr_unpublish(dev, mr);
		/* vrd_end_gathered() waits for the grace period, also if there are workers. */
		mr->end = (struct vrd_end){ .release = end_release, .free = end_free };
		vrd_end_gather(&list, &mr->end, &mr->users);
	}
	vrd_end_gathered(dev, &list, true);
}

void vrd_mr_retranslate(struct vrd_device *dev, struct vrd_mr *mr, bool all)
{
	const struct vrd_mem_slot *slot = NULL;
	struct vrd_mr_run *r;

	if (mr->entries) {
		vrd_fast_retranslate(dev, mr);
		return;
	}
	mr->linear = NULL;
	if (mr->dma || mr->filled < mr->num_pages)
		return;
	for (r = mr->runs; r < mr->runs + mr->num_runs; r++) {
		uint64_t addr = (uint64_t)r->pfn << PAGE_SHIFT;
		uint64_t len = (uint64_t)(r[1].page - r->page) << PAGE_SHIFT;

		if (all || vrd_mem_changed(dev->mem, addr, len))
			r->hva = vrd_mem_in_slot(dev->mem, &slot, addr, len, needs_write(mr));
	}
	set_linear(mr);
}

int vrd_mr_init(struct vrd_device *dev)
{
	LIST_INIT(&dev->partial_mrs);
	dev->local_dma = calloc(1, sizeof(*dev->local_dma));
	if (!dev->local_dma)
		return -ENOMEM;
	dev->local_dma->key = VIRTIO_RDMA_LOCAL_DMA_LKEY;
	dev->local_dma->access = VIRTIO_RDMA_ACCESS_LOCAL_WRITE;
	dev->local_dma->dma = true;
	dev->local_dma->length = UINT64_MAX;
	return 0;
}

void vrd_mr_fini(struct vrd_device *dev)
{
	free(dev->local_dma);
	dev->local_dma = NULL;
}
