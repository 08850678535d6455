// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The dirty log: it marks exactly the pages that the device writes.
 *
 * The core gets a mapping of its own of each guest's memory.  The test makes it read-only
 * before each part; the first store to a page faults, and the handler records the page and
 * makes it writable.  So a store that is not reported to the log is found wherever it is in
 * the code.  The thread sanitizer identifies memory by its address, so there the log is only
 * switched while there is traffic.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm.h"
#include "srq_pair.h"
#include "tap.h"

#define MEM_SIZE	(16U << 20)
#define PAGES		(MEM_SIZE / GUEST_PAGE)

struct tracked {
	struct guest *g;
	uint8_t *hva;				/* the core's mapping */
	uint8_t *log;				/* of all pages up to the end of its memory */
	_Atomic uint8_t written[PAGES];
};

static struct tracked tracked[2];
static struct mem_end *a = &srq_pair.a, *b = &srq_pair.b;

static bool log_marks(const struct tracked *t, uint64_t page)
{
	uint64_t bit = t->g->base / GUEST_PAGE + page;

	return __atomic_load_n(&t->log[bit / 8], __ATOMIC_SEQ_CST) >> bit % 8 & 1;
}

static uint64_t log_pages(const struct tracked *t)
{
	return t->g->base / GUEST_PAGE + PAGES;
}

static void set_log(struct tracked *t, uint8_t *bitmap)
{
	struct vrd_error err;

	if (vrd_device_set_dirty_log(t->g->dev, bitmap, log_pages(t), &err))
		guest_fatal("dirty log: %s", err.msg);
}

/* ---- what the device really writes ------------------------------------------------- */

#ifndef __SANITIZE_THREAD__
static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	for (unsigned int i = 0; i < 2; i++) {
		struct tracked *t = &tracked[i];
		uintptr_t offset = (uintptr_t)info->si_addr - (uintptr_t)t->hva;

		if (!t->hva || offset >= MEM_SIZE)
			continue;
		atomic_store(&t->written[offset / GUEST_PAGE], 1);
		mprotect(t->hva + offset / GUEST_PAGE * GUEST_PAGE, GUEST_PAGE,
			 PROT_READ | PROT_WRITE);
		return;
	}
	signal(sig, SIG_DFL);
}

static void track(struct tracked *t, struct guest *g)
{
	struct vrd_mem_region region = { .addr = g->base, .size = MEM_SIZE, .fd = g->memfd };
	struct vrd_error err;

	t->g = g;
	t->log = calloc(1, log_pages(t) / 8);
	t->hva = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);
	if (t->hva == MAP_FAILED)
		guest_fatal("no second mapping");
	region.host = t->hva;
	if (vrd_device_set_mem_table(g->dev, &region, 1, &err))
		guest_fatal("memory table: %s", err.msg);
}

/* The queues are stopped meanwhile: the device writes nothing. */
static void begin(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct tracked *t = &tracked[i];

		guest_stop_queues(t->g);
		memset(t->log, 0, log_pages(t) / 8);
		for (unsigned int p = 0; p < PAGES; p++)
			atomic_store(&t->written[p], 0);
		if (mprotect(t->hva, MEM_SIZE, PROT_READ))
			guest_fatal("mprotect: %s", strerror(errno));
		set_log(t, t->log);
		guest_start_queues(t->g);
	}
}

static void end(const char *what)
{
	unsigned int pages = 0;
	bool good = true;

	for (unsigned int i = 0; i < 2; i++) {
		struct tracked *t = &tracked[i];

		guest_stop_queues(t->g);
		for (unsigned int p = 0; p < PAGES; p++) {
			bool written = atomic_load(&t->written[p]), marked = log_marks(t, p);

			pages += written;
			if (written == marked)
				continue;
			good = false;
			diag("guest %c, page %u: %s", 'a' + i, p,
			     written ? "written, not marked" : "marked, not written");
		}
		guest_start_queues(t->g);
	}
	ok(good && pages, "%s: marked are the %u pages that were written", what, pages);
}
static void end_tracking(void)
{
	for (unsigned int i = 0; i < 2; i++)
		mprotect(tracked[i].hva, MEM_SIZE, PROT_READ | PROT_WRITE);
}
#else
static void track(struct tracked *t, struct guest *g)
{
	t->g = g;
	t->log = calloc(1, log_pages(t) / 8);
}

static void begin(void)
{
	set_log(&tracked[0], tracked[0].log);
	set_log(&tracked[1], tracked[1].log);
}

static void end(const char *what)
{
	(void)what;
	set_log(&tracked[0], NULL);
	set_log(&tracked[1], NULL);
}

static void end_tracking(void)
{
}
#endif

/* ---- traffic of each kind ------------------------------------------------------------ */

static void test_log(void)
{
	begin();
	mem_pair_fresh(&srq_pair);
	end("commands");

	begin();
	ok(mem_carries(a, b, 1) && mem_carries(b, a, 2), "RC carries");
	end("RC");
	for (unsigned int i = 0; i < 2; i++) {
		struct mem_wr w = mem_wr(a, b, i ? VIRTIO_RDMA_WR_RDMA_READ :
					 VIRTIO_RDMA_WR_RDMA_WRITE, 300000);

		begin();
		mem_post(a, &w);
		is(mem_status(&a->scq), 0, i ? "a long READ" : "a long WRITE");
		end("its slices");
	}
	for (unsigned int i = 0; i < 2; i++) {
		struct mem_wr w = mem_wr(a, b, i ? VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD :
					 VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP, 8);

		w.sge.addr += 8 * GUEST_PAGE;
		w.wr.remote_addr += 16 * GUEST_PAGE;
		begin();
		mem_post(a, &w);
		is(mem_status(&a->scq), 0, i ? "FETCH_AND_ADD" : "CMP_AND_SWP");
		end("both sides of it");
	}
	mem_pair_drop_qps(&srq_pair);
}

