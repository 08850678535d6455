// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest memory of a vhost-user session: SET_MEM_TABLE, or one region at a time with
 * ADD_MEM_REG and REM_MEM_REG.
 *
 * The session keeps the descriptor of each region, because the core takes a whole table.
 * The core maps the regions itself and replaces the table while none of its threads uses the
 * old one.
 *
 * If the client shrinks a file later, the next access fails.  Therefore files must be sealed
 * against shrinking, as those of QEMU's memory-backend-memfd are.  "unsealed=on" accepts
 * memfds and files of tmpfs and hugetlbfs without the seal: main.c's SIGBUS handler then
 * marks the device whose memory was lost as broken.  Files of other file systems are always
 * refused: an access to them may wait for a server (FUSE, NFS) and would block a poller.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhost_user.h"

#define PAGE_MASK	4095ULL

static int check_file(const struct vrdmad_session *s, const struct vu_mem_region *r, int fd,
		      struct vrd_error *err)
{
	struct stat st;
	int seals;

	/* Check this first: fstat() on another file system may block. */
	if (vu_fd_kind(fd) != VU_FD_MEMORY) {
		vu_fail(err, -EINVAL, "guest memory is not a memfd or a file of tmpfs or hugetlbfs");
		snprintf(err->hint, sizeof(err->hint),
			 "give the guest -object memory-backend-memfd,share=on,...");
		return -EINVAL;
	}
	if (fstat(fd, &st) < 0)
		return vu_fail(err, -errno, "fstat of guest memory: %s", strerror(errno));
	if (r->mmap_offset > (uint64_t)st.st_size ||
	    r->size > (uint64_t)st.st_size - r->mmap_offset)
		return vu_fail(err, -EINVAL,
			       "region of 0x%llx bytes at offset 0x%llx is longer than its file of 0x%llx",
			       (unsigned long long)r->size, (unsigned long long)r->mmap_offset,
			       (unsigned long long)st.st_size);
	if (s->opt->unsealed)
		return 0;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals >= 0 && seals & F_SEAL_SHRINK)
		return 0;
	vu_fail(err, -EPERM, "guest memory is not sealed against shrinking");
	snprintf(err->hint, sizeof(err->hint),
		 "give the guest -object memory-backend-memfd,share=on,... or, if its owner is trusted, add unsealed=on to this --socket (or --allow-unsealed)");
	return -EPERM;
}

static bool overlap(uint64_t a, uint64_t b, uint64_t a_size, uint64_t b_size)
{
	return a < b ? b - a < a_size : a - b < b_size;
}

/* Checks @r by itself, against its file, and against the regions in @list. */
static int check_region(const struct vrdmad_session *s, const struct vu_mem_region *r, int fd,
			const struct vrdmad_region *list, unsigned int num,
			struct vrd_error *err)
{
	if (!r->size || (r->guest_addr | r->size | r->user_addr | r->mmap_offset) & PAGE_MASK)
		return vu_fail(err, -EINVAL,
			       "region 0x%llx+0x%llx (user 0x%llx, offset 0x%llx) is not made of pages",
			       (unsigned long long)r->guest_addr, (unsigned long long)r->size,
			       (unsigned long long)r->user_addr,
			       (unsigned long long)r->mmap_offset);
	if (r->guest_addr > UINT64_MAX - r->size || r->user_addr > UINT64_MAX - r->size ||
	    r->mmap_offset > UINT64_MAX - r->size)
		return vu_fail(err, -EINVAL, "region 0x%llx+0x%llx wraps around",
			       (unsigned long long)r->guest_addr, (unsigned long long)r->size);
	for (unsigned int i = 0; i < num; i++) {
		const struct vu_mem_region *o = &list[i].r;

		if (overlap(r->guest_addr, o->guest_addr, r->size, o->size) ||
		    overlap(r->user_addr, o->user_addr, r->size, o->size))
			return vu_fail(err, -EINVAL, "regions 0x%llx+0x%llx and 0x%llx+0x%llx overlap",
				       (unsigned long long)r->guest_addr,
				       (unsigned long long)r->size,
				       (unsigned long long)o->guest_addr,
				       (unsigned long long)o->size);
	}
	return check_file(s, r, fd, err);
}

/* Replaces the core's memory table by the @num regions of @list. */
static int install(struct vrdmad_session *s, const struct vrdmad_region *list, unsigned int num,
		   struct vrd_error *err)
{
	struct vrd_mem_region table[VRD_MAX_MEM_REGIONS];

