# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs perftest and qperf between two guests, and parses their output."""

import re

from guestlib.host import GuestError
from guestlib.rdma import between
from results import Trouble

OURS, THEIRS = 'vrdma0', 'rxe0'
BESIDE = 'Soft-RoCE'

# Columns of perftest's result rows after bytes and iterations.
BANDWIDTH = ('peak', 'average', 'rate')                 # MiB/s, MiB/s, million messages/s
LATENCY = ('min', 'max', 'typical', 'average', 'deviation', 'p99', 'p999')      # us
NUMBER = r'(-?(?:[\d.]+|nan|inf))'


# perftest compares the CPU's cycle counter with the clock before it begins. If other programs
# disturb this, it prints a message, and reports zeroes or nothing.
UNEVEN = ('Correlation coefficient', "Can't produce a report")
TRIES = 5
disturbed = 0       # number of runs that were repeated for this reason
unfinished = []     # runs of the reference that did not end


def rows(output, columns):
    """{bytes: {column: value}}. A row whose main figure is not a number is a failure."""
    pattern = r'^ (\d+)\s+\d+' + rf'\s+{NUMBER}' * len(columns)
    found = {int(m[0]): dict(zip(columns, map(float, m[1:]))) for m in re.findall(pattern, output, re.M)}
    if not found:
        raise Trouble(f'no result row in:\n{output}')
    # The rate has more digits than the bandwidth.
    for row in found.values():
        if not 0 < row['rate' if 'rate' in row else 'typical'] < float('inf'):
            raise Trouble(f'a result that is no number in:\n{output}')
    return found


def perftest(a, b, device, command, timeout=120):
    """All result rows of a perftest program, guest a being its server and b its client."""
    global disturbed
    columns = LATENCY if command.split()[0].endswith('_lat') else BANDWIDTH
    for _ in range(TRIES):
        output = between(a, b, f'{command} -F -d {device}', timeout=timeout)
        if not any(words in output for words in UNEVEN):
            return rows(output, columns)
        disturbed += 1
    raise Trouble(f'{TRIES} times perftest found the clock uneven: is the machine busy?\n{output}')


def only(a, b, device, command, timeout=120):
    """The only result row. None if the reference does not finish: Soft-RoCE with completion
    events sometimes waits for ever."""
    try:
        return next(iter(perftest(a, b, device, command, timeout).values()))
    except GuestError as error:
        if device == OURS or not (a.alive() and b.alive()):
            raise
        unfinished.append(f'{command} over {BESIDE}: {str(error).splitlines()[0]}')
        return None


# ---- TCP ------------------------------------------------------------------------

SCALE = {'GB/sec': 1e9, 'MB/sec': 1e6, 'KB/sec': 1e3, 'bytes/sec': 1, 'sec': 1e6, 'ms': 1e3, 'us': 1, 'ns': 1e-3,
         'KiB': 1 << 10, 'MiB': 1 << 20, 'K': 1 << 10, 'M': 1 << 20, 'KB': 1 << 10, 'MB': 1 << 20, 'bytes': 1}


def qperf(server, client, test, sizes, seconds):
    """{size: bytes/s} of tcp_bw, {size: us} of tcp_lat."""
    there = server.spawn('qperf')
    try:
        # qperf listens on port 19765 (0x4d35).
        server.run("for i in $(seq 200); do grep -qE ':4D35 .* 0A' /proc/net/tcp /proc/net/tcp6 && exit 0; "
                   'sleep 0.05; done; exit 1')
        values = {}
        for size in sizes:
            out = client.run(f'qperf -t {seconds} -m {size} {server.ip} {test}', timeout=60 + seconds).stdout
            found = re.search(r'(?:bw|latency)\s+=\s+([\d.]+) (\S+)', out)
            if not found or found.group(2) not in SCALE:
                raise Trouble(f'no result in:\n{out}')
            values[size] = float(found.group(1)) * SCALE[found.group(2)]
        return values
    finally:
        there.kill()
