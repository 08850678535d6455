// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control thread of a device.
 *
 * It takes commands off the control virtqueue, continues pending commands (cmd_queue.c), and
 * refills the event and completion queues when the driver kicks them.
 *
 * After a command it polls for the next one for a short time before it sleeps, if that was
 * successful recently.  A driver that creates many objects sends the next command within
 * microseconds, and then needs no kick.  The number of threads that do so at the same time is
 * limited (spin_slots.h).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE		/* pthread_setname_np() */
#endif
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "event.h"
#include "poller.h"
#include "shm.h"
#include "spin_slots.h"
#include "thread.h"
#include "virtq.h"

/* Maximum number of commands and follow-ups that are executed before dev->lock is released. */
#define BATCH		16
/* Checks of the queue between two reads of the clock. */
#define SPINS_PER_CLOCK	16
/* Interval at which a spinning thread yields the CPU. */
#define YIELD_NS	4000ULL
/* Upper limit of the credit for successful spins: this many unsuccessful ones end the spinning. */
#define MAX_CREDIT	8

/* epoll's data value of the internal eventfd; other values are queue numbers. */
#define WAKE		UINT32_MAX

struct vrd_control {
	pthread_t thread;
	int epoll_fd, wake_fd;
	_Atomic bool stop, abandoned;
	_Atomic unsigned int front_end_waits;	/* front end threads that wait for dev->lock */

	struct vrd_lock followups_lock;		/* a leaf */
	STAILQ_HEAD(, vrd_followup) followups;
	_Atomic bool followups_due;

	/* Used only by the thread: see spin(). */
	unsigned int credit;			/* 0: do not spin */
	uint64_t idle_since;			/* when it went to sleep after a command, or 0 */
};

/* ---- the thread -------------------------------------------------------- */

void vrd_device_lock(struct vrd_device *dev)
{
	atomic_fetch_add(&dev->control->front_end_waits, 1);
	pthread_mutex_lock(&dev->lock);
	atomic_fetch_sub(&dev->control->front_end_waits, 1);
}

void vrd_device_unlock(struct vrd_device *dev)
{
	pthread_mutex_unlock(&dev->lock);
}

/* A mutex is not fair: a thread that releases it and takes it again at once usually gets it. */
static void let_front_end_in(struct vrd_control *ctl)
{
	static const struct timespec moment = { .tv_nsec = 20000 };

	while (atomic_load(&ctl->front_end_waits))
		nanosleep(&moment, NULL);
}

/* The device whose control thread is the calling thread, or NULL. */
static _Thread_local struct vrd_device *current_device;

/* ---- follow-ups -------------------------------------------------------- */

void vrd_control_followup(struct vrd_device *dev, struct vrd_followup *f)
{
	struct vrd_control *ctl = dev->control;
	bool first;

	vrd_lock(&ctl->followups_lock);
	first = STAILQ_EMPTY(&ctl->followups);
	STAILQ_INSERT_TAIL(&ctl->followups, f, link);
	atomic_store(&ctl->followups_due, true);
	/* Under the lock: the device may be freed once @f has run. */
	if (first && current_device != dev)
		vrd_control_wake(dev);
	vrd_unlock(&ctl->followups_lock);
}

/* Runs one follow-up; dev->lock is held.  False: there is none. */
static bool run_followup(struct vrd_device *dev)
{
	struct vrd_control *ctl = dev->control;
	struct vrd_followup *f;

	if (!atomic_load_explicit(&ctl->followups_due, memory_order_relaxed))
		return false;
	vrd_lock(&ctl->followups_lock);
	f = STAILQ_FIRST(&ctl->followups);
	if (f)
		STAILQ_REMOVE_HEAD(&ctl->followups, link);
	if (STAILQ_EMPTY(&ctl->followups))
		atomic_store(&ctl->followups_due, false);
	vrd_unlock(&ctl->followups_lock);
	if (!f)
		return false;
	f->fn(f);
	return true;
}

/* ---- commands ---------------------------------------------------------- */

/* Runs a few follow-ups and commands; false: there was nothing to do. */
static bool run_batch(struct vrd_device *dev)
{
	unsigned int left = BATCH;

	vrd_cmds_flush(dev);
	while (left && run_followup(dev))
		left--;
	while (left && vrd_cmds_take(dev))
		left--;
	vrd_cmds_signal(dev);
	return left < BATCH;
}

