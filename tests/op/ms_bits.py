"""com.microsoft: products and gathers with weights of 2, 4 and 8 bits."""
import ml_dtypes
import numpy as np

from op_test import Case, f16, f32, ints, u8

MS = "com.microsoft."


def nbits(rng, m, n, k, bits=4, block=32, zero=None, bias=False, groups=None, kind=np.float32, lead=(), flat=False, level=None, **how):
    blocks = -(-k // block)
    b = u8(rng, n, blocks, block * bits // 8)
    x = f32(rng, *lead, m, k, dtype=kind)
    scales = f32(rng, n, blocks, low=0.02, high=0.1).astype(kind)
    z = None
    if zero == "packed":
        z = u8(rng, n, -(-blocks * bits // 8))
    elif zero == "float":
        z = f32(rng, n, blocks, low=0, high=2 ** bits - 1).astype(kind)
    g = None if groups is None else ints(rng, groups, low=0, high=blocks - 1, dtype=np.int32)
    if flat:
        scales, z = scales.reshape(-1), None if z is None else z.reshape(-1)
    c = f32(rng, n, dtype=kind) if bias else None
    how.setdefault("const", (1, 2) + ((3,) if z is not None else ()) + ((4,) if g is not None else ()) + ((5,) if bias else ()))
    inputs = [x, b, scales, z, g, c]
    while inputs[-1] is None:
        inputs.pop()
    attrs = {"K": k, "N": n, "bits": bits, "block_size": block}
    if level is not None:
        attrs["accuracy_level"] = level
    return Case(MS + "MatMulNBits", inputs, attrs, **how)


def nbits_oracle(bits, block, n, k):
    """The formula of the schema, in double."""
    def run(x, b, s, z=None, g=None, bias=None):
        blocks = -(-k // block)

        def unpack(v, count):
            parts = 8 // bits
            return ((v.reshape(n, -1)[:, :, None] >> (bits * np.arange(parts))) & (2 ** bits - 1)).reshape(n, -1)[:, :count]
        q = unpack(b, blocks * block)[:, :k].astype(float)
        s = s.reshape(n, blocks).astype(float)
        zero = np.full((n, blocks), 2.0 ** (bits - 1)) if z is None else \
            unpack(z, blocks).astype(float) if z.dtype == np.uint8 else z.astype(float).reshape(n, blocks)
        group = np.arange(k) // block if g is None else g[:k]
        w = (q - zero[:, group]) * s[:, group]
        y = x.astype(float) @ w.T + (0 if bias is None else bias.astype(float))
        return [y.astype(x.dtype)]
    return run


def gather(rng, shape, index, qa=1, ga=0, bits=4, block=16, zero=False, kind=np.uint8, out=np.float32, rows=None, **how):
    """shape: of the values; kind uint8 packs them along the last axis."""
    parts = 8 // bits if kind == np.uint8 else 1
    stored = (*shape[:-1], shape[-1] // parts)
    data = u8(rng, *stored)
    if kind != np.uint8:
        small = kind in (ml_dtypes.int4, ml_dtypes.uint4)
        data = (ints(rng, *stored, low=-8, high=7, dtype=np.int8).astype(kind) if kind == ml_dtypes.int4 else
                (data & 15).astype(kind) if small else f32(rng, *stored).astype(kind))
    sshape = list(shape)
    sshape[qa] = -(-shape[qa] // block) if block else 1
    if rows:
        sshape = [1 if i in rows else d for i, d in enumerate(sshape)]
    scales = f32(rng, *sshape, low=0.1, high=1).astype(out)
    inputs = [data, np.asarray(index), scales]
    if zero:
        zshape = [*sshape[:-1], -(-sshape[-1] // parts)]
        z = u8(rng, *zshape)
        inputs.append(z if kind == np.uint8 else
                      ints(rng, *zshape, low=-8, high=7, dtype=np.int8).astype(kind) if kind == ml_dtypes.int4 else (z & 15).astype(kind))
    how.setdefault("const", (0, 2, 3) if zero else (0, 2))
    return Case(MS + "GatherBlockQuantized", inputs, {"bits": bits, "block_size": block, "quantize_axis": qa, "gather_axis": ga}, **how)


def fpq4(rng, m, n, k, kind, **how):
    block = 64 if kind == 2 else 32
    blob = []
    for _ in range(n * -(-k // block)):
        blob.append(np.frombuffer(np.float32(rng.uniform(0.02, 0.1)).tobytes(), np.uint8))
        if kind == 1:
            blob.append(u8(rng, 1, high=15))
        blob.append(u8(rng, block // 2))
    return Case(MS + "MatMulFpQ4", [f32(rng, m, k), np.concatenate(blob), np.array([k, n])], {"blk_quant_type": kind},
                oracle=fpq4_plain(kind), const=(1, 2), **how)


def fpq4_plain(kind):
    """ONNX Runtime has the operator on CPUs with AVX-512 alone, and reads type 2 as 1."""
    zero, block = kind == 1, 64 if kind == 2 else 32

    def product(x, blob, shape):
        k, n = shape
        rows = blob.reshape(n, -1, 4 + zero + block // 2)
        scale = rows[:, :, :4].copy().view(np.float32).astype(float)
        q = rows[:, :, 4 + zero:].reshape(n, -1, block // 32, 16)
        q = np.concatenate([q & 15, q >> 4], 3).reshape(n, -1, block) - (rows[:, :, 4:5].astype(float) if zero else 8.0)
        return [(x @ (q * scale).reshape(n, -1)[:, :k].T).astype(np.float32)]
    return product


def bnb4(rng, m, n, k, kind, block=32, trans=1, **how):
    count = n * k
    return Case(MS + "MatMulBnb4", [f32(rng, m, k if trans else n), u8(rng, (count + 1) // 2),
                                    f32(rng, -(-count // block), low=0.1, high=1)],
                {"K": k, "N": n, "block_size": block, "quant_type": kind, "transB": trans}, const=(1, 2), **how)


def bnb4_plain(kind):
    """x[2, 16] times the weights themselves: the tables are those of bitsandbytes."""
    third, nf4 = 1 / 3, [-1, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0, 0.0795803, 0.1609302, 0.2461123,
                         0.33791524, 0.44070983, 0.562617, 0.72295684, 1]
    fp4 = [0, 0.0625 / 12, 2 * third, 1, third, 0.5, third / 2, 0.25]
    table = np.array([fp4 + [-v for v in fp4], nf4][kind])

    def run(x, b, absmax):
        codes = np.stack([b >> 4, b & 15], 1).reshape(-1)
        return [(x @ (table[codes] * np.repeat(absmax, 64)[:codes.size]).reshape(16, 32)).astype(np.float32)]
    return run


def cases(rng):
    for bits in (2, 4, 8):
        for block in (16, 32, 64, 128, 256):
            yield nbits(rng, 3, 24, 256, bits, block)
    for zero in ("packed", "float"):
        for bits in (2, 4, 8):
            ours = {"oracle": nbits_oracle(8, 32, 16, 96)} if (zero, bits) == ("float", 8) else {}    # ONNX Runtime lacks it
            yield nbits(rng, 5, 16, 96, bits, zero=zero, bias=True, **ours)
    yield nbits(rng, 1, 40, 512, zero="packed", bias=True)
    yield nbits(rng, 1, 64, 128, level=4, tol=2e-2)
    yield nbits(rng, 4, 16, 128, level=1)
    yield nbits(rng, 2, 7, 50, zero="packed", bias=True)                       # K is no multiple of the block
    yield nbits(rng, 2, 7, 50, bits=8, bias=True)
    yield nbits(rng, 4, 24, 128, lead=(2, 3), dynamic=True, bias=True)
    yield nbits(rng, 4, 24, 128, zero="packed", flat=True)
    yield nbits(rng, 3, 16, 128, const=(), zero="packed", bias=True)
    yield nbits(rng, 3, 16, 64, const=(), bits=8, oracle=nbits_oracle(8, 32, 16, 64), dynamic=True)
    yield nbits(rng, 3, 16, 64, const=(), bits=2, zero="packed", oracle=nbits_oracle(2, 32, 16, 64))
    for zero in (None, "packed", "float"):     # ONNX Runtime reads the first 8 indices of a block for all of it, with packed ones
        yield nbits(rng, 3, 16, 128, zero=zero, groups=128, oracle=nbits_oracle(4, 32, 16, 128))
    yield nbits(rng, 3, 16, 100, groups=128, zero="packed", oracle=nbits_oracle(4, 32, 16, 100))
    yield nbits(rng, 3, 24, 128, kind=np.float16, zero="packed", bias=True, tol=4e-3)
    yield nbits(rng, 3, 24, 128, kind=np.float16, zero="float", oracle=nbits_oracle(4, 32, 24, 128), tol=4e-3)
    yield nbits(rng, 3, 24, 128, kind=ml_dtypes.bfloat16, oracle=nbits_oracle(4, 32, 24, 128), tol=2e-2)
    yield Case(MS + "MatMulNBits", [f32(rng, 3, 64), u8(rng, 0, 2, 16), f32(rng, 8, 2), None, None, f32(rng, 8)],
               {"K": 64, "N": 8, "bits": 4, "block_size": 32}, const=(1, 2))
    for kind in (0, 1):
        yield bnb4(rng, 3, 24, 64, kind)
        yield bnb4(rng, 1, 7, 33, kind, block=16)
        yield bnb4(rng, 2, 16, 32, kind, block=64, trans=0, oracle=bnb4_plain(kind))    # ONNX Runtime transposes all the same
    for kind in (0, 1, 2):
        yield fpq4(rng, 3, 24, 128, kind)
        yield fpq4(rng, 1, 5, 80, kind)
    some = [[0, 3], [-1, 2]]
    for bits in (2, 4, 8):
        for zero in (False, True):
            yield gather(rng, (5, 64), some, bits=bits, zero=zero)
            yield gather(rng, (5, 64, 32), np.array([4, -5, 1], np.int32), bits=bits, zero=zero, qa=2, block=32)
    yield gather(rng, (6, 48), [0, 5, 6, -7, 100], zero=True)                  # out of range: zeros
    yield gather(rng, (6, 48), 3, dynamic=True, const=())
    for kind in (ml_dtypes.int4, ml_dtypes.uint4):
        for zero in (False, True):
            yield gather(rng, (4, 32, 5), some, kind=kind, zero=zero)
            yield gather(rng, (4, 6, 40), some, kind=kind, zero=zero, qa=-1 % 3, ga=1)
            yield gather(rng, (40, 6), some, kind=kind, zero=zero, qa=0, ga=1)
        yield gather(rng, (5, 32), [0, 4], kind=kind, out=np.float16, tol=2e-3)
    for kind in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz):
        yield gather(rng, (5, 32), some, kind=kind)
        yield gather(rng, (5, 32), some, kind=kind, block=0, rows=(0,))
    yield gather(rng, (5, 32), some, kind=ml_dtypes.float4_e2m1fn)
    # bad input
    a, b, s = f32(rng, 2, 64), u8(rng, 8, 2, 16), f32(rng, 8, 2)
    good = {"K": 64, "N": 8, "bits": 4, "block_size": 32}
    bad = MS + "MatMulNBits"
    yield Case(bad, [a, b, s], {**good, "bits": 3}, error="attribute bits: expected 2, 4 or 8, got 3")
    yield Case(bad, [a, b, s], {**good, "block_size": 24}, error="attribute block_size: expected a power of 2")
    yield Case(bad, [a, b, s], {**good, "K": 0}, error="attribute K: expected a positive number, got 0")
    yield Case(bad, [a, b, s], {**good, "N": 9}, error="B has type u8.8,2,16., expected 288 elements")
    yield Case(bad, [a, b, s], {**good, "weight_prepacked": 1}, error="weight_prepacked")
    yield Case(bad, [f32(rng, 2, 65), b, s], good, error="the last axis of A has 65 elements, K=64")
    yield Case(bad, [a, b.astype(np.int32), s], good, error="operand B: expected u8, got i32")
    yield Case(bad, [a, b, s, ints(rng, 8, 2)], good, error="operand zero_points: expected u8 or f32, got i64")
    yield Case(bad, [a, b, s, None, None, f32(rng, 7)], good, error="the bias must have one element per column")
    yield Case(MS + "MatMulBnb4", [a, b.reshape(-1), s], {"K": 64, "N": 8, "block_size": 32, "quant_type": 2}, error="quant_type: expected 0 or 1")
    yield Case(MS + "MatMulFpQ4", [a, b.reshape(-1), np.array([64, 8])], {"blk_quant_type": 1}, error="B_shape: expected the constants")
    yield gather(rng, (5, 32), [0], ga=1, qa=1, error="gather_axis")
    yield Case(MS + "GatherBlockQuantized", [u8(rng, 5, 16), np.array([0]), f32(rng, 5, 2)], {"block_size": 8}, error="block_size")
    yield Case(MS + "GatherBlockQuantized", [u8(rng, 5, 16), np.array([0]), f32(rng, 5, 3)], {"block_size": 16, "bits": 4},
               error="scales do not fit the data along axis 1")
