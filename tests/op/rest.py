"""Attributes, operands, results and versions that no other family has (tests/lint/covered.py finds them)."""
import copy
import itertools

import ml_dtypes
import numpy as np
from onnx import TensorProto

import families

from op_test import Case, expected, f32, i8, i32, i64, ints, strings, u8

recurrent = families.module("rnn")
MS = "com.microsoft."
FLOAT8 = [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz]


def attention(rng):
    q, k, v = f32(rng, 2, 4, 3, 8), f32(rng, 2, 2, 5, 8), f32(rng, 2, 2, 5, 6)
    mask = f32(rng, 3, 5)
    for mode in range(4):
        yield Case("Attention", [q, k, v, mask], {"qk_matmul_output_mode": mode, "softcap": 2.0}, opset=23, nout=4, wanted=(0, 3),
                   oracle="reference" if mode else "ort")       # onnx.reference caps the scores of mode 0, too
        yield Case("Attention", [q, k, v, mask], {"qk_matmul_output_mode": mode, "is_causal": 1}, opset=24, nout=4, wanted=(0, 3), oracle="reference")
    for precision in (TensorProto.FLOAT, TensorProto.DOUBLE):
        for opset in (23, 24):
            yield Case("Attention", [q, k, v], {"softmax_precision": precision}, opset=opset, oracle="reference")
    yield Case("Attention", [q, k, v, None, None, None, np.array([3, 5])], opset=24)
    yield Case("Attention", [q, k, v, None, None, None, np.array([1, 4])], {"scale": 0.2}, opset=24, dynamic=True)


def casts(rng):
    x = np.concatenate([f32(rng, 40, scale=300), np.array([np.inf, -np.inf, np.nan, 1e6, -1e6, 448, 240], np.float32)])
    for t in FLOAT8:
        to = {"float8_e4m3fn": 17, "float8_e4m3fnuz": 18, "float8_e5m2": 19, "float8_e5m2fnuz": 20}[t.__name__]
        for saturate in (0, 1):
            for opset in (19, 24):
                yield Case("Cast", [x], {"to": to, "saturate": saturate}, opset=opset, oracle="reference")
                yield Case("CastLike", [x, np.zeros(1, t)], {"saturate": saturate}, opset=opset, oracle="reference")
        yield Case("Cast", [x.astype(t)], {"to": 1}, opset=19, oracle="reference")
        yield Case("CastLike", [x.astype(t), f32(rng, 1)], opset=19, oracle="reference")
        yield Case("QuantizeLinear", [x[:40].reshape(8, 5), np.float32([0.5, 2, 1, 3, 4]), np.zeros(5, t)], {"saturate": 1}, opset=19,
                   oracle="reference")
        yield Case("DequantizeLinear", [x[:40].reshape(8, 5).astype(t), np.float32(0.5)], opset=21, oracle="reference")
    scale = np.array([2.0**k for k in range(-8, 9)] * 2, np.float32) * 1.3
    for how in ("up", "down", "nearest"):
        yield Case("Cast", [scale], {"to": 24, "round_mode": how}, opset=24, oracle="reference")
        yield Case("CastLike", [scale, np.ones(1, ml_dtypes.float8_e8m0fnu)], {"round_mode": how}, opset=24,
                   oracle=lambda x, like, how=how: expected(Case("Cast", [x], {"to": 24, "round_mode": how}, opset=24, oracle="reference")))


