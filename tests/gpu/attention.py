#!/usr/bin/env python3
"""Attention by products of warpgroups (template wgflash, level cuda-sm_90a), and a step of a decoder, whose keys are summed in parts: run by the
look-alike of the driver, threads in random orders, against the evaluator; two runs with equal bits; PTX that ptxas, where it is found, takes for
sm_90a without a word, with nothing in local memory.

    attention.py ACCELC      (the look-alike: ACCELC_LIBCUDA; with ACCELC_TEST_GPU: a real GPU)
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import accelc
import emulated
import numpy as np
import onnx
import onnx.parser

# Graphs of opset 23, and sizes.
CASES = {
    "causal": ("(float16[B, 3, N, 40] q, float16[B, 3, N, 40] k, float16[B, 3, N, 72] v) => "
               "(float16[B, 3, N, 72] y) { y = Attention<is_causal = 1>(q, k, v) }",
               [{"B": 2, "N": 70}, {"B": 1, "N": 1}, {"B": 1, "N": 130}, {"B": 1, "N": 0}]),
    "wide": ("(float16[B, 1, N, 128] q, float16[B, 1, S, 128] k, float16[B, 1, S, 128] v) => (float16[B, 1, N, 128] y) { y = Attention(q, k, v) }",
             [{"B": 2, "N": 150, "S": 130}, {"B": 1, "N": 5, "S": 256}]),
    "whole": ("(bfloat16[B, 2, 128, 64] q, bfloat16[B, 2, 256, 64] k, bfloat16[B, 2, 256, 64] v) => "
              "(bfloat16[B, 2, 128, 64] y) { y = Attention(q, k, v) }", [{"B": 2}]),
    "shared heads": ("(float16[B, 4, N, 64] q, float16[B, 2, N, 64] k, float16[B, 2, N, 64] v) => "
                     "(float16[B, 4, N, 64] y) { y = Attention(q, k, v) }", [{"B": 1, "N": 140}]),
    "mask": ("(float16[B, 2, N, 64] q, float16[B, 2, N, 64] k, float16[B, 2, N, 64] v, float16[N, N] m) => "
             "(float16[B, 2, N, 64] y) { y = Attention(q, k, v, m) }", [{"B": 1, "N": 100}]),
    "rows of heads": ("(float16[B, N, 128] q, float16[B, S, 128] k, float16[B, S, 128] v) => (float16[B, N, 128] y) "
                      "{ y = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v) }", [{"B": 2, "N": 70, "S": 90}]),
}
# One row of queries, any number of keys.
STEPS = {
    "step": ("(float16[B, 4, 1, 64] q, float16[B, 2, T, 64] k, float16[B, 2, T, 64] v) => (float16[B, 4, 1, 64] y) { y = Attention(q, k, v) }",
             [{"B": 1, "T": 1}, {"B": 2, "T": 40}, {"B": 1, "T": 700}]),
    "step of floats": ("(float[1, 3, 1, 40] q, float[1, 3, T, 40] k, float[1, 3, T, 40] v) => (float[1, 3, 1, 40] y) { y = Attention(q, k, v) }",
                       [{"T": 300}, {"T": 17}]),
}
TOLERANCE = {np.dtype(np.float16): 1e-2}    # scores may be rounded the other way; of others: 4e-2


def check(command, folder, name, graph, sizes, template):
    path, so = f"{folder}/m.onnx", f"{folder}/{name}.so"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]>\nm {graph}'), path)
    listing = subprocess.run([command, path, "-o", "-", "--emit=kernels", "--target=cuda", "--gpu=sm_90a"], check=True, capture_output=True,
                             text=True).stdout
    assert f"schedule: {template}" in listing, f"{name}: {listing}"
    assert template[0] == "w" or len(re.findall("^kernel ", listing, re.M)) == 4, f"{name}: values are not summed in parts: {listing}"
    accelc.compile(path, so, *emulated.target(True))
    model = accelc.load(so)
    for of in sizes:
        rng = np.random.default_rng(1)
        feeds = {p.name: rng.standard_normal([of.get(d, d) for d in p.shape]).astype(p.dtype) for p in model.inputs}
        with model.session() as session:
            got, again = (np.array(session.run(feeds)["y"]) for _ in range(2))
        want = emulated.evaluated(command, path, feeds, ["y"], folder)["y"].view(got.dtype).astype(np.float64)    # files know no bfloat16
        error, most = np.abs(got.astype(np.float64) - want).max(initial=0), np.abs(want).max(initial=0)
        assert error <= TOLERANCE.get(got.dtype, 4e-2) * most, f"{name}, {of}: wrong by {error} of {most}"
        assert got.tobytes() == again.tobytes(), f"{name}, {of}: the order of threads matters"
    return path


def main():
    emulated.skip_without(hopper=True)
    command = os.path.abspath(sys.argv[1])
    ptxas = os.environ.get("ACCELC_PTXAS") or shutil.which("ptxas", path=os.environ["PATH"] + ":/usr/local/cuda/bin")
    with tempfile.TemporaryDirectory(prefix="accelc-attention-") as folder:
        for name, (graph, sizes) in (CASES | STEPS).items():
            path = check(command, folder, name, graph, sizes, "gemv" if name in STEPS else "wgflash rows=128 ")
            text = f"{folder}/m.ptx"
            subprocess.run([command, path, "-o", text, "--emit=ptx", "--target=cuda", "--gpu=sm_90a"], check=True)
            done = ptxas and subprocess.run([ptxas, "-v", "-arch=sm_90a", text, "-o", os.devnull], check=True, capture_output=True, text=True).stderr
            assert not ptxas or not re.search(r"\(C75|warning|[1-9]\d* bytes (spill|stack)", done), f"{name}: {done}"
            print(f"ok   {name}")


if __name__ == "__main__":
    main()
