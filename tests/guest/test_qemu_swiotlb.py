#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that bounces DMA (swiotlb=force, as SEV and TDX guests do): memory of processes is
refused with one message, and queues of the kernel work. Also tests the device's place in sysfs."""

import shutil

import pair

BOUNCED = 'user memory cannot be registered'

# Each of these creates queues or registers memory, of which the device would get a copy.
REFUSED = ['ibv_rc_pingpong -g 1', 'ibv_ud_pingpong -g 1', 'ibv_srq_pingpong -g 1']


def kernel_log(g):
    return g.run('dmesg').stdout


def kernel_user(g):
    """Every opcode, with queues and memory that are coherent."""
    g.run('insmod /vrdma/vrdma_kverbs.ko', timeout=300)
    log = kernel_log(g)
    g.run('rmmod vrdma_kverbs')
    return None if 'vrdma0: PASS' in log else log[-3000:]


def refused(g):
    for command in REFUSED:
        done = g.run(command, timeout=60, check=False)
        if done.rc == 0 or done.rc > 128:
            return f'{command}: status {done.rc}\n{done.stdout}'
    told = kernel_log(g).count(BOUNCED)
    if told != 1:
        return f'"{BOUNCED}" was logged {told} times:\n{kernel_log(g)[-3000:]}'


def queries(g):
    """Verbs that need no memory of the process work."""
    done = g.run('ibv_devinfo', timeout=60)
    return None if 'PORT_ACTIVE' in done.stdout else done.stdout


def place(g):
    """The RDMA device belongs to the PCI function: tools take topology and NUMA node from there."""
    path = g.run('readlink -f /sys/class/infiniband/vrdma0').stdout.strip()
    parent = g.run('readlink -f /sys/class/infiniband/vrdma0/device').stdout.strip()
    ids = g.run(f'cat {parent}/vendor {parent}/device', check=False).stdout.split()
    if ids != ['0x1af4', '0x106a'] or '/virtio' in path:
        return f'{path}: the parent is {parent} {ids}'


def main():
    tap = pair.Tap()
    module = pair.build_guest_module('kverbs')
    devices = [['-device', f'virtio-rdma-pci,mac={pair.MACS[0]}']]
    with pair.qemu_guests(tap, count=1, devices=devices, cmdline_extra='swiotlb=force') as (_, (g,)):
        shutil.copy(module, g.share)
        tap.run('the kernel bounces DMA', lambda: None if 'SWIOTLB' in kernel_log(g).upper() else kernel_log(g))
        tap.run('the RDMA device is a child of the PCI function', place, g)
        tap.run('a kernel user: every opcode', kernel_user, g)
        tap.run('ibv_devinfo', queries, g)
        tap.run('memory of processes is refused, with one message', refused, g)
        tap.run('a kernel user after that', kernel_user, g)
        tap.run('rmmod', lambda: g.run('modprobe -r virtio_rdma; ! ls /sys/class/infiniband | grep .') and None)
    tap.end()


main()
