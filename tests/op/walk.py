"""Scans and compaction of rows that are long enough for many threads to share one."""
import numpy as np
from op_test import Case, bools, f32, f64, i64


def cases(rng):
    for n in (63, 64, 65, 600, 4097):
        for exclusive, reverse in ((0, 0), (1, 0), (0, 1), (1, 1)):
            how = {"exclusive": exclusive, "reverse": reverse}
            yield Case("CumSum", [f32(rng, 3, n), np.int64(1)], how, dynamic=n == 600)
            yield Case("CumSum", [i64(rng, n, 2, low=-9, high=9), np.int64(0)], how, dynamic=n == 65)
    yield Case("CumSum", [f64(rng, 2, 700, 3), np.int64(1)])
    yield Case("CumSum", [f32(rng, 70, 5000), np.int64(0)])
    yield Case("CumProd", [f32(rng, 2, 300, low=0.9, high=1.1), np.int64(1)], oracle=lambda x, a: [np.cumprod(x, 1)])
    yield Case("CumSum", [f32(rng, 2, 200, dtype=np.float16, scale=0.1), np.int64(1)], tol=5e-3, oracle=lambda x, a: [np.cumsum(x.astype(np.float32), 1).astype(x.dtype)])
    for n in (64, 100, 513, 3000):
        for dense in (0.0, 0.1, 0.9, 1.0):
            x = (rng.random(n) < dense).astype(np.float32)
            yield Case("NonZero", [x], oracle=lambda x: [np.array(np.nonzero(x), np.int64)], dynamic=n == 513)
        yield Case("Compress", [f32(rng, n, 2), bools(rng, n)], {"axis": 0})
    yield Case("NonZero", [bools(rng, 20, 30, 4)])
    yield Case("NonZero", [i64(rng, 9, 40, low=-1, high=1)])
