#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests the QEMU code of both devices with a minimal driver.

Tests of common behaviour run on both devices. Then come tests of one device, and of wrong
options.  Prints TAP.
"""

import os
import resource
import struct
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from qtest import Daemon, Machine, QEMU, QtestError, TOP, VRDMAD, wait_for     # noqa: E402
import virtio                                                            # noqa: E402
from virtio import COMP, CONTROL, Driver, NEEDS_RESET, Pci, find          # noqa: E402

MAC = '52:54:00:12:34:56'
NET = ['-netdev', 'user,id=net0', '-device', f'virtio-net-pci,netdev=net0,mac={MAC}']
FAULT = 7
BACKEND = '/machine/peripheral/rdma0/virtio-backend'


class InProcess:
    name = 'virtio-rdma-pci'
    connection = {'netdev': 'net0'}

    def __init__(self, where='', options='', more=()):
        self.m = Machine([*self.before(where), '-device',
                          f'virtio-rdma-pci,id=rdma0,netdev=net0{where}{options}'],
                         more=more).connect()

    @staticmethod
    def before(where):
        return [*NET, *root_port(where)]

    def stats(self):
        return self.m.qmp('qom-get', path=BACKEND, property='stats')

    def stop(self):
        status = self.m.stop()
        if status:
            raise QtestError(f'QEMU ended with status {status}')


class OnNull(InProcess):
    """With the dummy RDMA device of tests/null as the host's, and RAM of an ivshmem device."""

    def __init__(self):
        out = subprocess.run(['make', '--no-print-directory', '-C', TOP / 'tests' / 'null'],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if out.returncode:
            raise QtestError(out.stdout)
        library = TOP / 'build' / 'tests' / 'null' / 'null_verbs.so'
        self.m = Machine(
            [*NET, '-device', 'virtio-rdma-pci,id=rdma0,netdev=net0,ibdev=null0', '-trace', 'virtio_rdma_mem_commit',
             '-object', 'memory-backend-memfd,id=shm,size=1M,share=on', '-device', 'ivshmem-plain,memdev=shm'],
            env={'LD_PRELOAD': str(library)}).connect()


class VhostUser(InProcess):
    name = 'vhost-user-rdma-pci'
    connection = {'chardev': 'char0'}

    def __init__(self, where='', options='', daemon='', more=()):
        self.daemon = Daemon(f',mac={MAC}{daemon}')
        try:
            self.m = Machine(
                [*self.before(where),
                 '-chardev', f'socket,id=char0,path={self.daemon.path},reconnect-ms=50', '-device',
                 f'vhost-user-rdma-pci,id=rdma0,chardev=char0{where}{options}'],
                more=more).connect()
        except BaseException:
            self.daemon.stop()
            raise

    def stop(self):
        try:
            super().stop()
        finally:
            status = self.daemon.stop()
        if status not in (0, -9):
            raise QtestError(f'vrdmad ended with status {status}')


def root_port(where):
    return ['-device', 'pcie-root-port,id=port0,chassis=1,addr=8'] if 'port0' in where else []


def behind_port(m):
    """Assigns the bus number and windows of the root port, as firmware does."""
    port = Pci(m, 0, 8)
    port.write(0x18, 0x00010100)
    port.write(0x20, 0xe1f0e000)
    port.write(4, 6)
    return find(m, 1)


def equal(got, want):
    if got != want:
        raise QtestError(f'got {got!r}, want {want!r}')


def start(f, **kwargs):
    driver = Driver(f.m, find(f.m), **kwargs)
    driver.init()
    return driver


# ---- the same for both ------------------------------------------------------

def test_identity(f):
    pci = find(f.m)
    equal(pci.read(8) >> 16, 0x0207)
    d = Driver(f.m, pci)
    equal(d.config(), (MAC, 2))
    equal(d.offered & (virtio.VERSION_1 | virtio.ACCESS_PLATFORM),
          virtio.VERSION_1 | virtio.ACCESS_PLATFORM)
    d.common(22, COMP + 1, 2)
    equal(f.m.load(d.common_base + 24, 2) >= 256, True)
    d.common(22, COMP + 2, 2)
    equal(f.m.load(d.common_base + 24, 2), 0)


def test_features(f):
    pci = find(f.m)
    equal(Driver(f.m, pci, features=virtio.VERSION_1, start=False).features_ok, False)
    equal(Driver(f.m, pci).features_ok, True)


# The properties that withhold a feature, and its bit; the memory transport has all of them.
FEATURES = {'uc': 0, 'srq': 1, 'atomic': 2, 'atomic-global': 3, 'resize-cq': 4, 'dma-key': 5, 'rnr-nak': 6}


def test_features_off(f, off):
    pci = find(f.m)
    offered = Driver(f.m, pci).offered
    equal({name for name, bit in FEATURES.items() if not offered >> bit & 1}, set(off))
    d = Driver(f.m, pci, features=offered & (virtio.VERSION_1 | virtio.ACCESS_PLATFORM | 0xffffff))
    equal(d.features_ok, True)
    d.init()
    equal(d.pd(d.context()) is not None, True)


def test_command(f):
    d = start(f)
    wait_for('the interrupt of the control queue', lambda: d.interrupt(CONTROL + 1))
    equal(d.pd(d.context()) is not None, True)
    equal(d.call(0xffff)[0], 2)


def test_intx(f):
    """Without MSI-X, an interrupt is visible in the ISR byte."""
    d = start(f, msix=False)
    d.pd(d.context())


def test_vectors_partly(f):
    """A driver may set up fewer completion queues than the device has; all of them work too."""
    for comp in (1, 2):
        d = Driver(f.m, find(f.m), comp=comp)
        d.init()


def test_mask(f):
    d = start(f)
    wait_for('an interrupt', lambda: d.interrupt(CONTROL + 1))
    d.mask(CONTROL + 1, True)
    d.context()
    time.sleep(0.05)
    equal(d.interrupt(CONTROL + 1), False)
    d.mask(CONTROL + 1, False)
    wait_for('the interrupt after unmasking', lambda: d.interrupt(CONTROL + 1))


def test_stop_cont(f):
    d = start(f)
    ctx = d.context()
    for _ in range(3):
        f.m.qmp('stop')
        addr = d.post(virtio.CMD_ALLOC_PD, struct.pack('<II', ctx, 0), 8)
        time.sleep(0.05)
        equal(d.queues[CONTROL].done(), False)
        f.m.qmp('cont')
        equal(d.finish(addr, 8)[0], 0)


def test_reset(f):
    for _ in range(3):
        d = start(f)
        d.pd(d.context())
        d.reset()
        equal(d.get_status(), 0)


def test_system_reset(f):
    d = start(f)
    d.pd(d.context())
    f.m.qmp('system_reset')
    wait_for('the reset', lambda: not Pci(f.m, 0, d.pci.base >> 11 & 31).read(0x20) & ~0xf)
    start(f).context()


def test_reset_while_stopped(f):
    d = start(f)
    d.context()
    f.m.qmp('stop')
    f.m.qmp('system_reset')
    f.m.qmp('cont')
    start(f).context()


def test_bad_rings(f):
    """Rings that are not in RAM: the device requests a reset, and works after it."""
    pci = find(f.m)
    d = Driver(f.m, pci, start=False)
    d.enable_msix(COMP + 2)
    d.common(16, 0, 2)
    d.common(22, CONTROL, 2)
    for reg in (32, 40, 48):
        d.common(reg, 0, 4)
        d.common(reg + 4, 0x10, 4)
    d.common(28, 1, 2)
    d.status(15)
    wait_for('NEEDS_RESET', lambda: d.get_status() & NEEDS_RESET)
    wait_for('the configuration interrupt', lambda: d.interrupt(0))
    start(f).context()


def register(d, size, addr=None):
    """REG_MR of contiguous memory; returns its status."""
    if addr is None:
        addr = d.alloc(size)
    return d.call(virtio.CMD_REG_MR, struct.pack(
        '<IIQQQII', d.pd(d.context()), 1, addr, size, size >> 12, 1, 0),
        16, struct.pack('<QII', addr, size >> 12, 0))[0]


def test_not_ram(f):
    """The device's own registers, and addresses without memory, cannot be registered."""
    d = start(f)
    for addr in (virtio.MODERN_BAR, 0xf0000000, 1 << 40):
        equal(register(d, 4096, addr), FAULT)
    equal(register(d, 4096), 0)


def test_memory_hotplug(f):
    """Memory that is plugged while a driver runs can be registered."""
    d = start(f)
    size = 128 << 20
    equal(register(d, size, 1 << 32), FAULT)
    f.m.qmp('object-add', **{'qom-type': 'memory-backend-memfd', 'id': 'more', 'size': size,
                             'share': True})
    f.m.qmp('device_add', driver='pc-dimm', id='dimm0', memdev='more')
    addr = f.m.qmp('query-memory-devices')[0]['data']['addr']
    wait_for('the new memory', lambda: register(d, size, addr) == 0)
    d.reset()
    start(f)


def test_migration(f):
    try:
        f.m.qmp('migrate', uri='exec:cat >/dev/null')
    except QtestError as error:
        equal('virtio-rdma' in str(error), True)
    else:
        raise QtestError('migration started')


def test_monitor(f):
    start(f)
    text = f.m.hmp(f'info virtio-status {BACKEND}')
    equal('virtio-rdma' in text and 'DRIVER_OK' in text, True)
    f.m.hmp(f'info virtio-queue-status {BACKEND} 0')


def plug(m, f):
    """False while the chardev still belongs to the removed device."""
    try:
        m.qmp('device_add', driver=f.name, id='rdma0', bus='port0', **f.connection)
    except QtestError as error:
        if 'already in use' in str(error):
            return False
        raise
    return True


def test_unplug(f):
    """Unplug while objects exist; then plug again."""
    m = f.m
    for _ in range(2):
        d = Driver(m, behind_port(m))
        d.init()
        d.pd(d.context())
        m.qmp('device_del', id='rdma0')
        m.qmp('system_reset')           # an unplug request that the guest does not answer ends here
        wait_for('the unplug', lambda: 'rdma0' not in m.hmp('info qtree'))
        wait_for('a second plug', lambda: plug(m, f))
    d = Driver(m, behind_port(m))
    d.init()


def test_quit(f):
    """Quit while objects exist: the end of each test checks this; here the machine is stopped."""
    d = start(f)
    d.pd(d.context())
    f.m.qmp('stop')


# ---- in process -------------------------------------------------------------

def test_stats(f):
    d = start(f)
    d.pd(d.context())
    stats = f.stats()
    equal((stats['pds'], stats['commands'] >= 3), (1, True))
    equal(f.m.qmp('qom-get', path='/machine/peripheral/rdma0', property='stats').keys(),
          stats.keys())
    equal(f.m.qmp('qom-get', path=BACKEND, property='engine-stats')['devices'], 1)
    d.reset()
    equal(f.stats()['pds'], 0)


def test_registered(f):
    """Registered memory is counted until a reset."""
    d = start(f)
    equal(register(d, 1 << 20), 0)
    equal(f.stats()['mr_bytes'], 1 << 20)
    d.reset()
    equal(f.stats()['mr_bytes'], 0)


def test_bad_memory(f):
    """RAM beyond 16 TiB, which the core refuses: NEEDS_RESET until it is removed."""
    bar = find(f.m, ident=0x11101af4)
    bar.write(0x18, 0)
    bar.write(0x1c, 0x1000)             # BAR 2 of ivshmem: RAM at 16 TiB
    d = start(f)
    equal(register(d, 4096), 0)
    bar.write(4, 6)
    wait_for('NEEDS_RESET', lambda: d.get_status() & NEEDS_RESET)
    d.reset()
    equal(d.get_status(), 0)
    d = Driver(f.m, find(f.m))
    wait_for('NEEDS_RESET again', lambda: d.get_status() & NEEDS_RESET)
    bar.write(4, 0)
    equal(register(start(f), 4096), 0)


class NoDescriptors:
    """The process cannot open a file."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        self.usual = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        used = {int(fd) for fd in os.listdir(f'/proc/{self.pid}/fd')}
        free = next(fd for fd in range(len(used) + 1) if fd not in used)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (free, self.usual[1]))

    def __exit__(self, *exc):
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, self.usual)


def test_memory_retry(f):
    """The core refuses memory once, for lack of a descriptor: it gets the same memory again at the
    next change of the memory map, whatever it is, and at a reset."""
    bar = find(f.m, ident=0x11101af4)
    ram = 0xe2000000
    bar.write(0x18, ram)                # BAR 2

    def last_commit():
        return [line for line in f.m.log().splitlines() if 'virtio_rdma_mem_commit' in line][-1].split()[-1]

    for by_reset in (False, True):
        d = start(f)
        equal(register(d, 4096), 0)
        equal(register(d, 4096, ram), FAULT)
        with NoDescriptors(f.m.process.pid):
            bar.write(4, 6)
            wait_for('NEEDS_RESET', lambda: d.get_status() & NEEDS_RESET)
            equal(last_commit() != '0', True)
        if by_reset:
            d.reset()
        else:
            bar.write(0x10, 0xe3000000)     # BAR 0, which is not RAM
        wait_for('the retry', lambda: last_commit() == '0')
        equal(register(start(f), 4096, ram), 0)
        bar.write(4, 0)
    equal('raise the limit of open files' in f.m.log(), True)


def test_corrupt_queue(f):
    """The available index is ahead of the ring: NEEDS_RESET, then the device works."""
    d = start(f)
    queue = d.queues[CONTROL]
    f.m.store(queue.avail + 2, queue.head + 1000 & 0xffff, 2)
    queue.kick()
    wait_for('NEEDS_RESET', lambda: d.get_status() & NEEDS_RESET)
    wait_for('the configuration interrupt', lambda: d.interrupt(0))
    start(f).context()


def test_two_devices(f):
    """Devices share an engine; unplugging one does not affect the other."""
    f.m.qmp('device_add', driver='virtio-rdma-pci', id='rdma1', bus='port0',
            mac='52:54:00:00:00:99')
    equal(f.m.qmp('qom-get', path=BACKEND, property='engine-stats')['devices'], 2)
    f.m.qmp('device_del', id='rdma1')
    f.m.qmp('system_reset')
    wait_for('the unplug', lambda: 'rdma1' not in f.m.hmp('info qtree'))
    equal(f.m.qmp('qom-get', path=BACKEND, property='engine-stats')['devices'], 1)
    start(f).context()


# ---- vhost-user -------------------------------------------------------------

def needs_reset_then_works(f, d):
    wait_for('NEEDS_RESET', lambda: d.get_status() & NEEDS_RESET)
    wait_for('the configuration interrupt', lambda: d.interrupt(0))
    start(f).context()


def test_daemon_restart(f):
    for _ in range(2):
        d = start(f)
        d.pd(d.context())
        f.daemon.kill()
        f.daemon.start()
        needs_reset_then_works(f, d)


def test_daemon_restart_unused(f):
    """If the driver has not used the daemon, a restart of the daemon needs no reset."""
    d = Driver(f.m, find(f.m), start=False)
    f.daemon.kill()
    wait_for('QEMU to notice', lambda: 'lost the daemon' in f.m.log())
    f.daemon.start()
    d = start(f)
    equal(d.get_status() & NEEDS_RESET, 0)


def test_daemon_restart_stopped(f):
    """While the VM is stopped."""
    d = start(f)
    f.m.qmp('stop')
    f.daemon.kill()
    f.daemon.start()
    wait_for('NEEDS_RESET', lambda: d.get_status() & NEEDS_RESET)
    f.m.qmp('cont')
    needs_reset_then_works(f, d)


def test_driver_waits(f):
    """DRIVER_OK without a daemon: the device starts when the daemon does."""
    find(f.m)
    f.daemon.kill()
    wait_for('QEMU to notice', lambda: 'lost the daemon' in f.m.log())
    d = Driver(f.m, find(f.m))
    addr = d.post(virtio.CMD_INIT, struct.pack('<II', 1, 0))
    f.daemon.start()
    equal(d.finish(addr)[0], 0)
    equal(d.get_status() & NEEDS_RESET, 0)


def test_daemon_gone(f):
    """Reset, unplug and quit without a daemon."""
    d = Driver(f.m, behind_port(f.m))
    d.init()
    f.daemon.kill()
    d.reset()
    f.m.qmp('device_del', id='rdma0')
    f.m.qmp('system_reset')
    wait_for('the unplug', lambda: 'rdma0' not in f.m.hmp('info qtree'))


def test_fewer_vectors_than_asked():
    d = Daemon(f',mac={MAC},vectors=1')
    try:
        text = Machine(['-chardev', f'socket,id=c,path={d.path}', '-device',
                        'vhost-user-rdma-pci,chardev=c,num-comp-vectors=2']).fails()
        equal('maximum number of queues' in text or 'num-comp-vectors=1' in text, True)
    finally:
        d.stop()


def test_fewer_vectors_by_default():
    f = VhostUser(daemon=',vectors=1')
    try:
        equal(Driver(f.m, find(f.m)).config(), (MAC, 1))
    finally:
        f.stop()


# ---- what the user may get wrong ---------------------------------------------

REFUSED = [
    # arguments, shared memory, what the message must say
    (['-device', 'virtio-rdma-pci'], True, ['netdev=ID', 'mac=']),
    (['-device', 'virtio-rdma-pci,mac=01:00:00:00:00:01'], True, ['multicast', '52:54:00']),
    (['-device', 'virtio-rdma-pci,netdev=no'], True, ['netdev=no', '-device virtio-net-pci']),
    (['-netdev', 'user,id=n', '-device', 'virtio-rdma-pci,netdev=n'], True, ['before']),
    ([*NET, '-device', f'virtio-rdma-pci,netdev=net0,mac={MAC}'], True, ['exclude']),
    ([*NET, '-device', 'virtio-rdma-pci,netdev=net0,num-comp-vectors=254'], True, ['253']),
    ([*NET, '-device', 'virtio-rdma-pci,netdev=net0,iommu_platform=off'], True,
     ['iommu_platform=off']),
    (['-device', 'intel-iommu', *NET, '-device', 'virtio-rdma-pci,netdev=net0'], True,
     ['virtual IOMMU', 'intel-iommu']),
    ([*NET, '-device', 'virtio-rdma-pci,netdev=net0,allow-gids=10.0.0.1+x'], True,
     ["'x'", 'allow-gids=10.0.0.2']),
    ([*NET, '-device', 'virtio-rdma-pci,netdev=net0,pollers=1000'], True, ['pollers', '64']),
    ([*NET, '-device', 'virtio-rdma-pci,netdev=net0,pollers=1', '-device',
      'virtio-rdma-pci,mac=52:54:00:00:00:01,pollers=2'], True, ['pollers=2', 'first']),
    ([*NET, '-device', 'virtio-rdma-pci,netdev=net0', '-only-migratable'], True,
     ['only-migratable', 'virtio-rdma']),
    (['-m', '256M,slots=1,maxmem=1G', '-object', 'memory-backend-memfd,id=vm,size=128M,share=on',
      '-device', 'virtio-mem-pci,id=vm0,memdev=vm', *NET, '-device',
      'virtio-rdma-pci,netdev=net0,ibdev=rxe9'], True, ['discards', 'virtio-mem', 'ibdev=']),
    (['-device', 'vhost-user-rdma-pci'], True, ['chardev=ID', 'reconnect-ms']),
    (['-chardev', 'socket,id=c,path=/nowhere/vm.sock', '-device',
      'vhost-user-rdma-pci,chardev=c'], True, ['/nowhere/vm.sock']),
    (['-chardev', 'null,id=c', '-device', 'vhost-user-rdma-pci,chardev=c'], False,
     ['not shared', 'memory-backend-memfd,id=mem,size=256M,share=on', 'memory-backend=mem']),
    (['-chardev', 'null,id=c', '-device', 'intel-iommu', '-device',
      'vhost-user-rdma-pci,chardev=c'], True, ['virtual IOMMU']),
]


def test_refused(args, shared, words):
    text = Machine(args, shared=shared).fails()
    missing = [word for word in words if word not in text]
    if missing:
        raise QtestError(f'{missing} not in: {text}')


# ---- the runner ---------------------------------------------------------------

BOTH = [test_identity, test_features, test_command, test_intx, test_vectors_partly, test_mask,
        test_stop_cont, test_reset, test_system_reset, test_reset_while_stopped, test_bad_rings,
        test_not_ram, test_migration, test_monitor, test_quit]
PLUGGED = [test_unplug]


def cases():
    def on(make, body, **kwargs):
        def run():
            f = make(**kwargs)
            try:
                body(f)
            except BaseException:
                sys.stdout.write(''.join(f'# {line}\n' for line in f.m.log().splitlines()))
                if hasattr(f, 'daemon'):
                    sys.stdout.write(''.join(f'# {line}\n' for line in f.daemon.log().splitlines()))
                raise
            finally:
                f.stop()
        return run

    vectors = ',num-comp-vectors=2'
    for make in (InProcess, VhostUser):
        for body in BOTH:
            yield f'{make.name}: {body.__name__[5:]}', on(make, body, options=vectors)
        for body in PLUGGED:
            yield f'{make.name}: {body.__name__[5:]}', on(make, body, where=',bus=port0',
                                                          options=vectors)
        for off in ((), ('uc', 'atomic-global', 'dma-key'),
                    ('srq', 'atomic', 'atomic-global', 'resize-cq', 'rnr-nak')):
            yield (f"{make.name}: features_off {' '.join(off)}",
                   on(make, lambda f, off=off: test_features_off(f, off),
                      options=''.join(f',{name}=off' for name in off)))
        yield f'{make.name}: memory_hotplug', on(make, test_memory_hotplug,
                                                 more=['-m', '256M,slots=2,maxmem=1G'])
    yield 'virtio-rdma-pci: bad_memory', on(InProcess, test_bad_memory, more=[
        '-object', 'memory-backend-ram,id=shm,size=1M', '-device', 'ivshmem-plain,memdev=shm'])
    yield 'virtio-rdma-pci: memory_retry', on(OnNull, test_memory_retry)
    for body in (test_stats, test_registered, test_corrupt_queue):
        yield f'virtio-rdma-pci: {body.__name__[5:]}', on(InProcess, body)
    yield 'virtio-rdma-pci: two_devices', on(TwoDevices, test_two_devices)
    for body in (test_daemon_restart, test_daemon_restart_unused, test_daemon_restart_stopped,
                 test_driver_waits):
        yield f'vhost-user-rdma-pci: {body.__name__[5:]}', on(VhostUser, body)
    yield 'vhost-user-rdma-pci: daemon_gone', on(VhostUser, test_daemon_gone, where=',bus=port0')
    for body in (test_fewer_vectors_than_asked, test_fewer_vectors_by_default):
        yield f'vhost-user-rdma-pci: {body.__name__[5:]}', body
    for args, shared, words in REFUSED:
        yield (f"refused: {' '.join(args[-2:])}",
               lambda a=args, s=shared, w=words: test_refused(a, s, w))


class TwoDevices(InProcess):
    @staticmethod
    def before(where):
        return [*NET, *root_port('port0')]


def main():
    for need in (QEMU, VRDMAD):
        if not os.access(need, os.X_OK):
            print(f'1..0 # SKIP {need} is not built: make qemu vrdmad')
            return 0
    todo = [c for c in cases() if len(sys.argv) < 2 or any(a in c[0] for a in sys.argv[1:])]
    failed = 0
    print(f'1..{len(todo)}')
    for number, (name, run) in enumerate(todo, 1):
        try:
            run()
            print(f'ok {number} - {name}', flush=True)
        except Exception:
            failed += 1
            sys.stdout.write(''.join(f'# {line}\n' for line in traceback.format_exc().splitlines()))
            print(f'not ok {number} - {name}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
