"""Models with nodes that fail, and what --extract-failing makes of them."""
import dataclasses

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


@dataclasses.dataclass
class Extract:
    name: str
    model: ModelProto
    ops: list = ()          # operators of the extracted graph; none: nothing is written
    says: str = ""          # part of the messages, or of what is said when nothing is written
    valid: bool = False     # for onnx.checker
    look: object = None     # of the extracted model: what is wrong with it, or None
    status: int = 1
    args: tuple = ()        # of the extraction
    again: tuple = ()       # of the compilation of what was extracted
    files: dict = dataclasses.field(default_factory=dict)


def value(name, t, *dims):
    return helper.make_tensor_value_info(name, t, dims)


def node(op, ins, outs, **attrs):
    return helper.make_node(op, ins.split(), outs.split(), **attrs)


def model(nodes, inputs, outputs, inits=(), opset=17, info=(), **more):
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(np.array(v), k) for k, v in dict(inits).items()],
                              value_info=list(info))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("f", 1)], ir_version=8, **more)


def inputs_are(*want):
    def look(m):
        def dims(v):
            return [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim]
        got = [(v.name, v.type.tensor_type.elem_type, *dims(v)) for v in m.graph.input]
        return None if got == list(want) else f"inputs {got}"
    return look


def initialisers_are(**want):
    def look(m):
        got = {t.name: numpy_helper.to_array(t).tolist() for t in m.graph.initializer}
        return None if got == want else f"initialisers {got}"
    return look


def loop(body, captured="x"):
    """A Loop whose body computes r from v with those nodes."""
    inner = helper.make_graph([*body, node("Identity", "cond", "again")], "body",
                              [value("i", INT64), value("cond", BOOL), value("v", FLOAT, 4)],
                              [value("again", BOOL), value("r", FLOAT, 4)])
    return model([node("Loop", f"n c {captured}", "y", body=inner, name="loop")], [value("x", FLOAT, 4)], [value("y", FLOAT, 4)],
                 {"n": np.int64(3), "c": True})


X, Y = value("x", FLOAT, "N", 4), value("y", FLOAT, "N", 4)
BIG = np.zeros((300, 300), np.float32)

CASES = [
    Extract("nothing", model([node("Relu", "x", "y")], [X], [Y]), says="nothing fails", status=0),
    Extract("not-at-a-node", model([node("Relu", "x", "y")], [X], [value("y", INT64, "N", 4)]), says="no node"),
    Extract("operator", model([node("Relu", "x", "a"), node("Nope", "a", "b", name="bad", speed=3), node("Exp", "b", "y")], [X], [Y]),
            ["Nope"], "no operator Nope", look=inputs_are(("a", FLOAT, "N", 4))),
    Extract("attribute", model([node("Conv", "x w", "a", magic=1), node("Relu", "a", "y")], [value("x", FLOAT, 1, 1, 4, 4)],
                               [value("y", FLOAT, 1, 1, 2, 2)], {"w": np.full((1, 1, 3, 3), 2, np.float32)}),
            ["Conv"], "attribute magic is not supported", look=initialisers_are(w=[[[[2.0] * 3] * 3]])),
    Extract("large-constant", model([node("MatMul", "x w", "y", name="mm")], [X], [Y], {"w": BIG}), ["MatMul"], "inner sizes differ",
            look=inputs_are(("x", FLOAT, "N", 4), ("w", FLOAT, 300, 300)), valid=True),
    Extract("computed-constant", model([node("Shape", "x", "s"), node("Concat", "s three", "t", axis=0), node("Reshape", "x t", "y")],
                                       [value("x", FLOAT, 2, 4)], [value("y", FLOAT, 2, 4, 3)], {"three": np.array([3], np.int64)}),
            ["Reshape"], "error[", look=initialisers_are(t=[2, 4, 3]), valid=True),
    Extract("bound-dim", model([node("Softmax", "x", "y", axis=5)], [X], [Y]), ["Softmax"], "axis 5 is out of range",
            look=inputs_are(("x", FLOAT, 7, 4)), args=("--dim", "N=7"), valid=True),
    Extract("two", model([node("NopeA", "x", "a"), node("NopeB", "a x", "b"), node("Softmax", "x", "y", axis=9)], [X],
                         [value("b", FLOAT, 2), Y], info=[value("a", FLOAT, "N")]),
            ["NopeA", "NopeB", "Softmax"], "no operator NopeB", look=inputs_are(("x", FLOAT, "N", 4))),
    Extract("loop-operator", loop([node("Relu", "v", "t"), node("Nope", "t", "r")]), ["Nope"], "no operator Nope"),
    Extract("loop-axis", loop([node("Relu", "v", "t"), node("Softmax", "t", "r", axis=2)]), ["Softmax"], "axis 2 is out of range for rank 1",
            look=inputs_are(("t", FLOAT, 4)), valid=True),
    Extract("loop-capture", loop([node("Add", "v x", "t"), node("Concat", "t x", "r", axis=3)]), ["Concat"], "axis 3",
            look=inputs_are(("t", FLOAT, 4), ("x", FLOAT, 4)), valid=True),
]


