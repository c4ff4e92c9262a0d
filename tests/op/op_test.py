"""Test cases of single operators: what tests/op/<family>.py yield and tests/op/run.py runs.

A case is one node. Its results by compiled code (1 and 2 threads, equal bits) and by the reference evaluator are compared with
those of an oracle. Values are arrays; a list is a sequence, a dict a map, None an absent operand or an empty optional.
"""
import ctypes
import functools
import json
import mmap
import os
import re
import subprocess
import tempfile

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import accelc


# --- generators ------------------------------------------------------------------------------------------

def f32(rng, *shape, scale=1.0, low=None, high=None, dtype=np.float32):
    """Normal numbers times scale; with low and high, uniform ones between them."""
    x = rng.standard_normal(shape) * scale if low is None else rng.uniform(low, high, shape)
    return np.asarray(x, dtype)


def f64(rng, *shape, **how):
    return f32(rng, *shape, dtype=np.float64, **how)


def f16(rng, *shape, **how):
    return f32(rng, *shape, dtype=np.float16, **how)


def bf16(rng, *shape, **how):
    return f32(rng, *shape, dtype=ml_dtypes.bfloat16, **how)


def ints(rng, *shape, low=-100, high=100, dtype=np.int64):
    """Integers from low to high, both included."""
    return rng.integers(low, high, shape, np.int64, endpoint=True).astype(dtype)


def i64(rng, *shape, **how):
    return ints(rng, *shape, **how)


def i32(rng, *shape, **how):
    return ints(rng, *shape, dtype=np.int32, **how)


def i8(rng, *shape, low=-128, high=127):
    return ints(rng, *shape, low=low, high=high, dtype=np.int8)


def u8(rng, *shape, low=0, high=255):
    return ints(rng, *shape, low=low, high=high, dtype=np.uint8)


def bools(rng, *shape):
    return rng.integers(0, 2, shape).astype(bool)


def strings(rng, *shape, words=("", "a", "abc", "Zürich", "éa", "日本語", "a b", "0.5", "-7")):
    flat = np.empty(int(np.prod(shape)), object)
    flat[:] = [words[i] for i in rng.integers(0, len(words), flat.size)]
    return flat.reshape(shape)


SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-40, -1e-40, 1e-30, 1e30, -1e30, 3.4e38,
           88.7, 89.0, -87.4, -104.0, 1e5, 12345.678]


def special(rng, *shape, dtype=np.float32):
    """Numbers at the edges: zeros, infinities, NaN, denormals, huge ones, among normal ones."""
    x = rng.standard_normal(shape)
    x = np.where(rng.random(shape) < 0.6, np.asarray(SPECIAL)[rng.integers(0, len(SPECIAL), shape)], x)
    with np.errstate(all="ignore"):
        return x.astype(dtype)


class Seq(list):
    """A sequence with a known element type, which an empty list lacks."""
    def __init__(self, dtype, values=()):
        super().__init__(values)
        self.dtype = np.dtype(dtype)


class Opt:
    """An input of an optional type: a value, or None with the type that it would have (an array or list)."""
    def __init__(self, value, like=None):
        self.value, self.like = value, value if like is None else like


class Sparse:
    """A sparse initializer with the values of a matrix."""
    def __init__(self, value):
        self.value = value


# --- cases -----------------------------------------------------------------------------------------------

