#!/usr/bin/env python3
"""run() on known shapes allocates nothing, takes no lock and makes no system call but those that wake and park the team; the same
for symbolic shapes that were seen before. probe.c counts. A model for the CPU contains nothing of the runtime for GPUs.

    run.py ACCELC
"""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODEL = os.path.join(ROOT, "models", "digits.onnx")
CASES = [("fixed sizes", ["--dim", "batch=40"], "team", (1, 2, 3)), ("symbolic sizes", [], "team", (1, 2, 3)),
         ("serial executor", ["--dim", "batch=3"], "serial", (1,))]


def main():
    accelc = os.path.abspath(sys.argv[1])
    failed = trapped = 0
    with tempfile.TemporaryDirectory(prefix="accelc-rt-") as tmp:
        probe = os.path.join(tmp, "probe")
        subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-O1", "-rdynamic", "-fno-builtin", "-I",
                        os.path.join(ROOT, "runtime"), os.path.join(HERE, "probe.c"), "-o", probe, "-ldl", "-lpthread"], check=True)
        for name, options, executor, counts in CASES:
            so = os.path.join(tmp, "m.so")
            subprocess.run([accelc, MODEL, "-o", so, "--executor", executor, *options], check=True)
            with open(so, "rb") as f:
                code = f.read()
            for part in (b"libcuda", b"accelc_rt1_gpu"):
                if part in code:
                    failed += 1
                    print(f"FAIL {name}: a model for the CPU contains {part.decode()}, a part of the runtime for GPUs")
            for threads in counts:
                for memory in ("own", "caller"):
                    done = subprocess.run([probe, so, str(threads), "40" if executor == "team" else "3", memory],
                                          capture_output=True, text=True, timeout=60)
                    good = done.returncode in (0, 77)
                    trapped += done.returncode != 77
                    failed += not good
                    print(f"{'ok  ' if good else 'FAIL'} {name}, {threads} threads, outputs {memory} "
                          f"{(done.stdout + done.stderr).strip() or ('' if good else done.returncode)}")
    if not trapped:
        print("system calls were not watched: this system has no seccomp")
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
