"""Graphs of several nodes that were wrong together, where each node alone is right (most of them found by fuzz.py --only Chain)."""
import numpy as np
from onnx import helper
from op_test import Body, Graph, f32, ints, special


def cases(rng):
    x = f32(rng, 17, 17)
    # a product over no elements whose result is stored twice, in two orders
    yield Graph([x, f32(rng, 0, 17), *map(np.array, ([6], [6], [1]))],
                [("Slice", ["x0", "x2", "x3", "x4"], ["cut"], {}), ("MatMul", ["cut", "x1"], ["y"], {}), ("Sin", ["y"], ["s"], {}),
                 ("Transpose", ["s"], ["z"], {"perm": [1, 0]})], ["y", "z"], const=(2, 3, 4))
    # both extremes of a tensor, also of one that a kernel makes for them, and with NaN
    whole = [ints(rng, 5, 77, low=-90, high=90, dtype=k) for k in (np.int8, np.int32, np.int64)]
    for x in (f32(rng, 7, 331), special(rng, 3, 45), f32(rng, 1000).astype(np.float16), *whole):
        with np.errstate(all="ignore"):
            wide = np.abs(x)
            yield Graph([x], [("ReduceMax", ["x0"], ["hi"], {"keepdims": 0}), ("ReduceMin", ["x0"], ["lo"], {"keepdims": 0}),
                              ("Abs", ["x0"], ["a"], {}), ("ReduceMin", ["a"], ["la"], {}), ("ReduceMax", ["a"], ["ha"], {}),
                              ("Sub", ["hi", "lo"], ["range"], {})], ["hi", "lo", "la", "ha", "range"], opset=18,
                        dynamic=x.dtype == np.float32 and len(x) > 3,
                        oracle=[x.max(), x.min(), wide.min(keepdims=True), wide.max(keepdims=True), x.max() - x.min()])
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
    # a truncated quotient of sizes that stands before the convolution that says that it is not negative, and one that may be -1
    nodes = [("Shape", ["x0"], ["s"], {"start": 2}), ("Sub", ["s", "x1"], ["d"], {}), ("Div", ["d", "x2"], ["q"], {})]
    left = nodes + [("Conv", ["x0", "x3"], ["c"], {"strides": [8]}), ("MaxPool", ["c"], ["p"], {"kernel_shape": [2]}),
                    ("Concat", ["x4", "q"], ["to"], {"axis": 0}), ("Reshape", ["p", "to"], ["y"], {})]
    rest = nodes + [("Concat", ["x4", "q"], ["to"], {"axis": 0}), ("Reshape", ["x3", "to"], ["y"], {})]
    for t, size in ((25, 2), (20, 1), (1, -1)):
        if size > 0:
            yield Graph([f32(rng, 3, 1, t), np.array([9]), np.array([8]), f32(rng, 1, 1, 9), np.array([3])], left, ["y"], const=(1, 2, 3, 4),
                        dynamic={0: ["n", 1, "t"]})
        yield Graph([f32(rng, 3, 1, t), np.array([9]), np.array([8]), f32(rng, 6), np.array([6 // abs(size)])], rest, ["y"], const=(1, 2),
                    dynamic={0: ["n", 1, "t"]})
    # a size that only a branch, or the last trip, tells, and that a product fixes
    then, other = (Body([], [("Identity", [x], [x + "_"], {})], [(x + "_", 1)]) for x in ("x1", "x2"))
    nodes = [("If", ["x0"], ["t"], {"then_branch": then, "else_branch": other}), ("MatMul", ["t", "x3"], ["y"], {})]
    for which in (True, False):
        yield Graph([np.array(which), f32(rng, 2, 5), f32(rng, 2, 5 if which else 4), f32(rng, 5 if which else 4, 3)], nodes, ["y", "t"],
                    dynamic={0: [], 1: [2, "n"], 2: [2, "m"], 3: ["k", 3]})
    yield Graph([np.array(False), f32(rng, 2, 5), f32(rng, 2, 4), f32(rng, 5, 3)], nodes, ["y"], dynamic={0: [], 1: [2, "n"], 2: [2, "m"], 3: [5, 3]},
                error="inner sizes")
    # what is made before a branch or the elements tell the size of the concat that it is a part of
    again = Body([], [("Abs", ["n"], ["n_"], {})], [("n_", 1)])
    nodes = [("Neg", ["x1"], ["n"], {}), ("If", ["x0"], ["t"], {"then_branch": again, "else_branch": other}),
             ("Concat", ["n", "t", "n"], ["y"], {"axis": 1})]
    for which in (True, False):
        yield Graph([np.array(which), f32(rng, 2, 5), f32(rng, 2, 4)], nodes, ["y"], dynamic={0: [], 1: [2, "n"], 2: [2, "m"]})
    yield Graph([np.array([[0, 1, 2, 0, 3]], np.float32), np.array([1]), np.array([2])],
                [("Mul", ["x0", "x0"], ["s"], {}), ("Cast", ["s"], ["c"], {"to": 7}), ("NonZero", ["s"], ["at"], {}),
                 ("Slice", ["at", "x1", "x2"], ["last"], {}), ("Concat", ["c", "last"], ["y"], {"axis": 1})],
                ["y"], const=(1, 2), dynamic={0: [1, "n"]})
    longer = Body([("i", 7, ()), ("go", 9, ()), ("v", 1)],
                  [("Identity", ["go"], ["on"], {}), ("Concat", ["v", "x1"], ["w"], {"axis": 1}), ("Add", ["x1", "x1"], ["z"], {})],
                  [("on", 9, ()), ("w", 1), ("z", 1)])
    yield Graph([np.array(3), f32(rng, 2, 4), f32(rng, 16, 3), f32(rng, 3, 4, 2)],
                [("Loop", ["x0", "", "x1"], ["t", "s"], {"body": longer}), ("MatMul", ["t", "x2"], ["y"], {}), ("MatMul", ["s", "x3"], ["z"], {})],
                ["y", "z"], dynamic={0: [], 1: [2, "n"], 2: ["k", 3], 3: ["b", "m", 2]})
    # nodes that have read such a result before the product
    yield Graph([np.array(3), f32(rng, 2, 4), f32(rng, 3, 5)],
                [("Loop", ["x0", "", "x1"], ["t", "s"], {"body": longer}), ("Concat", ["s", "s"], ["u"], {"axis": 2}),
                 ("Sin", ["u"], ["v"], {}), ("Transpose", ["v"], ["w"], {"perm": [1, 2, 0]}), ("MatMul", ["w", "x2"], ["y"], {})],
                ["u", "y"], dynamic={0: [], 1: [2, "n"]})
    # few trips, each of which adds an axis to what it was given
    stack = Body([("i", 7, ()), ("go", 9, ()), ("v", 1)],
                 [("Cast", ["go"], ["g"], {"to": 9}), ("Identity", ["g"], ["on"], {}), ("Unsqueeze", ["v", "x2"], ["u"], {}),
                  ("Cast", ["i"], ["f"], {"to": 1}), ("Add", ["u", "f"], ["t"], {}), ("Concat", ["u", "t", "u"], ["w"], {"axis": 0}),
                  ("Mul", ["f", "f"], ["z"], {})], [("on", 9, ()), ("w", 1), ("z", 1)])
    for trips in (1, 4):
        yield Graph([np.array(trips), f32(rng, 2, 4), np.array([0])], [("Loop", ["x0", "", "x1"], ["y", "s"], {"body": stack})], ["y", "s"],
                    const=(0, 2), dynamic={1: [2, "n"]})
    # no trip at all, and a loop inside whose first time is none
    inner = Body([("i", 7, ()), ("go", 9, ()), ("v", 1)], [("Identity", ["go"], ["on"], {}), ("Unsqueeze", ["v", "x2"], ["u"], {})],
                 [("on", 9, ()), ("u", 1)])
    outer = Body([("i", 7, ()), ("go", 9, ()), ("v", 1)], [("Identity", ["go"], ["on"], {}), ("Loop", ["i", "", "v"], ["w"], {"body": inner})],
                 [("on", 9, ()), ("w", 1)])
    for trips, body in ((3, outer), (0, inner)):
        yield Graph([np.array(trips), f32(rng, 2, 4), np.array([0])], [("Loop", ["x0", "", "x1"], ["y"], {"body": body})], ["y"], const=(0, 2),
                    oracle=lambda n, x, axis: [x.reshape((1,) * int(n) + x.shape)])
    # parts of one size, as many as the run has numbers: one of them is a shape
    yield Graph([np.array([2, 4]), np.array(1), np.array([5]), f32(rng, 1, 1), np.array([-1])],
                [("Shape", ["x0"], ["n"], {}), ("ConstantOfShape", ["n"], ["ones"], {"value": helper.make_tensor("", 7, [1], [1])}),
                 ("SplitToSequence", ["x0", "ones"], ["parts"], {}), ("SequenceAt", ["parts", "x1"], ["part"], {}),
                 ("Concat", ["x2", "part"], ["to"], {"axis": 0}), ("Expand", ["x3", "to"], ["e"], {}), ("Reshape", ["e", "x4"], ["y"], {})],
                ["y"], const=(1, 2, 4), dynamic={0: ["n"]})
    # a size that a call finds, and that the parts of it fix
    yield Graph([np.array([2, 7, 2, 1]), np.array([1, 2])], [("Unique", ["x0"], ["u"], {}), ("Split", ["u", "x1"], ["y", "z"], {})], ["y", "z"],
                const=(1,), dynamic={0: ["n"]})
    yield Graph([f32(rng, 0, 5, 4), f32(rng, 0, 1, 5), np.array([0, 0])],
                [("NonMaxSuppression", ["x0", "x1"], ["u"], {}), ("Split", ["u", "x2"], ["y", "z"], {})], ["y", "z"],
                const=(2,), dynamic={0: ["b", "n", 4], 1: ["b", 1, "n"]})
    # a size that a guard checks and that others cannot be told by
    yield Graph([f32(rng, 1), f32(rng, 1), np.array([0]), f32(rng, 1, 3)],
                [("Add", ["x0", "x1"], ["s"], {}), ("Unsqueeze", ["s", "x2"], ["p"], {}), ("Unsqueeze", ["x1", "x2"], ["q"], {}),
                 ("Concat", ["p", "q"], ["y"], {"axis": 0}), ("MatMul", ["q", "x3"], ["z"], {})], ["y", "z"], const=(2,),
                dynamic={0: ["a"], 1: ["b"], 3: [1, 3]})
    # halves that cannot be NaN
    yield Graph([f32(rng, 1, scale=9, dtype=np.float16)],
                [("Cast", ["x0"], ["i"], {"to": 6}), ("Cast", ["i"], ["h"], {"to": 10}), ("Relu", ["h"], ["y"], {})], ["y", "h"],
                oracle=lambda x: [np.maximum(np.trunc(x), 0), np.trunc(x)])
    # pixels that are put together of rows in turn, in vectors that others share with them
    for n, w in ((2, 70), (3, 33), (4, 40), (2, 9)):
        yield Graph([f32(rng, 1, n * n, 3, w), f32(rng, 1, 1, 3 * n, w * n)],
                    [("DepthToSpace", ["x0"], ["p"], {"blocksize": n}), ("Add", ["p", "x1"], ["y"], {})], ["y"])
    # relative positions turned to absolute ones by padding and reshaping, behind heads that -1 folds away: sizes stay short enough to write down
    nodes = [("Shape", ["x0"], ["b"], {"end": 1}), ("Shape", ["x0"], ["s"], {"start": 2, "end": 3}), ("Mul", ["b", "x2"], ["n"], {}),
             ("Concat", ["n", "x4", "x3"], ["to"], {"axis": 0}), ("Reshape", ["x0", "to"], ["h"], {}),
             ("Shape", ["h"], ["l"], {"start": 1, "end": 2}),
             ("Add", ["l", "l"], ["l2"], {}), ("Sub", ["l2", "x1"], ["w"], {}), ("Sub", ["w", "x3"], ["more"], {}), ("Sub", ["l", "x1"], ["l_"], {}),
             ("Add", ["l", "x1"], ["l1"], {}), ("Mul", ["l2", "l"], ["area"], {}), ("Concat", ["x5", "more"], ["p"], {"axis": 0}),
             ("Pad", ["h", "p"], ["rel"], {}), ("Pad", ["rel", "x6"], ["r1"], {}), ("Concat", ["n", "area"], ["flat"], {"axis": 0}),
             ("Reshape", ["r1", "flat"], ["r2"], {}), ("Concat", ["x7", "l_"], ["q"], {"axis": 0}), ("Pad", ["r2", "q"], ["r3"], {}),
             ("Concat", ["n", "l1", "w"], ["back"], {"axis": 0}), ("Reshape", ["r3", "back"], ["r4"], {}),
             ("Slice", ["r4", "x8", "l", "x1"], ["r5"], {}),
             ("Slice", ["r5", "l_", "x9", "x2"], ["r6"], {}), ("Transpose", ["h"], ["t"], {"perm": [0, 2, 1]}),
             ("MatMul", ["h", "t"], ["score"], {}), ("Add", ["score", "r6"], ["y"], {})]
    for b, length in ((2, 5), (1, 7)):
        yield Graph([f32(rng, b, 2, length, 4), *map(np.array, ([1], [2], [4], [-1], [0] * 5, [0] * 5 + [1], [0] * 3, [0], [1 << 62]))], nodes, ["y"],
                    const=tuple(range(1, 10)), dynamic={0: ["b", 2, "s", 4]})
    # channels that only the run can tell: whether they fit the weights is seen then
    for more in (0, 3):
        yield Graph([f32(rng, 2, 8, 9), np.array([0, more, 1, 0, 0, 1]), f32(rng, 16, 8, 3)],
                    [("Pad", ["x0", "x1"], ["p"], {}), ("Conv", ["p", "x2"], ["c"], {}), ("Relu", ["c"], ["y"], {})], ["y"], const=(2,),
                    error="channel" if more else None)
    # pads of which one is computed and the others are known, in the order in which exporters bring them
    for t in (9, 12):
        sizes = map(np.array, ([2], [0] * 4, [-1, 2], [-1], [-(1 << 62)], [0]))
        yield Graph([f32(rng, 2, 8, t), *sizes, f32(rng, 16, 8, 3), np.float32(4), np.array(2)],
                    [("Shape", ["x0"], ["s"], {}), ("Gather", ["s", "x9"], ["n"], {}), ("Cast", ["n"], ["f"], {"to": 1}),
                     ("Div", ["f", "x8"], ["q"], {}),
                     ("Ceil", ["q"], ["u"], {}), ("Cast", ["u"], ["i"], {"to": 7}), ("Unsqueeze", ["i", "x6"], ["more"], {}),
                     ("Concat", ["x1", "more", "x2"], ["by"], {"axis": 0}), ("Reshape", ["by", "x3"], ["pairs"], {}),
                     ("Slice", ["pairs", "x4", "x5", "x6", "x4"], ["turned"], {}), ("Transpose", ["turned"], ["lo_hi"], {"perm": [1, 0]}),
                     ("Reshape", ["lo_hi", "x4"], ["pads"], {}), ("Pad", ["x0", "pads"], ["p"], {"mode": "reflect"}),
                     ("Conv", ["p", "x7"], ["y"], {}),
                     ("Add", ["y", "y"], ["z"], {})], ["z"], const=tuple(range(1, 10)), dynamic={0: ["b", 8, "t"]})
