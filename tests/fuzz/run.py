#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the fuzzers for some time, and reports what they found.

    tests/fuzz/run.py --minutes N [HARNESS...]     make fuzz MINUTES=N

The harnesses share the time, in rounds, so that all have run if this ends early. New inputs
stay in build/fuzz/corpus/HARNESS for the next run.  An input that crashes or hangs is kept in
build/fuzz/crashes/, together with the output, and the harness continues with the rest of its
round.
"""

import argparse
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(TOP, "build", "fuzz")
CRASHES = os.path.join(OUT, "crashes")
HARNESSES = ["fuzz_commands", "fuzz_wqe", "fuzz_virtq", "fuzz_vhost_user", "fuzz_mad"]
# One input takes milliseconds; the machine may be busy.
INPUT_TIMEOUT = 60
MAX_LEN = 1500
ROUND = 300                         # seconds
MAX_CRASHES = 5                     # of one harness in one round


def regressions(harness):
    """Inputs that crashed the harness in the past: regressions/HARNESS-what-it-found."""
    folder = os.path.join(HERE, "regressions")
    return sorted(os.path.join(folder, f) for f in os.listdir(folder)
                  if f.startswith(harness + "-"))


def inputs(harness):
    """All inputs that a run starts with: seeds and regressions."""
    seeds = os.path.join(OUT, "seeds", harness)
    return sorted(os.path.join(seeds, f) for f in os.listdir(seeds)) + regressions(harness)


def libfuzzer(harness, args, log, **kwargs):
    env = dict(os.environ, UBSAN_OPTIONS="print_stacktrace=1")
    with open(log, "w", encoding="utf-8") as f:
        return subprocess.call(["nice", "-n", "10", os.path.join(OUT, harness),
                                f"-timeout={INPUT_TIMEOUT}", f"-artifact_prefix={CRASHES}/{harness}-"]
                               + args, stdout=f, stderr=subprocess.STDOUT, env=env, **kwargs)


class Outcome:
    """Figures that a harness prints at the end of a run."""

    def __init__(self, log, status):
        with open(log, encoding="utf-8", errors="replace") as f:
            self.text = f.read()
        self.status = status

        def number(pattern):
            found = re.findall(pattern, self.text)
            return int(found[-1]) if found else 0

        self.execs = number(r"stat::number_of_executed_units: (\d+)")
        self.per_second = number(r"stat::average_exec_per_sec:\s+(\d+)")
        self.coverage = number(r"\bcov: (\d+)")
        found = re.findall(r"Test unit written to (\S+)", self.text)
        self.artifact = found[-1] if found else None

    def summary(self):
        for pattern in (r"^fuzz: .*$", r"^.*runtime error: .*$", r"^SUMMARY: .*$", r"^Bail out!.*$"):
            found = re.search(pattern, self.text, re.M)
            if found:
                return found.group(0).strip()
        return f"ended with status {self.status}"


def fuzz(harness, seconds, log, corpus):
    """Starts from @corpus and the seeds, and writes new inputs to @corpus."""
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(CRASHES, exist_ok=True)
    status = libfuzzer(harness, [f"-max_total_time={seconds}", "-print_final_stats=1",
                                 f"-max_len={MAX_LEN}", "-len_control=20", corpus,
                                 os.path.join(OUT, "seeds", harness)], log)
    return Outcome(log, status)


def report(harness, outcome, log):
    print(f"  FOUND {harness}: {outcome.summary()}")
    if not outcome.artifact:
        print(f"        no input was kept; output: {os.path.relpath(log, TOP)}")
        return
    kept = outcome.artifact + ".log"
    os.replace(log, kept)
    where = os.path.relpath(outcome.artifact, TOP)
    print(f"        output:    {os.path.relpath(kept, TOP)}")
    print(f"        again:     build/fuzz/{harness} -timeout={INPUT_TIMEOUT} {where}")
    print(f"        smaller:   build/fuzz/{harness} -minimize_crash=1 -max_total_time=60 {where}")
    print(f"        then keep: tests/fuzz/regressions/{harness}-WHAT, and add a unit test")


class Totals:
    def __init__(self):
        self.execs = self.coverage = self.crashes = 0
        self.seconds = 0.0


def one_round(harness, share, totals):
    log = os.path.join(OUT, f"{harness}.log")
    left = share
    for _ in range(MAX_CRASHES):
        start = time.monotonic()
        outcome = fuzz(harness, left, log, os.path.join(OUT, "corpus", harness))
        took = time.monotonic() - start
        left -= int(took)
        totals.execs += outcome.execs
        totals.seconds += took
        totals.coverage = max(totals.coverage, outcome.coverage)
        if outcome.status:
            totals.crashes += 1
            report(harness, outcome, log)
        else:
            print(f"  {harness}: {outcome.execs} inputs in {took:.0f} s, "
                  f"{outcome.coverage} places reached", flush=True)
        if not outcome.status or left < 5:
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="for all harnesses together")
    parser.add_argument("harness", nargs="*", help="default: all of them")
    args = parser.parse_args()
    harnesses = args.harness or HARNESSES
    for h in harnesses:
        if h not in HARNESSES:
            sys.exit(f"there is no harness '{h}'; choose from: {' '.join(HARNESSES)}")

    left = max(int(args.minutes * 60), len(harnesses))
    totals = {h: Totals() for h in harnesses}
    print(f"fuzzing for {args.minutes:g} minutes: {', '.join(harnesses)}", flush=True)
    try:
        while left >= len(harnesses):
            share = max(min(ROUND, left // len(harnesses)), 1)
            for h in harnesses:
                one_round(h, share, totals[h])
            left -= share * len(harnesses)
    except KeyboardInterrupt:
        print("interrupted")

    print(f"\n{'harness':18} {'inputs':>10} {'seconds':>8} {'inputs/s':>9} {'places':>7} {'crashes':>8}")
    for h in harnesses:
        t = totals[h]
        print(f"{h:18} {t.execs:10d} {t.seconds:8.0f} {t.execs / t.seconds if t.seconds else 0:9.0f} "
              f"{t.coverage:7d} {t.crashes:8d}")
    found = sum(t.crashes for t in totals.values())
    if found:
        print(f"\nFAILURE: {found} crashes; the inputs are in {os.path.relpath(CRASHES, TOP)}/")
        return 1
    print("\nSUCCESS: no crash, no hang, no leak")
    return 0


if __name__ == "__main__":
    sys.exit(main())
