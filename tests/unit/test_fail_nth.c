// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Every allocation and host call of the control path fails once: no crash, no leak (the leak
 * sanitizer checks at exit), nothing left behind, and the device works afterwards.
 *
 * The linker wraps the calls (--wrap, see the Makefile).  The nth call after arm(n) fails; n
 * increases until a whole run has no failing call.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))

static _Atomic long countdown;		/* 0: nothing fails */
static _Atomic bool fired;
static bool spare_main;			/* calls of the test itself succeed */
static pthread_t main_thread;

static bool fails(void)
{
	long n;

	if (spare_main && pthread_equal(pthread_self(), main_thread))
		return false;
	n = __atomic_load_n(&countdown, __ATOMIC_RELAXED);
	if (n <= 0 || __atomic_sub_fetch(&countdown, 1, __ATOMIC_RELAXED))
		return false;
	fired = true;
	return true;
}

static void arm(long n)
{
	fired = false;
	countdown = n;
}

static bool disarm(void)
{
	countdown = 0;
	return fired;
}

#define WRAP(type, name, params, args, failure)			\
	type __real_##name params;				\
	type __wrap_##name params;				\
	type __wrap_##name params				\
	{							\
		if (fails()) {					\
			errno = ENOMEM;				\
			return failure;				\
		}						\
		return __real_##name args;			\
	}

WRAP(void *, malloc, (size_t n), (n), NULL)
WRAP(void *, calloc, (size_t n, size_t s), (n, s), NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), NULL)
WRAP(void *, aligned_alloc, (size_t a, size_t n), (a, n), NULL)
WRAP(char *, strdup, (const char *s), (s), NULL)
WRAP(void *, mmap, (void *a, size_t n, int p, int f, int d, off_t o), (a, n, p, f, d, o), MAP_FAILED)
WRAP(int, eventfd, (unsigned int n, int f), (n, f), -1)
WRAP(int, epoll_create1, (int f), (f), -1)
WRAP(int, epoll_ctl, (int e, int op, int fd, struct epoll_event *ev), (e, op, fd, ev), -1)
WRAP(int, pthread_create, (pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *o),
     (t, a, f, o), ENOMEM)

/* ---- engine, device, memory, queues ------------------------------------ */

static int memfd, kick;

/* Creates all objects and destroys them; returns false if anything was refused. */
static bool make_device(void)
{
	struct vrd_engine_config ecfg = { .pollers = 2 };
	struct vrd_device_config dcfg = {
		.name = "fail", .mac = { 2, 0, 0, 0, 0, 1 }, .num_comp_vectors = 2,
	};
	struct vrd_mem_region m = { .addr = RAW_BASE, .size = 1 << 20, .fd = memfd };
	struct vrd_vq_config q = {
		.num = 16, .desc = RAW_BASE, .avail = RAW_BASE + 4096, .used = RAW_BASE + 8192,
	};
	struct vrd_error err = { .msg = "" };
	struct vrd_engine *engine;
	struct vrd_device *dev;
	bool good = false;

	if (vrd_engine_create(&ecfg, &engine, &err))
		return err.msg[0] ? false : ok(false, "an error without a message");
	if (vrd_device_create(engine, &dcfg, &dev, &err)) {
		if (!err.msg[0])
			ok(false, "an error without a message");
		goto engine;
	}
	if (vrd_device_set_mem_table(dev, &m, 1, &err) ||
	    vrd_device_set_features(dev, FEATURES, &err))
		goto device;
	for (unsigned int i = 0; i < 4; i++)
		if (vrd_device_vq_set_kick(dev, i, kick) || vrd_device_vq_set_call(dev, i, kick) ||
		    vrd_device_vq_start(dev, i, &q, &err))
			goto device;
	good = true;
device:
	vrd_device_destroy(dev);
engine:
	vrd_engine_destroy(engine);
	return good;
}

static void creation(void)
{
	long n = 0;
	bool good, hit;

	memfd = memfd_create("guest", MFD_CLOEXEC);
	kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (memfd < 0 || kick < 0 || ftruncate(memfd, 1 << 20))
		return;
	do {
		arm(++n);
		good = make_device();
		hit = disarm();
	} while (hit && n < 1000);
	ok(n > 20 && n < 1000 && good, "creation: each of %ld calls failed once", n - 1);
	close(memfd);
	close(kick);
}

/* ---- commands ---------------------------------------------------------- */

/* Statuses that a device may return for a host failure. */
static bool fair(int status)
{
	return status == VIRTIO_RDMA_S_OK || status == VIRTIO_RDMA_S_NOMEM ||
	       status == VIRTIO_RDMA_S_NOENT;	/* of an object that could not be made */
}

static bool commands(struct raw *r)
{
	struct virtio_rdma_extent x[2] = { { .addr = RAW_BASE, .pages = 1 } };
	struct virtio_rdma_reg_mr_rsp mr = { .mr = 0 };
	uint32_t ctx, pd, cq, srqn, qpn;
	uint8_t gid[16];
	bool good = true;
	int status;

#define DO(expression)				\
	do {					\
		status = (expression);		\
		good = good && fair(status);	\
		if (!fair(status))		\
			printf("# %s: status %d\n", #expression, status);	\
	} while (0)
	raw_link_local(r, gid);
	DO(raw_add_gid(r, 0, gid));
	ctx = raw_ctx(r, VIRTIO_RDMA_CTX_KERNEL);
	DO(raw_status);
	pd = raw_pd(r, ctx);
	DO(raw_status);
	cq = raw_cq(r, ctx, 256, 0);
	DO(raw_status);
	srqn = raw_srq(r, ctx, pd);
	DO(raw_status);
	if (srqn)
		DO(raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_SRQ, srqn));
	raw_srq(r, ctx, pd);
	DO(raw_status);
	for (uint8_t t = VIRTIO_RDMA_QPT_GSI; t <= VIRTIO_RDMA_QPT_UD; t++) {
		qpn = raw_qp(r, t, ctx, pd, cq, cq);
		DO(raw_status);
		if (qpn && (t & 1))
			DO(raw_destroy(r, VIRTIO_RDMA_CMD_DESTROY_QP, qpn));
	}
	DO(raw_reg_mr(r, pd, 1, 0, 4096, x, 1, 1, &mr));
	if (!status)
		DO(raw_destroy(r, VIRTIO_RDMA_CMD_DEREG_MR, mr.mr));
	DO(raw_reg_mr(r, pd, 1, 0, 8192, x, 1, 2, &mr));	/* left unfinished */
	return good;
}

static void failing_commands(void)
{
	struct raw *r = raw_new(NULL, FEATURES);
	bool good = true, hit;
	long n = 0;

	spare_main = true;
	do {
		/* A new device each time, because tables keep their allocations. */
		struct raw *peer = raw_new_peer(r, NULL, FEATURES);

		raw_recover(peer);
		arm(++n);
		good = commands(peer) && good;
		hit = disarm();
		good = !raw_init(peer) && commands(peer) && good;
		if (raw_stat(peer, "qps") != 2 || vrd_device_is_broken(peer->dev))
			good = false;
		raw_free(peer);
	} while (hit && good && n < 1000);
	ok(n > 20 && n < 1000, "commands: each of %ld calls failed once", n - 1);
	ok(good, "each command was answered, and works when the host does");
	raw_free(r);
}

int main(void)
{
	main_thread = pthread_self();
	creation();
	failing_commands();
	return tap_done();
}
