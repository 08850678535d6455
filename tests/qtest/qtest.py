# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU without a guest: the test program acts as the guest, through QEMU's qtest protocol (port
and memory accesses as text lines), and as the user, through QMP.

Tests the QEMU code of both devices.  Used by test_*.py in this folder.
"""

import base64
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
QEMU = os.environ.get('QEMU', str(TOP / 'build' / 'qemu' / 'qemu-system-x86_64'))
VRDMAD = os.environ.get('VRDMAD', str(TOP / 'build' / 'vrdmad' / 'vrdmad'))
RAM = 256 << 20


class QtestError(Exception):
    pass


def wait_for(what, condition, timeout=20):
    """Waits until condition() is true, because the device works in its own threads."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise QtestError(f'waited {timeout} s for {what}')
        time.sleep(0.002)


class Lines:
    """A line-based protocol on a unix socket. QEMU connects to it or listens on it."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(60)
        self.file = sock.makefile('rw')

    def send(self, line):
        self.file.write(line + '\n')
        self.file.flush()

    def receive(self):
        line = self.file.readline()
        if not line:
            raise QtestError('QEMU went away')
        return line.rstrip('\n')

    def close(self):
        self.file.close()
        self.sock.close()


class Machine:
    """A q35 machine with RAM bytes of shared memory and the given arguments."""

    def __init__(self, args, shared=True, machine='q35', more=(), env=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='vrdma-qtest-'))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.folder / 'qtest'))
        self.listener.listen(1)
        self.events = []
        self.qmp_lines = None
        self.lines = None
        argv = [QEMU, '-nodefaults', '-no-user-config', '-display', 'none',
                '-accel', 'qtest', '-m', str(RAM >> 20), '-smp', '2',
                '-qtest', f'unix:{self.folder}/qtest', '-qtest-log', '/dev/null',
                '-qmp', f'unix:{self.folder}/qmp,server=on,wait=off']
        if shared:
            argv += ['-object', f'memory-backend-memfd,id=mem,size={RAM},share=on']
            machine += ',memory-backend=mem'
        argv += ['-machine', machine, *more, *args]
        self.log_path = self.folder / 'log'
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **(env or {})})

    def connect(self):
        self.listener.settimeout(30)
        while True:
            try:
                self.listener.settimeout(0.1)
                sock, _ = self.listener.accept()
                break
            except socket.timeout:
                if self.process.poll() is not None:
                    raise QtestError(f'QEMU ended:\n{self.log()}') from None
        self.lines = Lines(sock)
        return self

    def fails(self, timeout=20):
        """QEMU must refuse to start; returns its message."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise QtestError('QEMU started') from None
        text = self.log()
        self.stop()
        if status != 1:
            raise QtestError(f'QEMU ended with status {status}: {text}')
        return text

    def log(self):
        return self.log_path.read_text(errors='replace')

    # ---- the guest's side

    def command(self, line):
        self.lines.send(line)
        answer = self.lines.receive()
        while answer.startswith('IRQ '):
            answer = self.lines.receive()
        if not answer.startswith('OK'):
            raise QtestError(f'{line}: {answer}')
        return answer[3:]

    def outl(self, port, value):
        self.command(f'outl {port:#x} {value:#x}')

    def inl(self, port):
        return int(self.command(f'inl {port:#x}'), 16)

    def write(self, addr, data):
        text = base64.b64encode(data).decode()
        self.command(f'b64write {addr:#x} {len(data):#x} {text}')

    def read(self, addr, size):
        return base64.b64decode(self.command(f'b64read {addr:#x} {size:#x}'))

    def store(self, addr, value, size):
        letter = {1: 'b', 2: 'w', 4: 'l', 8: 'q'}[size]
        self.command(f'write{letter} {addr:#x} {value:#x}')

    def load(self, addr, size):
        letter = {1: 'b', 2: 'w', 4: 'l', 8: 'q'}[size]
        return int(self.command(f'read{letter} {addr:#x}'), 16)

    # ---- the user's side

    def qmp(self, command, **arguments):
        if not self.qmp_lines:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(self.folder / 'qmp'))
            self.qmp_lines = Lines(sock)
            self.qmp_lines.receive()
            self.qmp('qmp_capabilities')
        self.qmp_lines.send(json.dumps({'execute': command, 'arguments': arguments}))
        while True:
            answer = json.loads(self.qmp_lines.receive())
            if 'event' in answer:
                self.events.append(answer)
            elif 'error' in answer:
                raise QtestError(answer['error']['desc'])
            else:
                return answer['return']

    def hmp(self, line):
        return self.qmp('human-monitor-command', **{'command-line': line})

    def stop(self):
        """Ends QEMU by QMP if it still runs; returns its status."""
        if self.process.poll() is None:
            try:
                self.qmp('quit')
            except (QtestError, OSError):
                pass
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGKILL)
                self.process.wait()
        for lines in (self.lines, self.qmp_lines):
            if lines:
                lines.close()
        self.lines = self.qmp_lines = None
        self.listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.process.returncode


class Daemon:
    """A vrdmad with one socket, which can be killed and started again."""

    def __init__(self, options=''):
        self.folder = tempfile.mkdtemp(prefix='vrdma-qtest-')
        self.path = f'{self.folder}/vm.sock'
        self.options = options
        self.process = None
        self.start()

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        with open(f'{self.folder}/log', 'ab') as log:
            self.process = subprocess.Popen(
                [VRDMAD, '--socket', self.path + self.options], stdout=log, stderr=log)
        wait_for('the socket of vrdmad', lambda: os.path.exists(self.path) or
                 self.process.poll() is not None)
        if self.process.poll() is not None:
            raise QtestError(f'vrdmad ended:\n{self.log()}')

    def log(self):
        return pathlib.Path(f'{self.folder}/log').read_text(errors='replace')

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.process.returncode
