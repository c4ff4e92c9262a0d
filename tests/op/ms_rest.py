"""com.microsoft: attributes, operands, results and element types that no other family has (tests/lint/covered.py finds them)."""
import copy

import ml_dtypes
import numpy as np

import families

from op_test import Case, expected, f16, f32, f64, i32, i64, ints, u8

MS = "com.microsoft."
PADS = ("SAME_UPPER", "SAME_LOWER", "VALID")


def last(op, attrs):
    """An operator of ai.onnx with channels last."""
    def run(x, *rest):
        return [np.moveaxis(y, 1, -1) for y in expected(Case(op, [np.moveaxis(x, -1, 1), *rest], attrs))]
    return run


def windows(rng):
    x, w, bias = f32(rng, 2, 7, 8, 6), f32(rng, 4, 6, 3, 2), f32(rng, 4)
    for pad in PADS:
        attrs = {"auto_pad": pad, "strides": [2, 1], "kernel_shape": [3, 2]}
        yield Case(MS + "NhwcConv", [x, w, bias], attrs, oracle=last("Conv", attrs))
        yield Case(MS + "NhwcFusedConv", [x, w, bias], {**attrs, "activation": "LeakyRelu", "activation_params": [0.3]},
                   oracle=lambda *v, a=attrs: [np.where(y < 0, np.float32(0.3) * y, y) for y in last("Conv", a)(*v)])
        image = u8(rng, 1, 3, 7, 8)
        yield Case(MS + "NhwcMaxPool", [np.moveaxis(image, 1, -1)], attrs, oracle=last("MaxPool", attrs))
        yield Case(MS + "QLinearAveragePool", [image, np.float32(0.1), np.uint8(7), np.float32(0.15), np.uint8(90)], attrs, slack=1)
        yield Case(MS + "MaxpoolWithMask", [f32(rng, 2, 3, 6, 7), i32(rng, 2, 3, 6, 7, low=1, high=2)], {"auto_pad": pad, "kernel_shape": [2, 3]})
    grouped = {"group": 2, "dilations": [2, 1], "strides": [1, 2]}
    yield Case(MS + "NhwcFusedConv", [x, f32(rng, 4, 3, 2, 3), bias], {**grouped, "activation": "Relu"},
               oracle=lambda *v: [np.maximum(y, 0) for y in last("Conv", grouped)(*v)])
    yield Case(MS + "MaxpoolWithMask", [f32(rng, 2, 3, 6, 7), i32(rng, 2, 3, 6, 7, low=1, high=2)], {"storage_order": 1, "kernel_shape": [2, 3]})
    for attrs in ({"group": 2, "strides": [2, 2], "output_padding": [1, 0]}, {"dilations": [2, 1]}):
        yield Case(MS + "ConvTransposeWithDynamicPads", [f32(rng, 1, 4, 5, 6), f32(rng, 4, 3, 3, 3), np.array([1, 0, 1, 1])], attrs,
                   oracle=lambda x, w, p, a=attrs: expected(Case("ConvTranspose", [x, w], {**a, "pads": p.tolist()})))


