# SPDX-License-Identifier: GPL-2.0-or-later
"""A minimal driver for virtio-rdma devices: PCI capabilities, MSI-X, split virtqueues and
commands, over the machine of qtest.py.

MSI-X messages are memory writes. They are directed to a page of RAM, so that an interrupt is
visible as a word that changed.
"""

import struct

from qtest import QtestError, wait_for

MODERN_BAR, MSIX_BAR = 0xe0000000, 0xe1000000
MSI_PAGE = 0x100000             # a word for each vector
HEAP = 0x200000                 # grows upwards

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET = 1, 2, 4, 8, 64
VERSION_1, ACCESS_PLATFORM, EVENT_IDX = 1 << 32, 1 << 33, 1 << 29
CONTROL, EVENT, DOORBELL, COMP = 0, 1, 2, 3
CMD_INIT, CMD_CREATE_CTX, CMD_ALLOC_PD, CMD_REG_MR = 1, 6, 8, 10


class Pci:
    """Configuration space by I/O ports; @bus 1 is behind the first root port."""

    def __init__(self, machine, bus, slot):
        self.m = machine
        self.base = 0x80000000 | bus << 16 | slot << 11

    def read(self, reg):
        self.m.outl(0xcf8, self.base | reg & 0xfc)
        return self.m.inl(0xcfc)

    def write(self, reg, value):
        self.m.outl(0xcf8, self.base | reg & 0xfc)
        self.m.outl(0xcfc, value)

    def field(self, reg, size):
        return self.read(reg) >> 8 * (reg & 3) & ((1 << 8 * size) - 1)

    def capabilities(self):
        reg = self.field(0x34, 1)
        while reg:
            yield self.field(reg, 1), reg
            reg = self.field(reg + 1, 1)


def find(machine, bus=0, ident=0x106a1af4):
    for slot in range(32):
        pci = Pci(machine, bus, slot)
        if pci.read(0) == ident:
            return pci
    raise QtestError(f'no device {ident:#x} on the bus')


class Queue:
    def __init__(self, driver, index, size, vector):
        m = driver.m
        self.driver, self.index, self.size = driver, index, size
        self.desc = driver.alloc(16 * size)
        self.avail = driver.alloc(6 + 2 * size)
        self.used = driver.alloc(6 + 8 * size)
        for addr, length in ((self.desc, 16 * size), (self.avail, 6 + 2 * size),
                             (self.used, 6 + 8 * size)):
            m.write(addr, bytes(length))
        self.head = self.seen = 0
        driver.common(22, index, 2)
        driver.common(24, size, 2)
        driver.common(26, vector, 2)
        for reg, addr in ((32, self.desc), (40, self.avail), (48, self.used)):
            driver.common(reg, addr & 0xffffffff, 4)
            driver.common(reg + 4, addr >> 32, 4)
        self.notify = (driver.notify_base +
                       driver.m.load(driver.common_base + 30, 2) * driver.notify_step)
        driver.common(28, 1, 2)

    def add(self, out, into, slot=0):
        """Adds one chain: out is readable, into bytes are writable; returns the buffer's
        address."""
        m = self.driver.m
        a = self.driver.alloc(max(len(out), 1))
        b = self.driver.alloc(max(into, 1))
        m.write(a, out or b'\0')
        m.write(b, b'\xee' * max(into, 1))
        chain = b''
        if out:
            chain += struct.pack('<QIHH', a, len(out), 1 if into else 0, slot + 1)
        if into:
            chain += struct.pack('<QIHH', b, into, 2, 0)
        m.write(self.desc + 16 * slot, chain)
        m.store(self.avail + 4 + 2 * (self.head % self.size), slot, 2)
        self.head = self.head + 1 & 0xffff
        m.store(self.avail + 2, self.head, 2)
        return b

    def kick(self):
        self.driver.m.store(self.notify, self.index, 2)

    def used_index(self):
        return self.driver.m.load(self.used + 2, 2)

    def done(self):
        return self.used_index() != self.seen

    def get(self):
        """Waits for the next used entry: (slot, bytes written)."""
        wait_for(f'queue {self.index}', self.done)
        entry = self.driver.m.read(self.used + 4 + 8 * (self.seen % self.size), 8)
        self.seen = self.seen + 1 & 0xffff
        return struct.unpack('<II', entry)