def quantised(rng):
    x, s = f32(rng, 6, 8, scale=20), np.abs(f32(rng, 3, 8)) + 0.1
    for opset in (21, 23):
        yield Case("QuantizeLinear", [x, s, ints(rng, 3, 8, low=0, high=200, dtype=np.uint8)], {"axis": 0, "block_size": 2}, opset=opset)
        yield Case("DequantizeLinear", [u8(rng, 6, 8), s, u8(rng, 3, 8)], {"axis": 0, "block_size": 2}, opset=opset)
        yield Case("QuantizeLinear", [x, s[0]], {"axis": 1, "output_dtype": TensorProto.INT8}, opset=opset)
    yield Case("QuantizeLinear", [x, s[0], np.zeros(8, np.int16)], {"axis": 1}, opset=21)
    yield Case("QuantizeLinear", [x, s[0], np.zeros(8, np.uint8)], {"axis": 1, "precision": TensorProto.FLOAT}, opset=23)
    yield Case("DequantizeLinear", [i8(rng, 6, 8), s[0], None], {"axis": 1, "output_dtype": TensorProto.FLOAT16}, opset=23,
               oracle=lambda x, s, z: (x * s).astype(np.float16))
    for opset in (10, 13, 19, 21, 23):
        yield Case("QuantizeLinear", [i32(rng, 5, low=-300, high=300), np.float32(2.5), np.uint8(7)], opset=opset, oracle="reference")
    yield Case("ConvInteger", [u8(rng, 1, 2, 5, 6), i8(rng, 3, 2, 2, 3), np.uint8(9)], {"kernel_shape": [2, 3], "strides": [1, 2]})
    conv = [u8(rng, 1, 2, 5, 6), np.float32(0.1), np.uint8(7), i8(rng, 3, 2, 2, 3), np.float32(0.2), np.int8(0), np.float32(0.9), np.uint8(100)]
    yield Case("QLinearConv", conv, {"kernel_shape": [2, 3]}, slack=1)
    for pad in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield Case(MS + "QLinearConv", conv, {"auto_pad": pad, "kernel_shape": [2, 3], "strides": [2, 1]}, slack=1)


def far_taps(rng):
    """Convolutions whose taps see padding alone for much of the image: rows are cut where a tap leaves it."""
    for image, channels, attrs in [((2, 32, 13, 29), 48, {"dilations": [12, 12], "pads": [12] * 4}),
                                   ((1, 16, 9, 40), 16, {"dilations": [8, 20], "pads": [8, 20, 4, 20], "strides": [2, 1]}),
                                   ((1, 16, 9, 61), 16, {"dilations": [8, 9], "pads": [8, 18, 8, 0], "strides": [1, 3]}),
                                   ((3, 16, 50), 32, {"dilations": [9], "pads": [18, 0]}),
                                   ((1, 16, 7, 7), 16, {"dilations": [36, 36], "pads": [36] * 4}),
                                   ((1, 3, 20, 33), 16, {"dilations": [8, 11], "pads": [8, 11, 8, 11]}),
                                   ((1, 16, 5, 9, 18), 16, {"dilations": [8] * 3, "pads": [8] * 6})]:
        weights = f32(rng, channels, image[1], *[3] * len(attrs["dilations"]))
        for dynamic in (False, True):
            yield Case("Conv", [f32(rng, *image), weights, f32(rng, channels)], attrs, const=(1, 2), dynamic=dynamic)


    # images of the run, as tiles: of fewer pixels than a tile has, of parts of tiles, of many
    for image, channels in [((1, 32, 1, 5), 32), ((2, 32, 9, 4), 48), ((1, 48, 30, 61), 32), ((3, 32, 2, 3), 32), ((1, 32, 40, 129), 64)]:
        weights = f32(rng, channels, image[1], 3, 3)
        yield Case("Conv", [f32(rng, *image), weights, f32(rng, channels)], {"pads": [1, 1, 1, 1]}, const=(1, 2), dynamic=True, tol=1e-4)


