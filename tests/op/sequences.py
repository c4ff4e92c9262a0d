"""Sequences and optionals, one operator at a time; whole models are in tests/e2e."""
import numpy as np

from op_test import Case, Opt, Seq, f32, i64, strings


def at(x, position):
    return [x[int(position)]]


def parts(x, split=None, axis=0, keepdims=1):
    n = x.shape[axis]
    sizes = [1] * n if split is None else [int(split)] * (n // int(split)) + ([n % int(split)] if n % int(split) else []) \
        if np.ndim(split) == 0 else list(split)
    ys = np.split(x, np.cumsum(sizes)[:-1], axis) if sizes else []
    return [[y.squeeze(axis) if split is None and not keepdims else y for y in ys]]


def cases(rng):
    a, b, c = f32(rng, 2, 3), f32(rng, 2, 3), f32(rng, 2, 3)
    short, text = f32(rng, 1, 3), strings(rng, 4)
    one = np.int64(1)
    yield Case("SequenceConstruct", [a, short, c], oracle=lambda *x: [list(x)])
    yield Case("SequenceConstruct", [text, strings(rng, 2)], oracle=lambda *x: [list(x)])
    yield Case("SequenceConstruct", [a, i64(rng, 2)], error="does not fit")
    for k in (0, 2, -1, -3):
        yield Case("SequenceAt", [[a, b, c], np.int64(k)], oracle=at, dynamic=True)
        yield Case("SequenceErase", [[a, b, short], np.int32(k)], oracle=lambda x, p: [[v for i, v in enumerate(x) if i != int(p) % 3]])
        yield Case("SequenceInsert", [[a, b, c], short, np.int64(k)], oracle=lambda x, t, p: [x[:int(p) % 3] + [t] + x[int(p) % 3:]])
    yield Case("SequenceInsert", [[a, b], short, np.int64(2)], oracle=lambda x, t, p: [x + [t]])
    yield Case("SequenceInsert", [Seq(np.float32), a], oracle=lambda x, t: [[t]])
    yield Case("SequenceInsert", [[text], text], oracle=lambda x, t: [x + [t]])
    yield Case("SequenceErase", [[a, b]], oracle=lambda x: [x[:-1]])
    for k in (3, -4):
        yield Case("SequenceAt", [[a, b, c], np.int64(k)], error="position|range|rank")
        yield Case("SequenceErase", [[a, b, c], np.int64(k)], error="position|range")
        yield Case("SequenceInsert", [[a, b, c], a, np.int64(k + (k > 0))], error="position|range")
    yield Case("SequenceErase", [Seq(np.float32)], error="empty|position|range")
    for x in ([a, b], Seq(np.float32), [text]):
        yield Case("SequenceLength", [x], oracle=lambda x: [np.int64(len(x))])
    for axis in (0, 1, -1):
        yield Case("ConcatFromSequence", [[a, b, c]], {"axis": axis}, oracle=lambda x, n=axis: [np.concatenate(x, n)],
                   dynamic=True)
        yield Case("ConcatFromSequence", [[a, b, c]], {"axis": axis, "new_axis": 1}, oracle=lambda x, n=axis: [np.stack(x, n)],
                   dynamic=True)
    yield Case("ConcatFromSequence", [[a, short]], {"axis": 0}, oracle=lambda x: [np.concatenate(x, 0)], dynamic=True)
    yield Case("ConcatFromSequence", [[a, short]], {"axis": 1}, error=".")
    x = f32(rng, 5, 4)
    for split in (None, np.int64(2), np.int64(7), i64(rng, 1, low=5, high=5), np.array([2, 0, 3], np.int32)):
        for const in ((), (1,)):
            for keep in (0, 1):
                yield Case("SplitToSequence", [x, split], {"axis": -2, "keepdims": keep}, const=const if split is not None else (),
                           oracle=lambda x, s=None, k=keep: parts(x, s, 0, k))
    yield Case("SplitToSequence", [x], {"axis": 1, "keepdims": 0}, oracle=lambda x: parts(x, None, 1, 0), dynamic=True)
    yield Case("SplitToSequence", [f32(rng, 0, 3)], {}, oracle=lambda x: [[]])
    yield Case("SplitToSequence", [x, np.array([2, 2], np.int64)], {}, error=".")
    yield Case("SplitToSequence", [x, np.int64(0)], {}, error=".")
    yield Case("SplitToSequence", [x, one], {"axis": 2}, error="axis")
    yield Case("OptionalHasElement", [Opt(a)], oracle=[np.bool_(True)])
    yield Case("OptionalHasElement", [Opt(None, a)], oracle=[np.bool_(False)])
    yield Case("OptionalHasElement", [a], oracle=[np.bool_(True)])
    yield Case("OptionalHasElement", [[a, b]], oracle=[np.bool_(True)])
    yield Case("OptionalGetElement", [Opt(a)], oracle=lambda x: [x])
    yield Case("OptionalGetElement", [Opt([a, b])], oracle=lambda x: [x])
    yield Case("OptionalGetElement", [[a, b]], oracle=lambda x: [x])
    yield Case("OptionalGetElement", [Opt(None, a)], error="empty|rank")
    yield Case("Identity", [[a, b]], oracle=lambda x: [x])
