#!/usr/bin/env python3
"""Machine code of a GPU in artefacts (--cubin), by a look-alike of ptxas and, where there is one, by ptxas ($ACCELC_PTXAS, or the first in PATH or
/usr/local/cuda/bin).

    cubin.py ACCELC
"""
import os
import shutil
import subprocess
import sys
import tempfile

import models

PTXAS = r"""#!/bin/sh
set -e
case "$*" in -arch=sm_80\ */sm_80.ptx\ -o\ *.cubin) ;; -arch=sm_90a\ *) ;; *) echo "bad: $*"; exit 3;; esac
test -n "$REFUSE" && { echo "ptxas says no" >&2; exit 255; }
echo "MACHINE CODE $1" >"$4"
"""


def main():
    accelc = os.path.abspath(sys.argv[1])
    ptxas = os.environ.get("ACCELC_PTXAS") or shutil.which("ptxas") or shutil.which("/usr/local/cuda/bin/ptxas")
    with tempfile.TemporaryDirectory(prefix="accelc-cubin-") as folder:
        fake = f"{folder}/ptxas"
        for path, text in ((fake, PTXAS), (f"{folder}/m.onnxtxt", models.text("elementwise"))):
            with open(path, "w", encoding="ascii") as f:
                f.write(text)
        os.chmod(fake, 0o755)

        def compiled(tool, out, options=("--cubin",), **env):
            """The artefact, or the message."""
            line = [accelc, f"{folder}/m.onnxtxt", "-o", f"{folder}/{out}", "--target", "cuda,x86-64", "--gpu", "sm_80,sm_90a", "--name", "m",
                    *options]
            done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "ACCELC_PTXAS": tool, **env})
            if done.returncode:
                return done.stderr
            with open(f"{folder}/{out}", "rb") as f:
                return f.read()
        got = compiled(fake, "c.so")
        assert not isinstance(got, str), got
        for image in (b"MACHINE CODE -arch=sm_90a", b".target sm_90a", b"MACHINE CODE -arch=sm_80", b".target sm_80"):
            assert image in got, f"{image} is missing"
        assert b"MACHINE CODE" not in compiled(fake, "n.so", ()), "machine code without --cubin"
        for tool, env, text in ((fake, {"REFUSE": "1"}, "ptxas failed: ptxas says no"),
                                (f"{folder}/none", {}, f"--cubin: there is no {folder}/none")):
            message = compiled(tool, "bad.so", **env)
            assert text in message, message
        if ptxas:
            first = compiled(ptxas, "a.so")
            again = compiled(ptxas, "b.so")
            assert first.count(b"\x7fELF") == 3 and first == again, "machine code is missing, or differs from compilation to compilation"
    print(f"ok   {ptxas or 'ptxas was not found'}")


if __name__ == "__main__":
    main()
