#!/usr/bin/env python3
"""Loops and ifs at run time: small models, each against a few lines of numpy and the evaluator, with every executor and several
numbers of threads, which must all give the same bits; one session takes all inputs of a case in turn.

    test_control.py ACCELC [CASE...]
"""
import os
import subprocess
import sys
import tempfile

import accelc
import numpy as np
import onnx
import onnx.parser

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
f32, i64 = np.float32, np.int64
A, B, C = f32([1, 2]), f32([3, 4]), f32([5, 6])
RNG = np.random.default_rng(5)
X8, W8 = RNG.standard_normal((64, 128)).astype(f32), (RNG.standard_normal((128, 128)) / 12).astype(f32)


def swap(n, a, b):
    return (b, a) if n % 2 else (a, b)


def rotate(n, a, b, c):
    v = [a, b, c]
    return tuple(v[(k + n) % 3] for k in range(3))


def partial(n, limit, x):
    total, sums = f32(0), []
    while len(sums) < n and total < limit:
        total = f32(total + x[len(sums)])
        sums.append(total)
    return total, f32(sums)


def stacked(x, c):
    rows, seen = [], []
    for i in range(6):
        seen.append(-x if c else x + (x + i) * i)
        x = x + f32(i)
        rows.append(x * f32(i))
    return x, f32(rows), f32(seen)


def collatz(n):
    steps = 0
    while n != 1:
        n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
    return (i64(steps),)


def nested(n):
    total, trace = 0, []
    for i in range(n):
        for j in range(i):
            total += 10 * i + j
        trace.append(total)
    return i64(total), i64(trace)


def grow(n, x):
    for i in range(n):
        x = np.concatenate([x, x[:1] + i, f32([i])])
    return x, x * 2


def two_grow(n, x, y):
    for _ in range(n):
        x, y = np.concatenate([y, f32([1])]), x
    return x, y


def table(n, m):
    return (f32([[10 * i + j for j in range(m)] for i in range(n)]).reshape(n, m if n else 0),)


def products(n, x, w):
    for i in range(n):
        x = np.tanh(x @ w).astype(f32) + f32(i)
    return (x,)


def count(n, x):
    total = 0
    for i in range(n):
        total += np.flatnonzero(x > i).sum() + 100 * np.count_nonzero(x > i)
    return (i64(total),)


def squeeze(x, y, axis):
    """PyTorch's squeeze of a size that its exporter does not know, as text."""
    return f"""
  axis_{y} = Constant <value = int64[1] {{{axis}}}> ()
  one_{y} = Constant <value = int64[1] {{1}}> ()
  sizes_{y} = Shape ({x})
  size_{y} = Gather <axis = 0> (sizes_{y}, axis_{y})
  is_{y} = Equal (size_{y}, one_{y})
  {y} = If <then_branch = th () => (float[] a_{y}) {{ a_{y} = Squeeze ({x}, axis_{y}) }},
            else_branch = el () => (float[] b_{y}) {{ b_{y} = Identity ({x}) }}> (is_{y})"""


# The rank of the result decides, that which the next node takes, or both: rows that are not squeezed become columns, which are.
SQUEEZED = f"g (float[N, K] x) => (float[P] y) {{ {squeeze('x', 'z', 1)} y = Neg (z) }}"
KEPT = f"g (float[N, K] x) => (float[P, Q] y) {{ {squeeze('x', 'z', 1)} y = Neg (z) }}"
TURNED = f"g (float[N, M, K] x) => (float[P, Q] y) {{ {squeeze('x', 'z', 1)} y = Transpose <perm = [1, 0]> (z) }}"
TWICE = f"""g (float[N, M, K] x) => (float[P, Q] y) {{ {squeeze('x', 'z', 1)}
  t = Transpose <perm = [0, 2, 1]> (z) {squeeze('t', 'w', 1)} y = Neg (w) }}"""


