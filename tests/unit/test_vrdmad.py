#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests vrdmad from outside: options, its sockets, and clients that follow the protocol,
violate it, stall, reconnect and disconnect.  No virtual machine is needed."""

import fcntl
import json
import os
import random
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import vhostuser as vu
from vhostuser import Client, Closed, Daemon, state, u64

# VIRTIO_RDMA_F_UC to _MEM_MGT, but not _VLAN_GID.
DEVICE_FEATURES = 0x1ff & ~(1 << 7)

# ---- the command line ----------------------------------------------------------

# Options, exit status, and what the one message must name.
BAD_OPTIONS = [
    ([], 2, "--socket"),
    (["--nonsense"], 2, "--nonsense"),
    (["--socket"], 2, "--socket"),
    (["--socket", "/tmp/x", "surplus"], 2, "surplus"),
    (["--socket", "/no/such/folder/x"], 2, "/no/such/folder/x"),
    (["--socket", "/tmp/"], 2, "--socket"),
    (["--socket", "/tmp/" + "x" * 200], 2, "--socket"),
    (["--socket", "/tmp/x,mac=01:00:00:00:00:01"], 2, "mac="),
    (["--socket", "/tmp/x,mac=2:3"], 2, "mac="),
    (["--socket", "/tmp/x,vectors=0"], 2, "vectors="),
    (["--socket", "/tmp/x,vectors=254"], 2, "vectors="),
    (["--socket", "/tmp/x,name=a b"], 2, "name="),
    (["--socket", "/tmp/x,fabric="], 2, "fabric="),
    (["--socket", "/tmp/x,allow-gid=10.0.0"], 2, "allow-gid="),
    (["--socket", "/tmp/x,max-qp=0"], 2, "max-qp="),
    (["--socket", "/tmp/x,max-mr-bytes=12Q"], 2, "max-mr-bytes="),
    (["--socket", "/tmp/x,max-ring-bytes=1Q"], 2, "max-ring-bytes="),
    (["--socket", "/tmp/x,unsealed=maybe"], 2, "unsealed="),
    (["--socket", "/tmp/x,colour=red"], 2, "colour"),
    (["--socket", "/tmp/x,mac"], 2, "mac"),
    (["--socket", "/tmp/x", "--socket", "/tmp/../tmp/x"], 2, "/tmp/x"),
    (["--socket", "/tmp/x", "--socket", "/var/tmp/x.sock"], 2, "name="),
    (["--socket", "/tmp/x,mac=52:54:00:00:00:01", "--socket",
      "/tmp/y,mac=52:54:00:00:00:01"], 2, "mac="),
    (["--socket", "/tmp/x", "--pollers", "0"], 2, "--pollers"),
    (["--socket", "/tmp/x", "--pollers", "2", "--poller-cpus", "0"], 2, "--poller-cpus"),
    (["--socket", "/tmp/x", "--poller-cpus", "5-1"], 2, "--poller-cpus"),
    (["--socket", "/tmp/x", "--poll-us", "-1"], 2, "--poll-us"),
    (["--socket", "/tmp/x", "--log-level", "loud"], 2, "--log-level"),
    (["--socket", "/tmp/x", "--socket-mode", "999"], 2, "--socket-mode"),
    (["--socket", "/tmp/vrdmad-test-x", "--user", "no-such-user"], 1, "--user"),
    (["--socket", "/tmp/vrdmad-test-x", "--socket-group", "no-such-group"], 1,
     "--socket-group"),
    (["--stats", "/no/such/socket"], 1, "--stats"),
    (["--socket", "/tmp/x", "--mad-port", "0"], 2, "--mad-port"),
    (["--socket", "/tmp/x", "--mad-port", "4791"], 2, "--mad-key"),
    (["--socket", "/tmp/x", "--mad-listen", "10.0.0.1"], 2, "--mad-key"),
    (["--socket", "/tmp/x", "--mad-key", "/no/such/key"], 2, "ibdev="),
    (["--socket", "/tmp/x,ibdev=rxe0,cm-port=0"], 2, "cm-port"),
    (["--socket", "/tmp/x,cm-port=7471"], 2, "ibdev="),
    (["--socket", "/tmp/x,local=on"], 2, "ibdev="),
    (["--socket", "/tmp/x,ibdev=rxe0,local=perhaps"], 2, "local"),
    (["--socket", "/tmp/vrdmad-test-x,ibdev=rxe0", "--mad-key", "/no/such/key"], 1, "/no/such/key"),
]


def bad_options(binary):
    for argv, status, name in BAD_OPTIONS:
        done = subprocess.run([binary] + argv, capture_output=True, text=True, timeout=30,
                              check=False)
        lines = done.stderr.strip().splitlines()
        if done.returncode != status:
            return f"{argv}: status {done.returncode} instead of {status}: {done.stderr}"
        if len(lines) != 1 or name not in lines[0]:
            return f"{argv}: {done.stderr!r} is not one line that names {name}"
    if os.path.exists("/tmp/vrdmad-test-x"):
        return "a failed start left its socket"
    return None


def informative_options(binary):
    def output(*argv):
        return subprocess.run([binary] + list(argv), capture_output=True, text=True,
                              timeout=30, check=True).stdout

    if not re.fullmatch(r"vrdmad \d+\.\d+\.\d+\n", output("--version")):
        return "--version"
    if "--socket" not in output("--help"):
        return "--help"
    first = output("--socket", "/tmp/a,,b.sock", "--socket", "/tmp/vm1", "--print-qemu-options")
    if first != output("--socket", "/tmp/a,,b.sock", "--socket", "/tmp/vm1",
                       "--print-qemu-options"):
        return "MAC addresses change from start to start"
    macs = re.findall(r"mac=([0-9a-f:]+)", first)
    if len(set(macs)) != 2 or any(not int(m[:2], 16) & 2 or int(m[:2], 16) & 1 for m in macs):
        return f"addresses {macs} are not two local unicast ones"
    for part in ("path=/tmp/a,,b.sock,", "share=on", "vhost-user-rdma-pci,chardev=rdma-vm1",
                 "memory-backend-memfd"):
        if part not in first:
            return f"{part} is not in {first}"
    return None


# ---- sockets --------------------------------------------------------------------

def stale_and_live_sockets(binary):
    with tempfile.TemporaryDirectory(prefix="vrdmad-") as folder:
        path = os.path.join(folder, "vm0.sock")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        first = Daemon(binary, ["vm0.sock"], folder=folder)
        if not first.ready:
            return "a dead daemon's socket was not replaced: " + first.log()
        second = subprocess.run([binary, "--socket", path], capture_output=True, text=True,
                                timeout=30, check=False)
        alive = first.proc.poll() is None and os.path.exists(path)
        wrong = first.stop()
        if second.returncode != 1 or "another process is listening" not in second.stderr:
            return f"second daemon: {second.returncode}, {second.stderr}"
        if not alive:
            return "the second daemon disturbed the first"
        if os.path.exists(path):
            return "the socket was not removed at the end"
        with open(path, "w", encoding="ascii") as f:
            f.write("precious")
        third = subprocess.run([binary, "--socket", path], capture_output=True, text=True,
                               timeout=30, check=False)
        if third.returncode != 1 or not os.path.exists(path) or os.path.getsize(path) != 8:
            return f"a file in the way: {third.returncode}, {third.stderr}"
        return wrong


def second_client(daemon):
    path = daemon.paths[0]
    with Client(path) as first:
        first.negotiate()
        with Client(path) as second:
            try:
                second.send(vu.GET_FEATURES)
                refused = second.closed()
            except Closed:
                refused = True
            if not refused:
                return "it was not refused"
        first.ask_u64(vu.GET_FEATURES)
        if "refused a second client" not in daemon.log():
            return "no message"
    with Client(path) as third:
        third.negotiate()
    return None


# ---- clients that behave -----------------------------------------------------------

def config_of(client, offset, size):
    reply = client.ask(vu.GET_CONFIG, struct.pack("<III", offset, size, 0) + bytes(size))
    return reply[12:]


def handshake(daemon):
    with Client(daemon.paths[0]) as c:
        offered, protocol = c.negotiate()
        if not offered & vu.F_VERSION_1 or not offered & vu.F_ACCESS_PLATFORM:
            return f"features {offered:#x}"
        # All features of the memory transport, and no others.
        if offered & 0xffffff != DEVICE_FEATURES:
            return f"device features {offered & 0xffffff:#x}"
        for bit in (vu.P_MQ, vu.P_REPLY_ACK, vu.P_BACKEND_REQ, vu.P_CONFIG,
                    vu.P_RESET_DEVICE, vu.P_MEM_SLOTS):
            if not protocol & bit:
                return f"protocol features {protocol:#x} lack {bit:#x}"
        if c.ask_u64(vu.GET_QUEUE_NUM) != 3 + 4:
            return "GET_QUEUE_NUM"
        if c.ask_u64(vu.GET_MAX_MEM_SLOTS) < 32:
            return "GET_MAX_MEM_SLOTS"
        config = config_of(c, 0, 8)
        mac, vectors = struct.unpack("<6sH", config)
        if (mac, vectors) != (bytes.fromhex("525400000001"), 4):
            return f"config space {config.hex()}"
        if config_of(c, 4, 4) != config[4:8] or config_of(c, 0, 256)[:8] != config:
            return "parts of the config space differ from the whole"
        if any(config_of(c, 8, 248)):
            return "config space beyond its end is not zero"
    return None


def like_qemu(daemon):
    """Start, pause, resume at the same place, reset, start again."""
    with Client(daemon.paths[0]) as c:
        ours, theirs = socket.socketpair()
        c.must(vu.SET_PROTOCOL_FEATURES, u64(c.ask_u64(vu.GET_PROTOCOL_FEATURES)))
        with ours, theirs:
            c.must(vu.SET_BACKEND_REQ_FD, fds=[theirs.fileno()])
            c.must(vu.SET_BACKEND_REQ_FD, fds=[theirs.fileno()])
        c.start()
        if c.tell(vu.SET_FEATURES, u64(c.ask_u64(vu.GET_FEATURES))) == 0:
            return "features changed while virtqueues run"
        if c.tell(vu.SET_VRING_NUM, state(1, 32)) == 0:
            return "a ring changed its size while it runs"
        num = c.ask_u64(vu.GET_QUEUE_NUM)
        for _ in range(3):
            bases = [c.stop_vring(i) for i in range(num)]
            if any(bases):
                return f"bases {bases} of untouched rings"
            for i in range(num):
                c.start_vring(i, bases[i])
        c.must(vu.RESET_DEVICE)
        if c.tell(vu.SET_VRING_ENABLE, state(0, 1)) != 0:
            return "enabling a ring without kick descriptor was refused"
        c.must(vu.SET_FEATURES, u64(c.ask_u64(vu.GET_FEATURES)))
        for i in range(num):
            c.start_vring(i)
        c.must(vu.REM_MEM_REG, u64(0) + vu.region(offset=0))
    return None


def like_uml(daemon):
    """Rings are enabled late, disabled without GET_VRING_BASE, and set up again; call
    descriptors are sockets."""
    with Client(daemon.paths[0]) as c:
        c.negotiate()
        c.add_memory(slots=False)
        num = c.ask_u64(vu.GET_QUEUE_NUM)
        for _ in range(3):
            for i in range(num):
                c.start_vring(i, num=256 if i == 0 else 64, enable=False)
                ours, theirs = socket.socketpair()
                with theirs:
                    c.must(vu.SET_VRING_CALL, u64(i), [theirs.fileno()])
                c.keep(ours.detach())
            for i in range(num):
                c.must(vu.SET_VRING_ENABLE, state(i, 1))
            for i in reversed(range(num)):
                c.must(vu.SET_VRING_ENABLE, state(i, 0))
            c.must(vu.SET_FEATURES, u64(c.ask_u64(vu.GET_FEATURES)))
    return None


def refused_addresses(daemon):
    """A refused SET_VRING_ADDR leaves the addresses of the ring as they were."""
    with Client(daemon.paths[0]) as c:
        c.negotiate()
        c.add_memory()
        at = vu.USER_BASE

        def addr(desc, used, avail):
            return struct.pack("<IIQQQQ", 0, 0, desc, used, avail, 0)

        c.must(vu.SET_VRING_NUM, state(0, 64))
        c.must(vu.SET_VRING_ADDR, addr(at, at + 4096, at + 2048))
        for desc, used, avail in ((at + 8, at + 4096, at + 2048), (at, at + 4097, at + 2048),
                                  (at, at + 4096, at + 2049)):
            if c.tell(vu.SET_VRING_ADDR, addr(desc, used, avail)) == 0:
                return "misaligned addresses were accepted"
            c.must(vu.SET_VRING_ENABLE, state(0, 1))
            kick = c.keep(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            if c.tell(vu.SET_VRING_KICK, u64(0), [kick]):
                return "the ring does not start at its valid addresses"
            c.stop_vring(0)
    return None


def memory_slots(daemon):
    """Up to the limit, one too many, removed in another order, added again."""
    page = 4096
    with Client(daemon.paths[0]) as c:
        c.negotiate()
        limit = c.ask_u64(vu.GET_MAX_MEM_SLOTS)
        fd = c.keep(vu.memfd((limit + 1) * page))

        def reg(i):
            return u64(0) + vu.region(0x10000000 + 2 * i * page, page,
                                      vu.USER_BASE + 2 * i * page, i * page)

        for i in range(limit):
            c.must(vu.ADD_MEM_REG, reg(i), [fd])
        if c.tell(vu.ADD_MEM_REG, reg(limit), [fd]) == 0:
            return "more regions than the limit"
        order = list(range(limit))
        random.Random(1).shuffle(order)
        for i in order:
            c.must(vu.REM_MEM_REG, reg(i), [fd] if i % 2 else [])
        if c.tell(vu.REM_MEM_REG, reg(0)) == 0:
            return "a region that is not there was removed"
        c.must(vu.ADD_MEM_REG, reg(0), [fd])
    return None


def least_fds(daemon, expected=0):
    """Number of descriptors.  Other threads close those of clients, so this takes a moment:
    waits until there are no more than expected."""
    least = daemon.num_fds()
    deadline = time.monotonic() + (10 if expected else 0.4)
    while least > expected and time.monotonic() < deadline:
        time.sleep(0.02)
        least = min(least, daemon.num_fds())
    return least


def settled_fds(daemon, expected=0):
    """Number of descriptors with one new client, after all earlier clients are gone."""
    with Client(daemon.paths[0]) as c:
        c.negotiate()
        return least_fds(daemon, expected)


# ---- clients that do not -------------------------------------------------------------

def refused_messages(c, scratch):
    """(what, request, payload, fds), each of which must be answered by an error."""
    good = c.keep(vu.memfd())
    short = c.keep(vu.memfd(4096))
    unsealed = c.keep(vu.memfd(seals=0))
    event = c.keep(os.eventfd(0))
    null = c.keep(os.open("/dev/null", os.O_RDWR))
    folder = c.keep(os.open(scratch, os.O_RDONLY | os.O_DIRECTORY))
    file = c.keep(os.open(os.path.join(scratch, "file"), os.O_RDWR | os.O_CREAT))
    os.ftruncate(file, vu.MEM_SIZE)
    with select.epoll() as ep:
        epoll = c.keep(os.dup(ep.fileno()))
    pipe, other_end = os.pipe()
    c.keep(pipe)
    c.keep(other_end)
    r = vu.region
    top = (1 << 64) - 4096

    def addr(index=0, flags=0, desc=vu.USER_BASE, used=vu.USER_BASE + 4096,
             avail=vu.USER_BASE + 2048):
        return struct.pack("<IIQQQQ", index, flags, desc, used, avail, 0)

    yield from [
        ("unoffered features", vu.SET_FEATURES, u64((1 << 63) - 1), []),
        ("no VERSION_1", vu.SET_FEATURES, u64(vu.F_PROTOCOL), []),
        ("unoffered protocol features", vu.SET_PROTOCOL_FEATURES, u64(1 << 1 | 1 << 63), []),
        ("short SET_FEATURES", vu.SET_FEATURES, b"1234", []),
        ("long SET_FEATURES", vu.SET_FEATURES, bytes(16), []),
        ("SET_OWNER with payload", vu.SET_OWNER, bytes(8), []),
        ("SET_OWNER with a descriptor", vu.SET_OWNER, b"", [event]),
        ("writing the config space", vu.SET_CONFIG, struct.pack("<III", 0, 4, 0) + bytes(4), []),
        ("IOTLB", vu.IOTLB_MSG, bytes(32), []),
        ("device status", vu.SET_STATUS, u64(0), []),
        ("request 0", 0, b"", []),
        ("request 7 (log descriptor)", 7, b"", [event]),
        ("request 28 (postcopy)", 28, b"", []),
        ("request 31 (in-flight)", 31, bytes(24), []),
        ("request 35 (in-band kick)", 35, state(0, 0), []),
        ("request 2^32-1", 0xFFFFFFFF, b"", []),
        ("unknown, 4096 bytes", 200, bytes(4096), []),
        ("unknown, 8 descriptors", 200, b"", [event] * 8),
        ("backend channel without descriptor", vu.SET_BACKEND_REQ_FD, b"", []),
        # memory tables
        ("9 regions", vu.SET_MEM_TABLE, vu.mem_table(r(), num=9), [good]),
        ("2^32-1 regions", vu.SET_MEM_TABLE, vu.mem_table(r(), num=0xFFFFFFFF), [good]),
        ("2 regions, payload of 1", vu.SET_MEM_TABLE, vu.mem_table(r(), num=2), [good] * 2),
        ("table of 4 bytes", vu.SET_MEM_TABLE, bytes(4), []),
        ("table of 9 regions' size", vu.SET_MEM_TABLE, vu.mem_table(*[r()] * 9, num=1), [good]),
        ("1 region, no descriptor", vu.SET_MEM_TABLE, vu.mem_table(r()), []),
        ("1 region, 2 descriptors", vu.SET_MEM_TABLE, vu.mem_table(r()), [good] * 2),
        ("1 region, 8 descriptors", vu.SET_MEM_TABLE, vu.mem_table(r()), [good] * 8),
        ("same region twice", vu.SET_MEM_TABLE, vu.mem_table(r(), r()), [good] * 2),
        ("guest addresses overlap", vu.SET_MEM_TABLE,
         vu.mem_table(r(), r(guest=vu.GUEST_BASE + vu.MEM_SIZE - 4096,
                             user=vu.USER_BASE + vu.MEM_SIZE)), [good] * 2),
        ("user addresses overlap", vu.SET_MEM_TABLE,
         vu.mem_table(r(), r(guest=vu.GUEST_BASE + vu.MEM_SIZE,
                             user=vu.USER_BASE - vu.MEM_SIZE + 4096)), [good] * 2),
        ("size 0", vu.SET_MEM_TABLE, vu.mem_table(r(size=0)), [good]),
        ("size of half a page", vu.SET_MEM_TABLE, vu.mem_table(r(size=2048)), [good]),
        ("guest address in a page", vu.SET_MEM_TABLE, vu.mem_table(r(guest=0x1008)), [good]),
        ("user address in a page", vu.SET_MEM_TABLE, vu.mem_table(r(user=0x1008)), [good]),
        ("offset in a page", vu.SET_MEM_TABLE, vu.mem_table(r(size=4096, offset=8)), [good]),
        ("guest address wraps", vu.SET_MEM_TABLE, vu.mem_table(r(guest=top)), [good]),
        ("user address wraps", vu.SET_MEM_TABLE, vu.mem_table(r(user=top)), [good]),
        ("offset wraps", vu.SET_MEM_TABLE, vu.mem_table(r(offset=top)), [good]),
        ("size 2^64 - 4096", vu.SET_MEM_TABLE, vu.mem_table(r(guest=0, size=top)), [good]),
        ("longer than its file", vu.SET_MEM_TABLE, vu.mem_table(r()), [short]),
        ("beyond its file", vu.SET_MEM_TABLE, vu.mem_table(r(size=4096, offset=vu.MEM_SIZE)),
         [good]),
        ("not sealed", vu.SET_MEM_TABLE, vu.mem_table(r()), [unsealed]),
        ("a file", vu.SET_MEM_TABLE, vu.mem_table(r()), [file]),
        ("/dev/null as memory", vu.SET_MEM_TABLE, vu.mem_table(r()), [null]),
        ("a folder as memory", vu.SET_MEM_TABLE, vu.mem_table(r()), [folder]),
        ("an eventfd as memory", vu.SET_MEM_TABLE, vu.mem_table(r()), [event]),
        ("region without descriptor", vu.ADD_MEM_REG, u64(0) + r(), []),
        ("region with two", vu.ADD_MEM_REG, u64(0) + r(), [good] * 2),
        ("short region", vu.ADD_MEM_REG, r(), [good]),
        ("unsealed region", vu.ADD_MEM_REG, u64(0) + r(), [unsealed]),
        ("removing what is not there", vu.REM_MEM_REG, u64(0) + r(guest=0x40000000), []),
    ]
    # From here on there is memory, and queue 0 has a size.
    yield "(memory)", None, None, None
    yield from [
        ("a region on top of another", vu.ADD_MEM_REG, u64(0) + r(), [good]),
        ("removing half a region", vu.REM_MEM_REG, u64(0) + r(size=vu.MEM_SIZE // 2), []),
        ("queue 7 of 7", vu.SET_VRING_NUM, state(7, 64), []),
        ("queue 2^32-1", vu.SET_VRING_NUM, state(0xFFFFFFFF, 64), []),
        ("size 0", vu.SET_VRING_NUM, state(0, 0), []),
        ("size 3", vu.SET_VRING_NUM, state(0, 3), []),
        ("size 65536", vu.SET_VRING_NUM, state(0, 65536), []),
        ("size 2^31", vu.SET_VRING_NUM, state(0, 1 << 31), []),
        ("base 65536", vu.SET_VRING_BASE, state(0, 65536), []),
        ("base of queue 255", vu.SET_VRING_BASE, state(255, 0), []),
        ("address of queue 256", vu.SET_VRING_ADDR, addr(256), []),
        ("address without size", vu.SET_VRING_ADDR, addr(1), []),
        ("short address", vu.SET_VRING_ADDR, addr()[:39], []),
        ("logging", vu.SET_VRING_ADDR, addr(flags=1), []),
        ("table in no region", vu.SET_VRING_ADDR, addr(desc=0x1000), []),
        ("table beyond the end", vu.SET_VRING_ADDR,
         addr(desc=vu.USER_BASE + vu.MEM_SIZE - 16), []),
        ("table at 2^64 - 16", vu.SET_VRING_ADDR, addr(desc=(1 << 64) - 16), []),
        ("available ring beyond the end", vu.SET_VRING_ADDR,
         addr(avail=vu.USER_BASE + vu.MEM_SIZE - 2), []),
        ("used ring before the start", vu.SET_VRING_ADDR, addr(used=vu.USER_BASE - 4), []),
        ("misaligned table", vu.SET_VRING_ADDR, addr(desc=vu.USER_BASE + 8), []),
        ("kick of queue 7", vu.SET_VRING_KICK, u64(7), [event]),
        ("kick with unknown bits", vu.SET_VRING_KICK, u64(1 << 9), [event]),
        ("kick without descriptor", vu.SET_VRING_KICK, u64(0), []),
        ("kick by polling", vu.SET_VRING_KICK, u64(0 | vu.NOFD), []),
        ("kick, no descriptor, but one", vu.SET_VRING_KICK, u64(0 | vu.NOFD), [event]),
        ("kick with two", vu.SET_VRING_KICK, u64(0), [event] * 2),
        ("a folder as kick", vu.SET_VRING_KICK, u64(0), [folder]),
        ("a pipe as kick", vu.SET_VRING_KICK, u64(0), [pipe]),
        ("a file as call", vu.SET_VRING_CALL, u64(0), [file]),
        ("/dev/null as call", vu.SET_VRING_CALL, u64(0), [null]),
        ("an epoll as call", vu.SET_VRING_CALL, u64(0), [epoll]),
        ("a memfd as error", vu.SET_VRING_ERR, u64(0), [good]),
        ("enable of queue 7", vu.SET_VRING_ENABLE, state(7, 1), []),
        ("enable 2", vu.SET_VRING_ENABLE, state(0, 2), []),
    ]
    # Starting a ring without addresses is accepted until the ring would have to run.
    yield "(kick of queue 2)", None, None, None
    yield "enable without address", vu.SET_VRING_ENABLE, state(2, 1), []


def malformed(daemon):
    """Each is refused, none ends the connection, and a correct client works afterwards."""
    wrong = []
    with tempfile.TemporaryDirectory(prefix="vrdmad-") as scratch, \
            Client(daemon.paths[0]) as c:
        c.negotiate()
        before = daemon.num_fds()
        for what, request, payload, fds in refused_messages(c, scratch):
            if what == "(memory)":
                c.add_memory()
                c.must(vu.SET_VRING_NUM, state(0, 64))
            elif request is None:
                c.must(vu.SET_VRING_KICK, u64(2), [c.keep(os.eventfd(0))])
            elif not c.tell(request, payload, fds):
                wrong.append(what)
        for i in range(7):
            c.stop_vring(i)
        c.must(vu.REM_MEM_REG, u64(0) + vu.region())
        leaked = least_fds(daemon, before) - before
        if leaked > 0:
            wrong.append(f"{leaked} descriptors leaked")
    with Client(daemon.paths[0]) as c:
        c.start()
    return "accepted: " + ", ".join(wrong) if wrong else None


def closing_messages(event):
    """(what, bytes, fds) after which no reply is possible: the connection ends."""
    def msg(request, payload=b"", flags=vu.VERSION, size=None):
        return struct.pack("<III", request, flags,
                           len(payload) if size is None else size) + payload

    yield from [
        ("zeros", bytes(12), []),
        ("noise", b"GET / HTTP/1.1\r\n\r\n", []),
        ("version 0", msg(vu.GET_FEATURES, flags=0), []),
        ("version 2", msg(vu.GET_FEATURES, flags=2), []),
        ("a reply", msg(vu.GET_FEATURES, flags=vu.VERSION | vu.REPLY), []),
        ("unknown flags", msg(vu.GET_FEATURES, flags=vu.VERSION | 0x80000000), []),
        ("4097 bytes", msg(vu.SET_FEATURES, size=4097), []),
        ("2^32-1 bytes", msg(vu.SET_FEATURES, size=0xFFFFFFFF), []),
        ("an unknown request", msg(99), []),
        ("9 descriptors", msg(vu.SET_OWNER), [event] * 9),
        ("253 descriptors", msg(vu.SET_OWNER), [event] * 253),
        ("GET_FEATURES with payload", msg(vu.GET_FEATURES, bytes(8)), []),
        ("GET_FEATURES with a descriptor", msg(vu.GET_FEATURES), [event]),
        ("GET_VRING_BASE of queue 7", msg(vu.GET_VRING_BASE, state(7, 0)), []),
        ("GET_VRING_BASE without queue", msg(vu.GET_VRING_BASE), []),
        ("GET_QUEUE_NUM before its feature", msg(vu.GET_QUEUE_NUM), []),
        ("GET_CONFIG before its feature", msg(vu.GET_CONFIG, bytes(28)), []),
        ("ADD_MEM_REG before its feature", msg(vu.ADD_MEM_REG, bytes(40)), [event]),
        ("bad SET_FEATURES", msg(vu.SET_FEATURES, u64((1 << 64) - 1)), []),
        ("bad, acknowledgement not negotiated",
         msg(vu.SET_FEATURES, u64(0), flags=vu.VERSION | vu.NEED_REPLY), []),
    ]


def not_vhost_user(daemon):
    event = os.eventfd(0)
    before = settled_fds(daemon)
    for what, data, fds in closing_messages(event):
        with Client(daemon.paths[0]) as c:
            try:
                c.raw(data, fds)
                if not c.closed():
                    return f"{what}: still connected"
            except Closed:
                pass
        with Client(daemon.paths[0]) as c:
            c.negotiate()
    os.close(event)
    after = settled_fds(daemon, before)
    if after > before:
        return f"{after - before} descriptors leaked"
    return None


def bad_config_reads(daemon):
    with Client(daemon.paths[0]) as c:
        c.negotiate()
        for offset, size, room in ((0, 257, 256), (1, 256, 256), (256, 1, 1), (0xFFFFFFFF, 1, 1),
                                   (1, 0xFFFFFFFF, 4), (0, 16, 4), (0, 4, 16)):
            reply = c.ask(vu.GET_CONFIG, struct.pack("<III", offset, size, 0) + bytes(room))
            if reply:
                return f"offset {offset}, size {size}: {len(reply)} bytes"
        config_of(c, 0, 16)
    return None


def cut_messages(daemon):
    """Messages in pieces of one byte work; incomplete ones leave nothing behind."""
    fd = vu.memfd()
    before = settled_fds(daemon)
    with Client(daemon.paths[0]) as c:
        c.negotiate()
        whole = struct.pack("<III", vu.ADD_MEM_REG, vu.VERSION | vu.NEED_REPLY, 40) \
            + u64(0) + vu.region()
        c.raw(whole[:1], [fd])
        for i in range(1, len(whole)):
            c.raw(whole[i:i + 1])
        if c.receive(vu.ADD_MEM_REG) != u64(0):
            return "in pieces: refused"
    for cut in (1, 11, 12, 13, 51):
        with Client(daemon.paths[0]) as c:
            c.raw(whole[:cut], [fd])
        with Client(daemon.paths[0]) as c:
            c.sock.settimeout(20)
            c.negotiate()
    os.close(fd)
    after = settled_fds(daemon, before)
    if after > before:
        return f"{after - before} descriptors leaked"
    return None


def unread_replies(daemon):
    with Client(daemon.paths[0]) as c:
        c.sock.settimeout(5)
        message = struct.pack("<III", vu.GET_FEATURES, vu.VERSION, 0)
        try:
            for _ in range(100000):
                c.raw(message * 16)
        except (Closed, socket.timeout):
            pass
        else:
            return "1.6 million replies were kept"
    with Client(daemon.paths[0]) as c:
        c.negotiate()
    return None


def comes_and_goes(daemon):
    """Disconnects 1000 times, at every stage of the handshake."""
    path = daemon.paths[0]

    def visit(i):
        with Client(path) as c:
            stage = i % 10
            if stage > 0:
                c.negotiate()
            if stage > 2:
                c.add_memory(slots=bool(i & 1))
            if stage > 4:
                for q in range(stage - 4):
                    c.start_vring(q)
            if stage == 9:
                c.send(vu.GET_FEATURES)

    for i in range(20):
        visit(i)
    fds, maps = settled_fds(daemon), daemon.num_maps()
    for i in range(1000):
        visit(i)
    after = settled_fds(daemon, fds)
    if after > fds:
        return f"descriptors: {fds} before, {after} after"
    if daemon.num_maps() > maps + 20:
        return f"mappings: {maps} before, {daemon.num_maps()} after"
    return None


def random_messages(daemon):
    """Valid requests with random contents, in random order."""
    rng = random.Random(20171)
    sent = 0
    fds = [vu.memfd(), vu.memfd(4096), os.eventfd(0, os.EFD_NONBLOCK), os.open("/dev/null", os.O_RDWR)]
    numbers = [0, 1, 2, 6, 7, 8, 64, 255, 256, 4096, 65535, 65536, 1 << 31, (1 << 32) - 1,
               vu.GUEST_BASE, vu.USER_BASE, vu.USER_BASE + 4096, vu.MEM_SIZE, (1 << 64) - 4096]
    while sent < 20000:
        with Client(daemon.paths[0]) as c:
            try:
                if rng.random() < 0.9:
                    c.negotiate()
                    if rng.random() < 0.7:
                        c.add_memory()
                        if rng.random() < 0.7:
                            c.start_vring(rng.randrange(7))
                for _ in range(rng.randrange(200)):
                    request = rng.choice([rng.randrange(45), rng.randrange(8, 19)])
                    if rng.random() < 0.3:
                        payload = rng.randbytes(rng.choice([0, 4, 8, 12, 40, 72, 268]))
                    else:
                        payload = b"".join(
                            u64(rng.choice(numbers) & (1 << 64) - 1)
                            if rng.random() < 0.5 else state(rng.choice(numbers) & 0xFFFFFFFF,
                                                             rng.choice(numbers) & 0xFFFFFFFF)
                            for _ in range(rng.choice([0, 1, 1, 1, 5, 5, 9])))
                    passed = [rng.choice(fds) for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 8]))]
                    c.send(request, payload, passed, vu.VERSION | rng.choice([0, 8, 8, 8]))
                    sent += 1
                    while select.select([c.sock], [], [], 0)[0]:
                        if not c.sock.recv(4096):
                            raise Closed
            except (Closed, ConnectionResetError):
                sent += 1
        if daemon.proc.poll() is not None:
            return "it died"
    for fd in fds:
        os.close(fd)
    with Client(daemon.paths[0]) as c:
        c.start()
    return None


def garbage_rings(daemon):
    """Rings with random contents: the daemon survives all reactions of the device."""
    rng = random.Random(7)
    for _ in range(30):
        with Client(daemon.paths[0]) as c:
            c.negotiate()
            memory = c.add_memory()
            os.pwrite(memory, rng.randbytes(128 * 1024), 0)
            try:
                for i in range(7):
                    kick, _call = c.start_vring(i, base=rng.randrange(65536))
                    os.eventfd_write(kick, 1)
                for i in range(7):
                    c.stop_vring(i)
            except Closed:
                pass            # a lost device ends its connection
        if daemon.proc.poll() is not None:
            return "it died"
    with Client(daemon.paths[0]) as c:
        c.start()
    return None


def lingering_socket(c, seconds):
    """A TCP socket whose last close() takes @seconds; its peer stays with @c."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        sock = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    c.keep(peer.detach())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
    sock.setblocking(False)
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        return sock


