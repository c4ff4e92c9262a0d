#!/usr/bin/env python3
"""The digit model of the demo, whole: every sample is recognised, compiled code agrees with the evaluator, one artefact serves all
batch sizes, and every executor and number of threads gives the same bits.

    digits.py ACCELC
"""
import json
import os
import subprocess
import sys
import tempfile

import accelc
import numpy as np

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models")
MODEL = os.path.join(MODELS, "digits.onnx")


def main():
    command = sys.argv[1]
    images = [np.load(os.path.join(MODELS, f"digit-{d}.npy")) for d in range(10)]
    batch = np.concatenate(images)
    with tempfile.TemporaryDirectory() as folder:
        x, y = os.path.join(folder, "x.npy"), os.path.join(folder, "y.npy")
        np.save(x, batch)
        subprocess.run([command, MODEL, "--eval", "--input", f"image={x}", "--output", f"probability={y}"], check=True)
        want = np.load(y)
        assert (want.argmax(axis=1) == np.arange(10)).all(), want
        bits = {}
        for executor in ("team", "serial", "openmp"):
            so = os.path.join(folder, executor + ".so")
            accelc.compile(MODEL, so, "--executor", executor)
            model = accelc.load(so)
            for threads in (1, 2, 3):
                session = model.session(threads=threads)
                for n in (10, 1, 7, 10, 0):
                    p = session.run({"image": batch[:n]})["probability"]
                    assert p.shape == (n, 10), (executor, threads, n, p.shape)
                    np.testing.assert_allclose(p, want[:n], rtol=2e-5, atol=1e-7, err_msg=f"{executor}, {threads} threads")
                    first = bits.setdefault(n, p.tobytes())
                    assert p.tobytes() == first, f"other bits: {executor}, {threads} threads, batch {n}"
                big = session.run({"image": np.tile(batch, (100, 1, 1, 1))})["probability"]
                assert big.tobytes() == bits[10] * 100, f"other bits in a batch of 1000: {executor}, {threads} threads"
        for level in ("x86-64", "x86-64-v3", "x86-64,x86-64-v3"):
            so = os.path.join(folder, "level.so")
            accelc.compile(MODEL, so, "--target", level)
            p = accelc.load(so).session(threads=1).run({"image": batch})["probability"]
            np.testing.assert_allclose(p, want, rtol=2e-5, atol=1e-7, err_msg=level)
        line = [command, "bench", "--target", "x86-64-v3", MODEL, "--input", f"image={x}", "--json", "-", "--repeat", "3", "--threads", "1"]
        steps = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)["steps"]
        products = 2 * 10 * (64 * 16 * 9 + 16 * 32 * 144 + 512 * 10)
        assert products < sum(s["operations"] for s in steps) < 1.2 * products, steps
        assert abs(sum(s["share"] for s in steps) - 1) < 1e-3, steps
        assert all(s["us"] > 0 and s["bytes"] > 0 and s["schedule"] and s["device"] == -1 for s in steps), steps
    print("10 digits, 3 executors, 3 numbers of threads, 3 targets")


if __name__ == "__main__":
    main()
