#!/usr/bin/env python3
"""Sequences, optionals, maps and strings in compiled models, through loops and ifs too: models as IR text, each against a
few lines of Python, with several numbers of threads; random programs of sequence operations; strings in ONNX models; what
the Python binding refuses; an archive with and one without calls in one C program.

    test_objects.py ACCELC [CASE...]
"""
import os
import shutil
import subprocess
import sys
import tempfile

import accelc
import numpy as np
import onnx
import onnx.parser

f32, i64 = np.float32, np.int64
X = f32([[0, 1, 2], [3, 4, 5]])


def strings(*x):
    return np.array(x, object)


def ladder(n, x):
    out = []
    for i in range(n):
        x = x + f32(i)
        out.append(x)
    return out, x


def choose(c, s, x):
    s = s + [x] if c else s
    return s, i64(len(s))


def swap(n, a, b):
    for _ in range(n):
        a, b = b, a + [a[0] * 2]
    return a, b, b[-1]


def grow(n, s):
    """Elements of different sizes: what is taken from the list has the size that it has."""
    for i in range(n):
        s = s + [np.concatenate([s[-1], s[0]])]
    return s, s[-1] + 1


def walk(n, s, x):
    for i in range(n):
        x = s[i % len(s)]
    return x, f32([len(s[i % len(s)]) for i in range(n)]).reshape(n, 1)


def by_turns(n, s):
    for i in range(n):
        s = s[1:] if i % 2 else s + [s[-1] * 2]
    return (s,)


