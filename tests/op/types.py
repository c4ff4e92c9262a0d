"""Casts and quantisation between all element types, against the reference implementation of ONNX."""
import numpy as np
from onnx import TensorProto, helper

from op_test import Case, f32

FLOATS = ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"]
FP8 = ["FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"]
TINY = ["FLOAT4E2M1"]
INTS = ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
SMALL = ["INT4", "UINT4", "INT2", "UINT2"]
BITS = {"INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2}


def dtype(name):
    return helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name))


def limits(name):
    if name in BITS:
        n = BITS[name]
        return (-(1 << n - 1), (1 << n - 1) - 1) if name[0] == "I" else (0, (1 << n) - 1)
    i = np.iinfo(dtype(name))
    return int(i.min), int(i.max)


def values(rng, name, floats=True):
    """Values of a type: its limits, neighbours of zero, others; floats with the special ones."""
    t = dtype(name)
    if name in INTS + SMALL:
        lo, hi = limits(name)
        x = [lo, hi, 0, 1, max(lo, -1), min(3, hi)] + [int(rng.integers(max(lo, -(1 << 40)), min(hi, 1 << 40), endpoint=True)) for _ in range(10)]
        return np.array(x, np.int64 if hi <= 1 << 62 else np.uint64 if lo == 0 else np.int64).astype(t)
    if name == "BOOL":
        return np.array([True, False, True])
    x = np.concatenate([[0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.5, 100.25, -7.75, 448, 460, -470, 57344, 61000,
                         1e-3, 2 ** -9, 2 ** -10, 2 ** -17],
                        rng.standard_normal(12) * 10])
    if floats:
        x = np.concatenate([x, [np.inf, -np.inf, np.nan]])
    with np.errstate(all="ignore"):
        return x.astype(np.float32).astype(t)


def inside(x, lo, hi):
    """Only what a cast to integers defines: values in range."""
    with np.errstate(all="ignore"):
        w = x.astype(np.float64)
        return x[np.isfinite(w) & (w > lo - 1) & (w < hi + 1)]


def wrapped(x, name):
    """The low bits."""
    n = BITS[name]
    v = x.astype(np.int64) & ((1 << n) - 1)
    return np.where((v >> (n - 1) & 1) & (name[0] == "I"), v - (1 << n), v).astype(dtype(name))


def casts(rng):
    names = FLOATS + FP8 + TINY + INTS + SMALL + ["BOOL"]
    for a in names:
        for b in names:
            x = values(rng, a)
            if b in INTS + SMALL and a in FLOATS + FP8 + TINY:
                x = inside(x, *limits(b))
                lo, hi = limits(b)
                if hi > 1 << 24 and a in FLOATS:
                    x = x[np.abs(x.astype(np.float64)) < hi / 2]
            attrs = {"to": getattr(TensorProto, b)}
            if a in SMALL and b in SMALL and a != b:                # the reference refuses these
                yield Case("Cast", [x], attrs, opset=25, oracle=[wrapped(x, b)])
                continue
            if a == b == "FLOAT8E5M2":                              # nothing to convert, but the reference saturates the infinities
                continue
            saturates = b in FP8 and a in FLOATS
            yield Case("Cast", [x], attrs, opset=25, oracle="reference")
            if saturates:
                yield Case("Cast", [x], {**attrs, "saturate": 0}, opset=25, oracle="reference")
    for a in ("FLOAT", "FLOAT16", "BFLOAT16"):
        for mode in ("up", "down", "nearest"):
            for saturate in (0, 1):
                x = np.abs(values(rng, a, floats=not saturate)).astype(dtype(a))   # saturated, infinity is the largest number: not in the reference
                yield Case("Cast", [x], {"to": TensorProto.FLOAT8E8M0, "round_mode": mode, "saturate": saturate}, opset=25, oracle="reference")
    x = np.array([2.0 ** e for e in range(-127, 128, 9)], np.float32).astype(dtype("FLOAT8E8M0"))
    for b in FLOATS[:1] + FLOATS[3:]:
        yield Case("Cast", [x], {"to": getattr(TensorProto, b)}, opset=25, oracle="reference")


def beyond():
    """Floats that no integer of the type is near: the standard leaves the result open; it is the nearest integer that there is, 0 for NaN
    (IR.md), whether a kernel, the evaluator or the folding of constants computes it. Types of 4 and 2 bits take the low bits of an int32."""
    wide = np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, 300, -1, 255.5, -128.7, 1e20, -0.5, 65535.9, 2.0**31, 9.3e18, 1.9e19, -9.3e18, 127.9, 0])
    for a in FLOATS:
        with np.errstate(all="ignore"):
            x = wide.astype(dtype(a))
        for b in INTS + SMALL:
            lo, hi = limits("INT32" if b in SMALL else b)
            want = np.array([0 if np.isnan(v) else lo if v <= lo else hi if v >= hi else int(v) for v in x.astype(np.float64)], object)
            for const in ((), (0,)):
                yield Case("Cast", [x], {"to": getattr(TensorProto, b)}, opset=25, const=const,
                           oracle=[wrapped(want, b) if b in SMALL else want.astype(dtype(b))])


def large(rng):
    """Integers of all sizes, in lanes."""
    size = np.repeat(np.arange(1, 64), 3)
    x = np.ldexp(rng.uniform(0.5, 1, size.size), size)
    x = np.concatenate([x, -x, [2.0**31, 2.0**32, 2.0**32 - 1, 2.0**53 - 1, -(2.0**31), -(2.0**32), -(2.0**32) - 1, -(2.0**63), -0.75, 0.75]])
    for a in ("FLOAT", "DOUBLE"):
        for b in ("INT64", "UINT64", "UINT32"):
            v = x.astype(dtype(a))
            lo, hi = limits(b)
            v = v[(v.astype(np.float64) >= lo) & (v.astype(np.float64) < hi)]
            yield Case("Cast", [v], {"to": getattr(TensorProto, b)}, opset=25,
                       oracle=[np.array([int(e) for e in v.astype(np.float64)], object).astype(dtype(b))])


