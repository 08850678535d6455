#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the guest driver in UML: KUnit, a kernel user of verbs, its life cycle, its netdev,
and a device that stops responding."""

import os
import re
import shutil
import signal
import time

import pair
from pair import GID, KERNEL, between

BUS = '/sys/bus/virtio/drivers/virtio_rdma'
UNBIND = f'echo virtio0 > {BUS}/unbind'
BIND = f'echo virtio0 > {BUS}/bind'

# Seconds without any answer after which the driver gives the device up.
COMMAND_LIMIT = 30

# Polls, and runs until its device is removed.
POLLING = 'ib_write_bw -F -D 60'


def kernel_log(g):
    return g.run('dmesg').stdout


def wait_log(g, text, count, timeout=20):
    """Waits until the kernel has logged text that often."""
    deadline = time.monotonic() + timeout
    while kernel_log(g).count(text) < count:
        if time.monotonic() > deadline:
            return f'"{text}" was not logged {count} times:\n{kernel_log(g)[-3000:]}'
        time.sleep(0.2)
    return None


def wait_state(g, state, timeout=10):
    deadline = time.monotonic() + timeout
    while f'state {state}' not in g.run('rdma link').stdout:
        if time.monotonic() > deadline:
            return f'the port is not {state}: ' + g.run('rdma link').stdout
        time.sleep(0.1)
    return None


def kunit(tap, g):
    out = g.run('insmod /vrdma/vrdma_kunit.ko; mkdir -p /sys/kernel/debug;'
                ' [ -d /sys/kernel/debug/kunit ] || mount -t debugfs none /sys/kernel/debug;'
                ' cat /sys/kernel/debug/kunit/virtio_rdma_*/results', timeout=120).stdout
    suite = 'kunit'
    for line in out.splitlines():
        if found := re.match(r' *# Subtest: virtio_rdma_(\w+)', line):
            suite = f'kunit {found[1]}'
        elif found := re.match(r'    (ok|not ok) \d+ (\S+)', line):
            tap.report(f'{suite}: {found[2]}', None if found[1] == 'ok' else out)
    if suite == 'kunit':
        tap.report(suite, f'no results:\n{out}')


def kverbs(g):
    g.run('insmod /vrdma/vrdma_kverbs.ko hold=1', timeout=60)
    log = kernel_log(g)
    # The device has fast registration: it must not be skipped.
    if 'fast registration: PASS' not in log:
        return f'no fast registration:\n{log[-3000:]}'
    return None if 'vrdma0: PASS' in log else log[-3000:]


def ksrq(g):
    g.run('insmod /vrdma/vrdma_ksrq.ko && rmmod vrdma_ksrq', timeout=120)
    log = kernel_log(g)
    return None if 'vrdma_ksrq: vrdma0: PASS' in log else log[-3000:]


def requests(tap, g):
    """Requests of a process that the provider does not send."""
    done = g.run('vrdma-requests', timeout=60, check=False)
    tap.relay('requests', done.stdout)
    tap.report('requests: ends well', f'status {done.rc}' if done.rc else None)


def counts(g):
    """Number of passes of the kernel user in which all its receives were flushed."""
    log = kernel_log(g)
    return log.count('vrdma0: PASS'), log.count('drained, 16 receives')


def rebind(g):
    """The device is removed and added while a kernel user and processes use it."""
    passed, drained = counts(g)
    for i in range(5):
        server = g.spawn(f'ibv_rc_pingpong {GID}')
        watch = g.spawn('ibv_asyncwatch -d vrdma0')
        watch.wait_output('async event FD')
        g.run(UNBIND, timeout=60)
        if 'vrdma' in g.run('ls /sys/class/infiniband').stdout:
            return 'the RDMA device is still there'
        if 'DEVICE_FATAL' not in watch.output():
            return f'no DEVICE_FATAL for a process:\n{watch.output()}'
        server.kill('KILL')
        watch.kill('KILL')
        g.run(BIND, timeout=60)
        problem = wait_log(g, 'vrdma0: PASS', passed + i + 1)
        if problem:
            return problem
    return wait_log(g, 'drained, 16 receives', drained + 5)


def ends_by_itself(program, timeout=20):
    """The requests of a program whose device is removed are flushed, and the program ends."""
    result = program.wait(timeout=timeout, check=False)
    if result.rc == 0 or result.rc > 128:
        return f'{program.text}: status {result.rc}\n{result.stdout}'
    if 'error' not in result.stdout.lower() and 'fail' not in result.stdout.lower():
        return f'{program.text}: no word of an error\n{result.stdout}'
    return None


def unbind_under_traffic(a, b, command, victim_serves=False):
    """Programs that only poll notice that a's device is removed."""
    server, client = (a, b) if victim_serves else (b, a)
    there = server.spawn(command)
    try:
        pair.wait_listening(server)
        here = client.spawn(f'{command} {server.ip}')
        pair.wait_connected(client, 'ib_')
        time.sleep(1)
        if not (here.running() and there.running()):
            return f'ended too early:\n{here.output()}{there.output()}'
        a.run(UNBIND, timeout=60)
        problem = ends_by_itself(there if victim_serves else here)
        here.kill()
    finally:
        there.kill()
        a.run(BIND, timeout=60)
        pair.load(a)
    return problem


