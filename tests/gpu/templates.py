#!/usr/bin/env python3
"""Kernels of templates for GPUs: rows shared by the threads of a block (rows), 16 bytes a thread (stream), of many lengths and types, by the
look-alike of the driver, whose threads take turns in random orders: against the evaluator, and two runs with equal bits.

    templates.py ACCELC      (the look-alike: ACCELC_LIBCUDA; with ACCELC_TEST_GPU: a real GPU)
"""
import os
import re
import subprocess
import sys
import tempfile

import accelc
import emulated
import numpy as np
import onnx
import onnx.parser

SOFTMAX = "(float[N, {n}] x) => (float[N, {n}] y) {{ y = Softmax<axis = 1>(x) }}"
SUM = "({t}[3, {n}] x) => ({t}[3, 1] y) <int64[1] axis = {{1}}> {{ y = {op}(x, axis) }}"
NORM = "({t}[N, {n}] x, {t}[{n}] w, {t}[{n}] b) => ({t}[N, {n}] y) {{ y = LayerNormalization<axis = 1>(x, w, b) }}"
# Convolutions without taps around what is tested: their values have their channels last.
WINDOWS = ("({t}[N, {c}, 6, 5] x) => ({t}[N, {c}, 3, 3] y) <{t}[{c}, {c}, 1, 1] w = {{{w}}}, float[4, 1, 3, 3] v = {{"
           + ", ".join(str((i % 7 - 3) / 8) for i in range(36)) + "}}> {{ a = Conv(x, w) b = {op} y = Conv(b, w) }}")


def numbers(n, bits=None):
    """Small numbers, or 16-bit ones as bits from those on."""
    return ", ".join(str((i * 5 % 7 - 3) / 8 if bits is None else bits + i * 5 % 7) for i in range(n))


