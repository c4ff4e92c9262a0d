"""More of what no other family has (rest.py): types of casts and lists, ai.onnx.ml, operators of the newest version."""
import ml_dtypes
import numpy as np
from onnx import TensorProto, helper, numpy_helper

import families

from op_test import Case, expected, f16, f32, f64, i32, i64, ints, strings

ML = "ai.onnx.ml."
SMALL = (ml_dtypes.float4_e2m1fn, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2,
         ml_dtypes.float8_e5m2fnuz, ml_dtypes.float8_e8m0fnu)


def casts(rng):
    words = np.array(["1", "-7.5", "0", "1e3", "12", "NaN", "-INF", " 3"], object)
    for opset in (15, 19, 24):
        for like in (np.float32, np.float64, np.int32, np.int64):
            some = words if np.dtype(like).kind == "f" else words[[0, 2, 4]]
            cast = Case("Cast", [some], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(like))}, opset=19)
            if np.dtype(like).kind == "f":
                yield Case("CastLike", [some, np.zeros(1, like)], opset=opset, oracle=lambda x, _, c=cast: expected(c))
            else:
                yield Case("CastLike", [some, np.zeros(1, like)], opset=opset, oracle=lambda x, like: x.astype(like.dtype))
        yield Case("CastLike", [words, words[:1]], opset=opset, oracle=lambda x, _: x)
        yield Case("CastLike", [i64(rng, 5), words[:1]], opset=opset, oracle=lambda x, _: x.astype(str).astype(object))
    yield Case("Cast", [words], {"to": TensorProto.DOUBLE}, opset=19)
    yield Case("Cast", [words[[0, 2, 4]]], {"to": TensorProto.INT8}, opset=19, oracle=lambda x: x.astype(np.int8))
    exact = np.array([1, 2, 4, 1, 2, 4, 2], np.float32)        # numbers that all small types have
    for t in SMALL:
        yield Case("CastLike", [exact.astype(t), f32(rng, 1)], opset=24, oracle=[exact])
        yield Case("CastLike", [exact, exact.astype(t)], opset=24, oracle=[exact.astype(t)])
        yield Case("CastLike", [exact.astype(t), f16(rng, 1)], opset=24, oracle=[exact.astype(np.float16)])


def lists(rng):
    a, b, c = f32(rng, 2), f32(rng, 3), f32(rng, 2)
    yield Case("SequenceConstruct", [v.astype(np.int64) for v in (a, b, c)], oracle=lambda *x: [list(x)])
    for kind in (np.int32, np.int64):
        yield Case("SequenceAt", [[a, b, c], np.array(-2, kind)], dynamic=True, oracle=lambda x, k: [x[1]])
        yield Case("SequenceErase", [[a, b, c], np.array(1, kind)], oracle=lambda x, k: [[x[0], x[2]]])
        yield Case("SequenceInsert", [[a, b], c, np.array(1, kind)], oracle=lambda x, t, k: [[x[0], t, x[1]]])


def moved(rng):
    words = strings(rng, 2, 3, 4)
    for upper in (0, 1):
        yield Case("Trilu", [words, np.array(-1)], {"upper": upper}, oracle=lambda x, k,
                   f=(np.tril, np.triu)[upper]: np.where(f(np.ones((3, 4)), -1) > 0, x, ""))
    for kind in (np.complex64, np.complex128):
        z = np.array([3 + 1j, 1, 3 + 1j, 1 - 1j, 1], kind)
        yield Case("Unique", [z], {"sorted": 0}, nout=4, oracle=lambda x: [x[[0, 1, 3]], np.array([0, 1, 3]), np.array([0, 1, 0, 2, 1]),
                                                                           np.array([2, 2, 1])])
    for kind in (np.int8, np.int16, np.int32, np.uint8, np.float16):
        for opset in (10, 18):
            roi = [] if opset == 10 else [None]
            yield Case("Resize", [ints(rng, 1, 1, 3, 4, low=0, high=99).astype(kind), *roi, np.float32([1, 1, 2, 3])],
                       {"mode": "nearest"} | ({"coordinate_transformation_mode": "asymmetric",
                                               "nearest_mode": "floor"} if opset == 18 else {}), opset=opset,
                       oracle=lambda x, *_: np.repeat(np.repeat(x, 2, 2), 3, 3))
    for scales in ((1.7, 0.6), (0.5, 0.7)):     # an axis that shrinks shows the pixel on the right
        yield Case("Resize", [f32(rng, 1, 2, 9, 9), np.float32([1, 1, *scales])], {"mode": "nearest"}, opset=10)
        yield Case("Resize", [f32(rng, 1, 2, 9, 9), np.float32([1, 1, *scales])], {"mode": "nearest"}, opset=10, const=(1,))
    grid = f32(rng, 2, 3, 4, 2, low=-1.2, high=1.2)
    for kind in (np.int64, np.uint8):
        yield Case("GridSample", [ints(rng, 2, 3, 5, 6, low=0, high=99).astype(kind), grid], {"mode": "nearest"}, opset=20,
                   oracle=lambda x, g: [y.astype(x.dtype) for y in expected(Case("GridSample", [x.astype(np.float32), g], {"mode": "nearest"},
                                                                                 opset=20))])
    for kind in (np.float32, np.int32):     # the nearest pixel of an image that has none
        yield Case("GridSample", [np.zeros((2, 3, 0, 1), kind), f32(rng, 2, 5, 5, 2)], {"mode": "nearest", "padding_mode": "border"}, opset=20,
                   oracle=[np.zeros((2, 3, 5, 5), kind)], dynamic=True)
    yield Case("GridSample", [f32(rng, 2, 3, 0, 1), f32(rng, 2, 5, 5, 2)], {"padding_mode": "border"}, oracle=[np.zeros((2, 3, 5, 5), np.float32)],
               dynamic=True)


