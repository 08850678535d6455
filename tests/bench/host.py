# SPDX-License-Identifier: GPL-2.0-or-later
"""The ibverbs backend beside a plain verbs program on the same Soft-RoCE device.

The host with that device is a QEMU guest with two processors: Soft-RoCE works in kernel
threads, and in a UML kernel, which has one processor and system calls of 7 us, little is
measured but the switches between them. Emulated, where there is no KVM, both are slow alike."""

import re
import shutil
import subprocess

import guest
from guestlib import uml
from guestlib.qemu import QemuGuest
from results import Trouble, number

OTHER = '192.168.77.101'        # the second GID: each of the two test guests has one
TARGETS = {'write_64K': '>= 0.95'}
NAMED = {'write_64K': 'bandwidth.write_64K'}


def libraries(program):
    """Those of ours that Debian 13's image need not have."""
    out = subprocess.run(['ldd', program], check=True, capture_output=True, text=True).stdout
    return [path for name, path in re.findall(r'(\S+) => (/\S+)', out) if re.match('lib(urcu|sodium)', name)]


def run(results, build, say, quick):
    program = build / 'tests' / 'interop' / 'native'
    with guest.Network() as net, QemuGuest('host', net, mem='3G', smp=2) as host:
        say(f'a QEMU guest ({host.accel}, 2 processors) with Soft-RoCE as the host ...')
        uml.soft_roce(host)
        host.run(f'ip addr add {OTHER}/24 dev eth0')
        for path in [program, *libraries(program)]:
            shutil.copy(path, host.share)
        done = host.run(f'LD_LIBRARY_PATH=/vrdma /vrdma/native rxe0 {host.ip} {OTHER} bench', timeout=900, check=False)
        found = re.findall(r'^figure (\S+) (\S+) (\S+) (\S+) (\S+)$', done.stdout, re.M)
        if done.rc or not found:
            raise Trouble(f'native bench ended with status {done.rc}:\n{done.stdout}')
        for name, unit, ours, theirs, ratio in found:
            results.add(f'host.ibverbs.{NAMED.get(name, name)}', float(ours), unit,
                        f'a plain program, {number(float(theirs))} {unit}', float(ratio), TARGETS.get(name),
                        f'on Soft-RoCE in a QEMU guest ({host.accel})' if name in TARGETS else None)