def silent_device(tap, daemon, a, b):
    """vrdmad stops for longer than the driver waits for an answer, so the driver gives the
    device up. It is reset when vrdmad continues (UML waits for that). Only then users are
    notified and get their memory back."""
    passed, drained = counts(a)
    watch = a.spawn('ibv_asyncwatch -d vrdma0')
    watch.wait_output('async event FD')
    server = b.spawn(POLLING)
    pair.wait_listening(b)
    client = a.spawn(f'{POLLING} {b.ip}')
    pair.wait_connected(a, 'ib_write_bw')
    events = a.spawn('vrdma-deadevents')
    events.wait_output('# ready')
    time.sleep(1)
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        late = a.spawn('echo 1 > /sys/module/vrdma_kverbs/parameters/late')
        command = a.spawn('ibv_devinfo')
        time.sleep(COMMAND_LIMIT + 6)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    problem = ends_by_itself(client, timeout=60)
    server.kill()
    if problem:
        return problem
    if command.wait(timeout=30, check=False).rc == 0:
        return f'a command on a silent device succeeded:\n{command.output()}'
    late.wait(timeout=120, check=False)
    if 'late: PASS' not in kernel_log(a):
        return f'the device wrote to memory that was given back:\n{kernel_log(a)[-2000:]}'
    done = events.wait(timeout=60, check=False)
    tap.relay('events of a dead device', done.stdout)
    start = time.monotonic()
    a.run('ibv_devinfo', check=False, timeout=30)
    if time.monotonic() - start > 10:
        return 'a command on a dead device does not fail at once'
    if 'DEVICE_FATAL' not in watch.output():
        return f'no DEVICE_FATAL for a process:\n{watch.output()}'
    if 'state DOWN' not in a.run('rdma link').stdout:
        return 'the port of a dead device is not DOWN'
    a.run(UNBIND, timeout=60)
    problem = wait_log(a, 'drained, 16 receives', drained + 1)
    if problem:
        return problem
    watch.kill('KILL')
    a.run(BIND, timeout=60)
    problem = wait_log(a, 'vrdma0: PASS', passed + 1)
    if problem:
        return problem
    between(a, b, f'ibv_rc_pingpong -n 100 {GID}')


def port_follows(g):
    watch = g.spawn('ibv_asyncwatch -d vrdma0')
    watch.wait_output('async event FD')
    g.run('ip link set eth0 down')
    problem = wait_state(g, 'DOWN')
    g.run('ip link set eth0 up')
    problem = problem or wait_state(g, 'ACTIVE')
    out = watch.output()
    watch.kill('KILL')
    if problem:
        return problem
    if out.count('PORT_ERR') != 1 or out.count('PORT_ACTIVE') != 1:
        return f'not one PORT_ERR and one PORT_ACTIVE:\n{out}'


def gids_follow(g):
    def gids():
        time.sleep(0.5)
        return g.run('ibv_devinfo -v | grep "GID\\["').stdout

    g.run('ip addr add 10.9.8.7/24 dev eth0; ip -6 addr add fd00:9::7/64 dev eth0 nodad')
    there = gids()
    g.run('ip addr del 10.9.8.7/24 dev eth0; ip -6 addr del fd00:9::7/64 dev eth0')
    gone = gids()
    if '10.9.8.7' not in there or 'fd00:9::7' not in there:
        return f'added addresses make no GIDs:\n{there}'
    if '10.9.8.7' in gone or 'fd00:9::7' in gone:
        return f'GIDs of addresses that are gone:\n{gone}'