static void earn(struct vrd_control *ctl)
{
	ctl->credit += 2;
	if (ctl->credit > MAX_CREDIT)
		ctl->credit = MAX_CREDIT;
}

static bool is_crowded(struct vrd_device *dev)
{
	return vrd_spin_slots_crowded(vrd_engine_spin_slots(dev->engine),
				      vrd_engine_awake_pollers(dev->engine));
}

/* Polls for @limit nanoseconds; true if there is something to do. */
static bool poll_for_work(struct vrd_device *dev, uint64_t limit)
{
	struct vrd_control *ctl = dev->control;
	uint64_t start, now, yielded;

	start = yielded = vrd_clock_ns();
	for (unsigned int i = 1; ; i++) {
		if (atomic_load_explicit(&ctl->followups_due, memory_order_relaxed) ||
		    atomic_load_explicit(&ctl->stop, memory_order_relaxed) ||
		    vrd_cmds_available(dev))
			return true;
		vrd_cpu_relax();
		if (i % SPINS_PER_CLOCK)
			continue;
		now = vrd_clock_ns();
		if (now - start > limit || is_crowded(dev))
			return false;
		if (now - yielded > YIELD_NS) {
			sched_yield();
			yielded = now;
		}
	}
}

/* Polls for a short time, if that pays and there is a slot; true if there is something to do. */
static bool spin(struct vrd_device *dev)
{
	struct vrd_spin_slots *slots = vrd_engine_spin_slots(dev->engine);
	struct vrd_control *ctl = dev->control;
	uint64_t limit = vrd_engine_poll_ns(dev->engine);
	bool found;

	if (!limit || !ctl->credit || !vrd_spin_slot_take(slots))
		return false;
	if (is_crowded(dev)) {
		vrd_spin_slot_return(slots);
		return false;
	}
	vrd_cmds_want_kick(dev, false);
	found = poll_for_work(dev, limit);
	vrd_spin_slot_return(slots);
	if (found)
		earn(ctl);
	else
		ctl->credit--;
	return found;
}

static void run_commands(struct vrd_device *dev)
{
	struct vrd_control *ctl = dev->control;
	bool more = true, worked = false;

	while (more && !atomic_load(&ctl->stop)) {
		let_front_end_in(ctl);
		pthread_mutex_lock(&dev->lock);
		more = run_batch(dev);
		pthread_mutex_unlock(&dev->lock);
		worked |= more;
		/* Follow-ups of commands in progress are also expected soon. */
		if (!more && worked)
			more = spin(dev);
		if (more)
			continue;
		pthread_mutex_lock(&dev->lock);
		vrd_cmds_want_kick(dev, true);
		more = run_batch(dev);
		pthread_mutex_unlock(&dev->lock);
	}
	if (worked)
		ctl->idle_since = vrd_clock_ns();
}

/* The thread was woken: decides whether spinning instead of sleeping would have been better. */
static void judge(struct vrd_device *dev)
{
	struct vrd_control *ctl = dev->control;
	uint64_t limit = vrd_engine_poll_ns(dev->engine);

	if (!ctl->idle_since || !limit)
		return;
	/*
	 * Much of this time is the cost of sleeping: of this thread, and of the driver that
	 * waits for the response.
	 */
	if (vrd_clock_ns() - ctl->idle_since < 4 * limit)
		earn(ctl);
	else if (ctl->credit)
		ctl->credit--;
	ctl->idle_since = 0;
}

static void refill(struct vrd_device *dev, unsigned int index)
{
	bool events = index == VIRTIO_RDMA_VQ_EVENT || index >= VIRTIO_RDMA_VQ_COMP_BASE;

	if (events && vrd_event_refill(dev, dev->vqs[index]))
		vrd_control_wake(dev);
}

static void control_free(struct vrd_control *ctl)
{
	close(ctl->wake_fd);
	close(ctl->epoll_fd);
	free(ctl);
}

/* On the control thread: true if the device was abandoned and no operation is in progress. */
static bool is_left_alone(struct vrd_device *dev)
{
	bool alone;

	if (!atomic_load(&dev->control->abandoned))
		return false;
	pthread_mutex_lock(&dev->lock);
	alone = !dev->ends.num && !dev->cmds.num_running;
	pthread_mutex_unlock(&dev->lock);
	return alone;
}

