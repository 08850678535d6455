#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The data of every operation, between two UML guests and within one."""

import pair


def main():
    tap = pair.Tap()
    pair.build_program('verify')
    with pair.uml_guests(tap) as (_, (a, b)):
        pair.verify(tap, 'two guests', a, b)
        pair.verify(tap, 'one guest', a, a, '-q 9')
        pair.verify(tap, 'link-local GIDs', b, a, '-q 9 -g 0 -c UD')
        pair.verify(tap, '64 QPs', b, a, '-q 64 -c "many QPs"')
    with pair.uml_guests(tap, daemon_args=['--pollers', '2']) as (_, (a, b)):
        pair.verify(tap, 'two pollers', a, b)
    tap.end()


main()