# name: model, numpy, inputs. A result that numpy gives must be met exactly, or to 1e-5 where it is of floats.
CASES = {
    "swap": ("""
g (int64 n, float[2] a, float[2] b) => (float[2] x, float[2] y) {
  t = Constant <value = bool {1}> ()
  x, y = Loop <body = body (int64 i, bool go, float[2] p, float[2] q) => (bool go2, float[2] p2, float[2] q2) {
    go2 = Identity (go) p2 = Identity (q) q2 = Identity (p) }> (n, t, a, b)
}""", swap, [(k, A, B) for k in (0, 1, 2, 5, 1000)]),
    "rotate": ("""
g (int64 n, float[2] a, float[2] b, float[2] c) => (float[2] x, float[2] y, float[2] z) {
  t = Constant <value = bool {1}> ()
  x, y, z = Loop <body = body (int64 i, bool go, float[2] p, float[2] q, float[2] r) => (bool go2, float[2] p2, float[2] q2, float[2] r2) {
    go2 = Identity (go) p2 = Identity (q) q2 = Identity (r) r2 = Identity (p) }> (n, t, a, b, c)
}""", rotate, [(k, A, B, C) for k in (4, 0, 3, 5)]),
    "unrolled": ("""
g (float[2] a, float[2] b) => (float[2] x, float[2] y, float[3, 2] s) {
  t = Constant <value = bool {1}> ()
  n = Constant <value = int64 {3}> ()
  x, y, s = Loop <body = body (int64 i, bool go, float[2] p, float[2] q) => (bool go2, float[2] p2, float[2] q2, float[2] s2) {
    f = Cast <to = 1> (i) go2 = Identity (go) p2 = Identity (q) q2 = Identity (p) s2 = Add (p, f) }> (n, t, a, b)
}""", lambda a, b: (b, a, f32([a, b + 1, a + 2])), [(A, B)]),
    "stacked": ("""
g (float[K] x, bool c) => (float[K] y, float[6, K] s, float[6, K] z) {
  t = Constant <value = bool {1}> ()
  n = Constant <value = int64 {6}> ()
  y, s, z = Loop <body = body (int64 i, bool go, float[K] p) => (bool go2, float[K] p2, float[K] s2, float[K] z2) {
    f = Cast <to = 1> (i) go2 = Identity (go) p2 = Add (p, f) s2 = Mul (p2, f)
    z2 = If <then_branch = th () => (float[K] u) { u = Neg (p) }, else_branch = el () => (float[K] v) { v = Add (p, s2) }> (c) }> (n, t, x)
}""", stacked, [(f32(range(k)), np.bool_(b)) for k in (4, 9, 0) for b in (True, False)]),
    "early_exit": ("""
g (int64 n, float limit, float[K] x) => (float total, float[L] sums) {
  zero = Constant <value = float {0}> ()
  go0 = Less (zero, limit)
  total, sums = Loop <body = body (int64 i, bool go, float s) => (bool go2, float s2, float out) {
    v = Gather <axis = 0> (x, i) s2 = Add (s, v) go2 = Less (s2, limit) out = Identity (s2) }> (n, go0, zero)
}""", partial, [(5, f32(6), f32([1, 2, 3, 4, 5])), (5, f32(100), f32([1, 2, 3, 4, 5])), (5, f32(-1), f32([1, 2])), (0, f32(9), f32([1])),
                (200, f32(1e9), f32(range(300)))]),
    "while": ("""
g (int64 n) => (int64 steps) {
  one = Constant <value = int64 {1}> ()
  zero = Constant <value = int64 {0}> ()
  two = Constant <value = int64 {2}> ()
  three = Constant <value = int64 {3}> ()
  same = Equal (n, one)
  go0 = Not (same)
  last, steps = Loop <body = body (int64 i, bool go, int64 v, int64 k) => (bool go2, int64 v2, int64 k2) {
    r = Mod (v, two) odd = Equal (r, one)
    v2 = If <then_branch = th () => (int64 w) { m = Mul (v, three) w = Add (m, one) },
             else_branch = el () => (int64 w2) { w2 = Div (v, two) }> (odd)
    k2 = Add (k, one) done = Equal (v2, one) go2 = Not (done) }> (, go0, n, zero)
}""", collatz, [(i64(k),) for k in (1, 2, 7, 27, 1)]),
    "nested": ("""
g (int64 n) => (int64 total, int64[T] trace) {
  t = Constant <value = bool {1}> ()
  zero = Constant <value = int64 {0}> ()
  ten = Constant <value = int64 {10}> ()
  total, trace = Loop <body = outer (int64 i, bool go, int64 s) => (bool go2, int64 s3, int64 out) {
    go2 = Identity (go)
    ti = Mul (i, ten)
    s3 = Loop <body = inner (int64 j, bool g, int64 u) => (bool g2, int64 u3) {
      g2 = Identity (g) v = Add (ti, j) u3 = Add (u, v) }> (i, t, s)
    out = Identity (s3) }> (n, t, zero)
}""", nested, [(i64(k),) for k in (5, 0, 1, 2, 9)]),
    "grow": ("""
g (int64 n, float[K] x) => (float[L] y, float[L] z) {
  t = Constant <value = bool {1}> ()
  s = Constant <value = int64[1] {0}> ()
  e = Constant <value = int64[1] {1}> ()
  y = Loop <body = body (int64 i, bool go, float[M] p) => (bool go2, float[Q] p2) {
    go2 = Identity (go) f = Cast <to = 1> (i) f1 = Unsqueeze (f, s) h = Slice (p, s, e) h1 = Add (h, f1)
    p2 = Concat <axis = 0> (p, h1, f1) }> (n, t, x)
  z = Add (y, y)
}""", grow, [(3, A), (0, A), (40, C), (1, f32([7, 8, 9]))]),
    "two_grow": ("""
g (int64 n, float[K] x, float[L] y) => (float[P] v, float[Q] w) {
  t = Constant <value = bool {1}> ()
  one = Constant <value = float[1] {1}> ()
  v, w = Loop <body = body (int64 i, bool go, float[M] p, float[R] q) => (bool go2, float[S] p2, float[T] q2) {
    go2 = Identity (go) p2 = Concat <axis = 0> (q, one) q2 = Identity (p) }> (n, t, x, y)
}""", two_grow, [(k, A, f32([7, 8, 9])) for k in (0, 1, 2, 3, 10)]),
    "tables": ("""
g (int64 n, int64 m) => (float[N, M] s) {
  t = Constant <value = bool {1}> ()
  ten = Constant <value = float {10}> ()
  s = Loop <body = outer (int64 i, bool go) => (bool go2, float[M] row) {
    go2 = Identity (go) fi = Cast <to = 1> (i) b = Mul (fi, ten)
    row = Loop <body = inner (int64 j, bool g) => (bool g2, float v) {
      g2 = Identity (g) fj = Cast <to = 1> (j) v = Add (b, fj) }> (m, t) }> (n, t)
}""", table, [(4, 3), (0, 3), (2, 0), (7, 70), (1, 1)]),
    "branch_shapes": ("""
g (bool c, float[K] x) => (float[L] y, float s) {
  z = Constant <value = int64[1] {0}> ()
  two = Constant <value = int64[1] {2}> ()
  y = If <then_branch = th () => (float[P] a) { a = Slice (x, z, two) },
          else_branch = el () => (float[Q] b) { b = Concat <axis = 0> (x, x) }> (c)
  s = ReduceSum <keepdims = 0> (y)
}""", lambda c, x: ((x[:2] if c else np.concatenate([x, x])), f32((x[:2] if c else np.concatenate([x, x])).sum())),
                      [(np.bool_(b), f32(range(k))) for k in (3, 1, 5) for b in (True, False)]),
    "branch_squeezes": (SQUEEZED, lambda x: (-x[:, 0],), [(C.reshape(2, 1),), (f32(range(7)).reshape(7, 1),)]),
    "branch_keeps": (KEPT, lambda x: (-x,), [(C.reshape(1, 2),), (f32(range(6)).reshape(2, 3),), (f32(range(0)).reshape(2, 0),)]),
    "branch_that_the_next_node_takes": (TURNED, lambda x: (x[:, 0].T,), [(f32(range(6)).reshape(2, 1, 3),), (C.reshape(1, 1, 2),)]),
    "branches_one_after_the_other": (TWICE, lambda x: (-x[:, :, 0],), [(f32(range(6)).reshape(2, 3, 1),), (C.reshape(1, 2, 1),)]),
    "branch_passes": ("""
g (bool c, float[2] x, float[2] y) => (float[2] a, float[2] b, float[2] k) {
  a, b, k = If <then_branch = th () => (float[2] p, float[2] q, float[2] r) {
      p = Identity (x) q = Identity (x) r = Constant <value = float[2] {1, 2}> () },
    else_branch = el () => (float[2] p2, float[2] q2, float[2] r2) { p2 = Identity (y) q2 = Add (x, y) r2 = Identity (y) }> (c)
}""", lambda c, x, y: (x, x, f32([1, 2])) if c else (y, x + y, y), [(np.bool_(b), A, B) for b in (True, False, True)]),
    "branch_not_taken": ("""
g (float[K] x) => (float[L] y) {
  z = Constant <value = int64[1] {0}> ()
  five = Constant <value = int64[1] {5}> ()
  k = Size (x)
  f = Constant <value = int64 {5}> ()
  big = Greater (k, f)
  y = If <then_branch = th () => (float[P] a) { k1 = Unsqueeze (k, z) m = Sub (k1, five) b = Expand (x, k1) a = Slice (b, five, k1) },
          else_branch = el () => (float[Q] b2) { b2 = Neg (x) }> (big)
}""", lambda x: (x[5:] if len(x) > 5 else -x,), [(f32(range(k)),) for k in (8, 3, 6, 1)]),
    "products": ("""
g (int64 n, float[R, 128] x, float[128, 128] w) => (float[R, 128] y) {
  t = Constant <value = bool {1}> ()
  y = Loop <body = body (int64 i, bool go, float[R, 128] p) => (bool go2, float[R, 128] p2) {
    go2 = Identity (go) m = MatMul (p, w) h = Tanh (m) f = Cast <to = 1> (i) p2 = Add (h, f) }> (n, t, x)
}""", products, [(k, X8[:r], W8) for k, r in ((3, 64), (0, 7), (6, 1))]),
    "sizes_inside": ("""
g (int64 n, int64[K] x) => (int64 total) {
  t = Constant <value = bool {1}> ()
  zero = Constant <value = int64 {0}> ()
  h = Constant <value = int64 {100}> ()
  total = Loop <body = body (int64 i, bool go, int64 s) => (bool go2, int64 s2) {
    go2 = Identity (go) m = Greater (x, i) w = NonZero (m) q = ReduceSum <keepdims = 0> (w)
    d = Size (w) hd = Mul (d, h) q2 = Add (q, hd) s2 = Add (s, q2) }> (n, t, zero)
}""", count, [(k, i64([5, 0, 3, 3, 9, 1])) for k in (0, 1, 4, 12)]),
    "sequence": ("""
g (int64 n, float[2] x) => (float[2] y, int64 k) {
  t = Constant <value = bool {1}> ()
  z = Constant <value = int64 {-1}> ()
  s = SequenceConstruct (x)
  r = Loop <body = body (int64 i, bool go, seq(float[2]) p) => (bool go2, seq(float[2]) p2) {
    go2 = Identity (go) f = Cast <to = 1> (i) e = Add (x, f) p2 = SequenceInsert (p, e) }> (n, t, s)
  y = SequenceAt (r, z)
  k = SequenceLength (r)
}""", lambda n, x: (x + f32(max(n - 1, 0)), i64(n + 1)), [(0, A), (1, B), (5, C)]),
}

