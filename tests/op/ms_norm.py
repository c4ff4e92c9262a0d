"""com.microsoft: normalisations."""
import numpy as np

from op_test import Case, bf16, f16, f32, f64, i32

MS = "com.microsoft."


def group_norm(x, gamma, beta, groups, last, act, eps=1e-5, skip=None, bias=None):
    x = x.astype(np.float64)
    if skip is not None:
        shape = (x.shape[0],) + ((1,) * (x.ndim - 2) + (-1,) if last else (-1,) + (1,) * (x.ndim - 2))
        x = x + (skip.reshape(shape) if skip.ndim == 2 else skip)
        if bias is not None:
            x = x + bias.reshape((-1,) if last else (-1,) + (1,) * (x.ndim - 2))
    y = x if not last else np.moveaxis(x, -1, 1)
    n, c = y.shape[:2]
    g = y.reshape(n, groups, -1)
    g = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + eps)
    side = (1, c) + (1,) * (y.ndim - 2)
    y = g.reshape(y.shape) * gamma.reshape(side) + beta.reshape(side)
    y = y / (1 + np.exp(-y)) if act else y
    return np.moveaxis(y, 1, -1) if last else y, x


def groups(rng, shape, groups, last, act, skip=None, bias=False, kind=np.float32, **how):
    c = shape[-1] if last else shape[1]
    x, gamma, beta = f32(rng, *shape, dtype=kind), f32(rng, c), f32(rng, c)
    attrs = {"groups": groups, "channels_last": int(last), "activation": act, "epsilon": 1e-3}
    if skip is None:
        return Case(MS + "GroupNorm", [x, gamma, beta], attrs,
                    oracle=lambda x, g, b: [group_norm(x, g, b, groups, last, act, 1e-3)[0].astype(kind)], **how)
    inputs = [x, gamma, beta, f32(rng, *skip, dtype=kind)] + ([f32(rng, c, dtype=kind)] if bias else [])
    return Case(MS + "SkipGroupNorm", inputs, attrs, nout=2, oracle=lambda x, g, b, s, a=None: [
        y.astype(kind) for y in group_norm(x, g, b, groups, last, act, 1e-3, s, a)], **how)


def embed(rng, segments=True, mask=True, positions=False, nout=3, dynamic=False):
    b, s, h = 2, 5, 12
    inputs = [i32(rng, b, s, low=0, high=19), i32(rng, b, s, low=0, high=1) if segments else None, f32(rng, 20, h), f32(rng, 9, h),
              f32(rng, 2, h) if segments else None, f32(rng, h), f32(rng, h), i32(rng, b, s, low=0, high=1) if mask else None,
              i32(rng, b, s, low=0, high=8) if positions else None]
    while inputs[-1] is None:
        inputs.pop()
    return Case(MS + "EmbedLayerNormalization", inputs, {"epsilon": 1e-5}, nout=nout, dynamic=dynamic)


