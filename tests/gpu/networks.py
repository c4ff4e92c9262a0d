#!/usr/bin/env python3
"""Whole networks as a GPU runs them (by the look-alike of the driver), at several sizes, against ONNX Runtime: those that
models/small_models.py makes, with and without bounds of their symbols, the digit classifier of models/, and mnist of ../shared where that is.

    networks.py ACCELC [--hopper]   with the kernels of sm_90a (the look-alike: ACCELC_LIBCUDA; with ACCELC_TEST_GPU: a real GPU)
"""
import importlib.util
import os
import sys
import tempfile

import accelc
import emulated
import numpy as np
import onnx
import onnxruntime

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "..", "models")
SHARED = os.path.join(os.environ.get("ACCELC_SHARED", ""), "models")
TOLERANCE = 1e-4    # relative, plus the same times the deviation of the reference


def small_models():
    spec = importlib.util.spec_from_file_location("small_models", os.path.join(MODELS, "small_models.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def networks():
    """Name, model or its path, options, what draws inputs, values of the symbols."""
    small = small_models()
    for name, (make, feeds, bindings) in small.MODELS.items():
        model = make()
        yield name, model, [], feeds, bindings
        if name in small.BOUNDS:
            yield f"{name} with bounds", model, [f"--dim={s}=0..{n}" for s, n in small.BOUNDS[name].items()], feeds, bindings
    digits = lambda n: np.concatenate([np.load(f"{MODELS}/digit-{d}.npy") for d in range(n)])
    yield "digits", f"{MODELS}/digits.onnx", [], lambda rng, n: {"image": digits(n)}, [{"n": 1}, {"n": 10}]
    if os.path.exists(f"{SHARED}/mnist.onnx"):
        yield "mnist", f"{SHARED}/mnist.onnx", [], small.image_feeds("Input3", 1, 28, 28), [{}]


def check(what, got, want):
    assert got.shape == want.shape and got.dtype == want.dtype, f"{what}: {got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
    assert np.array_equal(np.isnan(got), np.isnan(want)), f"{what}: other NaNs"
    if want.size:
        error = (np.abs(got.astype(np.float64) - want) / (np.abs(want) + want.std() + 1e-30)).max()
        assert error <= TOLERANCE, f"{what}: off by {error}"


def main():
    command, hopper, options = os.path.abspath(sys.argv[1]), "--hopper" in sys.argv, onnxruntime.SessionOptions()
    emulated.skip_without(hopper)
    os.environ["ACCELC"], options.intra_op_num_threads = command, 1
    with tempfile.TemporaryDirectory(prefix="accelc-networks-") as folder:
        for number, (name, model, bounds, feeds_of, bindings) in enumerate(networks()):
            path, so = f"{folder}/{number}.onnx", f"{folder}/{number}.so"
            onnx.save(onnx.load(model) if isinstance(model, str) else model, path)
            accelc.compile(path, so, *emulated.target(hopper), *bounds)
            oracle = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            with accelc.load(so).session() as session:
                for i, binding in enumerate(bindings):
                    feeds = feeds_of(np.random.default_rng(i), **binding)
                    got = session.run(feeds)
                    for port, want in zip(oracle.get_outputs(), oracle.run(None, feeds)):
                        check(f"{name}, {binding}, {port.name}", np.asarray(got[port.name]), want)
                    print(f"ok   {name}, {binding}", flush=True)


if __name__ == "__main__":
    main()
