# SPDX-License-Identifier: GPL-2.0-or-later
"""Basic functions of the host side: folders, products, and processes that end with this one."""

import atexit
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading

TOOLS = pathlib.Path(__file__).resolve().parent.parent
TOP = TOOLS.parent
BUILD = TOP / 'build'


class GuestError(Exception):
    """A failure of a guest or of a command in it; the message is complete."""


def product(name):
    """The folder of a product of tools/setup.sh, which builds it if it is missing."""
    subprocess.run([TOOLS / 'setup.sh', name], check=True, stdout=subprocess.DEVNULL,
                   env=dict(os.environ, VRDMA_QUIET='1'))
    out = subprocess.run([TOOLS / 'setup.sh', '--print', name], check=True,
                         stdout=subprocess.PIPE, text=True)
    return pathlib.Path(out.stdout.strip())


def cache_folder():
    env = os.environ
    base = env.get('VRDMA_CACHE')
    if not base:
        base = os.path.join(env.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'),
                            'virtio-rdma')
    return pathlib.Path(base)


# ---- processes ----------------------------------------------------------------

# The kernel sends the parent-death signal when the *thread* that forked ends. So one thread
# that exists as long as this process starts all processes.
_spawner = concurrent.futures.ThreadPoolExecutor(1, 'spawner')


def popen(argv, netns_of=None, **kwargs):
    """Popen of a process that ends with this process, also after SIGKILL.

    netns_of: a process whose network namespace it runs in."""
    prefix = ['setpriv', '--pdeathsig', 'KILL', '--']
    if netns_of is not None:
        prefix += ['nsenter', f'--net=/proc/{netns_of}/ns/net', '--']
    argv = prefix + [str(a) for a in argv]
    kwargs.setdefault('stdin', subprocess.DEVNULL)
    return _spawner.submit(subprocess.Popen, argv, **kwargs).result()


def end(process, patience=0.0):
    """Ends a process of ours: SIGTERM and a grace period, if given, then SIGKILL."""
    if process.poll() is None and patience > 0:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
    if process.poll() is None:
        process.kill()
    return process.wait()


# ---- the run folder -------------------------------------------------------------

_run_folder = None
_run_lock = threading.Lock()


def run_folder():
    """A folder for this process, with a short path (for sockets), in memory if possible."""
    global _run_folder
    with _run_lock:
        if _run_folder is None:
            base = '/dev/shm' if os.access('/dev/shm', os.W_OK) else tempfile.gettempdir()
            _sweep(pathlib.Path(base))
            _run_folder = pathlib.Path(tempfile.mkdtemp(prefix=f'vrdma-{os.getpid()}-', dir=base))
            atexit.register(shutil.rmtree, _run_folder, ignore_errors=True)
    return _run_folder


def _sweep(base):
    """Removes the folders of processes that were killed."""
    for folder in base.glob('vrdma-*-*'):
        pid = folder.name.split('-')[1]
        if pid.isdigit() and not os.path.exists(f'/proc/{pid}'):
            shutil.rmtree(folder, ignore_errors=True)


def log_folder():
    folder = pathlib.Path(os.environ.get('VRDMA_LOGS', BUILD / 'logs'))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
