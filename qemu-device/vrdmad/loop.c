// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The main loop: see loop.h.
 */
#include <errno.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"

int vrdmad_loop_open(struct vrdmad_loop *loop)
{
	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	return loop->epfd < 0 ? -errno : 0;
}

void vrdmad_loop_close(struct vrdmad_loop *loop)
{
	close(loop->epfd);
	loop->epfd = -1;
}

static int loop_ctl(struct vrdmad_loop *loop, int op, struct vrdmad_source *src, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	return epoll_ctl(loop->epfd, op, src->fd, &ev) < 0 ? -errno : 0;
}

int vrdmad_loop_add(struct vrdmad_loop *loop, struct vrdmad_source *src, int fd, uint32_t events)
{
	int ret;

	src->fd = fd;
	ret = loop_ctl(loop, EPOLL_CTL_ADD, src, events);
	if (ret < 0)
		src->fd = -1;
	return ret;
}

int vrdmad_loop_modify(struct vrdmad_loop *loop, struct vrdmad_source *src, uint32_t events)
{
	return loop_ctl(loop, EPOLL_CTL_MOD, src, events);
}

void vrdmad_loop_del(struct vrdmad_loop *loop, struct vrdmad_source *src)
{
	if (src->fd < 0)
		return;
	loop_ctl(loop, EPOLL_CTL_DEL, src, 0);
	src->fd = -1;
}

void vrdmad_loop_arm(struct vrdmad_loop *loop, uint64_t when_ms)
{
	if (!loop->deadline_ms || when_ms < loop->deadline_ms)
		loop->deadline_ms = when_ms;
}

static int loop_wait_ms(const struct vrdmad_loop *loop)
{
	uint64_t now;

	if (!loop->deadline_ms)
		return -1;
	now = vrdmad_now_ms();
	if (now >= loop->deadline_ms)
		return 0;
	/* Round up: with a shorter timeout, the loop would spin during the last millisecond. */
	return loop->deadline_ms - now > 60000 ? 60000 : (int)(loop->deadline_ms - now) + 1;
}

int vrdmad_loop_run(struct vrdmad_loop *loop)
{
	while (!loop->stop) {
		struct vrdmad_source *src;
		struct epoll_event ev;
		int n;

		/*
		 * Take one event at a time.  epoll rotates its list of ready descriptors, so a
		 * client that sends without pause does not delay the others.
		 */
		n = epoll_wait(loop->epfd, &ev, 1, loop_wait_ms(loop));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 1) {
			src = ev.data.ptr;
			src->ready(src, ev.events);
		}
		if (loop->deadline_ms && vrdmad_now_ms() >= loop->deadline_ms) {
			loop->deadline_ms = 0;
			loop->timeout(loop->timeout_opaque);
		}
	}
	return 0;
}
