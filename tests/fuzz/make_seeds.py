#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the fuzzers' seeds: inputs that reach deep code, in the harnesses' grammars.

    tests/fuzz/make_seeds.py FOLDER     ->  FOLDER/fuzz_commands/..., ...

A seed is stored here as a list of operations, not as a file: if a grammar changes, its seeds
change too.  Every value that a harness reads is one number. Zero means "nothing unusual"
everywhere; as an operation, it does nothing.
"""

import os
import struct
import sys


def flat(*parts):
    """Converts numbers, bytes and lists of them to bytes."""
    out = b""
    for p in parts:
        if isinstance(p, (list, tuple)):
            out += flat(*p)
        elif isinstance(p, bytes):
            out += p
        else:
            out += bytes([p])
    return out


def raw32(value):
    """A value that is picked from the input."""
    return flat(0xff, struct.pack("<I", value))


def raw64(value):
    return flat(0xff, struct.pack("<Q", value))


# ---- fuzz_commands ------------------------------------------------------------

NOTHING, QUERY, GID, CTX, PD, MR, MORE, DMA, CQ, RESIZE, QP, QP2, MODIFY, MODIFY2, CONNECT, CONNECT2, \
    DESTROY, DESTROY2, RAW, POST, POST2, POST3, POST4, KICK, INIT = range(25)
HOST, SRQ, SRQ_LIMIT, POST_SRQ = 25, 28, 29, 30
SENT = [0, 0, 0]                    # usual length in the header, no mutation, usual length


def op(code, guest=0):
    return code | guest << 5


def ctx(g=0, kernel=0):
    return flat(op(CTX, g), kernel, 0, 0, SENT)


def pd(g=0, c=0):
    return flat(op(PD, g), c, 0, SENT)


def mr(g=0, pages=4, offset=0, how=0, p=0, split=0):
    n = 1
    if not how & 8 and split & 0x80:
        n = min(pages, 32)
    return flat(op(MR, g), pages - 1, offset, how, p, 0, 0, 0, 0, 0, split, [0, 0] * n, 0, SENT)


def cq(g=0, shift=4, c=0, vector=0):
    return flat(op(CQ, g), shift, c, 0, 0, 0, vector, 0, 0, 0, 0, [0, 0], 0, SENT)


def srq(g=0, shift=3, c=0, p=0):
    return flat(op(SRQ, g), shift, c, 0, p, 0, [0] * 5, 0, [0, 0], 0, SENT)


def srq_qp(g=0, kind=2, s=0):
    """A QP that takes its receives from the SRQ."""
    return flat(op(QP, g), 0x80 | kind - 1, 0x33, [0, 0] * 4, s, 0, [0] * 8, 0, [0, 0], 0, SENT)


def limit(g, value, s=0):
    return flat(op(SRQ_LIMIT, g), value << 4, s, 0, 0, 0, SENT)


def post_srq(g, n=1, size=15):
    return flat(op(POST_SRQ, g), 0, 0, n - 1 | size << 4, [0] * n)


def resize(g=0, shift=5, c=0):
    return flat(op(RESIZE, g), shift, c, 0, 0, 0, 0, 0, [0, 0], 0, SENT)


def qp(g=0, kind=2, shifts=0x33, c=0, p=0, scq=0, rcq=0):
    return flat(op(QP, g), kind - 1, shifts, c, 0, p, 0, scq, 0, rcq, 0, [0] * 9, 0, [0, 0], 0,
                SENT)


def connect(g, q, peer, dq):
    return flat(op(CONNECT, g), q, peer, dq, [[0, 0, SENT]] * 4)


def modify(g, q, state, peer=0, dq=0):
    return flat(op(MODIFY, g), q, state | peer << 4, dq, 0, 0, SENT)


def destroy(g, kind, index=0):
    return flat(op(DESTROY, g), kind, index, 0, SENT)


def post(g, q, opcode, size=1, peer=None, dq=0):
    """A UD QP reads two more numbers, which do nothing as operations elsewhere."""
    return flat(op(POST, g), q, 0, 1 - g if peer is None else peer, opcode | size << 4, 0, 0, dq)


def recv(g, q, size=15):
    return flat(op(POST, g), q, 0, 0, 8 | size << 4)


def host(g, how):
    return flat(op(HOST, g), how)


STEP, PAUSE, RESET, DRAIN = 4, 1, 2, 3


def side(g, kernel=0, kind=2):
    return flat(ctx(g, kernel), pd(g), mr(g), cq(g), qp(g, kind))


def commands_seeds():
    pair = flat(side(0), side(1), connect(0, 0, 1, 0), connect(1, 0, 0, 0))
    ud = flat(side(0, 0, 4), side(1, 0, 4), connect(0, 0, 1, 0), connect(1, 0, 0, 0))
    gone = [destroy(0, k) for k in (4, 3, 2, 1, 0)]
    yield "objects", flat(side(0), [destroy(0, k) for k in (0, 1, 3)], gone)
    yield "queries", flat([[op(QUERY), k, [0] * 4] for k in range(4)], side(0), op(QUERY), 3, 0, 0,
                          SENT)
    yield "gids", flat(op(GID), 2 | 1 << 3, 7, 0, SENT, op(GID, 1), 2 | 1 << 3, 7, 0, SENT,
                       op(GID), 1 | 1 << 3, 0, SENT, op(GID, 2), 2 | 4 | 1 << 3, 0, SENT,
                       op(GID, 2), 2 | 2 << 3, 9, 0, SENT)
    yield "pair", flat(pair, recv(1, 0), post(0, 0, 2), post(0, 0, 0), post(0, 0, 4),
                       post(0, 0, 5), post(0, 0, 6), host(0, STEP), post(0, 0, 3),
                       host(0, STEP), recv(1, 0), host(0, STEP | 2 << 3))
    yield "pair_destroyed", flat(pair, post(0, 0, 0, 15), destroy(1, 4), post(0, 0, 4, 15),
                                 destroy(0, 4), host(0, STEP))
    yield "pair_dereg", flat(pair, post(0, 0, 0, 15), destroy(1, 2), post(0, 0, 0), host(0, STEP))
    yield "pair_states", flat(pair, modify(0, 0, 4), post(0, 0, 0), host(0, STEP),
                              modify(0, 0, 3), modify(0, 0, 6), host(0, STEP), modify(0, 0, 0),
                              connect(0, 0, 1, 0))
    yield "pair_paused", flat(pair, post(0, 0, 0), host(1, PAUSE), post(0, 0, 0, 15),
                              host(0, PAUSE), host(1, 1 << 3), post(0, 0, 4), host(0, STEP),
                              host(1, 2 << 3), post(0, 0, 0), host(0, STEP), host(1, 3 << 3),
                              post(0, 0, 0), host(0, STEP), host(1, RESET), host(0, STEP))
    yield "ud", flat(ud, recv(1, 0), post(0, 0, 2), host(0, STEP), post(0, 0, 2), host(0, STEP))
    yield "gsi", flat(side(0, 1, 1), side(1, 1, 1), connect(0, 0, 1, 0), connect(1, 0, 0, 0),
                      recv(1, 0), post(0, 0, 2), host(0, STEP))
    yield "dma_mr", flat(ctx(0, 1), pd(0), op(DMA), 0, 0, 0, SENT, cq(0), qp(0, 2), side(1),
                         connect(0, 0, 1, 0), connect(1, 0, 0, 0), post(0, 0, 0), post(1, 0, 4),
                         host(0, STEP))
    yield "mr_more", flat(ctx(0), pd(0),
                          op(MR), 3, 0, 8, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, SENT,
                          op(MORE), 0, 0, 3, 0x80, [0, 0] * 4, 0, SENT,
                          op(MORE), 0, 0, 2, 0x80, [0, 0] * 3, 0, SENT, destroy(0, 2))
    yield "mr_many", flat(ctx(0), pd(0), [mr(0, 16, 8, how, 0, 0x80) for how in range(4)])
    yield "resize", flat(pair, post(0, 0, 0), host(0, STEP), resize(0), post(0, 0, 0),
                         host(0, STEP), resize(0, 0), [post(0, 0, 0)] * 4, host(0, STEP | 3 << 3))
    yield "overflow", flat(ctx(0), pd(0), mr(0), cq(0, 0), qp(0), qp(0), connect(0, 0, 0, 1),
                           connect(0, 1, 0, 0), [post(0, 0, 0, 1, 0)] * 4, host(0, STEP),
                           host(0, DRAIN))
    yield "limits", flat([ctx(2)] * 3, [pd(2)] * 3, [mr(2)] * 4, [cq(2)] * 3, [cq(2, 7)],
                         [qp(2)] * 4, [qp(2, 2, 0x77)])
    yield "init_in_flight", flat(pair, post(0, 0, 0, 15), op(INIT, 1), 0, SENT,
                                 post(0, 0, 0), host(0, STEP), op(INIT), 0, SENT)
    shared = flat([[ctx(g), pd(g), mr(g), cq(g), srq(g), srq_qp(g), srq_qp(g)] for g in (0, 1)],
                  [[connect(0, q, 1, q), connect(1, q, 0, q)] for q in (0, 1)])
    yield "srq", flat(shared, limit(1, 2), post_srq(1, 3), post(0, 0, 2), post(0, 1, 2), host(0, STEP),
                      post(0, 1, 1), host(0, STEP), post(0, 0, 2), host(0, STEP), post_srq(1),
                      host(0, STEP), op(SRQ_LIMIT, 1), 1, 0, 0, SENT, destroy(1, 5), destroy(1, 4),
                      destroy(1, 4), destroy(1, 5))
    yield "srq_waits", flat(shared, post(0, 0, 2), post(0, 1, 2), host(0, STEP), host(1, PAUSE),
                            post_srq(1), host(0, STEP), destroy(1, 4), host(0, STEP), host(1, RESET),
                            host(0, STEP))
    yield "srq_broken", flat(shared, op(POST_SRQ, 1), 0, 0, 4 | 15 << 4, 0, raw32(1000), post(0, 0, 2),
                             post(0, 1, 2), host(0, STEP), host(1, DRAIN))
    yield "srq_ud", flat([[ctx(g), pd(g), mr(g), cq(g), srq(g), srq_qp(g, 4)] for g in (0, 1)],
                         connect(0, 0, 1, 0), connect(1, 0, 0, 0), post_srq(1, 2), post(0, 0, 2),
                         post(0, 0, 2), post(0, 0, 2), host(0, STEP))
    yield "uc", flat(side(0, 0, 3), side(1, 0, 3), connect(0, 0, 1, 0), connect(1, 0, 0, 0),
                     recv(1, 0), post(0, 0, 2), post(0, 0, 0), post(0, 0, 2), host(0, STEP),
                     destroy(1, 4), post(0, 0, 0), host(0, STEP))
    yield "raw", flat([[op(RAW), n, c, [0] * max(n - 4, 0)] for c in (0, 21, 22, 32, 43, 255)
                       for n in (0, 7, 8, 16, 64)])
    yield "short", flat([[op(PD), 0, 0, 0, 0, 0xd0, n] for n in (0, 7, 8, 15, 16)],
                        [[op(PD), 0, 0, 0, 0, 0xe0, n, 0] for n in (0, 4, 8, 15, 17)])
    buf = [op(26), 3, 0, 0, 0, 0x80, [0, 0] * 4, 0, SENT]
    half = [op(26), 0 | 1 << 2, 0, 0, 0, 0x80, [0, 0], 0, SENT]
    rest = [op(26), 0x80, 0, 0, 0x80, [0, 0], 0, SENT]
    buf_cq = [op(27), 0, 0, 0, 0, 0, SENT]
    yield "handles", flat(ctx(0), buf, buf_cq, buf_cq, half, buf_cq, rest, rest, buf_cq,
                          buf, [op(27), 0, 0, 1, 0, 0, SENT], half, destroy(0, 6), destroy(0, 6),
                          [half] * 3, op(INIT), 0, SENT)
    yield "newer", flat(side(0), [[op(PD), 0, 0, 0, 0, 0xc0 | n] for n in range(8)],
                        [[op(MR), 3, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, [0, 0] * 4, 0, 0, 0, 0xc0 | n]
                         for n in range(8)],
                        [[op(PD), 0, 0, raw32(n), 0, 0] for n in (8, 12, 17, 24, 1032)])


# ---- fuzz_wqe -------------------------------------------------------------------

CONN, LOOP, UDQ, GSI = 0, 2, 4, 6   # of guest a; + 1: of b


def sge(how=0, addr=0, length=0, key=0):
    return flat(how, addr, length, key)


def wqe(which, opcode, flags=1, sges=1, extra=b"", inline=0, addr=0, rkey=0, av=b""):
    body = [inline] if flags & 8 else [sge(extra or 0)] * sges if not extra else extra
    return flat(1, which, opcode | sges << 4, flags, av, body, addr, rkey, 0)


def ud_wqe(which, to, flags=1, qpn=0, sges=1):
    return flat(1, which, 2 | sges << 4 | to << 7, flags, qpn, 0, [sge()] * sges, 0, 0, 0)


def receive(which, n=1):
    return flat(2, which | n << 4, [sge(2)] * n, 0)


def ring(which, recv_ring=0):
    return flat(5, which | recv_ring << 3)


def step(n=2):
    return flat(15, n)


def flip(which, what, at, value=0):
    return flat(12, which | what << 4, at, value)


def reg_mr(which, num=0, access=0, shift=0):
    return flat(1, which, 10, 1, num, 0, access, 0, shift, 0, 0)


def inv(which, opcode, sges=0):
    return flat(wqe(which, opcode, sges=sges), 0)


def wqe_seeds():
    for name, begin in (("rc", [3, 0]), ("uc", [0x3b, 2]), ("kernel", [0x3f, 1]), ("srq", [3, 4]),
                        ("uc_srq", [0x13, 6])):
        yield name + "_ops", flat(begin, [receive(1)] * 3, ring(1, 1),
                                  [[wqe(0, o), ring(0), step()] for o in range(8)])
        yield name + "_loop", flat(begin, receive(LOOP), ring(LOOP, 1),
                                   [wqe(LOOP, o) for o in (0, 2, 4, 5, 6)], ring(LOOP), step(3))
    yield "fast_reg", flat(0x3f, 1, reg_mr(1), ring(1), step(), wqe(0, 0, 0x51), ring(0), step(),
                           wqe(0, 4, 0x51), ring(0), step(), inv(1, 8), ring(1), step(),
                           reg_mr(1), ring(1), step(), [receive(1)] * 2, ring(1, 1), inv(0, 7, 1),
                           ring(0), step(), wqe(0, 0, 0x51), ring(0), step(3))
    yield "fast_reg_bad", flat(0x3f, 1, [[reg_mr(1, *how), ring(1), step(), 10, 1, 14]
                                         for how in ((0, 0, 12), (0xc8,), (0, 0xc8))],
                               inv(1, 8), ring(1), step())
    yield "inline", flat(0x23, 0, receive(1), ring(1, 1), wqe(0, 0, 9, 0, inline=32),
                         wqe(0, 2, 9, 0, inline=200), ring(0), step())
    yield "sges", flat(0x1b, 0, receive(1, 3), ring(1, 1), wqe(0, 0, sges=3), wqe(0, 2, sges=3),
                       wqe(0, 4, sges=2), ring(0), step())
    big = wqe(0, 0, 0xf1, 1, sge(0x0f))
    yield "long", flat(3, 0, receive(1), 2, 0x11, sge(0x0f), 0, 2, 0x11, sge(0x0e), 0, ring(1, 1),
                       [[wqe(0, o, 0x81, 1, sge(0x0f)), ring(0), step(3), step(3)]
                        for o in (0, 1, 4, 2, 3)])
    yield "long_both", flat(3, 0, wqe(0, 0, 0x81, 1, sge(0x0f)), wqe(1, 4, 0x81, 1, sge(0x0f)),
                            ring(0), ring(1), step(0), wqe(LOOP, 0), ring(LOOP), step(3), step(3))
    yield "long_cut", flat(3, 0, big, ring(0), step(0), 10, 0x61, step(), big, ring(0), 11, 1, step(),
                           10, 0x01, 14, 10, 0, 14, big, ring(0), 13, 1, step(3), 11, 1, step(3))
    yield "long_recv_cut", flat(3, 0, 2, 0x11, sge(0x0f), 0, ring(1, 1),
                                wqe(0, 2, 0x81, 1, sge(0x0f)), ring(0), step(0), 10, 0x01, 14, step(3),
                                10, 0, 14, 13, 1, step(3))
    yield "lengths", flat(3, 0, [[wqe(0, 0, 9, 0, inline=n), ring(0), step(0)] for n in (0, 1, 2, 4, 7)],
                          [wqe(0, 0, 1, 1, sge(1 | n << 4)) for n in range(4)], ring(0), step())
    yield "ends", flat(3, 0, [[wqe(0, o, 1 | (w << 4), 1, sge(n << 4)), ring(0), step(), 10, 0, 14]
                              for o, w, n in ((0, 0, 12), (0, 0, 13), (4, 0, 15), (4, 0, 14), (0, 5, 0),
                                              (0, 6, 0), (4, 7, 0))])
    yield "fields", flat(3, 0, [[wqe(0, 0)[:-1], change, ring(0), step(), 10, 0, 14]
                                for change in ([0xc8, 3], [0xc8, 255], [0xc4, 33], [0xc2, 8, 0],
                                               [0xc0, 255])],
                         [[receive(1)[:-1], change, ring(1, 1), wqe(0, 2), ring(0), step(),
                           10, 0, 14, 10, 1, 14]
                          for change in ([0xc2, 0], [0xdf, 0xc0], [0xc1, 0xd4])])
    yield "denied", flat(3, 0, 10, 0x01, 0, step(), [[wqe(0, o), ring(0), step(), 10, 0, 14]
                                                     for o in (0, 4, 5)])
    yield "no_peer", flat(3, 0, 10, 0x61, wqe(0, 0), ring(0), step(3), step(3), 10, 0x01, 14, 10, 0, 14,
                          10, 0x41, wqe(1, 0), ring(1), step(), 10, 0x31, step())
    yield "rnr", flat(3, 0, wqe(0, 2), ring(0), step(), receive(1), ring(1, 1), step(3), step(3))
    yield "bad_rkey", flat(3, 0, wqe(0, 0, rkey=0xdb), ring(0), step(), 8, 0x0c, 10, 0, 14,
                           wqe(0, 4, addr=0xd8), ring(0), step())
    yield "bad_lkey", flat(3, 0, flat(1, 0, 0x10, 1, 0, 0, 0, 0xdb, 0, 0, 0), ring(0), step())
    yield "srq_cut", flat(3, 4, receive(1), 2, 0x11, sge(0x0f), 0, ring(1, 1),
                          wqe(0, 2, 0x81, 1, sge(0x0f)), ring(0), step(0), 10, 0x01, 14, step(3),
                          10, 0, 14, wqe(0, 2), ring(0), step(3))
    yield "srq_ud", flat(0xb, 4, receive(UDQ + 1), ring(UDQ + 1, 1), ud_wqe(UDQ, 1), ud_wqe(UDQ, 1),
                         ring(UDQ), step(), receive(1), ring(1, 1), wqe(0, 2), ring(0), step())
    yield "srq_waits", flat(3, 4, wqe(0, 2), ring(0), step(), 13, 1, receive(1), ring(1, 1), step(3),
                            7, 0x09, 0xd4, wqe(0, 2), ring(0), step())
    yield "flip_srq", flat(3, 4, flip(1, 2, 1), flip(1, 4, 2), [receive(1)] * 4, ring(1, 1),
                           [wqe(0, 2)] * 4, ring(0), step(3), step(3))
    yield "ud", flat(0xb, 0, receive(UDQ + 1), receive(UDQ), ring(UDQ + 1, 1), ring(UDQ, 1),
                     ud_wqe(UDQ, 1), ud_wqe(UDQ, 0), ud_wqe(UDQ, 1, 2), ring(UDQ), step())
    yield "ud_v4", flat(0xb, 0, receive(UDQ + 1), receive(UDQ), ring(UDQ + 1, 1), ring(UDQ, 1),
                        ud_wqe(UDQ, 1, 0x41), ud_wqe(UDQ, 0, 0x41), ring(UDQ), step())
    yield "ud_inline", flat(0x23, 0, receive(UDQ + 1), ring(UDQ + 1, 1),
                            1, UDQ, 2 | 0x80, 9, 0, 0, 64, 0, 0, 0, ring(UDQ), step())
    yield "gsi", flat(3, 1, receive(GSI + 1), ring(GSI + 1, 1), ud_wqe(GSI, 1), ring(GSI), step())
    yield "producer", flat(3, 0, wqe(0, 0), 7, 0, 0xd2, step(), 10, 0, 14, 7, 0x20, 0, step(),
                           7, 0x09, 0xd4, step())
    yield "overflow", flat(0, 0, [wqe(0, 0)] * 8, ring(0), step(3), [wqe(LOOP, 0)] * 4, ring(LOOP),
                           step(3), 13, 4)
    yield "events", flat(3, 0, 8, 8, wqe(0, 0), ring(0), step(), 8, 0x18, receive(1), ring(1, 1),
                         wqe(0, 2, 3), ring(0), step(), 13, 4)
    yield "doorbells", flat(3, 0, 9, 0xfe, b"\x40\0", [1] * 63, step(), wqe(0, 0), 7, 0, 0, step(),
                            9, 0xfe, b"\0\0", [1] * 63, step())
    yield "flush", flat(3, 0, [receive(0)] * 4, ring(0, 1), wqe(0, 0), 10, 0x60, wqe(0, 0), ring(0),
                        step(), 10, 0, 14, wqe(0, 0), ring(0), step())
    yield "paused", flat(3, 0, wqe(0, 0, sges=3), ring(0), 13, 1, wqe(0, 4), ring(0), 13, 9, step(),
                         13, 3 | 1 << 3, wqe(0, 0), ring(0), step(), 13, 3)
    yield "rereg", flat(3, 0, wqe(0, 0), ring(0), 11, 5, wqe(0, 0), ring(0), step(), 11, 1, wqe(0, 0),
                        ring(0), step())
    yield "flip_wqe", flat(3, 0, flip(0, 0, 0), flip(0, 1, 8), flip(0, 0, 4), [wqe(0, 0)] * 8,
                           ring(0), step(3))
    yield "flip_producer", flat(3, 0, [wqe(0, 0)] * 8, flip(0, 3, 2), ring(0), step(3), step(3))
    yield "flip_cq", flat(3, 0, flip(0, 5, 2), flip(0, 5, 0), [wqe(0, 0)] * 8, ring(0), step(3))
    yield "flip_db", flat(3, 0, flip(0, 6, 16), flip(0, 6, 32), [wqe(0, 0)] * 4, ring(0), step(3))
    yield "raw", flat(3, 0, 3, 0, 64, [0xff] * 64, 3, 0, 16, 4, 1, 1, 0, [0] * 12, ring(0), step(),
                      4, 1, 32, [0xff] * 32, ring(1, 1), step())


# ---- fuzz_virtq ---------------------------------------------------------------------

def desc(q, at, addr=0, length=0, flags=0, nxt=0):
    return flat(1, q, at, addr, length, flags, nxt)


def offer(q, head, n=1):
    return flat(2, q + 5 * (((n - 1) * 32 - q + 4) // 5 if n > 1 else 0), head)


def command(k, pieces=4, first=0):
    return flat(7, k | first << 3, pieces, 0)


def settle():
    return flat(15)


def virtq_seeds():
    for name, begin in (("plain", 0x3f), ("indirect", 0x1f)):
        yield name + "_commands", flat(begin, [[command(k, p, 3 * (k % 5)), settle()]
                                               for p in (4, 7) for k in range(8)])
        yield name + "_burst", flat(begin, [command(0), command(1, 4, 3), command(2, 4, 6)],
                                    settle())
    yield "short_answer", flat(0x3f, command(0), settle(), [[command(1, p), settle()]
                                                             for p in range(4)])
    yield "loop", flat(0x3f, desc(0, 0, 0, 0, 1, 0x40), desc(0, 0x40, 0, 0, 1, 0x40), offer(0, 0x40),
                       settle())
    yield "next_outside", flat(0x3f, desc(0, 0, 0, 0, 1, 0xe0), offer(0, 0), settle())
    yield "indirect_table", flat(0x1f, 4, 0x21, 0, 0, 1, 0, 8, 7, 3, 0, 0, 0, 2, 0,
                                 desc(0, 0, 1, 4, 4, 0), offer(0, 0), settle())
    yield "indirect_odd", flat(0x1f, desc(0, 0, 1, 0x81, 4, 0), offer(0, 0), settle())
    yield "indirect_refused", flat(0x3f, desc(0, 0, 1, 4, 4, 0), offer(0, 0), settle())
    yield "indirect_twice", flat(0x1f, 4, 1, 0, 0, 4, 0, desc(0, 0, 1, 1, 4, 0), offer(0, 0),
                                 settle())
    yield "wrong_order", flat(0x3f, desc(0, 0, 0, 7, 3, 0), desc(0, 1, 0, 0, 0, 0), offer(0, 0),
                              settle())
    yield "no_ram", flat(0x3f, desc(0, 0, 0xd0, 0, 1, 0), desc(0, 1, 8, 7, 2, 0), offer(0, 0),
                         settle(), desc(0, 0, 0xff, b"\xff" * 8, 0, 0), offer(0, 0), settle())
    yield "far_ahead", flat(0x3f, 5, 0x80 + 2, 0, b"\x00\x80", settle())
    yield "events", flat(0x3f, command(0), settle(), [desc(1, i, 9, 1, 2) for i in range(4)],
                         2, 1 + 95, 0, 11, 2, 3, settle(), 11, 5, 0x3f, 14, 1, settle(), 11, 14, 0)
    yield "event_short", flat(0x3f, command(0), settle(), desc(1, 0, 9, 0, 2), offer(1, 0),
                              desc(1, 1, 9, 1, 0), offer(1, 1), 11, 2, 3, settle())
    yield "vectors", flat(0x1f, command(0), settle(), desc(3, 0, 9, 0, 2), offer(3, 0), command(4),
                          settle(), command(5), settle(), command(6), settle())
    yield "restart", flat(0x3f, command(0), settle(), 9, 0x80, 9, 0x40, [0] * 5, command(1),
                          settle(), 9, 0x41, 0xd0, [0] * 4, 9, 0x42, 0, 0xd2, 0, 0, 0, 9, 0x43, 0,
                          0, 0xc0, 0, 0, settle())
    yield "descriptors", flat(0x3f, command(0), settle(), 10, 0x40, command(1), settle(), 10, 0x65,
                              10, 0xa0, 10, 0x20, command(1), settle(), 10, 0xe4, settle())
    yield "memory", flat(0x3f, command(0), settle(), 12, 1, command(1), settle(), 12, 0, command(1),
                         settle(), 12, 2, command(1), settle(), 12, 3, settle())
    yield "flips", flat(0x1f, command(0), settle(), 13, 0, 1, 0, 13, 0x40, 1, 0, 13, 0, 2, 0,
                        [command(1)] * 4, settle(), [command(2)] * 4, settle())


# ---- fuzz_vhost_user ------------------------------------------------------------------

REQUESTS = [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 21, 22, 24, 25, 34, 36, 37, 38]
FILLS = {2: 1, 16: 1, 37: 4, 38: 4, 8: 2, 10: 2, 11: 2, 18: 2, 9: 5, 12: 1, 13: 1, 14: 1, 24: 2,
         25: 2}


def vu(request, how=0, fills=None, mutate=0, flags=1, size=0, fds=0, cut=0):
    if fills is None:
        count = FILLS.get(request, 0)
        if request == 5:
            count = 1 + 4 * (1 + (how & 1))
        fills = [0] * count
    return flat(0, REQUESTS.index(request), how, fills, mutate, flags, size, fds, cut)


def connected():
    return flat(vu(3), vu(1), vu(15), vu(16), vu(2), vu(17), vu(5))


def queue(i, first=0):
    return flat(vu(8, i), vu(10, i), vu(9, i), vu(13, i), vu(14, i), vu(12, i),
                vu(18, i | 8))


def vhost_user_seeds():
    yield "session", flat(0, connected(), [queue(i) for i in range(5)], 0xe2, vu(24, 16 << 3),
                          vu(11, 0), vu(12, 0), vu(18, 0), vu(34), vu(4))
    yield "every_request", flat(0, connected(), [vu(r) for r in REQUESTS])
    yield "unnegotiated", flat(0, [vu(r) for r in REQUESTS])
    yield "slots", flat(0, vu(16), vu(36), [vu(37, i) for i in range(8)], vu(38, 3), vu(37, 3),
                        [vu(38, i) for i in range(9)])
    yield "two_regions", flat(0, vu(16), vu(5, 1), vu(5), vu(5, 1))
    yield "overlap", flat(0, vu(16), vu(37), vu(37, 1, [0xd9, 0, 0, 0]),
                          vu(37, 2, [0xd4, 0, 0, 0]), vu(37, 3, [0, 0xd0, 0, 0]),
                          vu(37, 3, [0, 0xd4, 0, 0]), vu(37, 3, [0, 0, 0, 0xd8]))
    yield "wrong_descriptors", flat(1, vu(16), [vu(5, 0, fds=0xe0 | n) for n in (0, 2)],
                                    [flat(0, REQUESTS.index(r), 0, [0] * FILLS.get(r, 9), 0, 1, 0,
                                          0xe1, k, 0) for r in (12, 13, 37) for k in range(7)])
    yield "sizes", flat(0, [flat(0, REQUESTS.index(r), 0, [0] * FILLS.get(r, 0), 0, 1, 0xc0, 0, 0)
                            for r in (2, 8, 9, 12)], vu(1, size=0xd2))
    yield "pieces", flat(0, connected(), vu(17, cut=0xc5), vu(5, cut=0xd4), vu(12, cut=0xcc, fds=1))
    yield "cut", flat(0, connected(), vu(12, cut=0xc0), 0xe3)
    yield "unsealed", flat(1, vu(16), flat(0, REQUESTS.index(5), 0, [0] * 5, 0, 1, 0, 0xc1, 1, 0))
    yield "vring_errors", flat(0, connected(), vu(12, 0), vu(8, 0, [0, 0xc0]), vu(9, 0),
                               vu(8, 0), vu(9, 0, [0, 0, 0xd2, 0, 0]), vu(9, 0, [0, 1, 0, 0, 0]),
                               vu(9, 0), vu(12, 0), vu(8, 0), vu(18, 8, [0, 0xd6]), vu(10, 0),
                               vu(9, 7), vu(18, 7 | 8))
    yield "error_fds", flat(0, connected(), [vu(14, i) for i in range(5)], 0xe7, 0xe3)
    yield "config", flat(0, vu(24), vu(16), vu(24, 255), vu(24, 7, [0xd4, 0]), vu(24, 7, [0, 0xd4]),
                         vu(25, 9))


# ---- fuzz_mad -------------------------------------------------------------------------

REQ, MRA, REJ, REP, RTU, DREQ, DREP, SIDR_REQ, SIDR_REP = range(9)
ADDR, ADDR_ERROR, ROUTE, ROUTE_ERROR, REQUEST, RESPONSE, CONNECT_ERROR, UNREACHABLE, REJECTED, \
    ESTABLISHED, DISCONNECTED, REMOVAL = range(12)
LISTENING = [0] * 6                 # the host's answers when the guest listens at two addresses
CONN = 2                            # the first id after the two listeners'


def says(kind, which=0, how=0, answers=0, mutate=0, own=0):
    """A message of the guest to the connection @which; the host answers @answers calls."""
    return flat(0, how, which, kind, mutate, own, [0] * answers)


def event(kind, which=CONN, answers=0, status=0, length=0):
    return flat(1, kind, which, status, b"\0" * 8, length, [0] * answers)


def request(how=1, which=0):
    """To a listener: the address follows if @how says so."""
    return flat(1, how, which, 0, b"\0" * (how & 8), b"\0" * 8, 56, [0] * 2)


def asked(how=0, kind=REQ):
    return flat(2, LISTENING, says(kind, 99, how, answers=2))


def connecting(how=0, kind=REQ):
    return flat(asked(how, kind), event(ADDR, answers=1), event(ROUTE, answers=1))


def connected_cm(how=0):
    return flat(connecting(how), event(RESPONSE, answers=2, length=196), says(RTU, answers=1))


def mad_seeds():
    for kind in range(9):
        yield f"message_{kind}", flat(0, kind, 255, 200, bytes(range(200)), 0)
    handshake = flat(1, [1, 0], [0, 0], [0, 0], [1, 0])
    yield "session", flat(handshake, [2, 7, 1, 0] * 4, [3, 9, 0, 0] * 4)
    yield "session_again", flat(handshake, [2, 7, 2, 7, 1, 0, 1, 0xd0])
    yield "session_order", flat(handshake, [2, 7, 2, 8, 1, 0xc0, 1, 0])
    for n, cut in enumerate(([1, 0xe0], [1, 0, 0, 0xe1], [1, 0, 0, 0, 0, 0xe2], [1, 0, 0, 0, 0, 0, 1, 0xe3])):
        yield f"session_harm_{n}", flat(1, cut, [3, 0, 9, 0, 1, 0x55, 8])
    for how, name in ((0, "v4"), (4, "v6")):
        yield "active_" + name, flat(connected_cm(how), says(DREQ, answers=1), event(DISCONNECTED))
    yield "active_peer_ends", flat(connected_cm(), event(DISCONNECTED), says(DREP, answers=1))
    yield "active_both_end", flat(connected_cm(), event(DISCONNECTED), says(DREQ))
    yield "active_refused", flat(connecting(), event(REJECTED, status=28, length=148))
    yield "active_guest_refuses", flat(connecting(), event(RESPONSE, answers=2, length=196), says(REJ, answers=1))
    yield "active_again", flat(connecting(), says(REQ), event(RESPONSE, answers=2), says(REQ), 0xe1, 0)
    yield "active_silence", flat(asked(), event(ADDR_ERROR))
    yield "active_removed", flat(connected_cm(), event(REMOVAL))
    yield "active_forgotten", flat(connected_cm(), 0xe4, [0] * 8)
    yield "datagram", flat(connecting(0, SIDR_REQ), event(ESTABLISHED, length=136))
    yield "datagram_refused", flat(connecting(0, SIDR_REQ), event(UNREACHABLE, status=1))
    for how in (1, 3, 9, 11):
        yield f"passive_{how}", flat(2, LISTENING, request(how), says(REP, answers=1), event(ESTABLISHED),
                                     event(DISCONNECTED), says(DREP, answers=1))
    yield "passive_refused", flat(2, LISTENING, request(), says(REJ, answers=1))
    yield "passive_rejected", flat(2, LISTENING, request(), says(REP, answers=1), event(REJECTED, status=28))
    yield "gid_goes", flat(connected_cm(), 0xe0 | 4, 0, 0xe5 + 4, [0] * 6)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make_seeds.py FOLDER")
    for harness, seeds in (("fuzz_commands", commands_seeds), ("fuzz_wqe", wqe_seeds),
                           ("fuzz_virtq", virtq_seeds), ("fuzz_vhost_user", vhost_user_seeds),
                           ("fuzz_mad", mad_seeds)):
        folder = os.path.join(sys.argv[1], harness)
        os.makedirs(folder, exist_ok=True)
        for name, data in seeds():
            with open(os.path.join(folder, name), "wb") as f:
                f.write(data)


if __name__ == "__main__":
    main()
