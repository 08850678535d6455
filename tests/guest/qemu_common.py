# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests in QEMU guests that are the same for both devices: a Debian 13 guest with its own
kernel sees the same ib_device.  Used by test_qemu_*.py."""

import re

import pair
from pair import GID, between

# Small counts, because these guests are emulated without KVM.
PROGRAMS = [f'ibv_rc_pingpong {GID} -n 200', f'ibv_rc_pingpong -e {GID} -n 100', f'ibv_ud_pingpong {GID} -n 200',
            'ib_write_bw -F -n 200', 'ib_read_bw -F -n 200', 'ib_send_bw -F -n 200',
            'ib_atomic_bw -F -n 200', 'ib_write_lat -F -n 100', 'ib_write_bw -F -R -n 200']


def run_program(server, client, command):
    out = between(server, client, command, timeout=300)
    if not re.search(r'usec/iter|^ \d+\s+\d+\s+([\d.]+|inf)', out, re.M):
        return f'no result:\n{out}'


def autoload(g):
    """The module is found by the device's alias, as udev does it."""
    g.run('for f in /sys/bus/virtio/devices/*/modalias; do '
          'grep -q d0000002A $f && modprobe $(cat $f) && lsmod | grep -q ^virtio_rdma && exit 0; '
          'done; cat /sys/bus/virtio/devices/*/modalias; exit 1')


def devinfo(g):
    out = g.run('ibv_devinfo -v').stdout
    for pattern in (r'state:\s+PORT_ACTIVE', r'::ffff:192\.168\.77\.\d.*RoCE v2', r'vendor_id:\s+0x1af4'):
        if not re.search(pattern, out):
            return f'{pattern} is not in:\n{out}'


def programs(tap, server, client, commands=PROGRAMS, prefix=''):
    for command in commands:
        tap.run(prefix + command, run_program, server, client, command)
    tap.run(f'{prefix}rping', lambda: between(server, client, 'rping -s -C 10', 'rping -c -C 10 -a') and None)


def reload_module(g):
    """rmmod while a process has the device open; then the driver is loaded again."""
    holder = g.spawn('exec ibv_rc_pingpong -g 1')
    g.run('for i in $(seq 100); do grep -q ":4853 " /proc/net/tcp && exit 0; sleep 0.1; done; exit 1')
    g.run('modprobe -r virtio_rdma 2>&1 || { '
          'dev=$(basename /sys/class/infiniband/*/device/virtio*); '
          'echo $dev > /sys/bus/virtio/drivers/virtio_rdma/unbind; }', check=False)
    out = g.run('ls /sys/class/infiniband').stdout.split()
    holder.kill()
    if out:
        return f'still there: {out}'
    g.run('modprobe -r virtio_rdma; modprobe virtio_rdma')
    pair.load(g)