def blocking_descriptors(binary):
    """Descriptors that block every user and every close(): other guests are served."""
    slow = 8
    folder = tempfile.TemporaryDirectory(prefix="vrdmad-")
    stats = os.path.join(folder.name, "stats")
    daemon = Daemon(binary, ["vm0", "vm1"], "--stats-socket", stats)
    if not daemon.ready:
        return "not ready: " + daemon.log()
    wrong = []
    with Client(daemon.paths[1], timeout=slow / 2) as other:
        other.start()

        def served(what):
            try:
                other.ask_u64(vu.GET_FEATURES)
            except socket.timeout:
                wrong.append(what)

        # A full, blocking error eventfd of a device that is lost.
        with Client(daemon.paths[0]) as c:
            c.negotiate()
            memory = c.add_memory()
            event = c.keep(os.eventfd(0, os.EFD_NONBLOCK))
            c.must(vu.SET_VRING_ERR, u64(0), [event])
            os.write(event, u64((1 << 64) - 2))
            os.set_blocking(event, True)
            os.pwrite(memory, struct.pack("<H", 60000), 2048 + 2)
            c.start_vring(0)
            if not c.closed():
                wrong.append("a lost device's connection stays open")
            served("a full error descriptor")
        # Passed for any purpose: refused, and closed without waiting.
        with Client(daemon.paths[0]) as c:
            c.negotiate()
            for request, payload in [(vu.ADD_MEM_REG, u64(0) + vu.region()),
                                     (vu.SET_VRING_KICK, u64(0)), (vu.SET_VRING_CALL, u64(0)),
                                     (vu.SET_VRING_ERR, u64(0)), (vu.SET_BACKEND_REQ_FD, b"")]:
                with lingering_socket(c, slow) as sock:
                    fd = sock.detach()
                c.send(request, payload, [fd], vu.VERSION | vu.NEED_REPLY)
                os.close(fd)
                served(f"a TCP socket passed with request {request}")
        # Passed, but never received by the daemon before the connection ends.
        with Client(daemon.paths[0]) as c:
            c.negotiate()
            with lingering_socket(c, slow) as sock:
                fd = sock.detach()
            c.raw(struct.pack("<III", vu.SET_FEATURES, vu.VERSION, 8) + b"half")
            c.raw(struct.pack("<III", 99, 77, 8), [fd])
            os.close(fd)
            c.sock.close()
            served("a TCP socket in the queue of a closed connection")
        # The same for a client of the statistics.
        with Client(daemon.paths[0]) as c, socket.socket(socket.AF_UNIX) as asker:
            asker.connect(stats)
            with lingering_socket(c, slow) as sock:
                fd = sock.detach()
            # Stopped meanwhile: the daemon's reference has to be the last one.
            daemon.proc.send_signal(signal.SIGSTOP)
            socket.send_fds(asker, [b"x" * 4096], [fd])
            os.close(fd)
            asker.close()
            daemon.proc.send_signal(signal.SIGCONT)
            served("a TCP socket from a client of the statistics")
    stopped = daemon.stop()
    folder.cleanup()
    return ", ".join(wrong) or stopped


