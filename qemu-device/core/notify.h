/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signals descriptors that another process shares: the call descriptors of virtqueues, which
 * pollers and control threads signal, and a front end's error descriptors.
 *
 * O_NONBLOCK is a property of the open file and not of a descriptor, so every process that
 * has the file can change it.  A thread that relies on it can be blocked at any time by the
 * process that passed the descriptor.  These functions do not depend on it.
 */
#ifndef VRD_NOTIFY_H
#define VRD_NOTIFY_H

#include <linux/aio_abi.h>
#include <stdbool.h>

#include "lock.h"
#include "vrd.h"

struct vrd_notifier {
	aio_context_t aio;		/* 0: all descriptors are the process's own */
	int null_fd;
	struct vrd_lock reap_lock;	/* the head of the completion ring */
};

/* For one engine.  @private_fds: see struct vrd_engine_config. */
int vrd_notifier_init(struct vrd_notifier *n, bool private_fds, struct vrd_error *err);
void vrd_notifier_fini(struct vrd_notifier *n);

/* engine.c */
struct vrd_notifier *vrd_engine_notifier(struct vrd_engine *engine);

/* True if @fd is a stream socket of AF_UNIX. */
bool vrd_fd_is_unix_stream(int fd);

/*
 * Adds 1 to an eventfd, or sends 8 bytes over a socket that passed vrd_fd_is_unix_stream().
 * A full counter or socket is left unchanged: it is already readable.  Never blocks; any
 * thread, any lock.  Returns 0 or a negative errno.
 */
int vrd_notify(struct vrd_notifier *n, int fd, bool is_socket);

#endif /* VRD_NOTIFY_H */
