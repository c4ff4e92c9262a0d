"""Pooling: borders, strides, dilations, rounding of sizes, along one to three axes, in shapes that do not fill vectors."""
import numpy as np

from op_test import Case, f16, f32


def windows():
    """Shape of the image and attributes: what differs in code are overlap, divisors of stride and dilation, and long or short rows."""
    yield (2, 3, 20, 20), {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}
    yield (1, 3, 35, 35), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    yield (1, 2, 17, 113), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    yield (1, 2, 13, 29), {"kernel_shape": [3, 2], "strides": [1, 3], "pads": [0, 1, 2, 0]}
    yield (1, 2, 9, 600), {"kernel_shape": [2, 3], "strides": [1, 1]}
    yield (1, 1, 7, 650), {"kernel_shape": [3, 5], "strides": [2, 4], "pads": [1, 2, 1, 2]}
    yield (1, 2, 16, 31), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
    yield (1, 2, 10, 33), {"kernel_shape": [2, 4], "strides": [2, 3], "pads": [1, 1, 0, 2], "ceil_mode": 1}
    yield (1, 2, 14, 30), {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield (1, 2, 19, 23), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}
    yield (2, 3, 3, 3), {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2]}
    yield (2, 3, 1, 1), {"kernel_shape": [3, 5], "pads": [1, 2, 1, 2]}
    yield (2, 3, 41), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}
    yield (1, 2, 5, 9, 21), {"kernel_shape": [3, 3, 3], "pads": [1, 1, 1, 1, 1, 1]}
    yield (1, 2, 6, 7, 18), {"kernel_shape": [2, 3, 3], "strides": [1, 2, 2], "pads": [0, 1, 1, 1, 1, 0]}


def dilated():
    yield (1, 2, 21, 40), {"kernel_shape": [3, 3], "dilations": [2, 2], "pads": [2, 2, 2, 2]}
    yield (1, 2, 23, 37), {"kernel_shape": [3, 3], "dilations": [2, 4], "strides": [2, 2]}
    yield (1, 2, 20, 47), {"kernel_shape": [2, 4], "dilations": [3, 2], "strides": [2, 3], "pads": [1, 1, 1, 2], "ceil_mode": 1}


def greatest(x):
    """3x3, borders of 1, stride 2; a NaN spreads to every window that has it"""
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    size = [(n - 3) // 2 + 1 for n in p.shape[2:]]
    taps = [p[:, :, i:i + 2 * size[0] - 1:2, j:j + 2 * size[1] - 1:2] for i in range(3) for j in range(3)]
    return [np.maximum.reduce(taps)]


def cases(rng):
    image = f32(rng, 1, 2, 15, 37)
    image[0, 0, [0, 7, 14], [0, 20, 36]] = np.nan
    image[0, 1, :, :9] = -np.inf
    for dynamic in (False, True):
        yield Case("MaxPool", [image], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, oracle=greatest, dynamic=dynamic)
    for shape, attrs in [*windows(), *dilated()]:
        for dynamic in (False, True):
            yield Case("MaxPool", [f32(rng, *shape)], attrs, dynamic=dynamic)
        yield Case("AveragePool", [f32(rng, *shape)], attrs, dynamic=False)
        yield Case("AveragePool", [f32(rng, *shape)], {**attrs, "count_include_pad": 1}, dynamic=True)
    for shape, attrs in windows():
        if "ceil_mode" not in attrs and "auto_pad" not in attrs:
            yield Case("LpPool", [f32(rng, *shape)], {**attrs, "p": 2}, dynamic=False)
    for shape, attrs in list(windows())[:4]:
        image = rng.integers(-128, 128, shape)
        yield Case("MaxPool", [image.astype(np.int8)], attrs)
        yield Case("MaxPool", [image.astype(np.uint8)], attrs, dynamic=True)
        yield Case("MaxPool", [f32(rng, *shape).astype(np.float64)], attrs)
        yield Case("MaxPool", [f16(rng, *shape)], attrs)
        yield Case("MaxPool", [f32(rng, *shape)], attrs, nout=2)
        equal = rng.integers(0, 3, shape).astype(np.uint8)         # the first of a row-major walk counts in either order of storage
        yield Case("MaxPool", [equal], {**attrs, "storage_order": 1}, nout=2, dynamic=True)
