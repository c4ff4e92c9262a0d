"""Operators of ai.onnx that only its first releases list."""
import numpy as np

from op_test import Case, f16, f32, i64


def gruunit(drop):
    def run(h, g, lengths, t):
        u, o = (np.split(g.astype(np.float64), 3, -1)[i] for i in (1, 2))
        u = 1 / (1 + np.exp(-u))
        new = h * u + np.tanh(o) * (1 - u)
        return [np.where((t < lengths)[None, :, None], new, np.zeros_like(h) if drop else h).astype(h.dtype)]
    return run


def mvn(across, scaled):
    def run(x):
        axes = (1, 2, 3) if across else (2, 3)
        d = x.astype(np.float64) - x.mean(axes, keepdims=True)
        return [(d / np.sqrt((d * d).mean(axes, keepdims=True) + 1e-9) if scaled else d).astype(x.dtype)]
    return run


def cases(rng):
    x = f32(rng, 2, 3, 8, 9, scale=3)
    for op, attrs in (("Affine", {"alpha": 2.0, "beta": -1.0}), ("Affine", {"alpha": 0.5, "beta": 0.25}), ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}),
                      ("ParametricSoftplus", {"alpha": 2.0, "beta": 3.0}), ("Scale", {"scale": 2.5}), ("ThresholdedRelu", {"alpha": 0.7})):
        yield Case(op, [x], attrs, opset=1)
        yield Case(op, [x[0]], attrs, opset=7, dynamic=True)
    yield Case("ParametricSoftplus", [f32(rng, 50, scale=100)], {"alpha": 1.0, "beta": 2.0}, opset=1)
    yield Case("ThresholdedRelu", [x], opset=1)
    yield Case("ImageScaler", [x], {"scale": 2.0, "bias": [1.0, -2.0, 0.5]}, opset=1)
    yield Case("ImageScaler", [x], {"scale": 0.5, "bias": [1.0, -2.0, 0.5]}, opset=7, dynamic=True)
    yield Case("Crop", [x], {"border": [1, 2, 3, 1]}, opset=1)
    yield Case("Crop", [x], {"border": [1, 2, 0, 0], "scale": [4, 5]}, opset=1)
    yield Case("Crop", [x], {"border": [1, 2, 3, 1]}, opset=7, dynamic=True)
    starts, ends = np.array([1, 0]), np.array([2, 3])
    yield Case("DynamicSlice", [x, starts, ends], opset=1)
    yield Case("DynamicSlice", [x, starts, np.array([-1, 1000]), np.array([2, 3])], opset=1, const=(1, 2, 3))
    yield Case("DynamicSlice", [x, starts.astype(np.int32), ends.astype(np.int32), np.array([3, 1], np.int32)], opset=7, const=(3,))
    yield Case("GivenTensorFill", [], {"values": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "shape": [2, 3]}, opset=1,
               oracle=[np.arange(1, 7, dtype=np.float32).reshape(2, 3)])
    yield Case("GivenTensorFill", [f32(rng, 2, 3)], {"values": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, opset=1,
               oracle=[np.arange(1, 7, dtype=np.float32).reshape(2, 3)])
    yield Case("ConstantFill", [], {"value": 2.5, "shape": [2, 3]}, opset=1, oracle=[np.full((2, 3), 2.5, np.float32)])
    yield Case("ConstantFill", [np.array([2, 3])], {"value": 2.0, "input_as_shape": 1, "extra_shape": [4], "dtype": 7}, opset=1,
               oracle=[np.full((2, 3, 4), 2)])
    yield Case("ConstantFill", [f32(rng, 2, 3)], {"value": 2.0, "dtype": 6}, opset=1, dynamic=True, oracle=[np.full((2, 3), 2, np.int32)])
    for drop in (0, 1):
        yield Case("GRUUnit", [f32(rng, 1, 4, 5), f32(rng, 1, 4, 15), np.array([1, 3, 2, 0], np.int32), np.array(1, np.int32)], {"drop_states": drop},
                   opset=1, oracle=gruunit(drop))
    for across in (0, 1):
        for scaled in (0, 1):
            attrs = {"across_channels": across, "normalize_variance": scaled}
            yield Case("MeanVarianceNormalization", [x], attrs, opset=1, oracle=mvn(across, scaled))
    y = f32(rng, 3, 4, low=0.1, high=2)
    for name, inputs, want in (("relu", [x], np.maximum(x, 0)), ("aten::add", [x, x[0]], x + x[0]), ("maximum", [x, x[:1]], np.maximum(x, x[:1])),
                               ("rsqrt", [y], 1 / np.sqrt(y)), ("silu", [y], y / (1 + np.exp(-y))), ("pow", [y, y], y ** y)):
        for domain in ("", "org.pytorch.aten."):
            yield Case(domain + "ATen", inputs, {"operator": name}, opset=1, oracle=[want])
    yield Case("ATen", [f16(rng, 4)], {"operator": "abs"}, opset=9, oracle=lambda v: [np.abs(v)])
    yield Case("ATen", [x], {"operator": "embedding_bag"}, opset=9, error='attribute operator: "embedding_bag" of 1 operands')
    yield Case("GivenTensorFill", [], {"values": [1.0], "shape": [2]}, opset=1, error="1 numbers do not fill the shape")
    yield Case("ConstantFill", [], {"shape": [-1]}, opset=1, error="negative")
    yield Case("ConstantFill", [i64(rng, 2)], {"shape": [2]}, opset=1, error="either an operand or attribute shape")
    yield Case("GRUUnit", [f32(rng, 1, 4, 5), f32(rng, 1, 4, 14), np.array([1, 3, 2, 0]), np.array(1)], opset=1, error="three times the size")
