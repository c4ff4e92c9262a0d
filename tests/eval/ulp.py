#!/usr/bin/env python3
"""The functions of scalar.def over their whole range: compiled code against the standard library, in units in the last place.

    ulp.py ACCELC [--stride N] [--table] [FUNCTION...]

Every N-th float32 bit pattern (subnormals, infinities and NaNs among them) and a dense sample of moderate numbers, at every CPU
level that this machine runs, compared with float64 (for float64: with the 80-bit long double). The largest errors must stay
within the table of codegen/CODEGEN.md, which --table prints.
"""
import argparse
import math
import os
import re
import sys
import tempfile

import accelc
import numpy as np
import onnx
from onnx import TensorProto, helper

LEVELS = ["x86-64", "x86-64-v3", "x86-64-v4"]
DOC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "codegen", "CODEGEN.md")


def erf(x):
    return np.array([math.erf(v) for v in x.astype(np.float64)], np.float64)


def sigmoid(x):
    with np.errstate(all="ignore"):
        return np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))


# function -> nodes from x (and p) to y, reference; f64: whether the long double reference is exact enough
FUNCTIONS = {
    "exp": ("Exp", np.exp), "log": ("Log", np.log), "tanh": ("Tanh", np.tanh), "erf": ("Erf", erf), "sigmoid": ("Sigmoid", sigmoid),
    "sin": ("Sin", np.sin), "cos": ("Cos", np.cos), "tan": ("Tan", np.tan), "asin": ("Asin", np.arcsin), "acos": ("Acos", np.arccos),
    "atan": ("Atan", np.arctan), "sinh": ("Sinh", np.sinh), "cosh": ("Cosh", np.cosh), "asinh": ("Asinh", np.arcsinh),
    "acosh": ("Acosh", np.arccosh), "atanh": ("Atanh", np.arctanh), "sqrt": ("Sqrt", np.sqrt), "rsqrt": ("Sqrt Reciprocal", lambda x: 1 / np.sqrt(x)),
    "expm1": ("Elu", lambda x: np.where(x < 0, np.expm1(x), x)), "pow": ("Pow", None),
}
NO_F64 = {"erf"}        # no reference of higher precision
FLUSHED = {"sigmoid", "exp"}
BOUNDED = {"tanh", "erf", "sigmoid"}     # by 1, which they reach


def build(name, dtype, folder):
    """The function at all levels."""
    onnx_type = TensorProto.FLOAT if dtype == np.float32 else TensorProto.DOUBLE
    value = "x"
    nodes = []
    for i, op in enumerate(FUNCTIONS[name][0].split()):
        nodes.append(helper.make_node(op, [value, "p"] if op == "Pow" else [value], [f"v{i}"]))
        value = f"v{i}"
    nodes[-1].output[0] = "y"
    inputs = [helper.make_tensor_value_info(n, onnx_type, ["n"]) for n in (("x", "p") if name == "pow" else ("x",))]
    graph = helper.make_graph(nodes, name, inputs, [helper.make_tensor_value_info("y", onnx_type, ["n"])])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    path = os.path.join(folder, f"{name}-{np.dtype(dtype).name}.so")
    accelc.compile(model, path, "--target", ",".join(LEVELS))
    return accelc.load(path)


def samples(dtype, stride, rng):
    if dtype == np.float32:
        with np.errstate(invalid="ignore"):
            bits = np.arange(0, 2 ** 32, stride, np.uint64).astype(np.uint32).view(np.float32)
    else:
        bits = rng.integers(0, 2 ** 64, 2 ** 32 // stride // 4, np.uint64).view(np.float64)
    n = len(bits) // 4
    special = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 2, 0.5, -0.5, 3], dtype)
    return np.concatenate([bits, rng.uniform(-100, 100, n).astype(dtype), rng.uniform(-2, 2, n).astype(dtype), special])


