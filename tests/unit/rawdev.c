// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See rawdev.h.  Little-endian hosts only, as the tests' machines are; accesses
 * to shared words are atomic so that the thread sanitizer can judge the core.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "objects.h"
#include "cmd_length.h"
#include "rawdev.h"

#define PAGE	4096ULL

int raw_status;

static void die(const char *what, const struct vrd_error *err)
{
	fprintf(stderr, "rawdev: %s: %s\n", what, err ? err->msg : "failed");
	abort();
}

static void log_fn(void *opaque, enum vrd_log_level level, const char *msg)
{
	struct raw *r = opaque;

	__atomic_fetch_add(&r->logged, 1, __ATOMIC_RELAXED);
	if (getenv("VRD_TEST_LOG"))
		printf("# log %d: %s\n", level, msg);
}

static struct raw *make(struct vrd_engine *engine, const struct vrd_limits *limits,
			uint64_t features, unsigned int number)
{
	struct raw *r = calloc(1, sizeof(*r));
	struct vrd_device_config cfg = {
		.name = "raw",
		.mac = { 0x52, 0x54, 0, 0x12, 0x34, (uint8_t)(0x50 + number) },
		.num_comp_vectors = RAW_QUEUES - 3,
	};
	struct vrd_error err;
	unsigned int i;

	if (!r)
		die("memory", NULL);
	if (!engine) {
		struct vrd_engine_config ecfg = {
			.pollers = 2, .poll_us = 20, .log = log_fn, .log_opaque = r,
			.log_level = VRD_LOG_DEBUG,
		};

		if (vrd_engine_create(&ecfg, &r->engine, &err))
			die("engine", &err);
		engine = r->engine;
	}
	if (limits)
		cfg.limits = *limits;
	if (vrd_device_create(engine, &cfg, &r->dev, &err))
		die("device", &err);
	r->memfd = memfd_create("guest", MFD_CLOEXEC);
	if (r->memfd < 0 || ftruncate(r->memfd, RAW_SIZE))
		die("memfd", NULL);
	r->mem = mmap(NULL, RAW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, r->memfd, 0);
	if (r->mem == MAP_FAILED)
		die("mmap", NULL);
	r->next = PAGE;		/* page 0 stays unused: wrong address arithmetic may hit it */
	r->features = features | (vrd_device_features(r->dev) & VRD_DEVICE_FEATURES);
	if (raw_set_memory(r) || vrd_device_set_features(r->dev, r->features, &err))
		die("memory table or features", &err);
	for (i = 0; i < RAW_QUEUES; i++) {
		r->q[i].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r->q[i].call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vrd_device_vq_set_kick(r->dev, i, r->q[i].kick) ||
		    vrd_device_vq_set_call(r->dev, i, r->q[i].call))
			die("descriptors", NULL);
	}
	r->req = raw_alloc(r, 32);
	r->rsp = raw_alloc(r, 4);
	return r;
}

struct raw *raw_new(const struct vrd_limits *limits, uint64_t features)
{
	return make(NULL, limits, features, 0);
}

struct raw *raw_new_peer(struct raw *r, const struct vrd_limits *limits, uint64_t features)
{
	return make(r->engine, limits, features, 1);
}

void raw_free(struct raw *r)
{
	unsigned int i;

	vrd_device_destroy(r->dev);
	if (r->engine)
		vrd_engine_destroy(r->engine);
	for (i = 0; i < RAW_QUEUES; i++) {
		close(r->q[i].kick);
		close(r->q[i].call);
	}
	munmap(r->mem, RAW_SIZE);
	close(r->memfd);
	free(r);
}

int raw_set_memory(struct raw *r)
{
	struct vrd_mem_region region = {
		.addr = RAW_BASE, .size = RAW_SIZE, .fd = r->memfd,
	};
	struct vrd_error err;

	return vrd_device_set_mem_table(r->dev, &region, 1, &err);
}

uint64_t raw_alloc(struct raw *r, uint64_t pages)
{
	uint64_t at = r->next;

	r->next += pages * PAGE;
	if (r->next > RAW_SIZE)
		die("guest memory is used up", NULL);
	memset(r->mem + at, 0, pages * PAGE);
	return RAW_BASE + at;
}

void *raw_ptr(struct raw *r, uint64_t addr)
{
	return r->mem + (addr - RAW_BASE);
}

/*
 * The thread sanitizer does not know that the device's mapping of a word and ours are the
 * same, so it misses the ordering that the rings establish between the threads.  The tests
 * need that ordering when they read the core's objects.
 */
