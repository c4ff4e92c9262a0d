#!/usr/bin/env python3
"""Operators without a case in the official suite: random numbers and GlobalLpPool, evaluated and compiled.

    random_ops.py ACCELC

Random values follow from seed and index alone (IR.md, "random"): they are computed here once more, from the definition of
Philox4x32-10. Without a seed they follow from that of the session, and every run has its own.
"""
import os
import subprocess
import sys
import tempfile

import accelc
import numpy as np
from onnx import TensorProto, helper

T = TensorProto
NP = {T.FLOAT: np.float32, T.DOUBLE: np.float64, T.FLOAT16: np.float16, T.INT32: np.int32, T.INT64: np.int64}


def philox(count, seed):
    """64 bits for each of `count` elements, of stream 0 and run 0."""
    mask, out = 0xFFFFFFFF, []
    for block in range((count + 1) // 2):
        c, k = [block & mask, block >> 32, 0, 0], [seed & mask, seed >> 32]
        for _ in range(10):
            p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [q >> 32 ^ c[1] ^ k[0], q & mask, p >> 32 ^ c[3] ^ k[1], p & mask]
            k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
        out += [c[1] << 32 | c[0], c[3] << 32 | c[2]]
    return np.array(out[:count], np.uint64)


def unit(shape, seed, kind=T.FLOAT):
    bits = philox(int(np.prod(shape)), seed)
    u = (bits >> 11) * 2.0**-53 if kind == T.DOUBLE else (bits & 0xFFFFFFFF).astype(np.int64) // 256 * 2.0**-24
    return u.reshape(shape)


def normal(shape, seed):
    bits = philox(int(np.prod(shape)), seed)
    u, v = ((bits & 0xFFFFFFFF) + 1.0) * 2.0**-32, (bits >> 32) * 2.0**-32
    return (np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)).reshape(shape)


def gumbel(x, n, seed):
    u = unit((x.shape[0], n, x.shape[1]), seed)
    return (x[:, None, :] - np.log(-np.log(np.maximum(u, 2.0**-30)))).argmax(axis=2)


class Case:
    """One node, its results by the evaluator and, if it is given a seed, by compiled code."""

    def __init__(self, folder, command, op, x=None, out=T.FLOAT, opset=22, **attributes):
        self.command, self.feeds = command, {} if x is None else {"x": x}
        node = helper.make_node(op, list(self.feeds), ["y"], **attributes)
        kinds = {np.dtype(v): k for k, v in NP.items()}
        graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", kinds[v.dtype], list(v.shape))
                                                for v in self.feeds.values()],
                                  [helper.make_tensor_value_info("y", out, None)])
        self.path, self.npy = os.path.join(folder, "m.onnx"), os.path.join(folder, "%s.npy")
        with open(self.path, "wb") as f:
            f.write(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString())

    def evaluate(self, *options):
        args = [self.command, self.path, "--eval", *options, "--output", "y=" + self.npy % "y"]
        for name, v in self.feeds.items():
            np.save(self.npy % name, v)
            args += ["--input", f"{name}={self.npy % name}"]
        subprocess.run(args, check=True)
        return np.load(self.npy % "y")

    def session(self, **config):
        so = self.path[:-4] + f"{id(self)}.so"
        accelc.compile(self.path, so)
        return accelc.load(so).session(**config)

    def check(self, want, rtol=0.0):
        """Against numbers in double; rtol 0: they are rounded once and then equal in every bit."""
        for how, y in (("evaluated", self.evaluate()), ("compiled", self.session(threads=2).run(self.feeds)["y"])):
            np.testing.assert_allclose(y, want.astype(y.dtype), rtol=rtol, atol=rtol, err_msg=f"{how}: {self.path}")


def main():
    command = os.path.abspath(sys.argv[1])
    x = np.random.default_rng(1).standard_normal((3, 5, 4)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        def case(*args, **more):
            return Case(folder, command, *args, **more)

        for kind in (T.FLOAT, T.DOUBLE, T.FLOAT16):
            tolerance = 2e-3 if kind == T.FLOAT16 else 2e-6
            case("RandomUniform", out=kind, dtype=kind, shape=[7, 3], seed=5.0).check(unit((7, 3), 5, kind), tolerance)
            case("RandomNormal", out=kind, dtype=kind, shape=[9, 5], seed=70.0, mean=1.0, scale=2.0).check(
                1 + 2 * normal((9, 5), 70), tolerance)
        case("RandomUniform", shape=[1001], seed=3.0).check(unit((1001,), 3))
        case("RandomUniformLike", x, seed=9.0, low=-2.0, high=6.0).check(-2 + 8 * unit(x.shape, 9), 2e-6)
        case("RandomUniformLike", x.astype(np.int64), dtype=T.FLOAT, seed=9.0).check(unit(x.shape, 9))
        case("RandomNormalLike", x, seed=11.0).check(normal(x.shape, 11), 2e-6)
        case("RandomNormalLike", x, T.DOUBLE, dtype=T.DOUBLE, seed=11.0).check(normal(x.shape, 11), 2e-6)
        for kind in (T.INT32, T.INT64):
            case("Multinomial", x[0], kind, dtype=kind, sample_size=40, seed=13.0).check(gumbel(x[0], 40, 13))
        p = np.array([[0.1, 0.6, 0.3]])
        counts = np.bincount(case("Multinomial", np.log(p), T.INT32, sample_size=20000).evaluate()[0], minlength=3)
        np.testing.assert_allclose(counts / 20000, p[0], atol=0.015)

        for op in ("RandomUniform", "RandomNormal"):    # without a seed of their own
            c = case(op, shape=[100])
            a, b = c.evaluate("--seed=1"), c.evaluate("--seed=2")
            assert (a == c.evaluate("--seed=1")).all() and (a != b).any(), op
            s, t = c.session(seed=1), c.session(seed=1, threads=3)
            first, second = s.run({})["y"], s.run({})["y"]
            assert (first != second).any(), f"{op}: two runs, the same values"
            np.testing.assert_allclose(first, a, rtol=2e-6, atol=2e-6, err_msg=op)
            assert (t.run({})["y"] == first).all() and (t.run({})["y"] == second).all(), f"{op}: depends on threads"

        image = np.abs(x).reshape(1, 3, 5, 4)
        for p in (1, 2, 3):
            want = (image.astype(np.float64)**p).sum(axis=(2, 3), keepdims=True)**(1 / p)
            case("GlobalLpPool", image, p=p).check(want, 2e-6)
            case("GlobalLpPool", -image, opset=1, p=float(p)).check(want, 2e-6)
    print("random numbers by definition, evaluated and compiled; GlobalLpPool")


if __name__ == "__main__":
    main()
