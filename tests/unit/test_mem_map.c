// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Mappings of guest memory: regions that two tables have in common are mapped
 * once, sizes that are not those of huge pages leave nothing behind, and pages
 * that are missing cost the device whose memory it is, on whichever thread, and
 * neither the process nor another device.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem.h"
#include "objects.h"
#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))
#define MIB	(1ULL << 20)
#define HUGE	(2 * MIB)

static int set(struct raw *r, const struct vrd_mem_region *m, unsigned int n)
{
	struct vrd_error err = { .msg = "" };

	return vrd_device_set_mem_table(r->dev, m, n, &err);
}

static unsigned int num_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned int n = 0;
	int c;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

static int huge_file(uint64_t size)
{
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_ALLOW_SEALING);

	if (fd >= 0 && !ftruncate(fd, (off_t)size) && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static uint8_t *at(struct raw *r, uint64_t addr)
{
	return vrd_mem_at(r->dev->mem, addr, 1, false, NULL);
}

/* ---- sharing ------------------------------------------------------------ */

static void unchanged(struct raw *r)
{
	int fd = memfd_create("second", MFD_CLOEXEC), other = memfd_create("third", MFD_CLOEXEC);
	struct vrd_mem_region m[3] = {
		{ .addr = RAW_BASE, .size = RAW_SIZE, .fd = r->memfd },
		{ .addr = 0, .size = MIB, .fd = fd },
		{ .addr = 4 * MIB, .size = MIB, .fd = fd, .fd_offset = MIB },
	};
	struct vrd_mem *table;
	struct vrd_cq *cq;
	uint8_t *first, *second;
	uint32_t ctx, cqn;
	void *page;

	if (ftruncate(fd, 2 * MIB) || ftruncate(other, 2 * MIB))
		return;
	raw_recover(r);
	is(set(r, m, 3), 0, "three regions");
	ctx = raw_ctx(r, 0);
	cqn = raw_cq(r, ctx, 64, 0);
	cq = vrd_table_find(&r->dev->cqs, cqn);
	first = at(r, 0);
	second = at(r, 4 * MIB);
	page = cq->buf.hva[0];
	table = r->dev->mem;
	is(set(r, m, 3), 0, "the same table again");
	ok(r->dev->mem == table, "changes nothing");
	is(set(r, (struct vrd_mem_region []) { m[2], m[0], m[1] }, 3), 0, "in another order");
	ok(r->dev->mem == table, "changes nothing either");

	is(set(r, m, 2), 0, "one region goes");
	ok(at(r, 0) == first && !at(r, 4 * MIB) && cq->buf.hva[0] == page,
	   "the others stay where they are");
	is(r->dev->mem->num_changes, 1, "one change");
	ok(vrd_mem_changed(r->dev->mem, 4 * MIB + 5, 1) &&
	   vrd_mem_changed(r->dev->mem, 4 * MIB - 1, 2) &&
	   !vrd_mem_changed(r->dev->mem, 4 * MIB - 1, 1) &&
	   !vrd_mem_changed(r->dev->mem, 5 * MIB, 1) && !vrd_mem_changed(r->dev->mem, RAW_BASE, MIB),
	   "of its addresses");
	is(set(r, m, 3), 0, "it comes back");
	ok(at(r, 0) == first && at(r, 4 * MIB), "beside them");

	m[2].fd_offset = 0;
	second = at(r, 4 * MIB);
	second[7] = 1;
	at(r, 0)[7] = 2;
	is(set(r, m, 3), 0, "another part of the file at the same address");
	is(at(r, 4 * MIB)[7], 2, "is another mapping");
	m[2].fd = other;
	is(set(r, m, 3), 0, "another file at the same address");
	is(at(r, 4 * MIB)[7], 0, "as well");
	m[2].readonly = true;
	is(set(r, m, 3), 0, "a region that becomes read-only");
	ok(!vrd_mem_at(r->dev->mem, 4 * MIB, 1, true, NULL), "is");

	/* A ring follows its region, and only that one. */
	m[0].fd = other;
	m[0].size = 2 * MIB;
	m[0].addr = RAW_BASE;
	is(set(r, m, 3), 0, "the region with the rings is exchanged");
	ok(cq->buf.hva[0] != page, "a ring that is in it is translated again");
	vrd_device_reset(r->dev);
	raw_set_memory(r);
	close(fd);
	close(other);
}

/* A region that the other guest's table change must not touch: counted in maps. */
static void huge_sizes(struct raw *r)
{
	int fd = huge_file(2 * HUGE);
	struct vrd_mem_region m[4] = {
		{ .addr = 0, .size = 4096, .fd = fd },
		{ .addr = MIB, .size = HUGE, .fd = fd, .fd_offset = 4096 },
		{ .addr = 8 * MIB, .size = HUGE - 4096, .fd = fd, .fd_offset = HUGE },
		{ .addr = 16 * MIB, .size = 2 * HUGE, .fd = fd },
	};
	unsigned int before, i;
	bool all = true;

	if (fd < 0) {
		ok(true, "huge pages # SKIP this system has none of 2 MiB");
		return;
	}
	is(set(r, m, 4), 0, "pieces of huge pages");
	raw_set_memory(r);
	before = num_maps();
	for (i = 0; i < 200; i++)
		all = all && !set(r, m, 4) && !raw_set_memory(r);
	ok(all, "200 times");
	ok(num_maps() < before + 20, "leave no mappings: %u before, %u after", before, num_maps());
	m[3].size += 4096;
	is(set(r, m, 4), -EINVAL, "a page more than the file has");
	close(fd);
}

static void quota(struct raw *r)
{
	struct raw *peer = raw_new_peer(r, NULL, FEATURES);
	uint64_t *max = vrd_engine_max_maps(r->engine), real = *max;
	struct vrd_mem_region m[200];
	unsigned int i;

	for (i = 0; i < 200; i++)
		m[i] = (struct vrd_mem_region) {
			.addr = i * 8192ULL, .size = 4096, .fd = r->memfd, .fd_offset = i * 4096ULL,
		};
	*max = 160;
	is(set(r, m, 200), -ENOSPC, "more mappings than the process may have");
	is(set(r, m, 60), 0, "some of them");
	is(set(r, m, 100), -ENOSPC, "more than are left to others");
	is(set(peer, m, 16), 0, "another device gets what each one is sure of");
	is(set(r, m, 0), 0, "the first gives them back");
	is(set(peer, m, 60), 0, "then others can have them");
	*max = real;
	raw_free(peer);
	raw_set_memory(r);
}

/* ---- missing pages ------------------------------------------------------ */

static struct vrd_engine *handler_engine;
static _Atomic int handled;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!vrd_engine_sigbus(handler_engine, info->si_addr))
		signal(sig, SIG_DFL);	/* the access is repeated, and ends the process */
	else
		handled++;
}

