# SPDX-License-Identifier: GPL-2.0-or-later
"""Two UML guests on one vrdmad: Debian's perftest over virtio-rdma, over Soft-RoCE on the
Ethernet devices of the same guests, and TCP by qperf.

Runs of ours and of the reference take turns, so that both see the same moments of the
machine; what is reported is the median of each."""

import collections
import os
import statistics

import pair
from guestlib import uml
from perftest import BESIDE, OURS, THEIRS, only, perftest, qperf
from results import number

DEVICES = (OURS, THEIRS)
TCP_SIZES = [2 << (2 * n) for n in range(12)]        # 2 B to 8 MiB
MIB = 1 << 20


def run(results, say, quick):
    rounds = 3 if quick else 5
    seconds = 1 if quick else 2
    say('two UML guests on one vrdmad ...')
    with pair.uml_guests(results) as (daemon, (a, b)):
        for g in (a, b):
            uml.soft_roce(g)
        headline(results, say, a, b, rounds, seconds)
        curves(results, say, a, b, 1 if quick else 3)
        events(results, say, daemon, a, b, 3, 'poller as it is by default')
    say('with a poller that always sleeps (--poll-us 0) ...')
    with pair.uml_guests(results, daemon_args=['--poll-us', '0']) as (daemon, (a, b)):
        events(results, say, daemon, a, b, 3, None)


# ---- one size ---------------------------------------------------------------------

# name, command, column of perftest, unit, factor, target (of the ratio)
def figures(seconds):
    duration = f'-D {seconds}'
    return [('guests.rate.write_64B', f'ib_write_bw -s 64 {duration}', 'rate', 'M/s', 1, '>= 50'),
            ('guests.bandwidth.write_64K', f'ib_write_bw -s 65536 {duration}', 'average', 'MiB/s', 1, '>= 20'),
            ('guests.bandwidth.read_64K', f'ib_read_bw -s 65536 {duration}', 'average', 'MiB/s', 1, None),
            ('guests.bandwidth.send_64K', f'ib_send_bw -s 65536 {duration}', 'average', 'MiB/s', 1, None),
            ('guests.latency.read_8B', 'ib_read_lat -s 8 -n 2000', 'typical', 'us', 1, None),
            ('guests.latency.atomic_8B', 'ib_atomic_lat -n 2000', 'typical', 'us', 1, None),
            ('guests.latency.write_8B', 'ib_write_lat -s 8 -n 2000', 'typical', 'us', 1, None),
            ('guests.latency.send_8B', 'ib_send_lat -s 8 -n 2000', 'typical', 'us', 1, None)]


def headline(results, say, a, b, rounds, seconds):
    wanted = figures(seconds)
    samples = collections.defaultdict(list)
    average = collections.defaultdict(list)
    for n in range(rounds):
        say(f'one size, round {n + 1} of {rounds}')
        for name, command, column, *_ in wanted:
            for device in DEVICES:
                row = only(a, b, device, command)
                samples[name, device].append(row[column])
                average[name, device].append(row['average'])
    for name, _, column, unit, _, target in wanted:
        lower = unit == 'us'
        note = None
        if lower:
            note = 'averages {} and {} us'.format(*(number(statistics.median(average[name, d])) for d in DEVICES))
        results.compare(name, samples[name, OURS], samples[name, THEIRS], unit, BESIDE, lower, target, note)


# ---- over message size -------------------------------------------------------------

def curves(results, say, a, b, rounds):
    """For the plot. Soft-RoCE gets fewer iterations, or it would take minutes."""
    bandwidth = collections.defaultdict(list)
    latency = collections.defaultdict(list)
    for n in range(rounds):
        say(f'message sizes 2 B to 8 MiB, round {n + 1} of {rounds}')
        for device, count in ((OURS, 1000), (THEIRS, 40)):
            for size, row in perftest(a, b, device, f'ib_write_bw -a -n {count}', 300).items():
                bandwidth[device, size].append(row['average'] * MIB / 1e9)
            for size, row in perftest(a, b, device, f'ib_read_lat -a -n {count}', 300).items():
                latency[device, size].append(row['typical'])
    say('TCP')
    for size, value in qperf(a, b, 'tcp_bw', TCP_SIZES, 1).items():
        bandwidth['tcp', size].append(value / 1e9)
    for size, value in qperf(a, b, 'tcp_lat', TCP_SIZES, 1).items():
        latency['tcp', size].append(value)
    for kind, unit, samples in (('bandwidth', 'GB/s', bandwidth), ('latency', 'us', latency)):
        for (device, size), values in samples.items():
            results.add(f'guests.curve.{kind}.{device}.{size}', statistics.median(values), unit)
    for kind, unit, samples, size in (('bandwidth', 'GB/s', bandwidth, 32768), ('latency', 'us', latency, 8)):
        results.compare(f'guests.{kind}.{size}B.tcp', samples[OURS, size], samples['tcp', size], unit,
                        'TCP by qperf', kind == 'latency')


# ---- sleeping ------------------------------------------------------------------------

# A difference of two runs, so that starting the programs does not count. Soft-RoCE takes
# longer for each message.
FEW = 500
MANY = {OURS: 20500, THEIRS: 5500}


def cpu_us(daemon, a, b):
    ticks = sum(pair.cpu_ticks(pid) for pid in (daemon.pid, a.pid, b.pid))
    return ticks * 1e6 / os.sysconf('SC_CLK_TCK')


def cost(daemon, a, b, device, options):
    """ib_send_lat: (latency in us, CPU of vrdmad and both guests in us per message)."""
    used = []
    for count in (FEW, MANY[device]):
        before = cpu_us(daemon, a, b)
        row = only(a, b, device, f'ib_send_lat -s 8 -n {count} {options}')
        used.append(cpu_us(daemon, a, b) - before)
    # an iteration is a message there and one back
    return row['typical'], (used[1] - used[0]) / (MANY[device] - FEW) / 2


def events(results, say, daemon, a, b, rounds, poller):
    """Programs that wait for completion events (-e), and beside it those that poll."""
    name = 'guests.events' if poller else 'guests.events.sleeping_poller'
    kinds = [(name, OURS, '-e')]
    if poller:
        kinds += [(name, THEIRS, '-e'), ('guests.polling', OURS, ''), ('guests.polling', THEIRS, '')]
    latency = collections.defaultdict(list)
    cpu = collections.defaultdict(list)
    for n in range(rounds):
        say(f'CPU used, round {n + 1} of {rounds}')
        for kind, device, options in kinds:
            one, used = cost(daemon, a, b, device, options)
            latency[kind, device].append(one)
            cpu[kind, device].append(used)
    for kind in dict.fromkeys(k[0] for k in kinds):
        results.compare(f'{kind}.send_8B.latency', latency[kind, OURS], latency[kind, THEIRS], 'us', BESIDE, True)
        results.compare(f'{kind}.send_8B.cpu_per_message', cpu[kind, OURS], cpu[kind, THEIRS], 'us', BESIDE, True,
                        note='user and system time of vrdmad and both guests')
