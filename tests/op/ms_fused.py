"""com.microsoft: products, convolutions and activations that optimisers fuse."""
import numpy as np

from op_test import Case, by_ort, f16, f32, f64

MS = "com.microsoft."


def erf(x):
    import math
    return np.vectorize(math.erf)(x.astype(np.float64))


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


ACTIVATIONS = {"Relu": [], "Tanh": [], "Sigmoid": [], "LeakyRelu": [0.2], "Clip": [-0.5, 0.75], "HardSigmoid": [0.3, 0.4]}


def nhwc(case):
    """The same convolution by ONNX Runtime, channels first, with Z and the activation."""
    def run(x, w, b=None, z=None):
        inner = Case("Conv", [np.moveaxis(x, -1, 1), w, b], {k: v for k, v in case.items() if "activ" not in k}, opset=11)
        y = np.moveaxis(by_ort(inner)[0], 1, -1)
        y = y + z if z is not None else y
        return [np.maximum(y, 0) if case.get("activation") == "Relu" else y]
    return run


def softmax(axis):
    def run(x, bias):
        axes = tuple(range(axis % x.ndim, x.ndim))
        e = np.exp(x + bias - (x + bias).max(axes, keepdims=True))
        return [e / e.sum(axes, keepdims=True)]
    return run