def zero_points(rng, name, shape):
    if name in FP8 + TINY:
        return np.zeros(shape, np.float32).astype(dtype(name))
    lo, hi = limits(name)
    return rng.integers(max(lo // 2, -500), min(hi // 2, 500), shape, np.int64, endpoint=True).astype(dtype(name))


def scales(rng, name, shape):
    """Quotients of small numbers reach both ends of the type, and stay finite in f16."""
    top = min(limits(name)[1], 2000) if name in INTS + SMALL else 100 if name in FP8 else 6
    return rng.uniform(3 / top, 40 / top, shape).astype(np.float32)


def quantisation(rng):
    kinds = ["INT8", "UINT8", "INT16", "UINT16", "INT4", "UINT4", "INT2", "UINT2"] + FP8 + TINY
    x = f32(rng, 4, 6, 8, scale=10)
    for name in kinds:
        for a in ("FLOAT", "FLOAT16", "BFLOAT16"):
            forms = (((), 1, 0), ((4, 3, 8), 1, 2), ((6,), 1, 0), ((8,), -1, 0), ((4, 6, 3), 2, 3))
            for form, axis, block in forms if a == "FLOAT" else forms[:2]:
                s = scales(rng, name, form).astype(dtype(a))
                z = zero_points(rng, name, form)
                attrs = {"axis": axis, **({"block_size": block} if block else {})}
                version = 25 if name in ("INT2", "UINT2") else 23
                yield Case("QuantizeLinear", [x.astype(dtype(a)), s, z], attrs, opset=version, oracle="reference")
                q = values(rng, name)
                q = q[rng.integers(0, q.size, x.shape)]
                if name in FP8:
                    q = np.where(np.isfinite(q.astype(np.float32)), q.astype(np.float32), 0).astype(dtype(name))
                yield Case("DequantizeLinear", [q, s, z], attrs, opset=version, oracle="reference", tol=1e-6 if a == "FLOAT" else 1e-2)
        yield Case("QuantizeLinear", [x, np.float32(0.1)], {"output_dtype": getattr(TensorProto, name)},
                   opset=23 if name not in ("INT2", "UINT2") else 25,
                   oracle="reference")
        if name in FP8:
            yield Case("QuantizeLinear", [x * 1000, np.float32(0.1), np.zeros((), np.float32).astype(dtype(name))],
                       {"saturate": 0}, opset=21, oracle="reference")


def rounding():
    """Constant zero points: ties, both ends, infinities and NaN, which becomes 0."""
    x = np.concatenate([np.arange(-300, 300, 0.5), [1e5, -1e5, 3e38, -3e38, np.inf, -np.inf, np.nan, 0.49999997, -0.0]]).astype(np.float32)
    zeros = {"UINT8": (0, 1, 128, 255), "INT8": (0, -1, 3, -128), "UINT16": (0, 7, 65535), "INT16": (0, 300, -32767), "UINT4": (0, 7),
             "INT4": (0, -3)}
    for name, z in zeros.items():
        for zero in z:
            y = np.where(np.isnan(x), 0, np.clip(np.rint(x) + np.float32(zero), *limits(name)))
            yield Case("QuantizeLinear", [x, np.float32(1), np.array(zero).astype(dtype(name))], opset=21, oracle=[y.astype(dtype(name))],
                       const=(1, 2))


def complex_moves(rng):
    """Complex numbers are moved by the operators that take any type."""
    i = np.array([2, 0, -1])
    for kind in (np.complex64, np.complex128):
        x = (f32(rng, 3, 4, 5) + 1j * f32(rng, 3, 4, 5)).astype(kind)
        y = x[:, :1] * 2
        for op, inputs, attrs in (("Identity", [x], {}), ("Reshape", [x, np.array([4, -1])], {}), ("Transpose", [x], {"perm": [2, 0, 1]}),
                                  ("Concat", [x, y], {"axis": 1}), ("Slice", [x, np.array([1]), np.array([-1]), np.array([2])], {}),
                                  ("Gather", [x, i], {"axis": 1}),
                                  ("GatherElements", [x, np.broadcast_to(i.reshape(3, 1, 1), x.shape)], {"axis": 0}),
                                  ("GatherND", [x, i.reshape(3, 1)], {}),
                                  ("Expand", [y, np.array([3, 4, 5])], {}), ("Tile", [y, np.array([1, 2, 1])], {}), ("Flatten", [x], {"axis": 1}),
                                  ("Squeeze", [y, np.array([1])], {}), ("Unsqueeze", [x, np.array([0])], {}), ("Shape", [x], {}), ("Size", [x], {}),
                                  ("Where", [x.real > 0, x, y], {}),
                                  ("ScatterElements", [x, i.reshape(1, 3, 1), y[:1, :, :1].repeat(3, 1)], {"axis": 0}),
                                  ("Trilu", [x], {}), ("ReverseSequence", [x, np.array([1, 3, 2, 2])], {"time_axis": 0, "batch_axis": 1}),
                                  ("SpaceToDepth", [x[None, :2, :, :4]], {"blocksize": 2}),
                                  ("DepthToSpace", [x[None, :, :, :].repeat(4, 1)], {"blocksize": 2})):
            yield Case(op, inputs, attrs, oracle="reference")


def cases(rng):
    yield from complex_moves(rng)
    yield from casts(rng)
    yield from beyond()
    yield from large(rng)
    yield from quantisation(rng)
    yield from rounding()
