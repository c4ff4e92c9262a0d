"""com.microsoft: mixtures of experts, with weights of floats and of 2, 4 and 8 bits."""
import numpy as np

from op_test import Case, expected, f32, u8

MS = "com.microsoft."


def weights(rng, e, n, k, bits, block, zero):
    """(packed, scales, zero points)"""
    scale = (e, n, k // block) if block else (e, n)
    z = None
    if zero:
        z = u8(rng, e, n, -(-k // block * bits // 8)) if block else u8(rng, e, -(-n * bits // 8))
    return u8(rng, e, n, k * bits // 8), f32(rng, *scale, low=0.01, high=0.05) * np.float32(16 / 2 ** bits), z


def moe(rng, kind, tokens=(7,), e=5, h=32, inter=48, bias=True, fc3=False, **attrs):
    how = {k: attrs.pop(k) for k in ("oracle", "dynamic", "error") if k in attrs}
    wide = 2 if kind in ("swiglu", "geglu") and attrs.get("swiglu_fusion") else 1
    count = int(np.prod(tokens))
    inputs = [f32(rng, *tokens, h), f32(rng, count, e), f32(rng, e, inter * wide, h, scale=0.2), f32(rng, e, inter * wide) if bias else None,
              f32(rng, e, h, inter, scale=0.2), f32(rng, e, h) if bias else None]
    if fc3:
        inputs += [f32(rng, e, inter, h, scale=0.2), f32(rng, e, inter) if bias else None]
    while inputs[-1] is None:
        inputs.pop()
    return Case(MS + "MoE", inputs, {"activation_type": kind, "k": 2, **attrs}, const=(2, 4), **how)


def gated(kind, k):
    """MoE with fc3, which ONNX Runtime has for CUDA only."""
    def run(x, router, w1, b1, w2, b2, w3, b3):
        p = np.exp(router - router.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        y = np.zeros(x.shape)
        for t in range(len(x)):
            for e in np.argsort(-p[t], kind="stable")[:k]:
                g, up = w1[e] @ x[t] + b1[e], w3[e] @ x[t] + b3[e]
                y[t] += p[t, e] * (w2[e] @ (g / (1 + np.exp(-g)) * up) + b2[e])
        return [y.astype(x.dtype)]
    return run


def fused(act):
    """MoE whose fused FC1 has gate and linear part interleaved; act(gate, linear) is between the projections."""
    def run(x, router, w1, b1, w2, b2):
        p = np.exp(router - router.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        y = np.zeros(x.shape)
        for t in range(len(x)):
            for e in np.argsort(-p[t], kind="stable")[:2]:
                h = w1[e] @ x[t] + b1[e]
                y[t] += p[t, e] * (w2[e] @ act(h[0::2], h[1::2]) + b2[e])
        return [y.astype(x.dtype)]
    return run


def late_limit(g, up):
    return np.minimum(g / (1 + np.exp(-1.5 * g)), 0.7) * (np.clip(up, -0.7, 0.7) + 0.5)


def geglu(g, up):
    return g / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3))) * up


def squared(case):
    def run(x, router, w1, b1, w2, b2):
        return fused(lambda g, up: np.maximum(g, 0) ** 2)(x, router, np.repeat(w1, 2, 1), np.repeat(b1, 2, 1), w2, b2)
    case.oracle = run
    return case


def three_bits(rng, widths=(3, 3), zero=False, **attrs):
    """Rows of 3-bit values are strings of bits, as those of 2, 4 and 8 are. ONNX Runtime has one width, and no zero points, which could only be 4."""
    e, h, inter, block, half = 4, 64, 96, 32, np.float16
    codes = []

    def rows(n, k, bits):
        q = rng.integers(0, 1 << bits, (e, n, k)).astype(np.uint8)
        codes.append(q.astype(np.float32) - (1 << bits - 1))
        return np.packbits((q[..., None] >> np.arange(bits) & 1).reshape(e, n, k * bits), axis=-1, bitorder="little")

    def scales(n, k):
        return f32(rng, e, n, k // block, low=0.02, high=0.06, dtype=half)
    inputs = [f32(rng, 5, h, dtype=half), f32(rng, 5, e, dtype=half), rows(2 * inter, h, widths[0]), scales(2 * inter, h), None,
              rows(h, inter, widths[1]), scales(h, inter), None, None, None, None]
    if zero:
        four = [np.packbits(np.tile([0, 0, 1], k // block), bitorder="little") for k in (h, inter)]
        inputs += [np.tile(four[0], (e, 2 * inter, 1)), np.tile(four[1], (e, h, 1))]
    s1, s2 = inputs[3], inputs[6]

    def plain(x, router, *_):
        w1, w2 = (q * np.repeat(s.astype(np.float32), block, -1) for q, s in zip(codes, (s1, s2)))
        none, act = np.zeros((e, 1)), fused(lambda g, up: g / (1 + np.exp(-1.702 * g)) * (up + 1))
        return [act(x.astype(np.float32), router.astype(np.float32), w1, none, w2, none)[0].astype(half)]
    how = {"expert_weight_bits": 3, "fc1_expert_weight_bits": widths[0], "fc2_expert_weight_bits": widths[1], "fc3_expert_weight_bits": widths[0]}
    return Case(MS + "QMoE", inputs, {"activation_type": "swiglu", "swiglu_fusion": 1, "weights_prepacked": 0, "block_size": block, "k": 2,
                                      "activation_alpha": 1.702, "activation_beta": 1.0, **how, **attrs}, const=(2, 3, 5, 6), tol=5e-3,
                oracle=plain if zero or len(set(widths)) > 1 else "ort")


def qmoe(rng, bits=4, block=0, zero=False, kind="silu", tokens=(7,), e=5, h=32, inter=48, bias=False, mixing=False,
         dtype=np.float32, tol=1e-4, **attrs):
    how = {k: attrs.pop(k) for k in ("oracle", "dynamic", "error") if k in attrs}
    wide = 2 if kind == "swiglu" else 1
    count = int(np.prod(tokens))
    q1, s1, z1 = weights(rng, e, inter * wide, h, bits, block, zero)
    q2, s2, z2 = weights(rng, e, h, inter, attrs.get("fc2_expert_weight_bits", bits), block, zero)
    if attrs.get("fc2_expert_weight_bits"):
        z2 = None
    inputs = [f32(rng, *tokens, h, dtype=dtype), f32(rng, count, e, dtype=dtype),
              q1, s1.astype(dtype), f32(rng, e, inter * wide, dtype=dtype) if bias else None,
              q2, s2.astype(dtype), f32(rng, e, h, dtype=dtype) if bias else None, None, None, None, z1, z2, None,
              f32(rng, count, e, dtype=dtype, low=0, high=1) if mixing else None]
    while inputs[-1] is None:
        inputs.pop()
    const = [i for i in (2, 3, 5, 6, 11, 12) if i < len(inputs) and inputs[i] is not None]
    size = {"block_size": block} if block else {}
    return Case(MS + "QMoE", inputs, {"activation_type": kind, "k": 2, "expert_weight_bits": bits, **size, **attrs},
                const=const, tol=tol, **how)


def widened(case):
    """The same with 8 bits for fc1: 4-bit values are moved to their zero point's distance from 128."""
    q = case.inputs[2]
    q = np.stack([q & 15, q >> 4], -1).reshape(*q.shape[:-1], -1) + 120
    return Case(MS + "QMoE", [*case.inputs[:2], q.astype(np.uint8), *case.inputs[3:]],
                {**case.attrs, "expert_weight_bits": 8, "fc2_expert_weight_bits": None}, const=case.const)


def cases(rng):
    for kind in ("relu", "gelu", "silu", "identity"):
        for norm in (0, 1):
            yield moe(rng, kind, normalize_routing_weights=norm)
    yield moe(rng, "swiglu", swiglu_fusion=1)
    yield moe(rng, "swiglu", swiglu_fusion=1, activation_alpha=1.702, activation_beta=1.0, swiglu_limit=2.0)
    yield moe(rng, "silu", tokens=(2, 3), bias=False, dynamic=True)
    yield moe(rng, "relu", k=1)
    yield moe(rng, "relu", use_sparse_mixer=1)
    yield moe(rng, "relu", k=5)
    yield moe(rng, "silu", fc3=True, oracle=gated("silu", 2))
    yield moe(rng, "swiglu", fc3=True, oracle=gated("silu", 2))
    for bits in (2, 4, 8):
        for block in (0, 16):
            for zero in (False, True):
                yield qmoe(rng, bits, block, zero, normalize_routing_weights=int(zero))
    yield qmoe(rng, 4, 32, True, h=64, inter=96, kind="swiglu", swiglu_fusion=1, bias=True, activation_alpha=1.702,
               activation_beta=1.0, swiglu_limit=2.0)
    yield qmoe(rng, 4, 0, kind="relu", tokens=(2, 3), bias=True, dynamic=True)
    yield qmoe(rng, 4, 0, kind="relu", mixing=True)
    yield qmoe(rng, 4, 0, kind="relu", mixing=True, normalize_routing_weights=1)
    mixed = qmoe(rng, 4, 16, kind="relu", fc2_expert_weight_bits=8)            # ONNX Runtime has one width for both
    wide = widened(mixed)
    mixed.oracle = lambda *x: expected(wide)
    yield mixed
    yield qmoe(rng, 4, 0, kind="relu", dtype=np.float16, tol=5e-3)
    for k in (1, 2):
        for norm in (0, 1):
            yield qmoe(rng, 4, 16, kind="relu", k=k, normalize_routing_weights=norm)
            yield three_bits(rng, k=k, normalize_routing_weights=norm)
    yield three_bits(rng, zero=True)
    yield three_bits(rng, swiglu_limit=1.0)
    yield three_bits(rng, widths=(4, 3))
    yield three_bits(rng, widths=(3, 8))
    # what ONNX Runtime has for CUDA only
    yield moe(rng, "swiglu", swiglu_fusion=1, swiglu_limit=0.7, swiglu_limit_after_activation=1, activation_alpha=1.5, activation_beta=0.5,
              oracle=fused(late_limit))
    yield moe(rng, "geglu", swiglu_fusion=1, oracle=fused(geglu))
    yield squared(moe(rng, "relu2"))
    yield moe(rng, "geglu", error="swiglu_fusion: 0 without fc3")
    yield moe(rng, "swiglu", error="swiglu_fusion: 0 without fc3")
    yield moe(rng, "relu", k=6, error="attribute k: 6 is not a number of the experts")
    yield moe(rng, "relu", k=0, error="attribute k")
    yield qmoe(rng, quant_type="fp8", error="attribute quant_type: \"fp8\" exists for GPUs only")
    yield qmoe(rng, weights_prepacked=1, error="attribute weights_prepacked: 1 is a layout")
    yield qmoe(rng, expert_weight_bits=5, error="expert_weight_bits: expected 2, 3, 4 or 8, got 5")
    yield qmoe(rng, block=24, error="block_size")
    yield qmoe(rng, expert_weight_bits=8, error="does not fit along axis 2")
