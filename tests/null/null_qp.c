// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The dummy RDMA device: queue pairs, shared receive queues, and their work requests.  See
 * null_verbs.h.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "null_internal.h"

#define FIRST_QPN	0x1000

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

_Atomic bool null_gone, null_forgets;
_Atomic long null_srq_room = LONG_MAX, null_srq_taken;

static _Atomic int next_status;
static struct null_qp *qps[NULL_MAX_QPS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* protects qps */

/* ---- rings and SRQs ------------------------------------------------------------------- */

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
	struct null_srq *nsrq = null_make(sizeof(*nsrq) + size * sizeof(struct null_recv));

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
	return null_fails() ? ENOMEM : 0;
}

int ibv_query_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr)
{
	(void)srq;
	(void)attr;
	return 0;
}

int ibv_destroy_srq(struct ibv_srq *srq)
{
	return null_drop(srq);
}

/* ---- QPs --------------------------------------------------------------------------------- */

struct ibv_qp *null_qp(uint32_t qpn)
{
	return &qps[qpn - FIRST_QPN]->qp;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *init)
{
	uint32_t rq = init->cap.max_recv_wr ? init->cap.max_recv_wr : 1;
	struct null_qp *nqp;
	unsigned int i;

	null_pass(NULL_CREATE_QP, 0);
	nqp = null_make(sizeof(*nqp) + rq * sizeof(struct null_recv));
	if (!nqp)
		return NULL;
	init_ring(&nqp->rq, rq, nqp + 1);
	nqp->qp = (struct ibv_qp){
		.context = pd->context, .qp_context = init->qp_context, .pd = pd,
		.send_cq = init->send_cq, .recv_cq = init->recv_cq, .srq = init->srq,
		.qp_type = init->qp_type,
	};
	pthread_mutex_lock(&lock);
	for (i = 0; i < NULL_MAX_QPS - 1 && qps[i]; i++)
		;
	nqp->qp.qp_num = FIRST_QPN + i;
	qps[i] = nqp;
	pthread_mutex_unlock(&lock);
	return &nqp->qp;
}

static void forget_completions(struct ibv_qp *qp)
{
	if (!null_forgets)
		return;
	null_forget(qp->send_cq, qp->qp_num);
	null_forget(qp->recv_cq, qp->qp_num);
}

int ibv_destroy_qp(struct ibv_qp *qp)
{
	null_pass(NULL_DESTROY_QP, qp->qp_num);
	pthread_mutex_lock(&lock);
	qps[qp->qp_num - FIRST_QPN] = NULL;
	pthread_mutex_unlock(&lock);
	forget_completions(qp);
	return null_drop(qp);
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

static void complete(struct ibv_cq *cq, uint64_t wr_id, uint32_t qpn, enum ibv_wc_status status,
		     enum ibv_wc_opcode opcode)
{
	struct ibv_wc wc = {
		.wr_id = wr_id, .status = status, .opcode = opcode, .qp_num = qpn,
	};

	null_complete(cq, &wc);
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
	null_complete(nqp->qp.recv_cq, &wc);
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

	null_pass(NULL_MODIFY_QP, qp->qp_num);
	if (null_fails())
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

int null_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
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

int null_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
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

int null_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
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