def products(rng):
    a, b = f32(rng, 2, 3, 4, 5), f32(rng, 2, 3, 5, 6)
    for ta, tb in ((1, 0), (0, 1), (1, 1)):
        inputs = [np.ascontiguousarray(np.moveaxis(v, -2, 0)) if t else v for v, t in ((a, ta), (b, tb))]     # the rows before the batch axes
        attrs = {"transBatchA": ta, "transBatchB": tb}
        yield Case(MS + "FusedMatMul", inputs, attrs)
        yield Case(MS + "FusedMatMulActivation", inputs, {**attrs, "activation": "Relu"},
                   oracle=lambda *v, a=attrs: [np.maximum(y, 0) for y in expected(Case(MS + "FusedMatMul", v, a))])
    yield Case(MS + "FusedMatMulActivation", [a, b], {"activation": "Tanh", "activation_gamma": 2.0, "activation_axis": 1},      # both without effect
               oracle=lambda a, b: np.tanh(a @ b))
    yield Case(MS + "FusedGemm", [a[0, 0], b[0, 0], f32(rng, 6)], {"activation": "Relu", "activation_gamma": 2.0},
               oracle=lambda a, b, c: np.maximum(a @ b + c, 0))
    for kind in (np.int32, np.int64, np.uint32, np.uint64):
        x, y = ints(rng, 3, 4, low=0, high=9).astype(kind), ints(rng, 4, 5, low=0, high=9).astype(kind)
        yield Case(MS + "FusedGemm", [x, y, y[0]], {"activation": "Relu"}, oracle=lambda x, y, c: x @ y + c)
        yield Case(MS + "SampleOp", [x], oracle=lambda x: x)
    yield Case(MS + "Range", [np.int32(3), np.int32(17), np.int32(4)])


def norms(rng):
    for op, extra in (("SkipLayerNormalization", 1), ("SkipSimplifiedLayerNormalization", 0)):
        inputs = [f32(rng, 2, 5, 24), f32(rng, 2, 5, 24), f32(rng, 24), *([f32(rng, 24)] * extra)]

        def statistics(x, s, *rest, extra=extra):
            z = (x + s).astype(np.float64)
            mean = z.mean(-1, keepdims=True) * extra
            return [mean.astype(np.float32), (1 / np.sqrt(((z - mean)**2).mean(-1, keepdims=True) + 1e-3)).astype(np.float32)][1 - extra:]
        yield Case(MS + op, inputs, {"epsilon": 1e-3}, nout=4, wanted=(1, 2) if extra else (2,), oracle=statistics)
    for channels_last in (0, 1):
        shape, skip = ((2, 4, 3, 12), (2, 4, 3, 12)) if channels_last else ((2, 12, 4, 3), (2, 12, 4, 3))
        x, s, g, b = f32(rng, *shape), f32(rng, *skip), f32(rng, 12), f32(rng, 12)
        yield Case(MS + "SkipGroupNorm", [x, g, b, s], {"groups": 3, "channels_last": channels_last, "activation": 0}, nout=2,
                   oracle=group_norm(channels_last))
    for axis in (0, 2, -1):
        x, n = f32(rng, 3, 5, 4, scale=9), (3, 5, 4)[axis]
        scale, zero = f32(rng, n, low=0.1, high=1), u8(rng, n, low=100, high=140)
        yield Case(MS + "QuantizeLinear", [x, scale, zero], {"axis": axis})
        yield Case(MS + "DequantizeLinear", [u8(rng, 3, 5, 4), scale, zero], {"axis": axis})
    yield Case(MS + "SwiGLU", [f16(rng, 3, 8), f16(rng, 3, 8)], {"round_activation": 1}, tol=2e-3,
               oracle=lambda g, u: (g.astype(np.float32) / (1 + np.exp(-g.astype(np.float32)))).astype(np.float16) * u)
    embed = families.module("ms_norm").embed(rng)
    yield changed(embed, {"mask_index_type": 1}, lambda *v: expected(retaken(embed, v)))      # of no effect


def group_norm(channels_last):
    def run(x, g, b, s):
        z = (x + s).astype(np.float64)
        v = np.moveaxis(z, -1, 1) if channels_last else z
        u = v.reshape(2, 3, -1)
        u = ((u - u.mean(-1, keepdims=True)) / np.sqrt(u.var(-1, keepdims=True) + 1e-5)).reshape(v.shape) * g[:, None, None] + b[:, None, None]
        return [(np.moveaxis(u, 1, -1) if channels_last else u).astype(np.float32), z.astype(np.float32)]
    return run