class Case:
    """One node and what is expected of it.

    op        "Name", or "domain.Name"
    inputs    arrays, lists, dicts, Opt, Sparse, or None for an absent operand
    attrs     attributes; None leaves one out
    opset     version of the operator's domain; None: the newest
    nout      number of outputs
    tol       relative, plus the same times the standard deviation of the expected values; integers are exact
    oracle    "ort", "reference", "ort-wide" (16-bit floats computed as f32 and rounded), "reference-wide", a function of the
              inputs (None where absent) that returns a list, or the list; None: the evaluator and compiled code against each other
    const     indices of inputs that are initializers
    dynamic   all sizes of inputs are symbols; or a dict: number of an input -> its sizes, numbers and symbols
    wanted    indices of the outputs that the model gives; others have no names, if they are optional
    slack     what integers may differ by, as the scales of 8-bit values are rounded more than once; of floats: times tol
    error     a regular expression: compiling or running must fail with a message that has it; an oracle that is a list declares the results
    """

    def __init__(self, op, inputs, attrs=None, opset=None, nout=1, tol=1e-4, oracle="ort", const=(), dynamic=False,
                 wanted=None, error=None, slack=0):
        self.domain, _, self.op = op.rpartition(".")
        self.domain = "" if self.domain == "ai.onnx" else self.domain
        self.inputs = [np.asarray(x) if isinstance(x, (np.generic, int, float)) else x for x in inputs]
        self.attrs, self.nout, self.tol, self.oracle = attrs or {}, nout, tol, oracle
        self.const, self.dynamic, self.error, self.slack = tuple(const), dynamic, error, slack
        self.wanted = tuple(range(nout)) if wanted is None else tuple(wanted)
        self.opset = newest(self.domain, self.op) if opset is None else opset
        self.nodes, self.results = None, ()     # of a Graph
        self.name = self.op         # the runner appends a number

    def __repr__(self):
        def one(x):
            if isinstance(x, np.ndarray):
                return f"{x.dtype}[{','.join(map(str, x.shape))}]"
            if isinstance(x, (list, tuple)):
                return f"({', '.join(map(one, x))})"
            return "-" if x is None else f"optional {one(x.value)}" if isinstance(x, Opt) else type(x).__name__
        attrs = {k: v for k, v in self.attrs.items() if v is not None}
        if self.nodes:
            return f"{' '.join(n[0] for n in self.nodes)} of {one(tuple(self.inputs))}"
        return f"{self.domain + '.' if self.domain else ''}{self.op}-{self.opset} {one(tuple(self.inputs))} {attrs}" + \
            (f" const={list(self.const)}" if self.const else "") + (" dynamic" if self.dynamic else "")


class Graph(Case):
    """A case of several nodes: ("Name" or "domain.Name", operands, results, attributes). Inputs are named x0, x1 ..; `results` are the names of
    the outputs."""

    def __init__(self, inputs, nodes, results, opset=17, **how):
        super().__init__("Graph", inputs, opset=opset, nout=len(results), **how)
        self.nodes, self.results = nodes, results


class Body:
    """A graph as an attribute of a Graph's node; inputs and results: (name, element type[, shape])."""

    def __init__(self, inputs, nodes, results):
        self.inputs, self.nodes, self.results = inputs, nodes, results

    def proto(self, prefix, opset):
        value = lambda name, kind, shape=None: helper.make_tensor_value_info(prefix + name, kind, shape)
        return helper.make_graph([node(prefix, opset, *n) for n in self.nodes], "body", [value(*v) for v in self.inputs],
                                 [value(*v) for v in self.results])


@functools.cache
def newest_of(domain):
    return onnx.defs.onnx_opset_version() if domain == "" else \
        max((s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.domain == domain), default=1)


@functools.cache
def newest(domain, op):
    """The newest version of a domain, or an older one with the same operator that ONNX Runtime has as well."""
    versions = newest_of(domain)
    try:
        since = onnx.defs.get_schema(op, versions, domain).since_version
    except onnx.defs.SchemaError:
        return versions
    return max(since, min(versions, 22)) if domain == "" else versions


# --- models ----------------------------------------------------------------------------------------------

def elem_type(x):
    return TensorProto.STRING if x.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(x.dtype)


def type_of(x, shape_of):
    """The TypeProto of a value; shape_of(array) gives the sizes, or None."""
    if isinstance(x, Opt):
        return helper.make_optional_type_proto(type_of(x.like, shape_of))
    if isinstance(x, list):
        like = x[0] if x else np.empty((), getattr(x, "dtype", np.float32))
        return helper.make_sequence_type_proto(type_of(like, lambda a: None))
    if isinstance(x, dict):
        key, value = next(iter(x.items()))
        return helper.make_map_type_proto(elem_type(np.asarray(key)), type_of(np.asarray(value), lambda a: None))
    return helper.make_tensor_type_proto(elem_type(x), shape_of(x))


def attribute(schema, name, value):
    known = schema.attributes.get(name) if schema else None
    if known:
        kind = int(known.type.value) if hasattr(known.type, "value") else int(known.type)
        if kind == onnx.AttributeProto.FLOAT:
            value = float(value)
        elif kind == onnx.AttributeProto.FLOATS:
            value = [float(v) for v in value]
        return helper.make_attribute(name, value, attr_type=kind)
    return helper.make_attribute(name, value, attr_type=onnx.AttributeProto.INTS if value == [] else None)


