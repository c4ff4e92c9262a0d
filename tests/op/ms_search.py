"""com.microsoft: searches around a tiny decoder with random weights."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from op_test import Case, expected, f32, i32

MS = "com.microsoft."


def decoder(rng, layers=2, heads=2, size=16, vocab=37, positions=40, spread=1.0):
    """Embeddings, layers of Attention and a product, scores: inputs and outputs as ONNX Runtime wants them of a GPT."""
    weights, nodes = [], []

    def w(name, *shape, scale=0.4):
        weights.append(numpy_helper.from_array(f32(rng, *shape, scale=scale), name))
        return name

    def node(op, ins, outs, **attrs):
        nodes.append(helper.make_node(op, ins, outs, domain="com.microsoft" if op == "Attention" else "", **attrs))

    node("Gather", [w("words", vocab, size, scale=spread), "input_ids"], ["e0"])
    node("Gather", [w("places", positions, size), "position_ids"], ["e1"])
    node("Add", ["e0", "e1"], ["h0"])
    past = [helper.make_tensor_value_info(f"past_{i}", TensorProto.FLOAT, [2, "batch", heads, "past_len", size // heads]) for i in range(layers)]
    present = [helper.make_tensor_value_info(f"present_{i}", TensorProto.FLOAT, [2, "batch", heads, "all_len", size // heads]) for i in range(layers)]
    for i in range(layers):
        node("Attention", [f"h{i}", w(f"qkv{i}", size, 3 * size), w(f"qb{i}", 3 * size), "attention_mask", f"past_{i}"], [f"a{i}", f"present_{i}"],
             num_heads=heads, unidirectional=1)
        node("MatMul", [f"a{i}", w(f"out{i}", size, size)], [f"b{i}"])
        node("Tanh", [f"b{i}"], [f"c{i}"])
        node("Add", [f"h{i}", f"c{i}"], [f"h{i + 1}"])
    node("MatMul", [f"h{layers}", w("head", size, vocab)], ["logits"])
    ins = [helper.make_tensor_value_info(n, TensorProto.INT32, ["batch", s]) for n, s in
           (("input_ids", "len"), ("position_ids", "len"), ("attention_mask", "all_len"))]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "len", vocab])
    return helper.make_graph(nodes, "decoder", ins + past, [out] + present, weights)


def one(x, kind=np.int32):
    return np.array([x], kind)


def greedy(rng, prompt, length, graph, eos=36, pad=0, more=(), op="GreedySearch", **how):
    """ONNX Runtime leaves what it does not write, once all sequences have ended, to chance: it is padding here."""
    attrs = {"decoder": graph, "eos_token_id": eos, "pad_token_id": pad, **how.pop("attrs", {})}
    case = Case(MS + op, [prompt, one(length), *more], attrs, **how)
    plain = Case(MS + op, case.inputs, attrs)

    def ended(*inputs):
        y = expected(plain)[0].copy()
        for k in range(prompt.shape[1], length):
            if (y[:, k] == pad).all():
                y[:, k:] = pad
        return [y]
    if case.oracle == "ort":
        case.oracle = ended
    return case


def beam(rng, prompt, length, beams, graph, returned=None, eos=36, pad=0, least=0, penalty=1.0, more=(), **how):
    attrs = {"decoder": graph, "eos_token_id": eos, "pad_token_id": pad, **how.pop("attrs", {})}
    inputs = [prompt, one(length), one(least), one(beams), one(returned or beams),
              one(penalty, np.float32), *more]                     # ONNX Runtime wants them, optional or not
    return Case(MS + "BeamSearch", inputs, attrs, nout=2, **how)


def beams(rng):
    gpt = decoder(rng)
    prompt = i32(rng, 2, 4, low=1, high=35)
    yield beam(rng, prompt, 10, 3, gpt)
    yield beam(rng, prompt, 10, 1, gpt)
    yield beam(rng, prompt[:1], 9, 4, gpt, returned=2, dynamic=True)
    yield beam(rng, np.array([[0, 0, 5, 7], [3, 9, 11, 2]], np.int32), 9, 2, gpt)
    small = decoder(rng, layers=1, vocab=9, spread=2.0)                        # few tokens: sequences end often
    few = prompt % 8 + 1
    for eos in range(0, 9, 2):
        for early in (0, 1):
            yield beam(rng, few, 12, 3, small, eos=eos, pad=8 if eos == 0 else 0, attrs={"early_stopping": early})
        yield beam(rng, few, 12, 4, small, eos=eos, returned=2, penalty=0.5 + eos / 4, least=7)
    yield beam(rng, few, 12, 3, small, eos=3, more=[one(1.4, np.float32)])
    yield beam(rng, few, 12, 3, small, eos=3, attrs={"no_repeat_ngram_size": 2})
    yield beam(rng, few, 12, 3, small, eos=3, more=[None, np.array([1, 1, 0, 1, 1, 1, 0, 1, 1], np.int32)])
    yield beam(rng, few, 12, 3, small, eos=3, more=[None, None, np.array([[1, 1, 0, 1, 1, 1, 0, 1, 1], [0, 1, 1, 1, 1, 0, 1, 1, 1]], np.int32)])
    yield beam(rng, few, 12, 3, small, returned=4, error="num_return_sequences is larger than num_beams")
    yield beam(rng, few, 3, 3, small, error="max_length must be larger than the prompt")


def samples(rng):
    gpt = decoder(rng)
    prompt = i32(rng, 3, 4, low=1, high=35)

    def sample(seed=None, presence=None, dynamic=False, pad=0, prompt=prompt, error=None, wide=(), **attrs):
        more = [*(list(wide) + [None] * 5)[:5], presence, None if seed is None else one(seed)]
        while more and more[-1] is None:
            more.pop()
        return greedy(rng, prompt, 14, gpt, op="Sampling", more=more, attrs=attrs, pad=pad, dynamic=dynamic, error=error)
    yield sample(top_p=0.9)
    for seed in (0, 1, 7, 2**31 - 1):
        yield sample(seed, top_p=0.8, dynamic=seed == 7)
        yield sample(seed, top_p=0.6, custom=1, temperature=0.7)
        yield sample(seed, top_p=0.1, min_tokens_to_keep=4, temperature=1.5)
    yield sample(5, top_p=1.0, filter_value=-10.0)
    yield sample(5, top_p=0.5, filter_value=-2.0, prompt=prompt[:1])
    yield sample(-3, top_p=0.9, error="the seed is negative")
    odd = np.arange(37, dtype=np.int32) % 2                                    # ONNX Runtime subtracts all penalties from the first score
    masked = sample(9, top_p=0.9, wide=[None, None, 1 - odd], custom=1)
    penal = sample(9, top_p=0.9, presence=np.stack([odd] * 3), presence_penalty=1e9, custom=1)
    penal.oracle = lambda *x: expected(masked)
    yield penal
    yield sample(9, top_p=0.9, presence=np.eye(3, 37, dtype=np.int32) * np.array([[1], [0], [0]], np.int32), presence_penalty=3.0)
    yield sample(9, top_p=0.9, wide=[one(9), one(1.5, np.float32), (np.arange(37) % 3 != 0).astype(np.int32)], no_repeat_ngram_size=2)
    some = (np.arange(37) % 5 != 4).astype(np.int32)
    yield sample(9, top_p=0.9, wide=[None, None, None, np.stack([some, 1 - some, some]), np.array([[0, 1, 1, 1], [1] * 4, [0, 0, 1, 1]], np.int32)])
    yield sample(9, top_p=0.9, init_decoder=gpt, vocab_size=37)
    yield Case(MS + "Sampling", [prompt, one(9)], {"decoder": gpt, "eos_token_id": 1, "pad_token_id": 0}, nout=2, error="filtered_logits")


def first_trips(rng):
    """With a graph of its own for the first trip, which ONNX Runtime leaves alone on CPUs; with the scores of all trips."""
    gpt = decoder(rng)
    prompt = i32(rng, 2, 4, low=1, high=35)
    other = onnx.GraphProto()
    other.CopyFrom(gpt)
    head = next(t for t in other.initializer if t.name == "head")
    head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head)[:, ::-1].copy(), "head"))
    yield beam(rng, prompt, 9, 3, gpt, attrs={"init_decoder": gpt})
    yield greedy(rng, prompt, 9, gpt, attrs={"init_decoder": gpt})
    for search in (lambda x, n, **how: greedy(rng, x, n, gpt, **how), lambda x, n, **how: beam(rng, x, n, 1, gpt, **how)):
        def begun(*inputs, search=search):      # the token that the other graph chooses, then a search without it
            token = expected(greedy(rng, prompt[:1], 5, other))[0]
            return expected(search(token, 9))[:1]
        case = search(prompt[:1], 9, attrs={"init_decoder": other})
        case.oracle, case.wanted = begun, (0,)
        yield case
    scored = beam(rng, prompt, 6, 3, gpt)
    scored.nout, scored.wanted = 3, (0, 1, 2)
    yield scored
    yield beam(rng, prompt, 9, 3, gpt, attrs={"init_decoder": decoder(rng, layers=1)}, error="attribute init_decoder: expected input_ids")


def cases(rng):
    yield from beams(rng)
    yield from samples(rng)
    gpt = decoder(rng)
    prompt = i32(rng, 2, 4, low=1, high=35)
    yield greedy(rng, prompt, 12, gpt)
    yield greedy(rng, prompt, 12, gpt, const=(1,))
    yield greedy(rng, prompt[:1], 5, gpt, dynamic=True)
    padded = np.array([[0, 0, 5, 7], [3, 9, 11, 2]], np.int32)
    yield greedy(rng, padded, 10, gpt)
    yield greedy(rng, padded, 10, gpt, more=[None, None, None, None, np.array([[0, 1, 1, 1], [1, 1, 1, 1]], np.int32)])
    yield greedy(rng, prompt, 14, gpt, more=[one(3), one(1.7, np.float32)])
    yield greedy(rng, prompt, 9, gpt, more=[None, None, (np.arange(37) % 3 == 0).astype(np.int32)])
    yield greedy(rng, prompt, 9, gpt, more=[None, None, None, (np.arange(37) % 4 == np.array([[0], [1]])).astype(np.int32)])
    for eos in range(0, 36, 5):                                                # sequences that end early, at different places
        yield greedy(rng, prompt, 12, gpt, eos=eos, pad=1)
        yield greedy(rng, prompt, 12, gpt, eos=eos, pad=1, more=[one(9)])
    for n in (1, 2, 3):                                                        # a decoder that likes to repeat itself
        yield greedy(rng, prompt % 8, 16, decoder(rng, layers=1, vocab=8, spread=3.0), attrs={"no_repeat_ngram_size": n}, eos=7, more=[one(20)])
    wide = decoder(rng, layers=1, vocab=40)
    masked = greedy(rng, prompt, 10, wide, more=[None, None, (np.arange(40) < 30).astype(np.int32)])
    yield greedy(rng, prompt, 10, wide, attrs={"vocab_size": 40})
    yield greedy(rng, prompt, 10, wide, attrs={"vocab_size": 30}, oracle=lambda *x: expected(masked))     # ONNX Runtime takes wrong rows then
    yield greedy(rng, prompt, 4, gpt, error="max_length must be larger than the prompt")
    yield greedy(rng, prompt.astype(np.int64), 9, gpt, error="operand number 0: got i64")
    yield greedy(rng, prompt, 9, gpt, attrs={"no_repeat_ngram_size": -1}, error="no_repeat_ngram_size")
    yield greedy(rng, prompt, 9, gpt, attrs={"model_type": 1}, error="attribute model_type: 1; this search")
    for op, attrs in (("GreedySearch", {}), ("Sampling", {"top_p": 0.9})):      # what has no effect
        yield greedy(rng, prompt, 9, gpt, op=op, attrs={"encoder": wide, "decoder_start_token_id": 4, **attrs})
    yield beam(rng, prompt, 9, 3, gpt, attrs={"encoder": wide, "decoder_start_token_id": 4})
    empty = onnx.GraphProto()
    empty.CopyFrom(gpt)
    del empty.output[1:]
    yield greedy(rng, prompt, 9, empty, error="attribute decoder: expected input_ids")
    yield from first_trips(rng)
