"""RNN, GRU and LSTM."""
import itertools

import numpy as np
from op_test import Case, f16, f32, f64

GATES, STATES = {"RNN": 1, "GRU": 3, "LSTM": 4}, {"RNN": 1, "GRU": 1, "LSTM": 2}
NFUNC = {"RNN": 1, "GRU": 2, "LSTM": 3}
ACTIVATIONS = ["Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"]


def operands(rng, op, time, batch, size, hidden, dirs=1, bias=True, lens=None, states=0, peep=False, gen=f32, layout=0):
    """All operands; states: how many initial ones are given."""
    state = (batch, dirs, hidden) if layout else (dirs, batch, hidden)
    g, s = GATES[op], 0.5
    got = [gen(rng, *((batch, time) if layout else (time, batch)), size), gen(rng, dirs, g * hidden, size, scale=s),
           gen(rng, dirs, g * hidden, hidden, scale=s), gen(rng, dirs, 2 * g * hidden, scale=s) if bias else None,
           None if lens is None else np.asarray(lens, np.int32)]
    got += [gen(rng, *state) if k < states else None for k in range(STATES[op])]
    if op == "LSTM":
        got.append(gen(rng, dirs, 3 * hidden, scale=s) if peep else None)
    while got[-1] is None:
        got.pop()
    return got


def batch_first(op, attrs, **how):
    """Layout 1, which ONNX Runtime lacks: expected are the results of layout 0 with the axes exchanged."""
    from op_test import by_ort

    def oracle(*inputs):
        x, w, r, bias, lens, *states = list(inputs) + [None] * (8 - len(inputs))
        swap = [None if v is None else np.swapaxes(v, 0, 1) for v in states[:STATES[op]]]
        case = Case(op, [np.swapaxes(x, 0, 1), w, r, bias, lens, *swap, *states[STATES[op]:2 * STATES[op] - 1]], attrs, 14, 1 + STATES[op])
        y, *last = by_ort(case)
        return [np.transpose(y, (2, 0, 1, 3))] + [np.swapaxes(v, 0, 1) for v in last]
    return {"oracle": oracle, **how}


def attending(rng, time=5, batch=3, size=4, hidden=8, direction="forward", steps=6, depth=5, n=7, layer=None, ends=None, attrs=None, **more):
    """AttnLSTM: its W has columns for the attention as well."""
    dirs, how = 2 if direction == "bidirectional" else 1, {"nout": 3, **more}
    inputs = operands(rng, "LSTM", time, batch, size + (layer or depth), hidden, dirs,
                      **{k: how.pop(k) for k in ("lens", "states", "peep") if k in how})
    inputs[0] = f32(rng, time, batch, size)
    inputs += [None] * (8 - len(inputs)) + [f32(rng, dirs, hidden, n, scale=0.5), f32(rng, dirs, depth, n, scale=0.5), f32(rng, dirs, n),
                                            f32(rng, batch, steps, depth), None if ends is None else np.array(ends, np.int32)]
    inputs += [f32(rng, dirs, hidden + depth, layer, scale=0.5)] if layer else []
    while inputs[-1] is None:
        inputs.pop()
    return Case("com.microsoft.AttnLSTM", inputs, {"hidden_size": hidden, "direction": direction, **(attrs or {})}, **how)