# name: model, Python, inputs. Results must be met exactly.
CASES = {
    "pieces": ("""
graph @g (%x: f32[N,3], %p: i64[]) -> (%y: f32[K,3], %n: i64[], %s: seq<f32[?,3]>) {
  %1 = map { a * 2 } %x
  %2 = seq "construct" %x, %1 : seq<f32[?,3]>
  %3 = map { a + 1 } %x
  %4 = seq "insert" %2, %3, %p : seq<f32[?,3]>
  %5 = seq "at" %4, %p : f32[K,3]
  %6 = map { a - 1 } %5
  %7 = seq "length" %4 : i64[]
  return %6, %7, %4
}""", lambda x, p: (x, i64(3), [x, x * 2][:p] + [x + 1] + [x, x * 2][p:]), [(X, 0), (X[:1], 1), (X + 9, 2), (X[:0], 2)]),
    "split": ("""
graph @g (%x: f32[N,M], %size: i64[]) -> (%s: seq<f32[?,?]>, %u: seq<f32[?]>, %y: f32[N,M], %z: f32[M,N]) {
  %a = const i64[] {1}
  %s = seq "split" %x, %size, %a : seq<f32[?,?]>
  %u = seq "unstack" %x, %a : seq<f32[?]>
  %y = seq "concat" %s, %a : f32[N,M]
  %o = const i64[] {0}
  %z = seq "stack" %u, %o : f32[M,N]
  return %s, %u, %y, %z
}""", lambda x, n: ([x[:, k:k + n] for k in range(0, x.shape[1], n)], list(x.T), x, x.T), [(X, 1), (X, 2), (X, 3), (X[:1], 2)]),
    "optionals": ("""
graph @g (%o: opt<f32[2]>, %x: f32[2]) -> (%h: bool[], %e: bool[], %p: opt<f32[2]>, %q: opt<f32[2]>, %r: opt<f32[2]>, %y: f32[2]) {
  %h = seq "has" %o : bool[]
  %q = seq "make" : opt<f32[2]>
  %e = seq "has" %q : bool[]
  %1 = map { a + 1 } %x
  %r = seq "make" %1 : opt<f32[2]>
  %2 = if %h, %o, %x : f32[2] then (%o: opt<f32[2]>, %x: f32[2]) {
    %v = seq "get" %o : f32[2]
    yield %v
  } else (%o: opt<f32[2]>, %x: f32[2]) { yield %x }
  return %h, %e, %o, %q, %r, %2
}""", lambda o, x: (np.bool_(o is not None), np.bool_(0), o, None, x + 1, x if o is None else o),
                  [(None, f32([1, 2])), (f32([3, 4]), f32([1, 2])), (None, f32([5, 6]))]),
    "maps": ("""
graph @g (%m: map<i64,f32[]>, %x: f32[N,3]) -> (%n: map<i64,f32[]>, %s: seq<map<str,f32[]>>) {
  %k = const str[3] {"a", "b", "c"}
  %1 = map { a * 2 } %x
  %s = seq "zip" %k, %1 : seq<map<str,f32[]>>
  return %m, %s
}""", lambda m, x: (m, [dict(zip("abc", r.tolist())) for r in x * 2]), [({1: 2.5, -7: 1.0}, X), ({}, X[:0])]),
    "ladder": ("""
graph @g (%n: i64[], %x: f32[3]) -> (%s: seq<f32[3]>, %y: f32[3]) {
  %0 = seq "empty" : seq<f32[3]>
  %s, %y = loop carried 2 scan 0 %n, _, %0, %x : seq<f32[3]>, f32[3] (%i: i64[], %c: bool[], %s: seq<f32[3]>, %x: f32[3]) {
    %y = map { f32(a) + b } %i, %x
    %t = seq "insert" %s, %y : seq<f32[3]>
    yield %c, %t, %y
  }
  return %s, %y
}""", ladder, [(k, f32([1, 2, 3])) for k in (0, 1, 5, 300)]),
    "choose": ("""
graph @g (%c: bool[], %s: seq<f32[?]>, %x: f32[3]) -> (%t: seq<f32[?]>, %l: i64[]) {
  %t, %l = if %c, %s, %x : seq<f32[?]>, i64[] then (%s: seq<f32[?]>, %x: f32[3]) {
    %t = seq "insert" %s, %x : seq<f32[?]>
    %l = seq "length" %t : i64[]
    yield %t, %l
  } else (%s: seq<f32[?]>, %x: f32[3]) {
    %l = seq "length" %s : i64[]
    yield %s, %l
  }
  return %t, %l
}""", choose, [(np.bool_(c), s, f32([1, 2, 3])) for c in (0, 1) for s in ([], [f32([4])], [f32([]), f32([1, 2])])]),
    "swap": ("""
graph @g (%n: i64[], %a: seq<f32[2]>, %b: seq<f32[2]>) -> (%p: seq<f32[2]>, %q: seq<f32[2]>, %y: f32[2]) {
  %z = const i64[] {0}
  %l = const i64[] {-1}
  %p, %q = loop carried 2 scan 0 %n, _, %a, %b, %z : seq<f32[2]>, seq<f32[2]>
      (%i: i64[], %c: bool[], %a: seq<f32[2]>, %b: seq<f32[2]>, %z: i64[]) {
    %x = seq "at" %a, %z : f32[2]
    %y = map { a * 2 } %x
    %t = seq "insert" %a, %y : seq<f32[2]>
    yield %c, %b, %t
  }
  %y = seq "at" %q, %l : f32[2]
  return %p, %q, %y
}""", swap, [(k, [f32([1, 2])], [f32([3, 4])]) for k in (0, 1, 2, 7)]),
    "grow": ("""
dims M bound, K bound, L bound, R bound
graph @g (%n: i64[], %s: seq<f32[?]>) -> (%t: seq<f32[?]>, %y: f32[R]) {
  %z = const i64[] {0}
  %l = const i64[] {-1}
  %t = loop carried 1 scan 0 %n, _, %s, %z, %l : seq<f32[?]> (%i: i64[], %c: bool[], %s: seq<f32[?]>, %z: i64[], %l: i64[]) {
    %a = seq "at" %s, %l : f32[M]
    %b = seq "at" %s, %z : f32[K]
    %x = concat axis 0 %a, %b
    %t = seq "insert" %s, %x : seq<f32[?]>
    yield %c, %t
  }
  %1 = seq "at" %t, %l : f32[R]
  %y = map { a + 1 } %1
  return %t, %y
}""", grow, [(k, [f32(range(m))]) for k, m in ((0, 2), (1, 3), (4, 2), (2, 1), (3, 0))]),
    "stacked": ("""
dims K bound
graph @g (%s: seq<f32[?]>) -> (%y: f32[K], %t: f32[T,1]) {
  %z = const i64[] {0}
  %n = seq "length" %s : i64[]
  %t = loop carried 0 scan 1 iter T %n, _, %s : f32[T,1] (%i: i64[], %c: bool[], %s: seq<f32[?]>) {
    %x = seq "at" %s, %i : f32[1]
    %y = map { a * a } %x
    yield %c, %y
  }
  %y = seq "concat" %s, %z : f32[K]
  return %y, %t
}""", lambda s: (np.concatenate(s), f32(s).reshape(-1, 1) ** 2), [([f32([k]) for k in range(n)],) for n in (1, 2, 9)]),
    "walk": ("""
dims K bound, L bound, T bound
graph @g (%n: i64[], %s: seq<f32[?]>, %x: f32[N]) -> (%y: f32[L], %t: f32[T,1]) {
  %y, %t = loop carried 1 scan 1 iter T %n, _, %x, %s : f32[L], f32[T,1] (%i: i64[], %c: bool[], %x: f32[M], %s: seq<f32[?]>) {
    %l = seq "length" %s : i64[]
    %k = map { mod(a, b) } %i, %l
    %v = seq "at" %s, %k : f32[K]
    %z = shape [K]
    %f = map { f32(a) } %z
    yield %c, %v, %f
  }
  return %y, %t
}""", walk, [(k, [f32(range(m)) for m in ms], f32([9] * 5)) for k in (0, 1, 4) for ms in ([3], [1, 2, 0])]),
    "direct": ("""
dims T bound
graph @g (%n: i64[], %s: seq<f32[2]>) -> (%t: f32[T,2]) {
  %t = loop carried 0 scan 1 iter T %n, _, %s : f32[T,2] (%i: i64[], %c: bool[], %s: seq<f32[2]>) {
    %v = seq "at" %s, %i : f32[2]
    yield %c, %v
  }
  return %t
}""", lambda n, s: (f32(s[:n]).reshape(n, 2),), [(k, [f32([m, -m]) for m in range(5)]) for k in (0, 1, 5)]),
    "by turns": ("""
dims K bound
graph @g (%n: i64[], %s: seq<f32[?]>) -> (%t: seq<f32[?]>) {
  %t = loop carried 1 scan 0 %n, _, %s : seq<f32[?]> (%i: i64[], %c: bool[], %s: seq<f32[?]>) {
    %e = map { a - a / 2 * 2 == 0 } %i
    %t = if %e, %s : seq<f32[?]> then (%s: seq<f32[?]>) {
      %m = const i64[] {-1}
      %v = seq "at" %s, %m : f32[K]
      %w = map { a * 2 } %v
      %t = seq "insert" %s, %w : seq<f32[?]>
      yield %t
    } else (%s: seq<f32[?]>) {
      %m = const i64[] {0}
      %t = seq "erase" %s, %m : seq<f32[?]>
      yield %t
    }
    yield %c, %t
  }
  return %t
}""", by_turns, [(k, [f32([1, 2]), f32([3])]) for k in (0, 1, 2, 7)]),
}