def moved(rng):
    yield Case(MS + "GatherND", [f32(rng, 3, 4, 2), i64(rng, 5, 2, low=0, high=2)])
    x = f32(rng, 4, 6)
    yield Case(MS + "Pad", [x, np.array([1, 2, 0, 3])], {"mode": "reflect"}, oracle=lambda x, p: np.pad(x, [(1, 0), (2, 3)], "reflect"))
    newer = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}
    for mode in newer:
        for padding in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                attrs = {"mode": mode, "padding_mode": padding, "align_corners": corners}
                yield Case(MS + "GridSample", [f32(rng, 1, 2, 5, 6), f32(rng, 1, 3, 4, 2, scale=0.7)], attrs,
                           oracle=lambda x, g, a=attrs: expected(Case("GridSample", [x, g], {**a, "mode": newer[a["mode"]]}, opset=20)))
    grid = f32(rng, 1, 3, 4, 2, scale=0.7)
    for kind in (bool, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float16, np.float64):
        yield Case(MS + "GridSample", [ints(rng, 1, 2, 5, 6, low=0, high=99).astype(kind), grid], {"mode": "nearest"},
                   oracle=lambda x, g: [y.astype(x.dtype) for y in expected(Case("GridSample", [x.astype(np.float32), g], {"mode": "nearest"},
                                                                                 opset=16))])
    for kind in (ml_dtypes.bfloat16, np.float16, np.float64):
        for bad in (0, np.nan, np.inf):
            yield Case(MS + "IsAllFinite", [np.array([1, bad, 2], kind), np.array([3], kind)], oracle=[np.array(bad == 0)])


def attention(rng):
    b, n, h = 4, 2, 8
    q, k, v = f32(rng, b, 1, n * h), f32(rng, b, n, 5, h), f32(rng, b, n, 5, h)
    yield Case(MS + "DecoderMaskedMultiHeadAttention", [q, k, v], {"num_heads": n, "scale": 0.2})
    yield Case(MS + "DecoderMaskedMultiHeadAttention", [q, k, v], {"num_heads": n, "output_qk": 1}, nout=4, wanted=(0, 3), oracle=None)
    linear = families.module("attn")
    for c in list(linear.cases(rng)):
        if c.op == "LinearAttention" and c.domain and not c.error and "scale" not in c.attrs:
            for more in ({"chunk_size": 16}, {"scale": 0.3}):
                other = copy.copy(c)
                other.attrs = {**c.attrs, **more}
                yield other
            break


def retaken(case, inputs):
    other = copy.copy(case)
    other.inputs = list(inputs)
    return other


def changed(case, attrs, oracle=None):
    other = copy.copy(case)
    other.attrs = {**case.attrs, **attrs}
    other.oracle = oracle or case.oracle
    return other


# operator, attributes, whether they change nothing
MORE = [("GatedDeltaNet", {"chunk_size": 16}, True), ("MatMulBnb4", {"training_mode": 1}, True),
        ("RotaryEmbedding", {"is_packed_batching": 0, "scale": 1.0}, True),
        ("WordConvEmbedding", {"char_embedding_size": 4, "conv_window_size": 2, "embedding_size": 3}, True), ("MRotaryEmbedding", {"scale": 1.0},
                                                                                                              True),
        ("PackedMultiHeadAttention", {"mask_filter_value": -5.0}, True), ("VarlenCausalConvWithState", {"activation": "swish"}, False)]


