"""Cases of the other families once more, with another element type: for each row of the tables and each floating-point type that the schema
allows and that the family leaves out, the family's first case that has float32 there. What it expects is computed in single precision,
and rounded. Operators that only move elements get every type: each element has a number, the oracle moves the numbers, which become elements
again."""
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
    ("Pow T .*|(Exp|Sum|Mean) T double", "beyond the range of single precision"),
    ("com.microsoft.GridSample .*", "the schema has the grid's type apart from the result's"),
    ("com.microsoft.Unique T bool", "two elements are not all different"),
    ("com.microsoft.WhisperBeamSearch F .*", "the graphs are of one type"),
]

MOVING = re.compile(r"Pad|Squeeze|ScatterElements|TensorScatter|Trilu|DynamicSlice|Sequence(Construct|Insert|At|Erase)|SplitToSequence|"
                    r"com\.microsoft\.(ExpandDims|GatherND|Trilu|UnfoldTensor|Unique)")


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
    allowed = {c.type_param_str: set(re.findall(r"tensor\((\w+)\)", " ".join(c.allowed_type_strs))) for c in s.type_constraints}
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


def leaves(x):
    return [y for v in x for y in leaves(v)] if isinstance(x, list) else [x]


def elements(kind, n):
    """n elements of a type, different ones as far as there are so many; the first is 0 or empty, as what operators fill with."""
    if kind == "string":
        return np.array(["", *(f"é{i}" for i in range(1, n))], object)
    to = op_test.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind.upper()))
    numbers = np.arange(n) % (2 if kind == "bool" else 120 if to.itemsize > 1 or to.kind in "iu" else 8)
    return (numbers * (1 - 2j) if to.kind == "c" else numbers).astype(to)


def numbered(x):
    """Whether a value's elements can be numbers."""
    return isinstance(x, (list, np.ndarray)) and bool(leaves(x)) and leaves(x)[0].dtype in (np.float32, np.float64, np.int64, np.int32)


def moved(case, group, kind):
    """The case of an operator that moves elements, with those of a type group in another type."""
    ins, outs, _ = signature(case)
    base = leaves(case.inputs[ins.index(group)])[0].dtype
    mine = [x is not None and (g == group or base.kind == "f" and leaves(x)[0].dtype == base) for x, g in zip(case.inputs, ins)]
    known, numbers = np.unique(np.concatenate([y.reshape(-1) for x, m in zip(case.inputs, mine) if m for y in leaves(x)]), return_inverse=True)
    values, at = elements(kind, known.size + 1), iter((numbers + 1).tolist())
    number = lambda x: [number(y) for y in x] if isinstance(x, list) else np.array([next(at) for _ in range(x.size)], base).reshape(x.shape)
    back = lambda x: [back(y) for y in x] if isinstance(x, list) else values[x.astype(np.int64)]
    plain, other = copy.copy(case), copy.copy(case)
    plain.inputs = [number(x) if m else x for x, m in zip(case.inputs, mine)]
    other.inputs = [back(x) if m else x for x, m in zip(plain.inputs, mine)]
    other.oracle = lambda *_: [back(y) if leaves(y)[0].dtype == base and (base.kind == "f" or outs[k] == group or isinstance(y, list)) else y
                               for y, k in zip(expected(plain), case.wanted)]
    return other


def fits(case, group, ins):
    mine = [x for x, g in zip(case.inputs, ins) if g == group and x is not None]
    sizes = [x.size for x in case.inputs if isinstance(x, np.ndarray)]
    return not case.error and bool(mine) and all(floats(x) for x in mine) and max(sizes) <= LARGEST and not isinstance(case.oracle, list)


def apart(row, group, kind):
    return any(re.fullmatch(p, f"{row[0]}.{row[1]} {group} {kind}".lstrip(".")) for p, _ in APART)


def cases(rng):
    table, had, first, moving = schemas.rows(), set(), {}, {}
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
                room, may = schemas.allowed(rows[-1][1], k), allowed.get(g, set())
                if MOVING.fullmatch(f"{case.domain}.{case.op}".lstrip(".")):
                    if k == 0 and numbered(x) and not case.error and not isinstance(case.oracle, list):
                        moving.setdefault(row, (case, g, {t for t in may if room is None or t in room}))
                elif fits(case, g, ins):
                    for kind in KINDS:
                        if kind in may and (room is None or kind in room):
                            first.setdefault((row, g, kind), case)
    for key in sorted(first, key=repr):
        if key not in had and not apart(*key):
            yield retyped(first[key], key[1], key[2])
    for row, (case, group, kinds) in sorted(moving.items()):
        for kind in sorted(kinds):
            if (row, group, kind) not in had and not apart(row, group, kind):
                yield moved(case, group, kind)
