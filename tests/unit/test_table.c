// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Number tables: generations, exhaustion, numbers of the host.
 */
#include <errno.h>
#include <stdlib.h>

#include "tap.h"
#include "table.h"

struct obj {
	uint32_t number;
};

static void own_numbers(void)
{
	struct vrd_table t;
	struct obj *o = calloc(5000, sizeof(*o));
	uint32_t i, number, pos, seen = 0;
	bool good = true;

	is(vrd_table_init(&t, 5000, 2, 0), 0, "a table of 5000");
	ok(!vrd_table_find(&t, 0) && !vrd_table_find(&t, UINT32_MAX), "finds nothing");
	for (i = 0; i < 5000; i++) {
		good = good && !vrd_table_reserve(&t, &o[i].number) && o[i].number >= 2;
		good = good && !vrd_table_find(&t, o[i].number);
		vrd_table_publish(&t, o[i].number, &o[i]);
		good = good && vrd_table_find(&t, o[i].number) == &o[i];
	}
	ok(good, "5000 objects");
	is(vrd_table_reserve(&t, &number), -ENOMEM, "no more");
	for (pos = 0; vrd_table_next(&t, &pos);)
		seen++;
	is(seen, 5000, "all are walked over");
	for (i = 0; i < 5000; i++) {
		vrd_table_unpublish(&t, o[i].number);
		good = good && !vrd_table_find(&t, o[i].number);
		vrd_table_release(&t, o[i].number);
	}
	ok(good && !t.count, "all are gone");
	for (i = 0; i < 100000; i++) {
		struct obj n;

		good = good && !vrd_table_reserve(&t, &n.number);
		good = good && n.number <= VRD_TABLE_MASK;
		vrd_table_publish(&t, n.number, &n);
		good = good && vrd_table_find(&t, n.number) == &n &&
		       (o[i % 5000].number == n.number || !vrd_table_find(&t, o[i % 5000].number));
		vrd_table_unpublish(&t, n.number);
		vrd_table_release(&t, n.number);
	}
	ok(good, "100000 more, one after the other");
	is(vrd_table_claim(&t, 1), 0, "the special number");
	ok(!vrd_table_find(&t, 1), "finds nothing yet");
	is(vrd_table_claim(&t, 1), -EEXIST, "not twice");
	is(vrd_table_claim(&t, 2), -ERANGE, "no number that the table hands out");
	o[0].number = 1;
	vrd_table_publish(&t, 1, &o[0]);
	ok(vrd_table_find(&t, 1) == &o[0], "is found");
	vrd_table_unpublish(&t, 1);
	is(vrd_table_claim(&t, 1), -EEXIST, "taken until it is released");
	vrd_table_release(&t, 1);
	is(vrd_table_claim(&t, 1), 0, "and then free");
	vrd_table_destroy(&t);
	free(o);
}

static void host_numbers(void)
{
	struct obj a = { 0x123456 }, b = { 0xffffff };
	struct vrd_table t;
	uint32_t number;

	is(vrd_table_init(&t, 2, 0, VRD_TABLE_FOREIGN), 0, "a table of the host's numbers");
	is(vrd_table_reserve(&t, &number), -ENOMEM, "has none of its own");
	is(vrd_table_claim(&t, a.number), 0, "any");
	is(vrd_table_claim(&t, b.number), 0, "the last");
	is(vrd_table_claim(&t, 5), -ENOMEM, "two at most");
	is(vrd_table_claim(&t, 1U << 24), -ERANGE, "24 bits");
	vrd_table_publish(&t, a.number, &a);
	vrd_table_publish(&t, b.number, &b);
	ok(vrd_table_find(&t, a.number) == &a && vrd_table_find(&t, b.number) == &b, "are found");
	ok(!vrd_table_find(&t, a.number + 1), "their neighbours are not");
	vrd_table_unpublish(&t, a.number);
	vrd_table_release(&t, a.number);
	is(vrd_table_claim(&t, a.number), 0, "used again at once");
	vrd_table_destroy(&t);
}

static void random_numbers(void)
{
	static struct obj o[1000];
	unsigned int i, attempts = 0;
	struct vrd_table t;
	uint32_t pos, seen = 0;
	bool good = true;
	int ret;

	is(vrd_table_init(&t, 1000, 0, VRD_TABLE_RANDOM), 0, "a table of 1000 random numbers");
	for (i = 0; i < 1000; i++) {
		do {
			o[i].number = (uint32_t)random() & VRD_TABLE_MASK;
			ret = vrd_table_claim(&t, o[i].number);
			attempts++;
		} while (ret == -EEXIST);
		good = good && !ret;
		vrd_table_publish(&t, o[i].number, &o[i]);
	}
	for (i = 0; i < 1000; i++)
		good = good && vrd_table_find(&t, o[i].number) == &o[i] &&
		       !vrd_table_find(&t, o[i].number ^ (1U << 23));
	ok(good, "are found, and no other with the same slot");
	ok(attempts < 2000, "with less than two attempts each: %u", attempts);
	is(vrd_table_claim(&t, o[0].number ^ (1U << 23)), -ENOMEM, "no more than 1000");
	vrd_table_unpublish(&t, o[1].number);
	vrd_table_release(&t, o[1].number);
	is(vrd_table_claim(&t, o[0].number ^ (1U << 23)), -EEXIST, "a slot is used once");
	for (pos = 0; vrd_table_next(&t, &pos);)
		seen++;
	is(seen, 999, "all are walked over");
	vrd_table_destroy(&t);
}

int main(void)
{
	struct vrd_table t = { 0 };

	own_numbers();
	host_numbers();
	random_numbers();
	is(vrd_table_init(&t, 1U << 24, 1, 0), -ENOMEM, "too many for 24 bits");
	vrd_table_destroy(&t);
	ok(true, "a table of zeroes may be destroyed");
	return tap_done();
}
