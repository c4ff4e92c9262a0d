"""Operators whose result's size the data decide: NonMaxSuppression, Unique."""
import ml_dtypes
import numpy as np
from op_test import Case, bools, f16, f32, i64, ints, strings

NAN, INF = np.nan, np.inf


def boxes(rng, batch, n, centred=False):
    low, size = rng.uniform(0, 10, (batch, n, 2)), rng.uniform(0, 4, (batch, n, 2))
    pair = [low + size / 2, size] if centred else [low, low + size]
    if not centred:     # the corners may come in any order
        swap = rng.random((batch, n, 2)) < 0.3
        pair = [np.where(swap, pair[1], pair[0]), np.where(swap, pair[0], pair[1])]
    return np.concatenate(pair, -1).astype(np.float32)


def suppression(rng):
    one = lambda v, t: None if v is None else np.asarray([v], t)
    for batch, classes, n in ((1, 1, 40), (2, 3, 25), (1, 2, 1), (1, 1, 0), (0, 1, 5)):
        for most, iou, least in ((20, 0.5, 0.4), (3, 0.1, None), (100, 0.0, 0.0), (5, 1.0, 0.5), (0, 0.5, 0.1), (None, 0.5, None),
                                 (7, None, 0.2), (-1, 0.5, None)):
            for centred in (0, 1):
                yield Case("NonMaxSuppression", [boxes(rng, batch, n, centred), f32(rng, batch, classes, n, low=0, high=1),
                           one(most, np.int64), one(iou, np.float32), one(least, np.float32)], {"center_point_box": centred},
                           opset=11 if n else 10, dynamic=bool(most and most % 2))
    same = np.tile(np.float32([0, 0, 1, 1]), (1, 6, 1))
    yield Case("NonMaxSuppression", [same, np.zeros((1, 1, 6), np.float32), np.int64(4), np.float32(0.5)])
    ties = np.round(f32(rng, 1, 2, 60, low=0, high=1) * 4) / 4
    yield Case("NonMaxSuppression", [boxes(rng, 1, 60), ties, np.int64(60), np.float32(0.3), np.float32(0.1)])
    flat = boxes(rng, 1, 30)
    flat[:, ::3, 2] = flat[:, ::3, 0]
    yield Case("NonMaxSuppression", [flat, f32(rng, 1, 1, 30), np.int64(30), np.float32(0.2)])
    edge = np.float32([[[0, 0, 2, 2], [0, 1, 2, 3], [0, 0, 2, 2]]])         # overlap of exactly 1/3
    yield Case("NonMaxSuppression", [edge, np.float32([[[3, 2, 1]]]), np.int64(9), np.float32(1 / 3)])
    bad = f32(rng, 1, 1, 12)
    bad[0, 0, [1, 5]] = NAN
    bad[0, 0, 3], bad[0, 0, 4] = INF, -INF
    yield Case("NonMaxSuppression", [boxes(rng, 1, 12), bad, np.int64(12), np.float32(0.3), np.float32(-10)])
    yield Case("NonMaxSuppression", [boxes(rng, 1, 500), f32(rng, 1, 4, 500, low=0, high=1), np.int64(50), np.float32(0.2), np.float32(0.3)])
    yield Case("NonMaxSuppression", [boxes(rng, 1, 5000), f32(rng, 1, 1, 5000), np.int64(300), np.float32(0.4)])
    b, s = boxes(rng, 1, 4), f32(rng, 1, 1, 4)
    yield Case("NonMaxSuppression", [b, s, np.int64(4), np.float32(1.5)], error=r"iou_threshold must be in \[0, 1\]")
    yield Case("NonMaxSuppression", [b[..., :3], s, np.int64(4)], error="four numbers")
    yield Case("NonMaxSuppression", [b, f32(rng, 1, 1, 5), np.int64(4)], error="one score per box")
    yield Case("NonMaxSuppression", [b[0], s, np.int64(4)], error="rank 3")


