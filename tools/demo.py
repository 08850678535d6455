#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""make demo: Debian guests do RDMA to each other, with Debian's own programs.

    tools/demo.py [--device vhost-user-rdma-pci|virtio-rdma-pci]

vhost-user-rdma-pci: two guests of one vrdmad. virtio-rdma-pci: one guest with the device inside
QEMU; its programs communicate with each other over it. Each figure is compared with that of
Soft-RoCE (rdma_rxe) or TCP in the same guests.
"""

import argparse
import contextlib
import re
import sys
import time

import guest
from guestlib.rdma import between, load

MACS = ['52:54:00:12:00:0a', '52:54:00:12:00:0b']

# name, options, what it shows, unit.  The counts are small: without KVM the guests
# are emulated.
PINGPONG = [('ibv_rc_pingpong', '-n 500', 'SEND and RECV, reliable connection'),
            ('ibv_ud_pingpong', '-n 500', 'SEND and RECV, datagrams')]
PERFTEST = [('ib_write_bw', '-n 1000', 'RDMA WRITE, 64 KiB each', 'MiB/s'),
            ('ib_read_bw', '-n 1000', 'RDMA READ, 64 KiB each', 'MiB/s'),
            ('ib_send_bw', '-n 500', 'SEND, 64 KiB each', 'MiB/s'),
            ('ib_atomic_bw', '-n 1000', 'fetch-and-add, 8 bytes', 'Mops/s'),
            ('ib_write_lat', '-n 500', 'RDMA WRITE, 2 bytes, there', 'us')]


class Failed(Exception):
    pass


class Demo:
    def __init__(self):
        self.start = time.monotonic()
        self.failures = []

    def say(self, text):
        print(f'[{time.monotonic() - self.start:4.0f} s] {text}', flush=True)

    def try_to(self, what, action, *args):
        """Runs one program. Prints a failure at once and again at the end."""
        try:
            return action(*args)
        except (guest.GuestError, Failed) as error:
            lines = str(error).strip().splitlines()
            self.failures.append(what)
            print(f'  {what:<16} FAILED: {lines[0]}', flush=True)
            for line in lines[1:30]:
                print('      ' + line, flush=True)
            return None

    def verdict(self, how):
        """Prints the last line; returns the exit status."""
        if self.failures:
            print(f"\nFAILURE: {', '.join(self.failures)} did not work: see above")
            return 1
        print(f'\nSUCCESS: unmodified programs did RDMA {how} '
              f'({time.monotonic() - self.start:.0f} s). An interactive guest: make shell GUEST=qemu')
        return 0


def pingpong_us(out):
    found = re.search(r'iters in [\d.]+ seconds = ([\d.]+) usec/iter', out)
    if not found:
        raise Failed(f'no result in:\n{out}')
    return float(found.group(1)) / 2


def perftest_value(out, unit):
    """Average of perftest's result row: the columns are bytes, iterations, then peak
    and average bandwidth and rate, or minimum, maximum and typical latency."""
    rows = re.findall(r'^ \d+\s+\d+\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)', out, re.M)
    if not rows:
        raise Failed(f'no result row in:\n{out}')
    return float(rows[-1][{'MiB/s': 1, 'Mops/s': 2, 'us': 2}[unit]])


def measure(server, client, ident):
    """Runs all programs over one ib_device. Returns {name: value}, without those that failed."""
    values = {}
    for name, options, _ in PINGPONG:
        with contextlib.suppress(guest.GuestError, Failed):
            values[name] = pingpong_us(between(server, client, f'{name} -d {ident} -g 1 {options}'))
    for name, options, _, unit in PERFTEST:
        with contextlib.suppress(guest.GuestError, Failed):
            values[name] = perftest_value(between(server, client, f'{name} -F -d {ident} {options}'), unit)
    return values


def soft_roce(demo, server, client):
    """The same programs over Soft-RoCE on the same Ethernet devices."""
    try:
        for g in {id(g): g for g in (server, client)}.values():
            g.run('modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0 && '
                  'for i in $(seq 50); do grep -q ffff /sys/class/infiniband/rxe0/ports/1/gids/1 && '
                  'exit 0; sleep 0.1; done; exit 1')
    except guest.GuestError as error:
        demo.say(f'Soft-RoCE does not run in these guests: {str(error).splitlines()[0]}')
        return {}
    values = measure(server, client, 'rxe0')
    missing = [name for name, *_ in PINGPONG + PERFTEST if name not in values]
    if missing:
        demo.say(f"Soft-RoCE did not finish: {', '.join(missing)}")
    return values


def tcp(server, client):
    """qperf's TCP bandwidth and latency: {'bw': MiB/s, 'lat': us}, or nothing."""
    there = server.spawn('qperf')
    try:
        out = client.run(f'sleep 1; qperf -t 2 {server.ip} tcp_bw tcp_lat', timeout=60).stdout
    except guest.GuestError:
        return {}
    finally:
        there.kill()
    scale = {'GB/sec': 1e9, 'MB/sec': 1e6, 'KB/sec': 1e3, 'bytes/sec': 1, 'ms': 1e3, 'us': 1, 'ns': 1e-3}
    found = re.findall(r'(bw|latency)\s+=\s+([\d.]+) (\S+)', out)
    return {('bw' if kind == 'bw' else 'lat'):
            float(number) * scale[unit] / ((1 << 20) if kind == 'bw' else 1)
            for kind, number, unit in found if unit in scale}


