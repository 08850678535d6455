/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the native benchmarks share: options, samples, results.
 *
 * A benchmark measures in rounds.  Each round takes a sample of a few milliseconds of every
 * figure and of its reference, one after the other, so that a slow moment of the machine
 * affects both.  The reported value is the median over the rounds; a comparison is the
 * median of the rounds' ratios.
 *
 *   bench.c       this file's functions
 *   reference.c   references that figures are compared with, run on the poller's thread
 *   rig.c         engine, guests, and the provider's data path on their rings
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench {
	bool quick;			/* fewer rounds, smaller sizes */
	int guest_cpu, poller_cpu;	/* -1: not pinned */
	unsigned int rounds;		/* 0: the program's own number, within its time limit */
	void (*ready)(void);		/* or NULL */
};

extern struct bench bench;

/* Parses the options that all programs have; exits on invalid ones.  Pins this thread. */
void bench_start(int argc, char **argv, const char *what);
/* Returns the program's exit status. */
int bench_end(void);

/*
 * Returns true if another round follows after @done rounds.  The number of rounds is @quick
 * or @full, or what --rounds says; on a busy machine it is limited to what fits into
 * @seconds (a quarter of that with --quick), counted from @since, when the first round
 * began.
 */
bool bench_more(unsigned int done, unsigned int quick, unsigned int full, double seconds,
		uint64_t since);

/* Prints a heading. */
void bench_heading(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints a line. */
void bench_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- samples ---- */

struct sample {
	double v;
	bool clean;			/* no thread was preempted during the sample */
};

struct samples {
	struct sample *s;
	unsigned int n, size;
};

void samples_add(struct samples *s, struct sample sample);
/* Returns the median of the clean samples, or of all if hardly any is clean. */
double samples_median(const struct samples *s);
void samples_free(struct samples *s);

/*
 * Runs @fn until no thread of this process was preempted, a limited number of times, and
 * returns the last value.  Before each run, bench.ready is called to make sure that the
 * poller has its CPU.
 */
struct sample bench_sample(double (*fn)(void *arg), void *arg);

/* Relation between two samples of one round. */
struct sample sample_ratio(struct sample a, struct sample b);

/* Difference of two samples of one round. */
struct sample sample_minus(struct sample a, struct sample b);

/* ---- results ---- */

/*
 * One figure.  Without @reference nothing is compared.  A @target such as ">= 0.9" applies
 * to the ratio if there is one, else to the value.  @excuse says why the target does not
 * apply on this machine; the figure is then not judged.
 */
struct bench_result {
	double value;
	const char *unit;
	const char *reference;		/* or NULL */
	double ratio;			/* NaN: none */
	const char *target;		/* or NULL */
	const char *excuse;		/* or NULL */
	bool cost;			/* what the device adds: results.py */
};

/* The last two arguments are a printf format and its arguments, for the name. */
void bench_result(const struct bench_result *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define BENCH_NO_RATIO	__builtin_nan("")

/* For @reference; the string is valid until a few calls later. */
const char *bench_fmt(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "4K", "1M" */
const char *bench_size(uint64_t bytes);

#endif /* BENCH_H */
