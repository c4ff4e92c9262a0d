#!/usr/bin/env python3
"""The same model and options give the same bytes: in another directory, under another name of the model file's folder, with another
number of compiler threads, at another time.

    run.py ACCELC
"""
import os
import shutil
import subprocess
import sys
import tempfile

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models", "digits.onnx")
FORMS = [("m.so",), ("m.o",), ("m.a",), ("m.h",), ("m.so", "--target", "x86-64,x86-64-v3"), ("m.so", "--executor", "serial"),
         ("k.txt", "--emit=kernels"), ("k.txt", "--emit=lir"), ("k.txt", "--emit=llvm"), ("k.txt", "--emit=asm"), ("k.ir",),
         ("k.ptx", "--gpu", "sm_80,sm_90a"), ("m.so", "--target", "cuda,x86-64", "--gpu", "sm_80,sm_90a")]


def build(accelc, folder, form, threads):
    os.makedirs(folder)
    shutil.copy(MODEL, os.path.join(folder, "m.onnx"))
    # a different address space, environment and number of threads each time
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PAD": "x" * 1000 * threads, "TMPDIR": folder}
    subprocess.run([accelc, "m.onnx", "-o", *form], cwd=folder, env=env, check=True)
    files = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as f:
            files[name] = f.read()
    return files


def main():
    accelc = os.path.abspath(sys.argv[1])
    failed = 0
    with tempfile.TemporaryDirectory(prefix="accelc-repro-") as tmp:
        for i, form in enumerate(FORMS):
            one = build(accelc, os.path.join(tmp, f"a{i}"), form, 1)
            for threads in (2, 5):
                two = build(accelc, os.path.join(tmp, f"another-directory{i}-{threads}"), form, threads)
                wrong = [n for n in one if one[n] != two.get(n)] or (one.keys() != two.keys())
                failed += bool(wrong)
                print(f"{'FAIL' if wrong else 'ok  '} {' '.join(form)}, {threads} threads" + (f": {wrong}" if wrong else ""))
            path = tmp.encode()
            leaks = [n for n, data in one.items() if path in data]
            failed += bool(leaks)
            if leaks:
                print(f"FAIL {' '.join(form)}: contains the path of its directory: {leaks}")
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
