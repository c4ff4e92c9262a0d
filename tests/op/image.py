"""Operators on images."""
import itertools

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


def pixels(image, at):
    """Linear interpolation of image [c, ..] at positions [n, ..]: zeros surround it."""
    low, total = np.floor(at).astype(np.int64), 0
    size = np.array(image.shape[1:]).reshape(-1, *[1] * (at.ndim - 1))
    for corner in itertools.product((0, 1), repeat=len(at)):
        which = low + np.array(corner).reshape(size.shape)
        inside = ((which >= 0) & (which < size)).all(axis=0)
        weight = np.where(which == low, 1 - (at - low), at - low).prod(axis=0) * inside
        total = total + image[:, *np.where(inside, which, 0)] * weight
    return total


def deformed(x, w, offset, bias, mask, group, offset_group, strides, pads, dilations):
    """DeformConv of any rank, tap by tap."""
    n, taps = len(strides), list(np.ndindex(*w.shape[2:]))
    y = np.zeros((len(x), len(w), *offset.shape[2:]))
    each, per, outs = x.shape[1] // offset_group, w.shape[1], len(w) // group
    steps = np.stack(np.meshgrid(*[np.arange(o) * s - p for o, s, p in zip(offset.shape[2:], strides, pads)], indexing="ij"))
    for b, (t, tap) in itertools.product(range(len(x)), enumerate(taps)):
        shift = (np.array(tap) * dilations).reshape(-1, *[1] * n)
        for c in range(x.shape[1]):
            k, g = c // each * len(taps) + t, c // per
            sample = pixels(x[b, c:c + 1].astype(np.float64), steps + shift + offset[b, k * n:(k + 1) * n])[0] * (1 if mask is None else mask[b, k])
            y[b, g * outs:(g + 1) * outs] += w[(slice(g * outs, (g + 1) * outs), c % per, *tap)].reshape(-1, *[1] * n) * sample
    return [(y if bias is None else y + bias.reshape(-1, *[1] * n)).astype(x.dtype)]


def deformations(rng):
    """Groups of channels, groups of offsets, or both; of 1 to 3 axes; with and without a mask and a bias; positions far outside."""
    for size, kernel, channels, kernels, group, offset_group, strides, pads, dilations in (
            ((6, 7), (3, 3), 4, 4, 1, 1, (1, 1), (1, 1, 1, 1), (1, 1)), ((7, 5), (2, 3), 6, 9, 3, 2, (2, 1), (0, 1, 1, 2), (1, 2)),
            ((5, 5), (3, 1), 8, 4, 2, 8, (1, 2), (1, 0, 1, 0), (1, 1)), ((6, 6), (1, 1), 17, 3, 1, 1, (1, 1), (0, 0, 0, 0), (1, 1)),
            ((9,), (3,), 6, 4, 2, 3, (2,), (1, 0), (1,)), ((4, 3, 5), (2, 1, 2), 4, 2, 2, 1, (1, 1, 2), (0, 1, 0, 1, 0, 0), (1, 1, 1))):
        n, taps = len(size), int(np.prod(kernel))
        out = [(size[i] + pads[i] + pads[n + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in range(n)]
        attrs = dict(group=group, offset_group=offset_group, strides=strides, pads=pads, dilations=dilations)
        for extras in (False, True):
            offset = f32(rng, 2, offset_group * taps * n, *out, scale=1.5)
            offset[0, 0].flat[:2] = -1000, 1e8
            yield Case("DeformConv", [f32(rng, 2, channels, *size), f32(rng, kernels, channels // group, *kernel), offset,
                                      f32(rng, kernels) if extras else None, f32(rng, 2, offset_group * taps, *out) if extras else None],
                       attrs, opset=22, const=(1,) if extras else (), dynamic=extras,
                       oracle=lambda *inputs, attrs=attrs: deformed(*inputs, **attrs))


def cases(rng):
    yield from grids(rng)
    yield from deformations(rng)
    for kind in (bool, np.int8):    # what several blocks cover is a sum
        yield Case("Col2Im", [rng.integers(0, 2, (1, 4, 9)).astype(kind), np.array([4, 4]), np.array([2, 2])], opset=18, oracle="reference")
    for image, block, attrs in (((13, 17), (3, 2), {"strides": [2, 2]}), ((12, 40), (2, 2), {"strides": [2, 2]}),
                                ((9, 33), (4, 5), {"strides": [3, 4], "pads": [1, 2, 2, 1]}), ((70,), (3,), {"strides": [2], "pads": [3, 0]}),
                                ((11, 19), (2, 3), {"strides": [2, 1], "dilations": [3, 2], "pads": [0, 1, 1, 0]}),
                                ((7, 5), (1, 2), {"strides": [3, 5]}),
                                ((5, 6, 38), (2, 1, 3), {"strides": [2, 3, 2], "pads": [1, 0, 1, 0, 0, 1]})):
        n, pads = len(image), attrs.get("pads", [0] * 2 * len(image))
        span = [d * (b - 1) + 1 for b, d in zip(block, attrs.get("dilations", [1] * n))]
        count = [(image[i] + pads[i] + pads[n + i] - span[i]) // attrs["strides"][i] + 1 for i in range(n)]
        x = [f32(rng, 2, 3 * int(np.prod(block)), int(np.prod(count))), np.array(image), np.array(block)]
        for const, dynamic in (((1, 2), False), ((2,), True), ((), False)):
            yield Case("Col2Im", x, attrs, opset=18, const=const, dynamic=dynamic, oracle="reference")
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