static void order_threads(struct raw *r)
{
#ifdef __SANITIZE_THREAD__
	pthread_mutex_lock(&r->dev->lock);
	pthread_mutex_unlock(&r->dev->lock);
#else
	(void)r;
#endif
}

/* ---- queues ------------------------------------------------------------ */

int raw_start(struct raw *r, unsigned int i, uint16_t num)
{
	struct raw_queue *q = &r->q[i];
	uint64_t desc = raw_alloc(r, (num * 16ULL + PAGE - 1) / PAGE);
	uint64_t avail = raw_alloc(r, (num * 2ULL + 6 + PAGE - 1) / PAGE);
	uint64_t used = raw_alloc(r, (num * 8ULL + 6 + PAGE - 1) / PAGE);
	struct vrd_error err;

	q->num = num;
	q->desc = raw_ptr(r, desc);
	q->avail = raw_ptr(r, avail);
	q->used = raw_ptr(r, used);
	q->seen = 0;
	q->cfg = (struct vrd_vq_config) { num, desc, avail, used, 0 };
	return vrd_device_vq_start(r->dev, i, &q->cfg, &err);
}

int raw_stop(struct raw *r, unsigned int i)
{
	return vrd_device_vq_stop(r->dev, i, &r->q[i].cfg.last_avail);
}

void raw_kick(struct raw *r, unsigned int i)
{
	uint64_t one = 1;

	if (write(r->q[i].kick, &one, sizeof(one)) < 0)
		die("kick", NULL);
}

void raw_desc(struct raw *r, unsigned int i, uint16_t at, uint64_t addr, uint32_t len,
	      uint16_t flags, uint16_t next)
{
	struct vring_desc d = { .addr = addr, .len = len, .flags = flags, .next = next };
	uint64_t words[2];

	memcpy(words, &d, sizeof(d));
	__atomic_store_n((uint64_t *)&r->q[i].desc[at], words[0], __ATOMIC_RELAXED);
	__atomic_store_n((uint64_t *)&r->q[i].desc[at] + 1, words[1], __ATOMIC_RELAXED);
}

void raw_offer(struct raw *r, unsigned int i, uint16_t head)
{
	struct raw_queue *q = &r->q[i];
	uint16_t idx = q->avail[1];

	order_threads(r);
	__atomic_store_n(&q->avail[2 + (idx & (q->num - 1))], head, __ATOMIC_RELAXED);
	__atomic_store_n(&q->avail[1], (uint16_t)(idx + 1), __ATOMIC_RELEASE);
	raw_kick(r, i);
}

bool raw_used(struct raw *r, unsigned int i, uint32_t *id, uint32_t *len, int ms)
{
	struct raw_queue *q = &r->q[i];
	struct pollfd p = { .fd = q->call, .events = POLLIN };
	uint32_t *entry;
	uint64_t count;

	for (;;) {
		if (__atomic_load_n(&q->used[1], __ATOMIC_ACQUIRE) != q->seen) {
			entry = (uint32_t *)(q->used + 2) + 2 * (q->seen & (q->num - 1));
			*id = __atomic_load_n(&entry[0], __ATOMIC_RELAXED);
			*len = __atomic_load_n(&entry[1], __ATOMIC_RELAXED);
			q->seen++;
			order_threads(r);
			return true;
		}
		if (poll(&p, 1, ms) <= 0)
			return false;
		if (read(q->call, &count, sizeof(count)) < 0)
			return false;
	}
}

/* ---- commands ---------------------------------------------------------- */

int raw_cmd(struct raw *r, const void *req, uint32_t req_len, void *rsp, uint32_t rsp_len)
{
	uint32_t length = cmd_length_word(req, req_len);
	struct virtio_rdma_rsp_hdr hdr;
	uint32_t id;

	/* byte by byte, because another thread of a test may be changing them */
	for (uint32_t i = 0; i < req_len; i++) {
		bool is_length = req_len >= 8 && i >= 4 && i < 8;

		__atomic_store_n((uint8_t *)raw_ptr(r, r->req) + i,
				 is_length ? ((const uint8_t *)&length)[i - 4] :
					     ((const uint8_t *)req)[i], __ATOMIC_RELAXED);
	}
	memset(raw_ptr(r, r->rsp), 0xee, 4 * PAGE);
	raw_desc(r, 0, 0, r->req, req_len, VRING_DESC_F_NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, rsp_len, VRING_DESC_F_WRITE, 0);
	raw_offer(r, 0, 0);
	if (!raw_used(r, 0, &id, &r->used_len, 2000))
		return -1;
	if (rsp)
		memcpy(rsp, raw_ptr(r, r->rsp), rsp_len);
	if (r->used_len < sizeof(hdr))
		return -2;
	memcpy(&hdr, raw_ptr(r, r->rsp), sizeof(hdr));
	return (int)hdr.status;
}

