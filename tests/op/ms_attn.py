"""com.microsoft: Attention, MultiHeadAttention, DecoderMaskedMultiHeadAttention, rotary embeddings."""
import numpy as np

from op_test import Case, by_ort, f16, f32, i32, i64

MS = "com.microsoft."


def trimmed(inputs):
    while inputs[-1] is None:
        inputs.pop()
    return inputs


def mask_of(rng, form, b, s, t):
    """Masks that leave something to every query."""
    keep = lambda *d: np.concatenate([np.ones(d[:-1] + (1,), np.int32), i32(rng, *d[:-1], d[-1] - 1, low=0, high=1)], -1)
    ends = i32(rng, b, low=1, high=t)
    return {None: lambda: None, "ends": lambda: ends, "pairs": lambda: np.concatenate([np.full(b, t, np.int32), i32(rng, b, low=0, high=t - 1)]),
            "keys": lambda: keep(b, t), "square": lambda: keep(b, s, t),
            "cumulative": lambda: np.concatenate([ends, np.arange(b + 1) * s, np.arange(b + 1) * t]).astype(np.int32)}[form]()


def attention(rng, b=2, s=5, d=16, n=4, h=8, hv=None, mask=None, past=0, bias=True, rel=None, nout=1, attrs=None, **how):
    hv = hv or h
    inputs = [f32(rng, b, s, d), f32(rng, d, n * (2 * h + hv), scale=0.3), f32(rng, n * (2 * h + hv)) if bias else None,
              mask_of(rng, mask, b, s, s + past), f32(rng, 2, b, n, past, h) if past else None,
              f32(rng, *rel(b, n), s, s + past) if rel else None]
    sizes = {"qkv_hidden_sizes": [n * h, n * h, n * hv]} if hv != h else {}
    return Case(MS + "Attention", trimmed(inputs), {"num_heads": n, **sizes, **(attrs or {})}, nout=nout, const=(1,) if bias else (), **how)


def mha(rng, b=2, s=5, t=7, n=4, h=8, hv=None, mask=None, past=0, bias=False, rel=None, kv="rows", nout=1, attrs=None, **how):
    hv = hv or h
    q = f32(rng, b, s, n * h)
    if kv == "qkv":
        q, k, v = f32(rng, b, s, n, 3, h), None, None
    elif kv == "packed":
        k, v = f32(rng, b, t, n, 2, h), None
    elif kv == "heads":
        k, v = f32(rng, b, n, t, h), f32(rng, b, n, t, hv)
    else:
        k, v = f32(rng, b, t, n * h), f32(rng, b, t, n * hv)
    inputs = [q, k, v, f32(rng, n * (2 * h + hv)) if bias else None, mask_of(rng, mask, b, s, t + past),
              f32(rng, *rel(b, n), s, t + past) if rel else None, f32(rng, b, n, past, h) if past else None,
              f32(rng, b, n, past, hv) if past else None]
    return Case(MS + "MultiHeadAttention", trimmed(inputs), {"num_heads": n, **(attrs or {})}, nout=nout, **how)


def unpacked(case, split):
    """The oracle of packed operands: the same attention of rows."""

    def run(*x):
        x = list(x) + [None] * 8
        x[:3] = split(*x[:2])
        return by_ort(Case(MS + "MultiHeadAttention", trimmed(x), case))
    return run


def rows(x):
    return x.reshape(x.shape[0], x.shape[1], -1)


def rotary(rng, b=2, s=4, n=3, h=8, rank=3, ids="rows", kind=f32, part=0, attrs=None, op="RotaryEmbedding", **how):
    x = kind(rng, b, s, n * h) if rank == 3 else kind(rng, b, n, s, h)
    at = i64(rng, b, s, low=0, high=19) if ids == "rows" else i64(rng, 3, b, s, low=0, high=19) if ids == "three" else np.array([3])
    attrs = {**({"num_heads": n} if part or op[0] == "M" else {}), **({"rotary_embedding_dim": part} if part else {}), **(attrs or {})}
    half = (part or h) // 2
    angle = np.arange(20)[:, None] * (0.5 + np.arange(half))
    dtype = x.dtype
    return Case(MS + op, [x, at, np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)], attrs, **how)


def gemma_rotary(emb, q, q_rot, k, k_rot):
    """No kernel of ONNX Runtime's is for CPUs."""
    cos, sin = (f(emb).astype(q.dtype)[:, None] for f in (np.cos, np.sin))
    return [q * cos + q_rot * sin, k * cos + k_rot * sin]


