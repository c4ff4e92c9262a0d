"""com.microsoft: elementwise, pooling and matrix operators on 8-bit values."""
import numpy as np

from op_test import Case, bools, f32, i8, i32, ints, u8

MS = "com.microsoft."
S = np.float32


def q8(rng, signed, *shape):
    return (i8 if signed else u8)(rng, *shape)


def weights(rng, signed, *shape):
    """Signed ones of 7 bits: without VNNI, ONNX Runtime saturates sums of two products of uint8 and int8."""
    return i8(rng, *shape, low=-64, high=63) if signed else u8(rng, *shape)


def zero(rng, signed):
    return (i8 if signed else u8)(rng, low=-20 if signed else 100, high=20 if signed else 150)


def scale(rng):
    return S(rng.uniform(0.01, 0.1))


def binary_oracle(product):
    def run(a, sa, za, b, sb, zb, sc):
        a, b = a.astype(np.float32), b.astype(np.float32)
        y = a * b * (sa * sb / sc) if product else a * (sa / sc) + b * (sb / sc)
        kind = np.int8 if a.min() < 0 else np.uint8
        return [np.clip(np.rint(y), np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)]
    return run


def elementwise(rng, signed):
    def z():
        return zero(rng, signed)
    for op in ("QLinearAdd", "QLinearMul"):
        for a, b in (((5, 67), (5, 67)), ((2, 3, 33), (3, 1)), ((7,), ()), ((1, 40), (4, 1, 40)), ((4, 1), (1, 19))):
            c = S(rng.uniform(0.05, 0.3))
            yield Case(MS + op, [q8(rng, signed, *a), scale(rng), z(), q8(rng, signed, *b), scale(rng), z(), c, z()])
        plain = binary_oracle(op == "QLinearMul")               # ONNX Runtime wants the zero points that its schema calls optional
        yield Case(MS + op, [q8(rng, signed, 4, 9), scale(rng), None, q8(rng, signed, 4, 9), scale(rng), None, S(0.2)], dynamic=True, oracle=plain)
        yield Case(MS + op, [q8(rng, signed, 300), scale(rng), z(), q8(rng, signed, 300), scale(rng), z(), S(0.03), z()], const=(1, 2, 4, 5, 6, 7))
    for op, attrs in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.2})):
        y = S(1 / 256) if op == "QLinearSigmoid" else scale(rng)
        yield Case(MS + op, [q8(rng, signed, 4, 70), scale(rng), z(), y, z()], attrs)
        yield Case(MS + op, [q8(rng, signed, 2, 3, 5), scale(rng), None, y, None], attrs, const=(1, 3), dynamic=True)
    low = np.int8(-128) if signed else np.uint8(0)
    for shape, axis, opset in (((3, 17), -1, 13), ((2, 3, 4, 5), 1, 13), ((2, 3, 4, 5), 2, 12), ((4, 33), 0, 13), ((2, 3, 4), 1, 11)):
        yield Case(MS + "QLinearSoftmax", [q8(rng, signed, *shape), S(0.02), z(), S(1 / 256), low], {"axis": axis, "opset": opset})
    yield Case(MS + "QLinearSoftmax", [q8(rng, signed, 3, 9), S(0.05), None, S(1 / 200), z()], {"opset": 13}, dynamic=True)
    for axes, keep in (([1], 1), ([0, 2], 0), ([-1], 1)):
        x, sx, zx, sy, zy = q8(rng, signed, 3, 4, 5), scale(rng), z(), scale(rng), z()
        lo, hi = np.iinfo(x.dtype).min, np.iinfo(x.dtype).max

        def mean(x, sx, zx, sy, zy, lo=lo, hi=hi, axes=tuple(axes), keep=bool(keep)):
            y = np.mean((x.astype(np.float64) - zx) * sx, axis=axes, keepdims=keep)
            return [np.clip(np.rint(y / sy) + zy, lo, hi).astype(x.dtype)]
        yield Case(MS + "QLinearReduceMean", [x, sx, zx, sy, zy], {"axes": axes, "keepdims": keep}, oracle=mean)
    x, y = q8(rng, signed, 3, 1, 20), q8(rng, signed, 4, 1)
    yield Case(MS + "QLinearWhere", [bools(rng, 3, 4, 20), x, scale(rng), z(), y, scale(rng), z(), S(0.05), z()])
    yield Case(MS + "QLinearWhere", [bools(rng, 20), x, S(0.05), x.dtype.type(3), y, scale(rng), z(), S(0.05), x.dtype.type(3)],
               const=(2, 3, 5, 6, 7, 8))
    parts = []
    for n in (3, 1, 6):
        parts += [q8(rng, signed, 2, n, 5), scale(rng), z()]
    yield Case(MS + "QLinearConcat", [S(0.05), z(), *parts], {"axis": 1})
    yield Case(MS + "QLinearConcat", [parts[1], parts[2], *parts], {"axis": -2}, const=(0, 1, 3, 4))