def no_descriptors(binary):
    """The process has no free descriptors: the message that needs one ends its connection, and
    clients that connect wait; other clients are served, and nothing leaks."""
    daemon = Daemon(binary, ["vm0", "vm1"])
    if not daemon.ready:
        return "not ready: " + daemon.log()
    usual = resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE)
    wrong = []

    def leave(free):
        """Sets the limit so that @free descriptors can still be opened."""
        used = {int(fd) for fd in os.listdir(f"/proc/{daemon.proc.pid}/fd")}
        limit = 0
        while free or limit in used:
            free -= limit not in used
            limit += 1
        resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE, (limit, usual[1]))

    with Client(daemon.paths[1]) as other:
        other.start()
        before = settled_fds(daemon)
        for free in (0, 1):
            with Client(daemon.paths[0]) as c:
                c.negotiate()
                fds = [c.keep(vu.memfd()) for _ in range(2)]
                leave(free)
                c.send(vu.SET_MEM_TABLE, vu.mem_table(vu.region(), vu.region()), fds)
                if not c.closed():
                    wrong.append(f"{free} free: the connection stays open")
            other.ask_u64(vu.GET_FEATURES)
            resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE, usual)
            after = settled_fds(daemon, before)
            if after > before:
                wrong.append(f"{free} free: {before} descriptors became {after}")
        leave(0)
        with Client(daemon.paths[0]) as c:
            for _ in range(100):
                other.ask_u64(vu.GET_FEATURES)
            before = len(daemon.log())
            time.sleep(0.5)
            if len(daemon.log()) > before + 2000:
                wrong.append("it logs all the time")
            resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE, usual)
            c.start()
    if daemon.log().count("raise the limit of open files") != 2:
        wrong.append("no message that says what to do")
    return ", ".join(wrong) or daemon.stop()


