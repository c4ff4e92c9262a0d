#!/usr/bin/env python3
"""Random graphs: what is compiled computes what the evaluator computes.

    run.py ACCELC [--first N] [--count N] [--keep FOLDER] [-v]

Graph N follows from N alone: 3 to 12 operators of all families over small shapes, some dims symbolic. Each is compiled with
random options (level of optimisation, CPU level, executor, bound or symbolic dims), run with 1, 2 and 3 threads at two bindings,
which must agree in every bit, and compared with `accelc --eval` of the graph as imported. Every value that nothing
reads is an output. A failure prints the command that repeats it.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import accelc
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ONNX = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64, np.dtype(np.bool_): TensorProto.BOOL}
F, I, B = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)
SIZES = {"n": (3, 1), "m": (5, 4)}             # two bindings of each symbol


class Value:
    """shape: ints and names of symbols."""

    def __init__(self, name, dtype, shape):
        self.name, self.dtype, self.shape = name, dtype, tuple(shape)

    def fixed(self, *axes):
        return all(isinstance(self.shape[a], int) for a in (axes or range(len(self.shape))))


class Maker:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.values, self.nodes, self.constants, self.inputs, self.used = [], [], [], [], set()
        for _ in range(self.pick(1, 2)):
            self.input()
        while len(self.nodes) < self.rng.integers(3, 13):
            RECIPES[self.rng.integers(len(RECIPES))](self)

    # small helpers
    def pick(self, lo, hi):
        return int(self.rng.integers(lo, hi + 1))

    def chance(self, p):
        return self.rng.random() < p

    def one_of(self, items):
        return items[self.pick(0, len(items) - 1)]

    def name(self):
        return f"v{len(self.values) + len(self.constants)}"

    def input(self):
        shape = [self.one_of([1, 2, 3, 4, 7, 8, 16, 17, "n", "m"]) for _ in range(self.pick(1, 4))]
        v = Value(self.name(), self.one_of([F, F, F, F, I]), shape)
        self.values.append(v)
        self.inputs.append(v)

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def weights(self, *shape):
        return self.constant((self.rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32))

    def value(self, dtype=None, rank=None, where=lambda v: True):
        """A value, late ones more often; None if none fits."""
        fit = [v for v in self.values if (dtype is None or v.dtype == dtype) and (rank is None or len(v.shape) == rank) and where(v)]
        return fit[-1 - min(int(self.rng.exponential(1.5)), len(fit) - 1)] if fit else None

    def node(self, op, inputs, shape, dtype=F, **attributes):
        out = Value(self.name(), dtype, shape)
        self.used.update(inputs)
        self.nodes.append(helper.make_node(op, inputs, [out.name], f"{op}_{len(self.nodes)}", **attributes))
        self.values.append(out)
        return out

    def model(self):
        def info(v):
            return helper.make_tensor_value_info(v.name, ONNX[v.dtype], v.shape)
        outputs = [v for v in self.values if v.name not in self.used and v not in self.inputs]
        graph = helper.make_graph(self.nodes, "random", [info(v) for v in self.inputs], [info(v) for v in outputs], self.constants)
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])

    def feeds(self, binding):
        out = {}
        for v in self.inputs:
            shape = [SIZES[d][binding] if isinstance(d, str) else d for d in v.shape]
            out[v.name] = (self.rng.integers(-9, 10, shape) if v.dtype == I else self.rng.standard_normal(shape)).astype(v.dtype)
        return out


# ---- recipes: each adds a node, or nothing if no value fits -----------------------------------------------------------------

def unary(m):
    v = m.value(F)
    if v:
        m.node(m.one_of(["Tanh", "Sigmoid", "Relu", "Abs", "Neg", "Erf", "Floor", "HardSigmoid", "Softplus", "LeakyRelu", "HardSwish", "Elu"]),
               [v.name], v.shape)


def integer(m):
    v = m.value(I)
    if v:
        m.node(m.one_of(["Abs", "Neg", "Sign"]), [v.name], v.shape, I)


def broadcast_shape(a, b):
    n = max(len(a), len(b))
    out = []
    for x, y in zip((1,) * (n - len(a)) + a, (1,) * (n - len(b)) + b):
        if x != y and x != 1 and y != 1:
            return None
        out.append(y if x == 1 else x)
    return tuple(out)


def binary(m):
    a = m.value()
    if not a or a.dtype == B:
        return
    fits = [v for v in m.values if v.dtype == a.dtype and broadcast_shape(a.shape, v.shape) is not None]
    if m.chance(0.4):
        shape = [d if isinstance(d, int) and m.chance(0.6) else 1 for d in a.shape[m.pick(0, len(a.shape)):]]
        c = m.rng.standard_normal(shape).astype(np.float32) if a.dtype == F else m.rng.integers(-5, 6, shape)
        b = Value(m.constant(c.astype(a.dtype)), a.dtype, shape)
    else:
        b = m.one_of(fits)
    shape = broadcast_shape(a.shape, b.shape)
    if a.dtype == F and m.chance(0.2):
        m.node(m.one_of(["Less", "GreaterOrEqual"]), [a.name, b.name], shape, B)
    else:
        m.node(m.one_of(["Add", "Sub", "Mul", "Min", "Max"]), [a.name, b.name], shape, a.dtype)


def where(m):
    c = m.value(B)
    v = c and m.value(F, where=lambda v: broadcast_shape(v.shape, c.shape) is not None)
    if v:
        m.node("Where", [c.name, v.name, m.constant(np.float32(m.one_of([0, -1, 2])))], broadcast_shape(v.shape, c.shape))


def cast(m):
    v = m.value()
    if v and v.dtype != F:
        m.node("Cast", [v.name], v.shape, F, to=TensorProto.FLOAT)


def matmul(m):
    a = m.value(F, where=lambda v: len(v.shape) >= 2 and v.fixed(-1))
    if not a:
        return
    n = m.one_of([1, 3, 8, 16, 33])
    if m.chance(0.3) and len(a.shape) == 2:
        m.node("Gemm", [a.name, m.weights(n, a.shape[1]), m.weights(n)], [a.shape[0], n], transB=1, alpha=0.5)
    elif m.chance(0.3):
        axes = list(range(len(a.shape) - 2)) + [len(a.shape) - 1, len(a.shape) - 2]
        t = m.node("Transpose", [a.name], [a.shape[i] for i in axes], perm=axes)
        m.node("MatMul", [a.name, t.name], a.shape[:-1] + (a.shape[-2],))
    else:
        m.node("MatMul", [a.name, m.weights(a.shape[-1], n)], a.shape[:-1] + (n,))


def conv(m):
    v = m.value(F, 4, lambda v: v.fixed(1, 2, 3))
    if not v:
        return
    c, size = v.shape[1], v.shape[2:]
    k = [min(m.one_of([1, 1, 3, 2, 5]), s) for s in size]
    stride, dilation = [m.pick(1, 2) for _ in k], [m.pick(1, 2) for _ in k]
    pads = [m.pick(0, x // 2 + 1) for x in k + k]
    group = c if m.chance(0.3) else 2 if c % 2 == 0 and m.chance(0.3) else 1
    out = group * m.one_of([1, 1, 2, 4, 9]) if group > 1 else m.one_of([1, 3, 8, 16, 20])
    shape = [(s + pads[i] + pads[i + 2] - dilation[i] * (k[i] - 1) - 1) // stride[i] + 1 for i, s in enumerate(size)]
    if min(shape) < 1:
        return
    inputs = [v.name, m.weights(out, c // group, *k)] + ([m.weights(out)] if m.chance(0.6) else [])
    m.node("Conv", inputs, [v.shape[0], out] + shape, group=group, kernel_shape=k, strides=stride, dilations=dilation, pads=pads)


def pool(m):
    v = m.value(F, 4, lambda v: v.fixed(2, 3))
    if not v:
        return
    k = [min(m.pick(1, 3), s) for s in v.shape[2:]]
    stride = [m.pick(1, 2) for _ in k]
    shape = [(s - k[i]) // stride[i] + 1 for i, s in enumerate(v.shape[2:])]
    m.node(m.one_of(["MaxPool", "AveragePool"]), [v.name], list(v.shape[:2]) + shape, kernel_shape=k, strides=stride)


def transpose(m):
    v = m.value()
    if v and len(v.shape) > 1:
        perm = m.rng.permutation(len(v.shape)).tolist()
        m.node("Transpose", [v.name], [v.shape[i] for i in perm], v.dtype, perm=perm)


def flatten(m):
    v = m.value(None, None, lambda v: len(v.shape) > 1 and v.fixed(*range(1, len(v.shape))))
    if v:
        rest = int(np.prod(v.shape[1:]))
        if m.chance(0.5):
            m.node("Flatten", [v.name], [v.shape[0], rest], v.dtype)
        else:
            a = m.one_of([d for d in range(1, rest + 1) if rest % d == 0])
            m.node("Reshape", [v.name, m.constant(np.array([0, a, rest // a]))], [v.shape[0], a, rest // a], v.dtype)


def slice_(m):
    v = m.value()
    if not v or not v.shape:
        return
    axis = m.pick(0, len(v.shape) - 1)
    if not v.fixed(axis) or v.shape[axis] < 2:
        return
    n = v.shape[axis]
    lo, step = m.pick(0, n - 1), m.pick(1, 3)
    hi = m.pick(lo + 1, n)
    c = [m.constant(np.array([x])) for x in (lo, hi, axis, step)]
    shape = list(v.shape)
    shape[axis] = -(-(hi - lo) // step)
    m.node("Slice", [v.name] + c, shape, v.dtype)


def concat(m):
    v = m.value()
    if not v or not v.shape:
        return
    axis = m.pick(0, len(v.shape) - 1)
    fits = [u for u in m.values if u.dtype == v.dtype and len(u.shape) == len(v.shape) and u.fixed(axis)
            and all(a == b for i, (a, b) in enumerate(zip(u.shape, v.shape)) if i != axis)]
    if v.fixed(axis) and fits:
        parts = [v] + [m.one_of(fits) for _ in range(m.pick(1, 2))]
        shape = list(v.shape)
        shape[axis] = sum(u.shape[axis] for u in parts)
        m.node("Concat", [u.name for u in parts], shape, v.dtype, axis=axis)


def pad(m):
    v = m.value(F, where=lambda v: v.fixed() and len(v.shape) > 0)
    if v:
        lo, hi = ([m.pick(0, 2) if m.chance(0.4) else 0 for _ in v.shape] for _ in range(2))
        mode = m.one_of(["constant", "edge"])
        m.node("Pad", [v.name, m.constant(np.array(lo + hi))], [a + s + b for a, s, b in zip(lo, v.shape, hi)], mode=mode)


def reduce(m):
    v = m.value(F, where=lambda v: len(v.shape) > 0)
    if not v:
        return
    axes = sorted(m.rng.permutation(len(v.shape))[:m.pick(1, len(v.shape))].tolist())
    keep = m.pick(0, 1)
    shape = [1 if i in axes else s for i, s in enumerate(v.shape) if keep or i not in axes]
    if m.chance(0.3):
        m.node("ReduceSum", [v.name, m.constant(np.array(axes))], shape, keepdims=keep)
    elif m.chance(0.2):
        shape = [1 if i == axes[0] else s for i, s in enumerate(v.shape) if keep or i != axes[0]]
        m.node("ArgMax", [v.name], shape, I, axis=axes[0], keepdims=keep)
    else:
        m.node(m.one_of(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1"]), [v.name], shape, axes=axes, keepdims=keep)


def softmax(m):
    v = m.value(F, where=lambda v: len(v.shape) > 0)
    if v:
        m.node(m.one_of(["Softmax", "LogSoftmax"]), [v.name], v.shape, axis=m.pick(0, len(v.shape) - 1))


def norm(m):
    v = m.value(F, where=lambda v: len(v.shape) > 1 and v.fixed(-1) and v.shape[-1] > 1)
    if v:
        m.node("LayerNormalization", [v.name, m.weights(v.shape[-1]), m.weights(v.shape[-1])], v.shape, epsilon=0.01)


def gather(m):
    v = m.value(None, None, lambda v: len(v.shape) > 0 and v.fixed(0))
    if v:
        index = m.rng.integers(-v.shape[0], v.shape[0], [m.pick(1, 4) for _ in range(m.pick(0, 2))])
        m.node("Gather", [v.name, m.constant(np.asarray(index, np.int64))], index.shape + v.shape[1:], v.dtype)


def unsqueeze(m):
    v = m.value(None, None, lambda v: len(v.shape) < 4)
    if v:
        axis = m.pick(0, len(v.shape))
        m.node("Unsqueeze", [v.name, m.constant(np.array([axis]))], v.shape[:axis] + (1,) + v.shape[axis:], v.dtype)


def cumsum(m):
    v = m.value(F, where=lambda v: len(v.shape) > 0)
    if v:
        m.node("CumSum", [v.name, m.constant(np.array(m.pick(0, len(v.shape) - 1)))], v.shape, exclusive=m.pick(0, 1), reverse=m.pick(0, 1))


def resize(m):
    v = m.value(F, 4, lambda v: v.fixed(2, 3))
    if v and max(v.shape[2:]) <= 8:
        scales = np.array([1, 1, 2, 2], np.float32)
        m.node("Resize", [v.name, "", m.constant(scales)], v.shape[:2] + (v.shape[2] * 2, v.shape[3] * 2), mode=m.one_of(["nearest", "linear"]))


RECIPES = [unary, unary, unary, binary, binary, binary, binary, matmul, matmul, conv, conv, conv, pool, transpose, flatten, slice_, concat,
           pad, reduce, reduce, softmax, norm, gather, unsqueeze, cumsum, where, cast, integer, resize]


# ---- one graph --------------------------------------------------------------------------------------------------------------

def evaluate(command, path, feeds, names, folder):
    args = [command, path, "--eval"]
    for name, x in feeds.items():
        file = os.path.join(folder, f"in-{name}.npy")
        np.save(file, x)
        args += ["--input", f"{name}={file}"]
    for name in names:
        args += ["--output", f"{name}={os.path.join(folder, f'out-{name}.npy')}"]
    done = subprocess.run(args, capture_output=True, text=True, timeout=100)
    if done.returncode:
        raise RuntimeError(f"--eval: {done.stderr}")
    return {name: np.load(os.path.join(folder, f"out-{name}.npy")) for name in names}


def differ(got, want):
    """What is wrong with a result, or None."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype} {got.shape} instead of {want.dtype} {want.shape}"
    if got.dtype.kind != "f":
        return None if (got == want).all() else f"{int((got != want).sum())} of {got.size} differ"
    if not got.size:
        return None
    with np.errstate(all="ignore"):
        good = np.isfinite(want)
        scale = np.sqrt(np.mean(want[good].astype(np.float64) ** 2)) if good.any() else 1
        wrong = np.where(good, np.abs(got - want.astype(np.float64)) > 2e-4 * (np.abs(want) + scale) + 1e-6,
                         ~((got == want) | (np.isnan(got) & np.isnan(want))))
    if not wrong.any():
        return None
    at = np.unravel_index(wrong.argmax(), wrong.shape)
    return f"{int(wrong.sum())} of {got.size} differ, first {tuple(map(int, at))}: {got[at]!r} instead of {want[at]!r}"


