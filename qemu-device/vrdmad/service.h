/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a service manager expects, and the giving up of privileges.
 * Called by main.c before threads exist, but for the notifications.
 */
#ifndef VRDMAD_SERVICE_H
#define VRDMAD_SERVICE_H

#include <stdbool.h>

#include "log.h"

/* Where sd_notify(3) messages go: opened early, as the sandbox forbids it later. */
struct vrdmad_notify {
	int fd;				/* -1: nobody asked */
};

void vrdmad_notify_open(struct vrdmad_notify *n);
/* @state: "READY=1", "STOPPING=1", "STATUS=..."; lost if nobody listens. */
void vrdmad_notify_send(const struct vrdmad_notify *n, const char *state);
void vrdmad_notify_close(struct vrdmad_notify *n);

/* As many descriptors as the system allows: a guest may have a thousand. */
void vrdmad_raise_file_limit(const struct vrdmad_log *log);

/*
 * Becomes @user (NULL: stays) and gives up all capabilities.  0, or a negative
 * errno after one message.
 */
int vrdmad_drop_privileges(const char *user, const struct vrdmad_log *log);

/*
 * Refuses all system calls that a running daemon does not need; @rdma: it uses
 * RDMA devices of the host's, which are open; @channel: it connects to other
 * daemons.  As above.
 */
int vrdmad_sandbox(bool rdma, bool channel, const struct vrdmad_log *log);

#endif /* VRDMAD_SERVICE_H */
