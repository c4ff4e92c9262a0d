#!/usr/bin/env python3
"""Quantised layers as exporters write them, DequantizeLinear -> Conv or MatMul -> .. -> QuantizeLinear, each layer at two of the CPU
levels in turn, against NumPy in double precision: quantised results may be off by one step where the exact value lies next to a tie,
and nowhere else; f32 results within rounding. All numbers of threads and sizes of batches give the same bits.

    test_quant.py ACCELC [--all] [-k SUBSTRING]     every other layer with half of the combinations of types, or all
"""
import itertools
import sys
import tempfile

import accelc
import numpy as np
from onnx import TensorProto, helper, numpy_helper

LEVELS = ("x86-64", "x86-64-v3", "x86-64-v4", "x86-64-v4+vnni", "x86-64-v4+vnni+amx")


class Net:
    """An ONNX graph in the making, and the values that NumPy computes along."""
    def __init__(self, rng):
        self.rng, self.nodes, self.init, self.names = rng, [], [], itertools.count()

    def const(self, x):
        name = f"c{next(self.names)}"
        self.init.append(numpy_helper.from_array(np.asarray(x), name))
        return name

    def node(self, op, inputs, **attrs):
        name = f"v{next(self.names)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attrs))
        return name

    def quantise(self, v, scale, zero):
        return self.node("QuantizeLinear", [v, self.const(np.float32(scale)), self.const(zero)])

    def dequantise(self, v, scale, zero, axis=None):
        return self.node("DequantizeLinear", [v, self.const(np.float32(scale)), self.const(zero)], **({} if axis is None else {"axis": axis}))


def integers(rng, dtype, *shape):
    limit = np.iinfo(dtype)
    return rng.integers(limit.min, limit.max, shape, endpoint=True).astype(dtype)


def weights(rng, dtype, *shape):
    """As wide as the type, or most of them small: then all pairs of products but a few fit into 16 bits."""
    if rng.integers(2):
        return integers(rng, dtype, *shape)
    limit = np.iinfo(dtype)
    w = rng.normal((limit.max + limit.min + 1) / 2, 15, shape)
    return np.clip(np.rint(np.where(rng.random(shape) < 0.01, w * 8, w)), limit.min, limit.max).astype(dtype)


def spread(x, rank, axis):
    return np.reshape(x, [-1 if d == axis else 1 for d in range(rank)]).astype(np.float64) if np.ndim(x) else np.float64(x)


def conv(x, w, stride, pad, group):
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    n, k, per, out = x.shape[0], w.shape[2], w.shape[1], w.shape[0] // group
    h = [(s - k) // stride + 1 for s in x.shape[2:]]
    y = np.zeros((n, w.shape[0], *h))
    for i, j in itertools.product(range(k), range(k)):
        part = x[:, :, i:i + stride * (h[0] - 1) + 1:stride, j:j + stride * (h[1] - 1) + 1:stride]
        for g in range(group):
            y[:, g * out:(g + 1) * out] += np.einsum("nchw,oc->nohw", part[:, g * per:(g + 1) * per], w[g * out:(g + 1) * out, :, i, j])
    return y


def layer(rng, kind, xt, wt, per, shape, end, residual=False, **how):
    """(model, inputs, exact value before the last quantisation, its type or None) of one layer."""
    net = Net(rng)
    x = integers(rng, xt, *shape["x"])
    w = weights(rng, wt, *shape["w"])
    axis = 0 if kind == "Conv" else 1
    n = w.shape[axis]
    sx, zx = np.float32(0.02), integers(rng, xt)[()]
    sw = rng.uniform(0.001, 0.01, n).astype(np.float32) if per else np.float32(0.005)
    zw = np.zeros(n, wt) if per and wt == np.int8 else integers(rng, wt, *([n] if per else []))[()]
    xf = (x.astype(np.float64) - float(zx)) * float(sx)
    wf = (w.astype(np.float64) - spread(zw, w.ndim, axis)) * spread(sw, w.ndim, axis)
    d = net.dequantise("x", sx, zx)
    e = net.dequantise(net.const(w), sw, zw, axis if per else None)
    bias = rng.normal(0, 1, n).astype(np.float32)
    if kind == "Conv":
        k = how["pad"], how["stride"], how.get("group", 1)
        v = net.node("Conv", [d, e, net.const(bias)], pads=[k[0]] * 4, strides=[k[1]] * 2, group=k[2])
        y = conv(xf, wf, k[1], k[0], k[2]) + bias.reshape(1, -1, 1, 1)
    else:
        v = net.node("Add", [net.node("MatMul", [d, e]), net.const(bias)])
        y = xf @ wf + bias
    inputs = {"x": x}
    if residual:
        inputs["r"] = r = integers(rng, xt, *y.shape)
        v = net.node("Add", [v, net.dequantise("r", 0.125, zx)])
        y = y + (r.astype(np.float64) - float(zx)) * 0.125
    if end.startswith("relu"):
        v, y = net.node("Relu", [v]), np.maximum(y, 0)
    if end.endswith("q"):
        sy = np.float32(max(np.abs(y).max(), 1e-3) / 100 if y.size else 1)
        zy = integers(rng, xt)[()]
        v, y, t = net.quantise(v, sy, zy), y / float(sy), zy
    else:
        t = None
    net.nodes.append(helper.make_node("Identity", [v], ["y"]))
    ports = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), ["batch", *a.shape[1:]]) for k, a in inputs.items()]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT if t is None else helper.np_dtype_to_tensor_dtype(np.dtype(xt)), None)
    graph = helper.make_graph(net.nodes, "layer", ports, [out], net.init)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]), inputs, y, t


