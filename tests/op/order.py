"""TopK in all sizes of k and n, with ties, NaN and every type; sorts and unique values ride on the same kernels."""
import ml_dtypes
import numpy as np
from op_test import Case, f32, ints, special


def topk(x, k, axis, largest):
    """NaN is greater than every number; among equals the lower index comes first."""
    y = x.astype(np.float64) if x.dtype.kind == "f" or x.dtype == ml_dtypes.bfloat16 else x
    nan = np.isnan(y) if y.dtype.kind == "f" else np.zeros(y.shape, bool)
    y = np.where(nan, 0, y)
    order = np.lexsort((np.broadcast_to(np.expand_dims(np.arange(x.shape[axis]), [i for i in range(x.ndim) if i != axis % x.ndim]), x.shape),
                        -y if largest and y.dtype.kind == "f" else (~y if largest and y.dtype.kind in "iu" else y), ~nan if largest else nan),
                        axis=axis)
    index = np.take(order, range(k), axis=axis)
    return [np.take_along_axis(x, index, axis), index.astype(np.int64)]


def cases(rng):
    def case(x, k, axis=-1, largest=1, **how):
        return Case("TopK", [x, np.array([k])], {"axis": axis, "largest": largest, "sorted": 1}, nout=2, oracle=topk(x, k, axis, largest), tol=0,
                    **how)

    for n, k in ((1, 1), (5, 0), (5, 5), (7, 2), (63, 1), (64, 64), (65, 3), (100, 33), (257, 40), (600, 599), (1000, 1), (1000, 300), (5000, 50),
                 (3000, 3000)):
        for largest in (0, 1):
            yield case(f32(rng, 2, n), k, largest=largest, const=(1,))
            yield case(ints(rng, 2, n, low=-3, high=3), k, largest=largest, dynamic=True)          # ties, and words that are positions
            yield case(ints(rng, n, low=-3, high=3, dtype=np.int32), k, 0, largest, const=(1,), dynamic=True)
            yield case(special(rng, n), k, 0, largest)
    ramp = np.arange(2000, dtype=np.float32)
    for x in (ramp, -ramp):                     # every element beats those before it, and none does
        yield case(x, 70, largest=1, const=(1,))
        yield case(x, 3, largest=1, const=(1,))
    yield case(f32(rng, 300, 5, 3), 17, 0, const=(1,))
    yield case(f32(rng, 4, 300, 3), 200, 1, 0)
    for kind in (np.int8, np.int16, np.uint8, np.uint16, np.uint32, np.uint64, np.int64, np.float16, np.float64, ml_dtypes.bfloat16):
        x = (rng.standard_normal(700) * 50).astype(np.float32)
        x = (np.abs(x) if np.dtype(kind).kind == "u" else x).astype(kind)
        for k in (9, 650):
            yield case(x, k, largest=k == 9, const=(1,))
    for n in (1, 6, 100, 700):                  # long keys: differences in 32 bits, below them as well, in one element alone, in none
        low = rng.integers(-3, 3, n)
        apart = np.where(np.arange(n) == n // 2, 2**62, low)
        for x in (low * 1000, low * 2**40 + rng.integers(0, 9, n), apart, -apart, np.zeros(n, np.int64), apart.astype(np.uint64),
                  low / 3, low * 1e300 + 1, np.where(low == 2, np.nan, np.copysign(0.0, low)), 1 + low * 2.0**-50):
            yield case(x, n, largest=n % 4 == 0, const=(1,))
            if n >= 100:                        # the best of these: in order all the time, and sorted when there are many
                yield case(x, n // 9, largest=n % 4 != 0, const=(1,))
    big = np.array([0, 2**31, 2**32 - 1, 5, 2**31 - 1], np.uint32)
    yield case(big, 5, const=(1,))
    yield case(big.astype(np.int32), 5, const=(1,))
    yield Case("TopK", [f32(rng, 5), np.array([6])], {}, nout=2, error="(?i)k|greater|range")
