#!/usr/bin/env python3
"""Gradients of small graphs in double precision, compiled and evaluated, with symbolic sizes, or with fixed ones in every other case and where sizes
must be known, against differences of the function's values (by onnx.reference) around the point. Every other case, or all, or named ones with both
kinds of sizes.

    test_gradient.py ACCELC [--all | CASE...]
"""
import os
import subprocess
import sys
import tempfile

import accelc
import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

HEAD = '<ir_version: 8, opset_import: ["" : %d, "ai.onnx.preview.training" : 1]>\n'
NEWER = {"CumProd": 26, '"max"': 18, '"min"': 18}      # what the opset of all others, 17, lacks
RNG = np.random.default_rng(11)
X34, X43, X5 = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 3)), RNG.standard_normal(5)
X234, IMAGE, KERNEL = RNG.standard_normal((2, 3, 4)), RNG.standard_normal((1, 2, 6, 6)), RNG.standard_normal((3, 2, 3, 3))
POSITIVE = np.abs(X34) + 0.5
INSIDE = np.tanh(X34) * 0.9

# name: (nodes that make y, its inputs: those of a float type are differentiated by)
CASES = {
    "add": ("y = Add (x, w)", {"x": X34, "w": X34 + 1}),
    "broadcast": ("y = Mul (x, w)", {"x": X34, "w": X34[0]}),
    "keep": ("t = Mul (x, w)\n y = Mul (t, x)", {"x": X34, "w": X34[:, :1]}),
    "polynomial": ("a = Mul (x, x)\n b = Sub (a, w)\n y = Div (b, w)", {"x": X34, "w": POSITIVE}),
    "matmul": ("y = MatMul (x, w)", {"x": X34, "w": X43}),
    "layers": ("a = MatMul (x, w)\n h = Tanh (a)\n b = MatMul (h, v)\n y = Sigmoid (b)", {"x": X34, "w": X43, "v": X34}),
    "gemm": ("y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, w, c)", {"x": X34, "w": X34 + 2, "c": X34[:, 0]}),
    "conv": ("y = Conv <pads = [1, 1, 1, 1], strides = [2, 1], dilations = [1, 2]> (x, w)", {"x": IMAGE, "w": KERNEL}),
    "pool": ("a = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)\n b = MaxPool <kernel_shape = [2, 2]> (a)\n y = Mul (b, b)",
             {"x": IMAGE}),
    "softmax": ("a = Softmax <axis = 1> (x)\n y = Mul (a, w)", {"x": X34, "w": X34 - 1}),
    "logsoftmax": ("a = LogSoftmax <axis = 0> (x)\n y = Mul (a, w)", {"x": X34, "w": X34 - 1}),
    "norm": ("a = InstanceNormalization (x, w, c)\n y = Mul (a, x)", {"x": X234, "w": X34[:, 0], "c": X34[:, 1]}),
    "reductions": ("a = ReduceSum <keepdims = 0> (x)\n b = ReduceMean <axes = [1]> (x)\n c = ReduceL2 <axes = [0]> (x)\n"
                   " d = ReduceMax <axes = [1]> (x)\n e = ReduceMin <axes = [0]> (x)\n"
                   " f = Add (a, b)\n g = Mul (f, c)\n h = Mul (g, d)\n y = Add (h, e)", {"x": X34}),
    "product": ("y = ReduceProd <axes = [1]> (x)", {"x": X34}),
    "product of zeros": ("y = ReduceProd <axes = [1]> (x)", {"x": np.float64([[1, 0, 3], [0, 0, 2], [4, 5, 6]])}),
    "cumulative": ("i = Constant <value_int = 1> ()\n a = CumSum <reverse = 1, exclusive = 1> (x, i)\n y = Mul (a, x)", {"x": X34}),
    "cumulative products": ("i = Constant <value_int = 1> ()\n j = Constant <value_int = 0> ()\n a = CumProd (x, i)\n"
                            " b = CumProd <reverse = 1, exclusive = 1> (w, j)\n y = Mul (a, b)",
                            {"x": X34, "w": np.float64([[1, 0, 3, 1], [4, 5, 6, 0], [7, 8, 9, 2]])}),
    "where the greatest is": ("a, i = MaxPool <kernel_shape = [2, 3], strides = [2, 2]> (x)\n b = Cast <to = 11> (i)\n y = Mul (a, b)", {"x": IMAGE}),
    "multiplied": ('i = Constant <value_ints = [1, -2, 0]> ()\n s = Constant <value_ints = [3, 1]> ()\n j = Reshape (i, s)\n'
                   ' a = ScatterND <reduction = "mul"> (x, j, w)\n b = ScatterElements <axis = 1, reduction = "mul"> (x, k, v)\n y = Mul (a, b)',
                   {"x": X34, "w": X34 * 3, "k": np.int64([[0, -4], [2, 1], [3, 3]]), "v": np.float64([[2, 0], [3, -1], [0, 0]])}),
    "compared": ('i = Constant <value_ints = [1, -2, 0]> ()\n s = Constant <value_ints = [3, 1]> ()\n j = Reshape (i, s)\n'
                 ' a = ScatterND <reduction = "min"> (x, j, w)\n b = ScatterElements <axis = 0, reduction = "max"> (x, k, v)\n y = Mul (a, b)',
                 {"x": X34, "w": X34[::-1] * 2, "k": np.int64([[0, -1], [0, 1], [2, 0]]), "v": X34[:3, 1:3] * 2}),
    "diagonals": ('a = Einsum <equation = "iij,jkk->ik"> (x, w)\n b = Einsum <equation = "ii"> (v)\n y = Mul (a, b)',
                  {"x": RNG.standard_normal((3, 3, 2)), "w": RNG.standard_normal((2, 4, 4)), "v": X34[:, :3]}),
    "movement": ("s = Constant <value_ints = [4, 6]> ()\n a = Transpose <perm = [2, 0, 1]> (x)\n b = Reshape (a, s)\n"
                 " y = Mul (b, b)", {"x": X234}),
    "slices": ("f = Constant <value_ints = [-1, 1]> ()\n t = Constant <value_ints = [-9, 3]> ()\n a = Constant <value_ints = [0, 1]> ()\n"
               " s = Constant <value_ints = [-1, 2]> ()\n b = Slice (x, f, t, a, s)\n y = Mul (b, b)", {"x": X34}),
    "joined": ("a = Concat <axis = 1> (x, w, x)\n y = Mul (a, a)", {"x": X34, "w": X34[:, :2]}),
    "split": ("a, b = Split <axis = 1> (x)\n y = Mul (a, b)", {"x": X34}),
    "padded": ("p = Constant <value_ints = [1, 0, 0, 2]> ()\n a = Pad (x, p, v)\n y = Mul (a, a)", {"x": X34, "v": np.asarray(0.5)}),
} | {f"padded by {mode}": (f"p = Constant <value_ints = [2, 3, 2, 1]> ()\n a = Pad <mode = \"{mode}\"> (x, p)\n b = Pad <mode = \"{mode}\"> (a, p)\n"
                            " y = Mul (b, b)", {"x": X34}) for mode in ("edge", "reflect")} | {
    "rows": ("i = Constant <value_ints = [2, 0, -1, 2]> ()\n a = Gather <axis = 0> (x, i)\n y = Mul (a, a)", {"x": X34}),
    "columns": ("i = Constant <value_ints = [3, 0]> ()\n a = Gather <axis = 1> (x, i)\n y = Mul (a, a)", {"x": X34}),
    "topk": ("k = Constant <value_ints = [2]> ()\n a, i = TopK <axis = 1, largest = 0> (x, k)\n y = Mul (a, a)", {"x": X34}),
    "scattered rows": ("i = Constant <value_ints = [2, -3]> ()\n s = Constant <value_ints = [2, 1]> ()\n j = Reshape (i, s)\n"
                       " a = ScatterND (x, j, w)\n y = Mul (a, a)", {"x": X34, "w": X34[:2] * 3}),
    "added rows": ('i = Constant <value_ints = [1, -2, 0]> ()\n s = Constant <value_ints = [3, 1]> ()\n j = Reshape (i, s)\n'
                   ' a = ScatterND <reduction = "add"> (x, j, w)\n y = Mul (a, a)', {"x": X34, "w": X34 * 3}),
    "scattered elements": ("a = ScatterElements <axis = 1> (x, i, w)\n y = Mul (a, a)",
                           {"x": X34, "i": np.int64([[0, -1], [2, 1]]), "w": X34[:2, :2] * 2}),
    "added elements": ('a = ScatterElements <axis = 0, reduction = "add"> (x, i, w)\n y = Mul (a, a)',
                       {"x": X34, "i": np.int64([[0, -1], [0, 1]]), "w": X34[:2, :2] * 2}),
    "elements": ("i = Cast <to = 7> (x)\n z = Mul (i, i)\n k = Min (z, one)\n a = GatherElements <axis = 1> (x, k)\n y = Mul (a, x)",
                 {"x": X34, "one": np.int64([[1]])}),
    "spread": ("s = Constant <value_ints = [2, 3, 4]> ()\n a = Expand (x, s)\n b = Tile (x, r)\n c = Mul (a, x)\n d = ReduceSum <keepdims = 0> (b)\n"
               " y = Mul (c, d)", {"x": X34, "r": np.int64([2, 1])}),
    "einsum": ('y = Einsum <equation = "ij,jk,k->i"> (x, w, v)', {"x": X34, "w": X43, "v": X43[0]}),
    "sum alone": ('y = Einsum <equation = "ij,k->i"> (x, v)', {"x": X34, "v": X5}),
    "choice": ("z = Sub (x, x)\n c = Less (x, z)\n y = Where (c, x, w)", {"x": X34, "w": X34 * 2}),
    "unused": ("y = Mul (x, x)", {"x": X34, "w": X5}),
    "deep": ("a = Exp (x)\n b = Log (w)\n c = Sqrt (w)\n d = Pow (w, x)\n e = Add (a, b)\n f = Mul (c, d)\n y = Mul (e, f)",
             {"x": X34, "w": POSITIVE}),
    "sorted": ("a, b, c, d = Unique (x)\n y = Mul (a, a)", {"x": X5}),
    "sorted lanes": ("k = Constant <value_ints = [4]> ()\n a, i = TopK <axis = 1> (x, k)\n b = Mul (a, w)\n y = Mul (b, b)", {"x": X34, "w": X34[0]}),
    "loop": ("""n = Constant <value_int = 4> ()
        o = Loop (n, , x) <body = b (int64 i, bool c, double[3,3] h) => (bool c2, double[3,3] h2) {
            c2 = Identity (c)
            p = MatMul (h, w)
            h2 = Tanh (p)
        }>
        y = Mul (o, o)""", {"x": X34[:, :3], "w": X43[:3]}),
    "loop until": ("""t = CastLike (one, x)
        f = Cast <to = 9> (one)
        o, s = Loop (, f, x) <body = b (int64 i, bool c, double[5] h) => (bool c2, double[5] h2, double[5] q) {
            e = Mul (h, h)
            r = ReduceSum <keepdims = 0> (e)
            hundred = CastLike (many, h)
            c2 = Less (r, hundred)
            u = Sin (w)
            two = CastLike (one, h)
            v = Add (u, two)
            h2 = Mul (h, v)
            q = Mul (h2, h)
        }>
        a = ReduceSum <keepdims = 0> (s)
        y = Mul (o, a)""", {"x": X5, "w": X5 + 1, "one": np.asarray(np.int64(1)), "many": np.asarray(np.int64(100))}),
    "loop that grows": ("""n = Constant <value_int = 3> ()
        o = Loop (n, , x) <body = b (int64 i, bool c, double[k] h) => (bool c2, double[l] h2) {
            c2 = Identity (c)
            e = Mul (h, h)
            s = Sin (h)
            h2 = Concat <axis = 0> (e, s)
        }>
        y = Mul (o, o)""", {"x": X5 * 0.5}),
    "loop of the highest rank": ("""n = Constant <value_int = 3> ()
        o = Loop (n, , x) <body = b (int64 i, bool c, double[%s] h) => (bool c2, double[%s] h2) {
            c2 = Identity (c)
            s = Sin (h)
            h2 = Mul (s, h)
        }>
        y = Mul (o, o)""" % ((",".join("1" * 15) + ",5",) * 2), {"x": X5.reshape(*[1] * 15, 5)}),
    "no trips": ("""o = Loop (zero, , x) <body = b (int64 i, bool c, double[3,4] h) => (bool c2, double[3,4] h2) {
            c2 = Identity (c)
            h2 = Mul (h, w)
        }>
        y = Mul (o, o)""", {"x": X34, "w": X34 + 1, "zero": np.asarray(np.int64(0))}),
    "loops in a loop": ("""n = Constant <value_int = 2> ()
        o = Loop (n, , x) <body = b (int64 i, bool c, double[3,4] h) => (bool c2, double[3,4] h2) {
            c2 = Identity (c)
            m = Constant <value_int = 3> ()
            u, r = Loop (m, , h) <body = d (int64 j, bool e, double[3,4] g) => (bool e2, double[3,4] g2, double[3,4] q) {
                e2 = Identity (e)
                f = Mul (g, w)
                g2 = Sin (f)
                q = Mul (g2, x)
            }>
            a = Constant <value_ints = [0]> ()
            z = ReduceSum <keepdims = 0> (r, a)
            h2 = Mul (u, z)
        }>
        y = Mul (o, x)""", {"x": X34, "w": X34 + 1}),
    "scan": ("""h, s = Scan <num_scan_inputs = 1, scan_input_directions = [1], body = b (double[4] h, double[4] e) => (double[4] h2, double[4] q) {
            p = Mul (h, e)
            h2 = Tanh (p)
            q = Mul (h2, w)
        }> (v, x)
        a = MatMul (s, h)
        y = Mul (a, a)""", {"x": X34, "w": X34[0], "v": X34[1] + 1}),
    "branches": ("""z = ReduceSum <keepdims = 0> (x)
        n = Sub (z, z)
        c = Less (z, n)
        y = If (c) <then_branch = t () => (double[3,4] r) {
            r = Mul (x, w)
        }, else_branch = e () => (double[3,4] r) {
            p = Mul (x, x)
            r = Mul (p, w)
        }>""", {"x": X34, "w": X34 + 1}),
    "a branch that changes the shape": ("""c = Cast <to = 9> (yes)
        o = If (c) <then_branch = t () => (double[m,4] r) {
            r = Concat <axis = 0> (x, w)
        }, else_branch = e () => (double[m,4] r) {
            r = Mul (x, w)
        }>
        y = Mul (o, o)""", {"x": X34, "w": X34 + 1, "yes": np.asarray(np.int64(1))}),
} | {op.lower(): (f"y = {op} (x)", {"x": {"Acosh": POSITIVE + 1, "Log": POSITIVE, "Sqrt": POSITIVE}.get(op, INSIDE)}) for op in (
    "Abs Neg Exp Log Sqrt Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf Sigmoid Relu LeakyRelu Elu Selu "
    "Softplus Softsign HardSigmoid Floor Round Sign").split()}