def branches():
    """Both branches have an inner value t; one is computed by a node that fails, the other is an operand of one."""
    def branch(name, *nodes):
        return helper.make_graph(list(nodes), name, [], [value("r", FLOAT, 4)])
    one = branch("one", node("NopeA", "x", "t"), node("Relu", "t", "r"))
    two = branch("two", node("Exp", "x", "t"), node("NopeB", "t", "r"))
    return model([node("If", "c", "y", then_branch=one, else_branch=two)], [value("c", BOOL), value("x", FLOAT, 4)], [value("y", FLOAT, 4)])


def distinct(m):
    b, a = m.graph.node
    return None if b.input[0] != a.output[0] and b.input[0] in [v.name for v in m.graph.input] else f"{a}{b}"


def whole_if():
    """The node that fails has graphs, which use a value of theirs and ones from outside, one of them through a function."""
    def branch(name, *nodes):
        return helper.make_graph(list(nodes), name, [], [value("r", FLOAT, 4)])
    one = branch("one", node("Relu", "a", "t"), helper.make_node("Twice", ["t"], ["r"], domain="f"))
    two = branch("two", node("Add", "a w", "r"))
    twice = helper.make_function("f", "Twice", ["p"], ["q"], [node("Add", "p p", "q")], [helper.make_opsetid("", 17)])
    return model([node("Relu", "x", "a"), node("If", "x", "y", then_branch=one, else_branch=two, name="if")], [value("x", FLOAT, 4)],
                 [value("y", FLOAT, 4)], {"w": np.ones(4, np.float32)}, functions=[twice])


def counted_loop():
    inner = helper.make_graph([node("Add", "v w", "r"), node("Identity", "cond", "again")], "body",
                              [value("i", INT64), value("cond", BOOL), value("v", FLOAT, 4)],
                              [value("again", BOOL), value("r", FLOAT, 4)])
    return model([node("Relu", "x", "a"), node("Loop", "n c a", "b", body=inner, name="loop"), node("Exp", "b", "y")],
                 [value("x", FLOAT, 4), value("n", INT64)], [value("y", FLOAT, 4)], {"c": True, "w": np.ones(4, np.float32)})


def in_function(attribute):
    f = helper.make_function("f", "F", ["p"], ["q"], [node("Exp", "p", "h"), node("Softmax", "h", "q", name="inner")],
                             [helper.make_opsetid("", 13)], ["k"])
    ref = f.node[1].attribute.add(name="axis", ref_attr_name="k")
    ref.type = 2
    return model([helper.make_node("F", ["x"], ["y"], domain="f", name="call", k=attribute)], [X], [Y], functions=[f])


def two_versions():
    """Functions of different versions; in the second one, what fails has a graph that uses a value of the function."""
    branch = helper.make_graph([node("Relu", "h", "r")], "branch", [], [value("r", FLOAT, 4)])
    one = helper.make_function("f", "One", ["p"], ["q"], [node("Softmax", "p", "q", name="inner", axis=7)], [helper.make_opsetid("", 13)])
    two = helper.make_function("f", "Two", ["p"], ["q"], [node("Exp", "p", "h"), node("If", "p", "q", then_branch=branch, else_branch=branch)],
                               [helper.make_opsetid("", 11)])
    return model([helper.make_node("One", ["x"], ["a"], domain="f", name="first"), helper.make_node("Two", ["x"], ["y"], domain="f", name="call")],
                 [value("x", FLOAT, 4)], [value("a", FLOAT, 4), value("y", FLOAT, 4)], functions=[one, two])


def version_is(version):
    return lambda m: None if [(o.domain, o.version) for o in m.opset_import] == [("", version)] else f"{m.opset_import}"


def external():
    """A large tensor as an attribute, and one in a file: both are in the extracted model."""
    m = model([node("Constant", "", "k", value=numpy_helper.from_array(np.arange(600, dtype=np.float32), "k"), sparse=1),
               node("Nope", "k w", "y")], [], [value("y", FLOAT, 600)])
    m.graph.node[0].input[:] = []
    w = TensorProto(name="w", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    w.external_data.add(key="location", value="w.bin")
    m.graph.initializer.append(w)
    return m


def tensors(m):
    k = numpy_helper.to_array(next(a.t for a in m.graph.node[0].attribute if a.name == "value"))
    w = numpy_helper.to_array(m.graph.initializer[0])
    return None if k.tolist() == list(range(600)) and w.tolist() == [1, 2] else f"{k} {w}"


CASES += [
    Extract("same-inner-names", branches(), ["NopeB", "NopeA"], "no operator NopeA", look=distinct),
    Extract("after-import", counted_loop(), ["Loop"], "cannot be compiled yet", args=("--passes=fuse",),
            again=("--passes=fuse", "--emit=so"), look=initialisers_are(c=True, w=[1.0] * 4), valid=True),
    Extract("graphs", whole_if(), ["If"], "error[", valid=True),
    Extract("function", in_function(4), ["Softmax"], "axis 4 is out of range for rank 2", look=version_is(13), valid=True),
    Extract("function-versions", two_versions(), ["Softmax", "Node0"], "error[",
            look=lambda m: None if [o.version for o in m.functions[0].opset_import] == [11] else f"{m.functions}"),
    Extract("tensors", external(), ["Constant", "Nope"], "attribute sparse is not supported", look=tensors,
            files={"w.bin": np.array([1, 2], np.float32).tobytes()}),
]
