#!/usr/bin/env python3
"""Counts, for every operator, the official ONNX backend cases whose model contains it and that pass: cases.txt, which README's
table of operators shows.

    suite_cases.py ACCELC [--results FILE] [--jobs N]     writes cases.txt beside this file

The cases are run by bench/suite.py beside the checkout (--suite FILE), unless --results names what an earlier run of it wrote with
--json. Operators in subgraphs and in functions of the model count; those without a case are left out.
"""
import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile

import onnx

import suite_eval

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("accelc")
    p.add_argument("--results", help="of an earlier run of the suite")
    p.add_argument("--suite", default=os.path.join(HERE, "../../../shared/bench/suite.py"))
    p.add_argument("--jobs", default=str(os.cpu_count()))
    options = p.parse_args()
    if not os.path.exists(options.suite):
        print(f"skipped: {options.suite} is not there")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="accelc-suite-") as tmp:
        results = options.results or f"{tmp}/results.json"
        if not options.results:
            env = {**os.environ, "ACCELC": os.path.abspath(options.accelc), "PYTHONPATH": os.path.join(HERE, "../../runtime/python")}
            subprocess.run([sys.executable, options.suite, "--engine", "accelc", "--json", results, "--jobs", options.jobs], env=env)
        with open(results) as f:
            run = json.load(f)
    good = {(c["category"], c["name"]): not c["stage"] for c in run["cases"]}
    known = suite_eval.known_operators(options.accelc)
    passed, total = collections.Counter(), collections.Counter()
    for t in suite_eval.load_suite(options.suite).all_tests():
        if (t.category, t.name) not in good:
            continue
        for op in suite_eval.operators(onnx.load(os.path.join(t.folder, "model.onnx") if t.folder else t.light)) & known:
            total[op] += 1
            passed[op] += good[t.category, t.name]
    with open(os.path.join(HERE, "cases.txt"), "w") as f:
        f.write(f"# domain, operator, official cases passed, of how many; from suite_cases.py, onnx {run['onnx']}: "
                f"{run['passed']} of {run['total']} cases pass\n")
        for domain, op in sorted(total):
            f.write(f"{domain or 'ai.onnx'} {op} {passed[domain, op]} {total[domain, op]}\n")
    print(f"{len(total)} operators, {run['passed']} of {run['total']} cases pass")


if __name__ == "__main__":
    main()
