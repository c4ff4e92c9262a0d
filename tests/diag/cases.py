"""Cases of bad input that text files cannot express: damaged protobuf, external data, special files, options."""
import os
import stat
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CASES = []


class Case:
    """build(folder) gives the arguments; expect: substrings of the messages; lines: their number, 0 any."""

    def __init__(self, name, build, *expect, status=1, lines=0, stdin=None, env=None, full=False):
        self.name, self.build, self.expect, self.status = name, build, expect, status
        self.lines, self.stdin, self.env, self.full = lines, stdin, env, full


def case(name, *expect, **more):
    """Registers a function that makes files in a folder and returns the arguments."""
    def register(build):
        CASES.append(Case(name, build, *expect, **more))
        return build
    return register


# --- small models ------------------------------------------------------------------------------------------

def model(nodes=None, inputs=None, outputs=None, inits=(), opset=17, **more):
    nodes = nodes or [helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")]
    inputs = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])]
    outputs = outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    inits = inits or [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(inits))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)


def put(folder, name, data):
    data = data.SerializeToString() if not isinstance(data, (bytes, bytearray)) else data
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)
    return name


def compile_bytes(folder, data, *more):
    return [put(folder, "m.onnx", data), "-o", "out.so", *more]


GOOD = model().SerializeToString()


def long_model():
    """A few kilobytes, so that cuts fall into every kind of field."""
    nodes = [helper.make_node("Add", [f"v{i}", "w"], [f"v{i + 1}"], name=f"add{i}") for i in range(60)]
    nodes.append(helper.make_node("Relu", ["v60"], ["y"]))
    return model(nodes, [helper.make_tensor_value_info("v0", TensorProto.FLOAT, ["N", 4, 3])]).SerializeToString()


# --- the file ------------------------------------------------------------------------------------------------

CASES += [
    Case("file/missing", lambda d: ["m.onnx", "-o", "out.so"], "m.onnx: error[E0100]: cannot read the model: No such file", lines=1),
    Case("file/directory", lambda d: (os.mkdir(d + "/m.onnx"), ["m.onnx", "-o", "out.so"])[1], "it is a directory", lines=1),
    Case("file/empty", lambda d: compile_bytes(d, b""), "the file is empty", lines=1),
    Case("file/zeros", lambda d: compile_bytes(d, bytes(1000)), "not an ONNX model", lines=1),
    Case("file/png", lambda d: compile_bytes(d, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8), "not an ONNX model", lines=1),
    Case("file/prose", lambda d: compile_bytes(d, b"This is no model.\n" * 9), "not an ONNX model", lines=1),
    Case("file/json", lambda d: compile_bytes(d, b'{"graph": {"node": []}}'), "not an ONNX model", lines=1),
    Case("file/elf", lambda d: compile_bytes(d, open("/proc/self/exe", "rb").read(100000)), "not an ONNX model", lines=1),
    Case("file/noise", lambda d: compile_bytes(d, np.random.default_rng(1).bytes(5000)), "not an ONNX model", lines=1),
    Case("file/lfs", lambda d: compile_bytes(d, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), "git lfs pull", lines=1),
    Case("file/zip", lambda d: compile_bytes(d, b"PK\3\4" + bytes(60)), "as PyTorch writes; export the model to ONNX", lines=1),
    Case("file/tflite", lambda d: compile_bytes(d, b"\x1c\0\0\0TFL3" + bytes(60)), "a model of TensorFlow Lite", lines=1),
    Case("file/cut-magic", lambda d: compile_bytes(d, b"\x1c\0\0\0TF"), "not an ONNX model, or a damaged one", lines=1),
    Case("file/empty-pipe", lambda d: (put(d, "in", b""), ["-", "-o", "out.so"])[1], "stdin: error[E0100]", lines=1, stdin="in"),
    Case("file/no-graph", lambda d: compile_bytes(d, onnx.ModelProto(ir_version=8)), "it has no graph", lines=1),
    Case("file/old-ir", lambda d: compile_bytes(d, onnx.ModelProto(ir_version=2, graph=onnx.GraphProto(name="g"))),
         "IR version 2 is not supported", lines=1),
    Case("file/no-opset", lambda d: compile_bytes(d, onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(name="g"))),
         "imports no operator set", lines=1),
]


