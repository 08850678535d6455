#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The ibverbs transport on Soft-RoCE: a UML kernel with rdma_rxe is the host, and the test
guest without a virtual machine (native.c) runs in it."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'guest'))
from pair import TOP, Tap, guest    # noqa: E402

# The host's own address, and a second one: each guest has one.
OTHER = '192.168.77.101'
PROGRAM = os.environ.get('NATIVE', TOP / 'build' / 'tests' / 'interop' / 'native')


def main():
    tap = Tap()
    only = ' '.join(sys.argv[1:])
    with guest.Network() as net, guest.UmlHost('host', net, mem='2G') as host:
        tap.guests = [host]
        guest.soft_roce(host)
        host.run(f'ip addr add {OTHER}/24 dev eth0')
        env = 'VRD_TEST_LOG=1' if os.environ.get('VRD_TEST_LOG') else ''
        done = host.run(f'{env} {PROGRAM} rxe0 {host.ip} {OTHER} {only}', timeout=600, check=False)
        tap.relay('native', done.stdout)
        tap.run('the program ends well', lambda: None if done.rc == 0 else
                f'status {done.rc}\n{done.stdout[-3000:]}')
    tap.end()


main()
