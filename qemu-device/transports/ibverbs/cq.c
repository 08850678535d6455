// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: completion queues.
 *
 * A guest's CQ is a ring that the device writes.  Behind it is a CQ of the host, which the
 * poller of the context polls.  While the poller spins it polls the CQs that are active,
 * some of them in each turn.  Before it sleeps it arms them, polls once more, and parks the
 * empty ones.  A parked CQ becomes active again when its completion channel (there is one
 * for each poller and device) has an event for it, or when more work is posted.
 *
 * The channel wakes the poller.  A poller that does not sleep, because there is other
 * traffic, reads the channel at intervals.  So a CQ without traffic costs nothing, and
 * thousands of CQs of one guest do not delay the completions of another.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "ibv.h"
#include "log.h"

/* Turns between two reads of the channel, on a poller that is awake and has parked CQs. */
#define TURNS_PER_EVENTS	256

/* ---- life: control thread, dev->lock ---------------------------------------- */

struct vrd_ibv_cq *vrd_ibv_vcq_create(struct vrd_cq *cq, uint32_t entries)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(cq->dev);
	struct vrd_ibv_poll *poll = &vdev->polls[vrd_poller_index(cq->ctx->poller)];
	struct vrd_ibv_cq *vcq = calloc(1, sizeof(*vcq));

	if (!vcq)
		return NULL;
	vcq->cq = cq;
	vcq->poll = poll;
	errno = 0;
	vcq->ibcq = ibv_create_cq(vdev->ctx, (int)entries, vcq, poll->channel, 0);
	if (!vcq->ibcq) {
		free(vcq);
		return NULL;
	}
	return vcq;
}

int vrd_ibv_cq_create(struct vrd_cq *cq)
{
	cq->priv[VRD_SLOT_IBVERBS] = vrd_ibv_vcq_create(cq, cq->entries);
	return cq->priv[VRD_SLOT_IBVERBS] ? 0 : vrd_ibv_errno(errno ? errno : EIO);
}

static void take_out(struct vrd_ibv_cq *vcq)
{
	TAILQ_REMOVE(&vcq->poll->active, vcq, link);
	vcq->poll->num_active--;
	vcq->active = false;
}

/* Runs on the poller: stops polling the CQ. */
static void deactivate(struct vrd_poller *poller, void *arg)
{
	struct vrd_ibv_cq *vcq = arg;

	(void)poller;
	vcq->poll->num_parked -= vcq->parked;
	vcq->parked = false;
	if (vcq->active)
		take_out(vcq);
}

/* The CQ's QPs are gone, so the CQ does not become active again. */
void vrd_ibv_vcq_destroy(struct vrd_ibv_cq *vcq)
{
	struct vrd_cq *cq = vcq->cq;
	int ret;

	vrd_poller_call(cq->ctx->poller, deactivate, vcq);
	/* ibv_destroy_cq() waits until the poller has acknowledged the events that it read. */
	ret = ibv_destroy_cq(vcq->ibcq);
	if (ret)
		vrd_dev_log(cq->dev, VRD_LOG_ERROR, "the host keeps a completion queue: %s",
			    strerror(ret));
	else
		free(vcq);
}

static bool poll_cq(struct vrd_ibv_cq *vcq);

/* Runs on the poller. */
static void drain(struct vrd_poller *poller, void *arg)
{
	struct vrd_ibv_cq *vcq = arg;

	(void)poller;
	/* Bounded: other QPs may continue to add completions. */
	for (int left = vcq->ibcq->cqe; left > 0 && poll_cq(vcq); left -= VRD_IBV_WCS)
		;
}

void vrd_ibv_cq_drain(struct vrd_ibv_cq *vcq)
{
	vrd_poller_call(vcq->cq->ctx->poller, drain, vcq);
}

void vrd_ibv_cq_destroy(struct vrd_cq *cq)
{
	vrd_ibv_vcq_destroy(cq->priv[VRD_SLOT_IBVERBS]);
	cq->priv[VRD_SLOT_IBVERBS] = NULL;
}

/* ---- the poller's part ----------------------------------------------------------- */

void vrd_ibv_cq_activate(struct vrd_ibv_cq *vcq)
{
	vcq->poll->num_parked -= vcq->parked;
	vcq->parked = false;
	vcq->active = true;
	TAILQ_INSERT_TAIL(&vcq->poll->active, vcq, link);
	vcq->poll->num_active++;
}

/* Returns true if there was a completion. */
static bool poll_cq(struct vrd_ibv_cq *vcq)
{
	struct ibv_wc wc[VRD_IBV_WCS];
	int n = ibv_poll_cq(vcq->ibcq, VRD_IBV_WCS, wc);

	for (int i = 0; i < n; i++)
		vrd_ibv_complete(vcq, &wc[i]);
	return n > 0;
}

