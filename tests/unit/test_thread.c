// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Threads of the core (core/thread.c): their signal mask, and the caller's afterwards.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

#include "tap.h"
#include "thread.h"

struct seen {
	sem_t done;
	sigset_t mask;
	size_t stack;
};

static void *look(void *arg)
{
	struct seen *seen = arg;
	pthread_attr_t attr;
	void *addr;

	pthread_sigmask(SIG_SETMASK, NULL, &seen->mask);
	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstack(&attr, &addr, &seen->stack);
	pthread_attr_destroy(&attr);
	sem_post(&seen->done);
	return arg;
}

static void check_mask(const sigset_t *mask, const char *what)
{
	static const int blocked[] = { SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGUSR1, SIGCHLD, SIGPIPE };
	static const int faults[] = { SIGBUS, SIGSEGV, SIGFPE, SIGILL };
	unsigned int i, num = 0;

	for (i = 0; i < sizeof(blocked) / sizeof(blocked[0]); i++)
		num += sigismember(mask, blocked[i]) == 1;
	is(num, i, "%s: signals of the process are blocked", what);
	for (i = 0, num = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		num += sigismember(mask, faults[i]) == 0;
	is(num, i, "%s: signals of its own faults are not", what);
}

int main(void)
{
	struct seen seen;
	pthread_t thread;
	sigset_t mask;
	size_t small;
	void *result;

	/* The caller's mask differs from that of the threads in both directions. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	sem_init(&seen.done, 0, 0);

	ok(!vrd_thread_create(&thread, look, &seen) && !pthread_join(thread, &result) &&
	   result == &seen, "a thread starts and is joined");
	check_mask(&seen.mask, "joinable");

	ok(!vrd_thread_create_detached(256 * 1024, look, &seen), "a detached thread starts");
	sem_wait(&seen.done);		/* of the first thread */
	sem_wait(&seen.done);
	check_mask(&seen.mask, "detached");
	small = seen.stack;
	ok(!vrd_thread_create_detached(0, look, &seen), "a detached thread with the usual stack");
	sem_wait(&seen.done);
	/* The sanitizers add to each stack. */
	ok(seen.stack > small, "the stack that was asked for is smaller");
	diag("%zu and %zu bytes", small, seen.stack);
	ok(vrd_thread_create_detached(1, look, &seen), "a stack that is too small is refused");

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	ok(sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGBUS) == 1 &&
	   sigismember(&mask, SIGTERM) == 0, "the caller's mask is as before");
	sem_destroy(&seen.done);
	return tap_done();
}