def error(got, want, dtype, flushed):
    """The largest error in ULP; infinite if NaNs disagree. want has more precision than dtype."""
    with np.errstate(all="ignore"):
        top = want.dtype.type(2) ** (128 if dtype == np.float32 else 1024)
        rounded = want.astype(dtype)
        nan = np.isnan(want)
        if (np.isnan(got) != nan).any():
            bad = np.flatnonzero(np.isnan(got) != nan)[0]
            return math.inf, bad
        unit = np.spacing(np.minimum(np.abs(rounded), np.finfo(dtype).max)).astype(want.dtype)
        if flushed:     # results below the smallest normal number may be zero
            unit = np.where(np.abs(want) < np.finfo(dtype).tiny, np.finfo(dtype).tiny, unit)
        g, w = got.astype(want.dtype), np.clip(want, -top, top)
        e = np.abs(np.clip(g, -top, top) - w) / unit
        e[nan | (g == want)] = 0
    worst = int(e.argmax())
    return float(e[worst]), worst


def misses(x, got, want):
    """Whether a bounded function passes its bounds or, at infinities and zeros, is not as exact as it can be, sign of zero included."""
    at = np.isinf(x) | (x == 0)
    exact = want[at].astype(got.dtype)
    return (np.abs(got) > 1).any() or (got[at] != exact).any() or (np.signbit(got[at]) != np.signbit(exact)).any()


def measure(accelc_path, names, stride, say):
    os.environ["ACCELC"] = accelc_path
    rng = np.random.default_rng(1)
    found = {}
    with tempfile.TemporaryDirectory(prefix="accelc-ulp-") as folder:
        for dtype in (np.float32, np.float64):
            x = samples(dtype, stride, rng)
            high = np.float64 if dtype == np.float32 else np.longdouble
            for name in names:
                if dtype == np.float64 and name in NO_F64:
                    continue
                xs = x[::16] if name == "erf" else x
                feeds = {"x": xs}
                with np.errstate(all="ignore"):
                    if name == "pow":
                        feeds["p"] = rng.permutation(xs)
                        feeds["p"][::2] = rng.uniform(-8, 8, len(feeds["p"][::2])).astype(dtype)
                        want = np.power(xs.astype(high), feeds["p"].astype(high))
                    else:
                        want = np.asarray(FUNCTIONS[name][1](xs.astype(high)))
                compiled = build(name, dtype, folder)
                for level in LEVELS:
                    try:
                        y = compiled.session(threads=2, cpu=level).run(feeds)["y"]
                    except accelc.Error as e:
                        if "CPU" in str(e) or "cpu" in str(e):
                            continue
                        raise
                    ulp, at = error(y, want, dtype, name in FLUSHED)
                    if name in BOUNDED and misses(xs, y, want):
                        ulp = math.inf
                    key = name, np.dtype(dtype).name
                    if say:
                        where = ", ".join(repr(v[at]) for v in feeds.values())
                        print(f"{name} {key[1]} {level}: {ulp:.3f} at {where}: {y[at]!r} instead of {want[at]!r}", flush=True)
                    found[key] = max(found.get(key, 0), ulp)
    return found


def documented():
    rows = {}
    with open(DOC, encoding="utf-8") as f:
        for name, f32, f64 in re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+|-) \|", f.read(), re.M):
            rows[name, "float32"] = float(f32)
            if f64 != "-":
                rows[name, "float64"] = float(f64)
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("accelc")
    p.add_argument("function", nargs="*")
    p.add_argument("--stride", type=int, default=65537)
    p.add_argument("--table", action="store_true")
    p.add_argument("-v", action="store_true")
    a = p.parse_args()
    found = measure(os.path.abspath(a.accelc), a.function or list(FUNCTIONS), a.stride, a.v)
    if a.table:
        for name in FUNCTIONS:
            up = [math.ceil(found[name, t] * 20) / 20 if (name, t) in found else None for t in ("float32", "float64")]
            print(f"| `{name}` | " + " | ".join("-" if u is None else f"{u:.2f}" for u in up) + " |")
        return 0
    limits, failed = documented(), 0
    for (name, dtype), ulp in found.items():
        limit = limits.get((name, dtype), 0)
        failed += ulp > limit
        print(f"{'FAIL' if ulp > limit else 'ok  '} {name} {dtype}: {ulp:.3f} ULP, documented {limit}")
    print(f"{len(found) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