# onnx.reference computes these in single precision
EXACT = {"erf": lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)}

BAD = {
    "y = Cast <to = 7> (x)": "not of a float type",
    """n = Constant <value_int = 3> ()
        y = Loop (n, , x) <body = b (int64 i, bool c, double[3,4] h) => (bool c2, double[3,4] h2) {
            c2 = Identity (c)
            r = RandomNormalLike (h)
            h2 = Mul (h, r)
        }>""": "gradient through random numbers in a loop of Loop",
    """n = Constant <value_int = 3> ()
        s = SequenceConstruct (x)
        l = Loop (n, , s) <body = b (int64 i, bool c, seq(double[3,4]) h) => (bool c2, seq(double[3,4]) h2) {
            c2 = Identity (c)
            h2 = SequenceInsert (h, x)
        }>
        y = ConcatFromSequence <axis = 0> (l)""": "gradient through a list of ConcatFromSequence",
    """n = Constant <value_int = 3> ()
        s = SequenceConstruct (x)
        y, l = Loop (n, , x, s) <body = b (int64 i, bool c, double[3,4] h, seq(double[3,4]) q) => (bool c2, double[3,4] h2, seq(double[3,4]) q2) {
            c2 = Identity (c)
            k = SequenceAt (q, i)
            h2 = Mul (h, k)
            q2 = SequenceInsert (q, h2)
        }>""": "gradient through lists that a loop carries of Loop",
}


