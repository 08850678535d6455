// SPDX-License-Identifier: GPL-2.0-or-later
/* Options, samples and results of the native benchmarks.  See bench.h. */
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench.h"
#include "guest.h"

/* Samples during which the kernel preempted a thread are repeated, up to this count and time. */
#define SAMPLE_TRIES	100
#define SAMPLE_NS	150000000ULL
/* With fewer undisturbed samples than this, all samples are used. */
#define MIN_CLEAN	3

struct bench bench = { .guest_cpu = 0, .poller_cpu = 1 };

static FILE *json;
static unsigned int judged, missed;
static unsigned long sampled, disturbed;

/* ---- options ------------------------------------------------------------------ */

static void __attribute__((noreturn)) usage(const char *program, const char *what)
{
	fprintf(stderr, "%s: %s\n"
		"  --json FILE        results, one object per line\n"
		"  --quick            rough figures in a few seconds\n"
		"  --guest-cpu N      CPU of the guest's thread (0)\n"
		"  --poller-cpu N     CPU of the poller (1)\n"
		"  --rounds N         samples of each figure\n", program, what);
	exit(2);
}

static void pin(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		guest_fatal("CPU %d cannot be used: the benchmarks need two, see --guest-cpu and "
			    "--poller-cpu", cpu);
}

void bench_start(int argc, char **argv, const char *what)
{
	static const struct option options[] = {
		{ "json", required_argument, NULL, 'j' },
		{ "quick", no_argument, NULL, 'q' },
		{ "guest-cpu", required_argument, NULL, 'g' },
		{ "poller-cpu", required_argument, NULL, 'p' },
		{ "rounds", required_argument, NULL, 'n' },
		{ 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "j:qg:p:n:", options, NULL)) != -1) {
		switch (opt) {
		case 'j':
			json = fopen(optarg, "w");
			if (!json)
				guest_fatal("%s cannot be written: %m", optarg);
			break;
		case 'q':
			bench.quick = true;
			break;
		case 'g':
			bench.guest_cpu = atoi(optarg);
			break;
		case 'p':
			bench.poller_cpu = atoi(optarg);
			break;
		case 'n':
			bench.rounds = strtoul(optarg, NULL, 10);
			break;
		default:
			usage(argv[0], what);
		}
	}
	if (optind != argc)
		usage(argv[0], what);
	pin(bench.guest_cpu);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%s\n", what);
}

int bench_end(void)
{
	if (sampled)
		printf("\n%lu samples, %lu of them in which the kernel took a CPU away were taken again\n",
		       sampled, disturbed);
	printf("%u targets, %u missed\n", judged, missed);
	if (json && fclose(json))
		guest_fatal("the results cannot be written: %m");
	return 0;
}

bool bench_more(unsigned int done, unsigned int quick, unsigned int full, double seconds,
		uint64_t since)
{
	double spent = (guest_now_ns() - since) / 1e9;

	if (bench.rounds)
		return done < bench.rounds;
	if (done && spent > (bench.quick ? seconds / 4 : seconds))
		return false;
	return done < (bench.quick ? quick : full);
}

/* ---- text --------------------------------------------------------------------- */

