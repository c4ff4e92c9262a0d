"""Graphs of several nodes that were wrong together, where each node alone is right (most of them found by fuzz.py --only Chain)."""
import numpy as np
from op_test import Graph, f32


def cases(rng):
    x = f32(rng, 17, 17)
    # a product over no elements whose result is stored twice, in two orders
    yield Graph([x, f32(rng, 0, 17), *map(np.array, ([6], [6], [1]))],
                [("Slice", ["x0", "x2", "x3", "x4"], ["cut"], {}), ("MatMul", ["cut", "x1"], ["y"], {}), ("Sin", ["y"], ["s"], {}),
                 ("Transpose", ["s"], ["z"], {"perm": [1, 0]})], ["y", "z"], const=(2, 3, 4))
    # what follows from a sum beside what follows from nothing
    yield Graph([f32(rng, 5, 17), np.array([1])],
                [("ReduceSum", ["x0", "x1"], ["s"], {"keepdims": 0}), ("Abs", ["s"], ["a"], {}), ("Less", ["a", "a"], ["no"], {}),
                 ("Relu", ["a"], ["y"], {})], ["a", "no", "y"], const=(1,), dynamic={0: ["n", 17]})
    # results of convolutions brought to their own shapes, whose sizes are expressions that could be negative
    nodes, v = [("Unsqueeze", ["x0", "x1"], ["v0"], {})], "v0"
    for i in range(6):
        nodes += [("Conv", [v, "x2"], [f"c{i}"], {"strides": [2]}), ("Shape", [f"c{i}"], [f"s{i}"], {}), ("Relu", [f"c{i}"], [f"r{i}"], {}),
                  ("Reshape", [f"r{i}", f"s{i}"], [f"v{i + 1}"], {})]
        v = f"v{i + 1}"
    yield Graph([f32(rng, 2, 300), np.array([1]), f32(rng, 1, 1, 3)], nodes, [v], const=(1, 2), dynamic={0: ["n", "t"]})