def head(nodes): return HEAD % max([17] + [v for text, v in NEWER.items() if text in nodes])


def kind(x):
    return "int64" if x.dtype == np.int64 else "double"


def model(nodes, feeds, symbolic, by):
    size = lambda n, d: f"{n}{d}" if symbolic else str(feeds[n].shape[d])
    shape = lambda sizes: f"[{','.join(sizes)}]" if sizes else ""
    inputs = ", ".join(f"{kind(x)}{shape([size(n, d) for d in range(x.ndim)])} {n}" for n, x in feeds.items())
    outputs = ", ".join(f"double{shape([f'{n}{d}' for d in range(feeds[n].ndim)])} d_{n}" for n in by)
    zs = [n for n in feeds if n not in by]
    names = lambda v: "[" + ", ".join(f'"{n}"' for n in v) + "]"
    more = f", zs = {names(zs)}" if zs else ""
    text = f"""{head(nodes)}g ({inputs}) => ({outputs}) {{
        {nodes}
        {", ".join(f"d_{n}" for n in by)} = ai.onnx.preview.training.Gradient <xs = {names(by)}, y = "y"{more}> ({", ".join([*by, *zs])})
    }}"""
    return onnx.parser.parse_model(text)


def value(nodes, feeds):
    """sum(y) as a function of the feeds, by onnx.reference; by ONNX Runtime where there are bodies: the other one's loops want a condition."""
    inputs = ", ".join(f"{kind(x)}[{','.join(map(str, x.shape))}] {n}" if x.ndim else f"{kind(x)} {n}" for n, x in feeds.items())
    whole = onnx.parser.parse_model(f"{head(nodes)}g ({inputs}) => (double y) {{\n{nodes}\n}}")
    whole.graph.output[0].type.tensor_type.ClearField("shape")
    bodies = any(a.HasField("g") for n in whole.graph.node for a in n.attribute)
    run = ort.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"]) if bodies else ReferenceEvaluator(whole)
    return lambda v: float(np.sum(run.run(None, v)[0], dtype=np.float64))


