// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A host's RDMA device that does nothing: see null_verbs.h.  The device, its events, PDs,
 * regions and address handles; and the calls that fail or do not return.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "null_internal.h"

#define PATIENCE_MS	5000

const uint8_t null_gids[2][16] = {
	{ 0xfe, 0x80, [15] = 1 },
	{ [10] = 0xff, 0xff, 10, 0, 0, 1 },
};

_Atomic bool null_no_ah, null_slow_ah;
bool null_no_atomics;

static _Atomic long objects, countdown;
static _Atomic bool fired;

struct null_pd {
	struct ibv_pd pd;
	_Atomic unsigned int num_ahs;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ibv_async_event pending;
static bool is_pending;

void null_fail(long nth)
{
	fired = false;
	countdown = nth;
}

bool null_failed(void)
{
	countdown = 0;
	return fired;
}

bool null_fails(void)
{
	if (atomic_load(&countdown) <= 0 || atomic_fetch_sub(&countdown, 1) != 1)
		return false;
	fired = true;
	errno = ENOMEM;
	return true;
}

/* ---- calls that do not return ---------------------------------------------------- */

static struct null_gate {
	_Atomic bool closed;
	_Atomic uint32_t qpn;
	_Atomic unsigned int waiting;
} gates[NULL_CALLS];

void null_hold(enum null_call call, uint32_t qpn)
{
	gates[call].qpn = qpn;
	gates[call].closed = true;
}

void null_release(enum null_call call)
{
	gates[call].closed = false;
}

unsigned int null_held(enum null_call call)
{
	return gates[call].waiting;
}

bool null_held_reaches(enum null_call call, unsigned int num)
{
	for (int i = 0; i < PATIENCE_MS && null_held(call) < num; i++)
		usleep(1000);
	return null_held(call) >= num;
}

void null_pass(enum null_call call, uint32_t qpn)
{
	struct null_gate *gate = &gates[call];

	if (!gate->closed || (gate->qpn && gate->qpn != qpn))
		return;
	gate->waiting++;
	while (gate->closed)
		usleep(500);
	gate->waiting--;
}

long null_objects(void)
{
	return objects;
}

bool null_objects_reach(long num)
{
	for (int i = 0; i < PATIENCE_MS && objects != num; i++)
		usleep(1000);
	return objects == num;
}

void *null_make(size_t size)
{
	void *p;

	if (null_fails())
		return NULL;
	p = calloc(1, size);
	objects += p != NULL;
	return p;
}

int null_drop(void *p)
{
	objects--;
	free(p);
	return 0;
}

/* ---- device ---------------------------------------------------------------------- */

static struct ibv_device device = {
	.node_type = IBV_NODE_CA, .transport_type = IBV_TRANSPORT_IB, .name = NULL_IBDEV,
	.dev_name = "uverbs-null",
};

struct ibv_device **ibv_get_device_list(int *num)
{
	struct ibv_device **list = calloc(2, sizeof(*list));

	list[0] = &device;
	if (num)
		*num = 1;
	return list;
}

void ibv_free_device_list(struct ibv_device **list)
{
	free(list);
}

const char *ibv_get_device_name(struct ibv_device *dev)
{
	return dev->name;
}

struct ibv_context *ibv_open_device(struct ibv_device *dev)
{
	struct ibv_context *ctx = null_make(sizeof(*ctx));