	for (unsigned int i = 0; i < num; i++)
		table[i] = (struct vrd_mem_region) {
			.addr = list[i].r.guest_addr,
			.size = list[i].r.size,
			.fd = list[i].fd,
			.fd_offset = list[i].r.mmap_offset,
		};
	s->must_settle = true;
	return vrd_device_set_mem_table(s->dev, table, num, err);
}

static void close_regions(struct vrdmad_session *s)
{
	for (unsigned int i = 0; i < s->num_regions; i++)
		close(s->regions[i].fd);
	s->num_regions = 0;
}

int vu_set_mem_table(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	const struct vu_mem_table *t = &msg->payload.table;
	struct vrdmad_region list[VU_MAX_TABLE_REGIONS];
	int ret;

	if (t->num > VU_MAX_TABLE_REGIONS)
		return vu_fail(err, -EINVAL, "%u regions: at most %u", t->num,
			       VU_MAX_TABLE_REGIONS);
	/* UML always sends room for two regions. */
	if (msg->hdr.size < 8 + t->num * sizeof(t->regions[0]))
		return vu_fail(err, -EINVAL, "%u bytes of payload for %u regions", msg->hdr.size,
			       t->num);
	if (msg->num_fds != t->num)
		return vu_fail(err, -EINVAL, "%u descriptors for %u regions", msg->num_fds, t->num);
	for (unsigned int i = 0; i < t->num; i++) {
		list[i].r = t->regions[i];
		list[i].fd = msg->fds[i];
		ret = check_region(s, &list[i].r, list[i].fd, list, i, err);
		if (ret < 0)
			return ret;
	}
	ret = install(s, list, t->num, err);
	if (ret < 0)
		return ret;
	close_regions(s);
	memcpy(s->regions, list, t->num * sizeof(list[0]));
	s->num_regions = t->num;
	for (unsigned int i = 0; i < t->num; i++)
		msg->fds[i] = -1;
	return 0;
}

int vu_add_mem_reg(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	struct vrdmad_region *slot = &s->regions[s->num_regions];
	int ret;

	if (msg->num_fds != 1)
		return vu_fail(err, -EINVAL, "needs one descriptor");
	if (s->num_regions == VRD_MAX_MEM_REGIONS)
		return vu_fail(err, -ENOSPC, "more than %u regions", VRD_MAX_MEM_REGIONS);
	ret = check_region(s, &msg->payload.mem_reg.region, msg->fds[0], s->regions,
			   s->num_regions, err);
	if (ret < 0)
		return ret;
	slot->r = msg->payload.mem_reg.region;
	slot->fd = msg->fds[0];
	ret = install(s, s->regions, s->num_regions + 1, err);
	if (ret < 0)
		return ret;
	s->num_regions++;
	msg->fds[0] = -1;
	return 0;
}

int vu_rem_mem_reg(struct vrdmad_session *s, struct vu_message *msg, struct vrd_error *err)
{
	const struct vu_mem_region *r = &msg->payload.mem_reg.region;
	struct vrdmad_region gone;
	unsigned int i;
	int ret;

	/* Ignore the offset: QEMU sends zero. */
	for (i = 0; i < s->num_regions; i++)
		if (s->regions[i].r.guest_addr == r->guest_addr &&
		    s->regions[i].r.user_addr == r->user_addr &&
		    s->regions[i].r.size == r->size)
			break;
	if (i == s->num_regions)
		return vu_fail(err, -ENOENT, "no region 0x%llx+0x%llx",
			       (unsigned long long)r->guest_addr, (unsigned long long)r->size);
	gone = s->regions[i];
	s->regions[i] = s->regions[s->num_regions - 1];
	ret = install(s, s->regions, s->num_regions - 1, err);
	if (ret < 0) {
		s->regions[s->num_regions - 1] = s->regions[i];
		s->regions[i] = gone;
		return ret;
	}
	s->num_regions--;
	close(gone.fd);
	return 0;
}

void vu_mem_clear(struct vrdmad_session *s)
{
	struct vrd_error err = { "", "" };

	if (s->num_regions && vrd_device_set_mem_table(s->dev, NULL, 0, &err) < 0)
		vrdmad_session_log(s, VRD_LOG_ERROR, "emptying the memory table: %s", err.msg);
	close_regions(s);
}

int vu_translate(const struct vrdmad_session *s, uint64_t user, uint64_t size, uint64_t *addr)
{
	for (unsigned int i = 0; i < s->num_regions; i++) {
		const struct vu_mem_region *r = &s->regions[i].r;

		if (user >= r->user_addr && user - r->user_addr < r->size &&
		    size <= r->size - (user - r->user_addr)) {
			*addr = r->guest_addr + (user - r->user_addr);
			return 0;
		}
	}
	return -EFAULT;
}
