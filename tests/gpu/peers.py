#!/usr/bin/env python3
"""Products and attention on a real GPU beside PyTorch (cuBLAS, its attention) in the same run: microseconds of both, their ratio, TFLOP/s.

    peers.py ACCELC     (without PyTorch, only ours)
"""
import json
import os
import subprocess
import sys
import tempfile

import there
import tune

PRODUCTS = [(8192, 8192, 8192), (4096, 4096, 4096), (512, 4096, 4096), (4096, 768, 3072), (1, 4096, 4096)]
ATTENTION = [(4, 16, 4096, 128), (32, 12, 128, 64)]


def of_torch(torch, make, step):
    """Microseconds of a step, the best of several rounds."""
    operands = make()
    for _ in range(5):
        step(*operands)
    best = float("inf")
    for _ in range(5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(10):
            step(*operands)
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) * 100)
    return best


def main():
    there.skip_without()
    try:
        import torch
    except ImportError:
        torch = None
    with tempfile.TemporaryDirectory(prefix="accelc-peers-") as folder:
        tuner = tune.Tuner(os.path.abspath(sys.argv[1]), folder, there.runs_on(True))

        def show(what, graph, operations, make, step):
            with open(tuner.path, "w", encoding="ascii") as f:
                f.write(tune.HEAD + graph)
            ours = tuner.microseconds([])
            line = {"what": what, "us": round(ours, 2), "tflops": round(operations / ours / 1e6, 1)}
            if torch:
                theirs = of_torch(torch, make, step)
                line |= {"torch_us": round(theirs, 2), "times_torch": round(theirs / ours, 3)}
            print(json.dumps(line), flush=True)

        for m, n, k in PRODUCTS:
            show(f"f16 {m} x {n} x {k}", tune.product(m, n, k), 2 * m * n * k,
                 lambda m=m, n=n, k=k: [torch.randn(*s, dtype=torch.float16, device="cuda") for s in ((m, k), (k, n))], lambda a, b: a @ b)
        for b, h, n, d in ATTENTION:
            show(f"f16 attention {b} x {h} x {n} x {d}", tune.attention(b, h, n, d), 4 * b * h * n * n * d,
                 lambda s=(b, h, n, d): [torch.randn(*s, dtype=torch.float16, device="cuda") for _ in range(3)],
                 lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as e:
        sys.exit(f"{e}: {e.stderr}")