def differences(nodes, feeds, by, step=1e-6):
    f, out = value(nodes, feeds), []
    for name in by:
        d = np.zeros_like(feeds[name])
        for at in np.ndindex(d.shape):
            near = []
            for sign in (1, -1):
                x = np.array(feeds[name])
                x[at] += sign * step
                near.append(f({**feeds, name: x}))
            d[at] = (near[0] - near[1]) / (2 * step)
        out.append(d)
    return out


def evaluated(command, path, feeds, by, folder):
    args = [command, path, "--eval"]
    for n, x in feeds.items():
        np.save(f"{folder}/{n}.npy", x)
        args += ["--input", f"{n}={folder}/{n}.npy"]
    for n in by:
        args += ["--output", f"d_{n}={folder}/d_{n}.npy"]
    subprocess.run(args, check=True, capture_output=True)
    return [np.load(f"{folder}/d_{n}.npy") for n in by]


def check(command, name, folder, kinds):
    """What is wrong, or None. kinds: of sizes, symbolic (True) or fixed, in turn, until symbolic ones did."""
    nodes, feeds = CASES[name]
    by = [n for n, x in feeds.items() if x.dtype == np.float64]
    want = [EXACT[name](**feeds)] if name in EXACT else differences(nodes, feeds, by)
    for symbolic in kinds:
        path, so = f"{folder}/m.onnx", f"{folder}/{name.replace(' ', '_')}{symbolic}.so"
        onnx.save(model(nodes, feeds, symbolic, by), path)
        done = subprocess.run([command, path, "-o", so], capture_output=True, text=True)
        if done.returncode and symbolic and "only the run decides" in done.stderr:
            continue            # whether an axis is broadcast must be known
        if done.returncode:
            return done.stderr.strip()
        with accelc.load(so).session(threads=2) as session:
            got = list(session.run(feeds).values())
        for how, result in (("compiled", got), ("evaluated", evaluated(command, path, feeds, by, folder))):
            for n, w, v in zip(by, want, result):
                if w.shape != v.shape or not np.allclose(w, v, rtol=1e-4, atol=1e-5):
                    return f"{how}, {'symbolic' if symbolic else 'fixed'}, by {n}:\n{v}\ninstead of\n{w}"
        if symbolic:
            break
    return None


