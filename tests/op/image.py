"""Operators on images."""
import numpy as np
from op_test import Case, f32


def lrn(x, size, alpha, beta, bias):
    square, c = np.zeros_like(x), x.shape[1]
    for k in range(c):
        square[:, k] = (x[:, max(0, k - (size - 1) // 2):min(c, k + size // 2 + 1)]**2).sum(axis=1)
    return [x / (bias + alpha / size * square)**beta]


def grids(rng):
    """Cubic: of what is outside of the border its pixels are taken, not its positions, as ONNX Runtime and others do; onnx.reference does both."""
    for align in (0, 1):
        for padding in ("border", "zeros", "reflection"):
            yield Case("GridSample", [f32(rng, 1, 2, 4, 5), f32(rng, 1, 3, 6, 2, scale=1.2)],
                       {"mode": "cubic", "padding_mode": padding, "align_corners": align}, opset=20, dynamic=align == 1)


def cases(rng):
    yield from grids(rng)
    for kind in (bool, np.int8):    # what several blocks cover is a sum
        yield Case("Col2Im", [rng.integers(0, 2, (1, 4, 9)).astype(kind), np.array([4, 4]), np.array([2, 2])], opset=18, oracle="reference")
    for n in (1, 3):                # one point along an axis
        for dynamic in (False, True):
            yield Case("AffineGrid", [f32(rng, 2, 2, 3), np.array([2, 1, 1, n])], {"align_corners": 1}, opset=20, dynamic=dynamic)
    regions = np.array([[0, 0, 7, 5], [1.5, 2, 3.25, 8], [2, 2, 2.5, 2.25], [-3, -4, 12, 12], [5, 5, 4, 4]], np.float32)
    image = f32(rng, 2, 3, 9, 11)
    for mode in ("avg", "max"):
        for half in ("half_pixel", "output_half_pixel"):
            for ratio in (0, 2) if mode == "avg" else (1,):
                for scale in (1.0, 0.5):
                    yield Case("RoiAlign", [image, regions, np.array([0, 1, 1, 0, 1], np.int64)],
                               {"mode": mode, "coordinate_transformation_mode": half, "sampling_ratio": ratio, "output_height": 2, "output_width": 3,
                                "spatial_scale": scale}, opset=16, dynamic=ratio == 0)
    for huge in ([2, 3, 900, 5], [-500, 1, 3, 8], [-500, 1, 4, 9], [-700, -800, 900, 700], [300, 2, 900, 5], [1, 2, 1e4, 4]):   # hundreds of samples
        for half in ("half_pixel", "output_half_pixel"):
            yield Case("RoiAlign", [image, np.float32([huge, [1, 2, 4, 5]]), np.array([0, 1], np.int64)],
                       {"output_height": 2, "output_width": 3, "sampling_ratio": 0, "coordinate_transformation_mode": half},
                       opset=16, dynamic=half[0] == "h")
    for mode in ("avg", "max"):     # more samples than a run can look at
        yield Case("RoiAlign", [np.ones((1, 1, 4, 4), np.float32), np.float32([[1, 1, 1e12, 1e12], [1, 1, np.inf, 2]]), np.zeros(2, np.int64)],
                   {"mode": mode}, oracle=[np.float32([mode == "max", 0]).reshape(2, 1, 1, 1)], tol=1e-6, slack=1)
    for channels in (4, 21):        # which lie innermost
        for attrs in ({"sampling_ratio": 2}, {"sampling_ratio": 0}, {"sampling_ratio": 1, "mode": "max"}):
            yield Case("RoiAlign", [f32(rng, 2, channels, 9, 11), regions, np.array([0, 1, 1, 0, 1], np.int64)],
                       {"output_height": 2, "output_width": 3, **attrs}, opset=16, dynamic={0: ["n", channels, "h", "w"], 1: ["r", 4], 2: ["r"]})
    yield Case("RoiAlign", [f32(rng, 2, 5, 0, 11), regions, np.array([0, 1, 1, 0, 1], np.int64)], {"sampling_ratio": 2}, opset=16, dynamic=True,
               oracle=[np.zeros((5, 5, 1, 1), np.float32)])
    yield Case("RoiAlign", [image, regions[:0], np.zeros(0, np.int64)], {"output_height": 2, "output_width": 3}, opset=16)
    yield Case("RoiAlign", [image, regions[:4], np.array([0, 1, 1, 0], np.int64)], {"mode": "max", "output_height": 2, "output_width": 2}, opset=16)
    for size in (1, 2, 3, 4, 9):
        yield Case("LRN", [f32(rng, 2, 7, 3, 5)], {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 1.5},
                   oracle=lambda x, size=size: lrn(x, size, 0.3, 0.6, 1.5), tol=1e-5)