bool raw_broken(struct raw *r)
{
	struct pollfd p = { .fd = vrd_device_error_fd(r->dev), .events = POLLIN };

	return poll(&p, 1, 1000) == 1 && vrd_device_is_broken(r->dev);
}

int raw_init(struct raw *r)
{
	struct virtio_rdma_init_req req = {
		.hdr.opcode = VIRTIO_RDMA_CMD_INIT,
		.num_comp_vectors = RAW_QUEUES - 3,
	};
	struct virtio_rdma_rsp_hdr rsp;

	return raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp));
}

int raw_recover(struct raw *r)
{
	struct vrd_error err;

	vrd_device_reset(r->dev);
	r->next = PAGE;
	r->req = raw_alloc(r, 32);
	r->rsp = raw_alloc(r, 4);
	if (vrd_device_set_features(r->dev, r->features, &err) || raw_start(r, 0, 64))
		return -1;
	return raw_init(r);
}

uint32_t raw_ctx(struct raw *r, uint32_t flags)
{
	struct virtio_rdma_create_ctx_req req = {
		.hdr.opcode = VIRTIO_RDMA_CMD_CREATE_CTX, .flags = flags,
		.db_page = raw_alloc(r, 1),
	};
	struct virtio_rdma_create_ctx_rsp rsp;

	raw_status = raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp));
	return raw_status ? 0 : rsp.ctx;
}

uint32_t raw_pd(struct raw *r, uint32_t ctx)
{
	struct virtio_rdma_alloc_pd_req req = {
		.hdr.opcode = VIRTIO_RDMA_CMD_ALLOC_PD, .ctx = ctx,
	};
	struct virtio_rdma_alloc_pd_rsp rsp;

	raw_status = raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp));
	return raw_status ? 0 : rsp.pd;
}

uint32_t raw_cq(struct raw *r, uint32_t ctx, uint32_t entries, uint32_t vector)
{
	uint32_t ring = (entries * 32 + 127) & ~127U, pages = (ring + 128 + 4095) / 4096;
	struct {
		struct virtio_rdma_create_cq_req req;
		struct virtio_rdma_extent ext;
	} q = {
		.req = {
			.hdr.opcode = VIRTIO_RDMA_CMD_CREATE_CQ,
			.ctx = ctx, .entries = entries, .cqe_size = 32, .vector = vector,
			.ring_offset = 0, .ctrl_offset = ring, .buf.num_extents = 1,
		},
		.ext = { .addr = raw_alloc(r, pages), .pages = pages },
	};
	struct virtio_rdma_create_cq_rsp rsp;

	raw_status = raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp));
	return raw_status ? 0 : rsp.cqn;
}

uint32_t raw_srq(struct raw *r, uint32_t ctx, uint32_t pd)
{
	struct {
		struct virtio_rdma_create_srq_req req;
		struct virtio_rdma_extent ext;
	} q = {
		.req = {
			.hdr.opcode = VIRTIO_RDMA_CMD_CREATE_SRQ,
			.ctx = ctx, .pd = pd, .entries = 16, .max_sge = 1,
			.ctrl_offset = 1024, .buf.num_extents = 1,
		},
		.ext = { .addr = raw_alloc(r, 1), .pages = 1 },
	};
	struct virtio_rdma_create_srq_rsp rsp;

	raw_status = raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp));
	return raw_status ? 0 : rsp.srqn;
}

void raw_qp_fill(struct raw *r, struct raw_qp_req *q, uint8_t type, uint32_t ctx, uint32_t pd,
		 uint32_t scq, uint32_t rcq)
{
	*q = (struct raw_qp_req) {
		.req = {
			.hdr.opcode = VIRTIO_RDMA_CMD_CREATE_QP,
			.ctx = ctx, .pd = pd, .send_cqn = scq, .recv_cqn = rcq,
			.srqn = VIRTIO_RDMA_NONE, .qp_type = type,
			.sq_stride_shift = 1, .rq_stride_shift = 1,
			.sq_entries = 16, .rq_entries = 16,
			.max_send_sge = 2, .max_recv_sge = 2, .max_inline = 32,
			.sq_offset = 0, .rq_offset = 4096,
			.sq_ctrl_offset = 4096 + 1024, .rq_ctrl_offset = 4096 + 1024 + 128,
			.buf.num_extents = 1,
		},
		.ext[0] = { .addr = raw_alloc(r, 2), .pages = 2 },
	};
}