# ---- the service -----------------------------------------------------------------

def statistics(binary, daemon):
    stats = os.path.join(daemon.folder, "stats")

    def query(*options):
        return subprocess.run([binary, "--stats", stats] + list(options), capture_output=True,
                              text=True, timeout=30, check=True).stdout

    with Client(daemon.paths[1]) as c:
        c.start()
        text = dict(line.rsplit(" ", 1) for line in query().splitlines())
        if text.get("device.vm0.connected") != "0" or text.get("device.vm1.connected") != "1" \
                or text.get("device.vm1.running") != "1":
            return f"{text}"
        for name in ("notify", "wakeup", "qps", "srqs", "cqs", "mrs"):
            if f"device.vm1.{name}" not in text:
                return f"{name} is missing in {sorted(text)}"
        data = json.loads(query("--json"))
        if data["devices"]["vm1"]["mac"] != "52:54:00:00:00:02" or \
                data["devices"]["vm1"]["counters"]["connected"] != 1 or \
                data["devices"]["vm0"]["fabric"] != "default":
            return f"{data}"
    # Clients that send nothing or garbage, or do not read, delay no other client.
    idle = []
    for i in range(40):
        s = socket.socket(socket.AF_UNIX)
        s.connect(stats)
        if i % 3:
            s.send(b"json\n" if i % 3 == 1 else b"x" * 100)
        idle.append(s)
    query()
    for s in idle:
        s.close()
    return None