# Name: graph, schedule of a kernel, values of N and S.
CASES = {
    "softmax of a warp": (SOFTMAX.format(n=100), "rows prefix=1 threads=32 held=4 near=4", [(3, 0)]),
    "softmax with a rest": (SOFTMAX.format(n=130), "rows prefix=1 threads=64 held=3 near=1", [(5, 0), (0, 0)]),
    "softmax without": (SOFTMAX.format(n=1024), "rows prefix=1 threads=256 held=4 near=4", [(3, 0)]),
    "longest row in registers": (SOFTMAX.format(n=4096), "rows prefix=1 threads=512 held=8 near=4", [(2, 0)]),
    "longer row": (SOFTMAX.format(n=4100), "rows prefix=1 threads=512 held=0", [(2, 0)]),
    "any row": (SOFTMAX.format(n="S"), "rows prefix=1 threads=\\d+ held=0", [(1, 1), (3, 70), (2, 1000), (0, 4)]),
    "one row": ("(float[1000] x) => (float[1000] y) <int64[1] axis = {0}> { s = ReduceSum(x, axis) y = Sub(x, s) }",
                "rows prefix=0 threads=256 held=4", [(0, 0)]),
    "norm": (NORM.format(t="float", n=768), "rows prefix=1 threads=256 held=4 near=4", [(3, 0)]),
    "norm of halves": (NORM.format(t="float16", n=256), "rows", [(3, 0)]),
    "residual": ("(float[N, 320] x, float[N, 320] r) => (float[N, 320] s, float[N, 320] y) <int64[1] axis = {1}> "
                 "{ s = Add(x, r) t = Mul(s, s) q = ReduceMean(t, axis) e = Sqrt(q) y = Div(s, e) }", "rows prefix=1 threads=128 held=4 near=4",
                 [(4, 0)]),
    "two axes": ("(float[4, 20, 300] x) => (float[4, 20, 300] y) <int64[2] axes = {1, 2}> { m = ReduceMean(x, axes) y = Sub(x, m) }", "rows",
                 [(0, 0)]),
    **{f"{op} of {t}": (SUM.format(t=t, n=700, op=op), "rows prefix=1 threads=256 held=[34] near=[14]", [(0, 0)])
       for op, t in (("ReduceSum", "int64"), ("ReduceSum", "double"), ("ReduceMax", "int8"), ("ReduceMax", "float16"), ("ReduceMin", "bool"),
                     ("ReduceProd", "int32"))},
    "one query": ("(float[2, 3, 1, 64] q, float[2, 3, S, 64] k, float[2, 3, S, 64] v) => (float[2, 3, 1, 64] y) <float eighth = {0.125}> { "
                  "t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t) c = Mul(s, eighth) p = Softmax<axis = 3>(c) y = MatMul(p, v) }",
                  "gemv rows=1", [(0, 70), (0, 700)]),
    "mask cut out of a table": ("(float[2, 3, N, 32] q, float[2, 3, S, 32] past) => (float[2, 3, N, 32] y) <int64[4] all = {1, 1, 90, 90}, "
                                "int64[1] zero = {0}, int64[1] two = {2}, int64[1] three = {3}, float low = {-10000}> { "
                                "o = ConstantOfShape<value = int64[1] {1}>(all) l = Trilu<upper = 0>(o) b = Cast<to = 9>(l) "
                                "k = Concat<axis = 2>(past, q) f = Shape<start = 2, end = 3>(past) e = Shape<start = 2, end = 3>(k) "
                                "r = Slice(b, f, e, two) m = Slice(r, zero, e, three) t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t) "
                                "c = Where(m, s, low) p = Softmax<axis = 3>(c) y = MatMul(p, k) }", "flash rows=64", [(3, 67), (20, 0), (1, 89)]),
    "parts of a symbol": ("(float[5, S] x, float[S, 36] w, float[36] b) => (float[5, 36] y) { p = MatMul(x, w) y = Add(p, b) }", "gemv rows=\\d",
                          [(0, 0), (0, 1), (0, 300), (0, 1111), (0, 4096)], "--dim=S=0..4096"),
    "any length": ("(float[N] x, float[N] w) => (float[N] y) { y = Mul(x, w) }", "stream lanes=4", [(n, 0) for n in (0, 1, 3, 4, 1027)]),
    "broadcast": ("(float[N, 300] x, float[300] g, float[N, 1] b) => (float[N, 300] y) { a = Mul(x, g) t = Tanh(a) y = Add(t, b) }", "stream lanes=4",
                  [(5, 0)]),
    "halves": ("(float16[N, 64] x, float16[64] g) => (float16[N, 64] y) { y = Mul(x, g) }", "stream lanes=8", [(3, 0)]),
    "halves and floats": ("(float16[N, 64] x, float[64] g) => (float[N, 64] y) { c = Cast<to = 1>(x) y = Mul(c, g) }", "stream lanes=4", [(3, 0)]),
    "doubles": ("(double[N, 6] x) => (double[N, 6] y, int64[N, 6] i) { y = Abs(x) i = Cast<to = 7>(y) }", "stream lanes=2", [(3, 0)]),
    "few terms": ("(float[N, 7, 256] x) => (float[N, 1, 256] y) <int64[1] axis = {1}> { y = ReduceSum(x, axis) }", "stream lanes=4",
                  [(3, 0), (0, 0)]),
    "mean of windows": (WINDOWS.format(t="float", c=4, w=numbers(16),
                                       op="AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(a)"),
                           "stream lanes=4", [(2, 0)]),
    "maximum of windows": (WINDOWS.format(t="float16", c=8, w=numbers(64, 15360),
                                          op="MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(a)"),
                        "stream lanes=8", [(2, 0)]),
    "depthwise": (WINDOWS.format(t="float", c=4, w=numbers(16),
                                 op="Conv<group = 4, kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(a, v)"),
                  "stream lanes=4", [(2, 0)]),
    "depthwise, pairs": ("(float[N, 4, 20, 18] x) => (float[N, 4, 20, 18] y) "
                         "<float[4, 4, 1, 1] w = {" + numbers(16) + "}, float[4, 1, 3, 3] v = {" + numbers(36) + "}> "
                         "{ a = Conv(x, w) b = Conv<group = 4, pads = [1, 1, 1, 1]>(a, v) y = Conv(b, w) }", "stream lanes=4 points=2", [(1, 0)]),
    "depthwise, large": ("(float[N, 4, 9, 9] x) => (float[N, 4, 9, 9] y) "
                         "<float[4, 4, 1, 1] w = {" + numbers(16) + "}, float[4, 1, 7, 7] v = {" + numbers(196)
                         + "}> { a = Conv(x, w) b = Conv<group = 4, pads = [3, 3, 3, 3]>(a, v) y = Conv(b, w) }", "stream lanes=4", [(2, 0)]),
    "not whole": ("(float[N, 7] x, float[7] g) => (float[N, 7] y) { y = Mul(x, g) }", "nest", [(5, 0)]),
    "part of a result": ("(float[N, 6] x, float[N, 8] w) => (float[N, 14] y) { a = Exp(x) b = Exp(w) y = Concat<axis = 1>(a, b) }", "nest", [(3, 0)]),
    "parts that are whole": ("(float[8] x, float[12] w) => (float[20] y) { a = Exp(x) b = Exp(w) y = Concat<axis = 0>(a, b) }", "stream lanes=4",
                             [(0, 0)]),
    "parts that are not": ("(float[6] x, float[12] w) => (float[18] y) { a = Exp(x) b = Exp(w) y = Concat<axis = 0>(a, b) }", "nest", [(0, 0)]),
}


def main():
    emulated.skip_without()
    command = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="accelc-rows-") as folder:
        path, so = f"{folder}/m.onnx", f"{folder}/m.so"
        for number, (name, (graph, schedule, sizes, *options)) in enumerate(CASES.items()):
            onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]>\nm {graph}'), path)
            line = [command, path, "-o", "-", "--emit=kernels", "--target=cuda", *options]
            listing = subprocess.run(line, check=True, capture_output=True, text=True).stdout
            assert re.search(rf"schedule: {schedule}\b", listing), f"{name}: not {schedule}: {listing}"
            so = f"{folder}/m{number}.so"
            accelc.compile(path, so, *emulated.target(), *options)
            model = accelc.load(so)
            for n, s in sizes:
                rng = np.random.default_rng(n + s)
                feeds = {}
                for p in model.inputs:
                    x = rng.standard_normal([{"N": n, "S": s}.get(d, d) for d in p.shape])
                    feeds[p.name] = (np.rint(3 * x) if p.dtype.kind in "iu" else x > -3 if p.dtype.kind == "b" else x).astype(p.dtype)
                wants = emulated.evaluated(command, path, feeds, [p.name for p in model.outputs], folder)
                with model.session() as session:
                    got, again = ({k: np.array(v) for k, v in session.run(feeds).items()} for _ in range(2))
                for k, want in wants.items():
                    emulated.same(got[k], want, f"{name}, N={n}, S={s}, {k}")
                    assert got[k].tobytes() == again[k].tobytes(), f"{name}, {k}: the order of threads matters"
            print(f"ok   {name}")


if __name__ == "__main__":
    main()