# name: model, inputs, what the message of the failing run says
FAILING = {
    "not to be squeezed": (SQUEEZED, (f32(range(6)).reshape(2, 3),), "expected 1, got 3"),
    "not to be kept": (KEPT, (C.reshape(2, 1),), "only the else branch is compiled"),
    "ragged": ("""
g (int64 n, float[K] x) => (float[N, L] s) {
  t = Constant <value = bool {1}> ()
  z = Constant <value = int64[1] {0}> ()
  s = Loop <body = body (int64 i, bool go) => (bool go2, float[L] row) {
    go2 = Identity (go) e = Unsqueeze (i, z) row = Slice (x, z, e) }> (n, t)
}""", (3, f32(range(9))), "slices of a stacked result"),
    "a size against a sum of sizes": ("""
g (float[K] x, float[M] a, float[L] b) => (float[S] y) { c = Concat <axis = 0> (a, b) y = Add (x, c) }""",
        (f32([1, 2, 3]), A, f32([1, 2, 3])), "must be 1 or"),
    "a sum of sizes against a size": ("""
g (float[M] a, float[L] b, float[K] x) => (float[S] y) { c = Concat <axis = 0> (a, b) y = Add (c, x) }""",
        (A, f32([1, 2, 3]), f32([1, 2, 3])), "must be 1 or"),
    "rows without end": ("""
g (bool c, float[100000] x) => (float[N, 100000] s) {
  s = Loop <body = body (int64 i, bool go) => (bool go2, float[100000] row) { go2 = Identity (go) row = Neg (x) }> (, c)
}""", (1, np.zeros(100000, f32)), "over the limit"),
    "rows by the trillion": ("""
g (int64 n, float[100000] x) => (float[N, 100000] s) {
  s = Loop <body = body (int64 i, bool go) => (bool go2, float[100000] row) { go2 = Identity (go) row = Neg (x) }> (n, )
}""", (1 << 40, np.zeros(100000, f32)), "over the limit"),
    "more rows than there are addresses": ("""
g (int64 n, float[100000] x) => (float[N, 100000] s) {
  s = Loop <body = body (int64 i, bool go) => (bool go2, float[100000] row) { go2 = Identity (go) row = Neg (x) }> (n, )
}""", ((1 << 63) - 1, np.zeros(100000, f32)), "over the limit"),
    "twice as long each trip": ("""
g (int64 n, float[K] x) => (float[L] y) {
  y = Loop <body = body (int64 i, bool go, float[P] p) => (bool go2, float[Q] q) { go2 = Identity (go) q = Concat <axis = 0> (p, p) }> (n, , x)
}""", (100, A), "over the limit"),
}


