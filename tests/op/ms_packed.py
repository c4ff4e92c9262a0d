"""com.microsoft: packed sequences, relative positions, convolutions with a state, GatedDeltaNet."""

import numpy as np

from op_test import Case, by_ort, f16, f32

MS = "com.microsoft."
COUNTS, LENGTH = np.array([2, 4, 1], np.int32), 4
WORDS = np.concatenate([b * LENGTH + np.arange(n) for b, n in enumerate(COUNTS)])
OFFSETS = np.concatenate([WORDS, np.setdiff1d(np.arange(3 * LENGTH), WORDS)]).reshape(3, LENGTH).astype(np.int32)
ENDS = np.concatenate([[0], np.cumsum(COUNTS)]).astype(np.int32)


def pad(x):
    y = np.zeros((3 * LENGTH,) + x.shape[1:], x.dtype)
    y[WORDS] = x
    return y.reshape(3, LENGTH, *x.shape[1:])


def by_mha(q, k, v, bias, rel, heads, scale=0.0):
    """The same attention of padded rows by ONNX Runtime."""
    mask = (np.arange(LENGTH) < COUNTS[:, None]).astype(np.int32)
    y, = by_ort(Case(MS + "MultiHeadAttention", [pad(q), pad(k), pad(v), bias, mask, rel],
                     {"num_heads": heads, "scale": scale, "mask_filter_value": -1e30}))
    return [y.reshape(3 * LENGTH, -1)[WORDS]]


def packed_mha(rng, heads=2, size=4, vsize=6, rel=False, bias=False, scale=0.0, **how):
    n = len(WORDS)
    inputs = [f32(rng, n, heads * size), f32(rng, n, heads * size), f32(rng, n, heads * vsize),
              f32(rng, heads * (2 * size + vsize)) if bias else None, OFFSETS, ENDS, f32(rng, 1, heads, LENGTH, LENGTH) if rel else None]
    return Case(MS + "PackedMultiHeadAttention", inputs[:7 if rel else 6], {"num_heads": heads, "scale": scale},
                oracle=lambda q, k, v, b, o, e, r=None: by_mha(q, k, v, b, r, heads, scale), **how)


def packed_attention(rng, heads=2, size=4, width=8, **how):
    def run(x, w, b, offsets, ends):
        parts = np.split(x @ w + b, 3, 1)
        return by_mha(*parts, None, None, heads)
    return Case(MS + "PackedAttention", [f32(rng, len(WORDS), width), f32(rng, width, 3 * heads * size), f32(rng, 3 * heads * size), OFFSETS, ENDS],
                {"num_heads": heads}, oracle=run, **how)


def gated_bias(q, qb, rel, w, b, a):
    n, s, heads = q.shape[0], q.shape[1], rel.shape[1]
    x = (q + qb).reshape(n, s, heads, -1).swapaxes(1, 2) @ w + b
    u, r = (1 / (1 + np.exp(-p.sum(-1, keepdims=True))) for p in np.split(x, 2, -1))
    return [((u * (r * a - 1) + 2) * rel).astype(q.dtype)]


def bucketed(both, most):
    def run(table, q, k):
        buckets, heads = table.shape
        rel = np.arange(k[0])[None] - np.arange(q[0])[:, None]
        base = np.zeros_like(rel)
        if both:
            buckets //= 2
            base, n = (rel > 0) * buckets, np.abs(rel)
        else:
            n = np.maximum(-rel, 0)
        exact = buckets // 2
        far = exact + (np.log(np.maximum(n, 1) / exact) / np.log(most / exact) * (buckets - exact)).astype(int)
        at = base + np.where(n < exact, n, np.minimum(far, buckets - 1))
        return [table.reshape(heads, -1)[:, at][None]]
    return run


def conv(rng, b=2, c=5, s=7, k=4, past=True, bias=True, kind=f32, last=False, dilation=1, window=0, act="silu", **how):
    back = (k - 1) * dilation
    state = (b, back, c) if last else (b, c, back)
    state = (window,) + state if window else state
    inputs = [kind(rng, b, s, c) if last else kind(rng, b, c, s), kind(rng, c, 1, k), kind(rng, c) if bias else None,
              kind(rng, *state) if past else None]
    attrs = {"activation": act, "channels_last": int(last), "dilation": dilation, "state_window": window}
    return Case(MS + "CausalConvWithState", inputs if past else inputs[:3], {k: v for k, v in attrs.items() if v}, nout=2, **how)


def windowed_conv(x, w, bias, past):
    """The states after the last positions, by prefixes."""
    def prefix(n):
        return by_ort(Case(MS + "CausalConvWithState", [x[:, :, :n], w, bias, past[-1]], {"activation": "silu"}, nout=2))
    y, last = prefix(x.shape[2])
    return [y, np.stack([prefix(n)[1] if n > 0 else 0 * last for n in range(x.shape[2] - len(past) + 1, x.shape[2] + 1)])]


