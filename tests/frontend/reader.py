#!/usr/bin/env python3
"""What the reader must accept: every way to store a tensor, functions, scopes, unsorted nodes, texts. Each model is run by
`accelc --eval` and its output compared bit for bit with what numpy or onnx says.

    reader.py ACCELC [PATTERN...] [-v]
"""
import fnmatch
import os
import subprocess
import sys
import tempfile

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

T = TensorProto
DTYPES = {
    T.FLOAT: np.float32, T.UINT8: np.uint8, T.INT8: np.int8, T.UINT16: np.uint16, T.INT16: np.int16, T.INT32: np.int32,
    T.INT64: np.int64, T.BOOL: np.bool_, T.FLOAT16: np.float16, T.DOUBLE: np.float64, T.UINT32: np.uint32,
    T.UINT64: np.uint64, T.BFLOAT16: ml_dtypes.bfloat16, T.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    T.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz, T.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    T.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz, T.UINT4: ml_dtypes.uint4, T.INT4: ml_dtypes.int4,
}
CASES = {}


def model(nodes, inputs, outputs, inits=(), opset=23, ir=11, **more):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(inits))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir, **more)


def info(name, kind=T.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def values(kind, shape):
    rng = np.random.default_rng(kind)
    a = rng.integers(-100 if kind not in (T.UINT8, T.UINT16, T.UINT32, T.UINT64, T.UINT4, T.BOOL) else 0, 100, shape)
    if kind in (T.UINT4, T.INT4):
        a = a % 16 - (8 if kind == T.INT4 else 0)
    return (a % 2 if kind == T.BOOL else a).astype(DTYPES[kind])


def stored(kind, shape, how, folder):
    """(TensorProto, array)"""
    a = values(kind, shape)
    if how == "fields":
        return helper.make_tensor("w", kind, shape, a.flatten().tolist() if a.dtype != object else a), a
    t = numpy_helper.from_array(a, "w")
    assert t.HasField("raw_data")
    if how == "external":
        with open(os.path.join(folder, "w.bin"), "ab") as f:
            f.write(b"#" * (3 if kind % 2 else 8))     # also places that are not aligned
            at = f.tell()
            f.write(t.raw_data)
        t.data_location = T.EXTERNAL
        for k, v in ("location", "w.bin"), ("offset", at), ("length", len(t.raw_data)):
            t.external_data.add(key=k, value=str(v))
        t.ClearField("raw_data")
    return t, a


SHAPES = (3, 5), (), (40, 30), (2, 0), (7,)


def add_storage():
    for kind in DTYPES:
        for how in "raw", "fields", "external":
            def build(folder, kind=kind, how=how):
                nodes, outputs, inits, wants = [], [], [], {}
                for i, shape in enumerate(SHAPES):
                    t, a = stored(kind, shape, how, folder)
                    t.name = f"w{i}"
                    inits += [t, numpy_helper.from_array(np.array([a.size]), f"s{i}")]
                    nodes.append(helper.make_node("Reshape", [f"w{i}", f"s{i}"], [f"y{i}"], allowzero=1))
                    outputs.append(info(f"y{i}", kind, [a.size]))
                    wants[f"y{i}"] = a.flatten()
                return model(nodes, [], outputs, inits), {}, wants
            CASES[f"{how}/{T.DataType.Name(kind).lower()}"] = build


add_storage()
X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2


def text(name, source, inputs, outputs):
    CASES["text/" + name] = lambda folder: (source, inputs, outputs)


HEAD = '<ir_version: 10, opset_import: ["" : 17, "f" : 1]>\n'
text("plain", HEAD + "g (float[N, 3] x) => (float[N, 3] y) { y = Neg(x) }", {"x": X}, {"y": -X})
text("unsorted", HEAD + """g (float[2,3] x) => (float[2,3] y)
{ y = Neg(b)  b = Add(a, x)  a = Relu(x) }""", {"x": X}, {"y": -(np.maximum(X, 0) + X)})
text("default-input", HEAD + """g (float[2,3] x, float[1] w = {2}) => (float[2,3] y) { y = Mul(x, w) }""", {"x": X}, {"y": X * 2})
text("function", HEAD + """g (float[2,3] x) => (float[2,3] y, float[2,3] z)
<float alpha = {100}>
{ y, w = f.Both <slope = 0.5>(x)  z = f.Outer <s = 0.25>(w) }
<domain: "f", opset_import: ["" : 17]>
Both <slope: float = 0.125> (a) => (b, a) { alpha = LeakyRelu <alpha: float = @slope> (a)  b = Add(alpha, a) }
<domain: "f", opset_import: ["" : 17, "f" : 1]>
Outer <s> (q) => (r) { t, u = f.Both <slope: float = @s> (q)  v, o = f.Both (u)  r = Add(t, v) }""", {"x": X},
     {"y": np.where(X < 0, X * np.float32(1.5), X * 2),
      "z": np.where(X < 0, X * np.float32(1.25) + X * np.float32(1.125), X * 4)})
text("scopes", HEAD + """g (float[2,3] x, bool p) => (float[2,3] y)
{ n = Neg(x)
  y = If(p) <then_branch = t () => (float[2,3] u) { n2 = Neg(n)  u = Add(n2, x) },
             else_branch = e () => (float[2,3] u) { u = Mul(n, n) }> }""", {"x": X, "p": np.array(True)}, {"y": X * 2})

# What other frameworks' converters write for a size that they do not know; the sizes of one value need not be one
def unknown_sizes(folder):
    sizes = [-1, "?", "?", "None"]
    m = model([helper.make_node("Transpose", ["x"], ["y"], perm=[3, 1, 0, 2])], [info("x", T.FLOAT, sizes)], [info("y", T.FLOAT, sizes)])
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    return m, {"x": x}, {"y": x.transpose(3, 1, 0, 2)}


CASES["unknown-sizes"] = unknown_sizes
text("declared-shapes", HEAD + """g (float[2,3] x) => (float[3] y, float[2,4] z) { y = Neg(x)  z = Add(x, x) }""", {"x": X}, {"y": -X, "z": X + X})


def sparse(folder):
    m = model([helper.make_node("Add", ["x", "w"], ["y"])], [info("x", T.FLOAT, [2, 3])], [info("y", T.FLOAT, [2, 3])])
    for name, index in ("w", [[0, 1], [1, 2]]),:
        v = helper.make_tensor(name, T.FLOAT, [2], [5, 7])
        m.graph.sparse_initializer.append(helper.make_sparse_tensor(v, numpy_helper.from_array(np.array(index), "i"), [2, 3]))
    return m, {"x": X}, {"y": X + np.array([[0, 5, 0], [0, 0, 7]], np.float32)}


CASES["sparse/coordinates"] = sparse


def run(accelc, build):
    with tempfile.TemporaryDirectory() as folder:
        m, inputs, outputs = build(folder)
        path = os.path.join(folder, "m.onnxtxt" if isinstance(m, str) else "m.onnx")
        with open(path, "wb") as f:
            f.write(m.encode() if isinstance(m, str) else m.SerializeToString())
        args = [accelc, "--eval", path]
        for k, v in inputs.items():
            np.save(f"{folder}/{k}.npy", v)
            args += ["--input", f"{k}={folder}/{k}.npy"]
        for k in outputs:
            args += ["--output", f"{k}={folder}/out_{k}.npy"]
        r = subprocess.run(args, capture_output=True, timeout=60)
        if r.returncode:
            return f"exit status {r.returncode}: {r.stderr.decode(errors='replace')}"
        for k, want in outputs.items():
            got = np.load(f"{folder}/out_{k}.npy")
            if got.dtype.kind == "V" or want.dtype in (ml_dtypes.int4, ml_dtypes.uint4):
                want = want.astype(got.dtype) if got.dtype.kind in "iu" else want.view(got.dtype)
            if got.shape != want.shape or got.tobytes() != want.tobytes():
                return f"{k}: expected {want!r}\ngot {got!r}"
    return None


def main():
    args = [a for a in sys.argv[1:] if a != "-v"]
    names = [n for n in CASES if len(args) < 2 or any(fnmatch.fnmatch(n, f"*{p}*") for p in args[1:])]
    failed = 0
    for n in names:
        wrong = run(os.path.abspath(args[0]), CASES[n])
        failed += wrong is not None
        if wrong or "-v" in sys.argv:
            print(f"{'FAIL' if wrong else 'ok  '} {n}" + (f"\n{wrong}" if wrong else ""))
    print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed or not names else 0


if __name__ == "__main__":
    sys.exit(main())
