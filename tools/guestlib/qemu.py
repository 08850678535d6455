# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU guest: Debian 13 with its own kernel, like a user's guest."""

import json
import os
import socket
import subprocess

from . import host, kvm
from .base import Guest
from .host import GuestError


def binary():
    """Our QEMU; builds it if it is missing."""
    ours = host.BUILD / 'qemu' / 'qemu-system-x86_64'
    if not ours.exists():
        subprocess.run([host.TOOLS / 'build-qemu.sh'], check=True)
    return ours


# Firmware comes from Debian packages, each with a folder of its own.
FIRMWARE = [word for folder in ('/usr/share/seabios', '/usr/share/qemu', '/usr/lib/ipxe/qemu')
            for word in ('-L', folder)]


class QemuGuest(Guest):
    """devices: raw arguments, for example ['-chardev', 'socket,id=c,path=P', '-device',
    'vhost-user-rdma-pci,chardev=c'].
    kernel: 'guest' for Debian 13's own, or another product of tools/setup.sh:
    'kernel-oldest', 'kernel-newest'."""

    agent_tty = '/dev/ttyS1'
    terminal_tty = '/dev/ttyS2'     # with terminal=True: our standard input
    ready_timeout = 180

    def __init__(self, name, net=None, mac=None, ip=None, devices=(), mem='1G', smp=2,
                 kernel='guest', cmdline_extra='', udev=False, accel=None, terminal=False):
        super().__init__(name, net, mac, ip, udev)
        self.qemu = binary()
        self._image = host.product('guest-image')
        self._kernel = self._image if kernel == 'guest' else host.product(kernel)
        self._devices = [str(d) for d in devices]
        self._mem = mem
        self._smp = smp
        self._extra = cmdline_extra
        self._terminal = terminal
        self.accel = accel or ('kvm' if kvm.works([self.qemu, *FIRMWARE], self._image) else 'tcg')
        self._qmp = None

        # Shared folders that are layers over the root, topmost first.
        folders = [host.BUILD / 'guest']
        if kernel != 'guest':
            folders = [host.BUILD / kernel, *folders, self._kernel / 'modules']
        self._folders = {f'layer{n}': f for n, f in enumerate(folders) if f.is_dir()}

    def _layers(self):
        return [f'9p:{tag}' for tag in self._folders] + ['erofs:/dev/vda']

    # With one possible processor, TCG omits atomics and fences, and wake-ups of the rings are
    # lost: use at least two, even if only one is present.
    def _machine(self):
        if self.accel == 'kvm':
            accel = ['-accel', 'kvm', '-cpu', 'host']
        else:
            accel = ['-accel', 'tcg,thread=multi', '-cpu', 'max']
        return accel + ['-machine', 'q35,memory-backend=mem,usb=off,vmport=off,hpet=off',
                        '-m', self._mem, '-smp', f'{self._smp},maxcpus={max(2, self._smp)}',
                        '-object', f'memory-backend-memfd,id=mem,size={self._mem},share=on']

    def _folder(self, tag, path, more=''):
        return ['-fsdev', f'local,id={tag},path={path},security_model=none{more}',
                '-device', f'virtio-9p-pci,fsdev={tag},mount_tag={tag}']

    def _launch(self, agent):
        fd = agent.fileno()
        append = ('console=ttyS0 loglevel=5 panic=-1 oops=panic no_timer_check net.ifnames=0 '
                  f'vrdma.share=9p:share {self._extra}')
        argv = [self.qemu, *FIRMWARE, '-name', self.name, '-nodefaults', '-no-user-config', '-display', 'none',
                '-no-reboot', *self._machine(),
                '-kernel', self._kernel / 'vmlinuz', '-initrd', self._kernel / 'initramfs.cpio',
                '-append', append,
                '-drive', f'if=none,id=root,file={self._image}/root.erofs,format=raw,readonly=on',
                '-device', 'virtio-blk-pci,drive=root',
                *self._folder('share', self.share),
                '-chardev', f'file,id=console,path={self._console},append=on', '-serial', 'chardev:console',
                '-chardev', f'socket,id=agent,fd={fd}', '-serial', 'chardev:agent',
                '-qmp', f'unix:{self.folder}/qmp,server=on,wait=off']
        for tag, path in self._folders.items():
            argv += self._folder(tag, path, ',readonly=on')
        if self.net:
            argv += ['-netdev', f'tap,id=net0,ifname={self.net.tap()},script=no,downscript=no',
                     '-device', f'virtio-net-pci,netdev=net0,mac={self.mac},romfile=']
        if self._terminal:
            argv += ['-chardev', 'stdio,id=shell,signal=off', '-serial', 'chardev:shell']
        argv += self._devices
        kwargs = dict(pass_fds=[fd], start_new_session=not self._terminal)
        with open(self.folder / 'qemu.log', 'wb') as log:
            kwargs['stderr'] = log
            kwargs['stdout'] = log
            if self._terminal:
                kwargs['stdin'] = kwargs['stdout'] = None
            if self.net:
                return self.net.popen(argv, **kwargs)
            return host.popen(argv, **kwargs)

    def qemu_log(self):
        """Output of QEMU itself (errors of devices, warnings)."""
        path = self.folder / 'qemu.log'
        return path.read_text(errors='replace') if path.exists() else ''

    def _last_words(self):
        return f'\n--- QEMU said:\n{self.qemu_log()}'

    def qmp(self, command, **arguments):
        """Executes one QMP command; returns its value. GuestError with QEMU's message if it
        fails."""
        if self._qmp is None:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(30)
            sock.connect(os.fspath(self.folder / 'qmp'))
            self._qmp = sock.makefile('rw')
            self._qmp.readline()
            self.qmp('qmp_capabilities')
        self._qmp.write(json.dumps({'execute': command, 'arguments': arguments}) + '\n')
        self._qmp.flush()
        while True:
            line = self._qmp.readline()
            if not line:
                raise GuestError(self._obituary())
            answer = json.loads(line)
            if 'error' in answer:
                raise GuestError(f"QMP {command}: {answer['error']['desc']}")
            if 'return' in answer:
                return answer['return']

    def hmp(self, line):
        """Executes a line of QEMU's human monitor; returns its output."""
        return self.qmp('human-monitor-command', **{'command-line': line})

    def _closed(self):
        if self._qmp:
            self._qmp.close()