def tensor(x, name):
    if x.dtype.kind in "OUS":
        return helper.make_tensor(name, TensorProto.STRING, x.shape,
                                  [s if isinstance(s, bytes) else str(s).encode() for s in x.reshape(-1)])
    return numpy_helper.from_array(x, name)


def sparse_tensor(x, name):
    at = np.flatnonzero(x)
    return helper.make_sparse_tensor(tensor(x.reshape(-1)[at], name), tensor(at, name + "_at"), x.shape)


def schema_of(op, opset, domain):
    try:
        return onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None


def unused(schema, i, prefix):
    """The name of an output that the case does not want: it has one if the standard says that it is always there."""
    always = schema and i < len(schema.outputs) and schema.outputs[i].option == onnx.defs.OpSchema.FormalParameterOption.Single
    return f"{prefix}unused{i}" if always else ""


def node(prefix, opset, name, operands, results, attrs):
    """A node of a Graph; prefix is that of the names."""
    domain, _, op = name.rpartition(".")
    made = helper.make_node(op, [o and prefix + o for o in operands], [r and prefix + r for r in results], domain=domain)
    attrs = {k: v.proto(prefix, opset) if isinstance(v, Body) else v for k, v in attrs.items() if v is not None}
    made.attribute.extend(attribute(schema_of(op, 1 if domain else opset, domain), k, v) for k, v in attrs.items())
    return made


def build(case, expected=None, const=None, dynamic=None, prefix=""):
    """(model, feeds): the model of a case, and its inputs by name. expected: outputs, which then get their types. prefix is that
    of all names, so that models can be joined."""
    const, dynamic = case.const if const is None else const, case.dynamic if dynamic is None else dynamic
    names = ["" if x is None else f"{prefix}x{i}" for i, x in enumerate(case.inputs)]
    outputs = [f"{prefix}y{i}" if i in case.wanted else "" for i in range(case.nout)]
    if case.nodes:
        outputs = [prefix + r for r in case.results]
        nodes = [node(prefix, case.opset, *n) for n in case.nodes]
    else:
        schema = schema_of(case.op, case.opset, case.domain)
        made = [o or unused(schema, i, prefix) for i, o in enumerate(outputs)]
        nodes = [helper.make_node(case.op, names, made, name=prefix + "node", domain=case.domain)]
        nodes[0].attribute.extend(attribute(schema, k, v) for k, v in case.attrs.items() if v is not None)
    free = (f"{prefix}free{i}" for i in range(1000))
    graph = onnx.GraphProto(name="case", node=nodes)
    feeds, plain = {}, True
    for i, (name, x) in enumerate(zip(names, case.inputs)):
        if x is None:
            continue
        if isinstance(x, Sparse):
            graph.sparse_initializer.append(sparse_tensor(x.value, name))
            continue
        if i in const:
            graph.initializer.append(tensor(x, name))
            continue
        sizes = dynamic.get(i) if isinstance(dynamic, dict) else None
        kind = type_of(x, lambda a, sizes=sizes: [s if isinstance(s, int) else prefix + s for s in sizes] if sizes is not None else
                       [next(free) for _ in a.shape] if dynamic else a.shape)
        graph.input.append(helper.make_value_info(name, kind))
        feeds[name] = x.value if isinstance(x, Opt) else x
    found = iter(expected or ())
    for name in outputs:
        want = next(found, None) if name else None
        if name and isinstance(want, (np.ndarray, list, dict)):
            shape = (lambda a: [next(free) for _ in a.shape]) if dynamic else (lambda a: None)
            graph.output.append(helper.make_value_info(name, type_of(want, shape)))
        elif name:
            graph.output.append(onnx.ValueInfoProto(name=name))
    versions = {n.domain: 1 for n in nodes if case.nodes} | {case.domain: case.opset}
    versions.setdefault("", 22)
    wide = [x for x in case.inputs if isinstance(x, np.ndarray) and elem_type(x) > TensorProto.INT4]
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in versions.items()],
                             ir_version=onnx.IR_VERSION if wide else 10), feeds


