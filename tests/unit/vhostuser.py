# SPDX-License-Identifier: GPL-2.0-or-later
"""A vhost-user client and a vrdmad under test, for the test_vrdmad*.py programs.

Client acts as QEMU or UML's virtio_uml: correctly by its named methods, or in any way by raw().
Daemon starts a vrdmad and checks how it ends.
"""

import array
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

GET_FEATURES = 1
SET_FEATURES = 2
SET_OWNER = 3
RESET_OWNER = 4
SET_MEM_TABLE = 5
SET_VRING_NUM = 8
SET_VRING_ADDR = 9
SET_VRING_BASE = 10
GET_VRING_BASE = 11
SET_VRING_KICK = 12
SET_VRING_CALL = 13
SET_VRING_ERR = 14
GET_PROTOCOL_FEATURES = 15
SET_PROTOCOL_FEATURES = 16
GET_QUEUE_NUM = 17
SET_VRING_ENABLE = 18
SET_BACKEND_REQ_FD = 21
IOTLB_MSG = 22
GET_CONFIG = 24
SET_CONFIG = 25
RESET_DEVICE = 34
GET_MAX_MEM_SLOTS = 36
ADD_MEM_REG = 37
REM_MEM_REG = 38
SET_STATUS = 39

VERSION = 1
REPLY = 1 << 2
NEED_REPLY = 1 << 3
NOFD = 1 << 8

F_VERSION_1 = 1 << 32
F_ACCESS_PLATFORM = 1 << 33
F_PROTOCOL = 1 << 30
P_MQ = 1 << 0
P_REPLY_ACK = 1 << 3
P_BACKEND_REQ = 1 << 5
P_CONFIG = 1 << 9
P_RESET_DEVICE = 1 << 13
P_MEM_SLOTS = 1 << 15

F_ADD_SEALS = 1033
F_SEAL_SHRINK = 2

# Addresses of the client's memory, in its own and in the guest's address space.
USER_BASE = 0x7F0000000000
GUEST_BASE = 0x100000
MEM_SIZE = 1 << 20


class Closed(Exception):
    """The daemon closed the connection."""


def memfd(size=MEM_SIZE, seals=F_SEAL_SHRINK):
    fd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def region(guest=GUEST_BASE, size=MEM_SIZE, user=USER_BASE, offset=0):
    return struct.pack("<QQQQ", guest, size, user, offset)


def mem_table(*regions, num=None, pad=b""):
    return struct.pack("<II", len(regions) if num is None else num, 0) + b"".join(regions) + pad


def state(index, num):
    return struct.pack("<II", index, num)


def u64(value):
    return struct.pack("<Q", value)


