#!/usr/bin/env python3
"""A fuzzer of operators: random cases of every operator that accelc has, by the evaluator, by compiled code, and by oracles.

    fuzz.py ACCELC [--seconds N] [--seed S] [--first B] [--only REGEX] [--bad] [--family] [--again S.B[.C]] [--keep DIR] [-v]

Everything follows from the seed, and --first goes on where another run stopped. Batch B of seed S draws a version of ai.onnx and some
operators (fuzz_table.py); its cases become one model, because most of the time goes into starting the compiler. What fails in a batch runs
again by itself. A case fails if accelc refuses what an oracle computes, or if the evaluator or compiled code (1 and 2 threads, equal bits)
differ from the oracles, or from each other if no oracle computes the case. Where the oracles disagree one of them is enough.
Other batches vary the cases of the families (--family: only those): constants or inputs, known sizes or symbols. Others are graphs of
several nodes (fuzz_chain.py; --only Chain: nothing else). With --bad, and in each fifth batch, cases are damaged: attributes, sizes,
types and indices that contradict. Evaluator and compiled code have to agree that it is an error, or on the result.
A failure prints a line with its number, which --again repeats, and leaves model, inputs and expected outputs in --keep DIR.
"""
import os
import sys

sys.path.append(sys.path.pop(0))        # this folder behind Python's, of which families have names: math
# ruff: noqa: E402
import argparse
import collections
import multiprocessing
import re
import resource
import subprocess
import tempfile
import time
import traceback
import warnings

import numpy as np
import onnx

import families
import fuzz_chain
import fuzz_draw
import fuzz_table
import op_test

import accelc

BATCH = 8
BAD_EVERY = 5           # batches
MEMORY = 6 << 30        # bytes of address space for compiled code
TIMEOUT = 60
WAYS = [*[[]] * 8, *[["--target", t] for t in ("x86-64-v3", "x86-64-v3", "x86-64", *["x86-64,x86-64-v4"] * 2)], ["-O0"], ["-O1"]]
NEWEST = onnx.defs.onnx_opset_version()

# Cases that no oracle judges rightly: pattern of "operator-version types attributes", why. Evaluator and compiled code still have to agree.
ORACLE_BUGS = [
    (r"^AveragePool-[1-6] .*(pads|auto_pad)", "onnx.reference counts the padding"),
    (r"^Gemm-[1-6] (?!.*'broadcast': 1).*'beta'", "onnx.reference adds C without beta"),
    (r"^Softplus-\d+ \(float64", "log(exp(x) + 1) overflows where x is more than 709"),
    (r"^(RNN|GRU|LSTM)-\d+ .*'Softplus'", "so does ONNX Runtime's of the states of a cell, beyond 88"),
    (r"^Shape-\d+ \(u?int[24]\[.*'end': -", "onnx.reference, which alone has packed types, counts an end before the first axis from the back again"),
    (r"^LogSoftmax-\d+ \(float64", "ONNX Runtime's of doubles takes an infinity for the greatest beside a NaN, and is -infinity there"),
    (r"^AveragePool-\d+ \(float64.*'ceil_mode': 1", "onnx.reference, which alone has doubles, begins with the padding that ends the last window"),
    (r"^MaxPool-[1-7] \(float64.*SAME", "onnx.reference, which alone has doubles in these versions, rounds the size down"),
    (r"^Conv-\d+ \(float64.*(VALID|SAME)", "onnx.reference, which alone has doubles, pads by the sizes of batch and channels"),
    (r"^ConvTranspose-\d+ \(float64.*'group': [2-9]", "onnx.reference, which alone has doubles, gives every group the bias of the first"),
    (r"^Gather-\d+ \(complex.*, int\d+\[(\d+,)*0[],]", "onnx.reference gathers nothing with one axis"),
    (r"^ReduceMax-\d+ \(bool\[(\d+,)*0[],]", "onnx.reference takes true for the least truth value"),
    (r"^GridSample-\d+ \((\w+)\[[^]]*\], (?!\1\[).*'cubic'.*'border'", "onnx.reference, which alone takes two types, moves positions to the border"),
    (r"^MeanVarianceNormalization-\d+ \(float16", "the epsilon of onnx.reference is 0 in half precision"),
    (r"^Resize-\d+ .*tf_crop_and_resize", "a rounding decides whether a position on the border is outside of the image"),
    (r"^ReduceMean-\d+ \(u?int\d+\[(\d+,)*0[],]", "onnx.reference makes an integer of 0 / 0"),
    (r"^Resize-\d+ \(bfloat16.*'half_pixel_symmetric'", "onnx.reference, which alone has it, takes the pixel before one that is hit exactly"),
    (r"^com.microsoft.Inverse-1 \(float16", "ONNX Runtime inverts in half precision: off by 0.14 in 8.24 where the condition is 123"),
]
with open("/proc/cpuinfo") as _f:
    if "vnni" not in _f.read():
        ORACLE_BUGS.append((r"\b(Q|DynamicQ|\w+Integer)\w*\b.* \(.*\bint8\[", "ONNX Runtime saturates sums of two products of uint8 and int8"))

