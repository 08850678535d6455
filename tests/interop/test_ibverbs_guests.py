#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests on the ibverbs transport. There are two hosts with Soft-RoCE (UML kernels): one runs a
vrdmad with two Debian guests, the other a guest with the device inside QEMU. A third, plain
host with Soft-RoCE has no virtio-rdma. The two guests of one host reach each other by memory
(local=on), and all other peers through the hosts' devices; counters prove which path was used.
(For two guests of one host over its device, see test_rdma_cm.py.)

    test_ibverbs_guests.py [PART-OF-A-PAIR'S-NAME...]
"""

import contextlib
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'guest'))
import pair                                                # noqa: E402
from guestlib.nested import NestedGuests, prepare          # noqa: E402
from guestlib.rdma import meet                             # noqa: E402
from pair import TOP, Tap, between, guest, load            # noqa: E402

VRDMAD = TOP / 'build' / 'vrdmad' / 'vrdmad'
PLAIN_TCP = '10.77.9.254'

# Few iterations: the guests are emulated, in a kernel with one processor, which all spinning
# threads share.
PROGRAMS = ['ibv_rc_pingpong -e -g 1 -n 50', 'ibv_uc_pingpong -e -g 1 -n 50', 'ibv_ud_pingpong -e -g 1 -n 50',
            'ib_write_bw -F -x 1 -n 50', 'ib_read_bw -F -x 1 -n 50', 'ib_send_bw -F -x 1 -n 50',
            'ib_atomic_bw -F -x 1 -n 50', 'ib_write_lat -F -x 1 -n 20']


def vrdmad(host, specs):
    """Runs vrdmad on a host with the sockets a, b, ...; returns QEMU arguments for each guest."""
    names = 'abc'[:len(specs)]
    sockets = ' '.join(f'--socket /run/{n}.sock,ibdev=rxe0,local=on,mac={mac}' for n, mac in zip(names, specs))
    daemon = host.spawn(f'exec {VRDMAD} {sockets} --stats-socket /run/stats')
    host.run(f'for i in $(seq 100); do [ -S /run/{names[-1]}.sock ] && exit 0; sleep 0.1; done; exit 1')
    return daemon, [guest.vhost_user_device(f'/run/{n}.sock') for n in names]


@contextlib.contextmanager
def machines(tap):
    """Yields the first host, its guests a and b, c of the second, and the plain host."""
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
        tap.guests += [one, two, plain]
        prepare(one, 1, 2, [(2, two.ip), (9, plain.ip)])
        prepare(two, 2, 1, [(1, one.ip), (9, plain.ip)])
        plain.run(f'ip addr add {PLAIN_TCP}/32 dev lo; ip route add 10.77.1.0/24 via {one.ip}; '
                  f'ip route add 10.77.2.0/24 via {two.ip}')
        plain.rdma_ip, plain.ip = plain.ip, PLAIN_TCP

        daemon, devices = vrdmad(one, [NestedGuests.mac(1, i) for i in (1, 2)])
        stack.callback(daemon.kill)
        in_process = ['-device', f'virtio-rdma-pci,ibdev=rxe0,mac={NestedGuests.mac(2, 1)}']
        a, b = stack.enter_context(NestedGuests(one, 1, dict(zip('ab', devices))))
        c, = stack.enter_context(NestedGuests(two, 2, {'c': in_process}))
        tap.guests += [a, b, c]
        for g in (a, b, c):
            tap.run(f'guest {g.name}: the port comes up', load, g)
        tap.run('all find each other', meet, a, b, c, plain)

        def logs():
            """Messages of the devices."""
            return f'--- vrdmad:\n{daemon.output()[-2000:]}\n--- QEMU, guest c:\n{c.qemu_log()[-2000:]}'

        yield one, a, b, c, plain, logs
        tap.guests = []
        if not daemon.running():
            tap.report('vrdmad is alive at the end', daemon.output()[-3000:])


def paths(host):
    """QPs that guest a has connected so far: (by memory, by the host's device)."""
    out = host.run(f'{VRDMAD} --stats /run/stats').stdout
    value = {line.split()[0]: line.split()[1] for line in out.splitlines() if line.startswith('device.a.')}
    return int(value['device.a.qps_memory']), int(value['device.a.qps_ibverbs'])


def path_taken(host, before, local):
    by_memory, by_device = (now - then for now, then in zip(paths(host), before))
    wrong = by_device if local else by_memory
    if wrong or not by_memory + by_device:
        return f'{by_memory} QPs went by memory, {by_device} by the device'
    return None


def run_program(server, client, command, logs):
    try:
        out = between(server, client, command, timeout=300)
    except guest.GuestError as error:
        return f'{error}\n{logs()}'
    if not re.search(r'usec/iter|^ \d+\s+\d+\s+([\d.]+|inf)', out, re.M):
        return f'no result:\n{out}'
    return None


def main():
    tap = Tap()
    wanted = sys.argv[1:]
    pair.build_program('verify')
    with machines(tap) as (host, a, b, c, plain, logs):
        pairs = [('two guests of one host', a, b), ('guests of two hosts', a, c),
                 ('a guest and a plain host', plain, a), ('a plain host and a guest', c, plain)]
        for name, server, client in pairs:
            if wanted and not any(w in name for w in wanted):
                continue
            before = paths(host)
            for command in PROGRAMS:
                # With local=on, a device only has atomics if the host's are global.
                if 'atomic' in command and a in (server, client):
                    continue
                tap.run(f'{name}: {command}', run_program, server, client, command, logs)
            if a in (server, client):
                tap.run(f'{name}: the path', path_taken, host, before, b in (server, client))
            # If Soft-RoCE carries the QP, errors are its own: test only data there.
            only = '' if b in (server, client) else '-c "0 B to 64 MiB"'
            pair.verify(tap, name, server, client, f'-g 1 -q 9 {only}', timeout=900)
            if only:
                pair.verify(tap, name, server, client, '-g 1 -q 9 -c "network header"')
    tap.end()


main()