uint32_t raw_qp(struct raw *r, uint8_t type, uint32_t ctx, uint32_t pd, uint32_t scq,
		uint32_t rcq)
{
	struct virtio_rdma_create_qp_rsp rsp;
	struct raw_qp_req q;

	raw_qp_fill(r, &q, type, ctx, pd, scq, rcq);
	raw_status = raw_cmd(r, &q, sizeof(q.req) + sizeof(q.ext[0]), &rsp, sizeof(rsp));
	return raw_status ? 0 : rsp.qpn;
}

int raw_destroy(struct raw *r, uint32_t opcode, uint32_t handle)
{
	struct virtio_rdma_destroy_req req = { .hdr.opcode = opcode, .handle = handle };
	struct virtio_rdma_rsp_hdr rsp;

	return raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp));
}

int raw_modify(struct raw *r, uint32_t qpn, uint32_t mask, const struct virtio_rdma_qp_attr *a)
{
	struct virtio_rdma_modify_qp_req req = {
		.hdr.opcode = VIRTIO_RDMA_CMD_MODIFY_QP, .qpn = qpn, .mask = mask, .attr = *a,
	};
	struct virtio_rdma_rsp_hdr rsp;

	return raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp));
}

struct virtio_rdma_add_gid_req raw_gid_fill(struct raw *r, uint32_t index, const uint8_t gid[16])
{
	struct virtio_rdma_add_gid_req req = {
		.hdr.opcode = VIRTIO_RDMA_CMD_ADD_GID, .index = index,
		.gid_type = VIRTIO_RDMA_GID_ROCE_V2, .vlan_id = VIRTIO_RDMA_VLAN_NONE,
	};

	memcpy(req.gid, gid, 16);
	vrd_device_get_config(r->dev, 0, req.smac, sizeof(req.smac));
	return req;
}

int raw_add_gid(struct raw *r, uint32_t index, const uint8_t gid[16])
{
	struct virtio_rdma_add_gid_req req = raw_gid_fill(r, index, gid);
	struct virtio_rdma_rsp_hdr rsp;

	return raw_cmd(r, &req, sizeof(req), &rsp, sizeof(rsp));
}

void raw_link_local(struct raw *r, uint8_t gid[16])
{
	struct virtio_rdma_config c;

	vrd_device_get_config(r->dev, 0, &c, sizeof(c));
	memset(gid, 0, 16);
	gid[0] = 0xfe;
	gid[1] = 0x80;
	memcpy(gid + 8, c.mac, 3);
	gid[8] ^= 2;
	gid[11] = 0xff;
	gid[12] = 0xfe;
	memcpy(gid + 13, c.mac + 3, 3);
}

int raw_reg_mr(struct raw *r, uint32_t pd, uint32_t access, uint64_t iova, uint64_t length,
	       const struct virtio_rdma_extent *ext, uint32_t num, uint64_t total,
	       struct virtio_rdma_reg_mr_rsp *rsp)
{
	size_t len = sizeof(struct virtio_rdma_reg_mr_req) + num * sizeof(*ext);
	struct virtio_rdma_reg_mr_req *req = calloc(1, len);
	int ret;

	req->hdr.opcode = VIRTIO_RDMA_CMD_REG_MR;
	req->pd = pd;
	req->access = access;
	req->iova = iova;
	req->length = length;
	req->total_pages = total;
	req->num_extents = num;
	memcpy(req + 1, ext, num * sizeof(*ext));
	ret = raw_cmd(r, req, (uint32_t)len, rsp, sizeof(*rsp));
	free(req);
	return ret;
}

struct want {
	const char *name;
	uint64_t value;
};

static void pick(void *opaque, const char *name, uint64_t value)
{
	struct want *w = opaque;

	if (!strcmp(w->name, name))
		w->value = value;
}

uint64_t raw_stat(struct raw *r, const char *name)
{
	struct want w = { name, UINT64_MAX };

	vrd_device_stats(r->dev, pick, &w);
	return w.value;
}
