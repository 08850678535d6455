#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest memory in huge pages on Soft-RoCE: the test guest (native -H) in a QEMU guest, because
UML has no huge pages."""

import os
import pathlib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'guest'))
from pair import TOP, Tap          # noqa: E402
from in_qemu import host_with      # noqa: E402

PROGRAM = pathlib.Path(os.environ.get('NATIVE', TOP / 'build' / 'tests' / 'interop' / 'native'))
PAGES = 256


def main():
    tap = Tap()
    with host_with(PROGRAM) as (host, native):
        tap.guests = [host]
        host.run(f'echo {PAGES} >/proc/sys/vm/nr_hugepages; [ $(cat /proc/sys/vm/nr_hugepages) = {PAGES} ]')
        done = native('-H', 'huge data')
        tap.relay('huge pages', done.stdout)
        tap.run('the program ends well', lambda: None if done.rc == 0 else
                f'status {done.rc}\n{done.stdout[-3000:]}')
        # The user sees the log line.
        done = host.run(f'LD_LIBRARY_PATH=/vrdma VRD_TEST_LOG=1 /vrdma/{PROGRAM.name} -H rxe0 {host.ip} '
                        '192.168.77.101 huge', timeout=300, check=False)
        tap.run('what is refused is told with the reason', lambda: None if
                'does not consist of whole ones' in done.stdout else done.stdout[-3000:])
    tap.end()


main()
