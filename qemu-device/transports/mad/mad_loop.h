/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop of the MAD thread: descriptors, and a time-out that the caller computes.
 * All functions but vrd_mad_loop_wake() belong to that thread.
 */
#ifndef VRD_IBV_MAD_LOOP_H
#define VRD_IBV_MAD_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct vrd_mad_source {
	int fd;				/* -1: not in a loop */
	uint32_t events;		/* EPOLL* that the source waits for */
	void (*ready)(struct vrd_mad_source *src, uint32_t events);
};

struct vrd_mad_loop {
	int epfd, wakefd;
};

/* 0 or a negative errno. */
int vrd_mad_loop_open(struct vrd_mad_loop *loop);
void vrd_mad_loop_close(struct vrd_mad_loop *loop);
/* Any thread: makes vrd_mad_loop_run() return soon. */
void vrd_mad_loop_wake(struct vrd_mad_loop *loop);

/* src->fd and src->ready are set.  If the source is in the loop, this changes its events. */
int vrd_mad_loop_watch(struct vrd_mad_loop *loop, struct vrd_mad_source *src, uint32_t events);
/* Does not close the descriptor. */
void vrd_mad_loop_unwatch(struct vrd_mad_loop *loop, struct vrd_mad_source *src);

/* Waits up to @timeout_ms (-1: no limit) and serves one ready descriptor. */
void vrd_mad_loop_run(struct vrd_mad_loop *loop, int timeout_ms);

/* CLOCK_MONOTONIC */
uint64_t vrd_mad_now_ms(void);

#endif /* VRD_IBV_MAD_LOOP_H */
