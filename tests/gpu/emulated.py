#!/usr/bin/env python3
"""Kernels as a GPU runs them, on this CPU (--target gpu-emulated): whole models by the runtime for GPUs and the look-alike of the driver, and
single kernels thread by thread in grids of several shapes, against the evaluator. Grids agree in every bit.

    emulated.py ACCELC      (the look-alike: ACCELC_LIBCUDA)
"""
import ctypes
import os
import re
import subprocess
import sys
import tempfile

import accelc
import models
import numpy as np
import onnx
import onnx.parser
from there import runs_on, skip_without, target  # noqa: F401: others have them from here

GRIDS = [(1, 1), (3, 2), (32, 4), (256, 1), (7, 50)]    # threads of a block, blocks
SIZE = {"N": 5, "K": 6}
KERNELS = ["elementwise", "gather"]    # models of one kernel each, whose operands are the inputs in order


def feeds_of(path, rng):
    feeds = {}
    for v in onnx.load(path).graph.input:
        t = v.type.tensor_type
        shape = [SIZE[d.dim_param] if d.dim_param else d.dim_value for d in t.shape.dim]
        if t.elem_type == onnx.TensorProto.STRING:
            feeds[v.name] = np.array(["yes", "no", "yess", "", "yes"], dtype=object)
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)
        x = rng.integers(0, 6, shape) if np.issubdtype(dtype, np.integer) else rng.standard_normal(shape)
        feeds[v.name] = np.abs(x).astype(dtype) if dtype != np.float32 else x.astype(dtype)
    return feeds


def evaluated(command, path, feeds, outputs, folder):
    args = []
    for n, x in feeds.items():
        np.save(f"{folder}/{n}.npy", x)
        args += ["--input", f"{n}={folder}/{n}.npy"]
    for n in outputs:
        args += ["--output", f"{n}={folder}/{n}.out.npy"]
    subprocess.run([command, "--eval", path, *args], check=True)
    return {n: np.load(f"{folder}/{n}.out.npy") for n in outputs}


def same(got, want, what):
    assert got.shape == want.shape and got.dtype == want.dtype, f"{what}: {got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
    exact = not np.issubdtype(got.dtype, np.floating)
    ok = np.array_equal(got, want) if exact else np.allclose(got, want, rtol=1e-3 if got.dtype == np.float16 else 1e-5, atol=1e-5)
    assert ok, f"{what}: {got} instead of {want}"


def aligned(nbytes, fill=0):
    """Memory at a multiple of 64 bytes."""
    raw = np.full(nbytes + 64, fill, np.uint8)
    at = -raw.ctypes.data % 64
    return raw[at:at + nbytes]


def launch(function, buffers, dims, tasks, scratch_bytes, grid, before=0):
    """Every thread of the grid, the last one first. The status they leave."""
    ntid, nctaid = grid
    status, scratch = ctypes.c_uint32(before), aligned(scratch_bytes * ntid * nctaid, 0xFF)
    words = [b.ctypes.data for b in buffers] + dims + [tasks, scratch.ctypes.data, scratch_bytes, ctypes.addressof(status)]
    block = (ctypes.c_int64 * len(words))(*words)
    for t in reversed(range(ntid * nctaid)):
        function((ctypes.c_uint32 * 32)(t % ntid, ntid, t // ntid, nctaid), block)
    return status.value


def function_of(so):
    symbols = subprocess.run(["nm", "-D", so], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"\bT (\w+_thread)$", symbols, re.M)
    assert len(names) == 1, f"{so} has kernels {names} instead of one"
    f = ctypes.CDLL(so)[names[0]]
    f.argtypes, f.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    return f


def kernel(command, name, path, folder, feeds, wants):
    """The kernel of a model whose sizes are known, so that it has none as arguments."""
    so = f"{folder}/{name}-kernel.so"
    sizes = [a for n, v in SIZE.items() if f"[{n}," in models.MODELS[name] or f"[{n}]" in models.MODELS[name] for a in ("--dim", f"{n}={v}")]
    subprocess.run([command, path, "-o", so, "--target", "gpu-emulated", *sizes], check=True)
    f, bits = function_of(so), None
    tasks = {"elementwise": 5 * 300 // 4, "gather": 6 * 9}[name]
    for grid in GRIDS:
        results = [np.full_like(w, 77) for w in wants.values()]
        status = launch(f, [*feeds.values(), *results], [], tasks, 4096, grid)
        assert status == 0, f"{name}: status {status}"
        for (n, want), got in zip(wants.items(), results):
            same(got, want, f"{name}, {n}, grid {grid}")
        found = [r.tobytes() for r in results]
        bits = bits or found
        assert found == bits, f"{name}: grid {grid} has other bits"
    if name == "gather":
        bad = {**feeds, "i": np.array([0, 1, 40, 3, -41, 5])}
        for grid in GRIDS:
            status = launch(f, [*bad.values(), results[0]], [], tasks, 0, grid)
            assert status >= 1, "gather: an index out of range leaves no status"
            results[0][:] = 77
            status = launch(f, [*bad.values(), results[0]], [], tasks, 0, grid, before=9)
            assert status == 9 and (results[0] == 77).all(), "gather: runs after a guard failed"


def main():
    command = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="accelc-emulated-") as folder:
        for name in models.MODELS:
            path, so = f"{folder}/{name}.onnx", f"{folder}/{name}.so"
            onnx.save(onnx.parser.parse_model(models.text(name)), path)
            feeds = feeds_of(path, np.random.default_rng(len(name)))
            accelc.compile(path, so, "--target", "gpu-emulated")
            model = accelc.load(so)
            outputs = [p.name for p in model.outputs]
            for _ in range(2):  # threads take turns in another order
                with model.session() as session:
                    got = session.run(feeds)
                if name != "strings":
                    wants = evaluated(command, path, feeds, outputs, folder)
                else:
                    wants = {"y": feeds["s"] == "yes", "z": -feeds["x"]}
                for n in outputs:
                    same(np.asarray(got[n]), wants[n], f"{name}, {n}")
            if name in KERNELS:
                kernel(command, name, path, folder, feeds, wants)
            print(f"ok   {name}")


if __name__ == "__main__":
    main()
