# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of make bench: their contents, the table, build/bench.json.

A figure is {"name", "value", "unit", "reference", "ratio", "target", "met"}, and "note" if
there is a reason for one. reference: what the figure is compared with and the value of that, as
text. ratio: how many times better than the reference, or a ratio of what the name says. target:
None or '>= 50', for the ratio if there is one, else for the value. met: True, False, or None if
there is no target.

Costs are figures of what the device adds to the work itself: instructions, or nanoseconds
beyond the round trip of a cache line or beyond memcpy. Unlike ratios, they hardly depend on the
machine, so build/bench.json has them in a separate list: {"figures": [...], "costs": [...]}."""

import json
import operator
import re
import statistics

COMPARE = {'>=': operator.ge, '<=': operator.le}


class Trouble(Exception):
    """A measurement that could not be made, and the reason."""


def met(target, ratio, value):
    if target is None:
        return None
    sign, limit = target.split()
    return COMPARE[sign](value if ratio is None else ratio, float(limit))


def number(value):
    """Formats three digits, with separators for thousands."""
    if value == 0:
        return '0'
    if abs(value) >= 100:
        return f'{value:,.0f}'
    return re.sub(r'(\.\d*?)0+$', r'\1', f'{value:.3g}' if abs(value) >= 0.001 else f'{value:.2e}').rstrip('.')


class Results:
    """Collects figures; prints each as soon as it is known."""

    def __init__(self):
        self.figures = []
        self.skips = []
        self.failures = []
        self.guests = []        # for tests/guest/pair.py, which sets them

    def add(self, name, value, unit, reference=None, ratio=None, target=None, note=None):
        figure = dict(name=name, value=value, unit=unit, reference=reference, ratio=ratio, target=target,
                      met=met(target, ratio, value))
        if note:
            figure['note'] = note
        self.take(figure)

    def take(self, figure):
        self.figures.append(figure)
        if '.curve.' not in figure['name']:
            print(row(figure), flush=True)

    def compare(self, name, ours, theirs, unit, beside, lower=False, target=None, note=None):
        """ours and theirs: samples of alternating runs; theirs may be empty."""
        value = statistics.median(ours)
        if not theirs:
            self.add(name, value, unit, note=note)
            return
        other = statistics.median(theirs)
        ratio = other / value if lower else value / other
        self.add(name, value, unit, f'{beside}, {number(other)} {unit}', ratio, target, note)

    def value(self, name):
        return next((f['value'] for f in self.figures if f['name'] == name), None)

    def skip(self, name, why):
        self.skips.append(f'{name}: {why}')
        print(f'  SKIP  {name}: {why}', flush=True)

    def fail(self, name, why):
        first, *rest = str(why).strip().splitlines()[:40] or ['']
        self.failures.append(f'{name}: {first}')
        print(f'  FAIL  {name}: {first}', flush=True)
        for line in rest:
            print(f'        {line}', flush=True)

    def report(self, name, problem=None):
        """The interface that tests/guest/pair.py expects of its Tap."""
        if problem:
            self.fail(name, problem)

    def save(self, path):
        parts = {'figures': [f for f in self.figures if not f.get('cost')],
                 'costs': [f for f in self.figures if f.get('cost')]}
        path.write_text('{\n' + ',\n'.join(
            f'"{name}": [\n' + ',\n'.join('  ' + json.dumps(f) for f in figures) + '\n]'
            for name, figures in parts.items()) + '\n}\n')

    def missed(self):
        return [f for f in self.figures if f['met'] is False]


HEADER = (f"  {'figure':<44} {'value':>9} {'unit':<12} {'compared with':<34} {'ratio':>8} "
          f"{'target':<8}")


def row(figure):
    ratio = '' if figure['ratio'] is None else f"{number(figure['ratio'])} x"
    verdict = {True: 'met', False: 'MISSED', None: ''}[figure['met']]
    text = (f"  {figure['name']:<44} {number(figure['value']):>9} {figure['unit']:<12} "
            f"{figure['reference'] or '':<34} {ratio:>8} {figure['target'] or '':<8} {verdict}").rstrip()
    return text + (f"\n  {'':<4}({figure['note']})" if figure.get('note') else '')
