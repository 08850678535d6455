# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in a guest: the host's end of tools/guest/agent.

One thread per guest reads the agent's line; all other threads wait on a condition. An
end-of-file on the line means that the guest has ended, and wakes all of them."""

import collections
import socket
import threading
import time

from .host import GuestError

Result = collections.namedtuple('Result', 'stdout rc')


class Channel:
    def __init__(self, sock, share, obituary):
        """obituary(): returns why the guest has ended, for error messages."""
        self._sock = sock
        self._share = share
        self._obituary = obituary
        self._cond = threading.Condition()
        self._next = 0
        self._ready = False
        self._dead = False
        self._done = {}
        self._synced = set()
        threading.Thread(target=self._read, daemon=True).start()

    # ---- the reading thread ----

    def _read(self):
        rest = b''
        while True:
            try:
                data = self._sock.recv(4096)
            except OSError:
                data = b''
            if not data:
                break
            *lines, rest = (rest + data).split(b'\n')
            for line in lines:
                self._take(line.decode(errors='replace').split())
        with self._cond:
            self._dead = True
            self._cond.notify_all()

    def _take(self, words):
        if '@' not in words:     # noise on the line just after the start
            return
        words = words[words.index('@') + 1:]
        with self._cond:
            if words[:1] == ['ready']:
                self._ready = True
            elif words[:1] == ['done'] and len(words) == 3:
                self._done[words[1]] = int(words[2])
            elif words[:1] == ['synced'] and len(words) == 2:
                self._synced.add(words[1])
            self._cond.notify_all()

    # ---- for callers ----

    @property
    def dead(self):
        return self._dead

    def send(self, line):
        try:
            self._sock.sendall(line.encode() + b'\n')
        except OSError:
            raise GuestError(self._obituary()) from None

    def _wait(self, condition, timeout):
        """True if the condition holds, False after the timeout; raises if the guest ends."""
        with self._cond:
            self._cond.wait_for(lambda: condition() or self._dead, timeout)
            if condition():
                return True
            if not self._dead:
                return False
        raise GuestError(self._obituary())

    def wait_ready(self, timeout):
        return self._wait(lambda: self._ready, timeout)

    def wait_dead(self, timeout):
        with self._cond:
            return self._cond.wait_for(lambda: self._dead, timeout)

    def spawn(self, command):
        with self._cond:
            self._next += 1
            ident = str(self._next)
        (self._share / f'{ident}.cmd').write_text(command + '\n')
        self.send(f'run {ident}')
        return Command(self, ident, command)

    def close(self):
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()


class Command:
    """A command that was started in a guest."""

    def __init__(self, channel, ident, text):
        self._channel = channel
        self._ident = ident
        self.text = text
        self._out = channel._share / f'{ident}.out'

    @property
    def rc(self):
        """The exit status, or None while it runs (128 + n: killed by signal n)."""
        return self._channel._done.get(self._ident)

    def running(self):
        return self.rc is None and not self._channel.dead

    def wait(self, timeout=60, check=True):
        """Returns Result(stdout, rc). After the timeout, kills the command and raises."""
        channel = self._channel
        if not channel._wait(lambda: self.rc is not None, timeout):
            self.kill('KILL')
            try:
                channel._wait(lambda: self.rc is not None, 5)
            except GuestError:
                pass
            raise GuestError(f'not done after {timeout} s: {self.text}\n{self._tail()}')
        if check and self.rc != 0:
            raise GuestError(f'exit status {self.rc}: {self.text}\n{self._tail()}')
        return Result(self._text(), self.rc)

    def output(self):
        """Output so far. (Programs buffer their output: see stdbuf(1).)"""
        if self.running():
            with self._channel._cond:
                self._channel._synced.discard(self._ident)
            self._channel.send(f'sync {self._ident}')
            self._channel._wait(lambda: self._ident in self._channel._synced, 10)
        return self._text()

    def wait_output(self, text, timeout=30):
        """Waits until the output contains text; returns the output so far."""
        deadline = time.monotonic() + timeout
        while True:
            running = self.running()
            out = self.output()
            if text in out:
                return out
            if not running:
                raise GuestError(f'ended without printing "{text}": {self.text}\n{self._tail()}')
            if time.monotonic() > deadline:
                raise GuestError(f'no "{text}" after {timeout} s: {self.text}\n{self._tail()}')
            time.sleep(0.05)

    def kill(self, signal='TERM'):
        """Sends a signal to its process group."""
        if self.running():
            self._channel.send(f'kill {self._ident} {signal}')

    def _text(self):
        try:
            return self._out.read_text(errors='replace')
        except FileNotFoundError:
            return ''

    def _tail(self):
        return ''.join('    ' + l for l in self._text().splitlines(keepends=True)[-30:])
