#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the test suite, tier by tier, and ends with a verdict.

    tests/run.py [TIER...]       all tiers of `make check` without arguments
    tests/run.py --full          also the long ones: `make check-full`

A tier is a set-up step and a list of programs that print TAP: "ok", "not ok", "# SKIP why".  A
program that ends with an error although it reported no failure counts as one failure. So does a
program that reported nothing or fewer results than it had planned.  Each tier has a time
budget, which is printed; exceeding it is reported, but is not a failure.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(TOP, "build", "log")


class Tier:
    """One tier: its set-up, its programs, and its usual duration."""

    def __init__(self, name, minutes, about, setup, programs, timeout=900, full=False):
        self.name = name
        self.minutes = minutes
        self.about = about
        self.setup = setup          # list of command lines
        self.programs = programs    # function: list of (name, argv)
        self.timeout = timeout      # seconds after which one program counts as hung
        self.full = full            # only in make check-full, or when named


class Totals:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self.failures = []
        self.skips = []


def say(text):
    print(text, flush=True)


def find(folder, suffix):
    path = os.path.join(TOP, folder)
    if not os.path.isdir(path):
        return []
    return sorted(f for f in os.listdir(path) if f.startswith("test_") and f.endswith(suffix))


def scripts(folder, only=None):
    def make():
        return [(f"{folder.split('/')[-1]}/{f}", [os.path.join(TOP, folder, f)])
                for f in find(folder, ".py") + find(folder, ".sh")
                if only is None or f.startswith(only)]
    return make


def unit_programs():
    programs = []
    for flavour in ("asan", "tsan"):
        folder = os.path.join(TOP, "build", "tests", flavour)
        if os.path.isdir(folder):
            for f in sorted(os.listdir(folder)):
                if f.startswith("test_") and os.access(os.path.join(folder, f), os.X_OK) \
                        and "." not in f:
                    programs.append((f"unit/{f} [{flavour}]", [os.path.join(folder, f)]))
    return programs + scripts("tests/unit")()


def debug_programs():
    names = ["test_uml_driver.py", "test_uml_verify.py", "test_uml_programs.py"]
    return scripts("tests/guest", "test_debug")() + [
        (f"guest/{name} [debug]",
         ["env", "UML_KERNEL=uml-debug", os.path.join(TOP, "tests", "guest", name)])
        for name in names]


def matrix_programs():
    return [(f"guest/test_matrix.py {kernel}", [os.path.join(TOP, "tests", "guest", "test_matrix.py"), kernel])
            for kernel in ("oldest", "guest", "newest")]


BUILD_MODULE = os.path.join(TOP, "tools", "build-module.sh")
SETUP = os.path.join(TOP, "tools", "setup.sh")
MAKE = ["make", "--no-print-directory"]

