#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of the device core and its transports that tests reach.

    tests/coverage.py [--min PERCENT] [--corpus] [--missing]

Builds everything with gcc's --coverage, runs the unit tests and the fuzzers' seeds and
regressions (with --corpus, also the inputs in build/fuzz/corpus that the fuzzers have found),
and prints a table.  With --missing, also prints the lines of each file that no test reached.
"""

import argparse
import json
import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, "build")
TESTS = os.path.join(BUILD, "tests", "cov")
OBJECTS = os.path.join(BUILD, "libvrd-cov")
LOGS = os.path.join(BUILD, "log")
FOLDERS = ("qemu-device/core", "qemu-device/transports")
TIMEOUT = 900

sys.path.insert(0, os.path.join(TOP, "tests", "fuzz"))
import run as fuzz      # noqa: E402


def build():
    for folder in ("tests/unit", "tests/fuzz"):
        argv = ["make", "-s", "--no-print-directory", "-j2", "-C", os.path.join(TOP, folder), "cov"]
        status = subprocess.call(argv)
        if status:
            sys.exit(f"coverage: {' '.join(argv)} ended with status {status}")


def find(folder, suffix):
    for path, _, files in os.walk(folder):
        for f in files:
            if f.endswith(suffix):
                yield os.path.join(path, f)


def run_program(name, argv):
    log = os.path.join(LOGS, f"coverage-{name}.log")
    with open(log, "w", encoding="utf-8") as f:
        try:
            status = subprocess.call(argv, stdout=f, stderr=subprocess.STDOUT, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            status = f"none within {TIMEOUT} s"
    if status:
        print(f"  note: {name} ended with status {status}: {os.path.relpath(log, TOP)}", flush=True)


def run_all(corpus):
    os.makedirs(LOGS, exist_ok=True)
    for path in find(OBJECTS, ".gcda"):
        os.unlink(path)
    names = sorted(f for f in os.listdir(TESTS) if os.path.isfile(os.path.join(TESTS, f))
                   and os.access(os.path.join(TESTS, f), os.X_OK))
    for name in names:
        argv = [os.path.join(TESTS, name)]
        if name.startswith("fuzz_"):
            argv += fuzz.inputs(name)
            learnt = os.path.join(fuzz.OUT, "corpus", name)
            if corpus and os.path.isdir(learnt):
                argv.append(learnt)
        run_program(name, argv)


def collect():
    """{source: {line: count}}; counts of a header are the sums over the files that include it."""
    files = {}
    for gcda in find(OBJECTS, ".gcda"):
        out = subprocess.run(["gcov", "--json-format", "--stdout", gcda], cwd=OBJECTS, check=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        for text in out.splitlines():
            for f in json.loads(text)["files"]:
                name = os.path.relpath(os.path.join(OBJECTS, f["file"]), TOP)
                if not name.startswith(FOLDERS):
                    continue
                lines = files.setdefault(name, {})
                for line in f["lines"]:
                    n = line["line_number"]
                    lines[n] = lines.get(n, 0) + line["count"]
    return files


def ranges(numbers):
    out = []
    for n in sorted(numbers):
        if out and n == out[-1][1] + 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return " ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in out)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--min", type=float, default=85.0)
    parser.add_argument("--corpus", action="store_true")
    parser.add_argument("--missing", action="store_true")
    args = parser.parse_args()

    build()
    run_all(args.corpus)
    files = collect()
    if not files:
        sys.exit("coverage: nothing was measured")

    # A source that no program runs counts as well, with the lines that gcov finds in it.
    print(f"\n{'file':44} {'lines':>6} {'reached':>8} {'':>7}")
    sums = {}
    for name in sorted(files):
        lines = files[name]
        reached = sum(1 for c in lines.values() if c)
        total = sums.setdefault(os.path.dirname(name), [0, 0])
        total[0] += len(lines)
        total[1] += reached
        print(f"{name:44} {len(lines):6} {reached:8} {100 * reached / len(lines):6.1f} %")
        if args.missing and reached < len(lines):
            print("      not: " + ranges(n for n, c in lines.items() if not c))
    everything = [sum(t[i] for t in sums.values()) for i in (0, 1)]
    sums["total"] = everything
    print()
    for name, (lines, reached) in sums.items():
        print(f"{name:44} {lines:6} {reached:8} {100 * reached / lines:6.1f} %")
    percent = 100 * everything[1] / everything[0]
    good = percent >= args.min
    print(f"\n{'SUCCESS' if good else 'FAILURE'}: {percent:.1f} % of the lines, "
          f"{args.min:g} % are asked for")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
