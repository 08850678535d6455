// SPDX-License-Identifier: GPL-2.0-or-later
/* A host's RDMA device that does nothing.  See null_verbs.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "null_verbs.h"

#define CQ_WCS		65536		/* a CQ has room for all that tests post */
#define MAX_QPS		4096
#define FIRST_QPN	0x1000

const uint8_t null_gids[2][16] = {
	{ 0xfe, 0x80, [15] = 1 },
	{ [10] = 0xff, 0xff, 10, 0, 0, 1 },
};

_Atomic bool null_no_ah, null_slow_ah, null_gone, null_forgets;
_Atomic long null_srq_room = LONG_MAX, null_srq_taken;
bool null_no_atomics;

static _Atomic long objects, countdown;
static _Atomic bool fired;
static _Atomic int next_status;

/* Its descriptor is readable as often as there are events. */
struct null_channel {
	struct ibv_comp_channel channel;
	pthread_spinlock_t lock;
	TAILQ_HEAD(, null_cq) events;
};

struct null_cq {
	struct ibv_cq cq;
	pthread_spinlock_t lock;
	uint32_t head, tail;
	bool armed;
	unsigned int events;		/* queued in its channel, under the channel's lock */
	unsigned int unacked;		/* read from the channel; under the same lock */
	TAILQ_ENTRY(null_cq) link;
	struct ibv_wc wc[CQ_WCS];
};

struct null_recv {
	uint64_t wr_id, addr;
	uint32_t length;
};

struct null_ring {
	pthread_spinlock_t lock;
	uint32_t head, tail, size;
	struct null_recv *recv;		/* allocated after its owner */
};

struct null_qp {
	struct ibv_qp qp;
	struct null_ring rq;
};

struct null_srq {
	struct ibv_srq srq;
	struct null_ring ring;
};

struct null_pd {
	struct ibv_pd pd;
	_Atomic unsigned int num_ahs;
};

static struct null_qp *qps[MAX_QPS];
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

static bool fails(void)
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

static void pass(enum null_call call, uint32_t qpn)
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

static void *make(size_t size)
{
	void *p;

	if (fails())
		return NULL;
	p = calloc(1, size);
	objects += p != NULL;
	return p;
}

static int drop(void *p)
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

static int poll_cq(struct ibv_cq *cq, int num, struct ibv_wc *wc);
static int req_notify_cq(struct ibv_cq *cq, int solicited_only);
static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
static int post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);

struct ibv_context *ibv_open_device(struct ibv_device *dev)
{
	struct ibv_context *ctx = make(sizeof(*ctx));

	if (!ctx)
		return NULL;
	ctx->device = dev;
	ctx->async_fd = eventfd(0, EFD_CLOEXEC);
	ctx->ops = (struct ibv_context_ops){
		.poll_cq = poll_cq, .req_notify_cq = req_notify_cq, .post_send = post_send,
		.post_recv = post_recv, .post_srq_recv = post_srq_recv,
	};
	return ctx;
}

int ibv_close_device(struct ibv_context *ctx)
{
	close(ctx->async_fd);
	return drop(ctx);
}

int ibv_query_device(struct ibv_context *ctx, struct ibv_device_attr *attr)
{
	(void)ctx;
	*attr = (struct ibv_device_attr){
		.max_mr_size = UINT64_MAX, .max_qp = MAX_QPS, .max_qp_wr = 16384, .max_sge = 32,
		.max_sge_rd = 32, .max_cq = 65536, .max_cqe = CQ_WCS / 2, .max_mr = 1 << 20,
		.max_pd = 65536, .max_qp_rd_atom = 16, .max_qp_init_rd_atom = 16,
		.atomic_cap = null_no_atomics ? IBV_ATOMIC_NONE : IBV_ATOMIC_HCA,
		.max_srq = 1024, .max_srq_wr = 16384, .max_srq_sge = 32, .phys_port_cnt = 1,
	};
	return fails() ? ENOMEM : 0;
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
	return fails() ? ENOMEM : 0;
}

