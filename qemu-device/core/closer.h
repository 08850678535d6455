/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Closes descriptors that another process passed, on separate threads.
 *
 * close() can sleep for as long as that process determines: a FUSE file waits for its
 * server's answer to FLUSH; the last descriptor of a TCP socket waits for SO_LINGER; a UNIX
 * socket whose queue contains such a socket does as well.  A thread that serves other guests
 * must not close these.  Eventfds and memory files (memfd, tmpfs, hugetlbfs) do not sleep and
 * need no closer.
 */
#ifndef VRD_CLOSER_H
#define VRD_CLOSER_H

struct vrd_closer;

/* One for each process that passes descriptors; NULL: out of memory. */
struct vrd_closer *vrd_closer_create(void);
/* The threads close the remaining descriptors. */
void vrd_closer_destroy(struct vrd_closer *closer);

/* Closes @fd later; never sleeps.  Any thread. */
void vrd_closer_close(struct vrd_closer *closer, int fd);
/* Number of descriptors that have not been closed yet. */
unsigned int vrd_closer_pending(struct vrd_closer *closer);

#endif /* VRD_CLOSER_H */
