"""The table of the operator fuzzer: for each operator a generator of cases, which knows what attributes and operands go together."""
import numpy as np
from fuzz_draw import DTYPE, FLOAT

TABLE = {}                                  # "Name" or "domain.Name" -> generator(draw) -> Case
UNTESTED = {                                # operators of --list-ops without a generator, and why
    "Constant": "every other case has constants", "If": "control", "Loop": "control", "Scan": "control",
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"),
                    "random: tests/eval/random_ops.py"),
}


def gen(names):
    def add(f):
        for name in names.split():
            TABLE[name] = f
        return f
    return add


# --- elementwise -----------------------------------------------------------------------------------------

ATTRS = {   # of elementwise operators: name -> attributes
    "LeakyRelu": lambda d: {"alpha": d.opt(0.2, 0.0, -0.5, 1.0)}, "Elu": lambda d: {"alpha": d.opt(0.2, 2.0)},
    "Celu": lambda d: {"alpha": d.opt(0.3, 2.0)}, "ThresholdedRelu": lambda d: {"alpha": d.opt(0.0, 0.7, -0.5)},
    "HardSigmoid": lambda d: {"alpha": d.opt(0.5), "beta": d.opt(0.1)},
    "Gelu": lambda d: {"approximate": d.opt("none", "tanh")}, "Swish": lambda d: {"alpha": d.opt(0.5, 2.0)},
    "Shrink": lambda d: {"bias": d.opt(0.5), "lambd": d.opt(0.0, 1.0)},
    # other defaults before 6
    "Selu": lambda d: {"alpha": d.opt(1.2, p=1 if d.since < 6 else 0.5), "gamma": d.opt(0.5, p=1 if d.since < 6 else 0.5)},
    "IsInf": lambda d: {"detect_negative": d.opt(0, 1), "detect_positive": d.opt(0, 1)},
}


EXP = {     # exp(x) - 1, which onnx.reference and ONNX Runtime compute as written: 0 of tiny x
    "Elu": lambda x, alpha=1.0: np.where(x < 0, alpha * np.expm1(x), x),
    "Celu": lambda x, alpha=1.0: np.where(x < 0, alpha * np.expm1(x / alpha), x),
    "Selu": lambda x, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875: gamma * np.where(x <= 0, alpha * np.expm1(x), x),
}


@gen("Abs Neg Sign Floor Ceil Round Sqrt Reciprocal Exp Log Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf Sigmoid Not "
     "BitwiseNot IsNaN IsInf Relu LeakyRelu Elu Selu Celu ThresholdedRelu Softplus Softsign HardSigmoid HardSwish Mish Swish Gelu Shrink "
     "Identity")
def unary(d):
    attrs = ATTRS.get(d.op, lambda d: {})(d)
    x = d.value(d.dtype(only=FLOAT if d.op == "Erf" else None), d.shape(), huge=d.op != "Shrink", scale=d.pick(1.0, 1.0, 10.0))
    given = {k: float(np.float32(v)) for k, v in attrs.items() if v is not None} if d.op in EXP else {}
    return d.case([x], attrs, tol=2e-5, oracle=(lambda x: EXP[d.op](x.astype(np.float64), **given).astype(x.dtype)) if d.op in EXP else None)


def legacy_broadcast(d, whole):
    """The shape of a second operand before version 7, and the attributes."""
    if d.maybe():
        return whole, {}
    at = d.int(0, max(0, len(whole) - 1))
    end = d.int(at, len(whole))
    return whole[at:end], {"broadcast": 1, "axis": None if end == len(whole) and d.maybe() or not whole else at}


def legacy(f, attrs):
    """An oracle for operators with the attributes axis and broadcast."""
    def oracle(a, b):
        axis = attrs.get("axis")
        if axis is not None:
            b = b.reshape(b.shape + (1,) * (a.ndim - axis - b.ndim))
        return [np.asarray(f(a, b))]
    return oracle


LEGACY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power, "And": np.logical_and,
          "Or": np.logical_or, "Xor": np.logical_xor, "Equal": np.equal, "Greater": np.greater, "Less": np.less}


@gen("Add Sub Mul Div And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual BitwiseAnd BitwiseOr BitwiseXor")
def binary(d):
    kind, attrs, oracle = d.dtype(), {}, None
    a, b = d.broadcast(2)
    if d.since < 7:
        a = d.shape(0, 4)
        b, attrs = legacy_broadcast(d, a)
        oracle = legacy(LEGACY[d.op], attrs)
    x, y = d.value(kind, a, huge=True), d.value(kind, b, huge=True)
    if d.op == "Div" and kind.name not in FLOAT:
        y = np.where(y == 0, kind.type(3), y)
        x = np.where(x == np.iinfo(kind).min, kind.type(5), x) if kind.kind == "i" and (y == -1).any() else x
        oracle = oracle and legacy(lambda a, b: np.trunc(a / b).astype(a.dtype), attrs)
    return d.case([np.asarray(x), np.asarray(y)], attrs, oracle=oracle)


@gen("Pow")
def power(d):
    attrs, oracle = {}, None
    a, b = d.broadcast(2)
    kind = d.dtype(0)
    other = d.dtype(1) if d.since >= 12 else kind
    if d.since < 7:
        a = d.shape(0, 4)
        b, attrs = legacy_broadcast(d, a)
        oracle = legacy(np.power, attrs)
    x = d.value(kind, a, low=-4, high=4) if kind.name not in FLOAT else d.value(kind, a, low=d.pick(0.1, -3.0), high=4.0, edges=other.name in FLOAT)
    y = d.value(other, b, low=0, high=3) if other.name not in FLOAT else np.asarray(
        d.pick(d.value(other, b, edges=kind.name in FLOAT), np.full(b, d.pick(2.0, 3.0, 0.5, 1.0, 0.0, -1.0, -0.5)))).astype(other)
    if kind.name not in FLOAT and other.name in FLOAT:
        y = np.abs(np.rint(y.astype(np.float64))).astype(other)
    return d.case([x, np.asarray(y)], attrs, tol=2e-5, oracle=oracle)


@gen("Mod")
def mod(d):
    kind = d.dtype()
    a, b = d.broadcast(2)
    x, y = d.value(kind, a, scale=5.0), d.value(kind, b, scale=3.0)
    if kind.name not in FLOAT:
        y = np.where(y == 0, kind.type(3), y)
    return d.case([x, np.asarray(y)], {"fmod": 1 if kind.name in FLOAT else d.opt(0, 1)})


@gen("BitShift")
def bitshift(d):
    kind = d.dtype()
    a, b = d.broadcast(2)
    return d.case([d.value(kind, a, high=100), d.value(kind, b, high=kind.itemsize * 8 - 1)], {"direction": d.pick("LEFT", "RIGHT")})


@gen("Max Min Sum Mean")
def variadic(d):
    kind, n = d.dtype(), d.int(1, 4)
    shapes = d.broadcast(n) if d.since >= 8 else [d.shape(0, 4)] * n
    return d.case([d.value(kind, s, huge=d.op in ("Max", "Min")) for s in shapes])


