"""LinearAttention of ai.onnx and com.microsoft, FlexAttention of ai.onnx.preview."""
import ml_dtypes
import numpy as np
from onnx import TensorProto, parser

from op_test import Case, by_reference, f16, f32, f64

MS = "com.microsoft.LinearAttention"


def linear(rng, rule, b=2, t=5, hq=4, hkv=4, hk=None, k=8, v=6, past=False, decay="key", beta="head", kind=np.float32, state=None, **how):
    attrs = how.pop("attrs", {})
    keys = f32(rng, b, t, hk or hkv, k)
    keys = (keys / np.linalg.norm(keys, axis=-1, keepdims=True)).reshape(b, t, -1).astype(kind)
    inputs = [f32(rng, b, t, hq * k, dtype=kind), keys, f32(rng, b, t, hkv * v, dtype=kind),
              f32(rng, b, hkv, k, v, dtype=state or kind) if past else None,
              f32(rng, b, t, hkv * (k if decay == "key" else 1), low=-1, high=0, dtype=kind) if "gated" in rule else None,
              f32(rng, b, t, hkv if beta == "head" else 1, low=0, high=1, dtype=kind) if "delta" in rule else None]
    return Case(how.pop("op", "LinearAttention"), inputs,
                {"q_num_heads": hq, "kv_num_heads": hkv, "update_rule": rule, **attrs}, nout=2,
                oracle=how.pop("oracle", "reference"), **how)


def windowed(rule):
    """The states after the last three tokens, by the states after prefixes."""
    def run(q, k, v, past=None, decay=None, beta=None):
        def prefix(t):
            rest = [x if x is None else x[:, :t] for x in (decay, beta)]
            inputs = [q[:, :t], k[:, :t], v[:, :t], None if past is None else past[2], *rest]
            return by_reference(Case("LinearAttention", inputs, {"q_num_heads": 4, "kv_num_heads": 4, "update_rule": rule}, nout=2))
        t = q.shape[1]
        y, last = prefix(t)
        return [y, np.stack([prefix(i)[1] if i > 0 else np.zeros_like(last) for i in range(t - 2, t + 1)])]
    return run


def graph(body, kind="float"):
    return parser.parse_graph("g (%s[B,H,L,S] s) => (%s[B,H,L,S] r) { %s }" % (kind, kind, body))


CAUSAL = """sh = Shape(s) i2 = Constant<value_int = 2>() i3 = Constant<value_int = 3>() z = Constant<value_int = 0>()
    one = Constant<value_int = 1>() l = Gather(sh, i2) t = Gather(sh, i3) a = Range(z, l, one) b = Range(z, t, one)
    ax = Constant<value_ints = [-1]>() c = Unsqueeze(a, ax) m = GreaterOrEqual(c, b)
    low = Constant<value_float = -inf>() r = Where(m, s, low)"""
CAP = "c = Constant<value_float = 3.0>() d = Div(s, c) e = Tanh(d) r = Mul(e, c)"
HALF = "c = Constant<value_float = 0.5>() r = Mul(s, c)"


def flex(rng, b=2, hq=4, hkv=4, s=5, t=7, e=8, v=6, kind=f32, score=None, prob=None, element="float", **how):
    attrs = how.pop("attrs", {})
    mods = {k: graph(x, element) for k, x in (("score_mod", score), ("prob_mod", prob)) if x}
    return Case("ai.onnx.preview.FlexAttention", [kind(rng, b, hq, s, e), kind(rng, b, hkv, t, e), kind(rng, b, hkv, t, v)],
                {**mods, **attrs}, opset=1, oracle="reference", **how)


def cases(rng):
    for rule in ("linear", "gated", "delta", "gated_delta"):
        yield linear(rng, rule)
        yield linear(rng, rule, hq=6, hkv=2, past=True, decay="head", beta="one")
        yield linear(rng, rule, t=1, past=True, dynamic=True)
        yield linear(rng, rule, t=70, b=1, hq=2, hkv=1, k=16, v=16, dynamic=True)
    yield linear(rng, "linear", attrs={"scale": 2.5, "chunk_size": 2})
    yield linear(rng, "gated_delta", kind=np.float16, past=True, tol=2e-3)
    yield linear(rng, "gated_delta", kind=np.float16, state=np.float32, past=True, tol=2e-3)
    yield linear(rng, "gated", kind=ml_dtypes.bfloat16, tol=1e-2)
    yield linear(rng, "delta", b=1, hq=1, hkv=1, k=1, v=1, t=3)
    yield linear(rng, "linear", hq=3, hkv=2, error="3 query heads are no multiple of 2 key heads", oracle=None)
    broken = linear(rng, "gated", error="needs operand decay", oracle=None)
    broken.inputs[4] = None
    yield broken
    for rule in ("linear", "gated", "delta", "gated_delta"):
        yield linear(rng, rule, op=MS, oracle="ort", hq=4, hkv=2, past=True)
        yield linear(rng, rule, op=MS, oracle="ort", hq=2, hkv=4, dynamic=True, decay="head")
        yield linear(rng, rule, op=MS, oracle="ort", hq=2, hkv=4, hk=2, past=True)
        yield linear(rng, rule, op=MS, oracle="ort", hq=8, hkv=4, hk=1, dynamic=True)
        yield linear(rng, rule, op=MS, oracle=windowed(rule), t=2, attrs={"state_window": 3})
        past = linear(rng, rule, op=MS, oracle=windowed(rule), t=5, past=True, attrs={"state_window": 3})
        past.inputs[3] = np.stack([past.inputs[3] * k for k in (2, 3, 1)])
        yield past
    yield linear(rng, "gated", op=MS, hq=4, hkv=4, hk=3, error="kv_num_heads must be a multiple of the heads of keys", oracle=None)
    yield linear(rng, "gated", hq=4, hkv=4, hk=2, error="queries and keys must have heads of one size", oracle=None)
    yield flex(rng)
    yield flex(rng, hq=6, hkv=2, dynamic=True)
    yield flex(rng, kind=f64, attrs={"scale": 0.25}, tol=1e-9)
    yield flex(rng, kind=f16, tol=4e-3)
    yield flex(rng, score=CAUSAL)
    yield flex(rng, score=CAUSAL, hq=6, hkv=2, dynamic=True)
    yield flex(rng, score=CAP, prob=HALF, dynamic=True)
    yield flex(rng, score=CAP, prob=HALF, hq=4, hkv=1)
    yield flex(rng, kind=f32, score="r = Neg(s)", attrs={"softmax_precision": TensorProto.DOUBLE}, element="double")
    yield flex(rng, kind=f16, score="r = Neg(s)", attrs={"softmax_precision": TensorProto.FLOAT16}, element="float16", tol=4e-3)
    yield flex(rng, score="d = Constant<value_ints = [0]>() r = ReduceSum(s, d)", error="must keep the shape")
    yield flex(rng, score="r = Cast<to = 10>(s)", error="must keep shape and type")
