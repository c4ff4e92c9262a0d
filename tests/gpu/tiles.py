#!/usr/bin/env python3
"""Contractions by blocks of a GPU (templates gemm, mma, wgmma, gemv, flash) in tiles of every size, run by the look-alike of the driver: against the
evaluator, and, where sums are taken in the same order, against `nest` in every bit.

    tiles.py ACCELC [--all | NAME ..]   a twelfth of the schedules, all, or those of some models (the look-alike: ACCELC_LIBCUDA; with
                                        ACCELC_TEST_GPU: a real GPU)
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
FLASH = {np.float32: 1e-5, np.float16: 1e-2}       # f32 by three products; scores of 16 bits may be rounded the other way, and are exponents


def feeds_of(path, sizes, rng):
    feeds = {}
    for v in onnx.load(path).graph.input:
        t = v.type.tensor_type
        shape = [sizes[d.dim_param] if d.dim_param else d.dim_value for d in t.shape.dim]
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.elem_type))
        x = rng.integers(-9 if dtype.kind == "i" else 0, 9, shape) if dtype.kind in "iu" else rng.standard_normal(shape)
        feeds[v.name] = x.astype(dtype)
    return feeds


def session_of(path, so, *options, hopper=False):
    accelc.compile(path, so, *emulated.target(hopper), *options)
    return accelc.load(so).session()


def check(command, folder, name, schedule, precision, wants):
    """wants: for each of SIZES, operands, the evaluator's result, that of nest."""
    path = f"{folder}/{name}.onnx"
    options = ["--sched", schedule, *([f"--precision={precision}"] if precision else [])]
    hopper = schedule.startswith("wgmma")
    line = [command, path, "-o", "-", "--emit=kernels", "--target=cuda", *(["--gpu=sm_90a"] if hopper else []), *options]
    listing = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert f"schedule: {schedule} " in listing, f"{name}: no {schedule} in {listing}"
    with session_of(path, f"{folder}/{name}-{'-'.join(options)}.so".replace(" ", "-"), *options, hopper=hopper) as session:
        results = [np.array(session.run(feeds)["y"]) for feeds, _, _ in wants]
    for got, (_, want, nest), sizes in zip(results, wants, SIZES):
        what = f"{name}, {schedule}, {precision}, sizes {sizes}"
        assert got.shape == want.shape and got.dtype == want.dtype, f"{what}: {got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
        if schedule.startswith("gemm") or got.dtype.kind == "i":
            assert got.tobytes() == nest.tobytes(), f"{what}: other bits than nest"
        tolerance = TOLERANCE.get(precision) or (FLASH if schedule.startswith("flash") else PRECISE).get(got.dtype.type, 0)
        error, most = np.abs(got.astype(np.float64) - want).max(), np.abs(want.astype(np.float64)).max()
        assert error <= tolerance * most, f"{what}: wrong by {error} of {most}"
    print(f"ok   {name}, {schedule}, {precision or 'as it is'}")


def rounding(command, folder):
    """Factors are rounded to nearest, by whatever multiplies them: three quarters of the last bit go up."""
    path = f"{folder}/rounding.onnx"
    onnx.save(onnx.parser.parse_model(models.text("wgmma_whole")), path)
    for precision, bits in (("tf32", 10), ("bf16", 7), ("f16", 10)):
        for schedule in ("mma rows=64 cols=64", "wgmma rows=128 cols=64"):
            feeds = {"x": np.full((3, 104), 1 + 0.75 / 2**bits, np.float32), "w": np.ones((140, 104), np.float32), "b": np.zeros(140, np.float32)}
            hopper = schedule.startswith("wgmma")
            if not emulated.runs_on(hopper):
                continue
            line = [command, path, "-o", "-", "--emit=kernels", "--target=cuda", *(["--gpu=sm_90a"] if hopper else []), "--sched", schedule,
                    f"--precision={precision}"]
            assert f"schedule: {schedule} " in subprocess.run(line, check=True, capture_output=True, text=True).stdout
            with session_of(path, f"{folder}/{precision}-{hopper}.so", "--sched", schedule, f"--precision={precision}", hopper=hopper) as session:
                y = np.asarray(session.run(feeds)["y"])
            assert (y == 104 * (1 + 1 / 2**bits)).all(), f"{schedule}, {precision}: {y[0, 0]}"
    print("ok   rounding")


