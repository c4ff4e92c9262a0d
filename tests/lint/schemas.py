#!/usr/bin/env python3
"""The tables of operators (frontend/ops*.def) against the schemas of the onnx package: every version of every operator has a row
whose operands, element types, results and attributes cover what the standard allows. What is left out on purpose is listed below
with its reason.

    schemas.py [REGEX]      operators whose name has it (default: all)
"""
import glob
import os
import re
import sys

import onnx

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

FLOATS = {"float16", "bfloat16", "float", "double"}
UINTS = {"uint2", "uint4", "uint8", "uint16", "uint32", "uint64"}
INTS = UINTS | {"int2", "int4", "int8", "int16", "int32", "int64"}
SMALL = {"float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "float4e2m1"}
CLASSES = {"f": FLOATS, "F": FLOATS | SMALL, "n": FLOATS | INTS, "N": FLOATS | INTS | {"bool"}, "i": INTS, "u": UINTS, "b": {"bool"}, "s": {"string"},
           "l": {"int64"}, "x": {"int32", "int64"}, "q": INTS | SMALL}
KINDS = {"INT": "i", "FLOAT": "f", "STRING": "s", "INTS": "I", "FLOATS": "F", "STRINGS": "S", "TENSOR": "t", "GRAPH": "g",
         "SPARSE_TENSOR": "p", "TYPE_PROTO": "y", "TENSORS": "T", "GRAPHS": "G"}

# (operator, what) -> reason. `what` is the beginning of the message.
EXCEPTIONS = {
    ("RegexFullMatch", "attribute pattern is not required"): "without a pattern nothing is asked",
    ("BatchNormalization", "attribute consumed_inputs is required"): "of no meaning; models that leave it out are taken, too",
    ("GRU", "attribute direction is 'foward'"): "a slip of the schema of version 1",
    ("Col2Im", "operand input may be complex"): "sums of strings are not defined; no implementation has them",
    ("GridSample|Resize|Upsample", "operand X may be complex"): "interpolation of strings is not defined; no implementation has it",
    ("NonZero", "operand X may be complex"): "when a string is zero is not defined; no implementation has it",
}


def rows():
    """{(domain, operator): [(since, operands, results, attributes or None if withdrawn)]}"""
    table = {}
    for path in sorted(glob.glob(os.path.join(ROOT, "frontend/ops*.def"))):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        # a row: five fields, then how; strings may be split into several
        for m in re.finditer(r'^OP\("([\w.]*)",\s*(\w+),\s*(\d+),\s*'
                             r'((?:"[^"]*"\s*)+),\s*((?:"[^"]*"\s*)+),\s*((?:"[^"]*"\s*)+),\s*(\w+)', text, re.M):
            join = lambda s: "".join(re.findall(r'"([^"]*)"', s)).split()
            table.setdefault((m[1], m[2]), []).append((int(m[3]), join(m[4]), join(m[5]), None if m[7] == "WITHDRAWN" else join(m[6])))
    return table


def types_of(schema, text):
    """Element types that a type string of a schema allows, without the kind of value around them."""
    for c in schema.type_constraints:
        if c.type_param_str == text:
            return set(c.allowed_type_strs)
    return {text}


def allowed(operands, k):
    """Types that the row takes as operand k: a set, or None for any."""
    spec = operands[k] if k < len(operands) else operands[-1]
    cls = spec.split(":")[1][0]
    return allowed(operands, 0) if cls == "=" else CLASSES.get(cls)


def check_operands(schema, operands, say):
    last = operands[-1] if operands else ""
    for k, i in enumerate(schema.inputs):
        if k >= len(operands) and not last.endswith("*"):
            say(f"operand {i.name} is missing")
            continue
        spec = operands[min(k, len(operands) - 1)]
        option = i.option.name
        if option == "Optional" and not spec.endswith(("?", "*")):
            say(f"operand {i.name} may be absent")
        if option == "Variadic" and not spec.endswith("*"):
            say(f"operand {i.name} may be there any number of times")
        tensors = {t[7:-1] for t in types_of(schema, i.type_str) if t.startswith("tensor(")}
        others = {t for t in types_of(schema, i.type_str) if not t.startswith("tensor(")}
        room = allowed(operands, k)
        lacks = tensors - room if room is not None else set()
        if lacks:
            say(f"operand {i.name} may be {', '.join(sorted(lacks))}")
        if others and spec.split(":")[1][0] not in "vS":
            say(f"operand {i.name} may be {', '.join(sorted(others))[:60]}")


def number(text):
    try:
        return float(text)
    except ValueError:
        return None


def check_attributes(schema, attributes, say):
    known = {}
    for a in attributes:
        name, _, rest = a.partition(":")
        known[name] = (rest[0], rest[1:2] if rest[1:2] in "!=" else "", rest[2:] if rest[1:2] in ("!", "=") else "")
    for name, a in schema.attributes.items():
        kind = KINDS[a.type.name]
        if name not in known:
            say(f"attribute {name} is missing")
            continue
        have, mark, text = known[name]
        if have != kind:
            say(f"attribute {name} is of kind {kind}, not {have}")
        elif a.required != (mark == "!"):
            say(f"attribute {name} is {'' if a.required else 'not '}required")
        elif a.default_value.type:
            want = onnx.helper.get_attribute_value(a.default_value)
            if kind in "if":
                given = number(text) if mark == "=" else 0.0
                if given is None or abs(given - want) > 1e-6 * abs(want):
                    say(f"attribute {name} is {want:.6g} by default, not {text or 0}")
            elif kind == "s" and text.split("|")[0] != want.decode():
                say(f"attribute {name} is {want.decode()!r} by default, not {text.split('|')[0]!r}")


def main():
    pattern = re.compile(sys.argv[1] if len(sys.argv) > 1 else "")
    table, found, used, count = rows(), [], set(), 0
    for s in sorted(onnx.defs.get_all_schemas_with_history(), key=lambda s: (s.domain, s.name, s.since_version)):
        if not pattern.search(s.name):
            continue
        count += 1

        def say(text, s=s):
            key = next((k for k in EXCEPTIONS if re.fullmatch(k[0], s.name) and text.startswith(k[1])), None)
            if key:
                used.add(key)
            else:
                found.append(f"{s.domain or 'ai.onnx'}.{s.name}-{s.since_version}: {text}")
        row = [r for r in table.get((s.domain, s.name), []) if r[0] <= s.since_version]
        if not row:
            say("there is no row")
            continue
        _, operands, results, attributes = row[-1]
        if s.deprecated: # kept where real models still have it
            continue
        if attributes is None:
            say("is not withdrawn in this version")
            continue
        check_operands(s, operands, say)
        if len(results) < len(s.outputs) and not (results and results[-1].endswith("*")):
            say(f"result {s.outputs[len(results)].name} is missing")
        check_attributes(s, attributes, say)
    for line in found:
        print(line)
    unused = [k for k in EXCEPTIONS if k not in used] if not pattern.pattern else []
    for k in unused:
        print(f"the exception {k} is not needed")
    print(f"{count} schemas, {len(found)} differences, {len(used)} exceptions")
    return bool(found or unused)


if __name__ == "__main__":
    sys.exit(main())
