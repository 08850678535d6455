// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The event loop of the MAD thread.  It takes one event for each epoll_wait(), because a
 * handler may close any descriptor and a stale event of that descriptor must not remain.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "mad_loop.h"

uint64_t vrd_mad_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

int vrd_mad_loop_open(struct vrd_mad_loop *loop)
{
	struct epoll_event event = { .events = EPOLLIN };
	int ret;

	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epfd < 0)
		return -errno;
	loop->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wakefd < 0 || epoll_ctl(loop->epfd, EPOLL_CTL_ADD, loop->wakefd, &event)) {
		ret = -errno;
		vrd_mad_loop_close(loop);
		return ret;
	}
	return 0;
}

void vrd_mad_loop_close(struct vrd_mad_loop *loop)
{
	if (loop->wakefd >= 0)
		close(loop->wakefd);
	if (loop->epfd >= 0)
		close(loop->epfd);
	loop->epfd = -1;
	loop->wakefd = -1;
}

void vrd_mad_loop_wake(struct vrd_mad_loop *loop)
{
	uint64_t one = 1;

	/* If the counter is full, the loop wakes up as well. */
	if (write(loop->wakefd, &one, sizeof(one)) < 0)
		return;
}

int vrd_mad_loop_watch(struct vrd_mad_loop *loop, struct vrd_mad_source *src, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = src };
	int op = src->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (src->events == events)
		return 0;
	if (epoll_ctl(loop->epfd, op, src->fd, &event))
		return -errno;
	src->events = events;
	return 0;
}

void vrd_mad_loop_unwatch(struct vrd_mad_loop *loop, struct vrd_mad_source *src)
{
	if (src->events)
		epoll_ctl(loop->epfd, EPOLL_CTL_DEL, src->fd, NULL);
	src->events = 0;
}

void vrd_mad_loop_run(struct vrd_mad_loop *loop, int timeout_ms)
{
	struct vrd_mad_source *src;
	struct epoll_event event;
	uint64_t count;

	if (epoll_wait(loop->epfd, &event, 1, timeout_ms) != 1)
		return;
	src = event.data.ptr;
	if (src)
		src->ready(src, event.events);
	else if (read(loop->wakefd, &count, sizeof(count)) < 0)
		return;
}
