"""BatchNormalization in all versions: inference, training, parameters per position."""
import numpy as np
from op_test import Case, bf16, f16, f32, f64


def operands(rng, x, dims, gen=f32):
    return [x, gen(rng, *dims), gen(rng, *dims), gen(rng, *dims), np.abs(gen(rng, *dims)) + np.asarray(0.5, x.dtype)]


def trained(epsilon, momentum, spatial=True, saved=False):
    def run(x, scale, bias, mean, var):
        axes = tuple(i for i in range(x.ndim) if i != 1) if spatial else (0,)
        shape = [1, -1] + [1] * (x.ndim - 2) if spatial else [1, *scale.shape]
        wide = x.astype(np.float64)
        m, v = wide.mean(axes), wide.var(axes)
        y = (wide - m.reshape(shape)) / np.sqrt(v.reshape(shape) + epsilon) * scale.reshape(shape) + bias.reshape(shape)
        out = [y, mean * momentum + m * (1 - momentum), var * momentum + v * (1 - momentum)] + ([m, v] if saved else [])
        return [a.astype(x.dtype) for a in out]
    return run


def cases(rng):
    for shape in ((2, 3, 4, 5), (4, 3), (2, 3, 7), (2, 3, 2, 2, 2)):
        for dynamic in (False, True):
            ops = operands(rng, f32(rng, *shape), (3,))
            for version in (7, 9, 14, 15):
                yield Case("BatchNormalization", ops, {"epsilon": 1e-3}, opset=version, dynamic=dynamic)
            yield Case("BatchNormalization", ops, {"training_mode": 1, "momentum": 0.7}, opset=15, nout=3, dynamic=dynamic,
                       oracle=trained(1e-5, 0.7))
            yield Case("BatchNormalization", ops, {"momentum": 0.6}, opset=9, nout=5, dynamic=dynamic, oracle=trained(1e-5, 0.6, saved=True))
            if len(shape) > 2:
                whole = operands(rng, f32(rng, *shape), shape[1:])
                yield Case("BatchNormalization", whole, {"spatial": 0}, opset=7, dynamic=dynamic)
                yield Case("BatchNormalization", whole, {"spatial": 0, "momentum": 0.6}, opset=7, nout=5, dynamic=dynamic,
                           oracle=trained(1e-5, 0.6, False, True))
    ops = operands(rng, f32(rng, 2, 3, 4), (3,))
    yield Case("BatchNormalization", ops, {"epsilon": 1e-3, "is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1]}, opset=6,
               oracle=lambda x, s, b, m, v: [(x - m[:, None]) / np.sqrt(v[:, None] + np.float32(1e-3)) * s[:, None] + b[:, None]])
    yield Case("BatchNormalization", operands(rng, f64(rng, 2, 3, 4), (3,), f64), opset=15, tol=1e-12)
    yield Case("BatchNormalization", operands(rng, f16(rng, 2, 3, 4), (3,), f16), opset=15, oracle="ort-wide")
    yield Case("BatchNormalization", operands(rng, bf16(rng, 2, 3, 4), (3,), bf16), opset=15, oracle="ort-wide")
    yield Case("BatchNormalization", ops[:4] + [f32(rng, 4)], opset=15, error="one element per channel")
    yield Case("BatchNormalization", ops[:4] + [f32(rng, 3, 1)], opset=15, error="expected rank 1, got 2")
