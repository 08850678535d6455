# SPDX-License-Identifier: GPL-2.0-or-later
"""Common parts of the tests on guests: TAP, pairs of guests, programs that run between them.

Imported by the test_*.py of this folder. Each of those is one program of a tier.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import traceback

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tools'))
import guest                                               # noqa: E402
from guestlib import host                                  # noqa: E402
from guestlib.rdma import between, load, wait_listening    # noqa: E402,F401

MACS = ['52:54:00:12:00:0a', '52:54:00:12:00:0b', '52:54:00:12:00:0c']
IPS = ['192.168.77.1', '192.168.77.2', '192.168.77.3']

# UML_KERNEL=uml-debug runs a UML test on the kernel with lockdep and KASAN.
KERNEL = os.environ.get('UML_KERNEL', 'uml')

# The IPv4 GID: index 0 is the link-local one of the MAC.
GID = '-g 1'


def wait_connected(g, program, timeout=60):
    """Waits until a QP of the program is in RTS: only traffic follows."""
    g.run(f'for i in $(seq {timeout * 10}); do rdma resource show qp 2>/dev/null | '
          f'grep "state RTS.*comm {program}" && exit 0; sleep 0.1; done; '
          f'echo "{program} has no QP in RTS:"; rdma resource show qp; exit 1', timeout=timeout + 60)


class Tap:
    """Prints TAP. A test that raises is a failure; the next test still runs."""

    def __init__(self):
        self.number = 0
        self.failed = 0
        self.guests = []

    def report(self, name, problem=None):
        self.number += 1
        print(f"{'not ok' if problem else 'ok'} {self.number} - {name}", flush=True)
        if problem:
            self.failed += 1
            for line in str(problem).splitlines()[-60:]:
                print(f'# {line}', flush=True)

    def skip(self, name, why):
        self.number += 1
        print(f'ok {self.number} - {name} # SKIP {why}', flush=True)

    def run(self, name, test, *args, **kwargs):
        """Reports one test. A report of the kernel while it ran is a failure."""
        problem = None
        try:
            problem = test(*args, **kwargs)
        except guest.GuestError as error:
            problem = str(error)
        except Exception:
            problem = traceback.format_exc()
        complaints = [line for g in self.guests for line in g.kernel_problems()]
        if complaints:
            problem = f"{problem or ''}\nkernel: " + '\nkernel: '.join(map(str, complaints))
        self.report(name, problem)
        return problem is None

    def relay(self, prefix, text):
        """Reports the results of a TAP program that ran in a guest."""
        lines = text.splitlines()
        results = [i for i, line in enumerate(lines) if line.startswith(('ok ', 'not ok '))]
        for i in results:
            status, _, name = lines[i].partition(' - ')
            notes = []
            for line in lines[i + 1:]:
                if not line.startswith('#'):
                    break
                notes.append(line[2:])
            self.report(f'{prefix}: {name}',
                        None if status.startswith('ok') else '\n'.join(notes) or 'failed')
        if not results:
            self.report(prefix, f'no results:\n{text}')

    def end(self):
        print(f'1..{self.number}', flush=True)
        sys.exit(1 if self.failed else 0)


@contextlib.contextmanager
def uml_guests(tap, count=2, modprobe=True, mem='1G', daemon_args=(), binary=None, kernel=KERNEL, **kwargs):
    """UML guests on one vrdmad and one network: yields (daemon, guests)."""
    specs = [f'{"abc"[i]},unsealed=on,mac={MACS[i]}' for i in range(count)]
    daemon = guest.Vrdmad(specs, args=daemon_args, binary=binary).start()
    try:
        with guest.Network() as net, contextlib.ExitStack() as stack:
            guests = [guest.UmlGuest('abc'[i], net, mac=MACS[i], ip=IPS[i], mem=mem, kernel=kernel,
                                     vhost_user_sockets=[daemon.sockets[i]], **kwargs)
                      for i in range(count)]
            for g in guests:
                stack.callback(g.stop)
                g.start()
            for g in guests:
                g.wait_ready()
                if modprobe:
                    load(g)
            tap.guests = guests
            yield daemon, guests
            tap.guests = []
        if not daemon.alive():
            tap.report('vrdmad is alive at the end', daemon.log()[-3000:])
    finally:
        daemon.stop()


@contextlib.contextmanager
def qemu_guests(tap, count=2, modprobe=True, daemon_args=(), devices=None, **kwargs):
    """QEMU guests on one vrdmad, or with the devices given (a list for each guest)."""
    daemon = None
    if devices is None:
        daemon = guest.Vrdmad([f'{"abc"[i]},mac={MACS[i]}' for i in range(count)],
                              args=daemon_args).start()
        devices = [guest.vhost_user_device(s) for s in daemon.sockets]
    try:
        with guest.Network() as net, contextlib.ExitStack() as stack:
            guests = [guest.QemuGuest('abc'[i], net, mac=MACS[i], ip=IPS[i], devices=devices[i],
                                      **kwargs) for i in range(count)]
            for g in guests:
                stack.callback(g.stop)
                g.start()
            for g in guests:
                g.wait_ready()
                if modprobe:
                    load(g)
            tap.guests = guests
            yield daemon, guests
            tap.guests = []
        if daemon and not daemon.alive():
            tap.report('vrdmad is alive at the end', daemon.log()[-3000:])
    finally:
        if daemon:
            daemon.stop()


def hw_counters(g):
    """The device's and the driver's counters, by name."""
    text = g.run('cd /sys/class/infiniband/*/hw_counters && grep . *').stdout
    pairs = (line.split(':') for line in text.split())
    return {name: int(value) for name, value in pairs}


def cpu_ticks(pid):
    """User and system time, in clock ticks, of a process and all its descendants, including
    those that have ended and were waited for."""
    children, ticks = {}, {}
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        try:
            with open(f'/proc/{name}/stat', encoding='ascii', errors='replace') as stat:
                fields = stat.read().rsplit(')', 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        ticks[int(name)] = sum(map(int, fields[11:15]))
    total, left = 0, [pid]
    while left:
        one = left.pop()
        total += ticks.get(one, 0)
        left += children.get(one, [])
    return total


def build_program(name, library=None):
    """Compiles tests/guest/NAME for the guests, into their layer, as vrdma-NAME; with an MPI
    library ('openmpi', 'mpich'), as vrdma-NAME-LIBRARY."""
    args = [name, library] if library else [name]
    done = subprocess.run([str(TOP / 'tests' / 'guest' / 'build-program.sh'), *args], cwd=TOP,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'1..1\nnot ok 1 - vrdma-{"-".join(args)} compiles\n# {done.stdout}')


def build_modules(*names, kernel=KERNEL):
    """Compiles kernel modules of the tests (tests/kunit, tests/kverbs) for UML, in a copy of
    the sources; returns the file of each."""
    obj = TOP / 'build' / 'obj' / f'test-modules-{kernel}'
    for folder in ('drivers', 'include', *(f'tests/{name}' for name in names)):
        subprocess.run(['rsync', '-rlpc', '--mkpath', f'{TOP / folder}/', f'{obj / folder}/'], check=True)
    modules = []
    for name in names:
        done = subprocess.run(['make', '-C', host.product(kernel), 'ARCH=um', f'M={obj}/tests/{name}', 'modules'],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise SystemExit(f'1..1\nnot ok 1 - {name} compiles\n# ' + done.stdout.replace('\n', '\n# '))
        modules.append(obj / 'tests' / name / f'vrdma_{name}.ko')
    return modules


def build_guest_module(name):
    """Compiles a test's kernel module for the Debian guest's own kernel; returns its file."""
    obj = TOP / 'build' / 'obj' / 'test-modules-guest'
    for folder in ('drivers', 'include', f'tests/{name}'):
        subprocess.run(['rsync', '-rlpc', '--mkpath', f'{TOP / folder}/', f'{obj / folder}/'], check=True)
    root = host.product('guest-root') / 'root'
    release = os.listdir(root / 'usr' / 'lib' / 'modules')[0]
    make = f'make -C /usr/lib/modules/{release}/build M=/mnt/work/tests/{name} modules'
    done = subprocess.run([str(TOP / 'tools' / 'in-guest-root.sh'), str(obj), make],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'1..1\nnot ok 1 - {name} compiles\n# ' + done.stdout.replace('\n', '\n# '))
    return obj / 'tests' / name / f'vrdma_{name}.ko'


def verify(tap, prefix, server, client, options='', timeout=600):
    """Runs vrdma-verify between two guests (or within one): each case is a result."""
    there = server.spawn(f'vrdma-verify {options}')
    try:
        wait_listening(server)
        done = client.run(f'vrdma-verify {options} {server.ip}', timeout=timeout,
                          check=False)
        tap.relay(prefix, done.stdout)
        tap.run(f'{prefix}: the server ends well', lambda: there.wait(timeout=60) and None)
    except guest.GuestError as error:
        tap.report(f'{prefix}: runs', f'{error}\n--- the server said:\n{there.output()}')
    finally:
        there.kill()