def cases(rng):
    one = lambda b, n: (1, 1)
    full = lambda b, n: (b, n)
    for mask in (None, "ends", "pairs", "keys", "square", "cumulative"):
        yield attention(rng, mask=mask)
        yield attention(rng, mask=mask, attrs={"unidirectional": 1, "mask_filter_value": -50.0}, dynamic=True)
    yield attention(rng, bias=False, attrs={"scale": 0.4})
    for n in (1, 2):                            # a mask of one key stands for none
        for dynamic in (False, True):
            yield Case(MS + "Attention", [f32(rng, 2, 5, 16), f32(rng, 16, 48), f32(rng, 48), i32(rng, n, 1, low=0, high=1)], {"num_heads": 2},
                       dynamic=dynamic)
    yield Case(MS + "Attention", [f32(rng, 3, 5, 16), f32(rng, 16, 48), f32(rng, 48), i32(rng, 2, 1)], {"num_heads": 2}, dynamic=True, error="batch")
    yield Case(MS + "Attention", [f32(rng, 1, 5, 16), f32(rng, 16, 48), f32(rng, 48), i32(rng, 1, 4)], {"num_heads": 2}, dynamic=True, error="keys")
    yield attention(rng, hv=12)
    yield attention(rng, past=3, nout=2)
    yield attention(rng, past=3, nout=2, mask="keys", attrs={"unidirectional": 1})
    yield attention(rng, past=3, nout=2, mask="square", s=1, dynamic=True)
    yield attention(rng, nout=2)
    yield attention(rng, rel=one)
    yield attention(rng, rel=full, dynamic=True)
    yield attention(rng, mask="ends", n=1, b=1, h=4, s=17)
    yield attention(rng, attrs={"do_rotary": 1}, error="do_rotary")
    yield attention(rng, attrs={"num_heads": 5}, error="divisible by num_heads", oracle=None)
    shared = attention(rng, past=9, s=2, nout=2, attrs={"past_present_share_buffer": 1}, oracle=in_buffer)
    shared.inputs += [None] * (6 - len(shared.inputs)) + [np.array([3], np.int32)]
    yield shared
    for bias in (False, True):
        yield mha(rng, bias=bias)
        yield mha(rng, bias=bias, kv="heads", dynamic=bias)
        yield mha(rng, bias=bias, s=5, t=5, past=3, nout=3, attrs={"unidirectional": 1}, dynamic=bias)
        at = {"num_heads": 4}
        yield mha(rng, bias=bias, kv="packed", oracle=unpacked(at, lambda q, k: [q, rows(k[..., 0, :]), rows(k[..., 1, :])]))
        yield mha(rng, bias=bias, kv="qkv", oracle=unpacked(at, lambda q, k: [rows(q[..., i, :]) for i in range(3)]))
    for mask in ("ends", "keys", "square"):
        yield mha(rng, mask=mask, rel=full, attrs={"scale": 0.7, "mask_filter_value": -3.0})
        yield mha(rng, mask=mask, dynamic=True)
        yield mha(rng, b=4, mask=mask, kv="heads", dynamic=True)        # as many key heads as query heads, which only a run can tell
    yield mha(rng, hv=12, rel=one)
    yield mha(rng, nout=4, rel=full, mask="keys", wanted=(0, 3), attrs={"mask_filter_value": -4.0}, oracle=with_scores)
    yield mha(rng, s=1, t=1, past=6, nout=3, mask="keys")
    yield mha(rng, nout=3)
    yield mha(rng, t=7, attrs={"num_heads": 3}, error="divisible by num_heads", oracle=None)
    yield from buffered(rng)
    yield from decoder(rng)
    yield from decoder_self(rng)
    for dynamic in (False, True):
        mask = np.where(rng.random((2, 8)) < 0.2, -1e4, 0).astype(np.float32)
        inputs = [f32(rng, 2, 8, 12), f32(rng, 12, 36), f32(rng, 36), mask, f32(rng, 12, 36), f32(rng, 36),
                  np.array([[1, 0, 0, 0, 0, 1, 0, 0], [0] * 8], np.int32)]
        yield Case(MS + "LongformerAttention", inputs, {"num_heads": 3, "window": 2}, oracle=longformer(3, 2), dynamic=dynamic)
    for attrs in ({}, {"interleaved": 1}, {"scale": 1.0}):
        for rank in (3, 4):
            yield rotary(rng, rank=rank, attrs=attrs)
            yield rotary(rng, rank=rank, ids="first", part=4, attrs=attrs, dynamic=True)
    yield rotary(rng, kind=f16, tol=2e-3)
    for kind, dynamic in ((f16, False), (f32, True)):
        q, k, emb = kind(rng, 2, 2, 4, 3, 6), kind(rng, 2, 2, 2, 3, 6), f32(rng, 2, 3, 6, scale=3)
        yield Case(MS + "GemmaRotaryEmbedding", [emb, *q, *k], nout=2, dynamic=dynamic, tol=2e-3 if kind is f16 else 1e-5, oracle=gemma_rotary)
    yield Case(MS + "GemmaRotaryEmbedding", [emb, *q, *k[:, :, :1, :2]], nout=2, error="another size along axis 2", oracle=[q[0], k[0]])
    yield Case(MS + "GemmaRotaryEmbedding", [emb, *q, *f16(rng, 2, 2, 2, 3, 6)], nout=2, error="type of q", oracle=[q[0], k[0]])
    yield rotary(rng, ids="three", op="MRotaryEmbedding", attrs={"mrope_section": [2, 1, 1]})
    yield rotary(rng, ids="three", op="MRotaryEmbedding", h=12, attrs={"mrope_section": [2, 2, 2], "mrope_layout": 1})
    yield rotary(rng, ids="three", op="MRotaryEmbedding", part=4, attrs={"mrope_section": [1, 0, 1], "interleaved": 1}, dynamic=True)
    yield rotary(rng, ids="three", op="MRotaryEmbedding", attrs={"mrope_section": [2, 1, 2]}, error="sections must add up")
    bad = rotary(rng, error="out of range", oracle=None)
    bad.inputs[1] = bad.inputs[1] + 20
    yield bad