# Recurrences multiply what is rounded by their weights in every step, permuted ones by up to 1000 in 33 steps: a result of ONNX Runtime was off
# by 6e-4 from that of doubles, where accelc was off by less.
GROWING = ("RNN", "GRU", "LSTM")
SINGULAR = ("Inverse",)     # what has no result with the elements in another order

# What accelc refuses by design: pattern of the message, why.
REFUSED = [
    ("must be 1 or", "a symbol against a computed size: the size is that of the result (ir/build.c)"),
    ("the length of the index tuples is known only at run time", "a size that decides the rank, and the chain declares no type of what is between"),
    ("the expression of a dimension is too large", "sizes that are computed of sizes again and again, by cuts whose order is not known"),
    (r"product of -?\d+ and -?\d+ overflows", "sizes that no tensor has, of one without elements; the evaluator never multiplies them"),
    ("a dimension does not fit in 64 bits", "the same, of what is between: a result without elements, padded by 2^62"),
]


def operators(command):
    """{full name: versions with a meaning of their own}."""
    found = {}
    for line in subprocess.run([command, "--list-ops"], capture_output=True, text=True, check=True).stdout.splitlines():
        domain, op, versions, what = line.split(None, 3)
        if what != "withdrawn":
            found.setdefault(op if domain == "ai.onnx" else f"{domain}.{op}", []).append(int(versions.split("..")[0]))
    return found


# --- one batch -------------------------------------------------------------------------------------------

