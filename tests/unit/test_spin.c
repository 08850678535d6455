// SPDX-License-Identifier: GPL-2.0-or-later
/* The spin budget (core/spin.c), with a clock that the test sets. */
#include "spin.h"
#include "tap.h"

#define US	1000ULL
#define MS	1000000ULL
#define POLL	(50 * US)

static struct vrd_spin spin;
static uint64_t now, cpu, switches;

static void begin(uint64_t poll_ns, bool fixed)
{
	now = 1000 * MS;
	cpu = switches = 0;
	vrd_spin_init(&spin, poll_ns, fixed, now);
}

/* Idle turns of a microsecond each until the poller is to sleep; returns their number. */
static unsigned int spin_until_sleep(unsigned int *yields)
{
	unsigned int turns = 0;

	*yields = 0;
	for (;;) {
		switch (vrd_spin_idle(&spin, now)) {
		case VRD_SPIN_SLEEP:
			return turns;
		case VRD_SPIN_YIELD:
			(*yields)++;
			break;
		case VRD_SPIN_ON:
			break;
		}
		now += US;
		turns++;
	}
}

static void test_budget(void)
{
	unsigned int yields;

	begin(POLL, false);
	is(spin_until_sleep(&yields), 50, "it spins for its budget");
	is(yields, 12, "and yields every four microseconds");
	vrd_spin_slept(&spin, 10 * MS, now);
	now += 10 * MS;
	is(spin_until_sleep(&yields), 50, "after each sleep the same");

	begin(0, false);
	is(spin_until_sleep(&yields), 0, "without a budget it does not spin");

	begin(POLL, true);
	is(spin_until_sleep(&yields), 50, "on a CPU of its own it spins as well");
	is(yields, 0, "and does not yield");

	begin(POLL, false);
	vrd_spin_idle(&spin, now);
	now += 40 * US;
	vrd_spin_worked(&spin, true);
	is(spin_until_sleep(&yields), 50, "work begins a new budget");
}

/* A sample, in which the kernel let others run for @lost of the time since the last one. */
static void sample_after(uint64_t ns, uint64_t lost)
{
	now += ns;
	cpu += ns - lost;
	switches += lost != 0;
	vrd_spin_sample(&spin, now, cpu, switches);
}

static void test_preempted(void)
{
	unsigned int yields;
	uint64_t penalty;

	begin(POLL, false);
	sample_after(MS, 400 * US);
	is(spin_until_sleep(&yields), 50, "short preemptions are nothing");
	sample_after(3 * MS, 2 * MS);
	is(spin_until_sleep(&yields), 0, "after a long one it does not spin");
	sample_after(9 * MS, 0);
	is(spin_until_sleep(&yields), 0, "for a while");
	sample_after(2 * MS, 0);
	is(spin_until_sleep(&yields), 50, "and then does again");

	for (penalty = 20; penalty <= 640; penalty *= 2) {
		sample_after(3 * MS, 2 * MS);
		if (spin.budget_ns || spin.penalty_until - now != penalty * MS)
			break;
		sample_after(spin.penalty_until - now, 0);
		if (!spin.budget_ns)
			break;
	}
	ok(penalty > 640, "if it is no better, the time doubles, up to 640 ms");
	sample_after(3 * MS, 2 * MS);
	is(spin.penalty_until - now, 640 * MS, "and no further");
	sample_after(2000 * MS, 0);
	sample_after(3 * MS, 2 * MS);
	is(spin.penalty_until - now, 10 * MS, "after a good second it is the shortest again");

	begin(POLL, false);
	vrd_spin_slept(&spin, 3 * MS, now);
	sample_after(3 * MS, 3 * MS);
	is(spin.budget_ns, POLL, "time asleep is not taken for a preemption");

	begin(POLL, true);
	sample_after(3 * MS, 2 * MS);
	is(spin.budget_ns, POLL, "a CPU of its own: it spins whatever happens");
}

static void test_futile(void)
{
	unsigned int i;

	begin(POLL, false);
	for (i = 0; i < VRD_SPIN_FUTILE - 1; i++)
		vrd_spin_slept(&spin, 20 * US, now);
	is(spin.budget_ns, POLL, "seven times work came right after the sleep began: it spins");
	vrd_spin_slept(&spin, 20 * US, now);
	is(spin.budget_ns, 0, "the eighth time it does not any more");

	begin(POLL, false);
	for (i = 0; i < 2 * VRD_SPIN_FUTILE; i++)
		vrd_spin_worked(&spin, true);
	for (i = 0; i < VRD_SPIN_FUTILE; i++)
		vrd_spin_slept(&spin, 20 * US, now);
	is(spin.budget_ns, POLL, "unless spinning had a result more often");

	begin(POLL, false);
	for (i = 0; i < 100; i++)
		vrd_spin_slept(&spin, 60 * US, now);
	is(spin.budget_ns, POLL, "long sleeps are what they are for");
}

int main(void)
{
	test_budget();
	test_preempted();
	test_futile();
	return tap_done();
}