def with_scores(q, k, v, bias, mask, rel):
    """The output, and the scores that ONNX Runtime gives as an output without a type."""
    n, split = rel.shape[1], lambda x: x.reshape(*x.shape[:2], rel.shape[1], -1).swapaxes(1, 2)
    y, = by_ort(Case(MS + "MultiHeadAttention", [q, k, v, bias, mask, rel], {"num_heads": n, "mask_filter_value": -4.0}))
    s = split(q) @ split(k).swapaxes(2, 3) / np.sqrt(np.float32(q.shape[2] // n))
    return [y, (s + rel + np.where(mask[:, None, None], 0, -4)).astype(np.float32)]


def longformer(heads, window):
    def run(x, w, b, mask, gw, gb, flags):
        def attend(weight, bias, local):
            q, k, v = (p.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2) for p in np.split(x.astype(np.float64) @ weight + bias, 3, 2))
            s = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1]) + mask[:, None, None]
            at = np.arange(x.shape[1])
            near = (np.abs(at[:, None] - at) <= window)[None, None] | (flags[:, None, None] != 0)
            s = np.where(near, s, -np.inf) if local else s
            e = np.exp(s - s.max(-1, keepdims=True))
            return (e / e.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(x.shape[0], x.shape[1], -1)
        return [np.where(flags[..., None] != 0, attend(gw, gb, False), attend(w, b, True)).astype(x.dtype)]
    return run


def in_buffer(x, w, b, mask, past, rel, used):
    """Attention over a buffer, by the same attention with a past of its size."""
    p, s = int(used[0]), x.shape[1]
    y, present = by_ort(Case(MS + "Attention", [x, w, b, mask, past[:, :, :, :p]], {"num_heads": past.shape[2]}, nout=2))
    return [y, np.concatenate([present, past[:, :, :, p + s:]], 3)]


def chunks(past, back=False):
    """The layout of the keys in the buffer of DecoderMaskedSelfAttention, of 16 bytes of a head at a time, and back."""
    (b, n, most, h), x = past.shape[1:], 16 // past.itemsize
    keys = past[0].reshape((b, n, h // x, most, x) if back else (b, n, most, h // x, x)).swapaxes(2, 3)
    return np.stack([keys.reshape(b, n, most, h), past[1]])


def buffered(rng):
    """MultiHeadAttention with a buffer of past and present that is full up to past_sequence_length."""
    for s in (1, 2, 3):
        for more in ({}, {"unidirectional": 1}):
            q, k, v = (f32(rng, 2, s, 16) for _ in range(3))
            past, mask = [f32(rng, 2, 2, 8, 8), f32(rng, 2, 2, 8, 8)], np.array([[1, 0, 1] + [1] * s, [1, 1, 0] + [1] * s], np.int32)
            attrs = {"num_heads": 2, **more}
            yield Case(MS + "MultiHeadAttention", [q, k, v, f32(rng, 48), mask, f32(rng, 1, 2, s, 3 + s), *past, i32(rng, 1, low=3, high=3)], attrs,
                       nout=3)
            yield Case(MS + "MultiHeadAttention", [q, k, v, None, None, None, *past, i32(rng, 1, low=0, high=0)], attrs, nout=3, dynamic=True)
    rows, past = [f32(rng, 4, 1, 16) for _ in range(3)], [f32(rng, 4, 2, 8, 8), f32(rng, 4, 2, 8, 8)]
    for width in (1, 2, 4):
        from_beams = i32(rng, 4 // width, width, 8, low=0, high=width - 1)
        yield Case(MS + "MultiHeadAttention", [*rows, None, None, None, *past, i32(rng, 1, low=5, high=5), from_beams], {"num_heads": 2}, nout=3)
    yield Case(MS + "MultiHeadAttention", [*rows, None, None, None, None, None, i32(rng, 1, low=3, high=3)], {"num_heads": 2}, nout=3)     # no past
    yield Case(MS + "MultiHeadAttention", [*rows, None, None, None, *past, i32(rng, 1, low=8, high=8)], {"num_heads": 2}, nout=3,
               error="buffer of past and present is full")


def self_decoder(attrs):
    def run(x, w, bias, mask, past, rel, used, width=None, indirection=None):
        shared, n = "past_present_share_buffer" in attrs, attrs["num_heads"]
        past = chunks(past, back=True) if shared else past
        p = int(used[0]) if shared else past.shape[3]
        q, k, v = (y.reshape(len(x), 1, n, -1).swapaxes(1, 2) for y in np.split(x.astype(np.float64) @ w + bias, 3, -1))
        present = np.concatenate([past[:, :, :, :p], np.stack([k, v])], 3)
        chosen = present.copy()
        for r, t in np.ndindex(len(x), p) if indirection is not None else ():
            own = r % width[0]
            chosen[:, r, :, t] = present[:, r - own + indirection[r // width[0], own, t], :, t]
        e = q @ chosen[0].swapaxes(2, 3) * attrs.get("scale", 1 / np.sqrt(q.shape[3])) + (0 if rel is None else rel)
        e += 0 if mask is None else np.where(mask > 0, 0, attrs.get("mask_filter_value", -10000.0))[:, None, None]
        e = np.exp(e - e.max(-1, keepdims=True))
        y = (e / e.sum(-1, keepdims=True) @ chosen[1]).swapaxes(1, 2).reshape(len(x), 1, -1)
        present = present.astype(x.dtype)
        return [y.astype(x.dtype), chunks(np.concatenate([present, past[:, :, :, p + 1:]], 3)) if shared else present]
    return run


def decoder_self(rng):
    b, n, h, p, most, d = 4, 2, 8, 3, 9, 12
    x, w, bias = f32(rng, b, 1, d), f32(rng, d, 3 * n * h, scale=0.3), f32(rng, 3 * n * h)
    mask, rel, used, width = mask_of(rng, "keys", b, 1, p + 1), f32(rng, 1, n, 1, p + 1), np.array([p], np.int32), np.array([2], np.int32)
    buffer, beams = f32(rng, 2, b, n, most, h), i32(rng, 2, 2, most, low=0, high=1)
    for more, past in (({}, f32(rng, 2, b, n, p, h)), ({"past_present_share_buffer": 1}, buffer)):
        for rest in ((None, past, None, used), (mask, past, rel, used), (mask, past, None, used, width, beams)):
            attrs = {"num_heads": n, **more, **({"mask_filter_value": -6.0} if rest[2] is not None else {})}
            yield Case(MS + "DecoderMaskedSelfAttention", [x, w, bias, *rest], attrs, nout=2, oracle=self_decoder(attrs), dynamic=len(rest) > 4)
    yield Case(MS + "DecoderMaskedSelfAttention", [x, w, bias, None, buffer[..., :6], None, used],
               {"num_heads": n, "past_present_share_buffer": 1}, nout=2, error="16 bytes")


def decoder(rng):
    b, n, h, p, most = 4, 2, 8, 3, 9
    q, k, v = (f32(rng, b, 1, n * h) for _ in range(3))
    at = {"num_heads": n}
    yield Case(MS + "DecoderMaskedMultiHeadAttention", [q, f32(rng, b, n, 5, h), f32(rng, b, n, 5, h)], at)
    yield Case(MS + "DecoderMaskedMultiHeadAttention", [q, f32(rng, b, n, 5, h), f32(rng, b, n, 5, h), mask_of(rng, "keys", b, 1, 5)],
               {**at, "mask_filter_value": -5.0})
    past = [f32(rng, b, n, most, h), f32(rng, b, n, most, h), np.array([p], np.int32)]
    share = {**at, "past_present_share_buffer": 1}
    yield Case(MS + "DecoderMaskedMultiHeadAttention", [q, k, v, None, None, *past], share, nout=3)
    yield Case(MS + "DecoderMaskedMultiHeadAttention", [q, k, v, mask_of(rng, "keys", b, 1, p + 1), f32(rng, 1, n, 1, p + 1), *past,
                                                        None, None, f32(rng, 3 * n * h)], share, nout=3)
    yield Case(MS + "DecoderMaskedMultiHeadAttention", [q, k, v, None, None, *past, np.array([2], np.int32),
                                                        i32(rng, 2, 2, most, low=0, high=1)], share, nout=3)