FAILING = {
    "another size": ("""
graph @g (%s: seq<f32[?]>) -> (%y: f32[3]) {
  %z = const i64[] {0}
  %1 = seq "at" %s, %z : f32[3] loc "taken"
  %y = map { a + 1 } %1
  return %y
}""", {"s": [f32([1, 2])]}, 'node "taken" (): the result has another shape (got 2 and 3)'),
    "another rank": ("""
graph @g (%s: seq<f32[?]>) -> (%y: f32[3,3]) {
  %z = const i64[] {0}
  %1 = seq "at" %s, %z : f32[3,3] loc "taken"
  %y = map { a + 1 } %1
  return %y
}""", {"s": [f32([1, 2])]}, "taken: expected a tensor of rank 2, got rank 1"),
    "a position": ("""
graph @g (%s: seq<f32[?]>, %p: i64[]) -> (%t: seq<f32[?]>) {
  %t = seq "erase" %s, %p : seq<f32[?]> loc "erased"
  return %t
}""", {"s": [f32([1, 2])], "p": -2}, "erased: position -2 is out of range for 1 elements"),
    "an empty one": ("""
graph @g (%o: opt<f32[1]>) -> (%y: f32[1]) {
  %1 = seq "get" %o : f32[1] loc "got"
  %y = map { a + 1 } %1
  return %y
}""", {"o": None}, "got: the optional is empty"),
    "no memory": ("""
graph @g (%x: f32[100000], %n: i64[]) -> (%t: seq<f32[100000]>) {
  %0 = seq "empty" : seq<f32[100000]>
  %t = loop carried 1 scan 0 %n, _, %0, %x : seq<f32[100000]> (%i: i64[], %c: bool[], %s: seq<f32[100000]>, %x: f32[100000]) {
    %y = map { a + f32(b) } %x, %i
    %t = seq "insert" %s, %y : seq<f32[100000]> loc "kept"
    yield %c, %t
  }
  return %t
}""", {"x": np.zeros(100000, f32), "n": 1000}, "kept: values whose size depends on data need more memory than the limit"),
}
REFUSED = {
    "a function": ('graph @g (%x: f32[2]) -> (%y: f32[2]) {\n  %y = call "nothing" %x : f32[2]\n  return %y\n}',
                   'the runtime has no function "nothing"'),
    "an operation": ('graph @g (%x: f32[2]) -> (%y: f32[2]) {\n  %y = seq "nothing" %x : f32[2]\n  return %y\n}',
                     'the runtime has no function "seq_nothing"'),
    "a size": ('graph @g (%s: seq<f32[?]>, %p: i64[]) -> (%y: f32[2*K]) {\n  %1 = seq "at" %s, %p : f32[2*K]\n'
               "  %y = map { a + 1 } %1\n  return %y\n}", 'size "K" is used, but no input, bind or call gives it a value'),
}
S = [f32([1, 2])]
BAD_INPUTS = [({"s": f32([1])}, "input 's': expected a list, got ndarray"), ({"s": None}, "input 's' is missing"),
              ({"s": [f32([1]), i64([1])]}, 'input "s"[1]: expected type float32, got int64'),
              ({"s": [f32([[1]])]}, 'input "s"[0]: expected rank 1, got 2'),
              ({"m": [[1]]}, "input 'm'[0]: expected a dict, got list"),
              ({"m": [{"a": f32([1, 2])}]}, 'input "m"[0] values[0]: expected rank 0, got 1'),
              ({"o": {}}, "input 'o': expected a tensor, got dict")]

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
STRINGS = {
    "moves": ("""
g (string[N] x, string[N] y, bool c, int64[K] i, bool[N] m) => (string[M] a, string[K] b, string[N] w, bool[N] e, string[N] z) {
  a = Concat <axis = 0> (x, y)
  b = Gather (x, i)
  w = Where (m, x, y)
  e = Equal (x, y)
  z = If (c) <then_branch = t () => (string[N] u) { u = Identity (x) }, else_branch = e () => (string[N] v) { v = Identity (y) }>
}""", lambda x, y, c, i, m: (np.concatenate([x, y]), x[i], np.where(m, x, y), x == y, x if c else y),
              [(strings("a", "bb", "", "\u65e5\u672c"), strings("a", "b", "", "x"), np.bool_(1), i64([0, -1, 1]), np.array([1, 0, 1, 0], bool)),
               (strings("q"), strings("q"), np.bool_(0), i64([]), np.array([0], bool)),
               (strings(), strings(), np.bool_(0), i64([]), np.array([], bool))]),
    "carried": ("""
g (int64 n, string[2] x) => (string[2] y, string[n, 2] s) {
  t = Constant <value = bool {1}> ()
  k = Constant <value_strings = ["c1", "cc2"]> ()
  y, s = Loop <body = body (int64 i, bool go, string[2] p) => (bool go2, string[2] p2, string[2] s2) {
    two = Constant <value = int64 {2}> () zero = Constant <value = int64 {0}> ()
    r = Mod (i, two) e = Equal (r, zero)
    go2 = Identity (go) p2 = Where (e, k, p) s2 = Identity (p) }> (n, t, x)
}""", lambda n, x: (strings("c1", "cc2") if n else x, np.array(([x] + [["c1", "cc2"]] * n)[:n], object).reshape(n, 2)),
                [(n, strings("p", "qqq")) for n in (0, 1, 3)]),
    "constants": ("""
g (string[N] x) => (string[2] k, string[2] l, bool[N] e) {
  k = Constant <value_strings = ["c1", ""]> ()
  l = Identity (k)
  o = Constant <value_strings = ["c1"]> ()
  e = Equal (x, o)
}""", lambda x: (strings("c1", ""), strings("c1", ""), x == "c1"), [(strings("c1", "c", "c11"),), (strings(),)]),
}