def number(value):
    """Formats three digits, with separators for thousands."""
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def row(what, name, value, unit, reference, beside):
    if value is None:
        return
    text = f'  {name:<16} {what:<34} {number(value):>9} {unit:<6}'
    if reference:
        better = value / reference if unit != 'us' else reference / value
        text += f'{number(reference):>9} {unit:<6} {beside:<9} {number(better):>7} x'
    print(text, flush=True)


def show_device(demo, g):
    out = g.run('ibv_devinfo -v').stdout
    demo.say(f'ibv_devinfo -v in guest {g.name}:')
    for pattern in (r'hca_id:.*', r'\s+node_guid:.*', r'\s+vendor_id:.*', r'\s+max_qp:.*', r'\s+max_mr_size:.*',
                    r'\s+atomic_cap:.*', r'\s+state:.*', r'\s+active_mtu:.*', r'\s+link_layer:.*', r'\s+GID\[.*'):
        for line in re.findall(f'^{pattern}$', out, re.M):
            print('      ' + line.strip('\n').expandtabs(8), flush=True)
    if 'PORT_ACTIVE' not in out:
        raise Failed('the port is not active')


def counters(g):
    text = g.run('cd /sys/class/infiniband/vrdma0/hw_counters && grep . *').stdout
    return {k: int(v) for k, v in (line.split(':') for line in text.split())}


def programs(demo, server, client):
    load(server)
    load(client)
    demo.try_to('ibv_devinfo', show_device, demo, server)

    demo.say('the same programs over Soft-RoCE and TCP in these guests first (about a minute) ...')
    reference = soft_roce(demo, server, client)
    sockets = tcp(server, client)

    demo.say('now over virtio-rdma:')
    print(f"\n  {'program':<16} {'what it does':<34} {'virtio-rdma':>15} {'in the same guests':>25} {'better':>8}", flush=True)
    before = counters(client)
    for name, options, what in PINGPONG:
        value = demo.try_to(name, lambda n=name, o=options: pingpong_us(
            between(server, client, f'{n} -d vrdma0 -g 1 {o}')))
        row(what, name, value, 'us', reference.get(name), 'Soft-RoCE')
    for name, options, what, unit in PERFTEST:
        value = demo.try_to(name, lambda n=name, o=options, u=unit: perftest_value(
            between(server, client, f'{n} -F -d vrdma0 {o}'), u))
        beside = 'Soft-RoCE'
        known = reference.get(name)
        if known is None and unit != 'Mops/s':
            known, beside = sockets.get('bw' if unit == 'MiB/s' else 'lat'), 'TCP'
        row(what, name, value, unit, known, beside)
    out = demo.try_to('rping', between, server, client, 'rping -s -v -C 10', 'rping -c -v -C 10 -a')
    if out is not None:
        print(f"  {'rping':<16} {'rdma_cm connect, READ and WRITE':<34} {out.count('ping data'):>9} pings",
              flush=True)
    after = counters(client)
    grown = {k: after[k] - before[k] for k in after}
    requests = sum(grown[k] for k in ('send', 'write', 'read', 'atomic'))
    print(f"\n  The client's device carried out {requests} work requests with {grown['kicks']} notifications "
          f"to the host\n  and {grown['comp_irqs']} completion interrupts. (A poller that shares its CPU with the guests "
          f"sleeps\n  between requests, and each wake-up takes a notification; with a CPU of its own it needs none.)",
          flush=True)


def two_guests(demo):
    with contextlib.ExitStack() as stack:
        daemon = guest.Vrdmad([f'{n},mac={m}' for n, m in zip('ab', MACS)]).start()
        stack.callback(daemon.stop)
        net = stack.enter_context(guest.Network())
        guests = [guest.QemuGuest(f'guest-{n}', net, mac=m, devices=guest.vhost_user_device(s))
                  for n, m, s in zip('ab', MACS, daemon.sockets)]
        demo.say(f'booting two Debian 13 guests in front of one vrdmad ({guests[0].accel}: about '
                 f"{'5' if guests[0].accel == 'kvm' else '20'} s) ...")
        for g in guests:
            stack.callback(g.stop)
            g.start()
        for g in guests:
            g.wait_ready()
            demo.say(f'{g.name} is up at {g.ip}: Linux {g.run("uname -r").stdout.strip()}')
        demo.say('modprobe virtio_rdma in both')
        programs(demo, *guests)
        problems = [line for g in guests for line in g.kernel_problems()]
        if problems:
            raise Failed('a guest kernel complained:\n' + '\n'.join(map(str, problems)))


def one_guest(demo):
    with guest.Network() as net:
        device = ['-device', f'virtio-rdma-pci,mac={MACS[0]}']
        g = guest.QemuGuest('guest-a', net, mac=MACS[0], devices=device)
        demo.say(f'booting one Debian 13 guest with -device virtio-rdma-pci ({g.accel}) ...')
        with g:
            demo.say(f'{g.name} is up at {g.ip}: Linux {g.run("uname -r").stdout.strip()}')
            demo.say('modprobe virtio_rdma')
            programs(demo, g, g)
            problems = g.kernel_problems()
            if problems:
                raise Failed('the guest kernel complained:\n' + '\n'.join(map(str, problems)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--device', default='vhost-user-rdma-pci',
                        choices=['vhost-user-rdma-pci', 'virtio-rdma-pci'])
    args = parser.parse_args()
    demo = Demo()
    try:
        (two_guests if args.device == 'vhost-user-rdma-pci' else one_guest)(demo)
    except (guest.GuestError, Failed) as error:
        print(f'\nFAILURE: {error}')
        return 1
    except KeyboardInterrupt:
        print('\ninterrupted: start it again, what was built stays')
        return 130
    return demo.verdict(f'over {args.device}')


if __name__ == '__main__':
    sys.exit(main())
