"""com.microsoft: beam searches around tiny encoders and decoders with random weights, as ONNX Runtime wants them of T5 and Whisper."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from op_test import Case, expected, f32, i32

MS = "com.microsoft."
FLOAT, INT32 = TensorProto.FLOAT, TensorProto.INT32


def one(x, kind=np.int32):
    return np.array([x], kind)


class Pair:
    """An encoder and a decoder with attention to their own past and to what the encoder made of its input."""

    def __init__(self, rng, layers=2, heads=2, size=8, vocab=17, spread=2.0, features=0, hidden=True, first=True, whole=False):
        self.layers, self.heads, self.size, self.vocab, self.features = layers, heads, size, vocab, features
        self.hidden, self.first, self.whole = hidden, first, whole      # first: the encoder makes the first scores, too
        self.w = {"words": f32(rng, vocab, size, scale=spread), "inputs": f32(rng, vocab, size), "head": f32(rng, size, vocab, scale=spread),
                  "spectrum": f32(rng, max(features, 1), size), "mix": f32(rng, size, size, scale=0.5)}
        for i in range(layers):
            for n in ("q", "k", "v", "o", "cq", "ck", "cv", "co"):
                self.w[f"{n}{i}"] = f32(rng, size, size, scale=0.6)

    def start(self):
        self.nodes, self.used = [], {}

    def node(self, op, ins, out, **attrs):
        self.nodes.append(helper.make_node(op, ins, [out], **attrs))
        return out

    def const(self, name, value):
        self.used[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def weight(self, name):
        return self.const(name, self.w[name])

    def split(self, x, w, out):
        """[B, S, size] times a matrix, by heads: [B, heads, S, size / heads]"""
        y = self.node("MatMul", [x, self.weight(w)], out + "_m")
        y = self.node("Reshape", [y, self.const("by_heads", np.array([0, 0, self.heads, -1], np.int64))], out + "_r")
        return self.node("Transpose", [y], out, perm=[0, 2, 1, 3])

    def attend(self, q, k, v, bias, o, out):
        s = self.node("MatMul", [q, self.node("Transpose", [k], out + "_t", perm=[0, 1, 3, 2])], out + "_s")
        if bias:
            s = self.node("Add", [s, bias], out + "_b")
        y = self.node("MatMul", [self.node("Softmax", [s], out + "_p", axis=-1), v], out + "_v")
        y = self.node("Transpose", [y], out + "_u", perm=[0, 2, 1, 3])
        y = self.node("Reshape", [y, self.const("joined", np.array([0, 0, -1], np.int64))], out + "_j")
        return self.node("Tanh", [self.node("MatMul", [y, self.weight(o)], out + "_o")], out)

    def decode(self, ids, mask, past, cross):
        """Scores and the states of each layer; of several new tokens each sees those before it."""
        x, bias, causal = self.node("Gather", [self.weight("words"), ids], "h0"), None, None
        if mask:
            m = self.node("Cast", [mask], "mask_f", to=FLOAT)
            m = self.node("Mul", [self.node("Sub", [m, self.const("one", np.float32(1))], "mask_0"), self.const("much", np.float32(1e4))], "mask_1")
            bias = self.node("Unsqueeze", [m, self.const("front", np.array([1, 2], np.int64))], "mask_b")
        if not past:
            n = self.node("Gather", [self.node("Shape", [ids], "ids_shape"), self.const("i1", np.int64(1))], "ids_n")
            i = self.node("Range", [self.const("i0", np.int64(0)), n, "i1"], "ids_i")
            later = self.node("Less", [self.node("Unsqueeze", [i, self.const("last", np.array([1], np.int64))], "ids_c"), i], "later")
            causal = self.node("Mul", [self.node("Cast", [later], "later_f", to=FLOAT), self.const("low", np.float32(-1e4))], "causal")
        states = []
        for i in range(self.layers):
            q, k, v = (self.split(x, f"{n}{i}", f"{n}_{i}") for n in "qkv")
            if past:
                k = self.node("Concat", [past[2 * i], k], f"k_all{i}", axis=2)
                v = self.node("Concat", [past[2 * i + 1], v], f"v_all{i}", axis=2)
            states += [self.node("Identity", [k], f"present_key_self_{i}"), self.node("Identity", [v], f"present_value_self_{i}")]
            x = self.node("Add", [x, self.attend(q, k, v, causal, f"o{i}", f"own{i}")], f"y{i}")
            x = self.node("Add", [x, self.attend(self.split(x, f"cq{i}", f"c_q{i}"), cross[2 * i], cross[2 * i + 1], bias, f"co{i}", f"other{i}")],
                          f"h{i + 1}")
        self.node("MatMul", [x, self.weight("head")], "logits")
        return states

    def value(self, name, kind, *shape):
        return helper.make_tensor_value_info(name, kind, list(shape))

    def state(self, name, length):
        return self.value(name, FLOAT, "batch", self.heads, length, self.size // self.heads)

    def names(self, what, kind):
        return [f"{what}_{n}_{kind}_{i}" for i in range(self.layers) for n in ("key", "value")]

    def encoder(self):
        self.start()
        if self.features:
            ins = [self.value("encoder_input_ids", FLOAT, "batch", self.features, "frames")]
            x = self.node("MatMul", [self.node("Transpose", ["encoder_input_ids"], "frames_first", perm=[0, 2, 1]), self.weight("spectrum")], "e0")
        else:
            ins = [self.value("encoder_input_ids", INT32, "batch", "frames"), self.value("encoder_attention_mask", INT32, "batch", "frames")]
            x = self.node("Gather", [self.weight("inputs"), "encoder_input_ids"], "e0")
        self.node("Tanh", [self.node("MatMul", [x, self.weight("mix")], "e1")], "encoder_hidden_states")
        cross = [self.split("encoder_hidden_states", f"c{n}{i}", f"present_{w}_cross_{i}")
                 for i in range(self.layers) for n, w in (("k", "key"), ("v", "value"))]
        outs = []
        if self.first:
            ins.append(self.value("decoder_input_ids", INT32, "batch", "begun"))
            self.decode("decoder_input_ids", None if self.features else "encoder_attention_mask", None, cross)
            outs = [self.value("logits", FLOAT, "batch", "begun", self.vocab),
                    self.value("encoder_hidden_states", FLOAT, "batch", "frames", self.size)]
            outs += [self.state(n, "begun") for n in self.names("present", "self")]
        outs += [self.state(n, "frames") for n in self.names("present", "cross")]
        return helper.make_graph(self.nodes, "encoder", ins, outs, list(self.used.values()))

    def decoder(self):
        self.start()
        ins = [self.value("input_ids", INT32, "batch", "tokens" if self.whole else 1)]
        if not self.features:
            ins.append(self.value("encoder_attention_mask", INT32, "batch", "frames"))
        if self.hidden:
            ins.append(self.value("encoder_hidden_states", FLOAT, "batch", "frames", self.size))
        past, cross = self.names("past", "self"), self.names("past", "cross")
        ins += [self.state(n, "past_len") for n in past] + [self.state(n, "frames") for n in cross]
        ids = "input_ids"
        if self.whole:                                  # of all tokens, those that the past lacks
            n = self.node("Gather", [self.node("Shape", [past[0]], "past_shape"), self.const("two", np.int64(2))], "past_n")
            n = self.node("Unsqueeze", [n, self.const("lead", np.array([0], np.int64))], "past_n1")
            ids = self.node("Slice", [ids, n, self.const("end", np.array([2**31], np.int64)), self.const("axis", np.array([1], np.int64))], "new_ids")
        self.decode(ids, None if self.features else "encoder_attention_mask", past, cross)
        outs = [self.value("logits", FLOAT, "batch", 1, self.vocab)] + [self.state(n, "all_len") for n in self.names("present", "self")]
        return helper.make_graph(self.nodes, "decoder", ins, outs, list(self.used.values()))


def search(pair, x, length, beams, start=3, eos=1, pad=0, returned=None, least=0, penalty=1.0, more=(), op=None, nout=2, **how):
    attrs = {"encoder": pair.encoder(), "decoder": pair.decoder(), "eos_token_id": eos, "pad_token_id": pad, "decoder_start_token_id": start,
             "model_type": 2 if pair.features else 1, **how.pop("attrs", {})}
    inputs = [x, one(length), one(least), one(beams), one(returned or beams), one(penalty, np.float32), *more]
    op = MS + (op or ("WhisperBeamSearch" if pair.features else "BeamSearch"))

    def alone(*inputs):
        """Each batch by itself: ONNX Runtime asks the scores of others whether one can do better (beam_search_scorer.cc: batch * num_beams_)."""
        rows = [expected(Case(op, [v[b:b + 1] if k in (0, 8, 9, 10) and v is not None else v for k, v in enumerate(inputs)], attrs, nout=nout))
                for b in range(len(x))]
        return [np.concatenate(r) for r in zip(*rows)]
    how.setdefault("oracle", alone)
    return Case(op, inputs, attrs, nout=nout, **how)


def scored(case, begun):
    """With the scores of each trip, which ONNX Runtime leaves to chance once all batches are done: 0 here."""
    case.nout, case.wanted, plain = 3, (0, 1, 2), Case(MS + case.op, case.inputs, case.attrs, nout=3)
    only = Case(MS + case.op, case.inputs, case.attrs, nout=2)

    def trips(*inputs):
        sequences, best, scores = expected(plain)
        for n in range(begun + 2, scores.shape[0] + begun):     # how many trips until all are done
            shorter = Case(MS + only.op, [inputs[0], one(n), *inputs[2:]], only.attrs, nout=2)
            if all(np.array_equal(a[..., :n], b[..., :n]) for a, b in zip(expected(shorter), (sequences, best))) and (sequences[..., n:] == 0).all():
                scores[n - begun:] = 0
                break
        return [sequences, best, scores]
    case.oracle = trips
    return case


def t5(rng):
    ids = i32(rng, 2, 5, low=2, high=16)
    padded = np.array([[0, 0, 5, 7, 3], [4, 0, 9, 11, 0]], np.int32)
    pair = Pair(rng)
    yield search(pair, ids, 9, 3)
    yield search(pair, ids[:1], 7, 4, returned=2, dynamic=True)
    yield search(pair, padded, 9, 1)
    yield search(pair, padded, 8, 2, more=[None, None, None, np.array([[0, 1, 1, 0, 1], [1, 1, 1, 1, 0]], np.int32)], const=(1, 3))
    yield search(pair, ids, 12, 3, more=[one(1.6, np.float32)], least=6, penalty=0.5)
    yield search(pair, ids, 9, 3, more=[None, (np.arange(17) % 3 != 0).astype(np.int32)], pad=2)
    yield search(pair, ids, 9, 3, more=[None, None, (np.arange(17) % 4 != np.array([[0], [1]])).astype(np.int32)])
    for eos in range(2, 17, 3):
        yield search(pair, ids, 12, 3, eos=eos, more=[None] * 5 + [one(0)])
        yield search(pair, ids, 12, 3, eos=eos, start=5, penalty=eos / 8, attrs={"early_stopping": eos % 2, "no_repeat_ngram_size": eos % 4})
    yield scored(search(pair, ids, 5, 2), 1)
    bare = Pair(rng, layers=1, hidden=False)
    yield search(bare, ids, 9, 3)
    later = Pair(rng, hidden=False)
    plain = search(later, ids, 9, 3)
    later.first = False                     # the decoder makes the first scores, too; ONNX Runtime has that on GPUs alone
    yield search(later, ids, 9, 3, oracle=lambda *x: expected(plain))
    yield search(later, ids, 9, 3, dynamic=True, oracle=lambda *x: expected(plain))
    yield search(Pair(rng, whole=True), ids, 9, 3)
    yield search(Pair(rng, whole=True), ids, 9, 1, attrs={"vocab_size": 17})
    wide = Pair(rng, layers=1, vocab=6, spread=4.0)
    for least in (2, 5):
        yield search(wide, ids % 6, 10, 3, eos=4, least=least)
    yield search(pair, ids, 9, 3, more=[None] * 4 + [np.array([[5, 6], [7, 8]], np.int32)], attrs={"init_decoder": bare.decoder()})  # without effect
    yield search(pair, ids, 1, 3, error="max_length must be larger than the prompt")
    yield search(pair, ids, 9, 3, returned=4, error="num_return_sequences is larger than num_beams")
    yield search(pair, f32(rng, 2, 5), 9, 3, error="input_ids")
    broken = search(pair, ids, 9, 3, error="encoder and decoder do not fit")
    del broken.attrs["decoder"].output[4:]
    yield broken
    alone = search(pair, ids, 9, 3, error="attribute encoder is missing")
    del alone.attrs["encoder"]
    yield alone


def whisper(rng):
    x = f32(rng, 2, 3, 6)
    pair = Pair(rng, features=3)
    marks = {"beginning_timestamp_token_id": 12, "no_timestamps_token_id": 11, "start_of_lm_token_id": 10, "translate_token_id": 8,
             "transcribe_token_id": 9, "no_speech_token_id": 7}

    def speech(length, beams, *end, pair=pair, x=x, **how):
        return search(pair, x, length, beams, more=[None] * 4 + list(end), attrs=marks, **how)
    begun = np.array([[3, 5, 9], [3, 6, 8]], np.int32)
    yield search(pair, x, 9, 3)
    yield search(pair, x[:1], 8, 2, returned=1, dynamic=True)
    yield search(pair, x, 9, 3, attrs={"early_stopping": 1, "no_repeat_ngram_size": 2})
    yield search(pair, x, 9, 3, attrs={"vocab_size": pair.vocab})
    some = (np.arange(pair.vocab) % 5 != 4).astype(np.int32)
    yield search(pair, x, 9, 3, more=[one(1.3, np.float32), some, np.stack([some[::-1]] * 2)])
    yield speech(11, 3, begun)
    yield speech(11, 3, begun, one(0), None, None, one(0.6, np.float32))
    for seed in range(6):
        many = Pair(np.random.default_rng(seed), layers=1, features=3, vocab=20, spread=3.0)
        yield speech(14, 3, begun if seed % 2 else None, one(1), eos=2, pair=many, dynamic=seed == 3)
        yield speech(14, 2, begun, one(1), None, None, one(2.5, np.float32), eos=4, pair=many, least=9)
    far = Pair(rng, layers=1, features=2, vocab=80)         # a first time stamp that is late
    yield speech(9, 3, None, one(1), pair=far, x=f32(rng, 2, 2, 4))
    yield scored(speech(7, 2, begun), 3)
    quiet = speech(9, 3, begun)
    quiet.nout, quiet.wanted, alone = 5, (0, 1, 4), Case(MS + quiet.op, [x, one(5), *quiet.inputs[2:]], quiet.attrs, nout=3)

    def silence(*inputs):                                   # the probability before processing: that of a search of one trip
        scores = expected(alone)[2][0]
        return [*expected(Case(MS + quiet.op, quiet.inputs, quiet.attrs, nout=2)), None, None, np.exp(scores[:, 0, 7])]
    quiet.oracle = silence
    yield quiet
    yield search(pair, x[:1], 9, 3, attrs={"init_decoder": far.decoder()}, more=[            # what has no effect without the result cross_qk
        None, None, None, np.zeros((1, 3, 6), np.int32), None, None, np.array([[0, 1]], np.int32), np.array([[3, -1]], np.int32)])
    yield search(pair, x, 9, 3, attrs={"model_type": 1}, error="attribute model_type: expected 2, got 1")
    yield search(pair, x, 9, 3, nout=4, error="cross_qk")
    yield search(pair, x, 9, 3, more=[None] * 4 + [begun.astype(np.float32)], error="decoder_input_ids|operand")


def cases(rng):
    yield from t5(rng)
    yield from whisper(rng)