C_PROGRAM = """
#include <stdio.h>
#include "plain.h"
#include "calls.h"
static int run(const accelc_api *api, accelc_value *in, accelc_value *out) {
    accelc_config c = {.size = sizeof c, .threads = 2};
    accelc_session *s;
    char msg[200];
    if (api->create(&c, &s, msg, sizeof msg)) return puts(msg), 1;
    if (api->run(s, in, out)) return puts(api->error(s)), 1;
    return 0;
}
int main(void) {
    const int64_t two = 2;
    float a[2] = {1, 2}, b[2] = {3, 4};
    accelc_value x[2] = {{.kind = ACCELC_TENSOR, .dtype = 1, .rank = 1, .dims = &two, .data = a, .bytes = 8},
                         {.kind = ACCELC_TENSOR, .dtype = 1, .rank = 1, .dims = &two, .data = b, .bytes = 8}};
    accelc_value s = {.kind = ACCELC_SEQUENCE, .elem = x, .nelem = 2}, y = {0}, z = {0};
    if (run(plain_accelc(), x, &y) || run(calls_accelc(), &s, &z)) return 1;
    printf("%g %g, %d of %zu: %g\\n", ((float *)y.data)[0], ((float *)y.data)[1], z.kind, z.nelem, ((float *)z.elem[2].data)[1]);
    return 0;
}
"""


