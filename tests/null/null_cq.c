// SPDX-License-Identifier: GPL-2.0-or-later
/* The dummy RDMA device: completion channels and completion queues.  See null_verbs.h. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "null_internal.h"

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
	struct ibv_wc wc[NULL_CQ_WCS];
};

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
	struct null_channel *channel = null_make(sizeof(*channel));

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
	return null_drop(channel);
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
	struct null_cq *ncq = null_make(sizeof(*ncq));

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
	null_pass(NULL_DESTROY_CQ, 0);
	drop_events((struct null_cq *)cq);
	return null_drop(cq);
}

/* ---- completions ------------------------------------------------------------------- */

void null_complete(struct ibv_cq *cq, const struct ibv_wc *wc)
{
	struct null_cq *ncq = (struct null_cq *)cq;
	bool event;

	pthread_spin_lock(&ncq->lock);
	ncq->wc[ncq->head % NULL_CQ_WCS] = *wc;
	__atomic_store_n(&ncq->head, ncq->head + 1, __ATOMIC_RELEASE);
	event = ncq->armed;
	ncq->armed = false;
	pthread_spin_unlock(&ncq->lock);
	if (event && cq->channel)
		add_event(ncq);
}

int null_poll_cq(struct ibv_cq *cq, int num, struct ibv_wc *wc)
{
	struct null_cq *ncq = (struct null_cq *)cq;
	int n = 0;

	/* Checked without the lock, as a real device's ring is. */
	if (__atomic_load_n(&ncq->head, __ATOMIC_ACQUIRE) == ncq->tail)
		return 0;
	pthread_spin_lock(&ncq->lock);
	while (n < num && ncq->tail != ncq->head)
		wc[n++] = ncq->wc[ncq->tail++ % NULL_CQ_WCS];
	pthread_spin_unlock(&ncq->lock);
	return n;
}

int null_req_notify_cq(struct ibv_cq *cq, int solicited_only)
{
	struct null_cq *ncq = (struct null_cq *)cq;

	(void)solicited_only;
	pthread_spin_lock(&ncq->lock);
	ncq->armed = true;
	pthread_spin_unlock(&ncq->lock);
	return 0;
}

/* Removes the QP's completions from a CQ. */
void null_forget(struct ibv_cq *cq, uint32_t qpn)
{
	struct null_cq *ncq = (struct null_cq *)cq;
	uint32_t to;

	pthread_spin_lock(&ncq->lock);
	to = ncq->tail;
	for (uint32_t from = ncq->tail; from != ncq->head; from++)
		if (ncq->wc[from % NULL_CQ_WCS].qp_num != qpn)
			ncq->wc[to++ % NULL_CQ_WCS] = ncq->wc[from % NULL_CQ_WCS];
	__atomic_store_n(&ncq->head, to, __ATOMIC_RELEASE);
	pthread_spin_unlock(&ncq->lock);
}
