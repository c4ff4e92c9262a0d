"""Determinants; pooling of regions."""
import numpy as np
from op_test import Case, f16, f32, f64


def rois(rng, n, batch, size):
    a, b = rng.uniform(-2, size, (n, 2)), rng.uniform(-2, size + 2, (n, 2))
    return np.concatenate([rng.integers(0, batch, (n, 1)), np.minimum(a, b), np.maximum(a, b)], 1).astype(np.float32)


def cases(rng):
    det = lambda x: [np.linalg.det(x.astype(np.float64)).astype(x.dtype)]
    for n in (1, 2, 3, 4, 7, 16):
        for lead in ((), (3,), (2, 3)):
            yield Case("Det", [f32(rng, *lead, n, n)], oracle=det, tol=1e-4, dynamic=n % 2 == 1)
    yield Case("Det", [f32(rng, 3, 3)], opset=11, tol=1e-5)
    yield Case("Det", [f64(rng, 4, 5, 5)], oracle=det, tol=1e-12)
    yield Case("Det", [f16(rng, 4, 3, 3)], oracle=det, tol=4e-3)
    yield Case("Det", [np.zeros((2, 0, 0), np.float32)], oracle=lambda x: [np.ones(2, np.float32)])
    yield Case("Det", [np.zeros((0, 3, 3), np.float32)], oracle=lambda x: [np.zeros(0, np.float32)])
    swap = np.float32([[[0, 1], [1, 0]], [[0, 0], [0, 5]], [[1, 2], [2, 4]], [[0, 2], [3, 4]]])
    yield Case("Det", [swap], oracle=det, tol=1e-6)
    yield Case("Det", [np.eye(9, dtype=np.float32)[::-1].copy()], oracle=det, tol=1e-6, dynamic=True)
    nan, up = np.float32([[np.nan, 1], [1, 0]]), np.float32([[0, np.nan], [1, np.nan]])     # no pivot is better than NaN
    yield Case("Det", [np.stack([nan, nan[::-1], up, np.float32([[2, 3], [0, 1]])])], oracle=[np.float32([np.nan, np.nan, np.nan, 2])])
    yield Case("Det", [f32(rng, 2, 3)], error="not square")
    yield Case("Det", [f32(rng, 4)], error="rank 2 or more")
    for shape, scale in (((2, 3), 1.0), ((1, 1), 0.5), ((7, 7), 1.5)):
        for dynamic in (False, True):
            yield Case("MaxRoiPool", [f32(rng, 2, 3, 9, 11), rois(rng, 6, 2, 12)], {"pooled_shape": shape, "spatial_scale": scale},
                       opset=1 if dynamic else 11, dynamic=dynamic)
    yield Case("MaxRoiPool", [f32(rng, 1, 2, 4, 4), np.float32([[0, 5, 5, 9, 9], [0, -9, 0, -5, 3], [0, 2, 2, 1, 1]])], {"pooled_shape": [2, 2]},
               opset=11)
    yield Case("MaxRoiPool", [f16(rng, 1, 2, 6, 6), rois(rng, 3, 1, 6).astype(np.float16)], {"pooled_shape": [2, 2]}, opset=11, oracle="ort-wide")
    deep = [f16(rng, 1, 40, 6, 6), rois(rng, 3, 1, 6).astype(np.float16)]        # channels for vectors
    yield Case("MaxRoiPool", deep, {"pooled_shape": [2, 3]}, opset=11, oracle="ort-wide")
    yield Case("MaxRoiPool", [f32(rng, 2, 33, 9, 11), rois(rng, 6, 2, 12)], {"pooled_shape": [3, 2], "spatial_scale": 0.5}, opset=11,
               dynamic={1: ["r", 5]})
    yield Case("MaxRoiPool", [f32(rng, 1, 32, 4, 4), np.float32([[0, 5, 5, 9, 9], [0, -9, 0, -5, 3]])], {"pooled_shape": [2, 2]}, opset=11)
    yield Case("MaxRoiPool", [f32(rng, 1, 35, 6, 6), np.float32([[1, 0, 0, 3, 3]])], {"pooled_shape": [2, 2]}, error="out of range")
    yield Case("MaxRoiPool", [f32(rng, 1, 2, 6, 6), np.float32([[1, 0, 0, 3, 3]])], {"pooled_shape": [2, 2]}, error="out of range")
    yield Case("MaxRoiPool", [f32(rng, 1, 2, 6, 6), f32(rng, 3, 4)], {"pooled_shape": [2, 2]}, error="5 numbers")
    yield Case("MaxRoiPool", [f32(rng, 1, 2, 6, 6), f32(rng, 3, 5)], {"pooled_shape": [2]}, error="pooled_shape")