def one(command, number, keep):
    m = Maker(number)
    model = m.model()
    if not model.graph.output:
        return None, m
    names = [o.name for o in model.graph.output]
    options = ["--executor", m.one_of(["team", "serial"]), f"-O{m.one_of([0, 1, 2, 2, 2])}",
               "--target", m.one_of(["host", "host", "host", "x86-64", "x86-64-v3"])]
    bound = m.chance(0.4)
    symbols = sorted({d for v in m.inputs for d in v.shape if isinstance(d, str)})
    if bound:
        for s in symbols:
            options += ["--dim", f"{s}={SIZES[s][0]}"]
    with tempfile.TemporaryDirectory(prefix="accelc-eval-") as tmp:
        path = os.path.join(keep or tmp, f"graph{number}.onnx")
        onnx.save(model, path)
        so = os.path.join(tmp, "m.so")
        try:
            onnx.checker.check_model(model, full_check=True)
            accelc.compile(path, so, *options)
            loaded = accelc.load(so)
            sessions = [loaded.session(threads=t) for t in (1, 2, 3)]
            for binding in (0,) if bound or not symbols else (0, 1, 0):
                feeds = m.feeds(binding)
                want = evaluate(command, path, feeds, names, tmp)
                taken = {p.name for p in loaded.inputs}
                runs = [{k: np.array(v) for k, v in s.run({k: v for k, v in feeds.items() if k in taken}).items()} for s in sessions]
                for name in names:
                    wrong = differ(runs[0][name], want[name])
                    if wrong:
                        return f"{' '.join(options)}, binding {binding}: {name}: {wrong}", m
                    if any(r[name].tobytes() != runs[0][name].tobytes() for r in runs):
                        return f"{' '.join(options)}, binding {binding}: {name}: other bits with other threads", m
        except (accelc.CompileError, accelc.Error, RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
            return f"{' '.join(options)}: {type(e).__name__}: {str(e).strip()[:600]}", m
    return None, m


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("accelc")
    p.add_argument("--first", type=int, default=0)
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--keep")
    p.add_argument("-v", action="store_true")
    a = p.parse_args()
    command = os.environ["ACCELC"] = os.path.abspath(a.accelc)
    failed = nodes = 0
    for number in range(a.first, a.first + a.count):
        wrong, m = one(command, number, a.keep)
        nodes += len(m.nodes)
        failed += wrong is not None
        if wrong or a.v:
            print(f"{'FAIL' if wrong else 'ok  '} graph {number}: {', '.join(n.op_type for n in m.nodes)}" + (f"\n  {wrong}" if wrong else ""))
            if wrong:
                print(f"  repeat: {sys.argv[0]} {a.accelc} --first {number} --count 1 --keep .", flush=True)
    print(f"{a.count - failed} passed, {failed} failed, {nodes} operators")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
