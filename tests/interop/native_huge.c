// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest memory in huge pages (native -H): what regions may consist of.  Only whole huge
 * pages can be mapped next to each other.  See native.h.
 */
#include <stdlib.h>

#include "native.h"

#define HUGE_PAGE	((uint64_t)GUEST_HUGE_PAGE)
#define HALF		(HUGE_PAGE / 2)

struct part {
	uint64_t at, length;		/* from the buffer's start, which is the start of a huge
					 * page */
};

static uint8_t *huge_alloc(struct guest *g, unsigned int num, uint8_t **whole)
{
	uint64_t skip;

	*whole = guest_alloc(g, (num + 1) * HUGE_PAGE);
	skip = -(uint64_t)(*whole - g->mem) & (HUGE_PAGE - 1);
	return *whole + skip;
}

static uint32_t reg(uint8_t *mem, const struct part *parts, unsigned int num, struct guest_mr *mr)
{
	struct virtio_rdma_extent x[4] = { 0 };
	uint64_t length = 0;

	for (unsigned int i = 0; i < num; i++) {
		x[i].addr = htole64(guest_addr(p.b.g, mem + parts[i].at));
		x[i].pages = htole32(parts[i].length / GUEST_PAGE);
		length += parts[i].length;
	}
	return guest_mr_reg_extents(p.b.g, p.b.pd, 0x7000000123000, length, MEM_ALL_ACCESS, x, num,
				    mr);
}

/* A WRITE to the whole region; each part of the memory gets its data. */
static bool all_arrives(uint8_t *mem, const struct part *parts, unsigned int num,
			const struct guest_mr *to)
{
	struct guest_sge sge = { .length = 0 };
	struct guest_wr wr = {
		.opcode = W, .flags = SIGNALED, .num_sge = 1, .sge = &sge,
		.remote_addr = to->iova, .rkey = to->rkey,
	};
	struct virtio_rdma_cqe cqe;
	struct guest_mr from;
	uint64_t length = 0, at = 0;
	uint8_t *src;
	bool good;

	for (unsigned int i = 0; i < num; i++)
		length += parts[i].length;
	src = guest_alloc(p.a.g, length);
	mem_pattern(src, length, 9);
	if (guest_mr_reg(p.a.g, p.a.pd, src, length, MEM_ALL_ACCESS, &from))
		guest_fatal("no MR");
	sge = (struct guest_sge){ from.iova, length, from.lkey };
	guest_post_send(&p.a.qp, &wr);
	good = guest_poll_wait(&p.a.scq, &cqe, 60000) && !cqe.status;
	for (unsigned int i = 0; i < num && good; at += parts[i++].length)
		good = !memcmp(mem + parts[i].at, src + at, parts[i].length);
	guest_mr_dereg(&from);
	guest_free(p.a.g, src, length);
	return good;
}

static void taken(const char *what, uint8_t *mem, const struct part *parts, unsigned int num)
{
	struct guest_mr mr;

	is(reg(mem, parts, num, &mr), 0, "%s: REG_MR", what);
	ok(all_arrives(mem, parts, num, &mr), "%s: a WRITE fills it", what);
	is(guest_mr_dereg(&mr), 0, "%s: DEREG_MR", what);
}

static void refused(const char *what, uint8_t *mem, const struct part *parts, unsigned int num)
{
	struct guest_mr mr;

	is(reg(mem, parts, num, &mr), VIRTIO_RDMA_S_UNSUPPORTED, "%s: refused", what);
}

void test_huge(void)
{
	static const struct part inside[] = { { HALF + 4096, 8192 } },
		reversed[] = { { 4 * HUGE_PAGE, HUGE_PAGE }, { 2 * HUGE_PAGE, HUGE_PAGE },
			       { 0, HUGE_PAGE } },
		ends[] = { { 4 * HUGE_PAGE + HALF, HALF }, { 2 * HUGE_PAGE, HUGE_PAGE },
			   { 0, HALF } },
		scattered[] = { { 0, 4096 }, { 8192, 4096 } },
		short_middle[] = { { 4 * HUGE_PAGE, HUGE_PAGE }, { 2 * HUGE_PAGE, HALF },
				   { 0, HUGE_PAGE } },
		late_start[] = { { 4 * HUGE_PAGE, HUGE_PAGE }, { 2 * HUGE_PAGE + HALF, HALF } };
	uint8_t *whole, *mem = huge_alloc(p.b.g, 5, &whole);

	fresh();
	taken("two pages within a huge page", mem, inside, 1);
	taken("three huge pages, last one first", mem, reversed, 3);
	taken("half a huge page, a whole one, half a one", mem, ends, 3);
	refused("two 4 KiB pages that are not neighbours", mem, scattered, 2);
	refused("half a huge page in the middle", mem, short_middle, 3);
	refused("a second piece from the middle of a huge page", mem, late_start, 2);
	taken("and then three huge pages again", mem, reversed, 3);
	drop();
	guest_free(p.b.g, whole, 6 * HUGE_PAGE);
}
