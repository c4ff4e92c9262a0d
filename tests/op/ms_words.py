"""com.microsoft: ids of words and characters, routing to experts, gates."""
import numpy as np

from op_test import Case, bf16, f16, f32, i32, ints

MS = "com.microsoft."


def hashed(rng, most=3, heads=2, b=2, s=6, kind=np.int64, past=False, offsets=False, eos=None, segments=False, reset=0, low=0, **how):
    high = 2 ** 40 if kind == np.int64 else 2 ** 20
    inputs = [ints(rng, b, s, low=low, high=6, dtype=kind), ints(rng, most, low=0, high=high, dtype=kind) | 1,
              ints(rng, (most - 1) * heads, low=3, high=97, dtype=kind), ints(rng, b, most - 1, low=0, high=6, dtype=kind) if past else None,
              ints(rng, (most - 1) * heads, low=0, high=500, dtype=kind) if offsets else None, None if eos is None else np.array(eos, kind),
              np.sort(i32(rng, b, s, low=0, high=2), 1) if segments else None]
    while inputs[-1] is None:
        inputs.pop()
    attrs = {"max_ngram_size": most, "n_head_per_ngram": heads, "pad_id": 9, "reset_on_eos": reset}
    return Case(MS + "NGramHashMapping", inputs, attrs, nout=2, **how)


def packed(rng, lens=(3, 1, 4, 2), most=3, heads=2, kind=np.int64, past=False, offsets=False, eos=None, segments=False, past_segments=False, reset=0,
           captured=0, low=0, **how):
    b, s, high = len(lens), sum(lens), 2 ** 40 if kind == np.int64 else 2 ** 20
    some = lambda flag, x: x if flag else None
    inputs = [ints(rng, s, low=low, high=6, dtype=kind), ints(rng, most, low=0, high=high, dtype=kind) | 1,
              ints(rng, (most - 1) * heads, low=3, high=97, dtype=kind), np.cumsum([0, *lens]).astype(np.int32),
              some(past, ints(rng, b, most - 1, low=0, high=6, dtype=kind)),
              some(offsets, ints(rng, (most - 1) * heads, low=0, high=500, dtype=kind)),
              some(eos is not None, np.array(eos or 0, kind)), some(segments, i32(rng, s, low=0, high=1)),
              some(past_segments, i32(rng, b, most - 1, low=0, high=1)), some(captured, i32(rng, b, low=-1, high=5))]
    while inputs[-1] is None:
        inputs.pop()
    attrs = {"max_ngram_size": most, "n_head_per_ngram": heads, "pad_id": 9, "reset_on_eos": reset, "state_update_capacity": captured}
    wanted = [0, 1] + [2] * segments + [3] * (captured > 0)
    return Case(MS + "VarlenNGramHashMapping", inputs, attrs, nout=4, wanted=wanted, **how)


def routed(rng, t=5, experts=12, kind=f32, **attrs):
    how = {k: attrs.pop(k) for k in ("nout", "wanted", "dynamic", "tol", "error") if k in attrs}
    return Case(MS + "MoEGroupRouter", [kind(rng, t, experts), f32(rng, experts, scale=0.3)], {"top_k": 3, **attrs}, **how)


def swiglu(alpha=1.0, beta=0.0, limit=0.0):
    def run(g, u=None):
        g, u = (g, u) if u is not None else np.split(g, 2, -1)
        g, u = (np.minimum(g, limit), np.clip(u, -limit, limit)) if limit else (g, u)
        return [g / (1 + np.exp(-alpha * g)) * (u + beta)]
    return run


def fast_gelu(x, w, b=None):
    y = x.astype(np.float64) @ w + (0 if b is None else b)
    return [(0.5 * y * (1 + np.tanh(0.7978845608028654 * y + 0.035677408136300125 * y ** 3))).astype(x.dtype)]


