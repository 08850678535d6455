// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: memory regions.
 *
 * The host registers a range of this process's addresses, but the pages of a guest's region
 * may be anywhere in its memory.  So the region's pieces, each contiguous in a file that
 * backs the guest's memory, are mapped a second time, next to each other, and this alias is
 * registered under the addresses that the guest chose. This process does not access the
 * alias: it exists only for the host to pin.  A region that is contiguous in the existing
 * mapping of the guest's memory needs no alias: the existing mapping is registered, and its
 * pages need not be faulted in again. (The pages are pinned; the mapping may be replaced
 * while the region exists.)
 *
 * Each piece is a mapping, and the number of mappings of a process is limited
 * (vm.max_map_count).  They are counted for all devices, with room left for the other
 * mappings of the process.  If there are several devices, one may take at most as many as it
 * leaves to the others, so that no guest can take them all.
 *
 * Workers, without dev->lock, several at a time; mem_changed: front end, dev->lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "end.h"
#include "ibv.h"
#include "log.h"
#include "mem.h"

#define PAGE_SIZE	((uint64_t)VIRTIO_RDMA_PAGE_SIZE)
#define PAGE_SHIFT	VIRTIO_RDMA_PAGE_SHIFT

_Static_assert((int)VIRTIO_RDMA_ACCESS_LOCAL_WRITE == IBV_ACCESS_LOCAL_WRITE, "");
_Static_assert((int)VIRTIO_RDMA_ACCESS_REMOTE_WRITE == IBV_ACCESS_REMOTE_WRITE, "");
_Static_assert((int)VIRTIO_RDMA_ACCESS_REMOTE_READ == IBV_ACCESS_REMOTE_READ, "");
_Static_assert((int)VIRTIO_RDMA_ACCESS_REMOTE_ATOMIC == IBV_ACCESS_REMOTE_ATOMIC, "");

/* A range of a file; pieces are in the order of the region. */
struct piece {
	int fd;				/* valid only during registration */
	uint64_t dev, ino;
	uint64_t offset, length;
	uint64_t granule;		/* page size of the file */
};

struct vrd_ibv_mr {
	struct vrd_mr *mr;
	struct ibv_mr *ibmr;
	bool lost;			/* its pages were removed: @end deregisters it */
	struct vrd_end end;
	uint8_t *alias;			/* NULL: not needed */
	uint64_t alias_len;
	uint32_t num_maps;		/* mappings of the alias */
	uint32_t num_pieces;
	struct piece pieces[];
};

/* ---- pieces ------------------------------------------------------------------ */

/* True if @slot's memory at @addr continues @last in the same file. */
static bool continues(const struct piece *last, const struct vrd_mem_slot *slot, uint64_t addr)
{
	return last->dev == slot->fd_dev && last->ino == slot->fd_ino &&
	       last->offset + last->length == slot->fd_offset + (addr - slot->addr);
}

/*
 * Collects the region's pieces from its runs of pages; with @pieces NULL only counts them.
 * Returns 0 or a negative errno.
 */
static int find_pieces(const struct vrd_mem *mem, const struct vrd_mr *mr, struct piece *pieces,
		       uint32_t *num)
{
	const struct vrd_mem_slot *slot = NULL;
	struct piece last = { .length = 0 };

	*num = 0;
	for (uint32_t i = 0; i < mr->num_runs; i++) {
		const struct vrd_mr_run *r = &mr->runs[i];
		uint64_t addr = (uint64_t)r->pfn << PAGE_SHIFT;
		uint64_t left = (uint64_t)(r[1].page - r->page) << PAGE_SHIFT, n;

		for (; left; addr += n, left -= n) {
			if (!slot || addr < slot->addr || addr - slot->addr >= slot->size)
				slot = vrd_mem_slot_at(mem, addr);
			if (!slot)
				return -EFAULT;
			if (slot->fd < 0)
				return -EOPNOTSUPP;
			n = slot->size - (addr - slot->addr);
			if (n > left)
				n = left;
			if (*num && continues(&last, slot, addr)) {
				last.length += n;
				continue;
			}
			if (pieces && *num)
				pieces[*num - 1] = last;
			last = (struct piece) {
				.fd = slot->fd, .dev = slot->fd_dev, .ino = slot->fd_ino,
				.offset = slot->fd_offset + (addr - slot->addr),
				.length = n, .granule = slot->fd_page,
			};
			++*num;
		}
	}
	if (pieces && *num)
		pieces[*num - 1] = last;
	return 0;
}

