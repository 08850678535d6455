#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests, for tests (import guest) and for developers:

    tools/guest.py shell uml|qemu      an interactive shell in a guest
    tools/guest.py bench               boots one of each and prints the time

    with guest.Network() as net, guest.UmlGuest('a', net) as a, guest.UmlGuest('b', net) as b:
        server = a.spawn('ibv_rc_pingpong -d rxe0 -g 1')
        print(b.run(f'ibv_rc_pingpong -d rxe0 -g 1 {a.ip}').stdout)
        server.wait()
        assert not a.kernel_problems() + b.kernel_problems()
"""

import argparse
import contextlib
import os
import pathlib
import sys
import termios
import tty

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from guestlib import kvm                                   # noqa: E402
from guestlib.channel import Result                        # noqa: E402,F401
from guestlib.host import BUILD, GuestError, TOP           # noqa: E402,F401
from guestlib.network import Network                       # noqa: E402
from guestlib.qemu import QemuGuest, binary                # noqa: E402,F401
from guestlib.uml import UmlGuest, UmlHost, soft_roce      # noqa: E402,F401
from guestlib.vrdmad import Vrdmad                         # noqa: E402


def have_vrdmad():
    return (BUILD / 'vrdmad' / 'vrdmad').exists()


def vhost_user_device(path, ident='rdma0', extra=''):
    """QEMU arguments of a device that is connected to vrdmad's socket."""
    return ['-chardev', f'socket,id=char-{ident},path={path},reconnect-ms=500',
            '-device', f'vhost-user-rdma-pci,id={ident},chardev=char-{ident}{extra}']


def vrdmad_pair(kind, net, **kwargs):
    """Starts a vrdmad for two guests of one kind, which must use the returned addresses:
    (Vrdmad, [(MAC, IP), (MAC, IP)]). UML's memory is a file that cannot be sealed."""
    unsealed = ',unsealed=on' if kind == 'uml' else ''
    addresses = [net.address(), net.address()]
    return Vrdmad([f'{name},mac={mac}{unsealed}'
                   for name, (mac, _) in zip('ab', addresses)], **kwargs), addresses


def _make(kind, name, net, socket, address, **kwargs):
    mac, ip = address
    if kind == 'uml':
        return UmlGuest(name, net, mac, ip, vhost_user_sockets=[socket] if socket else [], **kwargs)
    return QemuGuest(name, net, mac, ip, devices=vhost_user_device(socket) if socket else [], **kwargs)


def shell(kind):
    """A guest with a terminal, and a peer for it, both on one vrdmad if there is one."""
    saved = termios.tcgetattr(0)
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(Network())
        if have_vrdmad():
            daemon, addresses = vrdmad_pair(kind, net)
            sockets = stack.enter_context(daemon).sockets
        else:
            print('no build/vrdmad/vrdmad: guests without an RDMA device')
            sockets, addresses = [None, None], [net.address(), net.address()]
        peer = _make(kind, 'peer', net, sockets[1], addresses[1])
        mine = _make(kind, 'shell', net, sockets[0], addresses[0], terminal=True)
        stack.callback(termios.tcsetattr, 0, termios.TCSADRAIN, saved)
        for g in (peer, mine):
            stack.callback(g.stop)
            g.start()
        for g in (peer, mine):
            g.wait_ready()
            if sockets[0]:
                g.run('modprobe -a virtio_rdma rdma_ucm', check=False)
        print(f'This guest is {mine.ip}; another one, idle, is {peer.ip}. Exit or ^D ends both.\r')
        sys.stdout.flush()
        line = mine.terminal_tty
        if kind == 'uml':
            tty.setraw(0)
        size = os.get_terminal_size(0)
        mine.spawn(f'stty -F {line} sane rows {size.lines} cols {size.columns}; '
                   f'TERM={os.environ.get("TERM", "vt100")} setsid --ctty --wait bash -i '
                   f'<{line} >{line} 2>&1').wait(timeout=None, check=False)


def bench():
    with Network() as net:
        for make in (UmlGuest, QemuGuest):
            with make(make.__name__.lower(), net) as g:
                what = getattr(g, 'accel', 'native')
                print(f'{make.__name__} ({what}): ready in {g.boot_seconds:.1f} s; '
                      f'{g.run("uname -r").stdout.strip()}')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    sub = parser.add_subparsers(dest='command', required=True)
    sub.add_parser('shell').add_argument('kind', choices=['uml', 'qemu'])
    sub.add_parser('bench')
    args = parser.parse_args()
    try:
        if args.command == 'shell':
            shell(args.kind)
        else:
            bench()
    except GuestError as error:
        sys.exit(f'ERROR: {error}')


if __name__ == '__main__':
    main()
