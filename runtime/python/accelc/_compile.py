"""compile(): finds the accelc command and runs it."""
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ._errors import CompileError


def command():
    """The path of the compiler: $ACCELC, the package's own, the first in PATH, a build folder of the source tree."""
    named = os.environ.get("ACCELC")
    if named:
        return named
    here = Path(__file__).resolve().parent
    own = here / "bin" / "accelc"
    if own.is_file() and os.access(own, os.X_OK):
        return str(own)
    found = shutil.which("accelc")
    if found:
        return found
    tree = here.parents[2]
    built = [p for pattern in ("build*/accelc", "build*/bin/accelc") for p in tree.glob(pattern)
             if p.is_file() and os.access(p, os.X_OK)]
    if built:
        return str(max(built, key=lambda p: p.stat().st_mtime))
    raise CompileError("the accelc command was not found: set ACCELC to its path, or put it into PATH")


def _write(model, folder):
    """Writes bytes or an onnx.ModelProto to a file in folder; its path."""
    path = os.path.join(folder, "model.onnx")
    if not isinstance(model, (bytes, bytearray, memoryview)):
        try:
            model = model.SerializeToString()
        except ValueError:                      # more than one protobuf message can hold
            import onnx
            onnx.save(model, path, save_as_external_data=True, location="model.onnx.data")
            return path
    with open(path, "wb") as f:
        f.write(model)
    return path


def compile(model, output, *options):           # noqa: A001 (the name is the point)
    """Compiles a model (a path, the bytes of one, or an onnx.ModelProto) to `output`, whose ending chooses the form;
    options are those of the accelc command. Returns output. Raises CompileError with accelc's own words."""
    if isinstance(model, (str, os.PathLike)):
        return _run(os.fspath(model), output, options)
    with tempfile.TemporaryDirectory(prefix="accelc-") as folder:
        return _run(_write(model, folder), output, options)


def _run(path, output, options):
    args = [command(), path, "-o", os.fspath(output), *map(str, options)]
    try:
        done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, errors="replace")
    except OSError as e:
        raise CompileError(f"{args[0]}: {e.strerror}") from None
    if done.returncode != 0:
        how = f"accelc ended with status {done.returncode}" if done.returncode > 0 \
            else f"accelc was ended by signal {-done.returncode}"
        text = done.stderr.strip()
        raise CompileError(text if text and done.returncode > 0 else "\n".join(filter(None, (text, how))))
    return output