ssize_t _ibv_query_gid_table(struct ibv_context *ctx, struct ibv_gid_entry *entries, size_t max,
			     uint32_t flags, size_t entry_size)
{
	(void)ctx;
	(void)flags;
	(void)entry_size;
	if (fails())
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
	struct null_pd *npd = make(sizeof(*npd));

	if (!npd)
		return NULL;
	npd->pd.context = ctx;
	return &npd->pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	return ((struct null_pd *)pd)->num_ahs ? EBUSY : drop(pd);
}

static struct ibv_mr *reg(struct ibv_pd *pd, void *addr, size_t length)
{
	static _Atomic uint32_t key;
	struct ibv_mr *mr;

	pass(NULL_REG_MR, 0);
	mr = make(sizeof(*mr));
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
	pass(NULL_DEREG_MR, 0);
	return drop(mr);
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
	ah = make(sizeof(*ah));
	if (!ah)
		return NULL;
	ah->pd = pd;
	((struct null_pd *)pd)->num_ahs++;
	return ah;
}

int ibv_destroy_ah(struct ibv_ah *ah)
{
	pass(NULL_DESTROY_AH, 0);
	((struct null_pd *)ah->pd)->num_ahs--;
	return drop(ah);
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
	struct null_channel *channel = make(sizeof(*channel));

	if (!channel)
		return NULL;
	channel->channel.context = ctx;
	channel->channel.fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	pthread_spin_init(&channel->lock, PTHREAD_PROCESS_PRIVATE);
	TAILQ_INIT(&channel->events);
	return &channel->channel;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	close(channel->fd);
	return drop(channel);
}

static void add_event(struct null_cq *ncq)
{
	struct null_channel *channel = (struct null_channel *)ncq->cq.channel;
	uint64_t one = 1;

	pthread_spin_lock(&channel->lock);
	if (!ncq->events++)
		TAILQ_INSERT_TAIL(&channel->events, ncq, link);
	pthread_spin_unlock(&channel->lock);
	if (write(channel->channel.fd, &one, sizeof(one)) < 0)
		abort();
}

/* Waits until events that were read are acknowledged. */
static void drop_events(struct null_cq *ncq)
{
	struct null_channel *channel = (struct null_channel *)ncq->cq.channel;

	if (!channel)
		return;
	pthread_spin_lock(&channel->lock);
	if (ncq->events)
		TAILQ_REMOVE(&channel->events, ncq, link);
	ncq->events = 0;
	while (ncq->unacked) {
		pthread_spin_unlock(&channel->lock);
		usleep(10);
		pthread_spin_lock(&channel->lock);
	}
	pthread_spin_unlock(&channel->lock);
}

int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context)
{
	struct null_channel *nchannel = (struct null_channel *)channel;
	struct null_cq *ncq = NULL;
	uint64_t value;

	/* The counter may exceed the number of events: events of destroyed CQs are dropped. */
	while (!ncq && read(channel->fd, &value, sizeof(value)) == sizeof(value)) {
		pthread_spin_lock(&nchannel->lock);
		ncq = TAILQ_FIRST(&nchannel->events);
		if (ncq && !--ncq->events)
			TAILQ_REMOVE(&nchannel->events, ncq, link);
		if (ncq)
			ncq->unacked++;
		pthread_spin_unlock(&nchannel->lock);
	}
	if (!ncq)
		return -1;
	*cq = &ncq->cq;
	*context = ncq->cq.cq_context;
	return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int num)
{
	struct null_cq *ncq = (struct null_cq *)cq;
	struct null_channel *channel = (struct null_channel *)cq->channel;

	pthread_spin_lock(&channel->lock);
	ncq->unacked -= num;
	pthread_spin_unlock(&channel->lock);
}

struct ibv_cq *ibv_create_cq(struct ibv_context *ctx, int cqe, void *context,
			     struct ibv_comp_channel *channel, int vector)
{
	struct null_cq *ncq = make(sizeof(*ncq));

