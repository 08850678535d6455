#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests, for tests (import guest) and for developers:

    tools/guest.py shell uml|qemu      an interactive shell in a guest
    tools/guest.py bench               boots one of each and says how long it took

    with guest.Network() as net, guest.UmlGuest('a', net) as a, guest.UmlGuest('b', net) as b:
        server = a.spawn('ibv_rc_pingpong -d rxe0 -g 1')
        print(b.run(f'ibv_rc_pingpong -d rxe0 -g 1 {a.ip}').stdout)
        server.wait()
        assert not a.kernel_problems() + b.kernel_problems()
"""

import argparse
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
from guestlib.uml import UmlGuest                          # noqa: E402
from guestlib.vrdmad import Vrdmad                         # noqa: E402


def have_vrdmad():
    return (BUILD / 'vrdmad' / 'vrdmad').exists()


def vhost_user_device(path, ident='rdma0', extra=''):
    """QEMU arguments for a device in front of vrdmad's socket."""
    return ['-chardev', f'socket,id=char-{ident},path={path}',
            '-device', f'vhost-user-rdma-pci,id={ident},chardev=char-{ident}{extra}']


def _make(kind, name, net, socket=None, **kwargs):
    if kind == 'uml':
        return UmlGuest(name, net, vhost_user_sockets=[socket] if socket else [], **kwargs)
    return QemuGuest(name, net, devices=vhost_user_device(socket) if socket else [], **kwargs)


def shell(kind):
    """A guest with a terminal, and a peer to talk to, both on one vrdmad if there is one."""
    saved = termios.tcgetattr(0)
    daemon = None
    if have_vrdmad():
        unsealed = ',unsealed=on' if kind == 'uml' else ''
        daemon = Vrdmad([f'a{unsealed}', f'b{unsealed}']).start()
    sockets = daemon.sockets if daemon else [None, None]
    with Network() as net:
        peer = _make(kind, 'peer', net, sockets[1]).start()
        mine = _make(kind, 'shell', net, sockets[0], terminal=True, udev=True).start()
        try:
            mine.wait_ready()
            peer.wait_ready()
            peer.run('modprobe -a virtio_rdma rdma_ucm', check=False)
            print(f'Guest {mine.ip}; another one, idle, is {peer.ip}. Exit or ^D ends both.\r')
            sys.stdout.flush()
            line = '/dev/tty2' if kind == 'uml' else '/dev/ttyS2'
            if kind == 'uml':
                tty.setraw(0)
            size = os.get_terminal_size(0)
            mine.spawn(f'stty -F {line} sane rows {size.lines} cols {size.columns}; '
                       f'TERM={os.environ.get("TERM", "vt100")} setsid --ctty --wait bash -i '
                       f'<{line} >{line} 2>&1').wait(timeout=None, check=False)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
            mine.stop()
            peer.stop()
            if daemon:
                daemon.stop()


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
