/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notification of the service manager, drop of privileges, and system call filter.  All but
 * the notifications is called by main.c before threads exist.
 */
#ifndef VRDMAD_SERVICE_H
#define VRDMAD_SERVICE_H

#include <stdbool.h>

#include "log.h"

/* Socket for sd_notify(3) messages.  Opened early, because the sandbox forbids it later. */
struct vrdmad_notify {
	int fd;				/* -1: there is no service manager */
};

void vrdmad_notify_open(struct vrdmad_notify *n);
/* @state: "READY=1", "STOPPING=1", "STATUS=...".  Does nothing without a service manager. */
void vrdmad_notify_send(const struct vrdmad_notify *n, const char *state);
void vrdmad_notify_close(struct vrdmad_notify *n);

/* Raises the limit of open files to the hard limit: one guest may need a thousand. */
void vrdmad_raise_file_limit(const struct vrdmad_log *log);

/*
 * Changes to @user (unless NULL) and drops all capabilities.  0, or a negative errno after
 * one message.
 */
int vrdmad_drop_privileges(const char *user, const struct vrdmad_log *log);

/*
 * Refuses all system calls that a running daemon does not need.  @rdma: the daemon uses RDMA
 * devices of the host, which are open.  @channel: it connects to other daemons.  Returns the
 * same.
 */
int vrdmad_sandbox(bool rdma, bool channel, const struct vrdmad_log *log);

#endif /* VRDMAD_SERVICE_H */