class Driver:
    """One use of the device, from reset to DRIVER_OK."""

    def __init__(self, machine, pci, comp=1, features=VERSION_1 | ACCESS_PLATFORM, start=True,
                 msix=True):
        self.m, self.pci = machine, pci
        self.heap = HEAP
        machine.write(MSI_PAGE, bytes(4096))
        self.map()
        self.reset()
        self.status(ACKNOWLEDGE | DRIVER)
        self.offered = self.features()
        for half in (0, 1):
            self.common(8, half, 4)
            self.common(12, features >> 32 * half & 0xffffffff, 4)
        self.status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
        self.features_ok = bool(self.get_status() & FEATURES_OK)
        if not self.features_ok or not start:
            return
        if msix:
            self.enable_msix(COMP + comp + 1)
        self.common(16, 0 if msix else 0xffff, 2)
        self.queues = [Queue(self, i, 64, i + 1 if msix else 0xffff)
                       for i in range(COMP + comp)]
        self.status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)

    def alloc(self, size, align=4096):
        addr = (self.heap + align - 1) & -align
        self.heap = addr + size
        return addr

    def map(self):
        self.pci.write(0x20, MODERN_BAR)
        self.pci.write(0x24, 0)
        self.pci.write(0x14, MSIX_BAR)
        self.pci.write(4, self.pci.read(4) & 0xffff | 6)
        where = {}
        for ident, reg in self.pci.capabilities():
            if ident == 9:
                kind, offset = self.pci.field(reg + 3, 1), self.pci.read(reg + 8)
                where[kind] = MODERN_BAR + offset
                if kind == 2:
                    self.notify_step = self.pci.read(reg + 16)
            elif ident == 0x11:
                self.msix = reg
        self.common_base, self.notify_base, self.config_base = where[1], where[2], where[4]

    def enable_msix(self, num):
        for i in range(num):
            self.m.write(MSIX_BAR + 16 * i, struct.pack('<QI', MSI_PAGE + 4 * i, 0x1000 + i))
            self.mask(i, False)
        self.pci.write(self.msix, 1 << 31 | self.pci.read(self.msix) & 0xffff)

    def mask(self, vector, masked):
        self.m.store(MSIX_BAR + 16 * vector + 12, int(masked), 4)

    def interrupt(self, vector):
        """True once for one or several interrupts of a vector."""
        if not self.m.load(MSI_PAGE + 4 * vector, 4):
            return False
        self.m.store(MSI_PAGE + 4 * vector, 0, 4)
        return True

    def common(self, reg, value, size):
        self.m.store(self.common_base + reg, value, size)

    def status(self, value):
        self.common(20, value, 1)

    def get_status(self):
        return self.m.load(self.common_base + 20, 1)

    def reset(self):
        self.status(0)
        if self.get_status():
            raise QtestError(f'status {self.get_status():#x} after a reset')

    def features(self):
        value = 0
        for half in (0, 1):
            self.common(0, half, 4)
            value |= self.m.load(self.common_base + 4, 4) << 32 * half
        return value

    def config(self):
        """(MAC, vectors)"""
        data = bytes(self.m.load(self.config_base + i, 1) for i in range(8))
        mac, vectors = struct.unpack('<6sH', data)
        return mac.hex(':'), vectors

    # ---- commands

    def post(self, opcode, request=b'', response=0, extents=b''):
        queue = self.queues[CONTROL]
        header = struct.pack('<II', opcode, 8 + len(request))
        addr = queue.add(header + request + extents, 8 + response)
        queue.kick()
        return addr

    def finish(self, addr, response=0):
        _, written = self.queues[CONTROL].get()
        data = self.m.read(addr, 8 + response)
        status, = struct.unpack_from('<I', data)
        if written != (8 + response if not status else 8):
            raise QtestError(f'{written} bytes written, status {status}')
        return status, data[8:]

    def call(self, opcode, request=b'', response=0, extents=b''):
        return self.finish(self.post(opcode, request, response, extents), response)

    def init(self):
        """For one completion vector."""
        status, _ = self.call(CMD_INIT, struct.pack('<II', 1, 0))
        if status:
            raise QtestError(f'INIT: status {status}')

    def context(self):
        page = self.alloc(4096)
        self.m.write(page, bytes(4096))
        status, data = self.call(CMD_CREATE_CTX, struct.pack('<IIQ', 1, 0, page), 8)
        if status:
            raise QtestError(f'CREATE_CTX: status {status}')
        return struct.unpack_from('<I', data)[0]

    def pd(self, ctx):
        status, data = self.call(CMD_ALLOC_PD, struct.pack('<II', ctx, 0), 8)
        if status:
            raise QtestError(f'ALLOC_PD: status {status}')
        return struct.unpack_from('<I', data)[0]
