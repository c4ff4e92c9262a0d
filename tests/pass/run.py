#!/usr/bin/env python3
"""Golden tests of passes: IR text in, IR text out, and both compute the same.

    run.py ACCELC [PATTERN...] [--bless] [--texts] [-v]

PASS/*.test holds a graph and, in comments, the test:
    # RUN: accelc ARGUMENTS %s      the command; %s is the file. Default: --from=ir --passes=PASS --emit=ir %s
    # EVAL: TOLERANCE | no          how far results may move, relative (default 0: the same bits); no: not evaluated
    # DIM: NAME=N                   size of a symbol for the evaluation (default 3)
    # >>> / # <<<                   the expected graph, as comments between these lines; --bless rewrites it
With --texts only texts are compared: what is computed does not depend on how accelc was built.
Inputs of the evaluation are drawn from a fixed sequence: small numbers with both signs, zeros, and halves.
"""
import argparse
import fnmatch
import glob
import os
import re
import shlex
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = 60
NPY = {"f32": ("<f4", "f", 4), "f64": ("<f8", "d", 8), "i64": ("<i8", "q", 8), "i32": ("<i4", "i", 4), "bool": ("|b1", "B", 1),
       "u8": ("|u1", "B", 1), "i8": ("|i1", "b", 1), "f16": ("<f2", "e", 2)}


def directive(text, name, default):
    found = re.search(rf"^# {name}: *(.*)$", text, re.M)
    return found.group(1).strip() if found else default


def run(args):
    return subprocess.run(args, capture_output=True, text=True, timeout=TIMEOUT)


def size(dim, symbols):
    return eval(dim, {"__builtins__": {}}, symbols)


def inputs(text, symbols):
    """(name, dtype, shape) of the graph's inputs, from its first line."""
    head = re.search(r"^graph @\S+ \((.*?)\) ->", text, re.M).group(1)
    for name, dtype, dims in re.findall(r"%(\w+): (\w+)\[([^]]*)\]", head):
        for symbol in re.findall(r"[A-Za-z_]\w*", dims):
            symbols.setdefault(symbol, 3)
        yield name, dtype, [size(d, symbols) for d in dims.split(",") if d.strip()]


def draw(path, dtype, shape, state):
    count = 1
    for n in shape:
        count *= n
    values = []
    for _ in range(count):
        state[0] = (state[0] * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        v = (state[0] >> 40) % 17 - 8
        values.append(v / 4 if dtype[0] == "f" else v % 2 if dtype == "bool" else v % 3)
    descr, code, _ = NPY[dtype]
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({''.join(f'{n}, ' for n in shape)}), }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
        f.write(struct.pack(f"<{count}{code}", *values))


def read(path):
    with open(path, "rb") as f:
        data = f.read()
    end = 10 + struct.unpack("<H", data[8:10])[0]
    code = next((c for d, c, _ in NPY.values() if f"'{d}'" in data[10:end].decode()), "B")
    body = data[end:]
    return body, struct.unpack(f"<{len(body) // struct.calcsize(code)}{code}", body)


def close(a, b, tolerance):
    if a == b or (a != a and b != b):
        return True
    return abs(a - b) <= tolerance * max(1, abs(a), abs(b))


def evaluate(accelc, path, text, args, tolerance):
    """Why the results before and after the passes differ; None if they do not."""
    symbols = {k: int(v) for k, v in (d.split("=") for d in re.findall(r"^# DIM: *(\S+)", text, re.M))}
    passes = [a for a in args if a.startswith(("--passes", "-O", "--stop-after"))]
    names = re.findall(r"%(\w+): ", re.search(r"-> \((.*)\) \{", text).group(1))
    with tempfile.TemporaryDirectory() as tmp:
        state, given = [12345], []
        for name, dtype, shape in inputs(text, symbols):
            draw(f"{tmp}/{name}.npy", dtype, shape, state)
            given += ["--input", f"{name}={tmp}/{name}.npy"]
        got = []
        for k, options in enumerate(([], passes)):
            files = [x for n in names for x in ("--output", f"{n}={tmp}/{k}.{n}.npy")]
            r = run([accelc, "--eval", "--from=ir", "--verify-each", *options, *given, *files, path])
            if r.returncode:
                return f"evaluation {'after' if k else 'before'} the passes: {r.stderr}"
            got.append([read(f"{tmp}/{k}.{n}.npy") for n in names])
        for name, (bytes_a, a), (bytes_b, b) in zip(names, *got):
            same = bytes_a == bytes_b if not tolerance else len(a) == len(b) and all(close(x, y, tolerance) for x, y in zip(a, b))
            if not same:
                worst = [(x, y) for x, y in zip(a, b) if not close(x, y, tolerance)][:3]
                return f"result {name} changes: {worst}"
    return None


def test(accelc, path, bless, texts):
    with open(path) as f:
        text = f.read()
    name = os.path.basename(os.path.dirname(path))
    args = shlex.split(directive(text, "RUN", f"accelc --from=ir --passes={name} --emit=ir %s"))[1:]
    command = [accelc, "--verify-each", *[path if a == "%s" else a for a in args]]
    r = run(command)
    if r.returncode:
        return f"{shlex.join(command)}: exit status {r.returncode}\n{r.stderr}"
    want = re.search(r"^# >>>\n(.*?)^# <<<\n", text, re.M | re.S)
    got = "".join(f"# {line}".rstrip() + "\n" for line in r.stdout.splitlines())
    if bless:
        body = text[:want.start()] if want else text.rstrip() + "\n\n"
        with open(path, "w") as f:
            f.write(f"{body}# >>>\n{got}# <<<\n")
    elif not want or want.group(1) != got:
        return f"{shlex.join(command)}\nexpected\n{want.group(1) if want else '(nothing)'}got\n{got}"
    how = directive(text, "EVAL", "0")
    return None if texts or how == "no" else evaluate(accelc, path, text, args, float(how))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("accelc")
    p.add_argument("pattern", nargs="*", default=["*"])
    p.add_argument("--bless", action="store_true")
    p.add_argument("--texts", action="store_true")
    p.add_argument("--every", type=int, default=1, metavar="N", help="one test in N")
    p.add_argument("-v", action="store_true")
    a = p.parse_intermixed_args()
    accelc, bad, count = os.path.abspath(a.accelc), 0, 0
    for path in sorted(glob.glob(f"{HERE}/*/*.test"))[::a.every]:
        name = os.path.relpath(path, HERE)[:-5]
        if not any(fnmatch.fnmatch(name, f"*{x}*") for x in a.pattern):
            continue
        count += 1
        why = test(accelc, path, a.bless, a.texts)
        bad += why is not None
        if why or a.v:
            print(f"{'FAIL' if why else 'ok  '} {name}" + (f"\n{why}" if why else ""))
    print(f"{count - bad} of {count} passed")
    return bad > 0 or not count


if __name__ == "__main__":
    sys.exit(main())
