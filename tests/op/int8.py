"""Products of 8-bit integers, exact: constant and computed weights, zero points of all kinds, sizes off the multiples of 4 and 16."""
import itertools

import numpy as np
from op_test import Case, f32, i8, ints, u8


def wide(x):
    return x.astype(np.int64)


def spread(zero, rank, axis):
    """A zero point or scale as something that broadcasts along one axis."""
    if zero is None:
        return 0
    zero = np.asarray(zero)
    return zero.reshape([-1 if d == axis % rank else 1 for d in range(rank)]) if zero.ndim == 1 and zero.size > 1 else zero.reshape(())


def conv(x, w, strides, pads, dilations, group):
    """Integer convolution, pads as in ONNX; x is without its zero point."""
    n = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0)] + [(pads[i], pads[n + i]) for i in range(n)])
    size = [(x.shape[2 + i] - (w.shape[2 + i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(n)]
    cin, cout = w.shape[1], w.shape[0] // group
    y = np.zeros((x.shape[0], w.shape[0], *size), np.int64)
    for tap in itertools.product(*map(range, w.shape[2:])):
        at = tuple(slice(tap[i] * dilations[i], tap[i] * dilations[i] + (size[i] - 1) * strides[i] + 1, strides[i]) for i in range(n))
        for g in range(group):
            part = x[(slice(None), slice(g * cin, (g + 1) * cin), *at)]
            y[:, g * cout:(g + 1) * cout] += np.moveaxis(np.tensordot(w[(slice(g * cout, (g + 1) * cout), slice(None), *tap)], part, (1, 1)), 1, 0)
    return y


def requantised(acc, scale, zero):
    q = np.rint(acc.astype(np.float32) * scale.astype(np.float32)) + np.float32(zero)
    limit = np.iinfo(zero.dtype)
    return np.clip(q, limit.min, limit.max).astype(zero.dtype)


def product(a, b, za=None, zb=None):
    rank = np.ndim(a)
    return np.matmul(wide(a) - wide(np.asarray(spread(za, rank, -2 if rank > 1 else 0))),
                     wide(b) - wide(np.asarray(spread(zb, np.ndim(b), -1)))).astype(np.int32)


def qlinear_product(a, sa, za, b, sb, zb, sy, zy):
    acc = product(a, b, za, zb)
    return [requantised(acc, np.float32(sa) * spread(sb, np.ndim(acc), -1).astype(np.float32) / np.float32(sy), zy)]


def integer_conv(x, w, zx, zw, attrs):
    n = x.ndim - 2
    return conv(wide(x) - (0 if zx is None else wide(np.asarray(zx).reshape(()))), wide(w) - wide(np.asarray(spread(zw, w.ndim, 0))),
                attrs.get("strides", [1] * n), attrs.get("pads", [0] * 2 * n), attrs.get("dilations", [1] * n),
                attrs.get("group", 1)).astype(np.int32)


TYPES = {"u": u8, "s": i8}
PAIRS = list(itertools.product("us", "us"))


def paired(shapes, whole):
    """The first shapes with all pairs of types, the others with one pair each, in turn."""
    for i, shape in enumerate(shapes):
        for pair in PAIRS if i < whole else PAIRS[i % 4:i % 4 + 1]:
            yield pair, shape


def zero_point(rng, kind, *shape):
    return TYPES[kind](rng, *shape)


def products(rng):
    shapes = [((5, 64), (64, 33)), ((1, 7), (7, 16)), ((2, 3, 18), (18, 40)), ((1, 1), (1, 1)), ((14, 256), (256, 16)), ((3, 4), (2, 4, 5)),
              ((9,), (9, 21)), ((0, 12), (12, 17)), ((4, 0), (0, 6)), ((2, 1, 130), (130, 70)), ((31, 100), (100, 0))]
    for (ka, kb), (sa, sb) in paired(shapes, 2):
        a, b = TYPES[ka](rng, *sa), TYPES[kb](rng, *sb)
        for const, zeros in (((1,), (False, False)), ((1, 3), (True, False)), ((1, 2, 3), (True, True)), ((), (True, True))):
            za, zb = (zero_point(rng, k) if z else None for k, z in zip((ka, kb), zeros))
            yield Case("MatMulInteger", [a, b, za, zb], const=[c for c in const if [a, b, za, zb][c] is not None], dynamic=not const,
                       oracle=lambda a, b, za=None, zb=None: [product(a, b, za, zb)])
        if len(sb) == 2 and sb[1]:
            zb = zero_point(rng, kb, sb[1])
            yield Case("MatMulInteger", [a, b, zero_point(rng, ka), zb], const=(1, 3), oracle=lambda a, b, za, zb: [product(a, b, za, zb)])
    for ka, kb in PAIRS:
        for m, k, n in ((1, 64, 40), (13, 30, 16), (6, 4, 3)):
            a, b, per = TYPES[ka](rng, m, k), TYPES[kb](rng, k, n), ka == kb
            sb, zb = (f32(rng, n, low=0.001, high=0.01), zero_point(rng, kb, n)) if per else (np.float32(0.004), zero_point(rng, kb))
            yield Case("QLinearMatMul", [a, np.float32(0.5), zero_point(rng, ka), b, sb, zb, np.float32(k / 40), zero_point(rng, ka)],
                       const=(1, 2, 3, 4, 5, 6, 7), oracle=qlinear_product)


def computed(rng):
    """Both operands and all parameters are inputs."""
    for i, (sa, n) in enumerate((((14, 256), 32), ((13, 30), 17), ((2, 9, 65), 5), ((8, 4), 16), ((7, 64), 16), ((20, 1), 33))):
        for ka, kb in PAIRS if i < 2 else PAIRS[i % 4:i % 4 + 1]:
            a, b, za, zb = TYPES[ka](rng, *sa), TYPES[kb](rng, sa[-1], n), zero_point(rng, ka), zero_point(rng, kb)
            yield Case("MatMulInteger", [a, b, za, zb], oracle=lambda a, b, za, zb: [product(a, b, za, zb)])
            yield Case("MatMulInteger", [a, b], dynamic={0: [*"mn"[:len(sa) - 1], sa[-1]], 1: [sa[-1], n]},
                       oracle=lambda a, b: [product(a, b, None, None)])
            yield Case("QLinearMatMul", [a, np.float32(0.5), za, b, np.float32(0.004), zb, np.float32(sa[-1] / 40), zero_point(rng, ka)],
                       oracle=qlinear_product, const=(1, 4, 6) if i % 2 else ())
            if i < 2:
                yield Case("QLinearMatMul", [a, np.float32(0.5), za, b, f32(rng, n, low=0.001, high=0.01), zero_point(rng, kb, n),
                                             np.float32(sa[-1] / 40), zero_point(rng, ka)], oracle=qlinear_product)


def convs(rng):
    shapes = [((1, 3, 9, 10), (18, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
              ((2, 20, 6, 5), (24, 20, 1, 1), {}),
              ((1, 16, 7, 7), (16, 16, 3, 3), {"pads": [1, 0, 2, 1]}),
              ((1, 32, 8, 8), (32, 1, 3, 3), {"group": 32, "pads": [1, 1, 1, 1]}),
              ((1, 33, 5, 6), (33, 1, 5, 3), {"group": 33, "pads": [2, 1, 2, 1], "strides": [2, 1]}),
              ((1, 32, 6, 6), (64, 16, 3, 3), {"group": 2, "dilations": [2, 1]}),
              ((1, 16, 5, 5), (16, 4, 3, 3), {"group": 4}),
              ((2, 9, 11), (5, 9, 4), {"strides": [3], "pads": [3, 0]}),
              ((1, 8, 3, 4, 5), (16, 8, 2, 2, 2), {}),
              ((1, 1, 4, 4), (1, 1, 1, 1), {}),
              ((0, 16, 4, 4), (16, 16, 1, 1), {})]
    for (kx, kw), (sx, sw, attrs) in paired(shapes, 4):
        x, w = TYPES[kx](rng, *sx), TYPES[kw](rng, *sw)
        for const, zeros, dynamic in (((1,), (False, False), False), ((1, 2, 3), (True, True), False), ((1, 3), (True, False), True),
                                      ((), (True, True), False)):
            zx, zw = (zero_point(rng, k) if z else None for k, z in zip((kx, kw), zeros))
            yield Case("ConvInteger", [x, w, zx, zw], attrs, const=[c for c in const if [x, w, zx, zw][c] is not None], dynamic=dynamic,
                       oracle=lambda x, w, zx=None, zw=None, attrs=attrs: [integer_conv(x, w, zx, zw, attrs)])
        for per in (False, True):
            sw_, zw = (f32(rng, sw[0], low=0.001, high=0.01), np.zeros(sw[0], w.dtype)) if per else (np.float32(0.004), zero_point(rng, kw))
            bias = ints(rng, sw[0], low=-5000, high=5000, dtype=np.int32)
            inputs = [x, np.float32(0.5), zero_point(rng, kx), w, sw_, zw, np.float32(0.25), zero_point(rng, kx), bias if per else None]
            yield Case("QLinearConv", inputs, attrs, const=[i for i in range(1, 9) if inputs[i] is not None],
                       oracle=lambda x, sx, zx, w, sw, zw, sy, zy, bias=None, attrs=attrs: [requantised(
                           integer_conv(x, w, zx, zw, attrs) + spread(np.asarray(0 if bias is None else bias), x.ndim, 1).astype(np.int32),
                           np.float32(sx) * spread(sw, x.ndim, 1).astype(np.float32) / np.float32(sy), zy)])


def pairs(rng):
    """Constant weights that are small, most of them or all, and x at its largest: some levels sum pairs of products in 16 bits."""
    def large(x, w):
        return np.where(rng.random(x) < 0.5, 255, rng.integers(0, 256, x)).astype(np.uint8), w

    def weights(most, often, *shape):
        w = rng.integers(-most, most + 1, shape)
        return np.where(rng.random(shape) < often, rng.choice([-128, -127, 100, 127], shape), w).astype(np.int8)
    for most, often in itertools.product((64, 32), (0, 0.002)):
        for sa, sb in (((13, 256), (256, 40)), ((1, 130), (130, 16)), ((2, 9, 64), (64, 33))):
            a, b = large(sa, weights(most, often, *sb))
            yield Case("MatMulInteger", [a, b], const=(1,), oracle=lambda a, b: [product(a, b)])
            yield Case("MatMulInteger", [a.astype(np.int8), b, np.int8(3)], const=(1, 2), dynamic=True, oracle=lambda a, b, z: [product(a, b, z)])
        for sx, sw, attrs in (((1, 32, 8, 9), (48, 32, 3, 3), {"pads": [1, 1, 1, 1]}), ((2, 64, 5, 5), (32, 32, 1, 1), {"group": 2}),
                              ((1, 3, 17, 12), (16, 3, 5, 5), {"strides": [2, 2]})):
            x, w = large(sx, weights(most, often, *sw))
            yield Case("ConvInteger", [x, w], attrs, const=(1,), oracle=lambda x, w, attrs=attrs: [integer_conv(x, w, None, None, attrs)])


def cases(rng):
    yield from pairs(rng)
    yield from products(rng)
    yield from computed(rng)
    yield from convs(rng)
