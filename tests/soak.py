#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""make soak MINUTES=20: repeats the unit tests on an overloaded machine.

One run of a test has one interleaving of its threads. Here more tests run at a time than there
are processors, in random order, with either sanitizer. This finds faults that occur once in
fifty runs. The output of each failed run is kept.
"""

import argparse
import concurrent.futures
import os
import random
import re
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(TOP, "build", "logs", "soak")
REPORT = re.compile(r"^not ok|(WARNING|ERROR): \w+Sanitizer|: runtime error: |^# ")
TIMEOUT_S = 900


def programs(names):
    """(flavour, name) of the tests that have been built."""
    found = []
    for flavour in ("asan", "tsan"):
        folder = os.path.join(TOP, "build", "tests", flavour)
        found += [(flavour, f) for f in sorted(os.listdir(folder))
                  if f.startswith("test_") and "." not in f and (not names or f in names)]
    return found


def run(flavour, name, number):
    """Returns None, or the reason of the failure."""
    path = os.path.join(TOP, "build", "tests", flavour, name)
    try:
        done = subprocess.run([path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=TIMEOUT_S, check=False)
        output, end = done.stdout, f"status {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired as late:
        output, end = (late.stdout or b"").decode(errors="replace"), f"not done after {TIMEOUT_S} s"
    if end is None and re.search(r"^not ok", output, re.M):
        end = "a result is not ok"
    if end is None:
        return None
    log = os.path.join(LOGS, f"{name}-{flavour}-{number}.log")
    with open(log, "w", encoding="utf-8") as out:
        out.write(output)
    lines = output.splitlines()
    first = next((i for i, line in enumerate(lines) if REPORT.search(line)), max(0, len(lines) - 15))
    return "\n".join([f"{end}; its output: {os.path.relpath(log, TOP)}"] +
                     ["    " + line for line in lines[first:first + 20]])


def soak(found, minutes, workers):
    """Returns (runs, failures), after the time is over or on an interrupt."""
    end = time.monotonic() + minutes * 60
    runs = failures = number = 0
    told = time.monotonic()
    queue, pending = [], {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            while pending or time.monotonic() < end:
                while len(pending) < workers and time.monotonic() < end:
                    if not queue:
                        queue = random.sample(found, len(found))
                    flavour, name = queue.pop()
                    number += 1
                    pending[pool.submit(run, flavour, name, number)] = f"{name} [{flavour}]"
                done, _ = concurrent.futures.wait(pending, timeout=10,
                                                  return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    name, why = pending.pop(future), future.result()
                    runs += 1
                    if why:
                        failures += 1
                        print(f"  FAIL  {name}: {why}", flush=True)
                if time.monotonic() > told + 60:
                    told = time.monotonic()
                    left = max(0, (end - told) / 60)
                    print(f"  {runs} runs, {failures} failed, {left:.0f} min to go", flush=True)
        except KeyboardInterrupt:
            print("interrupted: waiting for what runs", flush=True)
    return runs, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1),
                        help="tests that run at a time (default: twice the processors)")
    parser.add_argument("names", nargs="*", metavar="test_NAME", help="these only")
    args = parser.parse_args()
    found = programs(args.names)
    if not found:
        sys.exit("no such test; they are built by: make -C tests/unit")
    os.makedirs(LOGS, exist_ok=True)
    print(f"== soak: {len(found)} tests, {args.workers} at a time, for {args.minutes:g} min", flush=True)
    runs, failures = soak(found, args.minutes, args.workers)
    verdict = "FAILURE" if failures or not runs else "SUCCESS"
    print(f"\n{verdict}: {runs - failures} runs passed, {failures} failed")
    return 1 if verdict == "FAILURE" else 0


if __name__ == "__main__":
    sys.exit(main())