def truncations():
    data = long_model()
    for n in range(100, len(data), 100):
        CASES.append(Case(f"truncated/{n:05}", lambda d, n=n: compile_bytes(d, data[:n]), "not an ONNX model", lines=1))


truncations()


# --- hostile encodings -----------------------------------------------------------------------------------------

def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


@case("wire/nesting", "nested more than 100 deep", lines=1)
def _(d):
    graph = b""
    for _ in range(20000):     # graph -> node -> attribute -> graph
        graph = field(1, field(5, field(6, graph)))
        if len(graph) > 4 << 20:
            break
    return compile_bytes(d, b"\x08\x08" + field(7, graph))


@case("wire/amplification", "of memory, which its", lines=1)
def _(d):
    return compile_bytes(d, b"\x08\x08" + field(7, b"\x2a\x00" * 2000000))   # two million empty initialisers


@case("wire/graph-twice", "a field occurs twice", lines=1)
def _(d):
    return compile_bytes(d, GOOD + field(7, b""))


@case("wire/wrong-type", "a field has the wrong type", lines=1)
def _(d):
    return compile_bytes(d, b"\x08\x08" + varint(7 << 3) + b"\x05")


@case("wire/huge-length", "a field is longer than what contains it", lines=1)
def _(d):
    return compile_bytes(d, b"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")


@case("functions/exponential", "expand to more than", lines=1)
def _(d):
    functions = []
    for i in range(60):
        op = "Relu" if i == 0 else f"F{i - 1}"
        domain = "" if i == 0 else "f"
        nodes = [helper.make_node(op, ["a"], ["t"], domain=domain), helper.make_node(op, ["t"], ["b"], domain=domain)]
        functions.append(helper.make_function("f", f"F{i}", ["a"], ["b"], nodes,
                                              [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]))
    m = model([helper.make_node("F59", ["x"], ["y"], domain="f")], functions=functions)
    m.opset_import.append(helper.make_opsetid("f", 1))
    return compile_bytes(d, m)


# --- tensors ---------------------------------------------------------------------------------------------------

def tensor(dims, data_type=TensorProto.FLOAT, **fields):
    t = TensorProto(name="w", data_type=data_type, **fields)
    t.dims.extend(dims)
    return t


def weights(name, *expect, **more):
    CASES.append(Case("tensor/" + name, lambda d: compile_bytes(d, model(inits=[more["t"]])), *expect, lines=1))


weights("raw-short", 'tensor "w": raw data has 40 bytes, its shape needs 48', t=tensor([4, 3], raw_data=bytes(40)))
weights("raw-long", "raw data has 50 bytes, its shape needs 48", t=tensor([4, 3], raw_data=bytes(50)))
weights("floats-short", "float_data has 5 elements, its shape needs 12", t=tensor([4, 3], float_data=[1] * 5))
weights("no-data", "it has no data", t=tensor([4, 3]))
weights("negative-dim", "dim 0 is negative: -4", t=tensor([-4, 3], float_data=[1] * 12))
weights("overflow", "the number of elements overflows", t=tensor([1 << 40, 1 << 40], float_data=[1] * 12))
weights("overflow-zero", "the number of elements overflows", t=tensor([1 << 40, 0, 1 << 40]))
weights("huge", "float_data has 12 elements", t=tensor([1 << 40, 3], float_data=[1] * 12))
weights("unknown-type", "element type 99 is unknown", t=tensor([4, 3], 99, raw_data=bytes(48)))
weights("rank", "rank 17, the limit is 16", t=tensor([1] * 17, float_data=[1]))


def sparse(dims, indices, values=(1.0, 2.0)):
    m = model()
    del m.graph.initializer[:]
    v = helper.make_tensor("w", TensorProto.FLOAT, [len(values)], values)
    i = numpy_helper.from_array(np.array(indices, np.int64), "i")
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(v, i, dims))
    return m


CASES += [
    Case("sparse/index", lambda d: compile_bytes(d, sparse([4, 3], [0, 12])), "index 12 of a sparse tensor", lines=1),
    Case("sparse/negative", lambda d: compile_bytes(d, sparse([4, 3], [[0, 0], [-1, 0]])), "index -1", lines=1),
    Case("sparse/count", lambda d: compile_bytes(d, sparse([4, 3], [0])), "the indices of a sparse tensor", lines=1),
    Case("sparse/bomb", lambda d: compile_bytes(d, sparse([1 << 20, 1 << 20], [0, 1])), "when dense", lines=1),
]


