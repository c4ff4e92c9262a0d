"""The families of operators: the files of this folder that have `cases(rng)`, which yields op_test.Case."""
import functools
import importlib.util
import os

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = {"families", "fuzz", "fuzz_chain", "fuzz_draw", "fuzz_table", "op_test", "run"}


DERIVED = {"edges", "retyped"}      # whose cases are those of the others, changed


def names():
    return sorted(f[:-3] for f in os.listdir(HERE) if f.endswith(".py") and f[:-3] not in TOOLS)


def own():
    return [n for n in names() if n not in DERIVED]


@functools.cache
def module(family):
    spec = importlib.util.spec_from_file_location(f"op_{family}", f"{HERE}/{family}.py")    # some have names of Python's modules: math
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@functools.cache
def cases(family):
    """All cases of a family, named and numbered. Callers change copies."""
    found = list(module(family).cases(np.random.default_rng(sum(map(ord, family)))))
    for i, c in enumerate(found):
        c.name = f"{family}.{c.op}#{i}"
    return found