def cases(rng):
    for op, extra in (("SkipLayerNormalization", 1), ("SkipSimplifiedLayerNormalization", 0)):
        for dynamic in (False, True):
            x, h = f32(rng, 2, 5, 24), 24
            more = [f32(rng, h)] * extra
            yield Case(MS + op, [x, f32(rng, 2, 5, h), f32(rng, h), *more], {"epsilon": 1e-3}, dynamic=dynamic)
            yield Case(MS + op, [x, f32(rng, 1, 5, h), f32(rng, h), *more, f32(rng, h)], nout=4, wanted=(0, 3), dynamic=dynamic)
            yield Case(MS + op, [x, f32(rng, 5, h), f32(rng, h)] + [None] * extra, nout=4, wanted=(0, 3), dynamic=dynamic)
        yield Case(MS + op, [f32(rng, 5, h), f32(rng, 5, h), f32(rng, h)])
        yield Case(MS + op, [f16(rng, 2, 5, h), f16(rng, 2, 5, h), f16(rng, h)], nout=4, wanted=(0, 3), tol=2e-3)
        yield Case(MS + op, [f32(rng, 2, 5, h), f32(rng, 1, 1, 2, 5, h), f32(rng, h)], error="skip", oracle=None)
    for kind in (f32, f64, f16, bf16):
        yield Case("SimplifiedLayerNormalization", [kind(rng, 3, 4, 16), kind(rng, 16)], {"epsilon": 1e-2}, opset=21,
                   tol=1e-9 if kind is f64 else 1e-4, oracle=rms(1e-2))
    yield Case("SimplifiedLayerNormalization", [f32(rng, 3, 4, 16), f32(rng, 4, 16)], {"axis": 1}, opset=21, nout=2, dynamic=True)
    for opset in (11, 16):      # ONNX Runtime has it before version 17, and its optimiser makes use of that
        yield Case("LayerNormalization", [f32(rng, 2, 5, 24), f32(rng, 24), f32(rng, 24)], {"epsilon": 1e-3}, opset=opset, oracle="ort")
    yield embed(rng)
    yield embed(rng, segments=False, mask=False, nout=2)
    yield embed(rng, positions=True)
    yield embed(rng, dynamic=True)
    yield groups(rng, (2, 4, 3, 12), 3, True, 0)
    yield groups(rng, (2, 12, 4, 3), 4, False, 1, dynamic=True)
    yield groups(rng, (2, 4, 3, 12), 3, True, 1, kind=np.float16, tol=4e-3)
    yield groups(rng, (2, 4, 3, 12), 3, True, 0, skip=(2, 12), bias=True)
    yield groups(rng, (2, 4, 3, 12), 3, True, 1, skip=(2, 4, 3, 12))
    yield groups(rng, (2, 4, 3, 12), 3, True, 1, skip=(2, 1, 1, 12), bias=True, dynamic=True)
    yield Case(MS + "GroupNorm", [f32(rng, 2, 10, 4, 3), f32(rng, 10), f32(rng, 10)],
               {"groups": 4, "channels_last": 0, "activation": 1}, error="divisible by groups=4")
    for kind in (f32, f16):
        yield Case(MS + "BranchwiseRMSNorm", [kind(rng, 3, 4, 16), kind(rng, 64)], {"epsilon": 1e-2}, tol=2e-3)
        yield Case(MS + "BranchwiseRMSNorm", [kind(rng, 3, 4, 16), f32(rng, 4, 16)], tol=2e-3, dynamic=True)
    yield Case(MS + "BranchwiseRMSNorm", [f32(rng, 3, 64), f32(rng, 16)], {"num_branches": 4})
    for n in (16, 64):
        yield Case(MS + "BranchwiseRMSNorm", [f32(rng, 3, 64), f32(rng, n)], {"num_branches": 4}, dynamic=True)
        yield Case(MS + "BranchwiseRMSNorm", [f32(rng, 3, 4, 16), f32(rng, n)], const=(1,), dynamic=True)
        yield Case(MS + "BranchwiseRMSNorm", [f32(rng, 3, 64), f32(rng, n)], {"num_branches": 4}, const=(1,), dynamic=True)
    yield Case(MS + "BranchwiseRMSNorm", [f32(rng, 3, 64), f32(rng, 32)], {"num_branches": 4}, error="broadcast|scale")
    yield Case(MS + "BranchwiseRMSNorm", [f32(rng, 3, 64)], {"num_branches": 4})
    for kind in (f32, f16):
        for act in ("silu", "swish", "sigmoid"):
            yield Case(MS + "GatedRMSNorm", [kind(rng, 2, 3, 24), kind(rng, 8), kind(rng, 2, 3, 24)],
                       {"activation": act, "epsilon": 1e-2}, tol=1e-4 if kind is f32 else 2e-3, dynamic=act == "silu")
        yield Case(MS + "EngramGate", [kind(rng, 2, 3, 4, 16), kind(rng, 2, 3, 4, 16), kind(rng, 2, 3, 16), kind(rng, 4, 16),
                                       kind(rng, 4, 16), kind(rng, 4, 16)], {"epsilon": 1e-3}, nout=2, tol=1e-4 if kind is f32 else 4e-3)
    yield Case(MS + "EngramGate", [f32(rng, 2, 3, 4, 16), f32(rng, 2, 3, 4, 16), f32(rng, 2, 3, 16), f32(rng, 4, 16), f32(rng, 4, 16)],
               dynamic=True)


def rms(eps):
    def run(x, scale):
        w = x.astype(np.float64)
        return [(w / np.sqrt((w * w).mean(-1, keepdims=True) + eps) * scale.astype(np.float64)).astype(x.dtype)]
    return run