def wrong(got, exact, zero):
    if zero is None:
        bad = np.abs(got - exact) > 2e-5 * (np.abs(exact) + (exact.std() if exact.size else 0))
        return f"{bad.sum()} of {bad.size} values are off" if bad.any() else None
    limit = np.iinfo(got.dtype)
    want = np.clip(np.rint(exact) + float(zero), limit.min, limit.max)
    off = got.astype(np.float64) != want
    tie = np.abs(exact - np.floor(exact) - 0.5) < 2e-4
    return f"{(off & ~tie).sum()} of {off.size} values are off, not at ties" if (off & ~tie).any() or (np.abs(got - want) > 1).any() else None


def cases(rng, every):
    convs = [({"x": (2, 3, 11, 12), "w": (20, 3, 3, 3)}, {"pad": 1, "stride": 2}),
             ({"x": (1, 64, 9, 9), "w": (64, 64, 1, 1)}, {"pad": 0, "stride": 1}),
             ({"x": (1, 64, 6, 18), "w": (128, 64, 3, 3)}, {"pad": 1, "stride": 1}),
             ({"x": (1, 3, 15, 17), "w": (64, 3, 7, 7)}, {"pad": 3, "stride": 2}),
             ({"x": (1, 24, 7, 5), "w": (24, 1, 3, 3)}, {"pad": 1, "stride": 1, "group": 24}),
             ({"x": (2, 32, 5, 5), "w": (32, 16, 3, 3)}, {"pad": 1, "stride": 1, "group": 2}),
             ({"x": (0, 16, 4, 4), "w": (16, 16, 1, 1)}, {"pad": 0, "stride": 1})]
    products = [{"x": (5, 64), "w": (64, 40)}, {"x": (37, 192), "w": (192, 33)}, {"x": (1, 30), "w": (30, 7)}, {"x": (2, 19, 128), "w": (128, 48)}]
    types = list(itertools.product((np.uint8, np.int8), (np.int8, np.uint8), (False, True)))

    def some(shape):
        """Four of the eight: any two of the three choices in all combinations, and the other half for the next shape."""
        return [(j, t) for j, t in enumerate(types) if every or (j.bit_count() + shape) % 2 == 0]
    for i, (shape, how) in enumerate(convs):
        for j, (xt, wt, per) in some(i):
            end, residual = ("q", "relu-q", "relu", "")[(i + j) % 4], (i + j) % 3 == 1
            name = f"conv{i} {xt.__name__} {wt.__name__} per={per} {end} residual={residual}"
            yield name, layer(rng, "Conv", xt, wt, per, shape, end, residual, **how)
    for i, shape in enumerate(products):
        for j, (xt, wt, per) in some(i):
            end, residual = ("relu-q", "", "q", "relu")[(i + j) % 4], (i + j) % 3 == 0
            name = f"matmul{i} {xt.__name__} {wt.__name__} per={per} {end} residual={residual}"
            yield name, layer(rng, "MatMul", xt, wt, per, shape, end, residual)


def run(path, level, inputs, threads):
    return accelc.load(path).session(threads=threads, cpu=level).run(inputs)["y"]


def main():
    want = sys.argv[sys.argv.index("-k") + 1] if "-k" in sys.argv else ""
    failed = count = 0
    with tempfile.TemporaryDirectory() as folder:
        every = "--all" in sys.argv
        for i, (name, (model, inputs, exact, zero)) in enumerate(cases(np.random.default_rng(7), every)):
            if want not in name or not (every or want or i % 2):
                continue
            path = f"{folder}/{count}.so"
            levels = [LEVELS[(count + k) % len(LEVELS)] for k in (0, 2)]
            accelc.compile(model, path, "--target", ",".join(levels))
            first = None
            for level in levels:
                try:
                    got = run(path, level, inputs, 1)
                except accelc.Error as e:
                    if "does not have level" not in str(e):
                        raise
                    continue
                why = wrong(got, exact, zero)
                if not why and run(path, level, inputs, 2).tobytes() != got.tobytes():
                    why = "two threads give other bits"
                if not why and zero is not None and first is not None and (got != first).sum() > 1 + got.size // 1000:
                    why = "levels differ"
                first = got if first is None else first
                if why:
                    failed += 1
                    print(f"FAILED {name} at {level}: {why}")
            count += 1
    print(f"{count} layers, {failed} failures")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