TIERS = [
    Tier("lint", 4, "checkpatch, sparse and W=1 on the driver, for each kernel that the host has",
         [[SETUP, "packages", "uml", "guest-root", "headers-i386"]],
         scripts("tests/lint")),
    Tier("abi", 1, "the ABI headers as C, C++, 32 bit and big-endian",
         [[SETUP, "packages"]], scripts("tests/abi")),
    Tier("unit", 6, "the device core driven as if by a guest; ASan, UBSan, TSan",
         [[SETUP, "packages"], MAKE + [f"-j{os.cpu_count()}", "-C", "tests/unit"]], unit_programs),
    Tier("fuzz", 3, "hostile commands, rings, virtqueues and vhost-user messages, for a minute",
         [[SETUP, "packages"], MAKE + ["-s", "-C", "tests/fuzz"]], scripts("tests/fuzz")),
    Tier("qtest", 3, "both QEMU devices without a guest: options, start, stop, reset, unplug",
         [[SETUP, "packages", "qemu"], MAKE + ["vrdmad", "qemu"]], scripts("tests/qtest")),
    Tier("uml", 8, "the driver and provider in User Mode Linux guests on one vrdmad",
         [[SETUP, "packages", "uml", "guest-root", "guest-mpi", "rdma-core"],
          MAKE + ["vrdmad", "modules-uml", "provider"]],
         scripts("tests/guest", "test_uml")),
    Tier("qemu", 12, "Debian guests in QEMU, with both devices",
         [[SETUP, "packages", "guest-image", "rdma-core", "qemu"],
          MAKE + ["vrdmad", "modules-guest", "provider", "qemu"]],
         scripts("tests/guest", "test_qemu"), timeout=1200),
    Tier("interop", 7, "the ibverbs backend on Soft-RoCE, in a host that is a UML kernel",
         [[SETUP, "packages", "uml", "guest-image"], MAKE + ["-s", "-C", "tests/interop"]],
         scripts("tests/interop", "test_rxe")),
    Tier("hosts", 15, "guests on two hosts with Soft-RoCE, with each other and with plain RoCE machines",
         [[SETUP, "packages", "uml", "guest-image", "rdma-core", "qemu"],
          MAKE + ["vrdmad", "modules-guest", "provider", "qemu"], MAKE + ["-s", "-C", "tests/interop"]],
         scripts("tests/interop", ("test_ibverbs", "test_rdma_cm")), timeout=1800, full=True),
    Tier("matrix", 10, "the driver on Debian 12's kernel and on the newest of Debian 13's backports",
         [[SETUP, "packages", "guest-image", "rdma-core", "qemu", "kernel-oldest", "kernel-newest"],
          MAKE + ["vrdmad", "provider", "qemu"]],
         matrix_programs, timeout=1200, full=True),
    Tier("debug", 15, "UML guests whose kernel has lockdep, KASAN and kmemleak; failing allocations",
         [[SETUP, "packages", "uml-debug", "guest-root", "guest-image", "rdma-core"],
          MAKE + ["vrdmad", "provider"], [BUILD_MODULE, "uml-debug"]],
         debug_programs, timeout=1800, full=True),
]

RESULT = re.compile(r"^(not )?ok\b\s*(\d+)?\s*-?\s*(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)(\s*#\s*SKIP\b\s*(.*))?", re.I)
SANITIZER = re.compile(r"(WARNING|ERROR): \w+Sanitizer|: runtime error: ")
SKIP = re.compile(r"#\s*SKIP\b\s*(.*)$", re.I)


