/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TAP for the unit tests: ok() for each check, return tap_done() at the end of main().  One
 * thread at a time.
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int tap_tests, tap_failures;

__attribute__((format(printf, 2, 3)))
static inline bool ok(bool good, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", good ? "" : "not ", ++tap_tests);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	tap_failures += !good;
	return good;
}

/* Like ok(), and prints both numbers if they differ. */
#define is(got, want, ...)							\
	do {									\
		long long got_ = (long long)(got), want_ = (long long)(want);	\
										\
		if (!ok(got_ == want_, __VA_ARGS__))				\
			printf("# %s:%d: got %lld, want %lld\n", __FILE__, __LINE__, got_, want_); \
	} while (0)

__attribute__((format(printf, 1, 2)))
static inline void diag(const char *fmt, ...)
{
	va_list ap;

	fputs("# ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static inline int tap_done(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failures ? 1 : 0;
}

#endif /* TAP_H */