	(void)vector;
	if (!ncq)
		return NULL;
	ncq->cq.context = ctx;
	ncq->cq.channel = channel;
	ncq->cq.cq_context = context;
	ncq->cq.cqe = cqe;
	pthread_spin_init(&ncq->lock, PTHREAD_PROCESS_PRIVATE);
	return &ncq->cq;
}

int ibv_destroy_cq(struct ibv_cq *cq)
{
	pass(NULL_DESTROY_CQ, 0);
	drop_events((struct null_cq *)cq);
	return drop(cq);
}

static void init_ring(struct null_ring *ring, uint32_t size, void *memory)
{
	pthread_spin_init(&ring->lock, PTHREAD_PROCESS_PRIVATE);
	ring->size = size;
	ring->recv = memory;
}

/* Returns false if the ring is full. */
static bool put(struct null_ring *ring, const struct ibv_recv_wr *wr)
{
	if (ring->head - ring->tail == ring->size)
		return false;
	ring->recv[ring->head++ % ring->size] = (struct null_recv){
		.wr_id = wr->wr_id,
		.addr = wr->num_sge ? wr->sg_list[0].addr : 0,
		.length = wr->num_sge ? wr->sg_list[0].length : 0,
	};
	return true;
}

struct ibv_srq *ibv_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *init)
{
	uint32_t size = init->attr.max_wr;
	struct null_srq *nsrq = make(sizeof(*nsrq) + size * sizeof(struct null_recv));

	if (!nsrq)
		return NULL;
	nsrq->srq.context = pd->context;
	nsrq->srq.srq_context = init->srq_context;
	nsrq->srq.pd = pd;
	init_ring(&nsrq->ring, size, nsrq + 1);
	return &nsrq->srq;
}

int ibv_modify_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr, int mask)
{
	(void)srq;
	(void)attr;
	(void)mask;
	return fails() ? ENOMEM : 0;
}

int ibv_query_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr)
{
	(void)srq;
	(void)attr;
	return 0;
}

int ibv_destroy_srq(struct ibv_srq *srq)
{
	return drop(srq);
}

struct ibv_qp *null_qp(uint32_t qpn)
{
	return &qps[qpn - FIRST_QPN]->qp;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *init)
{
	uint32_t rq = init->cap.max_recv_wr ? init->cap.max_recv_wr : 1;
	struct null_qp *nqp;
	unsigned int i;

	pass(NULL_CREATE_QP, 0);
	nqp = make(sizeof(*nqp) + rq * sizeof(struct null_recv));
	if (!nqp)
		return NULL;
	init_ring(&nqp->rq, rq, nqp + 1);
	nqp->qp = (struct ibv_qp){
		.context = pd->context, .qp_context = init->qp_context, .pd = pd,
		.send_cq = init->send_cq, .recv_cq = init->recv_cq, .srq = init->srq,
		.qp_type = init->qp_type,
	};
	pthread_mutex_lock(&lock);
	for (i = 0; i < MAX_QPS - 1 && qps[i]; i++)
		;
	nqp->qp.qp_num = FIRST_QPN + i;
	qps[i] = nqp;
	pthread_mutex_unlock(&lock);
	return &nqp->qp;
}

/* Removes the QP's completions from a CQ. */
static void forget(struct ibv_cq *cq, uint32_t qpn)
{
	struct null_cq *ncq = (struct null_cq *)cq;
	uint32_t to;

	pthread_spin_lock(&ncq->lock);
	to = ncq->tail;
	for (uint32_t from = ncq->tail; from != ncq->head; from++)
		if (ncq->wc[from % CQ_WCS].qp_num != qpn)
			ncq->wc[to++ % CQ_WCS] = ncq->wc[from % CQ_WCS];
	__atomic_store_n(&ncq->head, to, __ATOMIC_RELEASE);
	pthread_spin_unlock(&ncq->lock);
}

static void forget_completions(struct ibv_qp *qp)
{
	if (!null_forgets)
		return;
	forget(qp->send_cq, qp->qp_num);
	forget(qp->recv_cq, qp->qp_num);
}

