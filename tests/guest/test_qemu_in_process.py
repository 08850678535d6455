#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""-device virtio-rdma-pci: the device core inside QEMU, one guest with two devices."""

import pair
import qemu_common as common

SECOND_IP = '192.168.78.2'


class SecondDevice:
    """The guest's second device, with the Ethernet device next to it, as a peer."""

    def __init__(self, g):
        self.g = g
        self.ip = SECOND_IP
        self.run = g.run
        self.spawn = g.spawn


def devices():
    """Two RDMA devices; the NIC of the second one is not connected."""
    # No IPv6 from QEMU's router: its address would be a GID at an index that depends on time.
    args = ['-device', f'virtio-rdma-pci,id=rdma0,mac={pair.MACS[0]}',
            '-netdev', 'user,id=net1,restrict=on,ipv6=off',
            '-device', f'virtio-net-pci,netdev=net1,mac={pair.MACS[1]},romfile=',
            '-device', 'virtio-rdma-pci,id=rdma1,netdev=net1']
    return [args]


def two_devices(g):
    """Traffic from one device of a QEMU process to the other."""
    g.run(f'ip link set eth1 up; ip addr add {SECOND_IP}/24 dev eth1')
    # Linux does not answer its own ARP requests.
    g.run(f'ip neigh replace {SECOND_IP} lladdr {pair.MACS[1]} dev eth0; '
          f'ip neigh replace {g.ip} lladdr {pair.MACS[0]} dev eth1')
    g.run('for i in $(seq 100); do grep -q ffff:c0a8 /sys/class/infiniband/vrdma1/ports/1/gids/* && exit 0; '
          'sleep 0.1; done; ibv_devinfo; exit 1')
    server = g.spawn('ibv_rc_pingpong -d vrdma1 -g 1 -n 100')
    try:
        pair.wait_listening(g)
        g.run(f'ibv_rc_pingpong -d vrdma0 -g 1 -n 100 {g.ip}', timeout=120)
        server.wait(timeout=60)
    finally:
        server.kill()


def main():
    tap = pair.Tap()
    pair.build_program('verify')
    with pair.qemu_guests(tap, count=1, modprobe=False, devices=devices()) as (_, (g,)):
        tap.run('the module is loaded by the alias of the device', common.autoload, g)
        tap.run('the port comes up', pair.load, g)
        tap.run('ibv_devinfo -v', common.devinfo, g)
        common.programs(tap, g, g)
        pair.verify(tap, 'one guest', g, g, '-q 9 -d vrdma0', timeout=900)
        tap.run('from one device to the other', two_devices, g)
    tap.end()


main()
