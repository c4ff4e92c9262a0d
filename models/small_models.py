#!/usr/bin/env python3
"""Writes small networks of the usual kinds, in the form in which exporters write the large ones; weights are drawn with fixed seeds.

    small_models.py FOLDER [NAME ...]       needs numpy and onnx

bert, gpt2 (with past keys and values) and vit have two layers, and symbols for batch and lengths. squeezenet and shufflenet are those of the
onnx package for images of 64 by 64 pixels; there their weights are one number each, here they are drawn. `MODELS` is for scripts that run them.
"""
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEADS, VOCABULARY, POSITIONS = 48, 3, 90, 96


class Net:
    """A graph that grows: op() takes names of values and arrays, which become initializers, and returns the name of the result."""

    def __init__(self, seed):
        self.rng, self.nodes, self.initializers = np.random.default_rng(seed), [], []

    def op(self, kind, *operands, nout=1, out=None, **attributes):
        names = [x if isinstance(x, str) else self.constant(x) for x in operands]
        results = [out] if out else [f"{kind}_{len(self.nodes)}_{i}" for i in range(nout)]
        self.nodes.append(helper.make_node(kind, names, results, name=f"/{kind}_{len(self.nodes)}", **attributes))
        return results[0] if nout == 1 else results

    def constant(self, value):
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape):
        return (self.rng.standard_normal(shape) / np.sqrt(shape[-2] if len(shape) > 1 else 8)).astype(np.float32)

    def size(self, x, axis):
        """The size of an axis, as a list of one."""
        return self.op("Unsqueeze", self.op("Gather", self.op("Shape", x), np.int64(axis), axis=0), np.array([0]))

    def reshape(self, x, *dims):
        return self.op("Reshape", x, self.op("Concat", *(d if isinstance(d, str) else np.array([d]) for d in dims), axis=0))

    def heads(self, x, *perm):
        """[batch, length, WIDTH] by heads."""
        return self.op("Transpose", self.reshape(x, self.size(x, 0), self.size(x, 1), HEADS, WIDTH // HEADS), perm=perm)

    def norm(self, x):
        """A layer norm as opset 13 writes it."""
        axes = {"axes": [-1], "keepdims": 1}
        d = self.op("Sub", x, self.op("ReduceMean", x, **axes))
        v = self.op("ReduceMean", self.op("Pow", d, np.float32(2)), **axes)
        n = self.op("Div", d, self.op("Sqrt", self.op("Add", v, np.float32(1e-5))))
        return self.op("Add", self.op("Mul", n, 1 + self.weight(WIDTH)), self.weight(WIDTH))

    def linear(self, x, n, k=WIDTH):
        return self.op("Add", self.op("MatMul", x, self.weight(k, n)), self.weight(n))

    def flat_linear(self, x, n, k=WIDTH):
        """The same by Gemm, of all rows of the batch."""
        y = self.op("Gemm", self.reshape(x, -1, k), self.weight(k, n), self.weight(n))
        return self.reshape(y, self.size(x, 0), self.size(x, 1), n)

    def gelu(self, x):
        e = self.op("Add", self.op("Erf", self.op("Div", x, np.float32(np.sqrt(2)))), np.float32(1))
        return self.op("Mul", self.op("Mul", x, e), np.float32(0.5))

    def gelu_tanh(self, x):
        c = self.op("Mul", self.op("Pow", x, np.float32(3)), np.float32(0.044715))
        t = self.op("Tanh", self.op("Mul", self.op("Add", x, c), np.float32(np.sqrt(2 / np.pi))))
        return self.op("Mul", self.op("Mul", x, np.float32(0.5)), self.op("Add", t, np.float32(1)))

    def scores(self, q, k):
        return self.op("Div", self.op("MatMul", q, k), np.float32(np.sqrt(WIDTH // HEADS)))

    def merged(self, x, y):
        """Heads side by side again; y has the batch and the length."""
        return self.reshape(self.op("Transpose", x, perm=[0, 2, 1, 3]), self.size(y, 0), self.size(y, 1), WIDTH)

    def padding(self, mask):
        """0 where the mask is 1, else a large negative number, for scores."""
        m = self.op("Cast", self.op("Unsqueeze", mask, np.array([1, 2])), to=TensorProto.FLOAT)
        return self.op("Mul", self.op("Sub", np.float32(1), m), np.float32(-10000))

    def model(self, inputs, outputs, opset=13):
        """inputs, outputs: name -> element type, shape."""
        ports = [[helper.make_tensor_value_info(n, t, s) for n, (t, s) in side.items()] for side in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, "small", *ports, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def bert():
    n = Net(1)
    e = n.op("Add", n.op("Gather", n.weight(VOCABULARY, WIDTH), "input_ids"), n.op("Gather", n.weight(2, WIDTH), "token_type_ids"))
    x = n.norm(n.op("Add", e, n.op("Slice", n.weight(1, POSITIONS, WIDTH), np.array([0]), n.size("input_ids", 1), np.array([1]))))
    mask = n.padding("attention_mask")
    for _ in range(2):
        q, v = (n.heads(n.linear(x, WIDTH), 0, 2, 1, 3) for _ in range(2))
        s = n.op("Add", n.scores(q, n.heads(n.linear(x, WIDTH), 0, 2, 3, 1)), mask)
        a = n.merged(n.op("MatMul", n.op("Softmax", s, axis=-1), v), x)
        x = n.norm(n.op("Add", n.linear(a, WIDTH), x))
        x = n.norm(n.op("Add", n.linear(n.gelu(n.linear(x, 4 * WIDTH)), WIDTH, 4 * WIDTH), x))
    first = n.op("Gather", x, np.int64(0), axis=1)
    n.op("Identity", x, out="last_hidden_state")
    n.op("Tanh", n.op("Gemm", first, n.weight(WIDTH, WIDTH), n.weight(WIDTH), transB=1), out="pooler_output")
    ids = (TensorProto.INT64, ["batch", "sequence"])
    return n.model({"input_ids": ids, "attention_mask": ids, "token_type_ids": ids},
                   {"last_hidden_state": (TensorProto.FLOAT, ["batch", "sequence", WIDTH]), "pooler_output": (TensorProto.FLOAT, ["batch", WIDTH])})


def bert_feeds(rng, batch, sequence):
    shape = (batch, sequence)
    lengths = rng.integers(1, sequence + 1, (batch, 1))
    return {"input_ids": rng.integers(0, VOCABULARY, shape), "attention_mask": (np.arange(sequence) < lengths).astype(np.int64),
            "token_type_ids": rng.integers(0, 2, shape)}


def gpt2():
    n = Net(2)
    length, past = n.size("input_ids", 1), n.size("past_key_values.0.key", 2)
    total = n.op("Add", length, past)
    scalar = [n.op("Squeeze", x, np.array([0])) for x in (past, total)]
    position = n.op("Unsqueeze", n.op("Range", *scalar, np.int64(1)), np.array([0]))
    table = n.constant(n.weight(VOCABULARY, WIDTH))
    x = n.op("Add", n.op("Gather", table, "input_ids"), n.op("Gather", n.weight(POSITIONS, WIDTH), position))
    mask, triangle = n.padding("attention_mask"), n.constant(np.tri(POSITIONS, dtype=bool)[None, None])
    for i in range(2):
        q, k, v = n.op("Split", n.flat_linear(n.norm(x), 3 * WIDTH), np.array([WIDTH] * 3), nout=3, axis=2)
        k, v = (n.op("Concat", f"past_key_values.{i}.{s}", n.heads(y, 0, 2, 1, 3), axis=2, out=f"present.{i}.{s}")
                for s, y in (("key", k), ("value", v)))
        s = n.scores(n.heads(q, 0, 2, 1, 3), n.op("Transpose", k, perm=[0, 1, 3, 2]))
        seen = n.op("Slice", n.op("Slice", triangle, past, total, np.array([2])), np.array([0]), total, np.array([3]))
        s = n.op("Add", n.op("Where", seen, s, np.float32(-10000)), mask)
        a = n.merged(n.op("MatMul", n.op("Softmax", s, axis=-1), v), x)
        x = n.op("Add", n.flat_linear(a, WIDTH), x)
        x = n.op("Add", n.flat_linear(n.gelu_tanh(n.flat_linear(n.norm(x), 4 * WIDTH)), WIDTH, 4 * WIDTH), x)
    n.op("MatMul", n.norm(x), n.op("Transpose", table, perm=[1, 0]), out="logits")
    sides, cache = [f"{i}.{s}" for i in range(2) for s in ("key", "value")], lambda t: (TensorProto.FLOAT, ["batch", HEADS, t, WIDTH // HEADS])
    ids = {"input_ids": (TensorProto.INT64, ["batch", "sequence"]), "attention_mask": (TensorProto.INT64, ["batch", "past+sequence"])}
    return n.model({**ids, **{f"past_key_values.{s}": cache("past") for s in sides}},
                   {"logits": (TensorProto.FLOAT, ["batch", "sequence", VOCABULARY]), **{f"present.{s}": cache("past+sequence") for s in sides}})


def gpt2_feeds(rng, batch, sequence, past):
    mask = np.ones((batch, past + sequence), np.int64)
    mask[:, :past // 3] = rng.integers(0, 2, (batch, past // 3))
    cache = {f"past_key_values.{i}.{s}": rng.standard_normal((batch, HEADS, past, WIDTH // HEADS)).astype(np.float32)
             for i in range(2) for s in ("key", "value")}
    return {"input_ids": rng.integers(0, VOCABULARY, (batch, sequence)), "attention_mask": mask, **cache}


def vit():
    n, pixels, patch = Net(3), 32, 8
    patches = (pixels // patch) ** 2
    c = n.op("Conv", "pixel_values", n.weight(WIDTH, 3, patch, patch) / patch, n.weight(WIDTH), kernel_shape=[patch] * 2, strides=[patch] * 2)
    x = n.op("Transpose", n.reshape(c, n.size(c, 0), WIDTH, -1), perm=[0, 2, 1])
    start = n.op("Expand", n.weight(1, 1, WIDTH), n.op("Concat", n.size("pixel_values", 0), np.array([1, 1]), axis=0))
    x = n.op("Add", n.op("Concat", start, x, axis=1), n.weight(1, patches + 1, WIDTH))
    for _ in range(2):
        y = n.norm(x)
        q, v = (n.heads(n.linear(y, WIDTH), 0, 2, 1, 3) for _ in range(2))
        s = n.scores(q, n.heads(n.linear(y, WIDTH), 0, 2, 3, 1))
        x = n.op("Add", n.linear(n.merged(n.op("MatMul", n.op("Softmax", s, axis=-1), v), y), WIDTH), x)
        x = n.op("Add", n.linear(n.gelu(n.linear(n.norm(x), 4 * WIDTH)), WIDTH, 4 * WIDTH), x)
    first = n.op("Gather", n.norm(x), np.int64(0), axis=1)
    n.op("Gemm", first, n.weight(10, WIDTH), n.weight(10), transB=1, out="logits")
    return n.model({"pixel_values": (TensorProto.FLOAT, ["batch", 3, pixels, pixels])}, {"logits": (TensorProto.FLOAT, ["batch", 10])})


def image_feeds(name, *shape):
    return lambda rng, batch=1: {name: rng.standard_normal((batch, *shape)).astype(np.float32)}


def light(name, seed):
    """A network of the onnx package for images of 64 by 64 pixels, with drawn weights."""
    model = onnx.load(os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "light", f"light_{name}.onnx"))
    graph, rng = model.graph, np.random.default_rng(seed)
    smaller = {224: 64, 112: 32, 56: 16, 28: 8, 14: 4, 7: 2}       # heights and widths of what is in between
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "ConstantOfShape":
            shape = values.pop(node.input[0])
            w = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else rng.uniform(0.5, 1.5, shape) / 4
            values[node.output[0]] = w.astype(np.float32)
            graph.node.remove(node)
        elif node.op_type == "Reshape":
            shape = values[node.input[1]]
            shape = values[node.input[1]] = shape.copy()
            shape[-2:] = [smaller.get(d, d) for d in shape[-2:]] if len(shape) > 2 else shape[-2:]
        elif node.op_type == "AveragePool":
            for a in node.attribute:
                if a.name == "kernel_shape" and list(a.ints) == [7, 7]:
                    a.ints[:] = [2, 2]
    used = {x for node in graph.node for x in node.input}
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items() if k in used)
    inputs = [p for p in graph.input if p.name in used and p.name not in values]
    for p in inputs:
        for d in p.type.tensor_type.shape.dim[2:]:
            d.dim_value = smaller[d.dim_value]
    del graph.input[:]
    graph.input.extend(inputs)
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def squeezenet():
    return light("squeezenet", 4)


def shufflenet():
    return light("shufflenet", 5)


# Name: what makes the model, what draws its inputs, values of its symbols. gpt2 knows POSITIONS positions, and its causal mask must cover all scores:
# sequence + past is no more, whether a compiler is told (BOUNDS) or has to look.
BOUNDS = {"gpt2": {"sequence": 32, "past": 64}}
MODELS = {
    "bert": (bert, bert_feeds,
             [{"batch": 1, "sequence": 5}, {"batch": 3, "sequence": 37}, {"batch": 1, "sequence": 70}, {"batch": 2, "sequence": 1}]),
    "gpt2": (gpt2, gpt2_feeds, [{"batch": 2, "sequence": 1, "past": 7}, {"batch": 1, "sequence": 32, "past": 0},
                                {"batch": 1, "sequence": 1, "past": 64},
                                {"batch": 3, "sequence": 9, "past": 64}]),
    "vit": (vit, image_feeds("pixel_values", 3, 32, 32), [{"batch": 1}, {"batch": 5}]),
    "squeezenet": (squeezenet, image_feeds("data_0", 3, 64, 64), [{}]),
    "shufflenet": (shufflenet, image_feeds("gpu_0/data_0", 3, 64, 64), [{}]),
}


def main():
    folder, names = sys.argv[1], sys.argv[2:] or list(MODELS)
    os.makedirs(folder, exist_ok=True)
    for name in names:
        path = os.path.join(folder, f"{name}.onnx")
        onnx.save(MODELS[name][0](), path)
        print(f"{path}: {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
