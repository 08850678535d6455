# SPDX-License-Identifier: GPL-2.0-or-later
"""The vhost-user daemon, one instance for a test."""

import os
import pathlib
import time

from . import host
from .host import GuestError


class Vrdmad:
    """sockets: paths or full --socket arguments (PATH,key=value,...); a bare name gets
    a path in the run folder. self.sockets are the paths for guests."""

    _count = 0

    def __init__(self, sockets=('a', 'b'), args=(), binary=None, env=None, name=None, net=None):
        Vrdmad._count += 1
        self.name = name or f'vrdmad{Vrdmad._count}'
        self.binary = pathlib.Path(binary or host.BUILD / 'vrdmad' / 'vrdmad')
        if not self.binary.exists():
            raise GuestError(f'{self.binary} is not there: run "make vrdmad"')
        folder = host.run_folder()
        self._arguments = []
        self.sockets = []
        for spec in sockets:
            path, _, rest = str(spec).partition(',')
            if not path.startswith('/'):
                path = str(folder / f'{self.name}-{path}')
            self.sockets.append(path)
            self._arguments += ['--socket', path + (',' + rest if rest else '')]
        self._args = [str(a) for a in args]
        self._env = dict(os.environ, **(env or {}))
        self._net = net
        self.log_path = host.log_folder() / f'{self.name}.log'
        self.process = None

    def start(self, timeout=20):
        argv = [self.binary, *self._arguments, *self._args]
        kwargs = dict(env=self._env, stderr=-2)
        for path in self.sockets:
            if os.path.exists(path):
                os.unlink(path)
        with open(self.log_path, 'wb') as log:
            kwargs['stdout'] = log
            popen = self._net.popen if self._net else host.popen
            self.process = popen(argv, **kwargs)
        deadline = time.monotonic() + timeout
        while not all(os.path.exists(p) for p in self.sockets):
            if self.process.poll() is not None:
                raise GuestError(f'vrdmad ended with status {self.process.returncode}:\n{self.log()}')
            if time.monotonic() > deadline:
                raise GuestError(f'vrdmad made no sockets within {timeout} s:\n{self.log()}')
            time.sleep(0.01)
        return self

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        return self.log_path.read_text(errors='replace') if self.log_path.exists() else ''

    def cpu_seconds(self):
        """User and system time so far. That of an idle daemon does not grow."""
        fields = pathlib.Path(f'/proc/{self.pid}/stat').read_text().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def kill(self):
        """Sends SIGKILL, to simulate a crash. start() starts it again."""
        self.process.kill()
        self.process.wait()

    def stop(self, patience=5):
        """Sends SIGTERM, as a service manager does; returns the exit status."""
        status = host.end(self.process, patience) if self.process else None
        for path in self.sockets:
            if os.path.exists(path):
                os.unlink(path)
        return status

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()
