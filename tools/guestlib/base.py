# SPDX-License-Identifier: GPL-2.0-or-later
"""Common part of UML and QEMU guests. A subclass implements how to start one."""

import pathlib
import shutil
import socket
import time

from . import console, host
from .channel import Channel
from .host import GuestError


class Guest:
    """Use start(), wait_ready(), run() or spawn(), and stop(); or 'with', which calls all but
    run(). Several threads may use one guest."""

    flush = False        # if the guest must flush output files to the shared folder
    agent_tty = None     # name of the agent's line in the guest
    ready_timeout = 120
    harmless = console.HARMLESS

    def __init__(self, name, net=None, mac=None, ip=None, udev=False):
        self.name = name
        self.net = net
        self.udev = udev
        if net and not (mac and ip):
            default = net.address()
            mac, ip = mac or default[0], ip or default[1]
        self.mac = mac
        self.ip = ip.split('/')[0] if ip else None
        self._cidr = ip if not ip or '/' in ip else ip + '/24'
        self.folder = pathlib.Path(host.run_folder()) / name
        self.share = self.folder / 'share'      # /vrdma in the guest
        self._console = self.folder / 'console.log'
        self._console_seen = 0
        self._process = None
        self._channel = None
        self._stopped = False
        self.boot_seconds = None

    # ---- life ----

    def start(self):
        if self._process:
            raise GuestError(f'{self.name} was started already')
        shutil.rmtree(self.folder, ignore_errors=True)
        self.share.mkdir(parents=True)
        self._console.touch()
        shutil.copy(host.TOOLS / 'guest' / 'agent', self.share / 'agent')
        self._write_config()
        ours, theirs = socket.socketpair()
        self._started = time.monotonic()
        try:
            self._process = self._launch(theirs)
        finally:
            theirs.close()
        self._channel = Channel(ours, self.share, self._obituary)
        return self

    def wait_ready(self, timeout=None):
        timeout = timeout or self.ready_timeout
        if not self._channel.wait_ready(timeout):
            raise GuestError(f'{self.name} is not up after {timeout} s\n{self._console_tail()}')
        if self.boot_seconds is None:
            self.boot_seconds = time.monotonic() - self._started
        return self

    def stop(self, poweroff=False):
        """Ends the guest and deletes what it wrote; its console log stays in the log folder.

        poweroff: let the guest's kernel shut down first, to test that drivers stop."""
        if self._process is None or self._stopped:
            return
        self._stopped = True
        if poweroff and not self._channel.dead:
            self._channel.send('poweroff')
            self._channel.wait_dead(30)
        host.end(self._process)
        self._channel.close()
        self._closed()
        shutil.copy(self._console, host.log_folder() / f'{self.name}.console.log')

    @property
    def pid(self):
        return self._process.pid

    def alive(self):
        return self._process is not None and self._process.poll() is None

    def __enter__(self):
        try:
            self.start()
            return self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc):
        self.stop()

    # ---- commands ----

    def spawn(self, command):
        """Starts a shell command in the guest; see channel.Command."""
        return self._channel.spawn(command)

    def run(self, command, timeout=60, check=True):
        """Runs a shell command in the guest: Result(stdout, rc)."""
        return self.spawn(command).wait(timeout, check)

    # ---- the kernel's log ----

    def console_log(self):
        return self._console.read_text(errors='replace') if self._console.exists() else ''

    def kernel_problems(self):
        """Reports of kernel bugs since the last call; empty if there are none."""
        log = self.console_log()
        new, self._console_seen = log[self._console_seen:], len(log)
        return console.problems(new, harmless=self.harmless)

    def _console_tail(self, lines=40):
        tail = self.console_log().splitlines()[-lines:]
        return f'--- end of the console of {self.name}:\n' + '\n'.join(tail)

    def _obituary(self):
        # The line closes shortly before the process can be waited for.
        try:
            status = self._process.wait(5)
        except Exception:
            status = 'unknown'
        word = 'was stopped' if self._stopped else f'died (exit status {status})'
        return f'guest {self.name} {word}\n{self._console_tail()}{self._last_words()}'

    # ---- for subclasses ----

    def _launch(self, agent):
        """Starts the guest. @agent is the socket for its agent_tty. Returns a Popen."""
        raise NotImplementedError

    def _layers(self):
        """Layers of its root, topmost first: see tools/guest/init."""
        raise NotImplementedError

    def _closed(self):
        pass

    def _last_words(self):
        return ''

    def _write_config(self):
        config = {'GUEST_NAME': self.name, 'GUEST_MAC': self.mac or '', 'GUEST_IP': self._cidr or '',
                  'GUEST_MTU': self.net.mtu if self.net else '', 'GUEST_UDEV': int(self.udev),
                  'GUEST_FLUSH': int(self.flush), 'AGENT_TTY': self.agent_tty,
                  'LAYERS': ' '.join(self._layers())}
        (self.share / 'config').write_text(''.join(f"{k}='{v}'\n" for k, v in config.items()))
