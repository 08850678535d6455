# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU guests inside a UmlHost, used from outside like any other guest.

tools/nested.py runs inside and manages the guests; commands for a guest go through it. Each
guest has two Ethernet devices: eth0, with which its RDMA port pairs, and eth1 for all other
traffic. An RDMA device of the host can only send from addresses of the host, so the guest's
RDMA address is also an address of the host, and TCP connections to it would reach the host."""

import json
import shlex

from . import console, host

PORT_NET = '192.168.77'     # RDMA addresses: those of Network
TCP_NET = '10.77'           # 10.77.HOST.GUEST: eth1


class NestedGuest:
    """One guest: run(), spawn(), kernel_problems() as in guestlib.base.Guest."""

    def __init__(self, inside, name, rdma_ip, tcp_ip):
        self.name = name
        self.rdma_ip = rdma_ip
        self.ip = tcp_ip            # address at which its TCP servers are reached
        self._inside = inside

    def _wrap(self, command):
        return f'exec {self._inside.tool} exec {self.name} {shlex.quote(command)}'

    def spawn(self, command):
        return self._inside.host.spawn(self._wrap(command))

    def run(self, command, timeout=120, check=True):
        return self._inside.host.run(self._wrap(command), timeout, check)

    def qemu_log(self):
        """Output of its QEMU, including that of a device inside QEMU."""
        return self._inside.host.run(f'{self._inside.tool} log {self.name}').stdout

    def kernel_problems(self):
        log = self._inside.host.run(f'{self._inside.tool} console {self.name}').stdout
        seen, self._seen = getattr(self, '_seen', 0), len(log)
        return console.problems(log[seen:])


class NestedGuests:
    """'with NestedGuests(h, number, {name: QEMU arguments}) as guests': boots them in the host
    h, whose number (1..9) is unique on its network. Guest i (from 1) has the RDMA address
    192.168.77.(100 + 10 * number + i) and the TCP address 10.77.number.i."""

    def __init__(self, uml_host, number, devices, mem='512M'):
        self.host = uml_host
        self.number = number
        self.tool = host.TOOLS / 'nested.py'
        self._devices = devices
        self._mem = mem
        self._server = None

    @staticmethod
    def mac(number, i):
        return f'52:54:00:77:{number:02x}:{i:02x}'

    @staticmethod
    def rdma_ip(number, i):
        return f'{PORT_NET}.{100 + 10 * number + i}'

    def __enter__(self):
        guests = [dict(name=name, devices=[str(d) for d in devices], mac=self.mac(self.number, i),
                       ip=self.rdma_ip(self.number, i), tcp_ip=f'{TCP_NET}.{self.number}.{i}')
                  for i, (name, devices) in enumerate(self._devices.items(), 1)]
        spec = dict(mem=self._mem, gateway=f'{TCP_NET}.{self.number}.254', net=f'{TCP_NET}.0.0/16', guests=guests)
        self._server = self.host.spawn(f'exec {self.tool} serve {shlex.quote(json.dumps(spec))}')
        self.host.run(f'{self.tool} wait', timeout=300)
        return [NestedGuest(self, g['name'], g['ip'], g['tcp_ip']) for g in guests]

    def __exit__(self, *exc):
        self._server.kill()


def prepare(uml_host, number, guests, others=()):
    """Gives a host the RDMA addresses of its future guests, and routes between the guests' TCP
    addresses and those of other hosts: others has (number, IP)."""
    commands = ['echo 1 >/proc/sys/net/ipv4/ip_forward']
    commands += [f'ip addr add {NestedGuests.rdma_ip(number, i)}/32 dev eth0' for i in range(1, guests + 1)]
    commands += [f'ip route add {TCP_NET}.{n}.0/24 via {ip}' for n, ip in others]
    uml_host.run('set -e; ' + '; '.join(commands))
