/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts the threads of the core and of the transports.
 *
 * Signals of the process are for the front end's threads, so all are blocked in these
 * threads, except those of their own faults: guest memory may raise SIGBUS.
 *
 * Any thread may call these functions.  They return 0 or an errno, as pthread_create() does.
 */
#ifndef VRD_THREAD_H
#define VRD_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* The caller joins or detaches *@thread. */
int vrd_thread_create(pthread_t *thread, void *(*fn)(void *), void *arg);
/* A thread that nobody joins.  @stack_size: in bytes; 0: the usual size. */
int vrd_thread_create_detached(size_t stack_size, void *(*fn)(void *), void *arg);

#endif /* VRD_THREAD_H */