def cases(rng):
    for direction, dynamic in itertools.product(("forward", "reverse", "bidirectional"), (False, True)):
        yield attending(rng, direction=direction, dynamic=dynamic)
        yield attending(rng, direction=direction, layer=9, ends=[6, 2, 1], lens=[5, 3, 1], states=2, peep=True, dynamic=dynamic)
    yield attending(rng, layer=3, attrs={"clip": 0.4, "activations": ["HardSigmoid", "Softsign", "Relu"]})
    yield attending(rng, ends=[6, 0, 1], error="not in the memory")
    for op in GATES:
        nout = 1 + STATES[op]
        for direction, dynamic in itertools.product(("forward", "reverse", "bidirectional"), (False, True)):
            dirs = 2 if direction == "bidirectional" else 1
            attrs = {"hidden_size": 8, "direction": direction}
            for version in (7, 14, 22):
                yield Case(op, operands(rng, op, 5, 3, 4, 8, dirs), attrs, version, nout, dynamic=dynamic)
            yield Case(op, operands(rng, op, 5, 3, 4, 8, dirs, lens=[5, 0, 2], states=2, peep=True), attrs, nout=nout, dynamic=dynamic)
            yield Case(op, operands(rng, op, 7, 2, 3, 8, dirs, bias=False, lens=[3, 7]), attrs, nout=nout, dynamic=dynamic, const=(1, 2, 4))
            yield Case(op, operands(rng, op, 4, 2, 3, 8, dirs, lens=[3, 4], states=2, layout=1), {**attrs, "layout": 1}, nout=nout,
                       dynamic=dynamic, **batch_first(op, attrs))
            yield Case(op, operands(rng, op, 6, 1, 20, 8, dirs), {**attrs, "clip": 0.3}, nout=nout, dynamic=dynamic)
        for only in range(nout):
            yield Case(op, operands(rng, op, 6, 2, 3, 4, 1, states=1), {"hidden_size": 4}, nout=nout, wanted=(only,))
        for time, batch in ((1, 1), (33, 1), (3, 17)):
            yield Case(op, operands(rng, op, time, batch, 24, 48, 1), {"hidden_size": 48}, nout=nout, const=(1, 2, 3))
        yield Case(op, operands(rng, op, 4, 2, 3, 4, 1), {}, nout=nout, oracle=same_as({"hidden_size": 4}, op, nout))
        for name in ACTIVATIONS:
            n = NFUNC[op]
            attrs = {"hidden_size": 4, "activations": [name] * n}
            # what grows without bound is tried on few trips
            yield Case(op, operands(rng, op, 2, 2, 3, 4, 1), attrs, nout=nout, tol=1e-3)
            attrs |= {"activation_alpha": [0.3 + 0.1 * k for k in range(n)], "activation_beta": [0.7 - 0.1 * k for k in range(n)]}
            yield Case(op, operands(rng, op, 2, 2, 3, 4, 1), attrs, nout=nout, tol=1e-3)
        mixed = (["Tanh", "LeakyRelu", "Sigmoid"] * 2)[:2 * NFUNC[op]]
        attrs = {"hidden_size": 4, "activations": mixed, "activation_alpha": [0.3, 0.9], "direction": "bidirectional"}
        yield Case(op, operands(rng, op, 3, 2, 3, 4, 2), attrs, nout=nout)
        yield Case(op, operands(rng, op, 3, 2, 3, 4, 1, gen=f16, states=2, peep=True), {"hidden_size": 4}, nout=nout, oracle="ort-wide")
        yield Case(op, operands(rng, op, 3, 2, 3, 4, 1, gen=f64), {"hidden_size": 4}, nout=nout, tol=1e-6, oracle=single(op, nout))
        # errors
        x = operands(rng, op, 3, 2, 3, 4, 1)
        yield Case(op, x, {"hidden_size": 5}, nout=nout, error="size")
        yield Case(op, x, {"hidden_size": 4, "direction": "bidirectional"}, nout=nout, error="size")
        yield Case(op, x, {"hidden_size": 4, "activations": ["Tanh"] * (NFUNC[op] - 1) + ["Tan"]}, nout=nout, error="no activation")
        yield Case(op, x, {"hidden_size": 4, "activations": []}, nout=nout, error="activations: expected")
        yield Case(op, x, {"hidden_size": 4, "clip": -1.0}, nout=nout, error="clip")
        yield Case(op, operands(rng, op, 3, 2, 3, 4, 1, lens=[3, 4]), {"hidden_size": 4}, nout=nout, error="sequence_lens")
        yield Case(op, operands(rng, op, 3, 2, 3, 4, 1, lens=[3]), {"hidden_size": 4}, nout=nout, error="sequence_lens")
    for before, dynamic in itertools.product((0, 1), (False, True)):
        yield Case("GRU", operands(rng, "GRU", 5, 3, 4, 8, 2, lens=[1, 5, 3]),
                   {"hidden_size": 8, "linear_before_reset": before, "direction": "bidirectional"}, nout=2, dynamic=dynamic)
        yield Case("GRU", operands(rng, "GRU", 5, 3, 4, 8, bias=bool(dynamic)), {"hidden_size": 8, "linear_before_reset": before}, 7, 2)
    yield Case("LSTM", operands(rng, "LSTM", 5, 3, 4, 8, states=2), {"hidden_size": 8, "input_forget": 1}, nout=3)
    yield Case("LSTM", operands(rng, "LSTM", 5, 3, 4, 8, states=2, peep=True), {"hidden_size": 8, "input_forget": 1, "clip": 0.4}, nout=3)
    for op in GATES:
        yield Case(op, operands(rng, op, 4, 2, 3, 4, 1), {"hidden_size": 4, "output_sequence": 1}, 1, 2, oracle=same_as({"hidden_size": 4}, op, 2))


def same_as(attrs, op, nout):
    from op_test import by_ort
    return lambda *inputs: by_ort(Case(op, list(inputs), attrs, 14, nout))


def single(op, nout):
    """The results for the operands rounded to f32."""
    from op_test import by_ort
    narrow = lambda v: v.astype(np.float32) if v is not None and v.dtype == np.float64 else v
    return lambda *inputs: [y.astype(np.float64) for y in by_ort(Case(op, [narrow(v) for v in inputs], {"hidden_size": 4}, 14, nout))]