# --- external data -----------------------------------------------------------------------------------------------

def external(name, *expect, location="w.bin", prepare=None, file=bytes(48), **entries):
    def build(d):
        os.mkdir(d + "/dir")
        if file is not None:
            put(d, "dir/w.bin", file)
        if prepare:
            prepare(d)
        t = tensor([4, 3], data_location=TensorProto.EXTERNAL)
        for k, v in [("location", location), *entries.items()]:
            if v is not None:
                t.external_data.add(key=k, value=str(v))
        return [put(d, "dir/m.onnx", model(inits=[t])), "-o", "out.so"]
    CASES.append(Case("external/" + name, build, *expect, lines=1))


external("missing-file", 'cannot open "w.bin": No such file', file=None)
external("no-location", "external data without a location", location=None)
external("empty-location", "is not a relative path", location="")
external("absolute", 'location "/etc/passwd" is not a relative path', location="/etc/passwd")
external("parent", "leaves the model's directory", location="../w.bin", prepare=lambda d: put(d, "w.bin", bytes(48)))
external("parent-inside", "leaves the model's directory", location="sub/../../w.bin", prepare=lambda d: os.mkdir(d + "/dir/sub"))
external("link-outside", "leaves the model's directory", location="l.bin",
         prepare=lambda d: (put(d, "o.bin", bytes(48)), os.symlink("../o.bin", d + "/dir/l.bin")))
external("link-directory", "leaves the model's directory", location="up/o.bin",
         prepare=lambda d: (put(d, "o.bin", bytes(48)), os.symlink("..", d + "/dir/up")))
external("link-prefix", "leaves the model's directory", location="l.bin",
         prepare=lambda d: (os.mkdir(d + "/dir2"), put(d, "dir2/o.bin", bytes(48)), os.symlink("../dir2/o.bin", d + "/dir/l.bin")))
external("directory", "is not a regular file", location="sub", prepare=lambda d: os.mkdir(d + "/dir/sub"))
external("fifo", "is not a regular file", location="fifo", prepare=lambda d: os.mkfifo(d + "/dir/fifo"))
external("offset-range", "out of range: bytes 8 to 56", offset=8)
external("offset-huge", "out of range", offset=(1 << 63) - 1)
external("offset-overflow", "is not a number", offset=1 << 64)
external("offset-negative", 'offset "-4" is not a number', offset=-4)
external("offset-text", 'offset "4x" is not a number', offset="4x")
external("length-wrong", "has length 40, its shape needs 48", length=40)
external("file-short", "out of range", file=bytes(47))
external("file-empty", "out of range", file=b"")


# --- graphs that the checker of ONNX would never let through -----------------------------------------------------------

@case("graph/long-cycle", "the graph has a cycle", "... ->", lines=1)
def _(d):
    n = 50000
    nodes = [helper.make_node("Relu", [f"v{(i + 1) % n}"], [f"v{i}"]) for i in range(n)]
    return compile_bytes(d, model(nodes, outputs=[helper.make_tensor_value_info("v0", TensorProto.FLOAT, None)]))


@case("graph/unsupported-all", "NopeA", "NopeB", "inside", "(NopeC-17)", lines=4)
def _(d):
    then = helper.make_graph([helper.make_node("NopeC", [], ["t"], name="inside")], "then", [],
                             [helper.make_tensor_value_info("t", TensorProto.FLOAT, [1])])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["e"])], "else", [],
                              [helper.make_tensor_value_info("e", TensorProto.FLOAT, [1])])
    nodes = [helper.make_node("NopeA", ["x"], ["a"], name="first"), helper.make_node("NopeB", ["a"], ["c"]),
             helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    return compile_bytes(d, model(nodes, inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]))


# --- outputs -----------------------------------------------------------------------------------------------------------

def output(name, path, *expect, prepare=None, args=(), **more):
    def build(d):
        if prepare:
            prepare(d)
        return [put(d, "m.onnx", GOOD), "-o", path, *args]
    CASES.append(Case("output/" + name, build, *expect, **more))