def layers(rng):
    x, w = f32(rng, 1, 2, 5, 4), f32(rng, 2, 3, 3, 2)
    for opset in (1, 11):
        yield Case("ConvTranspose", [x, w], {"output_shape": [11, 8], "strides": [2, 2]}, opset=opset)
    # few outputs of many inputs: products first, then sums where they overlap
    for image, weights, attrs in [((2, 24, 6, 40), (24, 2, 4, 3), {"strides": [2, 3], "pads": [1, 0, 2, 1], "output_padding": [1, 2]}),
                                  ((1, 24, 6, 9), (24, 3, 3, 2), {"dilations": [1, 2], "strides": [2, 1]}),
                                  ((1, 32, 3, 4, 5), (32, 1, 3, 2, 3), {"strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 1]}),
                                  ((1, 20, 50), (20, 1, 9), {"strides": [5], "pads": [9, 3]}), ((1, 20, 1), (20, 1, 2), {"strides": [3]})]:
        for dynamic in (False, True):
            yield Case("ConvTranspose", [f32(rng, *image), f32(rng, *weights), f32(rng, weights[1])], attrs, const=(1, 2), dynamic=dynamic)
    fused = f32(rng, 3, 2, 2, 3)
    for pad in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield Case(MS + "FusedConv", [x, fused, f32(rng, 3)], {"activation": "Relu", "auto_pad": pad, "strides": [1, 2]})
    yield Case(MS + "FusedConv", [x, fused], {"activation": "LeakyRelu", "activation_params": [0.2], "dilations": [2, 1], "strides": [1, 1]})
    a, b = f32(rng, 2, 3, 4), f32(rng, 2, 4, 5)
    for attrs in ({"activation": "LeakyRelu", "activation_alpha": 0.3},
                  {"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.6},
                  {"activation": "Tanh", "alpha": 0.5}):
        act = {"LeakyRelu": lambda y: np.where(y < 0, 0.3 * y, y), "HardSigmoid": lambda y: np.clip(0.3 * y + 0.6, 0, 1),
               "Tanh": np.tanh}[attrs["activation"]]
        yield Case(MS + "FusedMatMulActivation", [a, b], attrs, oracle=lambda a, b, act=act, attrs=attrs: act(attrs.get("alpha", 1) * (a @ b)))
        yield Case(MS + "FusedMatMulActivation", [np.swapaxes(a, 1, 2), np.swapaxes(b, 1, 2)], {**attrs, "transA": 1, "transB": 1},
                   oracle=lambda a, b, act=act, attrs=attrs: act(attrs.get("alpha", 1) * (np.swapaxes(a, 1, 2) @ np.swapaxes(b, 1, 2))))
    yield Case("LayerNormalization", [f32(rng, 3, 7), f32(rng, 7)], {"stash_type": 1, "epsilon": 0.01})
    yield Case("Dropout", [f32(rng, 3, 5), np.float32(0.5), np.array(False)], {"seed": 3}, opset=12, nout=2)
    for opset in (7, 10):
        yield Case("Dropout", [f32(rng, 3, 5)], opset=opset, nout=2,
                   oracle=lambda x, kind=bool if opset >= 10 else np.float32: [x, np.ones(x.shape, kind)])
    yield Case("Resize", [f32(rng, 1, 1, 4, 5), np.zeros(0, np.float32), np.float32([1, 1, 1.7, 0.6])],
               {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}, opset=11)
    crop = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear", "extrapolation_value": 7.5}
    roi = np.float32([0, 0, 0.2, -0.3, 1, 1, 1.4, 0.8])
    for opset in (11, 18):
        yield Case("Resize", [f32(rng, 1, 1, 4, 5), roi, np.zeros(0, np.float32) if opset == 11 else None, np.array([1, 1, 6, 7])], crop, opset=opset)
    yield Case("Resize", [f32(rng, 1, 1, 4, 5), roi, np.zeros(0, np.float32), np.array([1, 1, 6, 7])], crop, opset=11,
               dynamic={0: [1, 1, "h", "w"], 1: [8], 2: ["n"], 3: [4]})
    yield Case("TensorScatter", [f32(rng, 2, 3, 6, 4), f32(rng, 2, 3, 2, 4), np.array([1, 3])], {"axis": -2, "mode": "linear"}, opset=24,
               oracle="reference")
    yield Case("TensorScatter", [f32(rng, 2, 6, 4), f32(rng, 2, 2, 4), np.array([5, 3])], {"axis": 1, "mode": "circular"}, opset=24,
               oracle="reference")
    yield Case("RotaryEmbedding", [f32(rng, 2, 3, 4, 8), f32(rng, 10, 2), f32(rng, 10, 2), i64(rng, 2, 4, low=0, high=9)],
               {"rotary_embedding_dim": 4}, opset=23, oracle="reference")
    yield Case("TopK", [f32(rng, 3, 9), np.array([4])], {"sorted": 1, "largest": 0}, opset=11, nout=2)
    yield Case("Einsum", [u8(rng, 5, 9), f32(rng, 5, 9)], {"equation": "ij,ij->ij"}, opset=12, error="expected u8, as the first operand, got f32")
    yield Case("Range", [np.float32(0.5), np.float32(7), np.float32(0.7)], opset=11)


def moved(rng):
    """Elements that no arithmetic knows."""
    words, z = strings(rng, 2, 3, 4), (f32(rng, 2, 3, 4) + 1j * f32(rng, 2, 3, 4)).astype(np.complex64)
    for x in (words, z, z.astype(np.complex128)):
        def case(op, inputs, attrs, opset, result):
            return Case(op, [x, *inputs], attrs, opset=opset, oracle=lambda x, *rest: result(x))
        for opset in (4, 13):
            yield Case("Concat", [x, x[:, :1]], {"axis": 1}, opset=opset, oracle=lambda a, b: np.concatenate([a, b], 1))
        yield Case("Compress", [x, np.array([True, False, True])], {"axis": 1}, opset=11, oracle=lambda a, c: a[:, c])
        yield Case("Compress", [x, np.array([True, False, False, True])], {"axis": 0}, oracle=lambda a, c: a[:1], dynamic=x is words)
        yield Case("Compress", [x, np.arange(30) % 5 != 0], oracle=lambda a, c: a.reshape(-1)[c[:24]])      # as ONNX Runtime: the rest is ignored
        yield case("Expand", [np.array([2, 1, 3, 1])], {}, 8, lambda a: np.broadcast_to(a, (2, 2, 3, 4)))
        yield case("Identity", [], {}, 1, lambda a: a)
        yield case("Reshape", [np.array([4, -1])], {}, 5, lambda a: a.reshape(4, -1))
        yield case("Reshape", [np.array([4, -1])], {}, 14, lambda a: a.reshape(4, -1))
        yield case("Shape", [], {}, 1, lambda a: np.array(a.shape))
        yield case("Shape", [], {"start": 1}, 15, lambda a: np.array(a.shape[1:]))
        yield case("Size", [], {}, 1, lambda a: np.array(a.size))
        yield case("Slice", [], {"starts": [1, 0], "ends": [3, 2], "axes": [1, 2]}, 1, lambda a: a[:, 1:3, 0:2])
        yield case("Slice", [np.array([3]), np.array([-9]), np.array([2]), np.array([-2])], {}, 10, lambda a: a[:, :, 3::-2])
        yield case("Squeeze", [], {}, 1, lambda a: a.squeeze())
        yield case("Tile", [np.array([1, 2, 1])], {}, 6, lambda a: np.tile(a, (1, 2, 1)))
        yield case("Transpose", [], {"perm": [2, 0, 1]}, 1, lambda a: a.transpose(2, 0, 1))
        yield case("Unsqueeze", [], {"axes": [1]}, 1, lambda a: a[:, None])
        yield case("Unsqueeze", [np.array([1])], {}, 13, lambda a: a[:, None])
        yield case("GatherElements", [np.array([[[0, 1, 2, 0]], [[2, -1, 0, 1]]])], {"axis": 1}, 11,
                   lambda a: np.take_along_axis(a, np.array([[[0, 1, 2, 0]], [[2, -1, 0, 1]]]), 1))
        yield case("GatherND", [np.array([[0, 2], [1, -3]])], {}, 12, lambda a: a[[0, 1], [2, 0]])
        yield case("Pad", [np.array([0, 1, 0, 0, 0, 2])], {"mode": "edge"}, 13, lambda a: np.pad(a, [(0, 0), (1, 0), (0, 2)], "edge"))
        yield case("Pad", [np.array([0, 1, 0, 0, 0, 2])], {"mode": "wrap"}, 19, lambda a: np.pad(a, [(0, 0), (1, 0), (0, 2)], "wrap"))
        yield case("ReverseSequence", [np.array([1, 2, 2])], {"batch_axis": 1, "time_axis": 0}, 10,
                   lambda a: np.stack([a[:, 0], a[::-1, 1], a[::-1, 2]], 1))
        for opset in (13, 21):
            yield case("Squeeze", [np.array([1])], {}, opset, lambda a: a) if x.shape[1] == 1 else \
                Case("Squeeze", [x[:, :1], np.array([-2])], opset=opset, oracle=lambda a, _: a[:, 0])
        yield case("Pad", [np.array([1, 2]), None, np.array([-1])], {"mode": "constant"}, 18,
                   lambda a: np.pad(a, [(0, 0), (0, 0), (1, 2)], constant_values="" if a.dtype == object else 0))
        yield Case("OneHot", [np.array([[1, 0], [-1, 5]]), np.array([3]), x[0, 0, :2]], {"axis": 1},
                   oracle=lambda i, n, v: np.where(np.arange(3)[None, :, None] == np.where(i < 0, i + 3, i)[:, None], v[1], v[0]))
        yield case("CenterCropPad", [np.array([2, 1])], {"axes": [0, 2]}, 18, lambda a: a[:, :, 1:2])
        yield Case("Where", [np.array([[True], [False], [True]]), x, x[::-1].copy()], opset=9, oracle=lambda c, a, b: np.where(c, a, b))
        yield case("Scatter", [np.array([[[1, 0, 2, 0]]]), x[:1, :1]], {"axis": 1}, 9, lambda a: put(a, a[:1, :1], np.array([[[1, 0, 2, 0]]])))
        yield case("ScatterElements", [np.array([[[1, 0, 2, 0]]]), x[:1, :1]], {"axis": 1}, 11,
                   lambda a: put(a, a[:1, :1], np.array([[[1, 0, 2, 0]]])))
        for opset in (11, 16):
            yield Case("ScatterND", [x, np.array([[1, 2]]), x[0, :1]], opset=opset,
                       oracle=lambda a, i, u: np.concatenate([a[:1], np.concatenate([a[1:, :2], u[None]], 1)]))
        y = x.reshape(1, 4, 2, 3)
        yield Case("DepthToSpace", [y], {"blocksize": 2}, opset=1,
                   oracle=lambda a: a.reshape(1, 2, 2, 1, 2, 3).transpose(0, 3, 4, 1, 5, 2).reshape(1, 1, 4, 6))
        yield Case("SpaceToDepth", [x.reshape(1, 1, 4, 6)], {"blocksize": 2}, opset=1,
                   oracle=lambda a: a.reshape(1, 1, 2, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(1, 4, 2, 3))
        for opset, attrs, more in ((2, {"axis": 2, "split": [1, 3]}, []), (13, {"axis": 2}, [np.array([1, 3])]),
                                   (18, {"axis": 2}, [np.array([1, 3])])):
            yield Case("Split", [x, *more], attrs, opset=opset, nout=2, oracle=lambda a, *s: [a[:, :, :1], a[:, :, 1:]])


def put(a, updates, at):
    """Updates along axis 1, for the first batch."""
    y = a.copy()
    for j in range(at.shape[2]):
        y[0, at[0, 0, j], j] = updates[0, 0, j]
    return y


def older(rng):
    """What newer versions have as well, in the older ones: the same results."""
    acts = {"RNN": ["Affine"], "GRU": ["HardSigmoid", "LeakyRelu"], "LSTM": ["HardSigmoid", "Tanh", "LeakyRelu"]}
    for op, version in itertools.product(recurrent.GATES, (1, 3, 7)):
        for k, direction in enumerate(("forward", "reverse", "bidirectional")):
            dirs = 2 if direction == "bidirectional" else 1
            attrs = {"hidden_size": 3, "direction": direction, "clip": 1.5} | ({"input_forget": 1} if op == "LSTM" and k == 2 else {})
            attrs |= {"activations": acts[op] * dirs, "activation_alpha": [0.4] * len(acts[op]) * dirs,
                      "activation_beta": [0.3] * len(acts[op]) * dirs} if k else {}
            inputs = recurrent.operands(rng, op, 4, 3, 2, 3, dirs, lens=[4, 2, 3], states=2, peep=k == 2)
            new = Case(op, inputs, attrs, opset=14, nout=1 + recurrent.STATES[op])
            yield Case(op, inputs, {**attrs, "output_sequence": 1} if version < 7 else attrs, opset=version, nout=new.nout,
                       oracle=lambda *x, new=new: expected(new))
    for c in families.cases("ml"):
        tensors = any(a.endswith("as_tensor") for a in c.attrs)
        if c.op in ("TreeEnsembleClassifier", "TreeEnsembleRegressor") and c.opset == 3 and not c.error and not tensors:
            old = copy.copy(c)
            old.opset, old.oracle = 1, lambda *x, new=c: expected(new)
            yield old


def posts(rng):
    n, vectors = 4, f32(rng, 12)
    for post in ("SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"):
        yield Case("ai.onnx.ml.SVMRegressor", [f32(rng, 5, 3)],
                   {"kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "n_supports": n, "rho": [0.3],
                    "coefficients": f32(rng, n).tolist(), "support_vectors": vectors.tolist(), "post_transform": post})


def single(rng):
    """Attributes, operands and results of one version alone."""
    x, y = f32(rng, 2, 3, 4), f32(rng, 3, 4)
    legacy = {"consumed_inputs": [0, 0, 0, 1, 1]}
    ops = [f32(rng, 2, 3, 4, 5), *(f32(rng, 3) for _ in range(3)), f32(rng, 3, low=0.2, high=2)]
    norm = families.module("batchnorm")
    for spatial in (0, 1):
        whole = ops if spatial else [ops[0], *(f32(rng, 3, 4, 5) for _ in range(3)), f32(rng, 3, 4, 5, low=0.2, high=2)]
        yield Case("BatchNormalization", whole, {**legacy, "spatial": spatial, "momentum": 0.6}, opset=1, nout=5,
                   oracle=norm.trained(1e-5, 0.6, bool(spatial), True))
        yield Case("BatchNormalization", whole, {**legacy, "spatial": spatial, "is_test": 1}, opset=6,
                   oracle=lambda *v, n=spatial: expected(Case("BatchNormalization", v, {"spatial": n}, opset=7)))
    for opset in (1, 6):
        for c in (f32(rng, 5), f32(rng, 1), f32(rng, 2, 5)):
            yield Case("Gemm", [y[:2], f32(rng, 4, 5), c], {"broadcast": 1, "alpha": 0.5, "beta": 2.0}, opset=opset, oracle=lambda a, b,
                       c: 0.5 * (a @ b) + 2 * c)
    for opset in (1, 6):
        yield Case("Dropout", [x], {"is_test": 1, "ratio": 0.3}, opset=opset, nout=2, wanted=(0, 1), oracle=lambda v: [v, np.ones_like(v)])
    for kind in (ml_dtypes.bfloat16, np.float16, np.float64):
        yield Case("Dropout", [x.astype(kind), np.asarray(0.5, kind), np.array(False)], opset=22, nout=2, oracle=lambda v,
                   *_: [v, np.ones(v.shape, bool)])
        yield Case("Dropout", [x, np.asarray(0.0, kind), np.array(True)], opset=22, nout=2, oracle=lambda v, *_: [v, np.ones(v.shape, bool)])
    yield Case("Split", [x, np.array([1, 3]).astype(np.float32)], {"axis": 2}, opset=1, nout=2, oracle=lambda v, s: [v[..., :1], v[..., 1:]])
    for how in ({"extra_shape": [2], "shape": [3]}, {"shape": [3, 2]}):
        yield Case("GivenTensorFill", [], {"values": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], **how}, opset=1,
                   oracle=[np.arange(1, 7, dtype=np.float32).reshape(3, 2)])
    yield Case("GivenTensorFill", [np.array([3])], {"values": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "extra_shape": [2], "input_as_shape": 1}, opset=1,
               oracle=[np.arange(1, 7, dtype=np.float32).reshape(3, 2)])
    yield Case("GivenTensorFill", [np.array([3])], {"values": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "extra_shape": [2], "input_as_shape": 1}, opset=1,
               dynamic=True, oracle=[np.arange(1, 7, dtype=np.float32).reshape(3, 2)])
    for kind in (np.float16, np.float64):
        yield Case("GivenTensorFill", [np.zeros((3, 2), kind)], {"values": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, opset=1,
                   oracle=[np.arange(1, 7, dtype=np.float32).reshape(3, 2)])
    for op, more in (("GroupNormalization", {"num_groups": 3}), ("RMSNormalization", {}), ("LayerNormalization", {}),
                     ("SimplifiedLayerNormalization", {})):
        v, n = f32(rng, 2, 6, 4), 6 if op[0] == "G" else 4
        params = [f32(rng, n), f32(rng, n)][:1 if op[0] in "RS" else 2]
        first = Case(op, [v, *params], more, opset=None if op[0] != "R" else 23, oracle="ort" if op[0] != "R" else "reference")
        for stash, kind in ((TensorProto.DOUBLE, np.float32), (TensorProto.FLOAT16, ml_dtypes.bfloat16), (TensorProto.BFLOAT16, np.float16),
                            (TensorProto.DOUBLE, np.float64)):
            narrow = lambda *u: [w.astype(np.float32) for w in u]       # statistics are at least of single precision
            yield Case(op, [w.astype(kind) for w in first.inputs], {**more, "stash_type": stash}, opset=first.opset,
                       tol=2e-4 if np.dtype(kind).itemsize > 2 else 2e-2,
                       oracle=lambda *u, c=first, kind=kind: [z.astype(kind) for z in expected(retyped(c, narrow(*u)))])
    unpool, at = f32(rng, 1, 2, 2, 3), np.array([0, 3, 9, 13, 18, 21])
    at = np.stack([at, at + 24]).reshape(1, 2, 2, 3)        # in the 4 x 6 that the window gives
    for opset in (9, 11):
        yield Case("MaxUnpool", [unpool, at, np.array([1, 2, 5, 7])], {"kernel_shape": [2, 2], "strides": [2, 2]}, opset=opset, oracle="reference")
    small = at // 24 * 15 + np.array([0, 2, 4, 7, 9, 14]).reshape(2, 3)
    yield Case("MaxUnpool", [unpool, small], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 0, 0, 1]}, opset=9)
    yield Case("MaxUnpool", [unpool, small], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 0, 0, 1]}, opset=11, dynamic=True)
    wide = np.concatenate([f32(rng, 40, scale=300), np.array([np.inf, -np.inf, 1e6, -1e6, 448, 240, 60000], np.float32)])
    for t in FLOAT8:
        for opset in (19, 21, 23):
            for saturate in (0, 1):
                yield Case("QuantizeLinear", [wide, np.float32(0.5), np.zeros((), t)], {"saturate": saturate}, opset=opset, oracle="reference")
    yield Case("QuantizeLinear", [i32(rng, 5, low=-300, high=300), np.float32(2.5), np.uint8(7)], opset=23, oracle="reference")
    yield Case("QuantizeLinear", [f32(rng, 5, scale=9), np.int32(3), np.uint8(7)], opset=23, oracle=lambda v, s,
               z: np.clip(np.rint(v / 3) + 7, 0, 255).astype(np.uint8))
    for t in (ml_dtypes.int4, ml_dtypes.uint4):
        codes = ints(rng, 3, 5, low=0 if t == ml_dtypes.uint4 else -8, high=7).astype(t)
        for opset in (21, 23, 25):
            yield Case("DequantizeLinear", [codes, np.float32([0.5, 2, 3]), codes[:, 0]], {"axis": 0}, opset=opset, oracle="reference")
    yield Case("StringNormalizer", [strings(rng, 6)], {"locale": "en_US", "case_change_action": "UPPER"}, opset=10,
               oracle=lambda v: np.array([w.upper() for w in v], object))
    for opset in (11, 24):
        yield Case("TopK", [f32(rng, 3, 9), np.array([4])], {"sorted": 0, "largest": 0}, opset=opset, nout=2,
                        # any order will do; accelc has the one
                   oracle=lambda v, k: [np.sort(v, -1)[:, :4], np.argsort(v, -1)[:, :4]])
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}
    for opset in (13, 18, 19):
        yield Case("Resize", [f32(rng, 1, 1, 4, 5), None, np.float32([1, 1, 1.7, 0.6])], nearest, opset=opset)
    yield Case("GRU", recurrent.operands(rng, "GRU", 5, 3, 4, 8), {"hidden_size": 8, "linear_before_reset": 1}, opset=3, nout=2,
               oracle=lambda *v: expected(Case("GRU", v, {"hidden_size": 8, "linear_before_reset": 1}, opset=14, nout=2)))
    for domain in ("", "org.pytorch.aten."):
        yield Case(domain + "ATen", [y, y[0]], {"operator": "aten::add", "overload_name": "Tensor"}, opset=1, oracle=[y + y[0]])
    for kind in (np.float16, np.float64):
        yield Case("GRUUnit", [f32(rng, 1, 4, 5).astype(kind), f32(rng, 1, 4, 15).astype(kind), np.array([1, 3, 2, 0], np.int32),
                               np.array(1, np.int32)],
                   {"drop_states": 1}, opset=1, oracle=families.module("old_ops").gruunit(1), tol=1e-3 if kind == np.float16 else 1e-9)
    for kind in (np.int32, np.int64, np.uint32, np.uint64):
        v = ints(rng, 3, 5, low=2, high=9, dtype=kind)      # truncated, as ONNX Runtime and NumPy do
        for opset in (13, 18):
            attrs, more = ({"axes": [1]}, []) if opset == 13 else ({}, [np.array([1])])
            yield Case("ReduceLogSum", [v, *more], attrs, opset=opset, oracle=lambda a, *_: np.trunc(np.log(a.sum(1, keepdims=True))).astype(a.dtype))
            yield Case("ReduceLogSumExp", [v, *more], attrs, opset=opset,
                       oracle=lambda a, *_: np.trunc(np.log(np.exp(a.astype(float)).sum(1, keepdims=True))).astype(a.dtype))
    for kind in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        yield Case("Erf", [ints(rng, 9, low=0 if np.dtype(kind).kind == "u" else -3, high=3, dtype=kind)], opset=9,
                   oracle=lambda v: np.where(v.astype(float) >= 6, 1, 0).astype(v.dtype))


