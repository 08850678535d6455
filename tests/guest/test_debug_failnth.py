#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes every kernel allocation of every verb fail once, for processes and for kernel users, on
the kernel with lockdep, KASAN and kmemleak. Expected: clean errors, no report, no leak, and a
working device afterwards."""

import re
import shutil

import pair
from pair import GID, between

FAULTS = ['failslab', 'fail_page_alloc', 'fail_usercopy']


def switch_on(g):
    """Also makes allocations that may wait fail, and does not log a trace of each."""
    g.run('mkdir -p /sys/kernel/debug; mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug')
    for name in FAULTS:
        g.run(f'cd /sys/kernel/debug/{name} && echo 0 > verbose && '
              'for f in ignore-gfp-wait ignore-gfp-highmem; do [ ! -e $f ] || echo N > $f; done; '
              '[ ! -e min-order ] || echo 0 > min-order')


def leaks(g):
    """Leaks of the driver that kmemleak finds. An object counts if two scans have found no
    reference."""
    g.run('[ -e /sys/kernel/debug/kmemleak ] && sleep 6; for i in 1 2; do echo scan > /sys/kernel/debug/kmemleak; done',
          timeout=300)
    out = g.run('cat /sys/kernel/debug/kmemleak').stdout
    ours = [text for text in out.split('unreferenced object') if 'vrdma' in text]
    return 'unreferenced object'.join(ours[:5]) or None


def main():
    tap = pair.Tap()
    pair.build_program('failnth')
    kverbs, = pair.build_modules('kverbs', kernel='uml-debug')
    with pair.uml_guests(tap, count=1, kernel='uml-debug') as (_, (g,)):
        # Allocations of dma-debug fail as well, which turns it off.
        g.harmless = re.compile(g.harmless.pattern + '|DMA-API: cacheline tracking ENOMEM')
        switch_on(g)
        g.run('echo clear > /sys/kernel/debug/kmemleak')
        shutil.copy(kverbs, g.share)
        g.run('insmod /vrdma/vrdma_kverbs.ko', timeout=120)
        done = g.run('vrdma-failnth', timeout=900, check=False)
        tap.relay('fail-nth', done.stdout)
        tap.run('fail-nth ends well', lambda: None if done.rc == 0 else f'status {done.rc}\n{done.stdout[-3000:]}')
        tap.run('traffic afterwards', lambda: between(g, g, f'ibv_rc_pingpong {GID}') and None)
        g.run('rmmod vrdma_kverbs')
        tap.run('no leak', leaks, g)
        tap.run('rmmod', lambda: g.run('rmmod virtio_rdma; ! ls /sys/class/infiniband | grep .') and None)
        tap.run('no leak after rmmod', leaks, g)
    tap.end()


main()
