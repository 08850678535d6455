// SPDX-License-Identifier: GPL-2.0-or-later
/* Starts threads: see thread.h. */
#include <signal.h>

#include "thread.h"

static int create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	sigset_t set, old;
	int ret;

	sigfillset(&set);
	sigdelset(&set, SIGBUS);
	sigdelset(&set, SIGSEGV);
	sigdelset(&set, SIGFPE);
	sigdelset(&set, SIGILL);
	/* The new thread inherits the mask. */
	pthread_sigmask(SIG_SETMASK, &set, &old);
	ret = pthread_create(thread, attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

int vrd_thread_create(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	return create(thread, NULL, fn, arg);
}

int vrd_thread_create_detached(size_t stack_size, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	ret = pthread_attr_init(&attr);
	if (ret)
		return ret;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (stack_size)
		ret = pthread_attr_setstacksize(&attr, stack_size);
	if (!ret)
		ret = create(&thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return ret;
}
