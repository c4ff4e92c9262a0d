#!/usr/bin/env python3
"""Every source file passes the other compiler without a warning: clang reads what the build compiles (-fsyntax-only -Werror).

    clang.py BUILD          BUILD has compile_commands.json. Without clang: skipped.
"""
import concurrent.futures
import json
import os
import shlex
import shutil
import subprocess
import sys

DROP = {"-c"}
UNKNOWN_TO_CLANG = ["-Wno-unknown-warning-option", "-Wno-ignored-optimization-argument"]


def arguments(entry):
    words = shlex.split(entry["command"])
    if os.path.basename(words[0]) == "ccache":
        words = words[1:]
    out, skip = [], False
    for w in words[1:]:
        if skip or w in DROP:
            skip = False
        elif w in ("-o", "-MF", "-MT", "-MQ"):
            skip = True
        elif not w.startswith("-M"):
            out.append(w)
    return out


def main():
    clang = next((c for c in ("clang-19", "clang-20", "clang-21", "clang-22", "clang") if shutil.which(c)), None)
    if not clang:
        print("skipped: there is no clang here")
        return 0
    with open(os.path.join(sys.argv[1], "compile_commands.json")) as f:
        entries = [e for e in json.load(f) if e["file"].endswith(".c") and "onnx_proto" not in e["file"]]
    # an OpenMP header comes with gcc only, and a pragma without OpenMP means nothing
    flags = ["-fsyntax-only", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Wstrict-prototypes",
             "-Wmissing-prototypes", "-Wundef", "-Werror", *UNKNOWN_TO_CLANG]

    def one(e):
        words = [w for w in arguments(e) if w != "-fopenmp"]
        return subprocess.run([clang, *words, *flags, "-Wno-unknown-pragmas"], cwd=e["directory"], capture_output=True, text=True)

    seen, jobs = set(), []
    for e in entries:
        openmp = "RT_OPENMP" in e["command"]
        if e["file"] not in seen and not openmp:
            seen.add(e["file"])
            jobs.append(e)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for e, done in zip(jobs, pool.map(one, jobs)):
            if done.returncode:
                failed += 1
                print(done.stderr.strip())
    print(f"{clang}: {len(jobs) - failed} files without warnings, {failed} with")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
