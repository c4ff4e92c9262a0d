"""What generators of the operator fuzzer draw from: sizes, types that the schema allows, values, and cases."""
import ml_dtypes
import numpy as np
import onnx
from op_test import Case

DTYPE = {f"tensor({k})": np.dtype(v) for k, v in {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    **{f"{u}int{n}": f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)}}.items()}
DTYPE["tensor(bfloat16)"] = np.dtype(ml_dtypes.bfloat16)
# of operators that move elements alone
SMALL = {f"tensor({k})": np.dtype(getattr(ml_dtypes, v)) for k, v in {
    "float8e4m3fn": "float8_e4m3fn", "float8e4m3fnuz": "float8_e4m3fnuz", "float8e5m2": "float8_e5m2", "float8e5m2fnuz": "float8_e5m2fnuz",
    "float4e2m1": "float4_e2m1fn", "float8e8m0": "float8_e8m0fnu", "int4": "int4", "uint4": "uint4"}.items()}
SMALL |= {"tensor(complex64)": np.dtype("complex64"), "tensor(complex128)": np.dtype("complex128")}
MOVING = set("Identity Reshape Flatten Transpose Squeeze Unsqueeze Concat Split Slice Expand Tile Pad Shape Size DepthToSpace SpaceToDepth Trilu "
             "Gather GatherElements GatherND Where Compress ReverseSequence".split())
FLOAT = ("float32", "float64", "float16", "bfloat16")
SIZES = [1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 31, 33, 64]
EDGE = [0.0, -0.0, np.inf, -np.inf, np.nan]
HUGE = [1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-40, -1e-40, 1e-30, 1e30, -1e30, 3.4e38, -3.4e38, 88.7, 89.0, -87.4, -104.0, 1e5, 12345.678]