/*
 * Huge pages can only be mapped as a whole: the first piece may begin within one and the
 * last one may end within one; between them the pieces must consist of whole huge pages.
 * @lead and @trail return the bytes that are mapped before and after the region.
 */
static bool fits_granules(const struct vrd_ibv_mr *vmr, uint64_t *granule, uint64_t *lead,
			  uint64_t *trail)
{
	const struct piece *first = &vmr->pieces[0], *last = &vmr->pieces[vmr->num_pieces - 1];
	uint64_t at;

	*granule = PAGE_SIZE;
	for (uint32_t i = 0; i < vmr->num_pieces; i++)
		if (vmr->pieces[i].granule > *granule)
			*granule = vmr->pieces[i].granule;
	*lead = first->offset & (first->granule - 1);
	*trail = -(last->offset + last->length) & (last->granule - 1);
	if (*granule == PAGE_SIZE)
		return true;
	at = *lead;
	for (uint32_t i = 0; i < vmr->num_pieces; i++) {
		const struct piece *piece = &vmr->pieces[i];
		bool starts = !(piece->offset & (piece->granule - 1));
		bool ends = !((piece->offset + piece->length) & (piece->granule - 1));

		/* Address and offset must be equal in the bits below the granule. */
		if ((at ^ piece->offset) & (piece->granule - 1) || (i && !starts) ||
		    (i + 1 < vmr->num_pieces && !ends))
			return false;
		at += piece->length;
	}
	return true;
}

/* ---- the alias ----------------------------------------------------------------- */

static uint8_t *reserve(uint64_t length, uint64_t granule)
{
	uint8_t *p = mmap(NULL, length + granule, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t skip;

	if (p == MAP_FAILED)
		return NULL;
	skip = -(uintptr_t)p & (granule - 1);
	if (skip)
		munmap(p, skip);
	munmap(p + skip + length, granule - skip);
	return p + skip;
}

static int map_pieces(struct vrd_ibv_mr *vmr, uint64_t lead, uint64_t trail)
{
	uint8_t *at = vmr->alias;

	for (uint32_t i = 0; i < vmr->num_pieces; i++) {
		const struct piece *piece = &vmr->pieces[i];
		uint64_t before = i ? 0 : lead;
		uint64_t after = i + 1 < vmr->num_pieces ? 0 : trail;
		uint64_t length = before + piece->length + after;

		/* NORESERVE: hugetlbfs pages were reserved by the process that created the file. */
		if (mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
			 piece->fd, (off_t)(piece->offset - before)) == MAP_FAILED)
			return -errno;
		at += length;
	}
	/*
	 * A child must not inherit memory that the device writes to, and a core dump must not
	 * contain it.
	 */
	(void)madvise(vmr->alias, vmr->alias_len, MADV_DONTFORK);
	(void)madvise(vmr->alias, vmr->alias_len, MADV_DONTDUMP);
	return 0;
}

static void give_maps(struct vrd_ibv_dev *vdev, uint64_t num)
{
	atomic_fetch_sub(&vdev->maps, num);
	atomic_fetch_sub(vrd_engine_alias_maps(vdev->dev->engine), num);
}

/* Reserves @num of this process's mappings. */
static int take_maps(struct vrd_ibv_dev *vdev, uint64_t num)
{
	_Atomic uint64_t *used = vrd_engine_alias_maps(vdev->dev->engine);
	uint64_t max = vdev->ibdev->max_map_count;
	uint64_t room = max - max / 8, before = atomic_fetch_add(used, num);
	uint64_t mine = atomic_fetch_add(&vdev->maps, num) + num;
	bool alone = vrd_engine_device_count(vdev->dev->engine) == 1;

	if (before + num <= room && (alone || mine <= room - before - num))
		return 0;
	give_maps(vdev, num);
	vrd_dev_log(vdev->dev, VRD_LOG_WARN,
		    "a memory region of %llu pieces does not fit: %llu of %llu mappings of this process are in use, and no guest may have more than it leaves to others; raise it on the host (sysctl -w vm.max_map_count=%llu), or give the guest huge pages",
		    (unsigned long long)num, (unsigned long long)before,
		    (unsigned long long)room, (unsigned long long)max * 4);
	return -ENOMEM;
}

