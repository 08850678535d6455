// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Completion events of a device that has died, for a process that sleeps until
 * one comes.  Runs in a guest whose device dies when the test says so; waits for
 * IBV_EVENT_DEVICE_FATAL, then arms, posts and waits, in every order.  Prints TAP.
 */
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH	16

static struct ibv_context *ctx;
static struct ibv_comp_channel *channel;
static struct ibv_cq *cq, *srq_cq;
static struct ibv_qp *qp, *srq_qp;
static struct ibv_srq *srq;
static struct ibv_mr *mr;
static char buf[64];
static unsigned int tests, failures;

static void result(bool good, const char *what)
{
	printf("%sok %u - %s\n", good ? "" : "not ", ++tests, what);
	fflush(stdout);
	failures += !good;
}

static void must(bool good, const char *what)
{
	if (!good) {
		printf("Bail out! %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static struct ibv_qp *make_qp(struct ibv_pd *pd, struct ibv_cq *send, struct ibv_srq *shared)
{
	struct ibv_qp_init_attr init = {
		.send_cq = send, .recv_cq = send, .srq = shared, .qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = DEPTH, .max_recv_wr = shared ? 0 : DEPTH, .max_send_sge = 1,
			 .max_recv_sge = shared ? 0 : 1 },
	};
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = 1 };
	struct ibv_qp *made = ibv_create_qp(pd, &init);

	must(made, "ibv_create_qp");
	must(!ibv_modify_qp(made, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			    IBV_QP_ACCESS_FLAGS), "INIT");
	return made;
}

static void setup(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_srq_init_attr srq_init = { .attr = { .max_wr = DEPTH, .max_sge = 1 } };
	struct ibv_pd *pd;

	must(list && list[0], "no RDMA device");
	ctx = ibv_open_device(list[0]);
	must(ctx, "ibv_open_device");
	pd = ibv_alloc_pd(ctx);
	channel = ibv_create_comp_channel(ctx);
	must(pd && channel, "PD and channel");
	mr = ibv_reg_mr(pd, buf, sizeof(buf), IBV_ACCESS_LOCAL_WRITE);
	cq = ibv_create_cq(ctx, 4 * DEPTH, NULL, channel, 0);
	srq_cq = ibv_create_cq(ctx, 4 * DEPTH, NULL, channel, 0);
	srq = ibv_create_srq(pd, &srq_init);
	must(mr && cq && srq_cq && srq, "objects");
	qp = make_qp(pd, cq, NULL);
	srq_qp = make_qp(pd, srq_cq, srq);
	must(!fcntl(channel->fd, F_SETFL, fcntl(channel->fd, F_GETFL) | O_NONBLOCK), "fcntl");
}

/* How many events of @want come within @ms; those of the other CQ do not count. */
static unsigned int events(struct ibv_cq *want, int ms, bool all)
{
	struct pollfd pfd = { .fd = channel->fd, .events = POLLIN };
	unsigned int num = 0;
	struct ibv_cq *which;
	void *context;

	while (poll(&pfd, 1, ms) > 0) {
		if (ibv_get_cq_event(channel, &which, &context))
			break;
		ibv_ack_cq_events(which, 1);
		num += which == want;
		if (num && !all)
			break;
	}
	return num;
}

static unsigned int flushed(struct ibv_cq *which)
{
	unsigned int num = 0;
	struct ibv_wc wc;

	while (ibv_poll_cq(which, 1, &wc) == 1)
		num += wc.status == IBV_WC_WR_FLUSH_ERR;
	return num;
}

static void post(bool shared)
{
	struct ibv_sge sge = { .addr = (uintptr_t)buf, .length = sizeof(buf), .lkey = mr->lkey };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;

	must(!(shared ? ibv_post_srq_recv(srq, &wr, &bad) : ibv_post_recv(qp, &wr, &bad)), "post");
}

static void rounds(struct ibv_cq *which, bool shared, const char *name)
{
	bool good = true;
	char what[100];
	int i;

	for (i = 0; i < 5 && good; i++) {
		ibv_req_notify_cq(which, 0);
		post(shared);
		good = events(which, 10000, false) == 1 && flushed(which) == 1;
	}
	snprintf(what, sizeof(what), "%s: armed, then posted, five times", name);
	result(good, what);

	events(which, 100, true);
	good = true;
	for (i = 0; i < 5 && good; i++) {
		post(shared);
		ibv_req_notify_cq(which, 0);
		good = events(which, 10000, false) == 1 && flushed(which) == 1;
	}
	snprintf(what, sizeof(what), "%s: posted, then armed, five times", name);
	result(good, what);

	events(which, 100, true);
	ibv_req_notify_cq(which, 0);
	snprintf(what, sizeof(what), "%s: no event with nothing to poll", name);
	result(events(which, 300, true) == 0 && flushed(which) == 0, what);
	post(shared);
	snprintf(what, sizeof(what), "%s: but with the next post", name);
	result(events(which, 10000, false) == 1 && flushed(which) == 1, what);
}

int main(void)
{
	struct ibv_async_event event;

	setup();
	/* One outstanding receive each, and armed. */
	post(false);
	post(true);
	ibv_req_notify_cq(cq, 0);
	ibv_req_notify_cq(srq_cq, 0);
	printf("# ready\n");
	fflush(stdout);
	do {
		must(!ibv_get_async_event(ctx, &event), "ibv_get_async_event");
		ibv_ack_async_event(&event);
	} while (event.event_type != IBV_EVENT_DEVICE_FATAL);

	result(events(cq, 10000, false) == 1, "an event when the device dies");
	result(flushed(cq) == 1, "the receive is flushed");
	result(flushed(srq_cq) == 1, "that of the SRQ is flushed");
	events(cq, 200, true);
	rounds(cq, false, "QP");
	rounds(srq_cq, true, "SRQ");
	printf("1..%u\n", tests);
	return failures != 0;
}
