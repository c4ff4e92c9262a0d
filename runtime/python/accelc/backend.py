"""accelc as an onnx.backend: prepare(model).run(inputs). Every model is compiled to a temporary shared object."""
import os
import tempfile

import numpy as np
import onnx
import onnx.backend.base as base
from onnx import helper

from ._compile import CompileError, compile
from ._session import load


def _tensor_type(x, ranked=True):
    x = np.asarray(x)
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(x.dtype), x.shape if ranked else None)


def _type_of(x):
    """The ONNX type of an input: an array, a list of them (a sequence), or a dict (a map)."""
    if isinstance(x, dict):
        keys, values = (_tensor_type(list(v)) for v in (x.keys(), x.values()))
        return helper.make_map_type_proto(keys.tensor_type.elem_type,
                                          helper.make_tensor_type_proto(values.tensor_type.elem_type, []))
    if isinstance(x, (list, tuple)) and x:
        elem = [_type_of(e) for e in x]
        alike = all(e == elem[0] for e in elem)
        return helper.make_sequence_type_proto(elem[0] if alike else _tensor_type(x[0], ranked=False))
    return _tensor_type(x)


class AccelcRep(base.BackendRep):
    """A prepared model."""

    def __init__(self, model, path, threads=0, **config):
        loaded = load(path)
        self.session = loaded.session(threads=threads, **config)
        self.compiled = [p.name for p in loaded.inputs]
        initial = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
        self.all_inputs = [v.name for v in model.graph.input]
        self.inputs = [n for n in self.all_inputs if n not in initial]

    def run(self, inputs, **kwargs):
        """Outputs as a tuple. inputs: arrays in the order of the graph's inputs, where those that are also
        initializers may be left out; a dict by name; or a single array."""
        if not isinstance(inputs, dict):
            if isinstance(inputs, np.ndarray) or not isinstance(inputs, (list, tuple)):
                inputs = [inputs]
            names = self.inputs if len(inputs) <= len(self.inputs) else self.all_inputs
            if len(inputs) > len(names):
                raise ValueError(f"{len(inputs)} inputs for a model with {len(names)}")
            inputs = dict(zip(names, inputs))
        known = set(self.compiled)      # an input that nothing depends on may be gone
        extra = [n for n in inputs if n not in known and n not in self.all_inputs]
        if extra:
            raise ValueError(f"the model has no input {extra[0]!r}")
        return tuple(self.session.run({n: x for n, x in inputs.items() if n in known}).values())


class AccelcBackend(base.Backend):
    @classmethod
    def is_compatible(cls, model, device="CPU", **kwargs):
        if not cls.supports_device(device):
            return False
        try:
            cls.prepare(model, device, **kwargs)
        except CompileError:
            return False
        return True

    @classmethod
    def prepare(cls, model, device="CPU", options=(), threads=0, **config):
        """Compiles a ModelProto (or a path, or bytes) with `options` of the accelc command."""
        if not cls.supports_device(device):
            raise ValueError(f"device {device} is not supported, only CPU")
        source = model
        if isinstance(model, (str, os.PathLike)):
            model = onnx.load(model, load_external_data=False)
        elif isinstance(model, (bytes, bytearray)):
            model = onnx.load_from_string(bytes(model))
        with tempfile.TemporaryDirectory(prefix="accelc-") as folder:
            path = os.path.join(folder, "model.so")
            compile(source, path, *options)
            return AccelcRep(model, path, threads, **config)

    @classmethod
    def run_model(cls, model, inputs, device="CPU", **kwargs):
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node, inputs, device="CPU", outputs_info=None, opset_version=None, **kwargs):
        if isinstance(inputs, dict):
            values = dict(inputs)
        else:
            values = dict(zip([n for n in node.input if n], inputs))
        ins = [helper.make_value_info(n, _type_of(x)) for n, x in values.items()]
        names = [n for n in node.output if n]
        if outputs_info:
            outs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(t)), s)
                    for n, (t, s) in zip(names, outputs_info)]
        else:
            outs = [onnx.ValueInfoProto(name=n) for n in names]
        opsets = [helper.make_opsetid(node.domain, opset_version or onnx.defs.onnx_opset_version())]
        model = helper.make_model(helper.make_graph([node], "node", ins, outs), opset_imports=opsets)
        if not outputs_info:
            model = onnx.shape_inference.infer_shapes(model)
        return cls.run_model(model, values, device, **kwargs)

    @classmethod
    def supports_device(cls, device):
        return device == "CPU"


is_compatible = AccelcBackend.is_compatible
prepare = AccelcBackend.prepare
run_model = AccelcBackend.run_model
run_node = AccelcBackend.run_node
supports_device = AccelcBackend.supports_device
