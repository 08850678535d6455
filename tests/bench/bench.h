/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the native benchmarks share: options, samples, results.
 *
 * A benchmark takes its figures in rounds, each a few milliseconds of every
 * figure and of what it is compared with, one after the other: so a moment in
 * which the machine is slow hits both.  What is told is the median over the
 * rounds, and of a comparison the median of the rounds' ratios.
 *
 *   bench.c       this file's functions
 *   reference.c   what figures are compared with, on the poller's own thread
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
	unsigned int rounds;		/* 0: the program's own number, within its time */
	void (*ready)(void);		/* or NULL */
};

extern struct bench bench;

/* Options of every program; exits on wrong ones.  Pins this thread. */
void bench_start(int argc, char **argv, const char *what);
/* The program's exit status. */
int bench_end(void);

/*
 * Whether there is to be another round, after @done of them: @quick or @full, or
 * what --rounds said, but on a busy machine no more than can be had in
 * @seconds (a quarter of that with --quick).  @since is when the first began.
 */
bool bench_more(unsigned int done, unsigned int quick, unsigned int full, double seconds,
		uint64_t since);

/* A heading in the text. */
void bench_heading(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A line of the text. */
void bench_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- samples ---- */

struct sample {
	double v;
	bool clean;			/* no thread was preempted meanwhile */
};

struct samples {
	struct sample *s;
	unsigned int n, size;
};

void samples_add(struct samples *s, struct sample sample);
/* The median of the clean ones, or of all if there are hardly any. */
double samples_median(const struct samples *s);
void samples_free(struct samples *s);

/*
 * Runs @fn until no thread of this process was preempted meanwhile, some times
 * at most, and returns the last value.  Before each, bench.ready is called to
 * make sure that the poller has its CPU.
 */
struct sample bench_sample(double (*fn)(void *arg), void *arg);

/* How two samples of one moment compare. */
struct sample sample_ratio(struct sample a, struct sample b);

/* ---- results ---- */

/*
 * One figure.  Without @reference nothing is compared.  A @target such as
 * ">= 0.9" is of the ratio if there is one, else of the value.  With @excuse it
 * is not judged here: the machine forbids it, and this is why.
 */
struct bench_result {
	double value;
	const char *unit;
	const char *reference;		/* or NULL */
	double ratio;			/* NaN: none */
	const char *target;		/* or NULL */
	const char *excuse;		/* or NULL */
};

/* The last two arguments are printf's, of the name. */
void bench_result(const struct bench_result *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define BENCH_NO_RATIO	__builtin_nan("")

/* For @reference; good until the next few calls. */
const char *bench_fmt(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "4K", "1M" */
const char *bench_size(uint64_t bytes);

#endif /* BENCH_H */
