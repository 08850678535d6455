#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""make bench: measures, compares, and reports missed targets.

    tests/bench/bench.py [--quick] [native] [host] [guests] [control]   all by default

Writes figures to build/bench.json and a plot over message size to build/bench.svg. A missed
target is reported and is not a failure; a measurement that could not be made is one."""

import argparse
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
BUILD = TOP / 'build'
sys.path[:0] = [str(TOP / 'tools'), str(TOP / 'tests' / 'guest')]

import perftest                                                 # noqa: E402
import plot                                                     # noqa: E402
import results as results_module                                # noqa: E402

SETUP = [TOP / 'tools' / 'setup.sh']
MAKE = ['make', '--no-print-directory', '-s']

# part: (minutes, description, targets of tools/setup.sh, commands that build)
PARTS = {'native': (5, 'programs that play guests, with no virtual machine', ['packages', 'rdma-core'],
                    [MAKE + ['-C', 'tests/bench']]),
         'host': (3, 'the ibverbs backend beside a plain program, on Soft-RoCE in a QEMU guest',
                  ['packages', 'guest-image', 'qemu'], [MAKE + ['qemu'], MAKE + ['-C', 'tests/interop']]),
         'guests': (10, 'perftest in UML guests, beside Soft-RoCE and TCP',
                    ['packages', 'uml', 'guest-image', 'rdma-core'],
                    [MAKE + ['vrdmad', 'modules-uml', 'provider']]),
         'control': (4, 'objects, regions and connections in guests',
                     ['packages', 'uml', 'guest-image', 'rdma-core', 'qemu'],
                     [MAKE + ['vrdmad', 'modules-uml', 'modules-guest', 'provider', 'qemu'],
                      ['tests/bench/in-guest/build.sh']])}

_start = time.monotonic()


def say(text):
    print(f'[{time.monotonic() - _start:5.0f} s] {text}', flush=True)


def set_up(parts):
    """Builds everything before the first measurement, because building takes the CPUs."""
    targets = dict.fromkeys(t for part in parts for t in PARTS[part][2])
    commands = [SETUP + list(targets)] + [c for part in parts for c in PARTS[part][3]]
    for argv in [c for n, c in enumerate(commands) if c not in commands[:n]]:
        if subprocess.call(argv, cwd=TOP, env=dict(os.environ, VRDMA_QUIET='1')):
            sys.exit(f"make bench: {' '.join(map(str, argv))} failed")


def machine():
    """Properties of the machine that the figures depend on."""
    model = re.search(r'^model name\s*:\s*(.*)$', pathlib.Path('/proc/cpuinfo').read_text(), re.M)
    load = os.getloadavg()[0]
    print(f"{len(os.sched_getaffinity(0))} CPUs: {model.group(1) if model else platform.machine()}, "
          f'Linux {platform.release()}, load {load:.2f}', flush=True)
    if load > 0.5:
        print('Others use this machine: the figures will be worse than it can do.', flush=True)


def measure(part, results, quick):
    minutes, about, *_ = PARTS[part]
    print(f'\n== {part}: {about} (about {1 if quick else minutes} min)\n{results_module.HEADER}', flush=True)
    if part == 'native':
        import native
        native.run(results, BUILD, say, quick)
    elif part == 'host':
        import host
        host.run(results, BUILD, say, quick)
    elif part == 'guests':
        import guests
        guests.run(results, say, quick)
    else:
        import control
        control.run(results, say, quick)


# ---- the plot -------------------------------------------------------------------------

CURVES = {'native': 'virtio-rdma, no guests', 'vrdma0': 'virtio-rdma, UML guests',
          'rxe0': 'Soft-RoCE, UML guests', 'tcp': 'TCP, UML guests'}


def draw(results):
    curves = {kind: {label: {} for label in CURVES.values()} for kind in ('latency', 'bandwidth')}
    for figure in results.figures:
        found = re.match(r'(native|guests)\.curve\.(latency|bandwidth)\.(?:(\w+)\.)?(\d+)$', figure['name'])
        if found:
            part, kind, device, size = found.groups()
            curves[kind][CURVES[device or part]][int(size)] = figure['value']
    return plot.write(BUILD / 'bench.svg', [('latency, us (READ; no guests: WRITE; TCP: one way)', curves['latency']),
                                            ('bandwidth, GB/s (WRITE)', curves['bandwidth'])])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('parts', nargs='*', metavar='native|host|guests|control')
    parser.add_argument('--quick', action='store_true', help='fewer and shorter runs')
    args = parser.parse_args()
    for part in args.parts:
        if part not in PARTS:
            parser.error(f"there is no part '{part}'; choose from: {' '.join(PARTS)}")
    parts = [p for p in PARTS if p in args.parts or not args.parts]

    say(f"make bench: {', '.join(parts)}; about {sum(PARTS[p][0] for p in parts)} min, "
        'and first-time set-up')
    set_up(parts)
    machine()
    results = results_module.Results()
    for part in parts:
        try:
            measure(part, results, args.quick)
        except KeyboardInterrupt:
            print('\ninterrupted')
            return 130
        except Exception as error:      # the other parts are still useful
            results.fail(part, f'{type(error).__name__}: {error}')
    if perftest.disturbed:
        print(f'\n{perftest.disturbed} runs of perftest were repeated: others disturbed its clock.')
    results.save(BUILD / 'bench.json')
    drawn = draw(results)
    return verdict(results, drawn)


def verdict(results, drawn):
    targets = [f for f in results.figures if f['target']]
    print()
    for text in perftest.unfinished:
        print(f'did not end: {text}')
    for text in results.skips:
        print(f'skipped: {text}')
    for figure in results.missed():
        print(f'MISSED:\n{results_module.row(figure)}')
    for text in results.failures:
        print(f'FAILED: {text}')
    print(f"{len(results.figures)} figures in build/bench.json{', plot in build/bench.svg' if drawn else ''}")
    print(f'{sum(f["met"] is True for f in targets)} of {len(targets)} targets met, {len(results.missed())} missed; '
          f'{len(results.failures)} failed, {len(results.skips)} skipped; {(time.monotonic() - _start) / 60:.1f} min')
    return 1 if results.failures else 0


if __name__ == '__main__':
    sys.exit(main())
