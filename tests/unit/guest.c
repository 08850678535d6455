// SPDX-License-Identifier: GPL-2.0-or-later
/* The test guest: its memory and the life cycle of its device.  See guest.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "shm.h"

#define GUEST_BASE	0x100000000ULL		/* different from the address at which it is
						 * mapped, and not zero */

void guest_fatal(const char *fmt, ...)
{
	va_list ap;

	printf("Bail out! ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	abort();
}

uint64_t guest_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* ---- engine ------------------------------------------------------------------ */

static void log_to_stderr(void *opaque, enum vrd_log_level level, const char *msg)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	(void)opaque;
	fprintf(stderr, "vrd %s: %s\n", names[level], msg);
}

struct vrd_engine *guest_engine(unsigned int pollers, unsigned int poll_us)
{
	struct vrd_engine_config cfg = {
		.pollers = pollers,
		.poll_us = poll_us,
		.log_level = VRD_LOG_DEBUG,
	};
	struct vrd_engine *engine;
	struct vrd_error err;

	if (getenv("VRD_TEST_LOG"))
		cfg.log = log_to_stderr;
	if (vrd_engine_create(&cfg, &engine, &err))
		guest_fatal("no engine: %s (%s)", err.msg, err.hint);
	return engine;
}

struct stat_query {
	const char *name;
	uint64_t value;
	bool found;
};

static void match_stat(void *opaque, const char *name, uint64_t value)
{
	struct stat_query *query = opaque;

	if (strcmp(name, query->name))
		return;
	query->value = value;
	query->found = true;
}

uint64_t guest_stat(struct guest *g, const char *name)
{
	struct stat_query query = { .name = name };

	vrd_device_stats(g->dev, match_stat, &query);
	if (!query.found)
		guest_fatal("the device has no counter %s", name);
	return query.value;
}

bool guest_stat_reaches(struct guest *g, const char *name, uint64_t value, unsigned int timeout_ms)
{
	uint64_t end = guest_now_ns() + timeout_ms * 1000000ULL;

	while (guest_stat(g, name) < value) {
		if (guest_now_ns() > end)
			return false;
		usleep(1000);
	}
	return true;
}

uint64_t guest_engine_stat(struct vrd_engine *engine, const char *name)
{
	struct stat_query query = { .name = name };

	vrd_engine_stats(engine, match_stat, &query);
	if (!query.found)
		guest_fatal("the engine has no counter %s", name);
	return query.value;
}

/* ---- memory --------------------------------------------------------------------- */