def unusual(rng):
    """NaN among what is compared, products beyond the range of their integers, and integers between pixels: what the specification's reference
    does, and ONNX Runtime does in some cases only."""
    x = f32(rng, 8, 37)
    for at, value in ((0, 2), np.nan), ((1, 0), np.nan), ((2, 36), np.nan), (3, np.nan), ((4, [1, 3]), np.nan), ((5, 1), np.inf), ((5, 3), np.nan):
        x[at] = value
    x[6], x[7] = -np.inf, np.inf
    for kind in (np.float16, np.float32, np.float64):
        for op in ("ArgMax", "ArgMin"):
            for last in (0, 1):
                for axis in (0, 1):
                    yield Case(op, [x.astype(kind)], {"axis": axis, "select_last_index": last}, opset=13, oracle="reference")
        yield Case("Hardmax", [x.astype(kind)], {"axis": 1}, opset=13, oracle="reference")
    ties = rng.integers(0, 4, (6, 301))
    for kind in (np.float16, np.float32, np.float64, np.uint8, np.int8, np.int32, np.int64):
        for op, last, axis in ("ArgMax", 0, 0), ("ArgMax", 0, 1), ("ArgMax", 1, 1), ("ArgMin", 0, 1), ("ArgMin", 1, 0), ("ArgMin", 1, 1):
            yield Case(op, [ties.astype(kind)], {"axis": axis, "select_last_index": last}, opset=13, oracle="reference")
        for op in ("ReduceMax", "ReduceMin"):
            yield Case(op, [x.astype(kind), np.array([1])], opset=18, oracle="reference")
    for kind in (np.int32, np.int64, np.uint32, np.uint64):
        large = (ints(rng, 3, 37, low=1, high=2**30) * 2 + 1).astype(kind)
        for op, f in (("ReduceProd", np.prod), ("ReduceSumSquare", lambda v, *a, **k: np.sum(v * v, *a, **k))):
            yield Case(op, [large, np.array([1])], {"keepdims": 0}, opset=18, oracle=lambda v, _, f=f: f(v, 1, dtype=v.dtype))
        yield Case("CumProd", [large, np.array(1)], opset=26, oracle=lambda v, _: np.cumprod(v, 1, dtype=v.dtype))
    for kind in (np.uint8, np.int8, np.int32):
        image = ints(rng, 1, 2, 8, 9, low=0 if kind is np.uint8 else -128, high=255 if kind is np.uint8 else 127).astype(kind)
        for mode in ({"mode": "cubic"}, {"mode": "cubic", "antialias": 1}, {"mode": "linear", "antialias": 1}):
            yield Case("Resize", [image, None, None, np.array([1, 2, 3, 13])], mode, opset=19, oracle="reference")


def bits(rng):
    """Elements of one width are taken for each other."""
    widths = [(ml_dtypes.int2, ml_dtypes.uint2), (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float4_e2m1fn), (np.int8, np.uint8, bool, *SMALL[3:]),
              (np.int16, np.uint16, np.float16, ml_dtypes.bfloat16), (np.int32, np.uint32, np.float32), (np.int64, np.uint64, np.float64,
                                                                                                         np.complex64), (np.complex128,)]
    for kinds in widths:
        raw = np.uint8 if np.dtype(kinds[0]).itemsize == 1 else None
        for a, b in zip(kinds, kinds[1:] + kinds[:1]):
            few = [1, 0, 1, 1, 0] if a is bool or b is bool else [1, 2, 3, 0, 2]
            x = np.array(few, raw).view(a) if raw else ints(rng, 5, low=-90, high=90).astype(a)
            yield Case("BitCast", [x], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(b))}, opset=26,
                       oracle=lambda x, a=a, b=b: signed(x, b) if "int" in np.dtype(a).name and np.dtype(b).name in ("int2", "uint2", "int4",
                                                                                                                     "uint4") else x.view(b))
    yield Case("BitCast", [f32(rng, 5)], {"to": TensorProto.INT64}, opset=26, error="BitCast|bits|size")


