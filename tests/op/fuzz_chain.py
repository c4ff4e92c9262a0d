"""Graphs of several nodes for the operator fuzzer: what fuses, what shares, what is written in place."""
import functools
import warnings

import families
import fuzz_table
import ml_dtypes
import numpy as np
import onnx
import op_test
from fuzz_draw import FLOAT, Draw
from op_test import Graph

UNARY = {"Relu": lambda x: np.maximum(x, 0), "Tanh": np.tanh, "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Neg": np.negative, "Abs": np.abs,
         "Floor": np.floor, "Sin": np.sin, "Identity": lambda x: x}
WHOLE = ("Neg", "Abs", "Identity", "Relu")      # of integers, too
BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum}
REDUCE = {"ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min}
LIMIT = 1 << 14                 # elements of a value
KINDS = (*[np.float32] * 12, np.float64, np.float64, np.float16, ml_dtypes.bfloat16, np.int32, np.int64, np.int8)
OPSETS = (17, 17, 22, onnx.defs.onnx_opset_version())


def tame(x):
    """Are there numbers only, among which none is very large?"""
    return x.dtype.kind != "f" or bool((np.abs(x) < 1e6).all())


@functools.cache
def known(opset):
    """(names of the table, cases of families): operators at a version of ai.onnx that have one meaning only, and ONNX Runtime as their oracle."""
    schemas = {s.name: s for s in onnx.defs.get_all_schemas_with_history() if s.domain == "" and s.since_version <= opset}
    mine = lambda c: c.domain == "com.microsoft" or not c.domain and c.op in schemas and op_test.schema_of(c.op, opset, "") is not None and \
        op_test.schema_of(c.op, opset, "").since_version <= c.opset and op_test.schema_of(c.op, c.opset, "").since_version <= opset
    plain = lambda c: c.oracle == "ort" and not c.error and not c.nodes and c.nout == len(c.wanted) and any(x is not None for x in c.inputs) and \
        all(x is None or isinstance(x, np.ndarray) and x.size <= LIMIT and x.dtype.kind in "fiub" and tame(x) for x in c.inputs)
    return ([n for n in fuzz_table.TABLE if n in schemas and not op_test.schema_of(n, opset, "").deprecated],
            [c for name in families.own() for c in families.cases(name) if plain(c) and mine(c)])


def beyond(x, kind):
    """Has an array of floats a number that truncates to none of a type? Then the standard does not say what it becomes."""
    return x.dtype.name in FLOAT and kind.kind in "iu" and not bool(((x > np.iinfo(kind).min - 1.0) & (x < np.iinfo(kind).max + 1.0)).all())


def jumps(x):
    """Is an element so near a whole number that what is one in an implementation may lie below it in another?"""
    near = np.rint(x)
    return bool(((np.abs(x - near) < 1e-4 * (1 + np.abs(x))) & (x != 0)).any())


def turns(x):
    """Is an element so large that its last place is a part of a turn?"""
    return bool((np.abs(x) > 1e3).any())


class Chain:
    """Nodes as they grow, and the value of everything named."""

    def __init__(self, d, kind):
        self.d, self.nodes, self.inputs, self.const, self.values, self.serial = d, [], [], [], {}, 0
        self.kind, self.tol = np.dtype(kind), {"float16": 1e-2, "bfloat16": 1e-1}.get(np.dtype(kind).name, 1e-4)
        self.float = self.kind.name in FLOAT
        # sums of huge numbers overflow in one order and not in another
        self.excluded = ("ReduceSum", "ReduceMean") if d.edges else () if self.float else ("ReduceMean",)

    def give(self, x, const=False):
        """The name of a new input or constant."""
        name = f"x{len(self.inputs)}"
        if const:
            self.const.append(len(self.inputs))
        self.inputs.append(np.asarray(x))
        self.values[name] = np.asarray(x)
        return name

    def ints(self, values):
        return self.give(np.asarray(values, np.int64), True)

    def node(self, op, operands, results, **attrs):
        """Adds a node; results are its values."""
        names = [f"t{len(self.nodes)}_{i}" for i in range(len(results))]
        self.nodes.append((op, list(operands), names, attrs))
        for n, r in zip(names, results):
            self.values[n] = np.asarray(r)
        return names

    def some(self, fits=lambda x: True):
        """A value of the graph's type, the latest more often."""
        found = [n for n, x in self.values.items() if x.dtype == self.kind and fits(x)]
        return found[-1 if self.d.maybe(0.5) else self.d.int(0, len(found) - 1)] if found else None

    def other(self, shape):
        """A value that broadcasts with a shape: an old one, or a constant."""
        def fits(x):
            try:
                return np.prod(np.broadcast_shapes(x.shape, shape)) <= LIMIT
            except ValueError:
                return False
        found = self.some(fits) if self.d.maybe(0.6) else None
        if found:
            return found
        mine = tuple(1 if self.d.maybe(0.3) else n for n in shape[self.d.int(0, len(shape)):])
        return self.give(self.d.value(self.kind, mine, edges=False), self.d.maybe(0.8))

    def step(self):
        d, name = self.d, self.some()
        x = self.values[name]
        kinds = [self.unary, self.unary, self.binary, self.binary, self.where, self.reduce, self.reduce, self.transpose, self.reshape,
                 self.concat, self.split, self.slice, self.pad, self.expand, self.gather, self.branch, self.loop]
        if not self.d.edges:
            kinds += [self.matmul, self.cumsum, *[self.operator] * 7]
        if not self.d.edges and self.float:
            kinds += [self.softmax, self.norm, self.cast, self.conv]
        d.pick(*kinds)(name, x, x.ndim)

    def unary(self, name, x, r):
        op = self.d.pick(*(UNARY if self.float else WHOLE))
        if not (op == "Floor" and jumps(x) or op == "Sin" and turns(x)):
            self.node(op, [name], [UNARY[op](x)])

    def binary(self, name, x, r):
        op, other = self.d.pick(*BINARY), self.other(x.shape)
        pair = [name, other] if self.d.maybe() else [other, name]
        self.node(op, pair, [BINARY[op](self.values[pair[0]], self.values[pair[1]])])

    def where(self, name, x, r):
        other = self.other(x.shape)
        y = self.values[other]
        less, = self.node("Less", [name, other], [x < y])
        third = self.other(np.broadcast_shapes(x.shape, y.shape))
        self.node("Where", [less, third, name], [np.where(x < y, self.values[third], x)])

    def reduce(self, name, x, r):
        axes = tuple(sorted({a % r for a in self.d.axes(r, 1)})) if r else ()
        if not r or not all(x.shape[a] for a in axes):
            return
        op, keep = self.d.pick(*(n for n in REDUCE if n not in self.excluded)), self.d.int(0, 1)
        result = np.asarray(REDUCE[op](x, axis=axes, keepdims=bool(keep))).astype(self.kind)
        if op == "ReduceSum" or self.d.opset >= 18:
            self.node(op, [name, self.ints(axes)], [result], keepdims=keep)
        else:
            self.node(op, [name], [result], keepdims=keep, axes=list(axes))

    def softmax(self, name, x, r):
        if r and all(x.shape):
            axis = self.d.axis(r)
            e = np.exp(x - x.max(axis=axis, keepdims=True))
            self.node("Softmax", [name], [(e / e.sum(axis=axis, keepdims=True)).astype(self.kind)], axis=axis)

    def transpose(self, name, x, r):
        perm = [int(i) for i in self.d.rng.permutation(r)]
        if r:
            self.node("Transpose", [name], [x.transpose(perm)], perm=perm)

    def reshape(self, name, x, r):
        if not x.size:
            return
        how = self.d.int(0, 2)
        if how == 0 and r:
            at = self.d.int(0, r)
            lead = int(np.prod(x.shape[:at]))
            self.node("Flatten", [name], [x.reshape(lead, -1)], axis=at)
        elif how == 1 and r < 5:
            at = self.d.int(0, r)
            self.node("Unsqueeze", [name, self.ints([at])], [np.expand_dims(x, at)])
        else:
            sizes, total = [], x.size
            while total > 1 and len(sizes) < 3:
                n = self.d.pick(*[f for f in range(1, total + 1) if total % f == 0])
                sizes.append(n)
                total //= n
            sizes.append(total)
            if self.d.maybe():
                sizes[self.d.int(0, len(sizes) - 1)] = -1
            self.node("Reshape", [name, self.ints(sizes)], [x.reshape(sizes)])

    def concat(self, name, x, r):
        if r and x.size * 2 <= LIMIT:
            axis = self.d.axis(r)
            other = self.some(lambda y: y.ndim == r and all(a == b or i == axis % r for i, (a, b) in enumerate(zip(x.shape, y.shape))) and
                              x.size + y.size <= LIMIT)
            parts = [name, other, name][:self.d.int(2, 3)]
            if sum(self.values[p].size for p in parts) <= LIMIT:
                self.node("Concat", parts, [np.concatenate([self.values[p] for p in parts], axis)], axis=axis)

    def split(self, name, x, r):
        if r:
            axis = self.d.axis(r)
            a = self.d.int(0, x.shape[axis])
            sizes = [a, x.shape[axis] - a]
            self.node("Split", [name, self.ints(sizes)], np.split(x, [a], axis), axis=axis)

    def slice(self, name, x, r):
        if r:
            axis = self.d.int(0, r - 1)
            n, step = x.shape[axis], self.d.pick(1, 1, 2, -1, -2)
            a, b = self.d.int(0, n), self.d.int(0, n)
            start, end = (min(a, b), max(a, b)) if step > 0 else (max(a, b) - 1, min(a, b) - 1)
            cut = [slice(None)] * r
            cut[axis] = slice(start, end if end >= 0 else None, step) if start >= 0 else slice(0, 0)
            if start >= 0:
                self.node("Slice", [name, self.ints([start]), self.ints([end if end >= 0 else -2**62]), self.ints([axis]), self.ints([step])],
                          [x[tuple(cut)]])

    def pad(self, name, x, r):
        pads = [[self.d.int(0, 2) for _ in range(r)] for _ in range(2)]
        y = np.pad(x, list(zip(*pads))) if r else x
        if r and y.size <= LIMIT:
            mode = "edge" if self.d.maybe(0.3) and x.size else "constant"
            y = np.pad(x, list(zip(*pads)), mode)
            self.node("Pad", [name, self.ints(pads[0] + pads[1])], [y], mode=mode)

    def expand(self, name, x, r):
        shape = [self.d.int(1, 3)] * self.d.int(0, 1) + [self.d.int(1, 3) if n == 1 else n for n in x.shape]
        if np.prod(shape) <= LIMIT and len(shape) < 6:
            self.node("Expand", [name, self.ints(shape)], [np.broadcast_to(x, shape)])

    def gather(self, name, x, r):
        if r and all(x.shape):
            axis = self.d.int(0, r - 1)
            at = self.d.value(np.int64, self.d.shape(0, 2, most=5), low=0, high=x.shape[axis] - 1)
            y = np.take(x, at, axis)
            if y.size <= LIMIT and y.ndim < 6:
                self.node("Gather", [name, self.give(at, self.d.maybe())], [y], axis=axis)

    def matmul(self, name, x, r):
        if r >= 2:
            n = self.d.size(17)
            other = self.some(lambda y: y.ndim == 2 and y.shape[0] == x.shape[-1]) if self.d.maybe(0.3) else None
            other = other or self.give(self.d.value(self.kind, (x.shape[-1], n), edges=False, scale=0.3), self.d.maybe(0.7))
            y = (x @ self.values[other]).astype(self.kind)
            if y.size <= LIMIT:
                self.node("MatMul", [name, other], [y])

    def norm(self, name, x, r):
        if r and all(x.shape):
            axis = self.d.axis(r)
            axes = tuple(range(axis % r, r))
            scale = self.give(self.d.value(self.kind, x.shape[axis % r:], edges=False), True)
            m, v = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
            self.node("LayerNormalization", [name, scale], [((x - m) / np.sqrt(v + 0.1) * self.values[scale]).astype(self.kind)], axis=axis,
                      epsilon=0.1)

    def cast(self, name, x, r):
        if jumps(x):
            return
        whole, = self.node("Cast", [name], [np.clip(x, -1e6, 1e6).astype(np.int32)], to=6)
        if np.abs(x).max(initial=0) < 1e6:
            self.node("Cast", [whole], [self.values[whole].astype(self.kind)], to=op_test.elem_type(x))

    def cumsum(self, name, x, r):
        if r:
            axis = self.d.int(0, r - 1)
            self.node("CumSum", [name, self.give(np.int64(axis), True)], [np.cumsum(x, axis, dtype=self.kind)])

    def conv(self, name, x, r):
        if r == 4 and all(x.shape) and x.size <= 2048:
            k = [self.d.int(1, min(3, n)) for n in x.shape[2:]]
            w = self.d.value(self.kind, (self.d.int(1, 5), x.shape[1], *k), edges=False, scale=0.3)
            y = np.zeros((x.shape[0], w.shape[0], x.shape[2] - k[0] + 1, x.shape[3] - k[1] + 1))
            for i in range(k[0]):
                for j in range(k[1]):
                    y += np.einsum("nchw,oc->nohw", x[:, :, i:i + y.shape[2], j:j + y.shape[3]].astype(np.float64), w[:, :, i, j].astype(np.float64))
            self.node("Conv", [name, self.give(w, True)], [y.astype(self.kind)])


    def body(self, name, of):
        """A body of one to three maps of a value, which keep its shape: (nodes, name of the result, what computes it from the value)."""
        nodes, steps = [], []
        for _ in range(self.d.int(1, 3)):
            operands = [name]
            if self.d.maybe():
                op = self.d.pick(*(n for n in UNARY if n not in ("Floor", "Sin") and (self.float or n in WHOLE)))
                steps.append(UNARY[op])
            else:
                op = self.d.pick(*(("Add", "Sub", "Max", "Min") if self.float else BINARY))
                other = self.some(lambda y: y.shape == of.shape) if self.d.maybe(0.6) else None
                operands.append(other or self.give(self.d.value(self.kind, of.shape[self.d.int(0, of.ndim):], edges=False), self.d.maybe()))
                steps.append(functools.partial(lambda f, y, x: f(x, y), BINARY[op], self.values[operands[1]]))
            self.serial += 1
            name = f"b{self.serial}"
            nodes.append((op, operands, [name], {}))
        return nodes, name, lambda x: functools.reduce(lambda v, f: f(v).astype(self.kind), steps, x)

    def branch(self, name, x, r):
        which, kind = self.give(np.asarray(self.d.maybe()), self.d.maybe(0.2)), op_test.elem_type(x)
        (yes, y, f), (no, n, g) = self.body(name, x), self.body(name, x)
        self.node("If", [which], [(f if self.values[which] else g)(x)], then_branch=op_test.Body([], yes, [(y, kind)]),
                  else_branch=op_test.Body([], no, [(n, kind)]))

    def loop(self, name, x, r):
        """A value that each trip changes, and the stack of it."""
        trips, kind = self.d.int(0 if self.d.zero else 1, 4), op_test.elem_type(x)
        if x.size * (trips + 1) > LIMIT or r > 4:
            return
        self.serial += 1
        i, go, v = (f"{k}{self.serial}" for k in ("i", "go", "v"))
        nodes, y, f = self.body(v, x)
        states = [x]
        for _ in range(trips):
            states.append(f(states[-1]))
        body = op_test.Body([(i, 7, ()), (go, 9, ()), (v, kind)], [*nodes, ("Identity", [go], [go + "_"], {}), ("Identity", [v], [v + "_"], {})],
                            [(go + "_", 9, ()), (y, kind), (v + "_", kind)])
        names = self.node("Loop", [self.give(np.int64(trips), self.d.maybe()), "", name],
                          [states[-1], np.stack(states[:-1]) if trips else np.zeros((0, *x.shape), self.kind)], body=body)
        if not trips:
            del self.values[names[1]]       # an empty stack, whose other sizes nobody has computed

    def operator(self, name, x, r):
        """Any operator, on operands of its own but for one, which is a value at hand if there is one of its type and size."""
        names, cases = known(self.d.opset)
        if self.d.maybe(0.6):
            op = self.d.pick(*names)
            d = Draw(self.d.rng, "", op, self.d.opset)
            d.edges, d.likely, d.sure = False, self.kind, 0.8
            case = fuzz_table.TABLE[op](d)
            oracle = case.oracle[0] if isinstance(case.oracle, tuple) else None
        else:
            case, oracle = self.d.pick(*cases), "ort"
        inputs, names = list(case.inputs), [None] * len(case.inputs)
        if oracle != "ort":
            return
        mine = [i for i, v in enumerate(inputs) if v is not None and v.dtype == self.kind and v.size > 1 and i not in case.const]
        at = self.d.pick(*mine) if mine else None
        if at is not None:
            found = self.some(lambda y: y.size == inputs[at].size)
            if found is None:
                found, = self.node("Neg", [self.give(-inputs[at])], [inputs[at]])
            inputs[at], names[at] = self.values[found].reshape(inputs[at].shape), found
            if case.op in ("Sin", "Cos", "Tan") and turns(inputs[at]):
                return
        results = self.answer(case, inputs, at)
        if results is None:
            return
        if at is not None and self.values[found].shape != inputs[at].shape:
            names[at], = self.node("Reshape", [found, self.ints(inputs[at].shape)], [inputs[at]])
        operands = [n or ("" if v is None else self.give(v, i in case.const)) for i, (n, v) in enumerate(zip(names, inputs))]
        self.node(f"{case.domain}.{case.op}".lstrip("."), operands, results, **{k: v for k, v in case.attrs.items() if v is not None})
        self.tol = max(self.tol, case.tol)

    def answer(self, case, inputs, at):
        """The results of a case on other inputs. None: there are none, rounding of inputs[at] would decide about them, or oracles disagree."""
        answers = []
        for move in (0, 1e-5, -1e-5) if at is not None else (0,):
            one = op_test.Case(f"{case.domain}.{case.op}".lstrip("."), list(inputs), case.attrs, self.d.opset if not case.domain else 1, case.nout)
            if move:
                signs = np.sign(np.random.default_rng(1).standard_normal(inputs[at].shape))
                one.inputs[at] = (inputs[at] + move * signs * (1 + np.abs(inputs[at]))).astype(self.kind)
            try:
                answers.append(op_test.by_ort(one))
            except Exception:       # many kinds
                return None
        finite = lambda y: y.dtype.kind in "biuOUS" or np.isfinite(y.astype(np.float64)).all()      # who knows what a maximum makes of NaN
        if not all(isinstance(y, np.ndarray) and y.size <= LIMIT and y.ndim < 6 and finite(y) for y in answers[0]):
            return None
        if case.op in ("Cast", "CastLike") and beyond(inputs[0], answers[0][0].dtype):
            return None
        try:
            for other in answers[1:]:
                op_test.compare(answers[0], other, 1e-3, slack=1)
        except op_test.Different:
            return None
        one.inputs = inputs
        try:
            op_test.compare(op_test.by_reference(one), answers[0], 1e-3, slack=1)
        except op_test.Different:
            return None
        except Exception:
            pass
        return answers[0]


def chain(d):
    """A case of 2 to 14 nodes."""
    d.edges, d.opset = d.maybe(0.15), d.pick(*OPSETS)
    c = Chain(d, d.pick(*KINDS))
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        for _ in range(d.int(1, 2)):
            shape = d.shape(1, 4, most=17, limit=1500)
            if d.maybe(0.3):        # rows of several vectors
                shape = (*shape[:-1], d.pick(33, 48, 64, 70, 129))
            c.give(d.value(c.kind, shape if np.prod(shape) < LIMIT // 4 else shape[-1:], huge=d.edges))
        want = d.pick(2, 3, d.int(3, 14))
        for _ in range(40):
            if len(c.nodes) < want:
                c.step()
    if not c.nodes:
        c.unary("x0", c.values["x0"], 0)
    used = {o for n in c.nodes for o in n[1]}
    results = [r for n in c.nodes for r in n[2] if r in c.values and (r not in used or d.maybe(0.1))]
    oracle = None if c.kind.itemsize == 2 or d.edges else ("ort",)
    case = Graph(c.inputs, c.nodes, results, d.opset, tol=c.tol, const=c.const, slack=int(c.float), oracle=oracle)
    if d.maybe(0.4):
        lists = [i for i, x in enumerate(c.inputs) if x.dtype.kind == "i" and x.ndim == 1]      # of axes or sizes: how many decides about ranks
        case.dynamic = d.dims(c.inputs) | {i: list(c.inputs[i].shape) for i in lists}
    return case
