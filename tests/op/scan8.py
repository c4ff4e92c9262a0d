"""Scan-8: batches, each with its own length."""
import numpy as np
import onnx.parser
from op_test import Case, f32

BODY = """sums (float[2] state, float[2] x) => (float[2] next, float[2] y) {
    next = Add (state, x)
    y = Mul (next, x)
}"""
PAIR = """pair (float[2] state, float[2] a, float[2] b) => (float[2] next, float[2] y) {
    t = Mul (state, a)
    next = Add (t, b)
    y = Sub (next, b)
}"""


def cases(rng):
    body, pair = onnx.parser.parse_graph(BODY), onnx.parser.parse_graph(PAIR)
    for lens in (None, [3, 1, 5], [5, 5, 2]):
        n = None if lens is None else np.int64(lens)
        for dirs in (None, [0], [1]):
            yield Case("Scan", [n, f32(rng, 3, 2), f32(rng, 3, 5, 2)], {"body": body, "num_scan_inputs": 1, "directions": dirs}, opset=8, nout=2)
        for dirs in ([0, 1], [1, 1]):
            yield Case("Scan", [n, f32(rng, 3, 2), f32(rng, 3, 5, 2), f32(rng, 3, 5, 2)],
                       {"body": pair, "num_scan_inputs": 2, "directions": dirs}, opset=8, nout=2)
    for lens in ([3, 9, 5], [-1, 2, 2]):
        yield Case("Scan", [np.int64(lens), f32(rng, 3, 2), f32(rng, 3, 5, 2)], {"body": body, "num_scan_inputs": 1}, opset=8, nout=2,
                   error="sequence_lens")
    yield Case("Scan", [np.int64([3, 0, 1]), f32(rng, 3, 2), f32(rng, 3, 5, 2)], {"body": body, "num_scan_inputs": 1}, opset=8, nout=2,
               oracle=by_hand)


def by_hand(lens, state, x):
    state, y = state.copy(), np.zeros_like(x)
    for b, n in enumerate(lens):
        for t in range(n):
            state[b] += x[b, t]
            y[b, t] = state[b] * x[b, t]
    return [state, y]