def idle_cpu(daemon):
    """With rings started and no work, no thread runs."""
    with Client(daemon.paths[0]) as a, Client(daemon.paths[1]) as b:
        a.start()
        b.start()
        time.sleep(0.5)
        before = daemon.cpu_ticks()
        time.sleep(2)
        used = daemon.cpu_ticks() - before
        return f"{used} ticks in two seconds" if used > 2 else None


def sandboxed(binary):
    """The plain build with its filter and as another user: everything still works."""
    plain = binary if os.environ.get("VRDMAD") else \
        os.path.join(vu.TOP, "build", "vrdmad", "vrdmad")
    if plain != binary:
        subprocess.run(["make", "--no-print-directory", "-C",
                        os.path.join(vu.TOP, "qemu-device"), "vrdmad"], check=True,
                       stdout=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="vrdmad-") as folder:
        options = ["--stats-socket", os.path.join(folder, "stats"), "--socket-mode", "0660",
                   "--pollers", "2"]
        if os.geteuid() == 0:
            options += ["--user", "nobody", "--socket-group", "nogroup"]
            os.chmod(folder, 0o777)
        daemon = Daemon(plain, ["vm0", "vm1,unsealed=on"], *options, folder=folder)
        if not daemon.ready:
            return "not ready: " + daemon.log()
        with open(f"/proc/{daemon.proc.pid}/status", encoding="ascii") as f:
            status = dict(line.split(":\t", 1) for line in f.read().splitlines())
        if os.stat(daemon.paths[0]).st_mode & 0o777 != 0o660:
            return "mode of the socket"
        with Client(daemon.paths[0]) as c, Client(daemon.paths[1]) as d:
            c.start()
            d.negotiate()
            fd = d.keep(vu.memfd(seals=0))
            d.must(vu.ADD_MEM_REG, u64(0) + vu.region(), [fd])
        subprocess.run([plain, "--stats", os.path.join(folder, "stats")], check=True,
                       stdout=subprocess.DEVNULL, timeout=30)
        log = daemon.log()
        wrong = daemon.stop()
        if os.path.exists(daemon.paths[0]):
            return "the socket stayed"
        if int(status["CapEff"], 16) or int(status["CapPrm"], 16):
            return f"capabilities {status['CapPrm']}"
        # If $VRDMAD names a sanitizer build, it reports that it has no filter.
        filtered = "0" if "no system call filter" in log else "2"
        if status["NoNewPrivs"] != "1" or status["Seccomp"] != filtered:
            return f"no_new_privs {status['NoNewPrivs']}, seccomp {status['Seccomp']}"
        return wrong