@gen("Where")
def where(d):
    kind = d.dtype(1)
    a, b, c = d.broadcast(3)
    return d.case([d.value(bool, a), d.value(kind, b, huge=True), d.value(kind, c, huge=True)])


@gen("PRelu")
def prelu(d):
    kind, x = d.dtype(), d.shape(1, 4)
    slope = d.pick((1,), x[-1:], x, tuple(1 if d.maybe() else n for n in x)) if d.since >= 7 else d.pick((1,), x[1:2] or (1,))
    a, b = d.value(kind, x, huge=True), d.value(kind, slope)
    along = b.reshape(slope + (1,) * (len(x) - 2)) if slope != (1,) and d.since < 7 else b
    return d.case([a, b], oracle=lambda *operands: [np.where(a < 0, along * a, a)])     # those that there are say infinity * 0


@gen("Clip")
def clip(d):
    kind = d.dtype()
    x = d.value(kind, d.shape(), huge=True)
    low, high = (d.opt(-0.5, 0.25), d.opt(0.5, 1.0)) if kind.name in FLOAT else (d.opt(0, 3), d.opt(5, 7))
    oracle = ("reference", "ort") if kind.name not in ("float16", "bfloat16") else None
    if d.since < 11:
        return d.case([x], {"min": low, "max": high}, oracle=oracle)
    return d.case([x, *[None if v is None else np.asarray(v).astype(kind) for v in (low, high)]], oracle=oracle)


@gen("Cast")
def cast(d):
    kind, to = d.dtype(), d.pick(*DTYPE.values())
    whole = to.name not in FLOAT
    x = d.value(kind, d.shape(), scale=d.pick(1.0, 20.0), low=0 if whole and to.kind == "u" else None, high=100 if whole and to.kind == "u" else None,
                edges=to.name in FLOAT or to == bool, huge=not whole)
    from onnx import helper
    number = helper.np_dtype_to_tensor_dtype(to)
    if d.since < 6:
        number = {v: k for k, v in __import__("onnx").TensorProto.DataType.items()}[number]
    return d.case([x], {"to": number}, oracle=("ort", "reference"), tol=1e-6)


@gen("CastLike")
def cast_like(d):
    kind, to = d.dtype(), d.pick(*DTYPE.values())
    unsigned = to.kind == "u"
    x = d.value(kind, d.shape(), scale=10.0, low=0 if unsigned else None, high=100 if unsigned else None, edges=to.name in FLOAT)
    return d.case([x, d.value(to, d.shape(0, 2))], oracle=("ort", "reference"), tol=1e-6)


# --- reductions ------------------------------------------------------------------------------------------

@gen("ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare")
def reduce(d):
    kind, shape = d.dtype(only=FLOAT if "Log" in d.op else None), d.shape(0, 5)     # every oracle rounds logarithms to integers in its own way
    low, high = {"ReduceLogSum": (0.5, 2.0), "ReduceProd": (1, 2) if kind.name not in FLOAT else (None, None)}.get(d.op, (None, None))
    x = d.value(kind, shape, low=low, high=high)
    axes, attrs = d.opt(d.axes(len(shape)), p=0.8), {"keepdims": d.opt(0, 1)}
    if d.schema and "axes" in d.schema.attributes:
        return d.case([x], {**attrs, "axes": axes or None})
    attrs["noop_with_empty_axes"] = d.opt(0, 1)
    return d.case([x, None if axes is None else d.ints(axes)], attrs, shapelike=(1,))


@gen("ArgMax ArgMin")
def arg(d):
    shape = d.shape(1, 4)
    last = d.opt(0, 1) if d.since >= 12 else None
    x = d.value(d.dtype(), shape, edges=False)
    x = np.rint(x) if d.maybe() and x.dtype.kind == "f" else x
    axis = d.axis(len(shape)) if d.since >= 11 else d.int(0, len(shape) - 1)
    return d.case([x], {"axis": axis, "keepdims": d.opt(0, 1), "select_last_index": last})


@gen("CumSum CumProd")
def cumulate(d):
    shape = d.shape(1, 4)
    kind = d.dtype()
    x = d.value(kind, shape, low=None if d.op == "CumSum" else 1, high=None if d.op == "CumSum" else 2)
    return d.case([x, np.asarray(d.axis(len(shape)), d.pick(np.int32, np.int64))], {"exclusive": d.opt(0, 1), "reverse": d.opt(0, 1)},
                  shapelike=(1,))


@gen("Softmax LogSoftmax Hardmax")
def softmax(d):
    shape = d.shape(1, 4)
    axis = d.opt(d.axis(len(shape)) if d.since >= 11 else d.int(0, len(shape) - 1), p=0.8 if len(shape) > 1 else 1)
    return d.case([d.value(d.dtype(), shape, scale=d.pick(1.0, 20.0), edges=d.op != "Hardmax")], {"axis": axis},
                  oracle=("ort",) if d.since < 13 else None)       # onnx.reference has the new meaning only


# --- normalisation ---------------------------------------------------------------------------------------

@gen("BatchNormalization")
def batchnorm(d):
    kind, shape = d.dtype(), d.shape(2, 5)
    c = [d.value(kind, shape[1:2], edges=False) for _ in range(3)] + [d.value(kind, shape[1:2], low=0.1, high=2)]
    attrs = {"epsilon": d.opt(1e-3, 0.0), "momentum": d.opt(0.5)}
    attrs["is_test"] = 1 if d.since < 7 else None
    return d.case([d.value(kind, shape), *c], attrs, tol=1e-4)


@gen("LayerNormalization RMSNormalization")
def layernorm(d):
    kind, shape = d.dtype(), d.shape(1, 4)
    axis = d.axis(len(shape))
    tail = shape[axis % len(shape):]
    inputs = [d.value(kind, shape), d.value(kind, tail)]
    layer = d.op == "LayerNormalization"
    if layer and d.maybe():
        inputs.append(d.value(kind, tail))
    return d.case(inputs, {"axis": axis, "epsilon": d.opt(1e-3)}, nout=d.int(1, 3) if layer and kind == np.float32 else 1, tol=2e-4,
                  slack=0.01)   # of a mean near 0


@gen("InstanceNormalization")
def instancenorm(d):
    kind, shape = d.dtype(), d.shape(3, 5)
    return d.case([d.value(kind, shape), *[d.value(kind, shape[1:2]) for _ in range(2)]], {"epsilon": d.opt(1e-3)}, tol=2e-4)


@gen("GroupNormalization")
def groupnorm(d):
    kind, groups = d.dtype(), d.int(1, 3)
    rest = d.shape(1, 3, limit=400)
    c = groups * d.int(1, 4)
    per = (groups,) if d.since < 21 else (c,)
    return d.case([d.value(kind, (d.size(3), c, *rest)), d.value(kind, per), d.value(kind, per)],
                  {"num_groups": groups, "epsilon": d.opt(1e-3)}, tol=2e-4, oracle=("reference",) if d.since < 21 else None)


