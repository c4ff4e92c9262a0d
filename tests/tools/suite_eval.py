#!/usr/bin/env python3
"""Official ONNX backend cases, through `accelc --eval` or through compiled code: with --tasks, by an executor that runs the tasks of a phase in
any order, with --target, for that target, each case in a process of its own.

    suite_eval.py ACCELC [--variant plain|dynamic|constant|all] [--tasks N] [--target T [--most N]] [--op NAME]... [--only PATTERN] [-v]

Without --op, the cases are those whose nodes (subgraphs and functions included) are all operators that `accelc --list-ops`
names. Cases, variants and comparison are those of bench/suite.py beside the checkout (--suite FILE). Cases that cannot pass are
in KNOWN with the reason; they are counted apart. With --most, so are those whose kernels have more than N million points (of every stage, reduced
axes included), which would take an emulator long; each is named with its number.
The last line is `N passed, N failed, N known`; exit status 1 if any failed.
"""
import argparse
import importlib.util
import math
import multiprocessing.pool
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx


KNOWN = [  # pattern of "variant category/name", why
    ("test_bernoulli", "the data hold one draw of numpy's global generator"),
    ("^dynamic .*test_affine_grid_.*_expanded", "the rank of an inner value is the length of an input"),
    ("^dynamic node/test_dft_inverse(_opset19)?$", "the data are off by 1.5e-6 from the exact result, 0, at 10 points; transforms of a known length "
     "round as the reference does, others less"),
]


def load_suite(path):
    spec = importlib.util.spec_from_file_location("suite", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def operators(model):
    """(domain, operator) of every node."""
    found, functions = set(), {(f.domain, f.name) for f in model.functions}

    def walk(nodes):
        for n in nodes:
            if (n.domain, n.op_type) not in functions:
                found.add((n.domain if n.domain != "ai.onnx" else "", n.op_type))
            for a in n.attribute:
                for g in [a.g, *a.graphs]:
                    walk(g.node)
    walk(model.graph.node)
    for f in model.functions:
        walk(f.node)
    return found


def known_operators(accelc):
    rows = subprocess.run([accelc, "--list-ops"], capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = [r.split()[:2] for r in rows]
    return {("" if p[0] == "ai.onnx" else p[0], p[1]) for p in pairs}


def save(path, value):
    """The form that --eval reads; the argument for it."""
    if isinstance(value, (list, tuple)):
        os.mkdir(path)
        for i, v in enumerate(value):
            save(f"{path}/{i}", v)
        return path
    if isinstance(value, dict):
        os.mkdir(path)
        save(f"{path}/keys", np.array(list(value)))
        save(f"{path}/values", np.array([np.asarray(v) for v in value.values()]))
        return path
    a = np.asarray(value)
    if a.dtype.kind in "OU":
        a = np.array([s if isinstance(s, bytes) else str(s).encode() for s in a.reshape(-1)], "S").reshape(a.shape)
    if "int4" in a.dtype.name or "int2" in a.dtype.name or a.dtype.name == "float4_e2m1fn":
        a = a.view(np.uint8) if a.dtype.name.startswith("float") else \
            a.astype(np.uint8 if a.dtype.name.startswith("u") else np.int8)
    elif a.dtype.name.startswith(("float8", "bfloat")):
        a = a.view(f"V{a.dtype.itemsize}")
    np.save(path + ".npy", a)
    return path + ".npy"


def load(path, kind):
    """A value of the TypeProto."""
    which = kind.WhichOneof("value")
    if which == "optional_type":
        inner = kind.optional_type.elem_type
        return load(path, inner) if os.path.exists(path) or os.path.exists(path + ".npy") else None
    if which == "sequence_type":
        names = os.listdir(path)
        return [load(f"{path}/{i}", kind.sequence_type.elem_type) for i in range(len(names))]
    if which == "map_type":
        keys, values = np.load(f"{path}/keys.npy"), np.load(f"{path}/values.npy")
        return {k.decode() if isinstance(k, bytes) else k.item(): v for k, v in zip(keys, values)}
    a = np.load(path + ".npy")
    if a.dtype.kind == "S":
        return np.array([s.decode() for s in a.reshape(-1)], object).reshape(a.shape)
    want = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))
    if a.dtype == want:
        return a
    if a.dtype.itemsize == want.itemsize and (a.dtype.kind == "V" or want.name.startswith("float4")):
        return a.view(want)
    if "int4" in want.name or "int2" in want.name:
        return a.astype(want)
    return a


def run_case(suite, accelc, test, variant):
    """None, or the reason of the failure."""
    model = onnx.load(os.path.join(test.folder, "model.onnx") if test.folder else test.light)
    sets = suite.VARIANTS[variant](model, suite.data_sets(test, model))
    inits = {t.name for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in inits]
    with tempfile.TemporaryDirectory(prefix="accelc-suite-") as tmp:
        path = os.path.join(tmp, "model.onnx")
        onnx.save(model, path)
        for values, expected in sets:
            cmd = [accelc, path, "--eval"]
            for i, (v, a) in enumerate(zip(inputs, values)):
                cmd += ["--input", f"{v.name}={save(f'{tmp}/i{i}', a)}"] if a is not None else []
            for i, v in enumerate(model.graph.output):
                plain = v.type.WhichOneof("value") == "tensor_type" or \
                    (v.type.WhichOneof("value") == "optional_type" and v.type.optional_type.elem_type.WhichOneof("value") == "tensor_type")
                cmd += ["--output", f"{v.name}={tmp}/o{i}{'.npy' if plain else ''}"]
            try:
                r = subprocess.run(cmd, capture_output=True, text=True, timeout=120, errors="replace")
            except subprocess.TimeoutExpired:
                return "time-out"
            if r.returncode:
                return f"exit {r.returncode}: " + " | ".join(r.stderr.strip().splitlines()[:2])[:300]
            try:
                for i, (v, want) in enumerate(zip(model.graph.output, expected)):
                    got = load(os.path.join(tmp, f"o{i}"), v.type)
                    suite.compare(want, got, test.rtol, test.atol, f"output {i}")
            except suite.Different as e:
                return str(e)
    return None