def main():
    tap = vu.Tap()
    binary = vu.build_daemon()
    tap.run("wrong options: one message, naming the option", bad_options, binary)
    tap.run("--version, --help, --print-qemu-options", informative_options, binary)
    tap.run("stale sockets are replaced, live ones and files are not",
            stale_and_live_sockets, binary)

    with tempfile.TemporaryDirectory(prefix="vrdmad-") as folder:
        daemon = Daemon(binary, ["vm0.sock,mac=52:54:00:00:00:01,vectors=4",
                                 "vm1,mac=52:54:00:00:00:02,vectors=4"],
                        "--stats-socket", os.path.join(folder, "stats"), "--pollers", "2",
                        folder=folder)
        if tap.ok(daemon.ready, "it starts and says so"):
            # A client that repeatedly stalls in the middle of a message.
            stalled = Client(daemon.paths[1], timeout=60)
            stalled.raw(struct.pack("<III", vu.SET_FEATURES, vu.VERSION, 8) + b"half")
            tap.run("handshake and config space", handshake, daemon)
            tap.run("another client's half message holds nobody up; it is given up", lambda:
                    None if stalled.closed() else "still connected")
            stalled.close()
            tap.run("as QEMU: start, pause, resume, reset", like_qemu, daemon)
            tap.run("as UML: enable, disable, set up again", like_uml, daemon)
            tap.run("refused ring addresses change nothing", refused_addresses, daemon)
            tap.run("memory regions one by one", memory_slots, daemon)
            tap.run("a second client is refused", second_client, daemon)
            tap.run("malformed messages are refused", malformed, daemon)
            tap.run("what is no vhost-user is disconnected", not_vhost_user, daemon)
            tap.run("config space reads out of bounds", bad_config_reads, daemon)
            tap.run("messages in pieces, and cut off", cut_messages, daemon)
            tap.run("replies that nobody reads", unread_replies, daemon)
            tap.run("random messages", random_messages, daemon)
            tap.run("rings full of garbage", garbage_rings, daemon)
            tap.run("1000 clients come and go, nothing leaks", comes_and_goes, daemon)
            tap.run("statistics", statistics, binary, daemon)
            tap.run("idle, it uses no CPU", idle_cpu, daemon)
        tap.run("SIGTERM ends it cleanly", daemon.stop)
        tap.ok(not any(os.path.exists(p) for p in daemon.paths), "its sockets are gone")
    tap.run("descriptors that block hold nobody up", blocking_descriptors, binary)
    tap.run("a full table of descriptors costs only those who need one", no_descriptors, binary)
    tap.run("sandboxed, as another user, without capabilities", sandboxed, binary)
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