def retyped(case, inputs):
    other = copy.copy(case)
    other.inputs = inputs
    return other


def masks(rng):
    """Integers as masks of attention are numbers to add."""
    q, k, v = f32(rng, 2, 4, 3, 8), f32(rng, 2, 2, 5, 8), f32(rng, 2, 2, 5, 6)
    for kind in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        mask = ints(rng, 3, 5, low=0, high=3, dtype=kind)
        for opset in (23, 24):
            yield Case("Attention", [q, k, v, mask], opset=opset, oracle=lambda q, k, v,
                       m: expected(Case("Attention", [q, k, v, m.astype(np.float32)], opset=23)))


def scans(rng):
    """A body that moves elements: the state is the element before."""
    import onnx.parser
    for name, kind in (("bool", bool), ("int8", np.int8), ("int16", np.int16), ("int32", np.int32), ("int64", np.int64), ("uint8", np.uint8),
                       ("uint16", np.uint16),
                       ("uint32", np.uint32), ("uint64", np.uint64), ("string", object), ("complex64", np.complex64), ("complex128", np.complex128)):
        body = onnx.parser.parse_graph(f"late ({name}[2] state, {name}[2] x) => ({name}[2] next, {name}[2] y) "
                                        f"{{ next = Identity (x)  y = Identity (state) }}")
        x = strings(rng, 3, 6, 2) if kind is object else ints(rng, 3, 6, 2, low=0, high=9).astype(kind)
        yield Case("Scan", [None, x[:, 0], x[:, 1:]], {"body": body, "num_scan_inputs": 1}, opset=8, nout=2,
                   oracle=lambda n, s, v: [v[:, -1], np.concatenate([s[:, None], v[:, :-1]], 1)])


def cases(rng):
    yield from single(rng)
    yield from masks(rng)
    yield from scans(rng)
    yield from older(rng)
    yield from posts(rng)
    yield from attention(rng)
    yield from casts(rng)
    yield from quantised(rng)
    yield from far_taps(rng)
    yield from layers(rng)
    yield from moved(rng)