# --- oracles ---------------------------------------------------------------------------------------------

NATIVE = set("?bBhHiIlLqQefdFDOUS")


def widened(x):
    if isinstance(x, list):
        return [widened(v) for v in x]
    narrow = isinstance(x, np.ndarray) and x.dtype in (np.float16, ml_dtypes.bfloat16)
    return x.astype(np.float32) if narrow else x


def narrowed(x, dtype):
    if isinstance(x, list):
        return [narrowed(v, dtype) for v in x]
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x


def by_wide(case, engine):
    kinds = [x.dtype for x in case.inputs if isinstance(x, np.ndarray) and x.dtype.name in ("float16", "bfloat16", "float32", "float64")][:1]
    wide = Case(case.op, [widened(x) for x in case.inputs], case.attrs, case.opset, case.nout, wanted=case.wanted)
    wide.domain = case.domain
    with np.errstate(all="ignore"):
        return [narrowed(y, kinds[0]) if kinds else y for y in engine(wide)]


def by_ort(case):
    """Types that numpy lacks go in as initializers and come out through Cast."""
    import onnxruntime as ort
    strange = [i for i, x in enumerate(case.inputs) if isinstance(x, np.ndarray) and x.dtype.char not in NATIVE]
    model, feeds = build(case, const=strange, dynamic=False)
    kinds = {}
    if strange or case.attrs:
        try:
            inferred = onnx.shape_inference.infer_shapes(model)
            kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.output}
        except Exception:  # the operators of other domains
            pass
    back = {}
    for v in model.graph.output:
        if kinds.get(v.name, 0) >= TensorProto.BFLOAT16:
            to = TensorProto.INT8 if kinds[v.name] in (TensorProto.UINT4, TensorProto.INT4) else TensorProto.FLOAT
            model.graph.node.append(helper.make_node("Cast", [v.name], [v.name + "_cast"], to=to))
            back[v.name + "_cast"] = helper.tensor_dtype_to_np_dtype(kinds[v.name])
            v.name += "_cast"
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    got = session.run(None, feeds)
    with np.errstate(all="ignore"):
        return [y.astype(back[v.name]) if v.name in back else y for v, y in zip(model.graph.output, got)]


def by_reference(case):
    from onnx.reference import ReferenceEvaluator
    model, feeds = build(case, const=(), dynamic=False)
    with np.errstate(all="ignore"):
        return [np.asarray(y) if isinstance(y, np.generic) else y for y in ReferenceEvaluator(model).run(None, feeds)]


ENGINES = {"ort": by_ort, "reference": by_reference,
           "ort-wide": lambda case: by_wide(case, by_ort), "reference-wide": lambda case: by_wide(case, by_reference)}


def expected(case):
    """What the oracle says: a list with an entry for each wanted output."""
    if isinstance(case.oracle, str):
        got = ENGINES[case.oracle](case)
    elif callable(case.oracle):
        with np.errstate(all="ignore"):
            got = case.oracle(*[x.value if isinstance(x, (Opt, Sparse)) else x for x in case.inputs])
    else:
        got = case.oracle
    got = list(got) if isinstance(got, (list, tuple)) else [got]
    if len(got) == case.nout and case.nout != len(case.wanted):
        got = [got[i] for i in case.wanted]
    return [y if isinstance(y, (list, dict)) or y is None else np.asarray(y) for y in got]


# --- comparison ------------------------------------------------------------------------------------------

class Different(Exception):
    pass


SUBNORMAL = 2.0 ** -126     # below which exp of float32 is 0 in compiled code


def difference(want, got, tol, slack=0):
    """None, or how two arrays of the same type and shape differ."""
    if want.dtype.kind in "OUS":
        bad = np.array([a != b for a, b in zip(want.reshape(-1), got.reshape(-1))], bool).reshape(want.shape)
    elif want.dtype.kind in "biu" or "int" in want.dtype.name:
        bad = np.asarray(want != got) if not slack else np.asarray(np.abs(want.astype(np.int64) - got.astype(np.int64)) > slack)
    else:
        kind = np.complex128 if want.dtype.kind == "c" else np.float64
        w, g = want.astype(kind), got.astype(kind)
        finite = np.isfinite(w)
        tol = max(tol, 2 * float(ml_dtypes.finfo(want.dtype).eps)) if tol and want.dtype.itemsize <= 2 else tol
        with np.errstate(all="ignore"):
            spread = np.std(w[finite]) if finite.any() else 0.0
            spread = spread if np.isfinite(spread) else 0.0
            near = np.abs(g - w) <= tol * (np.abs(w) + spread + slack) + (SUBNORMAL if tol else 0)
        bad = ~np.where(finite, near, (w == g) | (np.isnan(w) & np.isnan(g)))
    if not bad.any():
        return None
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{got[at]!r} instead of {want[at]!r} at {list(at)} ({int(bad.sum())} of {bad.size} differ)"