static void *control_main(void *opaque)
{
	struct vrd_device *dev = opaque;
	struct vrd_control *ctl = dev->control;
	struct epoll_event ev[16];
	uint64_t count;
	unsigned int q;
	int i, n;

	current_device = dev;
	while (!atomic_load(&ctl->stop)) {
		n = epoll_wait(ctl->epoll_fd, ev, 16, -1);
		judge(dev);
		for (i = 0; i < n; i++) {
			if (ev[i].data.u32 != WAKE) {
				refill(dev, ev[i].data.u32);
				continue;
			}
			/* An error needs no handling: the count is not used. */
			if (read(ctl->wake_fd, &count, sizeof(count)) < 0)
				continue;
			for (q = 0; q < dev->num_vqs; q++)
				refill(dev, q);
		}
		run_commands(dev);
		if (is_left_alone(dev)) {
			struct vrd_engine *engine = dev->engine;

			control_free(ctl);
			dev->control = NULL;
			vrd_device_finish(dev);
			vrd_engine_abandoned(engine, -1);
			break;
		}
	}
	return NULL;
}

void vrd_control_wake(struct vrd_device *dev)
{
	uint64_t one = 1;

	if (write(dev->control->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		vrd_log(dev->engine, VRD_LOG_ERROR, "%s: cannot wake the control thread: %s",
			dev->name, strerror(errno));
}

int vrd_control_watch(struct vrd_device *dev, unsigned int vq, int fd)
{
	/*
	 * Edge triggered: each kick is one event, and the counter is never read.
	 * read() could block: the other process may have cleared O_NONBLOCK.
	 */
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u32 = vq };

	return epoll_ctl(dev->control->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

void vrd_control_unwatch(struct vrd_device *dev, int fd)
{
	/* The descriptor may not be watched any more. */
	(void)epoll_ctl(dev->control->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

int vrd_control_create(struct vrd_device *dev, struct vrd_error *err)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = WAKE };
	struct vrd_control *ctl;
	char name[16];
	int ret;

	ctl = calloc(1, sizeof(*ctl));
	if (!ctl)
		return vrd_fail(err, -ENOMEM, "", "out of memory");
	vrd_lock_init(&ctl->followups_lock, VRD_LOCK_LEAF);
	STAILQ_INIT(&ctl->followups);
	ctl->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	ctl->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ctl->epoll_fd < 0 || ctl->wake_fd < 0 ||
	    epoll_ctl(ctl->epoll_fd, EPOLL_CTL_ADD, ctl->wake_fd, &ev)) {
		ret = vrd_fail(err, -errno, "raise the limit of open files (ulimit -n)",
			       "control thread of %s: %s", dev->name, strerror(errno));
		goto close;
	}
	dev->control = ctl;

	ret = vrd_thread_create(&ctl->thread, control_main, dev);
	if (ret) {
		ret = vrd_fail(err, -ret, "", "control thread of %s: %s", dev->name,
			       strerror(ret));
		dev->control = NULL;
		goto close;
	}
	snprintf(name, sizeof(name), "vrd-ctl %.7s", dev->name);
	pthread_setname_np(ctl->thread, name);
	return 0;
close:
	if (ctl->wake_fd >= 0)
		close(ctl->wake_fd);
	if (ctl->epoll_fd >= 0)
		close(ctl->epoll_fd);
	free(ctl);
	return ret;
}

void vrd_control_destroy(struct vrd_device *dev)
{
	struct vrd_control *ctl = dev->control;

	if (!ctl)
		return;
	atomic_store(&ctl->stop, true);
	vrd_control_wake(dev);
	pthread_join(ctl->thread, NULL);
	control_free(ctl);
	dev->control = NULL;
}

void vrd_control_abandon(struct vrd_device *dev)
{
	struct vrd_control *ctl = dev->control;

	vrd_engine_abandoned(dev->engine, 1);
	pthread_detach(ctl->thread);
	/*
	 * From here on the device belongs to the thread, which takes the lock before it ends
	 * the device.  So the device exists until the wake-up is done.
	 */
	pthread_mutex_lock(&dev->lock);
	atomic_store(&ctl->abandoned, true);
	vrd_control_wake(dev);
	pthread_mutex_unlock(&dev->lock);
}

