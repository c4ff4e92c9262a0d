"""com.microsoft: movement, geometry, hashes; old names of ai.onnx."""
import numpy as np

from op_test import Case, f16, f32, f64, i32, i64, ints

MS = "com.microsoft."


def complex_mul(conj):
    def run(a, b):
        x, y = a[..., 0] + 1j * a[..., 1], b[..., 0] + 1j * b[..., 1]
        z = x * (np.conj(y) if conj else y)
        return [np.stack([z.real, z.imag], -1).astype(a.dtype)]
    return run


def crops(rng, mode, size, low=0.0, high=1.0, n=4, kind=np.float32, **how):
    rois = np.sort(rng.uniform(low, high, (n, 2, 2)), 1).reshape(n, 4).astype(kind)
    return Case(MS + "CropAndResize", [f32(rng, 2, 3, 7, 9, dtype=kind), rois, i32(rng, n, low=0, high=1), np.array(size, np.int32)],
                {"mode": mode, "extrapolation_value": 2.5}, **how)


def conv_transpose(rng, pads=(1, 0, 1, 1), bias=False, **how):
    return Case(MS + "ConvTransposeWithDynamicPads",
                [f32(rng, 1, 4, 5, 6), f32(rng, 4, 3, 3, 3), None if pads is None else np.array(pads)] + ([f32(rng, 3)] if bias else []),
                {"strides": [2, 2], "kernel_shape": [3, 3]}, **how)


def ngrams(rng, n, length=12, words=3, vocab=5, **how):
    return Case(MS + "NGramRepeatBlock", [i64(rng, 3, length, low=0, high=words - 1), f32(rng, 3, vocab)], {"ngram_size": n}, **how)


def well(rng, *shape, kind=f32):
    return (kind(rng, *shape) + 2 * np.eye(shape[-1])).astype(kind(rng, 1).dtype)