def free_sizes(command, folder):
    """Rows that nothing bounds: tiles that lose little at a few rows, and not much at many."""
    path = f"{folder}/free.onnx"
    onnx.save(onnx.parser.parse_model(f"{models.HEAD}m (float16[batch, seq, 768] x, float16[768, 768] w) => "
                                      "(float16[batch, seq, 768] y) { y = MatMul(x, w) }"), path)
    for options, arch, schedule in (((), "sm_90a", "wgmma rows=128 cols=64"), ((), "sm_80", "mma rows=64 cols=64"),
                                    (("--dim", "batch=1", "--dim", "seq=128"), "sm_90a", "mma rows=32 cols=64"),
                                    (("--dim", "batch=32", "--dim", "seq=128"), "sm_90a", "wgmma rows=128 cols=192")):
        line = [command, path, "-o", "-", "--emit=kernels", "--target=cuda", f"--gpu={arch}", *options]
        listing = subprocess.run(line, check=True, capture_output=True, text=True).stdout
        assert f"schedule: {schedule} " in listing, f"{options}, {arch}: no {schedule} in {listing}"
    print("ok   free sizes")


def measured(command, folder):
    """Rows that a user has measured decide for sizes near theirs, where the kernel can be compiled so."""
    path, rows = f"{folder}/free.onnx", f"{folder}/rows"
    line = [command, path, "-o", "-", "--emit=kernels", "--target=cuda", "--gpu=sm_90a", "--tuned", rows]
    for m, row, schedule in ((4096, "sm_90a f16 1 4096 768 768 wgmma rows=64 cols=128", "wgmma rows=64 cols=128"),
                             (3000, "sm_90a f16 1 4096 768 768 wgmma rows=64 cols=128", "wgmma rows=64 cols=128"),
                             (4096, "sm_90a f16 1 3000 768 768 mma rows=64 cols=64\n# near\nsm_90a f16 1 4000 768 768 mma rows=128 cols=64",
                              "mma rows=128 cols=64"),
                             (4096, "sm_90a f16 1 1024 768 768 mma rows=64 cols=64", "wgmma rows=128 cols=192"),   # another size, type, family
                             (4096, "sm_90a f32 1 4096 768 768 mma rows=64 cols=64", "wgmma rows=128 cols=192"),
                             (4096, "sm_80 f16 1 4096 768 768 mma rows=64 cols=64", "wgmma rows=128 cols=192"),
                             (4096, "sm_90a f16 1 4096 768 768 flash rows=64", "wgmma rows=128 cols=192"),          # no such kernel, no such tile
                             (4096, "sm_90a f16 1 4096 768 768 mma rows=77", "wgmma rows=128 cols=192"),
                             (4096, "nothing\nsm_90a f16 1 x", "wgmma rows=128 cols=192")):
        with open(rows, "w", encoding="ascii") as f:
            f.write(row)
        listing = subprocess.run([*line, "--dim", "batch=1", "--dim", f"seq={m}"], check=True, capture_output=True, text=True).stdout
        assert f"schedule: {schedule} " in listing and f"product: sm_90a f16 1 {m} 768 768\n" in listing, f"{row}: no {schedule} in {listing}"
    done = subprocess.run([*line[:-1], f"{folder}/none"], capture_output=True, text=True)
    assert done.returncode and "none" in done.stderr, done
    print("ok   measured")


def main():
    emulated.skip_without()
    command = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="accelc-tiles-") as folder:
        names, wants = [a for a in sys.argv[2:] if a != "--all"], {}
        schedules = [t for t in models.tiles() if (not names or t[0] in names) and emulated.runs_on(t[1].startswith("wgmma"))]
        schedules = schedules[::1 if names or "--all" in sys.argv else 12]
        for name in models.NO_BULK:
            onnx.save(onnx.parser.parse_model(models.text(name)), f"{folder}/{name}.onnx")
            line = [command, f"{folder}/{name}.onnx", "-o", "-", "--emit=kernels", "--target=cuda", "--gpu=sm_90a", "--sched=wgmma"]
            assert "schedule: wgmma" not in subprocess.run(line, check=True, capture_output=True, text=True).stdout, f"{name}: wgmma takes it"
        rounding(command, folder)
        free_sizes(command, folder)
        measured(command, folder)
        for name, schedule, precision in schedules:
            path = f"{folder}/{name}.onnx"
            if name not in wants:
                onnx.save(onnx.parser.parse_model(models.text(name)), path)
                wants[name] = []
                with session_of(path, f"{folder}/{name}-nest.so", "--sched", "nest") as nest:
                    for sizes in SIZES:
                        feeds = feeds_of(path, sizes, np.random.default_rng(len(name)))
                        wants[name].append((feeds, emulated.evaluated(command, path, feeds, ["y"], folder)["y"], np.array(nest.run(feeds)["y"])))
            check(command, folder, name, schedule, precision, wants[name])


if __name__ == "__main__":
    main()