class Client:
    def __init__(self, path, timeout=20):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.fds = []           # open as long as the client

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def keep(self, fd):
        self.fds.append(fd)
        return fd

    def raw(self, data, fds=()):
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self.sock.sendmsg([data], anc)
            if sent < len(data):
                self.sock.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed from e

    def send(self, request, payload=b"", fds=(), flags=VERSION):
        self.raw(struct.pack("<III", request, flags, len(payload)) + payload, fds)

    def exactly(self, size):
        data = b""
        while len(data) < size:
            try:
                part = self.sock.recv(size - len(data))
            except ConnectionResetError as e:
                raise Closed from e
            if not part:
                raise Closed
            data += part
        return data

    def receive(self, request):
        got, flags, size = struct.unpack("<III", self.exactly(12))
        payload = self.exactly(size)
        if got != request or flags != VERSION | REPLY:
            raise AssertionError(f"reply to {request}: request {got}, flags {flags:#x}")
        return payload

    def ask(self, request, payload=b""):
        self.send(request, payload)
        return self.receive(request)

    def ask_u64(self, request):
        return struct.unpack("<Q", self.ask(request))[0]

    def tell(self, request, payload=b"", fds=()):
        """Requests an acknowledgement; returns 0 or the daemon's error."""
        self.send(request, payload, fds, VERSION | NEED_REPLY)
        return struct.unpack("<Q", self.receive(request))[0]

    def must(self, request, payload=b"", fds=()):
        if self.tell(request, payload, fds):
            raise AssertionError(f"request {request} was refused")

    def closed(self):
        """True after the daemon has hung up; data that it still sent is read."""
        try:
            while True:
                self.exactly(1)
        except Closed:
            return True
        except socket.timeout:
            return False

    # -- a well-behaved client ------------------------------------------------

    def negotiate(self, protocol=None, features=None):
        offered = self.ask_u64(GET_FEATURES)
        if not offered & F_PROTOCOL:
            raise AssertionError("no protocol features offered")
        offered_protocol = self.ask_u64(GET_PROTOCOL_FEATURES)
        wanted = offered_protocol if protocol is None else protocol
        # Like UML: with acknowledgements from this message on.
        self.must(SET_PROTOCOL_FEATURES, u64(wanted))
        self.must(SET_OWNER)
        # Like QEMU: without ACCESS_PLATFORM if there is no vIOMMU.
        self.must(SET_FEATURES, u64(offered & ~F_ACCESS_PLATFORM if features is None
                                    else features))
        return offered, offered_protocol

    def add_memory(self, slots=True):
        fd = self.keep(memfd())
        if slots:
            self.must(ADD_MEM_REG, u64(0) + region(), [fd])
        else:
            self.must(SET_MEM_TABLE, mem_table(region(), pad=bytes(32)), [fd])
        return fd

    def start_vring(self, index, base=0, num=64, enable=True):
        """Sets up ring @index in page 2 * @index; returns its kick and call descriptors."""
        at = USER_BASE + index * 8192
        kick = self.keep(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        call = self.keep(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self.must(SET_VRING_NUM, state(index, num))
        self.must(SET_VRING_BASE, state(index, base))
        self.must(SET_VRING_ADDR, struct.pack("<IIQQQQ", index, 0, at, at + 4096,
                                              at + 2048, 0))
        self.must(SET_VRING_CALL, u64(index), [call])
        self.must(SET_VRING_KICK, u64(index), [kick])
        if enable:
            self.must(SET_VRING_ENABLE, state(index, 1))
        return kick, call

    def start(self, queues=None, slots=True):
        self.negotiate()
        self.add_memory(slots)
        for i in range(queues or self.ask_u64(GET_QUEUE_NUM)):
            self.start_vring(i)

    def stop_vring(self, index):
        got, base = struct.unpack("<II", self.ask(GET_VRING_BASE, state(index, 0)))
        if got != index:
            raise AssertionError(f"GET_VRING_BASE of {index} answered for {got}")
        return base


def build_daemon():
    """The binary to test: $VRDMAD, or the sanitizer build, which is built now."""
    if os.environ.get("VRDMAD"):
        return os.environ["VRDMAD"]
    subprocess.run(["make", "--no-print-directory", "-C", os.path.join(TOP, "qemu-device"),
                    "vrdmad", "SANITIZE=address,undefined"], check=True, stdout=sys.stderr)
    return os.path.join(TOP, "build", "vrdmad-asan", "vrdmad")


class Daemon:
    """A vrdmad with its own folder, which notifies when it is ready."""

    def __init__(self, binary, sockets, *options, folder=None):
        self.tmp = None if folder else tempfile.TemporaryDirectory(prefix="vrdmad-")
        self.folder = folder or self.tmp.name
        self.paths = [os.path.join(self.folder, s.split(",")[0]) for s in sockets]
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify_path = os.path.join(self.folder, "notify")
        if os.path.exists(notify_path):
            os.unlink(notify_path)
        notify.bind(notify_path)
        notify.settimeout(30)
        argv = [binary]
        for s in sockets:
            argv += ["--socket", os.path.join(self.folder, s)]
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen(argv + list(options), stderr=log,
                                         env=dict(os.environ, NOTIFY_SOCKET=notify_path))
        try:
            self.ready = notify.recv(64) == b"READY=1"
        except socket.timeout:
            self.ready = False
        notify.close()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def num_fds(self):
        return len(os.listdir(f"/proc/{self.proc.pid}/fd"))

    def num_maps(self):
        with open(f"/proc/{self.proc.pid}/maps", encoding="ascii") as f:
            return len(f.readlines())

    def cpu_ticks(self):
        with open(f"/proc/{self.proc.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def stop(self):
        """Ends it; returns what was wrong, or None."""
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        try:
            status = self.proc.wait(60)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            return "it did not end"
        log = self.log()
        if self.tmp:
            self.tmp.cleanup()
        for sign in ("Sanitizer", "runtime error"):
            if sign in log:
                print("# " + log[-8000:].replace("\n", "\n# "))
                return f"its log has '{sign}'"
        if status:
            print("# " + log[-4000:].replace("\n", "\n# "))
            return f"it ended with status {status}"
        return None


class Tap:
    """Numbers the results and keeps the verdict."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def ok(self, good, name):
        self.count += 1
        if not good:
            self.failed += 1
        print(f"{'ok' if good else 'not ok'} {self.count} - {name}", flush=True)
        return good

    def run(self, name, function, *args):
        """A test is a function that returns None or the failure."""
        try:
            wrong = function(*args)
        except Exception as e:          # an exception in one test must not hide the others
            wrong = f"{type(e).__name__}: {e}"
        return self.ok(not wrong, name + (f": {wrong}" if wrong else ""))

    def done(self):
        print(f"1..{self.count}")
        return 1 if self.failed else 0
