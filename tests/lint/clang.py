#!/usr/bin/env python3
"""Every source file passes the other compiler without a warning: clang reads what the build compiles (-fsyntax-only -Werror).

    clang.py BUILD          BUILD has compile_commands.json. Without clang: skipped.

What had no warning has a stamp in BUILD/lint.clang with the names of the headers it includes, and is read again when one of these, its command or
clang is newer or another.
"""
import concurrent.futures
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time

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


def fresh(stamp, directory, binary):
    """Whether the stamp is newer than all that the file was made of; its text is a rule of make."""
    try:
        with open(stamp, encoding="utf-8") as f:
            made_of = shlex.split(f.read().removeprefix("stamp:").replace("\\\n", " "))
        return all(os.stat(os.path.join(directory, n)).st_mtime < os.stat(stamp).st_mtime for n in [*made_of, binary])
    except OSError:
        return False


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

    folder = os.path.join(os.path.abspath(sys.argv[1]), "lint.clang")
    os.makedirs(folder, exist_ok=True)
    binary = os.path.realpath(shutil.which(clang))

    def one(e):
        """None, or what clang says."""
        command = [binary, *(w for w in arguments(e) if w != "-fopenmp"), *flags, "-Wno-unknown-pragmas"]
        stamp = os.path.join(folder, hashlib.sha256("\0".join(command).encode()).hexdigest()[:32] + ".d")
        if fresh(stamp, e["directory"], binary):
            return None
        started = time.time()
        done = subprocess.run([*command, "-MD", "-MF", stamp + ".new", "-MT", "stamp"], cwd=e["directory"], capture_output=True, text=True)
        if done.returncode:
            return done.stderr.strip()
        os.utime(stamp + ".new", (started, started))
        os.replace(stamp + ".new", stamp)
        return None

    seen, jobs = set(), []
    for e in entries:
        openmp = "RT_OPENMP" in e["command"]
        if e["file"] not in seen and not openmp:
            seen.add(e["file"])
            jobs.append(e)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for wrong in pool.map(one, jobs):
            if wrong is not None:
                failed += 1
                print(wrong)
    print(f"{clang}: {len(jobs) - failed} files without warnings, {failed} with")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
