#!/usr/bin/env python3
"""Writes call_unicode.h: simple case mappings of Unicode as runs {first, last, step, delta}, from Python's unicodedata.

    make_unicode.py > call_unicode.h
"""
import sys
import unicodedata


def upper(c):
    """One character: what has no simple mapping but a long one keeps its titlecase form, or itself."""
    u, t = c.upper(), c.title()
    return u if len(u) == 1 else t if len(t) == 1 else c


def lower(c):
    return c.lower()[0] if len(c.lower()) <= 2 else c


def runs(mapping):
    found = []
    for code in range(0x80, sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000:
            continue
        delta = ord(mapping(chr(code))) - code
        if not delta:
            continue
        if found and found[-1][3] == delta:
            first, last, step, _ = found[-1]
            if code - last in (1, 2) and (first == last or code - last == step):
                found[-1] = [first, code, code - last, delta]
                continue
        found.append([code, code, 1, delta])
    return found


def main():
    print(f"/* call_unicode.h: made by make_unicode.py from Unicode {unicodedata.unidata_version}. */")
    for name, mapping in (("upper", upper), ("lower", lower)):
        rows = [f"{{0x{a:x},0x{b:x},{s},{d}}}" for a, b, s, d in runs(mapping)]
        print(f"static const CaseRun {name}_runs[] = {{")
        line = "   "
        for row in rows:
            if len(line) + len(row) > 145:
                print(line)
                line = "   "
            line += f" {row},"
        print(line + "\n};")


if __name__ == "__main__":
    main()