def more(rng):
    """The first case of an operator with more attributes."""
    first = {}
    for name in ("ms_attn", "ms_packed", "ms_bits", "ms_words"):
        for c in families.cases(name):
            if not c.error and c.oracle is not None:
                first.setdefault(c.op, c)
    for op, attrs, same in MORE:
        yield changed(first[op], attrs, (lambda *v, c=first[op]: expected(retaken(c, v))) if same else None)
    packed, gqa, quant = families.module("ms_packed"), families.module("ms_gqa"), families.module("ms_quant")
    yield packed.delta(rng, gate="qwen")
    yield gqa.gqa(rng, b=1, s=3, past=5, lens=[8], rotary=16, norm=True, oracle=gqa.normed(1e-3),
                  attrs={"q_norm_epsilon": 1e-3, "k_norm_epsilon": 1e-3})
    for signed in (False, True):
        yield quant.lstm(rng, signed, activations=["HardSigmoid", "LeakyRelu", "Tanh"], activation_alpha=[0.3, 0.2], activation_beta=[0.4])
    plain = packed.packed_attention(rng)
    scaled = lambda x, w, b, o, e, bias=None: packed.by_mha(*np.split(x @ w + b, 3, 1), None, bias, 2, 0.3)
    yield changed(plain, {"scale": 0.3}, scaled)
    yield changed(plain, {"qkv_hidden_sizes": [8, 8, 8]}, lambda *v: expected(retaken(plain, v)))
    yield changed(retaken(plain, [*plain.inputs, f32(rng, 1, 2, packed.LENGTH, packed.LENGTH)]), {"scale": 0.3}, scaled)
    quantised = quant.attention(rng, True)
    signed = retaken(quantised, [(quantised.inputs[0].astype(np.int16) - 128).astype(np.int8), *quantised.inputs[1:6], np.int8(0),
                                 *quantised.inputs[7:]])
    yield changed(signed, {}, lambda *_: expected(quantised))


def seldom(rng):
    """Operands that are rarely there."""
    rnn, packed, gqa, attn, words = (families.module(n) for n in ("rnn", "ms_packed", "ms_gqa", "ms_attn", "ms_words"))
    yield rnn.attending(rng, attrs={"activations": ["HardSigmoid", "LeakyRelu", "Tanh"], "activation_alpha": [0.3, 0.2], "activation_beta": [0.4]})
    yield rnn.attending(rng, attrs={"input_forget": 1})
    x, y = f32(rng, 2, 3, 17), f32(rng, 2, 3, 17)
    yield Case(MS + "GatedAdd", [x, y, f32(rng, 2, 3, 5), f32(rng, 5, 1)], oracle=lambda x, y, g, w: x + y / (1 + np.exp(-(g @ w))))
    for wanted in ((0,), (1, 2)):
        yield Case(MS + "MoEGroupRouter", [x[0], f32(rng, 8, scale=0.3), f32(rng, 8, 17)], {"top_k": 3}, nout=3, wanted=wanted,
                   oracle=lambda x, b, w, n=wanted: expected(Case(MS + "MoEGroupRouter", [x @ w.T, b], {"top_k": 3}, nout=3, wanted=n)))
    words_of, length = len(packed.WORDS), packed.LENGTH
    gate = [f32(rng, words_of, 12), f32(rng, 12), f32(rng, 3, 3, length, length), f32(rng, 4, 8), f32(rng, 8), f32(rng, 1, 3, 1, 1), packed.OFFSETS]
    yield Case(MS + "GatedRelativePositionBias", gate, {"num_heads": 3}, oracle=lambda q, b,
               *rest: packed.gated_bias(packed.pad(q + b), 0, *rest[:-1]))
    for active in (0, 1):
        captured = packed.delta(rng, cap=2)
        yield retaken(captured, [*captured.inputs, *[None] * (10 - len(captured.inputs)), np.array([active], np.int32)])
    for out in (1, 2):
        yield gqa.gqa(rng, b=1, s=3, past=5, lens=[8], rotary=16, nout=4, attrs={"qk_output": out})
    block = gqa.sparse(rng, rotary=True, attrs={"rotary_interleaved": 1})
    yield block
    block = copy.copy(block)
    block.wanted, block.oracle = (0, 1, 2), None
    yield block
    moe = families.module("ms_moe")
    for kind in ("gelu", "identity"):
        yield moe.qmoe(rng, kind=kind)
    plain = moe.qmoe(rng, kind="silu", bits=8)
    yield changed(plain, {"accuracy_level": 4}, lambda *v: expected(retaken(plain, v)))
    yield changed(plain, {"expert_weight_bits": 4, "fc1_expert_weight_bits": 8, "fc2_expert_weight_bits": 8, "fc3_expert_weight_bits": 8},
                  lambda *v: expected(retaken(plain, v)))
    yield third(moe.qmoe(rng, bits=8, bias=True), rng, moe)
    packed_ids = attn.rotary(rng, ids="three", op="MRotaryEmbedding", attrs={"mrope_section": [2, 1, 1]})
    yield changed(packed_ids, {"is_packed_batching": 1}, lambda *v: expected(retaken(packed_ids, v)))
    b, n, h, p, d = 4, 2, 8, 3, 12
    own = [f32(rng, b, 1, d), f32(rng, d, 3 * n * h, scale=0.3), f32(rng, 3 * n * h), None, f32(rng, 2, b, n, p, h), None, np.array([p], np.int32)]
    attrs = {"num_heads": n, "scale": 0.2}
    yield Case(MS + "DecoderMaskedSelfAttention", own, attrs, nout=2, oracle=attn.self_decoder(attrs))
    yield Case(MS + "Unique", [np.array([True, False, True])], nout=3, oracle=[np.array([True, False]), np.array([0, 1, 0]), np.array([2, 1])])


