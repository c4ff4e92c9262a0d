#!/usr/bin/env python3
"""Operators one by one: compiled code and the evaluator against an oracle.

    run.py ACCELC [FAMILY ...] [-k REGEX] [-v] [--most N] [--part I/N] [--target T] [--keep DIR] [-j N]

A family is a file of this folder with `cases(rng)`, which yields op_test.Case; all of them by default. A case runs in a worker
process, so a crash or a time-out is a failure of that case and nothing else. The last line is `N passed, N failed`.
"""
import os
import sys

sys.path.append(sys.path.pop(0))        # this folder behind Python's, of which families have names: math
# ruff: noqa: E402
import argparse
import multiprocessing
import multiprocessing.connection
import re
import tempfile
import time

import families
import op_test

TIMEOUT = 120           # seconds for a case


def work(pipe, options, known):
    """A worker: runs cases by number as the parent asks."""
    target = ("--target", options.target) if options.target else ()
    with tempfile.TemporaryDirectory(prefix="accelc-op-") as folder:
        while (i := pipe.recv()) is not None:
            keep = options.keep and f"{options.keep}/{known[i].name}"
            try:
                pipe.send(op_test.run_case(known[i], options.accelc, folder, target, keep=keep))
            except Exception as e:      # the oracle refuses the case: it tests nothing
                pipe.send(f"{type(e).__name__}: {e}"[:2000])


class Worker:
    def __init__(self, options, known):
        self.options, self.known, self.case = options, known, None
        self.start()

    def start(self):
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, self.options, self.known), daemon=True)
        self.process.start()
        other.close()

    def take(self, i):
        self.case, self.since = i, time.monotonic()
        self.pipe.send(i)

    def result(self):
        """After the pipe said something, or the time was up: what is wrong with the case, or None."""
        try:
            if self.pipe.poll():
                return self.pipe.recv()
            self.process.kill()
            self.process.join()
            why = f"no answer after {TIMEOUT} seconds"
        except EOFError:
            self.process.join()
            why = f"crash (signal {-self.process.exitcode})"
        self.start()
        return why

    def close(self):
        try:
            self.pipe.send(None)
        except OSError:
            pass
        self.process.join(10)


def run(options, known, todo, report):
    """Runs the cases todo, numbers among the known ones; report(i, why) for each."""
    workers = [Worker(options, known) for _ in range(min(options.jobs, len(todo)))]
    todo = iter(todo)
    busy = []
    for w in workers:
        w.take(next(todo))
        busy.append(w)
    while busy:
        ready = multiprocessing.connection.wait([w.pipe for w in busy], 1)
        for w in list(busy):
            if w.pipe in ready or time.monotonic() - w.since > TIMEOUT:
                report(w.case, w.result())
                i = next(todo, None)
                if i is None:
                    busy.remove(w)
                else:
                    w.take(i)
    for w in workers:
        w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("accelc")
    p.add_argument("family", nargs="*", help="default: all")
    p.add_argument("-k", metavar="REGEX", default="", help="cases whose name or description has it")
    p.add_argument("-v", "--verbose", action="store_true", help="print every case")
    p.add_argument("--most", type=int, default=0, metavar="N", help="at most so many cases, evenly from all")
    p.add_argument("--part", default="1/1", metavar="I/N", help="each N-th case from the I-th on: N parts are all")
    p.add_argument("--target", metavar="T", help="of compiled code")
    p.add_argument("--keep", metavar="DIR", help="keep models, inputs and expected outputs")
    p.add_argument("-j", "--jobs", type=int, default=1)
    options = p.parse_args()
    options.accelc = os.path.abspath(options.accelc)
    os.environ.setdefault("ASAN_OPTIONS", "allocator_may_return_null=1")     # of a sanitized ACCELC: sizes that no machine has are an error
    chosen = [os.path.basename(f).removesuffix(".py") for f in options.family] or families.names()
    known = [c for f in chosen for c in families.cases(f)]
    todo = [i for i, c in enumerate(known) if not options.k or re.search(options.k, f"{c.name} {c!r}")]
    todo = todo[::max(1, -(-len(todo) // options.most))] if options.most else todo
    part, parts = map(int, options.part.split("/"))
    todo, failed = todo[part - 1::parts], []

    def report(i, why):
        if why:
            failed.append(i)
            family = known[i].name.partition(".")[0]
            print(f"FAILED {known[i].name} {known[i]!r}\n    {why}\n    again: tests/op/run.py ACCELC {family} "
                  f"-k '{known[i].name} ' --keep DIR", flush=True)
        elif options.verbose:
            print(f"ok     {known[i].name} {known[i]!r}", flush=True)
    if todo:
        run(options, known, todo, report)
    print(f"{len(todo) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed) or not todo)


if __name__ == "__main__":
    main()
