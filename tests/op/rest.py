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


def layers(rng):
    x, w = f32(rng, 1, 2, 5, 4), f32(rng, 2, 3, 3, 2)
    for opset in (1, 11):
        yield Case("ConvTranspose", [x, w], {"output_shape": [11, 8], "strides": [2, 2]}, opset=opset)
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


def cases(rng):
    yield from older(rng)
    yield from posts(rng)
    yield from attention(rng)
    yield from casts(rng)
    yield from quantised(rng)
    yield from layers(rng)
    yield from moved(rng)