@gen("MeanVarianceNormalization")
def mvn(d):
    shape = d.shape(4, 4)
    return d.case([d.value(d.dtype(), shape, edges=False)], {"axes": d.opt(*[sorted(a % 4 for a in d.axes(4, 1))])}, tol=1e-4,
                  oracle=("reference", "ort"))


@gen("LpNormalization")
def lpnorm(d):
    shape = d.shape(1, 4)
    return d.case([d.value(d.dtype(), shape, edges=False)], {"axis": d.axis(len(shape)), "p": d.opt(1, 2)})


def lrn_of(x, size, alpha, beta, bias):
    square, c, wide = np.zeros(x.shape), x.shape[1], x.astype(np.float64)
    for k in range(c):
        square[:, k] = (wide[:, max(0, k - (size - 1) // 2):min(c, k + size // 2 + 1)]**2).sum(axis=1)
    return [(wide / (bias + alpha / size * square)**beta).astype(x.dtype)]


@gen("LRN")
def lrn(d):
    d.zero = False
    shape = d.shape(4, 4) if d.maybe(0.7) else d.shape(3, 5)
    size, alpha, beta, bias = d.int(1, 5), d.opt(0.1), d.opt(0.5), d.opt(2.0)
    return d.case([d.value(d.dtype(), shape, edges=False)], {"size": size, "alpha": alpha, "beta": beta, "bias": bias}, tol=1e-4,
                  oracle=lambda x: lrn_of(x, size, alpha or 1e-4, beta or 0.75, bias or 1.0))


# --- products and convolutions ---------------------------------------------------------------------------

@gen("MatMul")
def matmul(d):
    kind = d.dtype()
    m, k, n = d.size(), d.size(), d.size()
    batch = d.broadcast(2, 2)
    a, b = (*batch[0], m, k), (*batch[1], k, n)
    a, b = (a[-1:] if d.maybe(0.1) else a), (b[-2:-1] if d.maybe(0.1) else b)
    return d.case([d.value(kind, a), d.value(kind, b)], tol=1e-4)


@gen("Gemm")
def gemm(d):
    kind = d.dtype()
    m, k, n = d.size(), d.size(), d.size()
    ta, tb = d.opt(0, 1), d.opt(0, 1)
    c = None if d.maybe(0.3) and d.since >= 11 else d.value(kind, d.pick((m, n), (n,), (1, n), (m, 1), (1, 1), (1,), ())) \
        if d.since >= 7 else d.value(kind, (m, n))
    whole = kind.name not in FLOAT
    attrs = {"transA": ta, "transB": tb, "alpha": d.opt(2.0, 1.0) if whole else d.opt(0.5, 0.0), "beta": d.opt(2.0) if whole else d.opt(0.25, 0.0)}
    return d.case([d.value(kind, (k, m) if ta else (m, k)), d.value(kind, (n, k) if tb else (k, n)), c], attrs, tol=1e-4)


EINSUM = ["ij,jk->ik", "ij->ji", "ii->i", "ii", "ij,ij->", "ij,ij->ij", "bij,bjk->bik", "i,j->ij", "...ij,...jk->...ik", "ij,jk,kl->il", "ij,k",
          "abc,cd->abd", "bhqd,bhkd->bhqk", "...i->...", "i,i->", "ij->", "ij->j", "abc,ab->c", "b...i,bi->b...", "iij->ij", "ij , jk", "ba"]


@gen("Einsum")
def einsum(d):
    equation, sizes = d.pick(*EINSUM), {}
    extra = d.shape(0, 2, most=3)
    inputs = []
    kind = d.dtype()
    for term in equation.split("->")[0].replace(" ", "").split(","):
        shape = []
        for part in term.replace("...", "."):
            shape += extra if part == "." else [sizes.setdefault(part, d.size(9))]
        inputs.append(d.value(kind, tuple(shape)))
    return d.case(inputs, {"equation": equation}, tol=1e-4)


def window(d, spatial, sizes, dilated=True):
    """Attributes of a window that fits at least once: (kernel, attributes)."""
    sizes = [max(1, n) for n in sizes]
    kernel = [d.int(1, min(4, max(1, n))) for n in sizes]
    dilations = [d.int(1, 2) if k > 1 and 2 * (k - 1) < n else 1 for k, n in zip(kernel, sizes)] if dilated and d.maybe(0.3) else None
    attrs = {"strides": d.opt([d.int(1, 3) for _ in sizes]), "dilations": dilations}
    if d.maybe(0.3):
        attrs["auto_pad"] = d.pick("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
        if attrs["auto_pad"].startswith("SAME"):
            attrs["dilations"] = None       # of which ONNX Runtime's sizes of padding know nothing
        if attrs["strides"]:                # ONNX Runtime crops in front where a stride steps over all of a SAME window
            attrs["strides"] = [min(s, k) for s, k in zip(attrs["strides"], kernel)]
    else:
        attrs["pads"] = d.opt([d.int(0, k - 1) for k in kernel * 2])
    return kernel, attrs


def channels(d):
    group = d.pick(1, 1, 1, 2, 3)
    return group, group * d.int(1, 4), group * d.int(1, 5)


@gen("Conv")
def conv(d):
    kind, (group, cin, cout) = d.dtype(), channels(d)
    if d.maybe(0.15):
        group, cout = cin, cin * d.int(1, 2)
    d.zero = False
    spatial = d.shape(1, 3, most=17, limit=300)
    kernel, attrs = window(d, len(spatial), spatial)
    d.edges = d.edges and not attrs["dilations"]        # onnx.reference multiplies by the zeros between taps
    inputs = [d.value(kind, (d.pick(1, 1, 2), cin, *spatial)), d.value(kind, (cout, cin // group, *kernel), edges=False)]
    if d.maybe():
        inputs.append(d.value(kind, (cout,), edges=False))
    return d.case(inputs, {**attrs, "group": group if group > 1 else None, "kernel_shape": d.opt(kernel)}, tol=1e-4)


@gen("ConvTranspose")
def convtranspose(d):
    kind, (group, cin, cout) = d.dtype(), channels(d)
    d.zero = False
    spatial = d.shape(1, 2, most=9, limit=100)
    kernel, attrs = window(d, len(spatial), spatial)
    attrs["output_padding"] = d.opt([d.int(0, s - 1) for s in attrs["strides"]], p=0.3) if attrs["strides"] else None
    inputs = [d.value(kind, (d.int(1, 2), cin, *spatial), edges=False), d.value(kind, (cin, cout // group, *kernel), edges=False)]
    if d.maybe():
        inputs.append(d.value(kind, (cout,), edges=False))
    return d.case(inputs, {**attrs, "group": group if group > 1 else None, "kernel_shape": d.opt(kernel)}, tol=1e-4)


@gen("MaxPool AveragePool LpPool")
def pool(d):
    kind = d.dtype()
    d.zero = False
    spatial = d.shape(1, 3, most=17, limit=300)
    has = d.schema.attributes
    kernel, attrs = window(d, len(spatial), spatial, "dilations" in has)
    attrs["kernel_shape"] = kernel
    if d.op == "LpPool" and "auto_pad" in attrs:
        attrs["dilations"] = None           # ONNX Runtime forgets them
    if "ceil_mode" in has and "auto_pad" not in attrs:
        attrs["ceil_mode"] = d.opt(0, 1, p=0.3)
    if "count_include_pad" in has:
        attrs["count_include_pad"] = d.opt(0, 1)
    attrs["p"] = d.opt(1, 2, 3) if "p" in has else None
    nout = 1
    if d.op == "MaxPool" and d.since >= 8:
        nout = d.pick(1, 1, 2)
        attrs["storage_order"] = d.opt(0, 1) if nout == 2 else None
    x = d.value(kind, (d.int(1, 2), d.int(1, 5), *spatial), edges=False)
    return d.case([x], attrs, nout=nout, tol=1e-4)


@gen("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def globalpool(d):
    attrs = {"p": d.opt(1, 2, 3)} if d.op == "GlobalLpPool" else {}
    largest = lambda x: x.max(axis=tuple(range(2, x.ndim)), keepdims=True)      # onnx.reference gives another rank
    return d.case([d.value(d.dtype(), d.shape(3, 5), edges=d.op == "GlobalAveragePool")], attrs, tol=1e-4,
                  oracle=largest if d.op == "GlobalMaxPool" else None)


# --- quantised -------------------------------------------------------------------------------------------

EIGHT = (np.uint8, np.int8)


def zero_point(d, kind, shape=()):
    return d.value(kind, shape, low=-5 if np.dtype(kind).kind == "i" else 100, high=5 if np.dtype(kind).kind == "i" else 140)


@gen("QuantizeLinear")
def quantize(d):
    shape, kind = d.shape(1, 4), np.float32
    axis = d.axis(len(shape)) if d.since >= 13 else None
    per = d.pick((), (), (shape[axis],)) if axis is not None else ()
    to = d.pick(*EIGHT) if d.since < 21 else d.pick(np.uint8, np.int8, np.uint16, np.int16)
    zp = zero_point(d, to, per) if to in EIGHT else d.value(to, per, low=0, high=9)
    zp = None if d.maybe(0.2) else zp
    return d.case([d.value(kind, shape, scale=3, edges=False), d.value(kind, per, low=0.02, high=0.1, edges=False), zp], {"axis": axis})


@gen("DequantizeLinear")
def dequantize(d):
    shape = d.shape(1, 4)
    axis = d.axis(len(shape)) if d.since >= 13 else None
    per = d.pick((), (), (shape[axis],)) if axis is not None else ()
    kind = d.pick(*EIGHT, np.int32) if d.since < 21 else d.pick(np.uint8, np.int8, np.uint16, np.int16, np.int32)
    zp = None if d.maybe(0.2) or kind == np.int32 else zero_point(d, kind, per) if kind in EIGHT else d.value(kind, per, low=0, high=9)
    return d.case([d.value(kind, shape, low=0, high=100), d.value(np.float32, per, low=0.02, high=0.1, edges=False), zp], {"axis": axis})


@gen("DynamicQuantizeLinear")
def dynamic_quantize(d):
    d.zero = False
    return d.case([d.value(np.float32, d.shape(0, 4), edges=False, scale=3)], nout=3)


@gen("MatMulInteger")
def matmul_integer(d):
    a, b = d.pick(*EIGHT), d.pick(*EIGHT)
    m, k, n = d.size(), d.size(), d.size()
    batch = d.broadcast(2, 1)
    zps = d.int(0, 2)
    return d.case([d.value(a, (*batch[0], m, k), low=0, high=100), d.value(b, (*batch[1], k, n), low=0, high=100),
                   *[zero_point(d, (a, b)[i], d.pick((), (1,)) if i == 0 else d.pick((), (n,))) for i in range(zps)]])


@gen("ConvInteger")
def conv_integer(d):
    a, b = np.uint8, d.pick(*EIGHT)
    group, cin, cout = channels(d)
    d.zero = False
    spatial = d.shape(2, 2, most=9)
    kernel, attrs = window(d, 2, spatial)
    return d.case([d.value(a, (1, cin, *spatial), low=0, high=200), d.value(b, (cout, cin // group, *kernel), low=0, high=100),
                   *[zero_point(d, (a, b)[i]) for i in range(d.int(0, 2))]], {**attrs, "group": group})


@gen("QLinearMatMul")
def qlinear_matmul(d):
    a, b = d.pick((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    m, k, n = d.size(), d.size(), d.size()

    def s(*shape):
        return d.value(np.float32, shape, low=0.02, high=0.1, edges=False)
    per = d.pick((), (n,))
    return d.case([d.value(a, (m, k), low=0, high=100), s(), zero_point(d, a), d.value(b, (k, n), low=0, high=100), s(*per), zero_point(d, b, per),
                   s() * 40, zero_point(d, a)], shapelike=(1, 2, 3, 4, 5, 6, 7), slack=1)


@gen("QLinearConv")
def qlinear_conv(d):
    a, b = np.uint8, d.pick(*EIGHT)
    group, cin, cout = channels(d)
    d.zero = False
    spatial = d.shape(1, 2, most=9)
    kernel, attrs = window(d, len(spatial), spatial)
    one = np.asarray
    inputs = [d.value(a, (1, cin, *spatial), low=0, high=200), one(np.float32(0.05)), zero_point(d, a),
              d.value(b, (cout, cin // group, *kernel), low=0, high=100), one(np.float32(0.02)), zero_point(d, b), one(np.float32(1.5)),
              zero_point(d, a)]
    if d.maybe():
        inputs.append(d.value(np.int32, (cout,), low=-500, high=500))
    return d.case(inputs, {**attrs, "group": group}, shapelike=(1, 2, 3, 4, 5, 6, 7, 8), slack=1)


# --- movement --------------------------------------------------------------------------------------------

def factor(d, total):
    """A shape of a given number of elements."""
    sizes = []
    while total > 1 and len(sizes) < 4:
        n = d.pick(*[f for f in range(1, total + 1) if total % f == 0])
        sizes.append(n)
        total //= n
    return [*sizes, total] if total != 1 or not sizes else sizes


@gen("Reshape")
def reshape(d):
    shape = d.shape(0, 4, limit=512)
    total, allow = int(np.prod(shape)), d.opt(0, 1, p=0.3) if d.since >= 14 else None
    to = factor(d, total) if total else d.pick([0, 3], [2, 0, 5], list(shape)) if allow else list(shape)
    if total and to and d.maybe(0.4):
        to[d.int(0, len(to) - 1)] = -1
    elif not allow:
        to = [0 if i < len(shape) and n == shape[i] and d.maybe(0.3) else n for i, n in enumerate(to)]
    x = d.value(d.dtype(), shape)
    if d.since < 5:
        return d.case([x], {"shape": to})
    return d.case([x, d.ints(to)], {"allowzero": allow}, shapelike=(1,))


@gen("Flatten")
def flatten(d):
    shape = d.shape(0 if d.since >= 9 else 1, 4)
    axis = d.int(-len(shape), len(shape)) if d.since >= 11 else d.int(0, len(shape))
    return d.case([d.value(d.dtype(), shape)], {"axis": axis})


@gen("Transpose")
def transpose(d):
    shape = d.shape(0, 5)
    return d.case([d.value(d.dtype(), shape)], {"perm": d.opt([int(i) for i in d.rng.permutation(len(shape))], p=0.8) or None})


@gen("Squeeze")
def squeeze(d):
    shape = list(d.shape(0, 3))
    for _ in range(d.int(0, 3)):
        shape.insert(d.int(0, len(shape)), 1)
    ones = [i for i, n in enumerate(shape) if n == 1]
    axes = d.opt([a - (len(shape) if d.since >= 11 and d.maybe(0.3) else 0) for a in ones if d.maybe()], p=0.7)
    x = d.value(d.dtype(), tuple(shape))
    if d.since < 13:
        return d.case([x], {"axes": axes or None})
    return d.case([x, d.ints(axes) if axes else None], shapelike=(1,))


@gen("Unsqueeze")
def unsqueeze(d):
    shape, n = d.shape(0, 3), d.int(1, 3)
    rank = len(shape) + n
    axes = [int(a) - (rank if d.since >= 11 and d.maybe(0.3) else 0) for a in d.rng.permutation(rank)[:n]]
    x = d.value(d.dtype(), shape)
    return d.case([x], {"axes": sorted(a % rank for a in axes)}) if d.since < 13 else d.case([x, d.ints(axes)], shapelike=(1,))


@gen("Concat")
def concat(d):
    shape, kind = list(d.shape(1, 4)), d.dtype()
    axis = d.axis(len(shape)) if d.since >= 11 else d.int(0, len(shape) - 1)
    inputs = []
    for _ in range(d.int(1, 4)):
        shape[axis] = d.size(17)
        inputs.append(d.value(kind, tuple(shape)))
    return d.case(inputs, {"axis": axis})


@gen("Split")
def split(d):
    shape = list(d.shape(1, 4))
    axis = d.axis(len(shape)) if d.since >= 11 else d.int(0, len(shape) - 1)
    sizes = [d.size(9) for _ in range(d.int(1, 4))]
    attrs, given = {"axis": axis}, None
    if d.maybe(0.7):
        given = sizes
    elif d.since >= 18:
        n = len(sizes)
        sizes = [max(sizes)] * (n - 1) + [d.int(1 if max(sizes) else 0, max(sizes))]
        attrs["num_outputs"] = n
        if -(-sum(sizes) // n) != sizes[0]:
            sizes = [sizes[0]] * n
    else:
        sizes = [sizes[0]] * len(sizes)
    shape[axis] = sum(sizes)
    x = d.value(d.dtype(), tuple(shape))
    if d.since < 13:
        return d.case([x], {**attrs, "split": given}, nout=len(sizes))
    return d.case([x, None if given is None else d.ints(given)], attrs, nout=len(sizes), shapelike=(1,))


@gen("Slice")
def slice_(d):
    shape = d.shape(1, 4)
    axes = d.axes(len(shape), 1) if d.since >= 10 else [a % len(shape) for a in d.axes(len(shape), 1)]
    far = d.pick(2**63 - 1, 2**31 - 1, 1000)
    starts, ends, steps = [], [], []
    for a in axes:
        n = shape[a]
        step = d.pick(1, 1, 2, 3, -1, -2) if d.since >= 10 else 1
        starts.append(d.pick(d.int(-n - 1, n + 1), 0, far if step < 0 else 0))
        ends.append(d.pick(d.int(-n - 1, n + 1), -far if step < 0 else far, -far if step < 0 else n))
        steps.append(step)
    x, named = d.value(d.dtype(), shape), None if axes == list(range(len(axes))) and d.maybe() else axes
    if d.since < 10:
        return d.case([x], {"starts": starts, "ends": ends, "axes": named})
    kind = np.int64 if far > 2**31 else d.pick(np.int32, np.int64)
    steps = None if set(steps) == {1} and d.maybe() else steps
    return d.case([x, *[None if v is None else d.ints(v, kind) for v in (starts, ends, named, steps)]], shapelike=(1, 2, 3, 4))


@gen("Expand")
def expand(d):
    a, b = d.broadcast(2)
    return d.case([d.value(d.dtype(), a), d.ints(b)], shapelike=(1,))


@gen("Tile")
def tile(d):
    shape = d.shape(1, 4, most=9, limit=500)
    x = d.value(d.dtype(), shape)
    if d.since < 6:
        axis = d.int(0, len(shape) - 1)
        n = d.int(1, 3)
        return d.case([x, np.asarray(n).astype(x.dtype), np.asarray(axis).astype(x.dtype)],
                      oracle=lambda *operands: [np.concatenate([x] * n, axis)])
    return d.case([x, d.ints([d.int(0 if d.zero else 1, 3) for _ in shape])], shapelike=(1,))


@gen("Pad")
def pad(d):
    shape, mode = d.shape(1, 4, limit=500), d.pick("constant", "constant", "reflect", "edge", "wrap" if d.since >= 19 else "edge")
    axes = [a % len(shape) for a in d.axes(len(shape), 1)] if d.since >= 18 and d.maybe(0.3) else None
    of = [shape[a] for a in axes] if axes is not None else shape

    def amount(n):
        if mode == "reflect":
            return d.int(0, max(n - 1, 0))
        if mode == "wrap":
            return d.int(0, n)
        return d.int(-1 if mode == "constant" and n > 2 and d.maybe(0.2) else 0, 3) if n or mode == "constant" else 0
    pads = [amount(n) for n in of] + [amount(n) for n in of]
    kind = d.dtype()
    x, fill = d.value(kind, shape), d.opt(1.5)
    if d.since < 11:
        return d.case([x], {"mode": mode, "pads" if d.since >= 2 else "paddings": pads, "value": fill})
    inputs = [x, d.ints(pads), np.asarray(d.value(kind, ())) if mode == "constant" and d.maybe() else None]
    if axes is not None:
        inputs.append(d.ints(axes, d.pick(np.int32, np.int64)))
    return d.case(inputs, {"mode": d.pick(mode, None) if mode == "constant" else mode}, shapelike=(1, 2, 3))


@gen("Shape Size")
def shape_of(d):
    shape = d.shape()
    attrs = {"start": d.opt(d.int(-5, 5)), "end": d.opt(d.int(-5, 5))} if d.op == "Shape" and d.since >= 15 else {}
    return d.case([d.value(d.dtype(), shape)], attrs)


@gen("DepthToSpace SpaceToDepth")
def depth(d):
    n, b, c, h, w = d.int(1, 2), d.int(1, 3), d.int(1, 3), d.int(1, 5), d.int(1, 5)
    if d.op == "DepthToSpace":
        return d.case([d.value(d.dtype(), (n, c * b * b, h, w))], {"blocksize": b, "mode": d.opt("DCR", "CRD") if d.since >= 11 else None})
    return d.case([d.value(d.dtype(), (n, c, h * b, w * b))], {"blocksize": b})


@gen("Trilu")
def trilu(d):
    return d.case([d.value(d.dtype(), d.shape(2, 4)), d.opt(d.ints(d.int(-7, 7)))], {"upper": d.opt(0, 1)}, shapelike=(1,))


@gen("ReverseSequence")
def reversesequence(d):
    shape, batch = d.shape(2, 4), d.pick(0, 1)
    return d.case([d.value(d.dtype(), shape),
                   d.value(np.int64, (shape[batch],), low=0 if not shape[1 - batch] else 1, high=max(1, shape[1 - batch]))],
                  {"batch_axis": batch, "time_axis": 1 - batch})


@gen("Dropout")
def dropout(d):
    x = d.value(d.dtype(), d.shape())
    if d.since < 12:
        return d.case([x], {"ratio": d.opt(0.2), "is_test": 1 if d.since < 7 else None})
    return d.case([x, d.opt(np.asarray(np.float32(0.3)))], nout=d.pick(1, 2))


# --- indices ---------------------------------------------------------------------------------------------

def index(d, n, shape, kind=None, negative=True):
    kind = kind or d.pick(np.int32, np.int64)
    return d.value(kind, shape, low=-n if negative and d.maybe(0.4) else 0, high=n - 1)


@gen("Gather")
def gather(d):
    d.zero = False
    shape = d.shape(1, 4)
    axis = d.axis(len(shape))
    at = d.shape(0, 3, limit=64) if d.maybe(0.9) else (3, 0)
    return d.case([d.value(d.dtype(), shape), index(d, shape[axis], at, negative=d.since >= 11)], {"axis": axis})


@gen("GatherElements")
def gatherelements(d):
    d.zero = False
    shape = d.shape(1, 4)
    axis = d.axis(len(shape))
    at = [d.int(1, n) for n in shape]
    at[axis] = d.int(0 if d.maybe(0.1) else 1, 9)
    return d.case([d.value(d.dtype(), shape), index(d, shape[axis], tuple(at))], {"axis": axis})


@gen("GatherND")
def gathernd(d):
    d.zero = False
    shape = d.shape(1, 4)
    batch = d.int(0, len(shape) - 1) if d.since >= 12 and d.maybe(0.4) else 0
    k = d.int(1, len(shape) - batch)
    lead = d.shape(0, 2, limit=32)
    at = np.stack([index(d, shape[batch + i], (*shape[:batch], *lead), np.int64) for i in range(k)], -1)
    return d.case([d.value(d.dtype(), shape), at], {"batch_dims": batch or None})


@gen("Scatter ScatterElements")
def scatterelements(d):
    d.zero = False
    shape = d.shape(1, 4)
    axis, kind = d.axis(len(shape)), d.dtype()
    reduction = d.opt("none", "add", "mul", *(("min", "max") if d.since >= 18 else ()), p=0.7) if d.since >= 16 and kind != bool else None
    at = [d.int(1, n) for n in shape]
    n = shape[axis]
    if reduction in (None, "none"):     # without duplicates
        at[axis] = d.int(1, n)
        order = np.argsort(d.rng.random([*at[:axis % len(shape)], n, *at[axis % len(shape) + 1:]]), axis)
        where = np.take(order, range(at[axis]), axis).astype(d.pick(np.int32, np.int64))
    else:
        at[axis] = d.int(1, 9)
        where = index(d, n, tuple(at))
    small = kind.name not in FLOAT and reduction == "mul"
    return d.case([d.value(kind, shape, edges=False), where,
                   d.value(kind, tuple(at), edges=False, low=1 if small else None, high=2 if small else None)],
                  {"axis": axis, "reduction": reduction})


@gen("ScatterND")
def scatternd(d):
    d.zero = False
    shape = d.shape(1, 4)
    kind, k = d.dtype(), d.int(1, len(shape))
    reduction = d.opt("none", "add", "mul", *(("min", "max") if d.since >= 18 else ()), p=0.7) if d.since >= 16 and kind != bool else None
    places = int(np.prod(shape[:k]))
    n = d.int(1, min(places, 12))
    flat = d.rng.permutation(places)[:n] if reduction in (None, "none") else d.rng.integers(0, places, n)
    at = np.stack(np.unravel_index(flat, shape[:k]), -1).astype(np.int64)
    small = kind.name not in FLOAT and reduction == "mul"
    return d.case([d.value(kind, shape, edges=False), at,
                   d.value(kind, (n, *shape[k:]), edges=False, low=1 if small else None, high=2 if small else None)],
                  {"reduction": reduction})


@gen("OneHot")
def onehot(d):
    shape, depth = d.shape(1, 3, limit=100), d.int(1, 7)
    kind, values = d.dtype(0), d.dtype(2)
    at = np.rint(d.value(kind, shape, low=0 if kind.kind == "u" else -depth, high=depth - 1, edges=False)).astype(kind)
    return d.case([at, d.ints(d.pick([depth], depth), d.dtype(1)), d.value(values, (2,), edges=False)], {"axis": d.opt(d.axis(len(shape), 1))},
                  shapelike=(1, 2), oracle=("ort", "reference"), tol=1e-5)


@gen("TopK")
def topk(d):
    shape = d.shape(1, 4)
    axis = d.axis(len(shape)) if d.since >= 11 else d.int(0, len(shape) - 1)
    k = d.int(0 if d.since >= 10 else min(1, shape[axis]), shape[axis])
    x = d.value(d.dtype(), shape, edges=False)
    x = np.rint(x) if d.maybe(0.3) and x.dtype.kind == "f" else x
    if d.since < 10:
        return d.case([x], {"axis": axis, "k": k}, nout=2)
    largest = d.opt(0, 1) if d.since >= 11 else None
    return d.case([x, d.ints([k])], {"axis": axis, "largest": largest}, nout=2, shapelike=(1,))


@gen("NonZero")
def nonzero(d):
    return d.case([d.value(d.dtype(), d.shape(1, 4), low=0, high=2, edges=False)])


@gen("Compress")
def compress(d):
    d.zero = False
    shape = d.shape(1, 4)
    axis = d.opt(d.axis(len(shape)), p=0.7)
    n = shape[axis] if axis is not None else int(np.prod(shape))
    return d.case([d.value(d.dtype(), shape), d.value(bool, (d.int(1, n),))], {"axis": axis})


# --- images ----------------------------------------------------------------------------------------------

@gen("Upsample")
def upsample(d):
    d.zero = False
    shape = (d.int(1, 2), d.int(1, 3), d.int(1, 7), d.int(1, 7))
    mode, scales = d.pick("nearest", "linear"), [1.0, 1.0, d.pick(1.0, 2.0, 3.0, 1.5), d.pick(1.0, 2.0, 1.5)]
    x = d.value(d.dtype(only=None if mode == "nearest" else FLOAT), shape,
                edges=mode == "nearest")      # 0 times infinity depends on which neighbours are looked at
    if d.since < 7:
        return d.case([x], {"mode": "bilinear" if mode == "linear" else mode, "height_scale": scales[2], "width_scale": scales[3]})
    if d.since < 9:
        return d.case([x], {"mode": mode, "scales": scales})
    return d.case([x, np.float32(scales)], {"mode": mode}, shapelike=(1,))


@gen("Resize")
def resize(d):
    d.zero = False
    shape = (d.int(1, 2), d.int(1, 3), d.int(1, 9), d.int(1, 9))
    mode = d.pick("nearest", "linear", "cubic" if d.since >= 11 else "linear")
    scales = np.float32([1, 1, d.pick(0.5, 1.0, 2.0, 1.7), d.pick(0.6, 1.0, 3.0)])
    scales[2:] = np.maximum(scales[2:], np.float32(1.0) / np.float32(shape[2:]))
    x = d.value(d.dtype(only=None if mode == "nearest" else FLOAT), shape, edges=False)
    if d.since < 11:
        return d.case([x, scales], {"mode": mode}, shapelike=(1,), tol=1e-4)
    attrs = {"mode": mode, "coordinate_transformation_mode": d.opt("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric",
                                                                     *(("half_pixel_symmetric",) if d.since >= 19 else ())),
             "nearest_mode": d.opt("round_prefer_floor", "round_prefer_ceil", "floor", "ceil") if mode == "nearest" else None,
             "cubic_coeff_a": d.opt(-0.5) if mode == "cubic" else None, "exclude_outside": d.opt(0, 1, p=0.3) if mode == "cubic" else None,
             "antialias": d.opt(0, 1, p=0.3) if d.since >= 18 and mode != "nearest" else None}
    sizes = d.ints([shape[0], shape[1], d.int(1, 12), d.int(1, 12)])
    given = [None, None, sizes] if d.maybe() else [None, scales]
    if d.since >= 18 and d.maybe(0.2):
        attrs["axes"], given = [2, 3], [None if v is None else v[2:] for v in given]
        if len(given) == 3:
            attrs["keep_aspect_ratio_policy"] = d.opt("stretch", "not_larger", "not_smaller")
    return d.case([x, *given], attrs, shapelike=(2, 3), tol=1e-4, oracle=("ort", "reference"))


@gen("GridSample")
def gridsample(d):
    d.zero = False
    n, c, rank = d.int(1, 2), d.int(1, 3), 2 if d.since < 20 or d.maybe(0.7) else 3
    new = d.since >= 20
    mode = d.pick("nearest", "linear" if new else "bilinear", ("cubic" if new else "bicubic") if rank == 2 else "nearest")
    kind = d.dtype(only=None if mode == "nearest" else FLOAT)
    return d.case([d.value(kind, (n, c, *[d.int(1, 6) for _ in range(rank)]), edges=False),
                   d.value(d.dtype(1), (n, *[d.int(1, 5) for _ in range(rank)], rank), low=-1.3, high=1.3, edges=False)],
                  {"mode": mode, "padding_mode": d.opt("zeros", "border", "reflection"), "align_corners": d.opt(0, 1)}, tol=1e-4)


@gen("CenterCropPad")
def centercroppad(d):
    shape = d.shape(1, 4, most=9)
    axes = d.opt([a for a in d.axes(len(shape), 1)])
    n = len(shape) if axes is None else len(axes)
    return d.case([d.value(d.dtype(), shape), d.ints([d.int(1, 9) for _ in range(n)], d.pick(np.int32, np.int64))], {"axes": axes}, shapelike=(1,),
                  oracle=("reference", "ort"))


@gen("AffineGrid")
def affinegrid(d):
    rank, n = d.pick(2, 3), d.int(1, 3)
    return d.case([d.value(d.dtype(), (n, rank, rank + 1), edges=False), d.ints([n, d.int(1, 3), *[d.int(1, 6) for _ in range(rank)]])],
                  {"align_corners": d.opt(0, 1)}, shapelike=(1,), oracle=("reference", "ort"), tol=1e-4)


@gen("Col2Im")
def col2im(d):
    image, block = [d.int(4, 8), d.int(4, 8)], [d.int(1, 3), d.int(1, 3)]
    dil, pads, strides = [d.int(1, 2 if 2 * (block[0] - 1) < image[0] else 1), 1], [d.int(0, 1) for _ in range(4)], [d.int(1, 2), d.int(1, 2)]
    count = int(np.prod([(image[i] + pads[i] + pads[i + 2] - dil[i] * (block[i] - 1) - 1) // strides[i] + 1 for i in range(2)]))
    return d.case([d.value(d.dtype(), (d.int(1, 2), d.int(1, 3) * int(np.prod(block)), count), edges=False), d.ints(image), d.ints(block)],
                  {"dilations": dil, "pads": pads, "strides": strides}, shapelike=(1, 2))


@gen("MaxUnpool")
def maxunpool(d):
    n, c, h, w = d.int(1, 2), d.int(1, 3), d.int(1, 4), d.int(1, 4)
    at = np.stack([np.sort(d.rng.permutation(4 * h * w)[:h * w]) for _ in range(n * c)]).reshape(n, c, h, w)
    at = at + (4 * h * w * np.arange(n * c).reshape(n, c, 1, 1))
    return d.case([d.value(d.dtype(), (n, c, h, w), edges=False), at.astype(np.int64)], {"kernel_shape": [2, 2], "strides": [2, 2]})


@gen("DeformConv")
def deformconv(d):
    group, cin, cout = channels(d)
    kernel, stride, dil = [d.int(1, 3), d.int(1, 3)], [d.int(1, 2), d.int(1, 2)], [1, d.int(1, 2)]
    pads = [d.int(0, 1) for _ in range(4)]
    size = [d.int(5, 8), d.int(5, 8)]
    og = d.pick(1, group)
    out = [(size[i] + pads[i] + pads[i + 2] - dil[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    k = kernel[0] * kernel[1]
    n = d.int(1, 2)
    f = d.dtype()
    inputs = [d.value(f, (n, cin, *size), edges=False), d.value(f, (cout, cin // group, *kernel), edges=False),
              d.value(f, (n, og * k * 2, *out), edges=False)]
    inputs.append(d.value(f, (cout,), edges=False) if d.maybe() else None)
    inputs.append(d.value(f, (n, og * k, *out), edges=False) if d.maybe() else None)
    return d.case(inputs, {"group": group, "offset_group": og, "strides": stride, "dilations": dil, "pads": pads, "kernel_shape": d.opt(kernel)},
                  tol=1e-4, oracle=("ort", "reference") if np.dtype(f).name not in ("float16", "bfloat16") else None)


@gen("RoiAlign")
def roialign(d):
    n, c, r = d.int(1, 2), d.int(1, 3), d.int(1, 4)
    kind = d.dtype()
    rois = np.sort(d.value(kind, (r, 2, 2), low=0, high=9, edges=False), axis=1).reshape(r, 4)
    attrs = {"mode": d.opt("avg", "max"), "output_height": d.int(1, 4), "output_width": d.int(1, 4), "sampling_ratio": d.pick(0, 1, 2),
             "spatial_scale": d.pick(1.0, 0.5)}
    if d.since >= 16:
        attrs["coordinate_transformation_mode"] = d.opt("half_pixel", "output_half_pixel")
    return d.case([d.value(kind, (n, c, d.int(3, 9), d.int(3, 9)), edges=False), rois, d.value(np.int64, (r,), low=0, high=n - 1)], attrs,
                  tol=1e-4)


# --- values from nothing ---------------------------------------------------------------------------------

@gen("ConstantOfShape")
def constantofshape(d):
    from onnx import numpy_helper
    kind = d.pick(*[t for t in DTYPE.values() if t.name != "bfloat16"])
    return d.case([d.ints(d.shape())], {"value": d.opt(numpy_helper.from_array(d.value(kind, (1,))))}, shapelike=(0,), oracle=("ort", "reference"))


@gen("Range")
def range_(d):
    kind = d.dtype()
    if kind.name in FLOAT:
        start, delta, n = d.pick(0.0, -1.5, 3.0), d.pick(0.5, 1.0, -0.25, 2.0), d.int(0, 30)
        limit = start + delta * n
    else:
        start, limit, delta = d.int(-9, 9), d.int(-9, 30), d.pick(1, 2, 3, -1)
    return d.case([np.asarray(v, kind) for v in (start, limit, delta)])


@gen("EyeLike")
def eyelike(d):
    return d.case([d.value(d.dtype(), d.shape(2, 2))], {"k": d.opt(d.int(-9, 9)), "dtype": d.opt(1, 6, 7, 11)}, oracle=("ort", "reference"))


# --- attention, training, signals ------------------------------------------------------------------------

@gen("Attention")
def attention(d):
    kind = d.pick(np.float32, np.float32, np.float64, np.float16)
    b, kv, s, t, e, v = d.int(1, 2), d.int(1, 3), d.int(1, 9), d.int(1, 9), d.int(1, 8), d.int(1, 8)
    h, past = kv * d.pick(1, 1, 2), d.pick(0, 0, d.int(1, 4))
    flat = d.maybe(0.3)

    def heads(n, length, width):
        return d.value(kind, (b, length, n * width) if flat else (b, n, length, width), edges=False)
    total = t + past
    mask = d.pick(None, d.value(bool, (s, total)), d.value(kind, d.pick((s, total), (b, 1, s, total), (1, 1, s, total)), edges=False))
    if mask is not None and mask.dtype == bool:
        mask[..., 0] = True
    inputs = [heads(h, s, e), heads(kv, t, e), heads(kv, t, v), mask]
    if past:
        inputs += [d.value(kind, (b, kv, past, e), edges=False), d.value(kind, (b, kv, past, v), edges=False)]
    attrs = {"is_causal": d.opt(0, 1), "scale": d.opt(0.5), "softcap": d.opt(2.0, p=0.2)}
    if flat:
        attrs.update(q_num_heads=h, kv_num_heads=kv)
    return d.case(inputs, attrs, nout=3 if past else 1, tol=1e-3, oracle=("reference", "ort"))


@gen("RotaryEmbedding")
def rotary(d):
    b, h, s, e = d.int(1, 2), d.int(1, 3), d.int(1, 5), 2 * d.int(1, 4)
    flat, with_ids, kind = d.maybe(0.3), d.maybe(), np.float32
    x = d.value(kind, (b, s, h * e) if flat else (b, h, s, e), edges=False)
    table = (9, e // 2) if with_ids else (b, s, e // 2)
    inputs = [x, d.value(kind, table, edges=False), d.value(kind, table, edges=False)]
    if with_ids:
        inputs.append(d.value(np.int64, (b, s), low=0, high=8))
    return d.case(inputs, {"interleaved": d.opt(0, 1), "num_heads": h if flat else None}, oracle=("reference", "ort"))


@gen("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss")
def loss(d):
    d.zero = False
    n, c, rest = d.int(1, 4), d.int(1, 5), d.shape(0, 2, most=4)
    ignore = d.opt(0, -1, 2)
    target = d.value(d.pick(np.int32, np.int64), (n, *rest), low=0, high=c - 1)
    if ignore is not None and ignore < 0:
        target = np.where(d.rng.random(target.shape) < 0.2, ignore, target).astype(target.dtype)
    kind = d.dtype()
    inputs = [d.value(kind, (n, c, *rest), edges=False), target]
    if d.maybe():
        inputs.append(d.value(kind, (c,), low=0.1, high=1.0, edges=False))
    soft = d.op.startswith("Soft")
    return d.case(inputs, {"ignore_index": ignore, "reduction": d.opt("mean", "sum", "none")}, nout=d.pick(1, 2) if soft else 1, tol=1e-4)


@gen("HannWindow HammingWindow BlackmanWindow")
def window_of(d):
    return d.case([np.asarray(d.int(2, 20), d.pick(np.int32, np.int64))], {"periodic": d.opt(0, 1), "output_datatype": d.opt(1, 11)}, tol=1e-5,
                  oracle=("reference", "ort"), shapelike=(0,), slack=1)  # sums of numbers near 1, which may be 0


@gen("DFT")
def dft(d):
    d.zero = False
    shape = (d.int(1, 3), d.size(17), d.size(17))[:d.int(2, 3)]
    last, inverse = d.pick(1, 2), d.opt(0, 1)
    onesided = 1 if d.maybe(0.3) and last == 1 and not inverse else None
    axis = d.int(0, len(shape) - 1)
    x = d.value(d.dtype(), (*shape, last), edges=False)
    length = d.opt(d.ints(d.int(1, 20), d.dtype(1)), p=0.3)
    attrs = {"inverse": inverse, "onesided": onesided}
    if d.since < 20:
        return d.case([x, length], {**attrs, "axis": axis}, tol=1e-4, shapelike=(1,), oracle=("reference", "ort"))
    return d.case([x, length, d.ints(axis)], attrs, tol=1e-4, shapelike=(1, 2), oracle=("reference", "ort"))


@gen("TensorScatter")
def tensorscatter(d):
    b, h, total, e = d.int(1, 3), d.int(1, 3), d.int(2, 9), d.int(1, 5)
    n = d.int(1, total)
    kind, mode = d.dtype(), d.opt("linear", "circular")
    if mode == "circular":      # onnx.reference takes indices of batches and heads modulo the length, too
        b, h = min(b, total), min(h, total)
    at = d.value(np.int64, (b,), low=0, high=total - 1 if mode == "circular" else total - n)
    return d.case([d.value(kind, (b, h, total, e)), d.value(kind, (b, h, n, e)), at], {"mode": mode}, oracle=("reference",))