class Draw:
    """Choices for one case of an operator at a version of its domain. Everything follows from rng."""

    def __init__(self, rng, domain, op, opset):
        self.rng, self.op, self.opset, self.domain = rng, op, opset, domain
        self.full_name = f"{domain}.{op}" if domain else op
        try:
            self.schema = onnx.defs.get_schema(op, opset, domain)
        except onnx.defs.SchemaError:
            self.schema = None
        self.since = self.schema.since_version if self.schema else 1
        self.zero = self.maybe(0.08)                # whether sizes may be 0
        self.edges = self.maybe(0.2)                # whether floats have infinities and NaN
        self.likely, self.sure = np.dtype("float32"), 0.45      # a type that is drawn more often where it is allowed

    # --- choices ---

    def maybe(self, p=0.5):
        return bool(self.rng.random() < p)

    def pick(self, *options):
        return options[int(self.rng.integers(len(options)))]

    def int(self, low, high):
        """From low to high, both included."""
        return int(self.rng.integers(low, high, endpoint=True))

    def real(self, low, high):
        return float(np.float32(self.rng.uniform(low, high)))

    def opt(self, *options, p=0.5):
        """None, which leaves an attribute out, or one of the options."""
        return self.pick(*options) if self.maybe(p) else None

    # --- shapes ---

    def size(self, most=64):
        if self.zero and self.maybe(0.25):
            return 0
        return min(int(self.rng.choice(SIZES)), most)

    def shape(self, low=0, high=5, most=64, limit=4096):
        """Sizes of a rank between low and high, at most `limit` elements."""
        rank, total, sizes = self.int(low, high), 1, []
        for _ in range(rank):
            n = self.size(max(1, min(most, limit // total)))
            total *= max(n, 1)
            sizes.append(n)
        self.rng.shuffle(sizes)
        return tuple(int(n) for n in sizes)

    def broadcast(self, n, high=4):
        """n shapes that broadcast together."""
        whole = self.shape(0, high)
        shapes = [tuple(1 if self.maybe(0.25) else s for s in whole[self.int(0, len(whole)) if self.maybe(0.4) else 0:])
                  for _ in range(n)]
        shapes[self.int(0, n - 1)] = whole
        return shapes

    def axis(self, rank, extra=0):
        """An axis of a rank, counted from the end sometimes."""
        return self.int(-rank - extra, rank - 1 + extra)

    def axes(self, rank, low=0):
        """Distinct axes in any order."""
        chosen = self.rng.permutation(rank)[:self.int(min(low, rank), rank)]
        return [int(a) - (rank if self.maybe(0.3) else 0) for a in chosen]

    # --- types and values ---

    def dtype(self, operand=0, only=None):
        """A type that the schema allows for an operand."""
        allowed = list(DTYPE.values())
        if self.schema:
            formal = self.schema.inputs[min(operand, len(self.schema.inputs) - 1)]
            types = DTYPE | SMALL if self.op in MOVING else DTYPE
            allowed = [types[t] for t in sorted(formal.types) if t in types]
        if only:
            allowed = [t for t in allowed if t.name in only]
        return self.likely if self.likely in allowed and self.maybe(self.sure) else allowed[self.int(0, len(allowed) - 1)]

    def value(self, dtype, shape, scale=1.0, low=None, high=None, edges=True, huge=False):
        """An array. Floats: normal numbers, with infinities and NaN now and then unless edges is False, with huge and tiny
        ones if huge; or uniform from low to high. Integers: small ones, or from low to high."""
        dtype, rng = np.dtype(dtype), self.rng
        if dtype in SMALL.values():
            x = np.asarray(rng.integers(0 if dtype.name == "uint4" else -8, 15 if dtype.name == "uint4" else 7, shape, endpoint=True))
            return (x.astype(np.float32) / (1 if "int" in dtype.name else 2)).astype(dtype)
        if dtype == bool:
            return np.asarray(rng.integers(0, 2, shape), bool)
        if dtype.name not in FLOAT:
            info = np.iinfo(dtype)
            low = max(info.min, -20) if low is None else low
            high = min(info.max, 20) if high is None else high
            x = rng.integers(low, high, shape, np.int64, endpoint=True)
            if huge and self.edges:
                x = np.where(rng.random(shape) < 0.2, rng.choice(np.array([info.min, min(info.max, 2**63 - 1)]), shape), x)
            return np.asarray(x).astype(dtype)
        x = rng.standard_normal(shape) * scale if low is None else rng.uniform(low, high, shape)
        if self.edges and edges:
            odd = np.array(EDGE + (HUGE if huge else []))
            x = np.where(rng.random(shape) < (0.5 if huge else 0.03), odd[rng.integers(0, len(odd), shape)], x)
        with np.errstate(all="ignore"):
            return np.asarray(x).astype(dtype)

    def ints(self, values, kind=np.int64):
        return np.asarray(values, kind)

    # --- cases ---

    def case(self, inputs, attrs=None, nout=1, tol=None, shapelike=(), always=(), oracle=None, **more):
        """shapelike: operands that are constants more often than not; always: those that have to be."""
        const = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and
                 (self.maybe(0.7 if i in shapelike else 0.12) or i in always)]
        kinds = {x.dtype.name for x in inputs if isinstance(x, np.ndarray)}
        narrow = kinds & {"float16", "bfloat16"}
        if tol is None:
            tol = 1e-5 if narrow or "float64" not in kinds else 1e-9
        c = Case(self.full_name, inputs, attrs, self.opset, nout, tol=tol, const=const, **more)
        c.dynamic = self.dims(inputs) if self.maybe(0.35) else False
        c.oracle = oracle or (("ort-wide", "reference-wide") if narrow else ("ort", "reference"))
        return c

    def dims(self, inputs):
        """For each operand the sizes that its type declares: numbers, or symbols, which equal sizes share now and then."""
        found, share, keep = {}, self.maybe(0.3), self.maybe(0.5)
        for i, x in enumerate(inputs):
            if isinstance(x, np.ndarray):
                found[i] = [n if keep and self.maybe(0.4) else f"s{n}" if share and n > 1 else f"d{i}_{k}"
                            for k, n in enumerate(x.shape)]
        return found