static int make_alias(struct vrd_ibv_dev *vdev, struct vrd_ibv_mr *vmr, uint64_t *lead)
{
	uint64_t granule, trail, length = 0;
	int ret;

	for (uint32_t i = 0; i < vmr->num_pieces; i++)
		length += vmr->pieces[i].length;
	if (!fits_granules(vmr, &granule, lead, &trail)) {
		vrd_dev_log(vdev->dev, VRD_LOG_WARN,
			    "a memory region of %u pieces in huge pages of %llu KiB does not consist of whole ones, which cannot be mapped side by side: use a memfd without hugetlb=on for the guest's memory",
			    vmr->num_pieces, (unsigned long long)granule >> 10);
		return -EOPNOTSUPP;
	}
	vmr->alias_len = *lead + length + trail;
	vmr->alias = reserve(vmr->alias_len, granule);
	if (!vmr->alias)
		return -ENOMEM;
	ret = map_pieces(vmr, *lead, trail);
	if (!ret)
		return 0;
	vrd_dev_log(vdev->dev, VRD_LOG_WARN, "mapping a memory region of %u pieces: %s",
		    vmr->num_pieces, strerror(-ret));
	munmap(vmr->alias, vmr->alias_len);
	vmr->alias = NULL;
	return -ENOMEM;
}

static void drop_alias(struct vrd_ibv_dev *vdev, struct vrd_ibv_mr *vmr)
{
	if (vmr->alias)
		munmap(vmr->alias, vmr->alias_len);
	vmr->alias = NULL;
	give_maps(vdev, vmr->num_maps);
	vmr->num_maps = 0;
}

/* ---- registration ------------------------------------------------------------------ */

static int reg_failed(struct vrd_ibv_dev *vdev, const struct vrd_mr *mr, int error)
{
	struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };

	getrlimit(RLIMIT_MEMLOCK, &lim);
	if ((error == ENOMEM || error == EAGAIN) && lim.rlim_cur != RLIM_INFINITY)
		vrd_dev_log(vdev->dev, VRD_LOG_WARN,
			    "the host refuses to pin %llu KiB: this process may lock %llu KiB of memory in all: raise it (ulimit -l unlimited; LimitMEMLOCK=infinity)",
			    (unsigned long long)mr->length >> 10,
			    (unsigned long long)lim.rlim_cur >> 10);
	else
		vrd_dev_log(vdev->dev, VRD_LOG_WARN, "the host does not register %llu KiB: %s",
			    (unsigned long long)mr->length >> 10, strerror(error));
	return vrd_ibv_errno(error);
}

static int new_mr(struct vrd_ibv_dev *vdev, const struct vrd_mr *mr, struct vrd_ibv_mr **out)
{
	struct vrd_ibv_mr *vmr;
	uint32_t num, maps;
	int ret = find_pieces(vdev->dev->mem, mr, NULL, &num);

	if (ret == -EOPNOTSUPP)
		vrd_dev_log(vdev->dev, VRD_LOG_WARN,
			    "guest memory that is not shared cannot be registered with the host: start the guest with -object memory-transport-memfd,id=mem,size=...,share=on -machine memory-transport=mem");
	if (ret)
		return ret;
	maps = mr->linear ? 0 : num;
	/*
	 * Before the allocation: a list of scattered pages from a guest would cost many times
	 * its size.
	 */
	ret = take_maps(vdev, maps);
	if (ret)
		return ret;
	vmr = calloc(1, sizeof(*vmr) + num * sizeof(vmr->pieces[0]));
	if (!vmr) {
		give_maps(vdev, maps);
		return -ENOMEM;
	}
	vmr->num_maps = maps;
	find_pieces(vdev->dev->mem, mr, vmr->pieces, &vmr->num_pieces);
	*out = vmr;
	return 0;
}

/* Finds the address in this process of the region's first byte. */
static int place(struct vrd_ibv_dev *vdev, const struct vrd_mr *mr, struct vrd_ibv_mr *vmr,
		 uint8_t **start)
{
	uint64_t lead;
	int ret;

	*start = mr->linear;
	if (mr->linear)
		return 0;
	ret = make_alias(vdev, vmr, &lead);
	if (!ret)
		*start = vmr->alias + lead + (mr->iova & (PAGE_SIZE - 1));
	return ret;
}