def check_second(command, folder):
    """The gradient of a gradient: (x^3)'' = 6 x; a gradient at another point than the graph's own."""
    text = f"""{HEAD % 17}g (double[N] x, double[N] p) => (double[N] e, double[N] f) {{
        t = Mul (x, x)
        o = Mul (t, x)
        d = ai.onnx.preview.training.Gradient <xs = ["x"], y = "o"> (x)
        e = ai.onnx.preview.training.Gradient <xs = ["x"], y = "d"> (x)
        f = ai.onnx.preview.training.Gradient <xs = ["t"], zs = ["x"], y = "o"> (t, p)
    }}"""
    got = run_text(command, folder, text, {"x": X5, "p": X5 + 1})
    return None if np.allclose(got["e"], 6 * X5) and np.allclose(got["f"], X5 + 1) else f"{got}"


def run_text(command, folder, text, feeds):
    onnx.save(onnx.parser.parse_model(text), f"{folder}/second.onnx")
    subprocess.run([command, f"{folder}/second.onnx", "-o", f"{folder}/second.so"], check=True, capture_output=True)
    with accelc.load(f"{folder}/second.so").session() as session:
        return session.run(feeds)


def check_second_of_folds(command, folder):
    """The gradient of a product is a fold of two numbers that depend on each other: its own gradient against differences of it."""
    x = np.float64([[1.5, -2, 0.5, 3], [1, 0, 2, -1]])
    for fold in ("o = CumProd (x, i)", "o = CumProd <reverse = 1, exclusive = 1> (x, i)", "o = ReduceProd (x)"):
        text = f"""{HEAD % 26}g (double[N, M] x) => (double[N, M] d, double[N, M] e) {{
            i = Constant <value_int = 1> ()
            {fold}
            d = ai.onnx.preview.training.Gradient <xs = ["x"], y = "o"> (x)
            e = ai.onnx.preview.training.Gradient <xs = ["x"], y = "d"> (x)
        }}"""
        got, want = run_text(command, folder, text, {"x": x}), np.zeros_like(x)
        for at in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[at] = 1e-5
            with accelc.load(f"{folder}/second.so").session() as session:
                up, down = (session.run({"x": x + s})["d"].sum() for s in (step, -step))
            want[at] = (up - down) / 2e-5
        if not np.allclose(got["e"], want, rtol=1e-6, atol=1e-6):
            return f"{fold}: {got['e']} instead of {want}"
    return None


def main():
    command, named, failed = sys.argv[1], [a for a in sys.argv[2:] if a != "--all"], 0
    chosen = named or list(CASES)[::1 if "--all" in sys.argv else 2]
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(chosen):
            kinds = (False, True) if named else (True, False) if i % 2 else (False,)
            try:
                wrong = check(command, name, folder, kinds)
            except subprocess.CalledProcessError as e:
                wrong = e.stderr.decode()
            if wrong:
                failed += 1
                print(f"FAILED {name}: {wrong}")
        wrong = check_second(command, folder)
        wrong = wrong or check_second_of_folds(command, folder)
        if wrong:
            failed += 1
            print(f"FAILED second: {wrong}")
        for nodes, text in BAD.items() if not named else ():
            feeds = {"x": X34}
            onnx.save(model(nodes, feeds, False, ["x"]), f"{folder}/bad.onnx")
            done = subprocess.run([command, f"{folder}/bad.onnx", "-o", os.devnull], capture_output=True, text=True)
            if done.returncode != 1 or text not in done.stderr:
                failed += 1
                print(f"FAILED {nodes}: {done.stderr}")
    print(f"{len(chosen) + (0 if named else len(BAD)) + 1 - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