int ibv_destroy_qp(struct ibv_qp *qp)
{
	pass(NULL_DESTROY_QP, qp->qp_num);
	pthread_mutex_lock(&lock);
	qps[qp->qp_num - FIRST_QPN] = NULL;
	pthread_mutex_unlock(&lock);
	forget_completions(qp);
	return drop(qp);
}

int ibv_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
		 struct ibv_qp_init_attr *init)
{
	(void)mask;
	(void)init;
	memset(attr, 0, sizeof(*attr));
	attr->qp_state = qp->state;
	return 0;
}

/* ---- data ----------------------------------------------------------------------------- */

static void complete_wc(struct ibv_cq *cq, const struct ibv_wc *wc)
{
	struct null_cq *ncq = (struct null_cq *)cq;
	bool event;

	pthread_spin_lock(&ncq->lock);
	ncq->wc[ncq->head % CQ_WCS] = *wc;
	__atomic_store_n(&ncq->head, ncq->head + 1, __ATOMIC_RELEASE);
	event = ncq->armed;
	ncq->armed = false;
	pthread_spin_unlock(&ncq->lock);
	if (event && cq->channel)
		add_event(ncq);
}

static void complete(struct ibv_cq *cq, uint64_t wr_id, uint32_t qpn, enum ibv_wc_status status,
		     enum ibv_wc_opcode opcode)
{
	struct ibv_wc wc = {
		.wr_id = wr_id, .status = status, .opcode = opcode, .qp_num = qpn,
	};

	complete_wc(cq, &wc);
}

static int poll_cq(struct ibv_cq *cq, int num, struct ibv_wc *wc)
{
	struct null_cq *ncq = (struct null_cq *)cq;
	int n = 0;

	/* Checked without the lock, as a real device's ring is. */
	if (__atomic_load_n(&ncq->head, __ATOMIC_ACQUIRE) == ncq->tail)
		return 0;
	pthread_spin_lock(&ncq->lock);
	while (n < num && ncq->tail != ncq->head)
		wc[n++] = ncq->wc[ncq->tail++ % CQ_WCS];
	pthread_spin_unlock(&ncq->lock);
	return n;
}

static int req_notify_cq(struct ibv_cq *cq, int solicited_only)
{
	struct null_cq *ncq = (struct null_cq *)cq;

	(void)solicited_only;
	pthread_spin_lock(&ncq->lock);
	ncq->armed = true;
	pthread_spin_unlock(&ncq->lock);
	return 0;
}

static void flush_receives(struct null_qp *nqp)
{
	struct null_ring *rq = &nqp->rq;

	while (rq->tail != rq->head)
		complete(nqp->qp.recv_cq, rq->recv[rq->tail++ % rq->size].wr_id, nqp->qp.qp_num,
			 IBV_WC_WR_FLUSH_ERR, IBV_WC_RECV);
}

/* ring->lock is held. */
static bool receive(struct null_qp *nqp, struct null_ring *ring, enum ibv_wc_status status,
		    const void *data, uint32_t length)
{
	int state = __atomic_load_n(&nqp->qp.state, __ATOMIC_RELAXED);
	struct ibv_wc wc = {
		.status = status, .opcode = IBV_WC_RECV, .qp_num = nqp->qp.qp_num,
		.byte_len = length, .src_qp = NULL_SRC_QP,
		.wc_flags = nqp->qp.qp_type == IBV_QPT_UD ? IBV_WC_GRH : 0,
	};
	const struct null_recv *recv;

	if (state < IBV_QPS_RTR || state == IBV_QPS_ERR || ring->tail == ring->head)
		return false;
	recv = &ring->recv[ring->tail++ % ring->size];
	wc.wr_id = recv->wr_id;
	if (data && length <= recv->length)
		memcpy((void *)(uintptr_t)recv->addr, data, length);
	complete_wc(nqp->qp.recv_cq, &wc);
	return true;
}

