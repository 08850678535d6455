#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzzers in the test suite: all seeds and all inputs that crashed in the past, then a
short run of each harness from there."""

import os
import shutil
import sys

import run

SECONDS = 15                        # of each harness


def main():
    results = []

    def ok(good, text, outcome=None, log=None):
        results.append(good)
        print(f"{'ok' if good else 'not ok'} {len(results)} - {text}", flush=True)
        if not good:
            print("# " + outcome.summary())
            print(f"# output: {os.path.relpath(log, run.TOP)}, input: {outcome.artifact or 'see there'}")

    print(f"1..{2 * len(run.HARNESSES)}", flush=True)
    os.makedirs(run.CRASHES, exist_ok=True)
    for harness in run.HARNESSES:
        files = run.inputs(harness)
        log = os.path.join(run.OUT, f"{harness}-inputs.log")
        outcome = run.Outcome(log, run.libfuzzer(harness, files, log))
        ok(outcome.status == 0, f"{harness}: {len(files)} seeds and regressions", outcome, log)
        log = os.path.join(run.OUT, f"{harness}-short.log")
        # Without the corpus of make fuzz: running it takes longer than this test.
        corpus = os.path.join(run.OUT, "short", harness)
        shutil.rmtree(corpus, ignore_errors=True)
        outcome = run.fuzz(harness, SECONDS, log, corpus)
        ok(outcome.status == 0 and outcome.execs > 0,
           f"{harness}: {SECONDS} s of new inputs", outcome, log)
        print(f"# {outcome.execs} inputs, {outcome.coverage} places reached")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
