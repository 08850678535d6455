# SPDX-License-Identifier: GPL-2.0-or-later
"""Two UML guests on one vrdmad: Debian's perftest over virtio-rdma, over Soft-RoCE on the
Ethernet devices of the same guests, and TCP by qperf.

Runs of the device and of the reference alternate, so that changes of the machine's speed affect
both. The median of each is reported."""

import collections
import os
import statistics

import pair
from guestlib import uml
from perftest import BESIDE, OURS, THEIRS, only, perftest, qperf
from results import number

TCP_SIZES = [2 << (2 * n) for n in range(12)]        # 2 B to 8 MiB


def run(results, say, quick):
    rounds = 3 if quick else 5
    # Guests are assigned to the CPUs in turn. The poller is pinned to the first CPU, which is
    # the server's: it is idle unless both sides spin. The host's scheduler would also place it
    # there, as long as that CPU is idle when the poller wakes up.
    cpu = sorted(os.sched_getaffinity(0))[0]
    say(f'two UML guests on one vrdmad, its poller on CPU {cpu} ...')
    with pair.uml_guests(results, daemon_args=['--poller-cpus', str(cpu)]) as (daemon, (a, b)):
        for g in (a, b):
            uml.soft_roce(g)
        headline(results, say, a, b, rounds)
        curves(results, say, a, b, 1 if quick else 3)
        events(results, say, daemon, a, b, 3, 'guests.events', True)
    say('with a poller that always sleeps (--poll-us 0) ...')
    with pair.uml_guests(results, daemon_args=['--poll-us', '0']) as (daemon, (a, b)):
        events(results, say, daemon, a, b, 3, 'guests.events.sleeping_poller', False)


# ---- one size ---------------------------------------------------------------------

# name, command, iterations of the device and of Soft-RoCE, column of perftest, unit, target (of
# the ratio). The number of iterations takes a second or so. A duration (-D) is not used,
# because requests of Soft-RoCE that are in flight at its end disturb the CPU's cycle counter,
# which perftest calibrates at the end.
FIGURES = [('guests.rate.write_64B', 'ib_write_bw -N -s 64', 1000000, 10000, 'rate', 'M/s', '>= 50'),
           ('guests.bandwidth.write_64K', 'ib_write_bw -N -s 65536', 50000, 500, 'average', 'MiB/s', '>= 20'),
           ('guests.bandwidth.read_64K', 'ib_read_bw -N -s 65536', 50000, 500, 'average', 'MiB/s', None),
           ('guests.bandwidth.send_64K', 'ib_send_bw -N -s 65536', 20000, 500, 'average', 'MiB/s', None),
           ('guests.latency.read_8B', 'ib_read_lat -s 8', 5000, 2000, 'typical', 'us', None),
           ('guests.latency.atomic_8B', 'ib_atomic_lat', 5000, 2000, 'typical', 'us', None),
           ('guests.latency.write_8B', 'ib_write_lat -s 8', 5000, 2000, 'typical', 'us', None),
           ('guests.latency.send_8B', 'ib_send_lat -s 8', 5000, 2000, 'typical', 'us', None)]


def headline(results, say, a, b, rounds):
    samples = collections.defaultdict(list)
    average = collections.defaultdict(list)
    for n in range(rounds):
        say(f'one size, round {n + 1} of {rounds}')
        for name, command, ours, theirs, column, *_ in FIGURES:
            for device, count in ((OURS, ours), (THEIRS, theirs)):
                row = only(a, b, device, f'{command} -n {count}')
                if row:
                    samples[name, device].append(row[column])
                    average[name, device].append(row['average'])
    for name, *_, unit, target in FIGURES:
        note = None
        if unit == 'us' and average[name, THEIRS]:
            note = 'typical; averages {} and {} us'.format(
                *(number(statistics.median(average[name, d])) for d in (OURS, THEIRS)))
        results.compare(name, samples[name, OURS], samples[name, THEIRS], unit, BESIDE, unit == 'us', target, note)


# ---- over message size -------------------------------------------------------------

def curves(results, say, a, b, rounds):
    """For the plot. Soft-RoCE gets fewer iterations, because it would take minutes."""
    bandwidth = collections.defaultdict(list)
    latency = collections.defaultdict(list)
    for n in range(rounds):
        say(f'message sizes 2 B to 8 MiB, round {n + 1} of {rounds}')
        for device, count in ((OURS, 1000), (THEIRS, 40)):
            for size, row in perftest(a, b, device, f'ib_write_bw -a -n {count}', 300).items():
                bandwidth[device, size].append(row['rate'] * size / 1e3)
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

# The difference of two runs, so that start-up is not included. Soft-RoCE takes longer for each
# message.
FEW = 500
MANY = {OURS: 20500, THEIRS: 5500}


def cpu_us(daemon, a, b):
    ticks = sum(pair.cpu_ticks(pid) for pid in (daemon.pid, a.pid, b.pid))
    return ticks * 1e6 / os.sysconf('SC_CLK_TCK')


def cost(daemon, a, b, device, options):
    """ib_send_lat: (latency in us, CPU of vrdmad and both guests in us per message), or None."""
    used = []
    for count in (FEW, MANY[device]):
        before = cpu_us(daemon, a, b)
        row = only(a, b, device, f'ib_send_lat -s 8 -n {count} {options}', 60)
        if not row:
            return None
        used.append(cpu_us(daemon, a, b) - before)
    # an iteration is a message in each direction
    return row['typical'], (used[1] - used[0]) / (MANY[device] - FEW) / 2


def events(results, say, daemon, a, b, rounds, name, beside):
    """Programs that wait for completion events (-e), compared with Soft-RoCE and with programs
    that poll."""
    kinds = [(name, OURS, '-e')]
    if beside:
        kinds += [(name, THEIRS, '-e'), ('guests.polling', OURS, ''), ('guests.polling', THEIRS, '')]
    latency = collections.defaultdict(list)
    cpu = collections.defaultdict(list)
    for n in range(rounds):
        say(f'CPU used, round {n + 1} of {rounds}')
        for kind, device, options in kinds:
            measured = cost(daemon, a, b, device, options)
            if measured:
                latency[kind, device].append(measured[0])
                cpu[kind, device].append(measured[1])
    for kind in dict.fromkeys(k[0] for k in kinds):
        results.compare(f'{kind}.send_8B.latency', latency[kind, OURS], latency[kind, THEIRS], 'us', BESIDE, True)
        results.compare(f'{kind}.send_8B.cpu_per_message', cpu[kind, OURS], cpu[kind, THEIRS], 'us', BESIDE, True,
                        note='user and system time of vrdmad and both guests')
