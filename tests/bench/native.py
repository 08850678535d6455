# SPDX-License-Identifier: GPL-2.0-or-later
"""The native part of make bench: programs that simulate guests without a virtual machine."""

import json
import subprocess

from results import Trouble

PROGRAMS = ['native-small', 'native-ibverbs', 'native-copy', 'native-curve', 'native-instructions', 'native-scale',
            'native-neighbour', 'native-idle', 'native-control']


def run(results, build, say, quick):
    for name in PROGRAMS:
        say(f'{name} ...')
        try:
            run_program(results, build / 'tests' / 'bench' / name, quick)
        except Trouble as trouble:
            results.fail(name, trouble)


def run_program(results, program, quick):
    """The program prints text for the log, and one JSON object per line for this function."""
    if not program.exists():
        raise Trouble(f'{program} is not there: make -C tests/bench')
    lines = program.parent / f'{program.name}.json'
    log = program.parent / f'{program.name}.log'
    lines.unlink(missing_ok=True)
    with open(log, 'wb') as out:
        status = subprocess.call([program, '--json', lines] + ['--quick'] * quick, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=subprocess.STDOUT)
    if status:
        raise Trouble(f'ended with status {status}\n' + '\n'.join(log.read_text(errors='replace').splitlines()[-20:]))
    found = [json.loads(line) for line in lines.read_text().splitlines() if line.strip()] if lines.exists() else []
    for figure in found:
        results.take(figure)
    if not found:
        results.skip(program.name, ' '.join(log.read_text(errors='replace').split())[-200:] or 'it reported nothing')
