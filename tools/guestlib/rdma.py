# SPDX-License-Identifier: GPL-2.0-or-later
"""RDMA programs in guests: loads the driver, and runs a server in one guest and a client in
another. For tests and the demo."""

from .host import GuestError


def load(g):
    """modprobe virtio_rdma, and waits until the port is up and has its IPv4 GID."""
    g.run('modprobe virtio_rdma && modprobe -a rdma_ucm ib_umad 2>/dev/null; '
          'for i in $(seq 100); do '
          'grep -qs ACTIVE /sys/class/infiniband/*/ports/1/state && '
          'grep -qs ffff:c0a8 /sys/class/infiniband/*/ports/1/gids/1 && exit 0; sleep 0.1; done; '
          'echo "no active port with an IPv4 GID:"; dmesg | tail -20; exit 1', timeout=120)


def meet(*guests):
    """Resolves the RDMA addresses of the other guests in each guest's kernel. The kernel
    resolves a neighbour when a QP is connected, and waits only a second, which may be too short
    for emulated guests."""
    for g in guests:
        for ip in (other.rdma_ip for other in guests if other is not g):
            g.run(f'for i in $(seq 30); do ping -c 1 -W 1 {ip} >/dev/null 2>&1; '
                  f'ip neigh show {ip} | grep -q lladdr && exit 0; sleep 0.2; done; '
                  f'echo "{ip} does not answer:"; ip neigh; exit 1', timeout=120)


# A server that listens, with rdma_cm or on a TCP port: 18515, 18516 (perftest and others),
# 13337 (ucx_perftest), 47592 (fi_pingpong). No other program of the guest uses these ports.
LISTENING = ("grep -qE ':(4853|4854|3419|B9E8) 0+:0000 0A' /proc/net/tcp /proc/net/tcp6 || "
             'rdma resource show cm_id | grep -q LISTEN')


def wait_listening(server, timeout=60):
    """Waits until the server program of a guest listens."""
    server.run(f'for i in $(seq {timeout * 20}); do {{ {LISTENING}; }} && exit 0; sleep 0.05; done; '
               f'echo "nobody listens after {timeout} s"; exit 1', timeout=timeout + 30)


def between(server, client, command, client_command=None, timeout=120):
    """Runs a program as server in one guest and as client in another. Returns its output."""
    there = server.spawn(command)
    try:
        wait_listening(server)
        result = client.run(f'{client_command or command} {server.ip}', timeout=timeout)
        there.wait(timeout=timeout)
    except GuestError as error:
        raise GuestError(f'{error}\n--- the server said:\n{there.output()}') from None
    finally:
        there.kill()
    return result.stdout