def draw(options, seed, batch):
    """The cases of a batch."""
    rng = np.random.default_rng([seed, batch])
    known = {n: v for n, v in options.known.items() if n in fuzz_table.TABLE and re.search(options.only, n)}
    names = sorted(known)
    opset = int(rng.choice([NEWEST, 22, 22, 21, 18, 17, 13] if rng.random() < 0.6 else range(1, NEWEST + 1)))
    if known and options.only:              # versions that the chosen ones have
        opset = max(opset, min(min(v) for v in known.values()))
    names = [n for n in names if "." in n or min(known[n]) <= opset and available(n, opset)]
    cases = []
    if options.family or not options.only and batch % BAD_EVERY in (1, 2):
        return vary(options, seed, batch)
    if options.only == "Chain" or not options.only and not options.bad and batch % BAD_EVERY == 0:
        names = []
        for i in range(BATCH // 2):
            case = fuzz_chain.chain(fuzz_draw.Draw(np.random.default_rng([seed, batch, i]), "", "Chain", 17))
            case.name, case.bad = f"{seed}.{batch}.{i}", False
            cases.append(case)
    while len(cases) < BATCH and names:
        name = names[int(rng.integers(len(names)))]
        domain, _, op = name.rpartition(".")
        version = op_test.newest(domain, op) if domain else opset
        d = fuzz_draw.Draw(np.random.default_rng([seed, batch, len(cases)]), domain, op, version)
        case = fuzz_table.TABLE[name](d)
        if case.nout > 1 and d.maybe(0.3):
            case.wanted = tuple(sorted(int(i) for i in d.rng.permutation(case.nout)[:d.int(1, case.nout - 1)]))
        case.name = f"{seed}.{batch}.{len(cases)}"
        case.bad = options.bad or batch % BAD_EVERY == BAD_EVERY - 1
        if case.bad:
            damage(d, case)
        cases.append(case)
    return cases


def family_cases():
    """The cases of all families."""
    return [c for name in families.own() for c in families.cases(name) if not c.error]


def versions(case):
    return {"": 22, case.domain: case.opset}


def vary(options, seed, batch):
    """Cases of the families with other constants, other sizes known, and elements in another order."""
    rng = np.random.default_rng([seed, batch])
    known = [c for c in family_cases() if re.search(options.only, f"{c.domain}.{c.op}" if c.domain else c.op)]
    if not known:
        return []
    first, cases = known[int(rng.integers(len(known)))], []
    known = [c for c in known if all(versions(first).get(k, v) == v for k, v in versions(c).items())]
    for i in range(BATCH):
        case = op_test.Case.__new__(op_test.Case)
        case.__dict__.update((first if not i else known[int(rng.integers(len(known)))]).__dict__)
        if any(versions(c).get(k, v) != v for c in cases for k, v in versions(case).items()):
            continue
        d = fuzz_draw.Draw(np.random.default_rng([seed, batch, i]), case.domain, case.op, case.opset)
        case.name, case.bad = f"{seed}.{batch}.{i}", options.bad
        arrays = [k for k, x in enumerate(case.inputs) if isinstance(x, np.ndarray)]
        if isinstance(case.oracle, str):
            if case.op in GROWING:
                case.tol = max(case.tol, 2e-3)
            case.inputs = [d.rng.permuted(x.reshape(-1)).reshape(x.shape) if k in arrays and x.dtype.name in ("float32", "float64", "float16")
                           and x.size > 1 and case.op not in SINGULAR and d.maybe(0.7) else x for k, x in enumerate(case.inputs)]
        if d.maybe(0.7):
            case.const = tuple(k for k in arrays if k in case.const or d.maybe(0.2))
        if d.maybe(0.6) and all(x is None or isinstance(x, np.ndarray) for x in case.inputs):
            case.dynamic = d.dims(case.inputs)
            case.dynamic.update({k: [0] for k in arrays if case.inputs[k].shape == (0,)})       # an absent list, as compilers can tell
        case.oracle = (case.oracle,) if isinstance(case.oracle, str) else case.oracle
        if case.bad:
            damage(d, case)
        cases.append(case)
    return cases


def available(name, opset):
    """Whether an operator of ai.onnx is there at a version and not withdrawn by then."""
    try:
        return not onnx.defs.get_schema(name, opset, "").deprecated
    except onnx.defs.SchemaError:
        return False


WILD = [0, 1, -1, 2, -2, 7, 63, 64, 65, 255, -129, 1000, 65536, 2**31 - 1, -2**31, 2**31, 2**32 + 1, 2**40, 2**62, 2**63 - 1, -2**63]
# strings, most of them not UTF-8
BROKEN = [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80x", b"\xc0\x80", b"nan", b"1e999", b"-", b"\0a"]


def damage_attribute(d, value):
    if isinstance(value, int):
        return int(d.pick(*WILD))
    if isinstance(value, list) and value and isinstance(value[0], int):
        k = d.int(0, len(value) - 1)
        return d.pick([*value[:k], int(d.pick(*WILD)), *value[k + 1:]], value[1:], [*value, 1], [])
    if isinstance(value, list) and value:
        k = d.int(0, len(value) - 1)
        wild = d.pick(float("nan"), float("inf"), -1e30, 0.0) if isinstance(value[0], float) else value[0]
        return d.pick([*value[:k], wild, *value[k + 1:]], value[1:], [*value, value[0]])
    if isinstance(value, float):
        return d.pick(float("nan"), float("inf"), -1e30, 0.0)
    return d.pick("", "nothing", "\xff") if isinstance(value, str) else value


def damage_sizes(d, x):
    shape = list(x.shape)
    if shape and d.maybe(0.7):
        shape[d.int(0, len(shape) - 1)] = d.pick(0, 1, 2, 3, 5)
    else:
        shape = list(d.shape(0, 4, most=5))
    return np.resize(x, shape) if x.size else np.full(shape, "" if x.dtype.kind in "OUS" else 0, x.dtype)


def damage_type(d, x):
    kind = d.pick(np.float32, np.int64, np.int32, np.uint8, bool, np.float16)
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        return np.zeros(x.shape, kind) if x.dtype.kind in "OUS" else x.astype(kind)


def damage_elements(d, x):
    """Wild numbers, all kinds of special floats, strings that are not text."""
    flat = x.reshape(-1).copy()
    some = [d.int(0, x.size - 1) for _ in range(d.pick(1, 1, 3))]
    if x.dtype.kind in "OUS":
        flat = flat.astype(object)
        flat[some] = [d.pick(*BROKEN) for _ in some]
    elif x.dtype.name in ("int32", "int64"):
        flat[some[:1]] = np.int64(d.pick(*WILD)).astype(x.dtype)
    elif x.dtype.name in fuzz_draw.FLOAT:
        with np.errstate(all="ignore"):
            flat[some] = np.asarray([d.pick(*fuzz_draw.EDGE, *fuzz_draw.HUGE) for _ in some]).astype(x.dtype)
    return flat.reshape(x.shape)


def damage(d, case):
    """Changes a case so that it may be wrong."""
    case.inputs, case.attrs = list(case.inputs), dict(case.attrs)
    for _ in range(d.int(1, 2)):
        arrays = [i for i, x in enumerate(case.inputs) if isinstance(x, np.ndarray)]
        filled = [i for i in arrays if case.inputs[i].size]
        whole = [i for i in filled if case.inputs[i].dtype.kind in "iu"]
        lists = [i for i, x in enumerate(case.inputs) if isinstance(x, list) and x]
        how = d.pick(0, 0, 1, 1, 2, 3, 4, 4, 5)
        if how == 0 and case.attrs:
            name = d.pick(*sorted(case.attrs))
            case.attrs[name] = damage_attribute(d, case.attrs[name])
        elif how == 1 and lists:
            i = d.pick(*lists)
            kind = op_test.Seq(case.inputs[i][0].dtype) if isinstance(case.inputs[i][0], np.ndarray) else case.inputs[i]
            case.inputs[i] = d.pick(case.inputs[i][1:] or kind, kind, [*case.inputs[i][:-1], case.inputs[i][0]])
        elif how in (1, 2) and arrays:
            i = d.pick(*arrays)
            case.inputs[i] = (damage_sizes if how == 1 else damage_type)(d, case.inputs[i])
        elif how == 3 and len(case.inputs) > 1:
            case.inputs[d.int(0, len(case.inputs) - 1)] = None
        elif how == 4 and whole or how == 5 and filled:
            i = d.pick(*(whole if how == 4 else filled))
            case.inputs[i] = damage_elements(d, case.inputs[i])
    case.const = tuple(i for i in case.const if isinstance(case.inputs[i], np.ndarray))
    if case.dynamic or d.maybe(0.3):
        case.dynamic = d.dims(case.inputs)
    whole = [x for x in case.inputs if isinstance(x, np.ndarray) and x.dtype == np.int64 and x.size]
    if case.op == "Resize" and any(np.abs(x.astype(float)).max() > 2**53 for x in whole):
        case.slack = 4096   # pixels are weighed in double


def run_bad(case, options, folder, keep=None):
    """What is wrong, or None."""
    try:
        model, feeds = op_test.build(case, None)
    except (TypeError, ValueError):         # attributes that no file can hold
        return None
    path, so = f"{folder}/model.onnx", f"{folder}/m{next(_serial)}.so"
    with open(path, "wb") as f:
        f.write(model.SerializeToString())
    if keep:
        op_test.store(keep, case, model, feeds, None)
    try:
        why = op_test.run_both(case, options.accelc, path, so, feeds, folder)
        return None if why and refused(why) else why
    except op_test.Different as e:
        return None if refused(str(e)) else str(e)
    except (MemoryError, ValueError):       # sizes that numpy cannot have, or not compare
        return None
    except subprocess.TimeoutExpired:
        return None
    finally:
        if os.path.exists(so):
            os.unlink(so)


def by_oracle(case, which):
    """The answer of an oracle, or None where it has none."""
    c = op_test.Case.__new__(op_test.Case)
    c.__dict__.update(case.__dict__, oracle=which)
    try:
        found = op_test.expected(c)
    except Exception:       # many kinds: not implemented, wrong types of results
        return None
    types = inferred(case)
    return found if all(t is None or not isinstance(y, np.ndarray) or op_test.elem_type(y) == t for y, t in zip(found, types)) else None


def inferred(case):
    """The element types of the outputs by the standard, None where it does not say."""
    model = op_test.build(case, const=(), dynamic=False)[0]
    try:
        found = onnx.shape_inference.infer_shapes(model).graph.output
    except Exception:       # operators of other domains
        return [None] * len(case.wanted)
    return [v.type.tensor_type.elem_type or None for v in found]


def oracles(case):
    if case.oracle is None:     # a family's case of which evaluator and compiled code tell the result
        return []
    return [case.oracle] if callable(case.oracle) or isinstance(case.oracle, list) else list(case.oracle)


def judge(case, got, how, want):
    """None, or what is wrong with one way's outputs; `want`: what the first oracle said."""
    try:
        op_test.compare(want, got, case.tol, how, case.slack)
    except op_test.Different as e:
        for other in oracles(case)[1:]:
            answer = by_oracle(case, other)
            if answer is not None and len(answer) == len(got):
                try:
                    op_test.compare(answer, got, case.tol, how, case.slack)
                    return None             # the oracles disagree
                except op_test.Different:
                    pass
        return str(e)
    return None


def join(models):
    whole = models[0]
    for m in models[1:]:
        whole.graph.node.extend(m.graph.node)
        whole.graph.input.extend(m.graph.input)
        whole.graph.output.extend(m.graph.output)
        whole.graph.initializer.extend(m.graph.initializer)
        have = {o.domain for o in whole.opset_import}
        whole.opset_import.extend(o for o in m.opset_import if o.domain not in have)
    return whole


def run(cases, wants, options, folder, keep=None):
    """[(case, what is wrong)] of cases as one model. Raises accelc.Error if the model is refused, Different if it crashes."""
    models, feeds, names = [], {}, []
    for k, (case, want) in enumerate(zip(cases, wants)):
        model, fed = op_test.build(case, want, prefix=f"c{k}_")
        models.append(model)
        feeds.update(fed)
        names.append([v.name for v in model.graph.output])
    model = join(models)
    for o in model.opset_import:
        if not o.domain:
            o.version = next((c.opset for c in cases if not c.domain), o.version)
    path, so = f"{folder}/model.onnx", f"{folder}/m{next(_serial)}.so"
    with open(path, "wb") as f:
        f.write(model.SerializeToString())
    if keep:
        op_test.store(keep, cases[0], model, feeds, wants[0])
    every = [n for part in names for n in part]
    kinds = kinds_of(wants, cases)
    try:
        evaluated, two, errors = None, None, []
        try:
            evaluated = op_test.evaluate(options.accelc, path, feeds, every, kinds, folder)
        except accelc.Error as e:
            errors.append(f"evaluated: {e}")
        try:
            one, two = op_test.compiled(options.accelc, path, so, feeds, how_to_compile(cases[0]))
        except accelc.Error as e:
            errors.append(f"compiled: {e}")
        if errors:
            if len(cases) == 1 and wants[0] is None and len(errors) == 2:
                return []                   # nobody computes it
            if len(cases) == 1 and refused(errors[0]):
                return []
            raise accelc.Error(" | ".join(errors))
    finally:
        if os.path.exists(so):
            os.unlink(so)
    found, at = [], 0
    for case, want, part in zip(cases, wants, names):
        mine = slice(at, at + len(part))
        at += len(part)
        if not all(map(op_test.equal_bits, one[mine], two[mine])):
            found.append((case, "compiled: 1 and 2 threads differ"))
        elif want is None or known_bug(case):
            if evaluated is not None:
                try:
                    raw = [as_kept(e, o.dtype) for e, o in zip(evaluated[mine], one[mine])]
                    op_test.compare(raw, one[mine], case.tol, "compiled, against evaluated", case.slack)
                except op_test.Different as e:
                    found.append((case, str(e)))
        else:
            why = (evaluated is not None and judge(case, evaluated[mine], "evaluated", want)) or judge(case, one[mine], "compiled", want)
            if why and evaluated is not None and jumps(case):
                why = judge(case, one[mine], "compiled, against evaluated", evaluated[mine])
            if why:
                found.append((case, why))
    return found


def as_kept(x, kind):
    """What --eval wrote of a type that numpy lacks."""
    return x.view(kind) if x.dtype.kind == "V" else x.astype(kind) if "int4" in kind.name else x


def how_to_compile(case):
    """Options of the compiler; all cases of a batch have the same."""
    seed, batch, *_ = map(int, case.name.split("."))
    return WAYS[int(np.random.default_rng([seed, batch, 99]).integers(len(WAYS)))]


def jumps(case):
    """Whether a last bit somewhere decides between quite different results."""
    return case.nodes and any(n[0] in ("Less", "Floor", "Cast") for n in case.nodes)


def kinds_of(wants, cases):
    """An array of the type of each output, as far as is known."""
    return [y for want, case in zip(wants, cases) for y in (want if want is not None else [np.empty(0, np.void)] * len(case.wanted))]


def refused(message):
    return any(re.search(p, message) for p, _ in REFUSED)


def known_bug(case):
    return any(re.search(p, f"{case!r}") for p, _ in ORACLE_BUGS)


_serial = iter(range(1 << 62))


def run_batch(options, seed, batch, only, folder, tell):
    """Sends ("done", counts) at the end, and ("failed", case number, text) before."""
    tell("asks", None)          # graphs are drawn with the help of an oracle
    try:
        cases = [c for c in draw(options, seed, batch) if only is None or c.name == f"{seed}.{batch}.{only}"]
    except Exception:
        tell("failed", (f"{seed}.{batch}", "cannot be drawn", traceback.format_exc()))
        cases = []
    if cases and cases[0].bad:
        for case in cases:
            tell("alone", case.name)
            keep = options.keep and f"{options.keep}/{case.name}"
            why = run_bad(case, options, folder, options.again and keep)        # before it crashes
            if why:
                if keep:
                    run_bad(case, options, folder, keep)
                tell("failed", (case.name, repr(case), why))
        tell("done", ([0, len(cases)], []))
        return
    wants = []
    for i, case in enumerate(cases):
        tell("asks", i)
        first = next((w for o in oracles(case) if (w := by_oracle(case, o)) is not None), None)
        wants.append(first)
    judged = [sum(w is not None for w in wants), len(cases)]
    silent = [f"{c.op}" for c, w in zip(cases, wants) if w is None]
    tell("runs", None)
    if len(cases) > 1:
        try:
            suspects = [c for c, _ in run(cases, wants, options, folder)]
        except (accelc.Error, op_test.Different, subprocess.TimeoutExpired):
            suspects = cases
    else:
        suspects = cases
    failed = 0
    for case, want in zip(cases, wants):
        if case not in suspects:
            continue
        tell("alone", case.name)
        keep = options.keep and f"{options.keep}/{case.name}"
        try:
            found = run([case], [want], options, folder, options.again and keep)    # before it crashes
        except (accelc.Error, op_test.Different, subprocess.TimeoutExpired) as e:
            found = [(case, str(e))]
        if found and keep and not options.again:
            try:
                run([case], [want], options, folder, keep)
            except (accelc.Error, op_test.Different, subprocess.TimeoutExpired):
                pass
        for _, why in found:
            failed += 1
            tell("failed", (case.name, repr(case), why))
    if 0 < len(suspects) < len(cases) and not failed:
        tell("failed", (f"{seed}.{batch}", "the cases of the batch together", "differ, and alone they do not"))
    tell("done", (judged, silent))


def work(pipe, options):
    if not os.environ.get("ACCELC_NO_LIMIT"):   # shadow memory of sanitizers needs address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    with tempfile.TemporaryDirectory(prefix="accelc-fuzz-") as folder:
        while (job := pipe.recv()) is not None:
            run_batch(options, *job, folder, lambda *message: pipe.send(message))


# --- the parent ------------------------------------------------------------------------------------------

class Fuzzer:
    def __init__(self, options):
        self.options, self.failed, self.counts, self.silent = options, 0, [0, 0], collections.Counter()
        self.start()

    def start(self):
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, self.options), daemon=True)
        self.process.start()
        other.close()

    def report(self, name, case, why):
        self.failed += 1
        print(f"FAILED {name} {case}\n    {why}\n    again: tests/op/fuzz.py ACCELC --again {name}"
              + (f" --only '{self.options.only}'" if self.options.only else "") + " --bad" * self.options.bad
              + " --family" * self.options.family + " --keep DIR", flush=True)

    def batch(self, seed, batch, only=None):
        self.pipe.send((seed, batch, only))
        phase, late = ("starts", None), False
        while True:
            try:
                if not self.pipe.poll(TIMEOUT):
                    self.process.kill()
                    late = True
                    raise EOFError
                kind, what = self.pipe.recv()
            except EOFError:
                self.process.join()
                how = f"{'crash' if self.process.exitcode != -9 else 'no answer'} (signal {-self.process.exitcode})"
                self.start()
                if phase[0] == "asks":      # the oracle died
                    if only is None:
                        for i in range(BATCH):
                            if i != phase[1]:
                                self.batch(seed, batch, i)
                elif phase[0] == "runs" and only is None:
                    for i in range(BATCH):
                        self.batch(seed, batch, i)
                else:
                    case = next((c for c in draw(self.options, seed, batch) if c.name == (phase[1] or f"{seed}.{batch}.{only}")), "")
                    if not (late and case and case.bad):        # a window of 2^31 elements takes its time
                        self.report(phase[1] or f"{seed}.{batch}", repr(case), f"{how} of a compiled model")
                return
            if kind == "failed":
                self.report(*what)
            elif kind == "done":
                self.counts[0] += what[0][0]
                self.counts[1] += what[0][1]
                self.silent.update(what[1])
                return
            else:
                phase = (kind, what)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("accelc")
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--first", type=int, default=0, metavar="B", help="number of the first batch")
    p.add_argument("--only", default="", metavar="REGEX", help="operators whose name has it")
    p.add_argument("--bad", action="store_true", help="damaged cases only")
    p.add_argument("--family", action="store_true", help="varied cases of tests/op/<family>.py only")
    p.add_argument("--again", metavar="S.B[.C]", help="repeat a batch, or a case of one")
    p.add_argument("--keep", metavar="DIR", help="keep what failed")
    p.add_argument("-v", "--verbose", action="store_true")
    options = p.parse_args()
    options.accelc = os.path.abspath(options.accelc)
    options.known = operators(options.accelc)
    missing = sorted(n for n in options.known if n not in fuzz_table.TABLE and n not in fuzz_table.UNTESTED)
    if options.verbose and missing:
        print("without a generator:", " ".join(missing))
    fuzzer = Fuzzer(options)
    if options.again:
        seed, batch, *only = map(int, options.again.split("."))
        fuzzer.batch(seed, batch, *only)
    else:
        end, batch = time.monotonic() + options.seconds, options.first
        while time.monotonic() < end:
            fuzzer.batch(options.seed, batch)
            batch += 1
        print(f"seed {options.seed}, batches {options.first} to {batch - 1}")
    if options.verbose and fuzzer.silent:
        print("without an oracle:", dict(fuzzer.silent.most_common()))
    print(f"{fuzzer.counts[1]} cases, {fuzzer.counts[0]} of them with an oracle, {fuzzer.failed} failed")
    sys.exit(bool(fuzzer.failed) or not fuzzer.counts[1])


if __name__ == "__main__":
    main()