output("full", "/dev/full", 'cannot write "/dev/full": No space left', args=["--emit=ir"], lines=1)
output("no-directory", "none/out.so", 'cannot write "none/out.so": No such file', lines=1)
output("is-directory", "dir", 'cannot write "dir": Is a directory', prepare=lambda d: os.mkdir(d + "/dir"), lines=1)
output("under-file", "m.onnx/out.so", "Not a directory", lines=1)
if os.getuid():
    output("read-only", "ro/out.so", "Permission denied", lines=1,
           prepare=lambda d: (os.mkdir(d + "/ro"), os.chmod(d + "/ro", stat.S_IRUSR | stat.S_IXUSR)))


for ending in "so", "o", "a", "ir":
    output("disc-full-" + ending, "out." + ending, "cannot write", "File too large", full=True, lines=1)
CASES.append(Case("output/no-linker", lambda d: compile_bytes(d, GOOD), "no linker found", lines=1, env={"PATH": "/nonexistent"}))


# --- options -----------------------------------------------------------------------------------------------------------

def option(name, args, *expect, status=1, lines=0):
    CASES.append(Case("option/" + name, lambda d: compile_bytes(d, GOOD, *args), *expect, status=status, lines=lines))


option("dim-unknown", ["--dim", "batch=1"], "--dim batch: the model has no such dimension; it has N", lines=1)
option("dim-contradicts", ["--dim", "x_1=3"], "--dim x_1: the model has no such dimension", lines=1)
option("dim-text", ["--dim", "N=x"], "is not a valid NAME=N", status=2)
option("dim-range", ["--dim", "N=5..2"], "is not a valid NAME=N", status=2)
option("dim-negative", ["--dim", "N=-1"], "is not a valid NAME=N", status=2)
option("dim-overflow", ["--dim", "N=99999999999999999999"], "is not a valid NAME=N", status=2)
option("unknown", ["--nonsense"], "unknown option --nonsense", status=2)
option("no-value", ["--dim"], "option --dim needs a value", status=2)
option("emit", ["--emit=pdf"], '"pdf" is not a valid KIND', status=2)
option("two-models", ["n.onnx"], "two models are given", status=2)
option("name", ["--name", "a-b"], '"a-b" is not a valid NAME', status=2)
option("target", ["--target", "z80"], 'there is no target "z80"', lines=1)
option("sched-name", ["--sched", "magic mr=1"], "--sched: there is no template 'magic'", lines=1)
option("sched-value", ["--sched", "contract magic=1"], "the parameters of contract are: mr", lines=1)
option("sched-number", ["--sched", "contract mr=x"], "is not NAME [PARAMETER=VALUE ..]", lines=1)
option("executor", ["--executor", "magic"], 'there is no executor "magic"', lines=1)
option("precision", ["--precision", "f8"], 'there is no precision "f8": float32, tf32, bf16, f16', lines=1)
option("pass", ["--passes=nothing"], 'there is no pass "nothing"', lines=1)
option("stop-after", ["--stop-after=nothing"], 'there is no pass "nothing"', lines=1)
CASES += [
    Case("option/no-model", lambda d: ["-o", "out.so"], "no model is given", status=2),
    Case("option/eval-missing", lambda d: ["--eval", put(d, "m.onnx", GOOD)], "input x is missing", lines=1),
    Case("option/eval-unknown", lambda d: ["--eval", put(d, "m.onnx", GOOD), "--input", "z=z.npy"],
         "--input z: the model has no such name; it has x", lines=1),
    Case("option/eval-file", lambda d: ["--eval", put(d, "m.onnx", GOOD), "--input", "x=z.npy"], "z.npy: error", lines=1),
    Case("inspect/not-elf", lambda d: ["inspect", put(d, "x.so", b"no")], "is not a model compiled by accelc", lines=1),
]


def npy(name, data, *expect):
    CASES.append(Case("npy/" + name, lambda d: (put(d, "x.npy", data), ["--eval", put(d, "m.onnx", GOOD), "--input", "x=x.npy"])[1],
                      *expect, lines=1))


def header(text):
    text = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


npy("not-npy", b"nothing", "not a .npy file")
npy("cut-header", b"\x93NUMPY\x01\x00\xff\x00{", "damaged")
npy("cut-data", header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }") + bytes(20), "cut off")
npy("huge", header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 4), }"), "cut off")
npy("overflow", header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776), }"), "too large")
npy("type", header("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 4), }") + bytes(32), "element type >f4")