def cases(rng):
    for dynamic in (False, True):
        yield Case(MS + "BiasGelu", [f32(rng, 2, 3, 64), f32(rng, 64)], tol=1e-5, dynamic=dynamic)
        yield Case(MS + "FastGelu", [f32(rng, 2, 3, 64), f32(rng, 64)], dynamic=dynamic)
        yield Case(MS + "QuickGelu", [f32(rng, 2, 33)], {"alpha": 1.3}, dynamic=dynamic)
    yield Case(MS + "FastGelu", [f32(rng, 5, 7, scale=4)])
    yield Case(MS + "QuickGelu", [f32(rng, 7)])
    yield Case(MS + "Gelu", [f32(rng, 3, 50, scale=3)])
    yield Case(MS + "Gelu", [f64(rng, 3, 50)], oracle=lambda x: [gelu(x)], tol=1e-9)
    yield Case(MS + "BiasSplitGelu", [f32(rng, 2, 5, 16), f32(rng, 16)],
               oracle=lambda x, b: [((x + b)[..., :8] * gelu((x + b)[..., 8:])).astype(np.float32)], dynamic=True)
    yield Case(MS + "BiasSplitGelu", [f32(rng, 2, 5, 15), f32(rng, 15)], error="must be even")
    for axis, bias in ((3, (2, 1, 1, 6)), (2, (1, 1, 5, 6)), (-1, (6,))):
        yield Case(MS + "BiasSoftmax", [f32(rng, 2, 3, 5, 6), f32(rng, *bias)], {"axis": axis, "is_inner_broadcast": 1},
                   oracle=softmax(axis), dynamic=axis == 3)
    yield Case(MS + "BiasAdd", [f32(rng, 2, 5, 16), f32(rng, 16), f32(rng, 2, 5, 16)], oracle=lambda x, b, s: [x + b + s])
    for kind, tol in ((f32, 1e-4), (f16, 2e-3)):
        yield Case(MS + "ScaledSiLU", [kind(rng, 3, 17), f32(rng)], {"alpha": 9.0}, tol=tol)
        yield Case(MS + "ScaledSiLU", [kind(rng, 3, 17)], {"alpha": 0.3}, tol=tol)
        yield Case(MS + "GatedAdd", [kind(rng, 2, 3, 17), kind(rng, 2, 3, 17), kind(rng, 2, 3, 1)], tol=tol)
        yield Case(MS + "LinearAttentionGate", [kind(rng, 2, 3, 4), f32(rng, 4), f32(rng, 4), kind(rng, 2, 3, 4)], nout=2, tol=tol)
    yield Case(MS + "LinearAttentionGate", [f32(rng, 2, 3, 4, scale=30), f32(rng, 4), f32(rng, 4)], dynamic=True)
    # products
    for ta, tb in ((0, 0), (1, 0), (0, 1), (1, 1)):
        a, b = ((5, 3, 4) if not ta else (5, 4, 3)), ((5, 4, 6) if not tb else (5, 6, 4))
        yield Case(MS + "FusedMatMul", [f32(rng, *a), f32(rng, *b)], {"transA": ta, "transB": tb, "alpha": 0.7}, dynamic=bool(ta))
        yield Case(MS + "TransposeMatMul", [f32(rng, *a), f32(rng, *b)], {"transA": ta, "transB": tb, "alpha": 1.5})
        a, b = ((3, 5, 4) if not ta else (4, 5, 3)), ((4, 5, 6) if not tb else (6, 5, 4))
        yield Case(MS + "FusedMatMul", [f32(rng, *a), f32(rng, *b)],
                   {"transA": ta, "transB": tb, "transBatchA": 1, "transBatchB": 1}, oracle=batched(ta, tb))
        a, b = ((3, 4) if not ta else (4, 3)), ((4, 6) if not tb else (6, 4))
        yield Case(MS + "FusedGemm", [f32(rng, *a), f32(rng, *b), f32(rng, 6)],
                   {"transA": ta, "transB": tb, "alpha": 0.5, "beta": 2.0, "activation": "Relu"}, dynamic=bool(tb))
    yield Case(MS + "FusedMatMul", [f32(rng, 7), f32(rng, 7, 3)], {"transA": 1})
    yield Case(MS + "FusedMatMul", [f64(rng, 2, 7), f64(rng, 7, 3)], {"alpha": 0.5}, tol=1e-9)
    yield Case(MS + "FusedMatMulActivation", [f32(rng, 2, 7), f32(rng, 7, 3)], {"activation": "Relu", "alpha": 2.0},
               oracle=lambda a, b: [np.maximum(2 * a @ b, 0)])
    for name, p in ACTIVATIONS.items():
        at = {f"activation_{k}": v for k, v in zip(("alpha", "beta"), p)}
        if name != "Clip":
            yield Case(MS + "FusedGemm", [f32(rng, 3, 4), f32(rng, 4, 6)], {"activation": name, **at})
        yield Case(MS + "FusedConv", [f32(rng, 1, 3, 6, 7), f32(rng, 4, 3, 3, 3), f32(rng, 4)],
                   {"activation": name, "activation_params": p or None, "kernel_shape": [3, 3]})
    yield Case(MS + "FusedGemm", [f32(rng, 3, 4), f32(rng, 4, 6)], {"activation": "Sqrt"}, error="activation: Sqrt")
    yield Case(MS + "FusedConv", [f32(rng, 2, 4, 6, 7), f32(rng, 4, 2, 3, 3), f32(rng, 4), f32(rng, 2, 4, 6, 7)],
               {"activation": "Relu", "group": 2, "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}, dynamic=True)
    for attrs in ({}, {"pads": [1, 1, 1, 1], "strides": [2, 1]}, {"group": 2, "dilations": [2, 1]}, {"auto_pad": "SAME_UPPER"}):
        c = 6 // attrs.get("group", 1)
        x, w = f32(rng, 2, 9, 8, 6), f32(rng, 4, c, 3, 3)
        yield Case(MS + "NhwcConv", [x, w, f32(rng, 4)], attrs, oracle=nhwc(attrs), dynamic="pads" in attrs)
    attrs = {"activation": "Relu", "pads": [1, 1, 1, 1]}
    yield Case(MS + "NhwcFusedConv", [x, f32(rng, 4, 6, 3, 3), f32(rng, 4), f32(rng, 2, 9, 8, 4)], attrs, oracle=nhwc(attrs))


def batched(ta, tb):
    def run(a, b):
        a, b = np.moveaxis(a, 0, -2), np.moveaxis(b, 0, -2)
        return [np.matmul(np.swapaxes(a, -1, -2) if ta else a, np.swapaxes(b, -1, -2) if tb else b)]
    return run
