#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""make demo BACKEND=ibverbs: one guest, two peers, two paths.

A host with an RDMA device runs vrdmad and two Debian guests. (The host is a User Mode Linux
kernel with Soft-RoCE, because few machines have a card.) Guest a communicates with a plain
machine, which has no virtio-rdma, through the host's device, and with guest b on the same host
by one copy of memory. It runs the same programs for both.
"""

import contextlib
import sys

import guest
from demo import Demo, Failed, number, perftest_value, pingpong_us, show_device
from guestlib.nested import NestedGuests, prepare
from guestlib.rdma import between, load, meet, wait_listening

# Few iterations, and sleeping instead of spinning: the guests are emulated on one processor.
PINGPONG = [('ibv_rc_pingpong', '-e -g 1 -n 100', 'SEND and RECV, reliable connection'),
            ('ibv_ud_pingpong', '-e -g 1 -n 100', 'SEND and RECV, datagrams')]
PERFTEST = [('ib_write_bw', 'RDMA WRITE, 64 KiB each', 'MiB/s'),
            ('ib_read_bw', 'RDMA READ, 64 KiB each', 'MiB/s'),
            ('ib_send_bw', 'SEND, 64 KiB each', 'MiB/s')]
PLAIN_TCP = '10.77.9.254'
SOCKETS = {'a': '/run/a.sock', 'b': '/run/b.sock'}


def vrdmad(host):
    """vrdmad on the host, with a socket for each guest."""
    options = ' '.join(f'--socket {path},ibdev=rxe0,local=on,mac={NestedGuests.mac(1, i)}'
                       for i, path in enumerate(SOCKETS.values(), 1))
    daemon = host.spawn(f'exec {guest.BUILD}/vrdmad/vrdmad {options} --stats-socket /run/stats')
    host.run(f'for i in $(seq 100); do [ -S {SOCKETS["b"]} ] && exit 0; sleep 0.1; done; exit 1')
    return daemon


def stats(host, name):
    """The device's counters in vrdmad."""
    out = host.run(f'{guest.BUILD}/vrdmad/vrdmad --stats /run/stats').stdout
    pairs = (line.split() for line in out.splitlines() if line.startswith(f'device.{name}.'))
    return {key.split('.', 2)[2]: int(value) for key, value in pairs if value.isdigit()}


def programs(demo, a, peers):
    print(f"\n  {'program':<16} {'what it does':<34}" + ''.join(f'{what:>21}' for what, _ in peers), flush=True)
    rows = [(name, f'{name} {options}', what, 'us', lambda out, _: pingpong_us(out))
            for name, options, what in PINGPONG]
    rows += [(name, f'{name} -F -x 1 -n 100', what, unit, perftest_value) for name, what, unit in PERFTEST]
    for name, command, what, unit, value_of in rows:
        values = [demo.try_to(f'{name} ({kind})', lambda p=peer: value_of(between(p, a, command), unit))
                  for kind, peer in peers]
        print(f'  {name:<16} {what:<34}' + ''.join(
            f'{number(v):>14} {unit:<6}' if v is not None else f"{'failed':>21}" for v in values), flush=True)


def rping(demo, server, client, address):
    """rdma_cm resolves the peer's RDMA address."""
    def run():
        there = server.spawn('rping -s -C 5')
        try:
            wait_listening(server)
            return client.run(f'rping -c -v -C 5 -a {address}', timeout=60).stdout.count('ping data')
        finally:
            there.kill()
    count = demo.try_to('rping', run)
    if count is not None:
        print(f"  {'rping':<16} {'rdma_cm connect, READ and WRITE':<34}{count:>14} pings between the guests",
              flush=True)


def run(demo):
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(guest.Network())
        host = guest.UmlHost('host', net, mem='3G')
        plain = guest.UmlGuest('plain', net, mem='512M')
        demo.say('booting a host and a plain machine, each with Soft-RoCE (a few s) ...')
        for machine in (host, plain):
            stack.callback(machine.stop)
            machine.start()
        for machine in (host, plain):
            machine.wait_ready()
            guest.soft_roce(machine)
        prepare(host, 1, 2, [(9, plain.ip)])
        plain.run(f'ip addr add {PLAIN_TCP}/32 dev lo; ip route add 10.77.1.0/24 via {host.ip}')
        plain.rdma_ip, plain.ip = plain.ip, PLAIN_TCP
        demo.say("the host's RDMA device: " + host.run('rdma link').stdout.strip())

        daemon = vrdmad(host)
        stack.callback(daemon.kill)
        demo.say('booting guests a and b on the host (emulated in it: about a minute) ...')
        devices = {name: guest.vhost_user_device(path) for name, path in SOCKETS.items()}
        a, b = stack.enter_context(NestedGuests(host, 1, devices))
        for g in (a, b):
            load(g)
        meet(a, b, plain)
        demo.try_to('ibv_devinfo', show_device, demo, a)

        demo.say('guest a talks to both:')
        programs(demo, a, [('plain machine (RoCE)', plain), ('guest b (memory)', b)])
        rping(demo, b, a, b.rdma_ip)
        counters = stats(host, 'a')
        print(f"\n  vrdmad's counters for guest a: {counters['qps_ibverbs']} queue pairs went by the host's "
              f"device, {counters['qps_memory']} by memory.", flush=True)
        problems = [line for g in (a, b, host, plain) for line in g.kernel_problems()]
        if problems:
            raise Failed('a kernel complained:\n' + '\n'.join(map(str, problems)))


def main():
    demo = Demo()
    try:
        run(demo)
    except (guest.GuestError, Failed) as error:
        print(f'\nFAILURE: {error}')
        return 1
    except KeyboardInterrupt:
        print('\ninterrupted: start it again, what was built stays')
        return 130
    return demo.verdict('over the host\'s RDMA device and by memory')


if __name__ == '__main__':
    sys.exit(main())