	if (!ctx)
		return NULL;
	ctx->device = dev;
	ctx->async_fd = eventfd(0, EFD_CLOEXEC);
	ctx->ops = (struct ibv_context_ops){
		.poll_cq = null_poll_cq, .req_notify_cq = null_req_notify_cq, .post_send = null_post_send,
		.post_recv = null_post_recv, .post_srq_recv = null_post_srq_recv,
	};
	return ctx;
}

int ibv_close_device(struct ibv_context *ctx)
{
	close(ctx->async_fd);
	return null_drop(ctx);
}

int ibv_query_device(struct ibv_context *ctx, struct ibv_device_attr *attr)
{
	(void)ctx;
	*attr = (struct ibv_device_attr){
		.max_mr_size = UINT64_MAX, .max_qp = NULL_MAX_QPS, .max_qp_wr = 16384, .max_sge = 32,
		.max_sge_rd = 32, .max_cq = 65536, .max_cqe = NULL_CQ_WCS / 2, .max_mr = 1 << 20,
		.max_pd = 65536, .max_qp_rd_atom = 16, .max_qp_init_rd_atom = 16,
		.atomic_cap = null_no_atomics ? IBV_ATOMIC_NONE : IBV_ATOMIC_HCA,
		.max_srq = 1024, .max_srq_wr = 16384, .max_srq_sge = 32, .phys_port_cnt = 1,
	};
	return null_fails() ? ENOMEM : 0;
}

#undef ibv_query_port
int ibv_query_port(struct ibv_context *ctx, uint8_t port, struct _compat_ibv_port_attr *compat)
{
	struct ibv_port_attr *attr = (void *)compat;

	(void)ctx;
	(void)port;
	attr->state = IBV_PORT_ACTIVE;
	attr->max_mtu = attr->active_mtu = IBV_MTU_4096;
	attr->max_msg_sz = NULL_MAX_MSG;
	attr->link_layer = IBV_LINK_LAYER_ETHERNET;
	attr->active_width = 2;
	attr->active_speed = 32;
	return null_fails() ? ENOMEM : 0;
}

ssize_t _ibv_query_gid_table(struct ibv_context *ctx, struct ibv_gid_entry *entries, size_t max,
			     uint32_t flags, size_t entry_size)
{
	(void)ctx;
	(void)flags;
	(void)entry_size;
	if (null_fails())
		return -ENOMEM;
	for (size_t i = 0; i < 2 && i < max; i++) {
		entries[i] = (struct ibv_gid_entry){
			.gid_index = i, .port_num = 1, .gid_type = IBV_GID_TYPE_ROCE_V2,
		};
		memcpy(entries[i].gid.raw, null_gids[i], 16);
	}
	return 2;
}

int ibv_get_async_event(struct ibv_context *ctx, struct ibv_async_event *event)
{
	uint64_t value;

	if (read(ctx->async_fd, &value, sizeof(value)) < 0)
		return -1;
	pthread_mutex_lock(&lock);
	*event = pending;
	is_pending = false;
	pthread_mutex_unlock(&lock);
	return 0;
}

void ibv_ack_async_event(struct ibv_async_event *event)
{
	(void)event;
}

void null_event(enum ibv_event_type type, struct ibv_qp *qp, bool port)
{
	uint64_t one = 1;
	bool wait = true;

	while (wait) {
		pthread_mutex_lock(&lock);
		wait = is_pending;
		if (!wait) {
			pending = (struct ibv_async_event){ .event_type = type };
			if (port)
				pending.element.port_num = 1;
			else
				pending.element.qp = qp;
			is_pending = true;
		}
		pthread_mutex_unlock(&lock);
	}
	if (write(qp->context->async_fd, &one, sizeof(one)) != sizeof(one))
		abort();
}

/* ---- objects ------------------------------------------------------------------------ */

struct ibv_pd *ibv_alloc_pd(struct ibv_context *ctx)
{
	struct null_pd *npd = null_make(sizeof(*npd));

	if (!npd)
		return NULL;
	npd->pd.context = ctx;
	return &npd->pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	return ((struct null_pd *)pd)->num_ahs ? EBUSY : null_drop(pd);
}

static struct ibv_mr *reg(struct ibv_pd *pd, void *addr, size_t length)
{
	static _Atomic uint32_t key;
	struct ibv_mr *mr;

	null_pass(NULL_REG_MR, 0);
	mr = null_make(sizeof(*mr));
	if (!mr)
		return NULL;
	*mr = (struct ibv_mr){
		.context = pd->context, .pd = pd, .addr = addr, .length = length,
	};
	/* As on real devices: 24 bits chosen by the host, 8 bits by the user. */
	mr->lkey = atomic_fetch_add(&key, 0x100) + 0x17b;
	mr->rkey = mr->lkey ^ 0x80000001;
	return mr;
}

#undef ibv_reg_mr
struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	(void)access;
	return reg(pd, addr, length);
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	(void)iova;
	(void)access;
	return reg(pd, addr, length);
}

#undef ibv_reg_mr_iova
struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			       int access)
{
	(void)iova;
	(void)access;
	return reg(pd, addr, length);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	null_pass(NULL_DEREG_MR, 0);
	return null_drop(mr);
}

struct ibv_ah *ibv_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr)
{
	struct ibv_ah *ah;

	while (null_slow_ah)
		usleep(1000);
	if (null_no_ah && memcmp(attr->grh.dgid.raw, null_gids[1], 16)) {
		errno = ETIMEDOUT;
		return NULL;
	}
	ah = null_make(sizeof(*ah));
	if (!ah)
		return NULL;
	ah->pd = pd;
	((struct null_pd *)pd)->num_ahs++;
	return ah;
}

int ibv_destroy_ah(struct ibv_ah *ah)
{
	null_pass(NULL_DESTROY_AH, 0);
	((struct null_pd *)ah->pd)->num_ahs--;
	return null_drop(ah);
}
