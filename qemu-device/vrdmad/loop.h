/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The main loop: file descriptors, and the functions to call when they are ready.
 *
 * Used by the main thread only.  The loop takes one event at a time, so a handler may remove
 * any source, including its own.
 */
#ifndef VRDMAD_LOOP_H
#define VRDMAD_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define vrdmad_container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

struct vrdmad_source {
	int fd;				/* -1: not in the loop */
	/* @events: EPOLLIN, EPOLLOUT, ... */
	void (*ready)(struct vrdmad_source *src, uint32_t events);
};

struct vrdmad_loop {
	int epfd;
	bool stop;
	/*
	 * Time of the next call of @timeout, as vrdmad_now_ms() counts; 0: never.  Only set
	 * while a time limit is running, so that an idle daemon sleeps.
	 */
	uint64_t deadline_ms;
	void (*timeout)(void *opaque);
	void *timeout_opaque;
};

/* 0 or a negative errno. */
int vrdmad_loop_open(struct vrdmad_loop *loop);
void vrdmad_loop_close(struct vrdmad_loop *loop);

/* @src stores @fd, but does not own it. */
int vrdmad_loop_add(struct vrdmad_loop *loop, struct vrdmad_source *src, int fd, uint32_t events);
int vrdmad_loop_modify(struct vrdmad_loop *loop, struct vrdmad_source *src, uint32_t events);
void vrdmad_loop_del(struct vrdmad_loop *loop, struct vrdmad_source *src);

/* Calls @timeout at @when_ms at the latest. */
void vrdmad_loop_arm(struct vrdmad_loop *loop, uint64_t when_ms);

/* Runs until @stop is set; 0 or a negative errno. */
int vrdmad_loop_run(struct vrdmad_loop *loop);

#endif /* VRDMAD_LOOP_H */
