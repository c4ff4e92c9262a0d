#!/usr/bin/env python3
"""The instructions of the hot loop of one kernel per template, for reading beside reference figures (a table in codegen/CODEGEN.md).

    mix.py ACCELC [TEMPLATE ...]

ptxas ($ACCELC_PTXAS, PATH, /usr/local/cuda/bin) makes machine code, nvdisasm ($ACCELC_NVDISASM, the same places) lists it; without them PTX is
counted. The hot loop is, of the loops without a loop in them, the one with the most matrix instructions, or else multiply-adds, or else instructions.
Fails on a spill, on local memory, and where a loop lacks what it is there for (NEEDS).
"""
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile

import attention
import models

SM_80, HOPPER = {"sm_80": ("sm_80", "sm_90a", "sm_100")}, {"sm_90a": ("sm_90a",)}   # of the text: that it is assembled for
HEAD = '<ir_version: 10, opset_import: ["" : 23]>\nm '
# Template: what, model (of models.py, or text), options, architectures.
KERNELS = [
    ("gemm", "f32, 128x128", "tiles", ["--sched=gemm rows=128 cols=128"], SM_80),
    ("mma", "f16, 128x128", "tiles_half", ["--sched=mma rows=128 cols=128"], SM_80),
    ("mma", "bytes, 128x128", "wgmma_integer", ["--sched=mma rows=128 cols=128"], SM_80),
    ("mma", "tf32, 128x128", "wgmma_whole", ["--sched=mma rows=128 cols=128", "--precision=tf32"], SM_80),
    ("gemv", "f32, two rows", "few", ["--sched=gemv rows=2"], SM_80),
    ("gemv", "f16, along k", "few_half_across", ["--sched=gemv rows=2"], SM_80),
    ("flash", "f32", "attention", ["--sched=flash"], SM_80),
    ("flash", "f16", attention.CASES["shared heads"][0], [], SM_80),
    ("rows", "softmax of 1000", "(float[N, 1000] x) => (float[N, 1000] y) { y = Softmax<axis = 1>(x) }", [], SM_80),
    ("stream", "pointwise", "(float[N, 300] x, float[300] g) => (float[N, 300] y) { a = Mul(x, g) y = Add(a, x) }", [], SM_80),
    ("scan", "sum", "(float[N, 5000] x) => (float[N, 5000] y) <int64 one = {1}> { y = CumSum(x, one) }", [], SM_80),
    ("bitonic", "5 of 500", "(float[N, 500] x) => (float[N, 5] v, int64[N, 5] i) <int64[1] k = {5}> { v, i = TopK(x, k) }", [], SM_80),
    ("scatter", "addition", 'scatter', [], SM_80),
    ("turn", "transposition", "(float[70, 150] x) => (float[150, 70] y) { t = Transpose<perm = [1, 0]>(x) y = Neg(t) }", [], SM_80),
    ("wgmma", "f16, 128x256", "tiles_half", ["--sched=wgmma rows=128 cols=256"], HOPPER),
    ("wgmma", "f16, 128x256, two blocks", "tiles_half", ["--sched=wgmma rows=128 cols=256 cluster=2"], HOPPER),
    ("wgmma", "tf32, 128x256", "wgmma_whole", ["--sched=wgmma rows=128 cols=256", "--precision=tf32"], HOPPER),
    ("wgflash", "f16, 128 elements", attention.CASES["wide"][0], [], HOPPER),
]
NEEDS = {"gemm": "FFMA", "mma": "[HI]MMA", "gemv": "FFMA", "flash": "HMMA", "wgmma": "HGMMA", "wgflash": "HGMMA"}
MATRIX = re.compile(r"[HI]G?MMA|(wg)?mma\b")
SHOWN = ["HGMMA", "HMMA", "IMMA", "FFMA", "FMUL", "FADD", "FMNMX", "MUFU", "F2FP", "LDSM", "LDS", "STS", "LDGSTS", "LDG", "STG", "UTMALDG", "SYNCS",
         "SHFL", "BAR", "ATOM", "RED"]


def tool(name):
    return os.environ.get(f"ACCELC_{name.upper()}") or shutil.which(name, path=os.environ["PATH"] + ":/usr/local/cuda/bin")