def compare(want, got, tol, where="output", slack=0):
    if isinstance(want, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(want) != len(got):
            raise Different(f"{where}: {len(got) if isinstance(got, (list, tuple)) else type(got).__name__} elements "
                            f"instead of {len(want)}")
        for i, (w, g) in enumerate(zip(want, got)):
            compare(w, g, tol, f"{where}[{i}]", slack)
    elif isinstance(want, dict):
        if not isinstance(got, dict) or set(want) != set(got):
            raise Different(f"{where}: keys {sorted(got) if isinstance(got, dict) else got!r} instead of {sorted(want)}")
        for k, w in want.items():       # plain numbers have no type of their own
            w, g = (np.asarray(x, getattr(y, "dtype", None)) if isinstance(x, (int, float)) else np.asarray(x)
                    for x, y in ((w, got[k]), (got[k], w)))
            compare(w, g, tol, f"{where}[{k!r}]")
    elif want is None or got is None:
        if want is not got:
            raise Different(f"{where}: {'a value' if want is None else 'nothing'} instead of "
                            f"{'nothing' if want is None else 'a value'}")
    else:
        want, got = np.asarray(want), np.asarray(got)
        text = want.dtype.kind in "OUS"
        if want.dtype != got.dtype and not (text and got.dtype.kind in "OUS"):
            raise Different(f"{where}: type {got.dtype} instead of {want.dtype}")
        if want.shape != got.shape:
            raise Different(f"{where}: shape {list(got.shape)} instead of {list(want.shape)}")
        how = difference(want, got, tol, slack)
        if how:
            raise Different(f"{where}: {how}")


def equal_bits(a, b):
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal_bits, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal_bits(np.asarray(v), np.asarray(b[k])) for k, v in a.items())
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and (a.tobytes() == b.tobytes() if a.dtype != object else (a == b).all())


# --- the evaluator ---------------------------------------------------------------------------------------

def save(path, x):
    """The form that --eval reads, and the name it gets: types that numpy lacks as raw bytes (1 of 4 bits, as ml_dtypes keeps them), lists and maps
    as folders."""
    if isinstance(x, (list, dict)):
        os.makedirs(path)
        parts = enumerate(x) if isinstance(x, list) else [("keys", np.array(list(x))), ("values", np.array(list(x.values())))]
        for name, part in parts:
            save(f"{path}/{name}", part)
        return path
    name = x.dtype.name
    if x.dtype.kind in "OU":
        x = np.array([s if isinstance(s, bytes) else str(s).encode() for s in x.reshape(-1)], "S").reshape(x.shape)
    elif name.startswith(("float8", "bfloat", "float4", "int4", "uint4", "int2", "uint2")):
        x = x.view(f"V{x.dtype.itemsize}")
    np.save(path + ".npy", x)
    return path + ".npy"


def load(path, want):
    """What --eval wrote, in the form of the expected value."""
    if want is None:
        return np.load(path + ".npy") if os.path.exists(path + ".npy") else None
    if isinstance(want, (list, tuple)):
        return [load(f"{path}/{i}", want[min(i, len(want) - 1)] if want else None) for i in range(len(os.listdir(path)))]
    if isinstance(want, dict):
        keys, values = np.load(f"{path}/keys.npy"), np.load(f"{path}/values.npy")
        return {k.decode(errors="replace") if isinstance(k, bytes) else k.item(): v for k, v in zip(keys, values)}
    x, dtype = np.load(path + ".npy"), want.dtype
    if x.dtype.kind == "S":
        return np.array([s.decode(errors="replace") for s in x.reshape(-1)], object).reshape(x.shape)     # as accelc.Session does
    if x.dtype == dtype:
        return x
    if x.dtype.itemsize == dtype.itemsize and (x.dtype.kind == "V" or dtype.name.startswith("float4")):
        return x.view(dtype)
    return x.astype(dtype) if "int4" in dtype.name or "int2" in dtype.name else x