def cases(rng):
    for dynamic in (False, True):
        yield Case(MS + "Unique", [np.array([2, 1, 1, 3, 4, 3], np.float32)], nout=3, dynamic=dynamic)
        yield hashed(rng, dynamic=dynamic)
        yield hashed(rng, most=4, past=True, offsets=True, eos=2, reset=1, segments=True, dynamic=dynamic)
        yield routed(rng, dynamic=dynamic)
        yield routed(rng, n_group=4, topk_group=2, group_topk=2, router_sentinel=-5.0, dynamic=dynamic)
        yield Case(MS + "DynamicTimeWarping", [f32(rng, 6, 9)], dynamic=dynamic)
    yield Case(MS + "DynamicTimeWarping", [f32(rng, 1, 12, 5, low=0, high=1)])
    yield Case(MS + "DynamicTimeWarping", [np.ones((4, 4), np.float32)])
    yield Case(MS + "DynamicTimeWarping", [f32(rng, 1, 1)])
    yield Case(MS + "DynamicTimeWarping", [f32(rng, 2, 3, 3)], error="single matrix")
    s = np.array([[1, 2, 3, 0, 0], [2, 0, 0, 0, 0], [1, 5, 4, 3, 2], [1, 0, 3, 0, 0]], np.int32)
    for window in (2, 3):
        yield Case(MS + "WordConvEmbedding", [s, f32(rng, 3, 1, window, 4), f32(rng, 3), f32(rng, 6, 4)])
    yield Case(MS + "WordConvEmbedding", [s, f32(rng, 3, 1, 7, 4), f32(rng, 3), f32(rng, 6, 4)], error="shorter than the window")
    yield hashed(rng, kind=np.int32, heads=1, most=2)
    yield hashed(rng, kind=np.int32, eos=3, reset=1)
    yield hashed(rng, eos=3, past=True, reset=0)
    yield hashed(rng, segments=True, past=True)
    yield hashed(rng, past=True, low=-6)
    yield hashed(rng, s=1, most=5, past=True, eos=1, reset=1)
    for dynamic in (False, True):
        yield packed(rng, dynamic=dynamic)
        yield packed(rng, most=4, past=True, offsets=True, eos=2, reset=1, segments=True, past_segments=True, captured=3, dynamic=dynamic)
    yield packed(rng, kind=np.int32, past=True, heads=1)
    yield packed(rng, past=True, eos=2, reset=1, captured=8)
    yield packed(rng, segments=True, past=True, low=-6)
    yield packed(rng, segments=True, past_segments=True, most=5)
    yield packed(rng, eos=2, captured=1)
    yield packed(rng, lens=(2, 0, 3), error="ascend from 0")
    yield packed(rng, past_segments=True, error="segments to segment_ids")
    zero = hashed(rng, error="not positive", oracle=None)
    zero.inputs[2] = 0 * zero.inputs[2]
    yield zero
    yield routed(rng, kind=f16, n_group=3, topk_group=1, group_topk=9, tol=4e-3)
    yield routed(rng, nout=3, wanted=(1, 2))
    yield routed(rng, kind=bf16, nout=3, wanted=(1, 2))
    yield routed(rng, n_group=5, error="divisible by n_group")
    x = f32(rng, 3, 8)
    yield Case(MS + "SwiGLU", [x, f32(rng, 3, 8)], oracle=swiglu())
    yield Case(MS + "SwiGLU", [x], {"activation_alpha": 1.7, "activation_beta": 1.0, "limit": 0.5}, oracle=swiglu(1.7, 1.0, 0.5), dynamic=True)
    yield Case(MS + "GemmFastGelu", [x, f32(rng, 8, 5), f32(rng, 5)], oracle=fast_gelu)
    for bad in (1.0, np.inf, np.nan):
        for only in (None, "isinf_only", "isnan_only"):
            want = not ((np.isinf(bad) and only != "isnan_only") or (np.isnan(bad) and only != "isinf_only"))
            yield Case(MS + "IsAllFinite", [x, np.array([bad, 0.5], np.float32)], {only: 1} if only else {}, oracle=[np.array(want)])
