#!/usr/bin/env python3
"""PTX of small models: what it must contain, equal bytes from two compilations, and, where ptxas is found, no error, warning or spill.

    ptx.py ACCELC [--tiles [--all]]     --tiles: the models of tiles.py instead, with a fifth of their schedules, each for one of the architectures
                                        in turn; --all: all schedules for every architecture

ptxas is $ACCELC_PTXAS, or the first in PATH or /usr/local/cuda/bin; without it, texts are not assembled.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import models

# What the text for sm_80 must have (a regular expression), or must not (after "!").
CHECKS = {
    "elementwise": [r"\.visible \.entry accelc_elementwise_cuda_k0_\w+\(\n\t\.param \.align 8 \.b8 \w+\[\d+\]\n\)\n\.maxntid 256",
                    r"mov\.u32 \t%r\d+, %nctaid\.x;", r"ld\.global\.v4\.[fb]32", r"st\.global\.v4\.[fb]32", r"fma\.rn\.f32", r"!\b(add|mul)\.f32",
                    r"!ld\.local|st\.local|call"],
    "types": [r"mul\.rn\.f16", r"sqrt\.rn\.f64", r"div\.s64"],
    "gather": [r"atom(\.relaxed)?(\.\w+)*\.cas\.b32"],
    "reduction": [r"add\.rn\.f32", r"!atom"],
    "softmax": [r"(div|rcp)\.rn\.f32", r"shl\.b32"],
    "strings": [r"// on the host: accelc_strings_cuda_k\d+_\w+: it (moves|compares) strings", r"\.entry"],
}
# What the text of a template of tiles must have.
MMA = r"mma\.sync\.aligned\.m16n8k(8|16|32)\.row\.col(\.satfinite)?\.(f32\.(tf32|f16|bf16)|s32\.[su]8\.s8)"
TILES = {"gemm": [r"fma\.rn\.f32|mad\.lo\.s32|mul\.lo\.s32", r"ld\.shared\.v4\.[fbu]32", r"bar\.sync"], "mma": [MMA, r"bar\.sync"],
         "wgmma": [r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k(8|16|32)\.(f32\.(tf32\.tf32|f16\.f16|bf16\.bf16)|s32\.[su]8\.s8)",
                   r"cp\.async\.bulk\.tensor", r"setmaxnreg\.inc", "!ld.local|st.local|call"],
         "flash": [MMA, r"shfl\.sync\.bfly", r"cp\.async"], "gemv": [r"fma\.rn\.f32", r"bar\.sync"]}
ARCHITECTURES = {"sm_80": ("sm_80", "sm_90a", "sm_100"), "sm_90a": ("sm_90a",)}     # of the text; that it is assembled for
HOPPER = {"sm_90a": ("sm_90a",)}    # the same, of what no other has


def ptx(accelc, folder, name, arch, options=(), threads=1):
    path = os.path.join(folder, f"{name}.{arch}.{threads}.ptx")
    subprocess.run([accelc, f"{folder}/{name}.onnxtxt", "-o", path, f"--gpu={arch}", "--name", name, *options], check=True,
                   env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    with open(path, encoding="ascii") as f:
        return path, f.read()


def missing(text, checks):
    for c in checks:
        if c.startswith("!") == bool(re.search(c.removeprefix("!"), text)):
            yield c


def assembled(ptxas, path, arch):
    """What ptxas finds wrong, or None."""
    done = subprocess.run([ptxas, "-v", f"-arch={arch}", path, "-o", os.devnull], capture_output=True, text=True)
    if done.returncode or "warning" in done.stderr or "(C75" in done.stderr:    # products of warpgroups that wait for each other
        return done.stderr
    spilled = [line for line in done.stderr.splitlines() if re.search(r"[1-9]\d* bytes (spill|stack)", line)]
    return "\n".join(spilled) or None


def main():
    accelc, failed = os.path.abspath(sys.argv[1]), 0
    ptxas = os.environ.get("ACCELC_PTXAS") or shutil.which("ptxas", path=os.environ["PATH"] + ":/usr/local/cuda/bin")
    with tempfile.TemporaryDirectory(prefix="accelc-ptx-") as folder:
        tiles = [(n, ["--sched", s, *([f"--precision={p}"] if p else [])], s.split()[0]) for n, s, p in models.tiles()]
        every = "--tiles" not in sys.argv or "--all" in sys.argv
        tiles = tiles[::1 if every else 5]
        for i, (name, options, template) in enumerate(tiles if "--tiles" in sys.argv else [(n, [], None) for n in models.MODELS]):
            with open(f"{folder}/{name}.onnxtxt", "w", encoding="ascii") as f:
                f.write(models.text(name))
            architectures = HOPPER if template == "wgmma" else ARCHITECTURES
            for arch, runs_on in list(architectures.items())[:None if every or i % 3 == 0 else 1]:
                path, text = ptx(accelc, folder, name, arch, options)
                checks = TILES[template] if template else CHECKS.get(name, [])
                wrong = [f"there is {c[1:]}" if c[0] == "!" else f"there is no {c}"
                         for c in missing(text, checks if arch == next(iter(architectures)) else [])]
                if not re.search(rf"^\.target {arch}$", text, re.M):
                    wrong.append(f"it is not for {arch}")
                if (every or i % 8 == 0) and ptx(accelc, folder, name, arch, options, threads=3)[1] != text:
                    wrong.append("two compilations differ")
                for machine in () if not ptxas else runs_on if every else [runs_on[i % len(runs_on)]]:
                    message = assembled(ptxas, path, machine)
                    if message:
                        wrong.append(f"ptxas for {machine}: {message}")
                failed += bool(wrong)
                print(f"{'FAIL' if wrong else 'ok  '} {name} {arch}", *options, *wrong)
    print(f"{failed} failed; {'assembled by ' + ptxas if ptxas else 'ptxas was not found, so nothing was assembled'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
