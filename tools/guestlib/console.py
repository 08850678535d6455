# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's kernel log, and what in it is a bug."""

import re

# A report's first line. Each names a kind of report that the kernel makes for bugs
# only; "Call Trace" and "Modules linked in" catch what has no headline here.
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

# The kernel says these at start although nothing is wrong.
HARMLESS = re.compile(r'DMA-API: (preallocated|debugging enabled|Mapped at:)|unchecked MSR access')

# The RDMA core maps each memory region by itself, so two regions that share a cache line
# (as rping's do) are mapped twice, which dma-debug takes for a mistake. It says so once.
HARMLESS_WARNING = re.compile(r'DMA-API: .*cacheline tracking EEXIST')

# UML has no PTE_SPECIAL. So when a process touches its doorbell page after the device was
# unbound, and the RDMA core gives it a page of zeroes in place of it, unmapping takes that
# page for one of the device's and does not count it out. Anywhere else this is a bug.
HARMLESS_IN_UML = re.compile(HARMLESS.pattern +
                             r'|Bad rss-counter state mm:\S+ type:MM_FILEPAGES val:1$')


def problems(text, context=25, harmless=HARMLESS):
    """The reports in a piece of console log: each its first line and some after it."""
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
