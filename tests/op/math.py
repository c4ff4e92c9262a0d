"""Elementwise operators."""
import ml_dtypes
import numpy as np
from op_test import Case, bf16, bools, f16, f32, f64, i32, i64, i8, ints, special, u8

UNARY = ("Abs Neg Floor Ceil Sqrt Reciprocal Exp Log Tanh Sigmoid Relu Elu Selu LeakyRelu Softplus Softsign HardSigmoid HardSwish Mish "
         "Sin Cos Tan Atan Sinh Cosh Asinh Erf Round Sign IsNaN ThresholdedRelu Celu Gelu Shrink Identity").split()


def cases(rng):
    for op in UNARY:
        yield Case(op, [f32(rng, 3, 5, 7)], tol=2e-6)
        yield Case(op, [special(rng, 129)], tol=1e-5, dynamic=True)
        yield Case(op, [f16(rng, 17)], oracle="ort-wide")
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
        for shapes in (((2, 3), (3,)), ((1, 4), (3, 1)), ((), (5,)), ((2, 0, 3), (1, 1, 3)), ((7,), (7,))):
            yield Case(op, [f32(rng, *s) for s in shapes], tol=1e-6)
            yield Case(op, [f64(rng, *s) for s in shapes], tol=1e-12, dynamic=True)
    for kind in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        for op in ("Add", "Sub", "Mul", "Div"):
            low = 1 if op == "Div" else 0
            yield Case(op, [ints(rng, 9, low=0, high=100, dtype=kind), ints(rng, 9, low=low, high=7, dtype=kind)], oracle={
                "Add": lambda a, b: [a + b], "Sub": lambda a, b: [a - b], "Mul": lambda a, b: [a * b], "Div": lambda a, b: [a // b]}[op])
    for op in ("And", "Or", "Xor", "Equal"):
        yield Case(op, [bools(rng, 4, 5), bools(rng, 5)])
    for op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        yield Case(op, [i64(rng, 33, low=0, high=3), i64(rng, 33, low=0, high=3)], const=(1,))
        yield Case(op, [special(rng, 33), special(rng, 33)])
    for fmod in (0, 1):
        yield Case("Mod", [i32(rng, 40), np.where((x := i32(rng, 40)) == 0, 3, x).astype(np.int32)], {"fmod": fmod})
    yield Case("Mod", [f32(rng, 40), f32(rng, 40)], {"fmod": 1})
    yield Case("Pow", [f32(rng, 4, 5, low=0.1, high=4.0), f32(rng, 5)], tol=1e-5)
    yield Case("Pow", [f32(rng, 40), i32(rng, 40, low=-3, high=3)], tol=1e-5)
    yield Case("Pow", [ints(rng, 30, low=-9, high=9, dtype=np.int64), np.abs(np.rint(f32(rng, 30, scale=3)))], dynamic=True)
    yield Case("Pow", [np.array([1, -1, 4, 9, 2], np.int32), np.array([-1, -3, 0.5, 0.5, -1], np.float32)],
               oracle=[np.array([1, -1, 2, 3, 0], np.int32)])
    for whole in (0.0, 1.0, 0.5, -2.0):
        yield Case("Shrink", [special(rng, 50)], {"lambd": whole, "bias": 1.0})
    yield Case("Where", [bools(rng, 3, 1, 4), f32(rng, 3, 5, 1), f32(rng)])
    yield Case("Where", [bools(rng, 7), u8(rng, 7), u8(rng, 1)])
    for bounds in ((None, None), (np.float32(-0.5), None), (None, np.float32(0.5)), (np.float32(-0.5), np.float32(0.5))):
        yield Case("Clip", [special(rng, 50), *bounds], oracle="reference")
    yield Case("Clip", [i8(rng, 50), np.int8(-5), np.int8(7)])
    yield Case("BitShift", [u8(rng, 50), u8(rng, 50, high=7)], {"direction": "LEFT"})
    yield Case("Add", [bf16(rng, 40), bf16(rng, 40)], oracle="ort-wide")
    yield Case("Mul", [f32(rng, 1), f32(rng, 17)], dynamic=True)
    yield Case("Add", [f32(rng, 2, 3), f32(rng, 2, 4)], error="(?i)dim|size|shape|broadcast")
    x, rows = f16(rng, 8, 64), (1 + rng.random((8, 1))).astype(np.float16)     # quotients of numbers whose reciprocals are infinite
    tiny = np.float16(1e-5)
    yield Case("Div", [x * tiny, rows * tiny], oracle=lambda a, b: [a / b], tol=1e-3)
    x, rows = f32(rng, 8, 64), f32(rng, 8, 1, low=1, high=2)
    for tiny in (1e-40, 3e-38, 1e38):
        yield Case("Div", [x * np.float32(min(tiny, 1)), rows * np.float32(tiny)], oracle=lambda a, b: [a / b], tol=1e-4)
