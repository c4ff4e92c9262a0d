"""8-bit floats where they are not converted."""
import ml_dtypes
import numpy as np
from op_test import Case

KINDS = [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz]


def cases(rng):
    for kind in KINDS:
        every = np.arange(256, dtype=np.uint8).view(kind)
        yield Case("IsNaN", [every], opset=20, oracle=lambda x: [np.isnan(x.astype(np.float32))])
        yield Case("IsInf", [every], opset=20, oracle=lambda x: [np.isinf(x.astype(np.float32))])
        yield Case("IsInf", [every], {"detect_negative": 0}, opset=20, oracle=lambda x: [np.isposinf(x.astype(np.float32))])
        some = np.linspace(-3, 3, 24).astype(kind)
        keep = np.random.RandomState(7).random_sample(24) >= 0.25
        yield Case("Dropout", [some, np.asarray(0.25, kind), np.bool_(True)], {"seed": 7}, opset=22, nout=2,
                   oracle=lambda x, r, on, keep=keep: [np.where(keep, x.astype(np.float32) / 0.75, 0).astype(x.dtype), keep])
        yield Case("Dropout", [some], opset=22, nout=2, oracle=lambda x: [x, np.ones(24, bool)])