def run_program(name, argv, timeout, totals):
    """Runs one TAP program, echoes its results, keeps its whole output."""
    log_name = re.sub(r"[^\w.-]+", "_", name) + ".log"
    log_path = os.path.join(LOGS, log_name)
    before = (totals.passed, totals.failed, totals.skipped)
    plan = None
    hung = threading.Event()
    start = time.monotonic()
    proc = subprocess.Popen(argv, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, errors="replace", start_new_session=True)

    def expire():
        hung.set()
        os.killpg(proc.pid, signal.SIGTERM)
        time.sleep(10)
        try:
            os.killpg(proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    timer = threading.Timer(timeout, expire)
    timer.daemon = True
    timer.start()
    with open(log_path, "w", encoding="utf-8") as log:
        for line in proc.stdout:
            log.write(line)
            log.flush()
            line = line.rstrip("\n")
            found = PLAN.match(line)
            if found:
                plan = int(found.group(1))
                if found.group(2):
                    totals.skipped += 1
                    totals.skips.append(f"{name}: {found.group(3)}")
                    say(f"  SKIP  {name}: {found.group(3)}")
                continue
            found = RESULT.match(line)
            if not found:
                continue
            text = found.group(3)
            skip = SKIP.search(text)
            if found.group(1):
                totals.failed += 1
                totals.failures.append(f"{name}: {text}  (log: {os.path.relpath(log_path, TOP)})")
                say(f"  FAIL  {name}: {text}")
            elif skip:
                totals.skipped += 1
                totals.skips.append(f"{name}: {text}")
                say(f"  SKIP  {name}: {text}")
            else:
                totals.passed += 1
    status = proc.wait()
    timer.cancel()

    passed, failed, skipped = (totals.passed - before[0], totals.failed - before[1],
                               totals.skipped - before[2])
    trouble = None
    if hung.is_set():
        trouble = f"did not end within {timeout} s"
    elif status != 0 and failed == 0:
        trouble = f"ended with status {status}"
    elif passed + failed + skipped == 0 and plan != 0:
        trouble = "reported no result"
    elif plan is not None and plan > passed + failed + skipped:
        trouble = f"planned {plan} results and reported {passed + failed + skipped}"
    if trouble:
        failed += 1
        totals.failed += 1
        totals.failures.append(f"{name}: {trouble}  (log: {os.path.relpath(log_path, TOP)})")
        with open(log_path, encoding="utf-8") as log:
            lines = log.read().splitlines()
        # A sanitizer's report may be long before the end of the output.
        report = next((i for i, line in enumerate(lines[:-15]) if SANITIZER.search(line)), None)
        if report is not None:
            say(f"  FAIL  {name}: {trouble}; the sanitizer's first report:")
            for line in lines[report:report + 25]:
                say("        " + line)
        say(f"  FAIL  {name}: {trouble}; the end of its output:")
        for line in lines[-15:]:
            say("        " + line)
    say(f"  {'FAIL' if failed else 'ok  '}  {name}: {passed} passed"
        + (f", {failed} failed" if failed else "") + (f", {skipped} skipped" if skipped else "")
        + f"  [{time.monotonic() - start:.0f} s]")


def run_tier(tier, totals):
    say(f"\n== {tier.name}: {tier.about} (budget: {tier.minutes} min, plus first-time set-up)")
    start = time.monotonic()
    for argv in tier.setup:
        status = subprocess.call(argv, cwd=TOP)
        if status != 0:
            totals.failed += 1
            totals.failures.append(f"{tier.name}: set-up failed: {' '.join(argv)}")
            say(f"  FAIL  set-up of tier {tier.name}: {' '.join(argv)} ended with status {status}")
            return
    ready = time.monotonic()
    programs = tier.programs()
    if not programs:
        totals.failed += 1
        totals.failures.append(f"{tier.name}: no test found")
        say(f"  FAIL  tier {tier.name} has no tests")
    for name, argv in programs:
        run_program(name, argv, tier.timeout, totals)
    took = (time.monotonic() - ready) / 60
    note = "" if took <= tier.minutes else "  (over its budget)"
    say(f"== {tier.name}: set-up {(ready - start) / 60:.1f} min, tests {took:.1f} min{note}")


def main():
    wanted = [a for arg in sys.argv[1:] for a in arg.split()]
    full = "--full" in wanted
    wanted = [a for a in wanted if a != "--full"]
    names = [t.name for t in TIERS]
    for name in wanted:
        if name not in names:
            sys.exit(f"tests/run.py: there is no tier '{name}'; choose from: {' '.join(names)}")
    tiers = [t for t in TIERS if t.name in wanted or not wanted and (full or not t.full)]
    os.makedirs(LOGS, exist_ok=True)
    totals = Totals()
    start = time.monotonic()
    say(f"virtio-rdma: {len(tiers)} tiers: " + ", ".join(f"{t.name} ({t.minutes} min)"
                                                           for t in tiers)
        + "; about 25 minutes more on a machine where nothing was built before")
    try:
        for tier in tiers:
            run_tier(tier, totals)
    except KeyboardInterrupt:
        say("\ninterrupted: start it again, what was built stays")
        return 130
    say("")
    for text in totals.skips:
        say(f"skipped: {text}")
    for text in totals.failures:
        say(f"FAILED: {text}")
    say(f"{'FAILURE' if totals.failed else 'SUCCESS'} after "
        f"{(time.monotonic() - start) / 60:.1f} min; logs in build/log/")
    say(f"{totals.passed} passed, {totals.failed} failed, {totals.skipped} skipped")
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