def evaluate(accelc_command, path, feeds, names, wanted, folder):
    """Outputs by accelc --eval. Raises accelc.Error."""
    command = [accelc_command, path, "--eval", "--verify-each"]
    with tempfile.TemporaryDirectory(dir=folder) as there:
        for name, x in feeds.items():
            if x is not None:
                command += ["--input", f"{name}={save(f'{there}/{name}', x)}"]
        for name, want in zip(names, wanted):
            command += ["--output", f"{name}={there}/{name}{'' if isinstance(want, (list, tuple, dict)) else '.npy'}"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
        if done.returncode:
            raise accelc.Error(failure("--eval", done.returncode, done.stderr))
        return [load(f"{there}/{name}", w) for name, w in zip(names, wanted)]


def failure(what, status, text):
    text = text.strip()
    if status in (1, 2) and text and "Sanitizer:" not in text and "runtime error" not in text:
        return text
    raise Different(f"{what}: " + (f"signal {-status}" if status < 0 else f"status {status}") + f": {text[-2000:]}")


# --- running ---------------------------------------------------------------------------------------------

def run_case(case, command, folder, options=(), keep=None):
    """None, or what is wrong."""
    want = None if case.oracle is None or case.error and not isinstance(case.oracle, list) else expected(case)
    model, feeds = build(case, want)
    path, so = f"{folder}/model.onnx", f"{folder}/model-{os.getpid()}-{next(_serial)}.so"
    with open(path, "wb") as f:
        f.write(model.SerializeToString())
    if keep:
        store(keep, case, model, feeds, want)
    try:
        if case.error:
            return run_error(case, command, path, so, feeds, folder)
        if want is None:
            return run_both(case, command, path, so, feeds, folder)
        names = [v.name for v in model.graph.output]
        try:
            got = evaluate(command, path, feeds, names, want, folder)
            compare(want, got, case.tol, "evaluated", case.slack)
        except accelc.Error as e:
            return f"evaluated: {e}"
        try:
            one, two = compiled(command, path, so, feeds, options)
        except accelc.Error as e:
            return f"compiled: {e}"
        compare(want, one, case.tol, "compiled", case.slack)
        if not all(map(equal_bits, one, two)):
            return "compiled: 1 and 2 threads differ"
    except Different as e:
        return str(e)
    finally:
        if os.path.exists(so):
            os.unlink(so)
    return None


def compiled(command, path, so, feeds, options=()):
    """The outputs with 1 and with 2 threads, whose memory begins as NaN: results that depend on what nobody wrote differ."""
    done = subprocess.run([command, path, "-o", so, "--verify-each", *options], capture_output=True, text=True, errors="replace", timeout=120)
    if done.returncode:
        raise accelc.Error(failure("compiling", done.returncode, done.stderr))
    model, results = accelc.load(so), []
    feeds = {p.name: feeds[p.name] for p in model.inputs}   # an input that nothing depends on may be gone
    with Guards() as guards:
        for threads, place, memory in (1, lambda x: x, None), (2, guards.place, (dirty, LIBC.free)):
            with model.session(threads=threads, memory=memory) as session:
                results.append(list(session.run({k: place(x) for k, x in feeds.items()}).values()))
    return results


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.aligned_alloc.restype, LIBC.aligned_alloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t] * 2
LIBC.free.restype, LIBC.free.argtypes = None, [ctypes.c_void_p]


