#!/usr/bin/env python3
"""Contractions by blocks of a GPU (templates gemm, mma, gemv) in tiles of every size, run by the look-alike of the driver: against the evaluator, and, where
sums are taken in the same order, against `nest` in every bit.

    tiles.py ACCELC FAKECUDA
"""
import os
import subprocess
import sys
import tempfile

import accelc
import emulated
import models
import numpy as np
import onnx
import onnx.parser

SIZES = [{"N": 70, "B": 2, "batch": 2}, {"N": 3, "B": 1, "batch": 1}]       # of symbols
TOLERANCE = {"tf32": 2e-3, "bf16": 2e-2, "f16": 2e-3}      # of --precision, times the largest result
PRECISE = {np.float32: 2e-6, np.float16: 2e-3}
def run_on_device(so, folder, count):
    """A process of its own, as the look-alike reads its environment once."""
    with accelc.load(so).session(threads=1, device=0) as session:
        for number in range(int(count)):
            np.save(f"{folder}/out{number}.npy", session.run(dict(np.load(f"{folder}/in{number}.npz")))["y"])


def feeds_of(path, sizes, rng):
    feeds = {}
    for v in onnx.load(path).graph.input:
        t = v.type.tensor_type
        shape = [sizes[d.dim_param] if d.dim_param else d.dim_value for d in t.shape.dim]
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.elem_type))
        feeds[v.name] = rng.integers(-9 if dtype.kind == "i" else 0, 9, shape).astype(dtype) if dtype.kind in "iu" else rng.standard_normal(shape).astype(dtype)
    return feeds


def check(command, fakecuda, folder, name, schedule, precision, wants):
    """wants: for each of SIZES, operands, the evaluator's result, that of nest."""
    path, so, emulation = (f"{folder}/{name}{end}" for end in (".onnx", ".so", "-emulated.so"))
    options = ["--sched", schedule, *([f"--precision={precision}"] if precision else []), "--name", name]
    listing = subprocess.run([command, path, "-o", "-", "--emit=kernels", "--target=cuda", *options], check=True, capture_output=True, text=True).stdout
    assert f"schedule: {schedule} " in listing, f"{name}: no {schedule} in {listing}"
    accelc.compile(path, so, "--target", "cuda", *options)
    accelc.compile(path, emulation, "--target", "gpu-emulated", *options)
    for number, (feeds, _, _) in enumerate(wants):
        np.savez(f"{folder}/in{number}.npz", **feeds)
    env = {**os.environ, "ACCELC_LIBCUDA": fakecuda, "ACCELC_EMU_KERNELS": emulation}
    subprocess.run([sys.executable, __file__, "--run", so, folder, str(len(wants))], check=True, env=env)
    for number, (_, want, nest) in enumerate(wants):
        got, what = np.load(f"{folder}/out{number}.npy"), f"{name}, {schedule}, {precision}, sizes {SIZES[number]}"
        assert got.shape == want.shape and got.dtype == want.dtype, f"{what}: {got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
        if schedule.startswith("gemm") or got.dtype.kind == "i":
            assert got.tobytes() == nest.tobytes(), f"{what}: other bits than nest"
        tolerance = TOLERANCE.get(precision) or PRECISE.get(got.dtype.type, 0)
        error, most = np.abs(got.astype(np.float64) - want).max(), np.abs(want.astype(np.float64)).max()
        assert error <= tolerance * most, f"{what}: wrong by {error} of {most}"
    print(f"ok   {name}, {schedule}, {precision or 'as it is'}")


def main():
    if sys.argv[1] == "--run":
        return run_on_device(*sys.argv[2:])
    command, fakecuda = map(os.path.abspath, sys.argv[1:3])
    with tempfile.TemporaryDirectory(prefix="accelc-tiles-") as folder:
        wants = {}
        for name, schedule, precision in models.tiles():
            path = f"{folder}/{name}.onnx"
            if name not in wants:
                onnx.save(onnx.parser.parse_model(models.text(name)), path)
                accelc.compile(path, f"{folder}/nest.so", "--target", "gpu-emulated", "--sched", "nest")
                nest, wants[name] = accelc.load(f"{folder}/nest.so").session(), []
                for sizes in SIZES:
                    feeds = feeds_of(path, sizes, np.random.default_rng(len(name)))
                    wants[name].append((feeds, emulated.evaluated(command, path, feeds, ["y"], folder)["y"], np.array(nest.run(feeds)["y"])))
            check(command, fakecuda, folder, name, schedule, precision, wants[name])


if __name__ == "__main__":
    main()