static void park(struct vrd_ibv_cq *vcq)
{
	take_out(vcq);
	vcq->parked = true;
	vcq->poll->num_parked++;
}

/* After an event its CQ is no longer armed and must be polled. */
static void read_events(struct vrd_ibv_poll *poll)
{
	struct ibv_cq *ibcq;
	void *context;

	/* The channel is non-blocking. */
	while (!ibv_get_cq_event(poll->channel, &ibcq, &context)) {
		struct vrd_ibv_cq *vcq = context;

		vcq->armed = false;
		if (vcq->parked)
			vrd_ibv_cq_activate(vcq);
		/* Acknowledge at once: ibv_destroy_cq() waits for it. */
		ibv_ack_cq_events(ibcq, 1);
	}
}

bool vrd_ibv_poll(struct vrd_device *dev, struct vrd_poller *poller)
{
	struct vrd_ibv_poll *poll = &vrd_ibv_dev(dev)->polls[vrd_poller_index(poller)];
	bool worked = false;
	unsigned int n;

	if (poll->slept || (poll->num_parked && ++poll->turns % TURNS_PER_EVENTS == 0)) {
		poll->slept = false;
		read_events(poll);
	}
	n = poll->num_active;
	if (n > VRD_IBV_CQS_TURN)
		n = VRD_IBV_CQS_TURN;
	for (; n; n--) {
		struct vrd_ibv_cq *vcq = TAILQ_FIRST(&poll->active);

		worked |= poll_cq(vcq);
		if (poll->num_active > 1) {
			TAILQ_REMOVE(&poll->active, vcq, link);
			TAILQ_INSERT_TAIL(&poll->active, vcq, link);
		}
	}
	return worked;
}

bool vrd_ibv_poll_sleep(struct vrd_device *dev, struct vrd_poller *poller)
{
	struct vrd_ibv_poll *poll = &vrd_ibv_dev(dev)->polls[vrd_poller_index(poller)];
	struct vrd_ibv_cq *vcq, *next;
	bool worked = false;

	read_events(poll);
	poll->slept = true;
	for (vcq = TAILQ_FIRST(&poll->active); vcq; vcq = next) {
		next = TAILQ_NEXT(vcq, link);
		if (!vcq->armed && ibv_req_notify_cq(vcq->ibcq, 0))
			continue;
		/* Completions from before the arming raise no event. */
		vcq->armed = true;
		if (poll_cq(vcq))
			worked = true;
		else
			park(vcq);
	}
	return worked;
}

/* ---- channels ------------------------------------------------------------------------ */

static int open_poll(struct vrd_ibv_dev *vdev, unsigned int i)
{
	struct vrd_ibv_poll *poll = &vdev->polls[i];
	int ret;

	poll->vdev = vdev;
	TAILQ_INIT(&poll->active);
	errno = 0;
	poll->channel = ibv_create_comp_channel(vdev->ctx);
	if (!poll->channel)
		return errno ? -errno : -EIO;
	ret = fcntl(poll->channel->fd, F_SETFL,
		    fcntl(poll->channel->fd, F_GETFL) | O_NONBLOCK) ? -errno : 0;
	if (!ret)
		ret = vrd_poller_watch(vrd_engine_poller(vdev->dev->engine, i), poll->channel->fd);
	if (ret) {
		ibv_destroy_comp_channel(poll->channel);
		poll->channel = NULL;
	}
	return ret;
}

int vrd_ibv_polls_open(struct vrd_ibv_dev *vdev, struct vrd_error *err)
{
	unsigned int num = vrd_engine_poller_count(vdev->dev->engine);
	int ret;

	vdev->polls = calloc(num, sizeof(vdev->polls[0]));
	if (!vdev->polls)
		return vrd_fail(err, -ENOMEM, "", "out of memory");
	for (unsigned int i = 0; i < num; i++) {
		ret = open_poll(vdev, i);
		if (!ret)
			continue;
		vrd_ibv_polls_close(vdev);
		return vrd_fail(err, ret, "", "ibdev %s: no completion channel: %s",
				vdev->ibdev->name, strerror(-ret));
	}
	return 0;
}

void vrd_ibv_polls_close(struct vrd_ibv_dev *vdev)
{
	unsigned int num = vrd_engine_poller_count(vdev->dev->engine);

	for (unsigned int i = 0; i < num && vdev->polls[i].channel; i++) {
		vrd_poller_unwatch(vrd_engine_poller(vdev->dev->engine, i),
				   vdev->polls[i].channel->fd);
		ibv_destroy_comp_channel(vdev->polls[i].channel);
	}
	free(vdev->polls);
	vdev->polls = NULL;
}