def machine_code(listing):
    """Instructions and labels of a function, as nvdisasm prints them: (label, None) or (None, instruction), targets as in `BRA `(.L_x_1)`."""
    for line in listing.splitlines():
        if m := re.match(r"(\.L\w*):", line.strip()):
            yield m[1], None
        elif m := re.match(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line.strip()):
            yield None, re.sub(r"^@!?U?P\w+\s+", "", m[1])


def text_code(text):
    for line in text.splitlines():
        line = line.strip()
        if m := re.match(r"(\$L\w+):", line):
            yield m[1], None
        elif re.match(r"(@!?%p\d+\s+)?[a-z]", line) and line.endswith(";"):
            yield None, re.sub(r"^@!?%p\d+\s+", "", line)


def hot_loop(code):
    place, out = {}, []
    for label, instruction in code:
        if label:
            place[label] = len(out)
        else:
            out.append(instruction)
    loops = []
    for at, i in enumerate(out):
        target = re.search(r"[.$]L\w+", i)
        if re.match("BRA|bra", i) and target and place.get(target[0], at) < at:
            loops.append((place[target[0]], at + 1))
    inner = [(a, b) for a, b in loops if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)]

    def weight(loop):
        body = out[slice(*loop)]
        return sum(bool(MATRIX.match(i)) for i in body), sum(i.startswith(("FFMA", "fma")) for i in body), len(body)
    return out[slice(*max(inner, key=weight))] if inner else out


def counts(body):
    """"32 HMMA.16816 12 LDSM": matrix instructions with their shape."""
    n = collections.Counter()
    for i in body:
        op = i.split()[0]
        shape = re.match(r"([HI]G?MMA\.[0-9x]+)", op)
        n[shape[1] if shape else op.split(".")[0]] += 1
    shown = [o for s in SHOWN for o in n if o.split(".")[0] == s] or [o for o, _ in n.most_common(12)]
    return f"{len(body)}: " + " ".join(f"{n[o]} {o}" for o in shown)


def measure(accelc, folder, model, options, arch, machine):
    """Registers, spilled bytes, the loop."""
    text = HEAD + model if "=>" in model else models.text(model)
    with open(f"{folder}/m.onnxtxt", "w", encoding="ascii") as f:
        f.write(text)
    subprocess.run([accelc, f"{folder}/m.onnxtxt", "-o", f"{folder}/m.ptx", f"--gpu={arch}", *options], check=True)
    ptxas, nvdisasm = tool("ptxas"), tool("nvdisasm")
    registers, spilled = None, 0
    if ptxas:
        line = [ptxas, "-v", f"-arch={machine}", f"{folder}/m.ptx", "-o", f"{folder}/m.cubin"]
        words = subprocess.run(line, check=True, capture_output=True, text=True).stderr
        registers = max(map(int, re.findall(r"Used (\d+) registers", words)))
        spilled = sum(map(int, re.findall(r"(\d+) bytes (?:spill|stack)", words)))
    if ptxas and nvdisasm:
        done = subprocess.run([nvdisasm, "-c", f"{folder}/m.cubin"], check=True, capture_output=True, text=True)
        code = machine_code(done.stdout)
    else:
        with open(f"{folder}/m.ptx", encoding="ascii") as f:
            code = text_code(f.read())
    return registers, spilled, hot_loop(code)


def main():
    accelc, wanted, failed = os.path.abspath(sys.argv[1]), sys.argv[2:], 0
    disassembled = tool("ptxas") and tool("nvdisasm")
    print("| template | kernel | sm | registers | instructions of the loop |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="accelc-mix-") as folder:
        for template, what, model, options, architectures in KERNELS:
            for arch, machines in architectures.items() if not wanted or template in wanted else ():
                for machine in machines:
                    registers, spilled, body = measure(accelc, folder, model, options, arch, machine)
                    mix = counts(body)
                    print(f"| `{template}` | {what} | {machine.removeprefix('sm_')} | {registers or '?'} | {mix} |", flush=True)
                    wrong = [f"{spilled} bytes in local memory"] if spilled else []
                    if disassembled and template in NEEDS and not re.search(rf"\d {NEEDS[template]}", mix):
                        wrong.append(f"no {NEEDS[template]}")
                    if wrong:
                        print(f"FAIL {template}, {what}, {machine}:", *wrong)
                        failed += 1
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