def varlen(rng, c=5, k=3, dilation=1, kind=f32, bias=True, cap=0, **how):
    inputs = [kind(rng, len(WORDS), c), kind(rng, c, 1, k), ENDS, kind(rng, c) if bias else None, kind(rng, 3, c, (k - 1) * dilation),
              np.array([1, 3, 2], np.int32) if cap else None]
    attrs = {"dilation": dilation, "activation": "silu" if bias else "none", **({"state_update_capacity": cap} if cap else {})}
    return Case(MS + "VarlenCausalConvWithState", inputs if cap else inputs[:5], attrs, nout=3 if cap else 2, **how)


def delta(rng, rule="gated_delta", b=2, t=5, h=2, hv=4, k=8, v=6, kind=f32, state=True, ragged=False, keys=False, gate=None, packed=False,
          four=False, cap=0, attrs=None, **how):
    lens = [3, 1, t][:b + 1] if ragged else [t] * b
    n, b = sum(lens), len(lens)
    rows = (b, t) if four else (n,)
    key = f32(rng, *rows, h, k)
    key = (key / np.linalg.norm(key, axis=-1, keepdims=True)).astype(kind(rng, 1).dtype)
    q, value = kind(rng, *rows, h, k), kind(rng, *rows, hv, v)
    x = [q, key, value]
    if packed:
        x = [np.concatenate([p.reshape(*rows, -1) for p in x], -1), None, None]
    inputs = x + [np.cumsum([0] + lens).astype(np.int32) if ragged else None,
                  f32(rng, *rows, hv, *([k] if keys else []), low=-1, high=0) if "gated" in rule else None,
                  f32(rng, *rows, hv, low=0, high=1) if "delta" in rule else None, f32(rng, b, hv, v, k) if state else None,
                  f32(rng, hv) if gate else None, f32(rng, hv, *([k] if keys else [])) if gate else None,
                  np.arange(2, 2 - b, -1, np.int32) if cap else None]
    while inputs[-1] is None:
        inputs.pop()
    attrs = {"update_rule": rule, **({"gate_activation": gate} if gate else {}), **({"state_update_capacity": cap} if cap else {}), **(attrs or {})}
    return Case(MS + "GatedDeltaNet", inputs, attrs, nout=3 if cap else 2, **how)


def cases(rng):
    for dynamic in (False, True):
        yield Case(MS + "RemovePadding", [f32(rng, 3, LENGTH, 6), COUNTS], nout=4, dynamic=dynamic,
                   oracle=lambda x, n: [x.reshape(12, 6)[WORDS], OFFSETS, ENDS, np.array([4], np.int32)])
        yield Case(MS + "RestorePadding", [f32(rng, len(WORDS), 6), OFFSETS], oracle=lambda x, o: [pad(x)], dynamic=dynamic)
        yield packed_mha(rng, dynamic=dynamic)
        yield packed_attention(rng, dynamic=dynamic)
        yield Case(MS + "GatedRelativePositionBias", [f32(rng, 2, 5, 12), f32(rng, 12), f32(rng, 1, 3, 5, 5), f32(rng, 4, 8), f32(rng, 8),
                                                      f32(rng, 1, 3, 1, 1)], {"num_heads": 3}, oracle=gated_bias, dynamic=dynamic)
        yield conv(rng, dynamic=dynamic)
        yield varlen(rng, dynamic=dynamic)
        yield delta(rng, dynamic=dynamic)
        yield delta(rng, ragged=True, dynamic=dynamic)
    yield packed_mha(rng, rel=True, bias=True, scale=0.3)
    for both in (0, 1):
        yield Case(MS + "RelativePositionBias", [f32(rng, 32, 3), np.array([50]), np.array([50])], {"is_bidirectional": both, "max_distance": 40},
                   oracle=bucketed(both, 40))
    yield conv(rng, past=False, bias=False, act=None)
    yield conv(rng, s=1, act="swish")
    yield conv(rng, last=True)
    yield conv(rng, last=True, dilation=2)
    yield conv(rng, dilation=3, dynamic=True)
    yield conv(rng, window=3, oracle=windowed_conv)
    yield conv(rng, window=3, s=2, oracle=windowed_conv)
    yield varlen(rng, dilation=2, bias=False)
    yield varlen(rng, kind=f16, tol=2e-3)
    yield varlen(rng, cap=3)
    for rule in ("linear", "gated", "delta"):
        yield delta(rng, rule)
        yield delta(rng, rule, ragged=True, state=False)
    yield delta(rng, keys=True, attrs={"scale": 0.5})
    yield delta(rng, gate="softplus", attrs={"beta_activation": "sigmoid", "qk_l2_norm": 1})
    yield delta(rng, gate="kda", keys=True, attrs={"gate_lower_bound": -3.0})
    yield delta(rng, packed=True, ragged=True)
    yield delta(rng, four=True, h=4)
    yield delta(rng, four=True, keys=True, gate="sigmoid", packed=True)
    yield delta(rng, kind=f16, tol=2e-3)
    yield delta(rng, cap=2)
    yield delta(rng, cap=2, keys=True, attrs={"qk_l2_norm": 1})
    yield delta(rng, four=True, state=False)
