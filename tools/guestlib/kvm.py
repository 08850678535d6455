# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds out whether KVM can run an ordinary guest kernel here, by booting one.

/dev/kvm may exist but be unusable (nested, restricted). The result is valid until the machine
boots again, so it is kept in the cache."""

import os
import pathlib
import subprocess
import threading

from . import host

TIME_LIMIT = 20


def works(qemu, image):
    """qemu: the binary and its firmware options. image: the product guest-image."""
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        return False
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    answer = host.cache_folder() / f'kvm-{boot}'
    if not answer.exists():
        answer.parent.mkdir(parents=True, exist_ok=True)
        for old in answer.parent.glob('kvm-*'):
            old.unlink()
        answer.write_text('yes\n' if _try(qemu, image) else 'no\n')
    return answer.read_text().strip() == 'yes'


def _try(qemu, image):
    """Without a shared folder, our initramfs prints a message and powers off."""
    argv = [*qemu, '-accel', 'kvm', '-cpu', 'host', '-m', '256', '-nodefaults', '-no-user-config',
            '-display', 'none', '-no-reboot', '-serial', 'stdio',
            '-kernel', image / 'vmlinuz', '-initrd', image / 'initramfs.cpio',
            '-append', 'console=ttyS0 panic=-1']
    process = host.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # If KVM fails, it prints a message and stops the guest without ending QEMU.
    booted = False
    timer = threading.Timer(TIME_LIMIT, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if b'vrdma-init:' in line:
                booted = True
                break
            if b'KVM internal error' in line or b'failed to initialize kvm' in line:
                break
    finally:
        timer.cancel()
        host.end(process)
        process.stdout.close()
    return booted
