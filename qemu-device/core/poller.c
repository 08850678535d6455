// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The poller thread: its turns, its messages, and how it sleeps.  spin.c decides when it
 * sleeps.
 *
 * A turn handles messages, runs the queue pairs that have work, checks doorbell pages and
 * timers, and ends with a quiescent state.  Each part is bounded, so that a turn is short
 * whatever guests do.  After turns without work the poller spins for its budget and then
 * sleeps on its eventfds.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "path.h"
#include "poller_internal.h"
#include "thread.h"

/* The clock is read once in this many idle turns. */
#define IDLE_TURNS_PER_CLOCK	16
/* The same while there is work. */
#define BUSY_TURNS_PER_CLOCK	256

static _Thread_local struct vrd_poller *current_poller;

struct vrd_poller *vrd_poller_current(void)
{
	return current_poller;
}

uint64_t vrd_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

uint64_t vrd_poller_now(struct vrd_poller *poller)
{
	if (vrd_poller_current() != poller)
		return vrd_clock_ns();
	if (!poller->now_valid) {
		poller->now = vrd_clock_ns();
		poller->now_valid = true;
	}
	return poller->now;
}

uint64_t vrd_poller_sleeps(const struct vrd_poller *poller)
{
	return atomic_load_explicit(&poller->stat_sleeps, memory_order_relaxed);
}

