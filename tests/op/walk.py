"""Scans, compaction, orders and transposes of rows that are long enough for many threads to share one."""
import numpy as np
from op_test import Case, bools, f32, f64, i64


def top(x, k, largest, **how):
    """NaN is greater than every number, and equal elements stay in order."""
    n, key = x.shape[-1], np.where(np.isnan(x), np.inf, x) if x.dtype == np.float32 else x
    tied = [np.lexsort((np.arange(n), np.isnan(r) if x.dtype == np.float32 else r * 0, v) if not largest else
                       (np.arange(n), ~np.isnan(r) if x.dtype == np.float32 else r * 0, -v)) for r, v in zip(x.reshape(-1, n), key.reshape(-1, n))]
    i = np.array(tied, np.int64).reshape(x.shape)[..., :k]
    return Case("TopK", [x, np.array([k])], {"largest": largest}, nout=2, oracle=[np.take_along_axis(x, i, -1), i], tol=0, **how)


def cases(rng):
    for n in (63, 64, 65, 600, 4097):
        for exclusive, reverse in ((0, 0), (1, 0), (0, 1), (1, 1)):
            how = {"exclusive": exclusive, "reverse": reverse}
            yield Case("CumSum", [f32(rng, 3, n), np.int64(1)], how, dynamic=n == 600)
            yield Case("CumSum", [i64(rng, n, 2, low=-9, high=9), np.int64(0)], how, dynamic=n == 65)
            if n == 65:     # whole rows, four at a time and one more
                yield Case("CumSum", [f32(rng, n, 300), np.int64(0)], how)
                yield Case("CumSum", [i64(rng, 2, n, 290, low=-9, high=9), np.int64(1)], how, const=(1,))
    yield Case("CumSum", [f64(rng, 2, 700, 3), np.int64(1)])
    yield Case("CumSum", [f32(rng, 70, 5000), np.int64(0)])
    yield Case("CumProd", [f32(rng, 2, 300, low=0.9, high=1.1), np.int64(1)], oracle=lambda x, a: [np.cumprod(x, 1)])
    yield Case("CumSum", [f32(rng, 2, 200, dtype=np.float16, scale=0.1), np.int64(1)], tol=5e-3,
               oracle=lambda x, a: [np.cumsum(x.astype(np.float32), 1).astype(x.dtype)])
    for n in (64, 100, 513, 3000):
        for dense in (0.0, 0.1, 0.9, 1.0):
            x = (rng.random(n) < dense).astype(np.float32)
            yield Case("NonZero", [x], oracle=lambda x: [np.array(np.nonzero(x), np.int64)], dynamic=n == 513)
        yield Case("Compress", [f32(rng, n, 2), bools(rng, n)], {"axis": 0})
    yield Case("NonZero", [bools(rng, 20, 30, 4)])
    yield Case("NonZero", [i64(rng, 9, 40, low=-1, high=1)])
    for n in (64, 65, 127, 1000, 9000):
        for largest in (0, 1):
            for k in (1, 10, n // 2, n):
                yield top(f32(rng, 2, n), k, largest, dynamic=k == 10)
    yield top(i64(rng, 300, low=-9, high=9), 100, 1)
    yield top(f32(rng, 300).round(), 300, 0)
    yield top(np.where(rng.random(200) < 0.1, np.nan, f32(rng, 200).round()).astype(np.float32), 50, 1)
    for n in (70, 1500):
        yield Case("Unique", [f32(rng, n).round(1)], {"sorted": 1}, nout=4)
        yield Case("Unique", [i64(rng, n, 2, low=0, high=9)], {"sorted": 1, "axis": 0}, nout=4)
    for shape in ((33, 40), (64, 32), (9, 100), (130, 31)):
        yield Case("Transpose", [f32(rng, *shape)], dynamic=True)
        yield Case("Transpose", [f32(rng, 3, *shape, dtype=np.float16)], {"perm": [2, 0, 1]})
        yield Case("Transpose", [bools(rng, *shape, 2)], {"perm": [1, 2, 0]})
        yield Case("Transpose", [i64(rng, 2, *shape)], {"perm": [0, 2, 1]})
