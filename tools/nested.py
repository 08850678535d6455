#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU guests inside a UML host: the part of guestlib/nested.py that runs there.

    nested.py serve JSON        boots the guests, and keeps them until it is killed
    nested.py wait              waits until all of them are up
    nested.py exec NAME COMMAND runs a command in one: its output and exit status
    nested.py console NAME      console log of one
"""

import contextlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time

import guest
from guestlib import host

SOCKET = '/run/nested-guests'
FAILED = '/run/nested-guests.failed'


class Taps:
    """The guests' devices on this host, in place of a guestlib.Network. Each tap is a separate
    link, on which the host answers for every address that it can reach."""

    mtu = 1500

    def __init__(self):
        self._count = 0

    @staticmethod
    def run(command):
        subprocess.run(['sh', '-ec', command], check=True)

    def tap(self, bridge=None):
        name = f'vm{self._count}'
        self._count += 1
        self.run(f'ip tuntap add {name} mode tap; ip link set {name} up')
        if bridge:
            self.run(f'ip link set {name} master {bridge}')
        else:
            # The guest's RDMA address is also the host's: accept packets from it. Answer ARP
            # requests for other addresses at once and not after up to 0.8 s, because the
            # guest's kernel waits only one second.
            self.run(f'cd /proc/sys/net/ipv4/conf/{name}; echo 1 >proxy_arp; echo 1 >accept_local; '
                     f'echo 0 >rp_filter; echo 0 >../all/rp_filter; echo 0 >../../neigh/{name}/proxy_delay')
        return name

    def popen(self, argv, **kwargs):
        return host.popen(argv, **kwargs)


# The guests are emulated on an emulated machine: a CPU that does not run for half a minute does
# not indicate a fault of the guest's kernel.
PATIENCE = 'rcupdate.rcu_cpu_stall_timeout=300 watchdog_thresh=60'


def boot(spec, net, stack):
    net.run(f'ip link add br1 type bridge forward_delay 0 stp_state 0; '
            f'ip addr add {spec["gateway"]}/24 dev br1; ip link set br1 up')
    guests = {}
    for i, g in enumerate(spec['guests']):
        mac = g['mac'].replace('52:54:00:77', '52:54:00:78')
        devices = ['-netdev', f'tap,id=net1,ifname={net.tap("br1")},script=no,downscript=no',
                   '-device', f'virtio-net-pci,netdev=net1,mac={mac},romfile=', *g['devices']]
        guests[g['name']] = guest.QemuGuest(g['name'], net, mac=g['mac'], ip=g['ip'], smp=1,
                                            devices=devices, mem=spec['mem'], cmdline_extra=PATIENCE)
        stack.callback(guests[g['name']].stop)
        guests[g['name']].start()
    for g in spec['guests']:
        guests[g['name']].wait_ready(240)
        guests[g['name']].run(f'ip addr add {g["tcp_ip"]}/24 dev eth1; ip link set eth1 up; '
                              f'ip route add {spec["net"]} via {spec["gateway"]}', timeout=60)
    return guests


class Handler(socketserver.StreamRequestHandler):
    """One request. If the client hangs up, its command is killed."""

    def handle(self):
        request = json.loads(self.rfile.readline())
        g = self.server.guests[request['guest']]
        if request['verb'] == 'console':
            return self._answer(g.console_log(), 0)
        if request['verb'] == 'log':
            return self._answer(g.qemu_log(), 0)
        command = g.spawn(request['command'])
        threading.Thread(target=self._watch, args=[command], daemon=True).start()
        try:
            result = command.wait(timeout=None, check=False)
            self._answer(*result)
        except guest.GuestError as error:
            self._answer(str(error), 255)

    def _watch(self, command):
        self.connection.recv(1)     # the client sends nothing more: this waits for its end
        command.kill()

    def _answer(self, text, rc):
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(json.dumps([text, rc]).encode())


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def serve(spec):
    with contextlib.ExitStack() as stack:
        try:
            guests = boot(spec, Taps(), stack)
        except (guest.GuestError, subprocess.CalledProcessError) as error:
            with open(FAILED + '.new', 'w', encoding='utf-8') as out:
                out.write(str(error))
            os.rename(FAILED + '.new', FAILED)
            raise SystemExit(str(error)) from error
        server = Server(SOCKET + '.new', Handler)
        server.guests = guests
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.rename(SOCKET + '.new', SOCKET)
        server.serve_forever()


def wait():
    while not os.path.exists(SOCKET):
        if os.path.exists(FAILED):
            with open(FAILED, encoding='utf-8') as text:
                sys.exit(text.read())
        time.sleep(0.1)


def ask(**request):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(SOCKET)
    # On a signal, stop sending: the server then kills the command. Read what the command had
    # printed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sock.shutdown(socket.SHUT_WR))
    sock.sendall(json.dumps(request).encode() + b'\n')
    with sock.makefile('r') as stream:
        text, rc = json.loads(stream.read())
    sys.stdout.write(text)
    sys.exit(rc)


def main():
    verb, *args = sys.argv[1:] or ['']
    if verb == 'serve' and len(args) == 1:
        serve(json.loads(args[0]))
    elif verb == 'wait' and not args:
        wait()
    elif verb == 'exec' and len(args) == 2:
        ask(verb=verb, guest=args[0], command=args[1])
    elif verb in ('console', 'log') and len(args) == 1:
        ask(verb=verb, guest=args[0])
    else:
        sys.exit(__doc__)


if __name__ == '__main__':
    main()
