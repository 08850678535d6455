# SPDX-License-Identifier: GPL-2.0-or-later
"""Latency and bandwidth over message size, as an SVG: two diagrams with logarithmic axes."""

import math

WIDTH, HEIGHT = 470, 400            # size of one diagram
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 40, 96
COLOURS = ['#0b6e4f', '#1f6fd0', '#c0392b', '#8e6c00']
MARKS = ['circle', 'square', 'triangle', 'diamond']


def size_name(size):
    for unit, letter in ((1 << 20, 'M'), (1 << 10, 'K')):
        if size >= unit:
            return f'{size // unit}{letter}'
    return str(size)


def value_name(value):
    return f'{value:,.0f}' if value >= 1 else f'{value:g}'


def mark(kind, x, y, colour):
    shapes = {'circle': f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"',
              'square': f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"',
              'triangle': f'<path d="M{x:.1f} {y - 4:.1f}l4 7h-8z"',
              'diamond': f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z"'}
    return f'{shapes[kind]} fill="{colour}"/>'


def text(x, y, content, anchor='middle', more=''):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{content}</text>'


class Diagram:
    """series: {label: {size: value}}; styles: {label: number of a colour and a mark}."""

    def __init__(self, x0, title, series, styles):
        self.x0, self.title, self.series, self.styles = x0, title, series, styles
        sizes = [s for points in series.values() for s in points]
        values = [v for points in series.values() for v in points.values() if v > 0]
        self.min_size, self.max_size = min(sizes), max(sizes)
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)

    def x(self, size):
        part = math.log2(size / self.min_size) / max(math.log2(self.max_size / self.min_size), 1)
        return self.x0 + LEFT + part * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    def draw(self):
        left, right = self.x0 + LEFT, self.x0 + WIDTH - RIGHT
        out = [text((left + right) / 2, TOP - 16, self.title, more=' font-weight="bold"')]
        for power in range(self.low, self.high + 1):
            y = self.y(10 ** power)
            out.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#ddd"/>')
            out.append(text(left - 6, y + 4, value_name(10.0 ** power), 'end'))
        size = self.min_size
        while size <= self.max_size:
            x = self.x(size)
            out.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>')
            out.append(text(x, HEIGHT - BOTTOM + 16, size_name(size)))
            size *= 8
        out.append(f'<path d="M{left} {TOP}V{HEIGHT - BOTTOM}H{right}" fill="none" stroke="#444"/>')
        out.append(text((left + right) / 2, HEIGHT - BOTTOM + 34, 'message size, bytes'))
        for number, (label, points) in enumerate(self.series.items()):
            style = self.styles[label]
            colour, kind = COLOURS[style % len(COLOURS)], MARKS[style % len(MARKS)]
            places = [(self.x(s), self.y(v)) for s, v in sorted(points.items()) if v > 0]
            path = 'L'.join(f'{x:.1f} {y:.1f}' for x, y in places)
            out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
            out += [mark(kind, x, y, colour) for x, y in places]
            x, y = left + number % 2 * 190, HEIGHT - BOTTOM + 54 + number // 2 * 18
            out += [mark(kind, x, y - 4, colour), text(x + 10, y, label, 'start')]
        return out


def write(path, diagrams):
    """diagrams: [(title, {label: {size: value}})]; empty ones are omitted."""
    diagrams = [(title, {k: v for k, v in series.items() if v}) for title, series in diagrams]
    diagrams = [(title, series) for title, series in diagrams if series]
    if not diagrams:
        return False
    labels = list(dict.fromkeys(label for _, series in diagrams for label in series))
    styles = {label: n for n, label in enumerate(labels)}
    width = WIDTH * len(diagrams)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}" '
           'font-family="sans-serif" font-size="12">', f'<rect width="{width}" height="{HEIGHT}" fill="white"/>']
    for n, (title, series) in enumerate(diagrams):
        out += Diagram(n * WIDTH, title, series, styles).draw()
    path.write_text('\n'.join(out + ['</svg>']) + '\n')
    return True