def build(folder, name, text):
    path = os.path.join(folder, name + ".onnx")
    onnx.save(onnx.parser.parse_model(HEAD + text.strip()), path)
    return path


def feeds_of(path, values):
    types = {1: f32, 7: i64, 9: np.bool_}
    ports = onnx.load(path).graph.input
    return {p.name: np.asarray(v, dtype=types[p.type.tensor_type.elem_type]) for p, v in zip(ports, values)}


def evaluate(command, path, feeds, names, folder):
    args = [command, path, "--eval"]
    for name, x in feeds.items():
        np.save(os.path.join(folder, f"in_{name}.npy"), x)
        args += ["--input", f"{name}={folder}/in_{name}.npy"]
    for name in names:
        args += ["--output", f"{name}={folder}/out_{name}.npy"]
    subprocess.run(args, check=True, capture_output=True, text=True)
    return [np.load(os.path.join(folder, f"out_{name}.npy")) for name in names]


def same(got, want, what):
    assert got.shape == np.shape(want), f"{what}: shape {got.shape}, expected {np.shape(want)}"
    np.testing.assert_allclose(got, want, rtol=1e-5 if got.dtype == f32 else 0, atol=1e-5 if got.dtype == f32 else 0, err_msg=what)


def check(command, name, folder):
    text, expect, inputs = CASES[name]
    path = build(folder, name, text)
    names = [o.name for o in onnx.load(path).graph.output]
    feeds = [feeds_of(path, v) for v in inputs]
    wants = [[np.asarray(w) for w in expect(*v)] for v in inputs]
    for k, feed in enumerate(feeds):
        for n, got, want in zip(names, evaluate(command, path, feed, names, folder), wants[k]):
            same(got, want, f"{name}, inputs {k}, {n}, evaluator")
    bits = {}
    for options in (("--executor", "team"), ("--executor", "serial"), ("--executor", "openmp"), ("-O0",)):
        so = os.path.join(folder, f"{name}{options[-1]}.so")
        accelc.compile(path, so, *options)
        model = accelc.load(so)
        for threads in (1, 2, 3):
            session = model.session(threads=threads)
            for k in list(range(len(feeds))) * 2:
                out = session.run(feeds[k])
                for n, want in zip(names, wants[k]):
                    what = f"{name}, inputs {k}, {n}, {options}, {threads} threads"
                    same(out[n], want, what)
                    first = bits.setdefault((k, n, options[0]), out[n].tobytes())
                    assert out[n].tobytes() == first, f"{what}: other bits"


def main():
    command, wanted = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            if not wanted or name in wanted:
                check(command, name, folder)
        for name, (text, values, message) in FAILING.items():
            so = os.path.join(folder, name + ".so")
            path = build(folder, name, text)
            accelc.compile(path, so)
            try:
                accelc.load(so).session(threads=2, mem_limit=50 << 20).run(feeds_of(path, values))
            except accelc.Error as e:
                assert message in str(e), (name, e)
            else:
                raise AssertionError(f"{name} ran")
    print(f"{len(wanted or CASES)} models, 3 executors, 3 numbers of threads")


if __name__ == "__main__":
    main()
