/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Closes descriptors that another process gave, on threads of its own.
 *
 * close() can sleep for as long as that process likes: a FUSE file waits for its
 * server's answer to FLUSH, the last descriptor of a TCP socket waits for
 * SO_LINGER, and so does that of a UNIX socket in whose queue such a socket
 * lies.  A thread that serves other guests must not close these.  Eventfds and
 * memory files (memfd, tmpfs, hugetlbfs) do not sleep and need no closer.
 */
#ifndef VRD_CLOSER_H
#define VRD_CLOSER_H

struct vrd_closer;

/* One for each process that gives descriptors; NULL: out of memory. */
struct vrd_closer *vrd_closer_create(void);
/* The descriptors that are not closed yet stay with their threads. */
void vrd_closer_destroy(struct vrd_closer *closer);

/* Closes @fd at some time; never sleeps.  Any thread. */
void vrd_closer_close(struct vrd_closer *closer, int fd);
/* Descriptors that are not closed yet. */
unsigned int vrd_closer_pending(struct vrd_closer *closer);

#endif /* VRD_CLOSER_H */