void bench_heading(const char *fmt, ...)
{
	va_list ap;

	putchar('\n');
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void bench_say(const char *fmt, ...)
{
	va_list ap;

	printf("  ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

const char *bench_fmt(const char *fmt, ...)
{
	static char ring[8][160];
	static unsigned int next;
	char *s = ring[next++ % 8];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s, sizeof(ring[0]), fmt, ap);
	va_end(ap);
	return s;
}

const char *bench_size(uint64_t bytes)
{
	if (bytes >= 1U << 30 && !(bytes & ((1U << 30) - 1)))
		return bench_fmt("%lluG", (unsigned long long)bytes >> 30);
	if (bytes >= 1U << 20 && !(bytes & ((1U << 20) - 1)))
		return bench_fmt("%lluM", (unsigned long long)bytes >> 20);
	if (bytes >= 1024 && !(bytes & 1023))
		return bench_fmt("%lluK", (unsigned long long)bytes >> 10);
	return bench_fmt("%lluB", (unsigned long long)bytes);
}

/* ---- samples ------------------------------------------------------------------- */

void samples_add(struct samples *s, struct sample sample)
{
	if (s->n == s->size) {
		s->size = s->size ? 2 * s->size : 32;
		s->s = realloc(s->s, s->size * sizeof(*s->s));
		if (!s->s)
			guest_fatal("out of memory");
	}
	s->s[s->n++] = sample;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double samples_median(const struct samples *s)
{
	double *v = calloc(s->n + 1, sizeof(*v)), median = NAN;
	unsigned int clean = 0, n = 0;

	if (!v)
		guest_fatal("out of memory");
	for (unsigned int i = 0; i < s->n; i++)
		clean += s->s[i].clean;
	for (unsigned int i = 0; i < s->n; i++)
		if (s->s[i].clean || clean < MIN_CLEAN)
			v[n++] = s->s[i].v;
	qsort(v, n, sizeof(*v), compare);
	if (n)
		median = (v[n / 2] + v[(n - 1) / 2]) / 2;
	free(v);
	return median;
}

void samples_free(struct samples *s)
{
	free(s->s);
	*s = (struct samples){ 0 };
}

struct sample sample_ratio(struct sample a, struct sample b)
{
	return (struct sample){ a.v / b.v, a.clean && b.clean };
}

struct sample sample_minus(struct sample a, struct sample b)
{
	return (struct sample){ a.v - b.v, a.clean && b.clean };
}

static long preemptions(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) ? 0 : usage.ru_nivcsw;
}

struct sample bench_sample(double (*fn)(void *arg), void *arg)
{
	uint64_t start = guest_now_ns();
	struct sample sample = { 0 };

	for (unsigned int i = 0; i < SAMPLE_TRIES && guest_now_ns() - start < SAMPLE_NS; i++) {
		long before;

		if (bench.ready)
			bench.ready();
		before = preemptions();
		sample.v = fn(arg);
		sample.clean = preemptions() == before;
		sampled++;
		if (sample.clean)
			break;
		disturbed++;
	}
	return sample;
}

/* ---- results -------------------------------------------------------------------- */

static void put_string(const char *s)
{
	if (!s) {
		fputs("null", json);
		return;
	}
	fputc('"', json);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', json);
		fputc(*s, json);
	}
	fputc('"', json);
}

static void put_number(const char *key, double v)
{
	if (isfinite(v))
		fprintf(json, ", \"%s\": %.6g", key, v);
	else
		fprintf(json, ", \"%s\": null", key);
}

static void put_json(const struct bench_result *r, const char *name, const char *met)
{
	if (!json)
		return;
	fputs("{\"name\": ", json);
	put_string(name);
	put_number("value", r->value);
	fputs(", \"unit\": ", json);
	put_string(r->unit);
	fputs(", \"reference\": ", json);
	put_string(r->reference);
	put_number("ratio", r->ratio);
	fputs(", \"target\": ", json);
	put_string(r->target);
	fprintf(json, ", \"met\": %s", met);
	if (r->cost)
		fputs(", \"cost\": true", json);
	if (r->excuse) {
		fputs(", \"note\": ", json);
		put_string(r->excuse);
	}
	fputs("}\n", json);
	fflush(json);
}

static bool meets(const char *target, double v)
{
	double bound = strtod(target + 2, NULL);

	if (!strncmp(target, ">=", 2))
		return v >= bound;
	if (!strncmp(target, "<=", 2))
		return v <= bound;
	guest_fatal("target '%s'", target);
}

void bench_result(const struct bench_result *r, const char *fmt, ...)
{
	const char *met = "null";
	char name[128], text[160];
	va_list ap;
	int n;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);

	n = snprintf(text, sizeof(text), "%-48s %10.4g %s", name, r->value, r->unit);
	if (isfinite(r->ratio) && n < (int)sizeof(text))
		n += snprintf(text + n, sizeof(text) - n, ", %.3f of %s", r->ratio,
			      r->reference ? r->reference : "?");
	if (r->target && !r->excuse) {
		bool good = meets(r->target, isfinite(r->ratio) ? r->ratio : r->value);

		met = good ? "true" : "false";
		judged++;
		missed += !good;
		if (n < (int)sizeof(text))
			snprintf(text + n, sizeof(text) - n, "  [%s: %s]", r->target,
				 good ? "met" : "MISSED");
	} else if (r->target && n < (int)sizeof(text)) {
		snprintf(text + n, sizeof(text) - n, "  [%s: not judged]", r->target);
	}
	bench_say("%s", text);
	if (r->excuse)
		bench_say("    %s", r->excuse);
	put_json(r, name, met);
}