def cases(rng):
    for dynamic in (False, True):
        yield Case(MS + "ExpandDims", [f32(rng, 3, 4), np.array(1, np.int32)], const=(1,), dynamic=dynamic)
        yield Case(MS + "GatherND", [f32(rng, 3, 4, 2), i32(rng, 5, 2, low=0, high=2)], dynamic=dynamic)
        yield Case(MS + "GridSample", [f32(rng, 1, 2, 5, 6), f32(rng, 1, 3, 4, 2, scale=0.7)], {"padding_mode": "border"}, dynamic=dynamic)
        yield Case(MS + "Pad", [f32(rng, 3, 4), np.array([[1, 0, 2, 1]]), np.array([2.5], np.float32)], dynamic=dynamic)
        yield Case(MS + "Range", [np.array(1.5, np.float32), np.array(7, np.float32), np.array(0.75, np.float32)], dynamic=dynamic)
        yield Case(MS + "Trilu", [f64(rng, 2, 4, 5), np.array(1)], {"upper": 0}, dynamic=dynamic)
        yield Case(MS + "UnfoldTensor", [f32(rng, 3, 9, 2)], {"dim": 1, "size": 3, "step": 2}, dynamic=dynamic)
        yield Case(MS + "CDist", [f32(rng, 5, 7), f32(rng, 6, 7)], {"metric": "euclidean"}, dynamic=dynamic)
        yield Case(MS + "Inverse", [well(rng, 2, 3, 5, 5)], dynamic=dynamic)
        yield crops(rng, "bilinear", [4, 5], dynamic=dynamic)
        yield conv_transpose(rng, dynamic=dynamic)
        yield ngrams(rng, 3, dynamic=dynamic)
    yield Case(MS + "ExpandDims", [f32(rng, 3, 4), np.array(-1, np.int32)], const=(1,))
    for axis in (-3, 0, 1, 2):
        yield Case(MS + "ExpandDims", [f32(rng, 3, 4), np.array(axis, np.int32)], dynamic=axis % 2 == 0)
    yield Case(MS + "ExpandDims", [f32(rng, 3, 4), np.array([1, 2], np.int32)], error="2 elements against 1")
    yield Case(MS + "ExpandDims", [f32(rng, 3, 4), np.array(5, np.int32)], const=(1,), error="out of range")
    yield Case(MS + "Pad", [f32(rng, 3, 4), np.array([1, -1, 0, 2])], {"mode": "edge"})
    yield Case(MS + "Range", [np.array([3], np.int16), np.array([9], np.int16)])
    yield Case(MS + "Range", [np.array(9), np.array(1), np.array(-3)])
    yield Case(MS + "SampleOp", [f32(rng, 3)])
    yield Case(MS + "UnfoldTensor", [i32(rng, 8)], {"size": 8})
    yield Case(MS + "UnfoldTensor", [f32(rng, 3)], {"size": 4}, error="shorter than a slice")
    yield Case(MS + "CDist", [f64(rng, 5, 7), f64(rng, 1, 7)], {"metric": "sqeuclidean"}, tol=1e-9)
    yield Case(MS + "CDist", [f32(rng, 5, 7), f32(rng, 6, 8)], error="different dimensions")
    yield Case(MS + "Inverse", [np.array([[0, 1], [2, 0]], np.float32)])
    yield Case(MS + "Inverse", [well(rng, 6, 6, kind=f64)], tol=1e-9)
    yield Case(MS + "Inverse", [well(rng, 3, 4, 4, kind=f16)], tol=1e-2)
    yield Case(MS + "Inverse", [f32(rng, 3, 4)], error="not square")
    yield crops(rng, "nearest", [4, 5])
    yield crops(rng, "bilinear", [1, 3], low=-0.3, high=1.4)
    yield crops(rng, "nearest", [6, 1], low=-0.3, high=1.4)
    yield conv_transpose(rng, bias=True)
    yield conv_transpose(rng, pads=(9, 9, 9, 9), error="larger than the image", oracle=None)
    for n in (1, 2, 5, 12):
        yield ngrams(rng, n)
    yield ngrams(rng, 4, length=2, oracle=lambda ids, s: [s])
    for x in (ints(rng, 9, dtype=np.int32), ints(rng, 9, low=0, dtype=np.uint32), i64(rng, 9), ints(rng, 3, 3, low=0, dtype=np.uint64),
              f32(rng, 9), f64(rng, 9)):
        yield Case(MS + "MurmurHash3", [x], {"seed": 7})
    yield Case(MS + "MurmurHash3", [i32(rng, 5)], {"positive": 0})
    for name in ("ComplexMul", "ComplexMulConj"):
        yield Case(MS + name, [f32(rng, 3, 5, 2), f32(rng, 5, 2)], oracle=complex_mul(name[-1] == "j"), dynamic=True)
    for mix in ((2, 3, 4), (2, 3, 4, 1), (2, 3, 4, 8)):
        yield Case(MS + "HyperConnectionPreMix", [f32(rng, 2, 3, 4, 8), f32(rng, *mix)], {"reduction_scale": 0.5})
        yield Case(MS + "HyperConnectionPostMix", [f32(rng, 2, 3, 4, 8), f32(rng, 2, 3, 8), f32(rng, *mix), f32(rng, 2, 3, 4, 4)])
    yield Case(MS + "HyperConnectionPreMix", [f16(rng, 2, 32), f32(rng, 2, 32)], {"num_branches": 4}, tol=2e-3)
    yield Case(MS + "HyperConnectionPreMix", [f32(rng, 2, 32), f32(rng, 2, 4)], {"num_branches": 4}, dynamic=True)
    yield Case(MS + "HyperConnectionPostMix", [f16(rng, 2, 32), f16(rng, 2, 8), f16(rng, 2, 4)], {"num_branches": 4}, tol=2e-3)
    x = f32(rng, 2, 3, 8, 9)
    for dynamic in (False, True):
        yield Case("Affine", [x], {"alpha": 1.5, "beta": -0.5}, opset=9, dynamic=dynamic)
        yield Case("ParametricSoftplus", [x], {"alpha": 1.5, "beta": 0.5}, opset=9, dynamic=dynamic)
        yield Case("ScaledTanh", [x], {"alpha": 1.5, "beta": 0.5}, opset=9, dynamic=dynamic)
        yield Case("Scale", [x], {"scale": 1.5}, opset=9, dynamic=dynamic)
        yield Case("ImageScaler", [x], {"scale": 1.5, "bias": [0.5, -1.0, 2.0]}, opset=9, dynamic=dynamic)
        yield Case("Crop", [x], {"border": [1, 2, 3, 1]}, opset=9, dynamic=dynamic)
        yield Case("DynamicSlice", [x, np.array([1, 0]), np.array([3, 2]), np.array([1, 0])], opset=9, dynamic=dynamic)
    yield Case("Crop", [x], {"border": [1, 2, 0, 0], "scale": [4, 5]}, opset=9)
    yield Case("Crop", [x], {"border": [5, 0, 5, 0]}, opset=9, error="larger than the image")
    yield Case("ThresholdedRelu", [x], {"alpha": 0.5}, opset=9)
