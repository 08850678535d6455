# SPDX-License-Identifier: GPL-2.0-or-later
"""A User Mode Linux guest: the real driver and provider at native speed.

Its processes run in a PID namespace, because a killed UML leaves stopped children; and in a
mount namespace with a tmpfs for its memory file, so that the size of /dev/shm does not matter."""

import itertools
import os
import shutil

from . import console, host
from .base import Guest

# $1: folder for the memory file, $2: its size in MiB, then the command.
_WRAPPER = '''
ulimit -c 0
mount -t tmpfs -o size="$2"m tmpfs "$1"
export TMPDIR="$1"
shift 2
"$@"
exit $?
'''


# UML passes every system call from one process of the host to another. This takes 7 us on one
# processor and 70 us across two (measured), with jitter that makes perftest fail ("Correlation
# coefficient"). So each guest is pinned to one processor, in turn.
_turn = itertools.count()


def _next_cpu():
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[next(_turn) % len(allowed)]


class UmlGuest(Guest):
    """cpu: the host's processor to run on, None for any.
    vhost_user_sockets: one RDMA device per socket (of vrdmad). kernel: 'uml',
    'uml-debug' or another linux binary with the folder of its tree. extra: layers
    over the guest root that tools/setup.sh builds ('guest-mpi')."""

    flush = True
    agent_tty = '/dev/tty1'
    terminal_tty = '/dev/tty2'     # with terminal=True: our standard input
    ready_timeout = 60
    harmless = console.HARMLESS_IN_UML

    def __init__(self, name, net=None, mac=None, ip=None, vhost_user_sockets=(), mem='512M',
                 kernel='uml', cmdline_extra='', udev=False, terminal=False,
                 cpu='auto', extra=()):
        super().__init__(name, net, mac, ip, udev)
        self._flavour = kernel if kernel in ('uml', 'uml-debug') else 'uml'
        if self._flavour == 'uml-debug':
            self.ready_timeout *= 5     # KASAN checks each memory access
        self._tree = host.product(self._flavour)
        self._linux = self._tree / 'linux' if kernel == self._flavour else kernel
        self._image = host.product('guest-image')
        self._lower = [host.product(name) / 'layer' for name in extra] + [host.product('guest-root') / 'root']
        self._sockets = list(vhost_user_sockets)
        self._mem = mem
        self._extra = cmdline_extra.split()
        self._terminal = terminal
        self.cpu = _next_cpu() if cpu == 'auto' else cpu

    def _layers(self):
        folders = [host.BUILD / self._flavour, host.BUILD / 'guest', self._tree / 'modules', *self._lower]
        return [f'hostfs:{f}' for f in folders if f.is_dir()]

    def _launch(self, agent):
        shutil.copy('/proc/cpuinfo', self.share / 'cpuinfo')
        memory = self.folder / 'mem'
        memory.mkdir()
        fd = agent.fileno()
        argv = ['unshare', '--mount', '--propagation', 'private', '--pid', '--fork',
                '--kill-child=KILL', '--', 'sh', '-c', _WRAPPER, 'uml',
                memory, _mebibytes(self._mem) + 64,
                *(['taskset', '-c', str(self.cpu)] if self.cpu is not None else []),
                self._linux, f'mem={self._mem}', f'initrd={self._image}/initramfs.cpio',
                f'umid={self.folder.parent.name}-{self.name}', f'uml_dir={self.folder}/',
                'con=null', 'con0=null,fd:1', f'con1=fd:{fd}', 'ssl=null',
                'panic=-1', 'oops=panic', f'vrdma.share=hostfs:{self.share}']
        if self.net:
            argv.append(f'vec0:transport=tap,ifname={self.net.tap()},mac={self.mac},depth=128,gro=1')
        argv += [f'virtio_uml.device={path}:42' for path in self._sockets]
        if self._terminal:
            argv.append('con2=fd:0')
        argv += self._extra
        keep = dict(pass_fds=[fd], start_new_session=not self._terminal)
        with open(self._console, 'ab') as log:
            kwargs = dict(stdout=log, stderr=log, **keep)
            if self._terminal:
                kwargs['stdin'] = None
            if self.net:
                return self.net.popen(argv, **kwargs)
            return host.popen(argv, **kwargs)


class UmlHost(UmlGuest):
    """A UML kernel that uses this machine's root file system: a host with RDMA. Programs that
    are installed and built here run in it (vrdmad, QEMU with guests, these scripts); its writes
    go to a tmpfs of its own. Guests in it are emulated by QEMU, because UML does not run in
    UML."""

    ready_timeout = 120

    def __init__(self, name, net=None, mem='4G', **kwargs):
        super().__init__(name, net, mem=mem, **kwargs)

    def _layers(self):
        return [f"hostfs:{self._tree / 'modules'}", 'hostfs:/']


def soft_roce(g, name='rxe0', netdev='eth0'):
    """Creates a Soft-RoCE device in a guest or host, and waits until its GID table has the IPv4
    address of its Ethernet device."""
    g.run(f'modprobe rdma_rxe && modprobe -a ib_uverbs rdma_ucm && rdma link add {name} type rxe netdev {netdev} && '
          f'for i in $(seq 100); do grep -qs ffff:c0a8 /sys/class/infiniband/{name}/ports/1/gids/1 && exit 0; '
          f'sleep 0.1; done; echo "{name} has no IPv4 GID"; exit 1')


def _mebibytes(size):
    unit = {'M': 1, 'G': 1024}[size[-1].upper()]
    return int(size[:-1]) * unit