static void make_memory(struct guest *g)
{
	g->memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING |
				(g->cfg.huge_pages ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	if (g->memfd < 0 || ftruncate(g->memfd, g->cfg.mem_size) ||
	    (!g->cfg.unsealed && fcntl(g->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)))
		guest_fatal("no guest memory: %s", strerror(errno));
	g->mem = mmap(NULL, g->cfg.mem_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);
	if (g->mem == MAP_FAILED)
		guest_fatal("guest memory cannot be mapped: %s", strerror(errno));
	g->base = GUEST_BASE;
	g->num_pages = g->cfg.mem_size / GUEST_PAGE;
	g->used_pages = calloc((g->num_pages + 63) / 64, 8);
	pthread_mutex_init(&g->mem_lock, NULL);
}

static bool page_used(const struct guest *g, uint64_t page)
{
	return g->used_pages[page / 64] >> page % 64 & 1;
}

static void mark_pages(struct guest *g, uint64_t page, uint64_t num, bool used)
{
	for (; num--; page++) {
		if (used)
			g->used_pages[page / 64] |= 1ULL << page % 64;
		else
			g->used_pages[page / 64] &= ~(1ULL << page % 64);
	}
}

void *guest_alloc(struct guest *g, uint64_t bytes)
{
	uint64_t want = (bytes + GUEST_PAGE - 1) / GUEST_PAGE, run = 0, page;
	void *p;

	pthread_mutex_lock(&g->mem_lock);
	while (g->first_free < g->num_pages && page_used(g, g->first_free))
		g->first_free++;
	for (page = g->first_free; page < g->num_pages && run < want; page++)
		run = page_used(g, page) ? 0 : run + 1;
	if (run < want)
		guest_fatal("guest memory is used up by %llu bytes", (unsigned long long)bytes);
	mark_pages(g, page - want, want, true);
	pthread_mutex_unlock(&g->mem_lock);
	p = g->mem + (page - want) * GUEST_PAGE;
	memset(p, 0, want * GUEST_PAGE);
	return p;
}

void guest_free(struct guest *g, void *p, uint64_t bytes)
{
	uint64_t page;

	if (!p)
		return;
	pthread_mutex_lock(&g->mem_lock);
	page = ((uint8_t *)p - g->mem) / GUEST_PAGE;
	mark_pages(g, page, (bytes + GUEST_PAGE - 1) / GUEST_PAGE, false);
	if (page < g->first_free)
		g->first_free = page;
	pthread_mutex_unlock(&g->mem_lock);
}

uint64_t guest_addr(const struct guest *g, const void *p)
{
	return g->base + ((const uint8_t *)p - g->mem);
}

void guest_set_memory(struct guest *g)
{
	struct vrd_mem_region region = {
		.addr = g->base,
		.size = g->cfg.mem_size,
		.host = g->cfg.host_mapped ? g->mem : NULL,
		.fd = g->cfg.no_fd ? -1 : g->memfd,
	};
	struct vrd_error err;

	if (vrd_device_set_mem_table(g->dev, &region, 1, &err))
		guest_fatal("memory table: %s (%s)", err.msg, err.hint);
}

/* ---- life cycle ------------------------------------------------------------------- */

static void alloc_queue(struct guest *g, unsigned int i)
{
	struct guest_vq *vq = &g->vqs[i];

	vq->num = i == VIRTIO_RDMA_VQ_CONTROL ? 256 : 64;
	vq->desc = guest_alloc(g, 16 * vq->num);
	vq->avail = guest_alloc(g, 6 + 2 * vq->num);
	vq->used = guest_alloc(g, 6 + 8 * vq->num);
	vq->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vq->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (i == VIRTIO_RDMA_VQ_EVENT)
		vq->buf_size = sizeof(struct virtio_rdma_event);
	else if (i >= VIRTIO_RDMA_VQ_COMP_BASE)
		vq->buf_size = sizeof(struct virtio_rdma_comp_event);
	if (!vq->buf_size)
		return;
	vq->buf = guest_alloc(g, vq->num * vq->buf_size);
	for (unsigned int n = 0; n < vq->num; n++) {
		struct guest_desc desc = {
			guest_addr(g, vq->buf + n * vq->buf_size), vq->buf_size, 2,
		};

		guest_vq_add(vq, n, &desc, 1);
	}
}

struct guest *guest_create_stopped(struct vrd_engine *engine, const struct guest_config *cfg)
{
	struct guest *g = calloc(1, sizeof(*g));
	struct vrd_device_config dev_cfg = { 0 };
	struct vrd_error err;

	g->cfg = *cfg;
	g->engine = engine;
	if (!g->cfg.name)
		g->cfg.name = "guest";
	if (!g->cfg.mem_size)
		g->cfg.mem_size = 64 << 20;
	if (!g->cfg.num_vectors)
		g->cfg.num_vectors = 1;
	memcpy(g->mac, (uint8_t[]){ 0x02, 0, 0, 0, 0, cfg->id }, 6);
	memcpy(g->gid, (uint8_t[]){ 0xfe, 0x80, [11] = 0xff, 0xfe, 0, 0, cfg->id }, 16);
	if (memcmp(cfg->gid, (uint8_t[16]){ 0 }, 16))
		memcpy(g->gid, cfg->gid, 16);

	dev_cfg.name = g->cfg.name;
	dev_cfg.fabric = cfg->fabric;
	dev_cfg.ibdev = cfg->ibdev;
	dev_cfg.transports = cfg->transports;
	memcpy(dev_cfg.mac, g->mac, 6);
	dev_cfg.num_comp_vectors = g->cfg.num_vectors;
	dev_cfg.limits = cfg->limits;
	dev_cfg.num_allowed_gids = cfg->num_allowed_gids;
	memcpy(dev_cfg.allowed_gids, cfg->allowed_gids, sizeof(cfg->allowed_gids));
	if (vrd_device_create(engine, &dev_cfg, &g->dev, &err))
		guest_fatal("no device: %s (%s)", err.msg, err.hint);
	if (vrd_device_set_features(g->dev, vrd_device_features(g->dev) & ~cfg->features_off &
				    (3ULL << 32 | VRD_DEVICE_FEATURES), &err))
		guest_fatal("features: %s (%s)", err.msg, err.hint);

	make_memory(g);
	guest_set_memory(g);
	pthread_mutex_init(&g->cmd_lock, NULL);
	g->cmd_req = guest_alloc(g, GUEST_CMD_BYTES);
	g->cmd_rsp = guest_alloc(g, GUEST_CMD_BYTES);
	g->num_vqs = vrd_device_num_queues(g->dev);
	if (g->num_vqs > GUEST_MAX_VQS)
		guest_fatal("a test guest has no room for %u queues", g->num_vqs);
	for (unsigned int i = 0; i < g->num_vqs; i++)
		alloc_queue(g, i);
	return g;
}

/* Start the control queue last: it makes the device run. */
void guest_start_queues(struct guest *g)
{
	for (unsigned int i = g->num_vqs; i--;) {
		struct guest_vq *vq = &g->vqs[i];
		struct vrd_vq_config cfg = {
			.num = vq->num,
			.desc = guest_addr(g, vq->desc),
			.avail = guest_addr(g, vq->avail),
			.used = guest_addr(g, vq->used),
			/*
			 * Where it stopped; or, after a reset, behind all that the device took
			 * and used, although this side may not have read the used ring yet.
			 */
			.last_avail = vq->stopped ? vq->stopped_at :
						    vrd_load16((__le16 *)(vq->used + 2)),
		};
		struct vrd_error err;

		if (vrd_device_vq_set_kick(g->dev, i, vq->kick) ||
		    vrd_device_vq_set_call(g->dev, i, vq->call))
			guest_fatal("eventfds of queue %u are refused", i);
		if (vrd_device_vq_start(g->dev, i, &cfg, &err))
			guest_fatal("queue %u: %s (%s)", i, err.msg, err.hint);
		vq->running = true;
		vq->stopped = false;
	}
}

void guest_stop_queues(struct guest *g)
{
	for (unsigned int i = 0; i < g->num_vqs; i++) {
		uint16_t last_avail;

		if (vrd_device_vq_stop(g->dev, i, &last_avail))
			guest_fatal("queue %u does not stop", i);
		g->vqs[i].running = false;
		g->vqs[i].stopped = true;
		g->vqs[i].stopped_at = last_avail;
	}
}

struct guest *guest_create(struct vrd_engine *engine, const struct guest_config *cfg)
{
	struct guest *g = guest_create_stopped(engine, cfg);
	uint32_t status;

	guest_start_queues(g);
	if (cfg->no_init)
		return g;
	status = guest_init(g);
	if (!status)
		status = guest_add_gid(g, 0, g->gid);
	if (status)
		guest_fatal("%s: INIT or ADD_GID answers %u", g->cfg.name, status);
	return g;
}

void guest_destroy(struct guest *g)
{
	vrd_device_destroy(g->dev);
	for (unsigned int i = 0; i < g->num_vqs; i++) {
		close(g->vqs[i].kick);
		close(g->vqs[i].call);
	}
	munmap(g->mem, g->cfg.mem_size);
	close(g->memfd);
	free(g->used_pages);
	free(g);
}
