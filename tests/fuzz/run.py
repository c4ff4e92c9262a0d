#!/usr/bin/env python3
"""Damaged models for the importer and damaged texts for the IR parser: fuzz.c does the work, this collects its seeds.

    run.py ACCELC FUZZ [--inputs 1500000] [--seed N] [--keep FOLDER]

Seeds: the digit model, official node cases, the texts of tests/diag and tests/pass, and the IR of some of these. Inputs are counted, not
timed, so that a run is the same on every machine; those that fail are written to FOLDER and repeated with `FUZZ FILE`.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def models(folder):
    shutil.copy(os.path.join(TESTS, "..", "models", "digits.onnx"), folder)
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases
    for i, case in enumerate(collect_testcases(None)):
        data = case.model.SerializeToString() if case.model else b""
        if i % 3 == 0 and 0 < len(data) < 4000:
            with open(os.path.join(folder, case.name + ".onnx"), "wb") as f:
                f.write(data)


def texts(folder, accelc):
    for path in glob.glob(os.path.join(TESTS, "diag", "text", "*.onnxtxt")):
        shutil.copy(path, folder)
    for path in glob.glob(os.path.join(TESTS, "pass", "*", "*.test")):
        with open(path, encoding="utf-8") as f:
            text = re.sub(r"^#.*\n", "", f.read(), flags=re.M)
        name = "-".join(path[:-5].split(os.sep)[-2:]) + ".ir"
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(text)
    for i, path in enumerate(sorted(glob.glob(os.path.join(folder, "*.onnx")))):
        if i % 8 == 0:
            out = path[:-5] + ".ir"
            done = subprocess.run([accelc, path, "--stop-after=import", "--emit=ir", "-o", out], capture_output=True)
            if not done.returncode and os.path.getsize(out) > 60000:
                os.remove(out)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("accelc")
    p.add_argument("fuzz")
    p.add_argument("--inputs", default="1500000")
    p.add_argument("--seed", default="1")
    p.add_argument("--keep", default="fuzz-failures")
    a = p.parse_args()
    os.makedirs(a.keep, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="accelc-fuzz-") as folder:
        models(folder)
        texts(folder, a.accelc)
        done = subprocess.run([a.fuzz, a.inputs, a.seed, folder, os.path.abspath(a.keep)], stderr=subprocess.PIPE, text=True, errors="replace")
    said = [line for line in done.stderr.splitlines() if "error" in line or "accelc:" in line]
    print("\n".join(said[:40]))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