void vrd_poller_rest(struct vrd_poller *poller)
{
	if (vrd_poller_is_alone(poller))
		poller->rest = true;
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* ---- messages ------------------------------------------------------------- */

static void signal_wake_fd(struct vrd_poller *poller)
{
	uint64_t one = 1;

	/* It cannot fail: the counter does not fill up in the life of a machine. */
	if (write(poller->wake_fd, &one, sizeof(one)) < 0)
		return;
}

void vrd_poller_notify(struct vrd_poller *poller)
{
	/*
	 * Pairs with the barrier in prepare_sleep(): either prepare_sleep() sees attention, or this
	 * thread sees sleeping.
	 */
	vrd_full_barrier();
	if (atomic_load_explicit(&poller->sleeping, memory_order_relaxed) &&
	    atomic_exchange(&poller->sleeping, false))
		signal_wake_fd(poller);
}

void vrd_poller_attend(struct vrd_poller *poller)
{
	atomic_store_explicit(&poller->attention, true, memory_order_release);
	vrd_poller_notify(poller);
}

void vrd_poller_send(struct vrd_poller *poller, struct vrd_message *msg)
{
	msg->next = NULL;
	vrd_lock(&poller->inbox_lock);
	if (poller->msg_last)
		poller->msg_last->next = msg;
	else
		poller->msg_first = msg;
	poller->msg_last = msg;
	vrd_unlock(&poller->inbox_lock);
	vrd_poller_attend(poller);
}

struct call {
	struct vrd_message msg;
	void (*fn)(struct vrd_poller *poller, void *arg);
	void *arg;
	struct vrd_signal done;
};

static void run_call(struct vrd_poller *poller, struct vrd_message *msg)
{
	struct call *call = (struct call *)msg;

	call->fn(poller, call->arg);
	vrd_signal_raise(&call->done);
}

void vrd_poller_call(struct vrd_poller *poller, void (*fn)(struct vrd_poller *poller, void *arg),
		     void *arg)
{
	struct call call = { .msg.fn = run_call, .fn = fn, .arg = arg };

	if (vrd_poller_current() == poller) {
		fn(poller, arg);
		return;
	}
	vrd_signal_init(&call.done);
	vrd_poller_send(poller, &call.msg);
	vrd_signal_wait(&call.done);
}

void vrd_poller_call_quiet(struct vrd_poller *poller,
			   void (*fn)(struct vrd_poller *poller, void *arg), void *arg)
{
	bool done = false;

	if (pthread_mutex_trylock(&poller->turn_lock)) {
		vrd_poller_call(poller, fn, arg);
		return;
	}
	/*
	 * The poller sleeps and cannot wake up while the lock is held.  If its inbox is not
	 * empty, those messages must run first.
	 */
	if (!atomic_load_explicit(&poller->attention, memory_order_acquire)) {
		fn(poller, arg);
		done = true;
	}
	pthread_mutex_unlock(&poller->turn_lock);
	if (!done)
		vrd_poller_call(poller, fn, arg);
}

static void run_visit(struct vrd_poller *poller, struct vrd_message *msg)
{
	struct vrd_visit *visit = (struct vrd_visit *)msg;
	struct vrd_engine *engine = visit->engine;

	visit->fn(poller, visit->arg);
	if (++visit->next < engine->num_pollers)
		vrd_poller_send(&engine->pollers[visit->next], &visit->msg);
	else
		visit->done(visit);
}

void vrd_engine_visit(struct vrd_engine *engine, struct vrd_visit *visit)
{
	visit->engine = engine;
	visit->next = 0;
	visit->msg.fn = run_visit;
	vrd_poller_send(&engine->pollers[0], &visit->msg);
}

/*
 * Takes a bounded number of messages from the inbox; inbox lock.  Sets *@more if there are
 * others.
 */
static struct vrd_message *take_messages(struct vrd_poller *poller, bool *more)
{
	struct vrd_message *first = poller->msg_first, *last = first;

	for (unsigned int n = 1; last && last->next && n < VRD_MESSAGES_TURN; n++)
		last = last->next;
	if (!last)
		return NULL;
	poller->msg_first = last->next;
	last->next = NULL;
	if (!poller->msg_first)
		poller->msg_last = NULL;
	else
		*more = true;
	return first;
}

/* Handles the work that other threads put into the inbox. */
static void take_inbox(struct vrd_poller *poller)
{
	struct vrd_message *msg;
	bool more;

	/* For a message, the previous turn is over: flush first. */
	if (poller->num_touched)
		vrd_cq_flush_touched(poller);
	atomic_exchange_explicit(&poller->attention, false, memory_order_acquire);
	vrd_lock(&poller->inbox_lock);
	more = vrd_sched_take_posted(poller);
	vrd_doorbell_take_failed(poller);
	msg = take_messages(poller, &more);
	vrd_unlock(&poller->inbox_lock);

	while (msg) {
		/* The sender may reuse the memory as soon as the function runs. */
		struct vrd_message *next = msg->next;

		msg->fn(poller, msg);
		msg = next;
	}
	if (more)
		atomic_store_explicit(&poller->attention, true, memory_order_relaxed);
}

/* ---- turns ------------------------------------------------------------------ */

static bool poll_transports(struct vrd_poller *poller)
{
	struct vrd_poller_dev *pdev;
	bool worked = false;

	LIST_FOREACH(pdev, &poller->devs, link)
		if (pdev->dev->polled && !vrd_device_suspended(pdev->dev))
			worked |= vrd_transports_poll(pdev->dev, poller);
	return worked;
}

/* True if a transport has work: the poller must not sleep. */
static bool transports_pending(struct vrd_poller *poller)
{
	struct vrd_poller_dev *pdev;
	bool worked = false;

	LIST_FOREACH(pdev, &poller->devs, link)
		if (pdev->dev->polled && !vrd_device_suspended(pdev->dev))
			worked |= vrd_transports_poll_sleep(pdev->dev, poller);
	return worked;
}

/* Runs expired timers.  A busy poller does not read the clock in each turn. */
static bool run_timers(struct vrd_poller *poller, uint64_t deadline)
{
	if ((poller->busy && poller->turn % VRD_TURNS_PER_DEADLINE) ||
	    deadline > vrd_poller_now(poller))
		return false;
	vrd_timers_run(poller);
	return true;
}

/* Runs one turn.  True if there was work. */
static bool turn(struct vrd_poller *poller)
{
	uint64_t deadline;
	bool worked = false;

	poller->turn++;
	poller->now_valid = false;
	if (atomic_load_explicit(&poller->attention, memory_order_relaxed)) {
		take_inbox(poller);
		worked = true;
	}
	if (poller->hot_asleep)
		vrd_hot_wake(poller);
	deadline = atomic_load_explicit(&poller->next_deadline, memory_order_relaxed);
	if (deadline != UINT64_MAX)
		worked |= run_timers(poller, deadline);
	worked |= vrd_hot_scan(poller);
	if (poller->run_len)
		worked |= vrd_run_queue_run(poller);
	worked |= vrd_doorbell_turn(poller);
	if (poller->num_polled)
		worked |= poll_transports(poller);
	if (!TAILQ_EMPTY(&poller->walks))
		worked |= vrd_doorbell_walk(poller);
	/*
	 * CQs whose arming has not been checked yet keep the turn open, because they may be
	 * freed after it.  It stays open for a few turns at most, and not while a grace period
	 * waits for its end.
	 */
	if (poller->num_touched &&
	    (!worked || poller->turn % VRD_TOUCHED_BURSTS == 0 || vrd_grace_wanted(poller)))
		vrd_cq_flush_touched(poller);
	if (!poller->num_touched) {
		struct vrd_engine *engine = poller->engine;

		vrd_grace_quiescent(poller);
		if (vrd_reclaim_pending(engine))
			worked |= vrd_reclaim_run(engine);
	}
	poller->busy = worked;
	return worked;
}

/* ---- spin budget -------------------------------------------------------------- */

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* Checks from time to time whether the poller was preempted. */
static void sample(struct vrd_poller *poller)
{
	uint64_t now = vrd_poller_now(poller);
	struct rusage usage;

	if (!vrd_spin_sample_due(&poller->spin, now) || getrusage(RUSAGE_THREAD, &usage))
		return;
	count(&poller->stat_preempted, usage.ru_nivcsw - poller->spin.switches);
	vrd_spin_sample(&poller->spin, vrd_clock_ns(), thread_cpu_ns(), usage.ru_nivcsw);
}

/* ---- sleep ----------------------------------------------------------------------- */

static int wait_for_events(struct vrd_poller *poller, struct epoll_event *events, int max)
{
	uint64_t deadline = atomic_load_explicit(&poller->next_deadline, memory_order_relaxed);
	struct timespec timeout = { 0 };
	uint64_t now;
	int n;

	if (deadline == UINT64_MAX)
		return epoll_wait(poller->epoll_fd, events, max, -1);
	now = vrd_clock_ns();
	if (deadline > now) {
		timeout.tv_sec = (deadline - now) / 1000000000;
		timeout.tv_nsec = (deadline - now) % 1000000000;
	}
#ifdef SYS_epoll_pwait2
	n = syscall(SYS_epoll_pwait2, poller->epoll_fd, events, max, &timeout, NULL, 0);
	if (n >= 0 || (errno != ENOSYS && errno != EPERM))
		return n;
#endif
	/* Older kernels support only milliseconds. */
	if (timeout.tv_sec > 1000)
		timeout.tv_sec = 1000;
	return epoll_wait(poller->epoll_fd, events, max,
			  timeout.tv_sec * 1000 + (timeout.tv_nsec + 999999) / 1000000);
}

/*
 * From here on the poller checks no rings and no pages, so need_db and need_wakeup must be
 * set before the last check.  Returns false if that check finds work.
 */
static bool prepare_sleep(struct vrd_poller *poller)
{
	vrd_hot_set_need_db(poller, 1);
	vrd_doorbell_set_need_wakeup(poller, 1);
	atomic_store(&poller->sleeping, true);
	/*
	 * Pairs with the driver's barriers before it loads need_db and
	 * need_wakeup, and with the one in vrd_poller_notify().
	 */
	vrd_full_barrier();
	if (!atomic_load(&poller->attention) && !vrd_hot_pending(poller) &&
	    !vrd_doorbell_pending(poller) &&
	    !(poller->num_polled && transports_pending(poller)))
		return true;

	atomic_store(&poller->sleeping, false);
	vrd_hot_set_need_db(poller, 0);
	vrd_doorbell_set_need_wakeup(poller, 0);
	return false;
}

/* Handles the events that woke the poller; a device whose queue was notified gets a sweep. */
static void take_events(struct vrd_poller *poller, const struct epoll_event *events, int n)
{
	for (int i = 0; i < n; i++) {
		struct vrd_poller_dev *pdev = events[i].data.ptr;

		if (!pdev)
			continue;
		/* Several notifications while the poller was awake count as one. */
		vrd_stat_add(pdev->dev, VIRTIO_RDMA_STAT_NOTIFY, 1);
		vrd_stat_add(pdev->dev, VIRTIO_RDMA_STAT_WAKEUP, 1);
		vrd_doorbell_kicked(poller, pdev);
	}
}

static void sleep_now(struct vrd_poller *poller)
{
	struct epoll_event events[16];
	uint64_t start;
	int n;

	if (!prepare_sleep(poller))
		return;
	vrd_hot_sleep(poller);
	vrd_doorbell_sleep(poller);

	count(&poller->stat_sleeps, 1);
	/*
	 * While the poller is offline, objects may be freed and devices suspended.  But the
	 * pdev of a kick is removed by a message, which this thread handles only later.
	 */
	vrd_grace_offline(poller);
	pthread_mutex_unlock(&poller->turn_lock);
	start = vrd_clock_ns();
	/* This may have been the last poller that a callback waited for: do not sleep then. */
	n = vrd_reclaim_due(poller->engine) ? 0 : wait_for_events(poller, events, 16);
	start = vrd_clock_ns() - start;
	/* Another thread holds the lock only for a few list operations. */
	pthread_mutex_lock(&poller->turn_lock);
	atomic_store(&poller->sleeping, false);
	vrd_grace_online(poller);
	take_events(poller, events, n);
	poller->now_valid = false;
	if (poller->rest)
		vrd_spin_rested(&poller->spin, start);
	else
		vrd_spin_slept(&poller->spin, start, vrd_poller_now(poller));
	poller->rest = false;
}

static void idle(struct vrd_poller *poller)
{
	uint64_t idle_turns = atomic_load_explicit(&poller->stat_idle, memory_order_relaxed);

	atomic_store_explicit(&poller->stat_idle, idle_turns + 1, memory_order_relaxed);
	/* A lock was not free, or a QP waits behind another one. */
	if (poller->run_len) {
		sched_yield();
		return;
	}
	if ((idle_turns - poller->idle_from) % IDLE_TURNS_PER_CLOCK && poller->spin.budget_ns) {
		vrd_cpu_relax();
		return;
	}
	if (poller->rest) {
		sleep_now(poller);
		poller->idle_from = idle_turns + 1;
		return;
	}
	sample(poller);
	switch (vrd_spin_idle(&poller->spin, vrd_poller_now(poller))) {
	case VRD_SPIN_ON:
		break;
	case VRD_SPIN_YIELD:
		sched_yield();
		break;
	case VRD_SPIN_SLEEP:
		sleep_now(poller);
		poller->idle_from = idle_turns + 1;
	}
}

static void *poller_main(void *arg)
{
	struct vrd_poller *poller = arg;
	uint64_t busy = 0, idle_turns;
	char name[16];

	current_poller = poller;
	/*
	 * The thread names itself: naming another thread opens a file, which a sandbox may
	 * refuse.
	 */
	snprintf(name, sizeof(name), "vrd-poll%u", poller->index);
	prctl(PR_SET_NAME, name);
	prctl(PR_SET_TIMERSLACK, 1000);
	vrd_grace_online(poller);

	pthread_mutex_lock(&poller->turn_lock);
	for (;;) {
		if (!turn(poller)) {
			idle(poller);
			continue;
		}
		/* It is set before the inbox is, which counts as work. */
		if (atomic_load_explicit(&poller->stop, memory_order_relaxed))
			break;
		idle_turns = atomic_load_explicit(&poller->stat_idle, memory_order_relaxed);
		vrd_spin_worked(&poller->spin, idle_turns != poller->idle_from);
		poller->idle_from = idle_turns;
		atomic_store_explicit(&poller->stat_busy, ++busy, memory_order_relaxed);
		if (busy % BUSY_TURNS_PER_CLOCK == 0)
			sample(poller);
	}

	vrd_grace_offline(poller);
	pthread_mutex_unlock(&poller->turn_lock);
	return NULL;
}

/* ---- start and stop ------------------------------------------------------------------ */

static int start_thread(struct vrd_poller *poller, struct vrd_error *err)
{
	int ret = vrd_thread_create(&poller->thread, poller_main, poller);

	if (ret)
		return vrd_fail(err, -ret, NULL, "cannot start a poller thread: %s",
				strerror(ret));
	poller->started = true;

	if (poller->cpu >= 0) {
		cpu_set_t cpus;

		CPU_ZERO(&cpus);
		if (poller->cpu < CPU_SETSIZE)
			CPU_SET(poller->cpu, &cpus);
		ret = pthread_setaffinity_np(poller->thread, sizeof(cpus), &cpus);
		if (ret)
			return vrd_fail(err, -ret, "name a CPU that this process may use",
					"cannot pin poller %u to CPU %d: %s", poller->index,
					poller->cpu, strerror(ret));
	}
	return 0;
}

int vrd_poller_start(struct vrd_poller *poller, struct vrd_error *err)
{
	/* Edge triggered, so that it need not be drained.  NULL: it belongs to no device. */
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int ret;

	vrd_lock_init(&poller->inbox_lock, VRD_LOCK_LEAF);
	pthread_mutex_init(&poller->turn_lock, NULL);
	vrd_lock_init(&poller->timer_lock, VRD_LOCK_LEAF);
	atomic_init(&poller->next_deadline, UINT64_MAX);
	atomic_init(&poller->passed, VRD_GRACE_OFFLINE);
	TAILQ_INIT(&poller->runnable);
	TAILQ_INIT(&poller->posted);
	TAILQ_INIT(&poller->awake);
	TAILQ_INIT(&poller->rotation);
	TAILQ_INIT(&poller->sweeps);
	TAILQ_INIT(&poller->walks);
	TAILQ_INIT(&poller->failed);
	LIST_INIT(&poller->devs);
	poller->round = 1;		/* so that a device without a turn counts as fresh */
	vrd_spin_init(&poller->spin, poller->engine->poll_ns, poller->engine->poll_fixed,
		      vrd_clock_ns());
	poller->wake_fd = -1;

	poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (poller->epoll_fd >= 0)
		poller->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (poller->wake_fd < 0 ||
	    epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, poller->wake_fd, &event)) {
		ret = vrd_fail(err, -errno, "raise the limit of open files",
			       "cannot make a poller's file descriptors: %s", strerror(errno));
		vrd_poller_close(poller);
		return ret;
	}
	ret = start_thread(poller, err);
	if (ret) {
		vrd_poller_stop(poller);
		vrd_poller_close(poller);
	}
	return ret;
}

void vrd_poller_stop(struct vrd_poller *poller)
{
	if (!poller->started)
		return;
	atomic_store(&poller->stop, true);
	vrd_poller_attend(poller);
	pthread_join(poller->thread, NULL);
	poller->started = false;
}

void vrd_poller_close(struct vrd_poller *poller)
{
	if (poller->wake_fd >= 0)
		close(poller->wake_fd);
	if (poller->epoll_fd >= 0)
		close(poller->epoll_fd);
}
