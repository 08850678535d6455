// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vrdma-mpi: an MPI program that checks what it receives.  test_uml_ucx.py compiles it
 * for Open MPI and for MPICH, and starts it on two guests with mpirun.
 *
 * Every rank runs all checks.  Rank 0 prints one line for each check and the MPI
 * library's version; a wrong byte ends all ranks with MPI_Abort().
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int rank, size;

static void die(const char *what, long at)
{
	fprintf(stderr, "vrdma-mpi: rank %d: wrong data in %s at %ld\n", rank, what, at);
	fflush(stderr);
	MPI_Abort(MPI_COMM_WORLD, 1);
	exit(1);
}

/* Byte @i of what @from sends to @to in @round. */
static uint8_t pattern(int from, int to, int round, long i)
{
	uint32_t x = (uint32_t)i * 2654435761U + from * 40503U + to * 977U + round * 31U;

	return x >> 13;
}

static void fill(uint8_t *buf, long length, int from, int to, int round)
{
	for (long i = 0; i < length; i++)
		buf[i] = pattern(from, to, round, i);
}

static void check(const char *what, const uint8_t *buf, long length, int from, int to, int round)
{
	for (long i = 0; i < length; i++)
		if (buf[i] != pattern(from, to, round, i))
			die(what, i);
}

static void *need(size_t length)
{
	void *p = malloc(length ? length : 1);

	if (!p)
		die("malloc", (long)length);
	return p;
}

/* Around the ring: eager and rendezvous messages, expected and unexpected ones. */
static void test_messages(void)
{
	static const int lengths[] = { 0, 1, 8, 100, 1000, 4096, 10000, 65536, 1 << 20, 5000001 };
	int to = (rank + 1) % size, from = (rank + size - 1) % size;

	for (unsigned int k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
		uint8_t *out = need(lengths[k]), *in = need(lengths[k]);
		MPI_Request request;
		MPI_Status status;
		int count;

		fill(out, lengths[k], rank, to, k);
		memset(in, 0, lengths[k]);
		MPI_Isend(out, lengths[k], MPI_BYTE, to, k, MPI_COMM_WORLD, &request);
		if (k % 2)
			MPI_Probe(from, k, MPI_COMM_WORLD, &status);
		MPI_Recv(in, lengths[k], MPI_BYTE, MPI_ANY_SOURCE, k, MPI_COMM_WORLD, &status);
		MPI_Get_count(&status, MPI_BYTE, &count);
		if (count != lengths[k] || status.MPI_SOURCE != from)
			die("the status of a message", count);
		check("a message", in, lengths[k], from, rank, k);
		MPI_Wait(&request, MPI_STATUS_IGNORE);
		free(out);
		free(in);
	}
}

/* Messages of one pair stay in order. */
static void test_order(void)
{
	int to = (rank + 1) % size, from = (rank + size - 1) % size;
	MPI_Request request[200];
	int out[100], in[100];

	for (int i = 0; i < 100; i++) {
		out[i] = rank * 1000 + i;
		MPI_Irecv(&in[i], 1, MPI_INT, from, 7, MPI_COMM_WORLD, &request[i]);
	}
	for (int i = 0; i < 100; i++)
		MPI_Isend(&out[i], 1, MPI_INT, to, 7, MPI_COMM_WORLD, &request[100 + i]);
	MPI_Waitall(200, request, MPI_STATUSES_IGNORE);
	for (int i = 0; i < 100; i++)
		if (in[i] != from * 1000 + i)
			die("the order of messages", i);
}

static void test_alltoall(void)
{
	static const int lengths[] = { 1, 64, 3000, 100000 };

	for (unsigned int k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
		int n = lengths[k];
		uint8_t *out = need((size_t)n * size), *in = need((size_t)n * size);

		for (int r = 0; r < size; r++)
			fill(out + (size_t)r * n, n, rank, r, k);
		memset(in, 0, (size_t)n * size);
		MPI_Alltoall(out, n, MPI_BYTE, in, n, MPI_BYTE, MPI_COMM_WORLD);
		for (int r = 0; r < size; r++)
			check("alltoall", in + (size_t)r * n, n, r, rank, k);
		free(out);
		free(in);
	}
}

