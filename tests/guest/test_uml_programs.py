#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Unmodified programs of Debian between two UML guests, and the counters afterwards."""

import os
import re
import time

import pair
from pair import GID, between, cpu_ticks, hw_counters

PINGPONGS = ['ibv_rc_pingpong', 'ibv_rc_pingpong -e', 'ibv_ud_pingpong -s 1024', 'ibv_ud_pingpong -e -s 2048',
             'ibv_rc_pingpong -s 1000000 -n 100', 'ibv_uc_pingpong', 'ibv_uc_pingpong -e -s 100000',
             'ibv_srq_pingpong', 'ibv_srq_pingpong -e -q 16 -r 1000']

# Only one guest spins at a time if this can be chosen, because the host has few CPUs.
PERFTEST = ['ib_write_bw -a -n 200', 'ib_write_bw -s 64 -n 20000', 'ib_read_bw -a -n 200',
            'ib_send_bw -a -n 200', 'ib_atomic_bw -n 2000', 'ib_write_lat -n 500', 'ib_read_lat -n 500',
            'ib_send_lat -n 500', 'ib_atomic_lat -n 500', 'ib_send_bw -c UD -s 1024 -n 500',
            'ib_write_bw -q 16 -n 500', 'ib_read_bw -e -n 500', 'ib_send_bw -e -n 500',
            'ib_write_bw -R -n 500', 'ib_send_lat -c UD -n 500', 'ib_send_bw -b -n 300',
            'ib_write_bw -c UC -n 500', 'ib_send_bw -c UC -a -n 200', 'ib_send_lat -c UC -n 500',
            'ib_send_bw --use-srq -q 8 -n 500', 'ib_send_lat --use-srq -n 500',
            'ib_send_bw -c UD --use-srq -s 1024 -n 500']

RDMACM = ['rping -s -v -C 20|rping -c -v -C 20 -a', 'ucmatose|ucmatose -s', 'udaddy|udaddy -s',
          'rstream -S 4096|rstream -S 4096 -s']


def pingpong(a, b, command):
    out = between(a, b, f'{command} {GID}')
    if 'usec/iter' not in out:
        return f'no result line:\n{out}'


def perftest(a, b, command):
    out = between(a, b, f'{command} -F')
    # perftest prints "inf" if the load of the machine prevents it from measuring the CPU's
    # clock rate.
    rows = re.findall(r'^ (\d+)\s+(\d+)\s+([\d.]+|inf)', out, re.M)
    if not rows:
        return f'no result row:\n{out}'


def rdmacm(a, b, commands):
    server, client = commands.split('|')
    between(a, b, server, client)


def devinfo(a):
    out = a.run('ibv_devinfo -v').stdout
    wanted = {'SRQs': r'max_srq:\s+[1-9]', 'SRQ entries': r'max_srq_wr:\s+[1-9]',
              'SRQ SGEs': r'max_srq_sge:\s+[1-9]', 'state': r'state:\s+PORT_ACTIVE', 'GUID': r'node_guid:\s+(?!0000:0000:0000:0000)\w',
              'vendor_id': r'vendor_id:\s+0x(?!0000\b)\w', 'IPv4 GID': r'::ffff:192\.168\.77\.1.*RoCE v2',
              'link-local GID': r'fe80:.*RoCE v2', 'max_msg_sz': r'max_msg_sz:\s+0x[4-8]0000000',
              'link layer': r'link_layer:\s+Ethernet', 'speed': r'active_speed:\s+(?!invalid)',
              'width': r'active_width:\s+(?!invalid)', 'atomics': r'atomic_cap:\s+ATOMIC_(HCA|GLOB)',
              'MTU': r'active_mtu:\s+(1024|2048|4096)'}
    missing = [name for name, pattern in wanted.items() if not re.search(pattern, out)]
    return f"not as expected: {', '.join(missing)}\n{out}" if missing else None


def exit_free(a, b):
    """A polled ib_write_bw: no notification, doorbell call or interrupt per operation."""
    before = hw_counters(b)
    between(a, b, 'ib_write_bw -F -s 65536 -n 20000')
    after = hw_counters(b)
    grown = {k: after[k] - before[k] for k in after if k in before and k != 'lifespan'}
    if grown['write'] < 20000:
        return f'only {grown["write"]} writes were counted: {grown}'
    # Connecting and disconnecting take commands, each with an interrupt.  The first posts, up
    # to the queue's depth of 128, find the poller asleep or just waking up. None of these grows
    # with the number of operations.
    limits = {'notify': 5, 'kicks': 130, 'scans': 130, 'wakeup': 5, 'comp_irqs': 0,
              'comp_events': 0, 'interrupts': grown['commands']}
    over = {k: grown[k] for k, most in limits.items() if grown.get(k, 0) > most}
    print(f'# 20000 writes of 64 KiB: {grown}')
    return f'{over} grew with the operations: {grown}' if over else None


def idle(daemon, guests):
    """After traffic, no process uses CPU time: at most one tick in two seconds."""
    pids = {'vrdmad': daemon.pid, **{f'guest {g.name}': g.pid for g in guests}}
    time.sleep(2)
    before = {name: cpu_ticks(pid) for name, pid in pids.items()}
    time.sleep(4)
    used = {name: cpu_ticks(pid) - before[name] for name, pid in pids.items()}
    hz = os.sysconf('SC_CLK_TCK')
    busy = {name: f'{100 * n / hz / 4:.1f} %' for name, n in used.items()
            if n > hz * 4 * (0.005 if name == 'vrdmad' else 0.02)}
    print(f'# CPU ticks (1/{hz} s) in 4 s: {used}')
    return f'not idle: {busy}' if busy else None


def main():
    tap = pair.Tap()
    # Other processes may need the CPUs during this test; the poller stays awake nevertheless.
    with pair.uml_guests(tap, daemon_args=['--poll-us', '1000000', '--poll-fixed']) as (_, (a, b)):
        tap.run('no notification, doorbell call or interrupt per operation', exit_free, a, b)
    with pair.uml_guests(tap) as (daemon, guests):
        a, b = guests
        tap.run('ibv_devinfo -v: what programs look at', devinfo, a)
        for command in PINGPONGS:
            tap.run(command, pingpong, a, b, command)
        for command in PERFTEST:
            tap.run(command, perftest, a, b, command)
        for commands in RDMACM:
            tap.run(commands.split('|')[0], rdmacm, a, b, commands)
        tap.run('idle vrdmad and guests use no CPU', idle, daemon, guests)
    tap.end()


main()
