// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: the host has no memory when a long message needs some.  The message
 * waits, and is executed when memory is available.
 *
 * The linker wraps the calls (--wrap, see the Makefile); only those of pollers fail.
 */
#include <errno.h>
#include <stdlib.h>

#include "mem_pair.h"
#include "poller.h"
#include "tap.h"

static _Atomic int failures;		/* number of poller calls that fail from now on */

static bool fails(void)
{
	if (!vrd_poller_current() || __atomic_load_n(&failures, __ATOMIC_RELAXED) <= 0)
		return false;
	__atomic_sub_fetch(&failures, 1, __ATOMIC_RELAXED);
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;

static void test(uint8_t opcode, int times, const char *what)
{
	struct mem_wr w = mem_wr(a, b, opcode, MEM_BUF);
	bool right;

	mem_pair_fresh(&pair);
	__atomic_store_n(&failures, times, __ATOMIC_RELAXED);
	if (opcode != VIRTIO_RDMA_WR_RDMA_WRITE)
		mem_recv(b, 0, MEM_BUF);
	mem_post(a, &w);
	right = mem_status(&a->scq) == 0 && mem_has_pattern(b->buf, MEM_BUF, MEM_SEED_A);
	if (opcode != VIRTIO_RDMA_WR_RDMA_WRITE)
		right &= mem_status(&b->rcq) == 0;
	ok(right && __atomic_load_n(&failures, __ATOMIC_RELAXED) == 0,
	   "%s, after %d allocations that failed", what, times);
	mem_pair_drop_qps(&pair);
}

int main(void)
{
	mem_pair_open(&pair, 2, 0);
	for (int times = 1; times < 5; times++) {
		test(VIRTIO_RDMA_WR_RDMA_WRITE, times, "a long WRITE");
		test(VIRTIO_RDMA_WR_SEND, times, "a long SEND");
		test(VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM, times, "a long WRITE_WITH_IMM");
	}
	mem_pair_close(&pair);
	return tap_done();
}