def compile_text(folder, name, text, *options):
    path, so = os.path.join(folder, name.replace(" ", "_") + ".ir"), os.path.join(folder, name.replace(" ", "_") + ".so")
    with open(path, "w") as f:
        f.write(text.strip() + "\n")
    accelc.compile(path, so, "--from=ir", *options)
    return accelc.load(so)


def same(got, want, what):
    if want is None or isinstance(want, (list, dict)):
        assert type(got) is type(want), f"{what}: {type(got).__name__}"
    if isinstance(want, list):
        assert len(got) == len(want), f"{what}: {len(got)} elements, expected {len(want)}"
        for k, (g, w) in enumerate(zip(got, want)):
            same(g, w, f"{what}[{k}]")
    elif isinstance(want, dict):
        assert got == want, f"{what}: {got}, expected {want}"
    elif want is not None:
        want = np.asarray(want)
        assert got.shape == want.shape and got.dtype == want.dtype, f"{what}: {got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
        assert np.array_equal(got, want), f"{what}: {got}, expected {want}"


def check(model, expect, inputs, what):
    names = [p.name for p in model.inputs]
    for threads in (1, 2, 4):
        with model.session(threads=threads) as session:
            for k, values in list(enumerate(inputs)) * 2:
                out = session.run({n: i64(v) if isinstance(v, int) else v for n, v in zip(names, values)})
                for (n, got), want in zip(out.items(), expect(*values)):
                    same(got, want, f"{what}, inputs {k}, {n}, {threads} threads")


