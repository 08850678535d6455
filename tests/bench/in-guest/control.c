// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vrdma-control: the cost of control verbs for a process, on any verbs devices.
 *
 *   vrdma-control -d DEVICE [-d DEVICE] [-n ROUNDS] [-t MILLISECONDS] [-m BYTES] [-H]
 *
 * Prints one figure on each line: DEVICE NAME MICROSECONDS, the median of repetitions within
 * the given time.  The devices alternate, for the given number of rounds.  -m: size of the
 * largest region.  -H: measure only regions, on huge pages, which must have been reserved
 * (/proc/sys/vm/nr_hugepages).
 *
 * All regions are parts of one buffer that was touched before, so the figures contain
 * registration and no page faults, and every device uses the same pages.  Reading the clock
 * may be a system call (it is in UML), so short operations are timed in batches.
 */
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_SAMPLES	10000
#define MIN_SAMPLES	5
#define BATCH		16
#define MAX_DEVICES	4
#define ACCESS		(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | \
			 IBV_ACCESS_REMOTE_WRITE)

/* One kind of object: create adds one, destroy removes it. */
struct kind {
	const char *create_name, *destroy_name;
	void *(*create)(void);
	int (*destroy)(void *obj);
	unsigned int batch;
};

struct device {
	const char *name;
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq;		/* of QPs */
};

static struct device devices[MAX_DEVICES];
static unsigned int num_devices;
static struct device *dev;		/* the one being measured */
static char *region;
static size_t region_size;
static double limit_us = 1e6;

static void fatal(const char *what)
{
	perror(what);
	exit(1);
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *us, unsigned int num)
{
	qsort(us, num, sizeof(us[0]), compare);
	return us[num / 2];
}

static void measure(const struct kind *kind)
{
	static double create[MAX_SAMPLES], destroy[MAX_SAMPLES];
	double start = now_us();
	unsigned int num = 0;
	void *obj[BATCH];

	while (num < MAX_SAMPLES && (num < MIN_SAMPLES || now_us() - start < limit_us)) {
		double t0 = now_us(), t1;

		for (unsigned int i = 0; i < kind->batch; i++) {
			obj[i] = kind->create();
			if (!obj[i])
				fatal(kind->create_name);
		}
		t1 = now_us();
		for (unsigned int i = 0; i < kind->batch; i++)
			if (kind->destroy(obj[i]))
				fatal(kind->destroy_name);
		create[num] = (t1 - t0) / kind->batch;
		destroy[num++] = (now_us() - t1) / kind->batch;
	}
	printf("%s %s %.3f\n", dev->name, kind->create_name, median(create, num));
	printf("%s %s %.3f\n", dev->name, kind->destroy_name, median(destroy, num));
	fflush(stdout);
}

static void *create_cq(void)
{
	return ibv_create_cq(dev->ctx, 128, NULL, NULL, 0);
}

static int destroy_cq(void *cq)
{
	return ibv_destroy_cq(cq);
}

static void *create_qp(void)
{
	struct ibv_qp_init_attr attr = {
		.send_cq = dev->cq, .recv_cq = dev->cq, .qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 128, .max_recv_wr = 128,
			 .max_send_sge = 1, .max_recv_sge = 1 },
	};

	return ibv_create_qp(dev->pd, &attr);
}

static int destroy_qp(void *qp)
{
	return ibv_destroy_qp(qp);
}

static void *reg_mr(void)
{
	return ibv_reg_mr(dev->pd, region, region_size, ACCESS);
}

static int dereg_mr(void *mr)
{
	return ibv_dereg_mr(mr);
}

static void measure_regions(size_t largest)
{
	static const size_t sizes[] = { 4UL << 10, 64UL << 10, 1UL << 20, 16UL << 20, 256UL << 20,
					1UL << 30 };

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && sizes[i] <= largest; i++) {
		char reg[32], dereg[32];
		struct kind kind = { reg, dereg, reg_mr, dereg_mr, sizes[i] > 1UL << 20 ? 1 : BATCH };

		region_size = sizes[i];
		snprintf(reg, sizeof(reg), "reg_mr.%zu", region_size);
		snprintf(dereg, sizeof(dereg), "dereg_mr.%zu", region_size);
		for (dev = devices; dev < devices + num_devices; dev++)
			measure(&kind);
	}
}

static void measure_objects(void)
{
	static const struct kind kinds[] = {
		{ "create_cq", "destroy_cq", create_cq, destroy_cq, BATCH },
		{ "create_qp", "destroy_qp", create_qp, destroy_qp, BATCH },
	};

	for (unsigned int i = 0; i < 2; i++)
		for (dev = devices; dev < devices + num_devices; dev++)
			measure(&kinds[i]);
}

static void open_device(struct device *d)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	for (int i = 0; list && list[i] && !d->ctx; i++)
		if (!strcmp(ibv_get_device_name(list[i]), d->name))
			d->ctx = ibv_open_device(list[i]);
	if (!d->ctx) {
		fprintf(stderr, "vrdma-control: cannot open %s\n", d->name);
		exit(2);
	}
	ibv_free_device_list(list);
	d->pd = ibv_alloc_pd(d->ctx);
	if (!d->pd)
		fatal("ibv_alloc_pd");
	d->cq = ibv_create_cq(d->ctx, 256, NULL, NULL, 0);
	if (!d->cq)
		fatal("ibv_create_cq");
}

static void close_device(struct device *d)
{
	ibv_destroy_cq(d->cq);
	ibv_dealloc_pd(d->pd);
	ibv_close_device(d->ctx);
}

static int usage(void)
{
	fprintf(stderr, "usage: vrdma-control -d DEVICE [-d DEVICE] [-n ROUNDS] [-t MILLISECONDS] [-m BYTES] [-H]\n");
	return 2;
}

int main(int argc, char **argv)
{
	size_t largest = 1UL << 30;
	int opt, huge = 0, rounds = 1;

	while ((opt = getopt(argc, argv, "d:n:t:m:H")) != -1) {
		switch (opt) {
		case 'd':
			if (num_devices == MAX_DEVICES)
				return usage();
			devices[num_devices++].name = optarg;
			break;
		case 'n': rounds = atoi(optarg); break;
		case 't': limit_us = atof(optarg) * 1e3; break;
		case 'm': largest = strtoull(optarg, NULL, 0); break;
		case 'H': huge = 1; break;
		default:
			return usage();
		}
	}
	if (!num_devices)
		return usage();
	for (unsigned int i = 0; i < num_devices; i++)
		open_device(&devices[i]);
	region = mmap(NULL, largest, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB : 0), -1, 0);
	if (region == MAP_FAILED)
		fatal("mmap");
	memset(region, 1, largest);
	for (int i = 0; i < rounds; i++) {
		if (!huge)
			measure_objects();
		measure_regions(largest);
	}
	munmap(region, largest);
	for (unsigned int i = 0; i < num_devices; i++)
		close_device(&devices[i]);
	return 0;
}