enum thread { CONTROL, POLLER, FRONT_END };
static const char *const thread_names[] = { "control", "poller", "front end's" };

/* The region of @size bytes at address 0 has no pages: @thread looks at it. */
static void touch(struct raw *r, enum thread thread, uint64_t size)
{
	struct virtio_rdma_create_ctx_req req = {
		.hdr.opcode = VIRTIO_RDMA_CMD_CREATE_CTX, .db_page = size - 4096,
	};
	struct virtio_rdma_create_ctx_rsp rsp;
	struct vrd_vq_config cfg;
	struct vrd_error err;

	switch (thread) {
	case CONTROL:
		raw_desc(r, 0, 0, size - 64, 8, VRING_DESC_F_NEXT, 1);
		raw_desc(r, 0, 1, r->rsp, 64, VRING_DESC_F_WRITE, 0);
		raw_offer(r, 0, 0);
		break;
	case POLLER:
		raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp));
		raw_start(r, 2, 16);
		raw_kick(r, 2);
		break;
	case FRONT_END:
		cfg = r->q[0].cfg;
		cfg.used = size - 4096;
		vrd_device_vq_start(r->dev, 1, &cfg, &err);
		break;
	}
}

static void missing(struct raw *r, struct raw *peer, enum thread thread, bool huge)
{
	const uint64_t size = huge ? HUGE - 8192 : 1 * MIB;
	const char *what = huge ? "huge pages that nobody has" : "a file that was shortened";
	struct vrd_mem_region m[2] = {
		{ .addr = RAW_BASE, .size = RAW_SIZE, .fd = r->memfd },
		{ .addr = 0, .size = size },
	};
	int fd = huge ? huge_file(HUGE) : memfd_create("short", MFD_CLOEXEC);
	int before = handled;
	uint8_t *p;

	if (fd < 0 || (!huge && ftruncate(fd, (off_t)size))) {
		ok(true, "%s # SKIP no such file", what);
		return;
	}
	m[1].fd = fd;
	raw_recover(r);
	is(set(r, m, 2), 0, "%s", what);
	if (!huge && ftruncate(fd, 0))
		return;
	touch(r, thread, size);
	ok(raw_broken(r), "break the device in the %s thread", thread_names[thread]);
	/* The handler counts after the device is broken. */
	for (unsigned int i = 0; i < 10000 && handled == before; i++)
		usleep(100);
	ok(handled > before, "by a SIGBUS that ends nothing");
	is(raw_recover(peer), 0, "another device works");

	/* What is in place of the memory is memory, and goes with the region. */
	p = at(r, 0);
	p[0] = 1;
	vrd_device_reset(r->dev);
	if (!huge && !ftruncate(fd, (off_t)size)) {
		is(set(r, m, 2), 0, "the same table after a reset");
		ok(at(r, 0)[0] == 0 && at(r, 0) != NULL, "has the file again");
		at(r, 0)[0] = 5;
		uint8_t byte = 0;

		ok(pread(fd, &byte, 1, 0) == 1 && byte == 5, "and not what took its place");
	}
	raw_set_memory(r);
	is(raw_recover(r), 0, "the device works after a reset");
	close(fd);
}

/* Huge pages that are there would make no SIGBUS. */
static bool huge_pages_free(void)
{
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "r");
	unsigned int n = 0;

	if (f && fscanf(f, "%u", &n) != 1)
		n = 0;
	if (f)
		fclose(f);
	return n;
}

int main(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	struct raw *r = raw_new(NULL, FEATURES), *peer = raw_new_peer(r, NULL, FEATURES);
	enum thread t;

	handler_engine = r->engine;
	sigaction(SIGBUS, &sa, NULL);
	unchanged(r);
	huge_sizes(r);
	quota(r);
	for (t = CONTROL; t <= FRONT_END; t++) {
		missing(r, peer, t, false);
		if (huge_pages_free())
			ok(true, "missing huge pages # SKIP the system has some");
		else
			missing(r, peer, t, true);
	}
	raw_free(peer);
	raw_free(r);
	return tap_done();
}
