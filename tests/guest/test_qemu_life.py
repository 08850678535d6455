#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""-device virtio-rdma-pci is paused, suspended, unplugged and reset while programs of a Debian
guest use it, and does not start again at the first attempt."""

import shutil
import time

import pair
from pair import guest

PORT = ['-device', 'pcie-root-port,id=port0,chassis=1']
DEVICE = {'driver': 'virtio-rdma-pci', 'id': 'rdma0', 'netdev': 'net0', 'bus': 'port0'}
PATH = '/machine/peripheral/rdma0'


def devices():
    return [[*PORT, '-device', ','.join([DEVICE['driver']] + [
        f'{key}={value}' for key, value in DEVICE.items() if key != 'driver'])]]


def stats(g):
    return g.qmp('qom-get', path=PATH, property='stats')


class Traffic:
    """An endless ping-pong in event mode from the guest to itself."""

    def __init__(self, g):
        self.g = g

    def __enter__(self):
        command = f'ibv_rc_pingpong -e {pair.GID} -n 10000000'
        self.server = self.g.spawn(command)
        pair.wait_listening(self.g)
        before = stats(self.g)['send']
        self.client = self.g.spawn(f'{command} {self.g.ip}')
        self.moves(before)
        return self

    def moves(self, before, timeout=60):
        deadline = time.monotonic() + timeout
        while stats(self.g)['send'] < before + 20:
            if time.monotonic() > deadline:
                raise guest.GuestError(f'no traffic for {timeout} s: {stats(self.g)}')
            time.sleep(0.1)

    def __exit__(self, *exc):
        for process in (self.client, self.server):
            process.kill()


def pingpong(g):
    pair.between(g, g, f'ibv_rc_pingpong -e {pair.GID} -n 50', timeout=120)


def pause(g):
    with Traffic(g) as traffic:
        for _ in range(3):
            g.qmp('stop')
            before = stats(g)
            time.sleep(0.5)
            after = stats(g)
            g.qmp('cont')
            if after != before:
                return f'the device worked in a paused machine: {before} {after}'
            traffic.moves(after['send'])


def watch(g):
    """A program that has the device open, and prints its asynchronous events."""
    holder = g.spawn('exec ibv_asyncwatch')
    g.run('for i in $(seq 200); do ls -l /proc/$(pidof ibv_asyncwatch)/fd 2>/dev/null | grep -q infiniband/uverbs '
          '&& exit 0; sleep 0.1; done; exit 1')
    return holder


def wait_devices(g, wanted):
    """Waits until the guest has an RDMA device, or has none."""
    test = '-n' if wanted else '-z'
    g.run(f'for i in $(seq 300); do [ {test} "$(ls /sys/class/infiniband)" ] && exit 0; sleep 0.1; done; '
          'ls /sys/class/infiniband; dmesg | tail; exit 1', timeout=60)


def unplug(g):
    """A program that has the device open gets the event; a new device works."""
    holder = watch(g)
    g.qmp('device_del', id='rdma0')
    wait_devices(g, False)
    deadline = time.monotonic() + 30
    while 'rdma0' in g.hmp('info qtree'):
        if time.monotonic() > deadline:
            return 'the device is still there'
        time.sleep(0.1)
    heard = holder.output()
    holder.kill()
    if 'IBV_EVENT_DEVICE_FATAL' not in heard:
        return f'the program was not told: {heard}'
    g.qmp('device_add', **DEVICE)
    pair.load(g)
    pingpong(g)


def life(g, option):
    """Loads tests/klife for one action."""
    g.run(f'insmod /vrdma/vrdma_klife.ko {option} && rmmod vrdma_klife', timeout=60)


def objects(g):
    return {name: stats(g)[name] for name in ('contexts', 'pds', 'mrs', 'cqs', 'qps')}


def suspend(g):
    """A suspend ends the objects of programs, which are told; a resume brings the device back."""
    with Traffic(g):
        holder = watch(g)
        life(g, 'action=freeze')
        wait_devices(g, False)
        left = objects(g)
        life(g, 'action=restore')
        wait_devices(g, True)
        heard = holder.output()
        holder.kill()
    if any(left.values()):
        return f'the suspended device has objects: {left}'
    if 'IBV_EVENT_DEVICE_FATAL' not in heard:
        return f'the program was not told: {heard}'
    pair.load(g)
    pingpong(g)


def unload_suspended(g):
    """The module can be unloaded while the device is suspended."""
    life(g, 'action=freeze')
    g.run('modprobe -r virtio_rdma')
    life(g, 'action=restore')
    pair.load(g)
    pingpong(g)


def failed_restart(g):
    """The device does not start after a resume: the driver can be bound, or unloaded, later."""
    path = '/sys/bus/virtio/drivers/virtio_rdma'
    device = g.run('basename $(dirname $(grep -l d0000002A /sys/bus/virtio/devices/*/modalias))').stdout.strip()
    for way in (f'! echo {device} > {path}/unbind; echo {device} > {path}/bind',
                'modprobe -r virtio_rdma && modprobe virtio_rdma'):
        life(g, 'action=freeze')
        g.run('dmesg -C; insmod /vrdma/vrdma_klife.ko action=restore fail=vrdma_cmd_init')
        g.run('for i in $(seq 300); do dmesg | grep -q "does not start after the reset" && break; sleep 0.1; done; '
              'rmmod vrdma_klife; dmesg | grep "does not start after the reset: rebind" || { dmesg; exit 1; }; '
              '! ls /sys/class/infiniband | grep .', timeout=60)
        g.run(way, timeout=60)
        pair.load(g)
        pingpong(g)


def reset(g):
    """The new kernel does not find objects of the old one."""
    with Traffic(g):
        g.qmp('set-action', reboot='reset')
        g.qmp('system_reset')
        deadline = time.monotonic() + 30
        while stats(g)['qps']:
            if time.monotonic() > deadline:
                return f'objects outlived the reset: {stats(g)}'
            time.sleep(0.05)
    while True:
        try:
            g.run('true', timeout=5)
            break
        except guest.GuestError:
            if time.monotonic() > deadline + 120:
                raise
            time.sleep(0.5)
    pair.load(g)
    pingpong(g)


def rebind(g):
    """The driver can be unbound from the device, and bound again."""
    path = '/sys/bus/virtio/drivers/virtio_rdma'
    device = g.run('basename /sys/class/infiniband/*/device/virtio*').stdout.strip()
    g.run(f'echo {device} > {path}/unbind; ! ls /sys/class/infiniband | grep .; echo {device} > {path}/bind', timeout=60)
    pair.load(g)
    pingpong(g)


def main():
    tap = pair.Tap()
    module = pair.build_guest_module('klife')
    with pair.qemu_guests(tap, count=1, devices=devices()) as (_, (g,)):
        shutil.copy(module, g.share)
        tap.run('ping-pong', pingpong, g)
        tap.run('paused under traffic', pause, g)
        tap.run('unplugged with an open context, plugged again', unplug, g)
        tap.run('unbound, bound again', rebind, g)
        tap.run('suspended and resumed under traffic', suspend, g)
        tap.run('unloaded while suspended', unload_suspended, g)
        tap.run('a restart that fails, then bound or loaded again', failed_restart, g)
        tap.run('reset under traffic', reset, g)
    tap.end()


main()
