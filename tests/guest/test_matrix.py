#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver on all supported kernels: test_matrix.py oldest|guest|newest...

It builds with W=1 without a warning. With the oldest and the newest kernel, it is loaded in two
guests, does RDMA and is unloaded. For Debian 13's own kernel ("guest"), which is between them,
the tier qemu tests this and more."""

import re
import shutil
import subprocess
import sys

import pair
import qemu_common as common
from guestlib import host

# One for each path of data and completions; the verifier tries every operation.
PROGRAMS = [f'ibv_rc_pingpong {pair.GID} -n 200', f'ibv_rc_pingpong -e {pair.GID} -n 100',
            f'ibv_ud_pingpong {pair.GID} -n 200', 'ib_write_bw -F -n 200', 'ib_send_bw -F -R -n 200']


def build(which):
    """Builds from scratch: make prints warnings only for files that it compiles."""
    name = which if which == 'guest' else f'kernel-{which}'
    shutil.rmtree(pair.TOP / 'build' / 'obj' / f'module-{name}', ignore_errors=True)
    done = subprocess.run([pair.TOP / 'tools' / 'build-module.sh', which, 'W=1'], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    # depmod warns of missing lists of the kernel's own modules.
    if done.returncode or re.search(r'^(?!depmod:).*(warning|error):', done.stdout, re.I | re.M):
        return done.stdout
    return None


def release(g, kernel):
    wanted = (host.product(kernel) / 'release').read_text().strip()
    running = g.run('uname -r').stdout.strip()
    return None if running == wanted else f'the guest runs {running}, not {wanted}'


def run(tap, which):
    kernel = f'kernel-{which}'
    with pair.qemu_guests(tap, modprobe=False, kernel=kernel) as (_, (a, b)):
        tap.run(f'{which}: it boots', release, a, kernel)
        tap.run(f'{which}: the module is loaded by the alias of the device', common.autoload, a)
        for g in (a, b):
            tap.run(f'{which}: guest {g.name}: the port comes up', pair.load, g)
        tap.run(f'{which}: ibv_devinfo -v', common.devinfo, a)
        common.programs(tap, a, b, PROGRAMS, f'{which}: ')
        pair.verify(tap, f'{which}: two guests', a, b, '-q 9', timeout=900)
        tap.run(f'{which}: unload with an open context, load again', common.reload_module, b)
        tap.run(f'{which}: traffic after that', common.run_program, a, b, PROGRAMS[0])


def main():
    tap = pair.Tap()
    pair.build_program('verify')
    for which in sys.argv[1:] or ['oldest', 'guest', 'newest']:
        built = tap.run(f'{which}: builds with W=1 and no warning', build, which)
        if not built or which == 'guest':
            continue
        try:
            run(tap, which)
        except pair.guest.GuestError as error:
            tap.report(f'{which}: two guests', error)
    tap.end()


main()