def by_numpy(axis, in_order):
    """y, first positions, inverse, counts; in_order: ascending."""
    def run(x):
        y, first, inverse, count = np.unique(x, return_index=True, return_inverse=True, return_counts=True, axis=axis)
        inverse = inverse.reshape(-1)
        if not in_order:
            by = np.argsort(first)
            rank = np.argsort(by)
            y, first, inverse, count = np.take(y, by, axis or 0), first[by], rank[inverse], count[by]
        return [y, first.astype(np.int64), inverse.astype(np.int64), count.astype(np.int64)]
    return run


def unique(rng):
    for axis in (None, 0, 1, -1):
        for order in (1, 0):
            attrs = {"axis": axis, "sorted": order}
            how = {"nout": 4, "oracle": by_numpy(axis, order)}
            yield Case("Unique", [i64(rng, 4, 5, low=0, high=3 if axis is None else 1)], attrs, **how)
            yield Case("Unique", [f32(rng, 7, 2, 3).round()], attrs, dynamic=True, **how)
            yield Case("Unique", [i64(rng, 40, 2, low=0, high=2)], attrs, dynamic=True, const=(0,), **how)
    for kind in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        big = ints(rng, 200, low=-3, high=3, dtype=kind) * np.asarray(30, kind)
        yield Case("Unique", [big], nout=4, oracle=by_numpy(None, 1))
    for x in (f16(rng, 100, scale=0.3).round(1), bools(rng, 99), f32(rng, 1, 1, 1), f32(rng, 0), np.float64([3, -0.0, 0.0, INF, -INF, 3] * 20),
              np.float32([NAN, 1, NAN, -1, 1]), np.float32([NAN, 1, NAN, -1, 1] * 20), np.float32(5),
              (f32(rng, 80) + 1j * f32(rng, 80)).round().astype(np.complex64),
              np.float16([6e-8, 6e-8, -6e-8, 65504, INF, 1e-4])):
        yield Case("Unique", [x], nout=4, oracle=by_numpy(None, 1))
    yield Case("Unique", [f32(rng, 90).round().astype(ml_dtypes.bfloat16)], nout=4,
               oracle=lambda x: [v.astype(ml_dtypes.bfloat16) if v.dtype.kind == "f" else v for v in by_numpy(None, 1)(x.astype(np.float32))])
    rows = rng.integers(0, 2, (90, 3)).astype(np.float32)
    rows[::7, 1], rows[::5, 2], rows[3] = NAN, -0.0, -INF
    for kind in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
        first = {}
        for i, r in enumerate(rows):
            first.setdefault(str(r + 0), i)
        order = sorted(first.values(), key=lambda i: [(v != v, 0 if v != v else v) for v in rows[i]])
        group = [[str(rows[i] + 0) for i in order].index(str(r + 0)) for r in rows]
        yield Case("Unique", [rows.astype(kind)], {"axis": 0}, nout=4,
                   oracle=[rows.astype(kind)[order], np.int64(order), np.int64(group), np.bincount(group).astype(np.int64)])
    text = strings(rng, 5, 4)
    coded = lambda x: np.vectorize(lambda s: s.encode(), otypes=[object])(x)
    for order in (1, 0):
        def oracle(x, order=order):
            y, *rest = by_numpy(None, order)(coded(x))
            return [np.vectorize(lambda s: s.decode(), otypes=[object])(y), *rest]
        yield Case("Unique", [text], {"sorted": order}, nout=4, oracle=oracle)
    yield Case("Unique", [i64(rng, 3, 0)], {"axis": 0}, nout=4, oracle=lambda x: [x[:1], np.int64([0]), np.int64([0, 0, 0]), np.int64([3])])
    for only in range(4):
        yield Case("Unique", [i64(rng, 30, low=0, high=9)], nout=4, wanted=(only,), oracle=by_numpy(None, 1))
    yield Case("Unique", [f32(rng, 2, 3)], {"axis": 2}, nout=4, error="axis 2 is out of range")


def cases(rng):
    yield from suppression(rng)
    yield from unique(rng)
