#!/usr/bin/env python3
"""Measures products, convolutions and attention on a GPU with every schedule that the compiler has for them, and writes the fastest ones as rows of
codegen/gpu_tuned.def (or a file for --tuned). What the estimate takes anyway, or is hardly slower, gets no row.

    tune.py ACCELC OUT [--seconds N] [--small] [--check]

OUT is written as results come, so what is there when time (--seconds) is up is good. --small: two small sizes, for tests. --check: in the end,
that the compiler takes what was written. A report of all measurements goes to standard output. The GPU, or with ACCELC_LIBCUDA the look-alike
(ACCELC_EMU_CLOCK=1: counts of what its threads do in place of time), for which kernels are made unless ACCELC_TEST_GPU is set.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import models
import there

GAIN = 0.97     # of the time of the estimate's choice, for a row to be worth it
# What may be faster than a template that the estimate has chosen.
TRIED = {"gemm": models.GEMM, "mma": models.MMA + models.WGMMA + models.CLUSTER, "wgmma": models.WGMMA + models.CLUSTER,
         "gemv": models.GEMV + models.MMA + models.WGMMA, "flash": models.FLASH, "wgflash": models.FLASH}
HEAD = '<ir_version: 10, opset_import: ["" : 23]>\nm '


def product(m, n, k, kind="float16"):
    return f"({kind}[{m}, {k}] x, {kind}[{k}, {n}] w) => ({kind}[{m}, {n}] y) {{ y = MatMul(x, w) }}"


def convolution(batch, size, channels, results, taps, kind="float16"):
    return (f"({kind}[{batch}, {channels}, {size}, {size}] x, {kind}[{results}, {channels}, {taps}, {taps}] w) => "
            f"({kind}[{batch}, {results}, {size}, {size}] y) {{ y = Conv<pads = [{', '.join([str(taps // 2)] * 4)}]>(x, w) }}")


def attention(batch, heads, n, d, kind="float16"):
    x = f"{kind}[{batch}, {heads}, {n}, {d}]"
    return f"({x} q, {x} k, {x} v) => ({x} y) {{ y = Attention(q, k, v) }}"


def workloads(small):
    """Graph, options; those that matter most first."""
    if small:
        return [(product(300, 264, 136), []), (convolution(1, 6, 64, 64, 3), [])]
    squares = [product(n, n, n) for n in (8192, 4096, 2048, 1024, 512)]
    layers = [product(m, n, k) for m in (4096, 512, 128, 32) for n, k in ((768, 768), (3072, 768), (768, 3072), (4096, 4096), (12288, 4096))]
    nets = [convolution(64, s, c, c, 3) for s, c in ((56, 64), (28, 128), (14, 256), (7, 512))]
    nets += [convolution(64, s, c, r, 1) for s, c, r in ((56, 64, 256), (28, 512, 128), (14, 1024, 256), (7, 512, 2048))]
    heads = [attention(4, 16, 4096, 128), attention(32, 12, 128, 64), attention(1, 12, 1024, 64)]
    floats = [product(n, n, n, "float") for n in (4096, 1024)]
    return [(g, []) for g in squares + layers + nets + heads] + [(g, p) for g in floats for p in ([], ["--precision=tf32"])]


class Tuner:
    def __init__(self, command, folder, hopper):
        self.command, self.folder, self.hopper = command, folder, hopper
        self.path = f"{folder}/m.onnxtxt"

    def listing(self, options):
        line = [self.command, self.path, "-o", "-", "--emit=kernels", "--target=cuda", f"--gpu={'sm_90a' if self.hopper else 'sm_80'}", *options]
        text = subprocess.run(line, check=True, capture_output=True, text=True).stdout
        key = re.search(r"^  product: (.*)$", text, re.M)
        return re.findall(r"^  schedule: (.*)$", text, re.M), key[1] if key else None

    def microseconds(self, options):
        """Of all kernels of a run, the median of several."""
        so = f"{self.folder}/m.so"
        subprocess.run([self.command, self.path, "-o", so, *there.target(self.hopper), *options], check=True)
        repeat = "20" if os.environ.get("ACCELC_TEST_GPU") else "1"
        line = [self.command, "bench", so, "--device", "0", "--warmup", "1", "--repeat", repeat, "--json", "-"]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        return sum(step["us"] for step in json.loads(done.stdout)["steps"])

    def best(self, graph, options, until):
        """The row for a graph, or None; tells what it measures."""
        with open(self.path, "w", encoding="ascii") as f:
            f.write(HEAD + graph)
        chosen, key = self.listing(options)
        times, tried = {}, set()
        for schedule in [None, *(s for template, group in TRIED.items() if any(c.startswith(template + " ") for c in chosen) for s in group)]:
            forced = [*options, *(["--sched", schedule] if schedule else [])]
            got, key_of = self.listing(forced)
            if key_of != key or tuple(got) in tried or (schedule and not any(s.startswith(schedule + " ") for s in got)):
                continue
            if time.monotonic() > until:
                break
            tried.add(tuple(got))
            times[schedule] = self.microseconds(forced)
            print(f"{key or graph[:60]}: {schedule or 'estimate: ' + '; '.join(chosen)}: {times[schedule]:.1f} us", flush=True)
        fastest = min(times, key=times.get, default=None)
        if not key or fastest is None or times[fastest] > GAIN * times[None]:
            return None
        return f"{key} {fastest}"


def text_of(path):
    """The rows of a .def as --tuned takes them."""
    with open(path, encoding="ascii") as f:
        return re.sub(r'^"(.*)\\n"$', r"\1", f.read(), flags=re.M)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("accelc")
    p.add_argument("out")
    p.add_argument("--seconds", type=float, default=1e9)
    p.add_argument("--small", action="store_true")
    p.add_argument("--check", action="store_true")
    o = p.parse_args()
    hopper, until = there.runs_on(True), time.monotonic() + o.seconds
    there.skip_without()
    rows = []
    open(o.out, "w", encoding="ascii").close()
    with tempfile.TemporaryDirectory(prefix="accelc-tune-") as folder:
        tuner = Tuner(os.path.abspath(o.accelc), folder, hopper)
        for graph, options in workloads(o.small):
            if time.monotonic() > until:
                break
            row = tuner.best(graph, options, until)
            if row:
                rows.append((graph, options, row))
                with open(o.out, "a", encoding="ascii") as f:
                    f.write(f'"{row}\\n"\n' if o.out.endswith(".def") else f"{row}\n")
        if o.check:
            assert rows, "no schedule is faster than what the estimate takes"
            with open(f"{folder}/rows", "w", encoding="ascii") as f:
                f.write(text_of(o.out))
            for graph, options, row in rows:
                with open(tuner.path, "w", encoding="ascii") as f:
                    f.write(HEAD + graph)
                schedule = " ".join(row.split()[6:])
                got, _ = tuner.listing([*options, "--tuned", f"{folder}/rows"])
                assert any(s.startswith(schedule + " ") for s in got), f"{row}: the compiler takes {got}"
    print(f"{len(rows)} rows")


if __name__ == "__main__":
    sys.exit(main())
