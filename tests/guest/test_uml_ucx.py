#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""UCX, libfabric, Open MPI and MPICH between two UML guests with IPv4 addresses.

No environment variable is set: this is what a user gets after installing the packages and
starting a program. Counters of the device prove that the data went by RDMA, and those of eth0
that it did not go by TCP.
"""

import re

import pair
from pair import hw_counters, wait_listening

# A variable UCX_*, OMPI_*, ... would choose the path, or hide that the default is wrong.
VARIABLES = 'UCX|UCC|OMPI|PRTE|PMIX|MPICH|MPIR|HYDRA|FI|OFI|IBV|RDMAV'

# (name, options of both sides, options of the client, what the device must count on the client,
# how often). For the first ones, UCX chooses: RC with a wire-up over UD. -x and -d choose
# transport and device of the lower layer, for which UCX has no default; -D determines the
# source of a message.
RC, UD = '-x rc_verbs -d vrdma0:1', '-x ud_verbs -d vrdma0:1'
UCX = [
    ('tag latency', '', '-t tag_lat -s 8 -n 1000', 'send', 1000),
    ('tag bandwidth, 64 KiB', '', '-t tag_bw -s 65536 -n 500', 'tx_bytes', 500 * 65536),
    ('put bandwidth, 64 KiB', '', '-t ucp_put_bw -s 65536 -n 500', 'write', 500),
    ('get, 4 KiB', '', '-t ucp_get -s 4096 -n 500', 'read', 500),
    ('active messages', '', '-t ucp_am_lat -s 100 -n 500', 'send', 500),
    ('rc_verbs: active messages', RC, '-t am_lat -s 64 -n 1000', 'send', 1000),
    ('rc_verbs: put latency', RC, '-t put_lat -s 8 -n 1000', 'write', 1000),
    ('rc_verbs: fetch-and-add', RC, '-t fadd -s 8 -n 500', 'atomic', 500),
    ('ud_verbs: active messages', UD, '-t am_lat -s 64 -n 1000', 'send', 1000),
    ('ud_verbs: active messages, copied', UD, '-t am_bw -s 1000 -n 2000 -D bcopy', 'send', 2000),
    ('ud_verbs: active messages, in place', UD, '-t am_bw -s 1000 -n 2000 -D zcopy', 'send', 2000),
]

# -c checks the data. -p names the provider; the default is the fastest that -e allows.
LIBFABRIC = ['fi_pingpong -c -p verbs -e msg', 'fi_pingpong -c -p verbs -e dgram',
             'fi_pingpong -c -p "verbs;ofi_rxm" -e rdm']


def environment(guests):
    """Checks that there is no variable, neither here nor where ssh starts a process."""
    a, b = guests
    for g, command in ((a, 'env'), (b, 'env'), (a, f'ssh {b.ip} env')):
        found = re.findall(rf'^(?:{VARIABLES})_.*', g.run(command).stdout, re.M)
        if found:
            return f'{command} in guest {g.name}: {found}'
    return None


def counters(g):
    """Counters of the device, and the bytes that eth0 has sent."""
    sent = int(g.run('cat /sys/class/net/eth0/statistics/tx_bytes').stdout)
    return dict(hw_counters(g), eth0=sent)


def grown(g, before):
    return {name: n - before[name] for name, n in counters(g).items()}


def by_rdma(used, counter, least):
    """Returns a problem unless a counter has grown by so much and eth0 has sent almost nothing."""
    if used[counter] < least:
        return f'"{counter}" grew by {used[counter]} only, not {least}: {used}'
    # Connecting sends some bytes; a path over TCP would send as many as tx_bytes counts.
    if used['eth0'] > 300000 + used['tx_bytes'] // 20:
        return f'{used["eth0"]} bytes went by eth0: {used}'
    return None


# UCX flushes the remote side on mlx5 devices only, and prints this at each fence between puts.
# Completions of RC have the same meaning, and the data that these programs read is checked.
NO_REMOTE_FLUSH = re.compile(r'flush\(remote\) is not supported|error during flush: Unsupported operation')


def complaint(out):
    """Complaints of UCX, MPI or ssh in an output."""
    lines = [line for line in out.splitlines() if re.search(r'ERROR|WARN|FATAL|[Ww]arning', line) and
             not NO_REMOTE_FLUSH.search(line)]
    return out if lines else None


def pingpong(a, b, server, client, counter, least):
    """Runs a server on a and a client on b. Returns the output, or a problem."""
    before = counters(b)
    there = a.spawn(server)
    try:
        wait_listening(a)
        out = b.run(client, timeout=100).stdout
        there.wait(timeout=60)
    except pair.guest.GuestError as error:
        return f'{error}\n--- the server said:\n{there.output()}'
    finally:
        there.kill()
    if not re.search(r'^(Final: +\d+|1m|4k)', out, re.M):
        return f'no result:\n{out}'
    return complaint(out) or by_rdma(grown(b, before), counter, least)


def ucx(a, b, options, client, counter, least):
    """ucx_perftest of Debian starts MPI unless its standard input is a terminal."""
    def terminal(command):
        return f'script -qec "ucx_perftest {command}" /dev/null'
    return pingpong(a, b, terminal(options), terminal(f'{a.ip} {options} {client}'), counter, least)


def libfabric(a, b, command):
    return pingpong(a, b, command, f'{command} {a.ip}', 'send', 10)


def open_ssh(guests):
    """Lets root of guest a log in to all guests, as mpirun does."""
    a, b = guests
    key = a.run('mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519 && '
                'echo "StrictHostKeyChecking accept-new" >/root/.ssh/config && '
                'cat /root/.ssh/id_ed25519.pub').stdout.strip()
    b.run(f'mkdir -p -m 700 /root/.ssh && echo "{key}" >/root/.ssh/authorized_keys && '
          'mkdir -p /run/sshd && /usr/sbin/sshd')
    a.run(f'ssh {b.ip} true')    # stores the host's key, about which ssh prints a message


# Open MPI refuses root's own processes without --allow-run-as-root. With one processor in
# a guest its mapper finds no slot for a process beside mpirun: OVERSUBSCRIBE. Debian's
# openmpi-mca-params.conf excludes UCX (and libfabric): --mca takes UCX again.
OPENMPI = ('mpirun.openmpi --allow-run-as-root --map-by node:OVERSUBSCRIBE --host {hosts} -n 2 '
           '--mca pml ucx --mca osc ucx vrdma-mpi-openmpi')
MPICH = 'mpiexec.mpich -hosts {hosts} -n 2 vrdma-mpi-mpich'

def mpi(guests, command, library):
    a, b = guests
    before = {g.name: counters(g) for g in guests}
    out = a.run(command.format(hosts=f'{a.ip},{b.ip}'), timeout=120).stdout
    if f'2 ranks, {library}' not in out or 'vrdma-mpi: all right' not in out:
        return f'not as expected:\n{out}'
    if complaint(out):
        return out
    # Each rank sends 7 MB to the other.
    for g in guests:
        problem = by_rdma(grown(g, before[g.name]), 'tx_bytes', 7000000)
        if problem:
            return f'guest {g.name}: {problem}'
    return None


def main():
    tap = pair.Tap()
    for library in ('openmpi', 'mpich'):
        pair.build_program('mpi', library)
    with pair.uml_guests(tap, extra=['guest-mpi']) as (_, guests):
        a, b = guests
        open_ssh(guests)
        tap.run('no variable is set', environment, guests)
        for name, options, client, counter, least in UCX:
            tap.run(f'ucx_perftest: {name}', ucx, a, b, options, client, counter, least)
        for command in LIBFABRIC:
            tap.run(command, libfabric, a, b, command)
        tap.run('MPICH over UCX', mpi, guests, MPICH, 'MPICH')
        tap.run('Open MPI over UCX', mpi, guests, OPENMPI, 'Open MPI')
    tap.end()


main()
