"""com.microsoft: rows of tables in the block formats of GGML."""
import numpy as np

from op_test import Case, i32, i64, u8

MS = "com.microsoft."
BYTES = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 6: (32, 22), 8: (32, 34), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136)}
SCALES = {2: (0,), 6: (0,), 8: (0,), 13: (0, 2), 14: (208,), 20: (0,), 23: (0,)}


def table(rng, kind, rows, k):
    """Bytes by chance; those of floats are of moderate ones."""
    numbers, size = BYTES[kind]
    x = u8(rng, rows, k // numbers, size)
    for at in (size - 1,) if numbers == 1 else [s + 1 for s in SCALES[kind]]:
        x[..., at] = x[..., at] % 16 + 0x30
    return x.reshape(rows, -1)


def cases(rng):
    for kind in BYTES:
        for k, out in ((256, 1), (768, 1), (512, 10)):
            how = {"packed_type": kind, "K": k, "output_dtype": out}
            yield Case(MS + "GatherPacked", [table(rng, kind, 5, k), i64(rng, 2, 3, low=-1, high=6)], how, dynamic=k == 768,
                       tol=2e-3 if out == 10 else 1e-5)
    yield Case(MS + "GatherPacked", [table(rng, 8, 5, 64), i32(rng, 7, low=0, high=4)], {"packed_type": 8, "K": 64, "output_dtype": 1}, const=(0,))
    yield Case(MS + "GatherPacked", [table(rng, 8, 5, 64), i32(rng, 7, low=0, high=4)], {"packed_type": 8, "K": 96}, error="the bytes of K numbers")
    yield Case(MS + "GatherPacked", [table(rng, 8, 5, 64), i32(rng, 7)], {"packed_type": 8, "K": 40}, error="a multiple of 32")
    yield Case(MS + "GatherPacked", [np.zeros((2, 66), np.uint8), i32(rng, 7)], {"packed_type": 16, "K": 256}, error="the format 16")
