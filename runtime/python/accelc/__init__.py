"""accelc: compile ONNX models ahead of time, and run them.

    import accelc
    accelc.compile("model.onnx", "model.so")
    session = accelc.load("model.so").session(threads=2)
    outputs = session.run({"x": x})            # a dict of arrays

`compile` runs the accelc command; everything else needs numpy and the .so alone. Results of `run` are yours: they stay
valid and unchanged. accelc.backend is the interface of onnx.backend.
"""
from ._compile import CompileError, compile
from ._dlpack import DeviceArray
from ._errors import Error
from ._session import Model, Port, Session, load

__version__ = "0.1.0"
__all__ = ["CompileError", "DeviceArray", "Error", "Model", "Port", "Session", "compile", "load"]


def __getattr__(name):
    if name == "backend":                       # imports onnx, so only when asked for
        import importlib
        return importlib.import_module(".backend", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
