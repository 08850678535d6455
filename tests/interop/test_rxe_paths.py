#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory and Soft-RoCE as two paths: the test guest (native.c) on devices of one fabric, which
reach each other by memory; of two fabrics, which reach each other through the host's device;
and with both at the same time."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'guest'))
from pair import TOP, Tap, guest    # noqa: E402

# In addition to the host's own address: each guest has one.
OTHERS = ['192.168.77.101', '192.168.77.102']
PROGRAM = os.environ.get('NATIVE', TOP / 'build' / 'tests' / 'interop' / 'native')
TESTS = 'data datagrams errors memory'
RUNS = [('one fabric', 'x,x', TESTS), ('two fabrics', 'x,y', TESTS), ('both', 'x,x', 'paths')]


def main():
    tap = Tap()
    with guest.Network() as net, guest.UmlHost('host', net, mem='2G') as host:
        tap.guests = [host]
        guest.soft_roce(host)
        for address in OTHERS:
            host.run(f'ip addr add {address}/24 dev eth0')
        env = 'VRD_TEST_LOG=1' if os.environ.get('VRD_TEST_LOG') else ''
        for name, fabrics, test in RUNS:
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            done = host.run(f'{env} {PROGRAM} -m {fabrics} rxe0 {host.ip} {",".join(OTHERS)} {test}',
                            timeout=600, check=False)
            tap.relay(name, done.stdout)
            tap.run(f'{name}: the program ends well', lambda: None if done.rc == 0 else
                    f'status {done.rc}\n{done.stdout[-3000:]}')
    tap.end()


main()
