# SPDX-License-Identifier: GPL-2.0-or-later
"""Cost of control: objects and regions (vrdma-control, in in-guest/), and connections by
rdma_cm (Debian's cmtime), in two UML guests, compared with Soft-RoCE; regions on huge pages in
a QEMU guest, because UML has no huge pages."""

import collections
import re

import guest
import pair
from guestlib import uml
from perftest import BESIDE, OURS, THEIRS
from results import Trouble

CONNECTIONS = 100
SIZES = {'4 KiB': 4 << 10, '64 KiB': 64 << 10, '1 MiB': 1 << 20, '16 MiB': 16 << 20, '256 MiB': 256 << 20,
         '1 GiB': 1 << 30}


def run(results, say, quick):
    rounds = 3
    say('control: two UML guests on one vrdmad ...')
    # UML maps a guest's pages by the host's mmap(), and a process may have 65,530 mappings. So
    # the large region is created while the guest's memory is fresh, in long runs of pages.
    with pair.uml_guests(results, mem='3G') as (_, (a, b)):
        for g in (a, b):
            uml.soft_roce(g)
        objects(results, say, b, rounds, 100 if quick else 300)
        connections(results, say, a, b, rounds)
    try:
        huge_pages(results, say, 100 if quick else 500)
    except guest.GuestError as error:
        results.fail('control on huge pages', error)


def vrdma_control(g, devices, options):
    """{(name, device): [us, one for each round]}"""
    out = g.run('vrdma-control ' + ' '.join(f'-d {d}' for d in devices) + f' {options}', timeout=600).stdout
    samples = collections.defaultdict(list)
    for device, name, us in re.findall(r'^(\S+) (\S+) ([\d.]+)$', out, re.M):
        samples[name, device].append(float(us))
    if not samples:
        raise Trouble(f'vrdma-control said:\n{out}')
    return samples


def objects(results, say, g, rounds, milliseconds):
    say('objects and regions')
    samples = vrdma_control(g, (OURS, THEIRS), f'-n {rounds} -t {milliseconds}')
    for kind in ('cq', 'qp'):
        rates = {device: [1e6 / (c + d) for c, d in zip(samples[f'create_{kind}', device],
                                                       samples[f'destroy_{kind}', device])]
                 for device in (OURS, THEIRS)}
        results.compare(f'control.{kind}.create_and_destroy', rates[OURS], rates[THEIRS], '1/s', BESIDE)
    for verb in ('reg_mr', 'dereg_mr'):
        for label, size in SIZES.items():
            results.compare(f"control.{verb}.{label.replace(' ', '')}", samples[f'{verb}.{size}', OURS],
                            samples[f'{verb}.{size}', THEIRS], 'us', BESIDE, True)


# ---- connections ---------------------------------------------------------------------

UNBIND = 'echo virtio0 >/sys/bus/virtio/drivers/virtio_rdma/unbind'
BIND = 'echo virtio0 >/sys/bus/virtio/drivers/virtio_rdma/bind'
READY = 'for i in $(seq 100); do grep -qs ffff:c0a8 /sys/class/infiniband/*/ports/1/gids/1 && exit 0; sleep 0.1; done; exit 1'


def choose(guests, device):
    """rdma_cm uses the device that has the address, so only one device is present."""
    for g in guests:
        if device == OURS:
            g.run(f'rdma link delete {THEIRS}; {BIND}; {READY}')
        else:
            g.run(f'{UNBIND}; rdma link show | grep -q {THEIRS} || rdma link add {THEIRS} type rxe netdev eth0; {READY}')


def cmtime(server, client, count):
    """Connections per second, from creating the id to an established connection: the rate of
    all together, as the client measures it."""
    there = server.spawn(f'cmtime -c {count}')
    try:
        # It listens for TCP on port 7471 (0x1d2f) as soon as its RDMA listener exists.
        server.run("for i in $(seq 200); do grep -qE ':1D2F .* 0A' /proc/net/tcp /proc/net/tcp6 && exit 0; "
                   'sleep 0.05; done; exit 1')
        out = client.run(f'cmtime -c {count} -s {server.ip}', timeout=120).stdout
        there.wait(timeout=60)
    finally:
        there.kill()
    found = re.search(r'^full connect\s+(\d+)\s+(\d+)', out, re.M)
    if not found or not int(found.group(2)):
        raise Trouble(f'no result in:\n{out}')
    return count * 1e6 / int(found.group(2))


def connections(results, say, a, b, rounds):
    samples = {OURS: [], THEIRS: []}
    for n in range(rounds):
        say(f'connections by rdma_cm, round {n + 1} of {rounds}')
        for device, values in samples.items():
            choose((a, b), device)
            values.append(cmtime(a, b, CONNECTIONS))
    results.compare('control.rdma_cm.connections', samples[OURS], samples[THEIRS], '1/s', BESIDE)


# ---- huge pages ------------------------------------------------------------------------

def huge_pages(results, say, milliseconds):
    """The ratio is the time on small pages to that on huge pages. Emulated without KVM, so only
    the ratio is meaningful."""
    daemon = guest.Vrdmad([f'huge,mac={pair.MACS[0]}']).start()
    try:
        with guest.Network() as net, \
             guest.QemuGuest('huge', net, mac=pair.MACS[0], ip=pair.IPS[0], mem='4G',
                             devices=guest.vhost_user_device(daemon.sockets[0])) as g:
            say(f'regions on huge pages, in a QEMU guest ({g.accel})')
            g.run('echo 520 >/proc/sys/vm/nr_hugepages')
            pair.load(g)
            small = vrdma_control(g, [OURS], f'-n 3 -t {milliseconds}')
            huge = vrdma_control(g, [OURS], f'-n 3 -t {milliseconds} -H')
            problems = g.kernel_problems()
    finally:
        daemon.stop()
    if problems:
        results.fail('control on huge pages', '\n'.join(problems))
    for label, size in SIZES.items():
        results.compare(f"control.reg_mr.{label.replace(' ', '')}.huge_pages", huge[f'reg_mr.{size}', OURS],
                        small[f'reg_mr.{size}', OURS], 'us', f'small pages ({g.accel})', True)