bool null_receive(uint32_t qpn, enum ibv_wc_status status, const void *data, uint32_t length)
{
	struct null_qp *nqp;
	bool taken = false;

	/* The lock keeps the QP from being destroyed. */
	pthread_mutex_lock(&lock);
	nqp = qps[qpn - FIRST_QPN];
	if (nqp) {
		struct null_srq *nsrq = (struct null_srq *)nqp->qp.srq;
		struct null_ring *ring = nsrq ? &nsrq->ring : &nqp->rq;

		pthread_spin_lock(&ring->lock);
		taken = receive(nqp, ring, status, data, length);
		pthread_spin_unlock(&ring->lock);
	}
	pthread_mutex_unlock(&lock);
	return taken;
}

int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
	struct null_qp *nqp = (struct null_qp *)qp;

	pass(NULL_MODIFY_QP, qp->qp_num);
	if (fails())
		return ENOMEM;
	if (!(mask & IBV_QP_STATE))
		return 0;
	/* Wait for messages that have seen the old state. */
	pthread_mutex_lock(&lock);
	__atomic_store_n(&qp->state, attr->qp_state, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&lock);
	pthread_spin_lock(&nqp->rq.lock);
	if (attr->qp_state == IBV_QPS_ERR)
		flush_receives(nqp);
	if (attr->qp_state == IBV_QPS_RESET)
		nqp->rq.head = nqp->rq.tail = 0;
	pthread_spin_unlock(&nqp->rq.lock);
	if (attr->qp_state == IBV_QPS_RESET)
		forget_completions(qp);
	return 0;
}

void null_next_status(enum ibv_wc_status status)
{
	next_status = status;
}

static const enum ibv_wc_opcode opcodes[] = {
	[IBV_WR_RDMA_WRITE] = IBV_WC_RDMA_WRITE, [IBV_WR_RDMA_WRITE_WITH_IMM] = IBV_WC_RDMA_WRITE,
	[IBV_WR_SEND] = IBV_WC_SEND, [IBV_WR_SEND_WITH_IMM] = IBV_WC_SEND,
	[IBV_WR_RDMA_READ] = IBV_WC_RDMA_READ, [IBV_WR_ATOMIC_CMP_AND_SWP] = IBV_WC_COMP_SWAP,
	[IBV_WR_ATOMIC_FETCH_AND_ADD] = IBV_WC_FETCH_ADD,
};

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	enum ibv_wc_status status = IBV_WC_SUCCESS;

	for (; wr; wr = wr->next) {
		if (__atomic_load_n(&null_gone, __ATOMIC_RELAXED)) {
			*bad = wr;
			return EIO;
		}
		if (__atomic_load_n(&qp->state, __ATOMIC_RELAXED) == IBV_QPS_ERR)
			status = IBV_WC_WR_FLUSH_ERR;
		else if (__atomic_load_n(&next_status, __ATOMIC_RELAXED))
			status = (enum ibv_wc_status)atomic_exchange(&next_status, 0);
		if (status != IBV_WC_SUCCESS)
			__atomic_store_n(&qp->state, IBV_QPS_ERR, __ATOMIC_RELAXED);
		if (status != IBV_WC_SUCCESS || wr->send_flags & IBV_SEND_SIGNALED)
			complete(qp->send_cq, wr->wr_id, qp->qp_num, status, opcodes[wr->opcode]);
	}
	return 0;
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct null_qp *nqp = (struct null_qp *)qp;
	int ret = 0;

	pthread_spin_lock(&nqp->rq.lock);
	for (; wr; wr = wr->next) {
		if (null_gone || !put(&nqp->rq, wr)) {
			*bad = wr;
			ret = null_gone ? EIO : ENOMEM;
			break;
		}
	}
	pthread_spin_unlock(&nqp->rq.lock);
	return ret;
}

static int post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct null_ring *ring = &((struct null_srq *)srq)->ring;
	int ret = 0;

	pthread_spin_lock(&ring->lock);
	for (; wr; wr = wr->next) {
		if (null_srq_taken >= null_srq_room || !put(ring, wr)) {
			*bad = wr;
			ret = ENOMEM;
			break;
		}
		null_srq_taken++;
	}
	pthread_spin_unlock(&ring->lock);
	return ret;
}
