# SPDX-License-Identifier: GPL-2.0-or-later
"""A layer-2 network for guests, in an unnamed network namespace.

The namespace belongs to one sleeping process that ends with this process. When the last process
has left it, the kernel removes it with its bridge and taps. So nothing is left behind, and any
number of runs can use the same names and addresses at the same time."""

import os
import subprocess
import time

from . import host


class Network:
    """net = Network(): guests get taps on its bridge br0. net.close() or 'with'."""

    def __init__(self, subnet='192.168.77', mtu=1500):
        self.subnet = subnet
        self.mtu = mtu
        self.host_ip = f'{subnet}.254'
        self._taps = 0
        self._guests = 0
        self._anchor = host.popen(['unshare', '--net', '--', 'sleep', 'infinity'])
        self._wait_for_namespace()
        self.run('ip link set lo up; '
                 f'ip link add br0 mtu {mtu} type bridge forward_delay 0 stp_state 0; '
                 f'ip addr add {self.host_ip}/24 dev br0; ip link set br0 up')

    @property
    def pid(self):
        """A process in whose namespace all processes of this network run."""
        return self._anchor.pid

    def _wait_for_namespace(self):
        mine = os.readlink('/proc/self/ns/net')
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._anchor.poll() is not None:
                raise host.GuestError('cannot make a network namespace: are you root?')
            if os.readlink(f'/proc/{self.pid}/ns/net') != mine:
                return
            time.sleep(0.005)
        raise host.GuestError('no network namespace within 10 s')

    def run(self, command, check=True, timeout=30):
        """Runs a shell command of the host inside the namespace; returns its output."""
        done = subprocess.run(['nsenter', f'--net=/proc/{self.pid}/ns/net', 'sh', '-ec', command],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise host.GuestError(f'{command}: {done.stdout.strip()}')
        return done.stdout

    def popen(self, argv, **kwargs):
        return host.popen(argv, netns_of=self.pid, **kwargs)

    def tap(self):
        """Creates a tap on the bridge; returns its name."""
        name = f'tap{self._taps}'
        self._taps += 1
        self.run(f'ip tuntap add {name} mode tap; '
                 f'ip link set {name} mtu {self.mtu} master br0 up')
        return name

    def address(self):
        """(MAC, IP/prefix) for one more guest."""
        self._guests += 1
        n = self._guests
        return f'52:54:00:77:00:{n:02x}', f'{self.subnet}.{n}/24'

    def close(self):
        host.end(self._anchor)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
