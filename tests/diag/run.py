#!/usr/bin/env python3
"""Golden tests of messages: every case gives accelc something wrong, and looks at status, message, and what is left behind.

    run.py ACCELC [PATTERN...] [--bless] [--every N] [-v]

text/*.onnxtxt   A model in the ONNX textual syntax. Comments in it hold the test: `# RUN: ARGUMENTS` (default: none) and the
                 expected messages between `# >>>` and `# <<<`. --bless rewrites them.
cases.py         Cases that need binary files, special files or options; expectations are substrings there.
extract.py       Models whose failing nodes are extracted into a model of their own, which must fail in the same way.
Each case runs in an empty directory with the output `out.so`; exit status 1 (usage: 2), no signal, exactly the
expected message lines, and afterwards no new file.
"""
import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
LIMIT = 4 << 30     # bytes of address space of a compiler that is given garbage
TIMEOUT = 60


def limited(full):
    """A command that runs its arguments with limits: a shell, because Python forks, with all its memory, to run code of its own there."""
    words = [] if os.environ.get("ACCELC_NO_LIMIT") else [f"ulimit -v {LIMIT >> 10}"]   # sanitizers need address space
    if full:                                    # stands for a full disc: writes to files fail
        words += ["trap '' XFSZ", "ulimit -f 0"]
    return ["/bin/sh", "-c", "; ".join([*words, 'exec "$@"']), "sh"]


def run(accelc, args, cwd, stdin=None, env=None, full=False):
    return subprocess.run([*limited(full), accelc, *args], cwd=cwd, env={**os.environ, **(env or {})},
                          stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT)


def files(folder):
    return sorted(os.path.relpath(os.path.join(d, f), folder) for d, _, fs in os.walk(folder) for f in fs)


def check(result, before, after, status):
    """Why a run is wrong regardless of its message; None if it is not."""
    text = result.stderr.decode(errors="replace")
    if result.returncode != status:
        return f"exit status {result.returncode}, expected {status}\n{text}"
    if "internal error" in text or "Sanitizer" in text or "runtime error" in text:
        return text
    if after != before:
        return f"files left behind: {sorted(set(after) - set(before))}"
    if not text.strip():
        return "no message"
    return None


def text_case(accelc, path, bless):
    source = open(path).read()
    runs = re.findall(r"^# RUN: *(.*)$", source, re.M)
    block = re.search(r"^# >>>\n((?:#.*\n)*?)# <<<\n", source, re.M)
    expected = "".join(line[2:] + "\n" for line in (block.group(1) if block else "").splitlines())
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.basename(path)
        shutil.copy(path, folder)
        before = files(folder)
        args = [name, "-o", "out.so", *(runs[0].split() if runs else [])]
        result = run(accelc, args, folder)
        wrong = check(result, before, files(folder), 1)
    got = result.stderr.decode(errors="replace")
    if wrong:
        return wrong
    if bless:
        text = "# >>>\n" + "".join(f"# {line}\n" for line in got.splitlines()) + "# <<<\n"
        body = source.replace(block.group(0), text) if block else text + source
        if body != source:
            open(path, "w").write(body)
        return None
    return None if got == expected else f"expected:\n{expected}got:\n{got}"


def binary_case(accelc, case):
    with tempfile.TemporaryDirectory() as folder:
        args = case.build(folder)
        before = files(folder)
        stdin = open(os.path.join(folder, case.stdin), "rb") if case.stdin else None
        result = run(accelc, args, folder, stdin, case.env, case.full)
        if stdin:
            stdin.close()
        wrong = check(result, before, files(folder), case.status)
    if wrong:
        return wrong
    text = result.stderr.decode(errors="replace")
    missing = [s for s in case.expect if s not in text]
    if missing:
        return f"missing {missing} in:\n{text}"
    if case.lines and len(text.splitlines()) != case.lines:
        return f"{len(text.splitlines())} lines instead of {case.lines}:\n{text}"
    return None


def said(result):
    """The messages without their places, which differ between models, and without evidence."""
    return [re.sub(r"^.*?: (?=(error|unsupported)\[)", "", line) for line in result.stderr.decode(errors="replace").splitlines()
            if not line.startswith(" ")]


def extract_case(accelc, case):
    import onnx
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(case.model, f"{folder}/m.onnx")
        for path, data in case.files.items():
            open(f"{folder}/{path}", "wb").write(data)
        before = files(folder)
        result = run(accelc, ["m.onnx", "--extract-failing=f.onnx", *case.args], folder)
        if not case.ops:
            text = result.stdout.decode()
            if result.returncode != case.status or files(folder) != before or case.says not in text:
                return f"exit status {result.returncode}, files {files(folder)}: {text}{result.stderr.decode()}"
            return None
        wrong = check(result, sorted([*before, "f.onnx"]), files(folder), 1)
        if wrong:
            return wrong
        again = run(accelc, ["f.onnx", "-o", "out.so", *case.again], folder)
        if said(again) != said(result) or again.returncode != 1 or case.says not in "\n".join(said(again)):
            return f"the model:\n{result.stderr.decode()}what was extracted:\n{again.stderr.decode()}"
        got = onnx.load(f"{folder}/f.onnx")
        ops = [n.op_type for n in got.graph.node]
        if ops != case.ops:
            return f"extracted {ops} instead of {case.ops}"
        if case.valid:
            onnx.checker.check_model(got)
        return case.look(got) if case.look else None


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("accelc")
    p.add_argument("pattern", nargs="*")
    p.add_argument("--bless", action="store_true")
    p.add_argument("--every", type=int, default=1, metavar="N", help="one case in N")
    p.add_argument("-v", action="store_true")
    a = p.parse_args()
    accelc = os.path.abspath(a.accelc)
    jobs = []
    for name in sorted(os.listdir(os.path.join(HERE, "text"))):
        if name.endswith(".onnxtxt"):
            path = os.path.join(HERE, "text", name)
            jobs.append(("text/" + name[:-8], lambda path=path: text_case(accelc, path, a.bless)))
    try:
        import cases
        import extract
        jobs += [(c.name, lambda c=c: binary_case(accelc, c)) for c in cases.CASES]
        jobs += [(f"extract/{c.name}", lambda c=c: extract_case(accelc, c)) for c in extract.CASES]
    except ImportError as error:
        print(f"cases.py and extract.py are skipped: {error}")
    if a.pattern:
        jobs = [j for j in jobs if any(fnmatch.fnmatch(j[0], f"*{x}*") for x in a.pattern)]
    failed, jobs = 0, jobs[::a.every]
    for name, job in jobs:
        try:
            wrong = job()
        except subprocess.TimeoutExpired:
            wrong = f"no end within {TIMEOUT} s"
        failed += wrong is not None
        if wrong or a.v:
            print(f"{'FAIL' if wrong else 'ok  '} {name}" + (f"\n{wrong}" if wrong else ""))
            if wrong:
                print(f"  repeat: {sys.argv[0]} {a.accelc} {name}")
    print(f"{len(jobs) - failed} passed, {failed} failed")
    return 1 if failed or not jobs else 0


if __name__ == "__main__":
    sys.exit(main())
