#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests vrdmad with guest memory that vanishes: files that shrink, and huge pages that do not
exist."""

import fcntl
import os
import sys

import vhostuser as vu
from vhostuser import Client, Closed, Daemon, u64


def shrinking_memory(binary):
    """If memory vanishes, only the device of that guest is lost."""
    daemon = Daemon(binary, ["vm0,unsealed=on", "vm1"])
    if not daemon.ready:
        return "not ready: " + daemon.log()
    with Client(daemon.paths[1]) as other:
        other.start()
        for _ in range(3):
            with Client(daemon.paths[0]) as c:
                c.negotiate()
                memory = c.keep(vu.memfd(seals=0))
                c.must(vu.ADD_MEM_REG, u64(0) + vu.region(), [memory])
                kicks = []
                for i in range(3):
                    kicks.append(c.start_vring(i)[0])
                os.ftruncate(memory, 0)
                for kick in kicks:
                    os.eventfd_write(kick, 1)
                if not c.closed():
                    return "the connection stays open"
        other.ask_u64(vu.GET_FEATURES)
    with Client(daemon.paths[0]) as c:
        c.negotiate()
    return daemon.stop()


def huge_memfd(size=2 << 20):
    fd = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, vu.F_ADD_SEALS, vu.F_SEAL_SHRINK)
    return fd


def huge_pages(binary):
    """Regions that are parts of huge pages, which are missing as well: nothing of them stays
    mapped, and an access only loses the device of their guest."""
    daemon = Daemon(binary, ["vm0", "vm1"])
    if not daemon.ready:
        return "not ready: " + daemon.log()
    with Client(daemon.paths[1]) as other:
        other.start()
        with Client(daemon.paths[0]) as c:
            c.negotiate()
            maps = daemon.num_maps()
            for _ in range(100):
                fds = [huge_memfd() for _ in range(8)]
                c.must(vu.SET_MEM_TABLE, vu.mem_table(*[
                    vu.region((k + 1) << 20, 4096, vu.USER_BASE + (k << 20))
                    for k in range(8)]), fds)
                for fd in fds:
                    os.close(fd)
            if daemon.num_maps() > maps + 40:
                return f"mappings: {maps} before, {daemon.num_maps()} after"
        for size in (8192, 1 << 20, (2 << 20) - 4096, 2 << 20):
            with Client(daemon.paths[0]) as c:
                c.negotiate()
                c.must(vu.SET_MEM_TABLE, vu.mem_table(vu.region(size=size)),
                       [c.keep(huge_memfd())])
                try:
                    c.start_vring(0)
                except Closed:
                    pass
                if daemon.proc.poll() is not None:
                    return f"it died of a region of {size} bytes"
        other.ask_u64(vu.GET_FEATURES)
    return daemon.stop()


def main():
    tap = vu.Tap()
    binary = vu.build_daemon()
    try:
        os.close(huge_memfd())
    except OSError as e:
        tap.ok(True, f"huge pages that are not there # SKIP no huge pages: {e.strerror}")
    else:
        tap.run("huge pages that are not there", huge_pages, binary)
    tap.run("memory that shrinks costs its own guest the device", shrinking_memory, binary)
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
