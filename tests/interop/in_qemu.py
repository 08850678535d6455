# SPDX-License-Identifier: GPL-2.0-or-later
"""The test guest (native.c) in a QEMU guest with Soft-RoCE, which has features that a UML
kernel lacks: several processors, and huge pages."""

import contextlib
import re
import shutil
import subprocess

import guest
from guestlib.qemu import QemuGuest

OTHER = '192.168.77.101'        # the second GID: each of the two test guests has one


def libraries(program):
    """Our libraries that Debian 13's image may lack."""
    out = subprocess.run(['ldd', program], check=True, capture_output=True, text=True).stdout
    return [path for name, path in re.findall(r'(\S+) => (/\S+)', out) if re.match('libsodium', name)]


@contextlib.contextmanager
def host_with(program):
    """A host, and native(arguments), which runs the program on its Soft-RoCE device."""
    with guest.Network() as net, QemuGuest('host', net, mem='3G', smp=2) as host:
        guest.soft_roce(host)
        host.run(f'ip addr add {OTHER}/24 dev eth0')
        for path in [program, *libraries(program)]:
            shutil.copy(path, host.share)

        def native(options, tests, timeout=900):
            return host.run(f'LD_LIBRARY_PATH=/vrdma /vrdma/{program.name} {options} rxe0 {host.ip} {OTHER} {tests}',
                            timeout=timeout, check=False)
        yield host, native