static void test_allreduce(void)
{
	static const int counts[] = { 1, 100, 50000 };

	for (unsigned int k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
		int64_t *out = need(counts[k] * sizeof(*out)), *in = need(counts[k] * sizeof(*in));

		for (int i = 0; i < counts[k]; i++)
			out[i] = (int64_t)i * i + 1000 * rank;
		MPI_Allreduce(out, in, counts[k], MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
		for (int i = 0; i < counts[k]; i++)
			if (in[i] != (int64_t)i * i * size + 500LL * size * (size - 1))
				die("allreduce, sum", i);
		MPI_Allreduce(out, in, counts[k], MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
		for (int i = 0; i < counts[k]; i++)
			if (in[i] != (int64_t)i * i + 1000 * (size - 1))
				die("allreduce, max", i);
		free(out);
		free(in);
	}
}

#define SLOT	20000		/* bytes that each rank puts into each other's window */

/* Put and get between fences. */
static void test_put_get(void)
{
	int to = (rank + 1) % size, from = (rank + size - 1) % size;
	uint8_t *base, *buf = need(SLOT);
	MPI_Win win;

	MPI_Win_allocate((MPI_Aint)SLOT * size, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
	memset(base, 0, (size_t)SLOT * size);
	MPI_Win_fence(0, win);
	fill(buf, SLOT, rank, to, 50);
	MPI_Put(buf, SLOT, MPI_BYTE, to, (MPI_Aint)SLOT * rank, SLOT, MPI_BYTE, win);
	MPI_Win_fence(0, win);
	check("a put", base + (size_t)SLOT * from, SLOT, from, rank, 50);
	memset(buf, 0, SLOT);
	MPI_Win_fence(0, win);
	MPI_Get(buf, SLOT, MPI_BYTE, to, (MPI_Aint)SLOT * rank, SLOT, MPI_BYTE, win);
	MPI_Win_fence(0, win);
	check("a get", buf, SLOT, rank, to, 50);
	MPI_Win_free(&win);
	free(buf);
}

/* Atomics of all ranks on rank 0's window, without its help. */
static void test_atomics(void)
{
	int64_t *base, old, one = 1, zero = 0, mine = rank + 1;
	const int rounds = 50;
	MPI_Win win;

	MPI_Win_allocate(3 * sizeof(*base), sizeof(*base), MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
	memset(base, 0, 3 * sizeof(*base));
	MPI_Barrier(MPI_COMM_WORLD);
	MPI_Win_lock_all(0, win);
	for (int i = 0; i < rounds; i++) {
		MPI_Fetch_and_op(&one, &old, MPI_INT64_T, 0, 0, MPI_SUM, win);
		MPI_Win_flush(0, win);
		if (old < i || old >= (int64_t)rounds * size)
			die("fetch-and-op", i);
		MPI_Accumulate(&mine, 1, MPI_INT64_T, 0, 1, 1, MPI_INT64_T, MPI_SUM, win);
	}
	MPI_Compare_and_swap(&mine, &zero, &old, MPI_INT64_T, 0, 2, win);
	MPI_Win_flush(0, win);
	/* Who found zero has won; all others see the winner's number. */
	int won = old == 0, winners;

	if (!won && (old < 1 || old > size))
		die("compare-and-swap", old);
	MPI_Win_unlock_all(win);
	MPI_Allreduce(&won, &winners, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	if (winners != 1)
		die("compare-and-swap: number of winners", winners);
	MPI_Barrier(MPI_COMM_WORLD);
	if (rank == 0) {
		MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
		if (base[0] != (int64_t)rounds * size)
			die("the sum of fetch-and-op", (long)base[0]);
		if (base[1] != (int64_t)rounds * size * (size + 1) / 2)
			die("the sum of accumulate", (long)base[1]);
		MPI_Win_unlock(0, win);
	}
	MPI_Win_free(&win);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "messages", test_messages },
	{ "order", test_order },
	{ "alltoall", test_alltoall },
	{ "allreduce", test_allreduce },
	{ "put and get", test_put_get },
	{ "atomics", test_atomics },
};

int main(int argc, char **argv)
{
	char version[MPI_MAX_LIBRARY_VERSION_STRING];
	int length;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	if (rank == 0) {
		MPI_Get_library_version(version, &length);
		printf("vrdma-mpi: %d ranks, %.30s\n", size, version);
		fflush(stdout);
	}
	for (unsigned int i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		tests[i].run();
		MPI_Barrier(MPI_COMM_WORLD);
		if (rank == 0) {
			printf("vrdma-mpi: %s: right\n", tests[i].name);
			fflush(stdout);
		}
	}
	if (rank == 0)
		printf("vrdma-mpi: all right\n");
	MPI_Finalize();
	return 0;
}
