#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""-device vhost-user-rdma-pci: two Debian guests on one vrdmad."""

import time

import pair
import qemu_common as common
from pair import between


def stop_and_cont(a, b):
    """Pausing a peer loses nothing: the transfer waits and completes."""
    there = a.spawn('ib_send_bw -F -D 6 -c RC')
    try:
        pair.wait_listening(a)
        client = b.spawn(f'ib_send_bw -F -D 6 -c RC {a.ip}')
        time.sleep(4)
        for _ in range(3):
            a.qmp('stop')
            time.sleep(0.5)
            a.qmp('cont')
            time.sleep(0.3)
        client.wait(timeout=120)
        there.wait(timeout=60)
    finally:
        there.kill()


def daemon_restart(daemon, a, b):
    """vrdmad is killed under traffic and started again: the guests recover by themselves, and
    the client's requests are flushed, so that it ends. (The server of RDMA writes does not
    poll.)"""
    there = a.spawn('ib_write_bw -F -D 60')
    pair.wait_listening(a)
    client = b.spawn(f'ib_write_bw -F -D 60 {a.ip}')
    pair.wait_connected(b, 'ib_write_bw')
    time.sleep(1)
    daemon.kill()
    time.sleep(1)
    daemon.start()
    try:
        result = client.wait(timeout=30, check=False)
    finally:
        there.kill()
    if result.rc == 0 or result.rc > 128:
        return f'the client ended with {result.rc}:\n{result.stdout}'
    for g in (a, b):
        pair.load(g)
    between(a, b, f'ibv_rc_pingpong {pair.GID} -n 100')
    return None


def main():
    tap = pair.Tap()
    pair.build_program('verify')
    with pair.qemu_guests(tap, modprobe=False) as (daemon, (a, b)):
        tap.run('the module is loaded by the alias of the device', common.autoload, a)
        for g in (a, b):
            tap.run(f'guest {g.name}: the port comes up', pair.load, g)
        tap.run('ibv_devinfo -v', common.devinfo, a)
        common.programs(tap, a, b)
        pair.verify(tap, 'two guests', a, b, '-q 9', timeout=900)
        tap.run('unload with an open context, load again', common.reload_module, b)
        tap.run('pause and resume under traffic', stop_and_cont, a, b)
        tap.run('vrdmad killed and restarted under traffic', daemon_restart, daemon, a, b)
    tap.end()


main()
