#!/usr/bin/env python3
"""Writes octaves.h: tanh and erf in pieces, four to an octave, for a processor that looks up 32 numbers in registers.

    make_octaves.py > octaves.h         (needs mpmath)

Piece i of 32 covers the numbers whose bits, shifted right by 21, end in i; the least one covers all that is below, too. In each, f(x) is
c0 + d (c1 + d (.. c5)) with d = x - x0, fitted to relative error. x0 is a float near the middle where f is almost a float itself, so that c0
adds no error (S. Gal, An accurate elementary mathematical library, 1991). In the least piece x0 and c0 are 0, and c1 is one less than the slope."""
import struct

from mpmath import cos, erf, lu_solve, matrix, mp, mpf, pi, tanh

DEGREE, PIECES, PER_OCTAVE, NEIGHBOURS = 5, 32, 4, 1500


def f32(x):
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def bits(x):
    return struct.unpack("i", struct.pack("f", x))[0]


def from_bits(b):
    return struct.unpack("f", struct.pack("i", b))[0]


def centre(f, low, high):
    middle = bits((low + high) / 2)
    near = [from_bits(middle + i) for i in range(-NEIGHBOURS, NEIGHBOURS)]
    return min(near, key=lambda x: abs(f(mpf(x)) - f32(f(mpf(x)))))


def fit(f, low, high, least):
    """x0, c0 .. c5. Each coefficient is rounded, then the rest are fitted anew."""
    x0 = 0.0 if least else centre(f, low, high)
    c = [0.0 if least else f32(f(mpf(x0)))]
    nodes = [(mpf(low) + high) / 2 + (mpf(high) - low) / 2 * cos(pi * (2 * i + 1) / 80) for i in range(40)]
    for k in range(1, DEGREE + 1):
        n = DEGREE + 1 - k
        a, r = matrix(len(nodes), n), matrix(len(nodes), 1)
        for i, x in enumerate(nodes):
            d, y = x - x0, f(x)
            for j in range(n):
                a[i, j] = d ** (k + j) / y
            r[i] = 1 - ((d if least else 0) + sum(v * d ** p for p, v in enumerate(c))) / y
        c.append(f32(lu_solve(a, r)[0]))
    return [x0] + c


def table(name, f, first, top):
    """From 2^first on; beyond top the function is constant, and the last piece that is needed serves."""
    start, row = bits(2.0 ** first) >> 21, None
    column = [None] * PIECES
    for i in range(PIECES):
        low, high = (from_bits(start + i + j << 21) for j in (0, 1))
        if low < top:
            row = fit(f, low if i else 0, min(high, top), not i)
        column[(start + i) % PIECES] = row
    print(f"\n/* {name}(x) for x in [0, {top}] */\nstatic const Octaves {name}_octaves = {{{2.0 ** first}, {top}, {{")
    for j in range(DEGREE + 2):
        numbers = [f"{r[j]:.9g}" for r in column]
        lines = [", ".join(numbers[i:i + 8]) for i in range(0, PIECES, 8)]
        print("    {" + ",\n     ".join(lines) + "},")
    print("}};")


mp.prec = 100
print("""/* octaves.h: written by make_octaves.py. */
#ifndef ACCELC_OCTAVES_H
#define ACCELC_OCTAVES_H

/* The numbers below `least` belong to the piece that begins there. column: x0, c0 .. c5 of each piece. */
typedef struct Octaves { double least, top, column[7][32]; /* floats in decimal */ } Octaves;""")
table("tanh", tanh, -4, 9.25)
table("erf", erf, -5, 4.0)
print("\n#endif")