int vrd_ibv_mr_reg(struct vrd_mr *mr)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(mr->pd->ctx->dev);
	struct vrd_ibv_mr *vmr;
	uint8_t *start;
	int ret;

	if (mr->dma)
		return -EOPNOTSUPP;
	ret = new_mr(vdev, mr, &vmr);
	if (ret)
		return ret;
	ret = place(vdev, mr, vmr, &start);
	if (ret)
		goto free;
	errno = 0;
	vmr->ibmr = ibv_reg_mr_iova(mr->pd->priv[VRD_SLOT_IBVERBS], start, mr->length, mr->iova, (int)mr->access);
	if (!vmr->ibmr) {
		ret = reg_failed(vdev, mr, errno ? errno : EIO);
		goto free;
	}
	vmr->mr = mr;
	mr->lkey = vmr->ibmr->lkey;
	mr->rkey = vmr->ibmr->rkey;
	mr->priv[VRD_SLOT_IBVERBS] = vmr;
	return 0;
free:
	drop_alias(vdev, vmr);
	free(vmr);
	return ret;
}

static void unregister(struct vrd_ibv_dev *vdev, struct vrd_ibv_mr *vmr)
{
	int ret = ibv_dereg_mr(vmr->ibmr);

	/*
	 * The pages stay pinned, so the host's device could still access them when the guest
	 * reuses them.
	 */
	if (ret)
		vrd_dev_log(vdev->dev, VRD_LOG_ERROR, "the host keeps a memory region: %s",
			    strerror(ret));
	drop_alias(vdev, vmr);
}

void vrd_ibv_mr_dereg(struct vrd_mr *mr)
{
	struct vrd_ibv_mr *vmr = mr->priv[VRD_SLOT_IBVERBS];

	if (!vmr->lost)
		unregister(vrd_ibv_dev(mr->pd->ctx->dev), vmr);
	free(vmr);
	mr->priv[VRD_SLOT_IBVERBS] = NULL;
}

/* ---- another memory table -------------------------------------------------------------- */

static bool same_pieces(struct vrd_device *dev, const struct vrd_mr *mr)
{
	const struct vrd_ibv_mr *vmr = mr->priv[VRD_SLOT_IBVERBS];
	struct piece *now;
	bool same = false;
	uint32_t num;

	if (find_pieces(dev->mem, mr, NULL, &num) || num != vmr->num_pieces)
		return false;
	now = calloc(num, sizeof(*now));
	if (!now)
		return false;
	if (!find_pieces(dev->mem, mr, now, &num)) {
		same = true;
		for (uint32_t i = 0; i < num && same; i++)
			same = now[i].dev == vmr->pieces[i].dev && now[i].ino == vmr->pieces[i].ino &&
			       now[i].offset == vmr->pieces[i].offset &&
			       now[i].length == vmr->pieces[i].length;
	}
	free(now);
	return same;
}

/* On a worker. */
static void lost_release(struct vrd_end *end)
{
	struct vrd_ibv_mr *vmr = vrd_end_of(end, vrd_ibv_mr, end);

	unregister(vrd_ibv_dev(vmr->mr->pd->ctx->dev), vmr);
}

static void lost_free(struct vrd_end *end)
{
	struct vrd_mr *mr = vrd_end_of(end, vrd_ibv_mr, end)->mr;

	vrd_end_unuse(mr->pd->ctx->dev, &mr->end, &mr->users);
}

/*
 * Workers deregister the regions whose pages were removed: the host's RDMA stack may take its
 * time.  The region itself remains until the guest deregisters it, but has no pages.
 */
void vrd_ibv_mem_changed(struct vrd_device *dev)
{
	struct vrd_mr *mr;
	uint32_t pos;

	for (pos = 0; (mr = vrd_table_next(&dev->mrs, &pos));) {
		struct vrd_ibv_mr *vmr = mr->priv[VRD_SLOT_IBVERBS];

		if (vmr->lost || same_pieces(dev, mr))
			continue;
		vrd_dev_log(dev, VRD_LOG_WARN, "memory of a registered region has gone");
		vmr->lost = true;
		vmr->end = (struct vrd_end){ .release = lost_release, .free = lost_free };
		mr->users++;
		vrd_end(dev, &vmr->end, 0, true);
	}
}
