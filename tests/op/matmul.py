"""Products of matrices."""
import numpy as np
from op_test import Case, f32


def cases(rng):
    for a, b in (((0, 5, 7), (7, 2)), ((3, 0), (0, 4)), ((2, 3), (3, 0)), ((4, 0, 3), (4, 3, 2)), ((0,), (0,)), ((1, 1), (1, 1)), ((5,), (2, 5, 3))):
        for dynamic in (False, True):
            yield Case("MatMul", [f32(rng, *a), f32(rng, *b)], const=(1,), dynamic=dynamic, oracle=lambda x, y: [np.asarray(x @ y)])
    # one batch axis is dropped, of another only a run tells which side is 1
    for a, b, sizes in (((1, 1, 7, 6), (2, 3, 6, 5), {0: [1, "p", "m", "k"], 1: ["q", "r", "k", 5]}),
                        ((3, 2, 7, 6), (1, 1, 6, 5), {0: ["q", "p", "m", "k"], 1: [1, "r", "k", 5]})):
        yield Case("MatMul", [f32(rng, *a), f32(rng, *b)], dynamic=sizes)
