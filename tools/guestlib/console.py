# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds reports of bugs in a guest's kernel log."""

import re

# First lines of reports. Each matches a kind of report that the kernel prints only for bugs;
# "Call Trace" and "Modules linked in" match reports whose first line is not here.
PROBLEM = re.compile(r'''
    \bBUG:\ | \bWARNING:\ | \bOops\b | \bKernel\ panic\b | \bCall\ Trace: | \bkernel\ BUG\ at\b
  | \bgeneral\ protection\ fault | \bUnable\ to\ handle\ kernel | \bModules\ linked\ in:
  | \bKASAN:\ | \bUBSAN:\ | \bKFENCE:\ | \bkmemleak:\ .*new\ suspected | \bDMA-API:\ .*
  | \bINFO:\ task\ .*blocked | \bINFO:\ rcu_ | \brcu:\ INFO: | \bINFO:\ trying\ to\ register
  | \bINFO:\ lockdep\ is\ turned\ off | \bpossible\ (circular|recursive|irq\ lock)
  | \binconsistent\ lock\ state | \bsuspicious\ RCU\ usage | \bheld\ lock\ freed
  | \block\ held\ when\ returning | \bbad\ unlock\ balance
  | \brefcount_t:\ | \blist_(add|del)\ corruption | \bODEBUG:\ | \bSlab\ corruption
  | \bsoft\ lockup | \bhard\ LOCKUP | \bscheduling\ while\ atomic | \bsleeping\ function\ called
  | \bunregister_netdevice:\ waiting | \bsegfault\ at\b | \bOut\ of\ memory:
''', re.VERBOSE)

# Messages that the kernel prints at start although nothing is wrong.
HARMLESS = re.compile(r'DMA-API: (preallocated|debugging enabled|Mapped at:)|unchecked MSR access')

# The RDMA core maps each memory region separately, so two regions that share a cache line (as
# rping's do) are mapped twice. dma-debug reports this as an error, once.
HARMLESS_WARNING = re.compile(r'DMA-API: .*cacheline tracking EEXIST')

# UML has no PTE_SPECIAL. If a process accesses its doorbell page after the device was unbound,
# the RDMA core maps a page of zeroes in its place. When this page is unmapped, it is treated as
# a page of the device and its counter is not decremented. On other architectures, this message
# reports a bug.
HARMLESS_IN_UML = re.compile(HARMLESS.pattern +
                             r'|Bad rss-counter state mm:\S+ type:MM_FILEPAGES val:1$')


def problems(text, context=25, harmless=HARMLESS):
    """Reports in a piece of console log: the first line of each and some lines after it."""
    found = []
    skip = -1
    lines = text.splitlines()
    for n, line in enumerate(lines):
        if 'WARNING: ' in line and n + 1 < len(lines) and HARMLESS_WARNING.search(lines[n + 1]):
            skip = next((i for i in range(n, len(lines)) if '---[ end trace' in lines[i]), n)
        if n <= skip or not PROBLEM.search(line) or harmless.search(line):
            continue
        found.append('\n'.join(lines[n:n + context]))
        skip = n + context
    return found