def dirty(size, align):
    """Memory full of ones, which are NaN in every type of floats."""
    p = LIBC.aligned_alloc(align, -(-size // align) * align)
    return p and ctypes.memset(p, 0xff, size)


class Guards:
    """Copies of arrays that end where memory ends: code that reads far behind one does not survive. A kernel whose vectors overhang gets a
    copy of the runtime's."""

    def __enter__(self):
        self.libc, self.maps = LIBC, []
        self.libc.mmap.restype, self.libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self.libc.mprotect.argtypes, self.libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int], [ctypes.c_void_p, ctypes.c_size_t]
        return self

    def place(self, x):
        if not isinstance(x, np.ndarray) or x.dtype.hasobject or x.dtype.kind in "US" or not x.nbytes:
            return x
        room = -(-x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        at = self.libc.mmap(None, room + 2 * mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        assert at != ctypes.c_void_p(-1).value
        self.maps.append((at, room + 2 * mmap.PAGESIZE))
        for edge in (at, at + mmap.PAGESIZE + room):
            self.libc.mprotect(edge, mmap.PAGESIZE, 0)
        memory = (ctypes.c_char * x.nbytes).from_address(at + mmap.PAGESIZE + room - x.nbytes)
        y = np.frombuffer(memory, x.dtype).reshape(x.shape)
        y[...] = x
        return y

    def __exit__(self, *how):
        for at, size in self.maps:
            self.libc.munmap(at, size)


def run_error(case, command, path, so, feeds, folder):
    ways = [("compiled", lambda: compiled(command, path, so, feeds))]
    ways.append(("evaluated", lambda: evaluate(command, path, feeds, [], [], folder)))
    for how, run in ways:
        try:
            run()
        except accelc.Error as e:
            if not re.search(case.error, str(e)):
                return f"{how}: the error {str(e)!r} does not match {case.error!r}"
        else:
            return f"{how}: no error, {case.error!r} was expected"
    return None


def outcome(run):
    try:
        return run()
    except accelc.Error as e:
        return e
    except MemoryError as e:    # of a result as a numpy array
        return accelc.Error(f"memory: {e}")


def overflows(case):
    """Whether products of operands may be infinite on the way, where the evaluator's sums, which are wider, are not."""
    floats = [x.astype(float) for x in case.inputs if isinstance(x, np.ndarray) and x.dtype.name in ("float16", "bfloat16", "float32", "float64")]
    return any((np.isfinite(x) & (np.abs(x) > 1e30)).any() for x in floats)


def without_infinities(a, b):
    """Both with NaN where one of them is no number."""
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.dtype.kind == "f"):
        return a, b
    odd = ~np.isfinite(a) | ~np.isfinite(b)
    return np.where(odd, np.nan, a).astype(a.dtype), np.where(odd, np.nan, b).astype(b.dtype)


def run_both(case, command, path, so, feeds, folder):
    """The evaluator against compiled code: None if they have the same results, or none."""
    made = outcome(lambda: compiled(command, path, so, feeds))
    failed = isinstance(made, accelc.Error)
    names = [v.name for v in onnx.load(path).graph.output]
    evaluated = outcome(lambda: evaluate(command, path, feeds, [] if failed else names, [] if failed else made[0], folder))
    texts = [str(r) if isinstance(r, accelc.Error) else "a result" for r in (evaluated, made)]
    if re.search(r"internal|E035\d|X03\d\d", "".join(texts)):
        return "".join(texts)
    if failed or isinstance(evaluated, accelc.Error):
        wrong = isinstance(evaluated, accelc.Error) != failed and not re.search(NO_ROOM, "".join(texts))
        return f"evaluated: {texts[0]} | compiled: {texts[1]}" if wrong else None
    pairs = list(zip(evaluated, made[0]))
    if overflows(case):
        pairs = [without_infinities(*pair) for pair in pairs]
    compare([p[0] for p in pairs], [p[1] for p in pairs], max(case.tol, 1e-4), "compiled, against evaluated", case.slack)
    return None if all(map(equal_bits, *made)) else "compiled: 1 and 2 threads differ"


NO_ROOM = "memory|too large|limit|E0180"        # which only one of the two may have
_serial = iter(range(1 << 62))


def store(folder, case, model, feeds, want):
    """Keeps the model, its inputs and what is expected, for a look by hand."""
    os.makedirs(folder, exist_ok=True)
    onnx.save(model, f"{folder}/model.onnx")
    for name, x in feeds.items():
        if x is not None:
            save(f"{folder}/{name}", x)
    for i, y in enumerate(want or ()):
        if y is not None:
            save(f"{folder}/want{i}", y)
    with open(f"{folder}/case.txt", "w") as f:
        f.write(f"{case!r}\n{json.dumps(case.attrs, default=str)}\n")