def random_program(rng):
    """(text, function of [f32[3], ..] -> results): sequence operations on lists of vectors of different sizes."""
    lines, lists, tensors, program = [], ["s"], [], []
    for k in range(12):
        op = rng.choice(["insert", "insert at", "erase", "at", "concat", "construct", "length"])
        s, name = str(rng.choice(lists)), f"v{k}"
        at = int(rng.integers(-3, 3))
        lines.append(f'  %p{k} = const i64[] {{{at}}}')
        if op in ("insert", "insert at", "construct") and not tensors:
            op = "at"
        x = str(rng.choice(tensors)) if tensors else None
        if op == "insert":
            lines.append(f'  %{name} = seq "insert" %{s}, %{x} : seq<f32[?]>')
            program.append((name, lambda e, s=s, x=x: e[s] + [e[x]]))
        elif op == "insert at":
            lines.append(f'  %{name} = seq "insert" %{s}, %{x}, %p{k} : seq<f32[?]>')
            program.append((name, lambda e, s=s, x=x, at=at: e[s][:position(e[s], at, 1)] + [e[x]] + e[s][position(e[s], at, 1):]))
        elif op == "construct":
            y = str(rng.choice(tensors))
            lines.append(f'  %{name} = seq "construct" %{x}, %{y}, %{x} : seq<f32[?]>')
            program.append((name, lambda e, x=x, y=y: [e[x], e[y], e[x]]))
        elif op == "erase":
            lines.append(f'  %{name} = seq "erase" %{s}, %p{k} : seq<f32[?]>')
            program.append((name, lambda e, s=s, at=at: [v for j, v in enumerate(e[s]) if j != position(e[s], at, 0)]))
        elif op == "length":
            lines.append(f'  %l{k} = seq "length" %{s} : i64[]')
            lines.append(f'  %{name} = map {{ f32(a) + f32(#0) }} %l{k} : f32[2]')
            program.append((name, lambda e, s=s: f32([len(e[s]), len(e[s]) + 1])))
        else:
            lines.append(f'  %t{k} = seq "{op}" %{s}, %{"z" if op == "concat" else f"p{k}"} : f32[K{k}]')
            lines.append(f'  %{name} = map {{ a + 1 }} %t{k}')
            program.append((name, (lambda e, s=s: np.concatenate(e[s]) + 1) if op == "concat" else
                            lambda e, s=s, at=at: e[s][position(e[s], at, 0)] + 1))
        (tensors if op in ("at", "concat", "length") else lists).append(name)
    results = [n for n, _ in program[-5:]]
    types = {n: "seq<f32[?]>" if n in lists else f"f32[{'2' if any(f'%{n} = map {{ f32' in x for x in lines) else 'K' + n[1:]}]"
             for n in results}
    text = "graph @g (%s: seq<f32[?]>) -> (" + ", ".join(f"%r{n}: {types[n]}" for n in results) + ") {\n  %z = const i64[] {0}\n" + \
        "\n".join(lines) + "\n  return " + ", ".join("%" + n for n in results) + "\n}"

    def run(s):
        e = {"s": s}
        for n, fn in program:
            e[n] = fn(e)
        return [e[n] for n in results]
    return text, run


def position(s, at, more):
    """at among the elements of s, and one more; IndexError where it is none."""
    x = at + len(s) if at < 0 else at
    if not 0 <= x < len(s) + more:
        raise IndexError(at)
    return x


def check_random(folder, n):
    rng, ran, failed = np.random.default_rng(7), 0, 0
    for k in range(n):
        text, expect = random_program(rng)
        session = compile_text(folder, f"random{k}", text, *(["-O0"] if k % 4 == 0 else [])).session(threads=1 + k % 3)
        for _ in range(6):
            s = [rng.integers(-9, 9, int(rng.integers(0, 4))).astype(f32) for _ in range(int(rng.integers(2, 6)))]
            try:
                want = expect(s)
            except (IndexError, ValueError):
                want = None
            try:
                got = list(session.run({"s": s}).values())
            except accelc.Error as e:
                assert want is None, f"{e}\n{text}\n{s}"
                failed += 1
                continue
            # a failing operation without users may have been dropped
            if want is not None:
                same(got, want, f"random program {k}: {text}\n{s}\n")
                ran += 1
    assert ran > 2 * n and failed > n / 4, (ran, failed)


def check_refused(folder):
    for name, (text, feeds, message) in FAILING.items():
        try:
            compile_text(folder, name, text).session(threads=2, mem_limit=50 << 20).run(feeds)
        except accelc.Error as e:
            assert message in str(e), e
        else:
            raise AssertionError(f"{name} ran")
    for name, (text, message) in REFUSED.items():
        try:
            compile_text(folder, name, text)
        except accelc.CompileError as e:
            assert message in str(e), e
        else:
            raise AssertionError(f"{name} was compiled")
    model = compile_text(folder, "ports", """
graph @g (%s: seq<f32[?]>, %o: opt<f32[2]>, %m: seq<map<str,f32[]>>) -> (%p: seq<f32[?]>, %q: opt<f32[2]>, %r: seq<map<str,f32[]>>) {
  return %s, %o, %m
}""")
    assert [p.type for p in model.inputs] == ["seq<f32[?]>", "opt<f32[2]>", "seq<map<str,f32[]>>"], model.inputs
    assert [p.optional for p in model.outputs] == [False, True, False]
    session = model.session()
    good = {"s": S, "o": f32([1, 2]), "m": [{"a": 1.0}]}
    for change, message in BAD_INPUTS:
        try:
            session.run({**good, **change})
        except accelc.Error as e:
            assert message in str(e), (e, message)
        else:
            raise AssertionError(f"{change} was taken")
    out = session.run({n: v for n, v in good.items() if n != "o"})
    assert out["q"] is None and out["r"] == good["m"], out
    same(out["p"], S, "ports")


