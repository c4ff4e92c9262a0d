"""com.microsoft: GroupQueryAttention, SparseAttention."""
import numpy as np

from op_test import Case, build, by_ort, f16, f32, i64, u8

GQA = "com.microsoft.GroupQueryAttention"


def gqa(rng, b=2, s=4, nq=4, nk=2, h=16, past=None, lens=None, total=None, rotary=None, bias=None, sink=False, packed=False,
        pos=False, norm=False, valid=None, kind=f32, attrs=None, capacity=None, **how):
    """past: length of the cache; lens: keys of each entry after the step."""
    lens = np.asarray([s] * b if lens is None else lens)
    total = int(lens.max()) if total is None else total
    cols = total
    x = [kind(rng, b, s, (nq + 2 * nk) * h), None, None] if packed else \
        [kind(rng, b, s, nq * h), kind(rng, b, s, nk * h), kind(rng, b, s, nk * h)]
    cache = [None, None] if past is None else [kind(rng, b, nk, past, h), kind(rng, b, nk, past, h)]
    angle = np.arange(40)[:, None] * (0.5 + np.arange((rotary or 0) // 2))
    turn = [np.cos(angle).astype(x[0].dtype), np.sin(angle).astype(x[0].dtype)] if rotary else [None, None]
    inputs = [*x, *cache, (lens - 1).astype(np.int32), np.array(total, np.int32), *turn,
              i64(rng, b, s, low=0, high=39) if pos else None, kind(rng, *bias, s, cols) if bias else None,
              kind(rng, nq) if sink else None, None, None, kind(rng, h) if norm else None, kind(rng, h) if norm else None,
              None if valid is None else np.asarray(valid, np.int32)]
    while inputs[-1] is None:
        inputs.pop()
    attrs = {"num_heads": nq, "kv_num_heads": nk, **({"do_rotary": 1} if rotary else {}), **(attrs or {})}
    return Case(GQA, inputs, attrs, nout=how.pop("nout", 3), **how)


def normed(eps):
    """Queries and keys normalised before: ONNX Runtime's CPU kernel has no norm of its own."""
    def run(q, k, v, pk, pv, lens, total, cos, sin, pos, bias, sink, ks, vs, qn, kn):
        def norm(x, w):
            x = x.reshape(*x.shape[:2], -1, len(w))
            return (x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w).reshape(*x.shape[:2], -1).astype(x.dtype)
        inner = Case(GQA, [norm(q, qn), norm(k, kn), v, pk, pv, lens, total, cos, sin], {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1},
                     nout=3)
        return by_ort(inner)
    return run


def sliding(rng, window, capacity, **how):
    """A cache of the last keys; of its rows behind them nothing is said, so only the output is looked at."""
    attrs = {"sliding_window_cache": 1, "local_window_size": window}
    case = gqa(rng, past=capacity, attrs=attrs, wanted=(0,), **how)
    case.oracle = lambda *x: by_ort(Case(GQA, list(x), case.attrs, nout=3))
    return case


def integers(rng, bits, kind, b=2, s=3, past=5, nk=2, h=16, **how):
    """A cache of integers."""
    case = gqa(rng, b=b, s=s, past=past, nk=nk, h=h, rotary=16, **how)
    shape = (1,) if kind == "PER_TENSOR" else (1, nk, 1, h)
    for i in (3, 4):
        case.inputs[i] = rng.integers(-128, 128, (b, nk, past, h)).astype(np.int8) if bits == 8 else u8(rng, b, nk, past, h // 2)
    case.inputs += [None] * (12 - len(case.inputs)) + [f32(rng, *shape, low=0.1, high=0.3) / (16 if bits == 8 else 1) for _ in range(2)]
    case.inputs[12:] = [x.astype(np.float32) for x in case.inputs[12:]]
    case.attrs.update(kv_cache_bit_width=bits, k_quant_type=kind, v_quant_type=kind)
    case.oracle = typed(case)
    return case


def typed(case):
    """ONNX Runtime with the types of the outputs declared, which it does not infer for integers."""
    def run(*x):
        import onnxruntime as ort
        kind = x[3].dtype
        model, feeds = build(Case(GQA, x, case.attrs, nout=3), [np.zeros((), y) for y in (np.float32, kind, kind)])
        return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
    return run


def in_place(case):
    """ONNX Runtime with one buffer for past and present, which it wants."""
    def run(*x):
        import onnxruntime as ort
        model, feeds = build(Case("com.microsoft.SparseAttention", x, case.attrs, nout=3))
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        held = {k: ort.OrtValue.ortvalue_from_numpy(v.copy()) for k, v in feeds.items()}
        io = session.io_binding()
        for name, value in held.items():
            io.bind_ortvalue_input(name, value)
        io.bind_output("y0")
        for name, past in (("y1", "x3"), ("y2", "x4")):
            io.bind_ortvalue_output(name, held[past])
        session.run_with_iobinding(io)
        return [np.array(y.numpy()) for y in io.get_outputs()]
    return run


def sparse(rng, b=2, s=32, nq=4, nk=2, h=16, cache=32, lens=None, rotary=False, layouts=1, kind=f32, **how):
    """Blocks of 16: the first, the diagonal and every second."""
    size, blocks = 16, cache // 16
    lens = np.array([s] * b if lens is None else lens, np.int32)
    rows, cols = [], []
    for i in range(layouts):
        keep = [[c for c in range(r + 1) if c in (i % 2, r) or (c + i) % 2] for r in range(blocks)]
        rows.append(np.cumsum([0] + [len(k) for k in keep]))
        cols.append(sum(keep, []))
    width = max(map(len, cols))
    cols = [c + [-1] * (width - len(c)) for c in cols]
    angle = np.arange(cache)[:, None] * (0.5 + np.arange(h // 2))
    x = [kind(rng, b, s, nq * h), kind(rng, b, s, nk * h), kind(rng, b, s, nk * h), kind(rng, b, nk, cache, h), kind(rng, b, nk, cache, h),
         np.array(rows, np.int32), np.array(cols, np.int32), np.array(lens.max(), np.int32), lens]
    x += [np.cos(angle).astype(x[0].dtype), np.sin(angle).astype(x[0].dtype)] if rotary else []
    attrs = {"num_heads": nq, "kv_num_heads": nk, "sparse_block_size": size, "do_rotary": int(rotary), **how.pop("attrs", {})}
    case = Case("com.microsoft.SparseAttention", x, attrs, nout=3, wanted=(0,), **how)
    case.oracle = in_place(case)
    return case


def cases(rng):
    for dynamic in (False, True):
        yield gqa(rng, dynamic=dynamic)
        yield gqa(rng, nq=2, nk=2, rotary=16, dynamic=dynamic)
        yield gqa(rng, s=1, past=6, lens=[7, 7], dynamic=dynamic)
        yield gqa(rng, s=1, past=6, lens=[4, 6], h=32, rotary=16, attrs={"rotary_interleaved": 1}, dynamic=dynamic)
        yield gqa(rng, b=1, s=3, past=5, lens=[8], rotary=16, bias=(1, 4), dynamic=dynamic)
        yield gqa(rng, packed=True, rotary=16, attrs={"scale": 0.4, "softcap": 1.5}, dynamic=dynamic)
        yield gqa(rng, s=1, past=9, lens=[5, 3], sink=True, attrs={"local_window_size": 3}, dynamic=dynamic)
    yield gqa(rng, past=9, s=5, rotary=16)
    yield gqa(rng, s=6, attrs={"local_window_size": 2})
    yield gqa(rng, s=6, attrs={"smooth_softmax": 1})
    yield gqa(rng, s=6, sink=True, nq=2, nk=2)
    yield gqa(rng, s=6, attrs={"causal": 0})
    yield gqa(rng, s=6, bias=(1, 1), attrs={"softcap": 0.8})
    yield gqa(rng, b=1, s=2, past=4, lens=[6], rotary=16, pos=True)
    yield gqa(rng, kind=f16, rotary=16, tol=4e-3)
    yield gqa(rng, b=1, s=3, past=5, lens=[8], rotary=16, norm=True, oracle=normed(1e-3), attrs={"qk_norm_epsilon": 1e-3})
    yield gqa(rng, s=4, past=9, lens=[9, 6], total=9, valid=[4, 4], rotary=16)
    yield gqa(rng, s=1, past=9, lens=[8, 5], total=9, valid=[1, 1])
    for w, c, s, lens in ((6, 8, 3, 5), (6, 8, 3, 9), (6, 8, 2, 13), (6, 6, 1, 5), (6, 6, 1, 16), (4, 5, 9, 12), (4, 7, 9, 30)):
        yield sliding(rng, w, c, b=1, s=s, lens=[lens], rotary=16, dynamic=s == 9)
    yield sliding(rng, 6, 8, b=1, s=1, lens=[13], bias=(1, 4))
    yield sliding(rng, 4, 5, s=1, lens=[9, 5], sink=True)
    yield gqa(rng, b=1, s=3, past=6, lens=[16], attrs={"sliding_window_cache": 1, "local_window_size": 6}) # no row is unspecified
    for bits in (4, 8):
        for kind in ("PER_TENSOR", "PER_CHANNEL"):
            yield integers(rng, bits, kind, lens=[3, 3], dynamic=bits == 4)
            yield integers(rng, bits, kind, b=1, lens=[8])
            yield integers(rng, bits, kind, s=1, past=6, lens=[6, 6])
    yield gqa(rng, nq=3, nk=2, error="multiple of kv_num_heads", oracle=None)
    yield gqa(rng, s=1, past=4, lens=[9, 9], error="seqlens_k does not fit", oracle=None)
    yield gqa(rng, s=1, past=4, lens=[0, 3], error="seqlens_k does not fit", oracle=None)
    yield sparse(rng)
    yield sparse(rng, layouts=2, rotary=True, dynamic=True)
    yield sparse(rng, cache=64, s=1, lens=[50, 50], layouts=4, attrs={"scale": 0.2})
    yield sparse(rng, b=1, cache=48, s=48, layouts=2, kind=f16, tol=4e-3)