def backwards(n, task):
    """An executor that runs the tasks of a phase one after another, the last one first."""
    for i in reversed(range(n)):
        task(i)


def run_tasks(suite, width, test, variant):
    """As run_case, through compiled code with an executor of that width."""
    import accelc.backend
    failure = suite.run_case(lambda model: accelc.backend.prepare(model, threads=width, for_each=backwards).run, test, variant)
    return failure and ": ".join(failure)


def for_target(suite, target, test, variant):
    """As run_case, through compiled code, in a process of its own: the look-alike of a driver ends it where something is wrong."""
    import accelc.backend
    here, there = multiprocessing.Pipe(False)

    def work():
        there.send(suite.run_case(lambda model: accelc.backend.prepare(model, options=("--target", target)).run, test, variant))
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    there.close()
    try:
        failure = here.recv()
    except EOFError:
        failure = ("run", "the process came to an end")
    child.join()
    return failure and ": ".join(failure)


def millions_of_points(accelc, target, test):
    """Of all stages of the case's kernels, where sizes are known."""
    path = os.path.join(test.folder, "model.onnx") if test.folder else test.light
    r = subprocess.run([accelc, path, "-o", "-", "--emit=kernels", "--target", target], capture_output=True, text=True, errors="replace")
    stages = re.findall(r"^  \w+ \((#0 [^)]*)\)", r.stdout, re.M)
    return sum(math.prod(int(n) for n in re.findall(r"<(\d+)", s)) for s in stages) / 1e6


job = None   # of the processes that main() forks: from the number of a case to the reason of its failure


def at(i):
    return job(i)


def main():
    global job
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("accelc")
    p.add_argument("--variant", choices=["plain", "dynamic", "constant", "all"], default="all")
    p.add_argument("--tasks", type=int, metavar="N", help="compiled code, N tasks in any order, instead of the evaluator")
    p.add_argument("--target", metavar="T", help="code compiled for T instead of the evaluator")
    p.add_argument("--most", type=float, metavar="N", help="with --target: not the cases of more than N million points")
    p.add_argument("--op", action="append", help="cases that use this operator")
    p.add_argument("--only", help="regular expression that the case's category/name must contain")
    p.add_argument("--suite", default=os.path.join(here, "../../../shared/bench/suite.py"))
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("-v", "--verbose", action="store_true", help="print every failure")
    options = p.parse_args()
    if not os.path.exists(options.suite):
        print(f"skipped: {options.suite} is not there")
        sys.exit(77)
    suite = load_suite(options.suite)
    os.environ["ACCELC"] = os.path.abspath(options.accelc)
    known, cases = known_operators(options.accelc), []
    for t in suite.all_tests():
        if options.only and not re.search(options.only, f"{t.category}/{t.name}"):
            continue
        used = operators(onnx.load(os.path.join(t.folder, "model.onnx") if t.folder else t.light))
        if options.op and not any(o in options.op for _, o in used):
            continue
        if options.op or options.only or used <= known:
            cases.append(t)
    passed = failed = known_bad = 0
    if options.most:
        with multiprocessing.pool.ThreadPool(options.jobs) as pool:
            sizes = pool.map(lambda t: millions_of_points(options.accelc, options.target, t), cases)
        for t, n in [(t, n) for t, n in zip(cases, sizes) if n > options.most]:
            print(f"not run: {t.category}/{t.name}, {n:.0f} million points")
            cases.remove(t)
    for variant in ["plain", "dynamic", "constant"] if options.variant == "all" else [options.variant]:
        def job(i, v=variant):
            if options.target:
                return for_target(suite, options.target, cases[i], v)
            return run_tasks(suite, options.tasks, cases[i], v) if options.tasks else run_case(suite, options.accelc, cases[i], v)
        pools = multiprocessing.pool.ThreadPool if options.target else multiprocessing.get_context("fork").Pool
        with pools(options.jobs) as pool:
            results = pool.map(at, range(len(cases)), chunksize=4)
        counts = [0, 0, 0]
        for t, why in zip(cases, results):
            name = f"{variant} {t.category}/{t.name}"
            excused = why and any(re.search(k, name) for k, _ in KNOWN)
            counts[2 if excused else 1 if why else 0] += 1
            if why and (options.verbose or not excused):
                print(f"{name}: {why}")
        print(f"{variant}: {counts[0]} of {len(cases)}")
        passed, failed, known_bad = passed + counts[0], failed + counts[1], known_bad + counts[2]
    print(f"{passed} passed, {failed} failed, {known_bad} known")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
