// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The front end's functions while a guest is busy: queues are stopped and started, memory
 * tables and descriptors replaced, devices reset and destroyed; and a guest that floods the
 * control queue does not delay its front end.
 */
#include <linux/virtio_config.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))

static struct raw *r;
static _Atomic bool stop;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Creates and destroys one of each; returns the first status that is not OK. */
static int one_of_each(uint32_t ctx, uint64_t page)
{
	struct virtio_rdma_extent x = { .addr = page, .pages = 1 };
	struct virtio_rdma_reg_mr_rsp mr;
	uint64_t mark = r->next;
	uint32_t pd, cq, qpn;
	int status;

	pd = raw_pd(r, ctx);
	if (!pd)
		return raw_status;
	cq = raw_cq(r, ctx, 16, 0);
	if (!cq)
		return raw_status;
	qpn = raw_qp(r, VIRTIO_RDMA_QPT_RC, ctx, pd, cq, cq);
	if (!qpn)
		return raw_status;
	r->next = mark;
	status = raw_reg_mr(r, pd, 1, 0, 64, &x, 1, 1, &mr);
	if (!status)
		status = raw_destroy(r, VIRTIO_RDMA_CMD_DEREG_MR, mr.mr);
	if (!status)
		status = raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_QP, qpn);
	if (!status)
		status = raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_CQ, cq);
	if (!status)
		status = raw_destroy(r, VIRTIO_RDMA_CMD_DEALLOC_PD, pd);
	return status;
}

static uint32_t busy_ctx;
static uint64_t busy_page;
static _Atomic int busy_status, busy_rounds;

static void *busy_guest(void *opaque)
{
	(void)opaque;
	while (!atomic_load(&stop)) {
		int status = one_of_each(busy_ctx, busy_page);

		if (status) {
			atomic_store(&busy_status, status);
			break;
		}
		atomic_fetch_add(&busy_rounds, 1);
	}
	return NULL;
}

static void under_commands(void)
{
	struct vrd_vq_config cfg;
	struct vrd_error err;
	bool good = true;
	pthread_t t;
	double end;

	raw_recover(r);
	busy_ctx = raw_ctx(r, 0);
	busy_page = raw_alloc(r, 1);
	cfg = r->q[0].cfg;
	atomic_store(&stop, false);
	pthread_create(&t, NULL, busy_guest, NULL);
	for (end = now() + 2; now() < end;) {
		good = good && !vrd_device_vq_stop(r->dev, 0, &cfg.last_avail);
		usleep(100);
		good = good && !vrd_device_vq_start(r->dev, 0, &cfg, &err);
		good = good && !raw_set_memory(r);
		good = good && !vrd_device_vq_set_kick(r->dev, 0, r->q[0].kick);
		good = good && !vrd_device_vq_set_call(r->dev, 0, r->q[0].call);
		usleep(200);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	ok(good, "stop, start, memory tables and descriptors under commands");
	is(atomic_load(&busy_status), 0, "each command is answered, %d rounds",
	   atomic_load(&busy_rounds));
	ok(atomic_load(&busy_rounds) > 10, "and they went on");
	ok(!vrd_device_is_broken(r->dev), "nothing broke");
}

/* Commands without end: the ring is kept full. */
static void *flood(void *opaque)
{
	const uint32_t len = sizeof(struct virtio_rdma_query_stats_rsp);
	struct raw_queue *q = &r->q[0];
	uint16_t idx = q->avail[1];

	(void)opaque;
	memcpy(raw_ptr(r, r->req),
	       &(struct virtio_rdma_cmd_hdr) { .opcode = VIRTIO_RDMA_CMD_QUERY_STATS }, 8);
	raw_desc(r, 0, 0, r->req, 8, VRING_DESC_F_NEXT, 1);
	raw_desc(r, 0, 1, r->rsp, len, VRING_DESC_F_WRITE, 0);
	memset(&q->avail[2], 0, q->num * 2UL);
	while (!atomic_load(&stop)) {
		uint16_t used = __atomic_load_n(&q->used[1], __ATOMIC_ACQUIRE);

		if ((uint16_t)(idx - used) < q->num) {
			__atomic_store_n(&q->avail[1], ++idx, __ATOMIC_RELEASE);
			raw_kick(r, 0);
		}
	}
	return NULL;
}

static void under_flood(void)
{
	struct vrd_vq_config cfg;
	struct vrd_error err;
	double begin, worst = 0;
	pthread_t t;

	raw_recover(r);
	cfg = r->q[0].cfg;
	atomic_store(&stop, false);
	pthread_create(&t, NULL, flood, NULL);
	usleep(20000);
	for (int i = 0; i < 20; i++) {
		begin = now();
		vrd_device_vq_stop(r->dev, 0, &cfg.last_avail);
		vrd_device_vq_start(r->dev, 0, &cfg, &err);
		if (now() - begin > worst)
			worst = now() - begin;
		usleep(1000);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	/* generous: the machine may be busy; without fairness the wait never ends */
	ok(worst < 5, "a flood of commands does not keep the front end out");
	ok(raw_stat(r, "commands") > 1000, "it was a flood");
}

static void under_reset(void)
{
	bool good = true;
	pthread_t t;

	for (int i = 0; i < 20; i++) {
		good = good && !raw_recover(r);
		atomic_store(&stop, false);
		pthread_create(&t, NULL, flood, NULL);
		usleep(3000);
		vrd_device_reset(r->dev);
		atomic_store(&stop, true);
		pthread_join(t, NULL);
	}
	ok(good && !raw_recover(r), "20 resets under commands");
}

static void under_destroy(void)
{
	bool good = true;
	pthread_t t;

	for (int i = 0; i < 10; i++) {
		struct raw *first = r;

		r = raw_new_peer(first, NULL, FEATURES);
		good = good && !raw_recover(r) && raw_ctx(r, 0);
		atomic_store(&stop, false);
		pthread_create(&t, NULL, flood, NULL);
		usleep(3000);
		vrd_device_vq_stop(r->dev, 0, NULL);
		atomic_store(&stop, true);
		pthread_join(t, NULL);
		raw_free(r);
		r = first;
	}
	ok(good, "10 devices destroyed with objects");
}

int main(void)
{
	r = raw_new(NULL, FEATURES);
	under_commands();
	under_flood();
	under_reset();
	under_destroy();
	raw_free(r);
	return tap_done();
}
