"""Operators that move elements: slices, joins, reshapes."""
import numpy as np
from op_test import Case, Graph, f32, i32, strings

FAR = 2**63 - 1


def reference_slice(x, starts, ends, axes, steps):
    cut = [slice(None)] * x.ndim
    for s, e, a, t in zip(starts, ends, axes, steps):
        n = x.shape[a]
        s, e = (v + n if v < 0 else v for v in (s, e))
        s = min(max(s, 0), n - 1 if t < 0 else n)
        e = min(max(e, -1 if t < 0 else 0), n)
        cut[a] = slice(s, None if e < 0 else e, t) if n else slice(0, 0)
    return [x[tuple(cut)]]


def cases(rng):
    for steps in ([-2], [-1], [2], [1]):
        for n in (0, 1, 4, 5):
            for start in (-1, 0, 3, -100, 100):
                ends = [-FAR if steps[0] < 0 else FAR]
                for const, dynamic in (((1, 2, 3, 4), False), ((1, 2, 3, 4), True), ((1, 2, 3), True), ((), True)):
                    yield Case("Slice", [f32(rng, 2, n), *(np.array(v, np.int64) for v in ([start], ends, [1], steps))], opset=13,
                               oracle=reference_slice, const=const, dynamic=dynamic)
    for width, times in ((1, 40), (3, 31), (7, 9), (16, 5), (17, 4)):       # rows of a few elements, again and again; each element several times
        for x in (f32(rng, 3, width), i32(rng, 3, width)):
            for dynamic in (False, True):
                yield Case("Tile", [x, np.array([2, times])], const=(1,), dynamic=dynamic, oracle=lambda x, n: [np.tile(x, n)], tol=0)
            yield Case("Resize", [x.astype(np.float32)[None, None], None, np.array([1, 1, 2, times], np.float32)],
                       {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
                       const=(2,), dynamic=x.dtype == np.int32,
                       oracle=lambda x, _, scales: [x.repeat(int(scales[2]), 2).repeat(int(scales[3]), 3)], tol=0)
    for n in (2, 3, 4, 5):      # rows whose elements take turns
        for x in (f32(rng, 1, 2 * n * n, 2, 33), i32(rng, 2, n * n, 3, 16), f32(rng, 1, n * n, 5, 41)):
            yield Case("DepthToSpace", [x], {"blocksize": n, "mode": "CRD"}, oracle="reference")
            yield Case("DepthToSpace", [x], {"blocksize": n}, dynamic=x.dtype == np.float32, oracle="reference")
            yield Case("Transpose", [x[:, :n]], {"perm": [0, 2, 3, 1]}, dynamic=len(x) > 1)
            turn = {"perm": [0, 2, 3, 1]}
            yield Graph([x[:, :n]], [("Transpose", ["x0"], ["t"], turn), ("Neg", ["t"], ["y"], {}), ("Abs", ["x0"], ["a"], {}),
                                     ("Transpose", ["a"], ["z"], turn)], ["y", "z"])
    for axis in (0, 1, -1):
        for const, dynamic in (((), True), ((2,), False), ((1, 2), False)):
            yield Case("Tile", [f32(rng, 3, 4), np.array(3, np.int64), np.array(axis, np.int64)], opset=1, const=const, dynamic=dynamic,
                       oracle=lambda x, n, axis: [np.concatenate([x] * int(n), axis)], tol=0)
    yield Case("Tile", [f32(rng, 4, 3, 2, 5), np.array(3, np.int64), np.array(-2, np.int64)], opset=1,
               oracle=lambda x, n, axis: [np.concatenate([x] * int(n), axis)], tol=0)
    for width in (2, 3, 4):                     # broadcast along the axis before a short one, and along that
        for x in (f32(rng, 5, 1, width), i32(rng, 5, 1, width), i32(rng, 5, 1, width).astype(np.int64)):
            yield Case("Expand", [x, np.array([5, 33, width])], const=(1,), oracle=lambda x, n: [np.broadcast_to(x, n)], tol=0)
            yield Case("Mul", [np.broadcast_to(x, (5, 33, width)).copy(), x[0, 0]], tol=0)
            yield Case("Sub", [x.reshape(-1)[:width], np.arange(50, dtype=x.dtype).reshape(50, 1)], tol=0)
    yield Case("OneHot", [np.array([[0, 2, -1], [-3, 3, -4]], np.int64), np.array(3, np.int64), np.array([5, 7], np.float32)], {"axis": 1},
               oracle=lambda x, depth, v: [np.where(np.arange(3)[None, :, None] == np.where(x < 0, x + 3, x)[:, None, :], v[1], v[0])])
    yield Case("Gather", [f32(rng, 3, 4), i32(rng, 2, 3, low=-3, high=2)], dynamic=True)
    yield Case("Gather", [f32(rng, 3, 4), np.array([0, 3], np.int64)], error="index|out of range")
    yield Case("Gather", [f32(rng, 3, 4), np.array([-4], np.int64)], error="index|out of range")
    yield Case("Gather", [strings(rng, 5, 2), i32(rng, 3, low=0, high=4)], const=(0,), dynamic=True, oracle=lambda x, i: [x[i]])
    for type in (np.uint8, np.float16, np.float32, np.int64):   # columns at places that rows share: near each other, or not
        x = rng.integers(0, 100, (11, 150)).astype(type)
        near = np.sort(rng.integers(0, 150, 210))
        for at in (near, near[::-1].copy(), rng.permutation(210) % 150):
            yield Case("Gather", [x, at], {"axis": 1}, dynamic=True, tol=0, oracle=lambda x, at: [x[:, at]])
        for mode in ("reflect", "edge", "wrap"):
            for dynamic in (False, True):
                yield Case("Pad", [x, np.array([2, 9, 1, 70])], {"mode": mode}, opset=19, const=(1,), dynamic=dynamic, tol=0,
                           oracle=lambda x, pads, mode=mode: [np.pad(x, ((2, 1), (9, 70)), mode)])
    z = (f32(rng, 3) + 1j * f32(rng, 3)).astype(np.complex64)
    yield Case("Pad", [z, np.array([1, 2]), np.complex64(2 - 3j)], opset=21, const=(1, 2),
               oracle=lambda x, pads, v: [np.pad(x, (1, 2), constant_values=v)])
