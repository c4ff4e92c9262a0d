"""Products of matrices."""
import numpy as np
from op_test import Case, f32


def cases(rng):
    for a, b in (((0, 5, 7), (7, 2)), ((3, 0), (0, 4)), ((2, 3), (3, 0)), ((4, 0, 3), (4, 3, 2)), ((0,), (0,)), ((1, 1), (1, 1)), ((5,), (2, 5, 3))):
        for dynamic in (False, True):
            yield Case("MatMul", [f32(rng, *a), f32(rng, *b)], const=(1,), dynamic=dynamic, oracle=lambda x, y: [np.asarray(x @ y)])