def never_an_upper(g):
    """A VLAN has the MAC address of the netdev below it. The port must not pair with it, and
    its addresses must not become GIDs."""
    g.run('ip link add link eth0 name vl5 type vlan id 5; ip link set vl5 up;'
          ' ip addr add 10.9.5.1/24 dev vl5')
    time.sleep(0.5)
    out = g.run('rdma link').stdout
    gids = g.run('ibv_devinfo -v | grep "GID\\["').stdout
    g.run('ip link del vl5')
    # The device does not offer VLAN GIDs: frames would be sent without the tag.
    if '10.9.5.1' in gids:
        return f'the GID of a VLAN:\n{gids}'
    return None if 'netdev eth0' in out else out


def late_netdev(tap):
    """At first, no netdev has the MAC; then one is added, changes its address, and is removed."""
    daemon = pair.guest.Vrdmad(['late,unsealed=on,mac=52:54:00:99:00:01']).start()
    try:
        with pair.guest.UmlGuest('late', vhost_user_sockets=daemon.sockets, kernel=KERNEL) as g:
            tap.guests = [g]
            g.run('modprobe virtio_rdma')
            if 'no Ethernet device has the MAC address' not in kernel_log(g):
                return 'no message that names the missing netdev'
            add = ('ip link add nd0 type dummy; ip link set nd0 address 52:54:00:99:00:01;'
                   ' ip link set nd0 up; ip addr add 10.1.1.1/24 dev nd0')
            for end in ('ip link del nd0', 'ip link set nd0 address 52:54:00:99:00:02; ip link del nd0',
                        'ip netns add x; ip link set nd0 netns x; ip netns del x', 'true'):
                problem = wait_state(g, 'DOWN')
                g.run(add)
                problem = problem or wait_state(g, 'ACTIVE')
                if problem:
                    return problem
                g.run(end, timeout=20)
            # Anyone who owns a namespace can give a device there any address.
            g.run('ip link del nd0; ip netns add x; ip -n x link add nd1 address 52:54:00:99:00:01 type dummy; '
                  'ip -n x link set nd1 up; sleep 0.5')
            problem = wait_state(g, 'DOWN')
            if problem:
                return f'paired with a device of another namespace: {problem}'
            g.run(f'ip netns del x; {add}')
            problem = wait_state(g, 'ACTIVE')
            if problem:
                return problem
            g.run('rmmod virtio_rdma; ip link del nd0', timeout=20)
            problems = g.kernel_problems()
            tap.guests = []
            return '\n'.join(problems) or None
    finally:
        tap.guests = []
        daemon.stop()


def main():
    tap = pair.Tap()
    pair.build_program('requests')
    pair.build_program('deadevents')
    modules = pair.build_modules('kunit', 'kverbs', 'ksrq')
    with pair.uml_guests(tap) as (daemon, (a, b)):
        for g in (a, b):
            for module in modules:
                shutil.copy(module, g.share)
        kunit(tap, b)
        requests(tap, b)
        tap.run('a kernel user: every opcode, refusals, restart through RESET', kverbs, a)
        tap.run('a kernel user of an SRQ: laps, limit, full, a QP that goes, drain', ksrq, a)
        tap.run('unbind with open contexts and a kernel user, five times', rebind, a)
        for command, serves in ((POLLING, False), ('ib_send_bw -F -D 60', False),
                                ('ib_send_bw -F -D 60', True), ('ib_send_bw --use-srq -F -D 60', True)):
            tap.run(f'unbind under {command}{", server" if serves else ""}: it ends by itself',
                    unbind_under_traffic, a, b, command, serves)
        tap.run('the port follows the netdev, with one event each', port_follows, a)
        tap.run('GIDs follow the addresses', gids_follow, a)
        tap.run('a VLAN is never paired with', never_an_upper, a)
        tap.run('a silent device is dead, is reset, and no byte moves after that; rebind mends it', silent_device, tap, daemon, a, b)
        tap.run('traffic after all this', lambda: between(a, b, f'ibv_ud_pingpong -s 1024 {GID}') and None)
        tap.run('rmmod', lambda: a.run('rmmod vrdma_kverbs virtio_rdma; ! ls /sys/class/infiniband | grep .') and None)
    tap.run('a netdev that comes late, changes and goes', late_netdev, tap)
    tap.end()


main()
