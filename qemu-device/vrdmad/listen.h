/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listening UNIX sockets: of virtual machines, and of statistics.
 * Made and removed by the main thread.
 */
#ifndef VRDMAD_LISTEN_H
#define VRDMAD_LISTEN_H

#include <sys/types.h>

#include "log.h"

struct vrdmad_listener {
	int fd;				/* -1: closed */
	const char *path;
	dev_t dev;			/* of the file that was made */
	ino_t ino;
};

struct vrdmad_listen_access {
	gid_t group;			/* (gid_t)-1: as it comes */
	int mode;			/* -1: by the umask */
};

/*
 * Listens at @path, which has to stay valid.  A socket that a dead process
 * left there is replaced; one that answers is an error.  0, or a negative
 * errno after one message.
 */
int vrdmad_listen(struct vrdmad_listener *l, const char *path,
		  const struct vrdmad_listen_access *access, const struct vrdmad_log *log);
/* Closes it and removes the file, if it is still the one that was made. */
void vrdmad_unlisten(struct vrdmad_listener *l);

#endif /* VRDMAD_LISTEN_H */
