#!/usr/bin/env python3
"""What no case of tests/op and no draw of its fuzzer exercises: rows of frontend/ops*.def (a version with a meaning of its own), attributes that
never have a value but the default one, choices of strings, optional operands and results that are never there, element types that the schema
allows. Cases that are to fail do not count. What cannot be a case is listed below with its reason.

    covered.py [REGEX]       operators whose name has it (default: all)
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OP = os.path.join(os.path.dirname(HERE), "op")
sys.path.append(OP)     # behind Python's folders: families have names of its modules
# ruff: noqa: E402
import fuzz
import fuzz_draw
import fuzz_table
import numpy as np
import onnx

import families
import op_test
import schemas

DRAWS = 90              # of an operator's generator, per version

# (operator, beginning of what is missing) -> reason
EXCEPTIONS = {
    ("If|Loop|Scan|SequenceMap|Optional|SequenceEmpty|Constant", "no case"):
        "no single node of tensors; official cases, tests/op/sequences.py, tests/e2e",
    ("Bernoulli|Multinomial|RandomNormal|RandomUniform|RandomNormalLike|RandomUniformLike", "no case"):
        "no oracle draws the same; tests/eval/random_ops.py",
    ("ai.onnx.preview.training.Gradient", "no case"): "tests/e2e/test_gradient.py and official cases",
    ("com.microsoft.(GreedySearch|Sampling)", "attribute model_type"): "refused: an encoder is a matter of beams",
    ("com.microsoft.WhisperBeamSearch",
     "(attribute decoder_output_cross_qk|result cross_qk|F is never (float16|int32))"): "refused, or as float",
    ("com.microsoft.WhisperBeamSearch", "attribute model_type"): "there is one value",
    ("com.microsoft.(QAttention|Attention|DecoderMaskedSelfAttention)", "attribute (do_rotary|past_present_share_buffer|rotary_embedding_dim)"):
        "refused: ONNX Runtime has it on GPUs alone",
    ("com.microsoft.QMoE", "(attribute (use_sparse_mixer|weights_prepacked|quant_type)|operand fc[12]_(global|act)|T[12] is never float8)"):
        "refused: types of weights that ONNX Runtime has on GPUs alone",
    ("com.microsoft.GroupQueryAttention", "T_CACHE is never float8"): "refused: on GPUs alone",
    ("com.microsoft.QMoE", "attribute (swiglu_limit_after_activation|activation_type is never (relu2|geglu))"):
        "MoE, which is the same code, has them",
    ("com.microsoft.MatMulNBits", "attribute weight_prepacked"): "refused: a layout of GPUs",
    ("com.microsoft.CausalConvWithState", "(attribute (input_channel|ndim|state_)|result state_update)"): "refused: tests/op/ms_rest.py",
    ("com.microsoft.VarlenCausalConvWithState", "(operand (kernel_delta|previous_mask)|attribute (delta_offset|group_size))"):
        "refused: tests/op/ms_rest.py",
    ("com.microsoft.I?[Rr]fft", "attribute (normalized|onesided)"): "refused, as ONNX Runtime does: tests/op/ms_rest.py",
    ("com.microsoft.Sampling", "result filtered_logits"): "refused: tests/op/ms_search.py",
    ("com.microsoft.ConvTransposeWithDynamicPads", "attribute auto_pad"): "there is one value: pads are an operand",
    ("com.microsoft.SkipSimplifiedLayerNormalization", "result mean"): "there is none",
}


class Seen:
    """Of a row: its attributes' values, its operands' element types, which operands and results were there."""

    def __init__(self):
        self.attrs, self.types, self.results, self.cases = {}, {}, set(), 0

    def add(self, case):
        self.cases += 1
        for name, value in case.attrs.items():
            self.attrs.setdefault(name, set()).add(text(value))
        for k, x in enumerate(case.inputs):
            if x is not None:
                self.types.setdefault(k, set()).update(element_types(x))
        self.results.update(case.wanted)


def text(value):
    value = value.decode() if isinstance(value, bytes) else value
    return value if isinstance(value, str) else f"{float(value):.6g}" if isinstance(value, (int, float, np.number, bool)) else repr(value)[:80]


def element_types(x):
    """Names as schemas have them."""
    if isinstance(x, op_test.Opt):
        return element_types(x.value) if x.value is not None else set()
    if isinstance(x, op_test.Sparse):
        return element_types(x.value)
    if isinstance(x, (list, tuple)):
        return {t for v in x for t in element_types(v)}
    if isinstance(x, dict):
        return set()
    return {onnx.TensorProto.DataType.Name(op_test.elem_type(np.asarray(x))).lower()}


def row_of(table, case):
    rows = table.get((case.domain, case.op), [])
    found = [r for r in rows if r[0] <= case.opset]
    return (case.domain, case.op, found[-1][0]) if found else None


def cases(table):
    for family in families.names():
        yield from (c for c in families.cases(family) if not c.error)
    for name, generate in fuzz_table.TABLE.items():
        domain, _, op = name.rpartition(".")
        rows = table.get((domain, op), [])
        ends = [r[0] - 1 for r in rows[1:]] + [fuzz.NEWEST if not domain else op_test.newest(domain, op)]
        for (since, _, _, attributes), end in zip(rows, ends):
            for version in {since, end} if attributes is not None else ():
                if not domain and not fuzz.available(op, version):
                    continue
                for i in range(DRAWS):
                    d = fuzz_draw.Draw(np.random.default_rng([sum(map(ord, name)), version, i]), domain, op, version)
                    yield generate(d)


def schema_of(domain, op, version, ort):
    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return ort.get((domain, op))


def lacking(row, seen, schema):
    since, operands, results, attributes = row
    for a in attributes:
        name, _, rest = a.partition(":")
        kind, values = rest[0], seen.attrs.get(name, set())
        default = rest[2:] if rest[1:2] == "=" else None
        if name == "consumed_inputs":
            continue
        choices = [c for c in (default or "").split("|") if c != "*"] if kind == "s" else []
        other = values - {text(float(default)) if kind in "if" and default and schemas.number(default) is not None else (default or "").split("|")[0]}
        if len(choices) > 1:
            for c in choices[1:]:
                if c not in values:
                    yield f"attribute {name} is never {c}"
        elif not other:
            yield f"attribute {name} is never given" + (f" but as {default}" if default and values else "")
    for k, spec in enumerate(operands):
        if k not in seen.types and not spec.endswith("*"):
            yield f"operand {spec.split(':')[0]} is never there"
    for k, spec in enumerate(results):
        if k not in seen.results and not spec.endswith("*"):
            yield f"result {spec.rstrip('?*')} is never wanted"
    if schema is None:
        return
    groups = {}
    for k, i in enumerate(schema.inputs):
        groups.setdefault(getattr(i, "type_str", None) or i.typeStr, []).append(k)
    for name, where in groups.items():
        allowed = {t[7:-1] for c in schema.type_constraints if c.type_param_str == name for t in c.allowed_type_strs if t.startswith("tensor(")}
        room = schemas.allowed(operands, where[0]) if operands else None
        had = set().union(*(seen.types.get(k, set()) for k in where),
                          *(seen.types[k] for k in seen.types if k >= len(schema.inputs) - 1 >= 0 and where[-1] == len(schema.inputs) - 1))
        lacks = (allowed & room if room is not None else allowed) - had
        if lacks and had:
            yield f"{name} is never {', '.join(sorted(lacks))}"


def main():
    pattern = re.compile(sys.argv[1] if len(sys.argv) > 1 else "")
    table, seen, bad = schemas.rows(), {}, 0
    if not any(pattern.search(f"{d}.{o}".lstrip(".")) for d, o in table):
        sys.exit(f"no operator has {pattern.pattern!r} in its name")
    for case in cases(table):
        key = row_of(table, case)
        if key:
            seen.setdefault(key, Seen()).add(case)
    import onnxruntime.capi.onnxruntime_pybind11_state as state
    ort = {(s.domain, s.name): s for s in state.get_all_operator_schema()}
    for (domain, op), rows in sorted(table.items()):
        name = f"{domain}.{op}" if domain else op
        if not pattern.search(name):
            continue
        for row in rows:
            if row[3] is None:
                continue
            found = seen.get((domain, op, row[0]))
            whats = lacking(row, found, schema_of(domain, op, row[0], ort)) if found else ["no case"]
            for what in whats:
                if not any(re.fullmatch(o, name) and re.match(w, what) for o, w in EXCEPTIONS):
                    bad += 1
                    print(f"{name}-{row[0]}: {what}")
    print(f"{sum(len(r) for r in table.values())} rows, {sum(s.cases for s in seen.values())} cases, {bad} gaps")
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