def signed(x, to):
    """The codes of 2- and 4-bit integers, which NumPy keeps with their signs, as those of another."""
    n = np.dtype(to).name
    top = 4 if "2" in n else 16
    codes = x.astype(np.int8) % top
    return (codes if n[0] == "u" else np.where(codes >= top // 2, codes - top, codes)).astype(to)


def ranges(rng):
    """Integers that no float holds."""
    near, low, high = 2**60, -2**63, 2**63 - 1
    for a, b, d, want in ((near, near + 3, 1, [near, near + 1, near + 2]), (3 - near, -near, -2, [3 - near, 1 - near]),
                          (low, high, 2**62, [low, -2**62, 0, 2**62]),
                          (high, low, low, [high, -1]), (5, 2, 1, []), (3, 3, -1, [])):
        yield Case("Range", [np.array(v) for v in (a, b, d)], oracle=[np.array(want, np.int64)])
        if high > b - a > low:
            yield Case("Range", [np.array(v) for v in (a, b, d)], oracle=[np.array(want, np.int64)], const=(0, 1, 2))
    yield Case("Range", [np.int32(-2**31), np.int32(2**31 - 1), np.int32(2**30)], oracle=[np.int32([-2**31, -2**30, 0, 2**30])])


def signals(rng):
    x = f32(rng, 2, 32, 1)
    for kind in (np.int32, np.int64):
        yield Case("STFT", [x, np.array(8, kind), None, np.array(16, kind)], {"onesided": 1}, opset=17, tol=1e-3, const=(1, 3))
        for out in (TensorProto.FLOAT, TensorProto.DOUBLE):
            yield Case("MelWeightMatrix", [np.array(v, kind) for v in (8, 16, 8192)] + [np.float32(100), np.float32(4000)], {"output_datatype": out},
                       opset=17,
                       const=(0, 1))
    yield Case("MelWeightMatrix", [np.array(v) for v in (5, 32, 16000)] + [np.float32(0), np.float32(8000)], opset=17, const=(0, 1, 2))
    for kind in (np.float16, np.float32, np.float64):
        for stash in (TensorProto.FLOAT, TensorProto.DOUBLE):
            yield Case("Range", [np.array(v, kind) for v in (1, 60, 0.75)], {"stash_type": stash}, opset=27,
                       oracle=lambda a, b, d: np.arange(float(a), float(b), float(d)).astype(a.dtype))
    for act in ("none", "silu", "swish"):
        for k, bias, state in ((4, True, True), (1, False, False), (3, False, True), (2, True, False)):
            inputs = [f32(rng, 2, 3, 5), f32(rng, 3, 1, k), f32(rng, 3) if bias else None, f32(rng, 2, 3, k - 1) if state else None]
            yield Case("CausalConvWithState", inputs, {"activation": act}, opset=27, nout=2, dynamic=bias, oracle=causal(act))
    group = f32(rng, 2, 6, 5)
    yield Case("GroupNormalization", [group, f32(rng, 3), f32(rng, 3)], {"num_groups": 3, "epsilon": 1e-3}, opset=18, dynamic=True, oracle=grouped)


def causal(act):
    def run(x, w, bias, state):
        k = w.shape[-1]
        whole = np.concatenate([np.zeros((*x.shape[:2], k - 1), x.dtype) if state is None else state, x], -1)
        y = sum(whole[:, :, j:j + x.shape[2]] * w[:, 0, j][:, None] for j in range(k)) + (0 if bias is None else bias[:, None])
        return [y if act == "none" else y / (1 + np.exp(-y)), whole[..., whole.shape[2] - (k - 1):]]
    return run


def grouped(x, scale, bias):
    g = x.reshape(2, 3, -1)
    y = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-3)
    return (y * scale[:, None] + bias[:, None]).reshape(x.shape)


def probit(p):
    """The inverse of the normal distribution as ONNX Runtime approximates it."""
    x = p.astype(float) * 2 - 1
    log = np.log((1 - x) * (1 + x))
    v = 2 / (np.pi * 0.147) + 0.5 * log
    return [(np.sqrt(2) * np.copysign(np.sqrt(np.sqrt(v * v - log / 0.147) - v), x)).astype(p.dtype)]


def optimizers(rng):
    """One step of training, of one tensor and of two; the first step is a case of its own."""
    train = "ai.onnx.preview.training."
    for kind in (np.float32, np.float64):
        for shapes in ([(3,)], [(2, 3), ()]):
            for step in (0, 7):
                def like(low, kind=kind, shapes=shapes):
                    return [f32(rng, *s, low=low, high=2).astype(kind) for s in shapes]
                first = [np.array(0.1, kind), np.array(step)]
                few = [*like(-2), *like(-2), *like(0)]
                yield Case(train + "Adagrad", [*first, *few], {"decay_factor": 0.1, "epsilon": 1e-3, "norm_coefficient": 0.01}, nout=2 * len(shapes),
                           oracle="reference")
                for mode in ("standard", "nesterov"):
                    yield Case(train + "Momentum", [*first, *few], {"alpha": 0.9, "beta": 0.4, "mode": mode, "norm_coefficient": 0.01},
                               nout=2 * len(shapes), oracle="reference")
                adam = Case(train + "Adam", [*first, *few, *like(0)], {"alpha": 0.8, "beta": 0.95, "epsilon": 1e-3, "norm_coefficient": 0.01,
                                                                       "norm_coefficient_post": 0.02}, nout=3 * len(shapes), oracle="reference")
                wide = expected(adam)       # the reference returns double
                adam.oracle = [y.astype(kind) for y in wide]
                yield adam


def learned(rng):
    ml = families.module("ml")
    text = np.array(["a", "none", "c"], object)
    yield Case(ML + "CategoryMapper", [np.array([0, 9, 2, -3])],
               {"cats_int64s": [0, 1, 2], "cats_strings": ["x", "y", "z"], "default_string": "other"})
    yield Case(ML + "LabelEncoder", [text], {"classes_strings": ["c", "a"], "default_int64": 55}, opset=1)
    yield Case(ML + "LabelEncoder", [np.array([5, 7, 6], np.int16)], {"keys_tensor": numpy_helper.from_array(np.array([5, 6], np.int16)),
                                                                     "values_tensor": numpy_helper.from_array(np.array([1, 2], np.int16)),
                                                                     "default_tensor": numpy_helper.from_array(np.array([-4], np.int16))}, opset=4,
               oracle=[np.array([1, -4, 2], np.int16)])
    for kind in (np.int32, np.int64):
        x = ints(rng, 6, 5, low=-4, high=4, dtype=kind)
        attrs = {"coefficients": f32(rng, 10), "intercepts": [0.5, -1.0], "targets": 2}
        yield Case(ML + "LinearRegressor", [x], attrs, oracle=lambda x,
                   c=attrs["coefficients"]: (x @ c.reshape(2, 5).T + np.float32([0.5, -1])).astype(np.float32))
        attrs = {"coefficients": f32(rng, 4), "support_vectors": f32(rng, 20), "rho": [0.2], "n_supports": 4, "kernel_type": "LINEAR",
                 "kernel_params": [0.3, 0.1, 2.0]}
        yield Case(ML + "SVMRegressor", [x], attrs, oracle=lambda x, a=attrs: expected(Case(ML + "SVMRegressor", [x.astype(np.float32)], a)))
    yield Case(ML + "SVMClassifier", [f32(rng, 4, 5)], ml.machine(rng, "RBF", (2, 3, 1), post_transform="PROBIT", **ml.proba(rng, 3)), nout=2,
               tol=1e-3)
    half = {"coefficients": [0.02, 0.03, -0.01, 0.04], "support_vectors": f32(rng, 20), "rho": [0.8], "n_supports": 4, "kernel_type": "RBF",
            "kernel_params": [0.3, 0.1, 2.0]}
    yield Case(ML + "SVMRegressor", [f32(rng, 6, 5)], {**half, "post_transform": "PROBIT"},       # which ONNX Runtime leaves out here
               tol=1e-3, oracle=lambda x: probit(expected(Case(ML + "SVMRegressor", [x], half))[0]))
    tree = ml.rooted(rng, 3, 3)
    hits = numpy_helper.from_array(np.ones(len(tree["nodes_featureids"]), np.float32))
    x = i64(rng, 9, 4, low=-5, high=5).astype(np.float32)
    yield Case(ML + "TreeEnsemble", [x], {**tree, "nodes_hitrates": hits}, oracle=lambda x: expected(Case(ML + "TreeEnsemble", [x], tree)))
    labels = {"classlabels_int64s": [4, 9, 2], "base_values_as_tensor": numpy_helper.from_array(np.array([0.1, 0.7, -0.4]))}
    yield Case(ML + "TreeEnsembleClassifier", [f64(rng, 20, 5)],
               {**ml.listed(rng, 9, 4, kind="class", targets=3, spread=True, as_tensor=True), **labels}, opset=3,
               nout=2, tol=1e-6)


def cases(rng):
    yield from casts(rng)
    yield from lists(rng)
    yield from moved(rng)
    yield from unusual(rng)
    yield from bits(rng)
    yield from ranges(rng)
    yield from signals(rng)
    yield from optimizers(rng)
    yield from learned(rng)
