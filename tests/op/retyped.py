"""Cases of the other families once more, with another element type: for each row of the tables and each floating-point type that the schema
allows and that the family leaves out, the family's first case that has float32 there. What it expects is computed in single precision,
and rounded."""
import copy
import functools
import os
import re
import sys

import numpy as np
import onnx
from ml_dtypes import bfloat16, finfo

import families
import op_test
from op_test import expected

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lint"))
import schemas

KINDS = {"float16": np.float16, "bfloat16": bfloat16, "double": np.float64}
LARGEST = 1 << 14       # elements of an operand
TOGETHER = [("GroupQueryAttention", {"T", "T_CACHE"}), ("MatMulNBits", {"T1", "T3"})]   # what has one type where it is a float
# Where another type means more than rounding: pattern of "operator types", why
APART = [
    ("CastLike T1 double", "as a string it has more digits"),
    ("Pow T .*", "beyond the range of single precision"),
    ("com.microsoft.GridSample .*", "the schema has the grid's type apart from the result's"),
    ("com.microsoft.WhisperBeamSearch F .*", "the graphs are of one type"),
    ("Sequence.* .*", "the types of lists and elements belong together"),
]

@functools.cache
def onnxruntime_schemas():
    import onnxruntime.capi.onnxruntime_pybind11_state as state
    return {(s.domain, s.name): s for s in state.get_all_operator_schema()}


def signature(case):
    """[type group of each operand], [of each result], {group: types}; None without a schema."""
    try:
        s = onnx.defs.get_schema(case.op, case.opset, case.domain)
    except onnx.defs.SchemaError:
        s = onnxruntime_schemas().get((case.domain, case.op))
    if s is None:
        return None
    group = lambda formals, n: [getattr(formals[min(k, len(formals) - 1)], "type_str", None) or formals[min(k, len(formals) - 1)].typeStr
                                for k in range(n)]
    allowed = {c.type_param_str: {t[7:-1] for t in c.allowed_type_strs} for c in s.type_constraints}
    return (group(s.inputs, len(case.inputs)) if s.inputs else [], group(s.outputs, case.nout), allowed)


def floats(x):
    return isinstance(x, np.ndarray) and x.dtype == np.float32


def cast(x, to):
    return [cast(y, to) for y in x] if isinstance(x, list) else x.astype(to) if floats(x) else x


def retyped(case, group, kind):
    """The case with its float32 operands of a type group in another type."""
    ins, outs, _ = signature(case)
    groups = next((g for op, g in TOGETHER if op == case.op and group in g), {group})
    alone = {g for x, g in zip(case.inputs, ins) if x is not None}
    other, to = copy.copy(case), KINDS[kind]
    with np.errstate(over="ignore"):
        other.inputs = [cast(x, to) if g in groups else x for x, g in zip(case.inputs, ins)]

    def oracle(*inputs):
        plain = copy.copy(case)
        plain.inputs = [x.astype(np.float32) if floats(was) and g in groups and x is not None else x for x, was, g in zip(inputs, case.inputs, ins)]
        got = expected(plain)
        return [cast(y, to) if outs[k] in groups or outs[k] not in alone and isinstance(y, list) else y for y, k in zip(got, case.wanted)]
    other.oracle, other.dynamic = oracle, False
    if kind != "double":
        other.tol = max(case.tol, 8 * float(finfo(to).eps))
    return other


def fits(case, group, ins):
    mine = [x for x, g in zip(case.inputs, ins) if g == group and x is not None]
    sizes = [x.size for x in case.inputs if isinstance(x, np.ndarray)]
    return not case.error and bool(mine) and all(floats(x) for x in mine) and max(sizes) <= LARGEST and not isinstance(case.oracle, list)


def cases(rng):
    table, had, first = schemas.rows(), set(), {}
    for family in families.own():
        for case in families.cases(family):
            rows = [r for r in table.get((case.domain, case.op), []) if r[0] <= case.opset]
            sig = signature(case)
            if not rows or sig is None:
                continue
            row = (case.domain, case.op, rows[-1][0])
            ins, _, allowed = sig
            for k, (x, g) in enumerate(zip(case.inputs, ins)):
                if isinstance(x, np.ndarray):
                    had.add((row, g, onnx.TensorProto.DataType.Name(op_test.elem_type(x)).lower()))
                if fits(case, g, ins):
                    room = schemas.allowed(rows[-1][1], k)
                    for kind in KINDS:
                        if kind in allowed.get(g, ()) and (room is None or kind in room):
                            first.setdefault((row, g, kind), case)
    for key in sorted(first, key=repr):
        (domain, op, _), group, kind = key
        name = f"{domain + '.' if domain else ''}{op} {group} {kind}"
        if key not in had and not any(re.fullmatch(p, name) for p, _ in APART):
            yield retyped(first[key], key[1], key[2])