def check_archive(command, folder):
    models = {"plain": "graph @g (%x: f32[2], %y: f32[2]) -> (%z: f32[2]) {\n  %z = map { a + b } %x, %y\n  return %z\n}",
              "calls": "graph @g (%s: seq<f32[2]>) -> (%t: seq<f32[2]>) {\n  %z = const i64[] {0}\n"
                       '  %1 = seq "at" %s, %z : f32[2]\n  %2 = map { a * 10 } %1\n  %t = seq "insert" %s, %2 : seq<f32[2]>\n'
                       "  return %t\n}"}
    for ending in ("a", "o"):
        files = []
        for name, text in models.items():
            path = os.path.join(folder, name + ".ir")
            with open(path, "w") as f:
                f.write(text)
            for end in {ending, "h"}:
                subprocess.run([command, "--from=ir", path, "--name", name, "-o", f"{folder}/{name}.{end}"], check=True)
            files.append(f"{folder}/{name}.{ending}")
        with open(os.path.join(folder, "main.c"), "w") as f:
            f.write(C_PROGRAM)
        runtime = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "runtime")
        for order in (files, files[::-1]):
            subprocess.run([os.environ.get("CC", "cc"), f"-I{runtime}", f"-I{folder}", f"{folder}/main.c", *order, "-o", f"{folder}/main",
                            "-pthread", "-lm"], check=True)
            out = subprocess.run([f"{folder}/main"], capture_output=True, text=True)
            assert out.stdout == "4 6, 2 of 3: 20\n", (ending, order, out)


def check_libraries(command, folder):
    """An artefact asks for the libraries that have threads and dlopen, and for no others: before glibc 2.34 these were not the C library."""
    ld, old = shutil.which("ld"), f"{folder}/old"
    if not ld:
        return
    model = f"{folder}/needs.ir"
    with open(model, "w") as f:
        f.write("graph @g (%x: f32[2]) -> (%z: f32[2]) {\n  %z = map { a + a } %x\n  return %z\n}")

    def needed(target, **env):
        subprocess.run([command, model, "--target", target, "-o", f"{folder}/needs.so"], check=True, env={**os.environ, **env})
        with open(f"{folder}/needs.so", "rb") as f:
            assert (b"cuInit" in f.read()) == ("cuda" in target), f"{target}: the runtime for GPUs goes with code for them"
        text = subprocess.run(["objdump", "-p", f"{folder}/needs.so"], check=True, capture_output=True, text=True).stdout
        return [line.split()[1] for line in text.splitlines() if "NEEDED" in line]

    os.mkdir(old)
    for name, function in (("pthread", "pthread_create"), ("dl", "dlopen")):
        with open(f"{old}/{name}.c", "w") as f:
            f.write(f"void {function}(void) {{}}\n")
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{name}.old", f"{old}/{name}.c",
                        "-o", f"{old}/lib{name}.so"], check=True)
    with open(f"{old}/ld", "w") as f:
        f.write(f'#!/bin/sh\nexec {ld} -L{old} "$@"\n')
    os.chmod(f"{old}/ld", 0o755)
    path = f"{old}:{os.environ['PATH']}"
    assert needed("x86-64,cuda", PATH=path) == ["pthread.old", "dl.old", *needed("x86-64,cuda")], "libraries of an old C library"
    assert needed("x86-64", PATH=path) == ["pthread.old", *needed("x86-64")], "dlopen is for GPUs alone"


def main():
    command, wanted = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        for name, (text, expect, inputs) in CASES.items():
            if not wanted or name in wanted:
                for level in ("-O0", "-O2"):
                    check(compile_text(folder, name + level, text, level), expect, inputs, f"{name} {level}")
        for name, (text, expect, inputs) in STRINGS.items():
            if wanted and name not in wanted:
                continue
            path = os.path.join(folder, name + ".onnx")
            onnx.save(onnx.parser.parse_model(HEAD + text.strip()), path)
            accelc.compile(path, path + ".so")
            check(accelc.load(path + ".so"), expect, inputs, name)
        if not wanted:
            check_refused(folder)
            check_random(folder, 24)
            check_archive(command, folder)
            check_libraries(command, folder)
    print(f"{len(wanted or CASES)} models, 3 numbers of threads")


if __name__ == "__main__":
    main()