static void test_datagrams(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_UD };
	struct virtio_rdma_av av;

	mem_pair_qps_init(&srq_pair, &init, 64);
	if (guest_qp_open_ud(&a->qp, MEM_QKEY) || guest_qp_open_ud(&b->qp, MEM_QKEY))
		guest_fatal("no UD QP");
	begin();
	mem_recv(b, 3 * GUEST_PAGE, 2 * GUEST_PAGE);
	av = mem_av(a, b->g->gid, b->qp.qpn);
	mem_write_ud(a, &av, 0, 4096, VIRTIO_RDMA_WQE_SIGNALED);
	guest_ring_sq(&a->qp);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0, "UD carries");
	end("GRH and payload");
	mem_pair_drop_qps(&srq_pair);
}

static void test_srq(void)
{
	begin();
	srq_fresh();
	srq_recv(1, 5 * GUEST_PAGE, 300000);
	srq_send(200000);
	ok(mem_status(&a->scq) == 0 && srq_received(b->qp.qpn, 1, 200000, 0), "an SRQ's receive");
	end("SRQ");

	/* A refused request: error completions, events, flushes. */
	begin();
	srq_recv(2, 0, 8);
	srq_send(9);
	ok(mem_status(&a->scq) == WC(REM_INV_REQ_ERR) && srq_received(b->qp.qpn, 2, 0, WC(LOC_LEN_ERR)) &&
	   mem_event(b, EVENT(QP_LAST_WQE_REACHED)), "an error, and its event");
	end("errors and events");
	srq_drop();
}

/* Arming, notifications, the words that are written when the poller sleeps and wakes. */
static void test_notifications(void)
{
	struct virtio_rdma_cqe cqe;
	bool good = true;

	mem_pair_fresh(&srq_pair);
	begin();
	for (unsigned int i = 0; i < 5; i++) {
		struct mem_wr w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);

		guest_arm(&a->scq, false);
		usleep(20000);
		mem_post(a, &w);
		good &= guest_poll_sleep(&a->scq, &cqe, MEM_WAIT_MS) && !cqe.status;
	}
	ok(good, "completions by notification");
	end("arming, doorbells, used rings");
	mem_pair_drop_qps(&srq_pair);
}

/* ---- the log is switched during traffic ------------------------------------------------ */

static _Atomic bool stop;

static void *switch_log(void *arg)
{
	unsigned int n = 0;

	(void)arg;
	while (!atomic_load(&stop))
		for (unsigned int i = 0; i < 2; i++)
			set_log(&tracked[i], n++ % 3 ? tracked[i].log : NULL);
	return NULL;
}

static void test_switch(void)
{
	struct mem_wr w;
	bool good = true;
	pthread_t thread;

	mem_pair_fresh(&srq_pair);
	pthread_create(&thread, NULL, switch_log, NULL);
	for (unsigned int i = 0; i < 300; i++) {
		w = mem_wr(a, b, i % 2 ? VIRTIO_RDMA_WR_RDMA_WRITE : VIRTIO_RDMA_WR_RDMA_READ, 5000);
		mem_post(a, &w);
		good &= mem_status(&a->scq) == 0;
		good &= guest_qp_state(&b->qp) == VIRTIO_RDMA_QPS_RTS;
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	ok(good, "traffic and commands go on while the log is set and removed");

	set_log(&tracked[1], NULL);
	memset(tracked[1].log, 0, log_pages(&tracked[1]) / 8);
	set_log(&tracked[1], tracked[1].log);
	w = mem_wr(a, b, VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	mem_post(a, &w);
	ok(mem_status(&a->scq) == 0 && log_marks(&tracked[1], (b->buf - b->g->mem) / GUEST_PAGE),
	   "the page of a WRITE is marked afterwards");
	set_log(&tracked[1], NULL);
	mem_pair_drop_qps(&srq_pair);
}

static void test_refused(void)
{
	struct vrd_error err;

	is(vrd_device_set_dirty_log(a->g->dev, tracked[0].log, log_pages(&tracked[0]) - 1, &err),
	   -EINVAL, "a log that is shorter than the memory is refused");
	ok(err.msg[0] && err.hint[0], "with a message: %s", err.msg);
	is(vrd_device_set_dirty_log(a->g->dev, NULL, 0, NULL), 0, "removing one that is not there");
}

int main(void)
{
#ifndef __SANITIZE_THREAD__
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
#endif

	mem_pair_open(&srq_pair, 1, MEM_SIZE);
	track(&tracked[0], a->g);
	track(&tracked[1], b->g);
#ifndef __SANITIZE_THREAD__
	sigaction(SIGSEGV, &fault, NULL);
#else
	printf("ok %d # SKIP the thread sanitizer needs one mapping: no faults to compare with\n",
	       ++tap_tests);
#endif
	test_log();
	test_datagrams();
	test_srq();
	test_notifications();
	end_tracking();
	test_switch();
	test_refused();
	mem_pair_close(&srq_pair);
	free(tracked[0].log);
	free(tracked[1].log);
	return tap_done();
}
