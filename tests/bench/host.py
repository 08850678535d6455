# SPDX-License-Identifier: GPL-2.0-or-later
"""The ibverbs transport, compared with a plain verbs program on the same Soft-RoCE device.

The host with that device is a QEMU guest with two processors. Soft-RoCE works in kernel
threads. In a UML kernel, which has one processor and system calls of 7 us, the measurement
would mainly show the switches between them. If there is no KVM, both are emulated and equally
slow."""

import re
import sys

from pair import TOP
from results import Trouble, number

sys.path.insert(0, str(TOP / 'tests' / 'interop'))
from in_qemu import host_with      # noqa: E402

# name in the program's output: (name of the figure, target of the ratio)
FIGURES = {'write_64K': ('bandwidth.write_64K', '>= 0.95')}


def run(results, build, say, quick):
    say('a QEMU guest with 2 processors and Soft-RoCE, as the host ...')
    with host_with(build / 'tests' / 'interop' / 'native') as (host, native):
        say(f'the backend and a plain program in turns ({host.accel})')
        done = native('', 'bench')
    found = re.findall(r'^figure (\S+) (\S+) (\S+) (\S+) (\S+)$', done.stdout, re.M)
    if done.rc or not found:
        raise Trouble(f'native bench ended with status {done.rc}:\n{done.stdout}')
    for name, unit, ours, theirs, ratio in found:
        name, target = FIGURES.get(name, (name, None))
        results.add(f'host.ibverbs.{name}', float(ours), unit, f'a plain program, {number(float(theirs))} {unit}',
                    float(ratio), target, f'in a QEMU guest ({host.accel})' if target else None)
