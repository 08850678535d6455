/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listening UNIX sockets, for virtual machines and for statistics.  Created and removed by
 * the main thread.
 */
#ifndef VRDMAD_LISTEN_H
#define VRDMAD_LISTEN_H

#include <sys/types.h>

#include "log.h"

struct vrdmad_listener {
	int fd;				/* -1: closed */
	const char *path;
	dev_t dev;			/* of the socket's file */
	ino_t ino;
};

struct vrdmad_listen_access {
	gid_t group;			/* (gid_t)-1: do not change */
	int mode;			/* -1: by the umask */
};

/*
 * Listens at @path, which has to stay valid.  Replaces a socket that no process listens on;
 * fails if a process does.  0, or a negative errno after one message.
 */
int vrdmad_listen(struct vrdmad_listener *l, const char *path,
		  const struct vrdmad_listen_access *access, const struct vrdmad_log *log);
/* Closes the socket.  Removes the file unless another process has replaced it. */
void vrdmad_unlisten(struct vrdmad_listener *l);

#endif /* VRDMAD_LISTEN_H */