def pools(rng, signed):
    def q(*shape):
        return [q8(rng, signed, *shape), scale(rng), zero(rng, signed), scale(rng), zero(rng, signed)]
    for shape, attrs in (((2, 3, 9, 11), {"kernel_shape": [3, 2]}), ((1, 5, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
                         ((2, 3, 20), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
                         ((1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "pads": [0, 1, 1, 1, 0, 0]}),
                         ((1, 3, 7, 7), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
                         ((1, 3, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
                         ((1, 3, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"})):
        yield Case(MS + "QLinearAveragePool", q(*shape), attrs)
        last = (shape[0], *shape[2:], shape[1])
        yield Case(MS + "QLinearAveragePool", q(*last), {**attrs, "channels_last": 1})
        if "count_include_pad" not in attrs:
            yield Case(MS + "NhwcMaxPool", q(*last)[:1], attrs)
    yield Case(MS + "NhwcMaxPool", q(2, 9, 9, 3)[:1], {"kernel_shape": [2, 2], "dilations": [2, 1]}, dynamic=True)
    yield Case(MS + "QLinearGlobalAveragePool", q(2, 5, 7, 7))
    yield Case(MS + "QLinearGlobalAveragePool", q(2, 6, 9, 35), {"channels_last": 1})
    yield Case(MS + "QLinearGlobalAveragePool", q(2, 5, 7), {}, dynamic=True)


def convs(rng, signed):
    for xs, ws, attrs in (((1, 4, 8, 9), (6, 4, 3, 3), {"pads": [1, 1, 1, 1]}), ((2, 4, 7, 7), (8, 2, 3, 3), {"group": 2, "strides": [2, 2]}),
                          ((1, 8, 6, 6), (8, 1, 3, 3), {"group": 8}), ((1, 3, 12), (5, 3, 4), {"dilations": [2]}), ((2, 8, 5, 5), (16, 8, 1, 1), {})):
        for per_channel in (False, True):
            m = ws[0]
            wsc = f32(rng, m, low=0.005, high=0.02) if per_channel else S(0.01)
            w = weights(rng, signed or per_channel, *ws)
            wz = np.zeros(m, np.int8) if per_channel else zero(rng, w.dtype == np.int8)
            bias = i32(rng, m, low=-500, high=500)
            tail = [w, wsc, wz, S(0.5), zero(rng, signed), bias if per_channel else None]
            if not per_channel:
                tail.pop()
            yield Case(MS + "QLinearConv", [q8(rng, signed, *xs), scale(rng), zero(rng, signed), *tail], attrs)
            last = (xs[0], *xs[2:], xs[1])
            yield Case(MS + "QLinearConv", [q8(rng, signed, *last), scale(rng), zero(rng, signed), *tail], {**attrs, "channels_last": 1})


def products(rng):
    for sa, sb in ((False, False), (False, True), (True, True)):
        for bias in (False, True):
            a, b = q8(rng, sa, 5, 40), weights(rng, sb, 40, 24)
            c = f32(rng, 24) if bias else None
            yield Case(MS + "MatMulIntegerToFloat", [a, b, scale(rng), scale(rng), zero(rng, sa), zero(rng, sb), c], tol=1e-5)
            yield Case(MS + "MatMulIntegerToFloat", [q8(rng, sa, 2, 3, 40), b, scale(rng), f32(rng, 24, low=0.01, high=0.1), None,
                                                     None if sb else u8(rng, 24), c], const=(1, 3), tol=1e-5)
            for ta, tb in ((0, 0), (1, 0), (0, 1), (1, 1)):
                qa, qb = q8(rng, sa, *((40, 5) if ta else (5, 40))), weights(rng, sb, *((24, 40) if tb else (40, 24)))
                bz, bs = (zero(rng, sb), scale(rng)) if not bias else (np.full(24, 3, qb.dtype), f32(rng, 24, low=0.01, high=0.1))
                cc = i32(rng, 24) if bias else None
                out = [] if tb else [S(0.7), zero(rng, sa)]
                yield Case(MS + "QGemm", [qa, scale(rng), zero(rng, sa), qb, bs, bz, cc, *out][:9 if out else 7],
                           {"transA": ta, "transB": tb, "alpha": 0.5 if tb else 1.0}, tol=1e-5)
    for shape in ((5, 40), (2, 3, 40), (1, 40)):
        for signed in (False, True):
            b = weights(rng, signed, 40, 24)
            yield Case(MS + "DynamicQuantizeMatMul", [f32(rng, *shape), b, scale(rng), zero(rng, signed), f32(rng, 24)], const=(1,), tol=1e-5)
            yield Case(MS + "DynamicQuantizeMatMul", [f32(rng, *shape), b, f32(rng, 24, low=0.01, high=0.1),
                                                      None if signed else u8(rng, 24)], tol=1e-5)
    yield Case(MS + "DynamicQuantizeMatMul", [np.zeros((3, 40), S), u8(rng, 40, 8), S(0.1)])
    yield Case(MS + "MatMulInteger16", [ints(rng, 3, 20, low=-3000, high=3000, dtype=np.int16),
                                          ints(rng, 20, 7, low=-3000, high=3000, dtype=np.int16)])
    yield Case(MS + "MatMulInteger16", [ints(rng, 2, 3, 20, low=0, high=900, dtype=np.uint16), ints(rng, 20, 7, low=0, high=900, dtype=np.uint16)],
               oracle=lambda a, b: [(a.astype(np.uint32) @ b.astype(np.uint32))])


def linear(rng):
    import ml_dtypes
    kinds = [(np.uint8, 0, 255), (np.int8, -128, 127), (np.uint16, 0, 65535), (np.int16, -32768, 32767),
             (ml_dtypes.uint4, 0, 15), (ml_dtypes.int4, -8, 7)]
    for kind, lo, hi in kinds:
        z = np.asarray(ints(rng, low=lo // 2, high=hi // 2)).astype(np.int32).astype(kind)
        per = ints(rng, 5, low=lo // 2, high=hi // 2).astype(np.int32).astype(kind)
        x, s = f32(rng, 3, 5, 4, scale=20), f32(rng, 5, low=0.05, high=2)

        def quantised(x, s, z, lo=lo, hi=hi, kind=kind):       # ONNX Runtime has no way to hand out 4-bit values of this domain
            s, z = (v.reshape(-1, 1) if v.ndim else v for v in (s, z.astype(np.int32)))
            return [np.clip(np.rint(x / s) + z, lo, hi).astype(np.int32).astype(kind)]
        how = {"oracle": quantised} if hi < 16 else {}
        yield Case(MS + "QuantizeLinear", [x, S(0.3), z], **how)
        yield Case(MS + "QuantizeLinear", [x, s, per], {"axis": 1}, **how)
        q = ints(rng, 3, 5, 4, low=lo, high=hi).astype(np.int32).astype(kind)
        yield Case(MS + "DequantizeLinear", [q, S(0.3), z])
        yield Case(MS + "DequantizeLinear", [q, s, per], {"axis": 1})
    yield Case(MS + "QuantizeLinear", [f32(rng, 3, 4, scale=20), S(0.3)])
    yield Case(MS + "DequantizeLinear", [i32(rng, 3, 4), S(0.3)])


def embedding(rng, signed, segments, mask, batch=2, length=7, size=40, **how):
    tables = [q8(rng, signed, n, size) for n in (50, 12, 3)] + [q8(rng, signed, size) for _ in range(2)]
    ids, which = i32(rng, batch, length, low=0, high=49), i32(rng, batch, length, low=0, high=2)
    scales, zeros = [scale(rng) for _ in range(5)], [zero(rng, signed) for _ in range(5)]
    if not segments:
        tables[2] = which = scales[2] = zeros[2] = None
    m = (np.arange(length) < np.array([[5], [7]])).astype(np.int32) if mask else None
    return Case(MS + "QEmbedLayerNormalization", [ids, which, *tables, m, *scales, *zeros], {"epsilon": 1e-5}, nout=2, **how)


def attention(rng, wsigned, columns=False, mask=None, past=0, batch=2, length=6, heads=4, size=32, zeros=True, nout=1, **attrs):
    x, w = u8(rng, batch, length, size), weights(rng, wsigned, size, 3 * size)
    ws = f32(rng, 3 * size, low=0.002, high=0.01) if columns else S(0.005)
    wz = (np.zeros(3 * size, np.int8) if wsigned else u8(rng, 3 * size, low=100, high=150)) if columns else zero(rng, wsigned)
    m = {None: None, "ends": np.array([length + past, 3 + past], np.int32), "keys": i32(rng, batch, length + past, low=0, high=1)}[mask]
    inputs = [x, w, f32(rng, 3 * size), S(0.02), ws, m, np.uint8(128) if zeros else None, wz if zeros else None]
    if past:
        inputs.append(f32(rng, 2, batch, heads, past, size // heads))
    dynamic = attrs.pop("dynamic", False)
    while inputs[-1] is None:
        inputs.pop()
    return Case(MS + "QAttention", inputs, {"num_heads": heads, **attrs}, nout=nout, const=(1,), dynamic=dynamic, tol=2e-4)


def lstm(rng, signed, columns=False, direction="forward", lens=None, batch=3, length=5, size=8, hidden=6, **attrs):
    dirs = 2 if direction == "bidirectional" else 1
    rows = 4 * hidden
    shape = (dirs, rows) if columns else (dirs,)
    w, r = weights(rng, signed, dirs, size, rows), weights(rng, signed, dirs, hidden, rows)
    zeros = [np.zeros(shape, np.int8) if signed else np.full(shape, int(rng.integers(110, 140)), np.uint8) for _ in range(2)]
    scales = [f32(rng, *shape, low=0.002, high=0.01) for _ in range(2)]
    more = {k: attrs.pop(k) for k in ("const", "dynamic", "wanted", "error") if k in attrs}
    peep = f32(rng, dirs, 3 * hidden, scale=0.3) if attrs.pop("peep", False) else None
    state = [f32(rng, dirs, batch, hidden, scale=0.5) for _ in range(2)] if lens is None else [None, None]
    inputs = [f32(rng, length, batch, size), w, r, f32(rng, dirs, 8 * hidden, scale=0.2),
              None if lens is None else np.array(lens, np.int32), *state, peep,
              scales[0], zeros[0], scales[1], zeros[1]]
    more.setdefault("const", (1, 2, 8, 9, 10, 11))
    return Case(MS + "DynamicQuantizeLSTM", inputs, {"hidden_size": hidden, "direction": direction, **attrs}, nout=3, tol=2e-3, **more)


def wrong(rng):
    x, s, z = u8(rng, 3, 4), S(0.1), np.uint8(3)
    yield Case(MS + "QLinearAdd", [x, s, z, x.astype(np.int8), s, z, s, z], error="A is u8, B is i8")
    yield Case(MS + "QLinearAdd", [x, np.ones(2, S), z, x, s, z, s, z], error="expected one element, got f32.2.")
    yield Case(MS + "QLinearAdd", [x, s, np.int8(3), x, s, z, s, z], error="zero point: expected u8, got i8")
    yield Case(MS + "QLinearAdd", [x, s, z, u8(rng, 3, 5), s, z, s, z], error="broadcast")
    yield Case(MS + "QLinearSigmoid", [i32(rng, 3), s, None, s], error="expected 8-bit integers, got i32")
    yield Case(MS + "QLinearSoftmax", [x, s, z, s, z], {"opset": 13, "axis": 2}, error="axis")
    yield Case(MS + "QLinearConcat", [s, z, x, s, z, x], {"axis": 0}, error="a tensor, a scale and a zero point for each part")
    yield Case(MS + "QLinearConcat", [s, z, x, s, z, x.astype(np.int8), s, np.int8(0)], {"axis": 0}, error="part 1 has another type")
    yield Case(MS + "QLinearGlobalAveragePool", [x, s, z, s, z], error="expected rank 3")
    yield Case(MS + "QGemm", [x, s, z, u8(rng, 5, 4), s, z], error="inner sizes of A and B differ")
    yield Case(MS + "QGemm", [x, s, z, u8(rng, 4, 4), s, z, None, s], error="y_zero_point")
    yield Case(MS + "MatMulIntegerToFloat", [x, u8(rng, 4, 5), s, np.ones(3, S)], error="the scale of B must have one element")
    yield Case(MS + "MatMulInteger16", [x, x], error="expected two operands of i16 or of u16")


def cases(rng):
    for signed in (False, True):
        yield from elementwise(rng, signed)
        yield from pools(rng, signed)
        yield from convs(rng, signed)
        for segments in (False, True):
            yield embedding(rng, signed, segments, signed)
    yield embedding(rng, False, True, True, dynamic=True)
    case = embedding(rng, False, True, True)
    case.inputs[0][1, 2], case.error = 50, "index out of range"
    yield case
    for wsigned in (False, True):
        for columns in (False, True):
            yield attention(rng, wsigned, columns, mask="ends" if columns else None)
        yield attention(rng, wsigned, mask="keys", zeros=False, dynamic=True)
    yield attention(rng, True, True, unidirectional=1, past=3, nout=2)
    yield attention(rng, False, mask="keys", past=2, nout=2, mask_filter_value=-500.0, scale=0.3)
    for signed in (False, True):
        for columns in (False, True):
            yield lstm(rng, signed, columns)
        yield lstm(rng, signed, direction="bidirectional", dynamic=True)
        yield lstm(rng, signed, direction="reverse", const=())
    yield lstm(rng, True, True, peep=True, clip=0.5, input_forget=1)
    yield lstm(rng, True, lens=[5, 5, 5], wanted=(1,))
    case = lstm(rng, True, error="a scale or zero point does not fit its weights along axis 1")
    case.inputs[8] = f32(rng, 1, 23)
    yield case
    yield from products(rng)
    yield from linear(rng)
    yield from wrong(rng)