def third(case, rng, moe):
    """QMoE with gates of their own, which ONNX Runtime has for GPUs alone: the floats that the codes mean, and shares of the chosen experts alone."""
    e, inter, h = case.inputs[2].shape
    inputs = [*case.inputs, *[None] * 14][:14]
    inputs[8:11], inputs[13] = [u8(rng, e, inter, h), f32(rng, e, inter, low=0.01, high=0.05) / 16, f32(rng, e, inter)], u8(rng, e, inter, low=100,
                                                                                                                            high=150)
    other = retaken(case, inputs)

    def floats(q, scale, zero=128.0):
        return (q.astype(float) - (zero if np.isscalar(zero) else zero[..., None])) * scale[..., None]

    def run(x, router, q1, s1, b1, q2, s2, b2, q3, s3, b3, z1, z2, z3):
        router = np.where(router >= np.sort(router, -1)[:, -2:-1], router, -1e9)
        return moe.gated("silu", 2)(x, router, floats(q1, s1), b1, floats(q2, s2), b2, floats(q3, s3, z3), b3)
    other.oracle = run
    return other


def refused(rng):
    """What ONNX Runtime has on GPUs alone, or has no kernel for."""
    packed = families.module("ms_packed")
    conv = [f32(rng, 1, 3, 5), f32(rng, 3, 1, 2)]
    for attrs in ({"ndim": 2}, {"input_channels": 2}, {"input_channel_offset": 1}, {"state_length": 4}, {"state_update_capacity": 2},
                  {"state_channels_last": 1}):
        yield Case(MS + "CausalConvWithState", conv, attrs, nout=2, error=f"attribute {next(iter(attrs))}")
    varlen = packed.varlen(rng)
    for k in (6, 7):
        other = retaken(varlen, [*varlen.inputs, *[None] * (k - len(varlen.inputs)), f32(rng, 1)])
        other.error = "kernel_delta"
        yield other
    yield Case(MS + "Attention", [f32(rng, 1, 3, 8), f32(rng, 8, 24), f32(rng, 24)], {"num_heads": 2, "do_rotary": 1, "rotary_embedding_dim": 4},
               error="do_rotary")
    for op, signal in (("Rfft", f32(rng, 2, 16)), ("Irfft", f32(rng, 2, 9, 2))):
        for attrs in ({"normalized": 1}, {"onesided": 0}):
            yield Case(MS + op, [signal], {"signal_ndim": 1, **attrs}, error="normalised")


def cases(rng):
    yield from more(rng)
    yield from seldom(rng)
    yield from refused(rng)
    yield from windows(rng)
    yield from products(rng)
    yield from norms(rng)
    yield from moved(rng)
    yield from attention(rng)
