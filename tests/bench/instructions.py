#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions per operation, at the poller and at the provider, by callgrind.

Built as build/tests/bench/native-instructions.  Counts do not depend on the machine's load, so
no round is repeated.

poller    cost of a send queue's burst, from the run queue or the scan of hot rings to the check
          of the CQ's arming, plus one turn around it (shared by the batch)
provider  ibv_post_send() and ibv_poll_cq(), and for a SEND ibv_post_recv() and the receiver's
          ibv_poll_cq()

Spinning is not counted: for the poller, only calls of the run queue and one turn are counted;
for the provider, only calls that did work.
"""

import argparse
import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
KINDS = ('write_8B', 'write_64B', 'send_64B')
# Functions of the poller, by kind and batch.
TARGETS = {('write_8B', 1): 700, ('write_8B', 16): 250, ('send_64B', 1): 1100, ('send_64B', 16): 650}
# Functions of a turn without work.
TURN = ('poller_main', 'vrd_hot_scan', 'vrd_doorbell_turn')
# Entry points of the provider.
ENTRIES = ('vrdma_post_send', 'vrdma_poll_cq', 'vrdma_post_recv')


class Profile:
    """Output of callgrind for one thread: costs of functions, and calls between them."""

    def __init__(self, path):
        self.self_cost = collections.Counter()       # by function
        self.by_file = collections.Counter()         # by function, source file
        self.calls = collections.Counter()           # by callee
        self.edge_calls = collections.Counter()      # by caller, callee
        self.edge_cost = collections.Counter()       # by caller, callee: inclusive
        fn = file = callee = None
        after_calls = False
        with open(path, encoding='utf-8', errors='replace') as lines:
            for line in lines:
                key, _, value = line.rstrip('\n').partition('=')
                if key == 'fn':
                    # Names of threads and of recursive calls have a suffix.
                    fn = value.split("'")[0]
                elif key in ('fl', 'fi', 'fe'):
                    file = os.path.basename(value)
                elif key == 'cfn':
                    callee = value.split("'")[0]
                elif key == 'calls':
                    self.calls[callee] += int(value.split()[0])
                    self.edge_calls[fn, callee] += int(value.split()[0])
                    after_calls = True
                elif re.match(r'[0-9+*-]', line):
                    cost = int(line.split()[1]) if len(line.split()) > 1 else 0
                    if after_calls:
                        self.edge_cost[fn, callee] += cost
                        after_calls = False
                    else:
                        self.self_cost[fn] += cost
                        self.by_file[fn, file] += cost

    def inclusive(self, fn):
        return self.self_cost[fn] + sum(c for (caller, _), c in self.edge_cost.items()
                                        if caller == fn)

    def called_by(self, caller, callee):
        return self.edge_cost[caller, callee]

    def below(self, roots):
        """Functions that are reached from roots."""
        seen, todo = set(), list(roots)
        while todo:
            fn = todo.pop()
            if fn in seen:
                continue
            seen.add(fn)
            todo += [callee for caller, callee in self.edge_cost if caller == fn]
        return seen


def run(kind, batch, num, out):
    """Profiles of the guest's thread and of the poller's."""
    program = os.path.join(os.environ.get('BUILD', os.path.join(TOP, 'build')),
                           'tests/bench/native-callgrind')
    subprocess.run(['valgrind', '-q', '--tool=callgrind', '--separate-threads=yes',
                    '--compress-strings=no', '--compress-pos=no', '--fair-sched=yes',
                    f'--callgrind-out-file={out}/{kind}.{batch}',
                    program, kind, str(batch), str(num)],
                   check=True, stdout=subprocess.DEVNULL, env={**os.environ, 'LD_BIND_NOW': '1'})
    guest = poller = None
    for name in sorted(os.listdir(out)):
        if not name.startswith(f'{kind}.{batch}-'):
            continue
        profile = Profile(os.path.join(out, name))
        if profile.self_cost['poller_main']:
            poller = profile
        elif profile.calls['vrdma_post_send']:
            guest = profile
    if not guest or not poller:
        sys.exit(f'callgrind saw no {"poller" if guest else "guest"}')
    return guest, poller


def poller_cost(poller, num, batch):
    """Instructions for each operation: in its burst, and in the turn around it."""
    at_once = poller.called_by('scan_from', 'vrd_run_at_once')
    burst = poller.inclusive('vrd_run_queue_run') + at_once
    burst += poller.called_by('poller_main', 'vrd_cq_flush_touched')
    turns = poller.calls['vrd_hot_scan']
    turn = poller.self_cost['poller_main'] - at_once + sum(
        poller.called_by('poller_main', fn) for fn in TURN[1:])
    return burst / num, turn / turns / batch


def provider_cost(guest, num):
    return sum(guest.inclusive(fn) for fn in ENTRIES) / num


def table(profile, roots, num):
    """Rows of (instructions for each operation, function, file), the largest first.

    A function that is called from elsewhere as well, such as from an idle turn,
    counts by its calls.
    """
    inside = profile.below(roots)
    rows = []
    for (fn, file), cost in profile.by_file.items():
        if fn not in inside:
            continue
        if fn not in roots:
            calls = sum(n for (caller, callee), n in profile.edge_calls.items()
                        if callee == fn and caller in inside)
            cost *= calls / profile.calls[fn]
        if cost / num >= 0.5:
            rows.append((cost / num, fn, file))
    return sorted(rows, reverse=True)


class Output:
    def __init__(self, path):
        self.file = open(path, 'w', encoding='utf-8') if path else None

    def result(self, name, value, note=None, limit=None):
        met = None if limit is None else value <= limit
        verdict = '' if met is None else f"  [<= {limit}: {'met' if met else 'MISSED'}]"
        print(f'  {name:58} {value:8.1f} instructions{verdict}')
        line = {'name': name, 'value': round(value, 1), 'unit': 'instructions',
                'reference': None, 'ratio': None, 'target': f'<= {limit}' if limit else None,
                'met': met, 'cost': True}
        if note:
            line['note'] = note
        if self.file:
            print(json.dumps(line), file=self.file, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', metavar='FILE')
    parser.add_argument('--quick', action='store_true')
    args = parser.parse_args()
    output = Output(args.json)
    print('native-instructions: instructions per operation, by callgrind')
    if not shutil.which('valgrind'):
        print('SKIP: valgrind is missing (tools/setup.sh packages)')
        return
    num = 1024 if args.quick else 4096
    with tempfile.TemporaryDirectory() as out:
        for kind in KINDS:
            for batch in (1, 16):
                guest, poller = run(kind, batch, num, out)
                burst, turn = poller_cost(poller, num, batch)
                name = f'native.instructions.{kind}.by_{batch}'
                print(f'\n{kind}, posted by {batch}')
                output.result(f'{name}.poller', burst + turn,
                              f'{burst:.1f} in the burst, {turn:.1f} of the turn around it',
                              TARGETS.get((kind, batch)))
                output.result(f'{name}.provider', provider_cost(guest, num))
                for what, profile, roots in (
                        ('poller', poller, ('vrd_run_queue_run', 'vrd_run_at_once',
                                           'vrd_cq_flush_touched')),
                        ('provider', guest, ENTRIES)):
                    print(f'    where they go, {what}:')
                    for cost, fn, file in table(profile, roots, num):
                        print(f'      {cost:7.1f}  {fn} ({file})')


if __name__ == '__main__':
    main()
