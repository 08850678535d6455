#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rdma_cm in guests on the host's RDMA network: a vrdmad with two guests on one host and the
device inside QEMU on another, connected by the MAD channel; and a plain host, whose programs
connect to the guests, and are connected to, through the host's own rdma_cm. Hosts are UML
kernels with Soft-RoCE.

    test_rdma_cm.py [PART-OF-A-TEST'S-NAME...]
"""

import contextlib
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'guest'))
import pair                                                # noqa: E402
from guestlib.nested import NestedGuests, prepare          # noqa: E402
from pair import TOP, Tap, guest, load, wait_listening     # noqa: E402

VRDMAD = TOP / 'build' / 'vrdmad' / 'vrdmad'
KEY = '/run/mad.key'
PORT = 7471                         # port of rdma_cm: the guests' cm-port, and ucmatose's default
STATS = '/run/stats'


def key(host, bytes_):
    host.run(f'(umask 077; echo {bytes_} >{KEY})')


def vrdmad(host):
    """Runs vrdmad on a host with the sockets a and b; returns QEMU arguments for each guest."""
    sockets = ' '.join(f'--socket /run/{n}.sock,ibdev=rxe0,cm-port={PORT},mac={NestedGuests.mac(1, i)}'
                       for i, n in enumerate('ab', 1))
    daemon = host.spawn(f'exec {VRDMAD} {sockets} --stats-socket {STATS} --mad-key {KEY}')
    host.run('for i in $(seq 100); do [ -S /run/b.sock ] && exit 0; sleep 0.1; done; exit 1')
    return daemon, [guest.vhost_user_device(f'/run/{n}.sock') for n in 'ab']


@contextlib.contextmanager
def machines(tap):
    """Yields the guests a and b of the first host, c of the second, the plain host, and a
    function that returns a counter of the first host's vrdmad."""
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(guest.Network())
        one = guest.UmlHost('host1', net, mem='3G')
        two = guest.UmlHost('host2', net, mem='2G')
        plain = guest.UmlGuest('plain', net, mem='512M')
        for machine in (one, two, plain):
            stack.callback(machine.stop)
            machine.start()
        for machine in (one, two, plain):
            machine.wait_ready()
            guest.soft_roce(machine)
            machine.run('modprobe rdma_ucm')
        tap.guests += [one, two, plain]
        prepare(one, 1, 2)
        prepare(two, 2, 1)
        plain.rdma_ip = plain.ip

        for host in (one, two):
            key(host, 'one-key-for-both-hosts-of-the-test-0123456789')
        daemon, devices = vrdmad(one)
        stack.callback(daemon.kill)
        in_process = ['-device', f'virtio-rdma-pci,ibdev=rxe0,mad-key={KEY},cm-ports={PORT},'
                                 f'mac={NestedGuests.mac(2, 1)}']
        a, b = stack.enter_context(NestedGuests(one, 1, dict(zip('ab', devices))))
        c, = stack.enter_context(NestedGuests(two, 2, {'c': in_process}))
        tap.guests += [a, b, c]
        for g in (a, b, c):
            tap.run(f'guest {g.name}: the port comes up', load, g)

        def counter(name):
            text = one.run(f'{VRDMAD} --stats {STATS}').stdout
            return int(re.search(rf'{name} (\d+)', text).group(1))

        yield a, b, c, plain, counter
        tap.guests = []
        if not daemon.running():
            tap.report('vrdmad is alive at the end', daemon.output()[-3000:])


def program(server, client, server_command, client_command, wanted):
    """Both ends of a program end without an error, and the client prints the expected text."""
    there = server.spawn(f'exec {server_command}')
    try:
        wait_listening(server)
        result = client.run(client_command, timeout=120, check=False)
        rc = there.wait(timeout=60).rc
    finally:
        there.kill()
    if result.rc or rc or not re.search(wanted, result.stdout):
        return (f'client ended with {result.rc}:\n{result.stdout[-1500:]}\n'
                f'server with {rc}:\n{there.output()[-1500:]}')
    return None


def rping(server, client):
    args = f'-a {server.rdma_ip} -p {PORT} -C 5 -S 100 -V'
    return program(server, client, f'rping -s {args}', f'rping -c -v {args}', 'rdma-ping-4')


def ucmatose(server, client):
    """Ten connections at once, ended by the server."""
    args = f'-c 10 -C 5 -S 1000 -p {PORT}'
    return program(server, client, f'ucmatose {args} -b {server.rdma_ip}',
                   f'ucmatose {args} -s {server.rdma_ip}', 'return status 0')


def udaddy(server, client):
    """Datagrams: SIDR passes QP number and Q_Key. (Its -p is not a port.)"""
    args = '-c 2 -C 5 -S 1000'
    return program(server, client, f'udaddy {args} -b {server.rdma_ip}',
                   f'udaddy {args} -s {server.rdma_ip}', 'return status 0')


def refused(server, client, port):
    """No program listens: the client gets the error at once."""
    start = time.monotonic()
    result = client.run(f'rping -c -a {server.rdma_ip} -p {port} -C 1', timeout=60, check=False)
    if 'REJECTED' not in result.stdout:
        return f'no refusal:\n{result.stdout}'
    took = time.monotonic() - start
    return f'it took {took:.0f} s' if took > 20 else None


def moved(counter, name, test, *args):
    """The test succeeded, and the counter has changed."""
    before = counter(name)
    problem = test(*args)
    return problem or (None if counter(name) > before else f'{name} did not move')


def main():
    tap = Tap()
    wanted = sys.argv[1:]
    with machines(tap) as (a, b, c, plain, counter):
        local, channel, host = 'device.a.mads_local', 'device.a.mads_channel_sent', 'device.a.mads_host_cm'
        tests = [
            ('two guests of one host: rping', local, rping, a, b),
            ('two guests of one host: ucmatose', local, ucmatose, b, a),
            ('guests of two hosts: rping to vrdmad', channel, rping, a, c),
            ('guests of two hosts: rping to QEMU', channel, rping, c, a),
            ('guests of two hosts: ucmatose', channel, ucmatose, c, a),
            ('guests of two hosts: udaddy', channel, udaddy, a, c),
            ('guests of two hosts: nobody listens', channel, refused, c, a, PORT + 1),
            ('a guest connects to a plain host: rping', host, rping, plain, a),
            ('a guest connects to a plain host: ucmatose', host, ucmatose, plain, a),
            ('a guest connects to a plain host: udaddy', host, udaddy, plain, a),
            ('a guest connects to a plain host: nobody listens', host, refused, plain, a, PORT + 1),
            ('a plain host connects to a guest: rping', host, rping, a, plain),
            ('a plain host connects to a guest: ucmatose', host, ucmatose, a, plain),
            ('a plain host connects to a guest: nobody listens', host, refused, a, plain, PORT),
        ]
        in_qemu = [
            ('a guest inside QEMU connects to a plain host: rping', rping, plain, c),
            ('a plain host connects to a guest inside QEMU: rping', rping, c, plain),
        ]
        for name, *test in tests:
            if not wanted or any(w in name for w in wanted):
                tap.run(name, moved, counter, *test)
        for name, *test in in_qemu:
            if not wanted or any(w in name for w in wanted):
                tap.run(name, *test)
        if not wanted:
            tap.report('no connection between daemons failed',
                       None if counter('engine.mad_auth_failed') == 0 else 'mad_auth_failed is not 0')
    tap.end()


main()
